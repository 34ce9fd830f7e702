"""Asking: the plan that waits for a person, from the ask to what became of it.

An ask freezes a plan and its hash. An answer is taken elsewhere (`flow/answering.py`), in one transaction that the engine
has no part in; here it is read, judged again and carried out: looked at anew, planned anew, and done only if the plan is
still the one that was approved.
"""

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from chalicelib.domain.approval import (
    CARRIED_OUT_WITHIN,
    EXPIRES_AFTER,
    REMINDED_AFTER,
    Answer,
    Answers,
    Ask,
    barred,
    principal,
)
from chalicelib.domain.case import Case, CaseState, Denied
from chalicelib.domain.contract import Plan, State
from chalicelib.domain.decision import Decision
from chalicelib.domain.errors import BusyError, ConflictError
from chalicelib.domain.finding import Origin
from chalicelib.domain.ports import Gate
from chalicelib.domain.record import RecordType, stamp
from chalicelib.flow import notify, record, ticketing
from chalicelib.flow.visit import Approval, Step, Visit, Walked

if TYPE_CHECKING:
    from chalicelib.flow.errand import UndoRun
    from chalicelib.flow.pipeline import Engine

ATTEMPTS = 8
TOOLS = (
    ("terraform", "Terraform"),
    ("pulumi", "Pulumi"),
    ("aws-cdk", "the CDK"),
    ("cloudformation", "CloudFormation"),
)
"""What a user agent may say of itself. Anybody can say so, hence it is a note to whoever decides, and nothing more."""


def ask_of(
    step: Step, decision: Decision, plan: Plan, plan_hash: str, state: State, now: datetime
) -> tuple[Ask, bool]:
    """The ask that stands from now on, and whether it is new: the one that waits with this very plan goes on waiting."""
    case, approval = step.case, step.visit.approval
    waits = case.ask
    if waits and not approval and waits.plan_hash == plan_hash and waits.open(now):
        return waits.model_copy(update={"requesters": case.actors}), False
    coded = step.visit.coded
    new = Ask(
        seq=case.asks + 1,
        controls=step.ids,
        asked_at=now,
        expires_at=now + EXPIRES_AFTER,
        plan=plan,
        plan_hash=plan_hash,
        before=state.model_dump(mode="json"),
        requesters=case.actors,
        reason=decision.reason,
        again=approval is not None,
        notes=_notes(step.gate, step.visit, coded=coded),
        as_code=step.visit.remediation.as_code(case.target, state) if coded else "",
    )
    return new, True


def _notes(gate: Gate, visit: Visit, *, coded: bool) -> tuple[str, ...]:
    actor, role = visit.signal.actor, gate.deployment_role
    if coded and role:
        run = actor.session or "a session without a name"
        return (
            f"{role.tool} made the change: role {role.role_arn}, run {run}. Change the code, or it comes back.",
        )
    said = (visit.signal.user_agent or "").lower()
    named = next((tool for word, tool in TOOLS if word in said), None)
    return (f"The caller's user agent says {named}; nobody vouches for that.",) if named else ()


def due_for_reminder(ask: Ask, now: datetime) -> bool:
    """True once, when half of the time is over."""
    return not ask.reminded and ask.asked_at + REMINDED_AFTER <= now < ask.expires_at


def problem_of(case: Case, ask: Ask, answers: Answers, answer: Answer, now: datetime) -> str:
    """Why the engine does not go by an answer that lies in the store; empty when it does.

    Whoever took the answer has asked all this too. The engine asks again, because it is the one that acts.
    """
    if answers.case != case.id or answers.ask != ask.seq or answers.plan_hash != ask.plan_hash:
        return "the answer is to another plan"
    if answer.principal != principal(answer.by):
        return "the answer does not say plainly who gave it"
    if not answer.at < ask.expires_at:
        return "the answer came after the ask had expired"
    if answer.approve and barred(ask, answer.by):
        return "who approved it had made the change, or asked for it"
    if answer.approve and now - answer.at > CARRIED_OUT_WITHIN:
        return "the approval could not be carried out in time, and an old approval is none"
    return ""


# -- what becomes of an ask --------------------------------------------------------------------------------------------


def carry_out(engine: "Engine", case_id: str, seq: int) -> "tuple[Walked, UndoRun | None]":
    """Carry out what a person said to an ask: once, however often it is asked for. An approved undo is handed on.

    BusyError when a run holds the target: the answer stands, and is carried out when it comes back.
    """
    for _ in range(ATTEMPTS):
        try:
            return _carry_out(engine, case_id, seq)
        except ConflictError:
            continue
    message = f"case {case_id} is being changed by others all the time"
    raise BusyError(message, retry_after=5)


