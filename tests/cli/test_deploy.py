"""Deploying: what is asked of S3 and CloudFormation, what is said when it fails, and the real thing on the emulated AWS."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from moto import mock_aws

from chalicelib.adapters.tables import notice_item
from chalicelib.cli import deploy, package
from chalicelib.domain.ports import Notice
from chalicelib.flow import errand

ACCOUNT = "123456789012"
BUCKET = f"redress-dev-artifacts-{ACCOUNT}-us-east-1"
STACK_ID = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/redress-dev/1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clients:
    """A session whose CloudFormation is scripted; S3 and STS are moto's."""

    def __init__(self) -> None:
        self.cloudformation = boto3.client("cloudformation", region_name="us-east-1")
        self.script = Stubber(self.cloudformation)

    def client(self, service_name: Any) -> Any:
        return (
            self.cloudformation
            if service_name == "cloudformation"
            else boto3.client(service_name, region_name="us-east-1")
        )


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setattr("uuid.uuid4", lambda: type("Fixed", (), {"hex": "token"}))
    with mock_aws():
        made = Clients()
        with made.script:
            yield made
        made.script.assert_no_pending_responses()


@pytest.fixture
def built(tmp_path: Path) -> package.Package:
    (tmp_path / "deployment.zip").write_bytes(b"zip")
    template = {
        "Parameters": {"Stage": {"Type": "String"}, "LimitPerActor": {"Type": "Number"}},
        "Resources": {
            "Engine": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "./deployment.zip"}}
        },
    }
    (tmp_path / "sam.yaml").write_text(yaml.safe_dump(template, sort_keys=False))
    return package.Package(tmp_path / "deployment.zip", tmp_path / "sam.yaml", "5" * 64)


def run(
    clients: Clients, built: package.Package, **parameters: str
) -> tuple[deploy.Deployment, list[deploy.Event]]:
    seen: list[deploy.Event] = []
    done = deploy.deploy(clients, built, "dev", parameters, seen.append, sleep=lambda _: None)
    return done, seen


def failure(clients: Clients, built: package.Package, **parameters: str) -> str:
    with pytest.raises(deploy.DeployError) as raised:
        run(clients, built, **parameters)
    return str(raised.value)


def stack(status: str, **more: Any) -> dict[str, Any]:
    described = {"StackName": "redress-dev", "StackId": STACK_ID, "CreationTime": NOW, "StackStatus": status}
    return {"Stacks": [described | more]}


def event(number: int, resource: str, status: str, reason: str = "", token: str = "token") -> dict[str, Any]:
    return {
        "StackId": STACK_ID,
        "EventId": str(number),
        "StackName": "redress-dev",
        "LogicalResourceId": resource,
        "ResourceType": "AWS::X::Y",
        "Timestamp": NOW,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "ClientRequestToken": token,
    }


def no_stack(clients: Clients) -> None:
    clients.script.add_client_error(
        "describe_stacks",
        "ValidationError",
        "Stack with id redress-dev does not exist",
        expected_params={"StackName": "redress-dev"},
    )


def looks(clients: Clients, status: str, *newest_first: dict[str, Any], **more: Any) -> None:
    clients.script.add_response("describe_stacks", stack(status, **more), {"StackName": STACK_ID})
    clients.script.add_response(
        "describe_stack_events", {"StackEvents": list(newest_first)}, {"StackName": STACK_ID}
    )


def asks(clients: Clients, operation: str, *parameters: dict[str, Any]) -> None:
    expected = {
        "StackName": "redress-dev",
        "TemplateURL": ANY,
        "Capabilities": ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        "Parameters": list(parameters),
        "Tags": [{"Key": "redress:stage", "Value": "dev"}],
        "ClientRequestToken": "token",
    }
    clients.script.add_response(operation, {"StackId": STACK_ID}, expected)


STAGE = {"ParameterKey": "Stage", "ParameterValue": "dev"}

# --------------------------------------------------------------------------------------------------------------- stack


