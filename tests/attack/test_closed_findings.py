"""What an attacker once got, and gets no more: each test failed against the engine of 2026-11-22 before it was mended."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from moto import mock_aws

from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings
from chalicelib.domain.case import CaseState, session_name
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import RedressError, StoreError
from chalicelib.domain.ports import Exemption
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.settings import Settings
from tests.adapters.tables import create_tables
from tests.attack.ground import GROUP, RDP, SSH, Ground, as_ours
from tests.fakes.clock import START
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, REGION
from tests.fakes.models import quick_session

RESOURCE = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{GROUP}"


@pytest.fixture
def ground() -> Ground:
    return Ground()


def exemption(control: str, resource: str = RESOURCE, days: int = 1) -> Exemption:
    return Exemption(
        account=ACCOUNT, control=control, resource=resource, owner="web team", code="accepted_risk",
        reason="a honeypot", by="olga", at=START, expires_at=START + timedelta(days=days),
    )  # fmt: skip


# -- 1. a dead run is resumed without asking again whether it may --------------------------------------------------------


def dead(ground: Ground) -> dict[str, Any]:
    """An attack whose run died just before its only write."""
    event = ground.attack()
    with pytest.raises(Crash):
        ground.walk(event, Faults(7, Kind.BEFORE))
    ground.clock.advance(AFTER_THE_LEASE)
    return event


def resumed(ground: Ground, event: dict[str, Any]) -> None:
    ground.walks(event)
    assert ground.ec2.effects == [], "a run of before was finished though it may no longer act"
    ground.whole()


def test_a_dead_run_is_not_finished_once_the_mode_was_lowered(ground: Ground) -> None:
    event = dead(ground)
    ground.raise_to(Mode.OBSERVE, SSH)
    resumed(ground, event)


def test_a_dead_run_is_not_finished_once_the_resource_was_exempted(ground: Ground) -> None:
    event = dead(ground)
    ground.cases.set(exemption(SSH))
    resumed(ground, event)


def test_a_dead_run_is_not_finished_when_its_message_is_redriven_days_later(ground: Ground) -> None:
    event = dead(ground)
    ground.clock.advance(timedelta(days=5))
    resumed(ground, event)


# -- 2. an event of one control ends what is open for another ------------------------------------------------------------


def waiting(ground: Ground) -> None:
    """Port 22 is open and a person was asked."""
    ground.raise_to(Mode.ACT, RDP)
    assert ground.walk(ground.attack(Mode.ASK)).verdict == "ask"
    assert ground.only_case().state is CaseState.WAITING


def test_a_case_that_waits_for_ssh_is_not_closed_because_rdp_is_compliant(ground: Ground) -> None:
    waiting(ground)
    bait = ground.ec2.open(3389)
    event = ground.event((3389, bait), event_id="event-2")
    del ground.ec2.rules[bait]
    ground.walks(event)
    assert 22 in ground.ec2.ports()
    assert ground.only_case().state is not CaseState.CLOSED


def test_a_case_that_waits_for_ssh_is_not_closed_because_rdp_was_repaired(ground: Ground) -> None:
    waiting(ground)
    ground.walks(ground.event((3389, ground.ec2.open(3389)), event_id="event-2"))
    assert ground.ec2.ports() == [22, 443]
    assert ground.only_case().state is not CaseState.CLOSED


def test_a_case_that_waits_for_ssh_does_not_end_because_rdp_is_exempt(ground: Ground) -> None:
    waiting(ground)
    ground.cases.set(exemption(RDP))
    ground.walks(ground.event((3389, ground.ec2.open(3389)), event_id="event-2"))
    assert ground.only_case().state is not CaseState.EXEMPT


# -- 3. a group that is too big for an item is never repaired, and nobody ever hears of it -------------------------------


@pytest.fixture
def tables() -> Iterator[DynamoCases]:
    with mock_aws():
        settings = Settings(stage="test", account=ACCOUNT, region=REGION)
        client = own_client("dynamodb", settings, quick_session)
        create_tables(client, settings)
        yield DynamoCases(client, settings)


def tagged(ground: Ground, rules: int, start: int = 8000) -> None:
    """Fifty tags of 128 and 256 characters are what EC2 allows on each rule: 57 KB."""
    tags = [{"Key": f"{n:02d}" + "鍵" * 126, "Value": "値" * 256} for n in range(50)]
    for port in range(start, start + rules):
        ground.ec2.open(port, "10.0.0.0/8", Tags=tags)


def described(ground: Ground) -> None:
    """A thousand rules is EC2's highest quota, 255 characters its longest description."""
    for port in range(1000):
        ground.ec2.open(8000, f"10.{port // 250}.{port % 250}.0/24", Description="d" * 255)


@pytest.mark.parametrize("grow", [lambda ground: tagged(ground, 8), described], ids=["tags", "descriptions"])
def test_a_group_cannot_make_itself_untouchable_by_its_size(
    ground: Ground, tables: DynamoCases, grow: Any
) -> None:
    grow(ground)
    event = ground.attack()
    _copy_modes(ground, tables)
    try:
        (walked,) = ground.built(tables, ground.ec2).walk(event)
    except StoreError as error:
        pytest.fail(f"five times this, then the dead-letter queue, and not one record: {error}")
    assert walked.verdict in {"act", "ask", "ticket"}


