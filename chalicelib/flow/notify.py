"""Notify: the messages that people get, written into the outbox in the transaction that makes them true."""

from datetime import datetime

from chalicelib.domain.case import Case, Run, session_name
from chalicelib.domain.contract import Outcome
from chalicelib.domain.decision import Decision, Verdict
from chalicelib.domain.finding import Signal
from chalicelib.domain.ports import Notice

TOLD = frozenset({Verdict.TICKET, Verdict.ASK})
"""Verdicts that wait on a person. What is only observed goes into a report, not into anybody's inbox."""


def decided(case: Case, decision: Decision, at: datetime) -> tuple[Notice, ...]:
    """A notice when a person has to do something."""
    if decision.verdict not in TOLD:
        return ()
    return (
        Notice(
            id=f"{case.id}#{case.generation}#{decision.verdict.value}",
            kind=decision.verdict.value,
            case=case.id,
            at=at,
            body={
                "resource": case.target.resource,
                "controls": list(case.controls),
                "reason": decision.reason,
            },
        ),
    )


def run_state(case: Case, run: Run, at: datetime, outcome: Outcome | None, reason: str) -> Notice:
    """One notice per run: written with the INTENT, overwritten by the RESULT under the same id.

    Written before the first write on purpose: a deployment that may not write its outbox must find out while nothing
    has been changed.
    """
    return Notice(
        id=f"{case.id}#run-{run.seq}",
        kind=f"run_{outcome.value}" if outcome else "run_started",
        case=case.id,
        at=at,
        body={
            "resource": case.target.resource,
            "controls": list(run.controls),
            "session": session_name(case.id, run.seq),
            "reason": reason,
        },
    )


def tamper(case: Case, signal: Signal, at: datetime) -> Notice:
    """Critical: somebody uses our role."""
    return Notice(
        id=f"{case.id}#tamper-{signal.event_id}",
        kind="tamper_suspected",
        case=case.id,
        at=at,
        body={"resource": case.target.resource, "event": signal.name, "session": signal.actor.session},
    )
