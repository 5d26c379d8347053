"""Fires acts at the server's dispatcher, and answers them.

The answer does not wait for the event's end: it is given in ``during`` as soon as the act is
done, or at the beginning of ``after`` when it was refused before. So a handler in ``after``
holds up nobody.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.dispatcher import EventDispatcher
from oni.errors import EventAbortedError, QueueFullError, Refused
from oni.protocol import ErrorCode
from oni.server._acts import Act, refusal, reply_to, seal, session_of
from oni.server._checks import check_act
from oni.server._effects import Effects
from oni.server._passes import Passes
from oni.server._settings import Settings
from oni.server.auth._authentication import PROVEN, Authentication
from oni.values import EventResult

__all__ = ["Performer"]

_log = Logger()


class Performer:
    """The server's own handlers, the first ones of their phases."""

    def __init__(
        self,
        dispatcher: EventDispatcher,
        effects: Effects,
        settings: Settings,
        passes: Passes,
        authentication: Authentication,
    ) -> None:
        """Register the handlers, before anybody else can.

        Args:
            dispatcher: The server's dispatcher.
            effects: What acts do.
            settings: What they may do.
            passes: Who may do more.
            authentication: Says who acts.
        """
        self._dispatcher = dispatcher
        self._effects = effects
        self._settings = settings
        self._passes = passes
        self._authentication = authentication
        for handler, phase in (
            (self._check, "before"),
            (self._carry_out, "during"),
            (self._settle, "after"),
        ):
            dispatcher.add_event_handler(handler, phase, use_weakref=False)

    def perform(self, act: Act, /, **details: Any) -> Deferred[Any]:
        """Let an act happen.

        Args:
            act: The act.
            details: What it is matched by besides its own details.

        Returns:
            A Deferred that fires with the act's result as soon as it has happened. It fails with
            :class:`oni.errors.Refused`: the verdict of a handler, or a code of the protocol for
            what went wrong, of which the details are only in the log.
        """
        reply = reply_to(act)
        proving = None
        if act.action in PROVEN and session_of(act) is not None:
            proving = self._authentication.prove(act)
        if proving is None:
            self._fire(act, details)
        else:
            self._fire_when(proving, act, details)
        return reply.deferred

    def _fire_when(self, proving: Deferred[None], act: Act, details: dict[str, Any]) -> None:
        """Fire an act as soon as it is known who acts, as an event of its own."""
        reply = reply_to(act)
        reply.cancel_act = proving.cancel
        context = copy_context()  # whoever says who it is may do so inside another event
        proving.addCallback(lambda _: context.run(self._fire, act, details))
        proving.addErrback(lambda failure: reply.fail(failure.value))

    def _fire(self, act: Act, details: dict[str, Any]) -> None:
        reply = reply_to(act)
        fired = self._dispatcher.fire_event(act, **act.details, **details)
        if fired.called and isinstance(fired.result, EventResult):
            self._over(fired.result, act)  # as most do, it had nothing to wait for
            return
        reply.cancel_act = fired.cancel
        fired.addBoth(self._over, act)

    # --- The handlers -------------------------------------------------------------------------

    def _check(self, act: Any) -> None:
        if isinstance(act, Act) and not self._passes.admits(act):
            check_act(act, self._settings)

    async def _carry_out(self, act: Any) -> None:
        if not isinstance(act, Act):
            return
        try:
            seal(act)
            result = await self._effects.carry_out(act)
        except Refused as verdict:
            reply_to(act).fail(verdict)
        except Exception as error:
            reply_to(act).fail(error)
            raise
        else:
            reply_to(act).succeed(result)

    def _settle(self, act: Any) -> None:
        """Answer an act that was refused before it could happen."""
        if not isinstance(act, Act) or reply_to(act).given:
            return
        failures = self._dispatcher.result_so_far().failures
        if failures:
            error = _verdict(failures)
            _log.debug("{act} was refused: {error}", act=act, error=error)
            reply_to(act).fail(error)

    # --- The end of the event -----------------------------------------------------------------

    def _over(self, result: EventResult | Failure, act: Act) -> None:
        try:
            if isinstance(result, Failure):
                self._failed(result, act)
            else:
                self._ended(result, act)
        except Exception:  # noqa: BLE001 - there is nobody above who could do more
            _log.failure("an act ended badly")

    def _ended(self, result: EventResult, act: Act) -> None:
        if not result.dispatched:
            reply_to(act).fail(refusal(ErrorCode.NOT_AVAILABLE))
        else:
            reply_to(act).fail(None)  # every act is answered, whoever removed our handlers

    def _failed(self, failure: Failure, act: Act) -> None:
        error = failure.value
        if isinstance(error, EventAbortedError):
            self._log_faults(act, error.result)
            reply_to(act).fail(_verdict(error.failures))
        elif isinstance(error, CancelledError):
            reply_to(act).fail(error)
        elif isinstance(error, QueueFullError):
            _log.warn("{act} was refused: {error}", act=act, error=error)
            reply_to(act).fail(refusal(ErrorCode.TOO_MANY_REQUESTS))
        else:
            _log.failure("{act} could not be fired", failure, act=act)
            reply_to(act).fail(error)

    def _log_faults(self, act: Act, result: EventResult) -> None:
        """Log what was no verdict: the client is not told what went wrong."""
        faults = [o for o in result if o.failed and not o.value.check(Refused, CancelledError)]
        if faults:
            names = {info.handler_id: info.handler for info in self._dispatcher.handlers()}
        for outcome in faults:
            _log.failure(
                "{act}: {handler} failed in phase {phase}",
                outcome.value,
                act=act,
                handler=names.get(outcome.handler_id, "a handler"),
                phase=outcome.phase,
            )


def _verdict(failures: Any) -> BaseException | None:
    """Choose what the client is told: a refusal rather than an error, the first of them."""
    errors = [failure.value for failure in failures]
    refusals = [error for error in errors if isinstance(error, Refused)]
    return (refusals or errors)[0]
