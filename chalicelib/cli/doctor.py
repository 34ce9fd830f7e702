"""Doctor: is this deployment alive and safe? Each check reads a little, and says what to do when it is not well."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Any, get_args

from botocore.exceptions import BotoCoreError, ClientError

import remediations
from chalicelib import catalog
from chalicelib.adapters.told import YES
from chalicelib.cli.ledger import Books
from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import Mode
from chalicelib.domain.errors import RedressError
from chalicelib.domain.finding import Severity
from chalicelib.domain.plural import so_many
from chalicelib.domain.policy import About, Person, Policy, misplaced, usable
from chalicelib.domain.ports import FREEZE_ALL
from chalicelib.domain.record import broken_at, stamp, system_chain
from chalicelib.flow import errand
from chalicelib.flow.breaker import said
from chalicelib.flow.command import SNOOZE
from chalicelib.flow.visit import OWN_ROLES
from chalicelib.settings import Settings

QUIET = timedelta(days=1)
"""So long without a single record is worth a look: enrolled accounts are rarely that still."""

TABLES = ("cases", "control_state", "outbox", "audit")
ENDS_SOON = timedelta(days=14)
"""An exemption that ends within this time is worth a look: what it covers is a violation again afterwards."""

RECENT_MINUTES = 5
"""How old a sign-in may be that approves what is critical."""

UNSWEPT = timedelta(days=2)
"""Two sweeps of a day each: what no event told of would have been found by then."""


class Health(StrEnum):
    """How a check came out; `fail` means that the engine cannot do its work or is not safe."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, what was seen, and what to do."""

    name: str
    health: Health
    says: str


