"""Patterns and policies from catalogs and declarations that the real ones do not have yet."""

from typing import Any

import pytest

from chalicelib.cli import patterns, policies
from chalicelib.domain.contract import Mode, Permission
from chalicelib.domain.control import Control, EventRule, Status
from chalicelib.domain.errors import CatalogError
from chalicelib.domain.finding import Severity
from local.emulator.names import matches


def control(*events: EventRule, status: Status = Status.TRIAL, **known: Any) -> Control:
    return Control(
        id="c",
        version="1",
        title="t",
        severity=Severity.LOW,
        status=status,
        ceiling=Mode.ASK,
        why="w",
        false_positives=(),
        events=events,
        **{"resource": "r", "frameworks": {}, **known},
    )


def test_a_pattern_that_would_be_too_long_is_split_and_nothing_is_lost() -> None:
    names = tuple(f"DoSomethingThatHasARatherLongName{number:03d}" for number in range(198))
    routes = patterns.routes([control(EventRule(source="ec2.amazonaws.com", names=names))])
    assert len(routes) > 1
    assert [route.name for route in routes][:2] == ["ec2", "ec2-2"]
    assert all(patterns.length(route.pattern) <= patterns.LONGEST for route in routes)
    assert [name for route in routes for name in route.pattern["detail"]["eventName"]] == sorted(names)


def test_one_service_is_one_rule_however_many_controls_listen() -> None:
    first = control(EventRule(source="iam.amazonaws.com", names=("B", "A")))
    second = control(
        EventRule(source="iam.amazonaws.com", names=("C", "A")),
        EventRule(source="ec2.amazonaws.com", names=("D",)),
    )
    routes = patterns.routes([first, second])
    assert routes == patterns.routes([second, first])
    assert [(route.name, route.pattern["detail"]["eventName"]) for route in routes] == [
        ("ec2", ["D"]),
        ("iam", ["A", "B", "C"]),
    ]


def test_a_retired_control_is_not_listened_for() -> None:
    retired = control(
        EventRule(source="ec2.amazonaws.com", names=("A",)), status=Status.RETIRED, security_hub=("EC2.1",)
    )
    assert patterns.routes([retired]) == ()


def test_a_sign_in_is_an_event_of_a_type_of_its_own() -> None:
    (route,) = patterns.routes([control(EventRule(source="signin.amazonaws.com", names=("ConsoleLogin",)))])
    assert route.name == "signin"
    assert route.pattern["detail-type"] == ["AWS Console Sign In via CloudTrail"]


@pytest.mark.parametrize(
    "known, names",
    [
        ({}, []),
        (
            {"security_hub": ("EC2.13",)},
            [
                "findings-action",
                "findings-securityhub",
                "findings-securityhub-legacy",
                "findings-securityhub-v2",
            ],
        ),
        (
            {"frameworks": {"cis_aws_foundations_1_2_0": ("4.1",), "scf": ("X",)}},
            ["findings-action", "findings-securityhub-legacy"],
        ),
        ({"config_rules": ("A_B",)}, ["findings-config"]),
        ({"config_rule_names": ("a-b",)}, ["findings-config"]),
        ({"guardduty": ("Policy:S3/X",)}, ["findings-guardduty"]),
        ({"access_analyzer": ("AWS::S3::Bucket",)}, ["findings-access-analyzer"]),
    ],
)
def test_only_those_are_listened_to_whom_some_control_answers(
    known: dict[str, Any], names: list[str]
) -> None:
    assert [route.name for route in patterns.routes([control(**known)])] == names


