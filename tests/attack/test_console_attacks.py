"""The issue's attacks on the console, on Slack's counter and on the sign-in, where no test of the parts names them already.

docs/attacks.md lists all of them, with the test that would fail if the defence were removed.
"""

import json
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, quote, unquote, urlencode, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.slack import respond
from chalicelib.console.oidc import Oidc, own_path
from chalicelib.console.pages import door
from chalicelib.console.session import Session, Sessions
from chalicelib.console.web import Reply, Request
from chalicelib.domain.approval import Door
from chalicelib.domain.case import Case
from chalicelib.domain.errors import SignInError
from chalicelib.domain.finding import Actor, Severity
from chalicelib.domain.policy import Person, PolicySetting, Provider
from chalicelib.domain.ports import Change
from chalicelib.domain.record import RecordType
from chalicelib.flow.answering import Said, Who, answer
from local.fakes.oidc import FakeOidc
from tests.adapters.samples import exemption
from tests.console.test_oidc import BACK, CountedWeb, changed, location_of
from tests.console.test_oidc import KEY as OIDC_KEY
from tests.console.test_oidc import SITE as OIDC_SITE
from tests.console.test_pages_forms import answers, fill
from tests.console.test_routes import Gateway
from tests.console.test_slack import Desk, a_case, encoded, payload
from tests.console.world import (
    ANNA,
    AUDIT,
    BEN,
    MEMBER,
    OLGA,
    SITE,
    SSH,
    VERA,
    World,
    group,
    invited,
    text_of,
    world,
)
from tests.delivery.test_card import ANNA as ANNA_OF_SLACK
from tests.delivery.test_card import HASH, policy
from tests.fakes.cases import HOME
from tests.fakes.clock import START, FakeClock

pytestmark = pytest.mark.thorough

CRLF = "x\r\nSet-Cookie: planted=1\r\nLocation: https://evil.example/"


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


def posted(console: World, path: str, body: bytes, cookie: str, **headers: str) -> Reply:
    """A body as it is, in the session of that cookie, from our own origin."""
    said = {
        "cookie": cookie,
        "content-type": "application/x-www-form-urlencoded",
        "origin": SITE.origin,
        "sec-fetch-site": "same-origin",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return door.reply(
        console.desk, Request("POST", path, {}, said, body, request_id=f"req-{path}-{len(body)}")
    )


def sent(reply: Reply) -> list[str]:
    """Every header line of a reply."""
    return [*reply.headers.values(), *reply.headers, *reply.cookies, reply.content_type]


# -- addresses -----------------------------------------------------------------------------------------------------------

OUT = (
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "//evil.example@redress.example",
    "/%2f%2fevil.example",
    "/..//evil.example",
    "/../../evil",
    "/./evil",
    "/cases/../../..",
    "/@evil.example/..",
    "javascript:alert(1)",
    "data:text/html,x",
    "/cases\r\nLocation: https://evil.example",
    "/cases\t//evil.example",
    "/ /evil.example",
    "/\u2215\u2215evil.example",
    "",
)


@pytest.mark.parametrize("to", OUT)
def test_open_redirect_to_elsewhere_after_the_sign_in(console: World, to: str) -> None:
    """The whole way through the real sign-in: what `to` asks for is nothing but a page of ours."""
    with FakeOidc(now=lambda: console.clock.now().timestamp()) as idp:
        idp.add_client("redress", "secret", [f"{SITE.origin}{SITE.prefix}/login/return"])
        idp.add_person("anna", "Anna", "anna@example.org")
        idp.login_as("anna")
        provider = {"name": "corp", "title": "Corp", "issuer": idp.issuer, "client_id": "redress"}
        console.set_policy({"providers": [provider]})
        real = Oidc(CountedWeb(), lambda _name: ("secret",), console.clock)
        object.__setattr__(console.desk, "sign_in", real)
        begun = door.reply(console.desk, Request("GET", "/login/corp", {"to": to}))
        assert begun.status == 302
        back = parse_qs(urlsplit(location_of(idp, begun)).query)
        cookie = begun.cookies[0].partition(";")[0]
        query = {name: values[0] for name, values in back.items()}
        done = door.reply(console.desk, Request("GET", "/login/return", query, {"cookie": cookie}))
    assert (done.status, done.headers["Location"]) == (303, "/api/")


@given(st.text(max_size=60) | st.from_regex(r"[/\\.%@:?#a-z0-9]{0,30}", fullmatch=True))
def test_whatever_is_asked_for_the_way_back_stays_behind_our_prefix(asked: str) -> None:
    path = SITE.at(own_path(asked))
    there = urlsplit(urljoin(f"{SITE.origin}/api/login/return", path))
    assert f"{there.scheme}://{there.netloc}" == SITE.origin
    assert there.path.startswith("/api/")
    assert ".." not in unquote(there.path).split("/")


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/cases",
        "/api/cases",
        "/cases//",
        "/cases/\r\nx",
        "/static/../session",
        "/static/..%2f..%2fsecrets",
        "/static/redress.css",
        "/static/redress-0000000000000000.css",
        "/static/\x00",
        "/.well-known/x",
    ],
)
def test_odd_paths_and_static_traversal_show_nothing(console: World, path: str) -> None:
    """Whoever is signed in gets a 404; whoever is not is sent to sign in, and nowhere else."""
    signed_in = console.get(path, OLGA)
    assert signed_in.status == 404
    stranger = console.get(path, None)
    assert stranger.headers["Location"].startswith("/api/login/corp?to=")
    assert not [line for line in sent(stranger) if any(ord(one) < 32 for one in line)]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": ["evil.example"]},
        {"X-Forwarded-Host": ["evil.example"], "X-Forwarded-Proto": ["http"]},
        {
            "X-Forwarded-Prefix": ["//evil.example"],
            "X-Original-Url": ["/people"],
            "X-Rewrite-Url": ["/people"],
        },
        {"Forwarded": ["host=evil.example;proto=http"]},
        {"X-Http-Method-Override": ["POST"], "X-Method-Override": ["POST"]},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_header_moves_the_site_or_the_page(console: World, headers: dict[str, list[str]]) -> None:
    gateway, cookie = Gateway(console), console.signed_in(ANNA)
    plain = gateway.call("GET", "/approvals", headers={"Cookie": [cookie]})
    moved = gateway.call("GET", "/approvals", headers={"Cookie": [cookie], **headers})
    assert (moved["statusCode"], moved["body"]) == (200, plain["body"])
    assert moved["headers"] == plain["headers"]


