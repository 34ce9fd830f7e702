"""Stored bytes are for ever: the canonical form, the chain, and every way of tampering with it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue

from chalicelib.domain.contract import canonical
from chalicelib.domain.record import (
    GENESIS,
    Draft,
    Head,
    Record,
    RecordType,
    broken_at,
    digest_of,
    record_id,
    seal,
    stamp,
)

Pairs = list[tuple[str, str]]
Tampering = Callable[[Pairs], Pairs]

AT = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)


def draft(step: str, **data: JsonValue) -> Draft:
    return Draft(
        type=RecordType.RECEIVED,
        source_id="event-1",
        step=step,
        occurred_at=AT,
        account="111111111111",
        region="eu-central-1",
        data=data,
    )


def chain_of(count: int) -> list[Record]:
    return list(seal("case-1", Head(), [draft(f"step-{n}", n=n) for n in range(count)], AT, "0.1.0"))


def pairs(records: list[Record]) -> Pairs:
    return [(record.body, record.hash) for record in records]


def test_the_bytes_of_a_record_are_these_and_stay_these() -> None:
    (record,) = seal("case-1", Head(), [draft("received", name="bücket")], AT, "0.1.0")
    assert record.body == (
        '{"account":"111111111111","actor":null,"chain":"case-1","controls":[],"data":{"name":"bücket"},'
        '"engine":"0.1.0","occurred_at":"2026-11-22T03:04:05.678Z","prev":"' + GENESIS + '",'
        '"record_id":"' + record_id("event-1", "case-1", "received") + '",'
        '"recorded_at":"2026-11-22T03:04:05.678Z","region":"eu-central-1","resource":"","schema":1,"seq":1,'
        '"source":"event-1","type":"RECEIVED"}'
    )


def test_a_whole_chain_holds() -> None:
    assert broken_at(pairs(chain_of(4))) is None


def test_a_chain_that_goes_on_later_holds_too() -> None:
    first = chain_of(2)
    later = list(seal("case-1", first[-1].head, [draft("later")], AT, "0.2.0"))
    assert broken_at(pairs(first + later)) is None


def flip(records: Pairs) -> Pairs:
    body, stored = records[1]
    return [records[0], (body.replace('"n":1', '"n":7'), stored), *records[2:]]


def reseal(records: Pairs) -> Pairs:
    forged = list(seal("case-1", Head(seq=1, hash="f" * 64), [draft("step-1", n=7)], AT, "0.1.0"))
    return [records[0], (forged[0].body, forged[0].hash), *records[2:]]


@pytest.mark.parametrize(
    "tamper, says",
    [
        (flip, "record 2: the stored bytes"),
        (reseal, "record 2: it does not follow"),
        (lambda r: [r[0], *r[2:]], "record 2 is missing"),
        (lambda r: r[1:], "record 1 is missing"),
        (lambda r: [r[0], r[2], r[1], r[3]], "record 2 is missing"),
        (lambda r: [r[0], r[0], *r[1:]], "record 2 is missing"),
    ],
    ids=[
        "a byte flipped",
        "a record forged",
        "one dropped",
        "the first dropped",
        "two swapped",
        "one doubled",
    ],
)
def test_tampering_is_found_and_the_first_bad_record_named(tamper: Tampering, says: str) -> None:
    found = broken_at(tamper(pairs(chain_of(4))))
    assert found is not None
    assert found.startswith(says)


def test_a_dropped_tail_is_found_by_the_head_that_the_case_names() -> None:
    records = chain_of(4)
    assert broken_at(pairs(records), records[-1].head) is None
    assert broken_at(pairs(records[:-1])) is None, "by itself a shorter chain looks whole"
    assert "record 4 is missing" in (broken_at(pairs(records[:-1]), records[-1].head) or "")


def test_a_chain_that_is_another_chains_is_no_chain() -> None:
    records = pairs(chain_of(2))
    assert broken_at(records, chain="case-1") is None
    assert broken_at(records, chain="case-2") == "record 1: it belongs to chain case-1, not to case-2"


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        "null",
        "not json",
        "[" * 100_000,
        '{"seq": 1}',
        '{"chain":"case-1","seq":1}',
        '{"prev":"x","seq":1}',
        '{"chain":"case-1","prev":"x","seq":[]}',
        '{"chain":"case-1","prev":{},"seq":1}',
    ],
    ids=lambda body: body[:20],
)
def test_what_is_no_record_breaks_the_chain_and_not_the_verifier(body: str) -> None:
    found = broken_at([*pairs(chain_of(1)), (body, digest_of(body))], chain="case-1")
    assert found is not None
    assert found.startswith("record 2")


def test_a_float_has_no_place_in_a_record() -> None:
    with pytest.raises(TypeError, match="float"):
        canonical({"deep": [{"er": 1.5}]})


def test_the_same_event_and_step_have_the_same_id_on_every_delivery_and_no_other_has_it() -> None:
    assert record_id("e", "c", "s") == record_id("e", "c", "s")
    others = {
        record_id("e2", "c", "s"),
        record_id("e", "c2", "s"),
        record_id("e", "c", "s2"),
        record_id("ec", "", "s"),
    }
    assert record_id("e", "c", "s") not in others
    assert len(others) == 4


def test_times_are_stored_in_utc_with_milliseconds() -> None:
    assert stamp(AT) == "2026-11-22T03:04:05.678Z"
    assert json.loads(chain_of(1)[0].body)["recorded_at"].endswith("Z")
