"""The daemon's services: what is done in which order, and what is taken back."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getUtility, queryUtility
from zope.interface import directlyProvides, implementer
from zope.interface.registry import Components

from oni.channels import Channels
from oni.dispatcher import EventDispatcher
from oni.errors import ListenError, StopTimeoutError
from oni.interfaces import IChannels, IEventDispatcher, IEventSources
from oni.listeners import Listeners
from oni.server import Oni
from oni.server._application import Application
from oni.server._deadline import ExitDeadline, leave
from oni.server._goodbye import Goodbye
from oni.server._ledger_settings import LedgerSettings
from oni.server._service import Daemon, OniService, _end
from oni.server._settings_file import settings_from
from oni.server.limits import Descriptors
from oni.server.running import Condition
from oni.server.sources._service import SourcesService
from tests.server.sources.fakes import SomeSources


@implementer(IEventDispatcher)
class SomeDispatcher:
    """Stands for the server's dispatcher."""


@implementer(IChannels)
class SomeChannels:
    """Stands for the server's channels."""

    def statistics(self) -> dict[str, int]:
        """Say nothing of the backend."""
        return {}


class SomeOni:
    """Stands for the Oni: it starts and stops as the test says."""

    def __init__(self) -> None:
        self.dispatcher = SomeDispatcher()
        self.channels = SomeChannels()
        self.condition = Condition(self.channels)
        self.listeners = Listeners()
        self.sessions: dict[str, Any] = {}
        self.sources: Any = None
        self.sources_service: Any = None
        self.told: list[str] = []
        self.started: Deferred[None] = succeed(None)
        self.stopped: Deferred[None] = succeed(None)

    def start(self) -> Deferred[None]:
        """Write it down."""
        self.told.append("start")
        return self.started

    def stop(self) -> Deferred[None]:
        """Write it down."""
        self.told.append("stop")
        return self.stopped

    def turn_away(self) -> None:
        """Write it down."""
        self.told.append("turn away")


