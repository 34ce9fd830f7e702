"""The circuit breaker: a control whose runs went wrong here lately asks people again, until a person resets it.

Limits bound how much a control may write; the breaker asks whether it does any good. Three misses of one control in one
account within a day open it. A miss is a run that failed, one whose effect nobody saw, or one that people took back.
Nothing but a person closes it again: a breaker that closes by itself is a control that fails three times a day for ever.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from chalicelib.domain.finding import Model

WINDOW = timedelta(hours=24)
MISSES = 3


class Missed(StrEnum):
    """What went wrong with a run."""

    FAILED = "failed"
    NOT_VERIFIED = "not_verified"
    UNDONE = "undone"


class Miss(Model):
    """One run that should make us stop and think."""

    at: datetime
    case: str
    run: int
    what: Missed


class Breaker(Model):
    """The breaker of one control in one account, and the item's version. Closed while `opened_at` is None."""

    account: str
    control: str
    version: int = 0
    misses: tuple[Miss, ...] = ()
    opened_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """True while the control may not act by itself here."""
        return self.opened_at is not None

    def missed(self, miss: Miss) -> "Breaker":
        """With one miss more, open if that was one too many. Once it is open, further misses tell nothing new.

        A run is one miss, whatever else is said of it later: the last word, and when it was said, stand for it.
        """
        if self.is_open:
            return self
        others = (one for one in self.misses if (one.case, one.run) != (miss.case, miss.run))
        misses = (*(one for one in others if miss.at - one.at < WINDOW), miss)
        return self._next(misses=misses, opened_at=miss.at if len(misses) >= MISSES else None)

    def reset(self) -> "Breaker":
        """Closed, with nothing held against the control."""
        return self._next(misses=(), opened_at=None)

    def _next(self, **changed: object) -> "Breaker":
        return self.model_copy(update={**changed, "version": self.version + 1})
