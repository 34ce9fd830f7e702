"""What the walk carries from stage to stage: a visit to one target, how far it has come, and what became of it."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from chalicelib.domain.approval import Answer, Ask
from chalicelib.domain.case import Case, CaseState, JoinedCause
from chalicelib.domain.contract import AnyRemediation, Mode, Outcome, Params
from chalicelib.domain.control import Control
from chalicelib.domain.errors import BusyError, ConflictError
from chalicelib.domain.finding import Actor, Origin, Signal, Target, partition_of
from chalicelib.domain.limits import Limits
from chalicelib.domain.ports import Exemption, Gate
from chalicelib.domain.record import Draft
from chalicelib.domain.shape import sequence

T = TypeVar("T")

ATTEMPTS = 8
"""How often it is looked again after losing a conditional write before the message is given back."""

OWN_ROLES = ("engine", "read", "act", "undo", "http", "outbox", "undoer", "notifier")


@dataclass(frozen=True)
class Home:
    """The deployment, as far as the walk needs to know it."""

    account: str
    region: str
    prefix: str
    version: str
    lease: timedelta
    limits: Limits

    def role(self, arn: str | None, account: str, names: Iterable[str]) -> bool:
        """True for exactly one of this deployment's roles of these names in that account."""
        partition = partition_of(self.region)
        return arn in {f"arn:{partition}:iam::{account}:role/{self.prefix}-{name}" for name in names}

    def own_role(self, arn: str | None, account: str) -> bool:
        """True for any of this deployment's roles, at home or in the account of the event."""
        return self.role(arn, self.account, OWN_ROLES) or self.role(arn, account, OWN_ROLES)


@dataclass(frozen=True)
class Walked:
    """What became of one visit, for logs and metrics: `seconds` is from the event's own time to now."""

    event_id: str
    verdict: str
    rule: str
    reason: str
    case: str = ""
    controls: tuple[str, ...] = ()
    account: str = ""
    region: str = ""
    resource: str = ""
    outcome: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Approval:
    """People's yes to the plan of one ask: as many as its rule asks for."""

    ask: Ask
    answers: tuple[Answer, ...]

    @property
    def by(self) -> str:
        """Who approved, for people and for the record."""
        return ", ".join(answer.by for answer in self.answers)


@dataclass(frozen=True)
class Visit:
    """One look at one target, for one thing that we were told: the controls that share a remediation."""

    key: str
    signal: Signal
    remediation: AnyRemediation
    target: Target
    controls: tuple[Control, ...]
    opened: tuple[str, ...] = ()
    own: bool = False
    """One of our own roles made the change."""
    coded: bool = False
    """A configured deployment role made it."""
    baseline: frozenset[str] = frozenset()
    """The controls that a sweep looks at for the first time in this account."""
    approval: Approval | None = None
    """A person approved a plan on this target; nothing new was told."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the controls, sorted."""
        return tuple(sorted(control.id for control in self.controls))

    @property
    def told(self) -> bool:
        """True when somebody told us of this target by name, so that the case takes it in, once."""
        origins = {Origin.EVENT, Origin.CLAIM, Origin.REQUEST}
        return self.approval is None and self.signal.origin in origins

    @property
    def by_itself(self) -> bool:
        """True when nobody asks for this look now: a sweep, a claim about a state, an exemption that ended."""
        return self.approval is None and self.signal.origin in {Origin.CLAIM, Origin.SWEEP, Origin.WAKE}

    @property
    def once(self) -> bool:
        """True when the visit is marked as made. A sweep is not: it looks again, and writes only what is new."""
        return self.signal.origin is not Origin.SWEEP

    @property
    def cause(self) -> JoinedCause:
        """What was told as a cause of the case. What our own role or code opened is nothing to act on, now or later."""
        return JoinedCause(
            event_id=self.key,
            at=self.signal.at,
            actor=self.signal.actor,
            controls=self.ids,
            opened=() if self.own or self.coded else self.opened,
            origin=self.signal.origin,
        )


