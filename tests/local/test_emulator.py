"""The emulated AWS as a whole: what the end-to-end tests and the demo rely on, shown once here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signer
from botocore.exceptions import ClientError

from local.emulator import names
from local.emulator.patches import GAPS
from local.emulator.world import Credentials, Fault, World, WorldError

pytestmark = pytest.mark.emulator

ROOT = Path(__file__).resolve().parents[2]
HOME, MEMBER = "111111111111", "222222222222"
FUNCTIONS = """
import json, os, boto3

def who(event, context):
    return {"statusCode": 200, "body": json.dumps(event["requestContext"]["identity"])}

def job(event, context):
    failed = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        if body.get("poison"):
            failed.append({"itemIdentifier": record["messageId"]})
            continue
        caller = boto3.client("sts").get_caller_identity()["Arn"]
        received = record["attributes"]["ApproximateReceiveCount"]
        item = {"pk": {"S": body["id"]}, "caller": {"S": caller}, "received": {"S": received}}
        boto3.client("dynamodb").put_item(TableName="jobs", Item=item)
        boto3.client("s3").put_object(Bucket="results", Key=body["id"], Body=b"done")
    return {"batchItemFailures": failed}
"""


def allow(actions: str | list[str], resources: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(arn: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def template() -> str:
    def function(name: str, **properties: Any) -> dict[str, Any]:
        common = {
            "FunctionName": name, "Runtime": "python3.11", "Handler": f"app.{name}", "Timeout": 5,
            "CodeUri": "s3://deploy/code.zip", "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        }  # fmt: skip
        return {"Type": "AWS::Serverless::Function", "Properties": {**common, **properties}}

    service = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    uri = "arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Who.Arn}/invocations"
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": {"Fn::Sub": uri}}
    signed = {"type": "apiKey", "name": "Authorization", "in": "header"}
    get = {
        "responses": {}, "security": [{"sigv4": []}], "x-amazon-apigateway-integration": integration,
    }  # fmt: skip
    swagger = {
        "swagger": "2.0",
        "info": {"title": "who", "version": "1"},
        "paths": {"/who": {"get": get}},
        "securityDefinitions": {"sigv4": {**signed, "x-amazon-apigateway-authtype": "awsSigv4"}},
    }
    permissions = allow(["dynamodb:PutItem", "s3:PutObject", "sqs:*"])
    source = {
        "Type": "SQS",
        "Properties": {
            "Queue": {"Fn::GetAtt": ["Queue", "Arn"]},
            "BatchSize": 5,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        },
    }
    redrive = {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 2}
    table = {
        "TableName": "jobs",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "SSESpecification": {"SSEEnabled": True, "SSEType": "KMS"},
    }
    resources = {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "RoleName": "job-role",
                "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [service]},
                "Policies": [{"PolicyName": "job", "PolicyDocument": permissions}],
            },
        },
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": table},
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "results"}},
        "Dead": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead"}},
        "Queue": {
            "Type": "AWS::SQS::Queue",
            # AWS takes no queue whose messages come back while its function may still be at them; on a busy machine one is.
            "Properties": {"QueueName": "queue", "VisibilityTimeout": 6, "RedrivePolicy": redrive},
        },
        "Job": function("job", Events={"Source": source}),
        "Who": function("who"),
        "Api": {
            "Type": "AWS::Serverless::Api",
            "Properties": {"StageName": "api", "DefinitionBody": swagger},
        },
        "Permission": {
            "Type": "AWS::Lambda::Permission",
            "Properties": {
                "FunctionName": {"Ref": "Who"},
                "Action": "lambda:InvokeFunction",
                "Principal": "apigateway.amazonaws.com",
            },
        },
    }
    return json.dumps(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Transform": "AWS::Serverless-2016-10-31",
            "Resources": resources,
            "Outputs": {"Api": {"Value": {"Ref": "Api"}}},
        }
    )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as running:
        yield running


@pytest.fixture(scope="module")
def api(world: World) -> str:
    """The deployed stack; the id of its REST API."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", FUNCTIONS)
    s3 = world.client("s3", quiet=True)
    s3.create_bucket(Bucket="deploy")
    s3.put_object(Bucket="deploy", Key="code.zip", Body=archive.getvalue())
    stacks = world.client("cloudformation", quiet=True)
    stacks.create_stack(
        StackName="stack",
        TemplateBody=template(),
        Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    def stack() -> Any:
        return stacks.describe_stacks(StackName="stack")["Stacks"][0]

    world.wait_for(lambda: not stack()["StackStatus"].endswith("IN_PROGRESS"))
    assert stack()["StackStatus"] == "CREATE_COMPLETE"
    return str(stack()["Outputs"][0]["OutputValue"])


def listen(world: World, name: str, account: str = HOME, pattern: dict[str, Any] | None = None) -> str:
    """A queue behind a rule on an account's default bus; its URL."""
    root = world.root_of(account)
    sqs = world.client("sqs", root, quiet=True)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    events = world.client("events", root, quiet=True)
    events.put_rule(Name=name, EventPattern=json.dumps(pattern or {"source": [{"prefix": "aws."}]}))
    arn = admit_rules(sqs, url)
    events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": arn}])
    return str(url)


def admit_rules(sqs: Any, url: str, rule: str = "*") -> str:
    """Let EventBridge put messages into a queue, for that rule only; the queue's ARN."""
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = allow("sqs:SendMessage", arn, Condition={"ArnLike": {"aws:SourceArn": rule}})
    policy["Statement"][0]["Principal"] = {"Service": "events.amazonaws.com"}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    return str(arn)


def heard(
    world: World, url: str, count: int, account: str = HOME, seconds: float = 20
) -> list[dict[str, Any]]:
    """The next events of a listening queue."""
    sqs = world.client("sqs", world.root_of(account), quiet=True)
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            found.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= count

    world.wait_for(enough, seconds, f"{count} events in {url}")
    return found


def fetch(url: str, credentials: Credentials | None = None) -> tuple[int, str]:
    headers: dict[str, str] = {}
    if credentials is not None:
        request = AWSRequest("GET", url)
        signer = Signer(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
        SigV4Auth(signer, "execute-api", "us-east-1").add_auth(request)
        headers = dict(request.headers)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_every_private_name_of_ministack_and_moto_is_still_there() -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "from local.emulator import names; print('\\n'.join(names.missing()))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert gone.stdout.strip() == "", f"pins moved? {gone.stdout}"


def test_the_installed_emulators_are_the_pinned_ones() -> None:
    assert {name: version(name) for name in names.PINS} == dict(names.PINS)


def test_every_known_gap_says_where_and_what() -> None:
    assert all(gap.where and gap.what for gap in GAPS)
    assert len({(gap.where, gap.what) for gap in GAPS}) == len(GAPS)


def test_a_call_by_a_person_arrives_as_that_persons_cloudtrail_event(world: World) -> None:
    url = listen(world, "person", pattern={"source": ["aws.ec2"]})
    mallory = world.create_user("mallory", allow("ec2:*"))
    ec2 = world.client("ec2", mallory)
    group = ec2.create_security_group(GroupName="open", Description="d")["GroupId"]
    opened = ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
            {"IpProtocol": "-1", "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        ],
    )
    _, event = heard(world, url, 2)
    detail = event["detail"]
    identity = detail["userIdentity"]
    assert (identity["type"], identity["userName"], identity["arn"]) == ("IAMUser", "mallory", mallory.arn)
    assert identity["accessKeyId"] == mallory.access_key_id
    assert detail["requestID"] == opened["ResponseMetadata"]["RequestId"]
    assert detail["responseElements"]["requestId"] == detail["requestID"]
    assert opened["ResponseMetadata"]["HTTPHeaders"]["x-amzn-requestid"] == detail["requestID"]
    rules = detail["responseElements"]["securityGroupRuleSet"]["items"]
    assert [rule["securityGroupRuleId"] for rule in rules] == [
        rule["SecurityGroupRuleId"] for rule in opened["SecurityGroupRules"]
    ]
    assert {rule["groupOwnerId"] for rule in rules} == {HOME}


def test_a_refused_call_arrives_with_its_error_and_a_read_does_not_arrive(world: World) -> None:
    url = listen(world, "refused", pattern={"source": ["aws.ec2"]})
    reader = world.client("ec2", world.create_user("reader", allow("ec2:Describe*")))
    reader.describe_vpcs()
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        reader.create_security_group(GroupName="no", Description="d")
    (event,) = heard(world, url, 1)
    assert event["detail"]["eventName"] == "CreateSecurityGroup"
    assert event["detail"]["errorCode"] == "Client.UnauthorizedOperation"


def test_events_wait_for_the_delay_and_keep_their_order(world: World) -> None:
    url = listen(world, "slow", pattern={"detail": {"eventName": ["CreateTags"]}})
    ec2 = world.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    world.set_delay(0.4)
    began = time.monotonic()
    for number in range(3):
        ec2.create_tags(Resources=[vpc], Tags=[{"Key": "n", "Value": str(number)}])
    assert world.backlog() == 3
    events = heard(world, url, 3)
    world.set_delay(0)
    assert time.monotonic() - began >= 0.4
    values = [e["detail"]["requestParameters"]["tagSet"]["items"][0]["value"] for e in events]
    assert values == ["0", "1", "2"]


def test_an_emitted_event_reaches_the_bus_of_the_account_that_it_names(world: World) -> None:
    url = listen(world, "emitted", MEMBER, {"source": ["aws.securityhub"]})
    event = {
        "version": "0", "id": "e-1", "detail-type": "Security Hub Findings - Imported",
        "source": "aws.securityhub", "account": MEMBER, "time": "2026-11-22T09:30:00Z", "region": "us-east-1",
        "resources": [], "detail": {"findings": []},
    }  # fmt: skip
    world.emit(event)
    assert heard(world, url, 1, MEMBER) == [event]
    with pytest.raises(WorldError, match="exactly these keys"):
        world.emit({**event, "extra": 1})


def test_a_bus_of_another_account_is_reached_only_if_its_policy_admits_the_sender(world: World) -> None:
    home, member = world.client("events"), world.client("events", world.root_of(MEMBER))
    bus = home.create_event_bus(Name="home")["EventBusArn"]
    sqs = world.client("sqs")
    url = sqs.create_queue(QueueName="home")["QueueUrl"]
    arn = admit_rules(sqs, url)
    home.put_rule(Name="in", EventBusName="home", EventPattern='{"source": ["aws.kms"]}')
    home.put_targets(Rule="in", EventBusName="home", Targets=[{"Id": "1", "Arn": arn}])
    dead = world.client("sqs", world.root_of(MEMBER))
    dead_url = dead.create_queue(QueueName="undelivered")["QueueUrl"]
    admit_rules(dead, dead_url)
    member.put_rule(Name="forward", EventPattern='{"source": ["aws.kms"]}')
    target = {
        "Id": "1", "Arn": bus, "RoleArn": f"arn:aws:iam::{MEMBER}:role/forward",
        "DeadLetterConfig": {"Arn": f"arn:aws:sqs:us-east-1:{MEMBER}:undelivered"},
    }  # fmt: skip
    member.put_targets(Rule="forward", Targets=[target])
    kms = world.client("kms", world.root_of(MEMBER))
    kms.create_key()
    world.wait_for(
        lambda: (
            dead.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["ApproximateNumberOfMessages"])[
                "Attributes"
            ]["ApproximateNumberOfMessages"]
            == "1"
        )
    )
    home.put_permission(
        EventBusName="home", StatementId="member", Action="events:PutEvents", Principal=MEMBER
    )
    kms.create_key()
    (event,) = heard(world, url, 1)
    assert event["account"] == MEMBER


def test_trust_session_policy_boundary_and_explicit_deny_hold(world: World) -> None:
    operator = world.create_user("operator", allow("sts:AssumeRole"))
    stranger = world.create_user("stranger", allow("sts:AssumeRole"))
    iam = world.client("iam", quiet=True)
    iam.create_role(RoleName="act", AssumeRolePolicyDocument=trust(operator.arn))
    policy = allow("s3:*")
    policy["Statement"].append({"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": "*"})
    iam.put_role_policy(RoleName="act", PolicyName="act", PolicyDocument=json.dumps(policy))
    role = f"arn:aws:iam::{HOME}:role/act"
    with pytest.raises(ClientError, match="AccessDenied"):
        world.assume(role, "stranger", credentials=stranger)
    act = world.client("s3", world.assume(role, "alice", credentials=operator))
    act.create_bucket(Bucket="held")
    with pytest.raises(ClientError, match="AccessDenied"):
        act.delete_bucket(Bucket="held")
    narrow = world.assume(role, "alice", credentials=operator, policy=allow("s3:GetBucketVersioning"))
    world.client("s3", narrow).get_bucket_versioning(Bucket="held")
    with pytest.raises(ClientError, match="AccessDenied"):
        world.client("s3", narrow).get_bucket_acl(Bucket="held")
    iam.create_policy(PolicyName="edge", PolicyDocument=json.dumps(allow("s3:GetBucketVersioning")))
    edge = f"arn:aws:iam::{HOME}:policy/edge"
    iam.put_role_permissions_boundary(RoleName="act", PermissionsBoundary=edge)
    act.get_bucket_versioning(Bucket="held")
    with pytest.raises(ClientError, match="AccessDenied"):
        act.get_bucket_acl(Bucket="held")


def test_a_condition_on_a_resource_tag_is_read_from_ec2(world: World) -> None:
    root = world.client("ec2")
    group = root.create_security_group(GroupName="tagged", Description="d")["GroupId"]
    root.create_tags(Resources=[group], Tags=[{"Key": "team", "Value": "blue"}])
    for team, permitted in (("blue", True), ("red", False)):
        condition = {"StringEquals": {"aws:ResourceTag/team": team}}
        policy = allow("ec2:DeleteSecurityGroup", "arn:aws:ec2:*:*:security-group/*", Condition=condition)
        client = world.client("ec2", world.create_user(f"team-{team}", policy))
        with pytest.raises(ClientError) as refused:
            client.delete_security_group(GroupId=group, DryRun=True)
        expected = "DryRunOperation" if permitted else "UnauthorizedOperation"
        assert refused.value.response["Error"]["Code"] == expected


def test_services_that_moto_answers_are_authorised_too(world: World) -> None:
    reader = world.create_user("detective", allow("guardduty:ListDetectors"))
    guardduty = world.client("guardduty", reader)
    guardduty.list_detectors()
    with pytest.raises(ClientError, match="AccessDenied"):
        guardduty.create_detector(Enable=True)


def test_an_iam_route_refuses_whom_it_does_not_know_and_names_whom_it_does(world: World, api: str) -> None:
    url = f"{world.endpoint}/_aws/execute-api/{api}/api/who"
    resource = f"arn:aws:execute-api:us-east-1:{HOME}:{api}/api/GET/who"
    welcome = world.create_user("welcome", allow("execute-api:Invoke", resource))
    other = world.create_user("other", allow("execute-api:Invoke", resource.replace("GET", "POST")))
    forged = Credentials(welcome.access_key_id, "0" * 40)
    assert [fetch(url)[0], fetch(url, other)[0], fetch(url, forged)[0]] == [403, 403, 403]
    status, body = fetch(url, welcome)
    identity = json.loads(body)
    assert status == 200
    assert (identity["userArn"], identity["accountId"]) == (welcome.arn, HOME)
    assert identity["accessKey"] == welcome.access_key_id
    assert identity["caller"] == identity["user"]
    assert identity["user"].startswith("AIDA")


def test_a_poisoned_message_ends_in_the_dead_letter_queue_and_its_neighbours_are_done_once(
    world: World, api: str
) -> None:
    assert api
    sqs = world.client("sqs")
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    for body in ({"id": "one"}, {"poison": 1}, {"id": "two"}):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    (dead,) = heard(world, sqs.get_queue_url(QueueName="dead")["QueueUrl"], 1, seconds=60)
    assert dead == {"poison": 1}
    items = {item["pk"]["S"]: item for item in world.client("dynamodb").scan(TableName="jobs")["Items"]}
    assert {"one", "two"} <= set(items)
    assert items["one"]["caller"]["S"] == f"arn:aws:sts::{HOME}:assumed-role/job-role/job"
    assert items["one"]["received"]["S"] == "1"
    assert world.client("s3").get_object(Bucket="results", Key="one")["Body"].read() == b"done"


@pytest.mark.parametrize("effect,executed", [("kill_before", 0), ("kill_after", 1)])
def test_a_function_killed_at_a_call_is_run_again_by_its_queue(
    world: World, api: str, effect: Any, executed: int
) -> None:
    assert api
    sqs, table = world.client("sqs", quiet=True), world.client("dynamodb", quiet=True)
    url = sqs.get_queue_url(QueueName="queue")["QueueUrl"]
    world.clear_calls()
    world.faults([Fault(effect, service="dynamodb", operation="PutItem", role="job-role")])
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"id": effect}))

    def received() -> str:
        item = table.get_item(TableName="jobs", Key={"pk": {"S": effect}}).get("Item", {})
        return str(item.get("received", {}).get("S", ""))

    world.wait_for(lambda: received() == "2")
    world.faults([])
    puts = [c.status for c in world.calls() if c.operation == "PutItem" and c.role == "job-role"]
    assert puts == ([200, 200] if executed else [0, 200])


