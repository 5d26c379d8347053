"""What ``config.include("oni.listeners.pyramid")`` does."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from pyramid.config import PHASE1_CONFIG, PHASE3_CONFIG, Configurator
from pyramid.exceptions import ConfigurationError
from pyramid.request import Request
from pyramid.tweens import EXCVIEW

from oni.listeners._activate import activate
from oni.listeners.pyramid._requests import Home, RequestEvents
from oni.listeners.pyramid._subscribers import (
    ForActions,
    ForResources,
    dispatcher_of_subscribers,
)

__all__ = ["includeme", "set_event_sources"]

_HOME = "oni.listeners.pyramid"


def includeme(config: Configurator) -> None:
    """Let an application tell of resources.

    It adds ``request.resource_events``, the subscriber predicates ``for_actions`` and
    ``for_resources``, the directive ``set_event_sources``, and a tween. When the configuration is
    committed, the listeners that ``event_listeners`` names are switched on. In the registry,
    ``registry["oni.resources"]`` is the dispatcher, and ``registry["oni.listeners"]`` are the
    listeners, an :class:`oni.listeners.Listeners`: close it when the program ends.
    """
    registry = config.registry
    home = registry[_HOME] = Home(dispatcher_of_subscribers(registry))
    registry["oni.resources"] = home.dispatcher

    def resource_events(request: Request) -> RequestEvents:
        return RequestEvents(request, home)

    def switch_on() -> None:
        registry["oni.listeners"] = activate(
            registry.settings or {}, home.dispatcher, home.sources
        )

    config.add_request_method(resource_events, "resource_events", reify=True)
    config.add_subscriber_predicate("for_actions", ForActions)
    config.add_subscriber_predicate("for_resources", ForResources)
    config.add_directive("set_event_sources", set_event_sources)
    config.add_tween("oni.listeners.pyramid.events_tween_factory", under=EXCVIEW)
    config.action("oni.listeners", switch_on, order=PHASE3_CONFIG)


def set_event_sources(
    config: Configurator,
    sources: Any,
    session: Callable[[Request], Any] = attrgetter("dbsession"),
) -> None:
    """Let event sources keep, for listeners, what is committed: ``config.set_event_sources(...)``.

    It is kept in the transaction of the request's session, and brought until each listener
    succeeds. Whoever has made the event sources starts and stops them.

    Args:
        config: The configurator.
        sources: The event sources, an :class:`oni.interfaces.IEventSources`; their ledger is in
            the session's database.
        session: Gives a request's SQLAlchemy session; ``request.dbsession`` if nothing is said.
    """
    registry = config.registry

    def keep() -> None:
        if "oni.listeners" in registry:
            raise ConfigurationError("listeners are switched on already: set event sources before")
        home: Home = registry[_HOME]
        home.sources = sources
        home.session = session

    config.action("oni.listeners.sources", keep, order=PHASE1_CONFIG)
