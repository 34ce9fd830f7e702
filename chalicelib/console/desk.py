"""The desk: what the pages read, and what takes what people send. `bootstrap` builds it; tests build it on fakes."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from chalicelib.console import render
from chalicelib.console.session import Session, Sessions
from chalicelib.console.web import Reply, Request, Site
from chalicelib.domain.approval import Answers
from chalicelib.domain.breaker import Breaker
from chalicelib.domain.case import Case, CaseState
from chalicelib.domain.contract import AnyRemediation
from chalicelib.domain.control import Control
from chalicelib.domain.delivery import Deliveries, TicketRef
from chalicelib.domain.dossier import Dossier
from chalicelib.domain.figures import Figures
from chalicelib.domain.finding import is_global
from chalicelib.domain.limits import Limits, Spent
from chalicelib.domain.policy import Engagement, Policy, PolicySetting, Provider, Role, name_of
from chalicelib.domain.ports import Clock, Enrolment, Exemption, Freeze, ModeSetting, accounts_of
from chalicelib.domain.sweep import Sweep
from chalicelib.domain.ticket import Ticket, TicketState

if TYPE_CHECKING:
    from chalicelib.adapters.dynamodb import Sought
    from chalicelib.flow.answering import Said, Who
    from chalicelib.flow.command import AnyCommand
    from chalicelib.flow.desk import Caller

T_co = TypeVar("T_co", covariant=True)


class Page(Protocol, Generic[T_co]):
    """Some of many; `more` is where the rest begins, or empty."""

    @property
    def items(self) -> tuple[T_co, ...]:
        """What is on the page."""
        ...

    @property
    def more(self) -> str:
        """The place behind it."""
        ...

    @property
    def unreadable(self) -> int:
        """How many were left out because they cannot be read."""
        ...


class Stored(Protocol):
    """A record as it lies in the table."""

    @property
    def chain(self) -> str:
        """Its chain."""
        ...

    @property
    def body(self) -> str:
        """The bytes, as text."""
        ...

    @property
    def hash(self) -> str:
        """Their digest."""
        ...


class Books(Protocol):
    """The tables, read in pages; `adapters.dynamodb.Ledger` is one. Every failure is a StoreError."""

    def cases_page(
        self,
        state: CaseState,
        most: int,
        after: str = "",
        fits: Callable[[Case], bool] = ...,
        *,
        oldest_first: bool = False,
    ) -> Page[Case]:
        """Cases in that state."""
        ...

    def tickets_page(
        self, state: TicketState, most: int, after: str = "", fits: Callable[[Ticket], bool] = ...
    ) -> Page[Ticket]:
        """Tickets in that state."""
        ...

    def exemptions_page(
        self, most: int, after: str = "", fits: Callable[[Exemption], bool] = ...
    ) -> Page[Exemption]:
        """Exemptions, expired ones too."""
        ...

    def records_page(self, sought: "Sought", most: int, before: str = "") -> Page[Stored]:
        """Records, newest first."""
        ...

    def tail(self, chain: str, most: int) -> Sequence[Stored]:
        """The last records of a chain, in order."""
        ...

    def beside(self, case: Case, until: datetime, most: int) -> Sequence[Stored]:
        """The newest records about the case's resource in other chains."""
        ...

    def answers_to(self, asks: Sequence[tuple[str, int]]) -> Mapping[str, Answers]:
        """What people said to these asks (case, number), by case; nothing where nobody said anything."""
        ...

    def spent(self) -> Sequence[Spent]:
        """What was reserved, by account and by actor."""
        ...

    def modes(self) -> Sequence[ModeSetting]:
        """Every mode that somebody set."""
        ...

    def freezes(self) -> Sequence[Freeze]:
        """Every kill switch that somebody ever used."""
        ...

    def breakers(self) -> Sequence[Breaker]:
        """Every breaker that ever counted a miss."""
        ...

    def enrolments(self) -> Sequence[Enrolment]:
        """The member accounts."""
        ...

    def sweeps(self) -> Sequence[Sweep]:
        """The newest sweep of each account."""
        ...

    def engagements(self) -> Sequence[Engagement]:
        """Every outside auditor's invitation, those that are over too."""
        ...

    def figures(self) -> Figures | None:
        """The figures as last counted, or None before they ever were."""
        ...


class Store(Protocol):
    """Single items, read consistently: a part of `ports.Settings`."""

    def case(self, digest: str, episode: int) -> Case | None:
        """The case of that name."""
        ...

    def answers(self, case: str, ask: int) -> Answers | None:
        """What people said to that ask."""
        ...

    def policy(self) -> PolicySetting | None:
        """The policy that stands."""
        ...

    def dossier(self, case: str) -> Dossier | None:
        """What people said of the case beside its decisions."""
        ...


