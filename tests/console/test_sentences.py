"""What a record says in a sentence: on the console and on the command line alike, also where no policy knows anybody."""

from typing import Any

import pytest
from pydantic_core import to_json

from chalicelib.console.pages import sentences
from chalicelib.delivery.mails import SAYS
from chalicelib.domain.delivery import Destination
from chalicelib.domain.policy import Policy

ANNA, BERT = "arn:aws:iam::111122223333:user/anna", "arn:aws:iam::111122223333:user/bert"
POLICY = Policy.model_validate_json(
    to_json(
        {
            "people": {
                "anna": {"name": "Anna", "identities": [ANNA]},
                "bert": {"name": "Bert", "identities": [BERT]},
            },
            "rules": [{"name": "all", "approvers": ["anna"]}],
        }
    )
)
CALL = {"service": "ec2", "operation": "RevokeSecurityGroupIngress"}


def told(kind: str, data: dict[str, Any], policy: Policy | None = None) -> str:
    body = {"recorded_at": "2031-05-07T12:00:00.000Z", "chain": "c-1", "seq": 1, "actor": None, "type": kind}
    return sentences.entry({**body, "data": {"by": {"arn": ANNA}, "reason": "why", **data}}, policy).says


@pytest.mark.parametrize(
    "kind, data, says",
    [
        (
            "INTENT",
            {"run": 1, "plan": {"calls": [CALL]}},
            "Run 1 begins: 1 call (ec2:RevokeSecurityGroupIngress)",
        ),
        (
            "UNDO_INTENT",
            {"run": 2, "plan": {"calls": [CALL, CALL]}, "approved_by": f"{ANNA}, {BERT}"},
            "Undo. Run 2 begins: 2 calls (ec2:RevokeSecurityGroupIngress), approved by Anna, Bert",
        ),
        (
            "UNDO_RESULT",
            {"outcome": "fixed", "reason": "run 1 is taken back"},
            "Taken back: run 1 is taken back",
        ),
        (
            "UNDO_RESULT",
            {"outcome": "failed", "reason": "AccessDenied"},
            "Taking it back failed: AccessDenied",
        ),
        (
            "ASKED",
            {"plan": {"calls": [CALL]}},
            "People are asked about 1 call (ec2:RevokeSecurityGroupIngress): why",
        ),
        ("ASKED", {"plan": {"calls": []}}, "People are asked about 0 calls: why"),
        (
            "MODE_CHANGED",
            {"before": None, "after": {"mode": "act"}},
            "Anna set the mode to act (was never set): why",
        ),
        (
            "MODE_CHANGED",
            {"before": {"mode": "act"}, "after": {"mode": "ask"}},
            "Anna set the mode to ask (was act): why",
        ),
        ("FREEZE_ON", {"after": {"scope": "ALL"}}, "Anna stopped all changes: why"),
        (
            "FREEZE_ON",
            {"after": {"scope": "ACCOUNT#111122223333"}},
            "Anna stopped all changes in account 111122223333: why",
        ),
        (
            "FREEZE_OFF",
            {"after": {"scope": "CONTROL#111122223333#ec2-ssh"}},
            "Anna let changes go on of ec2-ssh in account 111122223333: why",
        ),
        (
            "EXEMPTION_GRANTED",
            {"after": {"code": "accepted_risk", "owner": "net", "expires_at": "2031-06-01"}},
            "Anna exempted it until 2031-06-01, on account of net (accepted_risk): why",
        ),
        (
            "SNOOZED",
            {"before": [], "after": [{"code": "snooze", "owner": "net", "expires_at": "2031-06-01"}]},
            "Anna snoozed it until 2031-06-01, on account of net (snooze): why",
        ),
        ("SNOOZED", {}, "Anna snoozed it: why"),
        ("REQUESTED", {"after": {"kind": "undo", "case": "c-1"}}, "Anna asked for an undo: why"),
        (
            "REQUESTED",
            {"after": {"kind": "ticket"}},
            "Anna asked for a ticket in the place of an answer: why",
        ),
        ("REQUESTED", {}, "Anna asked for it: why"),
        (
            "CONFIG_CHANGED",
            {"after": {"kind": "redrive", "queue": "events", "most": 5}},
            "Anna changed a setting (up to 5 dead letters of events are tried again): why",
        ),
        (
            "CONFIG_CHANGED",
            {"after": {"role_arn": "arn:r", "tool": "cdk", "removed": False}},
            "Anna changed a setting (arn:r deploys code with cdk): why",
        ),
        (
            "CONFIG_CHANGED",
            {"after": {"role_arn": "arn:r", "tool": "cdk", "removed": True}},
            "Anna changed a setting (arn:r deploys no code any more): why",
        ),
        (
            "CONFIG_CHANGED",
            {"before": {"owner": "ann"}, "after": {"owner": "bob"}},
            "Anna changed a setting (bob answers for the account): why",
        ),
        ("CONFIG_CHANGED", {"after": {"policy": {}, "by": ANNA}}, "Anna changed a setting (the policy): why"),
        ("CONFIG_CHANGED", {"after": {}}, "Anna changed a setting: why"),
        (
            "HANDED_OVER",
            {"before": {"holder": ANNA}, "after": {"holder": BERT}},
            "Anna handed the case to Bert: why",
        ),
        ("VIEWED", {"path": "/log?actor=bert"}, "Anna looked at /log?actor=bert"),
        (
            "COMMAND_REFUSED",
            {"command": {"kind": "exempt"}, "refused": "who owns it does not grant it"},
            "Anna was refused exempt: who owns it does not grant it",
        ),
        (
            "COMMAND_REFUSED",
            {"command": "no JSON", "refused": "no JSON"},
            "Anna was refused a command: no JSON",
        ),
        (
            "INVITED",
            {"after": {"name": "Ada", "identity": "oidc:https://x#ada", "until": "2031-06-01"}},
            "Anna invited an outside auditor Ada (oidc:https://x#ada) until 2031-06-01: why",
        ),
        ("UNINVITED", {}, "Anna ended the invitation of an outside auditor: why"),
        (
            "INCIDENT_DECLARED",
            {"after": {"incident": {"root_cause": "a leaked key"}}},
            "Anna declared it an incident caused by a leaked key: why",
        ),
        ("INCIDENT_DISMISSED", {"after": {}}, "Anna declared it no incident: why"),
        (
            "TICKET_CLOSED_EXTERNALLY",
            {"ticket": "abc-t1", "integration": "board", "remote": "SEC-1"},
            "Somebody closed ticket abc-t1 in board; it is looked at again",
        ),
    ],
)
def test_a_record_says_what_was_done_to_what_and_by_whom(kind: str, data: dict[str, Any], says: str) -> None:
    assert told(kind, data, POLICY) == says


