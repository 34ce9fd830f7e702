"""Undo: asked for by one and approved by another; restores what was recorded, once, exempt until a day; declines on drift."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from chalicelib.domain.approval import CARRIED_OUT_WITHIN, EXPIRES_AFTER, SETTLED_AFTER, Undone
from chalicelib.domain.case import Case, Lock, session_name
from chalicelib.domain.contract import CallResult, Mode, Outcome, Plan, RunRecord, State
from chalicelib.domain.errors import BusyError, ConflictError, RefusedCommandError, StoreError, TransientError
from chalicelib.domain.ports import Change
from chalicelib.domain.ticket import LONGEST_TITLE
from chalicelib.flow import errands, undo
from chalicelib.flow.act import Achieved
from chalicelib.flow.errand import ERRAND, Answered, Look, UndoRun, UndoWanted
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked, params_of
from tests.fakes.cases import Item
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, ANNA, House
from tests.flow.people import ANN, built, group
from tests.flow.test_asking import by_role, exempt, stored
from tests.flow.test_pipeline import DENIED, RDP, SSH, THROTTLED, Group, Meddler, attacked, refusing

__all__ = ["built", "group"]

OLGA = f"arn:aws:iam::{ACCOUNT}:user/olga"
EXEMPT_FOR = timedelta(days=30)


def repaired(built: House, group: Group, event_id: str = "event-1", *cidrs: str) -> Case:
    """Port 22 was opened (to each of `cidrs`) and closed again by a run."""
    built.raise_to(Mode.ACT, SSH)
    opened = [(22, group.open(22, cidr)) for cidr in cidrs or ("0.0.0.0/0",)]
    assert built.walk(group.event(*opened, event_id=event_id)).outcome == "fixed"
    assert group.ports == [443]
    return case_of(built, group)


def case_of(built: House, group: Group) -> Case:
    """The current case on that group."""
    (case,) = (case for case in built.cases.cases if case.target.id == group.id)
    return case


def order(built: House, case: Case, run: int = 1, *, by: str = OLGA, reason: str = "needed") -> UndoWanted:
    until = built.clock.now() + EXEMPT_FOR
    return UndoWanted(case=case.id, undone=Undone(run=run, by=by, reason=reason, owner="web", until=until))


def asked(built: House, group: Group, event_id: str = "event-1", *cidrs: str) -> Case:
    """A run's undo is wanted by Olga and waits for somebody."""
    (walked,) = built.carry_out(order(built, repaired(built, group, event_id, *cidrs)))
    assert walked.verdict == "ask"
    return case_of(built, group)


def approved(built: House, group: Group) -> UndoRun:
    """Anna agreed to the undo; nobody has carried it out."""
    case = asked(built, group)
    built.answer(case=case)
    (wanted,) = built.run(Answered(case=case.id, ask=case.asks)).undos
    return wanted


def done(built: House, group: Group) -> Case:
    """The run is taken back."""
    walked = undo.carry_out(built.engine(), approved(built, group))
    assert walked.outcome == "fixed"
    return case_of(built, group)


def writes(built: House) -> list[str]:
    return [one.operation for one in built.aws.writes]


def drift(group: Group, description: str = "mine now", cidr: str = "0.0.0.0/0") -> None:
    """Somebody lets the same pass as the rule that an undo would bring back, under another description."""
    sources: list[Any] = [{"CidrIp": cidr, "Description": description}]
    group.ec2.authorize_security_group_ingress(
        GroupId=group.id,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": sources}],
    )


def meddling(
    built: House, call: str, act: Callable[[], object], *, nth: int = 1, after: bool = False
) -> Engine:
    """An engine during whose call of that name somebody does something."""
    return built.engine(Meddler(built, call, act, nth=nth, after=after)._inner)


def in_force(built: House) -> list[str]:
    """The controls that an exemption covers now."""
    now = built.clock.now()
    return [one.control for one in built.cases.exemptions if now < one.expires_at]


# -- planning and performing, by themselves -----------------------------------------------------------------------------


def undone(built: House) -> Achieved:
    """Undo the only run there is, as the undo function will."""
    engine = built.engine()
    remediation, control = engine.remediations[SSH], engine.controls[SSH]
    intent, result = built.record("INTENT"), built.record("RESULT")
    run: RunRecord[State] = RunRecord(
        before=remediation.state.model_validate_json(json.dumps(intent["before"])),
        plan=Plan.model_validate_json(json.dumps(intent["plan"])),
        results=tuple(CallResult.model_validate_json(json.dumps(one)) for one in result["results"]),
        after=remediation.state.model_validate_json(json.dumps(result["after"])),
    )
    case, params = built.only_case(), params_of(remediation, (control,))
    prepared = undo.prepare(remediation, case, params, run, built.aws)
    return undo.perform(
        remediation, case, params, run, prepared, "redress-undo", built.aws, built.clock, lambda: None
    )


