"""What people send. Nothing is decided but by a form of ours, in the session that it was made for, on the plan that it showed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from chalicelib.console.pages.sign_in import form
from chalicelib.console.web import Reply, Request
from chalicelib.domain.approval import principal
from chalicelib.domain.case import Case
from chalicelib.domain.errors import ConflictError, StoreError
from chalicelib.domain.finding import Severity
from tests.console.world import (
    ANNA,
    BEN,
    BUCKET,
    HOSTILE,
    MEMBER,
    OLGA,
    SSH,
    VERA,
    Forms,
    World,
    bucket,
    text_of,
    world,
)

pytestmark = pytest.mark.thorough


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


def fill(console: World, case: Case, cookie: str, answer: str, **fields: str) -> dict[str, str]:
    """The form for that answer, as the page has it, filled in."""
    page = console.get(f"/cases/{case.id}", cookie=cookie).body
    hidden = Forms(page).of(f"/cases/{case.id}/answer", answer=answer)
    return {**hidden, "reason": "The plan is right, and its reach is acceptable", **fields}


def answer(console: World, case: Case, who: str = ANNA, said: str = "approve", **fields: str) -> Reply:
    cookie = console.signed_in(who, mfa=True)
    return console.post(f"/cases/{case.id}/answer", fill(console, case, cookie, said, **fields), cookie)


def answers(console: World, case: Case) -> list[tuple[str, bool, str]]:
    """What stands: by whom, yes or no, why."""
    found = console.settings.answers(case.id, 1)
    return [(one.by, one.approve, one.reason) for one in found.answers] if found else []


# -- deciding ----------------------------------------------------------------------------------------------------------


def test_an_approval_is_taken_and_the_case_then_says_so(console: World) -> None:
    case = console.asked()
    reply = answer(console, case)
    assert (reply.status, reply.headers["Location"]) == (303, f"/api/cases/{case.id}")
    assert answers(console, case) == [(ANNA, True, "The plan is right, and its reach is acceptable")]
    mine, others = (text_of(console.get(f"/cases/{case.id}", who)) for who in (ANNA, BEN))
    assert "You approved this less than a minute ago. The engine looks again" in mine
    assert "Approved by Anna Berg . The engine looks again" in others


def test_a_denial_in_ones_own_words_is_taken(console: World) -> None:
    case = console.asked()
    assert answer(console, case, said="deny", reason="own", words=f"no: {HOSTILE[:25]}").status == 303
    assert answers(console, case) == [(ANNA, False, f"no: {HOSTILE[:25]}")]
    page = console.get(f"/cases/{case.id}", BEN)
    assert "<script" not in page.body
    assert "Denied by Anna Berg . Nothing is changed." in text_of(page)


@pytest.mark.parametrize("fields", [{"reason": "own"}, {"reason": "own", "words": "  "}, {"reason": ""}])
def test_without_a_reason_nothing_is_decided(console: World, fields: dict[str, str]) -> None:
    case = console.asked()
    reply = answer(console, case, **fields)
    assert reply.status == 422
    assert "Nothing was decided. reason: must have 1 to 500 characters" in text_of(reply)
    assert answers(console, case) == []


@pytest.mark.parametrize("another", [{}, {"plan_hash": "f" * 64}, {"seq": 2}], ids=str)
def test_a_refused_answer_keeps_what_was_typed_unless_the_ask_or_its_plan_is_another(
    console: World, another: dict[str, object]
) -> None:
    case, cookie, words = console.asked(), console.signed_in(ANNA), "it is too long " * 40
    fields = fill(console, case, cookie, "deny", reason="own", words=words)
    assert case.ask
    console.keep(case.model_copy(update={"ask": case.ask.model_copy(update=another)}))
    page = console.post(f"/cases/{case.id}/answer", fields, cookie).body
    assert (f'value="{words.strip()}"' in page) is not bool(another)
    assert page.count(" checked>") == (0 if another else 1)


def test_a_sign_in_that_was_too_old_for_an_answer_leads_back_to_the_case(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    cookie = console.signed_in(ANNA, mfa=True)
    fields = fill(console, case, cookie, "approve")
    console.clock.advance(timedelta(minutes=6))
    page = console.post(f"/cases/{case.id}/answer", fields, cookie)
    assert page.status == 409
    assert f"/api/login/corp?to=%2Fcases%2F{case.id}%3Fopen%3Ddecide&amp;fresh=1" in page.body


def test_an_answer_that_is_neither_yes_nor_no_is_none(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    fields = {**fill(console, case, cookie, "approve"), "answer": "perhaps"}
    assert console.post(f"/cases/{case.id}/answer", fields, cookie).status == 422
    assert answers(console, case) == []


def test_two_must_approve_and_each_sees_how_many_have(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    answer(console, case, ANNA)
    page = console.get(f"/cases/{case.id}", ANNA)
    assert "1 of 2 have; nothing is changed until the others have too" in text_of(page)
    assert "1 of 2 approved" in text_of(console.get("/approvals", BEN))
    answer(console, case, BEN)
    assert [by for by, _, _ in answers(console, case)] == [ANNA, BEN]


def test_an_approval_is_taken_back_before_the_others_come(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    answer(console, case, ANNA)
    assert answer(console, case, ANNA, "withdraw", reason="", words="I misread it").status == 303
    assert "0 of 2 approved" in text_of(console.get(f"/cases/{case.id}", BEN))


def test_who_comes_too_late_is_told_who_decided_when_and_why(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(BEN)
    late = fill(console, case, cookie, "deny", reason="It is meant to be so")
    answer(console, case, ANNA)
    reply = console.post(f"/cases/{case.id}/answer", late, cookie)
    assert reply.status == 409
    said = text_of(reply)
    assert f"{ANNA} approved it already, at 2026-08-03T12:00:00.000Z, because: The plan is right" in said
    assert len(answers(console, case)) == 1


def test_of_many_at_once_one_decides(console: World) -> None:
    case = console.asked()
    ready = [
        (cookie := console.signed_in(who), fill(console, case, cookie, "approve")) for who in [ANNA, BEN] * 3
    ]
    with ThreadPoolExecutor(6) as pool:
        replies = [*pool.map(lambda one: console.post(f"/cases/{case.id}/answer", one[1], one[0]), ready)]
    assert sorted(reply.status for reply in replies) == [303, 409, 409, 409, 409, 409]
    assert len(answers(console, case)) == 1


def test_after_the_end_nothing_is_decided(console: World) -> None:
    case = console.asked()
    console.clock.advance(timedelta(hours=8) - timedelta(minutes=1))
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    console.clock.advance(timedelta(minutes=1))
    reply = console.post(f"/cases/{case.id}/answer", fields, cookie)
    assert reply.status == 409
    assert "the ask expired" in reply.body
    assert answers(console, case) == []


def test_another_plan_than_the_one_that_was_shown_is_not_approved(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    assert case.ask
    console.keep(case.model_copy(update={"ask": case.ask.model_copy(update={"plan_hash": "f" * 64})}))
    reply = console.post(f"/cases/{case.id}/answer", fields, cookie)
    assert (reply.status, answers(console, case)) == (409, [])
    assert "the plan changed since you looked" in reply.body
    swapped = {**fields, "plan_hash": "f" * 64}
    assert console.post(f"/cases/{case.id}/answer", swapped, cookie).status == 403
    assert answers(console, case) == []


def test_a_page_of_an_ask_that_is_over_decides_nothing_about_the_next(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    assert case.ask
    console.keep(case.model_copy(update={"ask": case.ask.model_copy(update={"seq": 2}), "asks": 2}))
    reply = console.post(f"/cases/{case.id}/answer", fields, cookie)
    assert (reply.status, console.settings.answers(case.id, 2)) == (409, None)
    assert "that ask is over, and another one waits" in reply.body
    assert console.post(f"/cases/{case.id}/answer", {**fields, "ask": "2"}, cookie).status == 403


def test_breaking_the_glass_decides_alone_and_is_offered_to_few(console: World) -> None:
    case = console.asked(severity=Severity.CRITICAL)
    assert "Break the glass" not in console.get(f"/cases/{case.id}", ANNA).body
    reply = answer(console, case, OLGA, "break_glass", reason="", words="nobody else is awake")
    assert reply.status == 303
    found = console.settings.answers(case.id, 1)
    assert found
    assert found.answers[0].break_glass
    forged = console.signed_in(BEN, mfa=True)
    fields = {**fill(console, console.asked(2), forged, "approve"), "answer": "break_glass"}
    other = console.asked(3)
    assert console.post(f"/cases/{other.id}/answer", fields, forged).status == 403


def test_who_answers_for_the_account_and_may_only_look_may_still_deny(console: World) -> None:
    case = console.asked(account=MEMBER, answerable="vera@example.org")
    page = Forms(console.get(f"/cases/{case.id}", VERA).body)
    assert [hidden["answer"] for _, hidden in page.forms if "answer" in hidden] == ["deny"]
    assert answer(console, case, VERA, "deny", reason="It is meant to be so").status == 303


def test_a_viewer_decides_nothing(console: World) -> None:
    case = console.asked(account=MEMBER, owner="vera@example.org")  # a tag, which anybody may have put there
    cookie, other = console.signed_in(VERA), console.signed_in(ANNA)
    assert not [
        hidden for _, hidden in Forms(console.get(f"/cases/{case.id}", VERA).body).forms if "answer" in hidden
    ]
    fields = fill(console, case, other, "approve")
    sessions = console.sessions()
    session = sessions.read(Request("GET", "/", headers={"cookie": cookie}))
    assert session
    assert case.ask
    token = sessions.csrf(session, "answer", case.id, case.ask.plan_hash, str(case.ask.seq))
    reply = console.post(f"/cases/{case.id}/answer", {**fields, "token": token}, cookie)
    assert (reply.status, answers(console, case)) == (409, [])


# -- forged, replayed, lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "https://redress.example.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/json"},
    ],
)
def test_a_form_from_elsewhere_decides_nothing(console: World, headers: dict[str, str]) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    assert console.post(f"/cases/{case.id}/answer", fields, cookie, headers).status == 403
    assert answers(console, case) == []


def test_a_token_of_another_session_case_or_form_decides_nothing(console: World) -> None:
    case, other = console.asked(1), console.asked(2)
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    page = Forms(console.get(f"/cases/{case.id}", cookie=cookie).body)
    stolen = [
        fill(console, case, console.signed_in(BEN), "approve")["token"],
        fill(console, other, cookie, "approve")["token"],
        page.of(f"/cases/{case.id}/comment")["token"],
        "",
        "é",
    ]
    for token in stolen:
        assert console.post(f"/cases/{case.id}/answer", {**fields, "token": token}, cookie).status == 403
    assert answers(console, case) == []


def test_a_form_without_a_session_is_lost_and_the_person_told(console: World) -> None:
    case = console.asked()
    fields = fill(console, case, console.signed_in(ANNA), "approve")
    reply = console.post(f"/cases/{case.id}/answer", fields, "")
    assert reply.status == 401
    assert "What you sent was not taken" in reply.body
    assert f'href="/api/login/corp?to=%2Fcases%2F{case.id}%2Fanswer"' in reply.body
    assert answers(console, case) == []


def test_a_get_or_head_of_any_address_decides_nothing(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    fields = fill(console, case, cookie, "approve")
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    for method in ("GET", "HEAD"):
        for path in (f"/cases/{case.id}/answer?{query}", f"/cases/{case.id}?{query}", "/approvals"):
            console.get(path, cookie=cookie, method=method)
    assert answers(console, case) == []


@pytest.mark.parametrize("error, status", [(StoreError("x"), 503), (ConflictError("others"), 409)])
def test_tables_that_do_not_answer_decide_nothing(console: World, error: Exception, status: int) -> None:
    case = console.asked()

    def fails(*_: object) -> None:
        raise error

    object.__setattr__(console.desk, "answer", fails)
    assert answer(console, case).status == status


def test_a_case_out_of_scope_cannot_be_answered(console: World) -> None:
    case = console.asked()
    reply = console.post(f"/cases/{case.id}/answer", {"answer": "deny"}, console.signed_in(VERA))
    assert reply.status == 404


# -- commands ----------------------------------------------------------------------------------------------------------


def send(console: World, case: Case, kind: str, who: str = OLGA, **fields: str) -> Reply:
    cookie = console.signed_in(who)
    path = f"/cases/{case.id}"
    hidden = Forms(console.get(path, cookie=cookie).body).of(f"{path}/{kind}")
    return console.post(f"{path}/{kind}", {**hidden, "words": "because", **fields}, cookie)


def recorded(console: World, case: Case) -> list[str]:
    """The types of the records about the case's resource that people made."""
    found = console.ledger.beside(case, console.clock.now(), 60)
    return [one.type for one in found]


