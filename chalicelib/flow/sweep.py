"""Sweep: look at everything in an account without an event, in parts that are taken up where they were left.

A part is one remediation in one Region (or the account, where a resource has none), or the open cases. It surveys with
reads that tell of many resources at once, and visits those that may break a control, one by one, through the same walk as
every event. Whatever a sweep finds is at most asked about. A part that was done before finds nothing new and writes
nothing, so that any message may come twice.

The first sweep of a control in an account is its baseline: what fails is reported once, as a whole, and asked of nobody.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import JsonValue

from chalicelib.domain.case import CaseState
from chalicelib.domain.contract import AnyRemediation
from chalicelib.domain.control import Status
from chalicelib.domain.errors import (
    AwsError,
    BusyError,
    ConflictError,
    RedressError,
    StoreError,
    TransientError,
    UnreadableError,
)
from chalicelib.domain.finding import Origin, Target, global_in, partition_of
from chalicelib.domain.plural import so_many
from chalicelib.domain.ports import Notice, SweepChange
from chalicelib.domain.record import Draft, Head, RecordType, seal, stamp
from chalicelib.domain.sweep import LISTED, OPEN_CASES, Baseline, Part, Sweep
from chalicelib.flow import errand
from chalicelib.flow.visit import ATTEMPTS, Visit, Walked, own_word, params_of

if TYPE_CHECKING:
    from chalicelib.flow.pipeline import Engine

LOOKS_FOR = timedelta(seconds=25)
"""How long one message goes on looking at targets, one at least: then it sends the rest on, well within the function's
minute. By time and not by number, because each message surveys anew, and few long ones cost less than many short ones."""

LOOKED_AT_AGAIN = (
    CaseState.OPEN,
    CaseState.TICKETED,
    CaseState.WAITING,
    CaseState.EXPIRED,
    CaseState.DENIED,
)
"""Cases that a sweep looks at though its surveys name other targets: what was repaired by hand is closed by it."""


def begin(engine: "Engine", order: errand.Sweep) -> tuple[Walked, tuple[errand.SweepPart, ...]]:
    """Begin a sweep and say its parts; nothing, while another sweep of the account is under way."""
    account, now = order.account or engine.home.account, engine.clock.now()
    controls = tuple(sorted(name for name in engine.remediations if _swept(engine, name)))
    stands = engine.cases.swept(account, controls)
    before = stands.sweep
    if before and before.under_way(now):
        reason = f"sweep {before.id} is under way since {stamp(before.started_at)}"
        return Walked(before.id, "sweep", "under way", reason, account=account), _left(engine, before)
    try:
        parts = _parts(engine, account)
    except TransientError:
        raise
    except AwsError as refused:
        return _unreadable(engine, account, order.by, before, str(refused)), ()
    sweep = Sweep(
        id=_name(account, now, before),
        account=account,
        by=order.by,
        started_at=now,
        expected=tuple(part.name for part in parts),
        baseline=_first_looks(engine, parts, stands.baselines),
        version=_next(before),
    )
    engine.cases.keep(SweepChange(sweep=sweep))
    looks = so_many(len(sweep.baseline), "first look", "first looks")
    reason = f"{so_many(len(parts), 'part', 'parts')}, {looks}"
    return Walked(sweep.id, "sweep", "begun", reason, account=account), _messages(sweep, parts)


def go_on(engine: "Engine", order: errand.SweepPart) -> tuple[tuple[Walked, ...], errand.SweepPart | None]:
    """Look at the next targets of a part; with the message that goes on from there, or None when the part is done."""
    sweep = engine.cases.swept(order.account, ()).sweep
    if sweep is None or sweep.id != order.sweep or sweep.finished(order.so_far.name):
        return (), None  # another sweep has begun since, or this part has reported
    part, until = order.so_far, engine.clock.now() + LOOKS_FOR
    try:
        found, unread = _visits(engine, sweep, order)
    except TransientError:
        raise
    except AwsError as refused:
        _report(engine, sweep, part.model_copy(update={"unread": str(refused)[:500]}))
        return (Walked(sweep.id, "sweep", "unreadable", str(refused), account=sweep.account),), None
    part = part.model_copy(update={"unread": unread})
    left = sorted((visit for visit in found if _place(visit) > order.after), key=_place)
    done: list[Walked] = []
    for number, visit in enumerate(left, 1):
        walked = _visited(engine, visit)
        done.extend(walked)
        part = _counted(part, visit.target, walked)
        if number < len(left) and engine.clock.now() >= until:
            return tuple(done), order.model_copy(update={"after": _place(visit), "so_far": part})
    _report(engine, sweep, part)
    return tuple(done), None


def _first_looks(engine: "Engine", parts: Iterable[Part], baselines: Iterable[Baseline]) -> tuple[str, ...]:
    """The controls and Regions in which nobody has looked at the account yet, as `<control>/<Region>`."""
    had = {f"{one.control}/{region}" for one in baselines for region in one.regions}
    looks = {
        f"{name}/{part.region}"
        for part in parts
        for name, remediation in engine.remediations.items()
        if remediation.id == part.remediation and _swept(engine, name)
    }
    return tuple(sorted(looks - had))


def _unreadable(engine: "Engine", account: str, by: str, before: Sweep | None, reason: str) -> Walked:
    """Nobody may even say which Regions the account has: the sweep is over, says so, and is nobody's baseline."""
    now, part = engine.clock.now(), Part(name="regions", remediation="", region="", unread=reason[:500])
    sweep = Sweep(
        id=_name(account, now, before),
        account=account,
        by=by,
        started_at=now,
        expected=(part.name,),
        done=(part,),
        version=_next(before),
    )
    engine.cases.keep(_change(engine, sweep, now))
    return Walked(sweep.id, "sweep", "unreadable", reason, account=account)


