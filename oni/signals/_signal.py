"""A signal: one event that a module declares, with receivers in phases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from threading import RLock, get_ident
from types import FrameType
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python import threadable

from oni._clock import Clock
from oni.dispatcher import Awaited, EventDispatcher, Sent, Spread, registering
from oni.signals._awaitable import Sending
from oni.signals._left import go_on
from oni.signals._senders import Senders
from oni.values import EventResult, HandlerInfo, Phase

__all__ = ["Sending", "Signal", "receiver"]

_R = TypeVar("_R", bound=Callable[..., Any])

_Key = tuple[Any, int, str]

_FEW = 64  # connections more than this are looked through for dead ones now and then


class Signal:
    """Calls its receivers when it is sent.

    Receivers are called as ``receiver(sender, **what_was_sent)``, phase by phase; within a phase
    in the order in which they were connected. A failure is logged and stands in the result; it
    stops no other receiver, unless it is in a phase that aborts on errors. Connecting the same
    receiver to the same sender in the same phase again changes nothing.

    Everything belongs to one thread at a time, as with :class:`oni.dispatcher.EventDispatcher`;
    :meth:`send` may be called in any thread, and :meth:`send_here` in several at once. A signal
    needs no reactor before it is sent.

    Args:
        name: What it is called in the log.
        phases: The phases, in order: names or :class:`oni.values.Phase`. Receivers are in the
            first one unless they say another.
        reactor: Whose next turn :meth:`send` means; the global one when first needed.

    Raises:
        InvalidPhaseError: A phase is none, or there is none at all.
        DuplicatePhaseError: Two phases have one name.
    """

    def __init__(
        self,
        name: str = "",
        *,
        phases: Iterable[str | Phase] = ("during", "after"),
        reactor: IReactorTime | None = None,
    ) -> None:
        self.name = name
        self._clock = Clock(reactor)
        self._dispatcher = EventDispatcher(("sender",), phases, order_by=None, reactor=reactor)
        self._dispatcher.start()
        self._first = self._dispatcher.phases[0].name
        self._senders = Senders()
        # The ids of handlers. While one is there its receiver is, and what the key is made of.
        self._connected: dict[_Key, int] = {}
        self._most_connected = _FEW
        self._changing = RLock()  # senders may die in any thread that sends here

    def __repr__(self) -> str:
        """Name it."""
        return f"<Signal {self.name or hex(id(self))}>"

    # --- Receivers ------------------------------------------------------------------------------

    def connect(
        self,
        receiver: _R,
        sender: Any = None,
        weak: bool = True,
        times: int | None = None,
        phase: str | None = None,
    ) -> _R:
        """Call a receiver from now on.

        Args:
            receiver: A function, coroutine function, bound method or another callable. It may
                return a Deferred or an awaitable, which is waited for.
            sender: Only for what this object sends, and no other that is merely equal. None: for
                whatever sends it. It is held weakly, where it can be.
            weak: Hold the receiver weakly: when nothing else refers to it, it is not called any
                more. One that was never called is told of in the log.
            times: Disconnect it after so many calls. None: never.
            phase: The phase; None: the first one.

        Returns:
            The receiver, so that this can be used as a decorator.

        Raises:
            InvalidHandlerError: It can never be called, or cannot be held weakly.
            InvalidTimesError: ``times`` is no positive integer.
            UnknownPhaseError: There is no such phase.
        """
        self._connect(receiver, sender, weak, times, phase, sys._getframe(1))
        return receiver

    def _connect(
        self,
        receiver: Callable[..., Any],
        sender: Any,
        weak: bool,
        times: int | None,
        phase: str | None,
        caller: FrameType,
    ) -> None:
        with self._changing:
            self._forget_gone()
            phase = self._first if phase is None else phase
            key = _key(receiver, sender, phase)
            if self._is_connected(key):
                return
            spec = {} if sender is None else {"sender": id(sender)}
            added: list[int] = []
            with registering(at=(caller.f_code.co_filename, caller.f_lineno)):
                self._dispatcher.add_event_handler(
                    Spread(receiver), phase, use_weakref=weak, times=times, **spec
                ).addCallback(added.append)
            if sender is not None:
                self._senders.add(sender, key)
            self._connected[key] = added[0]
            if len(self._connected) > self._most_connected:
                self._sweep()

    def disconnect(
        self, receiver: Callable[..., Any], sender: Any = None, phase: str | None = None
    ) -> bool:
        """Call a receiver no more, for this sender and phase.

        Returns:
            Whether it was connected so.
        """
        key = _key(receiver, sender, self._first if phase is None else phase)
        with self._changing:
            self._forget_gone()
            if not self._is_connected(key):
                return False
            self._remove(key)
            return True

    def receivers(self, sender: Any = None) -> Sequence[HandlerInfo]:
        """Describe the receivers of what a sender sends, in call order. None: every receiver."""
        self._forget_gone()
        if sender is None:
            return self._dispatcher.handlers()
        return self._dispatcher.matching(sender=id(sender))

    @property
    def has_receivers(self) -> bool:
        """Whether there is somebody to send to. It costs next to nothing; any thread may ask.

        That a receiver has died is known when something is sent that would have been for it.
        """
        return self._dispatcher.has_event_handlers

    def _is_connected(self, key: _Key) -> bool:
        return self._dispatcher.has_event_handler(self._connected.get(key, 0))

    def _remove(self, key: _Key) -> None:
        removed = self._dispatcher.remove_event_handler(self._connected[key])
        removed.addErrback(lambda failure: None)  # it has died, or was used up
        del self._connected[key]
        self._senders.remove(key[1], key)

    def _sweep(self) -> None:
        """Forget those that have died or were used up."""
        has = self._dispatcher.has_event_handler
        for key in [key for key, number in self._connected.items() if not has(number)]:
            self._remove(key)
        self._most_connected = _FEW + 2 * len(self._connected)

    def _forget_gone(self) -> None:
        """Disconnect those whose sender has died: another object may have its id now."""
        gone = self._senders.gone
        with self._changing:
            while gone:
                for key in self._senders.keys_of(gone[0]):
                    self._remove(key)
                gone.popleft()  # not before: this may be the wrong thread to remove anything

    # --- Sending --------------------------------------------------------------------------------

    def send(self, /, sender: Any, **what: Any) -> Sending[EventResult]:
        """Call the receivers in the next turn of the reactor, when the caller has returned.

        Any thread may call it; the receivers are called in the reactor's.

        Args:
            sender: What the signal is about; the receivers' first argument.
            what: Their further arguments.

        Returns:
            A Deferred that fires with an :class:`oni.values.EventResult` when every receiver has
            ended: what each has returned, or how it failed. It fails with
            :class:`oni.errors.EventAbortedError` where a receiver fails in a phase that aborts.
            It can be awaited by coroutines of Twisted and by tasks of asyncio. Cancelling it
            cancels the receivers, or calls none of them.
        """
        later = _Later(self, sender, what)
        reactor = self._clock.reactor
        io_thread: int | None = cast("int | None", threadable.ioThread)
        if io_thread == get_ident() or not IReactorFromThreads.providedBy(reactor):
            later.call = reactor.callLater(0, later.go)
        else:
            reactor.callFromThread(later.go)
        return later.sending

    def send_now(self, /, sender: Any, **what: Any) -> Sending[EventResult]:
        """Call the receivers at once. It needs no reactor.

        Args:
            sender: What the signal is about; the receivers' first argument.
            what: Their further arguments.

        Returns:
            As :meth:`send`. It has fired already where no receiver had to be waited for.

        Raises:
            WrongThreadError: Receivers are being called in another thread.
        """
        return Sending.of(self._fire(sender, what))

    def send_here(self, /, sender: Any, **what: Any) -> EventResult:
        """Call the receivers in this thread, whichever it is, and be done with it.

        Several threads may do so at once, and no sending waits for another; receivers may be
        connected and disconnected meanwhile. It needs no reactor, and waits for nothing: what a
        receiver returns that has to be waited for, a coroutine for example, goes on in the
        reactor's thread, and is logged if it fails; where no reactor runs, it has failed.

        Args:
            sender: What the signal is about; the receivers' first argument.
            what: Their further arguments.

        Returns:
            What each receiver has returned, or how it failed; None of one that goes on.

        Raises:
            EventAbortedError: A receiver has failed in a phase that aborts.
        """
        if self._senders.gone:
            self._forget_gone()
        fire = self._dispatcher.fire_event_here
        return fire(Sent(sender, what), self._go_on, sender=id(sender))

    def _go_on(self, awaited: Sequence[Awaited]) -> Sequence[Any]:
        return [go_on(each, lambda: self._clock.reactor) for each in awaited]

    def _fire(self, sender: Any, what: dict[str, Any]) -> Deferred[EventResult]:
        if self._senders.gone:
            self._forget_gone()
        return self._dispatcher.fire_event(Sent(sender, what), sender=id(sender))


class _Later:
    """A send that waits for the next turn of the reactor."""

    def __init__(self, signal: Signal, sender: Any, what: dict[str, Any]) -> None:
        self._signal = signal
        self._sender = sender
        self._what = what
        self._under_way: Deferred[EventResult] | None = None
        self.call: Any = None
        self.sending: Sending[EventResult] = Sending(self._cancel)

    def go(self) -> None:
        """Call the receivers."""
        if self.sending.called:  # it was cancelled
            return
        self._under_way = maybeDeferred(self._signal._fire, self._sender, self._what)
        self._under_way.addBoth(self.sending.callback)

    def _cancel(self, _: object) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
        elif self.call is not None and self.call.active():
            self.call.cancel()


def receiver(
    signal: Signal | Iterable[Signal],
    sender: Any = None,
    *,
    weak: bool = True,
    times: int | None = None,
    phase: str | None = None,
) -> Callable[[_R], _R]:
    """Connect the decorated function to a signal, or to several.

    Args:
        signal: The signal, or signals.
        sender: See :meth:`Signal.connect`, as for the rest.
        weak: See there. A function of a module stays as long as its module does.
        times: See there.
        phase: See there.
    """
    signals = (signal,) if isinstance(signal, Signal) else tuple(signal)

    def connect(function: _R) -> _R:
        for each in signals:
            each._connect(function, sender, weak, times, phase, sys._getframe(1))
        return function

    return connect


def _key(receiver: Any, sender: Any, phase: str) -> _Key:
    return Spread(receiver).identity(), id(sender), phase
