"""Asking: a frozen plan, one answer, one execution; late, doubled, forged and stale answers change nothing."""

from datetime import timedelta

import pytest

from chalicelib.domain.approval import (
    CARRIED_OUT_WITHIN,
    DENIED_FOR,
    EXPIRES_AFTER,
    SETTLED_AFTER,
    Answer,
    Answers,
    principal,
)
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import BusyError, ConflictError, RefusedCommandError, StoreError
from chalicelib.domain.ports import DeploymentRole, Exemption, Owner
from chalicelib.domain.record import Head
from chalicelib.flow import asking
from chalicelib.flow.errand import Answered
from tests.fakes.cases import Item
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, ANNA, House
from tests.flow.people import ANN, asked, built, group, ssh_writes
from tests.flow.test_pipeline import RDP, SSH, Group

__all__ = ["built", "group"]

BERT = f"arn:aws:iam::{ACCOUNT}:user/bert"


def stored(built: House, case: Case, *, by: str = ANNA, approve: bool = True, **changed: str) -> None:
    """An answer that lies in the store however it got there: what the engine must not take on trust."""
    assert case.ask
    given = Answer(
        by=by,
        principal=changed.get("principal", principal(by)),
        at=built.clock.now(),
        approve=approve,
        reason="forged",
        request_id="r",
    )
    hashed = changed.get("plan_hash", case.ask.plan_hash)
    answers = Answers(case=case.id, ask=case.ask.seq, plan_hash=hashed).plus(
        given, Head(seq=1, hash="1" * 64)
    )
    built.cases.items["ANSWERS", case.id, str(case.ask.seq)] = Item(
        answers.model_dump_json(), answers.version
    )


# -- the ask ------------------------------------------------------------------------------------------------------------


def test_an_ask_freezes_the_plan_and_changes_nothing(built: House, group: Group) -> None:
    case = asked(built, group)
    assert case.ask
    assert built.kinds() == ["RECEIVED", "DECIDED", "ASKED"]
    assert [call.operation for call in case.ask.plan.calls] == ["RevokeSecurityGroupIngress"]
    assert case.ask.plan_hash == case.plan_hash == built.record("ASKED")["plan_hash"]
    assert case.ask.expires_at == built.clock.now() + EXPIRES_AFTER
    assert case.ask.requesters == (ANN,)
    (notice,) = (notice for notice in built.cases.notices if notice.kind == "ask")
    assert (notice.body["ask"], notice.body["reason"]) == (1, case.ask.reason)
    assert ssh_writes(built) == 0
    assert group.ports == [22, 443]


def test_a_second_event_that_changes_nothing_about_the_plan_asks_nobody_twice(
    built: House, group: Group
) -> None:
    first = asked(built, group).ask
    built.clock.advance(timedelta(minutes=1))
    again = group.event((22, group.open(22, "1.2.3.4/32")), event_id="event-2")
    again["detail"]["userIdentity"]["arn"] = BERT
    built.walk(again)
    second = built.only_case().ask
    assert first
    assert second
    assert (second.seq, second.expires_at) == (1, first.expires_at)
    assert second.requesters == (ANN, BERT), "whoever joined may not approve either"


def test_whoever_made_the_first_change_is_not_forgotten_though_others_came_later(
    built: House, group: Group
) -> None:
    asked(built, group)
    built.clock.advance(timedelta(hours=2))
    later = group.event((22, group.open(22, "0.0.0.0/1")), event_id="event-2")
    later["detail"]["userIdentity"]["arn"] = BERT
    built.walk(later)
    group.open(22, "128.0.0.0/1")
    built.answer(by=ANNA)
    built.deliver()
    case = built.only_case()
    assert case.ask
    assert case.ask.again
    assert case.ask.requesters == (ANN, BERT)


