"""Jira, ServiceNow, GitHub, OpsCenter and a receiver of webhooks on loopback, as far as we speak with them. They bite.

Every request is held against what the real one says of itself: GitHub's own OpenAPI description (and our answers too),
Atlassian's document schema, botocore's model of Systems Manager; Jira's and ServiceNow's few calls against schemas written
here, since neither publishes one. What is wrong is refused in the system's own words, and listed in `refused`.

    with FakeTickets() as fake:
        Integration(name="ops", system="jira", at=fake.at("jira"), project="SEC")
        fake.fail("jira", "create", status=500, after=True)  # accepted, and says that it failed
        fake.lag("jira", looks=2)                            # its search does not find what is new, twice
        fake.move("jira", "SEC-1", closed=True)              # somebody closes it
"""

import base64
import functools
import hashlib
import hmac
import html
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.session
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from jsonschema import (  # type: ignore[import-untyped]  # ships no annotations
    Draft4Validator,
    Draft202012Validator,
)
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from local.fakes.loopback import Loopback, framed

SPECS = Path(__file__).parent / "specs"
SYSTEMS = ("jira", "servicenow", "github", "opscenter", "webhook")
TOKEN = "a-token-of-the-emulated-world"
USER = "redress@example.com"
SECRET = "a-webhook-secret-of-the-emulated-world"
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "jira": {"email": USER, "token": TOKEN},
    "servicenow": {"user": USER, "password": TOKEN},
    "github": {"token": TOKEN},
    "opscenter": {},
    "webhook": {"secret": SECRET},
}
"""What the notifier's secret holds for each."""

PROJECTS: Mapping[str, str] = {"jira": "SEC", "servicenow": "incident", "github": "example/security"}
SIGNED_WITHIN_SECONDS = 300


class RefusedError(Exception):
    """A request that the real one would refuse: with which status, and why."""

    def __init__(self, status: int, why: str, **more: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.more = more


@dataclass
class Kept:
    """A ticket as it lies there. `text` is its content as it was sent, `status` the system's own word."""

    key: str
    title: str
    text: str
    marks: tuple[str, ...]
    status: str
    at: float
    comments: list[str] = field(default_factory=list)
    sent: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """What happens instead, `times` times: an answer of `status`, or none at all; before it is done, or after."""

    operation: str
    status: int | None
    headers: Mapping[str, str]
    body: str | None
    after: bool
    slow_seconds: float
    times: int


@dataclass(frozen=True)
class Asked:
    """One request, whole."""

    system: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self, status: int = 400) -> dict[str, Any]:
        try:
            said = json.loads(self.body)
        except ValueError:
            raise RefusedError(status, "Problems parsing JSON") from None
        if not isinstance(said, dict) or self.headers.get("content-type", "").split(";")[0] not in {
            "application/json",
            "application/x-amz-json-1.1",
        }:
            raise RefusedError(status, "the body is to be a JSON object, and Content-Type to say so")
        return said


@dataclass(frozen=True)
class Doing:
    """What a request is (create, find, update, close, look…), and how it is done: a status and an answer, or RefusedError."""

    operation: str
    do: Callable[[], tuple[int, Any]]


