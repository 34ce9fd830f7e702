"""The real events, one by one: what comes of each stands in `expected.tsv`, which was written by reading the events.

A row is an event's path and what it leads to: a control and the resource, or `-` and words of the reason why nothing. An
event that tells of several things has a row for each.
"""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chalicelib.catalog import Catalog, load
from chalicelib.cli import patterns
from chalicelib.domain.finding import Finding, NotOurs, Signal
from chalicelib.flow import classify, intake
from local.emulator import names

pytestmark = pytest.mark.corpus

TABLE = Path(__file__).with_name("expected.tsv")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load()


@pytest.fixture(scope="module")
def expected() -> dict[str, set[tuple[str, str]]]:
    rows: dict[str, set[tuple[str, str]]] = {}
    with TABLE.open(encoding="utf-8", newline="") as table:
        for path, control, said in csv.reader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            rows.setdefault(path, set()).add((control, said))
    return rows


@pytest.fixture(scope="module")
def events(corpus: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(corpus)): json.loads(path.read_text()) for path in corpus.glob("aws.*/*.json")
    }


def told(event: Mapping[str, Any], catalog: Catalog) -> Iterator[Finding | NotOurs]:
    """Everything that comes of an event."""
    for one in intake.read(event):
        said = classify.findings(one, catalog) if isinstance(one, Signal) else one
        yield from (said,) if isinstance(said, NotOurs) else said


def test_every_real_event_has_its_rows(
    events: Mapping[str, Any], expected: Mapping[str, set[tuple[str, str]]]
) -> None:
    assert len(events) >= 416
    assert expected.keys() == events.keys()


def test_every_real_event_leads_to_what_was_read_in_it(
    events: Mapping[str, dict[str, Any]], expected: Mapping[str, set[tuple[str, str]]], catalog: Catalog
) -> None:
    wrong: list[str] = []
    for path, event in events.items():
        said = list(told(event, catalog))
        found = {(one.control, one.target.resource) for one in said if isinstance(one, Finding)}
        reasons = [one.reason for one in said if isinstance(one, NotOurs)]
        wanted = {row for row in expected[path] if row[0] != "-"}
        phrases = {words for control, words in expected[path] if control == "-"}
        if found != wanted:
            wrong.append(f"{path}: found {found}, not {wanted}")
        if not all(any(words in reason for words in phrases) for reason in reasons):
            wrong.append(f"{path}: says {reasons}, not {phrases}")
        if not all(any(words in reason for reason in reasons) for words in phrases):
            wrong.append(f"{path}: never says {phrases}, but {reasons}")
    assert not wrong, "\n".join(wrong)


def over(detail: Mapping[str, Any]) -> bool:
    """Whether the event itself says that nothing happened or nothing is open, by a reading of its own."""
    call = (
        detail.get("errorCode") or detail.get("errorMessage") or str(detail.get("readOnly")).lower() == "true"
    )
    result = (detail.get("newEvaluationResult") or {}).get("complianceType", "NON_COMPLIANT")
    findings = detail.get("findings") or [{}]
    closed = [
        (finding.get("Compliance") or {}).get("Status", "FAILED") != "FAILED"
        or finding.get("RecordState") == "ARCHIVED"
        or (finding.get("Workflow") or {}).get("Status") in {"SUPPRESSED", "RESOLVED"}
        or finding.get("status") in {"Suppressed", "Resolved"}
        or (finding.get("compliance") or {}).get("status") in {"Pass", "PASSED"}
        for finding in findings
    ]
    archived = str((detail.get("service") or {}).get("archived")).lower() == "true"
    ended = detail.get("status") in {"ARCHIVED", "RESOLVED"}
    return bool(call) or result != "NON_COMPLIANT" or all(closed) or archived or ended


def test_nothing_is_found_where_a_call_failed_or_only_read_or_a_finding_is_over(
    events: Mapping[str, dict[str, Any]], catalog: Catalog
) -> None:
    ended = [path for path, event in events.items() if over(event["detail"])]
    assert len(ended) >= 90
    assert not [
        path for path in ended if any(isinstance(one, Finding) for one in told(events[path], catalog))
    ]


def test_what_leads_to_a_finding_is_let_in_by_one_rule_and_by_no_second(
    events: Mapping[str, dict[str, Any]], catalog: Catalog
) -> None:
    routes = patterns.routes(catalog.controls)
    let_in = {
        path: [route.name for route in routes if names.matches(route.pattern, event)]
        for path, event in events.items()
        if any(isinstance(one, Finding) for one in told(event, catalog))
    }
    assert {path: by for path, by in let_in.items() if len(by) != 1} == {}
    assert {by[0] for by in let_in.values()} >= {"ec2", "findings-securityhub-legacy", "findings-action"}


def test_most_of_what_leads_to_nothing_is_kept_out_by_the_rules(
    events: Mapping[str, dict[str, Any]], catalog: Catalog
) -> None:
    routes = patterns.routes(catalog.controls)
    nothing = {
        path: [route.name for route in routes if names.matches(route.pattern, event)]
        for path, event in events.items()
        if not any(isinstance(one, Finding) for one in told(event, catalog))
    }
    let_in = Counter(name for by in nothing.values() for name in by)
    assert sum(let_in.values()) < len(nothing) / 10, let_in


def test_the_noise_of_14_592_events_leads_to_nothing(corpus: Path, catalog: Catalog) -> None:
    lines = 0
    with gzip.open(corpus / "noise.jsonl.gz") as noise:
        for line in noise:
            lines += 1
            assert [one for one in told(json.loads(line), catalog) if isinstance(one, Finding)] == []
    assert lines == 14_592
