"""What the ledger is told of events: what is kept of them, who handles them, and for how many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from oni.errors import InvalidSourceError
from oni.interfaces import ILedger
from oni.ledger import check_event
from oni.sources._context import Contexts
from oni.sources._group_handlers import GroupHandlers
from oni.values import Admission, Event, LedgerEvent

__all__ = ["Admissions", "checked"]

_log = Logger()

_MOST_GROUPS = 1_000  # of which it is remembered that nobody handles them


class Admissions:
    """Makes what a ledger takes in of events, and lets only new ones count.

    Args:
        handlers: Who is registered.
        contexts: Writes events.
    """

    def __init__(self, handlers: GroupHandlers, contexts: Contexts) -> None:
        self._handlers = handlers
        self._contexts = contexts
        self._one_by_one = DeferredLock()
        self._unhandled: set[str] = set()

    # --- In any thread

    def check(self, events: Iterable[Event]) -> None:
        """Refuse events that cannot be kept, as admitting them would."""
        for event in events:
            self._payload(event)

    def ledger_events(self, events: Iterable[Event]) -> list[LedgerEvent]:
        """See :class:`oni.interfaces.IEventSources`."""
        return [self._ledger_event(event)[0] for event in checked(events)]

    def admit_within(
        self, ledger: ILedger, connection: Any, events: Iterable[Event]
    ) -> Sequence[Admission]:
        """See :class:`oni.interfaces.IEventSources`."""
        given = checked(events)
        if not self._counts(given):
            return self._admit_within(ledger, connection, given)
        # By their keys, so that two transactions do not wait for each other in a circle.
        order = sorted(range(len(given)), key=lambda place: given[place].key)
        admissions = {
            place: self._admit_within(ledger, connection, [given[place]])[0] for place in order
        }
        return [admissions[place] for place in range(len(given))]

    def _admit_within(
        self, ledger: ILedger, connection: Any, events: Sequence[Event]
    ) -> Sequence[Admission]:
        with self._made(events) as (made, settle):
            admissions = ledger.admit_within(connection, made)
            settle(admissions)
        return admissions

    # --- In the reactor's thread

    def admit(self, ledger: ILedger, events: Sequence[Event]) -> Deferred[Sequence[Admission]]:
        """Admit events in a transaction of their own; see :meth:`oni.interfaces.ILedger.admit`."""
        if self._counts(events):
            return self._one_by_one.run(self._admit_one_by_one, ledger, events)
        return Deferred.fromCoroutine(self._admit_together(ledger, events))

    async def _admit_together(
        self, ledger: ILedger, events: Sequence[Event]
    ) -> Sequence[Admission]:
        with self._made(events) as (made, settle):
            admissions = await ledger.admit(made)
            settle(admissions)
        return admissions

    def _admit_one_by_one(
        self, ledger: ILedger, events: Sequence[Event]
    ) -> Deferred[Sequence[Admission]]:
        """Let each event count only if it is new, before the next one is looked at."""

        async def admit() -> Sequence[Admission]:
            return [(await self._admit_together(ledger, [event]))[0] for event in events]

        return Deferred.fromCoroutine(admit())

    # --- What is told

    def _counts(self, events: Sequence[Event]) -> bool:
        """Say whether a handler hears of them that is for a number of events."""
        return any(self._handlers.counts(event.group) for event in events)

    @contextmanager
    def _made(
        self, events: Sequence[Event]
    ) -> Iterator[tuple[list[LedgerEvent], Callable[[Sequence[Admission]], None]]]:
        """Give what the ledger is told of events, and whom to tell what came of it.

        Handlers that are for a number of events are for as many again as were not admitted.
        """
        made: list[LedgerEvent] = []
        back: list[tuple[str, ...]] = []

        def settle(admissions: Sequence[Admission]) -> None:
            for place, admission in enumerate(admissions):
                if admission == "admitted":
                    back[place] = ()

        try:
            for event in events:
                ledger_event, used = self._ledger_event(event)
                made.append(ledger_event)
                back.append(used)
            yield made, settle
        finally:
            for used in back:
                self._handlers.give_back(used)

    def _ledger_event(self, event: Event) -> tuple[LedgerEvent, tuple[str, ...]]:
        """Give it, and the names of the handlers of which a time was used up by it."""
        payload = self._payload(event)
        handlings, used = self._handlers.handlings(event.group)
        if not handlings:
            self._warn_of(event.group)
        return LedgerEvent(event.key, event.group, payload, handlings), used

    def _payload(self, event: Event) -> bytes:
        check_event(LedgerEvent(event.key, event.group))
        return self._contexts.write(event)

    def _warn_of(self, group: str) -> None:
        if group not in self._unhandled and len(self._unhandled) < _MOST_GROUPS:
            self._unhandled.add(group)
            _log.warn(
                "No handler is registered for events of the group {group}: their keys are used "
                "up all the same",
                group=group,
            )


def checked(events: Iterable[Event]) -> list[Event]:
    """Give events as a list, if they are some.

    Raises:
        InvalidSourceError: One is none.
    """
    given = list(events)
    for event in given:
        if not isinstance(event, Event):
            raise InvalidSourceError(event, "it is no event")
    return given
