"""Answering: what a person may say to an ask, checked in one place, whichever way the answer came.

Every front door (the command line, the console, Slack) calls `answer`, and none decides anything itself. Who may say
what, and how many must agree, is the policy's matter. An answer is one
transaction: the answers, their record, and the errand that makes the engine read them. It starts nothing by itself: the
engine reads the answers again, plans again, and acts only on the same plan. A refusal is told, and is a record too.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, NoReturn, Protocol, Self, TypeVar

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from chalicelib.domain.approval import Answer, Answers, Ask, Door
from chalicelib.domain.case import Case, CaseState, parts_of
from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError
from chalicelib.domain.finding import GLOBAL, Actor, Model
from chalicelib.domain.policy import (
    WEAK_DOORS,
    About,
    Consent,
    Policy,
    PolicySetting,
    about_of,
    consent,
    policy_in,
    principal_of,
    problem_with,
)
from chalicelib.domain.ports import AnswerChange, Clock
from chalicelib.domain.record import Draft, Head, Record, RecordType, seal, stamp
from chalicelib.flow import errand

T = TypeVar("T")

ATTEMPTS = 5
"""How often an answer or a command is tried while others, or the engine, change the same things."""

MOST_CHANGES_OF_MIND = 10
"""How often one person approves one ask: the answers lie in one item, and nobody fills it up so that others cannot answer."""

LONGEST_TEXT = 500
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _one_line(text: str) -> str:
    """Text that looks on every screen like what it is; a reason is read by auditors years later."""
    text = text.strip()
    if not 1 <= len(text) <= LONGEST_TEXT:
        message = f"must have 1 to {LONGEST_TEXT} characters"
        raise ValueError(message)
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _DIRECTION_MARKS for c in text):
        message = "must be one line without control characters or direction marks"
        raise ValueError(message)
    return text


def _case_id(text: str) -> str:
    """A case's whole id: a digest alone may mean another episode tomorrow."""
    if parts_of(text) is None:
        message = "must be a case's whole id, as `redress cases` shows it"
        raise ValueError(message)
    return text


Line = Annotated[str, AfterValidator(_one_line)]
CaseId = Annotated[str, AfterValidator(_case_id)]


class Said(Model):
    """A person's answer: to which ask of which case, yes or no, why, and the hash of the plan that this person saw.

    The hash says nothing of an undo's terms, and an ask that is over may be followed by one with the same plan: hence
    the ask's number.

    With `withdraw`, an approval that has not decided yet is taken back. With `break_glass`, an approval decides alone,
    where the policy lets this person, and everybody is told.
    """

    case: CaseId
    ask: int = Field(ge=1)
    plan_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    approve: bool
    reason: Line
    withdraw: bool = False
    break_glass: bool = False

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.withdraw or self.break_glass) and (self.withdraw == self.break_glass or not self.approve):
            message = "withdraw takes back an approval, break_glass gives one: not both, and with approve"
            raise ValueError(message)
        return self


@dataclass(frozen=True)
class Who:
    """Whoever answers, as the front door authenticated it. `barred` says why they decide nothing, whatever they are asked.

    It is empty only where the identity is one person's. `logged_in_at` and `mfa` are what the sign-in told of itself, where
    there was one.
    """

    identity: str
    barred: str
    actor: Actor
    request_id: str
    door: Door = Door.CLI
    logged_in_at: datetime | None = None
    mfa: bool = False


class Notes(Protocol):
    """What putting one thing on record needs of the store."""

    def note(self, record: Record) -> bool:
        """A chain of one record; False when it already stands."""
        ...


class Asks(Notes, Protocol):
    """What answering needs of the store: a part of `ports.Settings`."""

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name."""
        ...

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask, read consistently."""
        ...

    def policy(self) -> PolicySetting | None:
        """The policy that stands, read consistently."""
        ...

    def answer(self, change: AnswerChange) -> None:
        """All of it or none; ConflictError when the ask is no longer what it was, or somebody answered meanwhile."""
        ...


def put_on_record(notes: Notes, record: Record) -> None:
    """The record stands, alone in its chain; StoreError when it cannot be written, or another stands in its place."""
    if not notes.note(record):
        raise StoreError(f"{record.chain} stands already, so this cannot be put on record")


