"""No secret leaves: not on a page, in a header, a message, a mail, a ticket, a log line, an address, a record or an export.

Every secret is a canary that stands nowhere else. The house is built as `console.built` and `bootstrap.notifier` build it,
walked on its good ways and on its failing ones, and everything that came out is searched, also encoded.
"""

import base64
import http
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import boto3
import pytest

from chalicelib.adapters.notices import Notices
from chalicelib.adapters.secrets import Secrets
from chalicelib.adapters.slack import Slack
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.adapters.tickets import system_of
from chalicelib.adapters.told import DynamoTold
from chalicelib.adapters.web import Web
from chalicelib.bootstrap import Commands, Front, _token
from chalicelib.console.built import console_of
from chalicelib.console.reception import Console
from chalicelib.console.routes import routes
from chalicelib.console.web import Reply, Request
from chalicelib.delivery.office import Office
from chalicelib.domain.case import Case
from chalicelib.domain.delivery import Delivery, Destination
from chalicelib.domain.errors import RedressError, StoreError
from chalicelib.domain.limits import Limits
from chalicelib.domain.policy import Integration
from chalicelib.domain.ports import Change, Notice
from chalicelib.flow import notify
from chalicelib.settings import Settings
from local.fakes.oidc import FakeOidc, Fault
from local.fakes.slack import FakeSlack
from local.fakes.tickets import CREDENTIALS, PROJECTS, SECRET, TOKEN, FakeTickets
from tests.console.test_oidc import location_of
from tests.console.world import OLGA, SITE, SSH, World, world
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import HOME
from tests.fakes.chat import FakeMail

pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("error")]

AWS = ("AKIACANARYCANARY0001", "aws-canary-secret-key-0001", "aws-canary-session-token-0001")
CONSOLE: dict[str, Any] = {
    "session_keys": ["canary-session-key-newest-000000001", "canary-session-key-older-0000000001"],
    "providers": {"corp": "canary-client-secret-0001"},
    "slack_signing": ["canary-signing-secret-0001", "canary-signing-secret-older-0001"],
    "hooks": {"jira": "canary-hook-secret-0001"},
    "slack_token": "xoxb-canary-console-0001",
}
SYSTEMS = ("jira", "servicenow", "github", "webhook")
CHANNEL = "C0SECURITY"
PAGES = (
    "/",
    "/approvals",
    "/cases",
    "/cases?state=waiting",
    "/log",
    "/controls",
    f"/controls/{SSH}",
    "/exemptions",
    "/tickets",
    "/switches",
    "/people",
    "/login",
    "/nowhere",
)


def leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from leaves(inner)


def spellings(canary: str) -> set[str]:
    """The canary, and how it looks when somebody encodes it on the way."""
    plain = base64.b64encode(canary.encode()).decode().rstrip("=")
    return {canary, quote(canary, safe=""), plain[:-1], canary.encode().hex(), repr(canary.encode())[2:-1]}


