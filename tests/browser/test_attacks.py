"""Attacks on the console in Chromium: what a hostile page, a hostile name and a curious machine can make a browser do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Dialog, Page

from chalicelib.console.pages import door
from chalicelib.console.session import Session
from chalicelib.console.web import Request
from chalicelib.domain.approval import Ask
from chalicelib.domain.case import Case
from chalicelib.domain.finding import Actor, Severity
from tests.adapters.samples import exemption
from tests.browser.test_console import ARGUMENTS, DESK, Room, browser, room
from tests.conftest import CHROMIUM
from tests.console.world import ANNA, OLGA, SSH, VERA, session_of

__all__ = ["browser", "room"]  # fixtures

PAYLOADS = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "</textarea></title><svg onload=alert(3)>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "javascript:alert(4)",
    "<link rel=stylesheet href=//evil.example/x.css><style>@import '//evil.example/y'</style>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'><base href=//evil.example/>",
    "<form action=//evil.example/ method=post><button formaction=//evil.example/ autofocus onfocus=alert(5)>x",
    "\u202e\u2066<iframe srcdoc='<script>parent.alert(6)</script>'>",
    "\x00\x1b]8;;http://evil.example/\x07<details open ontoggle=alert(7)>",
)
HOSTILE = " ".join(PAYLOADS)


@dataclass
class Elsewhere:
    """A hostile site on a port of its own: what it serves by path, and who came."""

    pages: dict[str, str] = field(default_factory=dict)
    visits: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    @property
    def beside(self) -> str:
        """The same site on our own host: cookies know no ports, so that ours come along to us from there."""
        return self.url.replace("localhost", "127.0.0.1")


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    site = Elsewhere()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.visits.append((self.command, self.path, dict(self.headers)))
            body = site.pages.get(urlsplit(self.path).path, "nothing").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 -- the library's name

        def log_message(self, *_said: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    # Another name of this machine: for a browser that is another site, and not merely another origin.
    site.url = f"http://localhost:{server.server_address[1]}"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Watched:
    """What a page did that none of ours does: dialogs, consoles, errors, and requests to elsewhere."""

    room: Room
    wrong: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("dialog", self._shown)
        page.on("console", lambda message: self.wrong.append(f"console {message.text}"))
        page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        page.on("request", lambda request: self._asked(request.url))
        page.on("popup", lambda popup: self.wrong.append(f"popup {popup.url}"))

    def _shown(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def _asked(self, url: str) -> None:
        if not url.startswith((f"{self.room.front.url}/", "data:,")):
            self.wrong.append(f"request {url}")


def answers(room: Room, case: Case) -> list[str]:
    found = room.world.settings.answers(case.id, 1)
    return [one.by for one in found.answers] if found else []


def token_of(room: Room, page: Page, purpose: str, case: Case) -> str:
    """The token that the form of that page's session would hold: everything that an attacker could hope to steal."""
    site = door.site_of(room.front.url)
    cookie = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
    session = room.world.sessions(site).read(Request("GET", "/", headers={"cookie": cookie}))
    assert isinstance(session, Session)
    assert isinstance(case.ask, Ask)
    return room.world.sessions(site).csrf(session, purpose, case.id, case.ask.plan_hash, str(case.ask.seq))


def fields_of(ask: Ask, token: str) -> dict[str, str]:
    return {
        "answer": "approve",
        "reason": "x",
        "plan_hash": ask.plan_hash,
        "ask": str(ask.seq),
        "token": token,
    }


def form(room: Room, case: Case, token: str, **more: str) -> str:
    """A page that sends an approval by itself."""
    assert case.ask
    fields = {**fields_of(case.ask, token), **more}
    inputs = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    action = f"{room.front.url}/cases/{case.id}/answer"
    return f'<form id="f" method="post" action="{action}">{inputs}</form><script>document.getElementById("f").submit()</script>'


