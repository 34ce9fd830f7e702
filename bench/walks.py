"""The two sides of the walk: the real Engine in this process, and plain boto3 making the same calls.

Both talk to one emulated AWS that enforces IAM, each with a role's session, with clients made beforehand. CloudTrail is
held back meanwhile, so that the deployed engine sleeps and nobody else works on the same machine for us.
"""

import contextlib
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3

from bench import budget
from bench.figures import Versus, versus
from chalicelib import bootstrap
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import SetMode
from chalicelib.flow.pipeline import Engine
from local.demo import authorized
from local.emulator.world import Credentials
from local.stage import Stage

ROOM = "1000"
"""Limits that no repetition reaches; the ledger grows with every run, as it would in a busy hour."""

PARAMETERS = {"LimitPerControl": ROOM, "LimitPerAccount": ROOM, "LimitPerActor": ROOM}
HELD_BACK_SECONDS = 3600.0
WARM_UP = 3
SSH = 22
WORLD = "0.0.0.0/0"
CLAIMS, AUDIT = "bench-claims", "bench-audit"

Event = dict[str, Any]


class UnfinishedError(RuntimeError):
    """A walk did not end as it must, so that its time means nothing."""


@contextlib.contextmanager
def in_role(stage: Stage, name: str) -> Iterator[None]:
    """The environment that Lambda would give a function of that role, with a session of it."""
    settings = stage.settings
    role = f"arn:aws:iam::{settings.account}:role/{settings.role(name)}"
    session = stage.world.assume(role, "bench")
    lambdas = {
        "AWS_ACCESS_KEY_ID": session.access_key_id,
        "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
        "AWS_SESSION_TOKEN": session.session_token or "",
        "AWS_ENDPOINT_URL": stage.world.endpoint,
        "AWS_REGION": settings.region,
        "REDRESS_STAGE": settings.stage,
        "REDRESS_ACCOUNT": settings.account,
        "REDRESS_LIMIT_PER_CONTROL": ROOM,
        "REDRESS_LIMIT_PER_ACCOUNT": ROOM,
        "REDRESS_LIMIT_PER_ACTOR": ROOM,
    }
    before = dict(os.environ)
    os.environ.update(lambdas)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def engine_of(stage: Stage) -> Iterator[Engine]:
    """The engine that `bootstrap` builds, in this process."""
    with in_role(stage, "engine"):
        # Past the cache: this process may have built one for another world.
        yield bootstrap.engine.__wrapped__().engine


def raise_to_act(stage: Stage, control: str) -> None:
    """The operator lets a control act, through the deployed API."""
    stage.command(
        SetMode(control=control, account=stage.world.account, mode=Mode.ACT, reason="to be measured")
    )


# ----------------------------------------------------------------------------------------------------------- the sides


@dataclass(frozen=True)
class Opened:
    """A security group into which port 22 was just let from the world, and CloudTrail's event of it."""

    group: str
    rule: str
    event: Event


def opened(stage: Stage, name: str) -> Opened:
    """Port 22 really open in a fresh group, beside 443. Quietly: the event is ours to deliver."""
    group = stage.security_group(name)
    (rule,) = stage.open(group, SSH, ec2=stage.world.client("ec2", quiet=True))
    return Opened(group, rule, authorized(stage, group, rule))


def encryption_off(stage: Stage, name: str) -> Event:
    """EBS encryption by default really off, and CloudTrail's event of it."""
    stage.world.client("ec2", quiet=True).disable_ebs_encryption_by_default()
    event = authorized(stage, "sg-0", "sgr-0")
    event["id"] = f"{name}-envelope"
    event["detail"] |= {
        "eventName": "DisableEbsEncryptionByDefault",
        "requestParameters": {"DisableEbsEncryptionByDefaultRequest": {}},
        "responseElements": {
            "DisableEbsEncryptionByDefaultResponse": {"requestId": name, "ebsEncryptionByDefault": False}
        },
        "requestID": f"{name}-request",
        "eventID": f"{name}-event",
    }
    return event


def seen_on(stage: Stage, engine: Engine, name: str) -> None:
    """Let the engine see the setting on: what was off when it last looked is nothing that an event switched off."""
    event = encryption_off(stage, f"{name}-before")
    stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
    walked(engine, event, "ignore", "already_compliant")


def walked(engine: Engine, event: Event, verdict: str, outcome: str) -> None:
    """One walk that must end just so."""
    ends = [(one.verdict, one.outcome) for one in engine.walk(event)]
    if ends != [(verdict, outcome)]:
        raise UnfinishedError(f"the walk ended as {ends}, not as {verdict} {outcome}")


class Plain:
    """boto3 as somebody would write it who wants the same: claim, look, ask whose it is, revoke by id, look, record."""

    def __init__(self, stage: Stage) -> None:
        session = stage.session(_plain_role(stage))
        self._ec2 = session.client("ec2")
        self._dynamodb = session.client("dynamodb")

    def repair(self, found: Opened) -> None:
        """The same service calls as the engine's, and the two items without which it would not be comparable."""
        key = {"S": found.event["detail"]["eventID"]}
        self._dynamodb.put_item(
            TableName=CLAIMS, Item={"pk": key}, ConditionExpression="attribute_not_exists(pk)"
        )
        before = self._rules(found.group)
        world = [rule["SecurityGroupRuleId"] for rule in before if _is_open(rule)]
        groups = self._ec2.describe_security_groups(GroupIds=[found.group])["SecurityGroups"]
        whose = [tag for group in groups for tag in group.get("Tags", [])]
        self._ec2.revoke_security_group_ingress(GroupId=found.group, SecurityGroupRuleIds=world)
        after = self._rules(found.group)
        if any(_is_open(rule) for rule in after):
            raise UnfinishedError(f"{found.group} is still open")
        body = json.dumps({"before": before, "after": after, "tags": whose})
        self._dynamodb.put_item(TableName=AUDIT, Item={"pk": key, "body": {"S": body}})

    def _rules(self, group: str) -> list[dict[str, Any]]:
        answer = self._ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
        return [dict(rule) for rule in answer["SecurityGroupRules"]]


