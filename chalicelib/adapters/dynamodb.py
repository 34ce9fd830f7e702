"""The store on DynamoDB: the engine's port, the port of what people set, and the ledger that they read.

The store fails closed, with the errors of `adapters.door`. Nothing here deletes, and nothing updates in place: every
write is a PutItem, so that a role needs `dynamodb:PutItem` and can be denied the rest. Whoever takes an answer needs
`dynamodb:ConditionCheckItem` besides, and no right to write the case that is answered about.
"""

import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from chalicelib.adapters.deployment import Deployment
from chalicelib.adapters.door import (
    Door,
    Port,
    Stored,
    answers_of,
    batches,
    parsed,
    read,
    records_of,
    say,
    stored,
)
from chalicelib.adapters.tables import (
    ABSENT,
    ALWAYS,
    SHARDS,
    Check,
    Item,
    Put,
    account_spent,
    actor_spent,
    answers_key,
    baseline_key,
    breaker_key,
    case_key,
    chain_key,
    day_key,
    deployer_key,
    enrolment_key,
    exemption_key,
    freeze_key,
    if_next,
    item_of,
    lock_key,
    mode_key,
    month_key,
    notice_item,
    owner_key,
    record_put,
    resource_key,
    seen_key,
    setting_put,
    spent_key,
    sweep_key,
    ticket_key,
    versioned,
)
from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState, Lock, parts_of
from chalicelib.domain.contract import canonical
from chalicelib.domain.errors import ContractError, StoreError, UnreadableError
from chalicelib.domain.finding import Model
from chalicelib.domain.limits import Spent
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
from chalicelib.domain.record import Head, stamp, system_chain
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow.decide import scopes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chalicelib.domain.dossier import Dossier
    from chalicelib.domain.figures import Figures
    from chalicelib.domain.policy import Engagement, PolicySetting

M = TypeVar("M", bound=Model)
T = TypeVar("T")
Stateful = TypeVar("Stateful", Case, Ticket)


# ---------------------------------------------------------------------------------------------------------- the items


def _case_item(pk: str, case: Case) -> Item:
    item = versioned(
        pk,
        case.model_dump_json(),
        case.version,
        state=case.state.value,
        updated_at=stamp(case.updated_at),
        account=case.target.account,
    )
    if case.state is CaseState.WAITING and case.ask:
        ask = case.ask
        item |= {
            "case": {"S": case.id},
            "ask": {"N": str(ask.seq)},
            "ask_hash": {"S": ask.plan_hash},
            "ask_expires": {"S": stamp(ask.expires_at)},
        }
    return item


def _still_asked(change: AnswerChange) -> Check:
    """The case of that very episode waits with that very ask, and the ask ends later than now. Stamps sort as times do."""
    names = ("case", "state", "ask", "ask_hash", "ask_expires")
    return Check(
        case_key(change.case.rpartition("-")[0]),
        {
            "ConditionExpression": "#case = :case AND #state = :state AND #ask = :ask AND #ask_hash = :ask_hash"
            " AND #ask_expires > :at",
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
            "ExpressionAttributeValues": {
                ":case": {"S": change.case},
                ":state": {"S": CaseState.WAITING.value},
                ":ask": {"N": str(change.ask.seq)},
                ":ask_hash": {"S": change.ask.plan_hash},
                ":at": {"S": stamp(change.at)},
            },
        },
    )


def _ticket_item(ticket: Ticket) -> Item:
    return item_of(
        ticket_key(ticket.digest, ticket.number),
        ticket.model_dump_json(),
        state=_TICKET_STATES[ticket.state],
        updated_at=stamp(ticket.updated_at),
    )


_TICKET_STATES = MappingProxyType({state: f"ticket_{state.value}" for state in TicketState})
"""How the index of cases by state tells tickets from cases."""


