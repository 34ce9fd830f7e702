"""Command: what a person may change, and the one function that changes it.

A command is one transaction: the setting, and a record with what it was before and what it is now, in the account's
system chain. Who asked is the caller that API Gateway authenticated; no field of the command says it. Stopping us
needs no more than that; what lets us do more, or look away, needs a caller whose name is a person's.
"""

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Protocol, Self, assert_never

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from chalicelib.domain.contract import Mode, canonical
from chalicelib.domain.control import Control
from chalicelib.domain.errors import ConflictError, RefusedCommandError
from chalicelib.domain.finding import ARN_FORMS, GLOBAL, ID_FORMS, Actor, Model
from chalicelib.domain.ports import (
    FREEZE_ALL,
    Clock,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    SettingChange,
    Settings,
)
from chalicelib.domain.record import Draft, Record, RecordType, seal, stamp, system_chain
from chalicelib.flow.classify import Controls

LONGEST_EXEMPTION = timedelta(days=180)
"""An exemption ends by then, whoever grants it; what should hold for longer is looked at again."""

ATTEMPTS = 5
"""How often a command is tried while others change the same account's settings."""

LONGEST_TEXT = 500
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _one_line(text: str) -> str:
    """Text that looks on every screen like what it is; a reason is read by auditors years later."""
    text = text.strip()
    if not 1 <= len(text) <= LONGEST_TEXT:
        message = f"must have 1 to {LONGEST_TEXT} characters"
        raise ValueError(message)
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c in _DIRECTION_MARKS for c in text):
        message = "must be one line without control characters or direction marks"
        raise ValueError(message)
    return text


Line = Annotated[str, AfterValidator(_one_line)]
Account = Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
ControlId = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class ReasonCode(StrEnum):
    """Why an exemption is right: the finding is wrong, the risk is borne, or something else contains it."""

    FALSE_POSITIVE = "false_positive"
    ACCEPTED_RISK = "accepted_risk"
    COMPENSATING = "compensating"


class SetMode(Model):
    """The most that `control` may do in `account` from now on."""

    kind: Literal["mode"] = "mode"
    control: ControlId
    account: Account
    mode: Mode
    reason: Line


class SetFreeze(Model):
    """The kill switch of everything, of one account, or of one control in one account."""

    kind: Literal["freeze"] = "freeze"
    on: bool
    account: Account | None = None
    control: ControlId | None = None
    reason: Line

    @model_validator(mode="after")
    def _a_control_stands_in_an_account(self) -> Self:
        if self.control and not self.account:
            message = "a control is frozen in one account: name the account too, or freeze everything"
            raise ValueError(message)
        return self

    @property
    def scope(self) -> str:
        """The switch's name in the store."""
        if self.control:
            return f"CONTROL#{self.account}#{self.control}"
        return f"ACCOUNT#{self.account}" if self.account else FREEZE_ALL

    @property
    def where(self) -> str:
        """The same for people."""
        if self.control:
            return f"{self.control} in account {self.account}"
        return f"account {self.account}" if self.account else "everything"


class Exempt(Model):
    """Leave this resource alone for this control, on somebody's account, until a day."""

    kind: Literal["exempt"] = "exempt"
    resource: Line
    control: ControlId
    account: Account
    owner: Line
    code: ReasonCode
    reason: Line
    expires_at: AwareDatetime


class Enrol(Model):
    """From now on the events of this account are ours."""

    kind: Literal["enrol"] = "enrol"
    account: Account
    reason: Line


class Redrive(Model):
    """Try again what a dead-letter queue holds: at most `most` messages."""

    kind: Literal["redrive"] = "redrive"
    queue: Literal["events", "commands"]
    most: int = Field(ge=1, le=1000)
    reason: Line


AnyCommand = SetMode | SetFreeze | Exempt | Enrol | Redrive
Command = Annotated[AnyCommand, Field(discriminator="kind")]
COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(Command)
"""Reads a command: strict, every unknown key is an error."""


def said_plainly(error: ValidationError) -> str:
    """What is wrong with a command, field by field; what was sent is not repeated."""
    said: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")[:300]
        said.append(f"{where[:100]}: {message}" if where else message)
    return "; ".join(said[:10])


class Caller(Model):
    """Who asks, as API Gateway authenticated it. `known` is false where the session's name is its opener's choice."""

    arn: str
    account: Account
    kind: Literal["root", "iam_user", "identity_center", "role_session", "federated_user"]
    role_arn: str | None = None
    session: str | None = None
    request_id: str

    @property
    def known(self) -> bool:
        """True when the ARN names a person; a role's session may call itself anything."""
        return self.kind in {"iam_user", "identity_center"}

    @property
    def actor(self) -> Actor:
        """The caller as a record shows it, in CloudTrail's words."""
        kinds = {"root": "Root", "iam_user": "IAMUser", "federated_user": "FederatedUser"}
        return Actor(
            type=kinds.get(self.kind, "AssumedRole"),
            arn=self.arn,
            role_arn=self.role_arn,
            session=self.session,
        )

    @property
    def names(self) -> frozenset[str]:
        """Everything by which the caller may be called, for comparison."""
        return frozenset(_folded(name) for name in (self.arn, self.arn.rsplit("/", 1)[-1]))


