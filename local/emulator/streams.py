"""DynamoDB's streams as Lambda reads them: partial failures, retries, bisection, an end to poison.

One batch of a mapping is under way at a time (a table here is one shard), and none keeps the queues waiting.
A mapping reads with the rights of its function's role, from a queue too; without them nothing is read.
"""
# ruff: noqa: ANN401 - what MiniStack hands out has no types

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from local.emulator import names

log = logging.getLogger("redress.streams")

_RIGHTS: Final = {
    "dynamodb": ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"),
    "sqs": ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
}
_RIGHTS_KEPT_SECONDS: Final = 0.5
_FOR_EVER: Final = -1


@dataclass(slots=True)
class _Progress:
    """How often the batch at a position has failed, and how small bisection has made it."""

    position: int = -1
    attempts: int = 0
    size: int = 0


class Streams:
    """The pollers' view of all event source mappings of one emulator process."""

    def __init__(self, backoff_seconds: float) -> None:
        self._backoff_seconds = backoff_seconds
        self._progress: dict[str, _Progress] = {}
        self._rights: dict[str, tuple[float, bool]] = {}
        self._every_mapping = names.MAPPINGS.get()

    def install(self) -> None:
        names.MAPPINGS.put(self._permitted)
        names.POLL_STREAMS.put(self._poll)

    # --- rights ---

    def _permitted(self) -> Iterator[tuple[str, str, Any]]:
        for account, region, mapping in self._every_mapping():
            if not names.IS_ENFORCING.get() or self._may_read(account, region, mapping):
                yield account, region, mapping

    def _may_read(self, account: str, region: str, mapping: Any) -> bool:
        now = time.monotonic()
        until, granted = self._rights.get(mapping["UUID"], (0.0, False))
        if now < until:
            return granted
        missing = _missing_right(account, region, mapping)
        if missing:
            problem = f"PROBLEM: the function's role may not {missing}"
            if mapping.get("LastProcessingResult") != problem:
                log.warning("%s on %s: %s", mapping["FunctionName"], mapping.get("EventSourceArn"), problem)
            mapping["LastProcessingResult"] = problem
        self._rights[mapping["UUID"]] = (now + _RIGHTS_KEPT_SECONDS, not missing)
        return not missing

    # --- streams ---

    def _poll(self) -> bool:
        began = False
        for account, region, mapping in self._permitted():
            with names.REQUEST_SCOPE.get()(account, region):
                began = self._begin(mapping) or began
        return began

    def _begin(self, mapping: Any) -> bool:
        """Start the next batch of one mapping, if there is one and none is under way."""
        name, arn = mapping["UUID"], str(mapping.get("EventSourceArn", ""))
        if not mapping.get("Enabled", True) or arn.split(":")[2:3] != ["dynamodb"]:
            return False
        if names.IN_FLIGHT.get().get(name) or names.BACKOFF_UNTIL.get().get(name, 0) > time.time():
            return False
        found = names.MAPPED_TABLE.get()(names.PARSE_ARN.get()(arn))
        function, _ = names.MAPPED_FUNCTION.get()(mapping["FunctionName"], mapping.get("Qualifier"))
        if found is None or function is None:
            return False
        table = found[0]
        if (names.DYNAMODB_TABLES.get().get(table) or {}).get("LatestStreamArn") != arn:
            return False
        position = max(names.STREAM_POSITIONS.get().get(name, 0), names.STREAM_START.get()(table))
        progress = self._progress.setdefault(name, _Progress())
        if progress.position != position:
            progress.position, progress.attempts, progress.size = position, 0, 0
        size = progress.size or int(mapping.get("BatchSize", 100))
        batch = list(names.STREAM_RECORDS.get()(table, position, size))
        if batch:
            names.DISPATCH_BATCH.get()(name, self._run, mapping, function, position, batch)
        return bool(batch)

    def _run(self, mapping: Any, function: Any, position: int, batch: list[Any]) -> None:
        """Invoke with one batch; go on behind what was done, or try again, or give up."""
        name, progress = mapping["UUID"], self._progress[mapping["UUID"]]
        wanted = names.STREAM_FILTER.get()(batch, mapping)
        result = names.EXECUTE_FUNCTION.get()(function, {"Records": wanted}) if wanted else {}
        if result.get("log"):
            log.info("%s:\n%s", mapping["FunctionName"], result["log"])
        done = _done(mapping, batch, wanted, result)
        mapping["LastProcessingResult"] = "OK" if done == len(batch) else "FAILED"
        if done == len(batch):
            self._advance(name, position + done)
            return
        names.BACKOFF_UNTIL.get()[name] = time.time() + self._backoff_seconds
        if done:
            self._advance(name, position + done)
        elif result.get("error") and mapping.get("BisectBatchOnFunctionError") and len(batch) > 1:
            progress.size = math.ceil(len(batch) / 2)
        elif (why := _given_up(mapping, batch, progress.attempts)) is not None:
            names.STREAM_FAILURE.get()(mapping, function, batch, mapping["EventSourceArn"], result, why)
            self._advance(name, position + len(batch))
        else:
            progress.attempts += 1

    def _advance(self, name: str, position: int) -> None:
        names.STREAM_POSITIONS.get()[name] = position


def _missing_right(account: str, region: str, mapping: Any) -> str:
    """The first right on its source that the role of a mapping's function lacks, or an empty string."""
    arn = str(mapping.get("EventSourceArn", ""))
    with names.REQUEST_SCOPE.get()(account, region):
        _, config = names.MAPPED_FUNCTION.get()(mapping["FunctionName"], mapping.get("Qualifier"))
    role = str((config or {}).get("Role", "")).rsplit("/", 1)[-1]
    policies = names.ROLE_POLICIES.get()(role, account)
    limits = names.BOUNDARY.get()(names.ROLES.get(), role, account)
    for action in _RIGHTS.get(arn.split(":")[2] if arn.count(":") > 1 else "", ()):
        asked = names.EVALUATION.get()(
            principal_arn=f"arn:aws:sts::{account}:assumed-role/{role}/{mapping['FunctionName']}",
            principal_type="AssumedRole",
            principal_account=account,
            action=action,
            resource_arn=arn,
            region=region,
        )
        if names.EVALUATE.get()(asked, policies, *limits).decision != "Allow":
            return action
    return ""


def _done(mapping: Any, batch: list[Any], wanted: list[Any], result: Any) -> int:
    """How many records from the first on need not be seen again."""
    if result.get("error"):
        return 0
    if not wanted or "ReportBatchItemFailures" not in mapping.get("FunctionResponseTypes", []):
        return len(batch)
    body = result.get("body")
    said = json.loads(body) if isinstance(body, str) and body else body
    failures = (said or {}).get("batchItemFailures") or []
    places = {record["dynamodb"]["SequenceNumber"]: place for place, record in enumerate(batch)}
    # A failure that names no record of the batch is a failure of all of it, as on AWS.
    return min((places.get(failure.get("itemIdentifier"), 0) for failure in failures), default=len(batch))


def _given_up(mapping: Any, batch: list[Any], attempts: int) -> str | None:
    retries = int(mapping.get("MaximumRetryAttempts", _FOR_EVER))
    if retries != _FOR_EVER and attempts >= retries:
        return "RetryAttemptsExhausted"
    age = int(mapping.get("MaximumRecordAgeInSeconds", _FOR_EVER))
    oldest = float(batch[0]["dynamodb"].get("ApproximateCreationDateTime", time.time()))
    return "MaxRecordAgeExceeded" if age != _FOR_EVER and time.time() - oldest > age else None
