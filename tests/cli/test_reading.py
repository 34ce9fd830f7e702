"""The commands that read: log, cases, case, plan, controls, remediations, limits, doctor."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic_core import to_json

from chalicelib.cli.doctor import Check, Health
from chalicelib.cli.ledger import since
from chalicelib.domain.contract import Mode
from chalicelib.domain.dossier import Dossier, Incident
from chalicelib.domain.errors import RefusedCommandError, StoreError, UnreadableError
from chalicelib.domain.finding import GLOBAL
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.ports import Enrolment, ModeSetting
from chalicelib.domain.record import Draft, Head, RecordType, digest_of, seal

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
HOME, MEMBER = "111122223333", "444455556666"


def draft(kind: RecordType, data: dict[str, Any], resource: str = "") -> Draft:
    return Draft(
        type=kind,
        source_id="s",
        step="s",
        occurred_at=NOW,
        account=HOME,
        region=GLOBAL,
        resource=resource,
        data=data,
    )


def keep(redress: Any, one: Draft, chain: str = f"SYS#{HOME}#203105") -> None:
    """A record of another chain than a case's."""
    (record,) = seal(chain, Head(), [one], NOW + timedelta(minutes=1), "0.1.0")
    redress.ledger.stored.append(FakeStored(record.body, record.hash))


def people(named: dict[str, Any]) -> PolicySetting:
    rules = [{"name": "all", "approvers": [*named]}]
    policy = Policy.model_validate_json(to_json({"people": named, "rules": rules}))
    return PolicySetting(policy=policy, by="olga", at=NOW, reason="r")


@dataclass(frozen=True)
class FakeStored:
    body: str
    hash: str


def setting(mode: Mode, account: str = MEMBER) -> ModeSetting:
    return ModeSetting(account=account, control="ec2-no-world-ssh", mode=mode, by="jane", at=NOW, reason="r")


def test_the_log_is_shown_newest_first_and_filtered(redress: Any) -> None:
    redress.ledger.tell()
    assert [body["type"] for body in redress.json("log")] == ["RESULT", "DECIDED", "RECEIVED"]
    assert len(redress.json("log", "--control", "ec2-no-world-ssh")) == 3
    assert redress.json("log", "--control", "another") == []
    assert redress.json("log", "--account", MEMBER) == []
    resource = redress.ledger.known[0].target.resource
    assert len(redress.json("log", "--resource", resource)) == 3
    assert redress.json("log", "--resource", resource, "--account", MEMBER) == []
    assert "Fixed, and verified: nothing is left to do" in redress("log").stdout


def test_the_log_of_everything_covers_home_and_every_member(redress: Any) -> None:
    asked: list[str] = []
    ledger = redress.ledger
    ledger.members = [
        Enrolment(account=MEMBER, by="jane", at=NOW),
        Enrolment(account=HOME, by="jane", at=NOW),
    ]

    def records(account: str, _since: datetime, _until: datetime) -> list[Any]:
        asked.append(account)
        return []

    ledger.records = records
    redress.json("log")
    assert asked == [HOME, MEMBER]


def test_the_log_of_several_accounts_is_one_log_newest_first(redress: Any) -> None:
    redress.ledger.members = [Enrolment(account=MEMBER, by="jane", at=NOW)]
    redress.ledger.tell()
    enrolled = draft(RecordType.ENROLLED, {}).model_copy(update={"account": MEMBER})
    keep(redress, enrolled, f"SYS#{MEMBER}#203105")
    assert [body["type"] for body in redress.json("log")] == ["ENROLLED", "RESULT", "DECIDED", "RECEIVED"]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("log",), "nothing was recorded since 2031-05-06T12:00:00.000Z"),
        (("log", "--control", "c", "--since", "1h"), "nothing of control c was recorded since 2031-05-07T11"),
        (("cases",), "there is no case yet"),
        (("cases", "--state", "closed"), "no case is closed"),
    ],
)
def test_where_nothing_is_found_it_is_said_in_a_sentence(
    redress: Any, arguments: tuple[str, ...], says: str
) -> None:
    result = redress(*arguments)
    assert (result.exit_code, says in result.stdout, len(result.stdout.splitlines())) == (0, True, 1)
    assert redress(*arguments, "--json").stdout == ""


def test_the_log_says_in_sentences_what_was_done_and_by_whom(redress: Any) -> None:
    jane = f"arn:aws:iam::{HOME}:user/jane"
    refused = {"by": {"arn": jane}, "command": {"kind": "exempt"}, "refused": "who owns it does not grant it"}
    keep(redress, draft(RecordType.COMMAND_REFUSED, refused))
    assert f"{jane} was refused exempt: who owns it does not grant it" in redress("log").stdout
    redress.ledger.standing = people({"jane": {"name": "Jane", "identities": [jane]}})
    assert "Jane was refused exempt: who owns it does not grant it" in redress("log").stdout


