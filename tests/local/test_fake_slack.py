"""The loopback Slack bites: each thing that Slack refuses is refused here, or the tests that stand on it prove nothing."""

import http.client
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from local.fakes.slack import CRAWLER, MOST_BLOCKS, Crawl, FakeSlack, Message, problems

pytestmark = pytest.mark.thorough

CHANNEL = "C0SECURITY"


class Wall:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1_786_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def slack(wall: Wall) -> Iterator[FakeSlack]:
    with FakeSlack(clock=wall) as fake:
        fake.add_channel(CHANNEL)
        fake.add_user("U0ANNA", "Anna")
        yield fake


def plain(text: str = "x") -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def button(**more: Any) -> dict[str, Any]:
    return {"type": "button", "action_id": "a", "text": plain(), **more}


def actions(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"type": "actions", "elements": [*buttons]}


CONFIRM = {"title": plain(), "text": plain(), "confirm": plain(), "deny": plain()}
GOOD: list[dict[str, Any]] = [
    {"type": "header", "text": plain("x" * 150)},
    {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3000, "verbatim": True}},
    {"type": "section", "fields": [plain("x" * 500)] * 10},
    {"type": "context", "elements": [plain()] * 10},
    {"type": "divider"},
    actions(
        button(url="https://redress.example/x", style="primary"),
        button(action_id="b", value="v", confirm=CONFIRM),
    ),
]
BAD: list[Any] = [
    "text",
    [{"type": "divider"}] * (MOST_BLOCKS + 1),
    [{"type": "header", "text": plain("x" * 151)}],
    [{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}],
    [{"type": "header", "text": plain("")}],
    [{"type": "header", "text": plain(), "colour": "red"}],
    [{"type": "section"}],
    [{"type": "section", "text": plain("x" * 3001)}],
    [{"type": "section", "text": {"type": "plain_text", "text": "x", "verbatim": True}}],
    [{"type": "section", "text": {"type": "plain_text", "text": "x", "emoji": "no"}}],
    [{"type": "section", "text": "x"}],
    [{"type": "section", "fields": []}],
    [{"type": "section", "fields": [plain()] * 11}],
    [{"type": "section", "fields": [plain("x" * 2001)]}],
    [{"type": "context", "elements": [plain()] * 11}],
    [{"type": "context"}],
    [actions()],
    [actions(*(button(action_id=str(n)) for n in range(26)))],
    [actions(button(), button())],
    [actions(button(text=plain("x" * 76)))],
    [actions({"type": "button", "text": plain()})],
    [actions(button(value="x" * 2001))],
    [actions(button(url="https://x.example/" + "x" * 3000))],
    [actions(button(url="javascript:alert(1)"))],
    [actions(button(style="green"))],
    [actions(button(onclick="x"))],
    [actions(button(confirm={**CONFIRM, "title": plain("x" * 101)}))],
    [actions(button(confirm={**CONFIRM, "text": plain("x" * 301)}))],
    [actions(button(confirm={**CONFIRM, "confirm": plain("x" * 31)}))],
    [actions(button(confirm={key: value for key, value in CONFIRM.items() if key != "deny"}))],
    [actions(button(confirm="sure?"))],
    [actions({"type": "checkboxes", "action_id": "a"})],
    [{"type": "image", "image_url": "https://x.example/x.png", "alt_text": "x"}],
    [{"type": "divider", "block_id": "same"}, {"type": "divider", "block_id": "same"}],
    [7],
]


@pytest.mark.parametrize("blocks", BAD, ids=range(len(BAD)))
def test_what_slack_refuses_is_refused(slack: FakeSlack, blocks: Any) -> None:
    assert [*problems(blocks)]
    answer = call(slack, "chat.postMessage", {"channel": CHANNEL, "text": "x", "blocks": blocks})[2]
    assert answer["error"] == "invalid_blocks"
    assert answer["response_metadata"]["messages"]
    assert slack.messages(CHANNEL) == []


def test_what_slack_takes_is_taken(slack: FakeSlack) -> None:
    assert [*problems(GOOD)] == []
    status, _, answer = call(slack, "chat.postMessage", {"channel": CHANNEL, "text": "x", "blocks": GOOD})
    assert (status, answer["ok"]) == (200, True)
    (message,) = slack.messages(CHANNEL)
    assert message.ts == answer["ts"]
    assert "x" * 150 in message.shown


def call(
    slack: FakeSlack,
    method: str,
    arguments: dict[str, Any] | bytes,
    token: str | None = None,
    kind: str = "application/json",
) -> tuple[int, dict[str, str], dict[str, Any]]:
    place = urlsplit(slack.api)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    headers = {"Content-Type": kind}
    if token != "":
        headers["Authorization"] = f"Bearer {token or slack.token}"
    try:
        body = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
        connection.request("POST", f"/api/{method}", body, headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())
    finally:
        connection.close()


