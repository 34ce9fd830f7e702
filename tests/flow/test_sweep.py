"""Sweeps: the baseline is one report; what comes after is asked about; taken up where it was left; quiet when nothing is new."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import JsonValue

from chalicelib.delivery import routes
from chalicelib.domain.case import JoinedCause
from chalicelib.domain.contract import AnyRemediation, Mode
from chalicelib.domain.errors import AccessDeniedError, ConflictError, StoreError, TransientError
from chalicelib.domain.finding import Severity, Target
from chalicelib.domain.sweep import ABANDONED_AFTER
from chalicelib.flow import errands, sweep
from chalicelib.flow.errand import Look, Sweep, SweepPart
from chalicelib.flow.pipeline import Engine
from tests.fakes.cases import Item
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, REGION, House
from tests.flow.people import built, group
from tests.flow.test_pipeline import SSH, Group

__all__ = ["built", "group"]


def kinds(built: House) -> list[str]:
    """The kinds of all notices for people."""
    return [notice.kind for notice in built.cases.notices if notice.kind != "errand"]


def completed(built: House) -> list[dict[str, Any]]:
    return [r.draft.data for r in built.cases.records if r.draft.type.value == "SWEEP_COMPLETED"]


# -- the baseline -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
def test_the_first_sweep_of_a_control_is_one_report_and_asks_nobody_whatever_the_mode(
    built: House, group: Group, mode: Mode
) -> None:
    built.raise_to(mode, SSH)
    group.open(22)
    built.sweep()
    assert built.aws.writes == []
    assert kinds(built) == ["baseline_report"]
    assert built.cases.tickets == ()
    (report,) = completed(built)
    assert report["failing"][SSH] == 1
    assert group.id in str(report["listed"])
    case = built.only_case()
    assert (case.state, SSH in case.inherited) == ("open", True)
    (notice,) = built.cases.notices
    about = routes.about_of(notice, dict.fromkeys(report["failing"], Severity.HIGH))
    assert about, "by which the report finds its way"
    assert (about.account, about.severity) == (ACCOUNT, Severity.HIGH)
    assert about.controls == tuple(sorted(report["failing"]))


def test_what_was_inherited_is_quiet_until_somebody_asks_for_it(built: House, group: Group) -> None:
    group.open(22)
    built.sweep()
    built.raise_to(Mode.ACT, SSH)
    for _ in range(3):
        built.clock.advance(timedelta(days=1))
        built.sweep()
    assert kinds(built) == ["baseline_report"]
    case = built.only_case()
    assert case.inherited
    anna = "arn:aws:iam::123456789012:user/anna"
    ssh, _rdp = built.carry_out(Look(case=case.id, by=anna, requested=True, request_id="r-1"))
    assert (ssh.verdict, ssh.controls) == ("ask", (SSH,))
    case = built.only_case()
    assert case.ask
    assert (case.inherited, case.ask.requesters) == ((), (anna,))
    assert built.aws.writes == []


def test_what_comes_after_the_baseline_is_asked_about_once(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.ACT, SSH)
    group.open(22)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    built.clock.advance(timedelta(hours=1))
    records = len(built.cases.records)
    built.sweep()
    assert kinds(built) == ["baseline_report", "ask"]
    assert len(built.cases.records) == records + 1, (
        "a sweep that finds nothing new writes its own end, and no more"
    )
    assert built.only_case().state == "waiting"
    assert built.aws.writes == []


def test_the_next_event_on_what_was_inherited_is_a_finding_like_any_other(built: House, group: Group) -> None:
    group.open(22)
    built.sweep()
    built.raise_to(Mode.ACT, SSH)
    built.clock.advance(timedelta(hours=1))
    walked = built.walk(group.event((22, group.open(22, "0.0.0.0/1"))))
    assert walked.verdict == "ask"
    assert SSH not in built.only_case().inherited


def test_the_baseline_takes_nothing_away_that_people_are_asked_about(built: House, group: Group) -> None:
    built.raise_to(Mode.ASK, SSH)
    built.walk(group.event((22, group.open(22))))
    before = built.only_case()
    built.sweep()
    after = built.only_case()
    assert (before.state, after.state, after.ask, after.inherited) == (
        "waiting",
        "waiting",
        before.ask,
        (),
    )


def test_what_was_repaired_by_hand_is_closed_by_the_next_sweep(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.TICKET, SSH)
    rule = group.open(22)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    (ticket,) = built.cases.tickets
    assert ticket.is_open
    group.close(rule)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert [one.state for one in built.cases.tickets] == ["closed"]
    assert built.only_case().state == "closed"
    assert built.kinds()[-2:] == ["DECIDED", "TICKET_CLOSED"]
    records = len(built.cases.records)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert len(built.cases.records) == records + 1


# -- many ---------------------------------------------------------------------------------------------------------------

MANY = 800


@contextmanager
def many(built: House, count: int = MANY) -> Iterator[Engine]:
    """An engine that knows one remediation, and an account in which it finds `count` groups open to the world."""
    engine = built.engine()
    real = engine.remediations[SSH]
    ids = tuple(f"sg-{number:017x}" for number in range(count))

    def survey(place: Target, params: Any, aws: Any) -> tuple[Target, ...]:
        return tuple(
            Target(account=place.account, region=place.region, type="AWS::EC2::SecurityGroup", id=one)
            for one in ids
        )

    rule: dict[str, JsonValue] = {"id": "sgr-0", "cidr_v4": "0.0.0.0/0", "from_port": 22, "to_port": 22}
    group = Group(built)
    group.open(22)
    target = Target(account=ACCOUNT, region=REGION, type="AWS::EC2::SecurityGroup", id=group.id)
    params = engine.remediations[SSH].params.model_validate({"ports": (22,)}) if rule else None
    state = real.assess(target, params, built.aws.reader(real, target))
    one: AnyRemediation = replace(real, survey=survey, assess=lambda *_: state, tags=None, controls=(SSH,))
    yield replace(engine, remediations=MappingProxyType({SSH: one}))


def all_parts(engine: Engine) -> None:
    left: list[Any] = [Sweep()]
    while left:
        order = left.pop(0)
        try:
            left += errands.carry_out(engine, order).errands
        except TransientError:
            left.append(order)  # as a queue would: IAM is still making its report


@pytest.mark.thorough
def test_eight_hundred_inherited_violations_are_one_message_no_ticket_and_no_ask(built: House) -> None:
    with many(built) as engine:
        built.raise_to(Mode.ASK, SSH)
        all_parts(engine)
        built.clock.advance(timedelta(days=1))
        all_parts(engine)
    assert kinds(built) == ["baseline_report"]
    assert built.cases.tickets == ()
    assert len(built.cases.cases) == MANY
    assert {case.state.value for case in built.cases.cases} == {"open"}
    assert built.aws.writes == []
    (first, second) = completed(built)
    assert first["failing"] == second["failing"] == {SSH: MANY}
    assert second["baseline"] == []


class Slow:
    """A clock by which every look at it takes two seconds."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.sleep = clock, clock.sleep

    def now(self) -> datetime:
        self.clock.advance(timedelta(seconds=2))
        return self.clock.now()


