"""Errands: what time alone brings about, whoever fails beside it; looking again; and what is handed on to others."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from chalicelib.domain.approval import EXPIRES_AFTER, SETTLED_AFTER
from chalicelib.domain.case import Case, CaseState, Lock
from chalicelib.domain.contract import AnyRemediation, Mode, Reader
from chalicelib.domain.errors import BusyError, ConflictError, RefusedCommandError, UnreadableError
from chalicelib.domain.finding import Origin, Target
from chalicelib.domain.ports import Aws, Change, Exemption, Owner
from chalicelib.flow import errands, undo
from chalicelib.flow.errand import (
    Answered,
    ClosedThere,
    Exempted,
    Heard,
    Look,
    News,
    NotBrought,
    Redrive,
    Tick,
    UndoRun,
)
from chalicelib.flow.errands import Done
from chalicelib.flow.sweep import LOOKS_FOR
from tests.fakes.cases import Item
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, ANNA, House, house
from tests.flow.people import asked, built, group
from tests.flow.test_asking import exempt
from tests.flow.test_pipeline import DENIED, RDP, SSH, Group, attacked
from tests.flow.test_undo import approved, case_of, done, meddling, repaired

__all__ = ["built", "group"]

DAY = timedelta(days=1)


def put(built: House, case: Case) -> None:
    """The case as something else than the flow would have left it."""
    built.cases.items["CASE", case.digest] = Item(case.model_dump_json(), case.version)


def exempted(built: House, group: Group, code: str = "accepted_risk", days: int = 1) -> Case:
    """A violation on which an exemption lies until `days` from now, as its case knows."""
    now, resource = (
        built.clock.now(),
        f"arn:aws:ec2:eu-central-1:{ACCOUNT}:security-group/{group.id}",
    )
    built.cases.set(
        Exemption(
            account=ACCOUNT,
            control=SSH,
            resource=resource,
            owner="web",
            code=code,
            reason="tested",
            by=ANNA,
            at=now,
            expires_at=now + timedelta(days=days),
        )
    )
    assert built.walk(attacked(built, group)).rule == "exempt"
    return case_of(built, group)


# -- one that fails -----------------------------------------------------------------------------------------------------


def two_waiting(built: House, group: Group) -> tuple[Case, Case]:
    first = asked(built, group)
    built.clock.advance(timedelta(minutes=1))
    other = Group(built)
    built.walk(other.event((22, other.open(22)), event_id="event-2"))
    return first, case_of(built, other)


def test_a_case_that_this_version_cannot_read_does_not_keep_the_others_waiting(
    built: House, group: Group
) -> None:
    first, second = two_waiting(built, group)
    over = {"state": CaseState.EXEMPT, "ask": None, "controls": ("gone",), "wakes_at": built.clock.now()}
    put(built, first.model_copy(update=over))
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    passed = built.run(Tick())
    assert [(one.case, one.verdict) for one in passed.walked] == [(first.id, "fail"), (second.id, "expired")]
    assert len(passed.failures) == 1
    assert [ticket.case for ticket in built.cases.tickets] == [second.id]


def test_what_wakes_comes_before_what_waits_whose_answers_are_read_together(
    built: House, group: Group
) -> None:
    first, second = two_waiting(built, group)
    over = {"digest": "b" * 20, "controls": ("gone",), "ask": None, "wakes_at": built.clock.now()}
    asleep = first.model_copy(update={**over, "state": CaseState.EXEMPT})
    put(built, asleep)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.cases.calls.clear()
    passed = built.run(Tick())
    assert [one.case for one in passed.walked] == [asleep.id, first.id, second.id]
    assert (built.cases.calls.count("answers_to"), built.cases.calls.count("answers")) == (1, 0)


def test_answers_that_cannot_be_read_keep_their_own_case_and_no_other(built: House, group: Group) -> None:
    first, second = two_waiting(built, group)
    built.answer(case=first)
    key = next(name for name in built.cases.items if name[0] == "ANSWERS")
    built.cases.items[key] = Item("{}", 1)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    passed = built.run(Tick())
    assert [(one.case, one.verdict) for one in passed.walked] == [(first.id, "fail"), (second.id, "expired")]
    assert len(passed.failures) == 1


def test_a_tick_ends_in_time_and_says_what_it_left_to_the_next(built: House, group: Group) -> None:
    first, second = two_waiting(built, group)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    commit = built.cases.commit

    def slow(change: Change) -> None:
        commit(change)
        built.clock.sleep(LOOKS_FOR.total_seconds())

    built.cases.commit = slow  # type: ignore[method-assign] # a store that takes its time
    assert [one.verdict for one in built.run(Tick()).walked] == ["expired", "late"]
    assert [one.case for one in built.run(Tick()).walked] == [second.id]
    assert first.id != second.id


def test_a_case_that_cannot_be_read_hides_no_other_from_an_exemption(built: House, group: Group) -> None:
    case = asked(built, group)
    built.cases.items["CASE", "a" * 20] = Item("{}", 1)
    exempt(built, case)
    done = built.run(Exempted(resource=case.target.resource, control=SSH, request_id="r-1"))
    now = built.cases.case(case.digest, 1)
    assert now
    assert now.state == "exempt"
    assert {type(failure) for failure in done.failures} == {UnreadableError}


def test_an_ask_whose_state_another_version_wrote_expires_like_any_other(built: House, group: Group) -> None:
    case = asked(built, group)
    assert case.ask
    put(built, case.model_copy(update={"ask": case.ask.model_copy(update={"before": {"was": "another"}})}))
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    assert [one.verdict for one in built.tick()] == ["expired"]
    (ticket,) = built.cases.tickets
    assert ticket.steps[0].console.startswith("Look at ")


def test_a_store_that_refuses_one_case_is_told_of_and_the_next_case_has_its_turn(
    built: House, group: Group
) -> None:
    first, second = two_waiting(built, group)
    built.cases.items["ANSWERS", first.id, "1"] = Item("{}", 1)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    passed = built.run(Tick())
    assert [(one.case, one.verdict) for one in passed.walked] == [(first.id, "fail"), (second.id, "expired")]
    (failure,) = passed.failures
    assert "cannot be read" in str(failure)
    assert case_of(built, group).state == "waiting", "its turn comes again"


def test_a_state_of_which_not_all_can_be_listed_does_not_keep_the_others_waiting(
    built: House, group: Group
) -> None:
    first, second = two_waiting(built, group)
    built.cases.items["CASE", first.digest] = Item("{}", first.version)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    passed = built.run(Tick())
    assert [(one.case, one.verdict) for one in passed.walked] == [(second.id, "expired")]
    assert {type(failure) for failure in passed.failures} == {UnreadableError}


def test_a_busy_case_is_no_failure_and_has_its_turn_with_the_next_tick(built: House, group: Group) -> None:
    first, second = two_waiting(built, group)
    built.answer(case=first)
    built.answer(case=second)
    held = Lock(case="another-1", run=1, lease_until=built.clock.now() + AFTER_THE_LEASE, version=9)
    built.cases.items["LOCK", first.target.key] = Item(held.model_dump_json(), 9)
    passed = built.run(Tick())
    assert [(one.case, one.outcome) for one in passed.walked] == [(second.id, "fixed")]
    assert passed.failures == ()
    built.clock.advance(AFTER_THE_LEASE)
    assert [(one.case, one.outcome) for one in built.tick()] == [(first.id, "fixed")]


# -- as time passes -----------------------------------------------------------------------------------------------------


def test_a_run_that_died_is_settled_when_its_lease_is_over_and_not_before(built: House, group: Group) -> None:
    event, faults = attacked(built, group), Faults()
    with pytest.raises(Crash):
        built.walk(event, Faults(6, Kind.BEFORE))
    assert built.only_case().state == "running"
    assert built.run(Tick(), faults) == Done()
    assert set(faults.seen) == {"cases.in_state"}
    built.clock.advance(AFTER_THE_LEASE)
    assert [one.outcome for one in built.tick()] == ["fixed"]
    assert group.ports == [443]
    assert [built.kinds().count(kind) for kind in ("INTENT", "RESULT")] == [1, 1]
    assert built.tick() == []
    assert built.walk(event).verdict == "duplicate"


def test_a_running_case_without_a_run_is_not_guessed_at(built: House, group: Group) -> None:
    put(built, asked(built, group).model_copy(update={"state": CaseState.RUNNING, "ask": None}))
    built.clock.advance(DAY)
    assert built.run(Tick()) == Done()


def test_a_waiting_case_without_an_ask_is_left_to_the_sweep(built: House, group: Group) -> None:
    put(built, asked(built, group).model_copy(update={"ask": None}))
    built.clock.advance(DAY)
    assert built.run(Tick()) == Done()


def test_an_undo_that_died_is_handed_on_to_the_function_that_undoes(built: House, group: Group) -> None:
    wanted = approved(built, group)
    with pytest.raises(Crash):
        undo.carry_out(built.engine(Faults(9, Kind.BEFORE)), wanted)
    assert built.only_case().state == "running"
    writes = len(built.aws.writes)
    assert built.run(Tick()) == Done()
    built.clock.advance(AFTER_THE_LEASE)
    assert built.run(Tick()) == Done(undos=(UndoRun(case=wanted.case, ask=1),))
    assert len(built.aws.writes) == writes, "the engine itself goes on with no undo"


def test_an_approved_undo_that_was_lost_on_its_way_is_handed_on_again(built: House, group: Group) -> None:
    wanted = approved(built, group)
    assert built.run(Tick()).undos == (wanted,)
    assert [one.outcome for one in built.tick()] == ["", "fixed"]
    assert built.run(Tick()).undos == ()


@pytest.mark.parametrize("code", ["accepted_risk", "snooze"])
def test_what_an_exemption_or_a_snooze_covered_is_asked_about_when_it_ends(
    built: House, group: Group, code: str
) -> None:
    case = exempted(built, group, code)
    assert (case.state, case.wakes_at) == ("exempt", built.clock.now() + DAY)
    built.clock.advance(DAY - timedelta(seconds=1))
    assert built.tick() == []
    built.clock.advance(timedelta(seconds=1))
    assert [one.verdict for one in built.tick()] == ["ask"]
    again = built.only_case()
    assert (again.state, again.episode, again.wakes_at) == ("waiting", 2, None)
    assert built.aws.writes == [], "though the control may act: nobody did anything just now"
    assert built.tick() == []


def test_an_exemption_that_was_extended_meanwhile_goes_on(built: House, group: Group) -> None:
    case = exempted(built, group)
    exempt(built, case, days=3)
    built.clock.advance(DAY)
    assert [one.rule for one in built.tick()] == ["exempt"]
    assert built.only_case().wakes_at == built.clock.now() + 2 * DAY
    assert built.tick() == []


def test_an_exempt_case_that_nothing_wakes_sleeps_on(built: House, group: Group) -> None:
    case = exempted(built, group)
    put(built, case.model_copy(update={"wakes_at": None}))
    built.clock.advance(DAY)
    assert built.run(Tick()) == Done()


# -- looking again ------------------------------------------------------------------------------------------------------


def look(case: Case, *, requested: bool, request: str = "r-1") -> Look:
    return Look(case=case.id, by=ANNA, requested=requested, request_id=request)


def test_what_is_inherited_is_asked_about_only_when_a_person_wants_it(built: House, group: Group) -> None:
    group.open(22)
    built.sweep()
    built.raise_to(Mode.ACT, SSH)
    case = built.only_case()
    assert case.inherited
    walked, *_ = built.carry_out(look(case, requested=False))
    assert (walked.verdict, walked.rule, walked.controls) == ("observe", "inherited", (SSH,))
    assert {one.verdict for one in built.carry_out(look(case, requested=True))} == {"duplicate"}
    walked, *_ = built.carry_out(look(case, requested=True, request="r-2"))
    now = built.only_case()
    assert now.ask
    assert (walked.verdict, now.inherited, now.ask.requesters) == ("ask", (), (ANNA,))
    with pytest.raises(RefusedCommandError, match="ask somebody else"):
        built.answer(by=ANNA)
    assert built.aws.writes == []


def test_a_snoozed_case_asks_nobody_until_it_wakes(built: House, group: Group) -> None:
    case = asked(built, group)
    exempt(built, case, days=2)
    (walked,) = built.carry_out(look(case, requested=False))
    assert walked.rule == "exempt"
    now = built.only_case()
    assert (now.state, now.ask, now.wakes_at) == ("exempt", None, built.clock.now() + 2 * DAY)
    with pytest.raises(RefusedCommandError):
        built.answer(case=case)
    built.clock.advance(2 * DAY)
    assert [one.verdict for one in built.tick()] == ["ask"]


def test_looking_at_a_case_that_never_was_is_nothing(built: House) -> None:
    (walked,) = built.carry_out(Look(case="no case", by=ANNA, request_id="r"))
    assert (walked.verdict, built.cases.records) == ("nothing", ())


def test_an_exemption_and_its_end_are_seen_by_the_cases_that_they_concern_and_no_others(
    built: House, group: Group
) -> None:
    first, second = two_waiting(built, group)
    exempt(built, first)
    concerns = Exempted(resource=first.target.resource, control=SSH, request_id="r-1")
    other = concerns.model_copy(update={"control": "ec2-open-rdp", "request_id": "r-0"})
    assert built.carry_out(other) == []
    assert [(one.case, one.rule) for one in built.carry_out(concerns)] == [(first.id, "exempt")]
    assert case_of(built, group).state == "exempt"
    assert built.cases.case(second.digest, 1) == second
    exempt(built, first, days=0)
    revoked = concerns.model_copy(update={"request_id": "r-2"})
    assert [one.verdict for one in built.carry_out(revoked)] == ["ask"]
    assert case_of(built, group).state == "waiting"


def test_an_undos_exemption_that_is_revoked_is_asked_about_and_nothing_is_repaired(
    built: House, group: Group
) -> None:
    case = done(built, group)
    exempt(built, case, days=0)
    (walked,) = built.carry_out(Exempted(resource=case.target.resource, control=SSH, request_id="r-1"))
    assert walked.verdict == "ask"
    assert group.ports == [22, 443]


def test_dead_letters_are_not_the_engines(built: House, group: Group) -> None:
    repaired(built, group)
    records = built.cases.records
    assert built.run(Redrive(queue="events", most=1)) == Done()
    assert built.cases.records == records


# -- what ticket systems say, and what people say beside deciding --------------------------------------------------------


def ticketed(built: House, group: Group) -> tuple[Case, str]:
    """Port 22 is open, and a ticket tells of it; with the rule's id."""
    built.raise_to(Mode.TICKET, SSH)
    rule = group.open(22)
    assert built.walk(group.event((22, rule))).verdict == "ticket"
    return built.only_case(), rule


