"""A press of a button in Slack: who did not press it in time, and with Slack's signature, decides nothing and reads nothing."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.slack import PERSON_SECONDS, REPLY_SECONDS, Slack, SlackPerson, respond
from chalicelib.console.addresses import PRESSES
from chalicelib.console.oidc import RETURN_PATH
from chalicelib.console.slack import LONGEST_BODY, Counter, interaction
from chalicelib.console.web import Reply, Request
from chalicelib.delivery.card import card
from chalicelib.domain.approval import Answers, Door
from chalicelib.domain.case import Case
from chalicelib.domain.errors import ConflictError, LaterError, StoreError, UnreachableError
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.ports import AnswerChange, Change
from chalicelib.domain.record import RecordType
from chalicelib.flow.answering import ATTEMPTS, Said, Who, answer
from local.fakes.slack import TEAM, FakeSlack, Pressed
from tests.delivery.test_card import ANNA, HASH, ask, buttons, case, policy, view
from tests.fakes.cases import HOME, FakeCases
from tests.fakes.clock import START, FakeClock

ROOT = Path(__file__).resolve().parents[2]
SECRET, OLDER = "the newest signing secret", "the one before"
USER = ANNA.rpartition("/")[2]
MEMBER = SlackPerson(
    TEAM, deleted=False, is_bot=False, is_restricted=False, is_ultra_restricted=False, is_stranger=False
)
RESPONSE_URL = "https://hooks.slack.com/actions/T0REDRESS/1/x"


def signature(body: bytes, at: int, secret: str) -> str:
    return "v0=" + hmac.new(secret.encode(), b"v0:%d:" % at + body, hashlib.sha256).hexdigest()


@dataclass
class Desk:
    """The console behind a press, on the fake store with the real answer function."""

    store: FakeCases = field(default_factory=FakeCases)
    clock: FakeClock = field(default_factory=FakeClock)
    secrets: tuple[str, ...] = (SECRET, OLDER)
    person: SlackPerson = MEMBER
    look: Callable[[str], SlackPerson] | None = None
    reply: Callable[[str, str], None] | None = None
    told: list[tuple[str, str]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    requests: int = 0

    def counter(self) -> Counter:
        return Counter(
            secrets=lambda: self._or("secrets", self.secrets),
            policy=lambda: self._or("policy", self._policy()),
            people=lambda user: self._or("people", self._look(user)),
            answer=self._answer,
            tell=self._tell,
            clock=self.clock,
        )

    def _or(self, name: str, value: Any) -> Any:
        if name in self.fails:
            raise self.fails[name]
        return value

    def _policy(self) -> Policy | None:
        setting = self.store.policy()
        return setting.policy if setting else None

    def _tell(self, url: str, text: str) -> None:
        self._or("tell", None)
        self.told.append((url, text))
        if self.reply:
            self.reply(url, text)

    def _look(self, user: str) -> SlackPerson:
        self.looked.append(user)
        return self.look(user) if self.look else self.person

    def _answer(self, said: Said, who: Who) -> str:
        self.said.append(said)
        self._or("answer", None)
        return answer(said, who, self.store, self.clock, home=HOME, engine="0.1.0")[0]

    def request(
        self,
        body: bytes,
        secret: str = SECRET,
        at: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Request:
        self.requests += 1
        when = int(self.clock.now().timestamp() if at is None else at)
        given = {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": str(when),
            "x-slack-signature": signature(body, when, secret),
            **headers,
        }
        return Request(
            "POST",
            "/slack/interactions",
            headers=MappingProxyType(given),
            body=body,
            request_id=f"req-{self.requests}",
        )

    def hears(self, request: Request) -> Reply:
        return interaction(request, self.counter())

    @property
    def stored(self) -> Answers | None:
        return self.store.answers_of(a_case())

    @property
    def types(self) -> list[RecordType]:
        return [record.draft.type for record in self.store.records]


def a_case() -> Case:
    return case(ask(severity=Severity.MEDIUM), version=1)


@pytest.fixture
def desk() -> Desk:
    desk = Desk()
    desk.store.set(PolicySetting(policy=policy(), by="olga", at=START, reason="first"))
    desk.store.commit(Change(case=a_case()))
    desk.store.calls.clear()
    return desk


VALUE = buttons(card(view(a_case())))["approve"]["value"]


def payload(action: str = "approve", value: str = VALUE, **changes: Any) -> dict[str, Any]:
    usual = {
        "type": "block_actions",
        "api_app_id": "A0REDRESS",
        "team": {"id": TEAM, "domain": "redress"},
        "user": {"id": USER, "team_id": TEAM, "name": "anna"},
        "response_url": RESPONSE_URL,
        "actions": [{"type": "button", "action_id": action, "block_id": "b", "value": value}],
    }
    return {**usual, **changes}


def encoded(found: object) -> bytes:
    return urlencode({"payload": json.dumps(found)}).encode()


BODY = encoded(payload())


def untouched(desk: Desk) -> None:
    """No table was read, nothing was written, nobody was told."""
    assert desk.store.calls == []
    assert desk.store.records == ()
    assert (desk.told, desk.looked, desk.said, desk.stored) == ([], [], [], None)


# ------------------------------------------------------------------------------------------------------ an honest press


@pytest.mark.parametrize("action", ["approve", "deny"])
@pytest.mark.parametrize("secret", [SECRET, OLDER])
def test_a_press_is_an_answer_of_whom_slack_signed_for(desk: Desk, action: str, secret: str) -> None:
    reply = desk.hears(desk.request(encoded(payload(action)), secret))
    assert (reply.status, reply.body) == (200, "")
    stored = desk.stored
    assert stored
    (given,) = stored.answers
    assert (given.by, given.principal, given.door) == (ANNA, "person:anna", Door.SLACK)
    assert (given.approve, given.request_id) == (action == "approve", "req-1")
    assert (
        given.reason
        == {"approve": "approved by button in Slack", "deny": "denied by button in Slack"}[action]
    )
    assert desk.types == [RecordType.ANSWERED]
    assert desk.store.records[0].draft.actor
    assert desk.store.records[0].draft.actor.arn == ANNA
    ((url, text),) = desk.told
    assert url == RESPONSE_URL
    assert "arn:aws:s3:::orders" in text


@pytest.mark.parametrize(
    "action",
    [
        {"type": "button", "action_id": "review", "url": "https://redress.example/x"},
        {"type": "button", "action_id": "approve", "url": "https://x.example", "value": VALUE},
        {"type": "users_select", "action_id": "approve", "value": VALUE},
    ],
)
def test_a_click_on_a_link_is_acknowledged_and_says_nothing(desk: Desk, action: dict[str, str]) -> None:
    assert desk.hears(desk.request(encoded(payload(actions=[action])))).status == 200
    untouched(desk)


@pytest.mark.parametrize(
    "changes", [{"type": "view_submission"}, {"actions": []}, {"actions": [payload()["actions"][0]] * 2}]
)
def test_what_is_no_press_of_one_button_says_nothing(desk: Desk, changes: dict[str, Any]) -> None:
    assert desk.hears(desk.request(encoded(payload(**changes)))).status == 200
    untouched(desk)


# -------------------------------------------------------------------------------------------------------------- attacks


@pytest.mark.parametrize("late", [-301, 301, -86_400, 86_400])
def test_attack_late_request(desk: Desk, late: int) -> None:
    at = desk.clock.now().timestamp() + late
    assert desk.hears(desk.request(BODY, at=at)).status == 401
    untouched(desk)


@pytest.mark.parametrize("late", [-300, 300])
def test_five_minutes_are_in_time(desk: Desk, late: int) -> None:
    assert desk.hears(desk.request(BODY, at=desk.clock.now().timestamp() + late)).status == 200
    assert desk.stored


def test_attack_replayed_request_decides_once(desk: Desk) -> None:
    request = desk.request(BODY)
    desk.hears(request)
    once = desk.stored
    assert desk.hears(request).status == 200
    assert desk.stored == once
    assert desk.types == [RecordType.ANSWERED, RecordType.ANSWER_REFUSED]
    assert desk.told[-1][1].startswith("Not taken: ")
    desk.clock.advance(timedelta(seconds=301))
    assert desk.hears(request).status == 401
    assert desk.types == [RecordType.ANSWERED, RecordType.ANSWER_REFUSED]


def test_attack_forged_signature(desk: Desk) -> None:
    assert desk.hears(desk.request(BODY, "a guess")).status == 401
    assert desk.hears(desk.request(BODY, headers={"x-slack-signature": "v0=" + "0" * 64})).status == 401
    untouched(desk)


def test_attack_signature_without_a_secret(desk: Desk) -> None:
    desk.secrets = ()
    assert desk.hears(desk.request(BODY)).status == 401
    desk.secrets = ("",)
    assert desk.hears(desk.request(BODY, "")).status == 401
    untouched(desk)


def test_attack_other_body_under_the_same_signature(desk: Desk) -> None:
    honest = desk.request(encoded(payload("deny")))
    assert desk.hears(replace(honest, body=BODY)).status == 401
    untouched(desk)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"+", b"%20"),
        lambda body: body + b"&",
        lambda body: body.lower(),
        lambda body: body + b"\n",
    ],
)
def test_attack_reencoded_body(desk: Desk, change: Callable[[bytes], bytes]) -> None:
    honest = desk.request(BODY)
    assert change(BODY) != BODY
    assert desk.hears(replace(honest, body=change(BODY))).status == 401
    untouched(desk)


@pytest.mark.parametrize("name", ["x-slack-signature", "x-slack-request-timestamp"])
@pytest.mark.parametrize(
    "value", ["é" * 67, "v0=" + "é" * 64, "\ud800", "٣" * 10, "", "v0=", "-1", "1e9", " 1", "9" * 5000, "nan"]
)
def test_attack_headers_that_are_not_as_slack_writes_them(desk: Desk, name: str, value: str) -> None:
    assert desk.hears(desk.request(BODY, headers={name: value})).status == 401
    untouched(desk)


@pytest.mark.parametrize("name", ["x-slack-signature", "x-slack-request-timestamp"])
def test_attack_header_that_is_absent_or_came_twice(desk: Desk, name: str) -> None:
    request = desk.request(BODY)
    left = {key: value for key, value in request.headers.items() if key != name}
    assert desk.hears(replace(request, headers=left)).status == 401
    untouched(desk)


def test_attack_retry_headers_do_not_help(desk: Desk) -> None:
    retry = {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout", "x-slack-no-retry": "1"}
    assert desk.hears(desk.request(BODY, "a guess", headers=retry)).status == 401
    assert desk.hears(desk.request(b"ssl_check=1&" + BODY, "a guess")).status == 401
    untouched(desk)


def test_attack_body_without_end(desk: Desk) -> None:
    assert desk.hears(desk.request(BODY + b"x" * LONGEST_BODY)).status == 401
    untouched(desk)


@given(st.binary(max_size=300), st.text(max_size=80), st.text(max_size=20))
def test_attack_anything_at_all_unsigned(body: bytes, given_signature: str, at: str) -> None:
    desk = Desk()
    request = desk.request(
        body, headers={"x-slack-signature": given_signature, "x-slack-request-timestamp": at}
    )
    assert desk.hears(request).status == 401
    untouched(desk)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"payload",
        b"payload=%7B",
        b"payload=[]",
        b"other=" + quote(json.dumps(payload())).encode(),
        BODY + b"&payload=x",
        BODY + b"&more=1&again=2",
        b"payload=" + b"[" * 50_000,
        encoded(payload(value="")),
        encoded(payload(value="[" * 50_000)),
        encoded(payload(value="[]")),
        encoded(payload(value=json.dumps({"case": "../../etc", "ask": 1, "plan_hash": HASH}))),
        encoded(payload(value=json.dumps({"case": a_case().id, "ask": 1, "plan_hash": "x"}))),
        encoded(payload(value=json.dumps({"case": 7, "ask": 1, "plan_hash": HASH}))),
        encoded(payload(value=json.dumps({"case": a_case().id, "plan_hash": HASH}))),
        encoded(payload(value=json.dumps({"case": a_case().id, "ask": True, "plan_hash": HASH}))),
        encoded(payload(actions=[{"type": "button", "action_id": "approve", "value": {"case": 1}}])),
    ],
)
def test_what_slack_never_sends_is_400_and_decides_nothing(desk: Desk, body: bytes) -> None:
    assert desk.hears(desk.request(body)).status == 400
    untouched(desk)


@pytest.mark.parametrize(
    "changes",
    [
        {"team": {"id": "T0OTHER"}},
        {"team": {"id": "T0OTHER"}, "user": {"id": USER, "team_id": "T0OTHER"}},
        {"team": None},
        {"user": {"id": USER, "team_id": "T0OTHER"}},
        {"user": {"id": USER}},
        {"user": None},
    ],
)
def test_attack_another_workspace_decides_nothing(desk: Desk, changes: dict[str, Any]) -> None:
    assert desk.hears(desk.request(encoded(payload(**changes)))).status == 200
    assert desk.store.records == ()
    assert (desk.said, desk.looked) == ([], [])
    assert "decides nothing here" in desk.told[0][1]


@pytest.mark.parametrize("flag", ["deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"])
def test_attack_bots_guests_and_strangers_are_refused_on_record(desk: Desk, flag: str) -> None:
    desk.person = SlackPerson(**{**asdict(MEMBER), flag: True})
    assert desk.hears(desk.request(BODY)).status == 200
    assert desk.types == [RecordType.ANSWER_REFUSED]
    assert desk.stored is None
    assert "decide" in desk.told[0][1] or "deactivated" in desk.told[0][1]
    recorded_as_told(desk, desk.person.barred(TEAM), ANNA)


def test_attack_somebody_whom_the_policy_does_not_know(desk: Desk) -> None:
    desk.hears(desk.request(encoded(payload(user={"id": "U0EVE", "team_id": TEAM}))))
    assert desk.types == [RecordType.ANSWER_REFUSED]
    assert desk.stored is None
    assert "knows nobody as slack:T0REDRESS/U0EVE" in desk.told[0][1]
    recorded_as_told(desk, "the policy knows nobody as slack:T0REDRESS/U0EVE; ", "slack:T0REDRESS/U0EVE")


def recorded_as_told(desk: Desk, why: str, by: str) -> None:
    """The record gives the reason that the person was given, and stands with the resource that it was about."""
    (record,) = desk.store.records
    draft, target = record.draft, a_case().target
    assert desk.told[0][1] == f"Not taken: {draft.data['refused']}"
    assert str(draft.data["refused"]).startswith(why)
    assert draft.data["by"] == {"arn": by, "known": False}
    assert (draft.account, draft.region, draft.resource) == (target.account, target.region, target.resource)


def test_attack_identity_in_the_button_is_not_believed(desk: Desk) -> None:
    lies = json.dumps({**json.loads(VALUE), "user": "U0EVE", "by": "arn:aws:iam::1:user/root"})
    desk.hears(desk.request(encoded(payload(value=lies))))
    stored = desk.stored
    assert stored
    assert [one.by for one in stored.answers] == [ANNA]


@pytest.mark.parametrize("severity", [Severity.HIGH, Severity.CRITICAL])
def test_attack_button_on_a_high_severity(severity: Severity) -> None:
    desk = Desk()
    desk.store.set(PolicySetting(policy=policy(), by="olga", at=START, reason="first"))
    desk.store.commit(Change(case=case(ask(severity=severity), version=1)))
    desk.hears(desk.request(BODY))
    assert desk.stored is None
    assert desk.types == [RecordType.ANSWER_REFUSED]
    assert "open the link" in desk.told[0][1]


def test_attack_other_plan_and_expired_ask(desk: Desk) -> None:
    desk.hears(
        desk.request(
            encoded(payload(value=json.dumps({"case": a_case().id, "ask": 1, "plan_hash": "0" * 64})))
        )
    )
    desk.clock.advance(timedelta(hours=8))
    desk.hears(desk.request(BODY))
    assert desk.types == [RecordType.ANSWER_REFUSED] * 2
    assert desk.stored is None
    assert "plan changed" in desk.told[0][1]
    assert "expired" in desk.told[1][1]


def test_attack_press_for_an_ask_that_is_over(desk: Desk) -> None:
    """A card that was not changed yet, or a recorded press: the next ask has the same plan, and maybe other terms."""
    stands = desk.store.cases[0]
    next_ask = ask(severity=Severity.MEDIUM, seq=2)
    version = stands.version + 1
    desk.store.commit(Change(case=stands.model_copy(update={"ask": next_ask, "asks": 2, "version": version})))
    desk.hears(desk.request(BODY))
    assert desk.store.answers(stands.id, 2) is None
    assert desk.types == [RecordType.ANSWER_REFUSED]
    assert "that ask is over" in desk.told[0][1]


# ------------------------------------------------------------------------------------------------------------- bad luck


def test_without_a_policy_no_button_decides(desk: Desk) -> None:
    desk.store = FakeCases()
    assert desk.hears(desk.request(BODY)).status == 200
    assert (desk.said, desk.store.records) == ([], ())


def test_secrets_that_cannot_be_read_let_nobody_in(desk: Desk) -> None:
    desk.fails["secrets"] = StoreError("no secret")
    assert desk.hears(desk.request(BODY)).status == 503
    untouched(desk)


@pytest.mark.parametrize(
    "where, error, told",
    [
        ("policy", StoreError("down"), "cannot be read"),
        ("answer", StoreError("down"), "cannot be read"),
        ("answer", ConflictError("busy"), "try again"),
        ("people", LaterError("429", 9), "could not say who you are"),
        ("people", UnreachableError("revoked"), "could not say who you are"),
    ],
)
def test_what_cannot_be_asked_decides_nothing_and_says_so(
    desk: Desk, where: str, error: Exception, told: str
) -> None:
    desk.fails[where] = error
    assert desk.hears(desk.request(BODY)).status == 200
    assert (desk.stored, desk.store.records) == (None, ())
    assert told in desk.told[0][1]


def test_a_decision_stands_though_nobody_can_be_told(desk: Desk) -> None:
    desk.fails["tell"] = UnreachableError("gone")
    assert desk.hears(desk.request(BODY)).status == 200
    assert desk.stored


class _Busy(FakeCases):
    """A store in which somebody else is quicker, each time or all but the last."""

    quicker = 0

    def answer(self, change: AnswerChange) -> None:
        if self.quicker > 0:
            self.quicker -= 1
            raise ConflictError("somebody was quicker")
        super().answer(change)


@pytest.mark.parametrize("quicker", [0, 1, ATTEMPTS - 1, ATTEMPTS])
def test_slack_has_its_answer_within_three_seconds_though_it_is_as_slow_as_we_let_it_be(quicker: int) -> None:
    """By the limits, on a clock of our own: what Slack says of the person, every wait for others, and the reply."""
    desk = Desk(store=_Busy())
    desk.store.set(PolicySetting(policy=policy(), by="olga", at=START, reason="first"))
    desk.store.commit(Change(case=a_case()))
    _busy(desk).quicker = quicker

    def look(_user: str) -> SlackPerson:
        desk.clock.advance(seconds=PERSON_SECONDS)
        return MEMBER

    def reply(_url: str, _text: str) -> None:
        desk.clock.advance(seconds=REPLY_SECONDS)

    desk.look, desk.reply = look, reply
    assert desk.hears(desk.request(BODY)).status == 200
    assert (desk.clock.now() - START).total_seconds() < 3
    assert bool(desk.stored) is (quicker < ATTEMPTS)
    assert desk.told or quicker >= ATTEMPTS - 1


def _busy(desk: Desk) -> _Busy:
    assert isinstance(desk.store, _Busy)
    return desk.store


def test_nobody_is_told_of_a_press_for_which_our_tables_took_too_long_and_it_stands(desk: Desk) -> None:
    def look(_user: str) -> SlackPerson:
        desk.clock.advance(seconds=9)
        return MEMBER

    desk.look = look
    assert desk.hears(desk.request(BODY)).status == 200
    assert desk.stored
    assert desk.told == []


# ------------------------------------------------------------------------------------------- through a loopback Slack


class _Door(BaseHTTPRequestHandler):
    """The console's door, as far as a press goes."""

    desk: Desk

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.desk.hears(
            Request("POST", self.path, headers=headers, body=body, request_id=f"r{time.monotonic_ns()}")
        )
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body.encode())


