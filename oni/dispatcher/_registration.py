"""One registered handler: how it is held, how it is called, when it is used up."""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, TypeGuard

from oni.dispatcher._spread import Spread, call_spread, spread_method
from oni.dispatcher._threads import InThread
from oni.errors import InvalidHandlerError
from oni.values import SKIPPED, HandlerInfo

__all__ = ["COROUTINE", "METHOD", "REMOVED", "STRONG", "WEAK", "Registration"]

# How a place in a compiled phase is called. What the place holds for each of them:
STRONG = 0  # the handler itself
WEAK = 1  # a callable that gives the handler; a weak reference gives None when it is gone
METHOD = 2  # (reference to the instance, function)
COROUTINE = 3  # as WEAK; the handler returns a coroutine

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_UNUSABLE = "it is a generator function, which would never run; decorate it with inlineCallbacks"


def _skip(event: Any, **more: Any) -> Any:
    return SKIPPED


def _give_skip() -> Callable[[Any], Any]:
    return _skip


async def _skip_later(event: Any) -> Any:
    return SKIPPED


def _give_skip_later() -> Callable[[Any], Any]:
    return _skip_later


# What a removal puts into a place of a list that may be running, by the place's kind.
REMOVED: tuple[Any, ...] = (
    _skip,
    _give_skip,
    (_give_skip, lambda nothing, event: SKIPPED),
    _give_skip_later,
)


class Registration:
    """A handler with its match spec, phase and limits.

    It is itself what the weak reference to its handler calls when the handler has died: plain
    references are the fastest to call, and no further object is made.
    """

    __slots__ = (
        "_dead",
        "_place",
        "buckets",
        "calls",
        "handler_id",
        "kind",
        "label",
        "phase",
        "remaining",
        "slot",
        "spec",
        "timeout",
        "weak",
    )

    def __init__(
        self,
        handler_id: int,
        handler: Callable[[Any], Any],
        phase: str,
        spec: Mapping[str, Any],
        weak: bool,
        times: int | None,
        timeout: float | None,
        place: tuple[str, int],
        dead: deque[Registration],
    ) -> None:
        """Take a handler. When it has died, the registration puts itself among the dead.

        Raises:
            InvalidHandlerError: It can never run, or cannot be held weakly.
        """
        self.handler_id = handler_id
        self.phase = phase
        self.spec = spec
        self.weak = weak
        self.remaining = times
        self.timeout = timeout
        self.calls = 0
        self.buckets: Any = ()
        self.slot: Any
        self._place = place
        self._dead = dead
        self.label, is_coroutine = _describe(handler)
        if weak:
            self._hold_weakly(handler, self)
        else:
            self.kind, self.slot = STRONG, handler
        if is_coroutine:
            self._become_coroutine()

    def __call__(self, ref: weakref.ref[Any]) -> None:
        """Note that the handler has died. A reference calls this in any thread."""
        self._dead.append(self)

    def _hold_weakly(self, handler: Callable[[Any], Any], on_death: Registration) -> None:
        try:
            if type(handler) is FunctionType:  # the common case first
                self.kind, self.slot = WEAK, weakref.ref(handler, on_death)
            elif isinstance(handler, InThread):
                self._hold_in_thread(handler, on_death)
            elif isinstance(handler, Spread):
                self._hold_spread(handler, on_death)
            elif type(handler) is MethodType:
                instance = weakref.ref(handler.__self__, on_death)
                self.kind, self.slot = METHOD, (instance, handler.__func__)
            elif _is_bound_builtin(handler):
                instance = weakref.ref(handler.__self__, on_death)
                function = getattr(type(handler.__self__), handler.__name__)
                self.kind, self.slot = METHOD, (instance, function)
            else:
                self.kind, self.slot = WEAK, weakref.ref(handler, on_death)
        except (TypeError, AttributeError) as error:
            raise InvalidHandlerError(
                handler, f"it cannot be held weakly ({error}); register it with use_weakref=False"
            ) from error

    def _hold_in_thread(self, handler: InThread, on_death: Registration) -> None:
        inner = Registration.__new__(Registration)  # holds the function as a handler is held
        inner._hold_weakly(handler.function, on_death)
        give_function = inner.getter()
        pool = handler.pool  # the handler itself would keep the function alive

        def give() -> Callable[[Any], Any]:
            function = give_function()
            return _skip if function is None else InThread(function, pool)

        self.kind, self.slot = WEAK, give

    def _hold_spread(self, handler: Spread, on_death: Registration) -> None:
        inner = Registration.__new__(Registration)  # holds the receiver as a handler is held
        inner._hold_weakly(handler.receiver, on_death)
        if inner.kind == METHOD:
            instance, function = inner.slot
            self.slot = (instance, spread_method(function))
        else:
            self.slot = (inner.slot, call_spread)
        self.kind = METHOD

    def getter(self) -> Any:
        """Give what gives the handler, or None when it is gone: any kind as if it were WEAK."""
        kind, slot = self.kind, self.slot
        if kind == STRONG:
            return lambda: slot
        if kind == METHOD:
            ref, function = slot

            def give() -> Callable[[Any], Any] | None:
                instance = ref()
                return None if instance is None else MethodType(function, instance)

            return give
        return slot

    def _become_coroutine(self) -> None:
        give_handler = self.getter()

        def give() -> Callable[[Any], Any]:
            return give_handler() or _skip_later

        # A reference may stay as it is: the loops know what it means when it gives None.
        self.slot = self.slot if self.kind == WEAK else give
        self.kind = COROUTINE

    def claim_before_call(self, used_up: Callable[[Registration], object]) -> None:
        """Make each call claim one of the remaining times first.

        The claim is made before the handler is called, so that nested and concurrent events never
        call it more often.
        """
        give = self.getter()
        skip = _skip_later if self.kind == COROUTINE else _skip

        def claim() -> Any:
            if not self.remaining:
                return skip
            self.remaining -= 1  # first: a garbage collection may fire an event at any time
            handler = give()
            if handler is None:  # it has died, and whoever buries it forgets the count
                return skip
            if not self.remaining:
                used_up(self)
            return handler

        self.kind, self.slot = (COROUTINE if self.kind == COROUTINE else WEAK), claim

    def release(self) -> None:
        """Let go of the handler, whose reference would else keep this: it is removed."""
        self.slot = REMOVED[self.kind]

    def failing(self, error: Exception) -> Registration:
        """Give a stand-in for one event: a matcher raised, so the handler has failed."""

        def fail(event: Any) -> Any:
            if not self.buckets:  # removed meanwhile
                return SKIPPED
            raise error

        stand_in = copy.copy(self)
        stand_in.kind, stand_in.slot = STRONG, fail
        return stand_in

    @property
    def registered_at(self) -> str:
        """Where it was registered, as ``file:line``."""
        file, line = self._place
        return f"{file}:{line}"

    def info(self) -> HandlerInfo:
        """Describe it."""
        return HandlerInfo(
            handler_id=self.handler_id,
            handler=self.label,
            phase=self.phase,
            match_spec=dict(self.spec),
            weak=self.weak,
            remaining=self.remaining,
            timeout=self.timeout,
            calls=self.calls,
            registered_at=self.registered_at,
        )

    def __str__(self) -> str:
        """Name the handler and where it was registered."""
        return f"{self.label} (registered at {self.registered_at})"


