"""Every public exception of Oni. All of them are an :class:`OniError`.

Each one also inherits the built-in that its caller would catch, states a fact, and carries the
parts of that fact as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from oni._text import few

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from oni.values import EventResult, PendingEvent

__all__ = [
    "AbortedPhaseError",
    "AlreadySubscribedError",
    "BackendError",
    "BackendUrlError",
    "BadRequestError",
    "BulkChangeError",
    "CallTimeoutError",
    "CascadeError",
    "ChangeRoundsError",
    "ChannelBackendError",
    "ChannelNameError",
    "DeliveryStateError",
    "DispatcherStateError",
    "DispatcherStoppedError",
    "DuplicatePhaseError",
    "EventAbortedError",
    "EventCycleError",
    "EventNameError",
    "EventNestingError",
    "EventWaitTimeoutError",
    "ForkedProcessError",
    "FrameTooLargeError",
    "GroupHandlerNameError",
    "GroupMismatchError",
    "HandlerTimeoutError",
    "InvalidHandlerError",
    "InvalidHandlingError",
    "InvalidKeywordError",
    "InvalidMatchSpecError",
    "InvalidPhaseError",
    "InvalidSourceError",
    "InvalidTimeoutError",
    "InvalidTimesError",
    "KeywordInUseError",
    "LargeContextError",
    "LedgerBusyError",
    "LedgerCorruptError",
    "LedgerFullError",
    "LedgerKeyError",
    "LedgerPayloadError",
    "LedgerTransactionError",
    "LedgerUnavailableError",
    "LedgerUrlError",
    "ListenError",
    "MissingExtraError",
    "MissingRowError",
    "NoDispatcherError",
    "NotNowError",
    "NotRunningError",
    "OniError",
    "OtherThreadError",
    "PhaseInUseError",
    "PoisonEventError",
    "QueueFullError",
    "ReactorThreadError",
    "ReadOnlyActError",
    "Refused",
    "SettingsError",
    "StaleClaimError",
    "StopTimeoutError",
    "TransactionOverError",
    "UnhashableDetailError",
    "UnkeptContextError",
    "UnknownDeliveryError",
    "UnknownGroupHandlerError",
    "UnknownHandlerError",
    "UnknownKeywordError",
    "UnknownPhaseError",
    "UnreadableMessageError",
    "UnrecoverablePositionError",
    "UnsafeLedgerError",
    "UnsendableError",
    "WatcherNameError",
    "WatchError",
    "WatchersFailedError",
    "WrongReactorError",
    "WrongThreadError",
    "ZcmlError",
]


class OniError(Exception):
    """The root of every error that Oni raises on purpose."""


# --- What is wrong with a registration or a fire ---------------------------------------------


class InvalidKeywordError(OniError, ValueError):
    """A match spec keyword that no dispatcher may have: reserved, or not an identifier.

    Attributes:
        keyword: The offending keyword.
    """

    def __init__(self, keyword: object, reason: str) -> None:
        super().__init__(f"{keyword!r} cannot be a match spec keyword: {reason}")
        self.keyword = keyword


class UnknownKeywordError(OniError, ValueError):
    """Match spec or details name keywords that the dispatcher does not allow.

    Attributes:
        keywords: The unknown ones, sorted.
        allowed: The allowed ones, in the dispatcher's order.
    """

    def __init__(self, keywords: Iterable[str], allowed: Iterable[str]) -> None:
        self.keywords = tuple(sorted(keywords))
        self.allowed = tuple(allowed)
        unknown = ", ".join(map(repr, self.keywords))
        known = ", ".join(map(repr, self.allowed)) or "none"
        super().__init__(f"unknown match spec keyword {unknown}; allowed: {known}")


class KeywordInUseError(OniError, ValueError):
    """A match spec keyword cannot be removed while it is used.

    Attributes:
        keyword: The keyword.
        handler_ids: The handlers whose match spec names it.
    """

    def __init__(self, keyword: str, users: str, handler_ids: Sequence[int] = ()) -> None:
        super().__init__(f"match spec keyword {keyword!r} is still used by {users}")
        self.keyword = keyword
        self.handler_ids = tuple(handler_ids)


class InvalidMatchSpecError(OniError, ValueError):
    """A match spec holds a value that no handler can be found by.

    Attributes:
        keyword: The keyword whose value is refused.
    """

    def __init__(self, keyword: str, reason: str) -> None:
        super().__init__(f"match spec value of {keyword!r}: {reason}")
        self.keyword = keyword


class UnhashableDetailError(OniError, TypeError):
    """A detail that ``order_by`` names has an unhashable value, so it has no place in an order.

    Attributes:
        keyword: The detail's name.
    """

    def __init__(self, keyword: str, value: object) -> None:
        super().__init__(
            f"detail {keyword!r} is a {type(value).__name__}, which is unhashable; "
            f"events are ordered by it (order_by), so it must be hashable"
        )
        self.keyword = keyword


class UnknownPhaseError(OniError, ValueError):
    """There is no phase of this name.

    Attributes:
        phase: The name that was asked for.
        phases: The names that exist, in order.
    """

    def __init__(self, phase: object, phases: Iterable[str]) -> None:
        self.phase = phase
        self.phases = tuple(phases)
        super().__init__(f"unknown phase {phase!r}; phases: {', '.join(map(repr, self.phases))}")


class InvalidPhaseError(OniError, ValueError):
    """A phase is neither a name nor a proper :class:`oni.values.Phase`."""


class DuplicatePhaseError(OniError, ValueError):
    """Two phases have one name.

    Attributes:
        phase: The name.
    """

    def __init__(self, phase: str) -> None:
        super().__init__(f"there is already a phase {phase!r}")
        self.phase = phase


class PhaseInUseError(OniError, ValueError):
    """A phase cannot be removed while handlers are registered in it.

    Attributes:
        phase: The name.
        handler_ids: The handlers in it.
    """

    def __init__(self, phase: str, users: str, handler_ids: Sequence[int]) -> None:
        super().__init__(f"phase {phase!r} is still used by {users}")
        self.phase = phase
        self.handler_ids = tuple(handler_ids)


class InvalidHandlerError(OniError, TypeError):
    """A handler cannot be called, can never run, or cannot be held weakly.

    Attributes:
        handler: What was given.
    """

    def __init__(self, handler: object, reason: str) -> None:
        super().__init__(f"{handler!r} cannot be an event handler: {reason}")
        self.handler = handler


class InvalidTimesError(OniError, ValueError):
    """``times`` is not a positive integer.

    Attributes:
        times: What was given.
    """

    def __init__(self, times: object) -> None:
        super().__init__(f"times must be a positive integer or None, not {times!r}")
        self.times = times


class InvalidTimeoutError(OniError, ValueError):
    """A time limit is not a positive number of seconds.

    Attributes:
        name: The argument's name.
        value: What was given.
    """

    def __init__(self, name: str, value: object) -> None:
        super().__init__(f"{name} must be a positive number of seconds or None, not {value!r}")
        self.name = name
        self.value = value


class UnknownHandlerError(OniError, LookupError):
    """No handler is registered under this id (it may have removed itself, or been removed).

    Attributes:
        handler_id: The id that was asked for.
    """

    def __init__(self, handler_id: object) -> None:
        super().__init__(f"no handler is registered under id {handler_id!r}")
        self.handler_id = handler_id


# --- What can happen to an event ---------------------------------------------------------------


class EventAbortedError(OniError):
    """A handler failed in a phase whose ``on_error`` is ``"abort"``: later phases were skipped.

    Its cause is what the first handler that failed in that phase has raised.

    Attributes:
        event: The event.
        phase: The phase that ended it.
        failures: Every failure of the event so far, as ``Failure``, in call order.
        result: The whole :class:`oni.values.EventResult`, ``always`` phases included.
    """

    def __init__(self, phase: str, failures: Sequence[Failure], result: EventResult) -> None:
        reasons = "; ".join(f"{type(f.value).__name__}: {f.getErrorMessage()}" for f in failures)
        super().__init__(f"the event was aborted in phase {phase!r}: {reasons}")
        self.event = result.event
        self.phase = phase
        self.failures = tuple(failures)
        self.result = result
        self.__cause__ = next(
            (o.value.value for o in result if o.failed and o.phase == phase), None
        )


class HandlerTimeoutError(OniError, TimeoutError):
    """A handler took longer than its own or its phase's time limit, and was cancelled.

    Attributes:
        handler: The handler's description.
        phase: The phase's name.
        seconds: The time limit.
    """

    def __init__(self, handler: str, phase: str, seconds: float) -> None:
        super().__init__(f"{handler} in phase {phase!r} did not end within {seconds:g} s")
        self.handler = handler
        self.phase = phase
        self.seconds = seconds


class EventCycleError(OniError, RuntimeError):
    """A queued event could never start: what must end before it waits for the event itself.

    Attributes:
        event: The queued event, the newest of the cycle.
        chain: What waits for what, in words, from this event round to itself.
    """

    def __init__(self, event: object, chain: Sequence[str]) -> None:
        super().__init__(
            "the event waits for itself: " + ", which waits for ".join(chain) + ". "
            "Fire it without waiting, or inside the handler's own call (a coroutine handler, or "
            "`with dispatcher.inside(event):` around the fire), so that it is nested"
        )
        self.event = event
        self.chain = tuple(chain)


class EventNestingError(OniError, RecursionError):
    """An event was fired inside too many others: most likely its handlers fire what they hear.

    Attributes:
        event: The event that was not dispatched.
        limit: How many events may be one in another.
    """

    def __init__(self, event: object, limit: int) -> None:
        super().__init__(
            f"a {type(event).__name__} was fired inside {limit} events, one in the other, which "
            f"is the limit: does a handler fire what it hears?"
        )
        self.event = event
        self.limit = limit


class EventWaitTimeoutError(OniError, TimeoutError):
    """A queued event did not get its turn within ``max_wait`` seconds, and was taken out.

    Attributes:
        event: The event.
        seconds: The limit.
    """

    def __init__(self, event: object, seconds: float) -> None:
        super().__init__(f"the event waited {seconds:g} s for its turn and was given up")
        self.event = event
        self.seconds = seconds


class QueueFullError(OniError, RuntimeError):
    """A bounded queue is full; what was offered was not taken.

    Attributes:
        queue: What the queue holds.
        limit: Its bound.
    """

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(f"{queue}: {limit} are waiting, which is the limit")
        self.queue = queue
        self.limit = limit


# --- Life cycle and threads --------------------------------------------------------------------


class DispatcherStateError(OniError, RuntimeError):
    """The dispatcher is in a state that does not allow this call.

    Attributes:
        state: The state's name.
    """

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(f"the dispatcher is {state}: {reason}")
        self.state = state


class DispatcherStoppedError(OniError, RuntimeError):
    """The dispatcher stopped before what was waited for could happen."""


class StopTimeoutError(OniError, TimeoutError):
    """``stop`` gave its handlers up: they did not end within the time limit.

    Attributes:
        seconds: The limit.
        hung: The events that were cancelled, as :class:`oni.values.PendingEvent`.
    """

    def __init__(self, seconds: float, hung: Sequence[PendingEvent]) -> None:
        names = few("; ", (f"{type(each.event).__name__} ({each.standing})" for each in hung))
        super().__init__(f"{len(hung)} event(s) did not end within {seconds:g} s: {names}")
        self.seconds = seconds
        self.hung = tuple(hung)


class WrongReactorError(OniError, RuntimeError):
    """A part lives on an asyncio loop, and Twisted's reactor does not.

    Attributes:
        part: What cannot work so.
        reactor: The name of the reactor that is installed, None if there is none yet.
    """

    def __init__(self, part: str, reactor: str | None) -> None:
        there = "no reactor is installed yet" if reactor is None else f"the reactor is {reactor}"
        super().__init__(
            f"{part} lives on an asyncio loop and needs Twisted's asyncio reactor, but {there}. "
            f"Start with `twistd --reactor=asyncio`, or call "
            f"twisted.internet.asyncioreactor.install() before anything imports the reactor"
        )
        self.part = part
        self.reactor = reactor


class WrongThreadError(OniError, RuntimeError):
    """A dispatcher was called while one of its events is active in another thread."""

    def __init__(self) -> None:
        super().__init__(
            "an event of this dispatcher is active in another thread; several threads go "
            "through oni.blocking.BlockingEventDispatcher"
        )


class ReactorThreadError(OniError, RuntimeError):
    """A blocking call was made on the reactor's own thread, where it would wait for ever."""


