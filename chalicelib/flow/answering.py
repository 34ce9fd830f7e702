"""Answering: what a person may say to an ask, checked in one place, whichever way the answer came.

Every front door (the command line, the console, Slack) calls `answer`, and none decides anything itself. An answer is one
transaction: the answers, their record, and the errand that makes the engine read them. It starts nothing by itself: the
engine reads the answers again, plans again, and acts only on the same plan. A refusal is told, and is a record too.
"""

import unicodedata
from dataclasses import dataclass
from typing import Annotated, NoReturn, Protocol

from pydantic import AfterValidator, JsonValue, StringConstraints

from chalicelib.domain.approval import Answer, Answers, Ask, barred, principal
from chalicelib.domain.case import Case, CaseState, parts_of
from chalicelib.domain.errors import ConflictError, RefusedCommandError
from chalicelib.domain.finding import GLOBAL, Actor, Model
from chalicelib.domain.ports import AnswerChange, Clock
from chalicelib.domain.record import Draft, Head, Record, RecordType, seal, stamp
from chalicelib.flow import errand

ATTEMPTS = 5
"""How often an answer is tried while others answer, or the engine moves the case on."""

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
    """A person's answer: to which case, yes or no, why, and the hash of the plan that was before this person's eyes."""

    case: CaseId
    plan_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    approve: bool
    reason: Line


@dataclass(frozen=True)
class Who:
    """Whoever answers, as the front door authenticated it. `known` is true only where the name is a person's."""

    arn: str
    known: bool
    actor: Actor
    request_id: str


class Asks(Protocol):
    """What answering needs of the store: a part of `ports.Settings`."""

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name."""
        ...

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask, read consistently."""
        ...

    def answer(self, change: AnswerChange) -> None:
        """All of it or none; ConflictError when the ask is no longer what it was, or somebody answered meanwhile."""
        ...

    def note(self, record: Record) -> bool:
        """A chain of one record; False when it already stands."""
        ...


def answer(said: Said, who: Who, store: Asks, clock: Clock, *, home: str, engine: str) -> tuple[str, Record]:
    """What was decided, in a sentence, and its record. RefusedCommandError says why not, and that is on record as well.

    StoreError, and nothing was decided, when the tables cannot be read or written; ConflictError when others were
    quicker again and again. `home` is the account in whose name it is recorded that somebody answered to no case of ours.
    """
    desk = _Desk(said, who, store, clock, home, engine)
    for attempt in range(ATTEMPTS):
        try:
            return desk.decide()
        except ConflictError:
            clock.sleep(0.05 * 2**attempt)
    message = f"case {said.case} is being changed by others right now; nothing was decided, try again"
    raise ConflictError(message)


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
        if not self.who.known:
            self._refuse(
                None,
                f"answering is for a named person, and {self.who.arn} may be anybody: log in through Identity Center, "
                "or as an IAM user, and try again",
            )
        found = parts_of(self.said.case)
        case = self.store.case(*found) if found else None
        if case is None:
            self._refuse(None, f"there is no case {self.said.case}; `redress waiting` lists what waits")
        ask, answers = self._open(case)
        now = self.clock.now()
        if not ask.open(now):
            self._refuse(
                case,
                f"the ask expired at {stamp(ask.expires_at)}, and nothing was changed; `redress case {case.id}` shows "
                "what became of it",
            )
        if self.said.plan_hash != ask.plan_hash:
            self._refuse(
                case,
                f"the plan changed since you looked: look again with `redress plan {case.id}`, then answer",
            )
        person = principal(self.who.arn)
        if self.said.approve and barred(ask, self.who.arn):
            self._refuse(
                case,
                "who made the change, wants it taken back or would own the exemption does not approve it: ask somebody "
                "else. To deny it is yours too",
            )
        given = Answer(
            by=self.who.arn,
            principal=person,
            at=now,
            approve=self.said.approve,
            reason=self.said.reason,
            request_id=self.who.request_id,
        )
        after = answers.plus(given)
        data: dict[str, JsonValue] = {"ask": ask.seq, "kind": ask.kind.value, "principal": person}
        draft = self._draft(RecordType.ANSWERED, "answer", case, data)
        (record,) = seal(f"ANSWER#{case.id}#{ask.seq}", Head(), (draft,), now, self.engine)
        name = f"ANSWER#{case.id}#{ask.seq}#{after.version}"
        notice = errand.notice(errand.Answered(case=case.id, ask=ask.seq), name, case.id, now)
        self.store.answer(
            AnswerChange(case=case.id, ask=ask, at=now, answers=after, record=record, notice=notice)
        )
        return _taken(case, ask, approve=given.approve), record

    def _open(self, case: Case) -> tuple[Ask, Answers]:
        """The ask that is open, and the answers so far, of which none has decided."""
        seq = case.ask.seq if case.ask else case.asks
        answers = self.store.answers(case.id, seq) if seq else None
        decided = answers.decided_by if answers else None
        if decided:
            did = "approved" if decided.approve else "denied"
            self._refuse(
                case, f"{decided.by} {did} it already, at {stamp(decided.at)}, because: {decided.reason}"
            )
        if case.ask is None or case.state is not CaseState.WAITING:
            self._refuse(case, f"nobody is asked about case {case.id} now: it is {case.state.value}")
        return case.ask, answers or Answers(case=case.id, ask=seq, plan_hash=case.ask.plan_hash)

    def _refuse(self, case: Case | None, why: str) -> NoReturn:
        """Put the refusal on record, then tell it; StoreError when it cannot be put there."""
        chain = f"ANSWER#REFUSED#{self.who.request_id}"
        draft = self._draft(RecordType.ANSWER_REFUSED, "refused", case, {"refused": why})
        (record,) = seal(chain, Head(), (draft,), self.clock.now(), self.engine)
        self.store.note(record)
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
                "by": {"arn": self.who.arn, "known": self.who.known},
                "case": self.said.case,
                "approve": self.said.approve,
                "plan_hash": self.said.plan_hash,
                "reason": self.said.reason,
                **data,
            },
        )


def _taken(case: Case, ask: Ask, *, approve: bool) -> str:
    wanted = "the undo" if ask.undo else "the change"
    if not approve:
        return f"{wanted} of {case.target.resource} is denied; nothing is changed"
    return f"{wanted} of {case.target.resource} is approved; it is made if the resource still needs exactly this plan"
