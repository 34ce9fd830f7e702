"""The function behind the outbox's stream: errands are brought in order, other notices left, failures named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib import bootstrap
from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import _notice_item
from chalicelib.adapters.outbox import Outbox
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.domain.errors import StoreError
from chalicelib.domain.ports import Notice
from chalicelib.flow import errand
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

AT = datetime(2031, 5, 7, 12, tzinfo=UTC)
ANSWERED = errand.Answered(case="c-1", ask=2)


@dataclass
class Queues:
    """The commands queue, remembered; it refuses a body that holds `refuses`."""

    sent: list[tuple[str, errand.AnyErrand]] = field(default_factory=list)
    refuses: str = "\x00"

    def send(self, queue: str, body: str) -> None:
        if self.refuses in body:
            raise StoreError("the queue is not there")
        self.sent.append((queue, errand.ERRAND.validate_json(body)))


@pytest.fixture
def queues() -> Queues:
    return Queues()


def handled(queues: Queues, *changes: dict[str, Any]) -> list[str]:
    """The numbers that must come again."""
    outbox = Outbox(queues=queues, telemetry=Telemetry(), commands="redress-test-commands")
    return [one["itemIdentifier"] for one in outbox.handle({"Records": list(changes)})["batchItemFailures"]]


def change(number: int, image: Any, name: str = "INSERT") -> dict[str, Any]:
    """One change as Lambda tells it; without an image, the item was removed."""
    shown = {} if image is None else {"NewImage": image}
    return {"eventName": name, "dynamodb": {"SequenceNumber": str(number), "Keys": {}, **shown}}


def stored(wanted: errand.AnyErrand) -> Any:
    """The errand as the store writes it."""
    return _notice_item(errand.notice(wanted, "1", "c-1", AT))


def test_errands_arrive_as_they_were_written_and_in_order(queues: Queues) -> None:
    second = errand.Look(case="c-1", by="arn", requested=True, request_id="r")
    assert handled(queues, change(1, stored(ANSWERED)), change(2, stored(second), "MODIFY")) == []
    assert queues.sent == [("redress-test-commands", ANSWERED), ("redress-test-commands", second)]


def test_every_other_notice_is_left_and_so_is_what_was_removed(queues: Queues) -> None:
    other = _notice_item(
        Notice(id="RESULT#1", kind="result", case="c-1", at=AT, body=ANSWERED.model_dump(mode="json"))
    )
    strange = {"pk": {"S": "x"}}
    assert handled(queues, change(1, other), change(2, None, "REMOVE"), change(3, strange)) == []
    assert queues.sent == []


def test_the_first_that_cannot_be_brought_comes_again_with_all_behind_it(
    queues: Queues, capsys: pytest.CaptureFixture[str]
) -> None:
    queues.refuses = '"ask":3'
    changes = [change(number, stored(errand.Answered(case="c-1", ask=number))) for number in range(1, 6)]
    assert handled(queues, *changes) == ["3"]
    assert [one.ask for _, one in queues.sent if isinstance(one, errand.Answered)] == [1, 2]
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"failed"' in line]
    assert (line["error"], line["reason"]) == ("StoreError", "the queue is not there")


@pytest.mark.parametrize("body", [None, {}, {"S": ""}, {"S": "{}"}, {"S": "{"}, {"N": "1"}])
def test_an_errand_that_cannot_be_read_is_a_failure_and_no_success(queues: Queues, body: Any) -> None:
    image = {**stored(ANSWERED), "body": body}
    assert handled(queues, change(7, image), change(8, stored(ANSWERED))) == ["7"]
    assert queues.sent == []


@pytest.fixture
def commands(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator["SQSClient"]:
    """The commands queue of the deployment `test`, and the environment of its functions."""
    client = own_client("sqs", DEPLOYMENT, quick_session)
    client.create_queue(QueueName="redress-test-commands")
    for name, value in (("STAGE", "test"), ("ACCOUNT", DEPLOYMENT.account)):
        monkeypatch.setenv(f"REDRESS_{name}", value)
    monkeypatch.setenv("AWS_REGION", DEPLOYMENT.region)
    bootstrap.outbox.cache_clear()
    yield client
    bootstrap.outbox.cache_clear()


def test_the_function_that_is_deployed_sends_to_the_deployments_own_queue(commands: "SQSClient") -> None:
    event = {"Records": [change(1, stored(ANSWERED))]}
    assert bootstrap.outbox().handle(event) == {"batchItemFailures": []}
    url = commands.get_queue_url(QueueName="redress-test-commands")["QueueUrl"]
    (message,) = commands.receive_message(QueueUrl=url)["Messages"]
    assert errand.ERRAND.validate_json(message["Body"]) == ANSWERED
