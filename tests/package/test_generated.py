"""Promises about the generated policies and templates, as they are committed."""

import fnmatch
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from policy_sentry.querying.actions import get_action_data

import remediations
from chalicelib import catalog
from chalicelib.adapters import dynamodb
from chalicelib.cli import generate, patterns, policies
from chalicelib.domain.control import Status
from chalicelib.domain.record import system_chain
from local.emulator import names

ROLES = ("engine", "read", "act", "undo", "http")

LONGEST = {
    "AWS::Partition": "aws-us-gov",
    "AWS::AccountId": "1" * 12,
    "AWS::Region": "ap-southeast-2",
    "AWS::URLSuffix": "amazonaws.com.cn",
    "Stage": "s" * 12,
    "HomeAccount": "1" * 12,
    "HomeBusArn": "arn:aws-us-gov:events:us-gov-west-1:111111111111:event-bus/redress-ssssssssssss",
}


def filled(value: Any) -> Any:
    """`value` as CloudFormation would leave it in a deployment with the longest names."""
    if isinstance(value, dict):
        if set(value) == {"Fn::Sub"}:
            return re.sub(r"\$\{([A-Za-z:]+)\}", lambda match: LONGEST[match[1]], value["Fn::Sub"])
        if set(value) == {"Ref"}:
            return LONGEST.get(value["Ref"], value["Ref"])
        return {key: filled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner) for inner in value]
    return value


def of_type(template: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        name: resource for name, resource in template["Resources"].items() if resource.get("Type") == kind
    }


