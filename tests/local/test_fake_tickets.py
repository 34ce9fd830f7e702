"""The emulated ticket systems bite: each refuses what the real one would, in its words, and fails as it is told to."""

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.fakes.tickets import CREDENTIALS, SECRET, SPECS, TOKEN, USER, FakeTickets

pytestmark = pytest.mark.thorough

BASIC = {
    "Authorization": f"Basic {base64.b64encode(f'{USER}:{TOKEN}'.encode()).decode()}",
    "Content-Type": "application/json",
}
GITHUB = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": "application/json",
    "User-Agent": "test",
    "X-GitHub-Api-Version": "2022-11-28",
}
ISSUES = "/github/repos/example/security/issues"
JIRA = "/jira/rest/api/3"
INCIDENTS = "/servicenow/api/now/table/incident"
DOCUMENT: dict[str, Any] = {
    "type": "doc",
    "version": 1,
    "content": [{"type": "paragraph", "content": [{"type": "text", "text": "x"}]}],
}
FIELDS: dict[str, Any] = {
    "project": {"key": "SEC"},
    "issuetype": {"name": "Task"},
    "summary": "a title",
    "description": DOCUMENT,
    "labels": ["redress"],
}
EVENT = {
    "schema": "redress.ticket/1",
    "id": "0" * 64,
    "event": "ticket.opened",
    "key": "abcdefghijklmnopqrst-t1-0123456789",
    "ticket": {"title": "t", "resource": "r", "state": "open", "severity": "low"},
}


@pytest.fixture
def fake() -> Iterator[FakeTickets]:
    with FakeTickets() as fake:
        yield fake


def ask(
    fake: FakeTickets, method: str, path: str, body: Any = None, headers: Mapping[str, str] = BASIC
) -> tuple[int, Any]:
    host = fake.origin.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, sent, dict(headers))
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
    finally:
        connection.close()


# -- Jira --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed,field",
    [
        ({"description": "plain words"}, "description"),
        (
            {"description": {"type": "doc", "version": 1, "content": [{"type": "text", "text": "bare"}]}},
            "description",
        ),
        (
            {
                "description": {
                    "type": "doc",
                    "version": 1,
                    "content": [{"type": "paragraph", "content": [{"type": "text", "text": ""}]}],
                }
            },
            "description",
        ),
        ({"description": {**DOCUMENT, "content": DOCUMENT["content"] * 1000}}, "description"),
        ({"summary": "two\nlines"}, "summary"),
        ({"summary": "x" * 256}, "summary"),
        ({"labels": ["two words"]}, "0"),
        ({"project": {"key": "OTHER"}}, "project"),
        ({"priority": {"name": "Highest"}}, "fields"),
    ],
)
def test_jira_refuses_a_wrong_issue(fake: FakeTickets, changed: dict[str, Any], field: str) -> None:
    assert ask(fake, "POST", f"{JIRA}/issue", {"fields": FIELDS})[0] == 201
    status, said = ask(fake, "POST", f"{JIRA}/issue", {"fields": {**FIELDS, **changed}})
    assert (status, [*said["errors"]]) == (400, [field])
    assert len(fake.tickets["jira"]) == 1
    assert len(fake.refused) == 1


def test_jira_refuses_what_is_missing_and_what_is_gone(fake: FakeTickets) -> None:
    for left_out in ("project", "issuetype", "summary"):
        fields = {name: value for name, value in FIELDS.items() if name != left_out}
        assert ask(fake, "POST", f"{JIRA}/issue", {"fields": fields})[0] == 400
    assert ask(fake, "POST", f"{JIRA}/issue", {"fields": FIELDS}, headers={})[0] == 401
    assert ask(fake, "POST", f"{JIRA}/issue", b"no JSON")[0] == 400
    assert ask(fake, "GET", f"{JIRA}/search?jql=x")[0] == 410
    assert ask(fake, "GET", f"{JIRA}/issue/SEC-1")[0] == 404
    assert ask(fake, "GET", f"{JIRA}/field")[0] == 404
    assert not fake.tickets["jira"]


