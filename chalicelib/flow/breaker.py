"""Breaker: what a run that went wrong does to the breakers of its controls, in the transaction that records the run."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from chalicelib.domain.breaker import Breaker, Miss, Missed
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Outcome
from chalicelib.domain.errors import UnreadableError
from chalicelib.domain.ports import Cases, Notice
from chalicelib.domain.record import Draft, stamp
from chalicelib.flow import notify, record

MISSED = MappingProxyType({Outcome.FAILED: Missed.FAILED, Outcome.NOT_VERIFIED: Missed.NOT_VERIFIED})
"""The outcomes of a run that count against its controls."""


@dataclass(frozen=True)
class Counted:
    """What the transaction takes with it: the breakers at their new version, and what is said of those that opened."""

    breakers: tuple[Breaker, ...] = ()
    drafts: tuple[Draft, ...] = ()
    notices: tuple[Notice, ...] = ()


def count(
    cases: Cases, case: Case, controls: tuple[str, ...], run: int, source_id: str, what: Missed, at: datetime
) -> Counted:
    """One miss of these controls, counted on what stands now: whoever loses the write reads and counts again.

    An open breaker is left as it is: where much fails at once, nobody may wait for another to write it. Nor may what a run
    came to stay off the record because a breaker cannot be read: the gate reads it too, and stops there.
    """
    miss = Miss(at=at, case=case.id, run=run, what=what)
    try:
        before = cases.breakers(case.target.account, controls)
    except UnreadableError:
        return Counted()
    after = tuple(one.missed(miss) for one in before if not one.is_open)
    opened = [one for one in after if one.is_open]
    return Counted(
        breakers=after,
        drafts=tuple(record.breaker_opened(case, one, run, source_id, at, said(one)) for one in opened),
        notices=tuple(notify.breaker_opened(case, one, at, said(one)) for one in opened),
    )


def standing_open(breakers: Iterable[Breaker], controls: Iterable[str]) -> Breaker | None:
    """The first breaker of these controls that is open, if any."""
    wanted = {*controls}
    return next((one for one in breakers if one.is_open and one.control in wanted), None)


def said(one: Breaker) -> str:
    """Why the control asks again, in a sentence."""
    runs = "; ".join(
        f"{miss.what.value.replace('_', ' ')}: run {miss.run} of {miss.case}" for miss in one.misses
    )
    since = f" since {stamp(one.opened_at)}" if one.opened_at else ""
    return f"the breaker of {one.control} in account {one.account} is open{since}, because runs went wrong ({runs})"