def test_an_undo_brings_the_rule_back_and_a_second_one_does_nothing(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    assert undone(built).outcome is Outcome.FIXED
    assert group.ports == [22, 443]
    before = len(built.aws.writes)
    assert undone(built).outcome is Outcome.ALREADY_COMPLIANT
    assert len(built.aws.writes) == before


def test_what_others_did_besides_does_not_stand_in_the_way(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    group.open(8443)
    assert undone(built).outcome is Outcome.FIXED
    assert group.ports == [22, 443, 8443]


def test_a_drifted_target_is_left_alone_with_the_reason(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    drift(group)
    before = len(built.aws.writes)
    achieved = undone(built)
    assert achieved.outcome is Outcome.DECLINED
    assert "which is to come back" in achieved.reason
    assert len(built.aws.writes) == before


# -- from the wish to the exemption -------------------------------------------------------------------------------------


def test_an_undo_is_asked_about_and_changes_nothing_by_itself(built: House, group: Group) -> None:
    case = asked(built, group)
    assert case.ask
    assert (case.state, case.ask.kind, case.ask.requesters) == ("waiting", "undo", (ANN, OLGA))
    assert [call.operation for call in case.ask.plan.calls] == ["AuthorizeSecurityGroupIngress"]
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "ASKED"]
    assert built.record("ASKED")["undo"]["until"].startswith("2026-09-02")
    assert (writes(built), in_force(built)) == (["RevokeSecurityGroupIngress"], [])
    with pytest.raises(RefusedCommandError, match="ask somebody else"):
        built.answer(by=OLGA)
    assert built.deliver() == []
    assert group.ports == [443]


def test_an_approved_undo_restores_and_exempts_in_one_transaction_with_its_intent(
    built: House, group: Group
) -> None:
    changes: list[Change] = []
    commit = built.cases.commit

    def seen(change: Change) -> None:
        commit(change)
        changes.append(change)

    built.cases.commit = seen  # type: ignore[method-assign] # a store that loses a race
    case = asked(built, group)
    built.answer()
    assert [(one.verdict, one.outcome) for one in built.deliver()] == [("undo", ""), ("undo", "fixed")]
    assert group.ports == [22, 443]
    (began,) = (change for change in changes if change.exemptions)
    (exemption,) = began.exemptions
    assert [record.draft.type for record in began.records] == ["ANSWERED", "UNDO_INTENT"]
    assert (exemption.control, exemption.owner, exemption.code) == (SSH, "web", "undo")
    assert (exemption.by, exemption.resource) == (ANNA, case.target.resource)
    assert case.ask
    assert case.ask.undo
    assert exemption.expires_at == case.ask.undo.until == built.clock.now() + EXEMPT_FOR
    assert built.kinds()[4:] == ["ASKED", "ANSWERED", "UNDO_INTENT", "UNDO_RESULT"]
    assert built.record("UNDO_INTENT")["approved_by"] == ANNA
    assert built.record("UNDO_RESULT")["outcome"] == "fixed"
    now = built.only_case()
    assert (now.state, now.wakes_at, now.run, now.ask) == ("exempt", exemption.expires_at, None, None)
    assert now.outcome is None, "what is taken back is not fixed"
    until = exemption.expires_at.date()
    assert now.reason == f"run 1 is taken back: as it was before, and exempt until {until}"
    assert built.record("UNDO_RESULT")["reason"] == now.reason
    assert built.aws.writes[-1].session == session_name(case.id, 2)
    assert "Authorize" in built.aws.policies[-1]
    assert "Authorize" not in built.aws.policies[0]


def test_what_was_restored_is_left_alone_until_the_day_and_then_asked_about(
    built: House, group: Group
) -> None:
    built.sweep()
    case = done(built, group)
    (rule,) = (
        one["SecurityGroupRuleId"]
        for one in group.ec2.describe_security_group_rules()["SecurityGroupRules"]
        if one["FromPort"] == 22
    )
    assert built.walk(group.event((22, rule), event_id="event-2")).rule == "exempt"
    built.clock.advance(timedelta(hours=1))
    built.sweep()
    assert [one.rule for one in built.tick()] == []
    assert (group.ports, len(writes(built))) == ([22, 443], 2)
    wakes_at = built.only_case().wakes_at
    assert wakes_at
    built.clock.set(wakes_at - timedelta(seconds=1))
    assert built.tick() == []
    built.clock.set(wakes_at)
    (walked,) = built.tick()
    assert walked.verdict == "ask", "though the control may act"
    again = built.only_case()
    assert (again.state, again.digest, again.episode > case.episode) == ("waiting", case.digest, True)
    assert (group.ports, len(writes(built))) == ([22, 443], 2)


def test_the_event_of_our_own_undo_is_verified_and_no_sign_of_tampering(built: House, group: Group) -> None:
    case = done(built, group)
    (rule,) = (
        one["SecurityGroupRuleId"]
        for one in group.ec2.describe_security_group_rules()["SecurityGroupRules"]
        if one["FromPort"] == 22
    )
    event = group.event((22, rule), event_id="own-1")
    walked = built.walk(by_role(event, "redress-test-undo", session_name(case.id, 2)))
    assert (walked.verdict, walked.rule) == ("verify", "own event")
    assert built.kinds()[-1] == "VERIFIED"
    assert built.record("VERIFIED")["compliant"] is False
    assert "TAMPER_SUSPECTED" not in built.kinds()


def test_the_engine_itself_hands_an_approved_undo_on_and_writes_nothing(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    before = len(writes(built))
    handed = built.run(Answered(case=case.id, ask=case.asks))
    assert [(one.case, one.ask) for one in handed.undos] == [(case.id, case.asks)]
    assert (len(writes(built)), case_of(built, group).state) == (before, "waiting")


# -- asked for, and refused at once -------------------------------------------------------------------------------------


def test_drift_before_the_wish_is_told_and_nothing_is_asked(built: House, group: Group) -> None:
    case = repaired(built, group)
    drift(group)
    (walked,) = built.carry_out(order(built, case))
    assert (walked.rule, walked.outcome) == ("refused", "declined")
    assert "which is to come back" in walked.reason
    assert built.record("UNDO_RESULT")["reason"] == walked.reason
    assert [notice.kind for notice in built.cases.notices][-1] == "undo_refused"
    assert built.only_case().state == "closed"
    assert writes(built) == ["RevokeSecurityGroupIngress"]


def test_a_run_that_is_not_on_record_cannot_be_taken_back(built: House, group: Group) -> None:
    case = repaired(built, group)
    (walked,) = built.carry_out(order(built, case, run=7))
    assert (walked.outcome, walked.reason) == ("declined", "the run is not on record as ended")


def test_a_run_whose_state_this_version_cannot_read_is_as_good_as_not_on_record(
    built: House, group: Group
) -> None:
    case = repaired(built, group)

    class Older(type(built.cases)):  # type: ignore[misc] # the store, with a state as an older version wrote it
        def bodies(self, chain: str) -> tuple[str, ...]:
            return tuple(body.replace('"rules":', '"regeln":') for body in built.cases.bodies(chain))

    older = Older(home=ACCOUNT)
    older.items = built.cases.items
    (walked,) = errands.carry_out(replace(built.engine(), cases=older), order(built, case)).walked
    assert (walked.outcome, walked.reason) == ("declined", "the run is not on record as ended")


def test_a_run_without_the_state_that_it_left_cannot_be_taken_back(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    rule = group.open(22)
    engine = meddling(built, "ec2.RevokeSecurityGroupIngress", lambda: None)
    inner = engine.aws

    class Later:
        executor, regions = inner.executor, inner.regions

        def reader(self, *args: Any) -> Any:
            if built.aws.writes:
                raise DENIED
            return inner.reader(*args)

    assert replace(engine, aws=Later()).walk(group.event((22, rule)))[0].outcome == "not_verified"
    (walked,) = built.carry_out(order(built, built.only_case()))
    assert walked.reason == "the run is not on record as ended"


def test_the_undo_of_an_episode_that_has_passed_is_nothing(built: House, group: Group) -> None:
    first = repaired(built, group)
    built.clock.advance(timedelta(minutes=5))
    repaired(built, group, "event-2")
    records = built.cases.records
    (walked,) = built.carry_out(order(built, first))
    assert (walked.verdict, "a newer case" in walked.reason) == ("nothing", True)
    assert "a newer case" in undo.carry_out(built.engine(), UndoRun(case=first.id, ask=1)).reason
    (refusal,) = built.cases.records[len(records) :]
    assert (refusal.chain[:5], refusal.draft.type.value) == ("UNDO#", "UNDO_RESULT")


def test_a_case_that_never_was_is_nothing(built: House) -> None:
    wanted = UndoWanted(
        case="no case", undone=Undone(run=1, by=OLGA, reason="r", owner="o", until=built.clock.now())
    )
    assert [one.verdict for one in built.carry_out(wanted)] == ["nothing"]
    assert undo.carry_out(built.engine(), UndoRun(case="no case", ask=1)).verdict == "nothing"
    assert built.cases.records == ()


def test_one_wish_is_asked_about_once_and_a_second_undo_finds_nothing_to_do(
    built: House, group: Group
) -> None:
    wanted = order(built, repaired(built, group))
    assert [one.verdict for one in built.carry_out(wanted, wanted)] == ["ask", "nothing"]
    built.answer()
    built.deliver()
    assert [one.verdict for one in built.carry_out(wanted)] == ["nothing"]
    before = len(writes(built))
    (walked,) = built.carry_out(order(built, built.only_case(), reason="once more"))
    assert (walked.outcome, walked.reason) == ("already_compliant", "what was recorded is there already")
    (walked,) = built.carry_out(order(built, built.only_case(), run=2))
    assert walked.reason == "the run is not on record as ended", "an undo is not undone"
    assert (built.only_case().state, in_force(built), len(writes(built))) == ("exempt", [SSH], before)


def test_a_wish_waits_while_a_run_holds_the_target_and_so_does_what_was_approved(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    built.answer()
    held = Lock(case="another-1", run=1, lease_until=built.clock.now() + timedelta(seconds=30), version=9)
    built.cases.items["LOCK", case.target.key] = Item(held.model_dump_json(), 9)
    with pytest.raises(BusyError, match="has not come to its end"):
        built.run(order(built, case, reason="me too"))
    with pytest.raises(BusyError, match="another-1"):
        undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1))
    assert writes(built) == ["RevokeSecurityGroupIngress"]
    built.clock.advance(timedelta(seconds=30))
    assert undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1)).outcome == "fixed"


def test_an_unreadable_target_is_not_asked_about_and_a_throttled_one_comes_back(
    built: House, group: Group
) -> None:
    wanted = order(built, repaired(built, group))
    with pytest.raises(TransientError):
        errands.carry_out(refusing(built, "read", THROTTLED), wanted)
    assert built.kinds()[-1] == "RESULT"
    (walked,) = errands.carry_out(refusing(built, "read", DENIED), wanted).walked
    assert (walked.rule, walked.outcome) == ("refused", "failed")
    assert built.record("UNDO_RESULT")["outcome"] == "failed"


def test_an_undo_that_no_role_of_ours_may_make_is_a_ticket_with_the_commands(
    built: House, group: Group
) -> None:
    case, before = repaired(built, group), len(writes(built))
    (walked,) = errands.carry_out(by_hand_only(built), order(built, case)).walked
    assert (walked.verdict, walked.rule) == ("ticket", "undo by hand")
    (ticket,) = built.cases.tickets
    assert ticket.is_open
    assert ticket.title.startswith("Undo by hand: ")
    assert len(ticket.title) <= LONGEST_TITLE
    assert [command.split()[:3] for command in ticket.commands] == [
        ["aws", "ec2", "authorize-security-group-ingress"]
    ]
    assert any("Restore" in step.console for step in ticket.steps)
    assert ticket.as_code == ""
    assert built.kinds()[-1] == "TICKET_OPENED"
    assert (len(writes(built)), built.only_case().ask, group.ports) == (before, None, [443])


def by_hand_only(built: House) -> Engine:
    """The engine, with a remediation whose undo is a person's matter."""
    engine = built.engine()
    by_hand = {
        name: replace(remediation, undo_by_hand=True) for name, remediation in engine.remediations.items()
    }
    return replace(engine, remediations=MappingProxyType(by_hand))


def test_a_ticket_to_undo_is_not_closed_by_what_it_wants_undone(built: House, group: Group) -> None:
    built.sweep()
    errands.carry_out(by_hand_only(built), order(built, repaired(built, group)))
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert built.walk(group.event((22, "sgr-gone"), event_id="harmless")).rule == "compliant"
    (ticket,) = built.cases.tickets
    assert ticket.is_open, "the target is compliant: nobody has undone anything"
    exempt(built, built.only_case())
    built.walk(group.event((22, group.open(22)), event_id="by-hand"))
    (ticket,) = built.cases.tickets
    assert (ticket.is_open, group.ports) == (False, [22, 443])


# -- while it waits -----------------------------------------------------------------------------------------------------


def test_a_denied_undo_is_closed_and_untouched(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer(approve=False, by=OLGA)
    nothing = undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1))
    assert (nothing.verdict, nothing.reason) == ("nothing", "the undo is denied, not approved")
    (walked,) = built.deliver()
    assert walked.verdict == "denied"
    now = built.only_case()
    assert (now.state, now.ask, now.denied) == ("closed", None, None)
    assert (group.ports, in_force(built), len(writes(built))) == ([443], [], 1)
    assert undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1)).verdict == "nothing"