def test_where_no_policy_stands_people_are_called_by_their_identities() -> None:
    data = {"after": {"holder": BERT}}
    assert told("HANDED_OVER", data) == f"{ANNA} handed the case to {BERT}: why"
    assert told("CLAIMED", {}) == f"{ANNA} took the case on: why"


@pytest.mark.parametrize(
    "kind, said",
    [
        ("ask", "Approval wanted"),
        ("run_fixed", SAYS["run_fixed"]),
        ("run_started", "A repair is being carried out"),
        ("ticket_heard", "Somebody changed the ticket in its own system"),
        ("of_tomorrow", "Of tomorrow"),
    ],
)
def test_what_was_told_is_said_in_the_words_of_the_mail(kind: str, said: str) -> None:
    assert sentences.told_of(kind) == said


@pytest.mark.parametrize(
    "kind, to, said",
    [
        ("slack", "C0123456789", "Slack channel C0123456789"),
        ("mail", "people", "Mail to people"),
        ("mail", "owner", "Mail to the owner"),
        ("ticket", "jira", "Tickets in jira"),
        ("policy", "-", "Wherever the policy says"),
    ],
)
def test_where_something_was_told_has_a_name(kind: Any, to: str, said: str) -> None:
    assert sentences.told_to(Destination(kind=kind, to=to)) == said
