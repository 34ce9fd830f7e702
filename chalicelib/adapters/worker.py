"""The function behind the queues: a Lambda SQS event in, the walk, the failures that must come back out.

Anything that is not a clear end raises: Lambda then leaves the message to its queue, and after five receives to the
dead-letter queue, from which `redress redrive` returns it. Nothing is dropped on an error.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.domain.errors import BusyError, MalformedEventError, RedressError
from chalicelib.domain.shape import mapping
from chalicelib.flow import intake
from chalicelib.flow.pipeline import Engine


class Queues(Protocol):
    """What the worker needs of SQS."""

    def defer(self, queue: str, receipt_handle: str, seconds: int) -> None:
        """Show the message again after `seconds`."""
        ...

    def redrive(self, dead_letters: str, queue: str, most: int) -> int:
        """Move at most `most` messages back; how many were moved."""
        ...


@dataclass(frozen=True)
class Worker:
    """Takes messages of the events and the commands queue; `prefix` names the queues of this deployment."""

    engine: Engine
    queues: Queues
    telemetry: Telemetry
    prefix: str

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
        body = intake.parse(str(message["body"]))
        if queue == f"{self.prefix}-commands":
            self._command(body)
            return True
        try:
            for walked in self.engine.walk(body):
                self.telemetry.walked(walked)
        except BusyError as busy:
            self.telemetry.deferred(str(busy), busy.retry_after)
            self.queues.defer(queue, str(message["receiptHandle"]), busy.retry_after)
            return False
        except RedressError as error:
            self.telemetry.failed(str(mapping(body.get("detail")).get("eventID") or body.get("id")), error)
            raise
        return True

    def _command(self, body: Mapping[str, Any]) -> None:
        """The one thing that the commands queue may ask for now: return dead letters to the queue they came from."""
        queue, most = body.get("queue"), body.get("most")
        if (
            body.get("command") != "redrive"
            or queue not in {"events", "commands"}
            or not isinstance(most, int)
        ):
            message = f"no such command: {json.dumps(body)[:200]}"
            raise MalformedEventError(message)
        moved = self.queues.redrive(f"{self.prefix}-{queue}-dlq", f"{self.prefix}-{queue}", most)
        self.telemetry.redriven(queue, moved)
