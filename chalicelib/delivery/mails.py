"""Mails: plain text for people, and for the owner of a resource whenever something of theirs was changed.

Every text that others chose is one line of harmless characters, so that no mail has a line, and no subject a header, that
somebody else wrote.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from chalicelib.delivery.card import CardView
from chalicelib.delivery.escape import plain
from chalicelib.delivery.words import NEXT, OUTCOMES, UNDONE
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Outcome
from chalicelib.domain.control import Control, framework_name
from chalicelib.domain.delivery import Storm
from chalicelib.domain.plural import so_many
from chalicelib.domain.policy import Policy, Role
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import RecordType, body_of, stamp
from chalicelib.domain.shape import is_mapping, is_sequence, mapping, sequence

LONGEST_SUBJECT = 99
"""SNS takes less than 100 characters, without line breaks and control characters
(https://docs.aws.amazon.com/sns/latest/api/API_Publish.html); ours are ASCII besides, as mail headers are."""

LONGEST_LINE = 400
MOST_LINES = 20
MOST_CODE_LINES = 200
MOST_PEOPLE = 5

ASKS = frozenset({"ask", "ask_reminded"})
"""The notices of which people are to decide something."""

SAYS: Mapping[str, str] = MappingProxyType(
    {
        "ask": "Approval wanted",
        "ask_reminded": "Still waiting for approval",
        "ask_denied": "Denied, nothing was changed",
        "ask_refused": "An answer did not count, nothing was changed",
        "ask_ticketed": "A ticket in the place of an answer, nothing was changed",
        "ask_expired": "Nobody decided in time, nothing was changed",
        "ask_over": "An ask is over, nothing was changed",
        "ask_stale": "The plan no longer fits, nothing was changed",
        **{f"run_{outcome.value}": says for outcome, says in OUTCOMES.items()},
        **{f"undo_{outcome.value}": says for outcome, says in UNDONE.items()},
        "undo_refused": UNDONE[Outcome.DECLINED],
        "ticket_open": "Ticket opened",
        "ticket_closed": "Ticket closed",
        "case_news": "News of a case",
        "baseline_report": "A first look is done",
        "break_glass": "CRITICAL: one person approved alone (break-glass)",
        "breaker_opened": "A control asks people again: its runs went wrong",
        "tamper_suspected": "CRITICAL: a role of Redress was used by somebody else",
    }
)
"""What each kind of notice says in a few words."""


@dataclass(frozen=True)
class Written:
    """A mail, ready to be sent."""

    subject: str
    text: str


@dataclass(frozen=True)
class Ran:
    """What a run did, as its records tell: what each call was for, the state before, and after as far as it was read."""

    whys: tuple[str, ...] = ()
    before: dict[str, Any] = field(default_factory=dict[str, Any])
    after: dict[str, Any] | None = None
    called: bool = True


def ran(bodies: Iterable[str], run: int) -> Ran:
    """The run of that number, from the records of its case. What is not on record is not told."""
    found = Ran()
    for body in bodies:
        said = body_of(body) or {}
        data = mapping(said.get("data"))
        if data.get("run") != run:
            continue
        if said.get("type") in {RecordType.INTENT, RecordType.UNDO_INTENT}:
            calls = sequence(mapping(data.get("plan")).get("calls"))
            whys = tuple(str(mapping(call).get("why", "")) for call in calls)
            found = Ran(whys, {**mapping(data.get("before"))}, found.after, found.called)
        elif said.get("type") in {RecordType.RESULT, RecordType.UNDO_RESULT}:
            after = {**mapping(data.get("after"))} or None
            found = Ran(found.whys, found.before, after, called=bool(sequence(data.get("results"))))
    return found


def link(policy: Policy | None, path: str) -> str:
    """The address of one of the console's pages; empty while the policy does not say where the console is."""
    return f"{policy.console_url}{path}" if policy and policy.console_url else ""


def to_people(
    notice: Notice, case: Case | None, policy: Policy | None, view: CardView | None = None
) -> Written | None:
    """What happened, where, and where to look; of an ask all that its card shows, which `view` is.

    None for an ask that is over: whoever decided it has told of it.
    """
    body = notice.body
    waits = case.ask if case else None
    if notice.kind in ASKS and (waits is None or waits.seq != body.get("ask")):
        return None
    says = says_of(notice)
    lines = [
        says + ".",
        "",
        *_named("Resource", body.get("resource")),
        *(() if view else _facts(body)),
        *_named("Result" if notice.kind.startswith(("run_", "undo_")) else "Why", body.get("reason")),
        *_named("News", body.get("says")),
        *_named("By", body.get("by") or body.get("approved_by")),
        *_named("Event", body.get("event")),
        *(_named("Session", body.get("session")) if body.get("event") else ()),
        *(() if view else _named("Owner", body.get("owner"))),
        *(_named("Until", body.get("expires_at")) if waits else ()),
        *(_asked(view) if view else ()),
        *(plain(line, LONGEST_LINE) for line in report_of(notice)),
        *(["", NEXT[notice.kind]] if notice.kind in NEXT else []),
        "",
        *_where(case.id if case else "", policy),
    ]
    return Written(subject(says, _text(body.get("resource"))), "\n".join(lines))


def _facts(body: Mapping[str, object]) -> Iterator[str]:
    yield from _named("Account", body.get("account"))
    yield from _named("Control", ", ".join(str(one) for one in sequence(body.get("controls"))))


def _asked(view: CardView) -> Iterator[str]:
    """How bad it is, since whom, what would be done, how far it reaches, and who may let it be done."""
    yield from _named("Severity", view.severity.value)
    yield from ("", "What would change")
    yield from _listed(
        (call.why for call in view.ask.plan.calls) if view.ask else (), "nothing: by hand alone"
    )
    yield ""
    rows = (*view.facts, *view.reach, ("Who approves", view.approvals))
    yield from (f"{name}: {plain(text, LONGEST_LINE)}" for name, text in rows)


def says_of(notice: Notice) -> str:
    """What has happened, in a few words."""
    return SAYS.get(notice.kind, notice.kind.replace("_", " "))


def report_of(notice: Notice) -> Iterator[str]:
    """What a sweep's report found failing, control by control."""
    for control, count in sorted(mapping(notice.body.get("failing")).items()):
        yield f"{control}: {count} failing"


def of_storm(storm: Storm, page: str, why: str) -> Written:
    """What a channel's digest would say, when the channel cannot be reached."""
    waits = so_many(storm.more - storm.settled, "waits for an answer", "wait for an answer")
    cases = so_many(storm.more, "case more", "cases more")
    says, command = (waits, "waiting") if storm.asks else (cases, "log")
    lines = [
        f"{says}, and their channel cannot be told.",
        "",
        *_named("Control", storm.control),
        *_named("Account", storm.account),
        *_named("Channel", f"{storm.channel}: {why}"),
        "",
        f"Look: {page}" if page else f"Look: redress {command}",
    ]
    return Written(subject(says, storm.control), "\n".join(lines))


def of_unread(notice: Notice, why: str) -> Written:
    """That there is something to tell which cannot be told, when what it is made from cannot be read or written."""
    says = "Something could not be told"
    lines = [
        f"{says}: what it is made from cannot be read or written.",
        "",
        *_named("What", says_of(notice)),
        *_named("Case", notice.case),
        *_named("Why", why),
        "",
        *_where(notice.case, None),
        'What to do: docs/operating.md, "When somebody was not told"',
    ]
    return Written(subject(says, notice.case or notice.kind), "\n".join(lines))


def to_owner(
    notice: Notice,
    case: Case,
    done: Ran,
    *,
    controls: Mapping[str, Control],
    policy: Policy | None,
    as_code: str,
) -> Written | None:
    """What was changed, why, by whose leave, what keeps it, and the way back. None when no call was made at all."""
    if not done.called:
        return None
    says, body = SAYS[notice.kind], notice.body
    undo = notice.kind.startswith("undo_")
    approved = _text(body.get("approved_by"))
    lines = [
        f"{says}. You are told because you answer for this resource.",
        "",
        *_named("Resource", case.target.resource),
        *_named("Account", case.target.account),
        *_named("Region", case.target.region),
        *_since(case),
        *_named("Result", body.get("reason")),
        "",
        "What was done",
        *_listed(done.whys, "no call is on record"),
        "",
        "Why",
        *_listed(_reasons(notice, controls), "the case names no control"),
        "",
        "By whose leave",
        f"  {plain(approved, LONGEST_LINE)}"
        if approved
        else "  nobody was asked: this control acts by itself in this account",
        "",
        "What is different now",
        *_listed(_differences(done.before, done.after), "nothing that was read again differs"),
    ]
    if as_code and not undo:
        code = as_code.splitlines()
        lines += ["", "To keep it, if Terraform manages the resource", ""]
        lines += [_indented(line) for line in code[:MOST_CODE_LINES]]
        lines += (
            [f"  # and {len(code) - MOST_CODE_LINES} lines more in the case"]
            if len(code) > MOST_CODE_LINES
            else []
        )
    if not undo:
        page = link(policy, f"/cases/{case.id}?open=undo")
        lines += ["", "To take it back, an operator of Redress asks for it, and somebody else approves"]
        lines += [f"  {page}"] if page else []
        lines += [f'  redress undo {case.id} --reason "why" --days 7']
    lines += [
        "",
        *_where(case.id, policy),
        "",
        "Whom to ask",
        *_listed(_people(policy), "whoever runs Redress here"),
    ]
    return Written(subject(f"{says} (yours)", case.target.resource), "\n".join(lines))


def _since(case: Case) -> Iterator[str]:
    """Who made what was repaired, or how we came by it, and when."""
    if case.shown_cause:
        said, who = case.shown_cause.source
        yield f"{said}: {plain(who, LONGEST_LINE)}, {stamp(case.shown_cause.at)}"


def subject(says: str, what: str) -> str:
    """A subject line: ASCII, one line, short enough; signs that it cannot have are shown as question marks."""
    line = f"[Redress] {says}: {what}" if what else f"[Redress] {says}"
    return plain(line, LONGEST_SUBJECT).replace("…", "~").encode("ascii", "replace").decode()


def _reasons(notice: Notice, controls: Mapping[str, Control]) -> Iterator[str]:
    """Each control, what it wants, and the criteria that it serves."""
    for name in sequence(notice.body.get("controls")):
        control = controls.get(str(name))
        if control is None:
            yield str(name)
            continue
        criteria = " · ".join(
            f"{framework_name(one)} {', '.join(ids)}" for one, ids in sorted(control.frameworks.items())
        )
        yield f"{control.id}: {control.title}" + (f" ({criteria})" if criteria else "")


def _differences(before: Any, after: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 -- any JSON
    """What differs, field by field; of a list, what went and what came. Nothing when it was not read afterwards."""
    if after is None and not name:
        yield "it was not read again: look at it yourself"
    elif is_mapping(before) and is_mapping(after):
        for key in sorted({*before, *after}):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif is_sequence(before) and is_sequence(after):
        yield from (f"{name}: without {_short(one)}" for one in before if one not in after)
        yield from (f"{name}: with {_short(one)}" for one in after if one not in before)
    elif before != after:
        yield f"{name}: {_short(before)} before, {_short(after)} now"


def _short(value: Any) -> str:  # noqa: ANN401 -- any JSON
    return (
        "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    )


def _people(policy: Policy | None) -> Iterator[str]:
    """Who operates Redress, as the policy has it."""
    known = policy.people.values() if policy else ()
    operators = [one for one in known if Role.OPERATOR in one.roles][:MOST_PEOPLE]
    return (f"{one.name} <{one.email}>" if one.email else one.name for one in operators)


def _where(case: str, policy: Policy | None) -> Iterator[str]:
    """Where to look: a page, and the command that needs none."""
    if not case:
        return
    page = link(policy, f"/cases/{case}")
    if page:
        yield f"Look: {page}"
    yield f"Or:   redress case {case}"


def _named(name: str, value: object) -> Iterator[str]:
    text = _text(value)
    if text:
        yield f"{name + ':':<10}{plain(text, LONGEST_LINE)}"


def _listed(lines: Iterable[str], none: str) -> Iterator[str]:
    """Each on a line of its own, and how many more there are."""
    found = [*lines]
    yield from (f"  - {plain(line, LONGEST_LINE)}" for line in found[:MOST_LINES])
    if len(found) > MOST_LINES:
        yield f"  - and {len(found) - MOST_LINES} more"
    if not found:
        yield f"  - {none}"


def _indented(line: str) -> str:
    body = line.lstrip(" ")
    return "  " + " " * (len(line) - len(body)) + plain(body, LONGEST_LINE) if body else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
