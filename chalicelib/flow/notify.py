"""Notify: the messages that people get, written into the outbox in the transaction that makes them true."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import JsonValue

from chalicelib.domain.approval import Ask
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, Run, session_name
from chalicelib.domain.contract import Outcome
from chalicelib.domain.finding import Signal
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import stamp
from chalicelib.domain.ticket import Ticket

MOST_CALLS = 5
"""So many of a run's calls are told by what they are for; of the rest it is told how many there are."""


def asked(case: Case, ask: Ask) -> Notice:
    """A person is asked, why, and until when. What would be done is told from the case, as it stands then."""
    return Notice(
        id=f"{case.id}#ask-{ask.seq}",
        kind="ask",
        case=case.id,
        at=ask.send_at or ask.asked_at,
        body={
            **_about(case, ask.controls),
            "ask": ask.seq,
            "reason": ask.reason,
            "expires_at": stamp(ask.expires_at),
        },
    )


def about_ask(case: Case, ask: Ask, kind: str, at: datetime, reason: str, by: str = "") -> Notice:
    """What became of an ask: reminded of, answered in part (`progress-<n>`), or over in whichever way.

    Denied, refused, ticketed, expired, stale; or just over, because it is needed no more or asked anew.
    """
    return Notice(
        id=f"{case.id}#ask-{ask.seq}-{kind}",
        kind=f"ask_{kind.partition('-')[0]}",
        case=case.id,
        at=at,
        body={
            **_about(case, ask.controls),
            "ask": ask.seq,
            "reason": reason,
            "by": by,
        },
    )


def news(case: Case, name: str, at: datetime, says: str) -> Notice:
    """What people did with a case beside deciding it: took it on, handed it over, commented on it, called it an incident."""
    body: dict[str, JsonValue] = {**_about(case, case.controls), "says": says}
    return Notice(id=f"{case.id}#news-{name}", kind="case_news", case=case.id, at=at, body=body)


def glass(case: Case, ask: Ask, by: str, at: datetime, reason: str) -> Notice:
    """Critical: somebody approved alone what others should have approved."""
    return Notice(
        id=f"{case.id}#ask-{ask.seq}-glass",
        kind="break_glass",
        case=case.id,
        at=at,
        body={**_about(case, ask.controls), "ask": ask.seq, "reason": reason, "by": by},
    )


def _about(case: Case, controls: Iterable[str]) -> dict[str, JsonValue]:
    """What every message of a case carries, so that it finds its way: where it is, what it is about, whose it is."""
    return {
        "account": case.target.account,
        "region": case.target.region,
        "resource": case.target.resource,
        "controls": list(controls),
        "owner": case.owner,
    }


def ticket(one: Ticket, again: str = "") -> Notice:
    """A ticket, whole: whoever brings it to a ticket system needs nothing else. `again` names why it is told once more."""
    state = one.state.value
    return Notice(
        id=f"{one.id}#{state}{f'#{again}' if again else ''}",
        kind=f"ticket_{state}",
        case=one.case,
        at=one.updated_at,
        body=_of_ticket(one),
    )


def ticket_news(one: Ticket) -> Notice:
    """There is something new in an open ticket, whole: for ticket systems. The newest of it stands over what was new before."""
    return Notice(
        id=f"{one.id}#news", kind="ticket_news", case=one.case, at=one.updated_at, body=_of_ticket(one)
    )


def heard(case: Case, one: Ticket, integration: str, request_id: str, at: datetime) -> Notice:
    """Something was done to the ticket in that system, as it says itself: whoever keeps it there asks."""
    body = {**_of_ticket(one), "integration": integration}
    return Notice(id=f"{one.id}#heard-{request_id}", kind="ticket_heard", case=case.id, at=at, body=body)


def _of_ticket(one: Ticket) -> dict[str, JsonValue]:
    return {
        "account": one.target.account,
        "region": one.target.region,
        "resource": one.resource,
        "controls": list(one.controls),
        "owner": one.owner,
        "ticket": one.model_dump(mode="json"),
    }


def run_state(case: Case, run: Run, at: datetime, outcome: Outcome | None, reason: str) -> Notice:
    """One notice per run: written with the INTENT, overwritten by the RESULT under the same id.

    Written before the first write on purpose: a deployment that may not write its outbox must find out while nothing
    has been changed.
    """
    calls = run.plan.calls
    return Notice(
        id=f"{case.id}#run-{run.seq}",
        kind=f"{'undo' if run.undo else 'run'}_{outcome.value if outcome else 'started'}",
        case=case.id,
        at=at,
        body={
            **_about(case, run.controls),
            "session": session_name(case.id, run.seq),
            "reason": reason,
            "approved_by": run.approved_by,
            "calls": [call.why for call in calls[:MOST_CALLS]],
            "more_calls": len(calls[MOST_CALLS:]),
        },
    )


def breaker_opened(case: Case, one: Breaker, at: datetime, reason: str) -> Notice:
    """A control asks people again in an account, because its runs went wrong there."""
    return Notice(
        id=f"BREAKER#{one.account}#{one.control}#{one.version}",
        kind="breaker_opened",
        case=case.id,
        at=at,
        body={**_about(case, (one.control,)), "reason": reason},
    )


def undo_refused(case: Case, key: str, at: datetime, reason: str) -> Notice:
    """An undo that somebody wanted and that was not begun."""
    body: dict[str, JsonValue] = {**_about(case, case.controls), "reason": reason}
    return Notice(id=f"{case.id}#{key}", kind="undo_refused", case=case.id, at=at, body=body)


def tamper(case: Case, signal: Signal, at: datetime) -> Notice:
    """Critical: somebody uses our role."""
    return Notice(
        id=f"{case.id}#tamper-{signal.event_id}",
        kind="tamper_suspected",
        case=case.id,
        at=at,
        body={**_about(case, case.controls), "event": signal.name, "session": signal.actor.session},
    )
