"""The handlers of a component registry, run to their end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.component import getSiteManager
from zope.interface import providedBy
from zope.interface.registry import Components

__all__ = ["notify_async"]

_log = Logger()


def notify_async(event: Any, registry: Components | None = None) -> Deferred[list[Any]]:
    """Call the handlers that a component registry has for an event, and wait for all of them.

    It takes the place of ``registry.handle(event)``, and of ``zope.event.notify(event)`` as far
    as that reaches the registry: those drop what a handler returns, so that a coroutine handler
    never runs. Here handlers may be plain functions, coroutine functions (each in a copied
    context of its own) and functions that return a Deferred. They are started one after another
    in the registry's order and then run side by side. Handlers for ``(object, event)``, to which
    ``objectEventNotify`` passes an object event on, are among them.

    To be called in the reactor's thread.

    Args:
        event: The event.
        registry: The component registry; the current site's if None.

    Returns:
        A Deferred that fires when all have ended, with the list of what they returned, in the
        order of the calls. In the place of one that failed is its Failure, which is also logged;
        the others are not disturbed. Cancelling it cancels the handlers.
    """
    components: Any = getSiteManager() if registry is None else registry
    started = [
        maybeDeferred(handler, *objects).addErrback(_failed, handler)
        for handler, objects in list(_handlers(components, (event,)))
    ]
    return DeferredList(started, consumeErrors=True).addCallback(_values)


def _handlers(
    components: Any, objects: tuple[Any, ...]
) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Find the handlers, with what each is called with, in the order of the calls."""
    events = sys.modules.get("zope.component.event")
    passes_on = getattr(events, "objectEventNotify", None)
    required = [providedBy(obj) for obj in objects]
    for handler in components.adapters.subscriptions(required, None):
        if handler is passes_on:
            event = objects[0]
            yield from _handlers(components, (event.object, event))
        else:
            yield handler, objects


def _failed(failure: Failure, handler: Callable[..., Any]) -> Failure:
    _log.failure("{handler} failed", failure=failure, handler=handler)
    return failure


def _values(outcomes: list[tuple[bool, Any]]) -> list[Any]:
    return [value for _succeeded, value in outcomes]
