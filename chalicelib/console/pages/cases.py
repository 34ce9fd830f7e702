"""Cases: those that wait for a person, all of them by state, and one as its whole story."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from chalicelib.console import render
from chalicelib.console.desk import Visit
from chalicelib.console.pages import sentences
from chalicelib.console.pages.sentences import Entry
from chalicelib.console.pages.settings import held
from chalicelib.console.web import Reply
from chalicelib.delivery.card import reach_of
from chalicelib.domain.approval import Answer, Answers, Ask, Door
from chalicelib.domain.case import Case, CaseState, parts_of
from chalicelib.domain.contract import command_of
from chalicelib.domain.finding import Severity
from chalicelib.domain.finding import severity_of as severity_in
from chalicelib.domain.policy import (
    Consent,
    Policy,
    Role,
    Rule,
    about_of,
    consent,
    names_of,
    principal_of,
    problem_with,
    why_not,
)
from chalicelib.domain.ports import Freeze
from chalicelib.domain.record import body_of, broken_at, is_about
from chalicelib.domain.shape import is_mapping, is_sequence, mapping
from chalicelib.flow import decide

MOST_WAITING = 100
ON_A_PAGE = 25
MOST_RECORDS = 200
MOST_BESIDE = 60
MOST_LINES = 400
MOST_NAMES = 5
ANY_STATE = "any"

STATES = tuple(one for one in CaseState if one is not CaseState.STALE)
"""Those to which cases come."""

OPENED = ("decide", "snooze", "ticket", "undo", "exempt")
"""What of a case's page a link may open: `?open=…` outlives a sign-in on the way, which the part behind a `#` does not."""


def scoped(
    visit: Visit, *, account: str = "", control: str = "", severity: str = ""
) -> Callable[[Case], bool]:
    """True of cases that this visitor may see and that the filters leave."""
    return lambda case: (
        visit.visitor.sees(case.target.account)
        and account in {"", case.target.account}
        and (not control or control in case.controls)
        and severity in {"", severity_of(case, visit).value}
    )


def severity_of(case: Case, visit: Visit) -> Severity:
    """The worst of the case's controls: as asked, else as the catalog has them."""
    if case.ask:
        return case.ask.severity
    known = visit.desk.controls
    return severity_in(case.controls, {name: known[name].severity for name in case.controls if name in known})


def urgency(case: Case) -> tuple[int, datetime]:
    """The worst first; among equals, the one that ends first."""
    assert case.ask  # noqa: S101 -- whoever sorts by it has looked
    return -case.ask.severity.rank, case.ask.expires_at


def approvals(visit: Visit) -> Reply:
    """What waits for a person's decision, most urgent first among the hundred that moved least lately.

    A reminder or a comment moves a case behind those of which nothing was heard; nothing is left out of the pages.
    """
    filters = {name: visit.asked(name) for name in ("account", "control", "severity")}
    page = visit.desk.books.cases_page(
        CaseState.WAITING, MOST_WAITING, visit.place(), scoped(visit, **filters), oldest_first=True
    )
    asked = sorted((case for case in page.items if case.ask), key=urgency)
    answers = visit.desk.books.answers_to([(case.id, case.asks) for case in asked])
    return render.page(
        visit.site,
        "approvals.html",
        visit=visit,
        now=visit.now,
        rows=[(case, *_counts(visit, case, answers.get(case.id))) for case in asked],
        held=held(visit),
        filters=filters,
        following_url=visit.next(page.more),
        unreadable=page.unreadable,
        controls=sorted(visit.desk.controls),
        accounts=visit.accounts,
        severities=[*reversed(Severity)],
    )


def _counts(visit: Visit, case: Case, answers: Answers | None) -> tuple[int, int]:
    """How many have approved of how many that must."""
    assert case.ask  # noqa: S101 -- only what is asked is listed
    about = about_of(case.ask, case.target.account, case.owner)
    amounts = consent(visit.policy, about, case.ask, answers)
    return len(amounts.by), amounts.needs


