"""Storms: when much happens to one control in one account at once, a channel gets a few cards and one digest.

Asks are counted by themselves: what is repaired without anybody being asked takes no ask's place. The first three of a window have
cards of their own. All others stand behind one message that is edited in place, at most every ten seconds; whoever comes too early
for an edit sees to it that another message follows, which waits and makes it. Nothing is decided from a digest: it links to the
list, where each is decided by itself.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from math import ceil
from urllib.parse import urlencode

from chalicelib.domain.delivery import Delivery, Destination, Storm

WINDOW = timedelta(minutes=5)
CARDS = 3
EDITED_EVERY = timedelta(seconds=10)

KIND = "storm"
"""The kind of a delivery that edits a digest; its notice is the storm's name."""


def storm_of(channel: str, control: str, account: str, at: datetime, *, asks: bool) -> Storm:
    """The storm, not stored yet, that what happened then belongs to. Late deliveries find their own window."""
    began = datetime.fromtimestamp(at.timestamp() // WINDOW.total_seconds() * WINDOW.total_seconds(), UTC)
    told = "\x1f".join((channel, control, account, began.isoformat(), *(() if asks else ("news",))))
    name = hashlib.sha256(told.encode()).hexdigest()[:32]
    return Storm(id=name, channel=channel, control=control, account=account, began_at=began, asks=asks)


def joined(storm: Storm, member: str) -> Storm:
    """The storm at its next version with one more: as a card while there are few, behind the digest from then on."""
    if len(storm.cards) < CARDS:
        return raised(storm, cards=(*storm.cards, member))
    return raised(storm, more=storm.more + 1)


def raised(storm: Storm, **changed: object) -> Storm:
    """The storm at its next version."""
    return storm.model_copy(update={**changed, "version": storm.version + 1})


def behind(storm: Storm) -> bool:
    """True when the digest does not show what it should; there is none while nobody stands behind it."""
    return storm.shown != storm.more + storm.settled


def too_early(storm: Storm, now: datetime) -> int:
    """In how many seconds the digest may be edited; 0 when it may be now.

    An edit that seems to lie ahead was noted by a clock that ran fast, and holds nobody back until then.
    """
    if storm.edited_at is None or storm.edited_at > now:
        return 0
    return max(0, ceil((storm.edited_at + EDITED_EVERY - now).total_seconds()))


def edited(storm: Storm, ts: str, now: datetime) -> Storm:
    """The storm at its next version, once the digest `ts` shows all of it."""
    return raised(storm, ts=ts, shown=storm.more + storm.settled, edited_at=now)


def follow_up(storm: Storm) -> Delivery:
    """The delivery that makes the edit which comes too early now, behind all that is on its way to the channel.

    It is the same one for all who come too early after one edit, and the queue keeps one of it. Since it makes the edit
    when anybody is still missing, and an edit makes the next one another, the last is never missing.
    """
    return Delivery(
        notice=storm.id,
        kind=KIND,
        case="",
        at=storm.edited_at or storm.began_at,
        destination=Destination(kind="slack", to=storm.channel),
    )


def list_path(storm: Storm) -> str:
    """The console's list of those who wait, as the digest links to it; of others, what is on record of them."""
    page = "approvals" if storm.asks else "log"
    return f"/{page}?{urlencode({'control': storm.control, 'account': storm.account})}"
