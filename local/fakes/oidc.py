"""An identity provider on loopback, generic or speaking as Slack: people are chosen from a list, and have no passwords.

It is strict where real ones are: a client, redirect address, scope, state, nonce or challenge that is missing or wrong gets
an error page and no redirect; a code counts once, for one client and one redirect address, for a minute. Its faults are the
ways in which a provider, or somebody in its place, may answer wrongly.

    with FakeOidc() as provider:
        provider.add_client("redress", "secret", [f"{console}/login/return"])
        provider.add_person("anna", "Anna Adler", "anna@example.com", mfa=True)
"""

import base64
import hashlib
import hmac
import html
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CODE_SECONDS = 60
_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:22rem;margin:0 auto;padding:1rem}"
    "h1{font-size:1.3rem}p{margin:.5rem 0}button{font:inherit;width:100%;padding:.6rem;cursor:pointer}"
)
TOKEN_SECONDS = 300
SLOW_SECONDS = 8


class Fault(StrEnum):
    """One way to answer wrongly. The claims are wrong under a right signature, or the signature is, or the endpoint."""

    WRONG_AUDIENCE = "wrong audience"
    SEVERAL_AUDIENCES = "several audiences"
    WRONG_AZP = "another authorized party"
    WRONG_ISSUER = "wrong issuer"
    WRONG_NONCE = "wrong nonce"
    NO_NONCE = "no nonce"
    EXPIRED = "expired"
    NO_EXPIRY = "no expiry"
    FROM_THE_FUTURE = "issued in five minutes"
    WRONG_TEAM = "wrong team"
    ALG_NONE = "alg none"
    HS256_WITH_PUBLIC_KEY = "HS256 with the public key"
    FOREIGN_KEY = "signed by another key under our kid"
    TAMPERED = "changed after signing"
    TOKEN_500 = "token endpoint: 500"
    TOKEN_SLOW = "token endpoint: slow"
    TOKEN_HTML = "token endpoint: HTML"
    TOKEN_REDIRECT = "token endpoint: redirect"
    NO_ID_TOKEN = "token endpoint: no id_token"
    WRONG_RESPONSE_ISSUER = "iss of the response"
    DISCOVERY_OF_ANOTHER = "discovery names another issuer"


CLAIMED: Mapping[Fault, Callable[[float], dict[str, Any]]] = {
    Fault.WRONG_AUDIENCE: lambda _: {"aud": "somebody-else"},
    Fault.WRONG_ISSUER: lambda _: {"iss": "https://issuer.example"},
    Fault.WRONG_NONCE: lambda _: {"nonce": "another"},
    Fault.NO_NONCE: lambda _: {"nonce": None},
    Fault.EXPIRED: lambda now: {"iat": int(now) - 3600, "exp": int(now) - 3300},
    Fault.NO_EXPIRY: lambda _: {"exp": None},
    Fault.FROM_THE_FUTURE: lambda now: {"iat": int(now) + 300, "exp": int(now) + 600},
    Fault.WRONG_TEAM: lambda _: {"https://slack.com/team_id": "T0ELSEWHERE"},
    Fault.WRONG_AZP: lambda _: {"azp": "somebody-else"},
}


@dataclass(frozen=True)
class Client:
    """Who may ask: an application with its secret and the addresses to which people come back."""

    secret: str
    redirect_uris: tuple[str, ...]


@dataclass(frozen=True)
class Person:
    """Somebody with an account. `sub` is the user id where Slack is spoken; `team` the workspace there."""

    sub: str
    name: str
    email: str
    mfa: bool = False
    team: str | None = None
    email_verified: bool = True


@dataclass(frozen=True)
class Grant:
    """What a code stands for."""

    person: Person
    asked: Mapping[str, str]
    at: float


@dataclass(frozen=True)
class Said:
    """What goes back over the wire."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The request is not one that a provider may answer; the message says why."""