def test_jiras_search_takes_no_start_and_only_the_query_that_it_knows(fake: FakeTickets) -> None:
    jql = 'project = "SEC" AND labels = "redress" ORDER BY created ASC'
    ask(fake, "POST", f"{JIRA}/issue", {"fields": FIELDS})
    status, said = ask(fake, "POST", f"{JIRA}/search/jql", {"jql": jql})
    assert (status, [one["key"] for one in said["issues"]]) == (200, ["SEC-1"])
    assert ask(fake, "POST", f"{JIRA}/search/jql", {"jql": jql, "startAt": 0})[0] == 400
    assert ask(fake, "POST", f"{JIRA}/search/jql", {"jql": 'labels = "x" OR project = "y"'})[0] == 400
    fake.lag("jira", 1)
    assert ask(fake, "POST", f"{JIRA}/search/jql", {"jql": jql})[1]["issues"] == []
    assert ask(fake, "POST", f"{JIRA}/search/jql", {"jql": jql})[1]["issues"] != []


def test_jiras_workflow_knows_its_transitions_and_no_others(fake: FakeTickets) -> None:
    ask(fake, "POST", f"{JIRA}/issue", {"fields": FIELDS})
    assert ask(fake, "POST", f"{JIRA}/issue/SEC-1/transitions", {"transition": {"id": "99"}})[0] == 400
    assert ask(fake, "POST", f"{JIRA}/issue/SEC-1/transitions", {"transition": {"name": "Done"}})[0] == 400
    assert ask(fake, "POST", f"{JIRA}/issue/SEC-1/transitions", {"transition": {"id": "31"}})[0] == 204
    assert fake.closed("jira", "SEC-1")
    assert ask(fake, "POST", f"{JIRA}/issue/SEC-1/comment", {"body": "plain"})[0] == 400
    assert ask(fake, "POST", f"{JIRA}/issue/SEC-1/comment", {"body": DOCUMENT})[0] == 201


# -- GitHub ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method,path,body,status",
    [
        ("POST", ISSUES, {"title": "t", "body": "b", "labels": ["redress"]}, 201),
        ("POST", ISSUES, {"body": "no title"}, 422),
        ("POST", ISSUES, {"title": ["t"]}, 422),
        ("POST", ISSUES, {"title": "t", "labels": "redress"}, 422),
        ("POST", ISSUES, {"title": " "}, 422),
        ("POST", ISSUES, {"title": "t" * 257}, 422),
        ("POST", ISSUES, {"title": "t", "body": "b" * 65_537}, 422),
        ("POST", "/github/repos/example/other/issues", {"title": "t"}, 404),
        ("GET", f"{ISSUES}?state=all&labels=redress&per_page=50&page=1", None, 200),
        ("GET", f"{ISSUES}?state=resolved", None, 422),
        ("GET", f"{ISSUES}?per_page=many", None, 422),
        ("GET", f"{ISSUES}/1", None, 200),
        ("GET", f"{ISSUES}/99", None, 404),
        ("GET", f"{ISSUES}/one", None, 422),
        ("PATCH", f"{ISSUES}/1", {"state": "closed", "state_reason": "completed"}, 200),
        ("PATCH", f"{ISSUES}/1", {"state": "done"}, 422),
        ("PATCH", f"{ISSUES}/1", {"state": "closed", "state_reason": "fixed"}, 422),
        ("POST", f"{ISSUES}/1/comments", {"body": "b"}, 201),
        ("POST", f"{ISSUES}/1/comments", {}, 422),
        ("POST", f"{ISSUES}/1/labels", {"labels": ["x"]}, 422),
        ("DELETE", f"{ISSUES}/1", None, 422),
    ],
)
def test_github_is_held_against_its_own_description(
    fake: FakeTickets, method: str, path: str, body: Any, status: int
) -> None:
    assert ask(fake, "POST", ISSUES, {"title": "the first"}, GITHUB)[0] == 201
    assert ask(fake, method, path, body, GITHUB)[0] == status
    assert bool(fake.refused) == (status >= 400)


@pytest.mark.parametrize(
    "name,value,status",
    [("Authorization", "Bearer other", 401), ("User-Agent", "", 403), ("X-GitHub-Api-Version", "1", 400)],
)
def test_github_wants_its_headers(fake: FakeTickets, name: str, value: str, status: int) -> None:
    assert ask(fake, "POST", ISSUES, {"title": "t"}, {**GITHUB, name: value})[0] == status


# -- ServiceNow --------------------------------------------------------------------------------------------------------


