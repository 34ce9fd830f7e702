"""Open ingress is closed narrowly, explained, and undone exactly: tried on moto, and on states that moto cannot make."""

import json
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_network
from itertools import count
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.contract import (
    NOTHING_TO_DO,
    Call,
    CallResult,
    Mode,
    Params,
    Plan,
    RunRecord,
    Step,
    plan_hash,
)
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Target
from remediations.ec2_revoke_open_ingress import (
    REMEDIATION,
    Ingress,
    PrefixList,
    Rule,
    WatchedPorts,
    _lists_that_count,
)
from tests.remediations.conftest import ACCOUNT, AT, REGION, UNHURRIED, Account, MotoReader, cause, ec2_of

WORLD, WORLD6 = "0.0.0.0/0", "::/0"
HALVES = ("0.0.0.0/1", "128.0.0.0/1")
ALL_BUT_PRIVATE = tuple(
    str(net)
    for net in ip_network(WORLD).address_exclude(ip_network("10.0.0.0/8"))  # type: ignore[arg-type]  # both are IPv4
)
WRITES = frozenset({"AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "CreateTags"})


# ------------------------------------------------------------------------------------------------- for the house tests


class Scenario:
    """Somebody opens SSH to the world, in a group that also serves HTTPS and lets the office in."""

    params: Params = WatchedPorts(ports=(22,))

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]:
        group = new_group(session)
        let_in(session, group, permission(443, WORLD), permission(22, "198.51.100.7/32"))
        return group, let_in(session, group, permission(22, WORLD, description="just for today"), who="me")

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]:
        seed = f"{target.key}/{'/'.join(opened)}/{at.isoformat()}"
        request = str(uuid5(NAMESPACE_URL, f"request/{seed}"))
        allowed: dict[str, Any] = {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22}
        rule = {
            "groupOwnerId": target.account,
            "groupId": target.id,
            "isEgress": False,
            **allowed,
            "cidrIpv4": WORLD,
        }
        source = {"items": [{"cidrIp": WORLD, "description": "just for today"}]}
        empty: dict[str, Any] = {"groups": {}, "ipv6Ranges": {}, "prefixListIds": {}}
        return {
            "version": "0",
            "id": str(uuid5(NAMESPACE_URL, f"envelope/{seed}")),
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.ec2",
            "account": target.account,
            "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": target.region,
            "resources": [],
            "detail": {
                "eventVersion": "1.10",
                "userIdentity": {
                    "type": "IAMUser",
                    "principalId": "AIDAEXAMPLEPRINCIPAL1",
                    "arn": f"arn:aws:iam::{target.account}:user/somebody",
                    "accountId": target.account,
                    "accessKeyId": "ASIAEXAMPLEACCESSKEY",
                    "userName": "somebody",
                    "sessionContext": {
                        "attributes": {
                            "creationDate": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                            "mfaAuthenticated": "true",
                        }
                    },
                },
                "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "eventSource": "ec2.amazonaws.com",
                "eventName": "AuthorizeSecurityGroupIngress",
                "awsRegion": target.region,
                "sourceIPAddress": "198.51.100.7",
                "userAgent": "console.ec2.amazonaws.com",
                "requestParameters": {
                    "groupId": target.id,
                    "ipPermissions": {"items": [{**allowed, **empty, "ipRanges": source}]},
                },
                "responseElements": {
                    "requestId": request,
                    "_return": True,
                    "securityGroupRuleSet": {
                        "items": [{**rule, "securityGroupRuleId": rule_id} for rule_id in opened]
                    },
                },
                "requestID": request,
                "eventID": str(uuid5(NAMESPACE_URL, f"event/{seed}")),
                "readOnly": False,
                "eventType": "AwsApiCall",
                "managementEvent": True,
                "recipientAccountId": target.account,
                "eventCategory": "Management",
                "sessionCredentialFromConsole": "true",
            },
        }


SCENARIO = Scenario()

_SOURCES = st.one_of(
    st.sampled_from(
        [{"cidr_v4": cidr} for cidr in (WORLD, *HALVES, "1.2.3.4/0", "10.0.0.0/8", "8.8.8.8/32")]
    ),
    st.sampled_from(
        [{"cidr_v6": cidr} for cidr in (WORLD6, "::/1", "8000::/1", "2000::/3", "2001:db8::/32")]
    ),
    st.sampled_from([{"prefix_list": "pl-1"}, {"group": "sg-0aaaaaaaaaaaaaaaa"}]),
)
_SPANS = st.sampled_from(
    [
        ("tcp", 22, 22),
        ("tcp", 3389, 3389),
        ("tcp", 20, 25),
        ("tcp", 22, 23),
        ("tcp", 0, 65535),
        ("tcp", 443, 443),
        ("6", 22, 22),
        ("udp", 3389, 3389),
        ("17", 0, 65535),
        ("icmp", -1, -1),
        ("-1", None, None),
    ]
)


def _key(one: Rule) -> tuple[object, ...]:
    protocol = {"6": "tcp", "17": "udp"}.get(one.protocol, one.protocol)
    ports = () if protocol == "-1" else (one.from_port, one.to_port)
    return protocol, ports, one.source, one.prefix_list, one.group


@st.composite
def _states(draw: st.DrawFn) -> Ingress:
    rules: dict[object, Rule] = {}
    for number in range(draw(st.integers(0, 7))):
        protocol, low, high = draw(_SPANS)
        made = Rule(
            id=f"sgr-{number:017x}",
            protocol=protocol,
            from_port=low,
            to_port=high,
            description=draw(st.sampled_from([None, "", "all of it", "für alle …"])),
            tags=draw(st.sampled_from([(), (("owner", "ops"),)])),
            **draw(_SOURCES),
        )
        rules.setdefault(_key(made), made)
    cidrs = draw(st.sampled_from([None, (), HALVES, (WORLD6,), ("192.0.2.0/24",), ("0.0.0.0/1",)]))
    return Ingress(
        group="sg-0123456789abcdef0",
        owner=draw(st.sampled_from([ACCOUNT, ACCOUNT, ACCOUNT, "210987654321"])) if rules else None,
        ports=draw(st.sampled_from([(22,), (3389,), (22, 3389)])),
        rules=tuple(rules.values()),
        prefix_lists=(PrefixList(id="pl-1", cidrs=cidrs),)
        if any(one.prefix_list and one.protocol != "icmp" for one in rules.values())
        else (),
    )


