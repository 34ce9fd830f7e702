"""Every other way through the house, step by step: asked and approved, undone, ticketed, swept. Only calls are counted.

The functions behind the queues run in this process, each with a session of its own role, and are handed one message at a
time; the deployed ones that would take the same messages are switched off. The outbox and the notifier are the deployed ones.
"""

import contextlib
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bench import budget
from bench.figures import Row
from bench.walks import Event, UnfinishedError, in_role
from chalicelib import bootstrap
from chalicelib.adapters.worker import Worker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import AnswerAsk, AnyCommand, SetMode, Undo
from chalicelib.flow.desk import caller
from chalicelib.flow.errand import Sweep
from chalicelib.flow.visit import OWN_ROLES
from local.demo import authorized
from local.emulator.world import Credentials
from local.stage import Stage

COMPLIANT = 10
"""Of each kind of resource, when a sweep finds nothing that breaks a control."""

COUNTED = tuple(name for name in OWN_ROLES if name not in {"outbox", "notifier"})
"""Who tells people does so whenever it comes to it, beside the steps and into the midst of them."""

HELD_BACK_SECONDS = 3600.0
UNUSED_DAYS = 90
REGION_OF_IAM = "us-east-1"
PAB = "s3-bucket-public-access-block"
KEY = "iam-unused-credentials"
ROOT = "iam-root-access-key"


