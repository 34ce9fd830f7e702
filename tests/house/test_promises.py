"""What every remediation promises. A new file inherits all of this on the day it is written, without a line here."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import remediations
from chalicelib import catalog
from chalicelib.adapters.actions import actions_of
from chalicelib.domain.contract import (
    AnyRemediation,
    Call,
    CallResult,
    Cause,
    Mode,
    Outcome,
    Plan,
    RunRecord,
    State,
    plan_hash,
)
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import Actor, Target
from chalicelib.flow import undo
from chalicelib.flow.visit import params_of
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, House, Scenario, house, scenario_of, states_of

ROOT = Path(__file__).resolve().parents[2]
ALL = remediations.discover()
AT = datetime(2026, 11, 22, tzinfo=UTC)
ANN = Actor(type="IAMUser", arn="arn:aws:iam::111111111111:user/ann")

every = pytest.mark.parametrize("remediation", ALL, ids=lambda remediation: remediation.id)


def module_of(remediation: AnyRemediation) -> ModuleType:
    return __import__(f"remediations.{remediation.id}", fromlist=["REMEDIATION"])


def violated(remediation: AnyRemediation, **limits: int) -> Iterator[tuple[House, dict[str, Any]]]:
    """A house where the remediation's scenario has just happened and its controls may act."""
    with house(**limits) as built:
        yield built, violate(built, remediation)


def violate(built: House, remediation: AnyRemediation) -> dict[str, Any]:
    scenario = scenario_of(remediation.id)
    target, opened = scenario.violate(built.session)
    built.raise_to(Mode.ACT, *remediation.controls)
    return scenario.event(target, opened, built.clock.now())


# -- what it is ---------------------------------------------------------------------------------------------------------


@every
def test_its_id_is_its_file_and_its_test_stands_beside_it(remediation: AnyRemediation) -> None:
    assert Path(str(module_of(remediation).__file__)).stem == remediation.id
    assert (ROOT / "tests" / "remediations" / f"test_{remediation.id}.py").is_file()
    assert isinstance(scenario_of(remediation.id), object)


@every
def test_its_controls_exist_and_give_it_parameters(remediation: AnyRemediation) -> None:
    controls = [catalog.load().by_id(control) for control in remediation.controls]
    params = params_of(remediation, controls)
    assert isinstance(params, remediation.params)
    assert type(params).model_validate_json(params.model_dump_json()) == params


def test_no_control_is_claimed_twice() -> None:
    claimed = [control for remediation in ALL for control in remediation.controls]
    assert len(claimed) == len(set(claimed))


@every
def test_its_summary_is_a_sentence_about_the_compliant_state(remediation: AnyRemediation) -> None:
    assert remediation.summary.endswith(".")
    assert len(remediation.summary) <= 160
    assert not remediation.summary.startswith("Ensure")


@every
def test_nothing_in_its_module_can_remember_an_event(remediation: AnyRemediation) -> None:
    harmless = (str, int, tuple, frozenset, FunctionType, type, MappingProxyType, ModuleType)
    for name, value in vars(module_of(remediation)).items():
        frozen = isinstance(value, BaseModel) and value.model_config.get("frozen")
        if name.startswith("__") or isinstance(value, harmless) or callable(value) or frozen:
            continue
        assert value is remediation or type(value).__module__ in {"typing", "types"}, name


# -- its plan -----------------------------------------------------------------------------------------------------------


@every
def test_its_state_survives_json(remediation: AnyRemediation) -> None:
    @settings(max_examples=50)
    @given(states_of(remediation.id))
    def survives(state: State) -> None:
        assert remediation.state.model_validate_json(state.model_dump_json()) == state
        assert isinstance(state.compliant, bool)
        json.dumps(state.content())

    survives()


@every
def test_its_plan_is_pure_and_uses_only_what_it_declares(remediation: AnyRemediation) -> None:
    scenario = scenario_of(remediation.id)
    writes = {permission.action for permission in remediation.writes}
    target = target_of(remediation)

    @settings(max_examples=100)
    @given(states_of(remediation.id), st.booleans())
    def decides(state: State, told: bool) -> None:
        opened = ids_in(state) if told else ()
        cause = Cause(at=AT, actor=ANN, opened=opened)
        first = remediation.plan(target, scenario.params, state, cause, AT)
        assert first == remediation.plan(target, scenario.params, state, cause, AT)
        planned.extend(first.calls)
        for call in first.calls:
            assert set(actions_of(call.service, call.operation, call.params)) <= writes
        assert plan_hash(first, target, scenario.params, {}) == plan_hash(first, target, scenario.params, {})
        assert not (first.satisfied and not state.compliant), "satisfied, though the control fails"

    planned: list[Call] = []
    decides()
    assert planned, "no generated state was ever worth a call, so nothing was tested"


