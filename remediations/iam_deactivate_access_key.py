"""No access key of the IAM user that nobody has used for 90 days is active. Passwords are not looked at.

A key counts as unused only when the credential report and GetAccessKeyLastUsed, read now, both show no use for so long,
or both show that it was never used since it was made, so long ago; where they differ, the later use counts. The stalest
key goes first, one a day: what breaks then is known by its key. It asks where the sources differ, and where it cannot be
told for certain which of the user's keys the report means.

Declined, for a person to see to: a key of which a source says nothing, a key that was used in the last 24 hours after so
long a silence, a user of a Redress deployment, and everything when the report is older than 24 hours. Keys that are
inactive already stay as they are, and no key is ever deleted.
"""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, Field, JsonValue

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
    shell,
)
from chalicelib.domain.errors import AwsError, TargetGoneError, TransientError
from chalicelib.domain.finding import Model, Target, target_of
from chalicelib.domain.hcl import quoted
from chalicelib.domain.shape import mapping, sequence


class Disuse(Params):
    """After how many days without use a key is stale; no framework asks for fewer than 45."""

    unused_days: int = Field(ge=45)


class Use(Model):
    """When a source last saw a key used, and for what; `at` is None when it says that the key was never used."""

    at: AwareDatetime | None = None
    service: str = ""
    region: str = ""


class Slot(Model):
    """One of the two places that a user has for keys, as the credential report tells it; `use` is None when it does not."""

    active: bool
    rotated_at: AwareDatetime
    use: Use | None


class Key(Model):
    """An access key. `used` is GetAccessKeyLastUsed's word (asked of active keys), `reported` the credential report's.

    Either is None when that source does not say.
    """

    id: str
    status: str
    created_at: AwareDatetime
    used: Use | None = None
    reported: Slot | None = None

    @property
    def active(self) -> bool:
        """True when requests may be signed with the key."""
        return self.status == "Active"

    @property
    def told(self) -> bool:
        """True when both sources say when the key was last used, or that it never was."""
        return self.used is not None and self.reported is not None and self.reported.use is not None

    @property
    def quiet_since(self) -> datetime:
        """The last use that any source knows of, else when the key was made."""
        return max((self.created_at, *(use.at for use in self.uses if use.at)))

    @property
    def quiet_in_report_since(self) -> datetime | None:
        """The same by the report alone; None when it does not say."""
        use = self.reported.use if self.reported else None
        return use.at or self.created_at if use else None

    @property
    def disputed(self) -> bool:
        """True when one source knows of a use and the other says that there never was one."""
        return len({use.at is None for use in self.uses}) > 1

    @property
    def uses(self) -> tuple[Use, ...]:
        """What the sources say, as far as they do."""
        return tuple(use for use in (self.used, self.reported.use if self.reported else None) if use)


class UserKeys(State):
    """The keys of one user, as they were when IAM made the credential report: that is the time of this state.

    `own` is true for a user of a Redress deployment, by its tag or path.
    """

    unused_days: int
    generated_at: AwareDatetime
    own: bool
    keys: tuple[Key, ...]

    @property
    def compliant(self) -> bool:
        """True when every active key is known to be in use, or to be too young to say."""
        return not self.concerned

    @property
    def since(self) -> datetime | None:
        """When the stalest key crossed the threshold."""
        return self.stale[0].quiet_since + timedelta(days=self.unused_days) if self.stale else None

    @property
    def stale(self) -> tuple[Key, ...]:
        """The active keys that both sources show to be unused for so long, the stalest first."""
        told = (key for key in self._quiet if key.told)
        return tuple(sorted(told, key=lambda key: (key.quiet_since, key.id)))

    @property
    def untold(self) -> tuple[Key, ...]:
        """The active keys that may be stale, but a source does not say."""
        return tuple(key for key in self._quiet if not key.told)

    @property
    def woken(self) -> tuple[Key, ...]:
        """The active keys that the report shows to be stale, and that were used within a day of it, or since."""
        return tuple(
            key
            for key in self._active
            if key.quiet_since > self.generated_at - timedelta(days=1)
            and key.quiet_in_report_since
            and key.quiet_in_report_since <= self._limit
        )

    @property
    def concerned(self) -> tuple[Key, ...]:
        """Every key for which the control does not hold, or is not known to."""
        return (*self.stale, *self.untold, *self.woken)

    def content(self) -> dict[str, JsonValue]:
        """The keys and their status: when they were used goes on changing."""
        return {"keys": {key.id: key.status for key in self.keys}}

    @property
    def _active(self) -> tuple[Key, ...]:
        return tuple(key for key in self.keys if key.active)

    @property
    def _quiet(self) -> tuple[Key, ...]:
        return tuple(key for key in self._active if key.quiet_since <= self._limit)

    @property
    def _limit(self) -> datetime:
        return self.generated_at - timedelta(days=self.unused_days)


