"""The commands route as deployed: who asks is whom API Gateway authenticated, and what is refused says why."""

import json
import re
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Signer

from chalicelib.domain.contract import Mode
from chalicelib.domain.record import broken_at
from chalicelib.flow.command import STAGE_HEADER, SetMode
from local.emulator.world import Credentials
from local.stage import Stage

pytestmark = pytest.mark.emulator

GROUP = "arn:aws:ec2:us-east-1:111111111111:security-group/sg-0123456789abcdef0"


def post(stage: Stage, body: object, who: Credentials | None) -> tuple[int, dict[str, Any]]:
    """Status and answer of a POST /commands/<kind>, signed by `who` or by nobody."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = body.get("kind", "mode") if isinstance(body, dict) else "mode"
    headers = {"Content-Type": "application/json", STAGE_HEADER: stage.settings.stage}
    request = AWSRequest("POST", f"{stage.api}/commands/{kind}", headers, data)
    if who is not None:
        signer = Signer(who.access_key_id, who.secret_access_key, who.session_token)
        SigV4Auth(signer, "execute-api", stage.world.region).add_auth(request)
    wanted = urllib.request.Request(str(request.url), data, dict(request.headers.items()), method="POST")
    try:
        with urllib.request.urlopen(wanted, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read() or b"{}")


def recorded(stage: Stage) -> list[dict[str, Any]]:
    """The chain of what people set in the home account, this month."""
    stored = stage.ledger.system_records(stage.world.account, datetime.now(UTC))
    return [json.loads(record.body) for record in stored]


def mode(**changes: object) -> dict[str, Any]:
    given = {
        "kind": "mode",
        "control": "ec2-open-ssh",
        "account": "111111111111",
        "mode": "ask",
        "reason": "a test",
    }
    return {**given, **changes}


def exempt(**changes: object) -> dict[str, Any]:
    given = {
        "kind": "exempt",
        "resource": GROUP,
        "control": "ec2-open-ssh",
        "account": "111111111111",
        "owner": "a team",
        "code": "accepted_risk",
        "reason": "a test",
        "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat(),
    }
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


REFUSED: tuple[tuple[str, Any, int, str], ...] = (
    ("an unknown control", lambda: mode(control="ec2-open-shh"), 422, "did you mean 'ec2-open-ssh'"),
    ("a mode that is none", lambda: mode(mode="destroy"), 400, "mode"),
    ("a mode in an account that is not enrolled", lambda: mode(account="222222222222"), 422, "not enrolled"),
    ("no reason", lambda: {**mode(), "reason": " "}, 400, "reason"),
    ("a reason in two lines", lambda: mode(reason="one\ntwo"), 400, "one line"),
    ("a name that the client chose", lambda: mode(by="arn:aws:iam::111111111111:root"), 400, "by"),
    ("an exemption without an end", lambda: exempt(expires_at=None), 400, "expires_at"),
    (
        "an exemption for ever",
        lambda: exempt(expires_at=(datetime.now(UTC) + timedelta(days=400)).isoformat()),
        422,
        "180 days",
    ),
    (
        "an exemption that ended yesterday",
        lambda: exempt(expires_at=(datetime.now(UTC) - timedelta(days=1)).isoformat()),
        422,
        "ends within",
    ),
    ("an exemption granted to oneself", lambda: exempt(owner="OLGA-operator"), 422, "another owner"),
    ("an exemption of everything", lambda: exempt(resource="*"), 422, "write it as"),
    (
        "an exemption in another account",
        lambda: exempt(resource=GROUP.replace("1" * 12, "2" * 12)),
        422,
        "111111111111",
    ),
    (
        "a freeze of a control nowhere",
        lambda: {"kind": "freeze", "on": True, "control": "ec2-open-ssh", "reason": "a test"},
        400,
        "account",
    ),
    (
        "a freeze of an unknown control",
        lambda: {
            "kind": "freeze",
            "on": True,
            "control": "no-such",
            "account": "111111111111",
            "reason": "a test",
        },
        422,
        "no control is called",
    ),
    (
        "an enrolment of no account",
        lambda: {"kind": "enrol", "account": "12345", "reason": "a test"},
        400,
        "account",
    ),
    (
        "a redrive of a queue that is none",
        lambda: {"kind": "redrive", "queue": "undo-dlq", "most": 1, "reason": "a test"},
        400,
        "queue",
    ),
    ("no JSON", lambda: b"{", 400, "JSON"),
    ("an unknown command", lambda: {"kind": "unfreeze-everything"}, 400, "kind"),
    ("too much", lambda: b" " * 9000, 400, "8192 bytes"),
)


@pytest.mark.parametrize("body, status, says", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_is_told_in_a_sentence_and_leaves_nothing(
    stage: Stage, body: Any, status: int, says: str
) -> None:
    before = recorded(stage)
    answered, said = post(stage, body(), stage.operator)
    assert answered == status
    assert says in said["error"]
    assert len(said["error"]) > 15
    assert "Traceback" not in said["error"]
    assert recorded(stage) == before


def test_a_command_is_recorded_with_the_user_whom_api_gateway_authenticated(stage: Stage) -> None:
    second = stage.world.create_user(
        "petra-platform",
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}],
        },
    )
    for who, wanted in ((second, Mode.TICKET), (stage.operator, Mode.ACT)):
        result = stage.command(
            SetMode(control="ec2-open-ssh", account=stage.world.account, mode=wanted, reason="by whom?"), who
        )
        last = recorded(stage)[-1]
        assert result.record_id == last["record_id"]
        assert last["type"] == "MODE_CHANGED"
        assert last["data"]["by"] == {"arn": who.arn, "kind": "iam_user", "known": True}
        assert last["actor"]["arn"] == who.arn
        assert last["data"]["after"]["by"] == who.arn
    stored = [
        (record.body, record.hash)
        for record in stage.ledger.system_records(stage.world.account, datetime.now(UTC))
    ]
    assert broken_at(stored) is None


def test_what_stands_already_is_said_and_not_recorded_again(stage: Stage) -> None:
    before = recorded(stage)
    answered, said = post(stage, mode(mode="act"), stage.operator)
    assert (answered, said["changed"]) == (200, False)
    assert "nothing was changed" in said["says"]
    assert recorded(stage) == before


def test_nobody_and_a_developer_are_turned_away_before_the_function_and_nothing_is_recorded(
    stage: Stage,
) -> None:
    before = recorded(stage)
    stage.world.clear_calls()
    assert post(stage, mode(), None)[0] == 403
    assert post(stage, mode(), stage.developer)[0] == 403
    forged = Credentials(stage.operator.access_key_id, "not-her-secret-access-key-00000000000000")
    assert post(stage, mode(), forged)[0] == 403
    assert stage.calls_by("http") == []
    assert recorded(stage) == before


def test_nothing_but_a_post_to_commands_answers(stage: Stage) -> None:
    for path, method in (
        ("/commands/mode", "GET"),
        ("/commands", "POST"),
        ("/", "GET"),
        ("/commands/../cases", "GET"),
    ):
        request = AWSRequest(method, f"{stage.api}{path}")
        signer = Signer(stage.operator.access_key_id, stage.operator.secret_access_key)
        SigV4Auth(signer, "execute-api", stage.world.region).add_auth(request)
        wanted = urllib.request.Request(
            str(request.url), headers=dict(request.headers.items()), method=method
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wanted, timeout=30)
        caught.value.close()
        # 503: a page of the console, which is closed while no policy is set
        assert caught.value.code in {403, 404, 405, 503}


def test_a_commands_record_names_the_request(stage: Stage) -> None:
    answered, said = post(
        stage, {"kind": "enrol", "account": "333333333333", "reason": "a test"}, stage.operator
    )
    assert answered == 200
    stored = stage.ledger.system_records("333333333333", datetime.now(UTC))
    (record,) = [json.loads(one.body) for one in stored]
    assert record["type"] == "ENROLLED"
    assert record["record_id"] == said["record_id"]
    assert re.fullmatch(r"command:\S{8,}", record["source"])