def test_faults_answer_in_the_words_of_the_service(world: World) -> None:
    world.faults(
        [
            Fault("deny", service="ec2", operation="DescribeVpcs"),
            Fault("throttle", service="s3", operation="ListBuckets", nth=2),
            Fault("error", service="dynamodb", operation="ListTables"),
        ]
    )
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        world.client("ec2").describe_vpcs()
    world.client("s3").list_buckets()
    with pytest.raises(ClientError, match="SlowDown"):
        world.client("s3").list_buckets()
    with pytest.raises(ClientError, match="InternalError"):
        world.client("dynamodb").list_tables()
    world.faults([])
    world.client("ec2").describe_vpcs()


def test_a_held_call_waits_until_the_faults_are_replaced_and_nobody_else_does(world: World) -> None:
    world.faults([Fault("hold", service="s3", operation="CreateBucket")])
    held = threading.Thread(target=world.client("s3").create_bucket, kwargs={"Bucket": "waited-for"})
    held.start()
    s3 = world.client("s3")
    held.join(0.3)
    assert held.is_alive()
    assert "waited-for" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    world.faults([])
    held.join(5)
    assert "waited-for" in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}


def test_what_a_template_declares_of_a_table_holds(world: World, api: str) -> None:
    assert api
    table = world.client("dynamodb")
    backups = table.describe_continuous_backups(TableName="jobs")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert table.describe_time_to_live(TableName="jobs")["TimeToLiveDescription"]["AttributeName"] == "ttl"
    assert table.describe_table(TableName="jobs")["Table"]["SSEDescription"]["SSEType"] == "KMS"


