"""The values that Oni's rooms exchange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from math import inf
from types import MappingProxyType
from typing import Any, Literal, cast

from msgspec import Struct
from twisted.python.failure import Failure

from oni._text import few
from oni.errors import (
    InvalidHandlingError,
    InvalidPhaseError,
    InvalidTimeoutError,
    WatchersFailedError,
)

__all__ = [
    "Admission",
    "Attachment",
    "Claim",
    "ChangeAction",
    "ClientInfo",
    "Committed",
    "Decision",
    "Delivery",
    "DeliveryState",
    "Draft",
    "Event",
    "EventResult",
    "HandlerInfo",
    "Handling",
    "LedgerEvent",
    "LedgerRecord",
    "ModelChange",
    "OnCrash",
    "Outcome",
    "OutboxBacklog",
    "Page",
    "PendingEvent",
    "Phase",
    "Position",
    "PresenceStats",
    "Publication",
    "SKIPPED",
    "StreamOptions",
    "UNKNOWN",
    "Unknown",
    "is_seconds",
    "model_name",
]


_LARGEST = 2**31 - 1  # of the integers that every database keeps


def is_seconds(value: object) -> bool:
    """Say whether a value is a positive, finite number of seconds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of an event's way through its handlers.

    Attributes:
        name: The phase's name.
        on_error: ``"continue"``: a failure is logged and kept in the result, the rest runs.
            ``"abort"``: a concurrent phase finishes, a sequential one stops at its first failure;
            later phases are skipped and the fire fails.
        concurrent: Start all handlers at once, in registration order; else one after another.
        timeout: Seconds after which what still runs of this phase is cancelled, or None.
        always: Run this phase also after an abort or a cancellation.
        holds_turn: Whether the event keeps its place in the order while this phase runs. From
            the first phase that does not, the next event of the same order may start.

    Raises:
        InvalidPhaseError: The name is empty or not a string, or ``on_error`` is unknown.
        InvalidTimeoutError: ``timeout`` is not a positive number.
    """

    name: str
    on_error: Literal["continue", "abort"] = "continue"
    concurrent: bool = True
    timeout: float | None = None
    always: bool = False
    holds_turn: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be a phase."""
        if not isinstance(self.name, str) or not self.name:
            raise InvalidPhaseError(f"a phase's name is a non-empty string, not {self.name!r}")
        if self.on_error not in ("continue", "abort"):
            raise InvalidPhaseError(
                f"on_error of phase {self.name!r} is 'continue' or 'abort', not {self.on_error!r}"
            )
        if self.timeout is not None and not is_seconds(self.timeout):
            raise InvalidTimeoutError(f"timeout of phase {self.name!r}", self.timeout)


class _Skipped:
    """What stands in a result's place for a handler that was removed before its turn came."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SKIPPED"


SKIPPED = _Skipped()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one handler did with one event.

    Attributes:
        handler_id: The handler's id.
        phase: The name of the phase in which it was called.
        value: What it returned, or what its Deferred or coroutine ended with: a value, or a
            :class:`twisted.python.failure.Failure`.
    """

    handler_id: int
    phase: str
    value: Any

    @property
    def failed(self) -> bool:
        """Whether :attr:`value` is a Failure."""
        return isinstance(self.value, Failure)


class EventResult(Struct, frozen=True, eq=False):
    """What became of one fired event: the event, and each called handler's outcome in call order.

    It is made for every fired event, so it keeps what the dispatcher has anyway (the phases' ids,
    and only those results that are not None) and is laid out when it is looked at.

    Attributes:
        event: The event, as it was fired.
        details: What it was matched by.
        state: The dispatcher's state when it refused the event: ``"new"``, ``"stopping"`` or
            ``"stopped"``. ``"started"`` when the event was dispatched.
    """

    event: Any
    details: Mapping[str, Any]
    # For each phase that was entered: its name and the ids of its handlers in call order as far
    # as they were called; and what these returned, which may leave off Nones at its end.
    parts: Sequence[tuple[tuple[str, tuple[int, ...]], Sequence[Any]]] = ()
    state: str = "started"

    @property
    def dispatched(self) -> bool:
        """Whether handlers were looked for: False if the dispatcher was not started."""
        return self.state == "started"

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """One outcome per called handler, in call order."""
        return tuple(self)

    @property
    def values(self) -> tuple[Any, ...]:
        """What the handlers that did not fail returned, in call order."""
        return tuple(o.value for o in self if not o.failed)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures, in call order."""
        return tuple(o.value for o in self if o.failed)

    def raise_failures(self) -> None:
        """Let no failure pass: for what is to fail as a whole where one handler has failed.

        Raises:
            WatchersFailedError: Some have failed. It carries their failures.
        """
        failures = self.failures
        if failures:
            raise WatchersFailedError(failures)

    def __iter__(self) -> Iterator[Outcome]:
        """Give each outcome, in call order."""
        for (phase, ids), kept in self.parts:
            for handler_id, value in zip_longest(ids, kept[: len(ids)]):
                if value is not SKIPPED:
                    yield Outcome(handler_id, phase, value)

    def __len__(self) -> int:
        """Count the called handlers."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Be true: a result without outcomes is a result."""
        return True

    def __repr__(self) -> str:
        """Show event and outcomes."""
        state = "" if self.dispatched else f", state={self.state!r}"
        return f"EventResult({self.event!r}, {self.details!r}, {list(self)!r}{state})"