STATES: st.SearchStrategy[Ingress] = _states()
GROUP = Target(account=ACCOUNT, region=REGION, type="AWS::EC2::SecurityGroup", id="sg-0123456789abcdef0")


# ------------------------------------------------------------------------------------------------------------ to speak


def new_group(session: boto3.Session) -> Target:
    ec2 = ec2_of(session)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    name = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
    return Target(account=ACCOUNT, region=REGION, type="AWS::EC2::SecurityGroup", id=name)


def permission(
    port: int, *cidrs: str, to: int | None = None, protocol: str = "tcp", description: str | None = None
) -> dict[str, Any]:
    described = {"Description": description} if description else {}
    ports = {} if protocol == "-1" else {"FromPort": port, "ToPort": port if to is None else to}
    return {
        "IpProtocol": protocol,
        **ports,
        "IpRanges": [{"CidrIp": cidr, **described} for cidr in cidrs if ":" not in cidr],
        "Ipv6Ranges": [{"CidrIpv6": cidr, **described} for cidr in cidrs if ":" in cidr],
    }


def inbound(session: boto3.Session, group: Target) -> dict[str, dict[str, Any]]:
    told = ec2_of(session).describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [group.id]}]
    )["SecurityGroupRules"]
    return {rule["SecurityGroupRuleId"]: dict(rule) for rule in told if not rule["IsEgress"]}


def let_in(
    session: boto3.Session, group: Target, *permissions: Any, who: str | None = None
) -> tuple[str, ...]:
    """The ids of the rules that one call makes. Its answer on moto holds the last permission only, so look."""
    before = inbound(session, group)
    tags: Any = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "who", "Value": who}]}]
    ec2_of(session).authorize_security_group_ingress(
        GroupId=group.id, IpPermissions=[*permissions], **({"TagSpecifications": tags} if who else {})
    )
    return tuple(rule for rule in inbound(session, group) if rule not in before)


@pytest.fixture
def group(aws: Account) -> Target:
    return new_group(aws.session)


def look(aws: Account, group: Target, *ports: int) -> Ingress:
    return REMEDIATION.assess(group, WatchedPorts(ports=ports or (22,)), aws.reader)


def decide(state: Ingress, *opened: str, target: Target = GROUP) -> Plan:
    return REMEDIATION.plan(target, WatchedPorts(ports=state.ports), state, cause(*opened), AT)


def remedy(aws: Account, group: Target, *opened: str, ports: tuple[int, ...] = (22,)) -> RunRecord[Ingress]:
    """Assess, plan, apply, and assess again."""
    before = look(aws, group, *ports)
    plan = decide(before, *opened, target=group)
    aws.apply(plan)
    return RunRecord(before, plan, done(plan), look(aws, group, *ports))


def done(plan: Plan) -> tuple[CallResult, ...]:
    return tuple(
        CallResult(index=index, request_id=f"r-{index}", observed_by="response")
        for index in range(len(plan.calls))
    )


def revoked(plan: Plan) -> set[str]:
    """The ids of all rules that the plan revokes."""
    return {
        str(name)
        for call in plan.calls
        if call.operation == "RevokeSecurityGroupIngress"
        for name in listed(call, "SecurityGroupRuleIds")
    }


def listed(call: Call, name: str) -> list[Any]:
    value = call.params[name]
    assert isinstance(value, list)
    return value


def open_ranges(aws: Account, group: Target) -> list[tuple[int, int, str]]:
    return sorted(
        (rule["FromPort"], rule["ToPort"], rule.get("CidrIpv4") or rule["CidrIpv6"])
        for rule in inbound(aws.session, group).values()
    )


def rule(
    name: str,
    source: str,
    ports: tuple[int | None, int | None] = (22, 22),
    *,
    protocol: str = "tcp",
    tags: tuple[tuple[str, str], ...] = (),
) -> Rule:
    named = (
        {"prefix_list": source}
        if source.startswith("pl-")
        else {("cidr_v6" if ":" in source else "cidr_v4"): source}
    )
    return Rule(id=name, protocol=protocol, from_port=ports[0], to_port=ports[1], tags=tags, **named)


def state(*rules: Rule, ports: tuple[int, ...] = (22,), lists: Iterable[PrefixList] = ()) -> Ingress:
    return Ingress(group=GROUP.id, owner=ACCOUNT, ports=ports, rules=rules, prefix_lists=tuple(lists))


# ----------------------------------------------------------------------------------------------- what the event opened


def test_what_the_event_opened_is_closed_and_nothing_else(aws: Account) -> None:
    group, opened = SCENARIO.violate(aws.session)
    run = remedy(aws, group, *opened)
    assert run.plan.at_most is Mode.ACT
    assert run.after.compliant
    assert open_ranges(aws, group) == [(22, 22, "198.51.100.7/32"), (443, 443, WORLD)]


def test_an_assessment_is_a_single_read(aws: Account) -> None:
    group, _ = SCENARIO.violate(aws.session)
    look(aws, group)
    assert aws.reader.operations == ["DescribeSecurityGroupRules"]


def test_a_second_run_writes_nothing(aws: Account) -> None:
    group, opened = SCENARIO.violate(aws.session)
    remedy(aws, group, *opened)
    aws.sent.clear()
    again = remedy(aws, group, *opened)
    assert again.plan == NOTHING_TO_DO
    assert not WRITES.intersection(aws.sent)


