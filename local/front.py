"""A loopback front door for the console: HTTP in, `Request` and `Reply` out, without Chalice and without a cloud."""

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import parse_qs
from uuid import uuid4
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from chalicelib.console.web import Reply, Request

LONGEST_BODY = 1_000_000


class Front:
    """Serves `reply` on 127.0.0.1, under the prefix that an API's stage would have. A context manager."""

    def __init__(self, reply: Callable[[Request], Reply], *, port: int = 0, prefix: str = "/api") -> None:
        self._reply = reply
        self._prefix = prefix
        self._server = make_server("127.0.0.1", port, self._answer, _Server, _Quiet)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}{prefix}"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = str(environ.get("PATH_INFO", ""))
        if not (path + "/").startswith(f"{self._prefix}/"):
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"nothing here\n"]
        length = min(int(environ.get("CONTENT_LENGTH") or 0), LONGEST_BODY)
        method = environ["REQUEST_METHOD"]
        if method == "HEAD":  # as Chalice answers it
            start("405 Method Not Allowed", [])
            return []
        reply = self._reply(
            Request(
                method=method,
                path=path.removeprefix(self._prefix) or "/",
                query=_once(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
                headers=_headers(environ),
                body=environ["wsgi.input"].read(length),
                request_id=str(uuid4()),
            )
        )
        headers = [*reply.headers.items(), ("Content-Type", reply.content_type)]
        headers += [("Set-Cookie", cookie) for cookie in reply.cookies]
        start(f"{reply.status} _", headers)
        return [reply.body.encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_said: object) -> None:
        """Nothing: whoever runs it has its own screen."""


def _once(given: dict[str, list[str]]) -> MappingProxyType[str, str]:
    return MappingProxyType({name: values[0] for name, values in given.items() if len(values) == 1})


def _headers(environ: dict[str, Any]) -> MappingProxyType[str, str]:
    said = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    return MappingProxyType({**said, "content-type": str(environ.get("CONTENT_TYPE", ""))})
