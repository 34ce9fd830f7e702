"""The accounts that we look after: who signs what, what is refused before it is sent, and what errors become."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from moto.core.botocore_stubber import MockRawResponse
from pydantic import JsonValue

from chalicelib.adapters.aws import (
    AwsAccounts,
    Clients,
    Session,
    aws_error,
    plain,
    reading_models_once,
    resolved,
    session_policy,
)
from chalicelib.domain.contract import AnyRemediation, Call, Permission, Plan, Ref, Remediation
from chalicelib.domain.errors import (
    AccessDeniedError,
    AwsError,
    ContractError,
    GuardError,
    TransientError,
    UndeclaredCallError,
)
from chalicelib.domain.finding import GLOBAL
from tests.adapters.samples import ENCRYPT, MEMBER, SAMPLE, authorize, revoke, target
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import HOME
from tests.fakes.clock import FakeClock
from tests.fakes.ear import Ear, answer, refusal

SESSION = "redress-abcdefghijklmnopqrst-1-1"
HERE, THERE = target(), target("sg-0fedcba9876543210", MEMBER)
SOON = datetime(2026, 8, 3, 13, 0, tzinfo=UTC)
OWN = "FOOBARKEY"
"""The process's own access key, inside moto."""


@pytest.fixture
def ear(aws: None) -> Ear:
    return Ear()


@pytest.fixture
def clock() -> FakeClock:
    # Moto gives sessions that end by the machine's clock.
    return FakeClock(datetime.now(UTC))


@pytest.fixture
def accounts(ear: Ear, clock: FakeClock) -> AwsAccounts:
    return AwsAccounts(DEPLOYMENT, clock, ear.session)


