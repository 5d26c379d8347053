"""Who is present through this node: leases that are renewed for as long as the client is here."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from oni._clock import Clock
from oni.interfaces import IChannelBackend
from oni.values import ClientInfo

__all__ = ["Leases"]

_log = Logger()

_RENEWALS = 3  # within the time that a lease lasts
_TURN = 200  # leases that are renewed at once


class Leases:
    """Renews every lease three times within its time, a part of them in each reactor turn.

    When this process dies, its leases end by themselves.
    """

    def __init__(self, backend: IChannelBackend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._held: dict[tuple[str, str], tuple[ClientInfo, float]] = {}
        self._timers: dict[float, IDelayedCall] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self._held)

    def enter(self, channel: str, info: ClientInfo, ttl: float) -> Deferred[None]:
        """Let a client be present, until it leaves."""
        self._held[channel, info.client] = (info, ttl)
        if ttl not in self._timers:
            self._sleep(ttl)
        return self._backend.enter(channel, info, ttl)

    def leave(self, channel: str, client: str) -> Deferred[None]:
        """Let a client be present no more."""
        self._held.pop((channel, client), None)
        return self._backend.leave(channel, client)

    def stop(self) -> None:
        """Renew no more."""
        self._held.clear()
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            timer.cancel()

    def _sleep(self, ttl: float) -> None:
        self._timers[ttl] = self._clock.call_later(ttl / _RENEWALS, self._renew, ttl)

    def _renew(self, ttl: float) -> None:
        due = [key for key, (_, other) in self._held.items() if other == ttl]
        if due:
            self._sleep(ttl)
            self._renew_some(due, ttl)
        else:
            del self._timers[ttl]

    def _renew_some(self, due: list[tuple[str, str]], ttl: float) -> None:
        for key in due[:_TURN]:
            held = self._held.get(key)
            if held is not None:
                renewed = self._backend.enter(key[0], held[0], ttl)
                renewed.addErrback(_note("a lease could not be renewed"))
        if len(due) > _TURN:
            self._clock.call_later(0, self._renew_some, due[_TURN:], ttl)


def _note(text: str) -> Callable[[object], None]:
    return lambda failure: _log.warn("{text}: {failure}", text=text, failure=failure)
