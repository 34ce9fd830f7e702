"""A press of one of our buttons in Slack: who pressed it, proved by Slack's signature, and what that person says to the ask.

The signature is over the raw body and is checked before anything else of the request is looked at. Nothing that is pressed
decides anything by itself: the answer goes to the one answer function, which asks the policy. A press that says nothing
(a link, an app's other button) is acknowledged. https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol
from urllib.parse import parse_qsl

from pydantic import ValidationError

from chalicelib.console.web import Reply, Request
from chalicelib.delivery.card import APPROVE, DENY
from chalicelib.domain.approval import Door
from chalicelib.domain.errors import ConflictError, DeliveryError, RefusedCommandError, StoreError
from chalicelib.domain.finding import Actor
from chalicelib.domain.policy import Policy
from chalicelib.domain.ports import Clock
from chalicelib.domain.shape import is_mapping, mapping, sequence, string
from chalicelib.flow.answering import Said, Who

SKEW_SECONDS = 300
LONGEST_TIME = 12
LONGEST_BODY = 200_000
"""Bytes. A payload holds the whole message that was pressed, and a message is a tenth of that."""

REPLY_BEGINS_WITHIN = timedelta(seconds=1.8)
"""After that nobody is told any more: Slack waits three seconds for the answer to a press, and a reply may take one of them.
https://docs.slack.dev/interactivity/handling-user-interaction#acknowledgment_response"""

REASONS = MappingProxyType({APPROVE: "approved by button in Slack", DENY: "denied by button in Slack"})
OPEN_LINK = "Nothing was decided. Open the link on the card instead."
_PLAIN = MappingProxyType({"Cache-Control": "no-store"})


class Presser(Protocol):
    """A Slack user, as Slack tells of them."""

    def barred(self, team: str) -> str:
        """Why they decide nothing in this workspace, or nothing when they may try."""
        ...


@dataclass(frozen=True)
class Counter:
    """What a press needs of the house. Each is called only once the request is known to be Slack's.

    `secrets` are the signing secrets, newest first: two while one replaces the other. `tell` brings a text to whoever
    pressed, at the address that came with the press.
    """

    secrets: Callable[[], Sequence[str]]
    policy: Callable[[], Policy | None]
    people: Callable[[str], Presser]
    answer: Callable[[Said, Who], str]
    tell: Callable[[str, str], None]
    clock: Clock


@dataclass(frozen=True)
class _Press:
    """One press of a button that decides."""

    team: str
    user: str
    home: str
    action: str
    value: str
    reply_to: str


class _MalformedError(ValueError):
    """Signed, and yet not what Slack sends for our cards."""


def interaction(request: Request, counter: Counter) -> Reply:
    """401 for what Slack did not sign within five minutes, 400 for what it does not send, else 200; 503 without secrets.

    After a 401 no table was read, and nothing was written. Slack shows nothing of our answer's body for a press, so what
    became of it is told at the address that came with it, as long as Slack still waits for us.
    """
    began = counter.clock.now()
    try:
        if not signed(request, counter.secrets, counter.clock):
            return _reply(HTTPStatus.UNAUTHORIZED, "not signed by Slack")
    except StoreError:
        return _reply(
            HTTPStatus.SERVICE_UNAVAILABLE, "the signing secret cannot be read; nothing was decided"
        )
    try:
        press = _press(request.body)
        if press is None:
            return _reply(HTTPStatus.OK)
        said = _said(press)
    except (_MalformedError, ValidationError):
        return _reply(HTTPStatus.BAD_REQUEST, "not one of our buttons")
    answer = _decided(said, press, request.request_id, counter)
    if counter.clock.now() - began <= REPLY_BEGINS_WITHIN:
        with suppress(
            DeliveryError
        ):  # what was decided stands and is on record; the card says it when Slack can be reached
            counter.tell(press.reply_to, answer)
    return _reply(HTTPStatus.OK)


