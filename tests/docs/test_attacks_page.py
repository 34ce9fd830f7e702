"""docs/attacks.md names tests that exist, and for everything that the issue wants shown."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| Attack |")]
NAMED = sorted({*re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)})

WANTED = (
    "crawler",
    "301 seconds",
    "replayed",
    "forged",
    "encoded anew",
    "not ASCII",
    "Fifty approvers",
    "second identity",
    "one second after the end",
    "stale, zero writes",
    "cannot be read: zero writes",
    "Session fixation",
    "CSRF",
    "Open redirect",
    "Clickjacking",
    "Host and",
    "Stored XSS",
    "Slack's markup",
    "HTML, ADF, Markdown, CSV",
    "Secrets in pages",
    "Five hundred asks",
)
"""The attacks of the issue, as the page calls them."""


@cache
def _tests_of(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef))


@pytest.mark.parametrize("file, name", NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in _tests_of(file)


@pytest.mark.parametrize("attack", WANTED)
def test_each_attack_of_the_issue_is_on_the_page(attack: str) -> None:
    assert any(attack in row.split("|")[1] for row in ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_each_attack_names_a_test_and_nothing_else(row: str) -> None:
    _, attack, tests, rest = row.split("|")
    assert attack.strip()
    assert rest == ""
    assert re.fullmatch(r" (`tests/[\w/]+\.py::test_\w+`(, )?)+ ", tests)


def test_the_test_files_of_the_attacks_are_all_on_the_page() -> None:
    """A new attack in these files is written down here as well."""
    own = (
        "tests/attack/test_console_attacks.py",
        "tests/attack/test_secrets_stay.py",
        "tests/attack/test_storm.py",
        "tests/browser/test_attacks.py",
    )
    controls = {"test_the_queue_of_this_test_keeps_an_order_and_drops_what_comes_twice"}
    for file in own:
        there = {name for name in _tests_of(file) if name.startswith("test_")}
        assert there - controls - {name for named, name in NAMED if named == file} == set()
