"""A console on moto, with people and cases to look at, and a browser's worth of requests."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from threading import Lock
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode

from moto import mock_aws
from pydantic import JsonValue

import remediations
from chalicelib import catalog
from chalicelib.adapters.aws import own_client
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings, Ledger
from chalicelib.console.desk import Desk
from chalicelib.console.pages import door
from chalicelib.console.session import Session, Sessions, new_id
from chalicelib.console.web import Reply, Request, Site
from chalicelib.domain.approval import Answer, Ask
from chalicelib.domain.case import Case, CaseState, JoinedCause, Run, case_digest
from chalicelib.domain.contract import Call, CallResult, Cause, MonthlyCost, Outcome, Plan
from chalicelib.domain.delivery import Deliveries, Destination, Line, TicketRef
from chalicelib.domain.errors import SignInError, StoreError
from chalicelib.domain.finding import Actor, Severity, Target
from chalicelib.domain.limits import Limits
from chalicelib.domain.policy import Engagement, Policy, PolicySetting, Provider
from chalicelib.domain.ports import Change, SettingChange
from chalicelib.domain.record import Draft, Record, RecordType, seal, system_chain
from chalicelib.domain.ticket import Ticket, TicketState
from chalicelib.flow import answering, command, record
from tests.adapters.tables import create_tables
from tests.fakes.aws import DEPLOYMENT
from tests.fakes.cases import HOME
from tests.fakes.clock import FakeClock
from tests.fakes.ear import Ear
from tests.fakes.models import quick_session

MEMBER = "222222222222"
ISSUER = "https://idp.example"
SITE = Site("https://redress.example", "/api")
KEYS = ("k" * 40,)
ANNA, BEN, OLGA = (f"oidc:{ISSUER}#{name}" for name in ("anna", "ben", "olga"))
VERA, AUDIT, NOBODY = (f"oidc:{ISSUER}#{name}" for name in ("vera", "audit", "nobody"))
SSH, BUCKET, EBS = "ec2-open-ssh", "s3-bucket-public-access-block", "ebs-default-encryption"

POLICY: dict[str, Any] = {
    "console_url": "https://redress.example/api",
    "people": {
        "anna": {
            "name": "Anna Berg",
            "email": "anna@example.org",
            "identities": [ANNA],
            "roles": ["approver"],
        },
        "ben": {"name": "Ben Okoro", "email": "ben@example.org", "identities": [BEN], "roles": ["approver"]},
        "olga": {
            "name": "Olga Lind",
            "email": "olga@example.org",
            "identities": [OLGA],
            "roles": ["operator"],
        },
        "vera": {
            "name": "Vera Roth",
            "email": "vera@example.org",
            "identities": [VERA],
            "roles": ["viewer"],
            "accounts": [MEMBER],
        },
    },
    "groups": {"security": ["anna", "ben", "olga"]},
    "accounts": {HOME: {"name": "platform", "environment": "production"}, MEMBER: {"name": "shop-staging"}},
    "rules": [
        {
            "name": "strict",
            "severities": ["critical"],
            "approvers": ["group:security"],
            "quorum": 2,
            "doors": ["console"],
            "mfa": True,
            "login_within_minutes": 5,
        },
        {"name": "usual", "approvers": ["group:security"], "doors": ["cli", "console"]},
    ],
    "providers": [{"name": "corp", "title": "Example SSO", "issuer": ISSUER, "client_id": "redress"}],
    "break_glass": ["olga"],
}

HOSTILE = "<script>alert(1)</script>\u202e\"'><img src=x onerror=alert(1)> {{ 7*7 }}"


@dataclass
class FakeTold:
    """`domain.delivery.Told`, as far as pages read it."""

    said: dict[str, Deliveries] = field(default_factory=dict)
    references: dict[tuple[str, str], TicketRef] = field(default_factory=dict)

    def deliveries(self, case: str) -> Deliveries | None:
        return self.said.get(case)

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        return self.references.get((ticket, integration))


class FakeSignIn:
    """A provider that takes everybody at their word: the code is the identity."""

    def begin(self, provider: Provider, sessions: Sessions, path: str, *, fresh: bool) -> Reply:
        return Reply(
            302, headers={"Location": f"{provider.issuer}/?{urlencode({'to': path, 'fresh': fresh})}"}
        )

    def finish(
        self,
        request: Request,
        sessions: Sessions,
        providers: Iterable[Provider],
        known: Callable[[str], bool],
    ) -> tuple[Session, str]:
        identity = request.query.get("code", "")
        if not known(identity):
            raise SignInError("nobody")
        return session_of(identity, sessions.clock.now()), "/approvals"


def session_of(
    identity: str, at: datetime, *, mfa: bool = False, logged_in_at: datetime | None = None
) -> Session:
    return Session(
        identity=identity,
        name=HOSTILE,
        email="",
        provider="corp",
        signed_in_at=at,
        logged_in_at=logged_in_at or at,
        mfa=mfa,
        id=new_id(),
    )


@dataclass
class World:
    """The console and all behind it. `viewed` has every recorded look; with `broken` they cannot be recorded."""

    client: Any
    clock: FakeClock = field(default_factory=FakeClock)
    told: FakeTold = field(default_factory=FakeTold)
    viewed: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False
    requests: int = 0

    def __post_init__(self) -> None:
        self.cases = DynamoCases(self.client, DEPLOYMENT)
        self.settings = DynamoSettings(self.client, DEPLOYMENT)
        self.ledger = Ledger(self.client, DEPLOYMENT)
        self.catalog = catalog.load()
        self.desk = Desk(
            home=HOME,
            books=self.ledger,
            store=self.settings,
            told=self.told,
            sessions=self.sessions,
            sign_in=FakeSignIn(),
            clock=self.clock,
            controls=MappingProxyType({one.id: one for one in self.catalog.controls}),
            remediations=MappingProxyType({one.id: one for one in remediations.discover()}),
            answer=lambda said, who: answering.answer(
                said, who, self.settings, self.clock, home=HOME, engine="0.1.0"
            ),
            command=lambda wanted, who: command.carry_out(
                wanted, who, self.settings, self.catalog, self.clock, home=HOME, engine="0.1.0"
            ),
            viewed=self._viewed,
            limits=Limits(),
        )

    def sessions(self, site: Site = SITE) -> Sessions:
        return Sessions(KEYS, self.clock, site)

    def _viewed(self, session: Session, path: str, _request_id: str) -> None:
        if self.broken:
            raise StoreError("not now")
        self.viewed.append((session.identity, path))

    # -- what a browser does -------------------------------------------------------------------------------------------

    def signed_in(self, identity: str, **facts: Any) -> str:
        """The cookie of somebody who has just signed in."""
        session = session_of(identity, self.clock.now(), **facts)
        return self.sessions().cookie_of(session).partition(";")[0]

    def get(self, path: str, who: str | None = ANNA, *, cookie: str = "", method: str = "GET") -> Reply:
        """A page, as somebody sees it."""
        path, _, query = path.partition("?")
        headers = {"cookie": cookie or (self.signed_in(who) if who else "")}
        self.requests += 1
        return door.reply(
            self.desk,
            Request(method, path, _query(query), headers, request_id=f"req-{self.requests}"),
        )

    def post(
        self,
        path: str,
        fields: Mapping[str, str],
        cookie: str,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """A form, sent from our own page unless `headers` say otherwise."""
        self.requests += 1
        said = {
            "cookie": cookie,
            "content-type": "application/x-www-form-urlencoded",
            "origin": SITE.origin,
            "sec-fetch-site": "same-origin",
        } | dict(headers or {})
        body = urlencode(fields).encode()
        return door.reply(self.desk, Request("POST", path, {}, said, body, request_id=f"req-{self.requests}"))

    # -- what stands in the tables -------------------------------------------------------------------------------------

    def set_policy(self, changes: Mapping[str, Any] | None = None) -> Policy:
        """The policy from now on."""
        policy = Policy.model_validate_json(json.dumps({**POLICY, **(changes or {})}))
        setting = PolicySetting(policy=policy, by=OLGA, at=self.clock.now(), reason="as agreed")
        self.set(kept=setting)
        return policy

    def set(self, **setting: Any) -> None:
        """A setting, as a command leaves it."""
        now = self.clock.now()
        chain = system_chain(HOME, now)
        head = self.settings.head(chain)
        draft = Draft(
            type=RecordType.CONFIG_CHANGED,
            source_id=f"set-{head.seq}",
            step="set",
            occurred_at=now,
            account=HOME,
            region="global",
            actor=Actor(type="Person", arn=OLGA),
            data={"by": {"arn": OLGA}, "reason": "as agreed"},
        )
        (one,) = seal(chain, head, (draft,), now, "0.1.0")
        self.settings.apply(SettingChange(record=one, expected_head=head, **setting))

    def keep(self, case: Case, *drafts: Draft, ticket: Ticket | None = None) -> Case:
        """The case as it stands, with these records."""
        records = seal(case.id, case.head, drafts, self.clock.now(), "0.1.0")
        head = records[-1].head if records else case.head
        kept = case.model_copy(
            update={"head": head, "version": case.version + 1, "updated_at": self.clock.now()}
        )
        self.cases.commit(Change(case=kept, records=records, ticket=ticket))
        return kept

    def asked(
        self,
        number: int = 1,
        *,
        severity: Severity = Severity.HIGH,
        account: str = HOME,
        reason: str = "it was there before the control was raised",
        requesters: tuple[str, ...] = (),
        owner: str = "platform-team@example.org",
        answerable: str = "",
        actor: Actor | None = None,
    ) -> Case:
        """A case about an open port, waiting for a person: `owner` is its tag, `answerable` the account's owner."""
        case = self.new(group(number, account), SSH, "ec2_revoke_open_ingress", owner=owner, actor=actor)
        now = self.clock.now()
        plan = revoking(case.target)
        ask = Ask(
            seq=1,
            controls=(SSH,),
            asked_at=now,
            expires_at=now + timedelta(hours=8),
            plan=plan,
            plan_hash=f"{number:064x}",
            before=OPEN_STATE,
            requesters=requesters,
            owner=answerable,
            reason=reason,
            severity=severity,
            notes=("The caller's user agent says Terraform; nobody vouches for that.",),
            as_code='resource "aws_security_group" "web" {\n  # without the rule\n}',
        )
        waits = {"state": CaseState.WAITING, "ask": ask, "asks": 1, "decision": "ask", "actors": requesters}
        case = case.model_copy(update=waits)
        return self.keep(case, received(case, now), record.asked(case, ask, "event"))

    def new(
        self,
        target: Target,
        control: str,
        remediation: str,
        *,
        owner: str = "",
        actor: Actor | None = None,
        state: CaseState = CaseState.OPEN,
    ) -> Case:
        """A case that nobody has kept yet."""
        now = self.clock.now()
        cause = JoinedCause(event_id="event", at=now, actor=actor or MALLORY, controls=(control,))
        return Case(
            digest=case_digest(remediation, target),
            episode=1,
            remediation=remediation,
            target=target,
            state=state,
            controls=(control,),
            generation=1,
            causes=(cause,),
            opened_at=now,
            updated_at=now,
            owner=owner,
        )

    def fixed(self, number: int = 50) -> Case:
        """A case whose repair was verified, with all of its records."""
        case = self.asked(number)
        self.clock.advance(minutes(5))
        now = self.clock.now()
        assert case.ask
        run = Run(
            seq=1,
            source_id="answer",
            controls=(SSH,),
            generation=1,
            started_at=now,
            lease_until=now + minutes(2),
            cause=Cause(at=now, actor=MALLORY),
            before=OPEN_STATE,
            plan=case.ask.plan,
            plan_hash=case.ask.plan_hash,
            approved_by=ANNA,
        )
        results = (CallResult(index=0, request_id="aws-request-1", observed_by="response"),)
        said = Answer(
            by=ANNA, principal="person:anna", at=now, approve=True, reason="the plan is right", request_id="r"
        )
        drafts = (
            record.answered(case, case.ask, (said,)),
            record.intent(case, run, {}),
            _result(case, run, now, results),
        )
        done = case.model_copy(
            update={
                "state": CaseState.CLOSED,
                "ask": None,
                "runs": 1,
                "outcome": Outcome.FIXED,
                "reason": "the port is closed",
            }
        )
        return self.keep(done, *drafts)

    def ticketed(self, number: int = 60, why: str = "a person has to look") -> Case:
        """A case that is a ticket."""
        case = self.new(bucket(number), BUCKET, "s3_block_public_access", owner="shop@example.org")
        now = self.clock.now()
        ticket = Ticket(
            digest=case.digest,
            number=1,
            case=case.id,
            state=TicketState.OPEN,
            severity=Severity.MEDIUM,
            title="Fails: the bucket's public access block is on",
            target=case.target,
            resource=case.target.resource,
            controls=(BUCKET,),
            owner=case.owner,
            why=why,
            evidence={"case": case.id},
            steps=(),
            commands=(),
            as_code="",
            opened_at=now,
            updated_at=now,
        )
        case = case.model_copy(update={"state": CaseState.TICKETED, "ticket": ticket, "reason": why})
        self.told.said[case.id] = Deliveries(
            case=case.id,
            lines=(
                Line(
                    destination=Destination(kind="slack", to="C0123456789"),
                    notice="n",
                    kind="ticket_opened",
                    at=now,
                    state="waiting",
                    attempts=3,
                    said="Slack does not answer",
                ),
            ),
        )
        return self.keep(case, received(case, now), record.ticket(case, ticket, "event"), ticket=ticket)

    def note(self, record: Record) -> None:
        self.cases.note(record)


