"""What the emulated AWS had to learn for the people's side: keys, buckets, streams, schedules, a clock."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulator import findings
from local.emulator.identity import COLUMNS
from local.emulator.patches import REGIONS
from local.emulator.world import Credentials, World, WorldError
from tests.local.test_emulator import HOME, MEMBER, admit_rules, allow, heard, listen

pytestmark = pytest.mark.emulator

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "arn:aws:s3:::watched"
BOB = f"arn:aws:iam::{HOME}:user/staff/bob"
BLOCKED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
OURS: dict[str, Any] = {"Bucket": "watched", "ExpectedBucketOwner": HOME}
JOB = """
import boto3
from datetime import UTC, datetime
from chalicelib.adapters.clock import SystemClock

def stream(event, context):
    sqs, failed = boto3.client("sqs"), []
    url = sqs.get_queue_url(QueueName="arrived")["QueueUrl"]
    for record in event["Records"]:
        image = record["dynamodb"]["NewImage"]
        sqs.send_message(QueueUrl=url, MessageBody='"' + image["pk"]["S"] + '"')
        if "crash" in image:
            raise RuntimeError("poison")
        if "poison" in image:
            failed.append({"itemIdentifier": record["dynamodb"]["SequenceNumber"]})
    return {"batchItemFailures": failed}

def clock(event, context):
    return (SystemClock().now() - datetime.now(UTC)).total_seconds()
