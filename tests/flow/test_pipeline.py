"""The walk, whole, on fakes: two at once, halfway, denied, changed meanwhile, the second time."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.case import Case, CaseState, session_name
from chalicelib.domain.contract import AnyRemediation, Call, CallResult, Mode, Plan
from chalicelib.domain.decision import RULES
from chalicelib.domain.errors import (
    AccessDeniedError,
    AwsError,
    BusyError,
    ConflictError,
    OversizeError,
    StoreError,
    TransientError,
)
from chalicelib.domain.finding import Target
from chalicelib.domain.limits import Spent
from chalicelib.domain.ports import FREEZE_ALL, Change, Enrolment, Executor, Exemption, Owner
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Walked
from tests.fakes.faults import Crash, Faults, Kind
from tests.fakes.house import ACCOUNT, AFTER_THE_LEASE, REGION, House, house

SSH, RDP, EBS = "ec2-open-ssh", "ec2-open-rdp", "ebs-default-encryption"
WORLD = "0.0.0.0/0"


@pytest.fixture
def built() -> Iterator[House]:
    with house() as one:
        yield one


class Group:
    """A security group in the house that serves 443 to the world."""

    def __init__(self, built: House) -> None:
        self.built = built
        self.ec2 = built.session.client("ec2")
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.id: str = self.ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)[
            "GroupId"
        ]
        self.open(443)

    def open(self, port: int, cidr: str = WORLD, to: int | None = None) -> str:
        """Open a port as somebody else would; the new rule's id."""
        answer = self.ec2.authorize_security_group_ingress(
            GroupId=self.id,
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": to or port, "IpRanges": [{"CidrIp": cidr}]}
            ],
        )
        rule: str = answer["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return rule

    def close(self, rule: str) -> None:
        self.ec2.revoke_security_group_ingress(GroupId=self.id, SecurityGroupRuleIds=[rule])

    @property
    def ports(self) -> list[int]:
        """What is open to the world now."""
        rules = self.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [self.id]}])
        return sorted(rule["FromPort"] for rule in rules["SecurityGroupRules"] if not rule["IsEgress"])

    def event(self, *opened: tuple[int, str], event_id: str = "event-1", **detail: Any) -> dict[str, Any]:
        """CloudTrail's event for rules that were opened: (port, rule id)."""
        at = self.built.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [
            {"groupId": self.id, "securityGroupRuleId": rule, "isEgress": False, "ipProtocol": "tcp",
             "fromPort": port, "toPort": port, "cidrIpv4": WORLD}
            for port, rule in opened
        ]  # fmt: skip
        return {
            "id": f"envelope-{event_id}",
            "detail-type": "AWS API Call via CloudTrail",
            "source": "aws.ec2",
            "account": ACCOUNT,
            "region": REGION,
            "time": at,
            "detail": {
                "eventID": event_id,
                "eventTime": at,
                "eventSource": "ec2.amazonaws.com",
                "eventName": "AuthorizeSecurityGroupIngress",
                "awsRegion": REGION,
                "recipientAccountId": ACCOUNT,
                "requestID": f"request-{event_id}",
                "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ann"},
                "requestParameters": {"groupId": self.id},
                "responseElements": {"securityGroupRuleSet": {"items": items}},
                **detail,
            },
        }


@pytest.fixture
def group(built: House) -> Group:
    return Group(built)


def attacked(built: House, group: Group, mode: Mode = Mode.ACT) -> dict[str, Any]:
    """Port 22 has just been opened, and SSH may be repaired."""
    built.raise_to(mode, SSH)
    return group.event((22, group.open(22)))


class Meddler:
    """Wraps the store or the accounts: does something of its own just before (or after) a port call."""

    def __init__(
        self, built: House, call: str, act: Callable[[], object], *, nth: int = 1, after: bool = False
    ) -> None:
        self._inner = Faults()
        self.built, self.call, self.act, self.nth, self.after = built, call, act, nth, after
        self._through = self._inner.through
        self._inner.through = self.through  # type: ignore[method-assign] # the seam that Faults counts at
        self._inside = False

    def through(self, name: str, do: Callable[[], Any]) -> Any:
        hit = name == self.call and not self._inside
        if hit:
            self.nth -= 1
        mine, after, act = hit and self.nth == 0, self.after, self.act
        if mine and not after:
            self._meddle(act)
        result = self._through(name, do)
        if mine and after:
            self._meddle(act)
        return result

    def _meddle(self, act: Callable[[], object]) -> None:
        self._inside = True
        act()
        self._inside = False

    def walk(self, event: dict[str, Any]) -> Walked:
        (walked,) = self.built.engine(self._inner).walk(event)
        return walked


# -- the gate -----------------------------------------------------------------------------------------------------------


def test_a_fresh_deployment_only_observes_and_says_what_it_would_have_done(
    built: House, group: Group
) -> None:
    walked = built.walk(group.event((22, group.open(22))))
    assert (walked.verdict, walked.rule) == ("observe", "observing")
    assert group.ports == [22, 443]
    assert built.record("DECIDED")["plan"]["calls"][0]["operation"] == "RevokeSecurityGroupIngress"
    assert built.only_case().state is CaseState.OPEN
    assert built.cases.notices == ()


def test_an_event_that_is_not_ours_is_one_record_and_nothing_else(built: House, group: Group) -> None:
    event = group.event((443, "sgr-1"))
    assert built.walk(event).verdict == "not_ours"
    assert built.walk(event).verdict == "not_ours"
    (record,) = built.cases.records
    assert record.chain == "EVENT#event-1"
    assert "no watched port" in str(record.draft.data["reason"])


