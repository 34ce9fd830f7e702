"""The daily digest: what happened in a day, what waits and for how long, what is frozen, which exemptions end soon.

It is told like everything else: an item remembers, for each day, whom it has reached. The item is made before anything is
sent, so that there is one digest a day, and what does not arrive is sent again.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Protocol, TypeVar

from chalicelib.delivery import routes
from chalicelib.delivery.card import Card, sheet
from chalicelib.delivery.escape import plain
from chalicelib.delivery.mails import LONGEST_LINE, Written, link, subject
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.delivery import Deliveries, Destination, Told
from chalicelib.domain.errors import UnreadableError
from chalicelib.domain.figures import Day, Figures, counted
from chalicelib.domain.plural import so_many
from chalicelib.domain.policy import DIGEST_HOUR, Policy
from chalicelib.domain.ports import Enrolment, Exemption, Freeze, accounts_of
from chalicelib.domain.record import RecordType
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow import breaker

T = TypeVar("T")

KIND = "digest"
PERIOD = timedelta(days=1)
ENDS_SOON = timedelta(days=7)
MOST = 5
"""How many of a kind are named; of the others it is told how many they are."""

MOST_WAITING = 500
"""How many waiting cases are looked at: those that moved least lately."""

MOST_UNTOLD = 10_000
"""Of how many cases it is counted what they have not told yet."""

COUNTS = ("asked", "approved", "denied", "expired", "fixed", "contained", "failed")


class Entry(Protocol):
    """A stored record, as far as it is counted."""

    @property
    def body(self) -> str:
        """Its stored body."""
        ...


class Books(Protocol):
    """What the digest reads of the tables; each call is bounded by a day, or by what people have set."""

    def records(self, account: str, since: datetime, until: datetime) -> Iterator[Entry]:
        """The account's records of that time."""
        ...

    def cases(self, state: CaseState, *, oldest_first: bool) -> Iterator[Case]:
        """The cases in that state in the order in which they moved; UnreadableError for those that cannot be read, when all the others have been handed out."""
        ...

    def freezes(self) -> Sequence[Freeze]:
        """Every kill switch, on or off."""
        ...

    def breakers(self) -> Sequence[Breaker]:
        """Every breaker, open or not."""
        ...

    def exemptions(self) -> Sequence[Exemption]:
        """Every exemption, expired ones too."""
        ...

    def enrolments(self) -> Sequence[Enrolment]:
        """The member accounts."""
        ...

    def tickets(self, state: TicketState) -> Iterator[Ticket]:
        """Our tickets in that state, likewise."""
        ...

    def figures(self) -> Figures | None:
        """The figures as last counted, or None before they ever were."""
        ...


@dataclass(frozen=True)
class Facts:
    """What the digest of a day says; `counts` are by field of `figures.Day`."""

    until: datetime
    counts: Mapping[str, int]
    opened: int
    closed: int
    waiting: tuple[Case, ...]
    frozen: tuple[Freeze, ...]
    tripped: tuple[Breaker, ...]
    ending: tuple[Exemption, ...]
    untold: tuple[Deliveries, ...]
    unread: tuple[str, ...] = ()
    """Why some of it cannot be read, and how many they are."""


def name_of(day: date) -> str:
    """Under which name what was told of that day's digest is remembered."""
    return f"{KIND}#{day.isoformat()}"


def is_due(policy: Policy | None, now: datetime) -> bool:
    """True from the digest's hour on."""
    return now.astimezone(UTC).hour >= (policy.digest_hour if policy else DIGEST_HOUR)


def destinations(policy: Policy | None) -> tuple[Destination, ...]:
    """Every route's channel, and people by mail."""
    channels = dict.fromkeys(route.channel for route in policy.routes) if policy else ()
    return (*(Destination(kind="slack", to=one) for one in channels), routes.PEOPLE)


