"""Messages on their way to a broker: in a thread of their own, and no longer than is said."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread, get_ident
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure

from oni._clock import Clock
from oni.errors import NotNowError, NotRunningError

__all__ = ["Outgoing", "Sends"]

_log = Logger()

_MOST_LOST = 3  # threads that hang in a call that should have ended
_SOONEST = 5.0  # seconds until a message that the broker has not taken is tried again
_LATEST = 300.0
_RATE = 50.0  # of these, in a second: a broker that is away shall not keep the ledger busy

_BROKER = "the broker"


class Sends(Protocol):
    """What gives messages to a broker. It lives in one thread, and may block."""

    @property
    def address(self) -> str:
        """Where the broker is, for people."""

    def send(self, message: str, key: str) -> None:
        """Give it a message; it has it when this returns."""

    def close(self) -> None:
        """Drop the connection."""


@dataclass(eq=False, slots=True)
class _Letter:
    # One that was cancelled is told of its end all the same, and says nothing of it.
    message: str
    key: str
    done: Deferred[None] = field(default_factory=Deferred)


class _Carrier:
    """A thread, and what sends in it."""

    def __init__(self, number: int, make: Callable[[], Sends], ended: Callable[..., Any]) -> None:
        self.letters: SimpleQueue[_Letter | None] = SimpleQueue()
        self.is_lost = False
        self._make = make
        self._ended = ended
        Thread(target=self._live, name=f"oni-broker-{number}", daemon=True).start()

    def _live(self) -> None:
        post: Sends | None = None
        while (letter := self.letters.get()) is not None:
            where = ""
            try:
                if post is None:
                    post = self._make()
                post.send(letter.message, letter.key)
                result: Any = None
            except BaseException:  # noqa: BLE001 - whoever waits for it is told
                result = Failure()
                where = "" if post is None else post.address
            self._ended(self, letter, result, where)
            del letter, result
        if post is not None:
            post.close()


class Outgoing:
    """Sends messages, one after the other, in a thread that does not keep the process from ending.

    A message that is not confirmed in time has failed, whatever the thread hangs in: another
    thread takes its place, a few times. When the broker does not take a message, all that wait
    behind it fail with it, so that none of them waits for as long again.

    All of it returns at once. What is not said to be for any thread is called in the reactor's.

    Args:
        make: Makes what sends, in its thread.
        timeout: Seconds in which a message must be confirmed.
        capacity: How many messages may wait.
        clock: For time limits.
    """

    def __init__(
        self, make: Callable[[], Sends], timeout: float, capacity: int, clock: Clock
    ) -> None:
        self._make = make
        self._timeout = timeout
        self._capacity = capacity
        self._clock = clock
        self._waiting: deque[_Letter] = deque()
        self._carrier: _Carrier | None = None
        self._under_way: _Letter | None = None
        self._timer: IDelayedCall | None = None
        self._made = 0
        self._lost = 0
        self._is_away = False
        self._is_full = False
        self._next_try = 0.0
        self._counted = {"sent": 0, "refused": 0}

    def send(self, message: str, key: str) -> Deferred[None]:
        """Send a message. Any thread may call: event sources of Django's have several.

        Returns:
            A Deferred that fires with None when the broker has confirmed it, or fails with
            :class:`oni.errors.NotNowError`, in the reactor's thread. Cancelling it there keeps
            what still waits from being sent.
        """
        letter = _Letter(message, key)
        if cast("int | None", threadable.ioThread) in (None, get_ident()):
            self._take(letter)
        else:
            self._clock.reactor.callFromThread(self._take, letter)
        return letter.done

    def _take(self, letter: _Letter) -> None:
        if len(self._waiting) >= self._capacity:
            if not self._is_full:
                self._is_full = True
                _log.warn(
                    "{n} messages wait to be sent, and no more is taken. What a ledger has "
                    "brought stays there",
                    n=self._capacity,
                )
            self._refuse([letter], f"{self._capacity} messages wait for it")
        else:
            self._waiting.append(letter)
            self._go_on()

    def statistics(self) -> dict[str, int]:
        """Give how many messages were sent, were not, and wait; and the threads that hang."""
        waiting = len(self._waiting) + (self._under_way is not None)
        return {**self._counted, "waiting": waiting, "threads_lost": self._lost}

    def stop(self) -> None:
        """Send nothing more: what waits fails with :class:`oni.errors.NotRunningError`.

        What is being sent ends as it does. A message after that begins a new thread.
        """
        waiting, self._waiting = self._waiting, deque()
        for letter in waiting:
            letter.done.errback(NotRunningError("the sending of messages has stopped"))
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.letters.put(None)

    # --- One after the other

    def _go_on(self) -> None:
        while self._waiting and self._under_way is None:
            letter = self._waiting.popleft()
            if letter.done.called:  # it was cancelled
                continue
            carrier = self._find_carrier()
            if carrier is None:
                self._fail(letter, "all threads that send hang", "")
                return
            self._under_way = letter
            self._timer = self._clock.call_later(self._timeout, self._give_up, carrier, letter)
            carrier.letters.put(letter)

    def _find_carrier(self) -> _Carrier | None:
        if self._carrier is None and self._lost <= _MOST_LOST:
            try:
                self._carrier = _Carrier(self._made + 1, self._make, self._tell)
            except RuntimeError:  # the system gives no thread
                return None
            self._made += 1
        return self._carrier

    def _tell(self, *outcome: Any) -> None:
        """Tell of an outcome, in the reactor's thread. In the other one."""
        self._clock.reactor.callFromThread(self._ended, *outcome)

    def _ended(self, carrier: _Carrier, letter: _Letter, result: Any, where: str) -> None:
        if carrier.is_lost:
            self._lost -= 1
            return
        self._no_longer_under_way()
        if isinstance(result, Failure):
            self._fail(letter, f"{type(result.value).__name__}: {result.value}", where)
        else:
            self._counted["sent"] += 1
            self._come_back()
            letter.done.callback(None)
        self._go_on()

    def _give_up(self, carrier: _Carrier, letter: _Letter) -> None:
        """Wait no longer for what a thread does."""
        carrier.is_lost = True
        carrier.letters.put(None)
        self._carrier = None
        self._lost += 1
        self._no_longer_under_way()
        self._fail(letter, f"it has not confirmed a message in {self._timeout:g} s", "")

    def _no_longer_under_way(self) -> None:
        self._under_way = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    # --- When the broker is away

    def _fail(self, letter: _Letter, reason: str, where: str) -> None:
        if not self._is_away:
            self._is_away = True
            _log.error(
                "The broker {where} takes no messages, and is tried again: {reason}",
                where=where,
                reason=reason,
            )
        waiting, self._waiting = self._waiting, deque()
        self._refuse([letter, *waiting], reason)

    def _refuse(self, letters: list[_Letter], reason: str) -> None:
        for letter in letters:
            self._counted["refused"] += 1
            letter.done.errback(NotNowError(_BROKER, reason, self._turn()))

    def _turn(self) -> float:
        """Give the seconds after which a message shall come again, each at its time."""
        now = self._clock.seconds()
        first = min(self._next_try, now + _LATEST)
        self._next_try = max(first, now + _SOONEST) + 1 / _RATE
        return self._next_try - now

    def _come_back(self) -> None:
        self._is_full = False
        self._next_try = 0.0
        if self._is_away:
            self._is_away = False
            _log.info("The broker takes messages again")
