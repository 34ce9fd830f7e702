"""The decision, whole: a table for an auditor, held against every combination of facts there is."""

from functools import cache
from itertools import product
from typing import Any

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.decision import EXEMPT, RULES, Decision, Facts, Rule, Verdict, decide

pytestmark = pytest.mark.xdist_group("decisions")  # which share one list of all of them

TABLE = """
mode     | fails | plan             | held back by   | a person said yes to | brought about now | stopped by | verdict
any      | any   | any              | exemption      | any                  | any               | any        | ignore
any      | no    | nothing to do    | any            | any                  | any               | any        | ignore
any      | yes   | nothing to do    | any            | any                  | any               | any        | observe
observe  | any   | any              | any            | any                  | any               | any        | observe
above    | any   | any              | freeze         | any                  | any               | any        | observe
above    | any   | any              | report or "no" | any                  | any               | any        | observe
above    | any   | only refusals    | nothing        | any                  | any               | any        | ticket
ticket   | any   | has calls        | nothing        | any                  | any               | any        | ticket
above    | any   | has calls        | nothing        | another plan, twice  | any               | any        | ticket
above    | any   | has calls        | nothing        | this plan            | any               | any        | act
above    | any   | has calls        | nothing        | another plan         | any               | any        | ask
ask      | any   | has calls        | nothing        | nothing              | any               | any        | ask
act      | any   | needs a person   | nothing        | nothing              | any               | any        | ask
act      | any   | may run alone    | nothing        | nothing              | no                | any        | ask
act      | any   | may run alone    | nothing        | nothing              | yes               | stop       | ask
act      | any   | may run alone    | nothing        | nothing              | yes               | nothing    | act
"""
"""Read from the top, first row that fits.

*report or "no"*: nobody has had the first report on this control here yet, or the violation stood in it and nobody has
asked for it since, or a person refused this very plan. *brought about now*: by this very event, at most an hour ago; or,
for what comes of time alone, since the control was raised to act. *stop*: one of our own roles made the change, a
configured deployment role did, a limit is reached, the breaker is open, or a charge would begin.
"""

PLANS = {
    "nothing to do": {"has_calls": False, "has_declined": False, "plan_at_most": Mode.ACT},
    "only refusals": {"has_calls": False, "has_declined": True, "plan_at_most": Mode.TICKET},
    "may run alone": {"has_calls": True, "has_declined": False, "plan_at_most": Mode.ACT},
    "asks": {"has_calls": True, "has_declined": False, "plan_at_most": Mode.ASK},
    "asks, leaves some": {"has_calls": True, "has_declined": True, "plan_at_most": Mode.ASK},
}
HOLD_BACK = ("baseline", "inherited", "denied")
STOP = ("own_role", "deployed_as_code", "over_limit", "starts_cost", "tripped")


def none_each_all(names: tuple[str, ...]) -> list[dict[str, bool]]:
    """None of the flags, each of them alone, all of them."""
    sets: list[tuple[str, ...]] = [(), *((name,) for name in names), names]
    return [dict.fromkeys(names, False) | dict.fromkeys(one, True) for one in sets]


@cache
def every_combination() -> tuple[tuple[Facts, Decision], ...]:
    """All facts and the decision on them; flags that only ever stop are taken none, each alone and all."""
    flags = ("compliant", "exempt", "frozen", "created_by_event", "fresh", "crossed_since_raised", "approved")
    made: list[tuple[Facts, Decision]] = []
    for mode, plan, stale in product(Mode, PLANS.values(), (0, 1, 2)):
        for held, stopped in product(none_each_all(HOLD_BACK), none_each_all(STOP)):
            for values in product((False, True), repeat=len(flags)):
                some: dict[str, Any] = {**plan, **held, **stopped, **dict(zip(flags, values, strict=True))}
                facts = Facts(mode=mode, stale=stale, **some)
                made.append((facts, decide(facts)))
    return tuple(made)


