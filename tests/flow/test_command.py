"""A person's command: who may be who, what is refused, and that each change stands with its record."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from pydantic import ValidationError

from chalicelib.domain.approval import EVERYBODY, Answers, Ask, Undone, principal
from chalicelib.domain.breaker import Breaker, Miss, Missed
from chalicelib.domain.case import Case, CaseState, parts_of
from chalicelib.domain.contract import NOTHING_TO_DO, Mode
from chalicelib.domain.control import Control, Status
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.errors import ConflictError, RefusedCommandError, StoreError
from chalicelib.domain.finding import GLOBAL, Severity, Target
from chalicelib.domain.policy import Engagement, PolicySetting
from chalicelib.domain.ports import (
    FREEZE_ALL,
    AnswerChange,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Owner,
    SettingChange,
)
from chalicelib.domain.record import Head, Record, RecordType, broken_at, system_chain
from chalicelib.flow import errand
from chalicelib.flow.answering import ATTEMPTS
from chalicelib.flow.command import (
    COMMAND,
    AnswerAsk,
    AnyCommand,
    Enrol,
    Exempt,
    ReasonCode,
    Redrive,
    ResetBreaker,
    Revoke,
    SetDeploymentRole,
    SetFreeze,
    SetMode,
    SetOwner,
    Snooze,
    StartSweep,
    TakeUp,
    Undo,
    carry_out,
    said_plainly,
)
from chalicelib.flow.desk import Caller, CommandResult, caller

HOME, MEMBER = "111122223333", "444455556666"
NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
JANE = f"arn:aws:iam::{HOME}:user/staff/jane"
GROUP = f"arn:aws:ec2:eu-central-1:{MEMBER}:security-group/sg-0a1b2c3d"


def control(
    name: str = "ec2-no-world-ssh", ceiling: Mode = Mode.ACT, status: Status = Status.STABLE
) -> Control:
    return Control(
        id=name,
        version="1",
        title="No security group lets SSH in from the Internet",
        severity=Severity.HIGH,
        resource="AWS::EC2::SecurityGroup",
        status=status,
        ceiling=ceiling,
        why="scanners find it within minutes",
        false_positives=("a bastion that is meant to be open",),
        frameworks={},
        aliases=(f"alias-of-{name}",),
    )


@dataclass(frozen=True)
class Catalog:
    controls: tuple[Control, ...]


CATALOG = Catalog(
    (
        control(),
        control("ec2-no-world-rdp", ceiling=Mode.ASK),
        control("ec2-no-world-db", status=Status.TRIAL),
    )
)


@dataclass
class FakeClock:
    at: datetime = NOW
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class FakeSettings:
    """The settings in memory, with the store's own promise: a change is applied whole, at the expected head, or not."""

    modes: dict[tuple[str, str], ModeSetting] = field(default_factory=dict)
    freezes: dict[str, Freeze] = field(default_factory=dict)
    breakers: dict[tuple[str, str], Breaker] = field(default_factory=dict)
    exemptions: dict[tuple[str, str, str], Exemption] = field(default_factory=dict)
    enrolments: dict[str, Enrolment] = field(default_factory=dict)
    chains: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    changes: list[SettingChange] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)
    roles: dict[tuple[str, str], DeploymentRole] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    answered: list[AnswerChange] = field(default_factory=list)
    noted: list[Record] = field(default_factory=list)
    policies: list[PolicySetting] = field(default_factory=list)
    engagements: dict[str, Engagement] = field(default_factory=dict)
    dossiers: dict[str, Dossier] = field(default_factory=dict)
    before_apply: Callable[["FakeSettings", SettingChange], None] = lambda _settings, _change: None

    def head(self, chain: str) -> Head:
        records = self.chains.get(chain, [])
        return Head(seq=len(records), hash=records[-1][1]) if records else Head()

    def mode(self, account: str, control: str) -> ModeSetting | None:
        return self.modes.get((account, control))

    def freeze(self, scope: str) -> Freeze | None:
        return self.freezes.get(scope)

    def breaker(self, account: str, control: str) -> Breaker:
        return self.breakers.get((account, control)) or Breaker(account=account, control=control)

    def exemption(self, account: str, control: str, resource: str) -> Exemption | None:
        return self.exemptions.get((account, control, resource))

    def enrolment(self, account: str) -> Enrolment | None:
        return self.enrolments.get(account)

    def case(self, digest: str, episode: int) -> Case | None:
        return self.cases.get(f"{digest}-{episode}")

    def cases_of(self, resource: str) -> tuple[Case, ...]:
        return tuple(case for case in self.cases.values() if case.target.resource == resource)

    def answers(self, case: str, ask: int) -> Answers | None:
        found = (one.answers for one in self.answered)
        return next((one for one in found if (one.case, one.ask) == (case, ask)), None)

    def answer(self, change: AnswerChange) -> None:
        self.answered.append(change)

    def note(self, record: Record) -> bool:
        self.noted.append(record)
        return True

    def deployment_role(self, account: str, role_arn: str) -> DeploymentRole | None:
        return self.roles.get((account, role_arn))

    def owner(self, account: str) -> Owner | None:
        return self.owners.get(account)

    def policy(self) -> PolicySetting | None:
        return self.policies[-1] if self.policies else None

    def engagement(self, name: str) -> Engagement | None:
        return self.engagements.get(name)

    def dossier(self, case: str) -> Dossier | None:
        return self.dossiers.get(case)

    def apply(self, change: SettingChange) -> None:
        self.before_apply(self, change)
        self.store(change)

    def store(self, change: SettingChange) -> None:  # noqa: C901 -- one line for each kind of setting
        if self.head(change.record.chain) != change.expected_head:
            raise ConflictError("the chain moved on")
        self.chains.setdefault(change.record.chain, []).append((change.record.body, change.record.hash))
        self.changes.append(change)
        for freeze in change.freezes:
            self.freezes[freeze.scope] = freeze
        if change.mode:
            self.modes[change.mode.account, change.mode.control] = change.mode
        for e in change.exemptions:
            self.exemptions[e.account, e.control, e.resource] = e
        if change.deployment_role:
            self.roles[change.deployment_role.account, change.deployment_role.role_arn] = (
                change.deployment_role
            )
        if change.breaker:
            self.breakers[change.breaker.account, change.breaker.control] = change.breaker
        if change.owner:
            self.owners[change.owner.account] = change.owner
        if change.enrolment:
            self.enrolments[change.enrolment.account] = change.enrolment
        match change.kept:
            case PolicySetting():
                self.policies.append(change.kept)
            case Engagement():
                self.engagements[change.kept.id] = change.kept
            case Dossier():
                self.dossiers[change.kept.case] = change.kept

    @property
    def types(self) -> list[RecordType]:
        return [change.record.draft.type for change in self.changes]

    @property
    def errands(self) -> list[errand.AnyErrand]:
        """What would reach the commands queue, read as the engine reads it."""
        notices = [notice for change in self.changes for notice in change.notices]
        assert all(notice.kind == errand.NOTICE for notice in notices)
        assert len({notice.id for notice in notices}) == len(notices)
        return [errand.ERRAND.validate_json(json.dumps(notice.body)) for notice in notices]


