"""Undo: restore what a run recorded, and only that, if nothing drifted since. And keep it restored: with an exemption.

Two functions share this page. The engine plans an undo and asks for it (`want`); the function that undoes carries out
what was approved (`carry_out`), with a role of its own that the engine cannot assume, from a queue that only the engine
can send to. It reads every right anew, because a message proves nothing.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chalicelib.domain.approval import Answer, Ask, Kind, Undone, principal
from chalicelib.domain.breaker import Missed
from chalicelib.domain.case import SESSIONS_KEPT, Case, CaseState, Lock, Run, cause_of, session_name
from chalicelib.domain.contract import (
    AnyRemediation,
    CallResult,
    Cause,
    Outcome,
    Params,
    Plan,
    RunRecord,
    State,
    Step,
)
from chalicelib.domain.control import Control
from chalicelib.domain.errors import AwsError, BusyError, ConflictError, TargetGoneError, TransientError
from chalicelib.domain.finding import Origin, digest
from chalicelib.domain.limits import Reservation
from chalicelib.domain.ports import Aws, Clock, Exemption, Gate, Notice
from chalicelib.domain.record import Draft, Head, RecordType, body_of, seal
from chalicelib.domain.shape import mapping
from chalicelib.domain.ticket import LONGEST_TITLE, Ticket
from chalicelib.flow import act, asking, breaker, decide, notify, record, ticketing
from chalicelib.flow.errand import Look, UndoRun, UndoWanted
from chalicelib.flow.errand import notice as errand_notice
from chalicelib.flow.visit import ATTEMPTS, Visit, Walked, anew, moving, params_of

if TYPE_CHECKING:
    from chalicelib.domain.policy import Policy
    from chalicelib.flow.pipeline import Engine

_PASSED = "a newer case stands for this resource; what it left is not what this run left"
_ASKED = "people are asked about this resource already: answer that first, and whoever wants it may deny it"
_AGAIN = "this has been taken in before"
_NOT_OURS = "the account is not enrolled"

CODE = "undo"
"""The reason code of the exemption that an undo brings with it; no command grants one of this kind."""


@dataclass(frozen=True)
class Undoing:
    """What an undo would do now: the state that was read and the plan that restores the recorded one."""

    now: State
    plan: Plan


@dataclass(frozen=True)
class Approved:
    """An undo that people agreed to: the ask, what is wanted, and whose answers count."""

    ask: Ask
    undone: Undone
    by: tuple[Answer, ...]


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
    remaining: tuple[int, ...] | None = None,
) -> act.Achieved:
    """Make the undo's calls and look whether an undo of the same run would now find nothing to do.

    Outcome.DECLINED with nothing changed when the plan declines anything: half of the old state is not the old state.
    """
    if prepared.plan.declined:
        return act.Achieved((), prepared.now, Outcome.DECLINED, _why(prepared.plan))
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
        remaining=remaining,
        undo=True,
        satisfied=lambda after, _: remediation.undo(case.target, run, after).satisfied,
    )


# -- asking for it ------------------------------------------------------------------------------------------------------


def want(engine: "Engine", order: UndoWanted) -> Walked:
    """Somebody wants a run taken back: plan it on what is there now, and ask somebody else. Nothing is changed."""
    return anew(order.case, lambda: _want(engine, order))


def _want(  # noqa: C901, PLR0911 -- a list of ways out, in order
    engine: "Engine", order: UndoWanted
) -> Walked:
    case, now = engine.case(order.case), engine.clock.now()
    if case is None:
        return _nothing(order.case, "there is no such case")
    wanted = digest(order.undone.model_dump_json())
    visit = engine.about(case, f"undo:{wanted}", Origin.REQUEST, now)
    gate = engine.gate(visit, visit.ids)
    if gate.seen:
        return _nothing(order.case, _AGAIN)
    passed = gate.case is None or gate.case.id != case.id
    if passed or not gate.enrolled:
        return _unwritten(engine, case, wanted, order.undone, _PASSED if passed else _NOT_OURS)
    if case.state is CaseState.RUNNING or (gate.lock and gate.lock.held(now)):
        raise BusyError(f"a run on {case.target.resource} has not come to its end", retry_after=60)
    if case.ask:  # also one that has ended: its answers may not have been read yet
        return _refused(engine, case, visit.key, order.undone, Outcome.DECLINED, _ASKED)
    done = _recorded(engine, case, order.undone.run)
    if done is None:
        return _refused(
            engine, case, visit.key, order.undone, Outcome.DECLINED, "the run is not on record as ended"
        )
    run, controls, params = done
    try:
        prepared = prepare(visit.remediation, case, params, run, engine.aws)
    except TransientError:
        raise
    except (AwsError, TargetGoneError) as unreadable:
        return _refused(engine, case, visit.key, order.undone, Outcome.FAILED, str(unreadable))
    if visit.remediation.undo_by_hand and prepared.plan.calls:
        return _by_hand(engine, case, visit, controls, prepared)
    if not prepared.plan.calls or prepared.plan.declined:
        outcome = Outcome.DECLINED if prepared.plan.declined else Outcome.ALREADY_COMPLIANT
        return _refused(engine, case, visit.key, order.undone, outcome, _why(prepared.plan))
    policy = asking.policy_of(engine)
    ask = _ask(
        policy, case, order.undone, controls, params, prepared, now, owner=gate.answerable, again=False
    )
    vain = asking.vain(policy, case, ask)
    if vain:
        return _refused(engine, case, visit.key, order.undone, Outcome.DECLINED, vain)
    return _put(engine, case, visit.key, ask, now, ())


def _ask(
    policy: "Policy | None",
    case: Case,
    undone: Undone,
    controls: tuple[Control, ...],
    params: Params,
    prepared: Undoing,
    now: datetime,
    *,
    owner: str,
    again: bool,
) -> Ask:
    from chalicelib.flow.pipeline import hash_of  # noqa: PLC0415 -- the walk imports asking, and asking this page's queue

    return Ask(
        seq=case.asks + 1,
        kind=Kind.UNDO,
        controls=tuple(sorted(control.id for control in controls)),
        asked_at=now,
        plan=prepared.plan,
        plan_hash=hash_of(prepared.plan, case.target, params, controls),
        before=prepared.now.model_dump(mode="json"),
        # Whoever opened what the run closed would approve their own change.
        requesters=tuple(sorted({principal(undone.by), *case.actors})),
        owner=owner,
        reason=undone.reason,
        again=again,
        undo=undone,
        **asking.terms(policy, case, controls, now),
    )


def _put(
    engine: "Engine",
    case: Case,
    key: str,
    ask: Ask,
    now: datetime,
    drafts: tuple[Draft, ...],
    told: tuple[Notice, ...] = (),
    **parts: Any,  # noqa: ANN401 -- fields of Change
) -> Walked:
    """The ask stands, in place of any other: a person decides about one plan for a target at a time."""
    waiting = case.model_copy(
        update={**case.where(ask.controls, CaseState.WAITING), "ask": ask, "asks": ask.seq, "run": None}
    )
    drafts = (*drafts, record.asked(waiting, ask, key))
    notices = (*told, *((notify.asked(waiting, ask),) if ask.sent else ()))
    engine.commit(waiting, now, drafts, seen=(key,), notices=notices, **parts)
    return Walked(case.id, "ask", "undo", ask.reason, case=case.id, controls=ask.controls)


def _by_hand(
    engine: "Engine", case: Case, visit: Visit, controls: tuple[Control, ...], prepared: Undoing
) -> Walked:
    """No role of ours switches off what watches the account: whoever wants that does it by hand, with these commands."""
    now, why = engine.clock.now(), "an undo was asked for, and no role of ours may make its calls"
    ticket = _ticket(case, visit, controls, why, now, prepared.plan, prepared.now)
    ticketed, drafts, notices = ticketing.told(case, case, ticket, visit.key, (), ())
    engine.commit(ticketed, now, drafts, seen=(visit.key,), notices=tuple(notices), ticket=ticket)
    return Walked(case.id, "ticket", "undo by hand", why, case=case.id, controls=visit.ids)


def _ticket(
    case: Case,
    visit: Visit,
    controls: Iterable[Control],
    why: str,
    now: datetime,
    plan: Plan,
    state: State | None,
) -> Ticket:
    """What a person does to bring back what no function of ours has brought back: the plan's own calls, after an exemption."""
    ticket = ticketing.opened(case, visit.remediation, controls, why, now, plan=plan, state=state)
    first = "Exempt the resource first (redress exempt): otherwise what is brought back is found again."
    return ticket.model_copy(
        update={
            "title": f"Undo by hand: {ticket.title}"[:LONGEST_TITLE],
            "steps": tuple(Step(console=text) for text in (first, *(call.why for call in plan.calls))),
            "as_code": "",
            "evidence": {**ticket.evidence, ticketing.UNDO: True},
        }
    )


