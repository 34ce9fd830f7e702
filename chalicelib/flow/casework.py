"""Casework: what people do with a case beside deciding it. They take it on, hand it over, say what they know of it."""

import difflib
from datetime import datetime
from typing import Literal

from pydantic import Field

from chalicelib.domain.case import CaseState
from chalicelib.domain.dossier import Dossier, Incident
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.finding import Model
from chalicelib.domain.policy import Policy, about_of, consent, name_of, principal_of
from chalicelib.domain.record import RecordType
from chalicelib.flow import errand
from chalicelib.flow.answering import CaseId, Line, decided
from chalicelib.flow.desk import CommandResult, Desk, Wanted, plain


class Claim(Model):
    """Take the case on: from now on others see who looks after it."""

    kind: Literal["claim"] = "claim"
    case: CaseId
    reason: Line


class HandOver(Model):
    """Give the case to somebody else: a person (by id, name, mail address or identity) or a group of the policy.

    While no policy stands it is whoever the words mean.
    """

    kind: Literal["hand_over"] = "hand_over"
    case: CaseId
    to: Line
    reason: Line


class Comment(Model):
    """Say something about the case, for all who read it later."""

    kind: Literal["comment"] = "comment"
    case: CaseId
    reason: Line


class WantTicket(Model):
    """Open a ticket in the place of an answer: somebody works it off by hand, and nothing is changed by the engine."""

    kind: Literal["ticket"] = "ticket"
    case: CaseId
    ask: int = Field(ge=1)
    reason: Line


class CallIncident(Model):
    """Declare the case an incident, or declare that it was none: with the root cause, and why one thinks so."""

    kind: Literal["incident"] = "incident"
    case: CaseId
    declared: bool
    root_cause: Line
    reason: Line


def claim(desk: Desk, command: Claim) -> CommandResult:
    desk.named("taking on a case")
    return _write(desk, command, RecordType.CLAIMED, desk.caller.arn, desk.policy())


def hand_over(desk: Desk, command: HandOver) -> CommandResult:
    desk.named("handing over a case")
    policy = desk.policy()
    return _write(desk, command, RecordType.HANDED_OVER, _meant(policy, command.to), policy)


def _meant(policy: Policy | None, to: str) -> str:
    """The identity of the person that is meant, or the group's name; RefusedCommandError when the policy knows neither."""
    if policy is None or to in policy.groups:
        return to
    person = policy.person(to)
    if person is None:
        near = difflib.get_close_matches(to, [*policy.people, *policy.groups], n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "; `redress policy` lists everybody"
        message = f"the policy knows nobody, or more than one, as {to!r}{hint}"
        raise RefusedCommandError(message)
    return policy.people[person].identities[0]


def comment(desk: Desk, command: Comment) -> CommandResult:
    desk.named("commenting on a case")
    case = desk.case(command.case)
    says = f"{name_of(desk.policy(), desk.caller.arn)} on case {case.id}: {command.reason}"

    def draw(now: datetime) -> Wanted | str:
        del now
        news = errand.News(case=case.id, says=says, request_id=desk.caller.request_id)
        return Wanted(type=RecordType.COMMENTED, says="your comment is on record", sends=news, about=case)

    return desk.change(case.target.account, "comment", command.reason, draw)


def want_ticket(desk: Desk, command: WantTicket) -> CommandResult:
    desk.named("opening a ticket")
    case = desk.case(command.case)
    if case.state is not CaseState.WAITING or case.ask is None or case.ask.undo:
        message = f"nobody is asked about a change of case {case.id} now: it is {case.state.value}"
        raise RefusedCommandError(message)
    if case.ask.seq != command.ask:
        message = f"that ask is over, and another one waits: look again with `redress plan {case.id}`"
        raise RefusedCommandError(message)
    about = about_of(case.ask, case.target.account, case.owner)
    amounts = consent(desk.policy(), about, case.ask, desk.settings.answers(case.id, case.ask.seq))
    if amounts.state != "open":
        raise RefusedCommandError(decided(amounts.by[-1]))
    order = errand.TicketWanted(
        case=case.id,
        ask=case.ask.seq,
        by=desk.caller.arn,
        reason=command.reason,
        request_id=desk.caller.request_id,
    )

    def draw(now: datetime) -> Wanted | str:
        del now
        says = f"a ticket takes the place of the ask about {case.target.resource}"
        return Wanted(type=RecordType.REQUESTED, says=says, after=plain(command), sends=order, about=case)

    return desk.change(case.target.account, "ticket", command.reason, draw)


def call_incident(desk: Desk, command: CallIncident) -> CommandResult:
    desk.named("calling a case an incident, or none")
    case = desk.case(command.case)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.dossier(case.id) or Dossier(case=case.id)
        after = before.model_copy(
            update={
                "incident": Incident(
                    declared=command.declared,
                    root_cause=command.root_cause,
                    reason=command.reason,
                    by=desk.caller.arn,
                    at=now,
                )
            }
        )
        what = "an incident" if command.declared else "no incident"
        says = (
            f"case {case.id} is {what}, says {name_of(desk.policy(), desk.caller.arn)}: {command.root_cause}"
        )
        return Wanted(
            type=RecordType.INCIDENT_DECLARED if command.declared else RecordType.INCIDENT_DISMISSED,
            says=says,
            before=plain(before),
            after=plain(after),
            kept=after,
            sends=errand.News(case=case.id, says=says, request_id=desk.caller.request_id),
            about=case,
        )

    return desk.change(case.target.account, "incident", command.reason, draw)


def _write(
    desk: Desk, command: Claim | HandOver, kind: RecordType, to: str, policy: Policy | None
) -> CommandResult:
    """The case has a new holder, unless it is the one that it had, under whichever identity."""
    case = desk.case(command.case)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.dossier(case.id) or Dossier(case=case.id)
        holds = f"case {case.id} is in the hands of"
        if before.holder and principal_of(policy, before.holder) == principal_of(policy, to):
            return f"{holds} {name_of(policy, before.holder)} already; nothing was changed"
        after = before.model_copy(update={"holder": to, "held_since": now})
        had = f" (it was in the hands of {name_of(policy, before.holder)})" if before.holder else ""
        says = f"{holds} {name_of(policy, to)}{had}"
        return Wanted(
            type=kind,
            says=says,
            before=plain(before),
            after=plain(after),
            kept=after,
            sends=errand.News(case=case.id, says=says, request_id=desk.caller.request_id),
            about=case,
        )

    return desk.change(case.target.account, command.kind, command.reason, draw)
