"""A loopback Slack that bites: it takes what Slack takes, refuses what Slack refuses, and crawls every link at once.

Never shipped. Tests and `make up` run on it; `/` shows its channels to a person, who clicks through an approval there.
Facts: docs.slack.dev (Block Kit reference, rate limits, verifying requests), and APPROVALS_AUDIT_SAFETY §2.1.
"""

import hashlib
import hmac
import html
import http.client
import json
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType, TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

TEAM = "T0REDRESS"
APP = "A0REDRESS"
BOT = "B0REDRESS"
MINUTE = 60
CRAWLER = "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"
PER_MINUTE = MappingProxyType(
    {
        "chat.update": 50,
        "users.info": 100,
        "auth.test": 300,
        "chat.postMessage": 3000,
    }
)
"""Requests a minute of each method: tiers 3 and 4; the last two are Slack's "hundreds" and "several hundred"."""

FORM_ONLY = frozenset({"users.info"})
"""Methods that read take no JSON."""

ARGUMENTS = MappingProxyType(
    {
        "auth.test": frozenset[str](),
        "chat.postMessage": frozenset(
            [
                "channel",
                "text",
                "blocks",
                "parse",
                "link_names",
                "unfurl_links",
                "unfurl_media",
                "thread_ts",
                "metadata",
                "mrkdwn",
            ]
        ),
        "chat.update": frozenset(["channel", "ts", "text", "blocks", "parse", "link_names", "metadata"]),
        "users.info": frozenset({"user"}),
    }
)
LONGEST_TEXT, LONGEST_BLOCKS, MOST_BLOCKS, MOST_REPLIES = 40_000, 13_200, 50, 5
Fault = Literal["500", "html", "slow", "lost", "dead", "fatal_error"]
"""What may happen to one request: a failing server, a page in place of an answer, a late answer, no answer though it was
done, no answer and nothing done, and an error of which Slack says that some of it may be done."""


