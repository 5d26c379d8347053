"""Channels within the process: a component reads what it hears, one message at a time.

In a coroutine::

    connection = MemoryConnection()
    await oni.channels.get("lobby").subscribe(None, MemoryCarrier(connection))
    message = await connection.receive()
    message["payload"]["name"], message["payload"]["data"]
"""

from __future__ import annotations

from collections import deque
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime

from oni.carriers._base import Carrier

__all__ = ["MemoryCarrier", "MemoryConnection"]


class MemoryConnection:
    """A bounded mailbox between a carrier and its reader.

    When it is full nothing is taken from channels until something is read, as with a socket
    whose other end does not read.

    Attributes:
        closed_with: The code and reason with which it was closed; None while it is open.
    """

    def __init__(self, size: int = 16) -> None:
        """Begin empty.

        Args:
            size: How many messages may wait for the reader.
        """
        self._size = size
        self._messages: deque[bytes] = deque()
        self._readers: deque[Deferred[Any]] = deque()
        self._room: Deferred[None] | None = None
        self._carriers: WeakValueDictionary[int, Carrier] = WeakValueDictionary()
        self.closed_with: tuple[int, str] | None = None

    def __len__(self) -> int:
        """Count the messages that wait."""
        return len(self._messages)

    def receive(self) -> Deferred[Any]:
        """Read the next message.

        Returns:
            A Deferred that fires with the message as a value. It fails with ``ConnectionDone``
            when the connection is closed and everything read. Cancelling it reads nothing.
        """
        if self._messages:
            message = self._messages.popleft()
            self._make_room()
            return succeed(msgspec.json.decode(message))
        if self.closed_with is not None:
            return fail(ConnectionDone())
        reader: Deferred[Any] = Deferred(self._stop_reading)
        self._readers.append(reader)
        return reader

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it. What waits may still be read; the second time nothing happens."""
        if self.closed_with is not None:
            return
        self.closed_with = (code, reason)
        for carrier in tuple(self._carriers.values()):
            carrier.detach()
        readers, self._readers = self._readers, deque()
        for reader in readers:
            reader.errback(ConnectionDone())
        self._make_room()

    async def put(self, message: bytes) -> None:
        """Give a message to the reader, and return when there is room for another.

        Raises:
            ConnectionDone: The connection is closed.
        """
        if self.closed_with is not None:
            raise ConnectionDone()
        if self._readers:
            self._readers.popleft().callback(msgspec.json.decode(message))
            return
        self._messages.append(message)
        while len(self._messages) >= self._size and self.closed_with is None:
            if self._room is None:
                self._room = Deferred()
            room: Deferred[None] = Deferred()
            self._room.chainDeferred(room)
            await room

    def belongs_to(self, carrier: Carrier) -> None:
        """Remember a carrier, which is to learn of the end."""
        self._carriers[id(carrier)] = carrier  # those of one connection are equal

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def _stop_reading(self, reader: Deferred[Any]) -> None:
        if reader in self._readers:
            self._readers.remove(reader)


class MemoryCarrier(Carrier):
    """Delivers to a :class:`MemoryConnection`.

    Args:
        connection: The connection.
        reactor: Gives the turns; the global reactor if None.
    """

    def __init__(
        self, connection: MemoryConnection, *, reactor: IReactorTime | None = None
    ) -> None:
        super().__init__(connection, reactor=reactor)

    @property
    def is_open(self) -> bool:
        """Whether it is not closed."""
        return self.connection.closed_with is None

    async def send(self, message: bytes) -> None:
        """See :class:`oni.carriers.Carrier`. It waits where the mailbox is full."""
        await self.connection.put(message)

    def close(self, code: int, reason: str) -> None:
        """See :class:`oni.carriers.Carrier`."""
        self.connection.close(code, reason)

    def watch(self) -> None:
        """See :class:`oni.carriers.Carrier`. The connection tells of its end."""
        self.connection.belongs_to(self)
