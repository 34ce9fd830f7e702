"""The whole engine on fakes: real flow, real catalog, real remediations, moto for AWS, a table in memory, our clock."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import boto3
from hypothesis.strategies import SearchStrategy
from moto import mock_aws

from chalicelib.bootstrap import engine_of
from chalicelib.domain.approval import Door
from chalicelib.domain.case import Case
from chalicelib.domain.contract import Mode, Params, State
from chalicelib.domain.errors import TransientError
from chalicelib.domain.finding import Actor, Target
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.ports import FREEZE_ALL, Freeze, ModeSetting
from chalicelib.domain.record import broken_at
from chalicelib.flow import answering, errands, undo
from chalicelib.flow.answering import Said, Who
from chalicelib.flow.errand import ERRAND, NOTICE, AnyErrand, Sweep, Tick
from chalicelib.flow.errands import Done
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked
from chalicelib.settings import Settings
from tests.fakes.aws import FakeAws
from tests.fakes.cases import FakeCases
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.models import quick_session

REGION = "eu-central-1"
ACCOUNT = "123456789012"
"""Moto's own account, in which the scenarios make their violations."""

ANNA = f"arn:aws:iam::{ACCOUNT}:user/anna"
"""Who approves."""

RECEIVES = 20
"""How often messages come back here before one goes among the dead letters."""

AFTER_THE_LEASE = timedelta(seconds=80)


class Scenario(Protocol):
    """What a remediation's test module offers the house: how to make the violation, and the event that tells of it."""

    params: Params

    def violate(self, session: boto3.Session) -> tuple[Target, tuple[str, ...]]: ...

    def event(self, target: Target, opened: tuple[str, ...], at: datetime) -> dict[str, Any]: ...


def scenario_of(remediation_id: str) -> Scenario:
    """The scenario in the remediation's own test module; a remediation without one has no business here."""
    scenario: Scenario = import_module(f"tests.remediations.test_{remediation_id}").SCENARIO
    return scenario


def states_of(remediation_id: str) -> SearchStrategy[State]:
    """The strategy of states in the remediation's own test module."""
    states: SearchStrategy[State] = import_module(f"tests.remediations.test_{remediation_id}").STATES
    return states


@cache
def _session() -> boto3.Session:
    """The scenarios' own session, one for all houses: making a client costs more than a walk, and moto is fresh each time."""
    return boto3.Session(region_name=REGION, botocore_session=quick_session())


class House:
    """One deployment. `walk` is one delivery of one event in a process of its own."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.cases = FakeCases(home=ACCOUNT)
        self.aws = FakeAws(self.clock)
        self.session = _session()
        self.settings = Settings(stage="test", account=ACCOUNT, region=REGION, **settings)
        self._delivered: set[str] = set()
        self._asked_for = 0

    def engine(self, faults: Faults | None = None) -> Engine:
        """A fresh process."""
        cases = faults.cases(self.cases) if faults else self.cases
        aws = faults.aws(self.aws) if faults else self.aws
        return engine_of(self.settings, cases, aws, self.clock)

    def raise_to(self, mode: Mode, *controls: str, account: str = ACCOUNT) -> None:
        """What `redress mode` leaves behind."""
        at = self.clock.now()
        for control in controls:
            self.cases.set(
                ModeSetting(account=account, control=control, mode=mode, by="olga", at=at, reason="tested")
            )
        self.freeze(FREEZE_ALL, on=False)

    def freeze(self, scope: str, *, on: bool) -> None:
        """What `redress freeze` leaves behind."""
        self.cases.set(Freeze(scope=scope, frozen=on, by="olga", at=self.clock.now(), reason="tested"))

    def walk(self, event: Mapping[str, Any], faults: Faults | None = None) -> Walked:
        """Deliver an event that asks for one visit."""
        (walked,) = self.engine(faults).walk(event)
        return walked

    # -- people and time ----------------------------------------------------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """What `redress set-policy` leaves behind."""
        self.cases.set(PolicySetting(policy=policy, by="olga", at=self.clock.now(), reason="tested"))

    def answer(
        self,
        *,
        approve: bool = True,
        by: str = ANNA,
        case: Case | None = None,
        plan_hash: str | None = None,
        door: Door = Door.CLI,
        withdraw: bool = False,
        break_glass: bool = False,
        mfa: bool = False,
        logged_in_at: datetime | None = None,
    ) -> str:
        """What a person says at one of the doors, through the one function that takes answers; what it says."""
        case = case or self.only_case()
        said = Said(
            case=case.id,
            ask=case.ask.seq if case.ask else 1,
            plan_hash=plan_hash or (case.ask.plan_hash if case.ask else "0" * 64),
            approve=approve,
            reason="looked at it",
            withdraw=withdraw,
            break_glass=break_glass,
        )
        self._asked_for += 1
        who = Who(
            by,
            barred="",
            actor=Actor(type="IAMUser" if door is Door.CLI else "Person", arn=by),
            request_id=f"answer-{self._asked_for}",
            door=door,
            logged_in_at=logged_in_at,
            mfa=mfa,
        )
        says, _ = answering.answer(said, who, self.cases, self.clock, home=ACCOUNT, engine="test")
        return says

    def run(self, order: AnyErrand, faults: Faults | None = None) -> Done:
        """One errand, carried out by a process of its own; what it sends on is not carried out."""
        return errands.carry_out(self.engine(faults), order)

    def deliver(self) -> list[Walked]:
        """Everything that lies in the outbox and on the queues behind it, carried out in order, until nothing is left."""
        orders: list[AnyErrand] = []
        for notice in self.cases.notices:
            if notice.kind == NOTICE and notice.id not in self._delivered:
                self._delivered.add(notice.id)
                orders.append(ERRAND.validate_json(json.dumps(notice.body)))
        return self.carry_out(*orders)

    def carry_out(self, *orders: AnyErrand) -> list[Walked]:
        """These errands and all that they send on; undos too, as the function that undoes would."""
        left, seen, received = [*orders], list[Walked](), 0
        while left:
            order = left.pop(0)
            try:
                done = self.run(order)
            except TransientError:
                received += 1
                if received == RECEIVES:
                    raise
                left.append(order)  # as a queue would
                continue
            seen += done.walked
            left += done.errands
            seen += [undo.carry_out(self.engine(), wanted) for wanted in done.undos]
        return seen

    def sweep(self, by: str = "the schedule") -> list[Walked]:
        """A whole sweep of the home account."""
        return self.carry_out(Sweep(by=by))

    def tick(self) -> list[Walked]:
        """Time has passed."""
        return self.carry_out(Tick())

    # -- looking ------------------------------------------------------------------------------------------------------

    def only_case(self) -> Case:
        """The one case there is."""
        (case,) = self.cases.cases
        return case

    def kinds(self, chain: str | None = None) -> list[str]:
        """The types of the records of a chain (the only case's), in order; the chain must hold."""
        case = self.only_case() if chain is None else None
        records = self.cases.chain(case.id if case else str(chain))
        assert broken_at([(r.body, r.hash) for r in records], case.head if case else None) is None
        return [record.draft.type.value for record in records]

    def record(self, kind: str) -> dict[str, Any]:
        """What the only record of that type says."""
        (record,) = (r for r in self.cases.records if r.draft.type.value == kind)
        return record.draft.data


@contextmanager
def house(**settings: Any) -> Iterator[House]:
    """A fresh house on a fresh moto."""
    with mock_aws():
        yield House(**settings)
