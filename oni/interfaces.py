"""Every public interface of Oni. A contract is written here once; implementers add to it."""

# zope.interface methods have no self.
# mypy: disable-error-code="misc"
# ruff: noqa: N805

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from oni.values import EventResult, HandlerInfo, PendingEvent, Phase, Position, Publication

__all__ = [
    "IBackgroundUtility",
    "ICarrier",
    "IChannel",
    "IChannels",
    "IEntry",
    "IEventDispatcher",
]


class IBackgroundUtility(Interface):
    """A component with a life of its own in the background."""

    def start() -> None:
        """Begin work. Calling it again while started changes nothing."""

    def stop(timeout: float | None = None) -> Deferred[None]:
        """End work.

        Args:
            timeout: Seconds after which what still runs is cancelled, or None to wait for it.

        Returns:
            A Deferred that fires with None when nothing runs any more.
        """


class IEventDispatcher(IBackgroundUtility):
    """Calls the handlers whose match spec fits a fired event, phase by phase.

    All methods belong to one thread at a time: a call that finds an event active in another
    thread raises :class:`oni.errors.WrongThreadError`. Several threads go through
    :mod:`oni.blocking`.
    """

    def add_event_handler(
        listen_fn: Callable[[Any], Any],
        phase: str,
        /,
        use_weakref: bool = True,
        *,
        times: int | None = None,
        timeout: float | None = None,
        **match_spec: Any,
    ) -> Deferred[int]:
        """Register a handler. Its first two arguments are positional only.

        Args:
            listen_fn: Is called with the event. It may return a value, a Deferred or a coroutine.
            phase: The phase in which it is called.
            use_weakref: Hold the handler (of a bound method: its instance) weakly. The
                registration goes when it dies.
            times: After this many calls the registration goes. None: any number.
            timeout: Seconds after which a call is cancelled and recorded as
                :class:`oni.errors.HandlerTimeoutError`.
            match_spec: The details that an event must have: literals, compared with ``==``, or
                matchers. None matches anything.

        Returns:
            A Deferred that has fired with the handler's id.

        Raises:
            UnknownKeywordError: The match spec names a keyword that is not allowed.
            UnknownPhaseError: There is no such phase.
            InvalidHandlerError: The handler cannot be called, is a generator function, or cannot
                be held weakly.
            InvalidTimesError: ``times`` is not a positive integer.
            InvalidTimeoutError: ``timeout`` is not a positive number.
            InvalidMatchSpecError: A value is unhashable.
        """

    def remove_event_handler(handler_id: int) -> Deferred[None]:
        """Remove a handler. It is not called any more, not even by an event that runs now.

        Returns:
            A Deferred that has fired with None, or with
            :class:`oni.errors.UnknownHandlerError`.
        """

    def fire_event(event: Any, /, **details: Any) -> Deferred[EventResult]:
        """Give an event to every handler whose match spec fits its details.

        Args:
            event: Anything; it is handed to the handlers as it is.
            details: What match specs are compared with.

        Returns:
            A Deferred that fires when the event's last phase has ended. Cancelling it takes a
            queued event out of its queue, or cancels the handlers of a running one. It fails with
            :class:`oni.errors.UnknownKeywordError`, :class:`oni.errors.UnhashableDetailError`,
            :class:`oni.errors.QueueFullError`, :class:`oni.errors.EventAbortedError`,
            :class:`oni.errors.EventCycleError`, :class:`oni.errors.EventNestingError`,
            :class:`oni.errors.EventWaitTimeoutError` or ``CancelledError``; never with a
            handler's own failure in a phase that continues on errors.
        """

    def next_event(phase: str | None = None, /, **match_spec: Any) -> Deferred[Any]:
        """Wait for the next event that fits.

        Args:
            phase: The phase in which to hear it; the first one if None.
            match_spec: As in :meth:`add_event_handler`.

        Returns:
            A Deferred that fires with that event. Cancelling it ends the wait. It fails with
            :class:`oni.errors.DispatcherStoppedError` when the dispatcher stops before.
        """

    def add_match_spec_keyword(keyword: str) -> None:
        """Allow one more keyword in match specs and details."""

    def remove_match_spec_keyword(keyword: str) -> None:
        """Allow a keyword no more.

        Raises:
            UnknownKeywordError: It is not allowed anyway.
            KeywordInUseError: A handler or ``order_by`` uses it; the error names them.
        """

    def add_phase(phase: str | Phase, before: str | None = None, after: str | None = None) -> None:
        """Add a phase at the end, or before or after a named one. Running events keep theirs."""

    def remove_phase(name: str) -> None:
        """Remove a phase.

        Raises:
            UnknownPhaseError: There is no such phase.
            PhaseInUseError: Handlers are registered in it; the error names them.
        """

    def handlers() -> Sequence[HandlerInfo]:
        """Give every registered handler, in registration order."""

    def matching(**details: Any) -> Sequence[HandlerInfo]:
        """Give the handlers that an event with these details would call, in call order."""

    def pending() -> Sequence[PendingEvent]:
        """Give the events that have not ended, oldest first."""

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges by name."""


class IChannel(Interface):
    """A named stream of publications, one object per name and process."""

    name = Attribute("The channel's name.")

    def start() -> Deferred[None]:
        """Begin consumption. Subscribing does so by itself."""

    def publish(
        event: str, data: Any, *, tags: Mapping[str, str] | None = None, info: Any = None
    ) -> Deferred[Position]:
        """Give a publication to every subscriber. Data is JSON.

        Returns:
            A Deferred that fires with the publication's position when it is stored.
        """

    def subscribe(
        event: str | None, carrier: ICarrier, since: Position | None = None
    ) -> Deferred[Position]:
        """Deliver publications of this event name (None: all) to a carrier.

        Returns:
            A Deferred that fires with the position after which the carrier hears everything.
        """

    def unsubscribe(event: str | None, carrier: ICarrier) -> Deferred[None]:
        """Deliver no more of these to the carrier. Nothing happens where it was not subscribed."""


class IChannels(Interface):
    """All channels of a process."""

    def get(name: str) -> IChannel:
        """Give the one channel of this name, made at first use.

        Raises:
            ChannelNameError: No channel may have this name.
        """

    def names() -> Sequence[str]:
        """Give the names of the channels that live, sorted."""

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges by name."""


class IEntry(Interface):
    """A publication on its way to carriers. It is encoded once for each protocol."""

    channel = Attribute("The channel's name.")
    event = Attribute("The event's name.")
    data = Attribute("What was published: JSON, as bytes.")
    tags = Attribute("Short strings that travel beside the data.")
    position = Attribute("Where it stands, a :class:`oni.values.Position`.")
    prev = Attribute("The offset of the publication before it in its channel, 0 if there is none.")
    info = Attribute("Who published it, where a client did; None else.")

    def publication() -> Publication:
        """Give it as a value, with the data decoded anew."""

    def encoded(encode: Callable[[IEntry], bytes]) -> bytes:
        """Give what an encoder makes of it. Each encoder is called once, whoever asks."""


class ICarrier(Interface):
    """One connection that delivers publications. Carriers of one connection are equal."""

    def deliver(entry: IEntry) -> None:
        """Send one publication. It must not wait: what cannot be sent now is the carrier's.

        A carrier whose connection ended raises, and is detached from the channel.
        """
