"""One publication, with what each protocol makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from zope.interface import implementer

from oni.interfaces import IEntry
from oni.values import Draft, Position, Publication

__all__ = ["Entry"]

_OBJECTS = 512  # bytes that an entry takes beside what it carries, about


@implementer(IEntry)
class Entry:
    """A publication as a channel holds it: the data as JSON, and each encoding once.

    Attributes:
        draft: What was published.
        size: Bytes that it takes, every encoding included.
        on_growth: Is told by how many bytes it has grown; None where nobody counts.
    """

    __slots__ = (
        "_encodings",
        "channel",
        "draft",
        "offset",
        "on_growth",
        "position",
        "prev",
        "size",
    )

    def __init__(self, channel: str, draft: Draft, position: Position, prev: int) -> None:
        self.channel = channel
        self.draft = draft
        self.position = position
        self.offset = position.offset
        self.prev = prev
        self.size = len(draft.data) + _OBJECTS
        self.on_growth: Callable[[int], object] | None = None
        self._encodings: dict[Callable[[Any], bytes], bytes] = {}

    def __repr__(self) -> str:
        """Name it."""
        return f"<Entry {self.channel!r} {self.offset} {self.event!r}>"

    @property
    def event(self) -> str:
        """See :class:`oni.interfaces.IEntry`."""
        return self.draft.event

    @property
    def data(self) -> bytes:
        """See :class:`oni.interfaces.IEntry`."""
        return self.draft.data

    @property
    def tags(self) -> Any:
        """See :class:`oni.interfaces.IEntry`."""
        return self.draft.tags

    @property
    def info(self) -> Any:
        """See :class:`oni.interfaces.IEntry`."""
        return self.draft.info

    @property
    def exclude(self) -> str:
        """See :class:`oni.interfaces.IEntry`."""
        return self.draft.exclude

    def publication(self) -> Publication:
        """See :class:`oni.interfaces.IEntry`."""
        data = msgspec.json.decode(self.data)
        return Publication(self.event, data, self.tags, self.position, self.prev, self.info)

    def encoded(self, encode: Callable[[Any], bytes]) -> bytes:
        """See :class:`oni.interfaces.IEntry`."""
        encoding = self._encodings.get(encode)
        if encoding is None:
            encoding = self._encodings[encode] = encode(self)
            self.size += len(encoding)
            if self.on_growth is not None:
                self.on_growth(len(encoding))
        return encoding
