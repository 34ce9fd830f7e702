"""The door: which address is which page, who comes in, and what is said when something cannot be shown.

Nothing is read for whoever is not signed in, and an auditor's look is on record before the page is made. What is outside
of somebody's scope does not exist for them.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from chalicelib.console import render
from chalicelib.console.desk import Desk, View, Visit, Visitor
from chalicelib.console.pages import cases, decisions, log, overview, settings, sign_in
from chalicelib.console.session import Session
from chalicelib.console.web import Reply, Request, Site
from chalicelib.domain.errors import ConflictError, RedressError, RefusedCommandError, SignInError, StoreError
from chalicelib.domain.policy import PolicySetting, Role

EVERYBODY = frozenset(Role)
LONGEST_PATH = 2000
"""So much of an address is put on record; our own links are shorter."""
DECIDERS = frozenset({Role.APPROVER, Role.OPERATOR})


@dataclass(frozen=True)
class Route:
    """One address: the method, the path with its parts in braces, the page, and the roles that may come."""

    method: str
    path: str
    view: View
    roles: frozenset[Role] = EVERYBODY


ROUTES = (
    Route("GET", "/", overview.overview),
    Route("GET", "/approvals", cases.approvals),
    Route("GET", "/cases", cases.listed),
    Route("GET", "/cases/{case}", cases.case),
    Route("GET", "/cases/{case}/answer", cases.back),
    Route("GET", "/cases/{case}/{command}", cases.back),
    Route("POST", "/cases/{case}/answer", decisions.answer, DECIDERS | {Role.VIEWER}),
    Route("POST", "/cases/{case}/{command}", decisions.command, DECIDERS),
    Route("GET", "/log", log.log),
    Route("GET", "/controls", settings.controls),
    Route("GET", "/controls/{control}", settings.control),
    Route("GET", "/exemptions", settings.exemptions),
    Route("GET", "/tickets", settings.tickets),
    Route("GET", "/switches", settings.switches),
    Route("GET", "/people", settings.people, frozenset({Role.AUDITOR, Role.OPERATOR})),
)
"""Every page behind the sign-in. A viewer who answers for an account may deny what would be done there: the policy says whether."""

OPEN = (
    ("GET", "/login", sign_in.providers),
    ("GET", "/login/return", sign_in.back),
    ("GET", "/login/{provider}", sign_in.begin),
    ("GET", "/logout", sign_in.still_in),
    ("POST", "/logout", sign_in.out),
)
"""The pages before the sign-in."""


def reply(desk: Desk, request: Request) -> Reply:
    """What the request deserves. Every refusal is a page that says why, and every failure of ours that nothing was done."""
    try:
        setting = desk.store.policy()
    except StoreError:
        return render.plain(503, "The policy cannot be read, so nobody is let in. Nothing was changed.")
    if setting is None or setting.policy.console_url is None:
        return render.plain(
            503, "The console is closed until a policy with a console_url and a provider is set."
        )
    site = site_of(setting.policy.console_url)
    if request.path == render.style_path():
        return render.style(site)
    try:
        return _served(desk, request, site, setting)
    except (SignInError, RefusedCommandError, ConflictError, StoreError) as error:
        return _failed(site, error)


def _failed(site: Site, error: RedressError) -> Reply:
    if isinstance(error, StoreError) and not isinstance(error, ConflictError):
        said = "They cannot be read or written right now. Nothing was decided and nothing was changed; try again."
        return render.notice(site, 503, "Our tables do not answer", said)
    status = 403 if isinstance(error, SignInError) else 409 if isinstance(error, ConflictError) else 422
    return render.notice(site, status, "Nothing was done", f"{error}."[:1000].replace("..", "."))


def site_of(url: str) -> Site:
    """Where the console is, by the policy's own word."""
    parts = urlsplit(url)
    return Site(f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"))


def visitor_of(session: Session, setting: PolicySetting, desk: Desk, now: datetime) -> Visitor | None:
    """Whom the session means: somebody of the policy, or an invited auditor whose time is not over; else nobody."""
    policy, person = setting.policy, setting.policy.who(session.identity)
    if person:
        known = policy.people[person]
        return Visitor(session, known.name, frozenset(known.roles), frozenset(known.accounts))
    for invited in desk.books.engagements():
        if invited.lets_in(session.identity, now):
            roles = frozenset({Role.AUDITOR})
            return Visitor(session, invited.name, roles, frozenset(invited.accounts), invited.until)
    return None


def _served(desk: Desk, request: Request, site: Site, setting: PolicySetting) -> Reply:
    sessions = desk.sessions(site)
    for method, path, opening in OPEN:
        match = _form(path).fullmatch(request.path)
        if match and request.method == method:
            return opening(desk, request, sessions, setting.policy, match.groupdict())
    session = sessions.read(request)
    if session is None:
        return sign_in.wanted(request, site, setting.policy)
    now = desk.clock.now()
    visitor = visitor_of(session, setting, desk, now)
    if visitor is None:
        token = sessions.csrf(session, "logout")
        return render.page(site, "stranger.html", 403, identity=session.identity, token=token)
    for route in ROUTES:
        match = _form(route.path).fullmatch(request.path)
        if match is None or route.method != request.method:
            continue
        if not visitor.roles & route.roles:
            said = f"This is for people who are {_listed(route.roles)}; the policy has you as {_listed(visitor.roles)}."
            return render.notice(site, 403, "Not yours to do", said)
        if visitor.may(Role.AUDITOR):
            asked = render.address(request.path, **request.query)
            desk.viewed(session, asked[:LONGEST_PATH], request.request_id)
        return route.view(Visit(desk, request, site, sessions, setting, visitor, now, match.groupdict()))
    return render.missing(site)


def _form(path: str) -> re.Pattern[str]:
    """What the paths of a route look like."""
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[A-Za-z0-9_.-]{1,100})", path))


def _listed(roles: frozenset[Role]) -> str:
    return ", ".join(role.value for role in Role if role in roles) or "nothing"
