"""A bucket is closed alone where nothing that worked before can stop, asked about where something may, undone exactly."""

import json
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.actions import actions_of
from chalicelib.domain.contract import NOTHING_TO_DO, CallResult, Mode, Params, Plan, RunRecord
from chalicelib.domain.errors import AwsError, TargetGoneError
from chalicelib.domain.finding import Target
from remediations.s3_block_public_access import REMEDIATION, Exposure, NoParams, PublicAccess
from tests.fakes.aws import FakeAws
from tests.remediations.conftest import ACCOUNT, AT, REGION, UNHURRIED, Account, cause, s3_of

ENFORCED = "BucketOwnerEnforced"
SETTINGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
ALL_ON = dict.fromkeys(SETTINGS, True)
ALL_OFF = dict.fromkeys(SETTINGS, False)
HALF = ALL_ON | {"BlockPublicPolicy": False, "RestrictPublicBuckets": False}
WRITES = frozenset({"PutPublicAccessBlock", "DeletePublicAccessBlock"})
EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
ANYBODY_WITH_AN_ACCOUNT = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"


# ------------------------------------------------------------------------------------------------- for the house tests


class Scenario:
    """Somebody turns the settings of a new bucket off. Its ACLs are disabled, as a bucket's are unless one asks."""

    params: Params = NoParams()

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]:
        bucket = new_bucket(session, ObjectOwnership=ENFORCED)
        put_block(session, bucket, ALL_ON)
        put_block(session, bucket, ALL_OFF)
        return bucket, ("loosened",)

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]:
        del opened  # the event is about the bucket itself and names nothing else
        seed = f"{target.key}/{at.isoformat()}"
        time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "version": "0",
            "id": str(uuid5(NAMESPACE_URL, f"envelope/{seed}")),
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.s3",
            "account": target.account,
            "time": time,
            "region": target.region,
            "resources": [],
            "detail": {
                "eventVersion": "1.10",
                "userIdentity": {
                    "type": "IAMUser",
                    "principalId": "AIDAEXAMPLEPRINCIPAL1",
                    "arn": f"arn:aws:iam::{target.account}:user/somebody",
                    "accountId": target.account,
                    "accessKeyId": "ASIAEXAMPLEACCESSKEY",
                    "userName": "somebody",
                },
                "eventTime": time,
                "eventSource": "s3.amazonaws.com",
                "eventName": "PutBucketPublicAccessBlock",
                "awsRegion": target.region,
                "sourceIPAddress": "198.51.100.7",
                "userAgent": "[S3Console/0.4]",
                "requestParameters": {
                    "publicAccessBlock": "",
                    "bucketName": target.id,
                    "Host": f"s3.{target.region}.amazonaws.com",
                    "PublicAccessBlockConfiguration": {
                        "xmlns": "http://s3.amazonaws.com/doc/2006-03-01/",
                        **ALL_OFF,
                    },
                },
                "responseElements": None,
                "requestID": "EXAMPLEREQUEST01",
                "eventID": str(uuid5(NAMESPACE_URL, f"event/{seed}")),
                "readOnly": False,
                "resources": [
                    {"type": "AWS::S3::Bucket", "ARN": target.resource, "accountId": target.account}
                ],
                "eventType": "AwsApiCall",
                "managementEvent": True,
                "recipientAccountId": target.account,
                "eventCategory": "Management",
            },
        }


SCENARIO = Scenario()
EXPOSURES: st.SearchStrategy[Exposure] = st.builds(
    Exposure,
    ownership=st.sampled_from([None, ENFORCED, "BucketOwnerPreferred", "ObjectWriter"]),
    policy_public=st.sampled_from([False, True, None]),
    acl_public=st.booleans(),
    website=st.booleans(),
)
STATES: st.SearchStrategy[PublicAccess] = st.builds(
    PublicAccess,
    region=st.sampled_from([REGION, "us-east-1"]),
    block=st.none()
    | st.fixed_dictionaries(dict.fromkeys(SETTINGS, st.booleans()))
    | st.dictionaries(st.sampled_from(SETTINGS), st.booleans()),
    exposure=st.none() | EXPOSURES,
)
BUCKET = Target(account=ACCOUNT, region=REGION, type="AWS::S3::Bucket", id="reports-1")
PLACE = Target(account=ACCOUNT, region=REGION, type="AWS::::Account", id=ACCOUNT)
HARMLESS = Exposure(ownership=ENFORCED, policy_public=False, acl_public=False, website=False)


