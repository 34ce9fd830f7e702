"""A key goes only when both sources show that nobody uses it; one a day; everything that is not certain is a person's."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from pydantic import ValidationError

from chalicelib.domain.contract import (
    NOTHING_TO_DO,
    CallResult,
    Cause,
    Mode,
    Params,
    Plan,
    RunRecord,
    plan_hash,
)
from chalicelib.domain.errors import AwsError, TargetGoneError, TransientError
from chalicelib.domain.finding import Target
from remediations.iam_deactivate_access_key import REMEDIATION, Disuse, Key, Slot, Use, UserKeys
from tests.fakes.aws import FakeAws
from tests.fakes.clock import START as NOW
from tests.fakes.clock import FakeClock
from tests.fakes.iam import age
from tests.remediations.conftest import ACCOUNT, SOMEBODY, UNHURRIED

PARAMS = Disuse(unused_days=90)
PLACE = Target(account=ACCOUNT, region="global", type="AWS::::Account", id=ACCOUNT)
LONG_AGO = NOW - timedelta(days=400)
LATELY = NOW - timedelta(days=3)
DAY = timedelta(days=1)


def of(days: float) -> datetime:
    return NOW - timedelta(days=days)


def user(name: str) -> Target:
    return Target(account=ACCOUNT, region="global", type="AWS::IAM::User", id=name)


ALICE = user("alice")


# ------------------------------------------------------------------------------------------------- for the house tests


class Scenario:
    """A key crosses the threshold. No event tells of it: a sweep does."""

    params: Params = PARAMS
    time_based = True
    crossed_at = NOW - timedelta(days=10)

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]:
        iam = session.client("iam")
        name = f"user-{len(iam.list_users()['Users'])}"
        iam.create_user(UserName=name, Path="/staff/")
        key = iam.create_access_key(UserName=name)["AccessKey"]["AccessKeyId"]
        age(key, LONG_AGO, self.crossed_at - timedelta(days=PARAMS.unused_days), account=ACCOUNT)
        iam.generate_credential_report()
        return user(f"staff/{name}"), ()

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]:
        raise NotImplementedError  # a key grows old without an event


SCENARIO = Scenario()

_MADE = st.sampled_from(
    [datetime(2026, 11, day, 23, 30, tzinfo=UTC) for day in (20, 21)]
)  # a report that is too old for the house's noon, and one that is not
_MOMENTS = st.integers(min_value=-1, max_value=200).map(
    lambda days: datetime(2026, 11, 21, 12, tzinfo=UTC) - timedelta(days=days)
)
_USES = st.none() | st.builds(
    Use, at=st.none() | _MOMENTS, service=st.just("s3"), region=st.just("eu-west-1")
)
_SLOTS = st.none() | st.builds(Slot, active=st.booleans(), rotated_at=_MOMENTS, use=_USES)
_KEYS = st.builds(
    Key,
    id=st.sampled_from(["AKIAEXAMPLE1AAAA", "AKIAEXAMPLE2BBBB"]),
    status=st.sampled_from(["Active", "Active", "Inactive", "Expired"]),
    created_at=_MOMENTS,
    used=_USES,
    reported=_SLOTS,
)
STATES: st.SearchStrategy[UserKeys] = st.builds(
    UserKeys,
    unused_days=st.just(90),
    generated_at=_MADE,
    own=st.sampled_from([False, False, False, True]),
    keys=st.lists(_KEYS, max_size=2, unique_by=lambda key: key.id).map(tuple),
)


# ------------------------------------------------------------------------------------------------------------ to speak


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    """An account with a user, and a credential report of this moment."""
    with mock_aws():
        fake = FakeAws(FakeClock())
        do(fake, "create_user", UserName="alice")
        do(fake, "generate_credential_report")
        yield fake


def do(aws: FakeAws, method: str, **params: Any) -> Any:
    return aws.do("iam", method, account=ACCOUNT, **params)


def key(
    aws: FakeAws, made: datetime, used: datetime | None = None, name: str = "alice", **reported: str
) -> str:
    """A key with that past; `reported` is what the report says otherwise."""
    key_id: str = do(aws, "create_access_key", UserName=name)["AccessKey"]["AccessKeyId"]
    age(key_id, made, used, account=ACCOUNT, **reported)
    return key_id


def look(aws: FakeAws, target: Target = ALICE) -> UserKeys:
    return REMEDIATION.assess(target, PARAMS, aws.reader(REMEDIATION, target))


def because(acted_at: datetime | None = None, before: UserKeys | None = None) -> Cause:
    stored = before.model_dump(mode="json") if before else None
    return Cause(at=NOW, actor=SOMEBODY, acted_at=acted_at, acted_before=stored)


def decide(
    state: UserKeys, cause: Cause | None = None, as_of: datetime = NOW, target: Target = ALICE
) -> Plan:
    return REMEDIATION.plan(target, PARAMS, state, cause or because(), as_of)


def apply(aws: FakeAws, plan: Plan, target: Target = ALICE, *, undo: bool = False) -> None:
    executor = aws.executor(REMEDIATION, target, plan, "redress-run", undo=undo)
    for call in plan.calls:
        executor.perform(call, "token", ())


def remedy(aws: FakeAws, target: Target = ALICE) -> RunRecord[UserKeys]:
    before = look(aws, target)
    plan = decide(before, target=target)
    apply(aws, plan, target)
    done = tuple(
        CallResult(index=index, request_id="r", observed_by="response") for index, _ in enumerate(plan.calls)
    )
    return RunRecord(before, plan, done, look(aws, target))


def statuses(aws: FakeAws, name: str = "alice") -> dict[str, str]:
    told = do(aws, "list_access_keys", UserName=name)["AccessKeyMetadata"]
    return {one["AccessKeyId"]: one["Status"] for one in told}


def touched(plan: Plan) -> list[object]:
    return [call.params["AccessKeyId"] for call in plan.calls]


def only_refusal(plan: Plan) -> str:
    assert plan.calls == ()
    (declined,) = plan.declined
    return f"{declined.what}: {declined.why}"


# ------------------------------------------------------------------------------------------------------------ the fix


def test_a_key_that_nobody_used_for_90_days_is_deactivated(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO, of(91))
    run = remedy(aws)
    assert run.plan.at_most is Mode.ACT
    assert run.plan.calls[0].params == {"UserName": "alice", "AccessKeyId": stale, "Status": "Inactive"}
    assert f"…{stale[-4:]} of user alice: it was last used on 2026-05-04" in run.plan.calls[0].why
    assert run.before.since == of(1)
    assert run.after.compliant
    assert run.after.since is None
    assert decide(run.after) == NOTHING_TO_DO
    assert statuses(aws) == {stale: "Inactive"}


def test_only_declared_reads_are_made_and_the_right_to_write_is_for_this_user(aws: FakeAws) -> None:
    key(aws, LONG_AGO)
    remedy(aws)
    (policy,) = aws.policies
    (statement,) = json.loads(policy)["Statement"]
    assert statement["Resource"] == f"arn:aws:iam::{ACCOUNT}:user/alice"
    assert [one.operation for one in aws.writes] == ["UpdateAccessKey"]


@pytest.mark.parametrize("days, stale", [(89.9, False), (90, True), (90.1, True)])
def test_the_threshold_is_exact(aws: FakeAws, days: float, *, stale: bool) -> None:
    key(aws, LONG_AGO, of(days))
    state = look(aws)
    assert state.compliant is not stale
    assert bool(decide(state).calls) is stale


def test_a_key_that_was_never_used_is_judged_by_its_age(aws: FakeAws) -> None:
    old, _ = key(aws, of(91)), key(aws, of(89))
    run = remedy(aws)
    assert touched(run.plan) == [old]
    assert "never used since it was made on 2026-05-04" in run.plan.calls[0].why
    assert run.plan.at_most is Mode.ACT
    assert run.after.compliant


@pytest.mark.parametrize(
    "used, reported",
    [
        (LATELY, "2025-07-01T00:00:00+00:00"),
        (of(200), "2026-07-31T12:00:00+00:00"),
        (LATELY, "no_information"),
    ],
)
def test_where_the_sources_differ_the_later_use_counts(aws: FakeAws, used: datetime, reported: str) -> None:
    key(aws, LONG_AGO, used, last_used_date=reported)
    state = look(aws)
    assert state.compliant
    assert decide(state) == NOTHING_TO_DO


def test_a_use_that_only_one_source_knows_of_is_asked_about(aws: FakeAws) -> None:
    key(aws, LONG_AGO, of(200), last_used_date="N/A")
    run = remedy(aws)
    assert run.plan.at_most is Mode.ASK
    assert "the other says that there never was one" in run.plan.calls[0].why
    assert run.before.since == of(110)


def test_a_fresh_sibling_is_untouched(aws: FakeAws) -> None:
    fresh, stale = key(aws, LONG_AGO, LATELY), key(aws, LONG_AGO + DAY, of(120))
    run = remedy(aws)
    assert statuses(aws) == {fresh: "Active", stale: "Inactive"}
    assert run.after.compliant


def test_a_key_that_is_in_use_as_both_sources_know_is_no_matter(aws: FakeAws) -> None:
    key(aws, LONG_AGO, of(1 / 24))
    assert look(aws).compliant


def test_inactive_keys_are_left_and_not_looked_up(aws: FakeAws) -> None:
    idle = key(aws, LONG_AGO)
    do(aws, "update_access_key", UserName="alice", AccessKeyId=idle, Status="Inactive")
    state = look(aws)
    assert state.compliant
    assert decide(state) == NOTHING_TO_DO
    assert "GetAccessKeyLastUsed" not in [one.operation for one in aws.reads]


def test_a_user_without_keys_is_compliant(aws: FakeAws) -> None:
    assert look(aws).compliant
    assert decide(look(aws), as_of=NOW + 3 * DAY) == NOTHING_TO_DO


def test_passwords_are_not_looked_at(aws: FakeAws) -> None:
    do(aws, "create_login_profile", UserName="alice", Password="kept-as-it-is-1A!")
    key(aws, LONG_AGO)
    remedy(aws)
    assert do(aws, "get_login_profile", UserName="alice")["LoginProfile"]["UserName"] == "alice"


# ----------------------------------------------------------------------------------------------------------- one a day


def test_of_two_stale_keys_the_stalest_goes_and_the_other_waits_a_day(aws: FakeAws) -> None:
    later, stalest = key(aws, LONG_AGO, of(100)), key(aws, LONG_AGO + DAY, of(150))
    run = remedy(aws)
    assert touched(run.plan) == [stalest]
    assert "waits until tomorrow" in run.plan.calls[0].why
    assert run.before.since == of(60)
    assert not run.after.compliant
    assert run.after.since == of(10)

    within = decide(run.after, because(NOW, run.before), NOW + DAY - timedelta(seconds=1))
    assert within == NOTHING_TO_DO
    assert touched(decide(run.after, because(NOW, run.before), NOW + DAY)) == [later]


def test_in_whatever_order_iam_names_them_the_same_key_goes_first(aws: FakeAws) -> None:
    first = min(key(aws, LONG_AGO), key(aws, LONG_AGO))
    state = look(aws)
    backwards = state.model_copy(update={"keys": state.keys[::-1]})
    assert touched(decide(state)) == touched(decide(backwards)) == [first]


def test_a_write_that_did_not_happen_is_still_to_be_made(aws: FakeAws) -> None:
    stale, _ = key(aws, LONG_AGO), key(aws, LONG_AGO + DAY)
    before = look(aws)
    assert touched(decide(before, because(NOW, before))) == [stale]
    assert touched(decide(before, because(NOW))) == [stale]


def test_a_key_that_was_inactive_before_our_run_does_not_make_the_other_wait(aws: FakeAws) -> None:
    idle, stale = key(aws, LONG_AGO), key(aws, LONG_AGO + DAY)
    do(aws, "update_access_key", UserName="alice", AccessKeyId=idle, Status="Inactive")
    before = look(aws)
    assert touched(decide(before, because(NOW, before))) == [stale]


# ---------------------------------------------------------------------------------------- what is not known for certain


def test_a_key_that_was_used_just_now_after_so_long_is_a_persons_matter(aws: FakeAws) -> None:
    key(aws, LONG_AGO, of(1 / 24), last_used_date="2025-08-01T00:00:00+00:00")
    state = look(aws)
    assert not state.compliant
    assert state.since is None
    told = only_refusal(decide(state))
    assert "on 2026-08-03 at 11:00 UTC for s3 in eu-west-1" in told
    assert "treat the key as stolen" in told


def test_a_key_of_which_the_report_says_nothing_is_a_persons_matter(aws: FakeAws) -> None:
    key(aws, LONG_AGO, last_used_date="not_supported")
    state = look(aws)
    assert not state.compliant
    assert "the credential report does not say" in only_refusal(decide(state))


def test_a_key_whose_slot_is_empty_in_the_report_is_a_persons_matter(aws: FakeAws) -> None:
    key(aws, LONG_AGO, last_rotated="N/A")
    assert "the credential report does not say" in only_refusal(decide(look(aws)))


def test_a_user_who_is_not_in_the_report_yet_is_a_persons_matter(aws: FakeAws) -> None:
    key(aws, LONG_AGO)
    reader = Answering(aws, GetCredentialReport=csv_of("bob"))
    state = REMEDIATION.assess(ALICE, PARAMS, reader)
    assert "the credential report does not say" in only_refusal(decide(state))


@pytest.mark.parametrize("answer", [{}, {"AccessKeyLastUsed": {"ServiceName": "s3", "Region": "N/A"}}])
def test_a_key_of_which_iam_says_nothing_is_a_persons_matter(aws: FakeAws, answer: dict[str, Any]) -> None:
    key(aws, LONG_AGO)
    state = REMEDIATION.assess(ALICE, PARAMS, Answering(aws, GetAccessKeyLastUsed=answer))
    assert "GetAccessKeyLastUsed does not say" in only_refusal(decide(state))


def test_what_is_declined_beside_a_call_has_it_asked_about(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO, of(100))
    key(aws, LONG_AGO + DAY, last_used_date="not_supported")
    plan = decide(look(aws))
    assert touched(plan) == [stale]
    assert len(plan.declined) == 1
    assert plan.at_most is Mode.ASK


def test_a_key_whose_date_differs_has_the_slot_that_is_left_and_is_asked_about(aws: FakeAws) -> None:
    """`last_rotated` moves when a key is changed, so it is not always the moment at which the key was made."""
    moved = key(aws, LONG_AGO, of(200), last_rotated="2025-12-01T00:00:00+00:00")
    key(aws, LONG_AGO + DAY, LATELY)
    plan = decide(look(aws))
    assert touched(plan) == [moved]
    assert plan.at_most is Mode.ASK
    assert "another date for the key" in plan.calls[0].why


def test_an_inactive_key_without_a_date_leaves_the_other_its_slot(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO, of(200), last_rotated="2025-12-01T00:00:00+00:00")
    idle = key(aws, LONG_AGO + DAY, last_rotated="N/A", active="false")
    do(aws, "update_access_key", UserName="alice", AccessKeyId=idle, Status="Inactive")
    assert touched(decide(look(aws))) == [stale]


def test_two_keys_whose_slots_cannot_be_told_apart_are_a_persons_matter(aws: FakeAws) -> None:
    for made in (LONG_AGO, LONG_AGO + DAY):
        key(aws, made, of(200), last_rotated="2025-12-01T00:00:00+00:00")
    plan = decide(look(aws))
    assert plan.calls == ()
    assert len(plan.declined) == 2


def test_two_keys_of_one_second_are_told_apart_by_their_use(aws: FakeAws) -> None:
    stale, _ = key(aws, LONG_AGO, of(200)), key(aws, LONG_AGO, LATELY)
    reader = Answering(aws, GetCredentialReport=csv_of("alice", slots=(LATELY, of(200))))
    plan = decide(REMEDIATION.assess(ALICE, PARAMS, reader))
    assert touched(plan) == [stale]
    assert plan.at_most is Mode.ACT


def test_a_key_that_was_activated_since_the_report_is_asked_about(aws: FakeAws) -> None:
    key(aws, LONG_AGO, active="false")
    plan = decide(look(aws))
    assert plan.at_most is Mode.ASK
    assert "somebody has activated it since" in plan.calls[0].why


def test_every_doubt_together_can_still_be_said() -> None:
    name = "n" * 64
    doubtful = Key(
        id="AKIAEXAMPLE1AAAA",
        status="Active",
        created_at=LONG_AGO,
        used=Use(at=of(200), service="resource-explorer-2", region="ap-southeast-2"),
        reported=Slot(active=False, rotated_at=of(300), use=Use()),
    )
    other = doubtful.model_copy(update={"id": "AKIAEXAMPLE2BBBB"})
    state = UserKeys(unused_days=90, generated_at=NOW, own=False, keys=(doubtful, other))
    assert decide(state, target=user(name)).calls[0].why.count(".") == 5


def test_a_report_that_is_too_old_decides_nothing(aws: FakeAws) -> None:
    key(aws, LONG_AGO)
    state = look(aws)
    assert touched(decide(state, as_of=NOW + DAY))
    assert "is of 2026-08-03 12:00 UTC" in only_refusal(decide(state, as_of=NOW + DAY + timedelta(seconds=1)))
    assert "generate a new one" in only_refusal(decide(state, as_of=NOW - 2 * DAY))


def test_a_report_that_is_too_old_calls_nothing_compliant(aws: FakeAws) -> None:
    key(aws, LONG_AGO, LATELY)
    state = look(aws)
    assert state.compliant
    assert only_refusal(decide(state, as_of=NOW + 2 * DAY))


# ------------------------------------------------------------------------------------------------- whom it never touches


def test_a_user_of_a_redress_deployment_is_left_alone(aws: FakeAws) -> None:
    do(aws, "tag_user", UserName="alice", Tags=[{"Key": "redress:stage", "Value": "prod"}])
    do(aws, "create_user", UserName="deployer", Path="/redress/")
    key(aws, LONG_AGO), key(aws, LONG_AGO, name="deployer")
    for target in (ALICE, user("redress/deployer")):
        state = look(aws, target)
        assert not state.compliant
        assert "must not lock itself out" in only_refusal(decide(state, target=target))


def test_a_path_that_merely_looks_like_ours_does_not_count(aws: FakeAws) -> None:
    do(aws, "create_user", UserName="mallory", Path="/redresses/")
    key(aws, LONG_AGO, name="mallory")
    target = user("redresses/mallory")
    assert decide(look(aws, target), target=target).calls


def test_the_root_user_is_never_a_suspect(aws: FakeAws) -> None:
    """In the report the root user is a row like any other; its keys are another control's matter."""
    stale = "true,2020-01-01T00:00:00+00:00,N/A,N/A,N/A"
    told = report_of([("<root_account>", f"arn:aws:iam::{ACCOUNT}:root", stale)])
    assert REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=told)) == ()


