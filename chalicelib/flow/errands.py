"""Errands carried out: what each message of the commands queue has the engine do, and what it sends on.

Each may come twice, late or out of order. What it says is whom to look at; what is done follows from what stands then.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import assert_never

from chalicelib.domain.approval import SETTLED_AFTER, Answers, Ask
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.errors import BusyError, ConflictError, RedressError, UnreadableError
from chalicelib.domain.finding import Actor, Origin
from chalicelib.domain.record import stamp
from chalicelib.flow import asking, errand, notify, record, sweep, undo
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked


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
            return Done(_exempted(engine, order))
        case errand.TicketWanted():
            return Done((_ticket_wanted(engine, order),))
        case errand.News():
            return Done(_news(engine, order))
        case errand.Heard():
            return Done(_heard(engine, order))
        case errand.ClosedThere():
            return Done(_closed_there(engine, order))
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


def _exempted(engine: Engine, order: errand.Exempted) -> tuple[Walked, ...]:
    """Look at every case of the resource for that control; what is exempt now asks nobody any more, and the reverse."""
    visits = [
        engine.about(case, f"exempted:{order.request_id}", Origin.WAKE, engine.clock.now())
        for state in _CONCERNED
        for case in engine.cases.in_state(state)
        if case.target.resource == order.resource and order.control in case.controls
    ]
    return engine.all(visits)


def _ticket_wanted(engine: Engine, order: errand.TicketWanted) -> Walked:
    """A ticket in the place of an answer; nothing when the ask is over meanwhile."""
    key = f"ticket:{order.request_id}"
    for _ in range(asking.ATTEMPTS):
        case = engine.case(order.case)
        if case is None:
            break
        with contextlib.suppress(ConflictError):
            return asking.hand_to_ticket(engine, case, order.by, order.reason, key, engine.clock.now())
    return Walked(order.case, "nothing", "no open ask", "nobody is asked about it now", case=order.case)


def _news(engine: Engine, order: errand.News) -> tuple[Walked, ...]:
    """Those who follow the case are told. Of a case that has moved on meanwhile nobody needs to be."""
    for _ in range(asking.ATTEMPTS):
        case, now = engine.case(order.case), engine.clock.now()
        if case is None:
            break
        with contextlib.suppress(ConflictError):
            engine.commit(case, now, (), notices=(notify.news(case, order.request_id, now, order.says),))
            return (Walked(order.case, "told", "news", order.says, case=order.case),)
    return (Walked(order.case, "nothing", "no current case", "nobody follows it now", case=order.case),)


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


def _with_ticket(engine: Engine, name: str, ticket: str) -> Case | None:
    """The case that stands for that target now, if that very ticket is open there."""
    named = engine.case(name)
    if named is None:
        return None
    visit = engine.about(named, f"ticket:{ticket}", Origin.WAKE, engine.clock.now())
    case = engine.gate(visit, visit.ids).case
    return case if case and case.ticket and case.ticket.id == ticket and case.ticket.is_open else None


def _tick(engine: Engine) -> Done:
    """Everything that time alone brings about. One case that fails never keeps the others waiting."""
    done, now = Done(), engine.clock.now()
    for state, passes in _AS_TIME_PASSES.items():
        try:
            for case in engine.cases.in_state(state):
                done = done.and_then(_passed(engine, case, now, passes))
        except UnreadableError as unreadable:
            done = done.and_then(Done(failures=(unreadable,)))
    return done


def _passed(
    engine: Engine, case: Case, now: datetime, passes: Callable[[Engine, Case, datetime], Done]
) -> Done:
    try:
        return passes(engine, case, now)
    except (BusyError, ConflictError):
        return Done()  # its turn comes with the next tick
    except (RedressError, ValueError, LookupError) as failure:
        return Done((Walked(case.id, "fail", "tick", str(failure), case=case.id),), failures=(failure,))


def _waiting(engine: Engine, case: Case, now: datetime) -> Done:
    """An answer whose errand was lost, an ask that nobody answered, a reminder: in this order."""
    ask = case.ask
    if ask is None:
        return Done()
    answers = engine.cases.answers(case.id, ask.seq)
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


def _exempt(engine: Engine, case: Case, now: datetime) -> Done:
    """An exemption or a snooze is over: look again, and at most ask."""
    if case.wakes_at is None or now < case.wakes_at:
        return Done()
    key = f"wake:{case.id}:{stamp(case.wakes_at)}"
    return Done(engine.all([engine.about(case, key, Origin.WAKE, now)]))


def _running(engine: Engine, case: Case, now: datetime) -> Done:
    """A run whose lease is over has died: what it began is settled, by whoever may."""
    run = case.run
    if run is None or now < run.lease_until:
        return Done()
    if run.undo:
        return Done(undos=(errand.UndoRun(case=case.id, ask=case.asks),))
    key = f"settle:{case.id}:{run.seq}"
    return Done(engine.all([engine.about(case, key, Origin.WAKE, now)]))


_AS_TIME_PASSES: Mapping[CaseState, Callable[[Engine, Case, datetime], Done]] = MappingProxyType(
    {CaseState.RUNNING: _running, CaseState.WAITING: _waiting, CaseState.EXEMPT: _exempt}
)
