"""Commands for working together: the policy, invitations, and what people do with a case beside deciding it."""

import json as json_of
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from chalicelib.cli import screen
from chalicelib.cli.options import (
    CaseName,
    Days,
    Json,
    Reason,
    Stage,
    Url,
    carry_out,
    outside,
    twelve_digits,
    well_formed,
)

EXAMPLES = Path(__file__).resolve().parent / "examples"


def add(app: typer.Typer) -> None:
    """Register the commands of this page."""
    app.command(name="policy", short_help="Show the policy: who may decide what.")(policy)
    app.command(name="set-policy", short_help="Set the policy from a TOML file.")(set_policy)
    app.command(name="example-policy", short_help="Write a policy to begin with.")(example_policy)
    app.command(short_help="Let an outside auditor look for a time.")(invite)
    app.command(short_help="End an auditor's invitation now.")(uninvite)
    app.command(short_help="List the auditors' invitations.")(invitations)
    app.command(short_help="Take a case on.")(claim)
    app.command(name="hand-over", short_help="Give a case to somebody else.")(hand_over)
    app.command(short_help="Say something about a case.")(comment)
    app.command(short_help="Declare a case an incident, or none.")(incident)
    app.command(short_help="Take your approval back.")(withdraw)
    app.command(name="open-ticket", short_help="Have a ticket in the place of an answer.")(open_ticket)


