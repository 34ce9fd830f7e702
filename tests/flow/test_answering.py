"""The one answer function: who may say what, until when, to which plan, and that of many only one decides."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Barrier

import pytest
from pydantic import ValidationError

from chalicelib.domain.approval import EXPIRES_AFTER, Answers, Ask, Kind, Undone
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import NOTHING_TO_DO
from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError
from chalicelib.domain.finding import GLOBAL, Actor, Target
from chalicelib.domain.ports import AnswerChange, Change
from chalicelib.domain.record import Head, Record, RecordType, broken_at
from chalicelib.flow import errand
from chalicelib.flow.answering import ATTEMPTS, Said, Who, answer
from tests.fakes.cases import HOME, FakeCases
from tests.fakes.clock import START, FakeClock

MEMBER = "444455556666"
DIGEST = "abcdefghijklmnopqrst"
NAME = f"{DIGEST}-1"
HASH = "f" * 64
JANE = f"arn:aws:iam::{MEMBER}:user/jane"
MALLORY = f"arn:aws:iam::{MEMBER}:user/mallory"
SSO = f"arn:aws:sts::{MEMBER}:assumed-role/AWSReservedSSO_{{}}_0123456789abcdef/{{}}"
GROUP = Target(account=MEMBER, region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-0a1b2c3d")
EXPIRES = START + EXPIRES_AFTER

ASK = Ask(
    seq=2,
    controls=("ec2-open-ssh",),
    asked_at=START,
    expires_at=EXPIRES,
    plan=NOTHING_TO_DO,
    plan_hash=HASH,
    before={"open": ["sgr-1"]},
    requesters=(MALLORY,),
    reason="part of the plan may cut access",
)
UNDO = Undone(run=1, by=SSO.format("Admin", "Olga@example.com"), reason="r", owner="o", until=EXPIRES)


def a_case(ask: Ask | None = ASK, state: CaseState = CaseState.WAITING, **changes: object) -> Case:
    case = Case(
        digest=DIGEST,
        episode=1,
        remediation="ec2_close_ssh",
        target=GROUP,
        state=state,
        controls=("ec2-open-rdp", "ec2-open-ssh"),
        generation=1,
        version=1,
        opened_at=START,
        updated_at=START,
        ask=ask,
        asks=2,
    )
    return case.model_copy(update=changes)


@dataclass
class Desk:
    """The answer function on the fake store; `by` and `at` may change from one answer to the next."""

    store: FakeCases = field(default_factory=FakeCases)
    clock: FakeClock = field(default_factory=FakeClock)
    requests: int = 0

    def stands(self, case: Case) -> None:
        """What the engine left behind."""
        self.store.commit(Change(case=case))

    def hears(
        self,
        by: str = JANE,
        *,
        approve: bool = True,
        plan_hash: str = HASH,
        case: str = NAME,
        ask: int = 2,
        barred: str = "",
        store: FakeCases | None = None,
    ) -> tuple[str, Record]:
        self.requests += 1
        who = Who(by, barred, Actor(type="IAMUser", arn=by), f"req-{self.requests}")
        said = Said(case=case, ask=ask, plan_hash=plan_hash, approve=approve, reason="looked at it")
        return answer(said, who, store or self.store, self.clock, home=HOME, engine="0.1.0")

    @property
    def types(self) -> list[RecordType]:
        return [record.draft.type for record in self.store.records]

    @property
    def stored(self) -> Answers | None:
        return self.store.answers_of(a_case())


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.stands(a_case())
    return desk


# ------------------------------------------------------------------------------------------------- what an answer leaves


@pytest.mark.parametrize("approve", [True, False])
def test_an_answer_stands_with_its_record_and_its_errand(desk: Desk, approve: bool) -> None:
    desk.clock.advance(timedelta(hours=1))
    says, record = desk.hears(approve=approve)
    assert ("approved" if approve else "denied") in says
    assert GROUP.resource in says
    stored = desk.stored
    assert stored is not None
    (given,) = stored.answers
    assert (stored.version, stored.ask, stored.plan_hash) == (1, 2, HASH)
    assert (given.by, given.principal, given.at) == (JANE, JANE.lower(), desk.clock.now())
    assert (given.approve, given.reason, given.request_id) == (approve, "looked at it", "req-1")
    assert (record.chain, record.seq) == (f"ANSWER#{NAME}#2", 1)
    assert broken_at([(record.body, record.hash)], record.head, record.chain) is None
    draft = record.draft
    assert (draft.type, draft.account, draft.region) == (RecordType.ANSWERED, MEMBER, "eu-central-1")
    assert (draft.resource, draft.controls) == (GROUP.resource, ("ec2-open-ssh",))
    assert draft.data == {
        "by": {"arn": JANE, "known": True},
        "case": NAME,
        "approve": approve,
        "plan_hash": HASH,
        "reason": "looked at it",
        "ask": 2,
        "kind": "remediation",
        "principal": JANE.lower(),
        "door": "cli",
        "logged_in_at": None,
        "mfa": False,
    }
    (notice,) = desk.store.notices
    assert (notice.kind, notice.case) == (errand.NOTICE, NAME)
    assert errand.ERRAND.validate_json(json.dumps(notice.body)) == errand.Answered(case=NAME, ask=2)
    assert desk.types == [RecordType.ANSWERED]


# ---------------------------------------------------------------------------------------------------- what is refused


def archived(desk: Desk) -> None:
    ended = a_case(None, CaseState.CLOSED, version=2)
    following = a_case(ASK.model_copy(update={"seq": 1}), episode=2, asks=1, version=2)
    desk.store.commit(Change(case=following, archive=ended))


REFUSALS: list[tuple[str, Callable[[Desk], object], dict[str, object], str]] = [
    ("whoever it is decides nothing", lambda _: None, {"barred": "a guest decides nothing"}, "^a guest decides nothing$"),
    ("nor hears of the case", lambda _: None, {"barred": "a bot", "case": f"{DIGEST}-7"}, "^a bot$"),
    ("nor of what became of it", lambda d: d.clock.set(EXPIRES), {"barred": "a bot"}, "^a bot$"),
    ("no such case", lambda _: None, {"case": "b" * 20 + "-1"}, "there is no case b{20}-1; `redress waiting`"),
    ("no such episode", lambda _: None, {"case": f"{DIGEST}-7"}, f"there is no case {DIGEST}-7"),
    ("closed", lambda d: d.stands(a_case(None, CaseState.CLOSED, version=2)), {}, "nobody is asked .* closed"),
    ("never asked", lambda d: d.stands(a_case(None, CaseState.OPEN, asks=0, version=2)), {}, "it is open"),
    ("its run is under way", lambda d: d.stands(a_case(ASK, CaseState.RUNNING, version=2)), {}, "is running"),
    ("another episode has begun", archived, {}, "nobody is asked about case .*-1 now: it is closed"),
    ("expired", lambda d: d.clock.set(EXPIRES), {}, r"expired at 2026-08-03T20:00:00\.000Z, and nothing was changed"),
    ("another plan", lambda _: None, {"plan_hash": "e" * 64}, "the plan changed since you looked: look again"),
    ("another ask", lambda _: None, {"ask": 1}, "that ask is over, and another one waits: look again"),
    ("own change", lambda _: None, {"by": MALLORY}, "you made the change .*, so you cannot approve it: ask somebody else; you may deny it"),
]  # fmt: skip


@pytest.mark.parametrize(
    "before, arguments, says", [row[1:] for row in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_a_refusal_is_told_plainly_and_recorded_once(
    desk: Desk, before: Callable[[Desk], object], arguments: dict[str, object], says: str
) -> None:
    before(desk)
    with pytest.raises(RefusedCommandError, match=says) as refused:
        desk.hears(**arguments)  # type: ignore[arg-type]  # the table's own columns
    (record,) = desk.store.records
    assert (record.chain, record.draft.type) == ("ANSWER#REFUSED#req-1", RecordType.ANSWER_REFUSED)
    assert record.draft.data["refused"] == str(refused.value)
    assert record.draft.data["reason"] == "looked at it"
    assert broken_at([(record.body, record.hash)], record.head, record.chain) is None
    assert desk.stored is None
    assert desk.store.notices == ()


def test_a_refusal_without_a_case_stands_in_the_home_account(desk: Desk) -> None:
    for barred in ("a bot", ""):
        with pytest.raises(RefusedCommandError):
            desk.hears(barred=barred, case=f"{DIGEST}-7")
    for record in desk.store.records:
        assert (record.draft.account, record.draft.region, record.draft.resource) == (HOME, GLOBAL, "")


def test_whoever_decides_nothing_is_on_record_with_what_they_tried_to_decide(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError):
        desk.hears(barred="a bot decides nothing")
    (record,) = desk.store.records
    assert (record.draft.account, record.draft.resource) == (MEMBER, GROUP.resource)
    assert record.draft.data["by"] == {"arn": JANE, "known": False}


@pytest.mark.parametrize(
    "offset, taken",
    [
        (timedelta(milliseconds=-1), True),
        (timedelta(), False),
        (timedelta(milliseconds=1), False),
        (timedelta(seconds=1), False),
    ],
)
def test_an_ask_ends_to_the_millisecond_though_the_case_still_waits(
    desk: Desk, offset: timedelta, taken: bool
) -> None:
    desk.clock.set(EXPIRES + offset)
    if taken:
        desk.hears()
    else:
        with pytest.raises(RefusedCommandError, match="expired"):
            desk.hears()
    assert (desk.stored is not None) is taken


def test_an_ask_that_ends_while_its_answer_is_written_is_over(desk: Desk) -> None:
    """The store compares milliseconds: within the last one the write is refused, and looked at again it has expired."""
    ends = EXPIRES + timedelta(microseconds=456)
    desk.stands(a_case(ASK.model_copy(update={"expires_at": ends}), version=2))
    desk.clock.set(ends - timedelta(microseconds=300))
    with pytest.raises(RefusedCommandError, match="expired"):
        desk.hears()
    assert desk.stored is None


# ------------------------------------------------------------------------------------------------------ who is who


@pytest.mark.parametrize(
    "requester, approver, same",
    [
        (MALLORY, MALLORY, True),
        (MALLORY, MALLORY.upper(), True),
        (SSO.format("Admin", "jane@example.com"), SSO.format("ReadOnly", "jane@example.com"), True),
        (SSO.format("Admin", "Jane@Example.com"), SSO.format("Admin", "jane@example.com"), True),
        (SSO.format("Admin", "jane@example.com"), SSO.format("Admin", "john@example.com"), False),
        (MALLORY, JANE, False),
    ],
)
def test_nobody_approves_what_he_did_himself_under_whichever_role(
    requester: str, approver: str, same: bool
) -> None:
    from chalicelib.domain.approval import principals

    desk, did = Desk(), principals(Actor(type="any", arn=requester))
    desk.stands(a_case(ASK.model_copy(update={"requesters": did})))
    if same:
        with pytest.raises(RefusedCommandError, match="so you cannot approve it"):
            desk.hears(approver)
        assert desk.stored is None
    desk.hears(approver, approve=not same)
    assert desk.stored is not None


def test_who_wants_an_undo_does_not_approve_it_and_may_deny_it(desk: Desk) -> None:
    undo = ASK.model_copy(update={"kind": Kind.UNDO, "undo": UNDO, "requesters": ()})
    desk.stands(a_case(undo, version=2))
    again = SSO.format("ReadOnly", "olga@example.com")
    with pytest.raises(RefusedCommandError, match="you wanted it taken back"):
        desk.hears(again)
    says, _ = desk.hears(again, approve=False)
    assert says == f"the undo of {GROUP.resource} is denied; nothing is changed"


# --------------------------------------------------------------------------------------------------- two at a time


@pytest.mark.parametrize("first, did", [(True, "approved"), (False, "denied")])
def test_who_comes_second_is_told_who_decided_what_and_when(desk: Desk, first: bool, did: str) -> None:
    desk.hears(approve=first)
    desk.clock.advance(seconds=5)
    with pytest.raises(
        RefusedCommandError, match=f"{JANE} {did} it already, at 2026-08-03T12:00:00.000Z, because: looked"
    ):
        desk.hears(MALLORY, approve=False)
    assert desk.types == [RecordType.ANSWERED, RecordType.ANSWER_REFUSED]
    assert len(desk.store.notices) == 1


def test_who_comes_after_the_end_is_still_told_who_decided(desk: Desk) -> None:
    desk.hears(approve=False)
    desk.stands(a_case(None, CaseState.DENIED, version=2))
    desk.clock.set(EXPIRES + timedelta(days=1))
    with pytest.raises(RefusedCommandError, match="jane denied it already"):
        desk.hears(MALLORY)


def test_an_answer_to_the_ask_before_decides_nothing_about_this_one(desk: Desk) -> None:
    desk.hears(approve=False)
    desk.stands(a_case(ASK.model_copy(update={"seq": 3, "again": True}), asks=3, version=2))
    _, record = desk.hears(ask=3)
    assert record.chain == f"ANSWER#{NAME}#3"


def test_of_fifty_at_once_one_decides_and_the_others_learn_who(desk: Desk) -> None:
    people = [f"arn:aws:iam::{MEMBER}:user/person-{number}" for number in range(50)]
    start = Barrier(len(people))

    def person(number: int) -> str:
        who = Who(people[number], barred="", actor=Actor(type="IAMUser"), request_id=f"r{number}")
        said = Said(case=NAME, ask=2, plan_hash=HASH, approve=bool(number % 2), reason="mine")
        start.wait()
        try:
            return answer(said, who, desk.store, FakeClock(), home=HOME, engine="0.1.0")[0]
        except RefusedCommandError as refused:
            return str(refused)

    with ThreadPoolExecutor(len(people)) as pool:
        told = list(pool.map(person, range(len(people))))
    stored = desk.stored
    assert stored is not None
    (winner,) = stored.answers
    losers = [text for text in told if text.startswith(winner.by) and "already, at" in text]
    assert len(losers) == 49
    assert desk.types.count(RecordType.ANSWERED) == 1
    assert desk.types.count(RecordType.ANSWER_REFUSED) == 49
    assert len(desk.store.notices) == 1


class Raced(FakeCases):
    """A store in which somebody else is always quicker by one step."""

    def __init__(self, whole: FakeCases, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.items = whole.items
        self.meanwhile = meanwhile

    def answer(self, change: AnswerChange) -> None:
        self.meanwhile()
        super().answer(change)


def test_a_plan_that_changes_while_the_answer_is_written_is_found_out(desk: Desk) -> None:
    other = ASK.model_copy(update={"plan_hash": "e" * 64})

    def replanned() -> None:
        if desk.store.cases[0].version == 1:
            desk.stands(a_case(other, version=2))

    with pytest.raises(RefusedCommandError, match="the plan changed since you looked"):
        desk.hears(store=Raced(desk.store, replanned))
    assert desk.stored is None


def test_who_loses_again_and_again_is_told_that_nothing_was_decided(desk: Desk) -> None:
    def conflict() -> None:
        raise ConflictError("somebody was quicker")

    with pytest.raises(ConflictError, match="nothing was decided, try again"):
        desk.hears(store=Raced(desk.store, conflict))
    assert len(desk.clock.slept) == ATTEMPTS
    assert desk.store.records == ()


@pytest.mark.parametrize("first", [True, False])
def test_who_loses_again_and_again_to_who_decided_it_is_told_so_on_record(desk: Desk, first: bool) -> None:
    """The transactions of others are in the way each time; the last of them decided."""
    conflicts = 0

    def conflict() -> None:
        nonlocal conflicts
        conflicts += 1
        if conflicts == ATTEMPTS:
            desk.hears(approve=first)
        raise ConflictError("somebody was quicker")

    did = "approved" if first else "denied"
    with pytest.raises(RefusedCommandError, match=f"{did} it already, at "):
        desk.hears(JANE.replace("jane", "john"), store=Raced(desk.store, conflict))
    assert conflicts == ATTEMPTS
    assert [one.draft.type for one in desk.store.records] == ["ANSWERED", "ANSWER_REFUSED"]
    assert desk.stored
    assert [one.by for one in desk.stored.answers] == [JANE]


# -------------------------------------------------------------------------------------------------- fails closed


class Down(FakeCases):
    """A store of which one operation fails."""

    def __init__(self, whole: FakeCases, broken: str) -> None:
        super().__init__()
        self.items = whole.items
        self.broken = broken

    def _fails(self, name: str) -> None:
        if name == self.broken:
            raise StoreError("the table cannot be reached")

    def case(self, digest: str, episode: int) -> Case | None:
        self._fails("case")
        return super().case(digest, episode)

    def answers(self, case: str, ask: int) -> Answers | None:
        self._fails("answers")
        return super().answers(case, ask)

    def answer(self, change: AnswerChange) -> None:
        self._fails("answer")
        super().answer(change)

    def note(self, record: Record) -> bool:
        self._fails("note")
        return super().note(record)


@pytest.mark.parametrize("broken", ["case", "answers", "answer"])
def test_where_the_store_cannot_be_used_nothing_is_decided(desk: Desk, broken: str) -> None:
    before = dict(desk.store.items)
    with pytest.raises(StoreError, match="cannot be reached"):
        desk.hears(store=Down(desk.store, broken))
    assert desk.store.items == before


def test_a_refusal_that_cannot_be_recorded_is_a_failure_and_decides_nothing(desk: Desk) -> None:
    before = dict(desk.store.items)
    with pytest.raises(StoreError, match="cannot be reached"):
        desk.hears(MALLORY, store=Down(desk.store, "note"))
    assert desk.store.items == before


def test_a_refusal_under_a_name_that_is_taken_is_a_failure_and_not_a_silent_one(desk: Desk) -> None:
    for failure in (RefusedCommandError, StoreError):
        desk.requests = 0
        with pytest.raises(failure):
            desk.hears(MALLORY)


def test_answers_that_cannot_be_read_are_not_taken_for_none(desk: Desk) -> None:
    desk.hears()
    name = ("ANSWERS", NAME, "2")
    desk.store.items[name] = type(desk.store.items[name])("{}", 1)
    with pytest.raises(StoreError, match="cannot be read"):
        desk.hears()


def test_a_chain_that_stands_without_its_answers_is_never_written_over(desk: Desk) -> None:
    """Somebody removed the answers item: the record that proves it is still there, and the next answer fails."""
    desk.hears()
    first = desk.store.records
    del desk.store.items["ANSWERS", NAME, "2"]
    with pytest.raises(ConflictError):
        desk.hears(approve=False)
    assert desk.store.records == first
    assert desk.stored is None
    assert first[0].head != Head()


@pytest.mark.parametrize(
    "changes",
    [
        {"case": ""},
        {"case": f"{NAME}\n"},
        {"ask": 0},
        {"ask": "2"},
        {"ask": True},
        {"plan_hash": ""},
        {"plan_hash": "F" * 64},
        {"approve": "yes"},
        {"approve": None},
        {"reason": ""},
        {"reason": "\x1b[2J"},
        {"reason": "safe \u202e txt.exe"},
        {"reason": "x" * 501},
        {"by": JANE},
    ],
)
def test_what_is_no_answer_is_not_read_as_one(changes: dict[str, object]) -> None:
    good = {"case": NAME, "ask": 2, "plan_hash": HASH, "approve": True, "reason": "r"}
    assert Said.model_validate(good).approve is True
    with pytest.raises(ValidationError):
        Said.model_validate({**good, **changes})
