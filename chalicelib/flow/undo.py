"""Undo: restore what a run recorded, and only what it recorded, if nothing drifted since.

The calls come from the remediation's own pure `undo`; they are made through the same executor, under the undo role, and
the result is what an assessment afterwards saw. Who may start an undo is decided elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chalicelib.domain.case import Case
from chalicelib.domain.contract import AnyRemediation, Cause, Outcome, Params, Plan, RunRecord, State
from chalicelib.domain.ports import Aws, Clock
from chalicelib.flow import act


@dataclass(frozen=True)
class Undoing:
    """What an undo would do now: the state that was read and the plan that restores the recorded one."""

    now: State
    plan: Plan


def prepare(
    remediation: AnyRemediation, case: Case, params: Params, run: RunRecord[State], aws: Aws
) -> Undoing:
    """Read the target and plan its restoration; a plan with declined items means that it drifted."""
    present: State = remediation.assess(case.target, params, aws.reader(remediation, case.target))
    return Undoing(now=present, plan=remediation.undo(case.target, run, present))


def perform(
    remediation: AnyRemediation,
    case: Case,
    params: Params,
    run: RunRecord[State],
    prepared: Undoing,
    session: str,
    aws: Aws,
    clock: Clock,
    before_write: Callable[[], None],
) -> act.Achieved:
    """Make the undo's calls and look whether an undo of the same run would now find nothing to do.

    Outcome.DECLINED with nothing changed when the plan declines anything: half of the old state is not the old state.
    """
    if prepared.plan.declined:
        reason = "; ".join(f"{item.what}: {item.why}" for item in prepared.plan.declined)
        return act.Achieved((), prepared.now, Outcome.DECLINED, reason)
    if not prepared.plan.calls:
        return act.Achieved((), prepared.now, Outcome.ALREADY_COMPLIANT, "what was recorded is there already")
    job = act.Job(
        remediation=remediation,
        target=case.target,
        params=params,
        cause=Cause(at=clock.now(), actor=case.causes[-1].actor),
        plan=prepared.plan,
        session=session,
    )
    return act.apply_and_verify(
        job,
        aws,
        clock,
        before_write,
        undo=True,
        satisfied=lambda after, _: remediation.undo(case.target, run, after).satisfied,
    )
