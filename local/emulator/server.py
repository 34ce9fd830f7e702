"""The ASGI application: MiniStack inside, round it the call log, the relay, the faults and the control routes.

Control routes live under `/_redress/` on the same loopback port and take and answer JSON.
"""
# ruff: noqa: ANN401 - ASGI messages and control bodies are JSON of any shape

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from local.emulator import gateway, identity, names, relay
from local.emulator.relay import Call, Caller, CallerKind
from local.emulator.wire import Operation, Request, Response, error_response, operation_of

log = logging.getLogger("redress.server")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = tuple[int, object]

CONTROL: Final = "/_redress/"
QUIET_HEADER: Final = "x-redress-quiet"
_EXECUTE_API: Final = re.compile(r"/(_aws/execute-api|restapis/[^/]+/[^/]+/_user_request_)/")
_BODY_ID: Final = re.compile(rb"<(?:requestId|RequestId|RequestID)>([^<]+)</")
_ID_HEADERS: Final = (b"x-amzn-requestid", b"x-amz-request-id")


@dataclass(frozen=True, slots=True)
class Seen:
    """One API call as the log keeps it."""

    sequence: int
    time: str
    service: str
    operation: str
    caller: str
    session: str
    role: str
    account: str
    region: str
    status: int
    error: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Mail:
    """What was published on a topic: to its subscribers it would be a mail."""

    topic: str
    subject: str
    text: str
    attributes: dict[str, str]
    role: str


@dataclass(slots=True)
class Fault:
    """What to do to the n-th matching call. An empty criterion matches everything."""

    effect: str
    service: str = ""
    operation: str = ""
    role: str = ""
    nth: int = 1
    times: int = 1
    seen: int = field(default=0)

    def hits(self, operation: Operation, caller: Caller | None) -> bool:
        """Count a call if it matches; True if this one is to be disturbed."""
        role = "" if caller is None else caller.role_name
        matched = (
            self.service in {"", operation.service}
            and self.operation in {"", operation.name}
            and self.role in role
        )
        if not matched:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


