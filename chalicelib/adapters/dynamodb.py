"""The engine's tables in DynamoDB: what is written where, under which condition, and how it is read again.

The store fails closed. A body that cannot be read, a table that is not there or a right that is missing is a StoreError
with a sentence that says what to do; only a lost race is a ConflictError. Nothing here deletes, and nothing updates in
place: every write is a PutItem, so that a role needs `dynamodb:PutItem` and can be denied the rest. Whoever takes an
answer needs `dynamodb:ConditionCheckItem` besides, and no right to write the case that is answered about.
"""

import hashlib
import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar
from zlib import crc32

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from chalicelib.adapters.deployment import Deployment
from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState, Lock, parts_of
from chalicelib.domain.contract import canonical
from chalicelib.domain.errors import ConflictError, ContractError, OversizeError, StoreError, UnreadableError
from chalicelib.domain.finding import Model, Target, digest
from chalicelib.domain.kept import Kept
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
from chalicelib.domain.record import Head, Record, RecordType, stamp, system_chain
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow.decide import scopes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from chalicelib.domain.dossier import Dossier
    from chalicelib.domain.figures import Figures
    from chalicelib.domain.policy import Engagement, PolicySetting

Item = dict[str, dict[str, str]]
"""An item as DynamoDB's API spells it; ours hold strings (`S`) and versions (`N`) only."""

M = TypeVar("M", bound=Model)
K = TypeVar("K", bound=Kept)
T = TypeVar("T")
Stateful = TypeVar("Stateful", Case, Ticket)

# --------------------------------------------------------------------------------------------------------- the tables


@dataclass(frozen=True)
class Index:
    """A global secondary index. It holds keys only: bodies are fetched from the table, consistently."""

    name: str
    hash_key: str
    range_key: str


@dataclass(frozen=True)
class Table:
    """One of our tables. `name` is the short one, which `Settings.table` completes. All keys are strings."""

    name: str
    hash_key: str = "pk"
    range_key: str | None = None
    indexes: tuple[Index, ...] = ()

    def properties(self) -> dict[str, Any]:
        """Keys, indexes and billing, spelt as both CreateTable and AWS::DynamoDB::Table spell them."""
        ranged = [self.range_key] if self.range_key else []
        keys = [
            self.hash_key,
            *ranged,
            *(key for index in self.indexes for key in (index.hash_key, index.range_key)),
        ]
        described: dict[str, Any] = {
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": key, "AttributeType": "S"} for key in dict.fromkeys(keys)
            ],
            "KeySchema": _key_schema(self.hash_key, *ranged),
        }
        if self.indexes:
            described["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": index.name,
                    "KeySchema": _key_schema(index.hash_key, index.range_key),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
                for index in self.indexes
            ]
        return described


def _key_schema(hash_key: str, range_key: str | None = None) -> list[dict[str, str]]:
    schema = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    return [*schema, {"AttributeName": range_key, "KeyType": "RANGE"}] if range_key else schema


TABLES = (
    Table("cases", indexes=(Index("by_state", "state", "updated_at"),)),
    Table("control_state", indexes=(Index("by_kind", "kind", "pk"),)),
    Table("outbox", indexes=(Index("by_waiting", "waiting", "since"),)),
    Table(
        "audit",
        range_key="sk",
        indexes=(
            Index("by_resource", "resource_key", "at_id"),
            Index("by_account", "account_key", "at_id"),
            Index("by_actor", "actor_key", "at_id"),
        ),
    ),
)
"""The one definition of the tables: the template, the emulator and the tests are made from it."""

SHARDS = 4
"""Over how many keys one account's day is spread, so that no key takes a burst alone."""

ITEM_BYTES = 400 * 1024
TRANSACTION_ITEMS = 100
TRANSACTION_BYTES = 4 * 1024 * 1024
BATCH_KEYS = 100
TRIES = 4
"""DynamoDB's own limits, and how often a batch is asked for what it left unprocessed."""

NAME_BYTES = 1024
"""An event names itself, and a key may have 2,048 bytes: a longer name is stored as its digest."""

MADE_BY_PEOPLE = frozenset(
    {
        RecordType.MODE_CHANGED,
        RecordType.BREAKER_RESET,
        RecordType.FREEZE_ON,
        RecordType.FREEZE_OFF,
        RecordType.EXEMPTION_GRANTED,
        RecordType.EXEMPTION_REVOKED,
        RecordType.SNOOZED,
        RecordType.REQUESTED,
        RecordType.ANSWERED,
        RecordType.ANSWER_REFUSED,
        RecordType.WITHDRAWN,
        RecordType.BREAK_GLASS,
        RecordType.CLAIMED,
        RecordType.HANDED_OVER,
        RecordType.COMMENTED,
        RecordType.INCIDENT_DECLARED,
        RecordType.INCIDENT_DISMISSED,
        RecordType.INVITED,
        RecordType.UNINVITED,
        RecordType.VIEWED,
        RecordType.COMMAND_REFUSED,
        RecordType.CONFIG_CHANGED,
        RecordType.ENROLLED,
    }
)
"""Records that stand in `by_actor`. Of the engine's own there are so many that they would make one hot key."""

