"""Asking: the plan that waits for a person, from the ask to what became of it.

An ask freezes a plan and its hash. An answer is taken elsewhere (`flow/answering.py`), in one transaction that the engine
has no part in; here it is read, judged again and carried out: looked at anew, planned anew, and done only if the plan is
still the one that was approved.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from chalicelib.domain.approval import (
    CARRIED_OUT_WITHIN,
    EXPIRES_AFTER,
    Answer,
    Answers,
    Ask,
)
from chalicelib.domain.case import Case, CaseState, Denied
from chalicelib.domain.contract import Plan, State
from chalicelib.domain.control import Control
from chalicelib.domain.decision import Decision
from chalicelib.domain.finding import Origin, worst
from chalicelib.domain.ports import Gate, Notice
from chalicelib.domain.record import Draft, RecordType, stamp
from chalicelib.domain.ticket import Ticket
from chalicelib.flow import notify, record, ticketing
from chalicelib.flow.visit import Approval, Step, Visit, Walked, anew

if TYPE_CHECKING:
    from chalicelib.domain.policy import About, Consent, Policy
    from chalicelib.flow.errand import TicketWanted, UndoRun
    from chalicelib.flow.pipeline import Engine

TOOLS = (
    ("terraform", "Terraform"),
    ("pulumi", "Pulumi"),
    ("aws-cdk", "the CDK"),
    ("cloudformation", "CloudFormation"),
)
"""What a user agent may say of itself. Anybody can say so, hence it is a note to whoever decides, and nothing more."""


def ask_of(
    engine: "Engine", step: Step, decision: Decision, plan: Plan, plan_hash: str, state: State, now: datetime
) -> tuple[Ask | None, str]:
    """The ask that stands from now on, or None and why it would be in vain.

    The ask that waits with this very plan goes on waiting.
    """
    case, approval = step.case, step.visit.approval
    waits = case.ask
    if waits and not approval and waits.plan_hash == plan_hash and waits.open(now):
        return waits.model_copy(update={"requesters": case.actors, "owner": step.gate.answerable}), ""
    coded = step.visit.coded
    policy = policy_of(engine)
    new = Ask(
        seq=case.asks + 1,
        controls=step.ids,
        asked_at=now,
        plan=plan,
        plan_hash=plan_hash,
        before=state.model_dump(mode="json"),
        requesters=case.actors,
        owner=step.gate.answerable,
        reason=decision.reason,
        again=approval is not None,
        notes=_notes(step.gate, step.visit, coded=coded),
        as_code=step.visit.remediation.as_code(case.target, state) if coded else "",
        **terms(policy, case, step.controls, now),
    )
    problem = vain(policy, case, new)
    return (None, problem) if problem else (new, "")


def told(before: Case, case: Case, ask: Ask, key: str) -> tuple[tuple[Draft, ...], tuple[Notice, ...]]:
    """What the trail and people are told of the ask that stands: nothing when it stood before, people in business hours."""
    if before.ask and before.ask.seq == ask.seq:
        return (), ()
    return (record.asked(case, ask, key),), ((notify.asked(case, ask),) if ask.sent else ())


def policy_of(engine: "Engine") -> "Policy | None":
    """The policy that stands; StoreError, and nothing is decided, when it cannot be read."""
    setting = engine.cases.policy()
    return setting.policy if setting else None


def about(case: Case, ask: Ask) -> "About":
    """What an ask is about, as the policy's rules and routes speak of it."""
    from chalicelib.domain.policy import about_of  # noqa: PLC0415 -- an event's cold start does without it

    return about_of(ask, case.target.account, case.owner)


def vain(policy: "Policy | None", case: Case, ask: Ask) -> str:
    """Why nobody could approve the ask; empty when enough people could. What nobody can approve is a ticket at once."""
    from chalicelib.domain.policy import askable  # noqa: PLC0415 -- an event's cold start does without it

    return askable(policy, about(case, ask), ask)


def terms(policy: "Policy | None", case: Case, controls: Iterable[Control], now: datetime) -> dict[str, Any]:
    """How severe it is, and when people are told, reminded, and no longer asked: by the rule, in the route's business hours."""
    from chalicelib.domain.calendar import after, due  # noqa: PLC0415 -- an event's cold start does without it
    from chalicelib.domain.policy import STRICT, About  # noqa: PLC0415 -- for the same reason

    named = tuple(controls)
    severity = worst(control.severity for control in named)
    lasts, hours = EXPIRES_AFTER, None
    if policy:
        ids = tuple(sorted(control.id for control in named))
        asked = About(severity=severity, account=case.target.account, controls=ids, owner=case.owner)
        rule, route = policy.rule(asked), policy.route(asked)
        lasts = timedelta(hours=rule.expires_after_hours) if rule else EXPIRES_AFTER
        hours = route.hours if route and severity not in STRICT else None
    send_at = due(now, severity, hours)
    return {
        "severity": severity,
        "send_at": send_at,
        "sent": send_at <= now,
        "remind_at": after(send_at, lasts / 2, hours),
        "expires_at": after(send_at, lasts, hours),
    }


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
    return not ask.reminded and ask.remind_at is not None and ask.remind_at <= now < ask.expires_at


