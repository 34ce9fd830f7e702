"""People and the engine set against each other: approvals that launder, asks that get lost, cases that grow, sweeps that stick.

A test that is marked as failing shows a hole that is open; it names the smallest repair.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from chalicelib.domain.approval import DENIED_FOR, EXPIRES_AFTER, SETTLED_AFTER, Undone
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import AnyRemediation, Mode
from chalicelib.domain.errors import (
    AccessDeniedError,
    BusyError,
    RefusedCommandError,
    StoreError,
    TransientError,
)
from chalicelib.domain.finding import Target
from chalicelib.domain.record import broken_at
from chalicelib.flow import command, desk, errands
from chalicelib.flow.errand import Answered, Exempted, Look, Sweep, Tick, UndoWanted
from chalicelib.flow.pipeline import Engine
from tests.fakes.cases import Item
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, ANNA, REGION, House
from tests.flow.people import ANN, asked, built, group
from tests.flow.test_asking import BERT, by_role, configured, exempt, stored
from tests.flow.test_pipeline import RDP, SSH, Group
from tests.remediations import test_s3_block_public_access as s3

__all__ = ["built", "group"]

BUCKET = "s3-bucket-public-access-block"
OLGA = f"arn:aws:iam::{ACCOUNT}:user/olga"


def by(event: dict[str, Any], arn: str) -> dict[str, Any]:
    event["detail"]["userIdentity"] = {"type": "IAMUser", "arn": arn}
    return event


def baselined(built: House) -> None:
    """The first look at everything is over."""
    built.sweep()
    built.clock.advance(timedelta(minutes=1))


def now_of(built: House, case: Case) -> Case:
    found = built.engine().case(case.id)
    assert found
    return found


def writes(built: House) -> list[str]:
    return [one.operation for one in built.aws.writes]


def wanted(built: House, case: Case, run: int, by: str = OLGA, owner: str = "team-web") -> UndoWanted:
    until = built.clock.now() + timedelta(days=7)
    return UndoWanted(case=case.id, undone=Undone(run=run, by=by, reason="needed", owner=owner, until=until))


# -- a write without a person ---------------------------------------------------------------------------------------------


def coded(built: House, group: Group) -> Case:
    """At act, a deployment role opened port 22: a person is asked."""
    configured(built)
    baselined(built)
    built.raise_to(Mode.ACT, SSH)
    walked = built.walk(by_role(group.event((22, group.open(22))), "deployer", "run-7"))
    assert walked.verdict == "ask"
    return built.only_case()


def test_a_sweep_does_not_act_on_what_a_deployment_role_changed(built: House, group: Group) -> None:
    coded(built, group)
    built.clock.advance(timedelta(minutes=5))
    built.sweep()
    assert writes(built) == []


def test_a_strangers_event_does_not_act_on_what_a_deployment_role_changed(built: House, group: Group) -> None:
    coded(built, group)
    built.clock.advance(timedelta(minutes=5))
    harmless = group.event((22, group.open(22, "1.2.3.4/32")), event_id="event-2")
    built.walk(harmless)
    assert writes(built) == []


def test_a_sweep_does_not_act_on_what_an_event_told_before_the_mode_was_raised(
    built: House, group: Group
) -> None:
    baselined(built)
    asked(built, group)
    built.clock.advance(timedelta(minutes=5))
    built.raise_to(Mode.ACT, SSH)
    built.sweep()
    assert writes(built) == []


def test_a_sweep_does_not_act_after_a_freeze_was_lifted(built: House, group: Group) -> None:
    baselined(built)
    built.raise_to(Mode.ACT, SSH)
    built.freeze("ALL", on=True)
    assert built.walk(group.event((22, group.open(22)))).rule == "frozen"
    built.clock.advance(timedelta(minutes=5))
    built.freeze("ALL", on=False)
    built.sweep()
    assert writes(built) == []


# -- who approves ---------------------------------------------------------------------------------------------------------


def test_who_made_the_change_does_not_approve_it_by_letting_the_first_ask_run_out(
    built: House, group: Group
) -> None:
    baselined(built)
    asked(built, group)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.tick()
    built.sweep()
    case = built.only_case()
    assert (case.state, case.episode) == ("waiting", 2)
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANN)


def test_who_made_the_change_does_not_approve_it_after_a_denial(built: House, group: Group) -> None:
    baselined(built)
    asked(built, group)
    built.answer(approve=False, by=ANN)
    built.deliver()
    built.clock.advance(DENIED_FOR)
    built.sweep()
    assert built.only_case().state == "waiting"
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANN)


def test_who_made_the_change_does_not_approve_it_after_a_snooze(built: House, group: Group) -> None:
    baselined(built)
    case = asked(built, group)
    exempt(built, case, days=3)
    built.run(Exempted(resource=case.target.resource, control=SSH, request_id="r"))
    assert built.only_case().state == "exempt"
    built.clock.advance(timedelta(days=3, minutes=1))
    built.tick()
    assert built.only_case().state == "waiting"
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANN)


def test_everybody_who_changed_it_is_still_barred_after_a_snooze(built: House, group: Group) -> None:
    baselined(built)
    case = asked(built, group)
    built.clock.advance(timedelta(minutes=1))
    built.walk(by(group.event((22, group.open(22, "0.0.0.0/1")), event_id="event-2"), BERT))
    exempt(built, case, days=3)
    built.run(Exempted(resource=case.target.resource, control=SSH, request_id="r"))
    built.clock.advance(timedelta(days=3, minutes=1))
    built.tick()
    assert built.only_case().state == "waiting"
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANN)


def test_who_takes_a_case_up_does_not_approve_it(built: House, group: Group) -> None:
    group.open(22)
    baselined(built)
    built.raise_to(Mode.ASK, SSH)
    built.run(Look(case=built.only_case().id, by=OLGA, requested=True, request_id="r"))
    with pytest.raises(RefusedCommandError):
        built.answer(by=OLGA)


def test_a_session_with_a_source_identity_is_that_person(built: House, group: Group) -> None:
    built.raise_to(Mode.ASK, SSH)
    event = by_role(group.event((22, group.open(22))), "admin", "whatever")
    event["detail"]["userIdentity"]["sessionContext"]["sourceIdentity"] = "anna"  # type: ignore[index] # JSON of any shape
    built.walk(event)
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANNA)


def test_the_owner_of_an_undos_exemption_does_not_approve_it(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    built.walk(group.event((22, group.open(22))))
    built.carry_out(wanted(built, built.only_case(), 1, by=OLGA, owner=ANNA))
    with pytest.raises(RefusedCommandError):
        built.answer(by=ANNA)
    built.deliver()
    assert all(one.owner != one.by for one in built.cases.exemptions)


SSO = f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_{{}}_0123456789abcdef/anna@example.com"


def test_an_identity_center_user_does_not_own_what_they_grant_under_another_permission_set(
    built: House, group: Group
) -> None:
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{group.id}"
    order = command.Exempt(
        resource=arn,
        control=SSH,
        account=ACCOUNT,
        owner=SSO.format("ReadOnly"),
        code=command.ReasonCode.ACCEPTED_RISK,
        reason="mine",
        expires_at=built.clock.now() + timedelta(days=180),
    )
    caller = desk.caller(SSO.format("Admin"), "request-1")
    with pytest.raises(RefusedCommandError):
        command.carry_out(
            order, caller, built.cases, built.engine().catalog, built.clock, home=ACCOUNT, engine="test"
        )


# -- two controls, one case -----------------------------------------------------------------------------------------------


def rdp_asked(built: House, group: Group, ssh: Mode) -> Case:
    """RDP waits for a person; SSH has a mode of its own."""
    baselined(built)
    built.raise_to(ssh, SSH)
    built.raise_to(Mode.ASK, RDP)
    built.walk(group.event((3389, group.open(3389)), event_id="rdp"))
    case = built.only_case()
    assert case.ask
    assert case.ask.controls == (RDP,)
    built.clock.advance(timedelta(minutes=1))
    return case


def still_asked(built: House) -> None:
    """Whoever waits is asked something that can be answered, and it ends if nobody does."""
    case = built.only_case()
    assert case.standing[RDP] == "waiting"
    assert case.ask
    assert RDP in case.ask.controls


def test_an_ask_is_not_lost_when_another_control_acts(built: House, group: Group) -> None:
    rdp_asked(built, group, Mode.ACT)
    assert built.walk(group.event((22, group.open(22)), event_id="ssh")).outcome == "fixed"
    still_asked(built)


def test_an_ask_is_not_lost_when_another_control_is_exempt(built: House, group: Group) -> None:
    case = rdp_asked(built, group, Mode.ASK)
    exempt(built, case, control=SSH)
    assert built.walk(group.event((22, group.open(22)), event_id="ssh")).rule == "exempt"
    still_asked(built)


def test_an_ask_is_not_lost_when_another_control_is_observed(built: House, group: Group) -> None:
    rdp_asked(built, group, Mode.OBSERVE)
    assert built.walk(group.event((22, group.open(22)), event_id="ssh")).rule == "observing"
    still_asked(built)


def test_an_ask_is_not_lost_when_another_control_becomes_a_ticket(built: House, group: Group) -> None:
    rdp_asked(built, group, Mode.TICKET)
    assert built.walk(group.event((22, group.open(22)), event_id="ssh")).verdict == "ticket"
    still_asked(built)


def test_an_ask_about_one_control_is_not_widened_to_one_that_is_exempt_by_now(
    built: House, group: Group
) -> None:
    case = rdp_asked(built, group, Mode.ASK)
    exempt(built, case, control=RDP)  # the errand that looks at it has not come yet
    built.walk(group.event((22, group.open(22)), event_id="ssh"))
    ask = built.only_case().ask
    assert ask
    assert ask.controls == (SSH,)


def test_an_approval_of_two_controls_repairs_the_one_though_the_other_is_only_observed_by_now(
    built: House, group: Group
) -> None:
    rdp_asked(built, group, Mode.ASK)
    built.raise_to(Mode.OBSERVE, RDP)
    built.walk(group.event((22, group.open(22)), event_id="ssh"))
    built.answer()
    built.deliver()
    assert group.ports == [443, 3389], "SSH may be repaired, and a person agreed"


def test_what_is_frozen_alone_does_not_keep_another_control_from_being_asked_about(
    built: House, group: Group
) -> None:
    rdp_asked(built, group, Mode.ASK)
    built.freeze(f"CONTROL#{ACCOUNT}#{RDP}", on=True)
    built.walk(group.event((22, group.open(22)), event_id="ssh"))
    assert built.only_case().standing[SSH] == "waiting"


def test_one_look_that_was_denied_does_not_throw_away_what_a_person_is_deciding(
    built: House, group: Group
) -> None:
    baselined(built)
    case = asked(built, group)
    built.answer()  # approved, and the errand is on its way
    engine = unreadable(built, group.id)
    left = [*errands.carry_out(engine, Sweep()).errands]
    while left:
        order = left.pop(0)
        try:
            left += errands.carry_out(engine, order).errands
        except TransientError:
            left.append(order)
    built.carry_out(Answered(case=case.id, ask=1))
    assert group.ports == [443]


def test_the_end_of_one_controls_exemption_wakes_the_case_though_another_was_repaired(
    built: House, group: Group
) -> None:
    baselined(built)
    case = asked(built, group)
    exempt(built, case, control=SSH)
    built.run(Exempted(resource=case.target.resource, control=SSH, request_id="r"))
    built.raise_to(Mode.ACT, RDP)
    assert built.walk(group.event((3389, group.open(3389)), event_id="rdp")).outcome == "fixed"
    built.clock.advance(timedelta(days=1, minutes=1))
    built.tick()
    assert built.only_case().state == "waiting"


def test_two_exemptions_of_one_case_that_end_on_two_days_both_wake_it(built: House, group: Group) -> None:
    baselined(built)
    built.raise_to(Mode.ASK, SSH, RDP)
    built.walk(group.event((22, group.open(22)), (3389, group.open(3389))))
    case = built.only_case()
    exempt(built, case, days=1, control=SSH)
    exempt(built, case, days=2, control=RDP)
    built.run(Exempted(resource=case.target.resource, control=SSH, request_id="r"))
    built.clock.advance(timedelta(days=1, minutes=1))
    built.tick()
    first = built.only_case()
    assert first.ask
    assert first.ask.controls == (SSH,)
    built.answer()
    built.deliver()
    assert group.ports == [443, 3389]
    built.clock.advance(timedelta(days=1))
    built.tick()
    second = built.only_case()
    assert second.ask
    assert RDP in second.ask.controls


def test_a_control_keeps_its_place_in_the_baseline_when_an_event_is_about_another_one(
    built: House, group: Group
) -> None:
    group.open(3389)
    group.open(22, "0.0.0.0/1")
    group.open(22, "128.0.0.0/1")
    built.raise_to(Mode.OBSERVE, SSH)
    built.raise_to(Mode.ASK, RDP)
    baselined(built)
    built.walk(group.event((22, group.open(22)), event_id="ssh"))
    built.sweep()
    assert built.only_case().ask is None, "RDP stood in the report, and nobody asked for it"


def test_a_control_that_people_know_is_not_inherited_because_a_new_one_is(built: House, group: Group) -> None:
    baselined(built)
    built.walk(group.event((22, group.open(22)), event_id="ssh"))  # observed, and none of the baseline
    group.open(3389)
    del built.cases.items["BASELINE", ACCOUNT, RDP]  # RDP comes with the next release
    built.sweep()
    built.clock.advance(timedelta(days=1))
    built.raise_to(Mode.ASK, SSH)
    built.sweep()
    case = built.only_case()
    assert case.ask
    assert case.ask.controls == (SSH,)


# -- undo -----------------------------------------------------------------------------------------------------------------


def test_wanting_an_undo_does_not_take_away_what_is_asked_about_another_control(
    built: House, group: Group
) -> None:
    baselined(built)
    built.raise_to(Mode.ACT, SSH)
    built.raise_to(Mode.ASK, RDP)
    event = group.event((22, group.open(22)), (3389, group.open(3389)))
    built.engine().walk(event)
    case = built.only_case()
    assert case.ask
    assert group.ports == [443, 3389]
    built.carry_out(wanted(built, case, 1))
    waits = built.only_case().ask
    if waits and waits.undo:
        built.answer(approve=False)
        built.deliver()
    still_asked(built)


def test_wanting_an_undo_does_not_wipe_a_run_that_died(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    built.walk(group.event((3389, group.open(3389)), event_id="rdp"))  # observed, so that the case stays open
    calls = Faults()
    built.walk(group.event((22, group.open(22)), event_id="ssh-1"), calls)
    assert (built.only_case().runs, built.only_case().state) == (1, "open")
    wrote = calls.seen.index("ec2.RevokeSecurityGroupIngress") + 1
    with pytest.raises(Crash):
        built.walk(group.event((22, group.open(22)), event_id="ssh-2"), Faults(at=wrote, kind=Kind.AFTER))
    assert (built.only_case().state, len(writes(built))) == ("running", 2)
    built.clock.advance(AFTER_THE_LEASE)
    with suppress(BusyError):  # to be put off is as good as to be refused
        built.run(wanted(built, built.only_case(), 1))
    built.tick()
    kinds = built.kinds()
    assert kinds.count("INTENT") == kinds.count("RESULT")


# -- tickets --------------------------------------------------------------------------------------------------------------


def test_a_ticket_is_closed_when_its_control_is_repaired_though_another_control_had_an_episode_since(
    built: House, group: Group
) -> None:
    baselined(built)
    built.raise_to(Mode.ASK, SSH)
    rule = group.open(22)
    built.walk(group.event((22, rule)))
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.tick()
    assert [ticket.state for ticket in built.cases.tickets] == ["open"]
    built.raise_to(Mode.ACT, RDP)
    assert built.walk(group.event((3389, group.open(3389)), event_id="rdp")).outcome == "fixed"
    assert [ticket.state for ticket in built.cases.tickets] == ["open"], "SSH is still open to the world"
    group.close(rule)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert [ticket.state for ticket in built.cases.tickets] == ["closed"]


# -- growth, poison, storms -----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_case_does_not_grow_with_the_number_of_sessions_that_touch_it(built: House, group: Group) -> None:
    asked(built, group)

    def touched(start: int, many: int) -> int:
        for number in range(start, start + many):
            event = group.event((22, "sgr-0"), event_id=f"touch-{number}")
            built.walk(by_role(event, "ci" * 32, f"{number:064d}"))
            built.clock.advance(timedelta(seconds=1))
        return len(built.only_case().model_copy(update={"causes": ()}).model_dump_json())

    first, second = touched(0, 300), touched(300, 60)
    assert second <= first


def unreadable(built: House, target_id: str) -> Engine:
    """For a while nobody may read one target."""
    return poisoned(built, target_id, AccessDeniedError("ec2", "Any", "UnauthorizedOperation", "no", "r"))


def poisoned(built: House, target_id: str, error: Exception | None = None) -> Engine:
    """One target's assessment breaks, with an error that nobody foresaw."""
    engine = built.engine()

    def broken(remediation: AnyRemediation) -> AnyRemediation:
        def assess(target: Target, params: Any, aws: Any) -> Any:
            if target.id == target_id:
                raise error or ValueError("an answer of a shape that nobody foresaw")
            return remediation.assess(target, params, aws)

        return replace(remediation, assess=assess)

    changed: Mapping[str, AnyRemediation] = {name: broken(one) for name, one in engine.remediations.items()}
    return replace(engine, remediations=MappingProxyType({**changed}))


