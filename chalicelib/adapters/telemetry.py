"""Logs and metrics: what became of each event, one line of JSON and one metric document each.

A log line's message is a constant of this page. Whatever somebody else may have chosen (a resource's name, a session's,
an error's text) stands in a field of its own, as a JSON value, so that nobody can forge a line.
"""

import logging
import sys
from typing import TextIO

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from chalicelib.domain.contract import Outcome
from chalicelib.domain.decision import Verdict
from chalicelib.flow.visit import Walked

SERVICE = "redress"
NAMESPACE = "Redress"

DUPLICATE = "duplicate"
NOT_OURS = "not_ours"
"""Verdicts of the walk that are no decisions (flow/pipeline.py)."""

_DECISIONS = frozenset(verdict.value for verdict in Verdict)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to whatever stdout is at that moment, as Lambda and the tests replace it.

    Chalice asks by `stream` whether our logger is configured already, and would otherwise set its level to ERROR.
    """

    def __init__(self) -> None:
        super().__init__(sys.stdout)

    @property
    def stream(self) -> TextIO:
        """Stdout, as it is now."""
        return sys.stdout

    @stream.setter
    def stream(self, _given: TextIO) -> None:
        """The parent sets it once; it is never kept."""


logger = Logger(service=SERVICE, logger_handler=_Stdout())
"""The one logger; it knows nothing of any event, every line brings its own fields."""


class Telemetry:
    """What the engine tells whoever runs it. Every method takes plain values and keeps nothing."""

    def walked(self, walked: Walked) -> None:
        """One visit came to its end: a line with all of it, and its metrics."""
        logger.info(
            "walked",
            extra={
                "correlation_id": walked.event_id,
                "verdict": walked.verdict,
                "rule": walked.rule,
                "reason": walked.reason,
                "case": walked.case,
                "controls": list(walked.controls),
                "account": walked.account,
                "region": walked.region,
                "resource": walked.resource,
                "outcome": walked.outcome,
                "seconds": walked.seconds,
            },
        )
        if walked.verdict == NOT_OURS:
            self._count("NotOurs")
        elif walked.verdict == DUPLICATE:
            self._count("DuplicateDelivery")
        elif walked.verdict in _DECISIONS:
            self._count("Decision", verdict=walked.verdict)
        if walked.verdict == Verdict.OBSERVE:
            for control in walked.controls:
                self._count("Observed", control=control)
        if walked.outcome:
            for control in walked.controls:
                self._count("Outcome", outcome=walked.outcome, control=control)
        # An undo that is done has repaired nothing.
        if walked.verdict == Verdict.ACT and walked.outcome == Outcome.FIXED:
            self._metric("EventToFixedSeconds", MetricUnit.Seconds, walked.seconds)

    def deferred(self, reason: str, seconds: int) -> None:
        """The message comes back after `seconds`, because somebody else holds its target."""
        logger.info("deferred", extra={"reason": reason, "seconds": seconds})
        self._count("Deferred")

    def redriven(self, queue: str, moved: int) -> None:
        """A person had dead letters returned to their queue."""
        logger.info("redriven", extra={"queue": queue, "moved": moved})
        self._count("Redriven", moved)

    def failed(self, event_id: str, error: Exception) -> None:
        """The message goes back to its queue with this error."""
        logger.error(
            "failed",
            extra={"correlation_id": event_id, "error": type(error).__name__, "reason": str(error)},
        )
        self._count("Failed", error=type(error).__name__)

    def _count(self, name: str, value: int = 1, **dimensions: str) -> None:
        self._metric(name, MetricUnit.Count, value, **dimensions)

    def _metric(self, name: str, unit: MetricUnit, value: float, **dimensions: str) -> None:
        """One metric document. Powertools' other metrics objects share what they hold; this one holds one value."""
        metrics = EphemeralMetrics(namespace=NAMESPACE, service=SERVICE)
        for dimension, chosen in dimensions.items():
            metrics.add_dimension(dimension, chosen)
        metrics.add_metric(name, unit, value)
        metrics.flush_metrics()
