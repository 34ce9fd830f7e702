"""Who may be whom, and what each may do: the deployed roles' trust, the session of one plan, and the people."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.aws import session_policy
from chalicelib.domain.contract import Call, Mode, Plan
from chalicelib.domain.finding import Target
from local.demo import WORLD
from local.emulator.world import Credentials
from local.stage import Stage
from remediations.ec2_revoke_open_ingress import REMEDIATION
from tests.e2e.scenes import ONLY_443, SSH, as_function, open_quietly

pytestmark = pytest.mark.emulator

MAY_ASSUME = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}],
}


def refusal(deed: Any, *given: Any, **named: Any) -> str:
    """The code with which something was refused; fails when it was not."""
    with pytest.raises(ClientError) as caught:
        deed(*given, **named)
    return str(caught.value.response["Error"]["Code"])


def revoking(group: str, rule: str) -> Plan:
    call = Call(
        service="ec2",
        operation="RevokeSecurityGroupIngress",
        params={"GroupId": group, "SecurityGroupRuleIds": [rule]},
        why="Close port 22 to the Internet.",
        at_most=Mode.ACT,
    )
    return Plan(calls=(call,))


def acting(stage: Stage, group: str, rule: str) -> Credentials:
    """A session of the acting role as the engine would open it for the plan that revokes `rule`."""
    target = Target(
        account=stage.world.account, region=stage.world.region, type="AWS::EC2::SecurityGroup", id=group
    )
    policy = session_policy(REMEDIATION, target, revoking(group, rule))
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role('act')}"
    with as_function(stage, "engine") as engine:
        return stage.world.assume(
            arn, "redress-aaaaaaaaaaaaaaaaaaaa-1-1", credentials=engine, policy=json.loads(policy)
        )


def test_the_session_of_a_plan_reaches_its_group_and_no_other(stage: Stage) -> None:
    target, neighbour = stage.security_group("roles-target"), stage.security_group("roles-neighbour")
    rule, other = open_quietly(stage, target, SSH), open_quietly(stage, neighbour, SSH)
    ec2 = stage.world.client("ec2", acting(stage, target, rule), quiet=True)
    refused = refusal(ec2.revoke_security_group_ingress, GroupId=neighbour, SecurityGroupRuleIds=[other])
    assert refused == "UnauthorizedOperation"
    assert stage.ingress(neighbour) == {(443, WORLD), (SSH, WORLD)}
    ec2.revoke_security_group_ingress(GroupId=target, SecurityGroupRuleIds=[rule])
    assert stage.ingress(target) == ONLY_443


def test_the_session_of_a_plan_that_revokes_can_do_nothing_else(stage: Stage) -> None:
    group = stage.security_group("roles-else")
    rule = open_quietly(stage, group, SSH)
    session = acting(stage, group, rule)
    ec2 = stage.world.client("ec2", session, quiet=True)
    permission = [{"IpProtocol": "tcp", "FromPort": 25, "ToPort": 25, "IpRanges": [{"CidrIp": WORLD}]}]
    deeds: tuple[tuple[Any, dict[str, Any]], ...] = (
        (ec2.authorize_security_group_ingress, {"GroupId": group, "IpPermissions": permission}),
        (ec2.delete_security_group, {"GroupId": group}),
        (ec2.enable_ebs_encryption_by_default, {}),
        (ec2.describe_security_group_rules, {}),
    )
    assert [refusal(deed, **given) for deed, given in deeds] == ["UnauthorizedOperation"] * len(deeds)
    tables = stage.world.client("dynamodb", session, quiet=True)
    assert "AccessDenied" in refusal(tables.scan, TableName=stage.settings.table("cases"))


@pytest.mark.parametrize("role", ["act", "read", "undo", "engine", "http", "notifier", "outbox"])
def test_no_person_takes_on_a_role_of_ours_even_with_the_right_to_assume_any(stage: Stage, role: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    nosy = stage.world.create_user(f"nina-nosy-{role}", MAY_ASSUME)
    for person in (stage.developer, stage.operator, nosy):
        assert "AccessDenied" in refusal(stage.world.assume, arn, credentials=person)


@pytest.mark.parametrize("role", ["undo", "engine", "http"])
def test_the_engine_takes_on_no_role_but_those_that_read_and_act(stage: Stage, role: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    with as_function(stage, "engine") as engine:
        assert "AccessDenied" in refusal(stage.world.assume, arn, credentials=engine)


@pytest.mark.parametrize("function", ["http", "notifier"])
@pytest.mark.parametrize("role", ["act", "read", "undo", "engine"])
def test_who_talks_to_people_takes_on_no_role(stage: Stage, role: str, function: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    with as_function(stage, function) as talker:
        assert "AccessDenied" in refusal(stage.world.assume, arn, credentials=talker)


# -- the tables -------------------------------------------------------------------------------------------------------

TABLES = ("cases", "control_state", "outbox", "audit")
FORGED = "MODE#000000000000#forged"


def key(table: str, pk: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": pk}, **({"sk": {"S": "0000000001"}} if table == "audit" else {})}


def attempts(stage: Stage, who: Credentials, table: str, pk: str = FORGED) -> dict[str, str]:
    """How each way of writing an item into a table ends: `done`, or the code of its refusal."""
    client, name = stage.world.client("dynamodb", who, quiet=True), stage.settings.table(table)
    item = {**key(table, pk), "body": {"S": "{}"}}
    put = {"TableName": name, "Item": item}
    deeds: dict[str, tuple[Any, dict[str, Any]]] = {
        "put": (client.put_item, put),
        "update": (
            client.update_item,
            {
                "TableName": name,
                "Key": key(table, pk),
                "UpdateExpression": "SET body = :b",
                "ExpressionAttributeValues": {":b": {"S": "forged"}},
            },
        ),
        "delete": (client.delete_item, {"TableName": name, "Key": key(table, pk)}),
        "batch": (client.batch_write_item, {"RequestItems": {name: [{"PutRequest": {"Item": item}}]}}),
        "transaction": (client.transact_write_items, {"TransactItems": [{"Put": put}]}),
        "removal in a transaction": (
            client.transact_write_items,
            {"TransactItems": [{"Delete": {"TableName": name, "Key": key(table, pk)}}]},
        ),
    }
    ended = {}
    for what, (deed, given) in deeds.items():
        try:
            deed(**given)
            ended[what] = "done"
        except ClientError as error:
            ended[what] = error.response["Error"]["Code"]
    return ended


@pytest.mark.parametrize("table", TABLES)
def test_no_person_writes_a_table(stage: Stage, table: str) -> None:
    for person in (stage.operator, stage.developer):
        assert set(attempts(stage, person, table).values()) == {"AccessDeniedException"}


CASE = "a" * 20
NOT_FOR_HTTP = (
    ("cases", f"CASE#{CASE}"),
    ("cases", f"CASE#{CASE}#1"),
    ("cases", f"LOCK#{CASE}"),
    ("cases", f"SEEN#event#{CASE}"),
    ("cases", f"TICKET#{CASE}#1"),
    ("outbox", f"ASK#{CASE}-1#1"),
    ("outbox", f"RUN#{CASE}-1#1"),
    ("control_state", "SWEEP#111111111111"),
    ("control_state", "BASELINE#111111111111#ec2-open-ssh"),
    ("control_state", "SPENT#ACCOUNT#111111111111"),
    ("audit", f"{CASE}-1"),
    ("audit", "EVENT#forged"),
)
"""Cases with their plans, locks, tickets, what is told to people, sweeps, limits, and the chains of the engine."""

NOT_FOR_THE_ENGINE = (
    ("cases", f"ANSWERS#{CASE}-1#1"),
    ("audit", f"ANSWER#{CASE}-1#1"),
    ("audit", "SYS#111111111111#202611"),
    *(
        ("control_state", f"{kind}#forged")
        for kind in (
            "MODE",
            "FREEZE",
            "ENROLMENT",
            "OWNER",
            "DEPLOYER",
            "CHAIN",
            "ENGAGEMENT",
            "DOSSIER",
        )
    ),
    ("control_state", "POLICY"),
)
"""What people said and set: whoever carries it out cannot make it up. (An exemption of its own is the undo's right.)"""


NOT_FOR_THE_NOTIFIER = (
    ("cases", f"CASE#{CASE}"),
    ("cases", f"ANSWERS#{CASE}-1#1"),
    ("outbox", f"ASK#{CASE}-1#1"),
    ("audit", f"ANSWER#{CASE}-1#1"),
    ("audit", "SYS#111111111111#202611"),
    ("audit", f"{CASE}-1"),
    *(
        ("control_state", f"{kind}#forged")
        for kind in ("MODE", "FREEZE", "EXEMPTION", "ENGAGEMENT", "DOSSIER")
    ),
    ("control_state", "POLICY"),
)
"""Whoever talks to Slack all day can decide nothing, not even what Slack may decide."""


@pytest.mark.parametrize("table, pk", NOT_FOR_THE_NOTIFIER)
def test_the_notifier_writes_only_what_it_told(stage: Stage, table: str, pk: str) -> None:
    with as_function(stage, "notifier") as notifier:
        assert set(attempts(stage, notifier, table, pk).values()) == {"AccessDeniedException"}


@pytest.mark.parametrize("pk", ["DELIVERIES#forged", "STORM#forged", "TICKETREF#forged#jira"])
def test_what_the_notifier_told_it_remembers_and_nobody_else_says_it_did(stage: Stage, pk: str) -> None:
    with as_function(stage, "notifier") as notifier:
        ended = attempts(stage, notifier, "outbox", pk)
    assert {what for what, how in ended.items() if how == "done"} == {"put", "transaction"}
    _forget(stage, pk, "outbox")
    with as_function(stage, "http") as http:
        assert set(attempts(stage, http, "outbox", pk).values()) == {"AccessDeniedException"}


@pytest.mark.parametrize("table, pk", NOT_FOR_HTTP)
def test_the_http_function_writes_only_what_people_say(stage: Stage, table: str, pk: str) -> None:
    with as_function(stage, "http") as http:
        assert set(attempts(stage, http, table, pk).values()) == {"AccessDeniedException"}


@pytest.mark.parametrize("role", ["engine", "undoer"])
@pytest.mark.parametrize("table, pk", NOT_FOR_THE_ENGINE)
def test_whoever_carries_out_what_people_said_cannot_say_it(
    stage: Stage, role: str, table: str, pk: str
) -> None:
    with as_function(stage, role) as function:
        assert set(attempts(stage, function, table, pk).values()) == {"AccessDeniedException"}


def sending(stage: Stage, who: Credentials, queue: str) -> str:
    """How it ends when somebody sends to a queue: `done`, or the code of the refusal."""
    order = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if queue == "notices" else {}
    sqs = stage.world.client("sqs", who, quiet=True)
    try:
        sqs.send_message(QueueUrl=stage.queue_url(queue), MessageBody='{"sweep": true}', **order)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


@pytest.mark.parametrize("queue", ["events", "commands", "undo", "notices"])
def test_the_http_function_sends_to_no_queue(stage: Stage, queue: str) -> None:
    with as_function(stage, "http") as http:
        assert "AccessDenied" in sending(stage, http, queue)


@pytest.mark.parametrize("queue", ["events", "commands", "undo"])
def test_the_notifier_sends_to_its_own_queue_alone(stage: Stage, queue: str) -> None:
    with as_function(stage, "notifier") as notifier:
        assert "AccessDenied" in sending(stage, notifier, queue)
        assert sending(stage, notifier, "notices") == "done"


def test_no_person_sends_a_notice_though_he_may_send_to_any_queue(stage: Stage) -> None:
    anything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["sqs:*", "sns:*", "secretsmanager:*"], "Resource": "*"}],
    }
    person = stage.world.create_user("paula-power-user", anything)
    assert "AccessDenied" in sending(stage, person, "notices")


