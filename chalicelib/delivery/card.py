"""A case as Slack shows it: the card that asks, the card that says what became of it, and the replies in its thread.

Pure. A card is made from the case as it stands, so that one that comes twice, late or out of order shows the present. What
others chose (names, tags, sessions, reasons) stands in `plain_text` objects only, which Slack shows as they are; a `mrkdwn`
object holds our own words, dates and mentions, and nothing else. Limits: https://docs.slack.dev/reference/block-kit
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from chalicelib.delivery import escape
from chalicelib.delivery.words import NEXT, OUTCOMES, UNDONE
from chalicelib.domain.approval import Answers, Ask, Door
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import AnyRemediation, Outcome, canonical
from chalicelib.domain.control import CIS, Control, framework_name
from chalicelib.domain.delivery import Storm
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.finding import Severity, Target, is_global, severity_of
from chalicelib.domain.plural import so_many
from chalicelib.domain.policy import STRICT, About, Consent, Policy, Route, able, about_of, consent, name_of
from chalicelib.domain.record import stamp
from chalicelib.domain.shape import mapping, sequence, string

Block = dict[str, Any]

HEADER, BUTTON, CONFIRM_TITLE, CONFIRM_TEXT, SECTION, TEXT = 150, 75, 100, 300, 3000, 400
"""Characters: Slack's limits, but for the fallback text, which a notification cuts anyway."""

VALUE, LINE, LINES, SMALL = 200, 160, 5, 3
"""How much of a value and of a line is shown, and how many lines: what is longer is on the page behind the link.

All of a card together stays far below the 13,000 characters over which Slack answers `msg_blocks_too_long`, a limit that is
not in its reference (github.com/slackapi/bolt-js/issues/2509).
"""

APPROVE, DENY = "approve", "deny"
"""The actions of the two buttons that decide. Every other button is a link, whose click means nothing to us."""

_DOT = MappingProxyType(
    {Severity.CRITICAL: "🔴", Severity.HIGH: "🟠", Severity.MEDIUM: "🟡", Severity.LOW: "🔵"}
)
_FRAMEWORKS = ("soc2_tsc", "iso27001_2022_annex_a")
"""Whose criteria a card names, beside the newest of CIS: there is no room for all."""

WHERE = "Where"
ASKED = "Waits for approval"
APPROVED = "⏳ Approved: it is made if it still fits"
_MARKS = MappingProxyType(
    {
        Outcome.ALREADY_COMPLIANT: "✅",
        Outcome.DECLINED: "⚪",
        Outcome.FIXED: "✅",
        Outcome.CONTAINED: "🟡",
        Outcome.NOT_VERIFIED: "❌",
        Outcome.FAILED: "❌",
    }
)
_STATES = MappingProxyType(
    {
        CaseState.OPEN: "⚪ Open",
        CaseState.WAITING: "⏳ Waits for an answer",
        CaseState.RUNNING: "⏳ Is being carried out",
        CaseState.TICKETED: "🎫 Handed over by ticket",
        CaseState.EXEMPT: "⚪ Exempt",
        CaseState.STALE: "⚪ STALE: what was approved no longer fits; nothing was changed",
        CaseState.EXPIRED: "⚪ Over without a decision: nothing was changed",
        CaseState.DENIED: "⛔ Denied: nothing was changed",
        CaseState.CLOSED: "✅ Closed",
    }
)


@dataclass(frozen=True)
class Card:
    """A message: its blocks, and the text that notifications and screen readers have instead of them."""

    text: str
    blocks: list[Block]