def target_of(remediation: AnyRemediation) -> Target:
    resource = catalog.load().by_id(remediation.controls[0]).resource
    ids = {"AWS::::Account": ACCOUNT, "AWS::EC2::SecurityGroup": "sg-0123456789abcdef0"}
    return Target(account=ACCOUNT, region="us-east-1", type=resource, id=ids[resource])


def ids_in(state: State) -> tuple[str, ...]:
    """Everything in a state that an event may have opened."""
    found = json.loads(state.model_dump_json()).get("rules", [])
    return tuple(rule["id"] for rule in found) or ("anything",)


@every
def test_its_functions_are_typed_by_its_own_state_and_params(remediation: AnyRemediation) -> None:
    hints = get_type_hints(remediation.plan)
    assert hints["state"] is remediation.state
    assert hints["params"] is remediation.params
    assert get_type_hints(remediation.assess)["return"] is remediation.state


# -- its permissions ----------------------------------------------------------------------------------------------------


@every
def test_what_its_scenario_used_it_declared_and_the_session_policy_held_no_more(
    remediation: AnyRemediation,
) -> None:
    for built, event in violated(remediation):
        assert built.walk(event).outcome == Outcome.FIXED
        declared = {permission.action for permission in (*remediation.reads, *remediation.writes)}
        used = {
            action
            for sent in (*built.aws.reads, *built.aws.writes)
            for action in actions_of(sent.service, sent.operation, sent.params)
        }
        assert used <= declared
        (policy,) = built.aws.policies
        granted = {statement["Action"] for statement in json.loads(policy)["Statement"]}
        wrote = {
            action
            for sent in built.aws.writes
            for action in actions_of(sent.service, sent.operation, sent.params)
        }
        assert {action for one in granted for action in ([one] if isinstance(one, str) else one)} == wrote
        assert len(policy) <= 2048


# -- its run ------------------------------------------------------------------------------------------------------------


