"""From an API call to the CloudTrail record of it, and to the EventBridge event that carries the record.

Pure: request, response, caller and clock readings in, dictionaries out. What AWS would not log or would not
deliver (reads, data-plane calls, calls by nobody known) yields None.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from local.emulator.shapes import Json, request_parameters, response_elements
from local.emulator.wire import Operation, Request, Response

DETAIL_TYPE: Final = "AWS API Call via CloudTrail"
ENVELOPE_KEYS: Final = (
    "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
)  # fmt: skip

_READS: Final = re.compile(
    "(Get|List|Describe|Head|Lookup|BatchGet|BatchCheck|Query|Scan|Search|Select|Simulate|Test|Validate"
    "|Receive|Estimate|Preview|Filter|Discover|Detect|Assume)[A-Z].*|DecodeAuthorizationMessage"
    "|GenerateCredentialReport|GenerateServiceLastAccessedDetails"
)
# CloudTrail logs these as data events, or not at all: no trail delivers them to a bus by default.
_DATA_PLANE: Final[Mapping[str, re.Pattern[str]]] = {
    "dynamodb": re.compile("(Put|Update|Delete)Item|Batch(Write|Get).*|Transact.*|Execute.*|BatchExecute.*"),
    "sqs": re.compile("(Send|Delete|Receive)Message.*|ChangeMessageVisibility.*"),
    "sns": re.compile("Publish.*"),
    "events": re.compile("PutEvents|PutPartnerEvents"),
    "logs": re.compile("PutLogEvents|StartQuery|StopQuery|CreateLogStream"),
    "cloudwatch": re.compile("PutMetricData"),
    "lambda": re.compile("Invoke.*"),
    "kinesis": re.compile("PutRecords?|SubscribeToShard"),
    "kms": re.compile("Encrypt|Decrypt|ReEncrypt|Sign|Verify.*|GenerateMac|GenerateData.*|GenerateRandom"),
    "s3": re.compile(
        "(Put|Delete|Copy|Restore)Objects?|UploadPart.*|.*MultipartUpload|(Put|Delete)Object(Acl|Tagging|Retention"
        "|LegalHold)|WriteGetObjectResponse"
    ),
    "sts": re.compile(".*"),
    "xray": re.compile("Put.*"),
}
# Lambda's records carry the date of the API version; S3's name the bucket where the API does not.
_EVENT_NAMES: Final[Mapping[tuple[str, str], str]] = {
    ("lambda", "AddPermission"): "AddPermission20150331v2",
    ("lambda", "RemovePermission"): "RemovePermission20150331v2",
    ("lambda", "CreateFunction"): "CreateFunction20150331",
    ("lambda", "DeleteFunction"): "DeleteFunction20150331",
    ("lambda", "UpdateFunctionCode"): "UpdateFunctionCode20150331v2",
    ("lambda", "UpdateFunctionConfiguration"): "UpdateFunctionConfiguration20150331v2",
    ("lambda", "PublishVersion"): "PublishVersion20150331",
    ("lambda", "CreateAlias"): "CreateAlias20150331",
    ("lambda", "UpdateAlias"): "UpdateAlias20150331",
    ("lambda", "DeleteAlias"): "DeleteAlias20150331",
    ("lambda", "CreateEventSourceMapping"): "CreateEventSourceMapping20150331",
    ("lambda", "UpdateEventSourceMapping"): "UpdateEventSourceMapping20150331",
    ("lambda", "DeleteEventSourceMapping"): "DeleteEventSourceMapping20150331",
    ("lambda", "PutFunctionConcurrency"): "PutFunctionConcurrency20171031",
    ("lambda", "DeleteFunctionConcurrency"): "DeleteFunctionConcurrency20171031",
    ("lambda", "TagResource"): "TagResource20170331v2",
    ("lambda", "UntagResource"): "UntagResource20170331v2",
    ("lambda", "PublishLayerVersion"): "PublishLayerVersion20181031",
    ("lambda", "AddLayerVersionPermission"): "AddLayerVersionPermission20181031",
    ("lambda", "RemoveLayerVersionPermission"): "RemoveLayerVersionPermission20181031",
    ("s3", "PutPublicAccessBlock"): "PutBucketPublicAccessBlock",
    ("s3", "DeletePublicAccessBlock"): "DeleteBucketPublicAccessBlock",
    ("s3", "PutBucketLifecycleConfiguration"): "PutBucketLifecycle",
    ("s3", "PutBucketNotificationConfiguration"): "PutBucketNotification",
    ("s3", "PutObjectLockConfiguration"): "PutBucketObjectLockConfiguration",
    ("s3control", "PutPublicAccessBlock"): "PutAccountPublicAccessBlock",
    ("s3control", "DeletePublicAccessBlock"): "DeleteAccountPublicAccessBlock",
}
# Services with one endpoint for the world: their events appear in its Region, whatever the client's is.
_HOMES: Final[Mapping[str, str]] = {
    "iam": "us-east-1", "organizations": "us-east-1", "route53": "us-east-1", "cloudfront": "us-east-1",
}  # fmt: skip
_EVENT_SOURCES: Final[Mapping[str, str]] = {"s3-control": "s3", "email": "ses", "api.ecr": "ecr"}
# Services whose denied calls keep their request parameters; all others log null.
_KEEPS_DENIED_PARAMETERS: Final = frozenset({"ec2", "s3", "s3control", "guardduty", "rds"})
# Failures before the caller was known: CloudTrail has no one to write down.
_UNAUTHENTICATED: Final = frozenset({
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidSignatureException", "InvalidToken", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip
_IAM_EXCEPTIONS: Final = frozenset({
    "ConcurrentModification", "DeleteConflict", "EntityAlreadyExists", "EntityTemporarilyUnmodifiable",
    "InvalidInput", "LimitExceeded", "MalformedPolicyDocument", "NoSuchEntity", "PasswordPolicyViolation",
})  # fmt: skip


class CallerKind(StrEnum):
    """The kinds of `userIdentity` that a signed request can have."""

    ROOT = "Root"
    USER = "IAMUser"
    ROLE = "AssumedRole"
    FEDERATED = "FederatedUser"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed a request, as the emulated IAM and STS know it."""

    kind: CallerKind
    account: str
    arn: str
    principal_id: str
    access_key_id: str
    user_name: str = ""
    role_arn: str = ""
    role_name: str = ""
    role_id: str = ""
    session_name: str = ""
    issued_at: datetime | None = None
    source_identity: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One finished API call: all that CloudTrail would have seen of it."""

    request: Request
    response: Response
    operation: Operation
    caller: Caller
    region: str
    at: datetime
    request_id: str
    event_id: str
    source_ip: str = "127.0.0.1"


def event_name(operation: Operation) -> str:
    """The `eventName` of an operation, where CloudTrail spells it differently."""
    return _EVENT_NAMES.get((operation.service, operation.name), operation.name)


def is_relayed(operation: Operation) -> bool:
    """Whether CloudTrail would deliver this operation to EventBridge: a write on the management plane."""
    if _READS.fullmatch(operation.name):
        return False
    data_plane = _DATA_PLANE.get(operation.service)
    return data_plane is None or data_plane.fullmatch(operation.name) is None


def user_identity(caller: Caller) -> Json:
    """`userIdentity` as CloudTrail writes it for this kind of caller."""
    identity: Json = {
        "type": str(caller.kind),
        "principalId": caller.principal_id,
        "arn": caller.arn,
        "accountId": caller.account,
        "accessKeyId": caller.access_key_id,
    }
    if caller.kind is CallerKind.USER:
        identity["userName"] = caller.user_name
    if caller.issued_at is None:
        return identity
    attributes = {"creationDate": _zulu(caller.issued_at), "mfaAuthenticated": "false"}
    context: Json = {"attributes": attributes}
    if caller.kind is CallerKind.ROLE:
        context = {
            "sessionIssuer": {
                "type": "Role",
                "principalId": caller.role_id,
                "arn": caller.role_arn,
                "accountId": caller.account,
                "userName": caller.role_name,
            },
            **context,
        }
        if caller.source_identity:
            context["sourceIdentity"] = caller.source_identity
    return {**identity, "sessionContext": context}


def error_of(response: Response, operation: Operation) -> tuple[str, str] | None:
    """Error code and message, spelled as CloudTrail spells them, or None for a success."""
    if response.status < HTTPStatus.BAD_REQUEST:
        return None
    code, message = _wire_error(response)
    if operation.service == "ec2":
        return (
            f"Client.{code}" if response.status < HTTPStatus.INTERNAL_SERVER_ERROR else f"Server.{code}",
            message,
        )
    if code == "AccessDeniedException":
        code = "AccessDenied"
    if operation.service == "iam" and code in _IAM_EXCEPTIONS:
        code += "Exception"
    return code, message


def record(call: Call) -> Json | None:
    """The CloudTrail record of a call, or None when CloudTrail would not deliver one."""
    operation, response = call.operation, call.response
    if not is_relayed(operation):
        return None
    error = error_of(response, operation)
    if error is not None and error[0].removeprefix("Client.") in _UNAUTHENTICATED:
        return None
    source = event_source(operation)
    parameters = request_parameters(call.request, operation)
    denied = error is not None and "AccessDenied" in error[0]
    if denied and operation.service not in _KEEPS_DENIED_PARAMETERS:
        parameters = None
    elements = None if error is not None else response_elements(response, operation)
    if elements is not None and "requestId" in elements:
        elements["requestId"] = call.request_id
    failure = {} if error is None else {"errorCode": error[0], "errorMessage": error[1]}
    return {
        "eventVersion": "1.11",
        "userIdentity": user_identity(call.caller),
        "eventTime": _zulu(call.at),
        "eventSource": f"{source}.amazonaws.com",
        "eventName": event_name(operation),
        "awsRegion": region_of(call),
        "sourceIPAddress": call.source_ip,
        "userAgent": f"[{call.request.headers.get('user-agent', '')}]",
        **failure,
        "requestParameters": parameters,
        "responseElements": elements,
        "requestID": call.request_id,
        "eventID": call.event_id,
        "readOnly": False,
        **_resources(call),
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": call.caller.account,
        "eventCategory": "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": f"{source}.amazonaws.com"
            if source in _HOMES
            else f"{source}.{call.region}.amazonaws.com",
        },
    }


def event(call: Call, envelope_id: str) -> Json | None:
    """The nine-key EventBridge event on the caller account's default bus, or None."""
    detail = record(call)
    if detail is None:
        return None
    return {
        "version": "0",
        "id": envelope_id,
        "detail-type": DETAIL_TYPE,
        "source": f"aws.{event_source(call.operation)}",
        "account": call.caller.account,
        "time": detail["eventTime"],
        "region": region_of(call),
        "resources": [],
        "detail": detail,
    }


