"""Text that an attacker chose stays text: in Slack, on GitHub, in plain text, in a spreadsheet."""

import csv
import html
import io
import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from chalicelib.delivery.escape import ELLIPSIS, MOST_MARKS, UNSEEN, csv_cell, markdown, mrkdwn, plain

ATTACKS = (
    "<!channel> <!here> <!everyone>",
    "<@U0ADMIN> approved this",
    "<#C123|general>",
    "<!subteam^S0123456>",
    "<https://evil.example|Approve>",
    "https://evil.example/approve www.evil.example mailto:a@evil.example",
    "&lt;!channel&gt; &amp;lt;",
    "*bold* _italic_ ~struck~ `code` ```fence```",
    "> quoted",
    ":white_check_mark: Approved :+1::skin-tone-2:",
    "arn:aws:white_check_mark::1:x arn:aws:s3:ok:1:x",
    "line one\nline two\r\nthree\u2028four\x0bfive\x85six",
    "\u202egnp.exe\u202c \u2066x\u2069 \u200bzero\u200dwidth\ufeff",
    "nul\x00bell\x07escape\x1b[31mred",
    "\u3164\u2800\u115f\u034f\ufe0f\U000e0101",
    "Z\u0301\u0302\u0303\u0304\u0305\u0306\u0307algo",
    "\ud800 lone surrogate",
    "@octocat @org/team see #1 GH-1 gh-2 org/repo#3",
    "[link](https://evil.example) ![img](https://evil.example/x.png) <https://evil.example>",
    "<img src=x onerror=alert(1)><!-- --> <details>",
    "# heading\n- item\n1. one\n---\n| a | b |",
    "[ref]: https://evil.example\n[ref]",
    "\\*not\\* escaped twice \\",
    "$x^2$ $$y$$",
    "=cmd|'/C calc'!A0",
)
NAMES = (
    "arn:aws:s3:::my_bucket-1.logs",
    "arn:aws:ec2:eu-central-1:123456789012:security-group/sg-0123456789abcdef0",
    "arn:aws-us-gov:sts::123456789012:assumed-role/admin/jane_doe",
    "AWS::::Account:123456789012",
    "team-a (eu)",
)
ANY = st.text() | st.sampled_from(ATTACKS) | st.text(alphabet="<>&`*_~:@#[]()!\\/-ab1 \n\u202e\u0301=+")


def _lets_through(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in {"Zl", "Zp"}]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("escape", [plain, mrkdwn, markdown])
def test_what_is_shown_is_one_visible_line(attack: str, escape: Callable[[str, int], str]) -> None:
    shown = escape(attack, 1000)
    assert shown
    assert not _lets_through(shown)
    shown.encode()


def test_a_line_break_and_what_cannot_be_seen_are_shown_as_signs() -> None:
    assert plain("a\nb\tc", 100) == "a⏎b c"
    assert plain("a\u202eb\x00c\u3164d", 100) == f"a{UNSEEN}b{UNSEEN}c{UNSEEN}d"
    assert plain("Z" + "\u0301" * 9, 100) == "Z" + "\u0301" * MOST_MARKS


@pytest.mark.parametrize("name", NAMES)
def test_honest_names_stay_as_they_are(name: str) -> None:
    assert plain(name, 200) == name
    assert mrkdwn(name, 200) == name
    assert MarkdownIt().renderInline(markdown(name, 300)) == name


def test_what_is_too_long_ends_in_an_ellipsis_and_never_within_an_escape() -> None:
    assert plain("abcdef", 6) == "abcdef"
    assert plain("abcdefg", 6) == f"abcde{ELLIPSIS}"
    assert mrkdwn("a&b", 6) == f"a{ELLIPSIS}"
    assert mrkdwn("a&b", 7) == "a&amp;b"
    assert markdown("***", 4) == f"\\*{ELLIPSIS}"
    with pytest.raises(ValueError, match="nothing fits"):
        plain("a", 0)


@given(ANY, st.integers(1, 60))
def test_nothing_is_longer_than_asked(text: str, most: int) -> None:
    for escape in (plain, mrkdwn, markdown):
        assert len(escape(text, most)) <= most


@given(ANY)
def test_escaping_plain_text_again_changes_nothing(text: str) -> None:
    once = plain(text, 500)
    assert plain(once, 500) == once


@given(ANY)
def test_no_markup_of_slack_comes_of_it(text: str) -> None:
    shown = mrkdwn(text, 5000)
    assert "<" not in shown
    assert ">" not in shown
    assert "`" not in shown
    assert re.sub(r"&(amp|lt|gt);", "", shown).count("&") == 0
    seen = html.unescape(shown)
    for at, sign in enumerate(seen):
        if sign in "*_~":
            assert re.fullmatch(r"[A-Za-z0-9].[A-Za-z0-9]", seen[at - 1 : at + 2]), seen


@pytest.mark.parametrize(
    "text", [":white_check_mark:", "a:ok:b", "::skin-tone-2:", "arn:aws:ok::1:x", "arn:aws:s3:ok:1:x"]
)
def test_no_emoji_comes_of_it(text: str) -> None:
    assert not re.search(r":(ok|white_check_mark|skin-tone-2|aws):", mrkdwn(text, 100))
    assert not re.search(r":(ok|white_check_mark|skin-tone-2):", _read(markdown(text, 100)))


def _read(text: str) -> str:
    """What GitHub looks at for mentions: the text that Markdown has made."""
    return html.unescape(
        re.sub(r"<[^>]*>", "", MarkdownIt("gfm-like", {"linkify": False}).renderInline(text))
    )


@given(ANY)
def test_no_markup_of_markdown_comes_of_it(text: str) -> None:
    shown = markdown(text, 9000)
    rendered = MarkdownIt("gfm-like", {"linkify": False, "html": True}).renderInline(shown)
    assert not re.search(r"<[a-z!/]", rendered), rendered
    read = _read(shown)
    assert not re.search(r"(^|[^A-Za-z0-9_])@[A-Za-z0-9]", read), read
    assert not re.search(r"#[0-9]", read), read
    assert not re.search(r"\bgh-[0-9]", read, re.IGNORECASE), read
    assert "://" not in read
    assert "www." not in read.lower()


@given(ANY)
def test_markdown_reads_as_what_it_was(text: str) -> None:
    assert _read(markdown(text, 9000)).replace("\u200b", "").split() == plain(text, 9000).split()


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20", " =", "\n=", "\u00a0+"]
)
def test_no_cell_is_a_formula(start: str) -> None:
    cell = csv_cell(f"{start}cmd")
    assert cell == f"'{start}cmd"


@given(ANY)
def test_a_cell_reads_as_what_it_was(text: str) -> None:
    cell = csv_cell(text)
    assert cell in {text, f"'{text}"}
    assert not re.match(r"\s*[=+\-@\t\r]", cell)
    if "\0" in text or not text.isprintable():
        return
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow([cell, "next"])
    assert next(csv.reader([written.getvalue()])) == [cell, "next"]
