"""What every remediation promises. A new file inherits all of this on the day it is written, without a line here."""

import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, get_type_hints

import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import remediations
from chalicelib import catalog
from chalicelib.adapters.actions import actions_of
from chalicelib.domain.contract import (
    NOTHING_TO_DO,
    AnyRemediation,
    CallResult,
    Cause,
    Mode,
    Outcome,
    Permission,
    Plan,
    RunRecord,
    State,
    plan_hash,
)
from chalicelib.domain.control import Control, Status
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import ID_FORMS, Actor, Origin, Target, global_in
from chalicelib.domain.ticket import TicketState
from chalicelib.flow import undo
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Visit, Walked, own_word, params_of
from tests.fakes.aws import Operation
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, House, house, scenario_of, states_of

ROOT = Path(__file__).resolve().parents[2]
ALL = remediations.discover()
AT = datetime(2026, 11, 22, tzinfo=UTC)
ANN = Actor(type="IAMUser", arn="arn:aws:iam::111111111111:user/ann")
LONG_BEFORE = timedelta(days=3650)
"""Longer than any threshold: whatever time brings about was brought about after it."""

every = pytest.mark.parametrize("remediation", ALL, ids=lambda remediation: remediation.id)
acting = pytest.mark.parametrize(
    "remediation", [one for one in ALL if one.writes], ids=lambda remediation: remediation.id
)
ticketing = pytest.mark.parametrize(
    "remediation", [one for one in ALL if not one.writes], ids=lambda remediation: remediation.id
)


def module_of(remediation: AnyRemediation) -> ModuleType:
    return __import__(f"remediations.{remediation.id}", fromlist=["REMEDIATION"])


def controls_of(remediation: AnyRemediation) -> list[Control]:
    return named(remediation.controls)


def named(controls: Iterable[str]) -> list[Control]:
    known = {control.id: control for control in catalog.load().controls}
    return [known[control] for control in controls]


def is_time_based(remediation: AnyRemediation) -> bool:
    return bool(getattr(scenario_of(remediation.id), "time_based", False))


# -- the occasion -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How an occasion ends when nothing goes wrong."""

    verdict: str
    outcome: str
    kinds: tuple[str, ...]
    state: str


REPAIRED = End("act", "fixed", ("RECEIVED", "DECIDED", "INTENT", "RESULT"), "closed")
TICKETED = End("ticket", "", ("RECEIVED", "DECIDED", "TICKET_OPENED"), "ticketed")


def end_of(remediation: AnyRemediation) -> End:
    return REPAIRED if remediation.writes else TICKETED


@dataclass(frozen=True)
class Occasion:
    """A violation, and what tells of it: the event that made it, or a sweep's visit where only time has passed."""

    built: House
    remediation: AnyRemediation
    target: Target
    opened: tuple[str, ...]
    event: dict[str, Any] | None

    def tell(self, faults: Faults | None = None, *, name: str = "", engine: Engine | None = None) -> Walked:
        """One delivery, in a process of its own or in `engine`; with another `name` it is another event or sweep."""
        engine = engine or self.built.engine(faults)
        if self.event is None:
            (walked,) = engine.all([self._visit(engine, f"sweep-{name or 1}")])
            return walked
        event = json.loads(json.dumps(self.event))
        if name:
            event["detail"]["eventID"] = name
        (walked,) = engine.walk(event)
        return walked

    def sweep(self) -> Walked:
        """A sweep that comes to the target and is not the first one of its control."""
        engine = self.built.engine()
        (walked,) = engine.all([self._visit(engine, "sweep-of-another-day")])
        return walked

    @property
    def again(self) -> str:
        """The verdict on a second delivery: a sweep is never told of twice, it looks again."""
        return "duplicate" if self.event else "ignore"

    def _visit(self, engine: Engine, key: str) -> Visit:
        return Visit(
            key=key,
            signal=own_word(Origin.SWEEP, "Sweep", key, self.target, engine.clock.now()),
            remediation=self.remediation,
            target=self.target,
            controls=tuple(engine.controls[control] for control in self.remediation.controls),
        )


def occasion(built: House, remediation: AnyRemediation) -> Occasion:
    """The remediation's scenario has just happened here."""
    scenario = scenario_of(remediation.id)
    target, opened = scenario.violate(built.session)
    told = None if is_time_based(remediation) else scenario.event(target, opened, built.clock.now())
    return Occasion(built, remediation, target, opened, told)


