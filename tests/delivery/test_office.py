"""The office: what stands in a channel, a mail box and a ticket system is what the case is, whatever breaks on the way."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from pydantic import JsonValue

from chalicelib.adapters.slack import Slack
from chalicelib.catalog import load
from chalicelib.delivery import daily, routes, storms
from chalicelib.delivery.office import (
    GIVE_UP_AFTER,
    MOST_LOST,
    MOST_POLLED,
    MOST_POSTS,
    MOST_REPLIES,
    MOST_RESENT,
    MOST_WAITING,
    PATIENCE,
    PATIENT,
    RESENT_AFTER,
    Office,
    _Page,
)
from chalicelib.delivery.tickets import key_of
from chalicelib.domain.approval import Answer, Answers
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Outcome, canonical
from chalicelib.domain.delivery import Deliveries, Delivery, Destination, Line, Post
from chalicelib.domain.errors import (
    AmbiguousError,
    ConflictError,
    DeliveryError,
    LaterError,
    OversizeError,
    RejectedError,
    StoreError,
    UnreachableError,
    UnreadableError,
)
from chalicelib.domain.figures import SETTLES, Day, Taken
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Integration, Person, Policy, PolicySetting, Role, Route, Rule
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import RecordType
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow import notify
from chalicelib.flow.errand import ERRAND, ClosedThere, NotBrought
from local.fakes.slack import FakeSlack
from tests.adapters import samples
from tests.adapters.samples import MEMBER
from tests.delivery.test_daily import recorded
from tests.delivery.test_tickets import System, closed
from tests.fakes.cases import HOME
from tests.fakes.chat import FakeChat, FakeDesk, FakeMail, FakeQueue, FakeTold, Message
from tests.fakes.clock import START, FakeClock

MAIN, ELSE = "C0000MAIN", "C0000ELSE"
SLACK, FALLBACK = Destination(kind="slack", to=MAIN), Destination(kind="slack", to=ELSE)
PEOPLE, OWNER = Destination(kind="mail", to="people"), Destination(kind="mail", to="owner")
JIRA = Destination(kind="ticket", to="jira")
TENANT = f"{HOME}/test"
CONTROLS = {control.id: control for control in load().controls}
ANN = Person(
    name="Ann",
    email="ann@example.org",
    identities=("arn:aws:iam::123456789012:user/ann",),
    roles=(Role.OPERATOR,),
)
POLICY = Policy(
    people={"ann": ANN},
    console_url="https://console.example.org/api",
    rules=(Rule(name="all", approvers=("ann",)),),
    routes=(Route(name="main", channel=MAIN, fallback=ELSE),),
    integrations=(Integration(name="jira", system="jira", project="OPS"),),
)


def sample_case(number: int = 0, **changed: Any) -> Case:
    """A case that waits with its first ask."""
    of = samples.target(f"sg-{number:017x}")
    asked = samples.ask().model_copy(update={"severity": Severity.MEDIUM})
    return samples.waiting(asked=asked, of=of).model_copy(update={"owner": "team-a", **changed})


@dataclass
class World:
    """An office and everything around it."""

    clock: FakeClock = field(default_factory=FakeClock)
    told: FakeTold = field(default_factory=FakeTold)
    desk: FakeDesk = field(default_factory=FakeDesk)
    mail: FakeMail = field(default_factory=FakeMail)
    queue: FakeQueue = field(default_factory=FakeQueue)
    tickets: System = field(default_factory=System)
    ticket_fault: Exception | None = None

    def __post_init__(self) -> None:
        self.chat = FakeChat(self.clock, {MAIN, ELSE})
        self.desk.setting = PolicySetting(policy=POLICY, by="ann", at=START, reason="first")
        self.desk.stands = self.told.figures
        self.office = Office(
            told=self.told,
            desk=self.desk,
            books=self.desk,
            chat=self.chat,
            mail=self.mail,
            system=self.system,
            send=self.queue.send,
            controls=CONTROLS,
            remediations={samples.REMEDIATION: samples.SAMPLE},
            home=HOME,
            tenant=TENANT,
            clock=self.clock,
        )

    def system(self, integration: Integration) -> System:
        assert integration == POLICY.integrations[0]
        if self.ticket_fault:
            raise self.ticket_fault
        return self.tickets

    def stands(self, case: Case) -> Case:
        """The case as it stands from now on."""
        self.desk.known[case.id] = case
        return case

    def noted(self, notice: Notice) -> Notice:
        """The notice as it stands in the outbox."""
        self.desk.notices[notice.id] = notice
        return notice

    def asked(self, number: int = 0) -> tuple[Case, Notice]:
        """A case waits, and a notice says so."""
        case = self.stands(sample_case(number))
        assert case.ask
        return case, self.noted(notify.asked(case, case.ask))

    def deliver(self, notice: Notice, where: Destination = SLACK) -> None:
        self.office.deliver(delivery(notice, where))

    def drain(self) -> None:
        """Everything that the queue holds, in order, and what that puts there; what must wait is tried again at once."""
        while self.queue.sent:
            one = self.queue.sent.pop(0)
            try:
                self.office.deliver(one)
            except LaterError as later:
                self.clock.advance(seconds=later.retry_after)
                self.queue.sent.insert(0, one)

    def lines(self, case: str) -> dict[str, Line]:
        found = self.told.deliveries(case)
        assert found
        return {f"{line.destination.key} {line.kind}": line for line in found.lines}


def delivery(notice: Notice, where: Destination = SLACK) -> Delivery:
    return Delivery(notice=notice.id, kind=notice.kind, case=notice.case, at=notice.at, destination=where)


@pytest.fixture
def world() -> World:
    return World()


def fixed(case: Case, reason: str = "it holds") -> tuple[Case, Notice]:
    """The case after its repair, and the notice of it."""
    ended = case.model_copy(
        update={"state": CaseState.CLOSED, "ask": None, "outcome": Outcome.FIXED, "reason": reason}
    )
    body: dict[str, JsonValue] = {
        "account": case.target.account,
        "resource": case.target.resource,
        "controls": list(case.controls),
        "owner": case.owner,
        "reason": reason,
        "approved_by": "arn:aws:iam::123456789012:user/ann",
    }
    return ended, Notice(id=f"{case.id}#run-1", kind="run_fixed", case=case.id, at=START, body=body)


# -- a card, its changes, and its thread -------------------------------------------------------------------------------


def test_an_ask_is_a_card_and_the_case_says_that_it_was_told(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    (card,) = world.chat.messages
    assert card.channel == MAIN
    assert case.target.resource in card.says
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, line.attempts, line.said) == ("told", 1, "")
    found = world.told.deliveries(case.id)
    assert found
    assert [(post.channel, post.ask, post.ts) for post in found.posts] == [(MAIN, 1, card.ts)]


def test_what_comes_twice_changes_nothing(world: World) -> None:
    case, notice = world.asked()
    reminder = world.noted(_reminder(case))
    for _ in range(3):
        world.deliver(notice)
        world.deliver(reminder)
    assert world.chat.calls == ["post", "post"]
    assert len(world.chat.replies(world.chat.messages[0].ts)) == 1


def test_a_card_and_its_replies_name_their_case(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    world.deliver(world.noted(_reminder(case)))
    assert [message.case for message in world.chat.messages] == [case.id, case.id]


def test_the_outcome_stands_in_the_card_and_in_its_thread(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    card, reply = world.chat.messages
    assert card.edits == 1
    assert "Fixed" in card.says
    assert reply.thread == card.ts
    assert "Fixed" in reply.text


def test_an_ask_that_is_over_waits_no_more_on_its_card_and_its_thread_says_why(world: World) -> None:
    case, notice = world.asked()
    assert case.ask
    world.deliver(notice)
    over = notify.about_ask(case, case.ask, "over", START, "repaired by hand")
    world.stands(
        case.model_copy(update={"ask": None, "state": CaseState.CLOSED, "reason": "repaired by hand"})
    )
    world.deliver(world.noted(over))
    card, reply = world.chat.messages
    assert "Waits" not in card.says
    assert reply.thread == card.ts
    assert "repaired by hand" in reply.text


def taken_back(world: World) -> Notice:
    """Asked, repaired, both told; then taken back, which stands and is noted, and is to be told."""
    case, notice = world.asked()
    world.deliver(notice)
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    reason = "run 1 is taken back: as it was before, and exempt until 2026-12-22"
    exempt = {"asks": 2, "outcome": None, "state": CaseState.EXEMPT, "reason": reason}
    world.stands(ended.model_copy(update=exempt))
    return world.noted(result.model_copy(update={"id": f"{case.id}#run-2", "kind": "undo_fixed"}))


def test_what_is_taken_back_is_not_fixed_on_the_card_of_the_repair_either(world: World) -> None:
    undone = taken_back(world)
    for _ in range(2):
        world.deliver(undone)
    repair, undo = world.chat.cards(MAIN)
    for card in (repair, undo):
        assert "Fixed" not in card.text
        assert "taken back" in card.says
    assert repair.edits == 2
    (said,) = world.chat.replies(undo.ts)
    assert "↩ Taken back" in said


def test_what_is_taken_back_is_not_fixed_in_a_channel_that_no_route_leads_to_any_more(world: World) -> None:
    undone = taken_back(world)
    routed(world, undone, Route(name="moved", channel=ELSE))
    assert len(world.chat.cards(ELSE)) == 1
    for card in world.chat.cards(MAIN):
        assert "Fixed" not in card.text
        assert "taken back" in card.says


def test_what_comes_late_shows_the_present(world: World) -> None:
    case, notice = world.asked()
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    world.deliver(notice)
    card, _ = world.chat.messages
    assert "Fixed" in card.says
    assert card.edits == 0


def test_that_a_run_began_and_what_came_of_it_are_both_told_though_one_overwrites_the_other(
    world: World,
) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    ended, result = fixed(case)
    started = result.model_copy(update={"kind": "run_started"})
    world.deliver(world.noted(started))
    world.stands(ended)
    world.noted(result)
    world.deliver(started)
    world.deliver(result)
    assert len(world.chat.replies(world.chat.messages[0].ts)) == 2


def unsent(case: Case) -> Case:
    """The case outside business hours: people are asked in the morning."""
    assert case.ask
    at = START + timedelta(hours=9)
    later = {"sent": False, "send_at": at, "expires_at": at + timedelta(hours=8)}
    return case.model_copy(update={"ask": case.ask.model_copy(update=later)})


def sent(case: Case) -> Case:
    """The same case from then on."""
    assert case.ask
    return case.model_copy(update={"ask": case.ask.model_copy(update={"sent": True})})


def beside_digests(world: World) -> list[Message]:
    """What was told but for the digest of the day, which the sweep sends."""
    return [one for one in world.chat.messages if "Daily digest" not in one.text]


def test_what_is_said_of_a_case_before_people_are_asked_waits_for_its_card(world: World) -> None:
    case = world.stands(unsent(sample_case()))
    news = world.noted(notify.news(case, "r", START, "Ann on case: looking"))
    world.deliver(news)
    assert world.chat.messages == []
    line = world.lines(case.id)["slack:C0000MAIN case_news"]
    assert (line.state, line.due) == ("waiting", START + timedelta(hours=9))
    assert "people are asked in business hours" in line.said
    swept(world, timedelta(hours=9))
    assert beside_digests(world) == []
    asked = sent(case)
    assert asked.ask
    world.stands(asked)
    world.deliver(world.noted(notify.asked(asked, asked.ask)))
    swept(world, timedelta(minutes=30))
    card, said = beside_digests(world)
    assert "Waits for approval" in card.says
    assert (said.thread, "Ann on case: looking" in said.says) == (card.ts, True)


def test_no_card_waits_for_ever_of_an_ask_that_is_over_before_people_were_asked(world: World) -> None:
    case = world.stands(unsent(sample_case()))
    world.deliver(world.noted(notify.news(case, "r", START, "Ann on case: looking")))
    over = {"ask": None, "state": CaseState.CLOSED, "outcome": Outcome.ALREADY_COMPLIANT}
    world.stands(case.model_copy(update=over))
    swept(world, timedelta(hours=10))
    card, said = beside_digests(world)
    assert "Already compliant" in card.says
    assert "Waits for approval" not in card.says
    assert "Ann on case: looking" in said.says


def test_an_alarm_of_a_case_about_which_people_are_not_asked_yet_stands_alone(world: World) -> None:
    case = world.stands(unsent(sample_case()))
    assert case.ask
    glass = world.noted(notify.glass(case, case.ask, ANN.identities[0], START, "now"))
    world.deliver(glass)
    world.deliver(glass)
    (alarm,) = world.chat.messages
    assert (alarm.thread, "Waits for approval" in alarm.says) == (None, False)
    assert case.target.resource in alarm.says
    assert f"https://console.example.org/api/cases/{case.id}" in alarm.says
    world.deliver(world.noted(notify.news(case, "r", START, "Ann on case: looking")))
    assert len(world.chat.messages) == 1
    asked = sent(case)
    assert asked.ask
    world.stands(asked)
    world.deliver(world.noted(notify.asked(asked, asked.ask)))
    assert "Waits for approval" in world.chat.messages[1].says


def test_an_alarm_from_behind_a_digest_says_of_which_case_it_is(world: World) -> None:
    for number in range(3):
        world.deliver(world.asked(number)[1])
    case, notice = world.asked(3)
    assert case.ask
    world.deliver(notice)
    world.deliver(world.noted(notify.glass(case, case.ask, ANN.identities[0], START, "now")))
    alarm = world.chat.messages[-1]
    assert "Break-glass" in alarm.says
    assert case.target.resource in alarm.text
    assert f"https://console.example.org/api/cases/{case.id}" in alarm.says


def test_a_deleted_message_is_posted_anew(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    world.chat.delete(world.chat.messages[0].ts)
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    card, reply = world.chat.messages
    assert "Fixed" in card.says
    assert reply.thread == card.ts


def test_a_reply_to_a_deleted_message_brings_the_card_back(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    world.chat.delete(world.chat.messages[0].ts)
    world.deliver(world.noted(_reminder(case)))
    card, reply = world.chat.messages
    assert case.target.resource in card.says
    assert reply.thread == card.ts
    assert [one.state for one in world.lines(case.id).values()] == ["told"]


def test_a_new_ask_of_the_case_is_a_new_card(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    assert case.ask
    again = case.model_copy(update={"ask": case.ask.model_copy(update={"seq": 2}), "asks": 2})
    assert again.ask
    world.stands(again)
    world.deliver(world.noted(notify.asked(again, again.ask)))
    stale = notify.about_ask(case, case.ask, "stale", START, "the plan changed")
    world.deliver(world.noted(stale))
    first, second = world.chat.cards(MAIN)
    assert first.edits == 1
    assert first.says != second.says
    assert len(world.chat.replies(first.ts)) == 1


def test_messages_of_a_channel_keep_a_second_between_them(world: World) -> None:
    """The fake chat refuses what comes sooner; here nothing is refused, and nobody sleeps longer."""
    for number in range(3):
        case, notice = world.asked(number)
        world.deliver(notice)
        world.deliver(world.noted(_reminder(case)))
    assert len(world.chat.messages) == 6
    assert {*world.clock.slept} == {1.0}


def test_answers_and_the_dossier_are_read_as_they_stand(world: World) -> None:
    case, notice = world.asked()
    assert case.ask
    no = Answer(
        by=ANN.identities[0],
        principal="person:ann",
        at=START,
        approve=False,
        reason="keep it",
        request_id="r",
    )
    world.desk.said[case.id, 1] = Answers(
        case=case.id, ask=1, plan_hash=case.ask.plan_hash, answers=(no,), version=1
    )
    world.deliver(notice)
    assert "keep it" in world.chat.messages[0].says


def test_a_notice_without_a_case_is_one_message(world: World) -> None:
    report = Notice(
        id="SWEEP#1", kind="baseline_report", case="", at=START, body={"failing": {"a-control": 7, "b": 1}}
    )
    world.noted(report)
    world.deliver(report)
    world.deliver(report)
    world.deliver(report, PEOPLE)
    world.deliver(report, PEOPLE)
    (message,) = world.chat.messages
    assert "a-control: 7 failing" in message.says
    (mail,) = world.mail.sent
    assert "a-control: 7 failing" in mail[2]
    assert {line.state for line in world.lines("SWEEP#1").values()} == {"told"}


@pytest.mark.parametrize("where", [SLACK, routes.UNROUTED])
def test_a_notice_that_is_gone_is_an_error_and_no_success(world: World, where: Destination) -> None:
    _, notice = world.asked()
    world.desk.notices.clear()
    with pytest.raises(StoreError, match="somebody removed it"):
        world.deliver(notice, where)
    (line,) = world.lines(notice.case).values()
    assert (line.state, line.attempts, "somebody removed it" in line.said) == ("waiting", 1, True)
    assert (world.chat.calls, world.queue.sent) == ([], [])


def test_what_could_not_be_routed_is_told_where_the_policy_says_once_it_can_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, notice = world.asked()

    def unreadable() -> PolicySetting:
        raise StoreError("the policy cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(world.desk, "policy", unreadable)
        with pytest.raises(StoreError, match="the policy cannot be read"):
            world.deliver(notice, routes.UNROUTED)
    assert world.queue.sent == []
    world.deliver(notice, routes.UNROUTED)
    assert world.queue.sent == [delivery(notice), delivery(notice, PEOPLE)]
    world.drain()
    assert {key: line.state for key, line in world.lines(case.id).items()} == {
        "policy:routes ask": "told",
        "slack:C0000MAIN ask": "told",
        "mail:people ask": "told",
    }


def _reminder(case: Case) -> Notice:
    assert case.ask
    return notify.about_ask(case, case.ask, "reminded", START, "half of the time is over")


# -- what does not answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [LaterError("ratelimited", 7), AmbiguousError("the line broke", 30)])
def test_what_is_busy_is_asked_again_and_the_case_says_what_waits(world: World, error: LaterError) -> None:
    case, notice = world.asked()
    world.chat.faults = [error]
    with pytest.raises(LaterError) as raised:
        world.deliver(notice)
    assert raised.value.retry_after == error.retry_after
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, line.attempts, line.said) == ("waiting", 1, str(error))
    found = world.told.deliveries(case.id)
    assert found
    assert found.due == START + timedelta(seconds=error.retry_after)
    world.deliver(notice)
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, line.attempts, line.said) == ("told", 2, "")
    assert len(world.chat.cards(MAIN)) == 1


@pytest.mark.parametrize("reason", ["is_archived", "not_in_channel", "token_revoked"])
def test_a_channel_that_cannot_be_reached_is_waited_for_and_the_fallback_is_told(
    world: World, reason: str
) -> None:
    case, notice = world.asked()
    world.chat.broken[MAIN] = UnreachableError(reason)
    world.deliver(notice)
    lines = world.lines(case.id)
    assert lines["slack:C0000MAIN ask"].state == "waiting"
    assert lines["slack:C0000MAIN ask"].said == f"{reason}; meanwhile to slack:C0000ELSE"
    assert lines["slack:C0000ELSE ask"].state == "waiting"
    assert [one.destination for one in world.queue.sent] == [FALLBACK]
    world.drain()
    assert len(world.chat.cards(ELSE)) == 1
    assert world.lines(case.id)["slack:C0000ELSE ask"].state == "told"
    # Found out once, told elsewhere once.
    world.deliver(notice)
    assert world.queue.sent == []


def test_where_no_channel_can_be_reached_people_get_mail(world: World) -> None:
    case, notice = world.asked()
    world.chat.broken = {MAIN: UnreachableError("is_archived"), ELSE: UnreachableError("is_archived")}
    world.deliver(notice)
    world.drain()
    assert world.mail.audiences == ["people"]
    assert case.target.resource in world.mail.sent[0][2]
    lines = world.lines(case.id)
    assert [
        lines[key].state for key in ("slack:C0000MAIN ask", "slack:C0000ELSE ask", "mail:people ask")
    ] == [
        "waiting",
        "waiting",
        "told",
    ]


def test_channels_that_are_each_others_fallback_end_at_the_mail(world: World) -> None:
    routes = (*POLICY.routes, Route(name="else", channel=ELSE, fallback=MAIN))
    policy = POLICY.model_copy(update={"routes": routes})
    world.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="loop")
    world.chat.broken = {MAIN: UnreachableError("is_archived"), ELSE: UnreachableError("is_archived")}
    _, notice = world.asked()
    world.deliver(notice)
    world.drain()
    assert world.mail.audiences == ["people"]


def test_a_channel_that_comes_back_gets_what_waited_and_both_cards_show_the_present(world: World) -> None:
    case, notice = world.asked()
    world.chat.broken[MAIN] = UnreachableError("not_in_channel")
    world.deliver(notice)
    world.drain()
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))  # there was a digest today
    world.chat.broken.clear()
    world.clock.advance(timedelta(minutes=11))
    world.queue.forget()
    world.office.sweep()
    world.drain()
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "told"
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    world.drain()
    for channel in (MAIN, ELSE):
        (card,) = world.chat.cards(channel)
        assert "Fixed" in card.says
        assert len(world.chat.replies(card.ts)) == 1


def test_after_days_it_is_given_up(world: World) -> None:
    case, notice = world.asked()
    world.chat.broken[MAIN] = UnreachableError("is_archived")
    world.deliver(notice)
    world.clock.set(START + GIVE_UP_AFTER)
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "waiting"
    world.clock.advance(seconds=1)
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "given_up"


def test_nothing_is_given_up_while_an_ask_is_open(world: World) -> None:
    """72 business hours are nine days."""
    case, notice = world.asked()
    assert case.ask
    ends = START + timedelta(days=11)
    world.stands(case.model_copy(update={"ask": case.ask.model_copy(update={"expires_at": ends})}))
    world.chat.broken[MAIN] = UnreachableError("not_in_channel")
    world.clock.set(ends - timedelta(seconds=1))
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "waiting"
    world.clock.set(ends)
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "given_up"


@pytest.mark.parametrize("stands", [True, False])
def test_what_no_ask_is_open_for_is_given_up_after_days(world: World, stands: bool) -> None:
    case, notice = world.asked()
    world.desk.known.clear()
    if stands:
        world.stands(fixed(case)[0])
    world.clock.set(START + GIVE_UP_AFTER + timedelta(seconds=1))
    world.mail.faults = [UnreachableError("no topic")]
    report = world.noted(notice.model_copy(update={"id": "n", "kind": "case_news"}))
    world.deliver(report, PEOPLE)
    assert world.lines(case.id)["mail:people case_news"].state == "given_up"


def test_a_card_that_is_refused_is_a_plain_text_and_the_case_says_so(world: World) -> None:
    case, notice = world.asked()
    world.chat.refuses_blocks = True
    world.deliver(notice)
    (message,) = world.chat.messages
    assert message.blocks == []
    assert case.target.resource in message.text
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, "invalid_blocks" in line.said) == ("given_up", True)
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result))
    assert "Fixed" in message.text
    assert message.edits == 1


def test_a_channel_that_refuses_even_plain_text_is_waited_for_and_the_fallback_is_told(world: World) -> None:
    case, notice = world.asked()
    world.chat.broken[MAIN] = RejectedError("a refusal of its own")
    world.deliver(notice)
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, line.said) == ("waiting", "a refusal of its own; meanwhile to slack:C0000ELSE")
    world.drain()
    assert len(world.chat.cards(ELSE)) == 1


def test_a_channel_that_was_busy_before_it_could_not_be_reached_is_told_elsewhere_as_well(
    world: World,
) -> None:
    case, notice = world.asked()
    world.chat.faults = [LaterError("503", 30)]
    with pytest.raises(LaterError):
        world.deliver(notice)
    world.chat.broken[MAIN] = UnreachableError("token_revoked")
    for _ in range(2):
        world.deliver(notice)
        world.drain()
    assert len(world.chat.cards(ELSE)) == 1
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.attempts, line.said) == (3, "token_revoked; meanwhile to slack:C0000ELSE")


def test_what_a_channel_does_not_take_for_an_hour_is_told_elsewhere_and_holds_nobody_up(world: World) -> None:
    case, notice = world.asked()
    world.chat.broken[MAIN] = LaterError("503", 30)
    for _ in range(2):
        with pytest.raises(LaterError):
            world.deliver(notice)
        world.clock.advance(PATIENCE * 0.6)
    world.deliver(notice)
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert (line.state, line.attempts, line.said) == ("waiting", 3, "503; meanwhile to slack:C0000ELSE")
    world.drain()
    assert len(world.chat.cards(ELSE)) == 1
    world.chat.broken.clear()
    resent(world)
    assert len(world.chat.cards(MAIN)) == 1


def test_one_that_is_late_already_is_tried_a_few_times_before_it_is_told_elsewhere(world: World) -> None:
    _, notice = world.asked()
    world.clock.advance(timedelta(hours=5))
    world.chat.broken[MAIN] = LaterError("ratelimited", 30)
    for _ in range(PATIENT - 1):
        with pytest.raises(LaterError):
            world.deliver(notice)
    assert world.queue.sent == []
    world.deliver(notice)
    assert [one.destination for one in world.queue.sent] == [FALLBACK]


def test_what_the_queue_still_has_is_not_sent_again(world: World) -> None:
    _, notice = world.asked()
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))
    world.chat.broken[MAIN] = LaterError("503", 900)
    for _ in range(3):
        with pytest.raises(LaterError):
            world.deliver(notice)
        world.clock.advance(seconds=900)
        world.office.sweep()
    assert world.queue.sent == []
    world.clock.advance(RESENT_AFTER + timedelta(seconds=1))
    world.office.sweep()
    assert world.queue.sent == [delivery(notice)]


# -- answers that are lost ---------------------------------------------------------------------------------------------


def test_a_card_whose_answers_are_lost_stands_there_a_few_times_at_most(world: World) -> None:
    case, notice = world.asked()
    waits = []
    for _ in range(MOST_LOST - 1):
        world.chat.loses = AmbiguousError("no answer", 30)
        with pytest.raises(LaterError) as later:
            world.deliver(notice)
        waits.append(later.value.retry_after)
    world.chat.loses = AmbiguousError("no answer", 30)
    world.deliver(notice)
    assert (len(world.chat.cards(MAIN)), waits) == (MOST_LOST, [30, 120])
    line = world.lines(case.id)["slack:C0000MAIN ask"]
    assert line.state == "given_up"
    assert line.said == "no answer; it may stand there 3 times; meanwhile to slack:C0000ELSE"
    world.chat.loses = None
    world.drain()
    assert len(world.chat.cards(ELSE)) == 1


def test_a_change_whose_answer_is_lost_is_made_again_until_it_is_answered(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    ended, result = fixed(case)
    world.stands(ended)
    world.noted(result)
    world.chat.faults = [AmbiguousError("no answer", 30)] * 5
    world.queue.sent = [delivery(result)]
    world.drain()
    (card,) = world.chat.cards(MAIN)
    assert "Fixed" in card.says
    assert world.lines(case.id)["slack:C0000MAIN run_fixed"].state == "told"


def test_a_mail_whose_answers_are_lost_is_not_sent_for_ever(world: World) -> None:
    case, notice = world.asked()
    world.mail.faults = [AmbiguousError("SNS does not answer", 30)] * 9
    world.queue.sent = [delivery(notice, PEOPLE)]
    world.drain()
    assert len(world.mail.faults) == 9 - MOST_LOST
    line = world.lines(case.id)["mail:people ask"]
    assert (line.state, line.said) == ("given_up", "SNS does not answer; it may stand there 3 times")


def test_a_digest_whose_answers_are_lost_stands_there_a_few_times_and_the_others_are_told_elsewhere(
    world: World,
) -> None:
    for number in range(3):
        world.deliver(world.asked(number)[1])
    for number in range(3, 9):
        world.queue.sent.append(delivery(world.asked(number)[1]))
        while world.queue.sent:
            one = world.queue.sent.pop(0)
            if one.destination == SLACK:
                world.chat.loses = AmbiguousError("no answer", 30)
            try:
                world.office.deliver(one)
            except LaterError as later:
                world.clock.advance(seconds=later.retry_after)
                world.queue.sent.insert(0, one)
            world.chat.loses = None
    assert len(world.chat.cards(MAIN)) == 3 + MOST_LOST
    assert "3 more" in world.chat.cards(ELSE)[3].says


# -- what a case keeps in mind -----------------------------------------------------------------------------------------


def commented(world: World, case: Case, number: int) -> Notice:
    return world.noted(notify.news(case, f"r-{number}", START, "a comment"))


def test_however_often_people_comment_the_newest_alone_are_remembered(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    for number in range(MOST_REPLIES + 20):
        world.deliver(commented(world, case, number))
    kept = world.told.deliveries(case.id)
    assert kept
    (post,) = kept.posts
    assert (len(post.replies), post.replies[-1]) == (MOST_REPLIES, f"{case.id}#news-r-119|case_news")
    said = len(world.chat.messages)
    world.deliver(commented(world, case, MOST_REPLIES + 19))
    assert len(world.chat.messages) == said


def test_of_the_comments_that_wait_the_newest_alone_are_remembered(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    world.chat.broken[MAIN] = UnreachableError("not_in_channel")
    for number in range(MOST_WAITING + 5):
        world.deliver(commented(world, case, number))
    kept = world.told.deliveries(case.id)
    assert kept
    waiting = [one.notice.rpartition("-")[2] for one in kept.lines if one.destination == SLACK]
    assert waiting == [str(number) for number in range(5, MOST_WAITING + 5)]
    fallback = [one for one in kept.lines if one.destination == FALLBACK]
    assert len(fallback) == MOST_WAITING


def test_of_many_asks_the_newest_messages_alone_are_remembered(world: World) -> None:
    page = _Page(world.told, "c-1")
    for ask in range(MOST_POSTS + 3):
        page.keep(post=Post(channel=MAIN, ask=ask, ts="1.0", shown=""))
    assert [one.ask for one in page.now.posts] == [*range(3, MOST_POSTS + 3)]


# -- routes that are changed -------------------------------------------------------------------------------------------


def routed(world: World, notice: Notice, *routed: Route) -> None:
    """Under a policy with these routes alone, the notice is told."""
    policy = POLICY.model_copy(update={"routes": routed})
    world.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="changed")
    severities = {control.id: control.severity for control in CONTROLS.values()}
    world.queue.sent += [delivery(notice, one) for one in routes.destinations(notice, policy, severities)]
    world.drain()


def test_a_card_shows_the_present_though_no_route_leads_there_any_more(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice)
    ended, result = fixed(case)
    world.stands(ended)
    routed(world, world.noted(result))
    (card,) = world.chat.cards(MAIN)
    assert "Fixed" in card.says
    assert [audience for audience in world.mail.audiences if audience == "people"] == ["people"]


def test_a_digest_counts_who_waits_though_the_route_leads_elsewhere(world: World) -> None:
    pairs = [world.asked(number) for number in range(6)]
    for _, notice in pairs:
        world.deliver(notice)
    world.drain()
    for case, _ in pairs:
        world.clock.advance(seconds=11)
        ended, result = fixed(case)
        world.stands(ended)
        routed(world, world.noted(result), Route(name="moved", channel=ELSE))
    assert "0 still wait" in world.chat.cards(MAIN)[3].says
    assert all("Fixed" in card.says for card in world.chat.cards(MAIN)[:3])


def resent(world: World) -> None:
    """The sweep of a quarter of an hour later, and all that it sends, on a day that had its digest."""
    if world.told.deliveries(daily.name_of(START.date())) is None:
        world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))
    world.clock.advance(timedelta(minutes=15))
    world.queue.forget()
    world.office.sweep()
    world.drain()


def test_the_reason_is_cut_and_harmless(world: World) -> None:
    case, notice = world.asked()
    world.chat.faults = [LaterError("x\n\u202e" + "y" * 1000, 1)]
    with pytest.raises(LaterError):
        world.deliver(notice)
    said = world.lines(case.id)["slack:C0000MAIN ask"].said
    assert len(said) == 300
    assert "\n" not in said


def test_what_waits_is_not_forgotten_over_what_is_told_later(world: World) -> None:
    case, notice = world.asked()
    world.mail.faults = [UnreachableError("no topic")]
    world.deliver(notice, PEOPLE)
    ended, result = fixed(case)
    world.stands(ended)
    world.deliver(world.noted(result), PEOPLE)
    lines = world.lines(case.id)
    assert lines["mail:people ask"].state == "waiting"
    assert lines["mail:people run_fixed"].state == "told"
    world.stands(case)
    world.deliver(notice, PEOPLE)
    assert [one.state for one in world.lines(case.id).values()] == ["told"]


def test_who_was_slower_comes_again(world: World) -> None:
    """Somebody else tells of the same case between our reading and our writing."""
    _, notice = world.asked()
    once = [True]

    def other() -> None:
        if once:
            once.clear()
            World.deliver(world, notice)

    world.told.before = other
    with pytest.raises(ConflictError):
        world.deliver(notice)
    world.deliver(notice)
    assert {line.state for line in world.lines(notice.case).values()} == {"told"}


def test_two_destinations_told_at_once_are_both_noted_and_told_once(world: World) -> None:
    """While the card is on its way to its note, another process mails people of the same notice."""
    case, notice = world.asked()
    world.stands(case)
    keeps = [0]

    def other() -> None:
        keeps[0] += 1
        if keeps[0] == 2:  # the first is the storm's
            World.deliver(world, notice, PEOPLE)

    world.told.before = other
    world.deliver(notice)
    assert (len(world.chat.messages), len(world.mail.sent)) == (1, 1)
    assert {key: line.state for key, line in world.lines(case.id).items()} == {
        "slack:C0000MAIN ask": "told",
        "mail:people ask": "told",
    }


def test_who_is_always_slower_gives_way(world: World) -> None:
    case, notice = world.asked()
    page = _Page(world.told, case.id)

    def other() -> None:
        world.told.before = lambda: None
        stands = world.told.deliveries(case.id) or Deliveries(case=case.id)
        world.told.keep(stands.model_copy(update={"version": stands.version + 1}))
        world.told.before = other

    world.told.before = other
    with pytest.raises(ConflictError, match="all the time"):
        page.keep(lines=[Line(destination=SLACK, notice=notice.id, kind="ask", at=START, state="told")])


def test_who_joins_a_storm_while_others_tell_of_the_case_decides_anew(world: World) -> None:
    for number in range(3):
        world.deliver(world.asked(number)[1])
    _, notice = world.asked(3)

    def other() -> None:
        world.told.before = lambda: None
        World.deliver(world, notice, PEOPLE)

    world.told.before = other
    with pytest.raises(ConflictError):
        world.deliver(notice)
    world.deliver(notice)
    assert [storm.more for storm in world.told.storms] == [1]
    assert len(world.chat.cards(MAIN)) == 4
    assert len(world.mail.sent) == 1


# -- a crash at each step ----------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone."""


