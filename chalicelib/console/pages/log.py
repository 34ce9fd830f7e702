"""The log: what was recorded, in sentences, with the bytes beside each. Every filter is in the address."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from chalicelib.adapters.dynamodb import Sought
from chalicelib.console import render
from chalicelib.console.desk import Visit
from chalicelib.console.pages import sentences
from chalicelib.console.web import Reply
from chalicelib.domain.finding import is_account_id
from chalicelib.domain.record import RecordType, body_of, digest_of

ON_A_PAGE = 25
LOOKS_BACK = timedelta(days=30)
"""How far the log reaches without a `since`."""

DAYS = ("since", "until")

EARLIEST = date(2020, 1, 1)
"""Nothing of ours is older: an address that says otherwise costs no search through centuries."""


def log(visit: Visit) -> Reply:
    """A page of records, newest first: an account's, a resource's, or an actor's.

    Trails are kept by account, so without any of these it is the first account that the visitor sees. What the address says
    and nobody understands is told: else a page would be taken for an answer to it.
    """
    accounts = visit.accounts
    filters = {name: visit.asked(name, 600) for name in ("account", "resource", "actor", "control", "type")}
    since, until = _day(visit.asked("since")), _day(visit.asked("until"))
    unread = [
        (name, visit.asked(name))
        for name in visit.request.query
        if name not in {*filters, "place"}
        and visit.asked(name)
        and (name not in DAYS or not _day(visit.asked(name)))
    ]
    since, until = since and max(since, EARLIEST), until and min(until, visit.now.date())
    first = (accounts or (visit.desk.home,))[0]
    account = filters["account"] if is_account_id(filters["account"]) else first
    begins = datetime.combine(since, time(), UTC) if since else visit.now - LOOKS_BACK
    ends = datetime.combine(until, time.max, UTC) if until else visit.now

    def fits(body: Mapping[str, Any]) -> bool:
        return (
            visit.visitor.sees(str(body["account"]))
            and filters["account"] in {"", body["account"]}
            and filters["type"] in {"", body["type"]}
            and (not filters["control"] or filters["control"] in body["controls"])
        )

    sought = Sought(account, begins, ends, filters["resource"], filters["actor"], fits)
    page = visit.desk.books.records_page(sought, ON_A_PAGE, visit.place())
    rows = [
        (sentences.entry(said, visit.policy), json.loads(one.body), one.hash, digest_of(one.body) == one.hash)
        for one in page.items
        if (said := body_of(one.body))
    ]
    return render.page(
        visit.site,
        "log.html",
        visit=visit,
        now=visit.now,
        rows=rows,
        filters=filters,
        first=first,
        unread=unread,
        account="" if filters["resource"] or filters["actor"] else account,
        since=since.isoformat() if since else "",
        until=until.isoformat() if until else "",
        begins=begins,
        types=[one.value for one in RecordType],
        following_url=visit.next(page.more),
        controls=sorted(visit.desk.controls),
        accounts=accounts,
    )


def _day(text: str) -> date | None:
    """A day of the calendar, or None for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
