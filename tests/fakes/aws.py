"""AWS accounts on moto, without STS: the real reader and executor, real boto3, every operation remembered.

Use inside `moto.mock_aws()`. The account is told to moto by a header, so that any number of accounts lie side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import botocore.session
from moto.ec2.models import ec2_backends

from chalicelib.adapters.aws import Clients, DeclaredReader, PlanExecutor, Session, session_policy
from chalicelib.domain.contract import AnyRemediation, Plan
from chalicelib.domain.finding import Target
from chalicelib.domain.ports import Clock
from chalicelib.settings import Settings
from tests.fakes import iam
from tests.fakes.cases import HOME
from tests.fakes.clock import FakeClock
from tests.fakes.ear import Http, answer
from tests.fakes.models import quick_session

T = TypeVar("T")

READING = "redress-read"
ARRANGING = "arranging"
"""The sessions that are no run: the engine's reads, and what a test does itself."""

SWITCHED_ON = ("eu-central-1", "us-east-1")
"""Two Regions, and not moto's seventeen: a sweep of them all would take a test's time and show nothing more."""

DEPLOYMENT = Settings(stage="test", account=HOME, region="us-east-1")


@dataclass(frozen=True)
class Operation:
    """One call to AWS: by which session, in which account and Region, what."""

    session: str
    account: str
    region: str
    service: str
    operation: str
    params: Mapping[str, Any]


class FakeAws:
    """`ports.Aws` on moto. `operations` has every call that was sent, `writes` those of executors, `policies` the
    session policy of every executor that was made. `switched_on` are the Regions of every account: set them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.operations: list[Operation] = []
        self.policies: list[str] = []
        self.switched_on: tuple[str, ...] = SWITCHED_ON
        self._clock = clock or FakeClock()
        self._clients = _Clients(self.operations, self._clock)

    @property
    def writes(self) -> list[Operation]:
        """What executors sent."""
        return [one for one in self.operations if one.session not in {READING, ARRANGING}]

    @property
    def reads(self) -> list[Operation]:
        """What readers sent."""
        return [one for one in self.operations if one.session == READING]

    def reader(self, remediation: AnyRemediation, target: Target) -> DeclaredReader:
        session = _session(READING, target.account)
        return DeclaredReader(self._clients, self._clock, remediation, target.region, lambda: session)

    def executor(
        self, remediation: AnyRemediation, target: Target, plan: Plan, session: str, *, undo: bool = False
    ) -> PlanExecutor:
        self.policies.append(session_policy(remediation, target, plan, undo=undo))
        worn = _session(session, target.account)
        return PlanExecutor(self._clients, remediation, target, plan, worn, undo=undo)

    def regions(self, account: str) -> tuple[str, ...]:
        asked = {"AllRegions": False}
        here = DEPLOYMENT.region
        self.operations.append(Operation(READING, account, here, "ec2", "DescribeRegions", asked))
        return tuple(sorted(self.switched_on))

    def do(
        self,
        service: str,
        method: str,
        /,
        *,
        account: str = HOME,
        region: str = "us-east-1",
        **params: object,
    ) -> Any:
        """A call of the test's own, by boto3's method name: to arrange the world, or to look at it."""
        session = _session(ARRANGING, account)
        return self._clients.send(
            session, region, service, method, lambda client: getattr(client, method)(**params)
        )


def _session(name: str, account: str) -> Session:
    """Credentials that carry their session's name as access key; moto checks nothing."""
    return Session(account, name, "secret", "token", datetime.max.replace(tzinfo=UTC))


class _Clients(Clients):
    """The real clients, with an ear on them, and moto told whose account it is."""

    def __init__(self, operations: list[Operation], clock: Clock) -> None:
        self._operations = operations
        self._clock = clock
        self._now: Session | None = None
        super().__init__(DEPLOYMENT, self._listening)

    def send(self, session: Session, region: str, service: str, operation: str, how: Callable[[Any], T]) -> T:
        self._now = session
        return super().send(session, region, service, operation, how)

    def _bucket_call(self, params: Mapping[str, Any], model: Any, context: Any, **more: object) -> None:
        """A test may arrange any bucket it likes."""
        if self._signed.access_key != ARRANGING:
            super()._bucket_call(params, model, context, **more)

    def _listening(self) -> botocore.session.Session:
        made = quick_session()
        events: Any = made.get_component("event_emitter")
        events.register("provide-client-params.*.*", self._asked)
        events.register("before-call.*.*", self._addressed)
        for name in ("Get", "Reset"):
            events.register(f"before-call.ec2.{name}EbsDefaultKmsKeyId", self._default_key)
        events.register("after-call.ec2.DescribeSecurityGroupRules", self._owner)
        iam.listen(events, lambda: self._signed.account, self._clock.now)
        return made

    def _owner(self, parsed: dict[str, Any], **_: object) -> None:
        """Moto leaves the owner of a group out of its rules; EC2 never does."""
        for rule in parsed.get("SecurityGroupRules", []):
            rule.setdefault("GroupOwnerId", self._signed.account)

    def _asked(self, params: Mapping[str, Any], model: Any, context: Any, **_: object) -> None:
        session = self._signed
        self._operations.append(
            Operation(
                session=session.access_key,
                account=session.account,
                region=context["client_region"],
                service=model.service_model.service_name,
                operation=model.name,
                params=dict(params),
            )
        )

    def _addressed(self, params: Any, **_: object) -> None:
        params["headers"]["x-moto-account-id"] = self._signed.account

    def _default_key(self, model: Any, context: Any, **_: object) -> tuple[Http, dict[str, Any]]:
        """Moto knows how to set the key that EBS encrypts with by default, and not how to tell or reset it."""
        backend: Any = ec2_backends[self._signed.account][context["client_region"]]
        if model.name.startswith("Reset"):
            backend.default_kms_key_id = ""
        return answer(KmsKeyId=backend.default_kms_key_id or "alias/aws/ebs")

    @property
    def _signed(self) -> Session:
        if self._now is None:
            raise AssertionError("a client was used without a session")
        return self._now
