"""Ask and answer: a plan that waits for a person, and what people said. An approval is bound to the hash of one plan.

One answer decides for now. The answers to an ask lie in one item whose version guards it, so that two answers at the same
moment are one after the other, and the second is told what the first decided.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field, JsonValue

from chalicelib.domain.contract import Plan
from chalicelib.domain.finding import Actor, Model

EXPIRES_AFTER = timedelta(hours=8)
"""An ask that nobody answers ends then, as a ticket. It never acts by itself."""

REMINDED_AFTER = EXPIRES_AFTER / 2

CARRIED_OUT_WITHIN = timedelta(hours=1)
"""An approval that could not be carried out by then (dead letters, an outage) is no longer one: it is asked again."""

SETTLED_AFTER = timedelta(minutes=1)
"""An ask ends to the second; that it ended is written this much later, when no answer in time can still be on its way."""

DENIED_FOR = timedelta(days=30)
"""For so long a sweep or a finding does not ask again for what a person refused. For longer, exempt the resource."""


class Kind(StrEnum):
    """What is asked for: to change the target, or to take a change back."""

    REMEDIATION = "remediation"
    UNDO = "undo"


class Undone(Model):
    """A wanted undo: of which run, by whom and why, and until when the resource is exempt afterwards, for whom."""

    run: int = Field(ge=1)
    by: str
    reason: str
    owner: str
    until: datetime


class Ask(Model):
    """The frozen plan that a person is asked about, until `expires_at`. `seq` counts the asks of the case from 1.

    `requesters` are the principals who may not approve it: they made the change, or want it taken back. `again` is true
    when it follows a plan that went stale. `notes` is what else whoever decides should know, and `as_code` the same
    change in HCL, where code made the violation.
    """

    seq: int
    kind: Kind = Kind.REMEDIATION
    controls: tuple[str, ...]
    asked_at: datetime
    expires_at: datetime
    plan: Plan
    plan_hash: str
    before: dict[str, JsonValue]
    requesters: tuple[str, ...] = ()
    reason: str
    reminded: bool = False
    again: bool = False
    undo: Undone | None = None
    notes: tuple[str, ...] = ()
    as_code: str = ""

    def open(self, now: datetime) -> bool:
        """True while an answer is taken."""
        return now < self.expires_at


class Answer(Model):
    """What one person said, when, and the record that proves it."""

    by: str
    principal: str
    at: datetime
    approve: bool
    reason: str
    request_id: str


class Answers(Model):
    """All answers to one ask, in the order in which they were taken."""

    case: str
    ask: int
    plan_hash: str
    answers: tuple[Answer, ...] = ()
    version: int = 0

    @property
    def decided_by(self) -> Answer | None:
        """The answer that decided: a refusal wins, else the first approval; None while nobody answered."""
        refused = next((answer for answer in self.answers if not answer.approve), None)
        return refused or next(iter(self.answers), None)

    def plus(self, answer: Answer) -> "Answers":
        """These answers with one more."""
        return self.model_copy(update={"answers": (*self.answers, answer), "version": self.version + 1})


MOST_ACTORS = 100
EVERYBODY = "*"
"""In the place of more actors than a case holds: then nobody may approve."""

_SSO = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/AWSReservedSSO_[^/]+_[0-9a-f]{16}/(?P<person>.+)")


def principal(arn: str) -> str:
    """Whom an ARN means, for telling people apart. An Identity Center user is one person under every permission set."""
    folded = unicodedata.normalize("NFKC", arn).casefold().strip()
    match = _SSO.fullmatch(unicodedata.normalize("NFKC", arn).strip())
    return f"identity-center:{match['person'].casefold()}" if match else folded


def principals(*actors: Actor, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Everybody among `actors` and those `known` before, sorted: by ARN, and by the person behind a role where told.

    With more than a case can hold it is everybody: whoever chooses session names must not choose who is forgotten.
    """
    named = {*known, *(principal(actor.arn) for actor in actors if actor.arn)}
    named |= {_called(actor.source_identity) for actor in actors if actor.source_identity}
    return (EVERYBODY,) if len(named) > MOST_ACTORS or EVERYBODY in named else tuple(sorted(named))


def barred(ask: Ask, arn: str) -> bool:
    """True when whoever has that ARN may not approve the ask: had a hand in it, wants it, or would own its exemption."""
    mine = {principal(arn), _called(principal(arn).rpartition(":")[2].rpartition("/")[2])}
    against = {*ask.requesters}
    if ask.undo:
        against |= {principal(ask.undo.by), principal(ask.undo.owner), _called(ask.undo.owner)}
    return EVERYBODY in against or bool(mine & against)


def _called(name: str) -> str:
    """A person by a bare name, as source identities and owners are written."""
    return f"called:{unicodedata.normalize('NFKC', name).casefold().strip()}"
