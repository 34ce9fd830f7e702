"""The blueprint: Chalice's requests become ours, and our replies Chalice's. Nothing is decided here.

Event handlers are never declared here: Chalice would run them past app.py's middleware (ARCHITECTURE §4).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from chalice.app import Blueprint, Response
from chalice.app import Request as ChaliceRequest

from chalicelib.console import hooks, render, slack
from chalicelib.console.desk import Desk
from chalicelib.console.hooks import Heard
from chalicelib.console.pages import door
from chalicelib.console.slack import Counter
from chalicelib.console.web import Reply, Request
from chalicelib.domain.errors import StoreError

FORM = "application/x-www-form-urlencoded"
PRESSES, HOOKS = "/slack/interactions", "/hooks/{integration}"


class Replies(Protocol):
    """What answers requests: a `Console`."""

    def reply(self, request: Request) -> Reply:
        """What the request deserves."""
        ...


@dataclass(frozen=True)
class Console:
    """All that the console needs: the pages' desk, Slack's counter, and who hears of tickets that moved elsewhere."""

    desk: Desk
    counter: Counter
    hook_secrets: Callable[[str], Iterable[str]]
    heard: Callable[[Heard], None]

    def reply(self, request: Request) -> Reply:
        """What the request deserves, whichever way it came."""
        if request.path == PRESSES:
            return slack.interaction(request, self.counter)
        before, _, name = request.path.rpartition("/")
        if before == "/hooks":
            return self._hooked(name, request)
        return door.reply(self.desk, request)

    def _hooked(self, name: str, request: Request) -> Reply:
        try:
            setting = self.desk.store.policy()
            known = setting.policy.integrations if setting else ()
            integration = next((one for one in known if one.name == name), None)
            secrets = self.hook_secrets(name) if integration else ()
            return hooks.hook(request, integration, secrets, self.desk.clock.now(), self.heard)
        except StoreError:
            return render.plain(None, 503, "Not now; send it again.")


def routes(console: Callable[[], Replies]) -> Blueprint:
    """The blueprint that app.py registers; `console` is `bootstrap.console`, asked for at the first request."""
    blueprint = Blueprint(__name__)
    addresses: dict[tuple[str, str], None] = {("GET", "/static/{name}"): None}
    addresses |= {(method, path): None for method, path, _ in door.OPEN}
    addresses |= {(route.method, route.path): None for route in door.ROUTES}
    for method, path in addresses:
        _register(blueprint, console, method, path, FORM if method == "POST" else "")
    _register(blueprint, console, "POST", PRESSES, FORM)
    _register(blueprint, console, "POST", HOOKS, "application/json")
    return blueprint


def _register(
    blueprint: Blueprint, console: Callable[[], Replies], method: str, path: str, content_type: str
) -> None:
    def view(**_parts: str) -> Response:
        return response_of(console().reply(request_of(blueprint.current_request, path)))

    more = {"content_types": [content_type]} if content_type else {}
    blueprint.route(path, methods=[method], name=f"{method} {path}", **more)(view)


def request_of(request: ChaliceRequest, path: str) -> Request:
    """A Chalice request for the route `path`, as our pages know it; what is given twice has no value at all."""
    event: Mapping[str, Any] = request.to_original_event()
    body = request.raw_body or b""
    return Request(
        method=request.method,
        path=path.format(**(request.uri_params or {})),
        query=_once(event.get("multiValueQueryStringParameters")),
        headers=_once(_every(event)),
        body=body if isinstance(body, bytes) else body.encode(),
        request_id=str(request.context.get("requestId", "")),
    )


def _once(given: object) -> Mapping[str, str]:
    """Names in lower case, with the one value that each has. Two spellings of a name are the same name."""
    found: dict[str, list[str]] = {}
    if isinstance(given, dict):
        for name, values in given.items():
            found.setdefault(str(name).lower(), []).extend(values or [""])
    return MappingProxyType({name: values[0] for name, values in found.items() if len(values) == 1})


def _every(event: Mapping[str, Any]) -> object:
    """All values of each header. Chalice's own server tells of one only; API Gateway of all."""
    if event.get("multiValueHeaders") is not None:
        return event["multiValueHeaders"]
    return {name: [value] for name, value in event["headers"].items()}


def response_of(reply: Reply) -> Response:
    """Our reply as Chalice sends it; several cookies are several headers."""
    headers: dict[str, str | list[str]] = {**reply.headers, "Content-Type": reply.content_type}
    if reply.cookies:
        headers["Set-Cookie"] = [*reply.cookies]
    return Response(reply.body, headers, reply.status)
