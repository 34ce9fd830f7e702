"""`make demo`: watch one event walk through a real deployment on an emulated AWS, scene by scene.

Ends with exit code 0 only if every scene ended as it should; what is shown was read back from the resource and from
the audit trail, never remembered.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, update_wrapper
from http import HTTPStatus
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from chalicelib.cli.api import ApiError
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.record import broken_at
from chalicelib.flow.command import AnswerAsk, SetMode, StartSweep, Undo
from chalicelib.flow.desk import CommandResult
from local import shell
from local.emulator import findings
from local.emulator.world import Credentials, SeenCall
from local.stage import BLOCKS, Stage
from local.town import PEOPLE, SECURITY, Town
from local.visitor import Visitor

WORLD, WORLD_V6 = "0.0.0.0/0", "::/0"
REGIONS = ("us-east-1", "eu-west-1")
"""Switched on in the emulated account, so that a sweep is as short as a look at it."""
ACCOUNT_SETTING = "AWS::::Account:{account}"


@dataclass(frozen=True)
class Row:
    """One scene as it ended."""

    scene: str
    what: str
    decision: str
    outcome: str
    seconds: float
    ended_well: bool
    detail: str = ""


def seconds_between(earlier: str, later: str) -> float:
    """From one stored time to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def only_observes(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 0: freshly deployed, it sees an open port and changes nothing."""
    group = stage.security_group("demo-fresh")
    say(f"dave-developer opens port 22 of {group} to the world")
    began = time.monotonic()
    stage.open(group, 22)
    decided = stage.await_record(stage.arn(group), "DECIDED")
    took = time.monotonic() - began
    writes = [call for call in stage.calls_by("act") if call.service == "ec2"]
    says = decided["data"]
    still = (22, WORLD) in stage.ingress(group)
    would = [call["operation"] for call in says["plan"]["calls"]]
    return Row(
        "0 fresh deployment",
        "port 22 opened to the world",
        says["verdict"],
        f"untouched; planned {', '.join(would)}",
        took,
        says["verdict"] == "observe" and still and not writes and would == ["RevokeSecurityGroupIngress"],
    )


def closes(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 1: the control may act, the same attack is closed again, the neighbour rule stays."""
    for control in ("ec2-open-ssh", "ebs-default-encryption"):
        set_mode(stage, say, control, Mode.ACT)
    group = stage.security_group("demo-attacked")
    say(f"dave-developer opens port 22 of {group} to the world")
    began = time.monotonic()
    stage.open(group, 22)
    stage.world.wait_for(lambda: (22, WORLD) not in stage.ingress(group), 25.0, "port 22 to be closed")
    took = time.monotonic() - began
    result = stage.await_record(stage.arn(group), "RESULT")
    left = stage.ingress(group)
    tell(stage, stage.arn(group), say)
    return Row(
        "1 open SSH",
        "port 22 opened beside 443",
        stage.records(stage.arn(group), "DECIDED")[-1]["data"]["verdict"],
        result["data"]["outcome"],
        took,
        result["data"]["outcome"] == "fixed" and left == {(443, WORLD)},
        "443 untouched",
    )


def tell(stage: Stage, resource: str, say: Callable[[str], None]) -> None:
    """What the log says about a run: who, what was there, what was done, what is there now."""
    bodies = {body["type"]: body for body in stage.records(resource)}
    received, intent, result = bodies["RECEIVED"], bodies["INTENT"], bodies["RESULT"]
    say(f"  who     {received['actor']['arn']} ({received['data']['event']})")
    say(f"  before  {rules(intent['data']['before'])}")
    for call in intent["data"]["plan"]["calls"]:
        say(f"  did     {call['service']}:{call['operation']}: {call['why']}")
    say(f"  after   {rules(result['data']['after'])}")
    say(
        f"  proof   AWS request id {result['data']['results'][0]['request_id']}, record {result['record_id']}"
    )


def rules(state: dict[str, Any]) -> str:
    """The ingress rules of a recorded state in one line."""
    return ", ".join(
        f"{rule['protocol']}/{rule['from_port']} from {rule.get('cidr') or rule.get('cidr_v4') or rule.get('cidr_v6')}"
        for rule in state["rules"]
    )


def restores_encryption(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 2: EBS encryption by default is switched off, and is on again."""
    stage.world.client("ec2", quiet=True).enable_ebs_encryption_by_default()
    ec2 = stage.world.client("ec2", stage.developer)
    say("dave-developer switches EBS encryption by default off")
    began = time.monotonic()
    ec2.disable_ebs_encryption_by_default()
    resource = ACCOUNT_SETTING.format(account=stage.world.account)
    result = stage.await_record(resource, "RESULT")
    took = time.monotonic() - began
    on = ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
    return Row(
        "2 EBS encryption",
        "default encryption switched off",
        stage.records(resource, "DECIDED")[-1]["data"]["verdict"],
        result["data"]["outcome"],
        took,
        result["data"]["outcome"] == "fixed" and on is True,
        "on again",
    )


def five_times(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 3: EventBridge delivers at least once; the same event five times is one case and one run."""
    group = stage.security_group("demo-repeated")
    ec2 = stage.world.client("ec2", quiet=True)
    (rule,) = stage.open(group, 22, ec2=ec2)
    event = authorized(stage, group, rule)
    say("one event, delivered five times at once")
    before = len(revocations(stage))
    began = time.monotonic()
    for _ in range(5):
        stage.world.emit(event)
    resource = stage.arn(group)
    result = stage.await_record(resource, "RESULT")
    took = time.monotonic() - began
    time.sleep(1.5)
    kinds = [body["type"] for body in stage.records(resource)]
    writes = len(revocations(stage)) - before
    once = all(kinds.count(kind) == 1 for kind in ("RECEIVED", "DECIDED", "INTENT", "RESULT"))
    case = next(case for case in stage.ledger.cases() if case.target.resource == resource)
    chain = [(record.body, record.hash) for record in stage.ledger.case_records(case.id)]
    whole = broken_at(chain, case.head) is None
    return Row(
        "3 delivered ×5",
        "the same event five times",
        "act",
        result["data"]["outcome"],
        took,
        once and whole and writes == 1 and stage.ingress(group) == {(443, WORLD)},
        f"{writes} write, {len(kinds)} records, chain holds" if whole else "the chain does not hold",
    )


def revocations(stage: Stage) -> list[SeenCall]:
    """Every revoke that the acting role has made so far."""
    return [call for call in stage.calls_by("act") if call.operation == "RevokeSecurityGroupIngress"]


def authorized(stage: Stage, group: str, rule: str) -> dict[str, Any]:
    """CloudTrail's event of an AuthorizeSecurityGroupIngress, as EventBridge would deliver it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    account, region = stage.world.account, stage.world.region
    item = {
        "groupOwnerId": account,
        "groupId": group,
        "securityGroupRuleId": rule,
        "isEgress": False,
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "cidrIpv4": WORLD,
    }
    permission = {
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "groups": {},
        "ipRanges": {"items": [{"cidrIp": WORLD}]},
        "ipv6Ranges": {},
        "prefixListIds": {},
    }
    return {
        "version": "0",
        "id": f"{group}-envelope",
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.ec2",
        "account": account,
        "time": now,
        "region": region,
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "IAMUser",
                "arn": stage.developer.arn,
                "accountId": account,
                "userName": "dave-developer",
            },
            "eventTime": now,
            "eventSource": "ec2.amazonaws.com",
            "eventName": "AuthorizeSecurityGroupIngress",
            "awsRegion": region,
            "requestParameters": {"groupId": group, "ipPermissions": {"items": [permission]}},
            "responseElements": {"_return": True, "securityGroupRuleSet": {"items": [item]}},
            "requestID": f"{group}-request",
            "eventID": f"{group}-event",
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
        },
    }


# -- people, sweeps and findings --------------------------------------------------------------------------------------


def first_sweep(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 4: the first sweep is a baseline: it reports what stands there already, once, and asks nobody."""
    ec2 = stage.world.client("ec2", quiet=True)
    group = stage.security_group("demo-inherited")
    for port in (22, 3389):
        stage.open(group, port, ec2=ec2)
    bucket = "demo-inherited"
    stage.bucket(bucket)
    stage.world.client("s3", quiet=True).delete_public_access_block(Bucket=bucket)
    stage.user_with_key("demo-forgotten", age_days=700, used_days_ago=500)
    stage.world.root_access_key(present=True)
    say(
        "there before us: 22 and 3389 open, a bucket not blocked, EBS off in eu-west-1, a stale key, a root key"
    )
    asked, tickets, writes = len(stage.waiting()), len(stage.tickets()), len(written(stage))
    began = time.monotonic()
    say(f"olga-operator: redress sweep → {stage.command(StartSweep(reason='see what is there')).says}")
    failing = swept(stage)["failing"]
    took = time.monotonic() - began
    stage.world.root_access_key(present=False)
    say("the root key is deleted by hand")
    reports = [body for body in notices(stage) if body["kind"] == "baseline_report"]
    quiet = (len(stage.waiting()), len(stage.tickets()), len(written(stage))) == (asked, tickets, writes)
    every = {"ec2-open-ssh", "ec2-open-rdp", "ebs-default-encryption", "s3-bucket-public-access-block"}
    every |= {"iam-unused-credentials", "iam-root-access-key"}
    return Row(
        "4 first sweep",
        "every control fails somewhere",
        "observe",
        f"{len(reports)} baseline report, {len(failing)} controls",
        took,
        quiet and len(reports) == 1 and failing.keys() == every,
        "no write, ask or ticket" if quiet else "NOT quiet",
    )


def blocks_the_bucket(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 5: a bucket's public access block is deleted, and all four settings are on again."""
    set_mode(stage, say, "s3-bucket-public-access-block", Mode.ACT)
    bucket = "demo-invoices"
    resource = stage.bucket(bucket)
    stage.world.client("s3", quiet=True).put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    )
    say(f"dave-developer deletes the public access block of {bucket}")
    began = time.monotonic()
    stage.world.client("s3", stage.developer).delete_public_access_block(Bucket=bucket)
    result = stage.await_record(resource, "RESULT")
    took = time.monotonic() - began
    block = stage.pab(bucket)
    return Row(
        "5 open bucket",
        "public access block deleted",
        stage.records(resource, "DECIDED")[-1]["data"]["verdict"],
        result["data"]["outcome"],
        took,
        result["data"]["outcome"] == "fixed" and block == dict.fromkeys(BLOCKS, True),
        f"{sum(block.values())} of {len(BLOCKS)} settings on",
    )


def approves(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 6: a sweep finds a key that nobody used for 120 days, and it waits until somebody approves."""
    set_mode(stage, say, "iam-unused-credentials", Mode.ASK)
    user = stage.user_with_key("demo-batch", age_days=400, used_days_ago=120)
    iam = stage.world.client("iam", quiet=True)
    sibling = iam.create_access_key(UserName="demo-batch")["AccessKey"]["AccessKeyId"]
    say("demo-batch has a key that was last used 120 days ago, and a fresh one; the daily sweep is due")
    began = time.monotonic()
    stage.fire("sweep")
    case = stage.await_case(user.arn, CaseState.WAITING)
    waited = stage.key_status("demo-batch")[user.access_key_id]
    turned_away = refused(stage, case, stage.developer)
    say(f"dave-developer: redress approve → {turned_away}")
    say(f"anna-approver: redress approve → {answer(stage, case, stage.approver).says}")
    result = stage.await_record(user.arn, "RESULT")
    took = time.monotonic() - began
    status = stage.key_status("demo-batch")
    by = stage.records(user.arn, "INTENT")[-1]["data"]["approved_by"]
    left = {user.access_key_id: "Inactive", sibling: "Active"}
    return Row(
        "6 stale key",
        "unused for 120 days",
        "ask",
        result["data"]["outcome"],
        took,
        (waited, status, by) == ("Active", left, stage.approver.arn) and "403" in turned_away,
        "approved by anna; the fresh key untouched",
    )


def goes_stale(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 7: what is approved is not what is needed any more: nothing is changed, and it is asked again, once."""
    set_mode(stage, say, "ec2-open-rdp", Mode.ASK)
    group = stage.security_group("demo-moving")
    say(f"dave-developer opens port 3389 of {group} to the world")
    (rule,) = stage.open(group, 3389)
    case = stage.await_case(stage.arn(group), CaseState.WAITING)
    say("before anybody hears of it, that rule gives way to one for all of IPv6")
    quiet = stage.world.client("ec2", quiet=True)
    quiet.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[rule])
    opened(quiet, group, 3389)
    writes = len(written(stage))
    began = time.monotonic()
    say(f"anna-approver: redress approve → {answer(stage, case, stage.approver).says}")
    stale = stage.await_record(stage.arn(group), "STALE")
    took = time.monotonic() - began
    again = stage.await_case(stage.arn(group), CaseState.WAITING).ask
    untouched = stage.ingress(group) == {(443, WORLD), (3389, WORLD_V6)} and len(written(stage)) == writes
    say(f"  stale   {stale['data']['reason']}")
    return Row(
        "7 changed meanwhile",
        "another plan was approved",
        "ask",
        "stale; asked again" if again and again.again else "stale, but NOT asked again",
        took,
        again is not None and again.again and untouched,
        "nothing changed",
    )


def takes_back(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 8: scene 1's repair is taken back, by two people, and stays so."""
    ec2 = stage.world.client("ec2", quiet=True)
    named = [{"Name": "group-name", "Values": ["demo-attacked"]}]
    group = ec2.describe_security_groups(Filters=named)["SecurityGroups"][0]["GroupId"]
    resource = stage.arn(group)
    repaired = next(case for case in stage.ledger.cases() if case.target.resource == resource)
    began = time.monotonic()
    wanted = Undo(case=repaired.id, run=1, owner="network team", reason="it cut off the night backup")
    say(f"olga-operator: redress undo {repaired.id} → {stage.command(wanted).says}")
    case = stage.await_case(resource, CaseState.WAITING)
    turned_away = refused(stage, case, stage.operator)
    say(f"olga-operator: redress approve → {turned_away}")
    say(f"anna-approver: redress approve → {answer(stage, case, stage.approver).says}")
    result = stage.await_record(resource, "UNDO_RESULT")
    took = time.monotonic() - began
    restored = stage.ingress(group)
    say("dave-developer opens it to all of IPv6, too")
    decisions = len(stage.records(resource, "DECIDED"))
    opened(stage.world.client("ec2", stage.developer), group, 22)
    decided = stage.await_record(resource, "DECIDED", decisions + 1)
    say(f"  left    {decided['data']['reason']}")
    stays = stage.ingress(group) == {*restored, (22, WORLD_V6)} and decided["data"]["rule"] == "exempt"
    return Row(
        "8 undo",
        "scene 1's repair taken back",
        "ask",
        result["data"]["outcome"],
        took,
        restored == {(443, WORLD), (22, WORLD)} and stays and turned_away.startswith("refused"),
        "22 is open, exempt, and stays so",
    )


def believes_no_forgery(stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 9: findings that another product made, or that are about another account, are nobody's word."""
    group, since = stage.security_group("demo-slandered"), datetime.now(UTC)
    stage.open(group, 22, ec2=stage.world.client("ec2", quiet=True))
    account, other = stage.world.account, "999999999999"
    genuine = findings.security_hub(
        account, stage.world.region, stage.arn(group), "EC2.13", kind="AwsEc2SecurityGroup"
    )
    before = len(stage.calls_by("read")) + len(written(stage))
    say(f"somebody presses Redress's button in Security Hub on a finding that account {other} imported")
    say(f"and one arrives from Security Hub here that calls {group} account {other}'s")
    began = time.monotonic()
    stage.world.emit(findings.custom_action(findings.by_another_product(genuine, other)))
    stage.world.emit(findings.about_another_account(genuine, other))

    def reasons() -> list[str]:
        stored = (
            record
            for one in (account, other)
            for record in stage.ledger.records(one, since, datetime.now(UTC))
        )
        bodies = [json.loads(record.body) for record in stored]
        return [body["data"]["reason"] for body in bodies if body["type"] == "NOT_OURS"]

    stage.world.wait_for(lambda: len(reasons()) == len(("forged", "misplaced")), 25.0, "two NOT_OURS")
    took = time.monotonic() - began
    for reason in reasons():
        say(f"  not ours: {reason}")
    untouched = len(stage.calls_by("read")) + len(written(stage)) == before and not stage.records(
        stage.arn(group)
    )
    say("the same finding by Security Hub itself, about its own account")
    stage.world.emit(genuine)
    decided = stage.await_record(stage.arn(group), "DECIDED")["data"]["verdict"]
    return Row(
        "9 forged findings",
        "not Security Hub's, not its account",
        "ignore",
        "not ours, twice",
        took,
        untouched and decided == "ask" and stage.ingress(group) == {(443, WORLD), (22, WORLD)},
        f"nothing read or written; the real one: {decided}",
    )


def tickets_the_root_key(town: Town, stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 10: the root user makes itself an access key, which only a person can remove: a ticket, here and in Jira."""
    set_mode(stage, say, "iam-root-access-key", Mode.TICKET)
    resource = ACCOUNT_SETTING.format(account=stage.world.account)
    stage.world.root_access_key(present=True)
    began = time.monotonic()
    say("somebody signs in as root and creates an access key")
    stage.world.emit(root_made_a_key(stage))
    case = stage.await_case(resource, CaseState.TICKETED)
    took = time.monotonic() - began
    (ticket,) = [ticket for ticket in stage.tickets() if ticket.case == case.id]
    for number, step in enumerate(ticket.steps, 1):
        say(f"  step {number}  {step.console.split('. ')[0]}")
    there = town.tickets.tickets["jira"]
    stage.world.wait_for(lambda: there, 25.0, "the ticket in Jira")
    say(f"  in Jira: {there[0].key} {there[0].title} ({there[0].status})")
    stage.world.root_access_key(present=False)
    say("root's key is deleted, as the ticket says; olga-operator: redress sweep")
    stage.command(StartSweep(reason="the root key is gone"))
    closed = stage.await_record(resource, "TICKET_CLOSED")
    key = there[0].key
    stage.world.wait_for(lambda: town.tickets.closed("jira", key), 25.0, "the ticket to be closed in Jira")
    say(f"  in Jira: {key} is {there[0].status}")
    return Row(
        "10 root key",
        "root made itself an access key",
        "ticket",
        f"opened, with {len(ticket.steps)} steps, and {key} in Jira",
        took,
        closed["data"]["ticket"] == ticket.id
        and not ticket.commands
        and len(ticket.steps) > 1
        and len(there) == 1
        and not town.tickets.refused,
        "the next sweep closed both",
    )


def decides_by_link(town: Town, stage: Stage, say: Callable[[str], None]) -> Row:
    """Scene 11: a card in Slack, whose links are crawled before anybody reads it; then somebody follows one and decides."""
    group = stage.security_group("demo-carded")
    resource = stage.arn(group)
    say(f"dave-developer opens port 3389 of {group} to the world")
    began = time.monotonic()
    stage.open(group, 3389)
    case = stage.await_case(resource, CaseState.WAITING)
    card = town.await_card(stage, SECURITY, case.id)
    say(f"in #security: {card.text.partition(':')[0]}")

    def looks() -> int:
        return sum(case.id in look.url for look in town.slack.crawled())

    stage.world.wait_for(lambda: looks() >= len(("GET", "HEAD")), 25.0, "Slack's crawler to come")
    unmoved = stage.ledger.answers(case.id, 1) is None and (3389, WORLD) in stage.ingress(group)
    say(f"  {looks()} visits by Slack's crawler, and {'nothing is' if unmoved else 'SOMETHING IS'} decided")
    link = next(button["url"] for _, button in card.buttons() if button["action_id"] == "review")
    _, _, dave, _ = PEOPLE["dave"]
    barred = "You made the change" in Visitor(dave).get(link).text
    say(f"dave follows the link and signs in through Slack: {'may not, he made it' if barred else 'HE MAY'}")
    _, _, anna, _ = PEOPLE["anna"]
    said = Visitor(anna).answer(link, "approve", "seen and agreed")
    say(
        f"anna follows it, signs in, approves: {'taken' if said.status == HTTPStatus.OK else said.text[:200]}"
    )
    result = stage.await_record(resource, "RESULT")
    took = time.monotonic() - began
    by = stage.records(resource, "INTENT")[-1]["data"]["approved_by"]
    stage.world.wait_for(lambda: card.text.startswith("✅ Fixed"), 25.0, "the card to say what became of it")
    say(f"  the card says now: {card.text.partition(':')[0]}")
    return Row(
        "11 card in Slack",
        "port 3389 opened",
        "ask",
        result["data"]["outcome"],
        took,
        unmoved and barred and by.endswith(anna) and stage.ingress(group) == {(443, WORLD)},
        "approved by anna in the console; the crawler decided nothing",
    )


def set_mode(stage: Stage, say: Callable[[str], None], control: str, mode: Mode) -> None:
    """`redress mode`, as olga."""
    command = SetMode(control=control, account=stage.world.account, mode=mode, reason="shown in the demo")
    say(f"olga-operator: redress mode {control} {mode.value} → {stage.command(command).says}")


def answer(stage: Stage, case: Case, who: Credentials, *, approve: bool = True) -> CommandResult:
    """`redress approve` or `redress deny`: with the hash of the plan that the case asks about."""
    plan_hash = case.ask.plan_hash if case.ask else ""
    said = AnswerAsk(case=case.id, ask=case.asks, plan_hash=plan_hash, approve=approve, reason="looked at it")
    return stage.command(said, who)


def refused(stage: Stage, case: Case, who: Credentials) -> str:
    """Why this person's approval is refused; empty when it is not."""
    try:
        answer(stage, case, who)
    except ApiError as error:
        return str(error)
    return ""


def swept(stage: Stage) -> dict[str, Any]:
    """What the newest sweep of the home account reports, once it is over."""
    found: list[Any] = []

    def over() -> bool:
        ids = [sweep.id for sweep in stage.ledger.sweeps() if sweep.completed_at]
        found[:] = [record for sweep in ids for record in stage.ledger.case_records(f"SWEEP#{sweep}")]
        return bool(found)

    stage.world.wait_for(over, 40.0, "the sweep to be over")
    data: dict[str, Any] = json.loads(found[0].body)["data"]
    return data


def written(stage: Stage) -> list[SeenCall]:
    """Every call of the two roles that can change anything; they read nothing."""
    return [*stage.calls_by("act"), *stage.calls_by("undo")]


def notices(stage: Stage) -> list[dict[str, Any]]:
    """Every notice that lies in the outbox, and nothing else of what lies there."""
    pages = stage.world.client("dynamodb", quiet=True).get_paginator("scan")
    items = [
        item for page in pages.paginate(TableName=stage.settings.table("outbox")) for item in page["Items"]
    ]
    bodies = (json.loads(item["body"]["S"]) for item in items)
    return [body for body in bodies if "kind" in body]


def opened(ec2: Any, group: str, port: int) -> None:  # noqa: ANN401 -- an EC2 client
    """Let `port` in from every IPv6 address."""
    permission = {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "Ipv6Ranges": [{"CidrIpv6": WORLD_V6}],
    }
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])


def root_made_a_key(stage: Stage) -> dict[str, Any]:
    """CloudTrail's event of the root user creating a key for itself."""
    now, account = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), stage.world.account
    name = f"root-key-{time.monotonic_ns()}"
    return {
        "version": "0",
        "id": f"{name}-envelope",
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam",
        "account": account,
        "time": now,
        "region": "us-east-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {"type": "Root", "arn": f"arn:aws:iam::{account}:root", "accountId": account},
            "eventTime": now,
            "eventSource": "iam.amazonaws.com",
            "eventName": "CreateAccessKey",
            "awsRegion": "us-east-1",
            "requestParameters": None,
            "responseElements": {"accessKey": {"status": "Active", "createDate": now}},
            "requestID": f"{name}-request",
            "eventID": f"{name}-event",
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
        },
    }


SCENES = (
    only_observes,
    closes,
    restores_encryption,
    five_times,
    first_sweep,
    blocks_the_bucket,
    approves,
    goes_stale,
    takes_back,
    believes_no_forgery,
)
SCENES_IN_TOWN = (tickets_the_root_key, decides_by_link)
"""The scenes for which a Slack and a Jira are there as well."""

TOLD_IN_SLACK = {"name": "on-call", "controls": ["ec2-open-rdp"], "channel": SECURITY}
"""The others are told by mail: a channel takes a message a second, and the demo is not that slow."""


def play(town: Town, stage: Stage, say: Callable[[str], None]) -> list[Row]:
    """Every scene in order; one that fails is a row that did not end well, and the next still plays."""
    rows: list[Row] = []
    for number, scene in enumerate((*SCENES, *(_in(town, one) for one in SCENES_IN_TOWN))):
        title = (scene.__doc__ or "").split("\n")[0]
        say(f"\n{title}")
        try:
            rows.append(scene(stage, say))
        except Exception as error:  # noqa: BLE001 -- a demo shows its failure as a row and goes on
            said = f"{type(error).__name__}: {error}"
            say(f"  failed: {said}")
            rows.append(
                Row(
                    f"{number} {scene.__name__.replace('_', ' ')}",
                    "",
                    "-",
                    said.split("\n", maxsplit=1)[0][:200],
                    0.0,
                    ended_well=False,
                )
            )
    return rows


def _in(
    town: Town, scene: Callable[[Town, Stage, Callable[[str], None]], Row]
) -> Callable[[Stage, Callable[[str], None]], Row]:
    return update_wrapper(partial(scene, town), scene)


def main() -> int:
    """Play, show the table, and say by the exit code whether all ended as intended."""
    as_json = "--json" in sys.argv[1:]
    console = shell.console(stderr=as_json)
    began = time.monotonic()
    console.print("Redress: what happens when somebody opens port 22 to the world\n")
    with Town() as town, Stage(say=console.print, regions=REGIONS, environment=town.environment) as stage:
        ready = time.monotonic() - began
        console.print(f"deployed {ready:.1f} s after the start; nobody has raised any control yet")
        town.settle(stage, routes=[TOLD_IN_SLACK])
        console.print("olga-operator: redress set-policy; who may answer, and where people hear of it")
        rows = play(town, stage, console.print)
    total = time.monotonic() - began
    bad = [row for row in rows if not row.ended_well]
    if as_json:
        sys.stdout.write(
            json.dumps({"seconds": round(total, 2), "scenes": [row.__dict__ for row in rows]}) + "\n"
        )
        return 1 if bad else 0
    console.print("\nWhat was watched")
    console.print(drawn(rows), soft_wrap=False)
    if bad:
        console.print(f"{len(bad)} of {len(rows)} scenes did NOT end as intended; above, each says why")
    else:
        console.print(f"All {len(rows)} scenes ended as intended, in {total:.1f} s. Try it yourself: make up")
    return 1 if bad else 0


def drawn(rows: list[Row]) -> Table:
    """The scenes as a table."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scene", overflow="fold")
    table.add_column("what happened", overflow="fold")
    table.add_column("decision", min_width=8)
    table.add_column("outcome", overflow="fold", min_width=len("RevokeSecurityGroupIngress"))
    table.add_column("s", justify="right", min_width=5)
    table.add_column("ok", min_width=3)
    for row in rows:
        outcome = f"{row.outcome} ({row.detail})" if row.detail else row.outcome
        well = "yes" if row.ended_well else "NO"
        table.add_row(row.scene, row.what, row.decision, outcome, f"{row.seconds:.2f}", well)
    return table


if __name__ == "__main__":
    sys.exit(shell.ended(main))
