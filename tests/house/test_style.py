"""House style that no linter knows, or that must hold where a linter's exception is wider than ours."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]


def sources(*tops: str) -> tuple[Path, ...]:
    """Our Python files under these folders; a name that ends in .py is a file itself."""
    found = (ROOT / top if top.endswith(".py") else (ROOT / top).rglob("*.py") for top in tops)
    return tuple(
        sorted(path for one in found for path in ((one,) if isinstance(one, Path) else one) if path.is_file())
    )


SHIPPED = sources("app.py", "chalicelib", "remediations")
ROOMS = sources("chalicelib", "remediations")
ALL = (*SHIPPED, *sources("local", "tests", "bench"))


def name_of(path: Path) -> str:
    """A path as the project writes it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=name_of)
each_file = pytest.mark.parametrize("path", ALL, ids=name_of)


def tree_of(text: str) -> ast.Module:
    return ast.parse(text)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- the rules


def prints(text: str) -> Iterator[str]:
    for node in ast.walk(tree_of(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"print", "pprint"}
        ):
            yield f"line {node.lineno}: {node.func.id}()"


def broad_excepts(text: str) -> Iterator[tuple[int, bool]]:
    """The line of every handler that catches everything, and whether a comment there says why."""
    remarks = {line for line, _ in comments(text)}
    lines = text.splitlines()
    for node in ast.walk(tree_of(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(one is None or dotted(one).split(".")[-1] in {"Exception", "BaseException"} for one in caught):
            above = lines[node.lineno - 2].lstrip().startswith("#")
            within = remarks.intersection(range(node.lineno, node.body[0].lineno + 1))
            yield node.lineno, above or bool(within)


def mocks(text: str) -> Iterator[str]:
    for node in ast.walk(tree_of(text)):
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{one.name}" for one in node.names]
        elif isinstance(node, ast.arg) and node.arg == "mocker":
            names = ["mock (the mocker fixture)"]
        else:
            continue
        for name in names:
            if name.removeprefix("unittest.").split(".")[0].split(" ")[0] in {"mock", "pytest_mock"}:
                yield f"line {node.lineno}: {name}"


MUTABLE_MAKERS = frozenset(
    {
        "list",
        "dict",
        "set",
        "bytearray",
        "defaultdict",
        "OrderedDict",
        "Counter",
        "deque",
        "ChainMap",
        "WeakValueDictionary",
    }
)


LITERALS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def is_mutable(node: ast.expr | None) -> bool:
    """Whether an expression makes something that a later event could find changed."""
    parts: list[ast.expr] = []
    match node:
        case ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
            pass
        case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, right=other):
            parts = [one, other]
        case ast.NamedExpr(value=one):
            parts = [one]
        case ast.Call(func=maker, args=[ast.Dict(keys=keys, values=values)]) if dotted(maker).endswith(
            "MappingProxyType"
        ):
            # What is spread into it with ** is copied: only its values can change later.
            parts = [
                part.value if key is None and isinstance(part, ast.DictComp) else part
                for key, part in zip(keys, values, strict=True)
            ]
        case ast.Call(func=maker):
            return dotted(maker).split(".")[-1] in MUTABLE_MAKERS
    return isinstance(node, LITERALS) or any(is_mutable(part) for part in parts)


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run at import, also those under an `if`, a `try`, a `with` or a loop."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                yield from module_level(getattr(statement, field, []))
            for handler in getattr(statement, "handlers", []):
                yield from module_level(handler.body)


def mutable_state(text: str) -> Iterator[str]:
    tree = tree_of(text)
    for statement in module_level(tree.body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and is_mutable(statement.value):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield f"line {statement.lineno}: {', '.join(ast.unparse(target) for target in targets)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"


EMPTY_NAMES = frozenset(
    {"util", "utils", "helper", "helpers", "common", "manager", "processor", "base", "misc"}
)


def empty_names(path: str) -> Iterator[str]:
    """The parts of a path that say nothing."""
    yield from EMPTY_NAMES.intersection(re.split(r"[/_.]", path))


def comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def promises_to_do_it_later(text: str) -> Iterator[str]:
    for line, comment in comments(text):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment):
            yield f"line {line}: {comment}"


SILENCER = re.compile(
    r"(type:\s*ignore|pyright:\s*\w*|(ruff:\s*)?noqa|pragma:\s*no\s+(cover|branch)|nosec)"
    r"(\s*\[[\w, -]*\]|:?\s*([A-Z]{1,5}\d{2,4}[, ]*)+)?"
)


def silencers_without_reason(text: str) -> Iterator[str]:
    """Comments that switch a check off and do not also say, in at least two words, why."""
    for line, comment in comments(text):
        reason, silencers = SILENCER.subn(" ", comment)
        if silencers and len(re.findall(r"[A-Za-z]{2,}", reason)) < 2:
            yield f"line {line}: {comment}"


def dotted(node: ast.expr) -> str:
    """`a.b.c` as text, or nothing for what is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


DOORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        r"boto3\.(client|resource|Session|session\.Session|session)",
        ("chalicelib/adapters/aws.py", "chalicelib/cli/"),
    ),
    (r"os\.(environ|environb|getenv|putenv)", ("chalicelib/settings.py",)),
    (
        r"(datetime\.)?(datetime\.(now|utcnow|today)|date\.today)|time\.(time|time_ns)",
        ("chalicelib/adapters/clock.py", "chalicelib/cli/"),
    ),
)


def uses(text: str) -> Iterator[tuple[int, str]]:
    """Every dotted name that is used, and every name that is imported from a module."""
    for node in ast.walk(tree_of(text)):
        if isinstance(node, ast.Attribute) and dotted(node):
            yield node.lineno, dotted(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{one.name}") for one in node.names)


def side_doors(name: str, text: str) -> Iterator[str]:
    """Uses of the outside (AWS, the environment, the clock) elsewhere than where they are let in."""
    for line, used in uses(text):
        for pattern, doors in DOORS:
            if re.fullmatch(pattern, used) and not name.startswith(doors):
                yield f"line {line}: {used}"


# ------------------------------------------------------------------------------------------------- the rules, applied


@each_shipped
def test_what_ships_does_not_print(path: Path) -> None:
    assert list(prints(read(path))) == []


@each_shipped
def test_everything_is_caught_only_at_the_edges_and_with_a_reason(path: Path) -> None:
    at_the_edge = name_of(path) in {"app.py", "chalicelib/flow/pipeline.py"}
    wrong = [line for line, reasoned in broad_excepts(read(path)) if not (at_the_edge and reasoned)]
    assert wrong == []


@each_file
def test_nothing_is_mocked(path: Path) -> None:
    assert list(mocks(read(path))) == []


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_no_module_remembers_the_previous_event(path: Path) -> None:
    assert list(mutable_state(read(path))) == []


@each_file
def test_a_module_is_named_after_what_it_owns(path: Path) -> None:
    assert list(empty_names(name_of(path))) == []


@each_file
def test_nothing_is_left_for_later(path: Path) -> None:
    assert list(promises_to_do_it_later(read(path))) == []


@each_file
def test_a_silenced_check_says_why(path: Path) -> None:
    assert list(silencers_without_reason(read(path))) == []


@each_shipped
def test_the_outside_comes_in_by_its_own_door(path: Path) -> None:
    assert list(side_doors(name_of(path), read(path))) == []


def test_the_style_tests_look_at_something() -> None:
    assert len(ROOMS) > 10
    assert Path(__file__).resolve() in ALL


# ---------------------------------------------------------------------------------------- and the rules find offenders

Rule = Callable[[str], Iterator[object]]


@pytest.mark.parametrize(
    "rule, text",
    [
        (prints, "print('x')"),
        (mocks, "from unittest import mock"),
        (mocks, "import unittest.mock"),
        (mocks, "from unittest.mock import patch"),
        (mocks, "import mock"),
        (mocks, "def test(mocker): ..."),
        (mutable_state, "CACHE = {}"),
        (mutable_state, "SEEN: set[str] = set()"),
        (mutable_state, "SEEN = collections.defaultdict(list)"),
        (mutable_state, "PAIR = ((), [])"),
        (mutable_state, "__all__ = ['a']"),
        (mutable_state, "if True:\n    A = [1]"),
        (mutable_state, "try:\n    import x\nexcept ImportError:\n    A = [1]"),
        (mutable_state, "A = MappingProxyType({'a': []})"),
        (mutable_state, "A = MappingProxyType({**{x: [] for x in 'ab'}})"),
        (mutable_state, "def f():\n    global a\n    a = 1"),
        (promises_to_do_it_later, "x = 1  # TODO tidy"),
        (silencers_without_reason, "x = 1  # type: ignore"),
        (silencers_without_reason, "x = 1  # type: ignore[arg-type]"),
        (silencers_without_reason, "x = 1  # noqa"),
        (silencers_without_reason, "x = 1  # noqa: S101, ANN401"),
        (silencers_without_reason, "x = 1  # pragma: no cover"),
        (silencers_without_reason, "x = 1  # pyright: ignore[reportUnknownMemberType]"),
        (silencers_without_reason, "# ruff: noqa: S101"),
        (silencers_without_reason, "x = 1  # type: ignore[arg-type]  # noqa: ANN401"),
    ],
)
def test_an_offender_is_found(rule: Rule, text: str) -> None:
    assert list(rule(text)) != []


@pytest.mark.parametrize(
    "rule, text",
    [
        (prints, "console.print('x')"),
        (mocks, "from moto import mock_aws"),
        (
            mutable_state,
            "A = MappingProxyType({'a': (1,), **{x: x for x in 'ab'}})\nB = frozenset({1})\nC = (1, 2)\n__all__ = ('A',)",
        ),
        (mutable_state, "def f():\n    a = []\nclass C:\n    a = []"),
        (promises_to_do_it_later, "x = 'TODO'"),
        (silencers_without_reason, "x = 1  # type: ignore[arg-type]  # the stub lacks this operation"),
        (silencers_without_reason, "x = 1  # noqa: ANN401 -- any JSON value"),
        (silencers_without_reason, "x = 1  # pragma: no cover - only on Windows"),
    ],
)
def test_what_is_permitted_is_let_be(rule: Rule, text: str) -> None:
    assert list(rule(text)) == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("try:\n    f()\nexcept:\n    pass", [(3, False)]),
        ("try:\n    f()\nexcept Exception:\n    pass", [(3, False)]),
        ("try:\n    f()\nexcept (ValueError, BaseException):\n    pass", [(3, False)]),
        (
            "try:\n    f()\nexcept Exception:  # whatever it was, the case must not be lost\n    pass",
            [(3, True)],
        ),
        ("try:\n    f()  # what it does\nexcept Exception:\n    pass", [(3, False)]),
        ("try:\n    f()\n# whatever it was\nexcept Exception:\n    pass", [(4, True)]),
        ("try:\n    f()\nexcept ValueError:\n    pass", []),
    ],
)
def test_a_broad_except_is_found_with_or_without_its_reason(
    text: str, expected: list[tuple[int, bool]]
) -> None:
    assert list(broad_excepts(text)) == expected


@pytest.mark.parametrize(
    "name, text, count",
    [
        ("chalicelib/flow/decide.py", "import os\nos.environ['A']", 1),
        ("chalicelib/flow/decide.py", "from os import getenv", 1),
        ("chalicelib/settings.py", "import os\nos.environ['A']", 0),
        ("chalicelib/adapters/aws.py", "import os\nos.environ['A']", 1),
        ("chalicelib/adapters/aws.py", "import boto3\nboto3.Session()", 0),
        ("chalicelib/adapters/slack.py", "import boto3\nboto3.client('s3')", 1),
        ("remediations/a.py", "datetime.now(UTC)", 1),
        ("remediations/a.py", "import datetime\ndatetime.datetime.now(UTC)", 1),
        ("chalicelib/adapters/clock.py", "datetime.now(UTC)", 0),
    ],
)
def test_a_side_door_is_found(name: str, text: str, count: int) -> None:
    assert len(list(side_doors(name, text))) == count


@pytest.mark.parametrize(
    "name, empty", [("chalicelib/utils.py", True), ("a/aws_helpers.py", True), ("a/database.py", False)]
)
def test_an_empty_name_is_found(name: str, *, empty: bool) -> None:
    assert bool(list(empty_names(name))) is empty
