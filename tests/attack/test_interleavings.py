"""Two engines, two events, one target: every pair of port calls at which one may be overtaken by the other.

A walks until its i-th port call, B until its j-th, then A to its end, then B; whoever gave the message back is delivered
again as SQS would. What must hold then is in `holds`.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import pytest

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import BusyError, RedressError
from chalicelib.domain.record import broken_at
from chalicelib.domain.shape import sequence
from chalicelib.flow import errands
from chalicelib.flow.errand import Answered
from chalicelib.flow.pipeline import Engine
from tests.attack.ground import RDP, SSH, Ground
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.house import AFTER_THE_LEASE

pytestmark = pytest.mark.thorough

T = TypeVar("T")

DELIVERIES = 5


class Skewed:
    """The house's clock, read by a machine whose own is wrong."""

    def __init__(self, inner: FakeClock, by: timedelta) -> None:
        self._inner, self._by = inner, by

    def now(self) -> datetime:
        return self._inner.now() + self._by

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class Walker:
    """One delivery in a thread of its own that makes as many port calls as it is told to, and then waits."""

    def __init__(self, ground: Ground, do: Callable[[Engine], object], skew: timedelta = timedelta()) -> None:
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._left = 0
        self.error: RedressError | None = None
        self.ended = False
        faults = Faults()
        faults.through = self._through  # type: ignore[method-assign] # the seam that Faults counts at
        clock = Skewed(ground.clock, skew)
        self._engine = ground.built(faults.cases(ground.cases), faults.aws(ground.ec2), clock)
        self.do = do
        self._thread = threading.Thread(target=self._walk, daemon=True)
        self._thread.start()

    def go(self, calls: int = 10_000) -> None:
        """Let it make `calls` port calls more."""
        if self.ended:
            return
        self._left = calls
        self._turn.release()
        assert self._paused.acquire(timeout=10), "the walk hangs"

    def _walk(self) -> None:
        self._turn.acquire()
        try:
            self.do(self._engine)
        except RedressError as error:
            self.error = error
        finally:
            self.ended = True
            self._paused.release()

    def _through(self, name: str, do: Callable[[], T]) -> T:
        while self._left == 0:
            self._paused.release()
            self._turn.acquire()
        self._left -= 1
        return do()


def walking(event: dict[str, Any]) -> Callable[[Engine], object]:
    return lambda engine: engine.walk(event)


def deliver_until_done(ground: Ground, walker: Walker) -> int:
    """What SQS does with a message that came back: again, later, five times in all; how often it was received."""
    error = walker.error
    for delivery in range(1, DELIVERIES + 1):
        if error is None:
            return delivery
        ground.clock.advance(seconds=error.retry_after if isinstance(error, BusyError) else 360)
        try:
            walker.do(ground.engine())
        except RedressError as again:
            error = again
        else:
            error = None
    return DELIVERIES + 1


def holds(ground: Ground, rules: tuple[str, ...], receives: tuple[int, ...]) -> None:
    assert max(receives) <= DELIVERIES, "a message ended among the dead letters"
    told = {"ask", "run_failed"}.intersection(notice.kind for notice in ground.cases.notices)
    assert told or not set(rules).intersection(ground.ec2.rules), "an attack was neither closed nor told of"
    revoked = [rule for _, _, rule in ground.ec2.effects]
    assert len(revoked) == len(set(revoked)), "one rule was revoked twice"
    assert set(revoked) <= set(rules), "something was revoked that no event opened"
    ground.whole()
    records = ground.cases.records
    intents = {r.draft.data["session"] for r in records if r.draft.type == "INTENT"}
    assert {session for session, _, _ in ground.ec2.effects} <= intents, "a write without an INTENT"
    for case in ground.cases.cases:
        assert case.state is not CaseState.RUNNING
        assert not case.pending, "an event joined and nobody looked"
        chain = ground.cases.chain(case.id)
        assert broken_at([(r.body, r.hash) for r in chain], case.head) is None
    received = {record.draft.source_id for record in records}
    seen = {name[1] for name in ground.cases.items if name[0] == "SEEN"}
    assert {"event-1", "event-2"} <= seen, "an event was lost"
    assert {"event-1", "event-2"} <= received, "an event has no record"


def interleaved(
    i: int,
    j: int,
    *,
    late: bool,
    sleeps: timedelta = timedelta(),
    second_port: int = 22,
    skew: timedelta = timedelta(),
) -> tuple[bool, bool]:
    """One order of things; whether A and B were through before they were overtaken."""
    ground = Ground()
    ground.raise_to(Mode.ACT, SSH, RDP)
    first = ground.ec2.open(22)
    second = "" if late else ground.ec2.open(second_port, "1.2.3.4/0")
    one = ground.event((22, first))
    a = Walker(ground, walking(one))
    a.go(i)
    a_was_through = a.ended
    second = second or ground.ec2.open(second_port, "1.2.3.4/0")
    ground.clock.advance(sleeps)
    two = ground.event((second_port, second), event_id="event-2")
    b = Walker(ground, walking(two), skew)
    b.go(j)
    b_was_through = b.ended
    a.go()
    b.go()
    receives = (deliver_until_done(ground, a), deliver_until_done(ground, b))
    try:
        holds(ground, (first, second), receives)
    except AssertionError as failed:
        failed.add_note(
            f"A paused at {i}, B at {j}: {[record.draft.type.value for record in ground.cases.records]}"
        )
        raise
    return a_was_through, b_was_through


