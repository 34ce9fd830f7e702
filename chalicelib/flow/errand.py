"""Errands: what reaches the engine through the commands queue, and is no event of anybody's account.

A person's command puts an errand into the outbox, in the transaction that records the command; a stream carries it to
the queue. A schedule puts `tick` and `sweep` there, and a sweep its own parts. An errand says what to look at and never
what to find: every right and every fact is read again when it is carried out, so that one delivered twice, late or out
of order does no harm.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from chalicelib.domain.approval import Undone
from chalicelib.domain.finding import AccountId, Model, RegionName
from chalicelib.domain.ports import Notice
from chalicelib.domain.sweep import Part

NOTICE = "errand"
"""The kind of a notice whose body is an errand: the outbox's stream brings it to the commands queue, and to nobody else."""

Queue = Literal["events", "commands", "undo", "notices"]


class Redrive(Model):
    """Return dead letters to the queue that they came from."""

    errand: Literal["redrive"] = "redrive"
    queue: Queue
    most: int = Field(ge=1, le=1000)


class Answered(Model):
    """Somebody answered an ask: read what, and carry it out."""

    errand: Literal["answered"] = "answered"
    case: str
    ask: int


class UndoWanted(Model):
    """Somebody wants a run of a case taken back: plan the undo and ask."""

    errand: Literal["undo"] = "undo"
    case: str
    undone: Undone


class Look(Model):
    """Look at a case's target again. With `requested`, somebody asked for it by name: what is inherited is then asked."""

    errand: Literal["look"] = "look"
    case: str
    by: str
    requested: bool = False
    request_id: str


class TicketWanted(Model):
    """Somebody wants a ticket in the place of an answer to that ask; 0, as an older version sent it, is no ask."""

    errand: Literal["ticket"] = "ticket"
    case: str
    ask: int = 0
    by: str
    reason: str
    request_id: str


class Exempted(Model):
    """An exemption of this resource was granted or taken away: look at its cases, so that they stand as it says."""

    errand: Literal["exempted"] = "exempted"
    resource: str
    control: str
    request_id: str


class News(Model):
    """Something that people did with a case beside deciding it: those who follow it are told."""

    errand: Literal["news"] = "news"
    case: str
    says: str
    request_id: str


class Heard(Model):
    """A ticket system says that something was done to a ticket of ours: have it asked whether that is so."""

    errand: Literal["heard"] = "heard"
    case: str
    ticket: str
    integration: str
    request_id: str


class ClosedThere(Model):
    """A ticket system, asked, says that our open ticket is closed there: on record, and the target is looked at."""

    errand: Literal["closed_there"] = "closed_there"
    case: str
    ticket: str
    integration: str
    key: str
    at: datetime


class NotBrought(Model):
    """A ticket of ours does not get to a ticket system, since the notice of that time: on record, and people are told."""

    errand: Literal["not_brought"] = "not_brought"
    case: str
    ticket: str
    integration: str
    why: str
    again: bool
    """Whether it is tried again."""
    at: datetime


class Sweep(Model):
    """Look at everything: all controls, all Regions, one account (home when None)."""

    errand: Literal["sweep"] = "sweep"
    account: AccountId | None = None
    by: str = "the schedule"


class SweepPart(Model):
    """One part of a sweep, from behind the target whose id is `after`; `so_far` is what this part has seen before."""

    errand: Literal["sweep_part"] = "sweep_part"
    sweep: str
    account: AccountId
    region: RegionName
    after: str = ""
    so_far: Part


class Tick(Model):
    """Time has passed: remind, expire, wake, and carry out answers whose errand was lost."""

    errand: Literal["tick"] = "tick"
    at: datetime | None = None


AnyErrand = (
    Redrive
    | Answered
    | UndoWanted
    | Look
    | Exempted
    | TicketWanted
    | News
    | Heard
    | ClosedThere
    | NotBrought
    | Sweep
    | SweepPart
    | Tick
)
ERRAND: TypeAdapter[AnyErrand] = TypeAdapter(Annotated[AnyErrand, Field(discriminator="errand")])
"""Reads an errand: strict, every unknown key is an error."""


class UndoRun(Model):
    """What the undo queue carries, which only the engine may send to: an approved ask for an undo."""

    case: str
    ask: int


def notice(errand: AnyErrand, name: str, case: str, at: datetime) -> Notice:
    """The errand as a notice; `name` makes it the same notice however often it is written."""
    body: dict[str, JsonValue] = errand.model_dump(mode="json")
    return Notice(id=f"ERRAND#{name}", kind=NOTICE, case=case, at=at, body=body)