def closed_there(case: Case, at: timedelta = timedelta(), **changes: Any) -> ClosedThere:
    assert case.ticket
    said = ClosedThere(
        case=case.id, ticket=case.ticket.id, integration="ops", key="OPS-7", at=case.ticket.opened_at + at
    )
    return said.model_copy(update=changes)


def not_brought(case: Case, at: timedelta = timedelta(), **changes: Any) -> NotBrought:
    assert case.ticket
    said = NotBrought(
        case=case.id,
        ticket=case.ticket.id,
        integration="ops",
        why="400: Team",
        again=True,
        at=case.ticket.opened_at + at,
    )
    return said.model_copy(update=changes)


def told(built: House, kind: str) -> list[str]:
    return [notice.id for notice in built.cases.notices if notice.kind == kind]


def test_a_ticket_that_somebody_closed_elsewhere_stays_open_while_the_target_fails(
    built: House, group: Group
) -> None:
    case, _ = ticketed(built, group)
    (first,) = told(built, "ticket_open")
    for _ in range(2):  # a queue delivers at least once
        built.carry_out(closed_there(case))
        built.clock.advance(timedelta(seconds=30))
    assert built.kinds().count("TICKET_CLOSED_EXTERNALLY") == 1
    (ticket,) = built.cases.tickets
    closed = {"ticket": ticket.id, "integration": "ops", "remote": "OPS-7"}
    assert built.record("TICKET_CLOSED_EXTERNALLY") == closed
    assert (ticket.state, built.only_case().state, built.only_case().ticket) == ("open", "ticketed", ticket)
    assert told(built, "ticket_open") == [first, f"{first}#2026-08-03T12:00:00.000Z"], (
        "told there again, once"
    )
    assert built.aws.writes == []
    built.carry_out(closed_there(case, timedelta(hours=1)))
    assert built.kinds().count("TICKET_CLOSED_EXTERNALLY") == 2, "closed again is another word"