def test_another_plan_takes_the_place_of_the_ask_and_the_old_hash_is_refused(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    built.clock.advance(timedelta(minutes=1))
    built.walk(group.event((22, group.open(22, "0.0.0.0/1")), event_id="event-2"))
    built.walk(group.event((22, group.open(22, "128.0.0.0/1")), event_id="event-3"))
    now = built.only_case()
    assert case.ask
    assert now.ask
    assert now.ask.seq > case.ask.seq
    with pytest.raises(RefusedCommandError, match="changed since you looked"):
        built.answer(plan_hash=case.ask.plan_hash)


def test_two_controls_of_a_case_are_asked_about_together(built: House, group: Group) -> None:
    built.raise_to(Mode.ASK, SSH)
    built.raise_to(Mode.ASK, RDP)
    built.walk(group.event((22, group.open(22))))
    built.clock.advance(timedelta(minutes=1))
    built.walk(group.event((3389, group.open(3389)), event_id="event-2"))
    case = built.only_case()
    assert case.ask
    assert case.ask.controls == (RDP, SSH)
    assert case.ask.seq == 2
    built.answer()
    built.deliver()
    assert group.ports == [443]


# -- approval -----------------------------------------------------------------------------------------------------------


def test_an_approval_is_carried_out_once_and_recorded_whole(built: House, group: Group) -> None:
    asked(built, group)
    says = built.answer()
    assert "approved" in says
    assert ssh_writes(built) == 0, "the answer itself does nothing"
    (walked,) = built.deliver()
    assert (walked.verdict, walked.outcome) == ("act", "fixed")
    assert group.ports == [443]
    assert built.kinds() == ["RECEIVED", "DECIDED", "ASKED", "ANSWERED", "DECIDED", "INTENT", "RESULT"]
    assert built.record("INTENT")["approved_by"] == ANNA
    case = built.only_case()
    assert (case.state, case.ask) == ("closed", None)
    answered = Answered(case=case.id, ask=1)
    assert [one.verdict for one in built.carry_out(answered, answered)] == ["nothing", "nothing"]
    assert ssh_writes(built) == 1


def test_an_approval_counts_though_the_event_is_hours_old_and_the_control_only_asks(
    built: House, group: Group
) -> None:
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER - timedelta(seconds=1))
    built.answer()
    (walked,) = built.deliver()
    assert walked.outcome == "fixed"


def test_approval_one_second_after_the_end_is_refused_though_the_ask_is_still_there(
    built: House, group: Group
) -> None:
    case = asked(built, group)
    built.clock.advance(EXPIRES_AFTER + timedelta(seconds=1))
    with pytest.raises(RefusedCommandError, match="expired"):
        built.answer()
    assert built.only_case().ask == case.ask
    stored(built, case)
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert (walked.verdict, walked.reason) == ("refused", "the answer came after the ask had expired")
    assert ssh_writes(built) == 0
    assert built.kinds()[-1] == "ANSWER_REFUSED"


@pytest.mark.parametrize(
    "forged, problem",
    [
        ({"by": ANN}, "you made the change"),
        ({"plan_hash": "0" * 64}, "another plan"),
        ({"by": ANN, "principal": "somebody-else"}, "does not say plainly"),
    ],
)
def test_an_answer_that_was_put_into_the_store_by_other_ways_is_judged_again(
    built: House, group: Group, forged: dict[str, str], problem: str
) -> None:
    case = asked(built, group)
    stored(built, case, **forged)  # type: ignore[arg-type] # one table for names and hashes
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.verdict == "refused"
    assert problem in walked.reason
    assert ssh_writes(built) == 0
    assert built.only_case().state == "expired", "so that the next sweep asks again"