def assess(target: Target, params: Disuse, aws: Reader) -> UserKeys:
    user = _user(target, aws)
    generated_at, rows = _credential_report(aws)
    keys = _keys(target, aws)
    slots = _slots(rows.get(target.resource, {}))
    return UserKeys(
        unused_days=params.unused_days,
        generated_at=generated_at,
        own=target.id.startswith(_OWN_PATH) or _OWN_TAG in _tags(user),
        keys=_matched(keys, slots),
    )


def plan(target: Target, params: Disuse, state: UserKeys, cause: Cause, as_of: datetime) -> Plan:
    if any(key.active for key in state.keys) and abs(as_of - state.generated_at) > timedelta(days=1):
        return Plan(declined=(_of_no_use(target, state),))
    if state.compliant:
        return NOTHING_TO_DO
    if state.own:
        return Plan(declined=(_own(target),))

    declined = (
        *(_untold(target, key) for key in state.untold),
        *(_woken(target, key, state) for key in state.woken),
    )
    if not state.stale or _one_went_today(state, cause, as_of):
        return Plan(declined=declined)
    stalest, *waiting = state.stale
    doubts = tuple(_doubts(stalest))
    sentences = (
        f"Deactivate {_name(target, stalest)}: it was {_last_use(stalest)}.",
        *doubts,
        *(["Another stale key of the user waits until tomorrow."] if waiting else []),
    )
    return Plan(
        calls=(
            Call(
                service="iam",
                operation="UpdateAccessKey",
                params={"UserName": target.name, "AccessKeyId": stalest.id, "Status": "Inactive"},
                why=" ".join(sentences),
                at_most=Mode.ASK if doubts else Mode.ACT,
            ),
        ),
        declined=declined,
        depends_on={"key": stalest.id, "quiet_since": stalest.quiet_since.isoformat(), "doubts": [*doubts]},
    )


def undo(target: Target, run: RunRecord[UserKeys], now: UserKeys) -> Plan:
    ours = [call.params["AccessKeyId"] for call in run.plan.calls]
    back = [key for key in now.keys if key.id in ours and key.status == "Inactive"]
    others = [key for key in back if _active_in(run.after, key)]
    if others:
        return Plan(
            declined=tuple(
                Declined(
                    what=_name(target, key),
                    why="it was still active after the run, so somebody else deactivated it: ask them first",
                )
                for key in others
            )
        )
    return Plan(
        calls=tuple(
            Call(
                service="iam",
                operation="UpdateAccessKey",
                params={"UserName": target.name, "AccessKeyId": key.id, "Status": "Active"},
                why=f"Activate {_name(target, key)} again, as it was before the run.",
                at_most=Mode.ASK,
            )
            for key in back
        ),
        depends_on={"inactive": [key.id for key in back]} if back else {},
    )


def survey(place: Target, params: Disuse, aws: Reader) -> tuple[Target, ...]:
    generated_at, rows = _credential_report(aws)
    limit = generated_at - timedelta(days=params.unused_days)
    suspects = (arn for arn, row in rows.items() if any(_may_be_stale(row, n, limit) for n in _PLACES))
    # None for the root user, whose keys are another control's matter, and for a user whose path no Target can hold.
    named = (target_of("AWS::IAM::User", arn, place.account, place.region) for arn in suspects)
    return tuple(user for user in named if user)


