"""Signing in: the authorization code flow of OpenID Connect, with any provider of the policy, "Sign in with Slack" among them.

What a provider says is checked as OpenID Connect Core 1.0 §3.1.3.7 asks, by its own keys, for this very sign-in. Every
failure is one SignInError in words for the person; what the provider wrote is neither shown nor logged.

Slack's id_token tells workspace and user. It does not tell whether that is a guest, a bot or a deactivated account: Slack
documents that guests cannot sign in this way (https://api.slack.com/legacy/sign-in-with-slack) and has no claim for it, so
that only the policy's own list of people says who counts. Its addresses are not taken for identities at all, since a
workspace's administrators set them. It offers neither PKCE nor `prompt`; `auth_time` is its word alone.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from chalicelib.adapters.web import Outward
from chalicelib.console.session import Session, Sessions, new_id
from chalicelib.console.web import Reply, Request
from chalicelib.delivery.escape import plain
from chalicelib.domain.errors import DeliveryError, SignInError
from chalicelib.domain.finding import Model
from chalicelib.domain.policy import SLACK_ISSUER, Provider, Url
from chalicelib.domain.ports import Clock

RETURN_PATH = "/login/return"
"""Where providers send people back to: what is registered there is this path of the console."""

COOKIE = "signin"
BEGUN_LASTS = timedelta(minutes=10)
"""For so long a sign-in may be on its way through the provider."""

ALGORITHMS = ("RS256", "ES256")
SKEW = timedelta(seconds=60)
FRESH = timedelta(minutes=5)
"""How recent a sign-in is that was asked for anew."""

KEPT = timedelta(hours=1)
ASKED_AGAIN = timedelta(minutes=1)
"""How long a provider's facts and keys are kept, and how soon its keys are fetched again for one that is not among them."""

LONGEST_NAME = 100
LONGEST_PATH = 1000

