"""The daily digest: what it counts, of which day, what it names, and how it looks."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.delivery import daily
from chalicelib.delivery.daily import (
    MOST,
    Facts,
    card_of,
    destinations,
    facts_of,
    is_due,
    lines,
    mail_of,
    name_of,
)
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case
from chalicelib.domain.delivery import Deliveries, Destination, Line
from chalicelib.domain.policy import Person, Policy, Route, Rule
from chalicelib.domain.record import RecordType
from tests.adapters import samples
from tests.adapters.samples import MEMBER
from tests.fakes.cases import HOME
from tests.fakes.chat import FakeDesk, FakeTold
from tests.fakes.clock import START

UNTIL = START + timedelta(days=1)
POLICY = Policy(
    people={"ann": Person(name="Ann", identities=("arn:aws:iam::123456789012:user/ann",))},
    console_url="https://console.example.org/api",
    rules=(Rule(name="all", approvers=("ann",)),),
    routes=(
        Route(name="a", channel="C0000001"),
        Route(name="b", channel="C0000002"),
        Route(name="c", channel="C0000001"),
    ),
    digest_hour=6,
)
EMPTY = Facts(
    until=UNTIL,
    counts=dict.fromkeys(("asked", "approved", "denied", "expired", "fixed", "contained", "failed"), 0),
    opened=0,
    closed=0,
    waiting=(),
    frozen=(),
    tripped=(),
    ending=(),
    untold=(),
)


def recorded(desk: FakeDesk, kind: RecordType, minutes: float, account: str = HOME, **data: Any) -> None:
    """A record of that time, as the only one of its case's chain."""
    chain = f"{'a' * 20}-{len(desk.chains) + 1}"
    draft = samples.draft("x", type=kind, account=account).model_copy(update={"data": data})
    desk.chains[chain] = [*samples.records(chain, draft, at=START + timedelta(minutes=minutes))]


def waiting(since: datetime, number: int = 0) -> Case:
    """A case about which people were asked then."""
    asked = samples.ask().model_copy(update={"asked_at": since})
    return samples.waiting(asked=asked, of=samples.target(f"sg-{number:017x}"), at=since)


def facts(desk: FakeDesk, told: FakeTold | None = None) -> Facts:
    return facts_of(desk, told or FakeTold(), HOME, UNTIL)


def test_a_days_records_are_counted_in_every_account_each_once() -> None:
    desk = FakeDesk(members=[samples.enrolment(), samples.enrolment(HOME)])
    recorded(desk, RecordType.ASKED, 1)
    recorded(desk, RecordType.ASKED, 1, MEMBER)
    recorded(desk, RecordType.ANSWERED, 2, approve=True)
    recorded(desk, RecordType.ANSWERED, 2, approve=False)
    recorded(desk, RecordType.EXPIRED, 3)
    recorded(desk, RecordType.RESULT, 4, outcome="fixed")
    recorded(desk, RecordType.RESULT, 24 * 60, outcome="contained")
    recorded(desk, RecordType.RESULT, 5, outcome="failed")
    recorded(desk, RecordType.TICKET_OPENED, 6)
    recorded(desk, RecordType.TICKET_CLOSED, 7)
    recorded(desk, RecordType.TICKET_CLOSED, 8, "999999999999")
    found = facts(desk)
    assert dict(found.counts) == {
        "asked": 2,
        "approved": 1,
        "denied": 1,
        "expired": 1,
        "fixed": 1,
        "contained": 1,
        "failed": 1,
    }
    assert (found.opened, found.closed) == (1, 1)


def test_no_moment_belongs_to_two_days() -> None:
    desk = FakeDesk()
    for minutes in (0, 24 * 60, 24 * 60 + 1):
        recorded(desk, RecordType.ASKED, minutes)
        recorded(desk, RecordType.TICKET_CLOSED, minutes)
    found = facts(desk)
    assert (found.counts["asked"], found.closed) == (1, 1)


def test_what_waits_is_frozen_ends_or_was_not_told_is_named() -> None:
    desk, told = FakeDesk(), FakeTold()
    for number, minutes in enumerate((90, 10, 60 * 24)):
        case = waiting(UNTIL - timedelta(minutes=minutes), number)
        desk.known[case.id] = case
    desk.known["other"] = samples.case()
    opened = Breaker(account=HOME, control="c", version=3, opened_at=START)
    desk.tripped = [opened, opened.reset()]
    desk.frozen = [samples.freeze(frozen=True), samples.freeze("ACCOUNT#1")]
    ends = {"soon": timedelta(days=7), "now": timedelta(), "later": timedelta(days=7, seconds=1)}
    desk.exempt = [
        samples.exemption().model_copy(update={"owner": owner, "expires_at": UNTIL + left})
        for owner, left in ends.items()
    ]
    waits = Line(
        destination=Destination(kind="slack", to="C0000001"),
        notice="n",
        kind="ask",
        at=UNTIL - timedelta(days=3),
        state="waiting",
        said="is_archived",
    )
    told.keep(
        Deliveries(
            case="c-1", lines=(waits, waits.model_copy(update={"state": "told", "said": "no"})), version=1
        )
    )
    found = facts(desk, told)
    said = [*lines(found)]
    named = [line for line in said if line.startswith("Waits")]
    assert [line.rpartition(", for ")[2] for line in named] == ["24 h", "1 h", "10 min"]
    assert [one.owner for one in found.ending] == ["soon"]
    assert len([line for line in said if line.startswith("Frozen: ALL")]) == 1
    assert "Not told yet: slack:C0000001 of c-1, for 3 days: is_archived" in said


