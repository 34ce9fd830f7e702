"""What delivery remembers: written under its version or not at all, and found while it waits."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.adapters.dynamodb import Ledger
from chalicelib.adapters.tables import notice_item, setting_put
from chalicelib.adapters.told import DynamoTold
from chalicelib.domain.delivery import Deliveries, Destination, Line, Storm, TicketRef
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import ConflictError, ContractError, UnreadableError
from chalicelib.domain.figures import Figures
from chalicelib.domain.ports import Notice
from tests.adapters.stores import Dynamo
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.clock import START

CHANNEL = Destination(kind="slack", to="C0000001")


@pytest.fixture
def told(dynamo: Dynamo) -> DynamoTold:
    return DynamoTold(dynamo.client, DEPLOYMENT)


def line(minutes: float = 0, state: Any = "waiting") -> Line:
    at = START + timedelta(minutes=minutes)
    return Line(destination=CHANNEL, notice="n", kind="ask", at=at, state=state)


def put(dynamo: Dynamo, item: Any, table: str = "outbox") -> None:
    dynamo.client.put_item(TableName=DEPLOYMENT.table(table), Item=item)


STORM = Storm(id="s", channel="C0000001", control="a", account="1", began_at=START, version=1)
REFERENCE = TicketRef(ticket="d-t1", integration="jira", reserved_at=START, version=1)
FIRST = Deliveries(case="c-1", lines=(line(),), version=1)


def test_what_was_kept_is_read_again(told: DynamoTold) -> None:
    assert (told.deliveries("c-1"), told.storm("s"), told.reference("d-t1", "jira")) == (None, None, None)
    told.keep(FIRST, STORM, REFERENCE)
    assert told.deliveries("c-1") == FIRST
    assert told.storm("s") == STORM
    assert told.reference("d-t1", "jira") == REFERENCE
    assert told.reference("d-t1", "github") is None


def test_figures_and_an_errand_are_kept_where_they_are_read(told: DynamoTold, dynamo: Dynamo) -> None:
    ledger = Ledger(dynamo.client, DEPLOYMENT)
    assert ledger.figures() is None
    figures = Figures(counted_from=START, counted_until=START, version=1)
    errand = Notice(id="ERRAND#r", kind="errand", case="c-1", at=START, body={"errand": "tick"})
    told.keep(figures, errand)
    assert (ledger.figures(), told.notice("ERRAND#r")) == (figures, errand)
    (stored,) = dynamo.items("outbox")
    assert stored["kind"] == {"S": "errand"}, "by which the stream knows it"
    with pytest.raises(ConflictError):
        told.keep(figures)
    later = figures.model_copy(update={"version": 2, "counted_until": START + timedelta(hours=1)})
    told.keep(later)
    assert ledger.figures() == later


def test_an_errand_goes_with_what_it_is_kept_with_or_not_at_all(told: DynamoTold) -> None:
    told.keep(REFERENCE)
    errand = Notice(id="ERRAND#r", kind="errand", case="c-1", at=START, body={"errand": "tick"})
    with pytest.raises(ConflictError):
        told.keep(REFERENCE, errand)
    assert told.notice("ERRAND#r") is None


def test_who_was_slower_keeps_nothing(told: DynamoTold) -> None:
    told.keep(FIRST)
    with pytest.raises(ConflictError):
        told.keep(STORM, FIRST)
    assert told.storm("s") is None
    told.keep(FIRST.model_copy(update={"version": 2}))
    with pytest.raises(ConflictError):
        told.keep(FIRST.model_copy(update={"version": 2, "lines": ()}))
    assert told.deliveries("c-1") == FIRST.model_copy(update={"version": 2})


def test_what_was_never_raised_to_a_version_is_no_write(told: DynamoTold) -> None:
    with pytest.raises(ContractError):
        told.keep(STORM.model_copy(update={"version": 0}))


def test_what_waits_is_found_oldest_first_and_only_while_it_waits(told: DynamoTold) -> None:
    newer = Deliveries(case="c-2", lines=(line(2, "told"), line(3)), version=1)
    done = Deliveries(case="c-3", lines=(line(-9, "told"), line(-8, "given_up")), version=1)
    told.keep(newer, FIRST, done, STORM)
    assert (*told.waiting(START + timedelta(minutes=4), 9),) == (FIRST, newer)
    assert (*told.waiting(START + timedelta(minutes=4), 1),) == (FIRST,)
    assert (*told.waiting(START + timedelta(minutes=3), 9),) == (FIRST,)
    assert (*told.waiting(START, 9),) == ()
    told.keep(FIRST.model_copy(update={"version": 2, "lines": (line(0, "told"),)}))
    assert (*told.waiting(START + timedelta(minutes=4), 9),) == (newer,)


def test_what_was_tried_again_is_found_when_it_is_due_again(told: DynamoTold) -> None:
    tried = line().model_copy(update={"due_at": START + timedelta(minutes=9)})
    told.keep(FIRST, Deliveries(case="c-2", lines=(tried, line(20)), version=1))
    assert (*told.waiting(START + timedelta(minutes=9), 9),) == (FIRST,)
    assert [one.case for one in told.waiting(START + timedelta(minutes=10), 9)] == ["c-1", "c-2"]


def test_what_cannot_be_read_stands_in_nobodys_way_and_is_told_at_last(
    told: DynamoTold, dynamo: Dynamo
) -> None:
    told.keep(FIRST)
    spoilt = {"pk": "DELIVERIES#x", "body": "{}", "waiting": "yes", "since": "2020-01-01T00:00:00.000Z"}
    put(dynamo, {name: {"S": text} for name, text in spoilt.items()})
    later = START + timedelta(hours=1)
    found = told.waiting(later, 9)
    assert next(found) == FIRST
    with pytest.raises(UnreadableError, match="1 cannot be read, the first: DELIVERIES#x"):
        next(found)
    told.keep(FIRST.model_copy(update={"version": 2, "lines": ()}))
    with pytest.raises(UnreadableError):
        next(told.waiting(later, 9))


def test_an_index_that_lags_shows_nothing_that_no_longer_waits(told: DynamoTold, dynamo: Dynamo) -> None:
    done = FIRST.model_copy(update={"lines": ()})
    lagging = {"pk": "DELIVERIES#c-1", "body": done.model_dump_json(), "waiting": "yes", "since": "2020"}
    put(dynamo, {name: {"S": text} for name, text in lagging.items()})
    assert (*told.waiting(START, 9),) == ()


def test_notices_and_dossiers_are_read_as_they_stand(told: DynamoTold, dynamo: Dynamo) -> None:
    notice = Notice(id="c-1#ask-1", kind="ask", case="c-1", at=START, body={"account": "1"})
    dossier = Dossier(case="c-1", holder="arn")
    assert (told.notice("c-1#ask-1"), told.dossier("c-1"), told.policy()) == (None, None, None)
    put(dynamo, notice_item(notice))
    put(dynamo, setting_put("DOSSIER#c-1", "DOSSIER", dossier).item, "control_state")
    assert told.notice("c-1#ask-1") == notice
    assert told.dossier("c-1") == dossier


def test_a_chain_is_read_in_order(told: DynamoTold, dynamo: Dynamo) -> None:
    for number in (2, 1, 3):
        row = {
            "pk": "c-1",
            "sk": f"{number:010d}",
            "body": f"b{number}",
            "hash": "h",
            "record_id": "r",
            "type": "t",
        }
        put(dynamo, {name: {"S": text} for name, text in row.items()}, "audit")
    assert list(told.bodies("c-1")) == ["b1", "b2", "b3"]