class OniServiceTests(SynchronousTestCase):
    """The Oni's life: utilities first, then the application, then the start."""

    def setUp(self) -> None:
        """Make an Oni and a registry."""
        self.oni = SomeOni()
        self.registry = Components()

    def service(self, name: str = "", **arguments: Any) -> OniService:
        """Make the service."""
        arguments.setdefault("registry", self.registry)
        return OniService(
            self.oni, Application(arguments.pop("configure", None)), name, **arguments
        )

    def provided(self, name: str = "") -> tuple[Any, Any]:
        """Give what is registered."""
        return (
            self.registry.queryUtility(IEventDispatcher, name),
            self.registry.queryUtility(IChannels, name),
        )

    def test_building_does_nothing(self) -> None:
        """Before it is started nothing is registered, called or started."""
        self.service(configure=self.fail)
        self.assertEqual((None, None), self.provided())
        self.assertEqual([], self.oni.told)

    def test_configure_finds_the_utilities(self) -> None:
        """When configure is called, both utilities are there and nothing has started."""
        seen: list[Any] = []
        service = self.service(
            "shop", configure=lambda oni: seen.append((oni, self.provided("shop"), *oni.told))
        )
        service.startService()
        self.assertEqual([(self.oni, (self.oni.dispatcher, self.oni.channels))], seen)
        self.assertEqual(["start"], self.oni.told)
        self.assertEqual((None, None), self.provided())

    def test_sources(self) -> None:
        """Event sources are a utility, too; their handlers are registered before the server's."""
        sources = SomeSources()
        directlyProvides(sources, IEventSources)
        self.oni.sources = sources
        seen: list[Any] = []
        service = OniService(
            self.oni,
            Application(
                lambda oni: seen.append(("oni", oni)),
                configure_sources=lambda given: seen.append(
                    ("sources", given, self.registry.queryUtility(IEventSources))
                ),
            ),
            registry=self.registry,
        )
        service.startService()
        self.assertEqual([("sources", sources, sources), ("oni", self.oni)], seen)
        self.successResultOf(service.stopService())
        self.assertIsNone(self.registry.queryUtility(IEventSources))

    def test_configure_registers_strongly(self) -> None:
        """What is registered while configure runs stays, though nobody else holds it."""
        dispatcher = EventDispatcher()
        self.patch(self.oni, "dispatcher", dispatcher)

        def configure(oni: Any) -> None:
            def handler(event: Any) -> None:
                """Do nothing."""

            oni.dispatcher.add_event_handler(handler, "during")

        self.service(configure=configure).startService()
        gc.collect()
        self.assertEqual([info.weak for info in dispatcher.handlers()], [False])
        self.successResultOf(dispatcher.add_event_handler(lambda event: None, "during"))
        gc.collect()
        self.assertEqual(len(dispatcher.handlers()), 1)

    def test_the_global_registry(self) -> None:
        """Where none is given, the process' registry is used, and left as it was."""
        service = self.service("oni.tests", registry=None)
        service.startService()
        self.assertIs(self.oni.dispatcher, getUtility(IEventDispatcher, "oni.tests"))
        self.successResultOf(service.stopService())
        self.assertIsNone(queryUtility(IEventDispatcher, "oni.tests"))

    def test_stop(self) -> None:
        """The utilities are taken back after the Oni has stopped."""
        self.oni.stopped = Deferred()
        service = self.service()
        service.startService()
        stopped = service.stopService()
        self.assertEqual((self.oni.dispatcher, self.oni.channels), self.provided())
        self.oni.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual((None, None), self.provided())

    def test_stop_that_fails(self) -> None:
        """They are taken back also where it fails to stop, and the failure goes on."""
        self.oni.stopped = fail(ValueError())
        service = self.service()
        service.startService()
        self.failureResultOf(service.stopService(), ValueError)
        self.assertEqual((None, None), self.provided())

    def test_stop_without_start(self) -> None:
        """What was never started is not stopped."""
        self.successResultOf(self.service().stopService())
        self.assertEqual([], self.oni.told)

    def test_another_utility_stays(self) -> None:
        """What somebody else has registered meanwhile is not taken back."""
        service = self.service()
        service.startService()
        other = SomeDispatcher()
        self.registry.registerUtility(other, IEventDispatcher)
        self.successResultOf(service.stopService())
        self.assertEqual((other, None), self.provided())

    def test_configure_that_fails(self) -> None:
        """Its own error fails the start; nothing stays registered and nothing starts."""

        def configure(oni: Any) -> None:
            raise KeyError("shop")

        self.assertRaises(KeyError, self.service(configure=configure).startService)
        self.assertEqual((None, None), self.provided())
        self.assertEqual([], self.oni.told)

    def test_start_that_fails_at_once(self) -> None:
        """A start that has failed raises."""
        self.oni.started = fail(ValueError("no backend"))
        self.assertRaises(ValueError, self.service().startService)
        self.assertEqual((None, None), self.provided())

    def test_start_that_fails_later(self) -> None:
        """A start that fails later is handed on."""
        self.oni.started = Deferred()
        failures: list[Failure] = []
        self.service(on_late_failure=failures.append).startService()
        self.oni.started.errback(ValueError("no backend"))
        self.assertEqual([ValueError], [failure.type for failure in failures])

    def test_zcml(self) -> None:
        """The ZCML file comes before configure; where it is wrong, nothing else happens."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "shop.zcml")
        path.write_text("<configure", encoding="utf-8")
        service = OniService(self.oni, Application(self.fail, str(path)), registry=self.registry)
        with self.assertRaises(Exception) as caught:
            service.startService()
        self.assertIn("shop.zcml", str(caught.exception))
        self.assertEqual([], self.oni.told)
        self.assertEqual((None, None), self.provided())


class EndTests(SynchronousTestCase):
    """An Oni that cannot start, as it turns out later, ends the daemon."""

    def test_end(self) -> None:
        """The reactor stops; when everything has stopped, the exit code says that it failed."""
        reactor = MemoryReactorClock()
        left: list[int] = []
        _end(reactor, Failure(ValueError("no backend")), left.append)
        self.assertTrue(reactor.hasStopped)
        ((leave, arguments, _),) = reactor.triggers["after"]["shutdown"]
        leave(*arguments)
        self.assertEqual([1], left)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))


class TakenPort(MemoryReactorClock):
    """A reactor on which another process has every port."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Fail as the real one does."""
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


