"""The engine's decision: one ordered table, read from the top, first rule that holds.

This is the page to show an auditor. Every rule lowers what may happen or leaves it; only an approval and the last two act.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from chalicelib.domain.contract import Mode
from chalicelib.domain.finding import Model


class Verdict(StrEnum):
    """What the engine resolved to do."""

    IGNORE = "ignore"
    OBSERVE = "observe"
    TICKET = "ticket"
    ASK = "ask"
    ACT = "act"


class Decision(Model):
    """A verdict, the name of the rule that gave it, and the rule's reason in a sentence."""

    verdict: Verdict
    rule: str
    reason: str


@dataclass(frozen=True)
class Facts:
    """All that a decision rests on. `mode` is the account's setting capped by the control's ceiling.

    `exempt`: the gate found every control of it exempt; then nothing of the resource is read, and no other fact counts.
    `crossed_since_raised`: a time-based violation began after the control was raised to act. `baseline`: nobody has had
    the first report on this control in this account yet. `inherited`: the violation stood in that report, and nobody has
    asked for it since. `denied`: a person said no to this very plan. `approved`: a person agreed to this very plan.
    `stale`: a person agreed to another plan, once (1) or again (2). `deployed_as_code`: a configured deployment role made
    the change. `tripped`: the breaker of the control is open here.
    """

    mode: Mode
    compliant: bool
    has_calls: bool
    has_declined: bool
    plan_at_most: Mode
    created_by_event: bool
    fresh: bool
    frozen: bool
    over_limit: bool
    own_role: bool
    starts_cost: bool
    exempt: bool = False
    crossed_since_raised: bool = False
    baseline: bool = False
    inherited: bool = False
    denied: bool = False
    approved: bool = False
    stale: int = 0
    deployed_as_code: bool = False
    tripped: bool = False


EXEMPT = Facts(
    mode=Mode.OBSERVE,
    compliant=False,
    has_calls=False,
    has_declined=False,
    plan_at_most=Mode.OBSERVE,
    created_by_event=False,
    fresh=False,
    frozen=False,
    over_limit=False,
    own_role=False,
    starts_cost=False,
    exempt=True,
)
"""All that is known at the gate of what is exempt."""


@dataclass(frozen=True)
class Rule:
    """One row: its name, when it holds, what it gives (never above the mode), and why."""

    name: str
    holds: Callable[[Facts], bool]
    verdict: Verdict
    reason: str


RULES: tuple[Rule, ...] = (
    Rule(
        "exempt", lambda f: f.exempt, Verdict.IGNORE, "an exemption that has not expired covers this resource"
    ),
    Rule(
        "compliant",
        lambda f: f.compliant and not f.has_calls and not f.has_declined,
        Verdict.IGNORE,
        "the resource is already as the control wants it",
    ),
    Rule(
        "contained",
        lambda f: not f.has_calls and not f.has_declined,
        Verdict.OBSERVE,
        "all that may be done for now is done, and the control still fails: it is looked at again",
    ),
    Rule(
        "observing", lambda f: f.mode is Mode.OBSERVE, Verdict.OBSERVE, "the control is set to observe here"
    ),
    Rule("frozen", lambda f: f.frozen, Verdict.OBSERVE, "the kill switch is on for this scope"),
    Rule(
        "baseline",
        lambda f: f.baseline,
        Verdict.OBSERVE,
        "this is the first look at the control in this account: it goes into the baseline report",
    ),
    Rule(
        "inherited",
        lambda f: f.inherited,
        Verdict.OBSERVE,
        "it stood in the baseline report, and nobody has asked for it since",
    ),
    Rule(
        "denied",
        lambda f: f.denied,
        Verdict.OBSERVE,
        "a person said no to exactly this plan, and not long ago",
    ),
    Rule(
        "nothing to offer",
        lambda f: not f.has_calls,
        Verdict.TICKET,
        "there is no change that the engine could make, so a person has to",
    ),
    Rule("ticketing", lambda f: f.mode is Mode.TICKET, Verdict.TICKET, "the control is set to ticket here"),
    Rule(
        "stale twice",
        lambda f: f.stale > 1,
        Verdict.TICKET,
        "it changed again while a person was deciding, so that no approval fits it",
    ),
    Rule("approved", lambda f: f.approved, Verdict.ACT, "a person approved exactly this plan"),
    Rule("stale", lambda f: f.stale > 0, Verdict.ASK, "a person approved another plan than is needed now"),
    Rule("asking", lambda f: f.mode is Mode.ASK, Verdict.ASK, "the control is set to ask here"),
    Rule(
        "our own role",
        lambda f: f.own_role,
        Verdict.ASK,
        "the change was made with one of our own roles, outside any run of ours",
    ),
    Rule(
        "deployed as code",
        lambda f: f.deployed_as_code,
        Verdict.ASK,
        "a configured deployment role made the change: its next run would bring back what is changed here",
    ),
    Rule(
        "the plan needs a person",
        lambda f: f.plan_at_most is not Mode.ACT,
        Verdict.ASK,
        "part of the plan may cut access that somebody uses, or leaves something undone",
    ),
    Rule(
        "not created by the event",
        lambda f: not f.created_by_event and not f.crossed_since_raised,
        Verdict.ASK,
        "the event did not create this violation: what was there before is changed only by a person",
    ),
    Rule(
        "not fresh",
        lambda f: not f.fresh and not f.crossed_since_raised,
        Verdict.ASK,
        "the violation was created more than an hour ago",
    ),
    Rule("starts a cost", lambda f: f.starts_cost, Verdict.ASK, "the change would start a recurring charge"),
    Rule(
        "breaker open",
        lambda f: f.tripped,
        Verdict.ASK,
        "runs of the control went wrong here lately, and nobody has reset its breaker since",
    ),
    Rule("over a limit", lambda f: f.over_limit, Verdict.ASK, "a limit on writes per hour is reached"),
    Rule(
        "acting on what time did",
        lambda f: not (f.created_by_event and f.fresh),
        Verdict.ACT,
        "time created the violation since the control was raised, and the control may act",
    ),
    Rule(
        "acting",
        lambda _: True,
        Verdict.ACT,
        "the event created the violation just now, and the control may act",
    ),
)


def decide(facts: Facts) -> Decision:
    """The first rule that holds."""
    rule = next(rule for rule in RULES if rule.holds(facts))
    return Decision(verdict=rule.verdict, rule=rule.name, reason=rule.reason)
