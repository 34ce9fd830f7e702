"""Mails through a topic: whoever subscribes with a filter policy gets what is for them."""

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from chalicelib.adapters.aws import aws_error
from chalicelib.delivery.escape import plain
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    RejectedError,
    TransientError,
    UnreachableError,
)

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

LONGEST_TEXT = 200 * 1024
"""Bytes of a mail's text; SNS takes 256 KiB with everything around it
(https://docs.aws.amazon.com/sns/latest/api/API_Publish.html)."""

LONGEST_OWNER = 256
RETRY_SECONDS = 30

_UNREACHABLE = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "EndpointDisabled",
        "InvalidSecurity",
        "KMSAccessDenied",
        "KMSAccessDeniedException",
        "KMSDisabled",
        "KMSInvalidState",
        "KMSNotFound",
        "KMSOptInRequired",
        "NotFound",
        "NotFoundException",
    }
)
"""SNS's own words for a topic that is not there, not ours, or whose key is not."""


_BUSY = frozenset({"Throttled", "ThrottledException", "KMSThrottling", "KMSThrottlingException"})


class SnsMail:
    """`domain.delivery.Mail` on one topic.

    Each message carries the attributes `audience` (`people` or `owner`), `owner` (whose, for that audience) and `key`. A
    subscription's filter policy selects by them (docs.aws.amazon.com/sns/latest/dg/sns-message-filtering.html); a mail to
    an owner reaches whoever subscribed for that owner, or for all owners. Rights: sns:Publish on the topic, and on its key
    kms:GenerateDataKey and kms:Decrypt.
    """

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic = topic_arn

    def send(self, audience: str, subject: str, text: str, key: str) -> None:
        """One mail; LaterError while SNS is busy, AmbiguousError when it may have taken it, UnreachableError without the topic."""
        group, _, owner = audience.partition(":")
        attributes = {"audience": group, "key": plain(key, LONGEST_OWNER)}
        attributes |= {"owner": plain(owner, LONGEST_OWNER)} if owner else {}
        described: Any = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        # Cut by bytes: a character may have four of them, and half a one is none.
        message = text.encode()[:LONGEST_TEXT].decode(errors="ignore")
        try:
            self._client.publish(
                TopicArn=self._topic, Subject=subject, Message=message, MessageAttributes=described
            )
        except (ClientError, BotoCoreError) as error:
            raise _told(error) from error


def _told(error: ClientError | BotoCoreError) -> DeliveryError:
    ours = aws_error(error, "sns", "Publish")
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return LaterError(f"SNS cannot be reached: {ours}", RETRY_SECONDS)
    if isinstance(ours, TransientError) or ours.code in _BUSY:
        lost = not isinstance(error, ClientError)
        return (AmbiguousError if lost else LaterError)(f"SNS does not answer: {ours}", RETRY_SECONDS)
    if ours.code in _UNREACHABLE:
        return UnreachableError(
            f"the topic of mails cannot be written to ({ours}): deploy the stack, or look at the policy of its key"
        )
    return RejectedError(f"SNS refused the mail: {ours}")