def by_hand(target: Target, state: UserKeys) -> tuple[Step, ...]:
    if state.own:
        return (
            Step(
                console=f"Ask whoever operates the Redress deployment that user {target.name} belongs to: the key is"
                " replaced there, with the deployment, and not here."
            ),
        )
    return (
        Step(
            console="IAM > Credential report > Download credential report: it is made anew when it is older than four"
            " hours, and tells when each key of each user was last used.",
            command=shell("aws", "iam", "generate-credential-report"),
        ),
        *(step for key in state.concerned for step in _steps(target, key)),
    )


def as_code(target: Target, state: UserKeys) -> str:
    if state.own:
        return f"# User {target.name} belongs to a Redress deployment: its keys are replaced there.\n"
    return "\n".join(
        f"""# In the resource that manages the access key ending in {key.id[-4:]}.
resource "aws_iam_access_key" "unused" {{
  user   = {quoted(target.name)}
  status = "Inactive"
}}
"""
        for key in state.concerned
    )


def tags(target: Target, aws: Reader) -> Mapping[str, str]:
    return _tags(_user(target, aws))


# -- the user and the keys --------------------------------------------------------------------------------------------

_OWN_TAG = "redress:stage"
_OWN_PATH = "redress/"
_GONE = "NoSuchEntity"


def _user(target: Target, aws: Reader) -> dict[str, Any]:
    """The user as IAM tells it; TargetGoneError when there is none of that name under that path."""
    try:
        user: dict[str, Any] = aws.read("iam", "GetUser", UserName=target.name)["User"]
    except AwsError as error:
        if error.code != _GONE:
            raise
        raise _gone(target) from error
    if user["Arn"] != target.resource:
        raise _gone(target)
    return user


def _tags(user: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in sequence(user.get("Tags"))}


def _keys(target: Target, aws: Reader) -> list[Key]:
    """The user's keys; of the active ones, when IAM saw them last used. One that is deleted while we look is left out."""
    try:
        told = aws.pages("iam", "ListAccessKeys", "AccessKeyMetadata", UserName=target.name)
    except AwsError as error:
        if error.code != _GONE:
            raise
        raise _gone(target) from error
    keys: list[Key] = []
    for item in told:
        created_at = datetime.fromisoformat(item["CreateDate"])
        key = Key(id=item["AccessKeyId"], status=item["Status"], created_at=created_at)
        try:
            keys.append(key.model_copy(update={"used": _last_used(aws, key)}) if key.active else key)
        except AwsError as error:
            if error.code != _GONE:
                raise
    return keys


def _last_used(aws: Reader, key: Key) -> Use | None:
    answer = aws.read("iam", "GetAccessKeyLastUsed", AccessKeyId=key.id)
    told = mapping(answer.get("AccessKeyLastUsed"))
    service, region = str(told.get("ServiceName")), str(told.get("Region"))
    if told.get("LastUsedDate"):
        return Use(at=datetime.fromisoformat(told["LastUsedDate"]), service=service, region=region)
    return Use() if service == "N/A" else None


def _gone(target: Target) -> TargetGoneError:
    return TargetGoneError(f"{target.resource} does not exist: it was deleted, renamed or moved")


# -- the credential report --------------------------------------------------------------------------------------------

_PLACES = (1, 2)
_FIRST_COLUMNS = ("user", "arn")
_COLUMNS = frozenset(
    f"access_key_{place}_{fact}"
    for place in _PLACES
    for fact in ("active", "last_rotated", "last_used_date", "last_used_service", "last_used_region")
)
_NOT_READY = frozenset({"ReportNotPresent", "ReportInProgress", "ReportExpired"})


def _credential_report(aws: Reader) -> tuple[datetime, dict[str, dict[str, str]]]:
    """When IAM made the report, and its rows by ARN. It is asked for first, so that it is at most four hours old.

    TransientError while IAM is making it: it is there when the message comes back.
    """
    state = aws.read("iam", "GenerateCredentialReport").get("State")
    if state != "COMPLETE":
        raise _being_made(str(state))
    try:
        report = aws.read("iam", "GetCredentialReport")
    except AwsError as error:
        if error.code not in _NOT_READY:
            raise
        raise _being_made(error.code) from error
    text = base64.b64decode(report["Content"]).decode()
    header, *lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line] or [[]]
    readable = tuple(header[:2]) == _FIRST_COLUMNS and _COLUMNS.issubset(header)
    if not readable or any(len(line) < len(header) for line in lines):
        message = "the credential report has not the columns that it should have, so nothing is read from it"
        raise AwsError("iam", "GetCredentialReport", "UnreadableReport", message)
    return datetime.fromisoformat(report["GeneratedTime"]), dict(_row(header, line) for line in lines)


