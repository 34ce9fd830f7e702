"""Promises about the generated policies and templates, as they are committed."""

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from policy_sentry.querying.actions import get_action_data

import remediations
from chalicelib import catalog
from chalicelib.adapters import tables
from chalicelib.cli import generate, patterns, policies
from chalicelib.domain.control import Status
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.policy import Engagement, PolicySetting
from chalicelib.domain.record import system_chain
from chalicelib.flow import errand
from local.emulator import names

LOGICAL = {
    "engine": "EngineRole",
    "http": "ApiHandlerRole",
    "outbox": "OutboxRole",
    "undoer": "UndoerRole",
    "read": "ReadRole",
    "act": "ActRole",
    "undo": "UndoRole",
    "notifier": "NotifierRole",
}
FUNCTIONS = ("engine", "http", "notifier", "outbox", "undoer")
QUEUES = ("events", "commands", "undo")
LIVE = {name: name for name in QUEUES} | {"notices": "notices.fifo"}
DEAD = {name: f"{name}-dlq" for name in (*QUEUES, "outbox")} | {"notices": "notices-dlq.fifo"}

LONGEST = {
    "AWS::Partition": "aws-us-gov",
    "AWS::AccountId": "1" * 12,
    "AWS::Region": "ap-southeast-2",
    "AWS::URLSuffix": "amazonaws.com.cn",
    "Stage": "s" * 12,
    "HomeAccount": "1" * 12,
    "RestAPI": "a" * 10,
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


def granted(root: Path, name: str) -> dict[str, Any]:
    """The committed policy of that role."""
    loaded: dict[str, Any] = json.loads((root / generate.POLICIES / f"{name}.json").read_text())
    return loaded


def puts(document: dict[str, Any]) -> dict[str, list[str] | None]:
    """Which keys of which table a role may put: None is any."""
    found: dict[str, list[str] | None] = {}
    for action, resource, condition in allowed(document):
        if action == "dynamodb:PutItem":
            assert resource not in found
            keys = condition.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys")
            assert condition in ({}, {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}})
            found[resource.rpartition("${Stage}-")[2]] = keys
    return found


def fits(key: str, forms: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, form) for form in forms)


@pytest.fixture(params=LOGICAL)
def policy(request: pytest.FixtureRequest, root: Path) -> dict[str, Any]:
    return granted(root, request.param)


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
    for name, role in LOGICAL.items():
        (stated,) = home["Resources"][role]["Properties"]["Policies"]
        assert stated["PolicyDocument"] == policies.unresolved(granted(root, name))
    assert {path.stem for path in (root / generate.POLICIES).iterdir()} == set(LOGICAL)


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


@pytest.mark.parametrize("name", ["engine", "http", "notifier", "undoer"])
def test_who_writes_the_ledger_is_denied_the_rest(root: Path, name: str) -> None:
    document = granted(root, name)
    (ledger,) = [one for one in document["Statement"] if one.get("Sid") == "LedgerStays"]
    assert ledger["Effect"] == "Deny"
    assert policies.table("audit") in ledger["Resource"]
    assert {"dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:DeleteTable"} <= set(ledger["Action"])


@pytest.mark.parametrize("name", ["act", "undo"])
def test_the_acting_roles_cannot_touch_redress(root: Path, name: str) -> None:
    document = granted(root, name)
    denies = {one["Sid"]: one for one in document["Statement"] if one["Effect"] == "Deny"}
    assert set(denies) == {"NotOurselves", "NotOurKey", "Never"}
    assert denies["NotOurselves"]["Action"] == ["*"]
    ours = [policies.role("act"), policies.table("audit"), policies.queue("events")]
    ours.append(policies.arn("lambda", "function:redress-${Stage}-engine"))
    ours.append(policies.arn("iam", "user/redress/breakglass", region=""))
    for resource in ours:
        assert [one for one in denies["NotOurselves"]["Resource"] if fnmatch.fnmatchcase(resource, one)], (
            resource
        )