@every
def test_it_repairs_its_scenario_and_records_it_whole(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        walked = built.walk(event)
        assert (walked.verdict, walked.outcome) == ("act", "fixed")
        assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
        intent, result = built.record("INTENT"), built.record("RESULT")
        before = remediation.state.model_validate_json(json.dumps(intent["before"]))
        after = remediation.state.model_validate_json(json.dumps(result["after"]))
        assert not before.compliant
        assert after.compliant
        assert intent["plan"]["calls"]
        assert all(done["request_id"] for done in result["results"])
        assert result["observed_by"] == "response"


@every
def test_a_second_delivery_writes_nothing_and_records_nothing(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        built.walk(event)
        writes, records = len(built.aws.writes), len(built.cases.records)
        assert built.walk(event).verdict == "duplicate"
        assert (len(built.aws.writes), len(built.cases.records)) == (writes, records)


@every
def test_a_second_event_on_the_repaired_target_writes_nothing(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        built.walk(event)
        writes = len(built.aws.writes)
        again = json.loads(json.dumps(event))
        again["detail"]["eventID"] = "another-event"
        walked = built.walk(again)
        assert (walked.verdict, walked.outcome) == ("ignore", "already_compliant")
        assert len(built.aws.writes) == writes


@every
def test_it_makes_the_fewest_calls(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        faults = Faults()
        built.walk(event, faults)
        writes = len(built.aws.writes)
        ours = [name for name in faults.seen if name.startswith("cases.")]
        assert len(ours) == 3 + writes, ours
        assert faults.seen.count("sts.AssumeRole") == 1


@every
def test_observing_costs_two_calls_to_our_tables_and_no_session(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        built.raise_to(Mode.OBSERVE, *remediation.controls)
        faults = Faults()
        assert built.walk(event, faults).verdict == "observe"
        assert [name for name in faults.seen if name.startswith("cases.")] == ["cases.look", "cases.commit"]
        assert "sts.AssumeRole" not in faults.seen
        assert built.aws.writes == []


@every
def test_undo_brings_back_what_was_there(remediation: AnyRemediation) -> None:
    for built, event in violated(remediation):
        built.walk(event)
        case, intent, result = built.only_case(), built.record("INTENT"), built.record("RESULT")
        params = params_of(remediation, [catalog.load().by_id(control) for control in intent_controls(built)])
        run = RunRecord(
            before=remediation.state.model_validate_json(json.dumps(intent["before"])),
            plan=case_plan(intent),
            results=tuple(CallResult.model_validate_json(json.dumps(done)) for done in result["results"]),
            after=remediation.state.model_validate_json(json.dumps(result["after"])),
        )
        prepared = undo.prepare(remediation, case, params, run, built.aws)
        achieved = undo.perform(
            remediation, case, params, run, prepared, "redress-undo", built.aws, built.clock, lambda: None
        )
        assert achieved.outcome is Outcome.FIXED, achieved.reason
        now = remediation.assess(case.target, params, built.aws.reader(remediation, case.target))
        assert now.content() == run.before.content()
        used = {
            a
            for s in built.aws.writes
            if s.session == "redress-undo"
            for a in actions_of(s.service, s.operation, s.params)
        }
        assert used <= {permission.action for permission in remediation.undo_writes}
        second = undo.prepare(remediation, case, params, run, built.aws)
        assert not second.plan.calls, "undoing twice must do nothing the second time"


def intent_controls(built: House) -> tuple[str, ...]:
    (record,) = (r for r in built.cases.records if r.draft.type.value == "INTENT")
    return record.draft.controls


def case_plan(intent: dict[str, Any]) -> Plan:
    return Plan.model_validate_json(json.dumps(intent["plan"]))


# -- faults, generated from a recorded run ------------------------------------------------------------------------------


def port_calls(remediation: AnyRemediation) -> list[str]:
    """Every port call of the scenario's walk, in order: the places where it can be hit."""
    seen: list[str] = []
    for built, event in violated(remediation):
        faults = Faults()
        built.walk(event, faults)
        seen = faults.seen
    return seen


@every
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
def test_a_crash_at_any_call_and_a_redelivery_end_as_if_nothing_had_happened(
    remediation: AnyRemediation, kind: Kind
) -> None:
    for place, name in enumerate(port_calls(remediation), 1):
        for built, event in violated(remediation):
            faults = Faults(place, kind)
            with pytest.raises(Crash):
                built.walk(event, faults)
            assert faults.hit == name
            built.clock.advance(AFTER_THE_LEASE)
            built.walk(event)
            where = f"crash {kind.value} call {place}, {name}"
            assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"], where
            intent, result = built.record("INTENT"), built.record("RESULT")
            assert result["outcome"] == "fixed", where
            assert intent["before"], where
            assert intent["plan"]["calls"], where
            assert remediation.state.model_validate_json(json.dumps(result["after"])).compliant, where
            lost = [done for done in result["results"] if done["request_id"] is None]
            assert (result["observed_by"] == "reassessment") is bool(lost), where
            plan = case_plan(intent)
            assert len(built.aws.writes) == len(plan.calls), f"{where}: a write was repeated, or left out"
            case = built.only_case()
            assert (case.state, case.pending, case.run) == ("closed", False, None), where
            assert built.walk(event).verdict == "duplicate", where


@every
def test_a_refusal_at_any_call_is_never_a_success(remediation: AnyRemediation) -> None:
    calls = port_calls(remediation)
    for place, name in enumerate(calls, 1):
        for built, event in violated(remediation):
            where = f"refused call {place}, {name}"
            try:
                walked = built.walk(event, Faults(place, Kind.DENIED))
            except StoreError:
                assert name.startswith("cases."), (
                    f"{where}: only our own tables send the message back to its queue"
                )
                if place < len(calls) - 2:
                    assert built.aws.writes == [], where
                continue
            assert walked.outcome in {Outcome.FAILED, Outcome.NOT_VERIFIED}, (where, walked)
            assert "RESULT" in built.kinds(), where
            assert built.only_case().state == "open", where


@every
def test_two_targets_through_one_warm_process_do_not_touch(remediation: AnyRemediation) -> None:
    """The second target is another one where the scenario makes a new one, and the same again where there is but one."""
    scenario: Scenario = scenario_of(remediation.id)
    for built, event in violated(remediation):
        engine = built.engine()
        engine.walk(event)
        target, opened = scenario.violate(built.session)
        second = scenario.event(target, opened, built.clock.now())
        second["detail"]["eventID"] = "second-target"
        engine.walk(second)
        warm = [r.draft.data["after"] for r in built.cases.records if r.draft.type.value == "RESULT"]
        assert len(warm) == 2
        cold = remediation.assess(target, scenario.params, built.aws.reader(remediation, target))
        assert remediation.state.model_validate_json(json.dumps(warm[1])).content() == cold.content()