def test_no_value_writes_a_header(console: World) -> None:
    tries = [
        Request("GET", "/login/corp", {"to": CRLF}),
        Request("GET", f"/cases/{CRLF}"),
        Request("GET", "/login/return", {"code": CRLF, "state": CRLF, "error": CRLF}),
        Request(
            "GET", "/cases", {"state": CRLF, "place": CRLF, CRLF: CRLF}, {"cookie": console.signed_in(ANNA)}
        ),
        Request("GET", "/", {}, {"cookie": f"{CRLF}; __Host-redress={CRLF}"}),
    ]
    for request in tries:
        reply = door.reply(console.desk, request)
        assert not [line for line in sent(reply) if any(ord(one) < 32 for one in line)], request
        assert "planted" not in "".join(sent(reply)).replace(quote(CRLF, safe=""), "").replace(
            urlencode({"to": f"/cases/{CRLF}"}), ""
        ) or reply.status in {302, 303}


@pytest.mark.parametrize("name", ["path", "self", "filters", "place", "site", "request", ""])
def test_a_filter_of_any_name_breaks_no_list(console: World, name: str) -> None:
    """A list that goes on repeats the filters in its link; `path` was once the name of an argument there."""
    for number in range(1, 31):
        console.ticketed(100 + number)
    reply = console.get(f"/tickets?{urlencode({name: 'x'})}", ANNA)
    assert reply.status == 200
    assert "Further back" in reply.body


@pytest.mark.parametrize(
    "query",
    [
        "since=0001-01-01&until=0001-01-02",
        "since=0001-01-01&actor=arn:aws:iam::111122223333:user/anna",
        "since=9999-12-31&until=9999-12-31",
        "until=9999-12-31",
        "since=2026-13-45&until=yesterday",
        "since=-1&until=%00",
        "account=%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1%D9%A1",
        f"account={HOME}%00",
        "place=" + "A" * 10_000,
        "resource=" + "A" * 10_000,
    ],
)
def test_no_filter_of_the_log_costs_centuries_or_an_error(console: World, query: str) -> None:
    """A page of a log is a few reads, whatever an address asks for."""
    reads: list[str] = []
    console.client.meta.events.register("before-call.dynamodb.*", lambda model, **_: reads.append(model.name))
    assert console.get(f"/log?{query}", ANNA).status == 200
    assert len(reads) < 200


