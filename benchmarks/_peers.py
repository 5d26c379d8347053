"""The peers: each library as its own documentation uses it, registered in its default way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count, repeat
from types import SimpleNamespace
from typing import Any

from _contender import EVENT_TYPE, ROLE, Contender, Emit, Fire, Handlers, resumed
from _harness import Batch

__all__ = ["close_loop", "peers"]

_EVENT = object()

Filtered = tuple[Fire, Sequence[Any]]


class _UserEvent:
    """An event that says what it is, for libraries whose handlers must look themselves."""

    __slots__ = ("event_type", "role", "user")

    def __init__(self, event_type: str, user: str, role: str) -> None:
        self.event_type = event_type
        self.user = user
        self.role = role


def _checking(handlers: Handlers, users: Sequence[str]) -> list[Any]:
    """Make handlers that each look whether they want the event."""

    def make(user: str, handler: Any) -> Any:
        def check(event: _UserEvent) -> None:
            if event.user == user and event.event_type == EVENT_TYPE and event.role == ROLE:
                handler(event)

        return check

    plain = handlers.plain(len(users))
    return handlers.keep([make(*pair) for pair in zip(users, plain, strict=True)])


def _checked(
    connect: Callable[[list[Any]], Callable[[_UserEvent], object]],
) -> Callable[[Handlers, Sequence[str]], Filtered]:
    """Make ``match`` for a library without a filter: its handlers look themselves."""

    def match(handlers: Handlers, users: Sequence[str]) -> Filtered:
        send = connect(_checking(handlers, users))

        def fire(user: str) -> object:
            return send(_UserEvent(EVENT_TYPE, user, ROLE))

        return fire, users

    return match


def _checking_role(handlers: Handlers, count: int) -> list[Any]:
    """Make handlers for a library that has found event type and user: they look at the role."""

    def make(handler: Any) -> Any:
        def check(sender: object = None, role: str = "", **named: object) -> object:
            return handler(sender) if role == ROLE else None

        return check

    return handlers.keep([make(handler) for handler in handlers.plain(count)])


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def close_loop() -> None:
    """Close the asyncio event loop, where one was needed."""
    if _loop.cache_info().currsize:
        _loop().close()
        _loop.cache_clear()


def _on_asyncio(send: Callable[[], Any]) -> Batch:
    """Make a batch of events that are awaited one after another on asyncio."""

    async def many(count: int) -> None:
        for _ in repeat(None, count):
            await send()

    def batch(count: int) -> None:
        _loop().run_until_complete(many(count))

    return batch


def _asyncio_handlers(handlers: Handlers, suspends: bool) -> list[Any]:
    if suspends:
        return handlers.awaiting(10, lambda: asyncio.sleep(0))
    return handlers.coroutines(10)


def _blinker() -> Iterator[Contender]:
    from blinker import Signal

    def connect(handlers: list[Any], weak: bool = True) -> Any:
        signal = Signal()
        for handler in handlers:
            signal.connect(handler, weak=weak)
        return signal

    def emit(signal: Any) -> Emit:
        send = signal.send

        def emit() -> object:
            return send(_EVENT)

        return emit

    def match(handlers: Handlers, users: Sequence[str]) -> Filtered:
        signal = Signal()  # of the event type
        for user, handler in zip(users, _checking_role(handlers, len(users)), strict=True):
            signal.connect(handler, sender=user)

        def fire(user: str) -> object:
            return signal.send(user, role=ROLE)

        return fire, users

    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        send = connect(_asyncio_handlers(handlers, suspends)).send_async
        return _on_asyncio(lambda: send(_EVENT))

    yield Contender(
        name="blinker send, weak (default)", distribution="blinker", does="collects",
        connect=connect, emit=emit, match=match, filter="signal and sender=",
        coroutines=coroutines,
    )  # fmt: skip
    yield Contender(
        name="blinker send, strong", distribution="blinker", does="collects",
        connect=lambda handlers: connect(handlers, weak=False), emit=emit,
    )  # fmt: skip


def _pydispatcher() -> Iterator[Contender]:
    # python-dispatch has the same import name, and no such module
    from pydispatch.dispatcher import connect as connect_receiver
    from pydispatch.dispatcher import send

    def connect(handlers: list[Any]) -> Any:
        signal = object()
        for handler in handlers:
            connect_receiver(handler, signal=signal)
        return signal

    def emit(signal: Any) -> Emit:
        def emit() -> object:
            return send(signal, _EVENT)

        return emit

    def named(handlers: Handlers, count: int) -> list[Any]:
        return handlers.named(count)

    def match(handlers: Handlers, users: Sequence[str]) -> Filtered:
        for user, handler in zip(users, _checking_role(handlers, len(users)), strict=True):
            connect_receiver(handler, signal=EVENT_TYPE, sender=user)

        def fire(user: str) -> object:
            return send(EVENT_TYPE, user, role=ROLE)

        return fire, users

    yield Contender(
        name="PyDispatcher send", distribution="PyDispatcher", does="collects", handlers=named,
        connect=connect, emit=emit, match=match, filter="signal and sender=",
    )  # fmt: skip


def _pluggy() -> Iterator[Contender]:
    import pluggy

    project = "bench"
    declare, implement = pluggy.HookspecMarker(project), pluggy.HookimplMarker(project)

    class Specification:
        @declare
        def hear(self, event: object) -> object:
            """Hear an event."""

    def connect(handlers: list[Any]) -> Any:
        manager = pluggy.PluginManager(project)
        manager.add_hookspecs(Specification)
        for handler in handlers:
            manager.register(SimpleNamespace(hear=implement(handler)))
        return manager

    def emit(manager: Any) -> Emit:
        hear = manager.hook.hear

        def emit() -> object:
            return hear(event=_EVENT)

        return emit

    def checked(handlers: list[Any]) -> Callable[[_UserEvent], object]:
        hear = connect(handlers).hook.hear
        return lambda event: hear(event=event)

    yield Contender(
        name="pluggy hook call", distribution="pluggy", does="collects",
        connect=connect, emit=emit, match=_checked(checked), filter="in the handler", slow=True,
    )  # fmt: skip


def _psygnal() -> Iterator[Contender]:
    from psygnal import SignalInstance

    def connect(handlers: list[Any]) -> Any:
        signal = SignalInstance((object,))
        for handler in handlers:
            signal.connect(handler)
        return signal

    def emit(signal: Any) -> Emit:
        send = signal.emit

        def emit() -> object:
            return send(_EVENT)

        return emit

    def emit_fast(signal: Any) -> Emit:
        send = signal.emit_fast

        def emit() -> object:
            return send(_EVENT)

        return emit

    def checked(handlers: list[Any]) -> Callable[[_UserEvent], object]:
        return connect(handlers).emit_fast

    yield Contender(name="psygnal emit", distribution="psygnal", connect=connect, emit=emit)
    yield Contender(
        name="psygnal emit_fast", distribution="psygnal", connect=connect, emit=emit_fast,
        match=_checked(checked), filter="in the handler",
    )  # fmt: skip


def _pyee() -> Iterator[Contender]:
    from pyee import EventEmitter

    yield _emitter("pyee EventEmitter", "", EventEmitter)


def _pyee_twisted() -> Iterator[Contender]:
    from pyee.twisted import TwistedEventEmitter

    yield _emitter("pyee TwistedEventEmitter", "guards", TwistedEventEmitter)


def _emitter(name: str, does: str, kind: Callable[[], Any]) -> Contender:
    def connect(handlers: list[Any]) -> Any:
        emitter = kind()
        for handler in handlers:
            emitter.on("event", handler)
        return emitter

    def emit(emitter: Any) -> Emit:
        send = emitter.emit

        def emit() -> object:
            return send("event", _EVENT)

        return emit

    def match(handlers: Handlers, users: Sequence[str]) -> Filtered:
        emitter = kind()
        for user, handler in zip(users, handlers.plain(len(users)), strict=True):
            emitter.on(f"{EVENT_TYPE} {user} {ROLE}", handler)
        send = emitter.emit
        event_type, role = EVENT_TYPE, ROLE

        def fire(user: str) -> object:
            return send(f"{event_type} {user} {role}", _EVENT)

        return fire, users

    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        return resumed(handlers, lambda functions: emit(connect(functions)), suspends)

    return Contender(
        name=name, distribution="pyee", does=does, connect=connect, emit=emit,
        match=match, filter="one name joined of 3", huge=True,
        coroutines=coroutines if "Twisted" in name else None,
    )  # fmt: skip


class _Sender:
    """Stands for a user where a library needs a sender that it can hold weakly."""


def _django() -> Iterator[Contender]:
    from django.conf import settings
    from django.dispatch import Signal

    if not settings.configured:
        settings.configure(DEBUG=False)

    def connect(handlers: list[Any], caching: bool = False) -> Any:
        signal = Signal(use_caching=caching)
        for handler in handlers:
            signal.connect(handler)
        return signal

    def cached(handlers: list[Any]) -> Any:
        return connect(handlers, caching=True)

    def emit(signal: Any, method: str = "send") -> Emit:
        send = getattr(signal, method)
        sender = _Sender()

        def emit() -> object:
            return send(sender)

        return emit

    def match(handlers: Handlers, users: Sequence[str], caching: bool = False) -> Filtered:
        signal = Signal(use_caching=caching)  # of the event type
        senders = [_Sender() for _ in users]
        for sender, handler in zip(senders, _checking_role(handlers, len(users)), strict=True):
            signal.connect(handler, sender=sender)

        def fire(sender: object) -> object:
            return signal.send(sender, role=ROLE)

        return fire, senders

    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        send, sender = connect(_asyncio_handlers(handlers, suspends)).asend, _Sender()
        return _on_asyncio(lambda: send(sender))

    common: dict[str, Any] = {
        "distribution": "Django", "handlers": lambda handlers, number: handlers.named(number)
    }  # fmt: skip
    yield Contender(
        name="Django send", does="collects", connect=connect, emit=emit, match=match,
        filter="signal and sender=", slow=True, coroutines=coroutines, **common,
    )  # fmt: skip
    yield Contender(
        name="Django send, use_caching", does="collects", connect=cached, emit=emit,
        match=lambda handlers, users: match(handlers, users, caching=True),
        filter="signal and sender=", slow=True, **common,
    )  # fmt: skip
    yield Contender(
        name="Django send_robust", does="guards, collects", connect=connect,
        emit=lambda signal: emit(signal, "send_robust"), slow=True, **common,
    )  # fmt: skip


def _aiosignal() -> Iterator[Contender]:
    from aiosignal import Signal

    def connect(handlers: list[Any]) -> Any:
        signal: Any = Signal(owner=None)
        signal.extend(handlers)
        signal.freeze()
        return signal

    def emit(signal: Any) -> Emit:
        send = signal.send

        def emit() -> None:
            try:  # noqa: SIM105 - suppress() would be slower
                send(_EVENT).send(None)
            except StopIteration:
                pass

        return emit

    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        send = connect(_asyncio_handlers(handlers, suspends)).send
        return _on_asyncio(lambda: send(_EVENT))

    yield Contender(
        name="aiosignal send (coroutines)", distribution="aiosignal",
        handlers=lambda handlers, number: handlers.coroutines(number),
        connect=connect, emit=emit, coroutines=coroutines,
    )  # fmt: skip


def _zope_event() -> Iterator[Contender]:
    import zope.event

    def connect(handlers: list[Any]) -> Any:
        subscribers: list[Any] = []
        for handler in handlers:
            subscribers.append(handler)
        return subscribers

    def notifier(subscribers: list[Any]) -> Callable[[Any], object]:
        """Give the package's own function, looking at these subscribers instead of its own."""
        original = zope.event.notify
        return type(original)(original.__code__, {"subscribers": subscribers})

    def emit(subscribers: list[Any]) -> Emit:
        notify = notifier(subscribers)

        def emit() -> object:
            return notify(_EVENT)

        return emit

    yield Contender(
        name="zope.event notify", distribution="zope.event", connect=connect, emit=emit,
        match=_checked(lambda handlers: notifier(connect(handlers))), filter="in the handler",
    )  # fmt: skip