@contextmanager
def violated(remediation: AnyRemediation) -> Iterator[Occasion]:
    """A house where the scenario has just happened, and its controls may act since long before."""
    with house() as built:
        built.clock.advance(-LONG_BEFORE)
        built.raise_to(Mode.ACT, *remediation.controls)
        built.clock.advance(LONG_BEFORE)
        yield occasion(built, remediation)


@dataclass(frozen=True)
class Recorded:
    """A scenario whose occasion nothing disturbed: every port call in order, those that wrote, and what it was about."""

    calls: tuple[str, ...]
    writes: tuple[str, ...]
    target: Target
    opened: tuple[str, ...]


@cache
def recorded(remediation: AnyRemediation) -> Recorded:
    with violated(remediation) as told:
        faults = Faults()
        told.tell(faults)
        writes = tuple(f"{sent.service}.{sent.operation}" for sent in told.built.aws.writes)
        causes = {rule for cause in told.built.only_case().causes for rule in cause.opened}
        return Recorded(tuple(faults.seen), writes, told.target, tuple(sorted({*told.opened, *causes})))


def ended_well(told: Occasion, where: str = "") -> None:
    """The one end: one whole record, one run (or one ticket), each write made once, nobody left waiting."""
    built, end, case = told.built, end_of(told.remediation), told.built.only_case()
    assert tuple(built.kinds()) == end.kinds, where
    assert (case.state, case.pending, case.run) == (end.state, False, None), where
    if end is TICKETED:
        (ticket,) = built.cases.tickets
        assert (ticket.is_open, built.aws.writes) == (True, []), where
        assert [notice.kind for notice in built.cases.notices].count("ticket_open") == 1, where
        return
    intent, result = built.record("INTENT"), built.record("RESULT")
    assert result["outcome"] == "fixed", where
    assert not told.remediation.state.model_validate_json(json.dumps(intent["before"])).compliant, where
    assert told.remediation.state.model_validate_json(json.dumps(result["after"])).compliant, where
    lost = [done for done in result["results"] if done["request_id"] is None]
    assert (result["observed_by"] == "reassessment") is bool(lost), where
    planned = len(plan_in(intent).calls)
    assert planned, where
    assert len(built.aws.writes) == planned, f"{where}: a write was repeated, or left out"
    assert built.cases.tickets == (), where


def plan_in(intent: dict[str, Any]) -> Plan:
    return Plan.model_validate_json(json.dumps(intent["plan"]))


# -- what it is ---------------------------------------------------------------------------------------------------------


@every
def test_its_id_is_its_file_and_its_test_stands_beside_it(remediation: AnyRemediation) -> None:
    assert Path(str(module_of(remediation).__file__)).stem == remediation.id
    assert (ROOT / "tests" / "remediations" / f"test_{remediation.id}.py").is_file()
    assert isinstance(scenario_of(remediation.id).params, remediation.params)


@every
def test_its_controls_exist_and_give_it_parameters(remediation: AnyRemediation) -> None:
    params = params_of(remediation, controls_of(remediation))
    assert isinstance(params, remediation.params)
    assert type(params).model_validate_json(params.model_dump_json()) == params


def test_no_control_is_claimed_twice() -> None:
    claimed = [control for remediation in ALL for control in remediation.controls]
    assert len(claimed) == len(set(claimed))


@every
def test_its_scenario_says_what_the_catalog_and_the_remediation_say(remediation: AnyRemediation) -> None:
    assert {control.time_based for control in controls_of(remediation)} == {is_time_based(remediation)}
    assert getattr(scenario_of(remediation.id), "ticket_only", False) is not bool(remediation.writes)


@pytest.mark.parametrize("control", catalog.load().controls, ids=lambda control: control.id)
def test_a_stable_control_is_told_of_by_events_or_by_time(control: Control) -> None:
    assert control.status is not Status.STABLE or control.events or control.time_based


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