@dataclass(frozen=True)
class CardView:
    """What a card shows, as it stands. All texts are as they came; `card` makes them harmless.

    `standing` is in our own words, `because` in somebody's. `ask` is the one that waits, and None when none does, or not
    the one that the card is about. `names` is what the policy calls identities, `mentions` are Slack's ids of whom it calls. Without `url` there is no console to link to.
    """

    case: str
    resource: str
    url: str
    heading: str
    severity: Severity
    standing: str
    because: str
    facts: tuple[tuple[str, str], ...]
    names: Mapping[str, str]
    reach: tuple[tuple[str, str], ...] = ()
    ask: Ask | None = None
    approvals: str = ""
    mentions: tuple[str, ...] = ()
    buttons: bool = False


def view_of(
    case: Case,
    ask: int,
    *,
    answers: Answers | None,
    policy: Policy | None,
    dossier: Dossier | None,
    controls: Mapping[str, Control],
    remediation: AnyRemediation | None,
    now: datetime,
) -> CardView:
    """What the card about the case's ask number `ask` (0: about the case itself) shows now.

    `answers` are those to that ask. `controls` is the catalog; `remediation` is the case's, and None when none ships any more.
    """
    asked = case.ask if case.ask and case.ask.seq == ask else None
    known = [controls[name] for name in (asked.controls if asked else case.controls) if name in controls]
    severity = (
        asked.severity if asked else severity_of(case.controls, {one.id: one.severity for one in known})
    )
    about = about_of(asked, case.target.account, case.owner) if asked else _about(case, severity)
    given = consent(policy, about, asked, answers) if asked else None
    waits = asked if given and given.state == "open" and asked and asked.open(now) else None
    standing, because = _standing(case, ask, given, answers, waits, policy)
    titles = "; ".join(one.title for one in known) or ", ".join(case.controls)
    undo = asked is not None and asked.undo is not None
    route, rule = (policy.route(about), policy.rule(about)) if policy else (None, None)
    return CardView(
        case=case.id,
        resource=case.target.resource,
        url=f"{policy.console_url}/cases/{case.id}" if policy and policy.console_url else "",
        heading=f"{'Undo asked' if undo else 'Fails'}: {titles}" if waits else titles,
        severity=severity,
        standing=standing,
        because=because,
        facts=_facts(case, known, policy, dossier),
        reach=_reach(waits, case.target, remediation, policy) if waits else (),
        ask=waits,
        approvals=_approvals(policy, about, waits, given) if waits and given else "",
        mentions=_mentions(policy, route, now) if policy and route and severity in STRICT else (),
        names={one: known.name for known in policy.people.values() for one in known.identities}
        if policy
        else {},
        buttons=rule is not None and Door.SLACK in rule.doors and severity not in STRICT,
    )


def card(view: CardView) -> Card:
    """The message that stands in the channel: all that a decision needs while it waits, the outcome afterwards."""
    severity = view.severity.value.upper()
    calls = "".join(f"{mention} " for mention in view.mentions)
    ask = view.ask
    if ask is None:
        heading = f"{view.standing} · {severity}: {view.heading}"
        blocks = [
            _header(heading),
            *([_section(_plain(view.because, VALUE))] if view.because else []),
            *_fields((("Resource", view.resource), *view.facts)),
        ]
    else:
        heading = f"{_DOT[view.severity]} {severity} · {view.heading}"
        blocks = [
            _header(heading),
            _section(_mrkdwn(f"{calls}*{view.standing}* until {_date(ask.expires_at)}")),
            *_fields((("Resource", view.resource), *view.facts)),
            *_listed("Would do", (call.why for call in ask.plan.calls), LINES),
            *_listed("Leaves alone", (f"{one.what}: {one.why}" for one in ask.plan.declined), SMALL),
            *_fields((*view.reach, ("Who approves", view.approvals))),
            *_listed("To know", _notes(ask), SMALL),
        ]
    named = f"Case {view.case}" + (f" · plan {ask.plan_hash[:12]}" if ask else "")
    blocks.append({"type": "context", "elements": [_plain(named, VALUE)]})
    links = _links(view)
    if links:
        blocks.append({"type": "actions", "elements": links})
    elif ask:
        blocks.append(
            {
                "type": "context",
                "elements": [_mrkdwn(f"`redress plan {view.case}` shows all; then `redress approve`")],
            }
        )
    waits = f" · {view.standing}" if ask else ""
    return Card(escape.mrkdwn(f"{heading}{waits}: {view.resource}", TEXT), blocks)


