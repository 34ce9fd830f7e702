"""The composition root: reads the settings, loads catalog and remediations, builds the adapters, hands them to the flow.

What is built here is built once per process and holds nothing of any event, so that a warm function is as clean as a
cold one. Clients are made on first use.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import remediations
from chalicelib import catalog
from chalicelib.adapters.aws import AwsAccounts, own_client, reading_models_once
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb import DynamoCases, DynamoSettings
from chalicelib.adapters.queues import SqsQueues
from chalicelib.adapters.telemetry import Telemetry
from chalicelib.adapters.worker import Worker
from chalicelib.catalog import Catalog
from chalicelib.domain.contract import AnyRemediation
from chalicelib.domain.errors import ContractError, StoreError, UnreachableError
from chalicelib.domain.limits import Limits
from chalicelib.domain.ports import Aws, Cases, Clock
from chalicelib.flow.pipeline import Engine
from chalicelib.flow.visit import Home
from chalicelib.settings import Settings, from_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.adapters.dynamodb import Ledger
    from chalicelib.adapters.notices import Notices
    from chalicelib.adapters.outbox import Outbox
    from chalicelib.adapters.secrets import Secrets
    from chalicelib.adapters.slack import Slack
    from chalicelib.adapters.told import DynamoTold
    from chalicelib.adapters.web import Web
    from chalicelib.domain.delivery import TicketSystem
    from chalicelib.domain.policy import Integration
    from chalicelib.flow.command import AnyCommand
    from chalicelib.flow.desk import Caller, CommandResult


@cache
def engine() -> Worker:
    """The engine behind the queues."""
    settings, clock, sessions = from_environment(), SystemClock(), reading_models_once()
    own = sessions()
    cases = DynamoCases(own_client("dynamodb", settings, lambda: own), settings)
    built = engine_of(settings, cases, AwsAccounts(settings, clock, sessions, lambda: own), clock)
    return Worker(
        engine=built,
        queues=SqsQueues(own_client("sqs", settings, lambda: own)),
        telemetry=Telemetry(),
        queue=settings.queue,
    )


@cache
def undoer() -> Worker:
    """The function behind the undo queue."""
    return engine()


@cache
def outbox() -> "Outbox":
    """The function behind the outbox's stream."""
    from chalicelib.adapters.notices import sending  # noqa: PLC0415 -- the engine's cold start does without it
    from chalicelib.adapters.outbox import Outbox, Policies  # noqa: PLC0415 -- for the same reason

    settings, own = from_environment(), reading_models_once()()
    queues = SqsQueues(own_client("sqs", settings, lambda: own))
    store = DynamoSettings(own_client("dynamodb", settings, lambda: own), settings)
    return Outbox(
        queues=queues,
        telemetry=Telemetry(),
        commands=settings.queue("commands"),
        send=sending(queues, settings.queue("notices")),
        policies=Policies(store.policy, SystemClock()),
        severity_of={control.id: control.severity for control in catalog.load().controls},
    )


@cache
def notifier() -> "Notices":
    """The function behind the notices queue."""
    from chalicelib.adapters.dynamodb import Ledger  # noqa: PLC0415 -- the engine's cold start does without all of these
    from chalicelib.adapters.mail import SnsMail  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.notices import Notices, sending  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.secrets import Secrets  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.slack import Slack  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.tickets import system_of  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.told import DynamoTold  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.web import Web  # noqa: PLC0415 -- for the same reason
    from chalicelib.delivery.office import Office  # noqa: PLC0415 -- for the same reason

    settings, clock, own = from_environment(), SystemClock(), reading_models_once()()
    queues = SqsQueues(own_client("sqs", settings, lambda: own))
    tables = own_client("dynamodb", settings, lambda: own)
    secrets = Secrets(own_client("secretsmanager", settings, lambda: own), settings.secret("notifier"), clock)
    told, web = DynamoTold(tables, settings), Web(allow_loopback=settings.emulated)

    def system(integration: "Integration") -> "TicketSystem":
        credentials = secrets.fields("integrations", integration.name)
        return system_of(integration, credentials, web, own_client("ssm", settings, lambda: own), clock)

    return Notices(
        office=Office(
            told=told,
            desk=told,
            books=Ledger(tables, settings),
            chat=Slack(_token(secrets), settings.slack_api),
            mail=SnsMail(own_client("sns", settings, lambda: own), settings.people_topic),
            system=system,
            send=sending(queues, settings.queue("notices")),
            controls={control.id: control for control in catalog.load().controls},
            remediations={one.id: one for one in remediations.discover()},
            home=settings.account,
            tenant=f"{settings.account}/{settings.stage}",
            clock=clock,
        ),
        queues=queues,
        telemetry=Telemetry(),
    )


