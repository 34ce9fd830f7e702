"""Classify: which control an event may break, by its request and its answer in every shape that CloudTrail has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.catalog import load
from chalicelib.domain.contract import Mode
from chalicelib.domain.control import Control, EventRule, Status
from chalicelib.domain.errors import MalformedEventError
from chalicelib.domain.finding import Finding, NotOurs, Severity
from chalicelib.flow import classify, intake

WORLD = {"cidrIp": "0.0.0.0/0"}


def event(name: str, request: object, answer: object = None, **detail: Any) -> dict[str, Any]:
    return {
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.ec2",
        "account": "111111111111",
        "region": "eu-central-1",
        "time": "2026-11-22T03:00:00Z",
        "id": "envelope-1",
        "detail": {
            "eventID": "event-1",
            "eventTime": "2026-11-22T03:00:00Z",
            "eventSource": "ec2.amazonaws.com",
            "eventName": name,
            "awsRegion": "eu-central-1",
            "userIdentity": {"type": "Root", "arn": "arn:aws:iam::111111111111:root"},
            "requestParameters": request,
            "responseElements": answer,
            **detail,
        },
    }


def found(raw: dict[str, Any]) -> dict[str, Finding]:
    (signal,) = intake.read(raw)
    assert not isinstance(signal, NotOurs), signal
    result = classify.findings(signal, load())
    return {} if isinstance(result, NotOurs) else {finding.control: finding for finding in result}


def authorize(permission: dict[str, Any], answer: object = None) -> dict[str, Any]:
    return event(
        "AuthorizeSecurityGroupIngress", {"groupId": "sg-1", "ipPermissions": {"items": [permission]}}, answer
    )


def permission(
    low: object, high: object, *v4: str, v6: tuple[str, ...] = (), protocol: str = "tcp"
) -> dict[str, Any]:
    return {
        "ipProtocol": protocol,
        "fromPort": low,
        "toPort": high,
        "groups": {},
        "ipRanges": {"items": [{"cidrIp": cidr} for cidr in v4]} if v4 else {},
        "ipv6Ranges": {"items": [{"cidrIpv6": cidr} for cidr in v6]} if v6 else {},
        "prefixListIds": {},
    }


@pytest.mark.parametrize(
    "opened, controls",
    [
        (permission(22, 22, "0.0.0.0/0"), {"ec2-open-ssh"}),
        (permission("22", "22", "0.0.0.0/0"), {"ec2-open-ssh"}),
        (permission(22, 22, v6=("::/0",)), {"ec2-open-ssh"}),
        (permission(22, 22, "10.0.0.0/8", "0.0.0.0/0", "192.0.2.0/24"), {"ec2-open-ssh"}),
        (permission(22, 22, "1.2.3.4/0"), {"ec2-open-ssh"}),
        (permission(22, 22, "0.0.0.0/1"), {"ec2-open-ssh"}),
        (permission(22, 22, "0.0.0.0/0", protocol="6"), {"ec2-open-ssh"}),
        (permission(3389, 3389, "0.0.0.0/0"), {"ec2-open-rdp"}),
        (permission(0, 65535, "0.0.0.0/0"), {"ec2-open-ssh", "ec2-open-rdp"}),
        (permission(None, None, "0.0.0.0/0", protocol="-1"), {"ec2-open-ssh", "ec2-open-rdp"}),
        ({**permission(22, 22), "prefixListIds": {"items": [{"prefixListId": "pl-1"}]}}, {"ec2-open-ssh"}),
        (permission(443, 443, "0.0.0.0/0"), set()),
        (permission(22, 22, "0.0.0.0/16"), set()),
        (permission(22, 22, "127.0.0.1/32"), set()),
        (permission(22, 22, "10.0.0.0/8"), set()),
        (permission(22, 22, "0.0.0.0/0", protocol="udp"), set()),
        (permission(22, 22, "not a network"), {"ec2-open-ssh"}),
        (permission(22, 22, "0.0.0.0/0%"), {"ec2-open-ssh"}),
        (permission(22, 22, "000.000.000.000/0"), {"ec2-open-ssh"}),
        (permission("--22", "²²", "0.0.0.0/0"), {"ec2-open-ssh", "ec2-open-rdp"}),
        (permission("9" * 5000, 22, "0.0.0.0/0"), {"ec2-open-ssh", "ec2-open-rdp"}),
        (permission(22, 22, "0.0.0.0/0", protocol="TCP"), {"ec2-open-ssh"}),
        (permission(22, 22, "0.0.0.0/0", protocol="06"), {"ec2-open-ssh"}),
        (permission(22, 22, "0.0.0.0/0", protocol="017"), set()),
        (permission(22, 22, "0.0.0.0/0", protocol="0" * 5000), set()),
        (permission(22, 22, "0.0.0.0/0", protocol="ICMP"), set()),
        (permission(443, 443, "0.0.0.0/0", protocol="9" * 5000), {"ec2-open-ssh", "ec2-open-rdp"}),
        (permission(443, 443, "0.0.0.0/0", protocol="六"), {"ec2-open-ssh", "ec2-open-rdp"}),
        ({**permission(22, 22), "groups": {"items": [{"groupId": "sg-2"}]}}, set()),
    ],
)
def test_a_permission_is_judged_by_port_protocol_and_source(
    opened: dict[str, Any], controls: set[str]
) -> None:
    assert set(found(authorize(opened))) == controls


def test_the_answers_rules_are_believed_before_the_request_and_bring_their_ids() -> None:
    answer = {
        "_return": True,
        "securityGroupRuleSet": {
            "items": [
                {"securityGroupRuleId": "sgr-2", "isEgress": False, "ipProtocol": "tcp", "fromPort": 22, "toPort": 22,
                 "cidrIpv4": "0.0.0.0/0"},
                {"securityGroupRuleId": "sgr-1", "isEgress": False, "ipProtocol": "tcp", "fromPort": 22, "toPort": 22,
                 "cidrIpv6": "::/0"},
                {"securityGroupRuleId": "sgr-3", "isEgress": False, "ipProtocol": "tcp", "fromPort": 443,
                 "toPort": 443, "cidrIpv4": "0.0.0.0/0"},
                {"securityGroupRuleId": "sgr-4", "isEgress": True, "ipProtocol": "tcp", "fromPort": 22, "toPort": 22,
                 "cidrIpv4": "0.0.0.0/0"},
            ]
        },
    }  # fmt: skip
    finding = found(authorize(permission(22, 22, "0.0.0.0/0"), answer))["ec2-open-ssh"]
    assert finding.opened == ("sgr-1", "sgr-2")


def test_an_event_without_rule_ids_is_a_finding_that_claims_to_have_opened_nothing() -> None:
    assert found(authorize(permission(22, 22, "0.0.0.0/0"), {"_return": True}))["ec2-open-ssh"].opened == ()


def test_the_flat_form_with_an_empty_permission_list_is_read() -> None:
    flat = {
        "groupId": "sg-1",
        "ipPermissions": {},
        "ipProtocol": "tcp",
        "fromPort": 22,
        "toPort": 22,
        "cidrIp": "0.0.0.0/0",
    }
    assert set(found(event("AuthorizeSecurityGroupIngress", flat))) == {"ec2-open-ssh"}


@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: [rule], lambda rule: {"items": [rule]}])
def test_a_rule_edited_in_place_is_a_finding_that_only_a_person_may_repair(wrap: Any) -> None:
    rule = {
        "SecurityGroupRuleId": "sgr-1",
        "SecurityGroupRule": {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"},
        "tag": 1,
    }
    request = {"ModifySecurityGroupRulesRequest": {"GroupId": "sg-9", "SecurityGroupRule": wrap(rule)}}
    finding = found(event("ModifySecurityGroupRules", request))["ec2-open-ssh"]
    assert finding.target.id == "sg-9"
    assert finding.opened == ()


def test_a_group_named_only_in_the_answer_is_found_there() -> None:
    answer = {
        "securityGroupRuleSet": {
            "items": [
                {"groupId": "sg-7", "securityGroupRuleId": "sgr-1", "ipProtocol": "tcp", "fromPort": 22,
                 "toPort": 22, "cidrIpv4": "0.0.0.0/0"}
            ]
        }
    }  # fmt: skip
    request = {"groupName": "default", "ipPermissions": {"items": [permission(22, 22, "0.0.0.0/0")]}}
    finding = found(event("AuthorizeSecurityGroupIngress", request, answer))["ec2-open-ssh"]
    assert finding.target.resource == "arn:aws:ec2:eu-central-1:111111111111:security-group/sg-7"


@pytest.mark.parametrize(
    "request_",
    [
        None,
        "",
        [],
        {},
        *(
            {**authorize(permission(22, 22, "0.0.0.0/0"))["detail"]["requestParameters"], "groupId": name}
            for name in ("", 7, "sg-" + "x" * 600, "<redacted>", "*", "sg-*", "sg-1/../*", "SG-1", "sg-1\n")
        ),
    ],
)
def test_a_group_that_the_event_does_not_name_is_no_finding(request_: object) -> None:
    assert found(event("AuthorizeSecurityGroupIngress", request_)) == {}


@pytest.mark.parametrize(
    "rule",
    [
        {"IpProtocol": "TCP", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"},
        {"IpProtocol": "Tcp", "FromPort": 22, "ToPort": 22, "CidrIpv6": "::/0"},
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "000.000.000.000/0"},
        {"IpProtocol": "06", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"},
    ],
    ids=["TCP", "Tcp v6", "leading zeros", "06"],
)
def test_however_the_callers_own_words_are_spelt_the_edit_of_a_rule_is_looked_at(
    rule: dict[str, Any],
) -> None:
    """EC2 takes what it is given and canonicalises it; the event of an edit holds only what it was given."""
    edit = {
        "GroupId": "sg-9",
        "SecurityGroupRule": {"SecurityGroupRuleId": "sgr-1", "SecurityGroupRule": rule},
    }
    raw = event("ModifySecurityGroupRules", {"ModifySecurityGroupRulesRequest": edit})
    assert set(found(raw)) == {"ec2-open-ssh"}


def test_switching_off_default_encryption_is_a_finding_on_the_account_that_the_event_created() -> None:
    finding = found(event("DisableEbsEncryptionByDefault", {"DisableEbsEncryptionByDefaultRequest": ""}))
    assert finding["ebs-default-encryption"].target.resource == "AWS::::Account:111111111111"
    assert finding["ebs-default-encryption"].opened == ("ebs-default-encryption",)


@pytest.mark.parametrize(
    "name", ["RevokeSecurityGroupIngress", "EnableEbsEncryptionByDefault", "AuthorizeSecurityGroupEgress"]
)
def test_events_that_repair_or_concern_something_else_are_not_ours(name: str) -> None:
    assert (
        found(event(name, {"groupId": "sg-1", "ipPermissions": {"items": [permission(22, 22, "0.0.0.0/0")]}}))
        == {}
    )


def test_the_partition_of_a_resource_follows_its_region() -> None:
    raw = authorize(permission(22, 22, "0.0.0.0/0"))
    raw["region"] = raw["detail"]["awsRegion"] = "cn-north-1"
    assert found(raw)["ec2-open-ssh"].target.resource.startswith("arn:aws-cn:ec2:cn-north-1:")


def listens(when: str, name: str, kind: str = "AWS::S3::Bucket", **known: Any) -> Control:
    """A control that hears one event of EC2's and asks one predicate."""
    target = (
        None if kind == "AWS::::Account" else "requestParameters.bucketName || requestParameters.userName"
    )
    return Control(
        id="c",
        version="1",
        title="t",
        severity=Severity.LOW,
        resource=kind,
        status=Status.STABLE,
        ceiling=Mode.ACT,
        why="w",
        false_positives=("f",),
        frameworks={},
        events=(EventRule(source="ec2.amazonaws.com", names=(name,), target=target, when=when or None),) * 2,
        **known,
    )