def _crashing(at: int) -> Callable[[], None]:
    """Crashes at the call number `at`, counted over everything that the office does outside."""
    left = [at]

    def step() -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Crash

    return step


def _outside(world: World, step: Callable[[], None]) -> Office:
    """The office of that world, with a step before and after each thing that it does."""

    @dataclass
    class Around:
        inner: Any

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                step()
                answer = getattr(self.inner, name)(*arguments, **named)
                step()
                return answer

            return call

    def send(one: Delivery) -> None:
        step()
        world.queue.send(one)
        step()

    return replace(
        world.office, chat=Around(world.chat), mail=Around(world.mail), told=Around(world.told), send=send
    )


@pytest.mark.parametrize("at", range(66))
def test_after_a_crash_anywhere_everything_is_told_once_more_at_most(world: World, at: int) -> None:
    """Five asks (so that there is a digest), one decided; the process dies at one step and the message comes again."""
    pairs = [world.asked(number) for number in range(5)]
    ended, result = fixed(pairs[4][0])
    order = [delivery(notice) for _, notice in pairs] + [delivery(world.noted(result))]
    crashing = _outside(world, _crashing(at))
    died = False
    for one in order:
        if one.kind == "run_fixed":
            world.stands(ended)
        try:
            crashing.deliver(one)
        except Crash:
            died = True
            world.clock.advance(seconds=360)
            world.office.deliver(one)
    world.drain()
    assert died or at > 40
    cards = world.chat.cards(MAIN)
    assert 4 <= len(cards) <= 5
    shown = "".join(card.says for card in cards)
    assert all(case.target.resource in shown for case, _ in pairs[:3])
    (storm,) = world.told.storms
    assert (len(storm.cards), storm.more, storm.settled) == (3, 2, 1)
    assert not storms.behind(storm)
    assert "1 still waits" in cards[-1].says
    for case, _ in pairs:
        assert {line.state for line in world.lines(case.id).values()} == {"told"}


