"""The newest publication for each value of a tag, among those of a ring."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["Latest"]


class Latest:
    """Publications that no newer one of the same key supersedes, in the order of their offsets.

    It is kept up with its ring, so that a reader finds what it is to get without looking at what
    it passes over.

    Args:
        tag: The tag whose value is the key; empty: all have the same key.
        entries: What is in the ring already.
    """

    __slots__ = ("_entries", "_keys", "_offsets", "tag")

    def __init__(self, tag: str, entries: Iterable[Any] = ()) -> None:
        self.tag = tag
        self._keys: dict[str, int] = {}
        self._entries: list[Any] = []
        self._offsets: list[int] = []
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        """Count them."""
        return len(self._offsets)

    @property
    def top(self) -> int:
        """The offset of the newest one; there must be one."""
        return self._offsets[-1]

    def key_of(self, entry: Any) -> str:
        """Give the key of a publication."""
        return entry.tags.get(self.tag, "") if self.tag else ""

    def add(self, entry: Any) -> None:
        """Add the publication that comes next: it supersedes the one of the same key."""
        key = self.key_of(entry)
        before = self._keys.get(key)
        if before is not None:
            self._remove(before)
        self._keys[key] = entry.offset
        self._entries.append(entry)
        self._offsets.append(entry.offset)

    def drop(self, entry: Any) -> None:
        """Drop a publication that leaves the ring."""
        key = self.key_of(entry)
        if self._keys.get(key) == entry.offset:
            del self._keys[key]
            self._remove(entry.offset)

    def _remove(self, offset: int) -> None:
        index = bisect_left(self._offsets, offset)
        del self._offsets[index], self._entries[index]

    def clear(self) -> None:
        """Drop all."""
        self._keys.clear()
        self._entries.clear()
        self._offsets.clear()

    def walk(self, offset: int) -> Iterator[Any]:
        """Give those after this offset, each when it is asked for."""
        start = bisect_right(self._offsets, offset)
        return map(self._entries.__getitem__, range(start, len(self._entries)))

    def count(self, start: int, end: int) -> int:
        """Count those after one offset, up to another one."""
        return bisect_right(self._offsets, end) - bisect_right(self._offsets, start)
