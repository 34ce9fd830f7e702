"""The deployment's settings, read from the environment once. Nobody else reads `os.environ`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

SHORTEST_LEASE = 25
"""Seconds. No write is begun in a lease's last 20 (flow/act.py): a shorter one would never let any begin."""

REQUIRED = ("REDRESS_STAGE", "REDRESS_ACCOUNT", "AWS_REGION")


class MissingSettingError(Exception):
    """A setting is absent or unusable; the message names it and says where it is set."""


@dataclass(frozen=True)
class Settings:
    """Everything that differs between deployments. Names of tables, queues and roles follow from the stage."""

    stage: str
    account: str
    region: str
    limit_per_control: int = 5
    limit_per_account: int = 20
    limit_per_actor: int = 20
    lease_seconds: int = 75
    version: str = "0.1.0"

    @property
    def prefix(self) -> str:
        """What every resource of this deployment is called by."""
        return f"redress-{self.stage}"

    def table(self, name: str) -> str:
        """The full name of one of our tables: cases, control_state, outbox or audit."""
        return f"{self.prefix}-{name.replace('_', '-')}"

    def queue(self, name: str) -> str:
        """The full name of one of our queues: events, commands, undo, one of them with `-dlq`, or outbox-dlq."""
        return f"{self.prefix}-{name}"

    def role(self, name: str) -> str:
        """The full name of one of our roles: engine, read, act, undo, http, outbox, undoer."""
        return f"{self.prefix}-{name}"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; MissingSettingError names what the template should have set."""
    env = os.environ if environment is None else environment
    absent = [name for name in REQUIRED if not env.get(name)]
    if absent:
        message = (
            f"{', '.join(absent)} not set: the function's environment comes from .chalice/resources.yaml"
        )
        raise MissingSettingError(message)
    return Settings(
        stage=env["REDRESS_STAGE"],
        account=env["REDRESS_ACCOUNT"],
        region=env["AWS_REGION"],
        limit_per_control=_whole(env, "REDRESS_LIMIT_PER_CONTROL", 5),
        limit_per_account=_whole(env, "REDRESS_LIMIT_PER_ACCOUNT", 20),
        limit_per_actor=_whole(env, "REDRESS_LIMIT_PER_ACTOR", 20),
        lease_seconds=_whole(env, "REDRESS_LEASE_SECONDS", 75, SHORTEST_LEASE),
    )


def _whole(env: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = env.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        message = f"{name} is {text!r}, but must be a whole number of {least} or more"
        raise MissingSettingError(message)
    return int(text)