def test_a_ticket_that_somebody_closed_elsewhere_ends_once_the_target_is_seen_to_be_repaired(
    built: House, group: Group
) -> None:
    case, rule = ticketed(built, group)
    group.close(rule)
    for _ in range(2):
        built.carry_out(closed_there(case))
    assert built.kinds().count("TICKET_CLOSED") == 1
    assert built.kinds().count("TICKET_CLOSED_EXTERNALLY") == 1
    assert [one.state for one in built.cases.tickets] == ["closed"]
    assert built.only_case().state == "closed"
    assert len(told(built, "ticket_open")) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
def test_a_crash_at_any_call_and_a_redelivery_end_as_if_nothing_had_happened(kind: Kind) -> None:
    with house() as dry:
        case, _ = ticketed(dry, Group(dry))
        seen = Faults()
        errands.carry_out(dry.engine(seen), closed_there(case))
        wanted = (dry.kinds(), len(told(dry, "ticket_open")))
    for place in range(1, len(seen.seen) + 1):
        with house() as fresh:
            case, _ = ticketed(fresh, Group(fresh))
            with pytest.raises(Crash):
                errands.carry_out(fresh.engine(Faults(place, kind)), closed_there(case))
            fresh.carry_out(closed_there(case))
            where = f"crash {kind.value} call {place}, {seen.seen[place - 1]}"
            assert (fresh.kinds(), len(told(fresh, "ticket_open"))) == wanted, where