def test_a_poisoned_target_does_not_keep_a_sweep_from_its_end(built: House, group: Group) -> None:
    group.open(22)
    other = Group.__new__(Group)
    other.built, other.ec2 = built, group.ec2
    vpc = group.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    other.id = group.ec2.create_security_group(GroupName="b", Description="b", VpcId=vpc)["GroupId"]
    other.open(22)
    engine = poisoned(built, min(group.id, other.id))
    left = [*errands.carry_out(engine, Sweep()).errands]
    for _ in range(30):
        if not left:
            break
        order = left.pop(0)
        try:
            left += errands.carry_out(engine, order).errands
        except TransientError:
            left.append(order)
        except ValueError:
            continue  # as after five receives: among the dead letters
    assert max(group.id, other.id) in {case.target.id for case in built.cases.cases}
    assert "SWEEP_COMPLETED" in [r.draft.type.value for r in built.cases.records]


def test_a_case_of_a_control_that_a_release_took_away_does_not_keep_a_sweep_from_its_end(
    built: House, group: Group
) -> None:
    asked(built, group)
    built.walk(group.event((3389, group.open(3389)), event_id="rdp"))
    assert set(built.only_case().controls) == {SSH, RDP}
    engine = built.engine()
    engine = replace(
        engine,
        controls={name: one for name, one in engine.controls.items() if name != SSH},
        remediations=MappingProxyType({n: one for n, one in engine.remediations.items() if n != SSH}),
    )
    left = [*errands.carry_out(engine, Sweep()).errands]
    for _ in range(30):
        if not left:
            break
        order = left.pop(0)
        try:
            left += errands.carry_out(engine, order).errands
        except TransientError:
            left.append(order)
        except KeyError:
            continue
    assert "SWEEP_COMPLETED" in [r.draft.type.value for r in built.cases.records]