def _token(secrets: "Secrets") -> "Callable[[], str]":
    """The bot token, read when it is needed; UnreachableError while nobody has put one there, or it cannot be read.

    Either way Slack is as far away as without a channel, and what is behind what was to be told does not wait for it.
    """

    def token() -> str:
        try:
            found = secrets.texts("slack_token")
        except StoreError as error:
            raise UnreachableError(str(error)) from error
        if not found:
            raise UnreachableError(
                "there is no slack_token in our secret yet: docs/slack.md says how it gets there"
            )
        return found[0]

    return token


@dataclass(frozen=True)
class Front:
    """What the console is built on. `secrets` are its own; `slack` knows who presses a button."""

    settings: Settings
    clock: Clock
    store: DynamoSettings
    books: "Ledger"
    told: "DynamoTold"
    secrets: "Secrets"
    web: "Web"
    slack: "Slack"
    catalog: Catalog
    remediations: tuple[AnyRemediation, ...]
    limits: Limits
    commands: "Commands"


@cache
def front() -> Front:
    """What the pages, the buttons in Slack and the webhooks of ticket systems are built on."""
    from chalicelib.adapters.dynamodb import Ledger  # noqa: PLC0415 -- the engine's cold start does without all of these
    from chalicelib.adapters.secrets import Secrets  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.slack import Slack  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.told import DynamoTold  # noqa: PLC0415 -- for the same reason
    from chalicelib.adapters.web import Web  # noqa: PLC0415 -- for the same reason

    settings, clock, own = from_environment(), SystemClock(), reading_models_once()()
    tables = own_client("dynamodb", settings, lambda: own)
    secrets = Secrets(own_client("secretsmanager", settings, lambda: own), settings.secret("console"), clock)
    return Front(
        settings=settings,
        clock=clock,
        store=DynamoSettings(tables, settings),
        books=Ledger(tables, settings),
        told=DynamoTold(tables, settings),
        secrets=secrets,
        web=Web(allow_loopback=settings.emulated),
        slack=Slack(_token(secrets), settings.slack_api),
        catalog=catalog.load(),
        remediations=tuple(remediations.discover()),
        limits=_limits(settings),
        commands=commands(),
    )


class Commands:
    """What the commands route calls: one command of one authenticated caller, carried out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        own = reading_models_once()()
        self._store = DynamoSettings(own_client("dynamodb", settings, lambda: own), settings)
        self._catalog = catalog.load()

    @property
    def stage(self) -> str:
        """Which deployment this is."""
        return self._settings.stage

    def refused(self, kind: str, why: str, caller: "Caller") -> None:
        """Put on record that a command of that kind could not be read."""
        from chalicelib.flow.command import refuse  # noqa: PLC0415 -- the engine's cold start does without it

        home, version = self._settings.account, self._settings.version
        refuse(self._store, SystemClock(), caller, {"kind": kind}, why, home=home, engine=version)

    def __call__(self, command: "AnyCommand", caller: "Caller") -> "CommandResult":
        """The command's result, or RefusedCommandError."""
        from chalicelib.flow.command import carry_out  # noqa: PLC0415 -- the engine's cold start does without it

        return carry_out(
            command,
            caller,
            self._store,
            self._catalog,
            SystemClock(),
            home=self._settings.account,
            engine=self._settings.version,
        )


@cache
def commands() -> Commands:
    """The commands route's other half."""
    return Commands(from_environment())


def engine_of(settings: Settings, cases: Cases, aws: Aws, clock: Clock) -> Engine:
    """An engine on the given ports: the deployed one, a test's, or a simulation's."""
    loaded = catalog.load()
    return Engine(
        home=Home(
            account=settings.account,
            region=settings.region,
            prefix=settings.prefix,
            version=settings.version,
            lease=timedelta(seconds=settings.lease_seconds),
            limits=_limits(settings),
        ),
        controls=MappingProxyType({control.id: control for control in loaded.controls}),
        catalog=loaded,
        remediations=MappingProxyType(by_control(remediations.discover(), loaded)),
        cases=cases,
        aws=aws,
        clock=clock,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        per_control=settings.limit_per_control,
        per_account=settings.limit_per_account,
        per_actor=settings.limit_per_actor,
    )


def by_control(found: tuple[AnyRemediation, ...], loaded: Catalog) -> dict[str, AnyRemediation]:
    """The remediation of each control; ContractError when one names an unknown control, or two name the same."""
    known = {control.id for control in loaded.controls}
    covered: dict[str, AnyRemediation] = {}
    for remediation in found:
        for control in remediation.controls:
            if control not in known:
                raise ContractError(
                    f"{remediation.id} names the control {control}, which the catalog does not have"
                )
            if control in covered:
                raise ContractError(f"{control} is claimed by {covered[control].id} and by {remediation.id}")
            covered[control] = remediation
    return covered
