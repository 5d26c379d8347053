"""One attempt: a claimed delivery on its way through its handler, and back into the ledger."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni._clock import Clock
from oni.errors import (
    HandlerTimeoutError,
    InvalidHandlerError,
    MissingRowError,
    NotNowError,
    PoisonEventError,
)
from oni.interfaces import ILedger
from oni.sources._context import Contexts, KeptEvent
from oni.sources._group_handlers import GroupHandler
from oni.sources._outage import Outage
from oni.sources._pool import RunsElsewhere, give_back
from oni.values import Claim, Delivery, Event

__all__ = ["Attempt", "Tools", "inside"]

_log = Logger()

_inside: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("oni_sources_inside", default=())


def inside() -> tuple[tuple[str, str], ...]:
    """Give the deliveries in whose handlers this is called: handlers' names and keys."""
    return _inside.get()


class Tools:
    """What every attempt needs.

    Attributes:
        ledger: Where it is written down.
        contexts: Reads events, and loads their instances.
        pool: Where handlers run that block.
        clock: For time limits.
        outage: What is done while the ledger is away.
        counted: What became of attempts, by name.
        after_call: Gives back what belongs to a thread, after a handler in one of the ledger's.
    """

    def __init__(
        self,
        ledger: ILedger,
        contexts: Contexts,
        pool: RunsElsewhere,
        clock: Clock,
        outage: Outage,
        counted: dict[str, int],
        after_call: Callable[[], object] | None,
    ) -> None:
        self.ledger = ledger
        self.contexts = contexts
        self.pool = pool
        self.clock = clock
        self.outage = outage
        self.counted = counted
        self.after_call = after_call


