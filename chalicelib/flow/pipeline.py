"""The walk of one event, top to bottom: intake, classify, gate, assess, plan, decide, act, verify, record, notify.

Every stage that writes does it in one conditional transaction. Whoever loses such a write looks again from the gate:
that is all there is to concurrency here. A crash anywhere leaves a lease that runs out, and the redelivered message
settles what the dead run began by looking at the resource, not by remembering.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.approval import CARRIED_OUT_WITHIN, EVERYBODY, Ask, principals
from chalicelib.domain.case import (
    FRESH,
    SESSIONS_KEPT,
    Case,
    CaseState,
    Lock,
    Run,
    case_digest,
    case_of_session,
    cause_of,
    is_fresh,
    parts_of,
    session_name,
)
from chalicelib.domain.contract import AnyRemediation, Cause, Mode, Outcome, Params, Plan, State, plan_hash
from chalicelib.domain.control import Control
from chalicelib.domain.decision import Decision, Verdict
from chalicelib.domain.errors import (
    AwsError,
    BusyError,
    ConflictError,
    ContractError,
    FrozenError,
    LimitError,
    OversizeError,
    TargetGoneError,
    TransientError,
)
from chalicelib.domain.finding import Actor, Finding, NotOurs, Origin, Signal, Target, digest, partition_of
from chalicelib.domain.limits import Reservation, over
from chalicelib.domain.ports import Aws, Cases, Change, Clock, Gate, Notice, Question
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.domain.shape import text
from chalicelib.domain.ticket import Ticket
from chalicelib.flow import act, asking, breaker, classify, decide, intake, notify, record, ticketing
from chalicelib.flow.visit import (
    ATTEMPTS,
    Approval,
    Home,
    Levels,
    Step,
    Visit,
    Walked,
    anew,
    moving,
    own_word,
    params_of,
    unreported,
    walked,
)

CAUSES_KEPT = 50
"""Events of the last hour that a case remembers; beyond them the oldest lose their claim to be acted on."""

REST = intake.FORBIDDEN_IN_IDS
"""Between an event's id and the controls of its second visit."""

EVENT_ID = 256
"""Longer than any id that AWS gives; what is longer (or no ASCII) is somebody's invention and goes by its digest."""

REMEMBERED = timedelta(hours=24)
"""CloudTrail shows our own calls minutes later; a session name older than this is no excuse for a change."""

OWNER_TAGS = ("owner", "team", "contact")
"""Tags that say who answers for a resource, the first that is there. Told to people, and never a reason to act."""


