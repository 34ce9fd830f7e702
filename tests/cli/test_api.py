"""The signed POST: what leaves the machine, to whom, and what an answer is taken for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto import mock_aws

from chalicelib.cli.api import Api, ApiError, checked
from chalicelib.flow.command import COMMAND, STAGE_HEADER, SetFreeze

COMMAND_SENT = SetFreeze(on=True, reason="incident – 7")


@dataclass
class Gateway:
    """An API on this machine that answers as it is told and keeps what it was sent."""

    status: int = 200
    body: str = '{"changed": true, "says": "frozen", "chain": "SYS#1#203105", "seq": 1, "record_id": "r"}'
    url: str = ""
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    told = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            told.seen.append((self.path, dict(self.headers), self.rfile.read(length)))
            self.send_response(told.status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(told.body.encode())

        def log_message(self, *args: Any) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}/api/"
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield told
        server.shutdown()
        thread.join()


def api(url: str | None) -> Api:
    return Api(boto3.Session(), "dev", url)


def test_the_command_is_posted_signed_and_read_back_as_the_same_command(gateway: Gateway) -> None:
    assert api(gateway.url).post(COMMAND_SENT).says == "frozen"
    ((path, headers, body),) = gateway.seen
    assert path == "/api/commands/freeze"
    assert COMMAND.validate_json(body) == COMMAND_SENT
    scope = headers["Authorization"].split("Credential=testing/")[1].split(",")[0]
    assert scope.split("/")[1:] == ["us-east-1", "execute-api", "aws4_request"]
    assert headers["X-Amz-Security-Token"] == "testing"
    assert headers[STAGE_HEADER] == "dev"


def test_the_signature_covers_the_deployment_that_is_meant(gateway: Gateway) -> None:
    Api(boto3.Session(), "prod", gateway.url).post(COMMAND_SENT)
    ((_, headers, _),) = gateway.seen
    assert headers[STAGE_HEADER] == "prod"
    assert STAGE_HEADER.lower() in headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(
        ";"
    )


def test_the_signature_covers_the_body(gateway: Gateway) -> None:
    api(gateway.url).post(COMMAND_SENT)
    ((_, headers, body),) = gateway.seen
    signed = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")

    def signature(of: bytes) -> str:
        kept = {name: value for name, value in headers.items() if name.lower() in signed}
        request = AWSRequest("POST", f"{gateway.url}commands/freeze", data=of, headers=kept)
        request.context["timestamp"] = headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials("testing", "testing", "testing"), "execute-api", "us-east-1")
        return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))

    sent = headers["Authorization"].rsplit("Signature=", 1)[1]
    assert signature(body) == sent
    assert signature(body + b" ") != sent


@pytest.mark.parametrize(
    "status, body, says",
    [
        (422, {"error": "the ceiling is ask"}, "^refused: the ceiling is ask$"),
        (409, {"error": "others"}, "run the command again"),
        (403, {"Message": "not authorized"}, "execute-api:Invoke"),
        (403, {"message": "Missing Authentication Token"}, "Missing Authentication Token"),
        (404, {}, "REDRESS_API"),
        (503, {"error": "tables"}, "redress doctor"),
        (500, {"Code": "InternalServerError"}, "log of the HTTP function"),
        (302, {}, "the API answered 302"),
    ],
)
def test_every_refusal_says_what_to_do_next(
    gateway: Gateway, status: int, body: dict[str, str], says: str
) -> None:
    gateway.status, gateway.body = status, json.dumps(body)
    with pytest.raises(ApiError, match=says):
        api(gateway.url).post(COMMAND_SENT)


@pytest.mark.parametrize("body", ["<html>gateway</html>", "", "[]", "null"])
def test_an_answer_that_is_no_json_object_is_an_error_and_no_crash(gateway: Gateway, body: str) -> None:
    gateway.status, gateway.body = 502, body
    with pytest.raises(ApiError, match="no reason given"):
        api(gateway.url).post(COMMAND_SENT)


@pytest.mark.parametrize("body", ["{}", "[]", "<html>", '{"changed": "yes", "says": 7}'])
def test_a_success_that_proves_nothing_is_not_believed(gateway: Gateway, body: str) -> None:
    gateway.body = body
    with pytest.raises(ApiError, match="no answer of Redress"):
        api(gateway.url).post(COMMAND_SENT)


@pytest.mark.parametrize(
    "url", ["http://example.com", "ftp://x", "example.com", "", "http://127.0.0.1.evil.example"]
)
def test_a_signed_request_goes_only_to_https_or_this_machine(url: str) -> None:
    with pytest.raises(ApiError, match="no https address"):
        checked(url)


def test_an_api_that_does_not_answer_is_said_to_be_so() -> None:
    with pytest.raises(ApiError, match="cannot be reached"):
        api("http://127.0.0.1:1/api").post(COMMAND_SENT)


def test_without_credentials_one_is_told_to_log_in(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(ApiError, match="log in"):
        api(gateway.url).post(COMMAND_SENT)
    assert gateway.seen == []


@mock_aws
def test_the_address_is_found_among_the_outputs_of_the_stack(gateway: Gateway) -> None:
    stacks = boto3.client("cloudformation")
    with pytest.raises(ApiError, match="redress-dev cannot be read"):
        api(None).post(COMMAND_SENT)
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"EndpointURL": {"Value": gateway.url}},
    }
    stacks.create_stack(StackName="redress-dev", TemplateBody=json.dumps(template))
    assert Api(boto3.Session(), "dev")._deployed() == gateway.url
    del template["Outputs"]
    stacks.create_stack(StackName="redress-bare", TemplateBody=json.dumps(template))
    with pytest.raises(ApiError, match="names no EndpointURL"):
        Api(boto3.Session(), "bare").post(COMMAND_SENT)


def test_the_region_is_the_apis_own() -> None:
    assert api(None)._region("https://x.execute-api.eu-west-3.amazonaws.com/api") == "eu-west-3"
    assert api(None)._region("https://redress.example") == "us-east-1"
