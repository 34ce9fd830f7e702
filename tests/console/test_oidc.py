"""Signing in against a loopback provider: every check of the callback and of the token has a test that fails without it."""

import http.client
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from joserfc.jwk import OctKey, RSAKey

from chalicelib.adapters.web import Answer, Web
from chalicelib.console import oidc
from chalicelib.console.oidc import FRESH, KEPT, SKEW, Oidc, over, own_path
from chalicelib.console.session import Session, Sessions
from chalicelib.console.web import Reply, Request, Site
from chalicelib.domain.errors import AmbiguousError, LaterError, SignInError, UnreachableError
from chalicelib.domain.policy import Provider
from local.fakes.oidc import FakeOidc, Fault
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.thorough

KEY = "k" * 32
SITE = Site("https://redress.example", "/api")
BACK = "https://redress.example/api/login/return"
SECRET = "client:secret/+%"


@dataclass
class CountedWeb:
    """The real way out to loopback, which counts, breaks when told to, and shortens every timeout."""

    asked: list[str] = field(default_factory=list)
    fails: Exception | None = None
    seconds: float = 5
    web: Web = field(default_factory=lambda: Web(allow_loopback=True))

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        most_bytes: int,
    ) -> Answer:
        self.asked.append(urlsplit(url).path)
        if self.fails:
            raise self.fails
        within = min(self.seconds, timeout_seconds)
        return self.web.request(
            method, url, headers=headers, body=body, timeout_seconds=within, most_bytes=most_bytes
        )


@dataclass
class World:
    """A browser, our console and a provider."""

    idp: FakeOidc
    clock: FakeClock
    web: CountedWeb
    provider: Provider
    sessions: Sessions
    oidc: Oidc
    known: Callable[[str], bool] = field(default=lambda _: True)

    def begin(self, path: str = "/cases/c1", *, fresh: bool = False) -> Reply:
        return self.oidc.begin(self.provider, self.sessions, path, fresh=fresh)

    def through(self, begun: Reply) -> Request:
        """What the browser brings back from the provider: its cookie and the query."""
        return Request(
            "GET",
            oidc.RETURN_PATH,
            dict(parse_qsl(urlsplit(location_of(self.idp, begun)).query)),
            {"cookie": begun.cookies[0].partition(";")[0]},
        )

    def finish(self, request: Request, *providers: Provider) -> tuple[Session, str]:
        return self.oidc.finish(request, self.sessions, providers or (self.provider,), self.known)

    def sign_in(self, path: str = "/cases/c1", *, fresh: bool = False) -> tuple[Session, str]:
        return self.finish(self.through(self.begin(path, fresh=fresh)))

    def refused(self, request: Request | None = None, *, fresh: bool = False) -> str:
        with pytest.raises(SignInError) as error:
            self.finish(request or self.through(self.begin(fresh=fresh)))
        return str(error.value)


def location_of(idp: FakeOidc, begun: Reply) -> str:
    """Where the provider sends the browser that follows our reply."""
    parts = urlsplit(begun.headers["Location"])
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(idp.issuer).port, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        response = connection.getresponse()
        said = response.read().decode()
        assert response.status == 302, said
        return response.headers["Location"]
    finally:
        connection.close()


def changed(request: Request, **query: str | None) -> Request:
    """The request with other parameters; None takes one out."""
    new = {**request.query, **query}
    return replace(request, query={name: value for name, value in new.items() if value is not None})