# ------------------------------------------------------------------------------------------------------------ to speak


def new_bucket(session: boto3.Session, region: str = REGION, **given: Any) -> Target:
    """A bucket without a block: moto, unlike S3 since 2023, makes them so."""
    name = f"reports-{len(s3_of(session).list_buckets()['Buckets']) + 1}"
    s3 = s3_of(session) if region == REGION else boto3.Session(region_name=region).client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region}, **given)  # type: ignore[typeddict-item]  # a Region's name
    return BUCKET.model_copy(update={"id": name, "region": region})


def put_block(session: boto3.Session, bucket: Target, block: dict[str, bool]) -> None:
    s3_of(session).put_public_access_block(Bucket=bucket.id, PublicAccessBlockConfiguration=block)  # type: ignore[arg-type]  # keys are the four


def let_everybody_read(aws: Account, bucket: Target) -> None:
    resource = f"arn:aws:s3:::{bucket.id}/*"
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    s3_of(aws.session).put_bucket_policy(
        Bucket=bucket.id, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    )


@pytest.fixture
def bucket(aws: Account) -> Target:
    return new_bucket(aws.session, ObjectOwnership=ENFORCED)


def look(aws: Account, bucket: Target) -> PublicAccess:
    return REMEDIATION.assess(bucket, NoParams(), aws.reader)


def decide(
    state: PublicAccess, *opened: str, target: Target = BUCKET, last: dict[str, bool] | str | None = "never"
) -> Plan:
    """What is planned; `last` is the block when last assessed, if ever."""
    known = None if last == "never" else {"region": target.region, "block": last, "exposure": None}
    told = cause(*opened).model_copy(update={"last_state": known})
    return REMEDIATION.plan(target, NoParams(), state, told, AT)


def why(plan: Plan) -> str:
    (call,) = plan.calls
    return call.why


def remedy(aws: Account, bucket: Target, *opened: str) -> RunRecord[PublicAccess]:
    before = look(aws, bucket)
    plan = decide(before, *opened, target=bucket)
    aws.apply(plan)
    done = tuple(
        CallResult(index=index, request_id=f"r-{index}", observed_by="response")
        for index in range(len(plan.calls))
    )
    return RunRecord(before, plan, done, look(aws, bucket))


# ------------------------------------------------------------------------------------------------------------ the fix


def test_all_four_settings_are_turned_on_in_one_call(aws: Account) -> None:
    bucket, opened = SCENARIO.violate(aws.session)
    run = remedy(aws, bucket, *opened)
    assert [call.operation for call in run.plan.calls] == ["PutPublicAccessBlock"]
    assert run.plan.at_most is Mode.ACT
    assert run.after.compliant
    told = s3_of(aws.session).get_public_access_block(Bucket=bucket.id)
    assert told["PublicAccessBlockConfiguration"] == ALL_ON


def test_a_second_run_writes_nothing(aws: Account) -> None:
    bucket, opened = SCENARIO.violate(aws.session)
    remedy(aws, bucket, *opened)
    aws.sent.clear()
    assert remedy(aws, bucket, *opened).plan == NOTHING_TO_DO
    assert not WRITES.intersection(aws.sent)


def test_nothing_more_is_read_when_all_is_blocked(aws: Account, bucket: Target) -> None:
    put_block(aws.session, bucket, ALL_ON)
    assert look(aws, bucket).compliant
    assert aws.reader.operations == ["GetBucketLocation", "GetPublicAccessBlock"]


