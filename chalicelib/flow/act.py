"""Act: apply a plan through the one executor, then verify by assessing and planning again.

Nothing here decides whether to act. Before every single write the kill switch, the reservation and the lease are read
again; what a run achieved is only what an assessment afterwards saw.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import JsonValue

from chalicelib.domain.contract import AnyRemediation, CallResult, Cause, Outcome, Params, Plan, State
from chalicelib.domain.errors import (
    AccessDeniedError,
    AwsError,
    FrozenError,
    GuardError,
    LeaseError,
    TargetGoneError,
    TransientError,
)
from chalicelib.domain.finding import Target, digest
from chalicelib.domain.ports import Aws, Clock

CALL_LASTS = timedelta(seconds=20)
"""The longest that one call may take (connect 5 s, read 10 s, and air): it must end before the lease does."""

SETTLE_STEP_SECONDS = 1.0


@dataclass(frozen=True)
class Job:
    """One plan on one target, with everything that verifying needs."""

    remediation: AnyRemediation
    target: Target
    params: Params
    cause: Cause
    plan: Plan
    session: str


@dataclass(frozen=True)
class Achieved:
    """What a run came to: each call's result, the state that was read afterwards, the outcome and its reason."""

    results: tuple[CallResult, ...]
    after: State | None
    outcome: Outcome
    reason: str
    moved: bool = False
    """A call was refused because the target changed under it, and what is there now needs other calls."""


def apply_and_verify(
    job: Job,
    aws: Aws,
    clock: Clock,
    before_write: Callable[[], None],
    *,
    remaining: Collection[int] | None = None,
    undo: bool = False,
    satisfied: Callable[[State, Plan], bool] | None = None,
) -> Achieved:
    """Make the calls of `job` (all, or those whose index is in `remaining`), then look.

    TransientError when a call's outcome is unknown and the state does not show it: the run stays open and is settled
    by a later re-assessment. StoreError when a guard cannot be read: likewise.
    """
    results, error = _apply(job, aws, before_write, remaining, undo=undo)
    try:
        after, again = _settle(job, aws, clock, 0 if error else job.remediation.settle_seconds)
    except TransientError:
        raise
    except (AwsError, TargetGoneError) as unreadable:
        written = any(done.error is None for done in results)
        reason = f"the target could not be read afterwards: {unreadable}"
        return Achieved(results, None, Outcome.NOT_VERIFIED if written else Outcome.FAILED, reason)
    reached = satisfied(after, again) if satisfied else again.satisfied
    if isinstance(error, TransientError) and not reached:
        raise error
    left = {call.identity for call in again.calls}
    moved = bool(left) and left.isdisjoint(call.identity for call in job.plan.calls)
    outcome, reason = _outcome(
        results, error, reached=reached, compliant=after.compliant or undo, moved=moved
    )
    refused = isinstance(error, AwsError) and not isinstance(error, AccessDeniedError)
    return Achieved(results, after, outcome, reason, moved=moved and refused)


def _apply(
    job: Job, aws: Aws, before_write: Callable[[], None], remaining: Collection[int] | None, *, undo: bool
) -> tuple[tuple[CallResult, ...], AwsError | GuardError | None]:
    wanted = range(len(job.plan.calls)) if remaining is None else remaining
    results: list[CallResult] = []
    responses: list[dict[str, JsonValue]] = []
    if not wanted:
        return tuple(lost(index) for index in range(len(job.plan.calls))), None
    try:
        executor = aws.executor(job.remediation, job.target, job.plan, job.session, undo=undo)
        for index, call in enumerate(job.plan.calls):
            if index not in wanted:
                results.append(lost(index))
                responses.append({})
                continue
            before_write()
            try:
                done, response = executor.perform(call, digest(job.session, str(index)), tuple(responses))
            except TransientError as unknown:  # it may have been made: only the target can say
                return (*results, lost(index)), unknown
            results.append(done.model_copy(update={"index": index}))
            responses.append(response)
    except LeaseError:
        raise
    except AwsError as error:
        refused = CallResult(
            index=len(results),
            request_id=error.request_id,
            observed_by="response",
            error=f"{error.code}: {error}",
        )
        return (*results, refused), error
    except GuardError as error:
        return tuple(results), error
    return tuple(results), None


def lost(index: int) -> CallResult:
    """A call whose answer nobody has (a crash or a time-out took it): its effect is seen, its request id may follow."""
    return CallResult(index=index, request_id=None, observed_by="reassessment")


def _settle(job: Job, aws: Aws, clock: Clock, seconds: int) -> tuple[State, Plan]:
    """Assess and plan until the plan is satisfied or the service has had `seconds` to settle.

    What needs other calls than ours is no matter of settling: somebody changed the target, and waiting cures nothing.
    """
    ours = {call.identity for call in job.plan.calls}
    until = clock.now() + timedelta(seconds=seconds)
    while True:
        after: State = job.remediation.assess(job.target, job.params, aws.reader(job.remediation, job.target))
        again = job.remediation.plan(job.target, job.params, after, job.cause, clock.now())
        needs_ours = any(call.identity in ours for call in again.calls)
        if again.satisfied or not needs_ours or clock.now() >= until:
            return after, again
        clock.sleep(SETTLE_STEP_SECONDS)


def _outcome(  # noqa: PLR0911 -- one way out for each outcome
    results: tuple[CallResult, ...],
    error: AwsError | GuardError | None,
    *,
    reached: bool,
    compliant: bool,
    moved: bool,
) -> tuple[Outcome, str]:
    """The outcome from what was observed. A refusal that leaves the plan unsatisfied is never a success."""
    written = any(done.error is None for done in results)
    if reached:
        if not compliant:
            return (
                Outcome.CONTAINED,
                "everything that the plan may do is done; the control itself still fails",
            )
        if error and not written:
            return (
                Outcome.ALREADY_COMPLIANT,
                f"our call was refused ({error}), and the target is compliant now",
            )
        return Outcome.FIXED, "assessed again: nothing is left to do"
    if isinstance(error, FrozenError) and not written:
        return Outcome.DECLINED, str(error)
    if error:
        return Outcome.FAILED, str(error)
    if moved:
        return (
            Outcome.NOT_VERIFIED,
            "the calls took effect, and meanwhile the target was changed and needs others",
        )
    return (
        Outcome.NOT_VERIFIED,
        "the calls were made, and the state that was read afterwards still needs them",
    )


def within_lease(lease_until: datetime, now: datetime) -> None:
    """LeaseError when a call started now could end after the lease, when another run may hold the target."""
    if now + CALL_LASTS > lease_until:
        message = f"a call started now could outlive the lease, which ends at {lease_until.isoformat()}"
        raise LeaseError(message)
