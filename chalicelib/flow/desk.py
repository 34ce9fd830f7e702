"""The desk: who asks for a command, what carrying one out needs, and the one way in which a change is written.

A change is one transaction: the setting, its record with what it was before and what it is now, the chain's new head, and
the errand that makes the engine see to it.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, parts_of
from chalicelib.domain.control import Control
from chalicelib.domain.errors import RefusedCommandError
from chalicelib.domain.finding import GLOBAL, AccountId, Actor, Model
from chalicelib.domain.kept import Kept
from chalicelib.domain.policy import Policy, names_of, policy_in
from chalicelib.domain.ports import (
    Clock,
    DeploymentRole,
    Enrolment,
    Exemption,
    Freeze,
    ModeSetting,
    Owner,
    SettingChange,
    Settings,
)
from chalicelib.domain.record import Draft, Record, RecordType, seal, system_chain
from chalicelib.flow import errand
from chalicelib.flow.answering import again
from chalicelib.flow.classify import Controls


class Caller(Model):
    """Who asks, as API Gateway or the console's sign-in authenticated it. `known` is false where the session's name is its opener's choice."""

    arn: str
    account: AccountId
    kind: Literal["root", "iam_user", "identity_center", "role_session", "federated_user", "person"]
    role_arn: str | None = None
    session: str | None = None
    request_id: str

    @property
    def known(self) -> bool:
        """True when the ARN names a person; a role's session may call itself anything."""
        return self.kind in {"iam_user", "identity_center", "person"}

    def barred(self, act: str) -> str:
        """Why the caller may not do what is for a named person; empty when the ARN names one."""
        if self.known:
            return ""
        return (
            f"{act} is for a named person, and {self.arn} may be anybody: log in through Identity Center, or as an IAM "
            "user, and try again"
        )

    @property
    def actor(self) -> Actor:
        """The caller as a record shows it, in CloudTrail's words."""
        kinds = {
            "root": "Root",
            "iam_user": "IAMUser",
            "federated_user": "FederatedUser",
            "person": "Person",
        }
        return Actor(
            type=kinds.get(self.kind, "AssumedRole"),
            arn=self.arn,
            role_arn=self.role_arn,
            session=self.session,
        )


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


def person(identity: str, home: str, request_id: str) -> Caller:
    """The caller behind a sign-in to the console, by the identity that the provider vouched for."""
    return Caller(arn=identity, account=home, kind="person", request_id=request_id)


class CommandResult(Model):
    """What became of a command: a sentence, and the record that proves it; no record when nothing was changed."""

    changed: bool
    says: str
    chain: str | None = None
    seq: int | None = None
    record_id: str | None = None
    before: JsonValue = None
    after: JsonValue = None


@dataclass(frozen=True)
class Wanted:
    """One change, ready to be recorded."""

    type: RecordType
    says: str
    before: JsonValue = None
    after: JsonValue = None
    mode: ModeSetting | None = None
    freeze: Freeze | None = None
    exemptions: tuple[Exemption, ...] = ()
    enrolment: Enrolment | None = None
    deployment_role: DeploymentRole | None = None
    owner: Owner | None = None
    breaker: Breaker | None = None
    kept: Kept | None = None
    sends: errand.AnyErrand | None = None
    about: Case | None = None
    resource: str = ""
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Desk:
    """All that carrying out needs, so that each command's own function stays short."""

    caller: Caller
    settings: Settings
    catalog: Controls
    clock: Clock
    home: str
    engine: str

    def named(self, act: str) -> None:
        """RefusedCommandError unless the caller is a named person: what lets us do more has a person behind it."""
        if barred := self.caller.barred(act):
            raise RefusedCommandError(barred)

    def policy(self) -> Policy | None:
        """The policy that stands."""
        return policy_in(self.settings)

    def mine(self) -> frozenset[str]:
        """Everything by which the caller may be called: as the policy's person, under all identities."""
        return names_of(self.policy(), self.caller.arn)

    def control(self, name: str) -> Control:
        """The catalog's entry; RefusedCommandError with the nearest name when there is none."""
        for control in self.catalog.controls:
            if control.id == name:
                return control
        message = f"no control is called {name!r}{did_you_mean(name, self.catalog.controls)}"
        raise RefusedCommandError(message)

    def enrolled(self, account: str) -> None:
        """RefusedCommandError unless we hear from the account."""
        if account != self.home and self.settings.enrolment(account) is None:
            message = (
                f"account {account} is not enrolled, so nothing is heard from it: `redress enrol` it first"
            )
            raise RefusedCommandError(message)

    def look_for(self, resource: str, control: str) -> errand.Exempted:
        """What makes the engine look at the resource's cases, which an exemption or its end concerns at once."""
        return errand.Exempted(resource=resource, control=control, request_id=self.caller.request_id)

    def case(self, name: str) -> Case:
        """The case of that name; RefusedCommandError when there is none."""
        found = parts_of(name)
        case = self.settings.case(*found) if found else None
        if case is None:
            message = f"there is no case {name}; `redress cases` lists them"
            raise RefusedCommandError(message)
        return case

    def change(
        self, account: str, step: str, reason: str, draw: Callable[[datetime], Wanted | str]
    ) -> CommandResult:
        """Read the chain's end, then what stands, then write both or neither; anew when somebody was quicker.

        `draw` looks at what stands and gives the change, or a sentence when there is nothing to change.
        """

        def carried_out() -> CommandResult:
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
                region=wanted.about.target.region if wanted.about else GLOBAL,
                resource=wanted.about.target.resource if wanted.about else wanted.resource,
                controls=wanted.about.controls if wanted.about else wanted.controls,
                actor=self.caller.actor,
                data={
                    "by": {"arn": self.caller.arn, "kind": self.caller.kind, "known": self.caller.known},
                    "reason": reason,
                    "before": wanted.before,
                    "after": wanted.after,
                    **({"case": wanted.about.id} if wanted.about else {}),
                },
            )
            (record,) = seal(chain, head, (draft,), now, self.engine)
            about = wanted.about.id if wanted.about else ""
            change = SettingChange(
                mode=wanted.mode,
                freezes=(wanted.freeze,) if wanted.freeze else (),
                exemptions=wanted.exemptions,
                enrolment=wanted.enrolment,
                deployment_role=wanted.deployment_role,
                owner=wanted.owner,
                breaker=wanted.breaker,
                kept=wanted.kept,
                notices=(errand.notice(wanted.sends, record.record_id, about, now),) if wanted.sends else (),
                record=record,
                expected_head=head,
            )
            self.settings.apply(change)
            return recorded(record, wanted.says, wanted.before, wanted.after)

        busy = (
            f"others are changing the settings of account {account} right now; nothing was changed, try again"
        )
        return again(carried_out, self.clock, busy)


def recorded(record: Record, says: str, before: JsonValue = None, after: JsonValue = None) -> CommandResult:
    return CommandResult(
        changed=True,
        says=says,
        chain=record.chain,
        seq=record.seq,
        record_id=record.record_id,
        before=before,
        after=after,
    )


def plain(model: Model | None) -> dict[str, JsonValue] | None:
    return model.model_dump(mode="json") if model else None


def did_you_mean(name: str, controls: Iterable[Control]) -> str:
    known = {known: control.id for control in controls for known in (control.id, *control.aliases)}
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {known[near[0]]!r}?" if near else "; `redress controls` lists them all"