def judged(
    policy: "Policy | None", case: Case, ask: Ask, answers: Answers, now: datetime
) -> "tuple[Consent, str, Answer]":
    """What the answers amount to, why the engine does not go by one of them (empty: it goes by all), and which it is.

    Whoever took the answers has asked all this too. The engine asks again, because it is the one that acts. One that does
    not count is no reason to go by the rest: the ask ends, on record, and is asked again.
    """
    from chalicelib.domain.policy import (  # noqa: PLC0415 -- an event's cold start does without it
        consent,
        principal_of,
        problem_with,
    )

    subject = about(case, ask)
    amounts = consent(policy, subject, ask, answers)
    if answers.case != case.id or answers.ask != ask.seq or answers.plan_hash != ask.plan_hash:
        return amounts, "the answer is to another plan", answers.answers[-1]
    for answer in answers.answers:
        if answer.principal != principal_of(policy, answer.by):
            return amounts, "the answer does not say plainly who gave it", answer
        if not answer.at < ask.expires_at:
            return amounts, "the answer came after the ask had expired", answer
        problem = "" if answer.withdrawn else problem_with(policy, subject, ask, answer)
        if problem:
            return amounts, problem, answer
    last = max((answer.at for answer in amounts.by), default=now)
    if amounts.state == "approved" and now - last > CARRIED_OUT_WITHIN:
        return (
            amounts,
            "the approval could not be carried out in time, and an old approval is none",
            amounts.by[-1],
        )
    return amounts, "", answers.answers[-1]


# -- what becomes of an ask --------------------------------------------------------------------------------------------


def carry_out(engine: "Engine", case_id: str, seq: int) -> "tuple[Walked, UndoRun | None]":
    """Carry out what a person said to an ask: once, however often it is asked for. An approved undo is handed on.

    BusyError when a run holds the target: the answer stands, and is carried out when it comes back.
    """
    return anew(case_id, lambda: _carry_out(engine, case_id, seq))


def _carry_out(engine: "Engine", case_id: str, seq: int) -> "tuple[Walked, UndoRun | None]":
    case, now = engine.case(case_id), engine.clock.now()
    ask = case.ask if case else None
    redelivered = case and case.asks == seq and (case.state is CaseState.RUNNING or case.pending)
    answers = engine.cases.answers(case_id, seq) if redelivered or (ask and ask.seq == seq) else None
    if case is None or answers is None or not answers.answers:
        return Walked(case_id, "nothing", "no open ask", "nobody waits for this answer", case=case_id), None
    if ask is None:  # the run that this answer began has died, or has not looked at what joined it
        return engine.visit(engine.about(case, f"answer:{case.id}:{seq}", Origin.WAKE, now))[0], None
    return _settle(engine, case, ask, answers, now)


def _settle(
    engine: "Engine", case: Case, ask: Ask, answers: Answers, now: datetime
) -> "tuple[Walked, UndoRun | None]":
    """Go by what the answers amount to, whichever it is."""
    amounts, problem, culprit = judged(policy_of(engine), case, ask, answers, now)
    if problem:
        return _drop(engine, case, ask, (culprit,), problem, now), None
    if amounts.state == "open":
        return _progress(engine, case, ask, answers, amounts, now), None
    if amounts.state == "denied":
        return _deny(engine, case, ask, amounts.by, now), None
    last = amounts.by[-1]
    if last.break_glass:
        told = notify.glass(case, ask, last.by, last.at, last.reason)
        case = engine.commit(case, now, (), notices=(told,))
    if ask.undo:
        from chalicelib.flow.errand import UndoRun  # noqa: PLC0415 -- an event's cold start does without it

        walked = Walked(case.id, "undo", "approved", last.reason, case=case.id)
        return walked, UndoRun(case=case.id, ask=ask.seq)
    visit = engine.about(case, f"answer:{case.id}:{ask.seq}", Origin.WAKE, last.at)
    controls = tuple(engine.controls[name] for name in ask.controls)
    return engine.visit(replace(visit, controls=controls, approval=Approval(ask, amounts.by)))[0], None


def _progress(
    engine: "Engine", case: Case, ask: Ask, answers: Answers, amounts: "Consent", now: datetime
) -> Walked:
    """Somebody approved, or took it back, and more must approve: people are told how many of how many."""
    reason = f"{len(amounts.by)} of {amounts.needs} approved"
    notice = notify.about_ask(case, ask, f"progress-{answers.version}", now, reason)
    engine.commit(case, now, (), notices=(notice,))
    return Walked(case.id, "waiting", "more must approve", reason, case=case.id, controls=ask.controls)


def over(case: Case, ask: Ask, state: CaseState, reason: str) -> Case:
    """The case without the ask, its controls in that state; those of an undo are as the run left them."""
    where = case.where(ask.controls, CaseState.CLOSED if ask.undo else state)
    return case.model_copy(update={**where, "ask": None, "reason": reason})


