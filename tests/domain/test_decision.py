"""The decision, whole: a table for an auditor, held against every combination of facts there is."""

from itertools import product

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.decision import RULES, Facts, Rule, Verdict, decide

TABLE = """
mode     | fails | plan             | created now | stopped by        | verdict
any      | any   | any              | any         | exemption         | ignore
any      | no    | nothing to do    | any         | -                 | ignore
observe  | any   | any              | any         | any               | observe
above    | any   | any              | any         | freeze            | observe
above    | yes   | nothing to do    | any         | -                 | ticket
above    | any   | only refusals    | any         | -                 | ticket
ticket   | any   | has calls        | any         | -                 | ticket
ask      | any   | has calls        | any         | -                 | ask
act      | any   | needs a person   | any         | -                 | ask
act      | any   | may run alone    | no          | -                 | ask
act      | any   | may run alone    | yes         | role, limit, cost | ask
act      | any   | may run alone    | yes         | nothing           | act
"""
"""Read from the top, first row that fits. `created now`: by this very event, at most an hour ago."""

FLAGS = (
    "compliant",
    "has_calls",
    "has_declined",
    "created_by_event",
    "fresh",
    "exempt",
    "frozen",
    "over_limit",
)
MORE = ("own_role", "starts_cost")


def every_combination() -> list[Facts]:
    """All facts: each flag both ways, every mode, every ceiling of a plan."""
    return [
        Facts(mode=mode, plan_at_most=at_most, **dict(zip((*FLAGS, *MORE), flags, strict=True)))
        for mode, at_most in product(Mode, (Mode.TICKET, Mode.ASK, Mode.ACT))
        for flags in product((False, True), repeat=len(FLAGS) + len(MORE))
    ]


def row_fits(row: list[str], f: Facts) -> bool:
    """Whether a row of the table describes the facts."""
    mode, fails, plan, created, stopped, _ = row
    nothing, refusals = not f.has_calls and not f.has_declined, not f.has_calls and f.has_declined
    return all(
        (
            {"any": True, "above": f.mode > Mode.OBSERVE}.get(mode, f.mode == mode),
            {"any": True, "yes": not f.compliant, "no": f.compliant}[fails],
            {
                "any": True,
                "nothing to do": nothing,
                "only refusals": refusals,
                "has calls": f.has_calls,
                "needs a person": f.has_calls and f.plan_at_most is not Mode.ACT,
                "may run alone": f.has_calls and f.plan_at_most is Mode.ACT,
            }[plan],
            {"any": True, "yes": f.created_by_event and f.fresh, "no": not (f.created_by_event and f.fresh)}[
                created
            ],
            {
                "any": True,
                "-": True,
                "exemption": f.exempt,
                "freeze": f.frozen,
                "role, limit, cost": f.own_role or f.over_limit or f.starts_cost,
                "nothing": True,
            }[stopped],
        )
    )


def test_the_table_says_what_the_engine_does_for_every_combination_of_facts() -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()[1:]]
    used = set()
    for facts in every_combination():
        row = next(row for row in rows if row_fits(row, facts))
        used.add(tuple(row))
        assert decide(facts).verdict == row[-1], (facts, row)
    assert len(used) == len(rows), "a row of the table is never reached"


def test_acting_needs_every_single_fact_to_allow_it() -> None:
    allowed = [facts for facts in every_combination() if decide(facts).verdict is Verdict.ACT]
    assert allowed
    for facts in allowed:
        assert facts.mode is Mode.ACT
        assert facts.plan_at_most is Mode.ACT
        assert facts.has_calls is True
        assert facts.created_by_event
        assert facts.fresh
        stops = (facts.exempt, facts.frozen, facts.over_limit, facts.own_role, facts.starts_cost)
        assert not any(stops)


def test_no_verdict_is_ever_above_the_mode() -> None:
    highest = {Verdict.IGNORE: 0, Verdict.OBSERVE: 0, Verdict.TICKET: 1, Verdict.ASK: 2, Verdict.ACT: 3}
    for facts in every_combination():
        assert highest[decide(facts).verdict] <= facts.mode.rank, facts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_decides_something_and_says_why(rule: Rule) -> None:
    reached = {decide(facts).rule for facts in every_combination()}
    assert rule.name in reached
    assert rule.reason