def test_a_ticket_of_an_episode_that_has_passed_is_still_heard_of(built: House, group: Group) -> None:
    built.sweep()
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.tick()
    first = built.only_case()
    built.clock.advance(DAY)
    built.sweep()
    now = built.only_case()
    assert (now.episode, now.ticket) == (2, first.ticket)
    built.carry_out(hint(first))
    assert len(told(built, "ticket_heard")) == 1
    built.carry_out(closed_there(first))
    assert built.kinds().count("TICKET_CLOSED_EXTERNALLY") == 1, "in the chain of the case that stands"
    again = built.only_case()
    assert again.ticket
    assert (again.episode, again.state, again.ticket.is_open) == (2, "waiting", True)


def hint(case: Case, **changes: Any) -> Heard:
    assert case.ticket
    said = Heard(case=case.id, ticket=case.ticket.id, integration="ops", request_id="h-1")
    return said.model_copy(update=changes)


def test_a_message_from_a_ticket_system_has_it_asked_and_is_no_closing(built: House, group: Group) -> None:
    case, _ = ticketed(built, group)
    for _ in range(2):
        assert [one.verdict for one in built.carry_out(hint(case))] == ["told"]
    (notice,) = (notice for notice in built.cases.notices if notice.kind == "ticket_heard")
    assert (notice.case, notice.body["integration"]) == (case.id, "ops")
    assert "TICKET_CLOSED_EXTERNALLY" not in built.kinds()
    assert [one.state for one in built.cases.tickets] == ["open"]


