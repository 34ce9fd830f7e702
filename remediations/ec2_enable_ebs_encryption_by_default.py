"""EBS encryption by default is on for the account in this Region, so every new volume and snapshot copy is encrypted.

Volumes that exist stay as they are. It asks when an image or snapshot of the account is shared or may be, because what
is encrypted under the AWS managed key cannot be shared on, and when the default key is a customer's, because launches
fail for whoever may not use that key. It asks too when the setting was off already when last assessed, because then
the event opened nothing. It declines when EC2 does not say whether the setting is on.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from chalicelib.domain.contract import (
    NO_COST,
    NOTHING_TO_DO,
    Call,
    Cause,
    Declined,
    Mode,
    MonthlyCost,
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
from chalicelib.domain.errors import AwsError
from chalicelib.domain.finding import Target


class NoParams(Params):
    """The setting has no thresholds."""


class EbsDefault(State):
    """The setting as EC2 tells it (None when it does not), and what turning it on may break.

    `key` and `shared` are read only while the setting is off. `shared` names the account's own images and snapshots
    that others may use; None when there are too many to look at, or when nobody looked.
    """

    encrypted: bool | None
    key: str | None = None
    shared: tuple[str, ...] | None = None

    @property
    def compliant(self) -> bool:
        """True when EC2 said that the setting is on."""
        return self.encrypted is True

    def content(self) -> dict[str, JsonValue]:
        """The setting alone: key and sharing are what it rests on, not what an undo brings back."""
        return {"encrypted": self.encrypted}


def assess(target: Target, params: NoParams, aws: Reader) -> EbsDefault:
    encrypted = aws.read("ec2", "GetEbsEncryptionByDefault").get("EbsEncryptionByDefault")
    if encrypted is not False:
        return EbsDefault(encrypted=encrypted)
    return EbsDefault(
        encrypted=False,
        key=aws.read("ec2", "GetEbsDefaultKmsKeyId").get("KmsKeyId"),
        shared=_shared(aws),
    )


def plan(target: Target, params: NoParams, state: EbsDefault, cause: Cause, as_of: datetime) -> Plan:
    if state.compliant:
        return NOTHING_TO_DO
    if state.encrypted is None:
        return Plan(declined=(_unsaid(target),))

    doubts = tuple(_doubts(state, cause))
    return Plan(
        calls=(_turn_on(target, doubts),),
        monthly_cost=NO_COST if _is_aws_managed(state.key) else _KEY_REQUESTS,
        depends_on={
            "encrypted": state.encrypted,
            "key": state.key,
            "shared": None if state.shared is None else [*state.shared],
        },
    )


def undo(target: Target, run: RunRecord[EbsDefault], now: EbsDefault) -> Plan:
    if run.before.encrypted is not False or now.encrypted is False:
        return NOTHING_TO_DO
    if now.encrypted is None:
        return Plan(declined=(_unsaid(target),))
    if not run.after.compliant:
        return Plan(
            declined=(
                Declined(
                    what=f"EBS encryption by default in {target.region}",
                    why="it was still off after the run, so somebody else turned it on",
                ),
            )
        )
    return Plan(
        calls=(
            Call(
                service="ec2",
                operation="DisableEbsEncryptionByDefault",
                params={},
                why=f"Turn the default off in {target.region}, as it was before the run; encrypted volumes stay so.",
                at_most=Mode.ASK,
            ),
        ),
        depends_on={"encrypted": now.encrypted},
    )


# -- where else, and by hand ------------------------------------------------------------------------------------------


def survey(place: Target, params: NoParams, aws: Reader) -> tuple[Target, ...]:
    """The account in this Region: there is one setting, and assessing it is no more than reading it."""
    return (place,)


def by_hand(target: Target, state: EbsDefault) -> tuple[Step, ...]:
    look = Call(service="ec2", operation="GetEbsEncryptionByDefault", params={}, why="To see it.")
    settings = f"EC2 ({target.region}) > Dashboard > Account attributes > Data protection and security"
    return (
        Step(
            console=f"{settings} > EBS encryption: see whether it is on, and which key is the default.",
            command=command_of(look, target),
        ),
        Step(
            console=f"{settings} > EBS encryption > Manage: choose Enable, keep the key, Update EBS encryption.",
            command=command_of(_turn_on(target), target),
        ),
    )


def as_code(target: Target, state: EbsDefault) -> str:
    return f"""# In the configuration whose provider is set to {target.region}.
