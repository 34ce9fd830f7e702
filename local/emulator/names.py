"""Every private name of MiniStack and moto that the emulator leans on, in this one file.

A `Name` is a module and an attribute path. Nothing is imported until it is asked for: MiniStack reads its
environment when it is first imported, so `__main__` must have set that up by then. `missing()` reports the
names that a changed MiniStack or moto no longer has; a smoke test fails with its text.
"""
# ruff: noqa: ANN401 - what MiniStack and moto hand out has no types

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from local.emulator.relay import Caller, CallerKind

PINS: Final[Mapping[str, str]] = {"ministack": "1.5.33", "moto": "5.2.5", "botocore": "1.43.106"}


@dataclass(frozen=True, slots=True)
class Name:
    """One attribute of a foreign module, by path; `Class.method` reaches into classes."""

    module: str
    path: str

    def get(self) -> Any:
        """What the name means now."""
        value: Any = importlib.import_module(self.module)
        for part in self.path.split("."):
            value = getattr(value, part)
        return value

    def put(self, value: Any) -> Any:
        """Make the name mean something else; answer what it meant before."""
        owner: Any = importlib.import_module(self.module)
        *parents, last = self.path.split(".")
        for part in parents:
            owner = getattr(owner, part)
        before = getattr(owner, last)
        setattr(owner, last, value)
        return before


_APP: Final = "ministack.app"
_EVENTS: Final = "ministack.services.eventbridge"
_LAMBDA: Final = "ministack.services.lambda_svc"
_RUNTIME: Final = "ministack.core.lambda_runtime"
_SQS: Final = "ministack.services.sqs"
_STS: Final = "ministack.services.sts"
_IAM: Final = "ministack.services.iam"
_DYNAMODB: Final = "ministack.services.dynamodb"
_S3: Final = "ministack.services.s3"
_EVALUATOR: Final = "ministack.core.iam_evaluator"
_ACTIONS: Final = "ministack.core.iam_actions"
_RESPONSES: Final = "ministack.core.responses"
_ROUTER: Final = "ministack.core.router"
_PROVISIONERS: Final = "ministack.services.cloudformation.provisioners"
_TAGGING: Final = "ministack.services.tagging"
_GATEWAY: Final = "ministack.services.apigateway_v1"
_SECRETS: Final = "ministack.services.secretsmanager"
_EC2: Final = "moto.ec2.responses"
_GROUPS: Final = "moto.ec2.models.security_groups"

# MiniStack: the application, its routing and its request scope.
APP: Final = Name(_APP, "app")
SERVICE_HANDLERS: Final = Name(_APP, "SERVICE_HANDLERS")
DETECT_SERVICE: Final = Name(_ROUTER, "detect_service")
SERVICE_PATTERNS: Final = Name(_ROUTER, "SERVICE_PATTERNS")
EXTRACT_ACCESS_KEY: Final = Name(_ROUTER, "extract_access_key_id")
EXTRACT_REGION: Final = Name(_ROUTER, "extract_region")
REQUEST_SCOPE: Final = Name(_RESPONSES, "request_scope")
GET_ACCOUNT: Final = Name(_RESPONSES, "get_account_id")
GET_REGION: Final = Name(_RESPONSES, "get_region")
PARSE_ARN: Final = Name("ministack.core.arn", "parse_arn")
IS_ENFORCING: Final = Name(_APP, "AUTH")

# MiniStack: IAM and STS.
FIND_KEY_ACCOUNT: Final = Name(_EVALUATOR, "find_iam_access_key_account")
RESOLVE_CREDENTIAL: Final = Name(_EVALUATOR, "resolve_credential")
CONDITION_KEY: Final = Name(_EVALUATOR, "_resolve_condition_key")
EVALUATE: Final = Name(_EVALUATOR, "evaluate")
EVALUATION: Final = Name(_EVALUATOR, "EvalContext")
ROLE_POLICIES: Final = Name(_EVALUATOR, "_gather_role_policies")
BOUNDARY: Final = Name(_EVALUATOR, "_permissions_boundary")
RESOURCE_ARN: Final = Name(_ACTIONS, "extract_resource_arn")
DYNAMODB_CONTEXT: Final = Name(_ACTIONS, "dynamodb_service_context")
IAM_NAMESPACES: Final = Name(_ACTIONS, "SERVICE_TO_IAM_NAMESPACE")
BOTOCORE_ROUTES: Final = Name(_ACTIONS, "_BOTOCORE_SERVICE_MAP")
ACCESS_KEYS: Final = Name(_IAM, "_access_keys")
ROLES: Final = Name(_IAM, "_roles")
USERS: Final = Name(_IAM, "_users")
LOGIN_PROFILES: Final = Name(_IAM, "_login_profiles")
MFA_DEVICES: Final = Name(_IAM, "_mfa_devices")
CREDENTIAL_REPORTS: Final = Name(_IAM, "_credential_reports")
ACCOUNT_SUMMARY: Final = Name(_IAM, "_get_account_summary")
IAM_ANSWER: Final = Name(_IAM, "_xml")
IAM_ERROR: Final = Name(_IAM, "_error")
IAM_HANDLERS: Final = Name(_IAM, "_IAM_HANDLERS")
KEY_LAST_USED: Final = Name(_IAM, "_get_access_key_last_used")
SESSIONS: Final = Name(_STS, "_sessions")
TAG_COLLECTORS: Final = Name(_TAGGING, "_RESOURCE_TAG_COLLECTORS")

# MiniStack: EventBridge and SQS.
DISPATCH_EVENT: Final = Name(_EVENTS, "_dispatch_event")
ARCHIVE_EVENT: Final = Name(_EVENTS, "_archive_event")
EVENT_VIEW: Final = Name(_EVENTS, "_pattern_event_view")
PATTERN_ERROR: Final = Name(_EVENTS, "_event_pattern_error")
MATCHES_PATTERN: Final = Name(_EVENTS, "_matches_pattern")
EVENT_FROM_PAYLOAD: Final = Name(_EVENTS, "_event_from_test_payload")
ENSURE_DEFAULT_BUS: Final = Name(_EVENTS, "_ensure_default_bus")
EVENT_BUSES: Final = Name(_EVENTS, "_event_buses")
BUS_POLICIES: Final = Name(_EVENTS, "_event_bus_policies")
INVOKE_TARGET: Final = Name(_EVENTS, "_invoke_target")
DISPATCH_TO_BUS: Final = Name(_EVENTS, "_dispatch_to_event_bus")
DISPATCH_TO_LAMBDA: Final = Name(_EVENTS, "_dispatch_to_lambda")
DISPATCH_TO_SQS: Final = Name(_EVENTS, "_dispatch_to_sqs")
QUEUE_BY_ARN: Final = Name(_SQS, "_queue_by_arn")
PUT_SECRET_POLICY: Final = Name(_SECRETS, "_put_resource_policy")
DELETE_SECRET_POLICY: Final = Name(_SECRETS, "_delete_resource_policy")
PROXY_EVENT: Final = Name(_GATEWAY, "_build_lambda_event_v1")
QUEUE_ADMITS: Final = Name(_SQS, "queue_policy_allows")
RULES: Final = Name(_EVENTS, "_rules")
RULE_LAST_FIRED: Final = Name(_EVENTS, "_rule_last_fired")
TICK_RULES: Final = Name(_EVENTS, "_tick_scheduled_rules")

# MiniStack: S3.
BUCKET_OWNER: Final = Name(_S3, "_bucket_owner_account")
POLICY_IS_PUBLIC: Final = Name(_S3, "_policy_is_public")
S3_ERROR: Final = Name(_S3, "_error")

# MiniStack: Lambda.
FUNCTION_RECORD: Final = Name(_LAMBDA, "_get_func_record_for_ref")
EXECUTION_RECORD: Final = Name(_LAMBDA, "_execution_record_for_config")
INVOKE_ASYNC: Final = Name(_LAMBDA, "invoke_async_with_retry")
EXECUTE_FUNCTION: Final = Name(_LAMBDA, "_execute_function")
QUEUE_BACKOFF_SECONDS: Final = Name(_LAMBDA, "_ESM_BACKOFF_SECONDS")
QUEUE_CONCURRENCY: Final = Name(_LAMBDA, "_sqs_esm_concurrency")
INVOKE_DEPTH: Final = Name(_LAMBDA, "_invoke_depth")
MAPPINGS: Final = Name(_LAMBDA, "_iter_all_esms")
POLL_STREAMS: Final = Name(_LAMBDA, "_poll_dynamodb_streams")
MAPPED_FUNCTION: Final = Name(_LAMBDA, "_get_func_record_for_qualifier")
MAPPED_TABLE: Final = Name(_LAMBDA, "_dynamodb_stream_table_from_arn_spec")
STREAM_POSITIONS: Final = Name(_LAMBDA, "_dynamodb_stream_positions")
STREAM_FILTER: Final = Name(_LAMBDA, "_apply_filter_criteria")
STREAM_FAILURE: Final = Name(_LAMBDA, "_send_ddb_stream_failure_record")
IN_FLIGHT: Final = Name(_LAMBDA, "_esm_inflight")
DISPATCH_BATCH: Final = Name(_LAMBDA, "_dispatch_esm_batch")
BACKOFF_UNTIL: Final = Name(_LAMBDA, "_esm_backoff_until")
WORKERS: Final = Name(_RUNTIME, "_workers")
WORKER_PROCESS: Final = "_proc"
STOP_WORKERS: Final = Name(_RUNTIME, "reset")

# MiniStack: CloudFormation and DynamoDB.
RESOURCE_HANDLERS: Final = Name(_PROVISIONERS, "_RESOURCE_HANDLERS")
DYNAMODB_TABLES: Final = Name(_DYNAMODB, "_tables")
STREAM_START: Final = Name(_DYNAMODB, "stream_start_position")
STREAM_RECORDS: Final = Name(_DYNAMODB, "stream_records_since")
UPDATE_TTL: Final = Name(_DYNAMODB, "_update_ttl")
UPDATE_BACKUPS: Final = Name(_DYNAMODB, "_update_continuous_backups")
SSE_DESCRIPTION: Final = Name(_DYNAMODB, "_sse_description_from_spec")

# moto.
MOTO_REQUEST: Final = Name("moto.core.request", "Request")
MOTO_RESULT: Final = Name("moto.core.responses", "ActionResult")
EC2_RESPONSE: Final = Name(_EC2, "EC2Response")
EC2_BACKENDS: Final = Name("moto.ec2.models", "ec2_backends")
SECURITY_GROUP_RULE: Final = Name(_GROUPS, "SecurityGroupRule")
GROUP_BACKEND: Final = Name(_GROUPS, "SecurityGroupBackend")
NO_SUCH_GROUP: Final = Name(_GROUPS, "InvalidSecurityGroupNotFoundError")
NO_SUCH_RULE: Final = Name(_GROUPS, "InvalidSecurityGroupRuleIdNotFoundError")
INVALID_VALUE: Final = Name(_GROUPS, "InvalidParameterValue")

ALL: Final[Mapping[str, Name]] = {
    key: value for key, value in list(globals().items()) if isinstance(value, Name)
}


def missing(package: str = "") -> list[str]:
    """The names that the installed MiniStack and moto (or one of them) lack, each with its place."""
    gone = []
    for label, name in ALL.items():
        if not name.module.startswith(package):
            continue
        try:
            name.get()
        except (AttributeError, ImportError) as error:
            gone.append(f"{label}: {name.module}.{name.path} is gone ({error}); pins are {dict(PINS)}")
    return gone


def access_key_of(headers: Mapping[str, str], query: Mapping[str, list[str]]) -> str:
    """The access key id that a request was signed with, or an empty string."""
    return str(EXTRACT_ACCESS_KEY.get()(headers, query) or "")


def region_of(headers: Mapping[str, str], query: Mapping[str, list[str]]) -> str:
    """The Region in a request's credential scope."""
    return str(EXTRACT_REGION.get()(headers, query))


def service_of(method: str, path: str, headers: Mapping[str, str], form: Mapping[str, list[str]]) -> str:
    """The service that MiniStack's router sends a request to."""
    return str(DETECT_SERVICE.get()(method, path, headers, form))


def caller_of(access_key: str, default_account: str) -> Caller | None:
    """Who holds an access key, or None when IAM and STS do not know it."""
    sessions = SESSIONS.get()
    session = sessions.get(access_key)
    account = (session or {}).get("AccountId") or FIND_KEY_ACCOUNT.get()(access_key) or default_account
    if session is not None:
        account = str(session.get("Arn", "::::")).split(":")[4] or account
    elif access_key.isdigit():
        account = access_key
    found = RESOLVE_CREDENTIAL.get()(access_key, account)
    if not hasattr(found, "principal_arn"):
        return None
    arn, issued = str(found.principal_arn), (session or {}).get("IssuedAt")
    issued_at = datetime.fromtimestamp(issued, UTC) if isinstance(issued, int | float) else None
    if found.principal_type == "Root":
        return Caller(CallerKind.ROOT, account, arn, account, access_key)
    if found.principal_type == "User":
        return Caller(
            CallerKind.USER, account, arn, found.principal_id, access_key,
            user_name=found.principal_name, issued_at=issued_at,
        )  # fmt: skip
    if found.principal_type == "AssumedRole":
        role_name, session_name = arn.split(":assumed-role/", 1)[1].split("/", 1)
        role = ROLES.get().get_scoped(account, None, role_name) or {}
        role_id = str(role.get("RoleId") or found.principal_id.split(":", 1)[0])
        return Caller(
            CallerKind.ROLE, account, arn, f"{role_id}:{session_name}", access_key,
            role_arn=str(role.get("Arn") or f"arn:aws:iam::{account}:role/{role_name}"),
            role_name=role_name, role_id=role_id, session_name=session_name, issued_at=issued_at,
            source_identity=str((session or {}).get("SourceIdentity") or ""),
        )  # fmt: skip
    return Caller(CallerKind.FEDERATED, account, arn, found.principal_id, access_key, issued_at=issued_at)


