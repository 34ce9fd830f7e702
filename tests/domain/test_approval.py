"""Approval: who is one person and who is another; whose answer decides; until when one is taken."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from chalicelib.domain.approval import (
    EVERYBODY,
    MOST_ACTORS,
    Answer,
    Answers,
    Ask,
    Kind,
    Undone,
    principal,
    principals,
)
from chalicelib.domain.contract import Plan
from chalicelib.domain.finding import Actor
from chalicelib.domain.record import Head

NOW = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)
STS = "arn:aws:sts::111111111111:assumed-role"
ADMIN = f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/anna@example.org"
ASK = Ask(
    seq=1,
    controls=("c",),
    asked_at=NOW,
    expires_at=NOW + timedelta(hours=8),
    plan=Plan(),
    plan_hash="h",
    before={},
    reason="r",
)


@pytest.mark.parametrize("kind", Kind)
def test_an_ask_is_for_an_undo_exactly_when_it_says_of_what(kind: Kind) -> None:
    undone = Undone(run=1, by=ADMIN, reason="cut off", owner="anna", until=NOW)
    right, wrong = (undone, None) if kind is Kind.UNDO else (None, undone)
    stored = ASK.model_copy(update={"kind": kind, "undo": right}).model_dump_json()
    assert Ask.model_validate_json(stored).kind is kind
    stored = ASK.model_copy(update={"kind": kind, "undo": wrong}).model_dump_json()
    with pytest.raises(ValidationError, match="an undo says of what"):
        Ask.model_validate_json(stored)


@pytest.mark.parametrize(
    "other",
    [
        f"{STS}/AWSReservedSSO_ReadOnly_fedcba9876543210/anna@example.org",
        "arn:aws:sts::222222222222:assumed-role/AWSReservedSSO_Admin_00112233445566ff/anna@example.org",
        "arn:aws-us-gov:sts::222222222222:assumed-role/AWSReservedSSO_Admin_00112233445566ff/anna@example.org",
        f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/Anna@Example.ORG",
        f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/\uff21nna@example.org",
        f" {ADMIN}\n",
    ],
)
def test_an_identity_center_user_is_one_person_under_every_permission_set(other: str) -> None:
    assert principal(other) == principal(ADMIN) == "identity-center:anna@example.org"


@pytest.mark.parametrize(
    "other",
    [
        f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/anna@example.com",
        f"{STS}/AWSReservedSSO_Admin_0123456789abcdef/x-anna@example.org",
        f"{STS}/Admin/anna@example.org",
        f"{STS}/x-AWSReservedSSO_Admin_0123456789abcdef/anna@example.org",
        f"{STS}/AWSReservedSSO_Admin/anna@example.org",
        f"{STS}/AWSReservedSSO_Admin_0123456789abcde/anna@example.org",
        f"x{ADMIN}",
        "arn:aws:iam::111111111111:user/anna@example.org",
        "identity-center:bert@example.org",
        "",
    ],
)
def test_whoever_only_looks_like_that_person_is_somebody_else(other: str) -> None:
    assert principal(other) != principal(ADMIN)


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("arn:aws:iam::111111111111:user/anna", "arn:aws:iam::111111111111:user/Anna", True),
        ("arn:aws:iam::111111111111:user/anna", "arn:aws:iam::111111111111:user/\uff41nna", True),
        ("arn:aws:iam::111111111111:user/anna", "arn:aws:iam::222222222222:user/anna", False),
        ("arn:aws:iam::111111111111:user/anna", "arn:aws:iam::111111111111:user/team/anna", False),
        ("arn:aws:iam::111111111111:user/anna", "arn:aws:iam::111111111111:user/\u0430nna", False),
        (f"{STS}/Admin/anna", f"{STS}/Admin/bert", False),
        (f"{STS}/Admin/anna", f"{STS}/Other/anna", False),
    ],
)
def test_an_iam_user_is_one_however_spelled_and_a_role_session_is_its_whole_arn(
    one: str, other: str, same: bool
) -> None:
    assert (principal(one) == principal(other)) is same


@pytest.mark.parametrize("arn", [ADMIN, "arn:aws:iam::111111111111:user/Anna", f"{STS}/Admin/Anna", ""])
def test_a_principal_is_its_own(arn: str) -> None:
    assert principal(principal(arn)) == principal(arn)


def test_everybody_who_is_known_is_named_once() -> None:
    anna = Actor(type="IAMUser", arn="arn:aws:iam::111111111111:user/anna")
    again = Actor(type="IAMUser", arn="arn:aws:iam::111111111111:user/ANNA")
    nobody, empty = Actor(type="AWSService"), Actor(type="Unknown", arn="")
    ada = Actor(type="IAMUser", arn="arn:aws:iam::111111111111:user/ada")
    assert principals(anna, nobody, again, empty, ada) == (
        "arn:aws:iam::111111111111:user/ada",
        "arn:aws:iam::111111111111:user/anna",
    )
    assert principals() == ()


def test_who_changes_through_a_role_is_known_by_the_sessions_name_too() -> None:
    dora = Actor(type="AssumedRole", arn=f"{STS}/Developer/Dora@example.com", session="Dora@example.com")
    assert principals(dora) == (f"{STS}/developer/dora@example.com", "called:dora@example.com")


def test_a_hundred_sessions_are_named_and_with_one_more_it_is_everybody() -> None:
    """Each counts twice, by its ARN and by its name: whoever chooses session names fills a case no sooner for that."""
    sessions = [
        Actor(type="AssumedRole", arn=f"{STS}/Ci/build-{n}", session=f"build-{n}") for n in range(101)
    ]
    assert len(principals(*sessions[:100])) == MOST_ACTORS
    assert principals(*sessions) == (EVERYBODY,)


def said(by: str, *, approve: bool) -> Answer:
    return Answer(by=by, principal=by, at=NOW, approve=approve, reason="r", request_id="r")


def test_each_answer_is_kept_in_order_under_the_next_version() -> None:
    first, second = said("anna", approve=True), said("bert", approve=False)
    one, two = Head(seq=1, hash="1" * 64), Head(seq=2, hash="2" * 64)
    answers = Answers(case="c-1", ask=1, plan_hash="h").plus(first, one)
    both = answers.plus(second, two)
    assert both.answers == (first, second)
    assert (answers.version, both.version) == (1, 2)
    assert (answers.head, both.head) == (one, two)


def test_an_answer_is_taken_until_the_end_and_not_at_it() -> None:
    assert ASK.open(NOW)
    assert ASK.open(ASK.expires_at - timedelta(microseconds=1))
    assert not ASK.open(ASK.expires_at)
