"""A mail box: what the emulated SNS has published, on a page for people. On loopback."""

import html
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self

from local.emulator.world import Mail


class Mailbox:
    """One page, the newest mail first, which reads `mails` anew each time that it is asked for."""

    def __init__(self, mails: Callable[[], Sequence[Mail]], port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler_of(lambda: page(mails())))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"


def page(mails: Sequence[Mail]) -> str:
    """The mails as HTML, everything in them as text."""
    rows = "".join(map(_shown, reversed(mails))) or "<p>Nothing was mailed yet.</p>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>Emulated mail box</title><style>body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;"
        "padding:0 1rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#eee;color:#111;padding:1rem}"
        f"</style><h1>Emulated mail box</h1><p>The newest first. Load the page again for newer ones.</p>{rows}</html>"
    )


def _shown(mail: Mail) -> str:
    topic, owner = mail.topic.rpartition(":")[2], mail.attributes.get("owner", "")
    to = f"the owner, {owner}" if owner else topic
    return (
        f"<details><summary><b>{html.escape(mail.subject)}</b> · to {html.escape(to)}</summary>"
        f"<pre>{html.escape(mail.text)}</pre></details>"
    )


def _handler_of(shows: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = shows().encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_said: object) -> None:
            """Nobody reads it."""

    return Handler