def test_the_names_of_a_control_stand_in_the_patterns_and_once() -> None:
    first = control(
        security_hub=("EC2.13", "PCI.EC2.5"),
        frameworks={"cis_aws_foundations_1_2_0": ("4.1",), "cis_aws_foundations_1_4_0": ("5.2",)},
        config_rules=("A",),
        resource="AWS::S3::Bucket",
    )
    second = control(security_hub=("EC2.13",), config_rule_names=("b",), resource="AWS::S3::Bucket")
    by_name = {
        route.name: route.pattern["detail"]
        for route in patterns.routes([first, second])
        if "detail" in route.pattern
    }
    assert by_name["findings-securityhub"]["findings"]["Compliance"]["SecurityControlId"] == [
        "EC2.13",
        "PCI.EC2.5",
    ]
    assert by_name["findings-securityhub-v2"]["findings"]["compliance"]["control"] == ["EC2.13", "PCI.EC2.5"]
    assert by_name["findings-config"]["resourceType"] == ["AWS::S3::Bucket"]
    assert [one["suffix"] for one in by_name["findings-securityhub-legacy"]["findings"]["GeneratorId"]] == [
        "/EC2.13",
        "/PCI.EC2.5",
        "/cis-aws-foundations-benchmark/v/1.2.0/rule/4.1",
        "/cis-aws-foundations-benchmark/v/1.4.0/5.2",
    ]


HUB = "arn:aws:securityhub:eu-central-1::product/aws/securityhub"
FAILED = {
    "ProductArn": HUB,
    "RecordState": "ACTIVE",
    "GeneratorId": "security-control/EC2.13",
    "Compliance": {"Status": "FAILED", "SecurityControlId": "EC2.13"},
}
LEGACY = {**FAILED, "GeneratorId": "pci-dss/v/3.2.1/PCI.EC2.5", "Compliance": {"Status": "FAILED"}}
IMPORTED, ACTION, V2 = (
    "Security Hub Findings - Imported",
    "Security Hub Findings - Custom Action",
    "Findings Imported V2",
)
CONFIG = {"resourceType": "AWS::S3::Bucket", "newEvaluationResult": {"complianceType": "NON_COMPLIANT"}}
PUBLIC = {"status": "ACTIVE", "isPublic": True, "resourceType": "AWS::S3::Bucket"}
OCSF = {"class_uid": 2003, "compliance": {"control": "EC2.13", "status": "Fail", "status_id": 3}}


@pytest.mark.parametrize(
    "source, kind, detail, by",
    [
        ("aws.securityhub", IMPORTED, {"findings": [FAILED]}, ["findings-securityhub"]),
        ("aws.securityhub", IMPORTED, {"findings": [LEGACY]}, ["findings-securityhub-legacy"]),
        ("aws.securityhub", IMPORTED, {"findings": [{**FAILED, "RecordState": "ARCHIVED"}]}, []),
        ("aws.securityhub", IMPORTED, {"findings": [{**FAILED, "Compliance": {"Status": "PASSED", "SecurityControlId": "EC2.13"}}]}, []),
        ("aws.securityhub", IMPORTED, {"findings": [{**FAILED, "Compliance": {"Status": "FAILED", "SecurityControlId": "EC2.18"}}]}, []),
        ("aws.securityhub", IMPORTED, {"findings": [{**LEGACY, "GeneratorId": "security-control/EC2.18"}]}, []),
        ("aws.securityhub", IMPORTED, {"findings": [{**FAILED, "ProductArn": HUB.replace("::", ":1:")}]}, []),
        ("my.app", IMPORTED, {"findings": [FAILED]}, []),
        ("aws.securityhub", ACTION, {"findings": [LEGACY]}, ["findings-action"]),
        ("aws.securityhub", "Security Hub Insight Results", {"findings": [FAILED]}, []),
        ("aws.securityhub", V2, {"findings": [OCSF]}, ["findings-securityhub-v2"]),
        ("aws.securityhub", V2, {"findings": [{**OCSF, "class_uid": 2004}]}, []),
        ("aws.securityhub", V2, {"findings": [{**OCSF, "compliance": {"control": "EC2.13", "status": "Pass"}}]}, []),
        ("aws.config", "Config Rules Compliance Change", CONFIG, ["findings-config"]),
        ("aws.config", "Config Rules Compliance Change", {**CONFIG, "resourceType": "AWS::EC2::VPC"}, []),
        ("aws.config", "Config Rules Compliance Change", {**CONFIG, "newEvaluationResult": {"complianceType": "COMPLIANT"}}, []),
        ("aws.guardduty", "GuardDuty Finding", {"type": "Policy:S3/X"}, ["findings-guardduty"]),
        ("aws.guardduty", "GuardDuty Finding", {"type": "Policy:S3/Y"}, []),
        ("aws.access-analyzer", "Access Analyzer Finding", PUBLIC, ["findings-access-analyzer"]),
        ("aws.access-analyzer", "Access Analyzer Finding", {**PUBLIC, "isPublic": False}, []),
        ("aws.access-analyzer", "Access Analyzer Finding", {**PUBLIC, "status": "ARCHIVED"}, []),
        ("aws.access-analyzer", "Access Preview State Change", PUBLIC, []),
    ],
)  # fmt: skip
def test_a_finding_is_let_in_by_one_rule_or_by_none(
    source: str, kind: str, detail: dict[str, Any], by: list[str]
) -> None:
    answers = control(
        security_hub=("EC2.13", "PCI.EC2.5"),
        config_rules=("A",),
        resource="AWS::S3::Bucket",
        guardduty=("Policy:S3/X",),
        access_analyzer=("AWS::S3::Bucket",),
    )
    event = {
        "version": "0", "id": "1", "source": source, "detail-type": kind, "account": "111111111111",
        "time": "2026-01-01T00:00:00Z", "region": "us-east-1", "resources": [], "detail": detail,
    }  # fmt: skip
    routes = patterns.routes([answers])
    assert [route.name for route in routes if matches(route.pattern, event)] == by