@pytest.mark.parametrize("off", SETTINGS)
def test_one_setting_that_is_off_is_enough(aws: Account, bucket: Target, off: str) -> None:
    put_block(aws.session, bucket, ALL_ON | {off: False})
    run = remedy(aws, bucket, "loosened")
    assert not run.before.compliant
    assert run.after.block == ALL_ON


def test_no_block_and_one_that_is_off_are_told_apart(aws: Account, bucket: Target) -> None:
    assert look(aws, bucket).block is None
    put_block(aws.session, bucket, ALL_OFF)
    assert look(aws, bucket).block == ALL_OFF


# ---------------------------------------------------------------------------------------------- what needs a person


def test_what_was_blocked_until_the_event_is_blocked_again(aws: Account) -> None:
    bucket = new_bucket(aws.session)
    let_everybody_read(aws, bucket)
    s3_of(aws.session).put_bucket_acl(Bucket=bucket.id, ACL="public-read")
    state = look(aws, bucket)
    assert decide(state, "loosened", target=bucket, last=ALL_ON).at_most is Mode.ACT
    assert decide(state, "loosened", target=bucket).at_most is Mode.ASK
    assert decide(state, target=bucket, last=ALL_ON).at_most is Mode.ASK


def test_what_no_event_opened_is_asked_about() -> None:
    plan = decide(PublicAccess(region=REGION, block=None, exposure=HARMLESS))
    assert plan.at_most is Mode.ASK
    assert "No event of just now" in why(plan)


@pytest.mark.parametrize("last", [None, ALL_OFF, HALF])
@pytest.mark.parametrize("opened", ["loosened", "created"])
def test_what_was_open_already_is_asked_about(last: dict[str, bool] | None, opened: str) -> None:
    plan = decide(PublicAccess(region=REGION, block=None, exposure=HARMLESS), opened, last=last)
    assert plan.at_most is Mode.ASK
    assert "not blocked when last assessed" in why(plan)


def test_a_public_policy_is_asked_about(aws: Account, bucket: Target) -> None:
    assert remedy(aws, bucket, "loosened").before.exposure == HARMLESS
    s3_of(aws.session).delete_public_access_block(Bucket=bucket.id)
    let_everybody_read(aws, bucket)
    for opened in ("loosened", "created"):
        plan = decide(look(aws, bucket), opened)
        assert plan.at_most is Mode.ASK
        assert "other accounts too" in why(plan)


@pytest.mark.parametrize("answer", [{}, {"PolicyStatus": {}}, {"PolicyStatus": "not JSON {"}])
def test_what_s3_does_not_say_of_the_policy_is_asked_about(
    aws: Account, bucket: Target, answer: dict[str, Any]
) -> None:
    aws.reader.instead["GetBucketPolicyStatus"] = answer
    plan = decide(look(aws, bucket), "loosened")
    assert plan.at_most is Mode.ASK
    assert "does not say" in why(plan)
    assert "GetBucketPolicy" not in aws.reader.operations


@pytest.mark.parametrize("group", [EVERYBODY, ANYBODY_WITH_AN_ACCOUNT, "http://acs.amazonaws.com/groups/new"])
def test_an_acl_that_admits_everybody_is_asked_about(aws: Account, group: str) -> None:
    bucket = new_bucket(aws.session, ObjectOwnership="ObjectWriter")
    s3_of(aws.session).put_bucket_acl(Bucket=bucket.id, GrantRead=f'uri="{group}"')
    assert decide(look(aws, bucket), "created").at_most is Mode.ASK
    assert "ACL admits everybody" in why(decide(look(aws, bucket), "created"))


