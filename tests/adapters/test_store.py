"""What the engine's store promises, held by the tables in DynamoDB and by the fake that stands for them elsewhere."""

from datetime import timedelta

import pytest

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import ConflictError, ContractError, StoreError
from chalicelib.domain.limits import Spent
from chalicelib.domain.ports import Change, SettingChange
from chalicelib.domain.record import GENESIS, Head, RecordType, broken_at, system_chain
from tests.adapters.samples import (
    CONTROL,
    MEMBER,
    OTHER_CONTROL,
    PERSON,
    case,
    draft,
    enrolment,
    exemption,
    freeze,
    lock,
    mode,
    notice,
    question,
    records,
    reserved,
    target,
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
    store.settings.apply(setting(store.settings.head(CHAIN), "two", exemption=exemption()))

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
        {"exemption": exemption(MEMBER)},
        {"exemption": exemption(MEMBER, OTHER_CONTROL, expires_at=START - timedelta(days=9))},
        {"exemption": exemption(MEMBER, resource=elsewhere)},
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
    assert store.cases.case(ended.digest, 7) == case(1, episode=7)

    store.cases.commit(Change.model_validate(good))
    assert store.cases.look(question("event-2")).case == case(2)


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


def test_a_setting_its_record_and_the_chain_move_together(store: Store) -> None:
    change = setting(mode=mode(), freezes=(freeze(),), exemption=exemption(), enrolment=enrolment())

    store.settings.apply(change)

    assert store.settings.head(CHAIN) == change.record.head
    assert store.settings.freeze("ALL") == freeze()
    assert store.settings.mode(HOME, CONTROL) == mode()
    assert store.settings.exemption(HOME, CONTROL, target().resource) == exemption()
    assert store.settings.enrolment(MEMBER) == enrolment()
    assert store.bodies() == bodies_of(change.record)


def test_whoever_read_an_older_end_of_the_chain_changes_nothing(store: Store) -> None:
    store.settings.apply(setting(mode=mode()))
    head = store.settings.head(CHAIN)
    store.settings.apply(setting(head, "two", mode=mode(to=Mode.ASK)))
    before = store.bodies()

    for expected in (Head(), head, Head(seq=2, hash="f" * 64)):
        with pytest.raises(ConflictError):
            store.settings.apply(setting(expected, "late", mode=mode(to=Mode.OBSERVE), freezes=(freeze(),)))

    assert store.settings.mode(HOME, CONTROL) == mode(to=Mode.ASK)
    assert store.settings.freeze("ALL") is None
    assert store.bodies() == before
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
    spoil(store, "FREEZE#ALL", ("FREEZE", "ALL"))
    for ask in (
        lambda: store.cases.look(question()),
        lambda: store.cases.guard(("ALL",), HOME),
        lambda: store.settings.freeze("ALL"),
    ):
        with pytest.raises(StoreError, match="FREEZE#ALL"):
            ask()


def spoil(store: Store, pk: str, name: tuple[str, ...]) -> None:
    """A body that no version of ours has written."""
    from tests.fakes.aws import DEPLOYMENT
    from tests.fakes.cases import Item

    if store.fake:
        store.fake.items[name] = Item('{"frozen": "perhaps"}')
    elif store.dynamo:
        spoiled = {"pk": {"S": pk}, "kind": {"S": name[0]}, "body": {"S": '{"frozen": "perhaps"}'}}
        store.dynamo.client.put_item(TableName=DEPLOYMENT.table("control_state"), Item=spoiled)


def test_what_was_given_cannot_be_changed_afterwards(store: Store) -> None:
    given = case()
    store.cases.commit(Change(case=given))
    assert given.last_state is not None
    given.last_state["rules"] = "changed"
    stands = store.cases.look(question()).case
    assert stands == case()
