"""Ticketing: what a person has to do by hand, written as a ticket in the transaction that makes it necessary.

One open ticket per case digest, whoever tells of it and however often. It closes when an assessment found the target
compliant, in the transaction that says so.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import AnyRemediation, Plan, State, Step, canonical, command_of
from chalicelib.domain.control import Control
from chalicelib.domain.finding import worst
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import Draft
from chalicelib.domain.ticket import LONGEST_TITLE, Ticket, TicketState
from chalicelib.flow import notify, record

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_BYTES = 16 * 1024
"""A state longer than this is left out of the ticket; the record that the ticket names holds it."""

UNDO = "undo"
"""Where a ticket's evidence says that it is about bringing something back: what is compliant has not been brought back."""


def opened(
    case: Case,
    remediation: AnyRemediation,
    controls: Iterable[Control],
    why: str,
    now: datetime,
    *,
    plan: Plan | None = None,
    state: State | None = None,
) -> Ticket:
    """The ticket that stands for this case from now on: the open one with the newest evidence, or the next one."""
    controls = tuple(sorted(controls, key=lambda control: control.id))
    before = case.ticket
    stands = before is not None and before.is_open
    number = before.number + (0 if stands else 1) if before else 1
    title = "; ".join(control.title for control in controls)
    named = {*(before.controls if before and stands else ()), *(control.id for control in controls)}
    return Ticket(
        digest=case.digest,
        number=number,
        case=case.id,
        state=TicketState.OPEN,
        severity=worst(control.severity for control in controls),
        title=f"Fails: {title}"[:LONGEST_TITLE],
        target=case.target,
        resource=case.target.resource,
        controls=tuple(sorted(named)),
        owner=case.owner,
        why=why[:1000],
        evidence=_evidence(case, plan, state),
        steps=_steps(remediation, case, state),
        commands=tuple(command_of(call, case.target) for call in plan.calls) if plan else (),
        as_code=remediation.as_code(case.target, state) if state else "",
        opened_at=before.opened_at if before and stands else now,
        updated_at=now,
    )


def closed(case: Case, because: str, now: datetime) -> Ticket | None:
    """The case's open ticket, closed, when nothing that it is about is open any more; else None.

    One about an undo is closed when all that it is about is exempt, as what was undone is.
    """
    ticket, standing = case.ticket, case.standing
    if ticket is None or not ticket.is_open or not case.state.ended or not {*ticket.controls} <= {*standing}:
        return None
    if UNDO in ticket.evidence and any(standing[name] is not CaseState.EXEMPT for name in ticket.controls):
        return None
    return ticket.model_copy(
        update={"state": TicketState.CLOSED, "updated_at": now, "closed_because": because[:1000]}
    )


def told(
    before: Case,
    case: Case,
    ticket: Ticket | None,
    key: str,
    drafts: Iterable[Draft],
    notices: Iterable[Notice],
) -> tuple[Case, list[Draft], list[Notice]]:
    """`case` with its ticket, and who is told: of an opening or a closing people and the trail, of other news ticket systems."""
    drafts, notices = [*drafts], [*notices]
    if ticket is None:
        return case, drafts, notices
    was = before.ticket
    if was is None or (was.number, was.state) != (ticket.number, ticket.state):
        drafts.append(record.ticket(before, ticket, key))
        notices.append(notify.ticket(ticket))
    elif was.shown != ticket.shown:
        notices.append(notify.ticket_news(ticket))
    return case.model_copy(update={"ticket": ticket}), drafts, notices


def _evidence(case: Case, plan: Plan | None, state: State | None) -> dict[str, JsonValue]:
    newest = max(case.causes, key=lambda cause: cause.at)
    seen = state.model_dump(mode="json") if state else None
    if seen is not None and len(canonical(seen)) > STATE_BYTES:
        seen = None
    evidence: Mapping[str, JsonValue] = {
        "case": case.id,
        "told_by": newest.event_id,
        "told_at": newest.at.isoformat(),
        "actor": newest.actor.arn or newest.actor.type,
        "records": f"chain {case.id}, up to record {case.head.seq}, and what follows",
        "state": seen,
        "declined": [f"{item.what}: {item.why}" for item in plan.declined] if plan else [],
        "planned": [call.why for call in plan.calls] if plan else [],
        "plan_hash": case.plan_hash,
    }
    return json.loads(json.dumps(evidence))  # type: ignore[no-any-return]  # JSON by construction


def _steps(remediation: AnyRemediation, case: Case, state: State | None) -> tuple[Step, ...]:
    if state is None:
        where = f"{case.target.resource} in account {case.target.account}, {case.target.region}"
        return (Step(console=f"Look at {where}: what it is like could not be read, or not be kept."),)
    return remediation.by_hand(case.target, state)
