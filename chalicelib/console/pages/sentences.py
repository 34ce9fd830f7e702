"""Records in plain sentences: what each says, for people. The bytes beside them stay the evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from chalicelib.domain.approval import principal
from chalicelib.domain.policy import Policy
from chalicelib.domain.shape import mapping, sequence


@dataclass(frozen=True)
class Entry:
    """One record as a timeline shows it: when, of which type, what it says, whether that is good news, and the body."""

    at: datetime
    type: str
    says: str
    tone: str
    body: Mapping[str, Any]
    chain: str
    seq: int
    by: str


def entry(body: Mapping[str, Any], policy: Policy) -> Entry:
    """A record's body as a timeline shows it."""
    kind = str(body["type"])
    data = mapping(body["data"])
    by = _who(body, data, policy)
    say = _SAYS.get(kind)
    if data.get("approved_by"):
        data = {**data, "approved_by": _named(str(data["approved_by"]), policy)}
    return Entry(
        at=datetime.fromisoformat(body["recorded_at"]),
        type=kind,
        says=say(data, by) if say else kind.replace("_", " ").capitalize(),
        tone=_tone(kind, data),
        body=body,
        chain=str(body["chain"]),
        seq=int(body["seq"]),
        by=by,
    )


def barred(name: str, policy: Policy) -> str:
    """A principal that may not approve, as people know it."""
    for person in policy.people.values():
        if any(principal(identity) == name for identity in person.identities):
            return person.name
    return name.removeprefix("called:")


def _who(body: Mapping[str, Any], data: Mapping[str, Any], policy: Policy) -> str:
    by = data.get("by")
    identity = mapping(by).get("arn") or (by if isinstance(by, str) else "")
    actor = mapping(body.get("actor"))
    return _named(str(identity or actor.get("arn") or actor.get("type") or ""), policy)


def _named(identities: str, policy: Policy) -> str:
    """Whoever is meant, by the policy's names where it has them; several stand with commas between."""
    people = ((one, policy.who(one)) for one in identities.split(", "))
    return ", ".join(policy.people[person].name if person else one for one, person in people)


def _tone(kind: str, data: Mapping[str, Any]) -> str:
    if kind in {"RESULT", "UNDO_RESULT"}:
        return {"fixed": "good", "already_compliant": "good", "contained": "warn"}.get(
            str(data.get("outcome")), "bad"
        )
    if kind in {"ANSWERED", "BREAK_GLASS"}:
        return "good" if data.get("approve") else "bad"
    return _TONES.get(kind, "")


_TONES: Mapping[str, str] = MappingProxyType(
    {
        "ASKED": "warn",
        "REMINDED": "warn",
        "EXPIRED": "warn",
        "STALE": "warn",
        "SNOOZED": "warn",
        "VERIFIED": "good",
        "TICKET_CLOSED": "good",
        "ANSWER_REFUSED": "bad",
        "COMMAND_REFUSED": "bad",
        "TAMPER_SUSPECTED": "bad",
        "INCIDENT_DECLARED": "bad",
        "BREAKER_OPENED": "bad",
        "FREEZE_ON": "bad",
        "ERROR": "bad",
    }
)

Say = Callable[[Mapping[str, Any], str], str]


def _received(data: Mapping[str, Any], by: str) -> str:
    event = data.get("event") or "a finding"
    seen = {
        "sweep": "A sweep found it",
        "claim": "A finding tells of it",
        "request": "A person asked to look",
    }
    return seen.get(str(data.get("origin"))) or f"{by or 'Somebody'} caused {event}"


def _decided(data: Mapping[str, Any], _by: str) -> str:
    return f"The engine decided to {data.get('verdict')}: {data.get('reason')}"


def _answered(data: Mapping[str, Any], by: str) -> str:
    if "answers" in data:  # the engine's own record of what it found, after the person's
        said = "approval" if data.get("approve") else "denial"
        return f"The engine goes by the {said} of {by}"
    did = "approved" if data.get("approve") else "denied"
    return f"{by} {did}: {data.get('reason')}"