def test_an_access_key_can_be_aged(world: World) -> None:
    veteran = world.create_user("veteran", allow("iam:*"))
    long_ago = datetime.now(UTC) - timedelta(days=120)
    world.age_access_key(veteran.access_key_id, created=long_ago, last_used=long_ago)
    iam = world.client("iam")
    (key,) = iam.list_access_keys(UserName="veteran")["AccessKeyMetadata"]
    used = iam.get_access_key_last_used(AccessKeyId=veteran.access_key_id)["AccessKeyLastUsed"]
    assert abs(key["CreateDate"] - long_ago) < timedelta(seconds=2)
    assert abs(used["LastUsedDate"] - long_ago) < timedelta(seconds=2)
    with pytest.raises(WorldError, match="no access key"):
        world.age_access_key("AKIANOBODY", created=long_ago)


def test_security_groups_change_all_or_nothing_and_answer_every_rule(world: World) -> None:
    ec2 = world.client("ec2")
    group = ec2.create_security_group(GroupName="rules", Description="d")["GroupId"]

    def port(number: int) -> dict[str, Any]:
        cidrs = [{"CidrIp": "198.51.100.0/24"}]
        return {"IpProtocol": "tcp", "FromPort": number, "ToPort": number, "IpRanges": cidrs}

    def rules() -> list[int]:
        shown = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
        return sorted(r["FromPort"] for r in shown["SecurityGroupRules"] if not r["IsEgress"])

    made = ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[port(1), port(2)])
    with pytest.raises(ClientError, match="Duplicate"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[port(3), port(2)])
    assert rules() == [1, 2]
    first, second = made["SecurityGroupRules"]
    wanted = {"IpProtocol": "tcp", "FromPort": 9, "ToPort": 9, "CidrIpv6": "::/0"}
    ec2.modify_security_group_rules(
        GroupId=group,
        SecurityGroupRules=[
            {"SecurityGroupRuleId": first["SecurityGroupRuleId"], "SecurityGroupRule": wanted}
        ],
    )
    gone = ec2.revoke_security_group_ingress(
        GroupId=group, SecurityGroupRuleIds=[second["SecurityGroupRuleId"]]
    )
    assert [r["SecurityGroupRuleId"] for r in gone["RevokedSecurityGroupRules"]] == [
        second["SecurityGroupRuleId"]
    ]
    assert rules() == [9]
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"


