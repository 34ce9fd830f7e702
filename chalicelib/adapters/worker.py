"""The functions behind the queues: a Lambda SQS event in, the walk, the failures that must come back out.

Anything that is not a clear end raises: Lambda then leaves the message to its queue, and after five receives to the
dead-letter queue, from which `redress redrive` returns it. Nothing is dropped on an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.domain.errors import BusyError, MalformedEventError, RedressError
from chalicelib.domain.shape import mapping
from chalicelib.flow import intake
from chalicelib.flow.pipeline import Engine

if TYPE_CHECKING:
    from chalicelib.flow.errand import AnyErrand


class Queues(Protocol):
    """What the worker needs of SQS."""

    def defer(self, queue: str, receipt_handle: str, seconds: int) -> None:
        """Show the message again after `seconds`."""
        ...

    def redrive(self, dead_letters: str, queue: str, most: int) -> int:
        """Move at most `most` messages back; how many were moved."""
        ...

    def send(self, queue: str, body: str) -> None:
        """Put one message on the queue."""
        ...


@dataclass(frozen=True)
class Worker:
    """Takes messages of the events, the commands and the undo queue; `queue` gives the full name of a queue of this deployment.

    Which of them reach it, and which roles it can assume, is the deployment's matter: one function has the first two and
    the acting role, another the third and the undo role.
    """

    engine: Engine
    queues: Queues
    telemetry: Telemetry
    queue: Callable[[str], str]

    def handle(self, event: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        """Every record in turn; the answer names those that must come back (ReportBatchItemFailures)."""
        back = [
            {"itemIdentifier": str(message["messageId"])}
            for message in event["Records"]
            if not self._done(message)
        ]
        return {"batchItemFailures": back}

    def _done(self, message: Mapping[str, Any]) -> bool:
        queue = str(message["eventSourceARN"]).rsplit(":", 1)[-1]
        name = str(message["messageId"])
        try:
            if queue == self.queue("commands"):
                self._errand(str(message["body"]), name)
            elif queue == self.queue("undo"):
                self._undo(str(message["body"]))
            else:
                body = intake.parse(str(message["body"]))
                name = str(mapping(body.get("detail")).get("eventID") or body.get("id"))
                for walked in self.engine.walk(body):
                    self.telemetry.walked(walked)
        except BusyError as busy:
            self.telemetry.deferred(str(busy), busy.retry_after)
            self.queues.defer(queue, str(message["receiptHandle"]), busy.retry_after)
            return False
        except RedressError as error:
            self.telemetry.failed(name, error)
            raise
        return True

    def _errand(self, text: str, name: str) -> None:
        from chalicelib.flow import errands  # noqa: PLC0415 -- an event's cold start does without it
        from chalicelib.flow.errand import ERRAND, Redrive  # noqa: PLC0415 -- an event's cold start does without it

        try:
            order: AnyErrand = ERRAND.validate_json(text)
        except ValidationError as error:
            message = f"no such errand: {text[:200]}"
            raise MalformedEventError(message) from error
        if isinstance(order, Redrive):
            dead, queue = self.queue(f"{order.queue}-dlq"), self.queue(order.queue)
            self.telemetry.redriven(order.queue, self.queues.redrive(dead, queue, order.most))
            return
        done = errands.carry_out(self.engine, order)
        for further in done.errands:
            self.queues.send(self.queue("commands"), further.model_dump_json())
        for undo_run in done.undos:
            self.queues.send(self.queue("undo"), undo_run.model_dump_json())
        for walked in done.walked:
            self.telemetry.walked(walked)
        for failure in done.failures:
            self.telemetry.failed(name, failure)

    def _undo(self, text: str) -> None:
        from chalicelib.flow import undo  # noqa: PLC0415 -- an event's cold start does without it
        from chalicelib.flow.errand import UndoRun  # noqa: PLC0415 -- an event's cold start does without it

        try:
            order = UndoRun.model_validate_json(text)
        except ValidationError as error:
            message = f"no such undo: {text[:200]}"
            raise MalformedEventError(message) from error
        self.telemetry.walked(undo.carry_out(self.engine, order))
