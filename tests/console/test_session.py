"""Sessions, forms and cursors: what is signed, for what, for how long, and what is not believed."""

import base64
import json
import zlib
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

import pytest
from pydantic import JsonValue

from chalicelib.console.session import LASTS, LONGEST_COOKIE, Session, Sessions, new_id
from chalicelib.console.web import Request, Site
from chalicelib.domain.errors import SignInError, StoreError
from tests.fakes.clock import START, FakeClock

KEY, OLDER, OTHER = "k" * 32, "o" * 40, "x" * 64
SITE = Site("https://redress.example", "/api")
ANNA = Session(
    identity="oidc:https://idp.example#anna",
    name="Anna Adler",
    email="anna@example.com",
    provider="idp",
    signed_in_at=START,
    logged_in_at=START - timedelta(minutes=1),
    mfa=True,
    id="one",
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> Sessions:
    return Sessions((KEY,), clock, SITE)


def carrying(*lines: str, **headers: str) -> Request:
    """The request that a browser makes with these Set-Cookie lines behind it."""
    cookies = "; ".join(line.partition(";")[0] for line in lines)
    return Request("GET", "/", headers={"cookie": cookies, **headers})


def value_of(line: str) -> str:
    return line.partition("=")[2].partition(";")[0]


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_is_read_as_it_was_signed(sessions: Sessions) -> None:
    assert sessions.read(carrying(sessions.cookie_of(ANNA))) == ANNA


def test_the_cookie_is_for_this_host_alone_and_out_of_scripts_reach(sessions: Sessions) -> None:
    name, *attributes = sessions.cookie_of(ANNA).split("; ")
    assert name.startswith("__Host-redress=")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=900", "Path=/", "SameSite=Lax", "Secure"]


def test_on_loopback_without_https_there_is_neither_prefix_nor_secure(clock: FakeClock) -> None:
    sessions = Sessions((KEY,), clock, Site("http://127.0.0.1:8000"))
    line = sessions.cookie_of(ANNA)
    assert line.startswith("redress=")
    assert "Secure" not in line
    assert sessions.read(carrying(line)) == ANNA


def test_nobody_is_signed_in_without_a_cookie(sessions: Sessions) -> None:
    assert sessions.read(Request("GET", "/")) is None
    assert sessions.read(carrying(sessions.gone())) is None


def test_signing_out_takes_the_cookie_away(sessions: Sessions) -> None:
    assert sessions.gone().startswith("__Host-redress=; Path=/; Max-Age=0; ")


def test_a_session_ends_after_fifteen_minutes_to_the_second(sessions: Sessions, clock: FakeClock) -> None:
    request = carrying(sessions.cookie_of(ANNA))
    clock.advance(LASTS - timedelta(seconds=1))
    assert sessions.read(request) == ANNA
    clock.advance(seconds=1)
    assert sessions.read(request) is None


def test_a_session_of_another_key_is_nobodys(sessions: Sessions) -> None:
    forged = replace(sessions, keys=(OTHER,)).cookie_of(ANNA)
    assert sessions.read(carrying(forged)) is None


@pytest.mark.parametrize("at", [0, 10, -1])
def test_a_changed_cookie_is_nobodys(sessions: Sessions, at: int) -> None:
    text = list(value_of(sessions.cookie_of(ANNA)))
    text[at] = "A" if text[at] != "A" else "E"
    assert sessions.read(carrying(f"__Host-redress={''.join(text)};")) is None


def test_a_second_cookie_of_the_name_makes_both_worthless(sessions: Sessions) -> None:
    mine = sessions.cookie_of(ANNA)
    planted = sessions.cookie_of(ANNA.model_copy(update={"id": "planted"}))
    assert sessions.read(carrying(planted, mine)) is None


def test_a_cookie_without_the_prefix_is_not_looked_at(sessions: Sessions) -> None:
    assert sessions.read(carrying(f"redress={value_of(sessions.cookie_of(ANNA))}")) is None


def test_what_was_signed_as_something_else_is_no_session(sessions: Sessions) -> None:
    for purpose in ("cursor", "signin"):
        sealed = sessions.sealed(purpose, ANNA.model_dump_json())
        assert sessions.read(carrying(f"__Host-redress={sealed}")) is None


@pytest.mark.parametrize("data", [None, 1, [], {}, "", "{}", '{"identity": "x"}'])
def test_what_is_signed_and_no_session_is_nobody(sessions: Sessions, data: None) -> None:
    assert sessions.read(carrying(f"__Host-redress={sessions.sealed('session', data)}")) is None


def test_an_oversized_cookie_is_not_even_unpacked(sessions: Sessions) -> None:
    long = ANNA.model_copy(update={"name": "".join(new_id() for _ in range(100))})
    line = sessions.cookie_of(long)
    assert len(value_of(line)) > LONGEST_COOKIE
    assert sessions.read(carrying(line)) is None
    assert (
        sessions.read(carrying(sessions.cookie_of(long.model_copy(update={"name": long.name[:1000]}))))
        is not None
    )


def test_a_bomb_without_a_signature_is_not_unpacked(sessions: Sessions) -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"0" * 2_000_000)).rstrip(b"=").decode()
    assert len(bomb) < LONGEST_COOKIE
    assert sessions.read(carrying(f"__Host-redress=.{bomb}.c2ln")) is None


