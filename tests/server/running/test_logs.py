"""The log's way out: nobody waits for whoever reads it."""

from __future__ import annotations

import threading

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from oni.server._running_settings import LogSettings
from oni.server.running._logs import LogWriter, StandardLog


class Pipe:
    """A pipe that nobody reads, until the test does."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_entered = threading.Event()
        self.opened = threading.Event()

    def write(self, data: bytes) -> None:
        """Take it, when the pipe is open."""
        self.is_entered.set()
        if not self.opened.wait(30):
            raise AssertionError("nobody opened the pipe")
        self.written.append(data)


class WriterTests(SynchronousTestCase):
    """F29: a sink that blocks."""

    def setUp(self) -> None:
        """Have a pipe that blocks."""
        self.pipe = Pipe()
        self.addCleanup(self.pipe.opened.set)
        self.writer = LogWriter(self.pipe.write, 3, lambda number: b"dropped %d\n" % number)

    def test_blocked(self) -> None:
        """Who logs never waits; what is too much is dropped, counted, and told of later."""
        self.writer.put(b"0\n")
        self.assertTrue(self.pipe.is_entered.wait(10))  # and there it stays
        for number in range(1, 10):
            self.writer.put(b"%d\n" % number)
        self.assertEqual(7, self.writer.dropped)
        self.assertFalse(self.writer.flush(0.01))
        self.pipe.opened.set()
        self.assertTrue(self.writer.flush(10))
        self.assertEqual([b"0\n", b"dropped 7\n", b"1\n", b"2\n"], self.pipe.written)
        self.writer.put(b"10\n")
        self.assertTrue(self.writer.flush(10))
        self.assertEqual(b"10\n", self.pipe.written[-1])

    def test_bytes(self) -> None:
        """Few but large lines have a bound, too."""
        writer = LogWriter(self.pipe.write, 1000, lambda number: b"")
        for _ in range(100):
            writer.put(b"x" * 1_000_000)
        self.assertGreater(writer.dropped, 80)

    def test_order(self) -> None:
        """What several threads write keeps the order of each of them."""
        self.pipe.opened.set()
        writer = LogWriter(self.pipe.write, 10_000, lambda number: b"dropped")
        threads = [
            threading.Thread(
                target=lambda n=n: [writer.put(b"%d %d" % (n, i)) for i in range(200)]
            )
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(writer.flush(10))
        for n in range(3):
            mine = [line for line in self.pipe.written if line.startswith(b"%d " % n)]
            self.assertEqual([b"%d %d" % (n, i) for i in range(200)], mine)

    def test_end(self) -> None:
        """At the end everything is written before going on."""
        self.pipe.opened.set()
        self.writer.put(b"1\n")
        self.writer.end()
        self.assertEqual([b"1\n"], self.pipe.written)
        self.writer.put(b"2\n")
        self.assertEqual([b"1\n", b"2\n"], self.pipe.written)

    def test_nobody_is_there(self) -> None:
        """A closed pipe costs lines, and nothing else."""

        def broken(data: bytes) -> None:
            raise BrokenPipeError(data)

        writer = LogWriter(broken, 10, lambda number: b"")
        for _ in range(3):
            writer.put(b"1\n")
        self.assertTrue(writer.flush(10))
        self.assertEqual(3, writer.dropped)

    def test_level(self) -> None:
        """What is less important than the level is not written, nor made into a line."""
        self.pipe.opened.set()
        log = StandardLog(LogSettings(level="warn"), self.pipe.write)
        logger = Logger("oni.tests", observer=log)  # type: ignore[arg-type]
        for level in ("debug", "info", "warn", "error", "critical"):
            getattr(logger, level)("{name}", name=level)
        self.assertTrue(log.writer.flush(10))
        told = b"".join(self.pipe.written).decode()
        self.assertEqual(
            ["warn", "error", "critical"], [line.split()[-1] for line in told.splitlines()]
        )
