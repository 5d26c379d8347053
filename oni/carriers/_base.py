"""What carriers of messages have in common: turns, one message at a time, and an end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from oni.carriers._drain import Drain, drain_on
from oni.interfaces import ICarrier, IEntry, ISubscription
from oni.protocol import CloseCode
from oni.values import ClientInfo, Position

__all__ = ["Carrier", "envelope", "gap_envelope"]

_log = Logger()

_TURN = 16 * 1024  # bytes that are taken of one channel at once


def envelope(entry: IEntry) -> bytes:
    """Write a publication as TBone does: its event's name and its data, in one line of JSON."""
    name = msgspec.json.encode(entry.event)
    data = entry.data.replace(b"\n", b" ").replace(b"\r", b" ")  # only ever between tokens
    return b'{"type":"event","payload":{"name":%s,"data":%s}}\n' % (name, data)


def gap_envelope(channel: str, position: Position) -> bytes:
    """Write that something was lost in a channel, and that it goes on after this position."""
    payload = {"channel": channel, "epoch": position.epoch, "offset": position.offset}
    return msgspec.json.encode({"type": "gap", "payload": payload}) + b"\n"


@implementer(ICarrier)
class Carrier:
    """Delivers publications over one connection, each as a message of its own.

    To be subclassed: :meth:`send` and :meth:`close` are what differs, and :attr:`is_open` where
    the connection can tell. Carriers around one connection are equal, so that one made anew can
    unsubscribe what another one has subscribed.

    While a message is being sent nothing more is taken: what waits stays in the channel, whose
    memory is bounded. When the connection has ended, or does not take a message, the carrier
    unsubscribes itself from everything.

    Attributes:
        connection: What the carrier was made with.
    """

    #: Writes a publication. The result ends with a line end and has no other. A subclass may
    #: have another function, the same for all its instances.
    encode: Callable[[IEntry], bytes] = staticmethod(envelope)

    def __init__(self, connection: Any, *, reactor: IReactorTime | None = None) -> None:
        """Begin without subscriptions.

        Args:
            connection: The connection.
            reactor: Gives the turns; the global reactor if None.
        """
        self.connection = connection
        self._reactor = reactor
        self._subscriptions: set[ISubscription] = set()
        self._awake: deque[ISubscription] = deque()
        self._is_due = False
        self._is_detached = False
        self._sending: Deferred[None] | None = None

    def __eq__(self, other: object) -> bool:
        """Be equal to what carries over the same connection."""
        return isinstance(other, Carrier) and other.connection is self.connection

    def __hash__(self) -> int:
        """Hash like the connection."""
        return hash(id(self.connection))

    def __repr__(self) -> str:
        """Show the connection."""
        return f"{type(self).__name__}({self.connection!r})"

    # --- What a subclass says -------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended. True, where only sending can tell."""
        return True

    async def send(self, message: bytes) -> None:
        """Send one message, and return when the connection takes the next one.

        Args:
            message: JSON in UTF-8, without a line end.

        Raises:
            Exception: The connection does not take it, whatever the reason: it is closed then.
        """
        raise NotImplementedError

    def close(self, code: int, reason: str) -> None:
        """Close the connection, at once; it may have ended already.

        Args:
            code: A websocket close code, see :class:`oni.protocol.CloseCode`.
            reason: What it means.
        """
        raise NotImplementedError

    def watch(self) -> None:
        """Begin to look whether the connection ends, and call :meth:`detach` then.

        It is called once, at the first subscription. Without it, the end is found out when there
        is something to send.
        """

    def run(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Run a coroutine that awaits what :meth:`send` awaits: Deferreds, if not overridden."""
        return Deferred.fromCoroutine(coroutine)

    # --- Life -----------------------------------------------------------------------------------

    def detach(self) -> None:
        """End all subscriptions. Nothing more is sent; the second time nothing happens."""
        if self._is_detached:
            return
        self._is_detached = True
        self._awake.clear()
        for subscription in self._subscriptions:
            subscription.close()
        self._subscriptions.clear()

    def abort(self) -> None:
        """End everything: what was to be sent is not, so the connection must not go on."""
        self._end(CloseCode.WRITE_ERROR)

    def _end(self, close: CloseCode) -> None:
        if not self._is_detached:
            self.detach()
            if self.is_open:
                self.close(close.code, close.reason)

    # --- What the channel calls -----------------------------------------------------------------

    def wake(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`."""
        if self._is_detached or not self.is_open:
            subscription.close()
            self.detach()
            return
        if subscription not in self._subscriptions:
            self._add(subscription)
        self._awake.append(subscription)
        self._ask_for_turn()

    def lost(self, subscription: ISubscription, position: Position) -> bytes:
        """See :class:`oni.interfaces.ICarrier`. The client is told with an envelope ``gap``."""
        return gap_envelope(subscription.channel, position)

    def overdue(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`. The connection is closed."""
        self._end(CloseCode.SLOW)

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. The envelope has no word for it."""

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """See :class:`oni.interfaces.ICarrier`. The envelope has no word for it."""

    def _add(self, subscription: ISubscription) -> None:
        is_first = not self._subscriptions
        self._subscriptions = {known for known in self._subscriptions if not known.closed}
        self._subscriptions.add(subscription)
        if is_first:
            self.watch()

    # --- Turns ----------------------------------------------------------------------------------

    def _ask_for_turn(self) -> None:
        if self._awake and not self._is_due and self._sending is None and not self._is_detached:
            self._is_due = True
            self._drain().add(self)

    def _drain(self) -> Drain:
        reactor: Any = self._reactor
        if reactor is None:
            from twisted.internet import reactor as global_reactor

            reactor = self._reactor = IReactorTime(global_reactor)
        return drain_on(reactor)

    def flush(self) -> None:
        """Take what one turn allows, and send it. The drain calls it."""
        self._is_due = False
        if self._is_detached or self._sending is not None:
            return
        if not self.is_open:
            self.detach()
            return
        while self._awake:
            subscription = self._awake.popleft()
            data = subscription.take(_TURN)
            if data:
                if not subscription.asleep and not subscription.closed:
                    self._awake.append(subscription)
                self._send_all(_wanted(subscription, data.splitlines()))
                return

    def _send_all(self, messages: Iterable[bytes]) -> None:
        sending = self._sending = self.run(self._send_each(messages))
        sending.addBoth(self._sent)

    async def _send_each(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            await self.send(message)

    def _sent(self, result: object) -> None:
        self._sending = None
        if not isinstance(result, Failure):
            self._ask_for_turn()
        elif not self._is_detached:
            if not self.is_open or result.check(OSError) is not None:
                _log.info("{carrier} has ended: {error}", carrier=self, error=result.value)
            else:
                _log.failure("{carrier} did not take a message", result, carrier=self)
            self.abort()


def _wanted(subscription: ISubscription, messages: Iterable[bytes]) -> Iterator[bytes]:
    """Give these one by one, as long as the subscription lasts."""
    for message in messages:
        if subscription.closed:
            return
        yield message
