"""POST /commands/<kind>: the one route by which a person changes anything, authenticated by IAM (SigV4).

The command's kind is part of the address, so that IAM can tell people apart: an approver may be given
`execute-api:Invoke` on `POST/commands/answer` and nothing else. The request is read in `answer`, which knows nothing of Chalice; the blueprint only hands it over.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from chalice.app import Blueprint, IAMAuthorizer, Response
from pydantic import JsonValue, ValidationError

from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError

if TYPE_CHECKING:
    from chalicelib.flow.command import AnyCommand
    from chalicelib.flow.desk import Caller, CommandResult

LONGEST_BODY = 8192
"""Bytes. The longest honest command but one, an exemption with a full reason in four-byte characters, is about half of it."""

LONGEST_POLICY = 128 * 1024
"""Bytes. A policy is a document: some hundred people with all their identities fit."""


class Commands(Protocol):
    """What carries commands out: `bootstrap.Commands`."""

    @property
    def stage(self) -> str:
        """The deployment's own stage."""
        ...

    def __call__(self, command: "AnyCommand", caller: "Caller", /) -> "CommandResult":
        """The command's result, or RefusedCommandError."""
        ...

    def refused(self, kind: str, why: str, caller: "Caller", /) -> None:
        """Put on record that a command of that kind could not be read."""
        ...


def answer(
    kind: str,
    body: bytes,
    headers: Mapping[str, str],
    context: Mapping[str, Any],
    commands: Callable[[], Commands],
) -> tuple[int, dict[str, JsonValue]]:
    """The status and the JSON that a request deserves; `headers` are looked up without regard to case.

    400 the body is no command, or not of the `kind` in the address · 403 nobody was authenticated · 409 others were quicker · 422 refused, with the reason ·
    503 our tables cannot be reached. `commands` is asked for only when there is something to carry out.
    """
    from chalicelib.console.web import request_id_of  # noqa: PLC0415 -- the engine's cold start does without it
    from chalicelib.flow.command import STAGE_HEADER  # noqa: PLC0415 -- likewise, for the engine's cold start
    from chalicelib.flow.desk import caller  # noqa: PLC0415 -- the engine's cold start does without it

    identity = context.get("identity")
    user_arn = identity.get("userArn") if isinstance(identity, Mapping) else None
    try:
        who = caller(user_arn, request_id_of(context))
    except RefusedCommandError as error:
        return 403, {"error": str(error)}
    try:
        command = _command(kind, body)
    except ValueError as error:
        return _unread(kind, str(error), who, commands)
    try:
        desk = commands()
        _meant_for_us(headers.get(STAGE_HEADER), desk.stage)
        result = desk(command, who)
    except RefusedCommandError as error:
        return 422, {"error": str(error)}
    except StoreError as error:
        if isinstance(error, ConflictError):
            return 409, {"error": str(error)}
        return 503, {
            "error": "the tables cannot be read or written right now; try again, then see `redress doctor`"
        }
    return 200, result.model_dump(mode="json")


def _unread(
    kind: str, why: str, who: "Caller", commands: Callable[[], Commands]
) -> tuple[int, dict[str, JsonValue]]:
    """400; on record where somebody was authenticated for that kind of command and sent something else."""
    from chalicelib.flow.command import KINDS  # noqa: PLC0415 -- the engine's cold start does without it

    if kind in KINDS:
        try:
            commands().refused(kind, why, who)
        except StoreError:
            return 503, {"error": f"{why}; and the tables cannot be written right now"}
    return 400, {"error": why}


def routes(commands: Callable[[], Commands]) -> Blueprint:
    """The blueprint that app.py registers; `commands` is `bootstrap.commands`."""
    blueprint = Blueprint(__name__)

    @blueprint.route("/commands/{kind}", methods=["POST"], authorizer=IAMAuthorizer())
    def post_command(kind: str) -> Response:
        request = blueprint.current_request
        body = request.raw_body or b""
        status, said = answer(
            kind,
            body if isinstance(body, bytes) else body.encode(),
            request.headers,
            request.context,
            commands,
        )
        headers: dict[str, str | list[str]] = {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
        }
        return Response(json.dumps(said), headers, status)

    return blueprint


def _meant_for_us(stage: str | None, ours: str) -> None:
    """RefusedCommandError unless the request names this deployment: an address alone may lead to another one."""
    if stage != ours:
        named = f"names {stage[:20]!r}" if stage else "does not say which it is meant for"
        raise RefusedCommandError(
            f"nothing was changed: this is the deployment {ours!r}, and the request {named}. `redress` sends --stage; "
            "does --api or REDRESS_API lead elsewhere?"
        )


def _command(kind: str, body: bytes) -> "AnyCommand":
    """The command in the body, which must be of that kind, or ValueError in words for whoever sent it."""
    from chalicelib.flow.command import COMMAND, said_plainly  # noqa: PLC0415 -- likewise, for the engine's cold start

    most = LONGEST_POLICY if kind == "policy" else LONGEST_BODY
    if len(body) > most:
        raise ValueError(f"a command of this kind has at most {most} bytes")
    try:
        command = COMMAND.validate_json(body)
    except ValidationError as error:
        raise ValueError(said_plainly(error)) from error
    if command.kind != kind:
        raise ValueError(
            f"the address is that of another kind of command: send it to /commands/{command.kind}"
        )
    return command