def test_servicenow_refuses_what_its_tables_would(fake: FakeTickets) -> None:
    status, said = ask(fake, "POST", INCIDENTS, {"short_description": "s", "correlation_id": "k"})
    assert status == 201
    record = f"{INCIDENTS}/{said['result']['sys_id']}"
    for body in (
        {"short_description": "s" * 161},
        {"priority": "1"},
        {"impact": 1},
        {},
        {"work_notes": "[code]<b>"},
    ):
        assert ask(fake, "POST", INCIDENTS, body)[0] == 400
        assert ask(fake, "PATCH", record, body)[0] == 400
    assert ask(fake, "PATCH", record, {"state": "6"})[0] == 403
    assert ask(fake, "PATCH", record, {"state": "6", "close_code": "Solved", "close_notes": "x"})[0] == 403
    assert (
        ask(fake, "PATCH", record, {"state": "6", "close_code": "Solution provided", "close_notes": "x"})[0]
        == 200
    )
    assert fake.closed("servicenow", "INC0010001")
    assert ask(fake, "PATCH", f"{INCIDENTS}/{'0' * 32}", {"state": "2"})[0] == 404
    assert ask(fake, "POST", "/servicenow/api/now/table/sys_user", {"state": "2"})[0] == 400
    assert ask(fake, "DELETE", record)[0] == 404
    assert ask(fake, "POST", INCIDENTS, {"state": "2"}, headers={})[0] == 401


def test_servicenows_query_is_read_as_it_reads_them(fake: FakeTickets) -> None:
    ask(fake, "POST", INCIDENTS, {"correlation_id": "a^b"})

    def found(query: str) -> tuple[int, Any]:
        return ask(fake, "GET", f"{INCIDENTS}?{urlencode({'sysparm_query': query})}")

    assert len(found("correlation_id=a^^b")[1]["result"]) == 1
    assert found("correlation_id=a^b")[0] == 400
    assert found("correlation_id=a^ORactive=true")[0] == 400
    assert found("active=true")[0] == 400
    assert found("number=INC0010001^ORDERBYsys_created_on")[0] == 200
    assert ask(fake, "GET", f"{INCIDENTS}?limit=1")[0] == 400


# -- OpsCenter ---------------------------------------------------------------------------------------------------------


