"""The claims that this process holds: fired at the dispatcher, until each has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher import EventDispatcher, regex, registering
from oni.errors import AbortedPhaseError, EventAbortedError, GroupMismatchError, PoisonEventError
from oni.sources._attempt import Attempt, Tools
from oni.sources._context import KeptEvent, UnknownVersionError
from oni.sources._group_handlers import GroupHandler, GroupHandlers
from oni.sources._shield import seen
from oni.values import Claim, LedgerRecord

__all__ = ["Deliveries"]

_log = Logger()

_MOST_LEFT_ALONE = 10_000


class Deliveries:
    """Takes claims, and lets the dispatcher call their handlers.

    Everything here is called in the reactor's thread.

    Args:
        handlers: Who is registered.
        dispatcher: Where events are fired.
        tools: What attempts need.
        ended: Is called after each one.
    """

    def __init__(
        self,
        handlers: GroupHandlers,
        dispatcher: EventDispatcher,
        tools: Tools,
        ended: Callable[[], object],
    ) -> None:
        self._handlers = handlers
        self._dispatcher = dispatcher
        self._tools = tools
        self._ended = ended
        self._attempts: dict[tuple[str, str], Attempt] = {}
        self._by_handler: Counter[str] = Counter()
        self._by_key: dict[str, list[Attempt]] = {}
        self._attached: dict[GroupHandler, int] = {}
        self._seen: object = None
        self._is_closing = False
        self._left_alone: set[tuple[str, str]] = set()
        # What is being fired, by the event's identity: it lives as long as it is in here.
        self._firing: dict[int, tuple[KeptEvent, dict[str, Attempt]]] = {}

    # --- What is here

    def __len__(self) -> int:
        """Count the claims."""
        return len(self._attempts)

    def idle(self, names: Iterable[str]) -> list[str]:
        """Give those handlers of which nothing is under way."""
        return [name for name in names if not self._by_handler[name]]

    def of_keys(self, keys: Collection[str]) -> list[Attempt]:
        """Give what is under way of some keys."""
        return [attempt for key in keys for attempt in self._by_key.get(key, ())]

    def all(self) -> list[Attempt]:
        """Give everything that is under way."""
        return list(self._attempts.values())

    # --- The end

    def close(self) -> None:
        """Begin nothing more: what has not begun is given back."""
        self._is_closing = True
        for attempt in self.all():
            if attempt.started and not attempt.begun:
                attempt.cancel()

    def give_up(self) -> None:
        """Give up what runs."""
        for attempt in self.all():
            attempt.cancel()

    def all_ended(self) -> Deferred[Any]:
        """Wait until nothing is under way."""
        return gatherResults([seen(attempt.ended) for attempt in self.all()])

    # --- Taking

    def take(self, claims: Sequence[Claim]) -> int:
        """Take claims, and begin.

        Returns:
            How many may come to anything: not those that a newer program left, and that were
            taken and given back before.
        """
        by_key: dict[str, list[Attempt]] = {}
        old = 0
        for claim in claims:
            handler = self._handlers.by_name.get(claim.handler)
            if handler is None:  # it was unregistered while the claim was on its way
                self._release(claim)
                continue
            attempt = Attempt(self._tools, handler, claim)
            self._add(attempt)
            by_key.setdefault(claim.key, []).append(attempt)
            old += (claim.handler, claim.key) in self._left_alone
        self._tools.counted["claimed"] += len(claims)
        for attempts in by_key.values():
            Deferred.fromCoroutine(self._deliver(attempts)).addErrback(self._lost, attempts)
        return len(claims) - old

    def _add(self, attempt: Attempt) -> None:
        name, key = attempt.handler.name, attempt.claim.key
        self._attempts[name, key] = attempt
        self._by_handler[name] += 1
        self._by_key.setdefault(key, []).append(attempt)
        attempt.ended.addCallback(lambda _: self._forget(attempt))

    def _forget(self, attempt: Attempt) -> None:
        name, key = attempt.handler.name, attempt.claim.key
        if self._attempts.get((name, key)) is attempt:
            del self._attempts[name, key]
        self._by_handler[name] -= 1
        if not self._by_handler[name]:
            del self._by_handler[name]
        self._by_key[key].remove(attempt)
        if not self._by_key[key]:
            del self._by_key[key]
        if not attempt.left_alone:  # it would be claimed again at once
            self._ended()

    def _lost(self, failure: Failure, attempts: Sequence[Attempt]) -> None:
        _log.failure("Deliveries could not be run", failure=failure)
        for attempt in attempts:
            if not attempt.started:
                attempt.turn_away(RuntimeError(failure.getErrorMessage()), permanent=False)

    # --- Firing

    async def _deliver(self, attempts: Sequence[Attempt]) -> None:
        """Fire one key's event for those handlers whose deliveries were claimed."""
        claim = attempts[0].claim
        try:
            kept = self._tools.contexts.read(claim.key, claim.group, claim.payload)
        except UnknownVersionError:
            self._leave_alone(attempts)
            return
        except PoisonEventError as error:
            for attempt in attempts:
                attempt.turn_away(error, permanent=True)
            return
        if self._handlers.aborts:
            attempts = await self._allowed(attempts)
        if self._is_closing:
            for attempt in attempts:
                attempt.give_back()
        elif attempts:
            await self._fire(kept, attempts)

    async def _allowed(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Give those that no phase before theirs has aborted, and fail the others for good."""
        key = attempts[0].claim.key
        ledger = self._tools.ledger
        record: LedgerRecord | None = await self._tools.outage.insist(lambda: ledger.show(key))
        if record is None:  # it is being closed
            for attempt in attempts:
                attempt.give_back()
            return []
        allowed = []
        for attempt in attempts:
            error = self._abortion(record, attempt)
            if error is None:
                allowed.append(attempt)
            else:
                attempt.turn_away(error, permanent=True)
        return allowed

    def _abortion(self, record: LedgerRecord, attempt: Attempt) -> AbortedPhaseError | None:
        phase = self._handlers.phase_of(attempt.claim.delivery)
        if phase is not None and phase.always:
            return None
        for before in record.deliveries:
            if before.rank >= attempt.claim.delivery.rank:
                continue
            phase = self._handlers.phase_of(before)
            if before.state in ("dead", "uncertain") and phase and phase.on_error == "abort":
                return AbortedPhaseError(phase.name, before.handler, before.state)
        return None

    async def _fire(self, kept: KeptEvent, attempts: Sequence[Attempt]) -> None:
        self._attach()
        event = kept.event
        by_name = {attempt.handler.name: attempt for attempt in attempts}
        self._firing[id(event)] = (kept, by_name)
        try:
            await self._dispatcher.fire_event(event, group=event.group, key=event.key)
        except EventAbortedError as error:
            for failure in error.failures:  # the dispatcher leaves them to whoever fires
                _log.failure("A handler failed in phase {phase}", failure, phase=error.phase)
        except CancelledError:
            pass  # the dispatcher has been stopped, and its time was over
        finally:
            del self._firing[id(event)]
        for attempt in attempts:
            if not attempt.started:
                self._not_called(attempt)

    def _not_called(self, attempt: Attempt) -> None:
        is_registered = self._handlers.by_name.get(attempt.handler.name) is attempt.handler
        if is_registered and self._dispatcher.state == "started":
            group = attempt.claim.group
            error = GroupMismatchError(
                attempt.handler.name, attempt.handler.pattern.pattern, group
            )
            attempt.turn_away(error, permanent=attempt.handler.on_crash == "park")
        else:
            attempt.give_back()

    def _called(self, name: str, event: Any) -> Deferred[Any] | None:
        """Run a handler, if this process holds the claim for it and the event."""
        kept, by_name = self._firing.get(id(event), (None, {}))
        attempt = by_name.get(name)
        if kept is None or attempt is None:
            return None
        return attempt.start(kept)

    def _attach(self) -> None:
        """Let the dispatcher know the handlers that are registered now, and no others."""
        by_name = self._handlers.by_name
        if by_name is self._seen:
            return
        self._seen = by_name
        wanted = set(by_name.values())
        for handler in [each for each in self._attached if each not in wanted]:
            self._dispatcher.remove_event_handler(self._attached.pop(handler))
        for handler in by_name.values():
            if handler not in self._attached:
                self._attached[handler] = self._attach_one(handler)

    def _attach_one(self, handler: GroupHandler) -> int:
        call = _GroupHandlerCall(handler.name, self._called)
        with registering(strongly=True, at=handler.at):
            added = self._dispatcher.add_event_handler(
                call, handler.phase, group=regex(handler.pattern)
            )
        ids: list[int] = []
        added.addCallback(ids.append)
        return ids[0]

    # --- What comes to nothing here

    def _release(self, claim: Claim) -> None:
        ledger = self._tools.ledger
        self._tools.counted["released"] += 1
        telling = self._tools.outage.insist(lambda: ledger.release([claim]))
        Deferred.fromCoroutine(telling).addErrback(_log_release)

    def _leave_alone(self, attempts: Sequence[Attempt]) -> None:
        if len(self._left_alone) > _MOST_LEFT_ALONE:
            self._left_alone.clear()
        for attempt in attempts:
            name = (attempt.handler.name, attempt.claim.key)
            if name not in self._left_alone:
                self._left_alone.add(name)
                _log.warn(
                    "{key} was written by a newer version of this program and is left to it",
                    key=attempt.claim.key,
                )
            attempt.left_alone = True
            attempt.give_back()


class _GroupHandlerCall:
    """A group handler as the dispatcher calls it."""

    def __init__(self, name: str, call: Callable[[str, Any], Deferred[Any] | None]) -> None:
        self.__qualname__ = name
        self._name = name
        self._call = call

    def __call__(self, event: Any) -> Deferred[Any] | None:
        """Let it run."""
        return self._call(self._name, event)


def _log_release(failure: Failure) -> None:
    _log.failure("A claim could not be given back", failure=failure)