class CallTimeoutError(OniError, TimeoutError):
    """A blocking call had no answer within its time limit, and was cancelled.

    Attributes:
        call: The name of the method that was called.
        seconds: The limit.
    """

    def __init__(self, call: str, seconds: float) -> None:
        super().__init__(f"{call}() had no answer within {seconds:g} s and was cancelled")
        self.call = call
        self.seconds = seconds


class NotRunningError(OniError, RuntimeError):
    """A blocking call was made before the reactor runs."""


class ForkedProcessError(OniError, RuntimeError):
    """A process was forked off after the reactor's thread was started, which stayed behind."""


# --- The component registry --------------------------------------------------------------------


class NoDispatcherError(OniError, LookupError):
    """No event dispatcher is registered under a name.

    Attributes:
        name: The name that was asked for.
        names: The names under which there is one, sorted.
    """

    def __init__(self, name: str, names: Iterable[str]) -> None:
        self.name = name
        self.names = tuple(sorted(names))
        known = ", ".join(map(repr, self.names)) or "none"
        super().__init__(
            f"no event dispatcher is registered under the name {name!r}; registered: {known}. "
            f"Register one with oni.zca.provide(dispatcher, name={name!r}) or in ZCML"
        )


class ZcmlError(OniError, ValueError):
    """A ZCML file cannot be loaded. The text names file, line and cause.

    Attributes:
        path: The file that was to be loaded; the cause may be in one that it includes.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


# --- Channels, protocol, server ----------------------------------------------------------------


class Refused(OniError):  # noqa: N818 - the design's name: a handler's verdict, not a fault
    """Raised by a ``before`` handler of the server to refuse an act; the client is told.

    Attributes:
        code: The error code that the client gets. 100 to 399 are the protocol's, 400 to 1999 are
            the application's.
        message: The text that the client gets.
        temporary: Whether the client may try the same again.
    """

    def __init__(self, code: int, message: str, temporary: bool = False) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.temporary = temporary

    def __str__(self) -> str:
        """Say code and message."""
        return f"refused with {self.code}: {self.message}"


class BadRequestError(OniError, ValueError):
    """Bytes from outside are not a command of the protocol.

    Attributes:
        field: The path of the wrong field, or ``""``.
        command_id: The id of the command it belongs to, 0 when unknown.
    """

    def __init__(self, reason: str, field: str = "", command_id: int = 0) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.command_id = command_id


class FrameTooLargeError(OniError, ValueError):
    """A frame or body is longer than its limit.

    Attributes:
        limit: The limit in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"larger than {limit} bytes")
        self.limit = limit


