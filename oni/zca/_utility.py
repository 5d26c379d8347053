"""A dispatcher as a utility that provides IEventDispatcher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zope.component import getGlobalSiteManager, getSiteManager
from zope.interface.registry import Components
from zope.interface.verify import verifyObject

from oni.errors import NoDispatcherError
from oni.interfaces import IEventDispatcher

__all__ = ["get_dispatcher", "provide", "scratch_registry", "unprovide"]


def provide(
    dispatcher: IEventDispatcher, name: str = "", registry: Components | None = None
) -> None:
    """Register a dispatcher as the utility that provides IEventDispatcher under a name.

    It is found as an ``IBackgroundUtility`` too. One that was registered under the name before
    is replaced, as registries do.

    Args:
        dispatcher: The dispatcher. It is neither started nor stopped.
        name: Its name; ``""`` is the one that is found without a name.
        registry: The component registry; the current site's, which is the global one where
            there are no sites, if None.

    Raises:
        zope.interface.exceptions.Invalid: ``dispatcher`` does not do what the interface says.
    """
    verifyObject(IEventDispatcher, dispatcher)
    _of(registry).registerUtility(dispatcher, IEventDispatcher, name)


def unprovide(
    dispatcher: IEventDispatcher | None = None,
    name: str = "",
    registry: Components | None = None,
) -> bool:
    """Take a dispatcher out of the registry.

    Args:
        dispatcher: Take out this one only; if None, whichever is registered under the name.
        name: Its name.
        registry: As for :func:`provide`.

    Returns:
        Whether it was registered.
    """
    return bool(_of(registry).unregisterUtility(dispatcher, IEventDispatcher, name))


def get_dispatcher(name: str = "", registry: Components | None = None) -> IEventDispatcher:
    """Find the dispatcher that is registered under a name.

    Args:
        name: Its name.
        registry: As for :func:`provide`.

    Raises:
        NoDispatcherError: There is none; the error lists the names that exist.
    """
    components = _of(registry)
    dispatcher: IEventDispatcher | None = components.queryUtility(IEventDispatcher, name)
    if dispatcher is None:
        known = (known for known, _ in components.getUtilitiesFor(IEventDispatcher))
        raise NoDispatcherError(name, known)
    return dispatcher


@contextmanager
def scratch_registry() -> Iterator[Components]:
    """Put a registry of its own in the place of the current site's, while a ``with`` block runs.

    What is registered meanwhile is gone with it; what is registered globally is found in it. It
    holds for the whole process, other threads too.

    Yields:
        The registry.
    """
    scratch = Components("scratch", bases=(getGlobalSiteManager(),))
    previous = getSiteManager.sethook(lambda context=None: scratch)
    try:
        yield scratch
    finally:
        getSiteManager.sethook(previous)


def _of(registry: Components | None) -> Components:
    # An empty registry may be false, so it is compared with None.
    return getSiteManager() if registry is None else registry