@dataclass
class Desk:
    settings: FakeSettings = field(default_factory=FakeSettings)
    clock: FakeClock = field(default_factory=FakeClock)
    catalog: Catalog = CATALOG

    def does(self, command: AnyCommand, by: str = JANE) -> CommandResult:
        return carry_out(
            command,
            caller(by, "req-1"),
            self.settings,
            self.catalog,
            self.clock,
            home=HOME,
            engine="0.1.0",
        )


@pytest.fixture
def desk() -> Desk:
    return Desk(FakeSettings(enrolments={MEMBER: Enrolment(account=MEMBER, by=JANE, at=NOW)}))


def mode(to: Mode = Mode.ACT, control: str = "ec2-no-world-ssh", account: str = MEMBER) -> SetMode:
    return SetMode(control=control, account=account, mode=to, reason="watched for a month")


def exempt(**changes: object) -> Exempt:
    fields: dict[str, object] = {
        "resource": GROUP,
        "control": "ec2-no-world-ssh",
        "account": MEMBER,
        "owner": "network team",
        "code": ReasonCode.COMPENSATING,
        "reason": "a firewall stands in front of it",
        "expires_at": NOW + timedelta(days=30),
    }
    return Exempt.model_validate({**fields, **changes})


def said(body: str) -> dict[str, object]:
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


# ------------------------------------------------------------------------------------------------------- who is asking


@pytest.mark.parametrize(
    "arn, kind, known",
    [
        (JANE, "iam_user", True),
        (f"arn:aws:iam::{HOME}:root", "root", False),
        (
            f"arn:aws:sts::{HOME}:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/jane@example.com",
            "identity_center",
            True,
        ),
        (f"arn:aws:sts::{HOME}:assumed-role/deploy/jane@example.com", "role_session", False),
        (f"arn:aws:sts::{HOME}:assumed-role/AWSReservedSSO_lookalike/jane", "role_session", False),
        (f"arn:aws:sts::{HOME}:federated-user/jane", "federated_user", False),
        (f"arn:aws-us-gov:iam::{HOME}:user/jane", "iam_user", True),
    ],
)
def test_a_caller_is_who_api_gateway_says_and_known_only_where_the_name_is_not_its_own_choice(
    arn: str, kind: str, known: bool
) -> None:
    who = caller(arn, "req")
    assert (who.arn, who.kind, who.known, who.account) == (arn, kind, known, HOME)
    assert who.actor.arn == arn


def test_a_role_session_is_kept_as_role_and_session() -> None:
    who = caller(f"arn:aws:sts::{HOME}:assumed-role/deploy/root", "req")
    assert (who.role_arn, who.session) == (f"arn:aws:iam::{HOME}:role/deploy", "root")
    assert (who.actor.type, who.actor.key) == ("AssumedRole", f"arn:aws:iam::{HOME}:role/deploy")


@pytest.mark.parametrize(
    "arn",
    [
        None,
        "",
        7,
        "jane",
        f"arn:aws:iam::{HOME}:role/deploy",
        f"{JANE}\n",
        "arn:aws:iam::12:user/jane",
        f"arn:aws:sts::{HOME}:assumed-role/deploy",
        f"arn:aws:sts::{HOME}:assumed-role/a/b/c",
        f"arn:aws:iam::{HOME}:user/a b",
    ],
)
def test_who_cannot_be_named_is_nobody(arn: object) -> None:
    with pytest.raises(RefusedCommandError, match="authenticated nobody"):
        caller(arn, "req")


ROOT = f"arn:aws:iam::{HOME}:root"
UNNAMED = (
    ROOT,
    f"arn:aws:sts::{HOME}:assumed-role/ci-deploy/jane",
    f"arn:aws:sts::{HOME}:federated-user/jane",
)


@pytest.mark.parametrize("by", UNNAMED)
@pytest.mark.parametrize(
    "command",
    [
        SetMode(control="ec2-no-world-ssh", account=MEMBER, mode=Mode.TICKET, reason="r"),
        SetMode(control="ec2-no-world-ssh", account=MEMBER, mode=Mode.ACT, reason="r"),
        SetFreeze(on=False, reason="r"),
        SetFreeze(on=False, account=MEMBER, reason="r"),
        Enrol(account="777788889999", reason="r"),
        Exempt(
            resource=GROUP,
            control="ec2-no-world-ssh",
            account=MEMBER,
            owner="network team",
            code=ReasonCode.COMPENSATING,
            reason="r",
            expires_at=NOW + timedelta(days=30),
        ),
    ],
    ids=["ticket", "act", "freeze off", "account's freeze off", "enrol", "exempt"],
)
def test_what_lets_us_do_more_or_look_away_needs_a_named_person(
    desk: Desk, command: AnyCommand, by: str
) -> None:
    with pytest.raises(RefusedCommandError, match="log in through Identity Center, or as an IAM user"):
        desk.does(command, by=by)
    assert desk.settings.changes == []