class FakeTickets(Loopback):
    """All of them on one port. Their tickets and their faults are the attributes that tests look at."""

    def __init__(self, port: int = 0, *, now: Callable[[], float] = time.time) -> None:
        self.tickets: dict[str, list[Kept]] = {system: [] for system in SYSTEMS}
        self.asked: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.done_transitions = True
        """Whether Jira's workflow lets us move anything to Done."""
        self._faults: dict[str, list[Fault]] = {system: [] for system in SYSTEMS}
        self._lags = dict.fromkeys(SYSTEMS, 0)
        self._lock = threading.RLock()
        self._now = now
        self._rooms: dict[str, _Room] = {
            "jira": _Jira(self),
            "servicenow": _ServiceNow(self),
            "github": _GitHub(self),
            "opscenter": _OpsCenter(self),
            "webhook": _Webhook(self),
        }
        super().__init__(port, _handler(self))

    def at(self, system: str) -> str:
        """The address that an integration names (OpsCenter: the endpoint of the ssm client)."""
        return f"{self.origin}/{system}"

    def now(self) -> float:
        return self._now()

    def ticket(self, system: str, key: str) -> Kept:
        return next(one for one in self.tickets[system] if one.key == key)

    # -- faults --------------------------------------------------------------------------------------------------------

    def fail(
        self,
        system: str,
        operation: str,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        after: bool = False,
        slow_seconds: float = 0,
        times: int = 1,
    ) -> None:
        """The next `times` requests for `operation` end so; without `status` and `slow_seconds`, with a broken connection."""
        self._faults[system].append(Fault(operation, status, headers or {}, body, after, slow_seconds, times))

    def lag(self, system: str, looks: int) -> None:
        """The next `looks` searches find nothing."""
        self._lags[system] = looks

    def lagging(self, system: str) -> bool:
        if self._lags[system] == 0:
            return False
        self._lags[system] -= 1
        return True

    def move(self, system: str, key: str, *, closed: bool) -> None:
        """Somebody closes the ticket there, or opens it again."""
        self.ticket(system, key).status = self._rooms[system].states[closed]

    def closed(self, system: str, key: str) -> bool:
        return self._rooms[system].is_closed(self.ticket(system, key))

    # -- one request ---------------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> tuple[int, Mapping[str, str], bytes] | None:
        """Status, headers, body; None is a connection that breaks."""
        room = self._rooms[asked.system]
        with self._lock:
            try:
                room.let_in(asked)
                doing = room.doing(asked)
                self.asked.append((asked.system, doing.operation))
                fault = self._fault(asked.system, doing.operation)
                if fault is None:
                    status, said = doing.do()
                    return _answer(status, said)
                if fault.after:
                    status, said = doing.do()
            except RefusedError as refused:
                self.refused.append(f"{asked.system}: {refused.why}")
                return _answer(refused.status, room.refusal(refused))
        time.sleep(fault.slow_seconds)
        if fault.status is None:
            return None
        told = fault.body if fault.body is not None else json.dumps({"message": "Something went wrong"})
        return fault.status, fault.headers, told.encode()

    def _fault(self, system: str, operation: str) -> Fault | None:
        found = next((one for one in self._faults[system] if one.times and one.operation == operation), None)
        if found:
            found.times -= 1
        return found

    def page(self) -> str:
        """All tickets on one page, for people."""
        rows = "".join(
            f"<h2>{system}</h2>"
            + (
                "".join(self._shown(one) for one in self.tickets[system])
                or "<p>Nothing was brought here.</p>"
            )
            for system in SYSTEMS
        )
        return framed("Emulated ticket systems", rows)

    def _shown(self, one: Kept) -> str:
        comments = "".join(f"<pre>{html.escape(_readable(comment))}</pre>" for comment in one.comments)
        return (
            f"<details><summary><b>{html.escape(one.key)}</b> {html.escape(one.title)} · {html.escape(one.status)}"
            f"</summary><pre>{html.escape(_readable(one.text))}</pre>{comments}</details>"
        )


def _readable(text: str) -> str:
    """The text of an ADF document, a line for each block, as Jira would show it; anything else as it is."""
    try:
        document = json.loads(text)
    except ValueError:
        return text
    is_adf = isinstance(document, dict) and document.get("type") == "doc"
    return "".join(_pieces(document)).strip() if is_adf else text


def _pieces(node: Mapping[str, Any]) -> Iterator[str]:
    if "text" in node:
        yield node["text"]
        links = (mark["attrs"]["href"] for mark in node.get("marks", ()) if mark["type"] == "link")
        yield from (f" <{link}>" for link in links if link != node["text"])
    yield "\n" if node["type"] == "hardBreak" else ""
    for inner in node.get("content", ()):
        yield from _pieces(inner)
    yield "\n" if node["type"] in {"paragraph", "heading", "codeBlock"} else ""


def _answer(status: int, said: object) -> tuple[int, Mapping[str, str], bytes]:
    return status, {}, b"" if said is None else json.dumps(said).encode()


class _Room:
    """One system: who is let in, what a request is, and what a refusal looks like. `states` are its words for open and closed."""

    name = ""
    states: tuple[str, str] = ("open", "closed")

    def __init__(self, house: FakeTickets) -> None:
        self.house = house

    @property
    def kept(self) -> list[Kept]:
        return self.house.tickets[self.name]

    def is_closed(self, one: Kept) -> bool:
        return one.status == self.states[True]

    def let_in(self, asked: Asked) -> None:
        pair = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {pair}":
            raise RefusedError(401, "Client must be authenticated to access this resource.")

    def doing(self, asked: Asked) -> Doing:
        raise NotImplementedError  # each system has doings of its own

    def refusal(self, refused: RefusedError) -> dict[str, Any]:
        return {"message": refused.why}

    def one(self, key: str, status: int = 404, why: str = "Not Found") -> Kept:
        found = next((one for one in self.kept if one.key == key), None)
        if found is None:
            raise RefusedError(status, why)
        return found

    def keep(self, one: Kept) -> Kept:
        self.kept.append(one)
        return one