@pytest.mark.parametrize("forged", [{"case": "no case"}, {"case": "b" * 20 + "-1"}, {"ticket": "another"}])
@pytest.mark.parametrize("said", [hint, closed_there, not_brought])
def test_what_was_forged_does_nothing(
    built: House, group: Group, said: Callable[..., Heard | ClosedThere | NotBrought], forged: dict[str, str]
) -> None:
    case, _ = ticketed(built, group)
    before = dict(built.cases.items)
    (walked,) = built.carry_out(said(case).model_copy(update=forged))
    assert (walked.verdict, built.cases.items) == ("nothing", before)


def test_a_closing_of_what_we_have_closed_does_nothing(built: House, group: Group) -> None:
    case, rule = ticketed(built, group)
    group.close(rule)
    built.carry_out(look(case, requested=False))
    assert [one.state for one in built.cases.tickets] == ["closed"]
    before = dict(built.cases.items)
    assert [one.verdict for one in built.carry_out(hint(case), closed_there(case))] == ["nothing", "nothing"]
    assert built.cases.items == before


def test_a_ticket_that_does_not_get_there_is_on_record_and_told_once(built: House, group: Group) -> None:
    case, _ = ticketed(built, group)
    assert case.ticket
    for _ in range(2):  # a queue delivers at least once
        assert [one.verdict for one in built.carry_out(not_brought(case))] == ["told"]
        built.clock.advance(timedelta(seconds=30))
    (notice,) = (notice for notice in built.cases.notices if notice.kind == "case_news")
    says = f"ticket {case.ticket.id} as it stands did not get to ops; it is tried again: 400: Team"
    assert (notice.case, notice.body["says"]) == (case.id, says)
    assert built.kinds().count("ERROR") == 1
    assert built.record("ERROR") == {
        "ticket": case.ticket.id,
        "integration": "ops",
        "reason": f"ticket {case.ticket.id} as it stands did not get to ops: 400: Team",
    }
    assert (built.only_case().state, built.only_case().ticket) == ("ticketed", case.ticket)
    assert built.aws.writes == []
    built.carry_out(not_brought(case, timedelta(hours=1), again=False))
    assert "see to it there by hand" in str(built.cases.notices[-1].body["says"])
    assert (built.kinds().count("ERROR"), len(told(built, "case_news"))) == (2, 2), (
        "another time, another word"
    )