def _unwritten(engine: "Engine", case: Case, wanted: str, undone: Undone, reason: str) -> Walked:
    """A refusal that is no matter of the case as it stands: a chain of one record, once."""
    now = engine.clock.now()
    draft = record.undo_refused(case, f"undo:{wanted}", undone.run, now, Outcome.DECLINED, reason)
    (sealed,) = seal(f"UNDO#{wanted}", Head(), (draft,), now, engine.home.version)
    engine.cases.note(sealed)
    return _nothing(case.id, reason)


def _refused(engine: "Engine", case: Case, key: str, undone: Undone, outcome: Outcome, reason: str) -> Walked:
    now = engine.clock.now()
    draft = record.undo_refused(case, key, undone.run, now, outcome, reason)
    told = notify.undo_refused(case, key, now, reason)
    engine.commit(case, now, (draft,), seen=(key,), notices=(told,))
    return Walked(case.id, "undo", "refused", reason, case=case.id, outcome=outcome.value)


# -- doing it -----------------------------------------------------------------------------------------------------------


def carry_out(engine: "Engine", order: UndoRun) -> Walked:
    """Take back the run that an approved ask names: exemption and intent in one transaction, then the calls, then a look.

    Only the function that undoes calls this: `engine.aws` must be able to assume the undo role.
    """
    return anew(order.case, lambda: _carry_out(engine, order))


