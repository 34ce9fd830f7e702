"""From calls to CloudTrail records: pure tests, and the shapes of the real events in the corpus."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import boto3.session
import botocore.awsrequest
import pytest
from botocore.config import Config
from botocore.exceptions import HTTPClientError

from local.emulator import relay
from local.emulator.relay import Call, Caller, CallerKind
from local.emulator.wire import Operation, Request, Response, operation_of

pytestmark = pytest.mark.thorough

ACCOUNT = "111111111111"
AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
USER = Caller(
    CallerKind.USER, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/mallory", "AIDAMALLORY", "AKIAMALLORY",
    user_name="mallory",
)  # fmt: skip
EC2_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


class _TakenError(HTTPClientError):
    """Carries a prepared request out of botocore instead of over a wire."""

    fmt = "taken"

    def __init__(self, request: botocore.awsrequest.AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


def wire_request(service: str, method: str, **parameters: Any) -> Request:
    """The very request that boto3 would send."""
    session = boto3.session.Session(region_name="us-east-1")
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    client = session.client(service, endpoint_url="http://127.0.0.1:9", config=config)  # type: ignore[call-overload]  # the service is a variable

    def take(request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> None:
        raise _TakenError(request)

    client.meta.events.register("before-send", take)
    with pytest.raises(_TakenError) as taken:
        getattr(client, method)(**parameters)
    sent = taken.value.request
    url, _, query = sent.url.partition("?")
    content: Any = sent.body or b""
    if hasattr(content, "read"):
        content = content.read()
    return Request(
        method=sent.method,
        path="/" + url.split("/", 3)[3],
        query=parse_qs(query, keep_blank_values=True),
        headers={key.lower(): _text(value) for key, value in sent.headers.items()},
        body=content.encode() if isinstance(content, str) else bytes(content),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def recorded(
    service: str,
    method: str,
    *,
    status: int = 200,
    answer: bytes = b"",
    caller: Caller = USER,
    **parameters: Any,
) -> dict[str, Any]:
    """The record of one call made with boto3."""
    request = wire_request(service, method, **parameters)
    operation = operation_of(service, request)
    assert operation is not None
    response = Response(status, {}, answer)
    record = relay.record(
        Call(request, response, operation, caller, "us-east-1", AT, "req-1", "event-1", "127.0.0.1")
    )
    assert record is not None
    return record


def ec2_answer(operation: str, inside: str = "<return>true</return>") -> bytes:
    text = (
        f'<{operation}Response xmlns="{EC2_NAMESPACE}"><requestId>r</requestId>{inside}</{operation}Response>'
    )
    return text.encode()


def test_a_permission_list_is_logged_as_items_and_empty_lists_as_empty_objects() -> None:
    record = recorded(
        "ec2",
        "authorize_security_group_ingress",
        answer=ec2_answer("AuthorizeSecurityGroupIngress"),
        GroupId="sg-1",
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0", "Description": "all"}]},
        ],
    )
    assert record["requestParameters"] == {
        "groupId": "sg-1",
        "ipPermissions": {
            "items": [
                {
                    "ipProtocol": "tcp",
                    "fromPort": 22,
                    "toPort": 22,
                    "groups": {},
                    "ipRanges": {"items": [{"cidrIp": "0.0.0.0/0"}]},
                    "ipv6Ranges": {},
                    "prefixListIds": {},
                },
                {
                    "ipProtocol": "-1",
                    "groups": {},
                    "ipRanges": {},
                    "ipv6Ranges": {"items": [{"cidrIpv6": "::/0", "description": "all"}]},
                    "prefixListIds": {},
                },
            ]
        },
    }


def test_the_flat_form_keeps_an_empty_permission_list_beside_its_own_keys() -> None:
    record = recorded(
        "ec2", "authorize_security_group_ingress", answer=ec2_answer("AuthorizeSecurityGroupIngress"),
        GroupId="sg-1", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0",
    )  # fmt: skip
    assert record["requestParameters"] == {
        "groupId": "sg-1", "ipPermissions": {}, "ipProtocol": "tcp", "fromPort": 22, "toPort": 22,
        "cidrIp": "0.0.0.0/0",
    }  # fmt: skip


def test_the_answer_carries_the_request_id_of_the_call_and_the_rules_it_made() -> None:
    rule = (
        "<return>true</return><securityGroupRuleSet><item><securityGroupRuleId>sgr-1</securityGroupRuleId>"
        "<groupOwnerId>111111111111</groupOwnerId><isEgress>false</isEgress><ipProtocol>tcp</ipProtocol>"
        "<fromPort>22</fromPort><toPort>22</toPort><cidrIpv4>0.0.0.0/0</cidrIpv4></item></securityGroupRuleSet>"
    )
    record = recorded(
        "ec2", "authorize_security_group_ingress", answer=ec2_answer("AuthorizeSecurityGroupIngress", rule),
        GroupId="sg-1", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0",
    )  # fmt: skip
    assert record["requestID"] == "req-1"
    assert record["responseElements"] == {
        "requestId": "req-1",
        "_return": True,
        "securityGroupRuleSet": {
            "items": [
                {
                    "securityGroupRuleId": "sgr-1",
                    "groupOwnerId": "111111111111",
                    "isEgress": False,
                    "ipProtocol": "tcp",
                    "fromPort": 22,
                    "toPort": 22,
                    "cidrIpv4": "0.0.0.0/0",
                }
            ]
        },
    }


def test_one_modified_rule_is_an_object_with_a_tag_and_several_are_a_list() -> None:
    def rule(identifier: str) -> dict[str, Any]:
        wanted = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"}
        return {"SecurityGroupRuleId": identifier, "SecurityGroupRule": wanted}

    answer = ec2_answer("ModifySecurityGroupRules")
    one = recorded(
        "ec2",
        "modify_security_group_rules",
        answer=answer,
        GroupId="sg-1",
        SecurityGroupRules=[rule("sgr-1")],
    )
    two = recorded(
        "ec2", "modify_security_group_rules", answer=answer, GroupId="sg-1",
        SecurityGroupRules=[rule("sgr-1"), rule("sgr-2")],
    )  # fmt: skip
    expected = {**rule("sgr-1"), "tag": 1}
    assert one["requestParameters"] == {
        "ModifySecurityGroupRulesRequest": {"GroupId": "sg-1", "SecurityGroupRule": expected}
    }
    assert two["requestParameters"]["ModifySecurityGroupRulesRequest"]["SecurityGroupRule"] == [
        expected,
        {**rule("sgr-2"), "tag": 2},
    ]


def test_an_empty_wrapped_request_is_an_empty_string() -> None:
    record = recorded("ec2", "disable_ebs_encryption_by_default", answer=b"")
    assert record["requestParameters"] == {"DisableEbsEncryptionByDefaultRequest": ""}


def test_both_ways_of_sharing_a_snapshot_log_the_same() -> None:
    answer = ec2_answer("ModifySnapshotAttribute")
    by_structure = recorded(
        "ec2", "modify_snapshot_attribute", answer=answer, SnapshotId="snap-1",
        CreateVolumePermission={"Add": [{"Group": "all"}]},
    )  # fmt: skip
    by_lists = recorded(
        "ec2", "modify_snapshot_attribute", answer=answer, SnapshotId="snap-1",
        Attribute="createVolumePermission", OperationType="add", GroupNames=["all"],
    )  # fmt: skip
    expected = {
        "snapshotId": "snap-1",
        "createVolumePermission": {"add": {"items": [{"group": "all"}]}},
        "attributeType": "CREATE_VOLUME_PERMISSION",
    }
    assert by_structure["requestParameters"] == expected
    assert by_lists["requestParameters"] == expected


def test_a_secret_key_never_reaches_an_event() -> None:
    answer = (
        b'<CreateAccessKeyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><CreateAccessKeyResult>'
        b"<AccessKey><UserName>bob</UserName><AccessKeyId>AKIABOB</AccessKeyId><Status>Active</Status>"
        b"<SecretAccessKey>hush</SecretAccessKey><CreateDate>2026-11-22T09:30:05Z</CreateDate></AccessKey>"
        b"</CreateAccessKeyResult></CreateAccessKeyResponse>"
    )
    record = recorded("iam", "create_access_key", answer=answer, UserName="bob")
    assert record["responseElements"] == {
        "accessKey": {
            "userName": "bob",
            "accessKeyId": "AKIABOB",
            "status": "Active",
            "createDate": "Nov 22, 2026 9:30:05 AM",
        }
    }
    assert "hush" not in json.dumps(record)


@pytest.mark.parametrize(
    "service,method,parameters",
    [
        ("iam", "create_login_profile", {"UserName": "bob", "Password": "hush"}),
        ("secretsmanager", "put_secret_value", {"SecretId": "s", "SecretString": "hush"}),
        ("ssm", "put_parameter", {"Name": "p", "Value": "hush", "Type": "SecureString"}),
        (
            "rds",
            "modify_db_instance",
            {"DBInstanceIdentifier": "db", "MasterUserPassword": "hush"},
        ),
        (
            "lambda",
            "update_function_configuration",
            {"FunctionName": "f", "Environment": {"Variables": {"TOKEN": "hush"}}},
        ),
    ],
)
def test_no_secret_in_a_request_reaches_an_event(
    service: str, method: str, parameters: dict[str, Any]
) -> None:
    assert "hush" not in json.dumps(recorded(service, method, **parameters))


def test_a_bucket_policy_is_an_object_and_its_sub_resource_an_empty_string() -> None:
    policy = {"Version": "2012-10-17", "Statement": []}
    record = recorded("s3", "put_bucket_policy", status=204, Bucket="b", Policy=json.dumps(policy))
    assert record["requestParameters"] == {
        "bucketName": "b", "Host": "b.s3.us-east-1.amazonaws.com", "policy": "", "bucketPolicy": policy,
    }  # fmt: skip
    assert record["responseElements"] is None
    assert record["resources"] == [{"accountId": ACCOUNT, "type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::b"}]


def test_a_public_access_block_has_cloudtrails_name_and_real_booleans() -> None:
    record = recorded(
        "s3", "put_public_access_block", Bucket="b",
        PublicAccessBlockConfiguration={"BlockPublicAcls": True, "IgnorePublicAcls": False},
    )  # fmt: skip
    assert record["eventName"] == "PutBucketPublicAccessBlock"
    block = record["requestParameters"]["PublicAccessBlockConfiguration"]
    assert block["BlockPublicAcls"] is True
    assert block["IgnorePublicAcls"] is False


def test_a_denied_ec2_call_keeps_its_parameters_and_a_denied_iam_call_does_not() -> None:
    error = (
        b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors>"
        b"<RequestID>r</RequestID></Response>"
    )
    ec2 = recorded("ec2", "delete_security_group", status=403, answer=error, GroupId="sg-1")
    assert (ec2["errorCode"], ec2["errorMessage"]) == ("Client.UnauthorizedOperation", "no")
    assert ec2["requestParameters"] == {"groupId": "sg-1"}
    assert ec2["responseElements"] is None
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    iam = recorded("iam", "delete_user", status=403, answer=denied, UserName="bob")
    assert iam["errorCode"] == "AccessDenied"
    assert iam["requestParameters"] is None


def test_a_json_service_spells_access_denied_without_exception() -> None:
    answer = b'{"__type": "com.amazonaws#AccessDeniedException", "Message": "no"}'
    record = recorded("cloudtrail", "stop_logging", status=400, answer=answer, Name="t")
    assert (record["errorCode"], record["errorMessage"]) == ("AccessDenied", "no")


def test_a_caller_whom_nobody_knows_leaves_no_event() -> None:
    request = wire_request("iam", "delete_user", UserName="bob")
    operation = operation_of("iam", request)
    assert operation is not None
    body = (
        b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>x</Message></Error></ErrorResponse>"
    )
    call = Call(request, Response(403, {}, body), operation, USER, "us-east-1", AT, "r", "e")
    assert relay.record(call) is None


@pytest.mark.parametrize(
    "service,name,expected",
    [
        ("ec2", "DescribeInstances", False),
        ("ec2", "GetEbsEncryptionByDefault", False),
        ("ec2", "AuthorizeSecurityGroupIngress", True),
        ("dynamodb", "PutItem", False),
        ("dynamodb", "UpdateContinuousBackups", True),
        ("sqs", "SendMessage", False),
        ("sqs", "SetQueueAttributes", True),
        ("events", "PutEvents", False),
        ("events", "DisableRule", True),
        ("lambda", "Invoke", False),
        ("s3", "PutObject", False),
        ("s3", "PutBucketAcl", True),
        ("sts", "AssumeRole", False),
        ("kms", "Decrypt", False),
        ("kms", "ScheduleKeyDeletion", True),
    ],
)
def test_only_writes_on_the_management_plane_are_relayed(service: str, name: str, expected: bool) -> None:
    assert relay.is_relayed(Operation(service, name, "json")) is expected


def test_lambdas_event_names_carry_the_date_of_the_api() -> None:
    operation = Operation("lambda", "UpdateFunctionCode", "rest-json")
    assert relay.event_name(operation) == "UpdateFunctionCode20150331v2"


def test_a_role_session_names_its_issuer_and_root_nobody() -> None:
    role = Caller(
        CallerKind.ROLE, ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/op/alice", "AROA1:alice", "ASIA1",
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/op", role_name="op", role_id="AROA1", session_name="alice",
        issued_at=AT,
    )  # fmt: skip
    identity = relay.user_identity(role)
    assert identity["type"] == "AssumedRole"
    assert "userName" not in identity
    assert identity["sessionContext"]["sessionIssuer"] == {
        "type": "Role", "principalId": "AROA1", "arn": f"arn:aws:iam::{ACCOUNT}:role/op", "accountId": ACCOUNT,
        "userName": "op",
    }  # fmt: skip
    root = Caller(CallerKind.ROOT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, ACCOUNT)
    assert "userName" not in relay.user_identity(root)


def test_the_event_has_exactly_the_nine_keys_of_eventbridge() -> None:
    request = wire_request("ec2", "delete_security_group", GroupId="sg-1")
    operation = operation_of("ec2", request)
    assert operation is not None
    call = Call(
        request,
        Response(200, {}, ec2_answer("DeleteSecurityGroup")),
        operation,
        USER,
        "eu-west-1",
        AT,
        "r",
        "e",
    )
    event = relay.event(call, "envelope-1")
    assert event is not None
    assert relay.is_envelope(event)
    assert (event["source"], event["region"], event["time"]) == (
        "aws.ec2",
        "eu-west-1",
        "2026-11-22T09:30:00Z",
    )


# --- against the real events ---------------------------------------------------------------------------------

PERMISSIONS = {
    "GroupId": "sg-1",
    "IpPermissions": [
        {
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
            "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
        }
    ],
}


@pytest.mark.corpus
@pytest.mark.parametrize(
    "file,service,method,parameters,answer",
    [
        (
            "aws.ec2/AuthorizeSecurityGroupIngress--gh-index-31323996242--277fbd7e.json",
            "ec2", "authorize_security_group_ingress", PERMISSIONS, "<return>true</return>",
        ),
        (
            "aws.ec2/RevokeSecurityGroupIngress--aws-dataset--bc4cdc4a.json",
            "ec2", "revoke_security_group_ingress",
            {"GroupId": "sg-1", "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"},
            "<return>true</return>",
        ),
        (
            "aws.ec2/DeleteFlowLogs--stratus-red-team--08a732de.json",
            "ec2", "delete_flow_logs", {"FlowLogIds": ["fl-1"]}, "<unsuccessful/>",
        ),
        (
            "aws.ec2/ModifySnapshotAttribute--aws-dataset--2401fdda.json",
            "ec2", "modify_snapshot_attribute",
            {"SnapshotId": "snap-1", "CreateVolumePermission": {"Add": [{"UserId": "012345678912"}]}},
            "<return>true</return>",
        ),
        (
            "aws.ec2/CreateNetworkAclEntry--panther-analysis--66a52834.json",
            "ec2", "create_network_acl_entry",
            {
                "NetworkAclId": "acl-1", "RuleNumber": 12, "Protocol": "6", "RuleAction": "allow",
                "Egress": False, "CidrBlock": "0.0.0.0/0", "PortRange": {"From": 700, "To": 702},
            },
            "<return>true</return>",
        ),
        (
            "aws.ec2/ModifyInstanceAttribute--aws-dataset--13564277.json",
            "ec2", "modify_instance_attribute",
            {"InstanceId": "i-1", "DisableApiTermination": {"Value": False}}, "<return>true</return>",
        ),
        (
            "aws.ec2/CreateFlowLogs--suzaku-sample-data--d58702dd.json",
            "ec2", "create_flow_logs",
            {
                "LogFormat": "f", "ResourceIds": ["vpc-1"], "MaxAggregationInterval": 600, "ResourceType": "VPC",
                "LogDestination": "arn:aws:s3:::b", "LogDestinationType": "s3", "TrafficType": "ALL",
                "TagSpecifications": [{"ResourceType": "vpc-flow-log", "Tags": [{"Key": "Name", "Value": "n"}]}],
            },
            "",
        ),
        (
            "aws.iam/CreateUser--aws-dataset--141cfd98.json",
            "iam", "create_user",
            {"UserName": "u", "Path": "/", "Tags": [{"Key": "k", "Value": "v"}]}, "",
        ),
        (
            "aws.iam/PutUserPolicy--suzaku-sample-data--45362ead.json",
            "iam", "put_user_policy", {"UserName": "u", "PolicyName": "p", "PolicyDocument": "{}"}, "",
        ),
        (
            "aws.iam/UpdateAccountPasswordPolicy--beats--4d35708c.json",
            "iam", "update_account_password_policy",
            {
                "RequireLowercaseCharacters": True, "RequireSymbols": True, "RequireNumbers": True,
                "MinimumPasswordLength": 12, "RequireUppercaseCharacters": True,
                "AllowUsersToChangePassword": True,
            },
            "",
        ),
        (
            "aws.s3/CreateBucket--aws-dataset--3d5dd8a4.json",
            "s3", "create_bucket", {"Bucket": "b", "ACL": "private"}, "",
        ),
        (
            "aws.s3/DeleteBucketPolicy--aws-dataset--949d7f0a.json",
            "s3", "delete_bucket_policy", {"Bucket": "b"}, "",
        ),
    ],
)  # fmt: skip
def test_a_relayed_request_has_the_keys_and_types_of_the_captured_one(
    corpus: Path, file: str, service: str, method: str, parameters: dict[str, Any], answer: str
) -> None:
    real = json.loads((corpus / file).read_text())["detail"]
    operation = real["eventName"]
    body = ec2_answer(operation, answer) if answer else b""
    ours = recorded(service, method, answer=body, **parameters)
    assert shape(ours["requestParameters"]) == shape(real["requestParameters"])
    if answer and real.get("responseElements"):
        assert shape(ours["responseElements"]) == shape(real["responseElements"])
    for key in ("eventSource", "eventName", "eventType", "readOnly", "managementEvent"):
        assert key not in real or ours[key] == real[key]


def shape(value: Any) -> Any:
    """Keys and kinds without the values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_a_form_body_is_read_like_a_query_string() -> None:
    body = urlencode({"Action": "DeleteUser", "UserName": "bob"}).encode()
    request = Request("POST", "/", {}, {"content-type": "application/x-www-form-urlencoded"}, body)
    operation = operation_of("iam", request)
    assert operation is not None
    assert operation.name == "DeleteUser"