@dataclass(frozen=True)
class Engine:
    """The engine, built once by `bootstrap`; holds nothing of any event."""

    home: Home
    controls: Mapping[str, Control]
    catalog: classify.Controls
    remediations: Mapping[str, AnyRemediation]
    cases: Cases
    aws: Aws
    clock: Clock

    def walk(self, envelope: Mapping[str, Any]) -> tuple[Walked, ...]:
        """One event, all the way; raises when the message must come back (busy, unreadable, throttled, malformed).

        An event may tell of several things. Each has its own walk, and none is in the way of another.
        """
        done: list[Walked] = []
        visits: list[Visit] = []
        for signal in intake.read(envelope):
            found = signal if isinstance(signal, NotOurs) else self._classified(signal)
            if isinstance(found, NotOurs):
                done.append(self._not_ours(found))
                continue
            own = self._own_event(found[0].signal, found)
            done.extend(own)
            visits.extend(() if own else found)
        return (*done, *self.all(visits))

    def _classified(self, signal: Signal) -> list[Visit] | NotOurs:
        """The visits that a signal asks for, or why it asks for none."""
        if partition_of(signal.region) != partition_of(self.home.region):
            return _no(signal, "the event comes from another AWS partition")
        found = classify.findings(signal, self.catalog)
        if isinstance(found, NotOurs):
            return found
        visits = self._visits(signal, found)
        return visits or _no(signal, "no remediation covers the controls that the event may break")

    def all(self, visits: list[Visit]) -> tuple[Walked, ...]:
        """Every visit is made, even when one before it failed; then the first failure is raised."""
        done: list[Walked] = []
        failures: list[Exception] = []
        visits = [*visits]
        while visits:
            visit = visits.pop(0)
            try:
                self._wait_for_create(visit)
                made, rest = self.visit(visit)
            except Exception as failure:  # noqa: BLE001 -- kept and raised below: one visit never stops another
                failures.append(failure)
                continue
            done.append(made)
            if rest:
                visits.insert(0, rest)
        if failures:
            raise failures[0]
        return tuple(done)

    def _wait_for_create(self, visit: Visit) -> None:
        """BusyError while whoever created the resource may not be done with it: many finish it in several calls."""
        if visit.signal.origin is not Origin.EVENT or not classify.creates(visit.signal.name):
            return
        wait = timedelta(minutes=max(control.wait_after_create_minutes for control in visit.controls))
        left = min(visit.signal.at + wait - self.clock.now(), wait).total_seconds()
        if left > 0:
            message = f"{visit.target.resource} has just been created: it is looked at when it is {wait} old"
            raise BusyError(message, retry_after=int(left) + 1)

    def case(self, case_id: str) -> Case | None:
        """The case of that id, current or archived; None when there is none, or when the text is no case's id."""
        parts = parts_of(case_id)
        return self.cases.case(*parts) if parts else None

    def current(self, case: Case) -> Case | None:
        """The case that stands for that target now: this one as it is by now, or a newer episode."""
        actor = case.causes[-1].actor.key
        return self.cases.look(
            Question(
                event_id=case.id,
                case=case.digest,
                target=case.target,
                controls=case.controls,
                actor_key=actor,
            )
        ).case

    def about(self, case: Case, key: str, origin: Origin, at: datetime, by: Actor | None = None) -> Visit:
        """A visit to the case's target for all of its controls, for no event: `by` asks for it, or else its last actor.

        ContractError when the catalog no longer has what the case is about.
        """
        controls = tuple(self.controls[name] for name in case.controls if name in self.remediations)
        if not controls:
            raise ContractError(
                f"no control of case {case.id} has a remediation any more: its catalog entry is gone"
            )
        actor = by or max(case.causes, key=lambda cause: cause.at).actor
        return Visit(
            key=key,
            signal=own_word(origin, origin.value.capitalize(), key, case.target, at, actor),
            remediation=self.remediations[controls[0].id],
            target=case.target,
            controls=controls,
        )

    # -- the gate ---------------------------------------------------------------------------------------------------

    def visit(self, visit: Visit) -> tuple[Walked, Visit | None]:
        """One visit, tried anew whenever somebody else moved the case on; with what is left for another visit."""
        return anew(case_digest(visit.remediation.id, visit.target), lambda: self._attempt(visit))

    def _attempt(  # noqa: PLR0911 -- the gate is a list of ways out, in order
        self, visit: Visit
    ) -> tuple[Walked, Visit | None]:
        """One try from the gate on; with the controls that are left for a visit of their own."""
        now = self.clock.now()
        gate = self.gate(visit, visit.ids)
        visit = replace(visit, coded=decide.deployed_as_code(gate, visit))
        if not gate.enrolled:
            return self._not_ours(_no(visit.signal, f"account {visit.target.account} is not enrolled")), None
        case, running = gate.case, gate.case is not None and gate.case.state is CaseState.RUNNING
        alone = (
            visit.approval is not None
        )  # an approval is for all of its controls: none is left for another visit
        if gate.seen and alone:  # carried out before; what joined meanwhile may still have to be looked at
            visit = replace(visit, approval=None)
        if case and gate.seen and not running and not case.pending:
            seen = "this has been taken in before"
            rest = None if alone else self._levels(visit, gate, now).rest
            return walked(visit, case, now, "duplicate", "seen before", seen), rest
        if case and gate.seen and set(visit.ids) != set(case.controls):
            # Events that joined this case may concern other controls: whoever looks again looks for all of them.
            return self._attempt(
                replace(visit, controls=tuple(self.controls[name] for name in case.controls))
            )
        if gate.lock and gate.lock.held(now):
            return self._while_held(visit, gate, gate.lock, now), None
        if case and running:
            settled = self._settle(visit, gate, case, now)
            if gate.seen or not visit.told:
                return settled, self._levels(visit, gate, now).rest if visit.told else None
            done, rest = self.visit(visit)
            return (settled if done.verdict == "duplicate" else done), rest
        if visit.approval:
            return self._approved(visit, visit.approval, gate, now), None
        return self._fresh(visit, gate, now)

    def gate(self, visit: Visit, controls: Iterable[str]) -> Gate:
        """Everything that decides whether and how far the walk goes on, in one read."""
        return self.cases.look(
            Question(
                event_id=visit.key,
                case=case_digest(visit.remediation.id, visit.target),
                target=visit.target,
                controls=tuple(sorted(controls)),
                actor_key=visit.signal.actor.key,
                role_arn=visit.signal.actor.role_arn,
            )
        )

    def _levels(self, visit: Visit, gate: Gate, now: datetime) -> Levels:
        """Which of the visit's controls are walked together: those of the highest mode, and none that is frozen alone.

        Nor does one that waits for its baseline go with one that does not. The rest is a visit of its own, whatever becomes of these: its own key keeps it from being made twice.
        """
        exempt = decide.exempted(gate.exemptions, visit.target, now)
        modes = decide.effective_modes(gate, (c for c in visit.controls if c.id not in exempt))
        stopped = decide.frozen_alone(gate.freezes, visit.target, modes)
        apart = {*stopped}, unreported(visit, gate), _inherited(visit, gate.case)
        level = {name: (*(name not in one for one in apart), mode.rank) for name, mode in modes.items()}
        top = max(level.values(), default=None)
        together = tuple(c for c in visit.controls if c.id in level and level[c.id] == top)
        rest = tuple(c for c in visit.controls if c.id in level and level[c.id] != top)
        mode = modes[together[0].id] if together else Mode.OBSERVE
        return Levels(exempt, together, mode, _rest(visit, rest))

    def _while_held(self, visit: Visit, gate: Gate, lock: Lock, now: datetime) -> Walked:
        """Another run holds the target: join its case, which must then look again; else come back later."""
        case = gate.case
        joins = case and case.state is CaseState.RUNNING and lock.case == case.id and not gate.seen
        if case and joins and visit.told:
            joined = self._take_in(case, visit, now)
            drafts = (
                record.received(visit.signal, joined, visit.key, visit.ids, visit.opened),
                *_own_drafts(visit, joined),
            )
            self.commit(joined, now, drafts, seen=(visit.key,), notices=_own_notices(visit, joined, now))
            why = "a run on this target is under way and will look again"
            return walked(visit, joined, now, "joined", "open run", why)
        left = max(1, int((lock.lease_until - now).total_seconds()) + 1)
        message = f"{visit.target.resource} is in the hands of case {lock.case}"
        raise BusyError(message, retry_after=left)

    def _fresh(self, visit: Visit, gate: Gate, now: datetime) -> tuple[Walked, Visit | None]:
        """Nobody holds the target: the visit's own walk."""
        previous = gate.case
        archive = previous if previous and previous.state.ended and not gate.seen else None
        case = previous if previous and gate.seen else self._opened(visit, previous, now)
        levels = self._levels(visit, gate, now)
        if levels.exempt:
            ends = min(exemption.expires_at for exemption in levels.exempt.values())
            case = case.model_copy(update={**case.where(levels.exempt, CaseState.EXEMPT), "wakes_at": ends})
        drafts: list[Draft] = []
        if not gate.seen and (visit.told or previous is None or archive):
            drafts.append(record.received(visit.signal, case, visit.key, visit.ids, visit.opened))
        drafts += _own_drafts(visit, case)
        step = Step(visit, gate, case, archive, tuple(drafts), levels.together, levels.mode)
        if not levels.together:
            return self._exempt(step, levels, now), None
        return self._look(step, now), levels.rest

    def _approved(self, visit: Visit, approval: Approval, gate: Gate, now: datetime) -> Walked:
        """A person agreed to a plan: look and plan anew, under the mode that stands now, for all that was asked about."""
        case = gate.case
        if case is None or case.ask is None or case.ask.seq != approval.ask.seq or case.state.ended:
            gone = "the ask that was answered is open no more"
            return Walked(visit.signal.event_id, "nothing", "no open ask", gone, case=case.id if case else "")
        exempt = decide.exempted(gate.exemptions, visit.target, now)
        modes = decide.effective_modes(gate, (c for c in visit.controls if c.id not in exempt))
        together = tuple(c for c in visit.controls if c.id in modes)
        drafts = (record.answered(case, approval.ask, approval.answers),)
        mode = min(modes.values(), default=Mode.OBSERVE)
        if exempt:
            ends = min(exemption.expires_at for exemption in exempt.values())
            case = case.model_copy(update={**case.where(exempt, CaseState.EXEMPT), "wakes_at": ends})
        step = Step(visit, gate, case, None, drafts, together, mode)
        if not together:
            return self._exempt(step, Levels(exempt, (), mode, None), now)
        return self._look(step, now)

    def _opened(self, visit: Visit, previous: Case | None, now: datetime) -> Case:
        """The case with what was told taken in: the open one, or the next episode after one that ended."""
        if previous and not previous.state.ended:
            return self._take_in(previous, visit, now) if visit.told else _covering(previous, visit)
        kept: dict[str, Any] = _kept(previous, now) if previous else {}
        stood: dict[str, CaseState] = kept.pop("standing", {})
        actors: tuple[str, ...] = kept.pop("actors", ())
        standing = {**stood, **dict.fromkeys(visit.ids, CaseState.OPEN)}
        return Case(
            digest=case_digest(visit.remediation.id, visit.target),
            episode=previous.episode + 1 if previous else 1,
            remediation=visit.remediation.id,
            target=visit.target,
            state=CaseState.OPEN,
            controls=tuple(sorted(standing)),
            standing=standing,
            generation=1,
            causes=(visit.cause,),
            actors=principals(visit.signal.actor, known=actors),
            opened_at=now,
            updated_at=now,
            **kept,
        )

    def _take_in(self, case: Case, visit: Visit, now: datetime) -> Case:
        kept = [cause for cause in case.causes if abs(now - cause.at) <= FRESH][-CAUSES_KEPT:]
        return _covering(case, visit).model_copy(
            update={
                "generation": case.generation + 1,
                "causes": (*kept, visit.cause),
                "actors": principals(visit.signal.actor, known=case.actors),
            }
        )

    # -- assess, plan, decide ---------------------------------------------------------------------------------------

    def _look(self, step: Step, now: datetime) -> Walked:
        visit, case = step.visit, step.case
        params = params_of(visit.remediation, step.controls)
        cause = cause_of(case, now)
        try:
            state = visit.remediation.assess(
                visit.target, params, self.aws.reader(visit.remediation, visit.target)
            )
        except TargetGoneError as gone:
            decision = Decision(verdict=Verdict.IGNORE, rule="gone", reason=str(gone))
            return self._stand_back(step, now, decision, None, None, "")
        except TransientError:
            raise
        except AwsError as refused:
            return self._unread(step, now, str(refused))
        plan = visit.remediation.plan(visit.target, params, state, cause, now)
        hashed = hash_of(plan, visit.target, params, step.controls)
        wanted = Reservation(
            at=now, case=case.id, run=case.runs + 1, controls=step.ids, writes=len(plan.calls)
        )
        too_much = over(self.home.limits, step.gate.account_spent, step.gate.actor_spent, wanted)
        concerned = decide.scopes(visit.target, step.ids)
        switch = decide.frozen(step.gate.freezes, concerned) if step.mode is not Mode.OBSERVE else None
        tripped = breaker.standing_open(step.gate.breakers, step.ids)
        decision = decide.weigh(
            step,
            state,
            plan,
            hashed,
            cause,
            now,
            is_frozen=switch is not None,
            over_limit=too_much is not None,
            tripped=tripped is not None,
        )
        if decision.rule == "breaker open" and tripped:
            decision = decision.model_copy(update={"reason": breaker.said(tripped)})
        if decision.rule == "over a limit" and too_much:
            decision = decision.model_copy(update={"reason": too_much})
        if decision.rule == "frozen" and switch:
            decision = decision.model_copy(update={"reason": f"frozen by {switch.by}: {switch.reason}"})
        if decision.verdict is Verdict.ASK and (more := self._also_asked(step, now)):
            return self._look(more, now)
        if decision.verdict is Verdict.ASK and EVERYBODY in case.actors:
            too_many = "more people had a hand in it than a case can name, so that nobody may approve it"
            decision = Decision(verdict=Verdict.TICKET, rule="too many actors", reason=too_many)
        if decision.verdict is not Verdict.ACT:
            return self._stand_back(step, now, decision, state, plan, hashed)
        run = Run(
            seq=wanted.run,
            source_id=visit.key,
            controls=step.ids,
            generation=case.generation,
            started_at=now,
            lease_until=now + self.home.lease,
            cause=cause,
            before=state.model_dump(mode="json"),
            plan=plan,
            plan_hash=hashed,
            approved_by=visit.approval.by if visit.approval else "",
        )
        return self._act(step, run, wanted, params, decision, now)

    def _also_asked(self, step: Step, now: datetime) -> Step | None:
        """This step with what the case asks about already: a case asks one thing at a time. None when that adds nothing.

        What may no longer be asked about (exempt, lowered, frozen alone) is left to the next look.
        """
        waits, visit = step.case.ask, step.visit
        if waits is None or waits.undo or not waits.open(now) or {*waits.controls} <= {*step.ids}:
            return None
        known = [self.controls[name] for name in waits.controls if name in self.controls]
        gate = self.gate(visit, (control.id for control in known))
        exempt = decide.exempted(gate.exemptions, visit.target, now)
        modes = decide.effective_modes(gate, (control for control in known if control.id not in exempt))
        stopped = decide.frozen_alone(gate.freezes, visit.target, modes)
        may = {name for name, mode in modes.items() if mode > Mode.TICKET and name not in stopped}
        rest = {*waits.controls} - may - {*step.ids}
        case = step.case.model_copy(update={**step.case.where(rest, CaseState.OPEN), "ask": None})
        together = tuple(self.controls[name] for name in sorted({*step.ids, *may}))
        return replace(step, case=case, controls=together, mode=Mode.ASK)

    def _stand_back(
        self,
        step: Step,
        now: datetime,
        decision: Decision,
        state: State | None,
        plan: Plan | None,
        hashed: str,
    ) -> Walked:
        """Every verdict but act: one transaction that says what was seen and why nothing is done."""
        visit = step.visit
        done = walked(
            visit,
            step.case,
            now,
            decision.verdict.value,
            decision.rule,
            decision.reason,
            outcome=_outcome_of(decision),
            controls=step.ids,
        )
        if self._nothing_new(step, decision, hashed, now):
            return done
        found = _found(decision, hashed)
        if decision.verdict in _NEEDS_A_PERSON:
            step = replace(step, case=step.case.model_copy(update={"owner": self._owner(step)}))
        asked = None
        if decision.verdict is Verdict.ASK and state and plan:
            asked, vain = asking.ask_of(self, step, decision, plan, hashed, state, now)
            decision = decision if asked else _for_nobody(vain)
            done = replace(done, verdict=decision.verdict.value, rule=decision.rule, reason=decision.reason)
        case = _stood_back(step, decision, found, state, hashed)
        drafts, notices = _told_of_it(step, case, decision, state, plan, hashed, now)
        if asked:
            case = case.model_copy(update={"ask": asked, "asks": asked.seq})
            said, told = asking.told(step.case, case, asked, visit.key)
            drafts, notices = [*drafts, *said], [*notices, *told]
        ticket = None
        if decision.verdict is Verdict.TICKET:
            ticket = ticketing.opened(
                case, visit.remediation, step.controls, decision.reason, now, plan=plan, state=state
            )
        ticket = ticket or ticketing.closed(case, decision.reason, now)
        try:
            self._conclude(step, case, now, drafts, notices, ticket)
        except OversizeError as error:
            if state is None:
                raise
            return self._too_large(step, now, hashed, error)
        return done

    def _nothing_new(self, step: Step, decision: Decision, hashed: str, now: datetime) -> bool:
        """True when a sweep found what the case says already: it writes nothing, so that it may look as often as it likes."""
        before = step.gate.case
        if step.visit.signal.origin is not Origin.SWEEP:
            return False
        standing = before.standing if before else {}
        at_rest = all(standing.get(name, CaseState.CLOSED).ended for name in step.ids)
        if decision.verdict is Verdict.IGNORE:
            ticket = before.ticket if before and before.state.ended else None
            return at_rest and not (ticket and ticket.is_open)
        if before is None or at_rest:
            return decision.rule == "denied"
        same = all(before.found.get(name) == _found(decision, hashed) for name in step.ids)
        waits = decision.verdict is not Verdict.ASK or (before.ask is not None and before.ask.open(now))
        reported = not step.baseline or {*step.ids} <= {*before.inherited}
        return same and waits and not before.pending and reported

    def _owner(self, step: Step) -> str:
        """Who answers for the target: its own tags, else the account's owner, else nobody. Never a reason to do anything."""
        visit, tags = step.visit, dict[str, str]()
        if visit.remediation.tags:
            try:
                reader = self.aws.reader(visit.remediation, visit.target)
                tags = {
                    name.lower(): value
                    for name, value in visit.remediation.tags(visit.target, reader).items()
                }
            except (AwsError, TargetGoneError):
                tags = {}  # whoever may not read tags still has to tell people
        named = next((tags[name] for name in OWNER_TAGS if tags.get(name)), None)
        account = step.gate.owner
        return text(named) or (account.owner if account else "")

    def _too_large(self, step: Step, now: datetime, hashed: str, error: OversizeError) -> Walked:
        """What cannot be recorded is not done: a ticket says so, without the state that does not fit."""
        reason = f"the target's state is larger than a record may be, so a person has to repair it: {error}"
        decision = Decision(verdict=Verdict.TICKET, rule="too large", reason=reason[:500])
        return self._stand_back(step, now, decision, None, None, hashed)

    def _exempt(self, step: Step, levels: Levels, now: datetime) -> Walked:
        visit, exemptions = step.visit, levels.exempt
        decision = decide.spared(exemptions.values())
        wakes_at = min(e.expires_at for e in exemptions.values())
        done = walked(visit, step.case, now, decision.verdict.value, decision.rule, decision.reason)
        before = step.gate.case
        if not visit.told and before and before.wakes_at == wakes_at:
            return done  # nobody told of anything, and the case is exempt until then already
        case = step.case.model_copy(
            update={
                "assessed": step.case.generation,
                "decision": decision.verdict.value,
                "reason": decision.reason,
                "outcome": None,
                "ask": _kept_ask(step, decision, exemptions),
                "inherited": tuple(name for name in step.case.inherited if name not in exemptions),
                "wakes_at": wakes_at,
                "last_state": None,
            }
        )
        drafts = [
            *step.drafts,
            record.decided(case, visit.key, now, decision, {}, exemptions=tuple(sorted(exemptions))),
        ]
        ticket = ticketing.closed(case, decision.reason, now)
        self._conclude(step, case, now, drafts, (), ticket)
        return done

    def _unread(self, step: Step, now: datetime, reason: str) -> Walked:
        """The target could not be read for a reason that a retry will not cure."""
        visit = step.visit
        done = walked(
            visit, step.case, now, "fail", "unreadable", reason, outcome=Outcome.FAILED, controls=step.ids
        )
        before = step.gate.case
        if visit.signal.origin is Origin.SWEEP and before and before.outcome is Outcome.FAILED:
            return done
        ask = None if visit.approval else step.case.ask  # whoever approves it has it looked at anew
        asked = {*ask.controls} if ask else set[str]()
        case = step.case.model_copy(
            update={
                **step.case.where((name for name in step.ids if name not in asked), CaseState.OPEN),
                "assessed": step.case.generation,
                "outcome": Outcome.FAILED,
                "reason": reason,
                "ask": ask,
                "inherited": _also(step, known=step.baseline or {*step.ids} <= {*step.case.inherited}),
            }
        )
        drafts = [*step.drafts, record.unread(case, visit.key, now, step.ids, reason)]
        ticket = None
        if step.mode is not Mode.OBSERVE and not {*step.ids} <= {*case.inherited}:
            ticket = ticketing.opened(case, visit.remediation, step.controls, reason, now)
        self._conclude(step, case, now, drafts, (), ticket)
        return done

    def _conclude(
        self,
        step: Step,
        case: Case,
        now: datetime,
        drafts: Iterable[Draft],
        notices: Iterable[Notice],
        ticket: Ticket | None,
    ) -> None:
        """What was seen and what comes of it, with the ticket if there is one: one transaction, in which nothing is changed.

        Whoever was told of an ask that is over now, or has answered it, is told that it is.
        """
        ask, notices = step.gate.case.ask if step.gate.case else None, [*notices]
        known = ask is not None and (ask.sent or step.visit.approval is not None)
        if ask and known and not (case.ask and case.ask.seq == ask.seq):
            reason = "it is asked anew, with another plan" if case.ask else case.reason
            over = notify.about_ask(case, ask, "over", now, reason)
            notices += [] if any(one.kind == "ask_stale" for one in notices) else [over]
        case, told, said = ticketing.told(step.case, case, ticket, step.visit.key, drafts, notices)
        self.commit(case, now, told, seen=step.seen, archive=step.archive, notices=tuple(said), ticket=ticket)

    # -- act ----------------------------------------------------------------------------------------------------------

    def _act(
        self, step: Step, run: Run, wanted: Reservation, params: Params, decision: Decision, now: datetime
    ) -> Walked:
        """INTENT, lease, reservation and notice in one transaction; then apply, verify, RESULT."""
        visit, gate = step.visit, step.gate
        case = step.case.model_copy(
            update={
                "owner": step.case.owner if visit.approval else step.case.owner or self._owner(step),
                "state": CaseState.RUNNING,
                "run": run,
                "runs": run.seq,
                "decision": decision.verdict.value,
                "reason": decision.reason,
                "outcome": None,
                "plan_hash": run.plan_hash,
                "last_state": None,
                "inherited": _also(step, known=False),
                "wakes_at": _wakes_at(step.case),
                "ask": _kept_ask(step, decision),
                "acted_at": now,
                "acted_before": run.before,
                "sessions": (*step.case.sessions, session_name(step.case.id, run.seq))[-SESSIONS_KEPT:],
            }
        )
        modes = dict.fromkeys(step.ids, step.mode.value)
        drafts = (
            *step.drafts,
            record.decided(case, visit.key, now, decision, modes, plan_hash=run.plan_hash),
            record.intent(case, run, params.model_dump(mode="json")),
        )
        lock = Lock(
            case=case.id,
            run=run.seq,
            lease_until=run.lease_until,
            version=gate.lock.version + 1 if gate.lock else 1,
        )
        try:
            case = self.commit(
                case,
                now,
                drafts,
                seen=step.seen,
                archive=step.archive,
                notices=(notify.run_state(case, run, now, None, decision.reason),),
                lock=lock,
                spent=(gate.account_spent.plus(wanted), gate.actor_spent.plus(wanted)),
            )
        except OversizeError as error:
            return self._too_large(step, now, run.plan_hash, error)
        return self._finish(visit, case, lock, run, params, remaining=None)

    def _finish(
        self,
        visit: Visit,
        case: Case,
        lock: Lock,
        run: Run,
        params: Params,
        remaining: tuple[int, ...] | None,
    ) -> Walked:
        job = act.Job(
            remediation=visit.remediation,
            target=visit.target,
            params=params,
            cause=within(run),
            plan=run.plan,
            session=session_name(case.id, run.seq),
        )
        achieved = act.apply_and_verify(
            job, self.aws, self.clock, self.before_write(case, run), remaining=remaining
        )
        return self._result(visit, case, lock, run, achieved)

    def before_write(self, case: Case, run: Run) -> Callable[[], None]:
        """The guard of one run, called before each of its writes; it reads the switches and the ledger again."""
        scopes = decide.scopes(case.target, run.controls)

        def guard() -> None:
            seen = self.cases.guard(scopes, case.target.account)
            act.within_lease(
                run.lease_until, self.clock.now()
            )  # after the read, which may have taken its time
            switch = decide.frozen(seen.freezes, scopes)
            if switch:
                message = f"frozen by {switch.by} ({switch.scope}): {switch.reason}"
                raise FrozenError(message)
            if not seen.account_spent.holds(case.id, run.seq):
                message = "the run's reservation is gone, so its writes are no longer counted"
                raise LimitError(message)

        return guard

    def _result(
        self, visit: Visit, case: Case, lock: Lock, run: Run, achieved: act.Achieved, *, again: bool = False
    ) -> Walked:
        """RESULT. When an event joined meanwhile the record stands all the same, and the case is looked at again.

        `again` asks for such a look though no event joined.
        """
        for _ in range(ATTEMPTS):
            now = self.clock.now()
            ended = self._ended(case, run, achieved, again=again or achieved.moved)
            result = record.result(
                ended, run, now, achieved.outcome, achieved.reason, achieved.results, achieved.after
            )
            told = notify.run_state(ended, run, now, achieved.outcome, achieved.reason)
            ticket = self._ticket_after(visit, ended, run, achieved, now)
            missed = self._missed(ended, run, achieved, now)
            ended, drafts, notices = ticketing.told(
                case, ended, ticket, run.source_id, (result, *missed.drafts), (told, *missed.notices)
            )
            try:
                ended = self.commit(
                    ended,
                    now,
                    drafts,
                    notices=tuple(notices),
                    lock=lock.model_copy(update={"lease_until": now, "version": lock.version + 1}),
                    ticket=ticket,
                    breakers=missed.breakers,
                )
            except ConflictError:
                case = self.still_ours(case, run)
                continue
            except OversizeError as error:
                if achieved.after is None:
                    raise
                achieved = replace(
                    achieved, after=None, reason=f"{achieved.reason}; its state is not kept: {error}"
                )
                continue
            if ended.pending:
                looked = self._look_again(visit)
                if looked:
                    return looked
            return walked(
                visit,
                ended,
                now,
                Verdict.ACT.value,
                "acting",
                achieved.reason,
                outcome=achieved.outcome,
                controls=run.controls,
            )
        raise moving(case.id)

    def _missed(self, ended: Case, run: Run, achieved: act.Achieved, now: datetime) -> breaker.Counted:
        """What a run that went wrong does to its controls' breakers. One that is looked at anew has not ended yet."""
        what = breaker.MISSED.get(achieved.outcome)
        if what is None or ended.pending:
            return breaker.Counted()
        return breaker.count(self.cases, ended, run.controls, run.seq, run.source_id, what, now)

    def _ticket_after(
        self, visit: Visit, ended: Case, run: Run, achieved: act.Achieved, now: datetime
    ) -> Ticket | None:
        """A run that failed, or whose effect nobody saw, is a person's matter; one that ended well closes the ticket."""
        if ended.pending or achieved.outcome not in {Outcome.FAILED, Outcome.NOT_VERIFIED}:
            return ticketing.closed(ended, achieved.reason, now)
        controls = (self.controls[name] for name in run.controls)
        why = f"the run ended {achieved.outcome.value}: {achieved.reason}"
        state = achieved.after
        return ticketing.opened(ended, visit.remediation, controls, why, now, plan=run.plan, state=state)

    def _look_again(self, visit: Visit) -> Walked | None:
        """Something joined while the run was under way: walk again at the generation that now stands."""
        looked, rest = self.visit(replace(visit, approval=None))
        if rest:
            self.all([rest])
        return looked if looked.verdict != "duplicate" else None

    def _ended(self, case: Case, run: Run, achieved: act.Achieved, *, again: bool) -> Case:
        success = achieved.outcome in {Outcome.FIXED, Outcome.ALREADY_COMPLIANT}
        generation = max(case.generation, run.generation + 1) if again else case.generation
        pending = generation > run.generation
        return case.model_copy(
            update={
                **case.where(run.controls, CaseState.CLOSED if success and not pending else CaseState.OPEN),
                "generation": generation,
                "assessed": run.generation,
                "run": None,
                "outcome": achieved.outcome,
                "reason": achieved.reason,
                "last_state": achieved.after.model_dump(mode="json") if achieved.after else None,
            }
        )

    def still_ours(self, case: Case, run: Run) -> Case:
        """The case as it stands now, if this run still holds it; BusyError when the lease passed to another."""
        current = self.cases.case(case.digest, case.episode)
        if (
            current is None
            or current.run is None
            or current.run.seq != run.seq
            or current.run.lease_until != run.lease_until
        ):
            message = f"run {run.seq} of case {case.id} was taken over by another delivery"
            raise BusyError(message, retry_after=5)
        return current

    # -- after a crash ------------------------------------------------------------------------------------------------

    def _settle(self, visit: Visit, gate: Gate, case: Case, now: datetime) -> Walked:
        """A run died with its lease. Take the lease over and finish what it meant to do, by what the resource shows."""
        died = case.run
        if died is None:  # a running case always carries its run; anything else must not be guessed at
            message = f"case {case.id} is running without a run"
            raise ConflictError(message)
        if died.undo:  # only the function that undoes may go on with it; the tick sees to it that it does
            message = f"an undo of case {case.id} has not come to its end"
            raise BusyError(message, retry_after=300)
        run = died.model_copy(update={"lease_until": now + self.home.lease})
        lock = Lock(
            case=case.id,
            run=run.seq,
            lease_until=run.lease_until,
            version=gate.lock.version + 1 if gate.lock else 1,
        )
        case = self.commit(case.model_copy(update={"run": run}), now, (), lock=lock)
        params = params_of(visit.remediation, tuple(self.controls[name] for name in run.controls))
        try:
            state = visit.remediation.assess(
                visit.target, params, self.aws.reader(visit.remediation, visit.target)
            )
        except TransientError:
            raise
        except (AwsError, TargetGoneError) as refused:
            lost = act.Achieved(
                (), None, Outcome.NOT_VERIFIED, f"after a crash the target could not be read: {refused}"
            )
            return self._result(visit, case, lock, run, lost)
        left = visit.remediation.plan(visit.target, params, state, within(run), now)
        meant = {call.identity: index for index, call in enumerate(run.plan.calls)}
        forbidden = self._forbidden(visit, run, now) if left.calls else ""
        if forbidden:
            remaining = {meant.get(call.identity) for call in left.calls}
            made = tuple(act.lost(index) for index in meant.values() if index not in remaining)
            outcome = Outcome.FAILED if made else Outcome.DECLINED
            stopped = act.Achieved(made, state, outcome, f"the run crashed and is not finished: {forbidden}")
            return self._result(visit, case, lock, run, stopped, again=True)
        if any(call.identity not in meant for call in left.calls):
            changed = act.Achieved(
                (),
                state,
                Outcome.FAILED,
                "the run crashed and the target was changed meanwhile; it is looked at anew",
            )
            return self._result(visit, case, lock, run, changed, again=True)
        return self._finish(
            visit, case, lock, run, params, tuple(meant[call.identity] for call in left.calls)
        )

    def _forbidden(self, visit: Visit, run: Run, now: datetime) -> str:
        """Why a run that died may not go on writing: what permitted it then must permit it still."""
        gate = self.gate(visit, run.controls)
        if decide.exempted(gate.exemptions, visit.target, now):
            return "the resource has been exempted since"
        modes = decide.effective_modes(gate, (self.controls[name] for name in run.controls))
        if any(mode < (Mode.ASK if run.approved_by else Mode.ACT) for mode in modes.values()):
            return "the control may no longer act"
        tripped = breaker.standing_open(gate.breakers, run.controls)
        if tripped and not run.approved_by:
            return breaker.said(tripped)
        if run.approved_by and now - run.started_at > CARRIED_OUT_WITHIN:
            return "the approval is old, and an old approval is none"
        if not run.approved_by and not is_fresh(run.cause, now):
            return "the violation was created more than an hour ago"
        return ""

    # -- our own events -----------------------------------------------------------------------------------------------

    def _own_event(self, signal: Signal, visits: list[Visit]) -> tuple[Walked, ...]:
        """Events of our own runs are verified and never acted on; empty when there is a visit to be made.

        A run explains what the acting or the undo role did, to its own target and under its own session. Anything else
        that one of our roles does is a finding like any other, which at most asks, with a record of the suspicion.
        """
        claim = case_of_session(signal.actor.session)
        if not claim or not self.home.role(signal.actor.role_arn, signal.account, ("act", "undo")):
            return ()
        case = self.cases.case(claim[0], claim[1])
        if case is None or any(visit.target != case.target for visit in visits):
            return ()
        return self._verify_only(signal, visits, case)

    def _verify_only(self, signal: Signal, visits: list[Visit], named: Case) -> tuple[Walked, ...]:
        visit = visits[0]
        for _ in range(ATTEMPTS):
            now = self.clock.now()
            gate = self.gate(visit, named.controls)
            current = gate.case
            if (
                current is None
                or signal.actor.session not in current.sessions
                or now - current.updated_at > REMEMBERED
            ):
                return ()
            if gate.seen:
                seen = "an event of our own, seen before"
                return (walked(visit, current, now, "duplicate", "own event", seen),)
            kind, data = RecordType.RECONCILED, dict[str, JsonValue]()
            if current.state is not CaseState.RUNNING:
                kind, data = RecordType.VERIFIED, self._verified(current)
                exempt = decide.exempted(gate.exemptions, current.target, now)
                if not data["compliant"] and set(current.controls) - set(exempt):
                    # No run of ours leaves a violation behind, but for an undo, which exempts: somebody uses our role.
                    return ()
            draft = record.own_event(signal, current, visit.key, kind, data)
            try:
                self.commit(current, now, (draft,), seen=(visit.key,))
            except ConflictError:
                continue
            verified = "an event of our own run: verified, not acted on"
            return (walked(visit, current, now, "verify", "own event", verified),)
        raise moving(named.id)

    def _verified(self, case: Case) -> dict[str, JsonValue]:
        remediation = self.remediations[case.controls[0]]
        params = params_of(remediation, tuple(self.controls[name] for name in case.controls))
        state = remediation.assess(case.target, params, self.aws.reader(remediation, case.target))
        return {"compliant": state.compliant, "state": state.model_dump(mode="json")}

    # -- writing ------------------------------------------------------------------------------------------------------

    def commit(self, case: Case, now: datetime, drafts: Iterable[Draft], **parts: Any) -> Case:  # noqa: ANN401 -- fields of Change
        """One transaction: the case at its next version with `drafts` appended to its chain, and the other `parts`."""
        records = seal(case.id, case.head, drafts, now, self.home.version)
        stored = case.model_copy(
            update={
                "version": case.version + 1,
                "updated_at": now,
                "head": records[-1].head if records else case.head,
            }
        )
        self.cases.commit(Change(case=stored, records=records, **parts))
        return stored

    def _not_ours(self, event: NotOurs) -> Walked:
        now = self.clock.now()
        draft = record.not_ours(event, now)
        name = (
            event.event_id if len(event.event_id) <= EVENT_ID and event.event_id.isascii() else event.sha256
        )
        (sealed,) = seal(f"EVENT#{name}", Head(), (draft,), now, self.home.version)
        self.cases.note(sealed)
        return Walked(
            event_id=event.event_id,
            verdict="not_ours",
            rule="not ours",
            reason=event.reason,
            account=event.account,
            region=event.region,
        )

    def _visits(self, signal: Signal, found: tuple[Finding, ...]) -> list[Visit]:
        """Findings of one event, grouped by the remediation and the target that they share."""
        grouped: dict[tuple[str, Target], list[Finding]] = {}
        for finding in found:
            remediation = self.remediations.get(finding.control)
            if remediation:
                grouped.setdefault((remediation.id, finding.target), []).append(finding)
        return [
            Visit(
                key=signal.event_id,
                signal=signal,
                remediation=self.remediations[group[0].control],
                target=target,
                controls=tuple(self.controls[finding.control] for finding in group),
                opened=tuple(sorted({rule for finding in group for rule in finding.opened})),
                own=self.home.own_role(signal.actor.role_arn, signal.account),
            )
            for (_, target), group in grouped.items()
        ]