def test_a_case_that_cannot_be_read_does_not_stop_the_tick(built: House, group: Group) -> None:
    case = asked(built, group)
    other = json.loads(case.model_dump_json())
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    built.cases.items["CASE", "a" * 20] = Item(json.dumps({**other, "digest": "a" * 20, "ask": {}}), 1)
    with suppress(StoreError):
        errands.carry_out(built.engine(), Tick())
    assert now_of(built, case).state == "expired"


def test_two_sweeps_that_begin_in_one_second_both_end(built: House, group: Group) -> None:
    built.sweep()
    built.sweep()
    assert [r.draft.type.value for r in built.cases.records].count("SWEEP_COMPLETED") == 2


def test_a_region_that_is_switched_on_later_has_a_baseline_of_its_own(built: House, group: Group) -> None:
    built.raise_to(Mode.ASK, SSH)
    baselined(built)
    later = "eu-west-1"
    ec2 = built.session.client("ec2", region_name=later)
    ec2.enable_ebs_encryption_by_default()
    vpc = ec2.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    for number in range(3):
        name = ec2.create_security_group(GroupName=f"old-{number}", Description="o", VpcId=vpc)["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=name,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ],
        )
    built.aws.switched_on = (REGION, later)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert [case.id for case in built.cases.cases if case.state is CaseState.WAITING] == []


