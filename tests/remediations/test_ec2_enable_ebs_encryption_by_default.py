"""The default is turned on where nothing speaks against it, asked about where something may, and undone exactly."""

from datetime import datetime
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain.contract import NOTHING_TO_DO, CallResult, Mode, Params, Plan, RunRecord
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Target
from remediations.ec2_enable_ebs_encryption_by_default import REMEDIATION, EbsDefault, NoParams
from tests.remediations.conftest import ACCOUNT, AT, REGION, UNHURRIED, Account, cause, ec2_of

HERE = Target(account=ACCOUNT, region=REGION, type="AWS::::Account", id=ACCOUNT)
AWS_MANAGED = "alias/aws/ebs"
CUSTOMERS = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1a2b3c4d-0000-4000-8000-123456789abc"
WRITES = frozenset({"EnableEbsEncryptionByDefault", "DisableEbsEncryptionByDefault"})


# ------------------------------------------------------------------------------------------------- for the house tests


class Scenario:
    """Somebody turns the default off."""

    params: Params = NoParams()

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]:
        ec2 = ec2_of(session)
        ec2.enable_ebs_encryption_by_default()
        ec2.disable_ebs_encryption_by_default()
        region = session.region_name
        assert region is not None
        return HERE.model_copy(update={"region": region}), ("ebs-default-encryption",)

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]:
        del opened  # the event is about the setting itself and names nothing else
        seed = f"{target.key}/{at.isoformat()}"
        request = str(uuid5(NAMESPACE_URL, f"request/{seed}"))
        time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "version": "0",
            "id": str(uuid5(NAMESPACE_URL, f"envelope/{seed}")),
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.ec2",
            "account": target.account,
            "time": time,
            "region": target.region,
            "resources": [],
            "detail": {
                "eventVersion": "1.10",
                "userIdentity": {
                    "type": "AssumedRole",
                    "principalId": "AROAEXAMPLEPRINCIPAL1:somebody",
                    "arn": f"arn:aws:sts::{target.account}:assumed-role/Operations/somebody",
                    "accountId": target.account,
                    "accessKeyId": "ASIAEXAMPLEACCESSKEY",
                    "sessionContext": {
                        "sessionIssuer": {
                            "type": "Role",
                            "principalId": "AROAEXAMPLEPRINCIPAL1",
                            "arn": f"arn:aws:iam::{target.account}:role/Operations",
                            "accountId": target.account,
                            "userName": "Operations",
                        },
                        "attributes": {"creationDate": time, "mfaAuthenticated": "true"},
                    },
                },
                "eventTime": time,
                "eventSource": "ec2.amazonaws.com",
                "eventName": "DisableEbsEncryptionByDefault",
                "awsRegion": target.region,
                "sourceIPAddress": "198.51.100.7",
                "userAgent": "console.ec2.amazonaws.com",
                "requestParameters": {"DisableEbsEncryptionByDefaultRequest": ""},
                "responseElements": {
                    "DisableEbsEncryptionByDefaultResponse": {
                        "ebsEncryptionByDefault": False,
                        "requestId": request,
                        "xmlns": "http://ec2.amazonaws.com/doc/2016-11-15/",
                    }
                },
                "requestID": request,
                "eventID": str(uuid5(NAMESPACE_URL, f"event/{seed}")),
                "readOnly": False,
                "eventType": "AwsApiCall",
                "managementEvent": True,
                "recipientAccountId": target.account,
                "eventCategory": "Management",
                "sessionCredentialFromConsole": "true",
            },
        }


SCENARIO = Scenario()
STATES: st.SearchStrategy[EbsDefault] = st.builds(
    EbsDefault,
    encrypted=st.sampled_from([True, False, None]),
    key=st.sampled_from([None, AWS_MANAGED, f"arn:aws:kms:{REGION}:{ACCOUNT}:{AWS_MANAGED}", CUSTOMERS]),
    shared=st.none() | st.lists(st.sampled_from(["ami-1", "ami-2", "snap-1"]), unique=True).map(tuple),
)


# ------------------------------------------------------------------------------------------------------------ to speak


def look(aws: Account, target: Target = HERE) -> EbsDefault:
    return REMEDIATION.assess(target, NoParams(), aws.reader)


def decide(state: EbsDefault, target: Target = HERE, last: EbsDefault | None = None) -> Plan:
    known = {"last_state": last.model_dump(mode="json") if last else None}
    return REMEDIATION.plan(
        target, NoParams(), state, cause("ebs-default-encryption").model_copy(update=known), AT
    )


def remedy(aws: Account) -> RunRecord[EbsDefault]:
    before = look(aws)
    plan = decide(before)
    aws.apply(plan)
    done = tuple(
        CallResult(index=index, request_id=f"r-{index}", observed_by="response")
        for index in range(len(plan.calls))
    )
    return RunRecord(before, plan, done, look(aws))


