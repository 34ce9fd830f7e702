"""What each page of the console costs at 10,000 cases on the emulator: handler time and round trips to DynamoDB.

An emulated AWS of its own, filled with cases; every page is asked for as an operator, without Lambda and API Gateway.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Row
from chalicelib.adapters.aws import own_client
from chalicelib.domain.case import CaseState
from tests.adapters.tables import create_tables
from tests.console.world import BUCKET, OLGA, SSH, World, bucket
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.models import quick_session

CASES = 10_000
TIMES = 7
TARGET_MS = 150
WAITING = 120
"""More than a page of approvals shows."""


def fill(console: World, count: int) -> tuple[str, str]:
    """So many cases, a few of them waiting; the ids of one that waits and one that was repaired."""
    for number in range(WAITING):
        console.asked(number + 1000)
    repaired = console.fixed()
    template = console.new(bucket(0), BUCKET, "s3_block_public_access")
    states = [CaseState.OPEN, CaseState.CLOSED, CaseState.TICKETED, CaseState.EXEMPT]
    table = "redress-test-cases"
    for first in range(0, count, 25):
        batch: list[Any] = []
        for number in range(first, min(first + 25, count)):
            state = states[number % 4]
            digest = f"{template.digest[:13]}{number:07d}".translate(str.maketrans("0189", "abcd"))
            case = template.model_copy(
                update={"digest": digest, "target": bucket(number), "state": state, "version": 1}
            )
            item = {
                "pk": {"S": f"CASE#{digest}"},
                "body": {"S": case.model_dump_json()},
                "state": {"S": state.value},
                "updated_at": {"S": f"2026-08-03T12:00:00.{number % 1000:03d}Z"},
                "account": {"S": case.target.account},
                "version": {"N": "1"},
            }
            batch.append({"PutRequest": {"Item": item}})
        console.client.batch_write_item(RequestItems={table: batch})
    waiting = console.ledger.cases_page(CaseState.WAITING, 1).items[0]
    return waiting.id, repaired.id


class Watch:
    """Counts requests to DynamoDB and the time that they take."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 -- boto3's clients are made at run time
        self.count, self.seconds, self._since = 0, 0.0, 0.0
        client.meta.events.register("before-call.dynamodb.*", self._begin)
        client.meta.events.register("after-call.dynamodb.*", self._end)

    def _begin(self, **_: object) -> None:
        self.count += 1
        self._since = time.perf_counter()

    def _end(self, **_: object) -> None:
        self.seconds += time.perf_counter() - self._since


def measured(watch: Watch, do: Callable[[], object]) -> tuple[float, float, int]:
    """Milliseconds in all, milliseconds in DynamoDB, and round trips: medians of several times."""
    seen: list[tuple[float, float, int]] = []
    for _ in range(TIMES):
        watch.count, watch.seconds = 0, 0.0
        began = time.perf_counter()
        do()
        seen.append(((time.perf_counter() - began) * 1000, watch.seconds * 1000, watch.count))
    return (
        statistics.median(one[0] for one in seen),
        statistics.median(one[1] for one in seen),
        max(one[2] for one in seen),
    )


@contextmanager
def emulated() -> Iterator[World]:
    """A console on an emulated AWS that ends with it."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "local.emulator", "--lifeline", "--ready-file", str(ready)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not ready.exists():
                if process.poll() is not None:
                    raise RuntimeError("the emulated AWS did not start: run `python -m local.emulator`")
                time.sleep(0.1)
            os.environ |= {
                "AWS_ENDPOINT_URL": json.loads(ready.read_text())["endpoint"],
                "AWS_ACCESS_KEY_ID": DEPLOYMENT.account,
                "AWS_SECRET_ACCESS_KEY": "emulated",
            }
            client = own_client("dynamodb", DEPLOYMENT, quick_session)
            create_tables(client, DEPLOYMENT)
            console = World(client)
            console.set_policy()
            yield console
        finally:
            process.communicate()


def rows(count: int = CASES) -> Iterator[Row]:
    """Every page, as an operator sees it."""
    with emulated() as console:
        waiting, repaired = fill(console, count)
        watch, cookie = Watch(console.client), console.signed_in(OLGA)
        for name, path in (
            ("overview", "/"),
            ("approvals", "/approvals"),
            ("cases", "/cases"),
            ("cases that are closed", "/cases?state=closed"),
            ("a case that waits", f"/cases/{waiting}"),
            ("a case that was repaired", f"/cases/{repaired}"),
            ("log", "/log"),
            ("controls", "/controls"),
            ("a control", f"/controls/{SSH}"),
            ("exemptions", "/exemptions"),
            ("tickets", "/tickets"),
            ("switches", "/switches"),
            ("people", "/people"),
        ):
            whole, there, trips = measured(watch, partial(console.get, path, cookie=cookie))
            note = f"{there:.0f} ms of it in the emulated DynamoDB, {trips} round trips"
            yield Row("pages", f"page: {name}", whole, "ms", target=TARGET_MS, note=note)