def _puts(change: Change) -> Iterator[Put]:
    case = change.case
    yield Put("cases", _case_item(case_key(case.digest), case), if_next(case.version))
    if change.archive:
        ended = change.archive
        yield Put("cases", _case_item(case_key(ended.digest, ended.episode), ended), ABSENT)
    if change.lock:
        lock = change.lock
        yield Put(
            "cases",
            versioned(lock_key(case.target), lock.model_dump_json(), lock.version),
            if_next(lock.version),
        )
    for event_id in dict.fromkeys(change.seen):
        body = canonical({"case": case.id, "generation": case.generation})
        yield Put("cases", item_of(seen_key(event_id, case.digest), body), ABSENT)
    for spent in change.spent:
        item = versioned(spent_key(spent.key), spent.model_dump_json(), spent.version, kind="SPENT")
        yield Put("control_state", item, if_next(spent.version))
    yield from map(_breaker_put, change.breakers)
    if change.ticket:
        yield Put("cases", _ticket_item(change.ticket), ALWAYS)
    yield from map(_exemption_put, change.exemptions)
    yield from map(record_put, change.records)
    yield from _notice_puts(change.notices)


def _setting_puts(change: SettingChange) -> Iterator[Put]:
    if change.mode:
        mode = change.mode
        yield setting_put(mode_key(mode.account, mode.control), "MODE", mode)
    for freeze in change.freezes:
        yield setting_put(freeze_key(freeze.scope), "FREEZE", freeze)
    yield from map(_exemption_put, change.exemptions)
    if change.enrolment:
        yield setting_put(enrolment_key(change.enrolment.account), "ENROLMENT", change.enrolment)
    if change.deployment_role:
        role = change.deployment_role
        yield setting_put(deployer_key(role.account, role.role_arn), "DEPLOYER", role)
    if change.owner:
        yield setting_put(owner_key(change.owner.account), "OWNER", change.owner)
    if change.breaker:
        yield _breaker_put(change.breaker)
    if change.kept:
        yield setting_put(change.kept.key_of(change.kept.its_name), change.kept.KIND, change.kept)
    yield record_put(change.record)
    yield from _notice_puts(change.notices)
    before, head = change.expected_head, change.record.head
    if head.seq != before.seq + 1:
        raise ContractError(f"record {head.seq} of {change.record.chain} does not follow record {before.seq}")
    item = versioned(
        chain_key(change.record.chain), head.model_dump_json(), head.seq, kind="CHAIN", hash=head.hash
    )
    yield Put("control_state", item, _follows(before))


def _answer_puts(change: AnswerChange) -> Iterator[Put]:
    answers, ask = change.answers, change.ask
    if (answers.case, answers.ask, answers.plan_hash) != (change.case, ask.seq, ask.plan_hash):
        raise ContractError(
            f"answers to ask {answers.ask} of {answers.case} are none to {ask.seq} of {change.case}"
        )
    key = answers_key(answers.case, answers.ask)
    yield Put("cases", versioned(key, answers.model_dump_json(), answers.version), if_next(answers.version))
    yield record_put(change.record)
    yield from _notice_puts((change.notice,))


def _sweep_puts(change: SweepChange) -> Iterator[Put]:
    sweep = change.sweep
    item = versioned(sweep_key(sweep.account), sweep.model_dump_json(), sweep.version, kind="SWEEP")
    yield Put("control_state", item, if_next(sweep.version))
    for baseline in change.baselines:
        yield setting_put(baseline_key(baseline.account, baseline.control), "BASELINE", baseline)
    if change.record:
        yield record_put(change.record)
    yield from _notice_puts(change.notices)


def _breaker_put(one: Breaker) -> Put:
    item = versioned(
        breaker_key(one.account, one.control), one.model_dump_json(), one.version, kind="BREAKER"
    )
    return Put("control_state", item, if_next(one.version))


def _exemption_put(exemption: Exemption) -> Put:
    key = exemption_key(exemption.account, exemption.control, exemption.resource)
    return setting_put(key, "EXEMPTION", exemption)


def _notice_puts(notices: Iterable[Notice]) -> Iterator[Put]:
    # A transaction may touch an item once: of two states of one notice, the later stands.
    for notice in {notice.id: notice for notice in notices}.values():
        yield Put("outbox", notice_item(notice), ALWAYS)


