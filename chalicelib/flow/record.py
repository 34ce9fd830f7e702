"""Record: what each stage writes into the audit trail. Every draft's step makes its id, so a redelivery writes it once."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.approval import Answer, Ask
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, Run, session_name
from chalicelib.domain.contract import CallResult, Outcome, Plan, State
from chalicelib.domain.decision import Decision
from chalicelib.domain.finding import Actor, NotOurs, Signal
from chalicelib.domain.record import Draft, RecordType, stamp
from chalicelib.domain.ticket import Ticket


def not_ours(event: NotOurs, at: datetime) -> Draft:
    """An event that asks nothing of us, and why: a chain of one record."""
    return Draft(
        type=RecordType.NOT_OURS,
        source_id=event.event_id,
        step="not-ours",
        occurred_at=at,
        account=event.account,
        region=event.region,
        data={"event": event.name, "reason": event.reason, "sha256": event.sha256},
    )


def received(
    signal: Signal, case: Case, key: str, controls: tuple[str, ...], opened: tuple[str, ...]
) -> Draft:
    """What we were told. JOINED when another run holds the target, RECEIVED otherwise."""
    running = case.run is not None
    return _draft(
        RecordType.JOINED if running else RecordType.RECEIVED,
        case,
        key,
        "received",
        signal.at,
        controls=controls,
        actor=signal.actor,
        data={
            "event": signal.name,
            "event_source": signal.source,
            "request_id": signal.request_id,
            "sha256": signal.sha256,
            "origin": signal.origin.value,
            "opened": list(opened),
            "generation": case.generation,
        },
    )


def decided(
    case: Case,
    key: str,
    at: datetime,
    decision: Decision,
    modes: Mapping[str, str],
    *,
    plan: Plan | None = None,
    plan_hash: str = "",
    state: State | None = None,
    exemptions: tuple[str, ...] = (),
) -> Draft:
    """The decision with its rule and reason; with the state and the plan unless an INTENT follows that holds them."""
    return _draft(
        RecordType.DECIDED,
        case,
        key,
        f"decided-{case.generation}",
        at,
        controls=tuple(sorted(modes)),
        data={
            "verdict": decision.verdict.value,
            "rule": decision.rule,
            "reason": decision.reason,
            "modes": dict(modes),
            "exemptions": list(exemptions),
            "generation": case.generation,
            "before": state.model_dump(mode="json") if state else None,
            "plan": plan.model_dump(mode="json") if plan else None,
            "plan_hash": plan_hash,
        },
    )


def asked(case: Case, ask: Ask, key: str) -> Draft:
    """A person is asked: the frozen plan, its hash, until when, and who may not approve it."""
    return _draft(
        RecordType.ASKED,
        case,
        key,
        f"asked-{ask.seq}",
        ask.asked_at,
        controls=ask.controls,
        data={
            "ask": ask.seq,
            "kind": ask.kind.value,
            "plan": ask.plan.model_dump(mode="json"),
            "plan_hash": ask.plan_hash,
            "expires_at": stamp(ask.expires_at),
            "requesters": list(ask.requesters),
            "again": ask.again,
            "undo": ask.undo.model_dump(mode="json") if ask.undo else None,
            "reason": ask.reason,
        },
    )


def answered(case: Case, ask: Ask, answers: tuple[Answer, ...], problem: str = "") -> Draft:
    """What people said to an ask and decided it, as the engine found it; with a `problem`, why the engine does not go by it."""
    last = answers[-1]
    return _draft(
        RecordType.ANSWER_REFUSED if problem else RecordType.ANSWERED,
        case,
        f"answer:{case.id}:{ask.seq}",
        f"answered-{ask.seq}",
        last.at,
        controls=ask.controls,
        data={
            "ask": ask.seq,
            "kind": ask.kind.value,
            "approve": last.approve,
            "by": ", ".join(answer.by for answer in answers),
            "reason": last.reason,
            "answered_at": stamp(last.at),
            "request_id": last.request_id,
            "answers": [answer.model_dump(mode="json") for answer in answers],
            "plan_hash": ask.plan_hash,
            "problem": problem,
        },
    )


def about_ask(case: Case, ask: Ask, kind: RecordType, at: datetime, reason: str, found: str = "") -> Draft:
    """An ask was reminded of, ended unanswered, or no longer fits: `found` is the hash of the plan that is needed now."""
    return _draft(
        kind,
        case,
        f"ask:{case.id}:{ask.seq}",
        f"{kind.value.lower()}-{ask.seq}",
        at,
        controls=ask.controls,
        data={
            "ask": ask.seq,
            "kind": ask.kind.value,
            "plan_hash": ask.plan_hash,
            "plan_hash_now": found,
            "reason": reason,
        },
    )


def ticket(case: Case, one: Ticket, key: str) -> Draft:
    """A ticket was opened or closed. An update of an open ticket is no record of its own: what it tells of is one."""
    return _draft(
        RecordType.TICKET_OPENED if one.is_open else RecordType.TICKET_CLOSED,
        case,
        key,
        f"ticket-{one.number}-{one.state.value}",
        one.updated_at,
        controls=one.controls,
        data={"ticket": one.id, "why": one.why, "owner": one.owner, "because": one.closed_because},
    )


def ticket_closed_externally(
    case: Case, one: Ticket, key: str, integration: str, remote: str, at: datetime
) -> Draft:
    """A ticket system says that somebody closed our ticket there. That is a word, and ours stays as it is."""
    return _draft(
        RecordType.TICKET_CLOSED_EXTERNALLY,
        case,
        key,
        f"ticket-{one.number}-closed-externally",
        at,
        controls=one.controls,
        data={"ticket": one.id, "integration": integration, "remote": remote},
    )


def ticket_not_brought(case: Case, one: Ticket, key: str, integration: str, why: str, at: datetime) -> Draft:
    """A ticket system does not take our ticket. It is brought there again and again, and that is no record of its own."""
    return _draft(
        RecordType.ERROR,
        case,
        key,
        f"ticket-{one.number}-not-brought",
        at,
        controls=one.controls,
        data={
            "ticket": one.id,
            "integration": integration,
            "reason": f"ticket {one.id} as it stands did not get to {integration}: {why}",
        },
    )


def intent(case: Case, run: Run, params: Mapping[str, JsonValue]) -> Draft:
    """What is about to be done, and on which state: durable before the first write."""
    return _draft(
        RecordType.UNDO_INTENT if run.undo else RecordType.INTENT,
        case,
        run.source_id,
        f"intent-{run.seq}",
        run.started_at,
        controls=run.controls,
        data={
            "run": run.seq,
            "session": session_name(case.id, run.seq),
            "generation": run.generation,
            "cause": run.cause.model_dump(mode="json", exclude={"last_state", "acted_before"}),
            "params": dict(params),
            "before": run.before,
            "plan": run.plan.model_dump(mode="json"),
            "plan_hash": run.plan_hash,
            "approved_by": run.approved_by,
            "undo": run.undo.model_dump(mode="json") if run.undo else None,
            "lease_until": stamp(run.lease_until),
        },
    )


def result(
    case: Case,
    run: Run,
    at: datetime,
    outcome: Outcome,
    reason: str,
    results: tuple[CallResult, ...],
    after: State | None,
) -> Draft:
    """What the run achieved, as observed: each call's request id, and the state that was read afterwards."""
    recovered = any(done.observed_by == "reassessment" for done in results)
    return _draft(
        RecordType.UNDO_RESULT if run.undo else RecordType.RESULT,
        case,
        run.source_id,
        f"result-{run.seq}",
        at,
        controls=run.controls,
        data={
            "run": run.seq,
            "session": session_name(case.id, run.seq),
            "outcome": outcome.value,
            "reason": reason,
            "results": [done.model_dump(mode="json") for done in results],
            "observed_by": "reassessment" if recovered else "response",
            "after": after.model_dump(mode="json") if after else None,
            "plan_hash": run.plan_hash,
            "opened_at": stamp(case.opened_at),
        },
    )


