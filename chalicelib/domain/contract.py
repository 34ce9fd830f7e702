"""What every remediation promises: the types it is made of, and nothing that acts.

A remediation is a value made of small functions (`REMEDIATION`), a plan is data, and only the engine makes calls. The
house promises in `tests/house/test_promises.py` hold every remediation to this page on the day that it is written.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import Field, JsonValue

from chalicelib.domain.finding import Actor, Model, Target, is_global
from chalicelib.domain.shape import mapping, sequence

CONTRACT_VERSION = "1"
"""Part of every plan hash: a change in what a plan means must not honour an approval of the old meaning."""


class Mode(StrEnum):
    """The most that is permitted; also the ceiling of a call, a plan and a control. Ordered: observe is the least."""

    OBSERVE = "observe"
    TICKET = "ticket"
    ASK = "ask"
    ACT = "act"

    @property
    def rank(self) -> int:
        """The mode's place in the rising order, from 0."""
        return list(Mode).index(self)

    def __lt__(self, other: str) -> bool:
        """By rank, never by spelling: `min` over modes is the strictest of them."""
        return self.rank < Mode(other).rank

    def __gt__(self, other: str) -> bool:
        """By rank."""
        return self.rank > Mode(other).rank


class Risk(StrEnum):
    """How much our acting may break, not how bad the finding is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Outcome(StrEnum):
    """What a run achieved. A closed set, never a bool; only `fixed` and `already_compliant` are successes."""

    ALREADY_COMPLIANT = "already_compliant"
    DECLINED = "declined"
    FIXED = "fixed"
    CONTAINED = "contained"
    NOT_VERIFIED = "not_verified"
    FAILED = "failed"


class Params(Model):
    """Thresholds of a remediation: catalog default, per-account override, part of the plan hash."""


class State(Model):
    """Everything that the decision and the undo need, and nothing else; survives JSON both ways."""

    @property
    def compliant(self) -> bool:
        """True when the target is as the control wants it."""
        raise NotImplementedError  # Every State defines it; a house promise calls it on generated states.

    @property
    def since(self) -> datetime | None:
        """For a time-based control, when the violation began: the moment at which the threshold was crossed."""
        return None

    def content(self) -> dict[str, JsonValue]:
        """The state without the identifiers that AWS assigns anew: what an undo must bring back exactly."""
        return self.model_dump(mode="json")


@dataclass(frozen=True)
class Permission:
    """One IAM right. `resource` is an ARN with `{partition} {region} {account} {id}`, or `*` for what has no type.

    `condition` is an IAM condition block, or empty: (operator, key, value). Several values of one key are alternatives.
    """

    action: str
    resource: str = "*"
    condition: tuple[tuple[str, str, str], ...] = ()

    def statement(self, resource: str) -> dict[str, Any]:
        """The IAM statement that grants this right on `resource`."""
        granted: dict[str, Any] = {"Effect": "Allow", "Action": self.action, "Resource": resource}
        if self.condition:
            block: dict[str, dict[str, str | list[str]]] = {}
            for operator, key, value in self.condition:
                keys = block.setdefault(operator, {})
                others = keys.get(key, [])
                keys[key] = [*([others] if isinstance(others, str) else others), value] if others else value
            granted["Condition"] = block
        return granted

    def for_target(self, target: Target) -> dict[str, Any]:
        """The statement of a session policy: this right on this one target."""
        return self.statement(
            self.resource.format(
                partition=target.partition, region=target.region, account=target.account, id=target.id
            )
        )


class Ref(Model):
    """A value from an earlier call's response, taken by the executor and hashed as the reference that it is.

    `call` is the index of the earlier call in the plan, `path` a JMESPath into its response.
    """

    call: int = Field(ge=0)
    path: str

    def as_param(self) -> dict[str, JsonValue]:
        """The form in which a reference stands among a call's parameters."""
        return {"$ref": {"call": self.call, "path": self.path}}


