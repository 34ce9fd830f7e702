"""Routes: every kind of notice to where the policy says, and to people by mail where it says nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.delivery.routes import about_of, destinations, fallbacks
from chalicelib.domain.delivery import Destination
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import Integration, Person, Policy, Route, Rule
from chalicelib.domain.ports import Notice
from chalicelib.flow import notify
from tests.adapters import samples
from tests.fakes.cases import HOME

AT = datetime(2026, 8, 3, 12, tzinfo=UTC)
PROD, TEST = "111111111111", "222222222222"
SEVERITIES = {"a-low": Severity.LOW, "b-high": Severity.HIGH, "c-medium": Severity.MEDIUM}

POLICY = Policy(
    people={"ann": Person(name="Ann", identities=("arn:aws:iam::111111111111:user/ann",))},
    rules=(Rule(name="all", approvers=("ann",)),),
    routes=(
        Route(name="high", channel="C0000HIGH", severities=(Severity.HIGH,), accounts=(PROD,)),
        Route(name="again", channel="C0000HIGH", owners=("team-x",), fallback="C0000ELSE"),
        Route(name="low", channel="C0000PROD", accounts=(PROD,), fallback="C0000HIGH"),
    ),
    integrations=(
        Integration(name="jira", system="jira", accounts=(PROD,)),
        Integration(name="ops", system="opscenter"),
        Integration(name="owned", system="github", owners=("team-x",)),
    ),
)


def notice(kind: str, *controls: str, account: Any = PROD, owner: Any = "") -> Notice:
    body = {"account": account, "controls": list(controls), "owner": owner, "resource": "arn"}
    return Notice(id="n", kind=kind, case="c", at=AT, body=body)


def told(one: Notice, policy: Policy | None = POLICY) -> list[str]:
    return [where.key for where in destinations(one, policy, SEVERITIES)]


@pytest.mark.parametrize(
    "one, expected",
    [
        (notice("errand", "a-low"), []),
        (notice("ask", "a-low"), ["slack:C0000PROD"]),
        (notice("ask", "b-high"), ["slack:C0000HIGH", "mail:people"]),
        (notice("ask", "a-low", "b-high"), ["slack:C0000HIGH", "mail:people"]),
        (notice("ask", "gone-from-the-catalog"), ["slack:C0000PROD", "mail:people"]),
        (notice("ask", "a-low", account=TEST), ["mail:people"]),
        (notice("ask", "a-low", account=TEST, owner="team-x"), ["slack:C0000HIGH"]),
        (notice("ask_progress", "b-high"), ["slack:C0000HIGH"]),
        (notice("ask_expired", "b-high"), ["slack:C0000HIGH", "mail:people"]),
        (notice("run_started", "b-high"), ["slack:C0000HIGH"]),
        (notice("run_started", "a-low", account=TEST), []),
        (notice("run_fixed", "a-low"), ["slack:C0000PROD", "mail:owner"]),
        (notice("run_failed", "b-high"), ["slack:C0000HIGH", "mail:people", "mail:owner"]),
        (notice("run_contained", "a-low", account=TEST), ["mail:people", "mail:owner"]),
        (notice("run_not_verified", "a-low"), ["slack:C0000PROD", "mail:owner"]),
        (notice("run_already_compliant", "a-low"), ["slack:C0000PROD"]),
        (notice("run_declined", "a-low"), ["slack:C0000PROD"]),
        (notice("undo_fixed", "c-medium"), ["slack:C0000PROD", "mail:owner"]),
        (notice("undo_refused", "c-medium"), ["slack:C0000PROD"]),
        (notice("undo_started", "c-medium"), ["slack:C0000PROD"]),
        (notice("undo_started", "b-high"), ["slack:C0000HIGH"]),
        (notice("case_news", "a-low"), ["slack:C0000PROD"]),
        (notice("ticket_open", "a-low"), ["slack:C0000PROD", "ticket:jira", "ticket:ops"]),
        (notice("ticket_open", "a-low", account=TEST), ["mail:people", "ticket:ops"]),
        (
            notice("ticket_open", "a-low", account=TEST, owner="team-x"),
            ["slack:C0000HIGH", "ticket:ops", "ticket:owned"],
        ),
        (notice("tamper_suspected", "a-low"), ["slack:C0000HIGH", "slack:C0000PROD", "mail:people"]),
        (notice("break_glass", "a-low"), ["slack:C0000HIGH", "slack:C0000PROD", "mail:people"]),
        (notice("baseline_report", account=None), ["mail:people"]),
        (notice("ticket_open", "a-low", account="nowhere"), ["mail:people"]),
        (notice("ask", "a-low", owner=7), ["slack:C0000PROD"]),
    ],
)
def test_a_notice_goes_where_the_policy_says(one: Notice, expected: list[str]) -> None:
    assert told(one) == expected


@pytest.mark.parametrize(
    "one, expected",
    [
        (notice("ask", "a-low"), ["mail:people"]),
        (notice("tamper_suspected"), ["mail:people"]),
        (notice("run_fixed", "a-low"), ["mail:people", "mail:owner"]),
        (notice("ticket_open", "a-low"), ["mail:people"]),
        (notice("errand"), []),
    ],
)
def test_without_a_policy_people_are_told_by_mail(one: Notice, expected: list[str]) -> None:
    assert told(one, None) == expected


@pytest.mark.parametrize("account", [PROD, TEST, "nowhere"])
def test_a_closing_goes_to_every_system_that_may_have_the_ticket(account: str) -> None:
    where = told(notice("ticket_closed", "a-low", account=account))
    assert where[-3:] == ["ticket:jira", "ticket:ops", "ticket:owned"]


def test_what_is_new_in_a_ticket_goes_to_the_systems_that_it_fits_alone() -> None:
    assert told(notice("ticket_news", "a-low")) == ["ticket:jira", "ticket:ops"]
    assert told(notice("ticket_news", "a-low", account="nowhere")) == []
    assert told(notice("ticket_news", "a-low"), None) == []


def test_what_was_heard_of_a_ticket_is_a_question_for_that_system_alone() -> None:
    for policy in (POLICY, None):
        one = notify.heard(samples.case(), samples.ticket(), "ops", "r-1", AT)
        assert told(one, policy) == ["ticket:ops"]


def test_a_ticket_carries_what_its_way_depends_on() -> None:
    about = about_of(notify.ticket(samples.ticket()), {samples.CONTROL: Severity.HIGH})
    expected = (Severity.HIGH, HOME, (samples.CONTROL,), "team-a")
    assert about
    assert (about.severity, about.account, about.controls, about.owner) == expected


def test_what_names_no_controls_is_critical() -> None:
    about = about_of(notice("case_news"), SEVERITIES)
    assert about is not None
    assert about.severity is Severity.CRITICAL


def test_a_channel_has_the_fallbacks_of_its_routes() -> None:
    assert fallbacks(POLICY, "C0000HIGH") == (Destination(kind="slack", to="C0000ELSE"),)
    assert fallbacks(POLICY, "C0000PROD") == (Destination(kind="slack", to="C0000HIGH"),)
    assert fallbacks(POLICY, "C0000ELSE") == ()
    assert fallbacks(None, "C0000PROD") == ()