def row_fits(row: list[str], f: Facts) -> bool:
    """Whether a row of the table describes the facts."""
    mode, fails, plan, held, person, caused, stopped, _ = row
    now = (f.created_by_event and f.fresh) or f.crossed_since_raised
    held_back = f.baseline or f.inherited or f.denied
    stops = any(getattr(f, name) for name in STOP)
    return (
        (mode == "any" or (f.mode > Mode.OBSERVE if mode == "above" else f.mode == mode))
        and (fails == "any" or f.compliant is (fails == "no"))
        and {
            "any": True,
            "nothing to do": not f.has_calls and not f.has_declined,
            "only refusals": not f.has_calls and f.has_declined,
            "has calls": f.has_calls,
            "needs a person": f.has_calls and f.plan_at_most is not Mode.ACT,
            "may run alone": f.has_calls and f.plan_at_most is Mode.ACT,
        }[plan]
        and {
            "any": True,
            "exemption": f.exempt,
            "freeze": f.frozen,
            'report or "no"': held_back,
            "nothing": not f.exempt and not f.frozen and not held_back,
        }[held]
        and {
            "any": True,
            "this plan": f.approved,
            "another plan": f.stale > 0,
            "another plan, twice": f.stale > 1,
            "nothing": not f.approved and not f.stale,
        }[person]
        and {"any": True, "yes": now, "no": not now}[caused]
        and {"any": True, "stop": stops, "nothing": not stops}[stopped]
    )


@pytest.mark.thorough
def test_the_table_says_what_the_engine_does_for_every_combination_of_facts() -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()[1:]]
    used = set()
    for facts, decision in every_combination():
        row = next(row for row in rows if row_fits(row, facts))
        used.add(tuple(row))
        assert decision.verdict == row[-1], (facts, row)
    assert len(used) == len(rows), "a row of the table is never reached"


@pytest.mark.thorough
def test_acting_without_a_person_needs_every_single_fact_to_allow_it() -> None:
    allowed = [f for f, decision in every_combination() if decision.verdict is Verdict.ACT and not f.approved]
    assert allowed
    for facts in allowed:
        assert facts.mode is Mode.ACT
        assert facts.plan_at_most is Mode.ACT
        assert facts.has_calls is True
        assert (facts.created_by_event and facts.fresh) or facts.crossed_since_raised
        assert not any(getattr(facts, name) for name in (*STOP, *HOLD_BACK, "exempt", "frozen", "stale"))


@pytest.mark.thorough
def test_the_reason_for_acting_alone_says_which_of_the_two_brought_it_about() -> None:
    alone = {
        (f, one.reason) for f, one in every_combination() if one.verdict is Verdict.ACT and not f.approved
    }
    assert {reason.split()[0] for _, reason in alone} == {"the", "time"}
    for facts, reason in alone:
        assert reason.startswith(
            "the event created" if facts.created_by_event and facts.fresh else "time created"
        )
        assert " or " not in reason


def test_an_approval_acts_on_nothing_that_is_exempt_frozen_reported_refused_or_set_below_ask() -> None:
    acted = [f for f, decision in every_combination() if decision.verdict is Verdict.ACT and f.approved]
    assert acted
    for facts in acted:
        assert facts.mode > Mode.TICKET
        assert facts.has_calls is True
        assert facts.stale < 2
        assert not any(getattr(facts, name) for name in (*HOLD_BACK, "exempt", "frozen"))


def test_what_is_exempt_is_ignored_whatever_else_is_so() -> None:
    first = Decision(verdict=Verdict.IGNORE, rule=RULES[0].name, reason=RULES[0].reason)
    assert decide(EXEMPT) == first
    assert all(decision == first for facts, decision in every_combination() if facts.exempt)


def test_no_verdict_is_ever_above_the_mode_but_by_an_approval() -> None:
    highest = {Verdict.IGNORE: 0, Verdict.OBSERVE: 0, Verdict.TICKET: 1, Verdict.ASK: 2, Verdict.ACT: 3}
    for facts, decision in every_combination():
        by_a_person = facts.approved and facts.mode is Mode.ASK
        assert highest[decision.verdict] <= facts.mode.rank or by_a_person, facts


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_decides_something_and_says_why(rule: Rule) -> None:
    reached = {decision.rule for _, decision in every_combination()}
    assert rule.name in reached
    assert rule.reason