@pytest.mark.parametrize(
    "name, taken",
    [
        ("engine", ["act", "read"]),
        ("undoer", ["read", "undo"]),
        ("http", []),
        ("notifier", []),
        ("outbox", []),
    ],
)
def test_who_acts_never_undoes_and_who_undoes_never_acts(root: Path, name: str, taken: list[str]) -> None:
    document = granted(root, name)
    found = [resource for action, resource, _ in allowed(document) if action.startswith("sts:")]
    assert found == [f"arn:${{AWS::Partition}}:iam::*:role/redress-${{Stage}}-{role}" for role in taken]
    assert {action for action, _, _ in allowed(document) if action.startswith("sts:")} <= {"sts:AssumeRole"}


def test_who_may_put_what(root: Path) -> None:
    every = {"audit": None, "cases": None, "outbox": None}
    assert puts(granted(root, "engine")) == {
        **every,
        "control-state": ["BASELINE#*", "BREAKER#*", "SPENT#*", "SWEEP#*"],
    }
    assert puts(granted(root, "undoer")) == {
        **every,
        "control-state": ["BREAKER#*", "EXEMPTION#*", "SPENT#*"],
    }
    assert puts(granted(root, "http")) == {
        "audit": ["ANSWER#*", "SYS#*"],
        "cases": ["ANSWERS#*"],
        "outbox": ["ERRAND#*"],
        "control-state": [
            *(
                f"{kind}#*"
                for kind in (
                    "BREAKER",
                    "CHAIN",
                    "DEPLOYER",
                    "DOSSIER",
                    "ENGAGEMENT",
                    "ENROLMENT",
                    "EXEMPTION",
                    "FREEZE",
                    "MODE",
                    "OWNER",
                )
            ),
            "POLICY",
        ],
    }
    assert puts(granted(root, "notifier")) == {
        "outbox": ["DELIVERIES#*", "STORM#*", "TICKETREF#*", "ERRAND#*"],
        "control-state": ["FIGURES"],
    }
    assert puts(granted(root, "outbox")) == {}


@pytest.mark.parametrize("name", ["engine", "undoer"])
def test_what_a_person_said_is_written_by_no_one_who_carries_it_out(root: Path, name: str) -> None:
    """An approval that the engine could write would be no approval."""
    (denied,) = [one for one in granted(root, name)["Statement"] if one.get("Sid") == "NotWhatPeopleSay"]
    assert (denied["Effect"], denied["Action"]) == ("Deny", ["dynamodb:PutItem"])
    assert denied["Resource"] == [policies.table("audit"), policies.table("cases")]
    (keys,) = denied["Condition"]["ForAnyValue:StringLike"].values()
    theirs = puts(granted(root, "http"))
    assert keys == [*(theirs["audit"] or ()), *(theirs["cases"] or ())]


def test_who_may_write_which_settings_follows_the_keys_of_the_store() -> None:
    exemption, spent, breaker = (
        tables.exemption_key("1", "c", "r"),
        tables.spent_key(tables.account_spent("1")),
        tables.breaker_key("1", "c"),
    )
    by_people = {
        tables.mode_key("1", "c"),
        tables.freeze_key("ALL"),
        breaker,
        exemption,
        tables.enrolment_key("1"),
        tables.deployer_key("1", "arn"),
        tables.owner_key("1"),
        tables.chain_key("x"),
        PolicySetting.key_of(),
        Engagement.key_of("e"),
        Dossier.key_of("c-1"),
    }
    by_the_engine = {breaker, spent, tables.sweep_key("1"), tables.baseline_key("1", "c")}
    for forms, keys in (
        (policies.SETTINGS, by_people),
        (policies.SWEPT, by_the_engine),
        (policies.UNDONE, {breaker, exemption, spent}),
    ):
        assert {key for key in by_people | by_the_engine if fits(key, forms)} == keys
        assert all(any(fits(key, [form]) for key in keys) for form in forms), "a right that nobody needs"


