"""EventBridge patterns from the catalog: one service each, split by names until each fits.

Our own events are not excluded here: a pattern that excludes by role name drops what has none, and would hide a role
named like ours (ARCHITECTURE §3). Intake knows our own events.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.domain.control import Control, Status
from chalicelib.domain.errors import CatalogError

LONGEST = 2048
"""Characters of an event pattern (docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html)."""

_SERVICE = ".amazonaws.com"


@dataclass(frozen=True)
class Route:
    """One rule's name, without deployment and bus, and its pattern."""

    name: str
    pattern: dict[str, Any]


def routes(controls: Iterable[Control]) -> tuple[Route, ...]:
    """The rules that bring every event of every control that is not retired, in a stable order."""
    wanted: dict[str, set[str]] = {}
    for control in controls:
        if control.status is not Status.RETIRED:
            for event in control.events:
                wanted.setdefault(event.source, set()).update(event.names)
    return tuple(route for source in sorted(wanted) for route in _of_service(source, sorted(wanted[source])))


def pattern(source: str, names: Iterable[str]) -> dict[str, Any]:
    """Successful API calls by `names` of one CloudTrail event source.

    Only AWS services can put events whose source begins with `aws.`: PutEvents refuses it to everybody else, so that
    nobody who may write to a bus can tell us of a call that was never made.
    """
    return {
        "source": [{"prefix": "aws."}],
        "detail-type": ["AWS API Call via CloudTrail"],
        "detail": {
            "eventSource": [source],
            "eventName": list(names),
            "errorCode": [{"exists": False}],
        },
    }


def length(document: dict[str, Any]) -> int:
    """Characters of a pattern at its most spacious: nobody promises that CloudFormation writes it any shorter."""
    return len(json.dumps(document))


def _of_service(source: str, names: list[str]) -> list[Route]:
    if not source.endswith(_SERVICE):
        raise CatalogError(f"{source!r} is no CloudTrail event source: those end in {_SERVICE}")
    parts: list[list[str]] = [[]]
    for name in names:
        if length(pattern(source, [*parts[-1], name])) > LONGEST:
            parts.append([])
        parts[-1].append(name)
    service = source.removesuffix(_SERVICE)
    return [
        Route(service if number == 1 else f"{service}-{number}", pattern(source, part))
        for number, part in enumerate(parts, start=1)
    ]