def test_a_daily_sweep_over_what_waits_for_people_writes_only_that_it_was_there(
    built: House, group: Group
) -> None:
    baselined(built)
    built.raise_to(Mode.TICKET, SSH)
    built.walk(group.event((22, group.open(22))))
    built.sweep()
    before = built.only_case().version
    for _ in range(3):
        built.clock.advance(timedelta(days=1))
        built.sweep()
    assert built.only_case().version == before


def test_orders_in_any_order_and_twice_break_no_chain(built: House, group: Group) -> None:
    case = asked(built, group)
    built.answer()
    orders: list[Any] = [
        Answered(case=case.id, ask=1),
        Tick(),
        Look(case=case.id, by=OLGA, requested=True, request_id="x"),
        Answered(case=case.id, ask=1),
        Answered(case=case.id, ask=2),
        wanted(built, case, 1),
        wanted(built, case, 1),
        Exempted(resource=case.target.resource, control=SSH, request_id="y"),
        Tick(),
    ]
    built.carry_out(*orders, *reversed(orders))
    assert writes(built).count("RevokeSecurityGroupIngress") == 1
    for chain in {record.chain for record in built.cases.records}:
        assert broken_at([(r.body, r.hash) for r in built.cases.chain(chain)]) is None


# -- buckets -------------------------------------------------------------------------------------------------------------


