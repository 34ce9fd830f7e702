"""Approvals attacked: by look-alikes, by who made the change, by who can write the answers, and by who comes late.

The engine goes by none of what is tried here: nothing is written, and the trail says why.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.approval import Answer, Answers, Door
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.policy import Policy, principal_of
from chalicelib.domain.ports import Owner
from chalicelib.domain.record import Head
from chalicelib.flow import answering
from chalicelib.flow.answering import MOST_CHANGES_OF_MIND, Said, Who
from chalicelib.flow.desk import caller
from chalicelib.flow.errand import Answered, UndoRun
from chalicelib.flow.undo import carry_out
from tests.fakes.cases import Item
from tests.fakes.house import ACCOUNT, ANNA, House
from tests.flow.people import asked, built, group
from tests.flow.test_asking import BERT
from tests.flow.test_consent import (
    ANN_OIDC,
    ANNA_OIDC,
    BERT_OIDC,
    CARL,
    CARL_OIDC,
    DOCUMENT,
    DORA_OIDC,
    IDP,
    policy,
    refused,
    rule,
)
from tests.flow.test_pipeline import SSH, Group
from tests.flow.test_undo import order, repaired

__all__ = ["built", "group"]

WEB = Door.CONSOLE


@pytest.fixture
def case(built: House, group: Group) -> Case:
    """Ann opened port 22; two of Anna, Ann and Bert must agree to its closing."""
    built.set_policy(policy())
    return asked(built, group)


def given(case: Case, by: str, of: Policy | None = None, **changes: Any) -> Answer:
    """An answer as the answer function would have written it."""
    assert case.ask
    answer = Answer(
        by=by,
        principal=principal_of(of or policy(), by),
        at=case.ask.asked_at,
        approve=True,
        reason="forged",
        request_id=f"r-{by}",
        door=Door.CLI if by.startswith("arn:") else WEB,
    )
    return answer.model_copy(update=changes)


def written(built: House, case: Case, /, *answers: Answer, **changes: Any) -> None:
    """Answers that lie in the store however they got there: whoever runs as the HTTP function can write them."""
    assert case.ask
    item = Answers(
        case=case.id,
        ask=case.ask.seq,
        plan_hash=case.ask.plan_hash,
        answers=answers,
        version=len(answers),
        head=Head(seq=len(answers), hash="1" * 64),
    ).model_copy(update=changes)
    built.cases.items["ANSWERS", case.id, str(case.ask.seq)] = Item(item.model_dump_json(), item.version)


def nothing_done(built: House, case: Case, why: str = "") -> None:
    """The engine is told to carry it out, by errand and by tick, and does not."""
    (walked,) = built.carry_out(Answered(case=case.id, ask=1))
    assert walked.verdict in {"refused", "waiting"}
    assert why in walked.reason
    built.tick()
    assert built.aws.writes == []
    assert "INTENT" not in built.kinds()
    if walked.verdict == "refused":
        assert built.kinds()[-1] == "ANSWER_REFUSED"


# -- who one is -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity",
    [
        f"oidc:{IDP}#Anna",
        f"oidc:{IDP}#\uff41nna",
        f"oidc:{IDP}#anna ",
        f"oidc:{IDP}/#anna",
        f"oidc:{IDP.replace('idp', 'IDP')}#anna",
        f"email:{IDP}#anna@example.com",
        "slack:T0OTHER/U0ANNA",
        "slack:T0000TEAM/U0ANNAX",
        f"arn:aws:iam::999999999999:user/{ANNA.rpartition('/')[2]}",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/dev/anna",
        "anna",
        "person:anna",
    ],
)
@pytest.mark.parametrize("door", [Door.CLI, WEB])
def test_a_look_alike_decides_nothing(built: House, case: Case, identity: str, door: Door) -> None:
    for approve in (True, False):
        refused(built, "the policy knows nobody as", by=identity, door=door, approve=approve)
    written(built, case, given(case, identity), given(case, BERT))
    nothing_done(built, case, "the policy knows nobody as")


def test_a_session_that_calls_itself_like_an_approver_is_nobody(built: House, case: Case) -> None:
    assert case.ask
    said = Said(case=case.id, ask=case.ask.seq, plan_hash=case.ask.plan_hash, approve=True, reason="r")
    session = caller(f"arn:aws:sts::{ACCOUNT}:assumed-role/dev/anna", "r")
    who = Who(session.arn, session.barred("answering"), session.actor, session.request_id)
    with pytest.raises(RefusedCommandError, match="is for a named person"):
        answering.answer(said, who, built.cases, built.clock, home=ACCOUNT, engine="test")
    assert built.cases.answers_of(case) is None


# -- who had a hand in it -------------------------------------------------------------------------------------------------


def test_self_approval_through_a_second_identity_is_refused_and_judged_again(
    built: House, case: Case
) -> None:
    refused(built, "you made the change", by=ANN_OIDC, door=WEB)
    written(built, case, given(case, ANN_OIDC), given(case, BERT))
    nothing_done(built, case, "you made the change")


def test_who_approves_first_and_changes_the_resource_then_has_not_approved(
    built: House, group: Group, case: Case
) -> None:
    built.answer(by=BERT_OIDC, door=WEB)
    built.clock.advance(timedelta(minutes=1))
    event = group.event((22, group.open(22, "1.2.3.4/32")), event_id="event-2")
    event["detail"]["userIdentity"]["arn"] = BERT
    built.walk(event)
    assert built.only_case().ask
    built.deliver()
    assert built.aws.writes == []
    assert built.only_case().ask is None, "it is asked again, and Bert is no approver of it"


def test_who_would_own_the_exemption_does_not_approve_the_undo_by_another_identity(
    built: House, group: Group
) -> None:
    built.set_policy(policy(rule(quorum=1)))
    wanted = order(built, repaired(built, group), by=CARL)
    owned = wanted.undone.model_copy(update={"owner": ANNA_OIDC})
    built.carry_out(wanted.model_copy(update={"undone": owned}))
    writes = len(built.aws.writes)
    for by, door in ((ANNA, Door.CLI), (ANNA_OIDC, WEB)):
        with pytest.raises(RefusedCommandError, match="would own the exemption"):
            built.answer(by=by, door=door)
    case = built.only_case()
    written(built, case, given(case, ANNA))
    assert carry_out(built.engine(), UndoRun(case=case.id, ask=case.asks)).verdict == "nothing"
    assert (len(built.aws.writes), group.ports) == (writes, [443])


def test_who_wants_the_undo_does_not_approve_it_after_a_sign_in(built: House, group: Group) -> None:
    built.set_policy(policy(rule(quorum=1, approvers=["anna", "bert", "carl"])))
    built.carry_out(order(built, repaired(built, group), by=CARL))
    with pytest.raises(RefusedCommandError, match="you wanted it taken back"):
        built.answer(by=CARL_OIDC, door=WEB)


@pytest.mark.parametrize("owner", ["Anna", ANNA, ANNA_OIDC])
def test_who_answers_for_the_account_does_not_approve_however_they_are_written(
    built: House, group: Group, owner: str
) -> None:
    built.set_policy(policy(rule(quorum=1)))
    built.cases.set(Owner(account=ACCOUNT, owner=owner, by="olga", at=built.clock.now()))
    case = asked(built, group)
    for by, door in ((ANNA, Door.CLI), (ANNA_OIDC, WEB)):
        refused(built, "you answer for the account, so you cannot approve it", by=by, door=door)
    written(built, case, given(case, ANNA))
    nothing_done(built, case, "you answer for the account")


@pytest.mark.parametrize("tag", ["dora@example.com", "anna", "somebody"])
def test_the_owner_tag_that_the_maker_chose_gives_and_takes_no_right(
    built: House, group: Group, tag: str
) -> None:
    """Dora, a viewer, opened the port and tagged the group: with herself, an approver, or nobody in the owner's place."""
    dora = f"arn:aws:iam::{ACCOUNT}:user/dora"
    people = {**DOCUMENT["people"], "dora": {**DOCUMENT["people"]["dora"], "identities": [DORA_OIDC, dora]}}
    built.set_policy(policy(rule(approvers=["anna", "bert", "carl"]), people=people))
    built.cases.set(Owner(account=ACCOUNT, owner="carl", by="olga", at=built.clock.now()))
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "Owner", "Value": tag}])
    built.raise_to(Mode.ASK, SSH)
    built.walk(group.event((22, group.open(22)), userIdentity={"type": "IAMUser", "arn": dora}))
    assert built.only_case().owner == tag
    refused(built, "does not let you decide", by=DORA_OIDC, door=WEB, approve=False)
    refused(built, "you answer for the account, so you cannot approve it", by=CARL)
    for by in (ANNA, BERT):
        built.answer(by=by)
    built.deliver()
    assert group.ports == [443]


