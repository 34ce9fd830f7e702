"""Slack: messages, people, and the replies to a press of a button. One attempt each; whoever calls decides about the next.

No retry handler at all: they sleep, which costs a function's time, and they send again what may have been taken. What Slack
answers becomes one of `errors.DeliveryError`; no message of ours holds the token, nor anything else that was sent.
https://docs.slack.dev/reference/methods/chat.postMessage
"""

import http.client
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from chalicelib.delivery import escape
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    MessageGoneError,
    RejectedError,
    UnreachableError,
)
from chalicelib.domain.shape import mapping, string

API = "https://slack.com/api/"
REPLIES = "https://hooks.slack.com"
"""Where a press may be replied to. A `response_url` that points elsewhere is not Slack's."""

TIMEOUT_SECONDS = 5
PERSON_SECONDS, REPLY_SECONDS = 1, 1
"""While a button is pressed: Slack waits for our answer for three seconds in all."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30, 3600
LONGEST_REPLY = 3000

_LATER = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "message_limit_exceeded",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
    }
)
_PERHAPS = frozenset({"fatal_error", "internal_error"})
"""Of these Slack says that some of the operation may have been done."""

_CODE = re.compile(r"[a-z_]{1,60}")
_GONE = frozenset(
    {
        "cannot_reply_to_message",
        "cant_update_message",
        "edit_window_closed",
        "message_not_found",
        "restricted_action_thread_locked",
        "thread_not_found",
    }
)
_HELP = MappingProxyType(
    {
        "access_denied": "the workspace does not let the app in there: ask its administrators",
        "accesslimited": "the workspace does not let us in from this network: ask its administrators",
        "account_inactive": "the app was removed from the workspace: install it again, and put its new token into the secret",
        "channel_not_found": "no such channel, or a private one without the app: invite it, or mend the route's id",
        "channel_is_limited_access": "the channel is closed to the app: ask its administrators, or mend the route",
        "ekm_access_denied": "administrators have suspended posting: ask them",
        "enterprise_is_restricted": "the organization does not let the app in: ask its administrators",
        "invalid_auth": "the token is wrong: put the app's bot token into the secret",
        "is_archived": "the channel is archived: mend the route in the policy",
        "missing_scope": "the app lacks a scope: apply docs/slack-app-manifest.yaml and install the app again",
        "no_permission": "the token may not do this: apply docs/slack-app-manifest.yaml and install the app again",
        "not_allowed_token_type": "the token is not a bot's: put the one that begins with xoxb- into the secret",
        "not_authed": "there is no token: put the app's bot token into the secret",
        "not_in_channel": "the app is not in the channel: invite it there",
        "org_login_required": "the workspace is being moved to an organization: install the app again afterwards",
        "restricted_action": "the workspace does not let the app post there: ask its administrators",
        "restricted_action_non_threadable_channel": "the channel takes no replies: mend the route, or the channel",
        "restricted_action_read_only_channel": "the channel is read-only: let the app post there, or mend the route",
        "restricted_action_thread_only_channel": "the channel takes replies only: mend the route, or the channel",
        "team_access_not_granted": "the app is not approved for this workspace: ask its administrators",
        "token_expired": "the token has expired: put the app's new token into the secret",
        "team_not_found": "the token's workspace is not there: put the app's bot token into the secret",
        "token_revoked": "the token was revoked: install the app again, and put its new token into the secret",
    }
)
"""Errors that only a person mends, and how."""


@dataclass(frozen=True)
class SlackPerson:
    """What Slack says of a user: what matters for whether a press of a button is a person's of this workspace."""

    team_id: str
    deleted: bool
    is_bot: bool
    is_restricted: bool
    is_ultra_restricted: bool
    is_stranger: bool

    def barred(self, team: str) -> str:
        """Why this user decides nothing here, or nothing when they may try."""
        if self.deleted:
            return "this Slack account is deactivated"
        if self.is_bot:
            return "a bot decides nothing"
        if self.is_stranger or self.team_id != team:
            return "people of another workspace decide nothing here"
        if self.is_restricted or self.is_ultra_restricted:
            return "a guest decides nothing: sign in on the console with an account of your own"
        return ""


