"""Five hundred asks at once, through the outbox, the queue of notices, the notifier and a Slack that paces and fails.

The clock is virtual, and everything between it is what is deployed: the stream's function, the queue's groups and
de-duplication, the notifier, slack_sdk against a loopback Slack. tests/delivery/test_storms.py has the rules as values.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from chalicelib.adapters.notices import Notices, sending
from chalicelib.adapters.outbox import Outbox, Policies
from chalicelib.adapters.slack import Slack
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.delivery.office import Office
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import PolicySetting, Route
from chalicelib.domain.ports import Notice
from chalicelib.flow import notify
from local.fakes.slack import FakeSlack
from tests.adapters import samples
from tests.delivery.test_office import CONTROLS, ELSE, MAIN, POLICY, TENANT, sample_case
from tests.fakes.cases import HOME
from tests.fakes.chat import FakeDesk, FakeMail, FakeTold
from tests.fakes.clock import START, FakeClock

pytestmark = pytest.mark.thorough

ASKS = 500
OTHER = "222222222222"
"""The account whose asks go to a channel of its own."""


@dataclass
class Held:
    """A message of the queue, and from when on it is shown."""

    body: str
    group: str
    visible_at: datetime


@dataclass
class Fifo:
    """A FIFO queue of SQS: one order in each group, nothing behind a message that is hidden, no body twice in five minutes."""

    clock: FakeClock
    held: list[Held] = field(default_factory=list)
    order: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _seen: dict[str, datetime] = field(default_factory=dict)

    def send(self, _queue: str, body: str, /, *, group: str | None = None, dedup: str | None = None) -> None:
        assert group
        assert dedup
        now = self.clock.now()
        if now - self._seen.get(dedup, now - timedelta(days=1)) < timedelta(minutes=5):
            return
        self._seen[dedup] = now
        self.held.append(Held(body, group, now))
        self.order[group].append(body)

    def defer(self, _queue: str, receipt_handle: str, seconds: int, /) -> None:
        self._of(receipt_handle).visible_at = self.clock.now() + timedelta(seconds=seconds)

    def receive(self) -> Held:
        """The next message that may be shown; the clock goes on to when there is one."""
        first: dict[str, Held] = {}
        for one in self.held:
            first.setdefault(one.group, one)
        soonest = min(first.values(), key=lambda one: one.visible_at)
        if soonest.visible_at > self.clock.now():
            self.clock.set(soonest.visible_at)
        return soonest

    def done(self, one: Held) -> None:
        self.held = [other for other in self.held if other is not one]

    def _of(self, receipt_handle: str) -> Held:
        return next(one for one in self.held if str(id(one)) == receipt_handle)


@dataclass
class Storm:
    """Everything from the outbox table's stream to the channels."""

    slack: FakeSlack
    clock: FakeClock
    told: FakeTold = field(default_factory=FakeTold)
    desk: FakeDesk = field(default_factory=FakeDesk)
    mail: FakeMail = field(default_factory=FakeMail)
    delivered: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    posts: dict[str, list[datetime]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        routes = (
            Route(name="other", channel=ELSE, accounts=(OTHER,)),
            Route(name="main", channel=MAIN, fallback=ELSE),
        )
        policy = POLICY.model_copy(update={"routes": routes, "integrations": ()})
        self.desk.setting = PolicySetting(policy=policy, by="ann", at=START, reason="first")
        self.desk.stands = self.told.figures
        self.fifo = Fifo(self.clock)
        self.send = sending(self.fifo, "notices.fifo")
        telemetry = Telemetry()
        severities = dict.fromkeys(CONTROLS, Severity.MEDIUM)
        policies = Policies(lambda: self.desk.setting, self.clock)
        self.outbox = Outbox(_NoCommands(), telemetry, "commands", self.send, policies, severities)
        office = Office(
            told=self.told,
            desk=self.desk,
            books=self.desk,
            chat=Slack(lambda: self.slack.token, self.slack.api),
            mail=self.mail,
            system=lambda integration: pytest.fail(f"no ticket here: {integration}"),
            send=self.send,
            controls=CONTROLS,
            remediations={samples.REMEDIATION: samples.SAMPLE},
            home=HOME,
            tenant=TENANT,
            clock=self.clock,
        )
        self.notices = Notices(office=office, queues=self.fifo, telemetry=telemetry)

    def asked(self, number: int, account: str = HOME) -> str:
        """A case waits; its notice stands in the outbox. The case's id."""
        of = samples.target(f"sg-{number:017x}", account=account)
        case = sample_case(number, target=of)
        self.desk.known[case.id] = case
        assert case.ask
        notice = notify.asked(case, case.ask)
        self.desk.notices[notice.id] = notice
        return case.id

    def stream(self, notices: list[Notice]) -> None:
        """The stream brings them in batches, and one batch of them again: its function died after it had sent."""
        for start in range(0, len(notices), 100):
            records = [
                {
                    "dynamodb": {
                        "SequenceNumber": str(start + place),
                        "NewImage": {"kind": {"S": one.kind}, "body": {"S": one.model_dump_json()}},
                    }
                }
                for place, one in enumerate(notices[start : start + 100])
            ]
            for _ in range(2 if start == 100 else 1):
                assert self.outbox.handle({"Records": records}) == {"batchItemFailures": []}

    def drain(self) -> None:
        for _ in range(40 * ASKS):
            if not self.fifo.held:
                return
            one = self.fifo.receive()
            before = {channel: len(self.slack.messages(channel)) for channel in (MAIN, ELSE)}
            record = {
                "messageId": "m",
                "receiptHandle": str(id(one)),
                "body": one.body,
                "eventSourceARN": "arn:aws:sqs:eu-central-1:111111111111:notices.fifo",
            }
            answered = self.notices.handle({"Records": [record]})
            for channel, count in before.items():
                self.posts[channel] += [self.clock.now()] * (len(self.slack.messages(channel)) - count)
            if not answered["batchItemFailures"]:
                self.fifo.done(one)
                self.delivered[one.group].append(one.body)
        pytest.fail(f"{len(self.fifo.held)} messages never came to an end")


class _NoCommands:
    def send(self, queue: str, body: str, /) -> None:
        pytest.fail(f"no errand here: {queue} {body}")


@pytest.fixture
def storm() -> Iterator[Storm]:
    clock = FakeClock()
    with FakeSlack(0, None, lambda: clock.now().timestamp()) as slack:
        slack.add_channel(MAIN)
        slack.add_channel(ELSE)
        yield Storm(slack, clock)


def test_of_five_hundred_asks_none_is_lost_each_channel_keeps_its_order_and_a_digest_stands_for_the_flood(
    storm: Storm, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two accounts, two channels; Slack limits to one message a second, pauses, breaks and loses an answer."""
    storm.slack.fail("500", "lost", "dead", "500")
    storm.slack.pause(20)
    cases = [storm.asked(number, OTHER if number % 5 == 0 else HOME) for number in range(ASKS)]
    storm.stream([*storm.desk.notices.values()])
    asked = {group: list(bodies) for group, bodies in storm.fifo.order.items()}
    assert {len(asked[f"slack:{channel}"]) for channel in (MAIN, ELSE)} == {400, 100}
    storm.drain()

    # none is lost: each case was told of in its own channel, and nothing waits
    for place, case in enumerate(cases):
        kept = storm.told.deliveries(case)
        assert kept
        mine = ELSE if place % 5 == 0 else MAIN
        assert {line.destination.to: line.state for line in kept.lines if line.kind == "ask"}[mine] == "told"
        assert kept.due is None
    # order: what was told in a channel is what was sent there, in that order, once
    for channel in (MAIN, ELSE):
        assert storm.delivered[f"slack:{channel}"] == storm.fifo.order[f"slack:{channel}"]
    # a digest and no flood: three cards and one digest in each channel, and once the card whose answer was lost
    for channel, count in ((MAIN, 400), (ELSE, 100)):
        cards = [one for one in storm.slack.messages(channel) if not one.thread]
        assert len(cards) in {4, 5}, channel
        assert f"{count - 3} more" in cards[-1].text
        pace = storm.posts[channel]
        assert all(later - sooner >= timedelta(seconds=1) for sooner, later in itertools.pairwise(pace))
    assert sum(method == "chat.update" for method, _ in storm.slack.requests) < 60
    assert "Traceback" not in capsys.readouterr().out


def test_the_card_of_a_case_never_comes_after_its_outcome(storm: Storm) -> None:
    """Answered while the storm is still on its way: what is told late shows the present, and nothing of the past is posted."""
    cases = [storm.asked(number) for number in range(6)]
    notices = [*storm.desk.notices.values()]
    storm.stream(notices)
    done = storm.desk.known[cases[1]]
    storm.desk.known[cases[1]] = done.model_copy(
        update={"state": type(done.state).DENIED, "ask": None, "reason": "no"}
    )
    storm.drain()
    said = [one.text for one in storm.slack.messages(MAIN)]
    mine = [text for text in said if done.target.id in text]
    assert len(mine) == 1
    assert "Denied: nothing was changed" in mine[0]
    assert sum("Waits for approval" in text for text in said) == 2


def test_the_queue_of_this_test_keeps_an_order_and_drops_what_comes_twice() -> None:
    """The negative control: a queue that lost, doubled or reordered would make the test above worth nothing."""
    clock = FakeClock()
    fifo = Fifo(clock)
    for number in (1, 1, 2):
        fifo.send("q", str(number), group="a", dedup=str(number))
    fifo.send("q", "b", group="b", dedup="b")
    assert [one.body for one in fifo.held] == ["1", "2", "b"]
    first = fifo.receive()
    fifo.defer("q", str(id(first)), 30)
    assert fifo.receive().body == "b"
    fifo.done(fifo.receive())
    assert fifo.receive() is first
    assert clock.now() == START + timedelta(seconds=30)
    clock.advance(timedelta(minutes=5))
    fifo.send("q", "1", group="a", dedup="1")
    assert [one.body for one in fifo.held] == ["1", "2", "1"]