def _carry_out(engine: "Engine", order: UndoRun) -> Walked:
    case, now = engine.case(order.case), engine.clock.now()
    if case is None:
        return _nothing(order.case, "there is no such case")
    key = f"answer:{case.id}:{order.ask}"
    visit = engine.about(case, key, Origin.WAKE, now)
    gate = engine.gate(visit, visit.ids)
    if gate.case is None or gate.case.id != case.id:
        return _nothing(order.case, "a newer case stands for this resource")
    case = gate.case
    if gate.lock and gate.lock.held(now):
        raise BusyError(f"{case.target.resource} is in the hands of case {gate.lock.case}", retry_after=5)
    if case.run and case.run.undo:
        return _resume(engine, visit, case, case.run, gate.lock, now)
    policy = asking.policy_of(engine)
    approved = _approved(engine, policy, case, order, now)
    if isinstance(approved, str) or gate.seen or not gate.enrolled:
        why = approved if isinstance(approved, str) else _AGAIN if gate.seen else _NOT_OURS
        return _nothing(case.id, why)
    switch = decide.frozen(gate.freezes, decide.scopes(case.target, approved.ask.controls))
    if switch:
        return _closed(engine, case, approved, now, f"frozen by {switch.by}: {switch.reason}")
    return _begin(engine, policy, visit, gate, case, approved, now)


def _approved(
    engine: "Engine", policy: "Policy | None", case: Case, order: UndoRun, now: datetime
) -> Approved | str:
    """What people approved, all read anew; or why nothing of the kind waits here."""
    ask, answers = case.ask, engine.cases.answers(case.id, order.ask)
    if ask is None or ask.undo is None or ask.seq != order.ask or answers is None or not answers.answers:
        return "no approved undo waits here"
    amounts, problem, _ = asking.judged(policy, case, ask, answers, now)
    if problem or amounts.state != "approved":
        return problem or f"the undo is {amounts.state}, not approved"
    return Approved(ask, ask.undo, amounts.by)


def _begin(
    engine: "Engine",
    policy: "Policy | None",
    visit: Visit,
    gate: Gate,
    case: Case,
    approved: Approved,
    now: datetime,
) -> Walked:
    """Read, plan, compare with what was approved; then exemption and intent, then the calls."""
    undone = approved.undone
    done = _recorded(engine, case, undone.run)
    if done is None:
        return _closed(engine, case, approved, now, "the run is not on record as ended")
    recorded, controls, params = done
    try:
        prepared = prepare(visit.remediation, case, params, recorded, engine.aws)
    except TransientError:
        raise
    except (AwsError, TargetGoneError) as unreadable:
        return _closed(engine, case, approved, now, str(unreadable))
    renewed = _ask(policy, case, undone, controls, params, prepared, now, owner=gate.answerable, again=True)
    if renewed.plan_hash != approved.ask.plan_hash:
        return _stale(engine, case, approved, renewed, now)
    run = _run(engine, visit, case, approved, prepared, now)
    running, lock = _intend(engine, visit, gate, case, approved, run, params)
    return _perform(engine, visit, running, run, lock, recorded, params, prepared, None)