# -- forged forms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", ["cross-site", "origin null", "no referrer", "fetch", "multipart", "text/plain", "same site"]
)
def test_a_hostile_page_that_sends_the_very_form_decides_nothing(
    room: Room, elsewhere: Elsewhere, how: str
) -> None:
    """It even holds the right token and hash. What is missing is our origin, which only a browser sets."""
    case = room.world.asked()
    with room.open(ANNA) as page:
        sent = form(room, case, token_of(room, page, "answer", case))
        if how == "origin null":
            sent = (
                f"<iframe sandbox='allow-scripts allow-forms allow-top-navigation' srcdoc='{sent}'></iframe>"
            )
        elif how == "no referrer":
            sent = f'<meta name="referrer" content="no-referrer">{sent}'
        elif how in {"multipart", "text/plain"}:
            kind = "multipart/form-data" if how == "multipart" else how
            sent = sent.replace('method="post"', f'method="post" enctype="{kind}"')
        elif how == "fetch":
            script = (
                "fetch(f.action, {method: 'POST', credentials: 'include', mode: 'no-cors', body: new URLSearchParams(new "
                "FormData(f))})"
            )
            sent = sent.replace('document.getElementById("f").submit()', script)
        elsewhere.pages["/"] = f"<!doctype html>{sent}"
        # On another port of our own host the session comes along, and our origin is all that is missing.
        hostile = (
            elsewhere.beside
            if how in {"same site", "origin null", "no referrer", "text/plain"}
            else elsewhere.url
        )
        page.goto(f"{hostile}/", wait_until="networkidle")
        page.wait_for_timeout(300)
    assert answers(room, case) == []


def test_the_same_form_from_our_own_origin_would_decide(room: Room) -> None:
    """The negative control: with our origin, that token and that hash, the form above is taken."""
    case = room.world.asked()
    with room.open(ANNA) as page:
        token = token_of(room, page, "answer", case)
        page.goto(f"{room.front.url}/cases/{case.id}")
        assert case.ask
        fields = fields_of(case.ask, token)
        page.evaluate(
            "([to, fields]) => { const f = document.createElement('form'); f.method = 'post'; f.action = to;"
            " for (const [name, value] of Object.entries(fields)) { const i = document.createElement('input');"
            " i.name = name; i.value = value; f.append(i); } document.body.append(f); f.submit(); }",
            [f"{room.front.url}/cases/{case.id}/answer", fields],
        )
        page.get_by_role("status").get_by_text("You approved this").wait_for()
    assert answers(room, case) == [ANNA]


@pytest.mark.parametrize(
    "whose", ["missing", "another case", "another plan", "another ask", "another session", "another purpose"]
)
def test_a_token_that_is_for_something_else_decides_nothing(room: Room, whose: str) -> None:
    case, other = room.world.asked(1), room.world.asked(2)
    assert case.ask
    with room.open(ANNA) as page, room.open(VERA) as veras:
        planned = case.ask.model_copy(update={"plan_hash": "9" * 64})
        asked = case.ask.model_copy(update={"seq": 9})
        token = {
            "missing": "",
            "another case": token_of(room, page, "answer", other),
            "another plan": token_of(room, page, "answer", case.model_copy(update={"ask": planned})),
            "another ask": token_of(room, page, "answer", case.model_copy(update={"ask": asked})),
            "another session": token_of(room, veras, "answer", case),
            "another purpose": token_of(room, page, "comment", case),
        }[whose]
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.evaluate(
            "token => document.querySelectorAll('form.approve input[name=token]').forEach(one => one.value = token)",
            token,
        )
        page.get_by_label("The plan is right, and its reach is acceptable").check()
        page.get_by_role("button", name="Approve", exact=True).click()
        page.get_by_text("the page is out of date, or not yours").wait_for()
    assert answers(room, case) == []


# -- sessions --------------------------------------------------------------------------------------------------------------


def test_a_session_that_was_planted_is_not_the_one_after_the_sign_in(room: Room) -> None:
    """Session fixation: the victim's browser holds the attacker's session, and signs in."""
    site = door.site_of(room.front.url)
    planted = room.world.sessions(site).cookie_of(session_of(VERA, room.world.clock.now()))
    name, _, value = planted.partition(";")[0].partition("=")
    with room.open(None) as page:
        page.context.add_cookies([{"name": name, "value": value, "url": room.front.origin}])
        page.goto(f"{room.front.url}/login/return?code={quote(ANNA)}")
        assert page.locator(".who").inner_text() == "Anna Berg"
        (mine,) = [one["value"] for one in page.context.cookies() if one["name"] == name]
        assert mine != value
        # A second one of that name, for a path that goes first, makes both worthless; it never makes her the attacker.
        page.context.add_cookies(
            [{"name": name, "value": value, "domain": "127.0.0.1", "path": "/api/cases"}]
        )
        page.route("**/login/**", lambda route: route.fulfill(body="the sign-in"))
        page.goto(f"{room.front.url}/cases")
        assert "Vera" not in page.content()
        assert "Anna" not in page.content()


