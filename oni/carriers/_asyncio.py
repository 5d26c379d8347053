"""Carriers whose connections live on an asyncio loop, which must be the reactor's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.carriers._base import Carrier
from oni.errors import WrongReactorError

__all__ = ["AsyncioCarrier", "require_asyncio_reactor"]

_log = Logger()


def require_asyncio_reactor(part: str) -> None:
    """Refuse to go on where the reactor is not on asyncio's loop. Nothing is installed here.

    Args:
        part: What needs it, for the message.

    Raises:
        WrongReactorError: There is another reactor, or none yet.
    """
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if not isinstance(reactor, AsyncioSelectorReactor):
        raise WrongReactorError(part, None if reactor is None else type(reactor).__name__)


class AsyncioCarrier(Carrier):
    """A carrier whose :meth:`send` awaits what belongs to asyncio.

    Raises:
        WrongReactorError: The reactor is not on asyncio's loop.
    """

    def __init__(self, connection: Any) -> None:
        require_asyncio_reactor(type(self).__name__)
        super().__init__(connection)
        self._tasks: set[asyncio.Future[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        """See :class:`Carrier`. It runs as a task."""
        return Deferred.fromFuture(asyncio.ensure_future(coroutine))

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside the sending, kept until it ends. What it raises is logged."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warn("{carrier}: {error!r}", carrier=self, error=task.exception())
