"""Faults at every port call: a crash before or after the n-th, or a refusal in its place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import JsonValue

from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Plan, Reader
from chalicelib.domain.errors import AccessDeniedError, StoreError
from chalicelib.domain.finding import Target
from chalicelib.domain.policy import PolicySetting
from chalicelib.domain.ports import (
    Aws,
    Cases,
    Change,
    Executor,
    Gate,
    Guard,
    Question,
    SweepChange,
    Swept,
)
from chalicelib.domain.record import Record

T = TypeVar("T")


class Crash(BaseException):
    """The function died here. A BaseException, so that nothing swallows it."""


class Kind(StrEnum):
    """What happens to the call that is hit."""

    BEFORE = "before"
    AFTER = "after"
    DENIED = "denied"


class Faults:
    """Wraps the ports, counts their calls from 1, and hits call number `at` (0: none). `seen` names them in order.

    One `Faults` is one life of the process: after a crash, redeliver with a new one (or with none).
    """

    def __init__(self, at: int = 0, kind: Kind = Kind.BEFORE) -> None:
        self.at = at
        self.kind = kind
        self.seen: list[str] = []

    @property
    def hit(self) -> str | None:
        """The name of the call that was hit; None while none was."""
        return self.seen[self.at - 1] if 0 < self.at <= len(self.seen) else None

    def cases(self, cases: Cases) -> "FaultyCases":
        return FaultyCases(self, cases)

    def aws(self, aws: Aws) -> "FaultyAws":
        return FaultyAws(self, aws)

    def through(self, name: str, do: Callable[[], T]) -> T:
        """`do`, counted, and hit if it is its turn. Our own tables refuse with a StoreError, as their port promises."""
        self.seen.append(name)
        if len(self.seen) != self.at:
            return do()
        if self.kind is Kind.BEFORE:
            raise Crash(f"before call {self.at}, {name}")
        if self.kind is Kind.DENIED:
            port, call = name.split(".", 1)
            if port == "cases":
                raise StoreError(f"{name}: AccessDeniedException")
            raise AccessDeniedError(port, call, "AccessDenied", "not authorized", "req-denied")
        try:
            do()
        finally:  # a service that refused has answered too
            raise Crash(f"after call {self.at}, {name}")


class FaultyCases:
    """`ports.Cases`, counted."""

    def __init__(self, faults: Faults, cases: Cases) -> None:
        self._through = faults.through
        self._cases = cases

    def look(self, question: Question) -> Gate:
        return self._through("cases.look", lambda: self._cases.look(question))

    def case(self, digest: str, episode: int) -> Case | None:
        return self._through("cases.case", lambda: self._cases.case(digest, episode))

    def commit(self, change: Change) -> None:
        return self._through("cases.commit", lambda: self._cases.commit(change))

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        return self._through("cases.guard", lambda: self._cases.guard(scopes, account))

    def note(self, record: Record) -> bool:
        return self._through("cases.note", lambda: self._cases.note(record))

    def answers(self, case: str, ask: int) -> Answers | None:
        return self._through("cases.answers", lambda: self._cases.answers(case, ask))

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        return self._through("cases.answers_to", lambda: self._cases.answers_to(asks))

    def in_state(self, state: CaseState) -> Iterator[Case]:
        """Counted once, when the first case is asked for."""
        yield from self._through("cases.in_state", lambda: self._cases.in_state(state))

    def bodies(self, chain: str) -> tuple[str, ...]:
        return self._through("cases.bodies", lambda: self._cases.bodies(chain))

    def swept(self, account: str, controls: tuple[str, ...]) -> Swept:
        return self._through("cases.swept", lambda: self._cases.swept(account, controls))

    def policy(self) -> PolicySetting | None:
        return self._through("cases.policy", self._cases.policy)

    def breakers(self, account: str, controls: tuple[str, ...]) -> tuple[Breaker, ...]:
        return self._through("cases.breakers", lambda: self._cases.breakers(account, controls))

    def keep(self, change: SweepChange) -> None:
        return self._through("cases.keep", lambda: self._cases.keep(change))


class FaultyAws:
    """`ports.Aws`, counted: making an executor (which assumes a role), each read, each call, the Regions. Making a reader
    is free."""

    def __init__(self, faults: Faults, aws: Aws) -> None:
        self._faults = faults
        self._aws = aws

    def reader(self, remediation: AnyRemediation, target: Target) -> Reader:
        return FaultyReader(self._faults, self._aws.reader(remediation, target))

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> Executor:
        executor = self._faults.through(
            "sts.AssumeRole", lambda: self._aws.executor(remediation, target, plan, session, undo=undo)
        )
        return FaultyExecutor(self._faults, executor)

    def regions(self, account: str) -> tuple[str, ...]:
        return self._faults.through("ec2.DescribeRegions", lambda: self._aws.regions(account))


class FaultyReader:
    """`contract.Reader`, counted."""

    def __init__(self, faults: Faults, reader: Reader) -> None:
        self._through = faults.through
        self._reader = reader

    def read(self, service: str, operation: str, /, **params: JsonValue) -> dict[str, Any]:
        return self._through(
            f"{service}.{operation}", lambda: self._reader.read(service, operation, **params)
        )

    def pages(self, service: str, operation: str, key: str, /, **params: JsonValue) -> list[Any]:
        return self._through(
            f"{service}.{operation}", lambda: self._reader.pages(service, operation, key, **params)
        )


class FaultyExecutor:
    """`ports.Executor`, counted."""

    def __init__(self, faults: Faults, executor: Executor) -> None:
        self._through = faults.through
        self._executor = executor

    def perform(
        self, call: Call, token: str, earlier: tuple[dict[str, JsonValue], ...]
    ) -> tuple[CallResult, dict[str, JsonValue]]:
        return self._through(
            f"{call.service}.{call.operation}", lambda: self._executor.perform(call, token, earlier)
        )