def new_snapshot(aws: Account) -> str:
    ec2 = ec2_of(aws.session)
    volume = ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    return ec2.create_snapshot(VolumeId=volume)["SnapshotId"]


def new_image(aws: Account) -> str:
    return ec2_of(aws.session).register_image(Name="golden", RootDeviceName="/dev/xvda")["ImageId"]


# ------------------------------------------------------------------------------------------------------------ the fix


def test_the_default_is_turned_on(aws: Account) -> None:
    SCENARIO.violate(aws.session)
    run = remedy(aws)
    assert run.plan.at_most is Mode.ACT
    assert run.after.compliant
    assert ec2_of(aws.session).get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True


def test_a_second_run_writes_nothing(aws: Account) -> None:
    SCENARIO.violate(aws.session)
    remedy(aws)
    aws.sent.clear()
    assert remedy(aws).plan == NOTHING_TO_DO
    assert not WRITES.intersection(aws.sent)


def test_nothing_more_is_read_when_it_is_on(aws: Account) -> None:
    ec2_of(aws.session).enable_ebs_encryption_by_default()
    assert look(aws).compliant
    assert aws.reader.operations == ["GetEbsEncryptionByDefault"]


def test_each_region_has_a_setting_of_its_own(aws: Account) -> None:
    remedy(aws)
    elsewhere = boto3.Session(region_name="eu-west-1").client("ec2")
    assert elsewhere.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    there = HERE.model_copy(update={"region": "eu-west-1"})
    plan = decide(EbsDefault(encrypted=False, key=AWS_MANAGED, shared=()), there)
    assert "eu-west-1" in plan.calls[0].why


def test_the_reader_is_told_that_existing_volumes_stay_as_they_are(aws: Account) -> None:
    volume = ec2_of(aws.session).create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    run = remedy(aws)
    assert "existing ones stay as they are" in run.plan.calls[0].why
    assert ec2_of(aws.session).describe_volumes(VolumeIds=[volume])["Volumes"][0]["Encrypted"] is False


# ---------------------------------------------------------------------------------------------- what needs a person


def test_shared_snapshots_and_images_are_asked_about(aws: Account) -> None:
    snapshot, _, image = new_snapshot(aws), new_snapshot(aws), new_image(aws)
    assert look(aws).shared == ()
    ec2_of(aws.session).modify_snapshot_attribute(
        SnapshotId=snapshot,
        Attribute="createVolumePermission",
        OperationType="add",
        UserIds=["210987654321"],
    )
    ec2_of(aws.session).modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    run = remedy(aws)
    assert run.before.shared == (image, snapshot)
    assert run.plan.at_most is Mode.ASK
    assert "are shared (2)" in run.plan.calls[0].why
    assert run.after.compliant


@pytest.mark.parametrize("number, known", [(20, True), (21, False)])
def test_too_many_to_look_at_is_asked_about(aws: Account, number: int, *, known: bool) -> None:
    new_image(aws)  # which comes with a snapshot of its own
    for _ in range(number - 2):
        new_snapshot(aws)
    state = look(aws)
    assert (state.shared is not None) is known
    assert decide(state).at_most is (Mode.ACT if known else Mode.ASK)
    assert ("DescribeSnapshotAttribute" in aws.reader.operations) is known


@pytest.mark.parametrize(
    "operation, items", [("DescribeImages", "Images"), ("DescribeSnapshots", "Snapshots")]
)
def test_a_page_that_is_not_the_last_leaves_sharing_unknown(aws: Account, operation: str, items: str) -> None:
    aws.reader.instead[operation] = {items: [], "NextToken": "more"}
    assert look(aws).shared is None


@pytest.mark.parametrize(
    "operation, code",
    [
        ("DescribeImageAttribute", "InvalidAMIID.NotFound"),
        ("DescribeImageAttribute", "InvalidAMIID.Unavailable"),
        ("DescribeSnapshotAttribute", "InvalidSnapshot.NotFound"),
    ],
)
def test_what_was_deleted_meanwhile_is_shared_with_nobody(aws: Account, operation: str, code: str) -> None:
    new_image(aws), new_snapshot(aws)
    aws.reader.broken[operation] = code
    assert look(aws).shared == ()


@pytest.mark.parametrize("operation", ["DescribeImageAttribute", "DescribeSnapshotAttribute"])
def test_sharing_that_may_not_be_read_is_an_error(aws: Account, operation: str) -> None:
    new_image(aws), new_snapshot(aws)
    aws.reader.broken[operation] = "UnauthorizedOperation"
    with pytest.raises(AwsError, match="UnauthorizedOperation"):
        look(aws)


def test_a_customer_key_is_asked_about(aws: Account) -> None:
    aws.reader.instead["GetEbsDefaultKmsKeyId"] = {"KmsKeyId": CUSTOMERS}
    plan = decide(look(aws))
    assert plan.at_most is Mode.ASK
    assert "customer's" in plan.calls[0].why
    assert plan.monthly_cost.usd_cents is None