@dataclass
class Message:
    """A message as it stands. `edits` counts updates; `arguments` are those of the request that posted it."""

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    thread: str | None
    arguments: Mapping[str, Any]
    edits: int = 0
    editable: bool = True

    @property
    def shown(self) -> str:
        """Every text of every block, as a reader sees them."""
        return "\n".join(_texts(self.blocks))

    def buttons(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The buttons, each with the id of its block."""
        for place, block in enumerate(self.blocks):
            if block["type"] == "actions":
                yield from ((block.get("block_id", f"b{place}"), one) for one in block["elements"])


@dataclass
class Channel:
    """A channel, and whether the app may post there."""

    id: str
    name: str
    archived: bool = False
    joined: bool = True
    messages: list[Message] = field(default_factory=list)


class Crawl(NamedTuple):
    """One visit of the crawler: `status` is None where nobody answered, or the link leads off this machine."""

    method: str
    url: str
    status: int | None


class Ephemeral(NamedTuple):
    """A text that one user alone sees."""

    user: str
    text: str


class Pressed(NamedTuple):
    """What our side answered to a press."""

    status: int
    body: str


class FakeSlack:
    """One workspace with one app. A context manager; `api` is the base URL for the app, `url` the page for people.

    `clock` is a Unix time, for limits, timestamps and signatures. `pace` switches the limits; bursts are not granted.
    """

    def __init__(
        self,
        port: int = 0,
        interactions_url: str | None = None,
        clock: Callable[[], float] = time.time,
        *,
        pace: bool = True,
    ) -> None:
        self.interactions_url = interactions_url
        self.clock = clock
        self.pace = pace
        self.token = f"xoxb-{secrets.token_hex(12)}"
        self.signing_secret = secrets.token_hex(16)
        self.revoked = False
        self.slow_seconds = 1.0
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.ephemerals: list[Ephemeral] = []
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, dict[str, Any]] = {}
        self._faults: deque[Fault] = deque()
        self._paused_until = 0.0
        self._calls: dict[str, deque[float]] = {}
        self._last_post: dict[str, float] = {}
        self._replies: dict[str, list[str]] = {}
        self._last_request: tuple[bytes, dict[str, str]] | None = None
        self._serial = 0
        self._lock = threading.RLock()
        self._crawlers = ThreadPoolExecutor(4, "crawler")
        self._crawls: list[Future[Crawl]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.slack = self  # type: ignore[attr-defined]  # the handler is made anew for each request
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._crawlers.shutdown(wait=True)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def api(self) -> str:
        """The base URL of the Web API."""
        return f"{self.url}api/"

    # -- what a test or `make up` sets --------------------------------------------------------------------------------

    def add_channel(
        self, channel: str, name: str = "security", *, archived: bool = False, joined: bool = True
    ) -> None:
        """A channel by its id."""
        self.channels[channel] = Channel(channel, name, archived=archived, joined=joined)

    def add_user(self, user: str, name: str = "somebody", *, team: str = TEAM, **flags: bool) -> None:
        """A member, or by flags (`deleted`, `is_bot`, `is_restricted`, `is_ultra_restricted`, `is_stranger`) another."""
        usual = {"deleted": False, "is_bot": False, "is_restricted": False, "is_ultra_restricted": False}
        self.users[user] = {"id": user, "team_id": team, "name": name, "real_name": name, **usual, **flags}

    def fail(self, *faults: Fault) -> None:
        """The next API requests end so, in this order."""
        self._faults.extend(faults)

    def pause(self, seconds: float) -> None:
        """Every API request is answered 429 for so long."""
        self._paused_until = self.clock() + seconds

    def delete(self, channel: str, ts: str) -> None:
        """Somebody deletes the message."""
        self.channels[channel].messages = [one for one in self.messages(channel) if one.ts != ts]

    # -- what a test asks ----------------------------------------------------------------------------------------------

    def messages(self, channel: str) -> list[Message]:
        """The channel's messages and replies, in the order in which they came."""
        return self.channels[channel].messages

    def message(self, channel: str, ts: str) -> Message | None:
        """The message of that timestamp."""
        return next((one for one in self.channels[channel].messages if one.ts == ts), None)

    def crawled(self) -> list[Crawl]:
        """Every visit of the crawler, once all are made."""
        return [one.result(timeout=20) for one in list(self._crawls)]

    # -- people press buttons ------------------------------------------------------------------------------------------

    def payload(self, channel: str, ts: str, action_id: str, user: str) -> dict[str, Any]:
        """The payload of a press, as Slack makes it. KeyError when there is no such button, which nobody could press."""
        message = self.message(channel, ts)
        found = {one["action_id"]: (block, one) for block, one in message.buttons()} if message else {}
        block, button = found[action_id]
        with self._lock:
            self._serial += 1
            reply = f"{self._serial}-{secrets.token_hex(8)}"
            self._replies[reply] = [user]
        known = self.users.get(user, {"name": "somebody", "team_id": TEAM})
        pressed = {
            key: button[key]
            for key in ("action_id", "text", "value", "url", "style", "confirm")
            if key in button
        }
        return {
            "type": "block_actions",
            "user": {
                "id": user,
                "username": known["name"],
                "name": known["name"],
                "team_id": known["team_id"],
            },
            "api_app_id": APP,
            "token": "deprecated",
            "container": {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": False},
            "trigger_id": f"{self._serial}.{secrets.token_hex(4)}",
            "team": {"id": TEAM, "domain": "redress"},
            "enterprise": None,
            "is_enterprise_install": False,
            "channel": {"id": channel, "name": self.channels[channel].name},
            "message": {"type": "message", "bot_id": BOT, "ts": ts, "text": message.text if message else ""},
            "state": {"values": {}},
            "response_url": f"{self.url}actions/{TEAM}/{reply}",
            "actions": [{"type": "button", "block_id": block, "action_ts": f"{self.clock():.6f}", **pressed}],
        }

    def press(
        self,
        channel: str,
        ts: str,
        action_id: str,
        user: str,
        *,
        late_by: float = 0,
        how: Literal["honest", "forged", "reencoded", "non_ascii", "unsigned"] = "honest",
    ) -> Pressed:
        """A person presses a button. `late_by` seconds lie between signature and arrival; `how` is an attacker's way."""
        body = urlencode({"payload": json.dumps(self.payload(channel, ts, action_id, user))}).encode()
        headers = self.sign(body, self.clock() - late_by)
        if how == "forged":
            headers = self.sign(body, self.clock() - late_by, secret="somebody else's")
        elif how == "reencoded":  # the same fields, in other bytes than those that were signed
            body = body.replace(b"+", b"%20")
        elif how == "non_ascii":
            headers["X-Slack-Signature"] = "v0=" + "é" * 64
        elif how == "unsigned":
            headers = {key: value for key, value in headers.items() if not key.startswith("X-Slack")}
        return self.send(body, headers)

    def sign(self, body: bytes, at: float, secret: str | None = None) -> dict[str, str]:
        """The headers of a request with that body."""
        over = b"v0:" + str(int(at)).encode() + b":" + body
        signature = hmac.new((secret or self.signing_secret).encode(), over, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/x-www-form-urlencoded",
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": str(int(at)),
            "X-Slack-Signature": f"v0={signature}",
        }

    def send(self, body: bytes, headers: dict[str, str]) -> Pressed:
        """One request to the app's interactions URL."""
        if self.interactions_url is None:
            return Pressed(0, "This app is not configured to handle interactive responses")
        self._last_request = (body, headers)
        place = urlsplit(self.interactions_url)
        if place.hostname not in {"127.0.0.1", "localhost"}:
            raise ValueError(f"{self.interactions_url} is not on this machine")
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
        try:
            given = {key: value.encode("latin-1") for key, value in headers.items()}
            connection.request("POST", place.path, body, given)
            answer = connection.getresponse()
            return Pressed(answer.status, answer.read().decode())
        finally:
            connection.close()

    def replay(self) -> Pressed:
        """The last request again, byte for byte."""
        if self._last_request is None:
            raise ValueError("nothing was sent yet")
        return self.send(*self._last_request)

    # -- the Web API ---------------------------------------------------------------------------------------------------

    def take_fault(self) -> Fault | None:
        """What happens to the request that just came."""
        with self._lock:
            return self._faults.popleft() if self._faults else None

    def limited(self, method: str, channel: str) -> int | None:
        """Seconds to wait, or None: once a second in a channel, so many a minute of a method."""
        with self._lock:
            now = self.clock()
            if now < self._paused_until:
                return max(1, round(self._paused_until - now))
            if not self.pace:
                return None
            if method == "chat.postMessage" and now - self._last_post.get(channel, 0.0) < 1:
                return 1
            calls = self._calls.setdefault(method, deque())
            while calls and now - calls[0] >= MINUTE:
                calls.popleft()
            if len(calls) >= PER_MINUTE[method]:
                return max(1, round(MINUTE - (now - calls[0])))
            calls.append(now)
            if method == "chat.postMessage":
                self._last_post[channel] = now
            return None

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a method answers to somebody who is let in."""
        with self._lock:
            self.requests.append((method, arguments))
            unknown = sorted({*arguments} - ARGUMENTS[method])
            if unknown:
                return _no("invalid_arguments", [f"[ERROR] unknown arguments: {', '.join(unknown)}"])
            match method:
                case "auth.test":
                    return {
                        "ok": True,
                        "url": self.url,
                        "team": "Redress",
                        "team_id": TEAM,
                        "user_id": "U0BOT",
                        "bot_id": BOT,
                    }
                case "users.info":
                    user = self.users.get(str(arguments.get("user")))
                    return {"ok": True, "user": user} if user else _no("user_not_found")
                case _:
                    return self._write(method, arguments)

    def _write(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels.get(str(arguments.get("channel")))
        if channel is None or channel.archived or not channel.joined:
            why = "not_in_channel" if channel and not channel.archived else "is_archived"
            return _no(why if channel else "channel_not_found")
        refused = _refused(arguments.get("text"), arguments.get("blocks", []))
        if refused:
            return refused
        message = (
            self._posted(channel, arguments)
            if method == "chat.postMessage"
            else self._updated(channel, arguments)
        )
        if isinstance(message, str):
            return _no(message)
        self._crawl(message)
        return {"ok": True, "channel": channel.id, "ts": message.ts, "message": {"text": message.text}}

    def _posted(self, channel: Channel, arguments: dict[str, Any]) -> Message | str:
        thread = arguments.get("thread_ts")
        if thread is not None and self.message(channel.id, thread) is None:
            return "thread_not_found"
        self._serial += 1
        ts = f"{int(self.clock())}.{self._serial:06d}"
        blocks = arguments.get("blocks", [])
        message = Message(channel.id, ts, arguments["text"], blocks, thread, arguments)
        channel.messages.append(message)
        return message

    def _updated(self, channel: Channel, arguments: dict[str, Any]) -> Message | str:
        message = self.message(channel.id, str(arguments.get("ts")))
        if message is None:
            return "message_not_found"
        if not message.editable:
            return "cant_update_message"
        message.text, message.blocks = arguments["text"], arguments.get("blocks", [])
        message.edits += 1
        return message

    def _crawl(self, message: Message) -> None:
        """Visits every link of the message, at once, with GET and HEAD, as link expanders and scanners do."""
        urls = {one["url"] for _, one in message.buttons() if "url" in one}
        urls |= set(re.findall(r"https?://[^\s|<>\"]+", f"{message.text}\n{message.shown}"))
        for url in sorted(urls):
            self._crawls += [self._crawlers.submit(_visit, method, url) for method in ("GET", "HEAD")]

    def replied(self, key: str, message: dict[str, Any]) -> str:
        """A message to a `response_url`: five at most; an ephemeral one is seen by whoever pressed."""
        with self._lock:
            uses = self._replies.get(key)
            if uses is None:
                return "expired_url"
            if len(uses) > MOST_REPLIES:
                return "used_url"
            if {*message} - {"text", "response_type", "replace_original"} or not isinstance(
                message.get("text"), str
            ):
                return "invalid_payload"
            uses.append("used")
            self.ephemerals.append(Ephemeral(uses[0], message["text"]))
            return "ok"

    def page(self, viewer: str) -> str:
        """The channels with their messages, threads below them, as a person sees them who is `viewer`."""
        with self._lock:
            return _page(self, viewer)


# -- Block Kit as Slack checks it --------------------------------------------------------------------------------------

_TEXT_KEYS = MappingProxyType(
    {"plain_text": {"type", "text", "emoji"}, "mrkdwn": {"type", "text", "verbatim"}}
)
_BUTTON_KEYS = {"type", "text", "action_id", "url", "value", "style", "confirm", "accessibility_label"}
_BLOCK_KEYS = MappingProxyType(
    {
        "header": {"type", "block_id", "text"},
        "section": {"type", "block_id", "text", "fields", "expand"},
        "context": {"type", "block_id", "elements"},
        "actions": {"type", "block_id", "elements"},
        "divider": {"type", "block_id"},
    }
)


def problems(blocks: object) -> Iterator[str]:
    """What Slack would say against these blocks; nothing when it takes them. Only the kinds that Redress sends are known."""
    if not isinstance(blocks, list):
        yield "[ERROR] blocks must be an array [json-pointer:/blocks]"
        return
    if len(blocks) > MOST_BLOCKS:
        yield f"[ERROR] no more than {MOST_BLOCKS} items allowed [json-pointer:/blocks]"
    for place, block in enumerate(blocks):
        yield from _block_problems(block, f"/blocks/{place}")
    named = [block["block_id"] for block in blocks if isinstance(block, dict) and "block_id" in block]
    if len(named) != len({*named}):
        yield "[ERROR] block_id already exists [json-pointer:/blocks]"


def _refused(text: object, blocks: object) -> dict[str, Any] | None:
    """What a message's content is refused with, if with anything."""
    if not isinstance(text, str) or not text.strip():
        return _no("no_text")
    if len(text) > LONGEST_TEXT:
        return _no("msg_too_long")
    wrong = [*problems(blocks)]
    if wrong:
        return _no("invalid_blocks", wrong)
    if len(json.dumps(blocks, ensure_ascii=False)) > LONGEST_BLOCKS:
        return _no("msg_blocks_too_long")
    return None


def _block_problems(block: object, at: str) -> Iterator[str]:
    kind = str(block.get("type")) if isinstance(block, dict) else ""
    if not isinstance(block, dict) or kind not in _BLOCK_KEYS:
        yield f"[ERROR] unsupported type: {kind} [json-pointer:{at}/type]"
        return
    yield from _unknown(block, _BLOCK_KEYS[kind], at)
    if kind == "header":
        yield from _text_problems(block.get("text"), f"{at}/text", 150, {"plain_text"})
    if kind == "section":
        if "text" not in block and "fields" not in block:
            yield f"[ERROR] missing required field: text or fields [json-pointer:{at}]"
        if "text" in block:
            yield from _text_problems(block["text"], f"{at}/text", 3000)
        if "fields" in block:
            yield from _each(
                block["fields"], f"{at}/fields", 10, lambda one, where: _text_problems(one, where, 2000)
            )
    if kind == "context":
        yield from _each(
            block.get("elements"), f"{at}/elements", 10, lambda one, where: _text_problems(one, where, 3000)
        )
    if kind == "actions":
        yield from _each(block.get("elements"), f"{at}/elements", 25, _button_problems)
        elements = [one for one in block.get("elements") or () if isinstance(one, dict)]
        actions = [one.get("action_id") for one in elements]
        if len(actions) != len({*actions}):
            yield f"[ERROR] action_id already exists [json-pointer:{at}/elements]"


def _each(items: object, at: str, most: int, check: Callable[[object, str], Iterable[str]]) -> Iterator[str]:
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        yield f"[ERROR] must have 1 to {most} items [json-pointer:{at}]"
        return
    for place, item in enumerate(items):
        yield from check(item, f"{at}/{place}")


def _text_problems(
    text: object, at: str, most: int, kinds: Iterable[str] = ("plain_text", "mrkdwn")
) -> Iterator[str]:
    kind = str(text.get("type")) if isinstance(text, dict) else ""
    if not isinstance(text, dict) or kind not in kinds:
        yield f"[ERROR] must be one of {sorted(kinds)} [json-pointer:{at}/type]"
        return
    yield from _unknown(text, _TEXT_KEYS[kind], at)
    yield from _string(text.get("text"), f"{at}/text", most)
    for flag in ("emoji", "verbatim"):
        if not isinstance(text.get(flag, False), bool):
            yield f"[ERROR] must be a boolean [json-pointer:{at}/{flag}]"


def _button_problems(button: object, at: str) -> Iterator[str]:
    if not isinstance(button, dict) or button.get("type") != "button":
        yield f"[ERROR] unsupported element [json-pointer:{at}/type]"
        return
    yield from _unknown(button, _BUTTON_KEYS, at)
    yield from _text_problems(button.get("text"), f"{at}/text", 75, {"plain_text"})
    yield from _string(button.get("action_id"), f"{at}/action_id", 255)
    for key, most in (("url", 3000), ("value", 2000)):
        if key in button:
            yield from _string(button[key], f"{at}/{key}", most)
    if "url" in button and not re.fullmatch(r"https?://[\x21-\x7e]+", str(button["url"])):
        yield f"[ERROR] invalid url [json-pointer:{at}/url]"
    yield from _style(button, at)
    if "confirm" in button:
        yield from _confirm_problems(button["confirm"], f"{at}/confirm")


def _confirm_problems(confirm: object, at: str) -> Iterator[str]:
    if not isinstance(confirm, dict):
        yield f"[ERROR] must be an object [json-pointer:{at}]"
        return
    yield from _unknown(confirm, {"title", "text", "confirm", "deny", "style"}, at)
    for key, most in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30)):
        yield from _text_problems(confirm.get(key), f"{at}/{key}", most, {"plain_text"})
    yield from _style(confirm, at)