@every
def test_its_functions_are_typed_by_its_own_state_and_params(remediation: AnyRemediation) -> None:
    hints = [get_type_hints(getattr(remediation, name)) for name in ("plan", "by_hand", "as_code")]
    assert {hint["state"] for hint in hints} == {remediation.state}
    hints = [get_type_hints(getattr(remediation, name)) for name in ("assess", "plan", "survey")]
    assert {hint["params"] for hint in hints} == {remediation.params}
    assert get_type_hints(remediation.assess)["return"] is remediation.state
    undoes = get_type_hints(remediation.undo)
    assert (undoes["run"], undoes["now"]) == (RunRecord[remediation.state], remediation.state)  # type: ignore[name-defined]  # a class at run time


# -- its plan, on every state there can be ------------------------------------------------------------------------------


@every
def test_its_state_survives_json(remediation: AnyRemediation) -> None:
    @settings(max_examples=50)
    @given(states_of(remediation.id))
    def survives(state: State) -> None:
        assert remediation.state.model_validate_json(state.model_dump_json()) == state
        assert isinstance(state.compliant, bool)
        assert state.since is None or state.since.tzinfo
        json.dumps(state.content())

    survives()


@every
def test_its_plan_is_pure_and_uses_all_that_it_declares_and_nothing_else(
    remediation: AnyRemediation,
) -> None:
    """Derandomized: a generated state that needs a right nobody else needs must not be a matter of luck."""
    params, target, used = scenario_of(remediation.id).params, recorded(remediation).target, set[str]()

    @settings(max_examples=300, derandomize=True)
    @given(states_of(remediation.id), st.booleans())
    def decides(state: State, told: bool) -> None:
        cause = because(remediation, state) if told else Cause(at=AT, actor=ANN)
        first = remediation.plan(target, params, state, cause, AT)
        assert first == remediation.plan(target, params, state, cause, AT)
        assert plan_hash(first, target, params, {}) == plan_hash(first, target, params, {})
        used.update(needed(first))
        assert state.compliant or not first.satisfied, (
            "satisfied, though the control fails and nothing was done"
        )

    decides()
    assert used == {permission.action for permission in remediation.writes}


@acting
def test_its_undo_is_pure_asks_and_uses_only_what_it_declares(remediation: AnyRemediation) -> None:
    params, target, used = scenario_of(remediation.id).params, recorded(remediation).target, set[str]()
    states = states_of(remediation.id)

    @settings(max_examples=100)
    @given(states, states, st.data())
    def undoes(before: State, after: State, data: st.DataObject) -> None:
        plan = remediation.plan(target, params, before, because(remediation, before), AT)
        results = tuple(
            CallResult(index=index, request_id="r", observed_by="response")
            for index, _ in enumerate(plan.calls)
        )
        run = RunRecord(before=before, plan=plan, results=results, after=after)
        now = data.draw(st.sampled_from([before, after]) | states)
        first = remediation.undo(target, run, now)
        assert first == remediation.undo(target, run, now)
        assert all(call.at_most is Mode.ASK for call in first.calls), "nobody undoes without a person"
        used.update(needed(first))

    undoes()
    assert used <= {permission.action for permission in remediation.undo_writes}


def because(remediation: AnyRemediation, state: State) -> Cause:
    """An event of just now that opened whatever an event may have opened here."""
    named = (leaf for path, leaf in leaves(json.loads(state.model_dump_json())) if path[-1] == "id")
    return Cause(at=AT, actor=ANN, opened=(*recorded(remediation).opened, *named))


def needed(plan: Plan) -> set[str]:
    """The IAM actions that the plan's calls need."""
    return {action for call in plan.calls for action in actions_of(call.service, call.operation, call.params)}


@every
def test_what_it_writes_is_undone_by_us_or_by_hand(remediation: AnyRemediation) -> None:
    ways = (bool(remediation.undo_writes), remediation.undo_by_hand)
    assert ways.count(True) == bool(remediation.writes)


@ticketing
def test_without_writes_it_is_a_ticket_and_never_more(remediation: AnyRemediation) -> None:
    params, target = scenario_of(remediation.id).params, recorded(remediation).target

    @settings(max_examples=50)
    @given(states_of(remediation.id), states_of(remediation.id))
    def only_tells(state: State, later: State) -> None:
        plan = remediation.plan(target, params, state, because(remediation, state), AT)
        assert plan.calls == ()
        run = RunRecord(before=state, plan=plan, results=(), after=later)
        assert remediation.undo(target, run, later) == NOTHING_TO_DO

    only_tells()


