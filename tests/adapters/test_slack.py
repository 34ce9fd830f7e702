"""Slack as it answers, against the loopback Slack: what becomes which error, and that nothing tells the token."""

import logging
import socket
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.adapters.slack import (
    PAUSE_SECONDS,
    PERSON_SECONDS,
    REPLY_SECONDS,
    Slack,
    SlackPerson,
    respond,
)
from chalicelib.domain.delivery import Chat
from chalicelib.domain.errors import (
    AmbiguousError,
    DeliveryError,
    LaterError,
    MessageGoneError,
    RejectedError,
    StoreError,
    UnreachableError,
)
from local.fakes.slack import TEAM, FakeSlack, Fault

CHANNEL = "C0SECURITY"
BLOCKS: list[dict[str, Any]] = [
    {"type": "section", "text": {"type": "plain_text", "text": "a card"}},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "approve",
                "value": "v",
                "text": {"type": "plain_text", "text": "Approve"},
            }
        ],
    },
]


@pytest.fixture
def fake() -> Iterator[FakeSlack]:
    with FakeSlack(pace=False) as one:
        one.add_channel(CHANNEL)
        yield one


@pytest.fixture
def slack(fake: FakeSlack) -> Slack:
    return Slack(lambda: fake.token, fake.api)


def test_a_message_stands_and_can_be_changed_and_replied_to(fake: FakeSlack, slack: Slack) -> None:
    chat: Chat = slack
    ts = chat.post(CHANNEL, "fallback", BLOCKS)
    reply = chat.post(CHANNEL, "later", [], thread=ts)
    chat.update(CHANNEL, ts, "new fallback", BLOCKS[:1])
    card, thread = fake.messages(CHANNEL)
    assert (card.ts, card.text, card.blocks, card.edits) == (ts, "new fallback", BLOCKS[:1], 1)
    assert (thread.ts, thread.thread) == (reply, ts)
    assert {key: card.arguments[key] for key in ("parse", "link_names", "unfurl_links", "unfurl_media")} == {
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    method, arguments = fake.requests[-1]
    assert (method, arguments["parse"], arguments["link_names"]) == ("chat.update", "none", False)


def test_a_message_about_a_case_holds_its_id_for_other_apps(fake: FakeSlack, slack: Slack) -> None:
    slack.post(CHANNEL, "card", BLOCKS, case="0123456789abcdef-1")
    slack.post(CHANNEL, "digest", BLOCKS)
    card, digest = fake.messages(CHANNEL)
    assert card.arguments["metadata"] == {
        "event_type": "redress_case",
        "event_payload": {"case": "0123456789abcdef-1"},
    }
    assert "metadata" not in digest.arguments


def test_a_limit_says_when_to_come_back(fake: FakeSlack, slack: Slack) -> None:
    fake.pause(17)
    with pytest.raises(LaterError) as limited:
        slack.post(CHANNEL, "x", BLOCKS)
    assert limited.value.retry_after in {16, 17}
    assert not isinstance(limited.value, AmbiguousError)
    fake.pause(10**9)
    with pytest.raises(LaterError) as forever:
        slack.post(CHANNEL, "x", BLOCKS)
    assert forever.value.retry_after == 3600
    assert fake.messages(CHANNEL) == []


@pytest.mark.parametrize(
    "fault, error, stands",
    [
        ("500", LaterError, False),
        ("dead", AmbiguousError, False),
        ("lost", AmbiguousError, True),
        ("slow", AmbiguousError, True),
        ("html", AmbiguousError, False),
        ("fatal_error", AmbiguousError, True),
    ],
)
def test_what_breaks_is_tried_later_once_and_never_by_itself(
    fake: FakeSlack, fault: Fault, error: type[LaterError], stands: bool
) -> None:
    slack = Slack(lambda: fake.token, fake.api, timeout_seconds=1)
    fake.slow_seconds = 2
    fake.fail(fault)
    with pytest.raises(LaterError) as broken:
        slack.post(CHANNEL, "x", BLOCKS)
    assert type(broken.value) is error
    assert broken.value.retry_after == PAUSE_SECONDS
    assert bool(fake.messages(CHANNEL)) is stands
    assert len(fake.requests) <= 1


def test_what_was_never_reached_is_not_ambiguous(fake: FakeSlack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(LaterError) as refused:
            Slack(lambda: fake.token, f"http://127.0.0.1:{port}/api/").post(CHANNEL, "x", BLOCKS)
    assert type(refused.value) is LaterError


def test_an_answer_without_a_timestamp_is_ambiguous(
    fake: FakeSlack, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "call", lambda *_: {"ok": True})
    with pytest.raises(AmbiguousError, match="timestamp"):
        slack.post(CHANNEL, "x", BLOCKS)


@pytest.mark.parametrize(
    "channel, advice", [("C0ARCHIVED", "archived"), ("C0PRIVATE", "invite"), ("C0NOWHERE", "mend")]
)
def test_a_channel_that_cannot_be_reached_says_what_to_do(
    fake: FakeSlack, slack: Slack, channel: str, advice: str
) -> None:
    fake.add_channel("C0ARCHIVED", archived=True)
    fake.add_channel("C0PRIVATE", joined=False)
    with pytest.raises(UnreachableError, match=advice):
        slack.post(channel, "x", BLOCKS)


@pytest.mark.parametrize(
    "code",
    [
        "access_denied",
        "account_inactive",
        "channel_is_limited_access",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "missing_scope",
        "not_authed",
        "org_login_required",
        "restricted_action",
        "restricted_action_non_threadable_channel",
        "restricted_action_read_only_channel",
        "restricted_action_thread_only_channel",
        "token_expired",
    ],
)
def test_what_only_a_person_mends_says_how(
    fake: FakeSlack, slack: Slack, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "call", lambda *_: {"ok": False, "error": code})
    with pytest.raises(UnreachableError, match=f"{code}: .+"):
        slack.post(CHANNEL, "x", BLOCKS)


def test_a_token_that_is_not_taken_says_what_to_do(fake: FakeSlack, slack: Slack) -> None:
    with pytest.raises(UnreachableError, match=r"invalid_auth: .*secret"):
        Slack(lambda: "xoxb-old", fake.api).post(CHANNEL, "x", BLOCKS)
    fake.revoked = True
    with pytest.raises(UnreachableError, match=r"token_revoked: .*install"):
        slack.post(CHANNEL, "x", BLOCKS)


def test_the_token_is_asked_for_each_time_and_its_absence_goes_up(fake: FakeSlack) -> None:
    tokens = iter(["xoxb-old", fake.token])
    slack = Slack(lambda: next(tokens), fake.api)
    with pytest.raises(UnreachableError):
        slack.post(CHANNEL, "x", BLOCKS)
    assert slack.post(CHANNEL, "x", BLOCKS)

    def unreadable() -> str:
        raise StoreError("no secret")

    with pytest.raises(StoreError):
        Slack(unreadable, fake.api).post(CHANNEL, "x", BLOCKS)


def test_blocks_that_slack_refuses_are_rejected(slack: Slack) -> None:
    with pytest.raises(RejectedError, match="invalid_blocks"):
        slack.post(CHANNEL, "x", [{"type": "section"}])
    with pytest.raises(RejectedError, match="msg_too_long"):
        slack.post(CHANNEL, "x" * 40_001, [])


def test_a_thread_that_takes_no_more_replies_is_gone(
    fake: FakeSlack, slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "call", lambda *_: {"ok": False, "error": "restricted_action_thread_locked"})
    with pytest.raises(MessageGoneError):
        slack.post(CHANNEL, "x", BLOCKS, thread="1.0")


def test_a_message_that_can_be_changed_no_more_is_gone(fake: FakeSlack, slack: Slack) -> None:
    ts = slack.post(CHANNEL, "x", BLOCKS)
    fake.messages(CHANNEL)[0].editable = False
    with pytest.raises(MessageGoneError):
        slack.update(CHANNEL, ts, "y", BLOCKS)
    fake.delete(CHANNEL, ts)
    with pytest.raises(MessageGoneError):
        slack.update(CHANNEL, ts, "y", BLOCKS)
    with pytest.raises(MessageGoneError):
        slack.post(CHANNEL, "y", [], thread=ts)


# ---------------------------------------------------------------------------------------------------------------- people


@pytest.mark.parametrize(
    "flags, why",
    [
        ({}, ""),
        ({"deleted": True}, "deactivated"),
        ({"is_bot": True}, "bot"),
        ({"is_restricted": True}, "guest"),
        ({"is_ultra_restricted": True}, "guest"),
        ({"is_stranger": True}, "another workspace"),
        ({"team": "T0OTHER"}, "another workspace"),
    ],
)
def test_only_a_member_of_the_workspace_may_try(
    fake: FakeSlack, slack: Slack, flags: dict[str, Any], why: str
) -> None:
    fake.add_user("U0X", "X", **flags)
    barred = slack.person("U0X").barred(TEAM)
    assert (why in barred) if why else (barred == "")


@pytest.mark.parametrize("absent", ["deleted", "is_bot", "is_restricted", "is_ultra_restricted", "team_id"])
def test_what_slack_does_not_say_counts_against_them(fake: FakeSlack, slack: Slack, absent: str) -> None:
    fake.add_user("U0X", "X")
    del fake.users["U0X"][absent]
    assert slack.person("U0X").barred(TEAM)


def test_a_user_that_slack_does_not_know_is_an_error(fake: FakeSlack, slack: Slack) -> None:
    with pytest.raises(RejectedError, match="user_not_found"):
        slack.person("U0NOBODY")
    fake.add_user("U0X", "X")
    fake.users["U0Y"] = fake.users["U0X"]
    with pytest.raises(RejectedError, match="who that user is"):
        slack.person("U0Y")


def test_a_deactivated_account_is_told_as_one_though_slack_says_little_of_it(
    fake: FakeSlack, slack: Slack
) -> None:
    fake.users["U0X"] = {"id": "U0X", "team_id": TEAM, "deleted": True, "is_bot": False}
    assert slack.person("U0X") == SlackPerson(
        TEAM, deleted=True, is_bot=False, is_restricted=False, is_ultra_restricted=False, is_stranger=False
    )


# --------------------------------------------------------------------------------------------------------------- replies


def a_press(fake: FakeSlack, slack: Slack) -> str:
    fake.add_user("U0ANNA", "Anna")
    ts = slack.post(CHANNEL, "x", BLOCKS)
    return str(fake.payload(CHANNEL, ts, "approve", "U0ANNA")["response_url"])


def test_whoever_pressed_is_told_and_nobody_else(fake: FakeSlack, slack: Slack) -> None:
    url = a_press(fake, slack)
    respond(url, "Not taken: <!channel> *too late*", fake.api)
    ((user, text),) = fake.ephemerals
    assert (user, text) == ("U0ANNA", "Not taken: &lt;!channel&gt; \u2217too late\u2217")
    for _ in range(4):
        respond(url, "again", fake.api)
    with pytest.raises(RejectedError, match="404"):
        respond(url, "a sixth time", fake.api)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/actions/1",
        "http://169.254.169.254/",
        "https://hooks.slack.com.evil.example/x",
        "file:///etc/passwd",
        "",
    ],
)
def test_nothing_is_sent_to_an_address_that_is_not_slacks(url: str) -> None:
    with pytest.raises(UnreachableError, match="not Slack's"):
        respond(url, "x")