@pytest.mark.parametrize(
    "kind, fields, record",
    [
        ("comment", {}, "COMMENTED"),
        ("claim", {}, "CLAIMED"),
        ("hand_over", {"to": "ben"}, "HANDED_OVER"),
        ("snooze", {"days": "2"}, "SNOOZED"),
        ("incident", {"declared": "yes", "root_cause": "a script"}, "INCIDENT_DECLARED"),
        ("incident", {"declared": "no", "root_cause": "a test"}, "INCIDENT_DISMISSED"),
        (
            "exempt",
            {"control": SSH, "code": "accepted_risk", "days": "30", "owner": "team@example.org"},
            "EXEMPTION_GRANTED",
        ),
        ("ticket", {}, "REQUESTED"),
        ("take_up", {}, "REQUESTED"),
    ],
)
def test_a_command_is_carried_out_and_recorded_under_the_persons_name(
    console: World, kind: str, fields: dict[str, str], record: str
) -> None:
    case = console.asked()
    if kind == "take_up":
        case = console.keep(console.new(bucket(9), BUCKET, "s3_block_public_access"))
    reply = send(console, case, kind, **fields)
    assert (reply.status, reply.headers.get("Location")) == (303, f"/api/cases/{case.id}")
    assert recorded(console, case) == [record]
    (one,) = console.ledger.beside(case, console.clock.now(), 60)
    assert OLGA in one.body


