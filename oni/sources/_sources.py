"""Event sources: from what sources yield to handlers that are done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from re import Pattern, escape
from typing import Any, TypeAlias
from uuid import uuid4

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from oni.dispatcher import EventDispatcher
from oni.errors import InvalidTimeoutError, NotRunningError
from oni.interfaces import IEventSources, ILedger, IModelReferences
from oni.sources._admissions import Admissions, checked
from oni.sources._batches import Batches, SourcesProgress
from oni.sources._context import Contexts
from oni.sources._direct import DirectHandlers
from oni.sources._group_handlers import GroupHandler, GroupHandlers
from oni.sources._life import COUNTED, Life
from oni.sources._models import ModelSources, Source
from oni.sources._options import Options
from oni.sources._registering import group_handler, here
from oni.sources._shield import seen, shielded
from oni.values import (
    Admission,
    ChangeAction,
    Committed,
    Event,
    LedgerEvent,
    LedgerRecord,
    ModelChange,
    OnCrash,
    Phase,
    is_seconds,
    model_name,
)

__all__ = ["EventSources"]

Events: TypeAlias = Iterable[Event] | Deferred[Sequence[Event]]
"""Events, or a Deferred that fires with them."""

ACTIONS: tuple[ChangeAction, ...] = ("created", "modified", "deleted", "bulk")


@implementer(IEventSources)
class EventSources:
    """Turns what sources yield into events, and gives each key to every matching handler once.

    Handlers and sources may be registered in any thread and at any time, also before there is a
    ledger or a reactor. See :class:`oni.interfaces.IEventSources` for the contract of each method.

    Args:
        ledger: Remembers keys. It is opened and closed with this. None: :meth:`configure` gives
            it, before the start.
        phases: The phases of handlers, in order: names or :class:`oni.values.Phase`.
        references: Who knows instances of models.
        deliver: ``"here"``: handlers run in this process. ``"worker"``: it only admits events, and
            leaves them to others.
        concurrency: So many deliveries may be under way here; each handler may have one more, and
            whoever calls :meth:`process_events` has up to 64 of its own.
        threads: How many threads there may be for handlers that block.
        threads_lost: So many more are made in the place of those that hang. None: as many.
        threaded: Whether synchronous handlers run in a thread where their registration does not
            say so.
        poll: Seconds after which to look for deliveries when nothing says that there are any. It
            varies by half.
        after_call: Is called in a thread after each handler that ran there, to give back what
            belongs to the thread.
        threads_exhausted: Is called when a thread hangs that is not replaced any more.
        reactor: Whose thread this lives in; the global one when first needed.
        random: Gives numbers from 0 to 1.
        make_pool: Gives the threads for handlers, of a number; for tests.

    Raises:
        ValueError: A number or a word cannot be one of these.
    """

    def __init__(
        self,
        ledger: ILedger | None = None,
        *,
        phases: Iterable[str | Phase] = ("before", "during", "after"),
        references: Iterable[IModelReferences] = (),
        **options: Any,
    ) -> None:
        self._options = Options(**options)
        self._phases = EventDispatcher(phases=phases).phases
        self._ledger: ILedger | None = None
        self._contexts = Contexts()
        self._models = ModelSources()
        self._direct = DirectHandlers()
        self._handlers = GroupHandlers(self._phases)
        self._life: Life | None = None
        self._starts = DeferredLock()  # who starts waits for who does so already
        self._stops = 0  # so often were they stopped
        self._admissions = Admissions(self._handlers, self._contexts)
        self._counted = dict.fromkeys(COUNTED, 0)
        for each in references:
            self.add_references(each)
        if ledger is not None:
            self.configure(ledger)

    def configure(self, ledger: ILedger | None = None, **options: Any) -> None:
        """Give the ledger, or other options, before the start. What is not named stays as it is.

        Args:
            ledger: Remembers keys.
            options: As for the class, but for phases and references.

        Raises:
            ValueError: A number or a word cannot be one of these.
            RuntimeError: It is started.
        """
        if self._life is not None:
            raise RuntimeError("event sources that are started cannot be configured; stop them")
        self._options = replace(self._options, **options)
        if ledger is not None:
            verifyObject(ILedger, ledger)
            self._ledger = ledger

    @property
    def ledger(self) -> ILedger:
        """What remembers keys.

        Raises:
            NotRunningError: There is none yet.
        """
        if self._ledger is None:
            raise NotRunningError(
                "these event sources have no ledger yet: sources.configure(ledger) gives them one"
            )
        return self._ledger

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of handlers, in order."""
        return self._phases

    @property
    def is_started(self) -> bool:
        """Whether the ledger is open."""
        return self._life is not None and self._life.is_open

    @property
    def delivers(self) -> bool:
        """Whether handlers run in this process."""
        return self._options.deliver == "here"

    # --- Registration

    def register_group_handler(
        self,
        group: str | Pattern[str],
        handler: Callable[..., Any],
        *,
        phase: str = "during",
        times: int | None = None,
        on_crash: OnCrash = "retry",
        max_attempts: int = 5,
        timeout: float | None = None,
        threaded: bool | None = None,
        name: str | None = None,
    ) -> str:
        """Register a handler for events whose group fits a regular expression.

        Args:
            group: Is searched in the event's group, anywhere in it.
            handler: Is called with the event, at least once for each key; with
                ``on_crash="transaction"`` with the event and the transaction. It may return a
                value, a Deferred or a coroutine.
            phase: The phase in which it is called: when all of the phases before have ended.
            times: It is for so many admitted events only. Attempts do not count. Each process
                counts for itself. None: any number.
            on_crash: What becomes of a delivery whose process dies; see
                :data:`oni.values.OnCrash`.
            max_attempts: After so many attempts a delivery is dead.
            timeout: Seconds after which a call is given up and has failed. None: never.
            threaded: Call it in a thread. None: as is said for all.
            name: Its name in the ledger, which has to stay the same. None: its module's and its
                own.

        Returns:
            Its name.

        Raises:
            InvalidHandlerError: The handler cannot be called so, or has no name that stays.
            GroupHandlerNameError: Another one has the name.
            InvalidMatchSpecError: The group is no regular expression.
            UnknownPhaseError: There is no such phase.
            InvalidTimesError: ``times`` is not a positive integer.
            InvalidTimeoutError: ``timeout`` is not a positive number.
            InvalidHandlingError: ``on_crash`` or ``max_attempts`` cannot be.
        """
        made = group_handler(
            group,
            handler,
            name=name,
            phase=phase,
            times=times,
            on_crash=on_crash,
            max_attempts=max_attempts,
            timeout=timeout,
            threaded=threaded,
            threaded_by_default=self._options.threaded,
            at=here(),
        )
        self._handlers.add(made)
        self.wake()
        return made.name

    def unregister_group_handler(self, name: str) -> None:
        """Forget a handler. Its deliveries stay in the ledger, for whoever registers it again.

        Raises:
            UnknownGroupHandlerError: There is none of this name.
        """
        self._handlers.remove(name)

    def register_change_handler(
        self,
        sender: type | str,
        handler: Callable[..., Any],
        *,
        actions: Collection[ChangeAction] = ACTIONS,
        **options: Any,
    ) -> str:
        """Register a handler for what becomes of a model's rows.

        It is given an event whose context has a :class:`oni.values.ModelChange` as ``"change"``.
        Only models that are watched have any; see :doc:`/reference/sources`.

        Args:
            sender: The model, or its name.
            handler: As for :meth:`register_group_handler`.
            actions: What it is called for.
            options: As for :meth:`register_group_handler`.

        Returns:
            Its name.
        """
        _check_actions(actions)
        model = model_name(sender)
        pattern = rf"^{escape(model)}\.({'|'.join(actions)})$"
        return self.register_group_handler(pattern, handler, **options)

    def register_direct_handler(
        self,
        sender: type | str,
        handler: Callable[[ModelChange], Any],
        *,
        actions: Collection[ChangeAction] = ACTIONS,
    ) -> None:
        """See :class:`oni.interfaces.IEventSources`.

        Raises:
            InvalidHandlerError: The handler cannot be called.
            ValueError: There is no such action.
        """
        _check_actions(actions)
        self._direct.add(model_name(sender), handler, actions)

    def register_model_event_source(self, sender: type, source: Source) -> None:
        """Register a function that yields events for an instance of a model.

        Args:
            sender: The model. Instances of models that inherit from it count, too.
            source: Is called with an instance, in the thread of whoever saved it, and gives
                events, or None.

        Raises:
            InvalidSourceError: It is no such function, or no model.
        """
        self._models.add(sender, source)

    def add_references(self, references: IModelReferences) -> None:
        """Let instances of a framework's models be kept in contexts, by what names them."""
        verifyObject(IModelReferences, references)
        self._contexts.add(references)

    @property
    def model_sources(self) -> ModelSources:
        """The sources of each model, by the model: what the seed calls ``MODEL_SOURCES``."""
        return self._models

    def handlers(self) -> Sequence[GroupHandler]:
        """Give the registered group handlers that take new events, in order of registration."""
        return [
            handler
            for handler in self._handlers.by_name.values()
            if self._handlers.remaining(handler.name) != 0
        ]

    def handler_names(self) -> Sequence[str]:
        """Give the names of the handlers whose deliveries are run here."""
        return list(self._handlers.by_name)

    # --- What sources yield

    def ledger_events(self, events: Iterable[Event]) -> Sequence[LedgerEvent]:
        """See :class:`oni.interfaces.IEventSources`."""
        return self._admissions.ledger_events(events)

    def model_events(self, instance: Any) -> Sequence[Event]:
        """See :class:`oni.interfaces.IEventSources`."""
        return self._models.events(instance)

    def has_group_handlers(self, group: str) -> bool:
        """See :class:`oni.interfaces.IEventSources`."""
        return bool(self._handlers.matching(group))

    def has_change_handlers(self, model: str) -> bool:
        """See :class:`oni.interfaces.IEventSources`."""
        return any(self._handlers.matching(f"{model}.{action}") for action in ACTIONS)

    def hears_directly(self, model: str) -> bool:
        """See :class:`oni.interfaces.IEventSources`."""
        return self._direct.hears(model)

    def tell_directly(self, committed: Iterable[Committed]) -> None:
        """See :class:`oni.interfaces.IEventSources`."""
        self._direct.tell(committed)

    def change_events(self, changes: Iterable[ModelChange]) -> Sequence[Event]:
        """See :class:`oni.interfaces.IEventSources`."""
        groups = ((change, f"{change.model}.{change.action}") for change in changes)
        return [
            Event(group=group, key=uuid4().hex, context={"change": change})
            for change, group in groups
            if self._handlers.matching(group)
        ]

    # --- Admission and delivery

    def admit_within(self, connection: Any, events: Iterable[Event]) -> Sequence[Admission]:
        """See :class:`oni.interfaces.IEventSources`."""
        return self._admissions.admit_within(self.ledger, connection, events)

    def only_new_events(self, events: Events) -> Deferred[Sequence[Event]]:
        """See :class:`oni.interfaces.IEventSources`."""
        return shielded(self._only_new(events))

    async def _only_new(self, events: Events) -> Sequence[Event]:
        given = await _listed(events)
        admissions = await self._admissions.admit(self.ledger, given)
        self.wake()
        pairs = zip(given, admissions, strict=True)
        return [event for event, admission in pairs if admission == "admitted"]

    def process_events(self, events: Events) -> Deferred[Sequence[LedgerRecord]]:
        """See :class:`oni.interfaces.IEventSources`."""
        return shielded(self._process(events))

    async def _process(self, events: Events) -> Sequence[LedgerRecord]:
        given = await _listed(events)
        await self._admit_and_run(given)
        return await self._running().records(_keys(given))

    async def _admit_and_run(self, events: Sequence[Event]) -> Sequence[Admission]:
        life = self._running()
        admissions = await self._admissions.admit(self.ledger, events)
        self.wake()
        await life.run(_keys(events))
        return admissions

    def process_sources(
        self,
        instances_of: Callable[[type], Iterable[Any]],
        models: Iterable[type] | None = None,
        *,
        batch: int = 100,
        progress: Callable[[SourcesProgress], object] | None = None,
    ) -> Deferred[SourcesProgress]:
        """Run every instance of models through every source, and process what they yield.

        Instances are loaded and sources called in one thread that is made for it. An instance
        with which a source fails, or yields what cannot be kept, is logged, counted and passed
        over.

        Args:
            instances_of: Gives a model's instances; it is called and gone through in that thread.
            models: The models; all that have sources if None.
            batch: So many instances are looked at before their events are processed.
            progress: Is told how far it is, in the reactor's thread, after each batch.

        Returns:
            A Deferred that fires with how far it came, when all is done. Cancelling it ends it
            after the batch that is under way.

        Raises:
            ValueError: ``batch`` is not a positive integer.
        """
        if type(batch) is not int or batch < 1:
            raise ValueError(f"batch is a positive integer, not {batch!r}")
        wanted = list(self._models if models is None else models)
        batches = Batches(
            instances_of,
            self._events_kept,
            self._admit_and_run,
            batch,
            progress,
            self._contexts.named,
        )
        return shielded(self._in_batches(batches, wanted), batches.cancel)

    def _events_kept(self, instance: Any) -> Sequence[Event]:
        events = self.model_events(instance)
        self._admissions.check(events)
        return events

    async def _in_batches(self, batches: Batches, models: Sequence[type]) -> SourcesProgress:
        thread = self._running().make_thread()
        try:
            return await batches.run(models, thread)
        finally:
            await thread.run("", self._options.after_call or _nothing)
            thread.stop()

    # --- Life

    def wake(self) -> None:
        """See :class:`oni.interfaces.IEventSources`."""
        life = self._life
        if life is not None:
            life.wake()

    def start(self) -> Deferred[None]:
        """See :class:`oni.interfaces.IEventSources`."""
        return shielded(self._start_in_turn())

    async def _start_in_turn(self) -> None:
        stops = self._stops
        await self._starts.acquire()
        try:
            if self._stops != stops:
                raise NotRunningError("the event sources were stopped before they had started")
            await self._start()
        finally:
            self._starts.release()

    async def _start(self) -> None:
        while self._life is not None and self._life.is_closing:
            await seen(self._life.closed)
        if self._life is not None:
            return
        life = self._life = Life(
            self.ledger, self._handlers, self._contexts, self._phases, self._options, self._counted
        )
        try:
            await life.open()
        except BaseException:
            self._forget(life)
            raise

    def _forget(self, life: Life) -> None:
        if self._life is life:
            self._life = None

    def hold(self) -> None:
        """Begin nothing more by itself until the stop; :meth:`process_events` still does.

        For a program that is about to stop, and has handlers of its own that still admit events.
        """
        if self._life is not None:
            self._life.hold()

    def stop(self, timeout: float | None = None) -> Deferred[None]:
        """See :class:`oni.interfaces.IEventSources`."""
        if timeout is not None and not is_seconds(timeout):
            raise InvalidTimeoutError("timeout", timeout)
        return shielded(self._stop(timeout))

    async def _stop(self, timeout: float | None) -> None:
        life = self._life
        if life is None:
            return
        if life.is_closing:
            raise NotRunningError("the event sources are being stopped already")
        self._stops += 1
        try:
            await life.close(timeout)
        finally:
            self._forget(life)
            life.closed.callback(None)

    def _running(self) -> Life:
        if self._life is None or not self._life.is_open:
            raise NotRunningError("the event sources are not started, or have stopped")
        return self._life

    def statistics(self) -> Mapping[str, int]:
        """Give counters and gauges of this process by name.

        Counters: ``claimed``, ``completed``, ``failed``, ``timed_out``, ``dead``, ``uncertain``,
        ``released`` (given back), ``looks`` (how often something due was looked for). Gauges:
        ``handlers``, ``under_way``, ``ledger_is_away`` (0 or 1), ``threads``, ``threads_busy``,
        ``threads_lost``, ``threads_waited_for`` (calls that wait for a thread).
        """
        life = self._life
        gauges = Life.NO_GAUGES if life is None else life.gauges()
        return {**self._counted, "handlers": len(self._handlers.by_name), **gauges}


def _check_actions(actions: Collection[ChangeAction]) -> None:
    if isinstance(actions, str) or not actions or not set(actions) <= set(ACTIONS):
        raise ValueError(f"actions are some of {', '.join(ACTIONS)}, not {actions!r}")


def _keys(events: Sequence[Event]) -> list[str]:
    return list(dict.fromkeys(event.key for event in events))


def _nothing() -> None:
    pass


async def _listed(events: Events) -> list[Event]:
    return checked(await events if isinstance(events, Deferred) else events)