def reply(kind: str, body: Mapping[str, JsonValue], view: CardView, *, alone: bool = False) -> Card | None:
    """What the thread is told of a notice; None for what the card itself says, and for what nobody is told in a thread.

    With `alone` there is no card above it, and it says itself of which resource and case it is.
    """
    said = _said(kind, body, view)
    if said is None:
        return None
    label, lines = said
    where = (view.resource, *(value for name, value in view.facts if name == WHERE)) if alone else ()
    shown = [escape.plain(line, VALUE) for line in (*lines, *where) if line]
    blocks = [_section(_literal("\n".join((label, *shown))))]
    if kind in {"ask_reminded", "break_glass", "breaker_opened", "tamper_suspected"} and view.mentions:
        blocks.append(_section(_mrkdwn(" ".join(view.mentions))))
    if alone:
        blocks.append(
            {"type": "actions", "elements": [_link("review", "Open the case", view.url)]}
            if view.url
            else {"type": "context", "elements": [_mrkdwn(f"`redress case {view.case}` shows all")]}
        )
    return Card(escape.mrkdwn(" · ".join((label, *shown)), TEXT), blocks)


def digest_card(storm: Storm, title: str, waiting: int, url: str) -> Card:
    """The one message in the place of many cards: how many more there are, how many still wait, and where they are listed."""
    if not storm.asks:
        lines = (
            f"{so_many(storm.more, 'more case', 'more cases')} in account {storm.account}.",
            "Nobody was asked about them: the log has what became of each.",
        )
        return sheet(f"🌩 {storm.more} more: {title}", lines, url, "Look at the log")
    asks, wait = so_many(storm.more, "more ask", "more asks"), so_many(waiting, "still waits", "still wait")
    lines = (
        f"{asks} in account {storm.account}; {wait} for an answer.",
        "Each is decided on its own: none of them is approved here.",
    )
    return sheet(f"🌩 {storm.more} more: Fails: {title}", lines, url, "List them")


def sheet(heading: str, lines: Iterable[str], url: str = "", label: str = "Open the console") -> Card:
    """A heading, lines and perhaps a link: reports and digests. Lines that do not fit are left out, and counted."""
    shown, left, room = list[str](), 0, SECTION - len("+100000 more")
    for line in lines:
        text = escape.plain(line, VALUE)
        if left or len(text) + 1 > room:
            left += 1
        else:
            room -= len(text) + 1
            shown.append(text)
    body = "\n".join((*shown, *([f"+{left} more"] if left else [])))
    blocks = [_header(heading), *([_section(_literal(body))] if body.strip() else [])]
    if url:
        blocks.append({"type": "actions", "elements": [_link("review", label, url, primary=True)]})
    return Card(escape.mrkdwn(heading, TEXT).strip() or escape.NOTHING, blocks)


# -- how a case stands -------------------------------------------------------------------------------------------------


def _standing(
    case: Case,
    seq: int,
    given: Consent | None,
    answers: Answers | None,
    waits: Ask | None,
    policy: Policy | None,
) -> tuple[str, str]:
    """In our words, and why in somebody's. What is known of the ask itself goes before what is known of the case."""
    if waits:
        return ASKED, ""
    if given and given.state == "open":
        return _STATES[CaseState.EXPIRED], ""
    said = given.by if given else answers.answers if answers else ()
    refused = next((one for one in said if not one.approve and not one.withdrawn), None)
    if refused:
        return _STATES[CaseState.DENIED], f"{name_of(policy, refused.by)}: {refused.reason}"
    if given:
        return APPROVED, f"{', '.join(name_of(policy, one.by) for one in given.by)}: {given.by[-1].reason}"
    if seq and case.asks > seq:
        label = "⚪ Over: see the newest card"
    elif case.outcome and case.state not in {CaseState.RUNNING, CaseState.WAITING}:
        label = f"{_MARKS[case.outcome]} {OUTCOMES[case.outcome]}"
    else:
        label = _STATES[case.state]
    return label, case.reason