def _row(header: Sequence[str], line: Sequence[str]) -> tuple[str, dict[str, str]]:
    """A row's ARN, and its facts by column.

    A user may have commas in the name. Whether IAM quotes them or not, the facts are the last columns, and the ARN begins
    behind the first `,arn:`, because no name holds a colon.
    """
    columns = header[len(_FIRST_COLUMNS) :]
    named = ",".join(line[: -len(columns)])
    return f"arn:{named.partition(',arn:')[2]}", dict(zip(columns, line[-len(columns) :], strict=True))


def _being_made(state: str) -> TransientError:
    message = "IAM is making the credential report, which takes some seconds: it is read when the message comes back"
    return TransientError("iam", "GetCredentialReport", state, message)


def _slots(row: Mapping[str, str]) -> list[Slot]:
    """The slots of a user's row that hold a key; a user without a row has none."""
    found: list[Slot] = []
    for place in _PLACES if row else ():
        rotated = _use(row, place, "last_rotated")
        if rotated and rotated.at:
            use = _use(row, place, "last_used_date")
            slot = Slot(active=row[f"access_key_{place}_active"] == "true", rotated_at=rotated.at, use=use)
            found.append(slot)
    return found


def _use(row: Mapping[str, str], place: int, column: str) -> Use | None:
    """A time in the report: `N/A` is never; anything else that is no time (`no_information`, `not_supported`) says nothing."""
    told = row[f"access_key_{place}_{column}"]
    if told == "N/A":
        return Use()
    try:
        at = datetime.fromisoformat(told)
    except ValueError:
        return None
    service, region = (row[f"access_key_{place}_last_used_{what}"] for what in ("service", "region"))
    return Use(at=at, service=service, region=region)


def _matched(keys: Sequence[Key], slots: Sequence[Slot]) -> tuple[Key, ...]:
    """The keys with their slots. The report names no key, so a slot is known by the moment at which its key was made.

    `last_rotated` moves when a key changes. A single active key without a slot therefore has the single slot that is left.
    """
    left = [*slots]
    found: dict[str, Slot] = {}
    for key in keys:
        same = [slot for slot in left if _same_moment(slot, key)]
        if same:  # two keys may be of one second: then the slot that says what IAM says now
            found[key.id] = next((slot for slot in same if slot.use == key.used), same[0])
            left.remove(found[key.id])
    without = [key for key in keys if key.active and key.id not in found]
    if len(without) == len(left) == 1:
        found[without[0].id] = left[0]
    return tuple(key.model_copy(update={"reported": found.get(key.id)}) for key in keys)


def _same_moment(slot: Slot, key: Key) -> bool:
    return abs(slot.rotated_at - key.created_at) < timedelta(seconds=1)


def _may_be_stale(row: Mapping[str, str], place: int, limit: datetime) -> bool:
    """True unless the report shows that there is no active key, or that it was used or made lately."""
    if row[f"access_key_{place}_active"] == "false":
        return False
    used, rotated = _use(row, place, "last_used_date"), _use(row, place, "last_rotated")
    lately = [told.at for told in (used, rotated) if told and told.at and told.at > limit]
    return not lately


# -- what is done and what is not -------------------------------------------------------------------------------------


def _one_went_today(state: UserKeys, cause: Cause, as_of: datetime) -> bool:
    """True when a key of this user was active before our last change, within a day, and is inactive now."""
    if cause.acted_at is None or as_of - cause.acted_at >= timedelta(days=1):
        return False
    before = mapping(cause.acted_before)
    were_active = {item["id"] for item in sequence(before.get("keys")) if item["status"] == "Active"}
    return any(key.id in were_active and not key.active for key in state.keys)