"""
READS_STREAM = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]


def function(handler: str, **more: Any) -> dict[str, Any]:
    common = {
        "FunctionName": handler, "Runtime": "python3.11", "Handler": f"app.{handler}", "Timeout": 10,
        "CodeUri": "s3://code/code.zip", "Role": {"Fn::GetAtt": ["Role", "Arn"]},
    }  # fmt: skip
    return {"Type": "AWS::Serverless::Function", "Properties": {**common, **more}}


def template() -> str:
    trust = allow("sts:AssumeRole")
    trust["Statement"][0].pop("Resource")
    trust["Statement"][0]["Principal"] = {"Service": "lambda.amazonaws.com"}
    table = {
        "TableName": "outbox",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
    }
    wanted = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"kind": {"S": ["errand"]}}}}
    source = {
        "Type": "DynamoDB",
        "Properties": {
            "Stream": {"Fn::GetAtt": ["Table", "StreamArn"]},
            "StartingPosition": "TRIM_HORIZON",
            "BatchSize": 10,
            "MaximumRetryAttempts": 2,
            "BisectBatchOnFunctionError": True,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "FilterCriteria": {"Filters": [{"Pattern": json.dumps(wanted)}]},
            "DestinationConfig": {
                "OnFailure": {"Type": "SQS", "Destination": {"Fn::GetAtt": ["Poison", "Arn"]}}
            },
        },
    }
    role = {
        "RoleName": "stream-role",
        "AssumeRolePolicyDocument": trust,
        "Policies": [
            {"PolicyName": "job", "PolicyDocument": allow(["sqs:SendMessage", "sqs:GetQueueUrl"])},
            {"PolicyName": "stream", "PolicyDocument": allow(READS_STREAM)},
        ],
    }
    rule = {
        "Name": "tick",
        "ScheduleExpression": "rate(5 minutes)",
        "Targets": [{"Id": "1", "Arn": {"Fn::GetAtt": ["Arrived", "Arn"]}, "Input": '{"errand": "tick"}'}],
    }
    resources = {
        "Role": {"Type": "AWS::IAM::Role", "Properties": role},
        "Table": {"Type": "AWS::DynamoDB::Table", "Properties": table},
        "Arrived": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "arrived"}},
        "Poison": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "poison"}},
        "Tick": {"Type": "AWS::Events::Rule", "Properties": rule},
        "Stream": function("stream", Events={"Source": source}),
        "Clock": function("clock"),
    }
    return json.dumps({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": resources,
    })  # fmt: skip


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as running:
        s3 = running.client("s3", quiet=True)
        s3.create_bucket(Bucket="watched")
        s3.put_bucket_tagging(Bucket="watched", Tagging={"TagSet": [{"Key": "team", "Value": "blue"}]})
        running.client("iam", quiet=True).create_user(
            UserName="bob", Path="/staff/", Tags=[{"Key": "owner", "Value": "ann"}]
        )
        yield running


@pytest.fixture(scope="module")
def stack(world: World) -> World:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("app.py", JOB)
        for name in ("__init__.py", "adapters/__init__.py", "adapters/clock.py"):
            file.write(ROOT / "chalicelib" / name, f"chalicelib/{name}")
    s3 = world.client("s3", quiet=True)
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="code.zip", Body=archive.getvalue())
    stacks = world.client("cloudformation", quiet=True)
    stacks.create_stack(
        StackName="stack",
        TemplateBody=template(),
        Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    def status() -> str:
        return str(stacks.describe_stacks(StackName="stack")["Stacks"][0]["StackStatus"])

    world.wait_for(lambda: not status().endswith("IN_PROGRESS"))
    assert status() == "CREATE_COMPLETE"
    return world


def role_with(world: World, name: str, policy: dict[str, Any]) -> Credentials:
    """A session of a role that may do just that."""
    owner = world.create_user(f"owner-{name}", allow("sts:AssumeRole"))
    iam = world.client("iam", quiet=True)
    trust = allow("sts:AssumeRole")
    trust["Statement"][0].pop("Resource")
    trust["Statement"][0]["Principal"] = {"AWS": owner.arn}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="granted", PolicyDocument=json.dumps(policy))
    return world.assume(f"arn:aws:iam::{HOME}:role/{name}", credentials=owner)


Ask = Callable[[Any], dict[str, Any]]
S3_READS: dict[str, tuple[str, str, Ask]] = {
    "GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock", BUCKET, lambda c: c.get_public_access_block(**OURS)),
    "GetBucketOwnershipControls": (
        "s3:GetBucketOwnershipControls", BUCKET, lambda c: c.get_bucket_ownership_controls(**OURS)
    ),
    "GetBucketAcl": ("s3:GetBucketAcl", BUCKET, lambda c: c.get_bucket_acl(**OURS)),
    "GetBucketLocation": ("s3:GetBucketLocation", BUCKET, lambda c: c.get_bucket_location(**OURS)),
    "GetBucketTagging": ("s3:GetBucketTagging", BUCKET, lambda c: c.get_bucket_tagging(**OURS)),
    "HeadBucket": ("s3:ListBucket", BUCKET, lambda c: c.head_bucket(**OURS)),
    "ListBuckets": ("s3:ListAllMyBuckets", "*", lambda c: c.list_buckets()),
    "PutPublicAccessBlock": (
        "s3:PutBucketPublicAccessBlock",
        BUCKET,
        lambda c: c.put_public_access_block(**OURS, PublicAccessBlockConfiguration=BLOCKED),
    ),
}  # fmt: skip
IAM_CALLS: dict[str, tuple[str, str, Ask]] = {
    "ListAccessKeys": ("iam:ListAccessKeys", BOB, lambda c: c.list_access_keys(UserName="bob")),
    "GetUser": ("iam:GetUser", BOB, lambda c: c.get_user(UserName="bob")),
    "ListUserTags": ("iam:ListUserTags", BOB, lambda c: c.list_user_tags(UserName="bob")),
    "ListUsers": ("iam:ListUsers", "*", lambda c: c.list_users()),
    "GetAccountSummary": ("iam:GetAccountSummary", "*", lambda c: c.get_account_summary()),
    "GenerateCredentialReport": (
        "iam:GenerateCredentialReport", "*", lambda c: c.generate_credential_report()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*S3_READS, *IAM_CALLS])
def test_a_call_wants_just_its_own_right_on_just_that_resource(world: World, name: str) -> None:
    service = "s3" if name in S3_READS else "iam"
    action, resource, ask = {**S3_READS, **IAM_CALLS}[name]
    ask(world.client(service, role_with(world, f"may-{name}", allow(action, resource))))
    other = resource.replace("/staff", "").replace("watched", "other") if resource != "*" else ""
    policy = allow(action, other) if other else allow(f"{service}:Nothing")
    with pytest.raises(ClientError) as refused:
        ask(world.client(service, role_with(world, f"not-{name}", policy)))
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert refused.value.response["Error"]["Code"] in {"AccessDenied", "403"}


def test_a_bucket_of_somebody_else_is_refused_where_its_owner_is_named(world: World) -> None:
    s3 = world.client("s3")
    theirs: dict[str, Any] = {**OURS, "ExpectedBucketOwner": MEMBER}
    for ask in (s3.get_public_access_block, s3.get_bucket_acl, s3.get_bucket_tagging, s3.head_bucket):
        with pytest.raises(ClientError, match=r"AccessDenied|403"):
            ask(**theirs)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_public_access_block(**theirs, PublicAccessBlockConfiguration=BLOCKED)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.get_public_access_block(Bucket="nowhere-at-all", ExpectedBucketOwner=MEMBER)


def test_a_buckets_policy_is_public_or_not_or_absent(world: World) -> None:
    s3 = world.client("s3", quiet=True)
    s3.create_bucket(Bucket="spoken")
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3.get_bucket_policy_status(Bucket="spoken")
    s3.delete_public_access_block(Bucket="spoken")
    for principal, public in (("*", True), ({"AWS": f"arn:aws:iam::{HOME}:root"}, False)):
        policy = allow("s3:GetObject", "arn:aws:s3:::spoken/*", Principal=principal)
        s3.put_bucket_policy(Bucket="spoken", Policy=json.dumps(policy))
        assert s3.get_bucket_policy_status(Bucket="spoken")["PolicyStatus"] == {"IsPublic": public}


def test_a_bucket_that_is_opened_is_told_as_cloudtrail_tells_it(world: World) -> None:
    url = listen(world, "buckets", pattern={"source": ["aws.s3"]})
    s3 = world.client("s3", world.create_user("opener", allow("s3:*")))
    s3.create_bucket(Bucket="fresh")
    half = {**BLOCKED, "BlockPublicPolicy": False}
    s3.put_public_access_block(Bucket="fresh", PublicAccessBlockConfiguration=half)
    s3.delete_public_access_block(Bucket="fresh")
    told = [event["detail"] for event in heard(world, url, 3)]
    assert [one["eventName"] for one in told] == [
        "CreateBucket", "PutBucketPublicAccessBlock", "DeleteBucketPublicAccessBlock",
    ]  # fmt: skip
    host = "fresh.s3.us-east-1.amazonaws.com"
    assert told[0]["requestParameters"] == {"bucketName": "fresh", "Host": host}
    parameters = told[1]["requestParameters"]
    configuration = parameters.pop("PublicAccessBlockConfiguration")
    assert parameters == {"bucketName": "fresh", "Host": host, "publicAccessBlock": ""}
    assert configuration == {**half, "xmlns": "http://s3.amazonaws.com/doc/2006-03-01/"}
    assert told[2]["requestParameters"] == parameters
    assert {one["resources"][0]["ARN"] for one in told} == {"arn:aws:s3:::fresh"}


def report(iam: Any) -> dict[str, dict[str, str]]:
    """The credential report by user."""
    iam.generate_credential_report()
    rows = csv.DictReader(io.StringIO(iam.get_credential_report()["Content"].decode()))
    assert tuple(rows.fieldnames or ()) == COLUMNS
    return {row["user"]: row for row in rows}


def test_the_report_and_the_key_itself_agree(world: World) -> None:
    iam = world.client("iam", quiet=True)
    veteran = world.create_user("old-hand", allow("sts:*"))
    second = iam.create_access_key(UserName="old-hand")["AccessKey"]["AccessKeyId"]
    iam.update_access_key(UserName="old-hand", AccessKeyId=second, Status="Inactive")
    long_ago, used_at = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 2, 3, 4, 5, tzinfo=UTC)
    world.age_access_key(veteran.access_key_id, created=long_ago, last_used=used_at)
    used = iam.get_access_key_last_used(AccessKeyId=veteran.access_key_id)["AccessKeyLastUsed"]
    never = iam.get_access_key_last_used(AccessKeyId=second)["AccessKeyLastUsed"]
    row = report(iam)["old-hand"]
    assert "LastUsedDate" not in never
    assert used["LastUsedDate"] == used_at
    assert row["access_key_1_last_used_date"] == "2026-04-02T03:04:05+00:00"
    assert row["access_key_1_last_used_service"] == used["ServiceName"]
    assert row["access_key_1_last_used_region"] == used["Region"]
    assert row["access_key_1_last_rotated"] == "2026-03-01T00:00:00+00:00" == row["user_creation_time"]
    assert (row["access_key_1_active"], row["access_key_2_active"]) == ("true", "false")
    assert row["access_key_2_last_rotated"] != "N/A" == row["access_key_2_last_used_date"]
    world.client("sts", veteran, "eu-west-1").get_caller_identity()
    row = report(iam)["old-hand"]
    assert (row["access_key_1_last_used_region"], row["access_key_1_last_used_service"]) == (
        "eu-west-1",
        "sts",
    )
    assert row["access_key_1_last_used_date"] > "2026-04-02T03:04:05+00:00"


def test_the_root_user_has_a_key_or_none_in_report_and_summary_alike(world: World) -> None:
    iam = world.client("iam", quiet=True)

    def seen() -> tuple[int, str]:
        summary = iam.get_account_summary()["SummaryMap"]
        return summary["AccountAccessKeysPresent"], report(iam)["<root_account>"]["access_key_1_active"]

    assert seen() == (0, "false")
    world.root_access_key(present=True)
    assert seen() == (1, "true")
    other = world.client("iam", world.root_of(MEMBER), quiet=True).get_account_summary()["SummaryMap"]
    assert other["AccountAccessKeysPresent"] == 0
    world.root_access_key(present=False)
    assert seen() == (0, "false")


def test_a_credential_report_can_be_late(world: World) -> None:
    iam = world.client("iam", quiet=True)
    iam.generate_credential_report()
    world.delay_credential_report(3)
    assert iam.generate_credential_report()["State"] == "INPROGRESS"
    for _ in range(2):
        with pytest.raises(iam.exceptions.CredentialReportNotReadyException):
            iam.get_credential_report()
    assert iam.get_credential_report()["ReportFormat"] == "text/csv"
    with pytest.raises(ClientError, match="ReportNotPresent"):
        world.client("iam", world.root_of("333333333333"), quiet=True).get_credential_report()


def test_a_keys_last_use_is_told_on_its_owner_only(world: World) -> None:
    key = world.create_user("keyed", allow("sts:*")).access_key_id
    for name, owner, permitted in (("last-use", "keyed", True), ("no-last-use", "bob", False)):
        policy = allow("iam:GetAccessKeyLastUsed", f"arn:aws:iam::{HOME}:user/{owner}")
        iam = world.client("iam", role_with(world, name, policy))
        if permitted:
            assert iam.get_access_key_last_used(AccessKeyId=key)["UserName"] == "keyed"
            continue
        with pytest.raises(ClientError, match="AccessDenied"):
            iam.get_access_key_last_used(AccessKeyId=key)


def test_iam_speaks_in_us_east_1_and_keeps_the_secret(world: World) -> None:
    url = listen(world, "keys", pattern={"source": ["aws.iam"]})
    admin = world.create_user("admin", allow("iam:*"))
    iam = world.client("iam", admin, "eu-west-1")
    made = iam.create_access_key(UserName="bob")["AccessKey"]
    iam.update_access_key(UserName="bob", AccessKeyId=made["AccessKeyId"], Status="Inactive")
    iam.generate_credential_report()
    created, updated = heard(world, url, 2)
    assert (created["region"], created["detail"]["awsRegion"]) == ("us-east-1", "us-east-1")
    assert created["detail"]["tlsDetails"]["clientProvidedHostHeader"] == "iam.amazonaws.com"
    assert created["detail"]["requestParameters"] == {"userName": "bob"}
    key = created["detail"]["responseElements"]["accessKey"]
    assert set(key) == {"userName", "accessKeyId", "status", "createDate"}
    assert made["SecretAccessKey"] not in json.dumps(created)
    assert updated["detail"]["requestParameters"] == {
        "userName": "bob", "accessKeyId": made["AccessKeyId"], "status": "Inactive",
    }  # fmt: skip
    assert iam.get_user(UserName="bob")["User"]["Tags"] == [{"Key": "owner", "Value": "ann"}]


def test_a_queue_without_a_fitting_policy_gets_nothing_from_a_rule(world: World) -> None:
    url = listen(world, "strict", pattern={"source": ["aws.kms"]})
    sqs, kms = world.client("sqs", quiet=True), world.client("kms")
    rule = f"arn:aws:events:us-east-1:{HOME}:rule/strict"
    admit_rules(sqs, url, rule.replace("strict", "another"))
    kms.create_key()
    world.wait_for(lambda: f"does not admit {rule}" in world.log(), what="the refusal in the log")
    assert not sqs.receive_message(QueueUrl=url).get("Messages")
    admit_rules(sqs, url, rule)
    kms.create_key()
    assert len(heard(world, url, 1)) == 1


def test_a_schedule_fires_when_it_is_told_to_and_only_then(stack: World) -> None:
    sqs = stack.client("sqs", quiet=True)
    url = sqs.get_queue_url(QueueName="arrived")["QueueUrl"]
    admit_rules(sqs, url, f"arn:aws:events:us-east-1:{HOME}:rule/tick")
    stack.fire("tick")
    assert heard(stack, url, 1) == [{"errand": "tick"}]
    assert not sqs.receive_message(QueueUrl=url).get("Messages")
    stack.client("events", quiet=True).disable_rule(Name="tick")
    for name in ("tick", "nobody"):
        with pytest.raises(WorldError, match="no enabled scheduled rule"):
            stack.fire(name)


def put(stack: World, key: str, kind: str = "errand", **more: str) -> None:
    item = {name: {"S": value} for name, value in {"pk": key, "kind": kind, **more}.items()}
    stack.client("dynamodb", quiet=True).put_item(TableName="outbox", Item=item)


def queue(stack: World, name: str) -> str:
    return str(stack.client("sqs", quiet=True).get_queue_url(QueueName=name)["QueueUrl"])


def arrived(stack: World, count: int) -> list[str]:
    """The keys that the function told of, the next `count` at least."""
    return [str(key) for key in heard(stack, queue(stack, "arrived"), count)]


def test_a_stream_wakes_its_function_within_a_second_and_only_for_what_is_wanted(stack: World) -> None:
    put(stack, "warm")
    assert arrived(stack, 1) == ["warm"]
    put(stack, "unwanted", "other")
    began = time.monotonic()
    put(stack, "wanted")
    assert arrived(stack, 1) == ["wanted"]
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("how", ["poison", "crash"])
def test_poison_in_a_stream_is_given_up_and_the_rest_arrives(stack: World, how: str) -> None:
    put(stack, f"{how}-1")
    put(stack, f"{how}-2", **{how: "yes"})
    put(stack, f"{how}-3")
    (letter,) = heard(stack, queue(stack, "poison"), 1)
    assert letter["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert letter["DDBStreamBatchInfo"]["batchSize"] >= 1
    seen = arrived(stack, 5)
    while seen[-1] != f"{how}-3":
        seen += arrived(stack, 1)
    assert seen.count(f"{how}-2") >= 3, "the first attempt and two more"
    assert f"{how}-1" in seen


def test_a_stream_is_read_with_the_rights_of_the_functions_role(stack: World) -> None:
    iam = stack.client("iam", quiet=True)
    for missing in READS_STREAM:
        rest = allow([right for right in READS_STREAM if right != missing])
        iam.put_role_policy(RoleName="stream-role", PolicyName="stream", PolicyDocument=json.dumps(rest))
        time.sleep(0.6)
        put(stack, f"without-{missing}")
    time.sleep(1.2)
    sqs = stack.client("sqs", quiet=True)
    assert not sqs.receive_message(QueueUrl=queue(stack, "arrived")).get("Messages")
    full = json.dumps(allow(READS_STREAM))
    iam.put_role_policy(RoleName="stream-role", PolicyName="stream", PolicyDocument=full)
    assert sorted(arrived(stack, 3)) == sorted(f"without-{missing}" for missing in READS_STREAM)


def test_a_condition_on_another_item_decides_a_transaction(stack: World) -> None:
    table = stack.client("dynamodb", quiet=True)
    put(stack, "case", "case", state="waiting", ends="2026-11-22T10:00:00.000Z")

    def answer(at: str, state: str = "waiting") -> list[str]:
        check = {
            "TableName": "outbox",
            "Key": {"pk": {"S": "case"}},
            "ConditionExpression": "#s = :s AND ends > :at",
            "ExpressionAttributeNames": {"#s": "state"},
            "ExpressionAttributeValues": {":s": {"S": state}, ":at": {"S": at}},
        }
        new = {
            "TableName": "outbox",
            "Item": {"pk": {"S": "answer"}, "kind": {"S": "answer"}},
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        try:
            table.transact_write_items(TransactItems=[{"ConditionCheck": check}, {"Put": new}])
        except ClientError as error:
            return [reason["Code"] for reason in error.response["CancellationReasons"]]
        return []

    failed = "ConditionalCheckFailed"
    assert answer("2026-11-22T10:00:00.000Z") == [failed, "None"]
    assert answer("2026-11-22T09:59:59.999Z", "open") == [failed, "None"]
    assert answer("2026-11-22T09:59:59.999Z") == []
    assert answer("2026-11-22T09:59:59.999Z") == ["None", failed]


def test_the_clock_of_our_functions_can_run_ahead(stack: World) -> None:
    functions = stack.client("lambda", quiet=True)

    def ahead() -> float:
        return float(json.loads(functions.invoke(FunctionName="clock")["Payload"].read()))

    assert abs(ahead()) < 1
    stack.shift_clock(timedelta(hours=9))
    assert abs(ahead() - 9 * 3600) < 1
    stack.shift_clock(timedelta())
    assert abs(ahead()) < 1


def test_a_message_that_was_received_shows_again_when_it_is_told_to(world: World) -> None:
    sqs = world.client("sqs", quiet=True)
    url = sqs.create_queue(QueueName="hidden", Attributes={"VisibilityTimeout": "3600"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def shown() -> list[str]:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        return sorted(message["Body"] for message in answer.get("Messages", []))

    sqs.send_message(QueueUrl=url, MessageBody="received")
    assert shown() == ["received"]
    sqs.send_message(QueueUrl=url, MessageBody="not due yet", DelaySeconds=900)
    assert shown() == []
    world.show_again(arn)
    assert shown() == ["received"]
    assert shown() == []
    with pytest.raises(WorldError, match="no queue"):
        world.show_again(f"{arn}-of-nobody")


def test_an_account_has_the_regions_that_are_on_by_default(world: World) -> None:
    ec2 = world.client("ec2", quiet=True)

    def regions(**asked: Any) -> set[str]:
        return {region["RegionName"] for region in ec2.describe_regions(**asked)["Regions"]}

    assert regions() == REGIONS
    assert regions(AllRegions=True) > REGIONS
    assert not any(name.startswith(("cn-", "us-gov-")) for name in regions(AllRegions=True))
    assert regions(RegionNames=["eu-west-1", "af-south-1"]) == {"eu-west-1", "af-south-1"}


def test_findings_arrive_and_the_same_finding_has_the_same_id(world: World) -> None:
    url = listen(world, "findings", MEMBER)
    first = findings.security_hub(MEMBER, "us-east-1", BUCKET, "S3.8")
    made = [
        first,
        findings.custom_action(first, first),
        findings.config(MEMBER, "us-east-1", "watched", "s3-bucket-level-public-access-prohibited"),
        findings.guard_duty(
            MEMBER, "us-east-1", "Policy:S3/BucketBlockPublicAccessDisabled", {"resourceType": "S3Bucket"}
        ),
        findings.access_analyzer(MEMBER, "us-east-1", BUCKET),
        findings.by_another_product(first, MEMBER),
        findings.about_another_account(first, HOME),
    ]
    for event in made:
        world.emit(event)
    assert heard(world, url, len(made), MEMBER) == made
    again = findings.security_hub(MEMBER, "us-east-1", BUCKET, "S3.8")
    told, foreign, other = (event["detail"]["findings"][0] for event in (again, *made[-2:]))
    assert told["Id"] == first["detail"]["findings"][0]["Id"]
    assert foreign["ProductArn"] == f"arn:aws:securityhub:us-east-1:{MEMBER}:product/{MEMBER}/default"
    assert (other["AwsAccountId"], made[-1]["account"]) == (HOME, MEMBER)


def test_an_account_may_have_fewer_regions_switched_on() -> None:
    with World(regions=("us-east-1", "eu-west-1")) as small:
        ec2 = small.client("ec2", quiet=True)
        assert {region["RegionName"] for region in ec2.describe_regions()["Regions"]} == {
            "us-east-1",
            "eu-west-1",
        }


def test_a_right_on_some_partition_keys_reaches_no_others(world: World) -> None:
    """Deed by deed in a transaction: a check of one item does not make the put of another one wider, or narrower."""
    root = world.client("dynamodb", quiet=True)
    root.create_table(
        TableName="keyed",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    root.put_item(TableName="keyed", Item={"pk": {"S": "CASE#1"}})
    put, check = allow("dynamodb:PutItem"), allow("dynamodb:ConditionCheckItem")
    put["Statement"][0]["Condition"] = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["ANSWER#*"]}}
    granted = {**put, "Statement": [*put["Statement"], *check["Statement"]]}
    ann = world.client("dynamodb", world.create_user("ann-with-keys", granted))

    def written(key: str, *more: dict[str, Any]) -> list[bool]:
        item = {"TableName": "keyed", "Item": {"pk": {"S": key}}}
        deeds: list[Callable[[], object]] = [
            lambda: ann.put_item(**item),
            lambda: ann.transact_write_items(TransactItems=[{"Put": item}, *more]),
        ]
        return [not _denied(deed) for deed in deeds]

    asked = {
        "TableName": "keyed",
        "Key": {"pk": {"S": "CASE#1"}},
        "ConditionExpression": "attribute_exists(pk)",
    }
    assert written("ANSWER#1", {"ConditionCheck": asked}) == [True, True]
    assert written("CASE#1") == [False, False]
    also = {"Put": {"TableName": "keyed", "Item": {"pk": {"S": "CASE#2"}}}}
    assert written("ANSWER#2", also) == [True, False]


def _denied(deed: Callable[[], object]) -> bool:
    try:
        deed()
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "AccessDeniedException")
    return False