def made(idp: FakeOidc, clock: FakeClock, team: str | None = None) -> World:
    idp.add_client("redress", SECRET, [BACK])
    idp.add_person("U0ANNA001", "Anna Adler", "Anna@Example.com", team="T0REDRESS")
    idp.login_as("U0ANNA001")
    web = CountedWeb()
    provider = Provider(name="idp", title="IdP", issuer=idp.issuer, client_id="redress", team=team)
    secrets = {"idp": (SECRET, "older")}
    return World(
        idp,
        clock,
        web,
        provider,
        Sessions((KEY,), clock, SITE),
        Oidc(web, lambda name: secrets.get(name, ()), clock),
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world(clock: FakeClock) -> Iterator[World]:
    with FakeOidc(algorithm="ES256", now=lambda: clock.now().timestamp()) as idp:
        yield made(idp, clock)


@pytest.fixture
def slack(clock: FakeClock) -> Iterator[World]:
    with FakeOidc(slack=True, now=lambda: clock.now().timestamp()) as idp:
        yield made(idp, clock, "T0REDRESS")


# -- the way that it goes ----------------------------------------------------------------------------------------------


def test_somebody_signs_in_and_comes_back_to_where_they_wanted(world: World) -> None:
    session, path = world.sign_in("/cases/c1?tab=plan")
    assert path == "/cases/c1?tab=plan"
    assert session == Session(
        identity=f"oidc:{world.idp.issuer}#U0ANNA001",
        name="Anna Adler",
        email="Anna@Example.com",
        provider="idp",
        signed_in_at=world.clock.at,
        logged_in_at=world.clock.at,
        mfa=False,
        id=session.id,
    )


def test_each_sign_in_has_an_id_of_its_own(world: World) -> None:
    """So a session that somebody planted before does not become the victim's: nothing of it goes on."""
    (first, _), (second, _) = world.sign_in(), world.sign_in()
    assert first.id != second.id
    planted = world.sessions.cookie_of(first).partition(";")[0]
    request = world.through(world.begin())
    carried = replace(request, headers={"cookie": f"{planted}; {request.headers['cookie']}"})
    assert world.finish(carried)[0].id not in {first.id, second.id}


def test_what_is_asked_of_the_provider(world: World) -> None:
    reply = world.begin()
    asked = dict(parse_qsl(urlsplit(reply.headers["Location"]).query))
    assert reply.status == 302
    assert asked["redirect_uri"] == BACK
    assert asked["scope"] == "openid profile email"
    assert (asked["code_challenge_method"], len(asked["code_challenge"])) == ("S256", 43)
    assert "prompt" not in asked
    again = dict(parse_qsl(urlsplit(world.begin().headers["Location"]).query))
    assert not {again[one] for one in ("state", "nonce", "code_challenge")} & {*asked.values()}
    assert reply.headers["Cache-Control"] == "no-store"


def test_the_cookie_of_a_sign_in_is_ours_alone_and_short(world: World) -> None:
    name, *attributes = world.begin().cookies[0].split("; ")
    assert name.startswith("__Host-redress-signin=")
    assert sorted(attributes) == ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax", "Secure"]
    assert over(world.sessions).startswith("__Host-redress-signin=; Path=/; Max-Age=0; ")


def test_an_endpoint_with_a_query_keeps_it(world: World) -> None:
    world.idp.discovery["authorization_endpoint"] = f"{world.idp.issuer}/authorize?tenant=a"
    assert "/authorize?tenant=a&response_type=code&" in world.begin().headers["Location"]


def test_a_second_factor_counts_when_the_provider_names_one_that_the_policy_takes(world: World) -> None:
    world.idp.add_person("U0ANNA001", "Anna", "a@example.com", mfa=True)
    assert world.sign_in()[0].mfa
    world.provider = world.provider.model_copy(update={"amr": ("hwk",)})
    assert not world.sign_in()[0].mfa


@pytest.mark.parametrize("amr", [["otp"], ["hwk"], ["swk"], ["pwd", "otp"], ["fido"]])
def test_one_method_alone_is_no_second_factor_unless_the_policy_says_so(world: World, amr: list[str]) -> None:
    """RFC 8176: these name a method, and only `mfa` says that there were several."""
    world.idp.claims["amr"] = amr
    assert not world.sign_in()[0].mfa
    world.provider = world.provider.model_copy(update={"amr": ("mfa", amr[-1])})
    assert world.sign_in()[0].mfa


@pytest.mark.parametrize("amr", ["mfa", {"mfa": True}, [["mfa"]], None, True])
def test_a_second_factor_is_not_read_out_of_nonsense(world: World, amr: object) -> None:
    world.idp.claims["amr"] = amr
    assert not world.sign_in()[0].mfa


def test_rs256_is_taken_as_well(clock: FakeClock) -> None:
    with FakeOidc(algorithm="RS256", now=lambda: clock.now().timestamp()) as idp:
        assert made(idp, clock).sign_in()[0].name == "Anna Adler"


def test_another_algorithm_is_not(clock: FakeClock) -> None:
    with FakeOidc(algorithm="RS512", now=lambda: clock.now().timestamp()) as idp:
        assert made(idp, clock).refused() == oidc.NOT_BELIEVED


def test_the_secret_goes_in_the_way_that_the_provider_takes_it(world: World) -> None:
    world.sign_in()
    assert world.idp.seen[-2][2]["authorization"].startswith("Basic ")
    world.idp.discovery["token_endpoint_auth_methods_supported"] = ["private_key_jwt", "client_secret_post"]
    world.clock.advance(KEPT)
    world.sign_in()
    assert "authorization" not in world.idp.seen[-2][2]
    world.idp.discovery["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
    world.clock.advance(KEPT)
    assert "no client secret" in world.refused()


def test_a_provider_without_a_secret_signs_nobody_in(world: World) -> None:
    world.oidc = Oidc(world.web, lambda _: (), world.clock)
    assert "no client secret here" in world.refused()


# -- asking anew -------------------------------------------------------------------------------------------------------


def test_asked_anew_the_provider_must_have_asked_just_now(world: World) -> None:
    asked = dict(parse_qsl(urlsplit(world.begin(fresh=True).headers["Location"]).query))
    assert (asked["prompt"], asked["max_age"]) == ("login", "300")
    assert world.sign_in(fresh=True)[0].logged_in_at == world.clock.at
    long_ago = world.clock.at - FRESH - SKEW - timedelta(seconds=1)
    world.idp.claims["auth_time"] = int(long_ago.timestamp())
    assert world.sign_in()[0].logged_in_at == long_ago
    assert "anew" in world.refused(fresh=True)
    world.idp.claims["auth_time"] = None
    assert world.sign_in()[0].logged_in_at is None
    assert "anew" in world.refused(fresh=True)


@pytest.mark.parametrize("auth_time", ["1785758400", True, [], float("nan"), float("inf"), 1e300, -1e300])
def test_a_time_that_is_none_is_not_believed(world: World, auth_time: object) -> None:
    world.idp.claims["auth_time"] = auth_time
    assert world.refused() == oidc.NOT_BELIEVED


def test_a_sign_in_from_the_future_is_not_believed_beyond_the_skew(world: World) -> None:
    now = world.clock.at
    world.idp.claims["auth_time"] = (now + SKEW).timestamp()
    assert world.sign_in()[0].logged_in_at == now
    world.idp.claims["auth_time"] = (now + SKEW).timestamp() + 1
    assert world.refused() == oidc.NOT_BELIEVED


# -- the callback ------------------------------------------------------------------------------------------------------


def test_a_callback_without_the_cookie_of_this_browser_is_refused(world: World) -> None:
    assert world.refused(replace(world.through(world.begin()), headers={})) == oidc.OTHER_BROWSER


def test_a_sign_in_begun_in_another_browser_does_not_end_in_this_one(world: World) -> None:
    """Login CSRF: the attacker's answer of the provider, in the victim's browser, which has begun one of its own."""
    attackers, victims = world.through(world.begin()), world.begin().cookies[0].partition(";")[0]
    assert world.refused(replace(attackers, headers={"cookie": victims})) == oidc.OTHER_BROWSER
    assert world.finish(attackers)


@pytest.mark.parametrize("state", [None, "", "x", "é", "\ud800"])
def test_a_wrong_state_is_refused(world: World, state: str | None) -> None:
    assert world.refused(changed(world.through(world.begin()), state=state)) == oidc.OTHER_BROWSER


def test_a_forged_or_foreign_cookie_is_refused(world: World) -> None:
    request = world.through(world.begin())
    name, _, value = request.headers["cookie"].partition("=")
    forged = replace(world.sessions, keys=("x" * 32,)).sealed("signin", "{}")
    session = world.sessions.sealed("session", world.sessions.unsealed("signin", value))
    for bad in (
        value[:-2],
        forged,
        session,
        world.sessions.sealed("signin", "{}"),
        f"{value}; {name}={value}",
    ):
        assert world.refused(replace(request, headers={"cookie": f"{name}={bad}"})) == oidc.OTHER_BROWSER
    assert world.finish(request)


def test_a_sign_in_may_take_ten_minutes_and_no_more(world: World) -> None:
    slow, late = world.begin(), world.begin()
    world.clock.advance(oidc.BEGUN_LASTS - timedelta(seconds=1))
    assert world.finish(world.through(slow))
    world.clock.advance(seconds=1)
    assert world.refused(world.through(late)) == oidc.OTHER_BROWSER


def test_a_sign_in_survives_a_change_of_keys(world: World) -> None:
    request = world.through(world.begin())
    world.sessions = replace(world.sessions, keys=("n" * 32, KEY))
    assert world.finish(request)


def test_a_callback_that_is_replayed_signs_nobody_in(world: World) -> None:
    request = world.through(world.begin())
    assert world.finish(request)
    assert world.refused(request) == oidc.NOT_NOW, "the provider takes a code once"


def test_a_code_of_another_sign_in_does_not_fit(world: World) -> None:
    """PKCE and nonce bind the code to the browser that asked for it."""
    theirs, mine = world.through(world.begin()), world.through(world.begin())
    assert world.refused(changed(mine, code=theirs.query["code"])) == oidc.NOT_NOW


def test_a_code_of_another_sign_in_does_not_fit_without_pkce_either(slack: World) -> None:
    theirs, mine = slack.through(slack.begin()), slack.through(slack.begin())
    assert slack.refused(changed(mine, code=theirs.query["code"])) == oidc.NOT_BELIEVED


@pytest.mark.parametrize(
    "query", [{"code": None}, {"code": ""}, {"code": "a b"}, {"code": "x" * 3000}, {"error": "access_denied"}]
)
def test_a_callback_without_a_code_is_refused_before_anybody_is_asked(
    world: World, query: dict[str, str | None]
) -> None:
    request = changed(world.through(world.begin()), **query)
    before = len(world.web.asked)
    assert "did not sign you in" in world.refused(request)
    assert len(world.web.asked) == before


def test_what_the_provider_wrote_is_not_shown(world: World) -> None:
    request = changed(
        world.through(world.begin()), error="<b>x</b>", error_description="call +1 900", code=None
    )
    assert "<b>" not in world.refused(request)
    assert "900" not in world.refused(request)


def test_the_answer_names_its_issuer_where_the_provider_says_that_it_does(world: World) -> None:
    request = world.through(world.begin())
    assert world.refused(changed(request, iss=None)) == oidc.NOT_BELIEVED
    assert world.refused(changed(request, iss="https://evil.example")) == oidc.NOT_BELIEVED
    world.idp.discovery["authorization_response_iss_parameter_supported"] = False
    world.clock.advance(KEPT)
    request = world.through(world.begin())
    assert world.refused(changed(request, iss="https://evil.example")) == oidc.NOT_BELIEVED
    assert world.finish(changed(request, iss=None))


def test_a_provider_that_the_policy_no_longer_has_signs_nobody_in(world: World) -> None:
    request = world.through(world.begin())
    other = world.provider.model_copy(update={"name": "other"})
    with pytest.raises(SignInError, match="no longer knows"):
        world.finish(request, other)
    assert world.finish(request, other, world.provider)


# -- where people come back to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/%2f%2fevil.example",
        "/%5cevil.example",
        "%2f%2fevil.example",
        "https://evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        "evil.example",
        "cases",
        "",
        "?a=b",
        "/cases//evil.example",
        "/cases/../x",
        "/./x",
        "/cases\r\nSet-Cookie: a=b",
        "/cases\n",
        "/cases\t",
        "/\t/evil.example",
        "/cases#x",
        "/cases?a=\r\nb",
        "/cases?a=b c",
        "/cases?a=<b>",
        "/cäses",
        "/cases\x00",
        "/@evil.example",
        "/" + "a" * 1000,
    ],
)
def test_the_way_back_leads_nowhere_else(world: World, path: str) -> None:
    assert own_path(path) == "/"
    assert world.sign_in(path)[1] == "/"


