"""The one clock, and the one that tests own in its place."""

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.domain.ports import Clock
from tests.fakes.clock import START, FakeClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
def test_time_is_aware_in_utc_and_passes_while_sleeping(clock: Clock) -> None:
    before = clock.now()
    clock.sleep(0.01)
    assert before.tzinfo is UTC
    assert clock.now() - before >= timedelta(seconds=0.01)


def test_the_systems_clock_is_the_machines() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("seconds", [0.0, -3.0])
def test_no_time_is_waited_in_no_time(seconds: float) -> None:
    before = datetime.now(UTC)
    SystemClock().sleep(seconds)
    assert datetime.now(UTC) - before < timedelta(seconds=1)


def test_a_fake_clock_moves_only_when_it_is_moved() -> None:
    clock = FakeClock()
    assert clock.now() == clock.now() == START
    clock.advance(seconds=2)
    clock.advance(timedelta(minutes=1))
    clock.sleep(3)
    assert clock.now() == START + timedelta(seconds=65)
    assert clock.slept == [3]
    clock.set(START)
    assert clock.now() == START
