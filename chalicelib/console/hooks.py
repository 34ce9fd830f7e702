"""Inbound webhooks: a ticket system says that somebody closed or opened a ticket of ours.

`POST /hooks/{integration}`. All that is taken from it is which ticket to look at: whoever hears of it asks the system
itself, and closing is no evidence anyway. So a replayed message, which GitHub and Jira give us no means to tell, costs a
look. Nothing is read before the signature over the exact body holds.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from chalicelib.console.web import Reply, Request
from chalicelib.delivery.tickets import KEY
from chalicelib.domain.policy import Integration
from chalicelib.domain.shape import is_mapping, mapping, sequence, text

MOST_BYTES = 1024 * 1024
LATE_SECONDS = 300
"""How old a message may be whose signature covers its time."""

_MARKER = re.compile(r"<!-- redress:([a-z0-9-]{1,60}) -->\s*\Z")
_TIMED = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")
_SIGNED = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True)
class Heard:
    """Somebody closed or opened the remote ticket `key` of our ticket, as its system claims: look at it."""

    integration: str
    ticket: str
    key: str


def hook(
    request: Request,
    integration: Integration | None,
    secrets: Iterable[str],
    now: datetime,
    heard: Callable[[Heard], None],
) -> Reply:
    """401 unless one of `secrets` signed it, 400 for what cannot be read; `heard` is called for nothing else than our tickets.

    `integration` is None for a name that the policy does not know, which is told from a wrong secret by nobody. What
    `heard` raises goes up: the system sends again what was not answered.
    """
    if integration is None or len(request.body) > MOST_BYTES:
        return _plain(401)
    given = tuple(secret.encode() for secret in secrets if secret)
    if not _authentic(request, integration.system, given, now):
        return _plain(401)
    try:
        said = json.loads(request.body)
    except (ValueError, RecursionError):
        return _plain(400)
    if not is_mapping(said):
        return _plain(400)
    match integration.system:
        case "github":
            found = _github(request, said)
        case "jira":
            found = _jira(said)
        case _:
            found = _ours(said)
    if found is not None:
        label, key = found
        if known := KEY.fullmatch(label):
            heard(Heard(integration=integration.name, ticket=known["ticket"], key=key))
    return _plain(200)


def _authentic(request: Request, system: str, secrets: tuple[bytes, ...], now: datetime) -> bool:
    """Whether one of the secrets vouches for the body, in the way of that system.

    https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries ·
    https://developer.atlassian.com/cloud/jira/platform/webhooks/ · ServiceNow sends a header that we name.
    """
    if system == "servicenow":
        shared = request.headers.get("x-redress-secret", "").encode("utf-8", "replace")
        return any(hmac.compare_digest(shared, secret) for secret in secrets)
    if system == "webhook":
        timed = _TIMED.fullmatch(request.headers.get("x-signature", ""))
        if timed is None or abs(now.timestamp() - int(timed[1])) > LATE_SECONDS:
            return False
        covered, claimed = timed[1].encode() + b"." + request.body, timed[2]
    elif system in {"github", "jira"}:
        header = "x-hub-signature-256" if system == "github" else "x-hub-signature"
        signed = _SIGNED.fullmatch(request.headers.get(header, ""))
        if signed is None:
            return False
        covered, claimed = request.body, signed[1]
    else:  # OpsCenter sends none
        return False
    made = [hmac.new(secret, covered, hashlib.sha256).hexdigest() for secret in secrets]
    return any(hmac.compare_digest(claimed, one) for one in made)


def _github(request: Request, said: dict[str, object]) -> tuple[str, str] | None:
    action, issue = said.get("action"), mapping(said.get("issue"))
    marker = _MARKER.search(str(issue.get("body") or ""))
    number = issue.get("number")
    if request.headers.get("x-github-event") != "issues" or marker is None or not isinstance(number, int):
        return None
    if action not in {"closed", "reopened", "deleted"}:
        return None
    return marker[1], str(number)


def _jira(said: dict[str, object]) -> tuple[str, str] | None:
    issue = mapping(said.get("issue"))
    fields = mapping(issue.get("fields"))
    labels = (str(label) for label in sequence(fields.get("labels")))
    ours = next((label for label in labels if label.startswith("redress-")), None)
    key = text(issue.get("key"))
    category = text(mapping(mapping(fields.get("status")).get("statusCategory")).get("key"))
    deleted = said.get("webhookEvent") == "jira:issue_deleted"
    moved = any(
        mapping(item).get("field") == "status"
        for item in sequence(mapping(said.get("changelog")).get("items"))
    )
    if ours is None or key is None or not (deleted or (moved and category)):
        return None
    return ours.removeprefix("redress-"), key


def _ours(said: dict[str, object]) -> tuple[str, str] | None:
    """The form that we ask ServiceNow's business rule and owners of receivers for (`docs/tickets.md`)."""
    ours, key, closed = text(said.get("correlation_id")), text(said.get("number")), said.get("closed")
    return (ours, key) if ours and key and isinstance(closed, bool) else None


def _plain(status: int) -> Reply:
    return Reply(status, "", "text/plain; charset=utf-8")