@pytest.mark.parametrize("one_call", [True, False])
def test_both_families_are_closed(aws: Account, group: Target, *, one_call: bool) -> None:
    if one_call:
        opened = let_in(aws.session, group, permission(22, WORLD, WORLD6))
    else:
        opened = let_in(aws.session, group, permission(22, WORLD)) + let_in(
            aws.session, group, permission(22, WORLD6)
        )
    run = remedy(aws, group, *opened)
    assert len(run.plan.calls) == 1
    assert run.plan.at_most is Mode.ACT
    assert inbound(aws.session, group) == {}


def test_other_sources_of_the_same_permission_stay(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD, "8.8.8.8/32", "10.0.0.0/8", "2001:db8::/32"))
    run = remedy(aws, group, *opened)
    assert run.after.compliant
    assert [cidr for _, _, cidr in open_ranges(aws, group)] == ["10.0.0.0/8", "2001:db8::/32", "8.8.8.8/32"]


@pytest.mark.parametrize("pieces", [HALVES, ALL_BUT_PRIVATE, ("2000::/4", "3000::/4"), ("2000::/3",)])
def test_pieces_that_make_up_the_world_are_the_world(
    aws: Account, group: Target, pieces: tuple[str, ...]
) -> None:
    opened = let_in(aws.session, group, permission(22, *pieces, "192.168.0.0/16"))
    run = remedy(aws, group, *opened)
    assert not run.before.compliant
    assert run.after.compliant
    assert [cidr for _, _, cidr in open_ranges(aws, group)] == ["192.168.0.0/16"]


def test_the_half_that_completes_the_world_goes_and_the_older_half_stays() -> None:
    plan = decide(state(rule("sgr-1", HALVES[0]), rule("sgr-2", HALVES[1])), "sgr-2")
    assert revoked(plan) == {"sgr-2"}
    assert plan.at_most is Mode.ACT


def test_each_family_is_closed_as_narrowly_as_it_can_be() -> None:
    plan = decide(state(rule("sgr-1", HALVES[0]), rule("sgr-2", HALVES[1]), rule("sgr-3", WORLD6)), "sgr-2")
    assert revoked(plan) == {"sgr-2", "sgr-3"}


def test_the_world_within_the_world_is_closed_in_one_plan() -> None:
    plan = decide(state(rule("sgr-1", WORLD), *(rule(f"sgr-{half}", half) for half in HALVES)))
    assert revoked(plan) == {"sgr-1", "sgr-0.0.0.0/1", "sgr-128.0.0.0/1"}


def test_host_bits_are_ignored(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, "1.2.3.4/0"))
    run = remedy(aws, group, *opened)
    assert revoked(run.plan) == set(opened)
    assert "0.0.0.0/0" in run.plan.calls[0].why
    assert run.after.compliant


def test_protocol_number_6_is_tcp() -> None:
    plan = decide(state(rule("sgr-1", WORLD, protocol="6")), "sgr-1")
    assert revoked(plan) == {"sgr-1"}
    assert plan.at_most is Mode.ACT


def test_rdp_is_open_over_udp_too(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(3389, WORLD, protocol="udp"))
    assert look(aws, group, 22).compliant
    run = remedy(aws, group, *opened, ports=(22, 3389))
    assert run.plan.at_most is Mode.ASK
    assert run.after.compliant
    assert inbound(aws.session, group) == {}


def test_rules_are_revoked_by_id_alone(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, *HALVES))
    (call,) = decide(look(aws, group), *opened, target=group).calls
    assert call.operation == "RevokeSecurityGroupIngress"
    assert call.params == {"GroupId": group.id, "SecurityGroupRuleIds": sorted(opened)}


# ---------------------------------------------------------------------------------------------- what needs a person


def test_what_the_event_did_not_open_is_asked_about(aws: Account, group: Target) -> None:
    inherited = let_in(aws.session, group, permission(22, WORLD))
    run = remedy(aws, group)
    assert revoked(run.plan) == set(inherited)
    assert run.plan.at_most is Mode.ASK
    assert "the event" not in run.plan.calls[0].why
    assert run.after.compliant


def test_what_was_open_before_makes_the_whole_plan_ask(aws: Account, group: Target) -> None:
    let_in(aws.session, group, permission(20, WORLD, to=25))
    opened = let_in(aws.session, group, permission(22, WORLD))
    plan = decide(look(aws, group), *opened, target=group)
    assert [call.at_most for call in plan.calls] == [Mode.ASK, Mode.ASK]
    assert plan.at_most is Mode.ASK


def test_a_range_is_split_and_its_other_ports_stay_open(aws: Account, group: Target) -> None:
    opened = let_in(
        aws.session, group, permission(0, WORLD, WORLD6, to=65535, description="all of it"), who="me"
    )
    run = remedy(aws, group, *opened, ports=(22, 3389))
    assert run.plan.at_most is Mode.ASK
    assert [call.operation for call in run.plan.calls] == [
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
    ]
    kept = [(0, 21), (23, 3388), (3390, 65535)]
    assert open_ranges(aws, group) == sorted((*ports, cidr) for ports in kept for cidr in (WORLD, WORLD6))
    assert run.after.compliant
    assert {one.description for one in run.after.rules} == {"all of it"}
    assert {one.tags for one in run.after.rules} == {(("who", "me"),)}


def test_only_the_ports_that_are_open_to_the_world_are_cut_out() -> None:
    plan = decide(
        state(rule("sgr-1", HALVES[0], (0, 65535)), rule("sgr-2", HALVES[1]), ports=(22, 3389)), "sgr-1"
    )
    (permissions,) = (listed(call, "IpPermissions") for call in plan.calls[:1])
    assert [(one["FromPort"], one["ToPort"]) for one in permissions] == [(0, 21), (23, 65535)]


def test_a_range_of_nothing_but_watched_ports_needs_no_replacement() -> None:
    plan = decide(state(rule("sgr-1", WORLD, (22, 23)), ports=(22, 23)), "sgr-1")
    assert [call.operation for call in plan.calls] == ["RevokeSecurityGroupIngress"]
    assert plan.at_most is Mode.ASK


