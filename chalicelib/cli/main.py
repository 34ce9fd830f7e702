"""The `redress` command: a table of contents. Each command reads its arguments and hands on; nothing works at import.

Exit codes: 0 done, 1 not done or not well (the reason stands on stderr), 2 the command line itself is wrong.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from chalicelib.cli import screen, teamwork
from chalicelib.cli.options import (
    Account,
    CaseName,
    Days,
    Json,
    Reason,
    Stage,
    Url,
    Yes,
    carry_out,
    known_form,
    outside,
    twelve_digits,
    well_formed,
)
from chalicelib.cli.outside import real
from chalicelib.domain.plural import so_many

if TYPE_CHECKING:
    from chalicelib.domain.finding import Signal

ROOT = Path(__file__).resolve().parents[2]


class Commands(TyperGroup):
    """Our own refusals are a line on stderr and exit code 1; a defect stays the traceback that it is.

    Whoever names an option that there is not is told all that there are, where typer would tell those that look alike.
    """

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 -- typer's own signature
        from chalicelib.domain.errors import RedressError

        try:
            return super().invoke(ctx)
        except RedressError as error:
            screen.fail(error)
        except typer.TyperException as error:
            _name_every_option(error)
            raise


def _name_every_option(error: Any) -> None:  # noqa: ANN401 -- typer keeps the class of this error to itself
    if hasattr(error, "possibilities") and error.ctx:
        params = error.ctx.command.get_params(error.ctx)
        error.possibilities = [one.opts[0] for one in params if one.opts[0].startswith("-")]


app = typer.Typer(
    cls=Commands,
    name="redress",
    help="Redress finds changes that break your controls on AWS, and repairs or reports them.",
    epilog="Exit codes: 0 done; 1 not done or not well, and stderr says why; 2 the command line is wrong.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a file is stale.")]


@app.callback()
def prepare(ctx: typer.Context) -> None:
    """Redress finds changes that break your controls on AWS, and repairs or reports them."""
    ctx.obj = ctx.obj or real()


# ------------------------------------------------------------------------------------------------------------- offline


@app.command()
def classify(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="Event files: .json or .jsonl, .gz too.", show_default=False)
    ],
    *,
    json: Json = False,
) -> None:
    """Say which controls each event may break. Offline; nothing is asked of AWS."""
    from chalicelib.cli import events

    catalog = outside(ctx).catalog()
    lines, failures = [], []
    for path in _progress(files, "classifying"):
        try:
            for piece in events.pieces(path):
                line = events.judged(piece, catalog)
                if json:
                    screen.as_json(line)
                else:
                    lines.append(line)
        except events.UnreadableFileError as error:
            failures.append(error)
    if lines:
        screen.table(
            ("file", "control", "account", "region", "resource", "actor", "reason"), _finding_rows(lines)
        )
    for failure in failures:
        screen.warn(f"error: {failure}")
    if failures:
        raise typer.Exit(1)


def _finding_rows(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for line in lines:
        for one in line["findings"]:
            actor = one["actor"]["arn"] or one["actor"]["type"]
            yield line["file"], one["control"], one["account"], one["region"], one["resource"], actor, ""
        if not line["findings"]:
            yield line["file"], "", "", "", "", "", line["reason"]


def _progress(files: list[Path], doing: str) -> Iterable[Path]:
    """The files, with a bar on stderr when a person watches it and there is more than one."""
    drawn = screen.console(stderr=True)
    if not drawn.is_terminal or len(files) == 1:
        return files
    from rich.progress import track

    return track(files, description=doing, console=drawn, transient=True)


@app.command(short_help="Show what would be decided about one event, and the calls.")
def simulate(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="One event, as a .json file.", show_default=False)],
    *,
    mode: Annotated[str, typer.Option(help="Pretend that every control is set to this.")] = "act",
    state: Annotated[Path | None, typer.Option(help="The resource's state as JSON; offline then.")] = None,
    at: Annotated[str, typer.Option(help="The moment to pretend: now, event, or an ISO time.")] = "now",
    json: Json = False,
) -> None:
    """Show what would be decided about one event, and every call that would be made. Nothing is changed.

    Without --state the resource is read as it is now, with your own credentials.
    """
    from chalicelib.cli import events
    from chalicelib.cli.ledger import since
    from chalicelib.cli.simulate import simulate as simulated
    from chalicelib.cli.simulate import state_from
    from chalicelib.domain.finding import NotOurs

    doors, wanted = outside(ctx), _mode(mode)

    def moment(signal: "Signal") -> datetime:
        if at == "event":
            return signal.at
        return doors.now() if at == "now" else since(at, doors.now())

    envelope = next((events.envelope(piece.text) for piece in events.pieces(file)), {})
    read_state = state_from(events.document(state)) if state else doors.read_state
    found = simulated(
        envelope,
        doors.catalog(),
        doors.remediations(),
        read_state,
        wanted,
        moment,
    )
    if isinstance(found, NotOurs):
        nothing = {"decision": "ignore", "rule": "not ours", "reason": found.reason, "calls": []}
        if json:
            screen.as_json([nothing])
        else:
            screen.pairs({"decision": nothing["decision"], "reason": found.reason})
        return
    if json:
        screen.as_json([one.shown() for one in found])
        return
    for one in found:
        _show_plan(one.shown())


def _show_plan(shown: dict[str, Any]) -> None:
    named = (
        "remediation",
        "account",
        "region",
        "resource",
        "mode",
        "decision",
        "rule",
        "reason",
        "plan_hash",
    )
    screen.pairs({name.replace("_", " "): shown[name] for name in named if name in shown})
    for number, call in enumerate(shown["calls"], start=1):
        screen.say(f"{number}. {call['service']}:{call['operation']} (at most {call['at_most']})")
        screen.say(f"   {call['why']}")
        screen.say(f"   {_compact(call['params'])}")
    if not shown["calls"]:
        screen.say("no calls")
    for item in shown["declined"]:
        screen.say(f"declined: {item['what']}: {item['why']}")
    if "assumed" in shown:
        screen.say(f"assumed: {shown['assumed']}")
    screen.say()


def _compact(value: object) -> str:
    import json as writer

    return writer.dumps(value, sort_keys=True)


def _mode(text: str) -> Any:  # noqa: ANN401 -- contract.Mode, which is not imported before a command runs
    from chalicelib.domain.contract import Mode

    try:
        return Mode(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no mode: {', '.join(Mode)}", param_hint="mode") from error


# ------------------------------------------------------------------------------------------------------------- reading


@app.command()
def log(
    ctx: typer.Context,
    *,
    since: Annotated[str, typer.Option(help="How far back: 30m, 24h, 7d, or an ISO time.")] = "24h",
    control: Annotated[str, typer.Option(help="Only records of this control.")] = "",
    account: Annotated[str, typer.Option(help="Only records of this account.", callback=twelve_digits)] = "",
    resource: Annotated[str, typer.Option(help="Only records of this resource, by its ARN.")] = "",
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """Show what was recorded, newest first."""
    from chalicelib.cli import ledger
    from chalicelib.console.pages import sentences
    from chalicelib.domain.record import stamp

    doors = outside(ctx)
    now, books = doors.now(), doors.books(stage)
    sought = ledger.Sought(ledger.since(since, now), now, control, account, resource)
    bodies = ledger.log(books, sought)
    if json:
        for body in bodies:
            screen.as_json(body)
        return
    only = {"control": control, "account": account, "resource": resource}
    named = "".join(f" of {name} {value}" for name, value in only.items() if value)
    policy = ledger.policy_of(books)
    rows = (
        (
            body["recorded_at"],
            body["type"],
            body["account"],
            body["resource"],
            ", ".join(body["controls"]),
            sentences.entry(body, policy).says,
        )
        for body in bodies
    )
    screen.table(
        ("recorded", "type", "account", "resource", "controls", "says"),
        rows,
        empty=f"nothing{named} was recorded since {stamp(sought.since)}",
    )


@app.command()
def cases(
    ctx: typer.Context,
    *,
    state: Annotated[str, typer.Option(help="Only cases in this state.")] = "",
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """List the cases, the one that moved last first."""
    from chalicelib.domain.case import CaseState
    from chalicelib.domain.record import stamp

    if state and state not in set(CaseState):
        raise typer.BadParameter(f"{state!r} is no state: {', '.join(CaseState)}", param_hint="--state")
    found = outside(ctx).books(stage).ledger.cases(CaseState(state) if state else None)
    if json:
        for case in found:
            screen.as_json(case.model_dump(mode="json") | {"id": case.id})
        return
    rows = (
        (
            one.id,
            one.state.value,
            one.target.resource,
            ", ".join(one.controls),
            one.decision,
            one.outcome or "",
            stamp(one.updated_at),
        )
        for one in found
    )
    screen.table(
        ("case", "state", "resource", "controls", "decision", "outcome", "updated"),
        rows,
        empty=f"no case is {state}" if state else "there is no case yet",
    )


@app.command(short_help="Show a case's whole timeline, and whether it still holds.")
def case(ctx: typer.Context, name: CaseName, *, stage: Stage = "dev", json: Json = False) -> None:
    """Show a case's whole timeline, what it waits for, and whether its records still hold together."""
    from chalicelib.cli import ledger, people
    from chalicelib.console.pages import sentences
    from chalicelib.domain.record import stamp

    doors = outside(ctx)
    books = doors.books(stage)
    found = ledger.found_case(books, name)
    bodies, broken = ledger.timeline(books, found)
    beside = ledger.beside(books, found, doors.now())
    answers, dossier = people.answers_of(books, found), books.dossier(found.id)
    if json:
        screen.as_json(
            {
                "case": found.model_dump(mode="json") | {"id": found.id},
                "answers": [one.model_dump(mode="json") for one in answers],
                "dossier": dossier.model_dump(mode="json") if dossier else None,
                "records": bodies,
                "beside": beside,
                "broken": broken,
            }
        )
    else:
        policy = ledger.policy_of(books)
        screen.pairs(
            {
                "case": found.id,
                "resource": found.target.resource,
                "state": found.state.value,
                "reason": found.reason,
                **people.standing(found, answers, doors.now()),
                **people.looked_after(dossier, policy),
            }
        )
        told = sentences.timeline((*bodies, *beside), found.id, policy)
        screen.table(
            ("#", "recorded", "type", "says"),
            # Numbered is the case's own chain; what stands beside it is in chains of its own.
            [(one.seq if one.chain == found.id else "", stamp(one.at), one.type, one.says) for one in told],
        )
        screen.say(
            f"BROKEN: {broken}"
            if broken
            else f"verified: {so_many(len(bodies), 'record', 'records')}, unchanged and complete"
        )
    if broken:
        raise typer.Exit(1)


