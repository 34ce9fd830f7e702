"""FIFO queues: read by several at once, a group by one; and what EventBridge may send there."""
# ruff: noqa: ANN401 - what MiniStack hands out has no types

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from local.emulator import names

_WINDOW_SECONDS: Final = 300


def patch() -> None:
    """Mend what MiniStack makes of FIFO queues."""
    _read_groups_beside_one_another()
    _drop_repetitions_of_events()


def why_undeliverable(target: dict[str, Any]) -> str:
    """Why EventBridge could not send to this target's FIFO queue, or an empty string.

    (docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutTargets.html)
    """
    queue = names.QUEUE_BY_ARN.get()(str(target.get("Arn", "")))
    if not queue or not queue.get("is_fifo"):
        return ""
    if not (target.get("SqsParameters") or {}).get("MessageGroupId"):
        return "a FIFO queue wants SqsParameters.MessageGroupId"
    if queue["attributes"].get("ContentBasedDeduplication") != "true":
        return "a FIFO queue wants content-based deduplication"
    return ""


def _read_groups_beside_one_another() -> None:
    """A batch of one message is of one group, which the queue itself hands to nobody else meanwhile."""
    limit = names.QUEUE_CONCURRENCY.get()

    def concurrency(mapping: Any, function: Any, config: Any, queue: Any = None) -> int:
        single = int(mapping.get("BatchSize", 10)) == 1
        return int(limit(mapping, function, config, None if single else queue))

    names.QUEUE_CONCURRENCY.put(concurrency)


def _drop_repetitions_of_events() -> None:
    dispatch = names.DISPATCH_TO_SQS.get()

    def to_queue(spec: Any, payload: str, parameters: Any = None) -> None:
        queue = names.QUEUE_BY_ARN.get()(str(spec))
        if queue and queue.get("is_fifo"):
            known = hashlib.sha256(payload.encode()).hexdigest()
            if queue["attributes"].get("DeduplicationScope") == "messageGroup":
                known = f"{(parameters or {}).get('MessageGroupId')}:{known}"
            if queue["dedup_cache"].get(known, {}).get("expire", 0) > time.time():
                return
            queue["dedup_cache"][known] = {"expire": time.time() + _WINDOW_SECONDS, "id": "", "seq": None}
        dispatch(spec, payload, parameters)

    names.DISPATCH_TO_SQS.put(to_queue)