_STATE_OF: Mapping[Verdict, CaseState] = MappingProxyType(
    {
        Verdict.IGNORE: CaseState.CLOSED,
        Verdict.OBSERVE: CaseState.OPEN,
        Verdict.TICKET: CaseState.TICKETED,
        Verdict.ASK: CaseState.WAITING,
    }
)

_NEEDS_A_PERSON = frozenset({Verdict.TICKET, Verdict.ASK})


def within(run: Run) -> Cause:
    """The run's cause, as a plan made during the run sees it: what was there before the run is known."""
    return run.cause.model_copy(update={"acted_at": run.started_at, "acted_before": run.before})


def hash_of(plan: Plan, target: Target, params: Params, controls: Iterable[Control]) -> str:
    """What an approval of the plan is bound to."""
    return plan_hash(plan, target, params, {control.id: control.version for control in controls})


def _for_nobody(why: str) -> Decision:
    """What becomes of an ask that nobody may approve: it must not look as if it waited for somebody."""
    return Decision(verdict=Verdict.TICKET, rule="nobody may approve", reason=why)


def _found(decision: Decision, hashed: str) -> str:
    """A digest of what was found: two looks with the same one say the same."""
    return digest(decision.verdict.value, decision.rule, decision.reason, hashed)


def _rest(visit: Visit, controls: tuple[Control, ...]) -> Visit | None:
    """The controls of a visit that have a lower mode, as a visit of their own with a key of its own."""
    if not controls:
        return None
    names = "+".join(sorted(control.id for control in controls))
    return replace(visit, key=f"{visit.signal.event_id}{REST}{names}", controls=controls)


