"""Every public interface of Oni. A contract is written here once; implementers add to it."""

# zope.interface methods have no self.
# mypy: disable-error-code="misc"
# ruff: noqa: N805

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from oni.values import (
    Admission,
    Attachment,
    ChangeAction,
    Claim,
    ClientInfo,
    Committed,
    Delivery,
    DeliveryState,
    Draft,
    Event,
    EventResult,
    HandlerInfo,
    LedgerEvent,
    LedgerRecord,
    ModelChange,
    OutboxBacklog,
    Page,
    PendingEvent,
    Phase,
    Position,
    PresenceStats,
    Publication,
    StreamOptions,
)

__all__ = [
    "IBackendSink",
    "IBackgroundUtility",
    "ICarrier",
    "IChannel",
    "IChannelBackend",
    "IChannels",
    "IDirectCarrier",
    "IEntry",
    "IEventDispatcher",
    "IEventSources",
    "ILedger",
    "ILedgerStore",
    "ILedgerTransaction",
    "IModelEventWatcher",
    "IModelReferences",
    "IOutbox",
    "IOutboxBatch",
    "ISubscription",
    "ITurns",
]


class IBackgroundUtility(Interface):
    """A component with a life of its own in the background."""

    def start() -> None:
        """Begin work. Calling it again while started changes nothing."""

    def stop(timeout: float | None = None) -> Deferred[None]:
        """End work.

        Args:
            timeout: Seconds after which what still runs is cancelled, or None to wait for it.

        Returns:
            A Deferred that fires with None when nothing runs any more.
        """


