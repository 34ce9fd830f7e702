"""The accounts that we look after: the only maker of AWS clients and the only executor of Calls.

There is one client per service and Region for the life of the process, because making one costs 25 to 180 ms. All of
them sign with one credentials object; whoever makes a call puts the session that is meant into it first. A reader or
an executor therefore never signs with another's session, however they are interleaved.

No client of these repeats a request by itself. A read is repeated once, here; a write never is: one that timed out has
an unknown outcome, and a blind repetition could fail on its own success or do twice what was approved once. It is a
TransientError, and the engine looks at the resource before it does anything else.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

import botocore.session
import jmespath
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectionError,  # noqa: A004 -- botocore's own name for it
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from botocore.response import StreamingBody
from pydantic import JsonValue

from chalicelib.adapters.actions import actions_of
from chalicelib.adapters.deployment import Deployment
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Permission, Plan
from chalicelib.domain.errors import (
    AccessDeniedError,
    AwsError,
    ContractError,
    GuardError,
    TransientError,
    UndeclaredCallError,
)
from chalicelib.domain.finding import Target, is_global, partition_of
from chalicelib.domain.ports import Clock
from chalicelib.domain.record import stamp

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

T = TypeVar("T")

Sessions = Callable[[], botocore.session.Session]
"""Makes a botocore session with the process's own credentials. Tests hand in one that listens to every call."""

POLICY_CHARACTERS = 2048
"""What STS takes as a session policy, packed as JSON without spaces."""

ACT_SECONDS = 900
READ_SECONDS = 3600
"""How long a session lasts: the shortest that STS gives for acting; for reading the most that a chained role may have."""

REFRESH = timedelta(minutes=5)
"""A read session with less than this left is replaced before it is used."""

READ_TRIES = 2
READ_PAUSE_SECONDS = 0.5

DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AuthFailure",
        "AuthorizationError",
        "AuthorizationErrorException",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "ForbiddenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "NotAuthorizedException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedAccess",
        "UnauthorizedException",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
"""Codes by which services say that the caller may not, or is nobody. `Client.` before a code does not matter."""

TRANSIENT = frozenset(
    {
        "BandwidthLimitExceeded",
        "DependencyTimeoutException",
        "EC2ThrottledException",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "InternalServiceError",
        "InternalServiceErrorException",
        "KMSInternalException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceFailure",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionInProgressException",
        "Unavailable",
    }
)
"""Codes of what may go through later. Not LimitExceeded: that is a quota, and waiting does not raise it."""

BARE_CODES = MappingProxyType({"301": "PermanentRedirect", "403": "AccessDenied", "404": "NotFound"})
"""S3 answers a HEAD without a body; botocore then gives the status as the code. These are the codes it would have said."""

