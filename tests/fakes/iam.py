"""What moto's IAM lacks: keys with a past, and a credential report with the root user, real columns and its own time."""

import csv
import io
from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto.iam.models import AccessKeyLastUsed, iam_backends

COLUMNS = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")


def age(key_id: str, made: datetime, used: datetime | None = None, *, account: str, **reported: str) -> None:
    """Give a key its past: when it was made and last used. `reported` is what the credential report says otherwise."""
    key: Any = _backend(account).access_keys[key_id]
    key.create_date = made
    key.last_used = AccessKeyLastUsed(used, "s3", "eu-west-1") if used else None
    key.reported = reported


def give_root_a_key(account: str) -> None:
    _backend(account).account_summary._account_access_keys_present = 1


def listen(events: Any, account: Callable[[], str], now: Callable[[], datetime]) -> None:
    """Let a session's clients see a credential report of `now` as IAM writes it."""

    def replace(parsed: dict[str, Any], **_: object) -> None:
        if "Content" in parsed:
            header = parsed["Content"].decode().splitlines()[0].split(",")
            parsed.update(Content=report(account(), header), GeneratedTime=now())

    events.register("after-call.iam.GetCredentialReport", replace)


def report(account: str, header: list[str]) -> bytes:
    """The credential report: the root user first, whose keys another control looks at."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, header, restval="N/A")
    writer.writeheader()
    root = {f"access_key_{place}_active": "false" for place in (1, 2)}
    writer.writerow({**root, "user": "<root_account>", "arn": f"arn:aws:iam::{account}:root"})
    for user in _backend(account).users.values():
        row = {"user": user.name, "arn": user.arn, **root}
        for place, key in enumerate(user.access_keys, 1):
            row |= {f"access_key_{place}_{column}": text for column, text in _facts(key).items()}
        writer.writerow(row)
    return text.getvalue().encode()


def _facts(key: Any) -> dict[str, str]:
    used = key.last_used
    told = (
        "true" if key.status == "Active" else "false",
        _written(key.create_date),
        *((_written(used.timestamp), used.region, used.service) if used else ("N/A", "N/A", "N/A")),
    )
    return {**dict(zip(COLUMNS, told, strict=True)), **getattr(key, "reported", {})}


def _written(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _backend(account: str) -> Any:
    return iam_backends[account]["aws"]