def test_an_undo_that_is_asked_about_keeps_its_terms(built: House, group: Group) -> None:
    """Whoever opened the page would otherwise approve another duration for another owner: the plan's hash has neither."""
    case = asked(built, group)
    built.clock.advance(seconds=20)
    (walked,) = built.carry_out(order(built, case, reason="for longer"))
    assert (walked.verdict, walked.rule) == ("undo", "refused")
    assert case_of(built, group).ask == case.ask


@pytest.mark.parametrize("read_after", [timedelta(seconds=1), EXPIRES_AFTER])
def test_a_wish_never_outruns_a_denial_that_is_on_record(
    built: House, group: Group, read_after: timedelta
) -> None:
    case = asked(built, group)
    built.answer(case=case, approve=False)
    built.clock.advance(read_after)
    built.carry_out(order(built, case, reason="once more"))
    built.deliver()
    now = case_of(built, group)
    assert (now.state, now.ask) == ("closed", None)
    assert "ANSWERED" in built.kinds()


def test_a_page_of_an_ask_that_ended_does_not_approve_the_next(built: House, group: Group) -> None:
    seen = asked(built, group)
    built.answer(case=seen, approve=False, by=OLGA)
    built.deliver()
    built.carry_out(order(built, seen, reason="with other terms"))
    now = case_of(built, group)
    assert seen.ask
    assert now.ask
    assert (now.ask.seq, now.ask.plan_hash) == (2, seen.ask.plan_hash)
    with pytest.raises(RefusedCommandError, match="that ask is over, and another one waits"):
        built.answer(case=seen)