def test_what_was_told_is_kept_under_the_keys_that_the_notifier_may_write() -> None:
    keys = (tables.deliveries_key("c-1"), tables.storm_key("s"), tables.reference_key("t", "jira"))
    assert all(fits(key, policies.TOLD) for key in keys)
    assert not any(fits(key, policies.ERRANDS) for key in keys)


def test_peoples_answers_are_the_only_items_of_cases_with_such_keys() -> None:
    assert fits(tables.answers_key("c-1", 1), policies.ANSWERS)
    for key in (tables.case_key("c", 1), tables.seen_key("ANSWERS#c", "c")):
        assert not fits(key, policies.ANSWERS)


def test_the_records_and_notices_of_people_have_the_names_that_http_may_write() -> None:
    at = datetime(2031, 5, 7, tzinfo=UTC)
    assert fits(system_chain("1" * 12, at), policies.SAID)
    assert fits(errand.notice(errand.Sweep(), "1", "c", at).id, policies.ERRANDS)


def test_what_each_function_may_read(root: Path) -> None:
    def read(name: str) -> set[tuple[str, str]]:
        return {
            (action.partition(":")[2], resource.rpartition("${Stage}-")[2])
            for action, resource, _ in allowed(granted(root, name))
            if action.startswith("dynamodb:") and action != "dynamodb:PutItem"
        }

    items = {("BatchGetItem", "cases"), ("BatchGetItem", "control-state")}
    assert read("engine") == {*items, ("Query", "audit"), ("Query", "cases/index/by_state")}
    assert read("undoer") == {*items, ("Query", "audit")}
    everything = {("BatchGetItem", table) for table in ("audit", "cases", "control-state", "outbox")}
    lists = {("Query", "cases/index/by_state"), ("Query", "control-state/index/by_kind")}
    assert read("http") == {
        *everything,
        *lists,
        ("Query", "audit"),
        ("Query", "audit/index/*"),
        ("ConditionCheckItem", "cases"),
    }
    assert read("notifier") == {
        *everything,
        *lists,
        ("Query", "audit"),
        ("Query", "audit/index/by_account"),
        ("Query", "outbox/index/by_waiting"),
    }
    assert read("outbox") == {
        ("BatchGetItem", "control-state"),
        *((f"{verb}", "outbox/stream/*") for verb in ("DescribeStream", "GetRecords", "GetShardIterator")),
        ("ListStreams", "*"),
    }