_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?(\?[A-Za-z0-9._~:/@!$'()*,;=&%+-]*)?")
_CODE = re.compile(r"[\x21-\x7e]{1,2048}")
_SUB = re.compile(r"[\x21-\x7e]{1,255}")
_EMAIL = re.compile(r"[\x21-\x3f\x41-\x7e]{1,64}@[A-Za-z0-9.-]{1,189}")
"""ASCII only: among other letters there are some whose lower case is an ASCII one."""

_SLACK_USER = re.compile(r"[UW][A-Z0-9]{6,20}")

NOT_NOW = (
    "the sign-in provider cannot be reached right now, or does not answer as it should: try again in a minute"
)
NOT_BELIEVED = "what the sign-in provider said of you does not hold, so nobody was signed in: try again, then tell an operator"
OTHER_BROWSER = "this sign-in was not begun in this browser, or too long ago: begin again from the console"


class Discovery(BaseModel):
    """What a provider publishes of itself, as far as it matters here (OpenID Connect Discovery 1.0 §3, RFC 8414, RFC 9207)."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    issuer: str
    authorization_endpoint: Url
    token_endpoint: Url
    jwks_uri: Url
    code_challenge_methods_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Begun(Model):
    """A sign-in on its way through the provider, as the signed cookie of the browser that began it holds it."""

    provider: str
    state: str
    nonce: str
    verifier: str
    path: str
    fresh: bool
    at: AwareDatetime


def own_path(path: str) -> str:
    """The path, if it is plainly one of ours, else `/`. No host, no empty or dotted segment, no escape outside the query."""
    return path if path.startswith("/") and len(path) <= LONGEST_PATH and _PATH.fullmatch(path) else "/"


class Oidc:
    """Signs people in. `secrets_of` gives a provider's client secrets, the newest first."""

    def __init__(self, web: Outward, secrets_of: Callable[[str], tuple[str, ...]], clock: Clock) -> None:
        self._web = web
        self._secrets_of = secrets_of
        self._clock = clock
        self._facts: dict[str, tuple[datetime, Discovery]] = {}
        self._keys: dict[str, tuple[datetime, KeySet]] = {}

    def begin(self, provider: Provider, sessions: Sessions, path: str, *, fresh: bool = False) -> Reply:
        """Off to the provider, to come back to `path`. With `fresh` it shall ask anew, whoever is signed in there."""
        facts = self._discovered(provider)
        pkce = "S256" in facts.code_challenge_methods_supported
        begun = Begun(
            provider=provider.name,
            state=new_id(),
            nonce=new_id(),
            verifier=secrets.token_urlsafe(48) if pkce else "",
            path=own_path(path),
            fresh=fresh,
            at=self._clock.now(),
        )
        asked = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": sessions.site.url(RETURN_PATH),
            "scope": "openid profile email",
            "state": begun.state,
            "nonce": begun.nonce,
        }
        if pkce:
            asked |= {"code_challenge": _challenge(begun.verifier), "code_challenge_method": "S256"}
        if provider.team:
            asked |= {"team": provider.team}
        if fresh:
            asked |= {"prompt": "login", "max_age": str(int(FRESH.total_seconds()))}
        separator = "&" if "?" in facts.authorization_endpoint else "?"
        location = f"{facts.authorization_endpoint}{separator}{urlencode(asked)}"
        sealed = sessions.sealed(COOKIE, begun.model_dump_json())
        return Reply(
            302,
            headers={"Location": location, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
            cookies=(sessions.cookie(COOKIE, sealed, BEGUN_LASTS),),
        )

    def finish(
        self,
        request: Request,
        sessions: Sessions,
        providers: Iterable[Provider],
        known: Callable[[str], bool],
    ) -> tuple[Session, str]:
        """Who came back from the provider, and the path that they wanted; or SignInError.

        Whoever calls this sends `over(sessions)` with the reply in either case: a sign-in that was begun ends here. Of the
        identities that the provider vouches for, the first that is `known` counts; if none is, the session has the first,
        so that the person can be told by what an operator would have to know them.
        """
        begun = self._begun(request, sessions)
        query = request.query  # a parameter that comes twice is not in it
        if not hmac.compare_digest(query.get("state", "").encode(errors="replace"), begun.state.encode()):
            raise SignInError(OTHER_BROWSER)
        provider = next((one for one in providers if one.name == begun.provider), None)
        if provider is None:
            raise SignInError(
                "the policy no longer knows the provider that you signed in with: choose another"
            )
        facts = self._discovered(provider)
        # RFC 9207 §2.4: whose answer it is; so that no provider's code is sent to another one
        if query.get(
            "iss", None if facts.authorization_response_iss_parameter_supported else provider.issuer
        ) != (provider.issuer):
            raise SignInError(NOT_BELIEVED)
        if "error" in query or not _CODE.fullmatch(query.get("code", "")):
            raise SignInError("the sign-in provider did not sign you in: try again, or ask whoever runs it")
        token = self._exchanged(
            provider, facts, sessions.site.url(RETURN_PATH), query["code"], begun.verifier
        )
        claims = self._claims(provider, facts, begun.nonce, token)
        return self._session(provider, claims, known, fresh=begun.fresh), begun.path

    def _begun(self, request: Request, sessions: Sessions) -> Begun:
        text = sessions.unsealed(COOKIE, request.cookies.get(sessions.cookie_name(COOKIE), ""))
        if not isinstance(text, str):
            raise SignInError(OTHER_BROWSER)
        try:
            begun = Begun.model_validate_json(text)
        except ValidationError:  # signed by an older version of ours
            raise SignInError(OTHER_BROWSER) from None
        if not sessions.fresh(begun.at, BEGUN_LASTS):
            raise SignInError(OTHER_BROWSER)
        return begun

    # -- what the provider publishes -----------------------------------------------------------------------------------

    def _discovered(self, provider: Provider) -> Discovery:
        """The provider's facts, an hour old at most. Slack's own issuer without a workspace would let in everybody's."""
        if provider.issuer == SLACK_ISSUER and not provider.team:
            raise SignInError("the policy must name the Slack workspace (`team`) that may sign in")
        now = self._clock.now()
        kept = self._facts.get(provider.issuer)
        if kept and now - kept[0] < KEPT:
            return kept[1]
        where = f"{provider.issuer.removesuffix('/')}/.well-known/openid-configuration"
        document = self._asked("GET", where)
        try:
            facts = Discovery.model_validate(document)
        except ValidationError as error:
            raise SignInError(NOT_NOW) from error
        # Neither sign is in an issuer (OpenID Connect Core §2); with `#` an identity of ours would have two readings.
        if facts.issuer != provider.issuer or {*"?#"} & {*provider.issuer}:
            raise SignInError("the sign-in provider calls itself by another name than the policy has for it")
        self._facts[provider.issuer] = now, facts
        return facts

    def _keys_at(self, uri: str, no_older_than: timedelta) -> KeySet:
        now = self._clock.now()
        kept = self._keys.get(uri)
        if kept and now - kept[0] < no_older_than:
            return kept[1]
        document = self._asked("GET", uri)
        listed = document.get("keys")
        usable = [key for key in listed if _signs(key)] if isinstance(listed, list) else []
        try:
            keys = KeySet.import_key_set({"keys": usable})
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise SignInError(NOT_NOW) from error
        self._keys[uri] = now, keys
        return keys

    # -- what it says of somebody --------------------------------------------------------------------------------------

    def _exchanged(
        self, provider: Provider, facts: Discovery, redirect_uri: str, code: str, verifier: str
    ) -> str:
        """The id_token that the code stands for (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
        secret = next(iter(self._secrets_of(provider.name)), None)
        if secret is None:
            raise SignInError(
                "the sign-in provider has no client secret here: an operator puts it into the secret"
            )
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= {"code_verifier": verifier} if verifier else {}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        methods = facts.token_endpoint_auth_methods_supported
        method = next((one for one in methods if one in {"client_secret_basic", "client_secret_post"}), None)
        if method == "client_secret_basic":
            pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"  # encoded first: RFC 6749 §2.3.1
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif method == "client_secret_post":
            form |= {"client_id": provider.client_id, "client_secret": secret}
        else:
            raise SignInError("the sign-in provider takes no client secret, and no other way is known here")
        token = self._asked("POST", facts.token_endpoint, headers, urlencode(form).encode()).get("id_token")
        if not isinstance(token, str):
            raise SignInError(NOT_BELIEVED)
        return token

    def _claims(self, provider: Provider, facts: Discovery, nonce: str, token: str) -> dict[str, Any]:
        """What the token says, when the provider signed it, for us, now, and for this very sign-in."""
        try:
            claims = self._signed(facts.jwks_uri, token)
            jwt.JWTClaimsRegistry(
                now=int(self._clock.now().timestamp()),
                leeway=int(SKEW.total_seconds()),
                iss={"essential": True, "value": provider.issuer},
                aud={"essential": True, "value": provider.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignInError(NOT_BELIEVED) from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else provider.client_id) != provider.client_id:
            raise SignInError(NOT_BELIEVED)
        return claims

    def _signed(self, uri: str, token: str) -> dict[str, Any]:
        """The claims under a signature by one of the provider's keys, which are fetched again for one that is new."""
        registry = JWSRegistry(
            algorithms=ALGORITHMS, strict_check_header=False
        )  # unknown fields: RFC 7515 §4
        try:
            return jwt.decode(token, self._keys_at(uri, KEPT), registry=registry).claims
        except InvalidKeyIdError:
            return jwt.decode(token, self._keys_at(uri, ASKED_AGAIN), registry=registry).claims

    def _session(
        self, provider: Provider, claims: Mapping[str, Any], known: Callable[[str], bool], *, fresh: bool
    ) -> Session:
        now = self._clock.now()
        identities = _identities(provider, claims)
        logged_in_at = _moment(claims.get("auth_time"))
        if logged_in_at and logged_in_at > now + SKEW:
            raise SignInError(NOT_BELIEVED)
        if fresh and (logged_in_at is None or now - logged_in_at > FRESH + SKEW):
            raise SignInError("the sign-in provider did not ask you anew: sign out there and sign in again")
        amr = claims.get("amr")
        email = claims.get("email") if claims.get("email_verified") is True else None
        name = next((claims[one] for one in ("name", "preferred_username", "sub") if claims.get(one)), "")
        return Session(
            identity=next((one for one in identities if known(one)), identities[0]),
            name=plain(str(name), LONGEST_NAME),
            email=email if isinstance(email, str) and _EMAIL.fullmatch(email) else "",
            provider=provider.name,
            signed_in_at=now,
            logged_in_at=logged_in_at and min(logged_in_at, now),
            mfa=isinstance(amr, list) and any(one in provider.amr for one in amr),
            id=new_id(),
        )

    def _asked(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, Any]:
        """The JSON object with which the provider answers, or SignInError."""
        try:
            answer = self._web.request(
                method,
                url,
                headers={"Accept": "application/json", **(headers or {})},
                body=body,
                timeout_seconds=5,
                most_bytes=262_144,
            )
        except DeliveryError as error:
            raise SignInError(NOT_NOW) from error
        document = _json(answer.body) if answer.status == 200 else None  # noqa: PLR2004 -- OK, and nothing else is
        # Raised out here, and not while handling: json's error keeps the whole text, which may hold tokens.
        if not isinstance(document, dict):
            raise SignInError(NOT_NOW)
        return document


def over(sessions: Sessions) -> str:
    """The Set-Cookie line that ends a sign-in that was begun, however it ended."""
    return sessions.cookie(COOKIE, "", timedelta())


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _signs(key: object) -> bool:
    """True for a public key that may sign. A symmetric one in a public list is nobody's signature."""
    return isinstance(key, dict) and key.get("kty") in {"RSA", "EC"} and key.get("use", "sig") == "sig"


def _identities(provider: Provider, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """By what the provider vouches for somebody, the strongest first; never none."""
    if provider.team:
        user = claims.get(f"{SLACK_ISSUER}/user_id")
        if claims.get(f"{SLACK_ISSUER}/team_id") != provider.team:
            raise SignInError("you signed in to another Slack workspace than the one that counts here")
        if not isinstance(user, str) or not _SLACK_USER.fullmatch(user):
            raise SignInError(NOT_BELIEVED)
        return (f"slack:{provider.team}/{user}",)
    if not _SUB.fullmatch(claims["sub"]):
        raise SignInError(NOT_BELIEVED)
    subject = f"oidc:{provider.issuer}#{claims['sub']}"
    email = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(email, str) or not _EMAIL.fullmatch(email):
        return (subject,)
    return subject, f"email:{provider.issuer}#{email.lower()}"


def _moment(value: object) -> datetime | None:
    """A NumericDate of a token; None where there is none."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SignInError(NOT_BELIEVED)
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise SignInError(NOT_BELIEVED) from error


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
