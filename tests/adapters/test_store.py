"""What the engine's store promises, held by the tables in DynamoDB and by the fake that stands for them elsewhere."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from types import MappingProxyType

import pytest

from chalicelib.domain.breaker import Miss, Missed
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import ConflictError, ContractError, StoreError
from chalicelib.domain.limits import Spent
from chalicelib.domain.ports import AnswerChange, Change, SettingChange, SweepChange, Swept
from chalicelib.domain.record import GENESIS, Head, RecordType, broken_at, system_chain
from chalicelib.domain.ticket import TicketState
from tests.adapters.samples import (
    CONTROL,
    MEMBER,
    OTHER_CONTROL,
    PERSON,
    answer,
    ask,
    baseline,
    case,
    completed,
    deployment_role,
    dossier,
    draft,
    engagement,
    enrolment,
    exemption,
    freeze,
    lock,
    mode,
    notice,
    owner,
    policy,
    question,
    records,
    reserved,
    sweep,
    target,
    ticket,
    waiting,
)
from tests.adapters.stores import Store, bodies_of
from tests.fakes.cases import HOME
from tests.fakes.clock import START

CHAIN = system_chain(HOME, START)


def setting(expected: Head | None = None, step: str = "mode", **parts: object) -> SettingChange:
    expected = expected or Head()
    said = draft(step, type=RecordType.MODE_CHANGED, actor=PERSON)
    (record,) = records(CHAIN, said, head=expected)
    return SettingChange.model_validate({"record": record, "expected_head": expected, **parts})


# ---------------------------------------------------------------------------------------------------------------- look


def test_an_empty_store_says_absent_and_never_a_default(store: Store) -> None:
    gate = store.cases.look(question())

    assert (gate.seen, gate.case, gate.lock) == (False, None, None)
    assert (gate.modes, gate.exemptions, gate.freezes) == ((), (), ())
    assert (gate.account_spent.version, gate.actor_spent.version) == (0, 0)
    assert gate.account_spent.key != gate.actor_spent.key


def test_what_was_committed_is_seen_as_it_was_given(store: Store) -> None:
    gate = store.cases.look(question())
    written = Change(
        case=case(),
        lock=lock(),
        seen=("event-1",),
        spent=(reserved(gate.account_spent), reserved(gate.actor_spent, 3)),
        records=records(case().id),
        notices=(notice(),),
    )

    store.cases.commit(written)

    seen = store.cases.look(question())
    assert (seen.seen, seen.case, seen.lock) == (True, written.case, written.lock)
    assert (seen.account_spent, seen.actor_spent) == written.spent
    assert store.bodies() == bodies_of(*written.records)
    assert store.notices() == {"notice-1": notice()}


def test_the_gate_sees_the_target_the_controls_and_the_actor_that_were_asked_about_and_no_others(
    store: Store,
) -> None:
    gate = store.cases.look(question())
    store.cases.commit(
        Change(case=case(), lock=lock(), seen=("event-1",), spent=(reserved(gate.actor_spent),))
    )
    store.settings.apply(setting(mode=mode(), freezes=(freeze(), freeze(f"CONTROL#{HOME}#{CONTROL}"))))
    store.settings.apply(setting(store.settings.head(CHAIN), "two", exemptions=(exemption(),)))

    elsewhere = store.cases.look(question("event-2", target("sg-other"), (OTHER_CONTROL,), "somebody else"))

    assert (elsewhere.seen, elsewhere.case, elsewhere.lock) == (False, None, None)
    assert (elsewhere.modes, elsewhere.exemptions) == ((), ())
    assert [one.scope for one in elsewhere.freezes] == ["ALL"]
    assert elsewhere.actor_spent.version == 0


def test_the_same_event_is_new_to_another_case(store: Store) -> None:
    store.cases.commit(Change(case=case(), seen=("event-1",)))
    assert not store.cases.look(question("event-1", target("sg-other"))).seen
    assert not store.cases.look(question("event-2")).seen


def test_an_event_id_of_any_length_is_remembered(store: Store) -> None:
    long = "é" * 1500
    store.cases.commit(Change(case=case(), seen=(long,)))
    assert store.cases.look(question(long)).seen


def test_the_gate_sees_every_setting_that_concerns_the_target(store: Store) -> None:
    scopes = ("ALL", f"ACCOUNT#{MEMBER}", f"CONTROL#{MEMBER}#{CONTROL}", f"CONTROL#{MEMBER}#{OTHER_CONTROL}")
    there = target(account=MEMBER)
    store.settings.apply(setting(freezes=tuple(freeze(scope) for scope in scopes)))
    elsewhere = target("sg-other", MEMBER).resource
    settings: tuple[dict[str, object], ...] = (
        {"mode": mode(MEMBER)},
        {"mode": mode(MEMBER, OTHER_CONTROL, Mode.ASK)},
        {"mode": mode(HOME, OTHER_CONTROL)},
        {"exemptions": (exemption(MEMBER), exemption(MEMBER, resource=elsewhere))},
        {"exemptions": (exemption(MEMBER, OTHER_CONTROL, expires_at=START - timedelta(days=9)),)},
    )
    for number, parts in enumerate(settings):
        store.settings.apply(setting(store.settings.head(CHAIN), str(number), **parts))

    gate = store.cases.look(question(of=there, controls=(CONTROL, OTHER_CONTROL)))

    assert {one.scope for one in gate.freezes} == set(scopes)
    assert {(one.control, one.mode) for one in gate.modes} == {(CONTROL, Mode.ACT), (OTHER_CONTROL, Mode.ASK)}
    assert {(one.control, one.resource) for one in gate.exemptions} == {
        (CONTROL, there.resource),
        (OTHER_CONTROL, there.resource),
    }, "an exemption that has expired is in the answer: time is the flow's"


def test_a_control_asked_about_twice_is_answered_once(store: Store) -> None:
    store.settings.apply(setting(mode=mode()))
    assert len(store.cases.look(question(controls=(CONTROL, CONTROL))).modes) == 1


def test_home_is_enrolled_by_being_home_and_a_member_by_its_enrolment(store: Store) -> None:
    member = question(of=target(account=MEMBER))
    assert store.cases.look(question()).enrolled
    assert not store.cases.look(member).enrolled

    store.settings.apply(setting(enrolment=enrolment()))

    assert store.cases.look(member).enrolled


def test_the_gate_sees_the_baselines_the_owner_and_the_role_that_were_asked_about(store: Store) -> None:
    role = deployment_role()
    store.settings.apply(setting(deployment_role=role, owner=owner()))
    store.settings.apply(
        setting(store.settings.head(CHAIN), "member", deployment_role=deployment_role(MEMBER))
    )
    others = (baseline(control=OTHER_CONTROL), baseline(MEMBER))
    store.cases.keep(completed(1, baselines=(baseline(), *others)))

    gate = store.cases.look(question(role_arn=role.role_arn))
    nobody, other, member = (
        store.cases.look(question()),
        store.cases.look(question(role_arn=f"{role.role_arn}/x")),
        store.cases.look(question(of=target(account=MEMBER), role_arn=role.role_arn)),
    )

    assert (gate.baselines, gate.deployment_role, gate.owner) == ((baseline(),), role, owner())
    assert (nobody.deployment_role, nobody.owner) == (None, owner())
    assert other.deployment_role is None
    assert (member.baselines, member.deployment_role, member.owner) == ((baseline(MEMBER),), None, None)


def test_a_role_that_no_longer_deploys_is_told_as_such(store: Store) -> None:
    store.settings.apply(setting(deployment_role=deployment_role()))
    gone = deployment_role(removed=True)
    store.settings.apply(setting(store.settings.head(CHAIN), "gone", deployment_role=gone))
    assert store.cases.look(question(role_arn=gone.role_arn)).deployment_role == gone
    assert store.settings.deployment_role(HOME, gone.role_arn) == gone


# -------------------------------------------------------------------------------------------------------------- commit


def test_a_case_moves_by_one_version_at_a_time(store: Store) -> None:
    store.cases.commit(Change(case=case(1)))
    store.cases.commit(Change(case=case(2, reason="second")))
    for version in (1, 2, 4):
        with pytest.raises(ConflictError):
            store.cases.commit(Change(case=case(version, reason="late")))
    stands = store.cases.look(question()).case
    assert stands is not None
    assert (stands.version, stands.reason) == (2, "second")


def test_a_case_that_was_never_stored_has_no_second_version(store: Store) -> None:
    with pytest.raises(ConflictError):
        store.cases.commit(Change(case=case(2)))


def test_there_is_no_version_nought(store: Store) -> None:
    with pytest.raises(ContractError):
        store.cases.commit(Change(case=case(0)))


@pytest.mark.parametrize("spoiled", ["case", "archive", "lock", "seen", "spent", "record"])
def test_whatever_part_conflicts_none_of_the_change_happens(store: Store, spoiled: str) -> None:
    account = store.cases.look(question()).account_spent
    ended = case(1, state=CaseState.CLOSED)
    store.cases.commit(
        Change(
            case=case(1),
            archive=case(1, episode=7),
            lock=lock(),
            seen=("event-1",),
            spent=(reserved(account),),
            records=records(case().id),
        )
    )
    before = store.bodies()
    good: dict[str, object] = {
        "case": case(2),
        "archive": ended,
        "lock": lock(2),
        "seen": ("event-2",),
        "spent": (reserved(reserved(account)),),
        "records": records("another-chain"),
        "notices": (notice("new"),),
        "ticket": ticket(),
        "exemptions": (exemption(), exemption(control=OTHER_CONTROL)),
    }
    bad: dict[str, dict[str, object]] = {
        "case": {"case": case(3)},
        "archive": {"archive": case(1, episode=7)},
        "lock": {"lock": lock(1)},
        "seen": {"seen": ("event-1", "event-3")},
        "spent": {"spent": (reserved(account),)},
        "record": {"records": records(case().id)},
    }

    with pytest.raises(ConflictError):
        store.cases.commit(Change.model_validate(good | bad[spoiled]))

    gate = store.cases.look(question("event-2"))
    assert gate.case == case(1)
    assert gate.lock == lock(1)
    assert not gate.seen
    assert gate.account_spent.version == 1
    assert store.bodies() == before
    assert store.notices() == {}
    assert store.tickets() == set()
    assert gate.exemptions == ()
    assert store.cases.case(ended.digest, 7) == case(1, episode=7)

    store.cases.commit(Change.model_validate(good))
    gate = store.cases.look(question("event-2", controls=(CONTROL, OTHER_CONTROL)))
    assert gate.case == case(2)
    assert gate.exemptions == (exemption(), exemption(control=OTHER_CONTROL))
    assert store.tickets() == {ticket().model_dump_json()}


def test_a_new_episode_takes_the_place_of_the_one_that_ended_which_is_kept(store: Store) -> None:
    ended, second = case(1, state=CaseState.CLOSED), case(2, episode=2)
    store.cases.commit(Change(case=ended))
    store.cases.commit(Change(case=second, archive=ended))

    assert store.cases.look(question()).case == second
    assert store.cases.case(ended.digest, 1) == ended
    assert store.cases.case(ended.digest, 2) == second
    assert store.cases.case(ended.digest, 3) is None
    assert store.cases.case("nobody", 1) is None


def test_a_lock_passes_from_hand_to_hand_by_its_version(store: Store) -> None:
    store.cases.commit(Change(case=case(1), lock=lock(1)))
    with pytest.raises(ConflictError):
        store.cases.commit(Change(case=case(2), lock=lock(1, run=2)))
    store.cases.commit(Change(case=case(2), lock=lock(2, run=2)))
    held = store.cases.look(question()).lock
    assert held == lock(2, run=2)


def test_one_event_named_twice_in_a_change_is_taken_in_once(store: Store) -> None:
    store.cases.commit(Change(case=case(), seen=("event-1", "event-1")))
    assert store.cases.look(question()).seen


def test_reservations_are_counted_by_account_and_by_actor(store: Store) -> None:
    gate = store.cases.look(question())
    store.cases.commit(
        Change(case=case(), spent=(reserved(gate.account_spent, 2), reserved(gate.actor_spent, 2)))
    )

    same_account = store.cases.look(question(actor_key="somebody else"))
    other_account = store.cases.look(question(of=target(account=MEMBER)))

    assert sum(one.writes for one in same_account.account_spent.reservations) == 2
    assert same_account.actor_spent == Spent(key=same_account.actor_spent.key)
    assert other_account.account_spent.version == 0
    assert other_account.actor_spent == gate.actor_spent.plus(reserved(gate.actor_spent, 2).reservations[0])


def test_breakers_are_counted_by_account_and_control_and_pass_from_hand_to_hand_by_their_version(
    store: Store,
) -> None:
    fresh = store.cases.breakers(HOME, (CONTROL, "other"))
    assert [(one.account, one.control, one.version) for one in fresh] == [
        (HOME, CONTROL, 0),
        (HOME, "other", 0),
    ]
    once = fresh[0].missed(Miss(at=START, case=case().id, run=1, what=Missed.FAILED))
    store.cases.commit(Change(case=case(1), breakers=(once,)))
    with pytest.raises(ConflictError):
        store.cases.commit(Change(case=case(2), breakers=(once,)))
    assert store.cases.look(question()).breakers == (once,)
    assert store.cases.look(question(of=target(account=MEMBER))).breakers == ()
    assert store.settings.breaker(HOME, CONTROL) == once
    assert store.settings.breaker(MEMBER, CONTROL).version == 0
    store.settings.apply(setting(breaker=once.reset()))
    assert store.cases.breakers(HOME, (CONTROL,)) == (once.reset(),)
    with pytest.raises(ConflictError):
        store.cases.commit(Change(case=case(2), breakers=(once.reset(),)))


def test_a_notice_of_the_same_id_is_overwritten_by_its_later_state(store: Store) -> None:
    store.cases.commit(Change(case=case(1), notices=(notice(),)))
    store.cases.commit(Change(case=case(2), notices=(notice(kind="lost"), notice(kind="run_fixed"))))
    assert store.notices() == {"notice-1": notice(kind="run_fixed")}


def test_records_of_one_case_are_one_chain(store: Store) -> None:
    first = records(case().id, draft("a"), draft("b"))
    second = records(case().id, draft("c"), head=first[-1].head)
    store.cases.commit(Change(case=case(1), records=first))
    store.cases.commit(Change(case=case(2), records=second))

    chain = sorted(store.bodies(), key=lambda entry: entry[1])
    assert [number for _, number, _ in chain] == [1, 2, 3]
    hashes = [record.hash for record in (*first, *second)]
    assert broken_at(zip((body for _, _, body in chain), hashes, strict=True), second[-1].head) is None


def test_a_ticket_is_written_over_by_its_later_state_and_beside_its_recurrence(store: Store) -> None:
    closed, again = ticket(state=TicketState.CLOSED), ticket(2)
    for version, one in enumerate((ticket(), closed, again), start=1):
        store.cases.commit(Change(case=case(version), ticket=one))
    assert store.tickets() == {closed.model_dump_json(), again.model_dump_json()}


# ------------------------------------------------------------------------------------------------------------- answers

MOMENT = timedelta(milliseconds=1)


def test_nobody_answered_until_somebody_did(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    assert store.settings.answers(waiting().id, 1) is None
    first = answer()

    store.settings.answer(first)

    assert store.cases.answers(waiting().id, 1) == store.settings.answers(waiting().id, 1) == first.answers
    assert store.cases.answers(waiting().id, 2) is None
    assert store.bodies() == bodies_of(first.record)
    assert store.notices() == {first.notice.id: first.notice}
    assert store.cases.look(question()).case == waiting(), "whoever answers writes no case"
    assert store.settings.case(waiting().digest, 1) == waiting()

    second = answer(by="bob", before=first.answers)
    store.settings.answer(second)
    assert store.cases.answers(waiting().id, 1) == second.answers


REFUSED: Mapping[str, tuple[Case | None, AnswerChange]] = MappingProxyType(
    {
        "ended a millisecond ago": (waiting(), answer(at=ask().expires_at + MOMENT)),
        "ends this very moment": (waiting(), answer(at=ask().expires_at)),
        "ends within this millisecond": (
            waiting(asked=ask(expires_at=START + timedelta(microseconds=900))),
            answer(at=START + timedelta(microseconds=100)),
        ),
        "asked again since": (waiting(asked=ask(2)), answer()),
        "not asked yet": (waiting(asked=ask(1)), answer(asked=ask(2))),
        "another plan": (waiting(asked=ask(plan_hash="b" * 64)), answer()),
        "an earlier episode": (waiting(episode=2), answer(waiting(episode=1))),
        "a later episode": (waiting(episode=1), answer(waiting(episode=2))),
        "a later end in the hands of whoever answers": (
            waiting(),
            answer(asked=ask(expires_at=START + timedelta(days=9)), at=START + timedelta(days=1)),
        ),
        "no longer waiting": (case(), answer()),
        "no longer waiting, the ask still there": (
            waiting().model_copy(update={"state": CaseState.STALE}),
            answer(),
        ),
        "waiting for nothing": (case(state=CaseState.WAITING), answer()),
        "no such case": (None, answer()),
    }
)


@pytest.mark.parametrize("name", list(REFUSED))
def test_an_answer_is_refused_and_nothing_written_when_the_ask(name: str, store: Store) -> None:
    stands, change = REFUSED[name]
    if stands:
        store.cases.commit(Change(case=stands))
    with pytest.raises(ConflictError):
        store.settings.answer(change)
    assert store.settings.answers(change.case, change.ask.seq) is None
    assert (store.bodies(), store.notices()) == (set(), {})


def test_an_answer_is_taken_in_the_last_millisecond(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    store.settings.answer(answer(at=ask().expires_at - MOMENT))
    assert store.settings.answers(waiting().id, 1)


def test_an_archived_case_takes_no_answer_though_it_ended_waiting(store: Store) -> None:
    ended = waiting()
    store.cases.commit(Change(case=ended))
    store.cases.commit(Change(case=case(2, episode=2), archive=ended))
    assert store.settings.case(ended.digest, 1) == ended
    with pytest.raises(ConflictError):
        store.settings.answer(answer())


def test_whoever_read_older_answers_is_not_heard(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    first = answer()
    store.settings.answer(first)
    ahead = answer(by="cid", before=first.answers.model_copy(update={"version": 2}))
    for late in (answer(by="bob"), ahead):
        with pytest.raises(ConflictError):
            store.settings.answer(late)
    assert store.settings.answers(waiting().id, 1) == first.answers
    assert store.bodies() == bodies_of(first.record)


def test_answers_to_several_asks_are_read_together(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    given = answer()
    store.settings.answer(given)
    asks = [(waiting().id, 1), (waiting().id, 2), ("another-1", 1)]
    assert store.cases.answers_to(asks) == {waiting().id: given.answers}
    assert store.cases.answers_to([]) == {}


def test_an_answer_whose_record_stands_is_not_taken(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    store.cases.note(answer().record)
    with pytest.raises(ConflictError):
        store.settings.answer(answer())
    assert store.settings.answers(waiting().id, 1) is None


@pytest.mark.parametrize(
    "other", [{"case": "another-1"}, {"ask": 2}, {"plan_hash": "b" * 64}, {"version": 0}]
)
def test_answers_to_something_else_are_a_mistake(other: dict[str, object], store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    right = answer()
    wrong = right.model_copy(update={"answers": right.answers.model_copy(update=other)})
    with pytest.raises(ContractError):
        store.settings.answer(wrong)
    assert store.bodies() == set()


def test_of_fifty_answers_at_once_one_is_taken(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    people, ready = [f"person-{number}" for number in range(50)], Barrier(50)

    def say(by: str) -> str | None:
        seen = store.settings.answers(waiting().id, 1)
        ready.wait()
        try:
            store.settings.answer(answer(by=by, before=seen))
        except ConflictError:
            return None
        return by

    with ThreadPoolExecutor(50) as pool:
        heard = [by for by in pool.map(say, people) if by]

    stored = store.settings.answers(waiting().id, 1)
    assert stored
    assert [one.by for one in stored.answers] == heard
    assert len(heard) == 1
    assert len(store.bodies()) == len(store.notices()) == 1


def test_answers_that_cannot_be_read_are_an_error_and_never_absent(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    store.settings.answer(answer())
    store.spoil("cases", f"ANSWERS#{waiting().id}#1", ("ANSWERS", waiting().id, "1"))
    for ask_for in (store.cases.answers, store.settings.answers):
        with pytest.raises(StoreError, match="ANSWERS#"):
            ask_for(waiting().id, 1)


# ------------------------------------------------------------------------------------------------- states and chains


def test_the_current_cases_in_a_state_come_once_each_the_oldest_first(store: Store) -> None:
    for number in (2, 0, 1):
        of, at = target(f"sg-{number}"), START + timedelta(minutes=number)
        store.cases.commit(Change(case=waiting(of=of, at=at), ticket=ticket(of=of, at=at)))
    store.cases.commit(Change(case=case(of=target("sg-open"))))

    found = [one.target.id for one in store.cases.in_state(CaseState.WAITING)]

    assert found == ["sg-0", "sg-1", "sg-2"]
    assert [one.target.id for one in store.cases.in_state(CaseState.OPEN)] == ["sg-open"]
    assert list(store.cases.in_state(CaseState.DENIED)) == []


def test_an_episode_that_is_archived_is_in_no_state(store: Store) -> None:
    ended = case(1, state=CaseState.CLOSED)
    store.cases.commit(Change(case=ended))
    assert list(store.cases.in_state(CaseState.CLOSED)) == [ended]
    store.cases.commit(Change(case=case(2, episode=2), archive=ended))
    assert list(store.cases.in_state(CaseState.CLOSED)) == []
    assert list(store.cases.in_state(CaseState.OPEN)) == [case(2, episode=2)]


def test_a_case_of_the_state_that_cannot_be_read_is_an_error(store: Store) -> None:
    store.cases.commit(Change(case=waiting()))
    store.spoil("cases", f"CASE#{waiting().digest}", ("CASE", waiting().digest))
    with pytest.raises(StoreError, match="CASE#"):
        list(store.cases.in_state(CaseState.WAITING))


def test_the_cases_of_a_resource_are_the_current_ones_of_all_that_is_on_record_for_it(store: Store) -> None:
    assert store.settings.cases_of(target().resource) == ()
    ended, other = case(1, state=CaseState.CLOSED), case(of=target("sg-other"))
    store.cases.commit(Change(case=ended, records=records(ended.id)))
    store.cases.commit(Change(case=other))
    store.settings.apply(
        setting()
    )  # an exemption of the resource is on record too, in a chain that is no case's
    assert store.settings.cases_of(target().resource) == (ended,)
    anew = case(2, episode=2)
    store.cases.commit(Change(case=anew, archive=ended, records=records(anew.id)))
    assert store.settings.cases_of(target().resource) == (anew,)


def test_a_chain_is_its_bodies_in_order_and_no_other_chains(store: Store) -> None:
    chain = records(case().id, *(draft(str(number)) for number in range(12)))
    store.cases.commit(Change(case=case(), records=(*reversed(chain), *records("another"))))
    assert store.cases.bodies(case().id) == tuple(record.body for record in chain)
    assert store.cases.bodies("nobody's") == ()


# --------------------------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_moves_by_one_version_and_ends_with_its_baselines_record_and_report(store: Store) -> None:
    assert store.cases.swept(HOME, (CONTROL,)) == Swept(sweep=None, baselines=())
    store.cases.keep(SweepChange(sweep=sweep()))
    assert store.cases.swept(HOME, (CONTROL,)) == Swept(sweep=sweep(), baselines=())
    assert (store.bodies(), store.notices()) == (set(), {})

    end = completed()
    store.cases.keep(end)

    assert end.record
    assert store.cases.swept(HOME, (CONTROL, OTHER_CONTROL, CONTROL)) == Swept(
        sweep=end.sweep, baselines=end.baselines
    )
    assert store.cases.swept(HOME, (OTHER_CONTROL,)).baselines == (baseline(control=OTHER_CONTROL),)
    assert store.cases.swept(MEMBER, (CONTROL,)) == Swept(sweep=None, baselines=())
    assert store.bodies() == bodies_of(end.record)
    assert store.notices() == {"SWEEP": notice("SWEEP", "sweep_completed")}


def test_a_baseline_is_written_over_by_a_later_one(store: Store) -> None:
    store.cases.keep(completed(1))
    later = baseline().model_copy(update={"sweep": "another"})
    store.cases.keep(SweepChange(sweep=sweep(2), baselines=(later,)))
    assert store.cases.swept(HOME, (CONTROL,)).baselines == (later,)


@pytest.mark.parametrize("version", [1, 3])
def test_whoever_read_an_older_sweep_keeps_nothing_of_it(version: int, store: Store) -> None:
    store.cases.keep(SweepChange(sweep=sweep()))
    with pytest.raises(ConflictError):
        store.cases.keep(completed(version))
    assert store.cases.swept(HOME, (CONTROL, OTHER_CONTROL)) == Swept(sweep=sweep(), baselines=())
    assert (store.bodies(), store.notices()) == (set(), {})


def test_a_sweep_whose_record_stands_does_not_end_again(store: Store) -> None:
    end = completed(1)
    assert end.record
    store.cases.note(end.record)
    with pytest.raises(ConflictError):
        store.cases.keep(end)
    assert store.cases.swept(HOME, (CONTROL,)) == Swept(sweep=None, baselines=())


def test_a_sweep_has_no_version_nought(store: Store) -> None:
    with pytest.raises(ContractError):
        store.cases.keep(SweepChange(sweep=sweep(0)))


# ------------------------------------------------------------------------------------------------------ guard and note


def test_the_guard_sees_the_switches_that_it_asks_for_and_the_reservations_of_the_account(
    store: Store,
) -> None:
    store.settings.apply(setting(freezes=(freeze(), freeze(f"ACCOUNT#{MEMBER}", frozen=True))))
    account = store.cases.look(question()).account_spent
    store.cases.commit(Change(case=case(), spent=(reserved(account, 5),)))

    here = store.cases.guard(("ALL", f"ACCOUNT#{HOME}", "ALL"), HOME)
    there = store.cases.guard((f"ACCOUNT#{MEMBER}",), MEMBER)

    assert here.freezes == (freeze(),)
    assert here.account_spent == reserved(account, 5)
    assert there.freezes == (freeze(f"ACCOUNT#{MEMBER}", frozen=True),)
    assert there.account_spent.reservations == ()


def test_a_note_is_written_once_and_what_stands_is_not_touched(store: Store) -> None:
    (first,) = records("EVENT#1", draft(text="first"))
    (again,) = records("EVENT#1", draft(text="again"))

    assert store.cases.note(first)
    assert not store.cases.note(again)
    assert store.bodies() == bodies_of(first)


# ------------------------------------------------------------------------------------------------------------ settings


def test_settings_that_nobody_made_are_absent(store: Store) -> None:
    assert store.settings.head(CHAIN) == Head(seq=0, hash=GENESIS)
    assert store.settings.freeze("ALL") is None
    assert store.settings.mode(HOME, CONTROL) is None
    assert store.settings.exemption(HOME, CONTROL, target().resource) is None
    assert store.settings.enrolment(MEMBER) is None
    assert store.settings.owner(HOME) is None
    assert store.settings.deployment_role(HOME, deployment_role().role_arn) is None
    assert store.settings.policy() is None
    assert store.cases.policy() is None
    assert store.settings.engagement("soc2") is None
    assert store.settings.dossier(case().id) is None


def test_a_setting_its_record_and_the_chain_move_together(store: Store) -> None:
    change = setting(
        mode=mode(),
        freezes=(freeze(),),
        exemptions=(exemption(), exemption(control=OTHER_CONTROL)),
        enrolment=enrolment(),
        deployment_role=deployment_role(),
        owner=owner(),
        notices=(notice(kind="lost"), notice()),
    )

    store.settings.apply(change)

    assert store.settings.head(CHAIN) == change.record.head
    assert store.settings.freeze("ALL") == freeze()
    assert store.settings.mode(HOME, CONTROL) == mode()
    assert store.settings.exemption(HOME, CONTROL, target().resource) == exemption()
    assert store.settings.exemption(HOME, OTHER_CONTROL, target().resource) == exemption(
        control=OTHER_CONTROL
    )
    assert store.settings.enrolment(MEMBER) == enrolment()
    assert store.settings.deployment_role(HOME, deployment_role().role_arn) == deployment_role()
    assert store.settings.deployment_role(MEMBER, deployment_role().role_arn) is None
    assert store.settings.owner(HOME) == owner()
    assert store.bodies() == bodies_of(change.record)
    assert store.notices() == {"notice-1": notice()}


def test_the_policy_stands_alone_and_both_who_answers_and_the_engine_read_it(store: Store) -> None:
    store.settings.apply(setting(kept=policy()))
    assert store.settings.policy() == store.cases.policy() == policy()
    later = policy("the second")
    store.settings.apply(setting(store.settings.head(CHAIN), "two", kept=later))
    assert store.settings.policy() == store.cases.policy() == later
    for one in (policy("the third"), engagement(), dossier()):
        with pytest.raises(ConflictError):
            store.settings.apply(setting(Head(), "late", kept=one))
    assert store.settings.policy() == later
    assert store.settings.engagement("soc2") is None
    assert store.settings.dossier(case().id) is None


def test_invitations_and_dossiers_stand_under_their_own_names(store: Store) -> None:
    store.settings.apply(setting(kept=engagement()))
    store.settings.apply(setting(store.settings.head(CHAIN), "two", kept=engagement("iso")))
    store.settings.apply(setting(store.settings.head(CHAIN), "three", kept=dossier()))
    ended = engagement(revoked=True)
    store.settings.apply(setting(store.settings.head(CHAIN), "four", kept=ended))
    store.settings.apply(setting(store.settings.head(CHAIN), "five", kept=dossier("bert")))
    assert store.settings.engagement("soc2") == ended
    assert store.settings.engagement("iso") == engagement("iso")
    assert store.settings.dossier(case().id) == dossier("bert")
    assert store.settings.dossier(case(episode=2).id) is None


@pytest.mark.parametrize(
    "part, pk, name",
    [
        ("policy", "POLICY", ("POLICY",)),
        ("engagement", "ENGAGEMENT#soc2", ("ENGAGEMENT", "soc2")),
        ("dossier", f"DOSSIER#{case().id}", ("DOSSIER", case().id)),
    ],
)
def test_what_people_agreed_on_and_cannot_be_read_is_an_error_and_never_absent(
    part: str, pk: str, name: tuple[str, ...], store: Store
) -> None:
    for step, one in enumerate((policy(), engagement(), dossier())):
        store.settings.apply(setting(store.settings.head(CHAIN), str(step), kept=one))
    store.spoil("control_state", pk, name)
    reads = {
        "policy": (store.settings.policy, store.cases.policy),
        "engagement": (lambda: store.settings.engagement("soc2"),),
        "dossier": (lambda: store.settings.dossier(case().id),),
    }
    for read in reads[part]:
        with pytest.raises(StoreError, match=pk):
            read()


def test_whoever_read_an_older_end_of_the_chain_changes_nothing(store: Store) -> None:
    store.settings.apply(setting(mode=mode()))
    head = store.settings.head(CHAIN)
    store.settings.apply(setting(head, "two", mode=mode(to=Mode.ASK)))
    before = store.bodies()

    for expected in (Head(), head, Head(seq=2, hash="f" * 64)):
        with pytest.raises(ConflictError):
            store.settings.apply(
                setting(
                    expected,
                    "late",
                    mode=mode(to=Mode.OBSERVE),
                    freezes=(freeze(),),
                    deployment_role=deployment_role(),
                    owner=owner(),
                    notices=(notice(),),
                )
            )

    assert store.settings.mode(HOME, CONTROL) == mode(to=Mode.ASK)
    assert store.settings.freeze("ALL") is None
    assert store.settings.deployment_role(HOME, deployment_role().role_arn) is None
    assert store.settings.owner(HOME) is None
    assert (store.bodies(), store.notices()) == (before, {})
    assert store.settings.head(CHAIN).seq == 2


def test_a_record_that_does_not_follow_the_expected_end_is_a_mistake(store: Store) -> None:
    change = setting(mode=mode())
    with pytest.raises(ContractError):
        store.settings.apply(change.model_copy(update={"expected_head": Head(seq=5)}))
    assert store.bodies() == set()


def test_a_switch_is_turned_on_and_off_under_one_name(store: Store) -> None:
    store.settings.apply(setting(freezes=(freeze(frozen=True),)))
    store.settings.apply(setting(store.settings.head(CHAIN), "off", freezes=(freeze(frozen=False),)))
    assert store.cases.guard(("ALL",), HOME).freezes == (freeze(frozen=False),)


def test_what_cannot_be_read_is_an_error_and_never_absent(store: Store) -> None:
    store.settings.apply(setting(freezes=(freeze(),)))
    store.spoil("control_state", "FREEZE#ALL", ("FREEZE", "ALL"))
    for read in (
        lambda: store.cases.look(question()),
        lambda: store.cases.guard(("ALL",), HOME),
        lambda: store.settings.freeze("ALL"),
    ):
        with pytest.raises(StoreError, match="FREEZE#ALL"):
            read()


def test_what_was_given_cannot_be_changed_afterwards(store: Store) -> None:
    given = case()
    store.cases.commit(Change(case=given))
    assert given.last_state is not None
    given.last_state["rules"] = "changed"
    stands = store.cases.look(question()).case
    assert stands == case()