# -- storms ------------------------------------------------------------------------------------------------------------


def test_of_five_hundred_asks_three_are_cards_and_one_digest_counts_the_others(world: World) -> None:
    world.queue.sent = [delivery(world.asked(number)[1]) for number in range(500)]
    world.chat.faults = [
        None,
        LaterError("ratelimited", 7),
        None,
        LaterError("503", 30),
        LaterError("ratelimited", 1),
    ]
    world.drain()
    cards = world.chat.cards(MAIN)
    assert len(cards) == 4
    assert "497 more" in cards[3].says
    assert "/approvals?control=" in cards[3].says
    # The order of the channel is the order of the asks.
    for number, card in enumerate(cards[:3]):
        assert sample_case(number).target.resource in card.says
    (storm,) = world.told.storms
    assert (storm.more, storm.shown) == (497, 497)
    for number in range(500):
        assert {line.state for line in world.lines(sample_case(number).id).values()} == {"told"}
    # Nobody was told faster than Slack listens: the fake would have refused it.
    assert world.chat.calls.count("update") <= 3


def test_the_digest_is_edited_at_most_every_ten_seconds_and_at_last(world: World) -> None:
    edits = []
    for number in range(60):
        world.queue.sent.append(delivery(world.asked(number)[1]))
        before = world.chat.calls.count("update")
        first = world.queue.sent.pop(0)
        try:
            world.office.deliver(first)
        except LaterError as later:
            world.clock.advance(seconds=later.retry_after)
            world.queue.sent.insert(0, first)
        if world.chat.calls.count("update") > before:
            edits.append(world.clock.now())
        world.clock.advance(seconds=1)
    assert all(later - earlier >= timedelta(seconds=10) for earlier, later in pairwise(edits))
    assert len(edits) > 2
    assert any(storms.behind(storm) for storm in world.told.storms)
    world.drain()
    assert not any(storms.behind(storm) for storm in world.told.storms)
    assert "57 more" in world.chat.cards(MAIN)[3].says


