"""What would be deployed: the zip that Lambda would unpack and the template that CloudFormation would read."""

import fnmatch
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from chalicelib.adapters.tables import notice_item
from chalicelib.cli import deploy, package
from chalicelib.flow import errand
from chalicelib.flow.errand import NOTICE
from local.emulator import names

pytestmark = pytest.mark.package

ENGINE, HTTP, NOTIFIER, OUTBOX, UNDOER = (
    f"redress-${{Stage}}-{name}" for name in ("engine", "http", "notifier", "outbox", "undoer")
)

RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six.py", "urllib3")
"""What Lambda's Python runtime has beside the standard library
(docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-include)."""

IMPORT_ALL = """
import sys
sys.path[:0] = sys.argv[1:]
import app
import remediations
found = remediations.discover()
from chalicelib import catalog
print(len(found), len(catalog.load().controls), sorted(name for name in vars(app) if name.startswith("on_")))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def template_of(built: package.Package) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(built.template.read_text("utf-8"))
    return loaded


def names_in(built: package.Package) -> list[str]:
    with zipfile.ZipFile(built.zip) as archive:
        return archive.namelist()


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the runtime holds, and nothing else of this environment."""
    folder = tmp_path_factory.mktemp("runtime")
    site = Path(boto3.__file__).parents[1]
    for name in RUNTIME:
        (folder / name).symlink_to(site / name)
    return folder


# ---------------------------------------------------------------------------------------------------------------- zip


def test_lambda_can_import_the_app_and_every_remediation(
    full: package.Package, runtime: Path, tmp_path: Path, root: Path
) -> None:
    with zipfile.ZipFile(full.zip) as archive:
        archive.extractall(tmp_path)
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(tmp_path), str(runtime)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counted, loaded = done.stdout.splitlines()
    written = [path.stem for path in (root / "remediations").glob("*.py") if path.stem != "__init__"]
    remediations, controls, handlers = counted.split(" ", 2)
    assert int(remediations) == len(written) > 0
    assert int(controls) > 0
    assert handlers == "['on_events', 'on_notices', 'on_outbox', 'on_undo']"
    assert not {"typer", "rich", "click", "yaml", "local", "tests", "pytest"} & set(loaded.split())


def test_nothing_ships_that_is_not_needed(full: package.Package) -> None:
    shipped = names_in(full)
    assert [name for name in shipped if name.startswith("chalice/")] == [
        "chalice/__init__.py",
        "chalice/app.py",
    ]
    unwanted = re.compile(
        r"(^|/)(__pycache__|tests?|typer|rich|boto3|botocore|pip|local|docs|bench)/|\.pyc$|^chalicelib/cli/"
    )
    ours = [name for name in shipped if name.startswith(("chalicelib/", "remediations/", "app.py"))]
    assert [name for name in ours if unwanted.search(name)] == []
    tops = {name.partition("/")[0] for name in shipped}
    assert not tops & {
        "typer",
        "rich",
        "boto3",
        "botocore",
        "tests",
        "local",
        "docs",
        "vendor",
        ".chalice",
        "click",
    }
    assert [name for name in shipped if name.endswith(".pyc")] == []


def test_all_that_lies_in_the_rooms_ships_with_them(light: package.Package, root: Path) -> None:
    """Pages, styles and catalogs are no modules: whoever forgets them finds out in Lambda."""
    lies = {
        str(path.relative_to(root))
        for path in (root / "chalicelib").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.relative_to(root).parts[1] != "cli"
    }
    assert lies <= set(names_in(light))
    assert [name for name in lies if name.endswith(".toml")]


def test_the_package_is_small(full: package.Package) -> None:
    assert full.zip.stat().st_size <= 15 * 1024 * 1024


def test_the_same_tree_is_the_same_package(light: package.Package, root: Path, tmp_path: Path) -> None:
    again = package.package(root, tmp_path, "dev", with_dependencies=False)
    assert again.sha256 == light.sha256
    assert again.zip.read_bytes() == light.zip.read_bytes()
    assert again.template.read_bytes() == light.template.read_bytes()


def test_a_stage_changes_a_default_and_no_code(light: package.Package, root: Path, tmp_path: Path) -> None:
    other = package.package(root, tmp_path, "prod", with_dependencies=False)
    assert other.sha256 == light.sha256
    assert template_of(other)["Parameters"]["Stage"]["Default"] == "prod"
    assert template_of(light)["Parameters"]["Stage"]["Default"] == "dev"


def test_without_dependencies_it_holds_our_own_code_alone(light: package.Package) -> None:
    tops = {name.partition("/")[0] for name in names_in(light)}
    assert tops == {"app.py", "chalice", "chalicelib", "remediations"}


