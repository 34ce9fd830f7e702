"""What people are shown before they answer, and of what they have to do by hand: asks, answers, tickets, sweeps.

Each function turns one thing into plain JSON, from which both the table and `--json` are made.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from chalicelib.cli import screen
from chalicelib.cli.ledger import Books
from chalicelib.domain.approval import Answer, Ask
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import command_of
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.policy import Policy, name_of
from chalicelib.domain.ports import Exemption
from chalicelib.domain.record import stamp
from chalicelib.domain.sweep import OPEN_CASES, Sweep
from chalicelib.domain.ticket import Ticket, TicketState

# ---------------------------------------------------------------------------------------------------------------- asks


def waiting(books: Books) -> Iterator[tuple[Case, Ask]]:
    """The cases that wait for an answer with what they ask, the one that expires first before the others."""
    asked = ((case, case.ask) for case in books.ledger.cases(CaseState.WAITING) if case.ask)
    yield from sorted(asked, key=lambda pair: pair[1].expires_at)


def ask_of(case: Case) -> Ask:
    """What the case asks; RefusedCommandError when it asks nothing, so that there is nothing to answer to."""
    if case.ask is None:
        raise RefusedCommandError(
            f"nobody is asked about case {case.id}: it is {case.state.value}; `redress waiting` lists what waits"
        )
    return case.ask


def ask_shown(case: Case, ask: Ask, now: datetime) -> dict[str, Any]:
    """An ask as plain JSON: the whole plan, the state that it rests on, and how it is answered."""
    return {
        "case": case.id,
        "ask": ask.seq,
        "kind": ask.kind.value,
        "resource": case.target.resource,
        "account": case.target.account,
        "region": case.target.region,
        "controls": list(ask.controls),
        "reason": ask.reason,
        "owner": case.owner,
        "undoes_run": ask.undo.run if ask.undo else None,
        "wanted_by": ask.undo.by if ask.undo else None,
        "exempt_afterwards_until": stamp(ask.undo.until) if ask.undo else None,
        "before": ask.before,
        "calls": [
            {"why": call.why, "command": command_of(call, case.target), **call.model_dump(mode="json")}
            for call in ask.plan.calls
        ],
        "declined": [item.model_dump(mode="json") for item in ask.plan.declined],
        "monthly_cost": f"{ask.plan.monthly_cost.amount}: {ask.plan.monthly_cost.basis}",
        "notes": list(ask.notes),
        "as_code": ask.as_code,
        "may_not_approve": list(ask.requesters),
        "asked_at": stamp(ask.asked_at),
        "expires_at": stamp(ask.expires_at),
        "open": ask.open(now),
        "plan_hash": ask.plan_hash,
    }


def waiting_row(shown: dict[str, Any]) -> tuple[str, ...]:
    """One ask in a line: what would be done, who may not approve it, until when."""
    would = "; ".join(call["why"] for call in shown["calls"]) or "nothing that the engine could do"
    undo = f"undo run {shown['undoes_run']}: " if shown["undoes_run"] else ""
    until = shown["expires_at"] if shown["open"] else f"expired {shown['expires_at']}"
    return (
        shown["case"],
        shown["resource"],
        ", ".join(shown["controls"]),
        undo + would,
        ", ".join(shown["may_not_approve"]),
        until,
    )


_ASK_LINES = (
    "case",
    "kind",
    "resource",
    "controls",
    "reason",
    "owner",
    "undoes_run",
    "wanted_by",
    "exempt_afterwards_until",
    "may_not_approve",
    "monthly_cost",
    "asked_at",
    "expires_at",
    "plan_hash",
)


def show_ask(shown: dict[str, Any]) -> None:
    """The ask in plain words: what was seen, every call with its reason, what is left alone, and the hash that binds it."""
    named = {name: shown[name] for name in _ASK_LINES if shown[name]}
    screen.pairs({name.replace("_", " "): _words(value) for name, value in named.items()})
    screen.say("before:")
    for name, value in sorted(shown["before"].items()):
        screen.say(f"   {name}: {json.dumps(value, sort_keys=True)}")
    for number, call in enumerate(shown["calls"], start=1):
        screen.say(f"{number}. {call['why']}")
        screen.say(f"   {call['command']}")
    for item in shown["declined"]:
        screen.say(f"left alone: {item['what']}: {item['why']}")
    for note in shown["notes"]:
        screen.say(f"note: {note}")
    _show_lines("as code:", shown["as_code"])


def _words(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _show_lines(title: str, text: str) -> None:
    """Text of several lines, each on its own line and indented, under a title; nothing when there is none."""
    if text:
        screen.say(title)
        for line in text.splitlines():
            screen.say(f"   {line}")


def answers_of(books: Books, case: Case) -> tuple[Answer, ...]:
    """What people said to the newest ask of the case."""
    found = books.ledger.answers(case.id, case.asks) if case.asks else None
    return found.answers if found else ()


def _did(answer: Answer) -> str:
    if answer.withdrawn:
        return "taken back"
    if answer.break_glass:
        return "approved alone, break-glass"
    return "approved" if answer.approve else "denied"


def standing(case: Case, answers: Iterable[Answer], now: datetime) -> dict[str, str]:
    """What a case waits for, as far as it does: an answer, somebody's hands, a day."""
    lines = {}
    if case.ask:
        until = "until" if case.ask.open(now) else "expired"
        lines["asked"] = (
            f"{case.ask.reason} ({until} {stamp(case.ask.expires_at)}, plan {case.ask.plan_hash})"
        )
    for one in answers:
        did = _did(one)
        more = f"{lines[did]}; " if did in lines else ""
        lines[did] = f"{more}by {one.by} at {stamp(one.at)}: {one.reason}"
    if case.ticket:
        lines["ticket"] = f"{case.ticket.id}, {case.ticket.state.value}: {case.ticket.title}"
    if case.wakes_at:
        lines["looked at again"] = stamp(case.wakes_at)
    if case.owner:
        lines["owner"] = case.owner
    return lines