def test_two_windows_are_two_storms(world: World) -> None:
    for number in range(5):
        world.deliver(world.asked(number)[1])
    world.clock.advance(storms.WINDOW)
    for number in range(5, 10):
        _, notice = world.asked(number)
        later = world.noted(notice.model_copy(update={"at": notice.at + storms.WINDOW}))
        world.deliver(later)
    assert len(world.chat.cards(MAIN)) == 8
    assert [storm.more for storm in world.told.storms] == [2, 2]


def test_the_digest_says_how_many_still_wait_and_its_thread_is_silent(world: World) -> None:
    pairs = [world.asked(number) for number in range(6)]
    for _, notice in pairs:
        world.deliver(notice)
    for case, _ in pairs[4:]:
        world.clock.advance(seconds=11)
        ended, result = fixed(case)
        world.stands(ended)
        world.deliver(world.noted(result))
        world.deliver(world.noted(result))
    digest = world.chat.cards(MAIN)[3]
    assert "3 more" in digest.says
    assert "1 still waits" in digest.says
    assert world.chat.replies(digest.ts) == []


def test_an_alarm_is_told_aloud_even_from_behind_a_digest(world: World) -> None:
    pairs = [world.asked(number) for number in range(4)]
    for _, notice in pairs:
        world.deliver(notice)
    case = pairs[3][0]
    assert case.ask
    glass = world.noted(notify.glass(case, case.ask, "ann", START, "production is down"))
    world.deliver(glass)
    world.deliver(glass)
    loud = [card for card in world.chat.cards(MAIN) if "production is down" in card.says]
    assert len(loud) == 1


def test_a_digest_whose_channel_is_gone_is_told_by_mail(world: World) -> None:
    for number in range(6):
        world.deliver(world.asked(number)[1])
    world.chat.broken[MAIN] = UnreachableError("is_archived")
    world.drain()
    assert world.mail.audiences == ["people"]
    assert "3 wait for an answer" in world.mail.sent[0][1]
    assert "is_archived" in world.mail.sent[0][2]


def test_a_digest_that_is_refused_is_a_mail_and_stops_nobody_behind_it(world: World) -> None:
    for number in range(6):
        world.deliver(world.asked(number)[1])
    world.chat.refuses_all = True
    world.drain()
    assert "3 wait for an answer" in world.mail.sent[0][1]


def test_a_change_of_a_digest_whose_answer_is_lost_is_made_again(world: World) -> None:
    for number in range(6):
        world.deliver(world.asked(number)[1])
    world.chat.faults = [AmbiguousError("no answer", 30)] * 5
    world.drain()
    assert "3 more" in world.chat.cards(MAIN)[3].says
    assert len(world.chat.cards(MAIN)) == 4


def test_a_digest_whose_channel_is_busy_for_an_hour_stops_nobody_behind_it(world: World) -> None:
    for number in range(6):
        world.deliver(world.asked(number)[1])
    (follow,) = world.queue.sent
    world.chat.broken[MAIN] = LaterError("503", 30)
    world.clock.set(follow.at + PATIENCE)
    with pytest.raises(LaterError):
        world.office.deliver(follow)
    world.clock.advance(seconds=1)
    world.mail.faults = [UnreachableError("no topic")]
    world.office.deliver(follow)
    assert world.mail.sent == []
    world.office.deliver(follow)
    assert "3 wait for an answer" in world.mail.sent[0][1]


def test_repairs_that_nobody_was_asked_about_take_no_asks_card(world: World) -> None:
    for number in range(10, 15):
        case = world.stands(fixed(sample_case(number, asks=0))[0])
        world.deliver(world.noted(fixed(case)[1]))
    for number in range(4):
        world.deliver(world.asked(number)[1])
    shown = [card.says for card in world.chat.cards(MAIN)]
    assert len(shown) == 8
    assert all("Fixed" in says for says in shown[:3])
    assert "Nobody was asked about them" in shown[3]
    assert "/log?control=" in shown[3]
    for number, says in enumerate(shown[4:7]):
        assert sample_case(number).target.resource in says
    assert "1 more ask in" in shown[7]
    assert "1 still waits" in shown[7]


def test_a_member_whose_digest_cannot_be_edited_waits_and_is_told_elsewhere(world: World) -> None:
    for number in range(4):
        world.deliver(world.asked(number)[1])
    world.clock.advance(seconds=11)
    world.chat.broken[MAIN] = UnreachableError("is_archived")
    case, notice = world.asked(4)
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "waiting"
    world.drain()
    assert len(world.chat.cards(ELSE)) == 1
    world.chat.broken.clear()
    world.deliver(notice)
    assert "2 more" in world.chat.cards(MAIN)[3].says


def test_a_follow_up_that_nobody_needs_any_more_does_nothing(world: World) -> None:
    for number in range(5):
        world.deliver(world.asked(number)[1])
    (follow,) = world.queue.sent
    world.drain()
    calls = [*world.chat.calls]
    world.office.deliver(follow)
    world.office.deliver(follow.model_copy(update={"notice": "no such storm"}))
    assert world.chat.calls == calls


def test_a_storm_that_is_gone_is_an_error_and_no_success(world: World) -> None:
    for number in range(4):
        world.deliver(world.asked(number)[1])
    (storm,) = world.told.storms
    del world.told.items["storm", storm.id]
    with pytest.raises(StoreError, match="somebody removed it"):
        world.deliver(world.asked(3)[1])


def test_a_control_that_the_catalog_does_not_have_is_called_by_its_id(world: World) -> None:
    for number in range(4):
        case = world.stands(sample_case(number, controls=("gone-control",)))
        assert case.ask
        world.deliver(world.noted(notify.asked(case, case.ask)))
    assert "gone-control" in world.chat.cards(MAIN)[3].says


# -- mails -------------------------------------------------------------------------------------------------------------


def _recorded(world: World, case: Case, results: list[JsonValue]) -> None:
    """What the ledger has of the case's first run."""
    intent = samples.draft("intent-1", type=RecordType.INTENT).model_copy(
        update={
            "data": {
                "run": 1,
                "before": {"ids": ["sgr-1"]},
                "plan": {"calls": [{"why": "the Internet may not come in"}]},
            }
        }
    )
    result = samples.draft("result-1", type=RecordType.RESULT).model_copy(
        update={"data": {"run": 1, "outcome": "fixed", "after": {"ids": []}, "results": results}}
    )
    world.desk.chains[case.id] = [*samples.records(case.id, intent, result)]