def listed(visit: Visit) -> Reply:
    """The cases in one state, the one that moved last first; or the newest of every state."""
    said = visit.asked("state")
    filters = {name: visit.asked(name) for name in ("account", "control", "severity")}
    fits, books = scoped(visit, **filters), visit.desk.books
    if said == ANY_STATE:
        state: str = ANY_STATE
        pages = [books.cases_page(one, ON_A_PAGE, fits=fits) for one in STATES]
    else:
        state = said if said in {*CaseState} else CaseState.OPEN
        pages = [books.cases_page(CaseState(state), ON_A_PAGE, visit.place(), fits)]
    found = sorted((case for page in pages for case in page.items), key=_moved, reverse=True)
    more = any(page.more for page in pages) or len(found) > ON_A_PAGE
    return render.page(
        visit.site,
        "cases.html",
        visit=visit,
        now=visit.now,
        state=state,
        states=[ANY_STATE, *STATES],
        rows=[(case, severity_of(case, visit)) for case in found[:ON_A_PAGE]],
        filters=filters,
        following_url="" if state == ANY_STATE else visit.next(pages[0].more),
        cut=state == ANY_STATE and more,
        unreadable=sum(page.unreadable for page in pages),
        controls=sorted(visit.desk.controls),
        accounts=visit.accounts,
        severities=[*reversed(Severity)],
    )


def _moved(case: Case) -> datetime:
    return case.updated_at


# -- one case ----------------------------------------------------------------------------------------------------------


_OTHERS = "You made this change or asked for this look: somebody else may {} it."


@dataclass(frozen=True)
class Line:
    """A line of a state: `-` was, `+` is (or would be), ` ` stayed, `>` is named by a call."""

    mark: str
    text: str


@dataclass(frozen=True)
class Difference:
    """Before and after: from two states that were read, or from one and what the calls say."""

    lines: tuple[Line, ...]
    observed: bool
    cut: bool


@dataclass(frozen=True)
class Approver:
    """Somebody whom the rule names, and why they do not count, or nothing."""

    name: str
    why_not: str


@dataclass(frozen=True)
class Decision:
    """What there is to decide, who may, who did, and what this visitor may do about it."""

    ask: Ask
    amounts: Consent
    rule: Rule | None
    approvers: tuple[Approver, ...]
    answers: tuple[tuple[Answer, str], ...]
    problem: str
    denial_problem: str
    glass: bool
    again: bool


def found(visit: Visit, name: str) -> Case | None:
    """The case of that name, if it is there and within this visitor's scope."""
    parts = parts_of(name)
    case = visit.desk.store.case(*parts) if parts else None
    return case if case and visit.visitor.sees(case.target.account) else None


def case(visit: Visit) -> Reply:
    """The case as a whole."""
    one = found(visit, visit.names["case"])
    return story(visit, one) if one else render.missing(visit.site)


def back(visit: Visit) -> Reply:
    """Whoever looks at where a form is sent is led to the case that has the form; nothing is sent by looking."""
    one = found(visit, visit.names["case"])
    return render.redirect(visit.site, f"/cases/{one.id}") if one else render.missing(visit.site)


