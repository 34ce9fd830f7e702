"""A clock that tests own."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)


class FakeClock:
    """`ports.Clock`: stands still until it is moved; sleeping moves it, at once."""

    def __init__(self, now: datetime = START) -> None:
        self.at = now
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds=seconds)

    def set(self, at: datetime) -> None:
        self.at = at

    def advance(self, by: timedelta | None = None, *, seconds: float = 0) -> None:
        self.at += (by or timedelta()) + timedelta(seconds=seconds)
