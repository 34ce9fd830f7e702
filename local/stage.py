"""A deployment on the emulated AWS with people in it: what `make demo`, `make up` and the end-to-end tests stand on.

The deployment is the real one: Chalice's package, our template through CloudFormation, EventBridge's rules, SQS and
Lambda, under IAM enforcement. Only the cloud is emulated.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import boto3

from chalicelib.adapters.dynamodb import Ledger
from chalicelib.cli.api import Api
from chalicelib.cli.deploy import deploy
from chalicelib.cli.package import package
from chalicelib.flow.command import AnyCommand, CommandResult
from chalicelib.settings import Settings
from local.emulator.world import Credentials, SeenCall, World

ROOT = Path(__file__).resolve().parent.parent

ANYTHING_IN_EC2 = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}],
}

OPERATES = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": [
                "dynamodb:Query",
                "dynamodb:BatchGetItem",
                "dynamodb:DescribeTable",
                "cloudformation:DescribeStacks",
                "sqs:GetQueueUrl",
                "sqs:GetQueueAttributes",
                "events:ListRules",
                "events:DescribeRule",
                "iam:GetRole",
            ],
            "Resource": "*",
        },
    ],
}
"""What an operator needs: the commands route, and reading. Nobody may write the tables."""


class Stage:
    """A World with Redress deployed in it. `operator` may use the commands route, `developer` may do anything in EC2."""

    def __init__(
        self,
        *,
        with_dependencies: bool = False,
        parameters: Mapping[str, str] | None = None,
        stage: str = "demo",
        say: Callable[[str], None] = lambda _: None,
        **world: Any,  # noqa: ANN401 -- World's own options
    ) -> None:
        self.world = World(**world)
        self.settings = Settings(stage=stage, account=self.world.account, region=self.world.region)
        self._with_dependencies = with_dependencies
        self._parameters = dict(parameters or {})
        self._say = say

    def __enter__(self) -> Self:
        self.world.start()
        try:
            self._fill()
        except BaseException:
            self.world.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.stop()

    def _fill(self) -> None:
        self._say(f"an emulated AWS answers on {self.world.endpoint}, with IAM enforced")
        with tempfile.TemporaryDirectory(prefix="redress-package-") as folder:
            built = package(
                ROOT, Path(folder), self.settings.stage, with_dependencies=self._with_dependencies
            )
            self._say(f"packaged: {built.zip.stat().st_size / 1e6:.2f} MB")
            self.deployment = deploy(
                self.session(self.world.root), built, self.settings.stage, self._parameters, lambda _: None
            )
        self._say(f"deployed: stack {self.deployment.stack}")
        self.operator = self.world.create_user("olga-operator", OPERATES)
        self.developer = self.world.create_user("dave-developer", ANYTHING_IN_EC2)
        self.ledger = Ledger(self.world.client("dynamodb", quiet=True), self.settings)

    # -- as people --

    def session(self, credentials: Credentials) -> boto3.Session:
        """A boto3 session of that person, whose every client talks to the emulated AWS."""
        session = boto3.Session(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
            region_name=self.world.region,
        )
        pointed: Any = _Pointed(session, self.world.endpoint)
        return cast("boto3.Session", pointed)

    def command(self, command: AnyCommand, who: Credentials | None = None) -> CommandResult:
        """What `redress mode` and its siblings do: a signed request to the deployed API."""
        return Api(self.session(who or self.operator), self.settings.stage, self.api).post(command)

    @property
    def api(self) -> str:
        """Where the deployed API answers here; on AWS it is the stack's EndpointURL itself."""
        host, stage = self.deployment.outputs["EndpointURL"].removeprefix("https://").split("/", 1)
        return f"{self.world.endpoint}/_aws/execute-api/{host.split('.')[0]}/{stage.strip('/')}"

    def security_group(self, name: str) -> str:
        """A fresh security group that lets 443 in from the world, made before anybody watches."""
        ec2 = self.world.client("ec2", quiet=True)
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group: str = ec2.create_security_group(GroupName=name, Description="demo", VpcId=vpc)["GroupId"]
        self.open(group, 443, ec2=ec2)
        return group

    def open(self, group: str, port: int, cidr: str = "0.0.0.0/0", ec2: Any = None) -> list[str]:  # noqa: ANN401 -- an EC2 client
        """Let `port` in from `cidr`, as the developer unless another client is given; the new rules' ids."""
        client = ec2 or self.world.client("ec2", self.developer)
        answer = client.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}
            ],
        )
        return [rule["SecurityGroupRuleId"] for rule in answer["SecurityGroupRules"]]

    def ingress(self, group: str) -> set[tuple[int, str]]:
        """The group's rules as it stands: (port, source)."""
        ec2 = self.world.client("ec2", quiet=True)
        rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group]}])
        return {
            (rule["FromPort"], rule.get("CidrIpv4") or rule.get("CidrIpv6") or rule.get("PrefixListId", ""))
            for rule in rules["SecurityGroupRules"]
            if not rule["IsEgress"]
        }

    # -- as an auditor --

    def records(self, resource: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The bodies of the records on a resource, oldest first."""
        now = datetime.now(UTC)
        stored = self.ledger.resource_records(resource, now - timedelta(hours=2), now + timedelta(hours=1))
        bodies = [json.loads(record.body) for record in stored]
        return [body for body in reversed(bodies) if kind in {None, body["type"]}]

    def await_record(self, resource: str, kind: str, count: int = 1, seconds: float = 25.0) -> dict[str, Any]:
        """The `count`-th record of that kind on the resource, once it stands."""
        found: list[dict[str, Any]] = []

        def stands() -> bool:
            found[:] = self.records(resource, kind)
            return len(found) >= count

        self.world.wait_for(stands, seconds, f"{kind} number {count} on {resource}")
        return found[count - 1]

    def arn(self, group: str) -> str:
        """A security group's ARN."""
        return f"arn:aws:ec2:{self.world.region}:{self.world.account}:security-group/{group}"

    def calls_by(self, role: str) -> list[SeenCall]:
        """Every call made so far under one of our roles (engine, read, act, undo, http)."""
        return [call for call in self.world.calls() if call.role == self.settings.role(role)]

    def queue_url(self, name: str) -> str:
        """The URL of one of our queues."""
        sqs = self.world.client("sqs", quiet=True)
        url: str = sqs.get_queue_url(QueueName=self.settings.queue(name))["QueueUrl"]
        return url

    def depth(self, name: str) -> int:
        """How many messages one of our queues shows."""
        sqs = self.world.client("sqs", quiet=True)
        attributes = sqs.get_queue_attributes(
            QueueUrl=self.queue_url(name), AttributeNames=["ApproximateNumberOfMessages"]
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"])


class _Pointed:
    """A boto3 session whose clients talk to the emulated AWS; everything else is the session's own."""

    def __init__(self, session: boto3.Session, endpoint: str) -> None:
        self._session: Any = session
        self._endpoint = endpoint

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the session has
        return getattr(self._session, name)

    def client(self, service: str, **options: object) -> Any:  # noqa: ANN401 -- boto3 makes the class at run time
        return self._session.client(service, endpoint_url=self._endpoint, **options)