# -------------------------------------------------------------------------------------------------- which user is meant


def test_a_user_with_a_path_is_named_with_it_and_called_without_it(aws: FakeAws) -> None:
    do(aws, "create_user", UserName="bob", Path="/division/")
    stale = key(aws, LONG_AGO, name="bob")
    bob = user("division/bob")
    run = remedy(aws, bob)
    assert run.plan.calls[0].params["UserName"] == "bob"
    assert statuses(aws, "bob") == {stale: "Inactive"}
    assert json.loads(aws.policies[0])["Statement"][0]["Resource"].endswith(":user/division/bob")


def test_a_user_under_another_path_is_another_user(aws: FakeAws) -> None:
    with pytest.raises(TargetGoneError, match="division/alice does not exist"):
        look(aws, user("division/alice"))


def test_a_user_who_is_gone_is_gone(aws: FakeAws) -> None:
    with pytest.raises(TargetGoneError, match="user/bob does not exist"):
        look(aws, user("bob"))


def test_a_user_who_goes_while_we_look_is_gone(aws: FakeAws) -> None:
    with pytest.raises(TargetGoneError):
        REMEDIATION.assess(ALICE, PARAMS, Answering(aws, ListAccessKeys="NoSuchEntity"))


def test_a_key_that_goes_while_we_look_is_gone(aws: FakeAws) -> None:
    key(aws, LONG_AGO)
    state = REMEDIATION.assess(ALICE, PARAMS, Answering(aws, GetAccessKeyLastUsed="NoSuchEntity"))
    assert state.keys == ()