def _next(before: Sweep | None) -> int:
    return before.version + 1 if before else 1


def _name(account: str, now: datetime, before: Sweep | None) -> str:
    """A sweep's id: its time for people, the item's version because a second may see two of them."""
    return f"{account}-{now:%Y%m%dT%H%M%S}-{_next(before)}"


def _swept(engine: "Engine", control: str) -> bool:
    return control in engine.controls and engine.controls[control].status is not Status.RETIRED


def _parts(engine: "Engine", account: str) -> tuple[Part, ...]:
    """Every remediation in every Region that is switched on (or once, for the account), and the open cases."""
    everywhere = global_in(partition_of(engine.home.region))
    regions = engine.aws.regions(account)
    found = {remediation.id: remediation for remediation in engine.remediations.values()}
    parts = [
        Part(name=f"{one.id}/{region}", remediation=one.id, region=region)
        for one in sorted(found.values(), key=lambda one: one.id)
        for region in ((everywhere,) if one.everywhere == "account" else regions)
    ]
    return (*parts, Part(name=OPEN_CASES, remediation="", region=everywhere))


def _messages(sweep: Sweep, parts: Iterable[Part]) -> tuple[errand.SweepPart, ...]:
    return tuple(
        errand.SweepPart(sweep=sweep.id, account=sweep.account, region=part.region, so_far=part)
        for part in parts
    )


def _left(engine: "Engine", sweep: Sweep) -> tuple[errand.SweepPart, ...]:
    """The parts that have not reported: whoever began the sweep may have died before it could send them."""
    return _messages(sweep, (part for part in _parts(engine, sweep.account) if not sweep.finished(part.name)))


def _visits(engine: "Engine", sweep: Sweep, order: errand.SweepPart) -> tuple[list[Visit], str]:
    """What this part has to look at, and what of that could not be read."""
    if order.so_far.name == OPEN_CASES:
        return _open_cases(engine, sweep)
    remediation = next(one for one in engine.remediations.values() if one.id == order.so_far.remediation)
    place = Target(account=sweep.account, region=order.region, type="AWS::::Account", id=sweep.account)
    controls = tuple(engine.controls[name] for name in remediation.controls if _swept(engine, name))
    params = params_of(remediation, controls)
    targets = remediation.survey(place, params, engine.aws.reader(remediation, place))
    names = [control.id for control in controls]
    return [_visit(engine, sweep, remediation, target, names) for target in targets], ""


def _open_cases(engine: "Engine", sweep: Sweep) -> tuple[list[Visit], str]:
    """The open cases are visited as if their own remediation had named them; one that cannot be read hides no other."""
    visits, unread = list[Visit](), ""
    for state in LOOKED_AT_AGAIN:
        try:
            for case in engine.cases.in_state(state):
                known = [
                    name for name in case.controls if name in engine.remediations and _swept(engine, name)
                ]
                if known and case.target.account == sweep.account:
                    visits.append(_visit(engine, sweep, engine.remediations[known[0]], case.target, known))
        except UnreadableError as broken:
            unread = str(broken)[:500]
    return visits, unread


def _visit(
    engine: "Engine", sweep: Sweep, remediation: AnyRemediation, target: Target, names: list[str]
) -> Visit:
    return Visit(
        key=f"sweep-{sweep.id}",
        signal=own_word(Origin.SWEEP, "Sweep", f"sweep-{sweep.id}", target, engine.clock.now()),
        remediation=remediation,
        target=target,
        controls=tuple(engine.controls[name] for name in names),
        baseline=frozenset(name for name in names if f"{name}/{target.region}" in sweep.baseline),
    )


