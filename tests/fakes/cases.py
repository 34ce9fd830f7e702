"""The engine's tables in memory: `ports.Cases` and `ports.Settings` with DynamoDB's semantics, held to the same tests.

Everything is kept as JSON, as it is in DynamoDB, so that nobody can change what was stored by changing what was given.
Every call is whole before the next one begins, whichever thread it comes from.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from types import MappingProxyType
from typing import TypeVar

from pydantic import ValidationError

from chalicelib.adapters.tables import account_spent, actor_spent
from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState, Lock
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import ConflictError, ContractError, StoreError, UnreadableError
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.kept import Kept
from chalicelib.domain.limits import Spent
from chalicelib.domain.policy import Engagement, PolicySetting
from chalicelib.domain.ports import (
    AnswerChange,
    Change,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    Gate,
    Guard,
    ModeSetting,
    Notice,
    Owner,
    Question,
    SettingChange,
    SweepChange,
    Swept,
)
from chalicelib.domain.record import Head, Record, stamp
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.domain.ticket import Ticket
from chalicelib.flow.decide import scopes

HOME = "111111111111"

M = TypeVar("M", bound=Model)
Setting = (
    ModeSetting
    | Exemption
    | Freeze
    | Enrolment
    | DeploymentRole
    | Owner
    | Kept
    | Spent
    | Sweep
    | Baseline
    | Breaker
    | Ticket
)
Versioned = Case | Lock | Spent | Answers | Sweep | Breaker


@dataclass(frozen=True)
class Item:
    """What is stored under one name: JSON, and a version where there is one."""

    body: str
    version: int = 0


@dataclass(frozen=True)
class Write:
    """One put: under which name, what, and the version that must stand there (0: none; None: whatever does)."""

    name: tuple[str, ...]
    item: Item
    before: int | None


class FakeCases:
    """All four tables. `calls` has the name of every port call, `records` and `notices` what was written, in order."""

    def __init__(self, home: str = HOME) -> None:
        self.home = home
        self.items: dict[tuple[str, ...], Item] = {}
        self.calls: list[str] = []
        self._lock = RLock()

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, in the order in which they were written."""
        return self._all(Record, "RECORD")

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Every notice as it stands, in the order in which they were first written."""
        return self._all(Notice, "NOTICE")

    @property
    def cases(self) -> tuple[Case, ...]:
        """The current episode of every case."""
        return self._all(Case, "CASE", parts=2)

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """Every ticket as it stands, in the order in which they were opened."""
        return self._all(Ticket, "TICKET")

    @property
    def exemptions(self) -> tuple[Exemption, ...]:
        """Every exemption as it stands, in the order in which their resources were first exempted."""
        return self._all(Exemption, "EXEMPTION")

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        """The newest sweep of each account."""
        return self._all(Sweep, "SWEEP")

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """Every baseline that stands."""
        return self._all(Baseline, "BASELINE")

    def chain(self, chain: str) -> tuple[Record, ...]:
        """The records of one chain, in the order of their sequence."""
        return tuple(sorted((r for r in self.records if r.chain == chain), key=lambda record: record.seq))

    def answers_of(self, case: Case, ask: int | None = None) -> Answers | None:
        """What people said to that ask of a case (its last one), without a port call."""
        return self._get(Answers, "ANSWERS", case.id, str(case.asks if ask is None else ask))

    # -- what people set, without the ceremony ------------------------------------------------------------------------

    def set(self, *settings: Setting) -> None:
        """Store settings as they are: no record, no chain."""
        with self._lock:
            for setting in settings:
                version = setting.version if isinstance(setting, Spent | Sweep | Breaker) else 0
                self.items[_name(setting)] = Item(setting.model_dump_json(), version)

    # -- ports.Cases and ports.Settings -------------------------------------------------------------------------------

    def case(self, digest: str, episode: int) -> Case | None:
        with self._call("case"):
            found = (self._get(Case, "CASE", digest), self._get(Case, "CASE", digest, str(episode)))
            return next((case for case in found if case and case.episode == episode), None)

    def answers(self, case: str, ask: int) -> Answers | None:
        with self._call("answers"):
            return self._get(Answers, "ANSWERS", case, str(ask))

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        with self._call("answers_to"):
            found = ((case, self._get(Answers, "ANSWERS", case, str(ask))) for case, ask in asks)
            return {case: answers for case, answers in found if answers}

    def policy(self) -> PolicySetting | None:
        with self._call("policy"):
            return self._get(PolicySetting, "POLICY")

    def note(self, record: Record) -> bool:
        with self._call("note"):
            if _record(record).name in self.items:
                return False
            self._write([_record(record)])
            return True

    # -- ports.Cases --------------------------------------------------------------------------------------------------

    def look(self, question: Question) -> Gate:
        target, controls = question.target, tuple(dict.fromkeys(question.controls))
        account, resource, role = target.account, target.resource, question.role_arn
        with self._call("look"):
            return Gate(
                seen=("SEEN", question.event_id, question.case) in self.items,
                case=self._get(Case, "CASE", question.case),
                lock=self._get(Lock, *_lock(target)),
                modes=self._some(ModeSetting, [("MODE", account, control) for control in controls]),
                exemptions=self._some(
                    Exemption, [("EXEMPTION", account, control, resource) for control in controls]
                ),
                freezes=self._some(Freeze, [("FREEZE", scope) for scope in scopes(target, controls)]),
                enrolled=account == self.home or self._get(Enrolment, "ENROLMENT", account) is not None,
                account_spent=self._spent(account_spent(account)),
                actor_spent=self._spent(actor_spent(question.actor_key)),
                baselines=self._some(Baseline, [("BASELINE", account, control) for control in controls]),
                deployment_role=self._get(DeploymentRole, "DEPLOYER", account, role) if role else None,
                owner=self._get(Owner, "OWNER", account),
                breakers=self._some(Breaker, [("BREAKER", account, control) for control in controls]),
            )

    def commit(self, change: Change) -> None:
        with self._call("commit"):
            self._write(list(_writes(change)))

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        with self._call("guard"):
            freezes = self._some(Freeze, [("FREEZE", scope) for scope in dict.fromkeys(scopes)])
            return Guard(freezes=freezes, account_spent=self._spent(account_spent(account)))

    def in_state(self, state: CaseState) -> Iterator[Case]:
        with self._call("in_state"):
            names = [name for name in self.items if name[0] == "CASE" and len(name) == 2]
        listed, unreadable = list[Case](), list[UnreadableError]()
        for name in names:
            try:
                listed += [case for case in (self._get(Case, *name),) if case and case.state is state]
            except UnreadableError as error:
                unreadable.append(error)
        for case in sorted(listed, key=lambda case: case.updated_at):
            now = self._get(Case, "CASE", case.digest)
            if now and now.state is state:
                yield now
        if unreadable:
            raise unreadable[-1]

    def bodies(self, chain: str) -> tuple[str, ...]:
        with self._call("bodies"):
            return tuple(record.body for record in self.chain(chain))

    def swept(self, account: str, controls: tuple[str, ...]) -> Swept:
        with self._call("swept"):
            baselines = [("BASELINE", account, control) for control in dict.fromkeys(controls)]
            return Swept(sweep=self._get(Sweep, "SWEEP", account), baselines=self._some(Baseline, baselines))

    def keep(self, change: SweepChange) -> None:
        with self._call("keep"):
            self._write(
                [
                    _versioned(_name(change.sweep), change.sweep),
                    *map(_set, change.baselines),
                    *([_record(change.record)] if change.record else []),
                    *_notices(change.notices),
                ]
            )

    def breakers(self, account: str, controls: tuple[str, ...]) -> tuple[Breaker, ...]:
        with self._call("breakers"):
            return tuple(self._breaker(account, control) for control in controls)

    # -- ports.Settings -----------------------------------------------------------------------------------------------

    def cases_of(self, resource: str) -> tuple[Case, ...]:
        with self._call("cases_of"):
            return tuple(case for case in self.cases if case.target.resource == resource)

    def head(self, chain: str) -> Head:
        with self._call("head"):
            return self._get(Head, "CHAIN", chain) or Head()

    def breaker(self, account: str, control: str) -> Breaker:
        with self._call("breaker"):
            return self._breaker(account, control)

    def freeze(self, scope: str) -> Freeze | None:
        with self._call("freeze"):
            return self._get(Freeze, "FREEZE", scope)

    def mode(self, account: str, control: str) -> ModeSetting | None:
        with self._call("mode"):
            return self._get(ModeSetting, "MODE", account, control)

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        with self._call("exemption"):
            return self._get(Exemption, "EXEMPTION", account, control, resource)

    def enrolment(self, account: str) -> Enrolment | None:
        with self._call("enrolment"):
            return self._get(Enrolment, "ENROLMENT", account)

    def deployment_role(self, account: str, role_arn: str) -> DeploymentRole | None:
        with self._call("deployment_role"):
            return self._get(DeploymentRole, "DEPLOYER", account, role_arn)

    def engagement(self, name: str) -> Engagement | None:
        with self._call("engagement"):
            return self._get(Engagement, "ENGAGEMENT", name)

    def dossier(self, case: str) -> Dossier | None:
        with self._call("dossier"):
            return self._get(Dossier, "DOSSIER", case)

    def owner(self, account: str) -> Owner | None:
        with self._call("owner"):
            return self._get(Owner, "OWNER", account)

    def answer(self, change: AnswerChange) -> None:
        with self._call("answer"):
            answers, ask = change.answers, change.ask
            if (answers.case, answers.ask, answers.plan_hash) != (change.case, ask.seq, ask.plan_hash):
                raise ContractError(f"these are no answers to ask {ask.seq} of {change.case}")
            write = _versioned(("ANSWERS", answers.case, str(answers.ask)), answers)
            case = self._get(Case, "CASE", change.case.rpartition("-")[0])
            if not case or case.id != change.case or not _still_asked(case, change):
                raise ConflictError(f"{change.case} is no longer asked about that")
            self._write([write, _record(change.record), *_notices((change.notice,))])

    def apply(self, change: SettingChange) -> None:
        with self._call("apply"):
            chain, head = change.record.chain, change.record.head
            if head.seq != change.expected_head.seq + 1:
                raise ContractError(f"record {head.seq} does not follow record {change.expected_head.seq}")
            standing = self._get(Head, "CHAIN", chain) or Head()
            if standing != change.expected_head:
                raise ConflictError(f"{chain} has moved on")
            settings = (
                change.mode,
                change.enrolment,
                change.deployment_role,
                change.owner,
            )
            self._write(
                [
                    _record(change.record),
                    Write(("CHAIN", chain), Item(head.model_dump_json(), head.seq), None),
                    *(_set(one) for one in (*settings, *change.exemptions, *change.freezes) if one),
                    *([_versioned(_name(change.breaker), change.breaker)] if change.breaker else []),
                    *([_set(change.kept)] if change.kept else []),
                    *_notices(change.notices),
                ]
            )

    # -- the store ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls.append(name)
            yield

    def _get(self, model: type[M], *name: str) -> M | None:
        item = self.items.get(name)
        try:
            return model.model_validate_json(item.body) if item else None
        except ValidationError as error:
            raise UnreadableError(f"{'#'.join(name)} cannot be read: {error}") from error

    def _some(self, model: type[M], names: Sequence[tuple[str, ...]]) -> tuple[M, ...]:
        """What stands under those of the names that have something."""
        return tuple(found for name in names if (found := self._get(model, *name)))

    def _all(self, model: type[M], kind: str, parts: int | None = None) -> tuple[M, ...]:
        """Everything of a kind, in the order in which it was first written."""
        with self._lock:
            names = [name for name in self.items if name[0] == kind and parts in {None, len(name)}]
            return self._some(model, names)

    def _spent(self, key: str) -> Spent:
        return self._get(Spent, "SPENT", key) or Spent(key=key)

    def _breaker(self, account: str, control: str) -> Breaker:
        return self._get(Breaker, "BREAKER", account, control) or Breaker(account=account, control=control)

    def _write(self, writes: list[Write]) -> None:
        """All or none. A name is written at most once in a transaction."""
        if len({write.name for write in writes}) != len(writes):
            raise StoreError("a transaction may not write one item twice")
        for write in writes:
            if write.before is None:
                continue
            stands = self.items.get(write.name)
            if (
                (stands is not None)
                if write.before == 0
                else (stands is None or stands.version != write.before)
            ):
                raise ConflictError(f"{'#'.join(write.name)} was written by somebody else")
        self.items.update({write.name: write.item for write in writes})


_NAMES: Mapping[type[Model], tuple[str, ...]] = MappingProxyType(
    {
        ModeSetting: ("MODE", "account", "control"),
        Exemption: ("EXEMPTION", "account", "control", "resource"),
        Freeze: ("FREEZE", "scope"),
        Enrolment: ("ENROLMENT", "account"),
        DeploymentRole: ("DEPLOYER", "account", "role_arn"),
        Owner: ("OWNER", "account"),
        PolicySetting: ("POLICY",),
        Engagement: ("ENGAGEMENT", "id"),
        Dossier: ("DOSSIER", "case"),
        Spent: ("SPENT", "key"),
        Sweep: ("SWEEP", "account"),
        Breaker: ("BREAKER", "account", "control"),
        Baseline: ("BASELINE", "account", "control"),
        Ticket: ("TICKET", "digest", "number"),
    }
)
"""What each setting is stored under: its kind, and the fields that tell it from others of its kind."""


def _name(setting: Setting) -> tuple[str, ...]:
    kind, *fields = _NAMES[type(setting)]
    return (kind, *(str(getattr(setting, field)) for field in fields))


def _still_asked(case: Case, change: AnswerChange) -> bool:
    """The case waits with that very ask, and by the stamps that DynamoDB compares the ask has not ended."""
    ask = case.ask
    return (
        case.state is CaseState.WAITING
        and ask is not None
        and (ask.seq, ask.plan_hash) == (change.ask.seq, change.ask.plan_hash)
        and stamp(ask.expires_at) > stamp(change.at)
    )


def _lock(target: Target) -> tuple[str, ...]:
    return ("LOCK", target.key)


def _record(record: Record) -> Write:
    return Write(("RECORD", record.chain, str(record.seq)), Item(record.model_dump_json()), 0)


def _set(setting: Setting) -> Write:
    return Write(_name(setting), Item(setting.model_dump_json()), None)


def _notices(notices: Sequence[Notice]) -> Iterator[Write]:
    for notice in {notice.id: notice for notice in notices}.values():
        yield Write(("NOTICE", notice.id), Item(notice.model_dump_json()), None)


def _versioned(name: tuple[str, ...], model: Versioned) -> Write:
    if model.version < 1:
        raise ContractError(f"version {model.version} cannot be stored: the first version of anything is 1")
    return Write(name, Item(model.model_dump_json(), model.version), model.version - 1)


def _writes(change: Change) -> Iterator[Write]:
    case = change.case
    yield _versioned(("CASE", case.digest), case)
    if change.archive:
        ended = change.archive
        name = ("CASE", ended.digest, str(ended.episode))
        yield Write(name, Item(ended.model_dump_json(), ended.version), 0)
    if change.lock:
        yield _versioned(_lock(case.target), change.lock)
    for event_id in dict.fromkeys(change.seen):
        yield Write(("SEEN", event_id, case.digest), Item("{}"), 0)
    for spent in change.spent:
        yield _versioned(("SPENT", spent.key), spent)
    yield from (_versioned(_name(one), one) for one in change.breakers)
    if change.ticket:
        yield _set(change.ticket)
    yield from map(_set, change.exemptions)
    yield from map(_record, change.records)
    yield from _notices(change.notices)
