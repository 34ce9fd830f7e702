"""How `make demo` and `make up` talk to whoever started them, and how they end."""

import signal
import sys
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from chalicelib.domain.errors import RedressError
from local.emulator.world import WorldError

LEAST_WIDTH = 140
"""For a pipe or a log file, which have no width of their own."""

INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended."""


def console(*, stderr: bool = False) -> Console:
    """A console that never breaks a line, so that every line can be copied whole; only tables keep to its width."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not made.is_terminal:
        made.width = max(made.width, LEAST_WIDTH)
    return made


def ended(main: Callable[[], int]) -> int:
    """The exit code of `main`; Ctrl-C and `kill` end it in good order, and what went wrong is said in words."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return main()
    except KeyboardInterrupt:
        sys.stderr.write("\nended before its time; the emulated AWS is gone, and nothing is left behind\n")
        return INTERRUPTED
    except (WorldError, RedressError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    raise KeyboardInterrupt(signal.Signals(number).name)