def test_log_delivery_is_not_everybody(aws: Account) -> None:
    bucket = new_bucket(aws.session, ObjectOwnership="ObjectWriter")
    s3_of(aws.session).put_bucket_acl(
        Bucket=bucket.id, GrantWrite=f'uri="{LOG_DELIVERY}"', GrantReadACP=f'uri="{LOG_DELIVERY}"'
    )
    state = look(aws, bucket)
    assert state.exposure is not None
    assert not state.exposure.acl_public
    assert decide(state, "created").at_most is Mode.ACT


def test_an_acl_that_does_not_count_is_not_read(aws: Account, bucket: Target) -> None:
    look(aws, bucket)
    assert "GetBucketAcl" not in aws.reader.operations


@pytest.mark.parametrize("ownership", [None, "ObjectWriter", "BucketOwnerPreferred"])
def test_objects_with_acls_of_their_own_cannot_be_seen(aws: Account, ownership: str | None) -> None:
    bucket = new_bucket(aws.session, **({"ObjectOwnership": ownership} if ownership else {}))
    state = look(aws, bucket)
    assert state.exposure is not None
    assert state.exposure.ownership == ownership
    plan = decide(state, "loosened", target=bucket)
    assert plan.at_most is Mode.ASK
    assert "cannot be seen" in why(plan)
    assert decide(state, "created", target=bucket).at_most is Mode.ACT


def test_a_website_is_asked_about(aws: Account, bucket: Target) -> None:
    s3_of(aws.session).put_bucket_website(
        Bucket=bucket.id, WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}}
    )
    plan = decide(look(aws, bucket), "created")
    assert plan.at_most is Mode.ASK
    assert "website" in why(plan)


def test_creating_a_bucket_again_in_us_east_1_opens_nothing() -> None:
    there = BUCKET.model_copy(update={"region": "us-east-1"})
    for ownership in (ENFORCED, None):
        exposure = HARMLESS.model_copy(update={"ownership": ownership})
        state = PublicAccess(region="us-east-1", block=None, exposure=exposure)
        assert decide(state, "created", target=there).at_most is Mode.ASK
        elsewhere = state.model_copy(update={"region": REGION})
        assert decide(elsewhere, "created").at_most is Mode.ACT


def test_every_doubt_together_can_still_be_said() -> None:
    exposure = Exposure(ownership=None, policy_public=True, acl_public=True, website=True)
    plan = decide(PublicAccess(region=REGION, block=None, exposure=exposure), "loosened", last=ALL_OFF)
    assert len(why(plan).split(". ")) == 6


# ------------------------------------------------------------------------------------------------ what is left alone


def test_a_bucket_in_another_region_is_left_alone(aws: Account) -> None:
    """Moto answers from any Region, as botocore does by following S3's redirect: only the location tells."""
    bucket = new_bucket(aws.session, "eu-west-1").model_copy(update={"region": REGION})
    run = remedy(aws, bucket, "loosened", "created")
    assert run.plan.calls == ()
    assert "lies in eu-west-1 and not in eu-central-1" in run.plan.declined[0].why
    assert run.before.exposure is None
    assert not WRITES.intersection(aws.sent)


@pytest.mark.parametrize(
    "answer, region", [(None, "us-east-1"), ("EU", "eu-west-1"), ("ap-south-2", "ap-south-2")]
)
def test_the_oldest_regions_go_by_other_names(
    aws: Account, bucket: Target, answer: str | None, region: str
) -> None:
    aws.reader.instead["GetBucketLocation"] = {"LocationConstraint": answer}
    assert look(aws, bucket).region == region


@pytest.mark.parametrize(
    "operation",
    [
        "GetBucketLocation",
        "GetPublicAccessBlock",
        "GetBucketOwnershipControls",
        "GetBucketPolicyStatus",
        "GetBucketWebsite",
        "GetBucketAcl",
    ],
)
@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied",
        "PermanentRedirect",
        "IllegalLocationConstraintException",
        "AuthorizationHeaderMalformed",
    ],
)
def test_what_may_not_be_read_is_an_error(aws: Account, operation: str, code: str) -> None:
    bucket = new_bucket(aws.session)
    aws.reader.broken[operation] = code
    with pytest.raises(AwsError, match=code):
        look(aws, bucket)