@app.command(short_help="Show the last plan recorded for a case: calls and why.")
def plan(ctx: typer.Context, name: CaseName, *, stage: Stage = "dev", json: Json = False) -> None:
    """Show the last plan that was recorded for a case: every call, why, and what is declined."""
    from chalicelib.cli import ledger

    books = outside(ctx).books(stage)
    found = ledger.found_case(books, name)
    bodies, _ = ledger.timeline(books, found)
    planned = [body for body in bodies if body["data"].get("plan")]
    if not planned:
        screen.fail(f"no plan was recorded for {found.id}; `redress case {found.id}` shows what was")
    data = planned[-1]["data"]
    decided: dict[str, Any] = next(
        (body["data"] for body in reversed(bodies) if body["data"].get("verdict")), {}
    )
    shown = {
        "remediation": found.remediation,
        "account": found.target.account,
        "region": found.target.region,
        "resource": found.target.resource,
        "decision": decided.get("verdict", found.decision),
        "reason": decided.get("reason", found.reason),
        "plan_hash": data.get("plan_hash", ""),
        "calls": data["plan"]["calls"],
        "declined": data["plan"]["declined"],
        "state": data.get("before"),
        "recorded_at": planned[-1]["recorded_at"],
    }
    if json:
        screen.as_json(shown)
    else:
        _show_plan(shown)