def _run(
    engine: "Engine", visit: Visit, case: Case, approved: Approved, prepared: Undoing, now: datetime
) -> Run:
    """The run that takes the other one back: exactly the plan that was approved, on the state that was just read."""
    return Run(
        seq=case.runs + 1,
        source_id=visit.key,
        controls=approved.ask.controls,
        generation=case.generation,
        started_at=now,
        lease_until=now + engine.home.lease,
        cause=cause_of(case, now),
        before=prepared.now.model_dump(mode="json"),
        plan=prepared.plan,
        plan_hash=approved.ask.plan_hash,
        approved_by=", ".join(answer.by for answer in approved.by),
        undo=approved.undone,
    )


def _intend(
    engine: "Engine", visit: Visit, gate: Gate, case: Case, approved: Approved, run: Run, params: Params
) -> tuple[Case, Lock]:
    """UNDO_INTENT, lease, reservation, notice and exemption in one transaction: the running case, and its lock."""
    now, undone = run.started_at, approved.undone
    running = case.model_copy(
        update={
            "state": CaseState.RUNNING,
            "run": run,
            "runs": run.seq,
            "ask": None,
            "outcome": None,
            "reason": undone.reason,
            "sessions": (*case.sessions, session_name(case.id, run.seq))[-SESSIONS_KEPT:],
        }
    )
    lock = _lock(case, run, gate.lock)
    wanted = Reservation(at=now, case=case.id, run=run.seq, controls=run.controls, writes=len(run.plan.calls))
    answered = record.answered(case, approved.ask, approved.by)
    running = engine.commit(
        running,
        now,
        (answered, record.intent(running, run, params.model_dump(mode="json"))),
        seen=(visit.key,),
        lock=lock,
        spent=(gate.account_spent.plus(wanted), gate.actor_spent.plus(wanted)),
        notices=(notify.run_state(running, run, now, None, undone.reason),),
        exemptions=_exemptions(case, run, undone, gate),
    )
    return running, lock


def _lock(case: Case, run: Run, before: Lock | None) -> Lock:
    """The target in the hands of this run, at the next version of what was there."""
    version = before.version + 1 if before else 1
    return Lock(case=case.id, run=run.seq, lease_until=run.lease_until, version=version)


def _resume(
    engine: "Engine", visit: Visit, case: Case, died: Run, lock: Lock | None, now: datetime
) -> Walked:
    """An undo died with its lease: finish what is left of exactly what it meant to do, by what the target shows."""
    run = died.model_copy(update={"lease_until": now + engine.home.lease})
    taken = _lock(case, run, lock)
    case = engine.commit(case.model_copy(update={"run": run}), now, (), lock=taken)
    done = _recorded(engine, case, run.undo.run if run.undo else 0)
    if done is None:
        lost = act.Achieved((), None, Outcome.NOT_VERIFIED, "the run that was being undone is not on record")
        return _end(engine, visit, case, run, taken, lost)
    recorded, _, params = done
    try:
        prepared = prepare(visit.remediation, case, params, recorded, engine.aws)
    except TransientError:
        raise
    except (AwsError, TargetGoneError) as unreadable:
        reason = f"after a crash the target could not be read: {unreadable}"
        return _end(engine, visit, case, run, taken, act.Achieved((), None, Outcome.NOT_VERIFIED, reason))
    meant = {call.identity: index for index, call in enumerate(run.plan.calls)}
    left = [meant.get(call.identity) for call in prepared.plan.calls]
    remaining = tuple(index for index in left if index is not None)
    if prepared.plan.declined or len(remaining) < len(left):
        reason = "the undo crashed, and the target was changed meanwhile: it is left as it is"
        return _end(engine, visit, case, run, taken, act.Achieved((), prepared.now, Outcome.FAILED, reason))
    if not remaining:
        made = tuple(act.lost(index) for index in meant.values())
        reason = "assessed after a crash: what was recorded is there again"
        return _end(engine, visit, case, run, taken, act.Achieved(made, prepared.now, Outcome.FIXED, reason))
    whole = Undoing(now=prepared.now, plan=run.plan)
    return _perform(engine, visit, case, run, taken, recorded, params, whole, remaining)


