"""A mail box: what the emulated SNS has published, on a page for people. On loopback."""

import html
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from local.emulator.world import Mail
from local.fakes.loopback import Loopback, framed


class Mailbox(Loopback):
    """One page, the newest mail first, which reads `mails` anew each time that it is asked for."""

    def __init__(self, mails: Callable[[], Sequence[Mail]], port: int = 0) -> None:
        super().__init__(port, _handler_of(lambda: page(mails())))


def page(mails: Sequence[Mail]) -> str:
    """The mails as HTML, everything in them as text."""
    rows = "".join(map(_shown, reversed(mails))) or "<p>Nothing was mailed yet.</p>"
    return framed("Emulated mail box", f"<p>The newest first. Load the page again for newer ones.</p>{rows}")


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