# -- bodies --------------------------------------------------------------------------------------------------------------


def honest(console: World, case: Case, cookie: str) -> bytes:
    return urlencode(fill(console, case, cookie, "approve")).encode()


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda body: body + b"&answer=deny",
        lambda body: body + b"&token=x",
        lambda body: body + b"&plan_hash=" + b"0" * 64,
        lambda body: body + b"".join(b"&f%d=1" % number for number in range(40)),
        lambda body: body + b"&x=" + b"A" * 5_000_000 + b"".join(b"&f%d=1" % number for number in range(40)),
        lambda body: b"\xff\xfe" + body,
        lambda body: body + b"&x=\xe2\x28\xa1",
        lambda body: body.decode().encode("utf-16"),
        lambda _body: b"",
        lambda body: json.dumps(dict(parse_qs(body.decode()))).encode(),
    ],
    ids=[
        "answer twice",
        "token twice",
        "hash twice",
        "40 fields",
        "huge",
        "BOM",
        "no UTF-8",
        "UTF-16",
        "empty",
        "JSON",
    ],
)
def test_a_body_that_no_form_of_ours_sends_decides_nothing(
    console: World, spoiled: Callable[[bytes], bytes]
) -> None:
    case, cookie = console.asked(), console.signed_in(ANNA)
    body = honest(console, case, cookie)
    assert posted(console, f"/cases/{case.id}/answer", spoiled(body), cookie).status in {403, 422}
    assert answers(console, case) == []
    assert posted(console, f"/cases/{case.id}/answer", body, cookie).status == 303


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded; charset=utf-16",
        "application/x-www-form-urlencoded, application/json",
        "",
    ],
)
def test_another_content_type_decides_nothing(console: World, content_type: str) -> None:
    """Those that a page of another site sends without asking first (fetch.spec.whatwg.org, CORS-safelisted) among them."""
    case, cookie = console.asked(), console.signed_in(ANNA)
    body = honest(console, case, cookie)
    reply = posted(console, f"/cases/{case.id}/answer", body, cookie, content_type=content_type)
    assert reply.status == 403
    through = Gateway(console).call(
        "POST",
        "/cases/{case}/answer",
        body.decode(),
        {"Cookie": [cookie], "Origin": [SITE.origin], "Content-Type": [content_type or "text/plain"]},
        case=case.id,
    )
    assert through["statusCode"] in {403, 415}
    assert answers(console, case) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://redress.example.evil.example"},
        {"origin": "https://redress.example:443"},
        {"origin": "http://redress.example"},
        {"origin": "https://REDRESS.example"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
    ids=str,
)
def test_csrf_even_with_a_token_that_leaked(console: World, headers: dict[str, str]) -> None:
    case, cookie = console.asked(), console.signed_in(ANNA)
    body = honest(console, case, cookie)
    assert posted(console, f"/cases/{case.id}/answer", body, cookie, **headers).status == 403
    assert answers(console, case) == []


# -- sessions ------------------------------------------------------------------------------------------------------------


def test_a_recorded_form_that_is_sent_again_decides_nothing_more(console: World) -> None:
    """The whole request, token and cookie: whoever recorded it adds nothing, and the attempt is on record."""
    case, cookie = console.asked(), console.signed_in(ANNA)
    body = honest(console, case, cookie)
    assert posted(console, f"/cases/{case.id}/answer", body, cookie).status == 303
    stands = answers(console, case)
    assert posted(console, f"/cases/{case.id}/answer", body + b"&x=1", cookie).status == 409
    assert answers(console, case) == stands
    refused = console.get(f"/log?resource={quote(case.target.resource)}&type=ANSWER_REFUSED", OLGA)
    assert "ANSWER_REFUSED" in refused.body
    console.clock.advance(timedelta(minutes=15))
    assert posted(console, f"/cases/{case.id}/answer", body, cookie).status == 401
    assert answers(console, case) == stands