def _wrong(schema: Mapping[str, Any], value: object) -> Iterator[str]:
    for error in Draft202012Validator(schema).iter_errors(value):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'body'}: {error.message[:200]}"


# -- Jira --------------------------------------------------------------------------------------------------------------

ADF = Draft4Validator(json.loads((SPECS / "adf.json").read_text(encoding="utf-8")))
ADF_CHARACTERS = 32_767

_TEXT = {"type": "string", "minLength": 1}


def _object(required: tuple[str, ...], **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


JIRA_CREATE = _object(
    ("fields",),
    fields=_object(
        ("project", "issuetype", "summary"),
        project=_object(("key",), key=_TEXT),
        issuetype=_object(("name",), name=_TEXT),
        summary={"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\r\n]*\Z"},
        description={},
        labels={"type": "array", "items": {"type": "string", "pattern": r"^\S+\Z", "maxLength": 255}},
    ),
)
JIRA_SEARCH = _object(
    ("jql",),
    jql=_TEXT,
    fields={"type": "array", "items": _TEXT},
    maxResults={"type": "integer", "minimum": 1, "maximum": 5000},
    nextPageToken=_TEXT,
    expand=_TEXT,
    fieldsByKeys={"type": "boolean"},
    properties={"type": "array"},
    reconcileIssues={"type": "array", "items": {"type": "integer"}, "maxItems": 50},
)
JIRA_COMMENT = _object(("body",), body={})
JIRA_TRANSITION = _object(("transition",), transition=_object(("id",), id=_TEXT))
JQL = re.compile(r'project = "(?P<project>[A-Z0-9_]+)" AND labels = "(?P<label>\S+)" ORDER BY created ASC')
JIRA_STATUSES = {
    "To Do": ("11", "new"),
    "In Progress": ("21", "indeterminate"),
    "Done": ("31", "done"),
}


class _Jira(_Room):
    """Jira Cloud v3 (https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/)."""

    name = "jira"
    states = ("To Do", "Done")

    def doing(self, asked: Asked) -> Doing:
        head, _, tail = asked.path.removeprefix("/rest/api/3/").partition("/")
        key, _, part = tail.partition("/")
        match asked.method, head, part:
            case "POST", "issue", "" if not key:
                return Doing("create", lambda: self._create(asked.json()))
            case "POST", "search", "" if key == "jql":
                return Doing("find", lambda: self._find(asked.json()))
            case _, "search", _:
                raise RefusedError(
                    410,
                    "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.",
                )
            case "GET", "issue", "" if key:
                return Doing("look", lambda: (200, self._shown(self._issue(key))))
            case "GET", "issue", "transitions":
                return Doing(
                    "transitions", lambda: (200, {"transitions": self._transitions(self._issue(key))})
                )
            case "POST", "issue", "transitions":
                return Doing("move", lambda: self._move(self._issue(key), asked.json()))
            case "POST", "issue", "comment":
                return Doing("comment", lambda: self._comment(self._issue(key), asked.json()))
        raise RefusedError(404, "null for uri")

    def refusal(self, refused: RefusedError) -> dict[str, Any]:
        return {
            "errorMessages": [] if "field" in refused.more else [refused.why],
            "errors": {refused.more["field"]: refused.why} if "field" in refused.more else {},
        }

    def _issue(self, key: str) -> Kept:
        return self.one(key, 404, "Issue does not exist or you do not have permission to see it.")

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(JIRA_CREATE, said)
        fields = said["fields"]
        if fields["project"]["key"] != PROJECTS["jira"]:
            raise RefusedError(400, "valid project is required", field="project")
        text = self._document(fields["description"], "description") if "description" in fields else ""
        key = f"{PROJECTS['jira']}-{len(self.kept) + 1}"
        self.keep(
            Kept(
                key,
                fields["summary"],
                text,
                tuple(fields.get("labels", ())),
                "To Do",
                self.house.now(),
                sent=fields,
            )
        )
        return 201, {
            "id": str(10_000 + len(self.kept)),
            "key": key,
            "self": f"{self.house.at('jira')}/rest/api/3/issue/{key}",
        }

    def _find(self, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(JIRA_SEARCH, said)
        asked = JQL.fullmatch(said["jql"])
        if asked is None:
            raise RefusedError(400, "Error in the JQL Query")
        if self.house.lagging("jira"):
            return 200, {"issues": [], "isLast": True}
        found = [self._shown(one) for one in self.kept if asked["label"] in one.marks]
        return 200, {"issues": found[: said.get("maxResults", 50)], "isLast": True}

    def _shown(self, one: Kept) -> dict[str, Any]:
        status = {"name": one.status, "statusCategory": {"key": JIRA_STATUSES[one.status][1]}}
        return {"id": "1", "key": one.key, "fields": {"status": status, "labels": list(one.marks)}}

    def _transitions(self, one: Kept) -> list[dict[str, Any]]:
        return [
            {"id": name, "name": f"to {status}", "to": {"name": status, "statusCategory": {"key": category}}}
            for status, (name, category) in JIRA_STATUSES.items()
            if status != one.status and (self.house.done_transitions or category != "done")
        ]

    def _move(self, one: Kept, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(JIRA_TRANSITION, said)
        wanted = said["transition"]["id"]
        for transition in self._transitions(one):
            if transition["id"] == wanted:
                one.status = transition["to"]["name"]
                return 204, None
        raise RefusedError(
            400, f"It seems that you have tried to perform a workflow operation ({wanted}) that is not valid"
        )

    def _comment(self, one: Kept, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(JIRA_COMMENT, said)
        one.comments.append(self._document(said["body"], "comment"))
        return 201, {"id": str(len(one.comments))}

    def _hold(self, schema: Mapping[str, Any], said: object) -> None:
        for why in _wrong(schema, said):
            raise RefusedError(400, why, field=why.partition(":")[0].rpartition(".")[2])

    def _document(self, document: object, where: str) -> str:
        errors = [error.message[:200] for error in ADF.iter_errors(document)]
        if not isinstance(document, dict) or errors:
            raise RefusedError(
                400,
                "Operation value must be an Atlassian Document (see the Atlassian Document Format)",
                field=where,
            )
        whole = json.dumps(document)
        if len(whole) > ADF_CHARACTERS:
            raise RefusedError(400, "CONTENT_LIMIT_EXCEEDED", field=where)
        return whole


# -- ServiceNow --------------------------------------------------------------------------------------------------------

SERVICENOW_FIELDS = {
    "short_description": 160,
    "description": 4000,
    "correlation_id": 100,
    "correlation_display": 100,
    "impact": 1,
    "urgency": 1,
    "assignment_group": 32,
    "state": 2,
    "close_code": 40,
    "close_notes": 4000,
    "work_notes": 4000,
}
CLOSE_CODES = frozenset({"Solution provided", "No resolution provided", "Resolved by change"})
SERVICENOW = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": most} for name, most in SERVICENOW_FIELDS.items()},
    "additionalProperties": False,
    "minProperties": 1,
}
SERVICENOW_PARAMETERS = frozenset(
    {"sysparm_query", "sysparm_limit", "sysparm_fields", "sysparm_display_value"}
)


class _ServiceNow(_Room):
    """The Table API on incident, with the data policy that an incident is resolved with code and notes."""

    name = "servicenow"
    states = ("2", "6")

    def is_closed(self, one: Kept) -> bool:
        return one.status in {"6", "7", "8"}

    def refusal(self, refused: RefusedError) -> dict[str, Any]:
        return {"error": {"message": "Operation Failed", "detail": refused.why}, "status": "failure"}

    def doing(self, asked: Asked) -> Doing:
        table, _, sys_id = asked.path.removeprefix("/api/now/table/").partition("/")
        if table != PROJECTS["servicenow"]:
            raise RefusedError(400, f"Invalid table {table}")
        if unknown := {*asked.query} - SERVICENOW_PARAMETERS:
            raise RefusedError(400, f"unknown parameters {sorted(unknown)}")
        match asked.method, bool(sys_id):
            case "POST", False:
                return Doing("create", lambda: self._create(asked, asked.json()))
            case "GET", False:
                return Doing(*self._find(asked))
            case "PATCH", True:
                return Doing("update", lambda: self._update(asked, sys_id, asked.json()))
        raise RefusedError(404, "No Record found")

    def _create(self, asked: Asked, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(said)
        number = f"INC{10_001 + len(self.kept):07d}"
        one = self.keep(
            Kept(
                number,
                said.get("short_description", ""),
                said.get("description", ""),
                (said.get("correlation_id", ""),),
                "1",
                self.house.now(),
                sent=said,
            )
        )
        return 201, {"result": self._shown(one, asked)}

    def _find(self, asked: Asked) -> tuple[str, Callable[[], tuple[int, Any]]]:
        # `^^` is a sign, `^` begins the next condition.
        query = asked.query.get("sysparm_query", "")
        conditions = [one.replace("\0", "^") for one in query.replace("^^", "\0").split("^")]
        (name, _, value), *rest = (one.partition("=") for one in conditions)
        if name not in {"correlation_id", "number"} or any(not one[0].startswith("ORDERBY") for one in rest):
            # The real one leaves out what it does not know, and finds everything.
            raise RefusedError(400, f"Invalid query detected: {query}")
        found = [one for one in self.kept if value == (one.key if name == "number" else one.marks[0])]

        def do() -> tuple[int, Any]:
            lagging = name == "correlation_id" and self.house.lagging("servicenow")
            most = int(asked.query.get("sysparm_limit", "10000"))
            return 200, {"result": [] if lagging else [self._shown(one, asked) for one in found[:most]]}

        return ("look" if name == "number" else "find"), do

    def _update(self, asked: Asked, sys_id: str, said: dict[str, Any]) -> tuple[int, Any]:
        one = next((one for one in self.kept if _sys_id(one) == sys_id), None)
        if one is None:
            raise RefusedError(404, "Record doesn't exist or ACL restricts the record retrieval")
        self._hold(said)
        whole = {**one.sent, "state": one.status, **said}
        state = whole["state"]
        if state == "6" and (whole.get("close_code") not in CLOSE_CODES or not whole.get("close_notes")):
            why = (
                "Data Policy Exception: The following fields are mandatory: Resolution code, Resolution notes"
            )
            raise RefusedError(403, why)
        one.status, one.sent = state, whole
        one.comments += [said["work_notes"]] if "work_notes" in said else []
        return 200, {"result": self._shown(one, asked)}

    def _hold(self, said: dict[str, Any]) -> None:
        for why in _wrong(SERVICENOW, said):
            raise RefusedError(400, why)
        for name in ("description", "close_notes", "work_notes"):
            if re.search(r"\[\s*code\s*\]", said.get(name, ""), re.IGNORECASE):
                raise RefusedError(400, f"{name}: would be shown as HTML")

    def _shown(self, one: Kept, asked: Asked) -> dict[str, str]:
        whole = {
            "sys_id": _sys_id(one),
            "number": one.key,
            "state": one.status,
            "active": "false" if one.status in {"7", "8"} else "true",
            "correlation_id": one.marks[0],
        }
        fields = asked.query.get("sysparm_fields", ",".join(whole)).split(",")
        return {name: whole[name] for name in fields}


def _sys_id(one: Kept) -> str:
    return hashlib.sha256(one.key.encode()).hexdigest()[:32]


# -- GitHub ------------------------------------------------------------------------------------------------------------

GITHUB = "https://api.github.com"
TITLE_CHARACTERS, BODY_CHARACTERS = 256, 65_536


@functools.cache
def _github_spec() -> OpenAPI:
    """Read once for all fakes of a process: it takes a second."""
    return OpenAPI.from_file_path(str(SPECS / "github.json"))


class _GitHub(_Room):
    """GitHub's REST API. Requests and our answers are held against `specs/github.json`."""

    name = "github"

    def __init__(self, house: FakeTickets) -> None:
        super().__init__(house)
        self._spec = _github_spec()

    def let_in(self, asked: Asked) -> None:
        if not asked.headers.get("user-agent"):
            raise RefusedError(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
            )
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "Bad credentials")
        if asked.headers.get("x-github-api-version") not in {"2022-11-28", "2026-03-10"}:
            raise RefusedError(400, "X-GitHub-Api-Version is to be a version that is there")

    def doing(self, asked: Asked) -> Doing:
        request = MockRequest(
            GITHUB,
            asked.method,
            asked.path,
            args=dict(asked.query),
            headers=dict(asked.headers),
            data=asked.body,
        )
        try:
            self._spec.validate_request(request)
        except OpenAPIError as wrong:
            why = getattr(wrong.__cause__, "schema_errors", None) or [wrong]
            raise RefusedError(
                422, f"Validation Failed: {'; '.join(str(one)[:200] for one in why)}"
            ) from None
        owner, repository, _, number, part = (*asked.path.split("/")[2:], "", "")[:5]
        if f"{owner}/{repository}" != PROJECTS["github"]:
            raise RefusedError(404, "Not Found")
        operation, do = self._operation(asked, number, part)

        def held() -> tuple[int, Any]:
            status, said = do()
            answer = MockResponse(json.dumps(said).encode(), status)
            self._spec.validate_response(request, answer)  # an error here is ours
            return status, said

        return Doing(operation, held)

    def _operation(self, asked: Asked, number: str, part: str) -> tuple[str, Callable[[], tuple[int, Any]]]:
        match asked.method, bool(number), part:
            case "POST", False, _:
                return "create", lambda: self._create(asked.json())
            case "GET", False, _:
                return "find", lambda: self._find(asked)
            case "POST", True, "comments":
                return "comment", lambda: self._comment(self.one(number), asked.json())
            case "PATCH", True, "":
                return "move", lambda: self._patch(self.one(number), asked.json())
            case _:
                return "look", lambda: (200, self._shown(self.one(number)))

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(said, "title", TITLE_CHARACTERS)
        self._hold(said, "body", BODY_CHARACTERS)
        labels = tuple(said.get("labels", ()))
        one = Kept(
            str(len(self.kept) + 1),
            said["title"],
            said.get("body", ""),
            labels,
            "open",
            self.house.now(),
            sent=said,
        )
        return 201, self._shown(self.keep(one))

    def _find(self, asked: Asked) -> tuple[int, Any]:
        if self.house.lagging("github"):
            return 200, []
        wanted, state = asked.query.get("labels"), asked.query.get("state", "open")
        found = [
            self._shown(one)
            for one in reversed(self.kept)
            if (not wanted or wanted in one.marks) and state in {"all", one.status}
        ]
        most = int(asked.query.get("per_page", "30"))
        start = most * (int(asked.query.get("page", "1")) - 1)
        return 200, found[start : start + most]

    def _comment(self, one: Kept, said: dict[str, Any]) -> tuple[int, Any]:
        self._hold(said, "body", BODY_CHARACTERS)
        one.comments.append(said["body"])
        here = f"{GITHUB}/repos/{PROJECTS['github']}/issues"
        at = _stamp(one.at)
        return 201, {
            "id": len(one.comments),
            "node_id": "IC_1",
            "url": f"{here}/comments/1",
            "html_url": f"{here}/1#1",
            "issue_url": f"{here}/{one.key}",
            "user": None,
            "created_at": at,
            "updated_at": at,
            "body": said["body"],
            "author_association": "NONE",
        }

    def _patch(self, one: Kept, said: dict[str, Any]) -> tuple[int, Any]:
        one.status, one.sent = said.get("state", one.status), {**one.sent, **said}
        return 200, self._shown(one)

    def _shown(self, one: Kept) -> dict[str, Any]:
        here = f"{GITHUB}/repos/{PROJECTS['github']}"
        issue = f"{here}/issues/{one.key}"
        at = _stamp(one.at)
        return {
            "id": int(one.key),
            "node_id": "I_1",
            "url": issue,
            "repository_url": here,
            "labels_url": f"{issue}/labels{{/name}}",
            "comments_url": f"{issue}/comments",
            "events_url": f"{issue}/events",
            # Whoever takes an answer's address for a link would send people there.
            "html_url": f"https://elsewhere.example/{one.key}",
            "number": int(one.key),
            "state": one.status,
            "title": one.title,
            "body": one.text,
            "user": None,
            "labels": list(one.marks),
            "assignee": None,
            "milestone": None,
            "locked": False,
            "comments": len(one.comments),
            "closed_at": at if one.status == "closed" else None,
            "created_at": at,
            "updated_at": at,
            "author_association": "NONE",
        }

    def _hold(self, said: dict[str, Any], name: str, most: int) -> None:
        if name == "title" and not str(said.get(name, "")).strip():
            raise RefusedError(422, "Validation Failed: title is missing")
        if len(str(said.get(name, ""))) > most:
            raise RefusedError(422, f"Validation Failed: {name} is too long (maximum is {most} characters)")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- OpsCenter ---------------------------------------------------------------------------------------------------------

OPERATIONS = ("CreateOpsItem", "UpdateOpsItem", "GetOpsItem", "DescribeOpsItems")
DESCRIPTION_CHARACTERS, OPS_TITLE_CHARACTERS, DATA_CHARACTERS = 2048, 1024, 20_480


@functools.cache
def _ssm_model() -> ServiceModel:
    """Likewise."""
    return botocore.session.Session().get_service_model("ssm")


class _OpsCenter(_Room):
    """Systems Manager's JSON protocol, for real boto3: parameters are held against botocore's own model.

    An open or in-progress item with the same deduplication string and resource is named instead of a second one.
    """

    name = "opscenter"
    states = ("Open", "Resolved")

    def __init__(self, house: FakeTickets) -> None:
        super().__init__(house)
        self._model = _ssm_model()

    def is_closed(self, one: Kept) -> bool:
        return one.status not in {"Open", "InProgress"}

    def let_in(self, asked: Asked) -> None:
        if not asked.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential="):
            raise RefusedError(
                400, "Request is missing Authentication Token", type="MissingAuthenticationTokenException"
            )

    def refusal(self, refused: RefusedError) -> dict[str, Any]:
        return {
            "__type": "ValidationException",
            "message": refused.why,
            **{"__type" if name == "type" else name: value for name, value in refused.more.items()},
        }

    def doing(self, asked: Asked) -> Doing:
        operation = asked.headers.get("x-amz-target", "").removeprefix("AmazonSSM.")
        if operation not in OPERATIONS:
            raise RefusedError(400, f"{operation} is not emulated", type="UnknownOperationException")
        said = asked.json()
        shape: Any = self._model.operation_model(operation).input_shape
        report = ParamValidator().validate(said, shape)
        unknown = {*said} - {*shape.members}
        if report.has_errors() or unknown:
            raise RefusedError(400, f"{report.generate_report()} {sorted(unknown)}")
        return {
            "CreateOpsItem": Doing("create", lambda: self._create(said)),
            "UpdateOpsItem": Doing("update", lambda: self._update(said)),
            "GetOpsItem": Doing(
                "look", lambda: (200, {"OpsItem": self._shown(self._item(said["OpsItemId"]))})
            ),
            "DescribeOpsItems": Doing("find", lambda: self._find(said)),
        }[operation]

    def _item(self, name: str) -> Kept:
        found = next((one for one in self.kept if one.key == name), None)
        if found is None:
            raise RefusedError(400, f"OpsItem ID {name} not found.", type="OpsItemNotFoundException")
        return found

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        data = said.get("OperationalData", {})
        self._hold(said, data)
        wanted = self._deduplicated(data)
        for one in self.kept:
            if wanted and one.status in {"Open", "InProgress"} and wanted == self._deduplicated(one.sent):
                raise RefusedError(
                    400,
                    f"Similar OpsItem {one.key} already exists",
                    type="OpsItemAlreadyExistsException",
                    OpsItemId=one.key,
                )
        key = f"oi-{len(self.kept) + 1:012x}"
        marks = (f"severity {said.get('Severity')}", f"priority {said.get('Priority')}")
        self.keep(
            Kept(key, said["Title"], said["Description"], marks, "Open", self.house.now(), sent=dict(data))
        )
        return 200, {"OpsItemId": key, "OpsItemArn": f"arn:aws:ssm:eu-central-1:111111111111:opsitem/{key}"}

    def _update(self, said: dict[str, Any]) -> tuple[int, Any]:
        one = self._item(said["OpsItemId"])
        data = said.get("OperationalData", {})
        self._hold(said, data)
        if "/aws/dedup" in data:
            raise RefusedError(
                400, "a deduplication string cannot be changed", type="OpsItemInvalidParameterException"
            )
        one.sent.update(data)
        one.comments += [one.text] if "Description" in said else []
        one.text = said.get("Description", one.text)
        one.status = said.get("Status", one.status)
        return 200, {}

    def _find(self, said: dict[str, Any]) -> tuple[int, Any]:
        (only,) = said["OpsItemFilters"]
        if only["Key"] != "OperationalData" or only["Operator"] != "Equal" or len(only["Values"]) != 1:
            raise RefusedError(400, "OperationalData takes Equal and one value")
        wanted = json.loads(only["Values"][0])
        if {*wanted} != {"key", "value"}:
            raise RefusedError(400, 'OperationalData takes {"key": …, "value": …}')
        if self.house.lagging("opscenter"):
            return 200, {"OpsItemSummaries": []}
        searched = {"Type": "SearchableString", "Value": wanted["value"]}
        return 200, {
            "OpsItemSummaries": [
                self._shown(one) for one in self.kept if one.sent.get(wanted["key"]) == searched
            ]
        }

    def _shown(self, one: Kept) -> dict[str, Any]:
        return {"OpsItemId": one.key, "Status": one.status, "Title": one.title, "CreatedTime": one.at}

    def _hold(self, said: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        if (
            not 1 <= len(said.get("Description", "x").strip()) <= DESCRIPTION_CHARACTERS
            or len(said.get("Title", "x")) > OPS_TITLE_CHARACTERS
        ):
            raise RefusedError(
                400,
                "Description and Title have 2048 and 1024 characters",
                type="OpsItemInvalidParameterException",
            )
        for name, value in data.items():
            if (
                not re.fullmatch(r"(/aws/)?[A-Za-z0-9_-]{1,128}", name)
                or len(value["Value"]) > DATA_CHARACTERS
            ):
                raise RefusedError(
                    400, f"OperationalData {name[:40]}", type="OpsItemInvalidParameterException"
                )

    def _deduplicated(self, data: Mapping[str, Any]) -> tuple[str, str] | None:
        if "/aws/dedup" not in data:
            return None
        string = json.loads(data["/aws/dedup"]["Value"])["dedupString"]
        return string, data.get("/aws/resources", {}).get("Value", "")


# -- the receiver of webhooks ------------------------------------------------------------------------------------------

WEBHOOK = {
    "type": "object",
    "properties": {
        "schema": {"const": "redress.ticket/1"},
        "id": {"type": "string", "pattern": r"^[0-9a-f]{64}\Z"},
        "event": {"enum": ["ticket.opened", "ticket.updated", "ticket.reopened", "ticket.closed"]},
        "key": {"type": "string", "pattern": r"^[a-z2-7]{20}-t[0-9]+-[0-9a-f]{10}\Z"},
        "ticket": {"type": "object", "required": ["title", "resource", "state", "severity"]},
    },
    "required": ["schema", "id", "event", "key", "ticket"],
    "additionalProperties": False,
}


class _Webhook(_Room):
    """Somebody's receiver, written as `docs/tickets.md` says: signature, age, idempotency key."""

    name = "webhook"

    def let_in(self, asked: Asked) -> None:
        given = re.fullmatch(r"t=([0-9]+),v1=([0-9a-f]{64})", asked.headers.get("x-signature", ""))
        if given is None:
            raise RefusedError(401, "no signature")
        made = hmac.new(SECRET.encode(), given[1].encode() + b"." + asked.body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(made, given[2]):
            raise RefusedError(401, "wrong signature")
        if abs(self.house.now() - int(given[1])) > SIGNED_WITHIN_SECONDS:
            raise RefusedError(401, "too old")

    def doing(self, asked: Asked) -> Doing:
        said = asked.json()
        for why in _wrong(WEBHOOK, said):
            raise RefusedError(422, why)
        if asked.method != "POST" or asked.headers.get("idempotency-key") != said["id"]:
            raise RefusedError(400, "a POST with an Idempotency-Key that is the event's id")
        return Doing(
            {"ticket.opened": "create", "ticket.closed": "close"}.get(said["event"], "update"),
            lambda: self._take(said),
        )

    def _take(self, said: dict[str, Any]) -> tuple[int, Any]:
        one = next((one for one in self.kept if one.key == said["key"]), None)
        if one is None:
            one = self.keep(Kept(said["key"], said["ticket"]["title"], "", (), "open", self.house.now()))
        elif said["id"] in one.sent:
            return 200, None
        one.sent[said["id"]] = said["event"]
        one.status = self.states[said["event"] == "ticket.closed"]
        one.text = json.dumps(said["ticket"])
        one.comments.append(said["event"])
        return 202, None


# -- the server --------------------------------------------------------------------------------------------------------


def _handler(house: FakeTickets) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request, for the room that its path names."""

        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            whole = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            _, system, path = (*whole.path.split("/", 2), "")[:3]
            if self.command == "GET" and whole.path == "/":
                self._answer(200, {}, house.page().encode(), "text/html; charset=utf-8")
            elif system not in SYSTEMS:
                self._answer(404, {}, b"{}")
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = dict(parse_qsl(whole.query, keep_blank_values=True))
                told = house.answer(Asked(system, self.command, f"/{path}", query, headers, body))
                if told is None:
                    self.close_connection = True
                    return
                self._answer(*told)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815 -- as http.server calls them

        def _answer(
            self, status: int, headers: Mapping[str, str], body: bytes, kind: str = "application/json"
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if body:
                self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what was asked stands in `asked`."""

    return Handler
