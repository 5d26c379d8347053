"""One publication, with what each protocol makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from zope.interface import implementer

from oni.interfaces import IEntry
from oni.values import Position, Publication

__all__ = ["Entry"]


@implementer(IEntry)
class Entry:
    """A publication as a channel holds it: the data as JSON, and each encoding once."""

    __slots__ = ("_encodings", "channel", "data", "event", "info", "position", "prev", "tags")

    def __init__(
        self,
        channel: str,
        event: str,
        data: bytes,
        tags: Mapping[str, str],
        position: Position,
        prev: int,
        info: Mapping[str, Any] | None,
    ) -> None:
        self.channel = channel
        self.event = event
        self.data = data
        self.tags = tags
        self.position = position
        self.prev = prev
        self.info = info
        self._encodings: dict[Callable[[Any], bytes], bytes] = {}

    def publication(self) -> Publication:
        """See :class:`oni.interfaces.IEntry`."""
        data = msgspec.json.decode(self.data)
        return Publication(self.event, data, self.tags, self.position, self.prev, self.info)

    def encoded(self, encode: Callable[[Any], bytes]) -> bytes:
        """See :class:`oni.interfaces.IEntry`."""
        encoding = self._encodings.get(encode)
        if encoding is None:
            encoding = self._encodings[encode] = encode(self)
        return encoding