def answer(said: Said, who: Who, store: Asks, clock: Clock, *, home: str, engine: str) -> tuple[str, Record]:
    """What was decided, in a sentence, and its record. RefusedCommandError says why not, and that is on record as well.

    StoreError, and nothing was decided, when the tables cannot be read or written; ConflictError when others were
    quicker again and again and have not decided it either. `home` is the account in whose name it is recorded that
    somebody answered to no case of ours.
    """
    desk = _Desk(said, who, store, clock, home, engine)
    busy = f"case {said.case} is being changed by others right now; nothing was decided, try again"
    try:
        return again(desk.decide, clock, busy)
    except ConflictError:
        desk.look()
        raise


def again(do: Callable[[], T], clock: Clock, busy: str) -> T:
    """What `do` gives, tried again a little later each time while others are quicker; ConflictError says `busy` in the end."""
    for attempt in range(ATTEMPTS):
        try:
            return do()
        except ConflictError:
            clock.sleep(0.05 * 2**attempt)
    raise ConflictError(busy)


@dataclass(frozen=True)
class _Desk:
    """One answer on its way through the checks."""

    said: Said
    who: Who
    store: Asks
    clock: Clock
    home: str
    engine: str

    def decide(self) -> tuple[str, Record]:
        """Read what stands, check in order, write all or nothing."""
        case, policy = self._case(), policy_in(self.store)
        ask, answers, about = self._open(case, policy)
        given = self._given(policy, self.clock.now())
        problem = (
            self._too_late(case, ask, given.at)
            or _nothing_to_add(answers, given)
            or problem_with(policy, about, ask, given)
        )
        if problem:
            self._refuse(case, problem)
        after, record = self._written(case, ask, answers, given)
        return _taken(case, ask, given, consent(policy, about, ask, after)), record

    def look(self) -> None:
        """Refuse, on record, when the ask is over: whoever lost to others again and again learns who decided."""
        self._open(self._case(), policy_in(self.store))

    def _case(self) -> Case:
        """The case that was answered to. Who decides nothing is refused before it is said whether there is one."""
        found = parts_of(self.said.case)
        case = self.store.case(*found) if found else None
        if self.who.barred:
            self._refuse(case, self.who.barred)
        if case is None:
            self._refuse(None, f"there is no case {self.said.case}; `redress waiting` lists what waits")
        return case

    def _open(self, case: Case, policy: Policy | None) -> tuple[Ask, Answers, About]:
        """The ask that is open, the answers so far, which have not decided, and what it is about."""
        seq = case.ask.seq if case.ask else case.asks
        answers = self.store.answers(case.id, seq) if seq else None
        if case.ask is None or case.state is not CaseState.WAITING:
            last = answers.answers[-1] if answers and answers.answers else None
            self._refuse(
                case,
                decided(last)
                if last
                else f"nobody is asked about case {case.id} now: it is {case.state.value}",
            )
        ask, about = case.ask, about_of(case.ask, case.target.account, case.owner)
        amounts = consent(policy, about, ask, answers)
        if amounts.state != "open":
            self._refuse(case, decided(amounts.by[-1]))
        return ask, answers or Answers(case=case.id, ask=seq, plan_hash=ask.plan_hash), about

    def _given(self, policy: Policy | None, now: datetime) -> Answer:
        """What was said, by whom, as it counts."""
        return Answer(
            by=self.who.identity,
            principal=principal_of(policy, self.who.identity),
            at=now,
            approve=self.said.approve,
            reason=self.said.reason,
            request_id=self.who.request_id,
            door=self.who.door,
            logged_in_at=self.who.logged_in_at,
            mfa=self.who.mfa,
            withdrawn=self.said.withdraw,
            break_glass=self.said.break_glass,
        )

    def _too_late(self, case: Case, ask: Ask, now: datetime) -> str:
        """Why what was answered is not, or no longer, what is asked; empty when it is."""
        if not ask.open(now):
            return (
                f"the ask expired at {stamp(ask.expires_at)}, and nothing was changed; `redress case {case.id}` shows "
                "what became of it"
            )
        if self.said.plan_hash != ask.plan_hash:
            return f"the plan changed since you looked: look again with `redress plan {case.id}`, then answer"
        if self.said.ask != ask.seq:
            return f"that ask is over, and another one waits: look again with `redress plan {case.id}`, then answer"
        return ""

    def _written(self, case: Case, ask: Ask, answers: Answers, given: Answer) -> tuple[Answers, Record]:
        """The answers with this one, its record, and the errand that makes the engine read them: all or nothing."""
        data: dict[str, JsonValue] = {
            "kind": ask.kind.value,
            "principal": given.principal,
            "door": given.door.value,
            "logged_in_at": stamp(given.logged_in_at) if given.logged_in_at else None,
            "mfa": given.mfa,
        }
        draft = self._draft(_TYPES[given.withdrawn, given.break_glass], "answer", case, data)
        chain = f"ANSWER#{case.id}#{ask.seq}"
        (record,) = seal(chain, answers.head, (draft,), given.at, self.engine)
        after = answers.plus(given, record.head)
        name = f"{chain}#{after.version}"
        notice = errand.notice(errand.Answered(case=case.id, ask=ask.seq), name, case.id, given.at)
        self.store.answer(
            AnswerChange(case=case.id, ask=ask, at=given.at, answers=after, record=record, notice=notice)
        )
        return after, record

    def _refuse(self, case: Case | None, why: str) -> NoReturn:
        """Put the refusal on record, then tell it; StoreError when it cannot be put there."""
        chain = f"ANSWER#REFUSED#{self.who.request_id}"
        draft = self._draft(RecordType.ANSWER_REFUSED, "refused", case, {"refused": why})
        (record,) = seal(chain, Head(), (draft,), self.clock.now(), self.engine)
        put_on_record(self.store, record)
        raise RefusedCommandError(why)

    def _draft(self, kind: RecordType, step: str, case: Case | None, data: dict[str, JsonValue]) -> Draft:
        return Draft(
            type=kind,
            source_id=f"answer:{self.who.request_id}",
            step=step,
            occurred_at=self.clock.now(),
            account=case.target.account if case else self.home,
            region=case.target.region if case else GLOBAL,
            resource=case.target.resource if case else "",
            controls=(case.ask.controls if case.ask else case.controls) if case else (),
            actor=self.who.actor,
            data={
                "by": {"arn": self.who.identity, "known": not self.who.barred},
                "case": self.said.case,
                "ask": self.said.ask,
                "approve": self.said.approve,
                "plan_hash": self.said.plan_hash,
                "reason": self.said.reason,
                **data,
            },
        )