def test_the_log_is_shown_though_the_policy_cannot_be_read(redress: Any) -> None:
    def unreadable() -> None:
        raise UnreadableError("POLICY does not hold a readable PolicySetting")

    redress.ledger.tell()
    redress.ledger.policy = unreadable
    assert "Fixed, and verified: nothing is left to do" in redress("log").stdout


@pytest.mark.parametrize("stage", ["Dev", "a" * 13, "1a", "", "\x1b[31mx"])
def test_what_is_no_stage_is_refused_before_anything_is_asked(redress: Any, stage: str) -> None:
    result = redress("log", "--stage", stage)
    assert result.exit_code == 2
    assert "is no stage" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "text, at",
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2031-05-01T00:00:00Z", datetime(2031, 5, 1, tzinfo=UTC)),
    ],
)
def test_how_far_back_is_a_span_or_a_time(text: str, at: datetime) -> None:
    assert since(text, NOW) == at


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "-7d", "2031-05-01", "2031-05-01T00:00:00", "999999d", "\u0667d"]
)
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(RefusedCommandError, match="is no time"):
        since(text, NOW)


def test_cases_are_listed_by_state(redress: Any) -> None:
    case = redress.ledger.tell()
    assert [one["id"] for one in redress.json("cases")] == [case.id]
    assert [one["id"] for one in redress.json("cases", "--state", "open")] == [case.id]
    assert redress.json("cases", "--state", "closed") == []
    assert redress("cases", "--state", "lost").exit_code == 2
    assert case.id in redress("cases").stdout


def test_a_case_is_shown_whole_and_verified(redress: Any) -> None:
    case = redress.ledger.tell()
    text = redress("case", case.id).stdout
    assert "verified: 3 records, unchanged and complete" in text
    (shown,) = redress.json("case", case.digest)
    assert (shown["broken"], len(shown["records"])) == (None, 3)


def test_a_case_tells_what_people_said_of_it_and_did_with_it_in_hand(redress: Any) -> None:
    case = redress.ledger.tell()
    jane = f"arn:aws:iam::{HOME}:user/jane"
    by = {"by": {"arn": jane}, "reason": "the partner moves on Friday"}
    of, resource = {"case": case.id}, case.target.resource
    refused = {**by, "approve": True, "refused": "you made the change"}
    keep(redress, draft(RecordType.COMMENTED, by | of, resource))
    keep(redress, draft(RecordType.ANSWER_REFUSED, refused, resource), f"ANSWER#{case.id}#1")
    keep(redress, draft(RecordType.COMMENTED, {**by, "case": "of another", "reason": "not this"}, resource))
    incident = Incident(declared=True, root_cause="a leaked key", reason="seen in logs", by=jane, at=NOW)
    redress.ledger.kept = [Dossier(case=case.id, holder=jane, held_since=NOW, incident=incident)]
    redress.ledger.standing = people({"jane": {"name": "Jane", "identities": [jane]}})
    text = redress("case", case.id).stdout
    for part in (
        "in the hands of  Jane, since 2031-05-07T12:00:00.000Z",
        "incident         caused by a leaked key, says Jane at 2031-05-07T12:00:00.000Z: seen in logs",
        "Jane says: the partner moves on Friday",
        "An answer by Jane does not count: you made the change",
        "verified: 3 records",
    ):
        assert part in text
    assert "not this" not in text
    (shown,) = redress.json("case", case.id)
    assert {one["type"] for one in shown["beside"]} == {"COMMENTED", "ANSWER_REFUSED"}
    assert (len(shown["records"]), shown["dossier"]["holder"]) == (3, jane)


def _forge(stored: list[Any]) -> None:
    stored[1] = type(stored[1])(stored[1].body.replace("observe", "ignored"), stored[1].hash)


@pytest.mark.parametrize("body", ["{}", "[]", "no JSON"])
def test_a_record_that_is_none_is_told_and_the_others_are_shown(redress: Any, body: str) -> None:
    case, stored = redress.ledger.tell(), redress.ledger.stored
    found = [stored[0], type(stored[0])(body, digest_of(body)), stored[2]]
    redress.ledger.case_records = lambda _name: found
    (shown,) = redress.json("case", case.id, code=1)
    assert shown["broken"] == "record 2: what is stored is no record"
    assert [one["seq"] for one in shown["records"]] == [1, 3]


def test_a_case_that_is_read_under_another_name_does_not_hold(redress: Any) -> None:
    case = redress.ledger.tell()
    other = case.model_copy(update={"episode": 2})
    redress.ledger.known = [other]
    redress.ledger.case_records = lambda _name: redress.ledger.stored
    result = redress("case", other.id)
    assert (result.exit_code, f"belongs to chain {case.id}" in result.stdout) == (1, True)


