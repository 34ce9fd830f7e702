"""The fewest AWS calls with which each walk could keep its promises, derived; and how many one really made.

A promise that costs a call names it, so that whoever wants fewer calls sees which promise they would give up.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bench.figures import Row
from remediations import discover

COMPLIANT_BUCKETS = 11
"""In the sweeps that are counted: ten, and the one that the deployment was made from."""

REGIONS = 17
"""Those that the emulated AWS has switched on, as many as a new account has."""

PARTS_OF_A_SWEEP = 1 + sum(1 if one.everywhere == "account" else REGIONS for one in discover())
"""The open cases, and every remediation in every Region, or once for the account."""

WRITES = frozenset({"PutItem", "TransactWriteItems"})


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
    """One kind of walk by event: what deciding must read, what is written, what verifying must read again."""

    name: str
    control: str
    acts: bool
    reads: tuple[str, ...]
    """What deciding needs to know, one operation each."""

    writes: tuple[str, ...]
    verifies: tuple[str, ...]
    because: str
    """Why deciding takes these reads and no fewer."""

    tells: tuple[str, ...] = ()
    """What naming the resource's owner takes, who is told: where it has tags, and its case names nobody yet."""


@dataclass(frozen=True)
class Fewest:
    """The fewest calls to one service, and their derivation; `more` are made all the same, for a reason that is said."""

    service: str
    calls: int
    because: str
    more: int = 0
    for_the_sake_of: str = ""

    @property
    def budget(self) -> int:
        """What may be made, and has to be: fewer would prove the derivation wrong."""
        return self.calls + self.more

    @property
    def derivation(self) -> str:
        """Both reasons in one line."""
        return (
            f"{self.because}; {self.more} more than the fewest: {self.for_the_sake_of}"
            if self.more
            else self.because
        )


@dataclass(frozen=True)
class Step:
    """One step of a way that is no walk by event, by the name under which `bench.ways` counts it."""

    name: str
    fewest: tuple[Fewest, ...]


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
        tells=("DescribeSecurityGroups",),
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
    calls = len(walk.reads) + len(walk.tells) + len(walk.writes) + len(walk.verifies)
    parts = [f"{len(walk.reads)} to decide ({walk.because})"]
    if walk.tells:
        parts.append(f"{len(walk.tells)} for the owner's tags, who is told: no read of the rules has them")
    if walk.acts:
        parts.append(f"{len(walk.writes)} planned")
        parts.append(f"{len(walk.verifies)} to verify: an answer without an error proves no state")
    return Fewest("ec2", calls, " + ".join(parts))


def _dynamodb(walk: Walk) -> Fewest:
    return _acting(len(walk.writes)) if walk.acts else _OBSERVING


_OBSERVING = Fewest(
    "dynamodb",
    2,
    "1 to read mode, exemptions, switches, case and whether the event was seen, all in one"
    " + 1 transaction that records the decision: it needs what was read of the resource in between",
)


def _acting(writes: int) -> Fewest:
    return Fewest(
        "dynamodb",
        3 + writes,
        "1 to read the gate + 1 transaction with the INTENT, durable before the first write"
        f" + {writes} to read the kill switch again before each write"
        " + 1 transaction with the RESULT, which only verifying can fill in",
    )


def _sts(walk: Walk) -> Fewest:
    return _ONE_SESSION if walk.acts else Fewest("sts", 0, "the reading session is kept for an hour")


_ONE_SESSION = Fewest(
    "sts", 1, "1 session that can do no more than this plan, hence made for it and not kept"
)

# ---------------------------------------------------------------------------------------------- every other way

_LOCATION = "the bucket's Region is read, though S3 itself refuses a call to another Region"
_CUT = "what blocking may cut is three questions (ownership, policy, website); an ACL counts only where they are enabled"
_WITH_CASE = "the answers could be read with the case, since the message names both, and so could the policy"
_PART = "1 to read whether the sweep is still this one + 1 transaction with the part's report"
_GATE = "1 to read the gate"
_TWICE = "parts do not know of one another, so what still fails is looked at twice in a sweep"
_ANSWER = Fewest(
    "dynamodb",
    3,
    "1 to read the case, which names its ask + 1 to read the answers to that ask"
    " + 1 transaction with the answer, its record and the errand, if the ask is still open",
    1,
    "the policy, which says whose answer counts, could be read with the answers",
)

