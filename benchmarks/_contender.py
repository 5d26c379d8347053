"""What a dispatcher must offer to be measured, and the handlers that all of them are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from _harness import Batch
from twisted.internet.defer import Deferred

__all__ = ["EVENT_TYPE", "ROLE", "Contender", "Emit", "Fire", "Handlers", "repeated"]

EVENT_TYPE, ROLE = "user_created", "admin"

Emit = Callable[[], object]
"""Gives one event to all handlers."""

Fire = Callable[[Any], object]
"""Gives one event to the handler that wants this event type, this user and this role."""


class Handlers:
    """Makes handlers, each a function of its own, and keeps them (many are held weakly).

    Attributes:
        value: What the handlers return.
    """

    def __init__(self, value: object = None) -> None:
        self.value = value
        self._kept: list[object] = []

    def keep(self, things: list[Any]) -> list[Any]:
        """Keep these as long as this object lives."""
        self._kept.append(things)
        return things

    def plain(self, count: int) -> list[Any]:
        """Make functions of one argument."""
        return self.keep([self._plain() for _ in range(count)])

    def named(self, count: int) -> list[Any]:
        """Make functions that take what they are given by name."""
        return self.keep([self._named() for _ in range(count)])

    def methods(self, count: int) -> list[Any]:
        """Make bound methods, each of an object of its own."""
        kind = _Listener if self.value is None else _AnsweringListener
        return self.keep([kind().hear for _ in range(count)])

    def coroutines(self, count: int) -> list[Any]:
        """Make coroutine functions that do not suspend."""
        return self.keep([self._coroutine() for _ in range(count)])

    def awaiting(self, count: int, make: Callable[[], Any]) -> list[Any]:
        """Make coroutine functions that await what ``make`` gives them."""
        return self.keep([self._awaiting(make) for _ in range(count)])

    def _plain(self) -> Any:
        value = self.value
        if value is None:

            def handler(event: object) -> object:
                pass
        else:

            def handler(event: object) -> object:
                return value

        return handler

    def _named(self) -> Any:
        value = self.value

        def handler(sender: object = None, **named: object) -> object:
            return value

        return handler

    def _coroutine(self) -> Any:
        async def handler(event: object = None, **named: object) -> object:
            pass

        return handler

    def _awaiting(self, make: Callable[[], Any]) -> Any:
        async def handler(event: object = None, **named: object) -> object:
            await make()

        return handler


class _Listener:
    """An object with a method that listens."""

    def hear(self, event: object) -> object:
        """Do nothing with an event."""
        return None


class _AnsweringListener:
    """An object with a method that listens and returns something."""

    def hear(self, event: object) -> object:
        """Answer an event."""
        return "a value"


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """One way to tell handlers of an event.

    Attributes:
        name: What the table calls it.
        does: What it does beside calling: "guards" (an error does not keep the others from being
            called), "collects" (what handlers return), both or nothing.
        distribution: Where it comes from, ``""`` for a limit.
        limit: Whether it is no library, but what no library can beat.
        handlers: Which handlers it takes.
        connect: Registers handlers in a new registry, and returns what ``emit`` needs.
        emit: Makes the call that fires one event.
        match: Registers one handler per user, which wants the events of :data:`EVENT_TYPE` for
            its user in :data:`ROLE`, and makes the call that fires such an event for a user; also
            gives the users as that call wants them. None: not measured.
        filter: How ``match`` finds the user's handler: by what the library can find it, the rest
            being looked at in the handler.
        coroutines: Makes a batch of events for ten coroutine functions. Its second argument says
            whether they suspend (a limit is only asked for those that do not).
        slow: Whether registering ten thousand handlers takes seconds.
        huge: Whether registering a million handlers takes only some seconds.
    """

    name: str
    does: str = ""
    distribution: str = ""
    limit: bool = False
    handlers: Callable[[Handlers, int], list[Any]] = lambda handlers, count: handlers.plain(count)
    connect: Callable[[list[Any]], Any] | None = None
    emit: Callable[[Any], Emit] | None = None
    match: Callable[[Handlers, Sequence[str]], tuple[Fire, Sequence[Any]]] | None = None
    filter: str = ""
    coroutines: Callable[[Handlers, bool], Batch] | None = None
    slow: bool = False
    huge: bool = False


def repeated(emit: Emit) -> Batch:
    """Make a batch of a call."""

    def batch(count: int) -> None:
        for _ in repeat(None, count):
            emit()

    return batch


def resumed(handlers: Handlers, start: Callable[[list[Any]], Emit], suspends: bool) -> Batch:
    """Make a batch of events for ten coroutine functions under Twisted.

    Args:
        handlers: Makes them.
        start: Makes the call that fires an event for these coroutine functions.
        suspends: Whether each awaits a Deferred, which then is fired after the event.
    """
    if not suspends:
        return repeated(start(handlers.coroutines(10)))
    waiting: list[Deferred[None]] = []

    def make() -> Deferred[None]:
        deferred: Deferred[None] = Deferred()
        waiting.append(deferred)
        return deferred

    emit = start(handlers.awaiting(10, make))

    def emit_and_resume() -> None:
        emit()
        for deferred in waiting:  # also those that a resumed coroutine adds meanwhile
            deferred.callback(None)
        waiting.clear()

    return repeated(emit_and_resume)
