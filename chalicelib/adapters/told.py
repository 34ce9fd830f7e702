"""What delivery remembers, in the outbox table, and what it reads of the others: never more than a case at a time."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice

from chalicelib.adapters.door import Port, parsed, records_of, say
from chalicelib.adapters.tables import (
    ALWAYS,
    Item,
    Put,
    deliveries_key,
    if_next,
    notice_item,
    reference_key,
    storm_key,
    versioned,
)
from chalicelib.domain.delivery import Deliveries, Storm, TicketRef
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import UnreadableError
from chalicelib.domain.figures import Figures
from chalicelib.domain.ports import Notice
from chalicelib.domain.record import stamp

YES = "yes"
"""What the index `by_waiting` is asked for. Only items with something on their way have the attribute."""


class DynamoTold(Port):
    """`domain.delivery.Told` on DynamoDB, and `office.Desk`.

    Rights: `keep` needs dynamodb:PutItem on outbox (keys DELIVERIES#*, STORM#*, TICKETREF#*, ERRAND#*), for figures on
    control_state (FIGURES); `waiting` dynamodb:Query on the index by_waiting and dynamodb:BatchGetItem on outbox; `bodies` dynamodb:Query on audit; everything else
    dynamodb:BatchGetItem on outbox, cases or control_state.
    """

    def deliveries(self, case: str) -> Deliveries | None:
        """What has been told of the case; None before anything was to be told."""
        key = deliveries_key(case)
        return parsed(Deliveries, self._outbox(key))

    def storm(self, name: str) -> Storm | None:
        """The storm of that name."""
        return parsed(Storm, self._outbox(storm_key(name)))

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        """Where the ticket lies in that system, or None when nobody ever tried to bring it there."""
        return parsed(TicketRef, self._outbox(reference_key(ticket, integration)))

    def keep(self, *changed: Deliveries | Storm | TicketRef | Figures | Notice) -> None:
        """All of them in one TransactWriteItems, each after the version before it; ConflictError and none of it otherwise."""
        self._door.transact(map(_put, changed), "what has been told")

    def waiting(self, before: datetime, most: int) -> Iterator[Deliveries]:
        """Those with something on its way that was due before that time, longest due first.

        UnreadableError for those that cannot be read, when all the others have been handed out.
        """
        keys = self._door.query(
            "outbox",
            "by_waiting",
            "#waiting = :yes AND #since < :before",
            {":yes": YES, ":before": stamp(before)},
        )
        unread: list[UnreadableError] = []
        found = self._door.readable("outbox", islice(keys, most), Deliveries, unread)
        # An index lags behind its table.
        yield from (one for one in found if one.due is not None)
        say(unread)

    def notice(self, name: str) -> Notice | None:
        """The notice of that id as it stands now."""
        return parsed(Notice, self._outbox(name))

    def dossier(self, case: str) -> Dossier | None:
        """What people said of the case beside its decisions, or None."""
        return self._kept(Dossier, case)

    def bodies(self, chain: str) -> Iterator[str]:
        """The stored bodies of a chain, in order of its sequence, read consistently."""
        return (record.body for record in records_of(self._door, chain))

    def _outbox(self, key: str) -> Item | None:
        return self._door.get({"outbox": [key]}).get(key)


def _put(one: Deliveries | Storm | TicketRef | Figures | Notice) -> Put:
    if isinstance(one, Notice):
        return Put("outbox", notice_item(one), ALWAYS)
    if isinstance(one, Figures):
        item = versioned("FIGURES", one.model_dump_json(), one.version, kind="FIGURES")
        return Put("control_state", item, if_next(one.version))
    waits: dict[str, str] = {}
    if isinstance(one, Deliveries):
        key = deliveries_key(one.case)
        waits = {"waiting": YES, "since": stamp(one.due)} if one.due else {}
    elif isinstance(one, Storm):
        key = storm_key(one.id)
    else:
        key = reference_key(one.ticket, one.integration)
    return Put("outbox", versioned(key, one.model_dump_json(), one.version, **waits), if_next(one.version))
