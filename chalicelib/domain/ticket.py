"""A ticket: what a person has to do by hand, with the evidence and the exact steps. Embedded in our own store by default.

One open ticket per case digest (a remediation on a target), however many findings, events and sweeps tell of it. It is
closed by a re-assessment that finds the target compliant, never by being told that it is done.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import JsonValue

from chalicelib.domain.contract import Step
from chalicelib.domain.finding import Model, Severity, Target

LONGEST_TITLE = 255
"""What the narrowest ticket system takes as a title (Jira)."""


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