@dataclass(frozen=True)
class Levels:
    """The controls of a visit, sorted out: exempt ones, those walked together at `mode`, and a visit for the rest."""

    exempt: Mapping[str, Exemption]
    together: tuple[Control, ...]
    mode: Mode
    rest: Visit | None


@dataclass(frozen=True)
class Step:
    """A visit past the gate: the case with what was told taken in, and the controls that are walked together."""

    visit: Visit
    gate: Gate
    case: Case
    archive: Case | None
    drafts: tuple[Draft, ...]
    controls: tuple[Control, ...]
    mode: Mode

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the controls, sorted."""
        return tuple(sorted(control.id for control in self.controls))

    @property
    def seen(self) -> tuple[str, ...]:
        """What is to be marked as taken in, unless it was before."""
        return (self.visit.key,) if self.visit.once and not self.gate.seen else ()

    @property
    def baseline(self) -> bool:
        """True when nobody has had the first report on these controls here: sweep and claim go into it.

        What people are already busy with stays with them.
        """
        if self.gate.case and self.gate.case.state in {CaseState.WAITING, CaseState.TICKETED}:
            return False
        if self.visit.signal.origin is Origin.CLAIM:
            return bool(unreported(self.visit, self.gate) & set(self.ids))
        return bool(self.visit.baseline & set(self.ids))


def anew(name: str, do: Callable[[], T]) -> T:
    """What `do` gives, tried anew whenever somebody else moved the case on; BusyError, and it comes back, after too often."""
    for _ in range(ATTEMPTS):
        try:
            return do()
        except ConflictError:
            continue
    raise moving(name)


def moving(name: str) -> BusyError:
    """Others change the case all the time: whatever was wanted of it comes back."""
    return BusyError(f"case {name} is being changed by others all the time", retry_after=5)


def unreported(visit: Visit, gate: Gate) -> frozenset[str]:
    """The controls of a visit whose baseline report is still to come, and which therefore wait for it."""
    if visit.signal.origin is Origin.CLAIM:
        had = {one.control for one in gate.baselines if visit.target.region in one.regions}
        return frozenset(visit.ids) - had
    return visit.baseline & frozenset(visit.ids)


def own_word(
    origin: Origin, name: str, key: str, target: Target, at: datetime, actor: Actor | None = None
) -> Signal:
    """What the engine tells itself, in the form of a signal: a sweep, the end of an exemption, a person's request."""
    return Signal(
        event_id=key,
        source="redress",
        detail_type=name,
        name=name,
        account=target.account,
        region=target.region,
        at=at,
        actor=actor or Actor(type="Redress"),
        request_id=None,
        sha256="",
        detail={},
        origin=origin,
    )


def params_of(remediation: AnyRemediation, controls: Iterable[Control]) -> Params:
    """The remediation's parameters for these controls together: lists are united, everything else must agree."""
    merged: dict[str, Any] = {}
    for control in controls:
        for name, value in control.parameters.items():
            if isinstance(value, list):
                merged[name] = sorted({*merged.get(name, []), *sequence(value)})
            elif merged.setdefault(name, value) != value:
                message = (
                    f"controls of {remediation.id} disagree about {name}: {merged[name]!r} and {value!r}"
                )
                raise ValueError(message)
    params: Params = remediation.params.model_validate_json(json.dumps(merged))
    return params


def walked(
    visit: Visit,
    case: Case,
    now: datetime,
    verdict: str,
    rule: str,
    reason: str,
    *,
    outcome: Outcome | None = None,
    controls: tuple[str, ...] | None = None,
) -> Walked:
    """What became of a visit."""
    return Walked(
        event_id=visit.signal.event_id,
        verdict=verdict,
        rule=rule,
        reason=reason,
        case=case.id,
        controls=visit.ids if controls is None else controls,
        account=visit.target.account,
        region=visit.target.region,
        resource=visit.target.resource,
        outcome=outcome.value if outcome else "",
        seconds=max(0.0, (now - visit.signal.at).total_seconds()),
    )