def test_somebody_elses_form_under_ones_own_cookie_decides_nothing(console: World) -> None:
    """Each of these holds a cookie of ours that is good, and none the right to that form."""
    case = console.asked(1, account=MEMBER)
    anna = console.signed_in(ANNA)
    body = honest(console, case, anna)
    now = console.clock.now()
    console.set(kept=invited(now + timedelta(days=30), now, MEMBER))
    for who in (VERA, AUDIT, BEN):
        reply = posted(console, f"/cases/{case.id}/answer", body, console.signed_in(who))
        assert reply.status == 403, who
    assert answers(console, case) == []


def test_whoever_was_taken_out_of_the_policy_decides_nothing_in_the_session_that_they_have(
    console: World,
) -> None:
    case, cookie = console.asked(), console.signed_in(ANNA)
    body = honest(console, case, cookie)
    people = {"ben": [BEN], "olga": [OLGA]}
    kept = {
        name: {"name": name.title(), "identities": known, "roles": ["approver"]}
        for name, known in people.items()
    }
    console.set_policy({"people": kept, "groups": {"security": [*people]}})
    assert posted(console, f"/cases/{case.id}/answer", body, cookie).status == 403
    assert console.get("/", cookie=cookie).status == 403
    assert answers(console, case) == []


def test_a_cookie_that_was_planted_before_the_sign_in_is_not_the_session_after_it(console: World) -> None:
    """Session fixation: signing in makes a new session, whatever cookie came along, and a second cookie voids both."""
    planted = console.signed_in(VERA)
    reply = door.reply(
        console.desk, Request("GET", "/login/return", {"code": ANNA}, {"cookie": planted}, request_id="r")
    )
    (fresh,) = [line.partition(";")[0] for line in reply.cookies if line.startswith("__Host-redress=")]
    assert fresh != planted
    before = console.sessions().read(Request("GET", "/", headers={"cookie": planted}))
    after = console.sessions().read(Request("GET", "/", headers={"cookie": fresh}))
    assert before
    assert after
    assert (before.identity, after.identity) == (VERA, ANNA)
    assert before.id != after.id
    assert console.get("/", cookie=f"{planted}; {fresh}").status == 303


@pytest.mark.parametrize(
    "path",
    [
        "/cases/{home}",
        "/log?resource={resource}",
        "/log?actor={actor}",
        "/log?account={account}",
        "/cases?account={account}&state=waiting",
        "/approvals?account={account}",
        "/exemptions",
        "/tickets",
        "/",
        "/controls/" + SSH,
        "/switches",
    ],
)
def test_an_auditor_of_one_account_finds_nothing_of_another_by_any_address(console: World, path: str) -> None:
    now = console.clock.now()
    actor = Actor(type="AssumedRole", arn=f"arn:aws:sts::{HOME}:assumed-role/deployer/x")
    case = console.asked(7, reason="FOREIGN-REASON", owner="FOREIGN-OWNER", actor=actor)
    exempt = exemption(control=SSH).model_copy(update={"reason": "FOREIGN-EXEMPTION"})
    console.set(exemptions=(exempt,))
    console.set(kept=invited(now + timedelta(days=30), now, MEMBER))
    asked_for = path.format(
        home=case.id, resource=quote(case.target.resource), actor=quote(str(actor.arn)), account=HOME
    )
    seen = console.get(asked_for, AUDIT).body
    assert "FOREIGN" not in seen
    assert case.id not in seen.replace(f"/login/corp?to=/cases/{case.id}", "")
    if "resource" not in path:
        assert case.target.id not in seen
    assert "FOREIGN" in "".join(console.get(one, OLGA).body for one in (f"/cases/{case.id}", "/exemptions"))


def test_a_place_in_a_list_tells_nobody_what_stands_there(console: World) -> None:
    """A place behind 200 that one may not see names one of them: a link that can be read would tell which."""
    for number in range(205):
        console.set(exemptions=(exemption(control=SSH, account=HOME, resource=group(number).resource),))
    reply = console.get("/exemptions", VERA)
    assert "Further back" in reply.body
    (link,) = [part.partition('"')[0] for part in reply.body.split("place=")[1:]]
    for part in unquote(link).replace("&amp;", "&").split("."):
        read = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        with suppress(zlib.error):
            read += zlib.decompress(read)
        assert HOME.encode() not in read
        assert SSH.encode() not in read
    there = unquote(link).replace("&amp;", "&")
    assert console.sessions().read_cursor(there)
    assert console.sessions().read_cursor(f"{there[:-1]}{'A' if there[-1] != 'A' else 'B'}") is None


