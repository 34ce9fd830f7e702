"""Intake: what an envelope says, and every way in which it may say nothing."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.domain.errors import MalformedEventError
from chalicelib.domain.finding import NotOurs, Origin, Signal
from chalicelib.flow import intake


def envelope(**detail: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "11111111-2222-3333-4444-555555555555",
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.ec2",
        "account": "111111111111",
        "time": "2026-11-22T03:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "eventID": "event-1",
            "eventTime": "2026-11-22T02:59:58Z",
            "eventSource": "ec2.amazonaws.com",
            "eventName": "AuthorizeSecurityGroupIngress",
            "awsRegion": "eu-central-1",
            "requestID": "request-1",
            "recipientAccountId": "111111111111",
            "userIdentity": {
                "type": "IAMUser",
                "arn": "arn:aws:iam::111111111111:user/ann",
                "userName": "ann",
            },
            **detail,
        },
    }


def signal_of(event: dict[str, Any]) -> Signal:
    (read,) = intake.read(event)
    assert isinstance(read, Signal), read
    return read


def reason_of(event: dict[str, Any]) -> str:
    (read,) = intake.read(event)
    assert isinstance(read, NotOurs), read
    return read.reason


def test_a_call_is_read_as_who_did_what_where_and_when() -> None:
    signal = signal_of(envelope())
    assert (signal.event_id, signal.account, signal.region) == ("event-1", "111111111111", "eu-central-1")
    assert (signal.source, signal.name) == ("ec2.amazonaws.com", "AuthorizeSecurityGroupIngress")
    assert signal.at == datetime(2026, 11, 22, 2, 59, 58, tzinfo=UTC)
    assert signal.actor.arn == "arn:aws:iam::111111111111:user/ann"


def test_a_session_is_known_by_the_role_behind_it_and_its_name_is_only_a_name() -> None:
    identity = {
        "type": "AssumedRole",
        "arn": "arn:aws:sts::111111111111:assumed-role/Admin/redress-forged",
        "sessionContext": {
            "sessionIssuer": {"arn": "arn:aws:iam::111111111111:role/Admin", "userName": "Admin"}
        },
    }
    actor = signal_of(envelope(userIdentity=identity)).actor
    assert (actor.role_arn, actor.session) == ("arn:aws:iam::111111111111:role/Admin", "redress-forged")
    assert actor.key == "arn:aws:iam::111111111111:role/Admin"


@pytest.mark.parametrize(
    "identity",
    [
        None,
        "...",
        {},
        {"type": "Root"},
        {"sessionContext": {"sessionIssuer": {}}},
        {"principalid": "x", "arn": 3},
        [],
    ],
)
def test_an_identity_of_any_shape_gives_an_actor(identity: object) -> None:
    assert signal_of(envelope(userIdentity=identity)).actor.type


@pytest.mark.parametrize(
    "change, says",
    [
        ({"errorCode": "Client.UnauthorizedOperation"}, "failed (Client.UnauthorizedOperation)"),
        ({"errorMessage": "Failed authentication"}, "failed"),
        ({"readOnly": True}, "only reads"),
        ({"readOnly": "true"}, "only reads"),
        ({"recipientAccountId": "222222222222"}, "the record says '222222222222'"),
        ({"awsRegion": "megov-south-1r"}, "no Region's name"),
        ({"awsRegion": "us-east-1"}, "the envelope says Region 'eu-central-1'"),
    ],
)
def test_a_call_that_changed_nothing_or_contradicts_itself_is_not_ours(
    change: dict[str, Any], says: str
) -> None:
    assert says in reason_of(envelope(**change))


@pytest.mark.parametrize("account", ["123456789", "XXXXXXXXXXX", "", None, 111111111111, "\uff11" * 12])
def test_an_account_that_is_none_is_not_ours(account: object) -> None:
    assert reason_of({**envelope(recipientAccountId=None), "account": account})


@pytest.mark.parametrize(
    "kind",
    [
        "Security Hub Insight Results",
        "Access Preview State Change",
        "EC2 Instance State-change Notification",
        "",
    ],
)
def test_an_event_of_another_type_is_not_ours_and_says_which(kind: str) -> None:
    assert repr(kind) in reason_of({**envelope(), "detail-type": kind})


@pytest.mark.parametrize(
    "kind, name",
    [
        ("AWS API Call via CloudTrail", "AuthorizeSecurityGroupIngress"),
        ("AWS Console Sign In via CloudTrail", "ConsoleLogin"),
        ("AWS Service Event via CloudTrail", "SharedSnapshotVolumeCreated"),
    ],
)
def test_every_kind_of_cloudtrail_event_tells_of_a_change(kind: str, name: str) -> None:
    signal = signal_of({**envelope(eventName=name, userAgent="aws-cli/2"), "detail-type": kind})
    assert (signal.origin, signal.detail_type, signal.name) == (Origin.EVENT, kind, name)
    assert signal.user_agent == "aws-cli/2"


def test_a_caller_chooses_its_user_agent_and_not_its_length() -> None:
    assert len(signal_of(envelope(userAgent="x" * 5000)).user_agent or "") == 1024
    assert signal_of(envelope(userAgent=["curl"])).user_agent is None


@pytest.mark.parametrize(
    "said, says",
    [
        ({"errorMessage": "Failed authentication"}, "failed (error)"),
        ({"responseElements": {"ConsoleLogin": "Failure"}}, "the sign-in failed"),
    ],
)
def test_a_sign_in_that_failed_is_not_ours(said: dict[str, Any], says: str) -> None:
    event = envelope(eventSource="signin.amazonaws.com", eventName="ConsoleLogin", **said)
    assert says in reason_of({**event, "detail-type": "AWS Console Sign In via CloudTrail"})


def test_an_event_that_names_no_region_is_not_ours() -> None:
    assert "'' is no Region's name" in reason_of({**envelope(awsRegion=None), "region": None})


@pytest.mark.parametrize("missing", ["detail", "detail-type", "source"])
def test_what_is_no_event_at_all_is_refused_so_that_the_queue_keeps_it(missing: str) -> None:
    event = envelope()
    del event[missing]
    with pytest.raises(MalformedEventError, match="lacks source, detail-type or detail"):
        intake.read(event)


@pytest.mark.parametrize(
    "body", ["", "{", "null", "[]", '"text"', "1", "[" * 100_000], ids=lambda body: body[:6]
)
def test_a_body_that_is_no_object_is_refused(body: str) -> None:
    with pytest.raises(MalformedEventError):
        intake.parse(body)


def test_a_body_that_is_an_object_is_the_event() -> None:
    assert intake.parse('{"a": [1]}') == {"a": [1]}


def test_an_object_nested_beyond_reason_is_refused_not_crashed_on() -> None:
    nested: dict[str, Any] = {}
    for _ in range(3000):
        nested = {"x": nested}
    with pytest.raises(MalformedEventError, match="nested"):
        intake.read(envelope(requestParameters=nested))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2021-01-24 04:55:45.000", "2021-01-24T04:55:45+00:00"),
        ("2023-05-01T10:00:00.123456789Z", "2023-05-01T10:00:00.123456+00:00"),
        ("2023-05-01T10:00:00+02:00", "2023-05-01T08:00:00+00:00"),
        ("2023-05-01T10:00:00.060-04:00", "2023-05-01T14:00:00.060+00:00"),
        (1689963113060, "2023-07-21T18:11:53.060+00:00"),
        (1689963113, "2023-07-21T18:11:53+00:00"),
        (10**30, "2026-11-22T03:00:00+00:00"),
        (True, "2026-11-22T03:00:00+00:00"),
        ("yesterday", "2026-11-22T03:00:00+00:00"),
        (None, "2026-11-22T03:00:00+00:00"),
    ],
)
def test_times_are_read_in_every_form_seen_and_fall_back_to_the_envelope(text: object, expected: str) -> None:
    assert signal_of(envelope(eventTime=text)).at == datetime.fromisoformat(expected)


def test_without_any_time_an_event_is_as_old_as_can_be_so_that_nothing_acts_on_it() -> None:
    assert signal_of({**envelope(eventTime=None), "time": None}).at.year == 1970


def test_without_an_event_id_the_envelope_id_stands_and_without_that_the_content() -> None:
    assert signal_of(envelope(eventID=None)).event_id.startswith("11111111")
    bare = {**envelope(eventID=None), "id": None}
    assert signal_of(bare).event_id == signal_of(bare).sha256


@pytest.mark.parametrize("name", ["a|b", "x" * 257, "é", "a b", "a\n"])
def test_an_id_that_no_key_could_hold_is_known_by_its_digest_every_time(name: str) -> None:
    first, again = (
        signal_of(envelope(eventID=name)),
        signal_of({**envelope(eventID=name), "time": "2020-01-01"}),
    )
    assert first.event_id == again.event_id
    assert len(first.event_id) == 64
    assert first.sha256 != again.sha256


def test_secrets_are_gone_before_anything_is_hashed() -> None:
    secret = {
        "accessKey": {"accessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "wJalr"},
        "masterUserPassword": "hunter2",
    }
    signal = signal_of(envelope(responseElements=secret, requestParameters=[{"password": "x"}]))
    kept = json.dumps(signal.detail)
    assert "wJalr" not in kept
    assert "hunter2" not in kept
    assert "AKIAEXAMPLE" in kept
    other = {
        "accessKey": {"accessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "else"},
        "masterUserPassword": "other",
    }
    assert (
        signal_of(envelope(responseElements=other, requestParameters=[{"password": "y"}])).sha256
        == signal.sha256
    )


@pytest.mark.parametrize(
    "name",
    [
        "preSharedKey", "accessToken", "refreshToken", "idToken", "apiKeyValue", "userPassword", "tokenKey",
        "certificatePrivateKey", "masterPassword", "adminPassword", "oAuthToken", "presignedUrl", "client-secret",
        "Private_Key", "SECRETKEY", "authToken", "x-amz-security-token", "secretString", "Plaintext",
    ],
)  # fmt: skip
def test_a_secret_by_any_other_name_is_hidden(name: str) -> None:
    signal = signal_of(envelope(responseElements={"deep": [{name: "s3cret"}]}))
    assert "s3cret" not in json.dumps(signal.detail)


@pytest.mark.parametrize(
    "name", ["nextToken", "clientToken", "clientRequestToken", "continuationToken", "secretId", "kmsKeyId"]
)
def test_what_only_sounds_like_a_secret_stays(name: str) -> None:
    assert "needed" in json.dumps(signal_of(envelope(requestParameters={name: "needed"})).detail)


def test_a_setting_that_is_named_after_a_secret_stays() -> None:
    said = {"manageMasterUserPassword": True, "password": None}
    assert signal_of(envelope(requestParameters=said)).detail["requestParameters"] == said


def test_a_megabyte_of_event_is_read_like_any_other() -> None:
    assert signal_of(envelope(requestParameters={"x": "y" * 1_000_000})).event_id == "event-1"


@pytest.mark.parametrize("value", [[], {}, ["true"], "TRUE", 1, 0.5])
def test_a_flag_of_any_shape_is_read_without_an_error(value: object) -> None:
    intake.read(envelope(readOnly=value))
    intake.read({**envelope(), "region": value})


def test_half_a_character_is_refused_so_that_the_queue_keeps_it() -> None:
    with pytest.raises(MalformedEventError, match="lone surrogate"):
        intake.read(envelope(requestParameters={"groupId": "sg-\ud800"}))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_all_calendars_falls_back_to_the_envelope(text: str) -> None:
    assert signal_of(envelope(eventTime=text)).at.year == 2026
