"""Routes: where a notice is told. The policy says; without one, and where nothing else fits, people are told by mail."""

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from chalicelib.domain.contract import Outcome
from chalicelib.domain.delivery import Destination
from chalicelib.domain.finding import Severity, severity_of
from chalicelib.domain.policy import STRICT, About, Policy, Route
from chalicelib.domain.ports import Notice
from chalicelib.domain.shape import sequence
from chalicelib.flow.errand import NOTICE

PEOPLE = Destination(kind="mail", to="people")
OWNER = Destination(kind="mail", to="owner")

UNROUTED = Destination(kind="policy", to="routes")
"""Where a notice goes while the policy cannot be read: to the office, which reads it again until it can."""

ALARMS = frozenset({"tamper_suspected", "break_glass", "breaker_opened"})
"""What everybody is told who is told anything: somebody uses our role, decided alone, or a control does harm."""

CLOSED = "ticket_closed"
TICKETS = frozenset({"ticket_open", CLOSED})

NEWS = "ticket_news"
"""There is something new in a ticket: whoever keeps it elsewhere writes it there, and nobody else is told."""

HEARD = "ticket_heard"
"""Something was done to a ticket elsewhere: a question for that one system, and no news for people yet."""

CHANGED = frozenset(
    f"{what}_{outcome.value}"
    for what in ("run", "undo")
    for outcome in (Outcome.FIXED, Outcome.CONTAINED, Outcome.NOT_VERIFIED, Outcome.FAILED)
)
"""What the owner of a resource is told of: something of theirs was changed, or may have been."""

PASSING = frozenset({"run_started", "undo_started", "ask_progress"})
"""What is over in a moment: told in a thread, and no mail of its own."""


def destinations(
    notice: Notice, policy: Policy | None, severities: Mapping[str, Severity]
) -> tuple[Destination, ...]:
    """Where the notice is told, without repetition; nowhere for an errand, which is none of people's business."""
    if notice.kind == NOTICE:
        return ()
    if notice.kind == HEARD:
        return (Destination(kind="ticket", to=str(notice.body["integration"])),)
    about = about_of(notice, severities)
    if notice.kind == NEWS:
        return (*_systems(notice, about, policy),)
    if notice.kind in ALARMS:
        return (*_channels(policy.routes if policy else ()), PEOPLE)
    route = policy.route(about) if policy and about else None
    found = [*_channels([route] if route else [])]
    loud = about is None or about.severity in STRICT
    if notice.kind not in PASSING and (loud or not found):
        found.append(PEOPLE)
    if notice.kind in CHANGED:
        found.append(OWNER)
    if notice.kind in TICKETS:
        found += _systems(notice, about, policy)
    return tuple(found)


def _systems(notice: Notice, about: About | None, policy: Policy | None) -> Iterable[Destination]:
    """Whoever has a ticket hears that it is closed, also where its scope, its severity or its owner is another by now."""
    return (
        Destination(kind="ticket", to=one.name)
        for one in (policy.integrations if policy else ())
        if notice.kind == CLOSED or (policy and about and policy.fits(one, about))
    )


def about_of(notice: Notice, severities: Mapping[str, Severity]) -> About | None:
    """What the notice is about, for routes to fit; None when it names no account, as the report of a sweep of old may.

    `severities` are by control.
    """
    controls = tuple(one for one in sequence(notice.body.get("controls")) if isinstance(one, str))
    owner = notice.body.get("owner")
    try:
        return About.model_validate(
            {
                "severity": severity_of(controls, severities),
                "account": notice.body.get("account"),
                "controls": controls,
                "owner": owner if isinstance(owner, str) else "",
            }
        )
    except ValidationError:
        return None


def fallbacks(policy: Policy | None, channel: str) -> tuple[Destination, ...]:
    """Where to go when a channel cannot be reached: the fallbacks of the routes that have it, in order."""
    found = (route.fallback for route in (policy.routes if policy else ()) if route.channel == channel)
    return tuple(Destination(kind="slack", to=one) for one in found if one)


def _channels(routes: Iterable[Route]) -> tuple[Destination, ...]:
    return tuple(
        Destination(kind="slack", to=one) for one in dict.fromkeys(route.channel for route in routes)
    )