def test_no_ticket_takes_the_place_of_an_ask_that_nobody_saw(console: World) -> None:
    reply = send(console, console.asked(), "ticket", ask="2")
    assert reply.status == 409
    assert "that ask is over, and another one waits" in reply.body


@pytest.mark.parametrize(
    "kind, fields",
    [
        ("snooze", {"days": "7"}),
        ("exempt", {"control": SSH, "code": "accepted_risk", "days": "180", "owner": "somebody"}),
    ],
)
def test_who_made_the_change_does_not_put_it_out_of_reach(
    console: World, kind: str, fields: dict[str, str]
) -> None:
    case, cookie = console.asked(), console.signed_in(OLGA)
    path = f"/cases/{case.id}"
    hidden = Forms(console.get(path, cookie=cookie).body).of(f"{path}/{kind}")
    console.keep(case.model_copy(update={"actors": (principal(OLGA),)}))
    page = console.get(path, cookie=cookie)
    assert not [action for action, _ in Forms(page.body).forms if f"/{kind}" in action]
    assert "You made this change or asked for this look: somebody else may snooze or exempt it." in text_of(
        page
    )
    reply = console.post(f"{path}/{kind}", {**hidden, "words": "because", **fields}, cookie)
    assert (reply.status, "asked for this look does not have it left alone" in reply.body) == (409, True)
    assert console.settings.exemption(case.target.account, SSH, case.target.resource) is None


