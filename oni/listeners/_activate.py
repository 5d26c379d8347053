"""Switches listeners on."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from threading import Lock
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from oni.dispatcher import EventDispatcher, ThreadLimit, one_of
from oni.errors import MissingExtraError, NotNowError, SettingsError
from oni.interfaces import IEventSources
from oni.listeners._base import ListenerBase
from oni.listeners._settings import PREFIX, Config, Wanted, wanted
from oni.listeners.events import (
    AfterResourceChanged,
    AfterResourceRead,
    ResourceEvent,
)
from oni.values import Event

__all__ = ["Listeners", "activate", "event_of", "group_of", "kept"]

_log = Logger()

_GROUP = "resource"

_ATTEMPTS = 1_000_000  # with five minutes between two of them, for ever

_SAYS_KEPT = (
    "The listener {name} fails; what it was told of is kept (said once until it succeeds): "
    "{kind}: {error}"
)
_SAYS_LOST = (
    "The listener {name} fails; what it was told of is lost to it, as no event sources keep it "
    "(said once until it succeeds): {kind}: {error}"
)


class Listeners:
    """Listeners that were switched on.

    They may be called in several threads at once.

    Attributes:
        by_name: They, by the names that the settings have for them.
        seconds: For how many seconds each was called in all, by name.
        calls: How often, by name.
        failures: How often it failed, by name.

    Args:
        seconds: The clock that tells for how long a call goes on.
        is_kept: Whether what a listener fails with is brought again; the log says so, and says
            each failure once until it succeeds.
    """

    def __init__(
        self, seconds: Callable[[], float] = time.monotonic, *, is_kept: bool = False
    ) -> None:
        self.by_name: dict[str, Any] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._now = seconds
        self._is_kept = is_kept
        self._says = _SAYS_KEPT if is_kept else _SAYS_LOST
        self._is_well: dict[str, bool] = {}
        self._is_closed = False
        self._forget: list[Callable[[], object]] = []
        self._lock = Lock()  # held while calls are counted

    def add(self, name: str, listener: Any) -> Callable[[ResourceEvent], Any]:
        """Keep a listener; give what calls it, and keeps count."""
        self.by_name[name] = listener
        self._is_well[name] = True

        def call(event: ResourceEvent) -> Any:
            if self._is_closed:  # who has a ledger finds it there, in this process or another
                raise NotNowError(f"the listener {name}", "it was closed")
            began = self._now()
            try:
                result = listener(event)
            except BaseException as error:
                failed = self._failed(name, began, error)
                if failed is error:
                    raise
                raise failed from error
            if isinstance(result, Deferred):
                return result.addBoth(self._ended, name, began)
            if isinstance(result, Awaitable):
                return self._end_of(result, name, began)
            self._count(name, began)
            return result

        return call

    def hear(self, dispatcher: EventDispatcher, tell: Callable[..., Any], **spec: Any) -> None:
        """Let something be told of what a dispatcher fires, until all of them end."""
        dispatcher.add_event_handler(tell, "after", use_weakref=False, **spec).addCallback(
            lambda number: self._forget.append(partial(dispatcher.remove_event_handler, number))
        )

    def close(self) -> None:
        """Let all of them end: they hear nothing any more. What fails is logged.

        What event sources bring to them from now on stays in the ledger.
        """
        self._is_closed = True
        forget, self._forget = self._forget, []
        for each in forget:
            try:
                each()
            except Exception:  # noqa: BLE001 - most likely the wrong thread; the listeners end
                _log.failure("A listener could not be taken from its dispatcher")
        listeners, self.by_name = self.by_name, {}
        for name, listener in listeners.items():
            try:
                listener.close()
            except Exception:  # noqa: BLE001 - the others end, too
                _log.failure("The listener {name} could not be closed", name=name)

    def _ended(self, result: Any, name: str, began: float) -> Any:
        if isinstance(result, Failure):
            error: Any = result.value
            failed = self._failed(name, began, error)
            return result if failed is error else Failure(failed)
        self._count(name, began)
        return result

    async def _end_of(self, awaitable: Awaitable[Any], name: str, began: float) -> Any:
        try:
            result = await awaitable
        except BaseException as error:
            failed = self._failed(name, began, error)
            if failed is error:
                raise
            raise failed from error
        self._count(name, began)
        return result

    def _failed(self, name: str, began: float, error: BaseException) -> BaseException:
        """Count a failure; give it, or what is to be logged no more, as it is tried again."""
        if self._count(name, began, error) or not self._is_kept:
            return error
        if not isinstance(error, Exception) or isinstance(error, NotNowError):
            return error
        return NotNowError(f"the listener {name}", f"{type(error).__name__}: {error}")

    def _count(self, name: str, began: float, error: BaseException | None = None) -> bool:
        """Count a call; say whether it is news how it has ended."""
        well = error is None
        with self._lock:
            self.calls[name] += 1
            self.seconds[name] += self._now() - began
            if not well:
                self.failures[name] += 1
            is_news = well is not self._is_well[name]
            self._is_well[name] = well
        if is_news and well:
            _log.info("The listener {name} succeeds again", name=name)
        elif is_news:
            _log.warn(self._says, name=name, kind=type(error).__name__, error=error)
        return is_news


def activate(
    settings: Mapping[str, Any],
    dispatcher: EventDispatcher,
    sources: Any = None,
    *,
    extra: Mapping[str, Any] = MappingProxyType({}),
) -> Listeners:
    """Switch on the listeners that settings name.

    They hear of what was committed. With event sources, what they hear is kept in the transaction
    that did it and brought until they succeed, see :class:`oni.listeners.ResourceEvents`; without
    them they are told after the commit, once, and what they fail with is lost.

    Args:
        settings: See :class:`oni.listeners.ListenerBase`: ``event_listeners = redis``,
            ``event_listeners.redis.use = oni.listeners.redis`` and so on.
        dispatcher: Where the events of resources are fired, see
            :func:`oni.listeners.new_dispatcher`.
        sources: The event sources, an :class:`oni.interfaces.IEventSources`, or None.
        extra: What listeners may need besides settings, by name: ``channels``, ``dispatcher``.

    Returns:
        The listeners. Whoever switched them on closes them.

    Raises:
        SettingsError: Something is wrong: all of it is named, and nothing is switched on.
        MissingExtraError: A listener needs what is not installed.
        GroupHandlerNameError: The event sources bring to a listener of that name already.
    """
    checked = None if sources is None else IEventSources(sources)
    listeners = Listeners(is_kept=sources is not None)
    given = Config(settings, **{f"oni.{name}": value for name, value in extra.items()})
    problems: list[str] = []
    made: list[tuple[Wanted, Any]] = []
    for each in wanted(settings):
        try:
            made.append((each, _load(each, given)))
        except MissingExtraError:
            _close(made)
            raise
        except SettingsError as error:
            problems += error.problems
        except Exception as error:  # noqa: BLE001 - whatever it is, it is named
            problems.append(f"{PREFIX}.{each.name}: {error}")
    if problems:
        _close(made)
        raise SettingsError(problems)
    brought: list[str] = []
    calls = [(each, listener, listeners.add(each.name, listener)) for each, listener in made]
    try:
        for each, listener, call in calls:
            if checked is not None:
                brought.append(_bring(checked, each, call, listener.blocks))
            elif listener.in_reactor:
                _tell_after(listeners, dispatcher, each, _in_reactor(call))
            else:
                tell = _in_thread(call) if listener.blocks else call
                _tell_after(listeners, dispatcher, each, tell)
    except BaseException:
        for name in brought:
            sources.unregister_group_handler(name)
        listeners.close()
        raise
    return listeners


def _close(made: Sequence[tuple[Wanted, Any]]) -> None:
    """Let listeners end that were made for nothing."""
    listeners = Listeners()
    for each, listener in made:
        listeners.add(each.name, listener)
    listeners.close()


def _load(each: Wanted, settings: Config) -> Any:
    try:
        module = import_module(each.use)
    except ImportError as error:
        package, _, name = each.use.rpartition(".")
        if package != "oni.listeners" or error.name in (each.use, None):
            raise
        raise MissingExtraError(f"the listener {each.use}", name, error) from error
    load = getattr(module, "load_from_config", None)
    if load is None:
        raise LookupError(f"{each.use} has no function load_from_config")
    listener = load(settings, f"{PREFIX}.{each.name}.")
    if not isinstance(listener, ListenerBase):
        raise TypeError(f"{each.use}.load_from_config gave {listener!r}, which is no ListenerBase")
    return listener


def _in_reactor(call: Callable[[ResourceEvent], Any]) -> Callable[[ResourceEvent], Any]:
    """Let a listener be called in the reactor's thread, wherever the transaction was."""

    async def later(event: ResourceEvent) -> Any:
        result = call(event)
        return await result if isinstance(result, Awaitable) else result

    def tell(event: ResourceEvent) -> Any:
        if not isInIOThread():
            return later(event)  # fire_here lets coroutines run there
        told = maybeDeferred(call, event)  # nobody may wait for it in this thread
        told.addErrback(lambda failure: _log_failure(tell, failure))
        return None

    return tell