@pytest.mark.parametrize(
    "operation", ["GetUser", "GetCredentialReport", "ListAccessKeys", "GetAccessKeyLastUsed"]
)
def test_what_may_not_be_read_is_an_error(aws: FakeAws, operation: str) -> None:
    key(aws, LONG_AGO)
    with pytest.raises(AwsError, match="AccessDenied"):
        REMEDIATION.assess(ALICE, PARAMS, Answering(aws, **{operation: "AccessDenied"}))


# ----------------------------------------------------------------------------------------------------------- the report


class Answering:
    """A reader that answers some operations itself: a code is raised, anything else is the answer."""

    def __init__(self, aws: FakeAws, **instead: Any) -> None:
        self._reader = aws.reader(REMEDIATION, ALICE)
        self._instead = instead

    def read(self, service: str, operation: str, /, **params: Any) -> dict[str, Any]:
        told = self._instead.get(operation)
        if isinstance(told, str):
            raise AwsError(service, operation, told, "as the test wants it")
        return self._reader.read(service, operation, **params) if told is None else told

    def pages(self, service: str, operation: str, key: str, /, **params: Any) -> list[Any]:
        if operation in self._instead:
            self.read(service, operation)
        return self._reader.pages(service, operation, key, **params)


HEADER = (
    "user,arn,user_creation_time,"
    "access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,"
    "access_key_1_last_used_service,"
    "access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,access_key_2_last_used_region,"
    "access_key_2_last_used_service,cert_1_active"
)
NO_KEY = "false,N/A,N/A,N/A,N/A"