@pytest.mark.parametrize("by", UNNAMED)
def test_whoever_is_authenticated_may_lower_a_mode_and_freeze(desk: Desk, by: str) -> None:
    desk.does(mode(Mode.ACT))
    assert desk.does(mode(Mode.ASK), by=by).changed
    assert not desk.does(mode(Mode.ASK), by=by).changed
    assert desk.does(mode(Mode.OBSERVE), by=by).changed
    assert desk.does(SetFreeze(on=True, reason="incident"), by=by).changed
    with pytest.raises(RefusedCommandError, match="raising a mode is for a named person"):
        desk.does(mode(Mode.TICKET), by=by)


def test_a_mode_that_somebody_lowered_meanwhile_is_not_raised_again_by_the_unnamed(desk: Desk) -> None:
    def lowered_first(settings: FakeSettings, _change: SettingChange) -> None:
        settings.before_apply = lambda _settings, _change: None
        desk.does(mode(Mode.OBSERVE))

    desk.does(mode(Mode.ACT))
    desk.settings.before_apply = lowered_first
    with pytest.raises(RefusedCommandError, match="raising a mode"):
        desk.does(mode(Mode.ASK), by=ROOT)
    assert desk.settings.modes[MEMBER, "ec2-no-world-ssh"].mode is Mode.OBSERVE


def test_root_may_command_and_is_recorded_as_root(desk: Desk) -> None:
    desk.does(SetFreeze(on=True, reason="incident"), by=ROOT)
    record = desk.settings.changes[-1].record
    assert record.draft.actor is not None
    assert record.draft.actor.type == "Root"
    assert record.draft.data["by"] == {"arn": f"arn:aws:iam::{HOME}:root", "kind": "root", "known": False}


# ----------------------------------------------------------------------------------------------------------- the mode


def test_a_mode_is_set_with_its_record_in_the_accounts_chain(desk: Desk) -> None:
    result = desk.does(mode(Mode.ASK))
    stored = desk.settings.modes[MEMBER, "ec2-no-world-ssh"]
    assert (stored.mode, stored.by, stored.at, stored.reason) == (Mode.ASK, JANE, NOW, "watched for a month")
    assert (result.changed, result.chain, result.seq) == (True, f"SYS#{MEMBER}#203105", 1)
    body = said(desk.settings.chains[f"SYS#{MEMBER}#203105"][0][0])
    assert body["type"] == "MODE_CHANGED"
    assert body["controls"] == ["ec2-no-world-ssh"]
    data = body["data"]
    assert isinstance(data, dict)
    assert data["before"] is None
    assert data["after"]["mode"] == "ask"
    assert body["record_id"] == result.record_id


def test_the_record_of_a_change_says_what_was_before(desk: Desk) -> None:
    desk.does(mode(Mode.ASK))
    result = desk.does(mode(Mode.OBSERVE))
    assert isinstance(result.before, dict)
    assert isinstance(result.after, dict)
    assert (result.before["mode"], result.after["mode"]) == ("ask", "observe")
    assert "it was ask" in result.says


def test_the_same_mode_twice_changes_nothing_and_writes_no_record(desk: Desk) -> None:
    desk.does(mode(Mode.ASK))
    written = len(desk.settings.changes)
    result = desk.does(mode(Mode.ASK))
    assert (result.changed, result.record_id, len(desk.settings.changes)) == (False, None, written)
    assert "already set to ask" in result.says


@pytest.mark.parametrize(
    "name, wanted, names",
    [
        ("ec2-no-world-rdp", Mode.ACT, "ask at most: its ceiling is ask and its status is stable"),
        ("ec2-no-world-db", Mode.ACT, "ask at most: its ceiling is act and its status is trial"),
    ],
)
def test_a_mode_above_the_ceiling_is_refused_naming_the_ceiling(
    desk: Desk, name: str, wanted: Mode, names: str
) -> None:
    with pytest.raises(RefusedCommandError, match=names):
        desk.does(mode(wanted, name))
    assert desk.settings.changes == []


@pytest.mark.parametrize(
    "typed, meant",
    [
        ("ec2-no-wolrd-ssh", "'ec2-no-world-ssh'"),
        ("alias-of-ec2-no-world-ssh", "'ec2-no-world-ssh'"),
        ("zzz", "redress controls"),
    ],
)
def test_an_unknown_control_is_answered_with_the_nearest_one(desk: Desk, typed: str, meant: str) -> None:
    with pytest.raises(RefusedCommandError, match=meant):
        desk.does(mode(control=typed))


def test_a_mode_for_an_account_that_is_not_enrolled_is_refused(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="not enrolled"):
        desk.does(mode(account="777788889999"))
    assert desk.does(mode(account=HOME)).changed


def test_the_first_raised_mode_makes_the_kill_switch_readable_before_it_may_act(desk: Desk) -> None:
    desk.does(mode(Mode.TICKET))
    assert desk.settings.types == [RecordType.FREEZE_OFF, RecordType.MODE_CHANGED]
    assert desk.settings.changes[0].record.chain == f"SYS#{HOME}#203105"
    assert desk.settings.freezes[FREEZE_ALL].frozen is False
    desk.does(mode(Mode.ASK))
    assert desk.settings.types == [RecordType.FREEZE_OFF, RecordType.MODE_CHANGED, RecordType.MODE_CHANGED]


def test_setting_observe_needs_no_switch(desk: Desk) -> None:
    desk.does(mode(Mode.OBSERVE))
    assert desk.settings.types == [RecordType.MODE_CHANGED]


def test_a_switch_that_is_on_stays_on_when_a_mode_is_raised(desk: Desk) -> None:
    desk.does(SetFreeze(on=True, reason="incident"))
    desk.does(mode(Mode.ACT))
    assert desk.settings.freezes[FREEZE_ALL].frozen is True


def test_a_switch_turned_on_while_the_first_mode_is_raised_is_never_turned_off_by_it(desk: Desk) -> None:
    def somebody_freezes_first(settings: FakeSettings, change: SettingChange) -> None:
        settings.before_apply = lambda _settings, _change: None
        assert change.freezes
        desk.does(SetFreeze(on=True, reason="incident"))

    desk.settings.before_apply = somebody_freezes_first
    assert desk.does(mode(Mode.ACT)).changed
    assert desk.settings.freezes[FREEZE_ALL].frozen is True