def test_news_is_told_once_to_those_who_follow_the_case(built: House, group: Group) -> None:
    case = asked(built, group)
    news = News(case=case.id, says="anna took it on", request_id="n-1")
    for _ in range(2):
        assert [one.verdict for one in built.carry_out(news)] == ["told"]
    (notice,) = (notice for notice in built.cases.notices if notice.kind == "case_news")
    assert (notice.case, notice.body["says"], notice.body["controls"]) == (case.id, "anna took it on", [SSH])
    assert built.only_case().ask == case.ask, "nothing about the case is changed"


def test_news_is_told_though_the_case_moves_on_meanwhile(built: House, group: Group) -> None:
    case = asked(built, group)
    other = group.event((22, group.open(22, "1.2.3.4/32")), event_id="event-2")
    engine = meddling(built, "cases.commit", lambda: built.walk(other))
    done = errands.carry_out(engine, News(case=case.id, says="hers", request_id="n-1"))
    assert [one.verdict for one in done.walked] == ["told"]
    assert len(told(built, "case_news")) == 1


def test_news_that_always_loses_comes_back_and_is_not_dropped(built: House, group: Group) -> None:
    case = asked(built, group)

    def never(_change: object) -> None:
        raise ConflictError("somebody else was quicker")

    built.cases.commit = never  # type: ignore[method-assign, assignment] # a store where others are always quicker
    with pytest.raises(BusyError):
        built.run(News(case=case.id, says="hers", request_id="n-1"))


def test_news_of_what_nobody_follows_any_more_is_no_news(built: House, group: Group) -> None:
    (walked,) = built.carry_out(News(case="b" * 20 + "-1", says="s", request_id="n-1"))
    assert walked.verdict == "nothing"
    first = repaired(built, group)
    built.clock.advance(timedelta(minutes=5))
    second = repaired(built, group, "event-2")
    assert (first.episode, second.episode) == (1, 2)
    (walked,) = built.carry_out(News(case=first.id, says="s", request_id="n-1"))
    assert walked.verdict == "nothing"
    assert (told(built, "case_news"), built.only_case()) == ([], second)


# -- what permitted it then must permit it still ------------------------------------------------------------------------


def died(built: House, group: Group, mode: Mode = Mode.ACT) -> Case:
    """A run that died before its first write; with mode ask, one that Anna approved."""
    if mode is Mode.ACT:
        with pytest.raises(Crash):
            built.walk(attacked(built, group), Faults(6, Kind.BEFORE))
    else:
        case = asked(built, group)
        built.answer()
        with pytest.raises(Crash):
            built.run(Answered(case=case.id, ask=1), Faults(8, Kind.BEFORE))
    case = built.only_case()
    assert case.state == "running"
    return case


