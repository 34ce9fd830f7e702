"""The real doors, against an emulated account: the operator's own credentials, and reads only."""

import io
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.cli.outside import NoAccountError, NobodyThereError, own_reader, real
from chalicelib.domain.errors import AwsError, UndeclaredCallError
from chalicelib.domain.finding import Target
from chalicelib.settings import Settings

ACCOUNT = "123456789012"
SETTINGS = Settings(stage="dev", account=ACCOUNT, region="us-east-1")


@pytest.fixture
def account() -> Iterator[None]:
    with mock_aws():
        yield


def target(group: str, account: str = ACCOUNT) -> Target:
    return Target(account=account, region="us-east-1", type="AWS::EC2::SecurityGroup", id=group)


def remediation() -> Any:
    return next(one for one in real().remediations() if one.id == "ec2_revoke_open_ingress")


@pytest.mark.usefixtures("account")
def test_a_live_resource_is_read_with_the_remediations_own_assessment() -> None:
    ec2 = boto3.client("ec2")
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    one = remediation()
    state = real().read_state(one, target(group), one.params(ports=(22,)))
    assert state.compliant is False


@pytest.mark.usefixtures("account")
def test_an_event_of_another_account_is_not_looked_up_in_this_one() -> None:
    one = remediation()
    with pytest.raises(NoAccountError, match="but the event is of 444455556666"):
        real().read_state(one, target("sg-1", "444455556666"), one.params(ports=(22,)))


@pytest.mark.usefixtures("account")
def test_the_operators_reader_refuses_every_write_before_it_is_sent() -> None:
    reader = own_reader(boto3.Session(), SETTINGS, remediation(), target("sg-1"))
    for operation in ("RevokeSecurityGroupIngress", "DeleteSecurityGroup", "DescribeInstances"):
        with pytest.raises(UndeclaredCallError):
            reader.read("ec2", operation)
    with pytest.raises(AwsError):
        reader.pages(
            "ec2", "DescribeSecurityGroupRules", "SecurityGroupRules", SecurityGroupRuleIds=["sgr-0"]
        )


def test_without_credentials_one_is_told_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    for ask in (lambda: real().books("dev"), lambda: real().checks("dev")):
        with pytest.raises(NoAccountError, match="aws sso login"):
            ask()


@pytest.mark.enable_socket
def test_an_endpoint_that_does_not_answer_is_not_taken_for_bad_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(NoAccountError, match=r"cannot be reached .* AWS_ENDPOINT_URL"):
        real().books("dev")


@pytest.mark.usefixtures("account")
def test_without_a_region_one_is_told_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    with pytest.raises(NoAccountError, match=r"Region is not known|AWS does not know you"):
        real().books("dev")


def test_the_catalog_and_the_remediations_are_the_projects_own() -> None:
    doors = real()
    known = {control.id for control in doors.catalog().controls}
    assert {control for one in doors.remediations() for control in one.controls} <= known
    assert doors.now().tzinfo is not None


def test_where_nobody_is_at_a_terminal_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(NobodyThereError, match="say --yes"):
        real().confirm("Approve exactly this?")


@pytest.mark.parametrize("typed, meant", [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_at_a_terminal_says_yes_in_so_many_words(
    monkeypatch: pytest.MonkeyPatch, typed: str, meant: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert real().confirm("Approve exactly this?") is meant


@pytest.mark.usefixtures("account")
def test_a_deployments_books_and_checks_are_opened_for_the_operators_account() -> None:
    books = real().books("dev")
    assert books.home == ACCOUNT
    assert next(real().checks("dev")).name == "credentials"
