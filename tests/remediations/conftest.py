"""An account to try remediations on: real boto3 against moto, with every operation that is sent remembered."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, settings
from moto import mock_aws
from mypy_boto3_ec2 import EC2Client
from mypy_boto3_s3 import S3Client

from chalicelib.domain.contract import Call, Cause, Plan
from chalicelib.domain.errors import AccessDeniedError, AwsError
from chalicelib.domain.finding import Actor

# An account of AWS owns no snapshots at first; moto's would own those of a hundred public images, and take a second.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

ACCOUNT = "123456789012"
REGION = "eu-central-1"
AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
SOMEBODY = Actor(type="IAMUser", arn=f"arn:aws:iam::{ACCOUNT}:user/somebody")
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For generated states: what they must show is right or wrong, not quick, and machines that run tests are busy."""


def cause(*opened: str) -> Cause:
    """An event of just now that opened these sub-resources."""
    return Cause(at=AT, actor=SOMEBODY, opened=opened)


@dataclass
class MotoReader:
    """The contract's Reader over moto. What moto lacks is answered from `instead`; `broken` raises its error."""

    session: boto3.Session
    operations: list[str] = field(default_factory=list)
    instead: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def read(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        self.operations.append(operation)
        if operation in self.broken:
            raise AwsError(service, operation, self.broken[operation], "as the test wants it")
        if operation in self.instead:
            return self.instead[operation]
        answer = send(self.session, Call(service=service, operation=operation, params=params, why="to know"))
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def pages(self, service: str, operation: str, key: str, /, **params: Any) -> list[Any]:
        found: list[Any] = []
        token: dict[str, str] = {}
        while True:
            page = self.read(service, operation, **params, **token)
            found += page[key]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}


@dataclass(frozen=True)
class Account:
    """One emulated account, one Region. `sent` is every operation that went over the wire, ours or the test's."""

    session: boto3.Session
    sent: list[str]
    reader: MotoReader

    def apply(self, plan: Plan) -> None:
        """Make the plan's calls, in order, without any of the engine's guards."""
        for call in plan.calls:
            send(self.session, call)


@cache
def client_of(session: boto3.Session, service: str) -> Any:
    """The session's client for a service. Making one costs a tenth of a second, so that it is made once."""
    return session.client(service)  # type: ignore[call-overload]  # the stubs know services by name only


def ec2_of(session: boto3.Session) -> EC2Client:
    client: EC2Client = client_of(session, "ec2")
    return client


def s3_of(session: boto3.Session) -> S3Client:
    client: S3Client = client_of(session, "s3")
    return client


def send(session: boto3.Session, call: Call) -> dict[str, Any]:
    """One call through boto3; AwsError with the service's code when it is refused."""
    try:
        answer: dict[str, Any] = getattr(client_of(session, call.service), xform_name(call.operation))(
            **call.params
        )
    except ClientError as error:
        code = error.response["Error"]["Code"]
        kind = AccessDeniedError if code in DENIED else AwsError
        raise kind(call.service, call.operation, code, str(error)) from error
    return answer


def mend(session: boto3.Session) -> None:
    """Let moto answer as EC2 does: every rule names the account that owns its group."""

    def name_owner(parsed: dict[str, Any], **_: Any) -> None:
        for rule in parsed.get("SecurityGroupRules", []):
            rule.setdefault("GroupOwnerId", ACCOUNT)

    session.events.register("after-call.ec2.DescribeSecurityGroupRules", name_owner)


@pytest.fixture(scope="session")
def wire() -> tuple[boto3.Session, list[str]]:
    """One session for all tests, and the operations that went through it: EC2's model takes long to load."""
    sent: list[str] = []
    session = boto3.Session(region_name=REGION)

    def remember(model: Any, **_: Any) -> None:
        sent.append(model.name)

    session.events.register("before-call", remember)
    mend(session)
    return session, sent


@pytest.fixture
def aws(wire: tuple[boto3.Session, list[str]]) -> Iterator[Account]:
    """A fresh account."""
    session, sent = wire
    sent.clear()
    with mock_aws():
        reader = MotoReader(session, instead={"GetEbsDefaultKmsKeyId": {"KmsKeyId": "alias/aws/ebs"}})
        yield Account(session, sent, reader)