class ChannelBackendError(OniError, ValueError):
    """A channel was asked for in one place, and is kept in another.

    Attributes:
        channel: The channel's name.
    """

    def __init__(self, channel: str, wanted: str, backend: object) -> None:
        super().__init__(
            f"channel {channel!r} cannot be {wanted}: this process keeps its channels in "
            f"{type(backend).__name__}; oni.channels.get gives it from there"
        )
        self.channel = channel


class ChannelNameError(OniError, ValueError):
    """A channel name is empty, too long, or has characters that no name may have.

    Attributes:
        name: What was given.
    """

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"channel name {name!r}: {reason}")
        self.name = name


class AlreadySubscribedError(OniError, ValueError):
    """A carrier is subscribed to a channel already.

    Attributes:
        channel: The channel's name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(f"the carrier is subscribed to channel {channel!r} already")
        self.channel = channel


class UnrecoverablePositionError(OniError, LookupError):
    """A position is not one of this life of a channel's stream.

    Attributes:
        channel: The channel's name.
    """

    def __init__(self, channel: str, epoch: str) -> None:
        super().__init__(f"channel {channel!r} is in another life now than epoch {epoch!r}")
        self.channel = channel


class BackendError(OniError, ConnectionError):
    """A backend did not do what it was asked for, or it is unknown whether it did."""


class BackendUrlError(OniError, ValueError):
    """No backend is known by a URL.

    Attributes:
        url: What was given.
    """

    def __init__(self, url: str, known: Iterable[str]) -> None:
        schemes = ", ".join(f"{scheme}:" for scheme in sorted(known))
        super().__init__(f"no backend for {url!r}; known are {schemes}")
        self.url = url


class ListenError(OniError, OSError):
    """The daemon cannot listen where its settings say.

    Attributes:
        listen: The endpoint descriptions.
    """

    def __init__(self, listen: Sequence[str], cause: object) -> None:
        super().__init__(
            f"{cause} Is another process using the port? The settings say "
            f"server.listen = {list(listen)}"
        )
        self.listen = tuple(listen)


class ReadOnlyActError(OniError, AttributeError):
    """A handler tried to change what it may not change of an act, or not any more.

    Attributes:
        attribute: What it tried to set.
    """

    def __init__(self, attribute: str) -> None:
        super().__init__(
            f"{attribute!r} of an act cannot be set: handlers may set data, tags and event, in "
            f"the phases up to 'before'; who and where never change"
        )
        self.attribute = attribute


class EventNameError(OniError, ValueError):
    """An event name is empty, too long, or has characters that no name may have.

    Attributes:
        name: What was given.
    """

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"event name {name!r}: {reason}")
        self.name = name


# --- What a ledger refuses, and what may happen to it -----------------------------------------


class LedgerKeyError(OniError, ValueError):
    """A key, or a part of one, is empty, too long, or not what a key can be made of.

    Attributes:
        key: What was given.
    """

    def __init__(self, key: object, reason: str) -> None:
        text = repr(key)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        super().__init__(f"{shown} cannot be a key of the ledger: {reason}")
        self.key = key


class LedgerPayloadError(OniError, ValueError):
    """An event's payload is too large for a ledger.

    Attributes:
        key: The event's key.
        size: How many bytes it has.
        limit: How many it may have.
    """

    def __init__(self, key: str, size: int, limit: int) -> None:
        super().__init__(f"the payload of {key!r} has {size} bytes; at most {limit} are kept")
        self.key = key
        self.size = size
        self.limit = limit


class InvalidHandlingError(OniError, ValueError):
    """A handling says what cannot be: an unknown ``on_crash``, or no attempt at all.

    Attributes:
        handler: The handler's name.
    """

    def __init__(self, handler: str, reason: str) -> None:
        super().__init__(f"handling by {handler!r}: {reason}")
        self.handler = handler


class StaleClaimError(OniError, RuntimeError):
    """A delivery was taken from its owner, who was thought to be dead, or it has ended.

    What the owner wrote in the same transaction is rolled back.

    Attributes:
        handler: The handler's name.
        key: The event's key.
        token: The token of the claim that does not hold any more.
    """

    def __init__(self, handler: str, key: str, token: int) -> None:
        super().__init__(
            f"claim {token} of handler {handler!r} on {key!r} does not hold any more: the "
            f"delivery was taken away from its owner, or has ended"
        )
        self.handler = handler
        self.key = key
        self.token = token


class DeliveryStateError(OniError, ValueError):
    """Something is asked of a delivery that cannot happen in its state.

    Attributes:
        handler: The handler's name.
        key: The event's key.
        state: The delivery's state.
    """

    def __init__(self, handler: str, key: str, state: str, wish: str) -> None:
        super().__init__(f"handler {handler!r} on {key!r} is {state}, and cannot be {wish}")
        self.handler = handler
        self.key = key
        self.state = state


class UnknownDeliveryError(OniError, LookupError):
    """A ledger has no delivery of this key to this handler.

    Attributes:
        handler: The handler's name.
        key: The event's key.
    """

    def __init__(self, handler: str, key: str) -> None:
        super().__init__(f"the ledger knows no delivery of {key!r} to handler {handler!r}")
        self.handler = handler
        self.key = key


class LedgerTransactionError(OniError, RuntimeError):
    """A transaction is not one that a ledger can take part in, or was ended by another hand."""


class LedgerBusyError(OniError, RuntimeError):
    """More calls wait for a ledger's database than are allowed to.

    Attributes:
        limit: How many may wait.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} calls wait for the ledger's database; no more may")
        self.limit = limit


