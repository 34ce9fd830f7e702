"""Everything that stops the engine: the kill switch, the limits, an exemption, and whatever cannot be read."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.domain.contract import Mode
from chalicelib.domain.ports import ModeSetting
from chalicelib.flow.command import Redrive
from local.demo import WORLD
from local.emulator.world import Fault
from local.stage import Stage
from tests.e2e.scenes import (
    CONTROLS,
    ONLY_443,
    SSH,
    broken,
    calm,
    cases,
    drain,
    exempt,
    freeze,
    halves,
    kinds,
    mended,
    of,
    peek,
    receives,
    set_mode,
    story,
    thaw,
    waiting,
    writes,
)

pytestmark = pytest.mark.emulator

OPEN = frozenset({(443, WORLD), (SSH, WORLD)})


def test_frozen_before_the_event_it_is_observed_and_the_switch_is_named(stage: Stage) -> None:
    group = stage.security_group("stops-frozen")
    freeze(stage)
    stage.world.clear_calls()
    stage.open(group, SSH)
    decided = stage.await_record(stage.arn(group), "DECIDED")
    calm(stage)
    assert (decided["data"]["verdict"], decided["data"]["rule"]) == ("observe", "frozen")
    assert decided["data"]["reason"] == f"frozen by {stage.operator.arn}: a test stops everything"
    assert writes(stage) == []
    assert stage.calls_by("act") == []
    assert stage.ingress(group) == OPEN


def test_frozen_between_the_intent_and_the_write_nothing_is_written(stage: Stage) -> None:
    _warm(stage)
    group = stage.security_group("stops-between")
    stage.world.clear_calls()
    stage.world.faults([Fault("hold", service="sts", operation="AssumeRole", role="engine")])
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "INTENT")
    freeze(stage)
    stage.world.faults([])
    result = stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
    assert result["data"]["outcome"] == "declined"
    assert "frozen by" in result["data"]["reason"]
    assert writes(stage) == []
    assert stage.ingress(group) == OPEN
    assert halves(story(stage, group)) == set()
    assert broken(stage, group) == []
    assert [case.state.value for case in cases(stage, group)] == ["open"]


def test_thawed_again_the_next_event_is_acted_on(stage: Stage) -> None:
    freeze(stage)
    thaw(stage)
    group = stage.security_group("stops-thawed")
    stage.open(group, SSH)
    assert stage.await_record(stage.arn(group), "RESULT")["data"]["outcome"] == "fixed"


def test_after_three_runs_that_failed_the_control_asks_until_a_person_resets_its_breaker(
    stage: Stage,
) -> None:
    mended(stage)
    stage.world.faults(
        [Fault("deny", service="ec2", operation="RevokeSecurityGroupIngress", role="act", times=100)]
    )
    groups = [stage.security_group(f"stops-failing-{number}") for number in range(3)]
    for failing in groups:
        stage.open(failing, SSH)
        assert stage.await_record(stage.arn(failing), "RESULT")["data"]["outcome"] == "failed"
    calm(stage)
    assert sorted(len(of(story(stage, one), "BREAKER_OPENED")) for one in groups) == [0, 0, 1]
    stage.world.faults([])
    stage.world.clear_calls()
    group = stage.security_group("stops-tripped")
    stage.open(group, SSH)
    decided = stage.await_record(stage.arn(group), "DECIDED")
    calm(stage)
    assert (decided["data"]["verdict"], decided["data"]["rule"]) == ("ask", "breaker open")
    assert writes(stage) == []
    mended(stage)
    after = stage.security_group("stops-mended")
    stage.open(after, SSH)
    assert stage.await_record(stage.arn(after), "RESULT")["data"]["outcome"] == "fixed"


def test_an_absent_kill_switch_is_no_off_and_the_event_waits_for_it(fresh: Stage) -> None:
    """A mode that somebody wrote into the table by hand, past the command that would have made the switch."""
    receives(fresh, visibility=1, most=2)
    drain(fresh, "events-dlq")
    table, pk = fresh.settings.table("control_state"), f"MODE#{fresh.world.account}#ec2-open-ssh"
    by_hand = ModeSetting(
        account=fresh.world.account,
        control="ec2-open-ssh",
        mode=Mode.ACT,
        by="nobody",
        at=datetime.now(UTC),
        reason="by hand",
    )
    item = {"pk": {"S": pk}, "kind": {"S": "MODE"}, "body": {"S": by_hand.model_dump_json()}}
    fresh.world.client("dynamodb", quiet=True).put_item(TableName=table, Item=item)
    fresh.world.clear_calls()
    group = fresh.security_group("stops-absent")
    fresh.open(group, SSH)
    fresh.world.wait_for(lambda: waiting(fresh, "events-dlq") == 1, 40.0, "the event among the dead letters")
    (body,) = peek(fresh, "events-dlq").values()
    assert json.loads(body)["detail"]["requestParameters"]["groupId"] == group
    assert writes(fresh) == []
    assert fresh.ingress(group) == OPEN
    assert story(fresh, group) == []

    set_mode(fresh, Mode.ACT, "ec2-open-rdp")
    fresh.command(Redrive(queue="events", most=1, reason="the switch is there now"))
    fresh.world.wait_for(lambda: fresh.ingress(group) == ONLY_443, 30.0, "22 to be closed after all")


@pytest.fixture(scope="module")
def thrifty() -> Iterator[Stage]:
    """Two writes an hour, and no more."""
    with Stage(parameters={"LimitPerControl": "2"}) as stage:
        set_mode(stage, Mode.ACT, *CONTROLS)
        yield stage


def test_over_the_limit_a_person_is_asked_however_many_come_at_once(thrifty: Stage) -> None:
    groups = [thrifty.security_group(f"stops-limit-{number}") for number in range(5)]
    thrifty.world.clear_calls()
    threads = [threading.Thread(target=thrifty.open, args=(group, SSH)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for group in groups:
        thrifty.await_record(thrifty.arn(group), "DECIDED", seconds=40.0)
    calm(thrifty)
    stories = {group: story(thrifty, group) for group in groups}
    asked = {group for group, bodies in stories.items() if "INTENT" not in kinds(bodies)}
    assert len(asked) == 3
    assert len(writes(thrifty)) == 2
    for group in groups:
        (decided,) = of(stories[group], "DECIDED")
        if group in asked:
            assert (decided["data"]["verdict"], decided["data"]["rule"]) == ("ask", "over a limit")
            assert "would pass the limit of 2" in decided["data"]["reason"]
            assert thrifty.ingress(group) == OPEN
        else:
            assert decided["data"]["verdict"] == "act"
            assert thrifty.ingress(group) == ONLY_443


def test_an_exempt_group_is_recorded_and_not_even_read(stage: Stage) -> None:
    group = stage.security_group("stops-exempt")
    stage.command(exempt(stage, group))
    stage.world.clear_calls()
    stage.open(group, SSH)
    decided = stage.await_record(stage.arn(group), "DECIDED")
    calm(stage)
    assert (decided["data"]["verdict"], decided["data"]["rule"]) == ("ignore", "exempt")
    assert "the bastion's team" in decided["data"]["reason"]
    # The function behind the outbox has the exemption's own errand to bring; those that walk have only our tables to ask.
    walking = [call for role in ("engine", "read", "act") for call in stage.calls_by(role)]
    assert {call.service for call in walking} == {"dynamodb"}
    assert stage.ingress(group) == OPEN
    assert [case.state.value for case in cases(stage, group)] == ["exempt"]


def test_an_exemption_that_has_ended_covers_nothing(stage: Stage) -> None:
    group = stage.security_group("stops-ended")
    stage.command(exempt(stage, group, lasts=timedelta(seconds=2)))
    time.sleep(2.1)
    stage.open(group, SSH)
    assert stage.await_record(stage.arn(group), "RESULT")["data"]["outcome"] == "fixed"


def _warm(stage: Stage) -> None:
    group = stage.security_group(f"stops-warm-{time.monotonic_ns()}")
    stage.open(group, SSH)
    stage.await_record(stage.arn(group), "RESULT")
    calm(stage)