def story(
    visit: Visit,
    case: Case,
    *,
    status: int = 200,
    refused: str = "",
    kind: str = "",
    sent: Mapping[str, str] = MappingProxyType({}),
) -> Reply:
    """The page of a case; with `refused`, why what was just sent was not done.

    The form of that `kind` then has again what was typed into it; but not a word about another ask or plan than the one that stands.
    """
    stands = {"plan_hash": case.ask.plan_hash, "ask": str(case.ask.seq)} if case.ask else {}
    if any(sent.get(name, value) != value for name, value in stands.items()):
        kind = ""
    desk, policy = visit.desk, visit.policy
    entries, whole, broken = _timeline(visit, case)
    remediation = desk.remediations.get(case.remediation)
    seq = case.ask.seq if case.ask else case.asks
    answers = desk.store.answers(case.id, seq) if seq else None
    ticket = case.ticket
    decision = _decision(visit, case, answers)
    made = case.made_by(names_of(policy, visit.visitor.session.identity))
    undoable = [] if case.ask or case.run else _undoable(entries)
    opened = visit.asked("open") if visit.asked("open") in OPENED else ""
    return render.page(
        visit.site,
        "case.html",
        status,
        visit=visit,
        now=visit.now,
        case=case,
        refused=refused,
        kind=kind,
        typed=lambda form, name, usual="": sent.get(name, usual) if form == kind else usual,
        held=_held(visit, case),
        severity=severity_of(case, visit),
        titles=[desk.controls[name].title if name in desk.controls else name for name in case.controls],
        controls=[desk.controls[name] for name in case.controls if name in desk.controls],
        remediation=remediation,
        account=policy.accounts.get(case.target.account),
        plan=case.ask.plan if case.ask else case.run.plan if case.run else _last_plan(entries),
        command_of=command_of,
        mine=_mine(visit, answers),
        made=made,
        opened=opened,
        not_offered=_not_offered(visit, case, opened, decision=decision, made=made, undoable=undoable),
        decision=decision,
        reach=reach_of(case.ask, case.target, policy) if case.ask else "",
        difference=_difference(case, entries),
        entries=entries,
        whole=whole,
        broken=broken,
        undoable=undoable,
        dossier=desk.store.dossier(case.id),
        barred=lambda name: sentences.barred(name, policy),
        deliveries=desk.told.deliveries(case.id),
        told_to=sentences.told_to,
        told_of=sentences.told_of,
        ticket=ticket,
        references=[
            (integration, reference)
            for integration in (policy.integrations if ticket else ())
            if (reference := desk.told.reference(ticket.id, integration.name) if ticket else None)
        ],
        token=lambda purpose, plan_hash="": visit.sessions.csrf(
            visit.visitor.session,
            purpose,
            case.id,
            plan_hash,
            str(case.ask.seq) if plan_hash and case.ask else "",
        ),
    )


def _not_offered(
    visit: Visit, case: Case, opened: str, *, decision: Decision | None, made: bool, undoable: list[int]
) -> str:
    """Why the page does not have what a link was to open, and who may; nothing when it does."""
    may, operator = visit.visitor.decides, visit.visitor.may(Role.OPERATOR)
    undo = case.ask is not None and case.ask.undo is not None
    reasons = {
        "decide": ((not decision, "Nobody is asked any more: this page says what became of it."),),
        "snooze": (
            (not may, "Only approvers and operators may snooze a case."),
            (made, _OTHERS.format("snooze")),
        ),
        "ticket": (
            (not may, "Only approvers and operators may open a ticket instead."),
            (
                case.ask is None or undo,
                "Nobody is asked about a repair here, so no ticket can stand in its place.",
            ),
        ),
        "undo": (
            (not operator, f"Only an operator may ask for an undo: {_operators(visit, case)}."),
            (undo, "An undo has been asked for already, and waits for an answer."),
            (
                case.ask is not None or case.run is not None,
                "Nothing can be taken back while people are asked or a run is under way.",
            ),
            (
                not undoable,
                "Nothing is left to take back: no run of this case changed anything that still stands.",
            ),
        ),
        "exempt": (
            (not operator, f"Only an operator may exempt a resource: {_operators(visit, case)}."),
            (made, _OTHERS.format("exempt")),
        ),
    }
    return next((reason for holds, reason in reasons.get(opened, ()) if holds), "")


def _operators(visit: Visit, case: Case) -> str:
    """The names of those who operate in the case's account, as far as there is room."""
    people = visit.policy.people.values()
    names = [
        one.name
        for one in people
        if Role.OPERATOR in one.roles and (not one.accounts or case.target.account in one.accounts)
    ]
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}" if names else "the policy names none for this account"


