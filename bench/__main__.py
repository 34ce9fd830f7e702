"""`make bench`: one run, one table. Exit code 1 when a target is missed. Figures on stdout, progress on stderr."""

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import budget, fresh, pages, walks, ways
from bench.figures import LEAST_REPETITIONS, Row, Versus, all_met, spread, target, verdict, written
from chalicelib.cli.package import PackageError, package
from local.stage import Stage

WALK_AT_MOST = 2.0
FRESH_AT_MOST = 1.4
ZIP_AT_MOST_MB = 15.0
PARTS = ("walk", "calls", "fresh", "zip", "deployed", "pages")
KINDS_OF_WALK = "walk", "calls", "deployed"


def say(what: str) -> None:
    """Progress, where it does not mix with the figures."""
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def measured(parts: frozenset[str], repetitions: int) -> Iterator[Row]:
    """Every row that was asked for, in the order in which the parts are measured."""
    if "fresh" in parts:
        yield from _fresh(repetitions)
    if "zip" in parts:
        yield from _zip()
    if "pages" in parts:
        say(f"the console's pages, with {pages.CASES} cases")
        yield from pages.rows()
    if parts.intersection(KINDS_OF_WALK):
        with Stage(parameters=walks.PARAMETERS, say=say) as stage:
            yield from _walks(stage, parts, repetitions)
    if "calls" in parts:
        with Stage(parameters=walks.PARAMETERS, say=say) as stage:
            say("counting the calls of everything that is no walk by event")
            # What the functions log has no place among the figures.
            with contextlib.redirect_stdout(io.StringIO()):
                found = ways.counted(stage, say)
        yield from ways.rows(found)


def _walks(stage: Stage, parts: frozenset[str], repetitions: int) -> Iterator[Row]:
    roles = {stage.settings.role(name) for name in ways.COUNTED}
    stage.world.set_delay(walks.HELD_BACK_SECONDS)
    with walks.engine_of(stage) as engine:
        counted: list[Row] = []
        for acts in (False, True):
            for walk in (one for one in budget.WALKS if one.acts is acts):
                if acts:
                    walks.raise_to_act(stage, walk.control)
                if "calls" in parts:
                    say(f"counting the calls: {walk.name}")
                    made = budget.made(walks.calls_of(stage, engine, walk), roles)
                    counted += budget.rows(walk.name, budget.fewest(walk), made)
        if "walk" in parts:
            say(f"open SSH, event to fixed and recorded, {repetitions} times each in turns")
            timed = walks.in_turns(stage, engine, walks.Plain(stage), repetitions)
            yield from _against("walk", "open SSH: event → fixed and recorded", timed.wall, WALK_AT_MOST)
            yield Row(
                "walk",
                "of which this process's own CPU, against plain boto3's",
                timed.cpu.ratio,
                "x",
                note=f"{timed.cpu.ours.median * 1e3:.1f} ms against {timed.cpu.plain.median * 1e3:.1f} ms",
            )
        yield from counted
    if "deployed" in parts:
        say(f"deployed: a developer opens port 22, {repetitions} times")
        taken = spread(walks.deployed_seconds(stage, repetitions))
        yield Row(
            "deployed",
            "developer's API call → port closed, warm",
            taken.median,
            "s",
            note=f"EventBridge, SQS and Lambda, all emulated; quartiles {taken.low:.2f} and {taken.high:.2f} s",
        )


def _fresh(repetitions: int) -> Iterator[Row]:
    say(f"fresh process to ready, byte code there, {repetitions} times each in turns")
    there = fresh.in_turns(repetitions, "compiled")
    yield from _against("fresh", "fresh process → ready with four clients", there, FRESH_AT_MOST)
    say("the same without byte code, as in a zip that holds none")
    absent = fresh.in_turns(max(5, repetitions // 3), "absent")
    yield Row(
        "fresh",
        "the same when neither side finds byte code",
        absent.ratio,
        "x",
        note=f"{absent.ours.median * 1e3:.0f} ms against {absent.plain.median * 1e3:.0f} ms",
    )


def _against(part: str, measure: str, taken: Versus, at_most: float) -> Iterator[Row]:
    yield Row(
        part,
        f"{measure}, against plain boto3",
        taken.ratio,
        "x",
        target=at_most,
        note=f"{taken.ours.count} pairs; quartiles of the pairs {taken.pairs.low:.2f} and {taken.pairs.high:.2f}",
    )
    for name, side in (("Redress", taken.ours), ("plain boto3", taken.plain)):
        quartiles = f"quartiles {side.low * 1e3:.1f} and {side.high * 1e3:.1f} ms"
        yield Row(part, f"  {name}", side.median * 1e3, "ms", note=quartiles)


def _zip() -> Iterator[Row]:
    say("packaging with dependencies")
    with tempfile.TemporaryDirectory(prefix="redress-bench-") as folder:
        try:
            built = package(fresh.ROOT, Path(folder), "bench")
        except PackageError as error:
            yield Row(
                "zip", "zip with dependencies", None, "MB", target=ZIP_AT_MOST_MB, note=str(error)[-300:]
            )
            return
        with zipfile.ZipFile(built.zip) as made:
            files = [entry for entry in made.infolist() if not entry.is_dir()]
        unpacked = sum(entry.file_size for entry in files) / 1e6
        yield Row(
            "zip",
            "zip with dependencies",
            built.zip.stat().st_size / 1e6,
            "MB",
            target=ZIP_AT_MOST_MB,
            note=f"{unpacked:.1f} MB unpacked; one zip for both functions",
        )
        yield Row("zip", "  files in it", len(files), "files")


def machine() -> dict[str, Any]:
    """What the seconds depend on, and the ratios should not."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "boto3": walks.boto3_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def shown(rows: list[Row]) -> Table:
    """The table."""
    table = Table(title="What Redress costs", title_justify="left")
    for column in ("measure", "figure", "target", "", "note"):
        table.add_column(
            column, overflow="fold", justify="right" if column in {"figure", "target"} else "left"
        )
    part = ""
    for row in rows:
        if part and part != row.part:
            table.add_section()
        part = row.part
        table.add_row(row.measure, written(row.value, row.unit), target(row), verdict(row), row.note)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, and say by the exit code whether every target was met."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as one JSON document")
    parser.add_argument("--repetitions", type=int, default=LEAST_REPETITIONS, help="pairs per measurement")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure this part alone; may be repeated"
    )
    given = parser.parse_args(arguments)
    if given.repetitions < LEAST_REPETITIONS:
        parser.error(f"fewer than {LEAST_REPETITIONS} repetitions are an anecdote")
    began, before = time.monotonic(), machine()
    if before["load"] > (before["cpus"] or 1) / 2:
        say(
            f"load {before['load']} on {before['cpus']} CPUs: the ratios will be less steady than they are on an idle machine"
        )
    rows = sorted(
        measured(frozenset(given.only or PARTS), given.repetitions), key=lambda row: PARTS.index(row.part)
    )
    after = machine()
    met = all_met(rows)
    if given.json:
        document = {
            "machine": {**before, "load_after": after["load"]},
            "seconds": round(time.monotonic() - began, 1),
            "met": met,
            "rows": [row.shown() for row in rows],
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
        console.print(shown(rows))
        note = ", ".join(f"{name} {value}" for name, value in before.items())
        console.print(f"{note}, load after {after['load']}; {time.monotonic() - began:.0f} s in all")
        console.print(
            "every target met"
            if met
            else "MISSED: " + "; ".join(r.measure.strip() for r in rows if r.met is False)
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
