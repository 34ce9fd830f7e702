"""A person closes our ticket in Jira: on record, looked at, opened there again while it fails, closed here when it is repaired."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.adapters.tickets.jira import Jira
from chalicelib.adapters.web import Web
from chalicelib.catalog import load
from chalicelib.delivery.office import Office
from chalicelib.delivery.routes import destinations
from chalicelib.domain.contract import Mode, canonical
from chalicelib.domain.delivery import Delivery, TicketSystem
from chalicelib.domain.policy import Integration, Person, Policy, PolicySetting, Rule
from chalicelib.domain.ports import Notice
from chalicelib.domain.ticket import Ticket
from chalicelib.flow.errand import ERRAND, NOTICE, Heard
from local.fakes.tickets import CREDENTIALS, PROJECTS, FakeTickets
from tests.fakes.chat import FakeChat, FakeDesk, FakeMail, FakeTold
from tests.fakes.clock import START
from tests.fakes.house import ACCOUNT, House
from tests.flow.people import built, group
from tests.flow.test_pipeline import RDP, SSH, Group

__all__ = ["built", "group"]

SEVERITIES = {control.id: control.severity for control in load().controls}


@dataclass
class Round:
    """A house, its outbox's ways, and Jira. Whatever is on its way takes a second."""

    house: House
    jira: FakeTickets
    told: FakeTold = field(default_factory=FakeTold)
    desk: FakeDesk = field(default_factory=FakeDesk)
    seen: list[Notice] = field(default_factory=list)
    sent: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        ours = Integration(name="ops", system="jira", at=self.jira.at("jira"), project=PROJECTS["jira"])
        self.policy = Policy(
            people={"ann": Person(name="Ann", identities=(f"arn:aws:iam::{ACCOUNT}:user/ann",))},
            rules=(Rule(name="all", approvers=("ann",)),),
            integrations=(ours,),
        )
        self.desk.setting = PolicySetting(policy=self.policy, by="ann", at=START, reason="first")
        self.desk.stands = self.told.figures
        self.office = Office(
            told=self.told,
            desk=self.desk,
            books=self.desk,
            chat=FakeChat(self.house.clock, set()),
            mail=FakeMail(),
            system=self.system,
            send=self.sent.append,
            controls={},
            remediations={},
            home=ACCOUNT,
            tenant="test",
            clock=self.house.clock,
        )

    def system(self, integration: Integration) -> TicketSystem:
        return Jira(integration, CREDENTIALS["jira"], Web(allow_loopback=True))

    def runs(self) -> None:
        """What lies in the outbox goes where it belongs, and what that leads to, until nothing is left."""
        while (found := self._taken()) or self.sent:
            for notice in found:
                self.house.clock.advance(timedelta(seconds=1))
                if notice.kind == NOTICE:
                    self.house.carry_out(ERRAND.validate_json(canonical(notice.body)))
            while self.sent:
                self.office.deliver(self.sent.pop(0))

    def _taken(self) -> list[Notice]:
        found = [one for one in (*self.house.cases.notices, *self.told.errands) if one not in self.seen]
        self.seen += found
        self.desk.notices |= {one.id: one for one in found}
        self.sent += [
            Delivery(notice=one.id, kind=one.kind, case=one.case, at=one.at, destination=where)
            for one in found
            for where in destinations(one, self.policy, SEVERITIES)
            if where.kind == "ticket"
        ]
        return found

    def hook(self, request: str) -> None:
        """Jira says that something was done to our ticket; what its word is worth, the engine finds out."""
        ticket = self.ticket
        order = Heard(case=ticket.case, ticket=ticket.id, integration="ops", request_id=request)
        self.house.carry_out(order)

    @property
    def ticket(self) -> Ticket:
        (ticket,) = self.house.cases.tickets
        return ticket

    @property
    def key(self) -> str:
        """What Jira calls our ticket."""
        ref = self.told.reference(self.ticket.id, "ops")
        assert ref
        return ref.key


@pytest.fixture
def opened(built: House, group: Group) -> Iterator[tuple[Round, str]]:
    """Port 22 is open, and a ticket in Jira tells of it; with the rule's id."""
    with FakeTickets(now=lambda: built.clock.now().timestamp()) as jira:
        way = Round(built, jira)
        built.raise_to(Mode.TICKET, SSH)
        rule = group.open(22)
        built.walk(group.event((22, rule)))
        way.runs()
        assert not jira.closed("jira", way.key)
        yield way, rule


def polled(way: Round) -> None:
    way.desk.ours = [way.ticket]
    way.office.sweep()


def hooked(way: Round) -> None:
    way.hook("r-1")
    way.hook("r-2")


@pytest.mark.parametrize("heard", [polled, hooked])
def test_what_still_fails_is_on_record_and_open_there_again(opened: tuple[Round, str], heard: Any) -> None:
    way, _ = opened
    before = way.ticket
    way.jira.move("jira", way.key, closed=True)
    heard(way)
    way.runs()
    assert not way.jira.closed("jira", way.key)
    assert way.house.kinds().count("TICKET_CLOSED_EXTERNALLY") == 1
    assert way.house.record("TICKET_CLOSED_EXTERNALLY")["remote"] == way.key
    assert (way.ticket.is_open, way.ticket.id) == (True, before.id)
    assert way.house.aws.writes == []
    assert way.jira.refused == []
    again = way.house.kinds()
    way.hook("r-9")
    way.runs()
    assert way.house.kinds() == again, "it is open there, and that is no news"


@pytest.mark.parametrize("heard", [polled, hooked])
def test_what_was_repaired_is_closed_in_both_places(
    opened: tuple[Round, str], group: Group, heard: Any
) -> None:
    way, rule = opened
    key = way.key
    group.close(rule)
    way.jira.move("jira", key, closed=True)
    heard(way)
    way.runs()
    assert way.house.kinds().count("TICKET_CLOSED_EXTERNALLY") == 1
    assert way.house.kinds().count("TICKET_CLOSED") == 1
    assert not way.ticket.is_open
    assert way.jira.closed("jira", key)
    assert way.jira.refused == []
    assert way.house.only_case().state == "closed"


def test_closed_there_again_and_again_is_opened_again_each_time_it_fails(opened: tuple[Round, str]) -> None:
    way, _ = opened
    for number in (1, 2):
        way.jira.move("jira", way.key, closed=True)
        way.hook(f"r-{number}")
        way.runs()
        assert not way.jira.closed("jira", way.key)
        assert way.house.kinds().count("TICKET_CLOSED_EXTERNALLY") == number


def test_what_joins_the_ticket_is_a_comment_there(opened: tuple[Round, str], group: Group) -> None:
    way, _ = opened
    key = way.key
    way.house.raise_to(Mode.TICKET, RDP)
    way.house.clock.advance(timedelta(minutes=5))
    rule = group.open(3389)
    way.house.walk(group.event((3389, rule), event_id="event-2"))
    way.runs()
    assert (way.ticket.controls, way.key) == ((RDP, SSH), key)
    (comment,) = way.jira.ticket("jira", key).comments
    assert RDP in comment
    assert not way.jira.closed("jira", key)
    way.house.walk(group.event((3389, rule), event_id="event-3"))
    way.runs()
    assert len(way.jira.ticket("jira", key).comments) == 1, "nothing is new"


def test_a_word_that_is_not_true_changes_nothing(opened: tuple[Round, str]) -> None:
    way, _ = opened
    before = way.house.kinds()
    way.hook("r-1")
    way.runs()
    assert way.house.kinds() == before
    assert not way.jira.closed("jira", way.key)
    assert way.told.errands == []