def _zope_component() -> Iterator[Contender]:
    from zope.component import handle, provideHandler
    from zope.interface import Interface, implementer
    from zope.interface.interface import InterfaceClass

    numbers = count()

    def new_interface() -> Any:  # interfaces of one name are equal, so each needs its own
        return InterfaceClass(f"IEvent{next(numbers)}", (Interface,), __module__=__name__)

    def register(handlers: list[Any]) -> type[_UserEvent]:
        interface = new_interface()
        for handler in handlers:
            provideHandler(handler, (interface,))
        return implementer(interface)(type("Event", (_UserEvent,), {"__slots__": ()}))

    def connect(handlers: list[Any]) -> Any:
        return register(handlers)(EVENT_TYPE, "bob", ROLE)

    def emit(event: Any) -> Emit:
        def emit() -> object:
            return handle(event)

        return emit

    def checked(handlers: list[Any]) -> Callable[[_UserEvent], object]:
        event_type = register(handlers)
        return lambda event: handle(event_type(event.event_type, event.user, event.role))

    yield Contender(
        name="zope.component handle", distribution="zope.component", connect=connect, emit=emit,
        match=_checked(checked), filter="in the handler",
    )  # fmt: skip


def _eventkit() -> Iterator[Contender]:
    from eventkit import Event

    def connect(handlers: list[Any]) -> Any:
        event = Event()
        for handler in handlers:
            event += handler
        return event

    def emit(event: Any) -> Emit:
        send = event.emit

        def emit() -> object:
            return send(_EVENT)

        return emit

    yield Contender(
        name="eventkit emit", distribution="eventkit", does="guards", connect=connect, emit=emit,
        match=_checked(lambda handlers: connect(handlers).emit), filter="in the handler",
    )  # fmt: skip