def test_a_bucket_that_is_gone_is_gone(aws: Account) -> None:
    with pytest.raises(TargetGoneError, match="no longer exists"):
        look(aws, BUCKET)
    bucket = new_bucket(aws.session)
    aws.reader.broken["GetBucketWebsite"] = "NoSuchBucket"
    with pytest.raises(TargetGoneError):
        look(aws, bucket)


def test_settings_that_s3_does_not_tell_are_not_overwritten(aws: Account, bucket: Target) -> None:
    aws.reader.instead["GetPublicAccessBlock"] = {"PublicAccessBlockConfiguration": {"BlockPublicAcls": True}}
    plan = decide(look(aws, bucket), "loosened")
    assert (plan.calls, len(plan.declined)) == ((), 1)
    assert "not overwritten" in plan.declined[0].why


def test_every_call_says_whose_bucket_it_must_be(aws: Account) -> None:
    """S3 refuses a call whose ExpectedBucketOwner is not the owner; moto takes the parameter and heeds it not."""
    accounts = FakeAws()
    bucket = new_bucket(aws.session)
    reader = accounts.reader(REMEDIATION, bucket)
    before = REMEDIATION.assess(bucket, NoParams(), reader)
    plan = decide(before, "loosened", target=bucket)
    accounts.executor(REMEDIATION, bucket, plan, "run").perform(plan.calls[0], "", ())
    after = REMEDIATION.assess(bucket, NoParams(), reader)
    undoing = REMEDIATION.undo(bucket, RunRecord(before, plan, (), after), after)
    accounts.executor(REMEDIATION, bucket, undoing, "undo", undo=True).perform(undoing.calls[0], "", ())
    assert REMEDIATION.survey(PLACE, NoParams(), reader) == (bucket,)
    assert REMEDIATION.tags is not None
    assert REMEDIATION.tags(bucket, reader) == {}

    sent = [one for one in accounts.operations if one.operation != "ListBuckets"]
    assert [one.operation for one in accounts.writes] == ["PutPublicAccessBlock", "DeletePublicAccessBlock"]
    assert all(one.params["ExpectedBucketOwner"] == ACCOUNT for one in sent)
    used = {action for one in accounts.operations for action in actions_of(one.service, one.operation)}
    declared = {one.action for one in (*REMEDIATION.reads, *REMEDIATION.writes)}
    assert used == declared, "no right is declared that nothing uses"
    statements = [json.loads(policy)["Statement"] for policy in accounts.policies]
    assert (
        statements
        == [
            [
                {
                    "Effect": "Allow",
                    "Action": "s3:PutBucketPublicAccessBlock",
                    "Resource": f"arn:aws:s3:::{bucket.id}",
                }
            ]
        ]
        * 2
    )


# ------------------------------------------------------------------------------------------------------------- undo


def unmake(aws: Account, bucket: Target, run: RunRecord[PublicAccess]) -> Plan:
    plan = REMEDIATION.undo(bucket, run, look(aws, bucket))
    aws.apply(plan)
    return plan


@pytest.mark.parametrize("block", [None, ALL_OFF, HALF])
def test_undo_brings_back_exactly_what_was_there(
    aws: Account, bucket: Target, block: dict[str, bool] | None
) -> None:
    if block is not None:
        put_block(aws.session, bucket, block)
    run = remedy(aws, bucket, "loosened")
    assert run.after.compliant
    plan = unmake(aws, bucket, run)
    assert plan.at_most is Mode.ASK
    assert look(aws, bucket).block == block
    assert look(aws, bucket).content() == run.before.content()
    assert unmake(aws, bucket, run) == NOTHING_TO_DO