def _visited(engine: "Engine", visit: Visit) -> tuple[Walked, ...]:
    """One visit. Whatever a run is at work on looks after itself; a target that nobody can judge stops no other."""
    try:
        return engine.all([visit])
    except BusyError as busy:
        return (Walked(visit.key, "busy", "open run", str(busy), resource=visit.target.resource),)
    except (StoreError, TransientError):
        raise
    except (RedressError, ValueError, LookupError, TypeError) as failure:
        said, where = f"{type(failure).__name__}: {failure}", visit.target.resource
        return (Walked(visit.key, "fail", "sweep", said, controls=visit.ids, resource=where),)


def _place(visit: Visit) -> str:
    """Where a visit stands in the order of a part."""
    return f"{visit.target.region} {visit.target.type} {visit.target.id} {visit.remediation.id}"


def _counted(part: Part, target: Target, walked: Iterable[Walked]) -> Part:
    """A part that has seen one more target."""
    failing = Counter(part.failing)
    failing.update(
        control
        for one in walked
        if one.verdict not in {"ignore", "not_ours", "busy", "duplicate"}
        for control in one.controls
    )
    listed = part.listed
    if sum(failing.values()) > sum(part.failing.values()) and len(listed) < LISTED:
        listed = (*listed, target.resource)
    return part.model_copy(update={"suspects": part.suspects + 1, "failing": dict(failing), "listed": listed})


def _report(engine: "Engine", sweep: Sweep, part: Part) -> None:
    """The part is done; with the last one the sweep is, and a baseline is reported."""
    for _ in range(ATTEMPTS):
        if sweep.finished(part.name):
            return
        now = engine.clock.now()
        done = sweep.model_copy(update={"done": (*sweep.done, part), "version": sweep.version + 1})
        try:
            engine.cases.keep(_change(engine, done, now))
        except ConflictError:
            newest = engine.cases.swept(sweep.account, ()).sweep
            if newest is None or newest.id != sweep.id:
                return  # another sweep has begun: this one is nobody's matter any more
            sweep = newest
            continue
        return
    message = f"sweep {sweep.id} is being reported to by others all the time"
    raise BusyError(message, retry_after=5)


def _change(engine: "Engine", sweep: Sweep, now: datetime) -> SweepChange:
    if {*sweep.expected} - {part.name for part in sweep.done}:
        return SweepChange(sweep=sweep)
    sweep = sweep.model_copy(update={"completed_at": now})
    surveyed = [
        part for part in sweep.done if part.name != OPEN_CASES
    ]  # which looks at the same things once more
    failing: Counter[str] = Counter()
    for part in surveyed:
        failing.update(part.failing)
    unread = {part.name: part.unread for part in sweep.done if part.unread}
    data: dict[str, JsonValue] = {
        "sweep": sweep.id,
        "by": sweep.by,
        "started_at": stamp(sweep.started_at),
        "baseline": [*sorted({look.partition("/")[0] for look in sweep.baseline})],
        "suspects": sum(part.suspects for part in surveyed),
        "failing": dict(sorted(failing.items())),
        "parts": len(sweep.done),
        "unread": dict(sorted(unread.items())),
        "listed": [*sorted(resource for part in surveyed for resource in part.listed)[: 4 * LISTED]],
    }
    draft = Draft(
        type=RecordType.SWEEP_COMPLETED,
        source_id=f"sweep-{sweep.id}",
        step="completed",
        occurred_at=now,
        account=sweep.account,
        region=global_in(partition_of(engine.home.region)),
        controls=tuple(sorted(failing)),
        data=data,
    )
    (record,) = seal(f"SWEEP#{sweep.id}", Head(), (draft,), now, engine.home.version)
    body: dict[str, JsonValue] = {"account": sweep.account, "controls": [*sorted(failing)], **data}
    report = Notice(id=f"SWEEP#{sweep.id}", kind="baseline_report", case="", at=now, body=body)
    return SweepChange(
        sweep=sweep,
        baselines=_baselines(engine, sweep, now),
        record=record,
        notices=(report,) if sweep.baseline else (),
    )


def _baselines(engine: "Engine", sweep: Sweep, now: datetime) -> tuple[Baseline, ...]:
    """What has been looked at for the first time, with all that was before. A Region that could not be read was not."""
    read = {(part.remediation, part.region) for part in sweep.done if not part.unread}
    looked: dict[str, set[str]] = {}
    for look in sweep.baseline:
        control, _, region = look.partition("/")
        if control in engine.remediations and (engine.remediations[control].id, region) in read:
            looked.setdefault(control, set()).add(region)
    had = engine.cases.swept(sweep.account, tuple(sorted(looked))).baselines if looked else ()
    for one in had:
        looked[one.control] |= {*one.regions}
    return tuple(
        Baseline(
            account=sweep.account, control=control, regions=tuple(sorted(regions)), at=now, sweep=sweep.id
        )
        for control, regions in sorted(looked.items())
    )