def test_an_approval_that_lay_among_the_dead_letters_is_none(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    built.clock.advance(CARRIED_OUT_WITHIN + timedelta(seconds=1))
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.verdict == "refused"
    assert "old approval" in walked.reason
    assert ssh_writes(built) == 0


def test_whoever_made_the_change_may_deny_it_and_not_approve_it(built: House, group: Group) -> None:
    asked(built, group)
    with pytest.raises(RefusedCommandError, match="ask somebody else"):
        built.answer(by=ANN)
    assert "denied" in built.answer(by=ANN, approve=False)
    (walked,) = built.deliver()
    assert walked.verdict == "denied"


# -- what may have changed meanwhile ------------------------------------------------------------------------------------


def test_a_resource_that_changed_meanwhile_is_stale_untouched_and_asked_about_once_more(
    built: House, group: Group
) -> None:
    asked(built, group)
    group.open(22, "0.0.0.0/1")
    group.open(22, "128.0.0.0/1")
    built.answer()
    (walked,) = built.deliver()
    assert (walked.verdict, walked.rule) == ("ask", "stale")
    assert ssh_writes(built) == 0
    case = built.only_case()
    assert case.ask
    assert (case.state, case.ask.seq, case.ask.again) == ("waiting", 2, True)
    assert built.kinds()[-4:] == ["ANSWERED", "DECIDED", "STALE", "ASKED"]
    assert built.record("STALE")["plan_hash_now"] == case.ask.plan_hash
    group.ec2.authorize_security_group_ingress(
        GroupId=group.id,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
        ],
    )
    built.answer()
    (walked,) = built.deliver()
    assert (walked.verdict, walked.rule) == ("ticket", "stale twice")
    assert ssh_writes(built) == 0
    assert [ticket.state for ticket in built.cases.tickets] == ["open"]


def test_a_resource_that_was_repaired_meanwhile_needs_nothing_and_is_closed(
    built: House, group: Group
) -> None:
    built.raise_to(Mode.ASK, SSH)
    rule = group.open(22)
    built.walk(group.event((22, rule)))
    group.close(rule)
    built.answer()
    (walked,) = built.deliver()
    assert (walked.verdict, walked.outcome) == ("ignore", "already_compliant")
    assert built.only_case().state == "closed"
    assert ssh_writes(built) == 0


