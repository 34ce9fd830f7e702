"""The audit record: its canonical bytes, its digest, its place in a chain. What is stored is for ever.

A record's `body` is canonical JSON; `hash` is SHA-256 over the bytes of `body`; the body carries the hash of the record
before it in the same chain. Verification hashes the stored bytes and never serialises again (ARCHITECTURE §5).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from chalicelib.domain.contract import canonical
from chalicelib.domain.finding import Actor, Model
from chalicelib.domain.shape import is_mapping

SCHEMA = 1
"""Version of the body's layout; readers must understand every version ever written."""

GENESIS = "0" * 64
"""What the first record of a chain names as the hash before it."""


class RecordType(StrEnum):
    """Every kind of record. Names are never reused and never removed."""

    RECEIVED = "RECEIVED"
    NOT_OURS = "NOT_OURS"
    JOINED = "JOINED"
    DECIDED = "DECIDED"
    ASKED = "ASKED"
    REMINDED = "REMINDED"
    ANSWERED = "ANSWERED"
    ANSWER_REFUSED = "ANSWER_REFUSED"
    WITHDRAWN = "WITHDRAWN"
    BREAK_GLASS = "BREAK_GLASS"
    CLAIMED = "CLAIMED"
    HANDED_OVER = "HANDED_OVER"
    COMMENTED = "COMMENTED"
    INCIDENT_DECLARED = "INCIDENT_DECLARED"
    INCIDENT_DISMISSED = "INCIDENT_DISMISSED"
    INVITED = "INVITED"
    UNINVITED = "UNINVITED"
    VIEWED = "VIEWED"
    EXPIRED = "EXPIRED"
    STALE = "STALE"
    INTENT = "INTENT"
    RESULT = "RESULT"
    VERIFIED = "VERIFIED"
    RECONCILED = "RECONCILED"
    UNDO_INTENT = "UNDO_INTENT"
    UNDO_RESULT = "UNDO_RESULT"
    TICKET_OPENED = "TICKET_OPENED"
    TICKET_CLOSED = "TICKET_CLOSED"
    TICKET_CLOSED_EXTERNALLY = "TICKET_CLOSED_EXTERNALLY"
    EXEMPTION_GRANTED = "EXEMPTION_GRANTED"
    EXEMPTION_REVOKED = "EXEMPTION_REVOKED"
    SNOOZED = "SNOOZED"
    REQUESTED = "REQUESTED"
    COMMAND_REFUSED = "COMMAND_REFUSED"
    SWEEP_COMPLETED = "SWEEP_COMPLETED"
    MODE_CHANGED = "MODE_CHANGED"
    BREAKER_OPENED = "BREAKER_OPENED"
    BREAKER_RESET = "BREAKER_RESET"
    FREEZE_ON = "FREEZE_ON"
    FREEZE_OFF = "FREEZE_OFF"
    CONFIG_CHANGED = "CONFIG_CHANGED"
    ENROLLED = "ENROLLED"
    TAMPER_SUSPECTED = "TAMPER_SUSPECTED"
    ERROR = "ERROR"


class Draft(Model):
    """A record before it has its place in a chain. `step` makes its id: one source event writes one step once."""

    type: RecordType
    source_id: str
    step: str
    occurred_at: datetime
    account: str
    region: str
    resource: str = ""
    controls: tuple[str, ...] = ()
    actor: Actor | None = None
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Head(Model):
    """The end of a chain: the last sequence number and the hash of that record."""

    seq: int = 0
    hash: str = GENESIS


class Record(Model):
    """A record as it is stored: chain, place, the draft it was made of, the exact bytes and their digest."""

    chain: str
    seq: int
    record_id: str
    draft: Draft
    recorded_at: datetime
    body: str
    hash: str

    @property
    def head(self) -> Head:
        """The chain's end once this record stands."""
        return Head(seq=self.seq, hash=self.hash)