SENDS = {
    "engine": {"events", "commands", "undo", "notices.fifo"},
    "notifier": {"notices.fifo"},
    "outbox": {"commands", "notices.fifo", "outbox-dlq"},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_who_sends_where(root: Path, name: str) -> None:
    sent = {
        resource.rpartition("${Stage}-")[2]
        for action, resource, _ in allowed(granted(root, name))
        if action == "sqs:SendMessage"
    }
    assert sent == SENDS.get(name, set())


def test_each_secret_is_read_by_its_own_function_alone(root: Path, home: dict[str, Any]) -> None:
    """Whoever reads the session keys signs in as anybody; whoever reads Slack's token speaks for us."""
    for secret, reader in (("console", "http"), ("notifier", "notifier")):
        form = f"secret:redress-${{Stage}}/{secret}-??????"
        readers = {
            name
            for name in LOGICAL
            for action, resource, _ in allowed(granted(root, name))
            if action.startswith("secretsmanager:") and resource.endswith(form)
        }
        assert readers == {reader}
        made = home["Resources"][f"{secret.capitalize()}Secret"]
        assert made["Properties"]["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
        assert made["DeletionPolicy"] == "RetainExceptOnCreate"
        policy = home["Resources"][f"{secret.capitalize()}SecretPolicy"]["Properties"]
        assert policy["SecretId"] == {"Ref": f"{secret.capitalize()}Secret"}
        (only,) = policy["ResourcePolicy"]["Statement"]
        assert (only["Effect"], only["Principal"], only["Action"]) == (
            "Deny",
            "*",
            "secretsmanager:GetSecretValue",
        )
        assert only["Condition"] == {
            "ArnNotEquals": {"aws:PrincipalArn": [{"Fn::Sub": policies.role(reader)}]}
        }
    every = [
        action
        for name in LOGICAL
        for action, _, _ in allowed(granted(root, name))
        if action.startswith("secretsmanager:")
    ]
    assert every == ["secretsmanager:GetSecretValue"] * 2
    generated = home["Resources"]["ConsoleSecret"]["Properties"]["GenerateSecretString"]
    assert generated["GenerateStringKey"] not in json.loads(generated["SecretStringTemplate"])
    assert generated["PasswordLength"] >= 64


def test_only_the_notifier_mails_people(root: Path, home: dict[str, Any]) -> None:
    mails = {
        name: resource
        for name in LOGICAL
        for action, resource, _ in allowed(granted(root, name))
        if action.startswith("sns:")
    }
    assert mails == {"notifier": policies.arn("sns", "redress-${Stage}-people")}
    (only,) = home["Resources"]["PeopleTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (only["Effect"], only["Action"]) == ("Deny", "sns:Publish")
    assert only["Condition"] == {
        "ArnNotEquals": {"aws:PrincipalArn": [{"Fn::Sub": policies.role("notifier")}]}
    }
    subscription = home["Resources"]["PeopleSubscription"]
    assert subscription["Condition"] == "MailsPeople"
    assert subscription["Properties"]["FilterPolicy"] == {"audience": ["people"]}


def test_the_policies_are_the_union_of_what_is_declared(root: Path) -> None:
    beside = {"read": {"ec2:DescribeRegions"}}
    for role, field in (("read", "reads"), ("act", "writes"), ("undo", "undo_writes")):
        declared = {
            one.action for remediation in remediations.discover() for one in getattr(remediation, field)
        }
        found = {action for action, _, _ in allowed(granted(root, role))}
        assert found == declared | beside.get(role, set())


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
    for name in FUNCTIONS:
        assert trusted(home, LOGICAL[name]) == {"Principal": {"Service": "lambda.amazonaws.com"}}


@pytest.mark.parametrize("fixture, account", [("home", "${AWS::AccountId}"), ("member", "${HomeAccount}")])
def test_only_the_engine_acts_and_only_the_undoer_undoes(
    fixture: str, account: str, request: pytest.FixtureRequest
) -> None:
    template = request.getfixturevalue(fixture)

    def by(*names: str) -> dict[str, Any]:
        arns = [f"arn:${{AWS::Partition}}:iam::{account}:role/redress-${{Stage}}-{name}" for name in names]
        return {"Principal": {"AWS": [{"Fn::Sub": arn} for arn in arns]}}

    assert trusted(template, "ReadRole") == by("engine", "undoer")
    assert trusted(template, "ActRole") == by("engine")
    assert trusted(template, "UndoRole") == by("undoer")


def test_every_role_of_ours_that_is_trusted_is_made(home: dict[str, Any], member: dict[str, Any]) -> None:
    """Trust in a name that nobody has is trust in whoever takes it first."""
    made = {one["Properties"]["RoleName"]["Fn::Sub"] for one in of_type(home, "AWS::IAM::Role").values()}
    for template in (home, member):
        for role in of_type(template, "AWS::IAM::Role").values():
            said = json.dumps(role["Properties"]["AssumeRolePolicyDocument"])
            assert set(re.findall(r":role/([^\"]+)", said)) <= made
    for role in of_type(home, "AWS::IAM::Role").values():
        said = json.dumps(role["Properties"]["AssumeRolePolicyDocument"])
        first = {LOGICAL[name] for name in re.findall(r":role/redress-\${Stage}-([a-z]+)", said)}
        assert first == set(role.get("DependsOn", ()))


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
    """The rules that listen; schedules do not."""
    return [one for one in every_rule(template) if "EventPattern" in one]


def every_rule(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule["Properties"] for rule in of_type(template, "AWS::Events::Rule").values()]


def rule_arn(rule: dict[str, Any]) -> str:
    bus = "redress-${Stage}/" if "EventBusName" in rule else ""
    return f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/{bus}{rule['Name']['Fn::Sub']}"


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
    found = every_rule(template)
    assert 0 < len(found) <= 300
    for rule in found:
        assert len(json.dumps(rule.get("EventPattern"))) <= patterns.LONGEST
        assert len(rule["Targets"]) <= 5
        assert len(filled(rule["Name"])) <= 64
        for target in rule["Targets"]:
            assert len(target["Id"]) <= 64
            assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] in template["Resources"]


def test_a_queue_admits_just_the_rules_that_send_to_it(template: dict[str, Any]) -> None:
    sent: dict[str, set[str]] = {}
    for rule in every_rule(template):
        for target in rule["Targets"]:
            for arn in (target["Arn"], target["DeadLetterConfig"]["Arn"]):
                if "Fn::GetAtt" in arn:
                    sent.setdefault(arn["Fn::GetAtt"][0], set()).add(rule_arn(rule))
    admitted: dict[str, set[str]] = {}
    for one in of_type(template, "AWS::SQS::QueuePolicy").values():
        (queue,) = one["Properties"]["Queues"]
        for statement in one["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                assert statement["Principal"] == {"Service": "events.amazonaws.com"}
                assert statement["Action"] == "sqs:SendMessage"
                name = template["Resources"][queue["Ref"]]["Properties"]["QueueName"]["Fn::Sub"]
                assert statement["Resource"] == {"Fn::Sub": policies.arn("sqs", name)}
                (sources,) = statement["Condition"]["ArnEquals"].values()
                assert queue["Ref"] not in admitted
                admitted[queue["Ref"]] = {source["Fn::Sub"] for source in sources}
    assert admitted == sent
    assert admitted


def test_every_queue_policy_is_short_enough(template: dict[str, Any]) -> None:
    """docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html."""
    for one in of_type(template, "AWS::SQS::QueuePolicy").values():
        assert len(compact(filled(one["Properties"]["PolicyDocument"]))) <= 8_192


def test_time_is_a_source_and_says_just_what_the_engine_reads(home: dict[str, Any]) -> None:
    schedules = {rule["Name"]["Fn::Sub"]: rule for rule in every_rule(home) if "ScheduleExpression" in rule}
    resend = schedules.pop("redress-${Stage}-resend")
    assert set(schedules) == {"redress-${Stage}-tick", "redress-${Stage}-sweep"}
    (target,) = resend["Targets"]
    assert (resend["ScheduleExpression"], resend["State"]) == ("rate(5 minutes)", "ENABLED")
    assert target["Arn"] == {"Fn::GetAtt": ["NoticesQueue", "Arn"]}
    assert target["SqsParameters"] == {"MessageGroupId": "sweep"}
    told = target["InputTransformer"]
    assert told["InputPathsMap"] == {"at": "$.time"}, (
        "a body that is always the same is dropped as a repetition"
    )
    assert json.loads(told["InputTemplate"].replace("<at>", "2031-05-07T00:00:00Z"))["sweep"] is True
    dead = home["Resources"][target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0]]["Properties"]
    assert "FifoQueue" not in dead, "EventBridge's dead letters go to standard queues"
    for rule in schedules.values():
        assert "EventPattern" not in rule
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Fn::GetAtt": ["CommandsQueue", "Arn"]}
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["CommandsDeadLetters", "Arn"]}}
    tick, sweep = schedules["redress-${Stage}-tick"], schedules["redress-${Stage}-sweep"]
    assert errand.ERRAND.validate_json(tick["Targets"][0]["Input"]) == errand.Tick()
    assert errand.ERRAND.validate_json(sweep["Targets"][0]["Input"]) == errand.Sweep()
    assert (tick["ScheduleExpression"], tick["State"]) == ("rate(5 minutes)", "ENABLED")
    assert (sweep["ScheduleExpression"], sweep["State"]) == ({"Ref": "SweepSchedule"}, {"Ref": "SweepState"})
    parameters = home["Parameters"]
    assert (parameters["SweepSchedule"]["Default"], parameters["SweepState"]["Default"]) == (
        "rate(1 day)",
        "ENABLED",
    )
    form = parameters["SweepSchedule"]["AllowedPattern"]
    assert [bool(re.search(form, text)) for text in ("rate(1 day)", "cron(0 3 * * ? *)", "1 day", "")] == [
        True,
        True,
        False,
        False,
    ]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def test_nothing_but_the_engine_can_put_anything_on_the_undo_queue(home: dict[str, Any]) -> None:
    target = filled({"Fn::Sub": policies.queue("undo")})

    def names_it(text: str) -> bool:
        """By its logical id, or by an ARN that fits it."""
        arn = text.startswith("arn:") and fnmatch.fnmatchcase(target, filled({"Fn::Sub": text}))
        return arn or bool(re.search(r"\bUndoQueue\b", text))

    named = {
        name
        for name, resource in home["Resources"].items()
        if any(names_it(text) for text in texts(resource.get("Properties")))
    }
    # Its policy; whom it starts; who sends; who receives; its dead letters, which only the engine moves back; and two
    # roles that are denied all of ours.
    assert named == {
        "UndoQueuePolicy",
        "Undoer",
        "EngineRole",
        "UndoerRole",
        "UndoDeadLetters",
        "ActRole",
        "UndoRole",
    }
    policy = home["Resources"]["UndoQueuePolicy"]["Properties"]["PolicyDocument"]
    assert [statement["Effect"] for statement in policy["Statement"]] == ["Deny"]
    (source,) = home["Resources"]["Undoer"]["Properties"]["Events"].values()
    assert source["Properties"]["Queue"] == {"Fn::GetAtt": ["UndoQueue", "Arn"]}
    sends = {
        name
        for name, role in LOGICAL.items()
        for action, resource, _ in allowed(
            filled(home["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"])
        )
        if fnmatch.fnmatchcase("sqs:SendMessage", action) and fnmatch.fnmatchcase(target, resource)
    }
    assert sends == {"engine"}