def _perform(
    engine: "Engine",
    visit: Visit,
    case: Case,
    run: Run,
    lock: Lock,
    recorded: RunRecord[State],
    params: Params,
    prepared: Undoing,
    remaining: tuple[int, ...] | None,
) -> Walked:
    achieved = perform(
        visit.remediation,
        case,
        params,
        recorded,
        prepared,
        session_name(case.id, run.seq),
        engine.aws,
        engine.clock,
        engine.before_write(case, run),
        remaining,
    )
    return _end(engine, visit, case, run, lock, achieved)


def _end(engine: "Engine", visit: Visit, case: Case, run: Run, lock: Lock, achieved: act.Achieved) -> Walked:
    """UNDO_RESULT. What was restored stays exempt until the agreed day; what was not has nothing to be exempt from.

    A case whose repair is taken back has no outcome any more: nobody may read that it is fixed. What joined meanwhile is
    looked at by the engine: this function has no right to repair anything.
    """
    success = achieved.outcome in {Outcome.FIXED, Outcome.ALREADY_COMPLIANT}
    written = any(done.error is None for done in achieved.results)
    restored = run.undo if success or written else None
    why = f"the undo ended {achieved.outcome.value}: {achieved.reason}"
    if success and restored:
        why = f"run {restored.run} is taken back: as it was before, and exempt until {restored.until.date()}"
        achieved = replace(achieved, reason=why)
    for _ in range(ATTEMPTS):
        now = engine.clock.now()
        ended = _left(case, run, achieved, why, restored, success=success)
        ticket = ticketing.closed(ended, achieved.reason, now)
        if not success:
            controls = (engine.controls[name] for name in run.controls)
            ticket = _ticket(ended, visit, controls, why, now, run.plan, achieved.after)
        draft = record.result(
            ended, run, now, achieved.outcome, achieved.reason, achieved.results, achieved.after
        )
        told = notify.run_state(ended, run, now, achieved.outcome, achieved.reason)
        missed = _missed(engine, ended, run, restored, now)
        ended, drafts, notices = ticketing.told(
            case, ended, ticket, run.source_id, (draft, *missed.drafts), (told, *missed.notices)
        )
        over = () if restored else _ended(engine, visit, run, now)
        try:
            engine.commit(
                ended,
                now,
                drafts,
                notices=(*notices, *_look_again(ended, run, now)),
                ticket=ticket,
                exemptions=over,
                breakers=missed.breakers,
                lock=lock.model_copy(update={"lease_until": now, "version": lock.version + 1}),
            )
        except ConflictError:
            case = engine.still_ours(case, run)
            continue
        reason = achieved.reason
        return Walked(case.id, "undo", "undone", reason, case=case.id, outcome=achieved.outcome.value)
    raise moving(case.id)


def _left(
    case: Case, run: Run, achieved: act.Achieved, why: str, restored: Undone | None, *, success: bool
) -> Case:
    """The case as an undo leaves it: exempt where something was restored, else closed."""
    return case.model_copy(
        update={
            **case.where(run.controls, CaseState.EXEMPT if restored else CaseState.CLOSED),
            "assessed": run.generation,
            "run": None,
            "outcome": None if success else achieved.outcome,
            "reason": why,
            "wakes_at": restored.until if restored else None,
            "last_state": None,
        }
    )


def _missed(
    engine: "Engine", ended: Case, run: Run, restored: Undone | None, now: datetime
) -> breaker.Counted:
    """People took back what a run did: that counts against its controls."""
    if restored is None:
        return breaker.Counted()
    return breaker.count(engine.cases, ended, run.controls, restored.run, run.source_id, Missed.UNDONE, now)


def _look_again(ended: Case, run: Run, now: datetime) -> tuple[Notice, ...]:
    """What makes the engine look at what joined while the undo was under way, if anything did."""
    if not ended.pending:
        return ()
    name = f"{ended.id}#{run.seq}"
    return (errand_notice(Look(case=ended.id, by="the undo", request_id=name), name, ended.id, now),)


