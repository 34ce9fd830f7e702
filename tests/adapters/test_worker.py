"""The function behind the queues: what comes back, what is kept, what is put off."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.adapters.worker import Worker
from chalicelib.domain.case import Lock
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import MalformedEventError, StoreError
from chalicelib.domain.ports import FREEZE_ALL
from chalicelib.flow.errand import ERRAND, SweepPart
from tests.fakes.cases import Item
from tests.fakes.house import House, house
from tests.flow.test_pipeline import SSH, Group, Meddler, attacked
from tests.flow.test_undo import asked as undo_asked
from tests.flow.test_undo import order


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
    return Worker(engine=built.engine(), queues=queues, telemetry=Telemetry(), queue=built.settings.queue)


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


@pytest.mark.parametrize("name", ["events", "commands", "undo", "notices"])
def test_dead_letters_go_back_when_a_person_said_so(built: House, name: str) -> None:
    queues = Queues()
    command = {"errand": "redrive", "queue": name, "most": 7}
    assert worker(built, queues).handle(message(command, "commands")) == {"batchItemFailures": []}
    ending = ".fifo" if name == "notices" else ""
    assert queues.redriven == [(f"redress-test-{name}-dlq{ending}", f"redress-test-{name}{ending}", 7)]
    assert queues.sent == []


def test_an_approved_undo_goes_on_the_undo_queue_and_only_from_there_it_is_made(
    built: House, group: Group
) -> None:
    queues, case = Queues(), undo_asked(built, group)
    one = worker(built, queues)
    built.answer(case=case)
    answered = {"errand": "answered", "case": case.id, "ask": 1}
    assert one.handle(message(answered, "commands")) == {"batchItemFailures": []}
    ((queue, body),) = queues.sent
    assert (queue, json.loads(body)) == ("redress-test-undo", {"case": case.id, "ask": 1})
    for other in ("commands", "events"):
        with pytest.raises(MalformedEventError):
            one.handle(message(None, other, text=body))
    assert (group.ports, len(built.aws.writes)) == ([443], 1)
    assert one.handle(message(None, "undo", text=body)) == {"batchItemFailures": []}
    assert group.ports == [22, 443]
    assert len(queues.sent) == 1


def test_a_tick_hands_lost_undos_on(built: House, group: Group) -> None:
    queues, case = Queues(), undo_asked(built, group)
    built.answer(case=case)
    worker(built, queues).handle(message({"errand": "tick"}, "commands"))
    assert [(queue, json.loads(body)) for queue, body in queues.sent] == [
        ("redress-test-undo", {"case": case.id, "ask": 1})
    ]
    assert len(built.aws.writes) == 1


def test_what_fails_within_a_tick_is_told_and_the_tick_is_done(
    built: House, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    case = undo_asked(built, group)
    built.cases.items["ANSWERS", case.id, "1"] = Item("{}", 1)
    assert worker(built, Queues()).handle(message({"errand": "tick"}, "commands")) == {
        "batchItemFailures": []
    }
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (failed,) = (line for line in lines if line.get("message") == "failed")
    assert (failed["correlation_id"], failed["error"]) == ("m-1", "UnreadableError")


@pytest.mark.parametrize("queue", ["commands", "undo"])
def test_a_busy_target_puts_an_errand_and_an_undo_off_and_nothing_else_with_it(
    built: House, group: Group, queue: str
) -> None:
    queues, case = Queues(), undo_asked(built, group)
    me_too = order(built, case, reason="me too").model_dump(mode="json")
    body = me_too if queue == "commands" else {"case": case.id, "ask": 1}
    built.answer(case=case)
    held = Lock(case="another-1", run=1, lease_until=built.clock.now() + timedelta(seconds=30), version=9)
    built.cases.items["LOCK", case.target.key] = Item(held.model_dump_json(), 9)
    busy = message(body, queue)
    (nothing,) = message({**body, "case": "no case"}, queue)["Records"]
    both = {"Records": [*busy["Records"], {**nothing, "messageId": "m-2"}]}
    assert worker(built, queues).handle(both) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    assert queues.deferred == [(f"redress-test-{queue}", "r-1", 60 if queue == "commands" else 5)]
    assert len(built.aws.writes) == 1


def test_an_undo_that_cannot_read_its_switches_is_logged_and_comes_back(
    built: House, group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    case = undo_asked(built, group)
    built.answer(case=case)
    del built.cases.items["FREEZE", FREEZE_ALL]
    with pytest.raises(StoreError):
        worker(built, Queues()).handle(message({"case": case.id, "ask": 1}, "undo"))
    assert '"error":"StoreError"' in capsys.readouterr().out
    assert len(built.aws.writes) == 1


@pytest.mark.parametrize("queue", ["commands", "undo"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '"tick"', '{"errand": null}', '{"case": "x"} {}']
)
def test_what_is_no_order_at_all_stays_on_its_queue(built: House, queue: str, text: str) -> None:
    queues = Queues()
    with pytest.raises(MalformedEventError, match="no such"):
        worker(built, queues).handle(message(None, queue, text=text))
    assert (queues.sent, queues.redriven, built.cases.records) == ([], [], ())


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
        {"errand": "redrive", "queue": "undo", "most": 0},
        {"errand": "answered", "case": "x"},
        {"errand": "answered", "case": "x", "ask": 1, "approve": True},
        {"case": "x", "ask": 1},
    ],
)
def test_the_commands_queue_takes_nothing_else(built: House, command: dict[str, Any]) -> None:
    queues = Queues()
    with pytest.raises(MalformedEventError, match="no such errand"):
        worker(built, queues).handle(message(command, "commands"))
    assert (queues.redriven, queues.sent) == ([], [])


@pytest.mark.parametrize(
    "body",
    [{}, {"case": "x"}, {"errand": "tick"}, {"case": "x", "ask": "1"}, {"case": "x", "ask": 1, "by": "y"}],
)
def test_the_undo_queue_takes_nothing_but_undos(built: House, body: dict[str, Any]) -> None:
    with pytest.raises(MalformedEventError, match="no such undo"):
        worker(built, Queues()).handle(message(body, "undo"))


def test_a_command_on_the_events_queue_is_no_event(built: House) -> None:
    built.raise_to(Mode.ACT, SSH)
    with pytest.raises(MalformedEventError):
        worker(built, Queues()).handle(message({"errand": "redrive", "queue": "events", "most": 7}))