@dataclass
class House:
    """The deployed console and notifier on moto and loopback, and all that ever came out of them."""

    world: World
    slack: FakeSlack
    idp: FakeOidc
    tickets: FakeTickets
    console: Console
    front: Front
    notices: Notices
    notifier_secret: dict[str, Any]
    mail: FakeMail = field(default_factory=FakeMail)
    came_out: list[str] = field(default_factory=list)
    sent: list[Delivery] = field(default_factory=list)
    cookie: str = ""

    @property
    def canaries(self) -> tuple[str, ...]:
        return (
            *AWS,
            *leaves(CONSOLE),
            TOKEN,
            SECRET,
            self.slack.token,
            self.slack.signing_secret,
        )

    def asks(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        path, _, query = path.partition("?")
        said = {"cookie": self.cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
        reply = self.console.reply(
            Request(
                method,
                path,
                dict(parse_qsl(query, keep_blank_values=True)),
                said,
                body,
                request_id=f"r{path}",
            )
        )
        self.came_out += [reply.body, json.dumps(dict(reply.headers)), *reply.cookies]
        return reply

    def signs_in(self, who: str = "olga") -> Reply:
        self.idp.login_as(who)
        begun = self.asks("GET", "/login/corp?to=/approvals")
        if begun.status != http.HTTPStatus.FOUND:  # the provider's own document was wrong
            return begun
        self.cookie = begun.cookies[0].partition(";")[0]
        back = urlsplit(location_of(self.idp, begun))
        reply = self.asks("GET", f"/login/return?{back.query}")
        session = [line.partition(";")[0] for line in reply.cookies if "Max-Age=0" not in line]
        self.cookie = session[0] if session else ""
        return reply

    def tells(self, delivery: Delivery) -> None:
        """As SQS calls the notifier; what fails goes up to Lambda, which logs it."""
        record = {
            "messageId": "m",
            "receiptHandle": "r",
            "body": delivery.model_dump_json(),
            "eventSourceARN": "arn:aws:sqs:eu-west-1:111111111111:q.fifo",
        }
        try:
            self.notices.handle({"Records": [record]})
        except RedressError as error:
            self.came_out.append(_whole(error))

    def stored(self) -> str:
        """All tables, from which every export is made."""
        names = ("cases", "control_state", "outbox", "audit")
        return "".join(
            json.dumps(self.world.client.scan(TableName=DEPLOYMENT.table(one))["Items"]) for one in names
        )

    def everything(self) -> str:
        """What came out, what stands in the tables, what others were sent, and every address that was asked for."""
        posted = [json.dumps([one.text, one.blocks]) for one in self.slack.messages(CHANNEL)]
        kept = [repr(one) for system in SYSTEMS for one in self.tickets.tickets[system]]
        # Only the addresses: bodies and headers are where a provider and a ticket system are shown a credential.
        addresses = [target for _, target, _ in self.idp.seen] + [path for _, path in self.tickets.asked]
        mails = [json.dumps(one) for one in self.mail.sent]
        told = [one.text for one in self.slack.ephemerals]
        return "\n".join([*self.came_out, self.stored(), *posted, *kept, *addresses, *mails, *told])


def _whole(error: BaseException) -> str:
    """An error with all that it came from, as a traceback prints it."""
    said, seen = [f"{type(error).__name__}: {error} {error.args}"], error
    while seen.__cause__ or (seen.__context__ and not seen.__suppress_context__):
        seen = cast("BaseException", seen.__cause__ or seen.__context__)
        said.append(f"{type(seen).__name__}: {seen} {seen.args}")
    return "\n".join(said)


class _Deferring:
    def defer(self, queue: str, receipt_handle: str, seconds: int, /) -> None:
        """Nothing: it is not shown again here."""


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name, value in zip(("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"), AWS, strict=True):
        monkeypatch.setenv(f"AWS_{name}", value)
    with world() as inner, FakeTickets(now=lambda: inner.clock.now().timestamp()) as tickets:
        now: Callable[[], float] = lambda: inner.clock.now().timestamp()  # noqa: E731 -- three fakes tell time by it
        with FakeSlack(0, None, now, pace=False) as slack, FakeOidc(now=now) as idp:
            yield _built(inner, slack, idp, tickets)


def _built(inner: World, slack: FakeSlack, idp: FakeOidc, tickets: FakeTickets) -> House:
    settings = Settings(
        DEPLOYMENT.stage, DEPLOYMENT.account, DEPLOYMENT.region, emulated=True, slack_api=slack.api
    )
    manager = boto3.client("secretsmanager", region_name=DEPLOYMENT.region)
    slack.token = CONSOLE["slack_token"] = "xoxb-canary-0001"
    slack.signing_secret = str(CONSOLE["slack_signing"][0])
    held = {"slack_token": slack.token, "integrations": {name: dict(CREDENTIALS[name]) for name in SYSTEMS}}
    for name, value in (("console", CONSOLE), ("notifier", held)):
        manager.create_secret(Name=settings.secret(name), SecretString=json.dumps(value))
    slack.add_channel(CHANNEL)
    slack.add_user("U0OLGA0001", "Olga")
    idp.add_client("redress", CONSOLE["providers"]["corp"], [f"{SITE.url('/login/return')}"])
    for who in ("olga", "nobody"):
        idp.add_person(who, who.title(), f"{who}@example.org", mfa=True)
    olga = {
        "name": "Olga",
        "identities": [OLGA, f"oidc:{idp.issuer}#olga"],
        "roles": ["operator", "approver"],
    }
    inner.set_policy(
        {
            "people": {**_people(), "olga": olga},
            "slack_team": "T0REDRESS",
            "routes": [{"name": "all", "channel": CHANNEL}],
            "providers": [{"name": "corp", "title": "Corp", "issuer": idp.issuer, "client_id": "redress"}],
            "integrations": [
                {
                    "name": name,
                    "system": name,
                    "at": tickets.at(name),
                    "project": PROJECTS.get(name, ""),
                    "options": {"host": "127.0.0.1"} if name == "webhook" else {},
                }
                for name in SYSTEMS
            ],
        }
    )
    clock, web = inner.clock, Web(allow_loopback=True)
    secrets = {name: Secrets(manager, settings.secret(name), clock) for name in ("console", "notifier")}
    told = DynamoTold(inner.client, DEPLOYMENT)
    front = Front(
        settings=settings,
        clock=clock,
        store=inner.settings,
        books=inner.ledger,
        told=told,
        secrets=secrets["console"],
        web=web,
        slack=Slack(_token(secrets["console"]), slack.api),
        catalog=inner.catalog,
        remediations=tuple(inner.desk.remediations.values()),
        limits=Limits(),
        commands=cast("Commands", inner.desk.command),
    )
    mail, sent = FakeMail(), list[Delivery]()

    def system(integration: Integration) -> Any:
        credentials = secrets["notifier"].fields("integrations", integration.name)
        return system_of(
            integration, credentials, web, boto3.client("ssm", region_name=DEPLOYMENT.region), clock
        )

    office = Office(
        told=told,
        desk=told,
        books=inner.ledger,
        chat=Slack(_token(secrets["notifier"]), slack.api),
        mail=mail,
        system=system,
        send=sent.append,
        controls={control.id: control for control in inner.catalog.controls},
        remediations=inner.desk.remediations,
        home=HOME,
        tenant="t",
        clock=clock,
    )
    notices = Notices(office=office, queues=_Deferring(), telemetry=Telemetry())
    house = House(inner, slack, idp, tickets, console_of(front), front, notices, held, mail=mail, sent=sent)
    assert house.signs_in().status == 303
    return house


def _people() -> dict[str, Any]:
    from tests.console.world import POLICY

    return dict(POLICY["people"])


def noted(house: House, case: Case, *notices: Notice) -> None:
    """They stand in the outbox, to be told."""
    stands = house.world.cases.case(case.digest, case.episode)
    assert stands
    house.world.keep(stands)
    kept = stands.model_copy(update={"version": stands.version + 2})
    house.world.cases.commit(Change(case=kept, notices=notices))


def walked(house: House) -> None:
    """Every page, every form and every door, on the good way and on each failing one; then what the notifier tells."""
    case, ticketed = house.world.asked(1), house.world.ticketed(2)
    for path in (*PAGES, f"/cases/{case.id}", f"/cases/{ticketed.id}"):
        house.asks("GET", path)
    form = {"origin": SITE.origin, "content_type": "application/x-www-form-urlencoded"}
    house.asks("POST", f"/cases/{case.id}/answer", b"answer=approve&token=x", **form)
    house.asks("POST", "/logout", b"\xff", **form)
    for fault in Fault:
        if fault is not Fault.TOKEN_SLOW:
            house.idp.fault = fault
            house.console = console_of(house.front)  # which forgets the provider's facts and keys
            house.signs_in()
    house.idp.fault = None
    house.signs_in("nobody")
    house.asks("GET", "/")
    house.signs_in()
    stamped = str(int(house.world.clock.now().timestamp()))
    pressed = urlencode(
        {"payload": json.dumps({"type": "block_actions", "actions": [], "token": "x"})}
    ).encode()
    for headers in (
        {},
        house.slack.sign(pressed, float(stamped)),
        {"x-slack-signature": "v0=é", "x-slack-request-timestamp": stamped},
    ):
        reply = house.console.reply(
            Request(
                "POST",
                "/slack/interactions",
                headers={name.lower(): value for name, value in headers.items()},
                body=pressed,
            )
        )
        house.came_out.append(reply.body)
    house.asks("POST", "/hooks/jira", b"{}", x_hub_signature="sha256=" + "0" * 64)

    ask = notify.asked(case, case.ask) if case.ask else pytest.fail("nobody is asked")
    ticket = ticketed.ticket or pytest.fail("there is no ticket")
    opened = notify.ticket(ticket)
    noted(house, case, ask, opened)
    for attempt in range(14):
        house.slack.revoked = attempt == 1
        if attempt == 0:
            house.slack.fail("500", "lost")
        if attempt < 2:
            for system in SYSTEMS:
                # a careless system sends back what it was shown
                echo = json.dumps({"message": TOKEN if "secret" not in CREDENTIALS[system] else SECRET})
                house.tickets.fail(system, "create", status=(401, 500)[attempt], body=echo)
        for destination in (
            Destination(kind="slack", to=CHANNEL),
            Destination(kind="mail", to="people"),
            *(Destination(kind="ticket", to=system) for system in SYSTEMS),
        ):
            notice = opened if destination.kind == "ticket" else ask
            house.tells(
                Delivery(
                    notice=notice.id,
                    kind=notice.kind,
                    case=notice.case,
                    at=notice.at,
                    destination=destination,
                )
            )
        house.world.clock.advance(timedelta(minutes=11))
    house.slack.revoked = False
    house.asks("GET", f"/cases/{ticketed.id}")


def found_in(house: House, text: str) -> list[str]:
    return [canary for canary in house.canaries if any(one in text for one in spellings(canary))]


def test_no_canary_comes_out_of_the_house_on_any_way(
    house: House, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        walked(house)
    out, err = capfd.readouterr()
    logs = "\n".join([out, err, *(record.getMessage() for record in caplog.records)])
    logs += "\n".join(str(record.exc_info) for record in caplog.records)
    assert found_in(house, house.everything()) == []
    assert found_in(house, logs) == []
    # the walk was a walk: the secrets were used, and people, systems and mail boxes were told
    assert house.slack.messages(CHANNEL)
    assert house.mail.sent
    assert [system for system in SYSTEMS if not house.tickets.tickets[system]] == [], house.tickets.refused
    assert any(headers.get("authorization", "").startswith("Basic ") for _, _, headers in house.idp.seen)


def test_session_and_token_stand_in_no_address_and_no_record(house: House) -> None:
    case = house.world.asked(1)
    page = house.asks("GET", f"/cases/{case.id}").body
    token = page.split('name="token" value="')[1].partition('"')[0]
    cookie = house.cookie.partition("=")[2]
    replies = [house.asks("GET", path) for path in PAGES]
    for reply in replies:
        links = [
            part.partition('"')[0]
            for part in reply.body.split('href="')[1:] + reply.body.split('action="')[1:]
        ]
        assert not [link for link in links if cookie in link or token in link]
        assert cookie not in str(reply.headers)
        assert cookie not in reply.body
    addresses = " ".join(target for _, target, _ in house.idp.seen)
    assert not [one for one in (cookie, token) if one in house.stored() or one in addresses]


@pytest.mark.parametrize("name", ["console", "notifier"])
def test_a_secret_that_cannot_be_read_is_not_told_and_lets_nothing_through(
    house: House, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    case = house.world.asked(1)
    manager = boto3.client("secretsmanager", region_name=DEPLOYMENT.region)
    settings = house.front.settings
    broken = "{" + json.dumps(CONSOLE if name == "console" else house.notifier_secret)
    manager.put_secret_value(SecretId=settings.secret(name), SecretString=broken)
    house.world.clock.advance(timedelta(minutes=6))
    statuses = [
        house.asks("GET", path).status for path in ("/", f"/cases/{case.id}", "/login/return?state=x&code=y")
    ]
    ask = notify.asked(case, case.ask) if case.ask else pytest.fail("nobody is asked")
    noted(house, case, ask)
    house.tells(
        Delivery(
            notice=ask.id,
            kind="ask",
            case=case.id,
            at=ask.at,
            destination=Destination(kind="slack", to=CHANNEL),
        )
    )
    if name == "console":
        assert statuses == [503, 503, 503]
    else:
        # it holds up nothing behind it, the case says why, and people hear of the ask elsewhere
        page = house.front.told.deliveries(case.id)
        assert page
        (line, mail) = page.lines
        assert (line.state, mail.destination.key) == ("waiting", "mail:people")
        assert "is not a JSON object" in line.said
        assert [one.destination for one in house.sent] == [mail.destination]
    assert found_in(house, house.everything()) == []
    assert found_in(house, "".join(capfd.readouterr())) == []
    # each function has a secret of its own: the notifier's is whole when the console's is not
    assert len(house.slack.messages(CHANNEL)) == (name == "console")


def brought(house: House, held: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """How far each of these systems was told of a ticket, with these credentials."""
    manager = boto3.client("secretsmanager", region_name=DEPLOYMENT.region)
    manager.put_secret_value(
        SecretId=house.front.settings.secret("notifier"), SecretString=json.dumps({"integrations": held})
    )
    ticketed = house.world.ticketed(2)
    opened = notify.ticket(ticketed.ticket or pytest.fail("there is no ticket"))
    noted(house, ticketed, opened)
    for system in held:
        where = Destination(kind="ticket", to=system)
        house.tells(
            Delivery(notice=opened.id, kind=opened.kind, case=opened.case, at=opened.at, destination=where)
        )
    told = house.front.told.deliveries(opened.case)
    return [(line.state, line.said) for line in told.lines] if told else []


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_what_echo_leaves_at_a_tokens_end_keeps_nobody_from_being_told(house: House, end: str) -> None:
    held = {name: {key: value + end for key, value in CREDENTIALS[name].items()} for name in SYSTEMS}
    assert brought(house, held) == [("told", "")] * len(SYSTEMS)


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\u201d"])
def test_a_token_that_no_header_takes_leaves_the_notifier_on_no_way(
    house: House, sign: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """http.client tells whoever catches nothing the whole value, and Lambda would log it."""
    lines = brought(
        house, {name: {"token": f"{TOKEN}{sign}more"} for name in ("jira", "servicenow", "github")}
    )
    assert [state for state, _ in lines] == ["waiting"] * 3
    assert all("the header Authorization holds a line break" in said for _, said in lines)
    assert found_in(house, house.everything()) == []
    assert found_in(house, "".join(capfd.readouterr())) == []


def test_a_defect_of_ours_is_an_error_that_tells_nothing(
    house: House, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Chalice logs a traceback of what nobody caught; what the caller sees is one constant sentence."""
    from chalice.app import Chalice

    class Broken:
        def reply(self, request: Request) -> Reply:
            house.console.reply(request)
            message = "a defect"
            raise RuntimeError(message)

    app = Chalice(app_name="redress")
    app.register_blueprint(routes(Broken))
    event = {
        "resource": "/",
        "path": "/",
        "httpMethod": "GET",
        "headers": {"cookie": house.cookie},
        "multiValueHeaders": {"cookie": [house.cookie]},
        "multiValueQueryStringParameters": None,
        "queryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
        "requestContext": {"httpMethod": "GET", "resourcePath": "/", "requestId": "r"},
    }
    answered = app(event, None)
    assert answered["statusCode"] == 500
    assert "defect" not in answered["body"]
    said = "".join(capfd.readouterr()) + caplog.text + json.dumps(answered, default=str)
    assert found_in(house, said) == []
    assert house.cookie.partition("=")[2] not in said


def test_what_looks_for_canaries_finds_them(house: House) -> None:
    """The negative control: a canary on a page, encoded, is found."""
    for canary in house.canaries:
        for spelled in spellings(canary):
            assert canary in found_in(house, f"x{spelled}y")
    assert {SECRET, TOKEN} <= {*house.canaries}
    with pytest.raises(StoreError) as error:
        replace(house.front).secrets.fields("session_keys")
    assert found_in(house, _whole(error.value)) == []
