"""Event sources whose methods block until their Deferred has fired."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

from zope.interface.exceptions import DoesNotImplement

from oni.blocking._face import Face
from oni.blocking._reactor_thread import ReactorThread, reactor_thread
from oni.interfaces import IEventSources
from oni.values import Event, LedgerRecord

__all__ = ["BlockingEventSources"]


class BlockingEventSources(Face):
    """What :class:`oni.interfaces.IEventSources` does in the reactor's thread, as plain calls.

    Any thread but the reactor's may call, and each call crosses into the reactor's thread once,
    with all of its events: whatever yields them runs in the caller's thread. What a Deferred
    fails with is raised, and beside it what :class:`BlockingEventDispatcher` says.

    A call that has no answer in time is cancelled. Whether its events were admitted is unknown
    then: call again, which never admits one twice.
    """

    def __init__(
        self,
        sources: IEventSources,
        timeout: float | None = None,
        *,
        thread: ReactorThread = reactor_thread,
    ) -> None:
        """Put a synchronous face on event sources. Nothing runs for it.

        Args:
            sources: The event sources. They may have several faces.
            timeout: Seconds that each call waits for its answer; None: for ever.
            thread: How to reach the reactor's thread; for tests.

        Raises:
            zope.interface.exceptions.Invalid: ``sources`` are none.
            InvalidTimeoutError: ``timeout`` is not a positive number.
        """
        if not IEventSources.providedBy(sources):  # which may get their ledger later
            raise DoesNotImplement(IEventSources, sources)
        super().__init__(timeout, thread=thread)
        self._sources = sources

    @property
    def sources(self) -> IEventSources:
        """The event sources themselves, for the reactor's thread."""
        return self._sources

    def __repr__(self) -> str:
        """Show the event sources and the time limit."""
        return f"BlockingEventSources({self._sources!r}, timeout={self._timeout!r})"

    def start(self) -> None:
        """Open the ledger and begin to deliver, unless that is left to workers."""
        self._call("start", self._sources.start)

    def stop(self, timeout: float | None = None) -> None:
        """Claim nothing more, wait for what runs, and close the ledger.

        Args:
            timeout: Seconds after which what still runs is given back. They are added to the
                face's own time limit.
        """
        patience = self._timeout
        if patience is not None and timeout is not None:
            patience += timeout
        self._thread.call("stop", patience, partial(self._sources.stop, timeout))

    def only_new_events(self, events: Iterable[Event]) -> Sequence[Event]:
        """Admit events, and return those whose key was not known."""
        new = self._call("only_new_events", self._sources.only_new_events, list(events))
        return cast("Sequence[Event]", new)

    def process_events(self, events: Iterable[Event]) -> Sequence[LedgerRecord]:
        """Admit events that are not yet, run what is due of them, and return what became of it."""
        records = self._call("process_events", self._sources.process_events, list(events))
        return cast("Sequence[LedgerRecord]", records)