def test_an_account_that_is_not_enrolled_is_not_ours(built: House, group: Group) -> None:
    event = group.event((22, "sgr-1"), recipientAccountId="222222222222")
    event["account"] = "222222222222"
    assert "not enrolled" in built.walk(event).reason
    built.cases.set(Enrolment(account="222222222222", by="olga", at=built.clock.now()))
    again = group.event((22, "sgr-1"), event_id="event-2", recipientAccountId="222222222222")
    again["account"] = "222222222222"
    assert built.walk(again).verdict == "ignore"


def test_another_partition_is_not_ours(built: House, group: Group) -> None:
    event = group.event((22, "sgr-1"), awsRegion="cn-north-1")
    event["region"] = "cn-north-1"
    assert "partition" in built.walk(event).reason


def test_a_control_without_a_remediation_is_not_ours_yet(built: House, group: Group) -> None:
    from dataclasses import replace

    engine = replace(built.engine(), remediations={})
    (walked,) = engine.walk(group.event((22, "sgr-1")))
    assert "no remediation" in walked.reason


def exemption(built: House, group: Group, control: str = SSH, days: int = 1) -> Exemption:
    now = built.clock.now()
    return Exemption(
        account=ACCOUNT,
        control=control,
        resource=f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{group.id}",
        owner="web team",
        code="accepted_risk",
        reason="a honeypot",
        by="olga",
        at=now,
        expires_at=now + timedelta(days=days),
    )


def test_an_exempt_resource_is_not_even_read_and_the_exemption_is_named(built: House, group: Group) -> None:
    event = attacked(built, group)
    built.cases.set(exemption(built, group))
    walked = built.walk(event)
    first = RULES[0]
    assert (walked.verdict, walked.rule) == (first.verdict, first.name) == ("ignore", "exempt")
    assert "owner web team" in walked.reason
    assert built.aws.reads == []
    assert built.only_case().state is CaseState.EXEMPT
    assert built.record("DECIDED")["exemptions"] == [SSH]


def test_an_exemption_ends_on_the_second(built: House, group: Group) -> None:
    built.cases.set(exemption(built, group, days=0))
    assert built.walk(attacked(built, group)).outcome == "fixed"


def test_an_exemption_of_one_control_leaves_the_other_to_be_repaired(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH, RDP)
    built.cases.set(exemption(built, group, RDP))
    built.walk(group.event((22, group.open(22)), (3389, group.open(3389))))
    assert group.ports == [443, 3389]


@pytest.mark.parametrize("scope", [FREEZE_ALL, f"ACCOUNT#{ACCOUNT}", f"CONTROL#{ACCOUNT}#{SSH}"])
def test_a_frozen_scope_is_observed_and_says_by_whom(built: House, group: Group, scope: str) -> None:
    event = attacked(built, group)
    built.freeze(scope, on=True)
    walked = built.walk(event)
    assert (walked.verdict, walked.rule) == ("observe", "frozen")
    assert "olga" in walked.reason
    assert group.ports == [22, 443]


def test_another_controls_freeze_does_not_stop_this_one(built: House, group: Group) -> None:
    event = attacked(built, group)
    built.freeze(f"CONTROL#{ACCOUNT}#{RDP}", on=True)
    assert built.walk(event).outcome == "fixed"


def test_a_switch_that_is_not_there_stops_everything_and_keeps_the_message(
    built: House, group: Group
) -> None:
    event = attacked(built, group)
    del built.cases.items["FREEZE", FREEZE_ALL]
    with pytest.raises(StoreError, match="kill switch cannot be read"):
        built.walk(event)
    assert group.ports == [22, 443]
    assert built.cases.records == ()


@pytest.mark.parametrize(
    "mode, verdict, state, told",
    [
        (Mode.TICKET, "ticket", CaseState.TICKETED, "ticket_open"),
        (Mode.ASK, "ask", CaseState.WAITING, "ask"),
    ],
)
def test_below_act_people_are_told_and_nothing_is_written(
    built: House, group: Group, mode: Mode, verdict: str, state: CaseState, told: str
) -> None:
    walked = built.walk(attacked(built, group, mode))
    assert walked.verdict == verdict
    assert built.only_case().state is state
    (notice,) = built.cases.notices
    assert notice.kind == told
    assert group.ports == [22, 443]


def test_a_mode_above_the_ceiling_counts_as_the_ceiling(built: House, group: Group) -> None:
    from dataclasses import replace

    engine = built.engine()
    lowered = {
        name: control.model_copy(update={"ceiling": Mode.ASK}) for name, control in engine.controls.items()
    }

    class Lowered:
        controls = tuple(lowered.values())

    (walked,) = replace(engine, controls=lowered, catalog=Lowered()).walk(attacked(built, group))
    assert walked.verdict == "ask"


# -- what the event created ---------------------------------------------------------------------------------------------


def test_what_was_there_before_the_event_is_only_asked_about(built: House, group: Group) -> None:
    group.open(22)
    built.raise_to(Mode.ACT, SSH)
    walked = built.walk(group.event((22, "sgr-that-never-was")))
    assert walked.verdict == "ask"
    assert group.ports == [22, 443]


def test_an_old_event_is_only_asked_about(built: House, group: Group) -> None:
    event = attacked(built, group)
    built.clock.advance(timedelta(minutes=61))
    walked = built.walk(event)
    assert walked.verdict == "ask"
    assert group.ports == [22, 443]


