"""Makes the event sources that the settings describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Literal

from msgspec.structs import replace

from oni.errors import MissingExtraError, SettingsError
from oni.interfaces import IOutbox
from oni.ledger import Ledger, Relay, store_for
from oni.listeners import new_dispatcher
from oni.server._application import find_for_sources, look_beside
from oni.server._ledger_settings import file_in
from oni.server._listeners import switch_on
from oni.server._settings import ServerSettings, Settings
from oni.server._sources_settings import SourcesSettings
from oni.server._watchers import let_watchers_hear
from oni.server.sources._service import SourcesService
from oni.sources import default

__all__ = [
    "find_instances",
    "make_sources_service",
    "make_worker_service",
    "settings_for_django",
]


def make_sources_service(
    settings: Settings,
    reactor: Any,
    deliver: Literal["here", "worker"] | None = None,
) -> SourcesService | None:
    """Make the event sources, and what looks after them; nothing is opened by that.

    They are the process's default ones, so that what a module of the application registers with
    the functions of :mod:`oni.sources` is registered at them.

    Args:
        settings: What is set.
        reactor: The reactor.
        deliver: Where handlers run; None: as the settings say.

    Returns:
        The service, or None where there is no ledger.

    Raises:
        LedgerUrlError: There is no such ledger.
        MissingExtraError: What it needs is not installed.
        SettingsError: There is no such Django project.
    """
    if settings.sources.django_settings is not None:
        return _django_service(settings, reactor, deliver)
    url = settings.ledger.url_in(settings.folder)
    if url is None:
        return None
    ledger = Ledger(
        store_for(url, settings.ledger.namespace),
        lease=settings.ledger.lease,
        workers=settings.ledger.workers,
        max_waiting=settings.ledger.max_waiting,
        reactor=reactor,
    )
    sources = default()
    sources.configure(
        ledger,
        deliver=settings.sources.deliver if deliver is None else deliver,
        concurrency=settings.sources.concurrency,
        threads=settings.sources.threads,
        threads_lost=settings.running.max_lost_threads,
        threads_exhausted=lambda: service.exhausted(),
        reactor=reactor,
    )
    service: SourcesService = SourcesService(
        sources,
        settings.ledger,
        reactor,
        settings.server.stop_timeout,
        [
            Relay(_outbox(settings, url), ledger, admitted=sources.wake, reactor=reactor)
            for url in settings.sources.outboxes
        ],
    )
    return service


def _django_service(
    settings: Settings, reactor: Any, deliver: Literal["here", "worker"] | None
) -> SourcesService:
    """Make the service of a Django project's event sources."""
    _django(settings)
    lent = import_module("oni.sources.django.lending").lend(reactor, deliver)
    lent.sources.configure(
        threads_lost=settings.running.max_lost_threads,
        threads_exhausted=lambda: service.exhausted(),
        reactor=reactor,
    )
    service: SourcesService = SourcesService(
        lent.sources,
        settings.ledger,
        reactor,
        settings.server.stop_timeout,
        lent.relays,
        lent.opened,
    )
    return service


def _django(settings: Settings) -> Any:
    """Set Django up, and give the module that knows it."""
    look_beside(settings)
    try:
        module = import_module("oni.server.sources.django")
    except ImportError as error:
        raise MissingExtraError("sources.django_settings", "django", error) from error
    module.set_up(settings.sources.django_settings)
    return module


def settings_for_django(module: str, folder: str) -> Settings:
    """Give settings for nothing but a Django project.

    Args:
        module: Its settings.
        folder: Where it is looked for.

    Raises:
        SettingsError: There is no such module, or it does not suit.
        MissingExtraError: Django is not installed.
    """
    settings = Settings(sources=SourcesSettings(django_settings=module), folder=folder)
    seconds = _django(settings).stop_timeout()
    return replace(settings, server=ServerSettings(stop_timeout=seconds))


def _outbox(settings: Settings, url: str) -> IOutbox:
    """Make an outbox."""
    try:
        module = import_module("oni.ledger.sqlalchemy")
    except ImportError as error:
        raise MissingExtraError("an outbox", "sql", error) from error
    outbox: IOutbox = module.SqlAlchemyOutbox.from_url(file_in(url, settings.folder))
    return outbox


def make_worker_service(
    settings: Settings, reactor: Any, deliver: Literal["here", "worker"] | None = "here"
) -> SourcesService:
    """Make event sources for a process without a server, with their handlers registered.

    The settings' watchers and listeners are among these, but for listeners that publish on
    channels.

    Args:
        settings: What is set.
        reactor: The reactor.
        deliver: Where handlers run; None: as a Django project's own settings say.

    Raises:
        SettingsError: There is no ledger, or no such function to register handlers, or a
            listener's settings are wrong.
        Exception: Whatever that function, or importing its module, raises.
    """
    configure = find_for_sources(settings, "configure")
    service = make_sources_service(settings, reactor, deliver)
    if service is None:
        raise SettingsError(["ledger.url: expected an address, as nothing is delivered without"])
    if configure is not None:
        configure(service.sources)
    listeners = switch_on(settings, new_dispatcher(), service.sources, None)
    let_watchers_hear(settings, service.sources)
    if listeners.by_name:
        reactor.addSystemEventTrigger("after", "shutdown", listeners.close)
    return service


def find_instances(settings: Settings) -> Callable[[type], Iterable[Any]]:
    """Find what gives the instances of a model.

    Raises:
        SettingsError: There is nothing of that name, or none is named.
        Exception: Whatever importing its module raises.
    """
    found = find_for_sources(settings, "instances")
    if found is None and settings.sources.django_settings is not None:
        _django(settings)
        instances: Callable[[type], Iterable[Any]]
        instances = import_module("oni.sources.django").Instances()
        return instances
    if found is None:
        raise SettingsError(
            ["sources.instances: expected 'module:name', of what gives the instances of a model"]
        )
    return found