# ----------------------------------------------------------------------------------------------------- the kill switch


@pytest.mark.parametrize(
    "account, name, scope, chain, where",
    [
        (None, None, "ALL", f"SYS#{HOME}#203105", "everything"),
        (MEMBER, None, f"ACCOUNT#{MEMBER}", f"SYS#{MEMBER}#203105", f"account {MEMBER}"),
        (
            MEMBER,
            "ec2-no-world-ssh",
            f"CONTROL#{MEMBER}#ec2-no-world-ssh",
            f"SYS#{MEMBER}#203105",
            "ec2-no-world-ssh in",
        ),
    ],
)
def test_a_freeze_goes_on_and_off_in_its_scope_with_a_record_each_time(
    desk: Desk, account: str | None, name: str | None, scope: str, chain: str, where: str
) -> None:
    on = SetFreeze(on=True, account=account, control=name, reason="incident 7")
    assert where in desk.does(on).says
    assert desk.settings.freezes[scope].frozen is True
    assert "already frozen since 2031-05-07T12:00:00.000Z" in desk.does(on).says
    off = on.model_copy(update={"on": False})
    assert desk.does(off).chain == chain
    assert desk.settings.freezes[scope].frozen is False
    assert desk.settings.types == [RecordType.FREEZE_ON, RecordType.FREEZE_OFF]


def test_a_control_cannot_be_frozen_without_saying_where() -> None:
    with pytest.raises(ValidationError, match="name the account too"):
        SetFreeze(on=True, control="ec2-no-world-ssh", reason="incident")


def test_freezing_a_control_that_does_not_exist_is_refused(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="did you mean"):
        desk.does(SetFreeze(on=True, account=MEMBER, control="ec2-no-world-sssh", reason="incident"))


# -- breakers ------------------------------------------------------------------------------------------------------------


def went_wrong(desk: Desk, runs: int) -> Breaker:
    """That many runs of the control went wrong in the member account within the hour."""
    one = Breaker(account=MEMBER, control="ec2-no-world-ssh")
    for run in range(1, runs + 1):
        one = one.missed(Miss(at=NOW - timedelta(minutes=run), case="c-1", run=run, what=Missed.FAILED))
    desk.settings.breakers[MEMBER, one.control] = one
    return one


@pytest.mark.parametrize("runs, was", [(3, "open"), (1, "closed")])
def test_a_breaker_is_reset_with_a_record_of_what_went_wrong(desk: Desk, runs: int, was: str) -> None:
    before, command = (
        went_wrong(desk, runs),
        ResetBreaker(control="ec2-no-world-ssh", account=MEMBER, reason="mended"),
    )
    result = desk.does(command)
    assert f"(it was {was})" in result.says
    assert (result.before, desk.settings.breakers[MEMBER, before.control]) == (
        before.model_dump(mode="json"),
        before.reset(),
    )
    assert desk.settings.types == [RecordType.BREAKER_RESET]
    assert desk.does(command).changed is False


def test_a_breaker_of_which_nothing_is_known_is_not_reset(desk: Desk) -> None:
    command = ResetBreaker(control="ec2-no-world-ssh", account=MEMBER, reason="to be sure")
    assert "nothing is held against" in desk.does(command).says
    assert desk.settings.changes == []


# --------------------------------------------------------------------------------------------------------- exemptions


def test_an_exemption_is_granted_with_code_owner_and_end(desk: Desk) -> None:
    result = desk.does(exempt())
    granted = desk.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP]
    assert (granted.owner, granted.by) == ("network team", JANE)
    assert (granted.code, granted.reason) == ("compensating", "a firewall stands in front of it")
    assert granted.expires_at == NOW + timedelta(days=30)
    record = desk.settings.changes[0].record
    assert (record.draft.type, record.draft.resource) == (RecordType.EXEMPTION_GRANTED, GROUP)
    assert "until 2031-06-06" in result.says


def test_the_same_exemption_twice_is_told_and_another_end_is_a_change(desk: Desk) -> None:
    desk.does(exempt())
    desk.clock.at = NOW + timedelta(hours=1)
    assert desk.does(exempt()).changed is False
    longer = desk.does(exempt(expires_at=NOW + timedelta(days=60)))
    assert longer.changed
    assert isinstance(longer.before, dict)


@pytest.mark.parametrize(
    "ends", [NOW, NOW - timedelta(days=1), NOW + timedelta(days=180, seconds=1), NOW + timedelta(days=4000)]
)
def test_an_exemption_without_a_near_end_is_refused(desk: Desk, ends: datetime) -> None:
    with pytest.raises(RefusedCommandError, match="within 180 days"):
        desk.does(exempt(expires_at=ends))
    assert desk.settings.changes == []


def test_an_exemption_may_end_exactly_on_the_last_day(desk: Desk) -> None:
    assert desk.does(exempt(expires_at=NOW + timedelta(days=180))).changed


@pytest.mark.parametrize("owner", ["jane", " Jane ", "\uff2aane", JANE])
def test_nobody_grants_an_exemption_to_himself(desk: Desk, owner: str) -> None:
    with pytest.raises(RefusedCommandError, match="does not grant it"):
        desk.does(exempt(owner=owner))


@pytest.mark.parametrize("did", [principal(JANE), "called:jane", EVERYBODY])
@pytest.mark.parametrize("state", [CaseState.WAITING, CaseState.EXEMPT, CaseState.DENIED, CaseState.EXPIRED])
def test_who_made_the_change_does_not_exempt_it(desk: Desk, did: str, state: CaseState) -> None:
    """Not even for somebody else: they may not approve its repair, nor see to it that none comes."""
    desk.settings.cases[CASE] = a_case(state=state, actors=(did,))
    with pytest.raises(RefusedCommandError, match=f"does not have it left alone.*{CASE}"):
        desk.does(exempt())
    assert desk.settings.changes == []
    assert desk.does(exempt(control="ec2-no-world-db")).changed, "another control, which they did not break"


