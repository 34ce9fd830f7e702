"""Mails through a real topic on moto: who subscribed for what gets it, and what SNS says is told as what it means."""

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.mail import LONGEST_TEXT, SnsMail
from chalicelib.domain.delivery import Mail
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    RejectedError,
    UnreachableError,
)
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient


class Topic:
    """A topic, and queues in the place of mail boxes, each with a filter policy."""

    def __init__(self) -> None:
        self.sns: SNSClient = boto3.client("sns", region_name=DEPLOYMENT.region)
        self._sqs: SQSClient = own_client("sqs", DEPLOYMENT, quick_session)
        self.arn = self.sns.create_topic(Name="redress-test-people")["TopicArn"]
        self.mail: Mail = SnsMail(self.sns, self.arn)

    def box(self, name: str, wants: dict[str, list[str]]) -> str:
        """A new subscriber who wants messages with these attributes only."""
        url = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        self.sns.subscribe(
            TopicArn=self.arn, Protocol="sqs", Endpoint=arn, Attributes={"FilterPolicy": json.dumps(wants)}
        )
        return url

    def got(self, url: str) -> list[dict[str, Any]]:
        """What lies in that box."""
        found = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(one["Body"]) for one in found]


@pytest.fixture
def topic(aws: None) -> Topic:
    return Topic()


def test_everybody_gets_what_they_subscribed_for(topic: Topic) -> None:
    people = topic.box("people", {"audience": ["people"]})
    owners = topic.box("owners", {"audience": ["owner"]})
    mine = topic.box("mine", {"audience": ["owner"], "owner": ["team-a"]})
    topic.mail.send("people", "[Redress] one", "to people", "k1")
    topic.mail.send("owner:team-a", "[Redress] two", "to team-a", "k2")
    topic.mail.send("owner:team-b", "[Redress] three", "to team-b", "k3")
    assert [one["Message"] for one in topic.got(people)] == ["to people"]
    assert {one["Message"] for one in topic.got(owners)} == {"to team-a", "to team-b"}
    (one,) = topic.got(mine)
    assert (one["Subject"], one["Message"]) == ("[Redress] two", "to team-a")
    assert one["MessageAttributes"]["key"]["Value"] == "k2"


def test_an_owner_that_somebody_made_up_is_one_harmless_value(topic: Topic) -> None:
    owners = topic.box("owners", {"audience": ["owner"]})
    topic.mail.send("owner:a\x00b\r\nc:d" + "x" * 1000, "[Redress] x", "text", "k")
    (one,) = topic.got(owners)
    value = one["MessageAttributes"]["owner"]["Value"]
    assert len(value) == 256
    assert value.isprintable()


def test_a_text_that_is_too_long_is_cut_between_characters(topic: Topic) -> None:
    people = topic.box("people", {"audience": ["people"]})
    topic.mail.send("people", "[Redress] x", "é" * LONGEST_TEXT, "k")
    (one,) = topic.got(people)
    assert one["Message"] == "é" * (LONGEST_TEXT // 2)


def test_a_topic_that_is_not_there_cannot_be_reached(topic: Topic) -> None:
    topic.sns.delete_topic(TopicArn=topic.arn)
    with pytest.raises(UnreachableError, match="deploy the stack"):
        topic.mail.send("people", "[Redress] x", "text", "k")


def test_what_sns_does_not_take_is_refused(topic: Topic) -> None:
    with pytest.raises(RejectedError):
        topic.mail.send("people", "x" * 101, "text", "k")


def _said(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Publish")


@pytest.mark.parametrize(
    "error, means",
    [
        (_said("AuthorizationError", 403), UnreachableError),
        (_said("KMSAccessDenied"), UnreachableError),
        (_said("NotFound", 404), UnreachableError),
        (_said("Throttled", 429), LaterError),
        (_said("KMSThrottling"), LaterError),
        (_said("InternalError", 500), LaterError),
        (_said("InvalidParameter"), RejectedError),
        (EndpointConnectionError(endpoint_url="https://sns"), LaterError),
        (ConnectTimeoutError(endpoint_url="https://sns"), LaterError),
        (ReadTimeoutError(endpoint_url="https://sns"), AmbiguousError),
    ],
)
def test_an_error_is_told_as_what_it_means(error: Exception, means: type[DeliveryError]) -> None:
    class Broken:
        def publish(self, **_: Any) -> None:
            raise error

    broken: Any = Broken()
    with pytest.raises(DeliveryError) as raised:
        SnsMail(broken, "arn").send("people", "[Redress] x", "text", "k")
    assert type(raised.value) is means