def test_an_undo_that_nobody_answers_is_closed_without_a_ticket(built: House, group: Group) -> None:
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    assert [one.verdict for one in built.tick()] == ["expired"]
    assert built.only_case().state == "closed"
    assert (built.cases.tickets, in_force(built), group.ports) == ((), [], [443])
    assert built.tick() == []


def test_news_that_change_nothing_keep_the_ask_and_a_violation_takes_its_place(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    assert built.walk(group.event((22, "sgr-gone"), event_id="event-2")).rule == "compliant"
    now = built.only_case()
    assert (now.state, now.ask) == ("waiting", case.ask)
    built.raise_to(Mode.ASK, SSH)
    assert built.walk(group.event((22, group.open(22)), event_id="event-3")).verdict == "ask"
    now = built.only_case()
    assert now.ask
    assert (now.state, now.ask.kind, now.ask.seq) == ("waiting", "remediation", 2)
    assert undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1)).verdict == "nothing"
    assert writes(built) == ["RevokeSecurityGroupIngress"]


def test_an_undo_is_carried_out_though_harmless_news_came_after_the_ask(built: House, group: Group) -> None:
    asked(built, group)
    built.walk(group.event((22, "sgr-gone"), event_id="event-2"))
    built.answer()
    assert built.deliver()[-1].outcome == "fixed"