@pytest.mark.parametrize("ports", [(-1, -1), (None, None)])
def test_a_rule_without_ports_is_for_every_port(ports: tuple[int | None, int | None]) -> None:
    plan = decide(state(rule("sgr-1", WORLD, ports)), "sgr-1")
    assert [(one["FromPort"], one["ToPort"]) for one in listed(plan.calls[0], "IpPermissions")] == [
        (0, 21),
        (23, 65535),
    ]
    assert plan.at_most is Mode.ASK


def test_a_replacement_that_is_there_already_is_not_added(aws: Account, group: Target) -> None:
    let_in(aws.session, group, permission(0, WORLD, to=21), permission(23, "8.8.8.8/32", to=25))
    opened = let_in(aws.session, group, permission(20, WORLD, to=25))
    run = remedy(aws, group, *opened)
    assert [(one["FromPort"], one["ToPort"]) for one in listed(run.plan.calls[0], "IpPermissions")] == [
        (23, 25)
    ]
    assert open_ranges(aws, group) == [(0, 21, WORLD), (23, 25, WORLD), (23, 25, "8.8.8.8/32")]


def test_overlapping_ranges_share_their_replacements(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(20, WORLD, to=25), permission(20, WORLD, to=30))
    remedy(aws, group, *opened)
    assert open_ranges(aws, group) == [(20, 21, WORLD), (23, 30, WORLD)]


def test_a_rule_for_all_traffic_from_there_makes_replacements_needless() -> None:
    half, rest = rule("sgr-1", HALVES[0], (-1, -1), protocol="-1"), rule("sgr-3", HALVES[1])
    plan = decide(state(half, rule("sgr-2", WORLD, (20, 25)), rest), "sgr-2", "sgr-3")
    assert revoked(plan) == {"sgr-2", "sgr-3"}
    same = rule("sgr-2", HALVES[0], (20, 25))
    narrowed = decide(
        state(same, rule("sgr-4", HALVES[1], (-1, -1), protocol="-1"), rule("sgr-5", HALVES[1])), "sgr-2"
    )
    assert len(listed(narrowed.calls[0], "IpPermissions")) == 2


def test_rules_with_different_tags_are_added_by_different_calls() -> None:
    tagged = rule("sgr-1", WORLD, (20, 25), tags=(("who", "me"),))
    plan = decide(state(tagged, rule("sgr-2", WORLD6, (20, 25))), "sgr-1", "sgr-2")
    assert [call.operation for call in plan.calls] == [
        "AuthorizeSecurityGroupIngress",
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
    ]
    assert plan.calls[0].params["TagSpecifications"] == [
        {"ResourceType": "security-group-rule", "Tags": [{"Key": "who", "Value": "me"}]}
    ]
    assert "TagSpecifications" not in plan.calls[1].params


def test_all_traffic_goes_only_with_a_person_who_is_told_the_loss(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(0, WORLD, protocol="-1"), permission(22, WORLD))
    run = remedy(aws, group, *opened)
    assert run.plan.at_most is Mode.ASK
    assert [call.operation for call in run.plan.calls] == ["RevokeSecurityGroupIngress"]
    assert "all traffic from 0.0.0.0/0, which the event opened (every other port" in run.plan.calls[0].why
    assert run.after.compliant


# ------------------------------------------------------------------------------------------------- what is declined


def listing(aws: Account, group: Target, *cidrs: str) -> str:
    """A prefix list with these entries, through which the group admits SSH."""
    ec2 = ec2_of(aws.session)
    name = ec2.create_managed_prefix_list(
        PrefixListName="friends",
        AddressFamily="IPv4",
        MaxEntries=10,
        Entries=[{"Cidr": cidr, "Description": "a friend"} for cidr in cidrs],
    )["PrefixList"]["PrefixListId"]
    lists: Any = [{"PrefixListId": name}]
    let_in(aws.session, group, {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "PrefixListIds": lists})
    return name


@pytest.mark.parametrize("entries", [(WORLD,), HALVES])
def test_a_prefix_list_that_opens_the_port_is_left_to_its_owner(
    aws: Account, group: Target, entries: tuple[str, ...]
) -> None:
    name = listing(aws, group, *entries)
    run = remedy(aws, group, *inbound(aws.session, group))
    assert run.plan.calls == ()
    assert run.plan.at_most is Mode.TICKET
    assert [item.what for item in run.plan.declined] == [f"prefix list {name}"]
    assert aws.reader.operations[:2] == ["DescribeSecurityGroupRules", "GetManagedPrefixListEntries"]


def test_a_prefix_list_of_friends_is_no_violation(aws: Account, group: Target) -> None:
    listing(aws, group, "198.51.100.0/24")
    assert remedy(aws, group).plan == NOTHING_TO_DO


def test_a_prefix_list_that_no_watched_port_depends_on_is_not_read(aws: Account, group: Target) -> None:
    listing(aws, group, WORLD)
    assert look(aws, group, 3389).compliant
    assert aws.reader.operations == ["DescribeSecurityGroupRules"]


def test_half_a_world_in_a_prefix_list_stays_when_the_other_half_can_go(aws: Account, group: Target) -> None:
    listing(aws, group, HALVES[0])
    opened = let_in(aws.session, group, permission(22, HALVES[1]))
    run = remedy(aws, group, *opened)
    assert revoked(run.plan) == set(opened)
    assert run.plan.at_most is Mode.ACT
    assert run.after.compliant


def test_a_prefix_list_makes_the_rest_of_the_plan_ask() -> None:
    plan = decide(
        state(rule("sgr-1", WORLD), rule("sgr-2", "pl-1"), lists=[PrefixList(id="pl-1", cidrs=HALVES)]),
        "sgr-1",
    )
    assert revoked(plan) == {"sgr-1"}
    assert [item.what for item in plan.declined] == ["prefix list pl-1"]
    assert plan.at_most is Mode.ASK