def test_a_group_that_grows_under_its_run_does_not_leave_an_intent_without_result(
    ground: Ground, tables: DynamoCases
) -> None:
    """INTENT fits, RESULT does not: from then on every event on the group fails while it settles the dead run."""
    tagged(ground, 5)
    event = ground.attack()
    _copy_modes(ground, tables)

    class Growing(FakeCasesOf):
        def guard(self, scopes: tuple[str, ...], account: str) -> Any:
            tagged(ground, 5, 9000)
            return tables.guard(scopes, account)

    try:
        ground.built(Growing(tables), ground.ec2).walk(event)
    except StoreError as error:
        ground.clock.advance(AFTER_THE_LEASE)
        later = ground.event((22, ground.ec2.open(22)), event_id="event-2")
        with pytest.raises(StoreError):
            ground.built(tables, ground.ec2).walk(later)
        pytest.fail(
            f"a write was made and its RESULT can never be written, nor any later event be walked: {error}"
        )


class FakeCasesOf:
    """The tables, with one port to be told otherwise."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _copy_modes(ground: Ground, tables: DynamoCases) -> None:
    """The settings of the house, in DynamoDB."""
    from chalicelib.domain.contract import Mode as Modes
    from chalicelib.domain.ports import FREEZE_ALL, Freeze, ModeSetting, SettingChange

    settings = DynamoSettings(own_client("dynamodb", Settings(stage="test", account=ACCOUNT, region=REGION), quick_session),
                              Settings(stage="test", account=ACCOUNT, region=REGION))  # fmt: skip
    at = ground.clock.now()
    draft = Draft(
        type=RecordType.MODE_CHANGED,
        source_id="x",
        step="mode",
        occurred_at=at,
        account=ACCOUNT,
        region="global",
    )
    (record,) = seal("SYS#test", Head(), (draft,), at, "0")
    mode = ModeSetting(account=ACCOUNT, control=SSH, mode=Modes.ACT, by="olga", at=at, reason="tested")
    off = Freeze(scope=FREEZE_ALL, frozen=False, by="olga", at=at, reason="tested")
    settings.apply(SettingChange(mode=mode, freezes=(off,), record=record, expected_head=Head()))


# -- 4. one frozen control shields another that is opened in the same call ----------------------------------------------


def test_freezing_rdp_does_not_shield_ssh_that_is_opened_in_the_same_call(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH, RDP)
    ground.freeze(f"CONTROL#{ACCOUNT}#{RDP}", on=True)
    ground.walks(ground.event((22, ground.ec2.open(22)), (3389, ground.ec2.open(3389))))
    assert ground.ec2.ports() == [443, 3389]


# -- 6. our role's session name is taken for proof (known: tests/e2e/test_own_events.py) ---------------------------------


def test_a_session_name_of_ours_excuses_nothing_on_another_target(ground: Ground) -> None:
    assert ground.walk(ground.attack()).outcome == "fixed"
    session = session_name(ground.only_case().id, 1)
    other = "sg-0ffffffffffffffff"
    rule = ground.ec2.open(22, group=other)
    ground.walks(ground.event((22, rule), group=other, event_id="event-2", userIdentity=as_ours(session)))
    assert "TAMPER_SUSPECTED" in {record.draft.type for record in ground.cases.records}


def test_a_session_name_of_an_earlier_episode_does_not_make_an_event_vanish(ground: Ground) -> None:
    assert ground.walk(ground.attack()).outcome == "fixed"
    session = session_name(ground.only_case().id, 1)
    assert ground.walk(ground.attack(event_id="event-2")).outcome == "fixed"
    before = len(ground.cases.records)
    event = ground.event((22, ground.ec2.open(22)), event_id="event-3", userIdentity=as_ours(session))
    ground.walks(event)
    assert len(ground.cases.records) > before, "port 22 was opened with our role, and nothing says so"


def test_only_the_acting_role_is_excused_by_a_session_of_ours(ground: Ground) -> None:
    assert ground.walk(ground.attack()).outcome == "fixed"
    identity = as_ours(session_name(ground.only_case().id, 1), "redress-test-http")
    ground.walks(ground.event((22, ground.ec2.open(22)), event_id="event-2", userIdentity=identity))
    assert "TAMPER_SUSPECTED" in {record.draft.type for record in ground.cases.records}


# -- 7. whoever uses our role while a run is under way is not called a tamperer, and is acted upon ------------------------


def test_our_role_misused_during_a_run_is_suspected_all_the_same(ground: Ground) -> None:
    event = ground.attack()
    joined: list[str] = []

    class Misused(FakeCasesOf):
        def guard(self, scopes: tuple[str, ...], account: str) -> Any:
            if not joined:
                rule = ground.ec2.open(22)
                stranger = ground.event((22, rule), event_id="event-2", userIdentity=as_ours("stranger"))
                joined.append(ground.walk(stranger).verdict)
            return ground.cases.guard(scopes, account)

    ground.built(Misused(ground.cases), ground.ec2).walk(event)
    assert joined == ["joined"]
    assert ground.ec2.ports() == [22, 443], "what our own role opened is at most asked about"
    assert "TAMPER_SUSPECTED" in {record.draft.type for record in ground.cases.records}
    assert "tamper_suspected" in {notice.kind for notice in ground.cases.notices}


# -- 8. a control of a lower mode is lost with the run of the higher one (known: tests/e2e/test_never_twice.py) ----------


def test_a_control_of_a_lower_mode_is_still_asked_about_after_the_others_run_died(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH)
    ground.raise_to(Mode.ASK, RDP)
    event = ground.event((22, ground.ec2.open(22)), (3389, ground.ec2.open(3389)))
    with pytest.raises(Crash):
        ground.walks_with(event, Faults(7, Kind.BEFORE))
    ground.clock.advance(AFTER_THE_LEASE)
    ground.walks(event)
    assert ground.ec2.ports() == [443, 3389]
    assert "ask" in {notice.kind for notice in ground.cases.notices}


# -- 9. one failure that is not ours stops the rest ------------------------------------------------------------------------


def test_a_remediation_that_breaks_does_not_stop_another_one(ground: Ground) -> None:
    """An answer of AWS without a field that was always there, say: KeyError, and the second visit is never made."""

    def breaks(*_: Any) -> Any:
        raise KeyError("SecurityGroupRuleId")

    ground.raise_to(Mode.ACT, SSH, RDP)
    engine = ground.engine()
    # The catalog's order is the order of the visits: RDP comes first.
    broken = replace(engine.remediations[RDP], id="breaks_always", assess=breaks)
    split = replace(engine, remediations={RDP: broken, SSH: engine.remediations[SSH]})
    event = ground.event((22, ground.ec2.open(22)), (3389, ground.ec2.open(3389)))
    with pytest.raises(Exception):  # noqa: B017, PT011 -- whatever is raised in the end
        split.walk(event)
    assert ground.ec2.ports() == [443, 3389]


def test_an_exemption_without_a_zone_is_an_unreadable_one(ground: Ground) -> None:
    """Written by hand, read by us: that must be a StoreError with advice, not a TypeError."""
    event = ground.attack()
    naive = exemption(SSH).model_copy(update={"expires_at": datetime(2026, 9, 1)})  # noqa: DTZ001 -- the point of it
    ground.cases.set(naive)
    with pytest.raises(RedressError):
        ground.walk(event)


# -- 9a. what vanishes between the look and the write saves its neighbours ---------------------------------------------------


class VanishingUnder:
    """The accounts; just before the first write somebody closes a rule himself, and opens nothing."""

    def __init__(self, ground: Ground, rule: str) -> None:
        self._ground, self._rule = ground, rule

    def reader(self, *args: Any) -> Any:
        return self._ground.ec2.reader(*args)

    def regions(self, account: str) -> tuple[str, ...]:
        return self._ground.ec2.regions(account)

    def executor(self, *args: Any, **options: Any) -> Any:
        self._ground.ec2.rules.pop(self._rule, None)
        return self._ground.ec2.executor(*args, **options)


def test_a_rule_that_vanishes_under_the_write_does_not_save_its_neighbour(ground: Ground) -> None:
    """All rules go in one call, which fails whole; nobody looks again, though each event would permit it."""
    ground.raise_to(Mode.ACT, SSH)
    bait, attack = ground.ec2.open(22, "1.2.3.4/0"), ground.ec2.open(22)
    event = ground.event((22, attack), (22, bait))
    ground.built(ground.cases, VanishingUnder(ground, bait)).walk(event)
    assert attack not in ground.ec2.rules


def test_the_lease_is_looked_at_after_the_switches_were_read_and_not_before(ground: Ground) -> None:
    """A read of the switches may take three tries of eight seconds; what was left of the lease before says little."""
    event = ground.attack()

    class Slow(FakeCasesOf):
        def guard(self, scopes: tuple[str, ...], account: str) -> Any:
            ground.clock.advance(seconds=60)
            return ground.cases.guard(scopes, account)

    with pytest.raises(RedressError):
        ground.built(Slow(ground.cases), ground.ec2).walk(event)
    assert ground.ec2.effects == []


# -- 15. small things -----------------------------------------------------------------------------------------------------------


def test_no_event_id_can_be_the_key_of_another_events_second_visit(ground: Ground) -> None:
    ground.raise_to(Mode.ACT, SSH)
    ground.raise_to(Mode.ASK, RDP)
    ground.walks(ground.event((22, "sgr-none"), event_id=f"event-1/{RDP}"))
    ground.walks(ground.event((22, ground.ec2.open(22)), (3389, ground.ec2.open(3389))))
    assert "ask" in {notice.kind for notice in ground.cases.notices}
