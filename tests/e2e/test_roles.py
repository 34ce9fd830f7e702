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


@pytest.mark.parametrize("role", ["act", "read", "undo", "engine", "http"])
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


@pytest.mark.parametrize("role", ["act", "read", "undo", "engine"])
def test_the_http_function_takes_on_no_role(stage: Stage, role: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    with as_function(stage, "http") as http:
        assert "AccessDenied" in refusal(stage.world.assume, arn, credentials=http)


# -- the tables -------------------------------------------------------------------------------------------------------

ITEM = (("pk", "S", "MODE#000000000000#forged"), ("sk", "S", "0000000001"), ("body", "S", "{}"))
TABLES = ("cases", "control_state", "outbox", "audit")


def item() -> dict[str, dict[str, str]]:
    return {name: {kind: value} for name, kind, value in ITEM}


def key(table: str) -> dict[str, dict[str, str]]:
    return {
        name: value for name, value in item().items() if name == "pk" or (table == "audit" and name == "sk")
    }


def attempts(stage: Stage, who: Credentials, table: str) -> dict[str, str]:
    """How each way of writing a table ends: `done`, or the code of its refusal."""
    client, name = stage.world.client("dynamodb", who, quiet=True), stage.settings.table(table)
    put = {"TableName": name, "Item": item()}
    deeds: dict[str, tuple[Any, dict[str, Any]]] = {
        "put": (client.put_item, put),
        "update": (
            client.update_item,
            {
                "TableName": name,
                "Key": key(table),
                "UpdateExpression": "SET body = :b",
                "ExpressionAttributeValues": {":b": {"S": "forged"}},
            },
        ),
        "delete": (client.delete_item, {"TableName": name, "Key": key(table)}),
        "batch": (client.batch_write_item, {"RequestItems": {name: [{"PutRequest": {"Item": item()}}]}}),
        "transaction": (client.transact_write_items, {"TransactItems": [{"Put": put}]}),
        "removal in a transaction": (
            client.transact_write_items,
            {"TransactItems": [{"Delete": {"TableName": name, "Key": key(table)}}]},
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


@pytest.mark.parametrize("table", ["cases", "outbox"])
def test_the_http_function_writes_neither_cases_nor_messages(stage: Stage, table: str) -> None:
    with as_function(stage, "http") as http:
        assert set(attempts(stage, http, table).values()) == {"AccessDeniedException"}


@pytest.mark.parametrize("role", ["http", "engine"])
def test_no_function_changes_or_removes_a_record(stage: Stage, role: str) -> None:
    with as_function(stage, role) as function:
        ended = attempts(stage, function, "audit")
    # It may add a record: the chain shows what was added out of place.
    assert {what for what, how in ended.items() if how == "done"} == {"put", "transaction"}
    _forget(stage)


@pytest.mark.parametrize("role", ["act", "read"])
def test_the_roles_in_the_account_know_nothing_of_our_tables(stage: Stage, role: str) -> None:
    arn = f"arn:aws:iam::{stage.world.account}:role/{stage.settings.role(role)}"
    with as_function(stage, "engine") as engine:
        session = stage.world.assume(arn, "redress-read", credentials=engine)
    for table in TABLES:
        assert set(attempts(stage, session, table).values()) == {"AccessDeniedException"}


def _forget(stage: Stage) -> None:
    table = stage.world.client("dynamodb", quiet=True)
    table.delete_item(TableName=stage.settings.table("audit"), Key=key("audit"))
