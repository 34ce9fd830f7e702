"""Governing: the policy, set whole, and the outside auditors who are let in for a time."""

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from chalicelib.domain.contract import canonical
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.finding import GLOBAL, AccountId, Actor, Model
from chalicelib.domain.plural import so_many
from chalicelib.domain.policy import (
    LONGEST_ENGAGEMENT,
    Engagement,
    Identity,
    Name,
    Policy,
    PolicySetting,
    misplaced,
    unopened,
)
from chalicelib.domain.ports import Clock
from chalicelib.domain.record import Draft, Head, RecordType, seal, stamp
from chalicelib.flow.answering import Line, Notes, put_on_record
from chalicelib.flow.desk import CommandResult, Desk, Wanted, plain


class SetPolicy(Model):
    """This policy, whole, in place of the one whose digest is `replaces` (empty: of none)."""

    kind: Literal["policy"] = "policy"
    policy: Policy
    replaces: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""
    reason: Line


class Invite(Model):
    """Let an outside auditor look, and do nothing else: one identity, these accounts (none: all), for some days."""

    kind: Literal["invite"] = "invite"
    id: Name
    name: Line
    identity: Identity
    accounts: tuple[AccountId, ...] = ()
    days: int = Field(ge=1, le=LONGEST_ENGAGEMENT.days)
    reason: Line


class Uninvite(Model):
    """The auditor's invitation ends now."""

    kind: Literal["uninvite"] = "uninvite"
    id: Name
    reason: Line


def digest_of(policy: Policy) -> str:
    """SHA-256 (hex) over the policy's canonical JSON: its name, when somebody replaces it."""
    return hashlib.sha256(canonical(policy.model_dump(mode="json")).encode()).hexdigest()


def set_policy(desk: Desk, command: SetPolicy) -> CommandResult:
    desk.named("setting the policy")
    short = [route.name for route in command.policy.routes if route.hours and route.hours.short]
    if short:
        message = (
            f"business is open for less than an hour a day in the hours of route {', '.join(short)}, so that what "
            "lasts hours would stay open for weeks: let `closes` be an hour or more after `opens`"
        )
        raise RefusedCommandError(message)
    if wrong := [*misplaced(command.policy), *unopened(command.policy)]:
        raise RefusedCommandError("; ".join(wrong))

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.policy()
        stands = digest_of(before.policy) if before else ""
        if before and stands == digest_of(command.policy):
            return f"that policy stands since {stamp(before.at)}; nothing was changed"
        if stands != command.replaces:
            who = (
                f"{before.by} set another one at {stamp(before.at)}" if before else "there is none to replace"
            )
            message = f"the policy that stands is not the one you replace: {who}. Look at it first: `redress policy`"
            raise RefusedCommandError(message)
        after = PolicySetting(policy=command.policy, by=desk.caller.arn, at=now, reason=command.reason)
        return Wanted(
            type=RecordType.CONFIG_CHANGED,
            says=f"the policy is set: {so_many(len(command.policy.people), 'person', 'people')}, "
            f"{so_many(len(command.policy.rules), 'rule', 'rules')}",
            before=plain(before),
            after=plain(after),
            kept=after,
        )

    return desk.change(desk.home, "policy", command.reason, draw)


def invite(desk: Desk, command: Invite) -> CommandResult:
    desk.named("inviting an auditor")
    policy = desk.policy()
    if policy and policy.who(command.identity):
        message = f"{command.identity} is {policy.who(command.identity)}, who is in the policy and no outside auditor"
        raise RefusedCommandError(message)

    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.engagement(command.id)
        if before and before.identity != command.identity:
            message = f"the invitation {command.id} is another auditor's ({before.name}): choose another id"
            raise RefusedCommandError(message)
        after = Engagement(
            id=command.id,
            name=command.name,
            identity=command.identity,
            accounts=command.accounts,
            by=desk.caller.arn,
            at=now,
            until=now + timedelta(days=command.days),
            reason=command.reason,
        )
        return Wanted(
            type=RecordType.INVITED,
            says=f"{command.name} may look until {stamp(after.until)}, and every look is on record",
            before=plain(before),
            after=plain(after),
            kept=after,
        )

    return desk.change(desk.home, "invite", command.reason, draw)


def uninvite(desk: Desk, command: Uninvite) -> CommandResult:
    def draw(now: datetime) -> Wanted | str:
        before = desk.settings.engagement(command.id)
        if before is None:
            message = f"there is no invitation {command.id}; `redress invitations` lists them"
            raise RefusedCommandError(message)
        if before.revoked or before.until <= now:
            return (
                f"that invitation is over already, since {stamp(min(before.until, now))}; nothing was changed"
            )
        after = before.model_copy(update={"revoked": True, "until": now})
        return Wanted(
            type=RecordType.UNINVITED,
            says=f"{before.name} may look no longer",
            before=plain(before),
            after=plain(after),
            kept=after,
        )

    return desk.change(desk.home, "uninvite", command.reason, draw)


def viewed(
    notes: Notes, clock: Clock, identity: str, path: str, request_id: str, *, home: str, engine: str
) -> None:
    """Put on record that an auditor looked at a page: a chain of one record; StoreError, and no page, when it cannot be."""
    now = clock.now()
    draft = Draft(
        type=RecordType.VIEWED,
        source_id=f"view:{request_id}",
        step="viewed",
        occurred_at=now,
        account=home,
        region=GLOBAL,
        actor=Actor(type="Person", arn=identity),
        data={"path": path},
    )
    (record,) = seal(f"SYS#VIEW#{request_id}", Head(), (draft,), now, engine)
    put_on_record(notes, record)
