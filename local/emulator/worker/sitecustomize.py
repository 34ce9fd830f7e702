"""Lets `World.shift_clock` move the one clock of a deployed engine. Python imports this first in every Lambda worker.

Nothing that ships knows of it. Where the clock is not that of `chalicelib.adapters.clock`, nothing happens.
"""

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_MODULE = "chalicelib.adapters.clock"


class _Shifting(MetaPathFinder, Loader):
    """Finds the clock's module where Python finds it, and mends it once it has run."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset
        self._real: Loader | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            self._real, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self._real is None else self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self._real is not None:
            self._real.exec_module(module)
        clock = module.SystemClock
        now = clock.now

        def shifted(self: object) -> datetime:
            moment: datetime = now(self)
            return moment + self_offset()

        self_offset = self._ahead
        clock.now = shifted

    def _ahead(self) -> timedelta:
        try:
            return timedelta(seconds=float(self._offset.read_text()))
        except FileNotFoundError:
            return timedelta()


if "REDRESS_LOCAL_CLOCK" in os.environ:
    sys.meta_path.insert(0, _Shifting(Path(os.environ["REDRESS_LOCAL_CLOCK"])))
