"""Intake: an EventBridge envelope becomes a `Signal`, or `NotOurs` with the reason, or is no event at all.

Nothing in the event is trusted about the present state. What is read here is only who, where, when and which call; the
shapes follow CloudTrail's record contents reference and the events that trip naive parsers.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.errors import MalformedEventError
from chalicelib.domain.finding import Actor, NotOurs, Signal, is_account_id, is_region
from chalicelib.domain.shape import is_mapping, is_sequence, mapping, text

API_CALL = "AWS API Call via CloudTrail"

REDACTED = "HIDDEN_DUE_TO_SECURITY_REASONS"
"""The words that CloudTrail itself puts in a secret's place."""

SECRET_FIELDS = frozenset(
    {
        "secretstring",
        "secretbinary",
        "authorization",
        "plaintext",
    }
)
SECRET_ENDINGS = (
    "accesstoken",
    "apikeyvalue",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "idtoken",
    "oauthtoken",
    "passphrase",
    "password",
    "presharedkey",
    "presignedurl",
    "privatekey",
    "refreshtoken",
    "secretaccesskey",
    "secretkey",
    "securitytoken",
    "sessiontoken",
    "sharedsecret",
    "tokenkey",
)
"""With the table of whole names, the fields that never leave intake; applied before anything is hashed or kept.

Names are compared in lower case, without `-` and `_`. Tokens that are none of these (nextToken, clientToken,
clientRequestToken, continuationToken) are no secrets and stay.
"""


FORBIDDEN_IN_IDS = "|"
"""No id that AWS gives holds it; the engine sets it between an id and what it adds to it."""


def parse(body: str) -> dict[str, Any]:
    """The message's JSON object; MalformedEventError when it is none, and the queue keeps the message."""
    try:
        event: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = (
            f"the message is not JSON ({error}); it stays in the queue and then in its dead-letter queue"
        )
        raise MalformedEventError(message) from error
    if not is_mapping(event):
        message = f"the message is a JSON {type(event).__name__}, not an event object"
        raise MalformedEventError(message)
    return event


def read(envelope: Mapping[str, Any]) -> Signal | NotOurs:
    """What the envelope says, normalised and redacted; MalformedEventError when it is no EventBridge event."""
    detail_type, source, detail = (envelope.get(key) for key in ("detail-type", "source", "detail"))
    if not isinstance(detail_type, str) or not isinstance(source, str) or not is_mapping(detail):
        message = "the event lacks source, detail-type or detail, which every EventBridge event has"
        raise MalformedEventError(message)
    try:
        detail = _redacted(detail)
        whole = json.dumps({**envelope, "detail": detail}, sort_keys=True, ensure_ascii=False)
        seen = hashlib.sha256(whole.encode()).hexdigest()
    except RecursionError as error:
        message = "the event is nested deeper than any AWS event"
        raise MalformedEventError(message) from error
    except UnicodeEncodeError as error:
        message = "the event holds half a character (a lone surrogate), which no store takes"
        raise MalformedEventError(message) from error
    named = text(detail.get("eventID")) or text(envelope.get("id")) or seen
    event_id = seen if FORBIDDEN_IN_IDS in named else named
    name = text(detail.get("eventName")) or detail_type
    account, region = (
        text(envelope.get("account")),
        text(detail.get("awsRegion")) or text(envelope.get("region")),
    )
    reason = (
        _foreign(envelope, detail, account, region)
        if detail_type == API_CALL
        else (f"events of type {detail_type!r} are not taken in by this version")
    )
    if reason or account is None or region is None:
        return NotOurs(
            event_id=event_id,
            reason=reason or "the event names no account or no Region",
            account=account or "unknown",
            region=region or "unknown",
            name=name,
            sha256=seen,
        )
    return Signal(
        event_id=event_id,
        source=text(detail.get("eventSource")) or source,
        detail_type=detail_type,
        name=name,
        account=account,
        region=region,
        at=_time(detail.get("eventTime")) or _time(envelope.get("time")) or datetime.fromtimestamp(0, UTC),
        actor=_actor(detail.get("userIdentity")),
        request_id=text(detail.get("requestID")),
        sha256=seen,
        detail=detail,
    )


def _foreign(  # noqa: PLR0911 -- a list of reasons, each returned where it is found
    envelope: Mapping[str, Any], detail: Mapping[str, Any], account: str | None, region: str | None
) -> str:
    """Why an API call asks nothing of us; empty when it may."""
    recipient = detail.get("recipientAccountId")
    if detail.get("errorCode") or detail.get("errorMessage"):
        return f"the call failed ({text(detail.get('errorCode')) or 'error'}): nothing was changed"
    if str(detail.get("readOnly")).lower() == "true":
        return "the call only reads"
    if not is_account_id(account):
        return f"{account!r} is no account id of twelve digits"
    if recipient is not None and recipient != account:
        return f"the envelope says account {account}, the record says {recipient!r}"
    if not is_region(region):
        return f"{region!r} is no Region's name"
    if envelope.get("region") and envelope["region"] != region:
        return f"the envelope says Region {envelope.get('region')!r}, the record says {region}"
    return ""


def _actor(identity: object) -> Actor:
    """CloudTrail's userIdentity, reduced; keys are compared in lower case since some exporters lower them."""
    lower = {str(key).lower(): value for key, value in mapping(identity).items()}
    context = {str(key).lower(): value for key, value in mapping(lower.get("sessioncontext")).items()}
    issuer = mapping(context.get("sessionissuer"))
    arn = text(lower.get("arn"))
    kind = text(lower.get("type")) or ("AWSService" if lower.get("invokedby") else "unknown")
    session = arn.split("/", 2)[2] if arn and ":assumed-role/" in arn and arn.count("/") >= 2 else None  # noqa: PLR2004 -- assumed-role/<role>/<session>
    return Actor(type=kind, arn=arn, role_arn=text(issuer.get("arn")), session=session)


def _time(value: object) -> datetime | None:
    """An event's time in UTC; exporters write a space for the T, nanoseconds, or leave the zone out."""
    if not isinstance(value, str):
        return None
    head, dot, fraction = value.strip().replace(" ", "T").rstrip("Z").partition(".")
    try:
        at = datetime.fromisoformat(f"{head}.{fraction[:6]}" if dot and fraction[:6].isdigit() else head)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is_secret(name: str, value: object) -> bool:
    """Whether a field holds a secret. A bool holds none, whatever its name (`manageMasterUserPassword`)."""
    plain = name.lower().replace("-", "").replace("_", "")
    return (plain in SECRET_FIELDS or plain.endswith(SECRET_ENDINGS)) and not isinstance(value, bool | None)


def _redacted(value: object) -> Any:  # noqa: ANN401 -- any JSON value, walked by type
    if is_mapping(value):
        return {
            str(key): REDACTED if _is_secret(str(key), inner) else _redacted(inner)
            for key, inner in value.items()
        }
    if is_sequence(value):
        return [_redacted(inner) for inner in value]
    return value
