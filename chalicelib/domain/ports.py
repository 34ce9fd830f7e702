"""What the flow needs from the outside, as Protocols. Adapters implement them; tests use hand-made fakes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import AwareDatetime, JsonValue

from chalicelib.domain.approval import Answers, Ask
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState, Lock
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Mode, Plan, Reader
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.kept import Kept
from chalicelib.domain.limits import Spent
from chalicelib.domain.record import Head, Record
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.domain.ticket import Ticket

if TYPE_CHECKING:  # a walk does without them, and so does its cold start
    from chalicelib.domain.dossier import Dossier
    from chalicelib.domain.policy import Engagement, PolicySetting

FREEZE_ALL = "ALL"
"""The scope of the kill switch that stops everything. Its item exists from the first raised mode on."""


def freeze_scope(account: str, control: str = "") -> str:
    """The scope of an account's kill switch, or of one control's in it."""
    return f"CONTROL#{account}#{control}" if control else f"ACCOUNT#{account}"


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


def accounts_of(home: str, enrolments: Iterable[Enrolment]) -> tuple[str, ...]:
    """Our accounts: the home account and every member, each once."""
    return tuple(dict.fromkeys((home, *(one.account for one in enrolments))))


class DeploymentRole(Model):
    """A role under which code is deployed in an account, as an operator configured it: what it changes is code's matter.

    With `removed`, it is one no longer; settings are never taken away.
    """

    account: str
    role_arn: str
    tool: Literal["terraform", "cdk", "cloudformation", "other"]
    by: str
    at: datetime
    removed: bool = False


class Owner(Model):
    """Who answers for an account: a mail address, a team, a channel, or a person, who may refuse and does not approve there."""

    account: str
    owner: str
    by: str
    at: datetime


class Question(Model):
    """What the gate asks the store in one consistent read."""

    event_id: str
    case: str
    target: Target
    controls: tuple[str, ...]
    actor_key: str
    role_arn: str | None = None


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
    baselines: tuple[Baseline, ...] = ()
    deployment_role: DeploymentRole | None = None
    owner: Owner | None = None
    breakers: tuple[Breaker, ...] = ()

    @property
    def answerable(self) -> str:
        """Who answers for the account, by an operator's word; empty when nobody was named."""
        return self.owner.owner if self.owner else ""


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
    episode that `case` replaces. `lock`, when given, is stored likewise. `seen` marks events as taken in. `ticket` is
    stored as it is: whoever writes it holds the case. `exemptions` are those that an undo brings with it. `breakers` are
    stored as the case is, by their versions.
    """

    case: Case
    archive: Case | None = None
    lock: Lock | None = None
    seen: tuple[str, ...] = ()
    spent: tuple[Spent, ...] = ()
    records: tuple[Record, ...] = ()
    notices: tuple[Notice, ...] = ()
    ticket: Ticket | None = None
    exemptions: tuple[Exemption, ...] = ()
    breakers: tuple[Breaker, ...] = ()


class Guard(Model):
    """What is read before every single write: the kill switches of its scopes and the account's reservations."""

    freezes: tuple[Freeze, ...]
    account_spent: Spent


class SettingChange(Model):
    """One transaction of a person's command: a new setting, its record, and the chain's new head."""

    mode: ModeSetting | None = None
    freezes: tuple[Freeze, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    enrolment: Enrolment | None = None
    deployment_role: DeploymentRole | None = None
    owner: Owner | None = None
    breaker: Breaker | None = None
    kept: Kept | None = None
    notices: tuple[Notice, ...] = ()
    record: Record
    expected_head: Head


class AnswerChange(Model):
    """One transaction of a person's answer: the answers at their new version, the record, and the errand for the engine.

    Only if the case `case` still waits with this very ask (its number and its plan's hash) and `at` is before the ask's
    end, whatever else stands in the item; else ConflictError and none of it.
    """

    case: str
    ask: Ask
    at: datetime
    answers: Answers
    record: Record
    notice: Notice


class SweepChange(Model):
    """One transaction of a sweep: its item at its new version; at its end also the baselines, the record, the report."""

    sweep: Sweep
    baselines: tuple[Baseline, ...] = ()
    record: Record | None = None
    notices: tuple[Notice, ...] = ()


class Swept(Model):
    """How far the sweeps of an account are: the newest sweep, and the baselines that stand."""

    sweep: Sweep | None
    baselines: tuple[Baseline, ...]


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

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case, read consistently; None when nobody said anything."""
        ...

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        """What people said to these asks (case, number), a hundred at most, by case; in one consistent read."""
        ...

    def in_state(self, state: CaseState) -> Iterator[Case]:
        """The current cases in that state, page by page: the one call each, and one for the bodies of a page.

        A case that cannot be read stands in nobody's way: the others come first, then UnreadableError.
        """
        ...

    def bodies(self, chain: str) -> tuple[str, ...]:
        """The stored bodies of a chain, in order."""
        ...

    def swept(self, account: str, controls: tuple[str, ...]) -> Swept:
        """The newest sweep of the account and the baselines of these controls there, read consistently in one call."""
        ...

    def keep(self, change: SweepChange) -> None:
        """All of it or none; ConflictError when somebody else moved the sweep on."""
        ...

    def policy(self) -> "PolicySetting | None":
        """The policy that stands, read consistently; None while nobody ever set one."""
        ...

    def breakers(self, account: str, controls: tuple[str, ...]) -> tuple[Breaker, ...]:
        """The breaker of each of these controls there, in their order; at version 0 where nothing ever went wrong."""
        ...


class Settings(Protocol):
    """The settings that people change, and the asks that they answer, seen from the commands route."""

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name, whether it is current or archived."""
        ...

    def cases_of(self, resource: str) -> tuple[Case, ...]:
        """The current cases of that resource. One that was opened within the last second or so may be missing."""
        ...

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask, read consistently."""
        ...

    def answer(self, change: AnswerChange) -> None:
        """All of it or none; ConflictError when the ask is no longer what it was, or somebody answered meanwhile."""
        ...

    def note(self, record: Record) -> bool:
        """A chain of one record (an answer that was refused); False when it already stands."""
        ...

    def breaker(self, account: str, control: str) -> Breaker:
        """The control's breaker there, at version 0 where nothing ever went wrong."""
        ...

    def deployment_role(self, account: str, role_arn: str) -> DeploymentRole | None:
        """What was last configured about that role, or None."""
        ...

    def owner(self, account: str) -> Owner | None:
        """Who answers for the account, or None."""
        ...

    def policy(self) -> "PolicySetting | None":
        """The policy that stands, read consistently; None while nobody ever set one."""
        ...

    def engagement(self, name: str) -> "Engagement | None":
        """The invitation of that name, over or not, or None."""
        ...

    def dossier(self, case: str) -> "Dossier | None":
        """What people said of the case beside its decisions, or None."""
        ...

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

    def regions(self, account: str) -> tuple[str, ...]:
        """The Regions that are switched on in the account, sorted, read now under the read-only role."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for a service to settle."""
        ...
