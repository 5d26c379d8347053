"""What may be a handler, how each kind is called, and what is refused."""

from __future__ import annotations

import contextvars
import functools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, inlineCallbacks, succeed

from oni.dispatcher import in_thread
from oni.errors import (
    InvalidHandlerError,
    InvalidTimeoutError,
    InvalidTimesError,
    UnknownPhaseError,
)
from tests.dispatcher.cases import DispatcherCase

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Listener:
    """An object with every kind of method, and callable itself."""

    def method(self, event: Any) -> Any:
        """Give the event."""
        return ("method", event)

    @classmethod
    def for_class(cls, event: Any) -> Any:
        """Give the class."""
        return (cls, event)

    @staticmethod
    def static(event: Any) -> Any:
        """Give the event."""
        return ("static", event)

    async def coroutine(self, event: Any) -> Any:
        """Give the event."""
        return ("coroutine", event)

    def __call__(self, event: Any) -> Any:
        """Give the event."""
        return ("object", event)


class AsyncObject:
    """An object whose call gives a coroutine."""

    async def __call__(self, event: Any) -> Any:
        """Give the event."""
        return ("async object", event)


def function(event: Any) -> Any:
    """Give the event."""
    return ("function", event)


async def coroutine_function(event: Any) -> Any:
    """Give the event."""
    return ("coroutine function", event)


def with_argument(argument: str, event: Any) -> Any:
    """Give both."""
    return (argument, event)


async def coroutine_with_argument(argument: str, event: Any) -> Any:
    """Give both."""
    return (argument, event)


class KindTests(DispatcherCase):
    """Every kind of handler, held strongly and weakly, any number of times and counted."""

    def value_of(self, handler: Callable[[Any], Any]) -> Any:
        """Give what a handler returns, the same however it is registered."""
        values = []
        for weak in (True, False):
            for times in (None, 1):
                self.dispatcher = self.make()
                self.add(handler, use_weakref=weak, times=times)
                (value,) = self.fire().values
                values.append(value)
                self.assertEqual(len(self.fire()), 1 if times is None else 0)
        self.assertEqual(values, values[:1] * 4)
        return values[0]

    def test_function(self) -> None:
        """A function."""
        self.assertEqual(self.value_of(function), ("function", "event"))

    def test_bound_method(self) -> None:
        """A bound method."""
        listener = Listener()
        self.assertEqual(self.value_of(listener.method), ("method", "event"))

    def test_class_method(self) -> None:
        """A class method."""
        self.assertEqual(self.value_of(Listener.for_class), (Listener, "event"))

    def test_static_method(self) -> None:
        """A static method."""
        self.assertEqual(self.value_of(Listener.static), ("static", "event"))

    def test_callable_object(self) -> None:
        """An object that can be called."""
        self.assertEqual(self.value_of(Listener()), ("object", "event"))

    def test_class(self) -> None:
        """A class is called too."""
        self.assertEqual(self.value_of(str), "event")

    def test_builtin_function(self) -> None:
        """A built-in function."""
        self.assertEqual(self.value_of(len), 5)

    def test_partial(self) -> None:
        """A partial."""
        handler = functools.partial(with_argument, "a")
        self.assertEqual(self.value_of(handler), ("a", "event"))

    def test_coroutine_function(self) -> None:
        """A coroutine function runs to its end."""
        self.assertEqual(self.value_of(coroutine_function), ("coroutine function", "event"))

    def test_coroutine_method(self) -> None:
        """A coroutine method."""
        listener = Listener()
        self.assertEqual(self.value_of(listener.coroutine), ("coroutine", "event"))

    def test_coroutine_object(self) -> None:
        """An object whose __call__ is a coroutine function."""
        handler = AsyncObject()
        self.assertEqual(self.value_of(handler), ("async object", "event"))

    def test_coroutine_partial(self) -> None:
        """A partial of a coroutine function."""
        handler = functools.partial(coroutine_with_argument, "a")
        self.assertEqual(self.value_of(handler), ("a", "event"))

    def test_inline_callbacks(self) -> None:
        """A function decorated with inlineCallbacks."""

        @inlineCallbacks
        def handler(event: Any) -> Any:
            value = yield succeed("inline")
            return (value, event)

        self.assertEqual(self.value_of(handler), ("inline", "event"))

    def test_returns_deferred(self) -> None:
        """A function that returns a Deferred is waited for."""

        def handler(event: Any) -> Deferred[Any]:
            return succeed(("deferred", event))

        self.assertEqual(self.value_of(handler), ("deferred", "event"))

    def test_returns_coroutine(self) -> None:
        """A plain function that returns a coroutine: the coroutine runs."""

        def handler(event: Any) -> Any:
            return coroutine_function(event)

        self.assertEqual(self.value_of(handler), ("coroutine function", "event"))

    def test_returns_awaitable(self) -> None:
        """A plain function that returns another awaitable is waited for."""

        class Awaitable:
            def __await__(self) -> Iterator[Any]:
                value = yield from succeed("awaited").__await__()  # type: ignore[misc]
                return value

        def handler(event: Any) -> Any:
            return Awaitable()

        self.assertEqual(self.value_of(handler), "awaited")

    def test_mocks(self) -> None:
        """A mock and an asynchronous mock."""
        self.assertEqual(self.value_of(mock.Mock(return_value=1)), 1)
        self.assertEqual(self.value_of(mock.AsyncMock(return_value=2)), 2)

    def test_weakly_held_builtin_method(self) -> None:
        """A built-in method of an object that can be referred to weakly is held by its object."""
        heard: deque[Any] = deque()
        self.add(heard.append, use_weakref=True)
        self.fire("hello")
        self.assertEqual(list(heard), ["hello"])
        del heard
        self.fire()
        self.assert_nothing_left()

    def test_labels(self) -> None:
        """Every handler has a name."""
        listener = Listener()
        for handler, name in (
            (function, "function"),
            (listener.method, "Listener.method"),
            (listener, "Listener"),
            (functools.partial(with_argument, "a"), "partial(with_argument)"),
            (in_thread(function), "in_thread(function)"),
            (functools.partial(functools.partial(Listener.method, listener)), "partial("),
        ):
            self.dispatcher = self.make()
            self.add(handler)
            (info,) = self.dispatcher.handlers()
            self.assertIn(name, info.handler)

    def test_same_function_twice(self) -> None:
        """Every registration is a handler of its own, and its end is its own."""
        self.add(function)
        once = self.add(function, times=1)
        self.assertEqual(len(self.fire()), 2)
        self.assertEqual(len(self.fire()), 1)
        self.assertNotIn(once, [info.handler_id for info in self.dispatcher.handlers()])