STEPS = (
    Step(
        "act",
        (
            Fewest(
                "s3",
                7,
                f"4 to decide (the block; {_CUT}) + 1 for the owner's tags, who is told + 1 planned + 1 to verify",
                2,
                f"{_LOCATION}, twice",
            ),
            _acting(1),
            _ONE_SESSION,
        ),
    ),
    Step(
        "asked",
        (
            Fewest(
                "s3",
                5,
                f"4 to decide (the block; {_CUT}) + 1 for the owner's tags, who is told",
                1,
                _LOCATION,
            ),
            Fewest(
                "dynamodb",
                _OBSERVING.calls,
                _OBSERVING.because,
                1,
                "the policy, which says how long an ask stands, is read where somebody is asked and on no other walk",
            ),
        ),
    ),
    Step("asked: answered", (_ANSWER,)),
    Step(
        "asked: carried out",
        (
            Fewest(
                "s3",
                6,
                f"4 to plan anew (the block; {_CUT}) + 1 approved + 1 to verify",
                2,
                f"{_LOCATION}, twice",
            ),
            Fewest(
                "dynamodb",
                5,
                "1 to read case and answers, which say whom the gate is about + 1 to read the gate + 1 INTENT"
                " + 1 to read the kill switch before the write + 1 RESULT",
                2,
                _WITH_CASE,
            ),
            _ONE_SESSION,
        ),
    ),
    Step(
        "undo: wanted",
        (
            Fewest(
                "dynamodb",
                3,
                "1 to read the case, which says whose account's chain it is + 1 to read the end of that chain"
                " + 1 transaction with the request's record and the errand",
            ),
        ),
    ),
    Step(
        "undo: planned",
        (
            Fewest("s3", 1, "1 to see whether the block is as the run left it", 1, _LOCATION),
            Fewest(
                "dynamodb",
                4,
                "1 to read the case, which says where its lock lies + 1 to read the gate + 1 to read the chain, which"
                " alone says what the run changed + 1 transaction with the ask",
                1,
                "the policy says how long the ask stands, and whether anybody may approve it",
            ),
        ),
    ),
    Step("undo: answered", (_ANSWER,)),
    Step(
        "undo: handed on",
        (
            Fewest("dynamodb", 1, "1 to read case and answers", 2, _WITH_CASE),
            Fewest("sqs", 1, "1 message to the function that may undo, which nobody else may send"),
        ),
    ),
    Step(
        "undo: carried out",
        (
            Fewest(
                "s3",
                3,
                "1 to plan anew + 1 approved + 1 to verify",
                5,
                f"{_LOCATION}, twice, and assessing a block that is off again reads what blocking may cut (3)",
            ),
            Fewest(
                "dynamodb",
                6,
                "1 to read case and answers + 1 to read the gate + 1 to read the chain + 1 INTENT with the exemption"
                " + 1 to read the kill switch before the write + 1 RESULT",
                3,
                f"{_WITH_CASE}; the breakers, against which an undo counts, are read anew with the result",
            ),
            _ONE_SESSION,
        ),
    ),
    Step(
        "ticket",
        (Fewest("iam", 1, "1 summary of the account tells whether root has a key"), _OBSERVING),
    ),
    Step(
        "found: iam_deactivate_access_key/global",
        (
            Fewest(
                "iam",
                7,
                "2 to have the report made and to get it + 3 of the one user (path and tags, keys, last use)"
                " + 1 planned + 1 to verify",
                6,
                "assessing is told nothing of the survey or the run, so the report is made and got again before and after"
                " the write (4), and the user read again (1); once more for the tags that name the owner (1)",
            ),
            Fewest("dynamodb", 6, f"{_PART} + {_acting(1).because}"),
            _ONE_SESSION,
        ),
    ),
    # -- a sweep of resources that are all compliant --
    Step(
        "compliant: begin",
        (
            Fewest("ec2", 1, "1 to read which Regions are switched on"),
            Fewest(
                "dynamodb",
                2,
                "1 to read the last sweep and the baselines + 1 transaction that begins this one",
            ),
            Fewest(
                "sqs",
                -(-PARTS_OF_A_SWEEP // 10),
                f"{PARTS_OF_A_SWEEP} parts, and SQS takes ten messages at once",
                PARTS_OF_A_SWEEP - -(-PARTS_OF_A_SWEEP // 10),
                "each is sent by itself",
            ),
        ),
    ),
    Step(
        "compliant: ec2_revoke_open_ingress",
        (Fewest("ec2", 1, "1 for every thousand rules, none for a group"), Fewest("dynamodb", 2, _PART)),
    ),
    Step(
        "compliant: ec2_enable_ebs_encryption_by_default",
        (
            Fewest("ec2", 1, "1 setting in a Region"),
            Fewest("dynamodb", 3, f"{_PART} + {_GATE}, which has the open case"),
        ),
    ),
    Step(
        "compliant: s3_block_public_access",
        (
            Fewest(
                "s3",
                1 + COMPLIANT_BUCKETS,
                f"1 list + 1 for each of {COMPLIANT_BUCKETS} buckets: S3 has no read that tells of many blocks",
            ),
            Fewest("dynamodb", 2, _PART),
        ),
    ),
    Step(
        "compliant: iam_deactivate_access_key/global",
        (
            Fewest("iam", 2, "2 to have the report made and to get it, none for a user"),
            Fewest("dynamodb", 2, _PART),
        ),
    ),
    Step(
        "compliant: iam_remove_root_access_key/global",
        (
            Fewest("iam", 1, "1 summary of the account"),
            Fewest("dynamodb", 3, f"{_PART} + {_GATE}, which has the open case"),
        ),
    ),
    Step(
        "compliant: open-cases",
        (
            Fewest(
                "dynamodb",
                7,
                f"{_PART} + 5 to read the index, one for each state in which a case may be open",
            ),
        ),
    ),
    # -- a sweep that finds what the one before it found --
    Step(
        "known: ec2_revoke_open_ingress",
        (
            Fewest(
                "ec2",
                1,
                "1 for every thousand rules",
                1,
                "assessing is told nothing of the survey: 1 for the open group",
            ),
            Fewest("dynamodb", 3, f"{_PART} + {_GATE} of the open group"),
        ),
    ),
    Step(
        "known: s3_block_public_access",
        (
            Fewest(
                "s3",
                1 + COMPLIANT_BUCKETS + 3,
                f"1 list + 1 for each of {COMPLIANT_BUCKETS} buckets + 3 for the open one: {_CUT}",
                2,
                "of the open one assessing reads the Region and the block again",
            ),
            Fewest(
                "dynamodb",
                5,
                f"{_PART} + {_GATE} of the open bucket and of two that are exempt since an undo",
            ),
        ),
    ),
    Step(
        "known: iam_remove_root_access_key/global",
        (Fewest("iam", 1, "1 summary of the account"), Fewest("dynamodb", 3, f"{_PART} + {_GATE}")),
    ),
    Step(
        "known: open-cases",
        (
            Fewest("ec2", 0, "its own part looks at the group", 1, _TWICE),
            Fewest("s3", 0, "its own part looks at the bucket", 5, _TWICE),
            Fewest("iam", 0, "its own part looks at the summary", 1, _TWICE),
            Fewest(
                "dynamodb",
                10,
                f"{_PART} + 5 to read the index + 3 to read the cases of three states",
                3,
                f"{_GATE} of each case; {_TWICE}",
            ),
        ),
    ),
)
"""By the names under which they are counted."""


def wrote(calls: Iterable[Seen]) -> int:
    """How often our tables were written."""
    return sum(call.service == "dynamodb" and call.operation in WRITES for call in calls)


def made(calls: Iterable[Seen], roles: Collection[str]) -> Counter[str]:
    """How many calls our roles made, by service."""
    return Counter(call.service for call in calls if call.role in roles)


def rows(name: str, derived: tuple[Fewest, ...], counted: Counter[str]) -> list[Row]:
    """Made against the fewest possible; any service beside the derived ones is expected not to be called at all."""
    rows = [
        Row(
            part="calls",
            measure=f"{name}: calls of {one.service}",
            value=counted[one.service],
            unit="calls",
            target=one.budget,
            rule="exactly",
            note=_note(counted[one.service], one),
        )
        for one in derived
    ]
    known = {one.service for one in derived}
    others = {service: count for service, count in counted.items() if service not in known}
    named = ", ".join(f"{service} {count}" for service, count in sorted(others.items()))
    rows.append(
        Row(
            part="calls",
            measure=f"{name}: calls of anything else",
            value=sum(others.values()),
            unit="calls",
            target=0,
            rule="exactly",
            note=named or "no promise needs another service",
        )
    )
    return rows


def row_of_writes(sweep: Iterable[Seen]) -> Row:
    """How often a sweep that finds nothing new writes our tables: to begin, and at the end of each part."""
    return Row(
        part="calls",
        measure="a sweep that finds nothing new: writes of our tables",
        value=wrote(sweep),
        unit="calls",
        target=1 + PARTS_OF_A_SWEEP,
        rule="exactly",
        note=f"1 to begin + 1 report of each of {PARTS_OF_A_SWEEP} parts, the last of which ends it; no case, no record",
    )


def _note(counted: int, one: Fewest) -> str:
    if counted < one.budget:
        return f"fewer than was thought possible, so this derivation is wrong: {one.derivation}"
    return one.derivation


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
