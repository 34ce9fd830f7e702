"""Governing: the policy is set whole over the one that was looked at; auditors are let in for a time; nobody serves two parts."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError
from chalicelib.domain.policy import LONGEST_ENGAGEMENT, Engagement, Policy, PolicySetting
from chalicelib.domain.ports import SettingChange
from chalicelib.domain.record import Record, RecordType
from chalicelib.flow.answering import ATTEMPTS
from chalicelib.flow.casework import Claim
from chalicelib.flow.command import COMMAND, Snooze, carry_out
from chalicelib.flow.desk import CommandResult, person
from chalicelib.flow.governing import Invite, SetPolicy, Uninvite, digest_of, viewed
from tests.flow.test_casework import JANE_OIDC, JOHN, POLICY, known, signed_in
from tests.flow.test_command import (
    CASE,
    CATALOG,
    HOME,
    JANE,
    NOW,
    UNNAMED,
    Desk,
    FakeSettings,
    desk,
    exempt,
    with_case,
)

__all__ = ["desk", "known", "with_case"]

EVA = "email:https://idp.example#eva@audit.example"
DAY = timedelta(days=1)


def document(**changes: Any) -> Policy:
    return Policy.model_validate_json(to_json({**POLICY.model_dump(mode="json"), **changes}))


def setting(policy: Policy = POLICY, replaces: str = "", reason: str = "r") -> SetPolicy:
    return SetPolicy(policy=policy, replaces=replaces, reason=reason)


def invitation(**changes: Any) -> Invite:
    fields: dict[str, Any] = {"id": "soc2", "name": "Eva", "identity": EVA, "days": 90, "reason": "SOC 2"}
    return Invite.model_validate({**fields, **changes})


# -- the policy -----------------------------------------------------------------------------------------------------------


def test_a_policy_is_set_whole_with_what_stood_before(desk: Desk) -> None:
    result = desk.does(setting(reason="the first"))
    assert result.says == f"the policy is set: {len(POLICY.people)} people, 1 rule"
    assert desk.settings.policies == [PolicySetting(policy=POLICY, by=JANE, at=NOW, reason="the first")]
    later = document(break_glass=["jane"])
    desk.does(setting(later, digest_of(POLICY)), by=JOHN)
    assert desk.settings.types == [RecordType.CONFIG_CHANGED] * 2
    data = desk.settings.changes[-1].record.draft.data
    assert data["before"] == desk.settings.policies[0].model_dump(mode="json")
    assert data["after"] == desk.settings.policies[1].model_dump(mode="json")
    assert desk.settings.changes[-1].record.draft.account == HOME


def test_the_same_policy_again_changes_nothing(desk: Desk) -> None:
    desk.does(setting())
    for replaces in ("", digest_of(POLICY), "0" * 64):
        again = desk.does(setting(replaces=replaces))
        assert (again.changed, "stands since" in again.says) == (False, True)
    assert len(desk.settings.changes) == 1


def test_hours_of_less_than_one_are_not_set_but_those_that_stand_are_replaced(desk: Desk) -> None:
    def until(closes: str) -> Policy:
        hours = {"timezone": "Europe/Berlin", "opens": "09:00", "closes": closes}
        return document(routes=[{"name": "day", "channel": "C0000000", "hours": hours}])

    with pytest.raises(
        RefusedCommandError, match=r"route day, .* let `closes` be an hour or more after `opens`"
    ):
        desk.does(setting(until("09:59")))
    assert desk.settings.changes == []
    stands = PolicySetting(policy=until("09:30"), by=JOHN, at=NOW, reason="when that was allowed")
    desk.settings.policies.append(stands)
    desk.does(setting(until("10:00"), digest_of(stands.policy)))
    assert desk.settings.policies[-1].policy == until("10:00")


@pytest.mark.parametrize("replaces", ["", "0" * 64])
def test_a_policy_that_nobody_looked_at_is_not_replaced(desk: Desk, replaces: str) -> None:
    desk.does(setting())
    with pytest.raises(RefusedCommandError, match=f"{JANE} set another one at"):
        desk.does(setting(document(break_glass=["john"]), replaces), by=JOHN)
    assert len(desk.settings.policies) == 1


def test_where_there_is_none_there_is_none_to_replace(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="there is none to replace"):
        desk.does(setting(replaces="0" * 64))


@pytest.mark.parametrize(
    "changes, says",
    [
        (
            {"doors": ["console"]},
            r"rule r: 1 must approve, and 0 of its approvers can come in by its doors \(console\): the console needs a provider",
        ),
        ({"doors": ["slack"], "severities": ["low"]}, "a Slack button the slack_team of theirs"),
    ],
)
def test_nobody_sets_a_policy_whose_approvers_nothing_authenticates(
    desk: Desk, changes: dict[str, Any], says: str
) -> None:
    people = {"anna": {"name": "Anna", "identities": ["slack:T0000TEAM/U0ANNA"]}}
    rules = [{"name": "r", "approvers": ["anna"], **changes}]
    shut = document(people=people, groups={}, break_glass=[], rules=rules, providers=[])
    with pytest.raises(RefusedCommandError, match=says):
        desk.does(setting(shut))
    assert desk.settings.policies == []


def test_a_console_is_not_set_to_an_address_that_leads_elsewhere_but_one_that_stands_is_replaced(
    desk: Desk,
) -> None:
    wrong, right = (document(console_url=f"https://redress.example{end}") for end in (":443/api/", "/api"))
    with pytest.raises(RefusedCommandError, match=r"console_url https://redress\.example:443/api/: "):
        desk.does(setting(wrong))
    assert desk.settings.changes == []
    stands = PolicySetting(policy=wrong, by=JOHN, at=NOW, reason="when that was allowed")
    desk.settings.policies.append(stands)
    desk.does(setting(right, digest_of(wrong)))
    assert desk.settings.policies[-1].policy == right


def test_of_two_who_set_it_at_once_the_second_is_told(desk: Desk) -> None:
    def first(settings: FakeSettings, _change: SettingChange) -> None:
        settings.before_apply = lambda _settings, _change: None
        desk.does(setting(), by=JOHN)

    desk.settings.before_apply = first
    with pytest.raises(RefusedCommandError, match=f"{JOHN} set another one at"):
        desk.does(setting(document(break_glass=["jane"])))
    assert [one.by for one in desk.settings.policies] == [JOHN]


def test_who_loses_again_and_again_sets_nothing(desk: Desk) -> None:
    def conflict(_settings: FakeSettings, _change: SettingChange) -> None:
        raise ConflictError("somebody was quicker")

    desk.settings.before_apply = conflict
    with pytest.raises(ConflictError, match="nothing was changed, try again"):
        desk.does(setting())
    assert len(desk.clock.slept) == ATTEMPTS
    assert desk.settings.policies == []


@pytest.mark.parametrize("by", UNNAMED)
def test_the_policy_and_invitations_are_a_named_persons(desk: Desk, by: str) -> None:
    for command in (setting(), invitation()):
        with pytest.raises(RefusedCommandError, match="is for a named person"):
            desk.does(command, by=by)
    assert desk.settings.changes == []


ROOT = f"arn:aws:iam::{HOME}:root"


@pytest.mark.parametrize(
    "changes",
    [
        {"people": {}},
        {"rules": []},
        {"rules": [{"name": "all", "approvers": []}]},
        {"rules": [{"name": "all", "approvers": ["jane"], "quorum": 2}]},
        {"rules": [{"name": "all", "approvers": ["john"], "doors": ["console"]}]},
        {"rules": [{"name": "all", "approvers": ["john"], "mfa": True}]},
        {
            "people": {"jane": {"name": "Root", "identities": [ROOT]}},
            "rules": [{"name": "all", "approvers": ["jane"]}],
        },
    ],
    ids=["nobody", "no rule", "no approver", "quorum", "no door", "no factor", "root"],
)
def test_a_policy_that_would_lock_everybody_out_is_not_even_read(changes: dict[str, Any]) -> None:
    good = {"kind": "policy", "policy": POLICY.model_dump(mode="json"), "reason": "r"}
    COMMAND.validate_json(to_json(good))
    with pytest.raises(ValidationError):
        COMMAND.validate_json(to_json({**good, "policy": {**POLICY.model_dump(mode="json"), **changes}}))


def test_the_digest_is_of_what_the_policy_says_and_of_all_of_it() -> None:
    assert digest_of(POLICY) == digest_of(document())
    assert digest_of(POLICY) != digest_of(document(digest_hour=9))


# -- auditors -------------------------------------------------------------------------------------------------------------


def test_an_auditor_is_let_in_by_one_identity_for_some_accounts_and_no_longer_than_ninety_days(
    desk: Desk,
) -> None:
    result = desk.does(invitation(accounts=(HOME,)))
    assert "every look is on record" in result.says
    assert desk.settings.engagements["soc2"] == Engagement(
        id="soc2",
        name="Eva",
        identity=EVA,
        accounts=(HOME,),
        by=JANE,
        at=NOW,
        until=NOW + LONGEST_ENGAGEMENT,
        reason="SOC 2",
    )
    assert desk.settings.types == [RecordType.INVITED]


@pytest.mark.parametrize(
    "changes",
    [{"days": 91}, {"days": 0}, {"identity": "eva@audit.example"}, {"id": "So C"}, {"accounts": ("1",)}],
)
def test_what_is_no_invitation_is_not_read_as_one(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        invitation(**changes)


@pytest.mark.parametrize("identity", [JANE, JANE_OIDC, JANE.upper().replace("ARN:AWS:IAM", "arn:aws:iam")])
def test_who_is_in_the_policy_is_no_outside_auditor(known: Desk, identity: str) -> None:
    with pytest.raises(RefusedCommandError, match="is jane, who is in the policy"):
        known.does(invitation(identity=identity))
    assert known.settings.engagements == {}


def test_an_invitation_is_prolonged_for_its_own_auditor_and_for_no_other(known: Desk) -> None:
    known.does(invitation(days=1))
    known.clock.at += DAY
    known.does(invitation(days=2))
    assert known.settings.engagements["soc2"].until == NOW + 3 * DAY
    with pytest.raises(RefusedCommandError, match=r"is another auditor's \(Eva\): choose another id"):
        known.does(invitation(identity=EVA.replace("eva", "mallory")))


def test_an_invitation_ends_at_once_for_whoever_says_so_and_only_once(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="there is no invitation soc2"):
        desk.does(Uninvite(id="soc2", reason="r"))
    desk.does(invitation())
    desk.clock.at += DAY
    assert desk.does(Uninvite(id="soc2", reason="over"), by=UNNAMED[1]).says == "Eva may look no longer"
    ended = desk.settings.engagements["soc2"]
    assert (ended.revoked, ended.until, ended.by) == (True, NOW + DAY, JANE)
    desk.clock.at += DAY
    again = desk.does(Uninvite(id="soc2", reason="over"))
    assert (again.changed, again.says) == (
        False,
        "that invitation is over already, since 2031-05-08T12:00:00.000Z; nothing was changed",
    )
    assert desk.settings.types == [RecordType.INVITED, RecordType.UNINVITED]


def test_an_invitation_that_has_run_out_is_over_already(desk: Desk) -> None:
    desk.does(invitation(days=1))
    desk.clock.at += DAY
    assert not desk.does(Uninvite(id="soc2", reason="r")).changed


class Unwritable(FakeSettings):
    def note(self, record: Record) -> bool:
        raise StoreError("the table cannot be reached")


class Taken(FakeSettings):
    """Another record stands wherever one is to be put."""

    def note(self, record: Record) -> bool:
        del record
        return False


def test_every_look_of_an_auditor_is_a_record_of_its_own_and_none_is_had_without(desk: Desk) -> None:
    for request in ("req-1", "req-2"):
        viewed(desk.settings, desk.clock, EVA, "/cases/x", request, home=HOME, engine="0.1.0")
    first, second = desk.settings.noted
    assert (first.chain, second.chain) == ("SYS#VIEW#req-1", "SYS#VIEW#req-2")
    draft = first.draft
    assert (draft.type, draft.account, draft.data) == (RecordType.VIEWED, HOME, {"path": "/cases/x"})
    assert draft.actor
    assert (draft.actor.type, draft.actor.arn) == ("Person", EVA)
    with pytest.raises(StoreError, match="cannot be reached"):
        viewed(Unwritable(), desk.clock, EVA, "/cases/x", "req-3", home=HOME, engine="0.1.0")
    with pytest.raises(StoreError, match="stands already"):
        viewed(Taken(), desk.clock, EVA, "/cases/x", "req-2", home=HOME, engine="0.1.0")


def test_a_refusal_that_is_not_on_record_is_no_refusal_but_a_failure(desk: Desk) -> None:
    desk.settings = Taken()
    with pytest.raises(StoreError, match="stands already"):
        desk.does(Claim(case=CASE, reason="r"))


# -- one person, two identities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["Jane", JANE, JANE_OIDC, "person:jane"])
@pytest.mark.parametrize("from_console", [True, False])
def test_nobody_exempts_on_their_own_account_under_another_identity(
    known: Desk, owner: str, from_console: bool
) -> None:
    does = partial(signed_in, known) if from_console else known.does
    with pytest.raises(RefusedCommandError, match="who answers for an exemption does not grant it"):
        does(exempt(owner=owner))
    assert known.settings.exemptions == {}
    known.does(exempt(owner=owner), by=JOHN)


def test_nobody_prolongs_their_own_snooze_under_another_identity(known: Desk) -> None:
    known.does(Snooze(case=CASE, days=7, reason="r"))
    known.clock.at += 6 * DAY
    with pytest.raises(RefusedCommandError, match="you snoozed it yourself"):
        signed_in(known, Snooze(case=CASE, days=7, reason="r"))
    known.does(Snooze(case=CASE, days=7, reason="r"), by=JOHN)


def test_a_sign_in_is_a_person_on_record(known: Desk) -> None:
    def does(identity: str) -> CommandResult:
        who = person(identity, HOME, "req-9")
        return carry_out(
            Claim(case=CASE, reason="r"), who, known.settings, CATALOG, known.clock, home=HOME, engine="0.1.0"
        )

    assert does(JANE_OIDC).changed
    assert known.settings.changes[0].record.draft.data["by"] == {
        "arn": JANE_OIDC,
        "kind": "person",
        "known": True,
    }
