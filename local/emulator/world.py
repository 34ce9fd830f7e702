"""`World`: an emulated AWS for one test, one demo or one benchmark, with handles on it.

with World() as world:
    ec2 = world.client("ec2", world.create_user("mallory", policy))
    ...
    assert [c.operation for c in world.calls() if c.role == "redress-act"] == [...]
"""
# ruff: noqa: ANN401 -- boto3 clients are made from a name and have no static type

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

from local.emulator import names

_ROOT: Final = Path(__file__).resolve().parents[2]
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_LOG_TAIL: Final = 4000
_QUIET: Final = "x-redress-quiet"

Effect = Literal["kill_before", "kill_after", "hold", "deny", "throttle", "error"]


class WorldError(RuntimeError):
    """The emulated AWS could not start, or refused what was asked of its control routes."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client signs with; `arn` says whose they are."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    arn: str = ""


@dataclass(frozen=True, slots=True)
class SeenCall:
    """One API call that reached the emulator, in the order of arrival."""

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
    """What was published on an SNS topic, and by which role."""

    topic: str
    subject: str
    text: str
    attributes: Mapping[str, str]
    role: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls the n-th call (and `times - 1` after it) of a service, an operation, a role.

    Empty criteria match everything; `role` matches any part of the caller's role name. `kill_before` ends
    the busy Lambda workers and never executes the call; `kill_after` executes it first; `hold` executes it only
    once the faults are replaced, whatever happens meanwhile; the others answer AccessDenied, a throttle or a 500
    and execute nothing.
    """

    effect: Effect
    service: str = ""
    operation: str = ""
    role: str = ""
    nth: int = 1
    times: int = 1


