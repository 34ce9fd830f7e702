"""The fewest calls are derived, not remembered; and what a walk made is counted by our roles alone."""

from collections import Counter
from dataclasses import dataclass

import pytest

import remediations
from bench import budget
from bench.figures import Row
from chalicelib.adapters.actions import actions_of


@dataclass(frozen=True)
class Call:
    service: str
    operation: str
    role: str = ""
    time: str = "2026-11-22T03:26:22.000000+00:00"


def of(name: str) -> budget.Walk:
    return next(walk for walk in budget.WALKS if walk.name == name)


def rows(name: str, counted: Counter[str]) -> list[Row]:
    return budget.rows(name, budget.fewest(of(name)), counted)


@pytest.mark.parametrize(
    "name, ec2, dynamodb, sts",
    [
        ("open SSH, observed", 1, 2, 0),
        ("open SSH, repaired", 4, 4, 1),
        ("EBS encryption off, observed", 4, 2, 0),
        ("EBS encryption off, repaired", 6, 4, 1),
    ],
)
def test_the_fewest_calls_of_each_walk(name: str, ec2: int, dynamodb: int, sts: int) -> None:
    assert [(one.service, one.calls) for one in budget.fewest(of(name))] == [
        ("ec2", ec2),
        ("dynamodb", dynamodb),
        ("sts", sts),
    ]


@pytest.mark.parametrize("walk", budget.WALKS, ids=lambda walk: walk.name)
def test_the_budgets_follow_the_promises_of_the_architecture(walk: budget.Walk) -> None:
    calls = {one.service: one.calls for one in budget.fewest(walk)}
    assert calls["dynamodb"] == (3 + len(walk.writes) if walk.acts else 2)
    assert calls["sts"] == (1 if walk.acts else 0)
    assert calls["ec2"] == len(walk.reads) + len(walk.tells) + len(walk.writes) + len(walk.verifies)
    assert not walk.tells or walk.acts, "who only observes tells no owner"
    assert bool(walk.writes) is bool(walk.verifies) is walk.acts


@pytest.mark.parametrize("walk", budget.WALKS, ids=lambda walk: walk.name)
def test_every_derivation_stands_beside_its_number(walk: budget.Walk) -> None:
    for one in budget.fewest(walk):
        assert len(one.because.split()) > 5, one


@pytest.mark.parametrize("walk", budget.WALKS, ids=lambda walk: walk.name)
def test_a_budget_names_only_what_the_remediation_declares(walk: budget.Walk) -> None:
    (remediation,) = (one for one in remediations.discover() if walk.control in one.controls)
    reads = {permission.action for permission in remediation.reads}
    writes = {permission.action for permission in remediation.writes}
    read = (*walk.reads, *walk.tells, *walk.verifies)
    assert {action for name in read for action in actions_of("ec2", name)} <= reads
    assert {action for name in walk.writes for action in actions_of("ec2", name)} <= writes


def test_only_calls_of_our_roles_are_counted() -> None:
    calls = [
        Call("ec2", "DescribeSecurityGroupRules", "redress-demo-read"),
        Call("ec2", "AuthorizeSecurityGroupIngress"),
        Call("dynamodb", "BatchGetItem", "redress-demo-engine"),
        Call("dynamodb", "PutItem", "bench-plain"),
    ]
    assert budget.made(calls, {"redress-demo-engine", "redress-demo-read"}) == {"ec2": 1, "dynamodb": 1}


def test_as_many_calls_as_the_fewest_meet_the_target() -> None:
    made = rows("open SSH, repaired", Counter(ec2=4, dynamodb=4, sts=1))
    assert [row.met for row in made] == [True, True, True, True]


def test_one_call_more_misses_it() -> None:
    made = rows("open SSH, repaired", Counter(ec2=5, dynamodb=4, sts=1))
    assert [row.met for row in made] == [False, True, True, True]


def test_one_call_fewer_than_possible_says_that_the_derivation_is_wrong() -> None:
    ec2 = rows("open SSH, observed", Counter(dynamodb=2))[0]
    assert ec2.met is False
    assert "derivation is wrong" in ec2.note


def test_a_service_that_nobody_expects_is_named() -> None:
    other = rows("open SSH, observed", Counter(ec2=1, dynamodb=2, kms=2))[-1]
    assert (other.value, other.met, other.note) == (2, False, "kms 2")


@pytest.mark.parametrize("step", budget.STEPS, ids=lambda step: step.name)
def test_every_call_above_the_fewest_has_its_reason(step: budget.Step) -> None:
    for one in step.fewest:
        assert one.because
        assert bool(one.more) is bool(one.for_the_sake_of)
        assert one.more >= 0
        assert one.budget == one.calls + one.more


def test_the_names_of_the_steps_and_of_their_services_are_unique() -> None:
    names = [step.name for step in budget.STEPS]
    assert len(names) == len(set(names))
    for step in budget.STEPS:
        assert len(step.fewest) == len({one.service for one in step.fewest})


def test_a_call_that_is_no_longer_made_misses_a_budget_that_allows_for_it() -> None:
    derived = (budget.Fewest("s3", 1, "the block", 1, "the Region"),)
    made, fewer = (budget.rows("a step", derived, Counter(s3=count))[0] for count in (2, 1))
    assert (made.met, made.note) == (True, "the block; 1 more than the fewest: the Region")
    assert fewer.met is False
    assert "derivation is wrong" in fewer.note


def test_a_sweep_that_writes_once_more_misses() -> None:
    wrote = [Call("dynamodb", "TransactWriteItems")] * (1 + budget.PARTS_OF_A_SWEEP)
    read = [Call("dynamodb", "BatchGetItem"), Call("s3", "PutItem")]
    assert budget.row_of_writes([*wrote, *read]).met is True
    assert budget.row_of_writes([*wrote, Call("dynamodb", "PutItem")]).met is False
    assert budget.row_of_writes(wrote[1:]).met is False


def test_closed_is_when_the_verifying_read_arrives() -> None:
    calls = [
        Call("ec2", "DescribeSecurityGroupRules", "read", "2026-11-22T03:00:00.000000+00:00"),
        Call("ec2", "AuthorizeSecurityGroupIngress", "", "2026-11-22T03:00:01.000000+00:00"),
        Call("ec2", "DescribeSecurityGroupRules", "read", "2026-11-22T03:00:01.500000+00:00"),
        Call("ec2", "RevokeSecurityGroupIngress", "act", "2026-11-22T03:00:01.700000+00:00"),
        Call("ec2", "DescribeSecurityGroupRules", "read", "2026-11-22T03:00:01.750000+00:00"),
        Call("ec2", "DescribeSecurityGroupRules", "read", "2026-11-22T03:00:09.000000+00:00"),
    ]
    asked = ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "read")
    assert budget.closed_after(calls, *asked) == 0.75
    assert budget.closed_after(calls[:4], *asked) is None
    assert budget.closed_after([], *asked) is None
