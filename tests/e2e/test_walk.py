"""One event's walk through the deployment: what it changes, what it records, and how little it calls."""

import statistics
import time
from collections import Counter
from collections.abc import Callable

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.record import Head
from local.demo import WORLD, seconds_between
from local.stage import Stage
from tests.e2e.scenes import (
    ONLY_443,
    RDP,
    SSH,
    broken,
    calm,
    cases,
    chain,
    effective,
    kinds,
    of,
    ours,
    set_mode,
    story,
    walked,
    writes,
)

pytestmark = pytest.mark.emulator

Figures = Callable[[str, object], None]


def test_a_fresh_deployment_changes_nothing_until_a_person_raises_the_control(fresh: Stage) -> None:
    group = fresh.security_group("walk-fresh")
    fresh.world.clear_calls()
    fresh.open(group, SSH)
    fresh.open(group, RDP)
    fresh.await_record(fresh.arn(group), "DECIDED", 2)
    calm(fresh)
    decided = of(story(fresh, group), "DECIDED")
    assert [(one["data"]["verdict"], one["data"]["rule"]) for one in decided] == [
        ("observe", "observing")
    ] * 2
    assert [call["operation"] for call in decided[0]["data"]["plan"]["calls"]] == [
        "RevokeSecurityGroupIngress"
    ]
    assert writes(fresh) == []
    assert {call.role for call in ours(fresh)} == {fresh.settings.role("engine"), fresh.settings.role("read")}

    set_mode(fresh, Mode.ACT, "ec2-open-ssh")
    raised = fresh.security_group("walk-raised")
    fresh.open(raised, SSH)
    result = fresh.await_record(fresh.arn(raised), "RESULT")
    calm(fresh)
    assert result["data"]["outcome"] == "fixed"
    assert fresh.ingress(raised) == ONLY_443
    # What was there before the control was raised is not swept up behind it.
    assert fresh.ingress(group) == {(443, WORLD), (SSH, WORLD), (RDP, WORLD)}
    assert [case.state.value for case in cases(fresh, group)] == ["open"]


def test_the_four_records_stand_on_one_chain_whose_end_the_case_names(stage: Stage) -> None:
    group = stage.security_group("walk-chain")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    (case,) = cases(stage, group)
    stored = list(stage.ledger.case_records(case.id))
    assert kinds(chain(stage, case)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert case.head == Head(seq=4, hash=stored[-1].hash)
    assert broken(stage, group) == []
    assert case.state.value == "closed"
    assert not case.pending


def test_the_result_names_the_request_that_aws_answered_and_the_rule_it_revoked(stage: Stage) -> None:
    group = stage.security_group("walk-request")
    stage.world.clear_calls()
    (rule,) = stage.open(group, SSH)
    result = stage.await_record(stage.arn(group), "RESULT")
    (revoke,) = effective(stage, group)
    assert revoke.operation == "RevokeSecurityGroupIngress"
    assert [done["request_id"] for done in result["data"]["results"]] == [revoke.request_id]
    assert revoke.session == result["data"]["session"]
    (intent,) = of(story(stage, group), "INTENT")
    (call,) = intent["data"]["plan"]["calls"]
    assert call["params"] == {"GroupId": group, "SecurityGroupRuleIds": [rule]}
    assert {one["id"] for one in intent["data"]["before"]["rules"]} - {
        one["id"] for one in result["data"]["after"]["rules"]
    } == {rule}


def test_a_warm_walk_keeps_to_its_budget_of_calls(stage: Stage, record_property: Figures) -> None:
    _warm(stage)
    seconds, recorded, counted = [], [], Counter[tuple[str, str]]()
    for number in range(7):
        group = stage.security_group(f"walk-budget-{number}")
        stage.world.clear_calls()
        began = time.monotonic()
        stage.open(group, SSH)
        stage.world.wait_for(lambda group=group: stage.ingress(group) == ONLY_443, 25.0, "22 to be closed")  # type: ignore[misc]  # bound at once
        seconds.append(time.monotonic() - began)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
        (received,) = of(story(stage, group), "RECEIVED")
        recorded.append(seconds_between(received["recorded_at"], result["recorded_at"]))
        made = walked(stage)
        by_service = Counter(call.service for call in made)
        wrote = len(effective(stage, group))
        assert wrote == 1
        assert by_service["dynamodb"] <= 3 + wrote
        assert by_service["ec2"] <= 3 + wrote  # to assess, to know whose it is, to verify
        assert [call.operation for call in made if call.service == "sts"] == ["AssumeRole"]
        assert set(by_service) <= {"dynamodb", "ec2", "sts"}
        counted = Counter((call.service, call.operation) for call in made)
    record_property("seconds from the call to the closed port, median of 7", statistics.median(seconds))
    record_property("seconds from RECEIVED to RESULT, median of 7", statistics.median(recorded))
    record_property("calls of a warm acting walk", {" ".join(key): count for key, count in counted.items()})


def test_a_walk_that_does_not_act_assumes_no_role(stage: Stage, record_property: Figures) -> None:
    _warm(stage)
    set_mode(stage, Mode.OBSERVE, "ec2-open-rdp")
    try:
        group = stage.security_group("walk-observing")
        stage.world.clear_calls()
        stage.open(group, RDP)
        stage.await_record(stage.arn(group), "DECIDED")
        calm(stage)
        made = ours(stage)
    finally:
        set_mode(stage, Mode.ACT, "ec2-open-rdp")
    by_service = Counter(call.service for call in made)
    assert by_service["sts"] == 0
    assert by_service["dynamodb"] <= 3
    assert by_service["ec2"] <= 2
    assert stage.ingress(group) == {(443, WORLD), (RDP, WORLD)}
    record_property("calls of a warm walk that observes", dict(by_service))


def test_an_event_that_asks_nothing_of_us_costs_one_write_and_reads_no_resource(stage: Stage) -> None:
    group = stage.security_group("walk-harmless")
    stage.world.clear_calls()
    stage.open(group, 8443)
    stage.world.wait_for(lambda: ours(stage), 20.0, "the event to be taken in")
    calm(stage)
    assert [(call.service, call.operation) for call in ours(stage)] == [("dynamodb", "PutItem")]
    assert cases(stage, group) == []


def _warm(stage: Stage) -> None:
    group = stage.security_group(f"walk-warm-{time.monotonic_ns()}")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
