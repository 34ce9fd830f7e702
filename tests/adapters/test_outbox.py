"""The function behind the outbox's stream: errands and notices are brought in order to where they belong, failures named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import JsonValue

from chalicelib import bootstrap
from chalicelib.adapters.aws import own_client
from chalicelib.adapters.outbox import REMEMBERED, Outbox, Policies
from chalicelib.adapters.tables import notice_item
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.delivery import routes
from chalicelib.domain.delivery import Deliveries, Delivery
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Person, Policy, PolicySetting, Route, Rule
from chalicelib.domain.ports import Notice
from chalicelib.flow import errand
from tests.adapters.stores import Dynamo
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.clock import FakeClock
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

AT = datetime(2031, 5, 7, 12, tzinfo=UTC)
ANSWERED = errand.Answered(case="c-1", ask=2)


PERSON = Person(name="Ann", identities=("arn:aws:iam::123456789012:user/ann",))
POLICY = Policy(
    people={"ann": PERSON},
    rules=(Rule(name="all", approvers=("ann",)),),
    routes=(Route(name="all", channel="C0000001"),),
)


@dataclass
class Queues:
    """The commands queue and the notices queue, remembered; the first refuses a body that holds `refuses`.

    It is the policy's table besides, which can be unreadable.
    """

    sent: list[tuple[str, errand.AnyErrand]] = field(default_factory=list)
    told: list[Delivery] = field(default_factory=list)
    refuses: str = "\x00"
    setting: PolicySetting | None = None
    unreadable: bool = False
    reads: int = 0
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.policies = Policies(self.policy, self.clock)

    def policy(self) -> PolicySetting | None:
        self.reads += 1
        if self.unreadable:
            raise StoreError("the policy cannot be read")
        return self.setting

    def send(self, queue: str, body: str) -> None:
        if self.refuses in body:
            raise StoreError("the queue is not there")
        self.sent.append((queue, errand.ERRAND.validate_json(body)))


@pytest.fixture
def queues() -> Queues:
    return Queues()


def handled(queues: Queues, *changes: dict[str, Any]) -> list[str]:
    """The numbers that must come again."""
    outbox = Outbox(
        queues=queues,
        telemetry=Telemetry(),
        commands="redress-test-commands",
        send=queues.told.append,
        policies=queues.policies,
        severity_of={"a-control": Severity.HIGH},
    )
    return [one["itemIdentifier"] for one in outbox.handle({"Records": list(changes)})["batchItemFailures"]]


def change(number: int, image: Any, name: str = "INSERT") -> dict[str, Any]:
    """One change as Lambda tells it; without an image, the item was removed."""
    shown = {} if image is None else {"NewImage": image}
    return {"eventName": name, "dynamodb": {"SequenceNumber": str(number), "Keys": {}, **shown}}


def stored(wanted: errand.AnyErrand) -> Any:
    """The errand as the store writes it."""
    return notice_item(errand.notice(wanted, "1", "c-1", AT))


def test_errands_arrive_as_they_were_written_and_in_order(queues: Queues) -> None:
    second = errand.Look(case="c-1", by="arn", requested=True, request_id="r")
    assert handled(queues, change(1, stored(ANSWERED)), change(2, stored(second), "MODIFY")) == []
    assert queues.sent == [("redress-test-commands", ANSWERED), ("redress-test-commands", second)]


def other(number: int = 1) -> Any:
    """A notice for people as the store writes it."""
    body: dict[str, JsonValue] = {"account": "123456789012", "controls": ["a-control"], "resource": "arn"}
    return notice_item(Notice(id=f"n{number}", kind="ask", case="c-1", at=AT, body=body))


def test_every_other_notice_goes_wherever_people_are_told(queues: Queues) -> None:
    queues.setting = PolicySetting(policy=POLICY, by="ann", at=AT, reason="first")
    assert handled(queues, change(1, other()), change(2, other(2), "MODIFY")) == []
    assert queues.sent == []
    assert [(one.notice, one.destination.key) for one in queues.told] == [
        ("n1", "slack:C0000001"),
        ("n1", "mail:people"),
        ("n2", "slack:C0000001"),
        ("n2", "mail:people"),
    ]
    assert (queues.told[0].kind, queues.told[0].case, queues.told[0].at) == ("ask", "c-1", AT)


def test_without_a_policy_people_get_mail(queues: Queues) -> None:
    assert handled(queues, change(1, other())) == []
    assert [one.destination.key for one in queues.told] == ["mail:people"]


def test_what_delivery_remembers_and_what_was_removed_is_left(queues: Queues) -> None:
    kept = {"pk": {"S": "DELIVERIES#c-1"}, "body": {"S": Deliveries(case="c-1", version=1).model_dump_json()}}
    assert handled(queues, change(1, kept), change(2, None, "REMOVE"), change(3, {"pk": {"S": "x"}})) == []
    assert (queues.sent, queues.told, queues.reads) == ([], [], 0)


def test_the_policy_is_read_once_a_minute_and_anew_until_there_is_one(queues: Queues) -> None:
    handled(queues, change(1, other()), change(2, other()))
    assert queues.reads == 2
    queues.setting = PolicySetting(policy=POLICY, by="ann", at=AT, reason="first")
    handled(queues, change(3, other()))
    assert queues.reads == 3
    assert queues.told[-2].destination.key == "slack:C0000001"
    queues.clock.advance(REMEMBERED - timedelta(seconds=1))
    handled(queues, change(4, other()))
    assert queues.reads == 3
    queues.clock.advance(seconds=1)
    handled(queues, change(5, other()))
    assert queues.reads == 4


def test_while_the_policy_cannot_be_read_notices_wait_at_the_office_whatever_was_read_before(
    queues: Queues, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty tries of a stream are soon over, and an errand behind a notice is none of the policy's business."""
    handled(queues, change(1, other()))
    queues.unreadable = True
    queues.clock.advance(REMEMBERED)
    assert handled(queues, change(2, other(2)), change(3, stored(ANSWERED))) == []
    assert queues.sent == [("redress-test-commands", ANSWERED)]
    assert [one.destination for one in queues.told] == [routes.PEOPLE, routes.UNROUTED]
    assert queues.told[1].notice == "n2"
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"failed"' in line]
    assert (line["correlation_id"], line["reason"]) == ("n2", "the policy cannot be read")


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
def sqs(dynamo: Dynamo, monkeypatch: pytest.MonkeyPatch) -> Iterator["SQSClient"]:
    """The queues and tables of the deployment `test`, and the environment of its functions."""
    client = own_client("sqs", DEPLOYMENT, quick_session)
    client.create_queue(QueueName="redress-test-commands")
    client.create_queue(QueueName="redress-test-notices.fifo", Attributes={"FifoQueue": "true"})
    for name, value in (("STAGE", "test"), ("ACCOUNT", DEPLOYMENT.account)):
        monkeypatch.setenv(f"REDRESS_{name}", value)
    monkeypatch.setenv("AWS_REGION", DEPLOYMENT.region)
    bootstrap.outbox.cache_clear()
    yield client
    bootstrap.outbox.cache_clear()


def test_the_function_that_is_deployed_sends_to_the_deployments_own_queues(sqs: "SQSClient") -> None:
    event = {"Records": [change(1, stored(ANSWERED)), change(2, other())]}
    assert bootstrap.outbox().handle(event) == {"batchItemFailures": []}

    def body(queue: str) -> str:
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        return message["Body"]

    assert errand.ERRAND.validate_json(body("redress-test-commands")) == ANSWERED
    told = Delivery.model_validate_json(body("redress-test-notices.fifo"))
    assert (told.notice, told.destination.key) == ("n1", "mail:people")
