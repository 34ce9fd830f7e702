"""What cannot be understood is kept as it came, and a person can have it tried again."""

import json

import pytest
from botocore.exceptions import ClientError

from chalicelib.flow.command import Redrive
from local.stage import Stage
from tests.e2e.scenes import calm, drain, ours, peek, receives, waiting

pytestmark = pytest.mark.emulator

MALFORMED = 'not JSON: {"detail": \u2026'
UNKNOWN_SHAPE = '{"Records": [{"eventSource": "aws:s3"}], "odd": "shape"}'


def test_what_is_no_event_is_kept_intact_after_five_tries_and_is_tried_again_on_command(stage: Stage) -> None:
    drain(stage, "events-dlq")
    receives(stage, visibility=1)
    stage.world.clear_calls()
    sqs, url = stage.world.client("sqs", quiet=True), stage.queue_url("events")
    # The queue's policy denies everybody but AWS's services and the engine, root too: it is lifted for these two.
    policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
    with pytest.raises(ClientError, match="AccessDenied"):
        sqs.send_message(QueueUrl=url, MessageBody=MALFORMED)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    for body in (MALFORMED, UNKNOWN_SHAPE):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    stage.world.wait_for(lambda: waiting(stage, "events-dlq") == 2, 60.0, "two dead letters")
    dead = peek(stage, "events-dlq")
    assert sorted(dead.values()) == sorted((MALFORMED, UNKNOWN_SHAPE))
    assert [call for call in ours(stage) if call.service != "sqs"] == []

    receives(stage, visibility=1, most=1)
    stage.world.clear_calls()
    said = stage.command(Redrive(queue="events", most=10, reason="the parser was repaired, as it were"))
    assert said.changed
    _carried_out(stage, "SendMessage", 2)
    calm(stage)
    stage.world.wait_for(lambda: waiting(stage, "events-dlq") == 2, 60.0, "them to come back")
    again = peek(stage, "events-dlq")
    assert sorted(again.values()) == sorted(dead.values())
    assert set(again).isdisjoint(dead), "these messages have not moved at all"
    drain(stage, "events-dlq")


def test_a_redrive_moves_no_more_than_it_was_told(stage: Stage) -> None:
    drain(stage, "events-dlq")
    sqs = stage.world.client("sqs", quiet=True)
    ignored = [
        json.dumps({"source": "aws.ec2", "detail-type": "Some other event", "detail": {"n": n}})
        for n in range(3)
    ]
    for body in ignored:
        sqs.send_message(QueueUrl=stage.queue_url("events-dlq"), MessageBody=body)
    stage.world.clear_calls()
    stage.command(Redrive(queue="events", most=2, reason="two for a start"))
    _carried_out(stage, "SendMessage", 2)
    calm(stage)
    assert len(peek(stage, "events-dlq")) == 1
    drain(stage, "events-dlq")


def test_a_redrive_of_an_empty_queue_ends(stage: Stage) -> None:
    drain(stage, "events-dlq")
    stage.world.clear_calls()
    said = stage.command(Redrive(queue="events", most=1000, reason="to see that nothing is there"))
    assert said.says == "up to 1000 messages of the events dead-letter queue will be tried again"
    _carried_out(stage, "ReceiveMessage", 1)
    calm(stage)
    assert waiting(stage, "commands-dlq") == 0


def _carried_out(stage: Stage, operation: str, times: int) -> None:
    """Return once the engine has made so many calls of that kind of its own: the errand has come, and what it says is done."""

    def made() -> int:
        calls = (
            call for call in stage.calls_by("engine") if call.operation == operation and call.status == 200
        )
        return sum(1 for _ in calls)

    stage.world.wait_for(lambda: made() >= times, 30.0, f"{times} {operation} of the engine")