def test_an_owner_is_told_what_was_changed_once(world: World) -> None:
    case, _ = world.asked()
    ended, result = fixed(case)
    world.stands(ended)
    _recorded(world, case, [{"index": 0}])
    world.office = replace(
        world.office,
        remediations={
            samples.REMEDIATION: replace(samples.SAMPLE, as_code=lambda _, state: f"keep = {state.ids}")
        },
    )
    world.deliver(world.noted(result), OWNER)
    world.deliver(result, OWNER)
    ((audience, subject, text, _),) = world.mail.sent
    assert audience == "owner:team-a"
    assert case.target.resource[:20] in subject
    for part in (
        "the Internet may not come in",
        "keep = ('sgr-1',)",
        f"redress undo {case.id}",
        "without sgr-1",
    ):
        assert part in text
    assert world.lines(case.id)["mail:owner run_fixed"].state == "told"


@pytest.mark.parametrize(
    "change, says",
    [
        ({"owner": ""}, "nobody is known"),
        ({}, "no call was made"),
    ],
)
def test_where_there_is_nothing_to_tell_an_owner_the_case_says_why(
    world: World, change: dict[str, Any], says: str
) -> None:
    case, _ = world.asked()
    ended, result = fixed(case)
    world.stands(ended.model_copy(update=change))
    _recorded(world, case, [])
    world.deliver(world.noted(result), OWNER)
    assert world.mail.sent == []
    line = world.lines(case.id)["mail:owner run_fixed"]
    assert (line.state, says in line.said) == ("nothing", True)


def test_a_notice_of_no_change_is_no_owners_matter(world: World) -> None:
    case, notice = world.asked()
    world.deliver(notice, OWNER)
    world.deliver(world.noted(notice.model_copy(update={"id": "x#run-1", "case": "gone"})), OWNER)
    assert world.mail.sent == []
    assert "nothing of anybody's was changed" in world.lines(case.id)["mail:owner ask"].said


@pytest.mark.parametrize("remediations", [{}, {samples.REMEDIATION: samples.SAMPLE}])
def test_a_change_is_told_without_code_where_there_is_none(world: World, remediations: Any) -> None:
    case, _ = world.asked()
    ended, result = fixed(case)
    world.stands(ended)
    _recorded(world, case, [{"index": 0}])
    world.desk.chains[case.id] = [
        one for one in world.desk.chains[case.id] if one.draft.type == RecordType.RESULT
    ]
    strict = {
        name: replace(one, state=samples.Nothing, as_code=lambda *_: "never")
        for name, one in remediations.items()
    }
    world.desk.chains[case.id] = [
        *samples.records(
            case.id,
            samples.draft("intent-1", type=RecordType.INTENT).model_copy(
                update={"data": {"run": 1, "before": {"another": "shape"}}}
            ),
            samples.draft("result-1", type=RecordType.RESULT).model_copy(
                update={"data": {"run": 1, "after": None, "results": [{"index": 0}]}}
            ),
        )
    ]
    world.office = replace(world.office, remediations=strict)
    world.deliver(world.noted(result), OWNER)
    assert "Terraform" not in world.mail.sent[0][2]
    assert "never" not in world.mail.sent[0][2]


def test_an_ask_that_is_over_is_no_mail_any_more(world: World) -> None:
    case, notice = world.asked()
    world.stands(fixed(case)[0])
    world.deliver(notice, PEOPLE)
    assert world.mail.sent == []
    assert world.lines(case.id)["mail:people ask"].said == "it was over before it could be told"


def test_mails_wait_for_a_topic_that_is_not_there(world: World) -> None:
    case, notice = world.asked()
    world.mail.faults = [UnreachableError("no topic"), RejectedError("too long"), None]
    world.deliver(notice, PEOPLE)
    assert world.lines(case.id)["mail:people ask"].state == "waiting"
    assert world.queue.sent == []
    world.deliver(notice, PEOPLE)
    assert world.lines(case.id)["mail:people ask"].state == "given_up"
    world.deliver(notice, PEOPLE)
    assert len(world.mail.sent) == 1


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_a_ticket_is_brought_as_it_stands(world: World) -> None:
    opened, closed = samples.ticket(), samples.ticket(state=TicketState.CLOSED)
    first, last = world.noted(notify.ticket(opened)), notify.ticket(closed)
    world.deliver(first, JIRA)
    linked = {**opened.evidence, "page": f"https://console.example.org/api/cases/{opened.case}"}
    expected = opened.model_copy(update={"evidence": linked})
    assert world.tickets.tickets == {"T-1": (key_of(opened.id, "jira", TENANT), expected)}
    world.noted(last)
    world.deliver(first, JIRA)
    world.deliver(last, JIRA)
    assert (world.tickets.log, world.tickets.closed) == (["create", "close"], {"T-1"})


def test_a_ticket_waits_for_its_system(world: World) -> None:
    notice = world.noted(notify.ticket(samples.ticket()))
    world.ticket_fault = UnreachableError("401: the token is not valid")
    world.deliver(notice, JIRA)
    assert world.lines(notice.case)["ticket:jira ticket_open"].state == "waiting"
    assert world.queue.sent == []
    world.ticket_fault = LaterError("503", 60)
    with pytest.raises(LaterError):
        world.deliver(notice, JIRA)
    world.ticket_fault = None
    world.deliver(notice, JIRA)
    assert world.lines(notice.case)["ticket:jira ticket_open"].state == "told"


REFUSALS = [
    pytest.param(RejectedError("jira: 400 (customfield_10011: Team is required)"), id="400"),
    pytest.param(UnreachableError("401: the token is not valid"), id="401"),
    pytest.param(LaterError("503", 60), id="503"),
]


def swept(world: World, time: timedelta, every: timedelta = timedelta(minutes=10)) -> int:
    """The sweep runs all the time, and whatever it sends is brought; how often the ticket's system was tried."""
    tries, until = 0, world.clock.now() + time
    while world.clock.now() < until:
        world.clock.advance(every)
        world.office.sweep()
        due = [*world.queue.sent]
        world.queue.sent.clear()
        world.queue.forget()
        for one in due:
            tries += one.destination == JIRA
            with suppress(LaterError):
                world.office.deliver(one)
    return tries


def untold(world: World) -> list[str]:
    facts = daily.facts_of(world.desk, world.told, HOME, world.clock.now())
    return [line for line in daily.lines(facts) if line.startswith("Not told yet: ticket:jira")]


@pytest.mark.parametrize("error", REFUSALS)
def test_a_ticket_whose_system_refuses_is_brought_once_it_takes_it_however_late(
    world: World, error: DeliveryError
) -> None:
    notice = world.noted(notify.ticket(samples.ticket()))
    world.ticket_fault = error
    with suppress(LaterError):
        world.deliver(notice, JIRA)
    swept(world, timedelta(days=5))
    line = world.lines(notice.case)["ticket:jira ticket_open"]
    assert (line.state, str(error) in line.said) == ("waiting", True)
    assert len(untold(world)) == 1, "the digest says so, day by day"
    world.ticket_fault = None
    swept(world, timedelta(days=1))
    assert world.tickets.log == ["create"]
    assert world.lines(notice.case)["ticket:jira ticket_open"].state == "told"


def test_a_ticket_whose_system_refuses_is_tried_again_after_growing_pauses(world: World) -> None:
    notice = world.noted(notify.ticket(samples.ticket()))
    world.ticket_fault = UnreachableError("401: the token is not valid")
    world.deliver(notice, JIRA)
    assert swept(world, timedelta(hours=1)) == 2
    assert swept(world, timedelta(hours=23)) in {4, 5}
    assert swept(world, timedelta(days=4)) == 4, "once a day"


@pytest.mark.parametrize("error", REFUSALS)
def test_that_a_ticket_does_not_get_there_is_one_errand_for_the_engine(
    world: World, error: DeliveryError
) -> None:
    ticket = samples.ticket()
    notice = world.noted(notify.ticket(ticket))
    world.ticket_fault = error
    with suppress(LaterError):
        world.deliver(notice, JIRA)
    swept(world, timedelta(days=5))
    (order,) = (ERRAND.validate_json(canonical(one.body)) for one in world.told.errands)
    assert order == NotBrought(
        case=ticket.case, ticket=ticket.id, integration="jira", why=str(error), again=True, at=notice.at
    )
    world.ticket_fault = None
    swept(world, timedelta(days=1))
    world.ticket_fault = error
    newer = samples.ticket(at=world.clock.now())
    later = world.noted(notify.ticket(newer, again="later"))
    with suppress(LaterError):
        world.deliver(later, JIRA)
    swept(world, timedelta(days=1))
    assert len(world.told.errands) == 2, "it got there, and then it does not: that is told anew"


def test_a_question_that_cannot_be_asked_is_no_news_of_the_ticket(world: World) -> None:
    ticket = brought(world)
    world.ticket_fault = UnreachableError("401: the token is not valid")
    world.deliver(heard(world, ticket), JIRA)
    line = world.lines(ticket.case)["ticket:jira ticket_heard"]
    assert (line.state, world.told.errands) == ("waiting", [])
    world.ticket_fault = RejectedError("400")
    world.deliver(heard(world, ticket, "r-2"), JIRA)
    assert world.lines(ticket.case)["ticket:jira ticket_heard"].state == "given_up"


def test_a_closing_that_is_not_taken_is_tried_for_a_month(world: World) -> None:
    ticket = brought(world)
    shut = world.noted(notify.ticket(closed(ticket)))
    world.ticket_fault = UnreachableError("401: the token is not valid")
    world.deliver(shut, JIRA)
    swept(world, timedelta(days=29), timedelta(hours=1))
    assert world.lines(shut.case)["ticket:jira ticket_closed"].state == "waiting"
    swept(world, timedelta(days=3), timedelta(hours=1))
    assert world.lines(shut.case)["ticket:jira ticket_closed"].state == "given_up"
    assert len(world.told.errands) == 1


