"""The function dies at every single call of an acting walk, before it and after it; the queue brings the event back.

All the deaths come first, one group each; then the messages show again, together, and every group is looked at.
"""

import pytest

from local.emulator.world import Effect, Fault
from local.stage import Stage
from tests.e2e.scenes import (
    HIDDEN_SECONDS,
    ONLY_443,
    SSH,
    broken,
    calm,
    cases,
    effective,
    halves,
    heard,
    kinds,
    mended,
    of,
    receives,
    redelivered,
    story,
    waiting,
    walked,
)

pytestmark = pytest.mark.emulator

WALK = (
    ("dynamodb", "BatchGetItem"),
    ("sts", "AssumeRole"),
    ("ec2", "DescribeSecurityGroupRules"),
    ("ec2", "DescribeSecurityGroups"),
    ("dynamodb", "TransactWriteItems"),
    ("sts", "AssumeRole"),
    ("dynamodb", "BatchGetItem"),
    ("ec2", "RevokeSecurityGroupIngress"),
    ("ec2", "DescribeSecurityGroupRules"),
    ("dynamodb", "TransactWriteItems"),
)
"""Every call of a cold walk: gate, read session, assess, whose it is, INTENT, acting session, guard, the write, verify, RESULT."""

WRITE = 7
EFFECTS: tuple[Effect, ...] = ("kill_before", "kill_after")
DEATHS = [(effect, number) for number in range(len(WALK)) for effect in EFFECTS]

at_every_call = pytest.mark.parametrize(
    "death", DEATHS, ids=[f"{effect}-{number}-{WALK[number][1]}" for effect, number in DEATHS]
)
Death = tuple[Effect, int]


@pytest.fixture(scope="module")
def died(deployed: Stage) -> dict[Death, str]:
    """A group for each death, after the redelivery of its event."""
    calm(deployed)
    mended(deployed)
    groups = {
        death: deployed.security_group(f"crash-{death[0].replace('_', '-')}-{death[1]}") for death in DEATHS
    }
    deployed.world.clear_calls()
    receives(deployed, visibility=HIDDEN_SECONDS)
    for (effect, number), group in groups.items():
        deployed.world.kill_workers(busy_only=False)
        service, operation = WALK[number]
        nth = WALK[: number + 1].count(WALK[number])
        deployed.world.faults([Fault(effect, service, operation, deployed.settings.prefix, nth)])
        before = waiting(deployed)
        deployed.open(group, SSH)
        deployed.world.wait_for(lambda: _killed(deployed), 25.0, f"{effect} at {operation} number {nth}")
        deployed.world.faults([])
        assert waiting(deployed) == before + 1, "the message is back before every death has been died"
    redelivered(deployed, "events")
    deployed.world.wait_for(
        lambda: all(_closed_case(deployed, group) for group in groups.values()),
        240.0,
        "the redelivered events",
    )
    calm(deployed)
    return groups


def _killed(stage: Stage) -> bool:
    """Whether the function has just died: every worker process is gone."""
    return stage.world.fault_hits() > 0 and stage.world.kill_workers(busy_only=False) == 0


def _closed_case(stage: Stage, group: str) -> bool:
    return [case.state.value for case in cases(stage, group)] == ["closed"]


def test_a_cold_walk_makes_just_the_calls_at_which_the_function_is_killed(deployed: Stage) -> None:
    calm(deployed)
    mended(deployed)
    deployed.world.kill_workers(busy_only=False)
    before = len(walked(deployed))
    group = deployed.security_group("crash-none")
    deployed.open(group, SSH)
    deployed.await_record(deployed.arn(group), "RESULT")
    calm(deployed)
    assert tuple((call.service, call.operation) for call in walked(deployed)[before:]) == WALK


@at_every_call
def test_after_a_crash_the_group_is_as_intended(
    deployed: Stage, died: dict[Death, str], death: Death
) -> None:
    assert deployed.ingress(died[death]) == ONLY_443


@at_every_call
def test_after_a_crash_there_is_one_intent_and_one_result_on_a_whole_chain(
    deployed: Stage, died: dict[Death, str], death: Death
) -> None:
    bodies = story(deployed, died[death])
    assert kinds(bodies) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    assert halves(bodies) == set()
    assert broken(deployed, died[death]) == []
    assert len(heard(bodies)) == 1


@at_every_call
def test_after_a_crash_at_most_one_revoke_took_effect(
    deployed: Stage, died: dict[Death, str], death: Death
) -> None:
    assert len(effective(deployed, died[death])) == 1


@at_every_call
def test_after_a_crash_the_result_says_how_it_was_seen(
    deployed: Stage, died: dict[Death, str], death: Death
) -> None:
    effect, number = death
    (result,) = of(story(deployed, died[death]), "RESULT")
    assert result["data"]["outcome"] == "fixed"
    # From the write's own answer on, until the RESULT stands, what the dead run knew died with it.
    moment = 2 * number + (effect == "kill_after")
    lost = 2 * WRITE + 1 <= moment < 2 * len(WALK) - 1
    assert result["data"]["observed_by"] == ("reassessment" if lost else "response")
    assert [done["request_id"] is None for done in result["data"]["results"]] == [lost]
