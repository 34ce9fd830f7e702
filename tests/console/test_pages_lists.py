"""The lists: the log and its filters, what is set, the overview; each reads a page and no more."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest

from chalicelib.adapters.dynamodb import QUIET_DAYS, READ_AT_ONCE, Page, Sought
from chalicelib.adapters.tables import account_spent, actor_spent
from chalicelib.console import render
from chalicelib.console.pages import sentences
from chalicelib.domain.breaker import Breaker, Miss, Missed
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.figures import Day, Figures, Taken
from chalicelib.domain.finding import Actor, Severity
from chalicelib.domain.limits import Reservation, Spent
from chalicelib.domain.ports import Change, Enrolment, Freeze, ModeSetting, SweepChange
from chalicelib.domain.record import Draft, RecordType, seal
from chalicelib.domain.sweep import Part, Sweep
from tests.adapters.samples import exemption
from tests.console.world import (
    ANNA,
    AUDIT,
    BUCKET,
    MALLORY,
    MEMBER,
    OLGA,
    SSH,
    VERA,
    World,
    bucket,
    group,
    invited,
    text_of,
    world,
)
from tests.fakes.cases import HOME


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


def event(
    console: World,
    number: int,
    *,
    account: str = HOME,
    kind: RecordType = RecordType.NOT_OURS,
    actor: Actor | None = None,
    control: str = SSH,
) -> None:
    """A chain of one record, written now."""
    draft = Draft(
        type=kind,
        source_id=f"event-{number}",
        step="x",
        occurred_at=console.clock.now(),
        account=account,
        region="eu-west-1",
        resource=group(number).resource,
        controls=(control,),
        actor=actor,
        data={"event": f"Event{number}", "reason": "x"},
    )
    (one,) = seal(
        f"EVENT#{account}#{number}", console.settings.head("none"), (draft,), console.clock.now(), "0.1.0"
    )
    console.note(one)


def events(reply_body: str) -> list[int]:
    """The numbers of the events that a page of the log tells of, in order."""
    parts = reply_body.split("<p>Event")[1:]
    return [int(part.split(" ")[0]) for part in parts]


def following(body: str) -> str:
    return (
        body.partition('rel="next"')[0]
        .rpartition('href="')[2]
        .partition('"')[0]
        .removeprefix("/api")
        .replace("&amp;", "&")
    )


# -- the log -----------------------------------------------------------------------------------------------------------


def test_the_log_is_read_page_by_page_to_its_end_without_a_gap_or_a_repetition(console: World) -> None:
    for number in range(95):
        event(console, number)
        console.clock.advance(timedelta(hours=1))
    path, seen = f"/log?type=NOT_OURS&account={HOME}", list[int]()
    for _ in range(12):
        page = console.get(path).body
        seen += events(page)
        if 'rel="next"' not in page:
            break
        path = following(page)
    assert seen == [*range(94, -1, -1)]


def test_quiet_days_are_passed_over_a_few_at_a_time(console: World) -> None:
    event(console, 1)
    console.clock.advance(timedelta(days=QUIET_DAYS + 1))
    page = console.get("/log?type=NOT_OURS").body
    assert events(page) == []
    assert "may be more further back" in page
    assert events(console.get(following(page)).body) == [1]


@pytest.mark.parametrize(
    "query, seen",
    [
        (f"account={HOME}", [4, 3, 1]),
        (f"account={MEMBER}", [2]),
        ("type=HEARTBEAT", []),
        (f"control={BUCKET}", [3]),
        (f"resource={group(1).resource}", [1]),
        (f"resource={group(2).resource}", [2]),
        ("since=2026-08-04", []),
        ("until=2026-08-02", []),
        ("since=2026-08-03&until=2026-08-03", [4, 3, 1]),
        ("since=2026-08-05&until=2026-08-01", []),
        ("since=nonsense", [4, 3, 1]),
        ("account=nonsense", []),
    ],
)
def test_the_filters_of_the_log_are_its_address(console: World, query: str, seen: list[int]) -> None:
    event(console, 1)
    event(console, 2, account=MEMBER)
    console.clock.advance(seconds=1)
    event(console, 3, control=BUCKET)
    console.clock.advance(seconds=1)
    event(console, 4)
    assert events(console.get(f"/log?{query}").body) == seen


@pytest.mark.parametrize(
    "query, said",
    [
        ("since=2026-13-45", "since “2026-13-45”"),
        ("since=2026-08-01&until=soon", "until “soon”"),
        ("from=2026-08-01", "from “2026-08-01”"),
        ("since=2026-08-01&until=2026-08-03&type=ASKED&since=", ""),
        ("", ""),
    ],
)
def test_what_of_the_address_the_log_does_not_understand_is_said(
    console: World, query: str, said: str
) -> None:
    page = text_of(console.get(f"/log?{query}"))
    assert ("Not understood, and not used:" in page) is bool(said)
    assert said in page


def test_the_log_names_the_account_that_it_shows_when_none_is_chosen(console: World) -> None:
    assert f"{HOME} (the first)" in text_of(console.get("/log"))
    assert "(the first)" not in text_of(console.get(f"/log?resource={group(1).resource}"))


def test_what_a_person_did_is_found_by_the_person_over_months(console: World) -> None:
    ann = Actor(type="Person", arn="oidc:https://idp.example#ann")
    for number, actor in ((1, ann), (2, MALLORY), (3, ann)):
        event(console, number, kind=RecordType.REQUESTED, actor=actor)
        console.clock.advance(timedelta(days=14))
    said = text_of(console.get("/log?actor=oidc:https://idp.example#ann&since=2026-07-01"))
    assert said.count("asked for it: x") == 2


def test_a_record_that_was_changed_is_called_so(console: World) -> None:
    event(console, 1)
    table = "redress-test-audit"
    (item,) = (
        one for one in console.client.scan(TableName=table)["Items"] if one["pk"]["S"].startswith("EVENT#")
    )
    changed = item["body"]["S"].replace("Event1", "Event9")
    console.client.put_item(TableName=table, Item={**item, "body": {"S": changed}})
    assert "somebody changed this record" in console.get("/log?type=NOT_OURS").body


def test_every_type_of_record_is_told_in_a_sentence(console: World) -> None:
    policy = console.set_policy()
    body: dict[str, Any] = {
        "recorded_at": "2026-08-03T12:00:00.000Z",
        "chain": "x",
        "seq": 1,
        "actor": None,
        "data": {"by": {"arn": OLGA}, "reason": "why", "outcome": "failed", "approve": False},
    }
    for kind in RecordType:
        entry = sentences.entry({**body, "type": kind.value}, policy)
        assert len(entry.says.split()) > 1, kind
    assert sentences.entry({**body, "type": "FROM_THE_FUTURE"}, policy).says == "From the future"


@pytest.mark.thorough
def test_a_page_of_the_ledger_looks_at_no_more_than_it_may(console: World) -> None:
    for number in range(READ_AT_ONCE + 5):
        event(console, number)
    sought = Sought(HOME, console.clock.now() - timedelta(days=1), console.clock.now(), fits=lambda _: False)
    page = console.ledger.records_page(sought, 40)
    assert page.items == ()
    assert page.more
    assert console.ledger.records_page(sought, 40, page.more).more == ""


# -- what is set -------------------------------------------------------------------------------------------------------


def test_a_control_shows_its_mode_in_each_account_capped_by_its_ceiling(console: World) -> None:
    now = console.clock.now()
    console.set(enrolment=Enrolment(account=MEMBER, by="olga", at=now))
    console.set(mode=ModeSetting(account=HOME, control=SSH, mode=Mode.ASK, by=OLGA, at=now, reason="tried"))
    lowered = ModeSetting(
        account=HOME, control="iam-root-access-key", mode=Mode.ACT, by=OLGA, at=now, reason="x"
    )
    console.set(mode=lowered)
    page = text_of(console.get("/controls"))
    assert "Ask × 1 Observe × 1" in page
    assert "Ticket × 1 Observe × 1 ticket" in page
    assert "No actions have been counted yet" in page
    one = text_of(console.get(f"/controls/{SSH}"))
    assert "Olga Lind" in one
    assert "as a fresh deployment has it" in one
    assert "ec2.amazonaws.com" in one
    assert "SOC 2 CC6.1" in one
    assert "one leaked key or one unpatched server" in one


def test_exemptions_show_who_answers_for_them_and_whether_they_are_over(console: World) -> None:
    now = console.clock.now()
    over, soon = now - timedelta(days=1), now + timedelta(days=2)
    console.set(
        exemptions=(exemption(control=SSH, expires_at=soon), exemption(control=BUCKET, expires_at=over))
    )
    console.set(exemptions=(exemption(account=MEMBER, control=SSH, expires_at=now + timedelta(days=60)),))
    page = console.get("/exemptions").body
    assert page.index(SSH) < page.index(BUCKET)
    assert "team-a" in page
    assert ">Over<" in page
    assert ">Soon<" in page
    assert HOME not in console.get("/exemptions", VERA).body


def test_exemptions_are_read_page_by_page(console: World) -> None:
    for number in range(30):
        console.set(exemptions=(exemption(resource=f"arn:aws:s3:::b{number}"),))
    first = console.get("/exemptions").body
    second = console.get(following(first)).body
    assert (first.count("arn:aws:s3:::b"), second.count("arn:aws:s3:::b")) == (25, 5)


def test_switches_and_limits_tell_what_may_stop_us(console: World) -> None:
    now = console.clock.now()
    scopes = ("ALL", f"ACCOUNT#{HOME}", f"CONTROL#{HOME}#{SSH}")
    console.set(freezes=tuple(Freeze(scope=one, frozen=True, by=OLGA, at=now, reason="x") for one in scopes))
    said = text_of(console.get("/switches"))
    assert "everything Stopped Olga Lind" in said
    assert f"{SSH} in account {HOME} Stopped" in said
    assert f"account {HOME} 0 20 Within" in said
    theirs = text_of(console.get("/switches", VERA))
    assert "everything Stopped" in theirs
    assert HOME not in theirs
    assert "Changes are stopped" in console.get("/", VERA).body


def test_a_control_or_an_actor_at_its_limit_is_told_though_the_account_is_within(console: World) -> None:
    case, now = console.asked(), console.clock.now()
    mine = Reservation(at=now, case=case.id, run=1, controls=(SSH,), writes=5)
    much = Reservation(at=now, case=case.id, run=2, controls=(), writes=20)
    over = Reservation(at=now - timedelta(hours=1), case=case.id, run=3, controls=(BUCKET,), writes=5)
    spent = (
        Spent(key=account_spent(HOME), version=1, reservations=(over, mine)),
        Spent(key=actor_spent("mallory"), version=1, reservations=(much,)),
        Spent(key=actor_spent("ann"), version=1, reservations=(over,)),
    )
    moved = case.model_copy(update={"version": case.version + 1})
    console.cases.commit(Change(case=moved, spent=spent))
    page = console.get("/switches")
    said = text_of(page)
    assert f"account {HOME} 5 20 Within {SSH} in account {HOME} 5 5 At the limit" in said
    assert "one actor (a person, a role or a service), seen last in this case 20 20 At the limit" in said
    assert said.count("one actor (") == 1
    assert BUCKET not in said
    assert f'href="/api/cases/{case.id}"' in page.body
    theirs = text_of(console.get("/switches", VERA))
    assert "one actor (" not in theirs
    assert "What actors spent is of all accounts" in theirs


def test_breakers_tell_what_went_wrong_and_the_overview_of_those_that_are_open(console: World) -> None:
    now = console.clock.now()
    closed, opened = Breaker(account=HOME, control=BUCKET), Breaker(account=HOME, control=SSH)
    closed = closed.missed(Miss(at=now, case="b" * 20 + "-1", run=4, what=Missed.UNDONE))
    assert "Nothing is held against any control" in console.get("/switches").body
    console.set(breaker=closed)
    for run in (1, 2, 3):
        opened = opened.missed(Miss(at=now, case="a" * 20 + "-1", run=run, what=Missed.NOT_VERIFIED))
        console.set(breaker=opened)
    said = text_of(console.get("/switches"))
    assert f"{SSH} in account {HOME} Open: asks since" in said
    assert f"{BUCKET} in account {HOME} Closed Undone: run 4" in said
    assert said.count("Not verified: run") == 3
    assert f"/cases/{'a' * 20}-1" in console.get("/switches").body
    assert f"of {SSH} in account {HOME} is open since" in text_of(console.get("/"))
    assert f"of {BUCKET}" not in text_of(console.get("/"))
    assert HOME not in console.get("/switches", VERA).body
    assert "Asks again" not in console.get("/", VERA).body


def test_tickets_are_listed_by_state(console: World) -> None:
    console.ticketed()
    assert "a person has to look" in console.get("/tickets").body
    assert "No ticket is closed" in console.get("/tickets?state=closed").body
    assert "a person has to look" not in console.get("/tickets", VERA).body


def test_people_shows_who_decides_what_and_who_has_no_way_in(console: World) -> None:
    now = console.clock.now()
    people = {**console.set_policy().model_dump(mode="json")["people"]}
    people["anna"]["identities"] = [f"arn:aws:iam::{HOME}:user/anna"]
    console.set_policy({"people": people})
    console.set(kept=invited(now + timedelta(days=1), now, HOME))
    said = text_of(console.get("/people", OLGA))
    assert "2 of Anna Berg (no way in) , Ben Okoro , Olga Lind" in said
    assert "signed in within 5 minutes" in said
    assert "Nadia of Example Audit" in said
    assert AUDIT in said
    assert console.get("/people", ANNA).status == 403


# -- the overview ------------------------------------------------------------------------------------------------------


class Counted:
    """The ledger, with figures that a tick would have counted."""

    def __init__(self, console: World, figures: Figures) -> None:
        self._ledger = console.ledger
        self._figures = figures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def figures(self) -> Figures:
        return self._figures


def test_the_overview_tells_outcomes_repair_times_and_what_waits(console: World) -> None:
    now = console.clock.now()
    case = console.asked()
    day = Day(
        date=date(2026, 8, 3),
        fixed=6,
        tickets=2,
        asked=9,
        seconds_to_fix={
            Severity.HIGH: Taken(count=2, seconds=600),
            Severity.LOW: Taken(count=1, seconds=7200),
        },
    )
    figures = Figures(days=(day,), counted_from=now - timedelta(days=3), counted_until=now)
    object.__setattr__(console.desk, "books", Counted(console, figures))
    page = console.get("/")
    said = text_of(page)
    assert case.id in page.body
    assert "High 2 5 min Low 1 2 h" in said
    assert page.body.count("<rect") == 2
    assert "Fixed 6" in said
    assert "2026-08-03 6 0 0 0 0 2 9 0" in said
    assert "The figures are of all accounts" in text_of(console.get("/", VERA))


def test_what_was_not_counted_yet_is_not_said_to_be_nothing(console: World) -> None:
    now = console.clock.now()
    object.__setattr__(console.desk, "books", Counted(console, Figures(counted_from=now, counted_until=now)))
    said = text_of(console.get("/"))
    assert (
        "No repair is among the records up to 3 Aug 2026, 12:00 UTC ; later ones are not counted yet." in said
    )


def test_the_overview_of_a_fresh_deployment_says_that_there_is_nothing_yet(console: World) -> None:
    said = text_of(console.get("/"))
    assert "Nobody is asked for anything." in said
    assert "Nothing has been counted yet: figures are counted every five minutes." in said
    assert f"{HOME} Never" in said


@pytest.mark.parametrize(
    "change, said",
    [
        ({"completed_at": timedelta(hours=-2)}, "2 h ago 1 of 2 parts, 1 could not be read"),
        ({}, "under way since 3 Aug 2026, 12:00 UTC 1 of 2 parts"),
        ({"started_at": timedelta(hours=-7)}, "Abandoned begun 3 Aug 2026, 05:00 UTC"),
    ],
)
def test_the_last_sweep_of_each_account_is_told(console: World, change: dict[str, Any], said: str) -> None:
    now = console.clock.now()
    facts = {"started_at": now} | {name: now + by for name, by in change.items()}
    part = Part(name="a", remediation="x", region="eu-west-1", unread="no right")
    sweep = Sweep(id="s", account=HOME, by="x", expected=("a", "b"), done=(part,), version=1, **facts)
    console.cases.keep(SweepChange(sweep=sweep))
    assert said in text_of(console.get("/"))


# -- pages of the ledger -----------------------------------------------------------------------------------------------


def test_a_case_that_cannot_be_read_stands_in_nobodys_way_and_is_counted(console: World) -> None:
    good, bad = (
        console.keep(console.new(bucket(number), BUCKET, "s3_block_public_access")) for number in (1, 2)
    )
    table = "redress-test-cases"
    item = console.client.get_item(TableName=table, Key={"pk": {"S": f"CASE#{bad.digest}"}})["Item"]
    console.client.put_item(TableName=table, Item={**item, "body": {"S": "{}"}})
    page = console.get("/cases").body
    assert good.id in page
    assert "1 here cannot be read and is left out" in page


def test_what_moved_on_since_the_index_was_read_is_left_out(console: World) -> None:
    case = console.keep(console.new(bucket(1), BUCKET, "s3_block_public_access"))
    table = "redress-test-cases"
    item = console.client.get_item(TableName=table, Key={"pk": {"S": f"CASE#{case.digest}"}})["Item"]
    moved = case.model_copy(update={"state": CaseState.CLOSED}).model_dump_json()
    console.client.put_item(TableName=table, Item={**item, "body": {"S": moved}})
    assert console.ledger.cases_page(CaseState.OPEN, 10) == Page(())


def test_a_tail_is_the_end_of_a_chain_in_order(console: World) -> None:
    case = console.fixed()
    assert [one.seq for one in console.ledger.tail(case.id, 2)] == [4, 5]
    assert [one.seq for one in console.ledger.tail(case.id, 99)] == [1, 2, 3, 4, 5]


def test_nobody_asked_is_nothing_read(console: World) -> None:
    assert console.ledger.answers_to([]) == {}


# -- words and numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length, said",
    [
        (timedelta(seconds=59), "less than a minute"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(days=2, minutes=5), "2 d 5 min"),
        (timedelta(days=1, hours=2, minutes=3), "1 d 2 h"),
    ],
)
def test_a_length_of_time_is_told_in_the_units_that_matter(length: timedelta, said: str) -> None:
    assert render.span(length) == said
