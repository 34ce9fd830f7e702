"""Answering and asking under a policy: quorum, doors, second identities, and a policy that changes on the way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from chalicelib.domain.approval import EXPIRES_AFTER, SETTLED_AFTER, Door
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import RefusedCommandError, StoreError
from chalicelib.domain.finding import Actor
from chalicelib.domain.policy import Policy, Rule
from chalicelib.domain.ports import Owner
from chalicelib.flow import answering
from chalicelib.flow.answering import Said, Who
from chalicelib.flow.errand import Answered, Tick, UndoRun
from chalicelib.flow.undo import carry_out
from tests.fakes.cases import Item
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, ANNA, House, house
from tests.flow.people import ANN, asked, built, group
from tests.flow.test_asking import BERT
from tests.flow.test_pipeline import EBS, RDP, SSH, Group
from tests.flow.test_undo import OLGA, order, repaired
from tests.remediations.test_ec2_enable_ebs_encryption_by_default import SCENARIO as EBS_SCENARIO

pytestmark = pytest.mark.thorough

__all__ = ["built", "group"]

IDP = "https://idp.example"
ANNA_OIDC, ANN_OIDC, BERT_OIDC, CARL_OIDC, DORA_OIDC = (
    f"oidc:{IDP}#{name}" for name in ("anna", "ann", "bert", "carl", "dora")
)
ANNA_SLACK, BERT_SLACK = "slack:T0000TEAM/U0ANNA", "slack:T0000TEAM/U0BERT"
CARL = f"arn:aws:iam::{ACCOUNT}:user/carl"
NOBODY = f"oidc:{IDP}#nobody"
WEB = Door.CONSOLE

DOCUMENT: dict[str, Any] = {
    "people": {
        "anna": {"name": "Anna", "identities": [ANNA, ANNA_OIDC, ANNA_SLACK], "roles": ["approver"]},
        "ann": {"name": "Ann", "identities": [ANN, ANN_OIDC], "roles": ["approver"]},
        "bert": {"name": "Bert", "identities": [BERT, BERT_OIDC, BERT_SLACK], "roles": ["approver"]},
        "carl": {"name": "Carl", "identities": [CARL, CARL_OIDC], "roles": ["operator"]},
        "dora": {"name": "Dora", "email": "dora@example.com", "identities": [DORA_OIDC]},
    },
    "groups": {"team": ["anna", "ann", "bert"]},
    "rules": [
        {
            "name": "easy",
            "severities": ["low", "medium"],
            "approvers": ["group:team"],
            "doors": ["cli", "console", "slack"],
        },
        {"name": "all", "approvers": ["group:team"], "quorum": 2},
    ],
    "break_glass": ["carl"],
    "slack_team": "T0000TEAM",
    "providers": [{"name": "corp", "title": "Corp", "issuer": IDP, "client_id": "c"}],
}


def rule(**changes: Any) -> dict[str, Any]:
    return {"name": "all", "approvers": ["group:team"], "quorum": 2, **changes}


def policy(*rules: dict[str, Any], **changes: Any) -> Policy:
    """The house's policy, with these rules in place of its own."""
    return Policy.model_validate_json(to_json({**DOCUMENT, **({"rules": rules} if rules else {}), **changes}))


def people_without(*identities: str) -> dict[str, Any]:
    """The same people, by fewer identities, and by none of the names."""
    return {
        name: {**person, "identities": [one for one in person["identities"] if one not in identities]}
        for name, person in DOCUMENT["people"].items()
    }


@pytest.fixture
def case(built: House, group: Group) -> Case:
    """Ann opened port 22; two others must agree to its closing."""
    built.set_policy(policy())
    return asked(built, group)


def kinds(built: House) -> list[str]:
    """What people were told, besides errands."""
    return [notice.kind for notice in built.cases.notices if notice.kind != "errand"]


def refused(built: House, says: str, **answer: Any) -> None:
    """The answer is refused for that reason, on record, and nothing else is written."""
    before = {name: item for name, item in built.cases.items.items() if name[0] != "RECORD"}
    with pytest.raises(RefusedCommandError, match=says):
        built.answer(**answer)
    assert {name: item for name, item in built.cases.items.items() if name[0] != "RECORD"} == before
    assert built.cases.records[-1].draft.type == "ANSWER_REFUSED"
    assert built.aws.writes == []