def _exemptions(case: Case, run: Run, undone: Undone, gate: Gate) -> tuple[Exemption, ...]:
    """What an undo brings with it, so that the next event or sweep does not repair again what a person wanted back.

    A control that is exempt for longer already stays so.
    """
    longer = {one.control for one in gate.exemptions if one.expires_at >= undone.until}
    return tuple(
        Exemption(
            account=case.target.account,
            control=control,
            resource=case.target.resource,
            owner=undone.owner,
            code=CODE,
            reason=undone.reason,
            by=run.approved_by,
            at=run.started_at,
            expires_at=undone.until,
        )
        for control in run.controls
        if control not in longer
    )


def _ended(engine: "Engine", visit: Visit, run: Run, now: datetime) -> tuple[Exemption, ...]:
    """The exemptions that this run brought with it, over now; nobody else's."""
    return tuple(
        one.model_copy(update={"expires_at": now})
        for one in engine.gate(visit, run.controls).exemptions
        if (one.code, one.at) == (CODE, run.started_at)
    )


def _stale(engine: "Engine", case: Case, approved: Approved, renewed: Ask, now: datetime) -> Walked:
    """What would be done is no longer what was approved. It is asked again once, if there is anything left to ask."""
    ask, plan = approved.ask, renewed.plan
    reason = _why(plan) if plan.declined or not plan.calls else "the target changed since"
    drafts = (
        record.answered(case, ask, approved.by),
        record.about_ask(case, ask, RecordType.STALE, now, reason, found=renewed.plan_hash),
    )
    notices = (notify.about_ask(case, ask, "stale", now, reason),)
    if plan.calls and not plan.declined and not ask.again:
        return _put(engine, case, f"answer:{case.id}:{ask.seq}", renewed, now, drafts, notices)
    closed = asking.over(case, ask, CaseState.CLOSED, reason)
    engine.commit(closed, now, drafts, seen=(f"answer:{case.id}:{ask.seq}",), notices=notices)
    return Walked(case.id, "undo", "stale", reason, case=case.id, outcome=Outcome.DECLINED.value)


def _closed(engine: "Engine", case: Case, approved: Approved, now: datetime, reason: str) -> Walked:
    """An approved undo that cannot be begun: on record, nothing changed, and whoever wants it asks again."""
    ask = approved.ask
    key = f"answer:{case.id}:{ask.seq}"
    closed = asking.over(case, ask, CaseState.CLOSED, reason)
    drafts = (
        record.answered(case, ask, approved.by),
        record.undo_refused(case, key, approved.undone.run, now, Outcome.DECLINED, reason),
    )
    told = notify.undo_refused(case, key, now, reason)
    engine.commit(closed, now, drafts, seen=(key,), notices=(told,))
    return Walked(case.id, "undo", "refused", reason, case=case.id, outcome=Outcome.DECLINED.value)


# -- what is on record --------------------------------------------------------------------------------------------------


def _recorded(
    engine: "Engine", case: Case, seq: int
) -> tuple[RunRecord[State], tuple[Control, ...], Params] | None:
    """A run as its INTENT and RESULT tell it, with its controls and parameters; None unless both can be read, whole."""
    said: dict[str, dict[str, Any]] = {}
    controls: tuple[str, ...] = ()
    for stored in engine.cases.bodies(case.id):
        body = body_of(stored) or {}
        data = mapping(body.get("data"))
        if body.get("type") in {"INTENT", "RESULT"} and data.get("run") == seq:
            said[str(body["type"])] = {**data}
            controls = tuple(body["controls"])
    known = tuple(engine.controls[name] for name in controls if name in engine.controls)
    if said.keys() != {"INTENT", "RESULT"} or not said["RESULT"].get("after") or not known:
        return None
    remediation = engine.remediations[known[0].id]
    intent, result = said["INTENT"], said["RESULT"]
    try:
        run: RunRecord[State] = RunRecord(
            before=remediation.state.model_validate_json(json.dumps(intent["before"])),
            plan=Plan.model_validate_json(json.dumps(intent["plan"])),
            results=tuple(CallResult.model_validate_json(json.dumps(done)) for done in result["results"]),
            after=remediation.state.model_validate_json(json.dumps(result["after"])),
        )
    except ValidationError:  # written by a version whose states were other ones
        return None
    return run, known, params_of(remediation, known)


def _why(plan: Plan) -> str:
    declined = "; ".join(f"{item.what}: {item.why}" for item in plan.declined)
    return declined or "what was recorded is there already"


def _nothing(case_id: str, reason: str) -> Walked:
    return Walked(case_id, "nothing", "undo", reason, case=case_id)