@dataclass(frozen=True)
class World:
    """A workspace with one card in it, and our door."""

    desk: Desk
    slack: FakeSlack
    ts: str

    def press(self, user: str = USER, action: str = "approve", **how: Any) -> Pressed:
        return self.slack.press(CHANNEL, self.ts, action, user, **how)


CHANNEL = "C0SECURITY"


@pytest.fixture
def world(desk: Desk) -> Iterator[World]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (_Door,), {"desk": desk}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/slack/interactions"
    with FakeSlack(0, url, lambda: desk.clock.now().timestamp()) as slack:
        slack.add_channel(CHANNEL)
        slack.add_user(USER, "Anna")
        slack.add_user("U0GUEST", "Guest", is_restricted=True)
        chat = Slack(lambda: slack.token, slack.api)
        shown = card(view(a_case()))
        ts = chat.post(CHANNEL, shown.text, shown.blocks)
        desk.secrets = (slack.signing_secret,)
        desk.look, desk.reply = chat.person, lambda to, text: respond(to, text, slack.api)
        yield World(desk, slack, ts)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_person_presses_and_is_told_alone(world: World) -> None:
    assert world.press() == Pressed(200, "")
    assert world.desk.stored
    ((user, text),) = world.slack.ephemerals
    assert user == USER
    assert "approved" in text