@pytest.mark.parametrize("text", ["é", "\ud800", "a.b", "..", ".", "a" * 5000, "=;", "%00"])
def test_nonsense_is_nobody(sessions: Sessions, text: str) -> None:
    assert sessions.read(carrying(f"__Host-redress={text}")) is None
    assert sessions.read_cursor(text) is None


def test_names_cannot_write_headers(sessions: Sessions) -> None:
    hostile = ANNA.model_copy(update={"name": 'x"; Domain=evil\r\nSet-Cookie: a=b', "email": "a;b,c\r\n"})
    line = sessions.cookie_of(hostile)
    assert line.isascii()
    assert line.isprintable()
    assert line.count(";") == sessions.cookie_of(ANNA).count(";")
    assert sessions.read(carrying(line)) == hostile


# -- keys --------------------------------------------------------------------------------------------------------------


def test_keys_rotate_while_people_are_signed_in(sessions: Sessions) -> None:
    before = sessions.cookie_of(ANNA)
    during = replace(sessions, keys=(OLDER, KEY))
    assert during.read(carrying(before)) == ANNA
    after = replace(sessions, keys=(OLDER,))
    assert after.read(carrying(during.cookie_of(ANNA))) == ANNA, "the newest key signs"
    assert after.read(carrying(before)) is None


@pytest.mark.parametrize("keys", [(), ("",), ("k" * 31,), (KEY, "short")])
def test_without_a_real_key_nobody_is_signed_in(clock: FakeClock, keys: tuple[str, ...]) -> None:
    with pytest.raises(StoreError) as error:
        Sessions(keys, clock, SITE)
    assert "short" not in str(error.value)


def test_keys_are_not_shown(sessions: Sessions) -> None:
    assert KEY not in repr(sessions)
    assert KEY not in str(sessions)


# -- forms -------------------------------------------------------------------------------------------------------------

HASH = "h" * 64
GOOD = MappingProxyType(
    {
        "content-type": "application/x-www-form-urlencoded",
        "origin": SITE.origin,
        "sec-fetch-site": "same-origin",
    }
)


def posted(**headers: str | None) -> Request:
    changed = {**GOOD, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Request("POST", "/", headers={name: value for name, value in changed.items() if value is not None})


def test_our_own_form_is_taken(sessions: Sessions) -> None:
    token = sessions.csrf(ANNA, "decide", "c1", HASH)
    sessions.check_post(posted(), ANNA, "decide", token, case="c1", plan_hash=HASH)
    sessions.check_post(posted(sec_fetch_site=None), ANNA, "decide", token, case="c1", plan_hash=HASH)
    for kind in (
        "application/x-www-form-urlencoded; charset=UTF-8",
        'Application/X-WWW-Form-Urlencoded;charset="utf-8"',
    ):
        sessions.check_post(posted(content_type=kind), ANNA, "decide", token, case="c1", plan_hash=HASH)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": None},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://evil.example"},
        {"origin": "http://redress.example"},
        {"origin": "https://redress.example:8443"},
        {"origin": "https://redress.example.evil.example"},
        {"origin": "https://redress.example/"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_site": ""},
        {"content_type": None},
        {"content_type": "text/plain"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": "application/json"},
        {"content_type": "application/x-www-form-urlencoded, text/plain"},
        {"content_type": "application/x-www-form-urlencoded; charset=utf-7"},
        {"content_type": "text/plain; application/x-www-form-urlencoded"},
    ],
    ids=str,
)
def test_a_form_from_elsewhere_is_refused(sessions: Sessions, headers: dict[str, str | None]) -> None:
    token = sessions.csrf(ANNA, "decide")
    sessions.check_post(posted(), ANNA, "decide", token)
    with pytest.raises(SignInError):
        sessions.check_post(posted(**headers), ANNA, "decide", token)