resource "aws_ebs_encryption_by_default" "this" {{
  enabled = true
}}
"""


# -- what turning it on may break -------------------------------------------------------------------------------------

_EXAMINED_AT_MOST = 20
_KEY_REQUESTS = MonthlyCost(usd_cents=None, basis="KMS requests under a key that is not the AWS managed one")
_GONE = frozenset({"InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidSnapshot.NotFound"})


def _turn_on(target: Target, doubts: tuple[str, ...] = ()) -> Call:
    return Call(
        service="ec2",
        operation="EnableEbsEncryptionByDefault",
        params={},
        why=" ".join(
            (f"Encrypt every new EBS volume in {target.region}; existing ones stay as they are.", *doubts)
        ),
        at_most=Mode.ASK if doubts else Mode.ACT,
    )


def _doubts(state: EbsDefault, cause: Cause) -> Iterator[str]:
    """Why a person has to agree, one sentence each."""
    if cause.last_state is not None and cause.last_state.get("encrypted") is False:
        yield "It was off already when last assessed, so the event opened nothing."
    if state.key is None:
        yield "Which key would be used is not known."
    elif not _is_aws_managed(state.key):
        yield (
            "The default key is a customer's: launches fail, Auto Scaling's among them, where the key's policy does"
            " not admit them."
        )
    if state.shared is None:
        yield "Whether own images or snapshots are shared is not known: there are too many to look at."
    elif state.shared:
        yield (
            f"Own images or snapshots are shared ({len(state.shared)}): new ones under the AWS managed key cannot be."
        )


def _is_aws_managed(key: str | None) -> bool:
    """True for the alias of the AWS managed key, bare or as the end of its ARN; customers cannot make such an alias."""
    return key is not None and key.rpartition(":")[2] == "alias/aws/ebs"


def _shared(aws: Reader) -> tuple[str, ...] | None:
    """The account's own images and snapshots that others may use, or None when there are too many to look at.

    One page each is enough to tell, so that an account with a hundred thousand snapshots costs no more.
    """
    page = _EXAMINED_AT_MOST + 1
    images = aws.read("ec2", "DescribeImages", Owners=["self"], MaxResults=page)
    snapshots = aws.read("ec2", "DescribeSnapshots", OwnerIds=["self"], MaxResults=page)
    found: list[Any] = [*images["Images"], *snapshots["Snapshots"]]
    if len(found) > _EXAMINED_AT_MOST or images.get("NextToken") or snapshots.get("NextToken"):
        return None
    return tuple(
        sorted(
            [
                *(item["ImageId"] for item in images["Images"] if _image_is_shared(aws, item)),
                *(item["SnapshotId"] for item in snapshots["Snapshots"] if _snapshot_is_shared(aws, item)),
            ]
        )
    )


def _image_is_shared(aws: Reader, image: dict[str, Any]) -> bool:
    try:
        told = aws.read(
            "ec2", "DescribeImageAttribute", ImageId=image["ImageId"], Attribute="launchPermission"
        )
    except AwsError as error:
        return _still_there(error)
    return bool(told["LaunchPermissions"])


def _snapshot_is_shared(aws: Reader, snapshot: dict[str, Any]) -> bool:
    try:
        told = aws.read(
            "ec2",
            "DescribeSnapshotAttribute",
            SnapshotId=snapshot["SnapshotId"],
            Attribute="createVolumePermission",
        )
    except AwsError as error:
        return _still_there(error)
    return bool(told["CreateVolumePermissions"])


def _still_there(error: AwsError) -> bool:
    """False for what was deleted while we looked: it is shared with nobody. Any other error goes up."""
    if error.code in _GONE:
        return False
    raise error


def _unsaid(target: Target) -> Declined:
    return Declined(
        what=f"EBS encryption by default in {target.region}", why="EC2 does not say whether it is on or off"
    )


# -- the remediation --------------------------------------------------------------------------------------------------

REMEDIATION = Remediation(
    id="ec2_enable_ebs_encryption_by_default",
    controls=("ebs-default-encryption",),
    summary="Turns on EBS encryption by default in one Region; volumes that exist stay as they are.",
    risk=Risk.LOW,
    reads=(
        Permission("ec2:GetEbsEncryptionByDefault"),
        Permission("ec2:GetEbsDefaultKmsKeyId"),
        Permission("ec2:DescribeImages"),
        Permission("ec2:DescribeSnapshots"),
        Permission("ec2:DescribeImageAttribute", "arn:{partition}:ec2:{region}::image/*"),
        Permission("ec2:DescribeSnapshotAttribute", "arn:{partition}:ec2:{region}::snapshot/*"),
    ),
    writes=(Permission("ec2:EnableEbsEncryptionByDefault"),),
    undo_writes=(Permission("ec2:DisableEbsEncryptionByDefault"),),
    params=NoParams,
    state=EbsDefault,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=survey,
    by_hand=by_hand,
    as_code=as_code,
    settle_seconds=5,
)