@pytest.mark.parametrize(
    "mode, later, lowered, why",
    [
        (Mode.ACT, timedelta(minutes=61), Mode.ACT, "created more than an hour ago"),
        (Mode.ACT, AFTER_THE_LEASE, Mode.ASK, "may no longer act"),
        (Mode.ASK, timedelta(minutes=61), Mode.ASK, "an old approval is none"),
        (Mode.ASK, AFTER_THE_LEASE, Mode.TICKET, "may no longer act"),
    ],
)
def test_a_run_that_died_goes_on_only_if_it_still_may(
    built: House, group: Group, mode: Mode, later: timedelta, lowered: Mode, why: str
) -> None:
    died(built, group, mode)
    built.clock.advance(later)
    built.raise_to(lowered, SSH)
    built.tick()
    assert (built.aws.writes, group.ports) == ([], [22, 443])
    result = built.record("RESULT")
    assert (result["outcome"], result["results"]) == ("declined", [])
    assert why in result["reason"]
    assert built.only_case().state in {"waiting", "ticketed"}, "it is looked at anew"


def test_a_run_that_died_and_whose_target_is_exempt_now_writes_no_more(built: House, group: Group) -> None:
    exempt(built, died(built, group))
    built.clock.advance(AFTER_THE_LEASE)
    built.tick()
    assert built.aws.writes == []
    assert "exempted since" in built.record("RESULT")["reason"]
    assert built.only_case().state == "exempt"


@pytest.mark.parametrize("by_tick", [False, True])
def test_an_approved_run_that_died_ends_once_its_lease_is_over(
    built: House, group: Group, by_tick: bool
) -> None:
    case = died(built, group, Mode.ASK)
    built.clock.advance(AFTER_THE_LEASE)
    errand = Tick() if by_tick else Answered(case=case.id, ask=1)
    assert [one.outcome for one in built.carry_out(errand)] == ["fixed"]
    assert [built.kinds().count(kind) for kind in ("ANSWERED", "INTENT", "RESULT")] == [1, 1, 1]
    assert len(built.aws.writes) == 1


# -- twice, or too late -------------------------------------------------------------------------------------------------