def _active_in(state: UserKeys, key: Key) -> bool:
    return any(other.id == key.id and other.active for other in state.keys)


def _doubts(key: Key) -> Sequence[str]:
    """Why a person has to agree, one sentence each."""
    slot = key.reported
    doubts = {
        "One source knows of a use, and the other says that there never was one.": key.disputed,
        "The report gives another date for the key than IAM does, so it was changed since, or another one is meant.": (
            slot is not None and not _same_moment(slot, key)
        ),
        "The key was inactive when the report was made: somebody has activated it since.": (
            slot is not None and not slot.active
        ),
    }
    return [sentence for sentence, holds in doubts.items() if holds]


def _name(target: Target, key: Key) -> str:
    return f"access key …{key.id[-4:]} of user {target.name}"


def _last_use(key: Key) -> str:
    """When, for what and where a key was last used, in words."""
    uses = [(use.at, use) for use in key.uses if use.at]
    if not uses:
        return f"never used since it was made on {key.created_at:%Y-%m-%d}"
    at, use = max(uses, key=lambda pair: pair[0])
    return f"last used on {at:%Y-%m-%d at %H:%M} UTC for {use.service} in {use.region}"


def _of_no_use(target: Target, state: UserKeys) -> Declined:
    return Declined(
        what=f"access keys of user {target.name}",
        why=f"the credential report is of {state.generated_at:%Y-%m-%d %H:%M} UTC, more than 24 hours away, so it does"
        " not tell what is unused now: generate a new one",
    )


def _own(target: Target) -> Declined:
    return Declined(
        what=f"access keys of user {target.name}",
        why=f"the user belongs to a Redress deployment (tag {_OWN_TAG} or path /{_OWN_PATH}), which must not lock itself"
        " out: its operator replaces the key",
    )


def _untold(target: Target, key: Key) -> Declined:
    source = "GetAccessKeyLastUsed" if key.used is None else "the credential report"
    return Declined(
        what=_name(target, key),
        why=f"{source} does not say when it was last used: look again after four hours, when there is a new report, or"
        " ask the user and deactivate it by hand",
    )


def _woken(target: Target, key: Key, state: UserKeys) -> Declined:
    return Declined(
        what=_name(target, key),
        why=f"unused for {state.unused_days} days by the credential report, and then {_last_use(key)}: ask the user, and if"
        " it was nobody's work, treat the key as stolen",
    )


def _steps(target: Target, key: Key) -> tuple[Step, ...]:
    user, ending = target.name, f"ending in {key.id[-4:]}"
    named = ("--access-key-id", key.id)
    return (
        Step(
            console=f"IAM > Users > {user} > Security credentials: see when, where and for what the access key {ending} was"
            " last used, and ask the user what it is for.",
            command=shell("aws", "iam", "get-access-key-last-used", *named),
        ),
        Step(
            console=f"Access keys > the key {ending} > Actions > Deactivate. It can be activated again at any time.",
            command=shell(
                "aws", "iam", "update-access-key", "--user-name", user, *named, "--status", "Inactive"
            ),
        ),
    )


# -- the remediation --------------------------------------------------------------------------------------------------

_USER = "arn:{partition}:iam::{account}:user/{id}"

REMEDIATION = Remediation(
    id="iam_deactivate_access_key",
    controls=("iam-unused-credentials",),
    summary="Deactivates access keys of IAM users that nobody has used for 90 days, one a day; passwords stay as they are.",
    risk=Risk.LOW,
    reads=(
        Permission("iam:GenerateCredentialReport"),
        Permission("iam:GetCredentialReport"),
        Permission("iam:GetUser", _USER),
        Permission("iam:ListAccessKeys", _USER),
        Permission("iam:GetAccessKeyLastUsed", _USER),
    ),
    writes=(Permission("iam:UpdateAccessKey", _USER),),
    undo_writes=(Permission("iam:UpdateAccessKey", _USER),),
    params=Disuse,
    state=UserKeys,
    assess=assess,
    plan=plan,
    undo=undo,
    survey=survey,
    by_hand=by_hand,
    as_code=as_code,
    tags=tags,
    everywhere="account",
    settle_seconds=10,
)
