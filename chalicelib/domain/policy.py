"""The policy: who may decide what, through which door, with how many others, and where people hear of it.

It is one document, set whole by one recorded command, and read by whoever takes an answer and again by the engine that
goes by it. Until one is set, IAM alone says who may answer: through the commands route, one approval, no other door.
A policy that cannot be read approves nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Protocol, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, field_validator, model_validator

from chalicelib.domain.approval import Answer, Answers, Ask, Door, called, named, principal
from chalicelib.domain.finding import AccountId, Model, Severity
from chalicelib.domain.kept import Kept


def _written(pattern: str, words: str) -> AfterValidator:
    """Takes only text of this form, and says in words what the form is."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            message = f"must be {words}"
            raise ValueError(message)
        return text

    return AfterValidator(check)


Name = Annotated[
    str,
    _written(
        "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
        "up to 40 lower-case letters, digits and hyphens, with no hyphen at either end",
    ),
]
"""How people, groups, routes and schedules are called inside the policy."""

Identity = Annotated[
    str,
    _written(
        r"(arn:aws[a-z-]*:(iam|sts):|(oidc|email):(https://|http://(127\.0\.0\.1|localhost)[:/#])|slack:[TE])"
        r"[\x21-\x7e]{1,500}",
        "oidc:<issuer>#<sub>, email:<issuer>#<address>, slack:<team>/<user> or the ARN of an IAM user or of an Identity "
        "Center session, where an issuer is its https:// address",
    ),
]
"""How somebody is known from outside, as a front door authenticates it:

`arn:aws:iam::111122223333:user/anna`, an Identity Center session's ARN, `oidc:<issuer>#<sub>`, `email:<issuer>#<address>`
where that issuer vouches for the address, or `slack:<team>/<user>`, which a signed button and Sign in with Slack share.
"""

Url = Annotated[
    str,
    _written(
        r"(https://[a-z0-9.-]+|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?(/[\x21-\x7e]*)?",
        "an https:// address, its host in lower case",
    ),
]
"""HTTPS, or plain HTTP on this very machine, as the emulated world has it."""

Channel = Annotated[str, _written("[CGD][A-Z0-9]{6,20}", "a Slack channel's id, as C0123456789")]
"""A Slack channel by its id. Names change hands."""

Team = Annotated[str, _written("[TE][A-Z0-9]{6,20}", "a Slack workspace's id, as T0123456789")]
"""A Slack workspace, or an enterprise of several, by its id."""

_PLACE = re.compile(
    r"(?P<scheme>https?)://[^/:]+(:(?P<port>[1-9][0-9]*))?(/(?!\.{1,2}(/|$))[\w.~$+!*'()-]+)*", re.ASCII
)
"""Origin and path, as browsers write them, but for ports that are the scheme's own or none."""

_OWN_PORT = MappingProxyType({"https": 443, "http": 80})
_MOST_PORT = 65535

WEAK_DOORS = frozenset({Door.SLACK})
"""Doors that say less about who stands before them: a Slack account without our sign-in."""

STRICT = frozenset({Severity.HIGH, Severity.CRITICAL})
"""Severities that no weak door decides, and that do not wait for business hours."""

_PLAIN = re.compile(r"[\x21-\x7e]+")

LONGEST_ENGAGEMENT = timedelta(days=90)
SHORTEST_HOURS = timedelta(hours=1)
"""Of a business day that somebody sets: with less, what lasts hours would end after years."""
GROUP = "group:"
SLACK_ISSUER = "https://slack.com"
DIGEST_HOUR = 8
"""The hour of the digest while no policy says another one, UTC."""


class Role(StrEnum):
    """What somebody may do in the console: look, look with every view on record, decide, or set things."""

    VIEWER = "viewer"
    AUDITOR = "auditor"
    APPROVER = "approver"
    OPERATOR = "operator"