class Slack:
    """`domain.delivery.Chat` on a bot token, which is asked for anew each time, since it changes. `api` is another base URL, or None."""

    def __init__(
        self, token: Callable[[], str], api: str | None = None, timeout_seconds: int = TIMEOUT_SECONDS
    ) -> None:
        self._token = token
        self._api = api or API
        self._timeout = timeout_seconds

    def post(
        self,
        channel: str,
        text: str,
        blocks: list[dict[str, Any]],
        thread: str | None = None,
        case: str = "",
    ) -> str:
        """A new message, or a reply; its timestamp, which names it.

        What shows the message to people does not show the case's id, which other apps read there.
        https://docs.slack.dev/messaging/message-metadata

        AmbiguousError: it may stand there. MessageGoneError: there is no such thread any more.
        """
        reply = {"thread_ts": thread} if thread else {}
        about = {"metadata": {"event_type": "redress_case", "event_payload": {"case": case}}} if case else {}
        answer = self._call(
            "chat.postMessage",
            {
                "channel": channel,
                "text": text,
                "blocks": blocks,
                "parse": "none",
                "link_names": False,
                "unfurl_links": False,
                "unfurl_media": False,
                **reply,
                **about,
            },
        )
        ts = string(answer, "ts")
        if not ts:
            raise AmbiguousError("Slack, chat.postMessage: no timestamp in the answer", PAUSE_SECONDS)
        return ts

    def update(self, channel: str, ts: str, text: str, blocks: list[dict[str, Any]]) -> None:
        """The message now shows this. MessageGoneError when it can be changed no more, so that a new one is needed."""
        self._call(
            "chat.update",
            {
                "channel": channel,
                "ts": ts,
                "text": text,
                "blocks": blocks,
                "parse": "none",
                "link_names": False,
            },
        )

    def person(self, user: str) -> SlackPerson:
        """What Slack says of that user. What it does not say of somebody active counts against them."""
        found = mapping(self._call("users.info", params={"user": user}, seconds=PERSON_SECONDS).get("user"))
        if found.get("id") != user:
            raise RejectedError("Slack did not say who that user is")
        deleted = found.get("deleted") is not False
        return SlackPerson(
            team_id=string(found, "team_id"),
            deleted=deleted,
            is_bot=found.get("is_bot") is not False,
            is_restricted=found.get("is_restricted") is not False and not deleted,
            is_ultra_restricted=found.get("is_ultra_restricted") is not False and not deleted,
            is_stranger=found.get("is_stranger", False) is not False,
        )

    def _call(
        self,
        method: str,
        body: dict[str, Any] | None = None,
        params: dict[str, str] | None = None,
        seconds: int | None = None,
    ) -> Mapping[str, Any]:
        problem: DeliveryError
        try:
            client = WebClient(
                self._token(),
                self._api,
                seconds or self._timeout,
                logger=_silent(),
                retry_handlers=[],
                user_agent_prefix="redress",
            )
            answer = client.api_call(method, json=body, params=params)
            return mapping(answer.data)
        except SlackApiError as refused:
            problem = _problem(method, refused)
        except (SlackClientError, ValueError) as odd:
            problem = AmbiguousError(
                f"Slack, {method}: no answer of Slack's ({type(odd).__name__})", PAUSE_SECONDS
            )
        except (OSError, http.client.HTTPException) as broken:
            problem = _broken(method, broken)
        raise problem  # not inside the `except`: what slack_sdk raises holds all that was sent, the token too


def respond(url: str, text: str, api: str | None = None) -> None:
    """Tell whoever pressed a button, and nobody else: a `response_url` takes up to five messages within half an hour.

    Slack takes no message as the body of the answer to a press. `text` is made harmless here. DeliveryError when it cannot
    be told: the decision stands, or does not, whether or not they hear of it.
    https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
    """
    allowed, asked = urlsplit(api or REPLIES), urlsplit(url)
    if (asked.scheme, asked.netloc) != (allowed.scheme, allowed.netloc):
        raise UnreachableError("the address to reply to is not Slack's")
    problem: DeliveryError
    try:
        client = WebhookClient(url, REPLY_SECONDS, logger=_silent(), retry_handlers=[])
        answer = client.send(
            text=escape.mrkdwn(text, LONGEST_REPLY), response_type="ephemeral", replace_original=False
        )
        if answer.status_code == http.HTTPStatus.OK:
            return
        problem = RejectedError(f"Slack, response_url: HTTP {answer.status_code}")
    except (OSError, http.client.HTTPException) as broken:
        problem = _broken("response_url", broken)
    raise problem


def _problem(method: str, refused: SlackApiError) -> DeliveryError:
    """What an answer that is not `ok` means.

    https://docs.slack.dev/apis/web-api/rate-limits
    """
    answer = refused.response
    status, data = answer.status_code, mapping(answer.data)
    code = string(data, "error")
    said = f"Slack, {method}: {escape.plain(code or f'HTTP {status}', 100)}"
    if status == http.HTTPStatus.TOO_MANY_REQUESTS or code in _LATER:
        return LaterError(said, _pause(answer.headers))
    if code in _PERHAPS or (status == http.HTTPStatus.OK and not _CODE.fullmatch(code)):
        return AmbiguousError(f"Slack, {method}: no answer of Slack's", PAUSE_SECONDS)
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return LaterError(said, _pause(answer.headers))
    if code in _GONE:
        return MessageGoneError(said)
    if code in _HELP:
        return UnreachableError(f"{said}: {_HELP[code]}")
    return RejectedError(said)


def _broken(method: str, broken: Exception) -> LaterError:
    """For urllib wraps in URLError what fails before a whole request is out, and nothing that fails afterwards."""
    if isinstance(broken, URLError):
        return LaterError(f"Slack, {method}: not reached ({type(broken.reason).__name__})", PAUSE_SECONDS)
    return AmbiguousError(f"Slack, {method}: no answer ({type(broken).__name__})", PAUSE_SECONDS)


def _pause(headers: Mapping[str, Any]) -> int:
    """Retry-After in seconds; slack_sdk hands a header on as text or as a list of texts."""
    told = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    text = str(told[0]) if isinstance(told, list) and told else str(told)
    return (
        min(max(int(text), 1), LONGEST_PAUSE_SECONDS) if text.isascii() and text.isdigit() else PAUSE_SECONDS
    )


def _silent() -> logging.Logger:
    """A logger that belongs to nobody: slack_sdk logs requests and answers, and both are our customers'."""
    return logging.Logger("slack", logging.CRITICAL + 1)  # noqa: LOG001 -- out of the tree, so that no setting reaches it
