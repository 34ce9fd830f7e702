"""Working together from the command line: the policy, invitations, and what people do with a case beside deciding it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.cli.teamwork import EXAMPLES
from chalicelib.domain.policy import Engagement, Policy, PolicySetting
from chalicelib.flow.casework import CallIncident, Claim, Comment, HandOver, WantTicket
from chalicelib.flow.command import AnswerAsk
from chalicelib.flow.governing import Invite, SetPolicy, Uninvite, digest_of

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
IDP = "https://idp.example"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.toml"))


@pytest.fixture
def example(redress: Any, tmp_path: Path) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(redress("example-policy", "security-team").stdout, encoding="utf-8")
    return file


@pytest.fixture
def stands(redress: Any) -> PolicySetting:
    """The policy of a team of two stands already."""
    redress.ledger.standing = setting = PolicySetting(
        policy=parsed("team-of-two"), by="olga", at=NOW, reason="first"
    )
    return setting


def parsed(name: str) -> Policy:
    import tomllib

    read = tomllib.loads((EXAMPLES / f"{name}.toml").read_text(encoding="utf-8"))
    return Policy.model_validate_json(json.dumps(read, default=str))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_can_be_set_as_it_is(redress: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(redress("example-policy", name).stdout, encoding="utf-8")
    assert (
        redress.json("example-policy", name)[0]["toml"].rstrip() == file.read_text(encoding="utf-8").rstrip()
    )
    result = redress("set-policy", file, "--reason", "we begin", "--stage", "prod")
    assert result.exit_code == 0, result.output
    ((stage, _, command),) = redress.posted
    assert stage == "prod"
    assert isinstance(command, SetPolicy)
    assert (command.replaces, command.reason) == ("", "we begin")
    assert command.policy == parsed(name).model_copy(update={"console_url": "https://prod.example/api"})


def test_both_examples_are_there_and_another_is_not_made_up(redress: Any) -> None:
    assert NAMES == ["security-team", "team-of-two"]
    result = redress("example-policy", "nobody")
    assert (result.exit_code, "security-team, team-of-two" in result.output) == (2, True)


def test_a_policy_replaces_the_one_that_stands_and_no_other(
    redress: Any, example: Path, stands: PolicySetting
) -> None:
    redress("set-policy", example, "--reason", "more people")
    ((_, _, command),) = redress.posted
    assert command.replaces == digest_of(stands.policy)


@pytest.mark.parametrize("identity", ["foo", "email:auditor@example.com", "oidc:https://idp.example#\u202e"])
def test_what_is_no_identity_is_told_how_identities_are_written(redress: Any, identity: str) -> None:
    result = redress("invite", "acme-2026", "--who", "Ann", "--identity", identity, "--reason", "r")
    assert (result.exit_code, redress.posted) == (2, [])
    said = " ".join(result.stderr.split())
    assert (
        "identity: must be oidc:<issuer>#<sub>, email:<issuer>#<address>, slack:<team>/<user> or the ARN of"
        in said
    )
    assert "pattern" not in said
    assert identity not in said


def test_what_is_no_short_name_is_told_how_short_names_are_written(redress: Any) -> None:
    result = redress("invite", "ACME", "--who", "Ann", "--identity", f"oidc:{IDP}#s", "--reason", "r")
    assert "id: must be up to 40 lower-case letters, digits and hyphens" in " ".join(result.stderr.split())


def test_an_address_in_the_file_is_left_as_it_is(redress: Any, example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    example.write_text(f'console_url = "https://redress.example"\n{text}', encoding="utf-8")
    redress("set-policy", example, "--reason", "own domain")
    assert redress.posted[0][2].policy.console_url == "https://redress.example"


@pytest.mark.parametrize(
    "text, says",
    [
        ("people = ", "cannot be read"),
        ("[people]\n", "rules: Field required"),
        ("", "people: Field required"),
    ],
)
def test_a_file_that_is_no_policy_is_not_sent(redress: Any, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text, encoding="utf-8")
    result = redress("set-policy", file, "--reason", "r")
    assert (result.exit_code, redress.posted) == (2, [])
    assert says in result.output
    assert redress("set-policy", tmp_path / "gone.toml", "--reason", "r").exit_code == 2


def test_the_policy_is_shown_in_words_and_whole(redress: Any, stands: PolicySetting) -> None:
    text = redress("policy").stdout
    for part in (
        "olga",
        "first",
        "anna",
        "Bert Builder",
        "everyday",
        "low, medium",
        "C0000000001",
        "Europe/Berlin",
    ):
        assert part in text
    assert redress.json("policy") == [stands.model_dump(mode="json")]


def test_routes_without_hours_say_so(redress: Any, stands: PolicySetting) -> None:
    policy = parsed("security-team")
    redress.ledger.standing = stands.model_copy(update={"policy": policy})
    text = redress("policy").stdout
    assert "always" in text
    assert "schedule:primary" in text


def test_without_a_policy_it_is_said_what_holds(redress: Any) -> None:
    text = redress("policy").stdout
    assert "no policy is set" in text
    assert "example-policy" in text


def test_an_auditor_is_invited_for_some_accounts_and_days(redress: Any) -> None:
    identity = "email:https://accounts.example#aud@firm.example"
    given = ("--who", "Ada Auditor", "--identity", identity, "--account", "111122223333", "--days", "60")
    result = redress("invite", "acme-2031", *given, "--reason", "the yearly audit")
    assert result.exit_code == 0, result.output
    wanted = Invite(
        id="acme-2031",
        name="Ada Auditor",
        identity=identity,
        accounts=("111122223333",),
        days=60,
        reason="the yearly audit",
    )
    assert redress.posted[0][2] == wanted
    assert redress("invite", "acme-2031", *given[:-1], "91", "--reason", "r").exit_code == 2
    assert redress("invite", "acme-2031", *given[:5], "12", "--reason", "r").exit_code == 2
    assert len(redress.posted) == 1


def test_invitations_are_listed_with_those_that_are_over(redress: Any) -> None:
    one = Engagement(
        id="acme-2031",
        name="Ada Auditor",
        identity="oidc:https://accounts.example#1",
        by="olga",
        at=NOW,
        until=NOW + timedelta(days=1),
        reason="the yearly audit",
    )
    over = one.model_copy(update={"id": "acme-2030", "until": NOW, "accounts": ("111122223333",)})
    redress.ledger.invited = (one, over)
    text = redress("invitations").stdout
    assert text.count("(over)") == 1
    assert "111122223333" in text
    assert [shown["id"] for shown in redress.json("invitations")] == ["acme-2031", "acme-2030"]


def test_what_people_do_with_a_case_is_sent_as_it_was_said(redress: Any) -> None:
    case = redress.ledger.ask()
    commands = {
        ("uninvite", "acme-2031", "--reason", "done"): Uninvite(id="acme-2031", reason="done"),
        ("claim", case.id, "--reason", "mine"): Claim(case=case.id, reason="mine"),
        ("hand-over", case.id, "--to", "bert", "--reason", "off"): HandOver(
            case=case.id, to="bert", reason="off"
        ),
        ("comment", case.id, "a test box"): Comment(case=case.id, reason="a test box"),
        ("incident", case.id, "--cause", "typo", "--reason", "r"): CallIncident(
            case=case.id, declared=True, root_cause="typo", reason="r"
        ),
        ("incident", case.id, "--none", "--cause", "drill", "--reason", "r"): CallIncident(
            case=case.id, declared=False, root_cause="drill", reason="r"
        ),
        ("open-ticket", case.id, "--reason", "by hand"): WantTicket(case=case.id, ask=1, reason="by hand"),
        ("withdraw", case.id, "--reason", "hasty"): AnswerAsk(
            case=case.id, ask=1, plan_hash="f" * 64, approve=True, reason="hasty", withdraw=True
        ),
        ("approve", case.id, "--break-glass", "--yes", "--reason", "now"): AnswerAsk(
            case=case.id, ask=1, plan_hash="f" * 64, approve=True, reason="now", break_glass=True
        ),
    }
    for line in commands:
        result = redress(*line)
        assert result.exit_code == 0, result.output
    assert [command for _, _, command in redress.posted] == list(commands.values())