def report_of(rows: list[tuple[str, str, str]], header: str = HEADER) -> dict[str, Any]:
    """The answer of GetCredentialReport with these users, ARNs and first keys, commas as they come."""
    lines = [f"{name},{arn},N/A,{first},{NO_KEY},false" for name, arn, first in rows]
    text = "\n".join([header, *lines]) + "\n"
    return {"Content": base64.b64encode(text.encode()).decode(), "GeneratedTime": "2026-08-03T12:00:00.000Z"}


def csv_of(name: str, slots: tuple[datetime, ...] = ()) -> dict[str, Any]:
    """A report with one user; its keys were made long ago and last used then."""
    used = [f"true,{LONG_AGO.isoformat()},{at.isoformat()},eu-west-1,s3" for at in slots]
    first, second = used or [NO_KEY, NO_KEY]
    told = report_of([(name, f"arn:aws:iam::{ACCOUNT}:user/{name}", first)])
    text = base64.b64decode(told["Content"]).decode().replace(NO_KEY, second)
    return {**told, "Content": base64.b64encode(text.encode()).decode()}


def test_a_report_that_is_being_made_brings_the_message_back() -> None:
    with mock_aws():
        fake = FakeAws(FakeClock())
        do(fake, "create_user", UserName="alice")
        with pytest.raises(TransientError, match="IAM is making the credential report") as refused:
            look(fake)
        assert refused.value.code == "STARTED"
        assert look(fake).compliant


