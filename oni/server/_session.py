"""A client's session: from its first command to its disconnect."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from math import ceil
from os import urandom
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from oni.carriers import Handshake
from oni.errors import BadRequestError
from oni.interfaces import IChannels, ISubscription
from oni.protocol import (
    PING,
    CloseCode,
    UnsubscribeCode,
    decode_command,
    encode_join,
    encode_leave,
    encode_message,
    encode_unsubscribe,
    split_frame,
)
from oni.server._acts import Act
from oni.server._expiries import Expiry
from oni.server._grants import EXPIRY_GRACE
from oni.server._heartbeat import Heartbeat
from oni.server._intake import Intake
from oni.server._orders import Farewell
from oni.server._recent import RecentChannels
from oni.server._settings import Settings
from oni.server._subscriptions import Subscriptions
from oni.server._timers import SessionTimers
from oni.server.metrics import Tally
from oni.values import ClientInfo, Position

if TYPE_CHECKING:
    from oni.server._performer import Performer

__all__ = ["VERSION", "Connection", "Session", "new_client_id"]

_log = Logger()

#: What kind of server it is, as clients are told.
VERSION = "oni"

_FOR_URLS = bytes.maketrans(b"+/", b"-_")


def new_client_id() -> str:
    """Make a session's id: 128 random bits in 22 characters, fit for an URL.

    Short, since everything that the client publishes carries it to every subscriber.
    """
    return b2a_base64(urandom(16), newline=False)[:22].translate(_FOR_URLS).decode("ascii")


class Connection(Protocol):
    """What a session needs of a carrier, besides being an :class:`oni.interfaces.ICarrier`."""

    def send(self, payload: bytes) -> None:
        """Send a message."""

    def close(self, code: CloseCode | Farewell) -> None:
        """Say why, and close."""

    def pause_reading(self) -> None:
        """Take no more from the client."""

    def resume_reading(self) -> None:
        """Take more from the client."""


class Session:
    """One client, as long as its connection lasts.

    States: ``new`` (nothing heard yet), ``connecting`` (its connect is being handled; further
    commands wait), ``open``, ``closing`` (no more acts; its own are cancelled and waited for),
    ``closed``.

    Attributes:
        client: The session's id.
        user: Who it is, ``""`` for nobody.
        info: What others may know about it, JSON.
        meta: What only handlers may know about it.
        handshake: How its connection began, where an application wants to know; while it connects.
        carrier: Its connection.
        state: See above.
        subscriptions: What it hears.
        is_duplex: Whether its client hears all that it is told, and can answer; else it only
            reads the one channel that it asked for.
    """

    __slots__ = (
        "__weakref__",
        "_close_code",
        "_expiry",
        "_heartbeat",
        "_intake",
        "_is_leaving",
        "_on_closed",
        "_stale",
        "_tally",
        "_timers",
        "_waiters",
        "_was_opened",
        "carrier",
        "client",
        "handshake",
        "info",
        "is_duplex",
        "meta",
        "state",
        "subscriptions",
        "user",
    )

    def __init__(
        self,
        carrier: Connection,
        performer: Performer,
        channels: IChannels,
        recent: RecentChannels,
        settings: Settings,
        timers: SessionTimers,
        on_closed: Callable[[Session], object],
        is_duplex: bool = True,
        tally: Tally | None = None,
    ) -> None:
        """Wait for the first command.

        Args:
            carrier: The connection.
            performer: Lets acts happen.
            channels: What it may hear.
            recent: Keeps the channels that it leaves.
            settings: The limits.
            timers: The clock, and what all sessions wait for.
            on_closed: Is called when everything is over.
            is_duplex: See the class.
            tally: Counts what happens.
        """
        self.client = new_client_id()
        self.user = ""
        self.info: Any = None
        self.meta: Any = None
        self.handshake: Handshake | None = None
        self.carrier: Any = carrier
        self.state = "new"
        self.is_duplex = is_duplex
        self.subscriptions = Subscriptions(self, channels, recent, settings, timers.expiries)
        self._close_code = 0
        self._tally = Tally() if tally is None else tally
        self._tally.connections["websocket" if is_duplex else "sse"] += 1
        self._intake = Intake(self, performer, settings, timers.commands, self._tally)
        self._timers = timers
        self._on_closed = on_closed
        self._was_opened = False
        self._is_leaving = False
        self._waiters: list[Deferred[None]] = []
        self._expiry: Expiry | None = None
        self._stale = timers.stale.add(self._is_stale)
        self._heartbeat = Heartbeat(timers.pings, timers.pongs, self._ping, self._is_silent)

    def __repr__(self) -> str:
        """Name it."""
        return f"<Session {self.client} {self.state}>"

    @property
    def clock(self) -> IReactorTime:
        """The clock."""
        return self._timers.reactor

    @property
    def is_open(self) -> bool:
        """Whether the client is connected."""
        return self.state == "open"

    @property
    def was_opened(self) -> bool:
        """Whether the client was ever let in."""
        return self._was_opened

    @property
    def is_busy(self) -> bool:
        """Whether it waits for the answer of an act."""
        return self._intake.is_busy

    # --- What the connection reports ------------------------------------------------------------

    def received(self, frame: bytes) -> None:
        """Take the payload of a message."""
        self._heartbeat.hear()
        self._tally.bytes_in += len(frame)
        try:
            lines = split_frame(frame)
        except BadRequestError as error:
            self._intake.complain(error)
            return
        for line in lines:
            if self.state in ("closing", "closed"):
                return
            if self._intake.is_flooded():
                self.close(CloseCode.TOO_MANY_REQUESTS)
                return
            try:
                self._intake.take(decode_command(line))
            except BadRequestError as error:
                self._intake.complain(error)
        self._intake.all_taken()

    def was_read(self) -> None:
        """Note that the client is there: it reads, while it is not read from."""
        self._heartbeat.hear()

    def connection_lost(self) -> None:
        """Begin to end: the connection has ended."""
        self._end()

    # --- What the server does -------------------------------------------------------------------

    def open(self) -> bool:
        """Let the client in. Say whether it is still there."""
        if self.state != "connecting":
            return False
        self.state = "open"
        self._was_opened = True
        self.handshake = None
        self._stale.cancel()
        self._heartbeat.start()
        return True

    def send(self, data: Any) -> None:
        """Send the client a message that belongs to no channel. Nothing happens if it is gone."""
        if self.is_open:
            self.carrier.send(encode_message(data))

    def expire_in(self, ttl: float | None, grace: float = EXPIRY_GRACE) -> int:
        """Let the session go on for so many seconds, or (None) for ever.

        Args:
            ttl: The seconds.
            grace: How many more it has, so that a late refresh is not too late.

        Returns:
            The seconds, as clients are told: 0 for ever.
        """
        told = 0 if ttl is None else max(ceil(ttl), 1)  # first: where it is no number, it fails
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = None
        if ttl is not None:
            self._expiry = self._timers.expiries.add(ttl + grace, self._has_expired)
        return told

    def close(self, code: CloseCode | Farewell) -> None:
        """Close the connection, saying why, and begin to end."""
        self._close_code = code.code
        self.carrier.close(code)
        self._end()

    def nobody_listens(self) -> None:
        """Close, because the client sends messages to an application that takes none."""
        self.close(CloseCode.NOT_AVAILABLE)

    def sub_expired(self, channel: str) -> None:
        """End a subscription that was not refreshed in time."""
        held = self.subscriptions.remove(channel)
        if held is not None and held.by_server:
            self.close(CloseCode.SUBSCRIPTION_EXPIRED)
        elif held is not None:
            self._unsubscribed(channel, UnsubscribeCode.EXPIRED)

    # --- What the carrier hears of its subscriptions --------------------------------------------

    def lost(self, subscription: ISubscription, position: Position) -> None:
        """Tell the client that publications were lost: it asks again from where it stands."""
        held = self.subscriptions.find(subscription)
        if held is None:
            return
        _log.debug("{session} missed publications of {channel}", session=self, channel=held)
        self.subscriptions.remove(subscription.channel)
        if held.by_server:
            self.close(CloseCode.INSUFFICIENT_STATE)
        else:
            self._unsubscribed(subscription.channel, UnsubscribeCode.INSUFFICIENT)

    def overdue(self, subscription: ISubscription) -> None:
        """Close the connection of a client that lags too far behind."""
        if self.subscriptions.find(subscription) is not None:
            self.close(CloseCode.SLOW)

    def joined(self, subscription: ISubscription, info: ClientInfo) -> None:
        """Tell the client who has come, but not of itself."""
        if info.client != self.client and self.is_open:
            self.carrier.send(encode_join(subscription.channel, info))

    def left(self, subscription: ISubscription, info: ClientInfo) -> None:
        """Tell the client who has gone."""
        if info.client != self.client and self.is_open:
            self.carrier.send(encode_leave(subscription.channel, info))

    def _unsubscribed(self, channel: str, code: UnsubscribeCode) -> None:
        self.carrier.send(encode_unsubscribe(channel, code.code, code.reason))

    def when_closed(self) -> Deferred[None]:
        """Give a Deferred that fires when everything is over."""
        if self.state == "closed":
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    # --- Time -----------------------------------------------------------------------------------

    def _is_stale(self) -> None:
        self.close(CloseCode.STALE)

    def _ping(self) -> None:
        self.carrier.send(PING)

    def _is_silent(self) -> None:
        if not self._intake.is_reading_paused:
            self.close(CloseCode.NO_PONG)

    def _has_expired(self) -> None:
        self.close(CloseCode.EXPIRED)

    # --- The end --------------------------------------------------------------------------------

    def _end(self) -> None:
        if self.state in ("closing", "closed"):
            return
        self.state = "closing"
        self._tally.ended(self._close_code, self.carrier)
        self._heartbeat.stop()
        self._stale.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        self.subscriptions.clear()
        if not self._intake.is_busy:
            self.finish()
        self._intake.stop()

    def finish(self) -> None:
        """When no act runs any more, let it be known that the client is gone; then be gone."""
        if self._intake.is_busy or self._is_leaving:
            return
        self._is_leaving = True
        if not self._was_opened:
            self._be_gone(None)
            return
        act = Act("disconnect", user=self.user, client=self.client, session=self)
        self._intake.perform(act).addBoth(self._be_gone)

    def _be_gone(self, _: Any) -> None:
        self.state = "closed"
        self._on_closed(self)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)