POST = {"channel": CHANNEL, "text": "hello"}


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"channel": CHANNEL}, "no_text"),
        ({**POST, "text": " "}, "no_text"),
        ({**POST, "text": "x" * 40_001}, "msg_too_long"),
        ({**POST, "channel": "C0NOWHERE"}, "channel_not_found"),
        ({**POST, "channel": "C0ARCHIVED"}, "is_archived"),
        ({**POST, "channel": "C0PRIVATE"}, "not_in_channel"),
        ({**POST, "thread_ts": "1.1"}, "thread_not_found"),
        ({**POST, "as_admin": True}, "invalid_arguments"),
        ({**POST, "blocks": [{"type": "section", "text": plain("x" * 3000)}] * 5}, "msg_blocks_too_long"),
        (b"[]", "json_not_object"),
        (b"{", "invalid_json"),
    ],
)
def test_a_message_that_cannot_be_posted(slack: FakeSlack, arguments: Any, error: str) -> None:
    slack.add_channel("C0ARCHIVED", archived=True)
    slack.add_channel("C0PRIVATE", joined=False)
    assert (
        call(slack, "chat.postMessage", arguments)[2] == {"ok": False, "error": error}
        or error == "invalid_arguments"
    )
    assert not any(one.messages for one in slack.channels.values())


def test_who_has_no_valid_token_does_nothing(slack: FakeSlack) -> None:
    assert call(slack, "chat.postMessage", POST, token="")[2]["error"] == "not_authed"
    assert call(slack, "chat.postMessage", POST, token="xoxb-guessed")[2]["error"] == "invalid_auth"
    slack.revoked = True
    assert call(slack, "chat.postMessage", POST)[2]["error"] == "token_revoked"
    assert call(slack, "admin.everything", {})[2]["error"] == "unknown_method"
    assert slack.messages(CHANNEL) == []


def test_an_update_changes_what_stands_and_nothing_else(slack: FakeSlack) -> None:
    ts = call(slack, "chat.postMessage", {**POST, "blocks": GOOD})[2]["ts"]
    assert call(slack, "chat.update", {**POST, "ts": ts, "text": "new"})[2]["ok"]
    (message,) = slack.messages(CHANNEL)
    assert (message.text, message.blocks, message.edits) == ("new", [], 1)
    assert call(slack, "chat.update", {**POST, "ts": "9.9"})[2]["error"] == "message_not_found"
    message.editable = False
    assert call(slack, "chat.update", {**POST, "ts": ts})[2]["error"] == "cant_update_message"
    slack.delete(CHANNEL, ts)
    assert call(slack, "chat.update", {**POST, "ts": ts})[2]["error"] == "message_not_found"


def test_one_message_a_second_in_a_channel_and_so_many_updates_a_minute(slack: FakeSlack, wall: Wall) -> None:
    slack.add_channel("C0OTHER")
    ts = call(slack, "chat.postMessage", POST)[2]["ts"]
    status, headers, answer = call(slack, "chat.postMessage", POST)
    assert (status, headers["Retry-After"], answer["error"]) == (429, "1", "ratelimited")
    assert call(slack, "chat.postMessage", {**POST, "channel": "C0OTHER"})[0] == 200
    wall.at += 1
    assert call(slack, "chat.postMessage", POST)[0] == 200
    codes = [call(slack, "chat.update", {**POST, "ts": ts})[0] for _ in range(51)]
    assert codes == [200] * 50 + [429]
    wall.at += 60
    assert call(slack, "chat.update", {**POST, "ts": ts})[0] == 200
    slack.pause(17)
    assert (
        call(slack, "users.info", b"user=U0ANNA", kind="application/x-www-form-urlencoded")[1]["Retry-After"]
        == "17"
    )


def test_people_are_read_with_forms(slack: FakeSlack) -> None:
    form = "application/x-www-form-urlencoded"
    assert call(slack, "users.info", b"user=U0ANNA", kind=form)[2]["user"]["is_restricted"] is False
    assert call(slack, "users.info", b"user=U0NOBODY", kind=form)[2]["error"] == "user_not_found"
    assert call(slack, "users.info", {"user": "U0ANNA"})[2]["error"] == "invalid_json"
    assert call(slack, "auth.test", {})[2]["team_id"] == "T0REDRESS"