def region_of(call: Call) -> str:
    """The Region in which CloudTrail writes the call down."""
    return _HOMES.get(event_source(call.operation), call.region)


def event_source(operation: Operation) -> str:
    """The first label of `eventSource`."""
    prefix = operation.endpoint_prefix
    return _EVENT_SOURCES.get(prefix, prefix)


def _resources(call: Call) -> Json:
    bucket = call.operation.uri.get("Bucket") if call.operation.service == "s3" else None
    if not bucket:
        return {}
    arn = f"arn:aws:s3:::{bucket}"
    return {"resources": [{"accountId": call.caller.account, "type": "AWS::S3::Bucket", "ARN": arn}]}


def _wire_error(response: Response) -> tuple[str, str]:
    body = response.body.strip()
    if body.startswith(b"<"):
        try:
            root = ET.fromstring(body)
        except ET.ParseError:
            return str(response.status), ""
        found = {node.tag.rsplit("}", 1)[-1]: (node.text or "") for node in root.iter()}
        return found.get("Code", str(response.status)), found.get("Message", "")
    header = response.headers.get("x-amzn-errortype", "")
    code = re.search(rb'"(?:__type|code)"\s*:\s*"([^"]+)"', body)
    message = re.search(rb'"[Mm]essage"\s*:\s*"((?:[^"\\]|\\.)*)"', body)
    spelled = code[1].decode() if code else header
    name = spelled.split(":", 1)[0].rsplit("#", 1)[-1] or str(response.status)
    return name, message[1].decode("utf-8", "replace").replace('\\"', '"') if message else ""


def _zulu(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_envelope(event: Mapping[str, Any]) -> bool:
    """Whether an event has exactly the nine keys that EventBridge delivers."""
    return set(event) == set(ENVELOPE_KEYS)