def test_an_undo_of_a_run_is_asked_for(console: World) -> None:
    case = console.fixed()
    assert send(console, case, "undo", run="1", days="7", owner="ben@example.org").status == 303
    assert recorded(console, case) == ["REQUESTED"]


@pytest.mark.parametrize(
    "kind, fields",
    [
        ("snooze", {"days": "8"}),
        ("snooze", {"days": "two"}),
        ("comment", {"words": ""}),
        ("comment", {"words": "two\u2028lines"}),
        ("hand_over", {}),
        ("exempt", {"control": SSH, "code": "because", "days": "30", "owner": "x"}),
    ],
)
def test_a_command_that_says_too_little_changes_nothing(
    console: World, kind: str, fields: dict[str, str]
) -> None:
    case = console.asked()
    reply = send(console, case, kind, **fields)
    assert reply.status == 422
    assert "Nothing was changed." in text_of(reply)
    assert recorded(console, case) == []


def test_a_command_that_is_refused_says_why(console: World) -> None:
    reply = send(
        console,
        console.asked(),
        "exempt",
        control=SSH,
        code="accepted_risk",
        days="400",
        owner="t@example.org",
    )
    assert reply.status == 409
    assert "Nothing was changed:" in text_of(reply)


def test_a_refused_form_is_open_and_has_what_was_typed_into_it(console: World) -> None:
    typed = {"code": "compensating", "days": "400", "owner": HOSTILE[:40], "words": "long thought about"}
    page = send(console, console.asked(), "exempt", control=SSH, **typed).body
    (form,) = [part.partition("</form>")[0] for part in page.split("<details open>")[1:]]
    assert '/exempt#main"' in form
    assert 'name="days" type="number" min="1" max="180" value="400"' in form
    assert '<option value="compensating" selected>' in form
    assert 'value="long thought about"' in form
    assert "&lt;script&gt;" in form
    assert page.count("long thought about") == 1


