"""What delivery is tested with: a chat that refuses what Slack refuses, a mail box, a memory, a desk to read from, a queue."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.delivery import Deliveries, Delivery, Storm, TicketRef
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import (
    ConflictError,
    LaterError,
    MessageGoneError,
    RejectedError,
    UnreachableError,
)
from chalicelib.domain.figures import Figures
from chalicelib.domain.policy import PolicySetting
from chalicelib.domain.ports import Enrolment, Exemption, Freeze, Notice
from chalicelib.domain.record import Record
from chalicelib.domain.ticket import Ticket, TicketState
from tests.fakes.clock import FakeClock

MOST_BLOCKS = 50


@dataclass
class Message:
    """One message of a channel, as it stands."""

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    thread: str | None
    edits: int = 0
    case: str = ""

    @property
    def says(self) -> str:
        """Everything that it shows."""
        return json.dumps([self.text, self.blocks], ensure_ascii=False)


@dataclass
class FakeChat:
    """`delivery.Chat`: one message a second in each channel, known channels only, text always, blocks within the limit.

    `faults` are raised by the next calls, in turn (None: none); `broken` by every call for that channel. With `loses`, the
    next message is taken and its answer lost.
    """

    clock: FakeClock
    channels: set[str]
    messages: list[Message] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)
    loses: Exception | None = None
    refuses_blocks: bool = False
    refuses_all: bool = False
    calls: list[str] = field(default_factory=list)
    _last: dict[str, datetime] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def post(
        self,
        channel: str,
        text: str,
        blocks: list[dict[str, Any]],
        thread: str | None = None,
        case: str = "",
    ) -> str:
        self._checked("post", channel, text, blocks)
        if thread is not None and thread not in {one.ts for one in self.messages if one.channel == channel}:
            raise MessageGoneError("thread_not_found")
        last = self._last.get(channel)
        if last and (self.clock.now() - last).total_seconds() < 1:
            raise LaterError("ratelimited", 1)
        self._last[channel] = self.clock.now()
        ts = f"{next(self._numbers)}.0"
        self.messages.append(Message(channel, ts, text, blocks, thread, case=case))
        if self.loses:
            lost, self.loses = self.loses, None
            raise lost
        return ts

    def update(self, channel: str, ts: str, text: str, blocks: list[dict[str, Any]]) -> None:
        self._checked("update", channel, text, blocks)
        message = next((one for one in self.messages if (one.channel, one.ts) == (channel, ts)), None)
        if message is None:
            raise MessageGoneError("message_not_found")
        message.text, message.blocks = text, blocks
        message.edits += 1

    def delete(self, ts: str) -> None:
        """Somebody deletes a message."""
        self.messages = [one for one in self.messages if one.ts != ts]

    def cards(self, channel: str) -> list[Message]:
        """The messages of the channel that are no replies."""
        return [one for one in self.messages if one.channel == channel and one.thread is None]

    def replies(self, ts: str) -> list[str]:
        """What the replies to a message say."""
        return [one.text for one in self.messages if one.thread == ts]

    def _checked(self, call: str, channel: str, text: str, blocks: list[dict[str, Any]]) -> None:
        self.calls.append(call)
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        if channel in self.broken:
            raise self.broken[channel]
        if channel not in self.channels:
            raise UnreachableError("channel_not_found")
        if not text or len(blocks) > MOST_BLOCKS or self.refuses_all or (self.refuses_blocks and blocks):
            raise RejectedError("invalid_blocks")
        json.dumps(blocks)


@dataclass
class FakeMail:
    """`delivery.Mail`: a box that takes one-line ASCII subjects of less than 100 characters only."""

    sent: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)

    def send(self, audience: str, subject: str, text: str, key: str) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        if not (subject.isascii() and subject.isprintable() and 0 < len(subject) < 100 and text and key):
            raise RejectedError("InvalidParameter")
        self.sent.append((audience, subject, text, key))

    @property
    def audiences(self) -> list[str]:
        """Who got mail, in order."""
        return [audience for audience, _, _, _ in self.sent]


Kept = Deliveries | Storm | TicketRef | Figures


def _name(one: Kept) -> tuple[str, ...]:
    if isinstance(one, Figures):
        return ("figures",)
    if isinstance(one, Deliveries):
        return ("deliveries", one.case)
    return ("storm", one.id) if isinstance(one, Storm) else ("reference", one.ticket, one.integration)


@dataclass
class FakeTold:
    """`delivery.Told` in memory. `before` and `after` are called around each write, and may raise."""

    items: dict[tuple[str, ...], Kept] = field(default_factory=dict)
    errands: list[Notice] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def deliveries(self, case: str) -> Deliveries | None:
        found = self.items.get(("deliveries", case))
        return found if isinstance(found, Deliveries) else None

    def storm(self, name: str) -> Storm | None:
        found = self.items.get(("storm", name))
        return found if isinstance(found, Storm) else None

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        found = self.items.get(("reference", ticket, integration))
        return found if isinstance(found, TicketRef) else None

    def figures(self) -> Figures | None:
        found = self.items.get(("figures",))
        return found if isinstance(found, Figures) else None

    def keep(self, *changed: Kept | Notice) -> None:
        self.before()
        kept = [one for one in changed if not isinstance(one, Notice)]
        assert len({_name(one) for one in kept}) == len(kept)
        for one in kept:
            stands = self.items.get(_name(one))
            if one.version != (stands.version if stands else 0) + 1:
                raise ConflictError("somebody else wrote it")
        self.items |= {_name(one): one for one in kept}
        self.errands += [one for one in changed if isinstance(one, Notice)]
        self.after()

    def waiting(self, before: datetime, most: int) -> tuple[Deliveries, ...]:
        found = [
            (one.due, one)
            for one in self.items.values()
            if isinstance(one, Deliveries) and one.due and one.due < before
        ]
        return tuple(one for _, one in sorted(found, key=lambda pair: pair[0])[:most])

    @property
    def storms(self) -> list[Storm]:
        """All storms."""
        return [one for one in self.items.values() if isinstance(one, Storm)]


@dataclass
class FakeDesk:
    """`office.Desk` and `daily.Books`: what stands in the tables, as tests put it there; `stands` reads the figures."""

    notices: dict[str, Notice] = field(default_factory=dict)
    known: dict[str, Case] = field(default_factory=dict)
    said: dict[tuple[str, int], Answers] = field(default_factory=dict)
    setting: PolicySetting | None = None
    dossiers: dict[str, Dossier] = field(default_factory=dict)
    chains: dict[str, list[Record]] = field(default_factory=dict)
    frozen: list[Freeze] = field(default_factory=list)
    tripped: list[Breaker] = field(default_factory=list)
    exempt: list[Exemption] = field(default_factory=list)
    members: list[Enrolment] = field(default_factory=list)
    ours: list[Ticket] = field(default_factory=list)
    stands: Callable[[], Figures | None] = lambda: None

    def notice(self, name: str) -> Notice | None:
        return self.notices.get(name)

    def case(self, digest: str, episode: int) -> Case | None:
        return self.known.get(f"{digest}-{episode}")

    def answers(self, case: str, ask: int) -> Answers | None:
        return self.said.get((case, ask))

    def policy(self) -> PolicySetting | None:
        return self.setting

    def dossier(self, case: str) -> Dossier | None:
        return self.dossiers.get(case)

    def bodies(self, chain: str) -> Iterator[str]:
        return (record.body for record in self.chains.get(chain, ()))

    def records(self, account: str, since: datetime, until: datetime) -> Iterator[Record]:
        """Of that time, its first and its last moment among it, as the index has them."""
        found = (one for chain in self.chains.values() for one in chain)
        return (one for one in found if one.draft.account == account and since <= one.recorded_at <= until)

    def cases(self, state: CaseState, *, oldest_first: bool = False) -> Iterator[Case]:
        found = [one for one in self.known.values() if one.state is state]
        return iter(sorted(found, key=lambda one: one.updated_at, reverse=not oldest_first))

    def freezes(self) -> list[Freeze]:
        return self.frozen

    def breakers(self) -> list[Breaker]:
        return self.tripped

    def exemptions(self) -> list[Exemption]:
        return self.exempt

    def enrolments(self) -> list[Enrolment]:
        return self.members

    def tickets(self, state: TicketState) -> Iterator[Ticket]:
        return (one for one in self.ours if one.state is state)

    def figures(self) -> Figures | None:
        return self.stands()


@dataclass
class FakeQueue:
    """What was put on the notices queue; like a FIFO queue, it takes the same delivery once."""

    sent: list[Delivery] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def send(self, delivery: Delivery) -> None:
        same = delivery.model_dump_json()
        if same not in self._seen:
            self._seen.add(same)
            self.sent.append(delivery)

    def forget(self) -> None:
        """Five minutes have passed."""
        self._seen.clear()