def _intent(data: Mapping[str, Any], _by: str) -> str:
    calls = len(sequence(mapping(data.get("plan")).get("calls")))
    approved = f", approved by {data['approved_by']}" if data.get("approved_by") else ""
    return f"Run {data.get('run')} begins: {calls} call{'s' if calls != 1 else ''}{approved}"


def _result(data: Mapping[str, Any], _by: str) -> str:
    return f"{str(data.get('outcome')).replace('_', ' ').capitalize()}: {data.get('reason')}"


def _set(what: str) -> Say:
    return lambda data, by: f"{by or 'Somebody'} {what}: {data.get('reason')}"


def _says(what: str) -> Say:
    return lambda data, _by: f"{what}: {data.get('reason')}" if data.get("reason") else what


_SAYS: Mapping[str, Say] = MappingProxyType(
    {
        "RECEIVED": _received,
        "JOINED": lambda data, by: f"{_received(data, by)}, while a run was under way",
        "NOT_OURS": lambda data, _by: f"{data.get('event')} is not ours: {data.get('reason')}",
        "DECIDED": _decided,
        "ASKED": _says("People are asked"),
        "REMINDED": _says("People were reminded"),
        "ANSWERED": _answered,
        "WITHDRAWN": lambda data, by: f"{by} took the approval back: {data.get('reason')}",
        "BREAK_GLASS": lambda data, by: f"{by} broke the glass and approved alone: {data.get('reason')}",
        "ANSWER_REFUSED": lambda data, by: (
            f"An answer by {by} does not count: {data.get('refused') or data.get('problem')}"
        ),
        "EXPIRED": _says("Nobody decided in time"),
        "STALE": _says("The approved plan no longer fits, and nothing was changed"),
        "INTENT": _intent,
        "UNDO_INTENT": lambda data, by: f"Undo. {_intent(data, by)}",
        "RESULT": _result,
        "UNDO_RESULT": lambda data, by: f"Undo. {_result(data, by)}",
        "VERIFIED": lambda data, _by: (
            f"CloudTrail tells of our own {data.get('event')}: it belongs to a run of ours"
        ),
        "RECONCILED": lambda data, _by: (
            f"CloudTrail tells of our own {data.get('event')}, whose answer a crash had swallowed"
        ),
        "TICKET_OPENED": lambda data, _by: f"Ticket {data.get('ticket')} opened: {data.get('why')}",
        "TICKET_CLOSED": lambda data, _by: f"Ticket {data.get('ticket')} closed: {data.get('because')}",
        "TICKET_CLOSED_EXTERNALLY": _says("Somebody closed the ticket elsewhere; it is looked at again"),
        "EXEMPTION_GRANTED": _set("exempted it"),
        "EXEMPTION_REVOKED": _set("ended the exemption"),
        "SNOOZED": _set("snoozed it"),
        "REQUESTED": _set("asked for it"),
        "COMMAND_REFUSED": lambda data, by: f"{by} was refused a command: {data.get('refused')}",
        "SWEEP_COMPLETED": lambda _data, _by: "A sweep of the account was completed",
        "MODE_CHANGED": lambda data, by: (
            f"{by} set the mode to {mapping(data.get('after')).get('mode')}: {data.get('reason')}"
        ),
        "BREAKER_OPENED": _says("Its control asks people again"),
        "BREAKER_RESET": _set("let the control act again"),
        "FREEZE_ON": _set("stopped all changes"),
        "FREEZE_OFF": _set("let changes go on"),
        "CONFIG_CHANGED": _set("changed a setting"),
        "ENROLLED": _set("enrolled the account"),
        "CLAIMED": _set("took the case on"),
        "HANDED_OVER": lambda data, by: (
            f"{by} handed the case to {mapping(data.get('after')).get('holder')}: {data.get('reason')}"
        ),
        "COMMENTED": lambda data, by: f"{by} says: {data.get('reason')}",
        "INCIDENT_DECLARED": _set("declared it an incident"),
        "INCIDENT_DISMISSED": _set("declared it no incident"),
        "INVITED": _set("invited an outside auditor"),
        "UNINVITED": _set("ended an auditor's invitation"),
        "VIEWED": lambda data, by: f"{by} looked at {data.get('path')}",
        "TAMPER_SUSPECTED": _says("Suspicious"),
        "ERROR": _says("Something went wrong"),
    }
)