class OrderTests(DispatcherCase):
    """Plain and asynchronous handlers keep one order."""

    def test_coroutines_start_in_their_turn(self) -> None:
        """A coroutine function starts where it was registered, between plain handlers."""

        async def coroutine(event: Any) -> None:
            self.heard.append("coroutine")

        self.hear("1")
        self.add(coroutine)
        self.hear("2")
        self.add(coroutine, times=5)
        self.hear("3")
        self.assertEqual(self.fired(), ["1", "coroutine", "2", "coroutine", "3"])

    def test_each_coroutine_has_its_own_context(self) -> None:
        """A coroutine sees the context of the fire; what it sets, nobody else sees."""
        seen: list[str] = []

        async def coroutine(event: Any) -> None:
            seen.append(colour.get())
            colour.set("blue")
            seen.append(colour.get())

        token = colour.set("red")
        self.addCleanup(colour.reset, token)
        self.add(coroutine)
        self.add(coroutine)
        self.add(lambda event: seen.append(colour.get()))
        self.fire()
        self.assertEqual(seen, ["red", "blue", "red", "blue", "red"])
        self.assertEqual(colour.get(), "red")


def generator(event: Any) -> Iterator[Any]:
    """Yield."""
    yield event


async def async_generator(event: Any) -> AsyncIterator[Any]:
    """Yield."""
    yield event


class RefusedTests(DispatcherCase):
    """What cannot be a handler is refused at once, and nothing of it stays."""

    def refused(self, handler: Any, reason: str, **arguments: Any) -> None:
        """Assert that a handler is refused for this reason."""
        error = self.assertRaises(InvalidHandlerError, self.add, handler, **arguments)
        self.assertIn(reason, str(error))
        self.assertIs(error.handler, handler)
        self.assertIsInstance(error, TypeError)
        self.assert_nothing_left()

    def test_not_callable(self) -> None:
        """What cannot be called."""
        for handler in (None, 5, "function", object()):
            self.refused(handler, "cannot be called")

    def test_coroutine(self) -> None:
        """A coroutine, where the coroutine function was meant."""
        coroutine = coroutine_function("event")
        self.addCleanup(coroutine.close)
        self.refused(coroutine, "cannot be called")

    def test_generator_functions(self) -> None:
        """Generator functions, which would never run: the text tells what to do."""

        class Generating:
            def method(self, event: Any) -> Iterator[Any]:
                yield event

            def __call__(self, event: Any) -> Iterator[Any]:
                yield event

        for handler in (
            generator,
            async_generator,
            Generating(),
            functools.partial(generator),
            functools.partial(async_generator),
        ):
            self.refused(handler, "inlineCallbacks")
        error = self.assertRaises(InvalidHandlerError, self.add, Generating().method)
        self.assertIn("inlineCallbacks", str(error))

    def test_builtin_method_weakly(self) -> None:
        """list.append cannot be held weakly: the text says how to register it."""
        heard: list[Any] = []
        self.refused(heard.append, "use_weakref=False", use_weakref=True)
        self.add(heard.append)
        self.fire("hello")
        self.assertEqual(heard, ["hello"])

    def test_method_of_slotted_object_weakly(self) -> None:
        """Neither can a method of an object without room for weak references."""

        class Slotted:
            __slots__ = ()

            def method(self, event: Any) -> None:
                pass

        error = self.assertRaises(
            InvalidHandlerError, self.add, Slotted().method, use_weakref=True
        )
        self.assertIn("use_weakref=False", str(error))
        self.assert_nothing_left()

    def test_times(self) -> None:
        """The number of times is a positive integer."""
        for times in (0, -1, 1.0, True, "2"):
            error = self.assertRaises(InvalidTimesError, self.add, function, times=times)
            self.assertEqual(error.times, times)
        self.assert_nothing_left()

    def test_timeout(self) -> None:
        """A time limit is a positive, finite number of seconds."""
        for timeout in (0, -1.0, float("nan"), float("inf"), True, "2"):
            error = self.assertRaises(InvalidTimeoutError, self.add, function, timeout=timeout)
            self.assertEqual(error.name, "timeout")
        self.assert_nothing_left()

    def test_phase(self) -> None:
        """The phase is a known one; the error names those."""
        for phase in ("befor", None, 5, ["during"]):
            error = self.assertRaises(UnknownPhaseError, self.add, function, phase)
            self.assertEqual(error.phases, ("before", "during", "after"))
        self.assertIn("'before', 'during', 'after'", str(error))
        self.assert_nothing_left()
