"""Jira Cloud, through its REST API v3: a description is a document (ADF), a status moves by the workflow's transitions.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from chalicelib.adapters.tickets.exchange import Exchange
from chalicelib.adapters.web import Outward
from chalicelib.delivery import documents
from chalicelib.domain.delivery import Remote
from chalicelib.domain.errors import RejectedError, UnreachableError
from chalicelib.domain.policy import Integration
from chalicelib.domain.shape import mapping, sequence, text
from chalicelib.domain.ticket import Ticket

PROJECT = re.compile(r"[A-Z][A-Z0-9_]{1,99}")
KEY = re.compile(r"[A-Z][A-Z0-9_]{1,99}-[1-9][0-9]{0,17}")
LABEL = "redress"


class Jira:
    """`domain.delivery.TicketSystem`. `project` is its key; option `issue_type` (Task).

    Credentials: `email` and `token` (an API token), or `token` alone (OAuth). Found by a label that carries our key: by
    search, which sees a new issue after seconds to minutes.
    """

    def __init__(self, integration: Integration, credentials: Mapping[str, str], web: Outward) -> None:
        if not integration.at or not PROJECT.fullmatch(integration.project):
            raise UnreachableError(
                f"{integration.name}: Jira needs `at`, as https://example.atlassian.net, and a project's key"
            )
        token = credentials.get("token", "")
        if not token:
            raise UnreachableError(
                f"{integration.name}: the notifier's secret has no `token` under this name"
            )
        pair = base64.b64encode(f"{credentials.get('email', '')}:{token}".encode()).decode()
        scheme = f"Basic {pair}" if "email" in credentials else f"Bearer {token}"
        self._web = Exchange(integration.name, web, {"Authorization": scheme}, (token, pair))
        self._name = integration.name
        self._at = integration.at.rstrip("/")
        self._project = integration.project
        self._type = integration.options.get("issue_type", "Task")

    def create(self, ticket: Ticket, key: str) -> Remote:
        made = self._web.ask(
            "POST",
            f"{self._at}/rest/api/3/issue",
            {
                "fields": {
                    "project": {"key": self._project},
                    "issuetype": {"name": self._type},
                    "summary": documents.title_of(ticket),
                    "description": documents.adf(documents.opened(ticket)),
                    "labels": [LABEL, _label(key)],
                }
            },
            creates=True,
        )
        name = text(mapping(made).get("key")) or ""
        if not KEY.fullmatch(name):
            raise self._web.unclear("it names no issue in its answer", creates=True)
        return self._remote(name, closed=False)

    def find(self, key: str) -> Remote | None:
        found = self._web.ask(
            "POST",
            f"{self._at}/rest/api/3/search/jql",
            {
                "jql": f'project = "{self._project}" AND labels = "{_label(key)}" ORDER BY created ASC',
                "fields": ["status"],
                "maxResults": 1,
            },
        )
        issues = mapping(found).get("issues")
        if not isinstance(issues, list):
            raise self._web.unclear("it lists no issues in its answer", creates=False)
        return self._as_remote(issues[0]) if issues else None

    def update(self, remote: str, ticket: Ticket) -> None:
        self._comment(remote, documents.news(ticket, "As it stands now:"))

    def reopen(self, remote: str, ticket: Ticket) -> None:
        self._moved(remote, documents.news(ticket, documents.STILL), closed=False)

    def close(self, remote: str, ticket: Ticket) -> None:
        self._moved(remote, documents.closed(ticket), closed=True)

    def look(self, remote: str) -> Remote:
        return self._as_remote(self._web.ask("GET", f"{self._issue(remote)}?fields=status"))

    def _moved(self, remote: str, parts: tuple[documents.Part, ...], *, closed: bool) -> None:
        """The comment comes last: whatever fails is tried again, and to move it twice leaves nothing behind."""
        try:
            self._move(remote, closed=closed)
        except RejectedError:
            # Not tried again: somebody moves it by hand, and here they read why.
            self._comment(remote, parts)
            raise
        self._comment(remote, parts)

    def _move(self, remote: str, *, closed: bool) -> None:
        """Take the first transition to a status of that category: names and ids are each workflow's own."""
        if self.look(remote).closed == closed:
            return
        told = self._web.ask("GET", f"{self._issue(remote)}/transitions")
        for one in sequence(mapping(told).get("transitions")):
            transition = mapping(one)
            if _done(transition.get("to")) == closed and (name := text(transition.get("id"))):
                self._web.ask("POST", f"{self._issue(remote)}/transitions", {"transition": {"id": name}})
                return
        where = "a done status" if closed else "an open status"
        raise RejectedError(f"{self._name}: {remote} has no transition to {where} for us; move it by hand")

    def _comment(self, remote: str, parts: tuple[documents.Part, ...]) -> None:
        self._web.ask("POST", f"{self._issue(remote)}/comment", {"body": documents.adf(parts)})

    def _issue(self, remote: str) -> str:
        if not KEY.fullmatch(remote):
            raise RejectedError(f"{self._name}: what is remembered is no issue's key")
        return f"{self._at}/rest/api/3/issue/{remote}"

    def _as_remote(self, issue: object) -> Remote:
        name = text(mapping(issue).get("key")) or ""
        closed = _done(mapping(mapping(issue).get("fields")).get("status"))
        if not KEY.fullmatch(name) or closed is None:
            raise self._web.unclear("it does not say how the issue stands", creates=False)
        return self._remote(name, closed=closed)

    def _remote(self, name: str, *, closed: bool) -> Remote:
        return Remote(key=name, url=f"{self._at}/browse/{name}", closed=closed)


def _label(key: str) -> str:
    return f"{LABEL}-{key}"


def _done(status: Any) -> bool | None:  # noqa: ANN401 -- JSON of whatever shape
    """Whether a status is of the category `done`; None when its category is not told."""
    category = text(mapping(mapping(status).get("statusCategory")).get("key"))
    return None if category is None else category == "done"