class Call(Model):
    """One AWS API call as data: `service` in boto3's name, `operation` in the API's (PascalCase).

    `why` is said in plain words to whoever approves or audits; `at_most` is the highest mode in which the call may be
    made without a person; `token` names the parameter that takes an idempotency token, if the operation has one.
    """

    service: str
    operation: str
    params: dict[str, JsonValue]
    why: str = Field(min_length=1, max_length=500)
    at_most: Literal[Mode.ASK, Mode.ACT] = Mode.ACT
    token: str | None = None

    @property
    def identity(self) -> str:
        """The call without its explanation: two calls with one identity do the same thing."""
        return canonical([self.service, self.operation, self.params])


class Declined(Model):
    """Something that the plan leaves alone: what, and why in a sentence that a person can act on."""

    what: str = Field(min_length=1, max_length=300)
    why: str = Field(min_length=1, max_length=500)


class Step(Model):
    """One thing that a person does by hand: in the console's words, and as a command where there is one.

    A command is complete and safe to paste: names that others chose are quoted (`shell`).
    """

    console: str = Field(min_length=1, max_length=1000)
    command: str = Field(default="", max_length=20_000)


class MonthlyCost(Model):
    """What the plan would cost each month from now on, in US cents, with its basis; `None` is unknown."""

    usd_cents: int | None
    basis: str

    @property
    def amount(self) -> str:
        """The same for people."""
        cents = self.usd_cents
        return "unknown" if cents is None else f"US$ {cents // 100}.{cents % 100:02d} a month"


NO_COST = MonthlyCost(usd_cents=0, basis="nothing that is charged for is started")


class Plan(Model):
    """The calls that would be made, and what is declined. A dry run, an approval and the real run are this object.

    `depends_on` holds just the facts that the calls rest on; if they change, so does the hash.
    """

    calls: tuple[Call, ...] = ()
    declined: tuple[Declined, ...] = ()
    monthly_cost: MonthlyCost = NO_COST
    depends_on: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def satisfied(self) -> bool:
        """Nothing to do and nothing refused: after acting, the fixed point that counts as success."""
        return not self.calls and not self.declined

    @property
    def at_most(self) -> Mode:
        """The highest mode in which the plan may run: its lowest call rules; what is only declined is a ticket."""
        if not self.calls:
            return Mode.TICKET if self.declined else Mode.ACT
        lowest: Mode = min(call.at_most for call in self.calls)
        return min(lowest, Mode.ASK) if self.declined else lowest


NOTHING_TO_DO = Plan()


class Cause(Model):
    """Why the engine looks at the target now: when and by whom it was changed, and what the change opened.

    `opened` holds only sub-resources opened within the freshness window; `last_state` is the state that the engine
    had assessed of this target before, or None. `acted_at` and `acted_before` are when the engine last began to change
    this target, and the state before: within a run and after it, they tell what is done from what is still to do.
    """

    at: datetime
    actor: Actor
    opened: tuple[str, ...] = ()
    last_state: dict[str, JsonValue] | None = None
    acted_at: datetime | None = None
    acted_before: dict[str, JsonValue] | None = None


class CallResult(Model):
    """What became of the call at `index`: the service's request id, or None when a crash swallowed the answer."""

    index: int
    request_id: str | None
    observed_by: Literal["response", "reassessment"]
    error: str | None = None


class Reader(Protocol):
    """What `assess` is given: reads in the target's account and Region, under the read-only role, declared ones only."""

    def read(self, service: str, operation: str, /, **params: JsonValue) -> dict[str, Any]:
        """The response of one read; raises `AwsError` with the service's code."""
        ...

    def pages(self, service: str, operation: str, key: str, /, **params: JsonValue) -> list[Any]:
        """Every element under `key` of every page of a paginated read."""
        ...


S = TypeVar("S", bound=State)
P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class RunRecord(Generic[S]):
    """A finished run as `undo` sees it: the state before, the plan, each call's result, the state after."""

    before: S
    plan: Plan
    results: tuple[CallResult, ...]
    after: S