def test_one_that_cannot_be_opened_again_there_is_left_to_people_who_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why is a comment there, which no later try repeats."""
    ticket = brought(world)
    world.tickets.closed.add("T-1")
    world.deliver(heard(world, ticket), JIRA)
    world.told.errands.clear()
    world.clock.advance(timedelta(hours=1))

    def refused(*_: object) -> None:
        raise RejectedError("no transition leads to an open status")

    monkeypatch.setattr(world.tickets, "reopen", refused)
    newer = samples.ticket(at=world.clock.now())
    world.deliver(world.noted(notify.ticket(newer, again="r-1")), JIRA)
    (order,) = (ERRAND.validate_json(canonical(one.body)) for one in world.told.errands)
    assert isinstance(order, NotBrought)
    assert not order.again
    line = world.lines(ticket.case)["ticket:jira ticket_open"]
    assert (line.state, "no transition" in line.said) == ("given_up", True)
    assert swept(world, timedelta(days=2)) == 0


def test_what_is_new_is_not_undone_by_what_waited_longer(world: World) -> None:
    ticket = brought(world)
    again = samples.ticket(at=START + timedelta(hours=1))
    newest = samples.ticket(at=START + timedelta(hours=2)).model_copy(update={"why": "two ports"})
    waits = world.noted(notify.ticket(again, again="r-1"))
    world.deliver(world.noted(notify.ticket_news(newest)), JIRA)
    world.deliver(waits, JIRA)
    world.deliver(world.noted(notify.ticket(ticket)), JIRA)
    assert world.tickets.log == ["create", "update"]
    assert world.tickets.tickets["T-1"][1].why == "two ports"


def test_a_ticket_that_comes_late_is_made_as_it_stands(world: World) -> None:
    first = world.noted(notify.ticket(samples.ticket()))
    newest = samples.ticket(at=START + timedelta(hours=2)).model_copy(update={"why": "two ports"})
    world.noted(notify.ticket_news(newest))
    world.deliver(first, JIRA)
    assert world.tickets.log == ["create"]
    assert world.tickets.tickets["T-1"][1].why == "two ports"


def test_a_ticket_that_is_closed_before_it_got_anywhere_is_brought_nowhere(world: World) -> None:
    ticket = samples.ticket()
    notice = world.noted(notify.ticket(ticket))
    world.ticket_fault = RejectedError("400")
    world.deliver(notice, JIRA)
    world.noted(notify.ticket(closed(ticket)))
    world.ticket_fault = None
    swept(world, timedelta(hours=1))
    assert world.tickets.log == []
    assert world.lines(notice.case)["ticket:jira ticket_open"].state == "nothing"


@pytest.mark.parametrize("policy", [POLICY.model_copy(update={"integrations": ()}), None])
def test_an_integration_that_is_no_more_is_given_up(world: World, policy: Policy | None) -> None:
    world.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="x") if policy else None
    notice = world.noted(notify.ticket(samples.ticket()))
    world.deliver(notice, JIRA)
    assert world.lines(notice.case)["ticket:jira ticket_open"].state == "nothing"
    assert world.tickets.log == []


def test_a_closing_is_nothing_to_a_system_that_never_had_the_ticket(world: World) -> None:
    world.ticket_fault = UnreachableError("401: the token is not valid")
    shut = world.noted(notify.ticket(closed(samples.ticket())))
    world.deliver(shut, JIRA)
    line = world.lines(shut.case)["ticket:jira ticket_closed"]
    assert (line.state, line.said) == ("nothing", "nobody there ever heard of it")


def test_a_ticket_that_lies_where_the_integration_pointed_before_is_given_up_with_the_reason(
    world: World,
) -> None:
    ticket = brought(world)
    ref = world.told.reference(ticket.id, "jira")
    assert ref
    world.told.keep(ref.model_copy(update={"place": "another", "version": ref.version + 1}))
    world.deliver(world.noted(notify.ticket(closed(ticket))), JIRA)
    line = world.lines(ticket.case)["ticket:jira ticket_closed"]
    assert (line.state, "T-1 lies where this pointed before" in line.said) == ("given_up", True)
    world.desk.ours = [ticket]
    assert polled(world) == []
    assert world.tickets.log == ["create"]


def test_a_ticket_that_cannot_be_read_is_our_tables_failure_and_comes_back(world: World) -> None:
    notice = notify.ticket(samples.ticket())
    spoilt = world.noted(notice.model_copy(update={"body": {**notice.body, "ticket": {"digest": 1}}}))
    with pytest.raises(StoreError, match="cannot be read"):
        world.deliver(spoilt, JIRA)
    assert world.tickets.log == []


# -- what people do to a ticket elsewhere ------------------------------------------------------------------------------


def brought(world: World) -> Ticket:
    """A ticket that lies at the ticket system."""
    ticket = samples.ticket()
    world.deliver(world.noted(notify.ticket(ticket)), JIRA)
    assert world.tickets.log == ["create"]
    return ticket


def heard(world: World, ticket: Ticket, request: str = "r-1") -> Notice:
    return world.noted(notify.heard(samples.case(), ticket, "jira", request, world.clock.now()))


def orders(world: World) -> list[ClosedThere]:
    """What the engine is told, each as the errand that its queue carries."""
    assert {one.kind for one in world.told.errands} <= {"errand"}
    found = [ERRAND.validate_json(canonical(one.body)) for one in world.told.errands]
    assert all(isinstance(one, ClosedThere) for one in found)
    return [one for one in found if isinstance(one, ClosedThere)]


def test_that_somebody_closed_it_there_is_one_errand_however_often_it_is_heard(world: World) -> None:
    ticket = brought(world)
    world.deliver(heard(world, ticket), JIRA)
    assert orders(world) == [], "it is open there"
    world.tickets.closed.add("T-1")
    world.clock.advance(seconds=9)
    for request in ("r-2", "r-2", "r-3"):
        world.deliver(heard(world, ticket, request), JIRA)
    expected = ClosedThere(
        case=ticket.case, ticket=ticket.id, integration="jira", key="T-1", at=world.clock.now()
    )
    assert orders(world) == [expected]
    assert world.told.errands[0].case == ticket.case
    ref = world.told.reference(ticket.id, "jira")
    assert ref
    assert (ref.closed, ref.updated_at) == (True, world.clock.now())
    assert world.tickets.log == ["create"], "asked, and nothing done there"


def test_one_that_was_opened_again_there_is_remembered_and_nobodys_errand(world: World) -> None:
    ticket = brought(world)
    world.tickets.closed.add("T-1")
    world.deliver(heard(world, ticket), JIRA)
    world.tickets.closed.clear()
    world.deliver(heard(world, ticket, "r-2"), JIRA)
    assert len(orders(world)) == 1
    ref = world.told.reference(ticket.id, "jira")
    assert ref
    assert not ref.closed


def test_one_that_we_closed_meanwhile_is_as_people_want_it(world: World) -> None:
    ticket = brought(world)
    hint = heard(world, ticket)
    world.tickets.closed.add("T-1")
    world.noted(notify.ticket(closed(ticket)))
    world.deliver(hint, JIRA)
    assert orders(world) == []
    ref = world.told.reference(ticket.id, "jira")
    assert ref
    assert not ref.closed


def test_one_that_was_never_brought_there_is_asked_of_nobody(world: World) -> None:
    ticket = samples.ticket()
    world.deliver(heard(world, ticket), JIRA)
    assert (world.tickets.log, orders(world)) == ([], [])
    assert world.told.reference(ticket.id, "jira") is None
    assert world.lines(ticket.case)["ticket:jira ticket_heard"].state == "nothing"


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_crash_while_it_is_kept_loses_no_errand_and_makes_no_second_one(world: World, place: str) -> None:
    ticket = brought(world)
    world.tickets.closed.add("T-1")

    def crash() -> None:
        setattr(world.told, place, lambda: None)
        raise Crash

    setattr(world.told, place, crash)
    hint = heard(world, ticket)
    with pytest.raises(Crash):
        world.deliver(hint, JIRA)
    world.clock.advance(seconds=360)
    world.deliver(hint, JIRA)
    assert len(orders(world)) == 1


def test_a_question_does_not_take_the_place_of_the_ticket_that_waits(world: World) -> None:
    """The system was away when the ticket was to be brought; asked about it, it has nothing to say."""
    ticket = samples.ticket()
    notice = world.noted(notify.ticket(ticket))
    world.ticket_fault = UnreachableError("401: the token is not valid")
    world.deliver(notice, JIRA)
    world.ticket_fault = None
    world.office.deliver(delivery(notice, JIRA).model_copy(update={"kind": routes.HEARD}))
    assert world.lines(ticket.case)["ticket:jira ticket_open"].state == "waiting"
    world.clock.advance(timedelta(minutes=11))
    world.office.sweep()
    world.drain()
    assert world.tickets.log == ["create"]
    assert world.lines(ticket.case)["ticket:jira ticket_open"].state == "told"


def polled(world: World) -> list[Delivery]:
    world.office.sweep()
    found = [one for one in world.queue.sent if one.destination.kind == "ticket"]
    world.queue.sent.clear()
    return found


def test_open_tickets_are_asked_about_once_a_day_by_whoever_has_them(world: World) -> None:
    """Also where they are in no scope any more; not where nobody can be asked, nor where none was brought."""
    ticket = brought(world)
    narrowed = POLICY.integrations[0].model_copy(update={"accounts": (MEMBER,)})
    others = (
        Integration(name="hook", system="webhook", at="https://hook.example.org/"),
        Integration(name="elsewhere", system="jira", project="X"),
    )
    policy = POLICY.model_copy(update={"integrations": (narrowed, *others)})
    world.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="more")
    world.desk.ours = [ticket, samples.ticket(2, TicketState.CLOSED)]
    asked = Delivery(
        notice=notify.ticket(ticket).id, kind="ticket_heard", case=ticket.case, at=START, destination=JIRA
    )
    assert polled(world) == [asked]
    for _ in range(3):
        world.clock.advance(timedelta(hours=5))
        if world.clock.now().date() == START.date():
            assert polled(world) == []
    world.clock.set(START + timedelta(days=1))
    assert polled(world) == [asked.model_copy(update={"at": world.clock.now()})]


@pytest.mark.parametrize("integrations", [(), (Integration(name="hook", system="webhook"),), None])
def test_where_nobody_can_be_asked_no_ticket_is_read(world: World, integrations: Any) -> None:
    policy = None if integrations is None else POLICY.model_copy(update={"integrations": integrations})
    world.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="x") if policy else None

    class Unread(FakeDesk):
        def tickets(self, state: TicketState) -> Iterator[Ticket]:
            raise AssertionError(f"nobody asks for those that are {state}")

    world.office = replace(world.office, books=Unread(stands=world.told.figures))
    assert polled(world) == []


def many(world: World, tickets: int) -> None:
    """So many tickets of ours are open, by twos of the same moment, the one that moved last first; and Jira has them."""
    world.desk.ours = [
        samples.ticket(number, at=START - timedelta(minutes=number // 2)) for number in range(1, tickets + 1)
    ]
    there = brought(world)
    ref = world.told.reference(there.id, "jira")
    assert ref
    refs = [
        ref.model_copy(update={"ticket": one.id, "version": 1})
        for one in world.desk.ours
        if one.id != there.id
    ]
    world.told.keep(*refs)


def test_no_more_tickets_are_asked_about_than_a_sweep_can_take(world: World) -> None:
    many(world, MOST_POLLED + 1)
    assert len(polled(world)) == MOST_POLLED


@pytest.mark.parametrize("more", [0, 1, MOST_POLLED, MOST_POLLED + 200])
def test_all_open_tickets_are_asked_about_once_a_day_however_many(world: World, more: int) -> None:
    many(world, MOST_POLLED + more)
    for _ in range(2):
        asked = list[Delivery]()
        for _ in range(4):
            asked += polled(world)
            world.clock.advance(timedelta(minutes=10))
        assert len(asked) == MOST_POLLED + more
        assert len({one.notice for one in asked}) == MOST_POLLED + more
        world.clock.set(START + timedelta(days=1))


def test_a_ticket_that_is_closed_while_others_are_asked_about_hides_none_of_them(world: World) -> None:
    many(world, MOST_POLLED + 9)
    asked = polled(world)
    first, others = world.desk.ours[0], world.desk.ours[3:]
    moved = first.model_copy(update={"updated_at": world.clock.now()})
    world.desk.ours = [moved, *others]
    world.clock.advance(timedelta(minutes=10))
    asked += polled(world)
    assert len({one.notice for one in asked}) == MOST_POLLED + 9


def test_what_the_poll_finds_closed_is_one_errand(world: World) -> None:
    ticket = brought(world)
    world.desk.ours = [ticket]
    world.tickets.closed.add("T-1")
    world.office.sweep()
    world.drain()
    assert [order.ticket for order in orders(world)] == [ticket.id]


# -- the figures -------------------------------------------------------------------------------------------------------


def test_records_are_counted_once_when_they_are_settled_in_every_account(world: World) -> None:
    world.desk.members = [samples.enrolment()]
    control = next(iter(CONTROLS.values())).model_copy(update={"id": samples.CONTROL})
    world.office = replace(world.office, controls={samples.CONTROL: control})
    world.office.sweep()
    figures = world.told.figures()
    assert figures
    assert (figures.days, figures.counted_from, figures.version) == ((), START - SETTLES, 1)
    recorded(world.desk, RecordType.ASKED, 1)
    recorded(world.desk, RecordType.ASKED, 2, MEMBER)
    recorded(world.desk, RecordType.ASKED, 2, "999999999999")
    opened = (START - timedelta(minutes=1)).isoformat()
    recorded(world.desk, RecordType.RESULT, 2, outcome="fixed", opened_at=opened)
    recorded(world.desk, RecordType.TICKET_OPENED, 9)
    world.clock.advance(timedelta(minutes=7))
    world.office.sweep()
    first = Day(
        date=START.date(),
        asked=2,
        fixed=1,
        seconds_to_fix={control.severity: Taken(count=1, seconds=180)},
    )
    assert days(world) == (first,)
    for _ in range(2):
        world.clock.advance(timedelta(minutes=7))
        world.office.sweep()
    assert days(world) == (first.model_copy(update={"tickets": 1}),)


def days(world: World) -> tuple[Day, ...]:
    figures = world.told.figures()
    assert figures
    return figures.days


@pytest.mark.parametrize("place", ["before", "after"])
def test_after_a_crash_nothing_is_counted_twice_or_left_out(world: World, place: str) -> None:
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))  # there was a digest today
    world.office.sweep()
    recorded(world.desk, RecordType.ASKED, 1)
    world.clock.advance(timedelta(minutes=10))

    def crash() -> None:
        setattr(world.told, place, lambda: None)
        raise Crash

    setattr(world.told, place, crash)
    with pytest.raises(Crash):
        world.office.sweep()
    world.office.sweep()
    assert days(world) == (Day(date=START.date(), asked=1),)


def test_who_counts_at_the_same_time_gives_way(world: World) -> None:
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))
    world.office.sweep()
    recorded(world.desk, RecordType.ASKED, 1)
    world.clock.advance(timedelta(minutes=10))

    def other() -> None:
        world.told.before = lambda: None
        world.office.sweep()

    world.told.before = other
    with pytest.raises(ConflictError):
        world.office.sweep()
    assert days(world) == (Day(date=START.date(), asked=1),)


# -- the sweep and the daily digest ------------------------------------------------------------------------------------


def test_the_sweep_sends_again_what_is_on_its_way_for_long_and_nothing_else(world: World) -> None:
    world.clock.set(START.replace(hour=7))
    case, notice = world.asked()
    early = notice.model_copy(update={"at": world.clock.now()})
    world.noted(early)
    world.chat.faults = [LaterError("busy", 1)]
    with pytest.raises(LaterError):
        world.deliver(early)
    world.deliver(early, PEOPLE)
    world.clock.set(early.at + timedelta(minutes=10, seconds=1))
    world.office.sweep()
    assert world.queue.sent == []
    world.clock.advance(seconds=1)
    found = world.told.deliveries(case.id)
    assert found
    young = Line(destination=JIRA, notice="n", kind="ticket_open", at=world.clock.now(), state="waiting")
    world.told.keep(found.model_copy(update={"lines": (*found.lines, young), "version": found.version + 1}))
    world.office.sweep()
    assert world.queue.sent == [delivery(early)]
    world.drain()
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "told"


def test_many_who_wait_for_one_destination_take_nobody_elses_turn(world: World) -> None:
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))
    for number in range(MOST_RESENT):
        at = START - timedelta(hours=2)
        line = Line(destination=JIRA, notice=f"n-{number}", kind="ticket_open", at=at, state="waiting")
        world.told.keep(Deliveries(case=f"c-{number}", lines=(line,), version=1))
    line = Line(destination=SLACK, notice="mine", kind="ask", at=START - timedelta(hours=1), state="waiting")
    world.told.keep(Deliveries(case="c-mine", lines=(line,), version=1))
    world.office.sweep()
    assert {one.destination for one in world.queue.sent} == {JIRA}
    world.office.sweep()
    assert [one.notice for one in world.queue.sent[MOST_RESENT:]] == ["mine"]
    world.office.sweep()
    assert len(world.queue.sent) == MOST_RESENT + 1


def test_what_somebody_tells_right_now_is_left_to_them(world: World) -> None:
    line = Line(
        destination=JIRA, notice="n", kind="ticket_open", at=START - timedelta(hours=2), state="waiting"
    )
    waits = Deliveries(case="c", lines=(line,), version=1)
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1), waits)

    def other() -> None:
        world.told.before = lambda: None
        world.told.keep(waits.model_copy(update={"version": 2}))

    world.told.before = other
    world.office.sweep()
    assert world.queue.sent == []
    world.office.sweep()
    assert [one.notice for one in world.queue.sent] == ["n"]


def late(case: str, notices: int = 1) -> Deliveries:
    """The page of a case with so many notices that are over their turn."""
    lines = tuple(
        Line(destination=SLACK, notice=f"{case}-{n}", kind="case_news", at=START - PATIENCE, state="waiting")
        for n in range(notices)
    )
    replies = tuple(f"{case}-{n}" for n in range(notices))
    post = Post(channel=MAIN, ask=1, ts="1.0", shown="", replies=replies)
    return Deliveries(case=case, lines=lines, posts=(post,) * notices, version=1)


def test_of_a_page_from_before_there_were_limits_the_newest_alone_is_sent_again(world: World) -> None:
    page = late("c", MOST_REPLIES + 3)
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1), page)
    world.office.sweep()
    kept = world.told.deliveries("c")
    assert kept
    assert [one.notice for one in kept.lines] == [one.notice for one in page.lines[-MOST_WAITING:]]
    assert [one.notice for one in world.queue.sent] == [one.notice for one in kept.lines]
    assert len(kept.posts) == MOST_POSTS
    assert {post.replies for post in kept.posts} == {page.posts[0].replies[-MOST_REPLIES:]}


def test_a_page_that_cannot_be_written_is_an_error_and_stops_nothing_else(world: World) -> None:
    world.told.keep(late("bad"))
    world.told.keep(late("good"))

    def too_large() -> None:
        world.told.before = lambda: None
        raise OversizeError("too large")

    world.told.before = too_large
    with pytest.raises(OversizeError):
        world.office.sweep()
    assert [one.case for one in world.queue.sent if one.kind == "case_news"] == ["good"]
    assert daily.KIND in {one.kind for one in world.queue.sent}
    assert world.told.figures()


def test_the_digest_of_a_day_is_told_everywhere_once(world: World) -> None:
    case, _ = world.asked()
    world.clock.set(START.replace(hour=7, minute=59))
    world.office.sweep()
    assert world.queue.sent == []
    world.clock.set(START.replace(hour=8))
    world.office.sweep()
    world.office.sweep()
    assert [one.destination for one in world.queue.sent] == [SLACK, PEOPLE]
    again = [*world.queue.sent]
    world.drain()
    for one in again:
        world.office.deliver(one)
    (message,) = world.chat.messages
    (mail,) = world.mail.sent
    assert case.target.resource in message.says
    assert case.target.resource in mail[2]
    assert {line.state for line in world.lines(daily.name_of(START.date())).values()} == {"told"}
    world.clock.advance(timedelta(days=1))
    world.office.sweep()
    assert len(world.queue.sent) == 2


def test_without_a_policy_the_digest_is_a_mail(world: World) -> None:
    world.desk.setting = None
    world.office.sweep()
    assert [one.destination for one in world.queue.sent] == [PEOPLE]
    world.drain()
    assert world.mail.audiences == ["people"]


def test_a_digest_that_was_not_sent_is_sent_by_a_later_sweep(world: World) -> None:
    def gone(_: Delivery) -> None:
        raise StoreError("no queue")

    with pytest.raises(StoreError):
        replace(world.office, send=gone).sweep()
    world.clock.advance(timedelta(minutes=11))
    world.office.sweep()
    world.drain()
    assert (len(world.chat.messages), len(world.mail.sent)) == (1, 1)


def test_a_channel_without_a_policy_falls_back_to_the_mail(world: World) -> None:
    world.desk.setting = None
    world.chat.broken[MAIN] = UnreachableError("is_archived")
    _, notice = world.asked()
    world.deliver(notice)
    assert [one.destination for one in world.queue.sent] == [PEOPLE]


# -- our own tables, or what lies in them ------------------------------------------------------------------------------


def unreadable(*_: Any, **__: Any) -> Any:
    """A read of what a newer version wrote, or somebody by hand."""
    raise UnreadableError("that item does not hold what it should")


def spoils(world: World, patch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on these reads of the desk, or of what is remembered, find what cannot be read."""
    for name in names:
        patch.setattr(world.told if hasattr(world.told, name) else world.desk, name, unreadable)


