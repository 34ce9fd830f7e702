"""What the terminal shows: tables for people, JSON for programs, and never a byte that somebody else chose.

Names of resources, sessions and reasons are written by strangers. `visible` shows control characters and direction
marks as what they are; rich is given plain `Text`, so that brackets are brackets.
"""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that draw nothing, or move or turn what is drawn around them."""


def visible(value: object) -> str:
    """`value` as text on one line in which nothing is hidden: a terminal shows it and does not obey it."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _HIDDEN else c for c in str(value)
    )


def console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """A console that interprets nothing: no markup, no emoji codes, no highlighting of what it was given."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width)


def say(text: object = "") -> None:
    """One line for a person."""
    typer.echo(visible(text))


def warn(text: object) -> None:
    """One line on stderr."""
    typer.echo(visible(text), err=True)


def paste(command: str) -> None:
    """A command on a line of its own, to be copied as it stands. Where that would hide something, it is said instead.

    `visible` shows a hidden character as an escape, which in a command would be another command.
    """
    if visible(command) == command:
        typer.echo(f"   {command}")
    else:
        say(f"   not to be pasted, for it holds characters that cannot be seen: {command}")


def fail(text: object) -> NoReturn:
    """Say what is wrong and what to do, and end with 1."""
    warn(f"error: {text}")
    raise typer.Exit(1)


def as_json(value: object) -> None:
    """One JSON document on one line, in ASCII, so that it is safe on a terminal too."""
    typer.echo(json.dumps(value, ensure_ascii=True, default=str))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "nothing to show"
) -> None:
    """A table, one row a line; where the terminal is too narrow for it, each row as a block of its own.

    Without any row it is the sentence `empty`.

    Cells are never cut, so that a name can be copied whole.
    """
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Column, Table
    from rich.text import Text

    cells = [[visible(cell) for cell in row] for row in rows]
    if not cells:
        say(empty)
        return
    wide = sum(max(map(cell_len, column)) + 3 for column in zip(columns, *cells, strict=True))
    terminal = console()
    if terminal.is_terminal and wide > terminal.width:
        for row in cells:
            pairs({name: cell for name, cell in zip(columns, row, strict=True) if cell})
            say()
        return
    drawn = Table(*(Column(name, overflow="fold") for name in columns), box=SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        drawn.add_row(*map(Text, row))
    console(width=max(wide, terminal.width)).print(drawn)


def pairs(values: Mapping[str, Any]) -> None:
    """Names and values, one pair a line."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        say(f"{name:<{width}}  {value}")
