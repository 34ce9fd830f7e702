"""Command: what a person may change, and the one function that changes it.

A command is one transaction: the setting, and a record with what it was before and what it is now, in the account's
system chain. Who asked is the caller that API Gateway authenticated; no field of the command says it. Stopping us
needs no more than that; what lets us do more, or look away, needs a caller whose name is a person's. What the engine has
to do about it is an errand, in the same transaction.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self, assert_never, get_args

from pydantic import (
    AwareDatetime,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from chalicelib.domain.approval import Undone, called, principal
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.finding import ARN_FORMS, GLOBAL, ID_FORMS, AccountId, Model
from chalicelib.domain.policy import Policy, principal_of
from chalicelib.domain.ports import (
    FREEZE_ALL,
    Clock,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Owner,
    Settings,
    freeze_scope,
)
from chalicelib.domain.record import Draft, Head, RecordType, seal, stamp
from chalicelib.flow import casework, errand, governing
from chalicelib.flow.answering import CaseId, Line, Said, Who, answer, put_on_record
from chalicelib.flow.casework import CallIncident, Claim, Comment, HandOver, WantTicket
from chalicelib.flow.classify import Controls
from chalicelib.flow.desk import Caller, CommandResult, Desk, Wanted, plain, recorded
from chalicelib.flow.governing import Invite, SetPolicy, Uninvite

STAGE_HEADER = "X-Redress-Stage"
"""Names the deployment that a command is meant for; sent with every command, and signed with it."""

LONGEST_SNOOZE = timedelta(days=7)
LONGEST_EXEMPTION = timedelta(days=180)
"""An exemption ends by then, whoever grants it; what should hold for longer is looked at again."""

SNOOZE = "snooze"
"""The code of an exemption that a snooze made; `exempt` does not grant it."""

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
    account: AccountId
    mode: Mode
    reason: Line


class SetFreeze(Model):
    """The kill switch of everything, of one account, or of one control in one account."""

    kind: Literal["freeze"] = "freeze"
    on: bool
    account: AccountId | None = None
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
        return freeze_scope(self.account, self.control or "") if self.account else FREEZE_ALL

    @property
    def where(self) -> str:
        """The same for people."""
        if self.control:
            return f"{self.control} in account {self.account}"
        return f"account {self.account}" if self.account else "everything"


class ResetBreaker(Model):
    """From now on the control may act by itself in the account again, as far as its mode says."""

    kind: Literal["reset_breaker"] = "reset_breaker"
    control: ControlId
    account: AccountId
    reason: Line


class Exempt(Model):
    """Leave this resource alone for this control, on somebody's account, until a day."""

    kind: Literal["exempt"] = "exempt"
    resource: Line
    control: ControlId
    account: AccountId
    owner: Line
    code: ReasonCode
    reason: Line
    expires_at: AwareDatetime


class Enrol(Model):
    """From now on the events of this account are ours."""

    kind: Literal["enrol"] = "enrol"
    account: AccountId
    reason: Line


class Revoke(Model):
    """From now on this resource is no longer left alone for this control."""

    kind: Literal["revoke"] = "revoke"
    resource: Line
    control: ControlId
    account: AccountId
    reason: Line


class Redrive(Model):
    """Try again what a dead-letter queue holds: at most `most` messages."""

    kind: Literal["redrive"] = "redrive"
    queue: errand.Queue
    most: int = Field(ge=1, le=1000)
    reason: Line


class AnswerAsk(Said):
    """A person's yes or no to the plan that waits in a case, or an approval taken back."""

    kind: Literal["answer"] = "answer"


class Undo(Model):
    """Take back what a run of the case changed, and leave the resource alone afterwards, on `owner`'s account.

    Somebody else is asked for the undo. Without an owner it is the resource's own, as far as the case knows one.
    """

    kind: Literal["undo"] = "undo"
    case: CaseId
    run: int = Field(ge=1)
    days: int = Field(default=7, ge=1, le=30)
    owner: Line | None = None
    reason: Line


