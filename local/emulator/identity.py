"""IAM as the emulator has it: whose ARN a call is checked against, and what IAM says of keys.

The credential report and GetAccessKeyLastUsed are two views of one thing: the key's own record.
"""
# ruff: noqa: ANN401 - what MiniStack hands out has no types

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from local.emulator import names

COLUMNS: Final = (
    "user", "arn", "user_creation_time", "password_enabled", "password_last_used", "password_last_changed",
    "password_next_rotation", "mfa_active", "access_key_1_active", "access_key_1_last_rotated",
    "access_key_1_last_used_date", "access_key_1_last_used_region", "access_key_1_last_used_service",
    "access_key_2_active", "access_key_2_last_rotated", "access_key_2_last_used_date",
    "access_key_2_last_used_region", "access_key_2_last_used_service", "cert_1_active", "cert_1_last_rotated",
    "cert_2_active", "cert_2_last_rotated",
)  # fmt: skip
_ABSENT: Final = "N/A"
_NO_KEY: Final = ("false", _ABSENT, _ABSENT, _ABSENT, _ABSENT)
_NO_CERTIFICATES: Final = ("false", _ABSENT, "false", _ABSENT)
# Kept among MiniStack's own reports, which it keeps account by account.
_REPORT: Final = "redress-report"
_NOT_READY: Final = "redress-not-ready"
_ROOT_KEY: Final = "redress-root-key"
_UNNAMED_IS_ONESELF: Final = frozenset({
    "GetUser", "ListAccessKeys", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey", "ListMFADevices",
})  # fmt: skip


def patch() -> None:
    """Mend MiniStack's IAM."""
    _answer_key_use()
    _name_resources()
    summary = names.ACCOUNT_SUMMARY.get()
    handlers = names.IAM_HANDLERS.get()
    handlers["GenerateCredentialReport"] = _generate
    handlers["GetCredentialReport"] = _report
    handlers["GetAccountSummary"] = lambda parameters: _summary(summary(parameters))


def set_root_key(account: str, *, present: bool) -> None:
    """Give the account's root user an access key that nobody has used yet, or take it away."""
    key = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S+00:00}" if present else ""
    names.CREDENTIAL_REPORTS.get().set_scoped(account, None, _ROOT_KEY, key)


def delay_report(account: str, times: int) -> None:
    """The next `times` calls that make or fetch the account's credential report find it not ready."""
    names.CREDENTIAL_REPORTS.get().set_scoped(account, None, _NOT_READY, times)


# --- keys -----------------------------------------------------------------------------------------------


def _answer_key_use() -> None:
    answer = names.KEY_LAST_USED.get()

    def last_used(parameters: Any) -> Any:
        status, headers, body = answer(parameters)
        key = names.ACCESS_KEYS.get().get(_first(parameters, "AccessKeyId")) or {}
        used = key.get("RedressLastUsed")
        if used is None:
            return status, headers, body
        text = body.decode() if isinstance(body, bytes) else body
        never = "<Region>N/A</Region><ServiceName>N/A</ServiceName>"
        at, region, service = used
        spoken = (
            f"<LastUsedDate>{at}</LastUsedDate><Region>{region}</Region><ServiceName>{service}</ServiceName>"
        )
        return status, headers, text.replace(never, spoken).encode()

    names.KEY_LAST_USED.put(last_used)
    names.IAM_HANDLERS.get()["GetAccessKeyLastUsed"] = last_used


# --- the credential report ------------------------------------------------------------------------------


def _is_delayed() -> bool:
    reports = names.CREDENTIAL_REPORTS.get()
    left = int(reports.get(_NOT_READY) or 0)
    reports[_NOT_READY] = max(0, left - 1)
    return left > 0


def _generate(_: Any) -> Any:
    reports = names.CREDENTIAL_REPORTS.get()
    began = _REPORT in reports
    reports[_REPORT] = (_written(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    state = "<State>COMPLETE</State>"
    if _is_delayed():
        state = "<State>INPROGRESS</State>" if began else (
            "<State>STARTED</State><Description>No report exists. Starting a new report generation task"
            "</Description>"
        )  # fmt: skip
    return _answer("GenerateCredentialReport", state)


def _report(_: Any) -> Any:
    made = names.CREDENTIAL_REPORTS.get().get(_REPORT)
    if made is None:
        return names.IAM_ERROR.get()(410, "ReportNotPresent", "No report has been generated.")
    if _is_delayed():
        return names.IAM_ERROR.get()(404, "ReportInProgress", "The report is still being generated.")
    content, at = made
    encoded = base64.b64encode(content.encode()).decode()
    return _answer(
        "GetCredentialReport",
        f"<Content>{encoded}</Content><ReportFormat>text/csv</ReportFormat><GeneratedTime>{at}</GeneratedTime>",
    )


def _answer(operation: str, inner: str) -> Any:
    return names.IAM_ANSWER.get()(
        200, f"{operation}Response", f"<{operation}Result>{inner}</{operation}Result>"
    )


def _written() -> str:
    """The report as AWS writes it: a header, the root user, then every user; no line end at its end."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerow(_root_row())
    for user in list(names.USERS.get().values()):
        writer.writerow(_row(user))
    return sheet.getvalue().rstrip("\n")


def _root_row() -> tuple[str, ...]:
    account, key = names.GET_ACCOUNT.get()(), str(names.CREDENTIAL_REPORTS.get().get(_ROOT_KEY) or "")
    first = ("true", key, _ABSENT, _ABSENT, _ABSENT) if key else _NO_KEY
    unsupported = "not_supported"
    password = (unsupported, "no_information", unsupported, unsupported)
    created = "2020-01-01T00:00:00+00:00"
    arn = f"arn:aws:iam::{account}:root"
    return ("<root_account>", arn, created, *password, "false", *first, *_NO_KEY, *_NO_CERTIFICATES)


def _row(user: Mapping[str, Any]) -> tuple[str, ...]:
    name = str(user["UserName"])
    profile = names.LOGIN_PROFILES.get().get(name)
    password = ("false", _ABSENT, _ABSENT, _ABSENT)
    if profile is not None:
        password = ("true", "no_information", _offset(profile["CreateDate"]), _ABSENT)
    has_mfa = any(device.get("User") == name for device in list(names.MFA_DEVICES.get().values()))
    mine = [key for key in list(names.ACCESS_KEYS.get().values()) if key["UserName"] == name]
    keys = [_key(key) for key in sorted(mine, key=lambda key: str(key["CreateDate"]))]
    first, second = (*keys, _NO_KEY, _NO_KEY)[:2]
    mfa = "true" if has_mfa else "false"
    created = _offset(user["CreateDate"])
    return (name, str(user["Arn"]), created, *password, mfa, *first, *second, *_NO_CERTIFICATES)


def _key(key: Mapping[str, Any]) -> tuple[str, ...]:
    used = key.get("RedressLastUsed")
    active = "true" if key["Status"] == "Active" else "false"
    at, region, service = (_offset(used[0]), *used[1:]) if used else (_ABSENT, _ABSENT, _ABSENT)
    return (active, _offset(key["CreateDate"]), at, str(region), str(service))


def _offset(zulu: str) -> str:
    """The report writes `+00:00` where the API writes `Z`."""
    return zulu.replace("Z", "+00:00")


def _summary(answer: Any) -> Any:
    status, headers, body = answer
    present = int(bool(names.CREDENTIAL_REPORTS.get().get(_ROOT_KEY)))
    # MiniStack counts any user's device as the root user's; nobody here gives root one.
    for key, value in (("AccountAccessKeysPresent", present), ("AccountMFAEnabled", 0)):
        body = re.sub(
            rb"(<key>%s</key><value>)\d+" % key.encode(), rb"\g<1>%d" % value, body, count=1
        )  # fmt: skip
    return status, headers, body


# --- whose ARN ------------------------------------------------------------------------------------------


def _name_resources() -> None:
    """Users and roles by their ARN, path included; a key by its owner; nobody named is oneself."""
    extract = names.RESOURCE_ARN.get()

    def extracted(
        service: str, method: str, path: str, headers: Any, body: Any, query: Any, region: str, account: str
    ) -> str:
        if service == "iam" and (named := _iam_resource(headers, query, account)):
            return named
        return str(extract(service, method, path, headers, body, query, region, account))

    names.RESOURCE_ARN.put(extracted)


def _iam_resource(headers: Any, query: Any, account: str) -> str:
    action = _first(query, "Action")
    role, user = _first(query, "RoleName"), _first(query, "UserName")
    if role:
        return _arn(names.ROLES.get(), account, "role", role, _first(query, "Path"))
    if action == "GetAccessKeyLastUsed":
        key = names.ACCESS_KEYS.get().get_scoped(account, None, _first(query, "AccessKeyId"))
        user = str((key or {}).get("UserName", ""))
    elif action in _UNNAMED_IS_ONESELF and not user:
        caller = names.caller_of(names.access_key_of(headers, query), account)
        user = "" if caller is None else caller.user_name
    return _arn(names.USERS.get(), account, "user", user, _first(query, "Path")) if user else ""


def _arn(store: Any, account: str, kind: str, name: str, path: str) -> str:
    known = store.get_scoped(account, None, name)
    return str(known["Arn"]) if known else f"arn:aws:iam::{account}:{kind}{path or '/'}{name}"


def _first(parameters: Any, key: str) -> str:
    value = parameters.get(key, "")
    return str(value[0] if isinstance(value, list) else value)