# -- who can write answers ------------------------------------------------------------------------------------------------


LIES: list[tuple[str, Callable[[Case], tuple[Answer, ...]], str]] = [
    (
        "one person as two",
        lambda c: (given(c, ANNA), given(c, ANNA_OIDC, principal="person:bert")),
        "does not say plainly",
    ),
    ("one person twice", lambda c: (given(c, ANNA), given(c, ANNA_OIDC)), "1 of 2"),
    ("by a bare principal", lambda c: (given(c, ANNA), given(c, BERT, principal=BERT)), "plainly"),
    ("a viewer", lambda c: (given(c, ANNA), given(c, DORA_OIDC)), "does not name you"),
    (
        "glass that is not theirs",
        lambda c: (given(c, ANNA, break_glass=True),),
        "does not let you break the glass",
    ),
    (
        "glass by Slack",
        lambda c: (given(c, CARL, break_glass=True, door=Door.SLACK),),
        "does not let you break the glass",
    ),
    (
        "by Slack",
        lambda c: (given(c, ANNA), given(c, BERT, door=Door.SLACK)),
        "takes no answer through this door",
    ),
    (
        "too late",
        lambda c: (given(c, ANNA), given(c, BERT, at=c.ask.expires_at if c.ask else None)),
        "after the ask had expired",
    ),
    ("taken back", lambda c: (given(c, ANNA), given(c, BERT), given(c, ANNA, withdrawn=True)), "1 of 2"),
]