def _style(found: dict[str, Any], at: str) -> Iterator[str]:
    if found.get("style", "primary") not in {"primary", "danger"}:
        yield f"[ERROR] must be primary or danger [json-pointer:{at}/style]"


def _string(value: object, at: str, most: int) -> Iterator[str]:
    if not isinstance(value, str) or not value.strip():
        yield f"[ERROR] must be a text that is not empty [json-pointer:{at}]"
    elif len(value) > most:
        yield f"[ERROR] must be less than {most + 1} characters [json-pointer:{at}]"


def _unknown(found: dict[str, Any], known: Iterable[str], at: str) -> Iterator[str]:
    for key in sorted({*found} - {*known}):
        yield f"[ERROR] invalid additional property: {key} [json-pointer:{at}]"


def _no(error: str, messages: list[str] | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"ok": False, "error": error}
    return {**said, "errors": messages, "response_metadata": {"messages": messages}} if messages else said


def _texts(found: object) -> Iterator[str]:
    """Every text of blocks, in order."""
    if isinstance(found, dict):
        if found.get("type") in _TEXT_KEYS:
            yield str(found.get("text"))
        else:
            for inner in found.values():
                yield from _texts(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _texts(inner)


def _visit(method: str, url: str) -> Crawl:
    place = urlsplit(url)
    if place.hostname not in {"127.0.0.1", "localhost"}:
        return Crawl(method, url, None)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    try:
        path = f"{place.path or '/'}{'?' if place.query else ''}{place.query}"
        connection.request(method, path, headers={"User-Agent": CRAWLER, "Accept": "*/*"})
        answer = connection.getresponse()
        answer.read()
        return Crawl(method, url, answer.status)
    except (OSError, http.client.HTTPException):
        return Crawl(method, url, None)
    finally:
        connection.close()


# -- the server --------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """One request: the Web API, a reply to a press, or a person's page."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
        """Not to the terminal."""

    @property
    def slack(self) -> FakeSlack:
        """The workspace that this server is."""
        return self.server.slack  # type: ignore[attr-defined,no-any-return]  # set when the server is made

    def do_GET(self) -> None:
        """The page for people."""
        place = urlsplit(self.path)
        if place.path != "/":
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")
            return
        viewer = parse_qs(place.query).get("as", [next(iter(self.slack.users), "")])[0]
        self._send(HTTPStatus.OK, self.slack.page(viewer).encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """A method, a reply, or a press on the page."""
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length.isdigit() else b""
        path = urlsplit(self.path).path
        if path.startswith("/api/"):
            self._method(path.removeprefix("/api/"), body)
        elif path.startswith("/actions/"):
            said = self.slack.replied(path.rpartition("/")[2], json.loads(body))
            status = HTTPStatus.OK if said == "ok" else HTTPStatus.NOT_FOUND
            self._send(status, said.encode(), "text/plain")
        elif path == "/press":
            self._press(dict(parse_qsl(body.decode())))
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found", "text/plain")

    def _method(self, method: str, body: bytes) -> None:
        fault = self.slack.take_fault()
        if fault == "dead":
            self.close_connection = True
            return
        if fault == "500":
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"", "text/plain")
            return
        if fault == "html":
            self._send(HTTPStatus.OK, b"<html>We are upgrading</html>", "text/html")
            return
        answer, wait = self._answer(method, body)
        if fault == "slow":
            time.sleep(self.slack.slow_seconds)
        if fault == "lost":
            self.close_connection = True
            return
        if fault == "fatal_error":
            answer = _no("fatal_error")
        status = HTTPStatus.TOO_MANY_REQUESTS if wait else HTTPStatus.OK
        self._send(
            status,
            json.dumps(answer).encode(),
            "application/json",
            {"Retry-After": str(wait)} if wait else {},
        )

    def _answer(self, method: str, body: bytes) -> tuple[dict[str, Any], int | None]:
        slack, given = self.slack, self.headers.get("Authorization", "")
        refused = "" if given == f"Bearer {slack.token}" else "invalid_auth"
        if slack.revoked:
            refused = "token_revoked"
        if not given:
            refused = "not_authed"
        if method not in ARGUMENTS:
            refused = "unknown_method"
        if refused:
            return _no(refused), None
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        try:
            if kind == "application/json" and method not in FORM_ONLY:
                arguments = json.loads(body or b"{}")
            else:
                arguments = dict(parse_qsl(body.decode(), strict_parsing=bool(body)))
        except ValueError:
            return _no("invalid_json"), None
        if not isinstance(arguments, dict):
            return _no("json_not_object"), None
        wait = slack.limited(method, str(arguments.get("channel")))
        return (_no("ratelimited"), wait) if wait else (slack.call(method, arguments), None)

    def _press(self, form: dict[str, str]) -> None:
        with suppress(KeyError, OSError):  # the button is gone, or nobody listens: the page shows what stands
            self.slack.press(form["channel"], form["ts"], form["action_id"], form["user"])
        viewer = quote(form.get("user", ""), safe="")
        self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": f"/?as={viewer}"})

    def _send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # whoever asked waits no longer
            self.end_headers()
            self.wfile.write(body)


# -- the page for people -----------------------------------------------------------------------------------------------

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:46rem;margin:0 auto;padding:1rem}
h1{font-size:1.1rem}h2{font-size:1rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
article{border:1px solid var(--line);border-left:4px solid #8888;border-radius:6px;padding:.6rem .9rem;margin:.8rem 0}
article article{margin-left:1.2rem;border-left-width:2px;background:var(--soft)}
h3{font-size:1.05rem;margin:.2rem 0 .5rem}p{margin:.3rem 0;overflow-wrap:anywhere;white-space:pre-wrap}
dl{display:grid;grid-template-columns:9rem 1fr;gap:.15rem .8rem;margin:.4rem 0}dd{margin:0;overflow-wrap:anywhere}
.small{font-size:.85rem;opacity:.75}.row{display:flex;flex-wrap:wrap;gap:.5rem;margin-top:.6rem}form{display:inline}
.row a,.row button{font:inherit;border:1px solid var(--line);border-radius:5px;padding:.3rem .8rem;text-decoration:none;
color:inherit;background:none;cursor:pointer}.row .primary{background:#0a7c4a;color:#fff}.row .danger{color:#c22}
@media(max-width:30rem){dl{display:block}dt{font-size:.85rem;opacity:.75;margin-top:.3rem}}
aside{background:#fd82;border-radius:6px;padding:.5rem .9rem;margin:.5rem 0}nav a{margin-right:.8rem}nav b{margin-right:.8rem}
"""


def _page(slack: FakeSlack, viewer: str) -> str:
    people = "".join(
        f"<b>{html.escape(one['name'])}</b>"
        if user == viewer
        else f'<a href="/?as={quote(user, safe="")}">{html.escape(one["name"])}</a>'
        for user, one in slack.users.items()
    )
    told = "".join(
        f"<aside>Only visible to you: {_mrkdwn_html(one.text)}</aside>"
        for one in slack.ephemerals[-3:]
        if one.user == viewer
    )
    channels = "".join(_channel_html(one, viewer) for one in slack.channels.values())
    named = "".join(
        f'<a href="#{html.escape(one.id)}"># {html.escape(one.name)}</a>' for one in slack.channels.values()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        '<meta name="viewport" content="width=device-width"><title>Slack of the emulated world</title>'
        f"<style>{_STYLE}</style></head><body><h1>Slack of the emulated world</h1>"
        f"<nav>You are: {people}</nav><nav>Channels: {named}</nav>{told}{channels}</body></html>"
    )


def _channel_html(channel: Channel, viewer: str) -> str:
    shown = []
    for message in reversed([one for one in channel.messages if one.thread is None]):
        replies = "".join(
            _message_html(one, viewer, "") for one in channel.messages if one.thread == message.ts
        )
        shown.append(_message_html(message, viewer, replies))
    return f'<h2 id="{html.escape(channel.id)}"># {html.escape(channel.name)}</h2>{"".join(shown) or "<p>Nothing was posted yet.</p>"}'


def _message_html(message: Message, viewer: str, replies: str) -> str:
    body = "".join(_block_html(block, message, viewer) for block in message.blocks)
    return f"<article>{body or _mrkdwn_html(message.text)}{replies}</article>"


def _block_html(block: dict[str, Any], message: Message, viewer: str) -> str:
    match block["type"]:
        case "header":
            return f"<h3>{_text_html(block['text'])}</h3>"
        case "section":
            said = f"<p>{_text_html(block['text'])}</p>" if "text" in block else ""
            pairs = block.get("fields", [])
            cells = "".join(
                f"<{'dd' if at % 2 else 'dt'}>{_text_html(one)}</{'dd' if at % 2 else 'dt'}>"
                for at, one in enumerate(pairs)
            )
            return f"{said}{f'<dl>{cells}</dl>' if cells else ''}"
        case "context":
            return "".join(f'<p class="small">{_text_html(one)}</p>' for one in block["elements"])
        case "actions":
            return f'<div class="row">{"".join(_button_html(one, message, viewer) for one in block["elements"])}</div>'
        case _:
            return "<hr>"


def _button_html(button: dict[str, Any], message: Message, viewer: str) -> str:
    style = html.escape(button.get("style", ""))
    label = _text_html(button["text"])
    if "url" in button:
        return f'<a class="{style}" href="{html.escape(button["url"])}">{label}</a>'
    hidden = {"channel": message.channel, "ts": message.ts, "action_id": button["action_id"], "user": viewer}
    fields = "".join(
        f'<input type="hidden" name="{key}" value="{html.escape(value)}">' for key, value in hidden.items()
    )
    asks = html.escape(button["confirm"]["text"]["text"]) if "confirm" in button else ""
    return f'<form method="post" action="/press">{fields}<button class="{style}" title="{asks}">{label}</button></form>'


def _text_html(text: dict[str, Any]) -> str:
    return html.escape(text["text"]) if text["type"] == "plain_text" else _mrkdwn_html(text["text"])


def _mrkdwn_html(text: str) -> str:
    """Enough of mrkdwn to see what would be a format, a mention or a link: bold, code, dates, mentions, links."""
    parts = re.split(r"<([^<>]*)>", text)
    shown = []
    for place, part in enumerate(parts):
        if place % 2:
            target, _, label = part.partition("|")
            mentioned = target.replace("!subteam^", "@").replace("!", "@")
            said = html.escape(html.unescape(label or mentioned))
            link = target.startswith(("http://", "https://"))
            shown.append(f'<a href="{html.escape(target)}">{said}</a>' if link else f"<b>{said}</b>")
        else:
            safe = html.escape(html.unescape(part))
            safe = re.sub(r"(?<!\w)\*(\S(?:[^*\n]*\S)?)\*(?!\w)", r"<b>\1</b>", safe)
            shown.append(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe))
    return "".join(shown)
