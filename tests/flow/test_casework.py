"""Casework: who holds a case, what is said of it, and that each word of it is a named person's and on record."""

from datetime import timedelta

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from chalicelib.domain.approval import Ask, Kind, Undone
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Plan
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.record import RecordType
from chalicelib.flow import errand
from chalicelib.flow.casework import CallIncident, Claim, Comment, HandOver, WantTicket
from chalicelib.flow.command import COMMAND, AnswerAsk, AnyCommand, carry_out
from chalicelib.flow.desk import CommandResult, person
from tests.flow.test_command import (
    CASE,
    CATALOG,
    GROUP,
    HOME,
    JANE,
    MEMBER,
    NOW,
    UNNAMED,
    Desk,
    a_case,
    desk,
    said,
    with_case,
)

__all__ = ["desk", "with_case"]

JANE_OIDC, JOHN = "oidc:https://idp.example#jane", f"arn:aws:iam::{HOME}:user/john"
POLICY = Policy.model_validate_json(
    to_json(
        {
            "people": {
                "jane": {"name": "Jane", "identities": [JANE, JANE_OIDC]},
                "john": {"name": "John", "email": "john@example.org", "identities": [JOHN]},
                "sam-1": {"name": "Sam", "identities": [f"arn:aws:iam::{HOME}:user/samuel"]},
                "sam-2": {"name": "Sam", "identities": [f"arn:aws:iam::{HOME}:user/samantha"]},
            },
            "groups": {"network": ["john"]},
            "rules": [{"name": "all", "approvers": ["jane", "john"]}],
        }
    )
)
COMMANDS: tuple[AnyCommand, ...] = (
    Claim(case=CASE, reason="r"),
    HandOver(case=CASE, to="network team", reason="r"),
    Comment(case=CASE, reason="r"),
    CallIncident(case=CASE, declared=True, root_cause="a leaked key", reason="r"),
    CallIncident(case=CASE, declared=False, root_cause="a test", reason="r"),
)
ALL = (*COMMANDS, WantTicket(case=CASE, ask=1, reason="r"))


def signed_in(desk: Desk, command: AnyCommand, identity: str = JANE_OIDC) -> CommandResult:
    """The same from the console, after a sign-in."""
    who = person(identity, HOME, "req-2")
    return carry_out(command, who, desk.settings, CATALOG, desk.clock, home=HOME, engine="0.1.0")


def told(desk: Desk) -> list[str]:
    """What those who follow the case will hear."""
    assert all(isinstance(one, errand.News) and one.case == CASE for one in desk.settings.errands)
    return [one.says for one in desk.settings.errands if isinstance(one, errand.News)]


@pytest.fixture
def known(with_case: Desk) -> Desk:
    """Jane and John are the policy's, and Jane has two identities."""
    with_case.settings.policies.append(PolicySetting(policy=POLICY, by=JOHN, at=NOW, reason="r"))
    return with_case


@pytest.mark.parametrize("by", UNNAMED)
@pytest.mark.parametrize("command", ALL, ids=lambda one: one.kind)
def test_casework_is_a_named_persons_and_a_refusal_is_on_record(
    with_case: Desk, command: AnyCommand, by: str
) -> None:
    with pytest.raises(RefusedCommandError, match="is for a named person"):
        with_case.does(command, by=by)
    assert with_case.settings.changes == []
    (refusal,) = with_case.settings.noted
    assert refusal.draft.type is RecordType.COMMAND_REFUSED
    assert refusal.draft.data["by"]["arn"] == by  # type: ignore[index,call-overload] # JSON of any shape


@pytest.mark.parametrize("command", ALL, ids=lambda one: one.kind)
def test_a_case_that_never_was_is_no_casework(desk: Desk, command: AnyCommand) -> None:
    with pytest.raises(RefusedCommandError, match="there is no case"):
        desk.does(command)
    assert desk.settings.changes == []