def breaker_opened(case: Case, one: Breaker, run: int, source_id: str, at: datetime, reason: str) -> Draft:
    """This run was one too many that went wrong: its control asks people here from now on."""
    return _draft(
        RecordType.BREAKER_OPENED,
        case,
        source_id,
        f"breaker-{run}-{one.control}",
        at,
        controls=(one.control,),
        data={"run": run, "breaker": one.model_dump(mode="json"), "reason": reason},
    )


def unread(case: Case, key: str, at: datetime, controls: tuple[str, ...], reason: str) -> Draft:
    """A run that failed before it could plan: the target could not be read, so nothing was changed."""
    return _draft(
        RecordType.RESULT,
        case,
        key,
        f"unread-{case.generation}",
        at,
        controls=controls,
        data={"outcome": Outcome.FAILED.value, "reason": reason, "results": [], "after": None},
    )


def undo_refused(case: Case, key: str, run: int, at: datetime, outcome: Outcome, reason: str) -> Draft:
    """An undo that was not begun: what is there now is not what the run left, or there is nothing to take back."""
    return _draft(
        RecordType.UNDO_RESULT,
        case,
        key,
        f"undo-refused-{run}",
        at,
        controls=case.controls,
        data={"run": run, "outcome": outcome.value, "reason": reason, "results": [], "after": None},
    )


def own_event(signal: Signal, case: Case, key: str, kind: RecordType, data: dict[str, JsonValue]) -> Draft:
    """A CloudTrail event of our own making, matched to its run by session name."""
    return _draft(
        kind,
        case,
        key,
        "own-event",
        signal.at,
        controls=case.controls,
        actor=signal.actor,
        data={"event": signal.name, "request_id": signal.request_id, "session": signal.actor.session, **data},
    )


def tamper(signal: Signal, case: Case, key: str) -> Draft:
    """One of our own roles was used outside any run of ours."""
    return _draft(
        RecordType.TAMPER_SUSPECTED,
        case,
        key,
        "tamper",
        signal.at,
        controls=case.controls,
        actor=signal.actor,
        data={
            "event": signal.name,
            "request_id": signal.request_id,
            "session": signal.actor.session,
            "reason": "our own role made this call, and no run of ours is known for it",
        },
    )


def _draft(
    kind: RecordType,
    case: Case,
    source_id: str,
    step: str,
    at: datetime,
    *,
    controls: tuple[str, ...],
    data: dict[str, Any],
    actor: Actor | None = None,
) -> Draft:
    return Draft(
        type=kind,
        source_id=source_id,
        step=step,
        occurred_at=at,
        account=case.target.account,
        region=case.target.region,
        resource=case.target.resource,
        controls=controls,
        actor=actor,
        data=data,
    )