# ----------------------------------------------------------------------------------------------------------- the keys


def account_spent(account: str) -> str:
    """The key of an account's reservations: `Spent.key`."""
    return f"ACCOUNT#{account}"


def actor_spent(actor_key: str) -> str:
    """The key of an actor's reservations: `Spent.key`. A digest, because actors' names are as long as they like."""
    return f"ACTOR#{digest(actor_key)}"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _case_key(case_digest: str, episode: int | None = None) -> str:
    return f"CASE#{case_digest}" if episode is None else f"CASE#{case_digest}#{episode}"


def _answers_key(case_id: str, ask: int) -> str:
    return f"ANSWERS#{case_id}#{ask}"


def _ticket_key(ticket_digest: str, number: int | str) -> str:
    return f"TICKET#{ticket_digest}#{number}"


def _lock_key(target: Target) -> str:
    return f"LOCK#{target.key}"


def _seen_key(event_id: str, case_digest: str) -> str:
    name = event_id if len(event_id.encode()) <= NAME_BYTES else _sha(event_id)
    return f"SEEN#{name}#{case_digest}"


def _mode_key(account: str, control: str) -> str:
    return f"MODE#{account}#{control}"


def _exemption_key(account: str, control: str, resource: str) -> str:
    return f"EXEMPTION#{account}#{control}#{_sha(resource)}"


def _freeze_key(scope: str) -> str:
    return f"FREEZE#{scope}"


def _enrolment_key(account: str) -> str:
    return f"ENROLMENT#{account}"


def _deployer_key(account: str, role_arn: str) -> str:
    return f"DEPLOYER#{account}#{_sha(role_arn)}"


def _owner_key(account: str) -> str:
    return f"OWNER#{account}"


def _sweep_key(account: str) -> str:
    return f"SWEEP#{account}"


def _baseline_key(account: str, control: str) -> str:
    return f"BASELINE#{account}#{control}"


def _breaker_key(account: str, control: str) -> str:
    return f"BREAKER#{account}#{control}"


def _spent_key(key: str) -> str:
    return f"SPENT#{key}"


def _chain_key(chain: str) -> str:
    return f"CHAIN#{chain}"


def _day_key(account: str, day: str, shard: int) -> str:
    return f"ACC#{account}#{day}#{shard}"


# ---------------------------------------------------------------------------------------------------------- the items


@dataclass(frozen=True)
class _Put:
    """One conditional PutItem: the table's short name, the item, and the condition in DynamoDB's words."""

    table: str
    item: Item
    condition: Mapping[str, Any]


@dataclass(frozen=True)
class _Check:
    """A condition on an item of `cases` that a transaction rests on and leaves as it is."""

    pk: str
    condition: Mapping[str, Any]


_ABSENT: Mapping[str, Any] = MappingProxyType({"ConditionExpression": "attribute_not_exists(pk)"})
_ALWAYS: Mapping[str, Any] = MappingProxyType({})


def _after(version: int) -> Mapping[str, Any]:
    """The condition under which `version` may be written: it is the first, or the one before it is stored."""
    if version < 1:
        raise ContractError(f"version {version} cannot be stored: the first version of anything is 1")
    if version == 1:
        return _ABSENT
    return {
        "ConditionExpression": "#version = :before",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":before": {"N": str(version - 1)}},
    }


def _item(pk: str, body: str, **attributes: str) -> Item:
    return {"pk": {"S": pk}, "body": {"S": body}} | {name: {"S": value} for name, value in attributes.items()}


def _versioned(pk: str, body: str, version: int, **attributes: str) -> Item:
    return {**_item(pk, body, **attributes), "version": {"N": str(version)}}