class Snooze(Model):
    """Leave the case's resource alone for some days, for all controls of the case; then look again."""

    kind: Literal["snooze"] = "snooze"
    case: CaseId
    days: int = Field(ge=1, le=LONGEST_SNOOZE.days)
    reason: Line


class TakeUp(Model):
    """Look at the case again, and ask about it even if it stood in the baseline report."""

    kind: Literal["take_up"] = "take_up"
    case: CaseId
    reason: Line


class StartSweep(Model):
    """Look at everything in an account, by default the home account."""

    kind: Literal["sweep"] = "sweep"
    account: AccountId | None = None
    reason: Line


class SetDeploymentRole(Model):
    """Code is deployed in the account under this role (no longer, with `remove`): what it changes is asked about."""

    kind: Literal["deployment_role"] = "deployment_role"
    account: AccountId
    role_arn: Annotated[str, StringConstraints(max_length=600)]
    tool: Literal["terraform", "cdk", "cloudformation", "other"] = "other"
    remove: bool = False
    reason: Line


class SetOwner(Model):
    """Who answers for the account: told where a resource's own tags name nobody; may refuse, and does not approve."""

    kind: Literal["owner"] = "owner"
    account: AccountId
    owner: Line
    reason: Line


AnyCommand = (
    SetPolicy
    | Invite
    | Uninvite
    | Claim
    | HandOver
    | Comment
    | CallIncident
    | WantTicket
    | SetMode
    | SetFreeze
    | ResetBreaker
    | Exempt
    | Revoke
    | Enrol
    | Redrive
    | AnswerAsk
    | Undo
    | Snooze
    | TakeUp
    | StartSweep
    | SetDeploymentRole
    | SetOwner
)
Command = Annotated[AnyCommand, Field(discriminator="kind")]
COMMAND: TypeAdapter[AnyCommand] = TypeAdapter(Command)
"""Reads a command: strict, every unknown key is an error."""

KINDS = frozenset(one.model_fields["kind"].default for one in get_args(AnyCommand))
"""The kinds of commands, each with an address of its own."""


def said_plainly(error: ValidationError) -> str:
    """What is wrong with a command, field by field; what was sent is not repeated."""
    said: list[str] = []
    # Where the kind chose the model, the first place is that kind, and no field.
    fields = 1 if error.title.startswith("tagged-union") else 0
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        where = ".".join(str(part) for part in problem["loc"][fields:])
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")[:300]
        said.append(f"{where[:100]}: {message}" if where else message)
    return "; ".join(said[:10])


def carry_out(
    command: AnyCommand,
    caller: Caller,
    settings: Settings,
    catalog: Controls,
    clock: Clock,
    *,
    home: str,
    engine: str,
) -> CommandResult:
    """Do what the command says, once, with its record; RefusedCommandError says why not and what to do instead.

    A refusal is on record as well, by whoever asked: a chain of one record. `home` is the account of this deployment,
    `engine` the version that records carry.
    """
    desk = Desk(caller=caller, settings=settings, catalog=catalog, clock=clock, home=home, engine=engine)
    try:
        return _carried_out(desk, command)
    except RefusedCommandError as refused:
        if not isinstance(command, AnswerAsk):  # whose refusals `answering` records
            refuse(
                settings,
                clock,
                caller,
                command.model_dump(mode="json"),
                str(refused),
                home=home,
                engine=engine,
            )
        raise


def refuse(
    settings: Settings, clock: Clock, caller: Caller, asked: JsonValue, why: str, *, home: str, engine: str
) -> None:
    """Put on record that somebody asked for what is not done: `asked` is the command as far as it could be read."""
    now = clock.now()
    draft = Draft(
        type=RecordType.COMMAND_REFUSED,
        source_id=f"command:{caller.request_id}",
        step="refused",
        occurred_at=now,
        account=home,
        region=GLOBAL,
        actor=caller.actor,
        data={
            "by": {"arn": caller.arn, "kind": caller.kind, "known": caller.known},
            "command": asked,
            "refused": why,
        },
    )
    (record,) = seal(f"SYS#REFUSED#{caller.request_id}", Head(), (draft,), now, engine)
    put_on_record(settings, record)


