"""The policy: which rule and route are for what, who is who, whose answer counts, and what answers amount to."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from chalicelib.domain.approval import EVERYBODY, Answer, Answers, Ask, Door, Kind, Undone, principal
from chalicelib.domain.contract import NOTHING_TO_DO
from chalicelib.domain.finding import Severity
from chalicelib.domain.policy import (
    About,
    Engagement,
    Policy,
    Rule,
    able,
    about_of,
    askable,
    consent,
    misplaced,
    names_of,
    principal_of,
    problem_with,
    unopened,
    usable,
    why_not,
)

AT = datetime(2031, 5, 7, 12, tzinfo=UTC)
ACCOUNT, OTHER = "111122223333", "444455556666"
IDP = "https://idp.example"
ANNA, ANNA_SSO, ANNA_OIDC, ANNA_SLACK = (
    f"arn:aws:iam::{ACCOUNT}:user/staff/anna",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/anna.a@example.com",
    f"oidc:{IDP}#00uAnna",
    "slack:T0000TEAM/U0ANNA",
)
BERT, BERT_MAIL = f"arn:aws:iam::{ACCOUNT}:user/bert", f"email:{IDP}#bert@example.com"
CARL, DORA = f"oidc:{IDP}#carl", f"oidc:{IDP}#dora"
DOCUMENT: dict[str, Any] = {
    "people": {
        "anna": {
            "name": "Anna Approver",
            "email": "anna@example.com",
            "identities": (ANNA, ANNA_SSO, ANNA_OIDC, ANNA_SLACK),
            "roles": ("approver",),
        },
        "bert": {"name": "Bert Builder", "identities": (BERT, BERT_MAIL)},
        "carl": {"name": "Carl Captain", "identities": (CARL,), "roles": ("operator",)},
        "dora": {"name": "Dora Viewer", "identities": (DORA,)},
    },
    "groups": {"team": ("anna", "bert")},
    "accounts": {ACCOUNT: {"environment": "production", "ou": "ou-web"}},
    "rules": (
        {
            "name": "lab",
            "severities": ("low", "medium"),
            "approvers": ("anna",),
            "doors": ("slack", "console"),
        },
        {"name": "ports", "controls": ("ssh", "rdp"), "approvers": ("group:team",)},
        {"name": "production", "environments": ("production",), "approvers": ("group:team",), "quorum": 2},
        {"name": "branch", "ous": ("ou-lab",), "approvers": ("carl",), "doors": ("console",)},
        {"name": "account", "accounts": (OTHER,), "severities": ("critical",), "approvers": ("bert",)},
    ),
    "break_glass": ("carl",),
    "slack_team": "T0000TEAM",
    "providers": (
        {"name": "corp", "title": "Corp", "issuer": IDP, "client_id": "c"},
        {
            "name": "slack",
            "title": "Slack",
            "issuer": "https://slack.com",
            "client_id": "c",
            "team": "T0000TEAM",
        },
    ),
}


def policy(**changes: Any) -> Policy:
    return Policy.model_validate_json(to_json({**DOCUMENT, **changes}))


def rule_of(changes: dict[str, Any]) -> Rule:
    return Rule.model_validate_json(to_json(changes))


def about(
    severity: Severity = Severity.HIGH, account: str = ACCOUNT, *controls: str, owner: str = ""
) -> About:
    return About(severity=severity, account=account, controls=controls or ("mfa",), owner=owner)


ASK = Ask(
    seq=1,
    controls=("mfa",),
    asked_at=AT,
    expires_at=AT + timedelta(hours=8),
    plan=NOTHING_TO_DO,
    plan_hash="f" * 64,
    before={},
    reason="r",
    severity=Severity.HIGH,
)


def said(by: str, of: Policy | None = None, *, approve: bool = True, **changes: Any) -> Answer:
    doors = {"arn": Door.CLI, "oidc": Door.CONSOLE, "email": Door.CONSOLE, "slack": Door.SLACK}
    given = Answer(
        by=by,
        principal=principal_of(of or policy(), by),
        at=AT,
        approve=approve,
        reason="r",
        request_id="q",
        door=doors[by.split(":", 1)[0]],
    )
    return given.model_copy(update=changes)


def all_of(*answers: Answer) -> Answers:
    return Answers(case="c", ask=1, plan_hash="f" * 64, answers=answers, version=len(answers))


# -- which rule -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked, rule",
    [
        (about(Severity.LOW), "lab"),
        (about(Severity.MEDIUM, OTHER), "lab"),
        (about(Severity.HIGH, OTHER, "ssh"), "ports"),
        (about(Severity.CRITICAL, ACCOUNT, "rdp", "ssh"), "ports"),
        (about(Severity.HIGH, ACCOUNT, "ssh", "mfa"), "ports + production"),
        (about(Severity.HIGH, OTHER, "ssh", "mfa"), None),
        (about(), "production"),
        (about(Severity.CRITICAL, OTHER), "account"),
        (about(Severity.HIGH, OTHER), None),
    ],
)
def test_the_first_rule_for_each_control_counts_and_none_means_that_nobody_may(
    asked: About, rule: str | None
) -> None:
    found = policy().rule(asked)
    assert (found.name if found else None) == rule


STRICTER: tuple[dict[str, Any], ...] = (
    {
        "name": "ssh",
        "controls": ("ssh",),
        "severities": ("low",),
        "approvers": ("anna", "bert", "carl"),
        "quorum": 2,
        "doors": ("slack", "console"),
        "login_within_minutes": 9,
    },
    {
        "name": "rdp",
        "controls": ("rdp",),
        "severities": ("low",),
        "approvers": ("group:team", "dora"),
        "doors": ("slack", "console", "cli"),
        "mfa": True,
        "login_within_minutes": 5,
        "expires_after_hours": 4,
    },
    {"name": "rest", "approvers": ("group:team", "carl"), "expires_after_hours": 6},
)


def test_what_is_about_two_controls_takes_what_both_rules_ask_for() -> None:
    """Whoever breaks a second control would else choose the rule for the first."""
    one = policy(rules=STRICTER)
    for two in (("rdp", "ssh"), ("ssh", "rdp")):
        both = one.rule(about(Severity.LOW, ACCOUNT, *two))
        assert both
        assert both.name == " + ".join(two)
        assert sorted(one.members(both.approvers)) == ["anna", "bert"]
        assert both.quorum == 2
        assert {*both.doors} == {Door.SLACK, Door.CONSOLE}
        assert (both.mfa, both.login_within_minutes, both.expires_after_hours) == (True, 5, 4)
    lax = one.rule(about(Severity.LOW, ACCOUNT, "mfa", "ebs"))
    assert lax
    assert (lax.name, lax.login_within_minutes) == ("rest", None)


@pytest.mark.parametrize("door", [Door.CLI, Door.CONSOLE, Door.SLACK])
@pytest.mark.parametrize("identity", [ANNA_SLACK, BERT, CARL, DORA])
@pytest.mark.parametrize("signed_in", [{}, {"mfa": True}, {"mfa": True, "logged_in_at": AT}])
def test_an_approval_of_two_controls_is_one_of_either(
    door: Door, identity: str, signed_in: dict[str, Any]
) -> None:
    one = policy(rules=STRICTER)
    given = said(identity, one, door=door, **signed_in)
    for two in (("ssh", "rdp"), ("rdp", "mfa"), ("ssh", "rdp", "mfa")):
        alone = [problem_with(one, about(Severity.LOW, ACCOUNT, each), ASK, given) for each in two]
        together = problem_with(one, about(Severity.LOW, ACCOUNT, *two), ASK, given)
        assert bool(together) is any(alone), (two, together, alone)


@pytest.mark.parametrize("withdrawn", [False, True])
@pytest.mark.parametrize("door", [Door.CLI, Door.CONSOLE, Door.SLACK])
@pytest.mark.parametrize("identity", [ANNA_SLACK, BERT, CARL, DORA])
def test_who_may_stop_one_of_two_controls_may_stop_both(door: Door, identity: str, withdrawn: bool) -> None:
    """Else whoever makes the change breaks a second control, and with that takes the veto of the first one away."""
    one = policy(rules=STRICTER)
    given = said(identity, one, door=door, approve=withdrawn, withdrawn=withdrawn)
    for two in (("ssh", "rdp"), ("rdp", "mfa"), ("ssh", "rdp", "mfa")):
        alone = [problem_with(one, about(Severity.LOW, ACCOUNT, each), ASK, given) for each in two]
        together = problem_with(one, about(Severity.LOW, ACCOUNT, *two), ASK, given)
        assert bool(together) is all(alone), (two, together, alone)


def test_where_no_quorum_of_both_rules_can_come_about_asking_is_in_vain() -> None:
    rules = ({**RULE, "name": "ssh", "controls": ("ssh",)}, {**RULE, "name": "rest", "approvers": ("bert",)})
    one = policy(rules=rules)
    assert askable(one, about(Severity.HIGH, ACCOUNT, "ssh"), ASK) == ""
    vain = askable(one, about(Severity.HIGH, ACCOUNT, "ssh", "rdp"), ASK)
    assert vain == "the rule ssh + rest wants 1 to approve, and 0 could"


def test_a_rule_may_be_for_an_organizational_unit() -> None:
    moved = policy(accounts={OTHER: {"ou": "ou-lab"}})
    found = moved.rule(about(Severity.HIGH, OTHER))
    assert found
    assert found.name == "branch"


def test_no_rule_goes_by_an_owner_because_tags_are_anybodys_to_write() -> None:
    with pytest.raises(ValidationError, match="mine: whoever changes a resource may choose its owner tag"):
        Rule(name="mine", owners=("web",), approvers=("anna",))


def test_the_first_route_that_fits_counts() -> None:
    one = policy(
        routes=(
            {"name": "web", "channel": "C0000WEB", "owners": ("web",)},
            {"name": "rest", "channel": "C0000REST", "severities": ("high",)},
        )
    )
    named = [one.route(about(owner="web")), one.route(about()), one.route(about(Severity.LOW))]
    assert [route.name if route else None for route in named] == ["web", "rest", None]


# -- what is no policy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severities", [(), ("high",), ("low", "critical")])
def test_a_slack_button_decides_nothing_severe_whatever_the_policy_says(severities: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="a Slack button decides low and medium severity only"):
        rule_of({"name": "r", "approvers": ("a",), "doors": ("slack",), "severities": severities})


RULE: dict[str, Any] = {"name": "r", "approvers": ("anna",)}
CORP: dict[str, Any] = {"name": "corp", "title": "Corp", "issuer": IDP, "client_id": "redress"}


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"rules": ()}, "at least 1 item"),
        ({"rules": ({**RULE, "approvers": ("eve",)},)}, "rule r: 'eve' is neither a person nor a group"),
        ({"rules": ({**RULE, "approvers": ("group:eve",)},)}, "rule r: 'group:eve' is neither"),
        ({"rules": ({**RULE, "quorum": 2},)}, "rule r: 2 must approve, and 1 of its approvers"),
        ({"rules": ({**RULE, "quorum": 0},)}, "greater than or equal to 1"),
        ({"rules": ({**RULE, "approvers": ("carl",), "doors": ("cli",)},)}, "and 0 of its approvers"),
        ({"groups": {"team": ("anna", "bert", "eve")}}, "group team: nobody is called 'eve'"),
        ({"groups": {"team": ("anna",)}}, "rule production: 2 must approve, and 1 of its approvers"),
        ({"break_glass": ("eve",)}, "break_glass: nobody is called 'eve'"),
        (
            {"schedules": {"night": ({"starts": AT, "ends": AT, "people": ("eve",)},)}},
            "schedule night: nobody is called 'eve'",
        ),
        (
            {"routes": ({"name": "r", "channel": "C0000000", "on_call": "schedule:night"},)},
            "route r: there is no schedule 'night'",
        ),
        ({"routes": ({"name": "r", "channel": "#general"},)}, "must be a Slack channel's id"),
        ({"people": {**DOCUMENT["people"], "eve": {"name": "Eve", "identities": ()}}}, "at least 1 item"),
        (
            {"people": {**DOCUMENT["people"], "eve": {"name": "Eve", "identities": ("eve",)}}},
            "must be oidc:<issuer>#<sub>",
        ),
        ({"console_url": "http://redress.example"}, "must be an https:// address"),
        ({"slack_team": "acme"}, "must be a Slack workspace's id"),
        (
            {"routes": ({"name": "r", "channel": "C0000000", "on_call": "anna"},)},
            "must be slack:<id of a Slack user group>, or schedule:<name of a schedule>",
        ),
        ({"surprise": True}, "Extra inputs"),
        ({"rules": (RULE, {**RULE, "controls": ("ssh",)})}, "rule r: that name is given twice"),
        ({"providers": (CORP, CORP)}, "provider corp: that name is given twice"),
        ({"providers": ({**CORP, "team": "T0000001"},)}, f"a team is Slack's, and {IDP} is not Slack"),
        (
            {"providers": ({**CORP, "issuer": "https://slack.com"},)},
            "provider corp: name the Slack workspace",
        ),
    ],
)
def test_what_does_not_hold_together_is_no_policy(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        policy(**changes)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://redress.example",
        "https://redress.example/api",
        "https://redress.example/a.b/c_d~e",
        "https://redress.example:8443/api",
        "https://redress.example:80",
        "http://localhost:443/api",
        "http://127.0.0.1:65535",
    ],
)
def test_a_console_is_where_a_browser_says_that_it_is(url: str | None) -> None:
    assert [*misplaced(policy(console_url=url))] == []


@pytest.mark.parametrize(
    "url",
    [
        "https://redress.example/",
        "https://redress.example/api/",
        "https://redress.example//api",
        "https://redress.example/api?x=1",
        "https://redress.example/api#f",
        "https://redress.example/api/../b",
        "https://redress.example/api/.",
        "https://redress.example/a<b>",
        "https://redress.example/%61pi",
        "https://redress.example:443/api",
        "https://redress.example:0443/api",
        "https://redress.example:65536/api",
        "https://redress.example:99999",
        "http://localhost:80/api",
    ],
)
def test_an_address_that_a_browser_writes_otherwise_is_read_and_named(url: str) -> None:
    (why,) = misplaced(policy(console_url=url))
    assert why.startswith(f"console_url {url}: ")


@pytest.mark.parametrize(
    "theirs",
    [ANNA, ANNA.upper().replace("ARN:AWS:IAM", "arn:aws:iam"), ANNA_SSO.replace("Admin", "View"), ANNA_OIDC],
)
def test_one_identity_is_one_person(theirs: str) -> None:
    people = {**DOCUMENT["people"], "eve": {"name": "Eve", "identities": (theirs,)}}
    with pytest.raises(ValidationError, match="is said to be both anna and eve"):
        policy(people=people)


@pytest.mark.parametrize("by", ["email", "identity"])
def test_one_mail_address_is_one_person(by: str) -> None:
    """Otherwise whoever is listed twice would be a quorum of two."""
    anna = {**DOCUMENT["people"]["anna"], "email": "anna@example.com"}
    other = f"oidc:{IDP}#another"
    eve: dict[str, Any] = {"name": "Eve", "identities": (other,), "email": "Anna@Example.com"}
    if by == "identity":
        eve |= {"identities": (other, f"email:{IDP}#anna@example.com"), "email": ""}
    with pytest.raises(ValidationError, match=r"email anna@example\.com is said to be both anna and eve"):
        policy(people={**DOCUMENT["people"], "anna": anna, "eve": eve})


@pytest.mark.parametrize(
    "first, second, hidden",
    [
        ({}, {"severities": ("critical",)}, True),
        ({"severities": ("high", "critical")}, {"severities": ("critical",)}, True),
        ({"severities": ("critical",)}, {}, False),
        ({"severities": ("critical",)}, {"severities": ("high", "critical")}, False),
        ({"environments": ("test",)}, {"environments": ("production",)}, False),
        ({"controls": ("ssh", "rdp")}, {"controls": ("ssh",), "accounts": (ACCOUNT,)}, True),
        ({"controls": ("ssh",)}, {"controls": ("ssh", "rdp")}, False),
    ],
)
def test_no_rule_stands_behind_one_that_hides_it(
    first: dict[str, Any], second: dict[str, Any], hidden: bool
) -> None:
    """A strict rule below a wide one reads like a defence and is none."""
    rules = ({**RULE, "name": "wide", **first}, {**RULE, "name": "strict", **second})
    if not hidden:
        assert [rule.name for rule in policy(rules=rules).rules] == ["wide", "strict"]
        return
    with pytest.raises(ValidationError, match="rule strict: wide stands before it and is for all of it"):
        policy(rules=rules)


def test_two_subjects_that_differ_by_case_are_two_people() -> None:
    """OpenID Connect Core 1.0, section 2: `sub` is case-sensitive."""
    lower = f"oidc:{IDP}#00uanna"
    assert policy().who(lower) is None
    people = {**DOCUMENT["people"], "eve": {"name": "Eve", "identities": (lower,)}}
    assert policy(people=people).who(lower) == "eve"


@pytest.mark.parametrize(
    "hours", [{"timezone": "Mars/Base"}, {"timezone": "../etc/passwd"}, {"timezone": ""}]
)
def test_a_time_zone_is_one_of_the_database(hours: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is no time zone of the IANA database"):
        policy(routes=({"name": "r", "channel": "C0000000", "hours": hours},))


@pytest.mark.parametrize(
    "hours",
    [
        {"days": ()},
        {"opens": "17:00", "closes": "17:00"},
        {"opens": "18:00", "closes": "09:00"},
    ],
)
def test_business_opens_on_some_day_and_before_it_closes(hours: dict[str, Any]) -> None:
    route = {"name": "r", "channel": "C0000000", "hours": {"timezone": "Europe/Berlin", **hours}}
    with pytest.raises(ValidationError, match="business hours open on some day"):
        policy(routes=(route,))


@pytest.mark.parametrize(
    "closes, short",
    [("09:00:00.000001", True), ("09:59:59.999999", True), ("10:00", False), ("17:00", False)],
)
def test_hours_of_less_than_one_are_read_and_known_to_be_short(closes: str, short: bool) -> None:
    """A policy that was valid when it was stored stays readable: else nobody could decide anything, or mend it."""
    hours = {"timezone": "Europe/Berlin", "opens": "09:00", "closes": closes}
    one = policy(routes=({"name": "r", "channel": "C0000000", "hours": hours},))
    assert one.routes[0].hours
    assert one.routes[0].hours.short is short


def test_hours_may_have_holidays() -> None:
    hours = {"timezone": "Europe/Berlin", "holidays": (date(2031, 5, 1),)}
    one = policy(routes=({"name": "r", "channel": "C0000000", "hours": hours},))
    assert one.routes[0].hours
    assert one.routes[0].hours.days == (0, 1, 2, 3, 4)


# -- who is who -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "identity, person",
    [
        (ANNA, "anna"),
        (ANNA_SSO.replace("Admin", "ReadOnly"), "anna"),
        (ANNA_SSO.replace("anna.a@", "Anna.A@"), "anna"),
        (ANNA_OIDC, "anna"),
        (ANNA_SLACK, "anna"),
        (BERT_MAIL.replace("bert@", "Bert@"), "bert"),
        (ANNA_OIDC + "x", None),
        (ANNA_OIDC.replace(IDP, "https://idp.example.evil"), None),
        (ANNA_SLACK.replace("T0000TEAM", "T0000EVIL"), None),
        (ANNA.replace(ACCOUNT, OTHER), None),
        (ANNA_SSO.replace("AWSReservedSSO_Admin_0123456789abcdef", "admin"), None),
        ("anna", None),
        ("", None),
    ],
)
def test_an_identity_is_its_person_and_nobody_elses(identity: str, person: str | None) -> None:
    assert policy().who(identity) == person
    assert principal_of(policy(), identity) == (f"person:{person}" if person else principal(identity))


@pytest.mark.parametrize(
    "identity", [BERT_MAIL.replace("bert", "\uff42ert"), ANNA.replace("anna", "ann\u212b")]
)
def test_a_look_alike_in_other_letters_is_nobody(identity: str) -> None:
    assert principal(identity) in {principal(BERT_MAIL), principal(ANNA.replace("anna", "ann\u00e5"))}
    assert policy().who(identity) is None


@pytest.mark.parametrize(
    "comes_as, after, revoked, lets",
    [
        (BERT_MAIL, timedelta(), False, True),
        (BERT_MAIL.replace("bert@", "Bert@"), timedelta(), False, True),
        (BERT_MAIL.replace("bert", "\uff42ert"), timedelta(), False, False),
        (CARL, timedelta(), False, False),
        (BERT_MAIL, timedelta(seconds=-1), False, False),
        (BERT_MAIL, timedelta(days=9), False, False),
        (BERT_MAIL, timedelta(), True, False),
    ],
)
def test_an_invitation_lets_in_whom_it_means_while_it_is_in_force(
    comes_as: str, after: timedelta, revoked: bool, lets: bool
) -> None:
    invitation = Engagement(
        id="audit",
        name="Bert",
        identity=BERT_MAIL.replace("bert@example", "BERT@Example"),
        by=ANNA,
        at=AT,
        until=AT + timedelta(days=9),
        reason="r",
        revoked=revoked,
    )
    assert invitation.lets_in(comes_as, AT + after) is lets


def test_a_person_is_on_record_under_every_identity_name_and_address() -> None:
    mine = policy().names("anna")
    for name in (
        "person:anna",
        principal(ANNA),
        "identity-center:anna.a@example.com",
        principal(ANNA_OIDC),
        principal(ANNA_SLACK),
        "called:anna",
        "called:anna approver",
        "called:anna@example.com",
        "called:anna.a@example.com",
    ):
        assert name in mine
    assert "called:" not in policy().names("bert")
    assert "called:bert@example.com" in policy().names("bert"), "from an identity that is an address"
    assert names_of(policy(), ANNA_SLACK) == mine
    assert names_of(policy(), "oidc:https://idp.example#eve") == names_of(
        None, "oidc:https://idp.example#eve"
    )
    assert principal_of(None, ANNA) == principal(ANNA)


def test_who_is_on_call_follows_the_schedule_from_its_start_until_before_its_end() -> None:
    day = timedelta(days=1)
    shifts = (
        {"starts": AT, "ends": AT + day, "people": ("anna",)},
        {"starts": AT + day / 2, "ends": AT + day, "people": ("bert", "anna")},
    )
    one = policy(
        schedules={"night": shifts},
        routes=(
            {"name": "a", "channel": "C0000000", "on_call": "schedule:night"},
            {"name": "b", "channel": "C0000000", "on_call": "slack:S0000001"},
            {"name": "c", "channel": "C0000000"},
        ),
    )
    night, group, nobody = one.routes
    times = (AT - timedelta(seconds=1), AT, AT + day / 2, AT + day)
    assert [one.on_call(night, at) for at in times] == [(), ("anna",), ("anna", "bert"), ()]
    assert one.on_call(group, AT) == one.on_call(nobody, AT) == ()


@pytest.mark.parametrize(
    "identity, rule, opens",
    [
        (ANNA, {"doors": ("cli",)}, True),
        (ANNA_SSO, {"doors": ("cli",)}, True),
        (ANNA_OIDC, {"doors": ("cli",)}, False),
        (f"arn:aws:iam::{ACCOUNT}:root", {"doors": ("cli",)}, False),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/anna", {"doors": ("cli",)}, False),
        (ANNA, {"doors": ("console",)}, False),
        (ANNA_SLACK, {"doors": ("console",)}, True),
        (BERT_MAIL, {"doors": ("console",)}, True),
        (ANNA_SLACK, {"doors": ("slack",), "severities": ("low",)}, True),
        (ANNA_OIDC, {"doors": ("slack",), "severities": ("low",)}, False),
        (ANNA, {"mfa": True}, False),
        (ANNA, {"login_within_minutes": 5}, False),
        (ANNA_SLACK, {"doors": ("slack",), "severities": ("low",), "mfa": True}, False),
        (ANNA_OIDC, {"mfa": True, "login_within_minutes": 5}, True),
    ],
)
def test_only_an_identity_that_a_door_lets_in_makes_a_quorum(
    identity: str, rule: dict[str, Any], opens: bool
) -> None:
    assert usable(policy(**alone(identity)), rule_of({**RULE, **rule}), "anna") is opens


def alone(identity: str) -> dict[str, Any]:
    """A policy that knows Anna by this identity only."""
    someone = {"name": "Anna", "identities": (identity,)}
    people, rules = (
        {"anna": someone, "bert": {"name": "Bert", "identities": (BERT,)}},
        ({**RULE, "approvers": ("bert",)},),
    )
    return {"people": people, "rules": rules, "groups": {}, "break_glass": ()}


NOBODY_SIGNS_IN: dict[str, Any] = {"providers": ()}
IN_CORP, IN_SLACK = DOCUMENT["providers"]


@pytest.mark.parametrize(
    "identity, door, shut",
    [
        (ANNA_OIDC, "console", NOBODY_SIGNS_IN),
        (BERT_MAIL, "console", NOBODY_SIGNS_IN),
        (ANNA_SLACK, "console", NOBODY_SIGNS_IN),
        (ANNA_OIDC, "console", {"providers": (IN_SLACK,)}),
        (ANNA_OIDC, "console", {"providers": ({**IN_CORP, "issuer": f"{IDP}.other"}, IN_SLACK)}),
        (ANNA_OIDC, "console", {"providers": ({**IN_CORP, "issuer": IDP[:-1]}, IN_SLACK)}),
        (BERT_MAIL, "console", {"providers": ({**IN_CORP, "issuer": f"{IDP}/other"},)}),
        (ANNA_SLACK, "console", {"providers": (IN_CORP,)}),
        (ANNA_SLACK, "console", {"providers": (IN_CORP, {**IN_SLACK, "team": "T0000TEAMS"})}),
        (ANNA_SLACK, "slack", {"slack_team": None}),
        (ANNA_SLACK, "slack", {"slack_team": "T0000OTHER"}),
    ],
)
def test_an_identity_that_nothing_authenticates_opens_no_door(
    identity: str, door: str, shut: dict[str, Any]
) -> None:
    rule = rule_of({**RULE, "doors": (door,), "severities": ("low",)})
    assert usable(policy(**alone(identity)), rule, "anna")
    assert not usable(policy(**alone(identity), **shut), rule, "anna")


def test_a_mail_address_is_its_providers_however_both_are_spelled() -> None:
    one = policy(**alone(f"email:{IDP.replace('idp', 'IDP')}#Anna@Example.com"))
    assert usable(one, rule_of({**RULE, "doors": ("console",)}), "anna")


def test_a_policy_whose_doors_nobody_opens_is_read_and_makes_tickets_at_once() -> None:
    """It may stand already: refused on reading, it would stop everything that does not even need it."""
    rules = ({**RULE, "doors": ("console",)},)
    assert askable(policy(rules=rules), about(), ASK) == ""
    assert [*unopened(policy(rules=rules))] == []
    shut = policy(rules=rules, providers=())
    assert askable(shut, about(), ASK) == "the rule r wants 1 to approve, and 0 could"
    (why,) = unopened(shut)
    assert why.startswith(
        "rule r: 1 must approve, and 0 of its approvers can come in by its doors (console):"
    )


# -- whose answer counts --------------------------------------------------------------------------------------------------


def test_until_a_policy_is_set_iam_alone_says_who_answers() -> None:
    assert problem_with(None, about(), ASK, said(ANNA)) == ""
    for door in (Door.CONSOLE, Door.SLACK):
        for approve in (True, False):
            problem = problem_with(None, about(), ASK, said(ANNA, door=door, approve=approve))
            assert "no policy is set" in problem
    assert "no policy is set" in problem_with(None, about(), ASK, said(ANNA, break_glass=True))
    mine = ASK.model_copy(update={"requesters": (principal(ANNA),)})
    assert problem_with(None, about(), mine, said(ANNA)) == (
        "you made the change or asked for this look, so you cannot approve it: ask somebody else; you may deny it"
    )
    assert problem_with(None, about(), mine, said(ANNA, approve=False)) == ""
    amounts = consent(None, about(), ASK, all_of(said(ANNA, principal=principal(ANNA))))
    assert (amounts.state, amounts.needs, [one.by for one in amounts.by]) == ("approved", 1, [ANNA])
    assert consent(None, about(), ASK, None).state == "open"
    assert askable(None, about(), ASK) == ""


@pytest.mark.parametrize(
    "answer, asked, says",
    [
        (said(f"oidc:{IDP}#eve"), about(), "the policy knows nobody as oidc:https://idp.example#eve"),
        (said(f"oidc:{IDP}#eve", approve=False), about(), "the policy knows nobody"),
        (said(CARL), about(), "does not name you as an approver"),
        (said(DORA, approve=False), about(), "does not let you decide this"),
        (said(CARL, approve=False), about(), ""),
        (said(ANNA, approve=False), about(), ""),
        (said(DORA, approve=False), about(owner="Dora Viewer"), "does not let you decide this"),
        (said(ANNA_SLACK), about(), "takes no answer through this door .slack."),
        (said(ANNA_SLACK, approve=False), about(), "takes no answer through this door"),
        (said(ANNA_SLACK), about(Severity.LOW), ""),
        (said(ANNA), about(Severity.LOW), "takes no answer through this door .cli."),
        (said(ANNA), about(Severity.HIGH, OTHER), "has no rule for this"),
        (said(ANNA, approve=False), about(Severity.HIGH, OTHER), "has no rule for this"),
        (said(BERT), about(), ""),
        (said(BERT), about(owner="bert"), ""),
        (said(CARL, break_glass=True), about(), ""),
        (said(CARL, break_glass=True, door=Door.SLACK), about(), "does not let you break the glass here"),
        (said(ANNA, break_glass=True), about(), "does not let you break the glass here"),
        (said(CARL, break_glass=True), about(Severity.HIGH, OTHER), ""),
    ],
)
def test_whose_answer_counts_and_what_the_others_are_told(answer: Answer, asked: About, says: str) -> None:
    problem = problem_with(policy(), asked, ASK, answer)
    if says:
        assert says.replace(".", "").replace("(", "") in problem.replace(".", "").replace("(", "").replace(
            ")", ""
        )
    else:
        assert problem == ""


@pytest.mark.parametrize(
    "did",
    [principal(ANNA), "identity-center:anna.a@example.com", "called:anna", principal(ANNA_OIDC), EVERYBODY],
)
@pytest.mark.parametrize("identity", [ANNA, ANNA_OIDC])
def test_nobody_approves_their_own_change_under_any_identity(did: str, identity: str) -> None:
    mine = ASK.model_copy(update={"requesters": (did,)})
    why = (
        "may have made the change"
        if did == EVERYBODY
        else "you made the change or asked for this look, so you"
    )
    assert why in problem_with(policy(), about(), mine, said(identity))
    assert problem_with(policy(), about(), mine, said(identity, approve=False)) == ""
    assert (problem_with(policy(), about(), mine, said(BERT)) == "") is (did != EVERYBODY)


@pytest.mark.parametrize(
    "owner", ["dora", " DORA Viewer", DORA, "d\uff4fra@example.com", f"email:{IDP}#dora@example.com"]
)
def test_who_answers_for_the_account_may_deny_and_does_not_approve(owner: str) -> None:
    mail = f"email:{IDP}#dora@example.com"
    people = {**DOCUMENT["people"], "dora": {"name": "Dora Viewer", "identities": (DORA, mail)}}
    one = policy(people=people, rules=({**RULE, "approvers": ("anna", "dora")},))
    theirs = ASK.model_copy(update={"owner": owner})
    assert "you answer for the account, so you cannot approve it" in problem_with(
        one, about(), theirs, said(DORA, one)
    )
    assert able(one, about(), theirs) == {"anna"}
    without = policy(people=people)
    assert problem_with(without, about(), theirs, said(DORA, without, approve=False)) == ""
    web = ASK.model_copy(update={"owner": "web"})
    assert problem_with(one, about(), web, said(DORA, one)) == ""


@pytest.mark.parametrize(
    "update, person, says",
    [
        ({}, "anna", ""),
        ({}, "carl", "has no identity for the doors that the rule names"),
        ({"requesters": (principal(ANNA_SLACK),)}, "anna", "made the change or asked for this look"),
        ({"owner": ANNA_OIDC}, "anna", "answers for the account"),
        ({"owner": "\uff21nna approver "}, "anna", "answers for the account"),
    ],
)
def test_why_one_of_the_approvers_could_not_approve_is_said_as_it_is_judged(
    update: dict[str, Any], person: str, says: str
) -> None:
    one = policy(rules=({**RULE, "approvers": ("anna", "carl"), "doors": ("cli",)},))
    asked = ASK.model_copy(update=update)
    why = why_not(one, one.rules[0], asked, person)
    assert (says in why) if says else (why == "")
    assert (person in able(one, about(), asked)) is (why == "")


@pytest.mark.parametrize("by, owner", [(ANNA_SLACK, "web"), (BERT, "Anna@example.com"), (BERT, ANNA_OIDC)])
def test_nobody_approves_the_undo_that_they_want_or_would_answer_for(by: str, owner: str) -> None:
    undone = Undone(run=1, by=by, reason="r", owner=owner, until=AT)
    undo = ASK.model_copy(update={"kind": Kind.UNDO, "undo": undone})
    for_all = undo.model_copy(update={"undo": undone.model_copy(update={"by": BERT, "owner": EVERYBODY})})
    assert "you would own the exemption" in problem_with(policy(), about(), for_all, said(ANNA))
    why = "you wanted it taken back" if by == ANNA_SLACK else "you would own the exemption afterwards"
    assert problem_with(policy(), about(), undo, said(ANNA)).startswith(f"{why}, so you cannot approve it")


STRICT_RULE = {**RULE, "approvers": ("anna", "carl"), "mfa": True, "login_within_minutes": 5}


@pytest.mark.parametrize(
    "ago, mfa, says",
    [
        (timedelta(minutes=5), True, ""),
        (timedelta(minutes=5, milliseconds=1), True, "a sign-in within the last 5 minutes"),
        (None, True, "a sign-in within the last 5 minutes"),
        (timedelta(), False, "asks for a second factor"),
    ],
)
def test_a_rule_may_ask_for_a_recent_sign_in_and_a_second_factor(
    ago: timedelta | None, mfa: bool, says: str
) -> None:
    strict = policy(rules=(STRICT_RULE,))
    answer = said(ANNA_OIDC, mfa=mfa, logged_in_at=None if ago is None else AT - ago)
    problem = problem_with(strict, about(), ASK, answer)
    assert (says in problem) if says else (problem == "")
    for safe in ({"approve": False}, {"withdrawn": True}):
        assert problem_with(strict, about(), ASK, answer.model_copy(update=safe)) == "", (
            "stopping asks for less"
        )


# -- what they amount to --------------------------------------------------------------------------------------------------


def amounts(*answers: Answer, of: Policy | None = None, asked: About | None = None) -> tuple[str, int]:
    found = consent(of or policy(), asked or about(), ASK, all_of(*answers))
    assert found.needs == 2
    return found.state, len(found.by)


def test_two_people_approve_and_one_person_with_four_identities_is_one() -> None:
    assert amounts() == ("open", 0)
    assert amounts(said(ANNA)) == ("open", 1)
    assert amounts(said(ANNA), said(ANNA_SSO), said(ANNA_OIDC)) == ("open", 1)
    assert amounts(said(ANNA), said(BERT_MAIL)) == ("approved", 2)


def test_a_denial_wins_whenever_it_came() -> None:
    yes, other, no = said(ANNA), said(BERT), said(CARL, approve=False)
    for order in ((no, yes, other), (yes, no, other), (yes, other, no)):
        assert amounts(*order) == ("denied", 1)
    assert amounts(said(CARL, break_glass=True), no) == ("denied", 1)
    assert amounts(said(DORA, approve=False), yes, other) == ("approved", 2), "it is not hers to deny"


def test_the_last_word_counts_and_who_spoke_it_last_is_named_last() -> None:
    back = said(ANNA, withdrawn=True)
    assert amounts(said(ANNA), back) == ("open", 0)
    assert amounts(said(ANNA), back, said(BERT)) == ("open", 1)
    both = all_of(said(ANNA), back, said(BERT), said(ANNA_OIDC))
    found = consent(policy(), about(), ASK, both)
    assert (found.state, [one.by for one in found.by]) == ("approved", [BERT, ANNA_OIDC])


def test_who_breaks_the_glass_decides_alone() -> None:
    found = consent(policy(), about(), ASK, all_of(said(ANNA), said(CARL, break_glass=True)))
    assert (found.state, [one.by for one in found.by]) == ("approved", [CARL])
    assert amounts(said(ANNA, break_glass=True)) == ("open", 0), "it is not hers to break"


def test_an_answer_under_a_name_that_is_another_persons_counts_for_nothing() -> None:
    assert amounts(said(ANNA), said(ANNA, principal="person:bert")) == ("open", 1)
    assert amounts(said(ANNA), said(BERT, principal="person:anna")) == ("open", 0)


def test_where_no_rule_is_left_answers_amount_to_nothing() -> None:
    found = consent(policy(), about(Severity.HIGH, OTHER), ASK, all_of(said(ANNA), said(BERT)))
    assert (found.state, found.by, found.needs) == ("open", (), 1)


def test_asking_is_in_vain_where_no_quorum_can_come_about() -> None:
    assert askable(policy(), about(), ASK) == ""
    assert able(policy(), about(), ASK) == {"anna", "bert"}
    assert "no rule" in askable(policy(), about(Severity.HIGH, OTHER), ASK)
    assert able(policy(), about(Severity.HIGH, OTHER), ASK) == frozenset()
    mine = ASK.model_copy(update={"requesters": (principal(ANNA_SLACK),)})
    assert askable(policy(), about(), mine) == "the rule production wants 2 to approve, and 1 could"
    theirs = ASK.model_copy(update={"owner": "bert@example.com"})
    assert "and 1 could" in askable(policy(), about(), theirs)
    assert askable(policy(), about(owner="bert@example.com"), ASK) == "", "a tag takes nobody out"


def test_an_ask_is_about_its_severity_its_controls_and_whose_it_is() -> None:
    assert about_of(ASK, ACCOUNT, "web") == about(Severity.HIGH, ACCOUNT, "mfa", owner="web")
