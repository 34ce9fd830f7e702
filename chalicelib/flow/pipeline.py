"""The walk of one event, top to bottom: intake, classify, gate, assess, plan, decide, act, verify, record, notify.

Every stage that writes does it in one conditional transaction. Whoever loses such a write looks again from the gate:
that is all there is to concurrency here. A crash anywhere leaves a lease that runs out, and the redelivered message
settles what the dead run began by looking at the resource, not by remembering.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.case import (
    FRESH,
    SESSIONS_KEPT,
    Case,
    CaseState,
    JoinedCause,
    Lock,
    Run,
    case_digest,
    case_of_session,
    cause_of,
    is_fresh,
    session_name,
)
from chalicelib.domain.contract import AnyRemediation, Mode, Outcome, Params, Plan, State, plan_hash
from chalicelib.domain.control import Control
from chalicelib.domain.decision import Decision, Verdict
from chalicelib.domain.errors import (
    AwsError,
    BusyError,
    ConflictError,
    FrozenError,
    LimitError,
    OversizeError,
    TargetGoneError,
    TransientError,
)
from chalicelib.domain.finding import Finding, NotOurs, Signal, Target, partition_of
from chalicelib.domain.limits import Limits, Reservation, over
from chalicelib.domain.ports import Aws, Cases, Change, Clock, Exemption, Gate, Notice, Question
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.domain.shape import sequence
from chalicelib.flow import act, classify, decide, intake, notify, record

ATTEMPTS = 8
"""How often a visit looks again after losing a conditional write before it gives the message back."""

CAUSES_KEPT = 50
"""Events of the last hour that a case remembers; beyond them the oldest lose their claim to be acted on."""

REST = intake.FORBIDDEN_IN_IDS
"""Between an event's id and the controls of its second visit."""

EVENT_ID = 256
"""Longer than any id that AWS gives; what is longer (or no ASCII) is somebody's invention and goes by its digest."""

REMEMBERED = timedelta(hours=24)
"""CloudTrail shows our own calls minutes later; a session name older than this is no excuse for a change."""

OWN_ROLES = ("engine", "read", "act", "undo", "http")


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
class Visit:
    """One look at one target for one event: the findings that share a remediation."""

    key: str
    signal: Signal
    remediation: AnyRemediation
    target: Target
    controls: tuple[Control, ...]
    opened: tuple[str, ...]
    own: bool = False
    """One of our own roles made the change."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the controls, sorted."""
        return tuple(sorted(control.id for control in self.controls))

    @property
    def cause(self) -> JoinedCause:
        """The event as a cause of the case. What our own role opened is nothing that the engine may act on."""
        return JoinedCause(
            event_id=self.key,
            at=self.signal.at,
            actor=self.signal.actor,
            controls=self.ids,
            opened=() if self.own else self.opened,
        )


