"""The events of one transaction: gathered, merged, told before its end and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from msgspec.structs import replace
from twisted.logger import Logger

from oni.blocking import fire_here
from oni.dispatcher import EventDispatcher
from oni.errors import (
    CascadeError,
    EventAbortedError,
    LargeContextError,
    TransactionOverError,
)
from oni.interfaces import IEventSources
from oni.listeners._activate import group_of, kept
from oni.listeners.events import (
    ACTIONS,
    AfterResourceChanged,
    AfterResourceRead,
    ResourceAction,
    ResourceChanged,
    ResourceEvent,
    ResourceRead,
)
from oni.values import Phase

__all__ = ["KEYWORDS", "MOST_ROUNDS", "ResourceEvents", "new_dispatcher"]

KEYWORDS = ("kind", "resource_name", "action")
"""What subscribers are matched by."""

MOST_ROUNDS = 10
"""So often subscribers may cause new events in one transaction."""

_log = Logger()

_Begun = TypeVar("_Begun")


def new_dispatcher() -> EventDispatcher:
    """Make a dispatcher for the events of resources, and start it.

    Its phase ``before`` is for what may veto, one subscriber after the other.
    """
    dispatcher = EventDispatcher(
        KEYWORDS, phases=[Phase("before", concurrent=False, on_error="abort"), "during", "after"]
    )
    dispatcher.start()
    return dispatcher


class ResourceEvents:
    """What becomes of records in one attempt of one transaction.

    It belongs to the thread that handles the request. A transaction that is tried again begins
    with a new one.

    Args:
        dispatcher: Who hears; see :func:`new_dispatcher`.
        request: What subscribers see as the events' request before the end.
        clock: Gives the time, seconds since 1970.
        timeout: Seconds that a subscriber's Deferred or coroutine is waited for.
        sources: Event sources that keep, for listeners, what is committed; or None.
        connection: Gives the connection of the transaction, to the ledger's database.
    """

    def __init__(
        self,
        dispatcher: EventDispatcher,
        request: Any = None,
        *,
        clock: Callable[[], float] = time.time,
        timeout: float | None = 30.0,
        sources: Any = None,
        connection: Callable[[], Any] | None = None,
    ) -> None:
        if sources is not None and connection is None:
            raise TypeError(
                "event sources need the transaction's connection, to keep events in it"
            )
        self._sources = None if sources is None else IEventSources(sources)
        self._connection = connection
        self._dispatcher = dispatcher
        self._request = request
        self._clock = clock
        self._timeout = timeout
        self._gathered: dict[tuple[str, str], dict[str, Any]] = {}
        self._told: list[ResourceEvent] = []
        self._kept = 0  # so many of these are in the ledger already
        self._veto: BaseException | None = None
        self._is_past = False  # whether it is too late to say anything

    @classmethod
    @contextmanager
    def within(
        cls,
        transaction: AbstractContextManager[_Begun],
        dispatcher: EventDispatcher,
        request: Any = None,
        **options: Any,
    ) -> Iterator[tuple[ResourceEvents, _Begun]]:
        """Run a block in a transaction, and tell what it records: before the commit and after it.

        Args:
            transaction: Begins where the block does, and commits at its end, or rolls back what
                raises, as SQLAlchemy's ``engine.begin()`` and ``sessionmaker.begin()`` do.
            dispatcher: As for the class.
            request: As for the class.
            options: As for the class. Where no connection is given, it is what the transaction
                gives the block.

        Yields:
            The events, and what the transaction gives.

        Raises:
            EventAbortedError: A subscriber has vetoed; everything is rolled back. See
                :meth:`before_commit` for what else there is, and :meth:`record`.
        """
        with transaction as begun:
            events = cls(dispatcher, request, **{"connection": lambda: begun, **options})
            try:
                yield events, begun
                events.before_commit()
                events._is_past = True
            except BaseException:
                events.rolled_back()
                raise
        events.committed()

    def record(
        self,
        resource_name: str,
        action: ResourceAction,
        *,
        id: Any,
        uri: str,
        user_id: str | None = None,
        new: Mapping[str, Any] | None = None,
        old: Mapping[str, Any] | None = None,
        matched: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what becomes of a record.

        Args:
            resource_name: The resource.
            action: What happens.
            id: The record's id.
            uri: Where it is served.
            user_id: Who does it, None for nobody who is known.
            new: What it is afterwards, or what was read.
            old: What it was before; for a deletion what the store keeps in its place, if anything.
            matched: What the URL matched, by name.

        Raises:
            TransactionOverError: The transaction is being committed, or was: it is within
                :meth:`within`, and a handler of the session's flush says something perhaps. Flush
                at the block's end.
        """
        if self._is_past:
            raise TransactionOverError
        if action not in ACTIONS:
            raise ValueError(f"an action is one of {', '.join(ACTIONS)}, not {action!r}")
        key = (resource_name, action)
        found = self._gathered.get(key)
        if found is None:
            payload = {
                **(matched or {}),
                "timestamp": int(self._clock() * 1000),
                "action": action,
                "uri": uri,
                f"{resource_name}_id": id,
                "user_id": user_id,  # the last word: who did it, also to a resource called "user"
                "resource_name": resource_name,
            }
            found = self._gathered[key] = {"payload": payload, "impacted": []}
        kept = {"new": new, "old": old}
        record = {name: dict(value) for name, value in kept.items() if value is not None}
        found["impacted"].append({"id": id, "uri": uri, **record})

    def before_commit(self) -> None:
        """Tell subscribers in the transaction, until none of them causes anything new.

        It may be called again, where more was said since. Once it has failed it fails again, until
        the transaction is rolled back: a veto that somebody has swallowed is one.

        Raises:
            UnkeptContextError: What is kept for listeners is nothing that can be kept, or a single
                record is too large.
            EventAbortedError: One in the phase ``before`` has vetoed; its cause is what it raised.
            CascadeError: They cause new events again and again.
        """
        if self._veto is not None:
            raise self._veto
        try:
            self._tell_before()
            self._keep_told()
        except BaseException as error:
            self._veto = error
            raise

    def _tell_before(self) -> None:
        for _ in range(MOST_ROUNDS):
            gathered, self._gathered = self._gathered, {}
            events = [_event(told, self._request) for told in gathered.values()]
            self._told += events  # all were said before whatever savepoint a subscriber begins
            for event in events:
                fire_here(self._dispatcher, event, timeout=self._timeout, **_details(event))
            if not self._gathered:
                return
        raise CascadeError(MOST_ROUNDS, sorted({name for name, _ in self._gathered}))

    def _keep_told(self) -> None:
        sources, connection = self._sources, self._connection
        if sources is None or connection is None:
            return
        new = [event for event in self._told[self._kept :] if _is_for(sources, event)]
        if new:
            _keep(sources, connection(), new)
        self._kept = len(self._told)

    def committed(self) -> None:
        """Tell subscribers that it is done. What fails is logged, and stops nobody.

        It never raises: what is done stays done. The log says what was said since they were told
        before the commit, which nobody hears of.
        """
        if self._gathered:
            _log.error(
                "What was said of {resources} is told to nobody: subscribers had been told, and "
                "were not told again before the commit",
                resources=", ".join(sorted({name for name, _ in self._gathered})),
            )
            self._gathered.clear()
        told, self._told, self._kept = self._told, [], 0
        if self._sources is not None:
            self._sources.wake()
        for event in told:
            is_read = isinstance(event, ResourceRead)
            kind = AfterResourceRead if is_read else AfterResourceChanged
            after = kind(
                payload=event.payload,
                impacted_records=event.impacted_records,
                impacted=event.impacted,
                key=event.key,
            )
            try:
                fire_here(self._dispatcher, after, timeout=self._timeout, **_details(after))
            except EventAbortedError as error:
                for failure in error.failures:
                    _log.failure("A subscriber has failed after the commit", failure=failure)
            except BaseException:  # noqa: BLE001 - see above
                _log.failure("Subscribers could not be told of what was committed")

    def rolled_back(self) -> None:
        """Forget everything."""
        self._gathered.clear()
        self._told.clear()
        self._kept = 0
        self._veto = None

    def savepoint(self) -> Callable[[], None]:
        """Give what goes back to what was said until now, for a savepoint of the transaction."""
        gathered = _copy(self._gathered)
        told, kept, veto = len(self._told), self._kept, self._veto

        def go_back() -> None:
            self._gathered = _copy(gathered)
            del self._told[told:]
            self._kept = min(self._kept, kept)
            self._veto = veto

        return go_back

    @property
    def told(self) -> tuple[ResourceEvent, ...]:
        """The events that subscribers were told of before the commit, in order."""
        return tuple(self._told)