def _carried_out(  # noqa: C901, PLR0911, PLR0912 -- a table of contents, and the type checker holds it complete
    desk: Desk, command: AnyCommand
) -> CommandResult:
    match command:
        case SetMode():
            return _set_mode(desk, command)
        case SetFreeze():
            return _set_freeze(desk, command)
        case ResetBreaker():
            return _reset_breaker(desk, command)
        case Exempt():
            return _exempt(desk, command)
        case Revoke():
            return _revoke(desk, command)
        case Enrol():
            return _enrol(desk, command)
        case Redrive():
            return _redrive(desk, command)
        case AnswerAsk():
            return _answer(desk, command)
        case Undo():
            return _undo(desk, command)
        case Snooze():
            return _snooze(desk, command)
        case TakeUp():
            return _take_up(desk, command)
        case StartSweep():
            return _sweep(desk, command)
        case SetDeploymentRole():
            return _set_deployment_role(desk, command)
        case SetOwner():
            return _set_owner(desk, command)
        case SetPolicy():
            return governing.set_policy(desk, command)
        case Invite():
            return governing.invite(desk, command)
        case Uninvite():
            return governing.uninvite(desk, command)
        case Claim():
            return casework.claim(desk, command)
        case HandOver():
            return casework.hand_over(desk, command)
        case Comment():
            return casework.comment(desk, command)
        case WantTicket():
            return casework.want_ticket(desk, command)
        case CallIncident():
            return casework.call_incident(desk, command)
        case _:
            assert_never(command)


def _set_mode(desk: Desk, command: SetMode) -> CommandResult:
    control = desk.control(command.control)
    if command.mode > control.most:
        message = (
            f"{control.id} may be set to {control.most.value} at most: its ceiling is {control.ceiling.value} "
            f"and its status is {control.status.value}"
        )
        raise RefusedCommandError(message)
    desk.enrolled(command.account)
    if command.mode > Mode.OBSERVE and desk.caller.known:
        _provide_switch(desk)

    def draw(now: datetime) -> Wanted | str:
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
        return Wanted(
            type=RecordType.MODE_CHANGED,
            says=f"{control.id} in {command.account} is set to {command.mode.value} (it was {was})",
            before=plain(before),
            after=plain(after),
            mode=after,
            controls=(control.id,),
        )

    return desk.change(command.account, "mode", command.reason, draw)


def _provide_switch(desk: Desk) -> None:
    """The switch of everything must be there to be read before anything may act: absence is not 'off'.

    Its own transaction in the home account's chain, where the switch is always written: a switch that somebody turns
    on meanwhile moves that chain, and is then found and left as it is.
    """

    def draw(now: datetime) -> Wanted | str:
        if desk.settings.freeze(FREEZE_ALL) is not None:
            return "the switch is there"
        reason = "set up when the first control was raised: nothing is stopped"
        after = Freeze(scope=FREEZE_ALL, frozen=False, by=desk.caller.arn, at=now, reason=reason)
        return Wanted(type=RecordType.FREEZE_OFF, says="", after=plain(after), freeze=after)

    desk.change(desk.home, "switch", "a mode is raised for the first time", draw)


def _set_freeze(desk: Desk, command: SetFreeze) -> CommandResult:
    if not command.on:
        desk.named("lifting a freeze")
    controls = (desk.control(command.control).id,) if command.control else ()
    state = "frozen" if command.on else "not frozen"

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.freeze(command.scope)
        if before and before.frozen is command.on:
            return f"{command.where} is already {state} since {stamp(before.at)} by {before.by}; nothing was changed"
        after = Freeze(
            scope=command.scope, frozen=command.on, by=desk.caller.arn, at=now, reason=command.reason
        )
        return Wanted(
            type=RecordType.FREEZE_ON if command.on else RecordType.FREEZE_OFF,
            says=f"{command.where} is frozen" if command.on else f"the freeze of {command.where} is lifted",
            before=plain(before),
            after=plain(after),
            freeze=after,
            controls=controls,
        )

    return desk.change(command.account or desk.home, "freeze", command.reason, draw)