_ANSWERS: Final[dict[str, Callable[[Operation], tuple[int, str, str]]]] = {
    "deny": lambda op: (
        (403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
        if op.protocol == "ec2"
        else (400, "AccessDeniedException", "Denied by a fault that a test has set.")
        if "json" in op.protocol
        else (403, "AccessDenied", "Denied by a fault that a test has set.")
    ),
    "throttle": lambda op: (
        (503, "RequestLimitExceeded", "Request limit exceeded.")
        if op.protocol == "ec2"
        else (503, "SlowDown", "Please reduce your request rate.")
        if op.service == "s3"
        else (400, "Throttling" if op.protocol == "query" else "ThrottlingException", "Rate exceeded")
    ),
    "error": lambda _: (500, "InternalError", "An internal error has occurred."),
}
_KILLS: Final = frozenset({"kill_before", "kill_after"})
_HOLD: Final = "hold"
_LONGEST_HOLD_SECONDS: Final = 30.0
EFFECTS: Final = frozenset({*_ANSWERS, *_KILLS, _HOLD})


class _ShutdownAnswered(Exception):  # noqa: N818 - leaves MiniStack's endless lifespan loop, nothing more
    pass


class Relay:
    """Delivers events one after the other, each a settable delay after its call; order is kept."""

    def __init__(self, delay: float) -> None:
        self._pending: deque[tuple[float, Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._delay = delay
        self._busy = False
        threading.Thread(target=self._run, name="cloudtrail-relay", daemon=True).start()

    @property
    def delay(self) -> float:
        return self._delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        with self._changed:
            self._delay = seconds
            self._changed.notify_all()

    @property
    def backlog(self) -> int:
        """Events not yet delivered."""
        with self._changed:
            return len(self._pending) + self._busy

    def put(self, deliver: Callable[[], None]) -> None:
        with self._changed:
            self._pending.append((time.monotonic(), deliver))
            self._changed.notify_all()

    def _next(self) -> Callable[[], None]:
        with self._changed:
            self._busy = False
            while True:
                if not self._pending:
                    self._changed.wait()
                    continue
                left = self._pending[0][0] + self._delay - time.monotonic()
                if left <= 0:
                    self._busy = True
                    return self._pending.popleft()[1]
                self._changed.wait(left)

    def _run(self) -> None:
        while True:
            deliver = self._next()
            try:
                deliver()
            except Exception:
                # One event that cannot be told must not silence all later ones.
                log.exception("an event was lost")


class Server:
    """The application of one emulator process."""

    def __init__(self, account: str, region: str, delay: float, clock: Path) -> None:
        self._account = account
        self._region = region
        self._clock = clock
        self._relay = Relay(delay)
        self._seen: list[Seen] = []
        self._mails: list[Mail] = []
        self._sequence = 0
        self._faults: list[Fault] = []
        self._replaced = asyncio.Event()
        self._inner = names.APP.get()
        self._routes: Final[dict[tuple[str, str], Callable[[Any], Answer]]] = {
            ("GET", "health"): self._health,
            ("GET", "calls"): lambda _: (200, [asdict(seen) for seen in self._seen]),
            ("DELETE", "calls"): self._clear_calls,
            ("GET", "mails"): lambda _: (200, [asdict(mail) for mail in self._mails]),
            ("PUT", "delay"): self._set_delay,
            ("GET", "faults"): lambda _: (200, [asdict(fault) for fault in self._faults]),
            ("PUT", "faults"): self._set_faults,
            ("POST", "events"): self._emit,
            ("POST", "access-keys"): _age,
            ("PUT", "root-key"): self._set_root_key,
            ("PUT", "credential-report"): self._delay_report,
            ("POST", "fire"): self._fire,
            ("PUT", "clock"): self._shift_clock,
            ("POST", "show-again"): _show_again,
            ("POST", "kill-workers"): lambda given: (
                200,
                {"killed": _kill_lambda(busy_only=bool(given.get("busy_only", True)))},
            ),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = str(scope["path"])
        if path.startswith(CONTROL):
            await _answer_json(send, *self._control(scope["method"], path, await _body(receive)))
            return
        await self._observe(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start MiniStack, but do not let it shut down: it would import half a second of services to do so."""

        async def until_shutdown() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                raise _ShutdownAnswered
            return message

        with contextlib.suppress(_ShutdownAnswered):
            await self._inner(scope, until_shutdown, send)

    # --- observing ---

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(
            method=str(scope["method"]),
            path=str(scope["path"]),
            query=parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True),
            headers={k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]},
            body=await _body(receive),
        )
        access_key = names.access_key_of(request.headers, request.query)
        caller = names.caller_of(access_key, self._account) if access_key else None
        operation = self._operation(request)
        address = str((scope.get("client") or ("127.0.0.1",))[0])
        replay = _replaying(request.body, receive)
        if operation is None or QUIET_HEADER in request.headers:
            await self._inner(scope, replay, send)
            return
        fault = next((f for f in self._faults if f.hits(operation, caller)), None)
        started = datetime.now(UTC)
        recorder = _Recorder(send)
        if fault is not None and fault.effect == "kill_before":
            _kill_lambda()
            self._note(request, operation, caller, Response(0, {}), "", started)
            recorder.respond(error_response(operation.protocol, 500, "InternalError", "killed", ""))
        elif fault is not None and fault.effect in _ANSWERS:
            status, code, message = _ANSWERS[fault.effect](operation)
            recorder.respond(error_response(operation.protocol, status, code, message, str(uuid.uuid4())))
        else:
            if fault is not None and fault.effect == _HOLD:
                await self._held()
            with gateway.coming(gateway.Came(_lines(scope), address)):
                await self._inner(scope, replay, recorder)
        if recorder.streaming:
            return
        response, request_id = recorder.finish()
        killed_before = fault is not None and fault.effect == "kill_before"
        if not killed_before:
            self._note(request, operation, caller, response, request_id, started)
            if caller is not None:
                self._tell(Call(
                    request, response, operation, caller, names.region_of(request.headers, request.query),
                    started, request_id, str(uuid.uuid4()), address,
                ))  # fmt: skip
        if fault is not None and fault.effect == "kill_after":
            _kill_lambda()
        await recorder.flush()

    async def _held(self) -> None:
        """Return once the faults have been replaced: until then the call waits, and everybody else goes on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._replaced.wait(), _LONGEST_HOLD_SECONDS)

    def _operation(self, request: Request) -> Operation | None:
        host = request.headers.get("host", "")
        if _EXECUTE_API.match(request.path) or ".execute-api." in host:
            return Operation("execute-api", "Invoke", "rest-json")
        if request.path.startswith("/_") or "authorization" not in request.headers:
            return None
        service = names.service_of(request.method, request.path, request.headers, request.form)
        return operation_of(service, request)

    def _note(
        self,
        request: Request,
        operation: Operation,
        caller: Caller | None,
        response: Response,
        request_id: str,
        at: datetime,
    ) -> None:
        error = relay.error_of(response, operation)
        if operation.service == "sns" and operation.name == "Publish" and error is None:
            self._mails.append(_mail(request, "" if caller is None else caller.role_name))
        region = names.region_of(request.headers, request.query)
        self._sequence += 1
        self._seen.append(
            Seen(
                sequence=self._sequence,
                time=at.isoformat(),
                service=operation.service,
                operation=operation.name,
                caller="" if caller is None else caller.arn,
                session="" if caller is None else caller.session_name,
                role="" if caller is None else caller.role_name,
                account="" if caller is None else caller.account,
                region=region,
                status=response.status,
                error="" if error is None else error[0],
                request_id=request_id,
            )
        )
        if caller is not None and caller.kind is CallerKind.USER and response.status:
            names.note_key_use(caller, region, operation.service, at)

    def _tell(self, call: Call) -> None:
        if not relay.is_relayed(call.operation):
            return

        def deliver() -> None:
            told = relay.event(call, str(uuid.uuid4()))
            if told is not None:
                names.deliver(told)

        self._relay.put(deliver)

    # --- control ---

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        route = self._routes.get((method, path.removeprefix(CONTROL)))
        if route is None:
            return 404, {"error": f"no control route {method} {path}"}
        try:
            return route(json.loads(body) if body else {})
        except (KeyError, TypeError, ValueError) as error:
            return 400, {"error": f"{type(error).__name__}: {error}"}

    def _health(self, _: Any) -> Answer:
        return 200, {"account": self._account, "region": self._region, "backlog": self._relay.backlog}

    def _clear_calls(self, _: Any) -> Answer:
        self._seen = []
        return 200, {}

    def _set_delay(self, given: Any) -> Answer:
        self._relay.delay = float(given["seconds"])
        return 200, {"seconds": self._relay.delay}

    def _set_faults(self, given: Any) -> Answer:
        self._faults = [_fault(one) for one in given]
        self._replaced.set()
        self._replaced = asyncio.Event()
        return 200, {}

    def _emit(self, event: Any) -> Answer:
        if not relay.is_envelope(event):
            return 400, {"error": f"an event has exactly these keys: {', '.join(relay.ENVELOPE_KEYS)}"}
        self._relay.put(lambda: names.deliver(event))
        return 200, {}

    def _set_root_key(self, given: Any) -> Answer:
        identity.set_root_key(given.get("account") or self._account, present=bool(given["present"]))
        return 200, {}

    def _delay_report(self, given: Any) -> Answer:
        identity.delay_report(given.get("account") or self._account, int(given["times"]))
        return 200, {}

    def _fire(self, given: Any) -> Answer:
        account, region = given.get("account") or self._account, given.get("region") or self._region
        if names.fire(given["rule"], account, region):
            return 200, {}
        return 404, {
            "error": f"no enabled scheduled rule {given['rule']} on the default bus of {account} {region}"
        }

    def _shift_clock(self, given: Any) -> Answer:
        # Renamed into place, so that a function never reads half a number.
        partial = self._clock.with_suffix(".partial")
        partial.write_text(str(float(given["seconds"])))
        partial.replace(self._clock)
        return 200, {}


def _show_again(given: Any) -> Answer:
    if names.show_again(given["queue"]):
        return 200, {}
    return 404, {"error": f"no queue {given['queue']}"}


def _lines(scope: Scope) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
    )


def _mail(request: Request, role: str) -> Mail:
    form = {key: values[0] for key, values in request.form.items()}
    attributes = {
        form[key]: form.get(f"{key.removesuffix('Name')}Value.StringValue", "")
        for key in form
        if re.fullmatch(r"MessageAttributes\.entry\.\d+\.Name", key)
    }
    return Mail(form.get("TopicArn", ""), form.get("Subject", ""), form.get("Message", ""), attributes, role)


def _fault(given: dict[str, Any]) -> Fault:
    fault = Fault(**given)
    if fault.effect not in EFFECTS:
        raise ValueError(f"effect is one of {', '.join(sorted(EFFECTS))}")
    return replace(fault, seen=0)


def _age(given: Any) -> Answer:
    def moment(key: str) -> datetime | None:
        return datetime.fromisoformat(given[key]) if given.get(key) else None

    if names.age_access_key(given["access_key_id"], moment("created"), moment("last_used")):
        return 200, {}
    return 404, {"error": f"no access key {given['access_key_id']}"}


def _kill_lambda(*, busy_only: bool = True) -> int:
    processes = names.lambda_processes(busy_only=busy_only)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    return len(processes)


class _Recorder:
    """Holds a response back until it has been written down; lets streams pass."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body: list[bytes] = []
        self.streaming = False

    async def __call__(self, message: Message) -> None:
        if self.streaming:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._start = message
        else:
            self._body.append(message.get("body", b""))
            if message.get("more_body"):
                self.streaming = True
                await self._send(self._start)
                await self._send(message)

    def respond(self, response: Response) -> None:
        """Answer without asking the application."""
        headers = [(k.encode(), v.encode()) for k, v in response.headers.items()]
        headers.append((b"content-length", str(len(response.body)).encode()))
        headers += [(name, b"") for name in _ID_HEADERS]
        self._start = {"type": "http.response.start", "status": response.status, "headers": headers}
        self._body = [response.body]

    def finish(self) -> tuple[Response, str]:
        """The response, with one request id in its body and its headers."""
        body = b"".join(self._body)
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in self._start["headers"]}
        in_body = _BODY_ID.search(body[-2000:]) or _BODY_ID.search(body[:2000]) if body[:1] == b"<" else None
        in_header = headers.get("x-amzn-requestid") or headers.get("x-amz-request-id")
        request_id = in_body[1].decode() if in_body else in_header or str(uuid.uuid4())
        kept = [(k, v) for k, v in self._start["headers"] if k.lower() not in _ID_HEADERS]
        present = [name for name in _ID_HEADERS if name.decode() in headers]
        self._start = {
            **self._start,
            "headers": [*kept, *((name, request_id.encode()) for name in present)],
        }
        return Response(int(self._start["status"]), headers, body), request_id

    async def flush(self) -> None:
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": b"".join(self._body), "more_body": False})


async def _body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(chunks)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that tells the body once and then listens on."""
    told: Iterable[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        for message in told:
            return message
        return await receive()

    return again


async def _answer_json(send: Send, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