def stamp(at: datetime) -> str:
    """UTC with milliseconds and `Z`, the one form in which times are stored."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def system_chain(account: str, at: datetime) -> str:
    """The chain that holds what people changed in one account in one month."""
    return f"SYS#{account}#{at.astimezone(UTC):%Y%m}"


def record_id(source_id: str, chain: str, step: str) -> str:
    """The deterministic id of a record: the same event, case and step give the same id on every delivery."""
    return hashlib.sha256(f"{source_id}\x1f{chain}\x1f{step}".encode()).hexdigest()[:32]


def seal(chain: str, head: Head, drafts: Iterable[Draft], at: datetime, engine: str) -> tuple[Record, ...]:
    """`drafts` as the next records of `chain` after `head`, in order, each bound to the one before it."""
    records: list[Record] = []
    for draft in drafts:
        seq, before = head.seq + 1, head.hash
        name = record_id(draft.source_id, chain, draft.step)
        body = canonical(
            {
                "schema": SCHEMA,
                "record_id": name,
                "chain": chain,
                "seq": seq,
                "prev": before,
                "type": draft.type.value,
                "occurred_at": stamp(draft.occurred_at),
                "recorded_at": stamp(at),
                "account": draft.account,
                "region": draft.region,
                "resource": draft.resource,
                "controls": list(draft.controls),
                "actor": draft.actor.model_dump(mode="json") if draft.actor else None,
                "source": draft.source_id,
                "data": draft.data,
                "engine": engine,
            }
        )
        record = Record(
            chain=chain, seq=seq, record_id=name, draft=draft, recorded_at=at, body=body, hash=digest_of(body)
        )
        records.append(record)
        head = record.head
    return tuple(records)


def digest_of(body: str) -> str:
    """SHA-256 (hex) over the bytes of a stored body."""
    return hashlib.sha256(body.encode()).hexdigest()


def body_of(stored: str) -> dict[str, Any] | None:
    """What a stored body says, or None when it is no record: no JSON object, or without its place in a chain."""
    try:
        said: object = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    return {**said} if is_mapping(said) and {"seq", "prev", "chain"} <= said.keys() else None


def is_about(said: Mapping[str, Any], case: str) -> bool:
    """True of a record in another chain about the case: an answer to it, or what a person said and set with it in hand."""
    return said["data"].get("case") == case or str(said["chain"]).startswith(f"ANSWER#{case}#")


def broken_at(
    bodies_and_hashes: Iterable[tuple[str, str]], head: Head | None = None, chain: str | None = None
) -> str | None:
    """Why a whole chain, read in order of its sequence, does not hold; None when every record stands.

    `head` is the end that the case item names: only with it is a chain whose last records were dropped found out.
    `chain` is the name under which it was read: only with it is a whole chain found out that is another one's.
    """
    expected = Head()
    for body, stored in bodies_and_hashes:
        seq = expected.seq + 1
        if digest_of(body) != stored:
            return f"record {seq}: the stored bytes do not have the stored hash"
        wrong = _misplaced(body_of(body), seq, expected.hash, chain)
        if wrong:
            return wrong
        expected = Head(seq=seq, hash=stored)
    if head is not None and head != expected:
        return f"record {expected.seq + 1} is missing: the case names record {head.seq} as its last"
    return None


def _misplaced(said: dict[str, Any] | None, seq: int, before: str, chain: str | None) -> str | None:
    """Why what a body says is not record `seq` of `chain`, right after the record whose hash is `before`."""
    if said is None:
        return f"record {seq}: what is stored is no record"
    if said["seq"] != seq:
        return f"record {seq} is missing: the next one stored is {said['seq']}"
    if said["prev"] != before:
        return f"record {seq}: it does not follow the record before it"
    if chain is not None and said["chain"] != chain:
        return f"record {seq}: it belongs to chain {said['chain']}, not to {chain}"
    return None