def _reset_breaker(desk: Desk, command: ResetBreaker) -> CommandResult:
    desk.named("resetting a breaker")
    control = desk.control(command.control)

    def draw(now: datetime) -> Wanted | str:
        del now
        before = desk.settings.breaker(command.account, control.id)
        if not before.misses:
            return f"nothing is held against {control.id} in {command.account}; nothing was changed"
        after = before.reset()
        was = "open" if before.is_open else "closed"
        return Wanted(
            type=RecordType.BREAKER_RESET,
            says=f"the breaker of {control.id} in {command.account} is reset (it was {was})",
            before=plain(before),
            after=plain(after),
            breaker=after,
            controls=(control.id,),
        )

    return desk.change(command.account, "reset_breaker", command.reason, draw)


def _exempt(desk: Desk, command: Exempt) -> CommandResult:
    desk.named("exempting a resource")
    control = desk.control(command.control)
    if {called(command.owner), principal(command.owner)} & desk.mine():
        message = "who answers for an exemption does not grant it: ask somebody else to grant it, or name another owner"
        raise RefusedCommandError(message)
    if not _form_of(control.resource, command.account).fullmatch(command.resource):
        form = ARN_FORMS[control.resource].format(
            partition="aws", region="<region>", account=command.account, id="<id>"
        )
        message = f"{control.id} is about one {control.resource} in {command.account}: write it as {form}"
        raise RefusedCommandError(message)
    for case in desk.settings.cases_of(command.resource):
        if control.id in case.controls:
            _of_somebody_else(desk, case)

    def draw(now: datetime) -> Wanted | str:
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
        return Wanted(
            type=RecordType.EXEMPTION_GRANTED,
            says=f"{command.resource} is exempt from {control.id} until {stamp(after.expires_at)}",
            before=plain(before),
            after=plain(after),
            exemptions=(after,),
            sends=desk.look_for(command.resource, control.id),
            resource=command.resource,
            controls=(control.id,),
        )

    return desk.change(command.account, "exempt", command.reason, draw)


def _enrol(desk: Desk, command: Enrol) -> CommandResult:
    if command.account == desk.home:
        return CommandResult(changed=False, says=f"{desk.home} is the home account, which is always enrolled")
    desk.named("enrolling an account")

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.enrolment(command.account)
        if before:
            return (
                f"{command.account} is enrolled since {stamp(before.at)} by {before.by}; nothing was changed"
            )
        after = Enrolment(account=command.account, by=desk.caller.arn, at=now)
        return Wanted(
            type=RecordType.ENROLLED,
            says=f"{command.account} is enrolled; every control there starts at observe",
            after=plain(after),
            enrolment=after,
        )

    return desk.change(command.account, "enrol", command.reason, draw)


def _revoke(desk: Desk, command: Revoke) -> CommandResult:
    desk.named("revoking an exemption")
    control = desk.control(command.control)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.exemption(command.account, control.id, command.resource)
        if before is None:
            message = (
                f"{command.resource} has no exemption from {control.id} in {command.account}; "
                "`redress exemptions` lists them"
            )
            raise RefusedCommandError(message)
        if before.expires_at <= now:
            return f"that exemption ended at {stamp(before.expires_at)}; nothing was changed"
        after = before.model_copy(update={"expires_at": now})
        return Wanted(
            type=RecordType.EXEMPTION_REVOKED,
            says=f"{command.resource} is no longer exempt from {control.id}",
            before=plain(before),
            after=plain(after),
            exemptions=(after,),
            sends=desk.look_for(command.resource, control.id),
            resource=command.resource,
            controls=(control.id,),
        )

    return desk.change(command.account, "revoke", command.reason, draw)


def _redrive(desk: Desk, command: Redrive) -> CommandResult:
    def draw(now: datetime) -> Wanted | str:
        del now
        return Wanted(
            type=RecordType.CONFIG_CHANGED,
            says=f"up to {command.most} messages of the {command.queue} dead-letter queue will be tried again",
            after=plain(command),
            sends=errand.Redrive(queue=command.queue, most=command.most),
        )

    return desk.change(desk.home, "redrive", command.reason, draw)