class IEventDispatcher(IBackgroundUtility):
    """Calls the handlers whose match spec fits a fired event, phase by phase.

    All methods belong to one thread at a time: a call that finds an event active in another
    thread raises :class:`oni.errors.WrongThreadError`. Several threads go through
    :mod:`oni.blocking`.
    """

    def add_event_handler(
        listen_fn: Callable[[Any], Any],
        phase: str,
        /,
        use_weakref: bool = True,
        *,
        times: int | None = None,
        timeout: float | None = None,
        **match_spec: Any,
    ) -> Deferred[int]:
        """Register a handler. Its first two arguments are positional only.

        Args:
            listen_fn: Is called with the event. It may return a value, a Deferred or a coroutine.
            phase: The phase in which it is called.
            use_weakref: Hold the handler (of a bound method: its instance) weakly. The
                registration goes when it dies.
            times: After this many calls the registration goes. None: any number.
            timeout: Seconds after which a call is cancelled and recorded as
                :class:`oni.errors.HandlerTimeoutError`.
            match_spec: The details that an event must have: literals, compared with ``==``, or
                matchers. None matches anything.

        Returns:
            A Deferred that has fired with the handler's id.

        Raises:
            UnknownKeywordError: The match spec names a keyword that is not allowed.
            UnknownPhaseError: There is no such phase.
            InvalidHandlerError: The handler cannot be called, is a generator function, or cannot
                be held weakly.
            InvalidTimesError: ``times`` is not a positive integer.
            InvalidTimeoutError: ``timeout`` is not a positive number.
            InvalidMatchSpecError: A value is unhashable.
        """

    def remove_event_handler(handler_id: int) -> Deferred[None]:
        """Remove a handler. It is not called any more, not even by an event that runs now.

        Returns:
            A Deferred that has fired with None, or with
            :class:`oni.errors.UnknownHandlerError`.
        """

    def fire_event(event: Any, /, **details: Any) -> Deferred[EventResult]:
        """Give an event to every handler whose match spec fits its details.

        Args:
            event: Anything; it is handed to the handlers as it is.
            details: What match specs are compared with.

        Returns:
            A Deferred that fires when the event's last phase has ended. Cancelling it takes a
            queued event out of its queue, or cancels the handlers of a running one. It fails with
            :class:`oni.errors.UnknownKeywordError`, :class:`oni.errors.UnhashableDetailError`,
            :class:`oni.errors.QueueFullError`, :class:`oni.errors.EventAbortedError`,
            :class:`oni.errors.EventCycleError`, :class:`oni.errors.EventNestingError`,
            :class:`oni.errors.EventWaitTimeoutError` or ``CancelledError``; never with a
            handler's own failure in a phase that continues on errors.
        """

    def next_event(phase: str | None = None, /, **match_spec: Any) -> Deferred[Any]:
        """Wait for the next event that fits.

        Args:
            phase: The phase in which to hear it; the first one if None.
            match_spec: As in :meth:`add_event_handler`.

        Returns:
            A Deferred that fires with that event. Cancelling it ends the wait. It fails with
            :class:`oni.errors.DispatcherStoppedError` when the dispatcher stops before.
        """

    def add_match_spec_keyword(keyword: str) -> None:
        """Allow one more keyword in match specs and details."""

    def remove_match_spec_keyword(keyword: str) -> None:
        """Allow a keyword no more.

        Raises:
            UnknownKeywordError: It is not allowed anyway.
            KeywordInUseError: A handler or ``order_by`` uses it; the error names them.
        """

    def add_phase(phase: str | Phase, before: str | None = None, after: str | None = None) -> None:
        """Add a phase at the end, or before or after a named one. Running events keep theirs."""

    def remove_phase(name: str) -> None:
        """Remove a phase.

        Raises:
            UnknownPhaseError: There is no such phase.
            PhaseInUseError: Handlers are registered in it; the error names them.
        """

    def handlers(limit: int | None = None) -> Sequence[HandlerInfo]:
        """Give every registered handler, or so many of them, in registration order."""

    def matching(**details: Any) -> Sequence[HandlerInfo]:
        """Give the handlers that an event with these details would call, in call order."""

    def pending() -> Sequence[PendingEvent]:
        """Give the events that have not ended, oldest first."""

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges by name."""


class IEntry(Interface):
    """A publication on its way to carriers. It is encoded once for each protocol."""

    channel = Attribute("The channel's name.")
    event = Attribute("The event's name.")
    data = Attribute("What was published: JSON, as bytes.")
    tags = Attribute("Short strings that travel beside the data.")
    position = Attribute("Where it stands, a :class:`oni.values.Position`.")
    prev = Attribute("The offset of the publication before it in its channel, 0 if there is none.")
    info = Attribute("Who published it, a :class:`oni.values.ClientInfo`; None for the server.")
    exclude = Attribute("The id of the client that shall not hear it, empty for none.")

    def publication() -> Publication:
        """Give it as a value, with the data decoded anew."""

    def encoded(encode: Callable[[IEntry], bytes]) -> bytes:
        """Give what an encoder makes of it. Each encoder is called once, whoever asks."""


class ISubscription(Interface):
    """A carrier's place in a channel: a cursor, which the channel moves and the carrier drains.

    It keeps an offset and no publications, so that a carrier that takes nothing costs nothing.
    """

    channel = Attribute("The channel's name.")
    carrier = Attribute("The carrier.")
    client = Attribute("The id of the client behind the carrier, empty for none.")
    position = Attribute("The last publication that was taken or passed over.")
    closed = Attribute("Whether it has ended.")
    asleep = Attribute("Whether everything is taken: then the next publication wakes the carrier.")

    def begin() -> None:
        """Let publications flow. The answer to a subscribe leaves first, then this is called.

        Calling it again changes nothing.
        """

    def take(limit: int) -> bytes:
        """Give the next publications, encoded by the carrier's ``encode`` and joined.

        Args:
            limit: How many bytes are wanted; one publication may be longer.

        Returns:
            What comes next in order, and nothing else is given again. Empty when there is
            nothing now: :meth:`ICarrier.wake` is called when there is.
        """

    def close() -> None:
        """End it, at once: nothing more can be taken, and the carrier is told nothing more."""


class ICarrier(Interface):
    """One connection that delivers publications.

    Carriers of one connection are equal, and hash alike: a channel keeps one subscription for
    them. All methods are called in the reactor's thread, and return at once.
    """

    encode = Attribute(
        """A function from an :class:`IEntry` to the bytes that this carrier sends.

        The same object for all carriers of one protocol: it is called once for them all.
        """
    )

    def wake(subscription: ISubscription) -> None:
        """Learn that there is something to take.

        It is called within somebody's ``publish``: the carrier takes a later turn, and calls
        ``subscription.take`` then, as often as its connection accepts bytes. It is not called
        again before ``take`` has given nothing, or the subscription is asleep.
        """

    def lost(subscription: ISubscription, position: Position) -> bytes:
        """Learn of a gap: publications were lost, what is taken next comes after ``position``.

        It is called within ``take``, and may close the subscription.

        Returns:
            What the client is told, as bytes to be sent: ``take`` gives them in their place.
        """

    def overdue(subscription: ISubscription) -> None:
        """Learn that the client lags too far behind, where the channel disconnects such ones."""

    def joined(subscription: ISubscription, info: ClientInfo) -> None:
        """Learn that a client has entered the channel; only where the subscription asked."""

    def left(subscription: ISubscription, info: ClientInfo) -> None:
        """Learn that a client has left the channel; only where the subscription asked."""


class ITurns(Interface):
    """Lets the connections of a process send: some in each reactor turn, so that none is long."""

    turn_bytes = Attribute("How many bytes one subscription sends before the next one's turn.")

    def invite(crowd: Any) -> None:
        """Give turns to many subscriptions together.

        Args:
            crowd: Has ``give(number, alone)``, which lets the next so many have what is new to
                them, and says whether there are more. ``alone`` is false while other crowds wait:
                then whoever hears several channels sends in a turn of its own, and once. Also
                ``len(crowd)``, how many are left.
        """


class IDirectCarrier(ICarrier):
    """A carrier whose connection can take bytes within a call, with nothing in between.

    Then a channel gives it what is new without waking it. That changes no byte of what is sent,
    nor the order: :attr:`direct` is there only while nothing else has to leave before.
    """

    turns = Attribute("The :class:`ITurns` that this carrier and others take.")
    heard = Attribute("How many channels it is subscribed to: 0 at first, the channels count.")
    direct = Attribute(
        """Takes bytes, and says how many it has taken, or raises OSError: a socket's ``send``.

        None while the connection must not be given any: something waits to be sent, it is not
        open, or has no such thing. It may change with every call.
        """
    )

    def rest(data: bytes, sent: int) -> None:
        """Send the rest of what ``direct`` has taken only so many bytes of. It does not raise."""


class IChannel(Interface):
    """A named stream of publications, one object per name and process."""

    name = Attribute("The channel's name.")
    options = Attribute("How its stream is kept, :class:`oni.values.StreamOptions`.")

    def start() -> Deferred[None]:
        """Begin consumption. Subscribing does so by itself."""

    def hold() -> object:
        """Give what keeps the channel's stream, and so its positions, for as long as it is had.

        It takes less than the channel itself, which need not be kept. None where streams live by
        their own rules anyway.
        """

    def publish(
        event: str,
        data: Any,
        *,
        tags: Mapping[str, str] | None = None,
        info: ClientInfo | None = None,
        exclude: str = "",
        idempotency_key: str | None = None,
    ) -> Deferred[Position]:
        """Give a publication to every subscriber. Data is JSON, encoded within the call.

        Args:
            event: The event's name.
            data: Anything that msgspec can encode; a :class:`msgspec.Raw` is JSON already.
            tags: Short strings that travel beside the data.
            info: Who published it, where a client did.
            exclude: The id of a client that shall not hear it, mostly the publisher's own.
            idempotency_key: Of publications with the same key, within five minutes, only the
                first happens; the others are answered with its position.

        Returns:
            A Deferred that fires with the publication's position when it is stored.
            Subscribers may hear it before or after that.

        Raises:
            EventNameError: No event may have this name.
            TypeError: The data or a tag is not JSON.
        """

    def subscribe(
        event: str | None, carrier: ICarrier, since: Position | None = None
    ) -> Deferred[Position]:
        """Deliver publications of this event name (None: all) to a carrier.

        A carrier that is subscribed already hears this event too, from where it stands; each
        publication is delivered once.

        Args:
            event: The event's name, None for all events.
            carrier: Who hears it.
            since: What came after this is delivered first, if it is kept without a gap.

        Returns:
            A Deferred that fires with the position after which the carrier hears everything:
            ``since`` itself, or the newest one if ``since`` is None or cannot be gone on from.
        """

    def unsubscribe(event: str | None, carrier: ICarrier) -> Deferred[None]:
        """Deliver no more of these to the carrier. Nothing happens where it was not subscribed.

        Args:
            event: The event's name; None ends what :meth:`subscribe` began with None.
            carrier: Who hears it no more.
        """

    def attach(
        carrier: ICarrier,
        since: Position | None = None,
        *,
        wants: Callable[[IEntry], bool] | None = None,
        client: str = "",
        join_leave: bool = False,
    ) -> Deferred[Attachment]:
        """Subscribe a session's carrier, and say what its client missed.

        Nothing is delivered before the subscription's ``begin``, so that the answer comes first.

        Args:
            carrier: Who hears the channel.
            since: Where the client stands, None if it asks for nothing.
            wants: Says which publications are delivered; it must not raise. None: all.
            client: The client's id: what excludes it is not delivered.
            join_leave: Whether it hears who enters and leaves.

        Returns:
            A Deferred that fires with what became of it: all of what was missed, or nothing. It
            fails with :class:`oni.errors.AlreadySubscribedError` if the carrier is subscribed.
            Cancelling it ends the subscription.
        """

    def history(
        limit: int | None = None, since: Position | None = None, reverse: bool = False
    ) -> Deferred[Page]:
        """Read what is kept.

        Args:
            limit: How many publications at most: 0 for none, only the position of the newest;
                None for all that are kept.
            since: Only publications after this (reversed: before this).
            reverse: The newest first.

        Returns:
            A Deferred that fires with the page. It may have fewer entries than wanted: read on
            from the last one until there are none. It fails with
            :class:`oni.errors.UnrecoverablePositionError` if ``since`` is of another epoch.
        """

    def remove_history() -> Deferred[None]:
        """Forget what is kept. Positions stay valid, and go on growing."""

    def enter(info: ClientInfo) -> Deferred[None]:
        """Let a client be present. This process renews its lease until :meth:`leave`."""

    def leave(client: str) -> Deferred[None]:
        """Let a client, by its id, be present no more."""

    def presence() -> Deferred[Mapping[str, ClientInfo]]:
        """Give who is present, on all nodes, by the client's id."""

    def presence_stats() -> Deferred[PresenceStats]:
        """Count who is present, on all nodes."""