def received(world: World, one: Delivery) -> tuple[StoreError | None, int]:
    """The queue brings it again after its own time, until it no longer comes; the error for which it was set aside, and how often it came."""
    for times in range(1, 100):
        with suppress(UnreadableError):
            return world.office.deliver(one), times
        world.clock.advance(seconds=360)
    raise AssertionError("it stands there still")


READ = ["notice", "case", "answers", "dossier", "policy", "storm"]
"""What a card is made from."""


@pytest.mark.parametrize("name", READ)
def test_what_cannot_be_read_is_set_aside_after_an_hour_and_told_once_it_can(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case, notice = world.asked()
    why = "that item does not hold what it should"
    with monkeypatch.context() as spoilt:
        spoils(world, spoilt, name)
        with pytest.raises(UnreadableError):
            world.deliver(notice)
        line = world.lines(case.id)["slack:C0000MAIN ask"]
        assert (line.state, line.attempts, line.said) == ("waiting", 1, why)
        error, times = received(world, delivery(notice))
        assert (type(error), times) == (UnreadableError, 12), "longer than an hour, six minutes each"
        line = world.lines(case.id)["slack:C0000MAIN ask"]
        assert (line.state, line.said) == ("waiting", f"{why}; meanwhile to mail:people")
        assert [one.destination for one in world.queue.sent] == [PEOPLE], "no channel that waits for the same"
        world.queue.sent.clear()
    assert received(world, delivery(world.asked(1)[1])) == (None, 1), "the turn of what is behind it"
    resent(world)
    assert {line.state for line in world.lines(case.id).values()} == {"told"}
    assert case.target.resource in "".join(card.says for card in world.chat.cards(MAIN))


@pytest.mark.parametrize("name", READ)
def test_people_hear_by_mail_that_there_is_something_which_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    case, notice = world.asked()
    spoils(world, monkeypatch, name)
    world.clock.advance(PATIENCE)
    error, times = received(world, delivery(notice, PEOPLE))
    for _ in range(3):
        received(world, delivery(notice, PEOPLE))
    ((audience, subject, text, _),) = world.mail.sent
    assert audience == "people"
    if name in {"answers", "dossier", "storm"}:
        assert (error, times, case.target.resource in text) == (None, 1, True), "a mail is made without them"
        return
    assert (type(error), times) == (UnreadableError, PATIENT)
    assert subject == f"[Redress] Something could not be told: {case.id}"
    for part in ("What:     Approval wanted", f"Case:     {case.id}", "that item does not hold"):
        assert part in text


def test_a_mail_that_says_what_cannot_be_told_is_tried_again_where_mail_fails_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, notice = world.asked()
    spoils(world, monkeypatch, "notice")
    world.mail.faults = [UnreachableError("no topic")]
    error, _ = received(world, delivery(notice, PEOPLE))
    assert (type(error), world.mail.sent) == (UnreadableError, [])
    assert world.lines(notice.case)["mail:people ask"].state == "waiting"
    received(world, delivery(notice, PEOPLE))
    assert world.mail.audiences == ["people"]


@pytest.mark.parametrize("name", ["policy", "notice"])
@pytest.mark.parametrize("where, key", [(JIRA, "ticket:jira ticket_open"), (OWNER, "mail:owner ticket_open")])
def test_what_is_for_nobody_else_waits_on_its_case_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, where: Destination, key: str, name: str
) -> None:
    notice = world.noted(notify.ticket(samples.ticket()))
    spoils(world, monkeypatch, name)
    error, times = received(world, delivery(notice, where))
    assert (type(error), times) == (UnreadableError, 12)
    assert world.lines(notice.case)[key].state == "waiting"
    assert (world.mail.sent, world.queue.sent) == ([], [])