# -- without a policy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [Door.CONSOLE, Door.SLACK])
@pytest.mark.parametrize("approve", [True, False])
def test_without_a_policy_only_the_commands_route_takes_answers(
    built: House, group: Group, door: Door, approve: bool
) -> None:
    asked(built, group)
    refused(built, "no policy is set", by=ANNA_OIDC, door=door, approve=approve)
    refused(built, "no policy is set", break_glass=True)
    built.answer()
    assert [one.outcome for one in built.deliver()] == ["fixed"]


# -- quorum ---------------------------------------------------------------------------------------------------------------


def test_the_first_of_two_approvals_changes_nothing_and_the_second_acts(
    built: House, group: Group, case: Case
) -> None:
    assert "as 1 of 2; nothing is changed until the others have" in built.answer(by=ANNA_OIDC, door=WEB)
    (walked,) = built.deliver()
    assert (walked.verdict, walked.rule, walked.reason) == ("waiting", "more must approve", "1 of 2 approved")
    assert (built.only_case().state, built.aws.writes) == ("waiting", [])
    told = built.cases.notices[-1]
    assert (told.kind, told.body["reason"]) == ("ask_progress", "1 of 2 approved")
    assert "is approved" in built.answer(by=BERT)
    (walked,) = built.deliver()
    assert (walked.outcome, group.ports) == ("fixed", [443])
    assert built.record("INTENT")["approved_by"] == f"{ANNA_OIDC}, {BERT}"
    (engines,) = (r for r in built.cases.chain(case.id) if r.draft.type == "ANSWERED")
    assert engines.draft.data["by"] == f"{ANNA_OIDC}, {BERT}"
    assert built.kinds(f"ANSWER#{case.id}#1") == ["ANSWERED", "ANSWERED"]


def test_the_tick_leaves_an_ask_alone_that_waits_for_a_second_approval(
    built: House, group: Group, case: Case
) -> None:
    built.answer()
    built.deliver()
    built.clock.advance(timedelta(minutes=1))
    assert built.tick() == []
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    assert [one.verdict for one in built.tick()] == ["expired"]
    assert (built.aws.writes, group.ports) == ([], [22, 443])


def test_one_person_with_two_identities_counts_once(built: House, case: Case) -> None:
    built.answer(by=ANNA)
    refused(built, "you approved it already, at .*; somebody else has to as well", by=ANNA_OIDC, door=WEB)
    assert [one.verdict for one in built.deliver()] == ["waiting"]
    assert built.aws.writes == []


def test_who_made_the_change_as_an_iam_user_does_not_approve_it_after_a_sign_in(
    built: House, case: Case
) -> None:
    refused(built, "you made the change", by=ANN_OIDC, door=WEB)
    assert "denied" in built.answer(by=ANN_OIDC, door=WEB, approve=False)


def test_who_answers_for_the_account_denies_and_does_not_approve(built: House, group: Group) -> None:
    """Whatever the resource's own tag says: whoever made the change may have chosen it."""
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "owner", "Value": "anna"}])
    built.cases.set(Owner(account=ACCOUNT, owner="Dora@Example.com", by="olga", at=built.clock.now()))
    built.set_policy(policy(rule(approvers=["anna", "bert", "dora"])))
    case = asked(built, group)
    assert case.owner == "anna"
    refused(built, "you answer for the account, so you cannot approve it", by=DORA_OIDC, door=WEB)
    assert "you approved" in built.answer(by=ANNA)
    built.answer(by=DORA_OIDC, door=WEB, approve=False)
    assert built.deliver()[0].verdict == "denied"


@pytest.mark.parametrize("identity", [NOBODY, OLGA])
@pytest.mark.parametrize("approve", [True, False])
def test_whom_the_policy_does_not_know_says_nothing(
    built: House, case: Case, identity: str, approve: bool
) -> None:
    refused(built, "the policy knows nobody as", by=identity, approve=approve)