@dataclass(frozen=True)
class Doctor:
    """Looks at one deployment with the operator's own read rights; `client` makes a client for a service."""

    settings: Settings
    client: Callable[[str], Any]
    books: Callable[[], Books]
    now: datetime

    def checks(self) -> Iterator[Check]:
        """Every check in order; one that cannot be made is a warning that names the missing right, not an end."""
        yield from self._try("credentials", self._credentials, missing=Health.FAIL)
        if self._nowhere():
            says = (
                f"{self.settings.prefix} has no tables in account {self.settings.account}, {self.settings.region}: name "
                "another deployment with --stage or AWS_REGION, or make this one: make deploy STAGE="
            )
            yield Check("deployment", Health.FAIL, says + self.settings.stage)
            return
        for table in TABLES:
            yield from self._try(f"table {table}", partial(self._table, table), missing=Health.FAIL)
        yield from self._try("freeze and modes", self._switch, missing=Health.FAIL)
        yield from self._try("settings' records", self._chains, missing=Health.FAIL)
        for queue in get_args(errand.Queue):
            yield from self._try(f"queue {queue}", partial(self._queue, queue), missing=Health.WARN)
        yield from self._try("rules", self._rules, missing=Health.WARN)
        yield from self._try("last record", self._last_record, missing=Health.WARN)
        yield from self._try("asks", self._asks, missing=Health.WARN)
        yield from self._try("news", self._untold, missing=Health.WARN)
        yield from self._try("policy", self._policy, missing=Health.FAIL)
        yield from self._try("exemptions", self._exemptions, missing=Health.WARN)
        yield from self._try("sweeps", self._sweeps, missing=Health.WARN)
        for role in OWN_ROLES:
            yield from self._try(f"role {role}", partial(self._role, role), missing=Health.WARN)

    def _try(self, name: str, look: Callable[[], Iterator[Check]], *, missing: Health) -> Iterator[Check]:
        try:
            yield from look()
        except (BotoCoreError, ClientError, RedressError) as error:
            yield Check(name, missing, f"cannot be looked at: {error}")

    def _credentials(self) -> Iterator[Check]:
        arn = self.client("sts").get_caller_identity()["Arn"]
        yield Check("credentials", Health.OK, f"you are {arn}")

    def _nowhere(self) -> bool:
        """True when not one of the tables exists; what cannot be asked is left to the checks that follow."""
        client = self.client("dynamodb")
        for name in TABLES:
            try:
                client.describe_table(TableName=self.settings.table(name))
            except client.exceptions.ResourceNotFoundException:
                continue
            except (BotoCoreError, ClientError):
                return False
            return False
        return True

    def _table(self, name: str) -> Iterator[Check]:
        full = self.settings.table(name)
        table = self.client("dynamodb").describe_table(TableName=full)["Table"]
        if table["TableStatus"] not in {"ACTIVE", "UPDATING"}:
            yield Check(f"table {name}", Health.FAIL, f"{full} is {table['TableStatus']}; deploy again")
        elif not table.get("DeletionProtectionEnabled"):
            yield Check(
                f"table {name}", Health.WARN, f"{full} can be deleted: turn its deletion protection on"
            )
        else:
            yield Check(f"table {name}", Health.OK, f"{full} is active and protected from deletion")

    def _switch(self) -> Iterator[Check]:
        ledger = self.books().ledger
        modes, freezes = ledger.modes(), ledger.freezes()
        counted = Counter(setting.mode for setting in modes)
        raised = sum(count for mode, count in counted.items() if mode > Mode.OBSERVE)
        by_scope = {freeze.scope: freeze for freeze in freezes}
        everything = by_scope.get(FREEZE_ALL)
        if everything is None and raised:
            says = "the switch of everything is absent though modes are raised, so nothing acts: `redress freeze --off`"
            yield Check("freeze", Health.FAIL, says)
        elif everything is None:
            yield Check("freeze", Health.OK, "not set yet: it is set up when the first control is raised")
        on = [freeze for freeze in freezes if freeze.frozen]
        for freeze in on:
            says = f"{freeze.scope} is frozen since {stamp(freeze.at)} by {freeze.by}: {freeze.reason}"
            yield Check("freeze", Health.WARN, says)
        if everything and not on:
            yield Check("freeze", Health.OK, "nothing is frozen")
        for one in ledger.breakers():
            if one.is_open:
                yield Check(
                    "breaker", Health.WARN, f"{said(one)}; find out why, then `redress reset-breaker`"
                )
        summary = ", ".join(f"{counted[mode]} × {mode.value}" for mode in Mode if counted[mode])
        yield Check("modes", Health.OK, summary or "every control observes everywhere")

    def _chains(self) -> Iterator[Check]:
        books = self.books()
        for account in books.accounts:
            records = books.ledger.system_records(account, self.now)
            pairs = ((record.body, record.hash) for record in records)
            broken = broken_at(pairs, chain=system_chain(account, self.now))
            if broken:
                yield Check("settings' records", Health.FAIL, f"{account}: {broken}; treat this as tampering")
                return
        yield Check("settings' records", Health.OK, "this month's chains hold in every account")

    def _queue(self, name: str) -> Iterator[Check]:
        waiting, dead = self._waiting(name), self._waiting(f"{name}-dlq")
        if dead:
            failed = so_many(dead, "message", "messages")
            says = f"{failed} failed too often; find out why in the log, then `redress redrive {name}`"
            yield Check(f"queue {name}", Health.FAIL, says)
        else:
            yield Check(f"queue {name}", Health.OK, f"{waiting} waiting, none dead")

    def _waiting(self, name: str) -> int:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=self.settings.queue(name))["QueueUrl"]
        asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(asked["Attributes"]["ApproximateNumberOfMessages"])

    def _rules(self) -> Iterator[Check]:
        """The rules that CloudFormation made for this stack, on whichever bus: those whose name is ours."""
        events, rules = self.client("events"), []
        for bus in ("default", self.settings.prefix):
            try:
                pages = events.get_paginator("list_rules").paginate(
                    EventBusName=bus, NamePrefix=self.settings.prefix
                )
                rules += [rule for page in pages for rule in page["Rules"]]
            except events.exceptions.ResourceNotFoundException:
                continue
        off = sorted(rule["Name"] for rule in rules if rule["State"] == "DISABLED")
        if not rules:
            yield Check("rules", Health.FAIL, "no rule brings us events: deploy again")
        elif off:
            yield Check("rules", Health.FAIL, f"switched off: {', '.join(off)}; switch on, or deploy again")
        else:
            yield Check("rules", Health.OK, f"{so_many(len(rules), 'rule', 'rules')}, none disabled")

    def _last_record(self) -> Iterator[Check]:
        books = self.books()
        for account in books.accounts:
            newest = next(iter(books.ledger.records(account, self.now - QUIET, self.now)), None)
            if newest is None:
                says = f"{account}: nothing was heard for a day. Is it new or quiet? Else: is a trail logging there, are its rules enabled?"
                yield Check("last record", Health.WARN, says)
            else:
                yield Check("last record", Health.OK, f"{account} was heard within a day")

    def _asks(self) -> Iterator[Check]:
        ends = sorted(
            case.ask.expires_at for case in self.books().ledger.cases(CaseState.WAITING) if case.ask
        )
        if ends:
            wait = so_many(len(ends), "waits", "wait")
            says = f"{wait} for an answer, the first until {stamp(ends[0])}: `redress waiting`"
            yield Check("asks", Health.WARN, says)
        else:
            yield Check("asks", Health.OK, "nothing waits for an answer")

    def _untold(self) -> Iterator[Check]:
        """What was to be told to somebody, or brought to a ticket system, and did not get there yet."""
        asked = self.client("dynamodb").query(
            TableName=self.settings.table("outbox"),
            IndexName="by_waiting",
            KeyConditionExpression="#waiting = :yes",
            ExpressionAttributeNames={"#waiting": "waiting"},
            ExpressionAttributeValues={":yes": {"S": YES}},
            Select="COUNT",
        )
        if count := int(asked["Count"]):
            untold = so_many(count, "case has", "cases have")
            says = (
                f"{untold} news, or a ticket, on the way to somebody: the page of each says what it waits for"
            )
            yield Check("news", Health.WARN, says)
        else:
            yield Check("news", Health.OK, "nothing waits to be told")

    def _policy(self) -> Iterator[Check]:
        """For each severity in each account: whether there is a rule, and whether its quorum comes about, also without the one who did it."""
        ledger = self.books().ledger
        setting = ledger.policy()
        if setting is None:
            says = "no policy is set: one approval of whoever IAM lets send POST/commands/answer decides; see docs/policy.md"
            yield Check("policy", Health.WARN, says)
            return
        policy = setting.policy
        accounts = self.books().accounts
        together = _asked_together()
        for severity in Severity:
            yield _quorum(policy, severity, accounts, together.get(severity, [()]))
        silent = [severity.value for severity in Severity if not _heard_of(policy, severity, accounts)]
        if silent:
            says = f"no route is for severity {', '.join(silent)}: people hear of those by mail only"
            yield Check("routes", Health.WARN, says)
        for wrong in misplaced(policy):
            yield Check("console", Health.FAIL, f"{wrong}; then `redress set-policy` takes it")
        yield from _gaps(policy, accounts, self.now)

    def _exemptions(self) -> Iterator[Check]:
        lasting = [one for one in self.books().ledger.exemptions() if one.expires_at > self.now]
        soon = [one for one in lasting if one.expires_at <= self.now + ENDS_SOON and one.code != SNOOZE]
        for one in sorted(soon, key=lambda one: one.expires_at):
            says = f"{one.resource} is exempt from {one.control} until {stamp(one.expires_at)} only; ask {one.owner}"
            yield Check("exemptions", Health.WARN, says)
        if not soon:
            stand = so_many(len(lasting), "stands", "stand")
            yield Check("exemptions", Health.OK, f"{stand}, none ends within {ENDS_SOON.days} days")

    def _sweeps(self) -> Iterator[Check]:
        books = self.books()
        newest = {sweep.account: sweep for sweep in books.ledger.sweeps()}
        for account in books.accounts:
            sweep = newest.get(account)
            if sweep is None:
                says = f"{account} was never swept, so what stood there before is not known: `redress sweep --account {account}`"
                yield Check("sweeps", Health.WARN, says)
            elif self.now - sweep.started_at > UNSWEPT:
                by_command = f"`redress sweep --account {account}` sweeps it again"
                do = "is the schedule's rule on?" if account == books.home else by_command
                says = f"{account} was last swept at {stamp(sweep.started_at)}: {do}"
                yield Check("sweeps", Health.WARN, says)
            elif sweep.completed_at is None and not sweep.under_way(self.now):
                says = (
                    f"the sweep of {account} did not end: see `redress sweeps` and the commands' dead letters"
                )
                yield Check("sweeps", Health.WARN, says)
            else:
                yield Check("sweeps", Health.OK, f"{account} was swept at {stamp(sweep.started_at)}")

    def _role(self, name: str) -> Iterator[Check]:
        full = self.settings.role(name)
        trust = self.client("iam").get_role(RoleName=full)["Role"]["AssumeRolePolicyDocument"]
        wide = [
            principal for principal in _principals(trust) if "*" in principal or principal.endswith(":root")
        ]
        if wide:
            yield Check(f"role {name}", Health.FAIL, f"{full} trusts {', '.join(wide)}: deploy again")
        elif all(statement.get("Effect") == "Deny" for statement in trust["Statement"]):
            yield Check(f"role {name}", Health.OK, f"{full} trusts nobody")
        else:
            yield Check(f"role {name}", Health.OK, f"{full} trusts exact principals only")