def judged(control: Control, raw: dict[str, Any]) -> Finding | str:
    class Catalog:
        controls = (control,)

    (signal,) = intake.read(raw)
    assert not isinstance(signal, NotOurs), signal
    result = classify.findings(signal, Catalog())
    if isinstance(result, NotOurs):
        return result.reason
    (finding,) = result  # two rules of one control, and yet one finding
    return finding


ALL_ON: dict[str, object] = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": "true",
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": "TRUE",
}


@pytest.mark.parametrize(
    "written, loosens",
    [
        (ALL_ON, False),
        *(({**ALL_ON, switch: "false"}, True) for switch in ALL_ON),
        *(({**ALL_ON, "BlockPublicAcls": off}, True) for off in (False, None, 1, 0.5)),
        *(({key: on for key, on in ALL_ON.items() if key != switch}, True) for switch in ALL_ON),
        ({}, True),
        ("", True),
        (None, True),
    ],
)
def test_a_public_access_block_is_loosened_by_all_but_four_times_on(written: object, loosens: bool) -> None:
    name = "PutBucketPublicAccessBlock"
    request = {"bucketName": "ledger", "PublicAccessBlockConfiguration": written}
    finding = judged(listens("loosens_public_access_block", name), event(name, request))
    if loosens:
        assert isinstance(finding, Finding)
        assert finding.opened == ("loosened",)
    else:
        assert "a tightening" in str(finding)


