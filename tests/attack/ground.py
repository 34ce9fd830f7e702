"""Where the attacks happen: the house on an EC2 in memory, which takes microseconds where moto takes milliseconds.

The real flow, catalog and remediations, the fake tables, our clock. The EC2 here knows only the operations that
`ec2_revoke_open_ingress` makes, but it knows what moto does not: filter values with wildcards, and who owns a group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from pydantic import JsonValue

from chalicelib.adapters.aws import session_policy
from chalicelib.bootstrap import engine_of
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Mode, Plan
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Target
from chalicelib.domain.ports import Aws, Cases, Clock
from chalicelib.domain.record import broken_at
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked
from chalicelib.settings import Settings
from tests.fakes.cases import FakeCases
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.house import ACCOUNT, REGION, House

SSH, RDP, EBS = "ec2-open-ssh", "ec2-open-rdp", "ebs-default-encryption"
WORLD = "0.0.0.0/0"
GROUP = "sg-0123456789abcdef0"


@dataclass
class Ec2:
    """`ports.Aws`: the rules of every group, and the writes that took effect, in order: (session, operation, rule)."""

    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)
    effects: list[tuple[str, str, str]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    made: int = 0

    def open(
        self, port: int, cidr: str = WORLD, *, to: int | None = None, group: str = GROUP, **more: Any
    ) -> str:
        self.made += 1
        name = f"sgr-{self.made:017x}"
        family = "CidrIpv6" if ":" in cidr else "CidrIpv4"
        source = {"PrefixListId": cidr} if cidr.startswith("pl-") else {family: cidr}
        self.rules[name] = {
            "SecurityGroupRuleId": name,
            "GroupId": group,
            "GroupOwnerId": ACCOUNT,
            "IsEgress": False,
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": to or port,
            "Tags": [],
            **source,
            **more,
        }
        return name

    def ports(self, group: str = GROUP) -> list[int]:
        return sorted(rule["FromPort"] for rule in self.rules.values() if rule["GroupId"] == group)

    def reader(self, remediation: AnyRemediation, target: Target) -> "Ec2":
        return self

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> "Executor":
        self.policies.append(session_policy(remediation, target, plan, undo=undo))
        return Executor(self, session)

    def regions(self, account: str) -> tuple[str, ...]:
        return (REGION,)

    def read(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        """The group itself, which is asked for its tags where a person is told of it; a name is no wildcard here."""
        assert operation == "DescribeSecurityGroups", f"nobody reads {service} {operation} here"
        self.asked.append((operation, params))
        (wanted,) = params["GroupIds"]
        if wanted not in {rule["GroupId"] for rule in self.rules.values()}:
            raise AwsError("ec2", operation, "InvalidGroup.NotFound", f"{wanted} does not exist", "r")
        return {"SecurityGroups": [{"GroupId": wanted, "Tags": self.tags}]}

    def pages(self, service: str, operation: str, key: str, /, **params: Any) -> list[Any]:
        self.asked.append((operation, params))
        if operation == "GetManagedPrefixListEntries":
            name = params["PrefixListId"]
            if name not in self.lists:
                raise AwsError("ec2", operation, "InvalidPrefixListID.NotFound", "no such list", "r")
            return [{"Cidr": cidr} for cidr in self.lists[name]]
        assert operation == "DescribeSecurityGroupRules"
        (wanted,) = params["Filters"][0]["Values"]
        return [dict(rule) for rule in self.rules.values() if fnmatchcase(rule["GroupId"], wanted)]


@dataclass
class Executor:
    ec2: Ec2
    session: str

    def perform(
        self, call: Call, token: str, earlier: tuple[dict[str, JsonValue], ...]
    ) -> tuple[CallResult, dict[str, JsonValue]]:
        ec2, params = self.ec2, call.params
        ec2.asked.append((call.operation, dict(params)))
        request = f"req-{self.session}-{len(ec2.asked)}"
        if call.operation == "RevokeSecurityGroupIngress":
            ids: Any = params["SecurityGroupRuleIds"]
            for name in ids:
                if name not in ec2.rules or ec2.rules[name]["GroupId"] != params["GroupId"]:
                    code = "InvalidSecurityGroupRuleId.NotFound"
                    raise AwsError("ec2", call.operation, code, f"{name} does not exist", request)
            for name in ids:
                del ec2.rules[name]
                ec2.effects.append((self.session, "revoked", name))
        else:
            raise AssertionError(f"{call.operation} is never made without a person")
        return CallResult(index=len(earlier), request_id=request, observed_by="response"), {}


@cache
def _engine() -> Engine:
    """The deployed engine's catalog and remediations; its ports are always replaced."""
    settings = Settings(stage="test", account=ACCOUNT, region=REGION)
    return engine_of(settings, FakeCases(home=ACCOUNT), Ec2(), FakeClock())


