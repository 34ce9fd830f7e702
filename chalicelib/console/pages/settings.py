"""What is set, and by whom: controls and their modes, exemptions, tickets, switches and limits, people."""

from dataclasses import dataclass
from datetime import datetime

from chalicelib.adapters.tables import account_spent
from chalicelib.console import render
from chalicelib.console.desk import Visit
from chalicelib.console.web import Reply
from chalicelib.domain.breaker import MISSES
from chalicelib.domain.contract import AnyRemediation, Mode
from chalicelib.domain.control import Control
from chalicelib.domain.figures import Acted
from chalicelib.domain.policy import Policy, Rule, same, usable
from chalicelib.domain.ports import Freeze, ModeSetting
from chalicelib.domain.ticket import TicketState

ON_A_PAGE = 25


@dataclass(frozen=True)
class ControlRow:
    """A control as the list shows it: the modes that stand in the accounts that the visitor sees, and since when."""

    control: Control
    remediation: AnyRemediation | None
    modes: tuple[tuple[Mode, int], ...]
    changed: ModeSetting | None
    acted: Acted | None


@dataclass(frozen=True)
class Hour:
    """How many writes of the last hour count against one limit: an account's, a control's in it, or an actor's.

    Whose an actor's are is told by the last `case`.
    """

    writes: int
    most: int
    account: str = ""
    control: str = ""
    case: str = ""


def controls(visit: Visit) -> Reply:
    """Every control of the catalog. Where nobody set a mode it is observe, as a fresh deployment has it."""
    accounts, standing, figures = visit.accounts, _modes(visit), visit.desk.books.figures()
    acted = {
        name: one
        for name, one in (figures.acted if figures else {}).items()
        if visit.visitor.sees(one.account)
    }
    rows = [
        _row(visit, control, accounts, standing, acted.get(control.id))
        for control in visit.desk.controls.values()
    ]
    rows.sort(key=lambda row: (-row.control.severity.rank, row.control.id))
    return render.page(
        visit.site, "controls.html", visit=visit, now=visit.now, rows=rows, accounts=accounts, figures=figures
    )


def control(visit: Visit) -> Reply:
    """One control: what it wants, where it comes from, what it hears, and how far it may go in which account."""
    one = visit.desk.controls.get(visit.names["control"])
    if one is None:
        return render.missing(visit.site)
    standing = _modes(visit)
    return render.page(
        visit.site,
        "control.html",
        visit=visit,
        now=visit.now,
        control=one,
        remediation=_remediation(visit, one),
        rows=[(account, standing.get((account, one.id))) for account in visit.accounts],
    )


def exemptions(visit: Visit) -> Reply:
    """Who answers for what is left alone, why, and until when."""
    page = visit.desk.books.exemptions_page(
        ON_A_PAGE, visit.place(), lambda one: visit.visitor.sees(one.account)
    )
    rows = sorted(page.items, key=lambda one: (one.expires_at <= visit.now, one.expires_at))
    return render.page(
        visit.site,
        "exemptions.html",
        visit=visit,
        now=visit.now,
        rows=rows,
        following_url=visit.next(page.more),
        unreadable=page.unreadable,
    )


def tickets(visit: Visit) -> Reply:
    """What people do by hand."""
    said = visit.asked("state")
    state = TicketState(said) if said in {*TicketState} else TicketState.OPEN
    page = visit.desk.books.tickets_page(
        state, ON_A_PAGE, visit.place(), lambda one: visit.visitor.sees(one.target.account)
    )
    return render.page(
        visit.site,
        "tickets.html",
        visit=visit,
        now=visit.now,
        state=state,
        rows=page.items,
        following_url=visit.next(page.more),
        unreadable=page.unreadable,
    )


def switches(visit: Visit) -> Reply:
    """What may stop us: kill switches, breakers, and how much of each limit's hour is spent."""
    return render.page(
        visit.site,
        "switches.html",
        visit=visit,
        now=visit.now,
        freezes=[one for one in visit.desk.books.freezes() if in_scope(visit, one.scope)],
        breakers=[
            one for one in visit.desk.books.breakers() if one.misses and visit.visitor.sees(one.account)
        ],
        misses=MISSES,
        limits=visit.desk.limits,
        spent=_spent(visit),
    )


def _spent(visit: Visit) -> list[Hour]:
    """What the hour holds against each limit: of every account, and of whatever else there were writes for.

    An actor may have acted in accounts that the visitor does not see, so whoever sees some sees no actors.
    """
    limits, accounts = visit.desk.limits, visit.accounts
    within = {one.key: one.within(visit.now) for one in visit.desk.books.spent()}
    hours: list[Hour] = []
    for account in accounts:
        here = within.get(account_spent(account), ())
        hours.append(Hour(sum(one.writes for one in here), limits.per_account, account))
        hours += [
            Hour(sum(one.writes for one in here if name in one.controls), limits.per_control, account, name)
            for name in sorted({name for one in here for name in one.controls})
        ]
    if not visit.visitor.accounts:
        hours += [
            Hour(sum(one.writes for one in there), limits.per_actor, case=there[-1].case)
            for key, there in within.items()
            if there and key.startswith("ACTOR#")
        ]
    return hours


def people(visit: Visit) -> Reply:
    """The policy as it stands: who may decide what, and through which door."""
    policy = visit.policy
    return render.page(
        visit.site,
        "people.html",
        visit=visit,
        now=visit.now,
        policy=policy,
        rules=[(rule, _able(policy, rule)) for rule in policy.rules],
        # Whoever is invited learns nothing of others who are.
        engagements=[
            one
            for one in visit.desk.books.engagements()
            if visit.visitor.until is None or same(visit.visitor.session.identity, one.identity)
        ],
    )


def _able(policy: Policy, rule: Rule) -> list[tuple[str, bool]]:
    """The rule's approvers by name, and whether one of its doors lets each in."""
    return [
        (policy.people[person].name, usable(policy, rule, person))
        for person in sorted(policy.members(rule.approvers))
    ]


def _modes(visit: Visit) -> dict[tuple[str, str], ModeSetting]:
    return {(one.account, one.control): one for one in visit.desk.books.modes()}


def _row(
    visit: Visit,
    control: Control,
    accounts: tuple[str, ...],
    standing: dict[tuple[str, str], ModeSetting],
    acted: Acted | None,
) -> ControlRow:
    settings = [standing.get((account, control.id)) for account in accounts]
    stands = [min(one.mode, control.most) if one else Mode.OBSERVE for one in settings]
    changed = [one for one in settings if one]
    return ControlRow(
        control,
        _remediation(visit, control),
        tuple((mode, stands.count(mode)) for mode in reversed(Mode) if mode in stands),
        max(changed, key=_at, default=None),
        acted,
    )


def _at(setting: ModeSetting) -> datetime:
    return setting.at


def _remediation(visit: Visit, control: Control) -> AnyRemediation | None:
    return next((one for one in visit.desk.remediations.values() if control.id in one.controls), None)


def held(visit: Visit) -> list[Freeze]:
    """The kill switches that are on, as far as they concern this visitor."""
    return [one for one in visit.desk.books.freezes() if one.frozen and in_scope(visit, one.scope)]


def in_scope(visit: Visit, scope: str) -> bool:
    """What stops everything concerns everybody."""
    parts = scope.split("#")
    return len(parts) == 1 or visit.visitor.sees(parts[1])