def test_a_mode_lowered_a_freeze_and_an_exemption_stop_what_was_approved(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    built.freeze("ALL", on=True)
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.rule == "frozen"
    assert ssh_writes(built) == 0


def test_a_lowered_mode_stops_what_was_approved(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    built.raise_to(Mode.OBSERVE, SSH)
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.rule == "observing"
    assert ssh_writes(built) == 0


def test_an_exemption_granted_meanwhile_stops_what_was_approved(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    exempt(built, case)
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.rule == "exempt"
    assert ssh_writes(built) == 0
    assert built.only_case().state == "exempt"


def exempt(built: House, case: Case, days: int = 1, control: str = SSH) -> None:
    now = built.clock.now()
    built.cases.set(
        Exemption(
            account=ACCOUNT,
            control=control,
            resource=case.target.resource,
            owner="team-web",
            code="accepted_risk",
            reason="tested",
            by="olga",
            at=now,
            expires_at=now + timedelta(days=days),
        )
    )


def test_a_run_on_the_target_makes_the_approval_wait(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    with pytest.raises(Crash):
        built.run(Answered(case=case.id, ask=1), Faults(8, Kind.BEFORE))
    assert built.only_case().state == "running"
    with pytest.raises(BusyError):
        built.run(Answered(case=case.id, ask=1))


@pytest.mark.thorough
def test_a_crash_at_any_call_of_an_approved_run_ends_as_if_nothing_had_happened(
    built: House, group: Group
) -> None:
    faults = Faults()
    case = asked(built, group)
    built.answer()
    built.run(Answered(case=case.id, ask=1), faults)
    calls = faults.seen
    assert "ec2.RevokeSecurityGroupIngress" in calls
    for place in range(1, len(calls) + 1):
        for kind in (Kind.BEFORE, Kind.AFTER):
            built.clock.advance(timedelta(hours=2))
            built.walk(group.event((22, group.open(22)), event_id=f"event-{place}-{kind.value}"))
            case, writes = built.only_case(), ssh_writes(built)
            assert case.state == "waiting"
            built.answer()
            assert case.ask
            with pytest.raises(Crash):
                built.run(Answered(case=case.id, ask=case.ask.seq), Faults(place, kind))
            built.clock.advance(AFTER_THE_LEASE)
            built.run(Answered(case=case.id, ask=case.ask.seq))
            where = f"crash {kind.value} call {place}, {calls[place - 1]}"
            assert built.only_case().state == "closed", where
            assert ssh_writes(built) == writes + 1, f"{where}: a write was repeated, or left out"
            kinds = built.kinds()
            assert [kinds.count(one) for one in ("ANSWERED", "INTENT", "RESULT")] == [1, 1, 1], where
            assert group.ports == [443], where


@pytest.mark.thorough
def test_what_the_store_refuses_is_never_acted_on(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    faults = Faults()
    built.run(Answered(case=case.id, ask=1), faults)
    for place, name in enumerate(faults.seen, 1):
        if not name.startswith("cases."):
            continue
        built.clock.advance(timedelta(hours=2))
        built.walk(group.event((22, group.open(22)), event_id=f"again-{place}"))
        case, writes = built.only_case(), ssh_writes(built)
        built.answer()
        assert case.ask
        with pytest.raises(StoreError):
            built.run(Answered(case=case.id, ask=case.ask.seq), Faults(place, Kind.DENIED))
        last = name == "cases.commit" and ssh_writes(built) > writes
        assert last or ssh_writes(built) == writes, f"wrote though {name} was refused"
        built.clock.advance(AFTER_THE_LEASE)
        built.run(Answered(case=case.id, ask=case.ask.seq))
        assert ssh_writes(built) == writes + 1


def test_an_answer_store_that_cannot_be_read_changes_nothing(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    faults = Faults()
    built.engine(faults).case(case.id)
    at = len(faults.seen) + 1
    with pytest.raises(StoreError, match=r"cases\.answers"):
        built.run(Answered(case=case.id, ask=1), Faults(at, Kind.DENIED))
    assert ssh_writes(built) == 0
    assert built.only_case() == case


# -- denial -------------------------------------------------------------------------------------------------------------


def test_a_denial_ends_the_case_and_a_sweep_does_not_ask_again_for_a_month(
    built: House, group: Group
) -> None:
    built.sweep()
    asked(built, group)
    built.answer(approve=False)
    (walked,) = built.deliver()
    assert walked.verdict == "denied"
    assert built.only_case().state == "denied"
    assert built.kinds()[-1] == "ANSWERED"
    for days in (1, DENIED_FOR.days - 2):
        built.clock.advance(timedelta(days=days))
        built.sweep()
        assert built.only_case().state == "denied"
    built.clock.advance(timedelta(days=2))
    built.sweep()
    assert built.only_case().state == "waiting"
    assert ssh_writes(built) == 0


# -- time ---------------------------------------------------------------------------------------------------------------


def test_people_are_reminded_once_at_half_time(built: House, group: Group) -> None:
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER / 2 - timedelta(seconds=1))
    assert built.tick() == []
    built.clock.advance(timedelta(seconds=1))
    assert [one.verdict for one in built.tick()] == ["reminded"]
    assert built.tick() == []
    assert built.kinds()[-1] == "REMINDED"
    assert [notice.kind for notice in built.cases.notices][-1] == "ask_reminded"


def test_an_unanswered_ask_becomes_a_ticket_and_comes_back_with_the_next_sweep(
    built: House, group: Group
) -> None:
    built.sweep()
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    assert [one.verdict for one in built.tick()] == ["expired"]
    assert built.tick() == []
    assert built.kinds()[-2:] == ["EXPIRED", "TICKET_OPENED"]
    (ticket,) = built.cases.tickets
    assert ticket.is_open
    assert ticket.commands
    assert ssh_writes(built) == 0
    built.clock.advance(timedelta(days=1))
    built.sweep()
    case = built.only_case()
    assert (case.state, case.episode) == ("waiting", 2)
    built.answer()
    built.deliver()
    assert built.only_case().state == "closed"
    assert [(one.number, one.state) for one in built.cases.tickets] == [(1, "closed")]


def test_a_lost_errand_is_found_by_the_next_tick(built: House, group: Group) -> None:
    asked(built, group)
    built.answer()
    (walked,) = built.tick()
    assert walked.outcome == "fixed"
    assert built.deliver()[0].verdict == "nothing"
    assert ssh_writes(built) == 1


# -- code and owners ----------------------------------------------------------------------------------------------------


def by_role(event: dict[str, object], role: str, session: str) -> dict[str, object]:
    detail = event["detail"]
    assert isinstance(detail, dict)
    detail["userIdentity"] = {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}",
        "sessionContext": {"sessionIssuer": {"arn": f"arn:aws:iam::{ACCOUNT}:role/{role}"}},
    }
    return event


def configured(built: House, *, removed: bool = False) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/deployer"
    built.cases.set(
        DeploymentRole(
            account=ACCOUNT,
            role_arn=role,
            tool="terraform",
            by="olga",
            at=built.clock.now(),
            removed=removed,
        )
    )


def test_what_a_configured_deployment_role_changed_is_asked_about_with_the_run_and_the_code(
    built: House, group: Group
) -> None:
    configured(built)
    built.raise_to(Mode.ACT, SSH)
    event = by_role(group.event((22, group.open(22))), "deployer", "pipeline-4711")
    walked = built.walk(event)
    assert (walked.verdict, walked.rule) == ("ask", "deployed as code")
    ask = built.only_case().ask
    assert ask
    assert "pipeline-4711" in ask.notes[0]
    assert "aws_" in ask.as_code
    assert ssh_writes(built) == 0


def test_a_role_that_is_configured_no_more_is_a_role_like_any_other(built: House, group: Group) -> None:
    configured(built, removed=True)
    built.raise_to(Mode.ACT, SSH)
    walked = built.walk(by_role(group.event((22, group.open(22))), "deployer", "pipeline-4711"))
    assert walked.outcome == "fixed"


def test_a_user_agent_alone_is_a_note_and_stops_nothing(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    claims = {"userAgent": "APN/1.0 HashiCorp/1.0 Terraform/1.9"}
    walked = built.walk(group.event((22, group.open(22)), **claims))
    assert walked.outcome == "fixed"
    built.raise_to(Mode.ASK, SSH)
    built.clock.advance(timedelta(minutes=1))
    built.walk(group.event((22, group.open(22)), event_id="event-2", **claims))
    ask = built.only_case().ask
    assert ask
    assert ask.notes == ("The caller's user agent says Terraform; nobody vouches for that.",)
    assert ask.as_code == ""


def test_the_owner_is_the_tags_word_else_the_accounts(built: House, group: Group) -> None:
    built.cases.set(Owner(account=ACCOUNT, owner="platform@example.org", by="olga", at=built.clock.now()))
    assert asked(built, group).owner == "platform@example.org"
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "Team", "Value": "web"}])
    built.clock.advance(timedelta(minutes=1))
    built.walk(group.event((22, group.open(22, "9.9.9.9/32")), event_id="event-2"))
    assert built.only_case().owner == "web"


# -- races --------------------------------------------------------------------------------------------------------------


def test_a_case_that_others_move_on_again_and_again_comes_back_later(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer(approve=False)

    def always_lost(_: object) -> None:
        raise ConflictError("somebody else")

    built.cases.commit = always_lost  # type: ignore[method-assign,assignment] # a store where others are always quicker
    with pytest.raises(BusyError):
        asking.carry_out(built.engine(), case.id, 1)


def test_an_answer_to_nothing_is_nothing(built: House, group: Group) -> None:
    case = asked(built, group)
    assert asking.carry_out(built.engine(), case.id, 1)[0].verdict == "nothing"
    assert asking.carry_out(built.engine(), case.id, 7)[0].verdict == "nothing"
    assert asking.carry_out(built.engine(), "no case at all", 1)[0].verdict == "nothing"