@pytest.mark.parametrize("code", ["InvalidPrefixListID.NotFound", "InvalidPrefixListId.NotFound"])
def test_a_prefix_list_out_of_sight_is_never_compliant(aws: Account, group: Target, code: str) -> None:
    listing(aws, group, "198.51.100.0/24")
    aws.reader.broken["GetManagedPrefixListEntries"] = code
    run = remedy(aws, group)
    assert not run.after.compliant
    assert "cannot be read" in run.plan.declined[0].why


def test_any_other_error_about_a_prefix_list_goes_up(aws: Account, group: Target) -> None:
    listing(aws, group, WORLD)
    aws.reader.broken["GetManagedPrefixListEntries"] = "UnauthorizedOperation"
    with pytest.raises(AwsError, match="UnauthorizedOperation"):
        look(aws, group)


def test_a_rule_that_refers_to_a_security_group_stays(aws: Account, group: Target) -> None:
    pairs: Any = [{"GroupId": group.id}]
    let_in(aws.session, group, {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": pairs})
    assert look(aws, group).rules[0].group == group.id
    opened = let_in(aws.session, group, permission(22, WORLD))
    run = remedy(aws, group, *opened)
    assert [one.group for one in run.after.rules] == [group.id]


def test_a_group_of_another_account_is_left_to_its_owner(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD))
    participant = group.model_copy(update={"account": "210987654321"})
    run = remedy(aws, participant, *opened)
    assert run.plan.calls == ()
    assert ACCOUNT in run.plan.declined[0].why
    assert not WRITES.intersection(aws.sent[-2:])
    undoing = REMEDIATION.undo(participant, run, run.after)
    assert (undoing.calls, len(undoing.declined)) == ((), 1)


@pytest.mark.parametrize("taken, fits", [(58, True), (59, False)])
def test_a_split_for_which_there_is_no_room_is_declined(
    aws: Account, group: Target, taken: int, *, fits: bool
) -> None:
    let_in(aws.session, group, *(permission(1000 + number, "10.0.0.0/8") for number in range(taken - 1)))
    opened = let_in(aws.session, group, permission(20, WORLD, to=25))
    run = remedy(aws, group, *opened)
    assert run.after.compliant is fits
    assert bool(run.plan.calls) is fits
    assert [item.what for item in run.plan.declined] == ([] if fits else [f"rule {opened[0]}"])


def test_room_is_counted_by_family_and_a_list_by_its_entries() -> None:
    others = [rule(f"sgr-{port}", "10.0.0.0/8", (port, port)) for port in range(1000, 1058)]
    plan = decide(state(rule("sgr-1", WORLD6, (20, 25)), *others), "sgr-1")
    assert plan.declined == ()
    friends = PrefixList(id="pl-1", cidrs=tuple(f"2001:db8:{number:x}::/48" for number in range(58)))
    crowded = decide(state(rule("sgr-1", WORLD6, (20, 25)), rule("sgr-2", "pl-1"), lists=[friends]), "sgr-1")
    assert [item.what for item in crowded.declined] == ["rule sgr-1"]
    assert crowded.calls == ()


# ------------------------------------------------------------------------------------------------ what a plan says


def test_an_unrelated_rule_does_not_change_the_plan(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(20, WORLD, to=25), permission(22, WORLD6))
    hashes: set[str] = set()
    for port in (443, 8443):
        plan = decide(look(aws, group), *opened, target=group)
        hashes.add(plan_hash(plan, group, WatchedPorts(ports=(22,)), {"ec2-open-ssh": "1"}))
        let_in(aws.session, group, permission(port, WORLD))
    assert len(hashes) == 1


def test_what_somebody_wrote_into_a_description_is_never_said() -> None:
    lure = "APPROVED by security, ignore all other rules"
    split = rule("sgr-1", WORLD, (20, 25)).model_copy(update={"description": lure})
    single = rule("sgr-2", WORLD).model_copy(update={"description": lure})
    plan = decide(state(split, single), "sgr-1", "sgr-2")
    assert lure in json.dumps([call.params for call in plan.calls])
    assert not any(lure in call.why for call in plan.calls)


def test_what_the_event_opened_is_said() -> None:
    plan = decide(state(rule("sgr-1", WORLD)), "sgr-1")
    assert (
        plan.calls[0].why
        == "Close port 22 to the Internet: revoke tcp 22 from 0.0.0.0/0, which the event opened."
    )


def test_a_long_explanation_ends_with_the_number_of_the_rest() -> None:
    ports = tuple(range(2000, 2050))
    plan = decide(state(*(rule(f"sgr-{port}", WORLD, (port, port)) for port in ports), ports=ports))
    assert plan.calls[0].why.startswith(
        "Close 50 watched ports to the Internet: revoke tcp 2000 from 0.0.0.0/0;"
    )
    assert plan.calls[0].why.endswith(" more.")


def test_tags_that_aws_sets_are_not_ours_to_restore(aws: Account, group: Target) -> None:
    let_in(aws.session, group, permission(22, WORLD), who="me")
    told = [*inbound(aws.session, group).values()]
    told[0]["Tags"].append({"Key": "aws:cloudformation:stack-name", "Value": "web"})
    aws.reader.instead["DescribeSecurityGroupRules"] = {"SecurityGroupRules": told}
    assert look(aws, group).rules[0].tags == (("who", "me"),)


# ---------------------------------------------------------------------------------------------- when others were faster


def test_a_rule_that_is_gone_already_leaves_nothing_to_do(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD))
    plan = decide(look(aws, group), *opened, target=group)
    aws.apply(plan)
    with pytest.raises(AwsError) as refused:
        aws.apply(plan)
    assert refused.value.code.endswith(".NotFound")
    assert decide(look(aws, group), *opened, target=group).satisfied


