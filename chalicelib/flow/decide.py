"""Decide: gather the facts from gate, plan and clock, and read them against the table in `domain.decision`."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from chalicelib.domain.case import is_fresh
from chalicelib.domain.contract import Cause, Mode, Plan, State
from chalicelib.domain.control import Control
from chalicelib.domain.decision import Decision, Facts, decide
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import Target
from chalicelib.domain.ports import FREEZE_ALL, Exemption, Freeze, Gate


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
        f"ACCOUNT#{account}",
        *(f"CONTROL#{account}#{control}" for control in sorted(controls)),
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
    return frozenset(control for control in controls if f"CONTROL#{target.account}#{control}" in on)


def weigh(
    *,
    mode: Mode,
    state: State,
    plan: Plan,
    cause: Cause,
    now: datetime,
    is_frozen: bool,
    over_limit: bool,
    own_role: bool,
) -> Decision:
    """The decision on one plan."""
    return decide(
        Facts(
            mode=mode,
            compliant=state.compliant,
            has_calls=bool(plan.calls),
            has_declined=bool(plan.declined),
            plan_at_most=plan.at_most,
            created_by_event=bool(cause.opened),
            fresh=is_fresh(cause, now),
            exempt=False,
            frozen=is_frozen,
            over_limit=over_limit,
            own_role=own_role,
            starts_cost=plan.monthly_cost.usd_cents != 0,
        )
    )
