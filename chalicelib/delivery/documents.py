"""A ticket as other systems write it: Atlassian's document format, GitHub's Markdown, plain text, JSON.

What others chose stays text in all of them. What is to be pasted (commands, code) is shown whole or not at all: half a
command is another command.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import JsonValue

from chalicelib.delivery.escape import NOTHING, UNSEEN, markdown, plain
from chalicelib.domain.shape import mapping, text
from chalicelib.domain.ticket import LONGEST_TITLE, PAGE, Ticket

LONGEST_SAID = 1000
"""Characters of one paragraph or item."""

SCHEMA = "redress.ticket/1"
"""The form of what webhooks carry. A new major number comes when a field goes or means something else."""

RECURRENCE = "recurrence_of"
"""Where a ticket's evidence names the remote ticket before it: `{"key": …, "url": …}`, both of our own making."""

LEFT_OUT = "Not everything fits here. The rest stands in Redress, under the case named above."
STILL = "Closed here, and yet an assessment since then still finds what it is about. As it stands now:"
CHANGED = f"Signs that cannot be shown stand as {UNSEEN}: do not paste what follows, take it from Redress."

Piece = TypeVar("Piece")

_CODE_TAG = re.compile(r"\[(?=\s*/?\s*code\s*\])", re.IGNORECASE)
_TICKS = re.compile(r"`+")


class Part(NamedTuple):
    """One piece of a ticket. `said` is text that others chose in part, `name` and headings are ours; a link is ours whole."""

    kind: Literal["text", "heading", "item", "code", "link"]
    said: str
    name: str = ""


def title_of(ticket: Ticket, most: int = LONGEST_TITLE) -> str:
    """Its title on one line."""
    return plain(ticket.title, most)


def opened(ticket: Ticket) -> tuple[Part, ...]:
    """The whole ticket, for whoever never saw it."""
    return tuple(_whole(ticket))


def news(ticket: Ticket, remark: str) -> tuple[Part, ...]:
    """`remark`, which is ours, and then the ticket as it stands now, for whoever saw it before."""
    return (Part("text", remark), *_whole(ticket))


def closed(ticket: Ticket) -> tuple[Part, ...]:
    """Why it is closed, by what was seen, and where that is on record."""
    return (
        Part("text", ticket.closed_because or "Closed by an assessment that found the target compliant."),
        *_case(ticket),
        Part("item", str(ticket.evidence.get("records", "")), "On record in"),
        Part("item", ticket.updated_at.isoformat(), "Seen at"),
    )


def _whole(ticket: Ticket) -> Iterable[Part]:
    yield Part("text", ticket.why)
    before = mapping(ticket.evidence.get(RECURRENCE))
    if key := text(before.get("key")):
        yield Part("item", key, "Recurrence of")
    if url := text(before.get("url")):
        yield Part("link", url)
    yield Part("item", ticket.resource, "Resource")
    yield Part("item", f"{ticket.target.account}, {ticket.target.region}", "Account and Region")
    yield Part("item", ticket.severity.value, "Severity")
    yield Part("item", ", ".join(ticket.controls), "Controls")
    yield Part("item", ticket.owner or "nobody is named", "Owner")
    yield from _case(ticket)
    if ticket.steps:
        yield Part("heading", "What to do")
    for step in ticket.steps:
        yield Part("text", step.console)
        yield from _code(step.command)
    if ticket.commands:
        yield Part("heading", "The same as commands")
    for command in ticket.commands:
        yield from _code(command)
    if ticket.as_code:
        yield Part("heading", "In Terraform, so that it stays")
        yield from _code(ticket.as_code)
    yield Part("heading", "Evidence")
    rest = {name: value for name, value in ticket.evidence.items() if name not in {RECURRENCE, PAGE}}
    # ASCII, so that no sign in a name is lost or turns the rest around.
    yield Part("code", json.dumps(rest, indent=2, sort_keys=True))
    yield Part("text", "Redress closes this ticket when it has seen that the target is compliant.")


def _case(ticket: Ticket) -> Iterable[Part]:
    yield Part("item", ticket.case, "Case")
    if page := text(ticket.evidence.get(PAGE)):
        yield Part("link", page)