@pytest.mark.parametrize(
    "path",
    ["/", "/cases", "/cases/a1b2.3", "/log?resource=arn%3Aaws%3As3%3A%3A%3Ab&day=2026-01-01", "/a/", "/?x=1"],
)
def test_our_own_pages_are_come_back_to(path: str) -> None:
    assert own_path(path) == path


def test_the_way_back_is_not_taken_from_the_callback(world: World) -> None:
    request = world.through(world.begin("/cases/c1"))
    assert (
        world.finish(changed(request, path="//evil.example", next="//e", redirect_uri="//e"))[1]
        == "/cases/c1"
    )


# -- the token ---------------------------------------------------------------------------------------------------------

ENDPOINT = (Fault.TOKEN_500, Fault.TOKEN_HTML, Fault.TOKEN_REDIRECT, Fault.TOKEN_SLOW)
TOKEN = (
    Fault.WRONG_AUDIENCE,
    Fault.SEVERAL_AUDIENCES,
    Fault.WRONG_AZP,
    Fault.WRONG_ISSUER,
    Fault.WRONG_NONCE,
    Fault.NO_NONCE,
    Fault.EXPIRED,
    Fault.NO_EXPIRY,
    Fault.FROM_THE_FUTURE,
    Fault.ALG_NONE,
    Fault.HS256_WITH_PUBLIC_KEY,
    Fault.FOREIGN_KEY,
    Fault.TAMPERED,
    Fault.NO_ID_TOKEN,
    Fault.WRONG_RESPONSE_ISSUER,
)


