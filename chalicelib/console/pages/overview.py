"""The overview: what waits, what came of the last two weeks, how long repairs took, and what stands still."""

from dataclasses import dataclass
from datetime import date, timedelta

from chalicelib.console import render
from chalicelib.console.desk import Visit
from chalicelib.console.pages.cases import MOST_WAITING, scoped, urgency
from chalicelib.console.pages.settings import held
from chalicelib.console.web import Reply
from chalicelib.domain.case import CaseState
from chalicelib.domain.figures import Day, Figures, Taken
from chalicelib.domain.finding import Severity

DAYS = 14
HEIGHT = 96
"""Of the bars, in the units of the picture; a day is 24 wide."""

SHOWN_WAITING = 5
SERIES = ("fixed", "contained", "denied", "expired", "failed", "tickets")


@dataclass(frozen=True)
class Bar:
    """A piece of a day's bar: what it counts, how many, and where it is drawn."""

    series: str
    count: int
    x: int
    y: float
    height: float


def overview(visit: Visit) -> Reply:
    """What a person on duty wants to know first. The figures are of all accounts, so whoever sees some sees none of them."""
    books, now = visit.desk.books, visit.now
    waiting = books.cases_page(CaseState.WAITING, MOST_WAITING, fits=scoped(visit), oldest_first=True)
    asked = sorted((case for case in waiting.items if case.ask), key=urgency)
    figures = books.figures() if not visit.visitor.accounts else None
    days = _days(figures, now.date()) if figures else ()
    return render.page(
        visit.site,
        "overview.html",
        visit=visit,
        now=now,
        waiting=asked[:SHOWN_WAITING],
        count=len(asked),
        more=bool(waiting.more),
        figures=figures,
        days=days,
        bars=_bars(days),
        tallest=max((_height(day) for day in days), default=0),
        series=SERIES,
        repair=_repair_times(days),
        held=held(visit),
        tripped=[one for one in books.breakers() if one.is_open and visit.visitor.sees(one.account)],
        sweeps=[one for one in books.sweeps() if visit.visitor.sees(one.account)],
        accounts=visit.accounts,
    )


def _days(figures: Figures, today: date) -> tuple[Day, ...]:
    """The last days, those without records too."""
    found = {day.date: day for day in figures.days}
    dates = (today - timedelta(days=back) for back in range(DAYS - 1, -1, -1))
    return tuple(found.get(one, Day(date=one)) for one in dates)


def _height(day: Day) -> int:
    return sum(int(getattr(day, series)) for series in SERIES)


def _bars(days: tuple[Day, ...]) -> list[Bar]:
    tallest = max((_height(day) for day in days), default=0)
    bars: list[Bar] = []
    for place, day in enumerate(days):
        top = float(HEIGHT)
        for series in SERIES:
            count = int(getattr(day, series))
            if count:
                height = round(count * HEIGHT / tallest, 2)
                top -= height
                bars.append(Bar(series, count, place * 24 + 4, round(top, 2), height))
    return bars


def _repair_times(days: tuple[Day, ...]) -> list[tuple[Severity, int, timedelta]]:
    """How many repairs of each severity, worst first, and how long one took on average."""
    found: list[tuple[Severity, int, timedelta]] = []
    for severity in reversed(Severity):
        taken = [day.seconds_to_fix.get(severity, Taken()) for day in days]
        count, seconds = sum(one.count for one in taken), sum(one.seconds for one in taken)
        if count:
            found.append((severity, count, timedelta(seconds=seconds // count)))
    return found