@dataclass
class Ways:
    """One deployment, and the functions of it that are stepped through. `counted` holds what each step has called."""

    stage: Stage
    engine: Worker
    undoer: Worker
    commands: bootstrap.Commands
    counted: dict[str, list[budget.Seen]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def roles(self) -> frozenset[str]:
        """The names of the roles that are counted."""
        return frozenset(self.stage.settings.role(name) for name in COUNTED)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what is called meanwhile, under that name; a step that is taken again is counted anew."""
        self.stage.world.clear_calls()
        yield
        self.counted[name] = [call for call in self.stage.world.calls() if call.role in self.roles]

    # -- one message at a time --

    def hand(self, worker: Worker, queue: str, body: str) -> None:
        """One message of one of our queues, as Lambda hands it over."""
        name = self.stage.settings.queue(queue)
        arn = f"arn:aws:sqs:{self.stage.world.region}:{self.stage.world.account}:{name}"
        message = {"messageId": f"bench-{next(self.numbers)}", "receiptHandle": "none", "body": body}
        if worker.handle({"Records": [{**message, "eventSourceARN": arn}]})["batchItemFailures"]:
            raise UnfinishedError(f"a message of {queue} was put off: {body[:200]}")

    def taken(self, queue: str, *, wait: bool = True) -> list[str]:
        """The messages that lie in one of our queues, taken from it; at least one, if it is waited for."""
        sqs, url = self.stage.world.client("sqs", quiet=True), self.stage.queue_url(queue)
        bodies: list[str] = []

        def some() -> bool:
            found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for message in found:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(message["Body"])
            return bool(found)

        if wait:
            self.stage.world.wait_for(some, 20, f"a message in {queue}")
        while some():
            pass
        return bodies

    def send(self, command: AnyCommand, who: Credentials) -> None:
        """A person's command, carried out by the commands route."""
        self.commands(command, caller(who.arn, f"bench-{next(self.numbers)}"))

    def tell(self, event: Event) -> None:
        """CloudTrail's event, taken in by the engine."""
        self.hand(self.engine, "events", json.dumps(event))

    def raise_to(self, mode: Mode, control: str) -> None:
        """The operator sets a control's mode."""
        account = self.stage.world.account
        self.send(
            SetMode(control=control, account=account, mode=mode, reason="to be counted"), self.stage.operator
        )

    # -- sweeps --

    def sweep(self, name: str) -> None:
        """One whole sweep: its beginning and each of its parts are counted, a part of this Region without the Region."""
        with self.step(f"{name}: begin"):
            self.hand(self.engine, "commands", Sweep().model_dump_json())
        while orders := self.taken("commands", wait=False):
            for order in orders:
                part = json.loads(order)["so_far"]["name"]
                with self.step(f"{name}: {part.removesuffix(f'/{self.stage.world.region}')}"):
                    self.hand(self.engine, "commands", order)
        (stands,) = self.stage.ledger.sweeps()
        unread = [part.name for part in stands.done if part.unread]
        if stands.completed_at is None or unread:
            raise UnfinishedError(f"the sweep did not come to its end, or could not read {unread}")

    # -- cases --

    def case(self, resource: str, state: CaseState) -> Case:
        """The one case on the resource, which must be in that state."""
        found = [case for case in self.stage.ledger.cases(state) if case.target.resource == resource]
        if len(found) != 1:
            raise UnfinishedError(f"{len(found)} cases on {resource} are {state.value}")
        return found[0]

    def answered(self, resource: str, name: str) -> str:
        """The approver says yes to what is asked about the resource; what the outbox brings to the engine's queue."""
        case = self.case(resource, CaseState.WAITING)
        hashed = case.ask.plan_hash if case.ask else ""
        with self.step(f"{name}: answered"):
            self.send(
                AnswerAsk(case=case.id, ask=case.asks, plan_hash=hashed, approve=True, reason="counted"),
                self.stage.approver,
            )
            (order,) = self.taken("commands")
        return order


@contextlib.contextmanager
def ways_of(stage: Stage) -> Iterator[Ways]:
    """The functions of a fresh deployment, in this process; CloudTrail is held back."""
    stage.world.set_delay(HELD_BACK_SECONDS)
    functions = stage.world.client("lambda", quiet=True)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        if mapping["EventSourceArn"].endswith(("-commands", "-undo")):
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    with in_role(stage, "undoer"):
        undoer = bootstrap.engine.__wrapped__()
    with in_role(stage, "http"):
        commands = bootstrap.commands.__wrapped__()
    with in_role(stage, "engine"):
        yield Ways(stage, bootstrap.engine.__wrapped__(), undoer, commands)


def loosened(stage: Stage, bucket: str) -> Event:
    """A bucket's public access block really deleted, and CloudTrail's event of it."""
    stage.world.client("s3", quiet=True).delete_public_access_block(Bucket=bucket)
    event = authorized(stage, "sg-0", "sgr-0")
    event |= {"id": f"{bucket}-envelope", "source": "aws.s3"}
    event["detail"] |= {
        "eventSource": "s3.amazonaws.com",
        "eventName": "DeleteBucketPublicAccessBlock",
        "requestParameters": {"bucketName": bucket, "publicAccessBlock": ""},
        "responseElements": None,
        "requestID": f"{bucket}-request",
        "eventID": f"{bucket}-event",
    }
    return event


def rooted(stage: Stage) -> Event:
    """A key of the root user, and CloudTrail's event of its making."""
    stage.world.root_access_key(present=True)
    account = stage.world.account
    event = authorized(stage, "sg-0", "sgr-0")
    event |= {"id": "root-envelope", "source": "aws.iam", "region": REGION_OF_IAM}
    root = {"type": "Root", "arn": f"arn:aws:iam::{account}:root", "accountId": account}
    event["detail"] |= {
        "userIdentity": root,
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateAccessKey",
        "awsRegion": REGION_OF_IAM,
        "requestParameters": None,
        "responseElements": {"accessKey": {"accessKeyId": "AKIAEXAMPLEROOTKEY", "status": "Active"}},
        "requestID": "root-request",
        "eventID": "root-event",
    }
    return event


def counted(stage: Stage, say: Callable[[str], None]) -> dict[str, list[budget.Seen]]:
    """What every step of every way called; UnfinishedError when one did not end as it must."""
    with ways_of(stage) as ways:
        buckets, user = _in_order(ways)
        say("sweeps: the first one, and one that finds everything compliant")
        ways.sweep("first")
        ways.sweep("compliant")
        say("asked, approved, undone; by event; by ticket")
        _asked(ways, buckets[:2])
        _by_event(ways, buckets[2])
        _undone(ways, buckets[:2])
        _ticketed(ways)
        say("a sweep that finds violations and a stale key, and one that finds what it left")
        _violated(ways, buckets[3])
        _by_time(ways, user)
        ways.sweep("known")
        return ways.counted


def rows(found: dict[str, list[budget.Seen]]) -> list[Row]:
    """Every step against its budget, and what a sweep writes that finds nothing new."""
    known = [call for name, calls in found.items() if name.startswith("known: ") for call in calls]
    return [
        row
        for step in budget.STEPS
        for row in budget.rows(step.name, step.fewest, Counter(call.service for call in found[step.name]))
    ] + [budget.row_of_writes(known)]


def _in_order(ways: Ways) -> tuple[list[str], Credentials]:
    """Ten of each kind, all compliant, in every Region; one of the users is to become stale."""
    stage = ways.stage
    regions = stage.world.client("ec2", quiet=True).describe_regions()["Regions"]
    for region in regions:
        stage.world.client("ec2", region=region["RegionName"], quiet=True).enable_ebs_encryption_by_default()
    s3 = stage.world.client("s3", quiet=True)
    owned = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    buckets = [f"bench-bucket-{number}" for number in range(COMPLIANT)]
    for bucket in buckets:
        stage.bucket(bucket)
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=owned)
    users = [stage.user_with_key(f"bench-user-{number}", 1) for number in range(COMPLIANT)]
    for number in range(COMPLIANT):
        stage.security_group(f"bench-compliant-{number}")
    ways.raise_to(Mode.ASK, PAB)
    ways.raise_to(Mode.TICKET, ROOT)
    return buckets, users[0]


