"""The blueprint: Chalice's requests become ours, and our replies Chalice's. Nothing is decided here.

Event handlers are never declared here: Chalice would run them past app.py's middleware (ARCHITECTURE §4).
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from chalice.app import Blueprint, Response
from chalice.app import Request as ChaliceRequest

from chalicelib.console.addresses import FORMS, PAGES, SIGNED

if TYPE_CHECKING:
    from chalicelib.bootstrap import Front
    from chalicelib.console.web import Reply, Request

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


class Replies(Protocol):
    """What answers requests: a `reception.Console`."""

    def reply(self, request: "Request") -> "Reply":
        """What the request deserves."""
        ...


def deployed(front: "Callable[[], Front]") -> Callable[[], Replies]:
    """The console as it is deployed, built at the first request and kept."""

    @cache
    def console() -> Replies:
        from chalicelib.console.built import console_of  # noqa: PLC0415 -- what pages need is for requests to pages

        return console_of(front())

    return console


def routes(console: Callable[[], Replies]) -> Blueprint:
    """The blueprint that app.py registers; `console` is asked for at the first request.

    Every function of ours imports this module, and one of them serves pages: nothing that pages need is imported here.
    """
    blueprint = Blueprint(__name__)
    for path in (*PAGES, *FORMS):
        _register(blueprint, console, "GET", path, "")
    for path in FORMS:
        _register(blueprint, console, "POST", path, FORM)
    for path, content_type in zip(SIGNED, (FORM, JSON), strict=True):
        _register(blueprint, console, "POST", path, content_type)
    return blueprint


def _register(
    blueprint: Blueprint, console: Callable[[], Replies], method: str, path: str, content_type: str
) -> None:
    def view(**_parts: str) -> Response:
        return response_of(console().reply(request_of(blueprint.current_request, path)))

    more = {"content_types": [content_type]} if content_type else {}
    blueprint.route(path, methods=[method], name=f"{method} {path}", **more)(view)


def request_of(request: ChaliceRequest, path: str) -> "Request":
    """A Chalice request for the route `path`, as our pages know it; what is given twice has no value at all."""
    from chalicelib.console.web import Request, request_id_of  # noqa: PLC0415 -- what pages need is for requests to pages

    event: Mapping[str, Any] = request.to_original_event()
    body = request.raw_body or b""
    return Request(
        method=request.method,
        path=path.format(**(request.uri_params or {})),
        query=_once(event.get("multiValueQueryStringParameters")),
        headers=_once(_every(event)),
        body=body if isinstance(body, bytes) else body.encode(),
        request_id=request_id_of(request.context),
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


def response_of(reply: "Reply") -> Response:
    """Our reply as Chalice sends it; several cookies are several headers."""
    headers: dict[str, str | list[str]] = {**reply.headers, "Content-Type": reply.content_type}
    if reply.cookies:
        headers["Set-Cookie"] = [*reply.cookies]
    return Response(reply.body, headers, reply.status)
