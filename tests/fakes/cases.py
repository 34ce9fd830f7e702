"""The engine's tables in memory: `ports.Cases` and `ports.Settings` with DynamoDB's semantics, held to the same tests.

Everything is kept as JSON, as it is in DynamoDB, so that nobody can change what was stored by changing what was given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from chalicelib.adapters.dynamodb import account_spent, actor_spent
from chalicelib.domain.case import Case, Lock
from chalicelib.domain.errors import ConflictError, ContractError, StoreError
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.limits import Spent
from chalicelib.domain.ports import (
    Change,
    Enrolment,
    Exemption,
    Freeze,
    Gate,
    Guard,
    ModeSetting,
    Notice,
    Question,
    SettingChange,
)
from chalicelib.domain.record import Head, Record
from chalicelib.flow.decide import scopes

HOME = "111111111111"

M = TypeVar("M", bound=Model)
Setting = ModeSetting | Exemption | Freeze | Enrolment | Spent


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

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record, in the order in which they were written."""
        return tuple(
            Record.model_validate_json(i.body) for name, i in self.items.items() if name[0] == "RECORD"
        )

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Every notice as it stands, in the order in which they were first written."""
        return tuple(
            Notice.model_validate_json(i.body) for name, i in self.items.items() if name[0] == "NOTICE"
        )

    @property
    def cases(self) -> tuple[Case, ...]:
        """The current episode of every case."""
        found = (i for name, i in self.items.items() if name[0] == "CASE" and len(name) == 2)
        return tuple(Case.model_validate_json(i.body) for i in found)

    def chain(self, chain: str) -> tuple[Record, ...]:
        """The records of one chain, in the order of their sequence."""
        return tuple(sorted((r for r in self.records if r.chain == chain), key=lambda record: record.seq))

    # -- what people set, without the ceremony ------------------------------------------------------------------------

    def set(self, *settings: Setting) -> None:
        """Store settings as they are: no record, no chain."""
        for setting in settings:
            version = setting.version if isinstance(setting, Spent) else 0
            self.items[_name(setting)] = Item(setting.model_dump_json(), version)

    # -- ports.Cases --------------------------------------------------------------------------------------------------

    def look(self, question: Question) -> Gate:
        self.calls.append("look")
        target, controls = question.target, tuple(dict.fromkeys(question.controls))
        account, resource = target.account, target.resource
        modes = (self._get(ModeSetting, "MODE", account, control) for control in controls)
        exemptions = (self._get(Exemption, "EXEMPTION", account, control, resource) for control in controls)
        freezes = (self._get(Freeze, "FREEZE", scope) for scope in scopes(target, controls))
        return Gate(
            seen=("SEEN", question.event_id, question.case) in self.items,
            case=self._get(Case, "CASE", question.case),
            lock=self._get(Lock, *_lock(target)),
            modes=tuple(mode for mode in modes if mode),
            exemptions=tuple(exemption for exemption in exemptions if exemption),
            freezes=tuple(freeze for freeze in freezes if freeze),
            enrolled=account == self.home or self._get(Enrolment, "ENROLMENT", account) is not None,
            account_spent=self._spent(account_spent(account)),
            actor_spent=self._spent(actor_spent(question.actor_key)),
        )

    def case(self, digest: str, episode: int) -> Case | None:
        self.calls.append("case")
        found = (self._get(Case, "CASE", digest), self._get(Case, "CASE", digest, str(episode)))
        return next((case for case in found if case and case.episode == episode), None)

    def commit(self, change: Change) -> None:
        self.calls.append("commit")
        self._write(list(_writes(change)))

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        self.calls.append("guard")
        found = (self._get(Freeze, "FREEZE", scope) for scope in dict.fromkeys(scopes))
        return Guard(
            freezes=tuple(freeze for freeze in found if freeze),
            account_spent=self._spent(account_spent(account)),
        )

    def note(self, record: Record) -> bool:
        self.calls.append("note")
        if _record(record).name in self.items:
            return False
        self._write([_record(record)])
        return True

    # -- ports.Settings ---------------------------------------------------------------------

    def head(self, chain: str) -> Head:
        self.calls.append("head")
        return self._get(Head, "CHAIN", chain) or Head()

    def freeze(self, scope: str) -> Freeze | None:
        self.calls.append("freeze")
        return self._get(Freeze, "FREEZE", scope)

    def mode(self, account: str, control: str) -> ModeSetting | None:
        self.calls.append("mode")
        return self._get(ModeSetting, "MODE", account, control)

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        self.calls.append("exemption")
        return self._get(Exemption, "EXEMPTION", account, control, resource)

    def enrolment(self, account: str) -> Enrolment | None:
        self.calls.append("enrolment")
        return self._get(Enrolment, "ENROLMENT", account)

    def apply(self, change: SettingChange) -> None:
        self.calls.append("apply")
        chain, head = change.record.chain, change.record.head
        if head.seq != change.expected_head.seq + 1:
            raise ContractError(f"record {head.seq} does not follow record {change.expected_head.seq}")
        standing = self._get(Head, "CHAIN", chain) or Head()
        if standing != change.expected_head:
            raise ConflictError(f"{chain} has moved on")
        moved = Write(("CHAIN", chain), Item(head.model_dump_json(), head.seq), None)
        self._write([_record(change.record), moved])
        self.set(*(one for one in (change.mode, change.exemption, change.enrolment) if one), *change.freezes)

    # -- the store ----------------------------------------------------------------------------------------------------

    def _get(self, model: type[M], *name: str) -> M | None:
        item = self.items.get(name)
        try:
            return model.model_validate_json(item.body) if item else None
        except ValidationError as error:
            raise StoreError(f"{'#'.join(name)} cannot be read: {error}") from error

    def _spent(self, key: str) -> Spent:
        return self._get(Spent, "SPENT", key) or Spent(key=key)

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


def _name(setting: Setting) -> tuple[str, ...]:
    match setting:
        case ModeSetting():
            return ("MODE", setting.account, setting.control)
        case Exemption():
            return ("EXEMPTION", setting.account, setting.control, setting.resource)
        case Freeze():
            return ("FREEZE", setting.scope)
        case Enrolment():
            return ("ENROLMENT", setting.account)
        case Spent():
            return ("SPENT", setting.key)


def _lock(target: Target) -> tuple[str, ...]:
    return ("LOCK", target.key)


def _record(record: Record) -> Write:
    return Write(("RECORD", record.chain, str(record.seq)), Item(record.model_dump_json()), 0)


def _versioned(name: tuple[str, ...], model: Case | Lock | Spent) -> Write:
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
    for record in change.records:
        yield _record(record)
    for notice in {notice.id: notice for notice in change.notices}.values():
        yield Write(("NOTICE", notice.id), Item(notice.model_dump_json()), None)
