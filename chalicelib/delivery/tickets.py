"""Our tickets in other people's systems: each once, whatever breaks, and level-triggered like everything that is told.

The reservation is durable before the call that makes the remote ticket. A call that may or may not have made one is
followed by looks, spaced in time because the systems find what is new only after a while, and by another call only when
none of them found anything.
"""

import hashlib
import math
import re
from datetime import datetime, timedelta

from chalicelib.delivery.documents import RECURRENCE
from chalicelib.domain.delivery import Remote, TicketRef, TicketSystem, Told
from chalicelib.domain.errors import (
    AmbiguousError,
    ConflictError,
    DeliveryError,
    LaterError,
    RejectedError,
)
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Clock
from chalicelib.domain.ticket import Ticket

LOOKS = (120, 120, 300, 600, 900)
"""Seconds before each look for a ticket that may have been made, counted from the call or the look before: 34 minutes.

The first outlasts any function that may still be making it. Jira finds new issues after seconds to minutes
(https://developer.atlassian.com/cloud/jira/platform/search-and-reconcile); a system that finds its own later than the last
look gets a second ticket, with the same key.
"""

SOON = 5
"""Seconds until another try when somebody else was quicker."""

KEY = re.compile(r"(?P<ticket>[a-z2-7]{20}-t[1-9][0-9]{0,5})-[0-9a-f]{10}")
"""The form of the key that a remote ticket carries."""


def key_of(ticket: str, integration: str, tenant: str) -> str:
    """The key under which the remote ticket is found: our ticket's id, and a digest of who brings it where.

    The id is stable by itself: it digests remediation, account, Region and target, and counts the recurrences. `tenant`
    is this deployment, so that two of them may share a project.
    """
    where = hashlib.sha256(f"{tenant}\x1f{integration}".encode()).hexdigest()
    return f"{ticket}-{where[:10]}"


def place_of(integration: Integration) -> str:
    """A digest of where the integration points. A webhook is told of our own key, which is nobody else's anywhere."""
    where = (
        () if integration.system == "webhook" else ((integration.at or "").rstrip("/"), integration.project)
    )
    return hashlib.sha256("\x1f".join((integration.system, *where)).encode()).hexdigest()[:16]


def lies_there(ref: TicketRef, integration: Integration) -> bool:
    """Whether the reference is of where the integration points now: its key is somebody else's ticket otherwise."""
    return ref.place in {"", place_of(integration)}


def bring(
    ticket: Ticket, integration: Integration, system: TicketSystem, told: Told, clock: Clock, *, tenant: str
) -> TicketRef | None:
    """The ticket stands there as it stands here; where. None when it is closed and nobody there ever heard of it.

    Raises what the system raises, LaterError while somebody else brings it or a look is due later, and RejectedError
    when it lies where the integration no longer points. However often and wherever this ends early, there is one
    remote ticket; a comment may come twice.
    """
    ref, place = told.reference(ticket.id, integration.name), place_of(integration)
    if ref is None:
        if not ticket.is_open:
            return None
        ref = TicketRef(
            ticket=ticket.id, integration=integration.name, reserved_at=clock.now(), place=place, version=1
        )
        _claim(told, ref)
        return _made(ticket, ref, system, told, clock, tenant)
    if ref.attempts == 0:
        if not ticket.is_open:
            return ref
        ref = _next(ref, attempts=1, reserved_at=clock.now(), place=place)
        _claim(told, ref)
        return _made(ticket, ref, system, told, clock, tenant)
    if not lies_there(ref, integration):
        raise RejectedError(
            f"{ref.integration}: the ticket {ref.key or 'that was being made'} lies where this pointed before, and"
            " nothing was touched: see to it by hand, and give the new place a name of its own"
        )
    # One of before places were kept learns its place with whatever is noted next.
    ref = ref.model_copy(update={"place": place})
    if ref.key:
        return _kept_up(ticket, ref, system, told, clock)
    return _looked_for(ticket, ref, system, told, clock, tenant)


