"""Run the reactor for a command, and end it with a number."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any, Protocol

import crochet
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, formatEvent, globalLogBeginner
from zope.interface import implementer

from oni.command._show import note

__all__ = ["Program", "run"]

_LOOK_INTERVAL = 0.5  # seconds between two looks whether anybody still reads standard output


class Program(Protocol):
    """What a command does while the reactor runs.

    Attributes:
        exit_code: How it ended.
    """

    exit_code: int

    def start(self, end: Callable[[], None]) -> None:
        """Begin; call ``end`` when there is nothing more to do."""

    def stop(self, by_signal: bool) -> Any:
        """Say the last word and let everything go; may return a Deferred that is waited for."""


def run(make: Callable[[Any], Program]) -> int:
    """Run a program until it ends, SIGINT or SIGTERM comes, or nobody reads its output.

    Args:
        make: Makes the program, for the reactor.

    Returns:
        Its exit code.
    """
    crochet.no_setup()  # nobody but this function runs the reactor
    from twisted.internet import reactor

    running: Any = reactor
    _keep_logs_away()
    program = make(running)
    ended_by_itself = is_ending = False

    def end() -> None:
        nonlocal ended_by_itself
        if not (ended_by_itself or is_ending) and running.running:
            ended_by_itself = True
            running.stop()

    def look() -> None:
        if _nobody_reads():
            end()

    def stop() -> Any:
        nonlocal is_ending
        is_ending = True
        return program.stop(by_signal=not ended_by_itself)

    looking = LoopingCall(look)
    running.callWhenRunning(program.start, end)
    running.callWhenRunning(looking.start, _LOOK_INTERVAL, False)
    running.addSystemEventTrigger("before", "shutdown", stop)
    running.run()
    return program.exit_code


def _keep_logs_away() -> None:
    """Keep Twisted's and Autobahn's log from the terminal; what is a bug is not hidden."""

    @implementer(ILogObserver)
    def only_bugs(event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            note(formatEvent(event))
            failure.printTraceback(file=sys.stderr)

    globalLogBeginner.beginLoggingTo([only_bugs], redirectStandardIO=False, discardBuffer=True)


def _nobody_reads() -> bool:
    """Say whether standard output is a pipe whose other end is closed."""
    try:
        output = sys.stdout.fileno()
        poll = select.poll()
        poll.register(output, 0)
        found = poll.poll(0)
    except (OSError, ValueError):
        return False
    gone = bool(found and found[0][1] & (select.POLLERR | select.POLLNVAL))
    if gone:  # nothing more can be written there, also when the process ends
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
    return gone
