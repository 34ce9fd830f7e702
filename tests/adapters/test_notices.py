"""The function behind the notices queue: what must wait is deferred, with all behind it; what cannot be read is no success."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings, Ledger
from chalicelib.adapters.notices import LONGEST_WAIT, SOON, Notices, sending
from chalicelib.adapters.outbox import Outbox, Policies
from chalicelib.adapters.queues import SqsQueues
from chalicelib.adapters.tables import setting_put
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.adapters.told import DynamoTold
from chalicelib.delivery.office import Office
from chalicelib.domain.delivery import Delivery, Destination
from chalicelib.domain.errors import (
    AmbiguousError,
    ConflictError,
    LaterError,
    MalformedEventError,
    StoreError,
    UnreadableError,
)
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Person, Policy, PolicySetting, Route, Rule
from chalicelib.domain.ports import Change
from chalicelib.flow import notify
from tests.adapters import samples
from tests.adapters.stores import Dynamo
from tests.delivery.test_tickets import System
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.chat import FakeChat, FakeMail
from tests.fakes.clock import FakeClock
from tests.fakes.models import quick_session

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

AT = datetime(2031, 5, 7, 12, tzinfo=UTC)
QUEUE = "redress-test-notices.fifo"
SLACK = Destination(kind="slack", to="C0000001")
POLICY = Policy(
    people={"ann": Person(name="Ann", identities=("arn:aws:iam::123456789012:user/ann",))},
    rules=(Rule(name="all", approvers=("ann",)),),
    routes=(Route(name="all", channel="C0000001"),),
)


def delivery(number: int = 1, where: Destination = SLACK, case: str = "c-1") -> Delivery:
    return Delivery(notice=f"n{number}", kind="ask", case=case, at=AT, destination=where)


@dataclass
class Remembering:
    """Remembers what it was given; `faults` are raised by the next deliveries, in turn, `aside` returned by them."""

    got: list[Delivery | str] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)
    aside: list[StoreError] = field(default_factory=list)

    def deliver(self, delivery: Delivery) -> StoreError | None:
        self.got.append(delivery)
        fault = self.faults.pop(0) if self.faults else None
        if fault:
            raise fault
        return self.aside.pop(0) if self.aside else None

    def sweep(self) -> None:
        self.got.append("sweep")


@dataclass
class Deferred:
    """Remembers what was deferred."""

    calls: list[tuple[str, str, int]] = field(default_factory=list)

    def defer(self, queue: str, receipt_handle: str, seconds: int) -> None:
        self.calls.append((queue, receipt_handle, seconds))


def message(number: int, body: str) -> dict[str, str]:
    return {
        "messageId": f"m{number}",
        "receiptHandle": f"r{number}",
        "body": body,
        "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:{QUEUE}",
    }


def handled(office: Remembering, deferred: Deferred, *bodies: str) -> list[str]:
    notices = Notices(office=office, queues=deferred, telemetry=Telemetry())
    answer = notices.handle({"Records": [message(number, body) for number, body in enumerate(bodies)]})
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def test_deliveries_and_sweeps_are_carried_out_in_order() -> None:
    office = Remembering()
    sweep = json.dumps({"sweep": True, "at": "2031-05-07T12:00:00Z"})
    bodies = [delivery(1).model_dump_json(), sweep, delivery(2).model_dump_json()]
    assert handled(office, Deferred(), *bodies) == []
    assert office.got == [delivery(1), "sweep", delivery(2)]


@pytest.mark.parametrize("error", [LaterError, AmbiguousError])
@pytest.mark.parametrize("wants, waits", [(7, 7), (0, 1), (-3, 1), (3600, 3600), (10**6, LONGEST_WAIT)])
def test_what_must_wait_is_deferred_and_nothing_behind_it_is_touched(
    error: type[LaterError], wants: int, waits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    office, deferred = Remembering(faults=[None, error("busy", wants)]), Deferred()
    bodies = [delivery(number).model_dump_json() for number in range(3)]
    assert handled(office, deferred, *bodies) == ["m1", "m2"]
    assert office.got == [delivery(0), delivery(1)]
    assert deferred.calls == [(QUEUE, "r1", waits)]
    assert '"deferred"' in capsys.readouterr().out


def test_who_told_of_a_case_at_the_same_moment_as_another_comes_again_soon() -> None:
    office, deferred = Remembering(faults=[ConflictError("somebody was quicker")]), Deferred()
    assert handled(office, deferred, delivery().model_dump_json()) == ["m0"]
    assert deferred.calls == [(QUEUE, "r0", SOON)]


def test_what_the_tables_refuse_comes_back_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    office, deferred = Remembering(faults=[StoreError("no table")]), Deferred()
    with pytest.raises(StoreError):
        handled(office, deferred, delivery().model_dump_json())
    assert deferred.calls == []
    assert '"StoreError"' in capsys.readouterr().out


def test_what_was_set_aside_is_taken_and_logged_as_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    office, deferred = Remembering(aside=[UnreadableError("CASE#x cannot be read")]), Deferred()
    bodies = [delivery(number).model_dump_json() for number in range(2)]
    assert handled(office, deferred, *bodies) == []
    assert (office.got, deferred.calls) == ([delivery(0), delivery(1)], [])
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["reason"] for one in logged if one.get("message") == "failed"] == ["CASE#x cannot be read"]
    assert [one["error"] for one in logged if "_aws" in one] == ["UnreadableError"], "and counted"


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "{}", '{"sweep": false}', '{"sweep": true, "x": 1}', '{"notice": "n"}']
)
def test_what_is_no_delivery_is_a_failure_and_no_success(body: str) -> None:
    office = Remembering()
    with pytest.raises(MalformedEventError):
        handled(office, Deferred(), body)
    assert office.got == []


# -- on a real queue ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sqs(aws: None) -> "SQSClient":
    client = own_client("sqs", DEPLOYMENT, quick_session)
    client.create_queue(QueueName=QUEUE, Attributes={"FifoQueue": "true"})
    return client


def received(sqs: "SQSClient") -> list[Any]:
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    return sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
    ).get("Messages", [])


def test_a_delivery_is_queued_once_and_read_as_it_was_written(sqs: "SQSClient") -> None:
    send = sending(SqsQueues(sqs), QUEUE)
    other = delivery().model_copy(update={"at": AT + timedelta(milliseconds=1)})
    for one in (delivery(), delivery(), other, delivery(2)):
        send(one)
    found = received(sqs)
    assert [Delivery.model_validate_json(one["Body"]) for one in found] == [delivery(), other, delivery(2)]
    assert {one["Attributes"]["MessageGroupId"] for one in found} == {"slack:C0000001"}


def test_a_channel_keeps_one_order_and_what_else_is_told_that_of_its_case(sqs: "SQSClient") -> None:
    send = sending(SqsQueues(sqs), QUEUE)
    jira, mail = Destination(kind="ticket", to="jira"), Destination(kind="mail", to="people")
    odd = f"SWEEP#{'x' * 200}"
    for one in (delivery(1, jira), delivery(2, mail), delivery(3, SLACK, "c-2"), delivery(4, mail, odd)):
        send(one)
    groups = [one["Attributes"]["MessageGroupId"] for one in received(sqs)]
    assert groups[:3] == ["ticket:jira#c-1", "mail:people#c-1", "slack:C0000001"]
    assert len(groups[3]) == 64


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_a_notice_goes_the_whole_way_from_the_table_to_the_channel_and_the_mail(dynamo: Dynamo) -> None:
    """The stream's function, the queue, the notifier on real tables: an ask, its digest of the day, a sweep."""
    sqs: SQSClient = own_client("sqs", DEPLOYMENT, quick_session)
    sqs.create_queue(QueueName=QUEUE, Attributes={"FifoQueue": "true"})
    cases, settings = DynamoCases(dynamo.client, DEPLOYMENT), DynamoSettings(dynamo.client, DEPLOYMENT)
    case = samples.waiting()
    assert case.ask
    asked = notify.asked(case, case.ask)
    cases.commit(Change(case=case, notices=(asked,)))
    setting = PolicySetting(policy=POLICY, by="ann", at=AT, reason="first")
    dynamo.client.put_item(
        TableName=DEPLOYMENT.table("control_state"), Item=setting_put("POLICY", "POLICY", setting).item
    )
    clock, mail, queues = FakeClock(), FakeMail(), SqsQueues(sqs)
    chat, told = FakeChat(clock, {"C0000001"}), DynamoTold(dynamo.client, DEPLOYMENT)
    send = sending(queues, QUEUE)
    severities = dict.fromkeys(case.controls, Severity.HIGH)
    outbox = Outbox(queues, Telemetry(), "none", send, Policies(settings.policy, clock), severities)
    (stored,) = dynamo.items("outbox")
    outbox.handle({"Records": [{"dynamodb": {"SequenceNumber": "1", "NewImage": stored}}]})
    office = Office(
        told=told,
        desk=told,
        books=Ledger(dynamo.client, DEPLOYMENT),
        chat=chat,
        mail=mail,
        system=lambda integration: System(),
        send=send,
        controls={},
        remediations={},
        home=DEPLOYMENT.account,
        tenant="test",
        clock=clock,
    )
    notices = Notices(office=office, queues=queues, telemetry=Telemetry())

    def drained() -> None:
        url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        while found := sqs.receive_message(QueueUrl=url).get("Messages"):
            record = {
                "messageId": found[0]["MessageId"],
                "receiptHandle": found[0]["ReceiptHandle"],
                "body": found[0]["Body"],
                "eventSourceARN": QUEUE,
            }
            assert notices.handle({"Records": [record]}) == {"batchItemFailures": []}
            sqs.delete_message(QueueUrl=url, ReceiptHandle=found[0]["ReceiptHandle"])

    drained()
    (card,) = chat.messages
    assert case.target.resource in card.says
    assert mail.audiences == ["people"]
    kept = told.deliveries(case.id)
    assert kept
    assert {line.state for line in kept.lines} == {"told"}
    assert notices.handle({"Records": [message(1, '{"sweep": true}')]}) == {"batchItemFailures": []}
    drained()
    assert (len(chat.messages), len(mail.sent)) == (2, 2)
    assert case.target.resource in chat.messages[1].says
    assert list(told.waiting(clock.now() + timedelta(days=1), 9)) == []