class Person(Model):
    """One person, under all the identities that mean this person. `accounts` limits what they see; empty is everything."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    email: Annotated[str, StringConstraints(max_length=254)] = ""
    identities: tuple[Identity, ...] = Field(min_length=1)
    roles: tuple[Role, ...] = (Role.VIEWER,)
    accounts: tuple[AccountId, ...] = ()


class AccountFacts(Model):
    """What the policy says of an account, for rules and routes to speak of."""

    name: str = ""
    environment: str = ""
    ou: str = ""


class About(Model):
    """What is to be decided or told of, as far as rules and routes ask."""

    severity: Severity
    account: AccountId
    controls: tuple[str, ...]
    owner: str = ""


class Scope(Model):
    """What a rule or a route is for. An empty field means any; all that are given must fit."""

    severities: tuple[Severity, ...] = ()
    accounts: tuple[AccountId, ...] = ()
    environments: tuple[str, ...] = ()
    ous: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


class Rule(Scope):
    """Who approves what fits the scope: how many of `approvers` (people, or `group:<name>`), through which doors.

    `login_within_minutes` and `mfa` ask for a recent sign-in and a second factor, as the identity provider tells of them.
    """

    name: Name
    approvers: tuple[str, ...] = Field(min_length=1)
    quorum: int = Field(default=1, ge=1, le=10)
    doors: tuple[Door, ...] = (Door.CLI, Door.CONSOLE)
    mfa: bool = False
    login_within_minutes: int | None = Field(default=None, ge=1, le=60)
    expires_after_hours: int = Field(default=8, ge=1, le=72)

    @model_validator(mode="after")
    def _owners_are_not_asked(self) -> Self:
        if self.owners:
            message = (
                f"{self.name}: whoever changes a resource may choose its owner tag, so no rule goes by owners"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _weak_doors_decide_little(self) -> Self:
        if WEAK_DOORS & {*self.doors} and (not self.severities or STRICT & {*self.severities}):
            message = (
                f"{self.name}: a Slack button decides low and medium severity only; name those severities"
            )
            raise ValueError(message)
        return self


class Hours(Model):
    """Business hours in a time zone. `days` counts Monday as 0; `opens` before `closes`, the same day."""

    timezone: str
    days: tuple[Annotated[int, Field(ge=0, le=6)], ...] = (0, 1, 2, 3, 4)
    opens: time = time(9)
    closes: time = time(17)
    holidays: tuple[date, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as unknown:
            message = f"{name!r} is no time zone of the IANA database, as Europe/Berlin is"
            raise ValueError(message) from unknown
        return name

    @model_validator(mode="after")
    def _some_hours(self) -> Self:
        if not self.days or self.opens >= self.closes:
            message = "business hours open on some day, and before they close"
            raise ValueError(message)
        return self

    @property
    def short(self) -> bool:
        """True with less than an hour a day: nobody may set that, and what was set before is read all the same."""
        opens, closes = (datetime.combine(date.min, at) for at in (self.opens, self.closes))
        return closes - opens < SHORTEST_HOURS


class Shift(Model):
    """Who is on call from when until when."""

    starts: AwareDatetime
    ends: AwareDatetime
    people: tuple[str, ...] = Field(min_length=1)


class Route(Scope):
    """Where people hear of what fits the scope: a channel, and another one when that cannot be reached.

    With `hours`, asks of low and medium severity are sent and expire in business hours. `on_call` is whom high and
    critical ones mention: a Slack user group (`slack:S…`) or a schedule of the policy (`schedule:<name>`).
    """

    name: Name
    channel: Channel
    fallback: Channel | None = None
    hours: Hours | None = None
    on_call: (
        Annotated[
            str,
            _written(
                "slack:S[A-Z0-9]{6,20}|schedule:[a-z0-9-]{1,40}",
                "slack:<id of a Slack user group>, or schedule:<name of a schedule>",
            ),
        ]
        | None
    ) = None


class Provider(Model):
    """An OpenID Connect provider that people sign in with. Its client secret lies in the console's secret, under `name`.

    `team` is Slack's: only that workspace. `amr` are the authentication methods that count as a second factor: of those that
    RFC 8176 names, only `mfa` says that there were several; `otp` or `hwk` may have been the only one.
    """

    name: Name
    title: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    issuer: Url
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    team: Team | None = None
    amr: tuple[str, ...] = ("mfa",)


class Integration(Scope):
    """A ticket system that what fits the scope is brought to, besides our own. Its credentials lie in the notifier's secret.

    `at` is its base URL (GitHub: the API's; OpsCenter: none), `project` the Jira project, GitHub `owner/repository`, or
    ServiceNow table. `options` are the system's own: issue type, assignment group, states, a receiver's host.
    """

    name: Name
    system: Literal["jira", "servicenow", "github", "opscenter", "webhook"]
    at: Url | None = None
    project: Annotated[str, StringConstraints(max_length=200)] = ""
    options: dict[str, str] = Field(default_factory=dict)


class Policy(Model):
    """The whole document. Rules and routes are tried in order: of routes the first that fits counts, of rules that for each control."""

    people: dict[Name, Person]
    console_url: Url | None = None
    """Where the console is, with the API's stage in its path and no slash at the end: a request's own word is not taken for it."""
    groups: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    accounts: dict[AccountId, AccountFacts] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = Field(min_length=1)
    routes: tuple[Route, ...] = ()
    schedules: dict[Name, tuple[Shift, ...]] = Field(default_factory=dict)
    providers: tuple[Provider, ...] = ()
    integrations: tuple[Integration, ...] = ()
    break_glass: tuple[str, ...] = ()
    slack_team: Team | None = None
    digest_hour: int = Field(default=DIGEST_HOUR, ge=0, le=23)
    """The hour of the day, UTC, of the daily digest."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        wrong = [
            *_unknown_names(self),
            *_names_given_twice(self),
            *_shared_identities(self),
            *_unreachable_quorums(self),
            *_rules_that_never_count(self),
            *_foreign_slacks(self),
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def fits(self, scope: Scope, about: About) -> bool:
        """True when everything that the scope names fits."""
        facts = self.accounts.get(about.account, AccountFacts())
        asked: tuple[tuple[tuple[str, ...], frozenset[str]], ...] = (
            (scope.severities, frozenset({about.severity.value})),
            (scope.accounts, frozenset({about.account})),
            (scope.environments, frozenset({facts.environment})),
            (scope.ous, frozenset({facts.ou})),
            (scope.controls, frozenset(about.controls)),
            (scope.owners, frozenset({about.owner})),
        )
        return all(not wanted or {*wanted} & given for wanted, given in asked)

    def rule(self, about: About) -> Rule | None:
        """The first rule that fits; of several controls, all that their first rules ask for together.

        None means that nobody may approve it: no rule is for it, or for one of its controls.
        """
        firsts = self.firsts(about)
        return self._together(firsts) if firsts else None

    def firsts(self, about: About) -> tuple[Rule, ...]:
        """The first rule for each control, each rule once; none at all when one of the controls has none."""
        each = [about.model_copy(update={"controls": (one,)}) for one in about.controls] or [about]
        firsts = [next((rule for rule in self.rules if self.fits(rule, one)), None) for one in each]
        found = {rule.name: rule for rule in firsts if rule}
        return () if None in firsts else tuple(found.values())

    def _together(self, rules: tuple[Rule, ...]) -> Rule:
        """What satisfies each of these rules: else breaking a second control would be a way around the first one's rule."""
        first = rules[0]
        if len(rules) == 1:
            return first
        each = [self.members(rule.approvers) for rule in rules]
        people = sorted(person for person in each[0] if all(person in named for named in each))
        within = [rule.login_within_minutes for rule in rules if rule.login_within_minutes]
        return first.model_copy(
            update={
                "name": " + ".join(rule.name for rule in rules),
                "approvers": tuple(people),
                "quorum": max(rule.quorum for rule in rules),
                "doors": tuple(door for door in first.doors if all(door in rule.doors for rule in rules)),
                "mfa": any(rule.mfa for rule in rules),
                "login_within_minutes": min(within, default=None),
                "expires_after_hours": min(rule.expires_after_hours for rule in rules),
            }
        )

    def route(self, about: About) -> Route | None:
        """The first route that fits, if any."""
        return next((route for route in self.routes if self.fits(route, about)), None)

    def members(self, names: Iterable[str]) -> frozenset[str]:
        """The people behind names of people and `group:<name>`."""
        found: set[str] = set()
        for name in names:
            found |= {*self.groups[name.removeprefix(GROUP)]} if name.startswith(GROUP) else {name}
        return frozenset(found)

    def who(self, identity: str) -> str | None:
        """The id of the person who has that identity, or None when the policy knows nobody by it.

        One with spaces or other characters than ASCII's is nobody's: folding it would make a look-alike the person.
        """
        return next(
            (
                person
                for person, known in self.people.items()
                if any(same(identity, one) for one in known.identities)
            ),
            None,
        )

    def person(self, name: str) -> str | None:
        """The id of the one whom people mean by that: an id, a name, a mail address or an identity; None when nobody is sure."""
        meant = [one for one in self.people if called(name) in self.names(one)]
        known = name if name in self.people else self.who(name)
        return known or (meant[0] if len(meant) == 1 else None)

    def names(self, person: str) -> frozenset[str]:
        """Everything by which the person may be on record: every identity, name and mail address."""
        known = self.people[person]
        mails = {one.rpartition("#")[2] for one in known.identities if one.startswith("email:")}
        spoken = {called(one) for one in (person, known.name, known.email, *mails) if one}
        return frozenset(
            {f"person:{person}", *spoken, *(name for one in known.identities for name in named(one))}
        )

    def on_call(self, route: Route, at: datetime) -> tuple[str, ...]:
        """The people whom the route's schedule has on call at that time; none where a Slack user group is meant."""
        name = (route.on_call or "").removeprefix("schedule:")
        shifts = self.schedules.get(name, ())
        return tuple(
            sorted({one for shift in shifts if shift.starts <= at < shift.ends for one in shift.people})
        )


def same(identity: str, known: Identity) -> bool:
    """True when somebody who comes as `identity` is whom the policy, or an invitation, knows as `known`."""
    return _PLAIN.fullmatch(identity) is not None and principal(identity) == principal(known)


class PolicySetting(Kept):
    """The policy that stands, who set it and when."""

    KIND: ClassVar[str] = "POLICY"

    policy: Policy
    by: str
    at: datetime
    reason: str


class Holder(Protocol):
    """Where the policy is kept."""

    def policy(self) -> PolicySetting | None:
        """What was set last; None before anybody set one."""
        ...


def policy_in(store: Holder) -> Policy | None:
    """The policy that stands; StoreError when it cannot be read."""
    setting = store.policy()
    return setting.policy if setting else None


class Engagement(Kept):
    """An outside auditor's invitation: read-only, for these accounts (empty: all), until a day within 90, by one identity."""

    KIND: ClassVar[str] = "ENGAGEMENT"

    id: Name
    name: str
    identity: Identity
    accounts: tuple[AccountId, ...] = ()
    by: str
    at: datetime
    until: AwareDatetime
    reason: str
    revoked: bool = False

    @property
    def its_name(self) -> str:
        """The invitation's short name."""
        return self.id

    def lets_in(self, identity: str, now: datetime) -> bool:
        """True when it invites whoever has that identity, and is in force."""
        return not self.revoked and self.at <= now < self.until and same(identity, self.identity)


def _unknown_names(policy: Policy) -> Iterable[str]:
    """Every name that stands for nobody."""
    groups = {f"{GROUP}{name}" for name in policy.groups}
    for name, members in policy.groups.items():
        yield from (f"group {name}: nobody is called {one!r}" for one in members if one not in policy.people)
    for rule in policy.rules:
        for one in rule.approvers:
            if one not in policy.people and one not in groups:
                yield f"rule {rule.name}: {one!r} is neither a person nor a group"
    yield from (
        f"break_glass: nobody is called {one!r}" for one in policy.break_glass if one not in policy.people
    )
    for name, shifts in policy.schedules.items():
        for one in {one for shift in shifts for one in shift.people} - {*policy.people}:
            yield f"schedule {name}: nobody is called {one!r}"
    for route in policy.routes:
        if route.on_call and route.on_call.startswith("schedule:"):
            schedule = route.on_call.removeprefix("schedule:")
            if schedule not in policy.schedules:
                yield f"route {route.name}: there is no schedule {schedule!r}"


def _names_given_twice(policy: Policy) -> Iterable[str]:
    """A rule's name stands in records, a provider's and an integration's leads to its secret: each means one thing."""
    kinds: tuple[tuple[str, tuple[Rule | Route | Provider | Integration, ...]], ...] = (
        ("rule", policy.rules),
        ("route", policy.routes),
        ("provider", policy.providers),
        ("integration", policy.integrations),
    )
    for kind, named_ones in kinds:
        names = [one.name for one in named_ones]
        yield from (f"{kind} {name}: that name is given twice" for name in {*names} if names.count(name) > 1)


def _shared_identities(policy: Policy) -> Iterable[str]:
    """An identity means one person: else nobody could say who decided, and one person might count twice.

    Neither is a mail address of two people: whoever is listed under two names could be the quorum alone.
    """
    seen: dict[str, str] = {}
    for name, person in policy.people.items():
        mails = {one.rpartition("#")[2] for one in person.identities if one.startswith("email:")}
        addresses = {f"email {one.casefold()}" for one in {person.email, *mails} if one}
        for identity in {principal(one) for one in person.identities} | addresses:
            other = seen.setdefault(identity, name)
            if other != name:
                yield f"{identity} is said to be both {other} and {name}"


def _unreachable_quorums(policy: Policy) -> Iterable[str]:
    """Rules whose approvers have too few identities of the right kind, whoever may authenticate them (`unopened`)."""
    for rule in policy.rules:
        known = [
            one for one in rule.approvers if one in policy.people or one.removeprefix(GROUP) in policy.groups
        ]
        enough = sum(
            1
            for one in policy.members(known)
            if one in policy.people and any(_ways(policy.people[one], rule))
        )
        if enough < rule.quorum:
            yield (
                f"rule {rule.name}: {rule.quorum} must approve, and {enough} of its approvers have an identity for its "
                f"doors ({', '.join(door.value for door in rule.doors)})"
            )


def _rules_that_never_count(policy: Policy) -> Iterable[str]:
    """A rule behind one that is for all that it is for: whoever wrote it believes in something that is not so."""
    for place, rule in enumerate(policy.rules):
        for before in policy.rules[:place]:
            if _covers(before, rule):
                yield f"rule {rule.name}: {before.name} stands before it and is for all of it, so it never counts"
                break


def _covers(wider: Scope, narrower: Scope) -> bool:
    fields = ("severities", "accounts", "environments", "ous", "controls")
    pairs = ((getattr(wider, one), getattr(narrower, one)) for one in fields)
    return all(not wide or (narrow and {*narrow} <= {*wide}) for wide, narrow in pairs)


def _foreign_slacks(policy: Policy) -> Iterable[str]:
    """Only Slack says who somebody is in a Slack workspace; and its issuer is everybody's, in any workspace.

    A Slack on this very machine is the emulated world's.
    """
    for one in policy.providers:
        slack = one.issuer == SLACK_ISSUER
        if slack and one.team is None:
            yield f"provider {one.name}: name the Slack workspace (team) that may sign in"
        if one.team and not slack and one.issuer.startswith("https://"):
            yield f"provider {one.name}: a team is Slack's, and {one.issuer} is not Slack"


_IDENTITIES_OF: Mapping[Door, re.Pattern[str]] = MappingProxyType(
    {
        # A role's session may call itself anything, and root is nobody: neither answers.
        Door.CLI: re.compile(
            r"arn:[a-z-]+:(iam::[0-9]{12}:user/|sts::[0-9]{12}:assumed-role/AWSReservedSSO_)"
        ),
        Door.CONSOLE: re.compile("oidc:|email:|slack:"),
        Door.SLACK: re.compile("slack:"),
    }
)


def usable(policy: Policy, rule: Rule, person: str) -> bool:
    """True when the person has an identity with which one of the rule's doors lets them in, and that door is open to it."""
    return any(
        principal(one).startswith(tuple(map(principal, _let_in(policy, door))))
        for door, one in _ways(policy.people[person], rule)
    )


def unopened(policy: Policy) -> Iterable[str]:
    """Each rule whose quorum cannot come about, since nothing authenticates its approvers: no provider, not our Slack.

    A policy that already stands is read all the same; nobody may set one like that.
    """
    for rule in policy.rules:
        enough = sum(usable(policy, rule, one) for one in policy.members(rule.approvers))
        if enough < rule.quorum:
            doors = ", ".join(door.value for door in rule.doors)
            yield (
                f"rule {rule.name}: {rule.quorum} must approve, and {enough} of its approvers can come in by its doors "
                f"({doors}): the console needs a provider of their identities, a Slack button the slack_team of theirs"
            )


def misplaced(policy: Policy) -> Iterable[str]:
    """What is wrong with the policy's address of the console, if anything: links would lead nowhere, or forms be refused.

    A policy that already stands is read all the same; nobody may set one like that.
    """
    url = policy.console_url
    if url and not _as_browsers_write(url):
        yield (
            f"console_url {url}: write the address as a browser does, with no slash at its end, nothing behind its path, "
            "and a port only where it is not the usual one"
        )


def _as_browsers_write(url: Url) -> bool:
    place = _PLACE.fullmatch(url)
    port = int(place["port"] or 0) if place else 0
    return place is not None and port <= _MOST_PORT and port != _OWN_PORT[place["scheme"]]


def _ways(person: Person, rule: Rule) -> Iterator[tuple[Door, Identity]]:
    """Each of the rule's doors with each of the person's identities that it takes.

    Of a sign-in and a second factor only the console can tell.
    """
    told = {Door.CONSOLE} if rule.mfa or rule.login_within_minutes else {*Door}
    return (
        (door, one)
        for door in told & {*rule.doors}
        for one in person.identities
        if _IDENTITIES_OF[door].match(one)
    )


def _let_in(policy: Policy, door: Door) -> Iterator[str]:
    """How the principals begin that somebody can be at that door: IAM's, those of a provider, or of our Slack workspace."""
    if door is Door.CLI:
        yield from ("arn:", "identity-center:")
    elif door is Door.SLACK:
        yield from (f"slack:{team}/" for team in (policy.slack_team,) if team)
    else:
        for one in policy.providers:
            yield from (
                (f"slack:{one.team}/",) if one.team else (f"oidc:{one.issuer}#", f"email:{one.issuer}#")
            )


# -- what answers amount to --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Consent:
    """What the answers to an ask amount to: approved or denied, `by` whom; while it is open, the approvals of so many."""

    state: Literal["open", "approved", "denied"]
    by: tuple[Answer, ...]
    needs: int


def about_of(ask: Ask, account: str, owner: str) -> About:
    """What an ask is about."""
    return About(severity=ask.severity, account=account, controls=ask.controls, owner=owner)


def principal_of(policy: Policy | None, identity: str) -> str:
    """By what somebody is told apart from others: as the policy's person, else by the identity itself."""
    person = policy.who(identity) if policy else None
    return f"person:{person}" if person else principal(identity)


def names_of(policy: Policy | None, identity: str) -> frozenset[str]:
    """Everything by which whoever has that identity may be on record."""
    person = policy.who(identity) if policy else None
    return policy.names(person) if policy and person else named(identity)


def why_not(policy: Policy, rule: Rule, ask: Ask, person: str) -> str:
    """Why one of the rule's approvers could not approve this ask; empty when they could."""
    mine = policy.names(person)
    if barred := ask.bars(mine):
        return barred
    if ask.owned_by(mine):
        return "answers for the account"
    return "" if usable(policy, rule, person) else "has no identity for the doors that the rule names"


def name_of(policy: Policy | None, identity: str) -> str:
    """What the policy calls the person, else the identity itself."""
    person = policy.who(identity) if policy else None
    return policy.people[person].name if policy and person else identity


def able(policy: Policy, about: About, ask: Ask) -> frozenset[str]:
    """The people who could approve the ask: named by its rule, with an identity for its doors, and with no hand in it."""
    rule = policy.rule(about)
    if rule is None:
        return frozenset()
    return frozenset(one for one in policy.members(rule.approvers) if not why_not(policy, rule, ask, one))


def askable(policy: Policy | None, about: About, ask: Ask) -> str:
    """Why asking would be in vain, since no quorum can come about; empty when one can."""
    if policy is None:
        return ""
    rule = policy.rule(about)
    if rule is None:
        return "the policy has no rule for this, so that nobody may approve it"
    there = len(able(policy, about, ask))
    if there < rule.quorum:
        return f"the rule {rule.name} wants {rule.quorum} to approve, and {there} could"
    return ""


def problem_with(policy: Policy | None, about: About, ask: Ask, answer: Answer) -> str:
    """Why this answer to the ask does not count, in words for whoever gave it; empty when it does."""
    if policy is None:
        if answer.door is not Door.CLI or answer.break_glass:
            return "no policy is set, so that only `redress approve` and `redress deny` answer, as IAM allows them"
        return _barred(ask.bars(named(answer.by))) if answer.approve else ""
    person = policy.who(answer.by)
    if person is None:
        return (
            f"the policy knows nobody as {answer.by}: an operator adds the identity with `redress set-policy`"
        )
    if answer.break_glass:
        lets = person in policy.break_glass and answer.door not in WEAK_DOORS
        return "" if lets else "the policy does not let you break the glass here"
    rule = policy.rule(about)
    if rule is None:
        return "the policy has no rule for this, so nobody may decide it; an operator changes that with `redress set-policy`"
    if answer.approve and not answer.withdrawn:
        why = _against(policy, rule, person, ask, answer)
    else:
        why = _against_denial(policy, rule.name, policy.firsts(about), person, ask, answer)
    return why


def _against(policy: Policy, rule: Rule, person: str, ask: Ask, answer: Answer) -> str:
    """Why the rule does not take this approval of that person."""
    if answer.door not in rule.doors:
        return _other_door(rule.name, answer)
    if person not in policy.members(rule.approvers):
        return f"the rule {rule.name} does not name you as an approver"
    mine = policy.names(person)
    why = ask.bars(mine) or ("answer for the account" if ask.owned_by(mine) else "")
    return _barred(why) or _too_weak(rule, answer)


def _against_denial(
    policy: Policy, name: str, firsts: Iterable[Rule], person: str, ask: Ask, answer: Answer
) -> str:
    """Why none of these rules takes this denial: who may stop one of the controls may stop all of them together.

    Else whoever makes the change would break a second control that has other approvers, and the veto were gone.
    """
    let_in = [rule for rule in firsts if answer.door in rule.doors]
    if not let_in:
        return _other_door(name, answer)
    may = any(_may_deny(policy, rule, ask, person) for rule in let_in)
    return "" if may else f"the rule {name} does not let you decide this"


def _other_door(name: str, answer: Answer) -> str:
    return f"the rule {name} takes no answer through this door ({answer.door.value}); open the link instead"


def consent(policy: Policy | None, about: About, ask: Ask, answers: Answers | None) -> Consent:
    """What the answers that count amount to. A refusal wins; a person counts once, with their last word."""
    rule = policy.rule(about) if policy else None
    needs = rule.quorum if rule else 1
    last = {answer.principal: answer for answer in (answers.answers if answers else ())}
    counted = [
        answer
        for answer in (answers.answers if answers else ())
        if answer is last[answer.principal]
        and not answer.withdrawn
        and answer.principal == principal_of(policy, answer.by)
        and not problem_with(policy, about, ask, answer)
    ]
    refusal = next((answer for answer in counted if not answer.approve), None)
    if refusal:
        return Consent("denied", (refusal,), needs)
    glass = next((answer for answer in counted if answer.break_glass), None)
    if glass:
        return Consent("approved", (glass,), needs)
    return Consent("approved" if len(counted) >= needs else "open", tuple(counted), needs)


def _may_deny(policy: Policy, rule: Rule, ask: Ask, person: str) -> bool:
    """Approvers, operators, and whoever answers for the account."""
    known = policy.people[person]
    return (
        ask.owned_by(policy.names(person))
        or person in policy.members(rule.approvers)
        or bool({Role.APPROVER, Role.OPERATOR} & {*known.roles})
    )


def _too_weak(rule: Rule, answer: Answer) -> str:
    """Why the sign-in behind an approval does not do. IAM's own says neither when nor how: such a rule has no such door."""
    within = rule.login_within_minutes
    if within and (
        answer.logged_in_at is None or answer.at - answer.logged_in_at > timedelta(minutes=within)
    ):
        return f"the rule {rule.name} asks for a sign-in within the last {within} minutes: sign in again"
    if rule.mfa and not answer.mfa:
        return f"the rule {rule.name} asks for a second factor, and your sign-in does not tell of one"
    return ""


def _barred(why: str) -> str:
    """The same for whoever tried to approve; empty when nothing bars them."""
    return f"you {why}, so you cannot approve it: ask somebody else; you may deny it" if why else ""
