"""The function behind the outbox's stream: brings each errand to the commands queue, and leaves every other notice.

At least once and in the order of the stream. The errand's own meaning is not looked at here: whoever carries it out reads
it strictly, and what is none ends among the dead letters of the commands queue, with its text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.domain.contract import canonical
from chalicelib.domain.errors import ContractError, RedressError
from chalicelib.domain.ports import Notice
from chalicelib.domain.shape import mapping
from chalicelib.flow.errand import NOTICE


class Queues(Protocol):
    """What the outbox needs of SQS."""

    def send(self, queue: str, body: str, /) -> None:
        """Put one message on the queue, or raise StoreError."""
        ...


@dataclass(frozen=True)
class Outbox:
    """Takes changes of the outbox table; `commands` names the queue that errands go to."""

    queues: Queues
    telemetry: Telemetry
    commands: str

    def handle(self, event: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        """Every change in turn; the answer names the first that must come again, with all behind it.

        A stream starts again at the lowest number that is named, so that to go on behind it would bring the rest twice
        (docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html).
        """
        for change in event["Records"]:
            try:
                self._bring(mapping(change["dynamodb"].get("NewImage")))
            except RedressError as error:
                number = str(change["dynamodb"]["SequenceNumber"])
                self.telemetry.failed(number, error)
                return {"batchItemFailures": [{"itemIdentifier": number}]}
        return {"batchItemFailures": []}

    def _bring(self, image: Mapping[str, Any]) -> None:
        if mapping(image.get("kind")).get("S") != NOTICE:
            return
        try:
            notice = Notice.model_validate_json(mapping(image.get("body")).get("S", ""))
        except ValidationError as error:
            raise ContractError(
                f"what stands in the outbox as {image.get('pk')} is no notice: {error}"
            ) from error
        self.queues.send(self.commands, canonical(notice.body))
