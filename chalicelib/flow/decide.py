"""Decide: gather the facts from gate, plan and clock, and read them against the table in `domain.decision`."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from chalicelib.domain.approval import DENIED_FOR
from chalicelib.domain.case import Case, is_fresh
from chalicelib.domain.contract import Cause, Mode, Plan, State
from chalicelib.domain.control import Control
from chalicelib.domain.decision import EXEMPT, Decision, Facts, decide
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import Origin, Target
from chalicelib.domain.ports import FREEZE_ALL, Exemption, Freeze, Gate, freeze_scope
from chalicelib.flow.visit import Step, Visit


def effective_modes(gate: Gate, controls: Iterable[Control]) -> dict[str, Mode]:
    """The mode of each control here: what a person set, never above the control's ceiling; unset is observe."""
    set_here = {setting.control: setting.mode for setting in gate.modes}
    return {control.id: min(set_here.get(control.id, Mode.OBSERVE), control.most) for control in controls}


def exempted(exemptions: Iterable[Exemption], target: Target, now: datetime) -> Mapping[str, Exemption]:
    """The exemptions that hold now for this very resource, by control."""
    return {e.control: e for e in exemptions if e.resource == target.resource and now < e.expires_at}


def scopes(target: Target, controls: Iterable[str]) -> tuple[str, ...]:
    """Every kill switch that concerns the target: all, its account, and each control in it."""
    account = target.account
    return (
        FREEZE_ALL,
        freeze_scope(account),
        *(freeze_scope(account, control) for control in sorted(controls)),
    )


def frozen(freezes: Iterable[Freeze], concerned: Iterable[str]) -> Freeze | None:
    """The switch that is on, if any. The switch of everything must be there to be read: its absence is no 'off'."""
    found = {freeze.scope: freeze for freeze in freezes}
    if FREEZE_ALL not in found:
        message = "the kill switch cannot be read, so nothing is changed; `redress doctor` says whether it was ever set"
        raise StoreError(message)
    return next((found[scope] for scope in concerned if scope in found and found[scope].frozen), None)


def frozen_alone(freezes: Iterable[Freeze], target: Target, controls: Iterable[str]) -> frozenset[str]:
    """The controls whose own switch is on here: they stand back, and no other control with them."""
    on = {freeze.scope for freeze in freezes if freeze.frozen}
    return frozenset(control for control in controls if freeze_scope(target.account, control) in on)


def crossed(gate: Gate, controls: Iterable[Control], state: State) -> bool:
    """True when every control is time-based and was raised to act before the violation began, by the clock alone."""
    since = state.since
    raised = {setting.control: setting.at for setting in gate.modes if setting.mode is Mode.ACT}
    return since is not None and all(
        control.time_based and control.id in raised and raised[control.id] < since for control in controls
    )


def deployed_as_code(gate: Gate, visit: Visit) -> bool:
    """True when a role that an operator configured as one under which code is deployed made the change."""
    role = gate.deployment_role
    return (
        role is not None
        and not role.removed
        and role.role_arn == visit.signal.actor.role_arn
        and visit.signal.origin is Origin.EVENT
    )


def denied(case: Case, visit: Visit, plan_hash: str, now: datetime) -> bool:
    """True when a person refused this very plan not long ago, and nobody has asked since."""
    no = case.denied
    return visit.by_itself and no is not None and no.plan_hash == plan_hash and now - no.at < DENIED_FOR


def stale(visit: Visit, plan_hash: str) -> int:
    """0 when no approval is at hand, or it fits; 1 when it is for another plan, 2 when that happened before."""
    if visit.approval is None or visit.approval.ask.plan_hash == plan_hash:
        return 0
    return 2 if visit.approval.ask.again else 1


def spared(exemptions: Iterable[Exemption]) -> Decision:
    """The decision where every control is exempt, made at the gate: these are the exemptions, and nothing is read."""
    reason = "; ".join(
        f"{e.control}: exempt until {e.expires_at.date().isoformat()}, owner {e.owner}" for e in exemptions
    )
    return decide(EXEMPT).model_copy(update={"reason": reason})


def weigh(
    step: Step,
    state: State,
    plan: Plan,
    plan_hash: str,
    cause: Cause,
    now: datetime,
    *,
    is_frozen: bool,
    over_limit: bool,
    tripped: bool = False,
) -> Decision:
    """The decision on one plan, for controls that are not exempt: the gate has sorted those out."""
    visit = step.visit
    unfit = stale(visit, plan_hash)
    return decide(
        Facts(
            mode=step.mode,
            compliant=state.compliant,
            has_calls=bool(plan.calls),
            has_declined=bool(plan.declined),
            plan_at_most=plan.at_most,
            created_by_event=bool(cause.opened) and visit.signal.origin is Origin.EVENT,
            fresh=is_fresh(cause, now),
            frozen=is_frozen,
            over_limit=over_limit,
            own_role=visit.own,
            starts_cost=plan.monthly_cost.usd_cents != 0,
            crossed_since_raised=crossed(step.gate, step.controls, state),
            baseline=step.baseline,
            inherited=visit.by_itself and {*step.ids} <= {*step.case.inherited},
            denied=denied(step.case, visit, plan_hash, now),
            approved=visit.approval is not None and not unfit,
            stale=unfit,
            deployed_as_code=visit.coded,
            tripped=tripped,
        )
    )