@dataclass(frozen=True)
class Engine:
    """The engine, built once by `bootstrap`; holds nothing of any event."""

    home: Home
    controls: Mapping[str, Control]
    catalog: classify.Controls
    remediations: Mapping[str, AnyRemediation]
    cases: Cases
    aws: Aws
    clock: Clock

    def walk(self, envelope: Mapping[str, Any]) -> tuple[Walked, ...]:
        """One event, all the way; raises when the message must come back (busy, unreadable, throttled, malformed)."""
        signal = intake.read(envelope)
        if isinstance(signal, NotOurs):
            return (self._not_ours(signal),)
        if partition_of(signal.region) != partition_of(self.home.region):
            return (self._not_ours(_no(signal, "the event comes from another AWS partition")),)
        found = classify.findings(signal, self.catalog)
        if isinstance(found, NotOurs):
            return (self._not_ours(found),)
        visits = self._visits(signal, found)
        if not visits:
            return (
                self._not_ours(_no(signal, "no remediation covers the controls that the event may break")),
            )
        return self._own_event(signal, visits) or self._all(visits)

    def _all(self, visits: list[Visit]) -> tuple[Walked, ...]:
        """Every visit is made, even when one before it failed; then the first failure is raised."""
        walked: list[Walked] = []
        failures: list[Exception] = []
        while visits:
            visit = visits.pop(0)
            try:
                done, rest = self._visit(visit)
            except Exception as failure:  # noqa: BLE001 -- kept and raised below: one visit never stops another
                failures.append(failure)
                continue
            walked.append(done)
            if rest:
                visits.insert(0, rest)
        if failures:
            raise failures[0]
        return tuple(walked)

    # -- the gate ---------------------------------------------------------------------------------------------------

    def _visit(self, visit: Visit) -> tuple[Walked, Visit | None]:
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(visit)
            except ConflictError:
                continue
        message = (
            f"case {case_digest(visit.remediation.id, visit.target)} is being changed by others all the time"
        )
        raise BusyError(message, retry_after=5)

    def _attempt(  # noqa: PLR0911 -- the gate is a list of ways out, in order
        self, visit: Visit
    ) -> tuple[Walked, Visit | None]:
        """One try from the gate on; with the controls that are left for a visit of their own."""
        now = self.clock.now()
        gate = self._gate(visit, visit.ids)
        if not gate.enrolled:
            return self._not_ours(_no(visit.signal, f"account {visit.target.account} is not enrolled")), None
        case, running = gate.case, gate.case is not None and gate.case.state is CaseState.RUNNING
        if case and gate.seen and not running and not case.pending:
            seen = "this event has been taken in before"
            return _walked(visit, case, now, "duplicate", "seen before", seen), self._levels(
                visit, gate, now
            ).rest
        if case and gate.seen and set(visit.ids) != set(case.controls):
            # Events that joined this case may concern other controls: whoever looks again looks for all of them.
            return self._attempt(
                replace(visit, controls=tuple(self.controls[name] for name in case.controls))
            )
        if gate.lock and gate.lock.held(now):
            return self._while_held(visit, gate, gate.lock, now), None
        if case and running:
            settled = self._settle(visit, gate, case, now)
            if gate.seen:
                return settled, self._levels(visit, gate, now).rest
            done, rest = self._visit(visit)
            return (settled if done.verdict == "duplicate" else done), rest
        return self._fresh(visit, gate, now)

    def _gate(self, visit: Visit, controls: Iterable[str]) -> Gate:
        return self.cases.look(
            Question(
                event_id=visit.key,
                case=case_digest(visit.remediation.id, visit.target),
                target=visit.target,
                controls=tuple(sorted(controls)),
                actor_key=visit.signal.actor.key,
            )
        )

    def _levels(self, visit: Visit, gate: Gate, now: datetime) -> "_Levels":
        """Which of the visit's controls are walked together: those of the highest mode, and none that is frozen alone.

        The rest is a visit of its own, whatever becomes of these: its own key keeps it from being made twice.
        """
        exempt = decide.exempted(gate.exemptions, visit.target, now)
        modes = decide.effective_modes(gate, (c for c in visit.controls if c.id not in exempt))
        stopped = decide.frozen_alone(gate.freezes, visit.target, modes)
        level = {name: (name not in stopped, mode.rank) for name, mode in modes.items()}
        top = max(level.values(), default=None)
        together = tuple(c for c in visit.controls if c.id in level and level[c.id] == top)
        rest = tuple(c for c in visit.controls if c.id in level and level[c.id] != top)
        mode = modes[together[0].id] if together else Mode.OBSERVE
        return _Levels(exempt, together, mode, _rest(visit, rest))

    def _while_held(self, visit: Visit, gate: Gate, lock: Lock, now: datetime) -> Walked:
        """Another run holds the target: join its case, which must then look again; else come back later."""
        case = gate.case
        if case and case.state is CaseState.RUNNING and lock.case == case.id and not gate.seen:
            joined = self._take_in(case, visit, now)
            drafts = (
                record.received(visit.signal, joined, visit.key, visit.ids, visit.opened),
                *_own_drafts(visit, joined),
            )
            self._commit(joined, now, drafts, seen=(visit.key,), notices=_own_notices(visit, joined, now))
            return _walked(
                visit,
                joined,
                now,
                "joined",
                "open run",
                "a run on this target is under way and will look again",
            )
        left = max(1, int((lock.lease_until - now).total_seconds()) + 1)
        message = f"{visit.target.resource} is in the hands of case {lock.case}"
        raise BusyError(message, retry_after=left)

    def _fresh(self, visit: Visit, gate: Gate, now: datetime) -> tuple[Walked, Visit | None]:
        """Nobody holds the target: the event's own walk."""
        previous = gate.case
        archive = previous if previous and previous.state.ended and not gate.seen else None
        case = previous if previous and gate.seen else self._opened(visit, previous, now)
        levels = self._levels(visit, gate, now)
        case = case.model_copy(update=case.where(levels.exempt, CaseState.EXEMPT)) if levels.exempt else case
        drafts = (
            [] if gate.seen else [record.received(visit.signal, case, visit.key, visit.ids, visit.opened)]
        )
        drafts += _own_drafts(visit, case)
        if not levels.together:
            return self._exempt(visit, gate, case, archive, drafts, now), None
        step = _Step(visit, gate, case, archive, tuple(drafts), levels.together, levels.mode)
        return self._look(step, now), levels.rest

    def _opened(self, visit: Visit, previous: Case | None, now: datetime) -> Case:
        """The case with this event taken in: the open one, or the next episode after one that ended."""
        if previous and not previous.state.ended:
            return self._take_in(previous, visit, now)
        return Case(
            digest=case_digest(visit.remediation.id, visit.target),
            episode=previous.episode + 1 if previous else 1,
            remediation=visit.remediation.id,
            target=visit.target,
            state=CaseState.OPEN,
            controls=visit.ids,
            standing=dict.fromkeys(visit.ids, CaseState.OPEN),
            generation=1,
            causes=(visit.cause,),
            version=previous.version if previous else 0,
            opened_at=now,
            updated_at=now,
            last_state=previous.last_state if previous else None,
            sessions=previous.sessions if previous else (),
        )

    def _take_in(self, case: Case, visit: Visit, now: datetime) -> Case:
        kept = [cause for cause in case.causes if abs(now - cause.at) <= FRESH][-CAUSES_KEPT:]
        return case.model_copy(
            update={
                "generation": case.generation + 1,
                "causes": (*kept, visit.cause),
                "controls": tuple(sorted({*case.controls, *visit.ids})),
                "standing": {
                    **case.standing,
                    **{name: CaseState.OPEN for name in visit.ids if _at_rest(case, name)},
                },
            }
        )

    # -- assess, plan, decide ---------------------------------------------------------------------------------------

    def _look(self, step: "_Step", now: datetime) -> Walked:
        visit, case = step.visit, step.case
        params = params_of(visit.remediation, step.controls)
        cause = cause_of(case, now)
        try:
            state = visit.remediation.assess(
                visit.target, params, self.aws.reader(visit.remediation, visit.target)
            )
        except TargetGoneError as gone:
            decision = Decision(verdict=Verdict.IGNORE, rule="gone", reason=str(gone))
            return self._stand_back(step, now, decision, None, None, "")
        except TransientError:
            raise
        except AwsError as refused:
            return self._unread(step, now, str(refused))
        plan = visit.remediation.plan(visit.target, params, state, cause, now)
        versions = {control.id: control.version for control in step.controls}
        hashed = plan_hash(plan, visit.target, params, versions)
        wanted = Reservation(
            at=now, case=case.id, run=case.runs + 1, controls=step.ids, writes=len(plan.calls)
        )
        too_much = over(self.home.limits, step.gate.account_spent, step.gate.actor_spent, wanted)
        concerned = decide.scopes(visit.target, step.ids)
        switch = decide.frozen(step.gate.freezes, concerned) if step.mode is not Mode.OBSERVE else None
        decision = decide.weigh(
            mode=step.mode,
            state=state,
            plan=plan,
            cause=cause,
            now=now,
            is_frozen=switch is not None,
            over_limit=too_much is not None,
            own_role=visit.own,
        )
        if decision.rule == "over a limit" and too_much:
            decision = decision.model_copy(update={"reason": too_much})
        if decision.rule == "frozen" and switch:
            decision = decision.model_copy(update={"reason": f"frozen by {switch.by}: {switch.reason}"})
        if decision.verdict is not Verdict.ACT:
            return self._stand_back(step, now, decision, state, plan, hashed)
        run = Run(
            seq=wanted.run,
            source_id=visit.key,
            controls=step.ids,
            generation=case.generation,
            started_at=now,
            lease_until=now + self.home.lease,
            cause=cause,
            before=state.model_dump(mode="json"),
            plan=plan,
            plan_hash=hashed,
        )
        return self._act(step, run, wanted, params, decision, now)

    def _stand_back(
        self,
        step: "_Step",
        now: datetime,
        decision: Decision,
        state: State | None,
        plan: Plan | None,
        hashed: str,
    ) -> Walked:
        """Every verdict but act: one transaction that says what was seen and why nothing is done."""
        visit = step.visit
        outcome = Outcome.ALREADY_COMPLIANT if decision.verdict is Verdict.IGNORE else None
        case = step.case.model_copy(
            update={
                **step.case.where(step.ids, _STATE_OF[decision.verdict]),
                "assessed": step.case.generation,
                "decision": decision.verdict.value,
                "reason": decision.reason,
                "outcome": outcome,
                "plan_hash": hashed,
                "last_state": state.model_dump(mode="json") if state else None,
            }
        )
        modes = dict.fromkeys(step.ids, step.mode.value)
        drafts = (
            *step.drafts,
            record.decided(case, visit.key, now, decision, modes, plan=plan, plan_hash=hashed, state=state),
        )
        notices = (*notify.decided(case, decision, now), *_own_notices(visit, case, now))
        try:
            self._commit(case, now, drafts, seen=step.seen, archive=step.archive, notices=notices)
        except OversizeError as error:
            if state is None:
                raise
            return self._too_large(step, now, hashed, error)
        return _walked(
            visit,
            case,
            now,
            decision.verdict.value,
            decision.rule,
            decision.reason,
            outcome=outcome,
            controls=step.ids,
        )

    def _too_large(self, step: "_Step", now: datetime, hashed: str, error: OversizeError) -> Walked:
        """What cannot be recorded is not done: a ticket says so, without the state that does not fit."""
        reason = f"the target's state is larger than a record may be, so a person has to repair it: {error}"
        decision = Decision(verdict=Verdict.TICKET, rule="too large", reason=reason[:500])
        return self._stand_back(step, now, decision, None, None, hashed)

    def _exempt(
        self, visit: Visit, gate: Gate, case: Case, archive: Case | None, drafts: list[Draft], now: datetime
    ) -> Walked:
        exemptions = decide.exempted(gate.exemptions, visit.target, now)
        reason = "; ".join(
            f"{e.control}: exempt until {e.expires_at.date().isoformat()}, owner {e.owner}"
            for e in exemptions.values()
        )
        decision = Decision(verdict=Verdict.IGNORE, rule="exempt", reason=reason)
        case = case.model_copy(
            update={
                "assessed": case.generation,
                "decision": Verdict.IGNORE.value,
                "reason": reason,
                "outcome": None,
            }
        )
        drafts.append(
            record.decided(case, visit.key, now, decision, {}, exemptions=tuple(sorted(exemptions)))
        )
        self._commit(case, now, tuple(drafts), seen=() if gate.seen else (visit.key,), archive=archive)
        return _walked(visit, case, now, "ignore", "exempt", reason)

    def _unread(self, step: "_Step", now: datetime, reason: str) -> Walked:
        """The target could not be read for a reason that a retry will not cure."""
        visit = step.visit
        case = step.case.model_copy(
            update={
                **step.case.where(step.ids, CaseState.OPEN),
                "assessed": step.case.generation,
                "outcome": Outcome.FAILED,
                "reason": reason,
            }
        )
        drafts = (*step.drafts, record.unread(case, visit.key, now, step.ids, reason))
        notices = notify.decided(
            case, Decision(verdict=Verdict.TICKET, rule="unreadable", reason=reason), now
        )
        self._commit(case, now, drafts, seen=step.seen, archive=step.archive, notices=notices)
        return _walked(
            visit, case, now, "fail", "unreadable", reason, outcome=Outcome.FAILED, controls=step.ids
        )

    # -- act ----------------------------------------------------------------------------------------------------------

    def _act(
        self, step: "_Step", run: Run, wanted: Reservation, params: Params, decision: Decision, now: datetime
    ) -> Walked:
        """INTENT, lease, reservation and notice in one transaction; then apply, verify, RESULT."""
        visit, gate = step.visit, step.gate
        case = step.case.model_copy(
            update={
                "state": CaseState.RUNNING,
                "run": run,
                "runs": run.seq,
                "decision": decision.verdict.value,
                "reason": decision.reason,
                "outcome": None,
                "plan_hash": run.plan_hash,
                "last_state": None,
                "sessions": (*step.case.sessions, session_name(step.case.id, run.seq))[-SESSIONS_KEPT:],
            }
        )
        modes = dict.fromkeys(step.ids, step.mode.value)
        drafts = (
            *step.drafts,
            record.decided(case, visit.key, now, decision, modes, plan_hash=run.plan_hash),
            record.intent(case, run, params.model_dump(mode="json")),
        )
        lock = Lock(
            case=case.id,
            run=run.seq,
            lease_until=run.lease_until,
            version=gate.lock.version + 1 if gate.lock else 1,
        )
        try:
            case = self._commit(
                case,
                now,
                drafts,
                seen=step.seen,
                archive=step.archive,
                notices=(notify.run_state(case, run, now, None, decision.reason),),
                lock=lock,
                spent=(gate.account_spent.plus(wanted), gate.actor_spent.plus(wanted)),
            )
        except OversizeError as error:
            return self._too_large(step, now, run.plan_hash, error)
        return self._finish(visit, case, lock, run, params, remaining=None)

    def _finish(
        self,
        visit: Visit,
        case: Case,
        lock: Lock,
        run: Run,
        params: Params,
        remaining: tuple[int, ...] | None,
    ) -> Walked:
        job = act.Job(
            remediation=visit.remediation,
            target=visit.target,
            params=params,
            cause=run.cause,
            plan=run.plan,
            session=session_name(case.id, run.seq),
        )
        achieved = act.apply_and_verify(
            job, self.aws, self.clock, self._before_write(case, run), remaining=remaining
        )
        return self._result(visit, case, lock, run, achieved)

    def _before_write(self, case: Case, run: Run) -> Callable[[], None]:
        """The guard of one run, called before each of its writes; it reads the switches and the ledger again."""
        scopes = decide.scopes(case.target, run.controls)

        def guard() -> None:
            seen = self.cases.guard(scopes, case.target.account)
            act.within_lease(
                run.lease_until, self.clock.now()
            )  # after the read, which may have taken its time
            switch = decide.frozen(seen.freezes, scopes)
            if switch:
                message = f"frozen by {switch.by} ({switch.scope}): {switch.reason}"
                raise FrozenError(message)
            if not seen.account_spent.holds(case.id, run.seq):
                message = "the run's reservation is gone, so its writes are no longer counted"
                raise LimitError(message)

        return guard

    def _result(
        self, visit: Visit, case: Case, lock: Lock, run: Run, achieved: act.Achieved, *, again: bool = False
    ) -> Walked:
        """RESULT. When an event joined meanwhile the record stands all the same, and the case is looked at again.

        `again` asks for such a look though no event joined.
        """
        for _ in range(ATTEMPTS):
            now = self.clock.now()
            ended = self._ended(case, run, achieved, again=again or achieved.moved)
            draft = record.result(
                ended, run, now, achieved.outcome, achieved.reason, achieved.results, achieved.after
            )
            try:
                ended = self._commit(
                    ended,
                    now,
                    (draft,),
                    notices=(notify.run_state(case, run, now, achieved.outcome, achieved.reason),),
                    lock=lock.model_copy(update={"lease_until": now, "version": lock.version + 1}),
                )
            except ConflictError:
                case = self._still_ours(case, run)
                continue
            except OversizeError as error:
                if achieved.after is None:
                    raise
                achieved = replace(
                    achieved, after=None, reason=f"{achieved.reason}; its state is not kept: {error}"
                )
                continue
            if ended.pending:
                looked = self._look_again(visit)
                if looked:
                    return looked
            return _walked(
                visit,
                ended,
                now,
                Verdict.ACT.value,
                "acting",
                achieved.reason,
                outcome=achieved.outcome,
                controls=run.controls,
            )
        message = f"case {case.id} is being changed by others all the time"
        raise BusyError(message, retry_after=5)

    def _look_again(self, visit: Visit) -> Walked | None:
        """An event joined while the run was under way: walk again at the generation that now stands."""
        looked, rest = self._visit(visit)
        if rest:
            self._all([rest])
        return looked if looked.verdict != "duplicate" else None

    def _ended(self, case: Case, run: Run, achieved: act.Achieved, *, again: bool) -> Case:
        success = achieved.outcome in {Outcome.FIXED, Outcome.ALREADY_COMPLIANT}
        generation = max(case.generation, run.generation + 1) if again else case.generation
        pending = generation > run.generation
        return case.model_copy(
            update={
                **case.where(run.controls, CaseState.CLOSED if success and not pending else CaseState.OPEN),
                "generation": generation,
                "assessed": run.generation,
                "run": None,
                "outcome": achieved.outcome,
                "reason": achieved.reason,
                "last_state": achieved.after.model_dump(mode="json") if achieved.after else None,
            }
        )

    def _still_ours(self, case: Case, run: Run) -> Case:
        """The case as it stands now, if this run still holds it; BusyError when the lease passed to another."""
        current = self.cases.case(case.digest, case.episode)
        if (
            current is None
            or current.run is None
            or current.run.seq != run.seq
            or current.run.lease_until != run.lease_until
        ):
            message = f"run {run.seq} of case {case.id} was taken over by another delivery"
            raise BusyError(message, retry_after=5)
        return current

    # -- after a crash ------------------------------------------------------------------------------------------------

    def _settle(self, visit: Visit, gate: Gate, case: Case, now: datetime) -> Walked:
        """A run died with its lease. Take the lease over and finish what it meant to do, by what the resource shows."""
        died = case.run
        if died is None:  # a running case always carries its run; anything else must not be guessed at
            message = f"case {case.id} is running without a run"
            raise ConflictError(message)
        run = died.model_copy(update={"lease_until": now + self.home.lease})
        lock = Lock(
            case=case.id,
            run=run.seq,
            lease_until=run.lease_until,
            version=gate.lock.version + 1 if gate.lock else 1,
        )
        case = self._commit(case.model_copy(update={"run": run}), now, (), lock=lock)
        params = params_of(visit.remediation, tuple(self.controls[name] for name in run.controls))
        try:
            state = visit.remediation.assess(
                visit.target, params, self.aws.reader(visit.remediation, visit.target)
            )
        except TransientError:
            raise
        except (AwsError, TargetGoneError) as refused:
            lost = act.Achieved(
                (), None, Outcome.NOT_VERIFIED, f"after a crash the target could not be read: {refused}"
            )
            return self._result(visit, case, lock, run, lost)
        left = visit.remediation.plan(visit.target, params, state, run.cause, now)
        meant = {call.identity: index for index, call in enumerate(run.plan.calls)}
        forbidden = self._forbidden(visit, run, now) if left.calls else ""
        if forbidden:
            remaining = {meant.get(call.identity) for call in left.calls}
            made = tuple(act.lost(index) for index in meant.values() if index not in remaining)
            outcome = Outcome.FAILED if made else Outcome.DECLINED
            stopped = act.Achieved(made, state, outcome, f"the run crashed and is not finished: {forbidden}")
            return self._result(visit, case, lock, run, stopped, again=True)
        if any(call.identity not in meant for call in left.calls):
            changed = act.Achieved(
                (),
                state,
                Outcome.FAILED,
                "the run crashed and the target was changed meanwhile; it is looked at anew",
            )
            return self._result(visit, case, lock, run, changed, again=True)
        return self._finish(
            visit, case, lock, run, params, tuple(meant[call.identity] for call in left.calls)
        )

    def _forbidden(self, visit: Visit, run: Run, now: datetime) -> str:
        """Why a run that died may not go on writing: what permitted it then must permit it still."""
        gate = self._gate(visit, run.controls)
        if decide.exempted(gate.exemptions, visit.target, now):
            return "the resource has been exempted since"
        modes = decide.effective_modes(gate, (self.controls[name] for name in run.controls))
        if any(mode is not Mode.ACT for mode in modes.values()):
            return "the control may no longer act"
        if not is_fresh(run.cause, now):
            return "the violation was created more than an hour ago"
        return ""

    # -- our own events -----------------------------------------------------------------------------------------------

    def _own_event(self, signal: Signal, visits: list[Visit]) -> tuple[Walked, ...]:
        """Events of our own runs are verified and never acted on; empty when there is a visit to be made.

        A run explains what the acting or the undo role did, to its own target and under its own session. Anything else
        that one of our roles does is a finding like any other, which at most asks, with a record of the suspicion.
        """
        claim = case_of_session(signal.actor.session)
        if not claim or not self.home.role(signal.actor.role_arn, signal.account, ("act", "undo")):
            return ()
        case = self.cases.case(claim[0], claim[1])
        if case is None or any(visit.target != case.target for visit in visits):
            return ()
        return self._verify_only(signal, visits, case)

    def _verify_only(self, signal: Signal, visits: list[Visit], named: Case) -> tuple[Walked, ...]:
        visit = visits[0]
        for _ in range(ATTEMPTS):
            now = self.clock.now()
            gate = self._gate(visit, named.controls)
            current = gate.case
            if (
                current is None
                or signal.actor.session not in current.sessions
                or now - current.updated_at > REMEMBERED
            ):
                return ()
            if gate.seen:
                seen = "an event of our own, seen before"
                return (_walked(visit, current, now, "duplicate", "own event", seen),)
            kind, data = RecordType.RECONCILED, dict[str, JsonValue]()
            if current.state is not CaseState.RUNNING:
                kind, data = RecordType.VERIFIED, self._verified(current)
                exempt = decide.exempted(gate.exemptions, current.target, now)
                if not data["compliant"] and set(current.controls) - set(exempt):
                    # No run of ours leaves a violation behind, but for an undo, which exempts: somebody uses our role.
                    return ()
            draft = record.own_event(signal, current, visit.key, kind, data)
            try:
                self._commit(current, now, (draft,), seen=(visit.key,))
            except ConflictError:
                continue
            verified = "an event of our own run: verified, not acted on"
            return (_walked(visit, current, now, "verify", "own event", verified),)
        message = f"case {named.id} is being changed by others all the time"
        raise BusyError(message, retry_after=5)

    def _verified(self, case: Case) -> dict[str, JsonValue]:
        remediation = self.remediations[case.controls[0]]
        params = params_of(remediation, tuple(self.controls[name] for name in case.controls))
        state = remediation.assess(case.target, params, self.aws.reader(remediation, case.target))
        return {"compliant": state.compliant, "state": state.model_dump(mode="json")}

    # -- writing ------------------------------------------------------------------------------------------------------

    def _commit(self, case: Case, now: datetime, drafts: Iterable[Draft], **parts: Any) -> Case:  # noqa: ANN401 -- fields of Change
        """One transaction: the case at its next version with `drafts` appended to its chain, and the other `parts`."""
        records = seal(case.id, case.head, drafts, now, self.home.version)
        stored = case.model_copy(
            update={
                "version": case.version + 1,
                "updated_at": now,
                "head": records[-1].head if records else case.head,
            }
        )
        self.cases.commit(Change(case=stored, records=records, **parts))
        return stored

    def _not_ours(self, event: NotOurs) -> Walked:
        now = self.clock.now()
        draft = record.not_ours(event, now)
        name = (
            event.event_id if len(event.event_id) <= EVENT_ID and event.event_id.isascii() else event.sha256
        )
        (sealed,) = seal(f"EVENT#{name}", Head(), (draft,), now, self.home.version)
        self.cases.note(sealed)
        return Walked(
            event_id=event.event_id,
            verdict="not_ours",
            rule="not ours",
            reason=event.reason,
            account=event.account,
            region=event.region,
        )

    def _visits(self, signal: Signal, found: tuple[Finding, ...]) -> list[Visit]:
        """Findings of one event, grouped by the remediation and the target that they share."""
        grouped: dict[tuple[str, Target], list[Finding]] = {}
        for finding in found:
            remediation = self.remediations.get(finding.control)
            if remediation:
                grouped.setdefault((remediation.id, finding.target), []).append(finding)
        return [
            Visit(
                key=signal.event_id,
                signal=signal,
                remediation=self.remediations[group[0].control],
                target=target,
                controls=tuple(self.controls[finding.control] for finding in group),
                opened=tuple(sorted({rule for finding in group for rule in finding.opened})),
                own=self.home.own_role(signal.actor.role_arn, signal.account),
            )
            for (_, target), group in grouped.items()
        ]


