"""Act with more than one call: halfway is finished, never begun again."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from chalicelib.domain.contract import AnyRemediation, Cause, Plan
from chalicelib.domain.errors import AccessDeniedError
from chalicelib.domain.finding import Target
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import AFTER_THE_LEASE, House, house
from tests.flow.test_pipeline import SSH, WORLD, Group, Meddler


@pytest.fixture
def built() -> Iterator[House]:
    with house() as one:
        yield one


def call_by_call(remediation: AnyRemediation) -> AnyRemediation:
    """The same remediation with one call for each rule."""

    def plan(target: Target, params: Any, state: Any, cause: Cause, as_of: datetime) -> Plan:
        whole: Plan = remediation.plan(target, params, state, cause, as_of)
        calls = tuple(
            call.model_copy(update={"params": {**call.params, "SecurityGroupRuleIds": [rule]}})
            for call in whole.calls
            for rule in list(call.params["SecurityGroupRuleIds"])  # type: ignore[arg-type]  # a list of ids
        )
        return whole.model_copy(update={"calls": calls})

    return replace(remediation, plan=plan)


def attack(built: House) -> tuple[Group, dict[str, Any]]:
    """One event opens port 22 twice."""
    from chalicelib.domain.contract import Mode

    group = Group(built)
    built.raise_to(Mode.ACT, SSH)
    opened = [(22, group.open(22, cidr)) for cidr in (WORLD, "1.2.3.4/0", "5.6.7.8/0")]
    return group, group.event(*opened)


def walk(built: House, event: dict[str, Any], faults: Faults | None = None) -> str:
    engine = built.engine(faults)
    (walked,) = replace(engine, remediations={SSH: call_by_call(engine.remediations[SSH])}).walk(event)
    return walked.outcome


def test_a_crash_between_two_calls_is_finished_with_the_calls_that_are_left(built: House) -> None:
    group, event = attack(built)
    dry = Faults()
    with house() as other:
        assert walk(other, attack(other)[1], dry) == "fixed"
    places = [place for place, name in enumerate(dry.seen, 1) if name == "ec2.RevokeSecurityGroupIngress"]
    assert len(places) > 1
    with pytest.raises(Crash):
        walk(built, event, Faults(places[1], Kind.BEFORE))
    assert len(built.aws.writes) == 1
    built.clock.advance(AFTER_THE_LEASE)
    assert walk(built, event) == "fixed"
    assert group.ports == [443]
    assert len(built.aws.writes) == len(places), "no call was made twice"
    results = built.record("RESULT")["results"]
    assert [done["observed_by"] for done in results] == ["reassessment", *["response"] * (len(places) - 1)]
    assert results[0]["request_id"] is None
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]


def test_a_call_refused_halfway_is_a_failure_and_shows_what_was_done(built: House) -> None:
    group, event = attack(built)
    refused = AccessDeniedError("ec2", "RevokeSecurityGroupIngress", "UnauthorizedOperation", "no", "r-2")

    def refuse() -> None:
        raise refused

    meddler = Meddler(built, "ec2.RevokeSecurityGroupIngress", refuse, nth=2)
    engine = built.engine(meddler._inner)
    (walked,) = replace(engine, remediations={SSH: call_by_call(engine.remediations[SSH])}).walk(event)
    assert walked.outcome == "failed"
    results = built.record("RESULT")["results"]
    assert results[0]["error"] is None
    assert results[1]["error"].startswith("UnauthorizedOperation")
    assert built.record("RESULT")["after"] is not None
    assert len(group.ports) > 1
