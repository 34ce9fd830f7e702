"""The fake identity provider refuses what a real one refuses: each test first does it right, then wrong in one place."""

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from local.fakes.oidc import CODE_SECONDS, FakeOidc

pytestmark = pytest.mark.thorough

BACK = "http://127.0.0.1:1/login/return"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASKED = MappingProxyType(
    {
        "response_type": "code",
        "client_id": "redress",
        "redirect_uri": BACK,
        "scope": "openid email",
        "state": "s",
        "nonce": "n",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
)
AS_SLACK = MappingProxyType(
    {n: v for n, v in ASKED.items() if not n.startswith("code_")} | {"team": "T0REDRESS"}
)
FORM = MappingProxyType({"Content-Type": "application/x-www-form-urlencoded"})
BASIC = MappingProxyType({**FORM, "Authorization": f"Basic {base64.b64encode(b'redress:s%3Acret').decode()}"})


def set_up(provider: FakeOidc) -> None:
    provider.add_client("redress", "s:cret", [BACK])
    provider.add_client("other", "secret", [BACK])
    provider.add_person("U0ANNA001", "Anna <b>", "anna@example.com", mfa=True, team="T0REDRESS")
    provider.add_person("U0OTTO001", "Otto", "otto@example.com", team="T0OTHERS1")


@pytest.fixture
def provider() -> Iterator[FakeOidc]:
    with FakeOidc() as provider:
        set_up(provider)
        yield provider


@pytest.fixture
def slack() -> Iterator[FakeOidc]:
    with FakeOidc(slack=True) as provider:
        set_up(provider)
        yield provider


def ask(
    provider: FakeOidc, method: str, target: str, body: str = "", headers: Mapping[str, str] = FORM
) -> tuple[int, str, str]:
    """Status, body and Location."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(provider.issuer).port, timeout=10)
    try:
        connection.request(method, target, body or None, dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers.get("Location", "")
    finally:
        connection.close()


def authorize(provider: FakeOidc, asked: Mapping[str, str]) -> tuple[int, str, str]:
    return ask(provider, "GET", f"{provider.paths['authorize']}?{urlencode(asked)}")


def code_for(provider: FakeOidc, asked: Mapping[str, str] = ASKED) -> str:
    provider.login_as("U0ANNA001")
    _, _, location = authorize(provider, asked)
    return parse_qs(urlsplit(location).query)["code"][0]


def redeem(
    provider: FakeOidc, code: str, /, headers: Mapping[str, str] = BASIC, **changed: str
) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "code_verifier": VERIFIER}
    status, body, _ = ask(provider, "POST", provider.paths["token"], urlencode({**form, **changed}), headers)
    return status, json.loads(body)


def test_somebody_is_chosen_from_the_list_and_comes_back_with_a_code(provider: FakeOidc) -> None:
    status, page, _ = authorize(provider, ASKED)
    assert status == 200
    assert "Anna &lt;b&gt;" in page
    assert "<b>" not in page
    status, _, location = ask(provider, "POST", "/choose", urlencode({**ASKED, "person": "U0ANNA001"}))
    assert status == 302
    back = parse_qs(urlsplit(location).query)
    assert location.startswith(f"{BACK}?")
    assert (back["state"], back["iss"]) == (["s"], [provider.issuer])


def test_a_person_who_is_not_there_cannot_be_chosen(provider: FakeOidc) -> None:
    assert ask(provider, "POST", "/choose", urlencode({**ASKED, "person": "eve"}))[0] == 400
    assert ask(provider, "POST", "/choose", urlencode(ASKED))[0] == 400


def test_the_token_says_who_it_is_under_the_published_key(provider: FakeOidc) -> None:
    status, said = redeem(provider, code_for(provider))
    assert status == 200
    keys = KeySet.import_key_set(json.loads(ask(provider, "GET", "/keys")[1]))
    claims = jwt.decode(said["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["sub"], claims["aud"], claims["nonce"]) == ("U0ANNA001", "redress", "n")
    assert "mfa" in claims["amr"]
    assert "d" not in keys.as_dict()["keys"][0], "no private key is published"
    provider.rotate_keys()
    newer = KeySet.import_key_set(json.loads(ask(provider, "GET", "/keys")[1]))
    assert newer.keys[0].kid != keys.keys[0].kid
    with pytest.raises(BadSignatureError):
        jwt.decode(said["id_token"], newer.keys[0], algorithms=["RS256"])


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "nobody"},
        {"redirect_uri": f"{BACK}/"},
        {"redirect_uri": "https://evil.example/"},
        {"response_type": "token"},
        {"scope": "email"},
        {"state": ""},
        {"nonce": ""},
        {"code_challenge": ""},
        {"code_challenge_method": "plain"},
    ],
    ids=str,
)
def test_an_authorization_request_that_lacks_something_goes_nowhere(
    provider: FakeOidc, changed: dict[str, str]
) -> None:
    provider.login_as("U0ANNA001")
    assert authorize(provider, ASKED)[0] == 302
    assert authorize(provider, {**ASKED, **changed})[::2] == (400, "")


def test_a_parameter_given_twice_is_refused(provider: FakeOidc) -> None:
    provider.login_as("U0ANNA001")
    assert ask(provider, "GET", f"/authorize?{urlencode(ASKED)}&state=t")[0] == 400


def test_a_code_counts_once(provider: FakeOidc) -> None:
    code = code_for(provider)
    assert redeem(provider, code)[0] == 200
    assert redeem(provider, code) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "changed, headers, error",
    [
        ({"code": "guessed"}, BASIC, "invalid_grant"),
        ({"redirect_uri": "https://evil.example/"}, BASIC, "invalid_grant"),
        ({"code_verifier": "w" * 43}, BASIC, "invalid_grant"),
        ({"code_verifier": ""}, BASIC, "invalid_grant"),
        ({"grant_type": "password"}, BASIC, "unsupported_grant_type"),
        ({}, FORM, "invalid_client"),
        ({"client_id": "redress", "client_secret": "s:cret"}, FORM, "invalid_client"),
        ({"client_secret": "s:cret"}, BASIC, "invalid_client"),
        (
            {},
            {**FORM, "Authorization": f"Basic {base64.b64encode(b'redress:wrong').decode()}"},
            "invalid_client",
        ),
        (
            {},
            {**FORM, "Authorization": f"Basic {base64.b64encode(b'other:secret').decode()}"},
            "invalid_grant",
        ),
        ({}, {**BASIC, "Content-Type": "application/json"}, "invalid_request"),
    ],
)
def test_a_token_request_that_is_wrong_gets_no_token(
    provider: FakeOidc, changed: dict[str, str], headers: Mapping[str, str], error: str
) -> None:
    status, said = redeem(provider, code_for(provider), headers, **changed)
    assert (status, said) == (401 if error == "invalid_client" else 400, {"error": error})


def test_a_code_is_too_old_after_a_minute() -> None:
    now = [1_800_000_000.0]
    with FakeOidc(now=lambda: now[0]) as provider:
        set_up(provider)
        early, late = code_for(provider), code_for(provider)
        now[0] += CODE_SECONDS
        assert redeem(provider, early)[0] == 200
        now[0] += 1
        assert redeem(provider, late) == (400, {"error": "invalid_grant"})


def test_slack_speaks_its_own_way(slack: FakeOidc) -> None:
    document = json.loads(ask(slack, "GET", "/.well-known/openid-configuration")[1])
    assert document["token_endpoint"].endswith("/api/openid.connect.token")
    assert "code_challenge_methods_supported" not in document
    code = code_for(slack, AS_SLACK)
    secret = {"client_id": "redress", "client_secret": "s:cret", "code_verifier": ""}
    status, said = redeem(slack, code, FORM, **secret)
    assert (status, said["ok"]) == (200, True)
    part = said["id_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert claims["https://slack.com/team_id"] == "T0REDRESS"
    assert redeem(slack, code, FORM, **secret) == (200, {"ok": False, "error": "invalid_grant"})


def test_slack_shows_and_takes_the_people_of_one_workspace(slack: FakeOidc) -> None:
    assert "Otto" not in authorize(slack, AS_SLACK)[1]
    slack.login_as("U0OTTO001")
    assert authorize(slack, AS_SLACK)[0] == 400
    assert authorize(slack, {**AS_SLACK, "code_challenge": CHALLENGE})[0] == 400


def test_there_is_nothing_elsewhere(provider: FakeOidc) -> None:
    assert ask(provider, "GET", "/admin")[0] == 404
    assert ask(provider, "GET", "/token")[0] == 404
