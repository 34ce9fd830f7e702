"""The figures that an overview shows, kept as one item and counted from the records as they are written.

Counting everything anew for each look would read the whole trail; so a tick counts what was recorded since the last one.
A figure is a count of records and no more than they say: what was not recorded as fixed is not fixed here.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from pydantic import Field

from chalicelib.domain.case import parts_of
from chalicelib.domain.contract import Outcome
from chalicelib.domain.finding import Model, Severity, worst
from chalicelib.domain.record import RecordType
from chalicelib.domain.shape import mapping, sequence

DAYS_KEPT = 35
SETTLES = timedelta(minutes=5)
"""Records are counted when they are this old: by then each that was being written is in the indexes, or never will be."""


class Taken(Model):
    """How many repairs there were, and how many seconds they took together, from the case's opening to the result."""

    count: int = 0
    seconds: int = 0


class Day(Model):
    """What one day's records say, in UTC. `seconds_to_fix` has a severity only where something of it was fixed."""

    date: date
    fixed: int = 0
    contained: int = 0
    failed: int = 0
    asked: int = 0
    approved: int = 0
    denied: int = 0
    expired: int = 0
    tickets: int = 0
    seconds_to_fix: dict[Severity, Taken] = Field(default_factory=dict[Severity, Taken])


class Acted(Model):
    """The last time a control changed something, or tried to: where, in which case, and what came of it."""

    at: datetime
    account: str
    case: str
    outcome: Outcome


class Figures(Model):
    """The days with something to tell, oldest first, up to `counted_until`; nothing was counted before `counted_from`.

    `acted` has a control only when it made a call since then.
    """

    days: tuple[Day, ...] = ()
    acted: dict[str, Acted] = Field(default_factory=dict[str, Acted])
    counted_from: datetime
    counted_until: datetime
    version: int = 0


_FIELDS = MappingProxyType(
    {
        (RecordType.RESULT, Outcome.FIXED): "fixed",
        (RecordType.RESULT, Outcome.CONTAINED): "contained",
        (RecordType.RESULT, Outcome.FAILED): "failed",
        (RecordType.RESULT, Outcome.NOT_VERIFIED): "failed",
        (RecordType.ASKED, None): "asked",
        (RecordType.ANSWERED, True): "approved",
        (RecordType.ANSWERED, False): "denied",
        (RecordType.EXPIRED, None): "expired",
        (RecordType.TICKET_OPENED, None): "tickets",
    }
)


def counted(
    figures: Figures, bodies: Iterable[Mapping[str, Any]], until: datetime, severities: Mapping[str, Severity]
) -> Figures:
    """`figures` with the records of (`counted_until`, `until`], each once, however often it is among `bodies`.

    Whoever calls gives all records of that time, in any order; what lies outside of it is left out, so that a second
    delivery counts nothing twice. `severities` are the controls'; of an unknown one the time to repair is not counted.
    """
    days, acted = {day.date: day for day in figures.days}, {**figures.acted}
    for body in {str(body["record_id"]): body for body in bodies}.values():
        at = datetime.fromisoformat(body["recorded_at"])
        if figures.counted_until < at <= until:
            today = at.astimezone(UTC).date()
            days[today] = _plus(days.get(today, Day(date=today)), body, at, severities)
            acted |= _acted(acted, body, at)
    first = (until - timedelta(days=DAYS_KEPT - 1)).astimezone(UTC).date()
    kept = tuple(day for _, day in sorted(days.items()) if day.date >= first and day != Day(date=day.date))
    return figures.model_copy(
        update={
            "days": kept,
            "acted": acted,
            "counted_until": max(figures.counted_until, until),
            "version": figures.version + 1,
        }
    )


def _acted(before: Mapping[str, Acted], body: Mapping[str, Any], at: datetime) -> dict[str, Acted]:
    """What the record says of its controls, where it is a result of calls and newer than what is known."""
    data = mapping(body["data"])
    if body["type"] != RecordType.RESULT or not sequence(data.get("results")):
        return {}
    here = Acted(at=at, account=body["account"], case=body["chain"], outcome=Outcome(data["outcome"]))
    names = map(str, sequence(body["controls"]))
    return {name: here for name in names if name not in before or before[name].at < at}


def _plus(day: Day, body: Mapping[str, Any], at: datetime, severities: Mapping[str, Severity]) -> Day:
    if (
        parts_of(str(body["chain"])) is None
    ):  # a person's own words: what came of them stands in the case's chain
        return day
    data = mapping(body["data"])
    told = {RecordType.RESULT: data.get("outcome"), RecordType.ANSWERED: data.get("approve")}
    field = _FIELDS.get((body["type"], told.get(body["type"])))
    if field is None:
        return day
    change: dict[str, Any] = {field: getattr(day, field) + 1}
    known = [severities[name] for name in map(str, sequence(body["controls"])) if name in severities]
    opened = data.get("opened_at")
    if field == "fixed" and known and isinstance(opened, str):
        severity = worst(known)
        before = day.seconds_to_fix.get(severity, Taken())
        took = max(0, int((at - datetime.fromisoformat(opened)).total_seconds()))
        taken = Taken(count=before.count + 1, seconds=before.seconds + took)
        change["seconds_to_fix"] = {**day.seconds_to_fix, severity: taken}
    return day.model_copy(update=change)