def _held(visit: Visit, case: Case) -> list[Freeze]:
    """The kill switches that would stop what people are asked about."""
    if case.ask is None:
        return []
    concerned = decide.scopes(case.target, case.ask.controls)
    return [one for one in held(visit) if one.scope in concerned]


def _mine(visit: Visit, answers: Answers | None) -> Answer | None:
    """What the visitor said, and did not take back: told also when the engine was quicker than the page."""
    me = principal_of(visit.policy, visit.visitor.session.identity)
    own = [one for one in (answers.answers if answers else ()) if one.principal == me]
    return own[-1] if own and not own[-1].withdrawn else None


def _decision(visit: Visit, case: Case, answers: Answers | None) -> Decision | None:
    """None when nobody is asked."""
    ask, policy = case.ask, visit.policy
    if ask is None or case.state is not CaseState.WAITING:
        return None
    about = about_of(ask, case.target.account, case.owner)
    rule = policy.rule(about)
    session = visit.visitor.session

    def mine(*, approve: bool, glass: bool = False) -> str:
        answer = Answer(
            by=session.identity,
            principal=principal_of(policy, session.identity),
            at=visit.now,
            approve=approve,
            reason="would say",
            request_id="",
            door=Door.CONSOLE,
            logged_in_at=session.logged_in_at,
            mfa=session.mfa,
            break_glass=glass,
        )
        return problem_with(policy, about, ask, answer)

    given = answers.answers if answers else ()
    problem = mine(approve=True)
    return Decision(
        ask=ask,
        amounts=consent(policy, about, ask, answers),
        rule=rule,
        approvers=_approvers(policy, ask, rule) if rule else (),
        answers=tuple((one, visit.called(one.by)) for one in given),
        problem=problem,
        denial_problem=mine(approve=False),
        glass=not mine(approve=True, glass=True),
        again="sign in again" in problem,
    )


def _approvers(policy: Policy, ask: Ask, rule: Rule) -> tuple[Approver, ...]:
    return tuple(
        Approver(policy.people[person].name, why_not(policy, rule, ask, person))
        for person in sorted(policy.members(rule.approvers))
    )


def _timeline(visit: Visit, case: Case) -> tuple[list[Entry], bool, str | None]:
    """What is on record, oldest first; whether all of the case's chain is there, and why it does not hold, or None."""
    stored = visit.desk.books.tail(case.id, MOST_RECORDS)
    bodies = [said for one in stored if (said := body_of(one.body))]
    whole = bool(bodies) and bodies[0]["seq"] == 1
    broken = broken_at(((one.body, one.hash) for one in stored), case.head, case.id) if whole else None
    others = (body_of(one.body) for one in visit.desk.books.beside(case, visit.now, MOST_BESIDE))
    bodies += [said for said in others if said and is_about(said, case.id)]
    return sentences.timeline(bodies, case.id, visit.policy), whole, broken


def _last_plan(entries: list[Entry]) -> Mapping[str, Any] | None:
    """The plan on record last, as its record has it."""
    plans = (one.body["data"].get("plan") for one in reversed(entries))
    return next(
        (plan for plan in plans if is_mapping(plan) and (plan.get("calls") or plan.get("declined"))), None
    )


def _undoable(entries: list[Entry]) -> list[int]:
    """The runs that changed something and were not taken back, newest first."""
    changed: set[int] = set()
    takes_back: dict[int, int] = {}
    for one in entries:
        data = one.body["data"]
        if one.type == "RESULT" and data.get("run") and data.get("results"):
            changed.add(int(data["run"]))
        if one.type == "UNDO_INTENT":
            takes_back[data["run"]] = mapping(data["undo"])["run"]
        if one.type == "UNDO_RESULT" and data.get("outcome") in {"fixed", "already_compliant"}:
            changed.discard(takes_back.get(data["run"], 0))
    return sorted(changed, reverse=True)


