"""Words: what came of a run and what to do next, the same wherever people read it: card, thread, mail and console."""

from collections.abc import Mapping
from types import MappingProxyType

from chalicelib.domain.contract import Outcome

OUTCOMES: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.ALREADY_COMPLIANT: "Already compliant, nothing was changed",
        Outcome.DECLINED: "Declined, nothing was changed",
        Outcome.FIXED: "Fixed, and verified",
        Outcome.CONTAINED: "Contained, not yet remediated",
        Outcome.NOT_VERIFIED: "Not verified, though changed",
        Outcome.FAILED: "Failed",
    }
)
"""What a run came to. Each begins as records, lists and tags name it."""

UNDONE: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.ALREADY_COMPLIANT: "There was nothing to take back",
        Outcome.DECLINED: "Not taken back",
        Outcome.FIXED: "Taken back",
        Outcome.CONTAINED: "Taken back in part",
        Outcome.NOT_VERIFIED: "Taken back, and not verified",
        Outcome.FAILED: "Taking it back failed",
    }
)
"""What an undo came to."""

NEXT: Mapping[str, str] = MappingProxyType(
    {
        "tamper_suspected": "Freeze first, then look: `redress freeze`.",
        "breaker_opened": "Find out why, then `redress reset-breaker`.",
    }
)
"""What whoever reads a notice of that kind does first."""