def looked(
    ticket: Ticket, ref: TicketRef, integration: Integration, system: TicketSystem, now: datetime
) -> TicketRef | None:
    """The reference as it is to be kept, when a person closed the remote ticket or opened it again; None when nobody did.

    Closing is no evidence: whoever calls this has the target assessed, and keeps the reference after that is under way.
    What a person does to a ticket that is closed here stays as they want it.
    """
    if not ref.key or not ticket.is_open or not lies_there(ref, integration):
        return None
    closed = system.look(ref.key).closed
    return None if closed == ref.closed else _next(ref, closed=closed, updated_at=now)


def _looked_for(
    ticket: Ticket, ref: TicketRef, system: TicketSystem, told: Told, clock: Clock, tenant: str
) -> TicketRef:
    """The remote ticket that an earlier attempt may have made; the first of our claims is the call, the others are looks."""
    now = clock.now()
    due = ref.reserved_at + timedelta(seconds=LOOKS[ref.attempts - 1])
    if now < due:
        wait = math.ceil((due - now).total_seconds())
        raise LaterError(f"{ref.integration}: the ticket may be on its way there; looking in {wait} s", wait)
    found = system.find(key_of(ref.ticket, ref.integration, tenant))
    if found:
        return _kept_up(ticket, _stored(ref, found, told, now, shown=""), system, told, clock)
    if ref.attempts < len(LOOKS):
        _claim(told, _next(ref, attempts=ref.attempts + 1, reserved_at=now))
        wait = LOOKS[ref.attempts]
        raise LaterError(
            f"{ref.integration}: it does not find the ticket yet; looking again in {wait} s", wait
        )
    ref = _next(ref, attempts=1 if ticket.is_open else 0, reserved_at=now)
    _claim(told, ref)
    return _made(ticket, ref, system, told, clock, tenant) if ticket.is_open else ref


def _made(
    ticket: Ticket, ref: TicketRef, system: TicketSystem, told: Told, clock: Clock, tenant: str
) -> TicketRef:
    """A new remote ticket under a reservation that is ours. When surely none was made, the reservation is given back."""
    brought = _with_recurrence(ticket, ref.integration, told)
    try:
        remote = system.create(brought, key_of(ref.ticket, ref.integration, tenant))
    except AmbiguousError:
        raise
    except DeliveryError:
        told.keep(_next(ref, attempts=0))
        raise
    return _stored(ref, remote, told, clock.now(), shown=ticket.shown)


def _kept_up(ticket: Ticket, ref: TicketRef, system: TicketSystem, told: Told, clock: Clock) -> TicketRef:
    """Tell the remote ticket what is new. One that a person closed is opened again only by a later assessment."""
    shown = ticket.shown
    if not ticket.is_open:
        if ref.closed and ref.told == shown:
            return ref
        system.close(ref.key, ticket)
    elif ref.closed:
        if ref.updated_at and ticket.updated_at <= ref.updated_at:
            return ref
        system.reopen(ref.key, ticket)
    elif ref.told != shown:
        system.update(ref.key, ticket)
    else:
        return ref
    ref = _next(ref, closed=not ticket.is_open, told=shown, updated_at=clock.now())
    told.keep(ref)
    return ref


def _stored(ref: TicketRef, remote: Remote, told: Told, now: datetime, *, shown: str) -> TicketRef:
    """The reference with its remote ticket, for us an open one: that a person closed it meanwhile is for `looked` to see."""
    ref = _next(ref, key=remote.key, url=remote.url, told=shown, updated_at=now)
    told.keep(ref)
    return ref


def _with_recurrence(ticket: Ticket, integration: str, told: Told) -> Ticket:
    """The ticket with the remote one before it in its evidence, where there is one."""
    before = (
        told.reference(f"{ticket.digest}-t{ticket.number - 1}", integration) if ticket.number > 1 else None
    )
    if before is None or not before.key:
        return ticket
    named = {**ticket.evidence, RECURRENCE: {"key": before.key, "url": before.url}}
    return ticket.model_copy(update={"evidence": named})


def _next(ref: TicketRef, **changed: object) -> TicketRef:
    return ref.model_copy(update={**changed, "version": ref.version + 1})


def _claim(told: Told, ref: TicketRef) -> None:
    """The next step is ours alone, or LaterError."""
    try:
        told.keep(ref)
    except ConflictError as quicker:
        raise LaterError(
            f"{ref.integration}: somebody else is bringing {ref.ticket} there", SOON
        ) from quicker
