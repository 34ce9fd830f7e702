"""The function dies at every call of the acting and of the undo role, before it and after it, and where it records them.

For a bucket, for a key that a person approved, and for an undo. All the deaths come first; then the messages come back.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.flow.command import Undo
from local.demo import WORLD, answer, authorized
from local.emulator import findings
from local.emulator.world import Effect, Fault, SeenCall
from local.stage import BLOCKS, Stage
from tests.e2e.scenes import (
    HIDDEN_SECONDS,
    SSH,
    calm,
    chain,
    halves,
    kinds,
    mended,
    ours,
    receives,
    redelivered,
    send,
    set_mode,
    waiting,
)

pytestmark = pytest.mark.emulator

CONTROLS = ("s3-bucket-public-access-block", "iam-unused-credentials")


@dataclass(frozen=True)
class Place:
    """A call at which the function dies: whose, which and the how-manieth of its kind."""

    story: str
    role: str
    service: str
    operation: str
    nth: int = 1


BUCKET, KEY, UNDO = "bucket", "key", "undo"
PLACES = (
    Place(BUCKET, "act", "s3", "PutPublicAccessBlock"),
    Place(BUCKET, "engine", "dynamodb", "TransactWriteItems", 2),
    Place(KEY, "act", "iam", "UpdateAccessKey"),
    Place(KEY, "engine", "dynamodb", "TransactWriteItems", 1),
    Place(KEY, "engine", "dynamodb", "TransactWriteItems", 2),
    Place(UNDO, "undo", "ec2", "AuthorizeSecurityGroupIngress"),
    Place(UNDO, "undoer", "dynamodb", "TransactWriteItems", 1),
    Place(UNDO, "undoer", "dynamodb", "TransactWriteItems", 2),
)
"""The only write of each plan; then INTENT and RESULT of those runs that a person approved."""

QUEUES = {BUCKET: "events", KEY: "commands", UNDO: "undo"}
ENDS = {
    BUCKET: ["RECEIVED", "DECIDED", "INTENT", "RESULT"],
    KEY: ["RECEIVED", "DECIDED", "ASKED", "ANSWERED", "DECIDED", "INTENT", "RESULT"],
    UNDO: ["RECEIVED", "DECIDED", "INTENT", "RESULT", "ASKED", "ANSWERED", "UNDO_INTENT", "UNDO_RESULT"],
}
EFFECTS: tuple[Effect, ...] = ("kill_before", "kill_after")
Death = tuple[Effect, Place]
DEATHS: list[Death] = [(effect, place) for place in PLACES for effect in EFFECTS]

at_every_call = pytest.mark.parametrize(
    "death", DEATHS, ids=[f"{effect}-{place.story}-{place.operation}-{place.nth}" for effect, place in DEATHS]
)


@dataclass(frozen=True)
class Prepared:
    """A resource, its name, and the deed after which the function sets to work on it."""

    resource: str
    name: str
    deed: Callable[[], object]


@dataclass(frozen=True)
class Ended:
    """What became of it: the case, its chain, what the roles that write did in its sessions, and what is there now."""

    case: Case
    bodies: list[dict[str, Any]]
    made: list[SeenCall]
    there: object


def a_bucket(stage: Stage, name: str) -> Prepared:
    resource = stage.bucket(name)
    stage.world.client("s3", quiet=True).put_bucket_ownership_controls(
        Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    )
    told = authorized(stage, name, "block")
    told["source"] = "aws.s3"
    told["detail"] |= {
        "eventSource": "s3.amazonaws.com",
        "eventName": "DeleteBucketPublicAccessBlock",
        "requestParameters": {"bucketName": name},
        "responseElements": None,
    }

    def loosen() -> None:
        """By hand, since CloudTrail is held back: our own events are to come after all the deaths."""
        stage.world.client("s3", quiet=True).delete_public_access_block(Bucket=name)
        send(stage, "events", json.dumps(told))

    return Prepared(resource, name, loosen)


def a_key(stage: Stage, name: str) -> Prepared:
    user = stage.user_with_key(name, age_days=400, used_days_ago=120)
    world = stage.world
    told = findings.security_hub(world.account, world.region, user.arn, "IAM.22", kind="AwsIamUser")
    world.emit(findings.custom_action(told))
    case = stage.await_case(user.arn, CaseState.WAITING)
    return Prepared(user.arn, name, lambda: answer(stage, case, stage.approver))


def an_undo(stage: Stage, name: str) -> Prepared:
    group = stage.security_group(name)
    resource = stage.arn(group)
    stage.open(group, SSH)
    stage.await_record(resource, "RESULT")
    calm(stage)
    (case,) = found(stage, resource)
    stage.command(Undo(case=case.id, run=1, owner="network team", reason="it cut off the backup"))
    asked = stage.await_case(resource, CaseState.WAITING)
    return Prepared(resource, group, lambda: answer(stage, asked, stage.approver))


BEGIN = {BUCKET: a_bucket, KEY: a_key, UNDO: an_undo}


def found(stage: Stage, *resources: str) -> list[Case]:
    return [case for case in stage.ledger.cases() if case.target.resource in resources]


@pytest.fixture(scope="module")
def died(deployed: Stage) -> dict[Death, Ended]:
    """Everything that was prepared, after the redelivery of what the function died of."""
    set_mode(deployed, Mode.ACT, *CONTROLS)
    calm(deployed)
    mended(deployed)
    ready = {
        death: BEGIN[death[1].story](deployed, f"crash-{number}-{death[1].story}")
        for number, death in enumerate(DEATHS)
    }
    calm(deployed)
    deployed.world.set_delay(600)
    deployed.world.clear_calls()
    for queue in QUEUES.values():
        receives(deployed, visibility=HIDDEN_SECONDS, name=queue)
    for (effect, place), prepared in ready.items():
        queue = QUEUES[place.story]
        before = waiting(deployed, queue)
        role = deployed.settings.role(place.role)
        deployed.world.faults([Fault(effect, place.service, place.operation, role, place.nth)])
        prepared.deed()
        deployed.world.wait_for(
            lambda: deployed.world.fault_hits() > 0, 25.0, f"{effect} at {place.operation} of {place.story}"
        )
        deployed.world.faults([])
        assert waiting(deployed, queue) == before + 1, "the message is back before every death has been died"
    redelivered(deployed, *QUEUES.values())
    deployed.world.set_delay(0)
    resources = [prepared.resource for prepared in ready.values()]
    deployed.world.wait_for(
        lambda: all(case.state.ended for case in found(deployed, *resources)), 300.0, "what was redelivered"
    )
    calm(deployed)
    set_mode(deployed, Mode.OBSERVE, *CONTROLS)
    return ended(deployed, ready)


def ended(stage: Stage, ready: dict[Death, Prepared]) -> dict[Death, Ended]:
    """Everything that was prepared, as it is now. Exactly one case stands for each."""
    cases = {case.target.resource: case for case in stage.ledger.cases()}
    writes = [call for call in ours(stage) if call.status == 200 and call.role.endswith(("-act", "-undo"))]
    look: dict[str, Callable[[str], object]] = {
        BUCKET: stage.pab,
        KEY: lambda name: set(stage.key_status(name).values()),
        UNDO: stage.ingress,
    }
    return {
        death: Ended(
            case=(case := cases[prepared.resource]),
            bodies=chain(stage, case),
            made=[call for call in writes if call.session.startswith(f"redress-{case.id}-")],
            there=look[death[1].story](prepared.name),
        )
        for death, prepared in ready.items()
    }


INTENDED: dict[str, object] = {
    BUCKET: dict.fromkeys(BLOCKS, True),
    KEY: {"Inactive"},
    UNDO: {(443, WORLD), (SSH, WORLD)},
}


@at_every_call
def test_after_a_crash_the_resource_is_as_intended(died: dict[Death, Ended], death: Death) -> None:
    story = death[1].story
    assert died[death].there == INTENDED[story]
    assert died[death].case.state is (CaseState.EXEMPT if story == UNDO else CaseState.CLOSED)
    assert died[death].case.episode == 1


@at_every_call
def test_after_a_crash_each_record_stands_once_and_the_write_was_made_once(
    died: dict[Death, Ended], death: Death
) -> None:
    effect, place = death
    bodies = died[death].bodies
    # What CloudTrail told of our own calls later is left out, and that so many undos open a breaker once.
    beside = {"VERIFIED", "RECONCILED", "BREAKER_OPENED"}
    assert [kind for kind in kinds(bodies) if kind not in beside] == ENDS[place.story]
    assert halves(bodies) == set()
    last = next(body for body in reversed(bodies) if body["type"] in {"RESULT", "UNDO_RESULT"})
    assert last["data"]["outcome"] == "fixed"
    assert len(died[death].made) == 1
    lost = (place.role in {"act", "undo"} and effect == "kill_after") or (
        place.nth == 2 and effect == "kill_before"
    )
    assert last["data"]["observed_by"] == ("reassessment" if lost else "response")
