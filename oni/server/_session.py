"""A client's session: from its first command to its disconnect."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import msgspec
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.carriers import Handshake
from oni.errors import BadRequestError, Refused
from oni.interfaces import IChannels, ISubscription
from oni.protocol import (
    PING,
    CloseCode,
    Command,
    Connect,
    ErrorCode,
    NotAvailable,
    NotFound,
    Ping,
    Pong,
    Rpc,
    RpcResult,
    Send,
    UnsubscribeCode,
    decode_command,
    encode_error,
    encode_join,
    encode_leave,
    encode_message,
    encode_reply,
    encode_unsubscribe,
    split_frame,
)
from oni.server._act_commands import ActCommand, act_of
from oni.server._acts import Act, Reply, UnprovenError, bad_request, refusal, reply_to
from oni.server._grants import EXPIRY_GRACE
from oni.server._heartbeat import Heartbeat
from oni.server._orders import Farewell
from oni.server._recent import RecentChannels
from oni.server._settings import Settings
from oni.server._subscriptions import Subscriptions
from oni.server._timers import SessionTimers
from oni.server.metrics import Tally
from oni.values import ClientInfo, Position

if TYPE_CHECKING:
    from oni.server._performer import Performer

__all__ = ["MAX_ACTS", "MAX_COMMANDS", "VERSION", "Connection", "Session"]

_log = Logger()

#: What kind of server it is, as clients are told.
VERSION = "oni"

#: With so many acts running, or commands waiting, a session stops reading.
MAX_ACTS = 16

_UNAUTHORIZED = ErrorCode.UNAUTHORIZED.code
_TOKEN_EXPIRED = ErrorCode.TOKEN_EXPIRED.code

#: So many commands may wait: those that had arrived when reading stopped.
MAX_COMMANDS = 1024


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
        "_is_leaving",
        "_on_closed",
        "_pace",
        "_paid_at",
        "_performer",
        "_pump_call",
        "_reactor",
        "_reading_paused",
        "_running",
        "_settings",
        "_stale",
        "_tally",
        "_waiters",
        "_waiting",
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
        self.client = str(uuid4())
        self.user = ""
        self.info: Any = None
        self.meta: Any = None
        self.handshake: Handshake | None = None
        self.carrier: Any = carrier
        self.state = "new"
        self.is_duplex = is_duplex
        self.subscriptions = Subscriptions(self, channels, recent, settings, timers.reactor)
        self._performer = performer
        self._settings = settings
        self._reactor = timers.reactor
        self._on_closed = on_closed
        self._running: dict[Reply, float] = {}  # each with the time of its beginning
        self._close_code = 0
        self._tally = Tally() if tally is None else tally
        self._tally.connections["websocket" if is_duplex else "sse"] += 1
        self._waiting: list[Command] = []  # mostly empty: a deque would take ten times as much
        self._pump_call: IDelayedCall | None = None
        self._pace = timers.commands
        self._paid_at = 0.0
        self._reading_paused = False
        self._was_opened = False
        self._is_leaving = False
        self._waiters: list[Deferred[None]] = []
        self._expiry: IDelayedCall | None = None
        self._stale = timers.stale.add(self._is_stale)
        self._heartbeat = Heartbeat(timers.pings, timers.pongs, self._ping, self._is_silent)

    def __repr__(self) -> str:
        """Name it."""
        return f"<Session {self.client} {self.state}>"

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
        return bool(self._running)

    # --- What the connection reports ------------------------------------------------------------

    def received(self, frame: bytes) -> None:
        """Take the payload of a message."""
        self._heartbeat.hear()
        self._tally.bytes_in += len(frame)
        try:
            lines = split_frame(frame)
        except BadRequestError as error:
            self._complain(error)
            return
        for line in lines:
            if self.state in ("closing", "closed"):
                return
            if self._is_flooded():
                self.close(CloseCode.TOO_MANY_REQUESTS)
                return
            try:
                self._take(decode_command(line))
            except BadRequestError as error:
                self._complain(error)
        if self._too_early() > 0:
            self._regulate()

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
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self._expiry = None
        if ttl is None:
            return 0
        self._expiry = self._reactor.callLater(ttl + grace, self.close, CloseCode.EXPIRED)
        return max(ceil(ttl), 1)

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

    # --- Commands -------------------------------------------------------------------------------

    def _complain(self, error: BadRequestError) -> None:
        """Answer what is wrong with a command; without an id there is nobody to answer."""
        _log.debug("session {client}: bad request: {error}", client=self.client, error=error)
        if error.command_id and self.state != "new":
            self._refuse(error.command_id, bad_request(error), "unknown")
        else:
            self.close(CloseCode.BAD_REQUEST)

    def _take(self, command: Command) -> None:
        if isinstance(command, Pong):
            return
        if (self.state == "new") is not isinstance(command, Connect):
            self.close(CloseCode.BAD_REQUEST)
        elif isinstance(command, Connect):
            self.state = "connecting"
            self._start(act_of(command, self, self._settings), command)
        elif (
            self.state == "connecting"
            or self._waiting
            or len(self._running) >= MAX_ACTS
            or self._too_early() > 0
        ):
            self._waiting.append(command)
            if len(self._waiting) > MAX_COMMANDS:
                self.close(CloseCode.TOO_MANY_REQUESTS)
            self._regulate()
        else:
            self._do(command)

    def _do(self, command: Command) -> None:
        if isinstance(command, Ping):
            self.carrier.send(encode_reply(command.id, "ping"))
        elif isinstance(command, NotAvailable):
            self._refuse(command.id, refusal(ErrorCode.NOT_AVAILABLE), "unknown")
        elif isinstance(command, NotFound):
            self._refuse(command.id, refusal(ErrorCode.METHOD_NOT_FOUND), "unknown")
        elif not isinstance(command, Pong):
            try:
                act = act_of(command, self, self._settings)
            except BadRequestError as error:
                self._complain(error)
            else:
                self._start(act, command)

    # --- Acts -----------------------------------------------------------------------------------

    def _start(self, act: Act, command: ActCommand) -> None:
        command_id = 0 if isinstance(command, Send) else command.id
        # Some rpcs are other acts to the server; the client still waits for an rpc's answer.
        method = "rpc" if isinstance(command, Rpc) else act.action
        reply = reply_to(act)
        self._running[reply] = self._reactor.seconds()
        self._tally.commands[method] += 1
        answered = _at_top_level(self._performer.perform, act)
        answered.addCallbacks(
            self._answer,
            self._answer_refusal,
            (command_id, method, act.channel),
            errbackArgs=(command_id, method, act.channel),
        )
        answered.addErrback(lambda failure: _log.failure("no reply could be sent", failure))
        answered.addBoth(self._ended, reply)
        self._regulate()

    def _answer(self, result: Any, command_id: int, method: str, channel: str) -> None:
        if not self.is_open or not command_id:
            return
        if method == "rpc" and isinstance(result, Position):
            result = RpcResult({"offset": result.offset, "epoch": result.epoch})
        told = result if isinstance(result, msgspec.Struct) else None
        self.carrier.send(encode_reply(command_id, method, told))
        if method == "subscribe":
            self._tally.subscribed(result)
            self.subscriptions.begin(channel)
        elif method == "connect":
            for name in self.subscriptions:
                self.subscriptions.begin(name)

    def _answer_refusal(
        self, failure: Failure, command_id: int, method: str, channel: str
    ) -> None:
        failure.trap(Refused, CancelledError)
        if self.state in ("closing", "closed") or not isinstance(failure.value, Refused):
            return
        if isinstance(failure.value, UnprovenError):
            if method == "refresh":
                # Told of an error, clients would give up, also where another token would do.
                self.close(_close_for(failure.value))
                return
            if method == "sub_refresh" and failure.value.code == _TOKEN_EXPIRED:
                # First: so the client subscribes again, with another token.
                self.sub_expired(channel)
        if command_id and self.state not in ("closing", "closed"):
            self._refuse(command_id, failure.value, method)
        if method == "connect":
            self.close(_close_for(failure.value))

    def _refuse(self, command_id: int, error: Refused, method: str) -> None:
        self._tally.errors[method, str(error.code)] += 1
        self.carrier.send(encode_error(command_id, error.code, error.message, error.temporary))

    def _ended(self, _: Any, reply: Reply) -> None:
        began = self._running.pop(reply, None)
        if began is not None:
            self._tally.seconds.observe(self._reactor.seconds() - began)
        if self.state == "closing":
            # Later: handlers in `after` hear of the act's end before they hear of the client's.
            self._reactor.callLater(0, self._finish)
            return
        if self._waiting:
            # Later: here we may be inside a handler, and what it fires would be nested.
            self._pump_in(0)
        self._regulate()

    def _pump_in(self, seconds: float) -> None:
        if self._pump_call is None:
            self._pump_call = self._reactor.callLater(seconds, self._pump)

    def _pump(self) -> None:
        self._pump_call = None
        if self._too_early() > 0:
            self._regulate()
            return
        while self._waiting and self.is_open and len(self._running) < MAX_ACTS:
            self._do(self._waiting.pop(0))
        self._regulate()

    def _regulate(self) -> None:
        """Stop reading while too much is going on, and go on when that is done."""
        if self.state in ("closing", "closed"):
            return
        early = self._too_early()
        if early > 0:
            self._pump_in(early)
        busy = early > 0 or len(self._running) >= MAX_ACTS or len(self._waiting) >= MAX_ACTS
        if busy and not self._reading_paused:
            self._reading_paused = True
            if early > 0:
                self._tally.limited["commands"] += 1
            self.carrier.pause_reading()
        elif self._reading_paused and not busy and not self._waiting:
            self._reading_paused = False
            self._heartbeat.hear()  # what it sent meanwhile could not be heard
            self.carrier.resume_reading()

    def _is_flooded(self) -> bool:
        """Count a command. Say whether it is one that cannot even wait."""
        self._paid_at = self._pace.spend(self._paid_at, self._reactor.seconds())
        return self._too_early() * self._pace.rate > MAX_COMMANDS

    def _too_early(self) -> float:
        """Say by how many seconds the last command came too early."""
        return self._pace.wait(self._paid_at, self._reactor.seconds())

    def _is_stale(self) -> None:
        self.close(CloseCode.STALE)

    def _ping(self) -> None:
        self.carrier.send(PING)

    def _is_silent(self) -> None:
        if not self._reading_paused:
            self.close(CloseCode.NO_PONG)

    # --- The end --------------------------------------------------------------------------------

    def _end(self) -> None:
        if self.state in ("closing", "closed"):
            return
        self.state = "closing"
        self._tally.ended(self._close_code, self.carrier)
        self._heartbeat.stop()
        self._stale.cancel()
        self._waiting.clear()
        if self._pump_call is not None:
            self._pump_call.cancel()
            self._pump_call = None
        if self._expiry is not None and self._expiry.active():
            self._expiry.cancel()
        self.subscriptions.clear()
        if not self._running:
            self._finish()
        for reply in reversed(tuple(self._running)):
            reply.cancel()  # the newest first, so that none gets a turn that is cancelled anyway

    def _finish(self) -> None:
        """When no act runs any more, let it be known that the client is gone; then be gone."""
        if self._running or self._is_leaving:
            return
        self._is_leaving = True
        if not self._was_opened:
            self._be_gone(None)
            return
        act = Act("disconnect", user=self.user, client=self.client, session=self)
        _at_top_level(self._performer.perform, act).addBoth(self._be_gone)

    def _be_gone(self, _: Any) -> None:
        self.state = "closed"
        self._on_closed(self)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)


def _at_top_level(perform: Callable[[Act], Deferred[Any]], act: Act) -> Deferred[Any]:
    """Let a client's act happen as an event of its own, also where a handler caused it."""
    return Context().run(perform, act)


def _close_for(error: Refused) -> CloseCode:
    """Choose how to close after a refused connect: the code says whether to come back."""
    if error.code == _UNAUTHORIZED:
        return CloseCode.INVALID_TOKEN
    if error.code == _TOKEN_EXPIRED:
        return CloseCode.EXPIRED
    if error.code == ErrorCode.LIMIT_EXCEEDED.code:
        return CloseCode.CONNECTION_LIMIT
    return CloseCode.CLOSED if error.temporary else CloseCode.PERMISSION_DENIED
