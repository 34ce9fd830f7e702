"""The one clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """`ports.Clock` on the machine's own time."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait; not at all for zero or less."""
        time.sleep(max(0.0, seconds))