def _covering(case: Case, visit: Visit) -> Case:
    """The case with the visit's controls among its own; what was at rest for them is open again."""
    at_rest = {name: CaseState.OPEN for name in visit.ids if case.standing.get(name, CaseState.CLOSED).ended}
    return case.model_copy(
        update={
            "controls": tuple(sorted({*case.controls, *visit.ids})),
            "standing": {**case.standing, **at_rest},
        }
    )


def _outcome_of(decision: Decision) -> Outcome | None:
    """What is known of the target where nothing is to be done; where something is, there is no outcome yet."""
    return Outcome.ALREADY_COMPLIANT if decision.verdict is Verdict.IGNORE else None


def _stood_back(step: Step, decision: Decision, found: str, state: State | None, hashed: str) -> Case:
    """The case as a look leaves it that changes nothing: what was seen, what was decided, and what goes on being asked."""
    known = step.visit.by_itself and (step.baseline or {*step.ids} <= {*step.case.inherited})
    ask, where = _kept_ask(step, decision), step.case.where(step.ids, _STATE_OF[decision.verdict])
    if ask and ask.undo:
        where = {}  # nothing new about the target, and whether to undo is still to be decided
    return step.case.model_copy(
        update={
            **where,
            "assessed": step.case.generation,
            "decision": decision.verdict.value,
            "reason": decision.reason,
            "outcome": _outcome_of(decision),
            "plan_hash": hashed,
            "last_state": state.model_dump(mode="json") if state else None,
            "inherited": _also(step, known=known and decision.verdict is not Verdict.IGNORE),
            "found": {**step.case.found, **dict.fromkeys(step.ids, found)},
            "wakes_at": _wakes_at(step.case),
            "ask": ask,
        }
    )