@pytest.mark.parametrize("state", ["STARTED", "INPROGRESS", None])
def test_only_a_complete_report_is_read(aws: FakeAws, state: str | None) -> None:
    with pytest.raises(TransientError):
        REMEDIATION.assess(ALICE, PARAMS, Answering(aws, GenerateCredentialReport={"State": state}))


@pytest.mark.parametrize("code", ["ReportNotPresent", "ReportInProgress", "ReportExpired"])
def test_a_report_that_is_not_there_yet_brings_the_message_back(aws: FakeAws, code: str) -> None:
    with pytest.raises(TransientError, match="IAM is making the credential report"):
        REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=code))


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("user,arn", "arn,user", 1),
        HEADER.replace("access_key_2_active", "access_key_2_status"),
        f"{HEADER},a_new_column",
        "",
    ],
)
def test_a_report_without_its_columns_is_an_error(aws: FakeAws, header: str) -> None:
    told = report_of([("alice", ALICE.resource, NO_KEY)], header)
    with pytest.raises(AwsError, match="has not the columns"):
        REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=told))


def test_an_empty_report_is_an_error(aws: FakeAws) -> None:
    told = {"Content": "", "GeneratedTime": "2026-08-03T12:00:00.000Z"}
    with pytest.raises(AwsError, match="has not the columns"):
        REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=told))