@pytest.mark.parametrize("fault", [Fault.ALG_NONE, Fault.HS256_WITH_PUBLIC_KEY])
def test_an_rsa_key_is_not_taken_for_another_kind_of_key(slack: World, fault: Fault) -> None:
    assert slack.sign_in()
    slack.idp.fault = fault
    assert slack.refused() == oidc.NOT_BELIEVED


@pytest.mark.parametrize("fault", TOKEN)
def test_a_token_that_does_not_hold_signs_nobody_in(world: World, fault: Fault) -> None:
    assert world.sign_in()
    world.idp.fault = fault
    assert world.refused() == oidc.NOT_BELIEVED


@pytest.mark.parametrize("fault", ENDPOINT)
def test_a_provider_that_does_not_answer_signs_nobody_in(world: World, fault: Fault) -> None:
    world.idp.fault = fault
    request = world.through(world.begin())
    world.web.seconds = 0.3 if fault is Fault.TOKEN_SLOW else 5
    assert world.refused(request) == oidc.NOT_NOW
    assert "/elsewhere" not in {path for _, path, _ in world.idp.seen}


def test_every_fault_is_tried() -> None:
    assert {*TOKEN, *ENDPOINT} | {Fault.WRONG_TEAM, Fault.DISCOVERY_OF_ANOTHER} == {*Fault}


