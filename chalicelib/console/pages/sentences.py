"""Records in plain sentences: what each says, for people. The bytes beside them stay the evidence."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from chalicelib.delivery.mails import SAYS
from chalicelib.delivery.words import OUTCOMES, UNDONE
from chalicelib.domain.approval import principal
from chalicelib.domain.contract import Outcome
from chalicelib.domain.delivery import Destination
from chalicelib.domain.policy import Policy, name_of
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


def entry(body: Mapping[str, Any], policy: Policy | None) -> Entry:
    """A record's body as a timeline shows it, with the policy's names for people where it has them."""
    kind = str(body["type"])
    data = mapping(body["data"])
    by = _who(body, data, policy)
    say = _SAYS.get(kind)
    if data.get("approved_by"):
        data = {**data, "approved_by": _named(str(data["approved_by"]), policy)}
    if holder := _set_to(data).get("holder"):
        data = {**data, "holder": _named(str(holder), policy)}
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


def timeline(bodies: Iterable[Mapping[str, Any]], case: str, policy: Policy | None) -> list[Entry]:
    """A case's own records and those beside them, oldest first; of one moment, the case's own come first."""
    entries = (entry(body, policy) for body in bodies)
    return sorted(entries, key=lambda one: (one.at, one.chain != case, one.seq))


def barred(name: str, policy: Policy) -> str:
    """A principal that may not approve, as people know it."""
    for person in policy.people.values():
        if any(principal(identity) == name for identity in person.identities):
            return person.name
    return name.removeprefix("called:")


def _who(body: Mapping[str, Any], data: Mapping[str, Any], policy: Policy | None) -> str:
    by = data.get("by")
    identity = mapping(by).get("arn") or (by if isinstance(by, str) else "")
    actor = mapping(body.get("actor"))
    return _named(str(identity or actor.get("arn") or actor.get("type") or ""), policy)


def _named(identities: str, policy: Policy | None) -> str:
    """Whoever is meant, by the policy's names where it has them; several stand with commas between."""
    return ", ".join(name_of(policy, one) for one in identities.split(", "))