def _case_item(pk: str, case: Case) -> Item:
    item = _versioned(
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


def _still_asked(change: AnswerChange) -> _Check:
    """The case of that very episode waits with that very ask, and the ask ends later than now. Stamps sort as times do."""
    names = ("case", "state", "ask", "ask_hash", "ask_expires")
    return _Check(
        _case_key(change.case.rpartition("-")[0]),
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
    return _item(
        _ticket_key(ticket.digest, ticket.number),
        ticket.model_dump_json(),
        state=_TICKET_STATES[ticket.state],
        updated_at=stamp(ticket.updated_at),
    )


_TICKET_STATES = MappingProxyType({state: f"ticket_{state.value}" for state in TicketState})
"""How the index of cases by state tells tickets from cases."""


def _audit_item(record: Record) -> Item:
    """The item of a record: keys and index attributes beside the stored bytes and their digest."""
    draft, day = record.draft, record.recorded_at.astimezone(UTC).strftime("%Y%m%d")
    shard = crc32(record.chain.encode()) % SHARDS
    attributes = {
        "sk": f"{record.seq:010d}",
        "hash": record.hash,
        "record_id": record.record_id,
        "type": draft.type.value,
        # By sequence within a millisecond: the records of one transaction share their time.
        "at_id": f"{stamp(record.recorded_at)}#{record.seq:010d}#{record.record_id}",
        "account_key": _day_key(draft.account, day, shard),
    }
    if draft.resource:
        attributes["resource_key"] = f"RES#{_sha(draft.resource)}"
    if draft.actor and draft.type in MADE_BY_PEOPLE:
        attributes["actor_key"] = f"ACT#{_sha(draft.actor.key)}#{day[:6]}"
    return _item(record.chain, record.body, **attributes)


def _notice_item(notice: Notice) -> Item:
    return _item(notice.id, notice.model_dump_json(), kind=notice.kind)


def _puts(change: Change) -> Iterator[_Put]:
    case = change.case
    yield _Put("cases", _case_item(_case_key(case.digest), case), _after(case.version))
    if change.archive:
        ended = change.archive
        yield _Put("cases", _case_item(_case_key(ended.digest, ended.episode), ended), _ABSENT)
    if change.lock:
        lock = change.lock
        yield _Put(
            "cases",
            _versioned(_lock_key(case.target), lock.model_dump_json(), lock.version),
            _after(lock.version),
        )
    for event_id in dict.fromkeys(change.seen):
        body = canonical({"case": case.id, "generation": case.generation})
        yield _Put("cases", _item(_seen_key(event_id, case.digest), body), _ABSENT)
    for spent in change.spent:
        item = _versioned(_spent_key(spent.key), spent.model_dump_json(), spent.version, kind="SPENT")
        yield _Put("control_state", item, _after(spent.version))
    yield from map(_breaker_put, change.breakers)
    if change.ticket:
        yield _Put("cases", _ticket_item(change.ticket), _ALWAYS)
    yield from map(_exemption_put, change.exemptions)
    yield from map(_record_put, change.records)
    yield from _notice_puts(change.notices)


def _setting_puts(change: SettingChange) -> Iterator[_Put]:
    if change.mode:
        mode = change.mode
        yield _setting(_mode_key(mode.account, mode.control), "MODE", mode)
    for freeze in change.freezes:
        yield _setting(_freeze_key(freeze.scope), "FREEZE", freeze)
    yield from map(_exemption_put, change.exemptions)
    if change.enrolment:
        yield _setting(_enrolment_key(change.enrolment.account), "ENROLMENT", change.enrolment)
    if change.deployment_role:
        role = change.deployment_role
        yield _setting(_deployer_key(role.account, role.role_arn), "DEPLOYER", role)
    if change.owner:
        yield _setting(_owner_key(change.owner.account), "OWNER", change.owner)
    if change.breaker:
        yield _breaker_put(change.breaker)
    if change.kept:
        yield _setting(change.kept.key_of(change.kept.its_name), change.kept.KIND, change.kept)
    yield _record_put(change.record)
    yield from _notice_puts(change.notices)
    before, head = change.expected_head, change.record.head
    if head.seq != before.seq + 1:
        raise ContractError(f"record {head.seq} of {change.record.chain} does not follow record {before.seq}")
    item = _versioned(
        _chain_key(change.record.chain), head.model_dump_json(), head.seq, kind="CHAIN", hash=head.hash
    )
    yield _Put("control_state", item, _follows(before))


def _answer_puts(change: AnswerChange) -> Iterator[_Put]:
    answers, ask = change.answers, change.ask
    if (answers.case, answers.ask, answers.plan_hash) != (change.case, ask.seq, ask.plan_hash):
        raise ContractError(
            f"answers to ask {answers.ask} of {answers.case} are none to {ask.seq} of {change.case}"
        )
    key = _answers_key(answers.case, answers.ask)
    yield _Put("cases", _versioned(key, answers.model_dump_json(), answers.version), _after(answers.version))
    yield _record_put(change.record)
    yield from _notice_puts((change.notice,))


def _sweep_puts(change: SweepChange) -> Iterator[_Put]:
    sweep = change.sweep
    item = _versioned(_sweep_key(sweep.account), sweep.model_dump_json(), sweep.version, kind="SWEEP")
    yield _Put("control_state", item, _after(sweep.version))
    for baseline in change.baselines:
        yield _setting(_baseline_key(baseline.account, baseline.control), "BASELINE", baseline)
    if change.record:
        yield _record_put(change.record)
    yield from _notice_puts(change.notices)


def _setting(pk: str, kind: str, setting: Model) -> _Put:
    return _Put("control_state", _item(pk, setting.model_dump_json(), kind=kind), _ALWAYS)


def _breaker_put(one: Breaker) -> _Put:
    item = _versioned(
        _breaker_key(one.account, one.control), one.model_dump_json(), one.version, kind="BREAKER"
    )
    return _Put("control_state", item, _after(one.version))


def _exemption_put(exemption: Exemption) -> _Put:
    key = _exemption_key(exemption.account, exemption.control, exemption.resource)
    return _setting(key, "EXEMPTION", exemption)


def _record_put(record: Record) -> _Put:
    return _Put("audit", _audit_item(record), _ABSENT)


def _notice_puts(notices: Iterable[Notice]) -> Iterator[_Put]:
    # A transaction may touch an item once: of two states of one notice, the later stands.
    for notice in {notice.id: notice for notice in notices}.values():
        yield _Put("outbox", _notice_item(notice), _ALWAYS)


def _follows(before: Head) -> Mapping[str, Any]:
    """The condition that the chain's head is still `before`, by number and by hash."""
    if before.seq == 0:
        return _ABSENT
    return {
        "ConditionExpression": "#version = :before AND #hash = :hash",
        "ExpressionAttributeNames": {"#version": "version", "#hash": "hash"},
        "ExpressionAttributeValues": {":before": {"N": str(before.seq)}, ":hash": {"S": before.hash}},
    }


def _bytes(item: Item) -> int:
    """An item's size as DynamoDB counts it: names and values in UTF-8; a number counts as its digits at most."""
    return sum(
        len(name.encode()) + sum(len(text.encode()) for text in value.values())
        for name, value in item.items()
    )


# ----------------------------------------------------------------------------------------------------------- the door


class _Door:
    """The operations that the tables are reached by, with every failure told in our own words."""

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._client = client
        self._deployment = deployment

    def get(self, keys: Mapping[str, Sequence[str]]) -> dict[str, Item]:
        """The items under `keys` (table's short name to partition keys), by key; ONE BatchGetItem, consistent.

        What DynamoDB leaves unprocessed is asked for again a few times, at once; then StoreError, and the message
        waits in its queue, which is where waiting is done.
        """
        named = {table: [{"pk": pk} for pk in dict.fromkeys(pks)] for table, pks in keys.items() if pks}
        return {item["pk"]["S"]: item for _, item in self.batch(named)}

    def batch(self, keys: Mapping[str, Sequence[Mapping[str, str]]]) -> list[tuple[str, Item]]:
        """The items under whole keys, each with the short name of its table, in no order."""
        if sum(map(len, keys.values())) > BATCH_KEYS:
            raise StoreError(
                f"more than {BATCH_KEYS} items asked for in one read: too many controls on one event"
            )
        short = {self._deployment.table(table): table for table in keys}
        asked: Any = {
            self._deployment.table(table): {
                "ConsistentRead": True,
                "Keys": [{name: {"S": text} for name, text in key.items()} for key in wanted],
            }
            for table, wanted in keys.items()
        }
        found: list[tuple[str, Item]] = []
        for _ in range(TRIES):
            try:
                answer: Any = self._client.batch_get_item(RequestItems=asked)
            except (ClientError, BotoCoreError) as error:
                self._fail("read", error)
            found += [(short[table], item) for table, items in answer["Responses"].items() for item in items]
            asked = answer.get("UnprocessedKeys")
            if not asked:
                return found
        names = ", ".join(sorted(asked))
        raise StoreError(
            f"DynamoDB left reads of {names} undone {TRIES} times: the table is throttled, and the message waits"
        )

    def transact(self, puts: Iterable[_Put], what: str, *checks: _Check) -> None:
        """All of `puts` or none, in ONE TransactWriteItems. ConflictError when a condition or a check does not hold."""
        puts = list(puts)
        sizes = [_bytes(put.item) for put in puts]
        for put, size in zip(puts, sizes, strict=True):
            _check_size(put, size)
        if len(puts) + len(checks) > TRANSACTION_ITEMS or sum(sizes) > TRANSACTION_BYTES:
            raise OversizeError(
                f"{what} is {len(puts)} items and {sum(sizes)} bytes; a transaction holds {TRANSACTION_ITEMS}"
                f" and {TRANSACTION_BYTES}"
            )
        items: Any = [{"Put": self._request(put)} for put in puts]
        items += [
            {
                "ConditionCheck": {
                    "TableName": self._deployment.table("cases"),
                    "Key": {"pk": {"S": check.pk}},
                    **check.condition,
                }
            }
            for check in checks
        ]
        try:
            self._client.transact_write_items(TransactItems=items)
        except ClientError as error:
            if _lost_a_race(error):
                raise ConflictError(f"{what}: somebody else wrote it since it was read") from error
            self._fail("written", error)
        except BotoCoreError as error:
            self._fail("written", error)

    def put(self, put: _Put) -> bool:
        """ONE conditional PutItem; False when the condition does not hold."""
        _check_size(put, _bytes(put.item))
        try:
            self._client.put_item(**self._request(put))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            if _lost_a_race(error):
                raise ConflictError(f"{put.item['pk']['S']} is being written by somebody else") from error
            self._fail("written", error)
        except BotoCoreError as error:
            self._fail("written", error)
        return True

    def query(
        self,
        table: str,
        index: str | None,
        condition: str,
        values: Mapping[str, str],
        *,
        newest_first: bool = False,
        at_once: int = 0,
        after: Item | None = None,
    ) -> Iterator[Item]:
        """The items of one partition in the order of its range key, page by page and only as far as is asked for.

        With `at_once`, a page has so many; with `after`, the first is the one behind that item.
        """
        names = {word: word[1:] for word in condition.split() if word.startswith("#")}
        request: dict[str, Any] = {
            "TableName": self._deployment.table(table),
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {name: {"S": text} for name, text in values.items()},
            "ScanIndexForward": not newest_first,
        }
        # An index is never consistent; its bodies are read from the table, which is.
        request |= {"IndexName": index} if index else {"ConsistentRead": True}
        request |= {"Limit": at_once} if at_once else {}
        request |= {"ExclusiveStartKey": after} if after else {}
        while True:
            try:
                page: Any = self._client.query(**request)
            except (ClientError, BotoCoreError) as error:
                self._fail("read", error)
            yield from page["Items"]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def bodies(self, table: str, keys: Iterator[Item], model: type[M]) -> Iterator[M]:
        """What the items behind index entries hold, in the same order, fetched consistently by the hundred."""
        return (_read(model, item) for item in self.items(table, keys))

    def items(self, table: str, keys: Iterator[Item]) -> Iterator[Item]:
        """The items behind index entries, likewise."""
        for part in _parts(keys):
            wanted = [key["pk"]["S"] for key in part]
            found = self.get({table: wanted})
            yield from (found[pk] for pk in wanted if pk in found)

    def _request(self, put: _Put) -> dict[str, Any]:
        return {"TableName": self._deployment.table(put.table), "Item": put.item, **put.condition}

    def _fail(self, done: Literal["read", "written"], error: ClientError | BotoCoreError) -> NoReturn:
        raise StoreError(f"the tables could not be {done}: {self._advice(error)}") from error

    def _advice(self, error: ClientError | BotoCoreError) -> str:
        if not isinstance(error, ClientError):
            return (
                f"DynamoDB in {self._deployment.region} does not answer ({error}); nothing is lost, the message is"
                " delivered again. If it goes on, look at the function's Region, network and credentials"
            )
        code = error.response.get("Error", {}).get("Code", "Unknown")
        codes = {code, *_cancelled(error)}
        for family, advice in _ADVICE:
            if codes & family:
                return f"{code}: {advice} ({error})"
        return f"{code}: nothing is lost, the message is delivered again and then kept in its dead-letter queue ({error})"


_ADVICE: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset(
            {"AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "ExpiredTokenException"}
        ),
        "the function's role lacks the right; deploy the generated policies again and look for a deny elsewhere",
    ),
    (
        frozenset({"ResourceNotFoundException"}),
        "a table is missing; deploy the stack, or correct REDRESS_STAGE, which the tables are named by",
    ),
    (
        frozenset(
            {
                "ThrottlingException",
                "ThrottlingError",
                "RequestLimitExceeded",
                "ProvisionedThroughputExceededException",
                "ProvisionedThroughputExceeded",
            }
        ),
        "DynamoDB throttles; the message is delivered again. If it goes on, lower the queue's maximum concurrency",
    ),
)


def _cancelled(error: ClientError) -> frozenset[str]:
    """The reasons for which a transaction was cancelled, item by item, without those that did not object."""
    reasons: Any = error.response.get("CancellationReasons") or []
    return frozenset(str(reason.get("Code")) for reason in reasons) - {"None"}


def _lost_a_race(error: ClientError) -> bool:
    """True when a condition did not hold or another transaction held an item; never for what is merely unavailable.

    A condition that failed is certain whatever else is said; a conflict counts only if nothing else was wrong.
    """
    code = error.response.get("Error", {}).get("Code")
    if code in {"ConditionalCheckFailedException", "TransactionConflictException"}:
        return True
    reasons = _cancelled(error)
    return code == "TransactionCanceledException" and (
        "ConditionalCheckFailed" in reasons or reasons == {"TransactionConflict"}
    )


def _check_size(put: _Put, size: int) -> None:
    if size > ITEM_BYTES:
        name = put.item["pk"]["S"]
        name += f" {put.item['sk']['S']} ({put.item['type']['S']})" if "sk" in put.item else ""
        raise OversizeError(
            f"{name} is {size} bytes, and DynamoDB holds {ITEM_BYTES} in an item: nothing was written. Reduce the"
            " state or the plan that it holds"
        )


def _parsed(model: type[M], item: Item | None) -> M | None:
    """The model in the item's body; None when there is no item, StoreError when there is one that cannot be read."""
    return None if item is None else _read(model, item)


def _read(model: type[M], item: Item) -> M:
    try:
        return model.model_validate_json(item["body"]["S"])
    except (ValidationError, KeyError) as error:
        raise UnreadableError(
            f"{item['pk']['S']} does not hold a readable {model.__name__}: nothing is changed until it does."
            f" A newer version may have written it, or somebody by hand ({error})"
        ) from error


# ---------------------------------------------------------------------------------------------------------- the ports


class _Told:
    """What both ports tell of a case: itself, what people answered, and that a record of its own stands."""

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._door = _Door(client, deployment)

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that digest and episode: the current one if it is it, else the archived one."""
        current, archived = _case_key(digest), _case_key(digest, episode)
        found = self._door.get({"cases": [current, archived]})
        cases = (_parsed(Case, found.get(key)) for key in (current, archived))
        return next((case for case in cases if case and case.episode == episode), None)

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case, read consistently; None when nobody said anything."""
        return _answers(self._door, case, ask)

    def policy(self) -> "PolicySetting | None":
        """The policy that stands; StoreError when what stands there cannot be read, and then nobody approves anything."""
        from chalicelib.domain.policy import PolicySetting  # noqa: PLC0415 -- a walk does without it

        return self._kept(PolicySetting)

    def _kept(self, model: type[K], name: str = "") -> K | None:
        return self._stands(model, model.key_of(name))

    def _stands(self, model: type[M], key: str) -> M | None:
        return _parsed(model, self._door.get({"control_state": [key]}).get(key))

    def note(self, record: Record) -> bool:
        """One conditional PutItem into the audit trail; False when that record already stands, untouched."""
        return self._door.put(_record_put(record))


class DynamoCases(_Told):
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
            _seen_key(question.event_id, question.case),
            _case_key(question.case),
            _lock_key(target),
        )
        modes = [_mode_key(target.account, control) for control in controls]
        exemptions = [_exemption_key(target.account, control, target.resource) for control in controls]
        freezes = [_freeze_key(scope) for scope in scopes(target, controls)]
        baselines = [_baseline_key(target.account, control) for control in controls]
        breakers = [_breaker_key(target.account, control) for control in controls]
        owner = _owner_key(target.account)
        deployers = [_deployer_key(target.account, question.role_arn)] if question.role_arn else []
        account, actor = account_spent(target.account), actor_spent(question.actor_key)
        enrolment = _enrolment_key(target.account)
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
                    _spent_key(account),
                    _spent_key(actor),
                ],
            }
        )
        return Gate(
            seen=seen in found,
            case=_parsed(Case, found.get(case)),
            lock=_parsed(Lock, found.get(lock)),
            modes=_all(ModeSetting, modes, found),
            exemptions=_all(Exemption, exemptions, found),
            freezes=_all(Freeze, freezes, found),
            enrolled=target.account == self._home or _parsed(Enrolment, found.get(enrolment)) is not None,
            account_spent=_spent(account, found),
            actor_spent=_spent(actor, found),
            baselines=_all(Baseline, baselines, found),
            deployment_role=next(iter(_all(DeploymentRole, deployers, found)), None),
            owner=_parsed(Owner, found.get(owner)),
            breakers=_all(Breaker, breakers, found),
        )

    def breakers(self, account: str, controls: tuple[str, ...]) -> tuple[Breaker, ...]:
        """The breakers of these controls there, in one consistent BatchGetItem."""
        found = self._door.get({"control_state": [_breaker_key(account, control) for control in controls]})
        return tuple(
            _parsed(Breaker, found.get(_breaker_key(account, control)))
            or Breaker(account=account, control=control)
            for control in controls
        )

    def commit(self, change: Change) -> None:
        """All of `change` in one TransactWriteItems; ConflictError and none of it when somebody was faster."""
        self._door.transact(_puts(change), f"case {change.case.id}")

    def guard(self, scopes: tuple[str, ...], account: str) -> Guard:
        """The kill switches of `scopes` and the account's reservations, in one consistent BatchGetItem."""
        freezes, key = [_freeze_key(scope) for scope in scopes], account_spent(account)
        found = self._door.get({"control_state": [*freezes, _spent_key(key)]})
        return Guard(freezes=_all(Freeze, freezes, found), account_spent=_spent(key, found))

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        """What people said to these asks (case, number), by case, at most BATCH_KEYS of them, in one consistent read."""
        return _answers_to(self._door, asks)

    def in_state(self, state: CaseState) -> Iterator[Case]:
        """The current cases in that state, once each, the one that has stood still longest first."""
        keys = self._door.query("cases", "by_state", "#state = :state", {":state": state.value})
        # A case that is written meanwhile moves to the end of the index, where it is met again.
        current, met = (key for key in keys if key["pk"]["S"].count("#") == 1), set[str]()
        unreadable: UnreadableError | None = None
        for item in self._door.items("cases", current):
            try:
                case = _read(Case, item)
            except UnreadableError as error:
                unreadable = error
                continue
            if case.state is state and case.digest not in met:
                met.add(case.digest)
                yield case
        if unreadable:
            raise unreadable

    def bodies(self, chain: str) -> tuple[str, ...]:
        """The stored bodies of a chain, in order of its sequence, read consistently."""
        return tuple(record.body for record in _chain(self._door, chain))

    def swept(self, account: str, controls: tuple[str, ...]) -> Swept:
        """The newest sweep of the account and the baselines of these controls there, in one consistent BatchGetItem."""
        sweep, baselines = _sweep_key(account), [_baseline_key(account, control) for control in controls]
        found = self._door.get({"control_state": [sweep, *baselines]})
        return Swept(sweep=_parsed(Sweep, found.get(sweep)), baselines=_all(Baseline, baselines, found))

    def keep(self, change: SweepChange) -> None:
        """All of `change` in one TransactWriteItems; ConflictError and none of it when somebody was faster."""
        self._door.transact(_sweep_puts(change), f"the sweep of {change.sweep.account}")


