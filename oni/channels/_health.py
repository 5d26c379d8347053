"""Whether the backend works, and whether this node hears what it brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni._clock import Clock
from oni.interfaces import IChannelBackend

__all__ = ["Health"]

_log = Logger()

_EVERY = 10.0  # seconds between two probes
_TIMEOUT = 5.0  # seconds in which a probe comes through the feed


class Health:
    """Asks the backend from time to time whether this node is deaf, and notes what it reports.

    A feed can break without anybody saying so: its connection is there, and nothing comes. A probe
    that does not come back in time shows that.

    Args:
        backend: The backend.
        clock: The time.
        changed: Is called with whether all is well, when that changes.

    Attributes:
        is_up: Whether the backend says that it works.
        is_deaf: Whether the last probe did not come back.
        failed_probes: How many did not, so far.
        reconnects: How often the backend came back, so far.
    """

    def __init__(
        self, backend: IChannelBackend, clock: Clock, changed: Callable[[bool], object]
    ) -> None:
        self.is_up = False
        self.is_deaf = False
        self.failed_probes = 0
        self.reconnects = 0
        self._was_up = False
        self._backend = backend
        self._clock = clock
        self._changed = changed
        self._was_well = False
        self._timer: IDelayedCall | None = None
        self._probe: Deferred[Any] | None = None

    @property
    def is_well(self) -> bool:
        """Whether the feed can be trusted."""
        return self.is_up and not self.is_deaf

    def up(self) -> None:
        """Note that the backend works (again)."""
        self.reconnects += self._was_up and not self.is_up
        self.is_up = self._was_up = True
        self._compare()

    def down(self) -> None:
        """Note that the backend does not work."""
        self.is_up = False
        self._compare()

    def _compare(self) -> None:
        if self.is_well != self._was_well:
            self._was_well = self.is_well
            self._changed(self.is_well)

    def watch(self) -> None:
        """Probe from now on."""
        if self._timer is None and self._probe is None:
            self._timer = self._clock.call_later(_EVERY, self._ask)

    def stop(self) -> None:
        """Probe no more, and begin anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel()
        self.is_up = self.is_deaf = self._was_well = False

    def _ask(self) -> None:
        self._timer = None
        probe = self._probe = maybeDeferred(self._backend.probe)
        probe.addTimeout(_TIMEOUT, self._clock.reactor)
        probe.addBoth(self._ended)
        probe.addErrback(lambda failure: _log.failure("a probe was not understood", failure))

    def _ended(self, result: object) -> None:
        if self._probe is None:
            return  # it was stopped
        self._probe = None
        was_deaf, self.is_deaf = self.is_deaf, isinstance(result, Failure)
        self.failed_probes += self.is_deaf
        if self.is_deaf and not was_deaf:
            _log.error(
                "this node is deaf, it may hear nothing of what is published: {why}",
                why=_reason(result),
            )
        elif was_deaf and not self.is_deaf:
            _log.info("this node hears again")
        self.watch()
        self._compare()


def _reason(result: object) -> str:
    if isinstance(result, Failure) and not result.check(TimeoutError):
        return result.getErrorMessage() or repr(result.value)
    return f"a probe did not come back within {_TIMEOUT} s"