def age_access_key(access_key: str, created: datetime | None, last_used: datetime | None) -> bool:
    """Back-date an IAM access key; False when there is no such key."""
    account = FIND_KEY_ACCOUNT.get()(access_key)
    key = None if account is None else ACCESS_KEYS.get().get_scoped(account, None, access_key)
    if key is None:
        return False
    if created is not None:
        key["CreateDate"] = _zulu(created)
        user = USERS.get().get_scoped(account, None, key["UserName"])
        user["CreateDate"] = min(user["CreateDate"], key["CreateDate"])
    if last_used is not None:
        key["RedressLastUsed"] = (_zulu(last_used), "us-east-1", "ec2")
    return True


def fire(rule: str, account: str, region: str) -> bool:
    """Let MiniStack's scheduler find one scheduled rule due, now; False when no such rule is enabled."""
    key = f"default|{rule}"
    found = RULES.get().get_scoped(account, region, key) or {}
    if not found.get("ScheduleExpression") or found.get("State") != "ENABLED":
        return False
    RULE_LAST_FIRED.get()[(account, region, key)] = 0
    TICK_RULES.get()()
    return True


def show_again(queue_arn: str) -> bool:
    """Let every message of a queue that somebody has received, and not deleted, show now; False for no such queue."""
    queue = QUEUE_BY_ARN.get()(queue_arn)
    if queue is None:
        return False
    now = datetime.now(UTC).timestamp()
    for message in queue["messages"]:
        if message.get("receive_count"):
            message["visible_at"] = min(message["visible_at"], now)
    return True


def note_key_use(caller: Caller, region: str, service: str, at: datetime) -> None:
    """Remember the last use of an IAM user's key, for GetAccessKeyLastUsed."""
    if caller.kind is not CallerKind.USER:
        return
    key = ACCESS_KEYS.get().get_scoped(caller.account, None, caller.access_key_id)
    if key is not None:
        key["RedressLastUsed"] = (_zulu(at), region, service)


def _zulu(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def deliver(event: Mapping[str, Any], bus: str = "default") -> None:
    """Put a nine-key event, `aws.*` sources included, on a bus of the account and Region that it names."""
    stored = {
        "EventId": event["id"],
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "EventBusName": bus,
        "Time": event["time"],
        "Resources": list(event["resources"]),
        "Account": event["account"],
        "Region": event["region"],
        "Version": event["version"],
    }
    with REQUEST_SCOPE.get()(event["account"], event["region"]):
        ENSURE_DEFAULT_BUS.get()()
        view = EVENT_VIEW.get()(stored)
        DISPATCH_EVENT.get()(stored, view)
        ARCHIVE_EVENT.get()(stored, view)


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether EventBridge would match the event (needs no server). A pattern AWS refuses is a ValueError."""
    text = json.dumps(pattern)
    error = PATTERN_ERROR.get()(text)
    if error:
        raise ValueError(f"EventBridge refuses this pattern: {error}")
    return bool(MATCHES_PATTERN.get()(text, EVENT_FROM_PAYLOAD.get()(dict(event))))


def lambda_processes(*, busy_only: bool) -> list[Any]:
    """The running worker processes of all functions, as Popen objects."""
    workers = [w for pool in list(WORKERS.get().values()) for w in list(pool)]
    chosen = [w for w in workers if w.in_use or not busy_only]
    processes = [getattr(worker, WORKER_PROCESS) for worker in chosen]
    return [process for process in processes if process is not None and process.poll() is None]


def stop_lambda() -> None:
    """End all worker processes and remove their folders."""
    STOP_WORKERS.get()()


def register_moto_service(service: str, handler: Callable[..., Any]) -> None:
    """Send a service to moto, inside MiniStack's dispatch, with its IAM namespace known to the evaluator."""
    SERVICE_HANDLERS.get()[service] = handler
    IAM_NAMESPACES.get().setdefault(service, service)
    BOTOCORE_ROUTES.get().setdefault(service, [service])
    SERVICE_PATTERNS.get().setdefault(
        service,
        {"target_prefixes": [], "host_patterns": [rf"{service}\."], "credential_scope": service},
    )


def moto_paths(service: str) -> list[tuple[str, Callable[..., Any]]]:
    """URL patterns of a moto service with what answers them, as `moto.<service>.urls` lists them."""
    urls: Any = importlib.import_module(f"moto.{service}.urls")
    return [
        (path.replace("{0}", base), answer)
        for base in urls.url_bases
        for path, answer in urls.url_paths.items()
    ]
