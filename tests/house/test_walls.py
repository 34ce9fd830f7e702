"""The walls of ARCHITECTURE §2: who may import whom."""

import ast
import contextlib
import io
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from importlinter import api
from importlinter.application.use_cases import lint_imports

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
CONTRACTS: list[dict[str, Any]] = api.read_configuration(str(PYPROJECT))["contracts_options"]
REQUIRED_CONTRACTS = ("layers", "pure", "chalice", "independent", "leaf", "settings-readers", "shipped")


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def strangers(path: Path, *friends: str) -> list[str]:
    """What a file imports beyond the standard library and the friends named."""
    known = (*sys.stdlib_module_names, *friends)
    return [
        name
        for name in imports_of(path)
        if not any(name == one or name.startswith(f"{one}.") for one in known)
    ]


@pytest.mark.parametrize("contract", [contract["id"] for contract in CONTRACTS])
def test_the_import_contract_holds(contract: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        kept = lint_imports(str(PYPROJECT), limit_to_contracts=(contract,), cache_dir=None, no_logo=True)
    assert kept, report.getvalue()


def test_no_contract_was_taken_away() -> None:
    assert set(REQUIRED_CONTRACTS) <= {contract["id"] for contract in CONTRACTS}


def test_every_room_stands_in_the_layers() -> None:
    layers = " ".join(next(contract for contract in CONTRACTS if contract["id"] == "layers")["layers"])
    named = set(layers.replace("(", " ").replace(")", " ").split())
    rooms = {
        f"chalicelib.{path.stem}"
        for path in (ROOT / "chalicelib").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert rooms - {"chalicelib.settings"} <= named


def test_every_room_is_a_package_so_that_the_contracts_see_it() -> None:
    blind = [
        str(folder.relative_to(ROOT))
        for top in ("chalicelib", "remediations")
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}
        if not (folder / "__init__.py").exists()
    ]
    assert blind == []


def test_the_table_of_contents_imports_only_chalice_our_own_and_the_standard_library() -> None:
    app = ROOT / "app.py"
    if not app.exists():
        assert not (ROOT / ".chalice" / "config.json").exists(), "an application without its app.py"
        return
    assert strangers(app, "chalice", "chalicelib") == []


def test_the_domain_imports_only_pydantic_itself_and_the_standard_library() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "chalicelib" / "domain").rglob("*.py"))
        if (names := strangers(path, "pydantic", "chalicelib.domain"))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import boto3",
        "from boto3.session import Session",
        "if 1:\n    import chalice_x",
        "from . import flow",
    ],
)
def test_an_import_that_does_not_belong_is_seen(line: str, tmp_path: Path) -> None:
    offender = tmp_path / "app.py"
    offender.write_text(f"import json\nfrom chalice import Chalice\n{line}\n", encoding="utf-8")
    assert len(strangers(offender, "chalice", "chalicelib")) == 1


BROKEN_WALLS = (
    ("layers", "chalicelib/domain/extra.py", "import chalicelib.flow"),
    ("layers", "chalicelib/adapters/extra.py", "import chalicelib.catalog"),
    ("layers", "remediations/extra.py", "import chalicelib.adapters"),
    ("layers", "chalicelib/console/extra.py", None),
    ("layers", "chalicelib/flow/extra.py", "import chalicelib.delivery"),
    ("pure", "chalicelib/flow/extra.py", "import botocore.exceptions"),
    ("pure", "chalicelib/delivery/extra.py", "import boto3"),
    ("chalice", "chalicelib/cli/extra.py", "from chalice import Chalice"),
    ("chalice", "chalicelib/console/extra.py", None),
    ("independent", "remediations/extra.py", "import remediations.other"),
    ("leaf", "chalicelib/settings.py", "import chalicelib.domain"),
    ("settings-readers", "chalicelib/adapters/extra.py", "import chalicelib.settings"),
    ("settings-readers", "chalicelib/bootstrap.py", None),
    ("shipped", "chalicelib/adapters/extra.py", "import typer"),
    ("shipped", "chalicelib/cli/extra.py", None),
)
ALLOWED_LINES = {
    "chalicelib/bootstrap.py": "import chalicelib.settings, chalicelib.adapters, remediations",
    "chalicelib/cli/extra.py": "import typer, rich.console, local, chalicelib.console",
    "chalicelib/console/extra.py": "import chalice, chalicelib.bootstrap, chalicelib.cli",
}


@pytest.mark.parametrize("contract, path, line", BROKEN_WALLS)
def test_a_breach_of_the_wall_is_noticed_and_a_door_is_none(
    contract: str, path: str, line: str | None, tmp_path: Path
) -> None:
    """Lints a small model of the house, in which one file breaks one wall (or, with no line, uses a door)."""
    rooms = ("domain", "flow", "delivery", "audit", "catalog", "adapters", "console", "cli")
    files = {f"chalicelib/{room}/__init__.py": "" for room in rooms}
    files |= {"chalicelib/__init__.py": "", "chalicelib/settings.py": "", "chalicelib/bootstrap.py": ""}
    files |= {"remediations/__init__.py": "", "remediations/other.py": ""}
    files[path] = line or ALLOWED_LINES[path]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")

    report, kept = lint_model(tmp_path, contract)

    assert kept is (line is None), report


def lint_model(house: Path, contract: str) -> tuple[str, bool]:
    """The verdict of one of our contracts on another tree, in a fresh process: import paths are remembered."""
    (house / "pyproject.toml").write_text(PYPROJECT.read_text(encoding="utf-8"), encoding="utf-8")
    command = f"from importlinter.cli import lint_imports_command as c; c(['--no-logo', '--no-cache', '--contract', '{contract}'])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", command],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    text = done.stdout + done.stderr
    assert "kept" in text, f"import-linter did not come to a verdict: {text}"
    return text, done.returncode == 0


def test_the_tool_configuration_is_read_by_whoever_it_is_for() -> None:
    tools = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]
    assert tools["mypy"]["strict"] is True
    assert tools["pyright"]["typeCheckingMode"] == "strict"
    assert tools["ruff"]["lint"]["select"] == ["ALL"]
    assert tools["pytest"]["ini_options"]["filterwarnings"][0] == "error"
    assert tools["coverage"]["report"]["fail_under"] == 100