# -- the sign-in ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two() -> Iterator[tuple[FakeOidc, FakeOidc]]:
    def now() -> float:
        return START.timestamp()

    with FakeOidc(now=now) as honest_one, FakeOidc(now=now) as mallorys:
        for one in (honest_one, mallorys):
            one.add_client("redress", "secret", [BACK])
            one.add_person("anna", "Anna", "anna@example.org")
            one.login_as("anna")
        yield honest_one, mallorys


def provider_of(idp: FakeOidc, name: str) -> Provider:
    return Provider(name=name, title=name, issuer=idp.issuer, client_id="redress")


def through(idp: FakeOidc, begun: Reply) -> Request:
    query = {name: values[0] for name, values in parse_qs(urlsplit(location_of(idp, begun)).query).items()}
    return Request("GET", "/login/return", query, {"cookie": begun.cookies[0].partition(";")[0]})


def signed_in_at(idp: FakeOidc, name: str, oidc: Oidc, sessions: Sessions) -> Session:
    provider = provider_of(idp, name)
    begun = oidc.begin(provider, sessions, "/")
    return oidc.finish(through(idp, begun), sessions, (provider,), lambda _: True)[0]


def test_the_same_subject_at_another_issuer_is_somebody_else(two: tuple[FakeOidc, FakeOidc]) -> None:
    clock = FakeClock()
    sessions = Sessions((OIDC_KEY,), clock, OIDC_SITE)
    oidc = Oidc(CountedWeb(), lambda _name: ("secret",), clock)
    identities = [
        signed_in_at(idp, name, oidc, sessions).identity for idp, name in zip(two, ("a", "b"), strict=True)
    ]
    assert identities == [f"oidc:{idp.issuer}#anna" for idp in two]
    assert identities[0] != identities[1]


def test_a_code_of_another_provider_is_not_taken(two: tuple[FakeOidc, FakeOidc]) -> None:
    """Mix-up (RFC 9207): a sign-in that was begun at one provider does not end with another one's code."""
    clock = FakeClock()
    sessions = Sessions((OIDC_KEY,), clock, OIDC_SITE)
    oidc = Oidc(CountedWeb(), lambda _name: ("secret",), clock)
    one, other = provider_of(two[0], "a"), provider_of(two[1], "b")
    begun, theirs = oidc.begin(one, sessions, "/"), oidc.begin(other, sessions, "/")
    code = through(two[1], theirs).query["code"]
    mixed = changed(through(two[0], begun), code=code)
    with pytest.raises(SignInError):
        oidc.finish(mixed, sessions, (one, other), lambda _: True)


def test_an_attackers_code_in_a_victims_browser_signs_nobody_in(two: tuple[FakeOidc, FakeOidc]) -> None:
    """Login CSRF: the victim follows the attacker's link back, without or with a sign-in of their own begun."""
    clock = FakeClock()
    sessions = Sessions((OIDC_KEY,), clock, OIDC_SITE)
    oidc = Oidc(CountedWeb(), lambda _name: ("secret",), clock)
    provider = provider_of(two[0], "a")
    attackers = through(two[0], oidc.begin(provider, sessions, "/"))
    victims = oidc.begin(provider, sessions, "/").cookies[0].partition(";")[0]
    for cookie in ("", victims):
        with pytest.raises(SignInError, match="was not begun in this browser"):
            oidc.finish(replace(attackers, headers={"cookie": cookie}), sessions, (provider,), lambda _: True)


# -- Slack ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def counter() -> Desk:
    desk = Desk()
    desk.store.set(PolicySetting(policy=policy(), by="olga", at=START, reason="first"))
    desk.store.commit(Change(case=a_case()))
    return desk


