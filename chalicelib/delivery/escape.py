"""Text that others chose, made harmless for where it is shown: Slack, GitHub, plain text, spreadsheets.

Whoever names a bucket, a tag, a session or a reason chooses what stands on a card. Nothing of it may become a link, a
mention, a format, a formula, a second line or a direction mark. It stays readable: what could not be seen is shown as a
sign, and what is too long ends in an ellipsis. Every result is one line and no longer than `most`, never cut through an escape.
"""

import re
import unicodedata
from collections.abc import Iterable
from types import MappingProxyType

ELLIPSIS = "…"
NOTHING = "–"
"""Where nothing is said. A hyphen would begin a list."""

UNSEEN = "\ufffd"
"""In the place of a character that shows nothing, or that turns, hides or joins what stands around it."""

_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
"""What shows nothing though its category is a letter's, a mark's or a sign's (Unicode, Default_Ignorable_Code_Point)."""

MOST_MARKS = 3
"""Marks on one letter. More would climb over the lines above it."""

_MRKDWN = MappingProxyType({"&": "&amp;", "<": "&lt;", ">": "&gt;", "`": "\N{MODIFIER LETTER GRAVE ACCENT}"})
_FORMATS = MappingProxyType(
    {"*": "\N{ASTERISK OPERATOR}", "_": "\N{MODIFIER LETTER LOW MACRON}", "~": "\N{TILDE OPERATOR}"}
)
_RATIO = "\N{RATIO}"

_NAME = r"(?P<kept>\b(?:arn:aws[a-z-]*:(?:ec2|iam|s3|sts):(?:[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2})?:[0-9]*:|AWS::::Account:))"
"""The head of a name of ours, whose colons stay: no part of it can be an emoji's name."""

_SHORTCODE = re.compile(rf"{_NAME}|:(?=[a-z0-9_+'-]+:)", re.IGNORECASE)
_MARKDOWN = re.compile(
    rf"{_NAME}|@|#|\bgh-|:(?=//|[a-z0-9_+-]+:)|www(?=\.)|[\\`*_{{}}\[\]()<>+\-.!|~&$^=\"']", re.IGNORECASE
)
_ZERO_WIDTH = "&#8203;"

_FORMULA = re.compile(
    r"\s*[=+\-@\t\r\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}]"
)


def plain(text: str, most: int) -> str:
    """For what shows text as it is: `plain_text` of Slack (with `emoji` false), mails, subjects, titles."""
    return _cut(_seen(text), most)


def mrkdwn(text: str, most: int) -> str:
    """For Slack's mrkdwn: no entity, mention, link, format or emoji comes of it.

    Signs that would format become their look-alikes, but between two letters or digits, where Slack takes them for part of
    the word: `my_bucket` stays what it is. Bare addresses become links unless the text object is `verbatim`.
    https://docs.slack.dev/messaging/formatting-message-text
    """
    shown = _SHORTCODE.sub(lambda match: match["kept"] or _RATIO, "".join(_seen(text)))
    return _cut(
        (
            _FORMATS[sign] if sign in _FORMATS and not _within_word(shown, at) else _MRKDWN.get(sign, sign)
            for at, sign in enumerate(shown)
        ),
        most,
    )


def markdown(text: str, most: int) -> str:
    """For GitHub's Markdown, within a line: no mention, reference, link, format or HTML comes of it.

    A backslash does for what Markdown reads. GitHub looks for mentions and references in what Markdown has made, and there
    only a character between helps: the zero-width space that update bots put into their pull requests for the same reason.
    https://github.github.com/gfm/#backslash-escapes
    """
    shown, pieces, at = "".join(_seen(text)), list[str](), 0
    for match in _MARKDOWN.finditer(shown):
        pieces += shown[at : match.start()]
        at, found = match.end(), match[0]
        if match["kept"]:
            pieces += found
        elif found == "#":
            pieces.append(f"\\#{_ZERO_WIDTH}")
        elif found.isalpha() or (
            found[-1] in "@:-" and found != "-"
        ):  # `www`, `GH-`, and what mentions, links or smiles
            pieces.append(f"{found}{_ZERO_WIDTH}")
        else:
            pieces.append(f"\\{found}")
    return _cut([*pieces, *shown[at:]], most)


def csv_cell(text: str) -> str:
    """For a cell of a CSV or XLSX file, for exports to come: never a formula, and otherwise exactly the text (CWE-1236).

    The file quotes every cell, so that none can end in the middle. https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if _FORMULA.match(text) else text


def _seen(text: str) -> Iterable[str]:
    """The characters as they may be shown: each one visible, each in reading order, all on one line."""
    marks = 0
    for sign in text:
        category = unicodedata.category(sign)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if sign in _BREAKS:
            yield "⏎"
        elif category == "Zs" or sign == "\t":
            yield " "
        elif category[0] == "C" or sign in _INVISIBLE:
            yield UNSEEN
        elif marks <= MOST_MARKS:
            yield sign


def _cut(pieces: Iterable[str], most: int) -> str:
    """As many whole pieces as fit; with an ellipsis at the end where some do not."""
    if most < 1:
        raise ValueError(f"nothing fits into {most} characters")
    kept, length = list[str](), 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        if length > most:
            break
    else:
        return "".join(kept)
    while kept and length + len(ELLIPSIS) > most:
        length -= len(kept.pop())
    return "".join((*kept, ELLIPSIS))


def _within_word(text: str, at: int) -> bool:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    return (
        bool(before and after)
        and before.isascii()
        and before.isalnum()
        and after.isascii()
        and after.isalnum()
    )
