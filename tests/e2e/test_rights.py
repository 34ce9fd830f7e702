"""Each right that the deployed roles use is taken away once: nothing is changed, and nothing is lost."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode, Outcome
from chalicelib.flow.command import Redrive, Undo
from local.demo import ACCOUNT_SETTING, WORLD, answer, root_made_a_key, written
from local.emulator import findings
from local.emulator.world import Fault
from local.stage import Stage
from remediations import discover
from tests.e2e.scenes import (
    ONLY_443,
    SSH,
    VISIBILITY_SECONDS,
    broken,
    calm,
    cases,
    chain,
    drain,
    event,
    halves,
    kinds,
    of,
    open_quietly,
    ours,
    receives,
    set_mode,
    story,
    swept_anew,
    waiting,
    without,
    writes,
)

pytestmark = pytest.mark.emulator

POLICIES = Path(__file__).resolve().parents[2] / ".chalice" / "policies"
OPEN = frozenset({(443, WORLD), (SSH, WORLD)})

READ_ELSEWHERE = (
    "ec2:GetManagedPrefixListEntries",
    "ec2:DescribeImageAttribute",
    "ec2:DescribeSnapshotAttribute",
)
"""Read where a prefix list, an image or a snapshot is there to be read about: no scene has one."""

READ_FOR_PEOPLE = ("ec2:DescribeSecurityGroups", "s3:GetBucketTagging")
"""Whom a resource's tags name as its owner: people are told without it, too."""

READ_BY_SWEEPS = ("ec2:DescribeRegions", "s3:ListAllMyBuckets")
ENGINE_QUERIES = (("dynamodb:Query", "-audit"), ("dynamodb:Query", "-cases/index/by_state"))
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
    assert {scene.remediation for scene in SCENES.values()} == {one.id for one in discover()}
    assert {action for action, _ in allowed("act")} == actions(*(scene.writes for scene in SCENES.values()))
    reads = actions(*(scene.reads for scene in SCENES.values()))
    assert {action for action, _ in allowed("read")} == reads | actions(
        READ_FOR_PEOPLE, READ_BY_SWEEPS, READ_ELSEWHERE
    )
    on_tables = {
        (action, resource.rsplit("${Stage}", 1)[-1])
        for action, resource in allowed("engine")
        if "dynamodb" in action
    }
    assert on_tables == {*ENGINE_ON_TABLES, *ENGINE_QUERIES}
    elsewhere = {action for action, _ in allowed("engine") if not action.startswith("dynamodb:")}
    assert elsewhere == set(ENGINE_ELSEWHERE)


# -- the roles in the account -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["ec2:RevokeSecurityGroupIngress"])
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


@pytest.mark.parametrize("action", ["ec2:DescribeSecurityGroupRules"])
def test_without_a_right_to_read_nothing_is_planned_and_that_is_recorded(stage: Stage, action: str) -> None:
    group = stage.security_group(f"rights-read-{time.monotonic_ns()}")
    stage.world.clear_calls()
    with without(stage, "read", action):
        stage.open(group, SSH)
        result = stage.await_record(stage.arn(group), "RESULT")
        calm(stage)
    assert result["data"]["outcome"] == "failed"
    assert "UnauthorizedOperation" in result["data"]["reason"]
    assert kinds(story(stage, group)) == ["RECEIVED", "RESULT", "TICKET_OPENED"]
    assert writes(stage) == []
    assert stage.ingress(group) == OPEN


# -- every remediation, every right -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A violation that the deployment hears of: what reads and writes its repair takes. `begin` names the resource."""

    remediation: str
    begin: Callable[[Stage], str]
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
    ends: CaseState = CaseState.CLOSED


def _opens_a_range(stage: Stage) -> str:
    """A tagged rule that spans 22: the rest of it is to stay, so that a person is asked."""
    group = stage.security_group(f"rights-range-{time.monotonic_ns()}")
    stage.world.client("ec2", quiet=True).create_tags(Resources=[group], Tags=[OWNER])
    permission = {"IpProtocol": "tcp", "FromPort": 20, "ToPort": 25, "IpRanges": [{"CidrIp": WORLD}]}
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "purpose", "Value": "mail"}]}]
    stage.world.client("ec2", stage.developer).authorize_security_group_ingress(
        GroupId=group, IpPermissions=[permission], TagSpecifications=tags
    )
    return stage.arn(group)