WATCHERS = (
    "cloudtrail:",
    "guardduty:",
    "config:",
    "securityhub:",
    "ec2:CreateFlowLogs",
    "kms:CancelKeyDeletion",
)
"""Rights that switch on what watches the account, or keep a key alive: what takes that back is nobody's automatism."""


def blinds(remediation: AnyRemediation) -> bool:
    """True when our own role could switch off again what the remediation made watch."""
    switches = any(right.action.startswith(WATCHERS) for right in remediation.writes)
    return switches and (not remediation.undo_by_hand or bool(remediation.undo_writes))


@every
def test_what_watches_the_account_is_switched_off_by_hand_alone(remediation: AnyRemediation) -> None:
    assert not blinds(remediation)


@pytest.mark.parametrize("action", ["cloudtrail:StartLogging", "ec2:CreateFlowLogs", "kms:CancelKeyDeletion"])
def test_a_role_that_could_blind_the_account_is_noticed(action: str) -> None:
    switch = replace(ALL[0], writes=(Permission(action),), undo_writes=(), undo_by_hand=True)
    assert not blinds(switch)
    assert blinds(replace(switch, undo_by_hand=False))
    assert blinds(replace(switch, undo_writes=(Permission("cloudtrail:StopLogging"),)))


# -- what a person reads and pastes -------------------------------------------------------------------------------------

HOSTILE = (
    '\'; touch pwned #"\n}\nresource "null_resource" "pwned" {\n${file(1)}%{if 1}$(id)`id`\u202e\u2028\x1b[2J'
)
"""All at once that ends a literal, a comment, a line or a command, or is carried out within one."""

PLAIN = "plain"

Way = tuple[str | int, ...]


def leaves(value: Any, path: Way = ()) -> Iterator[tuple[Way, str]]:
    """Every text in a JSON value, with the way to it."""
    if isinstance(value, str):
        yield path, value
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from leaves(inner, (*path, key))


def poisoned(remediation: AnyRemediation, state: State, path: Way, text: str) -> State:
    """The state with another text in one place; ValueError when there can be no such state."""
    document = inner = json.loads(state.model_dump_json())
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = text
    made: State = remediation.state.model_validate_json(json.dumps(document))
    return made


def twins(remediation: AnyRemediation, target: Target, state: State) -> Iterator[tuple[State, State]]:
    """The state with a hostile text in one place, and with a plain one there: for each place where others may choose.

    AWS gives ids, so nobody's text stands there; nor where a plain word could not be either, as in a network or a date.
    """
    for way, _ in leaves(json.loads(state.model_dump_json())):
        try:
            hurt, plain = (poisoned(remediation, state, way, text) for text in (HOSTILE, PLAIN))
            remediation.by_hand(target, plain), remediation.as_code(target, plain)
        except ValueError:
            continue
        if way[-1] != "id":
            yield hurt, plain


def failing(remediation: AnyRemediation) -> st.SearchStrategy[State]:
    """Every state that a person is told of."""
    return states_of(remediation.id).filter(lambda state: not state.compliant)


def targets(remediation: AnyRemediation) -> st.SearchStrategy[Target]:
    """Every target of the remediation's type there can be, in the account of its states."""
    one = recorded(remediation).target
    ids = st.from_regex(ID_FORMS[one.type], fullmatch=True)
    return ids.map(lambda name: one if one.id == ACCOUNT else one.model_copy(update={"id": name}))


def pasted_safely(command: str) -> bool:
    """True when a POSIX shell sees one command of the AWS CLI, and nothing in it but words."""
    words = shlex.split(command)
    return words[0] == "aws" and shlex.join(words) == command


