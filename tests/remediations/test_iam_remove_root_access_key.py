"""A root key is always a person's matter, with the steps; that there is none is believed only when IAM says so."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from chalicelib.domain.contract import NOTHING_TO_DO, Mode, Params, Plan, RunRecord
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Target
from remediations.iam_remove_root_access_key import REMEDIATION, NoParams, RootKeys
from tests.fakes.aws import FakeAws
from tests.fakes.iam import give_root_a_key
from tests.remediations.conftest import ACCOUNT, AT, UNHURRIED, MotoReader, cause

HERE = Target(account=ACCOUNT, region="global", type="AWS::::Account", id=ACCOUNT)
EVENT = "9e2f6c1a-6d0b-4f0e-8a53-0d6f1c7b2e11"


# ------------------------------------------------------------------------------------------------- for the house tests


class Scenario:
    """The root user makes itself an access key."""

    params: Params = NoParams()
    ticket_only = True

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]:
        del session  # moto cannot make such a key: it is said to be there
        give_root_a_key(ACCOUNT)
        return HERE, ()

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]:
        time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        root = f"arn:aws:iam::{target.account}:root"
        return {
            "version": "0",
            "id": "0f4c6f9e-5a3b-4d3e-9a53-3f0b8d5a7c21",
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.iam",
            "account": target.account,
            "time": time,
            "region": "us-east-1",
            "resources": [],
            "detail": {
                "eventVersion": "1.10",
                "userIdentity": {
                    "type": "Root",
                    "principalId": target.account,
                    "arn": root,
                    "accountId": target.account,
                    "accessKeyId": "ASIAEXAMPLEACCESSKEY",
                    "sessionContext": {"attributes": {"creationDate": time, "mfaAuthenticated": "true"}},
                },
                "eventTime": time,
                "eventSource": "iam.amazonaws.com",
                "eventName": "CreateAccessKey",
                "awsRegion": "us-east-1",
                "sourceIPAddress": "198.51.100.7",
                "userAgent": "AWS Internal",
                "requestParameters": None,
                "responseElements": {
                    "accessKey": {"accessKeyId": "AKIAEXAMPLEROOTKEY", "status": "Active", "createDate": time}
                },
                "requestID": "5b0d5c5e-64bb-4a61-9c3c-3b8a2f0f9d55",
                "eventID": EVENT,
                "readOnly": False,
                "eventType": "AwsApiCall",
                "managementEvent": True,
                "recipientAccountId": target.account,
                "eventCategory": "Management",
                "sessionCredentialFromConsole": "true",
            },
        }


SCENARIO = Scenario()
STATES: st.SearchStrategy[RootKeys] = st.builds(RootKeys, present=st.none() | st.integers(0, 2))


# ------------------------------------------------------------------------------------------------------------ to speak


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with mock_aws():
        yield FakeAws()


def look(aws: FakeAws) -> RootKeys:
    return REMEDIATION.assess(HERE, NoParams(), aws.reader(REMEDIATION, HERE))


def decide(state: RootKeys) -> Plan:
    return REMEDIATION.plan(HERE, NoParams(), state, cause(), AT)


# ---------------------------------------------------------------------------------------------------------- the ticket


def test_a_root_key_becomes_a_ticket_and_nothing_else(aws: FakeAws) -> None:
    SCENARIO.violate(boto3.Session(region_name="us-east-1"))
    state = look(aws)
    assert state.present == 1
    plan = decide(state)
    assert plan.at_most is Mode.TICKET
    assert plan.calls == ()
    assert "only the root user can delete its keys" in plan.declined[0].why
    assert [one.operation for one in aws.operations] == ["GetAccountSummary"]


def test_without_a_root_key_there_is_nothing_to_do(aws: FakeAws) -> None:
    assert look(aws).compliant
    assert decide(look(aws)) == NOTHING_TO_DO


@pytest.mark.parametrize("answer", [{}, {"SummaryMap": {"Users": 3}}])
def test_what_iam_does_not_say_is_never_compliant(answer: dict[str, Any]) -> None:
    reader = MotoReader(boto3.Session(region_name="us-east-1"), instead={"GetAccountSummary": answer})
    state = REMEDIATION.assess(HERE, NoParams(), reader)
    assert state == RootKeys(present=None)
    assert "IAM does not say" in decide(state).declined[0].why


def test_what_may_not_be_read_is_an_error() -> None:
    reader = MotoReader(boto3.Session(region_name="us-east-1"), broken={"GetAccountSummary": "AccessDenied"})
    with pytest.raises(AwsError, match="AccessDenied"):
        REMEDIATION.assess(HERE, NoParams(), reader)


def test_nothing_is_ever_written_and_there_is_nothing_to_undo() -> None:
    assert REMEDIATION.writes == REMEDIATION.undo_writes == ()
    state = RootKeys(present=1)
    assert REMEDIATION.undo(HERE, RunRecord(state, decide(state), (), state), state) == NOTHING_TO_DO


def test_the_account_itself_is_what_a_survey_names(aws: FakeAws) -> None:
    assert REMEDIATION.survey(HERE, NoParams(), aws.reader(REMEDIATION, HERE)) == (HERE,)
    assert REMEDIATION.everywhere == "account"
    assert REMEDIATION.tags is None


def test_the_steps_begin_with_the_last_use_and_hold_no_command_that_an_administrator_cannot_run() -> None:
    steps = REMEDIATION.by_hand(HERE, RootKeys(present=1))
    assert "last_used" in steps[0].console
    assert ACCOUNT in steps[1].console
    assert "Deactivate" in steps[1].console
    assert "Delete" in steps[2].console
    assert [step.command for step in steps if step.command] == [
        "aws iam generate-credential-report",
        "aws iam get-account-summary --query SummaryMap.AccountAccessKeysPresent",
    ]


def test_the_code_says_that_there_is_none() -> None:
    told = REMEDIATION.as_code(HERE, RootKeys(present=1))
    assert told.startswith("# No Terraform resource")
    assert told.count("\n") == 1


@UNHURRIED
@given(STATES)
def test_a_plan_never_holds_a_call_and_is_satisfied_only_without_a_key(state: RootKeys) -> None:
    assert RootKeys.model_validate_json(state.model_dump_json()) == state
    assert decide(state) == decide(state)
    assert decide(state).calls == ()
    assert decide(state).satisfied is state.compliant is (state.present == 0)