def test_a_viewer_neither_approves_nor_denies(built: House, case: Case) -> None:
    refused(built, "does not name you", by=DORA_OIDC, door=WEB)
    refused(built, "does not let you decide", by=DORA_OIDC, door=WEB, approve=False)


def test_whoever_answers_for_the_account_since_then_counts_from_the_next_look_on(
    built: House, group: Group, case: Case
) -> None:
    assert case.ask
    built.cases.set(Owner(account=ACCOUNT, owner="Anna", by="olga", at=built.clock.now()))
    built.walk(group.event((22, "the same rule"), event_id="event-2"))
    again = built.only_case().ask
    assert again
    assert (again.seq, again.owner) == (case.ask.seq, "Anna")
    refused(built, "you answer for the account, so you cannot approve it", by=ANNA)


def test_a_second_control_is_no_way_around_the_rule_for_the_first(built: House, group: Group) -> None:
    built.set_policy(policy(rule(name="ssh", controls=[SSH]), rule(name="rest", quorum=1)))
    built.raise_to(Mode.ASK, SSH, RDP)
    built.walk(group.event((22, group.open(22)), (3389, group.open(3389))))
    case = built.only_case()
    assert case.ask
    assert case.ask.controls == (RDP, SSH)
    assert "as 1 of 2" in built.answer(by=ANNA)
    assert ([one.verdict for one in built.deliver()], built.aws.writes) == (["waiting"], [])
    built.answer(by=BERT)
    assert [one.outcome for one in built.deliver()] == ["fixed"]


# -- a denial wins --------------------------------------------------------------------------------------------------------


def test_a_denial_before_the_approvals_ends_it(built: House, case: Case) -> None:
    built.answer(by=BERT, approve=False)
    refused(built, f"{BERT} denied it already")
    assert [one.verdict for one in built.deliver()] == ["denied"]
    refused(built, f"{BERT} denied it already")
    assert kinds(built)[-1] == "ask_denied"


def test_a_denial_after_the_first_approval_wins_and_may_be_the_same_persons(built: House, case: Case) -> None:
    built.answer(by=ANNA)
    built.answer(by=ANNA_OIDC, door=WEB, approve=False)
    assert [one.verdict for one in built.deliver()] == ["denied", "nothing"]
    assert (built.only_case().state, built.aws.writes) == ("denied", [])


def test_a_denial_that_comes_while_the_last_approval_is_written_wins(built: House, case: Case) -> None:
    """Both read the first approval; whichever is written second is judged again on what the first has decided."""
    built.answer(by=ANNA)
    write = built.cases.answer

    def raced(change: Any) -> None:
        built.cases.answer = write  # type: ignore[method-assign] # the race happens once
        built.answer(by=CARL, approve=False)
        write(change)

    built.cases.answer = raced  # type: ignore[method-assign] # a store in which somebody is quicker
    with pytest.raises(RefusedCommandError, match=f"{CARL} denied it already"):
        built.answer(by=BERT)
    built.deliver()
    assert (built.only_case().state, built.aws.writes) == ("denied", [])


# -- taken back -----------------------------------------------------------------------------------------------------------


def test_an_approval_is_taken_back_before_the_quorum_and_not_after(built: House, case: Case) -> None:
    refused(built, "you have not approved it, so there is nothing to take back", withdraw=True)
    built.answer(by=ANNA)
    refused(built, "nothing to take back", by=BERT, withdraw=True)
    says = built.answer(by=ANNA_OIDC, door=WEB, withdraw=True)
    assert says.endswith("is taken back; 0 of 2 approved")
    refused(built, "nothing to take back", withdraw=True)
    assert built.kinds(f"ANSWER#{case.id}#1") == ["ANSWERED", "WITHDRAWN"]
    built.answer(by=BERT)
    assert {one.verdict for one in built.deliver()} == {"waiting"}
    assert built.cases.notices[-1].body["reason"] == "1 of 2 approved"
    built.answer(by=ANNA)
    refused(built, f"{ANNA} approved it already", by=ANNA, withdraw=True)
    assert [one.outcome for one in built.deliver()] == ["fixed"]