@pytest.mark.parametrize(
    "others",
    [
        {"actors": (principal(JANE),), "state": CaseState.CLOSED},
        {"actors": ("called:bob",)},
        {"actors": ()},
    ],
)
def test_others_exempt_it_and_what_is_well_is_nobodys_change(desk: Desk, others: dict[str, object]) -> None:
    desk.settings.cases[CASE] = a_case(**others)
    assert desk.does(exempt()).changed


@pytest.mark.parametrize(
    "resource",
    [
        "sg-0a1b2c3d",
        GROUP.replace(MEMBER, HOME),
        f"arn:aws:s3:::{MEMBER}",
        GROUP.replace("sg-0a1b2c3d", "*"),
        GROUP.replace("sg-0a1b2c3d", "SG-0A1B2C3D"),
        f"{GROUP} x",
        f"x{GROUP}",
    ],
)
def test_an_exemption_that_could_never_match_or_matches_too_much_is_refused(
    desk: Desk, resource: str
) -> None:
    with pytest.raises(RefusedCommandError, match="write it as arn:aws:ec2:<region>"):
        desk.does(exempt(resource=resource))


# -------------------------------------------------------------------------------------------------- enrol and redrive


def test_an_account_is_enrolled_once(desk: Desk) -> None:
    enrol = Enrol(account="777788889999", reason="new team")
    assert desk.does(enrol).changed
    assert desk.settings.types == [RecordType.ENROLLED]
    assert desk.does(enrol).changed is False
    assert "always enrolled" in desk.does(Enrol(account=HOME, reason="x")).says


@pytest.mark.parametrize("queue", ["events", "commands", "undo"])
def test_a_redrive_is_an_errand_in_the_transaction_that_records_it(
    desk: Desk, queue: Literal["events", "commands", "undo"]
) -> None:
    result = desk.does(Redrive(queue=queue, most=10, reason="fixed the parser"))
    (change,) = desk.settings.changes
    (notice,) = change.notices
    assert notice.id == f"ERRAND#{result.record_id}"
    assert desk.settings.errands == [errand.Redrive(queue=queue, most=10)]
    assert desk.settings.types == [RecordType.CONFIG_CHANGED]


def test_a_redrive_that_cannot_be_stored_is_neither_recorded_nor_sent(desk: Desk) -> None:
    def down(_settings: FakeSettings, _change: SettingChange) -> None:
        raise StoreError("the table cannot be reached")

    desk.settings.before_apply = down
    with pytest.raises(StoreError, match="cannot be reached"):
        desk.does(Redrive(queue="commands", most=1, reason="again"))
    assert desk.settings.changes == []


# --------------------------------------------------------------------------------------------- what needs a named person

CASE = "abcdefghijklmnopqrst-1"
ROLE = f"arn:aws:iam::{MEMBER}:role/ci/deployer"


def a_case(**changes: object) -> Case:
    target = Target(account=MEMBER, region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-0a1b2c3d")
    fields: dict[str, object] = {
        "digest": CASE[:20],
        "episode": 1,
        "remediation": "ec2_close_ssh",
        "target": target,
        "state": CaseState.OPEN,
        "controls": ("ec2-no-world-rdp", "ec2-no-world-ssh"),
        "generation": 1,
        "runs": 2,
        "owner": "network team",
        "opened_at": NOW,
        "updated_at": NOW,
    }
    return Case.model_validate({**fields, **changes})


@pytest.fixture
def with_case(desk: Desk) -> Desk:
    desk.settings.cases[CASE] = a_case()
    return desk


REVOKE = Revoke(resource=GROUP, control="ec2-no-world-ssh", account=MEMBER, reason="r")
SET_ROLE = SetDeploymentRole(account=MEMBER, role_arn=ROLE, tool="terraform", reason="r")
NAMED = (
    Undo(case=CASE, run=1, reason="r"),
    Snooze(case=CASE, days=1, reason="r"),
    TakeUp(case=CASE, reason="r"),
    REVOKE,
    SET_ROLE,
    SetOwner(account=MEMBER, owner="network team", reason="r"),
    AnswerAsk(case=CASE, ask=1, plan_hash="f" * 64, approve=False, reason="r"),
)


@pytest.mark.parametrize("by", UNNAMED)
@pytest.mark.parametrize("command", NAMED, ids=lambda command: command.kind)
def test_what_one_person_asks_of_others_needs_a_name_too(
    with_case: Desk, command: AnyCommand, by: str
) -> None:
    with_case.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP] = an_exemption(30)
    with pytest.raises(RefusedCommandError, match="log in through Identity Center, or as an IAM user"):
        with_case.does(command, by=by)
    assert with_case.settings.changes == []
    assert with_case.settings.answered == []


@pytest.mark.parametrize(
    "command",
    [
        Undo(case="b" * 20 + "-1", run=1, reason="r"),
        Snooze(case="b" * 20 + "-1", days=1, reason="r"),
        TakeUp(case=f"{CASE[:20]}-2", reason="r"),
    ],
)
def test_a_case_that_is_not_there_is_told(with_case: Desk, command: AnyCommand) -> None:
    with pytest.raises(RefusedCommandError, match="there is no case"):
        with_case.does(command)
    assert with_case.settings.changes == []


@pytest.mark.parametrize("name", ["", "nothing", CASE[:20], f"{CASE}x", f"{CASE}\n", CASE.upper()])
def test_a_case_goes_by_its_whole_id(name: str) -> None:
    for kind in ("take_up", "answer"):
        body = {"kind": kind, "case": name, "reason": "r", "ask": 1, "plan_hash": "f" * 64, "approve": True}
        with pytest.raises(ValidationError, match="whole id"):
            COMMAND.validate_json(json.dumps(body))
    assert parts_of(CASE) == (CASE[:20], 1)


# ---------------------------------------------------------------------------------------------------------------- undo


@pytest.mark.parametrize("state", [CaseState.OPEN, CaseState.CLOSED, CaseState.TICKETED])
def test_an_undo_is_requested_and_left_to_the_engine(with_case: Desk, state: CaseState) -> None:
    with_case.settings.cases[CASE] = a_case(state=state)
    result = with_case.does(Undo(case=CASE, run=2, days=3, owner="ann", reason="it cut the backup"))
    undone = Undone(run=2, by=JANE, reason="it cut the backup", owner="ann", until=NOW + timedelta(days=3))
    assert with_case.settings.errands == [errand.UndoWanted(case=CASE, undone=undone)]
    record = with_case.settings.changes[0].record
    assert (record.chain, record.draft.type) == (f"SYS#{MEMBER}#203105", RecordType.REQUESTED)
    assert (record.draft.resource, record.draft.data["case"]) == (GROUP, CASE)
    assert record.draft.data["reason"] == "it cut the backup"
    assert "somebody else is asked" in result.says