def test_who_wanted_the_undo_cannot_approve_it_by_way_of_the_store(built: House, group: Group) -> None:
    case = asked(built, group)
    stored(built, case, by=OLGA)
    walked = undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1))
    assert (walked.verdict, walked.reason) == (
        "nothing",
        "you wanted it taken back, so you cannot approve it: ask somebody else; you may deny it",
    )
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.verdict == "refused"
    assert (built.only_case().state, len(writes(built))) == ("closed", 1)


def test_who_made_the_change_does_not_approve_its_return(built: House, group: Group) -> None:
    asked(built, group)
    with pytest.raises(RefusedCommandError, match="ask somebody else"):
        built.answer(by=ANN)
    assert (built.deliver(), len(writes(built))) == ([], 1)


def test_an_approved_repair_starts_no_undo(built: House, group: Group) -> None:
    built.raise_to(Mode.ASK, SSH)
    built.walk(group.event((22, group.open(22))))
    built.answer()
    walked = undo.carry_out(built.engine(), UndoRun(case=built.only_case().id, ask=1))
    assert (walked.verdict, walked.reason) == ("nothing", "no approved undo waits here")
    assert writes(built) == []


def test_an_old_approval_undoes_nothing(built: House, group: Group) -> None:
    wanted = approved(built, group)
    built.clock.advance(CARRIED_OUT_WITHIN + timedelta(seconds=1))
    assert "old approval" in undo.carry_out(built.engine(), wanted).reason
    assert [one.verdict for one in built.tick()] == ["refused"]
    assert (built.only_case().state, len(writes(built))) == ("closed", 1)


# -- between approval and doing -----------------------------------------------------------------------------------------