def test_patterns_of_findings_are_split_like_those_of_events() -> None:
    names = tuple(f"Service.{number}" for number in range(300))
    routes = patterns.routes([control(security_hub=names)])
    assert all(patterns.length(route.pattern) <= patterns.LONGEST for route in routes)
    for name in ("findings-securityhub", "findings-securityhub-legacy", "findings-securityhub-v2"):
        assert f"{name}-2" in {route.name for route in routes}
    heard = [
        name
        for route in routes
        if route.name.startswith("findings-securityhub-v2")
        for name in route.pattern["detail"]["findings"]["compliance"]["control"]
    ]
    assert heard == sorted(names)


def test_an_event_source_is_cloudtrails() -> None:
    with pytest.raises(CatalogError, match=r"'aws\.ec2' is no CloudTrail event source"):
        patterns.routes([control(EventRule(source="aws.ec2", names=("A",)))])


def test_permissions_on_one_resource_stand_together_and_conditions_apart() -> None:
    group = "arn:{partition}:ec2:{region}:{account}:security-group/{id}"
    made = (("StringEquals", "ec2:CreateAction", "X"),)
    statements = policies.union(
        [
            Permission("ec2:RevokeSecurityGroupIngress", group),
            Permission("ec2:CreateTags", group, made),
            Permission("ec2:AuthorizeSecurityGroupIngress", group),
            Permission("ec2:AuthorizeSecurityGroupIngress", group),
        ]
    )
    everywhere = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:security-group/*"
    assert statements == [
        {
            "Effect": "Allow",
            "Action": ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"],
            "Resource": [everywhere],
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:CreateTags"],
            "Resource": [everywhere],
            "Condition": {"StringEquals": {"ec2:CreateAction": "X"}},
        },
    ]


def test_a_boundary_grants_what_its_policies_grant_and_no_more() -> None:
    granted = policies.document(
        policies.allow("A", ["x:B", "x:A"], ["*"]), policies.deny("D", ["x:C"], ["*"])
    )
    declared, key, *denied = policies.boundary(granted)["Statement"]
    assert declared["Action"] == ["x:A", "x:B"]
    assert all(action.startswith("kms:") for action in key["Action"])
    assert key["Condition"] == {"StringLike": {"kms:ViaService": ["dynamodb.*", "secretsmanager.*", "sns.*"]}}
    assert [one["Effect"] for one in denied] == ["Deny", "Deny"]