def test_an_undo_without_an_owner_is_on_the_resources_own_or_refused(with_case: Desk) -> None:
    with_case.does(Undo(case=CASE, run=1, reason="r"))
    (wanted,) = with_case.settings.errands
    assert isinstance(wanted, errand.UndoWanted)
    assert (wanted.undone.owner, wanted.undone.until) == ("network team", NOW + timedelta(days=7))
    with_case.settings.cases[CASE] = a_case(owner="")
    with pytest.raises(RefusedCommandError, match="name an owner with --owner"):
        with_case.does(Undo(case=CASE, run=1, reason="r"))


@pytest.mark.parametrize("runs, says", [(2, "it had 2"), (0, "nothing was changed for it")])
def test_a_run_that_never_was_is_not_undone(with_case: Desk, runs: int, says: str) -> None:
    with_case.settings.cases[CASE] = a_case(runs=runs)
    with pytest.raises(RefusedCommandError, match=says):
        with_case.does(Undo(case=CASE, run=3, reason="r"))
    assert with_case.settings.changes == []


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "undo", "case": CASE, "run": 0, "reason": "r"},
        {"kind": "undo", "case": CASE, "run": 1, "days": 31, "reason": "r"},
        {"kind": "undo", "case": CASE, "run": 1, "days": 0, "reason": "r"},
        {"kind": "undo", "case": CASE, "run": 1, "approve": True, "reason": "r"},
        {"kind": "snooze", "case": CASE, "days": 8, "reason": "r"},
        {"kind": "snooze", "case": CASE, "days": 0, "reason": "r"},
        {"kind": "snooze", "case": CASE, "reason": "r"},
        {"kind": "answer", "case": CASE, "ask": 1, "plan_hash": "F" * 64, "approve": True, "reason": "r"},
        {"kind": "answer", "case": CASE, "ask": 1, "plan_hash": "f" * 64, "approve": 1, "reason": "r"},
        {"kind": "answer", "case": CASE, "ask": 1, "plan_hash": "f" * 64, "approve": True},
        {"kind": "answer", "case": CASE, "ask": 1, "approve": True, "reason": "r"},
        {"kind": "sweep", "account": "all", "reason": "r"},
        {"kind": "deployment_role", "account": MEMBER, "role_arn": ROLE, "tool": "ansible", "reason": "r"},
    ],
)
def test_what_goes_beyond_its_bounds_is_no_command(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps(body))


# --------------------------------------------------------------------------------------------------- snooze and take up


def an_exemption(days: int, control: str = "ec2-no-world-ssh", code: str = "accepted_risk") -> Exemption:
    return Exemption(
        account=MEMBER,
        control=control,
        resource=GROUP,
        owner="network team",
        code=code,
        reason="a firewall stands in front of it",
        by=JANE,
        at=NOW - timedelta(days=90),
        expires_at=NOW + timedelta(days=days),
    )


@pytest.mark.parametrize("state", [CaseState.OPEN, CaseState.WAITING, CaseState.TICKETED, CaseState.EXEMPT])
def test_a_snooze_exempts_for_every_control_and_has_the_case_looked_at(
    with_case: Desk, state: CaseState
) -> None:
    with_case.settings.cases[CASE] = a_case(state=state)
    with_case.does(Snooze(case=CASE, days=3, reason="release week"))
    granted = with_case.settings.exemptions
    assert set(granted) == {(MEMBER, "ec2-no-world-rdp", GROUP), (MEMBER, "ec2-no-world-ssh", GROUP)}
    for one in granted.values():
        assert (one.code, one.owner, one.by) == ("snooze", JANE, JANE)
        assert (one.expires_at, one.reason) == (NOW + timedelta(days=3), "release week")
    assert with_case.settings.types == [RecordType.SNOOZED]
    assert with_case.settings.errands == [errand.Look(case=CASE, by=JANE, request_id="req-1")]
    (change,) = with_case.settings.changes
    assert change.record.draft.controls == ("ec2-no-world-rdp", "ec2-no-world-ssh")


@pytest.mark.parametrize("did", [principal(JANE), EVERYBODY])
def test_who_made_the_change_does_not_snooze_it(with_case: Desk, did: str) -> None:
    with_case.settings.cases[CASE] = a_case(actors=("called:bob", did))
    with pytest.raises(
        RefusedCommandError, match="who made the change or asked for this look does not have it left alone"
    ):
        with_case.does(Snooze(case=CASE, days=1, reason="release week"))
    assert with_case.settings.changes == []


def test_a_snooze_never_shortens_or_replaces_what_lasts_longer(with_case: Desk) -> None:
    longer, shorter = an_exemption(30), an_exemption(1, "ec2-no-world-rdp")
    for one in (longer, shorter):
        with_case.settings.exemptions[MEMBER, one.control, GROUP] = one
    with_case.does(Snooze(case=CASE, days=3, reason="release week"))
    assert with_case.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP] == longer
    assert with_case.settings.exemptions[MEMBER, "ec2-no-world-rdp", GROUP].code == "snooze"
    data = with_case.settings.changes[0].record.draft.data
    assert data["before"] == [shorter.model_dump(mode="json")]
    result = with_case.does(Snooze(case=CASE, days=2, reason="again"))
    assert (result.changed, len(with_case.settings.changes)) == (False, 1)
    assert "exempt for longer" in result.says


def test_an_exemption_that_is_over_does_not_keep_a_snooze_from_beginning(with_case: Desk) -> None:
    with_case.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP] = an_exemption(-1)
    with_case.does(Snooze(case=CASE, days=1, reason="r"))
    assert with_case.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP].code == "snooze"


