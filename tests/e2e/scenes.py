"""What the end-to-end tests do and look at: events made by hand, a case's whole chain, a role without one right."""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from chalicelib.domain.ports import FREEZE_ALL
from chalicelib.domain.record import broken_at
from chalicelib.flow.command import Exempt, ReasonCode, ResetBreaker, SetFreeze, SetMode, StartSweep
from local.demo import WORLD, authorized, swept
from local.emulator.world import Credentials, SeenCall
from local.stage import Stage

LEASE_SECONDS = 26
"""The shortest that leaves six seconds for a run: the engine starts no call that could outlive the lease by 20 s."""

VISIBILITY_SECONDS = 75
"""How long our queues hide a message that was received, where a test says nothing else: longer than a lease."""

HIDDEN_SECONDS = 3600
"""Longer than any test: what died comes back when `redelivered` says so, however slow the machine is."""

CONTROLS = ("ec2-open-ssh", "ec2-open-rdp", "ebs-default-encryption")
SSH, RDP = 22, 3389
ONLY_443 = frozenset({(443, WORLD)})
READS = ("Describe", "Get", "List")


# -- people -----------------------------------------------------------------------------------------------------------


def set_mode(stage: Stage, mode: Mode, *controls: str) -> None:
    for control in controls:
        stage.command(
            SetMode(control=control, account=stage.world.account, mode=mode, reason="a test wants it")
        )


def exempt(
    stage: Stage, group: str, control: str = "ec2-open-ssh", lasts: timedelta = timedelta(days=7)
) -> Exempt:
    """The command that takes a group out of what the control demands."""
    return Exempt(
        resource=stage.arn(group),
        control=control,
        account=stage.world.account,
        owner="the bastion's team",
        code=ReasonCode.ACCEPTED_RISK,
        reason="a bastion",
        expires_at=datetime.now(UTC) + lasts,
    )


def freeze(stage: Stage, *, on: bool = True) -> None:
    stage.command(SetFreeze(on=on, reason="a test stops everything"))


def thaw(stage: Stage) -> None:
    """Nothing is frozen any more, if anything was."""
    if any(switch.scope == FREEZE_ALL and switch.frozen for switch in stage.ledger.freezes()):
        freeze(stage, on=False)


def swept_anew(stage: Stage) -> dict[str, Any]:
    """What a sweep reports that begins now."""
    before = {sweep.id for sweep in stage.ledger.sweeps()}
    stage.command(StartSweep(reason="a test wants to see everything"))
    stage.world.wait_for(
        lambda: {sweep.id for sweep in stage.ledger.sweeps()} != before, 20.0, "a sweep to begin"
    )
    report = swept(stage)
    calm(stage)
    return report


def mended(stage: Stage) -> None:
    """Nothing is held against any control any more, whatever went wrong on purpose."""
    for breaker in stage.ledger.breakers():
        if breaker.misses:
            stage.command(
                ResetBreaker(control=breaker.control, account=breaker.account, reason="a test broke it")
            )


# -- queues -----------------------------------------------------------------------------------------------------------


def waiting(stage: Stage, name: str = "events") -> int:
    """Messages of one of our queues, in somebody's hands or not."""
    return stage.depth(name, whole=True)


def calm(stage: Stage, seconds: float = VISIBILITY_SECONDS + 30.0) -> None:
    """Return once no event is under way and every message has been dealt with, those to people too.

    Whoever tells people may have been killed as well: then that message comes back after the queue's own time.
    """
    stage.at_rest(seconds)


def receives(stage: Stage, *, visibility: int, most: int = 5, name: str = "events") -> None:
    """How long a queue hides a message that was received, and how often it shows it."""
    sqs = stage.world.client("sqs", quiet=True)
    dead = stage.queue_url(f"{name}-dlq")
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": most})
    attributes = {"VisibilityTimeout": str(visibility), "RedrivePolicy": redrive}
    sqs.set_queue_attributes(QueueUrl=stage.queue_url(name), Attributes=attributes)