_CALLERS = (
    ("root", re.compile(r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):root")),
    ("iam_user", re.compile(r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):user/[\x21-\x7e]{1,576}")),
    (
        "federated_user",
        re.compile(
            r"arn:[a-z-]+:sts::(?P<account>[0-9]{12}):federated-user/(?P<session>[A-Za-z0-9_+=,.@-]{1,64})"
        ),
    ),
    (
        "role_session",
        re.compile(
            r"arn:(?P<partition>[a-z-]+):sts::(?P<account>[0-9]{12}):assumed-role/(?P<role>[A-Za-z0-9_+=,.@-]{1,64})/"
            r"(?P<session>[A-Za-z0-9_+=,.@-]{1,64})"
        ),
    ),
)
_IDENTITY_CENTER_ROLE = re.compile(r"AWSReservedSSO_.+_[0-9a-f]{16}")


def caller(user_arn: object, request_id: str) -> Caller:
    """The caller behind `requestContext.identity.userArn`; RefusedCommandError when that names nobody."""
    for kind, form in _CALLERS:
        match = form.fullmatch(user_arn) if isinstance(user_arn, str) else None
        if match:
            found = match.groupdict()
            role = found.get("role")
            if role and _IDENTITY_CENTER_ROLE.fullmatch(role):
                kind = "identity_center"  # noqa: PLW2901 -- the same form of ARN, told apart by the role's name
            return Caller.model_validate(
                {
                    "arn": user_arn,
                    "account": found["account"],
                    "kind": kind,
                    "role_arn": f"arn:{found['partition']}:iam::{found['account']}:role/{role}"
                    if role
                    else None,
                    "session": found.get("session"),
                    "request_id": request_id,
                }
            )
    message = "API Gateway authenticated nobody: sign the request with SigV4, as `redress` does"
    raise RefusedCommandError(message)


class CommandResult(Model):
    """What became of a command: a sentence, and the record that proves it; no record when nothing was changed."""

    changed: bool
    says: str
    chain: str | None = None
    seq: int | None = None
    record_id: str | None = None
    before: JsonValue = None
    after: JsonValue = None


class Queue(Protocol):
    """The commands queue: what is too slow or too mighty for the HTTP function is done by the engine."""

    def send(self, body: str) -> None:
        """Put one message on the queue, or raise StoreError."""


@dataclass(frozen=True)
class _Wanted:
    """One change, ready to be recorded."""

    type: RecordType
    says: str
    before: Model | None
    after: Model | None
    mode: ModeSetting | None = None
    freeze: Freeze | None = None
    exemption: Exemption | None = None
    enrolment: Enrolment | None = None
    resource: str = ""
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Desk:
    """All that carrying out needs, so that each command's own function stays short."""

    caller: Caller
    settings: Settings
    catalog: Controls
    clock: Clock
    home: str
    engine: str

    def named(self, act: str) -> None:
        """RefusedCommandError unless the caller is a named person: what lets us do more has a person behind it."""
        if not self.caller.known:
            message = (
                f"{act} is for a named person, and {self.caller.arn} may be anybody: log in through Identity Center, or "
                "as an IAM user, and try again"
            )
            raise RefusedCommandError(message)

    def control(self, name: str) -> Control:
        """The catalog's entry; RefusedCommandError with the nearest name when there is none."""
        for control in self.catalog.controls:
            if control.id == name:
                return control
        message = f"no control is called {name!r}{_did_you_mean(name, self.catalog.controls)}"
        raise RefusedCommandError(message)

    def change(
        self, account: str, step: str, reason: str, draw: Callable[[datetime], _Wanted | str]
    ) -> CommandResult:
        """Read the chain's end, then what stands, then write both or neither; anew when somebody was quicker.

        `draw` looks at what stands and gives the change, or a sentence when there is nothing to change.
        """
        for attempt in range(ATTEMPTS):
            now = self.clock.now()
            chain = system_chain(account, now)
            head = self.settings.head(chain)
            wanted = draw(now)
            if isinstance(wanted, str):
                return CommandResult(changed=False, says=wanted)
            draft = Draft(
                type=wanted.type,
                source_id=f"command:{self.caller.request_id}",
                step=step,
                occurred_at=now,
                account=account,
                region=GLOBAL,
                resource=wanted.resource,
                controls=wanted.controls,
                actor=self.caller.actor,
                data={
                    "by": {"arn": self.caller.arn, "kind": self.caller.kind, "known": self.caller.known},
                    "reason": reason,
                    "before": _plain(wanted.before),
                    "after": _plain(wanted.after),
                },
            )
            (record,) = seal(chain, head, (draft,), now, self.engine)
            change = SettingChange(
                mode=wanted.mode,
                freezes=(wanted.freeze,) if wanted.freeze else (),
                exemption=wanted.exemption,
                enrolment=wanted.enrolment,
                record=record,
                expected_head=head,
            )
            try:
                self.settings.apply(change)
            except ConflictError:
                self.clock.sleep(0.05 * 2**attempt)
                continue
            return _recorded(record, wanted)
        message = (
            f"others are changing the settings of account {account} right now; nothing was changed, try again"
        )
        raise ConflictError(message)


def carry_out(
    command: AnyCommand,
    caller: Caller,
    settings: Settings,
    catalog: Controls,
    clock: Clock,
    *,
    queue: Queue,
    home: str,
    engine: str,
) -> CommandResult:
    """Do what the command says, once, with its record; RefusedCommandError says why not and what to do instead.

    `home` is the account of this deployment, `engine` the version that records carry.
    """
    desk = _Desk(caller=caller, settings=settings, catalog=catalog, clock=clock, home=home, engine=engine)
    match command:
        case SetMode():
            return _set_mode(desk, command)
        case SetFreeze():
            return _set_freeze(desk, command)
        case Exempt():
            return _exempt(desk, command)
        case Enrol():
            return _enrol(desk, command)
        case Redrive():
            return _redrive(desk, command, queue)
        case _:
            assert_never(command)


def _set_mode(desk: _Desk, command: SetMode) -> CommandResult:
    control = desk.control(command.control)
    if command.mode > control.most:
        message = (
            f"{control.id} may be set to {control.most.value} at most: its ceiling is {control.ceiling.value} "
            f"and its status is {control.status.value}"
        )
        raise RefusedCommandError(message)
    if command.account != desk.home and desk.settings.enrolment(command.account) is None:
        message = f"account {command.account} is not enrolled, so nothing is heard from it: `redress enrol` it first"
        raise RefusedCommandError(message)
    if command.mode > Mode.OBSERVE and desk.caller.known:
        _provide_switch(desk)

    def draw(now: datetime) -> _Wanted | str:
        before = desk.settings.mode(command.account, control.id)
        if command.mode > (before.mode if before else Mode.OBSERVE):
            desk.named("raising a mode")
        if before and before.mode is command.mode:
            return f"{control.id} was already set to {command.mode.value} in {command.account}; nothing was changed"
        after = ModeSetting(
            account=command.account,
            control=control.id,
            mode=command.mode,
            by=desk.caller.arn,
            at=now,
            reason=command.reason,
        )
        was = before.mode.value if before else "never set, hence observe"
        return _Wanted(
            type=RecordType.MODE_CHANGED,
            says=f"{control.id} in {command.account} is set to {command.mode.value} (it was {was})",
            before=before,
            after=after,
            mode=after,
            controls=(control.id,),
        )

    return desk.change(command.account, "mode", command.reason, draw)


def _provide_switch(desk: _Desk) -> None:
    """The switch of everything must be there to be read before anything may act: absence is not 'off'.

    Its own transaction in the home account's chain, where the switch is always written: a switch that somebody turns
    on meanwhile moves that chain, and is then found and left as it is.
    """

    def draw(now: datetime) -> _Wanted | str:
        if desk.settings.freeze(FREEZE_ALL) is not None:
            return "the switch is there"
        reason = "made with the first raised mode, so that it can be read"
        after = Freeze(scope=FREEZE_ALL, frozen=False, by=desk.caller.arn, at=now, reason=reason)
        return _Wanted(type=RecordType.FREEZE_OFF, says="", before=None, after=after, freeze=after)

    desk.change(desk.home, "switch", "a mode is raised for the first time", draw)


def _set_freeze(desk: _Desk, command: SetFreeze) -> CommandResult:
    if not command.on:
        desk.named("lifting a freeze")
    controls = (desk.control(command.control).id,) if command.control else ()
    state = "frozen" if command.on else "not frozen"

    def draw(now: datetime) -> _Wanted | str:
        before = desk.settings.freeze(command.scope)
        if before and before.frozen is command.on:
            return f"{command.where} is already {state} since {stamp(before.at)} by {before.by}; nothing was changed"
        after = Freeze(
            scope=command.scope, frozen=command.on, by=desk.caller.arn, at=now, reason=command.reason
        )
        return _Wanted(
            type=RecordType.FREEZE_ON if command.on else RecordType.FREEZE_OFF,
            says=f"{command.where} is frozen" if command.on else f"the freeze of {command.where} is lifted",
            before=before,
            after=after,
            freeze=after,
            controls=controls,
        )

    return desk.change(command.account or desk.home, "freeze", command.reason, draw)


def _exempt(desk: _Desk, command: Exempt) -> CommandResult:
    desk.named("exempting a resource")
    control = desk.control(command.control)
    if _folded(command.owner) in desk.caller.names:
        message = "who answers for an exemption does not grant it: ask somebody else to grant it, or name another owner"
        raise RefusedCommandError(message)
    if not _form_of(control.resource, command.account).fullmatch(command.resource):
        form = ARN_FORMS[control.resource].format(
            partition="aws", region="<region>", account=command.account, id="<id>"
        )
        message = f"{control.id} is about one {control.resource} in {command.account}: write it as {form}"
        raise RefusedCommandError(message)

    def draw(now: datetime) -> _Wanted | str:
        if not now < command.expires_at <= now + LONGEST_EXEMPTION:
            message = (
                f"an exemption ends within {LONGEST_EXEMPTION.days} days: by {stamp(now + LONGEST_EXEMPTION)}"
            )
            raise RefusedCommandError(message)
        before = desk.settings.exemption(command.account, control.id, command.resource)
        after = Exemption(
            account=command.account,
            control=control.id,
            resource=command.resource,
            owner=command.owner,
            code=command.code.value,
            reason=command.reason,
            by=desk.caller.arn,
            at=now,
            expires_at=command.expires_at.astimezone(UTC),
        )
        if before and before.model_copy(update={"by": after.by, "at": after.at}) == after:
            return (
                f"{command.resource} is already exempt until {stamp(before.expires_at)}; nothing was changed"
            )
        return _Wanted(
            type=RecordType.EXEMPTION_GRANTED,
            says=f"{command.resource} is exempt from {control.id} until {stamp(after.expires_at)}",
            before=before,
            after=after,
            exemption=after,
            resource=command.resource,
            controls=(control.id,),
        )

    return desk.change(command.account, "exempt", command.reason, draw)


def _enrol(desk: _Desk, command: Enrol) -> CommandResult:
    if command.account == desk.home:
        return CommandResult(changed=False, says=f"{desk.home} is the home account, which is always enrolled")
    desk.named("enrolling an account")

    def draw(now: datetime) -> _Wanted | str:
        before = desk.settings.enrolment(command.account)
        if before:
            return (
                f"{command.account} is enrolled since {stamp(before.at)} by {before.by}; nothing was changed"
            )
        after = Enrolment(account=command.account, by=desk.caller.arn, at=now)
        return _Wanted(
            type=RecordType.ENROLLED,
            says=f"{command.account} is enrolled; every control there starts at observe",
            before=None,
            after=after,
            enrolment=after,
        )

    return desk.change(command.account, "enrol", command.reason, draw)


def _redrive(desk: _Desk, command: Redrive, queue: Queue) -> CommandResult:
    """Recorded first: a message that moves is somebody's act, even if the send that follows fails."""

    def draw(now: datetime) -> _Wanted | str:
        del now
        says = f"up to {command.most} messages of the {command.queue} dead-letter queue will be tried again"
        return _Wanted(type=RecordType.CONFIG_CHANGED, says=says, before=None, after=command)

    result = desk.change(desk.home, "redrive", command.reason, draw)
    queue.send(
        canonical(
            {
                "command": command.kind,
                "queue": command.queue,
                "most": command.most,
                "by": desk.caller.arn,
                "record_id": result.record_id,
            }
        )
    )
    return result


def _recorded(record: Record, wanted: _Wanted) -> CommandResult:
    return CommandResult(
        changed=True,
        says=wanted.says,
        chain=record.chain,
        seq=record.seq,
        record_id=record.record_id,
        before=_plain(wanted.before),
        after=_plain(wanted.after),
    )


def _plain(model: Model | None) -> dict[str, JsonValue] | None:
    return model.model_dump(mode="json") if model else None


def _folded(name: str) -> str:
    """A name as people compare names: case, width and spaces do not make another person."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def _form_of(kind: str, account: str) -> re.Pattern[str]:
    """What a resource of the type in the account must look like, so that an exemption cannot silently cover nothing."""
    parts: Mapping[str, str] = {
        "partition": r"aws[a-z-]*",
        "region": r"[a-z0-9-]+",
        "account": account,
        "id": ID_FORMS[kind],
    }
    form = re.escape(ARN_FORMS[kind])
    for name, pattern in parts.items():
        form = form.replace(re.escape(f"{{{name}}}"), pattern)
    return re.compile(form)


def _did_you_mean(name: str, controls: Iterable[Control]) -> str:
    known = {known: control.id for control in controls for known in (control.id, *control.aliases)}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {known[near[0]]!r}?" if near else "; `redress controls` lists them all"
