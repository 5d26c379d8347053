"""Channels whose methods block until their Deferred has fired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from zope.interface.verify import verifyObject

from oni.blocking._face import Face
from oni.blocking._reactor_thread import ReactorThread, reactor_thread
from oni.interfaces import IChannel, IChannels
from oni.values import ClientInfo, Page, Position, PresenceStats

__all__ = ["BlockingChannels"]


class BlockingChannels(Face):
    """Publications, history and presence of a process's channels as plain calls.

    The methods are those of :class:`oni.interfaces.IChannel` with the channel's name before their
    arguments, under the rules of :class:`BlockingEventDispatcher`: any thread but the reactor's
    may call, each call crosses into the reactor's thread once, and what its Deferred fails with
    is raised. Data is encoded there, too, while the caller waits, so it is not changed meanwhile.

    Subscribing is not among them: a carrier lives in the reactor's thread.

    A call that has no answer in time is cancelled and raises
    :class:`oni.errors.CallTimeoutError`. Whether its publication happened is unknown then: repeat
    it with the same ``idempotency_key``.
    """

    def __init__(
        self,
        channels: IChannels,
        timeout: float | None = 5.0,
        *,
        thread: ReactorThread = reactor_thread,
    ) -> None:
        """Put a synchronous face on channels. Nothing runs for it.

        Args:
            channels: The channels. They may have several faces, each with its own time limit.
            timeout: Seconds that each call waits for its answer; None: for ever.
            thread: How to reach the reactor's thread; for tests.

        Raises:
            zope.interface.exceptions.Invalid: ``channels`` are none.
            InvalidTimeoutError: ``timeout`` is not a positive number.
        """
        verifyObject(IChannels, channels)
        super().__init__(timeout, thread=thread)
        self._channels = channels

    @property
    def channels(self) -> IChannels:
        """The channels themselves, for the reactor's thread."""
        return self._channels

    def __repr__(self) -> str:
        """Show the channels and the time limit."""
        return f"BlockingChannels({self._channels!r}, timeout={self._timeout!r})"

    def start(self) -> None:
        """Begin with the backend. The first use of a channel does so by itself."""
        self._call("start", self._channels.start)

    def stop(self) -> None:
        """End every subscription, then the backend."""
        self._call("stop", self._channels.stop)

    def names(self) -> Sequence[str]:
        """Return the names of the channels that live, sorted."""
        return cast("Sequence[str]", self._call("names", self._channels.names))

    def statistics(self) -> Mapping[str, int]:
        """Return counters and gauges by name."""
        return cast("Mapping[str, int]", self._call("statistics", self._channels.statistics))

    def publish(
        self,
        channel: str,
        event: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        info: ClientInfo | None = None,
        exclude: str = "",
        idempotency_key: str | None = None,
    ) -> Position:
        """Publish, and return the publication's position when it is stored."""
        position = self._on(
            channel,
            "publish",
            event,
            data,
            tags=tags,
            info=info,
            exclude=exclude,
            idempotency_key=idempotency_key,
        )
        return cast(Position, position)

    def history(
        self,
        channel: str,
        limit: int | None = None,
        since: Position | None = None,
        reverse: bool = False,
    ) -> Page:
        """Return a page of what is kept. Its entries may be used in any thread."""
        return cast(Page, self._on(channel, "history", limit, since, reverse))

    def remove_history(self, channel: str) -> None:
        """Forget what is kept. Positions stay valid, and go on growing."""
        self._on(channel, "remove_history")

    def enter(self, channel: str, info: ClientInfo) -> None:
        """Let a client be present. The reactor's thread renews its lease until :meth:`leave`."""
        self._on(channel, "enter", info)

    def leave(self, channel: str, client: str) -> None:
        """Let a client, by its id, be present no more."""
        self._on(channel, "leave", client)

    def presence(self, channel: str) -> Mapping[str, ClientInfo]:
        """Return who is present, on all nodes, by the client's id."""
        return cast("Mapping[str, ClientInfo]", self._on(channel, "presence"))

    def presence_stats(self, channel: str) -> PresenceStats:
        """Return how many are present, on all nodes."""
        return cast(PresenceStats, self._on(channel, "presence_stats"))

    def _on(self, name: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        def call() -> Any:
            channel: IChannel = self._channels.get(name)
            return getattr(channel, method)(*args, **kwargs)

        return self._call(method, call)
