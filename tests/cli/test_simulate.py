"""`redress simulate`: what would happen, from the walk's own functions, and nothing that could write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[..., Path]
Event = Callable[..., dict[str, Any]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"open_rules": ["sgr-1"], "foreign": []}))
    return path


def test_a_fresh_violation_would_be_repaired_and_every_call_says_why(
    redress: Any, write: Write, opened: Event, state: Path
) -> None:
    ((simulated,),) = redress.json("simulate", write("e.json", opened()), "--state", state)
    assert (simulated["decision"], simulated["rule"], simulated["mode"]) == ("act", "acting", "act")
    (call,) = simulated["calls"]
    assert (call["operation"], call["why"]) == ("RevokeSecurityGroupIngress", "sgr-1 lets the world in")
    assert len(simulated["plan_hash"]) == 64


@pytest.mark.parametrize(
    "mode, verdict", [("observe", "observe"), ("ticket", "ticket"), ("ask", "ask"), ("act", "act")]
)
def test_the_mode_is_what_one_pretends(
    redress: Any, write: Write, opened: Event, state: Path, mode: str, verdict: str
) -> None:
    ((simulated,),) = redress.json("simulate", write("e.json", opened()), "--state", state, "--mode", mode)
    assert simulated["decision"] == verdict


def test_the_ceiling_of_the_control_holds_in_a_simulation_too(
    redress: Any, write: Write, opened: Event, state: Path, a_control: Callable[..., Any]
) -> None:
    from chalicelib.domain.contract import Mode

    redress.catalog = type(redress.catalog)((a_control(ceiling=Mode.ASK),))
    ((simulated,),) = redress.json("simulate", write("e.json", opened()), "--state", state, "--mode", "act")
    assert (simulated["decision"], simulated["mode"]) == ("ask", "ask")


def test_an_old_event_is_asked_about_now_and_acted_on_at_its_own_time(
    redress: Any, write: Write, opened: Event, state: Path
) -> None:
    path = write("e.json", opened(eventTime="2031-05-01T12:00:00Z"))
    ((now,),) = redress.json("simulate", path, "--state", state)
    ((then,),) = redress.json("simulate", path, "--state", state, "--at", "event")
    assert (now["decision"], then["decision"]) == ("ask", "act")
    assert now["plan_hash"] == then["plan_hash"]


def test_what_is_declined_is_shown(redress: Any, write: Write, opened: Event, state: Path) -> None:
    state.write_text(json.dumps({"open_rules": [], "foreign": ["sgr-9"]}))
    path = write("e.json", opened())
    ((simulated,),) = redress.json("simulate", path, "--state", state)
    assert simulated["declined"] == [{"what": "sgr-9", "why": "it belongs to another account"}]
    text = redress("simulate", path, "--state", state).stdout
    assert "declined: sgr-9: it belongs to another account" in text


def test_without_a_state_the_live_resource_is_read(redress: Any, write: Write, opened: Event) -> None:
    ((simulated,),) = redress.json("simulate", write("e.json", opened()))
    assert simulated["state"] == {"open_rules": ["sgr-1"], "foreign": []}


def test_an_event_that_asks_nothing_of_us_says_why(redress: Any, write: Write, opened: Event) -> None:
    path = write("e.json", opened(errorCode="AccessDenied"))
    ((nothing,),) = redress.json("simulate", path)
    assert (nothing["decision"], nothing["calls"]) == ("ignore", [])
    assert "the call failed" in nothing["reason"]
    assert "the call failed" in redress("simulate", path).stdout


def test_a_control_without_a_remediation_would_be_a_ticket_at_most(
    redress: Any, write: Write, opened: Event, a_control: Callable[..., Any]
) -> None:
    redress.catalog = type(redress.catalog)((a_control("ec2-other"),))
    ((nothing,),) = redress.json("simulate", write("e.json", opened()))
    assert "no remediation covers ec2-other" in nothing["reason"]


@pytest.mark.parametrize(
    "content, says",
    [("{}", "open_rules"), ('{"open_rules": 7}', "open_rules"), ("{", "is not JSON"), ("", "is not JSON")],
)
def test_a_state_that_is_none_is_refused_in_words(
    redress: Any, write: Write, opened: Event, state: Path, content: str, says: str
) -> None:
    state.write_text(content)
    result = redress("simulate", write("e.json", opened()), "--state", state)
    assert result.exit_code == 1
    assert says in result.stderr


@pytest.mark.parametrize("arguments, code", [(("--mode", "shoot"), 2), (("--at", "noon"), 1)])
def test_a_wrong_option_is_answered_with_what_is_right(
    redress: Any, write: Write, opened: Event, state: Path, arguments: tuple[str, str], code: int
) -> None:
    result = redress("simulate", write("e.json", opened()), "--state", state, *arguments)
    assert result.exit_code == code
    assert "observe" in result.stderr or "24h" in result.stderr


def test_strangers_cannot_paint_a_simulation(
    redress: Any, write: Write, opened: Event, hostile: str, harmful: Callable[[str], bool], state: Path
) -> None:
    path = write("e.json", opened(group=hostile.replace("\ud800", "?"), arn=hostile.replace("\ud800", "?")))
    for result in (
        redress("simulate", path, "--state", state),
        redress("simulate", path, "--state", state, "--json"),
    ):
        assert result.exit_code == 0, result.output
        assert not harmful(result.output)


def test_simulation_imports_nothing_that_could_execute_a_plan() -> None:
    source = Path("chalicelib/cli/simulate.py").read_text(encoding="utf-8")
    assert ".executor(" not in source
    assert "flow.act" not in source


def test_a_finding_that_is_over_does_not_hide_the_one_beside_it(
    redress: Any, write: Write, state: Path, a_control: Callable[..., Any]
) -> None:
    redress.catalog = type(redress.catalog)((a_control(config_rule_names=("restricted-ssh",)),))
    event = {
        "detail-type": "Config Rules Compliance Change",
        "source": "aws.config",
        "detail": {
            "awsAccountId": "111122223333",
            "awsRegion": "eu-central-1",
            "configRuleName": "securityhub-restricted-ssh-abc123",
            "resourceType": "AWS::EC2::SecurityGroup",
            "resourceId": "sg-1",
            "newEvaluationResult": {"complianceType": "NON_COMPLIANT"},
        },
    }
    ((simulated,),) = redress.json("simulate", write("e.json", event), "--state", state)
    assert simulated["resource"].endswith("security-group/sg-1")