def _answer(desk: Desk, command: AnswerAsk) -> CommandResult:
    caller = desk.caller
    who = Who(caller.arn, caller.barred("answering"), caller.actor, caller.request_id)
    says, record = answer(command, who, desk.settings, desk.clock, home=desk.home, engine=desk.engine)
    return recorded(record, says)


def _undo(desk: Desk, command: Undo) -> CommandResult:
    desk.named("asking for an undo")
    case = desk.case(command.case)
    if command.run > case.runs:
        had = f"it had {case.runs}" if case.runs else "nothing was changed for it"
        message = f"case {case.id} has no run {command.run}: {had}; `redress case {case.id}` shows them"
        raise RefusedCommandError(message)
    owner = command.owner or case.owner
    if not owner:
        message = f"nobody is known to answer for {case.target.resource}: name an owner with --owner"
        raise RefusedCommandError(message)

    def draw(now: datetime) -> Wanted | str:
        undone = Undone(
            run=command.run,
            by=desk.caller.arn,
            reason=command.reason,
            owner=owner,
            until=now + timedelta(days=command.days),
        )
        return Wanted(
            type=RecordType.REQUESTED,
            says=f"the undo of run {command.run} is planned, and somebody else is asked: see `redress waiting`",
            after=plain(command),
            sends=errand.UndoWanted(case=case.id, undone=undone),
            about=case,
        )

    return desk.change(case.target.account, "undo", command.reason, draw)


def _snooze(desk: Desk, command: Snooze) -> CommandResult:
    desk.named("snoozing a case")
    # One that is exempt may sleep longer; the others have ended for good.
    case = _not_ended(desk.case(command.case), but=CaseState.EXEMPT)
    _of_somebody_else(desk, case)
    account, resource = case.target.account, case.target.resource

    def draw(now: datetime) -> Wanted | str:
        until = now + timedelta(days=command.days)
        stand = {control: desk.settings.exemption(account, control, resource) for control in case.controls}
        granted = tuple(
            Exemption(
                account=account,
                control=control,
                resource=resource,
                owner=desk.caller.arn,
                code=SNOOZE,
                reason=command.reason,
                by=desk.caller.arn,
                at=now,
                expires_at=until,
            )
            for control, before in stand.items()
            if before is None or before.expires_at < until
        )
        if not granted:
            return f"{resource} is exempt for longer than that already; nothing was changed"
        policy = desk.policy()
        if any(_prolongs(policy, stand[one.control], one, now) for one in granted):
            message = (
                f"you snoozed it yourself, and a snooze lasts {LONGEST_SNOOZE.days} days at most: ask somebody else to, "
                "or exempt it, which has an owner"
            )
            raise RefusedCommandError(message)
        replaced = (stand[one.control] for one in granted)
        return Wanted(
            type=RecordType.SNOOZED,
            says=f"{resource} is left alone until {stamp(until)}, for {', '.join(one.control for one in granted)}",
            before=[plain(one) for one in replaced if one],
            after=[plain(one) for one in granted],
            exemptions=granted,
            sends=errand.Look(case=case.id, by=desk.caller.arn, request_id=desk.caller.request_id),
            about=case,
        )

    return desk.change(account, "snooze", command.reason, draw)


def _of_somebody_else(desk: Desk, case: Case) -> None:
    """RefusedCommandError for whoever made the change, or asked for a look at it: by four eyes, neither decides it alone."""
    if case.made_by(desk.mine()):
        message = (
            "who made the change or asked for this look does not have it left alone: ask somebody else, "
            f"and name case {case.id}"
        )
        raise RefusedCommandError(message)