class IChannels(Interface):
    """All channels of a process."""

    def get(name: str) -> IChannel:
        """Give the one channel of this name, made at first use.

        Raises:
            ChannelNameError: No channel may have this name.
        """

    def start() -> Deferred[None]:
        """Begin with the backend. The first use of a channel does so by itself."""

    def stop() -> Deferred[None]:
        """End every subscription, then the backend. Receivers of messages are forgotten."""

    def control(message: bytes) -> Deferred[None]:
        """Give a message to every node, this one too. Nobody but the nodes sees it."""

    def hear_control(receiver: Callable[[bytes], object]) -> None:
        """Call a function with every message that some node sends, until :meth:`stop`."""

    def names() -> Sequence[str]:
        """Give the names of the channels that live, sorted."""

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges by name."""


class IBackendSink(Interface):
    """What a backend reports to: the engine. All in the reactor's thread."""

    def received(channel: str, entries: Sequence[IEntry]) -> None:
        """Take what was published on a channel that is followed, in the order of the offsets.

        What came before may come again. What is missing is found by each entry's ``prev``.
        """

    def lost(channel: str | None, reason: str) -> None:
        """Learn that publications of a channel (None: of any) may never be received.

        The engine calls ``follow`` again, and reads what it missed.
        """

    def up() -> None:
        """Learn that the backend works (again)."""

    def down() -> None:
        """Learn that the backend does not work. It tries to come back by itself."""

    def controlled(message: bytes) -> None:
        """Take a message that some node sent with ``control``."""

    def joined(channel: str, info: ClientInfo) -> None:
        """Learn that a client has entered a channel that is followed."""

    def left(channel: str, info: ClientInfo) -> None:
        """Learn that a client has left a channel that is followed, or its lease has ended."""


