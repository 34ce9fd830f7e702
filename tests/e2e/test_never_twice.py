"""EventBridge delivers at least once, and several things happen to one group at once: nothing is done twice or lost."""

import threading
import time
from typing import Any

import pytest

from chalicelib.domain.contract import Mode
from local.demo import WORLD
from local.emulator.world import Fault
from local.stage import Stage
from tests.e2e.scenes import (
    ONLY_443,
    RDP,
    SSH,
    broken,
    calm,
    cases,
    effective,
    event,
    halves,
    heard,
    kinds,
    of,
    open_quietly,
    receives,
    set_mode,
    story,
)

pytestmark = pytest.mark.emulator

HELD = Fault("hold", service="sts", operation="AssumeRole", role="engine")
"""A warm run stands still between its INTENT and its first write."""


def at_once(*deeds: Any) -> None:
    threads = [threading.Thread(target=deed) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def opened(stage: Stage, group: str, port: int, **ranges: list[dict[str, str]]) -> None:
    """The developer opens a port; `ranges` as EC2 takes them."""
    permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **ranges}
    stage.world.client("ec2", stage.developer).authorize_security_group_ingress(
        GroupId=group, IpPermissions=[permission]
    )


def closed(stage: Stage, group: str) -> None:
    stage.world.wait_for(lambda: stage.ingress(group) == ONLY_443, 40.0, f"{group} to be closed")
    calm(stage, 60.0)


def is_whole(stage: Stage, group: str) -> None:
    """Every run has its INTENT and its RESULT, every chain holds, every case has come to rest."""
    bodies = story(stage, group)
    assert halves(bodies) == set()
    assert broken(stage, group) == []
    assert [case.state.value for case in cases(stage, group)][-1] == "closed"
    assert not any(case.pending for case in cases(stage, group))
    assert {body["data"]["outcome"] for body in of(bodies, "RESULT")} <= {"fixed", "not_verified"}
    assert of(bodies, "RESULT")[-1]["data"]["outcome"] == "fixed"


def test_the_same_event_five_times_at_once_is_one_case_one_run_and_one_write(stage: Stage) -> None:
    group = stage.security_group("twice-same")
    made = event(stage, group, open_quietly(stage, group, SSH))
    at_once(*(lambda: stage.world.emit(made) for _ in range(5)))
    closed(stage, group)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert len(effective(stage, group)) == 1
    is_whole(stage, group)


def test_an_event_delivered_again_after_its_run_changes_nothing(stage: Stage) -> None:
    group = stage.security_group("twice-later")
    made = event(stage, group, open_quietly(stage, group, SSH))
    stage.world.emit(made)
    closed(stage, group)
    rule = open_quietly(stage, group, SSH)
    stage.world.emit(made)
    calm(stage)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert stage.ingress(group) == {(443, WORLD), (SSH, WORLD)}
    stage.world.emit(event(stage, group, rule))
    closed(stage, group)


@pytest.mark.parametrize("number", range(4))
def test_two_ports_opened_at_once_are_both_closed(stage: Stage, number: int) -> None:
    group = stage.security_group(f"twice-ports-{number}")
    anyone = [{"CidrIp": WORLD}]
    at_once(
        lambda: opened(stage, group, SSH, IpRanges=anyone), lambda: opened(stage, group, RDP, IpRanges=anyone)
    )
    closed(stage, group)
    assert len(heard(story(stage, group))) == 2
    is_whole(stage, group)


@pytest.mark.parametrize("number", range(2))
def test_two_rules_on_one_port_opened_at_once_are_both_revoked(stage: Stage, number: int) -> None:
    group = stage.security_group(f"twice-rules-{number}")
    at_once(
        lambda: opened(stage, group, SSH, IpRanges=[{"CidrIp": WORLD}]),
        lambda: opened(stage, group, SSH, Ipv6Ranges=[{"CidrIpv6": "::/0"}]),
    )
    closed(stage, group)
    assert len(heard(story(stage, group))) == 2
    is_whole(stage, group)


@pytest.mark.parametrize("port", [SSH, RDP])
def test_what_is_opened_while_a_run_is_under_way_joins_it_and_is_closed_by_the_next(
    stage: Stage, port: int
) -> None:
    _warm(stage)
    group = stage.security_group(f"twice-joins-{port}")
    stage.world.faults([HELD])
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "INTENT")
    opened(stage, group, port, Ipv6Ranges=[{"CidrIpv6": "::/0"}])
    stage.await_record(stage.arn(group), "JOINED")
    stage.world.faults([])
    closed(stage, group)
    bodies = story(stage, group)
    assert kinds(bodies).count("INTENT") == 2
    assert len(effective(stage, group)) == 2
    assert len(cases(stage, group)) == 1
    is_whole(stage, group)


def test_six_groups_at_once_are_six_runs(stage: Stage) -> None:
    groups = [stage.security_group(f"twice-many-{number}") for number in range(6)]
    at_once(*(lambda group=group: stage.open(group, SSH) for group in groups))
    for group in groups:
        closed(stage, group)
        assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
        is_whole(stage, group)


def test_a_control_of_a_lower_mode_is_not_lost_when_the_function_dies_between_the_two(stage: Stage) -> None:
    """One event opens 22, which may be repaired, and 3389, about which a person is to be asked."""
    set_mode(stage, Mode.ASK, "ec2-open-rdp")
    try:
        _warm(stage)
        receives(stage, visibility=2)
        group = stage.security_group("twice-lower")
        stage.world.faults(
            [Fault("kill_after", service="dynamodb", operation="TransactWriteItems", role="engine", nth=2)]
        )
        anyone = [{"CidrIp": WORLD}]
        stage.world.client("ec2", stage.developer).authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": anyone}
                for port in (SSH, RDP)
            ],
        )
        stage.await_record(stage.arn(group), "RESULT")
        stage.world.faults([])
        calm(stage)
        assert stage.ingress(group) == {(443, WORLD), (RDP, WORLD)}
        asked = [body for body in of(story(stage, group), "DECIDED") if body["data"]["verdict"] == "ask"]
        assert [body["controls"] for body in asked] == [["ec2-open-rdp"]]
    finally:
        set_mode(stage, Mode.ACT, "ec2-open-rdp")


def _warm(stage: Stage) -> None:
    """A worker that holds a read session, so that the next AssumeRole of the engine is the acting one."""
    group = stage.security_group(f"twice-warm-{time.monotonic_ns()}")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
