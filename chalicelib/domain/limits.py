"""The hard limits: how many writes the engine may make in an hour. Over one of them, a person is asked.

Counted exactly, in a sliding hour, from the reservations that each run makes in the transaction that writes its INTENT.
A reservation is never given back: a run that failed after one of three calls has still spent three.
"""

from datetime import datetime, timedelta

from pydantic import Field

from chalicelib.domain.finding import Model

WINDOW = timedelta(hours=1)


class Limits(Model):
    """Writes per sliding hour. Zero is a limit like any other: nothing is written without a person."""

    per_control: int = Field(default=5, ge=0)
    per_account: int = Field(default=20, ge=0)
    per_actor: int = Field(default=20, ge=0)


class Reservation(Model):
    """`writes` that one run may make, taken at `at`."""

    at: datetime
    case: str
    run: int
    controls: tuple[str, ...]
    writes: int


class Spent(Model):
    """What was reserved under one key (an account, or an actor) within the window, and the item's version."""

    key: str
    version: int = 0
    reservations: tuple[Reservation, ...] = ()

    def within(self, now: datetime) -> tuple[Reservation, ...]:
        """The reservations that still count at `now`."""
        return tuple(entry for entry in self.reservations if now - entry.at < WINDOW)

    def holds(self, case: str, run: int) -> bool:
        """True while this run's own reservation stands."""
        return any(entry.case == case and entry.run == run for entry in self.reservations)

    def plus(self, reservation: Reservation) -> "Spent":
        """This ledger with one more reservation, without those that no longer count."""
        kept = self.within(reservation.at)
        return Spent(key=self.key, version=self.version + 1, reservations=(*kept, reservation))


def over(limits: Limits, account: Spent, actor: Spent, wanted: Reservation) -> str | None:
    """Why `wanted` does not fit, in a sentence, or None when it fits."""
    now, counted = wanted.at, account.within(wanted.at)
    spent = sum(entry.writes for entry in counted)
    if spent + wanted.writes > limits.per_account:
        return _sentence("the account", spent, wanted.writes, limits.per_account)
    for control in wanted.controls:
        spent = sum(entry.writes for entry in counted if control in entry.controls)
        if spent + wanted.writes > limits.per_control:
            return _sentence(f"{control} in the account", spent, wanted.writes, limits.per_control)
    spent = sum(entry.writes for entry in actor.within(now))
    if spent + wanted.writes > limits.per_actor:
        return _sentence("changes by this actor", spent, wanted.writes, limits.per_actor)
    return None


def _sentence(scope: str, spent: int, wanted: int, limit: int) -> str:
    return f"{spent} writes were made for {scope} in the last hour and {wanted} more would pass the limit of {limit}"
