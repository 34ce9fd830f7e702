"""AWS requests as they travel over HTTP: which operation they name, and how to answer one with an error.

Everything here is pure and knows AWS only through botocore's service models; no emulator is imported.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel

if TYPE_CHECKING:
    from botocore.model import OperationModel

# Where the emulator's router and botocore call one service by two names.
_BOTOCORE_NAMES: Final[Mapping[str, str]] = {
    "elasticfilesystem": "efs",
    "elasticmapreduce": "emr",
    "lambda-core": "lambda",
    "monitoring": "cloudwatch",
    "states": "stepfunctions",
    "tagging": "resourcegroupstaggingapi",
}
_FORM: Final = "application/x-www-form-urlencoded"
_SMITHY_PATH: Final = re.compile(r"/service/[^/]+/operation/(?P<operation>\w+)")
_S3_CONTROL_PREFIX: Final = "/v20180820/"
_ELB_CLASSIC_VERSION: Final = "2012-06-01"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to an AWS endpoint, body read, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def form(self) -> dict[str, list[str]]:
        """The query string and, for form posts, the body: where the query protocols keep their parameters."""
        merged = dict(self.query)
        if self.headers.get("content-type", "").startswith(_FORM):
            merged.update(parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True))
        return merged


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Operation:
    """The API operation a request names. `model` is None where botocore does not know the operation."""

    service: str
    name: str
    protocol: str
    model: OperationModel | None = None
    uri: Mapping[str, str] = field(default_factory=dict)

    @property
    def endpoint_prefix(self) -> str:
        """What CloudTrail and EventBridge put before `.amazonaws.com` and after `aws.`."""
        if self.model is None:
            return self.service
        return str(self.model.service_model.metadata.get("endpointPrefix", self.service))


@functools.cache
def _loader() -> Loader:
    return Loader()


@functools.cache
def service_model(service: str) -> ServiceModel | None:
    """The botocore model of a service, or None when botocore has none."""
    try:
        description = _loader().load_service_model(service, "service-2")
    except UnknownServiceError:
        return None
    return ServiceModel(description, service_name=service)


@dataclass(frozen=True, slots=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    query: frozenset[str]
    operation: str
    placeholders: int


@functools.cache
def _routes(service: str) -> tuple[_Route, ...]:
    model = service_model(service)
    if model is None:
        return ()
    return tuple(_compiled_routes(model))


def _compiled_routes(model: ServiceModel) -> Iterator[_Route]:
    for name in model.operation_names:
        http = model.operation_model(name).http
        path, _, query = str(http["requestUri"]).partition("?")
        pattern = re.sub(r"\\\{(\w+)\\\+\\\}|\\\{(\w+)\\\}", _group, re.escape(path.rstrip("/")))
        yield _Route(
            method=str(http["method"]),
            pattern=re.compile(pattern + "/?"),
            query=frozenset(parse_qs(query, keep_blank_values=True)),
            operation=str(name),
            placeholders=path.count("{"),
        )


def _group(match: re.Match[str]) -> str:
    greedy, plain = match.groups()
    return f"(?P<{greedy}>.+)" if greedy else f"(?P<{plain}>[^/]+)"


def _match_route(service: str, request: Request) -> tuple[str, dict[str, str]] | None:
    """The most specific REST operation: most fixed query keys first, then fewest placeholders."""
    best: tuple[tuple[int, int], str, dict[str, str]] | None = None
    for route in _routes(service):
        if route.method != request.method or not route.query <= set(request.query):
            continue
        hit = route.pattern.fullmatch(request.path)
        if hit is None:
            continue
        rank = (len(route.query), -route.placeholders)
        if best is None or rank > best[0]:
            best = (rank, route.operation, hit.groupdict())
    return None if best is None else (best[1], best[2])


def botocore_service(emulator_service: str, request: Request) -> str:
    """The botocore name of a service which the emulator's router has detected."""
    if emulator_service == "s3" and request.path.startswith(_S3_CONTROL_PREFIX):
        return "s3control"
    if emulator_service == "apigateway" and request.path.startswith("/v2/"):
        return "apigatewayv2"
    if emulator_service == "ses" and request.path.startswith("/v2/"):
        return "sesv2"
    if emulator_service == "elasticloadbalancing":
        classic = _ELB_CLASSIC_VERSION in request.form.get("Version", [])
        return "elb" if classic else "elbv2"
    return _BOTOCORE_NAMES.get(emulator_service, emulator_service)


def operation_of(emulator_service: str, request: Request) -> Operation | None:
    """Which operation a request names, or None when it names none that botocore or the protocol reveals."""
    service = botocore_service(emulator_service, request)
    model = service_model(service)
    protocol = str(model.metadata.get("protocol", "")) if model is not None else ""
    uri: dict[str, str] = {}
    target = request.headers.get("x-amz-target", "")
    smithy = _SMITHY_PATH.fullmatch(request.path)
    if target:
        name, protocol = target.rsplit(".", 1)[-1], "json"
    elif smithy is not None:
        name, protocol = smithy["operation"], "smithy-rpc-v2-cbor"
    elif protocol in {"query", "ec2"} or "Action" in request.form:
        name = request.form.get("Action", [""])[0]
        protocol = "ec2" if protocol == "ec2" else "query"
    else:
        hit = _match_route(service, request)
        if hit is None:
            return None
        name, uri = hit
    if not name:
        return None
    known = model is not None and name in model.operation_names
    return Operation(
        service=service,
        name=name,
        protocol=protocol,
        model=model.operation_model(name) if model is not None and known else None,
        uri=uri,
    )


def error_response(protocol: str, status: int, code: str, message: str, request_id: str) -> Response:
    """An error in the given wire protocol, such that botocore raises ClientError with this code."""
    text, identifier = escape(message), escape(request_id)
    if protocol == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
            f"<RequestID>{identifier}</RequestID></Response>"
        )
        return Response(status, {"content-type": "text/xml"}, body.encode())
    if protocol == "query":
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error>"
            f"<RequestId>{identifier}</RequestId></ErrorResponse>"
        )
        return Response(status, {"content-type": "text/xml"}, body.encode())
    if protocol == "rest-xml":
        body = (
            f"<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{identifier}</RequestId></Error>"
        )
        return Response(status, {"content-type": "application/xml"}, body.encode())
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": code}
    return Response(status, headers, json.dumps({"__type": code, "message": message}).encode())


def first(values: Iterable[str]) -> str:
    """The first of the values, or an empty string."""
    return next(iter(values), "")
