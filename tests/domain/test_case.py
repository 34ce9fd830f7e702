"""A case: its name, its standing, what it still has to look at, and what of its causes counts as fresh."""

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.domain.case import (
    DEMANDS,
    ENDS,
    FRESH,
    Case,
    CaseState,
    JoinedCause,
    Lock,
    case_digest,
    case_of_session,
    cause_of,
    is_fresh,
    parts_of,
    session_name,
)
from chalicelib.domain.finding import Actor, Target

NOW = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)
TARGET = Target(account="111111111111", region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-1")


def joined(at: datetime, *opened: str, who: str = "ann") -> JoinedCause:
    actor = Actor(type="IAMUser", arn=f"arn:aws:iam::111111111111:user/{who}")
    return JoinedCause(event_id=f"at {at}", at=at, actor=actor, controls=("ssh",), opened=opened)


def case(*causes: JoinedCause, **change: object) -> Case:
    made = Case(
        digest=case_digest("r", TARGET),
        episode=1,
        remediation="r",
        target=TARGET,
        state=CaseState.OPEN,
        controls=("ssh",),
        standing={"ssh": CaseState.OPEN},
        generation=1,
        causes=causes,
        opened_at=NOW,
        updated_at=NOW,
    )
    return made.model_copy(update=change)


def test_a_cases_name_tells_its_digest_and_episode_and_so_does_its_session() -> None:
    one = case(episode=12)
    assert parts_of(one.id) == (one.digest, 12)
    assert case_of_session(session_name(one.id, 3)) == (one.digest, 12, 3)
    assert len(session_name(f"{one.digest}-999999", 999999)) <= 64


@pytest.mark.parametrize(
    "text", ["", "x-1", "a" * 20, f"{'a' * 20}-", f"{'a' * 20}-1 ", f"{'A' * 20}-1", f"{'a' * 20}-1000000"]
)
def test_what_is_no_cases_name_means_none(text: str) -> None:
    assert parts_of(text) is None
    assert case_of_session(f"redress-{text}-1") is None


def test_no_session_means_no_case() -> None:
    assert case_of_session(None) is None
    assert case_of_session(f"redress-{'a' * 20}-1-1-1") is None


def test_every_state_has_its_place_among_the_demands_and_the_ends_ask_for_least() -> None:
    assert set(DEMANDS) == set(CaseState)
    assert set(DEMANDS[: len(ENDS)]) == ENDS
    assert {state for state in CaseState if state.ended} == ENDS


def test_what_is_said_of_one_control_never_ends_what_is_open_for_another() -> None:
    both = case(controls=("rdp", "ssh"), standing={"rdp": CaseState.TICKETED, "ssh": CaseState.WAITING})
    ssh_done = both.where(("ssh",), CaseState.CLOSED)
    assert ssh_done["state"] is CaseState.TICKETED
    assert ssh_done["standing"] == {"rdp": CaseState.TICKETED, "ssh": CaseState.CLOSED}
    assert both.where(("rdp", "ssh"), CaseState.EXEMPT)["state"] is CaseState.EXEMPT
    assert both.where(("rdp",), CaseState.CLOSED)["state"] is CaseState.WAITING


def test_what_joined_after_the_last_look_is_pending() -> None:
    assert case(generation=2, assessed=1).pending
    assert not case(generation=2, assessed=2).pending


def test_a_lease_is_held_until_it_ends_and_not_at_its_end() -> None:
    lock = Lock(case="c", run=1, lease_until=NOW, version=1)
    assert lock.held(NOW - timedelta(microseconds=1))
    assert not lock.held(NOW)


def test_the_newest_cause_speaks_and_only_fresh_ones_opened_anything() -> None:
    old, mid, new = (
        joined(NOW - FRESH - timedelta(seconds=1), "rule-old"),
        joined(NOW - FRESH, "rule-b", "rule-a"),
        joined(NOW - timedelta(minutes=1), "rule-a", who="bert"),
    )
    cause = cause_of(case(new, old, mid, last_state={"x": 1}, acted_at=NOW, acted_before={"y": 2}), NOW)
    assert (cause.at, cause.actor) == (new.at, new.actor)
    assert cause.opened == ("rule-a", "rule-b")
    assert (cause.last_state, cause.acted_at, cause.acted_before) == ({"x": 1}, NOW, {"y": 2})
    assert is_fresh(cause, NOW)
    assert not is_fresh(cause_of(case(old), NOW), NOW)


def test_a_time_in_the_future_is_no_evidence_of_recency() -> None:
    ahead = joined(NOW + FRESH + timedelta(seconds=1), "rule")
    assert cause_of(case(ahead), NOW).opened == ()
    assert not is_fresh(cause_of(case(ahead), NOW), NOW)


def test_a_digest_is_of_remediation_and_target() -> None:
    other = TARGET.model_copy(update={"id": "sg-2"})
    assert len({case_digest("r", TARGET), case_digest("s", TARGET), case_digest("r", other)}) == 3