@pytest.mark.parametrize(
    "both", [{"withdraw": True, "break_glass": True}, {"withdraw": True, "approve": False}]
)
def test_an_answer_is_one_thing(built: House, case: Case, both: dict[str, bool]) -> None:
    with pytest.raises(ValidationError, match="not both"):
        built.answer(**both)  # type: ignore[arg-type]  # flags, each a bool


def test_a_new_plan_clears_the_approvals_of_the_old_one(built: House, group: Group, case: Case) -> None:
    built.answer(by=ANNA)
    built.deliver()
    group.open(22, "0.0.0.0/1")
    group.open(22, "128.0.0.0/1")
    built.answer(by=BERT)
    (walked,) = built.deliver()
    assert (walked.verdict, walked.rule) == ("ask", "stale")
    assert "STALE" in built.kinds()
    assert built.cases.answers_of(built.only_case()) is None
    built.answer(by=BERT)
    assert [one.verdict for one in built.deliver()] == ["waiting"], "Anna saw another plan"
    assert built.aws.writes == []


# -- glass ----------------------------------------------------------------------------------------------------------------


def test_who_may_break_the_glass_decides_alone_and_everybody_hears_of_it(
    built: House, group: Group, case: Case
) -> None:
    refused(built, "does not let you break the glass", break_glass=True)
    refused(built, "does not let you break the glass", by=CARL_OIDC, door=Door.SLACK, break_glass=True)
    refused(built, "does not name you", by=CARL)
    built.answer(by=ANNA)
    built.answer(by=CARL, break_glass=True)
    assert [(one.verdict, one.outcome) for one in built.deliver()] == [("act", "fixed"), ("nothing", "")]
    assert built.kinds(f"ANSWER#{case.id}#1") == ["ANSWERED", "BREAK_GLASS"]
    (glass,) = (notice for notice in built.cases.notices if notice.kind == "break_glass")
    assert (glass.body["by"], glass.body["reason"]) == (CARL, "looked at it")
    assert built.record("INTENT")["approved_by"] == CARL
    assert group.ports == [443]


def test_whoever_approved_before_may_still_break_the_glass(built: House, group: Group) -> None:
    built.set_policy(policy(break_glass=["anna"]))
    asked(built, group)
    built.answer(by=ANNA)
    built.answer(by=ANNA_OIDC, door=WEB, break_glass=True)
    assert built.deliver()[0].outcome == "fixed"


# -- what the sign-in told ------------------------------------------------------------------------------------------------


def test_an_approval_needs_the_sign_in_that_its_rule_asks_for(built: House, group: Group) -> None:
    built.set_policy(policy(rule(quorum=1, mfa=True, login_within_minutes=5)))
    asked(built, group)
    now, web = built.clock.now(), {"by": ANNA_OIDC, "door": WEB}
    refused(built, "within the last 5 minutes", **web, mfa=True)
    refused(built, "within the last 5 minutes", **web, mfa=True, logged_in_at=now - timedelta(minutes=6))
    refused(built, "a second factor", **web, logged_in_at=now)
    refused(built, "within the last 5 minutes", by=ANNA)
    built.answer(by=ANNA_OIDC, door=WEB, mfa=True, logged_in_at=now - timedelta(minutes=5))
    assert [one.outcome for one in built.deliver()] == ["fixed"]
    given = built.cases.chain(f"ANSWER#{built.only_case().id}#1")[0].draft.data
    assert (given["door"], given["mfa"], given["logged_in_at"]) == (
        "console",
        True,
        "2026-08-03T11:55:00.000Z",
    )


def test_a_slack_button_decides_what_is_not_severe_and_nothing_else(built: House, case: Case) -> None:
    refused(built, "takes no answer through this door", by=ANNA_SLACK, door=Door.SLACK)
    refused(built, "takes no answer through this door", by=ANNA_SLACK, door=Door.SLACK, approve=False)


