"""GitHub Issues, through the REST API.

https://docs.github.com/rest/issues/issues
"""

import re
from collections.abc import Mapping
from typing import Any

from chalicelib.adapters.tickets.exchange import Exchange
from chalicelib.adapters.web import Outward
from chalicelib.delivery import documents
from chalicelib.domain.delivery import Remote
from chalicelib.domain.errors import RejectedError, UnreachableError
from chalicelib.domain.policy import Integration
from chalicelib.domain.shape import mapping
from chalicelib.domain.ticket import Ticket

REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
LABEL = "redress"
PAGE = 50
MOST_PAGES = 10
"""Pages of our issues, newest first, through which one is looked for that was made within the last hour."""


class GitHub:
    """`domain.delivery.TicketSystem`. `project` is `owner/repository`, `at` the API's address (https://api.github.com).

    Credentials: `token`, which may write issues and set labels. Found by a marker that is not shown, among the issues with
    our label: search lags, and only who has triage rights can put the label on an issue that carries a copied marker.
    """

    def __init__(self, integration: Integration, credentials: Mapping[str, str], web: Outward) -> None:
        owner, _, repository = integration.project.partition("/")
        if (
            not integration.at
            or not REPOSITORY.fullmatch(integration.project)
            or {owner, repository} & {".", ".."}
        ):
            raise UnreachableError(
                f"{integration.name}: GitHub needs `at`, as https://api.github.com, and `project`, as owner/repository"
            )
        token = credentials.get("token", "")
        if not token:
            raise UnreachableError(
                f"{integration.name}: the notifier's secret has no `token` under this name"
            )
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._web = Exchange(integration.name, web, headers, (token,))
        self._name = integration.name
        at = integration.at.rstrip("/")
        self._issues = f"{at}/repos/{integration.project}/issues"
        # An answer's own html_url is not taken: people click on it.
        site = "https://github.com" if at == "https://api.github.com" else at.removesuffix("/api/v3")
        self._shown = f"{site}/{integration.project}/issues"

    def create(self, ticket: Ticket, key: str) -> Remote:
        marker = f"\n\n{_marker(key)}"
        body = documents.marked(documents.opened(ticket)) + marker
        made = self._web.ask(
            "POST",
            self._issues,
            {"title": documents.title_of(ticket), "body": body, "labels": [LABEL]},
            creates=True,
        )
        return self._as_remote(made, creates=True)

    def find(self, key: str) -> Remote | None:
        marker = _marker(key)
        for page in range(1, MOST_PAGES + 1):
            query = f"labels={LABEL}&state=all&sort=created&direction=desc&per_page={PAGE}&page={page}"
            issues = self._web.ask("GET", f"{self._issues}?{query}")
            if not isinstance(issues, list):
                raise self._web.unclear("it lists no issues in its answer", creates=False)
            for issue in issues:
                if str(mapping(issue).get("body") or "").rstrip().endswith(marker):
                    return self._as_remote(issue, creates=False)
            if len(issues) < PAGE:
                break
        return None

    def update(self, remote: str, ticket: Ticket) -> None:
        self._comment(remote, documents.news(ticket, "As it stands now:"))

    # The comment comes last: whatever fails is tried again, and to move it twice leaves nothing behind.

    def reopen(self, remote: str, ticket: Ticket) -> None:
        self._web.ask("PATCH", self._issue(remote), {"state": "open", "state_reason": "reopened"})
        self._comment(remote, documents.news(ticket, documents.STILL))

    def close(self, remote: str, ticket: Ticket) -> None:
        self._web.ask("PATCH", self._issue(remote), {"state": "closed", "state_reason": "completed"})
        self._comment(remote, documents.closed(ticket))

    def look(self, remote: str) -> Remote:
        return self._as_remote(self._web.ask("GET", self._issue(remote)), creates=False)

    def _comment(self, remote: str, parts: tuple[documents.Part, ...]) -> None:
        self._web.ask("POST", f"{self._issue(remote)}/comments", {"body": documents.marked(parts)})

    def _issue(self, remote: str) -> str:
        if not NUMBER.fullmatch(remote):
            raise RejectedError(f"{self._name}: what is remembered is no issue's number")
        return f"{self._issues}/{remote}"

    def _as_remote(self, issue: Any, *, creates: bool) -> Remote:  # noqa: ANN401 -- JSON of whatever shape
        number, state = mapping(issue).get("number"), mapping(issue).get("state")
        if not isinstance(number, int) or number < 1 or state not in {"open", "closed"}:
            raise self._web.unclear("it does not say how the issue stands", creates=creates)
        return Remote(key=str(number), url=f"{self._shown}/{number}", closed=state == "closed")


def _marker(key: str) -> str:
    return f"<!-- redress:{key} -->"
