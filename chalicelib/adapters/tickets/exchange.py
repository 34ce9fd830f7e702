"""One request to a ticket system and what its answer means, the same for all that speak HTTP and JSON."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from chalicelib.adapters.web import Answer, Outward
from chalicelib.delivery.escape import plain
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    RejectedError,
    UnreachableError,
)
from chalicelib.domain.shape import is_mapping, mapping, sequence

TIMEOUT_SECONDS = 10
MOST_BYTES = 4 * 1024 * 1024
"""Of an answer. A page of GitHub's issues with the longest texts is the longest that we ask for."""

LATER_SECONDS = 60
"""When the other side is busy and does not say for how long. GitHub asks for a minute at least."""

LONGEST_LATER_SECONDS = 3600
LONGEST_REASON = 200
ADVICE = MappingProxyType(
    {
        401: "put a credential that is valid into the notifier's secret, under this name",
        403: "give the credential's account the right to create and edit tickets",
        404: "look at the integration's `at` and `project`, and who may see them",
        410: "look at the integration's `at` and `project`: what was there is gone",
    }
)
"""What somebody has to do, by status."""
SHORTEST_SECRET = 6


class Exchange:
    """Requests of one integration. Errors are those of `TicketSystem`; no message holds a credential, even one sent back to us."""

    def __init__(
        self, name: str, web: Outward, headers: Mapping[str, str], secrets: Iterable[str] = ()
    ) -> None:
        self._name = name
        self._web = web
        self._headers = {"Accept": "application/json", "User-Agent": "redress", **headers}
        # Longest first: one may be part of another.
        kept = {*secrets, *headers.values()}
        self._secrets = sorted((one for one in kept if len(one) >= SHORTEST_SECRET), key=len, reverse=True)

    def ask(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        creates: bool = False,
        headers: Mapping[str, str] | None = None,
        reads: bool = True,
    ) -> Any:  # noqa: ANN401 -- JSON of whatever shape
        """The JSON of a 2xx answer, None when it has no body or is not to be read; else the error that its status means.

        With `creates`, a failure of the other side is ambiguous unless it says that it did nothing (429, or 503 with
        Retry-After). https://www.rfc-editor.org/rfc/rfc9110#section-15.6
        """
        sent = json.dumps(body).encode() if is_mapping(body) else body
        answer = self._web.request(
            method,
            url,
            headers={
                **self._headers,
                **({"Content-Type": "application/json"} if sent else {}),
                **(headers or {}),
            },
            body=sent if isinstance(sent, bytes) else None,
            timeout_seconds=TIMEOUT_SECONDS,
            most_bytes=MOST_BYTES,
        )
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise self._error(answer, creates=creates)
        if not reads or not answer.body.strip():
            return None
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as unreadable:
            raise self.unclear("its answer is no JSON", creates=creates) from unreadable

    def unclear(self, what: str, *, creates: bool) -> LaterError:
        """For a 2xx answer that is not what it should be: the request was taken, and we cannot say how."""
        kind = AmbiguousError if creates else LaterError
        return kind(f"{self._name}: {what}; is `at` the address of its API?", LATER_SECONDS)

    def _error(self, answer: Answer, *, creates: bool) -> DeliveryError:
        status = answer.status
        said = f"{self._name}: {status}{self._reason(answer.body)}"
        wait = _seconds(answer.headers)
        asked = status == HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in answer.headers
        # GitHub says 403 for its secondary limits:
        # https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
        if status == HTTPStatus.TOO_MANY_REQUESTS or asked or (status == HTTPStatus.FORBIDDEN and wait):
            return LaterError(f"{said}: asked to wait", wait or LATER_SECONDS)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = AmbiguousError if creates else LaterError
            return kind(said, wait or LATER_SECONDS)
        if status < HTTPStatus.BAD_REQUEST:
            return UnreachableError(f"{said}: set `at` to the address that it redirects to")
        if advice := ADVICE.get(status):
            return UnreachableError(f"{said}: {advice}")
        return RejectedError(said)

    def _reason(self, body: bytes) -> str:
        """What the system says, on one line, without our credentials."""
        text = body[:65536].decode("utf-8", "replace")
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError):
            whole = None
        if is_mapping(whole):
            text = "; ".join(_words(whole))
        for secret in self._secrets:
            text = text.replace(secret, "[credential]")
        return f" ({plain(text, LONGEST_REASON)})" if text.strip() else ""


def _words(answer: Mapping[str, Any]) -> Iterable[str]:
    """The reasons of Jira (`errorMessages`, `errors` by field), GitHub (`message`, `errors`) and ServiceNow (`error`)."""
    yield from (str(one) for one in sequence(answer.get("errorMessages")))
    yield from (f"{name}: {one}" for name, one in mapping(answer.get("errors")).items())
    yield from (json.dumps(one) for one in sequence(answer.get("errors")))
    error = mapping(answer.get("error"))
    yield from (str(one) for one in (answer.get("message"), error.get("message"), error.get("detail")) if one)


def _seconds(headers: Mapping[str, str]) -> int:
    """For how long we are asked to wait, by the other side's own clock; 0 when it does not say."""
    asked = headers.get("retry-after", "")
    if asked.isdecimal():
        return _within(int(asked[:9]))
    then, now = _date(asked), _date(headers.get("date", ""))
    if then and now:
        return _within(int((then - now).total_seconds()))
    if asked or headers.get("x-ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset", "")
        return _within(int(reset[:12]) - int(now.timestamp())) if reset.isdecimal() and now else LATER_SECONDS
    return 0


def _within(seconds: int) -> int:
    return min(max(1, seconds), LONGEST_LATER_SECONDS)


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