def test_an_unknown_key_is_asked_about(aws: Account) -> None:
    aws.reader.instead["GetEbsDefaultKmsKeyId"] = {}
    plan = decide(look(aws))
    assert plan.at_most is Mode.ASK
    assert "not known" in plan.calls[0].why


def test_every_doubt_together_can_still_be_said() -> None:
    off = EbsDefault(encrypted=False, key=CUSTOMERS, shared=("ami-1",))
    plan = decide(off, last=off)
    assert plan.calls[0].why.count(".") == 4


def test_what_was_off_already_is_asked_about() -> None:
    """DisableEbsEncryptionByDefault succeeds where it was off for years, and then its event opened nothing."""
    off = EbsDefault(encrypted=False, key=AWS_MANAGED, shared=())
    plan = decide(off, last=off)
    assert plan.at_most is Mode.ASK
    assert "off already" in plan.calls[0].why
    for known in (None, EbsDefault(encrypted=True), EbsDefault(encrypted=None)):
        assert decide(off, last=known).at_most is Mode.ACT


def test_an_answer_without_the_setting_is_declined(aws: Account) -> None:
    aws.reader.instead["GetEbsEncryptionByDefault"] = {}
    plan = decide(look(aws))
    assert (plan.calls, len(plan.declined)) == ((), 1)


# ------------------------------------------------------------------------------------------------------------- undo


def unmake(aws: Account, run: RunRecord[EbsDefault]) -> Plan:
    plan = REMEDIATION.undo(HERE, run, look(aws))
    aws.apply(plan)
    return plan


def test_undo_turns_it_off_only_if_it_was_off(aws: Account) -> None:
    run = remedy(aws)
    assert unmake(aws, run).at_most is Mode.ASK
    assert look(aws).content() == run.before.content()
    assert unmake(aws, run) == NOTHING_TO_DO

    ec2_of(aws.session).enable_ebs_encryption_by_default()
    for before in (True, None):
        other = RunRecord(EbsDefault(encrypted=before), NOTHING_TO_DO, (), look(aws))
        assert unmake(aws, other) == NOTHING_TO_DO


def test_undo_declines_when_somebody_else_turned_it_on(aws: Account) -> None:
    off = EbsDefault(encrypted=False, key=AWS_MANAGED, shared=())
    ec2_of(aws.session).enable_ebs_encryption_by_default()
    plan = unmake(aws, RunRecord(off, decide(off), (), off))
    assert "somebody else" in plan.declined[0].why


def test_undo_declines_when_the_setting_is_not_said(aws: Account) -> None:
    run = remedy(aws)
    aws.reader.instead["GetEbsEncryptionByDefault"] = {}
    plan = unmake(aws, run)
    assert (plan.calls, len(plan.declined)) == ((), 1)


# ------------------------------------------------------------------------------------------------ where else, by hand


def test_the_account_itself_is_looked_at_in_each_region(aws: Account) -> None:
    there = HERE.model_copy(update={"region": "eu-west-1"})
    assert REMEDIATION.survey(there, NoParams(), aws.reader) == (there,)
    assert aws.reader.operations == []


def test_a_person_is_told_where_to_look_and_what_to_paste() -> None:
    there = HERE.model_copy(update={"region": "eu-west-1"})
    look_first, then = REMEDIATION.by_hand(there, EbsDefault(encrypted=None))
    assert look_first.command == "aws ec2 get-ebs-encryption-by-default --region eu-west-1"
    assert then.command == "aws ec2 enable-ebs-encryption-by-default --region eu-west-1"
    assert all("eu-west-1" in step.console for step in (look_first, then))


def test_terraform_keeps_it_on() -> None:
    code = REMEDIATION.as_code(HERE, EbsDefault(encrypted=False))
    assert 'resource "aws_ebs_encryption_by_default" "this" {\n  enabled = true\n}' in code
    assert REGION in code


# --------------------------------------------------------------------------------------- for every state there can be


@UNHURRIED
@given(STATES)
def test_a_state_survives_json(state: EbsDefault) -> None:
    assert EbsDefault.model_validate_json(state.model_dump_json()) == state


@UNHURRIED
@given(STATES)
def test_a_plan_is_a_pure_decision(state: EbsDefault) -> None:
    plan = decide(state)
    assert plan == decide(state)
    assert plan.satisfied is state.compliant


@UNHURRIED
@given(STATES)
def test_it_acts_alone_only_where_nothing_speaks_against_it(state: EbsDefault) -> None:
    plan = decide(state)
    if plan.calls and plan.at_most is Mode.ACT:
        assert cast("str", state.key).endswith(AWS_MANAGED)
        assert state.shared == ()