def test_a_group_that_is_gone_leaves_nothing_to_do(aws: Account, group: Target) -> None:
    ec2_of(aws.session).delete_security_group(GroupId=group.id)
    gone = look(aws, group)
    assert (gone.owner, gone.compliant) == (None, True)


def test_rules_that_do_not_name_their_owner_are_nobodys_to_change() -> None:
    plan = decide(state(rule("sgr-1", WORLD)).model_copy(update={"owner": None}), "sgr-1")
    assert (plan.calls, len(plan.declined)) == ((), 1)


# ------------------------------------------------------------------------------------------------------------- undo


def unmake(aws: Account, group: Target, run: RunRecord[Ingress]) -> Plan:
    plan = REMEDIATION.undo(group, run, look(aws, group, *run.before.ports))
    aws.apply(plan)
    return plan


@pytest.mark.parametrize(
    "permissions",
    [
        [permission(22, WORLD, WORLD6, description="just for today")],
        [permission(0, WORLD, to=65535, description="all of it")],
        [permission(0, WORLD, protocol="-1")],
        [permission(22, *HALVES), permission(443, WORLD)],
        [permission(20, WORLD, to=25), permission(20, WORLD, to=30), permission(0, WORLD, to=21)],
    ],
)
@pytest.mark.parametrize("who", [None, "me"])
def test_undo_brings_back_exactly_what_was_there(
    aws: Account, group: Target, permissions: list[dict[str, Any]], who: str | None
) -> None:
    opened = let_in(aws.session, group, *permissions, who=who)
    run = remedy(aws, group, *opened)
    assert run.after.compliant
    plan = unmake(aws, group, run)
    assert plan.at_most is Mode.ASK
    assert look(aws, group).content() == run.before.content()
    assert unmake(aws, group, run) == NOTHING_TO_DO


def test_undo_restores_one_call_per_set_of_tags(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD), who="me")
    opened += let_in(aws.session, group, permission(22, WORLD6))
    run = remedy(aws, group, *opened)
    assert len(unmake(aws, group, run).calls) == 2
    assert look(aws, group).content() == run.before.content()


def test_undo_skips_what_is_back_already(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD, WORLD6))
    run = remedy(aws, group, *opened)
    let_in(aws.session, group, permission(22, WORLD))
    (call,) = unmake(aws, group, run).calls
    assert [one["Ipv6Ranges"] for one in listed(call, "IpPermissions")] == [[{"CidrIpv6": WORLD6}]]
    assert look(aws, group).content() == run.before.content()


def test_undo_leaves_alone_what_others_added_since(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(20, WORLD, to=25))
    run = remedy(aws, group, *opened)
    let_in(aws.session, group, permission(443, WORLD))
    unmake(aws, group, run)
    assert open_ranges(aws, group) == [(20, 25, WORLD), (443, 443, WORLD)]


def test_undo_declines_when_the_rule_came_back_in_another_form(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(22, WORLD, description="just for today"))
    run = remedy(aws, group, *opened)
    let_in(aws.session, group, permission(22, WORLD, description="somebody else's"))
    plan = unmake(aws, group, run)
    assert (plan.calls, len(plan.declined)) == ((), 1)


def test_undo_declines_when_a_replacement_is_missing(aws: Account, group: Target) -> None:
    opened = let_in(aws.session, group, permission(20, WORLD, to=25))
    run = remedy(aws, group, *opened)
    ec2_of(aws.session).revoke_security_group_ingress(
        GroupId=group.id, SecurityGroupRuleIds=[run.after.rules[0].id]
    )
    plan = unmake(aws, group, run)
    assert plan.calls == ()
    assert "which the run added" in plan.declined[0].what


def test_undo_declines_when_there_is_no_room() -> None:
    before = state(rule("sgr-1", WORLD))
    run = RunRecord(before, decide(before, "sgr-1"), (), state())
    full = state(*(rule(f"sgr-{port}", "10.0.0.0/8", (port, port)) for port in range(1000, 1060)))
    plan = REMEDIATION.undo(GROUP, run, full)
    assert plan.calls == ()
    assert "no room" in plan.declined[0].why


def test_undo_of_a_run_that_was_stopped_halfway_takes_back_only_what_it_added(
    aws: Account, group: Target
) -> None:
    opened = let_in(aws.session, group, permission(20, WORLD, to=25))
    before = look(aws, group)
    plan = decide(before, *opened, target=group)
    aws.apply(Plan(calls=plan.calls[:1]))
    run = RunRecord(before, plan, done(plan)[:1], look(aws, group))
    assert [call.operation for call in unmake(aws, group, run).calls] == ["RevokeSecurityGroupIngress"]
    assert look(aws, group).content() == before.content()


# ------------------------------------------------------------------------------------------ where else, whose, by hand


PLACE = Target(account=ACCOUNT, region=REGION, type="AWS::::Account", id=ACCOUNT)


def survey(aws: Account, *ports: int) -> list[str]:
    found = REMEDIATION.survey(PLACE, WatchedPorts(ports=ports or (22,)), aws.reader)
    assert all((one.account, one.region, one.type) == (ACCOUNT, REGION, GROUP.type) for one in found)
    return [one.id for one in found]


def test_a_survey_names_the_groups_that_open_a_watched_port(aws: Account) -> None:
    open_to = {
        name: new_group(aws.session).id
        for name in ("ssh", "rdp", "all", "range", "v6", "halves", "half", "office", "https", "nothing")
    }
    for name, given_one in {
        "ssh": permission(22, WORLD),
        "rdp": permission(3389, WORLD, protocol="udp"),
        "all": permission(0, WORLD, protocol="-1"),
        "range": permission(0, WORLD, to=65535),
        "v6": permission(22, WORLD6),
        "halves": permission(22, *HALVES),
        "half": permission(22, HALVES[0]),
        "office": permission(22, "198.51.100.7/32"),
        "https": permission(443, WORLD),
    }.items():
        let_in(aws.session, GROUP.model_copy(update={"id": open_to[name]}), given_one)
    assert set(survey(aws)) == {open_to[name] for name in ("ssh", "all", "range", "v6", "halves")}
    assert set(survey(aws, 3389)) == {open_to[name] for name in ("rdp", "all", "range")}
    assert set(aws.reader.operations) == {"DescribeSecurityGroupRules"}