def _about(case: Case, severity: Severity) -> About:
    return About(severity=severity, account=case.target.account, controls=case.controls, owner=case.owner)


def _facts(
    case: Case, known: Iterable[Control], policy: Policy | None, dossier: Dossier | None
) -> tuple[tuple[str, str], ...]:
    """What and where, since whom, whose, and by which criteria."""
    cause = case.shown_cause
    criteria = [line for control in known for line in _criteria(control)]
    rows = [
        (WHERE, f"{_account(case.target, policy)} · {case.target.region}"),
        ("Owner", case.owner or "nobody is named"),
    ]
    if cause:
        said, who = cause.source
        rows.append((said, f"{who} · {_utc(cause.at)}"))
    rows.append(
        ("Control", f"{', '.join(case.controls)} → {' · '.join(dict.fromkeys(criteria)) or 'no criterion'}")
    )
    if dossier and dossier.holder:
        rows.append(("Taken on by", name_of(policy, dossier.holder)))
    return tuple(rows)


def _criteria(control: Control) -> Iterable[str]:
    newest = max((key for key in control.frameworks if key.startswith(CIS)), default="")
    for key in (*_FRAMEWORKS, newest):
        if control.frameworks.get(key):
            yield f"{framework_name(key)} {', '.join(control.frameworks[key])}"


def reach_of(ask: Ask, target: Target, policy: Policy | None) -> str:
    """How many calls the plan makes, and on what: one resource, or all that is in an account. The console says the same."""
    calls = so_many(len(ask.plan.calls), "call", "calls")
    if not target.whole_account:
        return f"{calls} on this resource alone"
    region = "" if is_global(target.region) else f", {target.region}"
    return f"{calls} for all of account {_account(target, policy)}{region}"


def _account(target: Target, policy: Policy | None) -> str:
    """The target's account, by name where the policy has one."""
    facts = policy.accounts.get(target.account) if policy else None
    return f"{facts.name} ({target.account})" if facts and facts.name else target.account


def _reach(
    ask: Ask, target: Target, remediation: AnyRemediation | None, policy: Policy | None
) -> tuple[tuple[str, str], ...]:
    """How far it reaches, whether it can be taken back, and what it costs."""
    calls, cost = reach_of(ask, target, policy), ask.plan.monthly_cost
    if remediation is None:
        risk, undo = "risk unknown", "unknown"
    elif ask.undo:
        risk, undo = (
            f"risk {remediation.risk.value}",
            f"exempt until {stamp(ask.undo.until)[:10]}, then assessed anew",
        )
    else:
        risk = f"risk {remediation.risk.value}"
        undo = (
            "by hand: a ticket has the commands"
            if remediation.undo_by_hand
            else "yes, if nothing drifted since"
        )
    return (("Reach", f"{calls}; {risk}"), ("Undo", undo), ("Cost", f"{cost.amount}: {cost.basis}"))


def _approvals(policy: Policy | None, about: About, ask: Ask, given: Consent) -> str:
    if policy is None:
        return "one person, with `redress approve`: no policy is set"
    rule = policy.rule(about)
    if rule is None:
        return "nobody: the policy has no rule for this"
    names = [policy.people[one].name for one in sorted(able(policy, about, ask))]
    more = f", +{len(names) - LINES} more" if len(names) > LINES else ""
    so_far = f"; so far {', '.join(name_of(policy, one.by) for one in given.by)}" if given.by else ""
    return f"{len(given.by)} of {given.needs} approvals{so_far}. May: {', '.join(names[:LINES])}{more}"