def _follows(before: Head) -> Mapping[str, Any]:
    """The condition that the chain's head is still `before`, by number and by hash."""
    if before.seq == 0:
        return ABSENT
    return {
        "ConditionExpression": "#version = :before AND #hash = :hash",
        "ExpressionAttributeNames": {"#version": "version", "#hash": "hash"},
        "ExpressionAttributeValues": {":before": {"N": str(before.seq)}, ":hash": {"S": before.hash}},
    }


# ---------------------------------------------------------------------------------------------------------- the ports


class DynamoCases(Port):
    """`ports.Cases` on DynamoDB.

    Rights: `look`, `case`, `guard`, `answers`, `answers_to`, `swept`, `breakers` need dynamodb:BatchGetItem on cases and control_state; `in_state`
    needs it too, and dynamodb:Query on the index by_state; `bodies` needs dynamodb:Query on audit; `commit` needs
    dynamodb:PutItem on cases, control_state, audit and outbox, `keep` on the last three; `note` needs it on audit.
    """

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        super().__init__(client, deployment)
        self._home = deployment.account

    def look(self, question: Question) -> Gate:
        """Everything that the gate needs in one consistent BatchGetItem. Expired things are in it: time is the flow's."""
        target, controls = question.target, tuple(dict.fromkeys(question.controls))
        seen, case, lock = (
            seen_key(question.event_id, question.case),
            case_key(question.case),
            lock_key(target),
        )
        modes = [mode_key(target.account, control) for control in controls]
        exemptions = [exemption_key(target.account, control, target.resource) for control in controls]
        freezes = [freeze_key(scope) for scope in scopes(target, controls)]
        baselines = [baseline_key(target.account, control) for control in controls]
        breakers = [breaker_key(target.account, control) for control in controls]
        owner = owner_key(target.account)
        deployers = [deployer_key(target.account, question.role_arn)] if question.role_arn else []
        account, actor = account_spent(target.account), actor_spent(question.actor_key)
        enrolment = enrolment_key(target.account)
        found = self._door.get(
            {
                "cases": [seen, case, lock],
                "control_state": [
                    *modes,
                    *exemptions,
                    *freezes,
                    *baselines,
                    *breakers,
                    *deployers,
                    owner,
                    enrolment,
                    spent_key(account),
                    spent_key(actor),
                ],
            }
        )
        return Gate(
            seen=seen in found,
            case=parsed(Case, found.get(case)),
            lock=parsed(Lock, found.get(lock)),
            modes=_all(ModeSetting, modes, found),
            exemptions=_all(Exemption, exemptions, found),
            freezes=_all(Freeze, freezes, found),
            enrolled=target.account == self._home or parsed(Enrolment, found.get(enrolment)) is not None,
            account_spent=_spent(account, found),
            actor_spent=_spent(actor, found),
            baselines=_all(Baseline, baselines, found),
            deployment_role=next(iter(_all(DeploymentRole, deployers, found)), None),
            owner=parsed(Owner, found.get(owner)),
            breakers=_all(Breaker, breakers, found),
        )

    def breakers(self, account: str, controls: tuple[str, ...]) -> tuple[Breaker, ...]:
        """The breakers of these controls there, in one consistent BatchGetItem."""
        found = self._door.get({"control_state": [breaker_key(account, control) for control in controls]})
        return tuple(
            parsed(Breaker, found.get(breaker_key(account, control)))
            or Breaker(account=account, control=control)
            for control in controls
        )

    def commit(self, change: Change) -> None:
        """All of `change` in one TransactWriteItems; ConflictError and none of it when somebody was faster."""
        self._door.transact(_puts(change), f"case {change.case.id}")

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        """The kill switches of `scopes` and the account's reservations, in one consistent BatchGetItem."""
        freezes, key = [freeze_key(scope) for scope in scopes], account_spent(account)
        found = self._door.get({"control_state": [*freezes, spent_key(key)]})
        return Guard(freezes=_all(Freeze, freezes, found), account_spent=_spent(key, found))

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        """What people said to these asks (case, number), by case, at most BATCH_KEYS of them, in one consistent read."""
        return _answers_to(self._door, asks)

    def in_state(self, state: CaseState) -> Iterator[Case]:
        """The current cases in that state, once each, the one that has stood still longest first."""
        keys = self._door.query("cases", "by_state", "#state = :state", {":state": state.value})
        # A case that is written meanwhile moves to the end of the index, where it is met again.
        current, met = (key for key in keys if key["pk"]["S"].count("#") == 1), set[str]()
        unread: list[UnreadableError] = []
        for case in self._door.readable("cases", current, Case, unread):
            if case.state is state and case.digest not in met:
                met.add(case.digest)
                yield case
        say(unread)

    def bodies(self, chain: str) -> tuple[str, ...]:
        """The stored bodies of a chain, in order of its sequence, read consistently."""
        return tuple(record.body for record in records_of(self._door, chain))

    def swept(self, account: str, controls: tuple[str, ...]) -> Swept:
        """The newest sweep of the account and the baselines of these controls there, in one consistent BatchGetItem."""
        sweep, baselines = sweep_key(account), [baseline_key(account, control) for control in controls]
        found = self._door.get({"control_state": [sweep, *baselines]})
        return Swept(sweep=parsed(Sweep, found.get(sweep)), baselines=_all(Baseline, baselines, found))

    def keep(self, change: SweepChange) -> None:
        """All of `change` in one TransactWriteItems; ConflictError and none of it when somebody was faster."""
        self._door.transact(_sweep_puts(change), f"the sweep of {change.sweep.account}")


