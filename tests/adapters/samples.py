"""Cases, records and settings to store, and a small remediation to make clients with."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.approval import EXPIRES_AFTER, Answer, Answers, Ask
from chalicelib.domain.case import Case, CaseState, JoinedCause, Lock, case_digest
from chalicelib.domain.contract import (
    Call,
    Cause,
    Mode,
    Params,
    Permission,
    Plan,
    Reader,
    Remediation,
    Risk,
    RunRecord,
    State,
)
from chalicelib.domain.dossier import Dossier, Incident
from chalicelib.domain.finding import Actor, Severity, Target
from chalicelib.domain.limits import Reservation, Spent
from chalicelib.domain.policy import Engagement, Person, Policy, PolicySetting, Rule
from chalicelib.domain.ports import (
    AnswerChange,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Notice,
    Owner,
    Question,
    SweepChange,
)
from chalicelib.domain.record import Draft, Head, Record, RecordType, seal
from chalicelib.domain.sweep import Baseline, Sweep
from chalicelib.domain.ticket import Ticket, TicketState
from tests.fakes.cases import HOME
from tests.fakes.clock import START

MEMBER = "222222222222"
CONTROL = "ec2-open-admin-ports"
OTHER_CONTROL = "ec2-open-database-ports"
REMEDIATION = "ec2_revoke_open_ingress"
ACTOR = Actor(type="AssumedRole", role_arn=f"arn:aws:iam::{HOME}:role/dev", session="eve\n{}")
PERSON = Actor(type="IAMUser", arn=f"arn:aws:iam::{HOME}:user/ann")


def target(group: str = "sg-0123456789abcdef0", account: str = HOME, region: str = "eu-west-1") -> Target:
    return Target(account=account, region=region, type="AWS::EC2::SecurityGroup", id=group)


def case(
    version: int = 1,
    *,
    episode: int = 1,
    of: Target | None = None,
    state: CaseState = CaseState.OPEN,
    at: datetime = START,
    reason: str = "",
) -> Case:
    of = of or target()
    return Case(
        digest=case_digest(REMEDIATION, of),
        episode=episode,
        remediation=REMEDIATION,
        target=of,
        state=state,
        controls=(CONTROL,),
        generation=1,
        causes=(JoinedCause(event_id="event-1", at=at, actor=ACTOR, controls=(CONTROL,)),),
        version=version,
        opened_at=at,
        updated_at=at,
        last_state={"rules": [{"id": "sgr-1", "ports": [22, 22], "nothing": None}]},
        reason=reason,
    )


def draft(
    step: str = "received",
    *,
    type: RecordType = RecordType.RECEIVED,  # noqa: A002 -- the field's own name
    controls: tuple[str, ...] = (CONTROL,),
    account: str = HOME,
    actor: Actor | None = ACTOR,
    text: str = "",
) -> Draft:
    return Draft(
        type=type,
        source_id="event-1",
        step=step,
        occurred_at=START,
        account=account,
        region="eu-west-1",
        resource=target(account=account).resource,
        controls=controls,
        actor=actor,
        data={"text": text},
    )


def records(chain: str, *drafts: Draft, head: Head | None = None, at: datetime = START) -> tuple[Record, ...]:
    return seal(chain, head or Head(), drafts or (draft(),), at, "0.1.0")


def lock(version: int = 1, run: int = 1) -> Lock:
    return Lock(case=case().id, run=run, lease_until=START + timedelta(seconds=75), version=version)


def question(
    event_id: str = "event-1",
    of: Target | None = None,
    controls: tuple[str, ...] = (CONTROL,),
    actor_key: str = ACTOR.key,
    role_arn: str | None = None,
) -> Question:
    of = of or target()
    return Question(
        event_id=event_id,
        case=case_digest(REMEDIATION, of),
        target=of,
        controls=controls,
        actor_key=actor_key,
        role_arn=role_arn,
    )


def reserved(spent: Spent, writes: int = 1) -> Spent:
    return spent.plus(Reservation(at=START, case=case().id, run=1, controls=(CONTROL,), writes=writes))


def notice(id: str = "notice-1", kind: str = "run_started") -> Notice:  # noqa: A002 -- the field's own name
    return Notice(id=id, kind=kind, case=case().id, at=START, body={"resource": target().resource})


def mode(account: str = HOME, control: str = CONTROL, to: Mode = Mode.ACT) -> ModeSetting:
    return ModeSetting(account=account, control=control, mode=to, by="ann", at=START, reason="tried")


def freeze(scope: str = "ALL", *, frozen: bool = False) -> Freeze:
    return Freeze(scope=scope, frozen=frozen, by="ann", at=START, reason="because")


def exemption(
    account: str = HOME,
    control: str = CONTROL,
    resource: str | None = None,
    expires_at: datetime = START + timedelta(days=1),
) -> Exemption:
    return Exemption(
        account=account,
        control=control,
        resource=resource or target(account=account).resource,
        owner="team-a",
        code="accepted_risk",
        reason="migration",
        by="ann",
        at=START,
        expires_at=expires_at,
    )


def enrolment(account: str = MEMBER) -> Enrolment:
    return Enrolment(account=account, by="ann", at=START)


def deployment_role(
    account: str = HOME, name: str = "ci/deployer", *, removed: bool = False
) -> DeploymentRole:
    role_arn = f"arn:aws:iam::{account}:role/{name}"
    return DeploymentRole(
        account=account, role_arn=role_arn, tool="terraform", by="ann", at=START, removed=removed
    )


def owner(account: str = HOME, who: str = "team-a@example.org") -> Owner:
    return Owner(account=account, owner=who, by="ann", at=START)


# ------------------------------------------------------------------------------------------------------ ask and answer

HASH = "a" * 64


def ask(seq: int = 1, plan_hash: str = HASH, expires_at: datetime = START + EXPIRES_AFTER) -> Ask:
    return Ask(
        seq=seq,
        controls=(CONTROL,),
        asked_at=START,
        expires_at=expires_at,
        plan=Plan(),
        plan_hash=plan_hash,
        before={},
        reason="it may cut somebody off",
    )


def waiting(version: int = 1, asked: Ask | None = None, **of: Any) -> Case:
    asked = asked or ask()
    return case(version, state=CaseState.WAITING, **of).model_copy(update={"ask": asked, "asks": asked.seq})


def answer(
    to: Case | None = None,
    asked: Ask | None = None,
    *,
    at: datetime = START,
    by: str = "ann",
    before: Answers | None = None,
) -> AnswerChange:
    """What `by` says to that ask of that case, on top of what was said before."""
    to, asked = to or waiting(), asked or ask()
    before = before or Answers(case=to.id, ask=asked.seq, plan_hash=asked.plan_hash)
    said = Answer(by=by, principal=by, at=at, approve=True, reason="go", request_id=f"req-{by}")
    (record,) = records(
        f"ANSWER#{to.id}#{asked.seq}#{before.version + 1}", draft(by, type=RecordType.ANSWERED, actor=PERSON)
    )
    after = before.plus(said, record.head)
    return AnswerChange(
        case=to.id, ask=asked, at=at, answers=after, record=record, notice=notice(f"ERRAND#{by}", "errand")
    )


def policy(reason: str = "the first") -> PolicySetting:
    ann = Person(name="Ann", identities=(str(PERSON.arn), "oidc:https://idp.example#ann"))
    stands = Policy(people={"ann": ann}, rules=(Rule(name="all", approvers=("ann",)),))
    return PolicySetting(policy=stands, by="ann", at=START, reason=reason)


def engagement(name: str = "soc2", *, revoked: bool = False) -> Engagement:
    return Engagement(
        id=name,
        name="Eva",
        identity="email:https://idp.example#eva@audit.example",
        accounts=(HOME,),
        by="ann",
        at=START,
        until=START + timedelta(days=90),
        reason="SOC 2",
        revoked=revoked,
    )


def dossier(holder: str = "ann") -> Dossier:
    incident = Incident(declared=True, root_cause="a leaked key", reason="seen", by="ann", at=START)
    return Dossier(case=case().id, holder=holder, held_since=START, incident=incident)


# --------------------------------------------------------------------------------------------------- tickets and sweeps


def ticket(
    number: int = 1, state: TicketState = TicketState.OPEN, at: datetime = START, of: Target | None = None
) -> Ticket:
    of = of or target()
    return Ticket(
        digest=case_digest(REMEDIATION, of),
        number=number,
        case=case(of=of).id,
        state=state,
        severity=Severity.HIGH,
        title="close the port",
        target=of,
        resource=of.resource,
        controls=(CONTROL,),
        owner="team-a",
        why="the whole world may come in",
        evidence={"rules": ["sgr-1"]},
        steps=(),
        commands=("aws ec2 help",),
        as_code="",
        opened_at=START,
        updated_at=at,
    )


def sweep(
    version: int = 1,
    account: str = HOME,
    expected: tuple[str, ...] = ("a", "b"),
    completed_at: datetime | None = None,
) -> Sweep:
    return Sweep(
        id=f"sweep-{account}",
        account=account,
        by="the schedule",
        started_at=START,
        expected=expected,
        completed_at=completed_at,
        version=version,
    )


def baseline(account: str = HOME, control: str = CONTROL) -> Baseline:
    return Baseline(
        account=account, control=control, regions=("us-east-1",), at=START, sweep=f"sweep-{account}"
    )


def completed(version: int = 2, **parts: Any) -> SweepChange:
    """The last write of a sweep: all that one may hold."""
    (record,) = records(f"SWEEP#sweep-{HOME}", draft("completed", type=RecordType.SWEEP_COMPLETED))
    given: dict[str, Any] = {
        "sweep": sweep(version, completed_at=START),
        "baselines": (baseline(), baseline(control=OTHER_CONTROL)),
        "record": record,
        "notices": (notice("SWEEP", "sweep_completed"),),
    }
    return SweepChange.model_validate(given | parts)


# -------------------------------------------------------------------------------------------------------- remediation


class Nothing(Params):
    """No parameters."""


class Rules(State):
    """As little as a state can be."""

    ids: tuple[str, ...] = ()

    @property
    def compliant(self) -> bool:
        return not self.ids


def _assess(target: Target, params: Nothing, aws: Reader) -> Rules:
    found = aws.pages(
        "ec2",
        "DescribeSecurityGroupRules",
        "SecurityGroupRules",
        Filters=[{"Name": "group-id", "Values": [target.id]}],
    )
    return Rules(ids=tuple(rule["SecurityGroupRuleId"] for rule in found if not rule["IsEgress"]))


def _plan(target: Target, params: Nothing, state: Rules, cause: Cause, now: datetime) -> Plan:
    return Plan(calls=(revoke(target, *state.ids),)) if state.ids else Plan()


def _survey(target: Target, params: Nothing, aws: Reader) -> tuple[Target, ...]:
    return ()


def _undo(target: Target, run: RunRecord[Rules], now: Rules) -> Plan:
    return Plan(calls=(authorize(target),))


GROUP = "arn:{partition}:ec2:{region}:{account}:security-group/{id}"
RULE = "arn:{partition}:ec2:{region}:{account}:security-group-rule/*"

SAMPLE = Remediation(
    id=REMEDIATION,
    controls=(CONTROL,),
    summary="no admin port is open to the Internet",
    risk=Risk.LOW,
    reads=(
        Permission("ec2:DescribeSecurityGroups"),
        Permission("ec2:DescribeSecurityGroupRules"),
        Permission("ec2:GetEbsEncryptionByDefault"),
        Permission("ec2:GetEbsDefaultKmsKeyId"),
        Permission("ec2:DescribeVpcs"),
        Permission("s3:GetBucketPublicAccessBlock"),
        Permission("s3:ListBucket"),
    ),
    writes=(
        Permission("ec2:RevokeSecurityGroupIngress", GROUP),
        Permission("ec2:EnableEbsEncryptionByDefault"),
        Permission("ec2:CreateSecurityGroup"),
        Permission("ec2:DeleteSecurityGroup", GROUP, (("StringEquals", "ec2:Region", "eu-west-1"),)),
    ),
    undo_writes=(
        Permission("ec2:AuthorizeSecurityGroupIngress", GROUP),
        Permission(
            "ec2:CreateTags", RULE, (("StringEquals", "ec2:CreateAction", "AuthorizeSecurityGroupIngress"),)
        ),
    ),
    params=Nothing,
    state=Rules,
    assess=_assess,
    plan=_plan,
    undo=_undo,
    survey=_survey,
    by_hand=lambda _target, _state: (),
    as_code=lambda _target, _state: "",
)


def revoke(of: Target, *rules: str) -> Call:
    return Call(
        service="ec2",
        operation="RevokeSecurityGroupIngress",
        params={"GroupId": of.id, "SecurityGroupRuleIds": list(rules)},
        why="the Internet may not come in",
    )


def authorize(of: Target, *, tags: bool = False) -> Call:
    params: dict[str, JsonValue] = {
        "GroupId": of.id,
        "IpPermissions": [
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
        ],
    }
    if tags:
        params["TagSpecifications"] = [
            {"ResourceType": "security-group-rule", "Tags": [{"Key": "a", "Value": "b"}]}
        ]
    return Call(
        service="ec2", operation="AuthorizeSecurityGroupIngress", params=params, why="as it was before"
    )


ENCRYPT = Call(service="ec2", operation="EnableEbsEncryptionByDefault", params={}, why="new volumes")
