"""EventBridge patterns from the catalog: one service or one kind of finding each, split by names until each fits.

Our own events are not excluded here: a pattern that excludes by role name drops what has none, and would hide a role
named like ours (ARCHITECTURE §3). Intake knows our own events.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.domain.control import CIS, Control, Status
from chalicelib.domain.errors import CatalogError
from chalicelib.flow import claims

LONGEST = 2048
"""Characters of an event pattern (docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html)."""

_SERVICE = ".amazonaws.com"
_SIGN_IN = "signin.amazonaws.com"


@dataclass(frozen=True)
class Route:
    """One rule's name, without deployment and bus, and its pattern."""

    name: str
    pattern: dict[str, Any]


def routes(controls: Iterable[Control]) -> tuple[Route, ...]:
    """The rules that bring every event and finding of every control that is not retired, in a stable order."""
    live = [control for control in controls if control.status is not Status.RETIRED]
    wanted: dict[str, set[str]] = {}
    for control in live:
        for event in control.events:
            wanted.setdefault(event.source, set()).update(event.names)
    calls = (route for source in sorted(wanted) for route in _of_service(source, wanted[source]))
    return (*calls, *_of_findings(live))


def pattern(source: str, names: Iterable[str]) -> dict[str, Any]:
    """Successful API calls by `names` of one CloudTrail event source; sign-ins are events of a type of their own.

    Only AWS services can put events whose source begins with `aws.`: PutEvents refuses it to everybody else, so that
    nobody who may write to a bus can tell us of a call that was never made.
    """
    kind = "AWS Console Sign In via CloudTrail" if source == _SIGN_IN else "AWS API Call via CloudTrail"
    return {
        "source": [{"prefix": "aws."}],
        "detail-type": [kind],
        "detail": {
            "eventSource": [source],
            "eventName": list(names),
            "errorCode": [{"exists": False}],
        },
    }


def length(document: dict[str, Any]) -> int:
    """Characters of a pattern at its most spacious: nobody promises that CloudFormation writes it any shorter."""
    return len(json.dumps(document))


def _of_service(source: str, names: Iterable[str]) -> list[Route]:
    if not source.endswith(_SERVICE):
        raise CatalogError(f"{source!r} is no CloudTrail event source: those end in {_SERVICE}")
    return _split(source.removesuffix(_SERVICE), names, lambda part: pattern(source, part))


def _split(name: str, values: Iterable[str], make: Callable[[list[str]], dict[str, Any]]) -> list[Route]:
    """The pattern that `make` gives for `values`, in as many parts as it takes; none for no values."""
    parts: list[list[str]] = []
    for value in sorted(set(values)):
        if not parts or length(make([*parts[-1], value])) > LONGEST:
            parts.append([])
        parts[-1].append(value)
    return [
        Route(name if number == 1 else f"{name}-{number}", make(part))
        for number, part in enumerate(parts, start=1)
    ]


def _of_findings(controls: list[Control]) -> Iterable[Route]:
    """The claims that the controls answer to, by whichever service makes them (`flow/claims.py` reads them).

    Security Hub names the consolidated control in each finding since 2023. Where it does not, the standard's own name
    stands at the end of GeneratorId. What a person sends by a custom action is let in whole: a refusal is on record.
    """
    known = frozenset().union(*map(claims.names_of, controls))

    def named(prefix: str) -> list[str]:
        return [name.removeprefix(prefix) for name in known if name.startswith(prefix)]

    hub, cis = named("securityhub:"), named(CIS)
    if hub or cis:
        yield Route(
            "findings-action", _finding("aws.securityhub", "Security Hub Findings - Custom Action", {})
        )
    yield from _split("findings-securityhub", hub, lambda part: _imported({"SecurityControlId": part}))
    yield from _split(
        "findings-securityhub-legacy",
        (*(f"/{name}" for name in hub), *map(_cis, cis)),
        lambda part: _imported(
            {"SecurityControlId": [{"exists": False}]}, GeneratorId=[{"suffix": name} for name in part]
        ),
    )
    yield from _split(
        "findings-securityhub-v2",
        hub,
        lambda part: _finding(
            "aws.securityhub",
            "Findings Imported V2",
            {
                "findings": {
                    "class_uid": [2003],
                    "compliance": {"control": part, "status": ["Fail", "FAILED"]},
                }
            },
        ),
    )
    yield from _split(
        "findings-config",
        (control.resource for control in controls if control.config_rules or control.config_rule_names),
        lambda part: _finding(
            "aws.config",
            "Config Rules Compliance Change",
            {"resourceType": part, "newEvaluationResult": {"complianceType": ["NON_COMPLIANT"]}},
        ),
    )
    yield from _split(
        "findings-guardduty",
        named("guardduty:"),
        lambda part: _finding("aws.guardduty", "GuardDuty Finding", {"type": part}),
    )
    yield from _split(
        "findings-access-analyzer",
        named("access-analyzer:"),
        lambda part: _finding(
            "aws.access-analyzer",
            "Access Analyzer Finding",
            {"status": ["ACTIVE"], "isPublic": [True], "resourceType": part},
        ),
    )


def _finding(source: str, kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {"source": [source], "detail-type": [kind], **({"detail": detail} if detail else {})}


def _imported(compliance: dict[str, Any], **finding: Any) -> dict[str, Any]:  # noqa: ANN401 -- any JSON value
    """Failed findings of Security Hub's own controls that are not archived."""
    return _finding(
        "aws.securityhub",
        "Security Hub Findings - Imported",
        {
            "findings": {
                "ProductArn": [{"suffix": "::product/aws/securityhub"}],
                "RecordState": ["ACTIVE"],
                "Compliance": {"Status": ["FAILED"], **compliance},
                **finding,
            }
        },
    )


def _cis(name: str) -> str:
    """How GeneratorId ends for a recommendation of the CIS benchmark: 1_2_0:4.1 is v/1.2.0/rule/4.1."""
    version, _, number = name.partition(":")
    rule = "rule/" if version == "1_2_0" else ""
    return f"/cis-aws-foundations-benchmark/v/{version.replace('_', '.')}/{rule}{number}"