def test_columns_are_known_by_their_names(aws: FakeAws) -> None:
    """A new column may come between those that we know."""
    header = HEADER.replace("user_creation_time", "user_creation_time,brand_new")
    told = report_of([("alice", ALICE.resource, f"N/A,true,{LONG_AGO.isoformat()},N/A,N/A,N/A")], header)
    assert REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=told)) == (ALICE,)


@pytest.mark.parametrize("quotes", ['"', ""])
def test_names_with_commas_hide_nobody(aws: FakeAws, quotes: str) -> None:
    """IAM takes commas in names; whether it quotes them is not written down anywhere."""
    eve = user("a,b/eve,true,N=A,=+@-")
    stale = f"true,{LONG_AGO.isoformat()},N/A,N/A,N/A"
    rows = [
        (f"{quotes}{eve.name}{quotes}", f"{quotes}{eve.resource}{quotes}", stale),
        ("alice", ALICE.resource, stale),
    ]
    reader = Answering(aws, GetCredentialReport=report_of(rows))
    assert REMEDIATION.survey(PLACE, PARAMS, reader) == (eve, ALICE)


def test_a_user_with_commas_in_the_name_is_treated_like_any_other(aws: FakeAws) -> None:
    do(aws, "create_user", UserName="eve,true", Path="/a,b/")
    stale = key(aws, LONG_AGO, name="eve,true")
    run = remedy(aws, user("a,b/eve,true"))
    assert touched(run.plan) == [stale]
    assert run.plan.at_most is Mode.ACT


