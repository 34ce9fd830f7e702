"""The hard limits, counted in an exact sliding hour."""

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.domain.limits import Limits, Reservation, Spent, over

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EMPTY = Spent(key="nobody")


def reservation(
    minutes_ago: int = 0, writes: int = 1, control: str = "ec2-open-ssh", run: int = 1
) -> Reservation:
    return Reservation(
        at=NOW - timedelta(minutes=minutes_ago), case="case-1", run=run, controls=(control,), writes=writes
    )


def spent(*entries: Reservation) -> Spent:
    return Spent(key="k", reservations=entries)


def test_the_fifth_write_of_a_control_passes_and_the_sixth_asks() -> None:
    four, five = spent(*[reservation(1)] * 4), spent(*[reservation(1)] * 5)
    assert over(Limits(), four, EMPTY, reservation()) is None
    assert "limit of 5" in (over(Limits(), five, EMPTY, reservation()) or "")


def test_controls_are_counted_apart_and_the_account_counts_them_all() -> None:
    entries = [reservation(1, control=f"control-{n}") for n in range(19)]
    assert over(Limits(), spent(*entries), EMPTY, reservation()) is None
    assert "the account" in (
        over(Limits(), spent(*entries, reservation(1, control="x")), EMPTY, reservation()) or ""
    )


def test_an_actor_is_counted_over_all_accounts() -> None:
    actor = spent(*[reservation(1, writes=10)] * 2)
    assert "by this actor" in (over(Limits(), EMPTY, actor, reservation()) or "")


def test_a_write_is_forgotten_after_exactly_one_hour() -> None:
    full = [reservation(59)] * 5
    assert over(Limits(), spent(*full), EMPTY, reservation()) is not None
    assert over(Limits(), spent(*[reservation(60)] * 5), EMPTY, reservation()) is None


def test_a_limit_of_zero_lets_nothing_through() -> None:
    for limits in (Limits(per_control=0), Limits(per_account=0), Limits(per_actor=0)):
        assert over(limits, EMPTY, EMPTY, reservation()) is not None


def test_a_negative_limit_is_no_limit_that_can_be_set() -> None:
    with pytest.raises(ValueError, match="greater than or equal"):
        Limits(per_control=-1)


def test_a_plan_of_several_writes_is_counted_by_its_writes() -> None:
    assert over(Limits(), EMPTY, EMPTY, reservation(writes=6)) is not None


def test_reserving_drops_what_no_longer_counts_and_raises_the_version() -> None:
    before = Spent(key="k", version=3, reservations=(reservation(90), reservation(10, run=2)))
    after = before.plus(reservation(run=3))
    assert [entry.run for entry in after.reservations] == [2, 3]
    assert after.version == 4
    assert after.holds("case-1", 3)
    assert not after.holds("case-1", 1)