class Attempt:
    """A claim that this process holds.

    Attributes:
        handler: Who is to handle it.
        claim: The claim.
        begun: Whether the handler may have been called, or its instances are being loaded for it.
        started: Whether the dispatcher has called for it.
        left_alone: Whether a newer program has to run it, and it goes back for that.
        ended: Fires with None when the ledger has been told what came of it.
    """

    def __init__(self, tools: Tools, handler: GroupHandler, claim: Claim) -> None:
        self.handler = handler
        self.claim = claim
        self.begun = False
        self.started = False
        self.left_alone = False
        self.ended: Deferred[None] = Deferred()
        self._tools = tools
        self._outcome: Deferred[Any] = Deferred()
        self._work: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._is_final = False

    @property
    def name(self) -> tuple[str, str]:
        """Its handler's name and its key."""
        return self.handler.name, self.claim.key

    # --- How it ends without its handler

    def turn_away(self, error: Exception, permanent: bool) -> Deferred[None]:
        """Fail before the handler was begun."""
        return self._in_the_end(self._fail(Failure(error), permanent))

    def give_back(self) -> Deferred[None]:
        """Let others have it, as if it had never been claimed."""
        self._tools.counted["released"] += 1
        return self._in_the_end(self._insist(lambda: self._tools.ledger.release([self.claim])))

    def _in_the_end(self, telling: Any) -> Deferred[None]:
        self.started = True
        Deferred.fromCoroutine(telling).addErrback(_log_bug).addCallback(self._end)
        return self.ended

    # --- How it goes through its handler

    def start(self, kept: KeptEvent) -> Deferred[Any]:
        """Call the handler, and tell the ledger.

        Returns:
            A Deferred that fires with what the handler gave, or fails as it did, when the ledger
            has been told. Cancelling it gives the handler up.
        """
        self.started = True
        told: Deferred[Any] = Deferred(lambda _: self.cancel())

        def tell(result: Any) -> None:
            self._end(None)
            if not told.called:
                told.callback(result)

        Deferred.fromCoroutine(self._run(kept)).addBoth(tell)
        return told

    async def _run(self, kept: KeptEvent) -> Any:
        with _marked(self.claim):
            self._work = self._call(kept)
        self._work.addBoth(self._work_ended)
        outcome = (await self._outcome).value
        if not isinstance(outcome, Failure):
            # A transaction has completed it already.
            if self.handler.on_crash == "transaction" or await self._insist(self._complete):
                self._tools.counted["completed"] += 1
        elif not self.begun and outcome.check(CancelledError):
            self._tools.counted["released"] += 1
            await self._insist(lambda: self._tools.ledger.release([self.claim]))
            return None  # nobody has failed
        else:
            await self._fail(outcome, self._is_final)
            if outcome.check(NotNowError):
                return None  # the dispatcher would log it, each time
        return outcome

    def _call(self, kept: KeptEvent) -> Deferred[Any]:
        name = self.handler.name
        pool = self._tools.pool
        if self.handler.threaded:
            boxed = pool.run(name, lambda: _Box(self._function(self._loaded(kept))), self._begin)
            return boxed.addCallback(lambda box: settled(box.value))
        if kept.refers:
            loaded = pool.run(name, lambda: self._loaded(kept), self._begin)
        else:
            loaded = succeed(self._handled(kept.event))
        if self.handler.on_crash == "transaction":
            return loaded.addCallback(self._transact)
        context = copy_context()
        return loaded.addCallback(lambda event: context.run(self._call_here, event))

    @property
    def _function(self) -> Callable[..., Any]:
        return self.handler.function

    def _loaded(self, kept: KeptEvent) -> Event:
        """Give the event as its handler is given it; it may block."""
        try:
            event = self._tools.contexts.loaded(kept)
        except (MissingRowError, PoisonEventError):
            self._is_final = True
            raise
        return self._handled(event)

    def _handled(self, event: Event) -> Event:
        return event.handled(event.context, self.claim.attempt, self.claim.idempotency_key)

    def _call_here(self, event: Event) -> Any:
        self._begin()
        return maybeDeferred(lambda: settled(self._function(event)))

    def _transact(self, event: Event) -> Any:
        self._begin()

        def work(transaction: Any) -> Any:
            try:
                value = self._function(event, transaction)
            finally:
                give_back(self._tools.after_call)
            if isinstance(value, Deferred) or inspect.isawaitable(value):
                if inspect.iscoroutine(value):
                    value.close()
                raise InvalidHandlerError(
                    self._function,
                    "with on_crash='transaction' it must be done when it returns, and gave a "
                    f"{type(value).__name__}",
                )
            return value

        return self._tools.ledger.run(self.claim, work)

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            if self.handler.timeout is not None:
                seconds = self.handler.timeout
                self._timer = self._tools.clock.call_later(seconds, self._time_out, seconds)

    # --- How its handler ends

    def _time_out(self, seconds: float) -> None:
        self._tools.counted["timed_out"] += 1
        error = HandlerTimeoutError(self.handler.name, self.handler.phase, seconds)
        self._give_up(error)

    def cancel(self) -> None:
        """Give the handler up. One within a transaction goes on: nothing can interrupt it."""
        if not (self.begun and self.handler.on_crash == "transaction"):
            self._give_up(CancelledError("it was given up before it ended"))

    def _give_up(self, error: Exception) -> None:
        self._conclude(Failure(error))
        if self._work is not None:
            self._work.cancel()

    def _work_ended(self, result: Any) -> None:
        if self._outcome.called:
            if isinstance(result, Failure) and not result.check(CancelledError):
                _log.failure(
                    "{handler} failed after it was given up", failure=result, handler=self.handler
                )
        else:
            self._conclude(result)

    def _conclude(self, result: Any) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._outcome.called:
            self._outcome.callback(_Box(result))

    # --- What the ledger is told

    async def _insist(self, call: Callable[[], Deferred[Any]]) -> Any:
        return await self._tools.outage.insist(call)

    def _complete(self) -> Deferred[bool]:
        return self._tools.ledger.complete(self.claim).addCallback(lambda _: True)

    async def _fail(self, failure: Failure, permanent: bool) -> None:
        counted = self._tools.counted
        counted["failed"] += 1
        error = f"{_name(failure.type)}: {failure.getErrorMessage()}"
        cause = failure.value
        delay = cause.after if isinstance(cause, NotNowError) else None
        delivery: Delivery | None = await self._insist(
            lambda: self._tools.ledger.fail(self.claim, error, permanent=permanent, delay=delay)
        )
        if delivery is not None and delivery.state == "pending":
            if not failure.check(NotNowError):  # whoever raises it says so
                _log.warn(
                    "{handler} has failed with {key} in attempt {attempts} of {most}, and is "
                    "tried again: {error}",
                    handler=self.handler,
                    key=delivery.key,
                    attempts=delivery.attempts,
                    most=delivery.max_attempts,
                    error=error,
                )
        elif delivery is not None and delivery.state in ("dead", "uncertain"):
            counted[delivery.state] += 1
            _log.error(
                "{handler} has failed for good with {key} and is {state} after {attempts} "
                "attempt(s): {error}",
                handler=self.handler,
                key=delivery.key,
                state=delivery.state,
                attempts=delivery.attempts,
                error=error,
            )

    def _end(self, result: Any) -> None:
        if not self.ended.called:
            self.ended.callback(None)


class _Box:
    """Holds something that a Deferred would not carry as it is: another one, or a Failure."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@contextmanager
def _marked(claim: Claim) -> Iterator[None]:
    """Let :func:`inside` know, in what is called here."""
    token = _inside.set((*_inside.get(), (claim.handler, claim.key)))
    try:
        yield
    finally:
        _inside.reset(token)


def settled(value: Any) -> Any:
    """Give what a handler returned, or the Deferred that gives it."""
    if isinstance(value, Deferred) or not inspect.isawaitable(value):
        return value
    if inspect.iscoroutine(value):
        return Deferred.fromCoroutine(value)
    if asyncio.isfuture(value):
        return Deferred.fromFuture(value)
    return Deferred.fromCoroutine(_wait_for(value))


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _name(kind: type[BaseException] | None) -> str:
    return "Failure" if kind is None else kind.__qualname__


def _log_bug(failure: Failure) -> None:
    _log.failure("An attempt could not be ended", failure=failure)
