"""What many commands have in common: their options, the doors to the outside, and how a command is sent."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from chalicelib.cli import screen
from chalicelib.cli.outside import Outside

if TYPE_CHECKING:
    from chalicelib.flow.command import AnyCommand

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def known_form(stage: str) -> str:
    """A stage as deployments are named; what is none is never looked for in AWS."""
    from chalicelib.cli.template import STAGE_FORM

    if not re.fullmatch(STAGE_FORM, stage):
        raise typer.BadParameter(
            f"{stage!r} is no stage: up to 12 lower-case letters and digits, a letter first"
        )
    return stage


def twelve_digits(account: str | None) -> str | None:
    if account and not re.fullmatch("[0-9]{12}", account):
        raise typer.BadParameter(f"{account!r} is no account: twelve digits")
    return account


Stage = Annotated[str, typer.Option(envvar="REDRESS_STAGE", help="Which deployment.", callback=known_form)]
Url = Annotated[
    str | None,
    typer.Option("--api", envvar="REDRESS_API", help="The API's address; by default the stack's own."),
]
Reason = Annotated[str, typer.Option(help="Why; it is recorded under your name.")]
Account = Annotated[str, typer.Option(help="The account, twelve digits.", callback=twelve_digits)]
CaseName = Annotated[
    str,
    typer.Argument(help="The case's id, as `redress cases` shows it.", show_default=False, metavar="case"),
]
Days = Annotated[int, typer.Option(help="For so many days.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask me to confirm; needed with --json.")]


def outside(ctx: typer.Context) -> Outside:
    """The doors to the outside that this run was given."""
    found: Outside = ctx.obj
    return found


@contextmanager
def well_formed() -> Iterator[None]:
    """What the command's own model refuses is a wrong command line, said field by field."""
    from pydantic import ValidationError

    from chalicelib.flow.command import said_plainly

    try:
        yield
    except ValidationError as error:
        raise typer.BadParameter(screen.visible(said_plainly(error))) from error


def carry_out(ctx: typer.Context, stage: str, url: str | None, command: "AnyCommand", *, json: bool) -> None:
    """Send the command, and say what became of it."""
    result = outside(ctx).post(stage, url, command)
    if json:
        screen.as_json(result.model_dump(mode="json"))
        return
    screen.say(result.says)
    if result.changed:
        screen.say(f"recorded as number {result.seq} of {result.chain} ({result.record_id})")
