"""The daemon as a tree of Twisted services.

Started in this order: the event sources, the Oni with the application's handlers, then each
listener. Stopped in the opposite order, so that nobody comes in while the Oni ends, and its
handlers can admit events as long as they run; at last, connections that it closed are waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.application import strports
from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.component import getGlobalSiteManager

from oni import __version__
from oni.dispatcher import lost_threads, registering
from oni.errors import ListenError
from oni.interfaces import IChannels, IEventDispatcher, IEventSources
from oni.server._application import Application
from oni.server._collector import Collector
from oni.server._deadline import GIVEN_UP, ExitDeadline, leave
from oni.server._goodbye import Goodbye
from oni.server._listeners import ListenersService
from oni.server._ordered import OrderedServices
from oni.server._settings import Settings
from oni.server.running._drain import SessionDrain
from oni.server.running._notify import Notify
from oni.server.running._pulse import Pulse
from oni.server.running._watchdog import Watchdog
from oni.server.sources._service import SourcesService

__all__ = ["Daemon", "OniService"]

_log = Logger()
_EXIT_GRACE = 1.0  # seconds from the services' time limit to the end of the process


def _log_failure(failure: Failure) -> None:
    _log.failure("Oni failed to start", failure)


class OniService(Service):
    """The Oni's own life: utilities, application, start and stop.

    Args:
        oni: An :class:`oni.server.Oni`.
        application: What to run on it.
        utility_name: The name under which its dispatcher and channels are registered.
        registry: Where, the global registry if None.
        on_late_failure: Is called if the Oni fails to start after ``startService`` has returned.
    """

    name = "oni"

    def __init__(
        self,
        oni: Any,
        application: Application | None = None,
        utility_name: str = "",
        registry: Any = None,
        on_late_failure: Callable[[Failure], None] = _log_failure,
    ) -> None:
        self.oni = oni
        self._application = application or Application()
        self._utility_name = utility_name
        self._registry = registry if registry is not None else getGlobalSiteManager()
        self._on_late_failure = on_late_failure
        self._provided: list[tuple[Any, Any]] = []

    def startService(self) -> None:
        """Register the utilities, load ZCML, let the application register, start the Oni.

        In this order; group handlers and sources are registered before the server's handlers.

        Raises:
            Exception: Whatever of these fails first. The utilities are taken back then.
        """
        super().startService()
        try:
            self._provide()
            if self._application.zcml is not None:
                from oni.zca import load_zcml

                load_zcml(self._application.zcml)
            if self._application.configure_sources is not None:
                self._application.configure_sources(self.oni.sources)
            if self._application.configure is not None:
                with registering(strongly=True):
                    self._application.configure(self.oni)
            self._start_oni()
        except BaseException:
            self._withdraw()
            raise

    def _start_oni(self) -> None:
        """Start it. What fails at once is raised; what fails later goes to ``on_late_failure``."""
        failures: list[Failure] = []
        late = failures.append
        self.oni.start().addErrback(lambda failure: late(failure))
        if failures:
            failures[0].raiseException()
        late = self._on_late_failure

    def stopService(self) -> Deferred[None]:
        """Stop the Oni, where it was started, then take the utilities back.

        Returns:
            A Deferred that fires when both is done; cancelling it hurries the Oni.
        """
        if not self.running:
            return succeed(None)
        super().stopService()

        def withdraw(result: Any) -> Any:
            self._withdraw()
            return result

        return maybeDeferred(self.oni.stop).addBoth(withdraw)

    def _provide(self) -> None:
        for utility, interface in (
            (self.oni.dispatcher, IEventDispatcher),
            (self.oni.channels, IChannels),
            (self.oni.sources, IEventSources),
        ):
            if utility is None:
                continue
            self._registry.registerUtility(utility, interface, self._utility_name)
            self._provided.append((utility, interface))

    def _withdraw(self) -> None:
        while self._provided:
            utility, interface = self._provided.pop()
            self._registry.unregisterUtility(utility, interface, self._utility_name)


def _end(reactor: Any, failure: Failure, leave: Callable[[int], object] = leave) -> None:
    """Stop everything, and let the exit code say that it went wrong."""
    _log_failure(failure)
    reactor.addSystemEventTrigger("after", "shutdown", leave, 1)
    reactor.stop()


def _give_up(reactor: Any, why: str, leave: Callable[[int], object] = leave) -> None:
    """Stop everything, so that a supervisor starts it anew."""
    _log.critical("{why}: the daemon stops, so that it can be started anew", why=why)
    reactor.addSystemEventTrigger("after", "shutdown", leave, GIVEN_UP)
    reactor.stop()


def _make_pulse(oni: Any, settings: Settings, reactor: Any) -> Pulse:
    """Make what watches over the daemon, in the environment that it runs in."""
    running = settings.running

    def stalled() -> None:  # called in the watchdog's thread
        oni.tally.stalls += 1
        if running.exit_when_stalled:
            leave(GIVEN_UP)

    return Pulse(
        oni,
        running,
        Notify.from_environment(os.environ),
        reactor,
        Watchdog(running.stall_timeout, stalled),
        lost_threads,
        partial(_give_up, reactor),
    )


class Daemon(OrderedServices):
    """Everything that ``twistd oni`` runs. Nothing listens before it is started.

    Args:
        oni: The service of the Oni.
        factory: What each listener serves.
        connections: Says how many connections there are that close in time once they are told to.
        settings: Where to listen, and in which time to stop.
        reactor: The reactor.
        deadline: Ends the process if nothing else does; None never does.
        foreground: Whether a person is watching.
        pulse: Watches over all of it; None for none.
        collector: Is set for a server while the reactor runs; None leaves it as it is.
    """

    def __init__(
        self,
        oni: OniService,
        factory: Any,
        connections: Callable[[], int],
        settings: Settings,
        reactor: Any,
        deadline: ExitDeadline | None = None,
        foreground: bool = False,
        pulse: Pulse | None = None,
        collector: Collector | None = None,
    ) -> None:
        listeners = [_listener(text, factory, reactor) for text in settings.server.listen]
        goodbye = Goodbye(connections, reactor)
        server, core = settings.server, oni.oni
        drain = SessionDrain(
            lambda: tuple(core.sessions.values()),
            core.turn_away,
            min(settings.running.drain_time, server.stop_timeout / 2),
            reactor,
        )
        watching = [] if pulse is None else [pulse]
        # Handlers of the server may admit events as long as they run: the sources stop after them.
        sources = [] if core.sources_service is None else [core.sources_service]
        closing = ListenersService(lambda: core.listeners.close())
        parts = [*watching, goodbye, closing, *sources, oni, drain, *listeners]
        super().__init__(parts, server.stop_timeout, reactor)
        self._condition = core.condition
        self._sources: SourcesService | None = core.sources_service
        self._pulse = pulse
        self._not_ready_time = settings.running.not_ready_time
        self._stopping: Deferred[None] | None = None
        self._settings = settings
        self._reactor = reactor
        self._deadline = deadline
        self._foreground = foreground
        self._collector = collector

    @classmethod
    def build(
        cls,
        settings: Settings,
        application: Application,
        reactor: Any,
        foreground: bool = False,
        oni: Any = None,
    ) -> Daemon:
        """Make the whole daemon from its settings, and the Oni where there is none yet."""
        from oni.server import Oni, make_factory

        oni = Oni(settings, reactor) if oni is None else oni
        service = OniService(
            oni, application, settings.zca.name, on_late_failure=partial(_end, reactor)
        )
        if oni.sources_service is not None:
            oni.sources_service.on_failure = partial(_end, reactor)
            oni.sources_service.on_exhausted = partial(
                _give_up, reactor, "too many handlers of sources hang"
            )
        limit = settings.running.not_ready_time + settings.server.stop_timeout
        deadline = ExitDeadline(limit + _EXIT_GRACE)
        factory = make_factory(oni, reactor)

        def connections() -> int:
            return factory.leaving

        return cls(
            service,
            factory,
            connections,
            settings,
            reactor,
            deadline,
            foreground,
            _make_pulse(oni, settings, reactor),
            Collector(settings.collector),
        )

    def privilegedStartService(self) -> None:
        """Bind the ports, while there may still be the privileges for low ones.

        Nobody is answered before the reactor runs, and so not before everything has started.

        Raises:
            ListenError: A port cannot be had.
            SystemExit: The same, in the foreground.
        """
        with self._listening():
            super().privilegedStartService()

    def startService(self) -> None:
        """Start, and say what is odd about the settings.

        Raises:
            ListenError: A port cannot be had.
            SystemExit: The same, in the foreground.
        """
        for warning in self._settings.warnings():
            _log.warn("{warning}", warning=warning)
        with self._listening():
            super().startService()
        listen = ", ".join(self._settings.server.listen)
        _log.info("Oni {version} listens on {listen}", version=__version__, listen=listen)
        if self._deadline is not None:
            self._reactor.callWhenRunning(self._deadline.watch_signals)
        if self._collector is not None:
            self._reactor.callWhenRunning(self._collector.begin)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Say in Oni's words that a port cannot be had.

        In the foreground that is the last line, without a traceback. In the background twistd
        tells its parent process of an exception, and only of that.
        """
        try:
            yield
        except CannotListenError as error:
            told = ListenError(self._settings.server.listen, error)
            if self._foreground:
                raise SystemExit(f"twistd oni: {told}") from None
            raise told from None

    def stopService(self) -> Deferred[None]:
        """Be ready no more, stop listening, send the clients away, then end the Oni.

        All of it happens within the time limit. What hung is named in the log, and the exit code
        is 75 then.
        """
        if not self.running:
            return super().stopService()
        if self._deadline is not None:
            _log.info("Oni stops")
            self._deadline.begin()
        self._condition.drains()
        if self._pulse is not None:
            self._pulse.stopping(self._not_ready_time + self._settings.server.stop_timeout)
        if self._not_ready_time and self._stopping is None:
            # Load balancers shall see it before nobody answers them any more.
            self._stopping = deferLater(self._reactor, self._not_ready_time)
            self._stopping.addErrback(lambda failure: failure.trap(CancelledError))
            return self._stopping.addCallback(lambda _: self._stop_now())
        return self._stop_now()

    def _stop_now(self) -> Deferred[None]:
        if self._sources is not None:
            self._sources.end_by(self._reactor.seconds() + self._settings.server.stop_timeout)
        if self._collector is not None:
            self._collector.end()
        return super().stopService().addCallback(lambda _: self._say_what_hung())

    def _say_what_hung(self) -> None:
        if self._sources is not None and self._sources.gave_up:
            self.hung.append("handlers of sources")
        if self.hung and self._deadline is not None:
            _log.error("Oni gave up on: {parts}", parts=", ".join(self.hung))
            self.hung.clear()
            self._reactor.addSystemEventTrigger("after", "shutdown", leave, GIVEN_UP)


def _listener(description: str, factory: Any, reactor: Any) -> IService:
    """Make a listener whose start fails when its port is taken."""
    listener = strports.service(description, factory, reactor)
    descriptors = getattr(factory, "descriptors", None)
    if descriptors is not None:
        listener.endpoint = descriptors.watched(listener.endpoint)
    listener.setName(description)
    return listener