def test_what_cannot_be_routed_for_an_hour_is_a_mail_and_is_routed_once_the_policy_can_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, notice = world.asked()
    with monkeypatch.context() as spoilt:
        spoils(world, spoilt, "policy")
        received(world, delivery(notice, routes.UNROUTED))
        (mailed,) = world.queue.sent
        world.queue.sent.clear()
        received(world, mailed)
    assert [one.destination for one in (mailed,)] == [PEOPLE]
    assert case.id in world.mail.sent[0][2]
    resent(world)
    lines = world.lines(case.id)
    assert {line.state for line in lines.values()} == {"told"}
    assert len(world.chat.cards(MAIN)) == 1


def test_tables_that_can_be_neither_read_nor_written_are_waited_for_as_long_as_it_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, notice = world.asked()

    def down(*_: Any) -> Any:
        raise StoreError("DynamoDB does not answer")

    for names in (("deliveries",), ("keep",)):
        with monkeypatch.context() as broken:
            for name in names:
                broken.setattr(world.told, name, down)
            for _ in range(20):
                world.clock.advance(seconds=360)
                with pytest.raises(StoreError, match="does not answer"):
                    world.deliver(notice)
    assert (world.queue.sent, world.mail.sent) == ([], [])
    world.deliver(notice)
    assert world.lines(case.id)["slack:C0000MAIN ask"].state == "told"


def test_a_race_that_is_lost_is_run_again_however_late(world: World) -> None:
    _, notice = world.asked()
    world.clock.advance(timedelta(hours=5))

    def quicker() -> None:
        raise ConflictError("somebody was quicker")

    world.told.before = quicker
    for _ in range(PATIENT + 1):
        with pytest.raises(ConflictError):
            world.deliver(notice)
    assert world.queue.sent == []


@pytest.mark.parametrize("where", [SLACK, PEOPLE, routes.UNROUTED])
def test_a_page_that_cannot_be_read_is_waited_for_an_hour_and_then_people_get_mail(
    world: World, monkeypatch: pytest.MonkeyPatch, where: Destination
) -> None:
    case, notice = world.asked()
    spoils(world, monkeypatch, "deliveries")
    world.clock.advance(PATIENCE)
    with pytest.raises(UnreadableError):
        world.deliver(notice, where)
    world.clock.advance(seconds=1)
    assert isinstance(world.office.deliver(delivery(notice, where)), UnreadableError)
    ((audience, _, text, _),) = world.mail.sent
    assert (audience, case.id in text, world.chat.messages) == ("people", True, [])


@pytest.mark.parametrize("where", [JIRA, OWNER])
def test_what_holds_up_nobody_waits_for_its_page(
    world: World, monkeypatch: pytest.MonkeyPatch, where: Destination
) -> None:
    _, notice = world.asked()
    spoils(world, monkeypatch, "deliveries")
    world.clock.advance(GIVE_UP_AFTER)
    with pytest.raises(UnreadableError):
        world.deliver(notice, where)
    assert world.mail.sent == []


def test_a_page_that_is_too_large_to_be_written_holds_up_nobody_and_no_card_comes_twice(world: World) -> None:
    _, notice = world.asked()

    def too_large() -> None:
        if any(isinstance(one, Deliveries) for one in world.told.items.values()):
            raise AssertionError("nothing was to be kept")
        if world.chat.messages:
            raise OversizeError("too large")

    world.told.before = too_large
    assert isinstance(world.office.deliver(delivery(notice)), OversizeError)
    assert (len(world.chat.messages), world.mail.audiences) == (1, ["people"])


def test_a_digest_of_a_storm_that_cannot_be_read_stops_nobody_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        world.deliver(world.asked(number)[1])
    (follow,) = world.queue.sent
    spoils(world, monkeypatch, "storm")
    world.clock.set(follow.at + PATIENCE)
    with pytest.raises(UnreadableError):
        world.office.deliver(follow)
    world.clock.advance(seconds=1)
    assert isinstance(world.office.deliver(follow), UnreadableError)
    assert world.mail.audiences == ["people"]


def test_a_case_that_cannot_be_read_may_wait_for_an_answer_and_is_not_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, notice = world.asked()
    spoils(world, monkeypatch, "case")
    world.clock.advance(GIVE_UP_AFTER + timedelta(seconds=1))
    received(world, delivery(notice))
    assert world.lines(notice.case)["slack:C0000MAIN ask"].state == "waiting"


def digested(world: World) -> list[Delivery]:
    """The day's digest is on its way: to the channel, and by mail."""
    world.office.sweep()
    found = [one for one in world.queue.sent if one.kind == daily.KIND]
    world.queue.sent.clear()
    return found


def test_a_digest_that_cannot_be_made_holds_up_nobody_and_people_hear_of_it_after_an_hour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, mail = digested(world)
    with monkeypatch.context() as spoilt:
        spoils(world, spoilt, "freezes")
        for one in (channel, mail):
            assert isinstance(world.office.deliver(one), UnreadableError), "at once"
        lines = world.lines(channel.case)
        assert {(line.state, line.said) for line in lines.values()} == {
            ("waiting", "that item does not hold what it should")
        }
        assert world.mail.sent == []
        for _ in range(8):
            resent(world)
        assert ["What:     digest" in text for _, _, text, _ in world.mail.sent] == [True], "once"
    resent(world)
    assert {line.state for line in world.lines(channel.case).values()} == {"told"}
    assert (len(world.chat.messages), len(world.mail.sent)) == (1, 2)


def test_a_digest_says_what_it_leaves_out_because_it_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _ = world.asked()

    def but_one(_: CaseState, *, oldest_first: bool) -> Iterator[Case]:
        assert oldest_first
        yield case
        raise UnreadableError("2 cannot be read, the first: CASE#x")

    channel, mail = digested(world)
    monkeypatch.setattr(world.desk, "cases", but_one)
    for one in (channel, mail):
        assert world.office.deliver(one) is None
    for says in (world.chat.messages[0].says, world.mail.sent[0][2]):
        assert case.target.resource in says
        assert "Left out: 2 cannot be read, the first: CASE#x" in says


def test_what_the_sweep_cannot_read_stops_nothing_else_and_is_an_error_at_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.told.keep(late("good"))
    waiting = world.told.waiting

    def but_one(before: Any, most: int) -> Iterator[Deliveries]:
        yield from waiting(before, most)
        raise UnreadableError("1 cannot be read, the first: DELIVERIES#x")

    with monkeypatch.context() as spoilt:
        spoilt.setattr(world.told, "waiting", but_one)
        spoils(world, spoilt, "enrolments")
        with pytest.raises(StoreError, match="DELIVERIES#x; that item does not hold"):
            world.office.sweep()
    assert {one.kind for one in world.queue.sent} == {"case_news", daily.KIND}


def test_a_race_that_the_sweep_loses_hides_no_other_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quicker() -> None:
        raise ConflictError("somebody was quicker")

    world.told.before = quicker
    spoils(world, monkeypatch, "enrolments")
    with pytest.raises(UnreadableError):
        world.office.sweep()


def test_tickets_that_cannot_be_read_stand_in_no_others_way_when_systems_are_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the ticket itself, nor where another one lies. The rest of the day's sweep goes on, and it is an error once."""
    ticket = brought(world)
    other = samples.ticket(2)
    reference = world.told.reference

    def listed(state: TicketState) -> Iterator[Ticket]:
        yield from (one for one in (other, ticket) if one.state is state)
        raise UnreadableError("1 cannot be read, the first: TICKET#x")

    def known(name: str, integration: str) -> Any:
        return unreadable() if name == other.id else reference(name, integration)

    monkeypatch.setattr(world.desk, "tickets", listed)
    monkeypatch.setattr(world.told, "reference", known)
    with pytest.raises(
        StoreError, match=r"that item does not hold .*; 1 cannot be read, the first: TICKET#x"
    ):
        world.office.sweep()
    asked = [one.case for one in world.queue.sent if one.kind == routes.HEARD]
    assert (asked, world.told.figures() is not None) == ([ticket.case], True)
    world.office.sweep()


def test_a_question_that_could_not_be_sent_is_sent_by_a_later_sweep(world: World) -> None:
    ticket = brought(world)
    world.desk.ours = [ticket]

    def away(one: Delivery) -> None:
        if one.kind == routes.HEARD:
            raise StoreError("no queue")
        world.queue.send(one)

    with pytest.raises(StoreError, match="no queue"):
        replace(world.office, send=away).sweep()
    assert world.told.figures()
    assert {one.kind for one in world.queue.sent} == {daily.KIND}
    world.clock.advance(timedelta(minutes=10))
    assert [one.case for one in polled(world)] == [ticket.case]


# -- against a Slack that validates every block, limits every channel and crawls every link ----------------------------


@pytest.fixture
def slack(world: World) -> Iterator[FakeSlack]:
    with FakeSlack(clock=lambda: world.clock.now().timestamp()) as fake:
        fake.add_channel(MAIN)
        fake.add_channel(ELSE)
        world.office = replace(world.office, chat=Slack(lambda: fake.token, fake.api))
        yield fake


def test_a_storm_of_five_hundred_reaches_slack_as_three_cards_and_a_digest(
    world: World, slack: FakeSlack
) -> None:
    slack.fail("500", "lost", "dead")
    slack.pause(20)
    pairs = [world.asked(number) for number in range(500)]
    world.queue.sent = [delivery(notice) for _, notice in pairs]
    world.drain()
    cards = [one for one in slack.messages(MAIN) if not one.thread]
    # The one whose answer was lost stands there twice, which decides nothing.
    assert len(cards) <= 5
    assert "497 more" in cards[-1].text
    for case, _ in pairs:
        assert {line.state for line in world.lines(case.id).values()} == {"told"}


def test_slack_revoked_archived_or_left_is_waited_for_and_repaired_by_the_sweep(
    world: World, slack: FakeSlack
) -> None:
    world.told.keep(Deliveries(case=daily.name_of(START.date()), version=1))
    case, notice = world.asked()
    slack.revoked = True
    world.deliver(notice)
    world.drain()
    lines = world.lines(case.id)
    assert {key: line.state for key, line in lines.items()} == {
        "slack:C0000MAIN ask": "waiting",
        "slack:C0000ELSE ask": "waiting",
        "mail:people ask": "told",
    }
    assert "token" in lines["slack:C0000MAIN ask"].said
    slack.revoked = False
    for archived in (True, False):
        slack.add_channel(MAIN, archived=archived)
        world.clock.advance(timedelta(minutes=11))
        world.queue.forget()
        world.office.sweep()
        world.drain()
    assert {line.state for line in world.lines(case.id).values()} == {"told"}
    assert [len(slack.messages(channel)) for channel in (MAIN, ELSE)] == [1, 1]
    assert len(world.mail.sent) == 1
