"""What a stranger wrote is shown, never obeyed."""

import json
from collections.abc import Callable

import pytest

from chalicelib.cli import screen


def test_a_hostile_name_becomes_visible_on_one_line(hostile: str, harmful: Callable[[str], bool]) -> None:
    shown = screen.visible(hostile)
    assert not harmful(shown)
    assert "\n" not in shown


def test_an_honest_name_stays_as_it_is() -> None:
    assert screen.visible("Straße 7 – café, 日本 [x] <b>") == "Straße 7 – café, 日本 [x] <b>"


def test_a_table_shows_hostile_cells_whole_and_obeys_none(
    hostile: str, harmful: Callable[[str], bool], capsys: pytest.CaptureFixture[str]
) -> None:
    screen.table(("name",), [(hostile,)])
    out = capsys.readouterr().out
    assert not harmful(out)
    assert "".join(screen.visible(hostile).split()) in "".join(out.split())


def test_json_is_ascii_and_reads_back(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen.as_json({"name": hostile})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": hostile}


def test_a_table_too_wide_for_the_terminal_becomes_blocks_and_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    screen.table(("case", "resource"), [("a" * 30, "b" * 30), ("c", "d")])
    assert capsys.readouterr().out.splitlines() == [
        f"case      {'a' * 30}",
        f"resource  {'b' * 30}",
        "",
        "case      c",
        "resource  d",
        "",
    ]


def test_a_table_without_a_terminal_has_one_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("case", "resource"), [("a" * 300, "b" * 300)])
    assert ["a" * 300, "b" * 300] in [line.split() for line in capsys.readouterr().out.splitlines()]