_TYPES = MappingProxyType(
    {
        (False, False): RecordType.ANSWERED,
        (True, False): RecordType.WITHDRAWN,
        (False, True): RecordType.BREAK_GLASS,
    }
)
"""What an answer is recorded as: by whether it takes one back, and whether it breaks the glass."""


def _nothing_to_add(answers: Answers, given: Answer) -> str:
    """Why this answer says nothing new: a person counts once, and takes back only what they gave."""
    mine = [one for one in answers.answers if one.principal == given.principal]
    stands = bool(mine) and not mine[-1].withdrawn
    if given.withdrawn:
        return "" if stands else "you have not approved it, so there is nothing to take back"
    if given.door in WEAK_DOORS and given.approve and mine and mine[-1].withdrawn:
        # Slack's signature holds for five minutes: the press that was taken back could be sent again by who recorded it.
        return "you took it back; a button does not approve it again, the link on the card does"
    if stands and given.approve and not given.break_glass:
        return f"you approved it already, at {stamp(mine[-1].at)}; somebody else has to as well"
    if given.approve and not given.break_glass and sum(one.withdrawn for one in mine) >= MOST_CHANGES_OF_MIND:
        return "you took it back too often: deny it, or leave it to others"
    return ""


def decided(last: Answer) -> str:
    """Who decided, when and why, in a sentence."""
    did = "approved" if last.approve else "denied"
    return f"{last.by} {did} it already, at {stamp(last.at)}, because: {last.reason}"


def _taken(case: Case, ask: Ask, given: Answer, amounts: Consent) -> str:
    wanted = f"{'the undo' if ask.undo else 'the change'} of {case.target.resource}"
    if not given.approve:
        return f"{wanted} is denied; nothing is changed"
    if given.withdrawn:
        return f"your approval of {wanted} is taken back; {len(amounts.by)} of {amounts.needs} approved"
    if amounts.state == "open":
        return f"you approved {wanted}, as {len(amounts.by)} of {amounts.needs}; nothing is changed until the others have"
    return f"{wanted} is approved; it is made if the resource still needs exactly this plan"
