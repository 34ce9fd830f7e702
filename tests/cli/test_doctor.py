"""The doctor against an emulated account: what is well, what is not, and what to do about it."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, get_args

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.cli.doctor import TABLES, Check, Doctor, Health
from chalicelib.cli.ledger import Books
from chalicelib.cli.teamwork import EXAMPLES
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import StoreError
from chalicelib.domain.finding import GLOBAL
from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.domain.ports import Enrolment, Exemption, Freeze, ModeSetting
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.domain.sweep import Sweep
from chalicelib.flow.errand import Queue
from chalicelib.flow.visit import OWN_ROLES
from chalicelib.settings import Settings

pytestmark = pytest.mark.thorough

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
HOME = "123456789012"
SETTINGS = Settings(stage="dev", account=HOME, region="us-east-1")
TRUST: Mapping[str, Any] = MappingProxyType(
    {"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com"]}, "Action": "sts:AssumeRole"}
)


@pytest.fixture
def account() -> Iterator[None]:
    with mock_aws():
        yield


def deploy(
    *,
    protected: bool = True,
    trust: Mapping[str, Any] = TRUST,
    state: Literal["ENABLED", "DISABLED"] = "ENABLED",
) -> None:
    """Everything that the doctor looks at, as a healthy deployment has it."""
    dynamodb, sqs, events, iam = (
        boto3.client("dynamodb"),
        boto3.client("sqs"),
        boto3.client("events"),
        boto3.client("iam"),
    )
    for name in TABLES:
        dynamodb.create_table(
            TableName=SETTINGS.table(name),
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=protected,
        )
    dynamodb.update_table(
        TableName=SETTINGS.table("outbox"),
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "waiting", "since")
        ],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by_waiting",
                    "KeySchema": [
                        {"AttributeName": "waiting", "KeyType": "HASH"},
                        {"AttributeName": "since", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    for name in get_args(Queue):
        for full in (SETTINGS.queue(name), SETTINGS.queue(f"{name}-dlq")):
            sqs.create_queue(
                QueueName=full, Attributes={"FifoQueue": "true"} if full.endswith(".fifo") else {}
            )
    events.put_rule(Name="redress-dev-ec2", EventPattern='{"source": ["aws.ec2"]}', State=state)
    for name in OWN_ROLES:
        document = json.dumps({"Version": "2012-10-17", "Statement": [dict(trust)]})
        iam.create_role(RoleName=SETTINGS.role(name), AssumeRolePolicyDocument=document)


def examine(ledger: Any) -> dict[str, list[Check]]:
    books = Books(HOME, ledger, ledger.case, ledger.dossier)
    found: dict[str, list[Check]] = {}
    for check in Doctor(SETTINGS, boto3.client, lambda: books, NOW).checks():  # type: ignore[arg-type]  # one overload for each service
        found.setdefault(check.name, []).append(check)
    return found


def bad(found: dict[str, list[Check]]) -> list[Check]:
    return [check for checks in found.values() for check in checks if check.health is not Health.OK]


@pytest.fixture
def ledger(redress: Any) -> Any:
    redress.ledger.tell()
    redress.ledger.stored = [
        type(one)(one.body.replace("111122223333", HOME), one.hash) for one in redress.ledger.stored
    ]
    redress.ledger.swept = [a_sweep()]
    redress.ledger.standing = a_policy()
    return redress.ledger


def a_policy(name: str = "security-team", **changes: Any) -> PolicySetting:
    read = tomllib.loads((EXAMPLES / f"{name}.toml").read_text(encoding="utf-8"))
    for shift in read.get("schedules", {}).get("primary", [])[:1]:
        shift |= {"starts": NOW, "ends": NOW + timedelta(days=7)}
    policy = Policy.model_validate_json(json.dumps({**read, **changes}, default=_text))
    return PolicySetting(policy=policy, by="olga", at=NOW, reason="r")


def _text(value: Any) -> str:
    return str(value.isoformat())


def a_sweep(**changes: Any) -> Sweep:
    begun = NOW - timedelta(hours=20)
    whole = Sweep(
        id="s1", account=HOME, by="the schedule", started_at=begun, expected=("a",), completed_at=begun
    )
    return whole.model_copy(update=changes)


@pytest.mark.usefixtures("account")
def test_a_healthy_deployment_is_well_in_every_check(ledger: Any) -> None:
    deploy()
    assert bad(examine(ledger)) == []


@pytest.mark.usefixtures("account")
def test_what_did_not_get_to_somebody_is_a_warning_with_where_to_look(ledger: Any) -> None:
    deploy()
    item = {"pk": "DELIVERIES#c-1", "waiting": "yes", "since": "2031-05-07T12:00:00.000Z"}
    boto3.client("dynamodb").put_item(
        TableName=SETTINGS.table("outbox"), Item={name: {"S": said} for name, said in item.items()}
    )
    (check,) = bad(examine(ledger))
    assert (check.name, check.health) == ("news", Health.WARN)
    assert check.says.startswith("1 case has news, or a ticket, on the way")


@pytest.mark.usefixtures("account")
def test_an_account_without_a_deployment_is_told_in_one_line_what_to_do(ledger: Any) -> None:
    found = examine(ledger)
    assert list(found) == ["credentials", "deployment"]
    assert found["deployment"][0].health is Health.FAIL
    assert "make deploy STAGE=dev" in found["deployment"][0].says


@pytest.mark.usefixtures("account")
def test_half_a_deployment_fails_and_every_check_is_still_made(ledger: Any) -> None:
    boto3.client("dynamodb").create_table(
        TableName=SETTINGS.table("audit"),
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    found = examine(ledger)
    assert {check.health for check in found["table cases"]} == {Health.FAIL}
    assert found["rules"][0].says == "no rule brings us events: deploy again"
    assert found["role act"][0].health is Health.WARN
    assert found["last record"][0].health is Health.OK


def test_tables_that_may_not_be_described_are_not_taken_for_absent(ledger: Any) -> None:
    class Denied:
        class exceptions:  # noqa: N801 -- botocore's own name
            class ResourceNotFoundException(Exception):  # noqa: N818 -- botocore's own name
                pass

        def describe_table(self, **_: object) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeTable")

    books = Books(HOME, ledger, ledger.case, ledger.dossier)
    assert Doctor(SETTINGS, lambda _service: Denied(), lambda: books, NOW)._nowhere() is False


OURS = "arn:aws:iam::123456789012:role/redress-dev-undoer"


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "condition, health",
    [
        ({"ArnEquals": {"aws:PrincipalArn": OURS}}, Health.OK),
        ({"StringEquals": {"AWS:PrincipalARN": [OURS]}}, Health.OK),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::123456789012:role/*"}}, Health.FAIL),
        ({"ArnEquals": {"aws:PrincipalArn": []}}, Health.FAIL),
        ({"ArnEquals": {"aws:SourceArn": OURS}}, Health.FAIL),
        ({"ArnNotEquals": {"aws:PrincipalArn": OURS}}, Health.FAIL),
    ],
)
def test_trust_in_the_account_is_exact_only_where_a_condition_names_the_role(
    ledger: Any, condition: dict[str, Any], health: Health
) -> None:
    whole = {**TRUST, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Condition": condition}
    deploy(trust=whole)
    assert examine(ledger)["role undo"][0].health is health


@pytest.mark.usefixtures("account")
def test_tables_without_protection_wide_trust_and_rules_switched_off_are_found(ledger: Any) -> None:
    wide = {**TRUST, "Principal": {"AWS": ["arn:aws:iam::123456789012:root", "*"]}}
    deploy(protected=False, trust=wide, state="DISABLED")
    found = examine(ledger)
    assert "deletion protection" in found["table audit"][0].says
    assert found["rules"][0].says.startswith("switched off: redress-dev-ec2")
    assert found["role act"][0].health is Health.FAIL
    assert "trusts arn:aws:iam::123456789012:root, *" in found["role act"][0].says


@pytest.mark.usefixtures("account")
def test_a_role_that_nobody_may_take_on_is_said_to_be_so(ledger: Any) -> None:
    deploy(trust={**TRUST, "Effect": "Deny", "Principal": {"AWS": "*"}})
    (found,) = examine(ledger)["role undo"]
    assert (found.health, found.says) == (Health.OK, "redress-dev-undo trusts nobody")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, None])
def test_every_form_of_trusting_everybody_is_seen(ledger: Any, principal: Any) -> None:
    trust = {name: value for name, value in {**TRUST, "Principal": principal}.items() if value}
    deploy(trust=trust)
    assert examine(ledger)["role read"][0].health is Health.FAIL


@pytest.mark.usefixtures("account")
def test_dead_letters_fail_and_say_how_they_are_tried_again(ledger: Any) -> None:
    deploy()
    sqs = boto3.client("sqs")
    sqs.send_message(
        QueueUrl=sqs.get_queue_url(QueueName="redress-dev-events-dlq")["QueueUrl"], MessageBody="x"
    )
    (check,) = bad(examine(ledger))
    assert (check.name, check.health) == ("queue events", Health.FAIL)
    assert "redress redrive events" in check.says


@pytest.mark.usefixtures("account")
def test_what_waits_and_what_ends_soon_is_advice_and_no_failure(ledger: Any) -> None:
    deploy()
    ledger.ask()
    for days, code in ((13, "accepted_risk"), (2, "snooze"), (15, "compensating"), (-1, "undo")):
        exemption = Exemption(
            account=HOME,
            control="c",
            resource=f"r-{code}",
            owner="ann",
            code=code,
            reason="r",
            by="jane",
            at=NOW,
            expires_at=NOW + timedelta(days=days),
        )
        ledger.granted.append(exemption)
    found = bad(examine(ledger))
    assert {check.health for check in found} == {Health.WARN}
    assert [(check.name, check.says) for check in found] == [
        ("asks", "1 waits for an answer, the first until 2031-05-07T19:00:00.000Z: `redress waiting`"),
        ("exemptions", "r-accepted_risk is exempt from c until 2031-05-20T12:00:00.000Z only; ask ann"),
    ]


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "sweeps, health, says",
    [
        ([], Health.WARN, "was never swept"),
        ([a_sweep(account="444455556666")], Health.WARN, "was never swept"),
        (
            [a_sweep(started_at=NOW - timedelta(days=2, seconds=1))],
            Health.WARN,
            "was last swept at 2031-05-05T11",
        ),
        ([a_sweep(started_at=NOW - timedelta(days=2))], Health.OK, "was swept at 2031-05-05T12"),
        ([a_sweep(completed_at=None)], Health.WARN, "did not end"),
        ([a_sweep(completed_at=None, started_at=NOW - timedelta(hours=1))], Health.OK, "was swept at"),
    ],
)
def test_an_account_that_is_not_swept_is_told(
    ledger: Any, sweeps: list[Sweep], health: Health, says: str
) -> None:
    deploy()
    ledger.swept = sweeps
    (found,) = examine(ledger)["sweeps"]
    assert (found.health, says in found.says) == (health, True)


@pytest.mark.usefixtures("account")
def test_a_member_account_that_was_not_swept_for_days_is_swept_by_command(ledger: Any) -> None:
    deploy()
    ledger.members = [Enrolment(account="444455556666", by="jane", at=NOW - timedelta(days=9))]
    late = NOW - timedelta(days=3)
    ledger.swept = [a_sweep(started_at=late), a_sweep(account="444455556666", started_at=late)]
    home, member = (check.says for check in examine(ledger)["sweeps"])
    assert home.endswith("is the schedule's rule on?")
    assert member.endswith("`redress sweep --account 444455556666` sweeps it again")


def raised(mode: Mode) -> ModeSetting:
    return ModeSetting(account=HOME, control="c", mode=mode, by="jane", at=NOW, reason="r")


def switch(scope: str, *, frozen: bool) -> Freeze:
    return Freeze(scope=scope, frozen=frozen, by="jane", at=NOW, reason="incident 7")


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "modes, freezes, health, says",
    [
        ([], [], Health.OK, "not set yet"),
        ([raised(Mode.OBSERVE)], [], Health.OK, "not set yet"),
        ([raised(Mode.ACT)], [], Health.FAIL, "nothing acts"),
        ([raised(Mode.ACT)], [switch("ALL", frozen=False)], Health.OK, "nothing is frozen"),
        (
            [],
            [switch("ALL", frozen=True)],
            Health.WARN,
            "ALL is frozen since 2031-05-07T12:00:00.000Z by jane: incident 7",
        ),
        (
            [],
            [switch("ALL", frozen=False), switch("ACCOUNT#1", frozen=True)],
            Health.WARN,
            "ACCOUNT#1 is frozen",
        ),
    ],
)
def test_the_kill_switch_is_told_as_it_stands(
    ledger: Any, modes: list[ModeSetting], freezes: list[Freeze], health: Health, says: str
) -> None:
    deploy()
    ledger.set_modes, ledger.switches = modes, freezes
    found = examine(ledger)
    assert found["freeze"][0].health is health
    assert says in found["freeze"][0].says
    assert found["modes"][0].says == (
        f"1 × {modes[0].mode.value}" if modes else "every control observes everywhere"
    )


@pytest.mark.usefixtures("account")
def test_a_quiet_account_is_worth_a_look(ledger: Any) -> None:
    deploy()
    ledger.members = [Enrolment(account="444455556666", by="jane", at=NOW - timedelta(days=9))]
    ledger.swept.append(a_sweep(account="444455556666"))
    (check,) = bad(examine(ledger))
    assert "444455556666: nothing was heard for a day" in check.says


@pytest.mark.usefixtures("account")
def test_a_broken_chain_of_settings_is_tampering(ledger: Any) -> None:
    deploy()
    draft = Draft(
        type=RecordType.MODE_CHANGED, source_id="s", step="mode", occurred_at=NOW, account=HOME, region=GLOBAL
    )
    (record,) = seal(f"SYS#{HOME}#203105", Head(), [draft], NOW, "0.1.0")
    stored = type(ledger.stored[0])
    ledger.stored.append(stored(record.body, record.hash))
    assert bad(examine(ledger)) == []
    ledger.stored[-1] = stored(record.body.replace("MODE_CHANGED", "FREEZE_OFF"), record.hash)
    (check,) = bad(examine(ledger))
    assert "treat this as tampering" in check.says


@pytest.mark.usefixtures("account")
def test_tables_that_cannot_be_read_fail_with_the_stores_own_advice(ledger: Any) -> None:
    deploy()

    def denied() -> list[Any]:
        raise StoreError("you lack dynamodb:Query")

    ledger.modes = ledger.enrolments = denied
    found = examine(ledger)
    assert found["freeze and modes"][0].health is Health.FAIL
    assert "you lack dynamodb:Query" in found["settings' records"][0].says


@pytest.mark.usefixtures("account")
def test_every_severity_has_a_quorum_or_the_doctor_says_what_is_missing(ledger: Any) -> None:
    deploy()
    ledger.standing = None
    (none,) = examine(ledger)["policy"]
    assert (none.health, "no policy is set" in none.says) == (Health.WARN, True)

    ledger.standing = a_policy()
    found = examine(ledger)
    assert {found[f"quorum {one}"][0].health for one in ("low", "medium", "high", "critical")} == {Health.OK}
    assert found["quorum critical"][0].says == "rule critical wants 2 of 3"

    only_critical = a_policy().policy.rules[0].model_dump(mode="json")
    everybody = {**only_critical, "quorum": 3}
    ledger.standing = a_policy(rules=[everybody], routes=[])
    found = examine(ledger)
    (critical,) = found["quorum critical"]
    assert (critical.health, "nobody is left" in critical.says) == (Health.WARN, True)
    (low,) = found["quorum low"]
    assert (low.health, "no rule fits" in low.says) == (Health.FAIL, True)
    (routes,) = found["routes"]
    assert (routes.health, "low, medium, high, critical" in routes.says) == (Health.WARN, True)


@pytest.mark.usefixtures("account")
def test_an_address_of_the_console_that_would_be_refused_now_is_named(ledger: Any) -> None:
    deploy()
    assert "console" not in examine(ledger)
    ledger.standing = a_policy(console_url="https://redress.example/api/")
    (found,) = examine(ledger)["console"]
    assert found.health is Health.FAIL
    assert found.says.startswith("console_url https://redress.example/api/: ")
    assert "redress set-policy" in found.says


@pytest.mark.usefixtures("account")
def test_the_hardest_account_counts(ledger: Any) -> None:
    deploy()
    ledger.members = [Enrolment(account="444455556666", by="olga", at=NOW)]
    rules = [rule.model_dump(mode="json") for rule in a_policy().policy.rules]
    ledger.standing = a_policy(
        rules=[{**rules[0], "name": "member", "accounts": ["444455556666"], "quorum": 3}, *rules]
    )
    (critical,) = examine(ledger)["quorum critical"]
    assert (critical.health, critical.says.startswith("rule member wants 3 of 3")) == (Health.WARN, True)


@pytest.mark.usefixtures("account")
def test_controls_that_are_asked_about_together_need_a_quorum_together(ledger: Any) -> None:
    deploy()
    usual = {
        **a_policy().policy.rules[-1].model_dump(mode="json"),
        "severities": [],
        "doors": ["cli", "console"],
    }
    ssh = {**usual, "name": "ssh", "controls": ["ec2-open-ssh"], "approvers": ["anna"], "doors": ["cli"]}
    ledger.standing = a_policy(rules=[ssh, {**usual, "name": "rest", "approvers": ["bert", "carla"]}])
    (high,) = examine(ledger)["quorum high"]
    assert (high.health, "nobody is left" in high.says) == (Health.FAIL, False)
    assert high.says.startswith(
        "rule ssh + rest wants 1 of 0: too few could approve it, so it becomes a ticket"
    )
    ledger.standing = a_policy(rules=[ssh])
    (high,) = examine(ledger)["quorum high"]
    assert (high.health, "no rule fits ec2-open-ssh, ec2-open-rdp" in high.says) == (Health.FAIL, True)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "door, shut",
    [
        ("console", {"providers": []}),
        (
            "console",
            {
                "providers": [
                    {"name": "corp", "title": "Corp", "issuer": "https://idp.example", "client_id": "c"}
                ]
            },
        ),
        ("slack", {"slack_team": None}),
        ("slack", {"slack_team": "T9999999999"}),
    ],
)
def test_a_quorum_that_no_door_lets_in_is_none(ledger: Any, door: str, shut: dict[str, Any]) -> None:
    deploy()
    small = {"name": "small", "severities": ["low"], "approvers": ["group:security"], "doors": [door]}
    usual = {**a_policy().policy.rules[0].model_dump(mode="json"), "severities": [], "doors": ["cli"]}
    usual |= {"login_within_minutes": None}
    ledger.standing = a_policy(rules=[small, usual])
    assert examine(ledger)["quorum low"][0].health is Health.OK
    ledger.standing = a_policy(rules=[small, usual], **shut)
    (low,) = examine(ledger)["quorum low"]
    assert low.health is Health.FAIL
    assert low.says.startswith("rule small wants 1 of 0: too few could approve it")
    assert "slack_team" in low.says
    assert examine(ledger)["quorum high"][0].health is Health.OK


CORP = {"name": "corp", "title": "Corp", "issuer": "https://idp.example", "client_id": "c"}


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    "rule, providers, lacks",
    [
        ({"login_within_minutes": 5}, [], ""),
        ({"login_within_minutes": 6}, [], "login_within_minutes = 5"),
        ({}, [], "login_within_minutes = 5"),
        ({"severities": []}, [], "login_within_minutes = 5"),
        ({"severities": ["high"]}, [CORP], ""),
        ({"login_within_minutes": 5}, [CORP], "mfa = true"),
        ({"login_within_minutes": 5, "mfa": True}, [CORP], ""),
        ({}, [CORP], "login_within_minutes = 5 and mfa = true"),
    ],
)
def test_what_is_critical_is_decided_after_a_recent_sign_in_or_the_doctor_says_so(
    ledger: Any, rule: dict[str, Any], providers: list[dict[str, Any]], lacks: str
) -> None:
    deploy()
    critical = {
        "name": "critical",
        "severities": ["critical"],
        "approvers": ["group:security"],
        "doors": ["console"],
    }
    slack = [one.model_dump(mode="json") for one in a_policy().policy.providers]
    ledger.standing = a_policy(rules=[{**critical, **rule}], providers=[*slack, *providers])
    found = examine(ledger).get("critical sign-ins", [])
    says = f"rule critical takes an approval of what is critical without {lacks}:"
    assert [(one.health, one.says.startswith(says)) for one in found] == (
        [(Health.WARN, True)] if lacks else []
    )


def test_the_example_for_a_security_team_asks_for_a_fresh_sign_in_where_it_is_critical() -> None:
    (critical,) = (one for one in a_policy().policy.rules if one.name == "critical")
    assert (critical.login_within_minutes, [one.value for one in critical.doors]) == (5, ["console"])


@pytest.mark.usefixtures("account")
def test_who_is_on_call_and_cannot_be_mentioned_is_named(ledger: Any) -> None:
    deploy()
    read = a_policy().policy.model_dump(mode="json")
    people = {
        **read["people"],
        "anna": {**read["people"]["anna"], "identities": [f"arn:aws:iam::{HOME}:user/anna"]},
    }
    shift = {"starts": NOW, "ends": NOW + timedelta(hours=2), "people": ["anna", "bert"]}
    ledger.standing = a_policy(people=people, schedules={"primary": [shift]})
    (on_call,) = examine(ledger)["on call"]
    assert on_call == Check(
        "on call",
        Health.WARN,
        "route on-call: on call now without a Slack identity, so that no card mentions them: anna",
    )
    ledger.standing = a_policy(schedules={"primary": [shift]})
    assert "on call" not in examine(ledger)


@pytest.mark.usefixtures("account")
def test_what_a_policy_leaves_open_is_advice(ledger: Any) -> None:
    deploy()
    read = a_policy().policy.model_dump(mode="json")
    people = {
        name: {
            **one,
            "identities": [known for known in one["identities"] if name != "bert" or known[:5] == "slack"],
        }
        for name, one in read["people"].items()
    }
    rules = [{**read["rules"][0], "name": "production", "environments": ["production"]}, *read["rules"]]
    shift = {"starts": NOW + timedelta(hours=1), "ends": NOW + timedelta(hours=2), "people": ["anna"]}
    hours = {"timezone": "Europe/Berlin", "opens": "09:00", "closes": "09:59"}
    ledger.standing = a_policy(
        people=people,
        rules=rules,
        accounts={},
        schedules={"primary": [shift]},
        routes=[*read["routes"], {"name": "brief", "channel": "C0000000009", "hours": hours}],
        providers=[
            {
                "name": f"okta-{number}",
                "title": "Okta",
                "issuer": "https://idp.example",
                "client_id": "c",
                "amr": amr,
            }
            for number, amr in enumerate((["mfa", "otp", "hwk"], ["mfa"], []))
        ],
    )
    found = examine(ledger)
    for name, says in (
        ("on call", "route on-call: schedule:primary has nobody on call now"),
        ("accounts in the policy", f"the policy says nothing of {HOME}"),
        ("own changes", "no identity in AWS is known of bert:"),
        ("hours", "route brief: its hours are less than one a day"),
        ("second factor", "provider okta-0: a sign-in with otp, hwk counts as one with a second factor"),
    ):
        (check,) = found[name]
        assert (check.health, says in check.says) == (Health.WARN, True), check