def test_no_policy_lets_a_slack_button_decide_what_is_severe(built: House, case: Case) -> None:
    """Whoever writes the table cannot either: the rule is read through the model that refuses it."""
    forged = policy().model_copy(
        update={
            "rules": (
                Rule(name="r", approvers=("anna",), doors=(Door.CLI,)).model_copy(
                    update={"doors": (Door.SLACK,)}
                ),
            )
        }
    )
    built.set_policy(forged)
    before = dict(built.cases.items)
    with pytest.raises(StoreError, match="cannot be read"):
        built.answer(by=ANNA_SLACK, door=Door.SLACK)
    assert built.cases.items == before


# -- which rule, and none -------------------------------------------------------------------------------------------------


def test_what_nobody_may_approve_is_a_ticket_at_once(built: House, group: Group) -> None:
    built.set_policy(policy({"name": "easy", "severities": ["low"], "approvers": ["anna"]}))
    built.raise_to(Mode.ASK, SSH)
    walked = built.walk(group.event((22, group.open(22))))
    assert (walked.verdict, walked.rule) == ("ticket", "nobody may approve")
    assert "no rule for this" in walked.reason
    now = built.only_case()
    assert (now.state, now.ask) == ("ticketed", None)
    assert kinds(built) == ["ticket_open"]
    assert "ASKED" not in built.kinds()


def test_what_too_few_may_approve_is_a_ticket_at_once(built: House, group: Group) -> None:
    built.set_policy(policy(rule(approvers=["ann", "anna"])))
    built.raise_to(Mode.ASK, SSH)
    walked = built.walk(group.event((22, group.open(22))))
    assert (walked.verdict, walked.reason) == ("ticket", "the rule all wants 2 to approve, and 1 could")


@pytest.mark.parametrize(
    "scope, fits",
    [
        ({"severities": ["high"]}, True),
        ({"severities": ["critical"]}, False),
        ({"accounts": [ACCOUNT]}, True),
        ({"accounts": ["444455556666"]}, False),
        ({"ous": ["ou-web"]}, True),
        ({"environments": ["production"]}, True),
        ({"environments": ["lab"]}, False),
        ({"controls": [SSH]}, True),
        ({"controls": [EBS]}, False),
    ],
)
def test_the_rule_is_chosen_by_what_is_decided(
    built: House, group: Group, scope: dict[str, Any], fits: bool
) -> None:
    facts = {ACCOUNT: {"environment": "production", "ou": "ou-web"}}
    built.set_policy(policy(rule(name="one", quorum=1, **scope), rule(), accounts=facts))
    asked(built, group)
    assert ("1 of 2" in built.answer()) is not fits


# -- a policy that changes on the way -------------------------------------------------------------------------------------


def approved(built: House) -> Case:
    """Both approved; the errand is on its way."""
    built.answer(by=ANNA)
    built.answer(by=BERT)
    return built.only_case()


CHANGES: list[tuple[str, Callable[[], Policy], str]] = [
    ("removed", lambda: policy(rule(approvers=["anna", "ann", "carl"])), "does not name you as an approver"),
    ("remapped", lambda: policy(people=people_without(BERT)), "does not say plainly who gave it"),
    ("door", lambda: policy(rule(doors=["console"])), "takes no answer through this door"),
    ("no rule", lambda: policy(rule(severities=["critical"])), "has no rule for this"),
    ("factor", lambda: policy(rule(mfa=True)), "asks for a second factor"),
]