@dataclass(frozen=True)
class _Levels:
    """The controls of a visit, sorted out: exempt ones, those walked together at `mode`, and a visit for the rest."""

    exempt: Mapping[str, Exemption]
    together: tuple[Control, ...]
    mode: Mode
    rest: Visit | None


@dataclass(frozen=True)
class _Step:
    """A visit past the gate: the case with the event taken in, and the controls that share the highest mode."""

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
        """The event to be marked as taken in, unless it was before."""
        return () if self.gate.seen else (self.visit.key,)


_STATE_OF: Mapping[Verdict, CaseState] = MappingProxyType(
    {
        Verdict.IGNORE: CaseState.CLOSED,
        Verdict.OBSERVE: CaseState.OPEN,
        Verdict.TICKET: CaseState.TICKETED,
        Verdict.ASK: CaseState.WAITING,
    }
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


def _rest(visit: Visit, controls: tuple[Control, ...]) -> Visit | None:
    """The controls of a visit that have a lower mode, as a visit of their own with a key of its own."""
    if not controls:
        return None
    names = "+".join(sorted(control.id for control in controls))
    return replace(visit, key=f"{visit.signal.event_id}{REST}{names}", controls=controls)


def _at_rest(case: Case, control: str) -> bool:
    """True when nothing is open for the control, so that a new event opens it."""
    return case.standing.get(control, CaseState.CLOSED).ended


def _own_drafts(visit: Visit, case: Case) -> list[Draft]:
    """One of our own roles made the change, and no run of ours explains it."""
    return [record.tamper(visit.signal, case, visit.key)] if visit.own else []


def _own_notices(visit: Visit, case: Case, now: datetime) -> tuple[Notice, ...]:
    return (notify.tamper(case, visit.signal, now),) if visit.own else ()


def _no(signal: Signal, reason: str) -> NotOurs:
    return NotOurs(
        event_id=signal.event_id,
        reason=reason,
        account=signal.account,
        region=signal.region,
        name=signal.name,
        sha256=signal.sha256,
    )


def _walked(
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
