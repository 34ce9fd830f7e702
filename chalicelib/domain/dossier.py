"""A case's dossier: who has taken it on, and whether it was an incident. What people say of a case beside its decisions."""

from datetime import datetime
from typing import ClassVar

from chalicelib.domain.finding import Model
from chalicelib.domain.kept import Kept


class Incident(Model):
    """A named person's word that a case was an incident, or was none: why, and from which root cause."""

    declared: bool
    root_cause: str
    reason: str
    by: str
    at: datetime


class Dossier(Kept):
    """Who holds the case (an identity, empty when nobody does) since when, and what was said of it as an incident."""

    KIND: ClassVar[str] = "DOSSIER"

    case: str
    holder: str = ""
    held_since: datetime | None = None
    incident: Incident | None = None

    @property
    def its_name(self) -> str:
        """The case's id."""
        return self.case
