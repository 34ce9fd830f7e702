"""The command line on fakes of every door to the outside."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chalicelib.cli.doctor import Check, Health
from chalicelib.cli.ledger import Books
from chalicelib.cli.main import app
from chalicelib.cli.outside import Outside
from chalicelib.domain.approval import EXPIRES_AFTER, Answers, Ask
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import (
    Call,
    Cause,
    Declined,
    Mode,
    Params,
    Permission,
    Plan,
    Reader,
    Remediation,
    Risk,
    RunRecord,
    State,
    Step,
)
from chalicelib.domain.control import Control, EdgeCase, EventRule, Status
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.finding import Actor, Severity, Target
from chalicelib.domain.policy import Engagement, PolicySetting
from chalicelib.domain.ports import DeploymentRole, Enrolment, Exemption, Freeze, ModeSetting, Owner
from chalicelib.domain.record import Draft, Head, RecordType, seal
from chalicelib.domain.sweep import Sweep
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow.command import AnyCommand
from chalicelib.flow.desk import CommandResult

NOW = datetime(2031, 5, 7, 12, 0, tzinfo=UTC)
HOME = "111122223333"
DIGEST = "abcdefghijklmnopqrst"

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;https://evil.example\x07click\x1b]8;;\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb\nc\x00d\x08e\x7f",
    "[bold red]markup[/bold red] [link=https://evil.example]x[/link]",
    "[/]",
    ":skull: :warning:",
    "safe\u202etxt.exe\u2066\u2069",
    "zero\u200bwidth\ufeff\u00ad",
    "line\u2028para\u2029",
    "tag\U000e0041",
    "<script>alert(1)</script>",
    "![x](https://evil.example/x.png) [a](javascript:alert(1)) `code` | cell | **b**",
    "# title\n| a | b |",
    "=HYPERLINK(1)",
    "lone\ud800surrogate",
)
"""Names that strangers may choose; whatever shows them must show them, and not obey them."""

FORBIDDEN = frozenset("\x00\x07\x08\x1b\x7f\x9b\r\u200b\ufeff\u00ad\u061c\u200e\u200f\u2028\u2029\U000e0041")
DIRECTIONS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def harmless(text: str) -> bool:
    """True when a terminal would obey nothing in the text."""
    return not (FORBIDDEN | DIRECTIONS) & set(text)


class Ports(Params):
    ports: tuple[int, ...] = ()


class Rules(State):
    open_rules: tuple[str, ...]
    foreign: tuple[str, ...] = ()

    @property
    def compliant(self) -> bool:
        return not self.open_rules


def assess(target: Target, params: Ports, aws: Reader) -> Rules:
    del params
    return Rules(open_rules=tuple(aws.pages("ec2", "DescribeSecurityGroupRules", "Rules", Id=target.id)))


def plan(target: Target, params: Ports, state: Rules, cause: Cause, as_of: datetime) -> Plan:
    del params, cause, as_of
    return Plan(
        calls=tuple(
            Call(
                service="ec2",
                operation="RevokeSecurityGroupIngress",
                params={"GroupId": target.id, "SecurityGroupRuleIds": [rule]},
                why=f"{rule} lets the world in",
            )
            for rule in state.open_rules
        ),
        declined=tuple(Declined(what=one, why="it belongs to another account") for one in state.foreign),
        depends_on={"open": list(state.open_rules)},
    )


def undo(target: Target, run: RunRecord[Rules], state: Rules) -> Plan:
    del target, run, state
    return Plan()


REMEDIATION = Remediation(
    id="ec2_close_ssh",
    controls=("ec2-no-world-ssh",),
    summary="Takes the rules away that let the world in to SSH",
    risk=Risk.LOW,
    reads=(Permission("ec2:DescribeSecurityGroupRules"),),
    writes=(
        Permission(
            "ec2:RevokeSecurityGroupIngress", "arn:{partition}:ec2:{region}:{account}:security-group/{id}"
        ),
    ),
    undo_writes=(),
    params=Ports,
    state=Rules,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=lambda place, _params, _aws: (place,),
    by_hand=lambda _target, _state: (),
    as_code=lambda _target, _state: "",
)


def control(name: str = "ec2-no-world-ssh", **changes: Any) -> Control:
    fields: dict[str, Any] = {
        "id": name,
        "version": "1",
        "title": "No security group lets SSH in from the Internet",
        "severity": Severity.HIGH,
        "resource": "AWS::EC2::SecurityGroup",
        "status": Status.STABLE,
        "ceiling": Mode.ACT,
        "why": "scanners find it within minutes",
        "false_positives": ("a bastion that is meant to be open",),
        "frameworks": {"soc2": ("CC6.6",)},
        "parameters": {"ports": [22]},
        "events": (
            EventRule(
                source="ec2.amazonaws.com",
                names=("AuthorizeSecurityGroupIngress",),
                target="requestParameters.groupId",
                when="opens_ingress",
            ),
        ),
        "edge_cases": (
            EdgeCase(says="IPv6 too", test="tests/remediations/test_x.py::test_ipv6"),
            EdgeCase(says="tracked connections", test="not exercised: there is no network here"),
        ),
    }
    return Control(**{**fields, **changes})


@dataclass(frozen=True)
class Catalog:
    controls: tuple[Control, ...] = (control(),)


def event(
    group: str = "sg-0a1b2c3d", arn: str = f"arn:aws:iam::{HOME}:user/mallory", **changes: Any
) -> dict[str, Any]:
    """A CloudTrail event in EventBridge's envelope that opens SSH to the world, written for these tests."""
    at = (NOW - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    detail = {
        "eventVersion": "1.10",
        "userIdentity": {"type": "IAMUser", "arn": arn},
        "eventTime": at,
        "eventSource": "ec2.amazonaws.com",
        "eventName": "AuthorizeSecurityGroupIngress",
        "awsRegion": "eu-central-1",
        "requestParameters": {"groupId": group, "ipPermissions": {}},
        "responseElements": {
            "securityGroupRuleSet": {
                "items": [
                    {
                        "securityGroupRuleId": "sgr-1",
                        "isEgress": False,
                        "ipProtocol": "tcp",
                        "fromPort": 22,
                        "toPort": 22,
                        "cidrIpv4": "0.0.0.0/0",
                    }
                ]
            }
        },
        "requestID": "11111111-2222-3333-4444-555555555555",
        "eventID": "66666666-7777-8888-9999-000000000000",
        "recipientAccountId": HOME,
    }
    return {
        "version": "0",
        "id": "e",
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.ec2",
        "account": HOME,
        "time": at,
        "region": "eu-central-1",
        "resources": [],
        "detail": {**detail, **changes},
    }


@dataclass(frozen=True)
class FakeStored:
    body: str
    hash: str


@dataclass
class FakeLedger:
    stored: list[FakeStored] = field(default_factory=list)
    known: list[Case] = field(default_factory=list)
    set_modes: list[ModeSetting] = field(default_factory=list)
    switches: list[Freeze] = field(default_factory=list)
    tripped: list[Breaker] = field(default_factory=list)
    granted: list[Exemption] = field(default_factory=list)
    members: list[Enrolment] = field(default_factory=list)
    papers: list[Ticket] = field(default_factory=list)
    said: list[Answers] = field(default_factory=list)
    deployers: list[DeploymentRole] = field(default_factory=list)
    answerable: list[Owner] = field(default_factory=list)
    swept: list[Sweep] = field(default_factory=list)
    kept: list[Dossier] = field(default_factory=list)
    standing: PolicySetting | None = None
    invited: tuple[Engagement, ...] = ()

    def policy(self) -> PolicySetting | None:
        return self.standing

    def engagements(self) -> tuple[Engagement, ...]:
        return self.invited

    def _of(self, **wanted: object) -> list[FakeStored]:
        bodies = [(record, json.loads(record.body)) for record in self.stored]
        return [
            record for record, body in bodies if all(body[name] == value for name, value in wanted.items())
        ]

    def case_records(self, case_id: str, /) -> Iterable[FakeStored]:
        return self._of(chain=case_id)

    def system_records(self, account: str, month: datetime, /) -> Iterable[FakeStored]:
        return self._of(chain=f"SYS#{account}#{month:%Y%m}")

    def records(self, account: str, since: datetime, until: datetime, /) -> Iterable[FakeStored]:
        del since, until
        return reversed(self._of(account=account))

    def resource_records(self, resource: str, since: datetime, until: datetime, /) -> Iterable[FakeStored]:
        del since, until
        return reversed(self._of(resource=resource))

    def beside(self, case: Case, until: datetime, most: int, /) -> Iterable[FakeStored]:
        del until
        about = self._of(resource=case.target.resource)
        others = [one for one in about if json.loads(one.body)["chain"] != case.id]
        return [*reversed(others)][:most]

    def dossier(self, case: str) -> Dossier | None:
        return next((one for one in self.kept if one.case == case), None)

    def cases(self, state: CaseState | None = None, /) -> Iterable[Case]:
        return [case for case in self.known if state in {None, case.state}]

    def modes(self) -> list[ModeSetting]:
        return self.set_modes

    def exemptions(self) -> list[Exemption]:
        return self.granted

    def freezes(self) -> list[Freeze]:
        return self.switches

    def breakers(self) -> list[Breaker]:
        return self.tripped

    def enrolments(self) -> list[Enrolment]:
        return self.members

    def tickets(self, state: TicketState | None = None, /) -> Iterable[Ticket]:
        return [ticket for ticket in self.papers if state in {None, ticket.state}]

    def answers(self, case: str, ask: int, /) -> Answers | None:
        return next((one for one in self.said if (one.case, one.ask) == (case, ask)), None)

    def deployment_roles(self) -> list[DeploymentRole]:
        return self.deployers

    def owners(self) -> list[Owner]:
        return self.answerable

    def sweeps(self) -> list[Sweep]:
        return self.swept

    def case(self, digest: str, episode: int) -> Case | None:
        return next((one for one in self.known if (one.digest, one.episode) == (digest, episode)), None)

    def tell(self, text: str = "an hour ago the port was opened") -> Case:
        """A case with three records in a chain that holds; `text` is what strangers wrote."""
        target = Target(account=HOME, region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-0a1b2c3d")
        made = plan(
            target, Ports(), Rules(open_rules=("sgr-1",)), Cause(at=NOW, actor=Actor(type="Root")), NOW
        )
        case_id = f"{DIGEST}-1"

        def draft(kind: RecordType, step: str, **data: Any) -> Draft:
            return Draft(
                type=kind,
                source_id="event",
                step=step,
                occurred_at=NOW,
                account=HOME,
                region="eu-central-1",
                resource=target.resource,
                controls=("ec2-no-world-ssh",),
                actor=Actor(
                    type="AssumedRole", arn=f"arn:aws:sts::{HOME}:assumed-role/a/{text}", session=text
                ),
                data=data,
            )

        drafts = (
            draft(RecordType.RECEIVED, "received", event="AuthorizeSecurityGroupIngress"),
            draft(
                RecordType.DECIDED,
                "decided",
                verdict="observe",
                rule="observing",
                reason=text,
                plan=made.model_dump(mode="json"),
                plan_hash="f" * 64,
                before={"open_rules": ["sgr-1"]},
            ),
            draft(RecordType.RESULT, "result", outcome="fixed", reason="nothing is left to do"),
        )
        records = seal(case_id, Head(), drafts, NOW, "0.1.0")
        self.stored += [FakeStored(record.body, record.hash) for record in records]
        case = Case(
            digest=DIGEST,
            episode=1,
            remediation="ec2_close_ssh",
            target=target,
            state=CaseState.OPEN,
            controls=("ec2-no-world-ssh",),
            generation=1,
            head=records[-1].head,
            version=1,
            opened_at=NOW,
            updated_at=NOW,
            decision="observe",
            reason=text,
        )
        self.known.append(case)
        return case

    def ask(self, text: str = "part of the plan may cut access", **changes: Any) -> Case:
        """The case of `tell`, which waits for an answer now; `text` is what strangers wrote."""
        told = self.tell(text)
        self.known.remove(told)
        made = plan(
            told.target,
            Ports(),
            Rules(open_rules=("sgr-1",), foreign=(text,)),
            Cause(at=NOW, actor=Actor(type="Root")),
            NOW,
        )
        ask = Ask(
            seq=1,
            controls=told.controls,
            asked_at=NOW - timedelta(hours=1),
            expires_at=NOW - timedelta(hours=1) + EXPIRES_AFTER,
            plan=made,
            plan_hash="f" * 64,
            before={"open_rules": ["sgr-1"], "note": text},
            requesters=(f"arn:aws:iam::{HOME}:user/mallory",),
            reason=text,
            notes=(text,),
            as_code=f'resource "x" {{\n  name = {json.dumps(text)}\n}}',
        ).model_copy(update=changes)
        case = told.model_copy(
            update={"state": CaseState.WAITING, "ask": ask, "asks": 1, "runs": 2, "owner": text}
        )
        self.known.append(case)
        return case

    def ticket(self, text: str = "the key is root's own", **changes: Any) -> Ticket:
        """An open ticket on the target of `tell`; `text` is what strangers wrote."""
        target = Target(account=HOME, region="eu-central-1", type="AWS::EC2::SecurityGroup", id="sg-0a1b2c3d")
        ticket = Ticket(
            digest=DIGEST,
            number=1,
            case=f"{DIGEST}-1",
            state=TicketState.OPEN,
            severity=Severity.HIGH,
            title="Close SSH",
            target=target,
            resource=target.resource,
            controls=("ec2-no-world-ssh",),
            owner=text,
            why=text,
            evidence={"seen": text, "rules": ["sgr-1"]},
            steps=(
                Step(console="Open the group", command="aws ec2 describe-security-groups --group-ids sg-1"),
                Step(console="Tell the owner"),
            ),
            commands=("aws ec2 revoke-security-group-ingress --group-id sg-1",),
            as_code='resource "aws_security_group" "x" {\n}',
            opened_at=NOW,
            updated_at=NOW,
        ).model_copy(update=changes)
        self.papers.append(ticket)
        return ticket


@dataclass
class Shell:
    """`redress` on fakes: what it was asked to post, and what it is to find."""

    ledger: FakeLedger = field(default_factory=FakeLedger)
    catalog: Catalog = field(default_factory=Catalog)
    posted: list[tuple[str, str | None, AnyCommand]] = field(default_factory=list)
    answers: CommandResult = field(
        default_factory=lambda: CommandResult(
            changed=True, says="done", chain="SYS#1#203105", seq=4, record_id="r4"
        )
    )
    state: State = field(default_factory=lambda: Rules(open_rules=("sgr-1",)))
    found: tuple[Check, ...] = (Check("credentials", Health.OK, "you are jane"),)
    at: datetime = NOW
    says_yes: bool = True
    questions: list[str] = field(default_factory=list)

    def post(self, stage: str, url: str | None, command: AnyCommand) -> CommandResult:
        self.posted.append((stage, url, command))
        return self.answers

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.says_yes

    def outside(self) -> Outside:
        return Outside(
            catalog=lambda: self.catalog,
            remediations=lambda: (REMEDIATION,),
            books=lambda _stage: Books(HOME, self.ledger, self.ledger.case, self.ledger.dossier),
            post=self.post,
            address=lambda stage, url: url or f"https://{stage}.example/api",
            read_state=lambda _remediation, _target, _params: self.state,
            checks=lambda _stage: iter(self.found),
            now=lambda: self.at,
            confirm=self.confirm,
        )

    def __call__(self, *arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], obj=self.outside())

    def json(self, *arguments: str | Path, code: int = 0) -> list[Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def redress() -> Shell:
    return Shell()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes events into a file: one document for .json, a line each for .jsonl."""

    def into(name: str, *events: object) -> Path:
        path = tmp_path / name
        path.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in events) + "\n")
        return path

    return into


@pytest.fixture
def harmful() -> Callable[[str], bool]:
    return lambda text: not harmless(text)


@pytest.fixture(params=HOSTILE, ids=lambda text: ascii(text)[:30])
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened() -> Callable[..., dict[str, Any]]:
    return event


@pytest.fixture
def a_control() -> Callable[..., Control]:
    return control


@pytest.fixture
def shell_with() -> Callable[..., Shell]:
    return lambda **changes: replace(Shell(), **changes)
