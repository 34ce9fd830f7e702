"""What each page of the console costs at 10,000 cases on the emulator: handler time and round trips to DynamoDB.

An emulated AWS of its own, filled with cases, tickets and exemptions; every page is asked for as an operator, without Lambda and API
Gateway. Lists are asked for as they stand, with filters that little or nothing fits, and by a viewer who may see another account alone.
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
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench.figures import Row
from chalicelib.adapters.aws import own_client
from chalicelib.adapters.tables import exemption_key, ticket_key
from chalicelib.domain.case import CaseState
from tests.adapters.samples import exemption, ticket
from tests.adapters.tables import create_tables
from tests.console.world import BUCKET, OLGA, SSH, VERA, World, bucket
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.models import quick_session

CASES = 10_000
TIMES = 7
TARGET_MS = 150
WAITING = 120
"""More than a page of approvals shows."""
ELSEWHERE = "999999999999"
BESIDE = 2_500
"""Tickets, and exemptions."""


def fill(console: World, count: int) -> tuple[str, str]:
    """So many cases, a few of them waiting; the ids of one that waits and one that was repaired."""
    for number in range(WAITING):
        console.asked(number + 1000)
    repaired = console.fixed()
    cases, control_state = (DEPLOYMENT.table(name) for name in ("cases", "control_state"))
    _put(console, cases, _cases(console, count))
    _put(console, cases, _tickets())
    _put(console, control_state, _exemptions(console))
    waiting = console.ledger.cases_page(CaseState.WAITING, 1).items[0]
    return waiting.id, repaired.id


def _put(console: World, table: str, items: Iterator[dict[str, Any]]) -> None:
    while part := [{"PutRequest": {"Item": item}} for item in islice(items, 25)]:
        console.client.batch_write_item(RequestItems={table: part})


def _named(number: int) -> str:
    """A digest of its own for each."""
    return f"{number:020d}".translate(str.maketrans("0189", "abcd"))


def _moved(number: int) -> dict[str, str]:
    return {"S": f"2026-08-03T12:00:00.{number % 1000:03d}Z"}


def _cases(console: World, count: int) -> Iterator[dict[str, Any]]:
    template = console.new(bucket(0), BUCKET, "s3_block_public_access")
    states = [CaseState.OPEN, CaseState.CLOSED, CaseState.TICKETED, CaseState.EXEMPT]
    for number in range(count):
        state, digest = states[number % 4], _named(number)
        changed = {"digest": digest, "target": bucket(number), "state": state, "version": 1}
        case = template.model_copy(update=changed)
        yield {
            "pk": {"S": f"CASE#{digest}"},
            "body": {"S": case.model_dump_json()},
            "state": {"S": state.value},
            "updated_at": _moved(number),
            "account": {"S": case.target.account},
            "version": {"N": "1"},
        }


def _tickets() -> Iterator[dict[str, Any]]:
    template = ticket(of=None)
    for number in range(BESIDE):
        one = template.model_copy(update={"digest": _named(number), "target": bucket(number)})
        yield {
            "pk": {"S": ticket_key(one.digest, one.number)},
            "body": {"S": one.model_dump_json()},
            "state": {"S": "ticket_open"},
            "updated_at": _moved(number),
        }


def _exemptions(console: World) -> Iterator[dict[str, Any]]:
    ends = console.clock.now() + timedelta(days=9)
    for number in range(BESIDE):
        one = exemption(control=BUCKET, resource=f"arn:aws:s3:::shop-assets-{number}", expires_at=ends)
        yield {
            "pk": {"S": exemption_key(one.account, one.control, one.resource)},
            "body": {"S": one.model_dump_json()},
            "kind": {"S": "EXEMPTION"},
        }


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
    """Every page, as an operator sees it, and lists as a viewer of another account does."""
    with emulated() as console:
        waiting, repaired = fill(console, count)
        watch, operator, viewer = Watch(console.client), console.signed_in(OLGA), console.signed_in(VERA)
        for name, path, cookie in (
            ("overview", "/", operator),
            ("approvals", "/approvals", operator),
            ("cases", "/cases", operator),
            ("cases that are closed", "/cases?state=closed", operator),
            ("a case that waits", f"/cases/{waiting}", operator),
            ("a case that was repaired", f"/cases/{repaired}", operator),
            ("log", "/log", operator),
            ("controls", "/controls", operator),
            ("a control", f"/controls/{SSH}", operator),
            ("exemptions", "/exemptions", operator),
            ("tickets", "/tickets", operator),
            ("switches", "/switches", operator),
            ("people", "/people", operator),
            ("cases of one control", f"/cases?control={SSH}", operator),
            ("cases that none fits", f"/cases?state=closed&account={ELSEWHERE}", operator),
            ("log that none fits", "/log?control=none", operator),
            ("cases, of another account", "/cases", viewer),
            ("tickets, of another account", "/tickets", viewer),
            ("exemptions, of another account", "/exemptions", viewer),
        ):
            whole, there, trips = measured(watch, partial(console.get, path, cookie=cookie))
            note = f"{there:.0f} ms of it in the emulated DynamoDB, {trips} round trips"
            yield Row("pages", f"page: {name}", whole, "ms", target=TARGET_MS, note=note)
