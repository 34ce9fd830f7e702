"""What we were told, normalised: who did what to which resource, and which control it may break.

A finding is a claim. It starts an assessment and never proves anything by itself (ARCHITECTURE §1, sentence 13).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Model(BaseModel):
    """Our own data: immutable, strictly typed, and unknown keys are an error.

    Validators are built when first used (`defer_build`): no function of ours uses all models, and a cold start pays for
    each that is built.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


GLOBAL = "global"
"""The Region of what has none (IAM): written in place of a Region name. Other partitions have their own (`global_in`)."""

AccountId = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
RegionName = Annotated[
    str, StringConstraints(pattern=r"^(([a-z]{2,4}(-[a-z]+)+-)?global|[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2})$")
]

ARN_FORMS = MappingProxyType(
    {
        "AWS::::Account": "AWS::::Account:{account}",
        "AWS::EC2::SecurityGroup": "arn:{partition}:ec2:{region}:{account}:security-group/{id}",
        "AWS::IAM::User": "arn:{partition}:iam::{account}:user/{id}",
        "AWS::S3::Bucket": "arn:{partition}:s3:::{id}",
    }
)
"""How a resource of a type is written: its ARN, or Security Hub's form for an account, which has none."""

ID_FORMS = MappingProxyType(
    {
        "AWS::::Account": r"[0-9]{12}",
        "AWS::EC2::SecurityGroup": r"sg-[0-9a-z]{1,64}",
        "AWS::IAM::User": r"([A-Za-z0-9_+=,.@-]{1,64}/){0,8}[A-Za-z0-9_+=,.@-]{1,64}",
        "AWS::S3::Bucket": r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}",
    }
)
"""What an id of a type looks like, whole. A wildcard or a policy variable would mean other resources too.

A user's id is its path and name as its ARN has them (`division/alice`): the name alone would be another user's ARN.
A bucket made in us-east-1 before 2018 may have capitals and underscores in its name, and up to 255 characters.
"""

_PARTITION_OF_PREFIX = MappingProxyType(
    {
        "cn": "aws-cn",
        "us-gov": "aws-us-gov",
        "us-iso": "aws-iso",
        "us-isob": "aws-iso-b",
        "eu-isoe": "aws-iso-e",
    }
)


def partition_of(region: str) -> str:
    """The AWS partition that a Region belongs to, by its name's prefix; `aws` for all commercial Regions."""
    if region.endswith(f"-{GLOBAL}"):
        return region.removesuffix(f"-{GLOBAL}")
    head = region.rsplit("-", 2)[0]
    return _PARTITION_OF_PREFIX.get(head, "aws")


def global_in(partition: str) -> str:
    """What stands in place of a Region's name for a resource of that partition that has none."""
    return GLOBAL if partition == "aws" else f"{partition}-{GLOBAL}"


def is_global(region: str) -> bool:
    """True for what stands in place of a Region's name, in any partition."""
    return region == GLOBAL or region.endswith(f"-{GLOBAL}")


def is_id_of(kind: str, text: object) -> bool:
    """True when `text` has the form of an id of the resource type `kind`, and can mean no other resource."""
    return isinstance(text, str) and kind in ID_FORMS and re.fullmatch(ID_FORMS[kind], text) is not None


def digest(*parts: str) -> str:
    """A short, stable name of `parts`: 100 bits of SHA-256 in base 32, 20 characters, safe in a session name."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    number = int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:13], "big") >> 4
    return "".join(alphabet[(number >> (5 * place)) & 31] for place in range(20))


class Severity(StrEnum):
    """How bad the finding is, not how risky our acting would be."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return list(Severity).index(self)


def worst(found: Iterable[Severity]) -> Severity:
    """The worst of them; of none it is critical, so that whoever should hear of it does."""
    return max(found, key=lambda one: one.rank, default=Severity.CRITICAL)


def severity_of(controls: Iterable[str], known: Mapping[str, Severity]) -> Severity:
    """The worst severity of these controls, by what is `known` of them.

    One that the catalog does not have (any more) counts as critical: whoever should hear of it does.
    """
    return worst(known.get(one, Severity.CRITICAL) for one in controls)