@pytest.mark.parametrize(
    "how",
    [
        {"late_by": 301},
        {"late_by": -301},
        {"how": "forged"},
        {"how": "reencoded"},
        {"how": "non_ascii"},
        {"how": "unsigned"},
    ],
)
def test_attack_through_a_loopback_slack(world: World, how: dict[str, Any]) -> None:
    assert world.press(**how).status == 401
    untouched(world.desk)
    assert world.slack.ephemerals == []


def test_attack_replay_through_a_loopback_slack(world: World) -> None:
    world.press()
    once = world.desk.stored
    assert world.slack.replay().status == 200
    assert world.desk.stored == once
    assert "Not taken" in world.slack.ephemerals[-1].text


def test_a_guest_presses_and_decides_nothing(world: World) -> None:
    world.press("U0GUEST")
    assert world.desk.stored is None
    assert "guest" in world.slack.ephemerals[0].text


def test_slack_down_at_the_press_decides_nothing(world: World) -> None:
    world.slack.revoked = True
    assert world.press().status == 200
    assert world.desk.stored is None
    assert "could not say who you are" in world.slack.ephemerals[0].text


def test_the_manifest_names_our_doors() -> None:
    manifest = yaml.safe_load((ROOT / "docs" / "slack-app-manifest.yaml").read_text())
    console = "https://CONSOLE-HOST/STAGE"
    assert manifest["settings"]["interactivity"] == {"is_enabled": True, "request_url": console + PRESSES}
    assert manifest["oauth_config"]["redirect_urls"] == [console + RETURN_PATH]
    assert manifest["oauth_config"]["scopes"] == {"bot": ["chat:write", "users:read"]}
    assert len(manifest["display_information"]["long_description"]) >= 174
    assert len(manifest["display_information"]["description"]) <= 140
