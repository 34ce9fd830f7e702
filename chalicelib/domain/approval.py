"""Ask and answer: a plan that waits for a person, and what people said. An approval is bound to the hash of one plan.

What the answers amount to is the policy's matter (`policy.consent`). They lie in one item whose version guards it, so that
two answers at the same moment are one after the other, and the second is told what the first decided.
"""

import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, JsonValue, model_validator

from chalicelib.domain.contract import Plan
from chalicelib.domain.finding import Actor, Model, Severity
from chalicelib.domain.record import Head

EXPIRES_AFTER = timedelta(hours=8)
"""An ask that nobody answers ends then, as a ticket. It never acts by itself."""

CARRIED_OUT_WITHIN = timedelta(hours=1)
"""An approval that could not be carried out by then (dead letters, an outage) is no longer one: it is asked again."""

SETTLED_AFTER = timedelta(minutes=1)
"""An ask ends to the second; that it ended is written this much later, when no answer in time can still be on its way."""

DENIED_FOR = timedelta(days=30)
"""For so long a sweep or a finding does not ask again for what a person refused. For longer, exempt the resource."""


class Door(StrEnum):
    """By which way an answer came: the commands route (IAM), the console after a sign-in, or a signed Slack button."""

    CLI = "cli"
    CONSOLE = "console"
    SLACK = "slack"


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

    `requesters` are the principals who may not approve it: they made the change, asked for a look, or want it taken back.
    `again` is true when it follows a plan that went stale. `notes` is what else whoever decides should know, and `as_code` the
    same change in HCL, where code made the violation. `severity` is the worst of the controls'. People are told from `send_at` on, and
    reminded at `remind_at`; without them, at once and never. `owner` is who answers for the account, by an operator's word:
    never the target's own tag, which whoever changes it may choose.
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
    owner: str = ""
    reason: str
    reminded: bool = False
    again: bool = False
    undo: Undone | None = None
    notes: tuple[str, ...] = ()
    as_code: str = ""
    severity: Severity = Severity.CRITICAL
    send_at: datetime | None = None
    remind_at: datetime | None = None
    sent: bool = True

    @model_validator(mode="after")
    def _an_undo_says_of_what(self) -> Self:
        if (self.kind is Kind.UNDO) != (self.undo is not None):
            message = "an undo says of what, and nothing else does"
            raise ValueError(message)
        return self

    def open(self, now: datetime) -> bool:
        """True while an answer is taken."""
        return now < self.expires_at

    def bars(self, mine: frozenset[str]) -> str:
        """Why whoever is called all of `mine` may not approve, in words that follow a name or "you"; empty when they may."""
        if self.undo and principal(self.undo.by) in mine:
            return "wanted it taken back"
        if self.undo and {principal(self.undo.owner), called(self.undo.owner)} & {*mine, EVERYBODY}:
            return "would own the exemption afterwards"
        if mine & {*self.requesters}:
            return "made the change or asked for this look"
        many = EVERYBODY in self.requesters
        return "may have made the change, as too many did to name them all" if many else ""

    def owned_by(self, mine: frozenset[str]) -> bool:
        """True when whoever is called all of `mine` answers for the account, written as a name, an address or an ARN."""
        return bool(self.owner) and bool({called(self.owner), principal(self.owner)} & mine)


class Answer(Model):
    """What one person said, when, through which door, and the record that proves it.

    `by` is the identity that the door authenticated, `principal` the person behind it. `logged_in_at` and `mfa` are what
    the sign-in told of itself. With `withdrawn`, the person takes an approval back; with `break_glass`, it decides alone.
    """

    by: str
    principal: str
    at: datetime
    approve: bool
    reason: str
    request_id: str
    door: Door = Door.CLI
    logged_in_at: datetime | None = None
    mfa: bool = False
    withdrawn: bool = False
    break_glass: bool = False


class Answers(Model):
    """All answers to one ask, in the order in which they were taken, and the end of the chain that records them."""

    case: str
    ask: int
    plan_hash: str
    answers: tuple[Answer, ...] = ()
    version: int = 0
    head: Head = Head()

    def plus(self, answer: Answer, head: Head) -> "Answers":
        """These answers with one more, whose record ends the chain at `head`."""
        return self.model_copy(
            update={"answers": (*self.answers, answer), "version": self.version + 1, "head": head}
        )


MOST_ACTORS = 200
"""How many names a case holds: a hundred sessions of roles, each by its ARN and by its own name."""

EVERYBODY = "*"
"""In the place of more actors than a case holds: then nobody may approve."""

_SSO = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/AWSReservedSSO_[^/]+_[0-9a-f]{16}/(?P<person>.+)")


def principal(arn: str) -> str:
    """Whom an identity means, for telling people apart. An Identity Center user is one person under every permission set.

    Names of AWS and mail addresses are one in capitals and without; what a sign-in provider calls a subject is not
    (OpenID Connect Core, section 2).
    """
    if arn.startswith("oidc:"):
        return arn.strip()
    folded = unicodedata.normalize("NFKC", arn).casefold().strip()
    match = _SSO.fullmatch(unicodedata.normalize("NFKC", arn).strip())
    return f"identity-center:{match['person'].casefold()}" if match else folded


def principals(*actors: Actor, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Everybody among `actors` and those `known` before, sorted: by ARN, and by who is said to be behind a role.

    A session's name is anybody's to choose: it bars whoever is called so, and lets nobody in. With more than a case can
    hold it is everybody: whoever chooses session names must not choose who is forgotten.
    """
    named = {*known, *(principal(actor.arn) for actor in actors if actor.arn)}
    named |= {called(one) for actor in actors for one in (actor.source_identity, actor.session) if one}
    return (EVERYBODY,) if len(named) > MOST_ACTORS or EVERYBODY in named else tuple(sorted(named))


def named(identity: str) -> frozenset[str]:
    """What an identity by itself is called: as a principal, and by the bare name at its end."""
    mine = principal(identity)
    return frozenset({mine, called(mine.rpartition(":")[2].rpartition("/")[2])})


def called(name: str) -> str:
    """A person by a bare name, as source identities and owners are written."""
    return f"called:{unicodedata.normalize('NFKC', name).casefold().strip()}"