def _asked(ways: Ways, buckets: list[str]) -> None:
    """Once to warm up, once to be counted."""
    for bucket in buckets:
        event, resource = loosened(ways.stage, bucket), f"arn:aws:s3:::{bucket}"
        with ways.step("asked"):
            ways.tell(event)
        order = ways.answered(resource, "asked")
        with ways.step("asked: carried out"):
            ways.hand(ways.engine, "commands", order)
        if ways.case(resource, CaseState.CLOSED).outcome != "fixed":
            raise UnfinishedError(f"{bucket} was not repaired")


def _by_event(ways: Ways, bucket: str) -> None:
    ways.raise_to(Mode.ACT, PAB)
    event = loosened(ways.stage, bucket)
    with ways.step("act"):
        ways.tell(event)
    if ways.case(f"arn:aws:s3:::{bucket}", CaseState.CLOSED).outcome != "fixed":
        raise UnfinishedError(f"{bucket} was not repaired")


def _undone(ways: Ways, buckets: list[str]) -> None:
    """Once to warm up, once to be counted."""
    for bucket in buckets:
        resource = f"arn:aws:s3:::{bucket}"
        case = ways.case(resource, CaseState.CLOSED)
        with ways.step("undo: wanted"):
            ways.send(Undo(case=case.id, run=1, owner="olga", reason="counted"), ways.stage.operator)
            (order,) = ways.taken("commands")
        with ways.step("undo: planned"):
            ways.hand(ways.engine, "commands", order)
        order = ways.answered(resource, "undo")
        with ways.step("undo: handed on"):
            ways.hand(ways.engine, "commands", order)
            (order,) = ways.taken("undo")
        with ways.step("undo: carried out"):
            ways.hand(ways.undoer, "undo", order)
        if ways.stage.pab(bucket) or ways.case(resource, CaseState.EXEMPT).outcome:
            raise UnfinishedError(f"{bucket} was not put back")


def _by_time(ways: Ways, user: Credentials) -> None:
    """The control is raised first; then a key crosses the threshold, which a sweep finds."""
    ways.raise_to(Mode.ACT, KEY)
    now = datetime.now(UTC)
    crosses = now + timedelta(seconds=2)
    used = crosses - timedelta(days=UNUSED_DAYS)
    ways.stage.world.age_access_key(
        user.access_key_id, created=now - timedelta(days=2 * UNUSED_DAYS), last_used=used
    )
    time.sleep(3)
    ways.sweep("found")
    if ways.case(user.arn, CaseState.CLOSED).outcome != "fixed":
        raise UnfinishedError("the stale key was not deactivated")


def _ticketed(ways: Ways) -> None:
    event = rooted(ways.stage)
    with ways.step("ticket"):
        ways.tell(event)
    if [ticket.controls for ticket in ways.stage.tickets()] != [(ROOT,)]:
        raise UnfinishedError("there is no ticket about root's key, or there are others")


def _violated(ways: Ways, bucket: str) -> None:
    """Two more violations that nobody is told of."""
    stage = ways.stage
    stage.open(stage.security_group("bench-open"), 22, ec2=stage.world.client("ec2", quiet=True))
    stage.world.client("s3", quiet=True).delete_public_access_block(Bucket=bucket)