def _tone(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "UNDO_RESULT" and data.get("outcome") == Outcome.FIXED:
        return "warn"  # what a control calls wrong is there again, as people wanted
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

_PASSING: Mapping[str, str] = MappingProxyType(
    {
        "ask_progress": "Approved in part",
        "run_started": "A repair is being carried out",
        "undo_started": "An undo is being carried out",
        "ticket_news": "News of the ticket",
        "ticket_heard": "Somebody changed the ticket in its own system",
        "storm": "Many cases in one message",
    }
)
"""Of what no mail is written, in the words of a mail's subject (`mails.SAYS`)."""


def told_of(kind: str) -> str:
    """What people were told, in a few words: those of the mail about it."""
    return SAYS.get(kind) or _PASSING.get(kind) or kind.replace("_", " ").capitalize()


def told_to(where: Destination) -> str:
    """Where something is told, as people call it."""
    match where.kind:
        case "slack":
            return f"Slack channel {where.to}"
        case "mail":
            return "Mail to the owner" if where.to == "owner" else f"Mail to {where.to}"
        case "ticket":
            return f"Tickets in {where.to}"
        case "policy":
            return "Wherever the policy says"


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
    approved = f", approved by {data['approved_by']}" if data.get("approved_by") else ""
    return f"Run {data.get('run')} begins: {_calls(data)}{approved}"


def _calls(data: Mapping[str, Any]) -> str:
    """How many calls a plan makes, and which."""
    calls = [mapping(one) for one in sequence(mapping(data.get("plan")).get("calls"))]
    which = ", ".join(dict.fromkeys(f"{one.get('service')}:{one.get('operation')}" for one in calls))
    return f"{len(calls)} call{'s' if len(calls) != 1 else ''}{f' ({which})' if which else ''}"


def _result(data: Mapping[str, Any], _by: str) -> str:
    return _came_of(data, OUTCOMES)


def _undone(data: Mapping[str, Any], _by: str) -> str:
    return _came_of(data, UNDONE)


def _came_of(data: Mapping[str, Any], says: Mapping[Outcome, str]) -> str:
    """The outcome in these words, or as it stands on record where it is none that we know; and why."""
    outcome = str(data.get("outcome"))
    named = says[Outcome(outcome)] if outcome in {*Outcome} else outcome.replace("_", " ").capitalize()
    return f"{named}: {data.get('reason')}"


def _set(what: str, more: Callable[[Mapping[str, Any]], str] = lambda _: "") -> Say:
    return lambda data, by: f"{by or 'Somebody'} {what}{more(data)}: {data.get('reason')}"


def _set_to(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The setting as it is since; the first of several that one command made alike."""
    after = data.get("after")
    return mapping(next(iter(sequence(after)), after))


def _until(data: Mapping[str, Any]) -> str:
    one = _set_to(data)
    if not one.get("expires_at"):
        return ""
    return f" until {one['expires_at']}, on account of {one.get('owner')} ({one.get('code')})"


def _scope(data: Mapping[str, Any]) -> str:
    """Where a kill switch holds; nothing where it holds everywhere."""
    match str(_set_to(data).get("scope")).split("#"):
        case ["ACCOUNT", account]:
            return f" in account {account}"
        case ["CONTROL", account, control]:
            return f" of {control} in account {account}"
        case _:
            return ""


_REQUESTS: Mapping[str, str] = MappingProxyType(
    {
        "undo": "an undo",
        "take_up": "a look",
        "ticket": "a ticket in the place of an answer",
        "sweep": "a sweep",
    }
)


def _requested(data: Mapping[str, Any]) -> str:
    return f" {_REQUESTS.get(str(_set_to(data).get('kind')), 'it')}"


def _configured(data: Mapping[str, Any]) -> str:
    one = _set_to(data)
    if one.get("kind") == "redrive":
        return f" (up to {one.get('most')} dead letters of {one.get('queue')} are tried again)"
    if "role_arn" in one:
        does = "deploys no code any more" if one.get("removed") else f"deploys code with {one.get('tool')}"
        return f" ({one['role_arn']} {does})"
    if "policy" in one:
        return " (the policy)"
    return f" ({one['owner']} answers for the account)" if "owner" in one else ""


def _invited(data: Mapping[str, Any]) -> str:
    one = _set_to(data)
    return f" {one['name']} ({one.get('identity')}) until {one.get('until')}" if one.get("name") else ""


def _cause(data: Mapping[str, Any]) -> str:
    cause = mapping(_set_to(data).get("incident")).get("root_cause")
    return f" caused by {cause}" if cause else ""


def _mode(data: Mapping[str, Any], by: str) -> str:
    was = mapping(data.get("before")).get("mode", "never set")
    return f"{by} set the mode to {_set_to(data).get('mode')} (was {was}): {data.get('reason')}"


def _refused(data: Mapping[str, Any], by: str) -> str:
    return (
        f"{by} was refused {mapping(data.get('command')).get('kind') or 'a command'}: {data.get('refused')}"
    )


def _says(what: str) -> Say:
    return lambda data, _by: f"{what}: {data.get('reason')}" if data.get("reason") else what


_SAYS: Mapping[str, Say] = MappingProxyType(
    {
        "RECEIVED": _received,
        "JOINED": lambda data, by: f"{_received(data, by)}, while a run was under way",
        "NOT_OURS": lambda data, _by: f"{data.get('event')} is not ours: {data.get('reason')}",
        "DECIDED": _decided,
        "ASKED": lambda data, _by: f"People are asked about {_calls(data)}: {data.get('reason')}",
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
        "UNDO_RESULT": _undone,
        "VERIFIED": lambda data, _by: (
            f"CloudTrail tells of our own {data.get('event')}: it belongs to a run of ours"
        ),
        "RECONCILED": lambda data, _by: (
            f"CloudTrail tells of our own {data.get('event')}, whose answer a crash had swallowed"
        ),
        "TICKET_OPENED": lambda data, _by: f"Ticket {data.get('ticket')} opened: {data.get('why')}",
        "TICKET_CLOSED": lambda data, _by: f"Ticket {data.get('ticket')} closed: {data.get('because')}",
        "TICKET_CLOSED_EXTERNALLY": lambda data, _by: (
            f"Somebody closed ticket {data.get('ticket')} in {data.get('integration')}; it is looked at again"
        ),
        "EXEMPTION_GRANTED": _set("exempted it", _until),
        "EXEMPTION_REVOKED": _set("ended the exemption"),
        "SNOOZED": _set("snoozed it", _until),
        "REQUESTED": _set("asked for", _requested),
        "COMMAND_REFUSED": _refused,
        "SWEEP_COMPLETED": lambda _data, _by: "A sweep of the account was completed",
        "MODE_CHANGED": _mode,
        "BREAKER_OPENED": _says("Its control asks people again"),
        "BREAKER_RESET": _set("let the control act again"),
        "FREEZE_ON": _set("stopped all changes", _scope),
        "FREEZE_OFF": _set("let changes go on", _scope),
        "CONFIG_CHANGED": _set("changed a setting", _configured),
        "ENROLLED": _set("enrolled the account"),
        "CLAIMED": _set("took the case on"),
        "HANDED_OVER": lambda data, by: f"{by} handed the case to {data.get('holder')}: {data.get('reason')}",
        "COMMENTED": lambda data, by: f"{by} says: {data.get('reason')}",
        "INCIDENT_DECLARED": _set("declared it an incident", _cause),
        "INCIDENT_DISMISSED": _set("declared it no incident", _cause),
        "INVITED": _set("invited an outside auditor", _invited),
        "UNINVITED": _set("ended the invitation of an outside auditor", _invited),
        "VIEWED": lambda data, by: f"{by} looked at {data.get('path')}",
        "TAMPER_SUSPECTED": _says("Suspicious"),
        "ERROR": _says("Something went wrong"),
    }
)