# ------------------------------------------------------------------------------------------------------------ survey


def test_a_survey_names_everybody_whose_key_may_be_stale(aws: FakeAws) -> None:
    suspects = {
        "never": key_args(LONG_AGO),
        "used": key_args(LONG_AGO, of(90)),
        "unsaid": key_args(LONG_AGO, last_used_date="no_information"),
        "undated": key_args(LONG_AGO, last_rotated="N/A"),
        "nonsense": key_args(LONG_AGO, active="maybe"),
    }
    innocent = {
        "young": key_args(of(89)),
        "busy": key_args(LONG_AGO, LATELY),
        "idle": key_args(LONG_AGO, active="false"),
    }
    for name, past in {**suspects, **innocent}.items():
        do(aws, "create_user", UserName=name, Path="/team/")
        key(aws, name=name, **past)
    found = REMEDIATION.survey(PLACE, PARAMS, aws.reader(REMEDIATION, PLACE))
    assert {one.id for one in found} == {f"team/{name}" for name in suspects}
    assert {one.region for one in found} == {"global"}
    assert {one.operation for one in aws.reads} == {"GenerateCredentialReport", "GetCredentialReport"}


def key_args(made: datetime, used: datetime | None = None, **reported: str) -> dict[str, Any]:
    return {"made": made, "used": used, **reported}


def test_a_survey_looks_at_both_keys(aws: FakeAws) -> None:
    key(aws, LONG_AGO, LATELY), key(aws, LONG_AGO)
    assert REMEDIATION.survey(PLACE, PARAMS, aws.reader(REMEDIATION, PLACE)) == (ALICE,)


def test_a_user_whose_path_could_mean_others_is_no_target(aws: FakeAws) -> None:
    stale = f"true,{LONG_AGO.isoformat()},N/A,N/A,N/A"
    rows = [("eve", f"arn:aws:iam::{ACCOUNT}:user/*/eve", stale), ("alice", ALICE.resource, stale)]
    assert REMEDIATION.survey(PLACE, PARAMS, Answering(aws, GetCredentialReport=report_of(rows))) == (ALICE,)


def test_a_survey_of_another_partition_names_its_users(aws: FakeAws) -> None:
    place = Target(account=ACCOUNT, region="aws-cn-global", type="AWS::::Account", id=ACCOUNT)
    arn = f"arn:aws-cn:iam::{ACCOUNT}:user/li"
    told = report_of([("li", arn, f"true,{LONG_AGO.isoformat()},N/A,N/A,N/A")])
    (found,) = REMEDIATION.survey(place, PARAMS, Answering(aws, GetCredentialReport=told))
    assert found.resource == arn


# ------------------------------------------------------------------------------------------------- by hand, code, tags


def test_tags_are_read_for_the_owner(aws: FakeAws) -> None:
    assert REMEDIATION.tags
    reader = aws.reader(REMEDIATION, ALICE)
    assert REMEDIATION.tags(ALICE, reader) == {}
    do(aws, "tag_user", UserName="alice", Tags=[{"Key": "owner", "Value": "ann"}])
    assert REMEDIATION.tags(ALICE, reader) == {"owner": "ann"}


def test_the_steps_name_each_key_that_is_concerned(aws: FakeAws) -> None:
    stale, _ = key(aws, LONG_AGO), key(aws, LONG_AGO + DAY, LATELY)
    steps = REMEDIATION.by_hand(ALICE, look(aws))
    assert [step.command for step in steps] == [
        "aws iam generate-credential-report",
        f"aws iam get-access-key-last-used --access-key-id {stale}",
        f"aws iam update-access-key --user-name alice --access-key-id {stale} --status Inactive",
    ]


