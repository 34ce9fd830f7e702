"""An ask that ends because the engine stands back, or asks something else: whoever was told of it is told that it is over."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from chalicelib.domain.approval import CARRIED_OUT_WITHIN
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from chalicelib.flow.errand import Answered, Exempted
from tests.fakes.cases import Item
from tests.fakes.house import House
from tests.flow.people import asked, built, group
from tests.flow.test_asking import exempt
from tests.flow.test_pipeline import DENIED, SSH, Group, refusing
from tests.flow.test_undo import asked as undo_asked

__all__ = ["built", "group"]


def overs(built: House) -> list[tuple[object, object]]:
    """The asks that people were told are over, and why."""
    found = [one.body for one in built.cases.notices if one.kind == "ask_over"]
    return [(body["ask"], body["reason"]) for body in found]


def repair(_: House, group: Group, __: Case) -> None:
    for rule in rules(group):
        group.close(rule)


def rules(group: Group) -> list[str]:
    found = group.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group.id]}])
    ssh = (rule for rule in found["SecurityGroupRules"] if rule.get("FromPort") == 22)
    return [rule.get("SecurityGroupRuleId", "") for rule in ssh]


def freeze(built: House, _: Group, __: Case) -> None:
    built.freeze("ALL", on=True)


def lower(built: House, _: Group, __: Case) -> None:
    built.raise_to(Mode.OBSERVE, SSH)


def exempted(built: House, _: Group, case: Case) -> None:
    exempt(built, case)


Happens = Callable[[House, Group, Case], None]


@pytest.mark.parametrize(
    "happens, reason",
    [
        (repair, "already as the control wants it"),
        (freeze, "frozen by olga"),
        (lower, "observe"),
        (exempted, "exempt until"),
    ],
)
def test_what_was_approved_and_is_not_made_is_over_and_says_why(
    built: House, group: Group, happens: Happens, reason: str
) -> None:
    case = asked(built, group)
    built.answer()
    happens(built, group, case)
    built.deliver()
    ((ask, why),) = overs(built)
    now = built.only_case()
    assert (ask, now.ask) == (1, None)
    assert why == now.reason
    assert reason in now.reason
    assert built.carry_out(Answered(case=case.id, ask=1))[0].verdict == "nothing"
    assert len(overs(built)) == 1


def test_what_was_approved_and_cannot_be_read_is_over(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    engine = refusing(built, "read", DENIED)
    built.engine = lambda *_: engine  # type: ignore[method-assign] # a house whose role may not read
    built.carry_out(Answered(case=case.id, ask=1))
    assert [ask for ask, _ in overs(built)] == [1]


@pytest.mark.parametrize("happens", [repair, lower])
def test_what_a_sweep_no_longer_asks_about_is_over(built: House, group: Group, happens: Happens) -> None:
    case = asked(built, group)
    happens(built, group, case)
    built.clock.advance(timedelta(minutes=30))
    built.sweep()
    assert built.only_case().ask is None
    assert [ask for ask, _ in overs(built)] == [1]


def test_an_exemption_ends_what_is_asked_and_says_so(built: House, group: Group) -> None:
    case = asked(built, group)
    exempt(built, case)
    built.carry_out(Exempted(resource=case.target.resource, control=SSH, request_id="r-1"))
    ((_, why),) = overs(built)
    assert "exempt until" in str(why)


def test_an_ask_that_another_replaces_is_over_and_one_that_goes_on_is_not(built: House, group: Group) -> None:
    asked(built, group)
    built.clock.advance(timedelta(minutes=1))
    built.walk(group.event((22, group.open(22, "1.2.3.4/32")), event_id="event-2"))
    assert overs(built) == []
    group.open(22, "0.0.0.0/1")
    built.walk(group.event((22, group.open(22, "128.0.0.0/1")), event_id="event-3"))
    assert built.only_case().asks == 2
    assert overs(built) == [(1, "it is asked anew, with another plan")]


def test_what_is_stale_is_told_as_that_alone(built: House, group: Group) -> None:
    asked(built, group)
    built.answer()
    group.open(22, "0.0.0.0/1")
    group.open(22, "128.0.0.0/1")
    built.deliver()
    assert "ask_stale" in {one.kind for one in built.cases.notices}
    assert overs(built) == []


def test_an_undo_that_a_new_violation_ends_does_not_vanish_without_a_word(built: House, group: Group) -> None:
    case = undo_asked(built, group)
    built.raise_to(Mode.ASK, SSH)
    built.walk(group.event((22, group.open(22)), event_id="event-9"))
    now = built.only_case()
    assert now.ask
    assert (case.asks, now.ask.undo) == (1, None)
    assert [ask for ask, _ in overs(built)] == [1]


@pytest.mark.parametrize("answered", [True, False])
def test_nobody_is_told_of_the_end_of_what_nobody_was_told_of_or_answered(
    built: House, group: Group, *, answered: bool
) -> None:
    case = asked(built, group)
    assert case.ask
    unsent = case.model_copy(update={"ask": case.ask.model_copy(update={"sent": False})})
    built.cases.items["CASE", case.digest] = Item(unsent.model_dump_json(), unsent.version)
    if answered:
        built.answer()
    lower(built, group, case)
    built.clock.advance(CARRIED_OUT_WITHIN / 2)
    built.carry_out(Answered(case=case.id, ask=1)) if answered else built.sweep()
    assert built.only_case().ask is None
    assert len(overs(built)) == int(answered)
