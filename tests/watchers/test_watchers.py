"""Watchers, each by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorCore
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni.dispatcher import EventDispatcher
from oni.errors import NotNowError, NotRunningError, WatchersFailedError
from oni.interfaces import IModelEventWatcher
from oni.watchers import (
    BaseModelEventWatcher,
    CompositeModelEventWatcher,
    DispatcherModelEventWatcher,
    MethodModelEventWatcher,
    ModelEvent,
    NoopModelEventWatcher,
    ThreadedModelEventWatcher,
)

DETAILS: Mapping[str, Any] = {"new": {"title": "b", "version": 2}, "old": {"title": "a"}}


@implementer(IModelEventWatcher)
class Recorder:
    """Keeps what it hears, and does with it what it is told to.

    Attributes:
        heard: Model, action and id of all that it has heard.
        answer: Is called with these three; what it gives is returned.
    """

    def __init__(self, answer: Any = None) -> None:
        """Hear nothing yet."""
        self.heard: list[tuple[str, str, Any]] = []
        self.answer = answer

    def created(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Keep it."""
        return self._hear(model, "created", id)

    def modified(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Keep it."""
        return self._hear(model, "modified", id)

    def deleted(self, model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Keep it."""
        return self._hear(model, "deleted", id)

    def _hear(self, *said: Any) -> Any:
        self.heard.append(said)
        return None if self.answer is None else self.answer(*said)


def tell_all(watcher: Any) -> list[Any]:
    """Tell a watcher of one row's whole life; give what it gives."""
    return [
        watcher.created("blog.Post", 1, DETAILS),
        watcher.modified("blog.Post", 1, DETAILS),
        watcher.deleted("blog.Post", 1, DETAILS),
    ]


class SimpleTests(SynchronousTestCase):
    """Those that keep nothing."""

    def test_contract(self) -> None:
        """All of them are watchers."""
        inner = Recorder()
        for watcher in (
            BaseModelEventWatcher(),
            NoopModelEventWatcher(),
            CompositeModelEventWatcher(inner),
            MethodModelEventWatcher(object()),
            DispatcherModelEventWatcher(EventDispatcher()),
            ThreadedModelEventWatcher(inner),
        ):
            self.assertTrue(verifyObject(IModelEventWatcher, watcher))

    def test_base_logs(self) -> None:
        """The base watcher says what has become of which row, and nothing of its data."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        watcher = BaseModelEventWatcher()
        watcher.created("blog.Post", 1, {})
        watcher.modified("blog.Post", 1, {"changed": ["title"], "new": {"title": "secret"}})
        watcher.deleted("blog.Post", 1, {})
        formats = [event["log_format"].format(**event) for event in said]
        self.assertEqual(
            [
                "blog.Post 1 was created",
                "blog.Post 1 was modified: title",
                "blog.Post 1 was deleted",
            ],
            formats,
        )

    def test_noop(self) -> None:
        """The other one does nothing at all."""
        self.assertEqual([None] * 3, tell_all(NoopModelEventWatcher()))


class CompositeTests(SynchronousTestCase):
    """Several watchers as one."""

    def test_all_are_told(self) -> None:
        """In order, and waited for."""
        later: Deferred[None] = Deferred()
        first, second = Recorder(lambda *said: later), Recorder()
        told = CompositeModelEventWatcher(first, second).created("blog.Post", 1, {})
        self.assertEqual([("blog.Post", "created", 1)], second.heard)
        self.assertNoResult(told)
        later.callback(None)
        self.assertIsNone(self.successResultOf(told))

    def test_failures(self) -> None:
        """One that fails stops no other; all failures are told together."""

        def fails(*said: Any) -> Any:
            raise ValueError("first")

        last = Recorder()
        composite = CompositeModelEventWatcher(
            Recorder(fails), Recorder(lambda *said: fail(KeyError("second"))), last
        )
        failure = self.failureResultOf(composite.deleted("blog.Post", 1, {}), WatchersFailedError)
        self.assertEqual(1, len(last.heard))
        kinds = [each.type for each in failure.value.failures]
        self.assertEqual([ValueError, KeyError], kinds)
        self.assertIn("2 failed: first", str(failure.value))

    def test_only_watchers(self) -> None:
        """What is none is refused where it is given."""
        self.assertRaises(TypeError, CompositeModelEventWatcher, object())


class MethodTests(SynchronousTestCase):
    """Methods named after models and actions."""

    def test_methods(self) -> None:
        """A class of that kind works as it is; what it has no method for is passed over."""
        heard: list[Any] = []

        class Notifications:
            def processPostCreated(self, id: int) -> None:
                heard.append(("created", id))

            def processPostModified(self, id: int, version: int) -> None:
                heard.append(("modified", id, version))

        tell_all(MethodModelEventWatcher(Notifications()))
        MethodModelEventWatcher(Notifications()).created("blog.Idea", 1, DETAILS)
        self.assertEqual([("created", 1), ("modified", 1, 2)], heard)

    def test_inherited(self) -> None:
        """It may be inherited from, and given all details."""

        class Watcher(MethodModelEventWatcher):
            def processPostDeleted(self, id: int, title: str, details: Any, **more: Any) -> Any:
                return id, title, details, more

        found = Watcher().deleted("Post", 1, {"new": {}, "old": {"title": "a", "n": 1}})
        self.assertEqual((1, "a"), found[:2])
        self.assertEqual({"title": "a", "n": 1}, found[2]["old"])
        self.assertEqual({"n": 1}, found[3])

    def test_id_among_the_columns(self) -> None:
        """A column that is called like the first parameter is no second value of it."""

        class Watcher(MethodModelEventWatcher):
            def processPostCreated(self, id: int, **columns: Any) -> Any:
                return id, sorted(columns)

        found = Watcher().created("Post", 1, {"new": {"id": 1, "title": "a"}})
        self.assertEqual((1, ["details", "title"]), found)

    def test_no_such_column(self) -> None:
        """A parameter that no column is called like is None, or what it is by default."""

        class Watcher(MethodModelEventWatcher):
            def processPostCreated(self, id: int, state_changed: Any, version: int = 7) -> Any:
                return id, state_changed, version

            def processIdeaCreated(self, id: int, state_changed: Any, **more: Any) -> Any:
                return id, state_changed

        self.assertEqual((1, None, 7), Watcher().created("Post", 1, {"new": {"id": 1}}))
        self.assertEqual((1, None), Watcher().created("Idea", 1, {"new": {"id": 1}}))


class DispatcherTests(SynchronousTestCase):
    """What is fired at a dispatcher."""

    def test_matched(self) -> None:
        """Handlers are matched by what the dispatcher allows of model, action and id."""
        dispatcher = EventDispatcher(("model", "action"))
        dispatcher.start()
        heard: list[ModelEvent] = []
        dispatcher.add_event_handler(
            heard.append, "during", use_weakref=False, model="blog.Post", action="modified"
        )
        for told in tell_all(DispatcherModelEventWatcher(dispatcher)):
            self.assertIsNone(self.successResultOf(told))
        self.assertEqual([ModelEvent("blog.Post", "modified", 1, DETAILS)], heard)

    def test_failures(self) -> None:
        """A handler that fails lets the watcher fail."""
        dispatcher = EventDispatcher()
        dispatcher.start()

        def fails(event: object) -> None:
            raise ValueError("no")

        dispatcher.add_event_handler(fails, "during")
        told = DispatcherModelEventWatcher(dispatcher).created("blog.Post", 1, {})
        self.failureResultOf(told, WatchersFailedError)
        self.flushLoggedErrors(ValueError)


class Reactor(Clock):
    """A clock that calls from threads are kept for.

    Attributes:
        came: Is set when there is one.
    """

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self._calls: list[Any] = []
        self.came = threading.Event()

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        """Keep a call."""
        self._calls.append((call, arguments))
        self.came.set()

    def until(self, condition: Any) -> None:
        """Make the calls that come, until something holds."""
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "nothing came"
            self.came.wait(0.05)
            self.came.clear()
            while self._calls:
                call, arguments = self._calls.pop(0)
                call(*arguments)


class ThreadedTests(SynchronousTestCase):
    """One thread, which blocks nobody."""

    def setUp(self) -> None:
        """Make a reactor."""
        self.reactor = Reactor()

    def threaded(self, inner: Any, **options: Any) -> ThreadedModelEventWatcher:
        """Make a watcher that is stopped with the test."""
        watcher = ThreadedModelEventWatcher(inner, reactor=self.reactor, **options)
        self.addCleanup(self.end, watcher)
        return watcher

    def end(self, watcher: ThreadedModelEventWatcher, timeout: float | None = 10.0) -> int:
        """Stop a watcher; give how many events it gave up."""
        stopped = watcher.stop(timeout)
        self.reactor.until(lambda: stopped.called)
        return self.successResultOf(stopped)

    def test_own_thread(self) -> None:
        """All events, in their order, in one thread that has a name."""
        names = set()
        inner = Recorder(lambda *said: names.add(threading.current_thread().name))
        told = tell_all(self.threaded(inner))
        self.reactor.until(lambda: all(each.called for each in told))
        actions = [action for _, action, _ in inner.heard]
        self.assertEqual(["created", "modified", "deleted"], actions)
        self.assertEqual({"oni-watcher"}, names)

    def test_survives(self) -> None:
        """Whatever the watcher raises, that event fails and the next one is carried on."""

        def fails(model: str, action: str, id: Any) -> None:
            if action == "created":
                raise SystemExit
            if action == "modified":
                raise ValueError("no")

        told = tell_all(self.threaded(Recorder(fails)))
        self.reactor.until(lambda: all(each.called for each in told))
        self.failureResultOf(told[0], SystemExit)
        self.failureResultOf(told[1], ValueError)
        self.assertIsNone(self.successResultOf(told[2]))

    def test_must_be_waited_for(self) -> None:
        """What must be waited for is a failure, told at once; what has ended already is not."""

        async def coroutine() -> None:
            """Would begin somewhere else."""

        given = [Deferred(), coroutine(), succeed("done"), fail(ValueError("no"))]
        watcher = self.threaded(Recorder(lambda *said: given[said[2]]))
        told = [watcher.created("blog.Post", number, {}) for number in range(4)]
        self.reactor.until(lambda: all(each.called for each in told))
        for each in told[:2]:
            failure = self.failureResultOf(each, TypeError)
            self.assertIn("must be waited for", failure.getErrorMessage())
        self.assertEqual("done", self.successResultOf(told[2]))
        self.failureResultOf(told[3], ValueError)

    def test_full(self) -> None:
        """When too many wait no more is taken, and it is said, once each time."""
        go_on = threading.Event()
        begun = threading.Event()

        def waits(*said: Any) -> None:
            begun.set()
            go_on.wait(30)

        watcher = self.threaded(Recorder(waits), capacity=3)
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        for times in (1, 2):
            go_on.clear()
            begun.clear()
            told = [watcher.created("blog.Post", 0, {})]
            self.assertTrue(begun.wait(30))
            told += [watcher.created("blog.Post", number, {}) for number in range(1, 4)]
            self.assertEqual(3, watcher.waiting)
            for number in range(2):
                self.failureResultOf(watcher.created("blog.Post", number, {}), NotNowError)
            behind = [event for event in said if "behind" in event["log_format"]]
            self.assertEqual(times, len(behind))
            go_on.set()
            self.reactor.until(lambda told=told: all(each.called for each in told))

    def test_drained_at_the_stop(self) -> None:
        """What waits is done before the thread ends."""
        inner = Recorder()
        watcher = self.threaded(inner)
        told = [watcher.created("blog.Post", number, {}) for number in range(100)]
        thread = watcher._thread
        assert thread is not None
        self.assertEqual(0, self.end(watcher))
        self.assertEqual(100, len(inner.heard))
        self.assertTrue(all(each.called for each in told))
        self.assertFalse(thread.is_alive())

    def test_hangs_at_the_stop(self) -> None:
        """After the time what waits is given up, and fails."""
        go_on = threading.Event()
        watcher = self.threaded(Recorder(lambda *said: go_on.wait(30)), capacity=2)
        told = [watcher.created("blog.Post", 0, {})]
        end = time.monotonic() + 30
        while watcher.waiting and time.monotonic() < end:
            time.sleep(0.001)
        told += [watcher.created("blog.Post", number, {}) for number in (1, 2)]
        thread = watcher._thread
        assert thread is not None
        self.assertEqual(2, self.end(watcher, 0.05))
        self.reactor.until(lambda: told[1].called and told[2].called)
        self.failureResultOf(told[1], NotRunningError)
        self.failureResultOf(told[2], NotRunningError)
        go_on.set()
        self.reactor.until(lambda: told[0].called)
        self.assertTrue(self.successResultOf(told[0]))
        thread.join(30)
        self.assertFalse(thread.is_alive())  # it has come back, and ends

    def test_begins_anew(self) -> None:
        """An event after the stop begins a new thread."""
        inner = Recorder()
        watcher = self.threaded(inner)
        self.assertEqual(0, self.end(watcher))
        told = watcher.created("blog.Post", 1, {})
        self.reactor.until(lambda: told.called)
        self.assertEqual(1, len(inner.heard))

    def test_ends_with_the_reactor(self) -> None:
        """The reactor stops it at its end, so that it keeps no process alive."""
        triggers: list[Any] = []

        @implementer(IReactorCore)
        class Whole(Reactor):
            def addSystemEventTrigger(self, phase: str, kind: str, call: Any) -> None:
                triggers.append((phase, kind, call))

        self.reactor = Whole()
        watcher = self.threaded(Recorder())
        self.assertEqual([], triggers)
        for number in range(2):  # the second one is of a second thread
            told = watcher.created("blog.Post", number, {})
            self.reactor.until(lambda told=told: told.called)
            [(phase, kind, stop)] = triggers
            self.assertEqual(("after", "shutdown"), (phase, kind))
            thread = watcher._thread
            assert thread is not None
            stopped = stop()
            self.reactor.until(lambda stopped=stopped: stopped.called)
            self.assertFalse(thread.is_alive())

    def test_capacity(self) -> None:
        """It is a positive integer."""
        for wrong in (0, -1, True, 1.5):
            self.assertRaises(ValueError, ThreadedModelEventWatcher, Recorder(), capacity=wrong)

    def test_waits_for_nobody(self) -> None:
        """A watcher that returns at once costs one crossing per event."""
        watcher = self.threaded(Recorder(lambda *said: succeed("ignored").result))
        told = watcher.created("blog.Post", 1, {})
        self.reactor.until(lambda: told.called)
        self.assertEqual("ignored", self.successResultOf(told))