def policy(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """Show the policy that stands: people, rules, routes; with --json whole, as it is stored."""
    setting = outside(ctx).books(stage).ledger.policy()
    if setting is None:
        screen.say(
            "no policy is set: whoever IAM lets send POST/commands/answer may answer, and one approval is enough; "
            "`redress example-policy team-of-two` writes one to begin with"
        )
        return
    if json:
        screen.as_json(setting.model_dump(mode="json"))
        return
    one = setting.policy
    screen.say(f"set by {setting.by} at {setting.at:%Y-%m-%d %H:%M} UTC: {setting.reason}")
    screen.table(
        ("person", "name", "roles", "identities"),
        (
            (name, known.name, ", ".join(known.roles), ", ".join(known.identities))
            for name, known in one.people.items()
        ),
    )
    screen.table(
        ("rule", "severities", "approvers", "how many", "doors"),
        (
            (
                rule.name,
                ", ".join(rule.severities) or "any",
                ", ".join(sorted(one.members(rule.approvers))),
                rule.quorum,
                ", ".join(rule.doors),
            )
            for rule in one.rules
        ),
    )
    screen.table(
        ("route", "severities", "channel", "fallback", "hours", "on call"),
        (
            (
                route.name,
                ", ".join(route.severities) or "any",
                route.channel,
                route.fallback or "none",
                f"{route.hours.opens:%H:%M} to {route.hours.closes:%H:%M} {route.hours.timezone}"
                if route.hours
                else "always",
                route.on_call or "nobody",
            )
            for route in one.routes
        ),
    )


def set_policy(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The policy, as a .toml file.", show_default=False)],
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Set the policy, whole, in place of the one that stands now. Takes a named person, and is recorded with both."""
    from chalicelib.flow.command import COMMAND
    from chalicelib.flow.governing import digest_of

    doors = outside(ctx)
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error
    if "console_url" not in read:
        read = {"console_url": doors.address(stage, api).rstrip("/"), **read}
    stands = doors.books(stage).ledger.policy()
    fields: dict[str, Any] = {
        "kind": "policy",
        "policy": read,
        "replaces": digest_of(stands.policy) if stands else "",
        "reason": reason,
    }
    with well_formed():
        command = COMMAND.validate_json(json_of.dumps(fields, default=str))
    carry_out(ctx, stage, api, command, json=json)


def example_policy(
    name: Annotated[
        str, typer.Argument(help="team-of-two, or a larger team: security-team.")
    ] = "team-of-two",
    *,
    json: Json = False,
) -> None:
    """Write an example policy to stdout, to be changed and set with `redress set-policy`."""
    found = {path.stem: path for path in EXAMPLES.glob("*.toml")}
    if name not in found:
        raise typer.BadParameter(f"there is {', '.join(sorted(found))}")
    text = found[name].read_text(encoding="utf-8")
    if json:
        screen.as_json({"name": name, "toml": text})
    else:
        sys.stdout.write(text)  # as it is: a file's lines are nobody's to fold


def invite(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="A short name for the engagement, as acme-2026.", show_default=False)
    ],
    *,
    who: Annotated[str, typer.Option(help="The auditor's name.")],
    identity: Annotated[
        str,
        typer.Option(
            help="oidc:<issuer>#<sub>, or email:<issuer>#<address>; the issuer is its https:// address."
        ),
    ],
    reason: Reason,
    account: Annotated[
        list[str] | None, typer.Option(help="Only this account; repeat it. By default all.")
    ] = None,
    days: Days = 30,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Let an outside auditor read everything, or some accounts, for up to 90 days; every view is recorded."""
    from chalicelib.flow.governing import Invite

    accounts = tuple(twelve_digits(one) or "" for one in account or ())
    with well_formed():
        command = Invite(id=name, name=who, identity=identity, accounts=accounts, days=days, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


def uninvite(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The engagement's short name.", show_default=False)],
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """End an auditor's invitation now."""
    from chalicelib.flow.governing import Uninvite

    with well_formed():
        command = Uninvite(id=name, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


def invitations(ctx: typer.Context, *, stage: Stage = "dev", json: Json = False) -> None:
    """List the auditors who were invited, until when, and by whom; those whose time is over too."""
    doors = outside(ctx)
    found = doors.books(stage).ledger.engagements()
    if json:
        for one in found:
            screen.as_json(one.model_dump(mode="json"))
        return
    now = doors.now()
    screen.table(
        ("invitation", "auditor", "identity", "accounts", "until", "by"),
        (
            (
                one.id,
                one.name,
                one.identity,
                ", ".join(one.accounts) or "all",
                f"{one.until:%Y-%m-%d %H:%M} UTC{'' if now < one.until else ' (over)'}",
                one.by,
            )
            for one in found
        ),
    )


def claim(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Take a case on, so that others see who looks after it."""
    from chalicelib.flow.casework import Claim

    with well_formed():
        command = Claim(case=name, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


def hand_over(
    ctx: typer.Context,
    name: CaseName,
    *,
    to: Annotated[
        str, typer.Option(help="A person of the policy by id, name, mail address or identity, or a group.")
    ],
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Give a case to somebody else to look after."""
    from chalicelib.flow.casework import HandOver

    with well_formed():
        command = HandOver(case=name, to=to, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


def comment(
    ctx: typer.Context,
    name: CaseName,
    text: Annotated[str, typer.Argument(help="What you know of it.", show_default=False)],
    *,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Say something about a case, for all who read it later."""
    from chalicelib.flow.casework import Comment

    with well_formed():
        command = Comment(case=name, reason=text)
    carry_out(ctx, stage, api, command, json=json)


def incident(
    ctx: typer.Context,
    name: CaseName,
    *,
    cause: Annotated[str, typer.Option(help="The root cause, as far as it is known.")],
    reason: Reason,
    none: Annotated[bool, typer.Option("--none", help="It was no incident.")] = False,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Declare a case an incident, or with --none that it was none: with its root cause, and why you think so."""
    from chalicelib.flow.casework import CallIncident

    with well_formed():
        command = CallIncident(case=name, declared=not none, root_cause=cause, reason=reason)
    carry_out(ctx, stage, api, command, json=json)


def withdraw(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Take your approval back, while others still have to approve."""
    from chalicelib.cli import ledger, people
    from chalicelib.flow.command import AnswerAsk

    found = ledger.found_case(outside(ctx).books(stage), name)
    ask = people.ask_of(found)
    with well_formed():
        command = AnswerAsk(
            case=found.id, ask=ask.seq, plan_hash=ask.plan_hash, approve=True, reason=reason, withdraw=True
        )
    carry_out(ctx, stage, api, command, json=json)


def open_ticket(
    ctx: typer.Context,
    name: CaseName,
    *,
    reason: Reason,
    stage: Stage = "dev",
    api: Url = None,
    json: Json = False,
) -> None:
    """Open a ticket in the place of an answer: the ask is over, and somebody works it off by hand."""
    from chalicelib.cli import ledger, people
    from chalicelib.flow.casework import WantTicket

    found = ledger.found_case(outside(ctx).books(stage), name)
    ask = people.ask_of(found)
    with well_formed():
        command = WantTicket(case=found.id, ask=ask.seq, reason=reason)
    carry_out(ctx, stage, api, command, json=json)