MALLORY = Actor(
    type="AssumedRole",
    arn=f"arn:aws:sts::{HOME}:assumed-role/dev/mallory",
    role_arn=f"arn:aws:iam::{HOME}:role/dev",
    session="mallory",
)

OPEN_STATE: dict[str, JsonValue] = {
    "group": "sg-0aa000000000000001",
    "owner": HOME,
    "ports": [22],
    "rules": [
        {
            "id": "sgr-0bb00000000000001",
            "cidr": "0.0.0.0/0",
            "from_port": 22,
            "to_port": 22,
            "protocol": "tcp",
        },
        {
            "id": "sgr-0bb00000000000002",
            "cidr": "10.0.0.0/8",
            "from_port": 443,
            "to_port": 443,
            "protocol": "tcp",
        },
    ],
}


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


def group(number: int, account: str = HOME) -> Target:
    return Target(
        account=account, region="eu-west-1", type="AWS::EC2::SecurityGroup", id=f"sg-0aa{number:015d}"
    )


def bucket(number: int, account: str = HOME) -> Target:
    return Target(account=account, region="eu-west-1", type="AWS::S3::Bucket", id=f"shop-assets-{number}")


def revoking(
    target: Target, *, why: str = "Close port 22 to the whole Internet; the rule for 10.0.0.0/8 stays"
) -> Plan:
    return Plan(
        calls=(
            Call(
                service="ec2",
                operation="RevokeSecurityGroupIngress",
                params={"GroupId": target.id, "SecurityGroupRuleIds": ["sgr-0bb00000000000001"]},
                why=why,
            ),
        ),
        monthly_cost=MonthlyCost(usd_cents=0, basis="nothing that is charged for is started"),
    )


