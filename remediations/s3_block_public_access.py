"""All four settings of the bucket's own public access block are on, so nobody is let in by being everybody.

It acts alone only where nothing that worked before can stop: on a bucket that an event of just now left open, if the
settings were all on when last assessed, if the event created the bucket, or if ACLs are disabled in it. A policy that
is public, a website, an ACL that admits everybody, and ACLs of objects, which no assessment can see, are asked about.

Declined, for a person to see to: a bucket that lies in another Region than the finding says, and settings that S3 does
not tell. The account's own block is another setting, which may cover the bucket; this one holds when that one goes.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.contract import (
    NOTHING_TO_DO,
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
    command_of,
)
from chalicelib.domain.errors import AwsError, TargetGoneError
from chalicelib.domain.finding import Model, Target
from chalicelib.domain.hcl import quoted
from chalicelib.domain.shape import items, mapping


class NoParams(Params):
    """All four settings belong together, so there is nothing to choose."""


class Exposure(Model):
    """What blocking may cut. Without ownership controls `ownership` is None, and ACLs count.

    `policy_public` is None when S3 does not say. `acl_public` is true when the bucket's own ACL counts and admits
    more than named accounts; the ACLs of its objects cannot be listed.
    """

    ownership: str | None
    policy_public: bool | None
    acl_public: bool
    website: bool

    @property
    def acls_count(self) -> bool:
        """True unless ACLs are disabled."""
        return self.ownership != _ENFORCED


class PublicAccess(State):
    """Where the bucket is, and its public access block: None when there is none, which is not the same as all off.

    A setting that S3 does not tell is left out of `block`. `exposure` is read only while something is off.
    """

    region: str
    block: dict[str, bool] | None
    exposure: Exposure | None = None

    @property
    def compliant(self) -> bool:
        """True when S3 said of all four settings that they are on."""
        return _is_whole(self.block)

    def content(self) -> dict[str, JsonValue]:
        """The block alone: the rest is what it rests on, not what an undo brings back."""
        return {"block": None if self.block is None else {**self.block}}


def assess(target: Target, params: NoParams, aws: Reader) -> PublicAccess:
    location = mapping(_told(target, aws, "GetBucketLocation")).get("LocationConstraint")
    region = _REGIONS_OF_OLD.get(location) or str(location)
    state = PublicAccess(region=region, block=_block(target, aws))
    if state.compliant or region != target.region:
        return state
    return state.model_copy(update={"exposure": _exposure(target, aws)})


def plan(target: Target, params: NoParams, state: PublicAccess, cause: Cause, as_of: datetime) -> Plan:
    if state.compliant:
        return NOTHING_TO_DO
    refusal = _refusal(target, state)
    if refusal:
        return Plan(declined=(refusal,))

    doubts = tuple(_doubts(state, cause))
    return Plan(
        calls=(
            _put(
                target,
                _ALL_ON,
                " ".join(("Block all public access to the bucket.", *doubts)),
                ask=bool(doubts),
            ),
        ),
        depends_on=state.model_dump(mode="json"),
    )


def undo(target: Target, run: RunRecord[PublicAccess], now: PublicAccess) -> Plan:
    before = run.before.block
    if not run.plan.calls or now.block == before:
        return NOTHING_TO_DO
    refusal = _refusal(target, now)
    if refusal:
        return Plan(declined=(refusal,))
    if not (run.after.compliant and now.compliant):
        return Plan(
            declined=(
                Declined(
                    what="the bucket's public access block",
                    why="it is neither as the run left it nor as it was before, so somebody else has changed it",
                ),
            )
        )
    why = "Put the bucket's public access block back as it was before the run"
    call = (
        Call(
            service="s3",
            operation="DeletePublicAccessBlock",
            params=_named(target),
            why=f"{why}: there was none.",
            at_most=Mode.ASK,
        )
        if before is None
        else _put(target, {**before}, f"{why}.", ask=True)
    )
    return Plan(calls=(call,), depends_on=now.content())


# -- where else, whose, and by hand -----------------------------------------------------------------------------------


def survey(place: Target, params: NoParams, aws: Reader) -> tuple[Target, ...]:
    """The Region's buckets whose own block is not whole, or cannot be read.

    S3 has no read that tells of many blocks at once: this is one read for each bucket, after the list.
    """
    buckets = aws.pages("s3", "ListBuckets", "Buckets", BucketRegion=place.region, MaxBuckets=_PAGE)
    found = (
        Target(account=place.account, region=place.region, type="AWS::S3::Bucket", id=bucket["Name"])
        for bucket in buckets
    )
    return tuple(target for target in found if not _seen_whole(target, aws))


def tags(target: Target, aws: Reader) -> Mapping[str, str]:
    told = mapping(_told(target, aws, "GetBucketTagging", absent="NoSuchTagSet"))
    return {tag["Key"]: tag.get("Value", "") for tag in items(told.get("TagSet"))}


def by_hand(target: Target, state: PublicAccess) -> tuple[Step, ...]:
    there = target.model_copy(update={"region": state.region})
    look = Call(service="s3", operation="GetPublicAccessBlock", params=_named(target), why="To see it.")
    page = f"S3 > General purpose buckets > {target.id} ({state.region}) > Permissions"
    return (
        Step(
            console=f"{page}: read Block public access, Bucket policy, Object Ownership and Access control list, and"
            " find out who comes in as everybody. Give them another way in first: CloudFront with origin access"
            " control, presigned URLs, or a policy that names accounts.",
            command=command_of(look, there),
        ),
        Step(
            console=f"{page} > Block public access (bucket settings) > Edit: tick Block all public access, Save changes.",
            command=command_of(_put(target, _ALL_ON, "By hand.", ask=True), there),
        ),
    )


def as_code(target: Target, state: PublicAccess) -> str:
    return f"""resource "aws_s3_bucket_public_access_block" "this" {{
  bucket                  = {quoted(target.id)}
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}}
"""


# -- what speaks against it -------------------------------------------------------------------------------------------

_ENFORCED = "BucketOwnerEnforced"
_RECREATES = "us-east-1"
"""Where creating a bucket succeeds though the account has it already, so that the event proves no creation."""


def _doubts(state: PublicAccess, cause: Cause) -> Iterator[str]:
    """Why a person has to agree, one sentence each. What was blocked until an event of just now may be blocked again."""
    created = "created" in cause.opened and state.region != _RECREATES
    loosened = "loosened" in cause.opened
    last = cause.last_state
    if loosened and last is not None and _is_whole(last.get("block")):
        return
    if not (created or loosened):
        yield "No event of just now is known to have opened it."
    elif last is not None and not _is_whole(last.get("block")):
        yield "It was not blocked when last assessed, so the event opened nothing."
    if state.exposure is None:
        yield "What blocking may cut is not known."
    else:
        yield from _cuts(state.exposure, created=created)


def _cuts(exposure: Exposure, *, created: bool) -> Iterator[str]:
    if exposure.policy_public is None:
        yield "S3 does not say whether the bucket's policy is public."
    elif exposure.policy_public:
        yield "Its policy is public: whoever comes in by it, other accounts too, is cut off."
    if exposure.website:
        yield "It is set up as a website."
    if exposure.acl_public:
        yield "Its ACL admits everybody, who is cut off."
    if exposure.acls_count and not created:
        yield "ACLs count in it: objects that are public by their own ACL cannot be seen, and are cut off."


def _refusal(target: Target, state: PublicAccess) -> Declined | None:
    if state.region != target.region:
        return Declined(
            what="the bucket",
            why=f"it lies in {state.region} and not in {target.region}; it is looked at there, by event or by sweep",
        )
    if state.block is not None and len(state.block) < len(_ALL_ON):
        return Declined(
            what="the bucket's public access block",
            why="S3 does not tell all four settings, and what is not read is not overwritten; look at it in the console",
        )
    return None


# -- reading and writing ----------------------------------------------------------------------------------------------

_PAGE = 1000
_ALL_ON: Mapping[str, bool] = MappingProxyType(
    dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
)
_REGIONS_OF_OLD: Mapping[object, str] = MappingProxyType({None: "us-east-1", "EU": "eu-west-1"})
"""What GetBucketLocation answers for the two oldest Regions."""

_BY_NAME = frozenset({"CanonicalUser", "AmazonCustomerByEmail"})
_LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
"""The one group in an ACL that admits a service and no strangers."""


def _is_whole(block: JsonValue | Mapping[str, bool]) -> bool:
    return block == _ALL_ON


def _named(target: Target) -> dict[str, JsonValue]:
    """The bucket, and whose it must be: a name that another account has taken since is refused by S3."""
    return {"Bucket": target.id, "ExpectedBucketOwner": target.account}


def _put(target: Target, block: Mapping[str, bool], why: str, *, ask: bool) -> Call:
    return Call(
        service="s3",
        operation="PutPublicAccessBlock",
        params={**_named(target), "PublicAccessBlockConfiguration": {**block}},
        why=why,
        at_most=Mode.ASK if ask else Mode.ACT,
    )


def _told(target: Target, aws: Reader, operation: str, absent: str = "") -> dict[str, Any] | None:
    """What S3 says of the bucket; None for the error code that means there is nothing of the kind."""
    try:
        return aws.read("s3", operation, **_named(target))
    except AwsError as error:
        if error.code == "NoSuchBucket":
            raise TargetGoneError(f"the bucket {target.id} no longer exists") from error
        if not absent or error.code != absent:
            raise
        return None


def _block(target: Target, aws: Reader) -> dict[str, bool] | None:
    told = _told(target, aws, "GetPublicAccessBlock", absent="NoSuchPublicAccessBlockConfiguration")
    if told is None:
        return None
    said = mapping(told.get("PublicAccessBlockConfiguration"))
    return {name: said[name] for name in _ALL_ON if isinstance(said.get(name), bool)}


def _seen_whole(target: Target, aws: Reader) -> bool:
    """True when the block was read and is whole; whatever stands in the way is looked at when the bucket is assessed."""
    try:
        return _is_whole(_block(target, aws))
    except (AwsError, TargetGoneError):
        return False


def _exposure(target: Target, aws: Reader) -> Exposure:
    controls = mapping(
        _told(target, aws, "GetBucketOwnershipControls", absent="OwnershipControlsNotFoundError")
    )
    rules = items(mapping(controls.get("OwnershipControls")).get("Rules"))
    ownership = next((rule.get("ObjectOwnership") for rule in rules), None)
    status = _told(target, aws, "GetBucketPolicyStatus", absent="NoSuchBucketPolicy")
    public = False if status is None else mapping(status.get("PolicyStatus")).get("IsPublic")
    website = _told(target, aws, "GetBucketWebsite", absent="NoSuchWebsiteConfiguration")
    return Exposure(
        ownership=ownership,
        policy_public=public,
        acl_public=ownership != _ENFORCED and _admits_a_public(mapping(_told(target, aws, "GetBucketAcl"))),
        website=website is not None,
    )


def _admits_a_public(acl: Mapping[str, Any]) -> bool:
    """True when the ACL admits more than accounts by name and S3's own log delivery."""
    grantees = [mapping(grant.get("Grantee")) for grant in items(acl.get("Grants"))]
    return any(one.get("Type") not in _BY_NAME and one.get("URI") != _LOG_DELIVERY for one in grantees)


# -- the remediation --------------------------------------------------------------------------------------------------

_BUCKET = "arn:{partition}:s3:::{id}"
_WRITES = (Permission("s3:PutBucketPublicAccessBlock", _BUCKET),)

REMEDIATION = Remediation(
    id="s3_block_public_access",
    controls=("s3-bucket-public-access-block",),
    summary="Turns on all four settings of a bucket's public access block, or puts them back on.",
    risk=Risk.MEDIUM,
    reads=(
        Permission("s3:GetBucketAcl", _BUCKET),
        Permission("s3:GetBucketLocation", _BUCKET),
        Permission("s3:GetBucketOwnershipControls", _BUCKET),
        Permission("s3:GetBucketPolicyStatus", _BUCKET),
        Permission("s3:GetBucketPublicAccessBlock", _BUCKET),
        Permission("s3:GetBucketTagging", _BUCKET),
        Permission("s3:GetBucketWebsite", _BUCKET),
        Permission("s3:ListAllMyBuckets"),
    ),
    writes=_WRITES,
    undo_writes=_WRITES,
    params=NoParams,
    state=PublicAccess,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=survey,
    by_hand=by_hand,
    as_code=as_code,
    tags=tags,
    settle_seconds=5,
)
