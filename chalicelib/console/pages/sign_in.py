"""Signing in and out. The providers are the policy's; what they say is checked in `console.oidc`."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs

from chalicelib.console import render
from chalicelib.console.desk import Desk
from chalicelib.console.oidc import over
from chalicelib.console.session import Sessions
from chalicelib.console.web import Reply, Request, Site
from chalicelib.domain.errors import SignInError
from chalicelib.domain.policy import Policy

Names = Mapping[str, str]


def wanted(request: Request, site: Site, policy: Policy) -> Reply:
    """Whoever is not signed in is sent to do so; with one provider at once, so that a phone needs no further tap.

    What was sent without a session is gone: the person reads that, and does it again on the page that the form was on.
    """
    to, lost = render.address(request.path, **request.query), request.method != "GET"
    if len(policy.providers) == 1 and not lost:
        return render.redirect(site, render.address(f"/login/{policy.providers[0].name}", to=to))
    return render.page(site, "sign_in.html", 401, providers=policy.providers, to=to, lost=lost)


def providers(_desk: Desk, _request: Request, sessions: Sessions, policy: Policy, _names: Names) -> Reply:
    """The ways in."""
    return render.page(sessions.site, "sign_in.html", providers=policy.providers, to="/", lost=False)


def begin(desk: Desk, request: Request, sessions: Sessions, policy: Policy, names: Names) -> Reply:
    """To the provider. Where to go afterwards is one of our own paths, which `console.oidc` sees to."""
    for provider in policy.providers:
        if provider.name == names["provider"]:
            fresh = request.query.get("fresh") == "1"
            return desk.sign_in.begin(provider, sessions, request.query.get("to", "/"), fresh=fresh)
    return render.missing(sessions.site)


def back(desk: Desk, request: Request, sessions: Sessions, policy: Policy, _names: Names) -> Reply:
    """Back from the provider, on to the page that was wanted; the sign-in that was begun is over in either case."""
    invited, now = desk.books.engagements(), desk.clock.now()
    try:
        session, path = desk.sign_in.finish(
            request,
            sessions,
            policy.providers,
            lambda identity: (
                policy.who(identity) is not None or any(one.lets_in(identity, now) for one in invited)
            ),
        )
    except SignInError as error:
        reply = render.notice(sessions.site, 403, "You are not signed in", f"{render.sentence(str(error))}.")
        return replace(reply, cookies=(over(sessions),))
    return render.redirect(sessions.site, path, (over(sessions), sessions.cookie_of(session)))


def out(desk: Desk, request: Request, sessions: Sessions, _policy: Policy, _names: Names) -> Reply:
    """Signed out, by a form of ours only."""
    del desk
    sessions.check_post(request, sessions.read(request), "logout", form(request).get("token", ""))
    return render.redirect(sessions.site, "/login", (sessions.gone(),))


def still_in(_desk: Desk, _request: Request, sessions: Sessions, _policy: Policy, _names: Names) -> Reply:
    """Looking at where one signs out signs nobody out."""
    return render.redirect(sessions.site, "/")


def form(request: Request) -> dict[str, str]:
    """The fields of a form, each once; one that comes twice is nobody's honest form, and left out."""
    try:
        said = parse_qs(request.body.decode(), keep_blank_values=True, max_num_fields=30)
    except ValueError:
        return {}
    return {name: values[0].strip() for name, values in said.items() if len(values) == 1}
