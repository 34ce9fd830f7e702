"""Undo: restores what was recorded, once, and declines when somebody has changed it since."""

import json
from collections.abc import Iterator

import pytest

from chalicelib.domain.contract import CallResult, Mode, Outcome, Plan, RunRecord, State
from chalicelib.flow import undo
from chalicelib.flow.act import Achieved
from chalicelib.flow.visit import params_of
from tests.fakes.house import House, house
from tests.flow.test_pipeline import SSH, Group, attacked


@pytest.fixture
def built() -> Iterator[House]:
    with house() as one:
        yield one


@pytest.fixture
def group(built: House) -> Group:
    return Group(built)


def undone(built: House) -> Achieved:
    """Undo the only run there is, as the undo function will."""
    engine = built.engine()
    remediation, control = engine.remediations[SSH], engine.controls[SSH]
    intent, result = built.record("INTENT"), built.record("RESULT")
    run: RunRecord[State] = RunRecord(
        before=remediation.state.model_validate_json(json.dumps(intent["before"])),
        plan=Plan.model_validate_json(json.dumps(intent["plan"])),
        results=tuple(CallResult.model_validate_json(json.dumps(done)) for done in result["results"]),
        after=remediation.state.model_validate_json(json.dumps(result["after"])),
    )
    case, params = built.only_case(), params_of(remediation, (control,))
    prepared = undo.prepare(remediation, case, params, run, built.aws)
    return undo.perform(
        remediation, case, params, run, prepared, "redress-undo", built.aws, built.clock, lambda: None
    )


def test_an_undo_brings_the_rule_back_and_a_second_one_does_nothing(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    assert undone(built).outcome is Outcome.FIXED
    assert group.ports == [22, 443]
    writes = len(built.aws.writes)
    assert undone(built).outcome is Outcome.ALREADY_COMPLIANT
    assert len(built.aws.writes) == writes


def test_what_others_did_besides_does_not_stand_in_the_way(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    group.open(8443)
    assert undone(built).outcome is Outcome.FIXED
    assert group.ports == [22, 443, 8443]


def test_a_drifted_target_is_left_alone_with_the_reason(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    group.ec2.authorize_security_group_ingress(
        GroupId=group.id,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "mine now"}],
            }
        ],
    )
    writes = len(built.aws.writes)
    achieved = undone(built)
    assert achieved.outcome is Outcome.DECLINED
    assert achieved.reason
    assert len(built.aws.writes) == writes


def test_the_next_event_is_repaired_again_until_an_exemption_says_otherwise(
    built: House, group: Group
) -> None:
    built.walk(attacked(built, group))
    undone(built)
    built.raise_to(Mode.ACT, SSH)
    assert group.ports == [22, 443]