def test_whoever_waits_has_waited_since_people_were_asked_whatever_was_said_since() -> None:
    desk = FakeDesk()
    case = waiting(UNTIL - timedelta(hours=7))
    desk.known[case.id] = case.model_copy(update={"updated_at": UNTIL - timedelta(minutes=1)})
    assert [line for line in lines(facts(desk)) if line.endswith(", for 7 h")]


def test_a_case_whose_ask_is_gone_waits_since_it_moved_last() -> None:
    case = samples.waiting(at=UNTIL - timedelta(hours=7)).model_copy(update={"ask": None})
    assert [
        line for line in lines(Facts(**{**vars(EMPTY), "waiting": (case,)})) if line.endswith(", for 7 h")
    ]


def test_of_more_than_are_looked_at_the_longest_waiting_are_named_and_the_count_is_no_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(daily, "MOST_WAITING", 7)
    desk = FakeDesk()
    for number in range(9):
        case = waiting(UNTIL - timedelta(hours=number), number)
        desk.known[case.id] = case
    found = facts(desk)
    named = [line for line in lines(found) if line.startswith("Waits")]
    assert [line.rpartition(", for ")[2] for line in named[:MOST]] == ["8 h", "7 h", "6 h", "5 h", "4 h"]
    assert named[MOST:] == ["Waits for an answer: and at least 2 more"]
    assert (
        mail_of(found, None).subject == "[Redress] Daily digest of 2026-08-04: 7 or more wait for an answer"
    )


def test_all_that_was_not_told_is_counted_also_what_was_tried_in_vain_since() -> None:
    told, at = FakeTold(), UNTIL - timedelta(hours=9)
    line = Line(
        destination=Destination(kind="mail", to="people"), notice="n", kind="ask", at=at, state="waiting"
    )
    young = line.model_copy(update={"at": UNTIL})
    for number in range(150):
        due = UNTIL + timedelta(minutes=number) if number % 2 else None
        tried = line.model_copy(update={"due_at": due})
        told.keep(Deliveries(case=f"c-{number}", lines=(tried, young), version=1))
    said = [one for one in lines(facts(FakeDesk(), told)) if one.startswith("Not told yet")]
    assert said[-1] == "Not told yet: and 145 more"


def test_a_quiet_day_says_so() -> None:
    said = [*lines(EMPTY)]
    assert said[2:] == [
        "Waits for an answer: none",
        "Frozen: none",
        "Asks instead of acting: none",
        "Exemption ends within a week: none",
        "Not told yet: none",
    ]


def test_of_many_only_the_first_are_named() -> None:
    many = tuple(samples.waiting(of=samples.target(f"sg-{number:017x}")) for number in range(MOST + 4))
    found = Facts(**{**vars(EMPTY), "waiting": many})
    named = [line for line in lines(found) if line.startswith("Waits")]
    assert len(named) == MOST + 1
    assert named[-1] == "Waits for an answer: and 4 more"


@pytest.mark.parametrize(
    "policy, hour, due", [(None, 7, False), (None, 8, True), (POLICY, 5, False), (POLICY, 6, True)]
)
def test_it_is_due_from_its_hour_on(policy: Policy | None, hour: int, due: bool) -> None:
    assert is_due(policy, START.replace(hour=hour, minute=0)) is due


def test_every_channel_of_a_route_gets_it_once_and_people_by_mail() -> None:
    assert [one.key for one in destinations(POLICY)] == ["slack:C0000001", "slack:C0000002", "mail:people"]
    assert [one.key for one in destinations(None)] == ["mail:people"]
    assert name_of(START.date()) == "digest#2026-08-03"


def test_card_and_mail_say_the_same_and_nothing_that_others_wrote_into_them() -> None:
    frozen = samples.freeze(frozen=True).model_copy(update={"reason": "x\r\nBcc: eve\u202e <!channel>"})
    found = Facts(**{**vars(EMPTY), "frozen": (frozen,)})
    card, mail = card_of(found, POLICY), mail_of(found, POLICY)
    assert "https://console.example.org/api/" in str(card.blocks)
    assert mail.text.endswith("Look: https://console.example.org/api/")
    assert mail.subject == "[Redress] Daily digest of 2026-08-04: 0 wait for an answer"
    assert len(mail.text.splitlines()) == len([*lines(EMPTY)]) + 2
    assert "\u202e" not in str(card.blocks)
    assert "Look" not in mail_of(found, None).text
