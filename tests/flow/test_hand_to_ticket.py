"""A ticket in the place of an answer: the ask is over, nothing is changed, and whoever takes the ticket has all of it."""

from typing import Any

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import BusyError, ConflictError, RefusedCommandError
from chalicelib.flow.errand import ERRAND, TicketWanted
from tests.fakes.house import ANNA, House
from tests.flow.people import asked, built, group
from tests.flow.test_consent import policy
from tests.flow.test_pipeline import SSH, Group
from tests.flow.test_undo import asked as undo_asked

__all__ = ["built", "group"]


def wanted(case: str, ask: int = 1) -> TicketWanted:
    return TicketWanted(case=case, ask=ask, by=ANNA, reason="by hand", request_id="r-1")


@pytest.fixture
def case(built: House, group: Group) -> str:
    built.raise_to(Mode.ASK, SSH)
    asked(built, group)
    return built.only_case().id


def test_the_ask_becomes_a_ticket_and_is_answered_no_more(built: House, case: str) -> None:
    plan_hash = built.only_case().plan_hash
    (walked,) = built.carry_out(wanted(case))
    now = built.only_case()
    assert (walked.verdict, now.state, now.ask) == ("ticket", "ticketed", None)
    (ticket,) = built.cases.tickets
    assert ticket.is_open
    assert ticket.why == f"{ANNA} wants a ticket: by hand"
    assert ticket.commands
    assert built.kinds()[-1] == "TICKET_OPENED"
    assert [notice.kind for notice in built.cases.notices][-2:] == ["ticket_open", "ask_ticketed"]
    with pytest.raises(RefusedCommandError, match="nobody is asked"):
        built.answer(plan_hash=plan_hash)


def test_the_second_delivery_and_a_case_that_never_was_change_nothing(built: House, case: str) -> None:
    built.carry_out(wanted(case))
    before = built.cases.records
    (again,) = built.carry_out(wanted(case))
    (gone,) = built.carry_out(wanted(f"{'a' * 20}-1"))
    assert (again.verdict, gone.verdict) == ("nothing", "nothing")
    assert built.cases.records == before


@pytest.mark.parametrize("approve, state", [(True, "closed"), (False, "denied")])
def test_an_answer_that_was_there_before_is_carried_out_instead(
    built: House, case: str, approve: bool, state: str
) -> None:
    built.answer(approve=approve)
    built.carry_out(wanted(case))
    now = built.only_case()
    assert (now.state, built.cases.tickets) == (state, ())
    assert "ANSWERED" in built.kinds()
    assert [walked.verdict for walked in built.deliver()] == ["nothing"]


def test_one_approval_of_two_is_no_answer_yet(built: House, case: str) -> None:
    built.set_policy(policy())
    built.answer()
    (walked,) = built.carry_out(wanted(case))
    assert (walked.verdict, built.only_case().state) == ("ticket", "ticketed")


def test_an_order_for_one_ask_leaves_the_next_alone(built: House, group: Group, case: str) -> None:
    built.clock.advance(seconds=60)
    for number, half in enumerate(("0.0.0.0/1", "128.0.0.0/1"), 2):
        built.walk(group.event((22, group.open(22, half)), event_id=f"event-{number}"))
    assert built.only_case().asks == 2
    (walked,) = built.carry_out(wanted(case))
    assert (walked.verdict, built.only_case().state, built.cases.tickets) == ("nothing", "waiting", ())


def test_an_undo_that_is_asked_for_is_answered_and_no_ticket(built: House, group: Group) -> None:
    case = undo_asked(built, group)
    (walked,) = built.carry_out(wanted(case.id))
    assert walked.verdict == "nothing"
    assert built.only_case().ask
    assert not built.cases.tickets


def test_a_control_that_the_catalog_has_no_more_makes_no_ticket(
    built: House, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = built.engine()
    monkeypatch.setattr(type(built), "engine", lambda *_: _without_controls(engine))
    (walked,) = built.carry_out(wanted(case))
    assert (walked.verdict, walked.rule) == ("nothing", "no control")
    assert built.only_case().ask


def _without_controls(engine: Any) -> Any:
    from dataclasses import replace

    return replace(engine, controls={})


def test_whoever_is_quicker_wins_and_nothing_is_lost(built: House, case: str) -> None:
    commit, lost = built.cases.commit, [True]

    def slow(change: Any) -> None:
        if lost:
            lost.clear()
            raise ConflictError("somebody else was quicker")
        commit(change)

    built.cases.commit = slow  # type: ignore[method-assign]  # the fake's own method, for one write
    (walked,) = built.carry_out(wanted(case))
    assert walked.verdict == "ticket"


def test_where_others_are_always_quicker_it_comes_back(built: House, case: str) -> None:
    def never(_change: Any) -> None:
        raise ConflictError("somebody else was quicker")

    built.cases.commit = never  # type: ignore[method-assign, assignment]  # the fake's own method
    with pytest.raises(BusyError):
        built.run(wanted(case))


def test_an_order_of_an_older_version_names_no_ask_and_ends(built: House, case: str) -> None:
    old = wanted(case).model_dump_json(exclude={"ask"})
    (walked,) = built.carry_out(ERRAND.validate_json(old))
    assert (walked.rule, built.only_case().state) == ("no open ask", "waiting")
