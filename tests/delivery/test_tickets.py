"""A ticket in somebody's system: one, whatever breaks and whenever; and what people do to it there is noticed."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.delivery.documents import RECURRENCE
from chalicelib.delivery.tickets import KEY, LOOKS, bring, key_of, lies_there, looked, place_of
from chalicelib.domain.delivery import Deliveries, Remote, Storm, TicketRef
from chalicelib.domain.errors import (
    AmbiguousError,
    ConflictError,
    DeliveryError,
    LaterError,
    RedressError,
    RejectedError,
    UnreachableError,
)
from chalicelib.domain.figures import Figures
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Notice
from chalicelib.domain.ticket import Ticket, TicketState
from tests.adapters import samples
from tests.fakes.clock import START, FakeClock

OPS = Integration(name="ops", system="webhook")
BOARD = Integration(name="board", system="github", at="https://api.github.com", project="acme/ours")
MOVED = BOARD.model_copy(update={"project": "acme/elsewhere"})


class CrashError(BaseException):
    """The function dies."""


class Memory:
    """`Told` for references: versions guard, and it may die before or after it wrote."""

    def __init__(self, crashes: "Crashes") -> None:
        self.stored: dict[tuple[str, str], TicketRef] = {}
        self.crashes = crashes
        self.before_keeping: Callable[[], object] = lambda: None

    def deliveries(self, case: str) -> Deliveries | None:
        raise NotImplementedError  # bringing a ticket tells nobody else

    def storm(self, name: str) -> Storm | None:
        raise NotImplementedError  # bringing a ticket tells nobody else

    def waiting(self, before: object, most: int = 100) -> tuple[Deliveries, ...]:
        raise NotImplementedError  # bringing a ticket tells nobody else

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        return self.stored.get((ticket, integration))

    def keep(self, *changed: Deliveries | Storm | TicketRef | Figures | Notice) -> None:
        before, self.before_keeping = self.before_keeping, lambda: None
        before()
        self.crashes.here()
        (ref,) = changed
        assert isinstance(ref, TicketRef)
        stood = self.stored.get((ref.ticket, ref.integration))
        if ref.version != (stood.version if stood else 0) + 1:
            raise ConflictError("somebody else was quicker")
        self.stored[ref.ticket, ref.integration] = ref
        self.crashes.here()


class Crashes:
    """Dies at the chosen places, counted over everything that happens."""

    def __init__(self, *places: int) -> None:
        self.places = frozenset(places)
        self.passed = 0

    def here(self) -> None:
        self.passed += 1
        if self.passed in self.places:
            raise CrashError


class System:
    """A ticket system that finds what is new only after `lag` looks, and fails as it is told to."""

    def __init__(self, crashes: Crashes | None = None, lag: int = 0) -> None:
        self.crashes = crashes or Crashes()
        self.lag = lag
        self.tickets: dict[str, tuple[str, Ticket]] = {}
        self.closed: set[str] = set()
        self.log: list[str] = []
        self.failing: list[DeliveryError] = []
        self.accepts_first = False
        self.during_create: Callable[[], object] = lambda: None

    def create(self, ticket: Ticket, key: str) -> Remote:
        during, self.during_create = self.during_create, lambda: None
        during()
        self.log.append("create")
        self.crashes.here()
        if self.failing and not self.accepts_first:
            raise self.failing.pop()
        name = f"T-{len(self.tickets) + 1}"
        self.tickets[name] = (key, ticket)
        if self.failing:
            raise self.failing.pop()
        self.crashes.here()
        return self._remote(name)

    def find(self, key: str) -> Remote | None:
        self.log.append("find")
        self.crashes.here()
        if self.lag:
            self.lag -= 1
            return None
        return next(
            (self._remote(name) for name, (carried, _) in self.tickets.items() if carried == key), None
        )

    def update(self, remote: str, ticket: Ticket) -> None:
        self._write("update", remote, ticket)

    def reopen(self, remote: str, ticket: Ticket) -> None:
        self._write("reopen", remote, ticket)
        self.closed.discard(remote)

    def close(self, remote: str, ticket: Ticket) -> None:
        self._write("close", remote, ticket)
        self.closed.add(remote)

    def look(self, remote: str) -> Remote:
        return self._remote(remote)

    def _write(self, what: str, remote: str, ticket: Ticket) -> None:
        self.log.append(what)
        self.crashes.here()
        self.tickets[remote] = (self.tickets[remote][0], ticket)
        self.crashes.here()

    def _remote(self, name: str) -> Remote:
        return Remote(key=name, url=f"https://tickets.example/{name}", closed=name in self.closed)


class Scene:
    def __init__(self, *crashes: int, lag: int = 0) -> None:
        self.crashes = Crashes(*crashes)
        self.told = Memory(self.crashes)
        self.system = System(self.crashes, lag)
        self.clock = FakeClock()

    def bring(self, ticket: Ticket, where: Integration = OPS) -> TicketRef | None:
        return bring(ticket, where, self.system, self.told, self.clock, tenant="prod")

    def until_there(self, ticket: Ticket, most: int = 20) -> TicketRef | None:
        """Delivered again and again, as the queue does it, until it goes through."""
        for _ in range(most):
            try:
                return self.bring(ticket)
            except LaterError as later:
                self.clock.advance(seconds=later.retry_after)
            except CrashError:
                self.clock.advance(seconds=360)
        raise AssertionError("never got there")


def opened(number: int = 1, **changed: object) -> Ticket:
    return samples.ticket(number).model_copy(update=changed)


def closed(ticket: Ticket) -> Ticket:
    return ticket.model_copy(update={"state": TicketState.CLOSED, "closed_because": "seen"})


def test_it_is_brought_once_and_remembered() -> None:
    scene = Scene()
    ref = scene.bring(opened())
    assert ref == TicketRef(
        ticket=opened().id,
        integration="ops",
        reserved_at=START,
        key="T-1",
        url="https://tickets.example/T-1",
        updated_at=START,
        told=ref.told if ref else "",
        place=place_of(OPS),
        version=2,
    )
    assert scene.bring(opened()) == ref
    assert scene.system.log == ["create"]


def test_the_key_is_the_tickets_the_integrations_and_the_deployments() -> None:
    keys = {
        key_of(ticket, integration, tenant)
        for ticket in (opened().id, opened(2).id)
        for integration in ("ops", "team")
        for tenant in ("prod", "dev")
    }
    assert len(keys) == 8
    for key in keys:
        match = KEY.fullmatch(key)
        assert match
        assert match["ticket"] in {opened().id, opened(2).id}
    assert key_of(opened().id, "ops", "prod") == key_of(opened().id, "ops", "prod")


def test_the_reservation_stands_before_the_call() -> None:
    scene = Scene()
    seen = []
    scene.system.during_create = lambda: seen.append(scene.told.reference(opened().id, "ops"))
    scene.bring(opened())
    (reserved,) = seen
    assert reserved is not None
    assert (reserved.key, reserved.version) == ("", 1)


def test_news_is_told_once_and_an_event_that_changes_nothing_is_none() -> None:
    scene = Scene()
    scene.bring(opened())
    passing = opened(
        evidence={"rules": ["sgr-1"], "told_by": "event-9", "told_at": "later", "plan_hash": "x"}
    )
    scene.bring(passing.model_copy(update={"updated_at": START + timedelta(hours=1)}))
    assert scene.system.log == ["create"]
    scene.bring(opened(why="now the neighbours too"))
    scene.bring(opened(why="now the neighbours too"))
    assert scene.system.log == ["create", "update"]
    scene.bring(opened(evidence={"rules": ["sgr-2"]}))
    assert scene.system.log == ["create", "update", "update"]


def test_it_is_closed_only_when_ours_is_and_says_what_was_seen() -> None:
    scene = Scene()
    scene.bring(opened())
    ref = scene.bring(closed(opened()))
    assert ref is not None
    assert ref.closed
    assert scene.system.closed == {"T-1"}
    assert scene.system.tickets["T-1"][1].closed_because == "seen"
    assert scene.bring(closed(opened())) == ref
    assert scene.system.log == ["create", "close"]


def test_what_nobody_there_heard_of_is_not_brought_to_be_closed() -> None:
    scene = Scene()
    assert scene.bring(closed(opened())) is None
    assert scene.system.log == []
    assert scene.told.stored == {}


def test_a_recurrence_is_a_new_ticket_that_names_the_one_before() -> None:
    scene = Scene()
    scene.bring(opened())
    scene.bring(closed(opened()))
    scene.bring(opened(2))
    assert scene.system.tickets["T-2"][1].evidence[RECURRENCE] == {
        "key": "T-1",
        "url": "https://tickets.example/T-1",
    }
    scene.bring(opened(2))
    assert scene.system.log == ["create", "close", "create"]
    assert RECURRENCE not in scene.system.tickets["T-1"][1].evidence


def test_a_recurrence_of_one_that_was_never_brought_names_none() -> None:
    scene = Scene()
    scene.bring(opened(2))
    assert RECURRENCE not in scene.system.tickets["T-1"][1].evidence
    scene.system.failing = [RejectedError("no")]
    with pytest.raises(RejectedError):
        scene.bring(opened(3))
    scene.bring(opened(4))
    assert RECURRENCE not in scene.system.tickets["T-2"][1].evidence


# -- when it breaks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 1, len(LOOKS) - 1])
@pytest.mark.parametrize("place", range(1, 7))
def test_a_crash_anywhere_leaves_one_remote_ticket(place: int, lag: int) -> None:
    scene = Scene(place, lag=lag)
    ref = scene.until_there(opened())
    assert ref is not None
    assert ref.key == "T-1"
    assert len(scene.system.tickets) == 1
    assert scene.crashes.passed >= place, "the crash did happen"


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=6), st.integers(0, len(LOOKS) - 1))
def test_however_often_it_crashes_there_is_one_remote_ticket(places: list[int], lag: int) -> None:
    scene = Scene(*places, lag=lag)
    scene.until_there(opened(), most=60)
    scene.until_there(opened(why="new"), most=60)
    scene.until_there(closed(opened()), most=60)
    (name,) = scene.system.tickets
    assert scene.system.closed == {name}


def test_after_an_ambiguous_call_it_is_looked_for_and_found() -> None:
    scene = Scene()
    scene.system.failing, scene.system.accepts_first = [AmbiguousError("broke", 60)], True
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    ref = scene.until_there(opened())
    assert ref is not None
    assert ref.key == "T-1"
    assert scene.system.log == ["create", "find", "update"]


def test_a_lagging_index_is_waited_for_and_then_it_is_made_anew() -> None:
    scene = Scene(lag=len(LOOKS))
    scene.system.failing = [AmbiguousError("broke, and nothing was made", 60)]
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    scene.until_there(opened())
    assert scene.system.log == ["create", *["find"] * len(LOOKS), "create"]
    assert scene.clock.now() - START == timedelta(seconds=sum(LOOKS))
    assert len(scene.system.tickets) == 1


def test_no_look_comes_before_its_time() -> None:
    scene = Scene(lag=99)
    scene.system.failing = [AmbiguousError("broke", 1)]
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    for step in LOOKS[:-1]:
        scene.clock.advance(seconds=step - 1)
        before = [*scene.system.log]
        with pytest.raises(LaterError) as early:
            scene.bring(opened())
        assert early.value.retry_after == 1
        assert scene.system.log == before
        scene.clock.advance(seconds=1)
        with pytest.raises(LaterError):
            scene.bring(opened())
        assert scene.system.log == [*before, "find"]


@pytest.mark.parametrize("error", [LaterError("busy", 60), UnreachableError("gone"), RejectedError("no")])
def test_after_a_call_that_did_nothing_it_is_made_without_a_look(error: DeliveryError) -> None:
    scene = Scene()
    scene.system.failing = [error]
    with pytest.raises(DeliveryError):
        scene.bring(opened())
    ref = scene.bring(opened())
    assert ref is not None
    assert (ref.key, ref.attempts) == ("T-1", 1)
    assert scene.system.log == ["create", "create"]


def test_a_given_back_reservation_of_a_closed_ticket_rests() -> None:
    scene = Scene()
    scene.system.failing = [UnreachableError("gone")]
    with pytest.raises(UnreachableError):
        scene.bring(opened())
    ref = scene.bring(closed(opened()))
    assert ref is not None
    assert (ref.key, ref.attempts) == ("", 0)
    assert scene.system.log == ["create"]


def test_a_ticket_that_closed_while_its_call_was_unclear_is_found_and_closed_or_let_go() -> None:
    scene = Scene()
    scene.system.failing, scene.system.accepts_first = [AmbiguousError("broke", 60)], True
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    scene.until_there(closed(opened()))
    assert scene.system.closed == {"T-1"}
    scene = Scene()
    scene.system.failing = [AmbiguousError("broke", 60)]
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    ref = scene.until_there(closed(opened()))
    assert ref is not None
    assert (ref.key, ref.attempts) == ("", 0)
    assert scene.system.tickets == {}


# -- two at once -------------------------------------------------------------------------------------------------------


def test_two_deliveries_at_once_make_one_remote_ticket() -> None:
    scene = Scene()
    second: list[RedressError] = []

    def other() -> None:
        try:
            scene.bring(opened())
        except LaterError as later:
            second.append(later)

    scene.system.during_create = other
    scene.bring(opened())
    assert len(second) == 1
    scene.bring(opened())
    assert len(scene.system.tickets) == 1


def test_of_two_that_reserve_one_calls() -> None:
    scene = Scene()
    scene.told.before_keeping = lambda: scene.bring(opened())
    with pytest.raises(LaterError, match="somebody else"):
        scene.bring(opened())
    assert len(scene.system.tickets) == 1


def test_of_two_that_found_nothing_for_the_last_time_one_calls() -> None:
    scene = Scene(lag=99)
    scene.system.failing = [AmbiguousError("broke", 60)]
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    for _, step in zip(range(len(LOOKS) - 1), LOOKS, strict=False):
        scene.clock.advance(seconds=step)
        with pytest.raises(LaterError):
            scene.bring(opened())
    scene.clock.advance(seconds=LOOKS[-1])
    scene.told.before_keeping = lambda: scene.bring(opened())
    with pytest.raises(LaterError, match="somebody else"):
        scene.bring(opened())
    assert len(scene.system.tickets) == 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=30), st.integers(0, len(LOOKS) - 1))
def test_two_workers_that_die_and_come_back_make_one(turns: list[int], lag: int) -> None:
    numbers = count(1)
    scene = Scene(*[next(numbers) * 3 for _ in turns], lag=lag)
    for _ in turns:
        try:
            scene.bring(opened())
        except LaterError as later:
            scene.clock.advance(seconds=later.retry_after)
        except CrashError:
            continue
    scene.crashes.places = frozenset()
    scene.until_there(opened())
    assert len(scene.system.tickets) == 1


# -- what people do there ----------------------------------------------------------------------------------------------


def test_somebodys_closing_is_noticed_once() -> None:
    scene = Scene()
    ref = scene.bring(opened())
    assert ref is not None
    assert looked(opened(), ref, OPS, scene.system, START) is None
    scene.system.closed.add("T-1")
    noticed = looked(opened(), ref, OPS, scene.system, START + timedelta(hours=1))
    assert noticed is not None
    assert (noticed.closed, noticed.updated_at, noticed.version) == (True, START + timedelta(hours=1), 3)
    scene.told.keep(noticed)
    assert looked(opened(), noticed, OPS, scene.system, START + timedelta(hours=2)) is None
    scene.system.closed.clear()
    again = looked(opened(), noticed, OPS, scene.system, START + timedelta(hours=2))
    assert again is not None
    assert not again.closed


def test_what_somebody_closed_is_opened_again_only_by_a_later_assessment() -> None:
    scene = Scene()
    ref = scene.bring(opened())
    assert ref is not None
    scene.system.closed.add("T-1")
    noticed = looked(opened(), ref, OPS, scene.system, START + timedelta(hours=1))
    assert noticed is not None
    scene.told.keep(noticed)
    assert scene.bring(opened(why="an old message, come late")) == noticed
    assert scene.system.closed == {"T-1"}
    seen_since = opened(updated_at=START + timedelta(hours=2))
    after = scene.bring(seen_since)
    assert after is not None
    assert not after.closed
    assert scene.system.closed == set()
    assert scene.bring(seen_since) == after
    assert scene.system.log == ["create", "reopen"]


def test_what_somebody_closed_rightly_is_told_what_was_seen() -> None:
    scene = Scene()
    ref = scene.bring(opened())
    assert ref is not None
    scene.system.closed.add("T-1")
    noticed = looked(opened(), ref, OPS, scene.system, START)
    assert noticed is not None
    scene.told.keep(noticed)
    after = scene.bring(closed(opened()))
    assert after is not None
    assert after.closed
    assert scene.system.log == ["create", "close"]


def test_a_closed_ticket_of_ours_and_one_never_brought_are_not_looked_at() -> None:
    scene = Scene()
    ref = scene.bring(opened())
    assert ref is not None
    scene.system.closed.add("T-1")
    assert looked(closed(opened()), ref, OPS, scene.system, START) is None
    assert looked(opened(), ref.model_copy(update={"key": ""}), OPS, scene.system, START) is None


def test_one_that_was_closed_before_we_found_it_is_noticed_like_any_other() -> None:
    scene = Scene()
    scene.system.failing, scene.system.accepts_first = [AmbiguousError("broke", 60)], True
    with pytest.raises(AmbiguousError):
        scene.bring(opened())
    scene.system.closed.add("T-1")
    ref = scene.until_there(opened())
    assert ref is not None
    noticed = looked(opened(), ref, OPS, scene.system, START)
    assert noticed is not None
    assert noticed.closed


# -- an integration that points elsewhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("news", [opened(why="new"), closed(opened())], ids=["news", "closing"])
def test_a_ticket_of_the_old_place_is_not_looked_for_in_the_new_one(news: Ticket) -> None:
    scene = Scene()
    ref = scene.bring(opened(), BOARD)
    assert ref is not None
    scene.system.closed.add("T-1")
    with pytest.raises(RejectedError, match="board: the ticket T-1 lies where this pointed before"):
        scene.bring(news, MOVED)
    assert looked(opened(), ref, MOVED, scene.system, START) is None
    assert scene.system.log == ["create"]
    assert scene.told.reference(opened().id, "board") == ref
    scene.system.closed.clear()
    assert scene.bring(closed(opened()), BOARD)
    assert scene.system.closed == {"T-1"}, "pointed back, it goes on"


def test_one_that_may_have_been_made_in_the_old_place_is_not_made_in_the_new_one() -> None:
    scene = Scene()
    scene.system.failing, scene.system.accepts_first = [AmbiguousError("broke", 60)], True
    with pytest.raises(AmbiguousError):
        scene.bring(opened(), BOARD)
    scene.clock.advance(seconds=LOOKS[0])
    with pytest.raises(RejectedError, match="the ticket that was being made lies where"):
        scene.bring(opened(), MOVED)
    assert scene.system.log == ["create"]


def test_what_surely_was_not_made_in_the_old_place_is_made_in_the_new_one() -> None:
    scene = Scene()
    scene.system.failing = [UnreachableError("no such repository")]
    with pytest.raises(UnreachableError):
        scene.bring(opened(), BOARD)
    ref = scene.bring(opened(), MOVED)
    assert ref is not None
    assert lies_there(ref, MOVED)
    assert not lies_there(ref, BOARD)


def test_a_place_is_where_it_points_and_not_what_else_it_says() -> None:
    others = (
        MOVED,
        BOARD.model_copy(update={"at": "https://git.example/api/v3"}),
        BOARD.model_copy(update={"system": "servicenow"}),
    )
    assert len({place_of(one) for one in (BOARD, *others)}) == 4
    same = BOARD.model_copy(update={"name": "other", "at": "https://api.github.com/", "accounts": ("1",)})
    assert place_of(same) == place_of(BOARD)
    moved = OPS.model_copy(update={"at": "https://hooks.example/anew"})
    assert place_of(moved) == place_of(OPS), "our own key is nobody else's there"


def test_a_reference_of_before_places_were_kept_is_taken_as_it_is() -> None:
    assert lies_there(TicketRef(ticket="d-t1", integration="board", reserved_at=START), BOARD)


def test_a_reference_of_before_places_were_kept_learns_its_place_with_the_next_news() -> None:
    scene = Scene()
    ref = scene.bring(opened(), BOARD)
    assert ref is not None
    scene.told.stored[ref.ticket, ref.integration] = ref.model_copy(update={"place": ""})
    scene.bring(opened(why="news"), BOARD)
    with pytest.raises(RejectedError, match="lies where this pointed before"):
        scene.bring(opened(why="more"), MOVED)
    assert scene.system.log == ["create", "update"]