def group(account: str) -> tuple[str, str]:
    """A security group with one open rule in an account on moto: its id and the rule's."""
    sts: Any = boto3.client("sts", region_name="eu-west-1")
    role = f"arn:aws:iam::{account}:role/arranging"
    given = sts.assume_role(RoleArn=role, RoleSessionName="arranging")["Credentials"]
    ec2: Any = boto3.client(
        "ec2",
        region_name="eu-west-1",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    made = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    opened = ec2.authorize_security_group_ingress(GroupId=made, IpPermissions=[rule])
    return made, opened["SecurityGroupRules"][0]["SecurityGroupRuleId"]


# ------------------------------------------------------------------------------------------------------- who signs what


def test_many_reads_in_an_account_are_one_session_and_one_client(accounts: AwsAccounts, ear: Ear) -> None:
    for _ in range(3):
        accounts.reader(SAMPLE, HERE).read("ec2", "DescribeSecurityGroups")
        accounts.reader(SAMPLE, HERE).pages("ec2", "DescribeSecurityGroupRules", "SecurityGroupRules")

    assert ear.operations("sts") == ["AssumeRole"]
    assert ear.made == ["sts", "ec2"]
    assumed = ear.only("AssumeRole")
    assert assumed.params == {
        "RoleArn": f"arn:aws:iam::{HOME}:role/redress-test-read",
        "RoleSessionName": "redress-read",
        "DurationSeconds": 3600,
    }
    assert assumed.access_key == OWN, "roles are assumed with the function's own credentials"
    assert "https://sts.us-east-1.amazonaws.com" in assumed.url
    assert {one.region for one in ear.sent if one.service == "ec2"} == {"eu-west-1"}


def test_a_reader_sends_nothing_before_its_first_read(accounts: AwsAccounts, ear: Ear) -> None:
    accounts.reader(SAMPLE, HERE)
    assert (ear.sent, ear.made) == ([], [])


def test_a_read_session_is_replaced_five_minutes_before_it_ends(
    accounts: AwsAccounts, ear: Ear, clock: FakeClock
) -> None:
    reader = accounts.reader(SAMPLE, HERE)
    for minutes, sessions in ((0, 1), (54, 1), (2, 2), (10, 3)):
        clock.advance(timedelta(minutes=minutes))
        reader.read("ec2", "DescribeVpcs")
        assert ear.operations("sts").count("AssumeRole") == sessions
    keys = [one.access_key for one in ear.sent if one.service == "ec2"]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert ear.made == ["sts", "ec2"], "a new session is no new client"


def test_two_accounts_through_one_warm_process_do_not_touch(accounts: AwsAccounts, ear: Ear) -> None:
    (here, _), (there, rule) = group(HOME), group(MEMBER)
    home, member = accounts.reader(SAMPLE, HERE), accounts.reader(SAMPLE, THERE)

    def seen(reader: Any) -> set[str]:
        return {one["GroupId"] for one in reader.pages("ec2", "DescribeSecurityGroups", "SecurityGroups")}

    for _ in range(2):
        assert here in seen(home)
        assert there not in seen(home)
        assert there in seen(member)
        assert here not in seen(member)

    of = target(there, MEMBER)
    plan = Plan(calls=(revoke(of, rule),))
    executor = accounts.executor(SAMPLE, of, plan, SESSION)
    assert here in seen(home), "reading between two calls of a run does not lend it another session"
    executor.perform(plan.calls[0], "token", ())
    assert here in seen(home)

    by_account = {one.params["RoleArn"].split(":")[4] for one in ear.sent if one.operation == "AssumeRole"}
    assert by_account == {HOME, MEMBER}
    signers = {one.operation: set[str]() for one in ear.sent}
    for one in ear.sent:
        signers[one.operation].add(one.access_key)
    assert len(signers["DescribeSecurityGroups"]) == 2
    assert len(signers["RevokeSecurityGroupIngress"]) == 1
    assert not signers["RevokeSecurityGroupIngress"] & signers["DescribeSecurityGroups"]
    assert ear.made == ["sts", "ec2"]


def test_a_global_service_is_reached_through_the_home_region(accounts: AwsAccounts, ear: Ear) -> None:
    everywhere = HERE.model_copy(update={"region": GLOBAL})
    accounts.reader(SAMPLE, everywhere).read("ec2", "DescribeVpcs")
    assert ear.only("DescribeVpcs").region == "us-east-1"


def test_so_it_is_in_other_partitions(accounts: AwsAccounts, ear: Ear) -> None:
    accounts.reader(SAMPLE, HERE.model_copy(update={"region": "aws-cn-global"})).read("ec2", "DescribeVpcs")
    assert ear.only("DescribeVpcs").region == "us-east-1"


def test_every_request_names_the_engine(accounts: AwsAccounts, ear: Ear) -> None:
    accounts.reader(SAMPLE, HERE).read("ec2", "DescribeVpcs")
    assert ear.sent
    assert all(f"redress/{DEPLOYMENT.version}" in one.user_agent for one in ear.sent)


def test_an_emulators_endpoint_is_honoured(
    ear: Ear, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError):
        AwsAccounts(DEPLOYMENT, clock, ear.session).reader(SAMPLE, HERE).read("ec2", "DescribeVpcs")
    assert {one.url for one in ear.sent} == {"http://127.0.0.1:9/"}


def test_without_a_session_a_client_does_not_fall_back_to_the_processs_own(ear: Ear) -> None:
    nobody = Session(HOME, "", "", "", SOON)
    clients = Clients(DEPLOYMENT, ear.session)

    def ask(client: Any) -> object:
        return client.describe_vpcs()

    clients.send(nobody, "eu-west-1", "ec2", "DescribeVpcs", ask)
    assert ear.only("DescribeVpcs").access_key not in {OWN, "testing"}


def test_a_session_does_not_show_its_secrets() -> None:
    session = Session(HOME, "ASIA", "very-secret", "token-secret", SOON)
    assert "secret" not in repr(session)
    assert "secret" not in f"{session}"


# -------------------------------------------------------------------------------------------- the policy of a session


def test_an_executor_can_do_no_more_than_its_plan(accounts: AwsAccounts, ear: Ear) -> None:
    accounts.executor(SAMPLE, HERE, Plan(calls=(revoke(HERE, "sgr-1"), revoke(HERE, "sgr-2"))), SESSION)

    params = ear.only("AssumeRole").params
    assert {name: params[name] for name in params if name != "Policy"} == {
        "RoleArn": f"arn:aws:iam::{HOME}:role/redress-test-act",
        "RoleSessionName": SESSION,
        "DurationSeconds": 900,
    }
    assert json.loads(params["Policy"]) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": "ec2:RevokeSecurityGroupIngress",
                "Resource": f"arn:aws:ec2:eu-west-1:{HOME}:security-group/{HERE.id}",
            }
        ],
    }
    assert " " not in params["Policy"]


def test_each_executor_is_a_session_of_its_own(accounts: AwsAccounts, ear: Ear) -> None:
    for _ in range(2):
        accounts.executor(SAMPLE, HERE, Plan(calls=(ENCRYPT,)), SESSION)
    assert ear.operations("sts") == ["AssumeRole", "AssumeRole"]