class Ground(House):
    """A house in which one group serves 443 to the world."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cases = FakeCases(home=ACCOUNT)
        self.ec2 = Ec2()
        self.ec2.open(443)
        self._asked_for = 0

    def built(self, cases: Cases, aws: Aws, clock: Clock | None = None) -> Engine:
        return replace(_engine(), cases=cases, aws=aws, clock=clock or self.clock)

    def engine(self, faults: Faults | None = None) -> Engine:
        if faults is None:
            return self.built(self.cases, self.ec2)
        return self.built(faults.cases(self.cases), faults.aws(self.ec2))

    def walks(self, event: Mapping[str, Any]) -> tuple[Walked, ...]:
        return self.engine().walk(event)

    def walks_with(self, event: Mapping[str, Any], faults: Faults) -> tuple[Walked, ...]:
        return self.engine(faults).walk(event)

    def attack(self, mode: Mode = Mode.ACT, event_id: str = "event-1") -> dict[str, Any]:
        """Port 22 has just been opened, and SSH may be repaired."""
        self.raise_to(mode, SSH)
        return self.event((22, self.ec2.open(22)), event_id=event_id)

    def event(
        self, *opened: tuple[int, str], event_id: str = "event-1", group: str = GROUP, **detail: Any
    ) -> dict[str, Any]:
        """CloudTrail's event for rules that were opened: (port, rule id)."""
        at = self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {"groupId": group, "securityGroupRuleId": rule, "isEgress": False, "ipProtocol": "tcp",
             "fromPort": port, "toPort": port, "cidrIpv4": WORLD}
            for port, rule in opened
        ]  # fmt: skip
        return {
            "id": f"envelope-{event_id}",
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.ec2",
            "account": ACCOUNT,
            "region": REGION,
            "time": at,
            "detail": {
                "eventID": event_id,
                "eventTime": at,
                "eventSource": "ec2.amazonaws.com",
                "eventName": "AuthorizeSecurityGroupIngress",
                "awsRegion": REGION,
                "recipientAccountId": ACCOUNT,
                "requestID": f"request-{event_id}",
                "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ann"},
                "requestParameters": {"groupId": group},
                "responseElements": {"securityGroupRuleSet": {"items": items}},
                **detail,
            },
        }

    def edited(self, rule: dict[str, Any], event_id: str = "event-1") -> dict[str, Any]:
        """CloudTrail's event for a rule edited in place: its answer says nothing, its request is the caller's own text."""
        request = {
            "GroupId": GROUP,
            "SecurityGroupRule": {"SecurityGroupRuleId": "sgr-1", "SecurityGroupRule": rule},
        }
        return self.event(
            event_id=event_id,
            eventName="ModifySecurityGroupRules",
            requestParameters={"ModifySecurityGroupRulesRequest": request},
            responseElements={"ModifySecurityGroupRulesResponse": {"return": True}},
        )

    def record_of(self, event_id: str) -> dict[str, Any]:
        """What the last DECIDED record of that event says."""
        found = [r for r in self.cases.records if (r.draft.source_id, r.draft.type) == (event_id, "DECIDED")]
        return found[-1].draft.data

    def whole(self) -> None:
        """Every chain holds, and every INTENT has exactly one RESULT."""
        for chain in {record.chain for record in self.cases.records}:
            records = self.cases.chain(chain)
            assert broken_at([(r.body, r.hash) for r in records]) is None
            runs = [(r.draft.type.value, r.draft.data.get("run")) for r in records]
            intents = [run for kind, run in runs if kind == "INTENT"]
            results = [run for kind, run in runs if kind == "RESULT" and run is not None]
            assert sorted(map(str, intents)) == sorted(map(str, results)), runs


def as_ours(session: str, role: str = "redress-test-act") -> dict[str, Any]:
    """A userIdentity that wears one of our roles."""
    return {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}",
        "sessionContext": {"sessionIssuer": {"arn": f"arn:aws:iam::{ACCOUNT}:role/{role}"}},
    }
