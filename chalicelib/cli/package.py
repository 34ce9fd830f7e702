"""What would be deployed: one zip for both functions and one template, the same bytes for the same tree.

Chalice zips whatever lies in the tree it is run on, byte code included, in the order in which the file system tells it;
and its YAML has aliases, which CloudFormation refuses. So it is run on a clean copy, and what it wrote is written again.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chalicelib.cli import generate, template
from chalicelib.domain.errors import RedressError

NOT_SHIPPED = ("cli",)
"""Rooms of chalicelib that stay at home: nothing that ships imports them, and theirs are typer, rich and boto3."""

REGION = "us-east-1"
"""Chalice asks botocore for a Region to name service principals by; those that it names are the same in all of them."""

_RUN = f"""
import os
os.environ.pop("AWS_PROFILE", None)
os.environ.pop("AWS_DEFAULT_PROFILE", None)
os.environ["AWS_DEFAULT_REGION"] = {REGION!r}
from chalice.cli import main
main()
"""
"""Chalice, whatever account the shell is logged in to. No byte code, and no PYTHONPATH that leads back to our own tree."""

_ZIP = "deployment.zip"
_TEMPLATE = "sam.yaml"
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_LITTER = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".DS_Store")


@dataclass(frozen=True)
class Package:
    """Where the zip and the template lie, and the zip's SHA-256 (hex), by which it is stored."""

    zip: Path
    template: Path
    sha256: str


class PackageError(RedressError):
    """The package could not be built; the message holds what Chalice or pip said."""


def package(root: Path, out: Path, stage: str, *, with_dependencies: bool = True) -> Package:
    """Builds the project at `root` into `out`.

    The zip is the same for every stage; the template has `stage` as the default of its parameter. Without dependencies
    the zip holds our own code and Chalice's alone, and whoever runs it supplies the rest: for the emulated AWS.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="redress-package-") as folder:
        tree = Path(folder, "tree")
        _copy(root, tree, with_dependencies=with_dependencies)
        built = Path(folder, "built")
        _chalice(tree, built, stage)
        sha256 = _write_zip(built / _ZIP, out / _ZIP)
        _write_template(built / _TEMPLATE, out / _TEMPLATE, stage)
    return Package(zip=out / _ZIP, template=out / _TEMPLATE, sha256=sha256)


def _copy(root: Path, tree: Path, *, with_dependencies: bool) -> None:
    tree.mkdir()
    shutil.copy(root / "app.py", tree)
    for source, to in (
        (root / "chalicelib", tree / "chalicelib"),
        (root / "remediations", tree / "vendor" / "remediations"),
        (root / ".chalice" / "policies", tree / ".chalice" / "policies"),
    ):
        shutil.copytree(source, to, ignore=_LITTER)
    for room in NOT_SHIPPED:
        shutil.rmtree(tree / "chalicelib" / room)
    for name in (".chalice/config.json", generate.RESOURCES):
        shutil.copy(root / name, tree / name)
    requirements = (root / "requirements.txt").read_text(encoding="utf-8") if with_dependencies else ""
    (tree / "requirements.txt").write_text(requirements, encoding="utf-8")


def _chalice(tree: Path, built: Path, stage: str) -> None:
    """`chalice package`, in a process of its own: it imports the copy's `app`, which must not become ours."""
    command = (sys.executable, "-B", "-E", "-c", _RUN)
    done = subprocess.run(  # noqa: S603 -- our own interpreter and constants
        [*command, "package", "--stage", stage, "--merge-template", generate.RESOURCES, str(built)],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not (built / _ZIP).is_file():
        raise PackageError(f"chalice package failed:\n{done.stdout}{done.stderr}")
    if "Could not install dependencies" in done.stdout:
        raise PackageError(f"a dependency has no build for Lambda:\n{done.stdout}")


def _write_zip(source: Path, target: Path) -> str:
    """`source` again with its entries in order, dated and permitted alike; the SHA-256 of the result."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name in sorted(given.namelist()):
            entry = zipfile.ZipInfo(name, date_time=_DATE)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, wherever it was built
            made.writestr(entry, given.read(name), zipfile.ZIP_DEFLATED)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def _write_template(source: Path, target: Path, stage: str) -> None:
    written: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    written["Parameters"]["Stage"]["Default"] = stage
    target.write_text(template.plain(written), encoding="utf-8")