def test_what_changed_since_the_approval_is_asked_again_once_and_then_declined(
    built: House, group: Group
) -> None:
    case = asked(built, group, "event-1", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")
    group.open(22, "0.0.0.0/1")
    built.answer()
    assert [one.verdict for one in built.deliver()] == ["undo", "ask"]
    again = built.only_case()
    assert case.ask
    assert again.ask
    assert (again.state, again.ask.seq, again.ask.again, again.ask.kind) == ("waiting", 2, True, "undo")
    assert again.ask.plan_hash != case.ask.plan_hash
    assert built.record("STALE")["plan_hash_now"] == again.ask.plan_hash
    assert [one.body["ask"] for one in built.cases.notices if one.kind == "ask_stale"] == [1]
    with pytest.raises(RefusedCommandError, match="ask somebody else"):
        built.answer(by=OLGA)
    group.open(22, "128.0.0.0/1")
    built.answer()
    walked = built.deliver()[-1]
    assert (walked.rule, walked.outcome, walked.reason) == ("stale", "declined", "the target changed since")
    assert (built.only_case().state, built.only_case().ask) == ("closed", None)
    assert (in_force(built), writes(built)) == ([], ["RevokeSecurityGroupIngress"])
    assert undo.carry_out(built.engine(), UndoRun(case=case.id, ask=2)).verdict == "nothing"


def test_drift_since_the_approval_is_declined_at_once(built: House, group: Group) -> None:
    wanted = approved(built, group)
    drift(group)
    walked = undo.carry_out(built.engine(), wanted)
    assert (walked.rule, walked.outcome) == ("stale", "declined")
    assert "which is to come back" in walked.reason
    assert built.kinds()[-2:] == ["ANSWERED", "STALE"]
    assert [notice.kind for notice in built.cases.notices][-1] == "ask_stale"
    assert (in_force(built), len(writes(built))) == ([], 1)


@pytest.mark.parametrize("scope", ["ALL", f"ACCOUNT#{ACCOUNT}", f"CONTROL#{ACCOUNT}#{SSH}"])
def test_a_freeze_declines_what_was_approved(built: House, group: Group, scope: str) -> None:
    wanted = approved(built, group)
    built.freeze(scope, on=True)
    walked = undo.carry_out(built.engine(), wanted)
    assert (walked.rule, walked.outcome) == ("refused", "declined")
    assert "frozen by olga" in walked.reason
    assert built.record("UNDO_RESULT")["outcome"] == "declined"
    assert (built.only_case().state, in_force(built), len(writes(built))) == ("closed", [], 1)


def test_a_freeze_between_intent_and_write_leaves_no_exemption_behind(built: House, group: Group) -> None:
    wanted = approved(built, group)
    engine = meddling(built, "cases.guard", lambda: built.freeze("ALL", on=True))
    assert undo.carry_out(engine, wanted).outcome == "declined"
    assert built.kinds()[-3:] == ["UNDO_INTENT", "UNDO_RESULT", "TICKET_OPENED"]
    assert (built.only_case().state, in_force(built), len(writes(built))) == ("closed", [], 1)
    assert built.only_case().wakes_at is None


def test_a_kill_switch_that_cannot_be_read_undoes_nothing(built: House, group: Group) -> None:
    wanted = approved(built, group)
    del built.cases.items["FREEZE", "ALL"]
    with pytest.raises(StoreError, match="kill switch"):
        undo.carry_out(built.engine(), wanted)
    assert (in_force(built), len(writes(built))) == ([], 1)


def test_a_record_that_went_missing_since_undoes_nothing(built: House, group: Group) -> None:
    wanted = approved(built, group)
    forget(built, "RESULT")
    walked = undo.carry_out(built.engine(), wanted)
    assert (walked.rule, walked.reason) == ("refused", "the run is not on record as ended")
    assert (in_force(built), len(writes(built))) == ([], 1)


def forget(built: House, kind: str) -> None:
    """The record of that type is no longer there, as no honest store would have it."""
    (gone,) = (record for record in built.cases.records if record.draft.type == kind)
    del built.cases.items["RECORD", gone.chain, str(gone.seq)]


# -- refused, halfway, twice --------------------------------------------------------------------------------------------


def test_a_write_that_is_refused_is_no_success_ends_the_exemption_and_opens_a_ticket(
    built: House, group: Group
) -> None:
    wanted = approved(built, group)
    walked = undo.carry_out(refusing(built, "write", DENIED), wanted)
    assert walked.outcome == "failed"
    assert (built.only_case().state, in_force(built), group.ports) == ("closed", [], [443])
    (exemption,) = built.cases.exemptions
    assert exemption.expires_at == built.clock.now()
    (ticket,) = built.cases.tickets
    assert "the undo ended failed" in ticket.why
    assert [command.split()[2] for command in ticket.commands] == ["authorize-security-group-ingress"]
    assert any("Restore" in step.console for step in ticket.steps), "not how to close what is to be open"
    assert ticket.as_code == ""


def test_an_undo_that_succeeds_closes_the_ticket_of_one_that_failed(built: House, group: Group) -> None:
    undo.carry_out(refusing(built, "write", DENIED), approved(built, group))
    built.carry_out(order(built, built.only_case(), reason="once more"))
    built.answer()
    assert built.deliver()[-1].outcome == "fixed"
    (ticket,) = built.cases.tickets
    assert not ticket.is_open


def test_an_exemption_that_lasts_longer_is_neither_cut_nor_ended_by_an_undo(
    built: House, group: Group
) -> None:
    wanted = approved(built, group)
    exempt(built, built.only_case(), days=90)
    before = built.cases.exemptions
    assert undo.carry_out(refusing(built, "write", DENIED), wanted).outcome == "failed"
    assert built.cases.exemptions == before
    built.carry_out(order(built, built.only_case(), reason="once more"))
    built.answer()
    assert built.deliver()[-1].outcome == "fixed"
    assert built.cases.exemptions == before


def test_what_was_written_and_could_not_be_read_afterwards_stays_exempt_and_is_no_success(
    built: House, group: Group
) -> None:
    wanted = approved(built, group)
    inner, before = built.engine(), len(built.aws.writes)

    class Later:
        executor, regions = inner.aws.executor, inner.aws.regions

        def reader(self, *args: Any) -> Any:
            if len(built.aws.writes) > before:
                raise DENIED
            return inner.aws.reader(*args)

    assert undo.carry_out(replace(inner, aws=Later()), wanted).outcome == "not_verified"
    assert (built.only_case().state, in_force(built), group.ports) == ("exempt", [SSH], [22, 443])
    assert [ticket.is_open for ticket in built.cases.tickets] == [True]


def test_an_unreadable_target_is_not_undone_and_a_throttled_one_comes_back(
    built: House, group: Group
) -> None:
    wanted = approved(built, group)
    with pytest.raises(TransientError):
        undo.carry_out(refusing(built, "read", THROTTLED), wanted)
    assert built.only_case().state == "waiting"
    walked = undo.carry_out(refusing(built, "read", DENIED), wanted)
    assert (walked.rule, walked.outcome) == ("refused", "declined")
    assert (in_force(built), len(writes(built))) == ([], 1)


def ended_once(built: House, case: Case, where: str) -> None:
    """The undo of that case was done exactly once, is on record exactly once, and is covered by its exemption."""
    now = built.cases.case(case.digest, case.episode)
    assert now
    assert (now.state, now.outcome, now.run) == ("exempt", None, None), where
    kinds = built.kinds(case.id)
    counts = [kinds.count(one) for one in ("ANSWERED", "UNDO_INTENT", "UNDO_RESULT")]
    assert counts == [1, 1, 1], where
    made = [one for one in built.aws.writes if one.session == session_name(case.id, 2)]
    assert [one.operation for one in made] == ["AuthorizeSecurityGroupIngress"], f"{where}: not once"
    (exemption,) = (one for one in built.cases.exemptions if one.resource == case.target.resource)
    assert exemption.expires_at == now.wakes_at, where


def waiting(built: House, number: int) -> tuple[Group, UndoRun]:
    """A group and a case of its own, hours after the last, with an undo that Anna approved; no breaker counts the others."""
    built.clock.advance(timedelta(hours=2))
    for name in [name for name in built.cases.items if name[0] == "BREAKER"]:
        del built.cases.items[name]
    one = Group(built)
    case = asked(built, one, f"event-{number}")
    built.answer(case=case)
    return one, UndoRun(case=case.id, ask=case.asks)


@pytest.mark.thorough
@pytest.mark.parametrize("by_tick", [False, True])
def test_a_crash_at_any_call_of_the_undo_function_ends_as_if_nothing_had_happened(
    built: House, by_tick: bool
) -> None:
    faults = Faults()
    undo.carry_out(built.engine(faults), waiting(built, 0)[1])
    calls = faults.seen
    assert {"cases.answers", "sts.AssumeRole", "ec2.AuthorizeSecurityGroupIngress"} <= {*calls}
    for place in range(1, len(calls) + 1):
        for kind in (Kind.BEFORE, Kind.AFTER):
            group, wanted = waiting(built, 2 * place + (kind is Kind.AFTER))
            case, where = case_of(built, group), f"crash {kind.value} call {place}, {calls[place - 1]}"
            with pytest.raises(Crash):
                undo.carry_out(built.engine(Faults(place, kind)), wanted)
            begun = "UNDO_INTENT" in built.kinds(case.id)
            exempted = any(one.resource == case.target.resource for one in built.cases.exemptions)
            assert begun == exempted, f"{where}: intent and exemption are not one"
            if case_of(built, group).run:
                with pytest.raises(BusyError):
                    undo.carry_out(built.engine(), wanted)
            built.clock.advance(AFTER_THE_LEASE)
            if by_tick:
                built.tick()
            else:
                undo.carry_out(built.engine(), wanted)
            ended_once(built, case, where)
            assert undo.carry_out(built.engine(), wanted).verdict == "nothing", where
            assert group.ports == [22, 443], where


@pytest.mark.thorough
def test_a_refusal_at_any_call_of_the_undo_function_is_never_a_success(built: House) -> None:
    faults = Faults()
    undo.carry_out(built.engine(faults), waiting(built, 0)[1])
    for place, name in enumerate(faults.seen, 1):
        group, wanted = waiting(built, place)
        case = case_of(built, group)
        engine = built.engine(Faults(place, Kind.DENIED))
        if name.startswith("cases."):
            with pytest.raises(StoreError):
                undo.carry_out(engine, wanted)
            assert "UNDO_RESULT" not in built.kinds(case.id), name
            built.clock.advance(AFTER_THE_LEASE)
            undo.carry_out(built.engine(), wanted)
            ended_once(built, case, f"{name} refused at {place}")
            continue
        assert undo.carry_out(engine, wanted).outcome in {"declined", "failed", "not_verified"}, name
        restored = group.ports == [22, 443]
        now = case_of(built, group)
        assert now.state == ("exempt" if restored else "closed"), name
        covered = [one for one in built.cases.exemptions if one.resource == case.target.resource]
        assert [built.clock.now() < one.expires_at for one in covered] in ([], [restored]), name


def test_an_answer_that_was_lost_is_settled_by_looking(built: House, group: Group) -> None:
    wanted = approved(built, group)
    walked = undo.carry_out(refusing(built, "write", THROTTLED, execute=True), wanted)
    assert walked.outcome == "fixed"
    assert built.record("UNDO_RESULT")["observed_by"] == "reassessment"


def test_throttled_before_the_write_the_undo_stays_open_and_the_next_delivery_ends_it(
    built: House, group: Group
) -> None:
    wanted = approved(built, group)
    with pytest.raises(TransientError):
        undo.carry_out(refusing(built, "write", THROTTLED), wanted)
    assert built.only_case().state == "running"
    built.clock.advance(AFTER_THE_LEASE)
    with pytest.raises(TransientError):
        undo.carry_out(refusing(built, "read", THROTTLED), wanted)
    built.clock.advance(AFTER_THE_LEASE)
    assert undo.carry_out(built.engine(), wanted).outcome == "fixed"


def died(built: House, group: Group, call: str, kind: Kind = Kind.BEFORE) -> tuple[Case, UndoRun]:
    """An undo whose run died at a call of that name, its lease over."""
    wanted, faults = approved(built, group), Faults()
    case = built.only_case()
    state = {**built.cases.items}
    undo.carry_out(built.engine(faults), wanted)
    place = faults.seen.index(call) + 1
    for rule in group.ec2.describe_security_group_rules()["SecurityGroupRules"]:
        if rule["FromPort"] == 22:
            group.close(rule["SecurityGroupRuleId"])
    built.cases.items = state
    built.aws.operations.clear()
    with pytest.raises(Crash):
        undo.carry_out(built.engine(Faults(place, kind)), wanted)
    built.clock.advance(AFTER_THE_LEASE)
    return case, wanted


def test_an_undo_that_died_and_found_the_target_changed_claims_no_call_that_it_did_not_make(
    built: House, group: Group
) -> None:
    _, wanted = died(built, group, "ec2.AuthorizeSecurityGroupIngress")
    drift(group)
    walked = undo.carry_out(built.engine(), wanted)
    assert (walked.outcome, "changed meanwhile" in walked.reason) == ("failed", True)
    assert built.record("UNDO_RESULT")["results"] == []
    assert (writes(built), in_force(built), built.only_case().state) == ([], [], "closed")
    assert [ticket.is_open for ticket in built.cases.tickets] == [True]


def test_an_undo_that_died_and_cannot_see_the_target_is_not_verified(built: House, group: Group) -> None:
    _, wanted = died(built, group, "ec2.AuthorizeSecurityGroupIngress")
    walked = undo.carry_out(refusing(built, "read", DENIED), wanted)
    assert (walked.outcome, "could not be read" in walked.reason) == ("not_verified", True)
    assert (writes(built), in_force(built)) == ([], [])


def test_an_undo_that_died_and_whose_run_is_no_longer_on_record_is_not_verified(
    built: House, group: Group
) -> None:
    _, wanted = died(built, group, "ec2.AuthorizeSecurityGroupIngress")
    forget(built, "RESULT")
    walked = undo.carry_out(built.engine(), wanted)
    assert (walked.outcome, writes(built)) == ("not_verified", [])


def test_an_event_that_finds_a_dead_undo_leaves_it_to_the_function_that_undoes(
    built: House, group: Group
) -> None:
    case, _ = died(built, group, "ec2.AuthorizeSecurityGroupIngress")
    event = group.event((22, "sgr-x"), event_id="event-2")
    with pytest.raises(BusyError, match="has not come to its end"):
        built.walk(event)
    assert writes(built) == []
    assert [one.outcome for one in built.tick()] == ["fixed"]
    ended_once(built, case, "by tick")
    assert built.walk(event).rule == "exempt"


def test_what_joins_while_an_undo_is_under_way_is_looked_at_afterwards(built: House, group: Group) -> None:
    wanted = approved(built, group)
    built.raise_to(Mode.ACT, RDP)
    joined: list[Walked] = []

    def meanwhile() -> None:
        joined.append(built.walk(group.event((3389, group.open(3389)), event_id="event-2")))

    engine = meddling(built, "cases.guard", meanwhile)
    assert undo.carry_out(engine, wanted).outcome == "fixed"
    assert [one.verdict for one in joined] == ["joined"]
    assert group.ports == [22, 443, 3389], "the function that undoes repairs nothing"
    assert built.only_case().pending
    (look,) = (notice.body for notice in built.cases.notices if notice.body.get("errand") == "look")
    (walked,) = built.carry_out(ERRAND.validate_json(json.dumps(look)))
    assert (walked.verdict, walked.controls) == ("ask", (RDP,)), (
        "nobody's event is walked now, so a person is asked"
    )
    assert group.ports == [22, 443, 3389]
    assert not built.only_case().pending
    assert in_force(built) == [SSH]


def test_whoever_always_loses_gives_the_message_back(built: House, group: Group) -> None:
    case = repaired(built, group)
    wanted = order(built, case)

    def lost(change: Change) -> None:
        raise ConflictError("somebody else")

    commit, built.cases.commit = built.cases.commit, lost  # type: ignore[method-assign] # a store that loses a race
    with pytest.raises(BusyError, match="changed by others"):
        built.run(wanted)
    built.cases.commit = commit  # type: ignore[method-assign] # a store that loses a race
    built.run(wanted)
    built.answer()
    seen = 0

    def loses_the_end(change: Change) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            raise ConflictError("somebody else")
        commit(change)

    built.cases.commit = loses_the_end  # type: ignore[method-assign] # a store that loses a race
    with pytest.raises(BusyError, match="changed by others"):
        undo.carry_out(built.engine(), UndoRun(case=case.id, ask=1))
    assert "UNDO_RESULT" not in built.kinds()


def test_looking_again_does_not_end_what_an_undo_exempted(built: House, group: Group) -> None:
    case = done(built, group)
    (walked,) = built.carry_out(Look(case=case.id, by=ANNA, requested=True, request_id="r-1"))
    assert walked.rule == "exempt"
    now = built.only_case()
    assert (now.state, now.wakes_at) == ("exempt", case.wakes_at)