def received(case: Case, at: datetime) -> Draft:
    return Draft(
        type=RecordType.RECEIVED,
        source_id="event",
        step=f"received-{case.digest}",
        occurred_at=at,
        account=case.target.account,
        region=case.target.region,
        resource=case.target.resource,
        controls=case.controls,
        actor=case.causes[0].actor,
        data={"event": "AuthorizeSecurityGroupIngress", "origin": "event"},
    )


def _result(case: Case, run: Run, at: datetime, results: tuple[CallResult, ...]) -> Draft:
    closed = {**OPEN_STATE, "rules": OPEN_STATE["rules"][1:]}  # type: ignore[index]  # a list, above
    draft = record.result(case, run, at, Outcome.FIXED, "the port is closed", results, None)
    return draft.model_copy(update={"data": {**draft.data, "after": closed}})


def _query(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


@contextmanager
def world() -> Iterator[World]:
    """A console with a policy and nothing else."""
    with mock_aws():
        ear, one_at_a_time = Ear(), Lock()
        # DynamoDB isolates transactions; moto copies its tables for each, and must be alone meanwhile.
        ear.on("before-send.dynamodb.*", lambda **_: one_at_a_time.acquire() and None)
        ear.on("response-received.dynamodb.*", lambda **_: one_at_a_time.release())
        create_tables(own_client("dynamodb", DEPLOYMENT, quick_session), DEPLOYMENT)
        one = World(own_client("dynamodb", DEPLOYMENT, ear.session))
        one.set_policy()
        yield one


def invited(until: datetime, at: datetime, *accounts: str, revoked: bool = False) -> Engagement:
    return Engagement(
        id="audit-2026",
        name="Nadia of Example Audit",
        identity=AUDIT,
        accounts=accounts,
        by=OLGA,
        at=at,
        until=until,
        reason="the yearly audit",
        revoked=revoked,
    )


class Forms(HTMLParser):
    """The forms of a page: where each is sent, and with which fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "form":
            self.forms.append((said.get("action", ""), {}))
        if tag == "input" and said.get("type") == "hidden":
            self.forms[-1][1][said["name"]] = said.get("value", "")

    def of(self, path: str, **fields: str) -> dict[str, str]:
        """The hidden fields of the first form that goes to that path and has these fields."""
        for action, hidden in self.forms:
            if action.partition("#")[0] == SITE.at(path) and fields.items() <= hidden.items():
                return hidden
        raise AssertionError(f"no form to {path} with {fields}")


def text_of(reply: Reply) -> str:
    """What a page says, without its tags."""
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", reply.body).split()))
