"""The one way in which the command line changes anything: a signed POST to the deployment's own API."""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from chalicelib.domain.errors import RedressError
from chalicelib.flow.command import STAGE_HEADER, AnyCommand
from chalicelib.flow.desk import CommandResult

if TYPE_CHECKING:
    import boto3

LONGEST_WAIT_SECONDS = 35
"""API Gateway gives up after 29."""

_NEXT = MappingProxyType(
    {
        403: "your credentials need execute-api:Invoke on this kind of command: POST/commands/<kind> of the API",
        404: "this is not the API of a Redress deployment; name it with --api or REDRESS_API",
        409: "nothing was changed; run the command again",
        429: "too many requests; wait a moment and run the command again",
        503: "nothing is known to be changed; run the command again, then see `redress doctor`",
    }
)


class ApiError(RedressError):
    """The deployment's API could not be reached or did not do what it was asked; the message says what to do."""


@dataclass(frozen=True)
class Api:
    """One deployment's API, called with the operator's own credentials."""

    session: "boto3.Session"
    stage: str
    url: str | None = None

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end; the console's pages are there too."""
        return checked(self.url or self._deployed())

    def post(self, command: AnyCommand) -> CommandResult:
        """Send the command; what was recorded, or ApiError."""
        status, body = self._send(command.kind, command.model_dump_json().encode())
        if status == HTTPStatus.OK:
            return _result(body)
        said = _read(body)
        reason = said.get("error") or said.get("message") or said.get("Message") or "no reason given"
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise ApiError(f"refused: {reason}")
        advice = _NEXT.get(status, "see the log of the HTTP function")
        raise ApiError(f"the API answered {status}: {reason}{advice and f' ({advice})'}")

    def _send(self, kind: str, body: bytes) -> tuple[int, bytes]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.httpsession import URLLib3Session

        url = self.address
        try:
            credentials = self.session.get_credentials()
            if credentials is None:
                raise ApiError("no AWS credentials were found: log in (aws sso login), or set AWS_PROFILE")
            request = AWSRequest(
                method="POST",
                url=f"{url}/commands/{kind}",
                data=body,
                headers={
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                    STAGE_HEADER: self.stage,
                },
            )
            SigV4Auth(credentials.get_frozen_credentials(), "execute-api", self._region(url)).add_auth(
                request
            )
            answer = URLLib3Session(timeout=LONGEST_WAIT_SECONDS).send(request.prepare())
        except BotoCoreError as error:
            raise ApiError(
                f"{url} cannot be reached ({error}); it is not known whether anything changed"
            ) from error
        return answer.status_code, answer.content

    def _deployed(self) -> str:
        """The URL among the outputs of the deployment's stack."""
        from botocore.exceptions import BotoCoreError, ClientError

        name = f"redress-{self.stage}"
        try:
            stacks = self.session.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except (BotoCoreError, ClientError) as error:
            raise ApiError(
                f"the stack {name} cannot be read ({error}); name its Region with AWS_REGION, another deployment "
                "with --stage, or the API with --api"
            ) from error
        for output in (output for stack in stacks for output in stack.get("Outputs", [])):
            if output.get("OutputKey") == "EndpointURL":
                return output["OutputValue"]
        raise ApiError(f"the stack {name} names no EndpointURL; name the API with --api or REDRESS_API")

    def _region(self, url: str) -> str:
        named = re.search(r"\.execute-api\.([a-z0-9-]+)\.amazonaws\.com", url)
        region = named[1] if named else self.session.region_name
        if not region:
            raise ApiError("the Region is not known: set AWS_REGION")
        return region


def checked(url: str) -> str:
    """The URL without its last slash; ApiError unless a signed request may be sent there."""
    parts = urlsplit(url)
    local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ApiError(f"{url!r} is no https address, so no signed request is sent there")
    return url.rstrip("/")


def _result(body: bytes) -> CommandResult:
    try:
        return CommandResult.model_validate_json(body)
    except ValidationError as error:
        raise ApiError(
            "that is no answer of Redress, so nothing is known to be changed; check --api"
        ) from error


def _read(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