@dataclass(frozen=True, slots=True)
class HandlerInfo:
    """A registered handler, as ``handlers()`` and ``matching()`` show it.

    Attributes:
        handler_id: Its id.
        handler: Its qualified name.
        phase: Its phase's name.
        match_spec: Its keywords and values.
        weak: Whether the dispatcher holds it weakly.
        remaining: How many calls are left, or None for any number.
        timeout: Its time limit in seconds, or None.
        calls: How often it was called so far.
        registered_at: Where it was registered, as ``file:line``.
    """

    handler_id: int
    handler: str
    phase: str
    match_spec: Mapping[str, Any]
    weak: bool
    remaining: int | None
    timeout: float | None
    calls: int
    registered_at: str


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event that has not ended yet, as ``pending()`` shows it.

    Attributes:
        event: The event.
        details: What it is matched by.
        state: ``"queued"`` (waits for its turn), ``"running"`` (is in its turn) or ``"nested"``
            (runs inside another event's turn).
        phase: The phase it is in, ``""`` while queued, or where it never had to wait.
        waits_for: What it waits for: handlers by name, or the event ahead.
        age: Seconds since it was fired, or None where it never had to wait (it is being called
            right now).
    """

    event: Any
    details: Mapping[str, Any]
    state: Literal["queued", "running", "nested"]
    phase: str
    waits_for: tuple[str, ...]
    age: float | None

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.event!r} ({self.standing})"

    @property
    def standing(self) -> str:
        """Say how it stands with the event in a few words that do not show the event."""
        waits = f", waits for {few(', ', self.waits_for)}" if self.waits_for else ""
        where = f" in phase {self.phase!r}" if self.phase else ""
        return f"{self.state}{where}{waits}"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a publication stands in its channel.

    Attributes:
        epoch: Names one life of the stream. Offsets of different epochs cannot be compared.
        offset: Grows within an epoch; it may leave numbers out. 0 is before the first one.
    """

    epoch: str
    offset: int


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    """Who a client is, as other clients may see it.

    Attributes:
        user: The user's id, empty for nobody.
        client: The id of the session.
        conn_info: What the application says about the connection, JSON.
        chan_info: What the application says about the client in one channel, JSON.
    """

    user: str = ""
    client: str = ""
    conn_info: Any = None
    chan_info: Any = None


@dataclass(frozen=True, slots=True)
class Publication:
    """One entry of a channel.

    Attributes:
        event: The event's name.
        data: What was published, JSON.
        tags: Short strings that travel beside the data.
        position: Where it stands, None until it is published.
        prev: The offset of the publication before it in its channel, 0 if there is none.
        info: Who published it, where a client did; None else.
    """

    event: str
    data: Any
    tags: Mapping[str, str] = field(default_factory=dict)
    position: Position | None = None
    prev: int = 0
    info: ClientInfo | None = None


class Draft(Struct, frozen=True):
    """A publication that has no position yet.

    Attributes:
        event: The event's name.
        data: What is published: JSON, as bytes.
        tags: Short strings that travel beside the data.
        info: Who publishes it, where a client does.
        exclude: The id of the client that shall not hear it, empty for none.
    """

    event: str
    data: bytes
    tags: Mapping[str, str] = {}
    info: ClientInfo | None = None
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what is kept of a channel.

    Nothing is missing between an offset ``since`` and the page that was read with it when
    ``first_prev`` is not above ``since``, nor 0 while ``since`` is not.

    Attributes:
        entries: :class:`oni.interfaces.IEntry` objects, in the order that was asked for.
        first_prev: The offset of the publication before the oldest of the entries, 0 if there
            was none. Without entries: that of the newest publication before where they would be.
        top: Where the newest publication stands, kept or not.
    """

    entries: Sequence[Any]
    first_prev: int
    top: Position


@dataclass(frozen=True, slots=True)
class Attachment:
    """What became of a wish to subscribe.

    Attributes:
        subscription: The :class:`oni.interfaces.ISubscription`; nothing flows before its
            ``begin``.
        recovered: Whether the client gets all that it missed: in ``entries``, or after them.
            False where it did not ask.
        position: After which publication the subscription goes on, once ``entries`` are
            delivered. Where more was missed than goes into an answer: where the client stood.
        entries: What was missed: :class:`oni.interfaces.IEntry` objects for the answer.
    """

    subscription: Any
    recovered: bool
    position: Position
    entries: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """How many are present in a channel.

    Attributes:
        clients: Sessions.
        users: Different users among them.
    """

    clients: int
    users: int


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a channel's stream is kept, and what becomes of readers that are behind.

    Attributes:
        history_size: How many publications are kept, 0 for none.
        history_ttl: For how many seconds after the last publication they are kept.
        ring_entries: How many publications this node keeps for its subscribers.
        ring_bytes: How many bytes these may have.
        behind: What happens to a reader for which publications are gone. ``"gap"``: it is told,
            and goes on. ``"latest"``: it gets the newest only, also before they are gone.
            ``"disconnect"``: as ``"gap"``, and with ``max_lag`` it is disconnected.
        latest_by: With ``"latest"``: the newest for each value of this tag; empty: the newest.
        max_lag: With ``"disconnect"``: after so many seconds behind.
        presence_ttl: For how many seconds a client is present after its node was last heard of.
    """

    history_size: int = 0
    history_ttl: float = 0.0
    ring_entries: int = 256
    ring_bytes: int = 1024 * 1024
    behind: Literal["gap", "latest", "disconnect"] = "gap"
    latest_by: str = ""
    max_lag: float = 30.0
    presence_ttl: float = 60.0

    @property
    def keeps_history(self) -> bool:
        """Whether anything is kept: both a size and a time are needed."""
        return self.history_size > 0 and self.history_ttl > 0


Admission = Literal["admitted", "duplicate", "conflict"]
"""What becomes of a key that is offered to a ledger: the first one is admitted. A later one is a
duplicate, or a conflict if its payload is another."""

DeliveryState = Literal["pending", "running", "done", "dead", "uncertain"]
"""Where a delivery stands: waits for its turn; is claimed; is completed; is given up; or nobody
knows whether it had its effect, and an operator decides."""

OnCrash = Literal["retry", "park", "transaction"]
"""What becomes of a delivery whose process died while it ran. ``"retry"``: it runs again, so its
effects happen at least once. ``"park"``: it never runs again by itself, so its effects happen at
most once; an operator decides. ``"transaction"``: its effects are in the ledger's own database and
went with it, so it runs again, and they happen once."""


@dataclass(frozen=True, slots=True)
class Handling:
    """That a handler shall be given an event, and what becomes of it in bad times.

    Attributes:
        handler: The handler's name. It is the same after a restart.
        on_crash: What happens when its process dies while it runs.
        max_attempts: After so many attempts the delivery is dead.
        rank: Its place in the order of the event's deliveries. It may run once all of a lower
            rank have ended: none is pending or running.

    Raises:
        InvalidHandlingError: ``on_crash`` is unknown, ``max_attempts`` no positive integer, or
            ``rank`` no integer from 0 on; or one of these has more than 32 bits.
    """

    handler: str
    on_crash: OnCrash = "retry"
    max_attempts: int = 5
    rank: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be a handling."""
        if self.on_crash not in ("retry", "park", "transaction"):
            raise InvalidHandlingError(
                self.handler,
                f"on_crash is 'retry', 'park' or 'transaction', not {self.on_crash!r}",
            )
        times = self.max_attempts
        if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= _LARGEST:
            raise InvalidHandlingError(
                self.handler, f"max_attempts is an integer from 1 to {_LARGEST}, not {times!r}"
            )
        rank = self.rank
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= _LARGEST:
            raise InvalidHandlingError(
                self.handler, f"rank is an integer from 0 to {_LARGEST}, not {rank!r}"
            )


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """An event as a ledger keeps it.

    Attributes:
        key: What makes it the same event as another; see :func:`oni.ledger.pair_key`.
        group: Says which handlers it is for.
        payload: What handlers need to know, as bytes that the ledger does not look into.
        handlings: One for each handler that shall be given it.
    """

    key: str
    group: str = ""
    payload: bytes = b""
    handlings: tuple[Handling, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one handler.

    Times are seconds since 1970 on the store's clock.

    Attributes:
        handler: The handler's name.
        key: The event's key.
        state: Where it stands.
        on_crash: What happens when its process dies while it runs.
        max_attempts: After so many attempts it is dead.
        attempts: How often it was claimed, since it was admitted or an operator let it run again.
        crashes: How often the process that ran it died or fell silent.
        token: How often it was ever claimed. It never shrinks, so that who holds an old one is
            known.
        owner: Who runs it, ``""`` while nobody does.
        lease_until: When its owner's silence becomes suspicious, 0 while nobody runs it.
        next_at: Not before this may it be claimed.
        changed_at: When it came into this state.
        last_error: Why it failed last, ``""`` if it never did.
        rank: Its place in the order of the event's deliveries; see :class:`Handling`.
        waits_for: How many of the key's deliveries have a lower rank and have not ended. It is
            not claimed before there are none.
        awaited_by: How many of the key's deliveries have a higher rank.
    """

    handler: str
    key: str
    state: DeliveryState = "pending"
    on_crash: OnCrash = "retry"
    max_attempts: int = 5
    attempts: int = 0
    crashes: int = 0
    token: int = 0
    owner: str = ""
    lease_until: float = 0.0
    next_at: float = 0.0
    changed_at: float = 0.0
    last_error: str = ""
    rank: int = 0
    waits_for: int = 0
    awaited_by: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a delivery now, until it is completed, has failed, or is rescued.

    Attributes:
        delivery: The delivery, as it was claimed.
        group: The event's group.
        payload: The event's payload.
        idempotency_key: The same for every attempt of this handler with this key: what a mail
            server or another's interface can tell repetitions by.
    """

    delivery: Delivery
    group: str
    payload: bytes
    idempotency_key: str

    @property
    def handler(self) -> str:
        """The handler's name."""
        return self.delivery.handler

    @property
    def key(self) -> str:
        """The event's key."""
        return self.delivery.key

    @property
    def attempt(self) -> int:
        """Which attempt this is, the first one being 1."""
        return self.delivery.attempts

    @property
    def token(self) -> int:
        """A number that is higher for each later claim of the same delivery."""
        return self.delivery.token


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator decided about a delivery.

    Attributes:
        handler: The handler's name.
        key: The event's key.
        decision: ``"done"`` or ``"retry"``.
        was: The delivery's state before.
        who: Who decided it.
        at: When, in seconds since 1970 on the store's clock.
    """

    handler: str
    key: str
    decision: Literal["done", "retry"]
    was: DeliveryState
    who: str
    at: float


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """All that a ledger knows of a key.

    Attributes:
        event: The event, as it was admitted, without its handlings.
        admitted_at: When, in seconds since 1970 on the store's clock.
        deliveries: One for each handler, by name.
        decisions: What operators decided, the oldest first.
    """

    event: LedgerEvent
    admitted_at: float
    deliveries: Sequence[Delivery] = ()
    decisions: Sequence[Decision] = ()


@dataclass(frozen=True, slots=True)
class OutboxBacklog:
    """How an outbox stands.

    Attributes:
        waiting: How many events wait to be admitted into the ledger.
        aside: How many lie aside, because they never can be.
        age: For how many seconds the oldest one has waited, 0 if none does.
    """

    waiting: int = 0
    aside: int = 0
    age: float = 0.0


class Event(Mapping[str, Any]):
    """What happened, as sources yield it and group handlers are given it. It does not change.

    It is a mapping of ``"group"``, ``"key"``, ``"context"`` and whatever else was said of it;
    what it is to the handler that is given it stands in attributes.

    Attributes:
        group: Says which handlers it is for.
        key: Makes it the same event as another. It must be the only one in the whole ledger;
            :func:`oni.sources.event` makes one of the group and an id.
        context: What handlers need to know.
        attempt: Which attempt of this handler it is, the first one being 1; 0 outside a handler.
        idempotency_key: The same for every attempt of this handler with this event; ``""``
            outside a handler.

    Args:
        group: See above.
        key: See above.
        context: None is an empty one.
        data: What else is said of it, by name.

    Raises:
        TypeError: Something that is said of it is named as one of the attributes that stand in
            the mapping.
    """

    __slots__ = ("_items", "attempt", "idempotency_key")

    _items: Mapping[str, Any]
    attempt: int
    idempotency_key: str

    def __init__(
        self, *, group: str, key: str, context: Mapping[str, Any] | None = None, **data: Any
    ) -> None:
        _keep(self, group, key, context or {}, data, 0, "")

    @property
    def group(self) -> str:
        """Says which handlers it is for."""
        return str(self._items["group"])

    @property
    def key(self) -> str:
        """Makes it the same event as another."""
        return str(self._items["key"])

    @property
    def context(self) -> Mapping[str, Any]:
        """What handlers need to know."""
        return cast(Mapping[str, Any], self._items["context"])

    @property
    def data(self) -> Mapping[str, Any]:
        """What else was said of it."""
        return {name: self[name] for name in self if name not in ("group", "key", "context")}

    def handled(self, context: Mapping[str, Any], attempt: int, idempotency_key: str) -> Event:
        """Give it as a handler is given it."""
        event = Event.__new__(Event)
        _keep(event, self.group, self.key, context, self.data, attempt, idempotency_key)
        return event

    def __getitem__(self, name: str) -> Any:
        """Give what is said of it under a name."""
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(self._items)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._items)

    def __hash__(self) -> int:
        """Go by the key, which no other event has."""
        return hash(self.key)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: an event does not change."""
        raise AttributeError(f"an event does not change: {name!r} stays what it is")

    def __repr__(self) -> str:
        """Give what it is made with."""
        said = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"Event({said})"


def _keep(
    event: Event,
    group: str,
    key: str,
    context: Mapping[str, Any],
    data: Mapping[str, Any],
    attempt: int,
    idempotency_key: str,
) -> None:
    items = {"group": group, "key": key, "context": MappingProxyType(dict(context)), **data}
    object.__setattr__(event, "_items", MappingProxyType(items))
    object.__setattr__(event, "attempt", attempt)
    object.__setattr__(event, "idempotency_key", idempotency_key)


class Unknown:
    """The type of :data:`UNKNOWN`. There is one instance of it; it is false."""

    __slots__ = ()

    def __new__(cls) -> Unknown:
        """Give the one instance."""
        return UNKNOWN

    def __bool__(self) -> Literal[False]:
        """Be false."""
        return False

    def __repr__(self) -> str:
        """Give its name."""
        return "UNKNOWN"

    def __reduce__(self) -> str:
        """Stay the one instance when it is copied or pickled."""
        return "UNKNOWN"


UNKNOWN: Unknown = object.__new__(Unknown)
"""Stands for a value that nobody has loaded. None is a value, this is none."""

ChangeAction = Literal["created", "modified", "deleted", "bulk"]


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What one transaction did to one row, or one statement to a table.

    Attributes:
        model: The model's name as its framework has it: ``"blog.Post"``.
        id: The row's primary key, a tuple where it has several columns; None in ``"bulk"``.
        action: ``"created"``, ``"modified"``, ``"deleted"``; or ``"bulk"``, a statement that
            changed rows without loading them.
        new: The watched columns' values afterwards; empty after a deletion.
        old: Their values before, :data:`UNKNOWN` where nobody had loaded them; empty for a row
            that is created.
        changed: The names of the columns that differ.
        using: The database's name where the framework knows several, else ``""``.
        statement: What a ``"bulk"`` was, for people; else ``""``.
        count: How many rows a ``"bulk"`` changed, -1 where the driver does not tell; else 1.
    """

    model: str
    id: Any
    action: ChangeAction
    new: Mapping[str, Any] = field(default_factory=dict)
    old: Mapping[str, Any] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    using: str = ""
    statement: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True)
class Committed:
    """A change whose transaction was committed, for those who are told in the same thread.

    Attributes:
        change: What was done.
        instance: The model's instance that it was done through; None where there was none.
    """

    change: ModelChange
    instance: Any = None


def model_name(model: type | str) -> str:
    """Give a model's name, as :class:`ModelChange` has it.

    Args:
        model: A name, which is given back; a model of Django, whose label is its name
            (``"blog.Post"``); or another class, whose name is its module's and its own.
    """
    if isinstance(model, str):
        return model
    label = getattr(getattr(model, "_meta", None), "label", None)
    return label if isinstance(label, str) else f"{model.__module__}.{model.__qualname__}"