def test_a_reply_that_does_not_arrive_is_an_error_of_delivery(fake: FakeSlack) -> None:
    with pytest.raises(DeliveryError):
        respond(f"{fake.url}actions/{TEAM}/never", "x", fake.api)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(LaterError):
            respond(f"{nobody}actions/1", "x", nobody)


def test_a_press_waits_a_second_for_slack_and_no_longer(fake: FakeSlack, slack: Slack) -> None:
    fake.add_user("U0ANNA", "Anna")
    assert PERSON_SECONDS + REPLY_SECONDS < 3
    fake.slow_seconds = PERSON_SECONDS + 0.5
    fake.fail("slow")
    with pytest.raises(AmbiguousError):
        slack.person("U0ANNA")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(AmbiguousError, match="Timeout"):
            respond(f"{nobody}actions/1", "x", nobody)


# --------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("fault", ["500", "dead", "lost", "html", "fatal_error", "revoked", "newline"])
def test_the_token_and_what_was_sent_are_in_no_log_and_no_error(
    fake: FakeSlack, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary, told = f"{fake.token}-canary", "what was to be told"
    fake.token = canary
    if fault == "revoked":
        fake.revoked = True
    elif fault != "newline":
        fake.fail(fault)  # type: ignore[arg-type]  # the names of a table
    token = f"{canary}\nX-Evil: 1" if fault == "newline" else canary
    slack = Slack(lambda: token, fake.api)
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliveryError) as broken:
        slack.post(CHANNEL, told, [{"type": "section", "text": {"type": "plain_text", "text": told}}])
    shown = capfd.readouterr()
    error: BaseException | None = broken.value
    while error is not None:
        everything = (repr(error), str(vars(error)), "".join(traceback.format_exception(error)))
        for place in (*everything, caplog.text, shown.out, shown.err, repr(slack)):
            assert canary not in place
        for place in (repr(error), str(vars(error)), caplog.text, shown.out, shown.err):
            assert told not in place
        error = error.__context__
