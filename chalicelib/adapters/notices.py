"""The function behind the notices queue: one delivery after the other, or the sweep for those that stayed on their way.

The queue keeps the order of each group, so nothing behind a message that must wait is handed out before it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.domain.delivery import Delivery
from chalicelib.domain.errors import ConflictError, LaterError, MalformedEventError, RedressError, StoreError
from chalicelib.domain.finding import Model
from chalicelib.domain.record import stamp

LONGEST_WAIT = 60 * 60
"""Seconds after which it is tried again at the latest, whatever the other side wants. Slack's own are at most a minute or
so; SQS would hide a message for twelve hours, and everything of its group with it."""

SOON = 2
"""Seconds until another try when somebody else told of the same case at the same moment."""


class Sweep(Model):
    """What the schedule puts on the queue: see to what stays on its way."""

    sweep: Literal[True]
    at: str = ""
    """When it was due: a FIFO queue drops a body that it was sent within the last five minutes."""


_MESSAGE: TypeAdapter[Delivery | Sweep] = TypeAdapter(Delivery | Sweep)


class Queues(Protocol):
    """What deliveries need of SQS."""

    def send(self, queue: str, body: str, /, *, group: str | None, dedup: str | None) -> None:
        """Put one message on the queue, or raise StoreError."""
        ...


class Deferring(Protocol):
    """What the function needs of SQS besides."""

    def defer(self, queue: str, receipt_handle: str, seconds: int, /) -> None:
        """Show the message again after `seconds`."""
        ...


class Delivering(Protocol):
    """`delivery.office.Office`, as the function sees it."""

    def deliver(self, delivery: Delivery, /) -> StoreError | None:
        """Tell it, or raise; the error for which it was set aside, if it was."""
        ...

    def sweep(self) -> None:
        """See to what stays on its way."""
        ...


def sending(queues: Queues, queue: str) -> Callable[[Delivery], None]:
    """Puts deliveries on the queue, each at most once in five minutes however often it is put there."""

    def send(delivery: Delivery) -> None:
        where = delivery.destination
        # A channel wants its messages in order; mails and tickets only want those of one case to be.
        group = where.key if where.kind == "slack" else f"{where.key}#{delivery.case}"
        same = "\x1f".join((delivery.notice, delivery.kind, stamp(delivery.at), where.key))
        dedup = hashlib.sha256(same.encode()).hexdigest()
        queues.send(queue, delivery.model_dump_json(), group=_group(group), dedup=dedup)

    return send


def _group(name: str) -> str:
    """The name as SQS takes it: at most 128 letters, digits and punctuation."""
    fits = len(name) <= 128 and name.isascii() and name.isprintable() and " " not in name  # noqa: PLR2004 -- SQS's number
    return name if fits else hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True)
class Notices:
    """Takes messages of the queue of notices."""

    office: Delivering
    queues: Deferring
    telemetry: Telemetry

    def handle(self, event: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        """Every message in turn, up to the first that must wait; the answer names it with all behind it, in order.

        A message that fails otherwise raises, and comes back after the queue's own time. One that was set aside because our
        tables fail it is taken, and logged as a failure.
        """
        messages = list(event["Records"])
        for place, message in enumerate(messages):
            name = str(message["messageId"])
            try:
                aside = self._take(str(message["body"]))
            except (LaterError, ConflictError) as later:
                wanted = later.retry_after if isinstance(later, LaterError) else SOON
                wait = min(max(1, wanted), LONGEST_WAIT)
                self.telemetry.deferred(str(later), wait)
                queue = str(message["eventSourceARN"]).rsplit(":", 1)[-1]
                self.queues.defer(queue, str(message["receiptHandle"]), wait)
                left = [{"itemIdentifier": str(one["messageId"])} for one in messages[place:]]
                return {"batchItemFailures": left}
            except RedressError as error:
                self.telemetry.failed(name, error)
                raise
            if aside:
                self.telemetry.failed(name, aside)
        return {"batchItemFailures": []}

    def _take(self, body: str) -> StoreError | None:
        try:
            message = _MESSAGE.validate_json(body)
        except ValidationError as error:
            text = f"no such delivery: {body[:200]}"
            raise MalformedEventError(text) from error
        if isinstance(message, Sweep):
            self.office.sweep()
            return None
        return self.office.deliver(message)