class IChannelBackend(Interface):
    """Where channels keep their data, and how nodes hear of each other's publications.

    An epoch names one life of one channel's stream: no other channel ever has the same. Offsets
    grow within it and may leave numbers out; each entry knows the offset of the one before it. A
    backend that may forget that there was one says 0 then: who stands above 0 is told of a gap.
    Who stands at 0 cannot see that; so where a position of offset 0 may have been given, such a
    backend takes another epoch instead.

    Every method may be called between ``start`` and ``stop``. Failures come through Deferreds:
    :class:`oni.errors.BackendError`, of which it is unknown whether the call took effect.
    """

    def start(sink: IBackendSink) -> Deferred[None]:
        """Begin, and report to this sink."""

    def stop() -> Deferred[None]:
        """End. The sink hears nothing more."""

    def hold(channel: str) -> object:
        """Give what keeps the channel's stream for as long as somebody has it.

        None where streams live by their own rules anyway.
        """

    def follow(channel: str) -> Deferred[Position]:
        """Let the sink hear a channel.

        Returns:
            A Deferred that fires with a position: everything after it reaches the sink, some of
            it maybe before the Deferred fires. Following again is allowed, and answered anew.
        """

    def unfollow(channel: str) -> Deferred[None]:
        """Let the sink hear a channel no more."""

    def publish(
        channel: str, draft: Draft, options: StreamOptions, idempotency_key: str | None = None
    ) -> Deferred[Position]:
        """Store a publication, and give it to every node that follows the channel: both or none.

        Returns:
            A Deferred that fires with its position, before or after the sink has received it.
            With an idempotency key that was used within five minutes: with the position of then,
            and nothing is stored.
        """

    def read(
        channel: str, since: Position | None, limit: int | None, reverse: bool = False
    ) -> Deferred[Page]:
        """Read what is kept.

        Args:
            channel: The channel's name.
            since: Only what comes after this (reversed: before this). Its epoch is ignored here:
                the caller compares it with that of the page.
            limit: An upper bound: a backend may give fewer, but gives at least one if there is
                one. None: as many as the backend gives at once.
            reverse: The newest first.
        """

    def top(channel: str) -> Deferred[Position]:
        """Give the position of the newest publication, kept or not; offset 0 if there is none."""

    def trim(channel: str) -> Deferred[None]:
        """Forget what is kept of a channel. Its epoch and its newest offset stay."""

    def enter(channel: str, info: ClientInfo, ttl: float) -> Deferred[None]:
        """Let a client be present for so many seconds; again, to renew that."""

    def leave(channel: str, client: str) -> Deferred[None]:
        """Let a client be present no more. Nothing happens where it is not."""

    def presence(channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        """Give who is present, by the client's id."""

    def presence_stats(channel: str) -> Deferred[PresenceStats]:
        """Count who is present."""

    def control(message: bytes) -> Deferred[None]:
        """Give a message to the sink of every node, this one's too."""

    def probe() -> Deferred[None]:
        """Send something to oneself through the feed.

        Returns:
            A Deferred that fires with None when it has come, or fails with
            :class:`oni.errors.BackendError`: this node is deaf.
        """

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges by name.

        A backend that knows how many publications by this node it did not store, because their
        idempotency key had been used, says so as ``suppressed``.
        """


class ILedger(Interface):
    """Remembers which keys were admitted, and which handlers have completed them.

    What it promises, and what not, is said in :doc:`/explanation/ledger`. Every method belongs to
    the reactor's thread and returns at once; the database is worked with in the ledger's own
    threads. Where a Deferred fails with :class:`oni.errors.LedgerUnavailableError` it is unknown
    whether the call took effect: calling again is safe.
    """

    label = Attribute('What the store can promise, in a few words: ``"effects once"``, ...')

    def start() -> Deferred[None]:
        """Open the store, and look after deliveries whose process has died.

        Returns:
            A Deferred that fires with None, or fails with :class:`oni.errors.UnsafeLedgerError`
            where the store cannot keep what is promised, or
            :class:`oni.errors.LedgerCorruptError`.
        """

    def stop() -> Deferred[None]:
        """End what is under way, and close the store. What is claimed may be rescued by others."""

    def admit(events: Sequence[LedgerEvent]) -> Deferred[Sequence[Admission]]:
        """Take events in. Of all that ever have the same key, one is admitted.

        Returns:
            A Deferred that fires with what became of each, in the same order, when it is stored.

        Raises:
            LedgerKeyError: A key is empty, too long, or not text.
            LedgerPayloadError: A payload is too large.
        """

    def admit_within(connection: Any, events: Sequence[LedgerEvent]) -> Sequence[Admission]:
        """Take events in as a part of a transaction of the caller's, in the caller's thread.

        It blocks. They are admitted when that transaction is committed, and never were if it is
        rolled back.

        Args:
            connection: A connection to the ledger's database, of the kind that its store knows.
            events: What is taken in.

        Raises:
            LedgerKeyError: A key is empty, too long, or not text.
            LedgerPayloadError: A payload is too large.
            LedgerTransactionError: The connection is not one that this can be done on.
        """

    def claim(
        handlers: Collection[str], limit: int = 64, keys: Collection[str] | None = None
    ) -> Deferred[Sequence[Claim]]:
        """Take deliveries that are due, for these handlers, to run them now.

        None is due while another one of the same key, of a lower rank, is pending or running.
        Each one counts as an attempt from here on. A delivery whose process has died before comes
        alone, so that if it kills this one, too, that is held against no other.

        Args:
            handlers: The handlers' names.
            limit: How many, at most.
            keys: Only deliveries of these keys, 64 at most; None: of any.

        Returns:
            A Deferred that fires with at most so many claims; with none if nothing is due.
            Cancelling it gives back what was claimed by then.

        Raises:
            ValueError: There are more keys.
        """

    def complete(claim: Claim) -> Deferred[None]:
        """Record that a handler has done what it had to.

        Returns:
            A Deferred that fires with None when it is stored, or fails with
            :class:`oni.errors.StaleClaimError` if the delivery was taken away meanwhile.
        """

    def run(claim: Claim, work: Callable[[Any], Any]) -> Deferred[Any]:
        """Do some work, and complete the delivery, in one transaction of the ledger's database.

        Args:
            claim: What is completed.
            work: A function that is given the store's connection, in a thread of the ledger's.
                It leaves the transaction as it is: it neither commits nor rolls back.

        Returns:
            A Deferred that fires with what the work returned when all of it is stored. Else it
            fails, and nothing is: with the work's own failure, with
            :class:`oni.errors.StaleClaimError` if the delivery was taken away meanwhile, or with
            :class:`oni.errors.LedgerTransactionError` if the work has ended the transaction.
            After a failure of the work's own the caller calls :meth:`fail`. Cancelling it keeps
            work that has not begun from beginning. What has begun goes on in its thread, and is
            kept if nobody has taken the delivery away by then; another thread takes its place.
        """

    def fail(
        claim: Claim, error: str, *, permanent: bool = False, delay: float | None = None
    ) -> Deferred[Delivery]:
        """Record that a handler has failed.

        Args:
            claim: What it failed with.
            error: Why, for people. What is over 4,096 characters is left off.
            permanent: Whether another attempt makes no sense, and nothing is in doubt: it is dead
                then, whatever ``on_crash`` is.
            delay: Seconds until the next attempt. None: more after each one.

        Returns:
            A Deferred that fires with how it stands now: pending, dead after the last attempt, or
            uncertain where ``on_crash`` is ``"park"``. It fails with
            :class:`oni.errors.StaleClaimError` if the delivery was taken away meanwhile.
        """

    def release(claims: Sequence[Claim]) -> Deferred[None]:
        """Give claims back that were never begun, so that others run them at once.

        They do not count as attempts. Those that were taken away meanwhile are left alone.
        """

    def resolve(
        handler: str, key: str, decision: Literal["done", "retry"], who: str
    ) -> Deferred[Delivery]:
        """Decide as an operator what becomes of a delivery; the decision is kept.

        Args:
            handler: The handler's name.
            key: The event's key.
            decision: ``"done"``: it shall count as completed. ``"retry"``: it shall run again.
            who: Who decides.

        Returns:
            A Deferred that fires with how it stands now, or fails with
            :class:`oni.errors.UnknownDeliveryError`, or :class:`oni.errors.DeliveryStateError`
            where it runs, or is in that state anyway.
        """

    def prune(older_than: float, limit: int = 1000) -> Deferred[int]:
        """Forget keys that every handler has completed long ago. Each is a new key then.

        Args:
            older_than: So many seconds ago, at least. It must be longer than a source may take
                to bring the same event again.
            limit: How many keys, at most.

        Returns:
            A Deferred that fires with how many were forgotten.
        """

    def deliveries(
        state: DeliveryState | None = None, handler: str | None = None, limit: int = 100
    ) -> Deferred[Sequence[Delivery]]:
        """Give deliveries, those first whose state changed last."""

    def show(key: str) -> Deferred[LedgerRecord | None]:
        """Give all that is known of a key, or None."""

    def count() -> Deferred[Mapping[DeliveryState, int]]:
        """Count the deliveries in each state."""

    def lag() -> Deferred[float]:
        """Say for how many seconds the pending delivery that is due longest has been so.

        It is 0 where none is due.
        """

    def statistics() -> Mapping[str, int]:
        """Give counters and gauges of this process by name."""


class ILedgerTransaction(Interface):
    """What can be done with a ledger's data in one transaction. All of it blocks.

    What is done is kept together when the transaction ends well, and none of it otherwise.
    """

    connection = Attribute("What others may write to the same database through.")

    def now() -> float:
        """Give the time on the store's clock, seconds since 1970."""

    def admit(event: LedgerEvent) -> Admission:
        """See :meth:`ILedger.admit`. The key is a checked one."""

    def claim(
        handlers: Collection[str],
        limit: int,
        owner: str,
        lease: float,
        keys: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        """See :meth:`ILedger.claim`."""

    def complete(claim: Claim) -> None:
        """See :meth:`ILedger.complete`. Raises what the Deferred would fail with."""

    def fail(claim: Claim, error: str, permanent: bool, delay: float | None) -> Delivery:
        """See :meth:`ILedger.fail`. Raises what the Deferred would fail with."""

    def release(claim: Claim) -> bool:
        """Give a claim back. Say whether its owner still had it."""

    def extend(claim: Claim, lease: float) -> bool:
        """Show that a claim's owner is alive. Say whether it still has the claim."""

    def running() -> Sequence[Delivery]:
        """Give the deliveries that run, whoever runs them."""

    def rescue(delivery: Delivery) -> bool:
        """Take a delivery from an owner that is dead or silent.

        Args:
            delivery: How it was seen. If anything happened to it since, nothing happens now.

        Returns:
            Whether it was taken.
        """

    def ahead() -> Sequence[Delivery]:
        """Give pending deliveries that came into their state later than now, some at a time.

        The clock was set back since, by more than a second; until it is as late again they would
        not be due.
        """

    def catch_up(delivery: Delivery) -> bool:
        """Let one of :meth:`ahead` wait from now on for as long as it had to then.

        Returns:
            Whether it was still as it was seen.
        """

    def resolve(handler: str, key: str, decision: Literal["done", "retry"], who: str) -> Delivery:
        """See :meth:`ILedger.resolve`. Raises what the Deferred would fail with."""

    def prune(older_than: float, limit: int) -> int:
        """See :meth:`ILedger.prune`."""

    def deliveries(
        state: DeliveryState | None, handler: str | None, limit: int
    ) -> Sequence[Delivery]:
        """See :meth:`ILedger.deliveries`."""

    def show(key: str) -> LedgerRecord | None:
        """See :meth:`ILedger.show`."""

    def count() -> Mapping[DeliveryState, int]:
        """See :meth:`ILedger.count`."""

    def lag() -> float:
        """See :meth:`ILedger.lag`."""


class ILedgerStore(Interface):
    """Where a ledger keeps its data. Every method blocks, and may be called in any thread.

    Failures of the database are :class:`oni.errors.LedgerUnavailableError`,
    :class:`oni.errors.LedgerFullError` or :class:`oni.errors.LedgerCorruptError`.
    """

    label = Attribute("What the store can promise, in a few words.")

    def open() -> Sequence[str]:
        """Make what is needed, and look whether the store can keep what is promised.

        Returns:
            Warnings, one sentence each.

        Raises:
            UnsafeLedgerError: It cannot.
        """

    def close() -> None:
        """End every connection. Owners that have not left leave."""

    def transaction(read: bool = False) -> AbstractContextManager[ILedgerTransaction]:
        """Give a transaction of its own. It is committed unless an exception leaves the block.

        Args:
            read: Whether nothing will be written. Such a one waits for no writer.
        """

    def join(connection: Any) -> ILedgerTransaction:
        """Give what takes part in somebody else's transaction, and ends it in no way."""

    def enter(owner: str) -> None:
        """Let others see that an owner lives, from now until this process dies or leaves."""

    def leave(owner: str) -> None:
        """Let an owner live no more."""

    def is_alive(owner: str) -> bool:
        """Say whether an owner lives. Where that cannot be seen: True, its lease decides."""


class IOutbox(Interface):
    """Keeps events for a ledger that is in another database than the data they tell of.

    They are put into the program's own database, in the transaction that they tell of, and share
    its fate. A relay, :class:`oni.ledger.Relay`, admits them into the ledger afterwards. Every
    method but :meth:`wake` blocks, and fails as those of :class:`ILedgerStore` do.
    """

    def open() -> Sequence[str]:
        """Make the table, or see that it is there, and look whether the database can be relied on.

        Returns:
            Warnings, one sentence each.

        Raises:
            UnsafeLedgerError: It cannot, or the table must be made by somebody else first.
        """

    def close() -> None:
        """End the connections that were made for this."""

    def put(connection: Any, events: Sequence[LedgerEvent]) -> None:
        """Keep events as a part of a transaction of the caller's, in the caller's thread.

        Args:
            connection: A connection to the program's database, of the kind that the outbox knows.
            events: What is kept; :meth:`IEventSources.ledger_events` makes them.

        Raises:
            LedgerKeyError: A key is empty, too long, or not text.
            LedgerPayloadError: A payload is too large.
            LedgerTransactionError: The connection is not one that this can be done on.
        """

    def take(limit: int) -> IOutboxBatch:
        """Read events that wait, those that were put first before the others.

        Whoever takes them ends the batch in the same thread, before it takes more.
        """

    def backlog(limit: int) -> OutboxBacklog:
        """Say how many events there are, and since when.

        Args:
            limit: Up to how many are counted.
        """

    def relayed_by(wake: Callable[[], object] | None) -> None:
        """Let :meth:`wake` wake this process' relay; None: there is none any more."""

    def wake() -> None:
        """Let the relay look soon. Call it after the commit, in any thread. It never fails.

        Where no relay is in this process nothing happens: those of others look now and then.
        """


class IOutboxBatch(Interface):
    """Some events of an outbox that are being admitted. Every method blocks."""

    size = Attribute("How many rows there are, those that cannot be read included.")

    events = Attribute("What can be read of them, a sequence of :class:`oni.values.LedgerEvent`.")

    def end(refused: Mapping[int, str]) -> Mapping[int, str]:
        """Remove what was admitted; let what can never be lie aside.

        Args:
            refused: The reasons why some of the events, by their places, were not admitted.

        Returns:
            The reasons for all that lie aside now, by the numbers of their rows.
        """

    def give_up() -> None:
        """Leave all of them as they are."""


class IModelReferences(Interface):
    """Knows the instances of one framework's models: how an event's context can name them.

    Every method may block, and is called in any thread.
    """

    name = Attribute('What stands in a reference, so that it finds its way back: ``"django"``.')

    def refer(value: Any) -> Mapping[str, Any] | None:
        """Give what names an instance: its model, primary key and database, as JSON values.

        Returns:
            None if the value is no instance of such a model.

        Raises:
            UnkeptContextError: It is one that has no primary key yet.
        """

    def load(reference: Mapping[str, Any]) -> Any:
        """Load the instance that a reference names.

        Raises:
            MissingRowError: The row, or the model, is gone.
        """


class IEventSources(Interface):
    """Turns what sources yield into events, and gives each key to every matching handler once.

    What that means exactly, and what it does not, is said in :doc:`/explanation/ledger`.
    """

    ledger = Attribute("The :class:`ILedger` that remembers keys.")

    model_sources = Attribute("The sources of each model: a mapping, by the models' classes.")

    def ledger_events(events: Iterable[Event]) -> Sequence[LedgerEvent]:
        """Say what the ledger is to take in for these events: payloads, handlers, ranks.

        Any thread may call it. It is for those who keep events somewhere else first. It changes
        nothing, but that a handler for a number of events only is for one less.

        Raises:
            LedgerKeyError: A key is empty, too long, or not text.
            UnkeptContextError: A value cannot be kept, or the whole context is too large.
        """

    def admit_within(connection: Any, events: Iterable[Event]) -> Sequence[Admission]:
        """Admit events as a part of a transaction of the caller's, in the caller's thread.

        It blocks. Once that transaction is committed, the caller calls :meth:`wake`. If it is
        rolled back, nothing was admitted.

        Args:
            connection: As for :meth:`ILedger.admit_within`.
            events: What is admitted.

        Raises:
            LedgerKeyError: A key is empty, too long, or not text.
            UnkeptContextError: A value cannot be kept.
            LargeContextError: It is one of these: the whole context is too large.
            LedgerTransactionError: The connection is not one that this can be done on.
        """

    def model_events(instance: Any) -> Sequence[Event]:
        """Give what the sources of an instance's model yield for it.

        Any thread may call it; the sources run in it.
        """

    def has_group_handlers(group: str) -> bool:
        """Say whether anybody is registered for events of this group. Any thread may call it."""

    def has_change_handlers(model: str) -> bool:
        """Say whether anybody wants to hear of this model's changes. Any thread may call it."""

    def register_change_handler(
        sender: type | str,
        handler: Callable[..., Any],
        *,
        actions: Collection[ChangeAction] = ...,
        **options: Any,
    ) -> str:
        """Register a handler for what becomes of a model's rows, after that was committed.

        It is given an event whose context has a :class:`oni.values.ModelChange` as ``"change"``.
        Any thread may call it.

        Args:
            sender: The model, or its name.
            handler: Is called with the event; may return a Deferred or an awaitable. What has
                failed is tried again.
            actions: What it is called for.
            options: How it is called and what becomes of it in bad times, as its implementers
                say; ``name`` names it in the ledger.

        Returns:
            Its name in the ledger.
        """

    def register_direct_handler(
        sender: type | str,
        handler: Callable[[ModelChange], Any],
        *,
        actions: Collection[ChangeAction] = ...,
    ) -> None:
        """Register a handler that is called by whoever has changed rows, right after the commit.

        It is called in that thread, before the commit's caller goes on, and nothing is kept of it:
        it needs no ledger, and who is not called as the process dies is not called later. What it
        raises is logged, and reaches nobody. Any thread may call this, at any time.

        Args:
            sender: The model, or its name.
            handler: Is called with the change, several times at once where several threads commit.
                It returns nothing that would have to be waited for.
            actions: What it is called for.
        """

    def hears_directly(model: str) -> bool:
        """Say whether anybody wants to be told of this model's changes by who has made them.

        These are direct handlers of the model, and receivers of the signals of
        :mod:`oni.signals.models`. Any thread may call it.
        """

    def tell_directly(committed: Iterable[Committed]) -> None:
        """Tell of changes right after their commit: direct handlers, then the models' signals.

        Any thread may call it, in no transaction of the changes' database. It never fails.
        """

    def change_events(changes: Iterable[ModelChange]) -> Sequence[Event]:
        """Give an event for each change that a change handler is registered for.

        Any thread may call it. Such an event's group is the model's name, a dot and the action,
        ``"blog.Post.modified"``; its key is new; the change is ``event["context"]["change"]``.
        """

    def wake() -> None:
        """Look for deliveries that are due, soon. Any thread may call it; it never fails."""

    def only_new_events(
        events: Iterable[Event] | Deferred[Sequence[Event]],
    ) -> Deferred[Sequence[Event]]:
        """Admit events, and give those back whose key was not known.

        Args:
            events: Events, or a Deferred that fires with them.

        Returns:
            A Deferred that fires when they are stored.
        """

    def process_events(
        events: Iterable[Event] | Deferred[Sequence[Event]],
    ) -> Deferred[Sequence[LedgerRecord]]:
        """Admit events that are not yet, and run the deliveries of all of them.

        Cancelling the Deferred ends the wait, and nothing else.

        Args:
            events: Events, or a Deferred that fires with them.

        Returns:
            A Deferred that fires when none of them runs here any more and none is due: with what
            the ledger knows of each then. Where deliveries are left to workers it fires when the
            events are admitted. In a handler it does not wait for that one's own key, nor for a
            handler that waits for it.
        """

    def start() -> Deferred[None]:
        """Open the ledger and begin to deliver, unless that is left to workers.

        Where that is under way, or done, the Deferred fires when it is done. While they are being
        stopped it waits for that, and starts them again.
        """

    def stop(timeout: float | None = None) -> Deferred[None]:
        """Claim nothing more, wait for what runs, and close the ledger.

        The second time nothing happens; before the first has ended it is refused, with
        :class:`oni.errors.NotRunningError`. A start that is under way fails with that.

        Args:
            timeout: Seconds after which what still runs is given up, or None to wait for it.

        Returns:
            A Deferred that fires with None, or fails with
            :class:`oni.errors.StopTimeoutError` where something was given up: it has failed, and
            is tried again by whoever claims it next. What was not begun is given back.
        """


class IModelEventWatcher(Interface):
    """Receives what has become of models' rows, and carries it on.

    Each method may return a value, which nobody looks at; or a Deferred or an awaitable, which is
    waited for. A failure says that it was not carried on: where the event came from a ledger, it
    is brought again.

    The arguments of each are the model's name as its framework has it (``"blog.Post"``), the row's
    primary key, and ``details``: ``"new"`` and ``"old"``, the values of the watched columns
    afterwards and before (:data:`oni.values.UNKNOWN` where nobody had loaded one), ``"changed"``,
    the names of those that differ, and ``"using"``, the database's name where there are several.
    Where a ledger brings it, ``"key"`` is the same each time that it is brought to this watcher.
    """

    def created(model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Learn of a new row."""

    def modified(model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Learn that a row has other values."""

    def deleted(model: str, id: Any, details: Mapping[str, Any]) -> Any:
        """Learn that a row is gone."""