def redelivered(stage: Stage, *names: str) -> None:
    """The messages whose runs have died come back, once none of those runs holds a lease any more."""
    time.sleep(LEASE_SECONDS)
    sqs = stage.world.client("sqs", quiet=True)
    for name in names:
        receives(stage, visibility=VISIBILITY_SECONDS, name=name)
        url = stage.queue_url(name)
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        stage.world.show_again(found["Attributes"]["QueueArn"])


def send(stage: Stage, name: str, *bodies: str) -> None:
    """Put messages on one of our queues as the engine does: its queues admit nobody else."""
    with as_function(stage, "engine") as engine:
        sqs = stage.world.client("sqs", engine, quiet=True)
        for body in bodies:
            sqs.send_message(QueueUrl=stage.queue_url(name), MessageBody=body)


def peek(stage: Stage, name: str) -> dict[str, str]:
    """The messages that a queue shows, by id, left where they are."""
    sqs, url = stage.world.client("sqs", quiet=True), stage.queue_url(name)
    found: dict[str, str] = {}
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=30).get(
        "Messages"
    ):
        for message in messages:
            found[message["MessageId"]] = message["Body"]
            found[f"handle of {message['MessageId']}"] = message["ReceiptHandle"]
    for key in [key for key in found if key.startswith("handle of ")]:
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=found.pop(key), VisibilityTimeout=0)
    return found


def drain(stage: Stage, name: str) -> None:
    stage.world.client("sqs", quiet=True).purge_queue(QueueUrl=stage.queue_url(name))


# -- what is written --------------------------------------------------------------------------------------------------


def cases(stage: Stage, group: str) -> list[Case]:
    """The cases of a group, the earliest episode first."""
    return sorted(
        (case for case in stage.ledger.cases() if case.target.id == group), key=lambda case: case.episode
    )


def chain(stage: Stage, case: Case) -> list[dict[str, Any]]:
    """The bodies of a case's records in the order of its chain."""
    return [json.loads(record.body) for record in stage.ledger.case_records(case.id)]


def story(stage: Stage, group: str) -> list[dict[str, Any]]:
    """Every record of every case of a group, episode by episode."""
    return [body for case in cases(stage, group) for body in chain(stage, case)]


def kinds(bodies: list[dict[str, Any]]) -> list[str]:
    return [body["type"] for body in bodies]


def of(bodies: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [body for body in bodies if body["type"] == kind]


def broken(stage: Stage, group: str) -> list[str]:
    """Why the chains of a group's cases do not hold up to the head that each case names; empty when they do."""
    reasons = []
    for case in cases(stage, group):
        stored = [(record.body, record.hash) for record in stage.ledger.case_records(case.id)]
        reason = broken_at(stored, case.head)
        if reason:
            reasons.append(f"{case.id}: {reason}")
    return reasons


def halves(bodies: list[dict[str, Any]]) -> set[tuple[str, int]]:
    """Runs (chain and number) that have an INTENT and no RESULT, or the reverse, or more than one of either."""
    began = [(body["chain"], body["data"]["run"]) for body in of(bodies, "INTENT")]
    ended = [(body["chain"], body["data"]["run"]) for body in of(bodies, "RESULT") if "run" in body["data"]]
    return {run for run in {*began, *ended} if began.count(run) != 1 or ended.count(run) != 1}


def heard(bodies: list[dict[str, Any]]) -> set[str]:
    """The events that the cases have taken in, by id."""
    return {body["source"].split("/")[0] for body in bodies if body["type"] in {"RECEIVED", "JOINED"}}


# -- what is called ---------------------------------------------------------------------------------------------------


def ours(stage: Stage) -> list[SeenCall]:
    """Every call of every role of this deployment since the log was cleared."""
    return [call for call in stage.world.calls() if call.role.startswith(stage.settings.prefix)]


def walked(stage: Stage) -> list[SeenCall]:
    """The same, without the roles that tell people of it afterwards."""
    telling = {stage.settings.role("outbox"), stage.settings.role("notifier")}
    return [call for call in ours(stage) if call.role not in telling]


def writes(stage: Stage) -> list[SeenCall]:
    """Calls that any of our roles made to change something in EC2, answered or not."""
    return [call for call in ours(stage) if call.service == "ec2" and not call.operation.startswith(READS)]


def effective(stage: Stage, group: str) -> list[SeenCall]:
    """The writes in EC2 that went through, by the sessions of a group's cases."""
    sessions = tuple(f"redress-{case.id}-" for case in cases(stage, group))
    return [call for call in writes(stage) if call.status == 200 and call.session.startswith(sessions or "-")]


# -- events -----------------------------------------------------------------------------------------------------------


def event(
    stage: Stage,
    group: str,
    rule: str,
    *,
    port: int = SSH,
    name: str = "",
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """CloudTrail's event of an opened port, as another or under another name if wanted."""
    made = copy.deepcopy(authorized(stage, group, rule))
    detail, suffix = made["detail"], name or rule
    made["id"], detail["eventID"] = f"{group}-{suffix}-envelope", f"{group}-{suffix}-event"
    detail["requestID"] = f"{group}-{suffix}-request"
    for place in (
        detail["requestParameters"]["ipPermissions"]["items"][0],
        detail["responseElements"]["securityGroupRuleSet"]["items"][0],
    ):
        place["fromPort"] = place["toPort"] = port
    if identity:
        detail["userIdentity"] = dict(identity)
    return made


def role_identity(stage: Stage, role: str, session: str) -> dict[str, Any]:
    """`userIdentity` of a session of a role in the home account."""
    account = stage.world.account
    return {
        "type": "AssumedRole",
        "principalId": f"AROAEXAMPLE:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
        "accountId": account,
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "arn": f"arn:aws:iam::{account}:role/{role}",
                "accountId": account,
                "userName": role,
            }
        },
    }


