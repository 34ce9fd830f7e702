"""What people send: an answer to an ask, or a command about a case. Each form says on which page it was, and proves it."""

import json
from datetime import timedelta
from types import MappingProxyType

from pydantic import ValidationError

from chalicelib.console import render
from chalicelib.console.desk import Visit
from chalicelib.console.pages import cases
from chalicelib.console.pages.sign_in import form
from chalicelib.console.web import Reply
from chalicelib.domain.approval import Door
from chalicelib.domain.errors import ConflictError, RefusedCommandError
from chalicelib.domain.finding import Actor
from chalicelib.domain.policy import Role
from chalicelib.flow.answering import Said, Who
from chalicelib.flow.command import COMMAND, said_plainly
from chalicelib.flow.desk import person

OWN_WORDS = "own"
"""The choice among reasons that stands for what was typed."""

COMMANDS = MappingProxyType(
    {
        "claim": frozenset({Role.APPROVER, Role.OPERATOR}),
        "comment": frozenset({Role.APPROVER, Role.OPERATOR}),
        "hand_over": frozenset({Role.APPROVER, Role.OPERATOR}),
        "snooze": frozenset({Role.APPROVER, Role.OPERATOR}),
        "ticket": frozenset({Role.APPROVER, Role.OPERATOR}),
        "incident": frozenset({Role.OPERATOR}),
        "take_up": frozenset({Role.OPERATOR}),
        "undo": frozenset({Role.OPERATOR}),
        "exempt": frozenset({Role.OPERATOR}),
    }
)
"""The commands about a case that the console sends, and who may."""

WHOLE_NUMBERS = frozenset({"days", "run", "ask"})
FIELDS = frozenset(
    {"reason", "ask", "days", "run", "owner", "to", "declared", "root_cause", "control", "code"}
)


def answer(visit: Visit) -> Reply:
    """A yes, a no, an approval taken back, or the glass broken. Afterwards the case shows what came of it."""
    case = cases.found(visit, visit.names["case"])
    if case is None:
        return render.missing(visit.site)
    sent = form(visit.request)
    plan_hash, ask, said = sent.get("plan_hash", ""), sent.get("ask", ""), sent.get("answer", "")
    session = visit.visitor.session
    visit.sessions.check_post(
        visit.request,
        session,
        "answer",
        sent.get("token", ""),
        case=case.id,
        plan_hash=plan_hash,
        ask=ask,
    )
    if said not in {"approve", "deny", "withdraw", "break_glass"}:
        return cases.story(visit, case, status=422, refused="Choose whether you approve or deny.")
    reason = _reason(sent)
    try:
        words = Said(
            case=case.id,
            ask=int(ask),  # ours: the token is for it
            plan_hash=plan_hash,
            approve=said != "deny",
            reason=reason,
            withdraw=said == "withdraw",
            break_glass=said == "break_glass",
        )
    except ValidationError as error:
        why = f"Nothing was decided. {said_plainly(error)}."
        return cases.story(visit, case, status=422, refused=why, kind=said, sent=sent)
    who = Who(
        identity=session.identity,
        barred="",
        actor=Actor(type="Person", arn=session.identity),
        request_id=visit.request.request_id,
        door=Door.CONSOLE,
        logged_in_at=session.logged_in_at,
        mfa=session.mfa,
    )
    try:
        visit.desk.answer(words, who)
    except (RefusedCommandError, ConflictError) as refused:
        now = cases.found(visit, case.id)
        why = f"Your answer does not count: {refused}."
        return cases.story(visit, now or case, status=409, refused=why, kind=said, sent=sent)
    return render.redirect(visit.site, f"/cases/{case.id}")


def command(visit: Visit) -> Reply:
    """A command about the case; afterwards the case shows what came of it."""
    case, kind = cases.found(visit, visit.names["case"]), visit.names["command"]
    if case is None or kind not in COMMANDS:
        return render.missing(visit.site)
    if not visit.visitor.roles & COMMANDS[kind]:
        return cases.story(visit, case, status=403, refused="That is for an operator.")
    sent = form(visit.request)
    session = visit.visitor.session
    visit.sessions.check_post(visit.request, session, kind, sent.get("token", ""), case=case.id)
    fields: dict[str, object] = {"kind": kind, "reason": _reason(sent)}
    fields |= {
        name: _typed(name, value) for name, value in sent.items() if name in FIELDS - {"reason"} and value
    }
    if kind == "exempt":
        days = sent.get("days", "")
        until = visit.now + timedelta(days=int(days) if days.isdecimal() and len(days) < 4 else 0)  # noqa: PLR2004 -- more digits than any honest number has
        fields |= {
            "resource": case.target.resource,
            "account": case.target.account,
            "expires_at": until.isoformat(),
        }
        fields.pop("days", None)
    else:
        fields["case"] = case.id
    try:
        wanted = COMMAND.validate_json(json.dumps(fields))
    except ValidationError as error:
        why = f"Nothing was changed. {said_plainly(error)}."
        return cases.story(visit, case, status=422, refused=why, kind=kind, sent=sent)
    try:
        visit.desk.command(wanted, person(session.identity, visit.desk.home, visit.request.request_id))
    except (RefusedCommandError, ConflictError) as refused:
        now = cases.found(visit, case.id)
        why = f"Nothing was changed: {refused}."
        return cases.story(visit, now or case, status=409, refused=why, kind=kind, sent=sent)
    return render.redirect(visit.site, f"/cases/{case.id}")


def _reason(sent: dict[str, str]) -> str:
    """The reason that was chosen, or typed where one's own words were chosen, or none was offered."""
    chosen = sent.get("reason", "")
    return sent.get("words", "") if chosen in {"", OWN_WORDS} else chosen


def _typed(name: str, value: str) -> object:
    if name in WHOLE_NUMBERS and value.isdecimal() and len(value) < 7:  # noqa: PLR2004 -- more digits than any honest number has
        return int(value)
    if name == "declared":
        return value == "yes"
    return value
