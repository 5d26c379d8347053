"""Makes events of a group and the id of what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from oni.ledger import pair_key
from oni.values import Event

__all__ = ["event"]


def event(
    group: str, id: int | str | UUID, context: Mapping[str, Any] | None = None, **data: Any
) -> Event:
    """Make an event whose key is made of its group and an id.

    So the events of several groups about one thing have a key each, and no two pairs have the
    same one; see :func:`oni.ledger.pair_key`. For a key that is the only one in the whole ledger
    as it is, make an :class:`oni.values.Event`.

    Args:
        group: Says which handlers it is for.
        id: Says which thing it is about, among all that the group's events may be about.
        context: What handlers need to know.
        data: What else is said of it, by name.

    Raises:
        LedgerKeyError: The group or the id is empty or of another type, or both are too long.
        TypeError: The data name a ``key``.
    """
    if "key" in data:
        raise TypeError("the key is made of group and id; Event(group=, key=) takes a whole one")
    return Event(group=group, key=pair_key(group, id), context=context, **data)
