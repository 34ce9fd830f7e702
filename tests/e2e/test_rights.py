"""Each right that the deployed roles use is taken away once: nothing is changed, and nothing is lost."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chalicelib.flow.command import Redrive
from local.demo import ACCOUNT_SETTING, WORLD
from local.emulator.world import Fault
from local.stage import Stage
from tests.e2e.scenes import (
    ONLY_443,
    SSH,
    broken,
    calm,
    drain,
    event,
    halves,
    kinds,
    open_quietly,
    ours,
    receives,
    story,
    waiting,
    without,
    writes,
)

pytestmark = pytest.mark.emulator

POLICIES = Path(__file__).resolve().parents[2] / ".chalice" / "policies"
OPEN = frozenset({(443, WORLD), (SSH, WORLD)})

ACT_IN_INGRESS = ("ec2:RevokeSecurityGroupIngress",)
ACT_IN_EBS = ("ec2:EnableEbsEncryptionByDefault",)
ACT_WITH_A_PERSON = ("ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags")
"""What only a plan that a person approved would call: no scene reaches it yet."""

READ_IN_INGRESS = ("ec2:DescribeSecurityGroupRules",)
READ_IN_EBS = (
    "ec2:GetEbsEncryptionByDefault",
    "ec2:GetEbsDefaultKmsKeyId",
    "ec2:DescribeImages",
    "ec2:DescribeSnapshots",
)
READ_ELSEWHERE = (
    "ec2:GetManagedPrefixListEntries",
    "ec2:DescribeImageAttribute",
    "ec2:DescribeSnapshotAttribute",
)
"""Read where a prefix list, an image or a snapshot is there to be read about: no scene has one."""

ENGINE_ON_TABLES = (
    ("dynamodb:BatchGetItem", "-cases"),
    ("dynamodb:BatchGetItem", "-control-state"),
    ("dynamodb:PutItem", "-audit"),
    ("dynamodb:PutItem", "-cases"),
    ("dynamodb:PutItem", "-control-state"),
    ("dynamodb:PutItem", "-outbox"),
)
ENGINE_ELSEWHERE = (
    "sts:AssumeRole",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
)
"""Taken away in tests of their own, or used by Lambda itself and not by our code, which the emulator does not check."""


def allowed(role: str) -> list[tuple[str, str]]:
    """Every action and resource that a generated policy allows."""
    document: dict[str, Any] = json.loads((POLICIES / f"{role}.json").read_text(encoding="utf-8"))
    return [
        (action, resource)
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        for resource in statement["Resource"]
    ]


def actions(*groups: Iterable[str]) -> set[str]:
    return {action for group in groups for action in group}


def test_every_right_of_the_generated_policies_has_its_place_on_this_page() -> None:
    assert {action for action, _ in allowed("act")} == actions(ACT_IN_INGRESS, ACT_IN_EBS, ACT_WITH_A_PERSON)
    assert {action for action, _ in allowed("read")} == actions(READ_IN_INGRESS, READ_IN_EBS, READ_ELSEWHERE)
    on_tables = {
        (action, resource.rsplit("${Stage}", 1)[-1])
        for action, resource in allowed("engine")
        if "dynamodb" in action
    }
    assert on_tables == set(ENGINE_ON_TABLES)
    elsewhere = {action for action, _ in allowed("engine") if not action.startswith("dynamodb:")}
    assert elsewhere == set(ENGINE_ELSEWHERE)


# -- the roles in the account -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACT_IN_INGRESS)
def test_without_a_right_to_write_the_run_has_failed_and_says_so(stage: Stage, action: str) -> None:
    group = stage.security_group(f"rights-act-{time.monotonic_ns()}")
    stage.world.clear_calls()
    with without(stage, "act", action):
        stage.open(group, SSH)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
    assert result["data"]["outcome"] == "failed"
    (refused,) = result["data"]["results"]
    assert "UnauthorizedOperation" in refused["error"]
    assert refused["request_id"]
    assert [call for call in writes(stage) if call.status == 200] == []
    assert stage.ingress(group) == OPEN
    assert halves(story(stage, group)) == set()
    assert broken(stage, group) == []


@pytest.mark.parametrize("action", READ_IN_INGRESS)
def test_without_a_right_to_read_nothing_is_planned_and_that_is_recorded(stage: Stage, action: str) -> None:
    group = stage.security_group(f"rights-read-{time.monotonic_ns()}")
    stage.world.clear_calls()
    with without(stage, "read", action):
        stage.open(group, SSH)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
    assert result["data"]["outcome"] == "failed"
    assert "UnauthorizedOperation" in result["data"]["reason"]
    assert kinds(story(stage, group)) == ["RECEIVED", "RESULT"]
    assert writes(stage) == []
    assert stage.ingress(group) == OPEN


@pytest.mark.parametrize(
    "role, action",
    [*(("act", action) for action in ACT_IN_EBS), *(("read", action) for action in READ_IN_EBS)],
)
def test_without_a_right_the_default_encryption_stays_off_and_that_is_recorded(
    stage: Stage, role: str, action: str
) -> None:
    ec2 = stage.world.client("ec2", quiet=True)
    resource = ACCOUNT_SETTING.format(account=stage.world.account)
    ec2.enable_ebs_encryption_by_default()
    before = len(stage.records(resource, "RESULT"))
    stage.world.clear_calls()
    try:
        with without(stage, role, action):
            stage.world.client("ec2", stage.developer).disable_ebs_encryption_by_default()
            result = stage.await_record(resource, "RESULT", before + 1)
            calm(stage)
        assert result["data"]["outcome"] == "failed"
        assert [call for call in writes(stage) if call.status == 200] == []
        assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    finally:
        ec2.enable_ebs_encryption_by_default()


# -- taking on the roles ----------------------------------------------------------------------------------------------


def test_when_the_acting_role_cannot_be_assumed_the_run_has_failed(stage: Stage) -> None:
    group = stage.security_group("rights-assume-act")
    stage.world.clear_calls()
    with without(stage, "engine", "sts:AssumeRole", stage.settings.role("act")):
        stage.open(group, SSH)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
    assert result["data"]["outcome"] == "failed"
    assert "cannot be assumed; deploy member.yaml there" in result["data"]["reason"]
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert writes(stage) == []
    assert stage.ingress(group) == OPEN


def test_when_the_reading_role_cannot_be_assumed_nothing_is_planned(stage: Stage) -> None:
    group = stage.security_group("rights-assume-read")
    # A warm function holds a session; the right is asked for when it takes the next.
    stage.world.kill_workers(busy_only=False)
    with without(stage, "engine", "sts:AssumeRole", stage.settings.role("read")):
        stage.open(group, SSH)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
    assert result["data"]["outcome"] == "failed"
    assert kinds(story(stage, group)) == ["RECEIVED", "RESULT"]
    assert stage.ingress(group) == OPEN


# -- our own tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action, table", ENGINE_ON_TABLES)
def test_without_a_right_on_our_tables_nothing_is_changed_and_the_event_is_kept_until_it_is_back(
    stage: Stage, action: str, table: str
) -> None:
    _warm(stage)
    drain(stage, "events-dlq")
    receives(stage, visibility=1, most=2)
    group = stage.security_group(f"rights{table}-{time.monotonic_ns()}")
    stage.world.clear_calls()
    with without(stage, "engine", action, table):
        stage.open(group, SSH)
        # Both deliveries must have been refused: one that outlived its visibility must not meet the right restored.
        stage.world.wait_for(
            lambda: _refusals(stage) == 2 and waiting(stage, "events-dlq") == 1,
            40.0,
            "the event among the dead letters",
        )
    assert writes(stage) == []
    assert [
        call for call in ours(stage) if call.session.startswith("redress-") and call.role.endswith("-act")
    ] == []
    assert stage.ingress(group) == OPEN
    assert story(stage, group) == []

    receives(stage, visibility=30)
    stage.command(Redrive(queue="events", most=1, reason="the right was restored"))
    stage.world.wait_for(lambda: stage.ingress(group) == ONLY_443, 40.0, "22 to be closed after all")
    calm(stage)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert broken(stage, group) == []


def test_a_result_that_cannot_be_recorded_is_found_out_later_and_the_write_is_not_repeated(
    stage: Stage,
) -> None:
    """The right to write records goes between the INTENT and the RESULT; the run's lease has to run out first."""
    _warm(stage)
    receives(stage, visibility=3, most=50)
    group = stage.security_group("rights-result")
    stage.world.clear_calls()
    stage.world.faults([Fault("hold", service="sts", operation="AssumeRole", role="engine")])
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "INTENT")
    with without(stage, "engine", "dynamodb:PutItem", "-audit"):
        stage.world.faults([])
        stage.world.wait_for(lambda: stage.ingress(group) == ONLY_443, 20.0, "22 to be closed")
        stage.world.wait_for(lambda: _refusals(stage) > 0, 20.0, "the RESULT to be refused")
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT"]
    calm(stage, 60.0)
    bodies = story(stage, group)
    assert kinds(bodies) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert bodies[-1]["data"]["outcome"] == "fixed"
    assert bodies[-1]["data"]["observed_by"] == "reassessment"
    assert len(writes(stage)) == 1
    assert broken(stage, group) == []