def compact(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def allowed(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every allowed action on every resource, with the condition."""
    for statement in document["Statement"]:
        if statement["Effect"] == "Allow":
            for action in policies.listed(statement["Action"]):
                for resource in policies.listed(statement["Resource"]):
                    yield action, resource, statement.get("Condition", {})


@pytest.fixture(params=ROLES)
def policy(request: pytest.FixtureRequest, root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / generate.POLICIES / f"{request.param}.json").read_text())
    return loaded


@pytest.fixture(params=["home", "member"])
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = request.getfixturevalue(request.param)
    return loaded


# ------------------------------------------------------------------------------------------------------------ the files


def test_what_is_committed_is_what_would_be_generated(root: Path) -> None:
    texts = generate.generate(root)
    assert {path: path.read_text("utf-8") for path in texts} == texts
    assert generate.generate(root) == texts


def test_the_roles_have_the_committed_policies_word_for_word(root: Path, home: dict[str, Any]) -> None:
    logical = {
        "engine": "EngineRole",
        "http": "ApiHandlerRole",
        "read": "ReadRole",
        "act": "ActRole",
        "undo": "UndoRole",
    }
    for name, role in logical.items():
        committed = json.loads((root / generate.POLICIES / f"{name}.json").read_text())
        (granted,) = home["Resources"][role]["Properties"]["Policies"]
        assert granted["PolicyDocument"] == policies.unresolved(committed)


def test_the_acting_roles_are_the_same_everywhere(home: dict[str, Any], member: dict[str, Any]) -> None:
    for role in ("ReadRole", "ActRole", "UndoRole"):
        here, there = (one["Resources"][role]["Properties"] for one in (home, member))
        assert here["RoleName"] == there["RoleName"]
        assert here["Policies"] == there["Policies"]


def test_the_vendored_remediations_are_ours(root: Path) -> None:
    link = root / "vendor" / "remediations"
    assert link.is_symlink()
    assert link.readlink() == Path("../remediations")


# ------------------------------------------------------------------------------------------------------------- policies


def test_every_action_exists(policy: dict[str, Any]) -> None:
    for statement in policy["Statement"]:
        for action in policies.listed(statement["Action"]):
            if statement["Effect"] == "Deny" and "*" in action:
                continue
            service, name = action.split(":")
            assert get_action_data(service, name), f"IAM has no action {action}"


def test_no_action_is_granted_by_a_wildcard(policy: dict[str, Any]) -> None:
    assert not [action for action, _, _ in allowed(policy) if "*" in action]


def test_a_write_on_everything_is_of_an_action_without_a_resource_type(policy: dict[str, Any]) -> None:
    for action, resource, _ in allowed(policy):
        if resource != "*":
            continue
        service, name = action.split(":")
        known = get_action_data(service, name)[service]
        if known[0]["access_level"] in {"Read", "List"}:
            continue
        assert {row["resource_arn_format"] for row in known} == {"*"}, f"{action} could name its resource"


def test_nobody_may_do_what_must_never_be_done(policy: dict[str, Any]) -> None:
    for action, resource, _ in allowed(policy):
        assert not [never for never in policies.NEVER if fnmatch.fnmatchcase(never, action)], action
        if resource == "*":
            assert action not in {"iam:PassRole", "iam:AttachRolePolicy"}


def test_a_transaction_is_granted_by_its_parts(root: Path, template: dict[str, Any]) -> None:
    assert "TransactWriteItems" not in json.dumps(template)
    assert not [path for path in generate.generate(root) if "TransactWriteItems" in path.read_text()]


def test_the_ledger_is_only_ever_added_to(root: Path, policy: dict[str, Any]) -> None:
    changing = [
        a
        for a, _, _ in allowed(policy)
        if re.match(r"dynamodb:(Update|Delete|BatchWrite|PartiQL|Restore)", a)
    ]
    assert changing == []


@pytest.mark.parametrize("name", ["engine", "http"])
def test_who_writes_the_ledger_is_denied_the_rest(root: Path, name: str) -> None:
    document = json.loads((root / generate.POLICIES / f"{name}.json").read_text())
    (ledger,) = [one for one in document["Statement"] if one.get("Sid") == "LedgerStays"]
    assert ledger["Effect"] == "Deny"
    assert policies.table("audit") in ledger["Resource"]
    assert {"dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:DeleteTable"} <= set(ledger["Action"])


@pytest.mark.parametrize("name", ["act", "undo"])
def test_the_acting_roles_cannot_touch_redress(root: Path, name: str) -> None:
    document = json.loads((root / generate.POLICIES / f"{name}.json").read_text())
    denies = {one["Sid"]: one for one in document["Statement"] if one["Effect"] == "Deny"}
    assert set(denies) == {"NotOurselves", "NotOurKey", "Never"}
    assert denies["NotOurselves"]["Action"] == ["*"]
    ours = [policies.role("act"), policies.table("audit"), policies.queue("events")]
    ours.append(policies.arn("lambda", "function:redress-${Stage}-engine"))
    for resource in ours:
        assert [one for one in denies["NotOurselves"]["Resource"] if fnmatch.fnmatchcase(resource, one)], (
            resource
        )


def test_the_engine_takes_on_two_roles_and_the_console_none(root: Path) -> None:
    engine = json.loads((root / generate.POLICIES / "engine.json").read_text())
    taken = sorted(resource for action, resource, _ in allowed(engine) if action == "sts:AssumeRole")
    assert taken == [
        "arn:${AWS::Partition}:iam::*:role/redress-${Stage}-act",
        "arn:${AWS::Partition}:iam::*:role/redress-${Stage}-read",
    ]
    assert "sts:" not in (root / generate.POLICIES / "http.json").read_text()


def test_who_may_write_which_settings_follows_the_keys_of_the_store() -> None:
    def fits(key: str, forms: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatchcase(key, form) for form in forms)

    by_people = (
        dynamodb._mode_key("1", "c"),
        dynamodb._freeze_key("ALL"),
        dynamodb._exemption_key("1", "c", "r"),
        dynamodb._enrolment_key("1"),
        dynamodb._chain_key("x"),
    )
    spent = dynamodb._spent_key(dynamodb.account_spent("1"))
    assert all(fits(key, policies.SETTINGS) and not fits(key, policies.SPENT) for key in by_people)
    assert fits(spent, policies.SPENT)
    assert not fits(spent, policies.SETTINGS)


def test_the_records_of_commands_are_the_http_functions_and_all_others_the_engines(root: Path) -> None:
    said = {name: json.loads((root / generate.POLICIES / f"{name}.json").read_text()) for name in ROLES}
    audit = [
        condition
        for action, resource, condition in allowed(said["http"])
        if (action, resource) == ("dynamodb:PutItem", policies.table("audit"))
    ]
    assert audit == [{"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["SYS#*"]}}]
    (denied,) = [one for one in said["engine"]["Statement"] if one["Sid"] == "NoCommands"]
    assert (denied["Effect"], denied["Action"]) == ("Deny", ["dynamodb:PutItem"])
    assert denied["Resource"] == [policies.table("audit")]
    assert denied["Condition"] == {"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": ["SYS#*"]}}
    chain = system_chain("1" * 12, datetime(2031, 5, 7, tzinfo=UTC))
    assert fnmatch.fnmatchcase(chain, "SYS#*")


def test_the_policies_are_the_union_of_what_is_declared(root: Path) -> None:
    for role, field in (("read", "reads"), ("act", "writes"), ("undo", "undo_writes")):
        declared = {
            one.action for remediation in remediations.discover() for one in getattr(remediation, field)
        }
        document = json.loads((root / generate.POLICIES / f"{role}.json").read_text())
        assert {action for action, _, _ in allowed(document)} == declared


# ---------------------------------------------------------------------------------------------------------------- roles


def test_every_role_is_bounded_named_and_short(template: dict[str, Any]) -> None:
    roles = of_type(template, "AWS::IAM::Role")
    assert roles
    for role in roles.values():
        properties = role["Properties"]
        assert (
            template["Resources"][properties["PermissionsBoundary"]["Ref"]]["Type"]
            == "AWS::IAM::ManagedPolicy"
        )
        assert len(filled(properties["RoleName"])) <= 64
        assert properties["MaxSessionDuration"] == 3600
        assert properties["Tags"] == [{"Key": policies.TAG, "Value": {"Ref": "Stage"}}]
        inline = sum(len(compact(filled(one["PolicyDocument"]))) for one in properties["Policies"])
        assert inline <= 10_240, "docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"


def test_every_boundary_fits_and_covers_what_its_roles_are_granted(template: dict[str, Any]) -> None:
    for name, managed in of_type(template, "AWS::IAM::ManagedPolicy").items():
        document = managed["Properties"]["PolicyDocument"]
        assert len(compact(filled(document))) <= 6_144, (
            "docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"
        )
        within = {action for action, _, _ in allowed(filled(document))}
        for role in of_type(template, "AWS::IAM::Role").values():
            if role["Properties"]["PermissionsBoundary"] == {"Ref": name}:
                (granted,) = role["Properties"]["Policies"]
                assert {action for action, _, _ in allowed(filled(granted["PolicyDocument"]))} <= within


def trusted(template: dict[str, Any], logical: str) -> dict[str, Any]:
    (statement,) = template["Resources"][logical]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")
    return {key: statement[key] for key in ("Principal", "Condition") if key in statement}


def test_the_functions_roles_are_lambdas_alone(home: dict[str, Any]) -> None:
    for logical in ("EngineRole", "ApiHandlerRole"):
        assert trusted(home, logical) == {"Principal": {"Service": "lambda.amazonaws.com"}}


@pytest.mark.parametrize("fixture, account", [("home", "${AWS::AccountId}"), ("member", "${HomeAccount}")])
def test_read_and_act_trust_the_engine_and_undo_trusts_nobody(
    fixture: str, account: str, request: pytest.FixtureRequest
) -> None:
    template = request.getfixturevalue(fixture)
    iam = f"arn:${{AWS::Partition}}:iam::{account}"
    engine = {"Principal": {"AWS": {"Fn::Sub": f"{iam}:role/redress-${{Stage}}-engine"}}}
    assert trusted(template, "ReadRole") == engine
    assert trusted(template, "ActRole") == engine
    (nobody,) = template["Resources"]["UndoRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert nobody == {
        "Sid": "Nobody",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "sts:AssumeRole",
    }


def test_every_role_of_ours_that_is_trusted_is_made(home: dict[str, Any], member: dict[str, Any]) -> None:
    """Trust in a name that nobody has is trust in whoever takes it first."""
    made = {one["Properties"]["RoleName"]["Fn::Sub"] for one in of_type(home, "AWS::IAM::Role").values()}
    for template in (home, member):
        for role in of_type(template, "AWS::IAM::Role").values():
            said = json.dumps(role["Properties"]["AssumeRolePolicyDocument"])
            assert set(re.findall(r":role/([^\"]+)", said)) <= made


# --------------------------------------------------------------------------------------------------------------- events


def event(source: str, name: str, **detail: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "1",
        "source": f"aws.{source.partition('.')[0]}",
        "detail-type": "AWS API Call via CloudTrail",
        "account": "111111111111",
        "time": "2026-01-01T00:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {"eventSource": source, "eventName": name, **detail},
    }


def rules(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule["Properties"] for rule in of_type(template, "AWS::Events::Rule").values()]


def test_every_event_of_every_control_is_heard_once_on_each_bus(
    home: dict[str, Any], member: dict[str, Any]
) -> None:
    on_default = [rule for rule in rules(home) if "EventBusName" not in rule]
    on_ours = [rule for rule in rules(home) if rule.get("EventBusName") == {"Ref": "HomeBus"}]
    wanted = [
        (rule.source, name)
        for control in catalog.load().controls
        if control.status is not Status.RETIRED
        for rule in control.events
        for name in rule.names
    ]
    assert wanted
    for bus in (on_default, on_ours, rules(member)):
        for source, name in wanted:
            assert [names.matches(rule["EventPattern"], event(source, name)) for rule in bus].count(True) == 1


def test_what_failed_and_what_nobody_did_is_not_heard() -> None:
    heard = patterns.pattern("ec2.amazonaws.com", ["AuthorizeSecurityGroupIngress"])
    happened = event("ec2.amazonaws.com", "AuthorizeSecurityGroupIngress")
    assert names.matches(heard, happened)
    assert not names.matches(heard, {**happened, "source": "redress.forged"})
    assert not names.matches(
        heard, {**happened, "detail": {**happened["detail"], "errorCode": "AccessDenied"}}
    )
    assert not names.matches(heard, event("ec2.amazonaws.com", "RunInstances"))


def test_every_rule_is_within_eventbridges_limits(template: dict[str, Any]) -> None:
    found = rules(template)
    assert 0 < len(found) <= 300
    for rule in found:
        assert len(json.dumps(rule["EventPattern"])) <= patterns.LONGEST
        assert len(rule["Targets"]) <= 5
        assert len(filled(rule["Name"])) <= 64
        for target in rule["Targets"]:
            assert len(target["Id"]) <= 64
            assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] in template["Resources"]


def test_only_our_rules_may_send(template: dict[str, Any]) -> None:
    by_bus = {
        f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/{bus}{rule['Name']['Fn::Sub']}"
        for rule in rules(template)
        for bus in ["redress-${Stage}/" if "EventBusName" in rule else ""]
    }
    found = [
        statement
        for one in of_type(template, "AWS::SQS::QueuePolicy").values()
        for statement in one["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Allow"
    ]
    assert found
    for statement in found:
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Action"] == "sqs:SendMessage"
        (sources,) = statement["Condition"]["ArnEquals"].values()
        assert {source["Fn::Sub"] for source in sources} == by_bus


@pytest.mark.parametrize(
    "queue, senders", [("events", ["engine"]), ("commands", ["engine", "http"]), ("undo", ["engine"])]
)
def test_nobody_but_its_own_senders_may_write_to_a_queue(
    home: dict[str, Any], queue: str, senders: list[str]
) -> None:
    """An Allow adds; only a Deny keeps out whoever has sqs:SendMessage on * in the home account."""
    wanted = {"Ref": f"{queue.capitalize()}Queue"}
    (document,) = [
        one["Properties"]["PolicyDocument"]
        for one in of_type(home, "AWS::SQS::QueuePolicy").values()
        if one["Properties"]["Queues"] == [wanted]
    ]
    (denied,) = [one for one in document["Statement"] if one["Effect"] == "Deny"]
    assert (denied["Principal"], denied["Action"]) == ("*", "sqs:SendMessage")
    assert denied["Resource"] == {"Fn::Sub": policies.queue(queue)}
    assert denied["Condition"] == {
        "Bool": {"aws:PrincipalIsAWSService": "false"},
        "ArnNotEquals": {"aws:PrincipalArn": [{"Fn::Sub": policies.role(name)} for name in senders]},
    }


def test_the_home_bus_admits_the_organization_or_nobody(home: dict[str, Any]) -> None:
    (bus,) = of_type(home, "AWS::Events::EventBus").values()
    condition, admitted, otherwise = bus["Properties"]["Policy"]["Fn::If"]
    assert (condition, otherwise) == ("AdmitsOrganization", {"Ref": "AWS::NoValue"})
    (statement,) = admitted["Statement"]
    assert statement["Action"] == "events:PutEvents"
    assert statement["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": {"Ref": "OrganizationId"}}}


# ----------------------------------------------------------------------------------------------------- tables and queues


def test_every_queue_is_encrypted_and_gives_up_into_a_queue_of_its_own(home: dict[str, Any]) -> None:
    queues = {
        resource["Properties"]["QueueName"]["Fn::Sub"]: resource["Properties"]
        for resource in of_type(home, "AWS::SQS::Queue").values()
    }
    assert set(queues) == {
        f"redress-${{Stage}}-{name}{dlq}" for name in ("events", "commands", "undo") for dlq in ("", "-dlq")
    }
    for name, properties in queues.items():
        assert properties["SqsManagedSseEnabled"] is True
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
        if not name.endswith("-dlq"):
            target = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
            assert home["Resources"][target]["Properties"]["QueueName"] == {"Fn::Sub": f"{name}-dlq"}
            assert properties["RedrivePolicy"]["maxReceiveCount"] == 5
    assert home["Parameters"]["VisibilitySeconds"]["Default"] == 6 * 60


def test_every_table_outlives_its_stack(home: dict[str, Any]) -> None:
    tables = {
        resource["Properties"]["TableName"]["Fn::Sub"]: resource
        for resource in of_type(home, "AWS::DynamoDB::Table").values()
    }
    assert set(tables) == {
        f"redress-${{Stage}}-{name}" for name in ("cases", "control-state", "outbox", "audit")
    }
    for resource in tables.values():
        properties = resource["Properties"]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert properties["DeletionProtectionEnabled"] is True
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert properties["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
        assert "TimeToLiveSpecification" not in properties
    assert tables["redress-${Stage}-audit"]["Properties"]["StreamSpecification"] == {
        "StreamViewType": "NEW_AND_OLD_IMAGES"
    }


def test_no_person_can_write_a_table_and_nobody_can_change_a_record(home: dict[str, Any]) -> None:
    tables = of_type(home, "AWS::DynamoDB::Table")
    assert len(tables) == 4
    for name, table in tables.items():
        first, *rest = table["Properties"]["ResourcePolicy"]["PolicyDocument"]["Statement"]
        assert (first["Effect"], first["Principal"]) == ("Deny", "*")
        assert {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"} <= set(first["Action"])
        allowed = first["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
        assert [str(one["Fn::Sub"]).rsplit("-", 1)[-1] for one in allowed] == ["engine", "http"]
        assert bool(rest) is ("audit" in json.dumps(table["Properties"]["TableName"]).lower()), name
        for statement in rest:
            assert "Condition" not in statement
            assert "dynamodb:UpdateItem" in statement["Action"]


def test_every_queue_of_dead_letters_has_an_alarm(home: dict[str, Any]) -> None:
    watched = {
        dimension["Value"]["Fn::Sub"]
        for alarm in of_type(home, "AWS::CloudWatch::Alarm").values()
        for dimension in alarm["Properties"]["Dimensions"]
    }
    assert {f"redress-${{Stage}}-{name}-dlq" for name in ("events", "commands", "undo")} <= watched
    assert {"redress-${Stage}-events", "redress-${Stage}-engine"} <= watched


def test_a_stack_set_can_run_the_members_template(member: dict[str, Any]) -> None:
    assert "Transform" not in member
    for name in ("Boundary", "ReadRole", "ActRole", "UndoRole"):
        assert member["Resources"][name]["Condition"] == "HasRoles"