TYPES = (
    RecordType.CLAIMED,
    RecordType.HANDED_OVER,
    RecordType.COMMENTED,
    RecordType.INCIDENT_DECLARED,
    RecordType.INCIDENT_DISMISSED,
)


@pytest.mark.parametrize("command, kind", [*zip(COMMANDS, TYPES, strict=True)], ids=TYPES)
def test_each_is_recorded_about_the_case_and_told_to_those_who_follow_it(
    with_case: Desk, command: AnyCommand, kind: RecordType
) -> None:
    with_case.does(command)
    (change,) = with_case.settings.changes
    draft = change.record.draft
    assert (draft.type, draft.account, draft.resource) == (kind, MEMBER, GROUP)
    body = said(change.record.body)["data"]
    assert isinstance(body, dict)
    assert (body["case"], body["reason"], body["by"]["arn"]) == (CASE, "r", JANE)
    assert len(told(with_case)) == 1


def test_a_case_is_taken_on_once_by_one_person_under_whichever_identity(known: Desk) -> None:
    assert known.does(Claim(case=CASE, reason="mine")).says == f"case {CASE} is in the hands of Jane"
    assert known.settings.dossiers[CASE] == Dossier(case=CASE, holder=JANE, held_since=NOW)
    again = signed_in(known, Claim(case=CASE, reason="mine"))
    assert (again.changed, "already; nothing was changed" in again.says) == (False, True)
    assert len(known.settings.changes) == 1
    other = known.does(Claim(case=CASE, reason="hers"), by=JOHN)
    assert other.says == f"case {CASE} is in the hands of John (it was in the hands of Jane)"
    assert other.before == Dossier(case=CASE, holder=JANE, held_since=NOW).model_dump(mode="json")


@pytest.mark.parametrize("to", ["john", "JOHN", "John", "john@example.org", JOHN])
def test_a_case_is_handed_over_once_to_whomever_the_policy_knows_by_that(known: Desk, to: str) -> None:
    known.does(Claim(case=CASE, reason="mine"))
    known.does(HandOver(case=CASE, to=to, reason="his"))
    assert known.settings.dossiers[CASE].holder == JOHN
    assert not known.does(HandOver(case=CASE, to=JOHN, reason="his")).changed
    assert known.settings.types == [RecordType.CLAIMED, RecordType.HANDED_OVER]
    assert told(known)[-1].endswith("of John (it was in the hands of Jane)")


def test_a_case_is_handed_to_a_group_as_a_whole(known: Desk) -> None:
    known.does(HandOver(case=CASE, to="network", reason="theirs"))
    assert known.settings.dossiers[CASE].holder == "network"
    assert told(known) == [f"case {CASE} is in the hands of network"]


@pytest.mark.parametrize(
    "to, hint",
    [
        ("jhon", "did you mean 'john'"),
        ("netwrk", "did you mean 'network'"),
        ("q", "`redress policy` lists everybody"),
        ("Sam", "more than one"),
    ],
)
def test_nobody_holds_a_case_whom_the_policy_does_not_know(known: Desk, to: str, hint: str) -> None:
    with pytest.raises(RefusedCommandError, match=hint):
        known.does(HandOver(case=CASE, to=to, reason="r"))
    assert known.settings.changes == []


def test_while_no_policy_stands_a_case_is_in_the_hands_of_whoever_is_named(with_case: Desk) -> None:
    with_case.does(HandOver(case=CASE, to="network team", reason="theirs"))
    assert not with_case.does(HandOver(case=CASE, to="network team", reason="theirs")).changed
    assert told(with_case) == [f"case {CASE} is in the hands of network team"]


def test_a_comment_changes_nothing_else_and_is_told_word_for_word(known: Desk) -> None:
    signed_in(known, Comment(case=CASE, reason="<!channel> *look*"))
    assert known.settings.dossiers == {}
    assert told(known) == [f"Jane on case {CASE}: <!channel> *look*"]
    (change,) = known.settings.changes
    assert change.record.draft.actor
    assert (change.record.draft.actor.type, change.record.draft.actor.arn) == ("Person", JANE_OIDC)