def test_no_script_reads_the_session_and_no_address_holds_it(room: Room) -> None:
    case = room.world.asked()
    urls: list[str] = []
    with room.open(ANNA) as page:
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{room.front.url}/login/return?code={quote(ANNA)}")
        for path in ("/", "/approvals", f"/cases/{case.id}", "/log"):
            page.goto(f"{room.front.url}{path}")
            assert page.evaluate("document.cookie") == ""
        cookie = next(one for one in page.context.cookies() if one["name"] == "redress")
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Lax"
        secrets = {str(cookie["value"]), token_of(room, page, "answer", case)}
    assert not [url for url in urls if any(one in url for one in secrets)]


def test_what_a_link_leads_to_learns_no_address_of_ours(room: Room, elsewhere: Elsewhere) -> None:
    """Referrer-Policy: somebody follows a link that stands in their own words to a colleague; ours is told to nobody."""
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.evaluate("to => { location.href = to }", f"{elsewhere.url}/out")
        page.wait_for_url(f"{elsewhere.url}/out")
    (visit,) = [one for one in elsewhere.visits if one[1] == "/out"]
    assert "Referer" not in visit[2]


# -- the way out, the way in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        "//{host}/out",
        "///{host}/out",
        "/\\{host}/out",
        "http://{host}/out",
        "/%09/{host}/out",
        "/%0d%0aLocation:%20//{host}",
    ],
)
def test_no_way_back_leads_out_of_the_console(room: Room, elsewhere: Elsewhere, to: str) -> None:
    """The link that an attacker sends: our own address, with a way back that is theirs."""
    host = urlsplit(elsewhere.url).netloc
    asked: list[str] = []
    with room.open(None) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{room.front.url}/login/corp?to={quote(to.format(host=host), safe='%')}")
        # the provider of the loopback console sends nobody on; what it was given is in its address
        wanted = parse_qs(urlsplit(page.url).query).get("to", ["/"])
        back = f"{room.front.url}/login/return?code={quote(ANNA)}"
        page.goto(back)
        page.wait_for_load_state("networkidle")
        assert page.url.startswith(f"{room.front.url}/")
    assert wanted
    assert elsewhere.visits == []
    assert not [url for url in asked if host in urlsplit(url).netloc]


FORWARDED = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Original-URL": "http://evil.example/",
    "Forwarded": "host=evil.example;proto=http",
}


@contextmanager
def renamed(room: Room) -> Iterator[tuple[Page, str]]:
    """A page that comes to us under an attacker's name, in `Host` and in every forwarding header; and our address there.

    Anna's session comes along, which is worse than it can be: a browser sends our cookie to our own name alone.
    """
    theirs = room.front.url.replace("127.0.0.1", "evil.example")
    sessions = room.world.sessions(door.site_of(room.front.url))
    cookie = sessions.cookie_of(session_of(ANNA, room.world.clock.now())).partition(";")[0]
    name, _, value = cookie.partition("=")
    browser = room.browser.browser_type.launch(
        executable_path=str(CHROMIUM),
        args=[*ARGUMENTS, "--host-resolver-rules=MAP evil.example 127.0.0.1"],
    )
    try:
        context = browser.new_context(extra_http_headers=FORWARDED)
        context.add_cookies([{"name": name, "value": value, "url": theirs}])
        yield context.new_page(), theirs
    finally:
        browser.close()


def test_an_attackers_name_that_leads_to_us_is_on_no_page_and_in_no_way_on(room: Room) -> None:
    case, ways = room.world.asked(), list[str]()
    with renamed(room) as (page, theirs):
        page.on("response", lambda one: ways.append(one.headers.get("location", "")))
        for path in ("/", "/approvals", f"/cases/{case.id}", "/nowhere", "/login", "/login/corp"):
            page.goto(theirs + path)
            assert "evil.example" not in page.content()
        assert case.id in page.goto(f"{theirs}/cases/{case.id}").text()  # type: ignore[union-attr]  # it answered above
        page.context.clear_cookies()
        for path in ("/", f"/cases/{case.id}"):
            page.goto(theirs + path)
            assert "evil.example" not in page.content()
    assert any(ways)
    assert not [way for way in ways if "evil.example" in way]