# -- secrets and mails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret, reader", [("console", "http"), ("notifier", "notifier")])
def test_a_secret_is_read_by_its_function_and_by_nobody_else(stage: Stage, secret: str, reader: str) -> None:
    """Whoever had the session keys could sign in as anybody: also somebody with every right in Secrets Manager."""
    anything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}],
    }
    person = stage.world.create_user(f"sam-secrets-{secret}", anything)
    name = stage.settings.secret(secret)
    refused = refusal(
        stage.world.client("secretsmanager", person, quiet=True).get_secret_value, SecretId=name
    )
    assert "AccessDenied" in refused
    for function in ("engine", "http", "notifier", "outbox", "undoer"):
        with as_function(stage, function) as credentials:
            client = stage.world.client("secretsmanager", credentials, quiet=True)
            if function == reader:
                assert json.loads(client.get_secret_value(SecretId=name)["SecretString"])
            else:
                assert "AccessDenied" in refusal(client.get_secret_value, SecretId=name)
            assert "AccessDenied" in refusal(client.put_secret_value, SecretId=name, SecretString="{}")


def test_the_first_session_key_is_long_and_random(stage: Stage) -> None:
    with as_function(stage, "http") as http:
        client = stage.world.client("secretsmanager", http, quiet=True)
        value = json.loads(client.get_secret_value(SecretId=stage.settings.secret("console"))["SecretString"])
    assert len(value.pop("session_key")) == 64
    assert value == {"providers": {}, "slack_signing": [], "hooks": {}}


