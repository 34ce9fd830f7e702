"""Words: what came of a run is called the same in a card, its thread, a mail, and on the console."""

import pytest

from chalicelib.console.pages.sentences import entry
from chalicelib.delivery.card import card, reply
from chalicelib.delivery.mails import SAYS
from chalicelib.delivery.words import OUTCOMES, UNDONE
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Outcome
from tests.delivery.test_card import case, read, view

RESULT = {"recorded_at": "2026-08-03T12:00:00+00:00", "actor": {}, "chain": "c-1", "seq": 4}


@pytest.mark.parametrize("outcome", [*Outcome])
def test_an_outcome_is_called_the_same_wherever_people_read_it(outcome: Outcome) -> None:
    said = OUTCOMES[outcome]
    assert said.startswith(outcome.value.replace("_", " ").capitalize()), "as records, lists and tags have it"
    shown = card(view(case(None, asks=1, state=CaseState.CLOSED, outcome=outcome)))
    assert said in read(shown)
    thread = reply(f"run_{outcome.value}", {}, view())
    assert thread
    assert said in thread.text
    assert SAYS[f"run_{outcome.value}"] == said
    record = {**RESULT, "type": "RESULT", "data": {"outcome": outcome.value, "reason": "why"}}
    assert entry(record, None).says == f"{said}: why"


def test_an_outcome_that_is_none_of_ours_stands_as_it_is_on_record() -> None:
    record = {**RESULT, "type": "RESULT", "data": {"outcome": "half_done", "reason": "why"}}
    assert entry(record, None).says == "Half done: why"


@pytest.mark.parametrize("outcome", [*Outcome])
def test_what_came_of_an_undo_is_called_the_same_wherever_people_read_it(outcome: Outcome) -> None:
    said = UNDONE[outcome]
    thread = reply(f"undo_{outcome.value}", {}, view())
    assert thread
    assert said in thread.text
    assert SAYS[f"undo_{outcome.value}"] == said
    record = {**RESULT, "type": "UNDO_RESULT", "data": {"outcome": outcome.value, "reason": "why"}}
    assert entry(record, None).says == f"{said}: why"
