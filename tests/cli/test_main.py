"""The commands that change something, and the command line as a whole."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from typer.testing import CliRunner

from chalicelib.cli.main import ROOT, app
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import (
    Enrol,
    Exempt,
    ReasonCode,
    Redrive,
    Revoke,
    SetDeploymentRole,
    SetFreeze,
    SetMode,
    SetOwner,
    Snooze,
    StartSweep,
    TakeUp,
)
from chalicelib.flow.desk import CommandResult

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
MEMBER = "444455556666"
CASE = "abcdefghijklmnopqrst-1"
ROLE = f"arn:aws:iam::{MEMBER}:role/deployer"
GROUP = f"arn:aws:ec2:eu-central-1:{MEMBER}:security-group/sg-1"
EXEMPT = (
    "exempt",
    GROUP,
    "--control",
    "c",
    "--account",
    MEMBER,
    "--owner",
    "team",
    "--code",
    "accepted_risk",
)


@pytest.mark.parametrize(
    "arguments, command",
    [
        (
            ("mode", "c", "ask", "--account", MEMBER, "--reason", "r"),
            SetMode(control="c", account=MEMBER, mode=Mode.ASK, reason="r"),
        ),
        (("freeze", "--reason", "r"), SetFreeze(on=True, reason="r")),
        (
            ("freeze", "--off", "--account", MEMBER, "--control", "c", "--reason", "r"),
            SetFreeze(on=False, account=MEMBER, control="c", reason="r"),
        ),
        (
            (*EXEMPT, "--reason", "r", "--until", "90d"),
            Exempt(
                resource=GROUP,
                control="c",
                account=MEMBER,
                owner="team",
                code=ReasonCode.ACCEPTED_RISK,
                reason="r",
                expires_at=NOW + timedelta(days=90),
            ),
        ),
        (
            (*EXEMPT, "--reason", "r", "--until", "2031-06-01T00:00:00Z"),
            Exempt(
                resource=GROUP,
                control="c",
                account=MEMBER,
                owner="team",
                code=ReasonCode.ACCEPTED_RISK,
                reason="r",
                expires_at=datetime(2031, 6, 1, tzinfo=UTC),
            ),
        ),
        (("enrol", MEMBER, "--reason", "r"), Enrol(account=MEMBER, reason="r")),
        (("redrive", "events", "--reason", "r", "--most", "5"), Redrive(queue="events", most=5, reason="r")),
        (("redrive", "undo", "--reason", "r"), Redrive(queue="undo", most=100, reason="r")),
        (("snooze", CASE, "--reason", "r"), Snooze(case=CASE, days=1, reason="r")),
        (("snooze", CASE, "--reason", "r", "--days", "7"), Snooze(case=CASE, days=7, reason="r")),
        (("take-up", CASE, "--reason", "r"), TakeUp(case=CASE, reason="r")),
        (("sweep", "--reason", "r"), StartSweep(reason="r")),
        (("sweep", "--account", MEMBER, "--reason", "r"), StartSweep(account=MEMBER, reason="r")),
        (
            ("revoke", GROUP, "--control", "c", "--account", MEMBER, "--reason", "r"),
            Revoke(resource=GROUP, control="c", account=MEMBER, reason="r"),
        ),
        (
            ("deployment-role", ROLE, "--account", MEMBER, "--tool", "cdk", "--reason", "r"),
            SetDeploymentRole(account=MEMBER, role_arn=ROLE, tool="cdk", reason="r"),
        ),
        (
            ("deployment-role", ROLE, "--account", MEMBER, "--remove", "--reason", "r"),
            SetDeploymentRole(account=MEMBER, role_arn=ROLE, remove=True, reason="r"),
        ),
        (
            ("owner", "network team", "--account", MEMBER, "--reason", "r"),
            SetOwner(account=MEMBER, owner="network team", reason="r"),
        ),
    ],
)
def test_a_command_is_posted_and_what_was_recorded_is_shown(
    redress: Any, arguments: tuple[str, ...], command: object
) -> None:
    result = redress(*arguments, "--stage", "prod", "--api", "https://x.example/api")
    assert result.exit_code == 0, result.output
    assert redress.posted == [("prod", "https://x.example/api", command)]
    assert result.stdout.splitlines() == ["done", "recorded as number 4 of SYS#1#203105 (r4)"]
    assert redress.json(*arguments)[0]["record_id"] == "r4"


def test_a_command_that_changed_nothing_claims_no_record(redress: Any) -> None:
    redress.answers = CommandResult(changed=False, says="it was so already")
    assert redress("enrol", MEMBER, "--reason", "r").stdout == "it was so already\n"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("mode", "c", "shoot", "--account", MEMBER, "--reason", "r"), "observe, ticket, ask, act"),
        (("mode", "c", "ask", "--account", "44", "--reason", "r"), "twelve digits"),
        (("enrol", "abc", "--reason", "r"), "twelve digits"),
        (("freeze", "--account", "44", "--reason", "r"), "twelve digits"),
        (("mode", "c", "ask", "--account", MEMBER, "--reason", "\x1b[2J"), "control characters"),
        (("mode", "c", "ask", "--account", MEMBER), "--reason"),
        (("freeze", "--control", "c", "--reason", "r"), "name the account"),
        (
            (*EXEMPT[:-1], "because", "--reason", "r", "--until", "9d"),
            "Invalid value: code: must be 'false_positive', 'accepted_risk' or 'compensating'",
        ),
        (
            ("redrive", "all", "--reason", "r"),
            "Invalid value: queue: must be 'events', 'commands', 'undo' or 'notices'",
        ),
        (("redrive", "events", "--most", "0", "--reason", "r"), "most: must be greater than or equal to 1"),
        (("snooze", CASE, "--days", "8", "--reason", "r"), "days: must be less than or equal to 7"),
        (("approve", "--reason", "r"), "Missing argument 'case'"),
        (("ticket",), "Missing argument 'ticket'"),
        (
            ("log", "--type", "X"),
            "No such option: --type (Possible options: --account, --control, --help, --json,",
        ),
        (("case", CASE, "--quite-another"), "(Possible options: --help, --json, --stage)"),
        (("snooze", CASE[:20], "--reason", "r"), "whole id"),
        (("take-up", "x", "--reason", "r"), "whole id"),
        (("sweep", "--account", "all", "--reason", "r"), "twelve digits"),
        (("deployment-role", ROLE, "--account", MEMBER, "--tool", "make", "--reason", "r"), "terraform"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_sent(
    redress: Any, arguments: tuple[str, ...], says: str
) -> None:
    result = redress(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr.replace("\n", " ")
    assert redress.posted == []


def test_an_exemption_needs_an_end(redress: Any) -> None:
    assert redress(*EXEMPT, "--reason", "r").exit_code == 2
    assert redress(*EXEMPT, "--reason", "r", "--until", "never").exit_code == 1
    assert redress.posted == []


def test_the_answer_of_the_api_cannot_paint(
    redress: Any, hostile: str, harmful: Callable[[str], bool]
) -> None:
    text = hostile.replace("\ud800", "?")
    redress.answers = CommandResult(changed=True, says=text, chain=text, seq=1, record_id=text)
    for extra in ((), ("--json",)):
        assert not harmful(redress("freeze", "--reason", "r", *extra).output)


def test_the_stage_comes_from_the_environment_unless_it_is_named(
    redress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRESS_STAGE", "blue")
    monkeypatch.setenv("REDRESS_API", "https://blue.example")
    redress("freeze", "--reason", "r")
    redress("freeze", "--reason", "r", "--stage", "green")
    assert [(stage, url) for stage, url, _ in redress.posted] == [
        ("blue", "https://blue.example"),
        ("green", "https://blue.example"),
    ]


def test_every_command_takes_json_and_explains_itself() -> None:
    import typer

    group: Any = typer.main.get_command(app)
    assert len(group.commands) == 47
    for name, command in group.commands.items():
        assert any("--json" in option.opts for option in command.params), name
        assert command.help, name
        for option in command.params:
            assert getattr(option, "help", ""), (name, option.name)


@pytest.mark.parametrize(
    "stage, gone, says",
    [
        (
            "dev",
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
            "log in (aws sso login)",
        ),
        ("Dev", (), "is no stage"),
    ],
)
def test_a_deployment_that_cannot_begin_says_why_before_it_packages(
    redress: Any, monkeypatch: pytest.MonkeyPatch, stage: str, gone: tuple[str, ...], says: str
) -> None:
    monkeypatch.setattr("chalicelib.cli.package.package", lambda *_: pytest.fail("packaged"))
    for name in gone:
        monkeypatch.delenv(name)
    result = redress("deploy", "--stage", stage)
    assert result.exit_code in {1, 2}
    assert says in result.stderr


def test_what_aws_refuses_on_the_way_is_a_sentence_and_no_traceback(
    redress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no s3:PutObject"}}, "PutObject")

    monkeypatch.setattr("chalicelib.cli.package.package", lambda *_: None)
    monkeypatch.setattr("chalicelib.cli.deploy.deploy", refused)
    with mock_aws():
        result = redress("deploy", "--stage", "dev")
    assert result.exit_code == 1
    assert "redress-dev in account 123456789012, us-east-1" in result.stderr
    assert "no s3:PutObject" in result.stderr
    assert "deploy again" in result.stderr


def test_no_command_at_all_shows_the_help() -> None:
    assert "Exit codes: 0 done" in CliRunner().invoke(app, []).output


def test_asking_for_help_loads_neither_boto3_nor_the_engine() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from chalicelib.cli.main import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print([m for m in ('boto3', 'botocore', 'chalice', 'chalicelib.flow.pipeline', 'rich.table') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_stale_file_fails_the_check_and_is_written_without_it(redress: Any, tmp_path: Path) -> None:
    checked = redress("docs", "--check", "--root", tmp_path)
    assert checked.exit_code == 1
    assert "run `redress docs`" in checked.stderr
    assert list(tmp_path.iterdir()) == []
    assert redress("docs", "--root", tmp_path).exit_code == 0
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        "controls.md",
        "records.md",
        "reference.md",
        "remediations.md",
    }
    assert redress.json("docs", "--check", "--root", tmp_path) == [{"checked": 4, "written": []}]
