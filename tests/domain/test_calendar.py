"""Business hours: by tables, over both changes of the clocks, and for all times and zones."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.calendar import LATEST, after, due
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Hours

BERLIN = Hours(timezone="Europe/Berlin", holidays=(date(2026, 12, 25),))
AUCKLAND = Hours(timezone="Pacific/Auckland")
DENVER = Hours(timezone="America/Denver")
NIGHT = Hours(timezone="Europe/Berlin", days=(0, 1, 2, 3, 4, 5, 6), opens=time(1), closes=time(5))


def local(hours: Hours, text: str) -> datetime:
    """That local time as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(hours.timezone)).astimezone(UTC)


@pytest.mark.parametrize(
    "hours, asked, told",
    [
        pytest.param(BERLIN, "2026-08-04T10:30", "2026-08-04T10:30", id="open"),
        pytest.param(BERLIN, "2026-08-04T09:00", "2026-08-04T09:00", id="just opened"),
        pytest.param(BERLIN, "2026-08-04T03:00", "2026-08-04T09:00", id="before it opens"),
        pytest.param(BERLIN, "2026-08-04T17:00", "2026-08-05T09:00", id="just closed"),
        pytest.param(BERLIN, "2026-08-07T20:00", "2026-08-10T09:00", id="Friday night"),
        pytest.param(BERLIN, "2026-12-24T18:00", "2026-12-28T09:00", id="a holiday and a weekend"),
        pytest.param(BERLIN, "2026-03-28T12:00", "2026-03-30T09:00", id="the clocks go forward on Sunday"),
        pytest.param(BERLIN, "2026-10-24T12:00", "2026-10-26T09:00", id="the clocks go back on Sunday"),
        pytest.param(AUCKLAND, "2026-08-08T10:00", "2026-08-10T09:00", id="Saturday east, Friday in UTC"),
        pytest.param(DENVER, "2026-08-07T18:00", "2026-08-10T09:00", id="Friday west, Saturday in UTC"),
    ],
)
def test_people_are_told_when_it_is_open(hours: Hours, asked: str, told: str) -> None:
    for severity in (Severity.LOW, Severity.MEDIUM):
        assert due(local(hours, asked), severity, hours) == local(hours, told)


@pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
def test_what_is_urgent_waits_for_no_hours(severity: Severity) -> None:
    night = local(BERLIN, "2026-08-08T03:00")
    assert due(night, severity, BERLIN) == night


def test_without_hours_it_is_always_open() -> None:
    night = local(BERLIN, "2026-08-08T03:00")
    assert due(night, Severity.LOW, None) == night


@pytest.mark.parametrize(
    "hours, start, lasting, end",
    [
        pytest.param(BERLIN, "2026-08-07T16:00", 8, "2026-08-10T16:00", id="over a weekend"),
        pytest.param(BERLIN, "2026-08-07T09:00", 8, "2026-08-07T17:00", id="a whole day ends when it closes"),
        pytest.param(BERLIN, "2026-08-07T20:00", 8, "2026-08-10T17:00", id="from a closed time"),
        pytest.param(BERLIN, "2026-12-24T16:00", 2, "2026-12-28T10:00", id="over a holiday"),
        pytest.param(BERLIN, "2026-08-03T09:00", 40, "2026-08-07T17:00", id="a week"),
        pytest.param(BERLIN, "2026-03-27T16:00", 8, "2026-03-30T16:00", id="clocks forward while closed"),
        pytest.param(BERLIN, "2026-10-23T16:00", 8, "2026-10-26T16:00", id="clocks back while closed"),
        pytest.param(NIGHT, "2026-03-29T01:00", 3, "2026-03-29T05:00", id="forward while open: 3 h, not 4"),
        pytest.param(NIGHT, "2026-10-25T01:00", 5, "2026-10-25T05:00", id="back while open: 5 h, not 4"),
        pytest.param(AUCKLAND, "2026-08-07T16:00", 8, "2026-08-10T16:00", id="far east"),
        pytest.param(DENVER, "2026-08-07T16:00", 8, "2026-08-10T16:00", id="far west"),
    ],
)
def test_business_time_is_added(hours: Hours, start: str, lasting: int, end: str) -> None:
    assert after(local(hours, start), timedelta(hours=lasting), hours) == local(hours, end)


def test_a_window_that_the_clocks_leave_out_is_no_window() -> None:
    """At 02:00 on 29 March 2026 Berlin goes to 03:00: 02:30 is read as 03:30, and 03:00 comes before it."""
    odd = NIGHT.model_copy(update={"opens": time(2, 30), "closes": time(3)})
    start = local(odd, "2026-03-28T04:00")
    assert after(start, timedelta(), odd) == local(odd, "2026-03-30T02:30")


def test_hours_that_hardly_open_end_all_the_same() -> None:
    """72 hours of a microsecond each would last past the year 9999."""
    blink = Hours(timezone="Europe/Berlin", opens=time(9), closes=time(9, 0, 0, 1))
    start = local(blink, "2026-08-04T10:30")
    assert after(start, timedelta(hours=72), blink) == start + LATEST
    assert after(start, timedelta(microseconds=2), blink) == local(blink, "2026-08-06T09:00:00.000001")


# -- for all times and zones -------------------------------------------------------------------------------------------

times = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis wants naive bounds
durations = st.timedeltas(timedelta(), timedelta(hours=100))


@st.composite
def business(draw: st.DrawFn) -> Hours:
    """Any business hours, in zones that change their clocks at midnight, by half an hour, or never."""
    opens = draw(st.integers(0, 23 * 60 - 1))
    closes = draw(st.integers(opens + 60, 24 * 60 - 1))
    zones = [
        "Europe/Berlin",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Asia/Kolkata",
        "UTC",
    ]
    return Hours(
        timezone=draw(st.sampled_from(zones)),
        days=tuple(draw(st.sets(st.integers(0, 6), min_size=1))),
        opens=time(opens // 60, opens % 60),
        closes=time(closes // 60, closes % 60),
        holidays=tuple(draw(st.lists(st.dates(date(2020, 1, 1), date(2035, 1, 1)), max_size=3))),
    )


@given(times, durations, st.none() | business())
def test_time_is_never_short(start: datetime, duration: timedelta, hours: Hours | None) -> None:
    end = after(start, duration, hours)
    assert end >= start + duration
    assert hours or end == start + duration


@given(times, durations, business())
def test_an_end_lies_within_business_hours(start: datetime, duration: timedelta, hours: Hours) -> None:
    end = after(start, duration, hours).astimezone(ZoneInfo(hours.timezone))
    day = end.date()
    opening, closing = (
        datetime.combine(day, at, ZoneInfo(hours.timezone)).astimezone(UTC)
        for at in (hours.opens, hours.closes)
    )
    assert day.weekday() in hours.days
    assert day not in hours.holidays
    assert opening <= end <= closing


@given(times, times, durations, business())
def test_who_asks_later_is_not_told_earlier(
    one: datetime, other: datetime, duration: timedelta, hours: Hours
) -> None:
    first, second = sorted((one, other))
    assert after(first, duration, hours) <= after(second, duration, hours)


@given(times, durations, durations, business())
def test_longer_ends_later_and_in_two_parts_at_the_same_time(
    start: datetime, one: timedelta, other: timedelta, hours: Hours
) -> None:
    whole = after(start, one + other, hours)
    assert after(start, one, hours) <= whole
    # A part that ends when business closes is followed by one that begins when it opens, also one of no length.
    assert other == timedelta() or after(after(start, one, hours), other, hours) == whole
