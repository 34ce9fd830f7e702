"""The office: brings what there is to tell of a case to one destination, as the case stands when it is told.

Level-triggered. A delivery says only where to look; what is shown is made from the tables, and compared with what was shown
last. One that comes twice, late, out of order or after a crash therefore ends in the same messages. The exceptions are a crash
between a message and the note that it was sent, and an answer that is lost: then it comes again, which decides nothing.

What cannot be told is noted at the case, with what it waits for, and sent again by the sweep. Nothing here decides anything.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice
from typing import Protocol

from pydantic import ValidationError

from chalicelib.delivery import daily, mails, routes, storms, tickets
from chalicelib.delivery.card import Card, CardView, card, digest_card, reply, sheet, view_of
from chalicelib.delivery.escape import plain
from chalicelib.domain.approval import Answers
from chalicelib.domain.case import Case, parts_of
from chalicelib.domain.contract import AnyRemediation, canonical
from chalicelib.domain.control import Control
from chalicelib.domain.delivery import (
    LONGEST_SAID,
    Chat,
    Deliveries,
    Delivery,
    Destination,
    Line,
    Mail,
    Post,
    State,
    Storm,
    TicketRef,
    TicketSystem,
    Told,
)
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import (
    AmbiguousError,
    ConflictError,
    DeliveryError,
    LaterError,
    MessageGoneError,
    OversizeError,
    RejectedError,
    StoreError,
    UnreachableError,
    UnreadableError,
)
from chalicelib.domain.figures import SETTLES, Figures, counted
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Integration, Policy, PolicySetting, policy_in
from chalicelib.domain.ports import Clock, Notice, accounts_of
from chalicelib.domain.record import stamp
from chalicelib.domain.shape import mapping
from chalicelib.domain.ticket import PAGE, Ticket, TicketState
from chalicelib.flow import errand, notify

PACE = 1.0
"""Seconds between two messages in one channel (https://docs.slack.dev/apis/web-api/rate-limits). Nobody else posts there
meanwhile: the queue hands out one message of a channel at a time."""

ATTEMPTS = 5
"""How often it is noted that something was told, while others note what they told. A message is not told twice for it."""

RESENT_AFTER = timedelta(minutes=10)
"""For so long a message of the queue is left to itself. Then the sweep sends another."""

MOST_RESENT = 500
"""Of how many cases a sweep sends again what waits: those whose turn is over longest, so that everybody's comes."""

PATIENCE = timedelta(hours=1)
PATIENT = 3
"""For so long, and so often, a busy destination is waited for at the head of its group. Then what is behind has its turn,
it is told elsewhere, and the sweep goes on."""

MOST_LOST = 3
"""So many messages may stand there because the answers to them were lost. Then it is told elsewhere, and no more there."""

GIVE_UP_AFTER = timedelta(days=3)
"""For so long it is tried to reach a destination, and as long as an ask of the case, or the ticket that is brought, is open."""

CLOSING_GIVEN_UP_AFTER = timedelta(days=30)
"""For so long it is tried to close a ticket in somebody's system."""

LONGEST_PAUSE = timedelta(hours=23)
"""A ticket's system is tried again after as long as it has been tried already, and once a day at least."""

MOST_REPLIES, MOST_POSTS, MOST_WAITING = 100, 30, 10
"""What is remembered of a case, the newest of it: replies to a message, messages, and what waits of one kind for one
destination. All of it stays below what an item may hold, whoever comments how often."""

POLLED = "poll"
"""Under this name and the day it is remembered that the systems were asked about our open tickets."""

MOST_POLLED = 1000
"""How many open tickets a sweep asks about. The next one goes on behind them, until all have been asked about that day."""

SETTLED, WAITS = "settled", "waits"
"""What is shown of a case that stands behind a digest."""


class Desk(Protocol):
    """What the office reads, all of it consistently."""

    def notice(self, name: str) -> Notice | None:
        """The notice of that id as it stands now."""
        ...

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name, whether it is current or archived."""
        ...

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask of that case."""
        ...

    def policy(self) -> PolicySetting | None:
        """The policy that stands; None while nobody ever set one."""
        ...

    def dossier(self, case: str) -> Dossier | None:
        """What people said of the case beside its decisions."""
        ...

    def bodies(self, chain: str) -> Iterable[str]:
        """The stored bodies of a chain, in order."""
        ...


class _EarlyError(Exception):
    """It is told when people are asked: its card would ask them before."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"people are asked in business hours, from {stamp(until)} on: it is told after that")
        self.until = until


class _Page:
    """What has been told of one case, as it grows while one delivery is made."""

    def __init__(self, told: Told, name: str) -> None:
        self._told = told
        self.now = told.deliveries(name) or Deliveries(case=name)

    def keep(self, *others: Storm | Notice, lines: Iterable[Line] = (), post: Post | None = None) -> None:
        """Note these lines and this post, and store all with the `others`.

        A destination has the line of what it was told last, and one for each notice that is still on its way there. Where
        somebody else told another destination meanwhile, both is noted; ConflictError only when that goes on and on, or
        when there are `others`, about which somebody may have decided otherwise.
        """
        for _ in range(ATTEMPTS):
            kept, posts = self.now.lines, self.now.posts
            for line in lines:
                kept = (*(one for one in kept if _stays(one, line)), line)
            if post:
                posts = (*(one for one in posts if (one.channel, one.ask) != (post.channel, post.ask)), post)
            after = _next(self.now, kept, posts)
            try:
                self._told.keep(after, *others)
            except ConflictError:
                if others:
                    raise
                self.now = self._told.deliveries(after.case) or Deliveries(case=after.case)
                continue
            self.now = after
            return
        raise ConflictError(f"what was told of {self.now.case} is being written by others all the time")

    def post(self, channel: str, ask: int) -> Post | None:
        """The message about that ask that stands in the channel."""
        return next((one for one in self.now.posts if (one.channel, one.ask) == (channel, ask)), None)


def _stays(one: Line, new: Line) -> bool:
    return one.destination != new.destination or (one.state == "waiting" and _what(one) != _what(new))


def _next(page: Deliveries, lines: Sequence[Line], posts: Sequence[Post]) -> Deliveries:
    """The page's next version with these lines and posts, of all of them as much as is remembered."""
    kept = tuple(
        one.model_copy(update={"replies": one.replies[-MOST_REPLIES:]}) for one in posts[-MOST_POSTS:]
    )
    return page.model_copy(update={"lines": _newest(lines), "posts": kept, "version": page.version + 1})


def _newest(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The newest few of each kind for each destination."""
    found, counts = list[Line](), Counter[tuple[str, str]]()
    for one in reversed(lines):
        counts[one.destination.key, one.kind] += 1
        if counts[one.destination.key, one.kind] <= MOST_WAITING:
            found.append(one)
    return (*reversed(found),)


def _what(one: Line | Delivery) -> tuple[str, bool]:
    """What is on its way: a notice, or a question about the ticket that the notice brings, which does not bring it."""
    return one.notice, one.kind == routes.HEARD


class _Voice:
    """Speaks in channels, not faster than they listen, and in plain text where blocks are refused."""

    def __init__(self, chat: Chat, clock: Clock) -> None:
        self._chat = chat
        self._clock = clock
        self._spoke = False
        self.refused = ""
        self.lost = False

    def say(self, channel: str, shows: Card, thread: str | None = None, case: str = "") -> str:
        """A new message, or a reply; its timestamp."""
        self.rest()
        self._spoke = True
        try:
            try:
                return self._chat.post(channel, shows.text, shows.blocks, thread, case)
            except RejectedError as error:
                self._refused(error)
                return self._chat.post(channel, shows.text, [], thread, case)
        except AmbiguousError:
            self.lost = True
            raise

    def show(self, channel: str, ts: str, shows: Card, case: str = "") -> str:
        """The message `ts` shows this now, or a new one where there is none, or none that can be changed; which it is."""
        if not ts:
            return self.say(channel, shows, case=case)
        try:
            self._change(channel, ts, shows)
        except MessageGoneError:
            return self.say(channel, shows, case=case)
        return ts

    def rest(self) -> None:
        """Be silent for a second after a message."""
        if self._spoke:
            self._clock.sleep(PACE)
            self._spoke = False

    def _change(self, channel: str, ts: str, shows: Card) -> None:
        try:
            self._chat.update(channel, ts, shows.text, shows.blocks)
        except RejectedError as error:
            self._refused(error)
            self._chat.update(channel, ts, shows.text, [])

    def _refused(self, error: RejectedError) -> None:
        self.refused = f"the card was refused, a plain text stands in its place: {error}"


@dataclass(frozen=True)
class Office:
    """Everything that telling needs. `system` is a ticket system with its credentials, `send` puts a delivery on the queue.

    `tenant` names this deployment, for ticket systems that two of them share.
    """

    told: Told
    desk: Desk
    books: daily.Books
    chat: Chat
    mail: Mail
    system: Callable[[Integration], TicketSystem]
    send: Callable[[Delivery], None]
    controls: Mapping[str, Control]
    remediations: Mapping[str, AnyRemediation]
    home: str
    tenant: str
    clock: Clock

    def deliver(self, delivery: Delivery) -> StoreError | None:
        """What the delivery is about now stands at its destination, or the case says why not.

        LaterError when the destination wants to be asked again; StoreError when our own tables or queues do not do their
        part, and then the message comes back. Where they have not for so long that it holds up nobody any more, their error
        is returned: it was told elsewhere that there is something to tell.
        """
        voice = _Voice(self.chat, self.clock)
        try:
            if delivery.kind == storms.KIND:
                return self._digest_edited(delivery, voice)
            return self._tell(delivery, voice)
        finally:
            voice.rest()

    def sweep(self) -> None:
        """Send again what has been on its way for too long, see to the daily digest, ask about tickets, and count.

        What fails stops nothing else: its StoreError comes last. What was not done then is done by the next sweep.
        """
        now = self.clock.now()
        parts = (self._resend, self._announce, self._poll, self._count)
        _raise([error for part in parts if (error := _failure(part, now))])

    def _resend(self, now: datetime) -> None:
        """Send again what has been on its way for too long."""
        unread: list[UnreadableError] = []
        waiting = daily.readable(self.told.waiting(now - RESENT_AFTER, MOST_RESENT), unread)
        failed = [error for one in waiting if (error := self._send_again(one, now))]
        _raise([*failed, *unread])

    def _announce(self, now: datetime) -> None:
        """The daily digest is on its way, once a day."""
        policy, name = self._policy(), daily.name_of(now.date())
        if not daily.is_due(policy, now) or self.told.deliveries(name):
            return
        lines = tuple(
            Line(destination=where, notice=name, kind=daily.KIND, at=now, state="waiting")
            for where in daily.destinations(policy)
        )
        self.told.keep(Deliveries(case=name, lines=lines, version=1))
        for line in lines:
            self.send(_again(name, line))

    def _send_again(self, one: Deliveries, now: datetime) -> StoreError | None:
        """What of it is over its turn. That is noted first, so that others have theirs before it comes again.

        Why it cannot be noted, or nothing.
        """
        # Only the newest, and all that is kept of it: a page of an earlier version may be too large otherwise.
        newest = _newest(one.lines)
        late = [line for line in newest if line.state == "waiting" and line.due < now - RESENT_AFTER]
        lines = [line.model_copy(update={"due_at": now}) if line in late else line for line in newest]
        try:
            self.told.keep(_next(one, lines, one.posts))
        except ConflictError:  # somebody tells of the case right now
            return None
        except StoreError as error:
            return error
        for line in late:
            self.send(_again(one.case, line))
        return None

    def _poll(self, now: datetime) -> None:
        """Once a day, have every system asked about our open tickets: a webhook may have been lost, or never set up.

        How far they were asked is noted at the end: what breaks on the way is begun anew by the next sweep, and a question that
        comes twice does no harm. Tickets that cannot be read stand in no others' way, and are an error at the end.
        """
        policy, name = self._policy(), f"{POLLED}#{now.date().isoformat()}"
        so_far = self.told.deliveries(name)
        if not daily.is_due(policy, now) or (so_far and not so_far.lines):
            return
        asked = [one for one in policy.integrations if one.system != "webhook"] if policy else []
        unread, lost = list[UnreadableError](), list[UnreadableError]()
        found = daily.readable(self.books.tickets(TicketState.OPEN), lost) if asked else ()
        part: list[Ticket] = []
        for ticket in islice(_behind(so_far.lines[0] if so_far else None, found), MOST_POLLED):
            part.append(ticket)
            for one in asked:
                try:
                    ref = self.told.reference(ticket.id, one.name)
                except UnreadableError as error:
                    unread.append(error)
                    continue
                if ref and tickets.lies_there(ref, one):
                    self.send(
                        Delivery(
                            notice=notify.ticket(ticket).id,
                            kind=routes.HEARD,
                            case=ticket.case,
                            at=now,
                            destination=Destination(kind="ticket", to=one.name),
                        )
                    )
        lines = (_place(part[-1]),) if len(part) == MOST_POLLED else ()
        self.told.keep(Deliveries(case=name, lines=lines, version=so_far.version + 1 if so_far else 1))
        _raise([*unread, *lost])

    def _count(self, now: datetime) -> None:
        """The figures of the overview, up to what is settled by now."""
        until = now - SETTLES
        figures = self.books.figures() or Figures(counted_from=until, counted_until=until)
        bodies = [
            json.loads(one.body)
            for account in accounts_of(self.home, self.books.enrolments())
            for one in self.books.records(account, figures.counted_until, until)
        ]
        self.told.keep(counted(figures, bodies, until, self._severities()))

    def _severities(self) -> dict[str, Severity]:
        return {control.id: control.severity for control in self.controls.values()}

    def _route(self, delivery: Delivery) -> None:
        """What the outbox could not send on: to wherever the policy says, now that it can be read."""
        for where in routes.destinations(self._noted(delivery), self._policy(), self._severities()):
            self.send(delivery.model_copy(update={"destination": where}))

    def _noted(self, delivery: Delivery) -> Notice:
        """The delivery's notice as it stands now."""
        notice = self.desk.notice(delivery.notice)
        if notice is None:
            message = f"there is no notice {delivery.notice}, though it was to be told: somebody removed it"
            raise StoreError(message)
        return notice

    # -- one destination -----------------------------------------------------------------------------------------------

    def _tell(self, delivery: Delivery, voice: _Voice) -> StoreError | None:
        """It is told, or noted why not; the error of our tables for which it was set aside."""
        try:
            page = _Page(self.told, delivery.case or delivery.notice)
        except UnreadableError as error:
            return self._unnoted(delivery, error)
        try:
            self._tried_at(delivery, page, voice)
        except ConflictError:
            raise
        except StoreError as error:
            return self._unread(delivery, page, error)
        return None

    def _tried_at(self, delivery: Delivery, page: _Page, voice: _Voice) -> None:
        """It is told, or waits for its destination, and the page says which."""
        state: State
        try:
            said = self._bring(delivery, page, voice)
        except LaterError as later:
            self._later(delivery, page, later, lost=voice.lost)
        except RejectedError as error:
            # A channel that takes not even a plain text has a reason that we do not know, and people may mend.
            # So it is with a ticket that is open: its system may be set up otherwise, or its project.
            mends = delivery.destination.kind == "slack" or self._mends(delivery)
            state = "waiting" if mends else "given_up"
            self._elsewhere(delivery, page, _line(delivery, page, state, str(error)))
        except UnreachableError as error:
            self._elsewhere(delivery, page, _line(delivery, page, "waiting", str(error)))
        except _EarlyError as early:
            line = _line(delivery, page, "waiting", str(early))
            page.keep(lines=[line.model_copy(update={"due_at": early.until})])
        else:
            state = "given_up" if voice.refused else "nothing" if said else "told"
            page.keep(lines=[_line(delivery, page, state, voice.refused or said)])

    def _bring(self, delivery: Delivery, page: _Page, voice: _Voice) -> str:
        """Tell it, or say why there was nothing to tell."""
        where = delivery.destination
        if where == routes.UNROUTED:
            self._route(delivery)
            return ""
        policy = self._policy()
        if delivery.kind == daily.KIND:
            self._digest(delivery, page, policy, voice)
            return ""
        notice = self._noted(delivery)
        if where.kind == "ticket":
            return self._ticket(notice, delivery.kind, where.to, policy)
        case = self._case_of(notice.case)
        if where.kind == "mail":
            if case and where == routes.PEOPLE:  # who perhaps have no channel any more
                self._everywhere_else(notice, case, page, policy)
            return self._mail(notice, case, where, page, policy)
        if case is None:
            heading = mails.says_of(notice)
            self._once(
                notice,
                where.to,
                sheet(heading, mails.report_of(notice), mails.link(policy, "/")),
                page,
                voice,
            )
        else:
            self._case(notice, case, where.to, page, policy, voice)
        return ""

    def _later(self, delivery: Delivery, page: _Page, later: LaterError, *, lost: bool) -> None:
        """It waits in the queue: LaterError. What has waited there for long enough waits without holding up the others."""
        mailed = delivery.destination.kind == "mail" and isinstance(later, AmbiguousError)
        line = _line(delivery, page, "waiting", str(later), lost=lost or mailed)
        if line.lost >= MOST_LOST:
            said = f"{later}; it may stand there {line.lost} times"
            self._elsewhere(
                delivery, page, line.model_copy(update={"state": "given_up", "said": _said(said)})
            )
        elif self._long_enough(delivery, line):
            self._elsewhere(delivery, page, line)
        else:
            wait = later.retry_after * 4 ** max(0, line.lost - 1)
            due = self.clock.now() + timedelta(seconds=wait)
            page.keep(lines=[line.model_copy(update={"due_at": due})])
            raise LaterError(str(later), wait) from later

    def _unread(self, delivery: Delivery, page: _Page, error: StoreError) -> StoreError:
        """Something of ours that it is made from cannot be read or written: that error, raised for as long as it is waited for.

        The daily digest holds nobody up: whatever cannot be read of it is no part of what stands behind it.
        """
        line = _line(delivery, page, "waiting", str(error)).model_copy(update={"due_at": self.clock.now()})
        long = self._long_enough(delivery, line)
        aside = long or delivery.kind == daily.KIND
        try:
            if long and delivery.destination == routes.PEOPLE:
                self._barely(delivery, page, error)
            if aside:
                self._elsewhere(delivery, page, line, ours=True)
            else:
                page.keep(lines=[line])
        except (UnreadableError, OversizeError) as unnoted:
            return self._unnoted(delivery, unnoted)
        if not aside:
            raise error
        return error

    def _barely(self, delivery: Delivery, page: _Page, error: StoreError) -> None:
        """People hear by mail, once, that there is something to tell of the case, and why it cannot be told."""
        notice = _bare(delivery)
        written = mails.of_unread(notice, str(error))
        self._tried(
            delivery, lambda: self._post(notice, delivery.destination, routes.PEOPLE.to, written, page)
        )

    def _unnoted(self, delivery: Delivery, error: UnreadableError | OversizeError) -> StoreError:
        """Its page itself cannot be read, or not be written: that error, raised for as long as it is waited for.

        Then people hear of it by mail. Tickets and mails to owners wait behind nobody else's, and come back.
        """
        where = delivery.destination
        early = isinstance(error, UnreadableError) and self.clock.now() - delivery.at <= PATIENCE
        if early or where.kind == "ticket" or where == routes.OWNER:
            raise error
        notice = _bare(delivery)
        written = mails.of_unread(notice, str(error))
        self._tried(delivery, lambda: self.mail.send("people", written.subject, written.text, _key(notice)))
        return error

    def _long_enough(self, delivery: Delivery, line: Line) -> bool:
        """True when it has waited at the head of its group for so long that what is behind it has its turn."""
        return line.attempts >= PATIENT and self.clock.now() - delivery.at > PATIENCE

    def _elsewhere(self, delivery: Delivery, page: _Page, line: Line, *, ours: bool = False) -> None:
        """Note the line, which waits for its destination or gives it up; a channel's is told elsewhere meanwhile, once.

        With `ours` it is our own tables that fail: another channel would wait for the same, and people get mail.
        Of a ticket that does not get there the engine is told, once as well: for the record, and for those who follow the case.
        """
        ticket = self._brought(delivery)
        if ticket:
            self._stopped(ticket, delivery, page, line)
            return
        now, where = self.clock.now(), delivery.destination
        on_its_way = [one.destination for one in page.now.lines if one.notice == delivery.notice]
        others: list[Destination] = []
        if where.kind in {"slack", "policy"} and not line.meanwhile:
            channels = () if ours else routes.fallbacks(self._policy(), where.to)
            others = [*channels, routes.PEOPLE]
        instead = next((one for one in others if one not in on_its_way), None)
        further = delivery.model_copy(update={"destination": instead}) if instead else None
        meanwhile = instead.key if instead else line.meanwhile
        said = _said(f"{line.said}; meanwhile to {meanwhile}" if meanwhile else line.said)
        state = "given_up" if self._too_late(delivery) else line.state
        changed = {"state": state, "said": said, "due_at": now, "meanwhile": meanwhile}
        lines = [line.model_copy(update=changed)]
        if further:
            other = _line(further, page, "waiting", f"in the place of {where.key}")
            lines.append(other.model_copy(update={"attempts": 0, "due_at": now}))
        page.keep(lines=lines)
        if further:
            self.send(further)

    def _stopped(self, ticket: Ticket, delivery: Delivery, page: _Page, line: Line) -> None:
        """Note that the ticket does not get there, and when that is tried again."""
        now, name = self.clock.now(), delivery.destination.to
        late = not ticket.is_open and now - delivery.at > CLOSING_GIVEN_UP_AFTER
        state = "given_up" if late else line.state
        changed = {
            "state": state,
            "due_at": now + min(now - delivery.at, LONGEST_PAUSE),
            "meanwhile": routes.PEOPLE.key,
        }
        orders = list[Notice]()
        on_their_way = [one for one in page.now.lines if one.state == "waiting"]
        if not any(one.meanwhile for one in on_their_way if one.destination == line.destination):
            order = errand.NotBrought(
                case=delivery.case,
                ticket=ticket.id,
                integration=name,
                why=line.said,
                again=state == "waiting",
                at=delivery.at,
            )
            same = f"{ticket.id}:{name}:not-brought:{stamp(delivery.at)}"
            orders = [errand.notice(order, same, delivery.case, now)]
        page.keep(*orders, lines=[line.model_copy(update=changed)])

    def _brought(self, delivery: Delivery) -> Ticket | None:
        """The ticket that the delivery brings, as it stands; None when it brings none, or one that cannot be read."""
        if delivery.destination.kind != "ticket" or delivery.kind == routes.HEARD:
            return None
        try:
            notice = self.desk.notice(delivery.notice)
            return self._stands(notice) if notice else None
        except UnreadableError:
            return None

    def _mends(self, delivery: Delivery) -> bool:
        """Whether it brings an open ticket, and not one that is closed there and cannot be opened: that is left to people there."""
        ticket = self._brought(delivery)
        if ticket is None or not ticket.is_open:
            return False
        ref = self.told.reference(ticket.id, delivery.destination.to)
        return ref is None or not ref.closed

    def _stands(self, notice: Notice) -> Ticket:
        """The notice's ticket as it stands: with what is new since, and closed when it has been closed meanwhile."""
        ticket = _ticket_of(notice)
        later = [self.desk.notice(f"{ticket.id}#{what}") for what in ("open", "news", "closed")]
        found = [ticket, *(_ticket_of(one) for one in later if one)]
        return max(found, key=lambda one: (not one.is_open, one.updated_at))

    def _too_late(self, delivery: Delivery) -> bool:
        """True when it has been tried for days, and nobody waits for an answer any more."""
        now = self.clock.now()
        if now - delivery.at <= GIVE_UP_AFTER:
            return False
        try:
            case = self._case_of(delivery.case)
        except UnreadableError:  # it may wait for an answer
            return False
        return case is None or case.ask is None or not case.ask.open(now)

    def _case_of(self, name: str) -> Case | None:
        found = parts_of(name)
        return self.desk.case(*found) if found else None

    def _digest(self, delivery: Delivery, page: _Page, policy: Policy | None, voice: _Voice) -> None:
        """The daily digest, as of when it was due."""
        facts = daily.facts_of(self.books, self.told, self.home, delivery.at)
        told = Notice(id=delivery.notice, kind=delivery.kind, case="", at=delivery.at, body={})
        if delivery.destination.kind == "slack":
            self._once(told, delivery.destination.to, daily.card_of(facts, policy), page, voice)
        else:
            self._post(told, delivery.destination, "people", daily.mail_of(facts, policy), page)

    def _ticket(self, notice: Notice, kind: str, name: str, policy: Policy | None) -> str:
        """The ticket as it stands: when it has been closed meanwhile, as a closed one."""
        integration = next((one for one in policy.integrations if one.name == name), None) if policy else None
        if integration is None:
            return f"the policy has no integration {name} any more"
        ticket, heard = self._stands(notice), kind == routes.HEARD
        if heard or not ticket.is_open:
            ref = self.told.reference(ticket.id, name)
            if ref is None:
                return "nobody there ever heard of it"
            if heard:
                self._look(ticket, ref, integration)
                return ""
        if page := mails.link(policy, f"/cases/{ticket.case}"):
            ticket = ticket.model_copy(update={"evidence": {**ticket.evidence, PAGE: page}})
        tickets.bring(
            ticket, integration, self.system(integration), self.told, self.clock, tenant=self.tenant
        )
        return ""

    def _look(self, ticket: Ticket, ref: TicketRef, integration: Integration) -> None:
        """Ask the system what was done to the ticket there; that the engine hears of it is kept with that we know it."""
        name, now = integration.name, self.clock.now()
        moved = tickets.looked(ticket, ref, integration, self.system(integration), now)
        if moved is None:
            return
        orders = list[Notice]()
        if moved.closed:
            order = errand.ClosedThere(
                case=ticket.case, ticket=ticket.id, integration=name, key=moved.key, at=now
            )
            orders = [errand.notice(order, f"{ticket.id}:{name}:{stamp(now)}", ticket.case, now)]
        self.told.keep(moved, *orders)

    def _mail(
        self, notice: Notice, case: Case | None, where: Destination, page: _Page, policy: Policy | None
    ) -> str:
        if where == routes.PEOPLE:
            written = mails.to_people(notice, case, policy, self._asked(notice, case, policy))
            if written is None:
                return "it was over before it could be told"
            self._post(notice, where, where.to, written, page)
            return ""
        run = _RUN.search(notice.id)
        if case is None or run is None or notice.kind not in routes.CHANGED:
            return "nothing of anybody's was changed"
        if not case.owner:
            return "nobody is known to answer for the resource: `redress owner` says who does"
        done = mails.ran(self.desk.bodies(case.id), int(run["seq"]))
        code = self._as_code(case, done)
        written = mails.to_owner(notice, case, done, controls=self.controls, policy=policy, as_code=code)
        if written is None:
            return "no call was made, so that there is nothing to tell the owner"
        self._post(notice, where, f"{where.to}:{case.owner}", written, page)
        return ""

    def _asked(self, notice: Notice, case: Case | None, policy: Policy | None) -> CardView | None:
        """What a mail about an ask shows; None for other mails, and where it cannot be read: less is told then, but it is told."""
        if case is None or case.ask is None or notice.kind not in mails.ASKS:
            return None
        try:
            return self._view(case, case.ask.seq, policy)
        except UnreadableError:
            return None

    def _as_code(self, case: Case, done: mails.Ran) -> str:
        """The change in HCL; empty when the remediation is gone, or its state has another shape by now."""
        remediation = self.remediations.get(case.remediation)
        if remediation is None:
            return ""
        try:
            before = remediation.state.model_validate_json(canonical(done.before))
        except ValidationError:
            return ""
        return remediation.as_code(case.target, before)

    def _post(
        self, notice: Notice, where: Destination, audience: str, written: mails.Written, page: _Page
    ) -> None:
        """One mail, unless it was sent before. Mails are remembered as posts are, in the channel `mail:…`."""
        sent = page.post(where.key, 0) or Post(channel=where.key, ask=0, ts="", shown="")
        key = _key(notice)
        if key not in sent.replies:
            self.mail.send(audience, written.subject, written.text, key)
            page.keep(post=sent.model_copy(update={"replies": (*sent.replies, key)}))

    # -- a channel -----------------------------------------------------------------------------------------------------

    def _once(self, notice: Notice, channel: str, shows: Card, page: _Page, voice: _Voice) -> None:
        """A message that is about no case: posted once, and never changed."""
        if page.post(channel, 0) is None:
            ts = voice.say(channel, shows)
            page.keep(post=Post(channel=channel, ask=0, ts=ts, shown=_shown(shows), replies=(_key(notice),)))

    def _case(
        self, notice: Notice, case: Case, channel: str, page: _Page, policy: Policy | None, voice: _Voice
    ) -> None:
        """The card of the case as it stands, the reply to the notice, and the same card wherever else it stands.

        Before people are asked there is no card that would ask them: an alarm stands alone, and everything else waits.
        """
        ask = _ask_of(notice, case)
        view = self._view(case, ask, policy)
        shows, waits = card(view), view.ask is not None
        post = page.post(channel, ask)
        if view.ask and not view.ask.sent and not _visible(post):
            if notice.kind not in routes.ALARMS:
                raise _EarlyError(view.ask.send_at or self.clock.now())
            post = post or Post(channel=channel, ask=ask, ts="", shown="")
        else:
            post = post or self._joined(notice, case, ask, channel, page, waits=waits)
            if post and post.storm:
                post = self._behind(post, page, policy, voice, waits=waits)
            elif post is None or post.shown != _shown(shows):
                post = _put(post or Post(channel=channel, ask=ask, ts="", shown=""), shows, page, voice)
        said, key = reply(notice.kind, notice.body, view, alone=not post.ts), _key(notice)
        if said and key not in post.replies and (notice.kind in routes.ALARMS or not post.storm):
            try:
                voice.say(channel, said, post.ts or None, case.id)
            except MessageGoneError:  # somebody deleted the card, which has nothing new to show
                post = _put(post.model_copy(update={"ts": ""}), shows, page, voice)
                voice.say(channel, said, post.ts, case.id)
            page.keep(post=post.model_copy(update={"replies": (*post.replies, key)}))
        if _takes_back(notice):
            self._earlier(case, ask, channel, page, policy, voice)
        self._everywhere_else(notice, case, page, policy, channel)

    def _earlier(
        self, case: Case, ask: int, channel: str, page: _Page, policy: Policy | None, voice: _Voice
    ) -> None:
        """The channel's cards of other asks: what one says of a repair does not hold once that is taken back."""
        for one in page.now.posts:
            if one.channel == channel and one.ask != ask and one.ts:
                shows = card(self._view(case, one.ask, policy))
                if one.shown != _shown(shows):
                    _put(one, shows, page, voice)

    def _view(self, case: Case, ask: int, policy: Policy | None) -> CardView:
        return view_of(
            case,
            ask,
            answers=self.desk.answers(case.id, ask) if ask else None,
            policy=policy,
            dossier=self.desk.dossier(case.id),
            controls=self.controls,
            remediation=self.remediations.get(case.remediation),
            now=self.clock.now(),
        )

    def _everywhere_else(
        self, notice: Notice, case: Case, page: _Page, policy: Policy | None, told: str = ""
    ) -> None:
        """Wherever but in the channel `told` a message about the same ask shows how the case stood, it is told as well.

        So it is where a card of another ask shows a repair that is taken back: `_earlier` changes it there. What went by mail has
        neither a `ts` nor a storm, and cannot be changed.
        """
        ask, back = _ask_of(notice, case), _takes_back(notice)
        others = [
            one
            for one in page.now.posts
            if one.channel != told and ((one.ts or one.storm) if one.ask == ask else (one.ts and back))
        ]
        views = {number: self._view(case, number, policy) for number in {one.ask for one in others}}
        for channel in dict.fromkeys(
            one.channel for one in others if one.shown != _stands(one, views[one.ask])
        ):
            where = Destination(kind="slack", to=channel)
            self.send(
                Delivery(
                    notice=notice.id, kind=notice.kind, case=notice.case, at=notice.at, destination=where
                )
            )

    # -- a storm -------------------------------------------------------------------------------------------------------

    def _joined(
        self, notice: Notice, case: Case, ask: int, channel: str, page: _Page, *, waits: bool
    ) -> Post | None:
        """The place behind a digest, when too much is told at once; None for one that gets a card of its own."""
        control = next(iter(case.controls), "")
        fresh = storms.storm_of(channel, control, case.target.account, notice.at, asks=ask > 0)
        storm, member = self.told.storm(fresh.id) or fresh, f"{case.id}#{ask}"
        if member in storm.cards:  # something broke before its card was posted
            return None
        storm = storms.joined(storm, member)
        if member in storm.cards:
            self.told.keep(storm)
            return None
        post = Post(channel=channel, ask=ask, ts="", shown=WAITS if waits else SETTLED, storm=storm.id)
        page.keep(storm if waits else storm.model_copy(update={"settled": storm.settled + 1}), post=post)
        return post

    def _behind(self, post: Post, page: _Page, policy: Policy | None, voice: _Voice, *, waits: bool) -> Post:
        """The digest shows that the case is there, and from some time on that it no longer waits."""
        storm = self.told.storm(post.storm)
        if storm is None:
            message = f"there is no storm {post.storm}, though a case stands behind it: somebody removed it"
            raise StoreError(message)
        if not waits and post.shown == WAITS:
            storm = storms.raised(storm, settled=storm.settled + 1)
            post = post.model_copy(update={"shown": SETTLED})
            page.keep(storm, post=post)
        if storms.behind(storm):
            if storms.too_early(storm, self.clock.now()):
                self.send(storms.follow_up(storm))
            else:
                self._edit(storm, policy, voice)
        return post

    def _digest_edited(self, delivery: Delivery, voice: _Voice) -> StoreError | None:
        """The edit that came too early is made, or given up because it cannot be read what the digest shows."""
        try:
            self._follow(delivery, voice)
        except UnreadableError as error:
            return self._unnoted(delivery, error)
        return None

    def _follow(self, delivery: Delivery, voice: _Voice) -> None:
        """The edit that came too early before. Where the channel cannot be reached any more, people hear of it by mail."""
        storm, policy = self.told.storm(delivery.notice), self._policy()
        if storm is None or not storms.behind(storm):
            return
        wait = storms.too_early(storm, self.clock.now())
        if wait:
            raise LaterError(f"the digest {storm.id} was edited a moment ago", wait)
        why = self._tried(delivery, lambda: self._edit(storm, policy, voice))
        if why:
            written = mails.of_storm(storm, mails.link(policy, storms.list_path(storm)), why)
            key = f"{storm.id}|{storm.version}"
            # Where mail fails as well the console still lists them, and the channel goes on.
            self._tried(delivery, lambda: self.mail.send("people", written.subject, written.text, key))

    def _tried(self, delivery: Delivery, do: Callable[[], None]) -> str:
        """Why it cannot be done, or nothing; LaterError while it is worth waiting."""
        try:
            do()
        except DeliveryError as error:
            if isinstance(error, LaterError) and self.clock.now() - delivery.at <= PATIENCE:
                raise
            return str(error)
        return ""

    def _edit(self, storm: Storm, policy: Policy | None, voice: _Voice) -> None:
        """The digest shows all who stand behind it."""
        if storm.lost >= MOST_LOST:
            raise UnreachableError(f"the digest may stand there {storm.lost} times: no answer came")
        control = self.controls.get(storm.control)
        shows = digest_card(
            storm,
            control.title if control else storm.control,
            storm.more - storm.settled,
            mails.link(policy, storms.list_path(storm)),
        )
        try:
            ts = voice.show(storm.channel, storm.ts, shows)
        except AmbiguousError:
            if voice.lost:
                self.told.keep(storms.raised(storm, lost=storm.lost + 1))
            raise
        self.told.keep(storms.edited(storm, ts, self.clock.now()))

    def _policy(self) -> Policy | None:
        return policy_in(self.desk)


_RUN = re.compile(r"#run-(?P<seq>[0-9]+)$")
"""How `notify.run_state` names a run's notice."""


def _line(delivery: Delivery, page: _Page, state: State, said: str, *, lost: bool = False) -> Line:
    """How far the delivery's destination has been told of its notice, after one attempt more."""
    before = next(
        (
            one
            for one in page.now.lines
            if one.destination == delivery.destination and _what(one) == _what(delivery)
        ),
        None,
    )
    return Line(
        destination=delivery.destination,
        notice=delivery.notice,
        kind=delivery.kind,
        at=delivery.at,
        state=state,
        attempts=(before.attempts if before else 0) + 1,
        said=_said(said),
        meanwhile=before.meanwhile if before else "",
        lost=(before.lost if before else 0) + lost,
    )


def _ask_of(notice: Notice, case: Case) -> int:
    """The number of the ask that the notice is about; 0 when nobody was ever asked."""
    asked = notice.body.get("ask")
    return asked if isinstance(asked, int) else case.asks


def _takes_back(notice: Notice) -> bool:
    """Whether it is about an undo: what was told of other asks may no longer hold."""
    return notice.kind.startswith("undo_")


def _visible(post: Post | None) -> bool:
    """Whether a card stands there, or a digest in its place."""
    return post is not None and bool(post.ts or post.storm)


def _stands(post: Post, view: CardView) -> str:
    """What is shown of the post when it shows how the case stands."""
    if post.storm:
        return WAITS if view.ask else SETTLED
    return _shown(card(view))


def _put(post: Post, shows: Card, page: _Page, voice: _Voice) -> Post:
    """The message of the post shows this now, wherever that is, and it is noted."""
    ts = voice.show(post.channel, post.ts, shows, page.now.case)
    after = post.model_copy(update={"ts": ts, "shown": _shown(shows)})
    page.keep(post=after)
    return after


def _bare(delivery: Delivery) -> Notice:
    """All that is known of a notice when it is not to be read: where it is told once that it cannot be told."""
    said = f"{delivery.notice}|unread"
    return Notice(id=said, kind=delivery.kind, case=delivery.case, at=delivery.at, body={})


def _failure(part: Callable[[datetime], None], now: datetime) -> StoreError | None:
    """Why that part of the sweep was not done, or nothing."""
    try:
        part(now)
    except StoreError as error:
        return error
    return None


def _raise(failed: Sequence[StoreError]) -> None:
    """What failed, all of it as one error; a race that was lost only when nothing else did, for others do what is left."""
    found = [one for one in failed if not isinstance(one, ConflictError)] or [*failed][:1]
    if len(found) == 1:
        raise found[0]
    if found:
        raise StoreError("; ".join(map(str, found)))


def _said(text: str) -> str:
    return plain(text, LONGEST_SAID)


def _place(last: Ticket) -> Line:
    """As far as tickets were asked about: those before that one, and itself."""
    return Line(
        destination=Destination(kind="policy", to=POLLED),
        notice=last.id,
        kind=POLLED,
        at=last.updated_at,
        state="told",
    )


def _behind(place: Line | None, found: Iterable[Ticket]) -> Iterator[Ticket]:
    """The tickets behind that place, the one that moved last first.

    One that moves meanwhile is before it, and was assessed: it has its turn the next day.
    """
    for moved, same in groupby(found, key=lambda one: one.updated_at):
        for one in sorted(same, key=lambda one: one.id):
            if place is None or moved < place.at or (moved == place.at and one.id > place.notice):
                yield one


def _again(case: str, line: Line) -> Delivery:
    """The delivery that the line is about."""
    return Delivery(notice=line.notice, kind=line.kind, case=case, at=line.at, destination=line.destination)


def _ticket_of(notice: Notice) -> Ticket:
    try:
        return Ticket.model_validate_json(canonical(mapping(notice.body.get("ticket"))))
    except ValidationError as error:
        raise UnreadableError(f"the ticket in notice {notice.id} cannot be read: {error}") from error


def _key(notice: Notice) -> str:
    """A notice as it is told: what a run came to overwrites that it began, and both are told."""
    return f"{notice.id}|{notice.kind}"


def _shown(shows: Card) -> str:
    """A digest of what a message shows."""
    return hashlib.sha256(canonical([shows.text, shows.blocks]).encode()).hexdigest()[:32]
