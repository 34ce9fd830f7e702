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


_SSO = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/AWSReservedSSO_[^/]+_[0-9a-f]{16}/(?P<person>.+)")


def principal(arn: str) -> str:
    """Whom an ARN means, for telling people apart. An Identity Center user is one person under every permission set."""
    folded = unicodedata.normalize("NFKC", arn).casefold().strip()
    match = _SSO.fullmatch(unicodedata.normalize("NFKC", arn).strip())
    return f"identity-center:{match['person'].casefold()}" if match else folded


def principals(actors: Iterable[Actor]) -> tuple[str, ...]:
    """Everybody who is known by an ARN among `actors`, sorted."""
    return tuple(sorted({principal(actor.arn) for actor in actors if actor.arn}))