def _is_open(rule: dict[str, Any]) -> bool:
    return (
        not rule["IsEgress"] and rule["FromPort"] <= SSH <= rule["ToPort"] and rule.get("CidrIpv4") == WORLD
    )


def _plain_role(stage: Stage) -> Credentials:
    """A session of a role that may do what plain boto3 does, and the two tables that it writes."""
    dynamodb = stage.world.client("dynamodb", quiet=True)
    for table in (CLAIMS, AUDIT):
        dynamodb.create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    statement = {
        "Effect": "Allow",
        "Action": [
            "ec2:DescribeSecurityGroupRules",
            "ec2:DescribeSecurityGroups",
            "ec2:RevokeSecurityGroupIngress",
            "dynamodb:PutItem",
        ],
        "Resource": "*",
    }
    root = {"AWS": f"arn:aws:iam::{stage.world.account}:root"}
    trust = {"Effect": "Allow", "Principal": root, "Action": "sts:AssumeRole"}
    iam = stage.world.client("iam", quiet=True)
    role = iam.create_role(RoleName="bench-plain", AssumeRolePolicyDocument=_policy(trust))["Role"]
    iam.put_role_policy(RoleName="bench-plain", PolicyName="inline", PolicyDocument=_policy(statement))
    return stage.world.assume(role["Arn"], "bench")


def _policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# --------------------------------------------------------------------------------------------------------- what is taken


@dataclass(frozen=True)
class Timed:
    """The two sides in turns: on the clock on the wall, and of this process's own CPU, which waits for nobody."""

    wall: Versus
    cpu: Versus


def in_turns(stage: Stage, engine: Engine, plain: Plain, repetitions: int) -> Timed:
    """`repetitions` pairs after a warm-up, each side first every other time, each on a fresh group."""
    wall: tuple[list[float], list[float]] = ([], [])
    cpu: tuple[list[float], list[float]] = ([], [])
    for turn in range(-WARM_UP, repetitions):
        ours, theirs = opened(stage, f"bench-ours-{turn}"), opened(stage, f"bench-plain-{turn}")
        sides: list[tuple[int, Callable[[], None]]] = [
            (0, lambda found=ours: walked(engine, found.event, "act", "fixed")),  # type: ignore[misc]  # lambdas cannot be annotated
            (1, lambda found=theirs: plain.repair(found)),  # type: ignore[misc]  # lambdas cannot be annotated
        ]
        for side, run in sides if turn % 2 else reversed(sides):
            seconds, worked = _timed(run)
            if turn >= 0:
                wall[side].append(seconds)
                cpu[side].append(worked)
        for found in (ours, theirs):
            if (SSH, WORLD) in stage.ingress(found.group):
                raise UnfinishedError(f"{found.group} is still open")
    return Timed(wall=versus(*wall), cpu=versus(*cpu))


def _timed(run: Callable[[], None]) -> tuple[float, float]:
    gc.collect()
    began, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - worked


def calls_of(stage: Stage, engine: Engine, walk: budget.Walk) -> list[budget.Seen]:
    """Every call of one warm walk of that kind, for a violation that is really there."""
    verdict, outcome = ("act", "fixed") if walk.acts else ("observe", "")
    calls: list[budget.Seen] = []
    for attempt in ("warm-up", "counted"):
        name = f"{walk.control}-{verdict}-{attempt}"
        if walk.control == "ec2-open-ssh":
            event = opened(stage, name).event
        else:
            seen_on(stage, engine, name)
            event = encryption_off(stage, name)
        stage.world.clear_calls()
        walked(engine, event, verdict, outcome)
        calls = [*stage.world.calls()]
    return calls


def deployed_seconds(stage: Stage, repetitions: int) -> list[float]:
    """From the developer's API call to the closed port, through EventBridge, SQS and Lambda, warm."""
    world, reader = stage.world, stage.settings.role("read")
    world.set_delay(0)
    world.wait_for(lambda: world.backlog() == 0, 60, "what was held back to be delivered")
    found: list[float] = []
    for turn in range(-WARM_UP, repetitions):
        group = stage.security_group(f"bench-deployed-{turn}")
        world.clear_calls()
        stage.open(group, SSH)
        seconds: list[float | None] = [None]

        def closed(seconds: list[float | None] = seconds) -> bool:
            seconds[0] = budget.closed_after(
                world.calls(), "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", reader
            )
            return seconds[0] is not None

        world.wait_for(closed, 30, f"{group} to be closed")
        stage.await_record(stage.arn(group), "RESULT")
        if turn >= 0 and seconds[0] is not None:
            found.append(seconds[0])
    return found


def boto3_version() -> str:
    """What both sides stand on."""
    version: str = boto3.__version__
    return version
