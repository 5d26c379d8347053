"""What no dispatcher can beat: the least code that does the job, written out at the call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import copy_context
from typing import Any

from _contender import EVENT_TYPE, ROLE, Contender, Emit, Fire, Handlers, resumed
from _harness import Batch
from twisted.internet.defer import succeed

__all__ = ["LOOP", "LOOP_AND_SUCCEED", "SEND_AND_SUCCEED", "limits"]

LOOP = "plain loop"
LOOP_AND_SUCCEED = "plain loop, one succeed"
SEND_AND_SUCCEED = "send(None) each, one succeed"

_EVENT = object()


def _loop(handlers: list[Any]) -> Emit:
    def emit() -> None:
        for handler in handlers:
            handler(_EVENT)

    return emit


def _loop_and_succeed(handlers: list[Any]) -> Emit:
    def emit() -> object:
        for handler in handlers:
            handler(_EVENT)
        return succeed(None)

    return emit


def _loop_and_collect(handlers: list[Any]) -> Emit:
    def emit() -> object:
        results = []
        for handler in handlers:
            try:
                results.append(handler(_EVENT))
            except Exception as error:  # noqa: BLE001 - that is what it costs to guard
                results.append(error)
        return succeed(results)

    return emit


def _send_and_succeed(handlers: list[Any]) -> Emit:
    def emit() -> object:
        for handler in handlers:
            coroutine = handler(_EVENT)
            try:  # noqa: SIM105 - suppress() would be slower
                coroutine.send(None)
            except StopIteration:
                pass
        return succeed(None)

    return emit


def _send_in_context_and_succeed(handlers: list[Any]) -> Emit:
    def emit() -> object:
        for handler in handlers:
            coroutine = handler(_EVENT)
            try:  # noqa: SIM105 - suppress() would be slower
                copy_context().run(coroutine.send, None)
            except StopIteration:
                pass
        return succeed(None)

    return emit


def _dict_of_lists(handlers: Handlers, users: Sequence[str]) -> tuple[Fire, Sequence[str]]:
    by_values = {
        (EVENT_TYPE, user, ROLE): [handler]
        for user, handler in zip(users, handlers.plain(len(users)), strict=True)
    }

    def fire(user: str) -> object:
        for handler in by_values.get((EVENT_TYPE, user, ROLE), ()):
            handler(_EVENT)
        return succeed(None)

    return fire, users


def _coroutines(start: Any) -> Any:
    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        return resumed(handlers, start, suspends)

    return coroutines


def limits() -> Iterator[Contender]:
    """Give the limits."""
    yield Contender(name=LOOP, limit=True, connect=list, emit=_loop)
    yield Contender(
        name=LOOP_AND_SUCCEED,
        limit=True,
        connect=list,
        emit=_loop_and_succeed,
        match=_dict_of_lists,
        filter="dict of lists",
        huge=True,
    )
    yield Contender(
        name="loop, try, append, one succeed",
        does="guards, collects",
        limit=True,
        connect=list,
        emit=_loop_and_collect,
    )
    yield Contender(name=SEND_AND_SUCCEED, limit=True, coroutines=_coroutines(_send_and_succeed))
    yield Contender(
        name="send(None) each in its context, one succeed",
        limit=True,
        coroutines=_coroutines(_send_in_context_and_succeed),
    )