def _pinned(statement: dict[str, Any]) -> bool:
    """Whether a condition admits named principals alone, whatever `Principal` says."""
    condition = statement.get("Condition", {})
    for operator in ("ArnEquals", "StringEquals"):
        for key, values in condition.get(operator, {}).items():
            named = values if isinstance(values, list) else [values]
            if key.lower() == "aws:principalarn" and named and not any(set("*?") & set(one) for one in named):
                return True
    return False


def _principals(trust: dict[str, Any]) -> Iterator[str]:
    for statement in trust["Statement"]:
        if statement.get("Effect") != "Allow" or _pinned(statement):
            continue
        principal = statement.get("Principal", "*")
        named = principal.values() if isinstance(principal, dict) else [principal]
        for one in named:
            yield from one if isinstance(one, list) else [one]


def _asked_together() -> dict[Severity, list[tuple[str, ...]]]:
    """Which controls may stand in one ask, by severity: those of one remediation. What all of them get, fewer get too."""
    severity_of = {control.id: control.severity for control in catalog.load().controls}
    found: dict[Severity, list[tuple[str, ...]]] = {}
    for remediation in remediations.discover():
        for severity in {severity_of[name] for name in remediation.controls}:
            named = tuple(name for name in remediation.controls if severity_of[name] is severity)
            found.setdefault(severity, []).append(named)
    return found


