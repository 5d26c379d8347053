"""Nobody is let in when the process runs out of file descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["Descriptors"]

_log = Logger()

_STOP = 0.9  # of all descriptors; what is left is for backends, logs and the application
_LAST = 0.95  # who is accepted together with the one that was too many may stay, up to here
_BATCH = 0.05  # what a port accepts at once: less than there is beyond that
_GO_ON = 0.8
_INTERVAL = 0.5  # seconds between two looks, while nobody is let in


def _lowest_free() -> int:
    """Give the number that the next file gets: all below are taken."""
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return _most()
    os.close(number)
    return number


def _open_now() -> int:
    """Count the open ones."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # there is no /proc, or no descriptor to read it with
        return _lowest_free()


def _most() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


@implementer(IStreamServerEndpoint)
class _WatchedEndpoint:
    """Opens a port, and lets it be watched."""

    def __init__(self, endpoint: Any, descriptors: Descriptors) -> None:
        self._endpoint = endpoint
        self._descriptors = descriptors

    def listen(self, protocolFactory: Any) -> Any:
        return self._endpoint.listen(protocolFactory).addCallback(self._descriptors.watch)


class Descriptors:
    """Stops ports from accepting at nine tenths of what the process may open.

    Who comes then waits in the kernel until there are fewer than eight tenths. It is asked for
    each connection, and that is cheap: the kernel gives the lowest free number, so all below a
    connection's own are taken, and nothing has to be counted.

    A port accepts a batch of connections at once, and a pause does not end it; where the last
    descriptor is taken, Twisted closes whoever waits. So a batch is no larger than what is left
    beyond 95 %, and who comes in the batch that passes 90 % stays. No connection that stays has a
    number beyond 95 %: so there is room for a batch each time.

    Args:
        reactor: The clock.
        lowest_free: Gives the lowest free number.
        open_now: Counts the open ones.
        most: Gives how many there may be.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        lowest_free: Callable[[], int] = _lowest_free,
        open_now: Callable[[], int] = _open_now,
        most: Callable[[], int] = _most,
    ) -> None:
        self._reactor = reactor
        self._lowest_free = lowest_free
        self._open_now = open_now
        self._most = most
        self._ports: list[Any] = []
        self._limit = 0  # how many there might be when a port last accepted
        self._call: IDelayedCall | None = None

    @property
    def is_short(self) -> bool:
        """Whether nobody is let in now."""
        return self._call is not None

    def watch(self, port: Any) -> Any:
        """Stop this port when it has to be, if it can pause. Give it back."""
        if hasattr(port, "pauseProducing"):
            self._ports.append(port)
            if hasattr(port, "doRead"):
                port.doRead = partial(self._accept, port, port.doRead)
            if self.is_short:
                port.pauseProducing()
        return port

    def _accept(self, port: Any, accept: Callable[[], object]) -> object:
        """Let a port accept a batch: it would grow without bounds while many come."""
        if self.is_short:
            return None
        self._limit = self._most()
        port.numberAccepts = min(port.numberAccepts, max(1, int(self._limit * _BATCH)))
        return accept()

    def watched(self, endpoint: Any) -> Any:
        """Give an endpoint, an ``IStreamServerEndpoint``, whose port is watched."""
        return _WatchedEndpoint(endpoint, self)

    # Hot: once per connection.
    def has_room(self, transport: Any = None) -> bool:
        """Say whether one more connection may stay; if not, accept no others for now.

        Args:
            transport: The connection's, where there is one.
        """
        most = self._limit or self._most()
        fileno = getattr(transport, "fileno", None)
        number = self._lowest_free() if fileno is None else fileno()
        if self._call is not None:
            return number <= most * _LAST
        if number < most * _STOP:
            return True
        _log.warn(
            "nobody is let in: nearly all of the {most} file descriptors are taken. "
            "server.max_connections is too high for this, or the limit (ulimit -n) too low",
            most=most,
        )
        for port in self._ports:
            port.pauseProducing()
        self._call = self._reactor.callLater(_INTERVAL, self._look)
        return True  # this one has its descriptor; the next one is too many

    def _look(self) -> None:
        self._call = None
        if self._open_now() > self._most() * _GO_ON:
            self._call = self._reactor.callLater(_INTERVAL, self._look)
            return
        _log.info("clients are let in again")
        for port in self._ports:
            port.resumeProducing()

    def stop(self) -> None:
        """Look no more; the ports end."""
        self._ports.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None
