"""Somebody's own receiver of signed webhooks. It can be told and not asked.

The signature covers the time and the exact body, and is made anew for each attempt: a receiver refuses what is older than
some minutes, and takes what has an idempotency key that it knows as done. `docs/tickets.md` shows how to check it.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from chalicelib.adapters.tickets.exchange import Exchange
from chalicelib.adapters.web import Outward
from chalicelib.delivery import documents
from chalicelib.domain.delivery import Remote
from chalicelib.domain.errors import AmbiguousError, LaterError, UnreachableError
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Clock
from chalicelib.domain.ticket import Ticket

SHORTEST_KEY = 32


class Webhook:
    """`domain.delivery.TicketSystem`. `at` is the receiver's address, option `host` the one host that it may be at.

    Credentials: `secret`, of 32 characters at least. The host is named twice on purpose: who changes where it goes changes
    it in both places. That it is no address of ours is the guard of `adapters.web`.
    """

    def __init__(
        self, integration: Integration, credentials: Mapping[str, str], web: Outward, clock: Clock
    ) -> None:
        self._name = integration.name
        host = urlsplit(integration.at or "").hostname
        if not integration.at or host != integration.options.get("host", "").lower():
            raise UnreachableError(
                f"{self._name}: a webhook needs `at`, and its host once more as option `host`"
            )
        secret = credentials.get("secret", "")
        if len(secret) < SHORTEST_KEY:
            raise UnreachableError(
                f"{self._name}: the notifier's secret has no `secret` of {SHORTEST_KEY} characters or more under this name"
            )
        self._web = Exchange(self._name, web, {}, (secret,))
        self._at = integration.at
        self._secret = secret.encode()
        self._clock = clock

    def create(self, ticket: Ticket, key: str) -> Remote:
        try:
            self._send(documents.event(ticket, "opened", key))
        except AmbiguousError as unclear:
            # Told twice is told once, by the idempotency key: there is nothing to look for before the next attempt.
            raise LaterError(str(unclear), unclear.retry_after) from unclear
        return Remote(key=key, url="", closed=False)

    def find(self, key: str) -> Remote | None:  # noqa: ARG002 -- the port's
        return None

    def update(self, remote: str, ticket: Ticket) -> None:
        self._send(documents.event(ticket, "updated", remote))

    def reopen(self, remote: str, ticket: Ticket) -> None:
        self._send(documents.event(ticket, "reopened", remote))

    def close(self, remote: str, ticket: Ticket) -> None:
        self._send(documents.event(ticket, "closed", remote))

    def look(self, remote: str) -> Remote:
        raise UnreachableError(f"{self._name}: a webhook's receiver cannot be asked about {remote}")

    def _send(self, event: Mapping[str, Any]) -> None:
        body = json.dumps(event, separators=(",", ":")).encode()
        at = int(self._clock.now().timestamp())
        self._web.ask(
            "POST",
            self._at,
            body,
            creates=True,
            headers={
                "X-Signature": signature(self._secret, at, body),
                "Idempotency-Key": str(event["id"]),
            },
            reads=False,
        )


def signature(secret: bytes, at: int, body: bytes) -> str:
    """`t=<seconds since 1970>,v1=<hex HMAC-SHA256 of "<t>.<body>">`."""
    return f"t={at},v1={hmac.new(secret, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"
