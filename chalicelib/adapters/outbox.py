"""The function behind the outbox's stream: errands to the commands queue, every other notice to wherever people are told.

At least once and in the order of the stream. The errand's own meaning is not looked at here: whoever carries it out reads
it strictly, and what is none ends among the dead letters of the commands queue, with its text. Nor is a notice's: whoever
tells of it reads the case as it stands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.delivery.routes import UNROUTED, destinations
from chalicelib.domain.contract import canonical
from chalicelib.domain.delivery import Delivery, Destination
from chalicelib.domain.errors import ContractError, RedressError, StoreError
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.ports import Clock, Notice
from chalicelib.domain.shape import mapping
from chalicelib.flow.errand import NOTICE

REMEMBERED = timedelta(seconds=60)
"""For so long a policy is gone by that has been replaced. It says where people are told, and decides nothing here."""


class Queues(Protocol):
    """What the outbox needs of SQS."""

    def send(self, queue: str, body: str, /) -> None:
        """Put one message on the queue, or raise StoreError."""
        ...


class Policies:
    """The policy, read at most once a minute; StoreError when it cannot be read, whatever was read before."""

    def __init__(self, read: Callable[[], PolicySetting | None], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._read_at: datetime | None = None
        self._policy: Policy | None = None

    def now(self) -> Policy | None:
        """The policy as it stood within the last minute; None while nobody ever set one."""
        now = self._clock.now()
        if self._read_at is None or now - self._read_at >= REMEMBERED:
            setting = self._read()
            # That there is none is not remembered: whoever sets the first one expects to hear of the next ask.
            self._policy, self._read_at = (setting.policy, now) if setting else (None, None)
        return self._policy


@dataclass(frozen=True)
class Outbox:
    """Takes changes of the outbox table; `commands` names the queue that errands go to, `send` is for all other notices."""

    queues: Queues
    telemetry: Telemetry
    commands: str
    send: Callable[[Delivery], None]
    policies: Policies
    severity_of: Mapping[str, Severity]

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
        kind = mapping(image.get("kind")).get("S")
        if kind is None:  # what delivery itself remembers lies in the same table
            return
        try:
            notice = Notice.model_validate_json(mapping(image.get("body")).get("S", ""))
        except ValidationError as error:
            raise ContractError(
                f"what stands in the outbox as {image.get('pk')} is no notice: {error}"
            ) from error
        if notice.kind == NOTICE:
            self.queues.send(self.commands, canonical(notice.body))
            return
        for destination in self._destinations(notice):
            self.send(
                Delivery(
                    notice=notice.id,
                    kind=notice.kind,
                    case=notice.case,
                    at=notice.at,
                    destination=destination,
                )
            )

    def _destinations(self, notice: Notice) -> tuple[Destination, ...]:
        """Where the notice is told; while the policy cannot be read, to the office, which asks it again.

        A stream gives up after twenty tries and takes what stands behind with it, a queue after days.
        """
        try:
            policy = self.policies.now()
        except StoreError as error:
            self.telemetry.failed(notice.id, error)
            return (UNROUTED,)
        return destinations(notice, policy, self.severity_of)