def test_a_website_that_was_exempt_for_a_month_is_not_cut_by_the_first_event_afterwards(
    built: House,
) -> None:
    bucket = s3.new_bucket(built.session, ObjectOwnership=s3.ENFORCED)
    s3.put_block(built.session, bucket, s3.ALL_ON)
    baselined(built)
    built.raise_to(Mode.ACT, BUCKET)
    s3.put_block(built.session, bucket, s3.ALL_OFF)
    built.walk(s3.SCENARIO.event(bucket, (), built.clock.now()))
    assert writes(built) == ["PutPublicAccessBlock"]  # closed at once, and known to be closed
    case = built.only_case()
    built.clock.advance(timedelta(hours=2))
    exempt(built, case, days=30, control=BUCKET)
    s3.put_block(built.session, bucket, s3.ALL_OFF)
    built.session.client("s3").put_bucket_website(
        Bucket=bucket.id, WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}}
    )
    assert built.walk(s3.SCENARIO.event(bucket, (), built.clock.now())).rule == "exempt"
    built.clock.advance(timedelta(days=30, seconds=1))  # and before the tick, somebody deploys the same again
    built.walk(s3.SCENARIO.event(bucket, (), built.clock.now()))
    assert writes(built) == ["PutPublicAccessBlock"]


# -- on record ------------------------------------------------------------------------------------------------------------