def test_a_form_under_an_attackers_name_decides_nothing_though_session_and_token_fit(room: Room) -> None:
    case = room.world.asked()
    with renamed(room) as (page, theirs):
        page.goto(f"{theirs}/cases/{case.id}")
        sent, _, _ = form(room, case, token_of(room, page, "answer", case)).partition("<script>")
        with page.expect_response(lambda one: one.request.method == "POST") as answered:
            page.evaluate(
                "html => { document.body.innerHTML = html; document.getElementById('f').submit() }",
                sent.replace(room.front.url, theirs),
            )
        assert answered.value.status == 403
    assert answers(room, case) == []


@pytest.mark.parametrize("how", ["iframe", "object", "embed", "sandbox", "window"])
def test_no_page_of_another_site_shows_or_holds_ours(room: Room, elsewhere: Elsewhere, how: str) -> None:
    """Clickjacking: neither in a frame, nor as an object, nor as a window that its opener may still steer."""
    case = room.world.asked()
    ours = f"{room.front.url}/cases/{case.id}"
    elsewhere.pages["/"] = {
        "iframe": f'<iframe id="x" src="{ours}" width="390" height="800" style="opacity:0.01"></iframe>',
        "object": f'<object data="{ours}" width="390" height="800"></object>',
        "embed": f'<embed src="{ours}" width="390" height="800">',
        "sandbox": f'<iframe sandbox="allow-scripts allow-same-origin allow-forms" src="{ours}"></iframe>',
        "window": f"<button onclick=\"w = window.open('{ours}')\">go</button>",
    }[how]
    with room.open(ANNA, DESK) as page:
        page.goto(f"{elsewhere.beside}/", wait_until="networkidle")
        if how == "window":
            with page.expect_popup() as opened:
                page.get_by_role("button").click()
            opened.value.wait_for_load_state()
            assert opened.value.evaluate("window.opener === null")
            return
        shown = [frame.content() for frame in page.frames if frame != page.main_frame]
        assert not [content for content in shown if "Make this change" in content]


# -- what others wrote -----------------------------------------------------------------------------------------------------


def everywhere(room: Room) -> list[str]:
    """Hostile text in every field that somebody else may choose, and the address of every page that shows one."""
    console = room.world
    hostile = Actor(type=HOSTILE, arn=HOSTILE, role_arn=HOSTILE, session=HOSTILE, source_identity=HOSTILE)
    waits = console.asked(1, reason=HOSTILE, owner=HOSTILE, actor=hostile, requesters=(HOSTILE,))
    assert waits.ask
    call = waits.ask.plan.calls[0]
    calls = tuple(
        call.model_copy(update={"why": payload, "params": {payload: HOSTILE, "x": [HOSTILE]}})
        for payload in PAYLOADS
    )
    plan = waits.ask.plan.model_copy(update={"calls": calls})
    ask = waits.ask.model_copy(
        update={
            "plan": plan,
            "notes": (HOSTILE, HOSTILE),
            "as_code": HOSTILE,
            "before": {HOSTILE: HOSTILE, "a": [HOSTILE]},
        }
    )
    strange = waits.model_copy(update={"ask": ask, "reason": HOSTILE, "digest": "b" * 20, "version": 0})
    strange = console.keep(strange.model_copy(update={"head": type(strange.head)()}))
    fixed = console.fixed(60)
    ticketed = console.ticketed(61, why=HOSTILE)
    console.set(exemptions=(exemption(control=SSH).model_copy(update={"owner": HOSTILE, "reason": HOSTILE}),))
    critical = console.asked(9, severity=Severity.CRITICAL, owner=HOSTILE, actor=hostile)
    paths = [
        "/",
        "/approvals",
        "/cases",
        "/cases?state=waiting",
        "/cases?state=closed",
        "/tickets",
        "/controls",
    ]
    paths += [f"/controls/{SSH}", "/exemptions", "/switches", "/log", "/people", "/login", "/nowhere"]
    paths += [f"/cases/{one.id}" for one in (waits, strange, fixed, ticketed, critical)]
    said = quote(HOSTILE)
    paths += [
        f"/log?resource={said}",
        f"/log?actor={said}&type={said}",
        f"/cases?state={said}&account={said}",
    ]
    paths += [
        f"/approvals?control={said}&severity={said}",
        f"/login/return?error={said}&error_description={said}",
    ]
    paths += [f"/{quote(PAYLOADS[0], safe='')}", f"/login/corp{quote(PAYLOADS[1], safe='')}"]
    return paths