@pytest.mark.parametrize("since", [None, HALF])
def test_undo_declines_when_somebody_has_changed_it_since(
    aws: Account, bucket: Target, since: dict[str, bool] | None
) -> None:
    put_block(aws.session, bucket, ALL_OFF)
    run = remedy(aws, bucket, "loosened")
    s3_of(aws.session).delete_public_access_block(Bucket=bucket.id)
    if since:
        put_block(aws.session, bucket, since)
    plan = unmake(aws, bucket, run)
    assert plan.calls == ()
    assert "somebody else" in plan.declined[0].why


def test_undo_declines_what_the_run_was_not_seen_to_do(aws: Account, bucket: Target) -> None:
    before = look(aws, bucket)
    put_block(aws.session, bucket, ALL_ON)
    plan = unmake(aws, bucket, RunRecord(before, decide(before, "loosened"), (), before))
    assert (plan.calls, len(plan.declined)) == ((), 1)


def test_undo_of_a_run_that_planned_nothing_does_nothing(aws: Account, bucket: Target) -> None:
    put_block(aws.session, bucket, ALL_ON)
    run = remedy(aws, bucket, "loosened")
    s3_of(aws.session).delete_public_access_block(Bucket=bucket.id)
    assert unmake(aws, bucket, run) == NOTHING_TO_DO


def test_undo_declines_a_bucket_that_lies_elsewhere_now(aws: Account, bucket: Target) -> None:
    run = remedy(aws, bucket, "loosened")
    aws.reader.instead["GetBucketLocation"] = {"LocationConstraint": "eu-west-1"}
    plan = unmake(aws, bucket, run)
    assert (plan.calls, len(plan.declined)) == ((), 1)


# ------------------------------------------------------------------------------------------ where else, whose, by hand


def survey(aws: Account, region: str = REGION) -> list[str]:
    place = PLACE.model_copy(update={"region": region})
    found = REMEDIATION.survey(place, NoParams(), aws.reader)
    assert all((one.account, one.region) == (ACCOUNT, region) for one in found)
    return [one.id for one in found]


def test_a_survey_names_what_is_not_wholly_blocked_in_its_region(aws: Account) -> None:
    whole, half, none, elsewhere = (
        new_bucket(aws.session, region) for region in (REGION, REGION, REGION, "eu-west-1")
    )
    put_block(aws.session, whole, ALL_ON)
    put_block(aws.session, half, HALF)
    assert survey(aws) == [half.id, none.id]
    assert survey(aws, "eu-west-1") == [elsewhere.id]


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "SlowDown"])
def test_a_bucket_that_cannot_be_read_is_named(aws: Account, bucket: Target, code: str) -> None:
    put_block(aws.session, bucket, ALL_ON)
    aws.reader.broken["GetPublicAccessBlock"] = code
    assert survey(aws) == [bucket.id]


def test_buckets_that_cannot_be_listed_are_an_error(aws: Account) -> None:
    aws.reader.broken["ListBuckets"] = "AccessDenied"
    with pytest.raises(AwsError, match="AccessDenied"):
        survey(aws)


def test_every_page_of_buckets_is_read(aws: Account) -> None:
    """Moto gives one page and no token, so S3's pages are answered here; the reader is the real one."""
    pages = [
        {"Buckets": [{"Name": "reports-1"}], "ContinuationToken": "more"},
        {"Buckets": [{"Name": "reports-2"}]},
    ]
    asked: list[dict[str, Any]] = []

    def answer(params: dict[str, Any], **_: Any) -> None:
        asked.append(params)

    new_bucket(aws.session), new_bucket(aws.session)
    accounts = FakeAws()
    reader = accounts.reader(REMEDIATION, PLACE)
    events = accounts._clients._client("s3", REGION).meta.events
    events.register("provide-client-params.s3.ListBuckets", answer)
    events.register("after-call.s3.ListBuckets", lambda parsed, **_: parsed.update(pages[len(asked) - 1]))
    found = REMEDIATION.survey(PLACE, NoParams(), reader)
    assert [one.id for one in found] == ["reports-1", "reports-2"]
    assert [one.get("ContinuationToken") for one in asked] == [None, "more"]
    assert all((one["BucketRegion"], one["MaxBuckets"]) == (REGION, 1000) for one in asked)