def _in_thread(call: Callable[[ResourceEvent], Any]) -> Callable[[ResourceEvent], Any]:
    """Let a listener be called in a thread that may block: here, if this is not the reactor's."""
    pool = ThreadLimit(1)  # so that it hears in order

    def try_it(event: ResourceEvent) -> Any:
        try:
            return call(event)
        except NotNowError:  # the log says that once, and nobody tries again
            return None

    def tell(event: ResourceEvent) -> Any:
        if not isInIOThread():
            return try_it(event)
        told = maybeDeferred(pool.call, try_it, event)  # nobody may wait for it in this thread
        told.addErrback(lambda failure: _log_failure(tell, failure))
        return None

    return tell


def _log_failure(tell: Callable[..., Any], failure: Failure) -> None:
    _log.failure("{listener} has failed", failure=failure, listener=tell.__qualname__)


def _tell_after(
    listeners: Listeners,
    dispatcher: EventDispatcher,
    each: Wanted,
    call: Callable[[ResourceEvent], Any],
) -> None:
    """Let a listener hear after the commit, from the dispatcher alone."""
    call.__qualname__ = f"listener.{each.name}"  # what the log calls it, with a ledger or without
    for kind, actions in (
        (AfterResourceChanged, [action for action in each.actions if action != "read"]),
        (AfterResourceRead, [action for action in each.actions if action == "read"]),
    ):
        if not actions:
            continue
        spec: dict[str, Any] = {"kind": kind, "action": one_of(*actions)}
        if each.resources:
            spec["resource_name"] = one_of(*each.resources)
        listeners.hear(dispatcher, call, **spec)


