"""Figures: each record counts once, on its day, and only for what it says."""

from datetime import date, timedelta
from typing import Any

import pytest

from chalicelib.domain.figures import DAYS_KEPT, Day, Figures, Taken, counted
from chalicelib.domain.finding import Severity
from chalicelib.domain.record import stamp
from tests.fakes.clock import START

CASE = "aaaaaaaaaaaaaaaaaaaa-1"
SEVERITIES = {"open": Severity.HIGH, "worse": Severity.CRITICAL}
FROM = START - timedelta(hours=1)


def body(kind: str, number: int = 1, *, chain: str = CASE, minutes: int = 0, **data: Any) -> dict[str, Any]:
    at = START + timedelta(minutes=minutes)
    return {
        "record_id": f"record-{number}",
        "recorded_at": stamp(at),
        "type": kind,
        "chain": chain,
        "account": "111111111111",
        "controls": ["open"],
        "data": data,
    }


def count(*bodies: dict[str, Any], figures: Figures | None = None, minutes: int = 60) -> Figures:
    before = figures or Figures(counted_from=FROM, counted_until=FROM)
    return counted(before, bodies, START + timedelta(minutes=minutes), SEVERITIES)


@pytest.mark.parametrize(
    "kind, data, field",
    [
        ("RESULT", {"outcome": "fixed"}, "fixed"),
        ("RESULT", {"outcome": "contained"}, "contained"),
        ("RESULT", {"outcome": "failed"}, "failed"),
        ("RESULT", {"outcome": "not_verified"}, "failed"),
        ("ASKED", {}, "asked"),
        ("ANSWERED", {"approve": True}, "approved"),
        ("ANSWERED", {"approve": False}, "denied"),
        ("EXPIRED", {}, "expired"),
        ("TICKET_OPENED", {}, "tickets"),
    ],
)
def test_a_record_is_counted_on_its_day_for_what_it_says(kind: str, data: dict[str, Any], field: str) -> None:
    (day,) = count(body(kind, **data)).days
    assert day == Day(date=START.date()).model_copy(update={field: 1})


@pytest.mark.parametrize(
    "kind, data", [("RESULT", {"outcome": "declined"}), ("UNDO_RESULT", {"outcome": "fixed"}), ("VIEWED", {})]
)
def test_what_is_no_figure_leaves_no_day(kind: str, data: dict[str, Any]) -> None:
    assert count(body(kind, **data)).days == ()


def test_a_persons_own_record_is_not_counted_beside_the_one_in_the_cases_chain() -> None:
    one = body("ANSWERED", approve=True)
    (day,) = count(one, body("ANSWERED", 2, chain=f"ANSWER#{CASE}#1", approve=True)).days
    assert day.approved == 1


def test_a_record_is_counted_once_however_often_it_is_given() -> None:
    once = count(body("ASKED"), body("ASKED"))
    again = count(body("ASKED"), figures=once, minutes=90)
    assert [day.asked for day in again.days] == [1]
    assert again.counted_until == START + timedelta(minutes=90)


def test_what_lies_outside_of_the_time_waits_or_was_counted() -> None:
    early, late = body("ASKED", 1, minutes=-60), body("ASKED", 2, minutes=61)
    assert count(early, late).days == ()
    assert [day.asked for day in count(late, figures=count(early, late), minutes=61).days] == [1]


def test_going_back_in_time_forgets_nothing() -> None:
    later = count(body("ASKED"), minutes=60)
    assert count(body("ASKED"), figures=later, minutes=30).counted_until == later.counted_until


def test_versions_rise_by_one() -> None:
    assert count(figures=count()).version == 2


def test_the_time_to_repair_runs_from_the_cases_opening_and_belongs_to_the_worst_control() -> None:
    opened = stamp(START - timedelta(minutes=10))
    first = body("RESULT", 1, outcome="fixed", opened_at=opened)
    second = {**body("RESULT", 2, outcome="fixed", opened_at=opened), "controls": ["open", "worse"]}
    third = body("RESULT", 3, outcome="fixed", opened_at=stamp(START - timedelta(minutes=2)))
    (day,) = count(first, second, third).days
    assert day.fixed == 3
    assert day.seconds_to_fix == {
        Severity.HIGH: Taken(count=2, seconds=720),
        Severity.CRITICAL: Taken(count=1, seconds=600),
    }


@pytest.mark.parametrize("change", [{"controls": ["gone"]}, {"data": {"outcome": "fixed"}}])
def test_a_repair_of_unknown_length_or_severity_is_counted_without_a_time(change: dict[str, Any]) -> None:
    told = body("RESULT", outcome="fixed", opened_at=stamp(START)) | change
    (day,) = count(told).days
    assert (day.fixed, day.seconds_to_fix) == (1, {})


def test_a_clock_that_went_backwards_makes_no_negative_time() -> None:
    (day,) = count(body("RESULT", outcome="fixed", opened_at=stamp(START + timedelta(hours=1)))).days
    assert day.seconds_to_fix[Severity.HIGH].seconds == 0


def test_the_last_action_of_a_control_is_the_newest_result_of_calls() -> None:
    calls = [{"index": 0}]
    first = body("RESULT", 1, outcome="fixed", results=calls)
    second = body("RESULT", 2, minutes=1, outcome="failed", results=calls)
    unread = body("RESULT", 3, outcome="failed", results=[])
    (name,) = first["controls"]
    for bodies in ((first, second, unread), (second, unread, first)):
        (control,) = (acted := count(*bodies).acted)
        assert (control, acted[control].outcome, acted[control].case) == (name, "failed", second["chain"])
    later = count(first, figures=count(second))
    assert later.acted == count(second).acted


def test_days_that_are_too_long_ago_are_let_go_in_order() -> None:
    old = Day(date=START.date() - timedelta(days=DAYS_KEPT), asked=1)
    kept = Day(date=START.date() - timedelta(days=DAYS_KEPT - 1), asked=1)
    before = Figures(days=(old, kept), counted_from=FROM, counted_until=FROM)
    assert [day.date for day in count(body("ASKED"), figures=before).days] == [kept.date, date(2026, 8, 3)]