def test_a_public_access_block_is_loosened_when_it_is_deleted_or_written_without_a_body() -> None:
    for name, request in (
        ("PutBucketPublicAccessBlock", {"bucketName": "ledger"}),
        ("DeleteBucketPublicAccessBlock", {"bucketName": "ledger", "PublicAccessBlockConfiguration": ALL_ON}),
    ):
        finding = judged(listens("loosens_public_access_block", name), event(name, request))
        assert isinstance(finding, Finding)
        assert finding.opened == ("loosened",)
        assert finding.target.resource == "arn:aws:s3:::ledger"


def test_whatever_a_new_bucket_lacks_was_opened_by_its_creation() -> None:
    finding = judged(
        listens("creates_bucket", "CreateBucket"), event("CreateBucket", {"bucketName": "ledger"})
    )
    assert isinstance(finding, Finding)
    assert finding.opened == ("created",)


ROOT_KEY = listens("by_root_for_itself", "CreateAccessKey", "AWS::::Account", regional=False)


@pytest.mark.parametrize("request_", [None, {}, {"userName": None}, "", "..."])
def test_a_key_that_root_makes_and_names_no_user_is_its_own(request_: object) -> None:
    finding = judged(ROOT_KEY, event("CreateAccessKey", request_))
    assert isinstance(finding, Finding)
    assert finding.opened == ()
    assert (finding.target.resource, finding.target.region) == ("AWS::::Account:111111111111", "global")


