"""A stand-in for the reactor: one thread that runs what other threads hand over."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from twisted.python import threadable
from twisted.trial.unittest import SynchronousTestCase

from oni.blocking._reactor_thread import ReactorThread


class Pump:
    """Runs what ``callFromThread`` is given, in a thread that counts as the reactor's."""

    def __init__(self) -> None:
        self.running = False
        self.crossings = 0
        self.failures: list[BaseException] = []
        self._queue: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._triggers: dict[str, list[Callable[[], Any]]] = {"before": [], "during": []}
        self._thread: Thread | None = None

    def start(self) -> None:
        """Run, until :meth:`stop`. The second time nothing happens, as crochet's setup does."""
        if self._thread is None:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
            self.running = True

    def stop(self) -> None:
        """Stop as a reactor does: shutdown triggers first."""
        if self._thread is not None:
            for trigger in self._triggers["before"] + self._triggers["during"]:
                self._queue.put(trigger)
            self._queue.put(None)
            self._thread.join(5)
            self.running = False
            self._thread = None

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """Count a crossing, and run the function soon."""
        self.crossings += 1
        self._queue.put(lambda: function(*args))

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[..., Any]) -> None:
        """Remember what to run before the end."""
        assert event == "shutdown"
        self._triggers[phase].append(function)

    def hold(self) -> Callable[[], None]:
        """Keep the thread busy until the returned function is called."""
        release = Event()
        self._queue.put(lambda: release.wait(10))
        return release.set

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in the thread and give its result, without counting a crossing."""
        done = Event()
        results: list[Any] = []

        def call() -> None:
            try:
                results.append(function())
            finally:
                done.set()

        self._queue.put(call)
        assert done.wait(5)
        return results[0]

    def _run(self) -> None:
        threadable.registerAsIOThread()
        while (call := self._queue.get()) is not None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - for the test to look at
                self.failures.append(error)


class PumpTestCase(SynchronousTestCase):
    """Has a pump that runs, and a ReactorThread that reaches it."""

    def setUp(self) -> None:
        """Start the pump; its thread is the reactor's for the test's time."""
        self.patch(threadable, "ioThread", None)
        self.pump = Pump()
        self.addCleanup(self.pump.stop)
        self.thread = ReactorThread(self.pump.start, lambda: self.pump)
        self.thread.setup()
        self.pump.run(lambda: None)

    def tearDown(self) -> None:
        """Find that nothing failed in the pump's thread."""
        self.assertEqual(self.pump.failures, [])
