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
from botocore.exceptions import ClientError

from chalicelib.adapters.dynamodb import Ledger
from chalicelib.cli.api import Api
from chalicelib.cli.deploy import deploy
from chalicelib.cli.package import package
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow.command import AnyCommand
from chalicelib.flow.desk import CommandResult
from chalicelib.settings import Settings
from local.emulator.world import Credentials, SeenCall, World

ROOT = Path(__file__).resolve().parent.parent

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

NOTHING_BUT_ONESELF = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}],
}

ANYTHING_IN_EC2: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}],
}

DEVELOPS = {
    "Version": "2012-10-17",
    "Statement": [
        *ANYTHING_IN_EC2["Statement"],
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": [
                "iam:CreateUser",
                "iam:GetUser",
                "iam:ListUsers",
                "iam:TagUser",
                "iam:ListAccessKeys",
                "iam:CreateAccessKey",
                "iam:UpdateAccessKey",
                "iam:DeleteAccessKey",
            ],
            "Resource": "*",
        },
    ],
}
"""What a developer of a small firm is given: servers, buckets, and the keys of those who use them."""

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

APPROVES = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "execute-api:Invoke",
            "Resource": "arn:aws:execute-api:*:*:*/*/POST/commands/answer",
        },
        {
            "Effect": "Allow",
            "Action": ["dynamodb:Query", "dynamodb:BatchGetItem", "cloudformation:DescribeStacks"],
            "Resource": "*",
        },
    ],
}
"""What an approver needs: to read what is asked, and to answer. Of all the commands, IAM lets her give this one alone."""


class Stage:
    """A World with Redress deployed in it, and three people.

    `operator` and `approver` may use the commands route and read; `developer` does as he likes in EC2, in S3, and with
    people's access keys.
    """

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
        self.approver = self.world.create_user("anna-approver", APPROVES)
        self.developer = self.world.create_user("dave-developer", DEVELOPS)
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

    def bucket(self, name: str) -> str:
        """A fresh bucket that blocks all public access, made before anybody watches; its ARN."""
        s3 = self.world.client("s3", quiet=True)
        s3.create_bucket(Bucket=name)
        blocked = dict.fromkeys(BLOCKS, True)
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=blocked)
        return f"arn:aws:s3:::{name}"

    def pab(self, bucket: str) -> dict[str, bool]:
        """How the bucket blocks public access as it stands; empty when nothing is configured."""
        s3 = self.world.client("s3", quiet=True)
        try:
            found: dict[str, bool] = s3.get_public_access_block(Bucket=bucket)[
                "PublicAccessBlockConfiguration"
            ]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchPublicAccessBlockConfiguration":
                raise
            return {}
        return found

    def user_with_key(self, name: str, age_days: float, used_days_ago: float | None = None) -> Credentials:
        """A user with one access key of that age, made before anybody watches; never used unless it is said when."""
        user = self.world.create_user(name, NOTHING_BUT_ONESELF)
        now = datetime.now(UTC)
        used = None if used_days_ago is None else now - timedelta(days=used_days_ago)
        self.world.age_access_key(user.access_key_id, created=now - timedelta(days=age_days), last_used=used)
        return user

    def key_status(self, user: str) -> dict[str, str]:
        """Active or Inactive, by access key id, as it stands."""
        keys = self.world.client("iam", quiet=True).list_access_keys(UserName=user)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in keys}

    def fire(self, schedule: str) -> None:
        """Let one of our schedules (`tick`, `sweep`) be due now."""
        self.world.fire(f"{self.settings.prefix}-{schedule}")

    def at_rest(self, seconds: float = 30.0) -> None:
        """Return once no event is under way, and no message of our queues is in anybody's hands or waits for them."""
        queues = ("events", "commands", "undo", "notices")

        def still() -> bool:
            return self.world.backlog() == 0 and not any(self.depth(name, whole=True) for name in queues)

        self.world.wait_for(still, seconds, "the queues to be empty")

    # -- as an auditor --

    def waiting(self) -> list[Case]:
        """The cases that wait for a person's answer."""
        return list(self.ledger.cases(CaseState.WAITING))

    def tickets(self) -> list[Ticket]:
        """The tickets that are open."""
        return list(self.ledger.tickets(TicketState.OPEN))

    def await_case(self, resource: str, state: CaseState, seconds: float = 25.0) -> Case:
        """The case on the resource that is in that state, once there is one; the newest episode if several are."""
        found: list[Case] = []

        def stands() -> bool:
            cases = self.ledger.cases(state)
            found[:] = [case for case in cases if case.target.resource == resource]
            return bool(found)

        self.world.wait_for(stands, seconds, f"a case on {resource} that is {state.value}")
        return max(found, key=lambda case: case.episode)

    def records(self, resource: str, kind: str | None = None) -> list[dict[str, Any]]:
        """The bodies of the records on a resource, oldest first; those too that a clock wrote which was set ahead."""
        now = datetime.now(UTC)
        stored = self.ledger.resource_records(resource, now - timedelta(hours=2), now + timedelta(days=60))
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

    def depth(self, name: str, *, whole: bool = False) -> int:
        """How many messages one of our queues shows; on the whole also those in somebody's hands and those that are delayed."""
        counted = ["ApproximateNumberOfMessages"]
        if whole:
            counted += [f"{counted[0]}NotVisible", f"{counted[0]}Delayed"]
        sqs = self.world.client("sqs", quiet=True)
        found = sqs.get_queue_attributes(QueueUrl=self.queue_url(name), AttributeNames=counted)["Attributes"]
        return sum(int(found[one]) for one in counted)


class _Pointed:
    """A boto3 session whose clients talk to the emulated AWS; everything else is the session's own."""

    def __init__(self, session: boto3.Session, endpoint: str) -> None:
        self._session: Any = session
        self._endpoint = endpoint

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the session has
        return getattr(self._session, name)

    def client(self, service: str, **options: object) -> Any:  # noqa: ANN401 -- boto3 makes the class at run time
        return self._session.client(service, endpoint_url=self._endpoint, **options)
