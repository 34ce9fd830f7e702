"""CloudTrail shows us our own calls, sooner or later: they are verified and never acted on; a stranger in our role is."""

import time

import pytest

from local.demo import WORLD
from local.emulator.world import Fault
from local.stage import Stage
from tests.e2e.scenes import (
    ONLY_443,
    SSH,
    broken,
    calm,
    cases,
    chain,
    effective,
    event,
    kinds,
    of,
    open_quietly,
    role_identity,
    story,
    writes,
)

pytestmark = pytest.mark.emulator


def repaired(stage: Stage, name: str) -> tuple[str, str]:
    """A group whose port 22 was closed, and the session in which that was done."""
    group = stage.security_group(name)
    stage.open(group, SSH)
    result = stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    return group, result["data"]["session"]


def test_an_event_of_our_own_run_is_verified_and_opens_no_case(stage: Stage) -> None:
    group, session = repaired(stage, "own-after")
    identity = role_identity(stage, stage.settings.role("act"), session)
    stage.world.clear_calls()
    stage.world.emit(event(stage, group, "sgr-0own", identity=identity))
    verified = stage.await_record(stage.arn(group), "VERIFIED")
    calm(stage)
    assert verified["data"]["session"] == session
    assert verified["data"]["compliant"] is True
    assert writes(stage) == []
    (case,) = cases(stage, group)
    assert kinds(chain(stage, case)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "VERIFIED"]
    assert broken(stage, group) == []


def test_an_event_of_our_own_run_that_comes_twice_is_verified_once(stage: Stage) -> None:
    group, session = repaired(stage, "own-twice")
    made = event(stage, group, "sgr-0own", identity=role_identity(stage, stage.settings.role("act"), session))
    stage.world.emit(made)
    stage.await_record(stage.arn(group), "VERIFIED")
    stage.world.emit(made)
    calm(stage)
    assert kinds(story(stage, group)).count("VERIFIED") == 1


def test_an_event_of_our_own_run_that_comes_before_its_result_is_reconciled(stage: Stage) -> None:
    repaired(stage, f"own-warm-{time.monotonic_ns()}")
    group = stage.security_group("own-during")
    stage.world.faults([Fault("hold", service="sts", operation="AssumeRole", role="engine")])
    stage.open(group, SSH)
    intent = stage.await_record(stage.arn(group), "INTENT")
    identity = role_identity(stage, stage.settings.role("act"), intent["data"]["session"])
    stage.world.emit(event(stage, group, "sgr-0own", identity=identity))
    stage.await_record(stage.arn(group), "RECONCILED")
    stage.world.faults([])
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    (case,) = cases(stage, group)
    assert case.state.value == "closed"
    assert kinds(chain(stage, case)) == ["RECEIVED", "DECIDED", "INTENT", "RECONCILED", "RESULT"]
    assert len(effective(stage, group)) == 1
    assert stage.ingress(group) == ONLY_443
    assert broken(stage, group) == []


def test_events_that_arrive_late_and_in_order_end_the_same(stage: Stage) -> None:
    """CloudTrail takes its time: what we are told of, and our own write, arrive long after they were made."""
    stage.world.set_delay(2.0)
    group = stage.security_group("own-late")
    stage.open(group, SSH)
    assert stage.ingress(group) == {(443, WORLD), (SSH, WORLD)}
    result = stage.await_record(stage.arn(group), "RESULT")
    identity = role_identity(stage, stage.settings.role("act"), result["data"]["session"])
    stage.world.emit(event(stage, group, "sgr-0own", identity=identity))
    stage.await_record(stage.arn(group), "VERIFIED")
    calm(stage)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "VERIFIED"]
    assert stage.ingress(group) == ONLY_443


