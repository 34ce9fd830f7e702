"""Delivery: what of a case has been told to whom, and what is still on its way. Nothing here decides anything.

A notice in the outbox says that there is something to tell. What is told is made from the case as it stands when it is
told: a message that comes twice, late or out of order shows the present, and what was shown last is remembered.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol

from pydantic import StringConstraints

from chalicelib.domain.figures import Figures
from chalicelib.domain.finding import Model
from chalicelib.domain.ports import Notice
from chalicelib.domain.ticket import Ticket

LONGEST_SAID = 300

State = Literal["waiting", "told", "nothing", "given_up"]


class Destination(Model):
    """Where something is told: a Slack channel, a mail topic's audience (`people`, `owner`), or a ticket integration by name.

    `policy`: wherever the policy says, which could not be read when the notice came.
    """

    kind: Literal["slack", "mail", "ticket", "policy"]
    to: Annotated[str, StringConstraints(min_length=1, max_length=200)]

    @property
    def key(self) -> str:
        """Its name, and the message group that keeps its order."""
        return f"{self.kind}:{self.to}"


class Delivery(Model):
    """One message of the notices queue: bring what the notice is about to that destination."""

    notice: str
    kind: str
    case: str
    at: datetime
    destination: Destination


class Line(Model):
    """How far one destination has been told of a case: of which notice last, and what it waits for (`said`).

    `nothing`: there was nobody to tell, or nothing to tell them any more. While it waits, the queue brings it at `due_at`
    (None: at once), and the sweep some time later. `meanwhile` is the key of the destination that was told in its place.
    """

    destination: Destination
    notice: str
    kind: str
    at: datetime
    state: State
    attempts: int = 0
    said: Annotated[str, StringConstraints(max_length=LONGEST_SAID)] = ""
    due_at: datetime | None = None
    meanwhile: str = ""
    lost: int = 0
    """How many messages may stand there because the answers to them were lost."""

    @property
    def due(self) -> datetime:
        """When it was, or will be, its turn."""
        return self.due_at or self.at


class Post(Model):
    """A message that stands in a channel: for which ask of the case (0: none), where, and the digest of what it shows.

    `replies` are the notices told in its thread, so that none is told twice. `storm` names the digest that shows it
    instead of a card of its own.
    """

    channel: str
    ask: int
    ts: str
    shown: str
    replies: tuple[str, ...] = ()
    storm: str = ""


class Deliveries(Model):
    """What has been told of a case, and what waits. `version` guards every write; a record of it exists from the first notice on."""

    case: str
    lines: tuple[Line, ...] = ()
    posts: tuple[Post, ...] = ()
    version: int = 0

    @property
    def due(self) -> datetime | None:
        """When the first of what is on its way is due; None when everything was told or given up."""
        return min((line.due for line in self.lines if line.state == "waiting"), default=None)


class Storm(Model):
    """What is told of one control in one account within five minutes, in one channel: some as cards, the rest as one digest.

    `more` are those behind the digest, of which `settled` no longer wait. `shown` is the sum of both as the digest had it
    when it was last edited: both only ever rise. Asks and the news of what nobody was asked about are storms of their own.
    `lost` counts the digests that may stand there because the answers to them were lost.
    """

    id: str
    channel: str
    control: str
    account: str
    began_at: datetime
    asks: bool = True
    cards: tuple[str, ...] = ()
    more: int = 0
    settled: int = 0
    ts: str = ""
    shown: int = 0
    edited_at: datetime | None = None
    lost: int = 0
    version: int = 0


class TicketRef(Model):
    """A ticket of ours in somebody's system: reserved before the call, named after it. One per ticket and integration.

    `place` is the digest of where the integration pointed then: `key` names another ticket anywhere else. Empty in those that
    were written before it was kept.
    """

    ticket: str
    integration: str
    reserved_at: datetime
    attempts: int = 1
    key: str = ""
    url: str = ""
    closed: bool = False
    updated_at: datetime | None = None
    told: str = ""
    """The digest of the ticket as it was last brought there."""
    place: str = ""
    version: int = 0


# -- what delivery needs from the outside ------------------------------------------------------------------------------


class Chat(Protocol):
    """A chat's messages. Errors are those of `errors.DeliveryError`."""

    def post(
        self,
        channel: str,
        text: str,
        blocks: list[dict[str, Any]],
        thread: str | None = None,
        case: str = "",
    ) -> str:
        """A new message, or a reply; its timestamp, which names it. `case` is the id of the case that it is about."""
        ...

    def update(self, channel: str, ts: str, text: str, blocks: list[dict[str, Any]]) -> None:
        """The message now shows this."""
        ...


class Mail(Protocol):
    """Plain mails, through a topic that people subscribe to."""

    def send(self, audience: str, subject: str, text: str, key: str) -> None:
        """One mail to everybody who subscribed for that audience. `key` is the same for the same mail."""
        ...


class Remote(Model):
    """A ticket as somebody's system has it."""

    key: str
    url: str
    closed: bool


class TicketSystem(Protocol):
    """A ticket system, seen from us. Errors are those of `errors.DeliveryError`; an `AmbiguousError` means: look before you try again."""

    def create(self, ticket: Ticket, key: str) -> Remote:
        """A new one that carries our `key`, by which `find` finds it."""
        ...

    def find(self, key: str) -> Remote | None:
        """The one that carries our key, open or closed, or None."""
        ...

    def update(self, remote: str, ticket: Ticket) -> None:
        """A comment with what is new about it."""
        ...

    def reopen(self, remote: str, ticket: Ticket) -> None:
        """Open again, with a comment that says what is still seen. Opening an open one is no error."""
        ...

    def close(self, remote: str, ticket: Ticket) -> None:
        """Closed, with a comment that says what was seen. Closing a closed one is no error."""
        ...

    def look(self, remote: str) -> Remote:
        """It, as it stands there now."""
        ...


class Told(Protocol):
    """What delivery remembers, in the outbox table."""

    def deliveries(self, case: str) -> Deliveries | None:
        """What has been told of the case; None before anything was to be told."""
        ...

    def keep(self, *changed: Deliveries | Storm | TicketRef | Figures | Notice) -> None:
        """All of them at their new versions or none; ConflictError when somebody else was quicker.

        A notice has no version: it is an errand for the engine, which changes nothing by itself.
        """
        ...

    def storm(self, name: str) -> Storm | None:
        """The storm of that name."""
        ...

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        """Where the ticket lies in that system, or None when nobody ever tried to bring it there."""
        ...

    def waiting(self, before: datetime, most: int) -> Iterable[Deliveries]:
        """Those with something on its way that was due before that time, longest due first.

        UnreadableError for those that cannot be read, when all the others have been handed out.
        """
        ...
