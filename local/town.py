"""The people and firms around a deployment: a Slack, a sign-in provider and ticket systems on loopback, and the policy."""

import secrets
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from chalicelib.domain.policy import Policy, PolicySetting
from chalicelib.flow.governing import SetPolicy, digest_of
from local.emulator.world import WorldError
from local.fakes.oidc import FakeOidc
from local.fakes.slack import TEAM, FakeSlack, Message
from local.fakes.tickets import CREDENTIALS, PROJECTS, FakeTickets
from local.stage import Stage

CLIENT = "redress"
HOOK_SECRET = "a-hook-secret-of-the-emulated-world"
"""With which Jira signs what it sends of its own accord."""

SECURITY, EVERYDAY = "C0SECURITY1", "C0EVERYDAY1"
PEOPLE = {
    "anna": ("Anna Approver", "anna-approver", "U0ANNA0001", ("approver",)),
    "bert": ("Bert Builder", "", "U0BERT0001", ("approver",)),
    "olga": ("Olga Operator", "olga-operator", "U0OLGA0001", ("approver", "operator")),
    "dave": ("Dave Developer", "dave-developer", "U0DAVE0001", ("viewer", "approver")),
    "vera": ("Vera Viewer", "", "U0VERA0001", ("viewer",)),
    "ada": ("Ada Auditor", "", "U0ADA00001", ("auditor",)),
}
"""By the policy's name: how they are called, their IAM user, their Slack user, their roles."""


class Town:
    """Fakes that answer as the real ones do, on loopback. Entered before the stage, whose functions are told where Slack is."""

    def __init__(self, slack_port: int = 0, sign_in_port: int = 0, tickets_port: int = 0) -> None:
        self._stack = ExitStack()
        self._ports = (slack_port, sign_in_port, tickets_port)

    def __enter__(self) -> Self:
        slack, sign_in, tickets = self._ports
        self.slack = self._stack.enter_context(FakeSlack(slack))
        self.sign_in = self._stack.enter_context(FakeOidc(sign_in, slack=True))
        self.tickets = self._stack.enter_context(FakeTickets(tickets))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the emulated AWS hands its functions on."""
        return {"REDRESS_SLACK_API": self.slack.api}

    def settle(self, stage: Stage, **changes: Any) -> Policy:  # noqa: ANN401 -- fields of the policy, as TOML has them
        """Everybody is known everywhere: in Slack, at the provider, in both secrets, and in the policy that olga sets."""
        for channel, name in ((SECURITY, "security"), (EVERYDAY, "everyday")):
            self.slack.add_channel(channel, name)
        for name, _, user, _ in PEOPLE.values():
            self.slack.add_user(user, name)
            self.sign_in.add_person(user, name, f"{name.split()[0].lower()}@example.com", team=TEAM, mfa=True)
        client_secret = secrets.token_hex(16)
        self.slack.interactions_url = f"{stage.api}/slack/interactions"
        self.sign_in.add_client(CLIENT, client_secret, [f"{stage.api}/login/return"])
        stage.world.secret(
            stage.settings.secret("console"),
            {
                "session_keys": [secrets.token_hex(32)],
                "providers": {"slack": client_secret},
                "slack_signing": [self.slack.signing_secret],
                "slack_token": self.slack.token,
                "hooks": {"jira": HOOK_SECRET},
            },
        )
        stage.world.secret(
            stage.settings.secret("notifier"),
            {
                "slack_token": self.slack.token,
                "integrations": {name: dict(one) for name, one in CREDENTIALS.items()},
            },
        )
        return self.rule(stage, "the town moves in", **changes)

    def rule(self, stage: Stage, reason: str, **changes: Any) -> Policy:  # noqa: ANN401 -- fields of the policy, as TOML has them
        """The policy with these changes and no others stands from now on, set by olga."""
        policy = self.policy(stage, **changes)
        stands = stage.ledger.policy()
        replaces = digest_of(stands.policy) if isinstance(stands, PolicySetting) else ""
        stage.command(SetPolicy(policy=policy, replaces=replaces, reason=reason))
        return policy

    def cards(self, channel: str, about: str) -> list[Message]:
        """The channel's cards of a case or a resource, oldest first; replies and digests are none."""
        found = (one for one in self.slack.messages(channel) if one.thread is None)
        return [one for one in found if about in one.shown and "\nCase " in one.shown]

    def thread(self, card: Message) -> list[str]:
        """What was replied to a card, in order."""
        return [one.text for one in self.slack.messages(card.channel) if one.thread == card.ts]

    def await_card(self, stage: Stage, channel: str, about: str, seconds: float = 25.0) -> Message:
        """The newest message about that in the channel, once there is one, which changes as it is edited."""
        try:
            stage.world.wait_for(lambda: self.cards(channel, about), seconds)
        except WorldError as error:
            there = "\n".join(f"{one.ts} {one.text[:200]}" for one in self.slack.messages(channel))
            raise WorldError(
                f"no card about {about} in {channel}. What is there:\n{there}\n{error}"
            ) from error
        return self.cards(channel, about)[-1]

    def policy(self, stage: Stage, **changes: Any) -> Policy:  # noqa: ANN401 -- fields of the policy, as TOML has them
        """Two approve what is critical; low and medium may be answered by a button; every ticket goes to Jira too."""
        account = stage.world.account
        document: dict[str, Any] = {
            "console_url": stage.api,
            "slack_team": TEAM,
            "people": {
                name: {
                    "name": called,
                    "email": f"{name}@example.com",
                    "roles": list(roles),
                    "identities": [
                        *([f"arn:aws:iam::{account}:user/{user}"] if user else []),
                        f"slack:{TEAM}/{slack}",
                    ],
                }
                for name, (called, user, slack, roles) in PEOPLE.items()
            },
            "groups": {"security": ["anna", "bert", "olga", "dave"]},
            "accounts": {account: {"name": "playground", "environment": "test"}},
            "rules": [
                {
                    "name": "critical",
                    "severities": ["critical"],
                    "approvers": ["group:security"],
                    "quorum": 2,
                },
                {"name": "high", "severities": ["high"], "approvers": ["group:security"]},
                {
                    "name": "everyday",
                    "severities": ["low", "medium"],
                    "approvers": ["group:security"],
                    "doors": ["cli", "console", "slack"],
                },
            ],
            "routes": [
                {
                    "name": "on-call",
                    "severities": ["high", "critical"],
                    "channel": SECURITY,
                    "fallback": EVERYDAY,
                },
                {"name": "everyday", "channel": EVERYDAY},
            ],
            "providers": [
                {
                    "name": "slack",
                    "title": "Slack",
                    "issuer": self.sign_in.issuer,
                    "client_id": CLIENT,
                    "team": TEAM,
                }
            ],
            "integrations": [
                {"name": "jira", "system": "jira", "at": self.tickets.at("jira"), "project": PROJECTS["jira"]}
            ],
            "break_glass": ["olga"],
            **changes,
        }
        return Policy.model_validate(document, strict=False)