def test_both_packages_have_one_template(light: package.Package, full: package.Package) -> None:
    assert light.template.read_bytes() == full.template.read_bytes()


def test_a_tree_that_cannot_be_packaged_is_an_error_with_the_reason(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("app.py", "requirements.txt", "chalicelib", ".chalice"):
        tree.mkdir(exist_ok=True)
        (tree / name).symlink_to(root / name)
    (tree / "remediations").mkdir()
    (tree / "remediations" / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    with pytest.raises(package.PackageError, match="broken on purpose"):
        package.package(tree, tmp_path / "out", "dev", with_dependencies=False)


# ----------------------------------------------------------------------------------------------------------- template


@pytest.fixture(scope="session")
def template(light: package.Package) -> dict[str, Any]:
    return template_of(light)


def walked(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walked(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walked(inner)


def test_the_linter_accepts_both_templates(light: package.Package, root: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("cfn-lint")),
        str(light.template),
        str(root / ".chalice/member.yaml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_cloudformation_can_read_it(light: package.Package) -> None:
    text = light.template.read_text("utf-8")
    assert len(text.encode()) <= 1_000_000
    assert not re.search(r"(^|\s)[&*]id\d", text), "aliases are refused"


def test_no_merge_left_two_intrinsics_in_one_place(template: dict[str, Any]) -> None:
    for found in walked(template["Resources"]):
        if any(key == "Ref" or key.startswith("Fn::") for key in found):
            assert len(found) == 1, found


def test_chalice_and_the_generated_file_mean_the_same_resources(template: dict[str, Any]) -> None:
    assert [name for name, resource in template["Resources"].items() if "Type" not in resource] == []


def test_every_log_group_is_the_one_its_function_writes_to(template: dict[str, Any]) -> None:
    found = {
        resource["Properties"]["LogGroupName"]["Fn::Sub"]: resource["Properties"]["RetentionInDays"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Logs::LogGroup"
    }
    functions = {f"/aws/lambda/{name}": 400 for name in (ENGINE, HTTP, NOTIFIER, OUTBOX, UNDOER)}
    assert found == {**functions, "/aws/apigateway/redress-${Stage}": 400}


def test_the_functions_are_ours_by_name_role_and_time(template: dict[str, Any]) -> None:
    found = {
        resource["Properties"]["FunctionName"]["Fn::Sub"]: resource["Properties"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert set(found) == {ENGINE, HTTP, NOTIFIER, OUTBOX, UNDOER}
    handlers = {name: one["Handler"] for name, one in found.items()}
    assert handlers == {
        ENGINE: "app.on_events",
        HTTP: "app.app",
        NOTIFIER: "app.on_notices",
        OUTBOX: "app.on_outbox",
        UNDOER: "app.on_undo",
    }
    assert {name: (one["Timeout"], one["MemorySize"]) for name, one in found.items()} == {
        ENGINE: (60, 512),
        HTTP: (29, 1024),
        NOTIFIER: (60, 512),
        OUTBOX: (60, 512),
        UNDOER: (60, 512),
    }
    for name, one in found.items():
        role = template["Resources"][one["Role"]["Fn::GetAtt"][0]]["Properties"]
        assert role["RoleName"] == {"Fn::Sub": name}


def test_the_environment_is_small_and_complete(template: dict[str, Any]) -> None:
    from chalicelib import settings

    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            variables = resource["Properties"]["Environment"]["Variables"]
            assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", name) for name in variables)
            assert len(json.dumps(variables)) <= 2048, (
                "Lambda holds 4 KB; names filled in are shorter than that again"
            )
            given = dict.fromkeys(variables, "30") | {"AWS_REGION": "us-east-1"}
            assert settings.from_environment(given).stage == "30"


@pytest.mark.parametrize(
    "function, queues",
    [
        ("Engine", {"EventsQueue", "CommandsQueue"}),
        ("Undoer", {"UndoQueue"}),
        ("Notifier", {"NoticesQueue"}),
    ],
)
def test_a_queue_hands_over_one_message_at_a_time(
    template: dict[str, Any], function: str, queues: set[str]
) -> None:
    events = template["Resources"][function]["Properties"]["Events"]
    found = set()
    for source in events.values():
        properties = source["Properties"]
        assert source["Type"] == "SQS"
        assert properties["BatchSize"] == 1
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert properties["ScalingConfig"]["MaximumConcurrency"] >= 2
        found.add(properties["Queue"]["Fn::GetAtt"][0])
    assert found == queues


def test_the_outboxs_stream_wakes_its_function_for_all_that_is_told_and_never_stands_still(
    template: dict[str, Any],
) -> None:
    (source,) = template["Resources"]["Outbox"]["Properties"]["Events"].values()
    properties = source["Properties"]
    assert source["Type"] == "DynamoDB"
    assert properties["Stream"] == {"Fn::GetAtt": ["OutboxTable", "StreamArn"]}
    assert properties["StartingPosition"] == "TRIM_HORIZON"
    assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert properties["BisectBatchOnFunctionError"] is True
    assert 0 < properties["MaximumRetryAttempts"] < 100
    given_up = properties["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0]
    assert template["Resources"][given_up]["Properties"]["QueueName"] == {"Fn::Sub": f"{OUTBOX}-dlq"}
    (only,) = properties["FilterCriteria"]["Filters"]
    wanted = json.loads(only["Pattern"])
    image = notice_item(errand.notice(errand.Tick(), "1", "c", datetime(2031, 5, 7, tzinfo=UTC)))
    remembered = {name: value for name, value in image.items() if name != "kind"}
    for name, known, woken in (
        ("INSERT", {**image, "kind": {"S": NOTICE}}, True),
        ("MODIFY", {**image, "kind": {"S": NOTICE}}, True),
        ("REMOVE", {**image, "kind": {"S": NOTICE}}, False),
        ("INSERT", {**image, "kind": {"S": "run_fixed"}}, True),
        ("INSERT", remembered, False),
    ):
        assert names.matches(wanted, {"eventName": name, "dynamodb": {"NewImage": known}}) is woken


def ways_in(template: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Every method and path of the API, and whether IAM stands before it."""
    for path, verbs in template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]["paths"].items():
        for verb, method in verbs.items():
            assert method.get("security") in (None, [{"sigv4": []}])
            yield verb.upper(), path, "security" in method


def test_every_command_over_http_is_signed(template: dict[str, Any]) -> None:
    ways = list(ways_in(template))
    assert ("POST", "/commands/{kind}", True) in ways
    for verb, path, signed in ways:
        assert signed is path.startswith("/commands/"), path
        assert verb in {"GET", "POST"}, path


def reached(policy: dict[str, Any], effect: str, verb: str, path: str) -> list[str]:
    """The statements of that effect that speak of a request."""
    arn = f"execute-api:/api/{verb}{path.replace('{', '').replace('}', '')}"
    return [
        statement["Sid"]
        for statement in policy["Statement"]
        if statement["Effect"] == effect
        and any(fnmatch.fnmatchcase(arn, form) for form in statement["Resource"])
    ]


def test_a_policy_of_the_api_admits_every_page_and_no_command(template: dict[str, Any]) -> None:
    """An Allow on a command would be one for whoever is signed in to our account, with no right at all in IAM."""
    api = template["Resources"]["RestAPI"]["Properties"]
    private, inside, otherwise = api["DefinitionBody"]["x-amazon-apigateway-policy"]["Fn::If"]
    some, addressed, nothing = otherwise["Fn::If"]
    assert (private, some, nothing) == ("IsPrivate", "AdmitsSome", {"Ref": "AWS::NoValue"})
    for verb, path, signed in ways_in(template):
        if signed:
            assert reached(inside, "Allow", verb, path) == reached(addressed, "Allow", verb, path) == []
            assert reached(addressed, "Deny", verb, path) == ["CommandsFromElsewhere"]
            assert reached(inside, "Deny", verb, path) == ["Elsewhere"]
            continue
        machine = path.startswith(("/slack/", "/hooks/"))
        assert reached(inside, "Allow", verb, path) == ["Inside"], path
        assert reached(addressed, "Allow", verb, path) == ["Signed" if machine else "Console"], path
        assert reached(addressed, "Deny", verb, path) == []
    conditions = {one["Sid"]: one.get("Condition") for one in (*addressed["Statement"], *inside["Statement"])}
    cidrs, endpoints = {"Ref": "AllowedCidrs"}, {"Ref": "VpcEndpointIds"}
    assert conditions == {
        "Console": {"IpAddress": {"aws:SourceIp": cidrs}},
        "Signed": None,
        "CommandsFromElsewhere": {"NotIpAddress": {"aws:SourceIp": cidrs}},
        "Inside": None,
        "Elsewhere": {"StringNotEquals": {"aws:SourceVpce": endpoints}},
    }
    assert api["EndpointConfiguration"]["Type"] == {"Ref": "ApiEndpoint"}


def test_nothing_of_a_requests_query_or_body_is_logged(template: dict[str, Any]) -> None:
    condition, log, otherwise = template["Resources"]["RestAPI"]["Properties"]["AccessLogSetting"]["Fn::If"]
    assert (condition, otherwise) == ("LogsAccess", {"Ref": "AWS::NoValue"})
    said = json.loads(log["Format"])
    assert {"requestId", "path", "status", "identity.sourceIp"} <= set(said)
    assert not re.search(r"(?i)query|body|header|cookie|input", log["Format"])


def test_a_web_acl_is_one_of_ours_or_somebodys_or_none(template: dict[str, Any]) -> None:
    ours, association = (template["Resources"][name] for name in ("OwnWebAcl", "WebAclAssociation"))
    assert (ours["Condition"], association["Condition"]) == ("MakesWebAcl", "HasWebAcl")
    assert association["Properties"]["WebACLArn"] == {
        "Fn::If": ["MakesWebAcl", {"Fn::GetAtt": ["OwnWebAcl", "Arn"]}, {"Ref": "WebAcl"}]
    }
    form = template["Parameters"]["WebAcl"]["AllowedPattern"]
    arn = "arn:aws:wafv2:eu-west-1:111111111111:regional/webacl/mine/1"
    given = ("", "create", arn, "arn:aws:wafv2:us-east-1:111111111111:global/webacl/mine/1")
    assert [bool(re.search(form, text)) for text in given] == [True, True, True, False]
    kinds = {rule["Name"]: rule["Statement"] for rule in ours["Properties"]["Rules"]}
    assert kinds["rate"]["RateBasedStatement"]["AggregateKeyType"] == "IP"
    spared = kinds["common"]["ManagedRuleGroupStatement"]["ScopeDownStatement"]["NotStatement"]["Statement"]
    starts = [one["ByteMatchStatement"]["SearchString"] for one in spared["OrStatement"]["Statements"]]
    for _, path, signed in ways_in(template):
        machine = signed or path.startswith(("/slack/", "/hooks/"))
        assert any(f"/api{path}".startswith(start) for start in starts) is machine, path


def test_a_change_of_who_may_reach_the_api_deploys_it_anew(light: package.Package) -> None:
    """A resource policy holds from the next deployment on, and SAM does not see a parameter's value."""

    def deployments(given: dict[str, str], before: dict[str, Any] | None) -> list[str]:
        written = template_of(light)
        deploy._say_who_reaches_the_api(written, deploy._values(written, given, before))
        return [
            name
            for name, resource in expanded(written)["Resources"].items()
            if resource["Type"] == "AWS::ApiGateway::Deployment"
        ]

    some = {"AllowedCidrs": "192.0.2.0/24"}
    stands = {"Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in some.items()]}
    anybody, few = deployments({}, None), deployments(some, None)
    assert len(anybody) == len(few) == 1
    assert anybody != few
    assert deployments({}, stands) == few, "what is not given again stays"
    assert deployments({"AllowedCidrs": ""}, stands) == anybody
    assert deployments({"LimitPerActor": "7"}, None) == anybody


def expanded(template: dict[str, Any]) -> dict[str, Any]:
    """The template as SAM leaves it."""
    # SAM's translator ships no annotations.
    translator = import_module("samtranslator.translator.transform")
    loader = import_module("samtranslator.translator.managed_policy_translator").ManagedPolicyLoader(None)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    made: dict[str, Any] = translator.transform(template, {}, loader, None)
    return made


def test_what_sam_makes_of_it_is_within_cloudformations_limits(template: dict[str, Any]) -> None:
    written = expanded(template)
    kinds = [resource["Type"] for resource in written["Resources"].values()]
    assert len(kinds) <= 500
    assert len(written["Outputs"]) <= 200
    assert kinds.count("AWS::ApiGateway::Stage") == 1
    assert kinds.count("AWS::IAM::Role") == 8
    # What the association of a web ACL waits for.
    assert written["Resources"]["RestAPIapiStage"]["Type"] == "AWS::ApiGateway::Stage"
    started = sorted(
        (one["Properties"]["FunctionName"]["Ref"], *one["Properties"]["EventSourceArn"]["Fn::GetAtt"])
        for one in written["Resources"].values()
        if one["Type"] == "AWS::Lambda::EventSourceMapping"
    )
    assert started == [
        ("Engine", "CommandsQueue", "Arn"),
        ("Engine", "EventsQueue", "Arn"),
        ("Notifier", "NoticesQueue", "Arn"),
        ("Outbox", "OutboxTable", "StreamArn"),
        ("Undoer", "UndoQueue", "Arn"),
    ]
    # Nothing else starts a function: no service but API Gateway has leave to, and only the HTTP function's.
    permitted = [
        (one["Properties"]["FunctionName"]["Ref"], one["Properties"]["Principal"])
        for one in written["Resources"].values()
        if one["Type"] == "AWS::Lambda::Permission"
    ]
    assert permitted == [("APIHandler", "apigateway.amazonaws.com")]
