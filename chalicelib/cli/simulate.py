"""Simulate: what the engine would decide for one event, and the calls that it would make. Nothing here can write.

The walk's own functions are used, up to the decision and no further: no executor is ever built.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from chalicelib.domain.case import is_fresh
from chalicelib.domain.contract import AnyRemediation, Cause, Mode, Params, Plan, State, plan_hash
from chalicelib.domain.control import Control
from chalicelib.domain.decision import Decision, Facts, decide
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.finding import Finding, NotOurs, Signal, Target
from chalicelib.flow import classify, intake
from chalicelib.flow.command import said_plainly
from chalicelib.flow.visit import params_of

ASSUMED = (
    "no exemption, no freeze, no limit reached, nobody's answer; an enrolled account, looked at before; not one of our own "
    "roles nor a deployment role; a mode that was raised only now"
)
"""What a simulation cannot know without the deployment's tables."""

ReadState = Callable[[AnyRemediation, Target, Params], State]


@dataclass(frozen=True)
class Simulated:
    """One remediation on one target: what was seen, what would be decided, what would be called."""

    remediation: str
    target: Target
    controls: tuple[str, ...]
    mode: Mode
    state: State
    decision: Decision
    plan: Plan
    hash: str

    def shown(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "remediation": self.remediation,
            "account": self.target.account,
            "region": self.target.region,
            "resource": self.target.resource,
            "controls": list(self.controls),
            "mode": self.mode.value,
            "decision": self.decision.verdict.value,
            "rule": self.decision.rule,
            "reason": self.decision.reason,
            "calls": [call.model_dump(mode="json") for call in self.plan.calls],
            "declined": [item.model_dump(mode="json") for item in self.plan.declined],
            "monthly_cost": self.plan.monthly_cost.model_dump(mode="json"),
            "plan_hash": self.hash,
            "state": self.state.model_dump(mode="json"),
            "assumed": ASSUMED,
        }


def simulate(
    envelope: Mapping[str, Any],
    catalog: classify.Controls,
    remediations: Iterable[AnyRemediation],
    read_state: ReadState,
    mode: Mode,
    now: Callable[[Signal], datetime],
) -> tuple[Simulated, ...] | NotOurs:
    """Every decision that the event would lead to, with `mode` set for every control (capped by its ceiling).

    When nothing that the event tells is ours, the first reason.
    """
    told = [_told(one, catalog, remediations, read_state, mode, now) for one in intake.read(envelope)]
    return tuple(one for some in told if not isinstance(some, NotOurs) for one in some) or next(
        one for one in told if isinstance(one, NotOurs)
    )


def _told(
    signal: Signal | NotOurs,
    catalog: classify.Controls,
    remediations: Iterable[AnyRemediation],
    read_state: ReadState,
    mode: Mode,
    now: Callable[[Signal], datetime],
) -> tuple[Simulated, ...] | NotOurs:
    if isinstance(signal, NotOurs):
        return signal
    found = classify.findings(signal, catalog)
    if isinstance(found, NotOurs):
        return found
    of_control = {control: remediation for remediation in remediations for control in remediation.controls}
    controls = {control.id: control for control in catalog.controls}
    grouped: dict[tuple[str, Target, Mode], list[Finding]] = {}
    for finding in found:
        if finding.control in of_control:
            capped = min(mode, controls[finding.control].most)
            grouped.setdefault((of_control[finding.control].id, finding.target, capped), []).append(finding)
    if not grouped:
        names = ", ".join(sorted(finding.control for finding in found))
        return NotOurs(
            event_id=signal.event_id, reason=f"no remediation covers {names}: it would be a ticket at most"
        )
    return tuple(
        _one(
            of_control[group[0].control],
            target,
            [controls[one.control] for one in group],
            capped,
            group,
            read_state,
            now(signal),
        )
        for (_, target, capped), group in grouped.items()
    )


def _one(
    remediation: AnyRemediation,
    target: Target,
    controls: list[Control],
    mode: Mode,
    findings: list[Finding],
    read_state: ReadState,
    at: datetime,
) -> Simulated:
    params = params_of(remediation, controls)
    state = read_state(remediation, target, params)
    newest = max(findings, key=lambda finding: finding.at)
    cause = Cause(at=newest.at, actor=newest.actor)
    if is_fresh(cause, at):
        opened = tuple(sorted({rule for finding in findings for rule in finding.opened}))
        cause = cause.model_copy(update={"opened": opened})
    plan = remediation.plan(target, params, state, cause, at)
    decision = decide(
        Facts(
            mode=mode,
            compliant=state.compliant,
            has_calls=bool(plan.calls),
            has_declined=bool(plan.declined),
            plan_at_most=plan.at_most,
            created_by_event=bool(cause.opened),
            fresh=is_fresh(cause, at),
            exempt=False,
            frozen=False,
            over_limit=False,
            own_role=False,
            starts_cost=plan.monthly_cost.usd_cents != 0,
        )
    )
    return Simulated(
        remediation=remediation.id,
        target=target,
        controls=tuple(sorted(control.id for control in controls)),
        mode=mode,
        state=state,
        decision=decision,
        plan=plan,
        hash=plan_hash(plan, target, params, {control.id: control.version for control in controls}),
    )


def state_from(document: object) -> ReadState:
    """A reading that finds what stands in a file: a remediation's State as JSON."""

    def read(remediation: AnyRemediation, target: Target, params: Params) -> State:
        del target, params
        try:
            state: State = remediation.state.model_validate_json(json.dumps(document))
        except ValidationError as error:
            raise RefusedCommandError(
                f"that is no state of {remediation.id}: {said_plainly(error)}"
            ) from error
        return state

    return read
