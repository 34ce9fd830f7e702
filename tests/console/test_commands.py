"""POST /commands: through Chalice as API Gateway calls it, and once without Chalice at all."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from chalice.app import Chalice
from chalice.test import Client

from chalicelib.console.commands import LONGEST_BODY, Commands, answer, routes
from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError
from chalicelib.flow.command import STAGE_HEADER, AnyCommand, Exempt, ReasonCode, SetMode, Undo
from chalicelib.flow.desk import Caller, CommandResult

JANE = "arn:aws:iam::111122223333:user/jane"
GOOD = {"kind": "mode", "control": "a-b", "account": "111122223333", "mode": "ask", "reason": "because"}


OURS: Mapping[str, str] = MappingProxyType({STAGE_HEADER: "dev"})


@dataclass
class FakeCommands:
    """Stands for bootstrap.commands: remembers what it was asked, and fails when told to."""

    asked: list[tuple[AnyCommand, Caller]] = field(default_factory=list)
    fails: Exception | None = None
    turned_away: list[tuple[str, str, str]] = field(default_factory=list)

    def refused(self, kind: str, why: str, caller: Caller, /) -> None:
        if self.fails:
            raise self.fails
        self.turned_away.append((kind, why, caller.arn))

    def build(self) -> Commands:
        return self

    @property
    def stage(self) -> str:
        return "dev"

    def __call__(self, command: AnyCommand, caller: Caller, /) -> CommandResult:
        self.asked.append((command, caller))
        if self.fails:
            raise self.fails
        return CommandResult(changed=True, says="set", chain="SYS#1#203105", seq=1, record_id="r")


@pytest.fixture
def commands() -> FakeCommands:
    return FakeCommands()


@pytest.fixture
def app(commands: FakeCommands) -> Chalice:
    made = Chalice("test")
    made.register_blueprint(routes(commands.build))
    return made


Post = Callable[..., tuple[int, dict[str, Any]]]


def kind_in(body: str) -> str:
    """The kind that a body claims to be of; `mode` where it claims nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return "mode"
    return str(said.get("kind", "mode")) if isinstance(said, dict) else "mode"


@pytest.fixture
def post(app: Chalice) -> Post:
    """POST as API Gateway hands it to the function once IAM has authenticated `user`."""

    def send(
        body: str, user: str | None = JANE, kind: str | None = None, **extra: object
    ) -> tuple[int, dict[str, Any]]:
        kind = kind or kind_in(body)
        event = {
            "httpMethod": "POST",
            "requestContext": {
                "httpMethod": "POST",
                "resourcePath": "/commands/{kind}",
                "path": f"/api/commands/{kind}",
                "requestId": "chosen-by-the-client",
                "extendedRequestId": "JKJaXmPLvHcESHA=",
                "identity": {"sourceIp": "192.0.2.1", "userArn": user},
            },
            "headers": {"content-type": "application/json", STAGE_HEADER.lower(): "dev"},
            "multiValueHeaders": {"content-type": ["application/json"], STAGE_HEADER.lower(): ["dev"]},
            "pathParameters": {"kind": kind},
            "multiValueQueryStringParameters": None,
            "stageVariables": None,
            "body": body,
            "isBase64Encoded": False,
            **extra,
        }
        response = app(event, None)
        assert "Traceback" not in response["body"]
        return response["statusCode"], json.loads(response["body"])

    return send


def test_a_command_is_carried_out_for_the_caller_whom_api_gateway_authenticated(
    post: Post, commands: FakeCommands
) -> None:
    status, said = post(json.dumps(GOOD))
    assert (status, said["says"], said["record_id"]) == (200, "set", "r")
    ((command, caller),) = commands.asked
    assert isinstance(command, SetMode)
    assert caller.arn == JANE


def test_two_requests_have_two_names_whatever_id_the_client_sends(post: Post, commands: FakeCommands) -> None:
    for _ in range(2):
        post(json.dumps(GOOD))
    first, second = (caller.request_id for _, caller in commands.asked)
    assert first != second
    assert "chosen-by-the-client" not in first + second
    assert first.endswith(":JKJaXmPLvHcESHA=")


def test_who_the_body_claims_to_be_is_refused_not_believed(post: Post, commands: FakeCommands) -> None:
    status, said = post(json.dumps({**GOOD, "by": "arn:aws:iam::111122223333:root"}))
    assert status == 400
    assert "by" in said["error"]
    assert commands.asked == []


@pytest.mark.parametrize("user", [None, "", "jane"])
def test_a_request_without_an_identity_is_forbidden(
    post: Post, commands: FakeCommands, user: str | None
) -> None:
    status, said = post(json.dumps(GOOD), user=user)
    assert (status, commands.asked) == (403, [])
    assert "SigV4" in said["error"]