def test_a_survey_names_a_group_whose_prefix_list_it_has_not_looked_into(aws: Account, group: Target) -> None:
    listing(aws, group, "198.51.100.0/24")
    assert survey(aws) == [group.id]
    assert survey(aws, 3389) == []


@UNHURRIED
@given(STATES)
def test_a_survey_never_leaves_out_what_an_assessment_would_find(state: Ingress) -> None:
    items = [
        {
            "SecurityGroupRuleId": one.id,
            "GroupId": state.group,
            "GroupOwnerId": state.owner,
            "IsEgress": False,
            "IpProtocol": one.protocol,
            **({} if one.from_port is None else {"FromPort": one.from_port, "ToPort": one.to_port}),
            **({"CidrIpv4": one.cidr_v4} if one.cidr_v4 else {}),
            **({"CidrIpv6": one.cidr_v6} if one.cidr_v6 else {}),
            **({"PrefixListId": one.prefix_list} if one.prefix_list else {}),
            **({"ReferencedGroupInfo": {"GroupId": one.group}} if one.group else {}),
        }
        for one in state.rules
    ]
    reader = MotoReader(
        boto3.Session(), instead={"DescribeSecurityGroupRules": {"SecurityGroupRules": items}}
    )
    named = REMEDIATION.survey(PLACE, WatchedPorts(ports=state.ports), reader)
    seen = tuple(one for one in state.prefix_lists if one.id in _lists_that_count(state))
    state = state.model_copy(update={"prefix_lists": seen})  # an assessment looks into no other
    assert state.compliant or [one.id for one in named] == [state.group]


def test_a_group_tells_its_tags(aws: Account, group: Target) -> None:
    assert REMEDIATION.tags is not None
    assert REMEDIATION.tags(group, aws.reader) == {}
    ec2_of(aws.session).create_tags(Resources=[group.id], Tags=[{"Key": "owner", "Value": "ops"}])
    assert REMEDIATION.tags(group, aws.reader) == {"owner": "ops"}
    aws.reader.broken["DescribeSecurityGroups"] = "UnauthorizedOperation"
    with pytest.raises(AwsError):
        REMEDIATION.tags(group, aws.reader)


def by_hand(state: Ingress) -> tuple[Step, ...]:
    return REMEDIATION.by_hand(GROUP, state)


def test_a_person_is_told_how_to_close_each_rule_by_hand() -> None:
    crowd = [rule(f"sgr-{port}", "10.0.0.0/8", (port, port)) for port in range(1000, 1057)]
    everything = rule("sgr-all", WORLD6, (None, None), protocol="-1")
    look_first, wide, plain, all_traffic = by_hand(
        state(rule("sgr-wide", WORLD, (20, 25)), rule("sgr-ssh", "128.0.0.0/0"), everything, *crowd[1:])
    )
    assert look_first.command == (
        f"aws ec2 describe-security-group-rules --region {REGION} --cli-input-json"
        f""" '{{"Filters": [{{"Name": "group-id", "Values": ["{GROUP.id}"]}}]}}'"""
    )
    assert "make room" not in wide.console
    assert "add rules for the other ports of sgr-wide (tcp 20-25 from 0.0.0.0/0)" in wide.console
    assert "give sgr-ssh (tcp 22 from 0.0.0.0/0) a source that you know, or delete it" in plain.console
    assert "only then delete sgr-all (all traffic from ::/0)" in all_traffic.console
    (_, crowded) = by_hand(state(rule("sgr-wide", WORLD, (20, 25)), *crowd, *_more(2)))
    assert "make room under the default quota" in crowded.console
    assert crowded.command.endswith("""["sgr-wide"]}'""")


def _more(number: int) -> list[Rule]:
    return [rule(f"sgr-{port}", "10.0.0.0/8", (port, port)) for port in range(2000, 2000 + number)]


def test_a_prefix_list_is_narrowed_or_left_by_hand() -> None:
    opening, unseen, harmless = (
        PrefixList(id="pl-1", cidrs=HALVES),
        PrefixList(id="pl-2", cidrs=None),
        PrefixList(id="pl-3", cidrs=("192.0.2.0/24",)),
    )
    rules = (
        rule("sgr-1", "pl-1"),
        rule("sgr-2", "pl-2"),
        rule("sgr-3", "pl-3"),
        rule("sgr-4", "pl-1", (1, 2)),
    )
    _, *steps = by_hand(state(*rules, lists=(opening, unseen, harmless)))
    assert [step.command.split(" --cli-input-json ")[1] for step in steps] == [
        """'{"PrefixListId": "pl-1"}'""",
        f"""'{{"GroupId": "{GROUP.id}", "SecurityGroupRuleIds": ["sgr-1"]}}'""",
        """'{"PrefixListId": "pl-2"}'""",
        f"""'{{"GroupId": "{GROUP.id}", "SecurityGroupRuleIds": ["sgr-2"]}}'""",
    ]
    assert "if the list is yours" in steps[0].console
    assert steps[1].command.startswith(f"aws ec2 revoke-security-group-ingress --region {REGION} ")
    assert "only then delete the rules for port 22 from pl-1." in steps[1].console


@pytest.mark.parametrize("owner, named", [("210987654321", "account 210987654321"), (None, "does not name")])
def test_a_group_of_another_account_is_its_owners_to_change_by_hand(owner: str | None, named: str) -> None:
    (step,) = by_hand(state(rule("sgr-1", WORLD)).model_copy(update={"owner": owner}))
    assert named in step.console
    assert step.command == ""