def test_an_answer_that_another_delivery_carries_out_meanwhile_is_a_duplicate(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    built.answer()
    answered = Answered(case=case.id, ask=1)
    engine = meddling(built, "cases.look", lambda: built.run(answered))
    (walked,) = errands.carry_out(engine, answered).walked
    assert walked.verdict == "duplicate"
    assert len(built.aws.writes) == 1
    assert built.kinds().count("ANSWERED") == 1


def test_an_answer_to_an_ask_that_another_takes_the_place_of_meanwhile_does_nothing(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    built.answer()
    built.clock.advance(timedelta(minutes=1))

    def replanned() -> None:
        group.open(22, "0.0.0.0/1")
        built.walk(group.event((22, group.open(22, "128.0.0.0/1")), event_id="event-2"))

    engine = meddling(built, "cases.look", replanned)
    (walked,) = errands.carry_out(engine, Answered(case=case.id, ask=1)).walked
    assert (walked.verdict, walked.rule) == ("nothing", "no open ask")
    now = built.only_case()
    assert now.ask
    assert (now.ask.seq, built.aws.writes) == (2, [])


def test_a_case_whose_controls_left_the_catalog_fails_alone(built: House, group: Group) -> None:
    gone = exempted(built, group)
    built.clock.advance(DAY)
    engine = replace(built.engine(), remediations={})
    passed = errands.carry_out(engine, Tick())
    assert [(one.case, one.verdict) for one in passed.walked] == [(gone.id, "fail")]
    assert "its catalog entry is gone" in str(passed.failures[0])


# -- what a sweep has nothing new to say about, and whose it is ---------------------------------------------------------


def test_sweeps_write_nothing_more_about_what_is_exempt(built: House, group: Group) -> None:
    built.sweep()
    exempted(built, group)
    built.clock.advance(timedelta(hours=1))
    records = len(built.kinds())
    built.sweep()
    assert len(built.kinds()) == records
    assert built.only_case().state == "exempt"


class OneByOneDenied:
    """The accounts, where no single resource may be read, though lists of them may."""

    def __init__(self, inner: Aws) -> None:
        self._inner = inner
        self.executor, self.regions = inner.executor, inner.regions

    def reader(self, remediation: AnyRemediation, target: Target) -> Reader:
        inner = self._inner.reader(remediation, target)

        class Denying:
            read = inner.read

            def pages(self, service: str, operation: str, key: str, /, **params: JsonValue) -> list[Any]:
                if "Filters" in params:
                    raise DENIED
                return inner.pages(service, operation, key, **params)

        return Denying()


def test_sweeps_tell_once_of_what_cannot_be_read(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.ASK, SSH)
    group.open(22)
    built.aws = OneByOneDenied(built.aws)  # type: ignore[assignment] # wraps the fake
    for _ in range(3):
        built.clock.advance(timedelta(hours=1))
        built.sweep()
    case = built.only_case()
    assert case.outcome == "failed"
    assert built.kinds() == ["RECEIVED", "RESULT", "TICKET_OPENED"]


def test_an_owner_is_asked_of_tags_where_they_can_be_read(built: House, group: Group) -> None:
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "owner", "Value": "web"}])
    built.cases.set(Owner(account=ACCOUNT, owner="platform", by="olga", at=built.clock.now()))
    built.raise_to(Mode.ASK, SSH)
    event, faults = group.event((22, group.open(22))), Faults()
    state = {**built.cases.items}
    built.walk(event, faults)
    assert built.only_case().owner == "web"
    built.cases.items = {**state}
    at = faults.seen.index("ec2.DescribeSecurityGroups") + 1
    assert built.walk(event, Faults(at, Kind.DENIED)).verdict == "ask"
    assert built.only_case().owner == "platform", "people are told all the same"
    built.cases.items = {**state}
    engine = built.engine()
    untagged = {name: replace(one, tags=None) for name, one in engine.remediations.items()}
    replace(engine, remediations=untagged).walk(event)
    assert built.only_case().owner == "platform"


def test_sweeps_write_nothing_more_where_all_is_exempt(built: House, group: Group) -> None:
    built.sweep()
    exempt(built, exempted(built, group), control=RDP)
    built.clock.advance(timedelta(hours=1))
    built.sweep()
    records = built.kinds()
    for _ in range(2):
        built.clock.advance(timedelta(hours=1))
        built.sweep()
    assert built.kinds() == records
    assert built.only_case().state == "exempt"


# -- visits by the way they came ----------------------------------------------------------------------------------------


def test_a_claim_waits_for_the_baseline_unless_people_are_busy_with_it(built: House, group: Group) -> None:
    built.walk(group.event((22, group.open(22))))
    built.raise_to(Mode.ASK, SSH)
    engine, case = built.engine(), built.only_case()
    first = engine.about(case, "claim-1", Origin.CLAIM, built.clock.now())
    assert [one.rule for one in engine.all([first])] == ["baseline"]
    built.walk(group.event((22, "sgr-x"), event_id="event-2"))
    assert built.only_case().state == "waiting"
    assert [one.verdict for one in engine.all([replace(first, key="claim-2")])] == ["ask"]


def test_what_has_just_been_created_is_looked_at_when_its_maker_has_had_the_time(
    built: House, group: Group
) -> None:
    engine = built.engine()
    case = asked(built, group)
    visit = engine.about(case, "event-2", Origin.EVENT, built.clock.now())
    made = replace(visit, signal=visit.signal.model_copy(update={"name": "CreateSecurityGroup"}))
    slow = replace(
        made, controls=tuple(c.model_copy(update={"wait_after_create_minutes": 10}) for c in made.controls)
    )
    with pytest.raises(BusyError) as busy:
        engine.all([slow])
    assert busy.value.retry_after == 601
    built.clock.advance(timedelta(minutes=10))
    assert [one.verdict for one in engine.all([slow])] == ["ask"]
