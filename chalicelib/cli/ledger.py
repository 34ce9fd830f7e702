"""Reading what the engine wrote: records, cases and settings, with the operator's own read rights."""

import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import RefusedCommandError, StoreError
from chalicelib.domain.policy import Engagement, Policy, PolicySetting, policy_in
from chalicelib.domain.ports import (
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Owner,
    accounts_of,
)
from chalicelib.domain.record import body_of, broken_at, is_about
from chalicelib.domain.sweep import Sweep
from chalicelib.domain.ticket import Ticket, TicketState

MOST_BESIDE = 60
"""How many records of a case's resource in other chains are looked at."""


class Stored(Protocol):
    """A record as it lies in the table: the exact bytes, and the digest that was stored beside them."""

    @property
    def body(self) -> str:
        """The bytes, as text."""

    @property
    def hash(self) -> str:
        """Their digest."""


class Ledger(Protocol):
    """The deployment's tables, read only; `chalicelib.adapters.dynamodb.Ledger` is one."""

    def case_records(self, case_id: str, /) -> Iterable[Stored]:
        """A case's whole chain, in order."""

    def system_records(self, account: str, month: datetime, /) -> Iterable[Stored]:
        """What people set in the account in that month, in order."""

    def records(self, account: str, since: datetime, until: datetime, /) -> Iterable[Stored]:
        """The account's records of that time, newest first."""

    def resource_records(self, resource: str, since: datetime, until: datetime, /) -> Iterable[Stored]:
        """The records about one resource of that time, newest first."""

    def beside(self, case: Case, until: datetime, most: int, /) -> Iterable[Stored]:
        """The newest records about the case's resource since it was opened that stand in other chains, newest first."""

    def cases(self, state: CaseState | None = None, /) -> Iterable[Case]:
        """The cases in that state, or all, the one that moved last first."""

    def tickets(self, state: TicketState | None = None, /) -> Iterable[Ticket]:
        """The tickets in that state, or all, the one that moved last first."""

    def answers(self, case: str, ask: int, /) -> Answers | None:
        """What people said to that ask; None when nobody said anything."""

    def policy(self) -> PolicySetting | None:
        """The policy that stands, or None."""
        ...

    def engagements(self) -> Iterable[Engagement]:
        """Every outside auditor's invitation, those that are over too."""
        ...

    def modes(self) -> Sequence[ModeSetting]:
        """Every mode that somebody set."""

    def exemptions(self) -> Sequence[Exemption]:
        """Every exemption that was granted, expired ones too."""

    def freezes(self) -> Sequence[Freeze]:
        """Every kill switch that somebody ever used."""

    def breakers(self) -> Sequence[Breaker]:
        """Every breaker that ever counted a miss."""

    def enrolments(self) -> Sequence[Enrolment]:
        """Every enrolled member account."""

    def deployment_roles(self) -> Sequence[DeploymentRole]:
        """Every role that was ever configured to deploy code, those that no longer do too."""

    def owners(self) -> Sequence[Owner]:
        """Who answers for which account."""

    def sweeps(self) -> Sequence[Sweep]:
        """The newest sweep of each account."""


@dataclass(frozen=True)
class Books:
    """One deployment's ledger, its home account, and how a case is found by digest and episode, and its dossier by its id."""

    home: str
    ledger: Ledger
    case: Callable[[str, int], Case | None]
    dossier: Callable[[str], Dossier | None]

    @property
    def accounts(self) -> tuple[str, ...]:
        """The home account and every enrolled one."""
        return accounts_of(self.home, self.ledger.enrolments())


@dataclass(frozen=True)
class Sought:
    """What `redress log` is asked for; an empty field asks for everything."""

    since: datetime
    until: datetime
    control: str = ""
    account: str = ""
    resource: str = ""


def log(books: Books, sought: Sought) -> Iterator[dict[str, Any]]:
    """The bodies of the records that fit, newest first; without an account, of home and of every enrolled one."""
    ledger, span = books.ledger, (sought.since, sought.until)
    if sought.resource:
        stored = ledger.resource_records(sought.resource, *span)
    elif sought.account:
        stored = ledger.records(sought.account, *span)
    else:
        stored = heapq.merge(
            *(ledger.records(account, *span) for account in books.accounts), key=_recorded_at, reverse=True
        )
    for body in (json.loads(record.body) for record in stored):
        if sought.account in {"", body["account"]} and (
            not sought.control or sought.control in body["controls"]
        ):
            yield body


def _recorded_at(record: Stored) -> str:
    return str(json.loads(record.body)["recorded_at"])


def timeline(books: Books, case: Case) -> tuple[list[dict[str, Any]], str | None]:
    """A case's records in order, and why its chain does not hold, or None when every record stands.

    What is stored and no record cannot be shown; the chain is broken then.
    """
    stored = [(record.body, record.hash) for record in books.ledger.case_records(case.id)]
    return [said for body, _ in stored if (said := body_of(body))], broken_at(stored, case.head, case.id)


def beside(books: Books, case: Case, now: datetime) -> list[dict[str, Any]]:
    """What people said, asked for and set with the case in hand, which stands in other chains; the newest MOST_BESIDE."""
    said = (body_of(record.body) for record in books.ledger.beside(case, now, MOST_BESIDE))
    return [body for body in said if body and is_about(body, case.id)]


def policy_of(books: Books) -> Policy | None:
    """The policy, for the names of people; None too when it cannot be read, so that everything else is shown all the same."""
    try:
        return policy_in(books.ledger)
    except StoreError:
        return None


def found_case(books: Books, name: str) -> Case:
    """The case that a person names by digest and episode; the digest alone means its first episode."""
    match = re.fullmatch(r"(?P<digest>[a-z2-7]{20})(-(?P<episode>[0-9]{1,6}))?", name)
    case = books.case(match["digest"], int(match["episode"] or 1)) if match else None
    if case is None:
        raise RefusedCommandError(f"there is no case {name!r}; `redress cases` lists them")
    return case


def since(text: str, now: datetime) -> datetime:
    """A moment: so long ago (30m, 24h, 7d), or a time in ISO form with its zone."""
    ago = re.fullmatch(r"([0-9]{1,5})([mhd])", text)
    if ago:
        unit = {"m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return now - timedelta(**{unit: int(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = now.replace(tzinfo=None)
    if at.tzinfo is None:
        raise RefusedCommandError(f"{text!r} is no time: write 30m, 24h, 7d, or 2031-05-07T12:00:00Z")
    return at
