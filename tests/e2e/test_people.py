"""People in the loop, through the deployed API: who answers, who may not, and what an answer, asked twice, does once."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from chalicelib.cli.api import ApiError
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import AnswerAsk, Revoke, Undo
from chalicelib.flow.errand import Answered, Exempted, UndoRun
from local.demo import WORLD, answer, refused
from local.emulator.world import Credentials
from local.stage import APPROVES, DEVELOPS, Stage
from tests.e2e.scenes import (
    ONLY_443,
    RDP,
    SSH,
    VISIBILITY_SECONDS,
    broken,
    calm,
    cases,
    drain,
    effective,
    exempt,
    halves,
    kinds,
    of,
    peek,
    receives,
    send,
    set_mode,
    story,
    waiting,
)

pytestmark = pytest.mark.emulator

CONTROL = "ec2-open-rdp"
OPEN = frozenset({(443, WORLD), (RDP, WORLD)})
ASKED = ["RECEIVED", "DECIDED", "ASKED"]
CARRIED_OUT = [*ASKED, "ANSWERED", "DECIDED", "INTENT", "RESULT"]
AT_ONCE, APPROVERS = 50, 10
BUSY = "the API answered 429"


@pytest.fixture(autouse=True)
def asking(stage: Stage) -> Iterator[None]:
    """A person is asked whenever port 3389 is opened, and time goes by as it does."""
    set_mode(stage, Mode.ASK, CONTROL)
    yield
    stage.world.shift_clock(timedelta())
    set_mode(stage, Mode.ACT, CONTROL)


def asked(stage: Stage, name: str, who: Credentials | None = None) -> tuple[str, Case]:
    """A group whose port 3389 was just opened, and the case that waits for an answer."""
    group = stage.security_group(name)
    stage.open(group, RDP, ec2=stage.world.client("ec2", who or stage.developer))
    return group, stage.await_case(stage.arn(group), CaseState.WAITING)


def repaired(stage: Stage, name: str) -> tuple[str, Case]:
    """A group whose port 22 was closed without anybody being asked, and its case."""
    group = stage.security_group(name)
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    (case,) = cases(stage, group)
    return group, case


def undo_asked(stage: Stage, name: str) -> tuple[str, Case]:
    """A repaired group, and the case in which olga wants the repair undone."""
    group, case = repaired(stage, name)
    stage.command(Undo(case=case.id, run=1, owner="network team", reason="it cut off the backup"))
    return group, stage.await_case(stage.arn(group), CaseState.WAITING)


# -- one answer decides -----------------------------------------------------------------------------------------------


def test_of_fifty_answers_at_once_one_decides_and_all_others_are_told_who(stage: Stage) -> None:
    people = [stage.world.create_user(f"approver-{number}", APPROVES) for number in range(APPROVERS)]
    group, case = asked(stage, "people-fifty")
    taken: list[str] = []
    turned_away: list[str] = []
    start = threading.Barrier(AT_ONCE)

    def say(who: Credentials) -> None:
        start.wait()
        said = BUSY
        while said.startswith(BUSY):  # API Gateway has no room for so many at once
            try:
                answer(stage, case, who)
            except ApiError as error:
                said = str(error)
            else:
                taken.append(who.arn)
                return
        turned_away.append(said)

    threads = [threading.Thread(target=say, args=(people[n % APPROVERS],)) for n in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = taken
    assert len(turned_away) == AT_ONCE - 1
    assert {said.split(" approved it already")[0] for said in turned_away} == {f"refused: {first}"}

    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    bodies = story(stage, group)
    assert kinds(bodies) == CARRIED_OUT
    assert of(bodies, "ANSWERED")[0]["data"]["by"] == first
    assert of(bodies, "INTENT")[0]["data"]["approved_by"] == first
    assert len(effective(stage, group)) == 1
    assert stage.ingress(group) == ONLY_443
    assert broken(stage, group) == []
    # The function that took the answer has a record of it too, and of everybody whom it turned away.
    by_http = [body for body in stage.records(stage.arn(group)) if body["chain"] != case.id]
    assert sorted(kinds(by_http)) == ["ANSWERED", *["ANSWER_REFUSED"] * (AT_ONCE - 1)]


def test_a_no_decides_and_nothing_is_changed(stage: Stage) -> None:
    group, case = asked(stage, "people-denied")
    said = answer(stage, case, stage.approver, approve=False)
    assert said.says.endswith("is denied; nothing is changed")
    ended = stage.await_case(stage.arn(group), CaseState.DENIED)
    assert "denied it already" in refused(stage, ended.model_copy(update={"ask": case.ask}), stage.operator)
    assert kinds(story(stage, group)) == [*ASKED, "ANSWERED"]
    assert effective(stage, group) == []
    assert stage.ingress(group) == OPEN


# -- who may not ------------------------------------------------------------------------------------------------------


def test_whoever_made_the_change_does_not_approve_its_repair(stage: Stage) -> None:
    anything = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}
    dora = stage.world.create_user("dora", {**DEVELOPS, "Statement": [*DEVELOPS["Statement"], anything]})
    group, case = asked(stage, "people-self", dora)
    assert "you made the change" in refused(stage, case, dora)
    calm(stage)
    (record,) = stage.records(stage.arn(group), "ANSWER_REFUSED")
    assert (record["actor"]["arn"], record["data"]["approve"]) == (dora.arn, True)
    assert kinds(story(stage, group)) == ASKED
    assert stage.ingress(group) == OPEN
    answer(stage, case, stage.approver)
    stage.await_record(stage.arn(group), "RESULT")
    assert stage.ingress(group) == ONLY_443


def test_who_wants_a_change_undone_may_deny_and_not_approve_it(stage: Stage) -> None:
    group, case = undo_asked(stage, "people-undo-self")
    assert "you wanted it taken back" in refused(stage, case, stage.operator)
    answer(stage, case, stage.operator, approve=False)
    stage.await_record(stage.arn(group), "ANSWERED", 2)
    calm(stage)
    assert "UNDO_INTENT" not in kinds(story(stage, group))
    assert stage.ingress(group) == ONLY_443
    assert cases(stage, group)[-1].state is CaseState.CLOSED


def test_an_approver_may_answer_and_give_no_other_command(stage: Stage) -> None:
    group = stage.security_group("people-only-answers")
    with pytest.raises(ApiError, match="403"):
        stage.command(exempt(stage, group, CONTROL), stage.approver)
    assert [one for one in stage.ledger.exemptions() if one.resource == stage.arn(group)] == []


# -- time -------------------------------------------------------------------------------------------------------------


def test_an_approval_after_the_end_is_refused_though_the_case_still_waits(stage: Stage) -> None:
    group, case = asked(stage, "people-late")
    stage.world.shift_clock(timedelta(hours=8, minutes=1))
    assert "the ask expired at" in refused(stage, case, stage.approver)
    assert cases(stage, group)[-1].state is CaseState.WAITING
    assert stage.ledger.answers(case.id, 1) is None

    stage.fire("tick")
    stage.await_case(stage.arn(group), CaseState.EXPIRED)
    calm(stage)
    assert kinds(story(stage, group)) == [*ASKED, "EXPIRED", "TICKET_OPENED"]
    assert [ticket.case for ticket in stage.tickets() if ticket.target.id == group] == [case.id]
    assert "nobody is asked" in refused(stage, case, stage.approver)
    assert effective(stage, group) == []
    assert stage.ingress(group) == OPEN


def test_at_half_time_people_are_reminded_once_and_may_still_answer(stage: Stage) -> None:
    group, case = asked(stage, "people-reminded")
    stage.world.shift_clock(timedelta(hours=5))
    for _ in range(2):
        stage.fire("tick")
        stage.await_record(stage.arn(group), "REMINDED")
        calm(stage)
    assert kinds(story(stage, group)) == [*ASKED, "REMINDED"]
    answer(stage, case, stage.approver)
    stage.await_record(stage.arn(group), "RESULT")
    assert stage.ingress(group) == ONLY_443


# -- exemptions -------------------------------------------------------------------------------------------------------


def test_an_exemption_ends_the_ask_and_when_it_is_revoked_the_engine_looks_and_asks(stage: Stage) -> None:
    group, case = asked(stage, "people-exempt")
    stage.command(exempt(stage, group, CONTROL))
    stage.await_case(stage.arn(group), CaseState.EXEMPT)
    assert "nobody is asked" in refused(stage, case, stage.approver)
    stage.command(
        Revoke(resource=stage.arn(group), control=CONTROL, account=stage.world.account, reason="bastion gone")
    )
    again = stage.await_case(stage.arn(group), CaseState.WAITING)
    calm(stage)
    assert again.ask is not None
    assert case.ask is not None
    assert (again.ask.plan_hash, again.ask.controls) == (case.ask.plan_hash, (CONTROL,))
    assert kinds(story(stage, group)).count("ASKED") == 2
    assert effective(stage, group) == []
    assert stage.ingress(group) == OPEN


def test_a_case_that_is_exempt_already_is_left_as_it_is_when_the_exemption_is_told_of_again(
    stage: Stage,
) -> None:
    group = stage.security_group("people-exempt-again")
    stage.command(exempt(stage, group, CONTROL))
    stage.open(group, RDP)
    stage.await_case(stage.arn(group), CaseState.EXEMPT)
    calm(stage)
    before = story(stage, group)
    body = Exempted(resource=stage.arn(group), control=CONTROL, request_id="told-again").model_dump_json()
    send(stage, "commands", body, body)
    calm(stage)
    assert story(stage, group) == before
    assert len(cases(stage, group)) == 1
    assert kinds(before) == ["RECEIVED", "DECIDED"]


# -- once, however often ----------------------------------------------------------------------------------------------


def test_an_errand_that_comes_again_does_nothing_again(stage: Stage) -> None:
    group, case = asked(stage, "people-again")
    answer(stage, case, stage.approver)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    before = story(stage, group)
    body = Answered(case=case.id, ask=1).model_dump_json()
    send(stage, "commands", body, body)
    calm(stage)
    assert story(stage, group) == before
    assert len(effective(stage, group)) == 1
    assert waiting(stage, "commands-dlq") == 0


def test_an_undo_that_is_sent_again_is_done_once(stage: Stage) -> None:
    group, case = undo_asked(stage, "people-undo-again")
    answer(stage, case, stage.approver)
    stage.await_record(stage.arn(group), "UNDO_RESULT")
    calm(stage)
    before = story(stage, group)
    assert of(before, "UNDO_RESULT")[0]["data"]["outcome"] == "fixed"
    body = UndoRun(case=case.id, ask=1).model_dump_json()
    send(stage, "undo", body, body)
    send(stage, "commands", Answered(case=case.id, ask=1).model_dump_json())
    calm(stage)
    assert story(stage, group) == before
    assert halves(before) == set()
    assert stage.ingress(group) == {(443, WORLD), (SSH, WORLD)}
    assert (
        len([call for call in stage.calls_by("undo") if call.session.startswith(f"redress-{case.id}-")]) == 1
    )


def test_an_undo_that_nobody_approved_is_not_done_whoever_sends_it(stage: Stage) -> None:
    group, case = undo_asked(stage, "people-undo-unapproved")
    send(stage, "undo", UndoRun(case=case.id, ask=1).model_dump_json())
    calm(stage)
    assert cases(stage, group)[-1].state is CaseState.WAITING
    assert stage.ingress(group) == ONLY_443
    assert kinds(story(stage, group))[-1] == "ASKED"


def test_what_is_no_errand_and_no_undo_is_kept_among_the_dead_letters(stage: Stage) -> None:
    odd = {
        "commands": '{"errand": "act", "case": "everything"}',
        "undo": '{"case": "x", "ask": 1, "force": true}',
    }
    for name, body in odd.items():
        drain(stage, f"{name}-dlq")
        receives(stage, visibility=1, most=2, name=name)
        send(stage, name, body)
    try:
        stage.world.wait_for(
            lambda: all(waiting(stage, f"{name}-dlq") == 1 for name in odd), 30.0, "two dead letters"
        )
        for name, body in odd.items():
            assert [json.loads(one) for one in peek(stage, f"{name}-dlq").values()] == [json.loads(body)]
    finally:
        for name in odd:
            drain(stage, f"{name}-dlq")
            receives(stage, visibility=VISIBILITY_SECONDS, name=name)


def test_an_answer_to_a_plan_that_nobody_shows_is_refused(stage: Stage) -> None:
    group, case = asked(stage, "people-hash")
    with pytest.raises(ApiError, match="the plan changed since you looked"):
        stage.command(
            AnswerAsk(case=case.id, ask=case.asks, plan_hash="0" * 64, approve=True, reason="blindly"),
            stage.approver,
        )
    assert kinds(story(stage, group)) == ASKED
    assert stage.ingress(group) == OPEN