@pytest.mark.parametrize(
    "harm, says",
    [
        (_forge, "record 2: the stored bytes"),
        (lambda stored: stored.pop(1), "record 2 is missing"),
        (lambda stored: stored.pop(), "record 3 is missing: the case names record 3 as its last"),
        (lambda stored: stored.clear(), "record 1 is missing: the case names record 3 as its last"),
    ],
)
def test_a_case_whose_records_do_not_hold_says_so_and_fails(
    redress: Any, harm: Callable[[list[Any]], object], says: str
) -> None:
    case = redress.ledger.tell()
    harm(redress.ledger.stored)
    result = redress("case", case.id)
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    assert says in result.stdout
    assert redress.json("case", case.id, code=1)[0]["broken"]


@pytest.mark.parametrize("name", ["nothing", "abcdefghijklmnopqrst-2", "../../etc", ""])
def test_a_case_that_is_not_there_is_said_to_be_so(redress: Any, name: str) -> None:
    redress.ledger.tell()
    for command in ("case", "plan"):
        result = redress(command, name)
        assert result.exit_code == 1
        assert "redress cases" in result.stderr


def test_the_plan_of_a_case_is_shown_with_why(redress: Any) -> None:
    case = redress.ledger.tell()
    (shown,) = redress.json("plan", case.id)
    assert (shown["plan_hash"], shown["calls"][0]["service"]) == ("f" * 64, "ec2")
    assert (shown["decision"], shown["reason"]) == ("observe", "an hour ago the port was opened")
    text = redress("plan", case.id).stdout
    assert "sgr-1 lets the world in" in text
    assert "1. ec2:RevokeSecurityGroupIngress" in text


def test_a_case_without_a_plan_says_what_to_look_at(redress: Any) -> None:
    case = redress.ledger.tell()
    redress.ledger.stored = redress.ledger.stored[:1]
    result = redress("plan", case.id)
    assert (result.exit_code, "redress case" in result.stderr) == (1, True)


def test_controls_are_listed_with_their_effective_modes(redress: Any, a_control: Callable[..., Any]) -> None:
    redress.catalog = type(redress.catalog)((a_control(ceiling=Mode.ASK),))
    redress.ledger.set_modes = [setting(Mode.ACT), setting(Mode.TICKET, HOME)]
    (shown,) = redress.json("controls")
    assert (shown["at_most"], shown["modes"]) == ("ask", {MEMBER: "ask", HOME: "ticket"})
    assert f"{HOME}: ticket" in redress("controls").stdout.replace("\n", " ")
    redress.ledger.modes = lambda: pytest.fail("asked the tables")
    assert redress.json("controls", "--offline")[0]["modes"] == {}


def test_remediations_and_limits_are_listed_offline(redress: Any) -> None:
    assert redress.json("remediations")[0]["remediation"] == "ec2_close_ssh"
    assert "ec2_close_ssh" in redress("remediations").stdout
    (limits,) = redress.json("limits")
    assert limits["per_control"] == {"writes": 5, "setting": "REDRESS_LIMIT_PER_CONTROL"}
    assert "per_actor" in redress("limits").stdout


def test_the_doctor_fails_only_when_something_fails(redress: Any) -> None:
    assert redress("doctor").exit_code == 0
    redress.found = (Check("freeze", Health.WARN, "frozen"),)
    assert redress("doctor").exit_code == 0
    redress.found = (*redress.found, Check("rules", Health.FAIL, "no rule brings us events: deploy again"))
    result = redress("doctor")
    assert result.exit_code == 1
    assert "fail  rules: no rule brings us events: deploy again" in result.stdout
    assert redress.json("doctor", code=1)[1]["health"] == "fail"


def test_a_store_that_cannot_be_read_is_one_line_and_exit_code_1(redress: Any) -> None:
    def down(*_args: object) -> list[Any]:
        raise StoreError("the table \x1b[31mcases cannot be read: you lack dynamodb:Query")

    redress.ledger.cases = down
    result = redress("cases")
    assert result.exit_code == 1
    assert result.stderr == "error: the table \\x1b[31mcases cannot be read: you lack dynamodb:Query\n"


def test_strangers_cannot_paint_any_of_it(redress: Any, hostile: str, harmful: Callable[[str], bool]) -> None:
    text = hostile.replace("\ud800", "?")
    case = redress.ledger.tell(text)
    redress.found = (Check("freeze", Health.WARN, f"frozen: {text}"),)
    commands = (("log",), ("cases",), ("case", case.id), ("plan", case.id), ("doctor",))
    for command in commands:
        for result in (redress(*command), redress(*command, "--json")):
            assert result.exit_code == 0, (command, result.output, result.exception)
            assert not harmful(result.output), command
    (shown,) = redress.json("case", case.id)
    assert shown["case"]["reason"] == text