def test_several_audiences_are_fine_when_we_are_the_party_that_asked(world: World) -> None:
    world.idp.claims |= {"aud": ["redress", "api"], "azp": "redress"}
    assert world.sign_in()
    world.idp.claims |= {"aud": "redress", "azp": "api"}
    assert world.refused() == oidc.NOT_BELIEVED


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sub": 1},
        {"sub": ""},
        {"sub": "a b"},
        {"sub": "é"},
        {"sub": "x" * 256},
        {"aud": []},
        {"aud": {"redress": 1}},
        {"iat": None},
        {"iat": "now"},
        {"exp": "never"},
        {"exp": True},
        {"iss": ["x"]},
        {"nbf": 9_999_999_999},
    ],
    ids=str,
)
def test_claims_that_are_none_are_refused(world: World, claims: dict[str, Any]) -> None:
    world.idp.claims = claims
    assert world.refused() == oidc.NOT_BELIEVED


def test_clocks_may_differ_by_a_minute(world: World) -> None:
    now = int(world.clock.at.timestamp())
    world.idp.claims = {"iat": now + 60, "exp": now - 59}
    assert world.sign_in()
    world.idp.claims = {"iat": now + 61}
    assert world.refused() == oidc.NOT_BELIEVED
    world.idp.claims = {"exp": now - 60}
    assert world.refused() == oidc.NOT_BELIEVED


