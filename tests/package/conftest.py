"""One package of each kind for all tests of this folder, and the generated templates as they are committed."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalicelib.cli import package

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def home() -> dict[str, Any]:
    return _yaml(ROOT / ".chalice/resources.yaml")


@pytest.fixture(scope="session")
def member() -> dict[str, Any]:
    return _yaml(ROOT / ".chalice/member.yaml")


@pytest.fixture(scope="session")
def light() -> Iterator[package.Package]:
    """Our own code alone."""
    with tempfile.TemporaryDirectory() as folder:
        yield package.package(ROOT, Path(folder), "dev", with_dependencies=False)


@pytest.fixture(scope="session")
def full() -> Iterator[package.Package]:
    """What would be deployed."""
    with tempfile.TemporaryDirectory() as folder:
        yield package.package(ROOT, Path(folder), "dev")


def _yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return loaded