def test_an_undo_is_another_role_with_the_rights_of_undoing(accounts: AwsAccounts, ear: Ear) -> None:
    accounts.executor(SAMPLE, THERE, Plan(calls=(authorize(THERE, tags=True),)), SESSION, undo=True)

    params = ear.only("AssumeRole").params
    assert params["RoleArn"] == f"arn:aws:iam::{MEMBER}:role/redress-test-undo"
    assert json.loads(params["Policy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Action": "ec2:AuthorizeSecurityGroupIngress",
            "Resource": f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group/{THERE.id}",
        },
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": f"arn:aws:ec2:eu-west-1:{MEMBER}:security-group-rule/*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "AuthorizeSecurityGroupIngress"}},
        },
    ]


def test_the_right_to_tag_is_given_only_to_a_call_that_tags() -> None:
    policy = session_policy(SAMPLE, HERE, Plan(calls=(authorize(HERE),)), undo=True)
    assert "ec2:CreateTags" not in policy


def test_a_plan_that_uses_no_right_gets_none() -> None:
    assert json.loads(session_policy(SAMPLE, HERE, Plan()))["Statement"] == []


def with_writes(*writes: Permission) -> AnyRemediation:
    return Remediation(
        **{**{name: getattr(SAMPLE, name) for name in SAMPLE.__dataclass_fields__}, "writes": writes}
    )


def test_a_policy_that_sts_would_not_take_stops_the_run_before_sts(accounts: AwsAccounts, ear: Ear) -> None:
    long = tuple(
        Permission("ec2:RevokeSecurityGroupIngress", f"arn:{{partition}}:ec2:::{number}/{'x' * 150}")
        for number in range(10)
    )
    with pytest.raises(GuardError, match="2048"):
        accounts.executor(with_writes(*long), HERE, Plan(calls=(revoke(HERE, "sgr-1"),)), SESSION)
    assert ear.sent == []


@pytest.mark.parametrize("length", [2048, 2049])
def test_a_policy_may_be_as_long_as_sts_takes_and_no_longer(length: int) -> None:
    plan = Plan(calls=(ENCRYPT,))
    shortest = len(
        session_policy(with_writes(Permission("ec2:EnableEbsEncryptionByDefault", "")), HERE, plan)
    )
    long = with_writes(Permission("ec2:EnableEbsEncryptionByDefault", "x" * (length - shortest)))
    if length > 2048:
        with pytest.raises(GuardError):
            session_policy(long, HERE, plan)
    else:
        assert len(session_policy(long, HERE, plan)) == length


# ----------------------------------------------------------------------------------------- refused before it is sent


@pytest.mark.parametrize(
    "call, undo",
    [
        (Call(service="ec2", operation="DeleteVpc", params={}, why="no"), False),
        (Call(service="s3", operation="RevokeSecurityGroupIngress", params={}, why="no"), False),
        (authorize(HERE), False),
        (revoke(HERE, "sgr-1"), True),
        (Call(service="ec2", operation="DescribeSecurityGroups", params={}, why="a read is no write"), False),
        (
            Call(
                service="ec2",
                operation="CreateSecurityGroup",
                params={"GroupName": "g", "TagSpecifications": [{"ResourceType": "security-group"}]},
                why="tagging is a right of its own",
            ),
            False,
        ),
    ],
)
def test_a_call_that_is_not_declared_is_refused_before_any_call_is_sent(
    call: Call, undo: bool, accounts: AwsAccounts, ear: Ear
) -> None:
    with pytest.raises(UndeclaredCallError, match="nothing was sent"):
        accounts.executor(SAMPLE, HERE, Plan(calls=(ENCRYPT, call)), SESSION, undo=undo)
    assert (ear.sent, ear.made) == ([], [])


def test_a_call_that_is_not_in_the_plan_is_refused(accounts: AwsAccounts, ear: Ear) -> None:
    executor = accounts.executor(SAMPLE, HERE, Plan(calls=(revoke(HERE, "sgr-1"),)), SESSION)
    for call in (revoke(HERE, "sgr-2"), ENCRYPT):
        with pytest.raises(UndeclaredCallError, match="not a call of the plan"):
            executor.perform(call, "token", ())
    assert ear.operations("ec2") == []


@pytest.mark.parametrize("operation", ["DescribeInstances", "RevokeSecurityGroupIngress", "NoSuchThing"])
def test_a_read_that_is_not_declared_is_refused_before_any_call_is_sent(
    operation: str, accounts: AwsAccounts, ear: Ear
) -> None:
    reader = accounts.reader(SAMPLE, HERE)
    with pytest.raises(UndeclaredCallError):
        reader.read("ec2", operation)
    with pytest.raises(UndeclaredCallError):
        reader.pages("ec2", operation, "Things")
    assert (ear.sent, ear.made) == ([], [])


def test_an_operation_that_does_not_exist_is_a_mistake_and_not_silence(
    accounts: AwsAccounts, ear: Ear
) -> None:
    wrong = with_writes(Permission("ec2:Revoke"))
    executor = accounts.executor(
        wrong, HERE, Plan(calls=(Call(service="ec2", operation="Revoke", params={}, why="no"),)), SESSION
    )
    with pytest.raises(ContractError, match="no operation Revoke"):
        executor.perform(Call(service="ec2", operation="Revoke", params={}, why="no"), "token", ())
    assert ear.operations("ec2") == []


def test_a_service_that_does_not_exist_is_a_mistake(accounts: AwsAccounts) -> None:
    call = Call(service="ec3", operation="Do", params={}, why="no")
    executor = accounts.executor(with_writes(Permission("ec3:Do")), HERE, Plan(calls=(call,)), SESSION)
    with pytest.raises(ContractError, match="ec3"):
        executor.perform(call, "token", ())


def test_a_list_that_no_answer_has_is_a_mistake_and_not_an_empty_list(
    accounts: AwsAccounts, ear: Ear
) -> None:
    reader = accounts.reader(SAMPLE, HERE)
    for key in ("SecurityGroup", "NextToken"):
        with pytest.raises(ContractError, match="has no list"):
            reader.pages("ec2", "DescribeSecurityGroups", key)
    assert ear.operations("ec2") == []


# ------------------------------------------------------------------------------------------------------------- reading


def test_every_page_is_read(accounts: AwsAccounts, ear: Ear) -> None:
    group(HOME)
    reader = accounts.reader(SAMPLE, HERE)
    found = reader.pages("ec2", "DescribeSecurityGroups", "SecurityGroups", PaginationConfig={"PageSize": 5})
    assert {"default", "g"} <= {one["GroupName"] for one in found}


def test_pages_are_put_together_in_order(ear: Ear, clock: FakeClock) -> None:
    replies = iter(
        [
            answer(SecurityGroupRules=[{"SecurityGroupRuleId": "a"}], NextToken="more"),
            answer(SecurityGroupRules=[], NextToken="and more"),
            answer(SecurityGroupRules=[{"SecurityGroupRuleId": "b"}]),
        ]
    )
    ear.on("before-call.ec2.DescribeSecurityGroupRules", lambda **_: next(replies))
    reader = AwsAccounts(DEPLOYMENT, clock, ear.session).reader(SAMPLE, HERE)
    found = reader.pages("ec2", "DescribeSecurityGroupRules", "SecurityGroupRules")
    assert [one["SecurityGroupRuleId"] for one in found] == ["a", "b"]


def test_a_read_is_repeated_once_after_a_pause_when_the_service_is_away(ear: Ear, clock: FakeClock) -> None:
    replies = iter(
        [refusal("RequestLimitExceeded"), answer(Vpcs=[]), refusal("Unavailable"), refusal("Unavailable")]
    )
    ear.on("before-call.ec2.DescribeVpcs", lambda **_: next(replies))
    reader = AwsAccounts(DEPLOYMENT, clock, ear.session).reader(SAMPLE, HERE)

    assert reader.read("ec2", "DescribeVpcs") == {"Vpcs": []}
    with pytest.raises(TransientError):
        reader.read("ec2", "DescribeVpcs")

    assert clock.slept == [0.5, 0.5]
    assert next(replies, None) is None


def test_a_read_that_is_refused_is_not_repeated(ear: Ear, clock: FakeClock) -> None:
    replies = iter([refusal("UnauthorizedOperation", status=403)])
    ear.on("before-call.ec2.DescribeVpcs", lambda **_: next(replies))
    reader = AwsAccounts(DEPLOYMENT, clock, ear.session).reader(SAMPLE, HERE)
    with pytest.raises(AccessDeniedError):
        reader.read("ec2", "DescribeVpcs")
    assert clock.slept == []


# ------------------------------------------------------------------------------------------------------------- regions


def test_the_regions_of_an_account_are_those_that_are_switched_on(accounts: AwsAccounts, ear: Ear) -> None:
    found = accounts.regions(MEMBER)

    assert {"us-east-1", "eu-central-1"} < set(found)
    assert list(found) == sorted(found)
    asked = ear.only("DescribeRegions")
    assert (asked.region, asked.params) == ("us-east-1", {"AllRegions": False})
    assert ear.only("AssumeRole").params["RoleArn"] == f"arn:aws:iam::{MEMBER}:role/redress-test-read"
    assert asked.access_key != OWN


def test_regions_share_the_session_of_the_reads_and_are_asked_for_each_time(
    accounts: AwsAccounts, ear: Ear
) -> None:
    accounts.reader(SAMPLE, HERE).read("ec2", "DescribeVpcs")
    accounts.regions(HOME)
    accounts.regions(HOME)
    assert ear.operations("sts") == ["AssumeRole"]
    assert ear.operations("ec2") == ["DescribeVpcs", "DescribeRegions", "DescribeRegions"]


@pytest.mark.parametrize(
    "replies, kind, pauses",
    [
        ([refusal("UnauthorizedOperation", status=403)], AccessDeniedError, 0),
        ([refusal("RequestLimitExceeded"), refusal("RequestLimitExceeded")], TransientError, 1),
        ([answer(Regions=[])], AwsError, 0),
    ],
)
def test_regions_that_cannot_be_read_are_an_error_and_never_none(
    replies: list[Any], kind: type[AwsError], pauses: int, ear: Ear, clock: FakeClock
) -> None:
    left = iter(replies)
    ear.on("before-call.ec2.DescribeRegions", lambda **_: next(left))
    with pytest.raises(AwsError) as caught:
        AwsAccounts(DEPLOYMENT, clock, ear.session).regions(HOME)
    assert type(caught.value) is kind
    assert (caught.value.service, caught.value.operation) == ("ec2", "DescribeRegions")
    assert len(clock.slept) == pauses
    assert next(left, None) is None


def test_regions_are_asked_for_once_more_when_the_service_is_away(ear: Ear, clock: FakeClock) -> None:
    left = iter([refusal("Unavailable"), answer(Regions=[{"RegionName": "b"}, {"RegionName": "a"}])])
    ear.on("before-call.ec2.DescribeRegions", lambda **_: next(left))
    assert AwsAccounts(DEPLOYMENT, clock, ear.session).regions(HOME) == ("a", "b")


# ------------------------------------------------------------------------------------------------------------- buckets

BLOCK = Call(
    service="s3",
    operation="PutPublicAccessBlock",
    params={"Bucket": "ours", "ExpectedBucketOwner": HOME, "PublicAccessBlockConfiguration": {}},
    why="nothing of it is for the Internet",
)
BLOCKS = Permission("s3:PutBucketPublicAccessBlock", "arn:{partition}:s3:::ours")


def test_a_bucket_is_reached_in_its_own_region_and_by_that_regions_own_endpoint(
    accounts: AwsAccounts, ear: Ear
) -> None:
    s3: Any = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="ours")
    for region in ("eu-west-1", "us-east-1"):
        reader = accounts.reader(SAMPLE, target(account="123456789012", region=region))
        reader.read("s3", "HeadBucket", Bucket="ours", ExpectedBucketOwner="123456789012")
    urls = [(one.region, one.url) for one in ear.sent if one.service == "s3"]
    assert urls == [
        ("eu-west-1", "https://ours.s3.eu-west-1.amazonaws.com/"),
        ("us-east-1", "https://ours.s3.us-east-1.amazonaws.com/"),
    ]


@pytest.mark.parametrize("named", [{}, {"ExpectedBucketOwner": MEMBER}, {"ExpectedBucketOwner": ""}])
def test_a_call_on_a_bucket_that_does_not_name_the_account_as_its_owner_is_not_sent(
    named: dict[str, JsonValue], accounts: AwsAccounts, ear: Ear
) -> None:
    reader = accounts.reader(SAMPLE, HERE)
    bucket: dict[str, JsonValue] = {"Bucket": "ours", **named}
    with pytest.raises(GuardError, match=f"not account {HOME}"):
        reader.read("s3", "GetPublicAccessBlock", **bucket)
    with pytest.raises(ContractError, match="has no list"):
        reader.pages("s3", "GetPublicAccessBlock", "Grants", **bucket)
    call = BLOCK.model_copy(update={"params": {**bucket, "PublicAccessBlockConfiguration": {}}})
    executor = accounts.executor(with_writes(BLOCKS), HERE, Plan(calls=(call,)), SESSION)
    with pytest.raises(GuardError, match=f"not account {HOME}"):
        executor.perform(call, "token", ())
    assert ear.operations("s3") == []


def test_the_owner_that_is_named_is_the_account_of_the_session(accounts: AwsAccounts, ear: Ear) -> None:
    home, member = accounts.reader(SAMPLE, HERE), accounts.reader(SAMPLE, THERE)
    for _ in range(2):
        with pytest.raises(GuardError):
            member.read("s3", "HeadBucket", Bucket="ours", ExpectedBucketOwner=HOME)
        for reader, owner in ((home, HOME), (member, MEMBER)):
            with pytest.raises(AwsError, match="NoSuchBucket"):
                reader.read("s3", "HeadBucket", Bucket="ours", ExpectedBucketOwner=owner)
    assert len(ear.operations("s3")) == 4


@pytest.mark.parametrize(
    "code, status",
    [
        ("PermanentRedirect", 301),
        ("301", 301),
        ("AuthorizationHeaderMalformed", 400),
        ("IllegalLocationConstraintException", 400),
        ("TemporaryRedirect", 307),
    ],
)
def test_a_bucket_elsewhere_is_not_followed_to_its_region(
    code: str, status: int, ear: Ear, clock: FakeClock
) -> None:
    tries: list[str] = []

    def elsewhere(request: Any, **_: object) -> AWSResponse:
        tries.append(request.method)
        body = f"<Error><Code>{code}</Code><Message>m</Message><Region>eu-west-3</Region></Error>".encode()
        headers: Any = {"x-amz-bucket-region": "eu-west-3"}
        return AWSResponse(request.url, status, headers, MockRawResponse(b"" if code.isdigit() else body))

    ear.on("before-send.s3.*", elsewhere)
    accounts = AwsAccounts(DEPLOYMENT, clock, ear.session)
    with pytest.raises(AwsError, match="PermanentRedirect" if code == "301" else code):
        accounts.reader(SAMPLE, HERE).read(
            "s3", "GetPublicAccessBlock", Bucket="ours", ExpectedBucketOwner=HOME
        )
    executor = accounts.executor(with_writes(BLOCKS), HERE, Plan(calls=(BLOCK,)), SESSION)
    with pytest.raises(AwsError):
        executor.perform(BLOCK, "token", ())
    assert tries == ["GET", "PUT"]


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
def test_a_write_is_sent_once_whatever_becomes_of_it(code: str, ear: Ear, clock: FakeClock) -> None:
    sent: list[int] = []

    def reply(**_: object) -> Any:
        sent.append(1)
        return refusal(code, status=503)

    ear.on("before-call.ec2.EnableEbsEncryptionByDefault", reply)
    executor = AwsAccounts(DEPLOYMENT, clock, ear.session).executor(
        SAMPLE, HERE, Plan(calls=(ENCRYPT,)), SESSION
    )
    with pytest.raises(TransientError):
        executor.perform(ENCRYPT, "token", ())
    assert sent == [1]


def test_a_write_whose_connection_breaks_is_sent_once(ear: Ear, clock: FakeClock) -> None:
    tries: list[str] = []

    def drop(request: Any, **_: object) -> None:
        tries.append(request.url)
        raise ReadTimeoutError(endpoint_url=request.url)

    ear.on("before-send.ec2.*", drop)
    executor = AwsAccounts(DEPLOYMENT, clock, ear.session).executor(
        SAMPLE, HERE, Plan(calls=(ENCRYPT,)), SESSION
    )
    with pytest.raises(TransientError, match="ReadTimeoutError"):
        executor.perform(ENCRYPT, "token", ())
    assert len(tries) == 1


def test_a_call_gives_its_request_id_its_place_and_its_answer(accounts: AwsAccounts, ear: Ear) -> None:
    made, rule = group(HOME)
    of = target(made)
    plan = Plan(calls=(revoke(of, rule),))

    result, response = accounts.executor(SAMPLE, of, plan, SESSION).perform(plan.calls[0], "token", ({}, {}))

    assert (result.index, result.observed_by, result.error) == (2, "response", None)
    assert result.request_id
    assert response["Return"] is True
    assert "ResponseMetadata" not in response
    assert ear.only("RevokeSecurityGroupIngress").params == {"GroupId": made, "SecurityGroupRuleIds": [rule]}
    assert accounts.reader(SAMPLE, of).pages(
        "ec2",
        "DescribeSecurityGroupRules",
        "SecurityGroupRules",
        Filters=[{"Name": "group-id", "Values": [made]}],
    )[0]["IsEgress"]


def test_a_reference_is_replaced_by_what_the_earlier_call_answered(ear: Ear, clock: FakeClock) -> None:
    create = Call(
        service="ec2",
        operation="CreateSecurityGroup",
        params={"GroupName": "g", "Description": "d"},
        why="somewhere to go",
    )
    delete = Call(
        service="ec2",
        operation="DeleteSecurityGroup",
        params={"GroupId": Ref(call=0, path="GroupId").as_param()},
        why="and away again",
    )
    plan = Plan(calls=(create, delete))
    executor = AwsAccounts(DEPLOYMENT, clock, ear.session).executor(SAMPLE, HERE, plan, SESSION)

    _, created = executor.perform(create, "t", ())
    executor.perform(delete, "t", (created,))

    assert ear.only("DeleteSecurityGroup").params == {"GroupId": created["GroupId"]}


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"$ref": {"call": 0, "path": "A.B[0]"}}, "b"),
        ({"$ref": {"call": 1, "path": "N"}}, 7),
        ([{"x": {"$ref": {"call": 0, "path": "A.B"}}}, 1, None], [{"x": ["b"]}, 1, None]),
        ({"$ref": {"call": 0, "path": "A"}, "more": 1}, {"$ref": {"call": 0, "path": "A"}, "more": 1}),
        ("$ref", "$ref"),
    ],
)
def test_references_are_resolved_wherever_they_stand(value: JsonValue, expected: JsonValue) -> None:
    assert resolved(value, ({"A": {"B": ["b"]}}, {"N": 7})) == expected


@pytest.mark.parametrize(
    "reference",
    [
        {"call": 1, "path": "A"},
        {"call": -1, "path": "A"},
        {"call": 0, "path": "Nothing"},
        {"call": "0", "path": "A"},
        {"path": "A"},
        {"call": 0},
        "A",
    ],
)
def test_a_reference_to_what_is_not_known_stops_the_run(reference: JsonValue) -> None:
    with pytest.raises(GuardError, match="refers to"):
        resolved({"$ref": reference}, ({"A": 1},))


def test_an_idempotency_token_goes_into_the_parameter_that_takes_it(ear: Ear, clock: FakeClock) -> None:
    call = Call(
        service="ec2",
        operation="CreateFlowLogs",
        params={"ResourceIds": ["vpc-1"], "ResourceType": "VPC"},
        why="who came and went",
        token="ClientToken",
    )
    ear.on("before-call.ec2.CreateFlowLogs", lambda **_: answer())
    executor = AwsAccounts(DEPLOYMENT, clock, ear.session).executor(
        with_writes(Permission("ec2:CreateFlowLogs")), HERE, Plan(calls=(call,)), SESSION
    )
    executor.perform(call, "my-token", ())
    assert ear.asked["ClientToken"] == "my-token"


# -------------------------------------------------------------------------------------------------------------- errors


def client_error(code: str, status: int = 400) -> ClientError:
    body: Any = {
        "Error": {"Code": code, "Message": "said"},
        "ResponseMetadata": {"RequestId": "req-1", "HTTPStatusCode": status},
    }
    return ClientError(body, "DoIt")


@pytest.mark.parametrize(
    "code, status, kind",
    [
        ("AccessDenied", 403, AccessDeniedError),
        ("AccessDeniedException", 400, AccessDeniedError),
        ("UnauthorizedOperation", 403, AccessDeniedError),
        ("Client.UnauthorizedOperation", 403, AccessDeniedError),
        ("AuthFailure", 401, AccessDeniedError),
        ("ExpiredToken", 403, AccessDeniedError),
        ("ExpiredTokenException", 400, AccessDeniedError),
        ("InvalidClientTokenId", 403, AccessDeniedError),
        ("UnrecognizedClientException", 400, AccessDeniedError),
        ("AuthorizationError", 403, AccessDeniedError),
        ("AccessDenied", 500, AccessDeniedError),
        ("Throttling", 400, TransientError),
        ("ThrottlingException", 400, TransientError),
        ("RequestLimitExceeded", 503, TransientError),
        ("Client.RequestLimitExceeded", 503, TransientError),
        ("TooManyRequestsException", 429, TransientError),
        ("SlowDown", 503, TransientError),
        ("InternalError", 500, TransientError),
        ("SomethingNew", 500, TransientError),
        ("SomethingNew", 429, TransientError),
        ("InvalidGroup.NotFound", 400, AwsError),
        ("NoSuchBucket", 404, AwsError),
        ("LimitExceededException", 400, AwsError),
        ("DependencyViolation", 400, AwsError),
    ],
)
def test_what_a_service_says_becomes_one_of_three(code: str, status: int, kind: type[AwsError]) -> None:
    error = aws_error(client_error(code, status), "ec2", "DoIt")
    assert type(error) is kind
    assert (error.service, error.operation, error.request_id) == ("ec2", "DoIt", "req-1")
    assert error.code == code.removeprefix("Client.")
    assert "said" in str(error)


@pytest.mark.parametrize(
    "operation, status, code, kind",
    [
        ("HeadBucket", 403, "AccessDenied", AccessDeniedError),
        ("HeadBucket", 404, "NoSuchBucket", AwsError),
        ("HeadBucket", 301, "PermanentRedirect", AwsError),
        ("HeadObject", 404, "NotFound", AwsError),
        ("GetObject", 403, "AccessDenied", AccessDeniedError),
        ("HeadBucket", 400, "400", AwsError),
        ("HeadBucket", 503, "503", TransientError),
    ],
)
def test_a_refusal_without_a_body_has_the_code_that_it_would_have_had(
    operation: str, status: int, code: str, kind: type[AwsError]
) -> None:
    error = aws_error(client_error(str(status), status), "s3", operation)
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    "raised, kind",
    [
        (ConnectTimeoutError(endpoint_url="https://x"), TransientError),
        (ReadTimeoutError(endpoint_url="https://x"), TransientError),
        (EndpointConnectionError(endpoint_url="https://x"), TransientError),
        (NoCredentialsError(), AccessDeniedError),
        (ParamValidationError(report="GroupId is missing"), AwsError),
    ],
)
def test_what_botocore_says_becomes_one_of_three(raised: Any, kind: type[AwsError]) -> None:
    error = aws_error(raised, "ec2", "DoIt")
    assert type(error) is kind
    assert (error.code, error.request_id) == (type(raised).__name__, None)


def test_a_service_that_says_nothing_legible_is_still_an_error() -> None:
    error = aws_error(ClientError({}, "DoIt"), "ec2", "DoIt")
    assert (type(error), error.code, error.request_id) == (AwsError, "Unknown", None)


def test_parameters_that_the_api_does_not_have_are_an_error_of_the_call(accounts: AwsAccounts) -> None:
    with pytest.raises(AwsError, match="ParamValidationError"):
        accounts.reader(SAMPLE, HERE).read("ec2", "DescribeVpcs", NoSuchParameter="x")


@pytest.mark.parametrize("code", ["AccessDenied", "MalformedPolicyDocument", "RegionDisabledException"])
def test_a_role_that_cannot_be_assumed_is_denied_by_sts(code: str, ear: Ear, clock: FakeClock) -> None:
    ear.on("before-call.sts.AssumeRole", lambda **_: refusal(code, status=403))
    accounts = AwsAccounts(DEPLOYMENT, clock, ear.session)
    attempts = (
        lambda: accounts.executor(SAMPLE, THERE, Plan(calls=(ENCRYPT,)), SESSION),
        lambda: accounts.reader(SAMPLE, THERE).read("ec2", "DescribeVpcs"),
    )
    for attempt in attempts:
        with pytest.raises(AccessDeniedError, match=f"role/redress-test-.*{code}") as caught:
            attempt()
        assert (caught.value.service, caught.value.operation, caught.value.code) == (
            "sts",
            "AssumeRole",
            code,
        )
    assert ear.operations("ec2") == []


def test_sts_that_is_throttled_is_not_a_refusal(ear: Ear, clock: FakeClock) -> None:
    ear.on("before-call.sts.AssumeRole", lambda **_: refusal("Throttling"))
    with pytest.raises(TransientError):
        AwsAccounts(DEPLOYMENT, clock, ear.session).executor(SAMPLE, HERE, Plan(calls=(ENCRYPT,)), SESSION)


def test_a_session_that_failed_is_asked_for_again(ear: Ear, clock: FakeClock) -> None:
    replies = iter([refusal("AccessDenied", status=403)])
    ear.on("before-call.sts.AssumeRole", lambda **_: next(replies, None))
    accounts = AwsAccounts(DEPLOYMENT, clock, ear.session)
    with pytest.raises(AccessDeniedError):
        accounts.reader(SAMPLE, HERE).read("ec2", "DescribeVpcs")
    assert accounts.reader(SAMPLE, HERE).read("ec2", "DescribeVpcs")["Vpcs"]


# ------------------------------------------------------------------------------------------------------------- answers


def test_an_answer_is_json_in_the_forms_that_we_keep() -> None:
    at = datetime(2026, 8, 3, 14, 0, 0, 123456, tzinfo=UTC)
    said = {
        "At": at,
        "In": [{"Bytes": b"\x00a"}],
        "Tuple": (at,),
        "N": 1,
        "ResponseMetadata": {"RequestId": "r"},
    }
    assert plain(said) == {
        "At": "2026-08-03T14:00:00.123Z",
        "In": [{"Bytes": "AGE="}],
        "Tuple": ["2026-08-03T14:00:00.123Z"],
        "N": 1,
    }
    json.dumps(plain(said))


def test_sessions_that_share_their_models_share_no_credentials() -> None:
    make = reading_models_once()
    one, other = make(), make()
    one.set_credentials("one", "secret", "token")
    other.set_credentials("other", "secret", "token")
    found = [made.get_credentials() for made in (one, other, make())]
    assert [credentials and credentials.access_key for credentials in found] == ["one", "other", "testing"]
    assert one.get_component("data_loader") is other.get_component("data_loader")
