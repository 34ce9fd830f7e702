"""`make` is how everybody meets the project: it explains itself, and says what is wrong before it starts."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROMISED = ("demo", "up", "test", "check", "fix", "generate", "package", "deploy", "docs", "bench", "judge")
PUBLIC = tuple(re.findall(r"^([a-z][a-z-]*):.*?## ", MAKEFILE, re.MULTILINE))


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """What `make` does in a shell that was not itself started by make."""
    shell = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "STAGE"}
    }
    return subprocess.run(
        ["make", *words], cwd=ROOT, env=shell, capture_output=True, text=True, check=False, timeout=60
    )


def test_bare_make_only_lists_every_target_with_a_sentence() -> None:
    done = make()
    assert done.returncode == 0
    assert done.stderr == ""
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", done.stdout, re.MULTILINE))
    assert tuple(listed) == PUBLIC


@pytest.mark.parametrize("target", PROMISED)
def test_the_promised_target_is_public_and_make_knows_what_to_do(target: str) -> None:
    assert target in PUBLIC
    done = make("--dry-run", target, "STAGE=dev")
    assert done.returncode == 0, done.stderr


def test_every_target_that_a_page_names_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {
        target
        for page in pages
        if page.exists()
        for code in re.findall(
            r"`[^`\n]+`|^```.*?^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        for target in re.findall(r"(?:^|[`$;&]\s*)make ([a-z][a-z-]*)", code, re.MULTILINE)
    }
    assert named - set(PUBLIC) == set()


def test_every_target_is_phony_so_that_a_folder_of_its_name_cannot_hide_it() -> None:
    assert set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)) == set(PUBLIC)


def test_a_deployment_is_never_guessed() -> None:
    done = make("--dry-run", "deploy")
    assert done.returncode != 0
    assert "make deploy STAGE=" in done.stderr
    assert done.stdout == ""


def test_a_python_that_is_too_old_or_absent_is_named_with_the_way_out(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 || exit 1\n', encoding="utf-8")
    old.chmod(0o755)
    for name, said in ((str(old), "Python 3.9.2"), ("no-such-python", "not there")):
        house = tmp_path / said.replace(" ", "-")
        (house / "tests").mkdir(parents=True)
        (house / "local").mkdir()
        for file in (
            "Makefile",
            "pyproject.toml",
            "requirements.txt",
            "tests/requirements.txt",
            "local/requirements.txt",
        ):
            (house / file).write_bytes((ROOT / file).read_bytes())
        done = subprocess.run(
            ["make", "test", f"PYTHON={name}"],
            cwd=house,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode != 0
        assert said in done.stderr
        assert "make test PYTHON=python3.12" in done.stderr
        assert not (house / ".venv").exists()


def test_no_target_but_deploy_runs_us_with_the_credentials_of_the_shell() -> None:
    runs = re.findall(r"^\t@?(.*\$\((?:PY|DEMO_PY|REDRESS)\) .*)$", MAKEFILE, re.MULTILINE)
    harmless = re.compile(r"-m (ruff|mypy|pyright|cfnlint|coverage)\b|\$\(INSTALL\)|\$\(REDRESS\) deploy ")
    assert [run for run in runs if "$(NO_ACCOUNT)" not in run and not harmless.search(run)] == []


def test_the_continuous_integration_can_be_run_and_names_no_host() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert not re.search(r"https?://|\b[a-z0-9-]+\.(?:com|org|io|net)\b", text)
    assert re.findall(r"^step (make .*)$", text, re.MULTILINE) == ["make test", "make check"]
    syntax = subprocess.run(
        ["bash", "-n", str(script)], capture_output=True, text=True, check=False, timeout=10
    )
    assert syntax.returncode == 0, syntax.stderr