def _answers_to(door: Door, asks: Iterable[tuple[str, int]]) -> Mapping[str, Answers]:
    keys = {answers_key(case, ask): case for case, ask in asks}
    found = door.get({"cases": [*keys]}) if keys else {}
    return {keys[key]: read(Answers, item) for key, item in found.items()}


def _all(model: type[M], keys: Iterable[str], found: Mapping[str, Item]) -> tuple[M, ...]:
    return tuple(read(model, found[key]) for key in dict.fromkeys(keys) if key in found)


def _spent(key: str, found: Mapping[str, Item]) -> Spent:
    """What was reserved under `key`; an empty ledger at version 0 when nothing ever was."""
    return parsed(Spent, found.get(spent_key(key))) or Spent(key=key)


class DynamoSettings(Port):
    """`ports.Settings` on DynamoDB.

    Rights: `apply` needs dynamodb:PutItem on control_state, audit and outbox; `answer` on cases (keys ANSWERS#*), audit
    and outbox, and dynamodb:ConditionCheckItem on cases; `note` needs dynamodb:PutItem on audit; everything else needs
    dynamodb:BatchGetItem, `case` and `answers` on cases, the rest on control_state. `cases_of` needs it on cases, and
    dynamodb:Query on the index by_resource of audit.
    """

    def cases_of(self, resource: str) -> tuple[Case, ...]:
        """The current cases of that resource: a case's chain is called as the case is, and each of its records is indexed."""
        condition, of = "#resource_key = :resource", resource_key(resource)
        chains = {
            key["pk"]["S"] for key in self._door.query("audit", "by_resource", condition, {":resource": of})
        }
        keys = sorted({case_key(parts[0]) for chain in chains if (parts := parts_of(chain))})
        return tuple(self._door.bodies("cases", ({"pk": {"S": key}} for key in keys), Case))

    def answer(self, change: AnswerChange) -> None:
        """The answers, their record and the errand in one TransactWriteItems, if the case still waits with that ask."""
        self._door.transact(_answer_puts(change), f"the answer to case {change.case}", _still_asked(change))

    def breaker(self, account: str, control: str) -> Breaker:
        """The control's breaker there, at version 0 where nothing ever went wrong."""
        stands = self._stands(Breaker, breaker_key(account, control))
        return stands or Breaker(account=account, control=control)

    def deployment_role(self, account: str, role_arn: str) -> DeploymentRole | None:
        """What was last configured about that role, also that it is one no longer, or None."""
        return self._stands(DeploymentRole, deployer_key(account, role_arn))

    def owner(self, account: str) -> Owner | None:
        """Who answers for the account, or None."""
        return self._stands(Owner, owner_key(account))

    def engagement(self, name: str) -> "Engagement | None":
        """The invitation of that name, over or not, or None."""
        from chalicelib.domain.policy import Engagement  # noqa: PLC0415 -- a walk does without it

        return self._kept(Engagement, name)

    def dossier(self, case: str) -> "Dossier | None":
        """What people said of the case beside its decisions, or None."""
        from chalicelib.domain.dossier import Dossier  # noqa: PLC0415 -- a walk does without it

        return self._kept(Dossier, case)

    def head(self, chain: str) -> Head:
        """The end of a system chain; Head() when it has no record yet."""
        return self._stands(Head, chain_key(chain)) or Head()

    def freeze(self, scope: str) -> Freeze | None:
        """The switch of one scope, or None when nobody ever set it."""
        return self._stands(Freeze, freeze_key(scope))

    def mode(self, account: str, control: str) -> ModeSetting | None:
        """The mode that somebody set, or None."""
        return self._stands(ModeSetting, mode_key(account, control))

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        """The exemption last granted for this resource and control, expired or not, or None."""
        return self._stands(Exemption, exemption_key(account, control, resource))

    def enrolment(self, account: str) -> Enrolment | None:
        """The account's enrolment, or None; the home account has none and needs none."""
        return self._stands(Enrolment, enrolment_key(account))

    def ticket(self, name: str) -> Ticket | None:
        """The ticket of that id as it stands, or None."""
        ticket_digest, _, number = name.rpartition("-t")
        key = ticket_key(ticket_digest, number)
        return parsed(Ticket, self._door.get({"cases": [key]}).get(key))

    def send(self, notice: Notice) -> None:
        """An errand of a machine outside, which changes nothing by itself."""
        self._door.put(Put("outbox", notice_item(notice), ALWAYS))

    def apply(self, change: SettingChange) -> None:
        """The settings, their record and the chain's new head, or none of it and ConflictError."""
        self._door.transact(_setting_puts(change), f"the setting recorded in {change.record.chain}")


