"""`make demo`: watch one event walk through a real deployment on an emulated AWS, scene by scene.

Ends with exit code 0 only if every scene ended as it should; what is shown was read back from the resource and from
the audit trail, never remembered.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from chalicelib.domain.contract import Mode
from chalicelib.domain.record import broken_at
from chalicelib.flow.command import SetMode
from local import shell
from local.emulator.world import SeenCall
from local.stage import Stage

WORLD = "0.0.0.0/0"
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
        command = SetMode(
            control=control,
            account=stage.world.account,
            mode=Mode.ACT,
            reason="shown in the demo, then raised",
        )
        say(f"olga-operator: redress mode {control} act → {stage.command(command).says}")
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


SCENES = (only_observes, closes, restores_encryption, five_times)


def play(stage: Stage, say: Callable[[str], None]) -> list[Row]:
    """Every scene in order; one that fails is a row that did not end well, and the next still plays."""
    rows: list[Row] = []
    for number, scene in enumerate(SCENES):
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


def main() -> int:
    """Play, show the table, and say by the exit code whether all ended as intended."""
    as_json = "--json" in sys.argv[1:]
    console = shell.console(stderr=as_json)
    began = time.monotonic()
    console.print("Redress: what happens when somebody opens port 22 to the world\n")
    with Stage(say=console.print) as stage:
        ready = time.monotonic() - began
        console.print(f"deployed {ready:.1f} s after the start; nobody has raised any control yet")
        rows = play(stage, console.print)
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