class LedgerUnavailableError(OniError, ConnectionError):
    """A ledger's database does not answer, or is locked by somebody.

    It is unknown whether the call took effect. Calling again is safe.
    """


class LedgerFullError(OniError, OSError):
    """There is no room for a ledger's data. Nothing was changed; it works again when there is."""


class LedgerCorruptError(OniError, RuntimeError):
    """A ledger's data is damaged. It was left as it is."""


class LedgerUrlError(OniError, ValueError):
    """A ledger's address is none that is known.

    Attributes:
        url: The address, without a password.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url!r} is no address of a ledger: {reason}")
        self.url = url


class UnsafeLedgerError(OniError, RuntimeError):
    """A ledger's database cannot keep what a ledger promises, as it is set up.

    Attributes:
        problems: What is wrong and what to do, one sentence or two each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(
            "the ledger's database cannot keep what is promised:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
        self.problems = tuple(problems)


# --- What is wrong with an event of a source ---------------------------------------------------


class UnkeptContextError(OniError, ValueError):
    """An event's context has a value that cannot be kept.

    Attributes:
        key: The event's key.
        field: Where the value stands: ``"context.user.photo"``.
        reason: Why.
    """

    def __init__(self, key: str, field: str, reason: str) -> None:
        super().__init__(f"{field} of the event {key!r} cannot be kept: {reason}")
        self.key = key
        self.field = field
        self.reason = reason


class LargeContextError(UnkeptContextError):
    """An event's context is larger than what is kept of one; its largest field is named."""


class PoisonEventError(OniError, ValueError):
    """What a ledger keeps of an event is no event. Its bytes stay in the ledger as they are.

    Attributes:
        key: The event's key.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"what is kept of the event {key!r} cannot be read: {reason}")
        self.key = key


class GroupHandlerNameError(OniError, ValueError):
    """A group handler's name cannot be one, or another has it already.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} cannot be a group handler's name: {reason}")
        self.name = name


class UnknownGroupHandlerError(OniError, LookupError):
    """No group handler is registered under a name.

    Attributes:
        name: The name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"no group handler is registered under the name {name!r}")
        self.name = name


class GroupMismatchError(OniError, LookupError):
    """An event was admitted for a handler that is not for its group any more, as it is now.

    Attributes:
        name: The handler's name.
        pattern: What it is registered for.
        group: The event's group.
    """

    def __init__(self, name: str, pattern: str, group: str) -> None:
        super().__init__(
            f"the group handler {name!r} is registered for {pattern!r} by now, in which the "
            f"event's group {group!r} does not fit"
        )
        self.name = name
        self.pattern = pattern
        self.group = group


class InvalidSourceError(OniError, TypeError):
    """A source cannot be one, or yields what is no event.

    Attributes:
        source: What was given.
    """

    def __init__(self, source: object, reason: str) -> None:
        super().__init__(f"{source!r} cannot be a source of events: {reason}")
        self.source = source


class AbortedPhaseError(OniError, RuntimeError):
    """A handler is not given an event, as one before it failed for good in a phase that aborts.

    Attributes:
        phase: The phase.
        handler: Who failed.
    """

    def __init__(self, phase: str, handler: str, state: str) -> None:
        super().__init__(f"phase {phase!r} aborts the event: its handler {handler!r} is {state}")
        self.phase = phase
        self.handler = handler


class BulkChangeError(OniError, RuntimeError):
    """A statement would change rows of a watched model without anybody being told which.

    Attributes:
        model: The model's name.
        operation: What was called: ``"update"``.
    """

    def __init__(self, model: str, operation: str, reason: str = "") -> None:
        why = reason or "it changes rows without loading them"
        super().__init__(
            f"{operation} of {model}, which is watched: {why}. Save the instances one by one, or "
            f"watch the model with bulk='coarse' (one event that says how many) or bulk='expand' "
            f"(an event for each row)"
        )
        self.model = model
        self.operation = operation


class WatchError(OniError, ValueError):
    """Sessions or models cannot be watched as is asked for."""


class ChangeRoundsError(OniError, RuntimeError):
    """Those who are asked before a commit go on changing what they are asked about.

    Attributes:
        rounds: How often they were asked.
        names: What they are called.
    """

    def __init__(self, rounds: int, names: Sequence[str]) -> None:
        super().__init__(
            f"after {rounds} rounds there still are new changes before the commit; one of these "
            f"makes them each time it is asked: {', '.join(names)}"
        )
        self.rounds = rounds
        self.names = tuple(names)


class MissingRowError(OniError, LookupError):
    """A row that an event's context names is gone.

    Attributes:
        model: The model's name.
        id: The row's primary key.
    """

    def __init__(self, model: str, id: object, reason: str = "the row is gone") -> None:
        super().__init__(f"{model} {id!r} cannot be loaded: {reason}")
        self.model = model
        self.id = id


class NotNowError(OniError, RuntimeError):
    """What a handler needs is away just now: a server, most likely.

    A group handler that fails with it is tried again like any other, and nothing is logged for
    that: whoever raises it says once that it begins, and once that it is over.

    Attributes:
        what: What is away.
        reason: Why.
        after: Seconds after which it is to be tried again; None: more after each attempt.
    """

    def __init__(self, what: str, reason: str, after: float | None = None) -> None:
        super().__init__(f"{what} cannot be used now: {reason}")
        self.what = what
        self.reason = reason
        self.after = after


# --- What is wrong with listeners ---------------------------------------------------------------


class CascadeError(OniError, RuntimeError):
    """Subscribers to a transaction's events cause new ones again and again.

    Attributes:
        rounds: How often they were told.
        resources: The names of the resources that they still change.
    """

    def __init__(self, rounds: int, resources: Sequence[str]) -> None:
        super().__init__(
            f"after {rounds} rounds subscribers still change {', '.join(resources)}: one of them "
            "changes what it is told of"
        )
        self.rounds = rounds
        self.resources = tuple(resources)


class TransactionOverError(OniError, RuntimeError):
    """What becomes of records was said too late: their transaction is over, or being committed."""

    def __init__(self) -> None:
        super().__init__(
            "the transaction is over, or being committed: say what becomes of records before that"
        )


class OtherThreadError(OniError, RuntimeError):
    """What becomes of records was said in a thread that has not the request's transaction."""

    def __init__(self) -> None:
        super().__init__(
            "the request's transaction is another thread's: say what becomes of records in the "
            "thread that handles the request"
        )


# --- What is wrong with watchers ----------------------------------------------------------------


class WatchersFailedError(OniError):
    """Some of several watchers or handlers have failed with one change.

    Attributes:
        failures: What went wrong, a :class:`twisted.python.failure.Failure` each.
    """

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__(
            f"{len(failures)} failed: "
            + few("; ", (failure.getErrorMessage() for failure in failures))
        )
        self.failures = tuple(failures)


class UnsendableError(OniError, TypeError):
    """A model's change has a value that no message can carry.

    Attributes:
        model: The model's name.
        field: Where the value stands: ``"details.new.photo"``.
        reason: Why.
    """

    def __init__(self, model: str, field: str, reason: str) -> None:
        super().__init__(f"{field} of a change of {model} cannot be sent: {reason}")
        self.model = model
        self.field = field
        self.reason = reason


class UnreadableMessageError(OniError, ValueError):
    """A message that came to a worker says nothing about a model."""


class WatcherNameError(OniError, LookupError):
    """Settings name no watcher for a process, or one that cannot be found.

    Attributes:
        name: The process's name, or the watcher's dotted name.
        known: The processes' names that the settings know.
    """

    def __init__(self, name: str, reason: str, known: Iterable[str] = ()) -> None:
        super().__init__(f"{name!r}: {reason}")
        self.name = name
        self.known = tuple(known)


# --- What is wrong with the set-up --------------------------------------------------------------


def _without_middle(problem: str) -> str:
    return problem if len(problem) <= 1000 else f"{problem[:600]} ... {problem[-395:]}"


class SettingsError(OniError, ValueError):
    """Settings are wrong. All that is wrong is said at once.

    Attributes:
        problems: One line each, beginning with the path of the setting; a line of more than
            1,000 characters, as a very long name makes it, without its middle.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(map(_without_middle, problems))
        super().__init__("the settings are wrong:\n" + "\n".join(f"  {p}" for p in self.problems))


class MissingExtraError(OniError, ImportError):
    """A part was asked for whose optional dependency is not installed.

    Attributes:
        extra: The extra to install.
    """

    def __init__(self, part: str, extra: str, cause: Any = None) -> None:
        super().__init__(f"{part} needs: pip install 'oni-dispatcher[{extra}]' ({cause})")
        self.extra = extra