@pytest.mark.parametrize(
    "request_, identity, says",
    [
        ({"userName": "ann"}, {"type": "Root"}, "for a user"),
        (None, {"type": "IAMUser", "userName": "root"}, "not the account's root"),
        (None, {"type": "AssumedRole", "arn": "arn:aws:iam::111111111111:root"}, "not the account's root"),
        (None, {"type": "Root", "invokedBy": "cloudformation.amazonaws.com"}, "not the account's root"),
        (None, {"Type": "Root", "invokedby": "AWS Internal"}, "not the account's root"),
        (None, None, "not the account's root"),
        (None, "Root", "not the account's root"),
    ],
)
def test_a_key_that_is_not_roots_own_is_no_matter_of_root(
    request_: object, identity: object, says: str
) -> None:
    assert says in str(judged(ROOT_KEY, event("CreateAccessKey", request_, userIdentity=identity)))


@pytest.mark.parametrize("region, expected", [("us-east-1", "global"), ("cn-north-1", "aws-cn-global")])
def test_what_has_no_region_lies_in_the_world_of_the_events_partition(region: str, expected: str) -> None:
    raw = event("CreateAccessKey", {"userName": "ann"})
    raw["region"] = raw["detail"]["awsRegion"] = region
    finding = judged(listens("", "CreateAccessKey", "AWS::IAM::User", regional=False), raw)
    assert isinstance(finding, Finding)
    assert (finding.target.region, finding.target.id) == (expected, "ann")


@pytest.mark.parametrize(
    "name, creates",
    [
        ("CreateBucket", True),
        ("RunInstances", True),
        ("PutBucketAcl", False),
        ("RecreateX", False),
        ("createX", False),
    ],
)
def test_a_resource_is_made_by_create_events_and_by_run_instances(name: str, creates: bool) -> None:
    assert classify.creates(name) is creates


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CATALOG = load()
HEARD = sorted({(rule.source, name) for c in CATALOG.controls for rule in c.events for name in rule.names})
FIELDS = (
    "requestParameters",
    "responseElements",
    "userIdentity",
    "readOnly",
    "userAgent",
    "eventTime",
    "eventID",
)
WORDS = st.sampled_from(
    [
        "groupId", "ipPermissions", "items", "cidrIp", "ipProtocol", "securityGroupRuleSet", "bucketName", "userName",
        "PublicAccessBlockConfiguration", "ModifySecurityGroupRulesRequest", "SecurityGroupRule", "GroupId", "type",
    ]
)  # fmt: skip
REQUEST = st.dictionaries(WORDS, st.dictionaries(WORDS, JSON, max_size=3) | JSON, max_size=4)


@given(st.sampled_from(HEARD), st.dictionaries(st.sampled_from(FIELDS), JSON | REQUEST, max_size=4))
def test_an_event_that_is_heard_may_hold_anything(heard: tuple[str, str], said: dict[str, Any]) -> None:
    raw = event(heard[1], {"groupId": "sg-1"}, eventSource=heard[0], **said)
    try:
        read = intake.read(raw)
    except MalformedEventError:
        return
    for one in read:
        if not isinstance(one, NotOurs):
            classify.findings(one, CATALOG)