def test_without_the_right_to_hide_a_message_longer_a_second_delivery_still_does_nothing_twice(
    stage: Stage,
) -> None:
    """Only the wait gets worse: a busy target's message comes back after the queue's own time, not the lease's."""
    _warm(stage)
    receives(stage, visibility=2, most=50)
    group = stage.security_group("rights-defer")
    made = event(stage, group, open_quietly(stage, group, SSH))
    stage.world.faults([Fault("hold", service="sts", operation="AssumeRole", role="engine")])
    with without(stage, "engine", "sqs:ChangeMessageVisibility", "-events"):
        stage.world.emit(made)
        stage.await_record(stage.arn(group), "INTENT")
        stage.world.emit(made)
        stage.world.wait_for(lambda: _refused_deferrals(stage), 20.0, "the second delivery to be turned away")
        stage.world.faults([])
        stage.await_record(stage.arn(group), "RESULT")
        calm(stage, 60.0)
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert stage.ingress(group) == ONLY_443


def _refusals(stage: Stage) -> int:
    """Calls to our own tables that were refused for want of a right."""
    return sum(call.service == "dynamodb" and "AccessDenied" in call.error for call in ours(stage))


def _refused_deferrals(stage: Stage) -> bool:
    return any(call.operation == "ChangeMessageVisibility" and call.error for call in ours(stage))


def _warm(stage: Stage) -> None:
    """A worker that holds a read session, so that the next AssumeRole of the engine is the acting one."""
    group = stage.security_group(f"rights-warm-{time.monotonic_ns()}")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