def test_a_new_stack_is_created_watched_and_its_outputs_returned(
    clients: Clients, built: package.Package
) -> None:
    no_stack(clients)
    asks(clients, "create_stack", STAGE)
    looks(clients, "CREATE_IN_PROGRESS", event(1, "Key", "CREATE_IN_PROGRESS"))
    looks(
        clients,
        "CREATE_COMPLETE",
        event(2, "Key", "CREATE_COMPLETE"),
        event(1, "Key", "CREATE_IN_PROGRESS"),
        Outputs=[{"OutputKey": "EndpointURL", "OutputValue": "https://x"}],
    )
    done, seen = run(clients, built)
    assert done == deploy.Deployment("redress-dev", {"EndpointURL": "https://x"}, changed=True)
    assert [(one.resource, one.status) for one in seen] == [
        ("Key", "CREATE_IN_PROGRESS"),
        ("Key", "CREATE_COMPLETE"),
    ]


def test_an_update_keeps_what_is_not_given_and_shows_only_its_own_events(
    clients: Clients, built: package.Package
) -> None:
    has = [
        {"ParameterKey": "Stage", "ParameterValue": "dev"},
        {"ParameterKey": "LimitPerActor", "ParameterValue": "7"},
    ]
    clients.script.add_response(
        "describe_stacks", stack("UPDATE_COMPLETE", Parameters=has), {"StackName": "redress-dev"}
    )
    asks(clients, "update_stack", STAGE, {"ParameterKey": "LimitPerActor", "UsePreviousValue": True})
    looks(
        clients,
        "UPDATE_COMPLETE",
        event(9, "Engine", "UPDATE_COMPLETE"),
        event(8, "Engine", "CREATE_FAILED", "long ago", "other"),
    )
    _, seen = run(clients, built)
    assert [one.status for one in seen] == ["UPDATE_COMPLETE"]


def test_a_given_parameter_is_passed_on(clients: Clients, built: package.Package) -> None:
    no_stack(clients)
    asks(
        clients,
        "create_stack",
        {**STAGE, "ParameterValue": "dev"},
        {"ParameterKey": "LimitPerActor", "ParameterValue": "0"},
    )
    looks(clients, "CREATE_COMPLETE")
    run(clients, built, LimitPerActor="0")


def test_an_unknown_parameter_is_refused_before_anything_is_changed(
    clients: Clients, built: package.Package
) -> None:
    assert "no parameter Limit; it has Stage, LimitPerActor" in failure(clients, built, Limit="1")


@pytest.mark.parametrize("stage", ["Dev", "dev-eu", "1dev", "adeploymenttoolong", ""])
def test_a_stage_that_no_name_can_be_made_of_is_refused(
    clients: Clients, built: package.Package, stage: str
) -> None:
    with pytest.raises(deploy.DeployError, match="is no stage"):
        deploy.deploy(clients, built, stage, {}, lambda _: None)


def test_no_change_is_a_success(clients: Clients, built: package.Package) -> None:
    outputs = [{"OutputKey": "EndpointURL", "OutputValue": "https://x"}]
    clients.script.add_response(
        "describe_stacks", stack("CREATE_COMPLETE", Outputs=outputs), {"StackName": "redress-dev"}
    )
    clients.script.add_client_error("update_stack", "ValidationError", "No updates are to be performed.")
    done, seen = run(clients, built)
    assert done == deploy.Deployment("redress-dev", {"EndpointURL": "https://x"}, changed=False)
    assert seen == []