def _answers(door: _Door, case: str, ask: int) -> Answers | None:
    key = _answers_key(case, ask)
    return _parsed(Answers, door.get({"cases": [key]}).get(key))


def _answers_to(door: _Door, asks: Iterable[tuple[str, int]]) -> Mapping[str, Answers]:
    keys = {_answers_key(case, ask): case for case, ask in asks}
    found = door.get({"cases": [*keys]}) if keys else {}
    return {keys[key]: _read(Answers, item) for key, item in found.items()}


def _all(model: type[M], keys: Iterable[str], found: Mapping[str, Item]) -> tuple[M, ...]:
    return tuple(_read(model, found[key]) for key in dict.fromkeys(keys) if key in found)


def _spent(key: str, found: Mapping[str, Item]) -> Spent:
    """What was reserved under `key`; an empty ledger at version 0 when nothing ever was."""
    return _parsed(Spent, found.get(_spent_key(key))) or Spent(key=key)


class DynamoSettings(_Told):
    """`ports.Settings` on DynamoDB.

    Rights: `apply` needs dynamodb:PutItem on control_state, audit and outbox; `answer` on cases (keys ANSWERS#*), audit
    and outbox, and dynamodb:ConditionCheckItem on cases; `note` needs dynamodb:PutItem on audit; everything else needs
    dynamodb:BatchGetItem, `case` and `answers` on cases, the rest on control_state. `cases_of` needs it on cases, and
    dynamodb:Query on the index by_resource of audit.
    """

    def cases_of(self, resource: str) -> tuple[Case, ...]:
        """The current cases of that resource: a case's chain is called as the case is, and each of its records is indexed."""
        condition, of = "#resource_key = :resource", f"RES#{_sha(resource)}"
        chains = {
            key["pk"]["S"] for key in self._door.query("audit", "by_resource", condition, {":resource": of})
        }
        keys = sorted({_case_key(parts[0]) for chain in chains if (parts := parts_of(chain))})
        return tuple(self._door.bodies("cases", ({"pk": {"S": key}} for key in keys), Case))

    def answer(self, change: AnswerChange) -> None:
        """The answers, their record and the errand in one TransactWriteItems, if the case still waits with that ask."""
        self._door.transact(_answer_puts(change), f"the answer to case {change.case}", _still_asked(change))

    def breaker(self, account: str, control: str) -> Breaker:
        """The control's breaker there, at version 0 where nothing ever went wrong."""
        stands = self._stands(Breaker, _breaker_key(account, control))
        return stands or Breaker(account=account, control=control)

    def deployment_role(self, account: str, role_arn: str) -> DeploymentRole | None:
        """What was last configured about that role, also that it is one no longer, or None."""
        return self._stands(DeploymentRole, _deployer_key(account, role_arn))

    def owner(self, account: str) -> Owner | None:
        """Who answers for the account, or None."""
        return self._stands(Owner, _owner_key(account))

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
        return self._stands(Head, _chain_key(chain)) or Head()

    def freeze(self, scope: str) -> Freeze | None:
        """The switch of one scope, or None when nobody ever set it."""
        return self._stands(Freeze, _freeze_key(scope))

    def mode(self, account: str, control: str) -> ModeSetting | None:
        """The mode that somebody set, or None."""
        return self._stands(ModeSetting, _mode_key(account, control))

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        """The exemption last granted for this resource and control, expired or not, or None."""
        return self._stands(Exemption, _exemption_key(account, control, resource))

    def enrolment(self, account: str) -> Enrolment | None:
        """The account's enrolment, or None; the home account has none and needs none."""
        return self._stands(Enrolment, _enrolment_key(account))

    def ticket(self, name: str) -> Ticket | None:
        """The ticket of that id as it stands, or None."""
        ticket_digest, _, number = name.rpartition("-t")
        key = _ticket_key(ticket_digest, number)
        return _parsed(Ticket, self._door.get({"cases": [key]}).get(key))

    def send(self, notice: Notice) -> None:
        """An errand of a machine outside, which changes nothing by itself."""
        self._door.put(_Put("outbox", _notice_item(notice), _ALWAYS))

    def apply(self, change: SettingChange) -> None:
        """The settings, their record and the chain's new head, or none of it and ConflictError."""
        self._door.transact(_setting_puts(change), f"the setting recorded in {change.record.chain}")