class Target(Model):
    """The one resource acted upon. `resource` is its ARN, or `AWS::::Account:<id>` for an account's own setting.

    Its id has the form that ids of its type have, so that no ARN made of it is wider than one resource.
    """

    account: AccountId
    region: RegionName
    type: str
    id: str = Field(min_length=1, max_length=512)

    @model_validator(mode="after")
    def _known_type_and_form(self) -> Self:
        if self.type not in ARN_FORMS:
            message = f"no ARN form is known for {self.type}"
            raise ValueError(message)
        if not is_id_of(self.type, self.id):
            message = f"{self.id!r} is no id of {self.type}"
            raise ValueError(message)
        return self

    @property
    def partition(self) -> str:
        """The partition of the target's Region."""
        return partition_of(self.region)

    @property
    def resource(self) -> str:
        """The name by which people and Security Hub know the target."""
        return ARN_FORMS[self.type].format(
            partition=self.partition, region=self.region, account=self.account, id=self.id
        )

    @property
    def name(self) -> str:
        """The last part of the id: what a user, a bucket or a group is called where its path does not matter."""
        return self.id.rpartition("/")[2]

    @property
    def whole_account(self) -> bool:
        """True for a setting of an account, in one Region or all: whatever is in the account has part in it."""
        return self.type == "AWS::::Account"

    @property
    def key(self) -> str:
        """A stable digest of account, Region and resource: what a lock is taken on."""
        return digest(self.account, self.region, self.type, self.id)


class Actor(Model):
    """Who caused it, as CloudTrail tells it: `type` is userIdentity's, `arn` may be unknown.

    `role_arn` is the role behind a session; `session` its name, which is untrusted text. `source_identity` is the person
    behind the role, where whoever let them take it on demanded to know (sts:SourceIdentity).
    """

    type: str
    arn: str | None = None
    role_arn: str | None = None
    session: str | None = None
    source_identity: str | None = None

    @property
    def key(self) -> str:
        """What an actor's limits are counted under: the role where there is one, since session names are free."""
        return self.role_arn or self.arn or f"unknown:{self.type}"


def target_of(kind: str, resource: str, account: str, region: str) -> Target | None:
    """The target that a resource's own name means, or None when it means none in that account and Region.

    The name is an ARN, `AWS::::Account:<id>`, or a bare id, as services write them. An ARN of another partition, Region,
    account or type means nothing here.
    """
    if kind not in ARN_FORMS:
        return None
    blank = {"partition": partition_of(region), "region": region, "account": account}
    before, _, after = ARN_FORMS[kind].partition("{id}")
    form = before.format(**blank)
    if not after and before == ARN_FORMS[kind]:  # an account's name is all form and no id
        named = account if resource in {form, account} else ""
    else:
        named = resource.removeprefix(form)
    if not is_id_of(kind, named):
        return None
    return Target(account=account, region=region, type=kind, id=named)


class Origin(StrEnum):
    """Why the engine looks. Only an event tells of a change; everything else is somebody's word about a state."""

    EVENT = "event"
    CLAIM = "claim"
    REQUEST = "request"
    SWEEP = "sweep"
    WAKE = "wake"


class Signal(Model):
    """One thing that we were told, after intake: readable, redacted, with nothing decided about it yet.

    An event of CloudTrail is one signal; an event of Security Hub is one signal for each finding in it, whose `detail`
    is that finding, and whose account, Region and time are the finding's own.
    """

    event_id: str
    source: str
    detail_type: str
    name: str
    account: AccountId
    region: RegionName
    at: datetime
    actor: Actor
    request_id: str | None
    sha256: str
    detail: dict[str, object]
    origin: Origin = Origin.EVENT
    user_agent: str | None = None


class NotOurs(Model):
    """An event that asks nothing of us, and why."""

    event_id: str
    reason: str
    account: str = "unknown"
    region: str = "unknown"
    name: str = "unknown"
    sha256: str = ""


class Finding(Model):
    """A claim that `target` breaks `control`, made by the event `event_id` at `at`.

    `opened` names the sub-resources that the event itself created or loosened (rule ids); empty when the event does
    not say, and then nothing may be repaired without a person.
    """

    control: str
    target: Target
    actor: Actor
    event_id: str
    at: datetime
    opened: tuple[str, ...] = ()


def is_account_id(text: object) -> bool:
    """True for twelve digits, and nothing else."""
    return isinstance(text, str) and re.fullmatch(r"[0-9]{12}", text) is not None


def is_region(text: object) -> bool:
    """True for a name in the form of an AWS Region."""
    return isinstance(text, str) and re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", text) is not None
