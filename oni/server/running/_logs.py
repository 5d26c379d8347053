"""Where the daemon's log goes: standard output, by a thread of its own.

Who logs never waits. Where standard output takes nothing (a pipe that nobody reads, a terminal
that was stopped), events wait within a bound; further ones are dropped, counted and told of.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
from collections.abc import Callable, Collection
from queue import SimpleQueue
from time import time
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from oni.server._running_settings import LogSettings
from oni.server.running._log_lines import JsonLines, TextLines

__all__ = ["LogWriter", "StandardLog", "begin_log", "dropped_events", "end_log"]

_MAX_BYTES = 8 * 1024 * 1024  # that wait, whatever the number of events is
_GOODBYE = 1.0  # seconds that what waits still gets at the end
_LEVELS = tuple(LogLevel.iterconstants())


class LogWriter:
    """Writes lines in a thread of its own.

    Attributes:
        dropped: How many lines were dropped, so far.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        max_waiting: int,
        tell_dropped: Callable[[int], bytes],
    ) -> None:
        """Write nothing yet.

        Args:
            write: Writes bytes, and may block. It is called in the thread.
            max_waiting: How many lines may wait.
            tell_dropped: Makes the line that says how many were dropped.
        """
        self._write = write
        self._max_waiting = max_waiting
        self._tell_dropped = tell_dropped
        # Both may be entered anew by a signal's handler while they are in use.
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._lock = threading.RLock()
        self._waiting = self._bytes = 0
        self._thread: threading.Thread | None = None
        self._is_ending = False
        self.dropped = 0
        self._told = 0

    def put(self, line: bytes) -> None:
        """Write a line, soon. Any thread may call this; it never waits for the output."""
        with self._lock:
            if self._waiting >= self._max_waiting or self._bytes >= _MAX_BYTES:
                self.dropped += 1
                return
            self._waiting += 1
            self._bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="oni-log", daemon=True)
                self._thread.start()
        self._lines.put(line)
        if self._is_ending:
            self.flush(_GOODBYE)

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, so long at most; say whether it is."""
        if self._thread is None:
            return True
        reached = threading.Event()
        self._lines.put(reached)
        return reached.wait(seconds)

    def end(self) -> None:
        """From now on write each line before going on, within a bound: the process ends."""
        if not self._is_ending and not self.flush(_GOODBYE):
            with self._lock:
                self._max_waiting = 0  # nobody takes anything: nobody waits again
        self._is_ending = True

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._write(line)
                with self._lock:
                    number, self._told = self.dropped - self._told, self.dropped
                if number:
                    self._write(self._tell_dropped(number))
            except OSError:  # nobody is there any more to whom it could be said
                with self._lock:
                    self.dropped += 1
                    self._told += 1
            finally:
                with self._lock:
                    self._waiting -= 1
                    self._bytes -= len(line)


@implementer(ILogObserver)
class StandardLog:
    """Takes the events of the process's log, and writes those that are important enough.

    Attributes:
        writer: Where they go.
    """

    def __init__(
        self,
        settings: LogSettings,
        write: Callable[[bytes], object],
        secrets: Collection[str] = (),
    ) -> None:
        """Write nothing yet.

        Args:
            settings: Format, level and bound.
            write: Writes bytes.
            secrets: What must never be written.
        """
        lines = (JsonLines if settings.format == "json" else TextLines)(secrets)
        self._lines = lines
        wanted = _LEVELS.index(LogLevel.levelWithName(settings.level))
        self._wanted = frozenset(_LEVELS[wanted:])
        self.writer = LogWriter(write, settings.max_waiting, self._tell_dropped)

    def __call__(self, event: LogEvent) -> None:
        """Write an event, if it is important enough."""
        if event.get("log_level", LogLevel.info) in self._wanted:
            self.writer.put(self._lines.write(event))

    def _tell_dropped(self, number: int) -> bytes:
        return self._lines.write(
            {
                "log_format": "{number} log events were dropped: nobody took them",
                "log_level": LogLevel.warn,
                "log_namespace": __name__,
                "log_time": time(),
                "number": number,
            }
        )


_log: StandardLog | None = None


def begin_log(settings: LogSettings, secrets: Collection[str] = ()) -> None:
    """Let the process's log go to standard output through a thread, instead of twistd's way.

    Call it before twistd begins to log: what twistd would write is then written nowhere else.
    Nothing happens the second time, nor where there is no standard output.
    """
    global _log
    if _log is not None:
        return
    try:
        sys.stdout.flush()
        number = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # it is closed, or was never opened
        return
    _log = StandardLog(settings, lambda data: _write_all(number, data), secrets)
    globalLogPublisher.addObserver(_log)
    atexit.register(end_log)
    sys.stdout = _Nowhere()


def end_log() -> None:
    """Write what waits, within a bound; what comes later is written at once."""
    if _log is not None:
        _log.writer.end()


def dropped_events() -> int:
    """Count the events that were dropped, so far."""
    return 0 if _log is None else _log.writer.dropped


def _write_all(number: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:  # somebody made it so; it is others', too
            select.select([], [number], [])


class _Nowhere:
    """Stands for standard output while twistd takes it for its log."""

    encoding = "utf-8"
    closed = False

    def write(self, text: Any) -> int:
        """Write nothing."""
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        """Be no terminal."""
        return False
