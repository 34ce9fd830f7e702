"""What lies where in DynamoDB: the tables, the keys of their items, the items that several write, and the conditions.

Everything that reads or writes the tables takes its keys from here, and the rights that are generated are compared with
them (tests/package/test_generated.py). Nothing here speaks to DynamoDB; `adapters.door` does.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from types import MappingProxyType
from typing import Any
from zlib import crc32

from chalicelib.domain.errors import ContractError
from chalicelib.domain.finding import Model, Target, digest
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import Record, RecordType, stamp

Item = dict[str, dict[str, str]]
"""An item as DynamoDB's API spells it; ours hold strings (`S`) and versions (`N`) only."""


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


def case_key(case_digest: str, episode: int | None = None) -> str:
    """The key of a case: of the current one, or of an `episode` that ended. Table `cases`, as the four below."""
    return f"CASE#{case_digest}" if episode is None else f"CASE#{case_digest}#{episode}"


def answers_key(case_id: str, ask: int) -> str:
    """The key of what people said to one ask of a case. Nothing else in `cases` begins so: `policies.ANSWERS`."""
    return f"ANSWERS#{case_id}#{ask}"


def ticket_key(ticket_digest: str, number: int | str) -> str:
    """The key of a ticket: the digest of what it is about, and its number."""
    return f"TICKET#{ticket_digest}#{number}"


def lock_key(target: Target) -> str:
    """The key of the lock that a case holds on its target."""
    return f"LOCK#{target.key}"


def seen_key(event_id: str, case_digest: str) -> str:
    """The key by which an event is known to have been seen for a case, however long the event's name is."""
    name = event_id if len(event_id.encode()) <= NAME_BYTES else _sha(event_id)
    return f"SEEN#{name}#{case_digest}"


def mode_key(account: str, control: str) -> str:
    """The key of a control's mode in an account. Table `control_state`, as all below down to the chain's."""
    return f"MODE#{account}#{control}"


def exemption_key(account: str, control: str, resource: str) -> str:
    """The key of an exemption. The resource is digested, because its name is as long as its owner likes."""
    return f"EXEMPTION#{account}#{control}#{_sha(resource)}"


def freeze_key(scope: str) -> str:
    """The key of a kill switch: scopes are spelt as `flow.decide.scopes` spells them."""
    return f"FREEZE#{scope}"


def enrolment_key(account: str) -> str:
    """The key of a member account's enrolment."""
    return f"ENROLMENT#{account}"


def deployer_key(account: str, role_arn: str) -> str:
    """The key of what was configured about a role that deploys code."""
    return f"DEPLOYER#{account}#{_sha(role_arn)}"


def owner_key(account: str) -> str:
    """The key of who answers for an account."""
    return f"OWNER#{account}"


def sweep_key(account: str) -> str:
    """The key of an account's newest sweep."""
    return f"SWEEP#{account}"


def baseline_key(account: str, control: str) -> str:
    """The key of what a sweep first found of a control in an account."""
    return f"BASELINE#{account}#{control}"


def breaker_key(account: str, control: str) -> str:
    """The key of a control's breaker in an account."""
    return f"BREAKER#{account}#{control}"


def spent_key(key: str) -> str:
    """The key of reservations: `key` is `account_spent` or `actor_spent`."""
    return f"SPENT#{key}"


def chain_key(chain: str) -> str:
    """The key of a system chain's head."""
    return f"CHAIN#{chain}"


def deliveries_key(case: str) -> str:
    """The key of what was told of a case. Table `outbox`, as the two below: `policies.TOLD`."""
    return f"DELIVERIES#{case}"


def storm_key(name: str) -> str:
    """The key of a storm."""
    return f"STORM#{name}"


def reference_key(ticket: str, integration: str) -> str:
    """The key of where a ticket lies in the system of that integration."""
    return f"TICKETREF#{ticket}#{integration}"


def day_key(account: str, day: str, shard: int) -> str:
    """The key in `by_account` of one shard of an account's records of a day (YYYYMMDD), of `SHARDS`."""
    return f"ACC#{account}#{day}#{shard}"


def resource_key(resource: str) -> str:
    """The key in `by_resource` of the records about a resource."""
    return f"RES#{_sha(resource)}"


def month_key(actor_key: str, month: str) -> str:
    """The key in `by_actor` of what an actor (`Actor.key`) did in a month (YYYYMM)."""
    return f"ACT#{_sha(actor_key)}#{month}"


# ---------------------------------------------------------------------------------------------------------- the items


@dataclass(frozen=True)
class Put:
    """One conditional PutItem: the table's short name, the item, and the condition in DynamoDB's words."""

    table: str
    item: Item
    condition: Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """A condition on an item of `cases` that a transaction rests on and leaves as it is."""

    pk: str
    condition: Mapping[str, Any]


ABSENT: Mapping[str, Any] = MappingProxyType({"ConditionExpression": "attribute_not_exists(pk)"})
"""The condition that nothing stands under the key yet."""

ALWAYS: Mapping[str, Any] = MappingProxyType({})
"""No condition: whatever stands there is replaced."""


def if_next(version: int) -> Mapping[str, Any]:
    """The condition under which `version` may be written: it is the first, or the one before it is stored."""
    if version < 1:
        raise ContractError(f"version {version} cannot be stored: the first version of anything is 1")
    if version == 1:
        return ABSENT
    return {
        "ConditionExpression": "#version = :before",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":before": {"N": str(version - 1)}},
    }


def item_of(pk: str, body: str, **attributes: str) -> Item:
    """An item of that key and body; `attributes` are what indexes and conditions look at."""
    return {"pk": {"S": pk}, "body": {"S": body}} | {name: {"S": value} for name, value in attributes.items()}


def versioned(pk: str, body: str, version: int, **attributes: str) -> Item:
    """The same with its version, which `if_next` looks at."""
    return {**item_of(pk, body, **attributes), "version": {"N": str(version)}}


def notice_item(notice: Notice) -> Item:
    """The item of a notice in the outbox, whose key is the notice's id."""
    return item_of(notice.id, notice.model_dump_json(), kind=notice.kind)


def setting_put(pk: str, kind: str, setting: Model) -> Put:
    """A setting over whatever stands there. `kind` is how `by_kind` finds it."""
    return Put("control_state", item_of(pk, setting.model_dump_json(), kind=kind), ALWAYS)


def record_put(record: Record) -> Put:
    """A record into the audit trail, where none stands under its number yet."""
    return Put("audit", _audit_item(record), ABSENT)


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
        "account_key": day_key(draft.account, day, shard),
    }
    if draft.resource:
        attributes["resource_key"] = resource_key(draft.resource)
    if draft.actor and draft.type in MADE_BY_PEOPLE:
        attributes["actor_key"] = month_key(draft.actor.key, day[:6])
    return item_of(record.chain, record.body, **attributes)
