"""Errands carried out: what each message of the commands queue has the engine do, and what it sends on.

Each may come twice, late or out of order. What it says is whom to look at; what is done follows from what stands then.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import assert_never

from chalicelib.domain.approval import SETTLED_AFTER, Answers, Ask
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.errors import BusyError, ConflictError, RedressError, StoreError, UnreadableError
from chalicelib.domain.finding import Actor, Origin
from chalicelib.domain.record import stamp
from chalicelib.flow import asking, errand, notify, record, sweep, undo
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked, anew

AT_ONCE = 100
"""Of how many cases the answers are read at once: as many as one BatchGetItem takes."""

_Passes = Callable[[Engine, Case, datetime, Mapping[str, Answers] | None], "Done"]
"""What time brings about for a case, with what people said to the asks of the cases that are looked at with it."""


@dataclass(frozen=True)
class Done:
    """What came of an errand: visits for logs and metrics, further errands, undos to be handed on, and what failed."""

    walked: tuple[Walked, ...] = ()
    errands: tuple[errand.AnyErrand, ...] = ()
    undos: tuple[errand.UndoRun, ...] = ()
    failures: tuple[Exception, ...] = ()

    def and_then(self, other: "Done") -> "Done":
        """Both, in order."""
        return Done(
            (*self.walked, *other.walked),
            (*self.errands, *other.errands),
            (*self.undos, *other.undos),
            (*self.failures, *other.failures),
        )


def carry_out(  # noqa: C901, PLR0911, PLR0912 -- one way out for each errand
    engine: Engine, order: errand.AnyErrand
) -> Done:
    """Do what the errand says; raises when the message must come back."""
    match order:
        case errand.Answered():
            return _answered(engine, order.case, order.ask)
        case errand.UndoWanted():
            return Done((undo.want(engine, order),))
        case errand.Look():
            return Done(_look(engine, order))
        case errand.Exempted():
            return _exempted(engine, order)
        case errand.TicketWanted():
            return Done((_ticket_wanted(engine, order),))
        case errand.News():
            return Done((_news(engine, order),))
        case errand.Heard():
            return Done(_heard(engine, order))
        case errand.ClosedThere():
            return Done(_closed_there(engine, order))
        case errand.NotBrought():
            return Done((_not_brought(engine, order),))
        case errand.Sweep():
            walked, parts = sweep.begin(engine, order)
            return Done((walked,), parts)
        case errand.SweepPart():
            done, rest = sweep.go_on(engine, order)
            return Done(done, (rest,) if rest else ())
        case errand.Tick():
            return _tick(engine)
        case errand.Redrive():  # the queues are not the engine's; whoever holds them has done it
            return Done()
        case _:
            assert_never(order)


def _answered(engine: Engine, case: str, ask: int) -> Done:
    walked, undo_run = asking.carry_out(engine, case, ask)
    return Done((walked,), undos=(undo_run,) if undo_run else ())


def _look(engine: Engine, order: errand.Look) -> tuple[Walked, ...]:
    """Look at a case's target again; on somebody's request, as if it had just been told of."""
    case = engine.case(order.case)
    if case is None:
        return (Walked(order.case, "nothing", "no such case", "there is no such case", case=order.case),)
    origin = Origin.REQUEST if order.requested else Origin.WAKE
    by = Actor(type="Person", arn=order.by) if order.requested else None
    return engine.all([engine.about(case, f"look:{order.request_id}", origin, engine.clock.now(), by)])


_CONCERNED = (CaseState.EXEMPT, CaseState.WAITING, CaseState.TICKETED, CaseState.OPEN)
"""Where a case may stand that an exemption, or its end, concerns."""


def _exempted(engine: Engine, order: errand.Exempted) -> Done:
    """Look at every case of the resource for that control; what is exempt now asks nobody any more, and the reverse."""
    unread = list[Exception]()
    visits = [
        engine.about(case, f"exempted:{order.request_id}", Origin.WAKE, engine.clock.now())
        for state in _CONCERNED
        for case in _readable(engine, state, unread)
        if case.target.resource == order.resource and order.control in case.controls
    ]
    return Done(engine.all(visits), failures=tuple(unread))


def _readable(engine: Engine, state: CaseState, unread: list[Exception]) -> Iterator[Case]:
    """The cases in that state. That others of them cannot be read is added to `unread`, and hides none of these."""
    try:
        yield from engine.cases.in_state(state)
    except UnreadableError as unreadable:
        unread.append(unreadable)


def _ticket_wanted(engine: Engine, order: errand.TicketWanted) -> Walked:
    """A ticket in the place of an answer; nothing when the ask is over meanwhile."""

    def hand() -> Walked:
        case, key = engine.case(order.case), f"ticket:{order.request_id}"
        if case is None:
            return Walked(order.case, "nothing", "no such case", "there is no such case", case=order.case)
        return asking.hand_to_ticket(engine, case, order, key, engine.clock.now())

    return anew(order.case, hand)


def _news(engine: Engine, order: errand.News) -> Walked:
    """Those who follow the case are told. Of a case that a newer episode has followed nobody needs to be."""

    def tell() -> Walked:
        named, now = engine.case(order.case), engine.clock.now()
        case = engine.current(named) if named else None
        if case is None or case.id != order.case:
            return Walked(order.case, "nothing", "no current case", "nobody follows it now", case=order.case)
        engine.commit(case, now, (), notices=(notify.news(case, order.request_id, now, order.says),))
        return Walked(order.case, "told", "news", order.says, case=order.case)

    return anew(order.case, tell)


def _heard(engine: Engine, order: errand.Heard) -> tuple[Walked, ...]:
    """Whoever keeps our tickets in that system is to ask it: a message from outside proves nothing."""
    case = _with_ticket(engine, order.case, order.ticket)
    if case and case.ticket:
        notice = notify.heard(case, case.ticket, order.integration, order.request_id, engine.clock.now())
        engine.commit(case, engine.clock.now(), (), notices=(notice,))
    return (Walked(order.case, "told" if case else "nothing", "ticket", order.ticket, case=order.case),)


def _closed_there(engine: Engine, order: errand.ClosedThere) -> tuple[Walked, ...]:
    """Somebody closed our ticket elsewhere: that is on record, and no proof. The target is looked at, and only that closes ours.

    What still fails then is told there again, as newer than what was closed.
    """
    case, now = _with_ticket(engine, order.case, order.ticket), engine.clock.now()
    if case is None or case.ticket is None:
        return (Walked(order.case, "nothing", "no open ticket", "ours is not open", case=order.case),)
    key = f"closed:{order.integration}:{order.ticket}:{stamp(order.at)}"
    told = engine.about(case, key, Origin.WAKE, now)
    if not engine.gate(told, told.ids).seen:
        closed = record.ticket_closed_externally(case, case.ticket, key, order.integration, order.key, now)
        engine.commit(case, now, (closed,), seen=(key,))
    walked = engine.all([engine.about(case, f"{key}:look", Origin.WAKE, now)])
    after = _with_ticket(engine, order.case, order.ticket)
    if after and after.ticket:
        newer = after.ticket.model_copy(update={"updated_at": engine.clock.now()})
        notice = notify.ticket(newer, again=stamp(order.at))
        still = after.model_copy(update={"ticket": newer})
        engine.commit(still, engine.clock.now(), (), notices=(notice,), ticket=newer)
    return walked


def _not_brought(engine: Engine, order: errand.NotBrought) -> Walked:
    """A ticket does not get to a ticket system: that is on record once, and those who follow the case are told."""

    def tell() -> Walked:
        named, now = engine.case(order.case), engine.clock.now()
        case = engine.current(named) if named else None
        if case is None or case.ticket is None or case.ticket.id != order.ticket:
            return Walked(order.case, "nothing", "no such ticket", "the case has another", case=order.case)
        key = f"not-brought:{order.integration}:{order.ticket}:{stamp(order.at)}"
        told = engine.about(case, key, Origin.WAKE, now)
        if not engine.gate(told, told.ids).seen:
            stopped = record.ticket_not_brought(case, case.ticket, key, order.integration, order.why, now)
            more = "it is tried again" if order.again else "see to it there by hand"
            says = (
                f"ticket {order.ticket} as it stands did not get to {order.integration}; {more}: {order.why}"
            )
            news = notify.news(case, key, now, says)
            engine.commit(case, now, (stopped,), seen=(key,), notices=(news,))
        return Walked(order.case, "told", "ticket", order.why, case=order.case)

    return anew(order.case, tell)


def _with_ticket(engine: Engine, name: str, ticket: str) -> Case | None:
    """The case that stands for that target now, if that very ticket is open there."""
    named = engine.case(name)
    case = engine.current(named) if named else None
    return case if case and case.ticket and case.ticket.id == ticket and case.ticket.is_open else None


def _tick(engine: Engine) -> Done:
    """Everything that time alone brings about. One case that fails never keeps the others waiting.

    It ends in time to send on what it found; for what it did not come to there is the next tick.
    """
    done, now, unread = Done(), engine.clock.now(), list[Exception]()
    for state, passes in _AS_TIME_PASSES.items():
        cases = _readable(engine, state, unread)
        while part := [*islice(cases, AT_ONCE)]:
            said = _said(engine, part) if state is CaseState.WAITING else None
            for case in part:
                if engine.clock.now() >= now + sweep.LOOKS_FOR:
                    late = f"the tick came as far as the cases that are {state.value}, and leaves the rest to the next one"
                    return done.and_then(
                        Done((Walked("tick", "late", "tick", late),), failures=tuple(unread))
                    )
                done = done.and_then(_passed(engine, case, now, said, passes))
    return done.and_then(Done(failures=tuple(unread)))


def _said(engine: Engine, cases: list[Case]) -> Mapping[str, Answers] | None:
    """What people said to the asks of these cases, by case; None when it cannot be read together, but perhaps one by one."""
    try:
        return engine.cases.answers_to([(case.id, case.ask.seq) for case in cases if case.ask])
    except StoreError:
        return None


def _passed(
    engine: Engine, case: Case, now: datetime, said: Mapping[str, Answers] | None, passes: _Passes
) -> Done:
    try:
        return passes(engine, case, now, said)
    except (BusyError, ConflictError):
        return Done()  # its turn comes with the next tick
    except (RedressError, ValueError, LookupError) as failure:
        return Done((Walked(case.id, "fail", "tick", str(failure), case=case.id),), failures=(failure,))


def _waiting(engine: Engine, case: Case, now: datetime, said: Mapping[str, Answers] | None) -> Done:
    """An answer whose errand was lost, an ask that nobody answered, a reminder: in this order."""
    ask = case.ask
    if ask is None:
        return Done()
    answers = engine.cases.answers(case.id, ask.seq) if said is None else said.get(case.id)
    if answers and answers.answers and _decided(engine, case, ask, answers, now):
        return _answered(engine, case.id, ask.seq)
    if not ask.open(now - SETTLED_AFTER):
        return Done((asking.expire(engine, case, ask, now),))
    if not ask.sent and ask.send_at and ask.send_at <= now:
        return Done((asking.send(engine, case, ask, now),))
    if asking.due_for_reminder(ask, now):
        return Done((asking.remind(engine, case, ask, now),))
    return Done()


def _decided(engine: Engine, case: Case, ask: Ask, answers: Answers, now: datetime) -> bool:
    """True when the answers settle the ask, in whichever way."""
    amounts, problem, _ = asking.judged(asking.policy_of(engine), case, ask, answers, now)
    return amounts.state != "open" or bool(problem)


def _exempt(engine: Engine, case: Case, now: datetime, _: Mapping[str, Answers] | None) -> Done:
    """An exemption or a snooze is over: look again, and at most ask."""
    if case.wakes_at is None or now < case.wakes_at:
        return Done()
    key = f"wake:{case.id}:{stamp(case.wakes_at)}"
    return Done(engine.all([engine.about(case, key, Origin.WAKE, now)]))


def _running(engine: Engine, case: Case, now: datetime, _: Mapping[str, Answers] | None) -> Done:
    """A run whose lease is over has died: what it began is settled, by whoever may."""
    run = case.run
    if run is None or now < run.lease_until:
        return Done()
    if run.undo:
        return Done(undos=(errand.UndoRun(case=case.id, ask=case.asks),))
    key = f"settle:{case.id}:{run.seq}"
    return Done(engine.all([engine.about(case, key, Origin.WAKE, now)]))


_AS_TIME_PASSES: Mapping[CaseState, _Passes] = MappingProxyType(
    {CaseState.RUNNING: _running, CaseState.EXEMPT: _exempt, CaseState.WAITING: _waiting}
)
"""In this order: the cases that wait may be thousands, and of the others none may wait for them."""