class World:
    """A running emulated AWS. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        *,
        account: str = "111111111111",
        region: str = "us-east-1",
        auth: bool = True,
        delay: float = 0.0,
        port: int = 0,
        lambda_concurrency: int = 6,
        regions: Sequence[str] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.account: Final = account
        self.region: Final = region
        self.endpoint = ""
        self.start_seconds = 0.0
        self._port = port
        self._flags = ["--auth"] * auth
        self._flags += ["--delay", str(delay), "--lambda-concurrency", str(lambda_concurrency)]
        self._flags += ["--regions", *regions] if regions else []
        self._environment = dict(environment)
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._loader = Loader()

    # --- life ---

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the emulator and return once it serves requests."""
        if self._process is not None:
            raise WorldError("this World has already been started")
        self._folder = Path(tempfile.mkdtemp(prefix="redress-world-"))
        began = time.monotonic()
        try:
            self._spawn(self._folder)
            self._await_ready(self._folder, began)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def stop(self) -> None:
        """End the emulator and its Lambda workers and remove its files. Safe to call at any time, twice too."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self.endpoint = ""

    def log(self) -> str:
        """What the emulator has logged so far."""
        if self._folder is None:
            return ""
        return (self._folder / "emulator.log").read_text(errors="replace")

    def _spawn(self, folder: Path) -> None:
        command = [
            sys.executable, "-m", "local.emulator", "--port", str(self._port), "--account", self.account,
            "--region", self.region, "--lifeline", "--ready-file", str(folder / "ready.json"), *self._flags,
        ]  # fmt: skip
        environment = {**os.environ, **self._environment, "TMPDIR": str(folder)}
        with (folder / "emulator.log").open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for us; `stop` then ends the emulator in good order.
                start_new_session=True,
            )

    def _await_ready(self, folder: Path, began: float) -> None:
        ready, process = folder / "ready.json", self._process
        while not ready.exists():
            if process is None or process.poll() is not None:
                code = None if process is None else process.returncode
                raise WorldError(self._explain(f"the emulator ended with code {code} before it was ready"))
            if time.monotonic() - began > _START_SECONDS:
                raise WorldError(self._explain(f"the emulator was not ready after {_START_SECONDS:.0f} s"))
            time.sleep(0.005)
        self.endpoint = str(json.loads(ready.read_text())["endpoint"])

    def _explain(self, what: str) -> str:
        return (
            f"{what}.\nCheck that local/requirements.txt is installed in {sys.executable}"
            f"{f' and that port {self._port} is free' if self._port else ''}.\n"
            f"The end of its log:\n{self.log()[-_LOG_TAIL:]}"
        )

    # --- clients and people ---

    @property
    def root(self) -> Credentials:
        """The root of the home account: no policy binds it."""
        return self.root_of(self.account)

    def root_of(self, account: str) -> Credentials:
        """The root of any account; an account exists as soon as someone names it."""
        return Credentials(account, "test", None, f"arn:aws:iam::{account}:root")

    def client(
        self,
        service: str,
        credentials: Credentials | None = None,
        region: str | None = None,
        *,
        quiet: bool = False,
    ) -> Any:
        """A boto3 client, as root unless told otherwise. A quiet one is neither logged nor relayed."""
        signer = credentials or self.root
        core = botocore.session.Session()
        core.register_component("data_loader", self._loader)
        session = boto3.session.Session(
            aws_access_key_id=signer.access_key_id,
            aws_secret_access_key=signer.secret_access_key,
            aws_session_token=signer.session_token,
            region_name=region or self.region,
            botocore_session=core,
        )
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path"},
            inject_host_prefix=False,
        )
        client = session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]  # the service is a variable
        if quiet:
            client.meta.events.register("before-send", _mark_quiet)
        return client

    def create_user(self, name: str, policy: Mapping[str, Any], account: str | None = None) -> Credentials:
        """An IAM user with one inline policy and an access key; making it leaves no trace in log or events."""
        iam = self.client("iam", self.root_of(account or self.account), quiet=True)
        arn = iam.create_user(UserName=name)["User"]["Arn"]
        iam.put_user_policy(UserName=name, PolicyName="inline", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return Credentials(key["AccessKeyId"], key["SecretAccessKey"], None, str(arn))

    def assume(
        self,
        role_arn: str,
        session_name: str = "test",
        *,
        credentials: Credentials | None = None,
        policy: Mapping[str, Any] | None = None,
        external_id: str | None = None,
    ) -> Credentials:
        """A session of a role, optionally limited by a session policy."""
        optional: dict[str, str] = {}
        if policy is not None:
            optional["Policy"] = json.dumps(policy)
        if external_id is not None:
            optional["ExternalId"] = external_id
        sts = self.client("sts", credentials)
        answer = sts.assume_role(RoleArn=role_arn, RoleSessionName=session_name, **optional)
        given = answer["Credentials"]
        return Credentials(
            given["AccessKeyId"],
            given["SecretAccessKey"],
            given["SessionToken"],
            answer["AssumedRoleUser"]["Arn"],
        )

    def secret(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON secret under that name, as its people would; a function that runs may know the old one a while."""
        client = self.client("secretsmanager", quiet=True)
        text = json.dumps(dict(value))
        try:
            client.put_secret_value(SecretId=name, SecretString=text)
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name=name, SecretString=text)

    # --- what happened ---

    def calls(self) -> list[SeenCall]:
        """Every signed API call so far, by whomever, oldest first."""
        return [SeenCall(**one) for one in self._control("GET", "calls")]

    def mails(self) -> list[Mail]:
        """Everything that was published on a topic so far, oldest first."""
        return [Mail(**one) for one in self._control("GET", "mails")]

    def clear_calls(self) -> None:
        self._control("DELETE", "calls")

    def backlog(self) -> int:
        """CloudTrail events that are still under way."""
        return int(self._control("GET", "health")["backlog"])

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0, what: str = "") -> None:
        """Return as soon as the condition holds; WorldError with the log's tail if it never does."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                message = f"not within {seconds:g} s: {what or condition}"
                raise WorldError(f"{message}\nThe end of the log:\n{self.log()[-_LOG_TAIL:]}")
            time.sleep(0.02)

    # --- what shall happen ---

    def set_delay(self, seconds: float) -> None:
        """How long after its call a CloudTrail event arrives; holds for pending ones too, order is kept."""
        self._control("PUT", "delay", {"seconds": seconds})

    def faults(self, faults: Sequence[Fault]) -> None:
        """Replace all faults by these; an empty list ends them. Counting starts anew."""
        self._control("PUT", "faults", [asdict(fault) for fault in faults])

    def fault_hits(self) -> int:
        """How many calls the present faults have disturbed (or hold) so far."""
        return sum(
            max(0, min(fault["seen"] - fault["nth"] + 1, fault["times"]))
            for fault in self._control("GET", "faults")
        )

    def kill_workers(self, *, busy_only: bool = True) -> int:
        """SIGKILL the Lambda worker processes (those at work, or all); how many there were."""
        return int(self._control("POST", "kill-workers", {"busy_only": busy_only})["killed"])

    def emit(self, event: Mapping[str, Any]) -> None:
        """Put a nine-key event, `aws.*` sources included, on the default bus of its account and Region."""
        self._control("POST", "events", event)

    def matches(self, pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
        """Whether EventBridge would match; ValueError for a pattern that it would refuse."""
        return names.matches(pattern, event)

    def age_access_key(
        self, access_key_id: str, *, created: datetime | None = None, last_used: datetime | None = None
    ) -> None:
        """Back-date an IAM user's access key, and its user if that was made later."""
        moments = {"created": created, "last_used": last_used}
        given = {key: moment.isoformat() for key, moment in moments.items() if moment is not None}
        self._control("POST", "access-keys", {"access_key_id": access_key_id, **given})

    def root_access_key(self, *, present: bool, account: str | None = None) -> None:
        """Give an account's root user an access key (for its summary and credential report), or take it away."""
        self._control("PUT", "root-key", {"present": present, "account": account})

    def delay_credential_report(self, times: int, account: str | None = None) -> None:
        """The next `times` calls that make or fetch the credential report find it not ready."""
        self._control("PUT", "credential-report", {"times": times, "account": account})

    def fire(self, rule: str, *, account: str | None = None, region: str | None = None) -> None:
        """Let a scheduled rule of the default bus be due now; WorldError when no such rule is enabled."""
        self._control("POST", "fire", {"rule": rule, "account": account, "region": region})

    def show_again(self, queue_arn: str) -> None:
        """The messages of a queue that were received and not deleted show now, whatever its visibility timeout."""
        self._control("POST", "show-again", {"queue": queue_arn})

    def shift_clock(self, ahead: timedelta) -> None:
        """Our deployed functions' clock runs ahead by so much; AWS's own, signatures and events too, does not."""
        self._control("PUT", "clock", {"seconds": ahead.total_seconds()})

    def _control(self, method: str, route: str, body: object = None) -> Any:
        if not self.endpoint:
            raise WorldError("this World is not running")
        connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            payload = None if body is None else json.dumps(body, default=_plain)
            connection.request(method, f"/_redress/{route}", payload)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        if answer.status != HTTPStatus.OK:
            raise WorldError(f"{method} {route}: {value.get('error', value)}")
        return value


def _mark_quiet(request: Any, **_: Any) -> None:
    request.headers[_QUIET] = "1"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"not JSON: {value!r}")


@contextlib.contextmanager
def running(**options: Any) -> Iterator[World]:
    """A started World, for fixtures that want a plain context manager."""
    with World(**options) as world:
        yield world