@app.command()
def waiting(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """List what waits for an answer: what would be done, who may not approve it, until when."""
    from chalicelib.cli import people

    doors = outside(ctx)
    listed = [people.ask_shown(one, ask, doors.now()) for one, ask in people.waiting(doors.books(stage))]
    if json:
        for shown in listed:
            screen.as_json(shown)
        return
    screen.table(
        ("case", "resource", "controls", "would", "may not approve", "until"),
        map(people.waiting_row, listed),
        empty="nothing waits for an answer",
    )


@app.command()
def tickets(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """List the open tickets: what a person has to do by hand. They are closed by what is seen, not by being told."""
    from chalicelib.cli import people
    from chalicelib.domain.record import stamp

    found = people.tickets(outside(ctx).books(stage), closed_too=everything)
    if json:
        for one in found:
            screen.as_json(one.model_dump(mode="json") | {"id": one.id})
        return
    rows = (
        (
            one.id,
            one.state.value,
            one.severity.value,
            one.resource,
            one.title,
            one.owner,
            stamp(one.updated_at),
        )
        for one in found
    )
    screen.table(
        ("ticket", "state", "severity", "resource", "title", "owner", "updated"),
        rows,
        empty="there is no ticket" if everything else "no ticket is open",
    )


@app.command(short_help="Show a ticket: evidence, steps, commands to paste.")
def ticket(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="The ticket's id, as `redress tickets` shows it.", show_default=False, metavar="ticket"
        ),
    ],
    *,
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """Show a ticket whole: why, the evidence, the steps in the console, and commands that are ready to paste."""
    from chalicelib.cli import people

    found = people.found_ticket(outside(ctx).books(stage), name)
    if json:
        screen.as_json(found.model_dump(mode="json") | {"id": found.id})
    else:
        people.show_ticket(found)


@app.command()
def exemptions(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that have expired too.")] = False,
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """List the exemptions, also those made by a snooze or an undo: whose, why, by whom, until when."""
    from chalicelib.cli import people

    doors = outside(ctx)
    found = sorted(doors.books(stage).ledger.exemptions(), key=lambda one: one.expires_at)
    listed = [people.exemption_shown(one, doors.now()) for one in found]
    listed = [shown for shown in listed if everything or not shown["expired"]]
    if json:
        for shown in listed:
            screen.as_json(shown)
        return
    screen.table(
        ("resource", "control", "account", "code", "owner", "reason", "granted by", "until"),
        map(people.exemption_row, listed),
        empty="nothing was ever exempt" if everything else "nothing is exempt",
    )


@app.command()
def sweeps(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """Show the newest sweep of each account: how far it is, what it saw, and what it could not read."""
    from chalicelib.cli import people

    doors = outside(ctx)
    listed = [people.sweep_shown(one, doors.now()) for one in doors.books(stage).ledger.sweeps()]
    if json:
        for shown in listed:
            screen.as_json(shown)
        return
    screen.table(
        ("account", "by", "started", "ended", "parts", "violations", "unread", "baseline of"),
        map(people.sweep_row, listed),
        empty="no account was ever swept: `redress sweep` begins",
    )


@app.command()
def accounts(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """List the accounts that are ours: who answers for each, and which roles deploy code there."""
    books = outside(ctx).books(stage)
    owners = {one.account: one.owner for one in books.ledger.owners()}
    roles = [one for one in books.ledger.deployment_roles() if not one.removed]
    listed: list[dict[str, Any]] = [
        {
            "account": account,
            "home": account == books.home,
            "owner": owners.get(account, ""),
            "deployment_roles": {one.role_arn: one.tool for one in roles if one.account == account},
        }
        for account in books.accounts
    ]
    if json:
        for shown in listed:
            screen.as_json(shown)
        return
    rows = (
        (
            shown["account"],
            "home" if shown["home"] else "member",
            shown["owner"],
            ", ".join(f"{arn} ({tool})" for arn, tool in sorted(shown["deployment_roles"].items())),
        )
        for shown in listed
    )
    screen.table(("account", "is", "owner", "deployment roles"), rows)


@app.command(short_help="List the controls, and what each may do in which account.")
def controls(
    ctx: typer.Context,
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="The catalog alone, without any deployment.")
    ] = False,
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """List the controls, and what each may do in every account where somebody set it."""
    doors = outside(ctx)
    ledger = None if offline else doors.books(stage).ledger
    settings = ledger.modes() if ledger else ()
    tripped = [one for one in ledger.breakers() if one.is_open] if ledger else []
    listed = []
    for control in doors.catalog().controls:
        here = {
            one.account: min(one.mode, control.most).value for one in settings if one.control == control.id
        }
        listed.append(
            {
                "control": control.id,
                "title": control.title,
                "severity": control.severity.value,
                "status": control.status.value,
                "at_most": control.most.value,
                "modes": here,
                "breaker_open": [one.account for one in tripped if one.control == control.id],
            }
        )
    if json:
        for entry in listed:
            screen.as_json(entry)
        return
    rows = (
        (
            e["control"],
            e["title"],
            e["severity"],
            e["status"],
            e["at_most"],
            _modes(e["modes"], e["breaker_open"], known=not offline),
        )
        for e in listed
    )
    screen.table(("control", "title", "severity", "status", "at most", "modes"), rows)


def _modes(modes: Any, tripped: Any, *, known: bool) -> str:  # noqa: ANN401 -- an account's mode by account
    if not known:
        return "not asked"
    said = (
        f"{account}: {mode}{' (breaker open: asks)' if account in tripped else ''}"
        for account, mode in sorted(modes.items())
    )
    return ", ".join(said) or "observe everywhere"


@app.command(short_help="List the remediations: what each does, at what risk.")
def remediations(ctx: typer.Context, *, json: Json = False) -> None:
    """List the remediations: what each does, for which controls, at what risk."""
    listed = sorted(outside(ctx).remediations(), key=lambda one: one.id)
    if json:
        for one in listed:
            screen.as_json(
                {
                    "remediation": one.id,
                    "controls": one.controls,
                    "risk": one.risk.value,
                    "summary": one.summary,
                }
            )
        return
    rows = ((one.id, ", ".join(one.controls), one.risk.value, one.summary) for one in listed)
    screen.table(("remediation", "controls", "risk", "summary"), rows)


@app.command(short_help="Show the hard limits: writes per hour without a person.")
def limits(*, json: Json = False) -> None:
    """Show the hard limits: how many writes the engine may make in an hour before it asks a person."""
    from chalicelib.cli.pages import limits_shown

    if json:
        screen.as_json(limits_shown())
    else:
        screen.table(
            ("limit", "writes per hour", "set by"),
            [(n, e["writes"], e["setting"]) for n, e in limits_shown().items()],
        )


@app.command(short_help="Check the deployment: tables, freeze, queues, roles.")
def doctor(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """Check the deployment: tables, kill switch, queues, rules, roles. Exit code 1 when something fails."""
    failed = False
    for check in outside(ctx).checks(stage):
        failed = failed or check.health == "fail"
        if json:
            screen.as_json({"check": check.name, "health": check.health.value, "says": check.says})
        else:
            screen.say(f"{check.health.value:<4}  {check.name}: {check.says}")
    if failed:
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------------ commands


@app.command(name="mode")
def set_mode(
    ctx: typer.Context,
    control: Annotated[str, typer.Argument(help="The control's id.", show_default=False)],
    mode: Annotated[str, typer.Argument(help="observe, ticket, ask or act.", show_default=False)],
    *,
    account: Account,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Set the most that a control may do in an account. Raising it takes a named person: Identity Center or an IAM user."""
    from chalicelib.flow.command import SetMode

    wanted = _mode(mode)
    with well_formed():
        command = SetMode(control=control, account=account, mode=wanted, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Stop all changes at once, everywhere or in one account.")
def freeze(
    ctx: typer.Context,
    *,
    reason: Reason,
    off: Annotated[bool, typer.Option("--off", help="Lift the freeze.")] = False,
    account: Annotated[str | None, typer.Option(help="Only in this account.", callback=twelve_digits)] = None,
    control: Annotated[str | None, typer.Option(help="Only this control; needs --account.")] = None,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Stop all changes at once: everywhere, in one account, or of one control there. --off lifts it, as a named person."""
    from chalicelib.flow.command import SetFreeze

    with well_formed():
        command = SetFreeze(on=not off, account=account, control=control, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Let a control act again whose breaker opened.")
def reset_breaker(
    ctx: typer.Context,
    control: Annotated[str, typer.Argument(help="The control.", show_default=False)],
    *,
    account: Account,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Let a control act in an account again after its breaker opened there. Takes a named person, who found out why."""
    from chalicelib.flow.command import ResetBreaker

    with well_formed():
        command = ResetBreaker(control=control, account=account, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Leave one resource alone for one control, for a time.")
def exempt(
    ctx: typer.Context,
    resource: Annotated[str, typer.Argument(help="The resource's ARN.", show_default=False)],
    *,
    control: Annotated[str, typer.Option(help="The control that shall leave it alone.")],
    account: Account,
    owner: Annotated[str, typer.Option(help="Who answers for it; not yourself.")],
    code: Annotated[str, typer.Option(help="false_positive, accepted_risk or compensating.")],
    reason: Reason,
    until: Annotated[str, typer.Option(help="Its last day or moment: 90d from now, or an ISO time.")],
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Leave one resource alone for one control, for at most 180 days. Takes a named person."""
    from chalicelib.flow.command import COMMAND

    fields = {"resource": resource, "control": control, "account": account, "owner": owner, "code": code}
    ends = _ahead(until, outside(ctx).now())
    with well_formed():
        command = COMMAND.validate_json(
            _compact({"kind": "exempt", **fields, "reason": reason, "expires_at": ends.isoformat()})
        )
    carry_out(ctx, stage, api, command, json=json)


def _ahead(text: str, now: datetime) -> datetime:
    """A moment to come: a span from now, or an ISO time with its zone."""
    from chalicelib.cli.ledger import since

    at = since(text, now)
    return at if text[:4].isdigit() and "-" in text else now + (now - at)


@app.command()
def enrol(
    ctx: typer.Context,
    account: Annotated[
        str,
        typer.Argument(help="The member account, twelve digits.", show_default=False, callback=twelve_digits),
    ],
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Take an account in, as a named person: from now on its events are ours. Every control there starts at observe."""
    from chalicelib.flow.command import Enrol

    with well_formed():
        command = Enrol(account=account, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Try again what failed, from a dead-letter queue.")
def redrive(
    ctx: typer.Context,
    queue: Annotated[str, typer.Argument(help="events, commands, undo or notices.", show_default=False)],
    *,
    reason: Reason,
    most: Annotated[int, typer.Option(help="At most so many messages.")] = 100,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Try again what failed: return messages from a dead-letter queue."""
    from chalicelib.flow.command import COMMAND

    with well_formed():
        command = COMMAND.validate_json(
            _compact({"kind": "redrive", "queue": queue, "most": most, "reason": reason})
        )
    carry_out(ctx, stage, api, command, json=json)


# -------------------------------------------------------------------------------------------------------------- people


def _answer(
    ctx: typer.Context,
    name: str,
    reason: str,
    stage: str,
    url: str | None,
    *,
    approve: bool,
    yes: bool,
    json: bool,
    break_glass: bool = False,
) -> None:
    """Show what is asked, have it confirmed, and send the hash of exactly what was shown."""
    from chalicelib.cli import ledger, people
    from chalicelib.flow.command import AnswerAsk

    doors = outside(ctx)
    found = ledger.found_case(doors.books(stage), name)
    ask = people.ask_of(found)
    with well_formed():
        command = AnswerAsk(
            case=found.id,
            ask=ask.seq,
            plan_hash=ask.plan_hash,
            approve=approve,
            reason=reason,
            break_glass=break_glass,
        )
    if json and not yes:
        raise typer.BadParameter("with --json nothing is shown before it is sent: say --yes too")
    if not json:
        people.show_ask(people.ask_shown(found, ask, doors.now()))
    if not yes and not doors.confirm("Approve exactly this?" if approve else "Deny it?"):
        screen.fail("nothing was sent")
    carry_out(ctx, stage, url, command, json=json)


@app.command(short_help="Approve the plan that waits in a case.")
def approve(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="Decide alone, as the policy lets you; everybody is told.")
    ] = False,
    yes: Yes = False,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Approve the plan that waits in a case, as a named person who did not make the change. Shows it first."""
    _answer(ctx, name, reason, stage, api, approve=True, yes=yes, json=json, break_glass=break_glass)


@app.command(short_help="Deny the plan that waits in a case.")
def deny(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    yes: Yes = False,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Deny the plan that waits in a case, as a named person. Shows it first."""
    _answer(ctx, name, reason, stage, api, approve=False, yes=yes, json=json)


@app.command(short_help="Have a run taken back; somebody else is asked.")
def undo(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    run: Annotated[
        int | None, typer.Option(help="Which run of the case; the last one by default.", show_default=False)
    ] = None,
    days: Days = 7,
    owner: Annotated[
        str | None, typer.Option(help="Who answers for it meanwhile; the resource's own owner by default.")
    ] = None,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Have what a run changed taken back, and the resource left alone for up to 30 days. Somebody else has to approve."""
    from chalicelib.cli import ledger
    from chalicelib.flow.command import Undo

    found = ledger.found_case(outside(ctx).books(stage), name)
    if not found.runs:
        screen.fail(f"nothing was changed for {found.id}, so there is nothing to take back")
    with well_formed():
        command = Undo(
            case=found.id, run=found.runs if run is None else run, days=days, owner=owner, reason=reason
        )
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Leave a case's resource alone for up to a week.")
def snooze(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    days: Days = 1,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Leave a case's resource alone for up to 7 days; the same case is looked at again then. Takes a named person."""
    from chalicelib.flow.command import Snooze

    with well_formed():
        command = Snooze(case=name, days=days, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(name="take-up", short_help="Have a case from the baseline seen to.")
def take_up(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Have an open case looked at and asked about, also one that stood in the baseline report. Takes a named person, who then does not approve it."""
    from chalicelib.flow.command import TakeUp

    with well_formed():
        command = TakeUp(case=name, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command()
def sweep(
    ctx: typer.Context,
    *,
    reason: Reason,
    account: Annotated[
        str | None, typer.Option(help="Which account; the home account by default.", callback=twelve_digits)
    ] = None,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Look at everything in an account now. The first look at a control there is its baseline: a report, and no asks."""
    from chalicelib.flow.command import StartSweep

    with well_formed():
        command = StartSweep(account=account, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="End an exemption now.")
def revoke(
    ctx: typer.Context,
    resource: Annotated[str, typer.Argument(help="The resource's ARN.", show_default=False)],
    *,
    control: Annotated[str, typer.Option(help="The control that left it alone.")],
    account: Account,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """End an exemption now, also one that a snooze or an undo made. Takes a named person."""
    from chalicelib.flow.command import Revoke

    with well_formed():
        command = Revoke(resource=resource, control=control, account=account, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


@app.command(name="deployment-role", short_help="Say under which role code is deployed.")
def deployment_role(
    ctx: typer.Context,
    role: Annotated[str, typer.Argument(help="The role's ARN, with its path.", show_default=False)],
    *,
    account: Account,
    reason: Reason,
    tool: Annotated[str, typer.Option(help="terraform, cdk, cloudformation or other.")] = "other",
    remove: Annotated[bool, typer.Option("--remove", help="It is one no longer.")] = False,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Say under which role code is deployed in an account: what it changes is asked about, and never changed at once."""
    from chalicelib.flow.command import COMMAND

    fields = {"account": account, "role_arn": role, "tool": tool, "remove": remove, "reason": reason}
    with well_formed():
        command = COMMAND.validate_json(_compact({"kind": "deployment_role", **fields}))
    carry_out(ctx, stage, api, command, json=json)


@app.command(short_help="Say who answers for an account.")
def owner(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="A mail address, a team, a channel.", show_default=False)],
    *,
    account: Account,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Say who answers for an account: may refuse what would change it, and is told where a tag names nobody. Takes a named person."""
    from chalicelib.flow.command import SetOwner

    with well_formed():
        command = SetOwner(account=account, owner=name, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


# ------------------------------------------------------------------------------------------------------------ the files


def _write(texts: dict[Path, str], *, check: bool, again: str, json: bool) -> None:
    """Write what differs, or with `check` only say so and fail."""
    stale = [
        path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    names = [str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path) for path in stale]
    if check and stale:
        screen.fail(f"stale: {', '.join(names)}; run `{again}` and commit what it writes")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    if json:
        screen.as_json({"checked": len(texts), "written": names})
    else:
        fresh = so_many(len(texts), "file is fresh", "files are fresh")
        screen.say(f"wrote {', '.join(names)}" if names else fresh)


Into = Annotated[Path, typer.Option("--root", help="The project's folder.", show_default=False)]


@app.command(short_help="Write policies and templates from catalog and code.")
def generate(*, check: Check = False, root: Into = ROOT, json: Json = False) -> None:
    """Write the policies and templates that follow from the catalog and the remediations."""
    from chalicelib.cli.generate import generate as generated

    _write(generated(root), check=check, again="redress generate", json=json)


@app.command()
def package(
    *,
    out: Annotated[Path, typer.Option(help="Where the package goes.")] = Path("build/package"),
    stage: Stage = "dev",
    json: Json = False,
) -> None:
    """Build what would be deployed."""
    from chalicelib.cli.package import package as packaged

    built = packaged(ROOT, out, stage)
    if json:
        screen.as_json({"zip": built.zip, "template": built.template, "sha256": built.sha256})
    else:
        screen.pairs({"zip": built.zip, "template": built.template, "sha256": built.sha256})


@app.command(short_help="Package, and create or update the stack redress-<stage>.")
def deploy(
    *,
    stage: Annotated[
        str,
        typer.Option(envvar="REDRESS_STAGE", help="Which deployment; it must be named.", callback=known_form),
    ],
    given: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the template, as Name=Value; repeat it.")
    ] = None,
    json: Json = False,
) -> None:
    """Package, and create or update the stack redress-<stage> with your own credentials."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from chalicelib.cli.deploy import deploy as deployed
    from chalicelib.cli.outside import deployment
    from chalicelib.cli.package import package as packaged

    wrong = [one for one in given or () if "=" not in one]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not Name=Value", param_hint="--set")
    parameters = dict(one.split("=", 1) for one in given or ())
    session = boto3.Session()
    where = deployment(stage, session)
    screen.warn(f"redress-{stage} in account {where.account}, {where.region}: packaging, then deploying")
    try:
        stands = deployed(
            session,
            packaged(ROOT, ROOT / "build" / stage, stage),
            stage,
            parameters,
            lambda event: screen.warn(
                f"{event.status}  {event.type}  {event.resource}  {event.reason}".rstrip()
            ),
        )
    except (BotoCoreError, ClientError) as error:
        screen.fail(f"{error}. What was begun goes on by itself; cure the cause, then deploy again")
    if json:
        screen.as_json({"stack": stands.stack, "changed": stands.changed, "outputs": stands.outputs})
        return
    screen.say(f"{stands.stack} {'stands, and was changed' if stands.changed else 'stands, unchanged'}")
    screen.pairs(stands.outputs)


@app.command(short_help="Write the generated pages of docs/.")
def docs(ctx: typer.Context, *, check: Check = False, root: Into = ROOT, json: Json = False) -> None:
    """Write the pages of docs/ that follow from the catalog, the remediations and the code."""
    from chalicelib.cli.pages import pages

    doors = outside(ctx)
    texts = pages(root, app, doors.catalog(), doors.remediations())
    _write(texts, check=check, again="redress docs", json=json)


teamwork.add(app)


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
