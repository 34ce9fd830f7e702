"""A ticket: what a person has to do by hand, with the evidence and the exact steps. Embedded in our own store by default.

One open ticket per case digest (a remediation on a target), however many findings, events and sweeps tell of it. It is
closed by a re-assessment that finds the target compliant, never by being told that it is done.
"""

import hashlib
import json
from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from chalicelib.domain.contract import Step
from chalicelib.domain.finding import Model, Severity, Target

LONGEST_TITLE = 255
"""What the narrowest ticket system takes as a title (Jira)."""


PAGE = "page"
"""Where the evidence of a ticket that is brought elsewhere has the address of its case in the console."""

_PASSING = frozenset({"told_by", "told_at", "actor", "records", "plan_hash", PAGE})
"""Evidence that is another with every event although nothing is: no reason to write to people again."""


class TicketState(StrEnum):
    """A ticket is open until somebody saw that it is done."""

    OPEN = "open"
    CLOSED = "closed"


class Ticket(Model):
    """One ticket. `number` counts the tickets of this case digest from 1; a higher one is a recurrence of the one before.

    `evidence` names what was seen and where it is on record; it holds names that others chose, as plain text. `commands`
    are the planned calls as the AWS CLI makes them, `steps` what a person does besides or instead.
    """

    digest: str
    number: int
    case: str
    state: TicketState
    severity: Severity
    title: str
    target: Target
    resource: str
    controls: tuple[str, ...]
    owner: str
    why: str
    evidence: dict[str, JsonValue]
    steps: tuple[Step, ...]
    commands: tuple[str, ...]
    as_code: str
    opened_at: datetime
    updated_at: datetime
    closed_because: str = ""

    @property
    def id(self) -> str:
        """The ticket's name: the same finding has the same name for as long as it is open."""
        return f"{self.digest}-t{self.number}"

    @property
    def is_open(self) -> bool:
        """True until it is closed."""
        return self.state is TicketState.OPEN

    @property
    def shown(self) -> str:
        """The digest of what people read in it: it changes when there is something new to say, not with each event."""
        shown = self.model_dump(mode="json", exclude={"updated_at", "opened_at", "case", "evidence"})
        kept = {name: value for name, value in self.evidence.items() if name not in _PASSING}
        whole = json.dumps([shown, kept], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(whole.encode()).hexdigest()
