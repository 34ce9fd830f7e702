"""The controls that we hold accounts to, as data; loading validates all of it.

One file per service, one `[[control]]` per control. A mistake in any file is an error that names the file and the
line, and nothing is loaded: an engine with half a catalog would call the other half compliant.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chalicelib.domain.contract import canonical
from chalicelib.domain.control import Control
from chalicelib.domain.errors import CatalogError


@dataclass(frozen=True)
class Catalog:
    """Every control, by id, however they are spread over files."""

    controls: tuple[Control, ...]


def load(folder: Path | None = None) -> Catalog:
    """The catalog in the `*.toml` files of `folder`, or of this one."""
    entries = [
        entry for path in sorted((folder or Path(__file__).parent).glob("*.toml")) for entry in _entries(path)
    ]
    _refuse_duplicates(entries)
    return Catalog(tuple(sorted((entry.control for entry in entries), key=lambda control: control.id)))


@dataclass(frozen=True)
class _Entry:
    """A control and where it stands."""

    control: Control
    place: str


def _entries(path: Path) -> Iterable[_Entry]:
    text = path.read_text(encoding="utf-8")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{path.name}:{_line_of(error, text)}: this is not TOML: {error}") from error
    lines = _Lines(text)
    for key, value in tables.items():
        if key != "control" or not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise CatalogError(
                f"{path.name}:{lines.after(0, key)}: only [[control]] tables belong here, not {key!r}"
            )
    for number, table in enumerate(tables.get("control", [])):
        start = lines.control(number)
        yield _Entry(_control(table, path.name, lines, start), f"{path.name}:{start}")


def _control(table: dict[str, Any], name: str, lines: "_Lines", start: int) -> Control:
    try:
        control = Control.model_validate_json(json.dumps(table))
        canonical(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the control"
        raise CatalogError(
            f"{name}:{lines.at(start, first['loc'])}: {table.get('id', 'a control without id')}: "
            f"{where}: {first['msg']}"
        ) from error
    except TypeError as error:  # a float or a date: TOML has them, the canonical form has not
        raise CatalogError(f"{name}:{start}: {table.get('id', 'a control without id')}: {error}") from error
    return control


def _refuse_duplicates(entries: Sequence[_Entry]) -> None:
    """Ids and former ids are never reused, in whichever file."""
    places: dict[str, str] = {}
    for entry in entries:
        for name in (entry.control.id, *entry.control.aliases):
            if name in places:
                raise CatalogError(f"{entry.place}: {name} is taken already, by {places[name]}")
            places[name] = entry.place


class _Lines:
    """Finds the line to blame. TOML's own parser keeps no positions, so this reads headers and keys as people do."""

    def __init__(self, text: str) -> None:
        self._lines = tuple(_outside_strings(text))

    def control(self, number: int) -> int:
        """The line of the `[[control]]` table of that number, from 0; of `control =` when they are written inline."""
        found = [
            place for place, line in enumerate(self._lines, 1) if re.match(r"\s*\[\[\s*control\s*\]\]", line)
        ]
        return found[number] if number < len(found) else self.after(0, "control")

    def after(self, line: int, key: str) -> int:
        """The first line after `line` and within its control that sets `key`, or `line` itself (at least 1)."""
        name = rf"[\"']?{re.escape(key)}[\"']?"
        setting = re.compile(
            rf"(^|[{{,])\s*(\w+\.)*{name}\s*(\.\w+\s*)*=|^\s*\[+\s*([\w\s]+\.)*\s*{name}\s*\]"
        )
        for place, text in enumerate(self._lines[line:], line + 1):
            if setting.search(text):
                return place
            if line and re.match(r"\s*\[\[\s*control\s*\]\]", text):
                break
        return max(line, 1)

    def at(self, start: int, path: tuple[int | str, ...]) -> int:
        """The line of the innermost key of `path` that can be found in the control that starts at `start`."""
        line = start
        for place, part in enumerate(path):
            if isinstance(part, str):
                line = self.after(line, part)
            elif self._lines[line - 1].lstrip().startswith("[["):
                for _ in range(part):
                    line = self.after(line, str(path[place - 1]))
        return line


def _outside_strings(text: str) -> Iterable[str]:
    """The lines of `text`, emptied where they lie within a multi-line string."""
    within = ""
    for line in text.splitlines():
        yield "" if within else line
        for quotes in re.findall(r'"""|\'\'\'', line):
            within = "" if within == quotes else within or quotes


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line that the parser complains of; it says `at end of document` when it is the last."""
    said = re.search(r"at line (\d+)", str(error))
    return int(said[1]) if said else max(1, len(text.splitlines()))
