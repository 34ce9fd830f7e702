"""The blueprint, as API Gateway calls it: what Chalice hands on, and what it sends back."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from chalice.app import Chalice

from chalicelib.adapters.telemetry import Telemetry
from chalicelib.console import render
from chalicelib.console.addresses import HOOKS, PRESSES
from chalicelib.console.hooks import Heard
from chalicelib.console.pages import door
from chalicelib.console.reception import Console
from chalicelib.console.routes import routes
from chalicelib.console.session import Session
from chalicelib.console.slack import Counter
from chalicelib.console.web import Reply, Request
from chalicelib.domain.errors import StoreError
from chalicelib.domain.policy import PolicySetting
from chalicelib.flow import governing
from tests.console.world import ANNA, AUDIT, SITE, World, invited, world
from tests.fakes.cases import HOME

SECRET = "a hook's secret"


class Nobody:
    """People whom Slack does not know."""

    def barred(self, team: str) -> str:
        return f"not in {team}"


@pytest.fixture
def console() -> Iterator[World]:
    with world() as one:
        yield one


class Gateway:
    """API Gateway's REST proxy in front of the blueprint."""

    def __init__(self, world: World) -> None:
        self.heard: list[Heard] = []
        self.console = Console(
            desk=world.desk,
            counter=Counter(
                secrets=lambda: ("s" * 32,),
                policy=lambda: None,
                people=lambda _user: Nobody(),
                answer=lambda _said, _who: "",
                tell=lambda _url, _text: None,
                clock=world.clock,
            ),
            hook_secrets=lambda _name: (SECRET,),
            heard=self.heard.append,
        )
        self.seen: list[Request] = []
        self.app = Chalice(app_name="redress")
        self.app.register_blueprint(routes(lambda: self))

    def reply(self, request: Request) -> Reply:
        self.seen.append(request)
        return self.console.reply(request)

    def call(
        self,
        method: str,
        route: str,
        body: str | None = None,
        headers: dict[str, list[str]] | None = None,
        query: dict[str, list[str]] | None = None,
        **parts: str,
    ) -> dict[str, Any]:
        headers = headers or {}
        event = {
            "resource": route,
            "path": route.format(**parts),
            "httpMethod": method,
            "headers": {name: values[-1] for name, values in headers.items()},
            "multiValueHeaders": headers,
            "queryStringParameters": None,
            "multiValueQueryStringParameters": query,
            "pathParameters": parts or None,
            "stageVariables": None,
            "body": body,
            "isBase64Encoded": False,
            "requestContext": {
                "httpMethod": method,
                "resourcePath": route,
                "requestId": "chosen-by-the-client",
                "path": f"/api{route.format(**parts)}",
                "identity": {"sourceIp": "192.0.2.1"},
            },
        }
        answered: dict[str, Any] = self.app(event, None)
        return answered


@pytest.fixture
def gateway(console: World) -> Gateway:
    return Gateway(console)


def test_every_page_has_a_route_and_only_posts_take_forms(gateway: Gateway) -> None:
    registered = {
        (method, path): entry.content_types
        for path, entries in gateway.app.routes.items()
        for method, entry in entries.items()
    }
    wanted = {(route.method, route.path) for route in door.ROUTES} | {one[:2] for one in door.OPEN}
    wanted |= {("GET", "/static/{name}"), ("POST", PRESSES), ("POST", HOOKS)}
    assert set(registered) == wanted
    for (method, path), types in registered.items():
        if method == "POST" and path != HOOKS:
            assert types == ["application/x-www-form-urlencoded"]


def test_a_page_comes_back_with_its_headers_and_type(console: World, gateway: Gateway) -> None:
    case = console.asked()
    cookie = console.signed_in(ANNA)
    answer = gateway.call("GET", "/cases/{case}", headers={"Cookie": [cookie]}, case=case.id)
    assert answer["statusCode"] == 200
    assert answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert answer["headers"]["Content-Security-Policy"].startswith("default-src 'none'")
    assert case.target.id in answer["body"]
    assert gateway.seen[-1].path == f"/cases/{case.id}"


def test_each_look_of_an_auditor_is_on_record_whatever_request_id_the_browser_sends(
    console: World, gateway: Gateway
) -> None:
    now = console.clock.now()
    console.set(kept=invited(now + timedelta(days=9), now))

    def viewed(session: Session, path: str, request_id: str) -> None:
        governing.viewed(
            console.settings, console.clock, session.identity, path, request_id, home=HOME, engine="0.1.0"
        )

    object.__setattr__(console.desk, "viewed", viewed)
    cookie = console.signed_in(AUDIT)
    paths = ["/", "/exemptions", "/log"]
    for path in paths:
        assert gateway.call("GET", path, headers={"Cookie": [cookie]})["statusCode"] == 200
    tables = [console.client.scan(TableName=name) for name in console.client.list_tables()["TableNames"]]
    bodies = [json.loads(item["body"]["S"]) for table in tables for item in table["Items"] if "body" in item]
    looks = [one["data"]["path"] for one in bodies if one.get("type") == "VIEWED"]
    assert sorted(looks) == sorted(paths)