def every_pair(one_order: Callable[[int, int], tuple[bool, bool]]) -> None:
    """Every pair of pause points that there is; a walk that is through earlier has no more of them."""
    orders, a_was_through = 0, False
    for i in count():
        b_was_through = False
        for j in count():
            if b_was_through:
                break
            a_was_through, b_was_through = one_order(i, j)
            orders += 1
        if a_was_through:
            break
    assert orders > 20, "the walks were not interleaved"


@pytest.mark.parametrize("late", [False, True], ids=["both open at once", "the second opens in between"])
@pytest.mark.parametrize("second_port", [22, 3389])
def test_whoever_overtakes_whom_every_attack_is_answered_and_every_chain_holds(
    late: bool, second_port: int
) -> None:
    every_pair(lambda i, j: interleaved(i, j, late=late, second_port=second_port))


def test_a_lease_that_runs_out_under_a_sleeping_engine_breaks_nothing() -> None:
    every_pair(lambda i, j: interleaved(i, j, late=True, sleeps=AFTER_THE_LEASE))


@pytest.mark.parametrize("skew, sleeps", [(60, 20), (60, 35), (-60, 80)])
def test_a_minute_between_two_clocks_breaks_nothing(skew: int, sleeps: int) -> None:
    """B believes that A's lease is over while A has time left to write by its own clock; or the other way round."""
    every_pair(
        lambda i, j: interleaved(
            i, j, late=True, sleeps=timedelta(seconds=sleeps), skew=timedelta(seconds=skew)
        )
    )


def same(i: int, j: int, *, expires: bool) -> tuple[bool, bool]:
    """One event, delivered twice at once."""
    ground = Ground()
    event = ground.attack()
    a = Walker(ground, walking(event))
    a.go(i)
    a_was_through = a.ended
    if expires:
        ground.clock.advance(AFTER_THE_LEASE)
    b = Walker(ground, walking(event))
    b.go(j)
    b_was_through = b.ended
    a.go()
    b.go()
    receives = (deliver_until_done(ground, a), deliver_until_done(ground, b))
    assert max(receives) <= DELIVERIES
    assert ground.ec2.ports() == [443]
    assert len(ground.ec2.effects) == 1
    attempts = [operation for operation, _ in ground.ec2.asked].count("RevokeSecurityGroupIngress")
    assert expires or attempts == 1, f"A paused at {i}, B at {j}: both wrote within one lease"
    ground.whole()
    kinds = ground.kinds()
    assert (kinds.count("RECEIVED"), kinds.count("INTENT")) == (1, 1), f"A paused at {i}, B at {j}: {kinds}"
    return a_was_through, b_was_through


@pytest.mark.parametrize("expires", [False, True])
def test_one_event_delivered_twice_at_once_is_one_run(expires: bool) -> None:
    every_pair(lambda i, j: same(i, j, expires=expires))


@pytest.mark.parametrize("seconds, fixed", [(54, True), (55, True), (55.000001, False), (75, False)])
def test_a_write_begins_twenty_seconds_before_the_lease_ends_or_not_at_all(
    seconds: float, fixed: bool
) -> None:
    ground = Ground()
    event = ground.attack()
    a = Walker(ground, walking(event))
    a.go(3)  # look, describe, commit: the INTENT stands
    ground.clock.advance(seconds=seconds)
    a.go()
    assert bool(ground.ec2.effects) is fixed
    assert (a.error is None) is fixed
    assert deliver_until_done(ground, a) <= DELIVERIES
    assert ground.ec2.ports() == [443]
    ground.whole()


def approved(i: int, j: int, *, late: bool, expires: bool) -> tuple[bool, bool]:
    """A person approved that one rule goes; while that is carried out, an event tells of another one."""
    ground = Ground()
    assert ground.walks(ground.attack(Mode.ASK))[0].verdict == "ask"
    (first,) = (name for name, rule in ground.ec2.rules.items() if rule["FromPort"] == 22)
    case = ground.only_case()
    ground.answer()
    second = "" if late else ground.ec2.open(22, "1.2.3.4/0")
    a = Walker(ground, lambda engine: errands.carry_out(engine, Answered(case=case.id, ask=1)))
    a.go(i)
    a_was_through = a.ended
    if expires:
        ground.clock.advance(AFTER_THE_LEASE)
    second = second or ground.ec2.open(22, "1.2.3.4/0")
    b = Walker(ground, walking(ground.event((22, second), event_id="event-2")))
    b.go(j)
    b_was_through = b.ended
    a.go()
    b.go()
    where = f"A paused at {i}, B at {j}: {[record.draft.type.value for record in ground.cases.records]}"
    assert max(deliver_until_done(ground, a), deliver_until_done(ground, b)) <= DELIVERIES, where
    assert {rule for _, _, rule in ground.ec2.effects} <= {first}, f"{where}: nobody approved that"
    assert second in ground.ec2.rules
    ground.whole()
    now = ground.only_case()
    assert (now.state, now.pending) == (CaseState.WAITING, False), where
    assert now.ask
    shown = {
        str(rule) for call in now.ask.plan.calls for rule in sequence(call.params["SecurityGroupRuleIds"])
    }
    # A write that an engine slept over comes after the ask; whoever approves that is told that it is stale.
    assert shown - {second} <= ({first} if expires else ground.ec2.rules.keys() & {first}), where
    assert second in shown, f"{where}: nobody is asked about the second rule"
    return a_was_through, b_was_through


@pytest.mark.parametrize("late", [False, True], ids=["opened before", "opened in between"])
@pytest.mark.parametrize("expires", [False, True])
def test_an_approval_is_for_what_was_shown_whatever_happens_meanwhile(late: bool, expires: bool) -> None:
    every_pair(lambda i, j: approved(i, j, late=late, expires=expires))
