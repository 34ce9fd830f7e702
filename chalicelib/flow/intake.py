"""Intake: an EventBridge envelope becomes one `Signal`, or `NotOurs` with the reason, for each thing that it tells.

Nothing in the event is trusted about the present state. What is read here is only who, where, when and which call, or
which finding; the shapes follow the services' own references and the events that trip naive parsers.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.errors import MalformedEventError
from chalicelib.domain.finding import Actor, NotOurs, Origin, Signal, is_account_id, is_region
from chalicelib.domain.shape import LONGEST, is_mapping, is_sequence, mapping, text
from chalicelib.flow import claims

CLOUDTRAIL = frozenset(
    {
        "AWS API Call via CloudTrail",
        "AWS Console Sign In via CloudTrail",
        "AWS Service Event via CloudTrail",
    }
)

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


def read(envelope: Mapping[str, Any]) -> tuple[Signal | NotOurs, ...]:
    """What the envelope says, normalised and redacted, never nothing; MalformedEventError when it is no event at all."""
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
    heard = _Heard(envelope, source, detail_type, detail, seen)
    if detail_type in CLOUDTRAIL:
        return (_call(heard),)
    if detail_type in claims.SOURCES:
        return _claims(heard, claims.SOURCES[detail_type])
    return (heard.not_ours(f"events of type {detail_type!r} are not taken in"),)


@dataclass(frozen=True)
class _Heard:
    """An envelope whose detail is redacted; `seen` is the digest of the whole."""

    envelope: Mapping[str, Any]
    source: str
    detail_type: str
    detail: dict[str, Any]
    seen: str

    def not_ours(self, reason: str, **known: str | None) -> NotOurs:
        """Why it asks nothing of us, with as much as is known of it."""
        said = {
            "account": text(self.envelope.get("account")),
            "region": text(self.envelope.get("region")),
            **known,
        }
        return NotOurs(
            event_id=said.get("event_id") or self.id_of(text(self.envelope.get("id"))),
            reason=reason[:LONGEST],
            account=said["account"] or "unknown",
            region=said["region"] or "unknown",
            name=said.get("name") or self.detail_type,
            sha256=self.seen,
        )

    def id_of(self, *parts: str | None) -> str:
        """One id made of `parts`: as they are where that is plain, else their digest; the whole's where there are none."""
        named = [part for part in parts if part]
        ambiguous = len(named) > 1 and any("@" in part for part in named)
        if not ambiguous and re.fullmatch(_PLAIN_ID, "@".join(named)):
            return "@".join(named)
        return hashlib.sha256(json.dumps(named).encode()).hexdigest() if named else self.seen

    def time(self, *said: object) -> datetime:
        """The first of these times that can be read, else the envelope's, else as old as can be."""
        read = (_time(value) for value in (*said, self.envelope.get("time")))
        return next((at for at in read if at), datetime.fromtimestamp(0, UTC))


_PLAIN_ID = r"[!-{}~]{1,256}"
"""Visible ASCII without `|`."""


def _call(heard: _Heard) -> Signal | NotOurs:
    detail = heard.detail
    event_id = heard.id_of(text(detail.get("eventID")) or text(heard.envelope.get("id")))
    name = text(detail.get("eventName")) or heard.detail_type
    account = text(heard.envelope.get("account")) or ""
    region = text(detail.get("awsRegion")) or text(heard.envelope.get("region")) or ""
    reason = _foreign(heard.envelope, detail, account, region)
    if reason:
        return heard.not_ours(reason, event_id=event_id, name=name, region=region)
    return Signal(
        event_id=event_id,
        source=text(detail.get("eventSource")) or heard.source,
        detail_type=heard.detail_type,
        name=name,
        account=account,
        region=region,
        at=heard.time(detail.get("eventTime")),
        actor=_actor(detail.get("userIdentity")),
        request_id=text(detail.get("requestID")),
        sha256=heard.seen,
        detail=detail,
        user_agent=text(detail.get("userAgent")),
    )


def _claims(heard: _Heard, source: claims.Source) -> tuple[Signal | NotOurs, ...]:
    """One for each finding and resource. Who asks twice about a finding by a custom action asks two things."""
    if heard.source != source.sender:
        return (
            heard.not_ours(
                f"{heard.detail_type!r} comes from {source.sender} alone, not from {heard.source!r}"
            ),
        )
    told: list[Signal | NotOurs] = []
    for number, finding in enumerate(source.each(heard.detail)):
        claim = source.read(finding)
        asked = text(heard.envelope.get("id")) if source.origin is Origin.REQUEST else None
        event_id = heard.id_of(claim.id or f"{heard.seen}/{number}", claim.updated, claim.resource, asked)
        if claim.no:
            known = {"account": claim.account, "region": claim.region, "name": claim.title}
            told.append(heard.not_ours(claim.no, event_id=event_id, **known))
            continue
        told.append(
            Signal(
                event_id=event_id,
                source=source.service,
                detail_type=heard.detail_type,
                name=claim.title or heard.detail_type,
                account=claim.account,
                region=claim.region,
                at=heard.time(*claim.times),
                actor=Actor(type="AWSService"),
                request_id=None,
                sha256=heard.seen,
                detail=dict(finding),
                origin=source.origin,
            )
        )
    return tuple(told) or (heard.not_ours("the event holds no finding"),)


def _foreign(  # noqa: PLR0911 -- a list of reasons, each returned where it is found
    envelope: Mapping[str, Any], detail: Mapping[str, Any], account: str, region: str
) -> str:
    """Why an API call asks nothing of us; empty when it may."""
    recipient = detail.get("recipientAccountId")
    if detail.get("errorCode") or detail.get("errorMessage"):
        return f"the call failed ({text(detail.get('errorCode')) or 'error'}): nothing was changed"
    if mapping(detail.get("responseElements")).get("ConsoleLogin") == "Failure":
        return "the sign-in failed"
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
    return Actor(
        type=kind,
        arn=arn,
        role_arn=text(issuer.get("arn")),
        session=session,
        source_identity=text(context.get("sourceidentity")),
    )


def _time(value: object) -> datetime | None:
    """A time in UTC: ISO 8601 in any of its dialects, or an epoch in seconds or milliseconds. Without a zone it is UTC."""
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value.strip())
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > _LAST_SECOND else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


_LAST_SECOND = 10**11
"""An epoch beyond it is in milliseconds: as seconds it would be the year 5138."""


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
