"""A sweep: a look at everything in an account without an event, in parts that may be taken up where they were left.

The first sweep of a control in an account is its baseline: one report, and nothing asked of anybody.
"""

from datetime import datetime, timedelta

from pydantic import Field

from chalicelib.domain.finding import Model

ABANDONED_AFTER = timedelta(hours=6)
"""A sweep that has not ended by then (a part of it lies among the dead letters) makes way for the next one."""

LISTED = 50
"""Resources that a part of a sweep names one by one; of the rest it keeps the number. All of them are cases."""

OPEN_CASES = "open-cases"
"""The part that looks at every open case again, so that what was repaired by hand is closed, wherever it is."""


class Part(Model):
    """One remediation in one Region (or the open cases), as far as it has come: counts, and the first violations.

    `suspects` were looked at one by one, `failing` of them break a control. `unread` says why the part could not be read
    (a Region that is switched off, a right that is missing); it is then no evidence of anything.
    """

    name: str
    remediation: str
    region: str
    suspects: int = 0
    failing: dict[str, int] = Field(default_factory=dict)
    listed: tuple[str, ...] = ()
    unread: str = ""


class Sweep(Model):
    """One sweep of one account. `baseline` is what it is the first look at: `<control>/<Region>`."""

    id: str
    account: str
    by: str
    started_at: datetime
    expected: tuple[str, ...]
    baseline: tuple[str, ...] = ()
    done: tuple[Part, ...] = ()
    completed_at: datetime | None = None
    version: int = 0

    def finished(self, part: str) -> bool:
        """True when that part has reported."""
        return any(done.name == part for done in self.done)

    def under_way(self, now: datetime) -> bool:
        """True while another sweep of the account must wait for it."""
        return self.completed_at is None and now - self.started_at < ABANDONED_AFTER


class Baseline(Model):
    """The first look at a control in an account is over: when, by which sweep, and in which Regions."""

    account: str
    control: str
    regions: tuple[str, ...]
    at: datetime
    sweep: str
