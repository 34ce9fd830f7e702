"""Logs and metrics: one line of JSON per event that nobody can forge, and metrics of closed sets of names."""

import json
from typing import Any

import pytest

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.flow.visit import Walked

FORGED = 'x"}\n{"level":"INFO","message":"walked","outcome":"fixed"}\r\n\u2028'


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was written: the log lines, and the metric documents."""
    written = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    return [one for one in written if "_aws" not in one], [one for one in written if "_aws" in one]


def metrics(documents: list[dict[str, Any]]) -> list[tuple[str, str, float, dict[str, str]]]:
    """Each metric: name, unit, value, and the dimensions besides the service."""
    found: list[tuple[str, str, float, dict[str, str]]] = []
    for document in documents:
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        (metric,), (dimensions,) = directive["Metrics"], directive["Dimensions"]
        assert directive["Namespace"] == "Redress"
        chosen = {name: document[name] for name in dimensions if name != "service"}
        found.append((metric["Name"], metric["Unit"], document[metric["Name"]][0], chosen))
    return found


def walked(**parts: Any) -> Walked:
    given: dict[str, Any] = {"event_id": "event-1", "verdict": "act", "rule": "acting", "reason": "why"}
    return Walked(**(given | parts))


@pytest.mark.parametrize(
    "what, expected",
    [
        (
            walked(outcome="fixed", controls=("a", "b"), seconds=2.5),
            [
                ("Decision", "Count", 1, {"verdict": "act"}),
                ("Outcome", "Count", 1, {"outcome": "fixed", "control": "a"}),
                ("Outcome", "Count", 1, {"outcome": "fixed", "control": "b"}),
                ("EventToFixedSeconds", "Seconds", 2.5, {}),
            ],
        ),
        (walked(verdict="undo", outcome="fixed", seconds=0.0), []),
        (
            walked(outcome="failed", controls=("a",), seconds=2.5),
            [
                ("Decision", "Count", 1, {"verdict": "act"}),
                ("Outcome", "Count", 1, {"outcome": "failed", "control": "a"}),
            ],
        ),
        (
            walked(verdict="observe", controls=("a",)),
            [
                ("Decision", "Count", 1, {"verdict": "observe"}),
                ("Observed", "Count", 1, {"control": "a"}),
            ],
        ),
        (walked(verdict="not_ours"), [("NotOurs", "Count", 1, {})]),
        (walked(verdict="duplicate"), [("DuplicateDelivery", "Count", 1, {})]),
        (walked(verdict="joined"), []),
    ],
)
def test_a_visit_is_counted_by_what_became_of_it(
    what: Walked, expected: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Telemetry().walked(what)
    logs, documents = lines(capsys)
    assert metrics(documents) == expected
    (line,) = logs
    assert line["message"] == "walked"
    assert line["service"] == "redress"
    assert line["correlation_id"] == "event-1"
    assert (line["verdict"], line["outcome"], line["controls"]) == (
        what.verdict,
        what.outcome,
        list(what.controls),
    )


def test_what_an_attacker_names_stays_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    Telemetry().walked(walked(event_id=FORGED, resource=FORGED, reason=FORGED, verdict="ask"))
    Telemetry().failed(FORGED, ValueError(FORGED))
    Telemetry().deferred(FORGED, 3)
    logs, _ = lines(capsys)
    assert [one["message"] for one in logs] == ["walked", "failed", "deferred"]
    assert logs[0]["resource"] == logs[0]["correlation_id"] == logs[1]["reason"] == FORGED
    assert logs[0]["outcome"] == ""


def test_no_line_keeps_anything_of_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = Telemetry()
    telemetry.walked(walked(case="case-1", outcome="fixed", controls=("a",)))
    telemetry.redriven("events", 4)
    telemetry.walked(walked(event_id="event-2", verdict="not_ours"))
    logs, documents = lines(capsys)
    assert "correlation_id" not in logs[1]
    assert logs[2]["case"] == ""
    assert metrics(documents)[-2:] == [("Redriven", "Count", 4, {}), ("NotOurs", "Count", 1, {})]


def test_a_failure_names_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    Telemetry().failed("event-1", ValueError("what"))
    logs, documents = lines(capsys)
    assert (logs[0]["level"], logs[0]["error"], logs[0]["reason"]) == ("ERROR", "ValueError", "what")
    assert metrics(documents) == [("Failed", "Count", 1, {"error": "ValueError"})]
