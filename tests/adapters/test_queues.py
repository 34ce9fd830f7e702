"""Our queues: a message comes back when it is told to, and redriving never loses one."""

from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.queues import SqsQueues
from chalicelib.domain.errors import StoreError
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.ear import Ear, refusal
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

DEAD, LIVE = "redress-test-events-dlq", "redress-test-events"


@pytest.fixture
def sqs(aws: None) -> "SQSClient":
    client = own_client("sqs", DEPLOYMENT, quick_session)
    for name in (DEAD, LIVE):
        client.create_queue(QueueName=name)
    return client


@pytest.fixture
def ours(sqs: "SQSClient") -> SqsQueues:
    return SqsQueues(sqs, wait_seconds=0)


def heard(ear: Ear) -> SqsQueues:
    """The queues through a client that is listened to."""
    return SqsQueues(own_client("sqs", DEPLOYMENT, ear.session), wait_seconds=0)


def bodies(sqs: "SQSClient", name: str) -> list[str]:
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found: list[str] = []
    while received := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        found += [message["Body"] for message in received]
    return sorted(found)


def depth(sqs: "SQSClient", name: str) -> int:
    """How many messages the queue holds, those in somebody's hands too."""
    counted: Any = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counted)["Attributes"]
    return sum(int(found[one]) for one in counted)


def filled(ours: SqsQueues, count: int) -> list[str]:
    given = [f"message {number}" for number in range(count)]
    for body in given:
        ours.send(DEAD, body)
    return given


def test_dead_letters_go_back_to_their_queue_as_they_were(sqs: "SQSClient", ours: SqsQueues) -> None:
    given = filled(ours, 12)
    url = sqs.get_queue_url(QueueName=DEAD)["QueueUrl"]
    attribute: Any = {"why": {"DataType": "String", "StringValue": "tried five times"}}
    sqs.send_message(QueueUrl=url, MessageBody="with attributes", MessageAttributes=attribute)

    assert ours.redrive(DEAD, LIVE, 50) == 13

    assert (depth(sqs, DEAD), depth(sqs, LIVE)) == (0, 13)
    live = sqs.get_queue_url(QueueName=LIVE)["QueueUrl"]
    received: list[Any] = []
    while batch := sqs.receive_message(
        QueueUrl=live, MessageAttributeNames=["All"], MaxNumberOfMessages=10
    ).get("Messages"):
        received += batch
    assert sorted(message["Body"] for message in received) == sorted([*given, "with attributes"])
    kept = [message.get("MessageAttributes") for message in received if message["Body"] == "with attributes"]
    assert kept[0]["why"]["StringValue"] == "tried five times"


def test_no_more_are_moved_than_were_asked_for(sqs: "SQSClient", ours: SqsQueues) -> None:
    filled(ours, 5)
    assert ours.redrive(DEAD, LIVE, 3) == 3
    assert (depth(sqs, DEAD), depth(sqs, LIVE)) == (2, 3)
    assert ours.redrive(DEAD, LIVE, 0) == 0


@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessage", "DeleteMessage"])
@pytest.mark.parametrize("good", [0, 2])
def test_a_redrive_that_breaks_anywhere_loses_nothing(
    operation: str, good: int, sqs: "SQSClient", ours: SqsQueues
) -> None:
    given = filled(ours, 4)
    ear, count = Ear(), iter(range(100))
    ear.on(
        f"before-call.sqs.{operation}",
        lambda **_: refusal("AccessDenied", status=403) if next(count) >= good else None,
    )

    with pytest.raises(StoreError, match="AccessDenied"):
        heard(ear).redrive(DEAD, LIVE, 10)

    deleted = ear.operations("sqs").count("DeleteMessage")
    assert deleted == good
    dead = sqs.get_queue_url(QueueName=DEAD)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=dead, Attributes={"VisibilityTimeout": "0"})
    assert depth(sqs, DEAD) + deleted == len(given)
    assert depth(sqs, LIVE) >= deleted


def test_each_message_is_sent_before_it_is_deleted(sqs: "SQSClient", ours: SqsQueues) -> None:
    filled(ours, 3)
    ear = Ear()
    heard(ear).redrive(DEAD, LIVE, 2)
    moves = [name for name in ear.operations("sqs") if name != "GetQueueUrl"]
    assert moves == ["ReceiveMessage", "SendMessage", "DeleteMessage"] * 2


