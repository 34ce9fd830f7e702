"""From nothing to ready, in processes of their own.

Both sides find their byte code in one folder that was filled just before, or both find none: whose modules happened to be
compiled already must not decide.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from bench.figures import Versus, versus

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("bench.ready_engine", "bench.ready_plain")

Bytecode = Literal["compiled", "absent"]


def in_turns(repetitions: int, bytecode: Bytecode) -> Versus:
    """`repetitions` pairs, each side first every other time."""
    with tempfile.TemporaryDirectory(prefix="redress-bench-") as folder:
        environment = _environment(Path(folder), bytecode)
        for module in SIDES:
            _seconds(module, environment)
        found: dict[str, list[float]] = {module: [] for module in SIDES}
        for turn in range(repetitions):
            for module in SIDES if turn % 2 else reversed(SIDES):
                found[module].append(_seconds(module, environment))
    return versus(*(found[module] for module in SIDES))


def _environment(folder: Path, bytecode: Bytecode) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "REDRESS_", "PYTHON"))
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(folder),
        **({"PYTHONDONTWRITEBYTECODE": "1"} if bytecode == "absent" else {}),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "REDRESS_STAGE": "bench",
        "REDRESS_ACCOUNT": "111111111111",
    }


def _seconds(module: str, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = process.stdout.readline() if process.stdout else ""
        seconds = time.perf_counter() - began
        _, wrong = process.communicate()
    if not said.startswith("ready"):
        raise RuntimeError(f"{module} did not become ready:\n{wrong}")
    return seconds
