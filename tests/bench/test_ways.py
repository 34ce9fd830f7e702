"""What every way through the house calls, counted on the emulated AWS by the roles of this deployment, against its budget."""

from collections import Counter
from collections.abc import Iterator

import pytest

from bench import budget, walks, ways
from chalicelib.flow.visit import OWN_ROLES
from local.stage import Stage

pytestmark = pytest.mark.emulator


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, list[budget.Seen]]]:
    with Stage(parameters=walks.PARAMETERS) as stage:
        yield ways.counted(stage, lambda _: None)


@pytest.mark.parametrize("step", budget.STEPS, ids=lambda step: step.name)
def test_a_step_makes_the_calls_of_its_budget_and_no_others(
    found: dict[str, list[budget.Seen]], step: budget.Step
) -> None:
    assert Counter(call.service for call in found[step.name]) == {
        one.service: one.budget for one in step.fewest
    }


def test_only_what_a_step_is_for_writes(found: dict[str, list[budget.Seen]]) -> None:
    changes = {"DeletePublicAccessBlock", "PutPublicAccessBlock", "UpdateAccessKey"}
    wrote = {
        step.name: [call.operation for call in found[step.name] if call.operation in changes]
        for step in budget.STEPS
    }
    assert {name: operations for name, operations in wrote.items() if operations} == {
        "act": ["PutPublicAccessBlock"],
        "asked: carried out": ["PutPublicAccessBlock"],
        "undo: carried out": ["DeletePublicAccessBlock"],
        "found: iam_deactivate_access_key/global": ["UpdateAccessKey"],
    }


@pytest.mark.parametrize("name", ["compliant", "known"])
def test_a_sweep_that_finds_nothing_new_writes_its_beginning_and_its_parts_and_nothing_else(
    found: dict[str, list[budget.Seen]], name: str
) -> None:
    parts = {step: calls for step, calls in found.items() if step.startswith(f"{name}: ")}
    assert len(parts) == 1 + budget.PARTS_OF_A_SWEEP
    assert {budget.wrote(calls) for calls in parts.values()} == {1}


@pytest.mark.parametrize("name", ["compliant", "known"])
def test_a_sweep_only_reads_the_account(found: dict[str, list[budget.Seen]], name: str) -> None:
    calls = [call for step, calls in found.items() if step.startswith(f"{name}: ") for call in calls]
    asked = {call.operation for call in calls if call.service not in {"dynamodb", "sqs"}}
    assert {name for name in asked if not name.startswith(("Describe", "Get", "List"))} == {
        "GenerateCredentialReport"
    }


def test_every_role_is_counted_but_those_that_tell_people_and_nobody_else(
    found: dict[str, list[budget.Seen]],
) -> None:
    roles = {call.role.removeprefix("redress-demo-") for calls in found.values() for call in calls}
    assert roles == {*OWN_ROLES} - {"outbox", "notifier"}