def test_several_cookies_are_several_headers(gateway: Gateway) -> None:
    answer = gateway.call("GET", "/login/return", query={"code": [ANNA]})
    assert answer["statusCode"] == 303
    assert len(answer["multiValueHeaders"]["Set-Cookie"]) == 2
    assert answer["headers"]["Location"] == "/api/approvals"


def test_what_is_given_twice_has_no_value(console: World, gateway: Gateway) -> None:
    cookie = console.signed_in(ANNA)
    twice = {"Cookie": [cookie], "cookie": [cookie], "Origin": ["https://a.example", SITE.origin]}
    gateway.call("GET", "/cases", headers=twice, query={"state": ["open", "closed"], "account": ["1"]})
    seen = gateway.seen[-1]
    assert dict(seen.headers) == {}
    assert dict(seen.query) == {"account": "1"}


def test_a_host_header_is_never_believed(console: World, gateway: Gateway) -> None:
    headers = {
        "Host": ["evil.example"],
        "X-Forwarded-Host": ["evil.example"],
        "Cookie": [console.signed_in(ANNA)],
    }
    for route in ("/", "/approvals", "/login"):
        answer = gateway.call("GET", route, headers=headers)
        assert "evil.example" not in json.dumps(answer)


def test_the_body_of_a_form_arrives_byte_for_byte(console: World, gateway: Gateway) -> None:
    body = urlencode({"token": "é\u2028 +"})
    headers = {"Content-Type": ["application/x-www-form-urlencoded"], "Cookie": [console.signed_in(ANNA)]}
    assert gateway.call("POST", "/logout", body, headers)["statusCode"] == 403
    assert gateway.seen[-1].body == body.encode()


def test_another_content_type_is_turned_away_at_the_door(gateway: Gateway) -> None:
    answer = gateway.call("POST", "/logout", "{}", {"Content-Type": ["text/plain"]})
    assert answer["statusCode"] == 415
    assert gateway.seen == []


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_other_methods_never_reach_a_page(gateway: Gateway, method: str) -> None:
    assert gateway.call(method, "/approvals")["statusCode"] == 405
    assert gateway.seen == []


def test_the_stylesheet_has_a_route(gateway: Gateway) -> None:
    name = render.style_path().rpartition("/")[2]
    answer = gateway.call("GET", "/static/{name}", name=name)
    assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (200, "text/css; charset=utf-8")


def test_slacks_presses_go_to_slacks_own_counter(gateway: Gateway) -> None:
    headers = {"Content-Type": ["application/x-www-form-urlencoded"]}
    assert gateway.call("POST", PRESSES, "payload=x", headers)["statusCode"] == 401


def _signed(body: str) -> dict[str, list[str]]:
    mac = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {
        "Content-Type": ["application/json"],
        "X-GitHub-Event": ["issues"],
        "X-Hub-Signature-256": [f"sha256={mac}"],
    }


def test_a_hook_is_checked_against_the_integration_that_the_address_names(
    console: World, gateway: Gateway
) -> None:
    body = json.dumps({"action": "opened"})
    assert gateway.call("POST", HOOKS, body, _signed(body), integration="gh")["statusCode"] == 401
    console.set_policy({"integrations": [{"name": "gh", "system": "github", "project": "a/b"}]})
    assert gateway.call("POST", HOOKS, body, _signed(body), integration="gh")["statusCode"] < 300
    assert gateway.call("POST", HOOKS, body + " ", _signed(body), integration="gh")["statusCode"] == 401
    assert gateway.heard == []


class Closed:
    """A store that cannot be read."""

    def policy(self) -> PolicySetting | None:
        raise StoreError("x")


def test_a_hook_that_cannot_be_checked_now_is_sent_again(console: World, gateway: Gateway) -> None:
    object.__setattr__(console.desk, "store", Closed())
    assert gateway.call("POST", HOOKS, "{}", _signed("{}"), integration="gh")["statusCode"] == 503


def test_headers_that_come_once_each_are_taken_as_chalices_own_server_has_them(
    console: World, gateway: Gateway
) -> None:
    call: Callable[..., dict[str, Any]] = gateway.app
    event = {
        "headers": {"Cookie": console.signed_in(ANNA)},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "requestContext": {"httpMethod": "GET", "resourcePath": "/approvals"},
    }
    assert call(event, None)["statusCode"] == 200


def test_an_app_that_is_made_later_does_not_silence_us(capsys: pytest.CaptureFixture[str]) -> None:
    Chalice(app_name="redress")
    Telemetry().deferred("busy", 5)
    assert '"deferred"' in capsys.readouterr().out