def test_chalices_own_gateway_without_iam_cannot_command(app: Chalice, commands: FakeCommands) -> None:
    with pytest.warns(UserWarning, match="IAMAuthorizer"), Client(app) as client:
        response = client.http.post(
            "/commands/mode", headers={"Content-Type": "application/json"}, body=json.dumps(GOOD).encode()
        )
    assert (response.status_code, commands.asked) == (403, [])


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        '{"kind":"mode"}',
        '{"kind":["mode"]}',
        "[" * 5000,
        json.dumps({**GOOD, "mode": "<script>alert(1)</script>"}),
        json.dumps({**GOOD, "reason": "x" * (LONGEST_BODY + 1)}),
        "\ufeff" + json.dumps(GOOD),
        '{"kind": "mode", "control": "\\ud800", "account": "111122223333", "mode": "ask", "reason": "x"}',
    ],
)
def test_a_body_that_is_no_command_gets_a_plain_400(post: Post, commands: FakeCommands, body: str) -> None:
    status, said = post(body)
    assert (status, set(said), commands.asked) == (400, {"error"}, [])
    assert len(said["error"]) < 4000
    assert "<script>" not in said["error"]


def test_a_form_is_no_command(post: Post, commands: FakeCommands) -> None:
    form = {"content-type": "application/x-www-form-urlencoded", STAGE_HEADER: "dev"}
    status, _ = post("mode=act", headers=form)
    assert (status, commands.asked) == (415, [])


@pytest.mark.parametrize(
    "error, status, says",
    [
        (RefusedCommandError("the ceiling is ask"), 422, "the ceiling is ask"),
        (ConflictError("others are quicker"), 409, "others are quicker"),
        (StoreError("arn:aws:dynamodb:secret-table"), 503, "try again"),
    ],
)
def test_each_refusal_has_its_own_status(
    post: Post, commands: FakeCommands, error: Exception, status: int, says: str
) -> None:
    commands.fails = error
    got, said = post(json.dumps(GOOD))
    assert got == status
    assert says in said["error"]
    assert "secret-table" not in said["error"]


def test_a_defect_of_ours_is_a_500_that_tells_nothing(post: Post, commands: FakeCommands) -> None:
    commands.fails = ZeroDivisionError("in line 7 of /var/task/secret.py")
    status, said = post(json.dumps(GOOD))
    assert status == 500
    assert "secret.py" not in json.dumps(said)


@pytest.mark.parametrize("stage", ["prod", "DEV", "dev ", "", None, "x" * 500, "\x1b[2J"])
def test_a_command_for_another_deployment_is_refused_and_changes_nothing(
    post: Post, commands: FakeCommands, stage: str | None
) -> None:
    headers = {"content-type": "application/json"} | ({} if stage is None else {STAGE_HEADER: stage})
    multi = {name: [value] for name, value in headers.items()}
    status, said = post(json.dumps(GOOD), headers=headers, multiValueHeaders=multi)
    assert (status, commands.asked) == (422, [])
    assert "this is the deployment 'dev'" in said["error"]
    assert len(said["error"]) < 300
    assert "\x1b" not in said["error"]


@pytest.mark.parametrize(
    "command",
    [
        Exempt(
            resource="r" * 500,
            control="c" * 100,
            account="111122223333",
            owner="\U0001f512" * 500,
            code=ReasonCode.FALSE_POSITIVE,
            reason="\U0001f512" * 500,
            expires_at=datetime(2031, 5, 7, tzinfo=UTC),
        ),
        Undo(
            case="a" * 20 + "-999999",
            run=999999,
            days=30,
            owner="\U0001f512" * 500,
            reason="\U0001f512" * 500,
        ),
    ],
)
def test_the_longest_honest_commands_fit(post: Post, commands: FakeCommands, command: AnyCommand) -> None:
    body = command.model_dump_json()
    assert len(body.encode()) < LONGEST_BODY * 2 / 3
    assert post(body)[0] == 200
    assert commands.asked[0][0] == command


def test_an_address_that_iam_permits_is_no_way_to_another_kind_of_command(
    post: Post, commands: FakeCommands
) -> None:
    status, said = post(json.dumps(GOOD), kind="answer")
    assert (status, commands.asked) == (400, [])
    assert "/commands/mode" in said["error"]


def test_only_post_is_a_way_in(app: Chalice) -> None:
    assert set(app.routes["/commands/{kind}"]) == {"POST"}
    authorizer = app.routes["/commands/{kind}"]["POST"].authorizer
    assert authorizer is not None
    assert authorizer.to_swagger()["x-amazon-apigateway-authtype"] == "awsSigv4"


def test_the_answer_needs_no_chalice(commands: FakeCommands) -> None:
    context = {"identity": {"userArn": JANE}, "requestId": "req-2"}
    assert answer("mode", json.dumps(GOOD).encode(), OURS, context, commands.build)[0] == 200
    assert answer("mode", b"\xff\xfe", OURS, context, commands.build)[0] == 400
    assert answer("mode", json.dumps(GOOD).encode(), OURS, {}, commands.build)[0] == 403
    assert len(commands.asked) == 1


def test_nothing_is_built_for_a_body_that_is_no_command() -> None:
    def explode() -> Commands:
        raise AssertionError("built for nothing")

    assert answer("no-kind", b"{}", OURS, {"identity": {"userArn": JANE}}, explode)[0] == 400


def test_what_cannot_be_read_is_on_record_where_somebody_asked_for_it(
    post: Post, commands: FakeCommands
) -> None:
    body = {"kind": "exempt", "code": "because", "reason": "x"}
    status, said = post(json.dumps(body))
    assert status == 400
    assert "accepted_risk" in said["error"]
    ((kind, why, who),) = commands.turned_away
    assert (kind, why, who) == ("exempt", said["error"], JANE)
    commands.fails = StoreError("away")
    assert post(json.dumps(body))[0] == 503
