"""ServiceNow, through the Table API.

https://www.servicenow.com/docs/r/api-reference/rest-apis/c_TableAPI.html
"""

import base64
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from chalicelib.adapters.tickets.exchange import Exchange
from chalicelib.adapters.web import Outward
from chalicelib.delivery import documents
from chalicelib.domain.delivery import Remote
from chalicelib.domain.errors import RejectedError, UnreachableError
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import STRICT, Integration
from chalicelib.domain.shape import mapping, text
from chalicelib.domain.ticket import Ticket

TABLE = re.compile(r"[a-z][a-z0-9_]{1,79}")
NUMBER = re.compile(r"[A-Z]{2,12}[0-9]{4,20}")
SYS_ID = re.compile(r"[0-9a-f]{32}")
SHORT, LONG = 160, 4000
"""Characters of a short description, and of a description, a work note and a close note, as they come out of the box."""

_SHOWN = MappingProxyType({"sysparm_fields": "sys_id,number,state,active", "sysparm_display_value": "false"})
"""What each answer tells, in actual values: display values are in the language of whoever asks."""


class ServiceNow:
    """`domain.delivery.TicketSystem`. `project` is a table that extends task (incident).

    Options: `assignment_group` (its sys_id), `resolved_state` (6), `open_state` (2), `close_code` (Solution provided):
    states and codes are each instance's own. Credentials: `token` (OAuth), or `user` and `password`. Found by
    `correlation_id`, which nothing keeps unique: the reservation does. People read the number, requests need the sys_id.
    """

    def __init__(self, integration: Integration, credentials: Mapping[str, str], web: Outward) -> None:
        table = integration.project or "incident"
        if not integration.at or not TABLE.fullmatch(table):
            raise UnreachableError(
                f"{integration.name}: ServiceNow needs `at`, as https://example.service-now.com, and a table"
            )
        token, password = credentials.get("token", ""), credentials.get("password", "")
        if not token and not password:
            raise UnreachableError(
                f"{integration.name}: the notifier's secret has neither `token` nor `user` and `password` under this name"
            )
        pair = base64.b64encode(f"{credentials.get('user', '')}:{password}".encode()).decode()
        scheme = f"Bearer {token}" if token else f"Basic {pair}"
        self._web = Exchange(integration.name, web, {"Authorization": scheme}, (token, password, pair))
        self._name = integration.name
        self._at = integration.at.rstrip("/")
        self._table = table
        self._options = integration.options

    def create(self, ticket: Ticket, key: str) -> Remote:
        weight = _weight(ticket.severity)
        fields = {
            "short_description": documents.title_of(ticket, SHORT),
            "description": documents.written(documents.opened(ticket), LONG),
            "correlation_id": key,
            "correlation_display": "Redress",
            "impact": weight,
            "urgency": weight,
        }
        if group := self._options.get("assignment_group"):
            fields["assignment_group"] = group
        made = self._web.ask("POST", f"{self._where()}?{urlencode(_SHOWN)}", fields, creates=True)
        return self._as_remote(mapping(made).get("result"), creates=True)[0]

    def find(self, key: str) -> Remote | None:
        found = self._first(f"correlation_id={_operand(key)}^ORDERBYsys_created_on")
        return found[0] if found else None

    def update(self, remote: str, ticket: Ticket) -> None:
        self._note(remote, documents.news(ticket, "As it stands now:"))

    def reopen(self, remote: str, ticket: Ticket) -> None:
        state = {"state": self._options.get("open_state", "2")}
        self._note(remote, documents.news(ticket, documents.STILL), if_closed=state)

    def close(self, remote: str, ticket: Ticket) -> None:
        state = {
            "state": self._options.get("resolved_state", "6"),
            "close_code": self._options.get("close_code", "Solution provided"),
            "close_notes": documents.written(documents.closed(ticket), LONG),
        }
        self._note(remote, documents.closed(ticket), if_open=state)

    def look(self, remote: str) -> Remote:
        return self._named(remote)[0]

    def _note(
        self,
        remote: str,
        parts: tuple[documents.Part, ...],
        *,
        if_open: Mapping[str, str] | None = None,
        if_closed: Mapping[str, str] | None = None,
    ) -> None:
        stands, sys_id = self._named(remote)
        fields = {"work_notes": documents.written(parts, LONG)}
        fields |= dict((if_closed if stands.closed else if_open) or {})
        self._web.ask("PATCH", f"{self._where()}/{sys_id}?{urlencode(_SHOWN)}", fields)

    def _named(self, number: str) -> tuple[Remote, str]:
        if not NUMBER.fullmatch(number):
            raise RejectedError(f"{self._name}: what is remembered is no task's number")
        found = self._first(f"number={_operand(number)}")
        if found is None:
            raise UnreachableError(f"{self._name}: {number} is not there, or not for us to see")
        return found

    def _first(self, query: str) -> tuple[Remote, str] | None:
        asked = urlencode({"sysparm_query": query, "sysparm_limit": "1", **_SHOWN})
        result = mapping(self._web.ask("GET", f"{self._where()}?{asked}")).get("result")
        if not isinstance(result, list):
            raise self._web.unclear("it lists no records in its answer", creates=False)
        return self._as_remote(result[0], creates=False) if result else None

    def _where(self) -> str:
        return f"{self._at}/api/now/table/{self._table}"

    def _as_remote(self, record: Any, *, creates: bool) -> tuple[Remote, str]:  # noqa: ANN401 -- JSON of whatever shape
        told = mapping(record)
        number, sys_id = text(told.get("number")) or "", text(told.get("sys_id")) or ""
        active, state = told.get("active"), text(told.get("state"))
        known = (
            NUMBER.fullmatch(number) and SYS_ID.fullmatch(sys_id) and active in {"true", "false"} and state
        )
        if not known:
            raise self._web.unclear("it does not say how the record stands", creates=creates)
        # A resolved incident stays active until it is closed.
        closed = active == "false" or state == self._options.get("resolved_state", "6")
        shown = urlencode({"uri": f"{self._table}.do?sys_id={sys_id}"})
        return Remote(key=number, url=f"{self._at}/nav_to.do?{shown}", closed=closed), sys_id


def _operand(value: str) -> str:
    """A value in an encoded query, where `^` begins the next condition and `^^` is one sign."""
    return value.replace("^", "^^")


def _weight(severity: Severity) -> str:
    """Impact and urgency: 1 is high, 3 is low."""
    return "1" if severity in STRICT else "2" if severity is Severity.MEDIUM else "3"