def test_a_part_is_looked_at_in_portions_and_taken_up_where_it_was_left(built: House) -> None:
    with many(built, 60) as quick:
        engine = replace(quick, clock=Slow(built.clock))
        _, parts = sweep.begin(engine, Sweep())
        (part,) = (one for one in parts if one.so_far.remediation)
        done, rest = sweep.go_on(engine, part)
        portion = len(done)
        assert 0 < portion < 60
        assert rest
        assert rest.so_far.suspects == portion
        assert f"sg-{portion - 1:017x}" in rest.after
        again, same = sweep.go_on(engine, part)
        assert same == rest, "the same message twice goes on from the same place"
        assert len(again) == portion
        assert len(built.cases.cases) == portion
        count = len(built.cases.records)
        while rest is not None:
            done, rest = sweep.go_on(engine, rest)
            assert done, "every message comes at least one target further"
        assert len(built.cases.cases) == 60
        assert len(built.cases.records) == count + 2 * (60 - portion)


# -- halfway ------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_crash_at_any_call_of_a_sweep_and_a_redelivery_end_as_if_nothing_had_happened(
    built: House, group: Group
) -> None:
    group.open(22)
    seen = Faults()
    all_parts(built.engine(seen))
    total = len(seen.seen)
    assert total > 10
    want = [(r.draft.type.value, r.draft.resource) for r in built.cases.records]
    for place in range(1, total + 1):
        fresh = House()
        fresh.aws.switched_on = (REGION,)
        engine, orders = fresh.engine(Faults(place, Kind.AFTER)), list[Any]([Sweep()])
        while orders:
            order = orders.pop(0)
            try:
                orders += errands.carry_out(engine, order).errands
            except (Crash, TransientError):
                orders.append(order)
        where = f"crash after call {place}, {seen.seen[place - 1]}"
        found = [(r.draft.type.value, r.draft.resource) for r in fresh.cases.records]
        assert sorted(found) == sorted(want), where
        assert fresh.aws.writes == []