@dataclass(frozen=True)
class Remediation(Generic[S, P]):
    """One remediation, whole: what it is for, what it may do, and the functions that say how.

    Assess and survey read; plan, undo, by_hand and as_code are pure. `survey` is given the account in one Region (or,
    when `everywhere` is "account", in place of all Regions) and answers, from reads that tell of many resources at once,
    with those that may break a control; it may name too many, never too few. `by_hand` is what a person does when no call
    is planned, or part of it is declined. `as_code` is the same in HCL, for what Terraform manages. `tags` reads the
    target's tags, for its owner. `settle_seconds` is how long the service may take to show the new state. With
    `undo_by_hand`, an undo is a ticket with the commands: the role that undoes must not switch off what watches.

    A remediation without writes is ticket-only: its plan never holds a call.
    """

    id: str
    controls: tuple[str, ...]
    summary: str
    risk: Risk
    reads: tuple[Permission, ...]
    writes: tuple[Permission, ...]
    undo_writes: tuple[Permission, ...]
    params: type[P]
    state: type[S]
    assess: Callable[[Target, P, Reader], S]
    plan: Callable[[Target, P, S, Cause, datetime], Plan]
    undo: Callable[[Target, RunRecord[S], S], Plan]
    survey: Callable[[Target, P, Reader], tuple[Target, ...]]
    by_hand: Callable[[Target, S], tuple[Step, ...]]
    as_code: Callable[[Target, S], str]
    tags: Callable[[Target, Reader], Mapping[str, str]] | None = None
    everywhere: Literal["region", "account"] = "region"
    settle_seconds: int = 0
    undo_by_hand: bool = False


AnyRemediation = Remediation[Any, Any]


def shell(*words: str) -> str:
    """`words` as one command line for a POSIX shell, each quoted where it must be."""
    return shlex.join(words)


def command_of(call: Call, target: Target) -> str:
    """A call as the AWS CLI makes it, in the target's Region; the parameters are the plan's own, as JSON.

    A reference to an earlier answer stays readable in the JSON: whoever runs it by hand fills it in.
    """
    words = ["aws", _CLI_NAMES.get(call.service, call.service), _kebab(call.operation)]
    if not is_global(target.region):
        words += ["--region", target.region]
    if call.params:
        words += ["--cli-input-json", json.dumps(call.params, ensure_ascii=False)]
    return shell(*words)


_CLI_NAMES = MappingProxyType({"s3": "s3api", "config": "configservice"})
"""Where the AWS CLI calls a service otherwise than boto3 does."""


def _kebab(operation: str) -> str:
    """An operation as the AWS CLI spells it: `PutBucketACL` is `put-bucket-acl`."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", operation)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1-\2", parted).lower()


def canonical(value: Mapping[str, Any] | list[Any]) -> str:
    """Canonical JSON: sorted keys, no spaces, UTF-8 as is, and no floats, whose bytes depend on the writer."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        message = f"a float ({value}) has no canonical form; store an integer or a string"
        raise TypeError(message)
    for inner in mapping(value).values():
        _refuse_floats(inner)
    for inner in sequence(value):
        _refuse_floats(inner)


def plan_hash(plan: Plan, target: Target, params: Params, versions: Mapping[str, str]) -> str:
    """SHA-256 (hex) over what an approval binds: target, params, calls, preconditions, contract and control versions.

    Not in it: times, the explanations and the expiry (ARCHITECTURE §5).
    """
    bound = {
        "contract": CONTRACT_VERSION,
        "controls": dict(versions),
        "partition": target.partition,
        "target": target.model_dump(mode="json"),
        "params": params.model_dump(mode="json"),
        "calls": [json.loads(call.identity) for call in plan.calls],
        "declined": [item.what for item in plan.declined],
        "depends_on": plan.depends_on,
    }
    return hashlib.sha256(canonical(bound).encode()).hexdigest()