def _told_of_it(
    step: Step,
    case: Case,
    decision: Decision,
    state: State | None,
    plan: Plan | None,
    hashed: str,
    now: datetime,
) -> tuple[list[Draft], list[Notice]]:
    """What goes on record of such a look, and who is told: also that what a person approved is not what is needed now."""
    visit, approval = step.visit, step.visit.approval
    modes = dict.fromkeys(step.ids, step.mode.value)
    drafts = [
        *step.drafts,
        record.decided(case, visit.key, now, decision, modes, plan=plan, plan_hash=hashed, state=state),
    ]
    notices = [*_own_notices(visit, case, now)]
    if approval and plan and not plan.satisfied and hashed != approval.ask.plan_hash:
        stale = RecordType.STALE
        drafts.append(record.about_ask(case, approval.ask, stale, now, decision.reason, found=hashed))
        notices.append(notify.about_ask(case, approval.ask, "stale", now, decision.reason))
    return drafts, notices


def _kept_ask(step: Step, decision: Decision, decided: Iterable[str] = ()) -> Ask | None:
    """What goes on being asked, whatever is decided now: about other controls, or whether to undo what is as we left it."""
    ask = step.case.ask
    if ask is None:
        return None
    if ask.undo:
        return ask if decision.rule == "compliant" else None
    return None if {*ask.controls} & {*step.ids, *decided} else ask


