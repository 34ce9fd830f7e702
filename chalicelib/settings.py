"""The deployment's settings, read from the environment once. Nobody else reads `os.environ`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

SHORTEST_LEASE = 25
"""Seconds. No write is begun in a lease's last 20 (flow/act.py): a shorter one would never let any begin."""

FIFO = ("notices",)
"""Queues that keep an order, which SQS wants to see at the end of their names."""

LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?(/[!-~]*)?")
"""An address on this very machine: where the emulated AWS and its fakes answer, and nothing of a deployment does."""

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
    people_topic: str = ""
    """The ARN of the topic that mails people; empty where nobody is mailed, as in a simulation."""
    emulated: bool = False
    """True where AWS itself is on loopback: there alone other servers on loopback may be spoken to, without TLS."""
    slack_api: str | None = None
    """The emulated Slack's address; None is Slack's own."""

    @property
    def prefix(self) -> str:
        """What every resource of this deployment is called by."""
        return f"redress-{self.stage}"

    def table(self, name: str) -> str:
        """The full name of one of our tables: cases, control_state, outbox or audit."""
        return f"{self.prefix}-{name.replace('_', '-')}"

    def queue(self, name: str) -> str:
        """The full name of one of our queues: events, commands, undo, notices, one of them with `-dlq`, or outbox-dlq."""
        ending = ".fifo" if name.removesuffix("-dlq") in FIFO else ""
        return f"{self.prefix}-{name}{ending}"

    def role(self, name: str) -> str:
        """The full name of one of our roles: engine, read, act, undo, http, outbox, undoer, notifier."""
        return f"{self.prefix}-{name}"

    def secret(self, name: str) -> str:
        """The full name of one of our secrets: console or notifier."""
        return f"{self.prefix}/{name}"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process; MissingSettingError names what the template should have set."""
    env = os.environ if environment is None else environment
    absent = [name for name in REQUIRED if not env.get(name)]
    if absent:
        message = (
            f"{', '.join(absent)} not set: the function's environment comes from .chalice/resources.yaml"
        )
        raise MissingSettingError(message)
    emulated = LOOPBACK.fullmatch(env.get("AWS_ENDPOINT_URL", "")) is not None
    slack_api = env.get("REDRESS_SLACK_API")
    if slack_api is not None and not (emulated and LOOPBACK.fullmatch(slack_api)):
        message = "REDRESS_SLACK_API is for the emulated AWS alone, and an http address on loopback: our token goes there"
        raise MissingSettingError(message)
    return Settings(
        stage=env["REDRESS_STAGE"],
        account=env["REDRESS_ACCOUNT"],
        region=env["AWS_REGION"],
        limit_per_control=_whole(env, "REDRESS_LIMIT_PER_CONTROL", Settings.limit_per_control),
        limit_per_account=_whole(env, "REDRESS_LIMIT_PER_ACCOUNT", Settings.limit_per_account),
        limit_per_actor=_whole(env, "REDRESS_LIMIT_PER_ACTOR", Settings.limit_per_actor),
        lease_seconds=_whole(env, "REDRESS_LEASE_SECONDS", Settings.lease_seconds, SHORTEST_LEASE),
        people_topic=env.get("REDRESS_PEOPLE_TOPIC", ""),
        emulated=emulated,
        slack_api=slack_api,
    )


def _whole(env: Mapping[str, str], name: str, default: int, least: int = 0) -> int:
    text = env.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        message = f"{name} is {text!r}, but must be a whole number of {least} or more"
        raise MissingSettingError(message)
    return int(text)
