"""The one way out of a connection: replies first, then publications, all in order."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from oni.carriers._drain import TURN, Drain
from oni.interfaces import ISubscription

__all__ = ["MAX_FLUSH", "MAX_WAITING", "Outbox"]

_log = Logger()

#: Bytes of replies that may wait for a client that does not read; with more it is too slow.
MAX_WAITING = 1024 * 1024

#: Bytes after which a flush ends, and what is left waits for the next.
MAX_FLUSH = 64 * 1024

_SWEEP = 64  # subscriptions among which are looked for closed ones


class Outbox:
    """What a carrier is made on: everything that it sends goes through here.

    Replies are kept, within :data:`MAX_WAITING` bytes. Publications are not: they are taken from
    the subscriptions when the connection accepts bytes. Nothing is handed over while bytes wait
    there, so that a client that does not read costs its replies and nothing else; and what a
    subscription gave has left before the reply to its end.

    Subclasses implement :meth:`transmit`, :meth:`too_slow` and :meth:`abort`, and call
    :meth:`block` and :meth:`unblock`. Where bytes can be given to a socket at once, they say so
    by :attr:`_direct`, and implement :meth:`write_rest`.

    Attributes:
        direct: See :class:`oni.interfaces.IDirectCarrier`: what :attr:`_direct` is, as long as
            nothing is here that would have to leave before. A slot, for the hot path looks at it
            in thousands of carriers.
        heard: See :class:`oni.interfaces.IDirectCarrier`.
    """

    __slots__ = ("__dict__", "direct", "heard")

    _direct: Callable[[bytes], int] | None = None
    _drain: Drain
    _replies: list[bytes]
    _waiting: int
    _behind: list[ISubscription]
    _is_due: bool
    _is_blocked: bool
    _is_over = False

    def begin_outbox(self, drain: Drain) -> None:
        """Begin empty, and able to send."""
        self.direct: Callable[[bytes], int] | None = None
        self.heard = 0
        self._drain = drain
        self._replies = []
        self._waiting = 0
        self._behind = []
        self._is_due = False
        self._is_blocked = False

    @property
    def is_paused(self) -> bool:
        """Whether the connection takes nothing just now."""
        return self._is_blocked and not self._is_over

    @property
    def waiting_bytes(self) -> int:
        """Bytes of replies that wait here."""
        return self._waiting

    # --- What subclasses say ---------------------------------------------------------------------

    def transmit(self, data: bytes) -> None:
        """Hand bytes over to the connection. It may call :meth:`block`."""
        raise NotImplementedError

    def too_slow(self, waiting: int) -> None:
        """End: more replies wait than may."""
        raise NotImplementedError

    def abort(self) -> None:
        """End at once: sending has failed."""
        raise NotImplementedError

    def write_rest(self, data: bytes) -> None:
        """Hand over what the socket has not taken, and call :meth:`block`."""
        raise NotImplementedError

    # --- What goes in ----------------------------------------------------------------------------

    def put(self, frame: bytes) -> None:
        """Send a reply, or anything else that is no publication."""
        self.direct = None
        self._replies.append(frame)
        self._waiting += len(frame)
        if self._is_blocked:
            if self._waiting > MAX_WAITING:
                self.too_slow(self._waiting)
        elif self._waiting >= MAX_FLUSH:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._drain.add(self)

    def wake(self, subscription: ISubscription) -> None:
        """See :class:`oni.interfaces.ICarrier`. A connection that has ended hears no more."""
        self.direct = None
        behind = self._behind
        behind.append(subscription)
        if self._is_over:
            behind.clear()
            subscription.close()
        elif self._is_blocked:
            if len(behind) % _SWEEP == 0:
                self._behind = [one for one in behind if not one.closed]
        elif not self._is_due:
            self._is_due = True
            drain = self._drain
            drain.due.append(self)
            if not drain.is_scheduled:
                drain.schedule()

    def block(self) -> None:
        """Hand nothing over: bytes wait."""
        self.direct = None
        self._is_blocked = True

    def unblock(self) -> None:
        """Go on: what waited has left."""
        self._is_blocked = False
        if not self._is_due:
            self._ask_for_turn()

    def end_outbox(self) -> None:
        """End: nothing waits any more, and nothing leaves. Subscriptions end when they wake."""
        self.direct = None
        self._is_blocked = self._is_over = True
        for subscription in self._behind:
            subscription.close()
        self.forget()

    def forget(self) -> None:
        """Send nothing of what waits."""
        self._replies.clear()
        self._behind.clear()
        self._waiting = 0

    # --- What goes out ---------------------------------------------------------------------------

    @property
    def turns(self) -> Drain:
        """See :class:`oni.interfaces.IDirectCarrier`."""
        return self._drain

    def rest(self, data: bytes, sent: int) -> None:
        """See :class:`oni.interfaces.IDirectCarrier`."""
        try:
            self.write_rest(data[sent:])
        except Exception:  # noqa: BLE001 - one connection's fault must not reach the others
            _log.failure("a connection could not be written to")
            self.abort()

    def flush(self) -> None:
        """Hand over what there is, at most :data:`MAX_FLUSH` and one frame."""
        self._is_due = False
        if self._is_blocked:
            return
        behind = self._behind
        if not self._replies and len(behind) == 1:
            subscription = behind[0]
            data = subscription.take(TURN)
            if (not data or subscription.asleep) and behind:  # a gap may have ended it all
                del behind[0]
        else:
            data = self._collect()
        if data:
            self.transmit(data)
        if not self._is_blocked and not self._is_due:
            self._ask_for_turn()

    def _ask_for_turn(self) -> None:
        """Let the drain know of what waits; if nothing does, let everybody send directly."""
        if self._behind or self._replies:
            self._is_due = True
            self._drain.add(self)
        elif not self._is_over:
            self.direct = self._direct

    def flush_replies(self) -> None:
        """Hand over every reply, whatever waits already: it is the end."""
        if self._replies:
            data = b"".join(self._replies)
            self._replies.clear()
            self._waiting = 0
            self.transmit(data)

    def _collect(self) -> bytes:
        """Join replies, then turns of the subscriptions that are behind."""
        parts: list[bytes] = []
        size = 0
        behind = self._behind
        while size < MAX_FLUSH:
            if self._replies:
                if parts and size + len(self._replies[0]) > MAX_FLUSH:
                    break
                part = self._next_replies(MAX_FLUSH - size)
            elif behind and (size + TURN <= MAX_FLUSH or not parts):
                part = self._take_turn(behind)
            else:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _next_replies(self, room: int) -> bytes:
        """Join the next replies as far as there is room, at least one."""
        size = number = 0
        for reply in self._replies:
            if number and size + len(reply) > room:
                break
            size += len(reply)
            number += 1
        part = b"".join(self._replies[:number])
        del self._replies[:number]
        self._waiting -= size
        return part

    def _take_turn(self, behind: list[ISubscription]) -> bytes:
        subscription = behind.pop(0)
        data = subscription.take(TURN)
        if data and not subscription.asleep and not subscription.closed:
            behind.append(subscription)
        return data
