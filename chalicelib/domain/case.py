"""A case: our durable record of one remediation's journey on one target, its life cycle and its generation.

A case is found by its digest (remediation, account, Region, target) and named by digest and episode. Each event that
joins raises `generation`; a run may close the case only at the generation that it assessed, so that no event which
arrives while a run is under way is lost.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import Field, JsonValue

from chalicelib.domain.approval import EVERYBODY, Ask, Undone
from chalicelib.domain.contract import CallResult, Cause, Outcome, Plan
from chalicelib.domain.finding import Actor, Model, Origin, Target, digest
from chalicelib.domain.record import Head
from chalicelib.domain.ticket import Ticket

FRESH = timedelta(hours=1)
"""A violation older than this is never repaired without a person (ARCHITECTURE §1, sentence 12)."""

SESSIONS_KEPT = 8
"""How many runs back a case remembers its own session names, to know its own late CloudTrail events."""

_ID = re.compile(r"(?P<digest>[a-z2-7]{20})-(?P<episode>[0-9]{1,6})")
_SESSION = re.compile(r"redress-(?P<digest>[a-z2-7]{20})-(?P<episode>[0-9]{1,6})-(?P<seq>[0-9]{1,6})")


class CaseState(StrEnum):
    """Where a case stands. `open` is seen and not repaired; the last four are ends."""

    OPEN = "open"
    WAITING = "waiting"
    RUNNING = "running"
    TICKETED = "ticketed"
    EXEMPT = "exempt"
    STALE = "stale"
    EXPIRED = "expired"
    DENIED = "denied"
    CLOSED = "closed"

    @property
    def ended(self) -> bool:
        """True when the next event on the target starts a new episode."""
        return self in ENDS


ENDS = frozenset({CaseState.CLOSED, CaseState.EXEMPT, CaseState.DENIED, CaseState.EXPIRED})

DEMANDS = (
    CaseState.CLOSED,
    CaseState.EXEMPT,
    CaseState.DENIED,
    CaseState.EXPIRED,
    CaseState.OPEN,
    CaseState.STALE,
    CaseState.TICKETED,
    CaseState.WAITING,
    CaseState.RUNNING,
)
"""In rising order of what a state asks of people: a case of several controls stands where the most demanding stands."""


class JoinedCause(Model):
    """What the case has taken in: what it opened, by whom, when, for which controls. Only an event tells who changed it."""

    event_id: str
    at: datetime
    actor: Actor
    controls: tuple[str, ...]
    opened: tuple[str, ...] = ()
    origin: Origin = Origin.EVENT

    @property
    def source(self) -> tuple[str, str]:
        """How we came by it, and from whom or what, for people."""
        who = self.actor.arn or self.actor.role_arn or self.actor.type
        said = {
            Origin.EVENT: ("Changed by", who),
            Origin.REQUEST: ("Looked at for", who),
            Origin.CLAIM: ("Found by", "another service"),
            Origin.SWEEP: ("Found by", "a sweep"),
        }
        return said.get(self.origin, ("Found by", "another look"))


class Run(Model):
    """One execution, from INTENT to RESULT: what was decided, on which state, and until when it holds the target."""

    seq: int
    source_id: str
    controls: tuple[str, ...]
    generation: int
    started_at: datetime
    lease_until: datetime
    cause: Cause
    before: dict[str, JsonValue]
    plan: Plan
    plan_hash: str
    results: tuple[CallResult, ...] = ()
    approved_by: str = ""
    undo: Undone | None = None
    """What this run takes back, and until when the target is exempt afterwards; None for a run that repairs."""


class Denied(Model):
    """A person's no to one plan, and when."""

    plan_hash: str
    at: datetime