def looked_after(dossier: Dossier | None, policy: Policy | None) -> dict[str, str]:
    """In whose hands a case is, and whether somebody called it an incident."""
    lines = {}
    if dossier and dossier.holder:
        since = f", since {stamp(dossier.held_since)}" if dossier.held_since else ""
        lines["in the hands of"] = f"{name_of(policy, dossier.holder)}{since}"
    if dossier and (said := dossier.incident):
        lines["incident" if said.declared else "no incident"] = (
            f"caused by {said.root_cause}, says {name_of(policy, said.by)} at {stamp(said.at)}: {said.reason}"
        )
    return lines


# ------------------------------------------------------------------------------------------------------------- tickets


def tickets(books: Books, *, closed_too: bool) -> Iterable[Ticket]:
    """The open tickets, or all of them, the one that moved last first."""
    return books.ledger.tickets(None if closed_too else TicketState.OPEN)


def found_ticket(books: Books, name: str) -> Ticket:
    """The ticket of that id; RefusedCommandError when there is none."""
    for ticket in books.ledger.tickets(None):
        if ticket.id == name:
            return ticket
    raise RefusedCommandError(f"there is no ticket {name!r}; `redress tickets --all` lists them")


def show_ticket(ticket: Ticket) -> None:
    """The ticket as a work order: why, the evidence, the steps, and the commands, each on a line that can be pasted."""
    lines = {
        "ticket": ticket.id,
        "state": f"{ticket.state.value} {ticket.closed_because}".strip(),
        "title": ticket.title,
        "severity": ticket.severity.value,
        "resource": ticket.resource,
        "controls": ", ".join(ticket.controls),
        "owner": ticket.owner,
        "case": ticket.case,
        "why": ticket.why,
        "opened": stamp(ticket.opened_at),
        "updated": stamp(ticket.updated_at),
    }
    screen.pairs({name: value for name, value in lines.items() if value})
    screen.say("evidence:")
    for name, value in sorted(ticket.evidence.items()):
        screen.say(f"   {name}: {value if isinstance(value, str) else json.dumps(value, sort_keys=True)}")
    for number, step in enumerate(ticket.steps, start=1):
        screen.say(f"{number}. {step.console}")
        if step.command:
            screen.paste(step.command)
    if ticket.commands:
        screen.say("what the engine had planned:")
        for command in ticket.commands:
            screen.paste(command)
    _show_lines("as code:", ticket.as_code)


# ---------------------------------------------------------------------------------------------- exemptions and sweeps


def exemption_shown(one: Exemption, now: datetime) -> dict[str, Any]:
    """An entry of the register of exemptions."""
    return one.model_dump(mode="json") | {
        "expires_at": stamp(one.expires_at),
        "expired": one.expires_at <= now,
    }


def exemption_row(shown: dict[str, Any]) -> tuple[str, ...]:
    """The same in a line."""
    ends = f"expired {shown['expires_at']}" if shown["expired"] else shown["expires_at"]
    return (
        *(shown[name] for name in ("resource", "control", "account", "code", "owner", "reason", "by")),
        ends,
    )


def sweep_shown(sweep: Sweep, now: datetime) -> dict[str, Any]:
    """How far a sweep is, and what it saw: violations by control, and the parts that could not be read."""
    failing: dict[str, int] = {}
    for part in sweep.done:
        if part.name == OPEN_CASES:
            continue  # it looks at the same things once more
        for control, count in part.failing.items():
            failing[control] = failing.get(control, 0) + count
    ended, going = sweep.completed_at, "under way" if sweep.under_way(now) else "abandoned"
    return {
        "sweep": sweep.id,
        "account": sweep.account,
        "by": sweep.by,
        "started_at": stamp(sweep.started_at),
        "ended": stamp(ended) if ended else going,
        "parts": f"{len(sweep.done)} of {len(sweep.expected)}",
        "failing": failing,
        "unread": {part.name: part.unread for part in sweep.done if part.unread},
        "baseline": list(sweep.baseline),
    }


def sweep_row(shown: dict[str, Any]) -> tuple[str, ...]:
    """The same in a line."""
    failing = ", ".join(f"{control}: {count}" for control, count in sorted(shown["failing"].items()))
    unread = "; ".join(f"{name}: {why}" for name, why in sorted(shown["unread"].items()))
    fixed = (shown[name] for name in ("account", "by", "started_at", "ended", "parts"))
    return (*fixed, failing or "none seen", unread, ", ".join(shown["baseline"]))