def _quorum(
    policy: Policy, severity: Severity, accounts: Iterable[str], asked: Iterable[tuple[str, ...]]
) -> Check:
    """The account and the controls of that severity for which a quorum is the hardest to get, and by how much."""
    spare: list[tuple[int, str]] = []
    for account, controls in product(accounts, asked):
        rule = policy.rule(About(severity=severity, account=account, controls=controls))
        if rule is None:
            what = f" {', '.join(controls)}" if controls else ""
            says = f"account {account}: no rule fits{what}, so nobody may approve it and it becomes a ticket"
            return Check(f"quorum {severity.value}", Health.FAIL, says)
        there = sum(usable(policy, rule, one) for one in policy.members(rule.approvers))
        spare.append((there - rule.quorum, f"rule {rule.name} wants {rule.quorum} of {there}"))
    least, says = min(spare)
    if least < 0:
        says += (
            ": too few could approve it, so it becomes a ticket. They need approvers and doors that all of its rules name, "
            "for the console a provider of their identities, for a Slack button the slack_team of theirs"
        )
        return Check(f"quorum {severity.value}", Health.FAIL, says)
    if least == 0:
        says += ": when one of them made the change, nobody is left to approve it"
        return Check(f"quorum {severity.value}", Health.WARN, says)
    return Check(f"quorum {severity.value}", Health.OK, says)