def test_the_matcher_answers_without_a_server() -> None:
    event = {"source": "aws.ec2", "detail": {"eventName": "RunInstances"}}
    assert names.matches({"detail": {"eventName": [{"prefix": "Run"}]}}, event)
    assert not names.matches({"source": ["aws.s3"]}, event)
    with pytest.raises(ValueError, match="refuses"):
        names.matches({"source": "aws.s3"}, event)


def test_a_world_that_cannot_start_says_why_and_leaves_nothing() -> None:
    with World() as first:
        port = int(first.endpoint.rsplit(":", 1)[1])
        second = World(port=port)
        with pytest.raises(WorldError, match="in use"):
            second.start()
        assert second.log() == ""


def test_an_emulator_whose_parent_vanishes_ends_and_cleans_up(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local.emulator", "--lifeline", "--ready-file", str(tmp_path / "ready.json")],
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PATH": ""},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    until = time.monotonic() + 20
    while not (tmp_path / "ready.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.stdin.close()
    assert process.wait(10) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]


def test_a_stopped_world_leaves_neither_process_nor_folder() -> None:
    running = World().start()
    process, folder = running._process, running._folder
    assert process is not None
    assert folder is not None
    running.stop()
    running.stop()
    assert process.poll() == 0
    assert not folder.exists()
