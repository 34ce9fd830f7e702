"""Botocore sessions that remember every request as it goes out, and who signed it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.session

from tests.fakes.models import quick_session


@dataclass(frozen=True)
class Sent:
    """One request (one try of it) as it goes out: the operation, what was asked, and who signed it for where."""

    service: str
    operation: str
    params: Mapping[str, Any]
    access_key: str
    region: str
    user_agent: str
    url: str


@dataclass
class Ear:
    """Makes sessions whose every client is listened to: `sent` has each request, `made` each client, in order."""

    sent: list[Sent] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    asked: Mapping[str, Any] = field(default_factory=dict)
    hooks: list[tuple[str, Callable[..., Any]]] = field(default_factory=list)

    def on(self, event: str, hook: Callable[..., Any]) -> None:
        """Register `hook` before all others on `event`, in every session made from now on."""
        self.hooks.append((event, hook))

    def session(self) -> botocore.session.Session:
        """A new session with the process's (fake) credentials."""
        session = quick_session()
        events: Any = session.get_component("event_emitter")
        events.register("creating-client-class.*", self._make)
        events.register("provide-client-params.*.*", self._ask)
        # Before moto, which answers on the same event and so ends it.
        events.register_first("before-send.*.*", self._send)
        for event, hook in self.hooks:
            events.register_first(event, hook)
        return session

    def operations(self, service: str | None = None) -> list[str]:
        """The names of what was sent, in order."""
        return [one.operation for one in self.sent if service in {None, one.service}]

    def only(self, operation: str) -> Sent:
        """The one request of this operation."""
        (found,) = (one for one in self.sent if one.operation == operation)
        return found

    def _make(self, event_name: str, **_: object) -> None:
        self.made.append(event_name.removeprefix("creating-client-class."))

    def _ask(self, params: Mapping[str, Any], **_: object) -> None:
        self.asked = dict(params)

    def _send(self, request: Any, event_name: str, **_: object) -> None:
        service, operation = event_name.removeprefix("before-send.").split(".")
        credential = _header(request, "Authorization").split("Credential=")[-1].split("/")
        self.sent.append(
            Sent(
                service=service,
                operation=operation,
                params=self.asked,
                access_key=credential[0],
                region=credential[2],
                user_agent=_header(request, "User-Agent"),
                url=request.url,
            )
        )


def _header(request: Any, name: str) -> str:
    value = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Http:
    """As much of an HTTP response as botocore looks at."""

    status_code: int


def answer(status: int = 200, **body: object) -> tuple[Http, dict[str, Any]]:
    """What a `before-call` hook returns to answer in the service's place."""
    return Http(status), {"ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "req-fake"}, **body}


def refusal(code: str, message: str = "no", status: int = 400) -> tuple[Http, dict[str, Any]]:
    """What a `before-call` hook returns to refuse in the service's place."""
    return answer(status, Error={"Code": code, "Message": message})