def test_a_bucket_with_a_name_of_old_is_found(aws: Account) -> None:
    aws.reader.instead["ListBuckets"] = {"Buckets": [{"Name": "Old_Reports.2009"}]}
    assert survey(aws) == ["Old_Reports.2009"]


def test_a_bucket_tells_its_tags(aws: Account, bucket: Target) -> None:
    assert REMEDIATION.tags is not None
    assert REMEDIATION.tags(bucket, aws.reader) == {}
    tags: Any = [{"Key": "owner", "Value": "ops"}, {"Key": "stage", "Value": ""}]
    s3_of(aws.session).put_bucket_tagging(Bucket=bucket.id, Tagging={"TagSet": tags})
    assert REMEDIATION.tags(bucket, aws.reader) == {"owner": "ops", "stage": ""}
    aws.reader.broken["GetBucketTagging"] = "AccessDenied"
    with pytest.raises(AwsError):
        REMEDIATION.tags(bucket, aws.reader)


def test_a_person_is_told_where_to_look_and_what_to_paste() -> None:
    state = PublicAccess(region="eu-west-1", block=None)
    look_first, then = REMEDIATION.by_hand(BUCKET, state)
    assert look_first.command == (
        "aws s3api get-public-access-block --region eu-west-1 --cli-input-json"
        ' \'{"Bucket": "reports-1", "ExpectedBucketOwner": "123456789012"}\''
    )
    assert then.command.startswith("aws s3api put-public-access-block --region eu-west-1 --cli-input-json '{")
    asked = json.loads(then.command.split("'")[1])
    assert asked["PublicAccessBlockConfiguration"] == ALL_ON
    assert "Block all public access" in then.console


def test_terraform_keeps_all_four_on() -> None:
    code = REMEDIATION.as_code(BUCKET, PublicAccess(region=REGION, block=None))
    assert code.startswith('resource "aws_s3_bucket_public_access_block" "this" {\n')
    assert '= "reports-1"\n' in code
    assert code.count("= true\n") == 4


# --------------------------------------------------------------------------------------- for every state there can be


@UNHURRIED
@given(STATES)
def test_a_state_survives_json(state: PublicAccess) -> None:
    assert PublicAccess.model_validate_json(state.model_dump_json()) == state


@UNHURRIED
@given(STATES, st.lists(st.sampled_from(["loosened", "created"])), st.sampled_from(["never", None, "on"]))
def test_a_plan_is_a_pure_decision(state: PublicAccess, opened: list[str], last: str | None) -> None:
    known = ALL_ON if last == "on" else last
    plan = decide(state, *opened, last=known)
    assert plan == decide(state, *opened, last=known)
    assert plan.satisfied is state.compliant
    assert not (plan.calls and plan.declined)


@UNHURRIED
@given(STATES, st.lists(st.sampled_from(["loosened", "created"])))
def test_it_acts_alone_only_where_nothing_that_worked_can_stop(
    state: PublicAccess, opened: list[str]
) -> None:
    plan = decide(state, *opened)
    if plan.calls and plan.at_most is Mode.ACT:
        assert state.exposure is not None
        assert (state.exposure.policy_public, state.exposure.website) == (False, False)
        assert not state.exposure.acl_public
        assert state.exposure.ownership == ENFORCED or "created" in opened


@UNHURRIED
@given(STATES)
def test_undo_of_any_run_brings_back_its_content(state: PublicAccess) -> None:
    plan = decide(state, "loosened")
    if plan.calls:
        after = PublicAccess(region=REGION, block=ALL_ON)
        (call,) = REMEDIATION.undo(BUCKET, RunRecord(state, plan, (), after), after).calls
        assert call.params.get("PublicAccessBlockConfiguration") == state.block
        assert (call.operation == "DeletePublicAccessBlock") is (state.block is None)