def test_an_incident_is_declared_and_dismissed_and_the_holder_stays(known: Desk) -> None:
    known.does(Claim(case=CASE, reason="mine"))
    known.does(CallIncident(case=CASE, declared=True, root_cause="a leaked key", reason="seen in logs"))
    dossier = known.settings.dossiers[CASE]
    assert dossier.incident
    assert (dossier.holder, dossier.incident.declared, dossier.incident.root_cause) == (
        JANE,
        True,
        "a leaked key",
    )
    dismissed = CallIncident(case=CASE, declared=False, root_cause="a drill", reason="planned")
    signed_in(known, dismissed, JOHN)
    after = known.settings.dossiers[CASE].incident
    assert after
    assert (after.declared, after.by, after.reason) == (False, JOHN, "planned")
    assert told(known)[-2:] == [
        f"case {CASE} is an incident, says Jane: a leaked key",
        f"case {CASE} is no incident, says John: a drill",
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "claim", "case": CASE, "reason": ""},
        {"kind": "claim", "case": CASE, "reason": "a\nb"},
        {"kind": "claim", "case": CASE.partition("-")[0], "reason": "r"},
        {"kind": "hand_over", "case": CASE, "reason": "r"},
        {"kind": "hand_over", "case": CASE, "to": "\u202eanna", "reason": "r"},
        {"kind": "comment", "case": CASE, "reason": "x" * 501},
        {"kind": "incident", "case": CASE, "declared": "yes", "root_cause": "r", "reason": "r"},
        {"kind": "incident", "case": CASE, "declared": True, "reason": "r"},
        {"kind": "comment", "case": CASE, "reason": "r", "by": JANE},
    ],
)
def test_what_is_no_casework_is_not_read_as_such(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        COMMAND.validate_python(body)


# ---------------------------------------------------------------------------------- a ticket in the place of an answer


def asked_about(desk: Desk, undone: Undone | None = None) -> None:
    ask = Ask(
        seq=1,
        kind=Kind.UNDO if undone else Kind.REMEDIATION,
        controls=("ec2-no-world-ssh",),
        asked_at=NOW,
        expires_at=NOW + timedelta(hours=8),
        plan=Plan(),
        plan_hash="f" * 64,
        before={},
        reason="r",
        undo=undone,
    )
    desk.settings.cases[CASE] = a_case(state=CaseState.WAITING, ask=ask, asks=1)


def test_a_ticket_may_take_the_place_of_an_answer(with_case: Desk) -> None:
    asked_about(with_case)
    result = with_case.does(WantTicket(case=CASE, ask=1, reason="by hand"))
    assert result.changed
    assert with_case.settings.types == [RecordType.REQUESTED]
    assert with_case.settings.errands == [
        errand.TicketWanted(case=CASE, ask=1, by=JANE, reason="by hand", request_id="req-1")
    ]


def test_no_ticket_takes_the_place_of_another_ask_or_of_an_answer(with_case: Desk) -> None:
    asked_about(with_case)
    with pytest.raises(RefusedCommandError, match="that ask is over, and another one waits"):
        with_case.does(WantTicket(case=CASE, ask=2, reason="r"))
    with_case.does(AnswerAsk(case=CASE, ask=1, plan_hash="f" * 64, approve=True, reason="right"))
    with pytest.raises(RefusedCommandError, match=f"{JANE} approved it already"):
        with_case.does(WantTicket(case=CASE, ask=1, reason="r"))
    assert with_case.settings.changes == []


def test_where_nobody_is_asked_no_ticket_takes_the_place_of_anything(with_case: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="nobody is asked"):
        with_case.does(WantTicket(case=CASE, ask=1, reason="r"))
    asked_about(with_case, Undone(run=1, by=JOHN, reason="r", owner="o", until=NOW))
    with pytest.raises(RefusedCommandError, match="nobody is asked"):
        with_case.does(WantTicket(case=CASE, ask=1, reason="r"))
    assert with_case.settings.changes == []