def _is_for(sources: Any, event: ResourceEvent) -> bool:
    """Say whether event sources are to keep an event.

    What changes is kept in any case, and they warn if nobody hears. Who only reads writes nothing
    into the ledger for nobody.
    """
    is_read = isinstance(event, ResourceRead)
    return not is_read or bool(sources.has_group_handlers(group_of(event)))


def _keep(sources: Any, connection: Any, events: Sequence[ResourceEvent]) -> None:
    """Keep events for listeners, in parts what is too large to be kept in one."""
    try:
        sources.admit_within(connection, [kept(event) for event in events])
    except LargeContextError:
        if len(events) == len(events[0].impacted) == 1:
            raise
        parts = [[event] for event in events] if len(events) > 1 else _halves(events[0])
        for part in parts:
            _keep(sources, connection, part)


def _halves(event: ResourceEvent) -> list[list[ResourceEvent]]:
    """Give an event as two, one after the other, with half of the records each."""
    middle = len(event.impacted) // 2
    halves = []
    for number, part in enumerate((slice(None, middle), slice(middle, None)), 1):
        impacted = event.impacted[part]
        payload = {
            **event.payload,
            "uri": impacted[0]["uri"],
            f"{event.resource_name}_id": impacted[0]["id"],
            "user_id": event.payload["user_id"],
        }
        half = replace(
            event,
            payload=payload,
            impacted=impacted,
            impacted_records=event.impacted_records[part],
            key=f"{event.key}.{number}",
        )
        halves.append([half])
    return halves


def _copy(gathered: Mapping[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], Any]:
    return {key: {**each, "impacted": [*each["impacted"]]} for key, each in gathered.items()}


def _event(told: Mapping[str, Any], request: Any) -> ResourceEvent:
    kind = ResourceRead if told["payload"]["action"] == "read" else ResourceChanged
    records = [
        {name: each[name] for name in ("new", "old") if name in each} for each in told["impacted"]
    ]
    return kind(
        payload=told["payload"],
        impacted_records=records,
        impacted=told["impacted"],
        key=uuid4().hex,
        request=request,
    )


def _details(event: ResourceEvent) -> dict[str, Any]:
    return {
        "kind": type(event),
        "resource_name": event.resource_name,
        "action": event.action,
    }