def ssm(fake: FakeTickets, **config: Any) -> Any:
    return botocore.session.Session().create_client(
        "ssm",
        region_name="eu-central-1",
        endpoint_url=fake.at("opscenter"),
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def test_opscenter_speaks_with_boto3_and_refuses_what_the_model_does(fake: FakeTickets) -> None:
    item = {"Title": "t", "Description": "d", "Source": "s"}
    data = {"/aws/dedup": {"Type": "SearchableString", "Value": json.dumps({"dedupString": "k"})}}
    client = ssm(fake, parameter_validation=False)
    made = client.create_ops_item(**item, OperationalData=data)["OpsItemId"]
    assert client.get_ops_item(OpsItemId=made)["OpsItem"]["Status"] == "Open"
    with pytest.raises(client.exceptions.OpsItemAlreadyExistsException) as there:
        client.create_ops_item(**item, OperationalData=data)
    assert there.value.response["OpsItemId"] == made
    refused: list[Callable[[], object]] = [
        lambda: client.create_ops_item(Title="t", Source="s"),
        lambda: client.create_ops_item(**{**item, "Description": "d" * 2049}),
        lambda: client.create_ops_item(**{**item, "Title": "t" * 1025}),
        lambda: client.create_ops_item(**item, OperationalData={"a key!": {"Type": "String", "Value": "v"}}),
        lambda: client.create_ops_item(
            **item, OperationalData={"k": {"Type": "String", "Value": "v" * 20_481}}
        ),
        lambda: client.update_ops_item(OpsItemId=made, OperationalData=data),
        lambda: client.get_ops_item(OpsItemId="oi-" + "f" * 12),
        lambda: client.describe_ops_items(
            OpsItemFilters=[{"Key": "Title", "Values": ["t"], "Operator": "Equal"}]
        ),
        lambda: client.describe_ops_items(
            OpsItemFilters=[{"Key": "OperationalData", "Values": ['{"name": "k"}'], "Operator": "Equal"}]
        ),
        lambda: client.get_parameter(Name="x"),
    ]
    for act in refused:
        with pytest.raises(ClientError):
            act()
    assert len(fake.refused) == len(refused) + 1
    client.update_ops_item(OpsItemId=made, Status="Resolved")
    assert client.create_ops_item(**item, OperationalData=data)["OpsItemId"] != made
    assert ask(fake, "POST", "/opscenter/", {}, {"X-Amz-Target": "AmazonSSM.GetOpsItem"})[0] == 400


# -- the receiver of webhooks ------------------------------------------------------------------------------------------


def signed(event: Mapping[str, Any], at: float, secret: str = SECRET) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(event).encode()
    mac = hmac.new(secret.encode(), f"{int(at)}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {
        "X-Signature": f"t={int(at)},v1={mac}",
        "Idempotency-Key": str(event.get("id")),
        "Content-Type": "application/json",
    }


def test_the_receiver_checks_signature_age_form_and_key(fake: FakeTickets) -> None:
    now = time.time()
    cases: list[tuple[Mapping[str, Any], float, str, int]] = [
        (EVENT, now, SECRET, 202),
        (EVENT, now, SECRET, 200),
        (EVENT, now, "other", 401),
        (EVENT, now - 400, SECRET, 401),
        ({**EVENT, "schema": "redress.ticket/2"}, now, SECRET, 422),
        ({**EVENT, "key": "x"}, now, SECRET, 422),
        ({**EVENT, "more": 1}, now, SECRET, 422),
    ]
    for event, at, secret, status in cases:
        body, headers = signed(event, at, secret)
        assert ask(fake, "POST", "/webhook", body, headers)[0] == status
    body, headers = signed(EVENT, now)
    assert ask(fake, "POST", "/webhook", body + b" ", headers)[0] == 401
    assert ask(fake, "POST", "/webhook", body, {})[0] == 401
    assert ask(fake, "POST", "/webhook", body, {**headers, "Idempotency-Key": "1"})[0] == 400
    assert [one.comments for one in fake.tickets["webhook"]] == [["ticket.opened"]]


# -- faults and the page -----------------------------------------------------------------------------------------------


def test_faults_come_before_or_after_and_so_often_as_asked(fake: FakeTickets) -> None:
    def create() -> int:
        return ask(fake, "POST", ISSUES, {"title": "t"}, GITHUB)[0]

    fake.fail("github", "create", status=429, headers={"Retry-After": "3"}, times=2)
    fake.fail("github", "look", status=500)
    assert [create(), create(), create()] == [429, 429, 201]
    fake.fail("github", "create", status=500, after=True)
    assert create() == 500
    assert len(fake.tickets["github"]) == 2
    for after, kept in ((False, 2), (True, 3)):
        fake.fail("github", "create", after=after)
        with pytest.raises(http.client.RemoteDisconnected):
            create()
        assert len(fake.tickets["github"]) == kept
    fake.fail("github", "create", status=500, slow_seconds=0.2)
    began = time.monotonic()
    assert create() == 500
    assert time.monotonic() - began >= 0.2


def test_people_move_tickets_and_see_them_all_on_a_page(fake: FakeTickets) -> None:
    ask(fake, "POST", ISSUES, {"title": "<script>alert(1)</script>", "body": "<b>b</b>"}, GITHUB)
    ask(fake, "POST", f"{ISSUES}/1/comments", {"body": "<i>c</i>"}, GITHUB)
    fake.move("github", "1", closed=True)
    assert fake.closed("github", "1")
    assert ask(fake, "GET", f"{ISSUES}/1", headers=GITHUB)[1]["state"] == "closed"
    status, page = ask(fake, "GET", "/")
    assert status == 200
    assert "&lt;script&gt;" in page
    assert "&lt;i&gt;c" in page
    assert "<script" not in page
    assert ask(fake, "GET", "/elsewhere")[0] == 404


def test_a_document_of_jiras_is_shown_as_people_read_it(fake: FakeTickets) -> None:
    link = {
        "type": "text",
        "text": "case",
        "marks": [{"type": "link", "attrs": {"href": "https://x.example/"}}],
    }
    content = [
        {
            "type": "paragraph",
            "content": [{"type": "text", "text": "Close <b> 22"}, {"type": "hardBreak"}, link],
        },
        {"type": "paragraph", "content": [{"type": "text", "text": "by hand"}]},
    ]
    fields = {**FIELDS, "description": {"type": "doc", "version": 1, "content": content}}
    assert ask(fake, "POST", f"{JIRA}/issue", {"fields": fields})[0] == 201
    page = ask(fake, "GET", "/")[1]
    assert "<pre>Close &lt;b&gt; 22\ncase &lt;https://x.example/&gt;\nby hand</pre>" in page


def test_what_was_taken_from_others_is_small_and_names_its_licence() -> None:
    for name, licence in (("github", "MIT License"), ("adf", "Apache License, Version 2.0")):
        assert (SPECS / f"{name}.json").stat().st_size <= 150 * 1024
        assert licence in (SPECS / f"{name}.LICENSE").read_text(encoding="utf-8")
    pins = json.loads((Path(SPECS).parent / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert {*pins} == {"@atlaskit/adf-schema", "@octokit/openapi"}
    assert all(version[0].isdigit() for version in pins.values())
    assert {*CREDENTIALS} == {"jira", "servicenow", "github", "opscenter", "webhook"}
