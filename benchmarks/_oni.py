"""Oni as a contender: started, with the default order, and its result object made each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from _contender import Contender, Emit, Fire, Handlers, resumed
from _harness import Batch

__all__ = ["ADAPTED", "DETAILS", "METHODS", "SIGNAL", "SPECS", "STRONG", "WEAK", "oni"]

WEAK = "Oni, weak functions (default)"
DETAILS = "Oni, with 3 details"
SPECS = "Oni, with 3-keyword specs"
STRONG = "Oni, strong"
METHODS = "Oni, weak methods"
SIGNAL = "Oni, Signal.send_now"
ADAPTED = "Oni, the same receivers as handlers"

_EVENT = object()


def oni() -> Iterator[Contender]:
    """Give Oni's ways."""
    from oni.signals import Signal
    from oni.twisted_event_dispatcher import EventDispatcher

    def new() -> Any:
        dispatcher = EventDispatcher(allowed_match_spec_keywords=("event_type", "user", "role"))
        dispatcher.start()
        return dispatcher

    def connect(handlers: list[Any], **options: Any) -> Any:
        dispatcher = new()
        add = dispatcher.add_event_handler
        for handler in handlers:
            add(handler, "during", **options)
        return dispatcher

    def connect_strongly(handlers: list[Any]) -> Any:
        return connect(handlers, use_weakref=False)

    def connect_with_specs(handlers: list[Any]) -> Any:
        return connect(handlers, event_type="user_created", user="bob", role="admin")

    def emit(dispatcher: Any) -> Emit:
        fire_event = dispatcher.fire_event

        def emit() -> object:
            return fire_event(_EVENT)

        return emit

    def emit_with_details(dispatcher: Any) -> Emit:
        fire_event = dispatcher.fire_event

        def emit() -> object:
            return fire_event(_EVENT, event_type="user_created", user="bob", role="admin")

        return emit

    def signal(receivers: list[Any]) -> Any:
        made = Signal()
        for receiver in receivers:
            made.connect(receiver)
        return made

    def send_now(made: Any) -> Emit:
        def emit() -> object:
            return made.send_now(_EVENT, number=1)

        return emit

    def connect_adapted(receivers: list[Any]) -> Any:
        def adapted(receiver: Any) -> Any:
            return lambda event: receiver(event[0], **event[1])

        dispatcher = EventDispatcher(("sender",), order_by=None)
        dispatcher.start()
        for receiver in receivers:
            dispatcher.add_event_handler(adapted(receiver), "during", use_weakref=False)
        return dispatcher

    def emit_adapted(dispatcher: Any) -> Emit:
        fire_event = dispatcher.fire_event

        def emit() -> object:
            return fire_event((_EVENT, {"number": 1}), sender=1)

        return emit

    def match(handlers: Handlers, users: Sequence[str]) -> tuple[Fire, Sequence[str]]:
        dispatcher = new()
        add = dispatcher.add_event_handler
        for user, handler in zip(users, handlers.plain(len(users)), strict=True):
            add(handler, "during", event_type="user_created", user=user, role="admin")
        fire_event = dispatcher.fire_event

        def fire(user: str) -> object:
            return fire_event(_EVENT, event_type="user_created", user=user, role="admin")

        return fire, users

    def coroutines(handlers: Handlers, suspends: bool) -> Batch:
        return resumed(handlers, lambda functions: emit(connect(functions)), suspends)

    does = "guards, collects"
    yield Contender(
        name=WEAK, distribution="oni-dispatcher", does=does, connect=connect, emit=emit,
        coroutines=coroutines,
    )  # fmt: skip
    yield Contender(
        name=DETAILS, distribution="oni-dispatcher", does=does, connect=connect,
        emit=emit_with_details,
    )  # fmt: skip
    yield Contender(
        name=SPECS, distribution="oni-dispatcher", does=does, connect=connect_with_specs,
        emit=emit_with_details, match=match, filter="3 keywords", huge=True,
    )  # fmt: skip
    yield Contender(
        name=STRONG, distribution="oni-dispatcher", does=does, connect=connect_strongly, emit=emit
    )
    yield Contender(
        name=METHODS, distribution="oni-dispatcher", does=does,
        handlers=lambda handlers, number: handlers.methods(number), connect=connect, emit=emit,
    )  # fmt: skip
    yield Contender(
        name=SIGNAL, distribution="oni-dispatcher", does=does,
        handlers=lambda handlers, number: handlers.named(number), connect=signal, emit=send_now,
    )  # fmt: skip
    yield Contender(
        name=ADAPTED, distribution="oni-dispatcher", does=does,
        handlers=lambda handlers, number: handlers.named(number), connect=connect_adapted,
        emit=emit_adapted,
    )  # fmt: skip