def _prolongs(policy: Policy | None, before: Exemption | None, after: Exemption, now: datetime) -> bool:
    """True when one person's snoozes would be an exemption in pieces: the last is theirs, not long over, and too old."""
    if (
        before is None
        or before.code != SNOOZE
        or principal_of(policy, before.by) != principal_of(policy, after.by)
    ):
        return False
    return now < before.expires_at + LONGEST_SNOOZE and after.expires_at > before.at + LONGEST_SNOOZE


def _take_up(desk: Desk, command: TakeUp) -> CommandResult:
    desk.named("taking up a case")
    case = _not_ended(desk.case(command.case))

    def draw(now: datetime) -> Wanted | str:
        del now
        look = errand.Look(
            case=case.id, by=desk.caller.arn, requested=True, request_id=desk.caller.request_id
        )
        says = (
            f"{case.target.resource} is looked at again, and what its modes permit is done: see `redress case {case.id}`; "
            "whoever asks for a look neither approves what it proposes nor snoozes or exempts the resource"
        )
        return Wanted(type=RecordType.REQUESTED, says=says, after=plain(command), sends=look, about=case)

    return desk.change(case.target.account, "take_up", command.reason, draw)


def _not_ended(case: Case, *, but: CaseState | None = None) -> Case:
    if case.state.ended and case.state is not but:
        message = (
            f"case {case.id} is {case.state.value}: there is nothing to look at until something happens again"
        )
        raise RefusedCommandError(message)
    return case


def _sweep(desk: Desk, command: StartSweep) -> CommandResult:
    account = command.account or desk.home
    desk.enrolled(account)

    def draw(now: datetime) -> Wanted | str:
        del now
        return Wanted(
            type=RecordType.REQUESTED,
            says=f"everything in account {account} is looked at; `redress sweeps` shows how far it is",
            after=plain(command),
            sends=errand.Sweep(account=account, by=desk.caller.arn),
        )

    return desk.change(account, "sweep", command.reason, draw)


def _set_deployment_role(desk: Desk, command: SetDeploymentRole) -> CommandResult:
    desk.named("naming a deployment role")
    if not re.fullmatch(_ROLE.format(account=command.account), command.role_arn):
        message = (
            f"{command.role_arn!r} is no role of account {command.account}: write it as "
            f"arn:aws:iam::{command.account}:role/<name>, with its path if it has one, and without wildcards"
        )
        raise RefusedCommandError(message)
    desk.enrolled(command.account)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.deployment_role(command.account, command.role_arn)
        stands = before if before and not before.removed else None
        if command.remove and not stands:
            return f"{command.role_arn} is no deployment role; nothing was changed"
        if stands and stands.tool == command.tool and not command.remove:
            return f"{command.role_arn} deploys code with {stands.tool} already; nothing was changed"
        after = DeploymentRole(
            account=command.account,
            role_arn=command.role_arn,
            tool=stands.tool if stands and command.remove else command.tool,
            by=desk.caller.arn,
            at=now,
            removed=command.remove,
        )
        says = "is no deployment role any more" if after.removed else f"deploys code with {after.tool}"
        return Wanted(
            type=RecordType.CONFIG_CHANGED,
            says=f"{command.role_arn} {says}",
            before=plain(before),
            after=plain(after),
            deployment_role=after,
            resource=command.role_arn,
        )

    return desk.change(command.account, "deployment_role", command.reason, draw)


_ROLE = r"arn:aws[a-z-]*:iam::{account}:role/([A-Za-z0-9_+=,.@-]{{1,64}}/){{0,8}}[A-Za-z0-9_+=,.@-]{{1,64}}"


def _set_owner(desk: Desk, command: SetOwner) -> CommandResult:
    desk.named("naming who answers for an account")
    desk.enrolled(command.account)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.owner(command.account)
        if before and before.owner == command.owner:
            return f"{command.owner} already answers for account {command.account}; nothing was changed"
        after = Owner(account=command.account, owner=command.owner, by=desk.caller.arn, at=now)
        return Wanted(
            type=RecordType.CONFIG_CHANGED,
            says=f"{command.owner} answers for account {command.account}",
            before=plain(before),
            after=plain(after),
            owner=after,
        )

    return desk.change(command.account, "owner", command.reason, draw)


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