# -------------------------------------------------------------------------------------------------------- for reading


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of many, and where the rest begins: `more` is empty when there is no rest. `unreadable` ones are left out."""

    items: tuple[T, ...]
    more: str = ""
    unreadable: int = 0


@dataclass(frozen=True)
class Sought:
    """Which records a reader seeks: those about a resource, else those of an actor, else the account's. Inclusive times.

    An actor is sought as limits count one (`Actor.key`), and only what people did is found by it. `fits` looks at bodies.
    """

    account: str
    since: datetime
    until: datetime
    resource: str = ""
    actor: str = ""
    fits: Callable[[Mapping[str, Any]], bool] = lambda _: True


READ_AT_ONCE = 100
"""How many cases or records a page looks at, at most. What fits may be rare: the page is then short, and says where it stopped."""

QUIET_DAYS = 4
"""How many days without a record that fits a page of the log looks through before it says where it stopped."""


class Ledger:
    """What people read: records, cases, tickets and settings, in pages that are fetched only as far as they are asked for.

    Rights: dynamodb:Query on the table audit and on the indexes by_account, by_resource, by_state and by_kind;
    dynamodb:BatchGetItem on audit, cases and control_state. Nothing is ever scanned or filtered by DynamoDB.
    """

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._door = Door(client, deployment)

    def case_records(self, case_id: str) -> Iterator[Stored]:
        """A case's whole chain, in the order of its sequence. The chain is called as the case is."""
        return records_of(self._door, case_id)

    def system_records(self, account: str, month: datetime) -> Iterator[Stored]:
        """The chain of what people set in `account` in the month of that time, in the order of its sequence."""
        return records_of(self._door, system_chain(account, month))

    def records(self, account: str, since: datetime, until: datetime) -> Iterator[Stored]:
        """The account's records of that time, newest first."""
        day = until.astimezone(UTC).date()
        while day >= since.astimezone(UTC).date():
            shards = [
                self._indexed(
                    "by_account",
                    "account_key",
                    day_key(account, day.strftime("%Y%m%d"), shard),
                    since,
                    until,
                )
                for shard in range(SHARDS)
            ]
            newest = heapq.merge(*shards, key=lambda key: key["at_id"]["S"], reverse=True)
            yield from self._fetched(newest)
            day -= timedelta(days=1)

    def resource_records(self, resource: str, since: datetime, until: datetime) -> Iterator[Stored]:
        """The records about one resource of that time, newest first."""
        yield from self._fetched(
            self._indexed("by_resource", "resource_key", resource_key(resource), since, until)
        )

    def cases(self, state: CaseState | None = None, *, oldest_first: bool = False) -> Iterator[Case]:
        """The cases in `state`, or all of them, the one that moved last first. Archived episodes are among the ended.

        UnreadableError for those that cannot be read, when all the others have been handed out.
        """
        entries = [(one.value, one) for one in ([state] if state else CaseState)]
        return self._listed(Case, entries, newest_first=not oldest_first)

    def tickets(self, state: TicketState | None = None) -> Iterator[Ticket]:
        """The tickets in `state`, or all of them, likewise."""
        return self._listed(
            Ticket, [(_TICKET_STATES[one], one) for one in ([state] if state else TicketState)]
        )

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case; None when nobody said anything."""
        return answers_of(self._door, case, ask)

    def modes(self) -> tuple[ModeSetting, ...]:
        """Every mode that was set, in every account."""
        return self._kind("MODE", ModeSetting)

    def exemptions(self) -> tuple[Exemption, ...]:
        """Every exemption that was granted, expired ones too."""
        return self._kind("EXEMPTION", Exemption)

    def freezes(self) -> tuple[Freeze, ...]:
        """Every kill switch that was ever set, on or off."""
        return self._kind("FREEZE", Freeze)

    def enrolments(self) -> tuple[Enrolment, ...]:
        """The member accounts."""
        return self._kind("ENROLMENT", Enrolment)

    def deployment_roles(self) -> tuple[DeploymentRole, ...]:
        """Every role that was ever configured to deploy code, those that no longer do too."""
        return self._kind("DEPLOYER", DeploymentRole)

    def owners(self) -> tuple[Owner, ...]:
        """Who answers for which account."""
        return self._kind("OWNER", Owner)

    def policy(self) -> "PolicySetting | None":
        """The policy that stands, or None."""
        from chalicelib.domain.policy import PolicySetting  # noqa: PLC0415 -- a walk does without it

        return next(iter(self._kind(PolicySetting.KIND, PolicySetting)), None)

    def engagements(self) -> "tuple[Engagement, ...]":
        """Every invitation, those that are over too."""
        from chalicelib.domain.policy import Engagement  # noqa: PLC0415 -- a walk does without it

        return self._kind(Engagement.KIND, Engagement)

    def sweeps(self) -> tuple[Sweep, ...]:
        """The newest sweep of each account."""
        return self._kind("SWEEP", Sweep)

    def breakers(self) -> tuple[Breaker, ...]:
        """Every breaker that ever counted a miss, open or not."""
        return self._kind("BREAKER", Breaker)

    def spent(self) -> tuple[Spent, ...]:
        """What was reserved, by account and by actor."""
        return self._kind("SPENT", Spent)

    # -- pages ---------------------------------------------------------------------------------------------------------

    def cases_page(
        self,
        state: CaseState,
        most: int,
        after: str = "",
        fits: Callable[[Case], bool] = lambda _: True,
        *,
        oldest_first: bool = False,
    ) -> Page[Case]:
        """At most `most` cases in `state` that fit, the one that moved last first; `after` is a page's `more`."""
        return self._in_page(Case, state.value, state, most, after, fits, newest_first=not oldest_first)

    def tickets_page(
        self, state: TicketState, most: int, after: str = "", fits: Callable[[Ticket], bool] = lambda _: True
    ) -> Page[Ticket]:
        """The same of tickets."""
        return self._in_page(Ticket, _TICKET_STATES[state], state, most, after, fits, newest_first=True)

    def exemptions_page(
        self, most: int, after: str = "", fits: Callable[[Exemption], bool] = lambda _: True
    ) -> Page[Exemption]:
        """The same of exemptions, in the order of their accounts; expired ones too."""
        entry = {"kind": {"S": "EXEMPTION"}}
        keys = self._door.query(
            "control_state",
            "by_kind",
            "#kind = :kind",
            {":kind": "EXEMPTION"},
            at_once=READ_AT_ONCE + 1,
            after={**entry, "pk": {"S": after}} if after else None,
        )
        return self._page("control_state", keys, most, Exemption, fits)

    def records_page(self, sought: Sought, most: int, before: str = "") -> Page[Stored]:
        """At most `most` of the sought records, newest first; `before` is a page's `more`.

        Indexes follow their table within moments: the newest records may be missing for as long.
        """
        since = stamp(sought.since)
        upper = before or f"{stamp(sought.until)}#~"  # "~" sorts behind every record id
        found, looked, floor = list[Stored](), 0, ""
        if upper < since:
            return Page(())
        for index, attribute, values, begins in _partitions(sought, upper):
            floor = begins
            shards = [
                self._door.query(
                    "audit",
                    index,
                    f"#{attribute} = :key AND #at_id BETWEEN :since AND :until",
                    {":key": value, ":since": since, ":until": upper},
                    newest_first=True,
                    at_once=most + 1,
                )
                for value in values
            ]
            merged = heapq.merge(*shards, key=lambda key: key["at_id"]["S"], reverse=True)
            for part in _parts((key for key in merged if key["at_id"]["S"] != before), most):
                for key, record in zip(part, self._fetched(iter(part)), strict=True):
                    looked += 1
                    if sought.fits(json.loads(record.body)):
                        found.append(record)
                    if len(found) == most or looked == READ_AT_ONCE:
                        return Page(tuple(found), key["at_id"]["S"])
        return Page(tuple(found), floor if floor > since else "")

    def tail(self, chain: str, most: int) -> tuple[Stored, ...]:
        """The last `most` records of a chain, in the order of its sequence, read consistently."""
        newest = self._door.query("audit", None, "#pk = :pk", {":pk": chain}, newest_first=True, at_once=most)
        return tuple(reversed([stored(item) for item in itertools.islice(newest, most)]))

    def beside(self, case: Case, until: datetime, most: int) -> tuple[Stored, ...]:
        """The newest records about the case's resource since it was opened that stand in other chains, newest first.

        What people said and set is recorded there. At most READ_AT_ONCE records about the resource are looked at.
        """
        resource = resource_key(case.target.resource)
        newest = self._indexed("by_resource", "resource_key", resource, case.opened_at, until)
        others = (key for key in itertools.islice(newest, READ_AT_ONCE) if key["pk"]["S"] != case.id)
        return tuple(self._fetched(itertools.islice(others, most)))

    def figures(self) -> "Figures | None":
        """The figures as last counted, or None before they ever were."""
        from chalicelib.domain.figures import Figures  # noqa: PLC0415 -- a walk does without it

        return next(iter(self._kind("FIGURES", Figures)), None)

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        """What people said to these asks (case, number), by case, at most BATCH_KEYS of them, in one consistent read."""
        return _answers_to(self._door, asks)

    def _in_page(
        self,
        model: type[Stateful],
        entry: str,
        state: CaseState | TicketState,
        most: int,
        after: str,
        fits: Callable[[Stateful], bool],
        *,
        newest_first: bool,
    ) -> Page[Stateful]:
        at, _, pk = after.partition("|")
        keys = self._door.query(
            "cases",
            "by_state",
            "#state = :state",
            {":state": entry},
            newest_first=newest_first,
            at_once=READ_AT_ONCE + 1,
            after={"state": {"S": entry}, "updated_at": {"S": at}, "pk": {"S": pk}} if after else None,
        )
        # An index lags behind its table: what has moved on stands under its new state as well.
        return self._page("cases", keys, most, model, lambda one: one.state is state and fits(one))

    def _page(
        self, table: str, keys: Iterator[Item], most: int, model: type[M], fits: Callable[[M], bool]
    ) -> Page[M]:
        found, looked, unreadable = list[M](), 0, 0
        for part in _parts(keys, most):
            items = self._door.get({table: [key["pk"]["S"] for key in part]})
            for key in part:
                looked += 1
                try:
                    one = parsed(model, items.get(key["pk"]["S"]))
                except UnreadableError:
                    unreadable += 1
                    continue
                if one is not None and fits(one):
                    found.append(one)
                if len(found) == most or looked == READ_AT_ONCE:
                    rest = key is not part[-1] or next(keys, None) is not None
                    place = "|".join(key[name]["S"] for name in ("updated_at", "pk") if name in key)
                    return Page(tuple(found), place if rest else "", unreadable)
        return Page(tuple(found), "", unreadable)

    def _indexed(self, index: str, key: str, value: str, since: datetime, until: datetime) -> Iterator[Item]:
        return self._door.query(
            "audit",
            index,
            f"#{key} = :key AND #at_id BETWEEN :since AND :until",
            # "~" sorts behind every record id.
            {":key": value, ":since": stamp(since), ":until": f"{stamp(until)}#~"},
            newest_first=True,
        )

    def _fetched(self, keys: Iterator[Item]) -> Iterator[Stored]:
        """The records behind index entries, in the same order, fetched consistently by the hundred."""
        for part in batches(keys):
            wanted = [{"pk": key["pk"]["S"], "sk": key["sk"]["S"]} for key in part]
            found = {
                (item["pk"]["S"], item["sk"]["S"]): item for _, item in self._door.batch({"audit": wanted})
            }
            for key in wanted:
                if (key["pk"], key["sk"]) not in found:
                    # Records are never removed, so an index is never ahead of its table.
                    raise StoreError(
                        f"record {key['sk']} of {key['pk']} stands in an index and not in the table: somebody removed it"
                    )
                yield stored(found[key["pk"], key["sk"]])

    def _listed(
        self,
        model: type[Stateful],
        entries: Iterable[tuple[str, CaseState | TicketState]],
        *,
        newest_first: bool = True,
    ) -> Iterator[Stateful]:
        """Those under these index entries, each with its state, in the order in which they moved."""
        unread: list[UnreadableError] = []
        found = [self._in(model, entry, state, unread, newest_first=newest_first) for entry, state in entries]
        yield from heapq.merge(*found, key=attrgetter("updated_at"), reverse=newest_first)
        say(unread)

    def _in(
        self,
        model: type[Stateful],
        entry: str,
        state: CaseState | TicketState,
        unread: list[UnreadableError],
        *,
        newest_first: bool,
    ) -> Iterator[Stateful]:
        keys = self._door.query(
            "cases", "by_state", "#state = :state", {":state": entry}, newest_first=newest_first
        )
        # An index lags behind its table: what has moved on stands under its new state as well.
        return (one for one in self._door.readable("cases", keys, model, unread) if one.state is state)

    def _kind(self, kind: str, model: type[M]) -> tuple[M, ...]:
        keys = self._door.query("control_state", "by_kind", "#kind = :kind", {":kind": kind})
        return tuple(self._door.bodies("control_state", keys, model))