def test_a_failed_creation_names_what_failed_first_and_what_to_do(
    clients: Clients, built: package.Package
) -> None:
    no_stack(clients)
    asks(clients, "create_stack", STAGE)
    looks(
        clients,
        "ROLLBACK_COMPLETE",
        event(4, "redress-dev", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed"),
        event(3, "ReadRole", "CREATE_FAILED", "Resource creation cancelled"),
        event(2, "Engine", "CREATE_FAILED", "ReservedConcurrentExecutions is too high"),
        event(1, "AuditTable", "CREATE_FAILED", "Resource creation cancelled"),
    )
    said = failure(clients, built)
    assert "ended in ROLLBACK_COMPLETE" in said
    assert (
        "What failed first: Engine (AWS::X::Y) CREATE_FAILED: ReservedConcurrentExecutions is too high."
        in said
    )
    assert "delete-stack --stack-name redress-dev" in said


def test_a_table_that_was_left_behind_is_explained(clients: Clients, built: package.Package) -> None:
    no_stack(clients)
    asks(clients, "create_stack", STAGE)
    looks(
        clients,
        "ROLLBACK_COMPLETE",
        event(1, "AuditTable", "CREATE_FAILED", "redress-dev-audit already exists"),
    )
    assert "Tables are kept on purpose" in failure(clients, built)


def test_a_transform_that_failed_is_told_by_the_stacks_own_event(
    clients: Clients, built: package.Package
) -> None:
    no_stack(clients)
    asks(clients, "create_stack", STAGE)
    looks(
        clients,
        "ROLLBACK_COMPLETE",
        event(1, "redress-dev", "ROLLBACK_IN_PROGRESS", "Transform failed with: Invalid"),
    )
    assert "What failed first: Transform failed with: Invalid." in failure(clients, built)


def test_a_failed_update_says_that_the_old_deployment_stands(
    clients: Clients, built: package.Package
) -> None:
    clients.script.add_response("describe_stacks", stack("CREATE_COMPLETE"), {"StackName": "redress-dev"})
    asks(clients, "update_stack", STAGE)
    looks(clients, "UPDATE_ROLLBACK_COMPLETE", event(1, "Engine", "UPDATE_FAILED", "no"))
    assert "The deployment from before still stands" in failure(clients, built)


@pytest.mark.parametrize(
    "status, advice",
    [
        ("ROLLBACK_COMPLETE", "was never created whole"),
        ("REVIEW_IN_PROGRESS", "was never created whole"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "somebody else is at it"),
    ],
)
def test_a_stack_that_takes_no_update_is_explained(
    clients: Clients, built: package.Package, status: str, advice: str
) -> None:
    clients.script.add_response("describe_stacks", stack(status), {"StackName": "redress-dev"})
    said = failure(clients, built)
    assert status in said
    assert advice in said


def test_a_refusal_of_cloudformation_is_passed_on(clients: Clients, built: package.Package) -> None:
    no_stack(clients)
    clients.script.add_client_error(
        "create_stack", "InsufficientCapabilitiesException", "Requires capabilities"
    )
    assert "refused the stack redress-dev: InsufficientCapabilitiesException: Requires" in failure(
        clients, built
    )


# -------------------------------------------------------------------------------------------------------------- bucket


def test_the_artefacts_lie_in_a_closed_bucket_of_our_own(clients: Clients, built: package.Package) -> None:
    no_stack(clients)
    asks(clients, "create_stack", STAGE)
    looks(clients, "CREATE_COMPLETE")
    run(clients, built)
    s3 = boto3.client("s3", region_name="us-east-1")
    assert all(s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
    s3.delete_bucket_policy(Bucket=BUCKET)  # moto denies without looking at the condition
    keys = sorted(one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"])
    template = next(key for key in keys if key.endswith(".yaml"))
    assert f"{'5' * 64}.zip" in keys
    stored = yaml.safe_load(s3.get_object(Bucket=BUCKET, Key=template)["Body"].read())
    assert stored["Resources"]["Engine"]["Properties"]["CodeUri"] == f"s3://{BUCKET}/{'5' * 64}.zip"


def test_a_bucket_that_is_somebody_elses_is_not_written_to(clients: Clients, built: package.Package) -> None:
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket=BUCKET)
    no_stack(clients)
    refusing = Refusing(clients)
    with pytest.raises(deploy.DeployError, match="belongs to another account"):
        deploy.deploy(refusing, built, "dev", {}, lambda _: None)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)


class Refusing(Clients):
    """S3 answers HeadBucket with 403, as it does when ExpectedBucketOwner is not the owner."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def client(self, service_name: str) -> Any:
        made = self._clients.client(service_name)
        if service_name == "s3":
            refused = Stubber(made)
            refused.add_client_error(
                "head_bucket",
                "403",
                "Forbidden",
                403,
                expected_params={"Bucket": BUCKET, "ExpectedBucketOwner": ACCOUNT},
            )
            refused.activate()
        return made


# -------------------------------------------------------------------------- for real: the emulated AWS, IAM enforced


@pytest.fixture(scope="module")
def world() -> Iterator[Any]:
    from local.emulator.world import World

    with World() as world:
        yield world


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> package.Package:
    root = Path(__file__).resolve().parents[2]
    return package.package(root, tmp_path_factory.mktemp("built"), "dev", with_dependencies=False)


@pytest.fixture(scope="module")
def deployed(world: Any, light: package.Package) -> deploy.Deployment:
    return deploy.deploy(world, light, "dev", {"VisibilitySeconds": "2"}, lambda _: None)


@pytest.mark.emulator
def test_a_second_deployment_of_the_same_changes_nothing(
    world: Any, light: package.Package, deployed: deploy.Deployment
) -> None:
    assert deployed.changed
    again = deploy.deploy(world, light, "dev", {}, lambda _: None)
    assert not again.changed
    assert again.outputs == deployed.outputs


@pytest.mark.emulator
def test_a_violation_is_recorded_by_the_functions_own_rights(world: Any, deployed: deploy.Deployment) -> None:
    # Tests run in any order, and one of them tries on purpose what our roles may not do.
    world.clear_calls()
    ec2 = world.client("ec2")
    group = ec2.create_security_group(GroupName="open", Description="open")["GroupId"]
    permission = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
    }
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    tables = world.client("dynamodb", quiet=True)
    name = deployed.outputs["AuditTableName"]

    def types() -> set[str]:
        return {item["type"]["S"] for item in tables.scan(TableName=name)["Items"]}

    world.wait_for(lambda: {"RECEIVED", "DECIDED"} <= types(), 30, "the event was received and decided upon")
    ours = [call for call in world.calls() if call.role.startswith("redress-")]
    assert "TransactWriteItems" in {call.operation for call in ours}, "calls of this event were seen"
    assert [call for call in ours if call.status == 403] == []


@pytest.mark.emulator
def test_the_ledger_cannot_be_changed_by_who_writes_it(world: Any, deployed: deploy.Deployment) -> None:
    iam = world.client("iam", quiet=True)
    for name in ("engine", "http", "undoer"):
        answer = iam.simulate_principal_policy(
            PolicySourceArn=f"arn:aws:iam::{world.account}:role/redress-dev-{name}",
            ActionNames=["dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:DeleteTable"],
            ResourceArns=[f"arn:aws:dynamodb:{world.region}:{world.account}:table/redress-dev-audit"],
        )
        assert {one["EvalDecision"] for one in answer["EvaluationResults"]} == {"explicitDeny"}


@pytest.mark.emulator
def test_an_errand_in_the_outbox_comes_to_the_commands_queue_and_no_other_notice_does(
    world: Any, deployed: deploy.Deployment
) -> None:
    wanted = errand.Look(case="c-1", by="arn", request_id="r")
    look = errand.notice(wanted, "r", "c-1", NOW)
    other = Notice(id="RESULT#1", kind="result", case="c-1", at=NOW, body={"errand": "tick"})
    sqs, url = world.client("sqs", quiet=True), deployed.outputs["CommandsQueueUrl"]
    with engine_off(world, "commands"):
        world.clear_calls()
        for notice in (other, look):
            world.client("dynamodb", quiet=True).put_item(
                TableName=deployed.outputs["OutboxTableName"], Item=notice_item(notice)
            )
        bodies: list[str] = []

        def came() -> bool:
            for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return bool(bodies)

        world.wait_for(came, 30, "the errand came")
        assert [errand.ERRAND.validate_json(body) for body in bodies] == [wanted]
    by_outbox = [(call.operation, call.status) for call in world.calls() if call.role == "redress-dev-outbox"]
    assert ("SendMessage", 200) in by_outbox
    assert {status for _, status in by_outbox} == {200}


@contextmanager
def engine_off(world: Any, queue: str) -> Iterator[None]:
    """The engine does not take from that queue meanwhile."""
    client = world.client("lambda", quiet=True)
    (mapping,) = [
        one
        for one in client.list_event_source_mappings()["EventSourceMappings"]
        if one["EventSourceArn"].endswith(f":redress-dev-{queue}")
    ]
    client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


@pytest.mark.emulator
def test_time_has_its_rules_and_a_sweep_can_be_switched_off(
    world: Any, light: package.Package, deployed: deploy.Deployment
) -> None:
    events = world.client("events", quiet=True)

    def schedule(name: str) -> tuple[str, str]:
        rule = events.describe_rule(Name=f"redress-dev-{name}")
        return rule["ScheduleExpression"], rule["State"]

    assert schedule("tick") == ("rate(5 minutes)", "ENABLED")
    assert schedule("sweep") == ("rate(1 day)", "ENABLED")
    for name in ("tick", "sweep"):
        (target,) = events.list_targets_by_rule(Rule=f"redress-dev-{name}")["Targets"]
        assert target["Arn"].endswith(":redress-dev-commands")
        assert json.loads(target["Input"]) == {"errand": name}
    off = {"SweepState": "DISABLED", "SweepSchedule": "cron(0 3 * * ? *)"}
    assert deploy.deploy(world, light, "dev", off, lambda _: None).changed
    assert schedule("sweep") == ("cron(0 3 * * ? *)", "DISABLED")
    assert schedule("tick") == ("rate(5 minutes)", "ENABLED")


@pytest.mark.emulator
def test_the_undo_role_is_the_undoers_and_the_acting_role_the_engines(
    world: Any, deployed: deploy.Deployment
) -> None:
    iam = world.client("iam", quiet=True)
    anybody = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    person = world.create_user("admin", {"Version": "2012-10-17", "Statement": [anybody]})

    def as_role(name: str) -> Any:
        """A session of that function's role, whose trust is lent to a person for it."""
        role = f"redress-dev-{name}"
        trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
        lent = {"Effect": "Allow", "Principal": {"AWS": person.arn}, "Action": "sts:AssumeRole"}
        statements = {**trust, "Statement": [*trust["Statement"], lent]}
        iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(statements))
        try:
            return world.assume(arn(name), "test", credentials=person)
        finally:
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))

    def arn(name: str) -> str:
        return f"arn:aws:iam::{world.account}:role/redress-dev-{name}"

    def taken_on(who: Any) -> set[str]:
        found = set()
        for name in ("read", "act", "undo", "engine", "undoer"):
            try:
                world.assume(arn(name), "test", credentials=who)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "AccessDenied"  # noqa: PT017 -- of each role in turn
            else:
                found.add(name)
        return found

    assert taken_on(as_role("undoer")) == {"read", "undo"}
    assert taken_on(as_role("engine")) == {"read", "act"}
    assert taken_on(as_role("http")) == set()
    assert taken_on(as_role("outbox")) == set()
    assert taken_on(person) == set()


