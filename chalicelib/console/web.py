"""A request and a reply, as the console's rooms know them: no Chalice, no Lambda. `routes.py` translates at the door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from uuid import uuid4


def request_id_of(context: Mapping[str, object]) -> str:
    """A name for one request, which nobody else can give to another: ours, then API Gateway's own, as its log has it.

    Never its `requestId`, which is whatever the client sends as X-Amzn-RequestId.
    (docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-variables-for-access-logging.html)
    """
    theirs = context.get("extendedRequestId")
    return f"{uuid4()}:{theirs}" if theirs else str(uuid4())


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are lower-case; of a field or parameter that is given twice there is no value at all.

    `path` is without the stage prefix; `request_id` is `request_id_of`'s.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    body: bytes = b""
    request_id: str = ""

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies by name. A name that comes twice is left out: somebody planted one of them."""
        found: dict[str, list[str]] = {}
        for part in self.headers.get("cookie", "").split(";"):
            name, separator, value = part.strip().partition("=")
            if separator:
                found.setdefault(name, []).append(value)
        return MappingProxyType({name: values[0] for name, values in found.items() if len(values) == 1})


@dataclass(frozen=True)
class Reply:
    """One answer: status, type, body, further headers, cookies as whole Set-Cookie lines."""

    status: int
    body: str = ""
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """Where the console is: its origin (`https://…`, no slash) and the prefix of its paths (`/api`, or empty).

    From the deployment's settings, never from a request: a Host header is whatever its sender likes.
    """

    origin: str
    prefix: str = ""

    def url(self, path: str) -> str:
        """The whole address of one of our paths, for messages."""
        return f"{self.origin}{self.prefix}{path}"

    def at(self, path: str) -> str:
        """One of our paths as a page links to it."""
        return f"{self.prefix}{path}"

    @property
    def secure(self) -> bool:
        """True behind HTTPS, where cookies carry the `__Host-` prefix. Only the emulated world on loopback does without."""
        return self.origin.startswith("https://")