class DaemonTests(SynchronousTestCase):
    """Everything that ``twistd oni`` runs."""

    def daemon(
        self,
        reactor: Any,
        foreground: bool = False,
        running: Any = None,
        **server: Any,
    ) -> Daemon:
        """Make a daemon around an Oni that does nothing."""
        self.oni = SomeOni()
        self.armed: list[float] = []
        settings = settings_from({"server": server, "running": running or {}})
        service = OniService(self.oni, registry=Components())
        deadline = ExitDeadline(settings.server.stop_timeout, self.armed.append)
        return Daemon(service, Factory(), lambda: 0, settings, reactor, deadline, foreground)

    def test_building_does_nothing(self) -> None:
        """Nothing listens before it is started."""
        reactor = MemoryReactorClock()
        self.daemon(reactor)
        self.assertEqual([], reactor.tcpServers)

    def test_listens(self) -> None:
        """It listens on each endpoint once, whether or not privileges come first."""
        for privileged in (True, False):
            with self.subTest(privileged=privileged):
                reactor = MemoryReactorClock()
                daemon = self.daemon(
                    reactor, listen=["tcp:81:interface=127.0.0.1", "tcp:82:interface=127.0.0.1"]
                )
                if privileged:
                    daemon.privilegedStartService()
                    self.assertEqual([], self.oni.told)
                daemon.startService()
                self.assertEqual([81, 82], [server[0] for server in reactor.tcpServers])
                self.assertEqual(["start"], self.oni.told)

    def test_ports_are_watched(self) -> None:
        """What listens can be stopped when the process runs out of file descriptors."""
        reactor = MemoryReactorClock()
        watched: list[Any] = []
        factory = Factory()
        factory.descriptors = Descriptors(reactor)  # type: ignore[attr-defined]
        self.patch(Descriptors, "watch", lambda _, port: watched.append(port) or port)
        settings = settings_from({"server": {"listen": ["tcp:81:interface=127.0.0.1"]}})
        service = OniService(SomeOni(), registry=Components())
        Daemon(service, factory, lambda: 0, settings, reactor).startService()
        self.assertEqual([81], [port.getHost().port for port in watched])

    def test_taken_port(self) -> None:
        """A taken port fails the start, names itself, and the Oni ends again."""
        for step, told in (
            ("privilegedStartService", []),
            ("startService", ["start", "turn away", "stop"]),
        ):
            with self.subTest(step):
                daemon = self.daemon(TakenPort(), listen=["tcp:81:interface=127.0.0.1"])
                error = self.assertRaises(ListenError, getattr(daemon, step))
                self.assertIn("127.0.0.1:81", str(error))
                self.assertIn("server.listen", str(error))
                self.assertEqual(told, self.oni.told)

    def test_taken_port_in_the_foreground(self) -> None:
        """Where a person is watching, it is one line and no traceback."""
        daemon = self.daemon(TakenPort(), foreground=True, listen=["tcp:81:interface=127.0.0.1"])
        with self.assertRaises(SystemExit) as caught:
            daemon.privilegedStartService()
        self.assertIn("127.0.0.1:81", str(caught.exception.code))

    def test_waits_for_all(self) -> None:
        """At its end it waits for whatever ends in time, websocket or stream of events."""
        reactor = MemoryReactorClock()
        settings = settings_from({"server": {"listen": ["tcp:81:interface=127.0.0.1"]}})
        oni = Oni(settings, reactor, channels=Channels(reactor=reactor))
        daemon = Daemon.build(settings, Application(), reactor, oni=oni)
        daemon.privilegedStartService()
        factory: Any = reactor.tcpServers[0][1]
        factory.site.last_responses, factory.websockets.countConnections = 1, 2
        (goodbye,) = (part for part in daemon._parts if isinstance(part, Goodbye))
        self.assertEqual(goodbye._count(), 3)

    def test_stops_listening_first(self) -> None:
        """Nobody comes in any more when the Oni stops."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor)
        daemon.startService()
        self.successResultOf(daemon.stopService())
        self.assertEqual(["start", "turn away", "stop"], self.oni.told)

    def test_not_ready_first(self) -> None:
        """Load balancers see it before anybody is refused; then listening stops."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor, running={"not_ready_time": 5.0})
        daemon.startService()
        self.oni.condition.started()
        stopped = daemon.stopService()
        self.assertEqual("draining", self.oni.condition.state)
        self.assertEqual(["start"], self.oni.told)
        reactor.advance(4.9)
        self.assertNoResult(stopped)
        reactor.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(["start", "turn away", "stop"], self.oni.told)

    def test_clients_are_sent_away_in_batches(self) -> None:
        """The window is at most half of the time that all of the stop has."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor, stop_timeout=4.0, running={"drain_time": 60.0})
        daemon.startService()
        closed: list[float] = []
        for number in range(2000):
            self.oni.sessions[str(number)] = SimpleNamespace(
                close=lambda code: closed.append(reactor.seconds()), is_busy=False
            )
        stopped = daemon.stopService()
        reactor.pump([0.1] * 25)
        self.successResultOf(stopped)
        self.assertEqual(2000, len(closed))
        self.assertEqual(100, closed.count(0.0))
        self.assertLessEqual(max(closed), 2.0)

    def with_sources(self, reactor: Any) -> Daemon:
        """Make a daemon whose Oni has event sources."""
        oni = self.oni = SomeOni()
        self.sources = SomeSources()
        oni.told = self.sources.told
        oni.sources_service = SourcesService(
            self.sources,  # type: ignore[arg-type]
            LedgerSettings(),
            reactor,
            10.0,
        )
        settings = settings_from({"server": {"stop_timeout": 8.0}})
        service = OniService(oni, registry=Components())
        deadline = ExitDeadline(9.0, [].append)
        return Daemon(service, Factory(), lambda: 0, settings, reactor, deadline)

    def test_sources_stop_last(self) -> None:
        """They begin when all handlers are registered, and end after the Oni, in the time left.

        From the first moment on they claim nothing more.
        """
        reactor = MemoryReactorClock()
        daemon = self.with_sources(reactor)
        daemon.startService()
        self.assertEqual(["start"], self.oni.told)
        reactor.advance(0)
        self.assertEqual(["start", "start"], self.oni.told)
        self.oni.stopped = Deferred()
        stopped = daemon.stopService()
        reactor.advance(3)
        self.assertEqual(["hold", "turn away", "stop"], self.oni.told[2:])
        self.oni.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(("stop", 4.0), self.oni.told[-1])

    def test_handlers_of_sources_that_hang(self) -> None:
        """Where they were given up the exit code says so."""
        reactor = MemoryReactorClock()
        daemon = self.with_sources(reactor)
        daemon.startService()
        reactor.advance(0)
        self.sources.stopped = StopTimeoutError(7.0, [])
        self.successResultOf(daemon.stopService())
        (trigger,) = reactor.triggers["after"]["shutdown"]
        self.assertEqual((leave, (75,)), trigger[:2])

    def test_sources_that_fail(self) -> None:
        """A ledger that can never be opened ends the daemon, and so do threads that hang."""
        reactor = MemoryReactorClock()
        stops: list[bool] = []
        self.patch(reactor, "stop", lambda: stops.append(True))
        self.with_sources(reactor)
        settings = settings_from({})
        oni = Oni(settings, reactor, channels=Channels(reactor=reactor))
        oni.sources_service = service = self.oni.sources_service
        daemon = Daemon.build(settings, Application(), reactor, oni=oni)
        self.assertIn(service, daemon._parts)
        self.sources.starts = [ZeroDivisionError()]
        service.startService()
        reactor.advance(0)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        service.on_exhausted()
        self.assertEqual([True, True], stops)
        codes = [trigger[1] for trigger in reactor.triggers["after"]["shutdown"]]
        self.assertEqual([(1,), (75,)], codes)

    def test_what_hung_is_named(self) -> None:
        """F13: the part that never stops is named, the others stop, and the exit code tells."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor, stop_timeout=3.0)
        daemon.startService()
        self.oni.stopped = Deferred(lambda _: None)  # it cannot even be cancelled
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        stopped = daemon.stopService()
        reactor.pump([0.5] * 8)
        self.successResultOf(stopped)
        told = "; ".join(filter(None, map(formatEvent, logged)))
        self.assertIn("oni did not stop within 3.0 s", told)
        self.assertIn("Oni gave up on: oni", told)
        ((left, arguments, _),) = reactor.triggers["after"]["shutdown"]
        self.assertEqual((leave, (75,)), (left, arguments))

    def test_nothing_hung(self) -> None:
        """A stop that went well does not change the exit code."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor)
        daemon.startService()
        self.successResultOf(daemon.stopService())
        self.assertEqual({}, reactor.triggers.get("after", {}))

    def test_stop_is_bounded(self) -> None:
        """An Oni that does not stop is given up after the time limit."""
        reactor = MemoryReactorClock()
        daemon = self.daemon(reactor, stop_timeout=3.0)
        daemon.startService()
        self.oni.stopped = Deferred(lambda _: self.oni.told.append("cancelled"))
        stopped = daemon.stopService()
        self.assertEqual([3.0], self.armed)
        reactor.advance(2.9)
        self.assertNoResult(stopped)
        reactor.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(["start", "turn away", "stop", "cancelled"], self.oni.told)