def test_a_refused_command_is_on_record(built: House, group: Group) -> None:
    anybody = desk.caller(f"arn:aws:sts::{ACCOUNT}:assumed-role/admin/anna", "request-9")
    order = command.SetMode(control=SSH, account=ACCOUNT, mode=Mode.ACT, reason="quick")
    with pytest.raises(RefusedCommandError):
        command.carry_out(
            order, anybody, built.cases, built.engine().catalog, built.clock, home=ACCOUNT, engine="test"
        )
    assert [r for r in built.cases.records if r.draft.data.get("by", {}).get("arn") == anybody.arn]  # type: ignore[union-attr] # JSON of any shape


def test_a_forged_answer_of_who_made_the_change_is_refused_by_the_engine(built: House, group: Group) -> None:
    case = asked(built, group)
    stored(built, case, by=ANN)
    built.run(Answered(case=case.id, ask=1))
    built.tick()
    assert writes(built) == []


def test_a_snooze_is_not_repeated_without_end_by_one_person(built: House, group: Group) -> None:
    asked(built, group)
    olga = desk.caller(OLGA, "request-1")

    def snooze(number: int) -> None:
        command.carry_out(
            command.Snooze(case=built.only_case().id, days=7, reason="later"),
            olga.model_copy(update={"request_id": f"request-{number}"}),
            built.cases,
            built.engine().catalog,
            built.clock,
            home=ACCOUNT,
            engine="test",
        )
        built.deliver()

    weeks = 0
    with suppress(RefusedCommandError):
        for weeks in range(30):
            snooze(weeks)
            built.clock.advance(timedelta(days=6))
    assert weeks * 6 <= command.LONGEST_EXEMPTION.days / 6, "half a year, by one person's word alone"