class Ear(BaseHTTPRequestHandler):
    """Our side: remembers every request, and answers like a page that decides nothing."""

    heard: list[tuple[str, str, dict[str, str], bytes]]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
        pass

    def _hear(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.heard.append((self.command, self.path, dict(self.headers.items()), body))
        self.send_response(405 if self.command == "HEAD" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = _hear  # noqa: N815 -- http.server looks for these names


@pytest.fixture
def ear() -> Iterator[tuple[str, list[tuple[str, str, dict[str, str], bytes]]]]:
    heard: list[tuple[str, str, dict[str, str], bytes]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneEar", (Ear,), {"heard": heard}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", heard
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_link_of_every_message_is_crawled_at_once(slack: FakeSlack, ear: Any) -> None:
    url, heard = ear
    blocks = [
        actions(button(url=f"{url}/approve?t=1")),
        {"type": "section", "text": {"type": "mrkdwn", "text": f"<{url}/deny|no>"}},
    ]
    call(
        slack,
        "chat.postMessage",
        {**POST, "text": f"see {url}/text and https://elsewhere.example/x", "blocks": blocks},
    )
    visits = slack.crawled()
    assert {(method, path) for method, path, _, _ in heard} == {
        (method, path) for method in ("GET", "HEAD") for path in ("/approve?t=1", "/deny", "/text")
    }
    assert {headers["User-Agent"] for _, _, headers, _ in heard} == {CRAWLER}
    assert Crawl("HEAD", f"{url}/deny", 405) in visits
    assert Crawl("GET", "https://elsewhere.example/x", None) in visits


def posted(slack: FakeSlack) -> Message:
    call(slack, "chat.postMessage", {**POST, "blocks": [actions(button(value="v", confirm=CONFIRM))]})
    return slack.messages(CHANNEL)[-1]


def test_a_press_is_what_slack_sends(slack: FakeSlack, ear: Any, wall: Wall) -> None:
    url, heard = ear
    slack.interactions_url = f"{url}/slack/interactions"
    message = posted(slack)
    assert slack.press(CHANNEL, message.ts, "a", "U0ANNA").status == 200
    _, path, headers, body = heard[-1]
    assert path == "/slack/interactions"
    assert headers == {**headers, **slack.sign(body, wall.at)}
    payload = json.loads(parse_qs(body.decode())["payload"][0])
    assert payload["type"] == "block_actions"
    assert payload["actions"][0]["value"] == "v"
    assert payload["user"] == {"id": "U0ANNA", "username": "Anna", "name": "Anna", "team_id": "T0REDRESS"}
    slack.replay()
    assert heard[-1][3] == body
    for how in ("forged", "reencoded", "non_ascii"):
        slack.press(CHANNEL, message.ts, "a", "U0ANNA", how=how)
        _, _, headers, body = heard[-1]
        assert headers["X-Slack-Signature"] != slack.sign(body, wall.at)["X-Slack-Signature"], how
    slack.press(CHANNEL, message.ts, "a", "U0ANNA", late_by=301)
    assert heard[-1][2]["X-Slack-Request-Timestamp"] == str(int(wall.at) - 301)
    slack.press(CHANNEL, message.ts, "a", "U0ANNA", how="unsigned")
    assert "X-Slack-Signature" not in heard[-1][2]


def test_nobody_presses_what_is_not_there_nor_reaches_off_this_machine(slack: FakeSlack) -> None:
    message = posted(slack)
    assert slack.press(CHANNEL, message.ts, "a", "U0ANNA").status == 0
    with pytest.raises(KeyError):
        slack.press(CHANNEL, message.ts, "b", "U0ANNA")
    with pytest.raises(ValueError, match="nothing was sent"):
        slack.replay()
    slack.interactions_url = "https://elsewhere.example/x"
    with pytest.raises(ValueError, match="not on this machine"):
        slack.press(CHANNEL, message.ts, "a", "U0ANNA")


def test_the_page_shows_cards_with_buttons_that_a_person_can_press(slack: FakeSlack, ear: Any) -> None:
    url, heard = ear
    slack.interactions_url = f"{url}/slack/interactions"
    evil = "<script>alert(1)</script>"
    blocks = [
        {"type": "header", "text": plain(evil)},
        {
            "type": "section",
            "text": {
                "type": "mrkdwn",
                "text": "*bold* `code` <!date^1^{date}|2026> <https://x.example|here>",
            },
        },
        {"type": "section", "fields": [plain("label"), plain("value")]},
        {"type": "context", "elements": [plain("small")]},
        {"type": "divider"},
        actions(button(url="https://redress.example/x"), button(action_id="b", value="v", confirm=CONFIRM)),
    ]
    ts = call(slack, "chat.postMessage", {**POST, "blocks": blocks})[2]["ts"]
    slack.pace = False
    call(slack, "chat.postMessage", {**POST, "text": "a reply", "thread_ts": ts})
    page = get(slack, "/?as=U0ANNA")
    assert "<script" not in page
    for part in (
        "<b>bold</b>",
        "<code>code</code>",
        "<b>2026</b>",
        "<dt>label</dt>",
        "a reply",
        'href="https://redress.example/x"',
    ):
        assert part in page
    place = urlsplit(slack.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    connection.request("POST", "/press", f"channel={CHANNEL}&ts={ts}&action_id=b&user=U0ANNA")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert (answer.status, answer.getheader("Location")) == (303, "/?as=U0ANNA")
    assert heard[-1][1] == "/slack/interactions"


def get(slack: FakeSlack, path: str) -> str:
    place = urlsplit(slack.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer
