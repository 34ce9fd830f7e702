"""Inbound webhooks: only who knows the secret is heard, and all that is heard is where to look."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from chalicelib.console.hooks import LATE_SECONDS, MOST_BYTES, Heard, hook
from chalicelib.console.web import Reply, Request
from chalicelib.delivery.tickets import key_of
from chalicelib.domain.errors import StoreError
from chalicelib.domain.policy import Integration
from tests.adapters import samples
from tests.fakes.clock import START

SECRET = "a-secret-of-the-integration"
KEY = key_of(samples.ticket().id, "ops", "prod")

JIRA: dict[str, Any] = {
    "webhookEvent": "jira:issue_updated",
    "issue": {
        "key": "SEC-7",
        "fields": {"labels": ["team", f"redress-{KEY}"], "status": {"statusCategory": {"key": "done"}}},
    },
    "changelog": {"items": [{"field": "status", "toString": "Done"}]},
}
GITHUB: dict[str, Any] = {
    "action": "closed",
    "issue": {"number": 7, "body": f"text\n\n<!-- redress:{KEY} -->\n"},
}
OURS = {"correlation_id": KEY, "number": "INC0010007", "closed": True}
NAMES = {"jira": "SEC-7", "github": "7", "servicenow": "INC0010007", "webhook": "INC0010007"}
BODIES: dict[str, dict[str, Any]] = {"jira": JIRA, "github": GITHUB, "servicenow": OURS, "webhook": OURS}
SYSTEMS = sorted(BODIES)


def integration(system: str) -> Integration:
    return Integration.model_validate({"name": "ops", "system": system, "at": "https://example.com"})


def signed(system: str, body: bytes, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
    at = int(START.timestamp()) if at is None else at
    mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    timed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {
        "jira": {"x-hub-signature": f"sha256={mac}"},
        "github": {"x-hub-signature-256": f"sha256={mac}", "x-github-event": "issues"},
        "servicenow": {"x-redress-secret": secret},
        "webhook": {"x-signature": f"t={at},v1={timed}"},
        "opscenter": {"x-redress-secret": secret},
    }[system]


def post(headers: Mapping[str, str], body: bytes) -> Request:
    return Request("POST", "/hooks/ops", headers=MappingProxyType(dict(headers)), body=body)


def answered(
    system: str | None, request: Request, *secrets: str, after: timedelta = timedelta()
) -> tuple[Reply, list[Heard]]:
    heard: list[Heard] = []
    known = integration(system) if system else None
    return hook(request, known, secrets or (SECRET,), START + after, heard.append), heard


def sent(system: str, body: Any, **changed: Any) -> tuple[Reply, list[Heard]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answered(system, post({**signed(system, raw), **changed}, raw))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_closing_is_heard(system: str) -> None:
    reply, heard = sent(system, BODIES[system])
    assert reply.status == 200
    assert heard == [Heard("ops", samples.ticket().id, NAMES[system])]


@pytest.mark.parametrize(
    "system,body",
    [
        ("github", {**GITHUB, "action": "reopened"}),
        (
            "jira",
            {
                **JIRA,
                "issue": {
                    "key": "SEC-7",
                    "fields": {"labels": [f"redress-{KEY}"], "status": {"statusCategory": {"key": "new"}}},
                },
            },
        ),
        ("servicenow", {**OURS, "closed": False}),
    ],
)
def test_an_opening_is_heard(system: str, body: dict[str, Any]) -> None:
    reply, heard = sent(system, body)
    assert reply.status == 200
    assert heard == [Heard("ops", samples.ticket().id, NAMES[system])]


def test_a_deleted_ticket_is_heard_of() -> None:
    for system, body in (
        ("github", {**GITHUB, "action": "deleted"}),
        (
            "jira",
            {
                "webhookEvent": "jira:issue_deleted",
                "issue": {"key": "SEC-7", "fields": {"labels": [f"redress-{KEY}"]}},
            },
        ),
    ):
        _, heard = sent(system, body)
        assert [one.key for one in heard] == [NAMES[system]]


# -- forged ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [*SYSTEMS, "opscenter"])
def test_the_forged_are_not_heard(system: str) -> None:
    body = json.dumps(BODIES.get(system, OURS)).encode()
    good = signed(system, body)
    (name,) = (one for one in good if "sig" in one or "secret" in one)
    forged: list[Mapping[str, str]] = [
        {},
        signed(system, body, "another secret"),
        signed(system, body, ""),
        {**good, name: ""},
        {**good, name: good[name][:-1]},
        {**good, name: good[name] + "0"},
        {**good, name: good[name].upper()},
        {**good, name: f" {good[name]}"},
        {**good, name: "ünï\udce4"},
        {**good, name: good[name].replace("sha256=", "sha1=").replace("v1=", "v0=").replace("a-", "b-")},
    ]
    for headers in forged:
        reply, heard = answered(system, post(headers, body))
        assert (reply.status, reply.body, heard) == (401, "", [])
    if system == "opscenter":
        assert answered(system, post(good, body))[0].status == 401


@pytest.mark.parametrize("system", ["jira", "github", "webhook"])
def test_a_body_that_was_changed_or_written_anew_is_not_heard(system: str) -> None:
    body = json.dumps(BODIES[system]).encode()
    headers = signed(system, body)
    for other in (body + b" ", body.replace(b"7", b"8"), json.dumps(BODIES[system], indent=1).encode(), b""):
        reply, heard = answered(system, post(headers, other))
        assert (reply.status, heard) == (401, [])


def test_one_systems_signature_is_no_other_systems() -> None:
    body = json.dumps(JIRA).encode()
    for system in SYSTEMS:
        for other in SYSTEMS:
            if system != other:
                assert answered(system, post(signed(other, body), body))[0].status == 401


@pytest.mark.parametrize(
    "seconds,status", [(LATE_SECONDS, 200), (LATE_SECONDS + 1, 401), (-301, 401), (-300, 200)]
)
def test_the_late_are_not_heard_where_the_time_is_signed(seconds: int, status: int) -> None:
    body = json.dumps(OURS).encode()
    headers = signed("webhook", body)
    reply, heard = answered("webhook", post(headers, body), after=timedelta(seconds=seconds))
    assert (reply.status, len(heard)) == (status, int(status == 200))


def test_a_time_that_is_not_the_signed_one_is_not_heard() -> None:
    body = json.dumps(OURS).encode()
    old = signed("webhook", body, at=0)["x-signature"]
    now = old.replace("t=0", f"t={int(START.timestamp())}")
    assert answered("webhook", post({"x-signature": now}, body))[0].status == 401


@pytest.mark.parametrize("system", SYSTEMS)
def test_either_of_two_secrets_will_do_and_no_secret_never(system: str) -> None:
    body = json.dumps(BODIES[system]).encode()
    request = post(signed(system, body), body)
    for secrets in ((SECRET, "new"), ("new", SECRET)):
        assert answered(system, request, *secrets)[0].status == 200
    assert answered(system, request, "new", "newer")[0].status == 401
    empty = post(signed(system, body, ""), body)
    assert answered(system, empty, "")[0].status == 401
    assert hook(empty, integration(system), (), START, lambda _: None).status == 401


def test_an_unknown_integration_looks_like_a_wrong_secret() -> None:
    body = json.dumps(GITHUB).encode()
    assert answered(None, post(signed("github", body), body)) == answered("github", post({}, body))


def test_a_body_that_is_too_long_is_not_read() -> None:
    assert sent("github", b"[" * (MOST_BYTES + 1))[0].status == 401


# -- malformed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"7", b"\xff\xfe", b"[" * 100_000])
def test_the_malformed_are_refused(system: str, body: bytes) -> None:
    reply, heard = sent(system, body)
    assert (reply.status, heard) == (400, [])


@pytest.mark.parametrize(
    "system,body",
    [
        ("github", {}),
        ("github", {**GITHUB, "action": "edited"}),
        ("github", {**GITHUB, "issue": {"number": 7, "body": None}}),
        ("github", {**GITHUB, "issue": {"number": "7", "body": GITHUB["issue"]["body"]}}),
        ("github", {**GITHUB, "issue": {"number": 7, "body": f"<!-- redress:{KEY} --> and more"}}),
        ("github", {**GITHUB, "issue": {"number": 7, "body": "<!-- redress:../../etc -->"}}),
        ("github", {**GITHUB, "issue": {"number": 7, "body": "<!-- redress:abc -->"}}),
        ("jira", {}),
        ("jira", {**JIRA, "changelog": {"items": [{"field": "summary"}]}}),
        ("jira", {**JIRA, "changelog": None}),
        ("jira", {**JIRA, "issue": {"key": "SEC-7", "fields": {"labels": ["other"]}}}),
        ("jira", {**JIRA, "issue": {"key": 7, "fields": JIRA["issue"]["fields"]}}),
        (
            "jira",
            {**JIRA, "issue": {"key": "SEC-7", "fields": {"labels": [f"redress-{KEY}"], "status": None}}},
        ),
        ("servicenow", {}),
        ("servicenow", {**OURS, "closed": "yes"}),
        ("servicenow", {**OURS, "correlation_id": "x"}),
        ("webhook", {**OURS, "number": None}),
    ],
)
def test_what_is_not_about_a_ticket_of_ours_has_no_effect(system: str, body: dict[str, Any]) -> None:
    reply, heard = sent(system, body)
    assert (reply.status, heard) == (200, [])


def test_other_events_of_github_have_no_effect() -> None:
    for event in ("ping", "issue_comment", ""):
        reply, heard = sent("github", GITHUB, **{"x-github-event": event})
        assert (reply.status, heard) == (200, [])


def test_what_could_not_be_passed_on_is_not_answered_as_if_it_were() -> None:
    def broken(_: Heard) -> None:
        raise StoreError("the table is down")

    body = json.dumps(GITHUB).encode()
    with pytest.raises(StoreError):
        hook(post(signed("github", body), body), integration("github"), (SECRET,), START, broken)