def signed(request: Request, secrets: Callable[[], Sequence[str]], clock: Clock) -> bool:
    """True when Slack signed this very body, less than five minutes from now.

    A header that came twice is none at all (`web.Request`), and neither is one that is not as Slack writes it.
    """
    at, given = (
        request.headers.get("x-slack-request-timestamp", ""),
        request.headers.get("x-slack-signature", ""),
    )
    if not (at.isascii() and at.isdigit() and len(at) <= LONGEST_TIME) or len(request.body) > LONGEST_BODY:
        return False
    if abs(clock.now().timestamp() - int(at)) > SKEW_SECONDS:
        return False
    over, theirs = b"v0:" + at.encode() + b":" + request.body, given.encode("utf-8", "surrogatepass")
    fits = False
    for secret in secrets():
        ours = b"v0=" + hmac.new(secret.encode(), over, hashlib.sha256).hexdigest().encode()
        fits |= bool(secret) and hmac.compare_digest(ours, theirs)
    return fits


def _decided(said: Said, press: _Press, request_id: str, counter: Counter) -> str:
    """What became of it, for whoever pressed."""
    try:
        return _answered(said, press, request_id, counter)
    except RefusedCommandError as refused:
        return f"Not taken: {refused}"
    except ConflictError:
        return "Not taken: others answer at this moment. Nothing of yours was decided; try again."
    except DeliveryError:
        return f"Not taken: Slack could not say who you are. {OPEN_LINK}"
    except StoreError:
        return "Not taken: our tables cannot be read or written at the moment. Nothing was decided; try again later."


def _answered(said: Said, press: _Press, request_id: str, counter: Counter) -> str:
    """What was decided, in a sentence. Whoever is refused because of who they are is on record with it, as for any reason."""
    policy = counter.policy()
    if policy is None or policy.slack_team != press.team or press.home != press.team:
        raise RefusedCommandError(f"this workspace decides nothing here. {OPEN_LINK}")
    identity = f"slack:{press.team}/{press.user}"
    barred = counter.people(press.user).barred(press.team)
    if not barred and policy.who(identity) is None:
        barred = f"the policy knows nobody as {identity}; an operator adds it with `redress set-policy`"
    who = Who(
        identity=identity,
        barred=barred,
        actor=Actor(type="SlackUser", arn=identity),
        request_id=request_id,
        door=Door.SLACK,
    )
    return counter.answer(said, who)


def _press(body: bytes) -> _Press | None:
    """The press of a button that decides; None for any other.

    https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
    """
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=2
        )
        ((name, text),) = fields
        payload = json.loads(text) if name == "payload" else None
    except (ValueError, RecursionError) as wrong:
        raise _MalformedError from wrong
    if not is_mapping(payload):
        raise _MalformedError
    actions = sequence(payload.get("actions"))
    if payload.get("type") != "block_actions" or len(actions) != 1:
        return None
    action = mapping(actions[0])
    if action.get("type") != "button" or action.get("action_id") not in REASONS or "url" in action:
        return None
    user = mapping(payload.get("user"))
    return _Press(
        team=string(mapping(payload.get("team")), "id"),
        user=string(user, "id"),
        home=string(user, "team_id"),
        action=string(action, "action_id"),
        value=string(action, "value"),
        reply_to=string(payload, "response_url"),
    )


def _said(press: _Press) -> Said:
    """The answer that the button stands for. Whose answer it is, no button says."""
    try:
        value = json.loads(press.value)
    except (ValueError, RecursionError) as wrong:
        raise _MalformedError from wrong
    return Said(
        case=string(mapping(value), "case"),
        ask=mapping(value).get("ask", 0),
        plan_hash=string(mapping(value), "plan_hash"),
        approve=press.action == APPROVE,
        reason=REASONS[press.action],
    )


def _reply(status: int, body: str = "") -> Reply:
    return Reply(status, body, "text/plain; charset=utf-8", _PLAIN)