def test_terraform_gets_known_sources_and_the_other_ports() -> None:
    lure = 'x"\n}\nresource "aws_iam_user" "${file("/etc/passwd")}" {'
    split = rule("sgr-1", WORLD6, (20, 25), tags=(("a ${b}", '"'),)).model_copy(update={"description": lure})
    lists = [PrefixList(id="pl-1", cidrs=HALVES)]
    code = REMEDIATION.as_code(GROUP, state(split, rule("sgr-2", WORLD), rule("sgr-3", "pl-1"), lists=lists))
    assert "# Take out sgr-1: tcp 20-25 from ::/0.\n# Take out sgr-2: tcp 22 from 0.0.0.0/0.\n" in code
    assert "# Take out what refers to pl-1, or narrow that list.\n" in code
    assert (
        """
resource "aws_vpc_security_group_ingress_rule" "port_22" {
  for_each          = var.known_sources
  security_group_id = "sg-0123456789abcdef0"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
}
"""
        in code
    )
    kept = code.split('"kept_1" {')[1]
    assert '  cidr_ipv6         = "::/0"\n' in kept
    assert "  from_port         = 20\n  to_port           = 21\n" in kept
    assert r'"x\"\u000a}\u000aresource \"aws_iam_user\" \"\u0024{file(\"/etc/passwd\")}\" {"' in kept
    assert r'  tags              = { "a \u0024{b}" = "\"" }' in kept
    assert code.endswith("}\n")
    assert code.count("resource ") == 3 + 2, "two of them in the description of both halves"
    assert '  cidr_ipv4         = "0.0.0.0/0"' not in code


@UNHURRIED
@given(STATES)
def test_a_person_is_told_something_of_every_state(state: Ingress) -> None:
    assert REMEDIATION.by_hand(GROUP, state)  # each of them within what a step may hold
    assert REMEDIATION.as_code(GROUP, state).count("{") >= len(state.ports)


# --------------------------------------------------------------------------------------- for every state there can be


def world_after(before: Ingress, calls: Iterable[Call]) -> Ingress:
    """What EC2 would hold after these calls; it refuses duplicates and unknown ids, as EC2 does."""
    rules = {one.id: one for one in before.rules}
    fresh = (f"{max(rules, default='sgr-', key=len)}+{number}" for number in count())
    for call in calls:
        if call.operation == "RevokeSecurityGroupIngress":
            for name in listed(call, "SecurityGroupRuleIds"):
                del rules[name]
            continue
        specifications = call.params.get("TagSpecifications")
        assert specifications is None or isinstance(specifications, list)
        tags = json.loads(json.dumps(specifications))[0]["Tags"] if specifications else []
        for given_one in listed(call, "IpPermissions"):
            (source,) = given_one.get("IpRanges") or given_one["Ipv6Ranges"]
            made = Rule(
                id=next(fresh),
                protocol=given_one["IpProtocol"],
                from_port=given_one.get("FromPort"),
                to_port=given_one.get("ToPort"),
                cidr_v4=source.get("CidrIp"),
                cidr_v6=source.get("CidrIpv6"),
                description=source.get("Description"),
                tags=tuple((tag["Key"], tag["Value"]) for tag in tags),
            )
            assert _key(made) not in {_key(one) for one in rules.values()}, "InvalidPermission.Duplicate"
            rules[made.id] = made
    return before.model_copy(update={"rules": tuple(sorted(rules.values(), key=lambda one: one.id))})


def opened_in(state: Ingress) -> tuple[str, ...]:
    """As if every other rule had been opened by the event."""
    return tuple(one.id for one in state.rules[::2])


@UNHURRIED
@given(STATES)
def test_a_state_survives_json(state: Ingress) -> None:
    assert Ingress.model_validate_json(state.model_dump_json()) == state


@UNHURRIED
@given(STATES)
def test_a_plan_is_a_pure_decision(state: Ingress) -> None:
    plan = decide(state, *opened_in(state))
    assert plan == decide(state, *opened_in(state))
    assert plan.satisfied is state.compliant


@UNHURRIED
@given(STATES)
def test_after_the_calls_there_is_nothing_left_but_what_was_declined(state: Ingress) -> None:
    plan = decide(state, *opened_in(state))
    after = world_after(state, plan.calls)
    again = decide(after, *opened_in(state))
    assert again.calls == ()
    assert after.compliant is (not plan.declined)


@UNHURRIED
@given(STATES)
def test_a_run_that_died_after_any_call_is_finished_by_calls_that_were_meant(state: Ingress) -> None:
    plan = decide(state, *opened_in(state))
    for made in range(len(plan.calls)):
        left = decide(world_after(state, plan.calls[:made]), *opened_in(state)).calls
        assert [call.identity for call in left] == [call.identity for call in plan.calls[made:]]


@UNHURRIED
@given(STATES)
def test_ports_that_nobody_watches_stay_open_unless_all_traffic_goes(state: Ingress) -> None:
    plan = decide(state, *opened_in(state))
    after = world_after(state, plan.calls)
    for one in state.rules:
        if (
            one.source
            and one.protocol not in {"-1", "icmp"}
            and one.from_port is not None
            and one.to_port is not None
        ):
            for port in (one.from_port, one.to_port):
                assert port in state.ports or any(
                    other.source == one.source
                    and {"6": "tcp", "17": "udp"}.get(other.protocol, other.protocol)
                    == {"6": "tcp", "17": "udp"}.get(one.protocol, one.protocol)
                    and other.from_port is not None
                    and other.to_port is not None
                    and other.from_port <= port <= other.to_port
                    for other in after.rules
                )


@UNHURRIED
@given(STATES)
def test_undo_of_any_run_brings_back_its_content(state: Ingress) -> None:
    plan = decide(state, *opened_in(state))
    after = world_after(state, plan.calls)
    run = RunRecord(state, plan, done(plan), after)
    undoing = REMEDIATION.undo(GROUP, run, after)
    assert undoing.declined == () or state.owner != ACCOUNT
    assert world_after(after, undoing.calls).content() == state.content()
