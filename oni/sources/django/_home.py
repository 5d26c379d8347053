"""What one process has of Oni: event sources, a ledger, and what runs them when it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from threading import RLock
from typing import Any, cast

from django.conf import settings as django_settings
from django.db import connections
from twisted.python.threadable import isInIOThread

from oni.blocking import BlockingEventSources, setup
from oni.errors import ForkedProcessError, LedgerTransactionError, ReactorThreadError
from oni.ledger import Ledger, Relay, store_for
from oni.ledger.django import DjangoOutbox, DjangoStore
from oni.sources import EventSources
from oni.sources.django._connections import close_connections
from oni.sources.django._references import DjangoReferences
from oni.sources.django._running import Running
from oni.sources.django._settings import DjangoSettings, read_settings
from oni.values import Admission, Event

__all__ = ["Home", "home", "refuse_reactor_thread"]


class Home:
    """Everything of Oni in this process; each part is made when it is first needed.

    Importing and registering start nothing, so that a process may fork afterwards. What does is
    :meth:`start`: it runs a reactor in a thread, opens the ledger and delivers.

    Any thread may call any method.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._settings: DjangoSettings | None = None
        self._sources: EventSources | None = None
        self._outboxes: dict[str, DjangoOutbox] = {}
        self._running: Running | None = None
        self._started_in: int | None = None

    # --- What there is

    @property
    def settings(self) -> DjangoSettings:
        """What ``ONI`` says in the project's settings. It is read once.

        Raises:
            SettingsError: It is wrong.
        """
        with self._lock:
            if self._settings is None:
                given = getattr(django_settings, "ONI", {})
                self._settings = read_settings(given, tuple(django_settings.DATABASES))
            return self._settings

    @property
    def sources(self) -> EventSources:
        """The event sources: handlers and sources are registered here. The ledger is not open."""
        with self._lock:
            if self._sources is None:
                self._sources = EventSources(
                    phases=self.settings.phases,
                    references=[DjangoReferences()],
                    deliver=self.settings.deliver,
                    threads=self.settings.threads,
                    threaded=True,
                    after_call=close_connections,
                )
                if not self.settings.is_own_ledger:
                    store = DjangoStore(self.settings.ledger, namespace=self.settings.namespace)
                    self._sources.configure(Ledger(store, lease=self.settings.lease))
            return self._sources

    # --- Admission, in the thread of whoever saves

    def admit(self, connection: Any, events: Iterable[Event]) -> Sequence[Admission]:
        """Admit events in the transaction that a connection is in.

        Returns:
            What became of each; where they are put into an outbox that is not known yet, and they
            count as admitted.

        Raises:
            LedgerTransactionError: The ledger is in another database, and no outbox is said to be
                in this one.
        """
        alias = connection.alias
        if alias == self.settings.ledger:
            return self.sources.admit_within(connection, events)
        if alias not in self.settings.outbox:
            # A URL may have a password in it.
            place = "another place" if self.settings.is_own_ledger else repr(self.settings.ledger)
            raise LedgerTransactionError(
                f"something that has events was saved in the database {alias!r}, and the ledger "
                f"is in {place}; name {alias!r} in ONI['outbox']"
            )
        kept = self.sources.ledger_events(events)
        self._outbox(alias).put(connection, kept)
        return ["admitted"] * len(kept)

    def transaction(self) -> str | None:
        """Give the alias of a database of ours that this thread is in a transaction of.

        What is admitted belongs in it: admitted elsewhere, it would wait for that transaction, or
        outlive it.
        """
        settings = self.settings
        own = () if settings.is_own_ledger else (settings.ledger,)
        aliases: Sequence[str] = (*own, *settings.outbox)
        return next((alias for alias in aliases if connections[alias].in_atomic_block), None)

    def _outbox(self, alias: str) -> DjangoOutbox:
        with self._lock:
            if alias not in self._outboxes:
                self._outboxes[alias] = DjangoOutbox(alias)
            return self._outboxes[alias]

    # --- Delivery

    def wake(self) -> None:
        """Look for what is due, if this process delivers. It does not wait.

        It is not what begins to deliver in a transaction: after a commit there is none, but for
        tests that never commit, whose rows nobody else can see.
        """
        if self.sources.delivers and (self._running is not None or self.transaction() is None):
            self.start()
            for outbox in tuple(self._outboxes.values()):
                outbox.wake()
            self.sources.wake()

    @property
    def is_running(self) -> bool:
        """Whether there is something that delivers, or would."""
        return self._running is not None

    def face(self) -> BlockingEventSources:
        """Give the event sources as blocking calls, when the ledger is open.

        Raises:
            ReactorThreadError: This is the reactor's thread, which would wait for itself.
            ForkedProcessError: See :meth:`start`.
            CallTimeoutError: The ledger has not opened within the time limit.
            Exception: What the ledger cannot be opened for.
        """
        refuse_reactor_thread()
        self.start().wait(self.settings.timeout)
        return BlockingEventSources(self.sources, self.settings.timeout)

    def start(self) -> Running:
        """Run a reactor in a thread, open the ledger and deliver. The second time: nothing.

        It does not wait.

        Raises:
            ForkedProcessError: It was started in the process that this one was forked from.
        """
        with self._lock:
            if self._running is None:
                setup()
                from twisted.internet import reactor

                running = self._make_running(reactor)
                cast(Any, reactor).callFromThread(running.begin)
                return running
            if self._started_in != os.getpid():
                raise ForkedProcessError(
                    "this process was forked after Oni had begun to deliver in its parent; before "
                    "a fork nothing may be saved that has events, nor a request be answered"
                )
            return self._running

    def work(self, reactor: Any) -> Running:
        """Deliver in this process, whatever the settings say, from when a reactor runs.

        Args:
            reactor: The reactor, which the caller runs. It does not run yet.
        """
        with self._lock:
            self.sources.configure(deliver="here")
            running = self._make_running(reactor)
            reactor.callWhenRunning(running.begin)
            return running

    def lend(self, reactor: Any) -> Running:
        """Let somebody else open, look after and close what there is, and say when it is open.

        Args:
            reactor: The reactor, which somebody else runs.
        """
        with self._lock:
            return self._make_running(reactor)

    def _make_running(self, reactor: Any) -> Running:
        settings, sources = self.settings, self.sources
        if settings.is_own_ledger:
            store = store_for(settings.ledger, namespace=settings.namespace)
            sources.configure(Ledger(store, lease=settings.lease))
        relays = [
            Relay(self._outbox(alias), sources.ledger, admitted=sources.wake)
            for alias in settings.outbox
            if sources.delivers
        ]
        self._running = Running(sources, relays, settings.stop_timeout, reactor)
        self._started_in = os.getpid()
        return self._running


def refuse_reactor_thread() -> None:
    """Refuse to wait in the reactor's thread.

    Raises:
        ReactorThreadError: This is that thread.
    """
    if isInIOThread():
        raise ReactorThreadError(
            "this blocks, and was called in the reactor's own thread, which would have to answer "
            "it; oni.sources.django.api.event_sources() has Deferreds for that"
        )


home = Home()