@pytest.mark.parametrize("state", [CaseState.CLOSED, CaseState.DENIED, CaseState.EXPIRED])
def test_what_has_ended_is_neither_snoozed_nor_taken_up(with_case: Desk, state: CaseState) -> None:
    with_case.settings.cases[CASE] = a_case(state=state)
    for command in (Snooze(case=CASE, days=1, reason="r"), TakeUp(case=CASE, reason="r")):
        with pytest.raises(RefusedCommandError, match=f"is {state.value}: there is nothing to look at"):
            with_case.does(command)
    assert with_case.settings.changes == []


def test_what_is_exempt_is_not_taken_up(with_case: Desk) -> None:
    with_case.settings.cases[CASE] = a_case(state=CaseState.EXEMPT)
    with pytest.raises(RefusedCommandError, match="is exempt"):
        with_case.does(TakeUp(case=CASE, reason="r"))


def test_a_case_is_taken_up_by_name(with_case: Desk) -> None:
    with_case.settings.cases[CASE] = a_case(inherited=("ec2-open-ssh",))
    result = with_case.does(TakeUp(case=CASE, reason="it is our turn"))
    assert "whoever asks for a look neither approves what it proposes nor snoozes or exempts" in result.says
    assert with_case.settings.errands == [errand.Look(case=CASE, by=JANE, requested=True, request_id="req-1")]
    assert with_case.settings.types == [RecordType.REQUESTED]


# ------------------------------------------------------------------------------------------------------------ the rest


def test_an_exemption_is_ended_now_and_stays_on_record(desk: Desk) -> None:
    before = an_exemption(30)
    desk.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP] = before
    result = desk.does(REVOKE)
    after = desk.settings.exemptions[MEMBER, "ec2-no-world-ssh", GROUP]
    assert after == before.model_copy(update={"expires_at": NOW})
    assert desk.settings.types == [RecordType.EXEMPTION_REVOKED]
    assert result.before == before.model_dump(mode="json")
    again = desk.does(REVOKE)
    assert (again.changed, "ended at 2031-05-07T12:00:00.000Z" in again.says) == (False, True)


def test_what_was_never_granted_is_not_revoked(desk: Desk) -> None:
    with pytest.raises(RefusedCommandError, match="has no exemption from ec2-no-world-ssh"):
        desk.does(REVOKE)
    with pytest.raises(RefusedCommandError, match="did you mean"):
        desk.does(REVOKE.model_copy(update={"control": "ec2-no-world-shs"}))


@pytest.mark.parametrize("code", ["snooze", "undo", "because", "ACCEPTED_RISK"])
def test_only_a_reason_that_is_one_is_taken_and_the_others_are_told(code: str) -> None:
    body = exempt().model_dump(mode="json") | {"code": code}
    with pytest.raises(ValidationError) as caught:
        COMMAND.validate_json(json.dumps(body))
    text = said_plainly(caught.value)
    assert text == "code: must be 'false_positive', 'accepted_risk' or 'compensating'"


@pytest.mark.parametrize("by", [JANE, *UNNAMED])
@pytest.mark.parametrize("account, swept", [(None, HOME), (HOME, HOME), (MEMBER, MEMBER)])
def test_whoever_may_command_may_have_everything_looked_at(
    desk: Desk, by: str, account: str | None, swept: str
) -> None:
    desk.does(StartSweep(account=account, reason="audit"), by=by)
    assert desk.settings.errands == [errand.Sweep(account=swept, by=by)]
    record = desk.settings.changes[0].record
    assert (record.chain, record.draft.type) == (f"SYS#{swept}#203105", RecordType.REQUESTED)
    assert record.draft.region == GLOBAL


@pytest.mark.parametrize(
    "command",
    [
        StartSweep(account="777788889999", reason="r"),
        SetOwner(account="777788889999", owner="ann", reason="r"),
        SetDeploymentRole(account="777788889999", role_arn=ROLE.replace(MEMBER, "777788889999"), reason="r"),
    ],
)
def test_of_an_account_that_is_not_ours_nothing_is_set_or_swept(desk: Desk, command: AnyCommand) -> None:
    with pytest.raises(RefusedCommandError, match="not enrolled"):
        desk.does(command)
    assert desk.settings.changes == []


def test_a_deployment_role_is_named_changed_and_removed(desk: Desk) -> None:
    gone = SET_ROLE.model_copy(update={"remove": True, "tool": "other"})
    assert "is no deployment role; nothing was changed" in desk.does(gone).says
    desk.does(SET_ROLE)
    stands = desk.settings.roles[MEMBER, ROLE]
    assert (stands.tool, stands.removed, stands.by, stands.at) == ("terraform", False, JANE, NOW)
    assert "already; nothing was changed" in desk.does(SET_ROLE).says
    desk.does(SET_ROLE.model_copy(update={"tool": "cdk"}))
    assert desk.settings.roles[MEMBER, ROLE].tool == "cdk"
    assert "no deployment role any more" in desk.does(gone).says
    removed = desk.settings.roles[MEMBER, ROLE]
    assert (removed.tool, removed.removed) == ("cdk", True)
    assert desk.does(gone).changed is False
    assert desk.does(SET_ROLE).changed
    assert desk.settings.types == [RecordType.CONFIG_CHANGED] * 4


@pytest.mark.parametrize(
    "role_arn",
    [
        f"arn:aws:iam::{HOME}:role/deployer",
        f"arn:aws:iam::{MEMBER}:role/*",
        f"arn:aws:iam::{MEMBER}:role/ci/*",
        f"arn:aws:iam::{MEMBER}:role/ci?/deployer",
        f"arn:aws:iam::{MEMBER}:user/deployer",
        f"arn:aws:sts::{MEMBER}:assumed-role/deployer/session",
        f"arn:aws:iam::{MEMBER}:role/",
        f"arn:aws:iam::{MEMBER}:role//deployer",
        f"{ROLE} ",
        f"{ROLE}\n",
        "deployer",
        "",
    ],
)
def test_what_is_no_single_role_of_the_account_is_refused(desk: Desk, role_arn: str) -> None:
    with pytest.raises(RefusedCommandError, match="is no role of account"):
        desk.does(SET_ROLE.model_copy(update={"role_arn": role_arn}))
    assert desk.settings.changes == []


