"""The circuit breaker by itself: when it opens, what it forgets, and that only a person closes it."""

from datetime import timedelta

import pytest

from chalicelib.domain.breaker import MISSES, WINDOW, Breaker, Miss, Missed
from tests.fakes.clock import START

CLOSED = Breaker(account="111111111111", control="a-control")


def after(*hours: float) -> Breaker:
    """The breaker once a run went wrong at each of these hours."""
    breaker = CLOSED
    for run, at in enumerate(hours, 1):
        miss = Miss(at=START + timedelta(hours=at), case="c-1", run=run, what=Missed.FAILED)
        breaker = breaker.missed(miss)
    return breaker


@pytest.mark.parametrize(
    "hours, is_open",
    [
        ((), False),
        ((0, 1), False),
        ((0, 1, 2), True),
        ((0, 1, 23.999), True),
        ((0, 1, 24), False),  # the first is a day old and counts no more
        ((0, 12, 24, 36, 48), False),
        ((0, 12, 24, 30), True),
    ],
)
def test_three_misses_within_a_day_open_it(hours: tuple[float, ...], is_open: bool) -> None:
    breaker = after(*hours)
    assert breaker.is_open is is_open
    assert breaker.version == len(hours)
    if is_open:
        assert breaker.opened_at == START + timedelta(hours=hours[-1])


def test_open_it_stays_as_it_is_however_much_goes_wrong() -> None:
    assert after(0, 1, 2, *(100 * number for number in range(1, 20))) == after(0, 1, 2)


def test_one_run_is_one_miss_with_the_last_word_on_it() -> None:
    seen = Miss(at=START, case="c-1", run=1, what=Missed.NOT_VERIFIED)
    undone = Miss(at=START + timedelta(hours=20), case="c-1", run=1, what=Missed.UNDONE)
    breaker = CLOSED.missed(seen).missed(undone)
    assert (breaker.misses, breaker.is_open, breaker.version) == ((undone,), False, 2)
    for hours, case, run in ((21, "c-1", 2), (43, "c-2", 1)):
        at = START + timedelta(hours=hours)
        breaker = breaker.missed(Miss(at=at, case=case, run=run, what=Missed.FAILED))
    assert breaker.is_open, (
        "another run of the case, and a run of that number of another case, are runs of their own"
    )


def test_reset_it_holds_nothing_against_the_control() -> None:
    fresh = after(0, 1, 2).reset()
    assert (fresh.is_open, fresh.misses, fresh.version) == (False, (), MISSES + 1)
    one = fresh.missed(Miss(at=START + timedelta(hours=3), case="c-2", run=1, what=Missed.UNDONE))
    assert not one.is_open


def test_its_window_is_a_day() -> None:
    assert (timedelta(hours=24), 3) == (WINDOW, MISSES)