@pytest.mark.parametrize("session", ["redress-aaaaaaaaaaaaaaaaaaaa-1-1", "mallory"])
def test_our_own_role_in_an_unknown_session_is_suspected_and_never_acted_on(
    stage: Stage, session: str
) -> None:
    group = stage.security_group(f"own-unknown-{session[:9]}")
    rule = open_quietly(stage, group, SSH)
    identity = role_identity(stage, stage.settings.role("act"), session)
    stage.world.clear_calls()
    stage.world.emit(event(stage, group, rule, identity=identity))
    suspected = stage.await_record(stage.arn(group), "TAMPER_SUSPECTED")
    calm(stage)
    assert suspected["actor"]["session"] == session
    (decided,) = of(story(stage, group), "DECIDED")
    assert (decided["data"]["verdict"], decided["data"]["rule"]) == ("ask", "our own role")
    assert writes(stage) == []
    assert stage.ingress(group) == {(443, WORLD), (SSH, WORLD)}


def test_a_role_named_almost_like_ours_is_anybody(stage: Stage) -> None:
    group = stage.security_group("own-almost")
    rule = open_quietly(stage, group, SSH)
    identity = role_identity(stage, f"{stage.settings.role('act')}s", "redress-aaaaaaaaaaaaaaaaaaaa-1-1")
    stage.world.emit(event(stage, group, rule, identity=identity))
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert stage.ingress(group) == ONLY_443


def test_a_real_session_name_excuses_nothing_on_another_group(stage: Stage) -> None:
    """Session names stand in CloudTrail for all to read: one of ours must not hide what is opened elsewhere."""
    _, session = repaired(stage, "own-excuse")
    other = stage.security_group("own-excused")
    rule = open_quietly(stage, other, SSH)
    identity = role_identity(stage, stage.settings.role("act"), session)
    stage.world.emit(event(stage, other, rule, identity=identity))
    calm(stage)
    stage.world.wait_for(lambda: stage.world.backlog() == 0)
    calm(stage)
    assert "TAMPER_SUSPECTED" in kinds(story(stage, other))


def test_a_port_that_verification_finds_open_is_not_shelved_as_an_event_of_our_own(stage: Stage) -> None:
    """The run revoked a rule and ended; what is opened in its name afterwards is nothing that it ever meant to do."""
    group, session = repaired(stage, "own-unplanned")
    rule = open_quietly(stage, group, SSH)
    identity = role_identity(stage, stage.settings.role("act"), session)
    stage.world.emit(event(stage, group, rule, identity=identity))
    stage.world.wait_for(lambda: len(story(stage, group)) > 4)
    calm(stage)
    assert "TAMPER_SUSPECTED" in kinds(story(stage, group))
    assert cases(stage, group)[-1].state.value == "waiting"


def test_only_the_role_that_acts_is_excused_by_a_session_name(stage: Stage) -> None:
    group, session = repaired(stage, "own-reader")
    rule = open_quietly(stage, group, SSH)
    identity = role_identity(stage, stage.settings.role("read"), session)
    stage.world.emit(event(stage, group, rule, identity=identity))
    stage.world.wait_for(lambda: len(story(stage, group)) > 4)
    calm(stage)
    assert "TAMPER_SUSPECTED" in kinds(story(stage, group))


def test_what_our_own_role_opened_is_not_acted_on_behind_somebody_elses_event(stage: Stage) -> None:
    group = stage.security_group("own-behind")
    rule = open_quietly(stage, group, SSH)
    identity = role_identity(stage, stage.settings.role("act"), "mallory")
    stage.world.emit(event(stage, group, rule, identity=identity))
    stage.await_record(stage.arn(group), "TAMPER_SUSPECTED")
    calm(stage)
    permission = {"IpProtocol": "tcp", "FromPort": SSH, "ToPort": SSH, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    stage.world.client("ec2", stage.developer).authorize_security_group_ingress(
        GroupId=group, IpPermissions=[permission]
    )
    stage.world.wait_for(lambda: len(of(story(stage, group), "DECIDED")) > 1)
    calm(stage)
    assert (SSH, WORLD) in stage.ingress(group)