def _difference(case: Case, entries: list[Entry]) -> Difference | None:
    """What the last run changed, as it was read before and after; while people are asked, what the calls say they would."""
    if case.ask:
        return _expected(case, case.ask)
    before: dict[int, Any] = {}
    last: tuple[Any, Any] | None = None
    for one in entries:
        data = one.body["data"]
        if one.type in {"INTENT", "UNDO_INTENT"}:
            before[data["run"]] = data.get("before")
        if one.type in {"RESULT", "UNDO_RESULT"} and data.get("after") and data.get("run") in before:
            last = before[data["run"]], data["after"]
    if last is None:
        return None
    left, right = render.pretty(last[0]), render.pretty(last[1])
    lines = [
        Line(line[0], line[2:])
        for line in difflib.ndiff(left, right, linejunk=None, charjunk=None)
        if line[0] != "?"
    ]
    return Difference(tuple(lines[:MOST_LINES]), observed=True, cut=len(lines) > MOST_LINES)


def _expected(case: Case, ask: Ask) -> Difference:
    """The state that the plan rests on; marked is what the calls name, and switches get the value that a call gives them.

    What a call describes and the state does not have stands below it, as what the call adds.
    """
    names: set[str] = set()
    switches: dict[str, bool] = {}
    added: list[Line] = []
    there = _switches(ask.before)
    for call in ask.plan.calls:
        for name, value in call.params.items():
            if name.endswith(("Id", "Ids")):
                names |= {one for one in (value if is_sequence(value) else (value,)) if isinstance(one, str)}
            elif is_mapping(value) or is_sequence(value):
                given = _switches(value)
                switches |= given
                if not given.keys() & there.keys():
                    added += _lines(value, set(), {}, f"{json.dumps(name)}: ", mark="+")
    lines = [*_lines(ask.before, names - {case.target.id}, switches), *added]
    return Difference(tuple(lines[:MOST_LINES]), observed=False, cut=len(lines) > MOST_LINES)


def _switches(value: object) -> dict[str, bool]:
    """Everything in it that is on or off, by name."""
    if is_mapping(value):
        own = {name: inner for name, inner in value.items() if isinstance(inner, bool)}
        return own | {name: on for inner in value.values() for name, on in _switches(inner).items()}
    inside = value if is_sequence(value) else ()
    return {name: on for inner in inside for name, on in _switches(inner).items()}


def _lines(
    value: object,
    names: set[str],
    switches: Mapping[str, bool],
    before: str = "",
    after: str = "",
    mark: str = " ",
) -> Iterator[Line]:
    """JSON, line by line, between what stands before and after it; an object with a name in it is marked as a whole."""
    indent = " " * (len(before) - len(before.lstrip()))
    if is_mapping(value) and value:
        mark = ">" if any(isinstance(inner, str) and inner in names for inner in value.values()) else mark
        parts = [(f"{json.dumps(name)}: ", name, inner) for name, inner in sorted(value.items())]
        opens, closes = "{", "}"
    elif is_sequence(value) and value:
        parts = [("", "", inner) for inner in value]
        opens, closes = "[", "]"
    else:
        said = json.dumps(value, ensure_ascii=False)
        yield Line(">" if isinstance(value, str) and value in names else mark, f"{before}{said}{after}")
        return
    yield Line(mark, f"{before}{opens}")
    for place, (label, name, inner) in enumerate(parts, 1):
        lead, comma = f"{indent}  {label}", "," if place < len(parts) else ""
        becomes = switches.get(name, inner)
        if isinstance(inner, bool) and becomes != inner:
            yield Line("-", f"{lead}{json.dumps(inner)}{comma}")
            yield Line("+", f"{lead}{json.dumps(becomes)}{comma}")
        else:
            yield from _lines(inner, names, switches, lead, comma, mark)
    yield Line(mark, f"{indent}{closes}{after}")