class Told(Protocol):
    """What was told outside: a part of `domain.delivery.Told`."""

    def deliveries(self, case: str) -> Deliveries | None:
        """What has been told of the case."""
        ...

    def reference(self, ticket: str, integration: str) -> TicketRef | None:
        """Where the ticket lies in that system."""
        ...


class SignIn(Protocol):
    """The way through an OpenID Connect provider."""

    def begin(self, provider: Provider, sessions: Sessions, path: str, *, fresh: bool) -> Reply:
        """To the provider, and back to our `path`; `fresh` asks to prove oneself again."""
        ...

    def finish(
        self,
        request: Request,
        sessions: Sessions,
        providers: Iterable[Provider],
        known: Callable[[str], bool],
    ) -> tuple[Session, str]:
        """Who came back from it, and where to; SignInError otherwise."""
        ...


@dataclass(frozen=True)
class Desk:
    """Everything that the pages need. Nothing in it changes anything but `answer`, `command` and `viewed`.

    `answer` and `command` raise RefusedCommandError with the reason, ConflictError when others were quicker, StoreError
    when the tables cannot be reached. `viewed` puts an auditor's look on record, or raises StoreError.
    """

    home: str
    books: Books
    store: Store
    told: Told
    sessions: Callable[[Site], Sessions]
    sign_in: SignIn
    clock: Clock
    controls: Mapping[str, Control]
    remediations: Mapping[str, AnyRemediation]
    """By their own id."""
    answer: "Callable[[Said, Who], object]"
    command: "Callable[[AnyCommand, Caller], object]"
    viewed: Callable[[Session, str, str], None]
    """Whose look at which path, by which request."""
    limits: Limits


@dataclass(frozen=True)
class Visitor:
    """A signed-in person whom the policy or an engagement knows: what they may do, and what they may see."""

    session: Session
    name: str
    roles: frozenset[Role]
    accounts: frozenset[str] = frozenset()
    until: datetime | None = None

    def sees(self, account: str) -> bool:
        """True when the account is within what they may see; no accounts named are all of them."""
        return not self.accounts or account in self.accounts

    def may(self, *roles: Role) -> bool:
        """True when they have one of the roles."""
        return bool(self.roles & {*roles})

    @property
    def decides(self) -> bool:
        """True for approvers and operators."""
        return self.may(Role.APPROVER, Role.OPERATOR)


@dataclass(frozen=True)
class Visit:
    """One request of one visitor, with the policy that stands and the parts of the address by name."""

    desk: Desk
    request: Request
    site: Site
    sessions: Sessions
    setting: PolicySetting
    visitor: Visitor
    now: datetime
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def policy(self) -> Policy:
        """The policy that stands."""
        return self.setting.policy

    def place(self) -> str:
        """Where in this very list the page begins, from its signed place in the address; empty for the first page."""
        said = self.sessions.read_cursor(self.request.query.get("place", ""))
        match said:
            case [self._list, str(where)]:
                return where
            case _:
                return ""

    def next(self, more: str) -> str:
        """The address of the page behind this one, with the same filters; empty when there is none."""
        if not more:
            return ""
        filters = {name: value for name, value in self.request.query.items() if name != "place"}
        return render.address(
            self.site.at(self.request.path), **filters, place=self.sessions.cursor([self._list, more])
        )

    @property
    def _list(self) -> str:
        """This list with these filters: a place in another one means nothing here."""
        filters = sorted((name, value) for name, value in self.request.query.items() if name != "place")
        return json.dumps([self.request.path, filters])

    def called(self, identity: str) -> str:
        """Whoever has that identity, by the policy's name for them where it has one."""
        return name_of(self.policy, identity)

    def title(self, case: Case) -> str:
        """What the case is about: the resource's own name, or an account's setting and where it is."""
        target = case.target
        if not target.whole_account:
            return target.name
        facts = self.policy.accounts.get(target.account)
        where = (facts.name if facts else "") or target.account
        region = "" if is_global(target.region) else f", {target.region}"
        return f"{', '.join(_spelled(name) for name in case.controls)} in {where}{region}"

    def asked(self, name: str, most: int = 200) -> str:
        """A filter from the address, cut to what an honest one has."""
        return self.request.query.get(name, "")[:most].strip()

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that we look after and this visitor sees, home first."""
        ours = accounts_of(self.desk.home, self.desk.books.enrolments())
        return tuple(account for account in ours if self.visitor.sees(account))


def _spelled(control: str) -> str:
    """A control's id as people write it: its first word is what AWS calls the service."""
    service, _, what = control.partition("-")
    return f"{service.upper()} {what.replace('-', ' ')}".strip()


View = Callable[[Visit], Reply]
Context = dict[str, Any]
