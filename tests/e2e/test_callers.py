"""Whoever makes the call, we hear of it: the deployed patterns leave nobody out, and real calls of each kind arrive."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local.emulator.world import Credentials
from local.stage import ANYTHING_IN_EC2, Stage
from tests.e2e.scenes import SSH, as_function, calm, event, role_identity, story

pytestmark = pytest.mark.emulator

SSO_ROLE = "AWSReservedSSO_AdministratorAccess_0123456789abcdef"


def patterns(stage: Stage) -> list[dict[str, Any]]:
    """The patterns of the rules as they are deployed, on both buses."""
    events = stage.world.client("events", quiet=True)
    found: list[dict[str, Any]] = []
    for bus in ("default", stage.settings.prefix):
        rules = events.list_rules(EventBusName=bus, NamePrefix=stage.settings.prefix)["Rules"]
        assert rules, f"the bus {bus} has no rule of ours"
        found += [json.loads(rule["EventPattern"]) for rule in rules if "ScheduleExpression" not in rule]
    return found


def identities(stage: Stage) -> dict[str, dict[str, Any]]:
    account = stage.world.account
    return {
        "root": {"type": "Root", "arn": f"arn:aws:iam::{account}:root", "accountId": account},
        "IAM user": {
            "type": "IAMUser",
            "arn": f"arn:aws:iam::{account}:user/dave",
            "accountId": account,
            "userName": "dave",
        },
        "assumed role": role_identity(stage, "deployer", "github-actions"),
        "Identity Center": role_identity(stage, SSO_ROLE, "erin@example.com"),
        "our own role": role_identity(stage, stage.settings.role("act"), "redress-aaaaaaaaaaaaaaaaaaaa-1-1"),
        "an AWS service": {"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com"},
        "nobody named": {},
    }


@pytest.mark.parametrize(
    "who",
    [
        "root",
        "IAM user",
        "assumed role",
        "Identity Center",
        "our own role",
        "an AWS service",
        "nobody named",
    ],
)
def test_the_deployed_patterns_let_every_caller_through(stage: Stage, who: str) -> None:
    made = event(stage, "sg-0123456789abcdef0", "sgr-0", identity={"type": "placeholder"})
    made["detail"]["userIdentity"] = identities(stage)[who]
    matched = [pattern for pattern in patterns(stage) if stage.world.matches(pattern, made)]
    assert len(matched) == 2, "one rule on each bus"


def test_the_deployed_patterns_pass_no_call_that_failed_and_none_that_nobody_asked_for(stage: Stage) -> None:
    failed = event(stage, "sg-0123456789abcdef0", "sgr-0")
    failed["detail"]["errorCode"] = "Client.UnauthorizedOperation"
    forged = {**event(stage, "sg-0123456789abcdef0", "sgr-0"), "source": "custom.forged"}
    other = event(stage, "sg-0123456789abcdef0", "sgr-0")
    other["detail"]["eventName"] = "DescribeSecurityGroupRules"
    for made in (failed, forged, other):
        assert [pattern for pattern in patterns(stage) if stage.world.matches(pattern, made)] == []


def test_nobody_but_aws_can_tell_us_of_a_call(stage: Stage) -> None:
    """PutEvents takes no source that begins with aws., so a made-up event never matches."""
    everything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "events:*", "Resource": "*"}],
    }
    forger = stage.world.create_user("freddy-forger", everything)
    made = event(stage, "sg-0123456789abcdef0", "sgr-0")
    entry = {
        "Source": made["source"],
        "DetailType": made["detail-type"],
        "Detail": json.dumps(made["detail"]),
    }
    answer = stage.world.client("events", forger).put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 1


# -- one real call each -----------------------------------------------------------------------------------------------


@contextmanager
def as_root(stage: Stage) -> Iterator[Credentials]:
    yield stage.world.root


@contextmanager
def as_user(stage: Stage) -> Iterator[Credentials]:
    yield stage.developer


def _role(stage: Stage, name: str, session: str) -> Credentials:
    iam = stage.world.client("iam", quiet=True)
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": stage.developer.arn}, "Action": "sts:AssumeRole"}
        ],
    }
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="ec2", PolicyDocument=json.dumps(ANYTHING_IN_EC2))
    may = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
    }
    iam.put_user_policy(UserName="dave-developer", PolicyName="assume", PolicyDocument=json.dumps(may))
    try:
        return stage.world.assume(
            f"arn:aws:iam::{stage.world.account}:role/{name}", session, credentials=stage.developer
        )
    finally:
        iam.delete_user_policy(UserName="dave-developer", PolicyName="assume")


@contextmanager
def as_role(stage: Stage) -> Iterator[Credentials]:
    yield _role(stage, "deployer", "github-actions")


@contextmanager
def as_identity_center(stage: Stage) -> Iterator[Credentials]:
    yield _role(stage, SSO_ROLE, "erin@example.com")


@contextmanager
def as_ourselves(stage: Stage) -> Iterator[Credentials]:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role('act')}"
    with as_function(stage, "engine") as engine:
        yield stage.world.assume(arn, "mallory", credentials=engine)


Who = Callable[[Stage], Any]


@pytest.mark.parametrize(
    "who, kind, ended",
    [
        (as_root, "Root", "RESULT"),
        (as_user, "IAMUser", "RESULT"),
        (as_role, "AssumedRole", "RESULT"),
        (as_identity_center, "AssumedRole", "RESULT"),
        (as_ourselves, "AssumedRole", "TAMPER_SUSPECTED"),
    ],
)
def test_a_real_call_of_each_kind_of_caller_is_taken_in_under_its_name(
    stage: Stage, who: Who, kind: str, ended: str
) -> None:
    group = stage.security_group(f"callers-{who.__name__.replace('_', '-')}")
    with who(stage) as credentials:
        stage.open(group, SSH, ec2=stage.world.client("ec2", credentials))
    stage.await_record(stage.arn(group), ended)
    calm(stage)
    (received, *_) = story(stage, group)
    assert received["type"] == "RECEIVED"
    assert received["actor"]["type"] == kind
    assert received["actor"]["arn"] == credentials.arn
