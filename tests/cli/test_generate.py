"""Patterns and policies from catalogs and declarations that the real ones do not have yet."""

import pytest

from chalicelib.cli import patterns, policies
from chalicelib.domain.contract import Mode, Permission
from chalicelib.domain.control import Control, EventRule, Status
from chalicelib.domain.errors import CatalogError
from chalicelib.domain.finding import Severity


def control(*events: EventRule, status: Status = Status.TRIAL) -> Control:
    return Control(
        id="c",
        version="1",
        title="t",
        severity=Severity.LOW,
        resource="r",
        status=status,
        ceiling=Mode.ASK,
        why="w",
        false_positives=(),
        frameworks={},
        events=events,
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
    assert (
        patterns.routes([control(EventRule(source="ec2.amazonaws.com", names=("A",)), status=Status.RETIRED)])
        == ()
    )


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
    assert key["Condition"] == {"StringLike": {"kms:ViaService": "dynamodb.*"}}
    assert [one["Effect"] for one in denied] == ["Deny", "Deny"]