def test_a_second_sweep_waits_for_the_first_and_brings_its_lost_parts_back(built: House) -> None:
    engine = built.engine()
    first, parts = sweep.begin(engine, Sweep())
    built.clock.advance(timedelta(minutes=5))
    walked, again = sweep.begin(engine, Sweep(by="olga"))
    assert (walked.rule, walked.event_id) == ("under way", first.event_id)
    assert again == parts
    built.clock.advance(ABANDONED_AFTER)
    walked, parts = sweep.begin(engine, Sweep())
    assert walked.rule == "begun"
    assert sweep.go_on(engine, again[0]) == ((), None), "a part of an abandoned sweep is nobody's any more"


def test_a_part_reports_once_though_its_message_comes_twice(built: House) -> None:
    engine = built.engine()
    _, parts = sweep.begin(engine, Sweep())
    for part in (*parts, *parts):
        built.carry_out(part)
    assert len(completed(built)) == 1
    assert kinds(built) == ["baseline_report"]


def test_two_parts_that_report_at_once_are_both_counted(built: House) -> None:
    engine = built.engine()
    _, parts = sweep.begin(engine, Sweep())
    stale = built.cases.swept(ACCOUNT, ()).sweep
    assert stale
    built.carry_out(parts[0])
    sweep._report(engine, stale, parts[1].so_far)
    now = built.cases.swept(ACCOUNT, ()).sweep
    assert now
    assert {part.name for part in now.done} == {parts[0].so_far.name, parts[1].so_far.name}


def test_a_sweep_that_others_move_on_again_and_again_comes_back(built: House) -> None:
    engine = built.engine()
    _, parts = sweep.begin(engine, Sweep())

    def lost(_: object) -> None:
        raise ConflictError("somebody else")

    built.cases.keep = lost  # type: ignore[method-assign,assignment] # a store where others are always quicker
    with pytest.raises(Exception, match="by others all the time"):
        sweep.go_on(engine, parts[-1])


# -- denied, gone, switched off -----------------------------------------------------------------------------------------


class Refusing:
    """Accounts in which surveys (or asking for Regions) fail in one place."""

    def __init__(self, built: House, error: Exception, region: str = REGION) -> None:
        self.aws, self.error, self.region = built.aws, error, region
        self.executor = built.aws.executor

    def reader(self, remediation: AnyRemediation, target: Target) -> Any:
        if target.region == self.region and target.type == "AWS::::Account":
            raise self.error
        return self.aws.reader(remediation, target)

    def regions(self, account: str) -> tuple[str, ...]:
        if self.region == "any":
            raise self.error
        return self.aws.regions(account)


DENIED = AccessDeniedError("ec2", "DescribeSecurityGroupRules", "AuthFailure", "not in this Region", "r")


def test_a_region_that_cannot_be_read_is_said_to_be_and_is_nobodys_baseline(
    built: House, group: Group
) -> None:
    engine = replace(built.engine(), aws=Refusing(built, DENIED))
    all_parts(engine)
    (report,) = completed(built)
    assert f"ec2_revoke_open_ingress/{REGION}" in report["unread"]
    assert not [part for part in report["unread"] if not part.endswith(REGION)]
    assert SSH not in {baseline.control for baseline in built.cases.baselines}
    group.open(22)
    built.raise_to(Mode.ASK, SSH)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert built.only_case().inherited, "the first look that was one"


def test_an_account_whose_regions_nobody_tells_ends_in_a_record(built: House) -> None:
    engine = replace(built.engine(), aws=Refusing(built, DENIED, region="any"))
    walked, parts = sweep.begin(engine, Sweep())
    assert (walked.rule, parts) == ("unreadable", ())
    (report,) = completed(built)
    assert report["unread"] == {"regions": str(DENIED)}
    assert built.cases.baselines == ()


def test_what_is_merely_throttled_comes_back(built: House) -> None:
    slow = TransientError("ec2", "DescribeRegions", "RequestLimitExceeded", "slow down", "r")
    with pytest.raises(TransientError):
        sweep.begin(replace(built.engine(), aws=Refusing(built, slow, region="any")), Sweep())
    engine = replace(built.engine(), aws=Refusing(built, slow))
    _, parts = sweep.begin(engine, Sweep())
    with pytest.raises(TransientError):
        sweep.go_on(engine, next(part for part in parts if part.region == REGION))
    assert completed(built) == []


