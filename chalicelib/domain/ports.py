"""What the flow needs from the outside, as Protocols. Adapters implement them; tests use hand-made fakes."""

from datetime import datetime
from typing import Protocol

from pydantic import AwareDatetime, JsonValue

from chalicelib.domain.case import Case, Lock
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Mode, Plan, Reader
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.limits import Spent
from chalicelib.domain.record import Head, Record

FREEZE_ALL = "ALL"
"""The scope of the kill switch that stops everything. Its item exists from the first raised mode on."""


class ModeSetting(Model):
    """The mode that a named person set for one control in one account."""

    account: str
    control: str
    mode: Mode
    by: str
    at: datetime
    reason: str


class Exemption(Model):
    """A permission not to act: scoped to one resource and control, owned, expiring."""

    account: str
    control: str
    resource: str
    owner: str
    code: str
    reason: str
    by: str
    at: datetime
    expires_at: AwareDatetime


class Freeze(Model):
    """The kill switch of one scope: `ALL`, `ACCOUNT#<id>` or `CONTROL#<account>#<control>`."""

    scope: str
    frozen: bool
    by: str
    at: datetime
    reason: str


class Enrolment(Model):
    """A member account whose events are ours. The home account is enrolled by being home."""

    account: str
    by: str
    at: datetime


class Question(Model):
    """What the gate asks the store in one consistent read."""

    event_id: str
    case: str
    target: Target
    controls: tuple[str, ...]
    actor_key: str


class Gate(Model):
    """The store's answer: everything that decides whether and how far the walk goes on. Absent is None, never a default."""

    seen: bool
    case: Case | None
    lock: Lock | None
    modes: tuple[ModeSetting, ...]
    exemptions: tuple[Exemption, ...]
    freezes: tuple[Freeze, ...]
    enrolled: bool
    account_spent: Spent
    actor_spent: Spent


class Notice(Model):
    """A message for people, written in the transaction that makes it true and delivered from the outbox."""

    id: str
    kind: str
    case: str
    at: datetime
    body: dict[str, JsonValue]


class Change(Model):
    """One transaction on one case: all of it happens, or ConflictError and none of it.

    `case` is stored at `case.version` if the stored version is one lower (0: it must not exist). `archive` is the ended
    episode that `case` replaces. `lock`, when given, is stored likewise. `seen` marks events as taken in.
    """

    case: Case
    archive: Case | None = None
    lock: Lock | None = None
    seen: tuple[str, ...] = ()
    spent: tuple[Spent, ...] = ()
    records: tuple[Record, ...] = ()
    notices: tuple[Notice, ...] = ()


class Guard(Model):
    """What is read before every single write: the kill switches of its scopes and the account's reservations."""

    freezes: tuple[Freeze, ...]
    account_spent: Spent


class SettingChange(Model):
    """One transaction of a person's command: a new setting, its record, and the chain's new head."""

    mode: ModeSetting | None = None
    freezes: tuple[Freeze, ...] = ()
    exemption: Exemption | None = None
    enrolment: Enrolment | None = None
    record: Record
    expected_head: Head


class Cases(Protocol):
    """The engine's tables, seen from the flow. Every method is one call to DynamoDB, or a StoreError."""

    def look(self, question: Question) -> Gate:
        """Everything the gate needs, read consistently in one call."""
        ...

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name, whether it is current or archived."""
        ...

    def commit(self, change: Change) -> None:
        """All of `change` or none of it; ConflictError when somebody else moved the case on."""
        ...

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        """The kill switches and reservations as they stand at this moment."""
        ...

    def note(self, record: Record) -> bool:
        """A chain of one record (an event that is not ours); False when it already stands."""
        ...


class Settings(Protocol):
    """The settings that people change, seen from the commands route."""

    def head(self, chain: str) -> Head:
        """The end of a system chain; Head() when it has no record yet."""
        ...

    def freeze(self, scope: str) -> Freeze | None:
        """The switch of one scope, or None when nobody ever set it."""
        ...

    def mode(self, account: str, control: str) -> ModeSetting | None:
        """The mode that somebody set, or None."""
        ...

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        """The exemption last granted for this resource and control, expired or not, or None."""
        ...

    def enrolment(self, account: str) -> Enrolment | None:
        """The account's enrolment, or None; the home account has none and needs none."""
        ...

    def apply(self, change: SettingChange) -> None:
        """All of it or none; ConflictError when the chain moved on."""
        ...


class Executor(Protocol):
    """The only thing that makes a Call happen, inside a session that can do no more than the plan."""

    def perform(
        self, call: Call, token: str, earlier: tuple[dict[str, JsonValue], ...]
    ) -> tuple[CallResult, dict[str, JsonValue]]:
        """Make one call: its result without index set by the caller, and the response for later references."""
        ...


class Aws(Protocol):
    """The accounts that we look after."""

    def reader(self, remediation: AnyRemediation, target: Target) -> Reader:
        """Declared reads in the target's account and Region, under the read-only role."""
        ...

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> Executor:
        """A session of the acting (or undo) role whose policy is made from this one plan and target."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for a service to settle."""
        ...
