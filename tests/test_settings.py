"""The settings: what is missing or unusable is named, and nothing is guessed."""

import tomllib
from pathlib import Path

import pytest

from chalicelib.domain.limits import Limits
from chalicelib.flow.act import CALL_LASTS
from chalicelib.settings import SHORTEST_LEASE, MissingSettingError, Settings, from_environment

WHOLE = {"REDRESS_STAGE": "dev", "REDRESS_ACCOUNT": "111111111111", "AWS_REGION": "eu-central-1"}


def test_three_settings_suffice_and_the_rest_has_the_published_defaults() -> None:
    settings = from_environment(WHOLE)
    assert settings == Settings(stage="dev", account="111111111111", region="eu-central-1")
    limits = (settings.limit_per_control, settings.limit_per_account, settings.limit_per_actor)
    assert limits == (Limits().per_control, Limits().per_account, Limits().per_actor)
    assert settings.lease_seconds == 75


def test_the_version_is_the_package_s_and_the_readme_s() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == Settings.version
    assert f"This is version {Settings.version}." in (root / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("absent", list(WHOLE))
def test_a_setting_that_is_missing_is_named(absent: str) -> None:
    with pytest.raises(MissingSettingError, match=absent):
        from_environment({name: value for name, value in WHOLE.items() if name != absent})


@pytest.mark.parametrize("text", ["", "-1", "1.5", "five", "\u0665", " 5"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MissingSettingError, match="REDRESS_LIMIT_PER_CONTROL"):
        from_environment({**WHOLE, "REDRESS_LIMIT_PER_CONTROL": text})


def test_a_limit_of_zero_is_a_limit() -> None:
    assert from_environment({**WHOLE, "REDRESS_LIMIT_PER_ACCOUNT": "0"}).limit_per_account == 0


def test_a_lease_in_which_no_write_could_begin_is_refused() -> None:
    assert CALL_LASTS.total_seconds() < SHORTEST_LEASE
    with pytest.raises(MissingSettingError, match="25 or more"):
        from_environment({**WHOLE, "REDRESS_LEASE_SECONDS": "20"})


def test_names_follow_from_the_stage() -> None:
    settings = from_environment(WHOLE)
    assert settings.table("control_state") == "redress-dev-control-state"
    assert settings.queue("events-dlq") == "redress-dev-events-dlq"
    assert settings.queue("notices") == "redress-dev-notices.fifo"
    assert settings.queue("notices-dlq") == "redress-dev-notices-dlq.fifo"
    assert settings.role("act") == "redress-dev-act"
    assert settings.secret("console") == "redress-dev/console"


def test_the_topic_is_the_one_that_the_template_names() -> None:
    arn = "arn:aws:sns:eu-central-1:111111111111:redress-dev-people"
    assert from_environment({**WHOLE, "REDRESS_PEOPLE_TOPIC": arn}).people_topic == arn


HERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}


def test_another_slack_is_spoken_to_in_the_emulated_world_alone() -> None:
    fake = {"REDRESS_SLACK_API": "http://127.0.0.1:8080/api/"}
    settings = from_environment({**WHOLE, **HERE, **fake})
    assert (settings.emulated, settings.slack_api) == (True, "http://127.0.0.1:8080/api/")
    assert from_environment({**WHOLE, **HERE}).slack_api is None
    assert from_environment(WHOLE).emulated is False
    with pytest.raises(MissingSettingError, match="REDRESS_SLACK_API"):
        from_environment({**WHOLE, **fake})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://sqs.us-east-1.amazonaws.com",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://localhost.evil.example",
        "http://127.0.0.1:4566\n",
        "",
    ],
)
def test_only_loopback_is_the_emulated_world(endpoint: str) -> None:
    assert from_environment({**WHOLE, "AWS_ENDPOINT_URL": endpoint}).emulated is False
    with pytest.raises(MissingSettingError, match="REDRESS_SLACK_API"):
        from_environment({**WHOLE, **HERE, "REDRESS_SLACK_API": endpoint})