class Scripted:
    """A provider's answers, made up."""

    def __init__(self, issuer: str, keys: object, token: object) -> None:
        self.answers = {
            "/.well-known/openid-configuration": {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/a",
                "token_endpoint": f"{issuer}/t",
                "jwks_uri": f"{issuer}/k",
            },
            "/k": {"keys": keys},
            "/t": {"id_token": token},
        }

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        most_bytes: int,
    ) -> Answer:
        return Answer(200, {}, json.dumps(self.answers[urlsplit(url).path]).encode())


PUBLIC = RSAKey.generate_key(2048, {"kid": "1"}).as_dict(private=False)


@pytest.mark.parametrize(
    "keys",
    [None, [], {}, ["x"], [{}], [{"kty": "RSA"}], [{"kty": "RSA", "n": 1, "e": 2}], [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}],
     [{**OctKey.generate_key(256, {"kid": "1"}).as_dict()}], [{**PUBLIC, "use": "enc"}]],
    ids=range(10),
)  # fmt: skip
def test_keys_that_are_none_sign_nobody_in(world: World, keys: object) -> None:
    world.oidc = Oidc(Scripted("https://idp.example", keys, "a.b.c"), lambda _: ("s",), world.clock)
    world.provider = world.provider.model_copy(update={"issuer": "https://idp.example"})
    with pytest.raises(SignInError, match="reached right now"):
        finish_scripted(world)


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "a.b.c.d.e", "....", "é.é.é", "e30.e30.", "bnVsbA.e30.AA", "W10.e30.AA", "MQ.e30.AA", "eyJhbGciOiBbXX0.e30.AA",
     "eyJhbGciOiAiUlMyNTYifQ.bnVsbA.AA", "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogWzFdfQ.e30.AA", "eyJhbGciOiAiRVMyNTYifQ.e30.AA", "x" * 200_000, None, 1, [], {}],
    ids=range(20),
)  # fmt: skip
def test_tokens_that_are_none_sign_nobody_in(world: World, token: object) -> None:
    world.oidc = Oidc(Scripted("https://idp.example", [PUBLIC], token), lambda _: ("s",), world.clock)
    world.provider = world.provider.model_copy(update={"issuer": "https://idp.example"})
    with pytest.raises(SignInError, match="does not hold"):
        finish_scripted(world)


def finish_scripted(world: World) -> None:
    begun = world.begin()
    state = dict(parse_qsl(urlsplit(begun.headers["Location"]).query))["state"]
    world.finish(
        Request("GET", "/", {"state": state, "code": "c"}, {"cookie": begun.cookies[0].partition(";")[0]})
    )


# -- what the provider publishes ---------------------------------------------------------------------------------------


