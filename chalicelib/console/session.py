"""Who is signed in, and whether a form is ours: everything that the console signs instead of storing it.

Each thing that is signed has a purpose, and each purpose a salt: what was signed as one thing is never taken for another.
The newest key signs, the older ones are still believed, so that keys can be changed while people work.
"""

import hashlib
import hmac
import json
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from itsdangerous import BadData, Signer, URLSafeSerializer
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import AwareDatetime, JsonValue, ValidationError

from chalicelib.console.web import Request, Site
from chalicelib.domain.errors import SignInError, StoreError
from chalicelib.domain.finding import Model
from chalicelib.domain.ports import Clock

LASTS = timedelta(minutes=15)
"""A session ends then, used or not."""

LONGEST_COOKIE = 4096
"""Bytes. What browsers keep of a cookie at least (RFC 6265 §6.1); ours are far below."""

SHORTEST_KEY = 32
_SIGNED: MappingProxyType[str, Any] = MappingProxyType(
    {"key_derivation": "hmac", "digest_method": hashlib.sha256}
)
_SEALED = MappingProxyType({"alg": "dir", "enc": "A256GCM"})
_FORM = re.compile(r'application/x-www-form-urlencoded(;\s*charset="?utf-8"?)?', re.IGNORECASE)


class Session(Model):
    """Somebody who signed in: by which identity, through which provider of the policy, when.

    `name` and `email` are what the provider calls them, for showing; only `identity` means anybody. `logged_in_at` and
    `mfa` are what the provider says of the sign-in itself. `id` is new with each sign-in.
    """

    identity: str
    name: str
    email: str
    provider: str
    signed_in_at: AwareDatetime
    logged_in_at: AwareDatetime | None
    mfa: bool
    id: str


def new_id() -> str:
    """256 bits that nobody can guess."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Sessions:
    """Signs and reads for one site, with the keys as the console's secret has them: newest first.

    StoreError without a key of 32 characters or more: then nobody is signed in.
    """

    keys: tuple[str, ...] = field(repr=False)
    clock: Clock
    site: Site

    def __post_init__(self) -> None:
        if not self.keys or min(map(len, self.keys)) < SHORTEST_KEY:
            raise StoreError(
                f"the console's secret has no session key, or one of less than {SHORTEST_KEY} characters"
            )

    # -- the session ---------------------------------------------------------------------------------------------------

    def cookie_of(self, session: Session) -> str:
        """The Set-Cookie line that signs somebody in."""
        return self.cookie("", self.sealed("session", session.model_dump_json()), LASTS)

    def read(self, request: Request) -> Session | None:
        """Who sent the request. None: nobody, or too long ago, or the cookie is forged, or there are two of them."""
        text = self.unsealed("session", request.cookies.get(self.cookie_name(""), ""))
        if not isinstance(text, str):
            return None
        try:
            session = Session.model_validate_json(text)
        except ValidationError:  # signed by an older version of ours
            return None
        return session if self.fresh(session.signed_in_at, LASTS) else None

    def gone(self) -> str:
        """The Set-Cookie line that signs out."""
        return self.cookie("", "", timedelta())

    # -- forms ---------------------------------------------------------------------------------------------------------

    def csrf(self, session: Session, purpose: str, case: str = "", plan_hash: str = "", ask: str = "") -> str:
        """The token of one form: for this sign-in, this purpose, this case, this ask and its plan, and no other."""
        return self._signer().get_signature(_bound(session, purpose, case, plan_hash, ask)).decode()

    def check_post(
        self,
        request: Request,
        session: Session | None,
        purpose: str,
        token: str,
        *,
        case: str = "",
        plan_hash: str = "",
        ask: str = "",
    ) -> None:
        """SignInError unless somebody signed in sent this very form from a page of ours.

        Pages with forms need `Referrer-Policy: same-origin`: under `no-referrer` browsers send `Origin: null` with a form
        (https://fetch.spec.whatwg.org/#append-a-request-origin-header), which is refused here like any foreign origin.
        """
        headers = request.headers
        if session is None:
            raise SignInError("you are not signed in, or no longer: sign in and do it again")
        if not _FORM.fullmatch(headers.get("content-type", "").strip()):
            raise SignInError("this is not a form of ours: nothing was done")
        if headers.get("origin") != self.site.origin or headers.get("sec-fetch-site") not in {
            None,
            "same-origin",
        }:
            raise SignInError(
                "this did not come from a page of ours: nothing was done. Open the page and do it there"
            )
        if not self._signer().verify_signature(
            _bound(session, purpose, case, plan_hash, ask), token.encode(errors="replace")
        ):
            raise SignInError("the page is out of date, or not yours: nothing was done. Load it again")

    # -- paging --------------------------------------------------------------------------------------------------------

    def cursor(self, data: JsonValue) -> str:
        """Where a list goes on, for a link. Nobody else can write one, nor read it: it may name what is out of scope."""
        return jwe.encrypt_compact({**_SEALED}, json.dumps(data), _cursor_key(self.keys[0]))

    def read_cursor(self, text: str) -> JsonValue:
        """What `cursor` was given; None for anything else."""
        for key in self.keys if text.isascii() and len(text) <= LONGEST_COOKIE else ():
            with suppress(JoseError, ValueError, TypeError):  # TypeError: a header of somebody else's making
                data: JsonValue = json.loads(jwe.decrypt_compact(text, _cursor_key(key)).plaintext or b"")
                return data
        return None

    # -- what the above and the sign-in are made of --------------------------------------------------------------------

    def sealed(self, purpose: str, data: JsonValue) -> str:
        """The data, signed for a purpose, as a cookie or a link can carry it."""
        return self._serializer(purpose).dumps(data)

    def unsealed(self, purpose: str, sealed: str) -> JsonValue:
        """What was signed for that purpose, or None. Its age is for the caller to judge."""
        if len(sealed) > LONGEST_COOKIE:
            return None
        try:
            data: JsonValue = self._serializer(purpose).loads(sealed.encode(errors="replace"))
        except BadData:
            return None
        return data

    def cookie(self, name: str, value: str, lasts: timedelta) -> str:
        """A Set-Cookie line. Lax, and not Strict: who comes from a link in Slack is still signed in.

        `__Host-` and Secure go together (RFC 6265bis §4.1.3.2) and are left out on loopback without HTTPS, alone:
        Chromium 156 takes both there, and Safari neither.
        """
        secure = "; Secure" if self.site.secure else ""
        return f"{self.cookie_name(name)}={value}; Path=/; Max-Age={int(lasts.total_seconds())}; HttpOnly; SameSite=Lax{secure}"

    def cookie_name(self, name: str) -> str:
        """`redress`, or `redress-<name>`, with the prefix that keeps other hosts from planting it."""
        return f"{'__Host-' if self.site.secure else ''}redress{f'-{name}' if name else ''}"

    def fresh(self, at: datetime, lasts: timedelta) -> bool:
        """True until `lasts` after `at`."""
        return self.clock.now() - at < lasts

    def _serializer(self, purpose: str) -> URLSafeSerializer:
        return URLSafeSerializer([*reversed(self.keys)], salt=f"redress.{purpose}", signer_kwargs={**_SIGNED})

    def _signer(self) -> Signer:
        return Signer([*reversed(self.keys)], salt="redress.csrf", **_SIGNED)


def _cursor_key(key: str) -> OctKey:
    return OctKey.import_key(hmac.digest(key.encode(), b"redress.cursor", "sha256"))


def _bound(session: Session, purpose: str, case: str, plan_hash: str, ask: str) -> str:
    return json.dumps([session.id, session.identity, purpose, case, plan_hash, ask])
