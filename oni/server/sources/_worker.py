"""A process that only delivers: no port, no pages, nothing of the web."""

from __future__ import annotations

import os
from typing import Any

import crochet
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from oni import __version__
from oni.errors import OniError
from oni.server._deadline import GIVEN_UP, ExitDeadline, leave
from oni.server._ordered import OrderedServices
from oni.server._settings import Settings
from oni.server.running._logs import begin_log, end_log
from oni.server.running._monotonic import run_on_monotonic_time
from oni.server.running._notify import Notify
from oni.server.running._ticks import Ticks
from oni.server.sources._making import make_worker_service
from oni.server.sources._service import SourcesService

__all__ = ["SourcesWorker", "run_worker"]

_log = Logger()
_EXIT_GRACE = 1.0  # seconds from the time limit to the end of the process
_FAILED = 1


class SourcesWorker(OrderedServices):
    """Delivers until it is stopped, within ``server.stop_timeout``.

    Args:
        service: The event sources, with their handlers registered.
        settings: In which time to stop.
        reactor: The reactor.
        notify: Tells the supervisor.
        deadline: Ends the process if nothing else does.

    Attributes:
        exit_code: How the process is to end.
    """

    def __init__(
        self,
        service: SourcesService,
        settings: Settings,
        reactor: Any,
        notify: Notify,
        deadline: ExitDeadline,
    ) -> None:
        super().__init__([service], settings.server.stop_timeout, reactor)
        self.exit_code = 0
        self._service = service
        self._reactor = reactor
        self._timeout = settings.server.stop_timeout
        self._notify = notify
        self._deadline = deadline
        self._feeding: Ticks | None = None
        if notify.watchdog is not None:
            self._feeding = Ticks(reactor, notify.watchdog / 2, lambda _: notify.tell(WATCHDOG=1))
        service.on_open = self._opened
        service.on_failure = self._failed
        service.on_exhausted = self._exhausted

    def startService(self) -> None:
        """Begin, and feed the supervisor's watchdog, if it has one."""
        super().startService()
        if self._feeding is not None:
            self._feeding.start()

    def _opened(self) -> None:
        names = ", ".join(sorted(self._service.sources.handler_names()))
        _log.info("Oni {version} delivers to: {names}", version=__version__, names=names or "none")
        if not names:
            _log.warn("no handler is registered, so nothing is delivered: see sources.configure")
        self._notify.tell(READY=1, STATUS="Delivering")

    def _failed(self, failure: Failure) -> None:
        """End, and let the exit code say that it went wrong."""
        if failure.check(OniError):
            _log.error("the ledger cannot be opened: {error}", error=failure.value)
        else:
            _log.failure("the event sources failed to start", failure)
        self.exit_code = _FAILED
        self._reactor.stop()

    def _exhausted(self) -> None:
        """End, so that a supervisor starts another process."""
        _log.critical("too many handlers hang: the worker stops, so that it can be started anew")
        self.exit_code = GIVEN_UP
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Claim nothing more, and wait for what runs, within the time limit."""
        if self.running:
            _log.info("Oni stops")
            self._deadline.begin()
            self._notify.tell(STOPPING=1, STATUS="Draining")
            self._service.end_by(self._reactor.seconds() + self._timeout)
        return super().stopService().addCallback(lambda _: self._say_what_hung())

    def _say_what_hung(self) -> None:
        if self._service.gave_up or self.hung:
            _log.error("Oni gave up on handlers that did not end")
            self.exit_code = GIVEN_UP
        if self._feeding is not None:
            self._feeding.stop()
        self._notify.close()


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT comes.

    Returns:
        The exit code: 0; 1 where the ledger cannot be opened. With 75, where handlers were given
        up, the process is ended here: their threads may hang.

    Raises:
        SettingsError: There is no ledger, or no such function to register handlers.
        Exception: Whatever that function, or importing its module, raises.
    """
    crochet.no_setup()  # nobody but this function runs the reactor
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    run_on_monotonic_time(reactor)
    begin_log(settings.log, settings.secrets())
    service = make_worker_service(settings, reactor)
    globalLogBeginner.beginLoggingTo([], discardBuffer=True)  # what handlers print is logged
    deadline = ExitDeadline(settings.server.stop_timeout + _EXIT_GRACE)
    notify = Notify.from_environment(os.environ)
    worker = SourcesWorker(service, settings, reactor, notify, deadline)
    reactor.callWhenRunning(deadline.watch_signals)
    reactor.addSystemEventTrigger("before", "shutdown", worker.stopService)
    worker.startService()
    reactor.run()
    end_log()
    if worker.exit_code == GIVEN_UP:
        leave(GIVEN_UP)
    return worker.exit_code