def test_facts_and_keys_are_fetched_once_an_hour(world: World) -> None:
    world.sign_in()
    world.clock.advance(KEPT - timedelta(seconds=1))
    world.sign_in()
    assert world.web.asked.count("/.well-known/openid-configuration") == 1
    assert world.web.asked.count("/keys") == 1
    world.clock.advance(seconds=1)
    world.sign_in()
    assert world.web.asked.count("/.well-known/openid-configuration") == 2
    assert world.web.asked.count("/keys") == 2


def test_keys_that_were_changed_are_fetched_again_and_not_for_everybody_who_asks(world: World) -> None:
    world.sign_in()
    world.idp.rotate_keys()
    assert world.refused() == oidc.NOT_BELIEVED, "fetched less than a minute ago"
    assert world.web.asked.count("/keys") == 1
    world.clock.advance(oidc.ASKED_AGAIN)
    world.sign_in()
    assert world.web.asked.count("/keys") == 2


def test_a_key_that_was_taken_out_signs_nothing_after_the_hour(world: World) -> None:
    world.sign_in()
    old = world.idp._key
    world.idp.rotate_keys()
    published, world.idp._key = world.idp._key, old
    assert world.sign_in(), "known for up to an hour"
    world.idp._key = published
    world.clock.advance(KEPT)
    assert world.sign_in()
    world.idp._key = old
    assert world.refused() == oidc.NOT_BELIEVED


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://evil.example/"},
        {"authorization_endpoint": "https://evil.example/\r\nSet-Cookie: a=b"},
        {"token_endpoint": "http://evil.example/"},
        {"token_endpoint": "file:///etc/passwd"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks_uri": None},
        {"code_challenge_methods_supported": "S256"},
    ],
    ids=str,
)
def test_a_document_that_does_not_hold_sends_nobody_anywhere(world: World, wrong: dict[str, Any]) -> None:
    world.idp.discovery = wrong
    with pytest.raises(SignInError):
        world.begin()


def test_an_issuer_that_could_be_read_in_two_ways_is_not_one(world: World) -> None:
    for sign in "#?":
        issuer = f"https://idp.example/{sign}a"
        scripted = Scripted("https://idp.example", [], "")
        scripted.answers["/.well-known/openid-configuration"]["issuer"] = issuer  # type: ignore[index]  # one shape of several
        scripted.answers["/"] = scripted.answers["/.well-known/openid-configuration"]
        world.oidc = Oidc(scripted, lambda _: ("s",), world.clock)
        world.provider = world.provider.model_copy(update={"issuer": issuer})
        with pytest.raises(SignInError, match="another name"):
            world.begin()


@pytest.mark.parametrize(
    "failure",
    [LaterError("x", 1), AmbiguousError("x", 1), UnreachableError("x")],
    ids=lambda e: type(e).__name__,
)
def test_a_provider_out_of_reach_is_said_to_be_so(world: World, failure: Exception) -> None:
    request = world.through(world.begin())
    world.web.fails = failure
    assert world.refused(request) == oidc.NOT_NOW


# -- who it is ---------------------------------------------------------------------------------------------------------


def known_as(world: World, *identities: str) -> str:
    world.known = {*identities}.__contains__
    return world.sign_in()[0].identity


def test_the_subject_counts_before_the_address(world: World) -> None:
    subject, email = f"oidc:{world.idp.issuer}#U0ANNA001", f"email:{world.idp.issuer}#anna@example.com"
    assert known_as(world, subject, email) == subject
    assert known_as(world, email) == email
    assert known_as(world) == subject, "by which an operator would have to know them"


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_the_provider_does_not_vouch_for_is_nobody(world: World, verified: object) -> None:
    world.idp.claims["email_verified"] = verified
    world.known = lambda identity: identity.startswith("email:")
    session, _ = world.sign_in()
    assert session.identity.startswith("oidc:")
    assert session.email == ""