@pytest.mark.emulator
def test_nobody_but_the_engine_reaches_the_undo_queue(world: Any, deployed: deploy.Deployment) -> None:
    anybody = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    person = world.create_user("sender", {"Version": "2012-10-17", "Statement": [anybody]})
    for who in (person, world.root):
        with pytest.raises(ClientError, match="AccessDenied"):
            world.client("sqs", who, quiet=True).send_message(
                QueueUrl=deployed.outputs["UndoQueueUrl"], MessageBody="{}"
            )


@pytest.mark.emulator
def test_an_unsigned_command_is_refused(world: Any, deployed: deploy.Deployment) -> None:
    path = f"/_aws/execute-api/{deployed.outputs['RestAPIId']}/api/commands/mode"
    with closing(http.client.HTTPConnection(world.endpoint.removeprefix("http://"))) as connection:
        connection.request("POST", path, b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    assert answer.status == 403


@pytest.mark.emulator
def test_an_update_changes_what_is_given_and_keeps_the_rest(
    world: Any, light: package.Package, deployed: deploy.Deployment
) -> None:
    assert deploy.deploy(world, light, "dev", {"LimitPerActor": "7"}, lambda _: None).changed
    (stack,) = world.client("cloudformation", quiet=True).describe_stacks(StackName=deployed.stack)["Stacks"]
    values = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    assert (values["LimitPerActor"], values["VisibilitySeconds"], values["LeaseSeconds"]) == ("7", "2", "75")


@pytest.mark.emulator
def test_a_members_events_come_home_from_every_region(world: Any, deployed: deploy.Deployment) -> None:
    member, bus = "222222222222", deployed.outputs["HomeBusArn"]
    admitted = {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "events:PutEvents",
        "Resource": bus,
    }
    # MiniStack's CloudFormation leaves out the bus's policy.
    world.client("events", quiet=True).put_permission(
        EventBusName=bus.rpartition("/")[2],
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [admitted]}),
    )
    for region, roles_here in (("us-east-1", "true"), ("eu-west-1", "false")):
        _deploy_member(
            world, member, region, {"HomeAccount": world.account, "HomeBusArn": bus, "RolesHere": roles_here}
        )
        ec2 = world.client("ec2", world.root_of(member), region=region)
        group = ec2.create_security_group(GroupName="open", Description="open")["GroupId"]
        permission = {
            "IpProtocol": "tcp",
            "FromPort": 22,
            "ToPort": 22,
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
        }
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    tables = world.client("dynamodb", quiet=True)

    def heard() -> set[str]:
        items = tables.scan(TableName=deployed.outputs["AuditTableName"])["Items"]
        bodies = [json.loads(item["body"]["S"]) for item in items]
        return {body["region"] for body in bodies if body["account"] == member and body["type"] == "NOT_OURS"}

    world.wait_for(lambda: heard() == {"us-east-1", "eu-west-1"}, 30, "both events were recorded at home")
    iam = world.client("iam", world.root_of(member), quiet=True)
    trust = iam.get_role(RoleName="redress-dev-act")["Role"]["AssumeRolePolicyDocument"]
    assert trust["Statement"][0]["Principal"] == {
        "AWS": [f"arn:aws:iam::{world.account}:role/redress-dev-engine"]
    }