def open_quietly(stage: Stage, group: str, port: int) -> str:
    """Open a port without anybody being told: the event is made by hand afterwards. The rule's id."""
    (rule,) = stage.open(group, port, ec2=stage.world.client("ec2", quiet=True))
    return rule


# -- rights -----------------------------------------------------------------------------------------------------------


@contextmanager
def without(stage: Stage, role: str, action: str, resource: str = "") -> Iterator[None]:
    """The deployed role has no `action` any more, on resources that end in `resource` or on any; put back afterwards."""
    iam, name = stage.world.client("iam", quiet=True), stage.settings.role(role)
    granted = iam.get_role_policy(RoleName=name, PolicyName="granted")["PolicyDocument"]
    reduced = _reduced(granted, action, resource)
    if reduced == granted:
        raise AssertionError(f"{name} has no {action} on …{resource} to be taken away")
    iam.put_role_policy(RoleName=name, PolicyName="granted", PolicyDocument=json.dumps(reduced))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=name, PolicyName="granted", PolicyDocument=json.dumps(granted))


def _reduced(granted: dict[str, Any], action: str, resource: str) -> dict[str, Any]:
    kept: list[dict[str, Any]] = []
    for statement in granted["Statement"]:
        hit = [one for one in statement["Resource"] if one.endswith(resource)]
        if statement["Effect"] != "Allow" or action not in statement["Action"] or not hit:
            kept.append(statement)
            continue
        others = [one for one in statement["Action"] if one != action]
        elsewhere = [one for one in statement["Resource"] if one not in hit]
        kept += [{**statement, "Action": others}] if others else []
        kept += [{**statement, "Sid": "Rest", "Action": [action], "Resource": elsewhere}] if elsewhere else []
    return {**granted, "Statement": kept}


@contextmanager
def as_function(stage: Stage, role: str) -> Iterator[Credentials]:
    """The credentials of a role that only Lambda may take on: its trust is lent to root for that one moment."""
    iam, name = stage.world.client("iam", quiet=True), stage.settings.role(role)
    trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    principal = {"AWS": f"arn:aws:iam::{stage.world.account}:root"}
    lent = {**trust, "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}
    user = stage.world.create_user(
        f"lent-{role}-{time.monotonic_ns()}",
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
        },
    )
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(lent))
    try:
        given = stage.world.assume(
            f"arn:aws:iam::{stage.world.account}:role/{name}", "redress-function", credentials=user
        )
    finally:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    yield given
