"""The function behind the queues: what comes back, what is kept, what is put off."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.adapters.worker import Worker
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import MalformedEventError, StoreError
from chalicelib.domain.ports import FREEZE_ALL
from chalicelib.flow.errand import ERRAND, SweepPart
from tests.fakes.house import House, house
from tests.flow.test_pipeline import SSH, Group, Meddler, attacked


@dataclass
class Queues:
    """The queues, remembered."""

    deferred: list[tuple[str, str, int]] = field(default_factory=list)
    redriven: list[tuple[str, str, int]] = field(default_factory=list)
    sent: list[tuple[str, str]] = field(default_factory=list)

    def defer(self, queue: str, receipt_handle: str, seconds: int) -> None:
        self.deferred.append((queue, receipt_handle, seconds))

    def redrive(self, dead_letters: str, queue: str, most: int) -> int:
        self.redriven.append((dead_letters, queue, most))
        return most

    def send(self, queue: str, body: str) -> None:
        self.sent.append((queue, body))


@pytest.fixture
def built() -> Iterator[House]:
    with house() as one:
        yield one


@pytest.fixture
def group(built: House) -> Group:
    return Group(built)


def worker(built: House, queues: Queues) -> Worker:
    return Worker(engine=built.engine(), queues=queues, telemetry=Telemetry(), prefix="redress-test")


def message(body: object, queue: str = "events", text: str | None = None) -> dict[str, Any]:
    record = {
        "messageId": "m-1",
        "receiptHandle": "r-1",
        "eventSourceARN": f"arn:aws:sqs:eu-central-1:123456789012:redress-test-{queue}",
        "body": json.dumps(body) if text is None else text,
    }
    return {"Records": [record]}


def test_an_event_that_was_walked_to_its_end_is_done(
    built: House, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker(built, Queues()).handle(message(attacked(built, group))) == {"batchItemFailures": []}
    assert group.ports == [443]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(line.get("message") == "walked" and line["outcome"] == "fixed" for line in lines)
    assert any("EventToFixedSeconds" in line for line in lines)


def test_a_busy_target_puts_the_message_off_for_the_rest_of_the_lease(built: House, group: Group) -> None:
    queues, event = Queues(), attacked(built, group)
    answers: list[Any] = []
    Meddler(built, "cases.guard", lambda: answers.append(worker(built, queues).handle(message(event)))).walk(
        event
    )
    assert answers == [{"batchItemFailures": [{"itemIdentifier": "m-1"}]}]
    ((queue, handle, seconds),) = queues.deferred
    assert (queue, handle) == ("redress-test-events", "r-1")
    assert 1 <= seconds <= 76


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"no": "event"}'])
def test_what_is_no_event_raises_so_that_its_queue_keeps_it(built: House, text: str) -> None:
    with pytest.raises(MalformedEventError):
        worker(built, Queues()).handle(message(None, text=text))
    assert built.cases.records == ()


def test_an_error_is_logged_with_the_event_and_raised(
    built: House, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    event = attacked(built, group)
    del built.cases.items["FREEZE", FREEZE_ALL]
    with pytest.raises(StoreError):
        worker(built, Queues()).handle(message(event))
    assert '"correlation_id":"event-1"' in capsys.readouterr().out


def test_dead_letters_go_back_when_a_person_said_so(built: House) -> None:
    queues = Queues()
    command = {"errand": "redrive", "queue": "events", "most": 7}
    assert worker(built, queues).handle(message(command, "commands")) == {"batchItemFailures": []}
    assert queues.redriven == [("redress-test-events-dlq", "redress-test-events", 7)]
    assert queues.sent == []


def test_what_an_errand_leads_to_goes_on_the_commands_queue(built: House) -> None:
    queues = Queues()
    assert worker(built, queues).handle(message({"errand": "sweep"}, "commands")) == {"batchItemFailures": []}
    assert {queue for queue, _ in queues.sent} == {"redress-test-commands"}
    orders = [ERRAND.validate_json(body) for _, body in queues.sent]
    (sweep,) = built.cases.sweeps
    assert sorted(order.so_far.name for order in orders if isinstance(order, SweepPart)) == sorted(
        sweep.expected
    )


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"errand": "act"},
        {"command": "redrive", "queue": "events", "most": 7},
        {"errand": "redrive", "queue": "events"},
        {"errand": "redrive", "queue": "events", "most": "7"},
        {"errand": "redrive", "queue": "events", "most": 7, "more": 1},
        {"errand": "redrive", "queue": "../events", "most": 7},
    ],
)
def test_the_commands_queue_takes_nothing_else(built: House, command: dict[str, Any]) -> None:
    queues = Queues()
    with pytest.raises(MalformedEventError, match="no such errand"):
        worker(built, queues).handle(message(command, "commands"))
    assert (queues.redriven, queues.sent) == ([], [])


@pytest.mark.parametrize("order", [{}, {"case": "x"}, {"errand": "tick"}, {"case": "x", "ask": "1"}])
def test_the_undo_queue_takes_nothing_but_undos(built: House, order: dict[str, Any]) -> None:
    with pytest.raises(MalformedEventError, match="no such undo"):
        worker(built, Queues()).handle(message(order, "undo"))


def test_a_command_on_the_events_queue_is_no_event(built: House) -> None:
    built.raise_to(Mode.ACT, SSH)
    with pytest.raises(MalformedEventError):
        worker(built, Queues()).handle(message({"errand": "redrive", "queue": "events", "most": 7}))