def test_a_message_is_shown_again_when_it_is_told_to(sqs: "SQSClient", ours: SqsQueues) -> None:
    url = sqs.get_queue_url(QueueName=LIVE)["QueueUrl"]
    ours.send(LIVE, "busy")
    handle = sqs.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []

    ear = Ear()
    arn = f"arn:aws:sqs:{DEPLOYMENT.region}:123456789012:{LIVE}"
    heard(ear).defer(arn, handle, 0)

    assert [one["Body"] for one in sqs.receive_message(QueueUrl=url)["Messages"]] == ["busy"]
    assert ear.only("GetQueueUrl").params == {"QueueName": LIVE, "QueueOwnerAWSAccountId": "123456789012"}


@pytest.mark.parametrize("asked, told", [(7, 7), (-1, 0), (10**6, 43200)])
def test_a_wait_is_what_sqs_can_wait(asked: int, told: int) -> None:
    ear = Ear()
    ear.on("before-call.sqs.*", lambda **_: refusal("Stop"))
    with pytest.raises(StoreError):
        heard(ear).defer("https://sqs/queue", "handle", asked)
    assert ear.asked["VisibilityTimeout"] == told
    assert ear.asked["QueueUrl"] == "https://sqs/queue"


def test_a_queue_is_looked_up_once(sqs: "SQSClient", ours: SqsQueues) -> None:
    ear = Ear()
    listened = heard(ear)
    for _ in range(3):
        listened.send(LIVE, "x")
    assert ear.operations("sqs").count("GetQueueUrl") == 1


def test_a_queue_that_is_not_there_is_a_store_error(sqs: "SQSClient", ours: SqsQueues) -> None:
    with pytest.raises(StoreError, match="redress-test-commands"):
        ours.send("redress-test-commands", "x")


ORDERED, ORDERED_DEAD = "redress-test-notices.fifo", "redress-test-notices-dlq.fifo"


@pytest.fixture
def fifo(sqs: "SQSClient") -> "SQSClient":
    for name in (ORDERED, ORDERED_DEAD):
        sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})
    return sqs


def received(sqs: "SQSClient", name: str) -> list[tuple[str, str]]:
    """Group and body of every message, in the order in which they come."""
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found: list[tuple[str, str]] = []
    while batch := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
    ).get("Messages"):
        for message in batch:
            found.append((message["Attributes"]["MessageGroupId"], message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_a_message_of_a_group_is_sent_in_it_and_once(fifo: "SQSClient", ours: SqsQueues) -> None:
    for body, dedup in (("first", "1"), ("first again", "1"), ("second", "2")):
        ours.send(ORDERED, body, group="slack:C1", dedup=dedup)
    assert received(fifo, ORDERED) == [("slack:C1", "first"), ("slack:C1", "second")]


def test_a_message_without_its_group_is_refused(fifo: "SQSClient", ours: SqsQueues) -> None:
    with pytest.raises(StoreError, match=r"MessageGroupId|MissingParameter"):
        ours.send(ORDERED, "whose?", dedup="1")


def test_ordered_dead_letters_go_back_into_their_groups_in_order_though_they_were_sent_a_moment_ago(
    fifo: "SQSClient", ours: SqsQueues
) -> None:
    given = [(f"slack:C{number % 2}", f"message {number}") for number in range(6)]
    for number, (group, body) in enumerate(given):
        # The live queue remembers these: a redrive that kept them would lose every message without a word.
        for name in (ORDERED, ORDERED_DEAD):
            ours.send(name, body, group=group, dedup=str(number))
    assert len(received(fifo, ORDERED)) == 6

    assert ours.redrive(ORDERED_DEAD, ORDERED, 50) == 6

    assert depth(fifo, ORDERED_DEAD) == 0
    again = received(fifo, ORDERED)
    for group in ("slack:C0", "slack:C1"):
        assert [one for one in again if one[0] == group] == [one for one in given if one[0] == group]


def test_a_message_of_no_group_is_sent_without_one(sqs: "SQSClient") -> None:
    ear = Ear()
    heard(ear).send(LIVE, "x")
    assert "MessageGroupId" not in ear.asked
    assert "MessageDeduplicationId" not in ear.asked