def facts_of(books: Books, told: Told, home: str, until: datetime) -> Facts:
    """The facts of the day before `until`, of the home account and every member."""
    since = until - PERIOD
    accounts = accounts_of(home, books.enrolments())
    found = [json.loads(one.body) for account in accounts for one in books.records(account, since, until)]
    # The books begin with `since` itself, which belongs to the day before.
    bodies = [body for body in found if datetime.fromisoformat(body["recorded_at"]) > since]
    figures = counted(Figures(counted_from=since, counted_until=since), bodies, until, {})
    unread: list[UnreadableError] = []
    return Facts(
        until=until,
        counts={name: _sum(figures.days, name) for name in COUNTS},
        opened=_sum(figures.days, "tickets"),
        closed=sum(1 for body in bodies if body["type"] == RecordType.TICKET_CLOSED),
        waiting=tuple(
            sorted(
                islice(readable(books.cases(CaseState.WAITING, oldest_first=True), unread), MOST_WAITING),
                key=_since,
            )
        ),
        frozen=tuple(one for one in books.freezes() if one.frozen),
        tripped=tuple(one for one in books.breakers() if one.is_open),
        ending=tuple(
            sorted(
                (one for one in books.exemptions() if until < one.expires_at <= until + ENDS_SOON),
                key=lambda one: one.expires_at,
            )
        ),
        # What was tried in vain is due again after the day.
        untold=tuple(readable(told.waiting(until + PERIOD, MOST_UNTOLD), unread)),
        unread=tuple(map(str, unread)),
    )


def readable(found: Iterable[T], unread: list[UnreadableError]) -> Iterator[T]:
    """What was found, as far as it can be read. The error that comes when all of it has been handed out is kept in `unread`."""
    try:
        yield from found
    except UnreadableError as error:
        unread.append(error)


def lines(facts: Facts) -> Iterator[str]:
    """The digest, line by line; what others chose is not yet made harmless."""
    said = ", ".join(f"{facts.counts[name]} {name}" for name in COUNTS)
    yield f"Last 24 hours: {said}"
    yield f"Tickets: {facts.opened} opened, {facts.closed} closed"
    yield from _some(
        "Waits for an answer",
        [
            f"{case.target.resource} ({case.target.account}), for {_long(facts.until - _since(case))}"
            for case in facts.waiting
        ],
        cut=_cut(facts),
    )
    yield from _some("Frozen", [f"{one.scope}, by {one.by}: {one.reason}" for one in facts.frozen])
    yield from _some("Asks instead of acting", [breaker.said(one) for one in facts.tripped])
    yield from _some(
        "Exemption ends within a week",
        [f"{one.resource} ({one.control}), {one.expires_at:%Y-%m-%d}, {one.owner}" for one in facts.ending],
    )
    yield from _some(
        "Not told yet",
        [
            f"{line.destination.key} of {one.case}, for {_long(facts.until - line.at)}: {line.said}"
            for one in facts.untold
            for line in one.lines
            if line.state == "waiting" and line.at < facts.until
        ],
    )
    yield from (f"Left out: {one}" for one in facts.unread)


def card_of(facts: Facts, policy: Policy | None) -> Card:
    """The digest as a channel gets it."""
    return sheet(_heading(facts), lines(facts), link(policy, "/"))


def mail_of(facts: Facts, policy: Policy | None) -> Written:
    """The digest as people get it by mail."""
    page = link(policy, "/")
    text = [plain(line, LONGEST_LINE) for line in lines(facts)]
    return Written(subject(_heading(facts), ""), "\n".join([*text, *(["", f"Look: {page}"] if page else [])]))


def _heading(facts: Facts) -> str:
    waits = so_many(len(facts.waiting), "waits", "or more wait" if _cut(facts) else "wait")
    return f"Daily digest of {facts.until:%Y-%m-%d}: {waits} for an answer"


def _cut(facts: Facts) -> bool:
    """True when more may wait than were looked at."""
    return len(facts.waiting) == MOST_WAITING


def _since(case: Case) -> datetime:
    """Since when it waits: reminders and comments move a case, and not this."""
    return case.ask.asked_at if case.ask else case.updated_at


def _some(label: str, found: Sequence[str], *, cut: bool = False) -> Iterator[str]:
    """The first few, each under the label, and how many more there are, or at least; one line where there are none."""
    if not found:
        yield f"{label}: none"
    yield from (f"{label}: {one}" for one in found[:MOST])
    if len(found) > MOST:
        yield f"{label}: and {'at least ' if cut else ''}{len(found) - MOST} more"


def _sum(days: Iterable[Day], name: str) -> int:
    return sum(int(getattr(day, name)) for day in days)


def _long(time: timedelta) -> str:
    """A duration as people say it: in minutes, hours or days."""
    minutes = int(time.total_seconds()) // 60
    if minutes < 60:  # noqa: PLR2004 -- an hour has them
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"  # noqa: PLR2004 -- two days