@pytest.mark.parametrize("lies, why", [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_what_was_written_past_the_answer_function_is_judged_again(
    built: House, case: Case, lies: Callable[[Case], tuple[Answer, ...]], why: str
) -> None:
    written(built, case, *lies(case))
    nothing_done(built, case, why)


@pytest.mark.parametrize("changes", [{"case": "b" * 20 + "-1"}, {"ask": 7}, {"plan_hash": "0" * 64}])
def test_answers_to_something_else_are_not_moved_here(
    built: House, case: Case, changes: dict[str, Any]
) -> None:
    written(built, case, given(case, ANNA), given(case, BERT), **changes)
    nothing_done(built, case, "another plan")


# -- who comes late, often, or at the wrong time --------------------------------------------------------------------------


def test_the_last_approval_one_second_after_the_end_is_refused_though_the_first_was_in_time(
    built: House, group: Group, case: Case
) -> None:
    assert case.ask
    built.answer(by=ANNA)
    built.deliver()
    built.clock.set(case.ask.expires_at + timedelta(seconds=1))
    refused(built, "expired", by=BERT)
    assert built.only_case().ask
    built.tick()
    assert (built.aws.writes, group.ports) == ([], [22, 443])


def test_an_approval_that_is_taken_back_while_the_last_one_is_written_is_not_counted(
    built: House, case: Case
) -> None:
    built.answer(by=ANNA)
    write = built.cases.answer

    def raced(change: Any) -> None:
        built.cases.answer = write  # type: ignore[method-assign] # the race happens once
        built.answer(by=ANNA, withdraw=True)
        write(change)

    built.cases.answer = raced  # type: ignore[method-assign] # a store in which somebody is quicker
    assert "as 1 of 2" in built.answer(by=BERT)
    built.deliver()
    assert (built.only_case().state, built.aws.writes) == ("waiting", [])


def test_nobody_fills_the_answers_up_so_that_others_cannot_deny(built: House, case: Case) -> None:
    for _ in range(MOST_CHANGES_OF_MIND):
        built.answer(by=ANNA)
        built.answer(by=ANNA, withdraw=True)
    refused(built, "you took it back too often", by=ANNA)
    refused(built, "you took it back too often", by=ANNA_OIDC, door=WEB)
    built.answer(by=ANNA, approve=False)
    assert built.deliver()[0].verdict == "denied"


def test_an_answer_that_is_delivered_again_after_a_new_ask_decides_nothing(
    built: House, group: Group, case: Case
) -> None:
    built.answer(by=ANNA)
    built.answer(by=BERT)
    group.open(22, "0.0.0.0/1")
    group.open(22, "128.0.0.0/1")
    assert built.deliver()[0].rule == "stale"
    for _ in range(3):
        built.carry_out(Answered(case=case.id, ask=1), Answered(case=case.id, ask=2))
    assert built.aws.writes == []
    assert built.only_case().state == "waiting"