@pytest.mark.parametrize("function", ["notifier", "engine", "http", "outbox", "undoer"])
def test_only_the_notifier_mails_people(stage: Stage, function: str) -> None:
    topic = stage.deployment.outputs["PeopleTopicArn"]
    with as_function(stage, function) as credentials:
        sns = stage.world.client("sns", credentials)
        if function == "notifier":
            sns.publish(TopicArn=topic, Subject="Fixed", Message="x")
            assert stage.world.mails()[-1].role == stage.settings.role("notifier")
        else:
            assert "Authorization" in refusal(sns.publish, TopicArn=topic, Subject="Fixed", Message="x")


def test_nobody_else_mails_people_in_our_name(stage: Stage) -> None:
    anything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sns:*", "Resource": "*"}],
    }
    person = stage.world.create_user("phil-phisher", anything)
    topic = stage.deployment.outputs["PeopleTopicArn"]
    refused = refusal(
        stage.world.client("sns", person).publish, TopicArn=topic, Subject="Approve", Message="x"
    )
    assert "Authorization" in refused


@pytest.mark.parametrize(
    "role, chain", [("http", "ANSWER#forged"), ("engine", f"{CASE}-1"), ("undoer", f"{CASE}-1")]
)
def test_no_function_changes_or_removes_a_record(stage: Stage, role: str, chain: str) -> None:
    with as_function(stage, role) as function:
        ended = attempts(stage, function, "audit", chain)
    # It may add a record: the chain shows what was added out of place.
    assert {what for what, how in ended.items() if how == "done"} == {"put", "transaction"}
    _forget(stage, chain, "audit")


@pytest.mark.parametrize("role", ["act", "read"])
def test_the_roles_in_the_account_know_nothing_of_our_tables(stage: Stage, role: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    with as_function(stage, "engine") as engine:
        session = stage.world.assume(arn, "redress-read", credentials=engine)
    for table in TABLES:
        assert set(attempts(stage, session, table).values()) == {"AccessDeniedException"}


def _forget(stage: Stage, pk: str, table: str) -> None:
    client = stage.world.client("dynamodb", quiet=True)
    client.delete_item(TableName=stage.settings.table(table), Key=key(table, pk))
