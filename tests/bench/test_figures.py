"""The arithmetic of the bench. Nothing here is timed: a test that measures seconds fails when the machine is busy."""

import pytest

from bench.figures import Row, Rule, all_met, spread, target, verdict, versus, written


def test_the_median_stands_between_its_quartiles_and_an_outlier_does_not_move_it() -> None:
    taken = spread([0.01, 0.02, 0.03, 0.04, 9.0])
    assert (taken.low, taken.median, taken.high, taken.count) == (0.02, 0.03, 0.04, 5)


def test_the_ratio_is_that_of_the_medians_and_the_pairs_show_how_steady_it_was() -> None:
    taken = versus([0.2, 0.4, 0.6], [0.1, 0.2, 0.2])
    assert taken.ratio == pytest.approx(2.0)
    assert taken.pairs.median == pytest.approx(2.0)
    assert taken.pairs.high == pytest.approx(2.5)


def test_series_of_unequal_length_are_not_compared() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        versus([0.1, 0.2, 0.3], [0.1, 0.2])


@pytest.mark.parametrize(
    "value, rule, met",
    [
        (2.0, "at most", True),
        (2.01, "at most", False),
        (2.0, "exactly", True),
        (1.0, "exactly", False),
        (3.0, "exactly", False),
        (None, "at most", False),
        (None, "exactly", False),
    ],
)
def test_a_target_is_met_or_missed_and_what_was_not_measured_missed_it(
    value: float | None, rule: Rule, met: bool
) -> None:
    row = Row("walk", "a walk", value, "x", target=2.0, rule=rule)
    assert row.met is met
    assert row.shown()["met"] is met
    assert all_met([row]) is met


def test_a_figure_without_a_target_can_miss_nothing() -> None:
    row = Row("deployed", "seconds", 99.0, "s")
    assert (row.met, verdict(row), target(row)) == (None, "", "")
    assert all_met([row])


def test_one_missed_target_is_enough() -> None:
    assert not all_met(
        [Row("a", "a", 1, "calls", target=1), Row("b", "b", 2, "calls", target=1), Row("c", "c", 1, "s")]
    )


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (3, "calls", "3"),
        (1234.5, "ms", "1,234.5 ms"),
        (1.8584, "x", "1.86×"),
        (3.686, "MB", "3.69 MB"),
        (None, "MB", "not measured"),
    ],
)
def test_a_figure_reads_well(value: float | None, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_the_target_says_which_way_it_is_meant() -> None:
    assert target(Row("a", "a", 1.0, "x", target=1.4)) == "≤ 1.40×"
    assert target(Row("a", "a", 1, "calls", target=4, rule="exactly")) == "= 4"
    assert verdict(Row("a", "a", 1, "calls", target=4, rule="exactly")) == "MISSED"