def test_what_a_run_changed_is_told_in_the_words_of_its_plan(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    told = built.cases.notices[-1]
    assert told.kind == "run_fixed"
    whys = [call["why"] for call in built.record("INTENT")["plan"]["calls"]]
    assert (told.body["calls"], told.body["more_calls"]) == (whys, 0)


def test_at_exactly_one_hour_it_still_acts(built: House, group: Group) -> None:
    event = attacked(built, group)
    built.clock.advance(timedelta(hours=1))
    assert built.walk(event).outcome == "fixed"


def test_an_event_from_the_future_is_no_fresh_one(built: House, group: Group) -> None:
    event = attacked(built, group)
    event["detail"]["eventTime"] = "2031-01-01T00:00:00Z"
    assert built.walk(event).verdict == "ask"


def test_two_controls_with_two_modes_are_walked_one_after_the_other(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    event = group.event((22, group.open(22)), (3389, group.open(3389)))
    walks = built.engine().walk(event)
    assert [(walk.verdict, walk.controls) for walk in walks] == [("act", (SSH,)), ("observe", (RDP,))]
    assert group.ports == [443, 3389]
    assert all(walk.verdict == "duplicate" for walk in built.engine().walk(event))


def test_two_controls_at_act_are_one_plan(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH, RDP)
    walked = built.walk(group.event((22, group.open(22)), (3389, group.open(3389))))
    assert walked.controls == (RDP, SSH)
    assert group.ports == [443]
    assert len(built.aws.writes) == 1


# -- limits -------------------------------------------------------------------------------------------------------------


def test_over_the_limit_a_person_is_asked_and_told_the_figures(built: House, group: Group) -> None:
    for number in range(5):
        rule = group.open(22)
        built.raise_to(Mode.ACT, SSH)
        assert built.walk(group.event((22, rule), event_id=f"event-{number}")).outcome == "fixed"
    walked = built.walk(group.event((22, group.open(22)), event_id="one-too-many"))
    assert (walked.verdict, walked.rule) == ("ask", "over a limit")
    assert "limit of 5" in walked.reason
    assert group.ports == [22, 443]


def test_an_hour_later_it_acts_again(built: House, group: Group) -> None:
    test_over_the_limit_a_person_is_asked_and_told_the_figures(built, group)
    built.clock.advance(timedelta(minutes=61))
    assert built.walk(group.event((22, "sgr-none"), event_id="inherited")).verdict == "ask"
    for rule in group.ec2.describe_security_group_rules()["SecurityGroupRules"]:
        if rule["FromPort"] == 22 and not rule["IsEgress"]:
            group.close(rule["SecurityGroupRuleId"])
    assert built.walk(group.event((22, group.open(22)), event_id="later")).outcome == "fixed"


def test_a_limit_of_zero_never_acts() -> None:
    with house(limit_per_control=0) as built:
        group = Group(built)
        assert built.walk(attacked(built, group)).verdict == "ask"
        assert group.ports == [22, 443]


# -- two at once --------------------------------------------------------------------------------------------------------


def test_a_second_event_during_a_run_joins_and_nothing_of_it_is_lost(built: House, group: Group) -> None:
    event = attacked(built, group)
    second: dict[str, Any] = {}
    joined: list[Walked] = []

    def meanwhile() -> None:
        second.update(group.event((22, group.open(22, "1.2.3.4/0")), event_id="event-2"))
        joined.append(built.walk(second))

    walked = Meddler(built, "cases.guard", meanwhile).walk(event)
    assert joined[0].verdict == "joined"
    assert walked.outcome == "fixed"
    assert group.ports == [443]
    assert built.kinds() == [
        "RECEIVED",
        "DECIDED",
        "INTENT",
        "JOINED",
        "RESULT",
        "DECIDED",
        "INTENT",
        "RESULT",
    ]
    assert built.only_case().state is CaseState.CLOSED
    assert built.walk(second).verdict == "duplicate"


def test_an_event_of_another_control_that_joins_is_looked_at_too(built: House, group: Group) -> None:
    event = attacked(built, group)
    built.raise_to(Mode.ACT, RDP)

    def meanwhile() -> None:
        built.walk(group.event((3389, group.open(3389)), event_id="event-2"))

    Meddler(built, "ec2.RevokeSecurityGroupIngress", meanwhile, after=True).walk(event)
    assert group.ports == [443]
    assert built.only_case().state is CaseState.CLOSED


def test_an_event_of_a_lower_mode_that_joins_gets_its_own_decision(built: House, group: Group) -> None:
    event = attacked(built, group)

    def meanwhile() -> None:
        built.walk(group.event((3389, group.open(3389)), event_id="event-2"))

    Meddler(built, "ec2.RevokeSecurityGroupIngress", meanwhile, after=True).walk(event)
    assert group.ports == [443, 3389]
    verdicts = [r.draft.data["verdict"] for r in built.cases.records if r.draft.type.value == "DECIDED"]
    assert verdicts[0] == "act"
    assert "observe" in verdicts


def test_the_same_event_during_its_own_run_comes_back_later(built: House, group: Group) -> None:
    event = attacked(built, group)
    late: list[BusyError] = []

    def meanwhile() -> None:
        with pytest.raises(BusyError) as busy:
            built.walk(event)
        late.append(busy.value)

    assert Meddler(built, "cases.guard", meanwhile).walk(event).outcome == "fixed"
    assert 1 <= late[0].retry_after <= 76
    assert built.walk(event).verdict == "duplicate"


def test_the_race_for_the_intent_has_one_winner(built: House, group: Group) -> None:
    event = attacked(built, group)
    rival = group.event((22, "sgr-none"), event_id="event-2")
    Meddler(built, "cases.commit", lambda: built.walk(rival)).walk(event)
    assert group.ports == [443]
    assert built.kinds().count("INTENT") == built.kinds().count("RESULT") == 1


def test_another_remediations_run_on_the_target_makes_the_event_wait(built: House, group: Group) -> None:
    from chalicelib.domain.case import Lock

    event = attacked(built, group)
    target = Target(account=ACCOUNT, region=REGION, type="AWS::EC2::SecurityGroup", id=group.id)
    until = built.clock.now() + timedelta(seconds=30)
    lock = Lock(case="another-1", run=1, lease_until=until, version=1)
    from tests.fakes.cases import Item

    built.cases.items["LOCK", target.key] = Item(lock.model_dump_json(), 1)
    with pytest.raises(BusyError) as busy:
        built.walk(event)
    assert busy.value.retry_after == 31
    built.clock.advance(timedelta(seconds=31))
    assert built.walk(event).outcome == "fixed"


class NeverYields:
    """A store where somebody else is always faster."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, change: Change) -> None:
        raise ConflictError("somebody was faster")


def test_whoever_always_loses_gives_the_message_back(built: House, group: Group) -> None:
    from dataclasses import replace

    event = attacked(built, group)
    engine = replace(built.engine(), cases=NeverYields(built.cases))
    with pytest.raises(BusyError, match="being changed by others"):
        engine.walk(event)
    assert group.ports == [22, 443]


# -- changed meanwhile, refused, halfway --------------------------------------------------------------------------------


def test_frozen_between_intent_and_write_nothing_is_written(built: House, group: Group) -> None:
    walked = Meddler(built, "cases.guard", lambda: built.freeze(FREEZE_ALL, on=True)).walk(
        attacked(built, group)
    )
    assert walked.outcome == "declined"
    assert "frozen by olga" in walked.reason
    assert group.ports == [22, 443]
    assert built.only_case().state is CaseState.OPEN


def test_a_reservation_that_vanished_stops_the_write(built: House, group: Group) -> None:
    event = attacked(built, group)

    def vanish() -> None:
        key = next(key for key in built.cases.items if key[0] == "SPENT" and "ACCOUNT" in key[1])
        built.cases.set(Spent(key=key[1], version=9))

    walked = Meddler(built, "cases.guard", vanish).walk(event)
    assert walked.outcome == "failed"
    assert group.ports == [22, 443]


def test_a_write_that_could_outlive_the_lease_is_not_begun(built: House, group: Group) -> None:
    event = attacked(built, group)
    slow = Meddler(built, "sts.AssumeRole", lambda: built.clock.advance(timedelta(seconds=60)), after=True)
    from chalicelib.domain.errors import LeaseError

    with pytest.raises(LeaseError):
        slow.walk(event)
    assert group.ports == [22, 443]
    built.clock.advance(AFTER_THE_LEASE)
    assert built.walk(event).outcome == "fixed"
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]


def test_somebody_else_closing_it_first_is_no_success_of_ours(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    rule = group.open(22)
    walked = Meddler(built, "cases.guard", lambda: group.close(rule)).walk(group.event((22, rule)))
    assert walked.outcome == "already_compliant"
    assert built.record("RESULT")["results"][0]["error"]
    assert built.only_case().state is CaseState.CLOSED


def test_the_fix_that_did_not_take_is_not_verified(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    rule = group.open(22)
    engine = built.engine()

    class Deaf:
        """EC2 says yes and does nothing."""

        reader, regions = engine.aws.reader, engine.aws.regions

        def executor(self, *args: Any, **options: Any) -> Any:
            return self

        def perform(self, call: Call, token: str, earlier: Any) -> tuple[CallResult, dict[str, Any]]:
            return CallResult(index=0, request_id="r", observed_by="response"), {}

    from dataclasses import replace

    (walked,) = replace(engine, aws=Deaf()).walk(group.event((22, rule)))
    assert walked.outcome == "not_verified"
    assert "still needs them" in walked.reason
    assert built.only_case().state is CaseState.OPEN
    assert sum(built.clock.slept) >= 5


def test_whoever_opens_another_rule_meanwhile_is_waited_for_by_nobody(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    rule = group.open(22)
    again = Meddler(built, "ec2.RevokeSecurityGroupIngress", lambda: group.open(22), after=True)
    walked = again.walk(group.event((22, rule)))
    assert walked.outcome == "not_verified"
    assert "meanwhile" in walked.reason
    assert built.clock.slept == []


class Refuses:
    """The accounts, with one kind of call answered by an error (once, or always)."""

    def __init__(
        self, inner: Any, where: str, error: AwsError, *, times: int = 99, execute: bool = False
    ) -> None:
        self._inner, self.where, self.error, self.times, self.execute = inner, where, error, times, execute
        self.regions = inner.regions

    def reader(self, remediation: AnyRemediation, target: Target) -> Any:
        return _Refusing(self, self._inner.reader(remediation, target), "read")

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> Executor:
        self.answer("assume")
        made: Executor = _Refusing(
            self, self._inner.executor(remediation, target, plan, session, undo=undo), "write"
        )
        return made

    def answer(self, where: str) -> None:
        if where == self.where and self.times:
            self.times -= 1
            raise self.error


class _Refusing:
    def __init__(self, refuses: Refuses, inner: Any, where: str) -> None:
        self._refuses, self._inner, self._where = refuses, inner, where

    def read(self, *args: Any, **params: Any) -> Any:
        self._refuses.answer(self._where)
        return self._inner.read(*args, **params)

    def pages(self, *args: Any, **params: Any) -> Any:
        self._refuses.answer(self._where)
        return self._inner.pages(*args, **params)

    def perform(self, call: Call, token: str, earlier: Any) -> tuple[CallResult, dict[str, Any]]:
        if self._refuses.execute and self._refuses.where == self._where:
            self._inner.perform(call, token, earlier)
        self._refuses.answer(self._where)
        result: tuple[CallResult, dict[str, Any]] = self._inner.perform(call, token, earlier)
        return result


def refusing(built: House, where: str, error: AwsError, **options: Any) -> Engine:
    from dataclasses import replace

    return replace(built.engine(), aws=Refuses(built.aws, where, error, **options))


THROTTLED = TransientError("ec2", "Any", "RequestLimitExceeded", "slow down", "r")
DENIED = AccessDeniedError("ec2", "Any", "UnauthorizedOperation", "no", "r")


@pytest.mark.parametrize("where", ["read", "assume", "write"])
def test_throttled_anywhere_the_message_comes_back_and_the_next_delivery_ends_it(
    built: House, group: Group, where: str
) -> None:
    event = attacked(built, group)
    with pytest.raises(TransientError):
        refusing(built, where, THROTTLED).walk(event)
    assert group.ports == [22, 443]
    built.clock.advance(AFTER_THE_LEASE)
    assert built.walk(event).outcome == "fixed"


def test_a_write_whose_answer_was_lost_is_settled_by_looking(built: House, group: Group) -> None:
    event = attacked(built, group)
    (walked,) = refusing(built, "write", THROTTLED, execute=True).walk(event)
    assert walked.outcome == "fixed"
    assert built.record("RESULT")["observed_by"] == "reassessment"
    assert group.ports == [443]


def test_a_read_that_is_denied_is_a_failure_with_a_record_and_a_ticket(built: House, group: Group) -> None:
    (walked,) = refusing(built, "read", DENIED).walk(attacked(built, group))
    assert walked.outcome == "failed"
    assert built.kinds() == ["RECEIVED", "RESULT", "TICKET_OPENED"]
    assert [notice.kind for notice in built.cases.notices] == ["ticket_open"]


def test_a_read_that_is_denied_after_the_write_is_not_verified(built: House, group: Group) -> None:
    engine = refusing(built, "read", DENIED, times=0)
    event = attacked(built, group)
    inner = engine.aws

    class Later:
        def reader(self, *args: Any) -> Any:
            if built.aws.writes:
                raise DENIED
            return inner.reader(*args)

        executor, regions = inner.executor, inner.regions

    from dataclasses import replace

    (walked,) = replace(engine, aws=Later()).walk(event)
    assert walked.outcome == "not_verified"
    assert "could not be read afterwards" in walked.reason


def test_throttled_while_verifying_the_run_stays_open_until_it_is_looked_at(
    built: House, group: Group
) -> None:
    engine = built.engine()
    event = attacked(built, group)
    inner = engine.aws

    class Later:
        def reader(self, *args: Any) -> Any:
            if built.aws.writes:
                raise THROTTLED
            return inner.reader(*args)

        executor, regions = inner.executor, inner.regions

    from dataclasses import replace

    with pytest.raises(TransientError):
        replace(engine, aws=Later()).walk(event)
    assert built.only_case().state is CaseState.RUNNING
    built.clock.advance(AFTER_THE_LEASE)
    assert built.walk(event).outcome == "fixed"
    assert built.record("RESULT")["observed_by"] == "reassessment"


def crashed(built: House, group: Group, at: str, kind: Kind) -> dict[str, Any]:
    """An attack whose run died at a call of that name."""
    event = attacked(built, group)
    dry = Faults()
    with house() as other:
        twin = Group(other)
        other.walk(attacked(other, twin), dry)
    with pytest.raises(Crash):
        built.walk(event, Faults(dry.seen.index(at) + 1, kind))
    return event


def test_a_new_event_settles_what_a_dead_run_began_and_then_has_its_own_walk(
    built: House, group: Group
) -> None:
    event = attacked(built, group)
    with pytest.raises(Crash):
        built.walk(event, Faults(6, Kind.BEFORE))
    built.clock.advance(AFTER_THE_LEASE)
    second = group.event((22, group.open(22, "1.2.3.4/0")), event_id="event-2")
    assert built.walk(second).outcome == "fixed"
    assert group.ports == [443]
    assert built.walk(event).verdict == "duplicate"


def test_changed_while_the_run_was_dead_it_is_closed_as_failed_and_looked_at_anew(
    built: House, group: Group
) -> None:
    built.raise_to(Mode.ACT, SSH)
    rule = group.open(22)
    event = group.event((22, rule))
    with pytest.raises(Crash):
        built.walk(event, Faults(5, Kind.BEFORE))
    built.clock.advance(AFTER_THE_LEASE)
    group.close(rule)
    group.open(22, "1.2.3.4/0")
    walked = built.walk(event)
    assert walked.verdict == "ask", "the rule that is there now was not opened by the event"
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "DECIDED", "ASKED"]
    assert built.record("RESULT")["outcome"] == "failed"


def test_after_a_crash_a_target_that_cannot_be_read_is_not_verified(built: House, group: Group) -> None:
    event = attacked(built, group)
    with pytest.raises(Crash):
        built.walk(event, Faults(6, Kind.BEFORE))
    built.clock.advance(AFTER_THE_LEASE)
    (walked,) = refusing(built, "read", DENIED).walk(event)
    assert walked.outcome == "not_verified"


def test_after_a_crash_a_throttled_read_leaves_the_run_to_the_next_delivery(
    built: House, group: Group
) -> None:
    event = attacked(built, group)
    with pytest.raises(Crash):
        built.walk(event, Faults(6, Kind.BEFORE))
    built.clock.advance(AFTER_THE_LEASE)
    with pytest.raises(TransientError):
        refusing(built, "read", THROTTLED).walk(event)
    built.clock.advance(AFTER_THE_LEASE)
    assert built.walk(event).outcome == "fixed"


def test_a_run_whose_lease_was_taken_over_records_nothing(built: House, group: Group) -> None:
    event = attacked(built, group)

    def taken_over() -> None:
        built.clock.advance(AFTER_THE_LEASE)
        assert built.walk(event).outcome == "fixed"

    with pytest.raises(BusyError, match="taken over"):
        Meddler(built, "ec2.RevokeSecurityGroupIngress", taken_over, after=True).walk(event)
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]


def test_the_next_violation_is_a_new_episode_with_a_chain_of_its_own(built: House, group: Group) -> None:
    assert built.walk(attacked(built, group)).outcome == "fixed"
    first = built.only_case()
    built.clock.advance(timedelta(minutes=5))
    assert built.walk(group.event((22, group.open(22)), event_id="event-2")).outcome == "fixed"
    second = built.only_case()
    assert (first.episode, second.episode) == (1, 2)
    assert built.kinds(first.id) == built.kinds(second.id) == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]
    archived = built.cases.case(first.digest, 1)
    assert archived is not None
    assert archived.state is CaseState.CLOSED


def test_an_event_on_an_open_case_joins_it(built: House, group: Group) -> None:
    built.walk(group.event((22, group.open(22))))
    built.walk(group.event((22, "sgr-x"), event_id="event-2"))
    assert built.only_case().generation == 2
    assert built.kinds() == ["RECEIVED", "DECIDED", "RECEIVED", "DECIDED"]


# -- our own events -----------------------------------------------------------------------------------------------------


def own(
    built: House, group: Group, session: str, role: str = "redress-test-act", event_id: str = "own-1"
) -> dict[str, Any]:
    identity = {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}",
        "sessionContext": {"sessionIssuer": {"arn": f"arn:aws:iam::{ACCOUNT}:role/{role}"}},
    }
    return group.event((22, group.open(22, "1.2.3.4/0")), event_id=event_id, userIdentity=identity)


def test_our_own_event_is_verified_and_never_acted_on(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    case = built.only_case()
    event = own(built, group, session_name(case.id, 1))
    closed = [
        r for r in group.ec2.describe_security_group_rules()["SecurityGroupRules"] if r["FromPort"] == 22
    ]
    group.close(closed[0]["SecurityGroupRuleId"])
    walked = built.walk(event)
    assert walked.verdict == "verify"
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT", "VERIFIED"]
    assert built.record("VERIFIED")["compliant"] is True
    assert built.walk(event).verdict == "duplicate"


def test_what_is_open_in_the_name_of_a_run_that_ended_is_suspected_and_asked_about(
    built: House, group: Group
) -> None:
    built.walk(attacked(built, group))
    walked = built.walk(own(built, group, session_name(built.only_case().id, 1)))
    assert (walked.verdict, walked.rule) == ("ask", "our own role")
    assert group.ports == [22, 443], "whatever the event says, an own event changes nothing"
    assert built.kinds() == ["RECEIVED", "TAMPER_SUSPECTED", "DECIDED", "ASKED"]
    assert "tamper_suspected" in [notice.kind for notice in built.cases.notices]


def test_what_an_undo_of_ours_opened_under_its_exemption_is_verified(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    built.cases.set(exemption(built, group))
    event = own(built, group, session_name(built.only_case().id, 1), role="redress-test-undo")
    assert built.walk(event).verdict == "verify"
    assert built.record("VERIFIED")["compliant"] is False


def test_our_own_event_during_the_run_is_noted_for_reconciliation(built: House, group: Group) -> None:
    event = attacked(built, group)

    def meanwhile() -> None:
        built.walk(own(built, group, session_name(built.only_case().id, 1)))

    Meddler(built, "ec2.RevokeSecurityGroupIngress", meanwhile).walk(event)
    assert built.kinds().count("RECONCILED") == 1
    assert built.kinds().count("INTENT") == built.kinds().count("RESULT")


def test_an_own_event_that_keeps_losing_gives_the_message_back(built: House, group: Group) -> None:
    from dataclasses import replace

    built.walk(attacked(built, group))
    event = own(built, group, session_name(built.only_case().id, 1))
    for rule in group.ec2.describe_security_group_rules()["SecurityGroupRules"]:
        if rule["FromPort"] == 22:
            group.close(rule["SecurityGroupRuleId"])
    with pytest.raises(BusyError, match="being changed by others"):
        replace(built.engine(), cases=NeverYields(built.cases)).walk(event)


@pytest.mark.parametrize("session", ["redress-aaaaaaaaaaaaaaaaaaaa-1-1", "somebody", ""])
def test_our_role_without_a_run_of_ours_is_a_critical_finding_that_only_asks(
    built: House, group: Group, session: str
) -> None:
    built.raise_to(Mode.ACT, SSH)
    walked = built.walk(own(built, group, session))
    assert (walked.verdict, walked.rule) == ("ask", "our own role")
    assert "TAMPER_SUSPECTED" in built.kinds()
    assert "tamper_suspected" in [notice.kind for notice in built.cases.notices]
    assert group.ports == [22, 443]


def test_an_own_session_of_yesterday_excuses_nothing(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    session = session_name(built.only_case().id, 1)
    built.clock.advance(timedelta(hours=25))
    assert built.walk(own(built, group, session)).rule == "our own role"


def test_a_role_that_is_merely_named_like_ours_elsewhere_is_anybody(built: House, group: Group) -> None:
    built.raise_to(Mode.ACT, SSH)
    assert built.walk(own(built, group, "x", role="redress-test-actor")).outcome == "fixed"


# -- one failure does not stop the rest ---------------------------------------------------------------------------------


def test_every_visit_of_an_event_is_made_before_a_failure_is_raised(built: House, group: Group) -> None:
    from dataclasses import replace

    built.raise_to(Mode.ACT, SSH)
    engine = built.engine()
    failing = replace(engine.remediations[SSH], id="fails_always", assess=_fails)
    split = replace(engine, remediations={**engine.remediations, SSH: failing})
    event = group.event((22, group.open(22)), (3389, group.open(3389)))
    with pytest.raises(TransientError):
        split.walk(event)
    assert [case.remediation for case in built.cases.cases] == ["ec2_revoke_open_ingress"]


def _fails(*_: Any) -> Any:
    raise THROTTLED


def test_a_target_that_is_gone_is_compliant(built: House, group: Group) -> None:
    from dataclasses import replace

    from chalicelib.domain.errors import TargetGoneError

    def gone(*_: Any) -> Any:
        raise TargetGoneError("the group was deleted")

    engine = built.engine()
    removed = replace(engine, remediations={SSH: replace(engine.remediations[SSH], assess=gone)})
    (walked,) = removed.walk(attacked(built, group))
    assert (walked.verdict, walked.rule, walked.outcome) == ("ignore", "gone", "already_compliant")


def test_controls_that_disagree_about_a_parameter_are_refused(built: House) -> None:
    from chalicelib.flow.visit import params_of

    engine = built.engine()
    one, other = (engine.controls[SSH].model_copy(update={"parameters": {"days": days}}) for days in (30, 90))
    with pytest.raises(ValueError, match="disagree about days"):
        params_of(engine.remediations[SSH], (one, other))


def test_what_is_stored_can_be_read_back_as_it_was(built: House, group: Group) -> None:
    built.walk(attacked(built, group))
    case = built.only_case()
    assert Case.model_validate_json(case.model_dump_json()) == case
    assert json.loads(built.cases.chain(case.id)[0].body)["seq"] == 1


def test_an_event_with_an_invented_id_is_kept_under_its_digest(built: House, group: Group) -> None:
    built.walk(group.event((443, "sgr-1"), event_id="é" * 1024))
    (record,) = built.cases.records
    assert len(record.chain.encode()) < 100


def test_a_target_that_vanished_during_the_run_is_not_verified(built: House, group: Group) -> None:
    from dataclasses import replace

    from chalicelib.domain.errors import TargetGoneError

    engine = built.engine()
    whole = engine.remediations[SSH]

    def vanishing(target: Target, params: Any, aws: Any) -> Any:
        if built.aws.writes:
            raise TargetGoneError("deleted meanwhile")
        return whole.assess(target, params, aws)

    event = attacked(built, group)
    (walked,) = replace(engine, remediations={SSH: replace(whole, assess=vanishing)}).walk(event)
    assert walked.outcome == "not_verified"


def test_a_running_case_without_a_run_is_never_guessed_at(built: House, group: Group) -> None:
    from tests.fakes.cases import Item

    event = attacked(built, group)
    with pytest.raises(Crash):
        built.walk(event, Faults(6, Kind.BEFORE))
    broken = built.only_case().model_copy(update={"run": None})
    built.cases.items["CASE", broken.digest] = Item(broken.model_dump_json(), broken.version)
    built.clock.advance(AFTER_THE_LEASE)
    with pytest.raises(BusyError):
        built.walk(event)


def test_a_result_that_keeps_losing_leaves_the_run_to_be_settled(built: House, group: Group) -> None:
    from dataclasses import replace

    event = attacked(built, group)

    class LosesLate(NeverYields):
        def commit(self, change: Change) -> None:
            if any(record.draft.type.value == "RESULT" for record in change.records):
                raise ConflictError("somebody was faster")
            built.cases.commit(change)

    with pytest.raises(BusyError, match="being changed by others"):
        replace(built.engine(), cases=LosesLate(built.cases)).walk(event)
    built.clock.advance(AFTER_THE_LEASE)
    assert built.walk(event).outcome == "fixed"
    assert built.kinds() == ["RECEIVED", "DECIDED", "INTENT", "RESULT"]


def test_contained_is_no_success(built: House, group: Group) -> None:
    """The plan is satisfied and the control still fails: a user fenced in, say. The case stays open."""
    from dataclasses import replace

    from chalicelib.domain.contract import NOTHING_TO_DO

    whole = built.engine().remediations[SSH]

    def once(target: Target, params: Any, state: Any, cause: Any, as_of: Any) -> Plan:
        return NOTHING_TO_DO if built.aws.writes else whole.plan(target, params, state, cause, as_of)

    event = attacked(built, group)
    engine = replace(built.engine(), remediations={SSH: replace(whole, plan=once)})
    again = Meddler(built, "ec2.RevokeSecurityGroupIngress", lambda: group.open(22), after=True)
    faulty = replace(engine, aws=again._inner.aws(built.aws), cases=again._inner.cases(built.cases))
    (walked,) = faulty.walk(event)
    assert walked.outcome == "contained"
    assert built.only_case().state is CaseState.OPEN


def test_an_own_event_of_an_episode_that_has_passed_is_known_by_its_session(
    built: House, group: Group
) -> None:
    assert built.walk(attacked(built, group)).outcome == "fixed"
    session = session_name(built.only_case().id, 1)
    assert built.walk(group.event((22, group.open(22)), event_id="event-2")).outcome == "fixed"
    assert built.walk(own(built, group, session)).verdict == "ask", "an open port is never shelved"
    assert group.ports == [22, 443]


def test_whoever_looks_again_first_spares_the_other_the_look(built: House, group: Group) -> None:
    event = attacked(built, group)
    second: dict[str, Any] = {}

    def join() -> None:
        second.update(group.event((22, group.open(22, "1.2.3.4/0")), event_id="event-2"))
        built.walk(second)
        meddler.call, meddler.nth, meddler.after, meddler.act = "cases.commit", 2, True, look_first

    def look_first() -> None:
        assert built.walk(second).outcome == "fixed"

    meddler = Meddler(built, "cases.guard", join)
    walked = meddler.walk(event)
    assert walked.outcome == "not_verified", "what it saw after its own write was the second rule"
    assert group.ports == [443]
    assert built.kinds().count("INTENT") == built.kinds().count("RESULT") == 2
    assert built.only_case().state is CaseState.CLOSED


def test_a_call_that_failed_is_one_record(built: House, group: Group) -> None:
    event = group.event((22, "sgr-1"), errorCode="Client.UnauthorizedOperation")
    assert built.walk(event).verdict == "not_ours"
    assert "the call failed" in str(built.record("NOT_OURS")["reason"])


# -- what is too large to be recorded --------------------------------------------------------------------------------------


class Narrow(NeverYields):
    """A store whose items hold no state (or, with `always`, nothing at all)."""

    def __init__(self, inner: Any, *kinds: str, always: bool = False) -> None:
        super().__init__(inner)
        self.kinds, self.always = kinds, always

    def commit(self, change: Change) -> None:
        for record in change.records:
            said = record.draft.data
            if record.draft.type.value in self.kinds and (
                self.always or said.get("before") or said.get("after")
            ):
                raise OversizeError(f"{record.draft.type.value} is larger than an item")
        self._inner.commit(change)


def test_what_cannot_be_recorded_is_not_done_and_becomes_a_ticket(built: House, group: Group) -> None:
    from dataclasses import replace

    event = attacked(built, group)
    (walked,) = replace(built.engine(), cases=Narrow(built.cases, "INTENT")).walk(event)
    assert (walked.verdict, walked.rule) == ("ticket", "too large")
    assert group.ports == [22, 443]
    assert built.kinds() == ["RECEIVED", "DECIDED", "TICKET_OPENED"]
    assert [notice.kind for notice in built.cases.notices] == ["ticket_open"]


def test_what_is_only_observed_is_recorded_without_a_state_that_does_not_fit(
    built: House, group: Group
) -> None:
    from dataclasses import replace

    event = attacked(built, group, Mode.OBSERVE)
    (walked,) = replace(built.engine(), cases=Narrow(built.cases, "DECIDED")).walk(event)
    assert (walked.verdict, walked.rule) == ("ticket", "too large")
    assert built.record("DECIDED")["before"] is None


def test_a_record_that_fits_nowhere_keeps_the_message(built: House, group: Group) -> None:
    from dataclasses import replace

    event = attacked(built, group, Mode.OBSERVE)
    with pytest.raises(OversizeError):
        replace(built.engine(), cases=Narrow(built.cases, "DECIDED", always=True)).walk(event)
    assert built.cases.records == ()


def test_a_run_whose_result_does_not_fit_is_recorded_without_the_state(built: House, group: Group) -> None:
    from dataclasses import replace

    event = attacked(built, group)
    (walked,) = replace(built.engine(), cases=Narrow(built.cases, "RESULT")).walk(event)
    assert walked.outcome == "fixed"
    assert built.record("RESULT")["after"] is None
    assert "not kept" in str(built.record("RESULT")["reason"])
    with pytest.raises(OversizeError):
        replace(built.engine(), cases=Narrow(built.cases, "RESULT", always=True)).walk(
            group.event((22, group.open(22)), event_id="event-2")
        )


# -- whom it concerns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tagged", [True, False])
def test_a_repair_that_nobody_was_asked_about_has_the_owner_who_is_told(
    built: House, group: Group, *, tagged: bool
) -> None:
    built.cases.set(Owner(account=ACCOUNT, owner="team-a", by="olga", at=built.clock.now()))
    if tagged:
        group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "Owner", "Value": "web"}])
    assert built.walk(attacked(built, group)).outcome == "fixed"
    owner = "web" if tagged else "team-a"
    assert built.only_case().owner == owner
    assert [notice.body["owner"] for notice in built.cases.notices] == [owner]


def test_an_owner_who_is_known_costs_no_second_read_and_one_who_is_not_is_in_nobodys_way(
    built: House, group: Group
) -> None:
    group.ec2.create_tags(Resources=[group.id], Tags=[{"Key": "Owner", "Value": "web"}])
    assert built.walk(attacked(built, group)).outcome == "fixed"
    built.clock.advance(timedelta(minutes=5))
    seen = Faults()
    built.walk(group.event((22, group.open(22)), event_id="event-2"), seen)
    assert "ec2.DescribeSecurityGroups" not in seen.seen
    other = Group(built)
    first = Faults()
    built.walk(other.event((22, other.open(22)), event_id="event-3"), first)
    denied = Faults(first.seen.index("ec2.DescribeSecurityGroups") + 1, Kind.DENIED)
    third = Group(built)
    assert built.walk(third.event((22, third.open(22)), event_id="event-4"), denied).outcome == "fixed"