def test_a_press_of_somebody_who_was_taken_out_of_the_policy_decides_nothing(counter: Desk) -> None:
    """The card still stands in the channel, and the press is Slack's own."""
    now = policy()
    gone = {
        name: one.model_copy(update={"identities": ("oidc:https://idp.example#somebody",)})
        if ANNA_OF_SLACK in one.identities
        else one
        for name, one in now.people.items()
    }
    counter.store.set(
        PolicySetting(policy=now.model_copy(update={"people": gone}), by="olga", at=START, reason="left")
    )
    assert counter.hears(counter.request(encoded(payload()))).status == 200
    assert counter.stored is None
    assert counter.types == [RecordType.ANSWER_REFUSED]
    assert "knows nobody as" in counter.told[0][1]


def test_a_press_whose_address_to_reply_to_is_not_slacks_reaches_nobody(counter: Desk) -> None:
    """SSRF through `response_url`: the decision stands, and no request of ours goes where the payload wants it."""
    hits: list[str] = []

    class Inside(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_said: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Inside)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    port = server.server_address[1]
    try:
        counter.reply = lambda url, text: respond(url, text, None)
        for url in (
            f"http://127.0.0.1:{port}/latest/meta-data/",
            f"http://hooks.slack.com@127.0.0.1:{port}/",
            f"https://hooks.slack.com.127.0.0.1.nip.io:{port}/",
            f"https://hooks.slack.com@127.0.0.1:{port}/x",
            f"https://hooks.slack.com\\@127.0.0.1:{port}/x",
            f"https://hooks.slack.com:{port}/x",
            f"file:///etc/passwd?127.0.0.1:{port}",
            "",
        ):
            assert counter.hears(counter.request(encoded(payload(response_url=url)))).status == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert hits == []
    assert counter.stored


def test_a_press_that_was_taken_back_is_not_replayed(counter: Desk) -> None:
    """Slack's signature holds for five minutes: whoever recorded the press would otherwise approve again in that name."""
    small, every = policy().rules
    rules = (small.model_copy(update={"quorum": 2, "approvers": every.approvers}), every)
    people = {**policy().people, "ben": Person(name="Ben", identities=("slack:T0REDRESS/U0BEN00001",))}
    both = policy().model_copy(update={"rules": rules, "people": people})
    counter.store.set(PolicySetting(policy=both, by="olga", at=START, reason="two"))
    pressed = counter.request(encoded(payload()))
    assert counter.hears(pressed).status == 200
    who = Who(
        ANNA_OF_SLACK,
        barred="",
        actor=Actor(type="Person", arn=ANNA_OF_SLACK),
        request_id="w",
        door=Door.SLACK,
    )
    back = Said(case=a_case().id, ask=1, plan_hash=HASH, approve=True, reason="misread", withdraw=True)
    answer(back, who, counter.store, counter.clock, home=HOME, engine="0.1.0")
    assert counter.hears(pressed).status == 200
    assert counter.hears(replace(pressed, request_id="another")).status == 200
    stored = counter.stored
    assert stored
    assert [one.withdrawn for one in stored.answers] == [False, True]
    assert "a button does not approve it again" in counter.told[-1][1]


# -- the record ----------------------------------------------------------------------------------------------------------


def test_a_broken_glass_a_refusal_and_a_look_are_seen_by_whoever_audits(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    mfa = console.signed_in(OLGA, mfa=True)
    glass = fill(
        console, case, mfa, "break_glass", reason="", words="the door is open and nobody else is here"
    )
    assert console.post(f"/cases/{case.id}/answer", glass, mfa).status == 303
    late = console.signed_in(BEN, mfa=True)
    body = {**glass, "answer": "deny", "token": _token(console, late, case)}
    assert console.post(f"/cases/{case.id}/answer", body, late).status == 409
    now = console.clock.now()
    console.set(kept=invited(now + timedelta(days=30), now))
    told = text_of(console.get(f"/cases/{case.id}", AUDIT))
    assert "the door is open and nobody else is here" in told
    assert "broke the glass" in told.lower()
    assert console.viewed == [(AUDIT, f"/cases/{case.id}")]
    log = console.get(f"/log?resource={quote(case.target.resource)}", AUDIT).body
    for kind in ("BREAK_GLASS", "ANSWER_REFUSED"):
        assert kind in log, kind


def _token(console: World, cookie: str, case: Case) -> str:
    session = console.sessions().read(Request("GET", "/", headers={"cookie": cookie}))
    assert session
    assert case.ask
    return console.sessions().csrf(session, "answer", case.id, case.ask.plan_hash, str(case.ask.seq))