def _reactivex() -> Iterator[Contender]:
    from reactivex.subject import Subject

    def connect(handlers: list[Any]) -> Any:
        subject: Any = Subject()
        for handler in handlers:
            subject.subscribe(handler)
        return subject

    def emit(subject: Any) -> Emit:
        send = subject.on_next

        def emit() -> object:
            return send(_EVENT)

        return emit

    yield Contender(
        name="reactivex Subject.on_next", distribution="reactivex", connect=connect, emit=emit,
        match=_checked(lambda handlers: connect(handlers).on_next), filter="in the handler",
    )  # fmt: skip


def _twisted() -> Iterator[Contender]:
    from twisted.internet.defer import DeferredList, ensureDeferred, gatherResults, maybeDeferred

    def connect(handlers: list[Any]) -> Any:
        registered = []
        for handler in handlers:
            registered.append(handler)
        return registered

    def emit(handlers: list[Any]) -> Emit:
        def emit() -> object:
            return DeferredList([maybeDeferred(handler, _EVENT) for handler in handlers])

        return emit

    def emit_coroutines(handlers: list[Any]) -> Emit:
        def emit() -> object:
            return DeferredList([ensureDeferred(handler(_EVENT)) for handler in handlers])

        return emit

    def gather_coroutines(handlers: list[Any]) -> Emit:
        def emit() -> object:
            return gatherResults([ensureDeferred(handler(_EVENT)) for handler in handlers])

        return emit

    yield Contender(
        name="DeferredList of maybeDeferred", distribution="Twisted", does="guards, collects",
        connect=connect, emit=emit,
        coroutines=lambda handlers, suspends: resumed(handlers, emit, suspends),
    )  # fmt: skip
    yield Contender(
        name="DeferredList of ensureDeferred",
        distribution="Twisted",
        coroutines=lambda handlers, suspends: resumed(handlers, emit_coroutines, suspends),
    )
    yield Contender(
        name="gatherResults of ensureDeferred",
        distribution="Twisted",
        coroutines=lambda handlers, suspends: resumed(handlers, gather_coroutines, suspends),
    )


def _asyncio() -> Iterator[Contender]:
    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        functions = _asyncio_handlers(handlers, suspends)
        return _on_asyncio(lambda: asyncio.gather(*[function(_EVENT) for function in functions]))

    yield Contender(name="asyncio.gather", distribution="", coroutines=coroutines)


peers: dict[str, Callable[[], Iterator[Contender]]] = {
    "blinker": _blinker,
    "PyDispatcher": _pydispatcher,
    "pluggy": _pluggy,
    "psygnal": _psygnal,
    "pyee": _pyee,
    "pyee for Twisted": _pyee_twisted,
    "Django": _django,
    "aiosignal": _aiosignal,
    "zope.event": _zope_event,
    "zope.component": _zope_component,
    "eventkit": _eventkit,
    "reactivex": _reactivex,
    "Twisted's DeferredList": _twisted,
    "asyncio": _asyncio,
}
"""Each peer's contenders by the name of its package, imported when called."""