_LOST = (
    ConnectionError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
"""No answer, or half of one: timeouts, an endpoint that cannot be reached, a connection that broke."""

# --------------------------------------------------------------------------------------------------- what went wrong


def aws_error(error: ClientError | BotoCoreError, service: str, operation: str) -> AwsError:
    """What botocore raised, as one of our errors, with the service's code and request id."""
    if isinstance(error, ClientError):
        said: Any = error.response
        code = str(said.get("Error", {}).get("Code") or "Unknown").removeprefix("Client.")
        code = BARE_CODES.get(code, code)
        if (operation, code) == ("HeadBucket", "NotFound"):
            code = "NoSuchBucket"
        message = str(said.get("Error", {}).get("Message") or error)
        answered: Any = said.get("ResponseMetadata", {})
        request_id = answered.get("RequestId")
        status = answered.get("HTTPStatusCode", 0)
        kind = _kind_of(code, status)
        return kind(service, operation, code, message, request_id)
    kind = AwsError
    if isinstance(error, _LOST):
        kind = TransientError
    elif isinstance(error, NoCredentialsError | PartialCredentialsError):
        kind = AccessDeniedError
    return kind(service, operation, type(error).__name__, str(error))


def _kind_of(code: str, status: int) -> type[AwsError]:
    if code in DENIED:
        return AccessDeniedError
    if code in TRANSIENT or status >= 500 or status == 429:  # noqa: PLR2004 -- HTTP's own numbers
        return TransientError
    return AwsError


# ------------------------------------------------------------------------------------------------------- our own home


def reading_models_once() -> Sessions:
    """Makes sessions that share what botocore reads from disk and sets up, 70 ms for each session that does so anew.

    A copy has credentials of its own: setting them on one session leaves the others as they were, which a test holds.
    """
    first = botocore.session.Session()
    return lambda: copy(first)


@overload
def own_client(
    service: Literal["dynamodb"], deployment: Deployment, sessions: Sessions = ...
) -> "DynamoDBClient": ...
@overload
def own_client(service: Literal["sqs"], deployment: Deployment, sessions: Sessions = ...) -> "SQSClient": ...
@overload
def own_client(service: Literal["sns"], deployment: Deployment, sessions: Sessions = ...) -> "SNSClient": ...
@overload
def own_client(service: Literal["ssm"], deployment: Deployment, sessions: Sessions = ...) -> "SSMClient": ...
@overload
def own_client(
    service: Literal["secretsmanager"], deployment: Deployment, sessions: Sessions = ...
) -> "SecretsManagerClient": ...
def own_client(
    service: str, deployment: Deployment, sessions: Sessions = botocore.session.Session
) -> "DynamoDBClient | SQSClient | SNSClient | SSMClient | SecretsManagerClient":
    """A client for our own tables, queues, topic and secrets, with the function's own role, in the home Region."""
    # What is sent here is built in these adapters alone, so botocore need not check every parameter again.
    config = _config(deployment, connect=3, read=5, attempts=3).merge(Config(parameter_validation=False))
    client: Any = sessions().create_client(service, region_name=deployment.region, config=config)
    return client  # type: ignore[no-any-return]  # botocore makes the client's class at run time


def _config(deployment: Deployment, *, connect: float, read: float, attempts: int) -> Config:
    return Config(
        connect_timeout=connect,
        read_timeout=read,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra=f"redress/{deployment.version}",
    )


# ------------------------------------------------------------------------------------------------------- the sessions


@dataclass(frozen=True)
class Session:
    """Credentials of one role in one account, and their end."""

    account: str
    access_key: str
    secret_key: str
    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Without the secrets, so that no log and no traceback shows them."""
        return f"Session(account={self.account!r}, access_key={self.access_key!r}, expires_at={self.expires_at!r})"


class Clients:
    """One client per service and Region, all signing with whatever session was put on last."""

    def __init__(self, deployment: Deployment, sessions: Sessions = botocore.session.Session) -> None:
        self._session = sessions()
        # Replaces the process's own credentials: a client of this session can only sign with what is put on.
        self._session.set_credentials("", "", "")
        self._worn: Any = self._session.get_credentials()
        # The S3 endpoint of us-east-1 is otherwise the one that answers for every Region.
        regional = Config(s3={"us_east_1_regional_endpoint": "regional"})
        self._config = _config(deployment, connect=5, read=10, attempts=1).merge(regional)
        self._home_region = deployment.region
        self._made: dict[tuple[str, str], BaseClient] = {}

    def send(
        self,
        session: Session,
        region: str,
        service: str,
        operation: str,
        how: Callable[["BaseClient"], T],
    ) -> T:
        """What `how` does with the client, signed as `session`; our own errors instead of botocore's."""
        client = self._client(service, self._home_region if is_global(region) else region)
        self._wear(session)
        try:
            return how(client)
        except (ClientError, BotoCoreError) as error:
            raise aws_error(error, service, operation) from error

    def _client(self, service: str, region: str) -> "BaseClient":
        if (service, region) not in self._made:
            try:
                made = self._session.create_client(service, region_name=region, config=self._config)
            except BotoCoreError as error:
                raise ContractError(f"there is no client for {service} in {region}: {error}") from error
            if service == "s3":
                made.meta.events.register_last("before-parameter-build.s3", self._bucket_call)
            self._made[service, region] = made
        return self._made[service, region]

    def _bucket_call(self, params: Mapping[str, Any], model: Any, context: Any, **_: object) -> None:  # noqa: ANN401 -- botocore's own
        """Hold a call to the bucket's owner and Region, before it is sent.

        A bucket's name says nothing of whose it is, so every call on one names the session's account as its owner. And a
        bucket in another Region is another target: botocore, told that it redirected the request already, does not look
        for the bucket with a read that nobody declared and send the request again there.
        """
        context["s3_redirect"]["redirected"] = True
        owner, ours = params.get("ExpectedBucketOwner"), self._worn.account_id
        takes_owner = model.input_shape is not None and "ExpectedBucketOwner" in model.input_shape.members
        if takes_owner and owner != ours:
            raise GuardError(
                f"s3 {model.name} names {owner or 'nobody'} as the bucket's owner and not account {ours}: nothing was sent"
            )

    def _wear(self, session: Session) -> None:
        worn = self._worn
        worn.access_key, worn.secret_key, worn.token = session.access_key, session.secret_key, session.token
        worn.account_id = session.account


class _Roles:
    """Assumes roles, through the regional endpoint of the home Region and with the function's own role."""

    def __init__(self, deployment: Deployment, sessions: Sessions) -> None:
        self._deployment = deployment
        self._sessions = sessions
        self._sts: Any = None

    def assume(
        self, role: str, account: str, session_name: str, seconds: int, policy: str | None = None
    ) -> Session:
        """A session of our role of that short name; AccessDeniedError of `sts` when it is refused, for whatever reason."""
        arn = f"arn:{partition_of(self._deployment.region)}:iam::{account}:role/{self._deployment.role(role)}"
        request: dict[str, Any] = {
            "RoleArn": arn,
            "RoleSessionName": session_name,
            "DurationSeconds": seconds,
        }
        if policy is not None:
            request["Policy"] = policy
        try:
            given = self._client().assume_role(**request)["Credentials"]
        except (ClientError, BotoCoreError) as error:
            raise _refused(aws_error(error, "sts", "AssumeRole"), arn) from error
        return Session(
            account=account,
            access_key=given["AccessKeyId"],
            secret_key=given["SecretAccessKey"],
            token=given["SessionToken"],
            expires_at=given["Expiration"],
        )

    def _client(self) -> Any:  # noqa: ANN401 -- botocore makes the client's class at run time
        if self._sts is None:
            session = self._sessions()
            session.set_config_variable("sts_regional_endpoints", "regional")
            # Assuming a role twice does no harm, so this client may try again.
            config = _config(self._deployment, connect=5, read=10, attempts=2)
            self._sts = session.create_client("sts", region_name=self._deployment.region, config=config)
        return self._sts


def _refused(error: AwsError, arn: str) -> AwsError:
    """A refusal to assume a role, in full; what may go through later stays a TransientError."""
    if isinstance(error, TransientError):
        return error
    if error.code == "PackedPolicyTooLarge":
        return AwsError("sts", "AssumeRole", error.code, f"the plan's policy is too long for {arn}: {error}")
    advice = f"{arn} cannot be assumed; deploy member.yaml there, and see whom the role trusts ({error})"
    return AccessDeniedError("sts", "AssumeRole", error.code, advice, error.request_id)


# --------------------------------------------------------------------------------------------------------- the policy


def needed(call: Call, declared: Sequence[Permission], remediation: str) -> tuple[Permission, ...]:
    """The declared permissions that the call rests on; UndeclaredCallError when one of its actions is not declared."""
    actions = actions_of(call.service, call.operation, call.params)
    _refuse_undeclared(actions, declared, remediation, call.service, call.operation)
    return tuple(permission for permission in declared if permission.action in actions)


def _refuse_undeclared(
    actions: Sequence[str], declared: Sequence[Permission], remediation: str, service: str, operation: str
) -> None:
    missing = [action for action in actions if action not in {permission.action for permission in declared}]
    if missing:
        raise UndeclaredCallError(
            f"{remediation} asks for {service} {operation} and does not declare {', '.join(missing)}: nothing was sent"
        )


def session_policy(remediation: AnyRemediation, target: Target, plan: Plan, *, undo: bool = False) -> str:
    """The policy of the session that may make exactly the plan's calls on this target, packed.

    A statement per declared permission that some call of the plan needs. GuardError when it is longer than STS takes.
    """
    declared = remediation.undo_writes if undo else remediation.writes
    used = dict.fromkeys(
        permission for call in plan.calls for permission in needed(call, declared, remediation.id)
    )
    statements = [permission.for_target(target) for permission in declared if permission in used]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    if len(policy) > POLICY_CHARACTERS:
        raise GuardError(
            f"the session policy of this plan has {len(policy)} characters and STS takes {POLICY_CHARACTERS}:"
            f" {remediation.id} must plan fewer kinds of calls at once"
        )
    return policy


# --------------------------------------------------------------------------------------------------------- the reader


class DeclaredReader:
    """`contract.Reader`: the declared reads of one remediation in one account and Region, and no others.

    `session` is asked before every read, so that a session that ran out is replaced and not used.
    """

    def __init__(
        self,
        clients: Clients,
        clock: Clock,
        remediation: AnyRemediation,
        region: str,
        session: Callable[[], Session],
    ) -> None:
        self._clients = clients
        self._clock = clock
        self._remediation = remediation
        self._region = region
        self._session = session

    def read(self, service: str, operation: str, /, **params: JsonValue) -> dict[str, Any]:
        """The response of one declared read, as JSON; AwsError with the service's code."""
        self._refuse_undeclared(service, operation)

        def once(client: "BaseClient") -> dict[str, Any]:
            return plain(_method(client, service, operation)(**params))

        return self._send(service, operation, once)

    def pages(self, service: str, operation: str, key: str, /, **params: JsonValue) -> list[Any]:
        """Every element under `key` of every page. ContractError when the operation's answer has no such list."""
        self._refuse_undeclared(service, operation)

        def once(client: "BaseClient") -> list[Any]:
            method = _method(client, service, operation)
            _check_list(client, service, operation, key)
            name = xform_name(operation)
            if not client.can_paginate(name):
                return list(plain(method(**params)).get(key, ()))
            pages = client.get_paginator(name).paginate(**params)
            return [element for page in pages for element in plain(page).get(key, ())]

        return self._send(service, operation, once)

    def _refuse_undeclared(self, service: str, operation: str) -> None:
        actions = actions_of(service, operation)
        _refuse_undeclared(actions, self._remediation.reads, self._remediation.id, service, operation)

    def _send(self, service: str, operation: str, once: Callable[["BaseClient"], T]) -> T:
        return _twice(
            self._clock, lambda: self._clients.send(self._session(), self._region, service, operation, once)
        )


def _twice(clock: Clock, read: Callable[[], T]) -> T:
    """`read`, and once more after a pause when the service was throttled or away: reading twice does no harm."""
    for _ in range(READ_TRIES - 1):
        try:
            return read()
        except TransientError:
            clock.sleep(READ_PAUSE_SECONDS)
    return read()


def _method(client: "BaseClient", service: str, operation: str) -> Callable[..., Mapping[str, Any]]:
    """The client's method for an operation as the API spells it."""
    name = xform_name(operation)
    if client.meta.method_to_api_mapping.get(name) != operation:
        raise ContractError(f"{service} has no operation {operation}")
    method: Callable[..., Mapping[str, Any]] = getattr(client, name)
    return method


def _check_list(client: "BaseClient", service: str, operation: str, key: str) -> None:
    """A list that is absent from an answer is empty; a name that no answer has is a mistake, and must not look empty."""
    shape: Any = client.meta.service_model.operation_model(operation).output_shape
    member = shape.members.get(key) if shape is not None else None
    if member is None or member.type_name != "list":
        raise ContractError(f"the answer of {service} {operation} has no list {key}")


# ------------------------------------------------------------------------------------------------------- the executor


class PlanExecutor:
    """`ports.Executor`: makes the calls of one plan, in one session, once each time that it is told to."""

    def __init__(
        self,
        clients: Clients,
        remediation: AnyRemediation,
        target: Target,
        plan: Plan,
        session: Session,
        *,
        undo: bool = False,
    ) -> None:
        self._clients = clients
        self._remediation = remediation
        self._declared = remediation.undo_writes if undo else remediation.writes
        self._region = target.region
        self._session = session
        self._planned = frozenset(call.identity for call in plan.calls)

    def perform(
        self, call: Call, token: str, earlier: tuple[dict[str, JsonValue], ...]
    ) -> tuple[CallResult, dict[str, JsonValue]]:
        """Make one call, with its references resolved from `earlier`; its index is the number of calls before it.

        UndeclaredCallError before anything is sent when the call is not in the plan or not declared; GuardError when
        it refers to something that is not known; TransientError when nobody knows whether it happened.
        """
        if call.identity not in self._planned:
            raise UndeclaredCallError(
                f"{call.service} {call.operation} is not a call of the plan: nothing was sent"
            )
        needed(call, self._declared, self._remediation.id)
        params: dict[str, Any] = {name: resolved(value, earlier) for name, value in call.params.items()}
        if call.token:
            params[call.token] = token

        def once(client: "BaseClient") -> Mapping[str, Any]:
            return _method(client, call.service, call.operation)(**params)

        answer = self._clients.send(self._session, self._region, call.service, call.operation, once)
        request_id = answer.get("ResponseMetadata", {}).get("RequestId")
        result = CallResult(index=len(earlier), request_id=request_id, observed_by="response")
        return result, plain(answer)


def resolved(value: JsonValue, earlier: Sequence[Mapping[str, JsonValue]]) -> JsonValue:
    """`value` with each `{"$ref": {"call": i, "path": …}}` replaced by what call `i` answered; GuardError if unknown."""
    if isinstance(value, list):
        return [resolved(inner, earlier) for inner in value]
    if not isinstance(value, dict):
        return value
    if set(value) != {"$ref"}:
        return {name: resolved(inner, earlier) for name, inner in value.items()}
    reference = value["$ref"]
    if not isinstance(reference, dict):
        _unknown(reference)
    index, path = reference.get("call"), reference.get("path")
    if not isinstance(index, int) or not isinstance(path, str) or not 0 <= index < len(earlier):
        _unknown(reference)
    found: JsonValue = jmespath.search(path, earlier[index])
    if found is None:
        _unknown(reference)
    return found


def _unknown(reference: JsonValue) -> NoReturn:
    raise GuardError(
        f"a call refers to {json.dumps(reference)}, and no earlier call of this run is known to have answered that"
    )


def plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A response as JSON: without ResponseMetadata, times as the one form in which we keep them, bytes in base 64."""
    return {name: _plain(value) for name, value in answer.items() if name != "ResponseMetadata"}


def _plain(value: Any) -> Any:  # noqa: ANN401 -- whatever botocore parsed
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, StreamingBody):
        value = value.read()
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    return value


# ----------------------------------------------------------------------------------------------------------- the port


class AwsAccounts:
    """`ports.Aws`: readers and executors in any account that holds our roles, the home account too.

    Rights: sts:AssumeRole on the roles `read`, `act` and `undo` of each account. Read sessions are kept per account for
    the life of the process and replaced before they end; a session that acts is made for one plan and never kept.
    """

    def __init__(
        self,
        deployment: Deployment,
        clock: Clock,
        sessions: Sessions = botocore.session.Session,
        own: Sessions | None = None,
    ) -> None:
        """`sessions` makes the session that wears other roles; `own` the one that assumes them, if it may be shared."""
        self._clients = Clients(deployment, sessions)
        self._roles = _Roles(deployment, own or sessions)
        self._clock = clock
        self._home_region = deployment.region
        self._reading: dict[str, Session] = {}

    def reader(self, remediation: AnyRemediation, target: Target) -> DeclaredReader:
        """Declared reads in the target's account and Region; nothing is sent before the first of them."""
        return DeclaredReader(
            self._clients, self._clock, remediation, target.region, lambda: self._read_session(target.account)
        )

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> PlanExecutor:
        """A session of the acting (or undo) role that can do no more than the plan; every refusal comes before STS."""
        policy = session_policy(remediation, target, plan, undo=undo)
        role = "undo" if undo else "act"
        assumed = self._roles.assume(role, target.account, session, ACT_SECONDS, policy)
        return PlanExecutor(self._clients, remediation, target, plan, assumed, undo=undo)

    def regions(self, account: str) -> tuple[str, ...]:
        """The Regions that are switched on in the account, sorted. Rights: ec2:DescribeRegions of the role `read`.

        AwsError when they cannot be read, and when there are none: no account is without a Region.
        """

        def once(client: Any) -> list[str]:  # noqa: ANN401 -- botocore makes the client's class at run time
            return [region["RegionName"] for region in client.describe_regions(AllRegions=False)["Regions"]]

        found = _twice(
            self._clock,
            lambda: self._clients.send(
                self._read_session(account), self._home_region, "ec2", "DescribeRegions", once
            ),
        )
        if not found:
            raise AwsError(
                "ec2", "DescribeRegions", "NoRegions", f"account {account} has no Region switched on"
            )
        return tuple(sorted(found))

    def _read_session(self, account: str) -> Session:
        kept = self._reading.get(account)
        if kept is None or self._clock.now() + REFRESH >= kept.expires_at:
            kept = self._roles.assume("read", account, "redress-read", READ_SECONDS)
            self._reading[account] = kept
        return kept