def _deny(engine: "Engine", case: Case, ask: Ask, by: tuple[Answer, ...], now: datetime) -> Walked:
    """A person said no: nothing is changed, and the same plan is not asked about again for a while."""
    reason = by[-1].reason
    denied = case.denied if ask.undo else Denied(plan_hash=ask.plan_hash, at=now)
    ended = over(case, ask, CaseState.DENIED, reason).model_copy(update={"denied": denied})
    drafts = (record.answered(case, ask, by),)
    told = notify.about_ask(case, ask, "denied", now, reason, by=by[-1].by)
    engine.commit(ended, now, drafts, notices=(told,))
    return Walked(case.id, "denied", "a person said no", reason, case=case.id, controls=ask.controls)


def _drop(
    engine: "Engine", case: Case, ask: Ask, by: tuple[Answer, ...], problem: str, now: datetime
) -> Walked:
    """An answer that the engine does not go by: on record, and the ask is over, so that it is asked again."""
    ended = over(case, ask, CaseState.EXPIRED, problem)
    drafts = (record.answered(case, ask, by, problem),)
    engine.commit(ended, now, drafts, notices=(notify.about_ask(case, ask, "refused", now, problem),))
    return Walked(case.id, "refused", "answer refused", problem, case=case.id, controls=ask.controls)


def expire(engine: "Engine", case: Case, ask: Ask, now: datetime) -> Walked:
    """Nobody answered in time: a ticket, and the next sweep that still finds it failing asks again. Never an act.

    An undo just ends.
    """
    reason = f"nobody answered by {stamp(ask.expires_at)}"
    ended = over(case, ask, CaseState.EXPIRED, reason)
    drafts = [record.about_ask(case, ask, RecordType.EXPIRED, now, reason)]
    notices = [notify.about_ask(case, ask, "expired", now, reason)]
    ticket = None if ask.undo else _ticket(engine, ended, ask, reason, now)
    ended, drafts, notices = ticketing.told(case, ended, ticket, f"ask:{case.id}:{ask.seq}", drafts, notices)
    engine.commit(ended, now, drafts, notices=tuple(notices), ticket=ticket)
    return Walked(case.id, "expired", "no answer", reason, case=case.id, controls=ask.controls)


def hand_to_ticket(engine: "Engine", case: Case, order: "TicketWanted", key: str, now: datetime) -> Walked:
    """A person wants a ticket in the place of an answer: the ask is over, and nothing is changed by it.

    Answers that decided before are carried out instead: whoever gave them was told so.
    """
    ask = case.ask
    if case.state is not CaseState.WAITING or ask is None or ask.undo or ask.seq != order.ask:
        return Walked(case.id, "nothing", "no open ask", "nobody is asked about it now", case=case.id)
    answers = engine.cases.answers(case.id, ask.seq)
    if answers and answers.answers and judged(policy_of(engine), case, ask, answers, now)[0].state != "open":
        return _settle(engine, case, ask, answers, now)[0]
    why = f"{order.by} wants a ticket: {order.reason}"
    ended = over(case, ask, CaseState.TICKETED, why)
    ticket = _ticket(engine, ended, ask, why, now)
    if ticket is None:
        return Walked(case.id, "nothing", "no control", "the catalog has its controls no more", case=case.id)
    ended, drafts, notices = ticketing.told(case, ended, ticket, key, (), ())
    notices.append(notify.about_ask(case, ask, "ticketed", now, order.reason, by=order.by))
    engine.commit(ended, now, drafts, notices=tuple(notices), ticket=ticket)
    return Walked(case.id, "ticket", "a person wants one", why, case=case.id, controls=ask.controls)


def _ticket(engine: "Engine", case: Case, ask: Ask, why: str, now: datetime) -> Ticket | None:
    """The ticket that takes the ask's place; None when the catalog has none of its controls any more."""
    controls = tuple(engine.controls[name] for name in ask.controls if name in engine.controls)
    if not controls:
        return None
    remediation = engine.remediations[controls[0].id]
    try:
        before = remediation.state.model_validate_json(json.dumps(ask.before))
    except ValidationError:  # another version wrote it: whoever takes the ticket has to look
        before = None
    return ticketing.opened(case, remediation, controls, why, now, plan=ask.plan, state=before)


def remind(engine: "Engine", case: Case, ask: Ask, now: datetime) -> Walked:
    """Half of the time is over: people are told once more."""
    reason = f"it ends at {stamp(ask.expires_at)}"
    reminded = case.model_copy(update={"ask": ask.model_copy(update={"reminded": True})})
    drafts = (record.about_ask(case, ask, RecordType.REMINDED, now, reason),)
    engine.commit(reminded, now, drafts, notices=(notify.about_ask(case, ask, "reminded", now, reason),))
    return Walked(
        case.id, "reminded", "half of the time is over", reason, case=case.id, controls=ask.controls
    )


def send(engine: "Engine", case: Case, ask: Ask, now: datetime) -> Walked:
    """Business hours have begun: people are told of an ask that was made outside of them."""
    sent = ask.model_copy(update={"sent": True})
    told = case.model_copy(update={"ask": sent})
    engine.commit(told, now, (), notices=(notify.asked(case, sent),))
    return Walked(case.id, "sent", "business hours began", ask.reason, case=case.id, controls=ask.controls)