@every
def test_by_hand_tells_what_to_do_in_words_and_in_commands_that_are_safe_to_paste(
    remediation: AnyRemediation,
) -> None:
    pasted: list[str] = []

    @settings(max_examples=25, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(failing(remediation), targets(remediation))
    def tells(state: State, target: Target) -> None:
        assert remediation.by_hand(target, state)
        for one in (state, *(hurt for hurt, _ in twins(remediation, target, state))):
            steps = remediation.by_hand(target, one)
            assert all(re.search(r"[A-Za-z]{3}", step.console) for step in steps)
            commands = [step.command for step in steps if step.command]
            assert all(pasted_safely(command) for command in commands), commands
            pasted.extend(commands)

    tells()
    assert pasted, "no step had a command, so nothing was tested"


@pytest.mark.parametrize(
    "command",
    [
        "aws s3 ls; id",
        "aws s3 ls $(id)",
        "aws s3 ls `id`",
        "rm -rf /",
        'aws s3 ls "${HOME}"',
        "aws s3 ls \n id",
    ],
)
def test_a_command_that_does_more_is_noticed(command: str) -> None:
    assert not pasted_safely(command)


_LITERAL = r'"(?:[^"\\$%\x00-\x1f]|\\["\\]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|[$%](?!\{))*"'
_VALUE = r'(?:""|[0-9]+|true|false|[a-z_]+\([a-z]+\)|[a-z]+\.[a-z_]+|\{ (?:"" = ""(?:, )?)* \})'
_HCL = re.compile(rf'|#.*|\}}|[a-z_]+(?: "")* \{{|  [a-z_0-9]+ +?= {_VALUE}')


def skeleton(code: str) -> list[str]:
    """Each line of HCL without what its literals and comments say; ValueError at a line that is no HCL of ours."""
    lines: list[str] = []
    for line in code.split("\n"):
        bare = "#" if line.startswith("#") else re.sub(_LITERAL, '""', line)
        if not line.isprintable() or not _HCL.fullmatch(bare):
            raise ValueError(f"no HCL: {line!r}")
        lines.append(bare)
    if [line[-1:] for line in lines].count("{") != lines.count("}"):
        raise ValueError("a block is not closed")
    return sorted(lines)


@every
def test_its_code_is_hcl_and_a_hostile_name_is_only_a_name_in_it(remediation: AnyRemediation) -> None:
    @settings(max_examples=25, derandomize=True, suppress_health_check=[*HealthCheck])
    @given(failing(remediation), targets(remediation))
    def writes(state: State, target: Target) -> None:
        code = remediation.as_code(target, state)
        assert code.strip()
        skeleton(code)
        for pair in twins(remediation, target, state):
            hurt, plain = (remediation.as_code(target, one) for one in pair)
            assert skeleton(hurt) == skeleton(plain), hurt

    writes()


@pytest.mark.parametrize(
    "code",
    [
        'resource "a" "b" {',
        'resource "a" "b" {\n  name = "${file(1)}"\n}',
        'resource "a" "b" {\n  name = file("x")\n}',
        'resource "a" "b" {\n  name = "x" "y"\n}',
        "# a comment\nthat goes on",
        "# a comment\u2028that goes on",
        'provisioner "local-exec" { command = "id" }',
    ],
)
def test_code_that_says_more_is_noticed(code: str) -> None:
    with pytest.raises(ValueError, match=r"no HCL|not closed"):
        skeleton(code)


# -- its permissions ----------------------------------------------------------------------------------------------------


@every
def test_what_its_scenario_used_it_declared_and_the_session_policy_held_no_more(
    remediation: AnyRemediation,
) -> None:
    with violated(remediation) as told:
        told.tell()
        aws = told.built.aws
        assert used(aws.reads) <= actions(remediation.reads)
        assert used(aws.writes) <= actions(remediation.writes)
        assert len(aws.policies) == bool(remediation.writes)
        for policy in aws.policies:
            granted = [statement["Action"] for statement in json.loads(policy)["Statement"]]
            assert {a for one in granted for a in ([one] if isinstance(one, str) else one)} == used(
                aws.writes
            )
            assert len(policy) <= 2048


@every
def test_its_survey_names_the_violating_target_and_its_tags_are_read_with_declared_reads(
    remediation: AnyRemediation,
) -> None:
    with violated(remediation) as told:
        target, aws = told.target, told.built.aws
        region = global_in(target.partition) if remediation.everywhere == "account" else target.region
        place = Target(account=target.account, region=region, type="AWS::::Account", id=target.account)
        params = scenario_of(remediation.id).params
        assert target in remediation.survey(place, params, aws.reader(remediation, place))
        if remediation.tags:
            tags = remediation.tags(target, aws.reader(remediation, target))
            assert all(isinstance(text, str) for pair in tags.items() for text in pair)
        assert used(aws.reads) <= actions(remediation.reads)
        assert aws.writes == []


@every
def test_it_declares_no_right_that_its_module_has_no_use_for(remediation: AnyRemediation) -> None:
    """The other way round: each declared action belongs to an operation (or a parameter) that stands in the module."""
    tree = ast.parse(Path(str(module_of(remediation).__file__)).read_text(encoding="utf-8"))
    texts = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    services = texts & {*botocore.session.Session().get_available_services()}
    operations = {text for text in texts if re.fullmatch(r"[A-Z][A-Za-z0-9]+", text)}
    named = {
        action
        for service in services
        for operation in operations
        for action in actions_of(service, operation, dict.fromkeys(texts, True))
    }
    declared = actions((*remediation.reads, *remediation.writes, *remediation.undo_writes))
    assert declared - named == set()


def used(sent: Sequence[Operation]) -> set[str]:
    return {action for one in sent for action in actions_of(one.service, one.operation, one.params)}


def actions(permissions: Sequence[Permission]) -> set[str]:
    return {permission.action for permission in permissions}


# -- its run ------------------------------------------------------------------------------------------------------------


@every
def test_its_scenario_ends_as_it_should_and_is_recorded_whole(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        walked, end = told.tell(), end_of(remediation)
        assert (walked.verdict, walked.outcome) == (end.verdict, end.outcome)
        ended_well(told)
        if remediation.writes:
            result = told.built.record("RESULT")
            assert all(done["request_id"] for done in result["results"])
            assert result["observed_by"] == "response"


@every
def test_a_second_delivery_writes_nothing_and_records_nothing(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        told.tell()
        before = (len(told.built.aws.writes), dict(told.built.cases.items))
        assert told.tell().verdict == told.again
        assert (len(told.built.aws.writes), told.built.cases.items) == before


@every
def test_a_second_event_on_the_target_writes_nothing(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        told.tell()
        writes = len(told.built.aws.writes)
        walked = told.tell(name="another-one")
        end = ("ignore", "already_compliant") if remediation.writes else (TICKETED.verdict, "")
        assert (walked.verdict, walked.outcome) == end
        assert len(told.built.aws.writes) == writes
        assert len(told.built.cases.tickets) == (not remediation.writes), "one ticket for one thing"


@every
def test_it_makes_the_fewest_calls(remediation: AnyRemediation) -> None:
    run = recorded(remediation)
    ours = [name for name in run.calls if name.startswith("cases.")]
    assert len(ours) == (3 + len(run.writes) if remediation.writes else 2), ours
    assert run.calls.count("sts.AssumeRole") == bool(remediation.writes)


@every
def test_observing_costs_two_calls_to_our_tables_and_no_session(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        told.built.raise_to(Mode.OBSERVE, *remediation.controls)
        faults = Faults()
        assert told.tell(faults).verdict == "observe"
        assert [name for name in faults.seen if name.startswith("cases.")] == ["cases.look", "cases.commit"]
        assert "sts.AssumeRole" not in faults.seen
        assert told.built.aws.writes == []


@every
def test_what_was_there_before_is_at_most_asked_about(remediation: AnyRemediation) -> None:
    """Found by a sweep, by no event; or by time, but before somebody let the control act."""
    with violated(remediation) as told:
        told.built.raise_to(Mode.ACT, *remediation.controls)
        assert told.sweep().verdict == ("ask" if remediation.writes else TICKETED.verdict)
        assert told.built.aws.writes == []


@every
def test_its_first_sweep_is_a_report_and_asks_nobody(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        told.built.sweep()
        report = told.built.record("SWEEP_COMPLETED")
        assert {name for name in report["failing"] if name in remediation.controls}, report
        assert told.target.resource in report["listed"]
        assert {notice.kind for notice in told.built.cases.notices} == {"baseline_report"}
        assert told.built.cases.tickets == ()
        assert told.built.aws.writes == []


@acting
def test_undo_brings_back_what_was_there(remediation: AnyRemediation) -> None:
    with violated(remediation) as told:
        built = told.built
        told.tell()
        case, intent, result = built.only_case(), built.record("INTENT"), built.record("RESULT")
        params = params_of(remediation, named(intent_controls(built)))
        run = RunRecord(
            before=remediation.state.model_validate_json(json.dumps(intent["before"])),
            plan=plan_in(intent),
            results=tuple(CallResult.model_validate_json(json.dumps(done)) for done in result["results"]),
            after=remediation.state.model_validate_json(json.dumps(result["after"])),
        )
        assert run.before.content() != run.after.content(), "what an undo brings back must show in it"
        prepared = undo.prepare(remediation, case, params, run, built.aws)
        assert prepared.plan.calls
        if remediation.undo_by_hand:
            return
        achieved = undo.perform(
            remediation, case, params, run, prepared, "redress-undo", built.aws, built.clock, lambda: None
        )
        assert achieved.outcome is Outcome.FIXED, achieved.reason
        now = remediation.assess(case.target, params, built.aws.reader(remediation, case.target))
        assert now.content() == run.before.content()
        undoing = [sent for sent in built.aws.writes if sent.session == "redress-undo"]
        assert used(undoing) <= actions(remediation.undo_writes)
        second = undo.prepare(remediation, case, params, run, built.aws)
        assert not second.plan.calls, "undoing twice must do nothing the second time"


def intent_controls(built: House) -> tuple[str, ...]:
    (record,) = (r for r in built.cases.records if r.draft.type.value == "INTENT")
    return record.draft.controls


# -- faults, generated from a recorded run ------------------------------------------------------------------------------


@pytest.mark.thorough
@every
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
def test_a_crash_at_any_call_and_a_redelivery_end_as_if_nothing_had_happened(
    remediation: AnyRemediation, kind: Kind
) -> None:
    for place, name in enumerate(recorded(remediation).calls, 1):
        with violated(remediation) as told:
            faults = Faults(place, kind)
            with pytest.raises(Crash):
                told.tell(faults)
            assert faults.hit == name
            told.built.clock.advance(AFTER_THE_LEASE)
            told.tell()
            where = f"crash {kind.value} call {place}, {name}"
            ended_well(told, where)
            assert told.tell().verdict == told.again, where


def tag_reads(remediation: AnyRemediation) -> frozenset[str]:
    """The calls that ask for the target's tags, which assessing may make as well."""
    faults = Faults()
    with violated(remediation) as told:
        if remediation.tags:
            remediation.tags(told.target, faults.aws(told.built.aws).reader(remediation, told.target))
    return frozenset(faults.seen)


@pytest.mark.thorough
@every
def test_a_refusal_at_any_call_is_never_a_success(remediation: AnyRemediation) -> None:
    """Only our own tables send the message back to its queue; and then it ends well, once they can be reached.

    Whose the resource is may remain unknown: whoever may not read tags repairs all the same.
    """
    run, tags = recorded(remediation), tag_reads(remediation)
    for place, name in enumerate(run.calls, 1):
        with violated(remediation) as told:
            where = f"refused call {place}, {name}"
            built = told.built
            try:
                walked = told.tell(Faults(place, Kind.DENIED))
            except StoreError:
                assert name.startswith("cases."), where
                written = [done for done in run.calls[: place - 1] if done in run.writes]
                assert len(built.aws.writes) == len(written), where
                built.clock.advance(AFTER_THE_LEASE)
                told.tell()
                ended_well(told, where)
                continue
            if name in tags and walked.outcome == Outcome.FIXED:
                ended_well(told, where)
                continue
            assert walked.outcome in {Outcome.FAILED, Outcome.NOT_VERIFIED}, (where, walked)
            assert built.kinds()[-2:] == ["RESULT", "TICKET_OPENED"], where
            assert built.only_case().state == "open", where
            assert [ticket.state for ticket in built.cases.tickets] == [TicketState.OPEN], where


@every
def test_two_targets_through_one_warm_process_do_not_touch(remediation: AnyRemediation) -> None:
    """The second target is another one where the scenario makes a new one, and the same again where there is but one."""
    with violated(remediation) as first:
        built, params = first.built, scenario_of(remediation.id).params
        engine = built.engine()
        ends = {first.tell(engine=engine).verdict}
        second = occasion(built, remediation)
        ends.add(second.tell(name="second-target", engine=engine).verdict)
        assert ends == {end_of(remediation).verdict}
        for target in (first.target, second.target):
            (case,) = (case for case in built.cases.cases if case.target == target)
            warm = remediation.state.model_validate_json(json.dumps(case.last_state))
            cold = remediation.assess(target, params, built.aws.reader(remediation, target))
            assert warm.content() == cold.content()