def test_a_sweep_whose_state_cannot_be_read_looks_at_nothing(built: House) -> None:
    with pytest.raises(StoreError):
        built.run(Sweep(), Faults(1, Kind.DENIED))
    assert built.aws.operations == []


def test_a_target_in_a_runs_hands_is_left_to_it(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.ACT, SSH)
    with pytest.raises(Crash):
        built.walk(group.event((22, group.open(22))), Faults(6, Kind.BEFORE))
    built.clock.advance(timedelta(seconds=1))
    walked = built.sweep()
    assert "busy" in {one.verdict for one in walked}
    assert built.only_case().state == "running"


def test_a_group_that_went_away_is_closed(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.TICKET, SSH)
    group.open(22)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    group.ec2.delete_security_group(GroupId=group.id)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert built.only_case().state == "closed"
    assert [ticket.state for ticket in built.cases.tickets] == ["closed"]


def test_a_part_for_nothing_that_we_know_is_dropped(built: House) -> None:
    engine = built.engine()
    _, parts = sweep.begin(engine, Sweep())
    stranger = parts[0].model_copy(update={"sweep": "another"})
    assert isinstance(stranger, SweepPart)
    assert sweep.go_on(engine, stranger) == ((), None)


def test_a_case_that_cannot_be_read_or_is_nobodys_hides_no_other_from_a_sweep(
    built: House, group: Group
) -> None:
    built.sweep()
    built.raise_to(Mode.TICKET, SSH)
    rule = group.open(22)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    case = built.only_case()
    gone = case.model_copy(update={"digest": "g" * 20, "controls": ("gone",), "ticket": None})
    built.cases.items["CASE", gone.digest] = Item(gone.model_dump_json(), gone.version)
    built.cases.items["CASE", "b" * 20] = Item("{}", 1)
    group.close(rule)
    built.clock.advance(timedelta(days=1))
    built.sweep()
    assert [ticket.state for ticket in built.cases.tickets] == ["closed"]
    assert "open-cases" in completed(built)[-1]["unread"]


def test_a_store_that_refuses_a_target_of_a_sweep_brings_the_part_back(built: House, group: Group) -> None:
    group.open(22)
    _, parts = sweep.begin(built.engine(), Sweep())
    part = next(one for one in parts if one.so_far.remediation == "ec2_revoke_open_ingress")

    def away(_: object) -> None:
        raise StoreError("away")

    built.cases.look = away  # type: ignore[method-assign,assignment] # a table that is away
    with pytest.raises(StoreError):
        sweep.go_on(built.engine(), part)
    now = built.cases.swept(ACCOUNT, ()).sweep
    assert now
    assert now.done == ()


def test_a_report_that_stands_or_is_nobodys_any_more_is_not_made_again(built: House) -> None:
    engine = built.engine()
    _, parts = sweep.begin(engine, Sweep())
    stale = built.cases.swept(ACCOUNT, ()).sweep
    assert stale
    built.carry_out(parts[0])
    now = built.cases.swept(ACCOUNT, ()).sweep
    assert now
    sweep._report(engine, now, parts[0].so_far)
    assert built.cases.swept(ACCOUNT, ()).sweep == now
    built.clock.advance(ABANDONED_AFTER)
    sweep.begin(engine, Sweep())
    another = built.cases.swept(ACCOUNT, ()).sweep
    sweep._report(engine, stale, parts[1].so_far)
    assert built.cases.swept(ACCOUNT, ()).sweep == another


def test_only_an_event_says_who_changed_it(built: House, group: Group) -> None:
    built.sweep()
    built.raise_to(Mode.ASK, SSH)
    rule = group.open(22)
    built.sweep()
    case = built.only_case()
    assert _shown(built).source == ("Found by", "a sweep")
    built.clock.advance(timedelta(minutes=1))
    built.carry_out(Look(case=case.id, by="olga", requested=True, request_id="r-1"))
    assert _shown(built).source == ("Looked at for", "olga")
    built.walk(group.event((22, rule)))
    built.clock.advance(timedelta(minutes=1))
    built.carry_out(Look(case=case.id, by="olga", requested=True, request_id="r-2"))
    assert _shown(built).source == ("Changed by", f"arn:aws:iam::{ACCOUNT}:user/ann")


def _shown(built: House) -> JoinedCause:
    shown = built.only_case().shown_cause
    assert shown
    return shown
