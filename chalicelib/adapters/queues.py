"""Our queues in SQS: bring a message back later, return dead letters, send. Nothing is deleted before it is elsewhere."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.adapters.aws import aws_error
from chalicelib.domain.errors import StoreError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

LONGEST_SECONDS = 12 * 60 * 60
"""For how long SQS hides a message at most, counted from when it was received."""


class SqsQueues:
    """The queues of this deployment; each is called by its name, its ARN or its URL.

    Rights: `defer` needs sqs:ChangeMessageVisibility; `redrive` sqs:ReceiveMessage and sqs:DeleteMessage on the
    dead-letter queue and sqs:SendMessage on the other; `send` sqs:SendMessage; all of
    them sqs:GetQueueUrl. Every failure is a StoreError.
    """

    def __init__(self, client: "SQSClient", *, wait_seconds: int = 1) -> None:
        self._client = client
        self._wait_seconds = wait_seconds
        self._urls: dict[str, str] = {}

    def defer(self, queue: str, receipt_handle: str, seconds: int) -> None:
        """Show the message again after `seconds`, instead of after the queue's own visibility timeout."""
        within = min(max(0, seconds), LONGEST_SECONDS)
        self._ask("change_message_visibility", queue, ReceiptHandle=receipt_handle, VisibilityTimeout=within)

    def redrive(self, dead_letters: str, queue: str, most: int) -> int:
        """Move at most `most` messages from `dead_letters` to `queue`, one by one; how many were moved.

        Sent first and deleted after: whatever happens in between, a message is in at least one of the queues. It may
        be in both for a while, which the engine knows how to bear: every event has an id.

        Of a FIFO queue a message keeps its group, and is known by its own id, not by that of its deduplication: SQS
        takes a second message with the same one for five minutes, and drops it
        (docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/using-messagededuplicationid-property.html).
        """
        moved = 0
        while moved < most:
            received = self._ask(
                "receive_message",
                dead_letters,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=self._wait_seconds,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["MessageGroupId"],
            ).get("Messages", [])
            if not received:
                return moved
            (message,) = received
            attributes = message.get("MessageAttributes", {})
            group = message.get("Attributes", {}).get("MessageGroupId")
            order = _order(group, message["MessageId"] if group else None)
            self._ask(
                "send_message", queue, MessageBody=message["Body"], MessageAttributes=attributes, **order
            )
            self._ask("delete_message", dead_letters, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
        return moved

    def send(self, queue: str, body: str, *, group: str | None = None, dedup: str | None = None) -> None:
        """Put one message on the queue.

        A FIFO queue keeps the order within a `group`, drops what has a `dedup` of the last five minutes, and wants both,
        as up to 128 letters, digits and punctuation
        (docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html).
        """
        # Without a number of seconds the queue's own delay holds; even 0 would overrule it.
        self._ask("send_message", queue, MessageBody=body, **_order(group, dedup))

    def _ask(self, method: str, queue: str, **request: Any) -> Any:  # noqa: ANN401 -- as each operation has it
        try:
            return getattr(self._client, method)(QueueUrl=self._url(queue), **request)
        except (ClientError, BotoCoreError) as error:
            raise StoreError(
                f"queue {queue}: {aws_error(error, 'sqs', method)}. Nothing was lost; look at the queue's name, and"
                " whether the role has this right on it"
            ) from error

    def _url(self, queue: str) -> str:
        """The queue's URL as SQS tells it: it cannot be written down, since endpoints differ."""
        if queue.startswith(("https://", "http://")):
            return queue
        if queue not in self._urls:
            parts = queue.split(":")
            owner: Any = {"QueueOwnerAWSAccountId": parts[4]} if queue.startswith("arn:") else {}
            self._urls[queue] = self._client.get_queue_url(QueueName=parts[-1], **owner)["QueueUrl"]
        return self._urls[queue]


def _order(group: str | None, dedup: str | None) -> dict[str, str]:
    """What a FIFO queue wants to know of a message beside its body, and no other queue."""
    given = {"MessageGroupId": group, "MessageDeduplicationId": dedup}
    return {name: value for name, value in given.items() if value is not None}