def test_a_form_is_nobodys_without_a_session(sessions: Sessions) -> None:
    with pytest.raises(SignInError, match="not signed in"):
        sessions.check_post(posted(), None, "decide", sessions.csrf(ANNA, "decide"))


@pytest.mark.parametrize(
    "purpose, case, plan_hash, ask, who",
    [
        ("deny", "c1", HASH, "1", {}),
        ("decide", "c2", HASH, "1", {}),
        ("decide", "c1", "i" * 64, "1", {}),
        ("decide", "c1", HASH, "2", {}),
        ("decide", "c1", HASH, "1", {"id": "two"}),
        ("decide", "c1", HASH, "1", {"identity": "oidc:https://idp.example#bob"}),
        ("decide", f"c1{HASH}", "", "1", {}),
        ("decide", "c1", f"{HASH}1", "", {}),
        ('decide", "c1', "", HASH, "1", {}),
    ],
)
def test_a_token_is_for_one_sign_in_purpose_case_ask_and_plan(
    sessions: Sessions, purpose: str, case: str, plan_hash: str, ask: str, who: dict[str, str]
) -> None:
    token = sessions.csrf(ANNA, "decide", "c1", HASH, "1")
    sessions.check_post(posted(), ANNA, "decide", token, case="c1", plan_hash=HASH, ask="1")
    with pytest.raises(SignInError, match="out of date"):
        sessions.check_post(
            posted(), ANNA.model_copy(update=who), purpose, token, case=case, plan_hash=plan_hash, ask=ask
        )


@pytest.mark.parametrize("token", ["", "x", "é", "\ud800", "A" * 43])
def test_a_token_that_is_none_is_refused(sessions: Sessions, token: str) -> None:
    with pytest.raises(SignInError, match="out of date"):
        sessions.check_post(posted(), ANNA, "decide", token)


def test_a_form_outlives_the_key_that_signed_it_for_one_rotation(sessions: Sessions) -> None:
    token = sessions.csrf(ANNA, "decide")
    replace(sessions, keys=(OLDER, KEY)).check_post(posted(), ANNA, "decide", token)
    with pytest.raises(SignInError):
        replace(sessions, keys=(OLDER,)).check_post(posted(), ANNA, "decide", token)


# -- paging ------------------------------------------------------------------------------------------------------------


def test_a_cursor_comes_back_as_it_was(sessions: Sessions) -> None:
    data: JsonValue = {"pk": "CASE#1", "sk": ["a", 2, None]}
    text = sessions.cursor(data)
    assert sessions.read_cursor(text) == data
    assert text.replace("-", "").replace("_", "").replace(".", "").isalnum(), "it goes into a link as it is"


def test_a_cursor_is_ours_or_none(sessions: Sessions) -> None:
    text = sessions.cursor({"pk": "CASE#1"})
    assert replace(sessions, keys=(OTHER,)).read_cursor(text) is None
    payload = base64.urlsafe_b64encode(json.dumps({"pk": "CASE#2"}).encode()).rstrip(b"=").decode()
    assert sessions.read_cursor(f"{payload}.{text.rpartition('.')[2]}") is None
    assert sessions.read_cursor(value_of(sessions.cookie_of(ANNA))) is None


@pytest.mark.parametrize(
    "header", [{"enc": []}, {"enc": {}}, {"crit": 1}, {"alg": None}, {"zip": 1}, [], 1, "x"]
)
def test_a_cursor_with_a_header_of_somebody_else_is_none(sessions: Sessions, header: JsonValue) -> None:
    _, _, rest = sessions.cursor({"pk": "CASE#1"}).partition(".")
    usual = {"alg": "dir", "enc": "A256GCM"}
    forged = json.dumps({**usual, **header} if isinstance(header, dict) else header).encode()
    text = f"{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}.{rest}"
    assert sessions.read_cursor(text) is None


def test_ids_are_not_repeated() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000
    assert min(len(new_id()) for _ in range(100)) >= 43


def test_the_signature_is_sha256s(sessions: Sessions) -> None:
    for signature in (
        sessions.csrf(ANNA, "decide"),
        sessions.cookie_of(ANNA).partition(";")[0].rpartition(".")[2],
    ):
        assert len(base64.urlsafe_b64decode(signature + "=")) == 32