class FakeOidc:
    """One provider at `issuer`. With `slack`, its paths, claims and errors are those of Sign in with Slack, without PKCE.

    `fault` and `claims` (which replace the token's own; None takes one out) are for tests to set; `seen` are the requests.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        slack: bool = False,
        algorithm: str = "RS256",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.slack = slack
        self.fault: Fault | None = None
        self.claims: dict[str, Any] = {}
        self.discovery: dict[str, Any] = {}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._algorithm = algorithm
        self._now = now
        self._clients: dict[str, Client] = {}
        self._people: dict[str, Person] = {}
        self._grants: dict[str, Grant] = {}
        self._logged_in: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler_of(self))
        self._closing = Event()
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add_client(self, client_id: str, secret: str, redirect_uris: Iterable[str]) -> None:
        self._clients[client_id] = Client(secret, tuple(redirect_uris))

    def add_person(
        self,
        sub: str,
        name: str,
        email: str,
        *,
        mfa: bool = False,
        team: str | None = None,
        email_verified: bool = True,
    ) -> None:
        self._people[sub] = Person(sub, name, email, mfa, team, email_verified)

    def login_as(self, sub: str | None) -> None:
        """From now on this person is signed in already, and the list is not shown; None shows it again."""
        self._logged_in = sub

    def rotate_keys(self) -> None:
        """A new key under a new kid; the old one is no longer published."""
        self._key = self._new_key()

    @cached_property
    def _key(self) -> RSAKey | ECKey:
        return self._new_key()

    # -- the endpoints -------------------------------------------------------------------------------------------------

    @property
    def paths(self) -> dict[str, str]:
        """Where things are, as Slack has it or as one may have it."""
        if self.slack:
            return {
                "authorize": "/openid/connect/authorize",
                "token": "/api/openid.connect.token",
                "keys": "/openid/connect/keys",
            }
        return {"authorize": "/authorize", "token": "/token", "keys": "/keys"}

    def answered(self, method: str, target: str, headers: Mapping[str, str], body: str) -> Said:
        """What a request gets: everything that it may ask is here."""
        path, query = urlsplit(target).path, urlsplit(target).query
        self.seen.append((method, path, {name.lower(): value for name, value in headers.items()}))
        ways: dict[tuple[str, str], Callable[[], Said]] = {
            ("GET", "/.well-known/openid-configuration"): lambda: Said(200, json.dumps(self._document())),
            ("GET", self.paths["keys"]): lambda: Said(200, json.dumps({"keys": [self._public()]})),
            ("GET", self.paths["authorize"]): lambda: self._authorized(_fields(query)),
            ("POST", "/choose"): lambda: self._granted(_fields(body)),
            ("POST", self.paths["token"]): lambda: self._exchanged(_fields(body), headers),
        }
        try:
            return ways.get((method, path), lambda: Said(404, "there is nothing here", "text/plain"))()
        except RefusedError as error:
            return Said(400, f"refused: {error}", "text/plain")

    def _public(self) -> dict[str, Any]:
        return {**self._key.as_dict(private=False), "use": "sig", "alg": self._algorithm}

    def _document(self) -> dict[str, Any]:
        said: dict[str, Any] = {
            "issuer": "https://issuer.example" if self.fault is Fault.DISCOVERY_OF_ANOTHER else self.issuer,
            "authorization_endpoint": self.issuer + self.paths["authorize"],
            "token_endpoint": self.issuer + self.paths["token"],
            "jwks_uri": self.issuer + self.paths["keys"],
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": [self._algorithm],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        }
        if not self.slack:
            said |= {
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        return {**said, **self.discovery}

    def _authorized(self, asked: dict[str, str]) -> Said:
        self._check(asked)
        if self._logged_in is not None:
            return self._granted({**asked, "person": self._logged_in})
        kept = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in asked.items()
        )
        people = "".join(
            f'<p><button name="person" value="{html.escape(one.sub)}">{html.escape(one.name)}</button></p>'
            for one in self._people.values()
            if asked.get("team") in {None, one.team}
        )
        return Said(
            200,
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><title>Sign in</title>'
            f"<style>{_STYLE}</style>"
            f'<h1>Who are you?</h1><form method="post" action="/choose">{kept}{people}</form></html>',
            "text/html; charset=utf-8",
        )

    def _granted(self, asked: dict[str, str]) -> Said:
        self._check(asked)
        person = self._people.get(asked.get("person", ""))
        if person is None or asked.get("team") not in {None, person.team}:
            raise RefusedError("nobody of that name has an account here")
        code = secrets.token_urlsafe(24)
        self._grants[code] = Grant(person, asked, self._now())
        back = {"code": code, "state": asked["state"]}
        if not self.slack:
            wrong = self.fault is Fault.WRONG_RESPONSE_ISSUER
            back["iss"] = "https://issuer.example" if wrong else self.issuer
        return Said(302, "", "text/plain", {"Location": f"{asked['redirect_uri']}?{urlencode(back)}"})

    def _check(self, asked: Mapping[str, str]) -> None:
        client = self._clients.get(asked.get("client_id", ""))
        if client is None:
            raise RefusedError("no such client")
        if asked.get("redirect_uri") not in client.redirect_uris:
            raise RefusedError("that redirect_uri is not registered")
        if asked.get("response_type") != "code":
            raise RefusedError("response_type must be code")
        if "openid" not in asked.get("scope", "").split():
            raise RefusedError("the scope lacks openid")
        if not asked.get("state") or not asked.get("nonce"):
            raise RefusedError("state and nonce are needed")
        challenge = asked.get("code_challenge", "")
        if self.slack:
            if challenge:
                raise RefusedError("there is no PKCE here")
        elif len(challenge) != 43 or asked.get("code_challenge_method") != "S256":  # noqa: PLR2004 -- RFC 7636: SHA-256, base64url
            raise RefusedError("an S256 challenge is needed")

    def _exchanged(self, form: dict[str, str], headers: Mapping[str, str]) -> Said:
        if self.fault is Fault.TOKEN_500:
            return Said(500, '{"error": "server_error"}')
        if self.fault is Fault.TOKEN_HTML:
            return Said(200, "<h1>Down for maintenance</h1>", "text/html")
        if self.fault is Fault.TOKEN_REDIRECT:
            return Said(307, "", "text/plain", {"Location": f"{self.issuer}/elsewhere"})
        if self.fault is Fault.TOKEN_SLOW:
            self._closing.wait(SLOW_SECONDS)
        try:
            grant, client_id = self._redeemed(form, headers)
        except RefusedError as error:
            if self.slack:
                return Said(200, json.dumps({"ok": False, "error": str(error)}))
            return Said(401 if str(error) == "invalid_client" else 400, json.dumps({"error": str(error)}))
        said: dict[str, Any] = {"access_token": secrets.token_urlsafe(24), "token_type": "Bearer"}
        if self.slack:
            said["ok"] = True
        if self.fault is not Fault.NO_ID_TOKEN:
            said["id_token"] = self._token(grant, client_id)
        return Said(200, json.dumps(said), headers={"Cache-Control": "no-store"})

    def _redeemed(self, form: dict[str, str], headers: Mapping[str, str]) -> tuple[Grant, str]:
        """The grant behind a code, which counts once, whatever else is wrong; or RefusedError with OAuth's error code."""
        if headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise RefusedError("invalid_request")
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if scheme := headers.get("Authorization"):
            if secret or not scheme.startswith("Basic "):
                raise RefusedError("invalid_client")  # RFC 6749 §2.3: one method for each request
            pair = base64.b64decode(scheme.removeprefix("Basic ")).decode().partition(":")
            client_id, secret = unquote_plus(pair[0]), unquote_plus(pair[2])
        elif "client_secret_post" not in self._document()["token_endpoint_auth_methods_supported"]:
            raise RefusedError("invalid_client")
        client = self._clients.get(client_id)
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise RefusedError("invalid_client")
        if form.get("grant_type") != "authorization_code":
            raise RefusedError("unsupported_grant_type")
        grant = self._grants.pop(form.get("code", ""), None)
        if (
            grant is None
            or self._now() - grant.at > CODE_SECONDS
            or grant.asked["client_id"] != client_id
            or grant.asked["redirect_uri"] != form.get("redirect_uri")
            or grant.asked.get("code_challenge", "") != _challenge(form.get("code_verifier"))
        ):
            raise RefusedError("invalid_grant")
        return grant, client_id

    # -- the token -----------------------------------------------------------------------------------------------------

    def _token(self, grant: Grant, client_id: str) -> str:
        now, person = self._now(), grant.person
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": person.sub,
            "aud": client_id,
            "iat": int(now),
            "exp": int(now) + TOKEN_SECONDS,
            "auth_time": int(now),
            "nonce": grant.asked["nonce"],
            "name": person.name,
            "email": person.email,
            "email_verified": person.email_verified,
        }
        if self.slack:
            claims |= {"https://slack.com/user_id": person.sub, "https://slack.com/team_id": person.team}
        else:
            claims["amr"] = ["pwd", "otp", "mfa"] if person.mfa else ["pwd"]
        if self.fault in {Fault.SEVERAL_AUDIENCES, Fault.WRONG_AZP}:
            claims["aud"] = [client_id, "somebody-else"]
        claims |= CLAIMED[self.fault](now) if self.fault and self.fault in CLAIMED else {}
        claims |= self.claims
        return self._signed({name: value for name, value in claims.items() if value is not None})

    def _signed(self, claims: dict[str, Any]) -> str:
        header = {"alg": self._algorithm, "kid": self._key.kid, "typ": "JWT"}
        if self.fault is Fault.ALG_NONE:
            return f"{_part({**header, 'alg': 'none'})}.{_part(claims)}."
        if self.fault is Fault.HS256_WITH_PUBLIC_KEY:
            signed = f"{_part({**header, 'alg': 'HS256'})}.{_part(claims)}"
            public = self._key.as_pem(private=False)
            return f"{signed}.{_base64(hmac.digest(public, signed.encode(), 'sha256'))}"
        key = self._new_key() if self.fault is Fault.FOREIGN_KEY else self._key
        token = jwt.encode(header, claims, key, algorithms=[self._algorithm])
        if self.fault is Fault.TAMPERED:
            head, _, signature = token.split(".")
            return f"{head}.{_part({**claims, 'sub': 'root'})}.{signature}"
        return token

    def _new_key(self) -> RSAKey | ECKey:
        kid = secrets.token_hex(4)
        if self._algorithm == "ES256":
            return ECKey.generate_key("P-256", {"kid": kid})
        return RSAKey.generate_key(2048, {"kid": kid})


def _handler_of(provider: FakeOidc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())

        def _answer(self, body: str) -> None:
            said = provider.answered(self.command, self.path, dict(self.headers.items()), body)
            content = said.body.encode()
            self.send_response(said.status)
            self.send_header("Content-Type", said.content_type)
            self.send_header("Content-Length", str(len(content)))
            for name, value in said.headers.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # whoever asked did not wait
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's own name for it
            """Nothing: addresses hold codes."""

    return Handler


def _fields(text: str) -> dict[str, str]:
    """The fields of a query or form, each at most once (RFC 6749 §3.1)."""
    found = parse_qs(text, keep_blank_values=True)
    if any(len(values) > 1 for values in found.values()):
        raise RefusedError("a parameter is given twice")
    return {name: values[0] for name, values in found.items()}


def _challenge(verifier: str | None) -> str:
    return _base64(hashlib.sha256(verifier.encode()).digest()) if verifier else ""


def _part(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