@pytest.mark.parametrize(
    "email",
    ["", "anna", "@example.com", "anna@", "anna@@example.com", "an na@example.com", "anna@example.com\r\nX: y", "anna@example.com\x00",
     "\N{KELVIN SIGN}im@example.com", "anna@exampl\u00e9.com", "anna@example.com, eve@evil.example", ["anna@example.com"], 1, "a" * 65 + "@x.y"],
)  # fmt: skip
def test_an_address_that_is_none_is_nobody(world: World, email: object) -> None:
    world.idp.claims["email"] = email
    world.known = lambda identity: identity.startswith("email:")
    session, _ = world.sign_in()
    assert session.identity.startswith("oidc:")
    assert session.email == ""


def test_names_are_shown_without_tricks(world: World) -> None:
    world.idp.claims["name"] = "Anna\r\nSet-Cookie: a=b\u202e<script>" + "x" * 500
    session, _ = world.sign_in()
    assert len(session.name) <= 100
    assert session.name.startswith("Anna⏎⏎Set-Cookie: a=b\ufffd<script>"), "HTML is for whoever shows it"
    line = world.sessions.cookie_of(session)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 1500


@pytest.mark.parametrize(
    "claims, name",
    [
        ({"name": None, "preferred_username": "anna"}, "anna"),
        ({"name": None}, "U0ANNA001"),
        ({"name": ["x"]}, "['x']"),
    ],
)
def test_somebody_is_always_called_something(world: World, claims: dict[str, Any], name: str) -> None:
    world.idp.claims = claims
    assert world.sign_in()[0].name == name


# -- Slack -------------------------------------------------------------------------------------------------------------


def test_slack_signs_people_of_the_workspace_in(slack: World) -> None:
    asked = dict(parse_qsl(urlsplit(slack.begin().headers["Location"]).query))
    assert asked["team"] == "T0REDRESS"
    assert "code_challenge" not in asked
    session, _ = slack.sign_in()
    assert session.identity == "slack:T0REDRESS/U0ANNA001"
    assert not session.mfa


def test_slacks_addresses_are_nobodys_identity(slack: World) -> None:
    slack.known = lambda identity: identity.startswith(("email:", "oidc:"))
    assert slack.sign_in()[0].identity == "slack:T0REDRESS/U0ANNA001"


@pytest.mark.parametrize("team", ["T0ELSEWHERE", None, ["T0REDRESS"], "t0redress", ""])
def test_another_workspace_signs_nobody_in(slack: World, team: object) -> None:
    slack.idp.claims["https://slack.com/team_id"] = team
    assert "another Slack workspace" in slack.refused()


def test_another_workspace_signs_nobody_in_by_fault(slack: World) -> None:
    slack.idp.fault = Fault.WRONG_TEAM
    assert "another Slack workspace" in slack.refused()


@pytest.mark.parametrize("user", [None, "", "U1/../U0ANNA001", "anna", ["U0ANNA001"], "U0ANNA001\n"])
def test_a_slack_user_that_is_none_is_nobody(slack: World, user: object) -> None:
    slack.idp.claims["https://slack.com/user_id"] = user
    assert slack.refused() == oidc.NOT_BELIEVED


def test_slack_errors_in_the_body_are_errors(slack: World) -> None:
    request = slack.through(slack.begin())
    assert slack.finish(request)
    assert slack.refused(request) == oidc.NOT_BELIEVED


def test_slack_without_a_workspace_would_be_everybodys(world: World) -> None:
    world.provider = world.provider.model_copy(update={"issuer": "https://slack.com", "team": None})
    with pytest.raises(SignInError, match="name the Slack workspace"):
        world.begin()
    assert world.web.asked == []


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_nothing_secret_is_said_or_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request = world.through(world.begin())
    begun = json.loads(str(world.sessions.unsealed("signin", request.headers["cookie"].partition("=")[2])))
    world.idp.fault = Fault.WRONG_NONCE
    with pytest.raises(SignInError) as error:
        world.finish(request)
    told = f"{error.value!r} {error.getrepr(style='long')!s} {caplog.text}".replace(" ", "")
    for secret in (SECRET, request.query["code"], begun["verifier"], begun["nonce"], KEY):
        assert len(secret) > 8
        assert secret not in told
