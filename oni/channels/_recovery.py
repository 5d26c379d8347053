"""What a client missed: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from oni.channels._kept import is_seamless
from oni.values import Position

if TYPE_CHECKING:
    from oni.channels._channel import Channel
    from oni.channels._subscription import Subscription

__all__ = ["MAX_RECOVERED", "recover"]

#: So many missed publications go into the answer to a subscribe; more follow as pushes.
MAX_RECOVERED = 300

_MAX_RECOVERED_BYTES = 256 * 1024
_NOTHING: tuple[bool, Sequence[Any]] = (False, ())


async def recover(
    channel: Channel, subscription: Subscription, since: Position | None, limit: int
) -> tuple[bool, Sequence[Any]]:
    """Let a subscription stand where its client stands, if nothing is missing in between.

    Args:
        channel: The channel, which is heard.
        subscription: Stands at the newest publication where it cannot go on.
        since: Where the client stands, None for nowhere.
        limit: How much may be given at once, 0 where nobody is told that it is whole.

    Returns:
        Whether that is so, and all that was missed if it is no more than the limit: then the
        subscription stands behind it.
    """
    ring = channel.ring
    subscription.stand(ring.top)
    if since is None or since.epoch != ring.epoch or since.offset < 0:
        return _NOTHING
    if ring.covers(since.offset):
        missed, end = ring.after(since.offset), ring.top
    else:
        page = await channel.node.backend.read(channel.name, since, limit + 1)
        subscription.stand(ring.top)
        if not since.epoch == page.top.epoch == ring.epoch:
            return _NOTHING
        if ring.covers(since.offset):  # the feed was faster
            missed, end = ring.after(since.offset), ring.top
        elif since.offset > page.top.offset or not is_seamless(page, since.offset):
            return _NOTHING
        else:
            missed, end = page.entries, page.top.offset
    if not missed and since.offset < end:
        return _NOTHING
    subscription.stand(since.offset)
    if not missed:
        return True, ()
    is_whole = missed[-1].offset >= end and len(missed) <= limit
    if is_whole and sum(len(entry.data) for entry in missed) <= _MAX_RECOVERED_BYTES:
        subscription.stand(missed[-1].offset)
        return True, missed
    if limit and channel.options.behind == "latest":
        subscription.stand(ring.top)  # of what follows as pushes only the newest would come
        return _NOTHING
    return True, ()