def _stops_encrypting(stage: Stage) -> str:
    stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
    stage.world.client("ec2", stage.developer).disable_ebs_encryption_by_default()
    return ACCOUNT_SETTING.format(account=stage.world.account)


def _opens_a_bucket(stage: Stage) -> str:
    """A bucket in which ACLs count: all that may be cut is read, and a person is asked."""
    name = f"rights-{time.monotonic_ns()}"
    resource = stage.bucket(name)
    s3 = stage.world.client("s3", quiet=True)
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [OWNER]})
    acls = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=acls)
    stage.world.client("s3", stage.developer).delete_public_access_block(Bucket=name)
    return resource


def _forgets_a_key(stage: Stage) -> str:
    """A stale key that nobody's event tells of: somebody presses the button in Security Hub."""
    user = stage.user_with_key(f"rights-{time.monotonic_ns()}", age_days=400, used_days_ago=120)
    finding = findings.security_hub(
        stage.world.account, stage.world.region, user.arn, "IAM.22", kind="AwsIamUser"
    )
    stage.world.emit(findings.custom_action(finding))
    return user.arn


def _makes_a_root_key(stage: Stage) -> str:
    stage.world.root_access_key(present=True)
    stage.world.emit(root_made_a_key(stage))
    return ACCOUNT_SETTING.format(account=stage.world.account)


SCENES = {
    "ingress": Scene(
        "ec2_revoke_open_ingress",
        _opens_a_range,
        ("ec2:DescribeSecurityGroupRules",),
        ("ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags", "ec2:RevokeSecurityGroupIngress"),
    ),
    "ebs": Scene(
        "ec2_enable_ebs_encryption_by_default",
        _stops_encrypting,
        (
            "ec2:GetEbsEncryptionByDefault",
            "ec2:GetEbsDefaultKmsKeyId",
            "ec2:DescribeImages",
            "ec2:DescribeSnapshots",
        ),
        ("ec2:EnableEbsEncryptionByDefault",),
    ),
    "bucket": Scene(
        "s3_block_public_access",
        _opens_a_bucket,
        (
            "s3:GetBucketAcl",
            "s3:GetBucketLocation",
            "s3:GetBucketOwnershipControls",
            "s3:GetBucketPolicyStatus",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetBucketWebsite",
        ),
        ("s3:PutBucketPublicAccessBlock",),
    ),
    "key": Scene(
        "iam_deactivate_access_key",
        _forgets_a_key,
        (
            "iam:GenerateCredentialReport",
            "iam:GetAccessKeyLastUsed",
            "iam:GetCredentialReport",
            "iam:GetUser",
            "iam:ListAccessKeys",
        ),
        ("iam:UpdateAccessKey",),
    ),
    "root": Scene(
        "iam_remove_root_access_key",
        _makes_a_root_key,
        ("iam:GetAccountSummary",),
        ends=CaseState.TICKETED,
    ),
}
CHECKED_ELSEWHERE = ("ec2:CreateTags",)
"""A rule's tags are checked within the call that makes the rule; the emulated EC2 does not."""

OWNER = {"Key": "owner", "Value": "team blue"}
MODES = {
    "s3-bucket-public-access-block": Mode.ACT,
    "iam-unused-credentials": Mode.ACT,
    "iam-root-access-key": Mode.TICKET,
}


@pytest.fixture
def everything(stage: Stage) -> Iterator[Stage]:
    """Every control does the most that it may; EBS and root are left as they should be."""
    for control, mode in MODES.items():
        set_mode(stage, mode, control)
    stage.world.clear_calls()
    yield stage
    stage.world.root_access_key(present=False)
    stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
    set_mode(stage, Mode.OBSERVE, *MODES)


def played(stage: Stage, scene: Scene) -> Case:
    """The scene's case once it has come to rest; what a person is asked about is approved."""
    since = datetime.now(UTC)
    resource = scene.begin(stage)
    case = _at_rest(stage, scene, resource, since)
    if case.state is CaseState.WAITING:
        answer(stage, case, stage.approver)
        case = _at_rest(stage, scene, resource, case.updated_at)
    calm(stage)
    return case


def _at_rest(stage: Stage, scene: Scene, resource: str, since: datetime) -> Case:
    found: list[Case] = []

    def rests() -> bool:
        found[:] = [
            case
            for case in stage.ledger.cases()
            if (case.target.resource, case.remediation) == (resource, scene.remediation)
            and case.updated_at > since
            and case.state is not CaseState.RUNNING
        ]
        return bool(found)

    stage.world.wait_for(rests, 25.0, f"{scene.remediation} to be done with {resource}")
    return found[0]


