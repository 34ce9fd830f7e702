"""The arithmetic of the bench: medians, ratios, and whether a figure meets its target. No clock and no AWS here."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

LEAST_REPETITIONS = 15
"""Fewer than these are an anecdote."""

Rule = Literal["at most", "exactly"]


@dataclass(frozen=True)
class Spread:
    """Repetitions of one measurement, in seconds: the median and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """The median and quartiles of at least two values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high, count=len(values))


@dataclass(frozen=True)
class Versus:
    """Ours against plain boto3, measured in turns; `pairs` is the spread of the ratios of neighbours.

    `ratio` is that of the two medians and is what a target is about. Where `pairs` is wide, the machine was busy.
    """

    ours: Spread
    plain: Spread
    pairs: Spread

    @property
    def ratio(self) -> float:
        """How many times as long ours takes."""
        return self.ours.median / self.plain.median


def versus(ours: Sequence[float], plain: Sequence[float]) -> Versus:
    """Two series whose n-th values were measured next to each other."""
    return Versus(
        ours=spread(ours),
        plain=spread(plain),
        pairs=spread([a / b for a, b in zip(ours, plain, strict=True)]),
    )


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure, and its target if it has one."""

    part: str
    measure: str
    value: float | None
    unit: str
    target: float | None = None
    rule: Rule = "at most"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None without a target; what could not be measured has not met its own."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value <= self.target if self.rule == "at most" else self.value == self.target

    def shown(self) -> dict[str, Any]:
        """The row as plain JSON."""
        return {**asdict(self), "met": self.met}


def written(value: float | None, unit: str) -> str:
    """A figure as a person reads it."""
    if value is None:
        return "not measured"
    digits = {"calls": 0, "files": 0, "x": 2, "ms": 1, "s": 2, "MB": 2}[unit]
    figure = f"{value:,.{digits}f}"
    # What is counted stands in the measure.
    return figure + {"x": "×", "calls": "", "files": ""}.get(unit, f" {unit}")


def verdict(row: Row) -> str:
    """What the last column says."""
    return {None: "", True: "met", False: "MISSED"}[row.met]


def target(row: Row) -> str:
    """What the target column says."""
    if row.target is None:
        return ""
    return f"{'≤' if row.rule == 'at most' else '='} {written(row.target, row.unit)}"


def all_met(rows: Sequence[Row]) -> bool:
    """True when no row misses its target."""
    return not any(row.met is False for row in rows)