def _parts(keys: Iterator[Item], most: int) -> Iterator[list[Item]]:
    """What a page reads at once: as much as it shows, which mostly is enough, and then all that it may look at."""
    yield from itertools.islice(batches(keys, most), 1)
    yield from batches(keys, max(1, READ_AT_ONCE - most))


def _partitions(sought: Sought, upper: str) -> Iterator[tuple[str, str, list[str], str]]:
    """Where records before `upper` are sought, newest first: index, attribute, values, and the end of what comes before."""
    day, first = datetime.fromisoformat(upper[:10]).date(), sought.since.astimezone(UTC).date()
    if sought.resource:
        yield "by_resource", "resource_key", [resource_key(sought.resource)], ""
        return
    if sought.actor:
        while (day.year, day.month) >= (first.year, first.month):
            yield "by_actor", "actor_key", [month_key(sought.actor, f"{day:%Y%m}")], ""
            day = day.replace(day=1) - timedelta(days=1)
        return
    for _ in range(QUIET_DAYS):
        if day < first:
            return
        shards = [day_key(sought.account, f"{day:%Y%m%d}", shard) for shard in range(SHARDS)]
        day -= timedelta(days=1)
        yield "by_account", "account_key", shards, f"{day.isoformat()}T23:59:59.999Z#~"