class Case(Model):
    """The case as it stands now. `version` rises with every write and guards every write.

    `causes` are those of the last hour, `actors` the principals behind all that this episode has ever taken in. `ask` is what a person
    is being asked (while waiting), `ticket` the newest ticket on this digest, `wakes_at` when an exemption or a snooze ends,
    `inherited` the controls whose failing stood in the baseline report and nobody asked for since. `found` has a digest of what was
    last found for each control: a sweep that finds the same again has nothing to write.
    """

    digest: str
    episode: int
    remediation: str
    target: Target
    state: CaseState
    controls: tuple[str, ...]
    standing: dict[str, CaseState] = Field(default_factory=dict)
    generation: int
    assessed: int = 0
    causes: tuple[JoinedCause, ...] = ()
    actors: tuple[str, ...] = ()
    run: Run | None = None
    runs: int = 0
    head: Head = Head()
    version: int = 0
    opened_at: datetime
    updated_at: datetime
    decision: str = ""
    outcome: Outcome | None = None
    reason: str = ""
    plan_hash: str = ""
    last_state: dict[str, JsonValue] | None = None
    sessions: tuple[str, ...] = ()
    ask: Ask | None = None
    asks: int = 0
    ticket: Ticket | None = None
    denied: Denied | None = None
    wakes_at: datetime | None = None
    inherited: tuple[str, ...] = ()
    found: dict[str, str] = Field(default_factory=dict)
    owner: str = ""
    acted_at: datetime | None = None
    acted_before: dict[str, JsonValue] | None = None

    @property
    def id(self) -> str:
        """Digest and episode: the case's name everywhere, short enough for a role session name."""
        return f"{self.digest}-{self.episode}"

    def where(self, controls: Iterable[str], state: CaseState) -> dict[str, Any]:
        """The change that puts these controls into `state`; the case goes where its most demanding control stands.

        What one event says of one control never ends what is open for another.
        """
        standing = {**self.standing, **dict.fromkeys(controls, state)}
        return {"standing": standing, "state": max(standing.values(), key=DEMANDS.index)}

    def made_by(self, mine: frozenset[str]) -> bool:
        """True when whoever is called all of `mine` had a hand in what is wrong; what is well is nobody's change."""
        return self.state is not CaseState.CLOSED and (
            EVERYBODY in self.actors or bool(mine & {*self.actors})
        )

    @property
    def shown_cause(self) -> JoinedCause | None:
        """The cause that people are shown: the newest event, or, where none told of it, the newest of the others."""
        return max(self.causes, key=lambda cause: (cause.origin is Origin.EVENT, cause.at), default=None)

    @property
    def pending(self) -> bool:
        """True when an event joined after the last assessment, so that somebody still has to look."""
        return self.assessed < self.generation


class Lock(Model):
    """The one open run of a target: which case holds it, and until when."""

    case: str
    run: int
    lease_until: datetime
    version: int

    def held(self, now: datetime) -> bool:
        """True while the lease runs; a lease that has run out belongs to a run that died."""
        return now < self.lease_until


def case_digest(remediation: str, target: Target) -> str:
    """The stable part of a case's id."""
    return digest(remediation, target.account, target.region, target.type, target.id)


def session_name(case_id: str, run: int) -> str:
    """The role session under which a run acts: CloudTrail shows it, and by it we know our own events."""
    return f"redress-{case_id}-{run}"


def parts_of(case_id: str) -> tuple[str, int] | None:
    """Digest and episode of a case's id, or None when the text is no such id."""
    match = _ID.fullmatch(case_id)
    return (match["digest"], int(match["episode"])) if match else None


def case_of_session(session: str | None) -> tuple[str, int, int] | None:
    """Digest, episode and run that a session name claims, or None. A claim only: the case must confirm it."""
    match = _SESSION.fullmatch(session or "")
    return (match["digest"], int(match["episode"]), int(match["seq"])) if match else None


def cause_of(case: Case, now: datetime) -> Cause:
    """The causes of a case as one: the newest event's time and actor, and all that fresh events opened."""
    newest = max(case.causes, key=lambda cause: cause.at)
    opened = sorted({rule for cause in case.causes if _fresh(cause.at, now) for rule in cause.opened})
    return Cause(
        at=newest.at,
        actor=newest.actor,
        opened=tuple(opened),
        last_state=case.last_state,
        acted_at=case.acted_at,
        acted_before=case.acted_before,
    )


def _fresh(at: datetime, now: datetime) -> bool:
    """Within the window, in either direction: a time far in the future is not evidence of recency."""
    return abs(now - at) <= FRESH


def is_fresh(cause: Cause, now: datetime) -> bool:
    """True when the newest cause lies within the freshness window."""
    return _fresh(cause.at, now)
