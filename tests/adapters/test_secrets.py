"""Secrets, on moto: read once in five minutes, in one shape or not at all, and told to nobody."""

import json
import logging
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from chalicelib.adapters.secrets import KEPT, Secrets
from chalicelib.domain.errors import StoreError
from tests.fakes.clock import FakeClock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

NAME = "redress-dev-console"
HELD = {
    "session_keys": ["newest-key", "older-key"],
    "session_key": "one-key",
    "providers": {"okta": "client-secret"},
    "slack_signing": [],
    "integrations": {"jira": {"email": "a@example.com", "token": "jira-token"}},
}


@pytest.fixture
def client() -> Iterator["SecretsManagerClient"]:
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="us-east-1")
        client.create_secret(Name=NAME, SecretString=json.dumps(HELD))
        yield client


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def secrets(client: "SecretsManagerClient", clock: FakeClock) -> Secrets:
    return Secrets(client, NAME, clock)


def put(client: "SecretsManagerClient", held: object) -> None:
    client.put_secret_value(SecretId=NAME, SecretString=held if isinstance(held, str) else json.dumps(held))


def test_texts_come_as_they_are_held(secrets: Secrets) -> None:
    assert secrets.texts("session_keys") == ("newest-key", "older-key")
    assert secrets.texts("session_key") == ("one-key",)
    assert secrets.texts("providers", "okta") == ("client-secret",)
    assert secrets.fields("integrations", "jira") == {"email": "a@example.com", "token": "jira-token"}


def test_what_stands_around_a_credential_is_none_of_it(
    client: "SecretsManagerClient", secrets: Secrets
) -> None:
    put(client, {"keys": ["first\n", " second"], "key": "\tthird\r\n", "github": {"token": "fourth\n"}})
    assert secrets.texts("keys") == ("first", "second")
    assert secrets.texts("key") == ("third",)
    assert secrets.fields("github") == {"token": "fourth"}


def test_what_is_not_there_is_nothing(secrets: Secrets) -> None:
    assert secrets.texts("slack_signing") == ()
    assert secrets.texts("providers", "google") == ()
    assert secrets.texts("hooks", "jira") == ()
    assert secrets.fields("integrations", "github") == {}


def test_it_is_read_once_in_five_minutes(
    client: "SecretsManagerClient", secrets: Secrets, clock: FakeClock
) -> None:
    assert secrets.texts("session_key") == ("one-key",)
    put(client, {"session_key": "another"})
    clock.advance(KEPT)
    clock.advance(seconds=-1)
    assert secrets.texts("session_key") == ("one-key",)
    clock.advance(seconds=1)
    assert secrets.texts("session_key") == ("another",)


def test_what_cannot_be_read_any_more_is_not_taken_from_memory(
    client: "SecretsManagerClient", secrets: Secrets, clock: FakeClock
) -> None:
    assert secrets.texts("session_key")
    client.delete_secret(SecretId=NAME)
    clock.advance(KEPT)
    for _ in range(2):
        with pytest.raises(StoreError, match="may read it"):
            secrets.texts("session_key")


def test_a_clock_that_went_back_does_not_keep_it_for_ever(
    client: "SecretsManagerClient", secrets: Secrets, clock: FakeClock
) -> None:
    assert secrets.texts("session_key")
    put(client, {"session_key": "another"})
    clock.advance(-KEPT)
    assert secrets.texts("session_key") == ("another",)


def test_an_absent_secret_is_an_error_with_its_name(client: "SecretsManagerClient", clock: FakeClock) -> None:
    with pytest.raises(StoreError, match=r"redress-dev-other: .*ResourceNotFoundException"):
        Secrets(client, "redress-dev-other", clock).texts("session_key")


@pytest.mark.parametrize(
    "held",
    ["", "s3cr3t", '["s3cr3t"]', '"s3cr3t"', "null", '{"session_key": "s3cr3t"', "[" * 20_000],
    ids=["empty", "text", "list", "string", "null", "half", "deep"],
)
def test_what_is_no_object_is_an_error_that_does_not_show_it(
    client: "SecretsManagerClient", secrets: Secrets, held: str
) -> None:
    put(client, held or " ")
    with pytest.raises(StoreError, match="is not a JSON object") as error:
        secrets.texts("session_key")
    assert "s3cr3t" not in told(error.value)


@pytest.mark.parametrize(
    "held",
    [
        {"k": 1},
        {"k": {"a": "s3cr3t"}},
        {"k": ["s3cr3t", 1]},
        {"k": ["s3cr3t", ""]},
        {"k": ""},
        {"k": True},
        {"k": [["s3cr3t"]]},
    ],
    ids=str,
)
def test_a_text_is_a_text(client: "SecretsManagerClient", secrets: Secrets, held: object) -> None:
    put(client, held)
    with pytest.raises(StoreError, match="at k is not a text") as error:
        secrets.texts("k")
    assert "s3cr3t" not in told(error.value)


@pytest.mark.parametrize(
    "held", [{"k": "s3cr3t"}, {"k": ["s3cr3t"]}, {"k": {"a": 1}}, {"k": {"a": ["s3cr3t"]}}], ids=str
)
def test_fields_are_texts(client: "SecretsManagerClient", secrets: Secrets, held: object) -> None:
    put(client, held)
    with pytest.raises(StoreError, match="at k is not an object of texts") as error:
        secrets.fields("k")
    assert "s3cr3t" not in told(error.value)


def test_a_path_leads_through_objects(client: "SecretsManagerClient", secrets: Secrets) -> None:
    put(client, {"providers": "s3cr3t"})
    with pytest.raises(StoreError, match="at providers is not an object") as error:
        secrets.texts("providers", "okta")
    assert "s3cr3t" not in told(error.value)


def test_a_binary_secret_is_none(client: "SecretsManagerClient", clock: FakeClock) -> None:
    client.create_secret(Name="binary", SecretBinary=b'{"session_key": "s3cr3t"}')
    with pytest.raises(StoreError, match="is not a JSON object"):
        Secrets(client, "binary", clock).texts("session_key")


def test_nothing_of_it_is_shown_or_logged(secrets: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    secrets.texts("session_keys")
    for text in (repr(secrets), str(secrets), caplog.text):
        assert "key" not in text.replace("session_key", "")
        assert "client-secret" not in text


def told(error: BaseException) -> str:
    """Everything that an error tells, and what it was raised while handling."""
    said = "".join(traceback.format_exception(error)) + repr(vars(error))
    return said + (told(error.__context__) if error.__context__ else "")