def _bring(sources: Any, each: Wanted, call: Callable[[ResourceEvent], Any], blocks: bool) -> str:
    """Let a listener hear by the hand-over of event sources; give its name there."""

    def bring(event: Event) -> Any:
        return call(event_of(event))

    names = "|".join(map(re.escape, each.resources)) or ".*"
    actions = "|".join(each.actions)
    name: str = sources.register_group_handler(
        rf"^{_GROUP}\.({names})\.({actions})$",
        bring,
        name=f"listener.{each.name}",
        threaded=blocks,
        max_attempts=_ATTEMPTS,
    )
    return name


def group_of(event: ResourceEvent) -> str:
    """Give the group in which event sources keep an event."""
    return f"{_GROUP}.{event.resource_name}.{event.action}"


def kept(event: ResourceEvent) -> Event:
    """Give an event of a resource as event sources keep it."""
    context = {
        "payload": dict(event.payload),
        "impacted": [dict(each) for each in event.impacted],
    }
    return Event(group=group_of(event), key=event.key, context=context)


def event_of(event: Event) -> ResourceEvent:
    """Give what :func:`kept` has kept as the event that it is now: after the commit."""
    context = event["context"]
    impacted: Sequence[Mapping[str, Any]] = context["impacted"]
    kind = AfterResourceRead if context["payload"]["action"] == "read" else AfterResourceChanged
    return kind(
        payload=context["payload"],
        key=event.key,
        impacted=impacted,
        impacted_records=[
            {name: each[name] for name in ("new", "old") if name in each} for each in impacted
        ],
    )
