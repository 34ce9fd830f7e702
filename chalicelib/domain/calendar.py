"""Business hours: when an ask is sent, and when a time that counts business hours only has passed.

Time that passes is real time: where the clocks change while it is open, that day is an hour longer or shorter. A local
time that a change of the clocks leaves out is read with the offset before it, one that comes twice as the first of the
two (PEP 495, `fold=0`).
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import STRICT, Hours

LATEST = timedelta(days=5 * 366)
"""After so long everything ends: hours that hardly open would lead past the last day that there is."""


def due(asked_at: datetime, severity: Severity, hours: Hours | None) -> datetime:
    """When people are told of an ask: at once when it is urgent or open, else when business opens next."""
    return asked_at if severity in STRICT else after(asked_at, timedelta(), hours)


def after(start: datetime, duration: timedelta, hours: Hours | None) -> datetime:
    """When `duration` of business time has passed since `start`; all time is business time without `hours`.

    The end of a business day still belongs to it for what ends then, and no longer for what begins then. What hardly
    ever opens ends at `LATEST`.
    """
    if hours is None:
        return start + duration
    zone = ZoneInfo(hours.timezone)
    today, left = start.astimezone(zone).date(), duration
    for day in (today + timedelta(days=later) for later in range(LATEST.days)):
        opening, closing = (
            datetime.combine(day, at, zone).astimezone(UTC) for at in (hours.opens, hours.closes)
        )
        begins = max(start, opening)
        # A change of the clocks may leave a short window out altogether: then it closes before it opens.
        if day.weekday() in hours.days and day not in hours.holidays and begins < closing:
            if begins + left <= closing:
                return begins + left
            left -= closing - begins
    return start + LATEST