def test_the_code_names_the_user_and_the_status(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO)
    told = REMEDIATION.as_code(ALICE, look(aws))
    assert f"ending in {stale[-4:]}." in told
    assert '  user   = "alice"\n  status = "Inactive"\n' in told
    assert stale not in told


def test_nobody_is_told_to_deactivate_our_own_key(aws: FakeAws) -> None:
    do(aws, "tag_user", UserName="alice", Tags=[{"Key": "redress:stage", "Value": "prod"}])
    key(aws, LONG_AGO)
    state = look(aws)
    (step,) = REMEDIATION.by_hand(ALICE, state)
    assert step.command == ""
    assert "Redress deployment" in step.console
    assert REMEDIATION.as_code(ALICE, state).startswith("# User alice belongs to a Redress deployment")


# ------------------------------------------------------------------------------------------------------------- undo


def unmake(aws: FakeAws, run: RunRecord[UserKeys]) -> Plan:
    plan = REMEDIATION.undo(ALICE, run, look(aws))
    apply(aws, plan, undo=True)
    return plan


def test_undo_activates_the_key_again_and_only_that_one(aws: FakeAws) -> None:
    stale, idle = key(aws, LONG_AGO), key(aws, LONG_AGO + DAY)
    do(aws, "update_access_key", UserName="alice", AccessKeyId=idle, Status="Inactive")
    run = remedy(aws)
    plan = unmake(aws, run)
    assert plan.at_most is Mode.ASK
    assert statuses(aws) == {stale: "Active", idle: "Inactive"}
    assert look(aws).content() == run.before.content() == {"keys": {stale: "Active", idle: "Inactive"}}
    assert unmake(aws, run) == NOTHING_TO_DO


def test_undo_of_a_key_that_was_deleted_does_nothing(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO)
    run = remedy(aws)
    do(aws, "delete_access_key", UserName="alice", AccessKeyId=stale)
    assert unmake(aws, run) == NOTHING_TO_DO


def test_undo_declines_when_somebody_else_deactivated_the_key(aws: FakeAws) -> None:
    stale = key(aws, LONG_AGO)
    before = look(aws)
    run = RunRecord(before, decide(before), (), before)
    do(aws, "update_access_key", UserName="alice", AccessKeyId=stale, Status="Inactive")
    assert "somebody else deactivated it" in only_refusal(unmake(aws, run))


# --------------------------------------------------------------------------------------- for every state there can be


def test_a_threshold_below_every_frameworks_is_refused() -> None:
    assert Disuse(unused_days=45).unused_days == 45
    with pytest.raises(ValidationError):
        Disuse(unused_days=44)


def test_the_plans_hash_moves_with_what_it_rests_on_and_not_with_the_report(aws: FakeAws) -> None:
    key(aws, LONG_AGO, of(200))
    state = look(aws)
    later = state.model_copy(update={"generated_at": NOW + timedelta(hours=4)})
    used_since = state.keys[0].model_copy(update={"used": Use(at=of(100), service="s3", region="eu-west-1")})
    hashes = [
        plan_hash(decide(one), ALICE, PARAMS, {})
        for one in (state, later, state.model_copy(update={"keys": (used_since,)}))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@UNHURRIED
@given(STATES)
def test_a_state_survives_json(state: UserKeys) -> None:
    assert UserKeys.model_validate_json(state.model_dump_json()) == state


@UNHURRIED
@given(STATES)
def test_only_what_both_sources_show_to_be_unused_is_ever_touched(state: UserKeys) -> None:
    at = state.generated_at
    plan = decide(state, as_of=at)
    assert plan.satisfied is state.compliant
    assert len(plan.calls) <= 1
    assert not (state.own and plan.calls)
    for call in plan.calls:
        (chosen,) = (one for one in state.keys if one.id == call.params["AccessKeyId"])
        limit = at - timedelta(days=90)
        assert chosen.status == "Active"
        assert chosen.created_at <= limit
        assert chosen.used
        assert chosen.reported
        assert chosen.reported.use
        assert all(use.at is None or use.at <= limit for use in (chosen.used, chosen.reported.use))
        if call.at_most is Mode.ACT:
            assert chosen.reported.active
            assert (chosen.used.at is None) is (chosen.reported.use.at is None)