def test_no_role_of_ours_starts_a_function(policy: dict[str, Any]) -> None:
    assert not [action for action, _, _ in allowed(policy) if action.startswith("lambda:")]


@pytest.mark.parametrize(
    "queue, senders",
    [
        ("events", ["engine"]),
        ("commands", ["engine", "outbox"]),
        ("undo", ["engine"]),
        ("notices", ["engine", "notifier", "outbox"]),
    ],
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
    assert denied["Resource"] == {"Fn::Sub": policies.queue(LIVE[queue])}
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
    assert set(queues) == {f"redress-${{Stage}}-{name}" for name in (*LIVE.values(), *DEAD.values())}
    for properties in queues.values():
        assert properties["SqsManagedSseEnabled"] is True
        assert properties["MessageRetentionPeriod"] == 14 * 24 * 3600
    for name, live in LIVE.items():
        properties = queues[f"redress-${{Stage}}-{live}"]
        target = properties["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        dead = home["Resources"][target]["Properties"]
        assert dead["QueueName"] == {"Fn::Sub": f"redress-${{Stage}}-{DEAD[name]}"}
        assert dead["RedriveAllowPolicy"]["sourceQueueArns"] == [{"Fn::Sub": policies.queue(live)}]
        assert properties["RedrivePolicy"]["maxReceiveCount"] == (1000 if name == "notices" else 5)
        assert properties["VisibilityTimeout"] == {"Ref": "VisibilitySeconds"}
    assert home["Parameters"]["VisibilitySeconds"]["Default"] == 6 * 60


def test_only_the_notices_keep_an_order_and_both_of_their_queues_do(home: dict[str, Any]) -> None:
    for resource in of_type(home, "AWS::SQS::Queue").values():
        properties = resource["Properties"]
        assert properties.get("FifoQueue", False) is properties["QueueName"]["Fn::Sub"].endswith(".fifo")
    notices = home["Resources"]["NoticesQueue"]["Properties"]
    assert (notices["DeduplicationScope"], notices["FifoThroughputLimit"]) == (
        "messageGroup",
        "perMessageGroupId",
    )
    # Without it EventBridge may not send there.
    assert notices["ContentBasedDeduplication"] is True


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
        writers = ["engine", "http", "undoer", *(["notifier"] if name == "OutboxTable" else [])]
        assert [one["Fn::Sub"] for one in allowed] == [policies.role(writer) for writer in writers]
        assert bool(rest) is ("audit" in json.dumps(table["Properties"]["TableName"]).lower()), name
        for statement in rest:
            assert "Condition" not in statement
            assert "dynamodb:UpdateItem" in statement["Action"]


def test_the_key_admits_whoever_uses_a_table_and_the_reader_of_the_stream_to_read(
    home: dict[str, Any],
) -> None:
    statements = {one["Sid"]: one for one in home["Resources"]["Key"]["Properties"]["KeyPolicy"]["Statement"]}
    through = {
        "Tables": ("dynamodb", ["engine", "http", "undoer", "notifier"]),
        "Stream": ("dynamodb", ["outbox"]),
        "Secrets": ("secretsmanager", ["http", "notifier"]),
        "Mails": ("sns", ["notifier"]),
    }
    assert set(statements) == {"Account", "Alarms", *through}
    for sid, (service, who) in through.items():
        condition = statements[sid]["Condition"]
        assert condition["ArnEquals"] == {
            "aws:PrincipalArn": [{"Fn::Sub": policies.role(name)} for name in who]
        }
        assert condition["StringEquals"]["kms:CallerAccount"] == {"Ref": "AWS::AccountId"}
        assert condition["StringEquals"]["kms:ViaService"] == {
            "Fn::Sub": f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}"
        }
    assert statements["Stream"]["Action"] == ["kms:Decrypt", "kms:DescribeKey"]
    assert statements["Secrets"]["Action"] == ["kms:Decrypt", "kms:DescribeKey"]
    assert statements["Mails"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]


def test_everything_that_can_stop_working_has_an_alarm(home: dict[str, Any]) -> None:
    watched = {
        (alarm["Properties"]["MetricName"], dimension["Value"]["Fn::Sub"].removeprefix("redress-${Stage}-"))
        for alarm in of_type(home, "AWS::CloudWatch::Alarm").values()
        for dimension in alarm["Properties"]["Dimensions"]
    }
    dead = {("ApproximateNumberOfMessagesVisible", name) for name in DEAD.values()}
    late = {("ApproximateAgeOfOldestMessage", name) for name in LIVE.values()} | {("IteratorAge", "outbox")}
    broken = {(metric, name) for metric in ("Errors", "Throttles") for name in FUNCTIONS}
    assert watched == dead | late | broken
    queues = {
        one["Properties"]["QueueName"]["Fn::Sub"].removeprefix("redress-${Stage}-")
        for one in of_type(home, "AWS::SQS::Queue").values()
    }
    assert {name for _, name in dead | late} == queues | {"outbox"}


def test_a_stack_set_can_run_the_members_template(member: dict[str, Any]) -> None:
    assert "Transform" not in member
    for name in ("Boundary", "ReadRole", "ActRole", "UndoRole"):
        assert member["Resources"][name]["Condition"] == "HasRoles"