@pytest.mark.parametrize("name", SCENES)
def test_with_every_right_it_ends_well(everything: Stage, name: str) -> None:
    case = played(everything, SCENES[name])
    assert case.state is SCENES[name].ends
    if SCENES[name].writes:
        assert case.outcome is Outcome.FIXED
    assert [call.error for call in ours(everything) if call.status == 403] == []


@pytest.mark.parametrize(
    "name, role, action",
    [
        (name, role, action)
        for name, scene in SCENES.items()
        for role, rights in (("read", scene.reads), ("act", scene.writes))
        for action in rights
        if action not in CHECKED_ELSEWHERE
    ],
)
def test_without_any_one_right_it_is_never_fixed_and_record_and_ticket_say_why(
    everything: Stage, name: str, role: str, action: str
) -> None:
    with without(everything, role, action):
        case = played(everything, SCENES[name])
    assert case.outcome is Outcome.FAILED
    assert case.state is CaseState.OPEN
    last = of(chain(everything, case), "RESULT")[-1]["data"]
    assert last["outcome"] == "failed"
    assert re.search("AccessDenied|UnauthorizedOperation", last["reason"])
    (ticket,) = [ticket for ticket in everything.tickets() if ticket.digest == case.digest]
    assert last["reason"][:400] in ticket.why
    refused = [call for call in ours(everything) if call.role.endswith(f"-{role}") and call.error]
    assert refused
    if role == "read":
        assert written(everything) == []


@pytest.mark.parametrize("name, action", [*zip(("ingress", "bucket"), READ_FOR_PEOPLE, strict=True)])
def test_without_the_right_to_read_tags_only_the_owner_is_not_named(
    everything: Stage, name: str, action: str
) -> None:
    with without(everything, "read", action):
        unnamed = played(everything, SCENES[name])
    named = played(everything, SCENES[name])
    assert [(case.outcome, case.owner) for case in (unnamed, named)] == [
        (Outcome.FIXED, ""),
        (Outcome.FIXED, OWNER["Value"]),
    ]


@pytest.mark.parametrize("action", READ_BY_SWEEPS)
def test_without_a_right_to_look_everywhere_the_sweep_says_what_it_could_not_read(
    everything: Stage, action: str
) -> None:
    with without(everything, "read", action):
        report = swept_anew(everything)
    assert report["unread"]
    for part, reason in report["unread"].items():
        assert part == "regions" or part.startswith("s3_block_public_access/")
        assert re.search("AccessDenied|UnauthorizedOperation", reason)
    assert swept_anew(everything)["unread"] == {}


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
    assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "TICKET_OPENED"]
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
    assert kinds(story(stage, group)) == ["RECEIVED", "RESULT", "TICKET_OPENED"]
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


@pytest.mark.parametrize("action, table", ENGINE_QUERIES)
def test_without_a_right_to_query_what_a_person_asked_for_is_kept_until_it_is_back(
    stage: Stage, action: str, table: str
) -> None:
    """An undo needs the records of the run; an exemption concerns every case of its resource."""
    group = stage.security_group(f"rights-query-{time.monotonic_ns()}")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    (case,) = cases(stage, group)
    drain(stage, "commands-dlq")
    receives(stage, visibility=1, most=2, name="commands")
    stage.world.clear_calls()
    try:
        with without(stage, "engine", action, table):
            if table == "-audit":
                stage.command(Undo(case=case.id, run=1, owner="network team", reason="it cut off the backup"))
            else:
                stage.fire("tick")
            # Both deliveries must have been refused: one that outlived its visibility must not meet the right restored.
            stage.world.wait_for(
                lambda: _refusals(stage) >= 2 and waiting(stage, "commands-dlq") == 1,
                30.0,
                "a dead letter",
            )
        assert kinds(story(stage, group)) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
        stage.world.clear_calls()
        stage.command(Redrive(queue="commands", most=1, reason="the right was restored"))
        if table == "-audit":
            stage.await_case(stage.arn(group), CaseState.WAITING)
        stage.world.wait_for(lambda: _queried(stage), 20.0, "the queries to be made")
        calm(stage)
    finally:
        receives(stage, visibility=VISIBILITY_SECONDS, name="commands")
    assert waiting(stage, "commands-dlq") == 0


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


def _queried(stage: Stage) -> bool:
    return any(call.operation == "Query" and call.status == 200 for call in stage.calls_by("engine"))


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
