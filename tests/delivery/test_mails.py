"""Mails: what they say, that they say nothing that somebody else wrote into them, and what they find on record."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.catalog import load
from chalicelib.delivery.card import view_of
from chalicelib.delivery.escape import plain
from chalicelib.delivery.mails import (
    LONGEST_SUBJECT,
    MOST_CODE_LINES,
    SAYS,
    Ran,
    link,
    of_storm,
    ran,
    says_of,
    subject,
    to_owner,
    to_people,
)
from chalicelib.delivery.routes import CHANGED
from chalicelib.delivery.storms import raised, storm_of
from chalicelib.domain.contract import Outcome
from chalicelib.domain.policy import Person, Policy, Role, Rule
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import RecordType
from chalicelib.flow import notify
from tests.adapters import samples
from tests.fakes.clock import START

CONTROLS = {control.id: control for control in load().controls}
KNOWN = next(iter(CONTROLS))
ANN = Person(
    name="Ann",
    email="ann@example.org",
    identities=("arn:aws:iam::123456789012:user/ann",),
    roles=(Role.OPERATOR,),
)
BEN = Person(name="Ben", identities=("arn:aws:iam::123456789012:user/ben",), roles=(Role.OPERATOR,))
EVE = Person(name="Eve", identities=("arn:aws:iam::123456789012:user/eve",), roles=(Role.VIEWER,))
POLICY = Policy(
    people={"ann": ANN, "ben": BEN, "eve": EVE},
    console_url="https://console.example.org/api",
    rules=(Rule(name="all", approvers=("ann",)),),
)
ATTACKS = (
    "x\r\nBcc: eve@example.org",
    "x\nLook: https://evil.example",
    "x\u2028y\u2029z\x0b\x0c\x85",
    "\u202egnp.exe",
    "\x00\x1b[31m",
    "=?utf-8?q?evil?=",
    "ä" * 300,
    "\ud800",
    "",
)


def result(kind: str = "run_fixed", **body: Any) -> Notice:
    case = samples.case()
    said = {"resource": case.target.resource, "account": case.target.account, "controls": [KNOWN], **body}
    return Notice(id=f"{case.id}#run-1", kind=kind, case=case.id, at=START, body=said)


def owners(notice: Notice, done: Ran | None = None, policy: Policy | None = POLICY, as_code: str = "") -> str:
    written = to_owner(
        notice, samples.case(), done or Ran(), controls=CONTROLS, policy=policy, as_code=as_code
    )
    assert written
    return written.text


# -- to people ---------------------------------------------------------------------------------------------------------


def test_people_are_told_what_where_until_when_and_where_to_look() -> None:
    case = samples.waiting()
    assert case.ask
    written = to_people(notify.asked(case, case.ask), case, POLICY)
    assert written
    assert written.subject.startswith("[Redress] Approval wanted: ")
    for part in (
        case.target.resource,
        case.target.account,
        case.ask.reason,
        samples.CONTROL,
        "2026-08-03T20:00:00.000Z",
        f"Look: https://console.example.org/api/cases/{case.id}",
        f"redress case {case.id}",
    ):
        assert part in written.text


def test_people_who_have_no_channel_see_in_the_mail_all_that_the_card_shows() -> None:
    case = samples.waiting()
    assert case.ask
    view = view_of(
        case,
        case.ask.seq,
        answers=None,
        policy=POLICY,
        dossier=None,
        controls=CONTROLS,
        remediation=None,
        now=START,
    )
    written = to_people(notify.asked(case, case.ask), case, POLICY, view)
    assert written
    assert f"Severity: {view.severity.value}" in written.text
    assert (
        "What would change\n" + "".join(f"  - {call.why}\n" for call in case.ask.plan.calls) in written.text
    )
    for name, text in (*view.facts, *view.reach, ("Who approves", view.approvals)):
        assert f"\n{name}: {plain(text, 400)}" in written.text
        assert written.text.count(f"\n{name}:") == 1
    assert {"Changed by", "Reach"} <= {name for name, _ in (*view.facts, *view.reach)}


def test_an_owner_is_told_nothing_of_a_change_that_the_case_no_longer_names() -> None:
    case = samples.case().model_copy(update={"causes": ()})
    written = to_owner(result(), case, Ran(), controls=CONTROLS, policy=POLICY, as_code="")
    assert written
    assert "Changed by" not in written.text
    assert f"Region:   {case.target.region}\n\nWhat was done" in written.text


def test_of_a_run_the_result_is_told_and_not_called_why() -> None:
    written = to_people(result(reason="it holds"), samples.case(), POLICY)
    assert written
    assert "\nResult:   it holds" in written.text
    assert "\nWhy:" not in written.text


@pytest.mark.parametrize("policy", [None, POLICY.model_copy(update={"console_url": None})])
def test_without_a_console_the_command_is_what_remains(policy: Policy | None) -> None:
    case = samples.waiting()
    assert case.ask
    written = to_people(notify.asked(case, case.ask), case, policy)
    assert written
    assert "Look:" not in written.text
    assert f"redress case {case.id}" in written.text
    assert link(policy, "/") == ""


def test_an_ask_that_is_over_is_no_mail() -> None:
    case = samples.waiting()
    assert case.ask
    asked, reminded = (
        notify.asked(case, case.ask),
        notify.about_ask(case, case.ask, "reminded", START, "half"),
    )
    other = samples.waiting(asked=samples.ask(seq=2))
    for now in (None, samples.case(), other):
        assert to_people(asked, now, POLICY) is None
        assert to_people(reminded, now, POLICY) is None
    assert to_people(notify.about_ask(case, case.ask, "expired", START, "late"), samples.case(), POLICY)


def test_the_mail_of_a_misused_role_says_what_was_done_in_which_session_and_to_freeze_first() -> None:
    case = samples.case()
    body: dict[str, Any] = {"resource": case.target.resource, "event": "PutBucketAcl", "session": "redress-x"}
    written = to_people(
        Notice(id="t", kind="tamper_suspected", case=case.id, at=START, body=body), case, POLICY
    )
    assert written
    for part in (
        "Event:    PutBucketAcl",
        "Session:  redress-x",
        "Freeze first, then look: `redress freeze`.",
    ):
        assert part in written.text


def test_a_run_names_no_session_to_people() -> None:
    written = to_people(result(session="redress-x"), samples.case(), POLICY)
    assert written
    assert "redress-x" not in written.text


def test_a_notice_without_a_case_has_no_page() -> None:
    report = Notice(id="s", kind="baseline_report", case="", at=START, body={"failing": {"a": 3}})
    written = to_people(report, None, POLICY)
    assert written
    assert "a: 3 failing" in written.text
    assert "redress case" not in written.text
    assert written.subject == "[Redress] A first look is done"


def test_every_kind_that_is_known_says_something_of_its_own() -> None:
    assert (
        len({*SAYS.values()}) >= len(SAYS) - 1
    )  # an undo that was refused and one that was declined say the same
    assert not CHANGED - SAYS.keys()
    assert says_of(result("something_new")) == "something new"


# -- to an owner -------------------------------------------------------------------------------------------------------


def test_an_owner_is_told_what_why_by_whom_the_difference_the_code_and_the_way_back() -> None:
    done = Ran(
        whys=("the port is closed",),
        before=({"open": True, "rules": ["a", "b"], "deep": {"n": 1, "same": 2}, "gone": "x"}),
        after=({"open": False, "rules": ["b", {"c": 1}], "deep": {"n": 2, "same": 2}}),
    )
    notice = result(approved_by="arn:aws:iam::123456789012:user/ann", reason="it holds")
    text = owners(notice, done, as_code='resource "x" "y" {\n  open = false\n\n}\n')
    for part in (
        "Fixed, and verified. You are told",
        "Result:   it holds",
        "  - the port is closed",
        f"  - {KNOWN}: {CONTROLS[KNOWN].title} (",
        "  arn:aws:iam::123456789012:user/ann",
        "  - open: true before, false now",
        "  - rules: without a",
        '  - rules: with {"c": 1}',
        "  - deep.n: 1 before, 2 now",
        "  - gone: x before, nothing now",
        '  resource "x" "y" {\n    open = false\n\n  }\n',
        "To take it back, an operator of Redress asks for it, and somebody else approves",
        f"  https://console.example.org/api/cases/{samples.case().id}?open=undo\n",
        f'redress undo {samples.case().id} --reason "why" --days 7',
        "Changed by: arn:aws",
        f"Look: https://console.example.org/api/cases/{samples.case().id}",
        "  - Ann <ann@example.org>",
        "  - Ben",
    ):
        assert part in text
    assert "same" not in text
    assert "Eve" not in text


def test_what_is_not_on_record_is_said_to_be_missing() -> None:
    text = owners(result(controls=[]), policy=None)
    for part in (
        "no call is on record",
        "the case names no control",
        "nobody was asked",
        "it was not read again",
        "whoever runs Redress here",
    ):
        assert part in text
    assert "Terraform" not in text


def test_what_looks_the_same_afterwards_is_said_to() -> None:
    assert "nothing that was read again differs" in owners(result(), Ran(after=({})))


def test_a_control_that_is_gone_is_named_all_the_same() -> None:
    assert "  - gone-control" in owners(result(controls=["gone-control"]))
    assert "ISO 27001 A.8.24" in owners(result())
    bare = CONTROLS[KNOWN].model_copy(update={"frameworks": {}})
    written = to_owner(result(), samples.case(), Ran(), controls={KNOWN: bare}, policy=None, as_code="")
    assert written
    assert f"{bare.title}\n" in written.text


def test_an_undo_is_not_taken_back_nor_kept_by_code() -> None:
    text = owners(result("undo_fixed"), as_code="keep")
    assert "Taken back." in text
    assert "Terraform" not in text
    assert "redress undo" not in text


def test_long_lists_and_long_code_are_cut_and_counted() -> None:
    done = Ran(whys=tuple(f"why {number}" for number in range(25)))
    text = owners(result(), done, as_code="\n".join("x" for _ in range(MOST_CODE_LINES + 3)))
    assert "  - and 5 more" in text
    assert "  # and 3 lines more in the case" in text


def test_a_run_without_a_call_is_no_owners_matter() -> None:
    done = Ran(called=False)
    assert to_owner(result(), samples.case(), done, controls={}, policy=None, as_code="") is None


# -- what is on record -------------------------------------------------------------------------------------------------


def test_a_run_is_found_on_record_by_its_number() -> None:
    def draft(kind: RecordType, step: str, **data: Any) -> Any:
        return samples.draft(step, type=kind).model_copy(update={"data": data})

    chain = samples.records(
        "c",
        draft(RecordType.INTENT, "1", run=1, before={"a": 1}, plan={"calls": [{"why": "first"}]}),
        draft(RecordType.ERROR, "e", run=1),
        draft(RecordType.RESULT, "2", run=1, after={"a": 2}, results=[{"index": 0}]),
        draft(RecordType.UNDO_INTENT, "3", run=2, before={"a": 2}, plan={"calls": [{"why": "back"}, {}]}),
        draft(RecordType.UNDO_RESULT, "4", run=2, after=None, results=[]),
    )
    bodies = [record.body for record in chain]
    assert ran(bodies, 1) == Ran(("first",), {"a": 1}, {"a": 2}, called=True)
    assert ran(["no json", *bodies], 2) == Ran(("back", ""), {"a": 2}, None, called=False)
    assert ran(bodies, 3) == Ran()


# -- a storm -----------------------------------------------------------------------------------------------------------


def test_a_digest_that_no_channel_takes_is_a_mail() -> None:
    storm = raised(storm_of("C0000001", "a-control", "111111111111", START, asks=True), more=5, settled=2)
    written = of_storm(storm, "https://console.example.org/approvals", "is_archived")
    assert written.subject == "[Redress] 3 wait for an answer: a-control"
    for part in ("3 wait", "C0000001: is_archived", "Look: https://console.example.org/approvals"):
        assert part in written.text
    assert "Look: redress waiting" in of_storm(storm, "", "x").text
    unasked = of_storm(storm.model_copy(update={"asks": False}), "", "x")
    assert unasked.subject == "[Redress] 5 cases more: a-control"
    assert "Look: redress log" in unasked.text


# -- what others chose -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_subject_is_one_line_of_ascii_that_sns_takes(attack: str) -> None:
    line = subject("Repaired", attack)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= LONGEST_SUBJECT
    assert line.startswith("[Redress] Repaired")


@given(st.text())
def test_any_name_makes_a_subject_that_sns_takes(name: str) -> None:
    line = subject("Repaired", name)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= LONGEST_SUBJECT


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("outcome", ["fixed", "failed"])
def test_no_name_writes_a_line_of_its_own(attack: str, outcome: str) -> None:
    """With a harmless word in each place, a mail has as many lines as with an attack there, and the same labels."""

    def both(word: str) -> list[str]:
        notice = result(
            f"run_{Outcome(outcome).value}",
            reason=word,
            approved_by=word,
            owner=word,
            by=word,
            says=word,
            resource=word,
        )
        done = Ran((word,), ({"k": word}), ({"k": "now"}))
        mail = to_people(notice, samples.case(), POLICY)
        assert mail
        return [mail.text, owners(notice, done, as_code=f"a = {word!r}")]

    for attacked, harmless in zip(both(attack or "-"), both("word"), strict=True):
        assert len(attacked.splitlines()) == len(harmless.splitlines())
        assert not any(line.startswith(("Bcc", "Look: https://evil")) for line in attacked.splitlines())
        attacked.encode()