def test_no_text_of_others_runs_loads_or_leads_anywhere_on_any_page(room: Room) -> None:
    """Every page, every field, ten ways: a dialog, a console line (a violation of the CSP is one) or a request is a failure."""
    paths, watched = everywhere(room), Watched(room)
    with room.open(OLGA, DESK) as page:
        watched.watch(page)
        seen = ""
        for path in paths:
            page.goto(f"{room.front.url}{path}", wait_until="networkidle")
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            odd = page.evaluate(
                "[...document.querySelectorAll('script, iframe, object, embed, base, style, img, meta[http-equiv], [onerror],"
                " [onload], [onfocus], [ontoggle], [formaction]')].map(one => one.outerHTML)"
            )
            assert odd == [], path
            hrefs = page.eval_on_selector_all(
                "[href], [action], [src]", "all => all.map(one => one.href || one.action || one.src)"
            )
            assert not [one for one in hrefs if not str(one).startswith((f"{room.front.url}/", "data:,"))], (
                path
            )
            seen += page.inner_text("body")
    wrong = [
        one for one in watched.wrong if not re.match(r"console Failed to load resource: .* (403|404)", one)
    ]
    assert wrong == []
    # as text it stands there: the payloads did arrive
    for payload in PAYLOADS[:3]:
        assert payload in seen


def test_the_policy_of_the_page_stops_even_markup_that_got_through(room: Room) -> None:
    """The negative control of the test above: a page in which a script was put does not run it, and that is counted."""
    with room.open(OLGA) as page:
        watched = Watched(room)
        watched.watch(page)

        def spoiled(route: Any) -> None:
            response = route.fetch()
            body = response.text().replace(
                "</main>", "<script>alert(1)</script><img src='//evil.example/x'></main>"
            )
            route.fulfill(response=response, body=body)

        page.route(f"{room.front.url}/cases", spoiled)
        page.goto(f"{room.front.url}/cases", wait_until="networkidle")
        assert not [one for one in watched.wrong if one.startswith("dialog")]
        assert len([one for one in watched.wrong if "Content Security Policy" in one]) >= 2


# -- machines that look ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [None, ANNA, OLGA], ids=["nobody", "approver", "operator"])
def test_a_crawler_that_runs_scripts_and_follows_everything_never_decides(
    room: Room, who: str | None
) -> None:
    """A mail scanner in headless Chromium, even with somebody's session: every link, opened, prefetched, with GET and HEAD."""
    cases = [room.world.asked(1), room.world.asked(2, severity=Severity.CRITICAL)]
    room.world.fixed(60)
    methods: set[str] = set()
    with room.open(who, DESK) as page:
        page.on("request", lambda request: methods.add(request.method))
        todo, done = (
            [f"{room.front.url}/cases/{case.id}" for case in cases] + [f"{room.front.url}/"],
            set[str](),
        )
        while todo and len(done) < 40:
            url = todo.pop().partition("#")[0]
            if url in done:
                continue
            done.add(url)
            page.goto(url, wait_until="load")
            page.evaluate(
                "async () => { document.querySelectorAll('details').forEach(one => one.open = true); for (const a of"
                " document.querySelectorAll('a[href]')) { const l = document.createElement('link'); l.rel = 'prefetch';"
                " l.href = a.href; document.head.append(l); } }"
            )
            found = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
            forms = page.eval_on_selector_all("form[action]", "all => all.map(one => one.action)")
            for one in {*found, *forms}:
                page.request.head(one, max_redirects=0)
                page.request.get(one, max_redirects=0, headers={"Purpose": "prefetch", "Range": "bytes=0-99"})
            todo += [one for one in found if one.startswith(f"{room.front.url}/")]
    assert methods <= {"GET", "HEAD"}
    assert [answers(room, case) for case in cases] == [[], []]
    now = [room.world.settings.case(case.digest, case.episode) for case in cases]
    assert [one and one.version for one in now] == [case.version for case in cases]
    if who:
        assert len(done) > 10


def test_a_session_is_over_after_a_quarter_of_an_hour_though_the_page_is_still_open(room: Room) -> None:
    case = room.world.asked()
    with room.open(ANNA) as page:
        page.goto(f"{room.front.url}/cases/{case.id}")
        page.get_by_label("The plan is right, and its reach is acceptable").check()
        room.world.clock.advance(timedelta(minutes=15))
        page.get_by_role("button", name="Approve", exact=True).click()
        page.get_by_text("What you sent was not taken").wait_for()
    assert answers(room, case) == []
