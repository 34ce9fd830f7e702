"""The people's side of the command line: what waits, the answer to exactly what was shown, tickets, exemptions, sweeps."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.cli import screen
from chalicelib.domain.approval import Answer, Answers, Kind, Undone
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Call, MonthlyCost, Plan
from chalicelib.domain.errors import RedressError
from chalicelib.domain.ports import DeploymentRole, Enrolment, Exemption, Owner
from chalicelib.domain.sweep import OPEN_CASES, Part, Sweep
from chalicelib.domain.ticket import TicketState
from chalicelib.flow.command import AnswerAsk, Undo

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
HOME, MEMBER = "111122223333", "444455556666"
HASH = "f" * 64

# ------------------------------------------------------------------------------------------------------- what waits


def test_what_waits_is_listed_with_what_would_be_done_and_who_may_not_approve(redress: Any) -> None:
    case = redress.ledger.ask()
    (shown,) = redress.json("waiting")
    assert (shown["case"], shown["open"], shown["plan_hash"]) == (case.id, True, HASH)
    assert shown["may_not_approve"] == [f"arn:aws:iam::{HOME}:user/mallory"]
    assert shown["calls"][0]["command"].startswith(
        "aws ec2 revoke-security-group-ingress --region eu-central-1"
    )
    text = redress("waiting").stdout
    for part in (case.id, "sgr-1 lets the world in", "user/mallory", "2031-05-07T19:00:00.000Z"):
        assert part in text


def test_an_ask_that_nobody_has_ended_yet_is_said_to_be_over(redress: Any) -> None:
    redress.ledger.ask(expires_at=NOW, plan=Plan())
    assert redress.json("waiting")[0]["open"] is False
    text = redress("waiting").stdout
    assert "expired 2031-05-07T12:00:00.000Z" in text
    assert "nothing that the engine could do" in text


def test_where_nothing_waits_it_is_said(redress: Any) -> None:
    redress.ledger.tell()
    assert redress("waiting").stdout == "nothing waits for an answer\n"
    assert redress.json("waiting") == []


def test_the_ask_that_ends_first_is_listed_first(redress: Any) -> None:
    later = redress.ledger.ask()
    sooner = redress.ledger.ask(expires_at=NOW + timedelta(minutes=5)).model_copy(update={"episode": 2})
    redress.ledger.known = [later, sooner]
    assert [one["case"] for one in redress.json("waiting")] == [sooner.id, later.id]


# ------------------------------------------------------------------------------------------------ approve and deny


@pytest.mark.parametrize(
    "word, approve, asks", [("approve", True, "Approve exactly"), ("deny", False, "Deny it?")]
)
def test_an_answer_shows_the_plan_and_sends_the_hash_that_was_shown(
    redress: Any, word: str, approve: bool, asks: str
) -> None:
    case = redress.ledger.ask()
    result = redress(word, case.id, "--reason", "r", "--stage", "prod", "--api", "https://x.example")
    assert result.exit_code == 0, result.output
    command = AnswerAsk(case=case.id, ask=1, plan_hash=HASH, approve=approve, reason="r")
    assert redress.posted == [("prod", "https://x.example", command)]
    assert redress.questions[0].startswith(asks)
    for part in (
        'open_rules: ["sgr-1"]',
        "1. sgr-1 lets the world in",
        "aws ec2 revoke-security-group-ingress",
        "left alone: ",
        "note: ",
        "as code:",
        HASH,
        "2031-05-07T19:00:00.000Z",
        "may not approve",
        "recorded as number 4",
    ):
        assert part in result.stdout


@pytest.mark.parametrize("word", ["approve", "deny"])
def test_who_says_no_sends_nothing(redress: Any, word: str) -> None:
    case, redress.says_yes = redress.ledger.ask(), False
    result = redress(word, case.id, "--reason", "r")
    assert (result.exit_code, redress.posted) == (1, [])
    assert "nothing was sent" in result.stderr


def test_with_yes_nobody_is_asked_and_the_plan_is_shown_all_the_same(redress: Any) -> None:
    case = redress.ledger.ask()
    result = redress("approve", case.id, "--reason", "r", "--yes")
    assert (result.exit_code, redress.questions, len(redress.posted)) == (0, [], 1)
    assert "sgr-1 lets the world in" in result.stdout


def test_json_alone_approves_nothing_that_nobody_saw(redress: Any) -> None:
    case = redress.ledger.ask()
    result = redress("approve", case.id, "--reason", "r", "--json")
    assert (result.exit_code, redress.posted) == (2, [])
    assert "say --yes too" in result.stderr.replace("\n", " ")
    assert redress.json("approve", case.id, "--reason", "r", "--yes")[0]["record_id"] == "r4"


def test_without_a_terminal_nothing_is_confirmed(redress: Any) -> None:
    class NobodyError(RedressError):
        pass

    def nobody(_question: str) -> bool:
        raise NobodyError("nobody is at a terminal")

    case, redress.confirm = redress.ledger.ask(), nobody
    result = redress("approve", case.id, "--reason", "r")
    assert (result.exit_code, redress.posted) == (1, [])
    assert "nobody is at a terminal" in result.stderr


def test_a_case_that_asks_nothing_is_not_answered(redress: Any) -> None:
    case = redress.ledger.tell()
    result = redress("approve", case.id, "--reason", "r", "--yes")
    assert (result.exit_code, redress.posted) == (1, [])
    assert f"nobody is asked about case {case.id}: it is open" in result.stderr
    assert redress("deny", "nothing", "--reason", "r").exit_code == 1


def test_a_reason_that_cannot_be_one_is_refused_before_anything_is_shown(redress: Any) -> None:
    case = redress.ledger.ask()
    result = redress("approve", case.id, "--reason", " ")
    assert (result.exit_code, redress.posted, redress.questions) == (2, [], [])
    assert "1 to 500 characters" in result.stderr


def test_an_undo_is_shown_as_one(redress: Any) -> None:
    undone = Undone(run=2, by="arn:olga", reason="r", owner="ann", until=NOW + timedelta(days=7))
    cost = MonthlyCost(usd_cents=1205, basis="a bucket for logs")
    call = Call(service="s3", operation="PutBucketAcl", params={}, why="as it was")
    case = redress.ledger.ask(kind=Kind.UNDO, undo=undone, plan=Plan(calls=(call,), monthly_cost=cost))
    text = redress("deny", case.id, "--reason", "r").stdout
    for part in ("arn:olga", "2031-05-14T12:00:00.000Z", "US$ 12.05 a month: a bucket for logs", "undo"):
        assert part in text
    assert "undo run 2: as it was" in redress("waiting").stdout
    redress.ledger.ask(plan=Plan(monthly_cost=MonthlyCost(usd_cents=None, basis="no price list")))
    assert redress.json("waiting")[1]["monthly_cost"] == "unknown: no price list"


# --------------------------------------------------------------------------------------------------------------- undo


@pytest.mark.parametrize(
    "arguments, command",
    [
        ((), Undo(case="abcdefghijklmnopqrst-1", run=2, reason="r")),
        (("--run", "1"), Undo(case="abcdefghijklmnopqrst-1", run=1, reason="r")),
        (
            ("--days", "30", "--owner", "ann"),
            Undo(case="abcdefghijklmnopqrst-1", run=2, days=30, owner="ann", reason="r"),
        ),
    ],
)
def test_an_undo_is_of_the_last_run_unless_another_is_named(
    redress: Any, arguments: tuple[str, ...], command: Undo
) -> None:
    case = redress.ledger.ask()
    assert redress("undo", case.digest, "--reason", "r", *arguments).exit_code == 0
    assert [one for _, _, one in redress.posted] == [command]


@pytest.mark.parametrize("arguments", [("--days", "31"), ("--run", "0"), ("--owner", "")])
def test_an_undo_that_is_none_is_not_sent(redress: Any, arguments: tuple[str, ...]) -> None:
    case = redress.ledger.ask()
    assert redress("undo", case.id, "--reason", "r", *arguments).exit_code == 2
    assert redress.posted == []


def test_where_nothing_was_changed_nothing_is_undone(redress: Any) -> None:
    case = redress.ledger.tell()
    result = redress("undo", case.id, "--reason", "r")
    assert (result.exit_code, redress.posted) == (1, [])
    assert "nothing was changed" in result.stderr


# ------------------------------------------------------------------------------------------------------------ a case


def test_a_case_shows_what_it_waits_for_and_what_was_answered(redress: Any) -> None:
    case = redress.ledger.ask()
    said = Answer(by="arn:jane", principal="arn:jane", at=NOW, approve=False, reason="no", request_id="r")
    redress.ledger.said = [Answers(case=case.id, ask=1, plan_hash=HASH, answers=(said,), version=1)]
    ticket = redress.ledger.ticket()
    redress.ledger.known = [case.model_copy(update={"ticket": ticket, "wakes_at": NOW + timedelta(days=1)})]
    text = redress("case", case.id).stdout
    for part in (
        "asked            part of the plan may cut access (until 2031-05-07T19:00:00.000Z, plan ffff",
        "denied           by arn:jane at 2031-05-07T12:00:00.000Z: no",
        f"ticket           {ticket.id}, open: Close SSH",
        "looked at again  2031-05-08T12:00:00.000Z",
        "verified: 3 records",
    ):
        assert part in text
    (shown,) = redress.json("case", case.id)
    assert [one["by"] for one in shown["answers"]] == ["arn:jane"]
    assert shown["case"]["ask"]["plan_hash"] == HASH
    redress.at = NOW + timedelta(days=1)
    assert "(expired 2031-05-07T19:00:00.000Z" in redress("case", case.id).stdout


def test_a_case_that_waits_for_nothing_says_nothing_of_it(redress: Any) -> None:
    case = redress.ledger.tell()
    lines = redress("case", case.id).stdout.splitlines()
    told = lines[: next(number for number, line in enumerate(lines) if not line.strip())]
    assert [line.partition(" ")[0] for line in told] == ["case", "resource", "state", "reason"]


# ------------------------------------------------------------------------------------------------------------ tickets


def test_open_tickets_are_listed_and_closed_ones_on_demand(redress: Any) -> None:
    redress.ledger.ticket()
    redress.ledger.ticket(number=2, state=TicketState.CLOSED, closed_because="it is compliant")
    assert [one["id"] for one in redress.json("tickets")] == ["abcdefghijklmnopqrst-t1"]
    assert len(redress.json("tickets", "--all")) == 2
    assert "Close SSH" in redress("tickets").stdout
    redress.ledger.papers.clear()
    assert redress("tickets").stdout == "no ticket is open\n"
    assert redress("tickets", "--all").stdout == "there is no ticket\n"


def test_a_ticket_is_a_work_order_with_commands_to_paste(redress: Any) -> None:
    ticket = redress.ledger.ticket(state=TicketState.CLOSED, closed_because="it is compliant")
    lines = redress("ticket", ticket.id).stdout.splitlines()
    assert "1. Open the group" in lines
    assert "   aws ec2 describe-security-groups --group-ids sg-1" in lines
    assert "2. Tell the owner" in lines
    assert lines.index("what the engine had planned:") + 1 == lines.index(f"   {ticket.commands[0]}")
    assert '   rules: ["sgr-1"]' in lines
    assert "state     closed it is compliant" in lines
    assert redress.json("ticket", ticket.id)[0]["commands"] == list(ticket.commands)


def test_a_ticket_without_commands_or_code_shows_neither(redress: Any) -> None:
    ticket = redress.ledger.ticket(commands=(), as_code="", steps=())
    text = redress("ticket", ticket.id).stdout
    assert "planned" not in text
    assert "as code" not in text


def test_a_ticket_that_is_not_there_is_told(redress: Any) -> None:
    redress.ledger.ticket()
    result = redress("ticket", "\x1b[31mx")
    assert (result.exit_code, "redress tickets --all" in result.stderr) == (1, True)
    assert "\x1b" not in result.stderr


def test_a_command_with_hidden_characters_is_not_offered_for_pasting(
    hostile: str, harmful: Callable[[str], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    screen.paste(f"aws x '{hostile}'")
    out = capsys.readouterr().out
    assert not harmful(out)
    hidden = screen.visible(hostile) != hostile
    assert ("not to be pasted" in out) is hidden
    if not hidden:
        assert out == f"   aws x '{hostile}'\n"


# ------------------------------------------------------------------------------- exemptions, sweeps, accounts, strangers


def exemption(days: int, code: str, text: str = "team") -> Exemption:
    return Exemption(
        account=MEMBER,
        control="ec2-no-world-ssh",
        resource=f"{text}-{code}",
        owner=text,
        code=code,
        reason=text,
        by="arn:jane",
        at=NOW,
        expires_at=NOW + timedelta(days=days),
    )


def test_the_register_of_exemptions_tells_how_each_came_to_be(redress: Any) -> None:
    redress.ledger.granted = [
        exemption(30, "accepted_risk"),
        exemption(3, "snooze"),
        exemption(0, "undo"),
    ]
    assert [(one["code"], one["expired"]) for one in redress.json("exemptions")] == [
        ("snooze", False),
        ("accepted_risk", False),
    ]
    assert [one["code"] for one in redress.json("exemptions", "--all")] == ["undo", "snooze", "accepted_risk"]
    text = redress("exemptions", "--all").stdout
    for part in ("arn:jane", "team", "expired 2031-05-07T12:00:00.000Z", "2031-05-10T12:00:00.000Z"):
        assert part in text
    redress.ledger.granted.clear()
    assert redress("exemptions").stdout == "nothing is exempt\n"
    assert redress("exemptions", "--all").stdout == "nothing was ever exempt\n"


def test_a_sweep_says_how_far_it_is_and_what_it_could_not_read(redress: Any) -> None:
    parts = (
        Part(name="a", remediation="ec2_close_ssh", region="eu-central-1", failing={"c": 2}),
        Part(name="b", remediation="ec2_close_ssh", region="eu-west-1", failing={"c": 1}),
        Part(name="d", remediation="ec2_close_ssh", region="me-south-1", unread="the Region is switched off"),
        Part(name=OPEN_CASES, remediation="", region="", failing={"c": 3}),  # the same ones, met once more
    )
    going = Sweep(
        id="s",
        account=MEMBER,
        by="the schedule",
        started_at=NOW - timedelta(hours=1),
        expected=("a", "b", "d", "e", OPEN_CASES),
        baseline=("c",),
        done=parts,
    )
    redress.ledger.swept = [going]
    (shown,) = redress.json("sweeps")
    assert (shown["parts"], shown["ended"], shown["failing"]) == ("4 of 5", "under way", {"c": 3})
    assert shown["unread"] == {"d": "the Region is switched off"}
    assert "d: the Region is switched off" in redress("sweeps").stdout
    redress.ledger.swept = [going.model_copy(update={"started_at": NOW - timedelta(hours=6)})]
    assert redress.json("sweeps")[0]["ended"] == "abandoned"
    redress.ledger.swept = [going.model_copy(update={"completed_at": NOW, "done": parts[2:3]})]
    assert redress.json("sweeps")[0]["ended"] == "2031-05-07T12:00:00.000Z"
    assert "none seen" in redress("sweeps").stdout
    redress.ledger.swept = []
    assert "redress sweep" in redress("sweeps").stdout


def test_accounts_are_listed_with_who_answers_and_what_deploys(redress: Any) -> None:
    def role(name: str, *, removed: bool) -> DeploymentRole:
        arn = f"arn:aws:iam::{MEMBER}:role/{name}"
        return DeploymentRole(account=MEMBER, role_arn=arn, tool="cdk", by="j", at=NOW, removed=removed)

    redress.ledger.members = [Enrolment(account=MEMBER, by="jane", at=NOW)]
    redress.ledger.answerable = [Owner(account=MEMBER, owner="network team", by="jane", at=NOW)]
    redress.ledger.deployers = [role("ci", removed=False), role("old", removed=True)]
    home, member = redress.json("accounts")
    assert home == {"account": HOME, "home": True, "owner": "", "deployment_roles": {}}
    assert (member["account"], member["owner"]) == (MEMBER, "network team")
    assert member["deployment_roles"] == {f"arn:aws:iam::{MEMBER}:role/ci": "cdk"}
    text = redress("accounts").stdout
    assert "role/ci (cdk)" in text
    assert "role/old" not in text


def test_strangers_cannot_paint_any_of_it(redress: Any, hostile: str, harmful: Callable[[str], bool]) -> None:
    text = hostile.replace("\ud800", "?")
    case = redress.ledger.ask(text)
    said = Answer(by=text, principal=text, at=NOW, approve=True, reason=text, request_id="r")
    redress.ledger.said = [Answers(case=case.id, ask=1, plan_hash=HASH, answers=(said,), version=1)]
    ticket = redress.ledger.ticket(text, commands=(f"aws '{text}'",), as_code=text)
    redress.ledger.known = [case.model_copy(update={"ticket": ticket})]
    redress.ledger.granted = [exemption(1, "undo", text)]
    redress.ledger.answerable = [Owner(account=HOME, owner=text, by=text, at=NOW)]
    part = Part(name=text, remediation=text, region="r", failing={text: 1}, unread=text)
    redress.ledger.swept = [
        Sweep(
            id=text, account=HOME, by=text, started_at=NOW, expected=(text,), baseline=(text,), done=(part,)
        )
    ]
    reading = (
        ("waiting",),
        ("case", case.id),
        ("tickets",),
        ("ticket", ticket.id),
        ("exemptions",),
        ("sweeps",),
    )
    answering = (("approve", case.id, "--reason", "r", "--yes"), ("undo", case.id, "--reason", "r"))
    for command in (*reading, ("accounts",), *answering):
        for result in (redress(*command), redress(*command, "--json")):
            assert result.exit_code == 0, (command, result.output, result.exception)
            assert not harmful(result.output), command
    assert redress.ledger.known[0].state is CaseState.WAITING
