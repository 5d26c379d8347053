"""F15, F16: whatever a handler raises is that act's failure, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail

from tests.server.house import HouseTestCase


class OwnError(BaseException):
    """What an application derives from the root of all."""


def endless() -> None:
    """Use up Python's stack."""
    endless()


def raiser(kind: type[BaseException]) -> Callable[[Any], None]:
    """Make a handler that raises this at once."""

    def handler(act: Any) -> None:
        if kind is RecursionError:
            endless()
        raise kind

    return handler


def coroutine(kind: type[BaseException]) -> Callable[[Any], Any]:
    """Make a coroutine that raises this."""

    async def handler(act: Any) -> None:
        raise kind

    return handler


def deferred(kind: type[BaseException]) -> Callable[[Any], Deferred[Any]]:
    """Make a handler whose Deferred fails with this."""

    def handler(act: Any) -> Deferred[Any]:
        return fail(kind())

    return handler


KINDS = (
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    OwnError,
    MemoryError,
    RecursionError,
)


class BaseExceptionTests(HouseTestCase):
    """In each phase, raised in each way."""

    def test_before_and_during(self) -> None:
        """The act is answered as an internal error and counted; the next one works."""
        for phase in ("before", "during"):
            for make in (raiser, coroutine, deferred):
                for kind in KINDS:
                    with self.subTest(phase=phase, way=make.__name__, kind=kind.__name__):
                        self.check(phase, make(kind), kind)

    def check(self, phase: str, handler: Any, kind: type[BaseException]) -> None:
        """Let one act meet the handler."""
        self.reactor.advance(1)  # only so many may connect at once
        client = self.connected()
        before = self.oni.dispatcher.statistics()["handler_failures"]
        add = self.oni.dispatcher.add_event_handler
        handler_id = self.successResultOf(add(handler, phase, use_weakref=False, action="publish"))
        told = client.ask("publish", channel="lobby", data=1)
        if phase == "before":
            self.assertEqual(100, told["code"])
        else:
            self.assertNotIn("code", told)  # the act itself had happened already
        self.assertEqual(1, self.oni.dispatcher.statistics()["handler_failures"] - before)
        self.assertEqual(1, len(self.flushLoggedErrors(kind)))
        self.successResultOf(self.oni.dispatcher.remove_event_handler(handler_id))
        self.assertEqual({}, client.ask("publish", channel="lobby", data=2))
        client.vanish()

    def test_after(self) -> None:
        """Behind the answer it is only counted and logged."""
        for kind in KINDS:
            with self.subTest(kind=kind.__name__):
                self.reactor.advance(1)
                client = self.connected()
                add = self.oni.dispatcher.add_event_handler
                handler_id = self.successResultOf(
                    add(raiser(kind), "after", use_weakref=False, action="publish")
                )
                self.assertEqual({}, client.ask("publish", channel="lobby", data=1))
                self.assertEqual(1, len(self.flushLoggedErrors(kind)))
                self.successResultOf(self.oni.dispatcher.remove_event_handler(handler_id))
                client.vanish()
