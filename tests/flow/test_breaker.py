"""The circuit breaker in the walk: what counts, what it stops, what it leaves alone, and how it is closed again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.breaker import Breaker, Miss, Missed
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import StoreError
from chalicelib.flow import errands, undo
from chalicelib.flow.errand import Answered
from chalicelib.flow.visit import Walked
from tests.fakes.cases import Item
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, House, house
from tests.flow.people import built, group
from tests.flow.test_pipeline import DENIED, RDP, SSH, Group, Meddler, attacked, refusing
from tests.flow.test_undo import approved, case_of

__all__ = ["built", "group"]


def breaker_of(built: House, control: str = SSH) -> Breaker:
    (found,) = built.cases.breakers(ACCOUNT, (control,))
    return found


def failed(built: House, group: Group, number: int) -> Walked:
    """A port that was opened, and whose rule we may not take away."""
    rule = group.open(22, f"{number}.2.3.4/0")
    event = group.event((22, rule), event_id=f"failing-{number}")
    (walked,) = refusing(built, "write", DENIED).walk(event)
    group.close(rule)
    return walked


def tripped(built: House, group: Group) -> Breaker:
    """Three runs failed: the breaker is open."""
    built.raise_to(Mode.ACT, SSH)
    assert [failed(built, group, number).outcome for number in (1, 2, 3)] == ["failed"] * 3
    return breaker_of(built)


def missed(built: House, *hours_ago: float, control: str = SSH, account: str = ACCOUNT) -> None:
    """That many runs went wrong, then."""
    breaker = Breaker(account=account, control=control)
    for run, hours in enumerate(hours_ago, 1):
        at = built.clock.now() - timedelta(hours=hours)
        breaker = breaker.missed(Miss(at=at, case="c-1", run=run, what=Missed.FAILED))
    built.cases.set(breaker)


def test_the_third_run_that_fails_opens_it_on_record_and_everybody_is_told(
    built: House, group: Group
) -> None:
    breaker = tripped(built, group)
    assert [miss.what for miss in breaker.misses] == [Missed.FAILED] * 3
    assert breaker.opened_at == built.clock.now()
    assert built.kinds().count("BREAKER_OPENED") == 1
    said = built.record("BREAKER_OPENED")
    assert said["breaker"] == breaker.model_dump(mode="json")
    assert f"the breaker of {SSH} in account {ACCOUNT} is open" in str(said["reason"])
    (notice,) = (one for one in built.cases.notices if one.kind == "breaker_opened")
    assert (notice.body["controls"], notice.body["account"]) == ([SSH], ACCOUNT)
    assert notice.body["reason"] == said["reason"]


def test_open_it_has_people_asked_and_what_they_approve_is_done(built: House, group: Group) -> None:
    tripped(built, group)
    walked = built.walk(group.event((22, group.open(22)), event_id="event-4"))
    assert (walked.verdict, walked.rule) == ("ask", "breaker open")
    assert "failed: run" in walked.reason
    assert group.ports == [22, 443]
    case = case_of(built, group)
    built.answer(case=case)
    (walked,) = built.carry_out(Answered(case=case.id, ask=case.asks))
    assert walked.outcome == "fixed"
    assert group.ports == [443]
    assert breaker_of(built).is_open, "that a person's run went well does not close it"


def test_what_is_more_than_a_day_ago_counts_no_more(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    missed(built, 30, 25)
    failed(built, group, 1)
    assert len(breaker_of(built).misses) == 1
    assert built.walk(group.event((22, group.open(22)))).outcome == "fixed"


@pytest.mark.parametrize("control, account", [(RDP, ACCOUNT), (SSH, "222222222222")])
def test_another_control_or_account_is_not_stopped(
    built: House, group: Group, control: str, account: str
) -> None:
    missed(built, 3, 2, 1, control=control, account=account)
    assert built.walk(attacked(built, group)).outcome == "fixed"


def test_what_was_changed_meanwhile_or_declined_is_no_miss(built: House, group: Group) -> None:
    """Such a run is looked at anew: that somebody is busy with the target says nothing against the control."""
    event = attacked(built, group)
    rule = group.open(22, "4.0.0.0/0")
    closing = Meddler(built, "ec2.RevokeSecurityGroupIngress", lambda: group.close(rule))
    closing.walk(event)
    built.freeze(f"CONTROL#{ACCOUNT}#{SSH}", on=True)
    built.walk(group.event((22, group.open(22, "8.0.0.0/0")), event_id="event-2"))
    assert breaker_of(built).misses == ()


def test_two_runs_that_fail_at_once_both_count(built: House, group: Group) -> None:
    other = Group(built)
    built.raise_to(Mode.ACT, SSH)

    def meanwhile() -> None:
        failed(built, other, 2)

    engine = refusing(built, "write", DENIED)
    meddler = Meddler(built, "cases.breakers", meanwhile, after=True)
    inner = meddler._inner
    engine = replace(engine, cases=inner.cases(built.cases))
    (walked,) = engine.walk(group.event((22, group.open(22, "1.2.3.4/0"))))
    assert walked.outcome == "failed"
    assert [miss.case for miss in breaker_of(built).misses] == [
        case_of(built, other).id,
        case_of(built, group).id,
    ]


def test_a_run_that_died_does_not_go_on_once_it_is_open(built: House, group: Group) -> None:
    event = attacked(built, group)
    with pytest.raises(Crash):
        built.walk(event, Faults(5, Kind.BEFORE))
    missed(built, 3, 2, 1)
    built.clock.advance(AFTER_THE_LEASE)
    walked = built.walk(event)
    assert "breaker" in str(built.record("RESULT")["reason"])
    assert walked.verdict == "ask"
    assert group.ports == [22, 443]


def test_an_undo_counts_against_what_is_undone(built: House, group: Group) -> None:
    missed(built, 2, 1)
    order = approved(built, group)
    assert not breaker_of(built).is_open
    assert undo.carry_out(built.engine(), order).outcome == "fixed"
    breaker = breaker_of(built)
    assert breaker.is_open
    assert (breaker.misses[-1].what, breaker.misses[-1].run) == (Missed.UNDONE, 1)
    assert built.kinds()[-1] == "BREAKER_OPENED"


def test_an_undo_that_restores_nothing_counts_nothing(built: House, group: Group) -> None:
    order = approved(built, group)
    assert undo.carry_out(refusing(built, "write", DENIED), order).outcome == "failed"
    assert breaker_of(built).misses == ()


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
def test_a_crash_at_any_call_counts_a_failed_run_once(kind: Kind) -> None:
    def fails(house_: House, faults: Faults) -> Any:
        refused = refusing(house_, "write", DENIED)
        return replace(refused, cases=faults.cases(house_.cases))

    with house() as dry:
        seen = Faults()
        fails(dry, seen).walk(attacked(dry, Group(dry)))
        assert "cases.breakers" in seen.seen
    for place in range(1, len(seen.seen) + 1):
        with house() as fresh:
            event = attacked(fresh, Group(fresh))
            with pytest.raises(Crash):
                fails(fresh, Faults(place, kind)).walk(event)
            fresh.clock.advance(AFTER_THE_LEASE)
            fails(fresh, Faults()).walk(event)
            where = f"crash {kind.value} call {place}, {seen.seen[place - 1]}"
            assert len(breaker_of(fresh).misses) == 1, where
            assert fresh.kinds().count("RESULT") == 1, where


def test_a_breaker_that_cannot_be_read_stops_what_would_begin_and_no_record_of_what_was_done(
    built: House, group: Group
) -> None:
    event = attacked(built, group)

    def spoil() -> None:
        built.cases.items["BREAKER", ACCOUNT, SSH] = Item("not json")

    engine = refusing(built, "write", DENIED)
    cases = Meddler(built, "cases.breakers", spoil)._inner.cases(built.cases)
    (walked,) = replace(engine, cases=cases).walk(event)
    assert (walked.outcome, built.kinds()[-2:]) == ("failed", ["RESULT", "TICKET_OPENED"])
    with pytest.raises(StoreError, match="cannot be read"):
        built.walk(group.event((22, group.open(22, "4.0.0.0/0")), event_id="event-2"))
    assert built.aws.writes == []


def test_an_open_breaker_is_not_written_again(built: House, group: Group) -> None:
    breaker = tripped(built, group)
    built.walk(group.event((22, group.open(22)), event_id="event-4"))
    case = case_of(built, group)
    built.answer(case=case)
    engine = refusing(built, "write", DENIED)
    assert errands.carry_out(engine, Answered(case=case.id, ask=case.asks)).walked[0].outcome == "failed"
    assert breaker_of(built) == breaker
