"""What may be a group handler, and what it is called. Refused is what can never work."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

from oni.errors import (
    GroupHandlerNameError,
    InvalidHandlerError,
    InvalidMatchSpecError,
    InvalidTimeoutError,
    InvalidTimesError,
)
from oni.sources._group_handlers import GroupHandler
from oni.values import Handling, OnCrash, is_seconds

__all__ = ["group_handler", "here"]

_ROOM = __name__.rpartition(".")[0]


def group_handler(
    group: str | re.Pattern[str],
    function: Callable[..., Any],
    *,
    name: str | None,
    phase: str,
    times: int | None,
    on_crash: OnCrash,
    max_attempts: int,
    timeout: float | None,
    threaded: bool | None,
    threaded_by_default: bool,
    at: tuple[str, int],
) -> GroupHandler:
    """Make a group handler of what a user said, or refuse it."""
    is_coroutine = _check_function(function)
    if times is not None and (type(times) is not int or times < 1):
        raise InvalidTimesError(times)
    if timeout is not None and not is_seconds(timeout):
        raise InvalidTimeoutError("timeout", timeout)
    name = _default_name(function) if name is None else name
    Handling(name, on_crash, max_attempts)  # refuses what cannot be
    if on_crash == "transaction":
        _check_transaction(function, is_coroutine, timeout, threaded)
    if threaded and is_coroutine:
        raise InvalidHandlerError(function, "a coroutine function cannot run in a thread")
    if threaded is None:
        threaded = threaded_by_default and not is_coroutine and on_crash != "transaction"
    return GroupHandler(
        name=_checked_name(name),
        pattern=_pattern(group),
        function=function,
        phase=phase,
        times=times,
        on_crash=on_crash,
        max_attempts=max_attempts,
        timeout=timeout,
        threaded=threaded,
        at=at,
    )


def _check_function(function: Callable[..., Any]) -> bool:
    """Say whether it is a coroutine function, if it can be called at all."""
    if not callable(function):
        raise InvalidHandlerError(function, "it cannot be called")
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    called = inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner).__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise InvalidHandlerError(
            function,
            "it is a generator function, which would never run; decorate it with inlineCallbacks",
        )
    return inspect.iscoroutinefunction(called)


def _check_transaction(
    function: Callable[..., Any], is_coroutine: bool, timeout: float | None, threaded: bool | None
) -> None:
    if is_coroutine:
        raise InvalidHandlerError(
            function,
            "with on_crash='transaction' it runs within a transaction, in a thread of the "
            "ledger's: a coroutine function cannot",
        )
    if timeout is not None:
        raise InvalidHandlerError(
            function,
            "nothing can interrupt a transaction, so with on_crash='transaction' there is no "
            "timeout; let the database limit its statements",
        )
    if threaded is not None:
        raise InvalidHandlerError(
            function, "with on_crash='transaction' it always runs in a thread of the ledger's"
        )


def _pattern(group: str | re.Pattern[str]) -> re.Pattern[str]:
    try:
        pattern = re.compile(group)
    except (re.error, TypeError) as error:
        raise InvalidMatchSpecError("group", f"{group!r}: {error}") from error
    if not isinstance(pattern.pattern, str):
        raise InvalidMatchSpecError("group", f"{group!r}: a group is text, and this fits bytes")
    return pattern


def _default_name(function: Callable[..., Any]) -> str:
    """Name a handler by where it is written, which is the same after a restart."""
    inner = function.__func__ if isinstance(function, MethodType) else function
    module = getattr(inner, "__module__", None)
    qualname = getattr(inner, "__qualname__", None)
    if not (inspect.isroutine(inner) and module and qualname):
        raise InvalidHandlerError(
            function,
            "it has no name of its own that is the same after a restart; give it one: name=...",
        )
    if "<" in qualname:
        raise InvalidHandlerError(
            function,
            f"{module}.{qualname} may be many functions, and its name stands in the ledger; give "
            f"it one: name=...",
        )
    return f"{module}.{qualname}"


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise GroupHandlerNameError(name, "a name is text that is not empty")
    if "/" in name or "\0" in name:
        raise GroupHandlerNameError(name, "a name has no slash and no NUL")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise GroupHandlerNameError(name, "it cannot be written as UTF-8") from error
    if size > 255:
        raise GroupHandlerNameError(name, f"it has {size} bytes, and may have 255")
    return name


def here() -> tuple[str, int]:
    """Give the file and line outside this room from which something is registered."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_ROOM):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
