"""What ships is small, named and exact; what tests is exact; and no two files disagree."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = "requirements.txt"
DEMO = "local/requirements.txt"
DEV = "tests/requirements.txt"
FILES = (SHIPPED, DEMO, DEV)
ALLOWED_TO_SHIP = frozenset(
    {
        "aws-lambda-powertools",
        "itsdangerous",
        "jinja2",
        "jmespath",
        "joserfc",
        "markupsafe",
        "pydantic",
        "slack-sdk",
        "tzdata",
        "urllib3",
    }
)
IN_THE_RUNTIME = frozenset({"boto3", "botocore", "chalice"})
OURS = frozenset({"chalicelib", "remediations"})
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[a-z0-9_,-]+\])?==(?P<version>\d[A-Za-z0-9.]*)")


def lines_of(file: str) -> list[str]:
    """The lines that mean something."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return [line for raw in text.splitlines() if (line := re.sub(r"(^|\s)#.*", "", raw).strip())]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(file: str) -> dict[str, str]:
    """Name to version, of the exact pins of one file."""
    found = (PIN.fullmatch(line) for line in lines_of(file))
    return {canonical(pin["name"]): pin["version"] for pin in found if pin}


def runtime_imports(body: ast.AST) -> Iterator[str]:
    """The packages that a module needs when it runs, hence not those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(body):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        yield from runtime_imports(node)


def test_only_what_lambda_needs_ships() -> None:
    assert set(pins_of(SHIPPED)) <= ALLOWED_TO_SHIP
    assert len(lines_of(SHIPPED)) == len(pins_of(SHIPPED)), "something beside a pin stands there"


def test_what_ships_imports_nothing_that_is_not_there() -> None:
    """The command line does not ship; what only comes along with another package may stop coming."""
    there = (
        {name.replace("-", "_") for name in pins_of(SHIPPED)}
        | IN_THE_RUNTIME
        | OURS
        | sys.stdlib_module_names
    )
    files = [ROOT / "app.py", *(ROOT / "chalicelib").rglob("*.py"), *(ROOT / "remediations").rglob("*.py")]
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if path.exists() and (ROOT / "chalicelib" / "cli") not in path.parents
        for name in runtime_imports(ast.parse(path.read_text(encoding="utf-8")))
        if name not in there
    }
    assert missing == set()


def test_an_import_is_seen_wherever_it_stands_but_not_one_for_the_type_checker() -> None:
    text = "import a.b\ndef f():\n    from c.d import e\nif TYPE_CHECKING:\n    import g\nelse:\n    pass"
    assert list(runtime_imports(ast.parse(text))) == ["a", "c"]


@pytest.mark.parametrize("file", FILES)
def test_every_pin_is_exact(file: str) -> None:
    assert [line for line in lines_of(file) if not line.startswith("-r ") and not PIN.fullmatch(line)] == []


@pytest.mark.parametrize("included", ["-r ../requirements.txt", "-r ../local/requirements.txt"])
def test_tests_run_on_what_ships_and_on_what_the_demo_runs_on(included: str) -> None:
    assert included in lines_of(DEV)


def test_no_two_files_pin_one_package_to_two_versions() -> None:
    versions: dict[str, set[str]] = {}
    for file in FILES:
        for name, version in pins_of(file).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("file", FILES)
def test_what_is_pinned_is_what_runs(file: str) -> None:
    wrong = {
        name: f"{installed} is installed, {version} is pinned"
        for name, version in pins_of(file).items()
        if (installed := importlib.metadata.version(name)) != version
    }
    assert wrong == {}