# -------------------------------------------------------------------------------------------------------- for reading


@dataclass(frozen=True)
class Stored:
    """A record as it lies in the table: the exact bytes and the digest that was stored beside them."""

    chain: str
    seq: int
    record_id: str
    type: str
    body: str
    hash: str


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


READ_AT_ONCE = 200
"""How many cases or records a page looks at, at most. What fits may be rare: the page is then short, and says where it stopped."""

QUIET_DAYS = 4
"""How many days without a record that fits a page of the log looks through before it says where it stopped."""


class Ledger:
    """What people read: records, cases, tickets and settings, in pages that are fetched only as far as they are asked for.

    Rights: dynamodb:Query on the table audit and on the indexes by_account, by_resource, by_state and by_kind;
    dynamodb:BatchGetItem on audit, cases and control_state. Nothing is ever scanned or filtered by DynamoDB.
    """

    def __init__(self, client: "DynamoDBClient", deployment: Deployment) -> None:
        self._door = _Door(client, deployment)

    def case_records(self, case_id: str) -> Iterator[Stored]:
        """A case's whole chain, in the order of its sequence. The chain is called as the case is."""
        return _chain(self._door, case_id)

    def system_records(self, account: str, month: datetime) -> Iterator[Stored]:
        """The chain of what people set in `account` in the month of that time, in the order of its sequence."""
        return _chain(self._door, system_chain(account, month))

    def records(self, account: str, since: datetime, until: datetime) -> Iterator[Stored]:
        """The account's records of that time, newest first."""
        day = until.astimezone(UTC).date()
        while day >= since.astimezone(UTC).date():
            shards = [
                self._indexed(
                    "by_account",
                    "account_key",
                    _day_key(account, day.strftime("%Y%m%d"), shard),
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
            self._indexed("by_resource", "resource_key", f"RES#{_sha(resource)}", since, until)
        )

    def cases(self, state: CaseState | None = None) -> Iterator[Case]:
        """The cases in `state`, or all of them, the one that moved last first. Archived episodes are among the ended."""
        found = [self._in(one.value, Case, one) for one in ([state] if state else CaseState)]
        return heapq.merge(*found, key=attrgetter("updated_at"), reverse=True)

    def tickets(self, state: TicketState | None = None) -> Iterator[Ticket]:
        """The tickets in `state`, or all of them, the one that moved last first."""
        found = [self._in(_TICKET_STATES[one], Ticket, one) for one in ([state] if state else TicketState)]
        return heapq.merge(*found, key=attrgetter("updated_at"), reverse=True)

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case; None when nobody said anything."""
        return _answers(self._door, case, ask)

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
            at_once=most + 1,
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
        return tuple(reversed([_stored(item) for item in itertools.islice(newest, most)]))

    def beside(self, case: Case, until: datetime, most: int) -> tuple[Stored, ...]:
        """The newest records about the case's resource since it was opened that stand in other chains, newest first.

        What people said and set is recorded there. At most READ_AT_ONCE records about the resource are looked at.
        """
        resource = f"RES#{_sha(case.target.resource)}"
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
            at_once=most + 1,
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
                    one = _parsed(model, items.get(key["pk"]["S"]))
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
        for part in _parts(keys):
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
                yield _stored(found[key["pk"], key["sk"]])

    def _in(self, entry: str, model: type[Stateful], state: CaseState | TicketState) -> Iterator[Stateful]:
        keys = self._door.query("cases", "by_state", "#state = :state", {":state": entry}, newest_first=True)
        # An index lags behind its table: what has moved on stands under its new state as well.
        return (one for one in self._door.bodies("cases", keys, model) if one.state is state)

    def _kind(self, kind: str, model: type[M]) -> tuple[M, ...]:
        keys = self._door.query("control_state", "by_kind", "#kind = :kind", {":kind": kind})
        return tuple(self._door.bodies("control_state", keys, model))


def _partitions(sought: Sought, upper: str) -> Iterator[tuple[str, str, list[str], str]]:
    """Where records before `upper` are sought, newest first: index, attribute, values, and the end of what comes before."""
    day, first = datetime.fromisoformat(upper[:10]).date(), sought.since.astimezone(UTC).date()
    if sought.resource:
        yield "by_resource", "resource_key", [f"RES#{_sha(sought.resource)}"], ""
        return
    if sought.actor:
        while (day.year, day.month) >= (first.year, first.month):
            yield "by_actor", "actor_key", [f"ACT#{_sha(sought.actor)}#{day:%Y%m}"], ""
            day = day.replace(day=1) - timedelta(days=1)
        return
    for _ in range(QUIET_DAYS):
        if day < first:
            return
        shards = [_day_key(sought.account, f"{day:%Y%m%d}", shard) for shard in range(SHARDS)]
        day -= timedelta(days=1)
        yield "by_account", "account_key", shards, f"{day.isoformat()}T23:59:59.999Z#~"


def _parts(keys: Iterator[Item], most: int = BATCH_KEYS) -> Iterator[list[Item]]:
    """`keys` in lists that one BatchGetItem can take."""
    while part := list(itertools.islice(keys, min(most, BATCH_KEYS))):
        yield part


def _chain(door: _Door, chain: str) -> Iterator[Stored]:
    return map(_stored, door.query("audit", None, "#pk = :pk", {":pk": chain}))


def _stored(item: Item) -> Stored:
    return Stored(
        chain=item["pk"]["S"],
        seq=int(item["sk"]["S"]),
        record_id=item["record_id"]["S"],
        type=item["type"]["S"],
        body=item["body"]["S"],
        hash=item["hash"]["S"],
    )