def _mentions(policy: Policy, route: Route, now: datetime) -> tuple[str, ...]:
    """Whom the route has on call, as Slack mentions them. Ids only, whose form the policy has checked."""
    called = route.on_call or ""
    if called.startswith("slack:"):
        return (f"<!subteam^{called.removeprefix('slack:')}>",)
    found: list[str] = []
    for person in policy.on_call(route, now):
        users = (
            one.rpartition("/")[2] for one in policy.people[person].identities if one.startswith("slack:")
        )
        found += [f"<@{user}>" for user in users if user.isascii() and user.isalnum()]
    return tuple(found)


def _notes(ask: Ask) -> Iterable[str]:
    yield from ask.notes
    if ask.undo:
        yield f"{ask.undo.by} wants it taken back: {ask.undo.reason}"
    if ask.again:
        yield "It was approved before, and the plan has changed since."
    if ask.as_code:
        yield "Code made it: the change that would keep it is on the page, in HCL."
    yield f"Asked because: {ask.reason}"


# -- what the thread is told -------------------------------------------------------------------------------------------


def _said(kind: str, body: Mapping[str, JsonValue], view: CardView) -> tuple[str, tuple[str, ...]] | None:
    """A label of ours, and lines in others' words."""
    by, reason = _named(body, "by", view), string(body, "reason")
    happened, _, result = kind.partition("_")
    if happened in {"run", "undo"}:
        return _ran(happened, result, body, view)
    if kind.startswith("ticket_"):
        ticket = mapping(body.get("ticket"))
        label = "🎫 A ticket stands" if result == "open" else "✅ The ticket is closed"
        return label, (str(ticket.get("title", "")), str(ticket.get("closed_because", "")))
    labels = {
        "ask_reminded": ("⏰ Still waits", (reason, view.approvals)),
        "ask_progress": ("👍 Approved in part", (by, view.approvals or reason)),
        "ask_denied": (_STATES[CaseState.DENIED], (by, reason)),
        "ask_refused": ("⚪ The answer does not count: nothing was changed", (reason,)),
        "ask_ticketed": ("🎫 A ticket in the place of an answer: nothing was changed", (by, reason)),
        "ask_expired": (_STATES[CaseState.EXPIRED], (reason,)),
        "ask_over": ("⚪ The ask is over: nothing was changed", (reason,)),
        "ask_stale": (_STATES[CaseState.STALE], (reason,)),
        "break_glass": ("🚨 Break-glass: approved by one person alone", (by, reason)),
        "breaker_opened": (
            "🧯 The control asks people again: its runs went wrong",
            (reason, NEXT["breaker_opened"]),
        ),
        "tamper_suspected": (
            "🚨 Somebody uses a role of ours",
            (string(body, "event"), string(body, "session"), NEXT["tamper_suspected"]),
        ),
        "case_news": ("🗒 News", (string(body, "says"),)),
    }
    return labels.get(kind)


def _ran(
    happened: str, result: str, body: Mapping[str, JsonValue], view: CardView
) -> tuple[str, tuple[str, ...]] | None:
    reason, by = string(body, "reason"), _named(body, "approved_by", view)
    undo = happened == "undo"
    approved = f"approved by {by}" if by else ""
    if result == "started":
        return f"⏳ {'Undo: ' if undo else ''}Is being carried out", (approved, reason)
    if result == "refused":
        return "⚪ The undo was not begun: nothing was changed", (reason,)
    if result not in {*Outcome}:
        return None
    outcome = Outcome(result)
    mark = "↩" if undo and outcome is Outcome.FIXED else _MARKS[outcome]
    changed = outcome in {Outcome.FIXED, Outcome.CONTAINED}
    return f"{mark} {(UNDONE if undo else OUTCOMES)[outcome]}", (
        *(_made(body) if changed else ()),
        approved,
        reason,
    )