def _is_bound_builtin(handler: Any) -> TypeGuard[BuiltinMethodType]:
    if not isinstance(handler, BuiltinMethodType):
        return False
    return handler.__self__ is not None and not inspect.ismodule(handler.__self__)


def _describe(handler: Callable[[Any], Any]) -> tuple[str, bool]:
    """Give a handler's name, and whether it is a coroutine function."""
    if isinstance(handler, Spread):
        return _describe(handler.receiver)
    function = handler.__func__ if type(handler) is MethodType else handler
    if type(function) is FunctionType:  # the common case, without inspect's cost
        flags = function.__code__.co_flags
        if flags & _GENERATOR:
            raise InvalidHandlerError(handler, _UNUSABLE)
        return function.__qualname__, bool(flags & inspect.CO_COROUTINE)
    if not callable(handler):
        raise InvalidHandlerError(handler, "it cannot be called")
    return _describe_other(handler)


def _describe_other(handler: Callable[[Any], Any]) -> tuple[str, bool]:
    inner: Any = handler
    while isinstance(inner, functools.partial):
        inner = inner.func
    if isinstance(inner, InThread):
        name, coroutine = _describe(inner.function)
        if coroutine:
            raise InvalidHandlerError(handler, "a coroutine function cannot run in a thread")
        return f"in_thread({name})", False
    called = inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise InvalidHandlerError(handler, _UNUSABLE)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    if inner is not handler:
        name = f"partial({name})"
    return name, inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(handler)