def _code(said: str) -> Iterable[Part]:
    if not said:
        return
    lines = [plain(line, len(line) + 1) for line in said.split("\n")]
    shown = "\n".join(lines)
    if shown != said:
        yield Part("text", CHANGED)
    yield Part("code", shown)


# -- Atlassian's document format ---------------------------------------------------------------------------------------


def adf(parts: Iterable[Part], most: int = 32_000) -> dict[str, Any]:
    """A document of Jira's v3 API, no longer than `most` characters as JSON: Jira takes 32,767 characters of it.

    https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/
    """
    left_out = _node(Part("text", LEFT_OUT))
    content = _fitting(map(_node, parts), left_out, most, lambda node: len(json.dumps(node)) + 1)
    return {"type": "doc", "version": 1, "content": content}


def _node(part: Part) -> dict[str, Any]:
    if part.kind == "code":
        return {"type": "codeBlock", "content": [_said(part.said)]}
    if part.kind == "heading":
        return {"type": "heading", "attrs": {"level": 3}, "content": [_said(part.said)]}
    if part.kind == "link":
        link = {"type": "link", "attrs": {"href": part.said}}
        return {"type": "paragraph", "content": [{**_said(part.said), "marks": [link]}]}
    name = [{**_said(f"{part.name}: "), "marks": [{"type": "strong"}]}] if part.name else []
    return {"type": "paragraph", "content": [*name, _said(plain(part.said, LONGEST_SAID) or NOTHING)]}


def _said(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


# -- GitHub's Markdown -------------------------------------------------------------------------------------------------


def marked(parts: Iterable[Part], most: int = 60_000) -> str:
    """GitHub's Markdown, no longer than `most`; an issue takes 65,536 characters."""
    pieces = _fitting(map(_block, parts), LEFT_OUT, most, lambda block: len(block) + 2)
    return "\n\n".join(pieces)


def _block(part: Part) -> str:
    if part.kind == "code":
        fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(part.said)), default=0))
        return f"{fence}\n{part.said}\n{fence}"
    if part.kind == "heading":
        return f"### {part.said}"
    if part.kind == "link":
        return f"<{part.said}>"
    name = f"**{part.name}:** " if part.name else ""
    return f"{name}{markdown(part.said, LONGEST_SAID) or NOTHING}"


# -- plain text --------------------------------------------------------------------------------------------------------


def written(parts: Iterable[Part], most: int) -> str:
    """Plain text, no longer than `most`. ServiceNow's journals take what stands between code tags as HTML: there are none."""
    pieces = _fitting(map(_lines, parts), LEFT_OUT, most, lambda piece: len(piece) + 2)
    return "\n\n".join(pieces)


def _lines(part: Part) -> str:
    if part.kind == "code":
        shown = "\n".join(f"    {line}" for line in part.said.split("\n"))
    else:
        name = f"{part.name}: " if part.name else ""
        shown = f"{name}{plain(part.said, LONGEST_SAID) or NOTHING}"
    return _CODE_TAG.sub("(", shown)


# -- JSON --------------------------------------------------------------------------------------------------------------


def event(
    ticket: Ticket, what: Literal["opened", "updated", "reopened", "closed"], key: str
) -> dict[str, JsonValue]:
    """What a webhook carries. `id` is the same for the same news; `key` is the same for the ticket's whole life.

    The ticket's texts stand as they are: whoever shows them escapes them.
    """
    name = hashlib.sha256(f"{key}\x1f{what}\x1f{ticket.shown}".encode()).hexdigest()
    return {
        "schema": SCHEMA,
        "id": name,
        "event": f"ticket.{what}",
        "key": key,
        "ticket": ticket.model_dump(mode="json"),
    }


def _fitting(
    pieces: Iterable[Piece], left_out: Piece, most: int, length: Callable[[Piece], int]
) -> list[Piece]:
    """The pieces that fit, whole and in order; with `left_out` at the end where some do not."""
    kept: list[Piece] = []
    room = most - length(left_out) - 100
    whole = True
    for piece in pieces:
        if length(piece) <= room:
            kept.append(piece)
            room -= length(piece)
        else:
            whole = False
    return kept if whole else [*kept, left_out]