def _carry_out(engine: "Engine", case_id: str, seq: int) -> "tuple[Walked, UndoRun | None]":
    case, now = engine.case(case_id), engine.clock.now()
    ask = case.ask if case else None
    redelivered = case and case.asks == seq and (case.state is CaseState.RUNNING or case.pending)
    answers = engine.cases.answers(case_id, seq) if redelivered or (ask and ask.seq == seq) else None
    answer = answers.decided_by if answers else None
    if case is None or answers is None or answer is None:
        return Walked(case_id, "nothing", "no open ask", "nobody waits for this answer", case=case_id), None
    if ask is None:  # the run that this answer began has died, or has not looked at what joined it
        return engine.visit(engine.about(case, f"answer:{case.id}:{seq}", Origin.WAKE, now))[0], None
    problem = problem_of(case, ask, answers, answer, now)
    if problem:
        return _drop(engine, case, ask, answer, problem, now), None
    if not answer.approve:
        return _deny(engine, case, ask, answer, now), None
    if ask.undo:
        from chalicelib.flow.errand import UndoRun  # noqa: PLC0415 -- an event's cold start does without it

        return Walked(case_id, "undo", "approved", answer.reason, case=case_id), UndoRun(
            case=case.id, ask=seq
        )
    visit = engine.about(case, f"answer:{case.id}:{seq}", Origin.WAKE, answer.at)
    controls = tuple(engine.controls[name] for name in ask.controls)
    return engine.visit(replace(visit, controls=controls, approval=Approval(ask, answer)))[0], None


def _deny(engine: "Engine", case: Case, ask: Ask, answer: Answer, now: datetime) -> Walked:
    """A person said no: nothing is changed, and the same plan is not asked about again for a while."""
    denied = case.denied if ask.undo else Denied(plan_hash=ask.plan_hash, at=now)
    state = CaseState.CLOSED if ask.undo else CaseState.DENIED
    ended = case.model_copy(
        update={**case.where(ask.controls, state), "ask": None, "denied": denied, "reason": answer.reason}
    )
    drafts = (record.answered(case, ask, answer),)
    engine.commit(ended, now, drafts, notices=(notify.about_ask(case, ask, "denied", now, answer.reason),))
    return Walked(case.id, "denied", "a person said no", answer.reason, case=case.id, controls=ask.controls)


def _drop(engine: "Engine", case: Case, ask: Ask, answer: Answer, problem: str, now: datetime) -> Walked:
    """An answer that the engine does not go by: on record, and the ask is over, so that it is asked again."""
    state = CaseState.CLOSED if ask.undo else CaseState.EXPIRED
    ended = case.model_copy(update={**case.where(ask.controls, state), "ask": None, "reason": problem})
    drafts = (record.answered(case, ask, answer, problem),)
    engine.commit(ended, now, drafts, notices=(notify.about_ask(case, ask, "refused", now, problem),))
    return Walked(case.id, "refused", "answer refused", problem, case=case.id, controls=ask.controls)


def expire(engine: "Engine", case: Case, ask: Ask, now: datetime) -> Walked:
    """Nobody answered in time: a ticket, and the next sweep that still finds it failing asks again. Never an act."""
    reason = f"nobody answered by {stamp(ask.expires_at)}"
    state = CaseState.CLOSED if ask.undo else CaseState.EXPIRED
    ended = case.model_copy(update={**case.where(ask.controls, state), "ask": None, "reason": reason})
    drafts = [record.about_ask(case, ask, RecordType.EXPIRED, now, reason)]
    notices = [notify.about_ask(case, ask, "expired", now, reason)]
    ticket = None
    controls = tuple(engine.controls[name] for name in ask.controls if name in engine.controls)
    if controls and not ask.undo:
        remediation = engine.remediations[controls[0].id]
        try:
            before = remediation.state.model_validate_json(json.dumps(ask.before))
        except ValidationError:  # another version wrote it: whoever takes the ticket has to look
            before = None
        ticket = ticketing.opened(ended, remediation, controls, reason, now, plan=ask.plan, state=before)
        ended, drafts, notices = ticketing.told(
            case, ended, ticket, f"ask:{case.id}:{ask.seq}", drafts, notices
        )
    engine.commit(ended, now, drafts, notices=tuple(notices), ticket=ticket)
    return Walked(case.id, "expired", "no answer", reason, case=case.id, controls=ask.controls)


def remind(engine: "Engine", case: Case, ask: Ask, now: datetime) -> Walked:
    """Half of the time is over: people are told once more."""
    reason = f"it ends at {stamp(ask.expires_at)}"
    reminded = case.model_copy(update={"ask": ask.model_copy(update={"reminded": True})})
    drafts = (record.about_ask(case, ask, RecordType.REMINDED, now, reason),)
    engine.commit(reminded, now, drafts, notices=(notify.about_ask(case, ask, "reminded", now, reason),))
    return Walked(
        case.id, "reminded", "half of the time is over", reason, case=case.id, controls=ask.controls
    )