@pytest.mark.parametrize("change, why", [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
@pytest.mark.parametrize("by_tick", [False, True])
def test_an_approval_that_the_policy_takes_no_longer_changes_nothing_and_the_record_says_why(
    built: House, group: Group, case: Case, change: Callable[[], Policy], why: str, by_tick: bool
) -> None:
    approved(built)
    built.set_policy(change())
    walked, *_ = built.tick() if by_tick else built.deliver()
    assert (walked.verdict, why in walked.reason) == ("refused", True)
    assert (built.aws.writes, group.ports) == ([], [22, 443])
    last = built.cases.chain(case.id)[-1].draft
    assert (last.type, why in str(last.data["problem"])) == ("ANSWER_REFUSED", True)
    now = built.only_case()
    assert (now.state, now.ask) == ("expired", None)
    assert kinds(built)[-1] == "ask_refused"


def test_a_quorum_that_was_raised_meanwhile_waits_for_the_third(
    built: House, group: Group, case: Case
) -> None:
    approved(built)
    built.set_policy(policy(rule(approvers=["anna", "bert", "carl"], quorum=3)))
    assert {one.verdict for one in built.deliver()} == {"waiting"}
    assert (built.only_case().state, built.aws.writes) == ("waiting", [])
    assert built.cases.notices[-1].body["reason"] == "2 of 3 approved"
    built.answer(by=CARL)
    assert [one.outcome for one in built.deliver()] == ["fixed"]


def test_a_policy_that_was_set_after_an_iam_approval_asks_again(built: House, group: Group) -> None:
    asked(built, group)
    built.answer(by=OLGA)
    built.set_policy(policy())
    (walked,) = built.deliver()
    assert (walked.verdict, built.aws.writes) == ("refused", [])


def unreadable(built: House) -> None:
    built.set_policy(policy())
    built.cases.items["POLICY",] = Item('{"policy": "perhaps"}')


def test_a_policy_that_cannot_be_read_takes_no_answer(built: House, case: Case) -> None:
    unreadable(built)
    before = dict(built.cases.items)
    for answer in ({}, {"approve": False}, {"by": CARL, "break_glass": True}):
        with pytest.raises(StoreError, match="POLICY cannot be read"):
            built.answer(**answer)
    assert built.cases.items == before


def test_a_policy_that_cannot_be_read_lets_the_engine_do_nothing(
    built: House, group: Group, case: Case
) -> None:
    approved(built)
    unreadable(built)
    before = dict(built.cases.items)
    with pytest.raises(StoreError):
        built.deliver()
    (failure,) = built.run(Tick()).failures
    assert isinstance(failure, StoreError)
    other = Group(built)
    with pytest.raises(StoreError):
        built.walk(other.event((22, other.open(22)), event_id="event-2"))
    assert (built.cases.items, built.aws.writes) == (before, [])


# -- time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours, offset, taken", [(2, -1, True), (2, 0, False), (2, 1, False), (9, -1, True)])
def test_an_approval_after_the_rules_own_end_is_refused_though_the_ask_is_there(
    built: House, group: Group, hours: int, offset: int, taken: bool
) -> None:
    built.set_policy(policy(rule(expires_after_hours=hours, quorum=1)))
    case = asked(built, group)
    built.clock.advance(timedelta(hours=hours, seconds=offset))
    if taken:
        built.answer()
        assert [one.outcome for one in built.deliver()] == ["fixed"]
    else:
        refused(built, "expired")
    assert (built.only_case().ask == case.ask) is not taken


@pytest.fixture
def shop() -> Iterator[House]:
    """A house in which new volumes are not encrypted (medium), on a Friday evening in Berlin."""
    with house() as one:
        one.clock.set(datetime(2026, 8, 7, 16, tzinfo=UTC))
        yield one


OFFICE = {
    "name": "office",
    "channel": "C0000000",
    "hours": {"timezone": "Europe/Berlin", "opens": "09:00", "closes": "17:00"},
}
MONDAY = datetime(2026, 8, 10, 7, tzinfo=UTC)
"""Nine in the morning in Berlin."""


def medium(shop: House, **changes: Any) -> Case:
    shop.set_policy(policy(routes=[OFFICE], **changes))
    shop.raise_to(Mode.ASK, EBS)
    target, opened = EBS_SCENARIO.violate(shop.session)
    assert shop.walk(EBS_SCENARIO.event(target, opened, shop.clock.now())).verdict == "ask"
    return shop.only_case()


def test_what_is_not_severe_is_told_reminded_of_and_ends_in_business_hours(shop: House) -> None:
    case = medium(shop)
    assert case.ask
    assert (case.ask.severity, case.ask.sent, case.ask.send_at) == ("medium", False, MONDAY)
    assert case.ask.remind_at == MONDAY + timedelta(hours=4)
    assert case.ask.expires_at == MONDAY + timedelta(hours=8)
    assert "ASKED" in shop.kinds()
    assert kinds(shop) == [], "nobody is told on a Friday evening"
    shop.clock.set(MONDAY - timedelta(seconds=1))
    assert shop.tick() == []
    shop.clock.set(MONDAY)
    assert [one.verdict for one in shop.tick()] == ["sent"]
    assert shop.tick() == []
    assert kinds(shop) == ["ask"]
    assert shop.cases.notices[-1].at == MONDAY
    shop.clock.set(MONDAY + timedelta(hours=4))
    assert [one.verdict for one in shop.tick()] == ["reminded"]
    shop.clock.set(MONDAY + timedelta(hours=8, minutes=1))
    assert [one.verdict for one in shop.tick()] == ["expired"]
    assert shop.cases.tickets[0].is_open
    assert shop.aws.writes == []


def test_who_comes_by_may_answer_before_business_opens(shop: House) -> None:
    medium(shop)
    shop.answer(by=ANNA_SLACK, door=Door.SLACK)
    assert [one.outcome for one in shop.deliver()] == ["fixed"]
    assert "ask" not in kinds(shop)


def test_what_is_severe_is_told_at_once_at_any_hour(built: House, group: Group) -> None:
    built.clock.set(datetime(2026, 8, 7, 23, tzinfo=UTC))
    built.set_policy(policy(routes=[OFFICE]))
    case = asked(built, group)
    assert case.ask
    assert (case.ask.sent, case.ask.send_at) == (True, built.clock.now())
    assert case.ask.expires_at == built.clock.now() + EXPIRES_AFTER
    assert kinds(built) == ["ask"]


def test_what_expired_comes_back_with_the_next_sweep_that_finds_it_failing(
    built: House, group: Group
) -> None:
    built.sweep()
    built.set_policy(policy())
    asked(built, group)
    built.answer(by=ANNA)
    built.clock.advance(EXPIRES_AFTER + SETTLED_AFTER)
    assert [one.verdict for one in built.tick()] == ["expired"]
    built.clock.advance(timedelta(days=1))
    built.sweep()
    again = built.only_case()
    assert (again.state, again.episode) == ("waiting", 2)
    refused(built, "you made the change", by=ANN_OIDC, door=WEB)
    assert "1 of 2" in built.answer(by=BERT), "the first approval was to another ask"


# -- a role behind which somebody is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "session, by", [("dora@example.com", DORA_OIDC), ("Ann", ANN_OIDC), ("i-0123456789abcdef0", None)]
)
def test_nobody_approves_what_a_roles_session_of_their_name_did(
    built: House, group: Group, session: str, by: str | None
) -> None:
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/Developer/{session}"
    built.set_policy(policy(rule(approvers=["group:team", "dora"], quorum=1)))
    built.raise_to(Mode.ASK, SSH)
    identity = {"type": "AssumedRole", "arn": arn, "accountId": ACCOUNT}
    built.walk(group.event((22, group.open(22)), userIdentity=identity))
    for one in (ANN_OIDC, DORA_OIDC):
        if one == by:
            refused(built, "you made the change", by=one, door=WEB)
    built.answer(by=ANNA_OIDC if by else DORA_OIDC, door=WEB)
    assert [one.outcome for one in built.deliver()] == ["fixed"]


# -- fifty at once --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quorum", [1, 2])
def test_of_fifty_approvers_at_once_as_many_as_it_takes_decide_and_the_others_learn_who(
    built: House, group: Group, quorum: int
) -> None:
    names = [f"person-{number}" for number in range(50)]
    people = {name: {"name": name, "identities": [f"oidc:{IDP}#{name}"]} for name in names}
    built.set_policy(policy(rule(approvers=names, quorum=quorum), people=people, groups={}, break_glass=[]))
    case = asked(built, group)
    assert case.ask
    said = Said(case=case.id, ask=case.ask.seq, plan_hash=case.ask.plan_hash, approve=True, reason="mine")
    start = Barrier(len(names))

    def person(name: str) -> str:
        who = Who(f"oidc:{IDP}#{name}", "", Actor(type="Person"), f"r-{name}", WEB)
        clock = FakeClock(built.clock.now())
        start.wait()
        try:
            return answering.answer(said, who, built.cases, clock, home=ACCOUNT, engine="test")[0]
        except RefusedCommandError as told:
            return str(told)

    with ThreadPoolExecutor(len(names)) as pool:
        told = list(pool.map(person, names))
    answers = built.cases.answers_of(case)
    assert answers
    assert len(answers.answers) == quorum
    last = answers.answers[-1].by
    assert sum(text.startswith(f"{last} approved it already, at ") for text in told) == 50 - quorum
    built.deliver()
    assert len(built.aws.writes) == 1
    assert built.kinds().count("INTENT") == 1


def test_an_approved_run_of_two_that_died_is_finished_in_both_names(
    built: House, group: Group, case: Case
) -> None:
    approved(built)
    with pytest.raises(Crash):
        built.run(Answered(case=case.id, ask=1), Faults(9, Kind.BEFORE))
    if built.only_case().state == "running":
        built.clock.advance(AFTER_THE_LEASE)
    built.carry_out(Answered(case=case.id, ask=1))
    assert (len(built.aws.writes), group.ports) == (1, [443])
    assert built.record("INTENT")["approved_by"] == f"{ANNA}, {BERT}"


# -- undo -----------------------------------------------------------------------------------------------------------------


def test_an_undo_needs_the_same_quorum(built: House, group: Group) -> None:
    built.set_policy(policy(rule(approvers=["anna", "bert", "carl"])))
    case = repaired(built, group)
    built.carry_out(order(built, case, by=CARL))
    refused_by = len(built.aws.writes)
    with pytest.raises(RefusedCommandError, match="you wanted it taken back"):
        built.answer(by=CARL_OIDC, door=WEB)
    built.answer(by=ANNA)
    assert [one.verdict for one in built.deliver()] == ["waiting"]
    waiting = built.only_case()
    nothing = carry_out(built.engine(), UndoRun(case=case.id, ask=waiting.asks))
    assert (nothing.verdict, nothing.reason) == ("nothing", "the undo is open, not approved")
    assert len(built.aws.writes) == refused_by
    built.answer(by=BERT_OIDC, door=WEB)
    assert built.deliver()[-1].outcome == "fixed"
    assert group.ports == [22, 443]
    assert built.record("UNDO_INTENT")["approved_by"] == f"{ANNA}, {BERT_OIDC}"
    assert built.cases.exemptions[-1].by == f"{ANNA}, {BERT_OIDC}"


def test_an_undo_that_nobody_may_approve_is_refused_at_once(built: House, group: Group) -> None:
    case = repaired(built, group)
    built.set_policy(policy(rule(approvers=["anna", "ann"])))
    (walked,) = built.carry_out(order(built, case, by=CARL))
    assert (walked.rule, walked.outcome) == ("refused", "declined")
    assert walked.reason == "the rule all wants 2 to approve, and 1 could"
    assert built.only_case().ask is None
    assert kinds(built)[-1] == "undo_refused"


def test_an_undo_that_the_policy_takes_no_longer_is_not_carried_out(built: House, group: Group) -> None:
    built.set_policy(policy())
    case = repaired(built, group)
    built.carry_out(order(built, case, by=CARL))
    built.answer(by=ANNA)
    built.answer(by=BERT)
    asks = built.only_case().asks
    built.set_policy(policy(people=people_without(BERT)))
    nothing = carry_out(built.engine(), UndoRun(case=case.id, ask=asks))
    assert (nothing.verdict, "plainly" in nothing.reason) == ("nothing", True)
    walked, *_ = built.deliver()
    assert walked.verdict == "refused"
    assert (len(built.aws.writes), group.ports, built.only_case().state) == (1, [443], "closed")


def test_a_broken_glass_undoes_alone_and_is_told(built: House, group: Group) -> None:
    built.set_policy(policy())
    case = repaired(built, group)
    built.carry_out(order(built, case, by=OLGA))
    built.answer(by=CARL, break_glass=True)
    assert built.deliver()[-1].outcome == "fixed"
    assert "break_glass" in kinds(built)
    assert group.ports == [22, 443]