def _known_as(person: Person, begins: str) -> bool:
    return any(one.startswith(begins) for one in person.identities)


def _weak_sign_ins(policy: Policy) -> Iterator[Check]:
    """Rules that let somebody approve what is critical after an old sign-in, or one without a second factor.

    Slack tells of no second factor, so a rule that asks for one would never be met where people sign in there alone.
    """
    told_of = any(one.team is None for one in policy.providers)
    for rule in policy.rules:
        if rule.severities and Severity.CRITICAL not in rule.severities:
            continue
        minutes = rule.login_within_minutes
        old = minutes is None or minutes > RECENT_MINUTES
        lacks = [f"login_within_minutes = {RECENT_MINUTES}"] * old + ["mfa = true"] * (
            told_of and not rule.mfa
        )
        if lacks:
            says = (
                f"rule {rule.name} takes an approval of what is critical without {' and '.join(lacks)}: whoever gets hold of "
                "somebody's session could give it. IAM tells of neither, so such a rule is met on the console alone"
            )
            yield Check("critical sign-ins", Health.WARN, says)


def _heard_of(policy: Policy, severity: Severity, accounts: Iterable[str]) -> bool:
    return all(policy.route(About(severity=severity, account=one, controls=())) for one in accounts)


def _gaps(policy: Policy, accounts: Iterable[str], now: datetime) -> Iterator[Check]:
    """What a policy may leave open without being wrong, and its author may not have noticed."""
    for route in policy.routes:
        if (route.on_call or "").startswith("schedule:") and not policy.on_call(route, now):
            says = f"route {route.name}: {route.on_call} has nobody on call now, so that nobody is mentioned"
            yield Check("on call", Health.WARN, says)
        unheard = [one for one in policy.on_call(route, now) if not _known_as(policy.people[one], "slack:")]
        if unheard:
            says = f"route {route.name}: on call now without a Slack identity, so that no card mentions them: {', '.join(unheard)}"
            yield Check("on call", Health.WARN, says)
        if route.hours and route.hours.short:
            says = (
                f"route {route.name}: its hours are less than one a day, so that asks stay open for weeks or longer; "
                "let them close later with `redress set-policy`"
            )
            yield Check("hours", Health.WARN, says)
    for provider in policy.providers:
        alone = [one for one in provider.amr if one != "mfa"]
        if alone:
            says = (
                f"provider {provider.name}: a sign-in with {', '.join(alone)} counts as one with a second factor, and it may "
                'have been the only one. Unless you know better: amr = ["mfa"], with `redress set-policy`'
            )
            yield Check("second factor", Health.WARN, says)
    yield from _weak_sign_ins(policy)
    speaks = any(one.environments or one.ous for one in (*policy.rules, *policy.routes))
    unsaid = [one for one in accounts if speaks and one not in policy.accounts]
    if unsaid:
        says = f"the policy says nothing of {', '.join(unsaid)}: no rule or route for an environment or unit is for them"
        yield Check("accounts in the policy", Health.WARN, says)
    deciders = policy.members(name for rule in policy.rules for name in rule.approvers)
    unseen = sorted(one for one in deciders if not _known_as(policy.people[one], "arn:"))
    if unseen:
        says = f"no identity in AWS is known of {', '.join(unseen)}: a change that they make is not seen to be theirs"
        yield Check("own changes", Health.WARN, says)