def _deploy_member(world: Any, account: str, region: str, parameters: dict[str, str]) -> None:
    template = Path(__file__).resolve().parents[2] / ".chalice/member.yaml"
    client = world.client("cloudformation", world.root_of(account), region=region, quiet=True)
    client.create_stack(
        StackName="redress-member",
        TemplateBody=template.read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    )

    def status() -> str:
        return str(client.describe_stacks(StackName="redress-member")["Stacks"][0]["StackStatus"])

    world.wait_for(lambda: status() == "CREATE_COMPLETE", 20, f"the member stack stands in {region}")


@pytest.mark.emulator
def test_a_stack_that_falls_says_which_resource_fell_first(
    world: Any, light: package.Package, tmp_path: Path
) -> None:
    template = yaml.safe_load(light.template.read_text())
    template["Resources"]["Nonsense"] = {
        "Type": "AWS::Lambda::EventSourceMapping",
        "Properties": {"FunctionName": "nobody", "EventSourceArn": {"Fn::GetAtt": ["Key", "Nothing"]}},
    }
    (tmp_path / "sam.yaml").write_text(yaml.safe_dump(template, sort_keys=False))
    broken = package.Package(light.zip, tmp_path / "sam.yaml", light.sha256)
    with pytest.raises(deploy.DeployError, match="What failed first: Nonsense"):
        deploy.deploy(world, broken, "other", {}, lambda _: None)
    with pytest.raises(deploy.DeployError, match="ROLLBACK_COMPLETE: it was never created whole"):
        deploy.deploy(world, light, "other", {}, lambda _: None)
