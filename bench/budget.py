"""The fewest AWS calls with which each walk could keep its promises, derived; and how many one really made.

A promise that costs a call names it, so that whoever wants fewer calls sees which promise they would give up.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bench.figures import Row

SERVICES = ("ec2", "dynamodb", "sts")


class Seen(Protocol):
    """What is needed to know of a call that reached the emulated AWS."""

    @property
    def service(self) -> str:
        """Botocore's name of the service."""
        ...

    @property
    def operation(self) -> str:
        """Botocore's name of the operation."""
        ...

    @property
    def role(self) -> str:
        """The role that made it; empty for a user or root."""
        ...

    @property
    def time(self) -> str:
        """When it arrived, in ISO form."""
        ...


@dataclass(frozen=True)
class Walk:
    """One kind of walk: what deciding must read, what is written, what verifying must read again."""

    name: str
    control: str
    acts: bool
    reads: tuple[str, ...]
    """What deciding needs to know, one EC2 operation each."""

    writes: tuple[str, ...]
    verifies: tuple[str, ...]
    because: str
    """Why deciding takes these reads and no fewer."""


@dataclass(frozen=True)
class Fewest:
    """The fewest calls to one service, and their derivation."""

    service: str
    calls: int
    because: str


_GROUP = "one answer holds every rule of the group with its id"
_ACCOUNT = (
    "whether it is on, under which key, and whether an image or a snapshot is shared are four questions to four"
    " operations (one more for each own image and snapshot, of which this account has none)"
)
_EBS = ("GetEbsEncryptionByDefault", "GetEbsDefaultKmsKeyId", "DescribeImages", "DescribeSnapshots")

WALKS = (
    Walk(
        name="open SSH, observed",
        control="ec2-open-ssh",
        acts=False,
        reads=("DescribeSecurityGroupRules",),
        writes=(),
        verifies=(),
        because=_GROUP,
    ),
    Walk(
        name="EBS encryption off, observed",
        control="ebs-default-encryption",
        acts=False,
        reads=_EBS,
        writes=(),
        verifies=(),
        because=_ACCOUNT,
    ),
    Walk(
        name="open SSH, repaired",
        control="ec2-open-ssh",
        acts=True,
        reads=("DescribeSecurityGroupRules",),
        writes=("RevokeSecurityGroupIngress",),
        verifies=("DescribeSecurityGroupRules",),
        because=_GROUP,
    ),
    Walk(
        name="EBS encryption off, repaired",
        control="ebs-default-encryption",
        acts=True,
        reads=_EBS,
        writes=("EnableEbsEncryptionByDefault",),
        verifies=("GetEbsEncryptionByDefault",),
        because=_ACCOUNT,
    ),
)


def fewest(walk: Walk) -> tuple[Fewest, ...]:
    """The fewest calls of a warm walk, service by service."""
    return (_ec2(walk), _dynamodb(walk), _sts(walk))


def _ec2(walk: Walk) -> Fewest:
    calls = len(walk.reads) + len(walk.writes) + len(walk.verifies)
    parts = [f"{len(walk.reads)} to decide ({walk.because})"]
    if walk.acts:
        parts.append(f"{len(walk.writes)} planned")
        parts.append(f"{len(walk.verifies)} to verify: an answer without an error proves no state")
    return Fewest("ec2", calls, " + ".join(parts))


def _dynamodb(walk: Walk) -> Fewest:
    if not walk.acts:
        return Fewest(
            "dynamodb",
            2,
            "1 to read mode, exemptions, switches, case and whether the event was seen, all in one"
            " + 1 transaction that records the decision: it needs what was read from EC2 in between",
        )
    writes = len(walk.writes)
    return Fewest(
        "dynamodb",
        3 + writes,
        "1 to read the gate + 1 transaction with the INTENT, durable before the first write"
        f" + {writes} to read the kill switch again before each write"
        " + 1 transaction with the RESULT, which only verifying can fill in",
    )


def _sts(walk: Walk) -> Fewest:
    if not walk.acts:
        return Fewest("sts", 0, "the reading session is kept for an hour")
    return Fewest("sts", 1, "1 session that can do no more than this plan, hence made for it and not kept")


def made(calls: Iterable[Seen], roles: Collection[str]) -> Counter[str]:
    """How many calls our roles made, by service."""
    return Counter(call.service for call in calls if call.role in roles)


def rows(walk: Walk, counted: Counter[str]) -> list[Row]:
    """Made against the fewest possible; any service beside the three is expected not to be called at all."""
    rows = [
        Row(
            part="calls",
            measure=f"{walk.name}: calls of {one.service}",
            value=counted[one.service],
            unit="calls",
            target=one.calls,
            rule="exactly",
            note=_note(counted[one.service], one),
        )
        for one in fewest(walk)
    ]
    others = {service: count for service, count in counted.items() if service not in SERVICES}
    named = ", ".join(f"{service} {count}" for service, count in sorted(others.items()))
    rows.append(
        Row(
            part="calls",
            measure=f"{walk.name}: calls of anything else",
            value=sum(others.values()),
            unit="calls",
            target=0,
            rule="exactly",
            note=named or "no promise needs another service",
        )
    )
    return rows


def _note(counted: int, one: Fewest) -> str:
    if counted < one.calls:
        return f"fewer than was thought possible, so this derivation is wrong: {one.because}"
    return one.because


def closed_after(calls: Iterable[Seen], opened: str, closed: str, reader: str) -> float | None:
    """Seconds from the arrival of `opened` to that of the first read by `reader` after `closed`; None if it never came.

    The read is the verifying one: when it arrives, the answer to `closed` has been given.
    """
    began: datetime | None = None
    was_closed = False
    for call in calls:
        if call.operation == opened and began is None:
            began = datetime.fromisoformat(call.time)
        elif call.operation == closed and began is not None:
            was_closed = True
        elif was_closed and began is not None and call.role == reader:
            return (datetime.fromisoformat(call.time) - began).total_seconds()
    return None