def test_who_answers_for_an_account_is_set_once(desk: Desk) -> None:
    command = SetOwner(account=MEMBER, owner="network team", reason="reorganised")
    assert desk.does(command).changed
    assert desk.settings.owners[MEMBER].owner == "network team"
    assert desk.does(command).changed is False
    desk.does(command.model_copy(update={"owner": "ann"}))
    before = desk.settings.changes[-1].record.draft.data["before"]
    assert isinstance(before, dict)
    assert before["owner"] == "network team"


def test_an_answer_goes_to_the_one_answer_function(with_case: Desk) -> None:
    ask = Ask(
        seq=1,
        controls=("ec2-no-world-ssh",),
        asked_at=NOW,
        expires_at=NOW + timedelta(hours=8),
        plan=NOTHING_TO_DO,
        plan_hash="f" * 64,
        before={},
        reason="r",
    )
    with_case.settings.cases[CASE] = a_case(state=CaseState.WAITING, ask=ask, asks=1)
    command = AnswerAsk(case=CASE, ask=1, plan_hash="f" * 64, approve=True, reason="looks right")
    result = with_case.does(command)
    assert (result.chain, result.seq) == (f"ANSWER#{CASE}#1", 1)
    (change,) = with_case.settings.answered
    assert change.record.record_id == result.record_id
    with pytest.raises(RefusedCommandError, match="approved it already"):
        with_case.does(command)
    assert [record.draft.type for record in with_case.settings.noted] == [RecordType.ANSWER_REFUSED]


# ------------------------------------------------------------------------------------------------- two at once, chains


def test_a_command_that_loses_to_another_looks_again_and_goes_through(desk: Desk) -> None:
    def another_is_quicker(settings: FakeSettings, _change: SettingChange) -> None:
        settings.before_apply = lambda _settings, _change: None
        desk.does(SetFreeze(on=True, account=MEMBER, reason="incident"))

    desk.settings.before_apply = another_is_quicker
    result = desk.does(mode(Mode.OBSERVE))
    assert (result.changed, result.seq) == (True, 2)
    assert desk.clock.slept != []


def test_a_command_that_loses_again_and_again_gives_up_and_says_so(desk: Desk) -> None:
    def never(_settings: FakeSettings, _change: SettingChange) -> None:
        raise ConflictError("the chain moved on")

    desk.settings.before_apply = never
    with pytest.raises(ConflictError, match="nothing was changed, try again"):
        desk.does(mode(Mode.OBSERVE))
    assert len(desk.clock.slept) == ATTEMPTS


def test_the_system_chain_holds_after_many_commands(desk: Desk) -> None:
    desk.does(mode(Mode.ASK))
    desk.does(exempt())
    desk.does(SetFreeze(on=True, account=MEMBER, reason="incident"))
    desk.does(mode(Mode.OBSERVE))
    assert broken_at(desk.settings.chains[f"SYS#{MEMBER}#203105"]) is None
    assert len(desk.settings.chains[f"SYS#{MEMBER}#203105"]) == 4


def test_a_new_month_begins_a_new_chain() -> None:
    assert system_chain(HOME, datetime(2031, 12, 31, 23, 59, tzinfo=UTC)) == f"SYS#{HOME}#203112"
    assert system_chain(HOME, datetime(2032, 1, 1, tzinfo=UTC)) == f"SYS#{HOME}#203201"


# ------------------------------------------------------------------------------------------------- what is no command

GOOD: Mapping[str, object] = {
    "kind": "mode",
    "control": "ec2-no-world-ssh",
    "account": MEMBER,
    "mode": "ask",
    "reason": "because",
}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "explode"},
        {"by": "root"},
        {"mode": "ACT"},
        {"mode": 3},
        {"account": 444455556666},
        {"account": "4444-5555-6666"},
        {"account": "٤٤٤٤٥٥٥٥٦٦٦٦"},
        {"reason": ""},
        {"reason": " \n "},
        {"reason": "x" * 501},
        {"reason": "two\nlines"},
        {"reason": "\x1b[2J"},
        {"reason": "safe \u202e txt.exe"},
        {"control": ""},
    ],
)
def test_a_body_that_is_no_command_is_not_read_as_one(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps({**GOOD, **changes}))


def test_what_is_wrong_with_a_command_is_said_by_field_without_repeating_it() -> None:
    with pytest.raises(ValidationError) as caught:
        COMMAND.validate_json(json.dumps({**GOOD, "mode": "<script>", "who": "me"}))
    text = said_plainly(caught.value)
    assert "mode" in text
    assert "who" in text
    assert "<script>" not in text
    with pytest.raises(ValidationError) as broken:
        COMMAND.validate_json("{")
    assert "Invalid JSON" in said_plainly(broken.value)


def test_an_exemption_must_say_when_it_ends_and_in_which_zone() -> None:
    body = exempt().model_dump(mode="json")
    assert COMMAND.validate_json(json.dumps(body)) == exempt()
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps({**body, "expires_at": "2031-06-01T00:00:00"}))
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps({k: v for k, v in body.items() if k != "expires_at"}))


@pytest.mark.parametrize("most", [0, -1, 1001, 1.5, "10", True])
def test_a_redrive_has_a_sensible_size(most: object) -> None:
    with pytest.raises(ValidationError):
        COMMAND.validate_json(json.dumps({"kind": "redrive", "queue": "events", "most": most, "reason": "x"}))


def test_the_caller_is_no_part_of_a_command() -> None:
    settings = (SetMode, SetFreeze, Exempt, Revoke, Enrol, SetDeploymentRole, SetOwner)
    for kind in (*settings, Redrive, AnswerAsk, Undo, Snooze, TakeUp, StartSweep):
        assert not {"by", "caller", "user", "arn"} & set(kind.model_fields)
    assert Caller.model_fields.keys().isdisjoint({"password", "secret"})


def test_desks_do_not_share_anything() -> None:
    one, two = Desk(), replace(Desk())
    one.settings.modes["a", "b"] = ModeSetting(
        account="a", control="b", mode=Mode.ASK, by="x", at=NOW, reason="r"
    )
    assert two.settings.modes == {}