def _made(body: Mapping[str, JsonValue]) -> Iterator[str]:
    """What the run changed, in the words of its plan: of what nobody was asked about, no card has said it before."""
    yield from map(str, sequence(body.get("calls")))
    if body.get("more_calls"):
        yield f"+{body['more_calls']} more"


def _named(body: Mapping[str, JsonValue], key: str, view: CardView) -> str:
    """Identities that a notice names, by what the policy calls them."""
    return ", ".join(view.names.get(one, one) for one in string(body, key).split(", "))


# -- Slack's blocks ----------------------------------------------------------------------------------------------------


def _links(view: CardView) -> list[Block]:
    """The buttons. Those that decide are for low and medium severities whose rule has this door, and only while it waits."""
    ask = view.ask
    if ask is None:
        return [_link("review", "Open the case", view.url)] if view.url else []
    found: list[Block] = []
    if view.url:
        found += [
            _link("review", "Review & decide", f"{view.url}?open=decide", primary=True),
            _link("snooze", "Snooze…", f"{view.url}?open=snooze"),
            _link("ticket", "Open ticket…", f"{view.url}?open=ticket"),
        ]
    if view.buttons:
        value = canonical({"case": view.case, "ask": ask.seq, "plan_hash": ask.plan_hash})
        changes = f"{so_many(len(ask.plan.calls), 'call', 'calls')} on {view.resource}"
        found += [
            _decides(APPROVE, "Approve", value, f"This lets it be done: {changes}"),
            _decides(DENY, "Deny", value, f"Nothing is changed, and this is not asked again: {changes}"),
        ]
    return found


def _link(action: str, label: str, url: str, *, primary: bool = False) -> Block:
    button = {"type": "button", "action_id": action, "text": _plain(label, BUTTON), "url": url}
    return {**button, "style": "primary"} if primary else button


def _decides(action: str, label: str, value: str, what: str) -> Block:
    return {
        "type": "button",
        "action_id": action,
        "text": _plain(label, BUTTON),
        "value": value,
        "confirm": {
            "title": _plain(f"{label}?", CONFIRM_TITLE),
            "text": _plain(what, CONFIRM_TEXT),
            "confirm": _plain(label, 30),
            "deny": _plain("Back", 30),
        },
    }


def _header(text: str) -> Block:
    return {"type": "header", "text": _plain(text, HEADER)}


def _section(text: Block) -> Block:
    return {"type": "section", "text": text}


def _fields(rows: Iterable[tuple[str, str]]) -> list[Block]:
    """Rows of label and value, five to a block: Slack sets a section's fields in two columns, and takes ten."""
    pairs = [(_mrkdwn(f"*{label}*"), _plain(value, VALUE)) for label, value in rows]
    return [
        {"type": "section", "fields": [text for pair in pairs[at : at + 5] for text in pair]}
        for at in range(0, len(pairs), 5)
    ]


def _listed(label: str, lines: Iterable[str], most: int) -> list[Block]:
    """A label and at most so many lines, each shown as it is; and how many more there are."""
    every = [f"• {escape.plain(line, LINE)}" for line in lines]
    more = [f"+{len(every) - most} more"] if len(every) > most else []
    return (
        [_section(_mrkdwn(f"*{label}*")), _section(_literal("\n".join((*every[:most], *more))))]
        if every
        else []
    )


def _plain(text: str, most: int) -> Block:
    return _literal(escape.plain(text, most))


def _literal(text: str) -> Block:
    """Shown as it is. Slack takes no empty text: where there is none, a dash says so."""
    return {"type": "plain_text", "text": text if text.strip() else escape.NOTHING, "emoji": False}


def _mrkdwn(text: str) -> Block:
    """Our own words only. `verbatim`: nothing in it becomes a link that is not written as one."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _date(at: datetime) -> str:
    """A moment in each reader's own time zone.

    https://docs.slack.dev/messaging/formatting-message-text#date-formatting
    """
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{_utc(at)}>"


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
