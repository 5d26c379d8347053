"""The streams that fake backends share, as nodes share a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from oni.channels.backends.memory import MemoryBackend
from oni.interfaces import IBackendSink
from oni.values import ClientInfo, Position

if TYPE_CHECKING:
    from oni.testing._fake_backend import FakeBackend

__all__ = ["Streams"]


@implementer(IBackendSink)
class Streams:
    """Streams in memory, whose reports go to every node that follows the channel.

    Args:
        reactor: The clock.
        step: Gives by how much the next offset grows; None: by 1.
    """

    def __init__(
        self, reactor: IReactorTime | None = None, step: Callable[[], int] | None = None
    ) -> None:
        following = None if step is None else lambda offset: offset + step()
        self.memory = MemoryBackend(reactor, next_offset=following)
        self._nodes: dict[FakeBackend, set[str]] = {}

    def join(self, node: FakeBackend) -> Deferred[None]:
        """Report to this node, too."""
        self._nodes[node] = set()
        return self.memory.start(self)

    def part(self, node: FakeBackend) -> Deferred[None]:
        """Report to this node no more; the last one ends everything."""
        for channel in self._nodes.pop(node, ()):
            self._leave_alone(channel)
        return self.memory.stop() if not self._nodes else self.memory.probe()

    def follow(self, node: FakeBackend, channel: str) -> Deferred[Position]:
        """Let a node hear a channel."""
        self._nodes[node].add(channel)
        return self.memory.follow(channel)

    def is_followed(self, node: FakeBackend, channel: str) -> bool:
        """Say whether a node hears a channel."""
        return channel in self._nodes.get(node, ())

    def unfollow(self, node: FakeBackend, channel: str) -> Deferred[None]:
        """Let a node hear a channel no more."""
        self._nodes[node].discard(channel)
        return self._leave_alone(channel)

    def _leave_alone(self, channel: str) -> Deferred[None]:
        if any(channel in followed for followed in self._nodes.values()):
            return self.memory.probe()  # somebody else hears it
        return self.memory.unfollow(channel)

    def _report(self, channel: str, thing: Callable[[IBackendSink], None]) -> None:
        for node, followed in tuple(self._nodes.items()):
            if channel in followed:
                node.bring(thing)

    def received(self, channel: str, entries: Sequence[Any]) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self._report(channel, lambda sink: sink.received(channel, entries))

    def joined(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self._report(channel, lambda sink: sink.joined(channel, info))

    def left(self, channel: str, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        self._report(channel, lambda sink: sink.left(channel, info))

    def controlled(self, message: bytes) -> None:
        """See :class:`oni.interfaces.IBackendSink`."""
        for node in tuple(self._nodes):
            node.bring(lambda sink: sink.controlled(message))

    def up(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`. Each node says it for itself."""

    def down(self) -> None:
        """See :class:`oni.interfaces.IBackendSink`. Memory is never down."""

    def lost(self, channel: str | None, reason: str) -> None:
        """See :class:`oni.interfaces.IBackendSink`. Memory loses nothing."""