def _kept(previous: Case, now: datetime) -> dict[str, Any]:
    """What the next episode knows of the one before.

    Who had a hand in what was not repaired, what is still exempt for other controls, and what an open ticket is about.
    """
    ticket, asleep = previous.ticket, previous.wakes_at is not None and now < previous.wakes_at
    standing = dict.fromkeys(ticket.controls if ticket and ticket.is_open else (), CaseState.TICKETED)
    if asleep:
        standing |= {name: one for name, one in previous.standing.items() if one is CaseState.EXEMPT}
    return {
        "version": previous.version,
        "last_state": previous.last_state,
        "owner": previous.owner,
        "acted_at": previous.acted_at,
        "acted_before": previous.acted_before,
        "ticket": ticket,
        "denied": previous.denied,
        "sessions": previous.sessions,
        "actors": () if previous.state is CaseState.CLOSED else previous.actors,
        "wakes_at": previous.wakes_at if asleep else None,
        "standing": standing,
    }


def _inherited(visit: Visit, case: Case | None) -> frozenset[str]:
    """The controls of which people know that they fail, and which nobody has asked about."""
    return frozenset(case.inherited if case and visit.by_itself and not case.state.ended else ())


def _also(step: Step, *, known: bool) -> tuple[str, ...]:
    """The case's inherited controls, with this step's among them or not."""
    others = {*step.case.inherited} - {*step.ids}
    return tuple(sorted({*others, *(step.ids if known else ())}))


def _wakes_at(case: Case) -> datetime | None:
    """When the case is to be looked at again: as long as some control of it is exempt."""
    return case.wakes_at if CaseState.EXEMPT in case.standing.values() else None


def _own_drafts(visit: Visit, case: Case) -> list[Draft]:
    """One of our own roles made the change, and no run of ours explains it."""
    return [record.tamper(visit.signal, case, visit.key)] if visit.own else []


def _own_notices(visit: Visit, case: Case, now: datetime) -> tuple[Notice, ...]:
    return (notify.tamper(case, visit.signal, now),) if visit.own else ()


def _no(signal: Signal, reason: str) -> NotOurs:
    return NotOurs(
        event_id=signal.event_id,
        reason=reason,
        account=signal.account,
        region=signal.region,
        name=signal.name,
        sha256=signal.sha256,
    )
