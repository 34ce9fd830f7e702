"""API Gateway as a browser and Slack meet it: who asks from where, and what was given twice.

MiniStack takes the caller's address from a header that the caller writes, joins repeated headers and tells the first of
repeated parameters; AWS knows the address, and tells the last of each and, beside it, all of them.
"""
# ruff: noqa: ANN401 - what MiniStack hands out has no types

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from local.emulator import names

_FORWARDED: Final = "x-forwarded-for"


@dataclass(frozen=True, slots=True)
class Came:
    """A request as it came over the wire: header lines in order, and the address at the other end."""

    headers: tuple[tuple[str, str], ...]
    address: str


_CAME: ContextVar[Came | None] = ContextVar("redress_came", default=None)


@contextmanager
def coming(came: Came) -> Iterator[None]:
    """What is called inside answers this request."""
    token = _CAME.set(came)
    try:
        yield
    finally:
        _CAME.reset(token)


def patch() -> None:
    """Mend the event that MiniStack makes of a request to a REST API."""
    build = names.PROXY_EVENT.get()

    def built(*given: Any, **named: Any) -> Any:
        event, came = build(*given, **named), _CAME.get()
        return event if came is None else _as_aws_tells(event, came)

    names.PROXY_EVENT.put(built)


def _as_aws_tells(event: Mapping[str, Any], came: Came) -> dict[str, Any]:
    lines: dict[str, list[str]] = {}
    for name, value in came.headers:
        lines.setdefault(name, []).append(value)
    # AWS writes the address it sees behind those that it was told.
    lines[_FORWARDED] = [", ".join([*lines.get(_FORWARDED, []), came.address])]
    asked = event["multiValueQueryStringParameters"]
    context = event["requestContext"]
    identity = {**context["identity"], "sourceIp": came.address}
    return {
        **event,
        "headers": {name: values[-1] for name, values in lines.items()},
        "multiValueHeaders": lines,
        "queryStringParameters": asked and {name: values[-1] for name, values in asked.items()},
        "requestContext": {**context, "identity": identity},
    }