def test_an_incident_that_is_refused_keeps_which_it_was(console: World) -> None:
    page = send(console, console.asked(), "incident", declared="no", root_cause="a test", words="").body
    assert 'name="declared" value="no" required checked' in page
    assert 'value="a test"' in page


@pytest.mark.parametrize("kind", ["incident", "take_up", "undo", "exempt"])
def test_what_is_an_operators_is_neither_offered_to_nor_taken_from_others(console: World, kind: str) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    page = Forms(console.get(f"/cases/{case.id}", cookie=cookie).body)
    assert not [action for action, _ in page.forms if f"/{kind}" in action]
    assert console.post(f"/cases/{case.id}/{kind}", {}, cookie).status == 403
    assert recorded(console, case) == []


@pytest.mark.parametrize("kind", ["freeze", "mode", "policy", "answer2"])
def test_no_other_command_is_sent_from_here(console: World, kind: str) -> None:
    assert console.post(f"/cases/{console.asked().id}/{kind}", {}, console.signed_in(OLGA)).status == 404


def test_a_command_from_elsewhere_changes_nothing(console: World) -> None:
    case = console.asked()
    cookie = console.signed_in(OLGA)
    hidden = Forms(console.get(f"/cases/{case.id}", cookie=cookie).body).of(f"/cases/{case.id}/comment")
    evil = {"origin": "https://evil.example"}
    assert console.post(f"/cases/{case.id}/comment", {**hidden, "words": "x"}, cookie, evil).status == 403
    assert recorded(console, case) == []


def test_a_field_that_comes_twice_is_left_out_and_what_is_no_text_has_no_fields() -> None:
    assert form(Request("POST", "/", body=b"a=1&a=2&b=3")) == {"b": "3"}
    assert form(Request("POST", "/", body=b"\xff=1")) == {}
    assert form(Request("POST", "/", body=b"&".join(b"a%d=1" % number for number in range(31)))) == {}
