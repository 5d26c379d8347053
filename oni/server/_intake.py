"""What a session's client asks for: in order, so much at a time, each with its answer."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni._pace import Pace
from oni.errors import BadRequestError, Refused
from oni.protocol import (
    CloseCode,
    Command,
    Connect,
    ErrorCode,
    NotAvailable,
    NotFound,
    Ping,
    Pong,
    Rpc,
    RpcResult,
    Send,
    encode_error,
    encode_reply,
)
from oni.server._act_commands import ActCommand, act_of
from oni.server._acts import Act, Reply, UnprovenError, bad_request, refusal, reply_to
from oni.server._settings import Settings
from oni.server.metrics import Tally
from oni.values import Position

if TYPE_CHECKING:
    from oni.server._performer import Performer
    from oni.server._session import Session

__all__ = ["MAX_ACTS", "MAX_COMMANDS", "Intake"]

_log = Logger()

#: With so many acts running, or commands waiting, a session stops reading.
MAX_ACTS = 16

#: So many commands may wait: those that had arrived when reading stopped.
MAX_COMMANDS = 1024

_TOKEN_EXPIRED = ErrorCode.TOKEN_EXPIRED.code


class Intake:
    """Takes the commands of one session, makes acts of them and sends the answers.

    While the session connects, further commands wait, and while too many acts run; with many
    waiting, nothing is read, and with too many the client is disconnected.

    Args:
        session: Whose commands.
        performer: Lets acts happen.
        settings: The limits.
        pace: How fast commands may come.
        tally: Counts what happens.
    """

    __slots__ = (
        "_is_early",
        "_is_reading_paused",
        "_pace",
        "_paid_at",
        "_performer",
        "_pump_call",
        "_running",
        "_session",
        "_settings",
        "_tally",
        "_waiting",
    )

    def __init__(
        self,
        session: Session,
        performer: Performer,
        settings: Settings,
        pace: Pace,
        tally: Tally,
    ) -> None:
        self._session = session
        self._performer = performer
        self._settings = settings
        self._pace = pace
        self._tally = tally
        self._paid_at = 0.0
        self._is_early = False  # it has sent too much, some time ago perhaps
        self._running: dict[Reply, float] = {}  # each with the time of its beginning
        self._waiting: list[Command] = []  # mostly empty: a deque would take ten times as much
        self._pump_call: IDelayedCall | None = None
        self._is_reading_paused = False

    @property
    def is_busy(self) -> bool:
        """Whether an act runs."""
        return bool(self._running)

    @property
    def is_reading_paused(self) -> bool:
        """Whether nothing is read, because too much is going on."""
        return self._is_reading_paused

    # --- Commands -------------------------------------------------------------------------------

    def complain(self, error: BadRequestError) -> None:
        """Answer what is wrong with a command; without an id there is nobody to answer."""
        session = self._session
        _log.debug("session {client}: bad request: {error}", client=session.client, error=error)
        if error.command_id and session.state != "new":
            self._refuse(error.command_id, bad_request(error), "unknown")
        else:
            session.close(CloseCode.BAD_REQUEST)

    def take(self, command: Command) -> None:
        """Do what a command says, now or when its turn comes."""
        session = self._session
        if isinstance(command, Pong):
            return
        if (session.state == "new") is not isinstance(command, Connect):
            session.close(CloseCode.BAD_REQUEST)
        elif isinstance(command, Connect):
            session.state = "connecting"
            self._start(act_of(command, session, self._settings), command)
        elif (
            session.state == "connecting"
            or self._waiting
            or len(self._running) >= MAX_ACTS
            or self._too_early() > 0
        ):
            self._waiting.append(command)
            if len(self._waiting) > MAX_COMMANDS:
                session.close(CloseCode.TOO_MANY_REQUESTS)
            self._regulate()
        else:
            self._do(command)

    def stop(self) -> None:
        """Take nothing more, and cancel what runs: the session is closing."""
        self._waiting.clear()
        if self._pump_call is not None:
            self._pump_call.cancel()
            self._pump_call = None
        for reply in reversed(tuple(self._running)):
            reply.cancel()  # the newest first, so that none gets a turn that is cancelled anyway

    def perform(self, act: Act) -> Deferred[Any]:
        """Let an act happen as an event of its own, also where a handler caused it."""
        return Context().run(self._performer.perform, act)

    def _do(self, command: Command) -> None:
        if isinstance(command, Ping):
            self._session.carrier.send(encode_reply(command.id, "ping"))
        elif isinstance(command, NotAvailable):
            self._refuse(command.id, refusal(ErrorCode.NOT_AVAILABLE), "unknown")
        elif isinstance(command, NotFound):
            self._refuse(command.id, refusal(ErrorCode.METHOD_NOT_FOUND), "unknown")
        elif not isinstance(command, Pong):
            try:
                act = act_of(command, self._session, self._settings)
            except BadRequestError as error:
                self.complain(error)
            else:
                self._start(act, command)

    def _pump_in(self, seconds: float) -> None:
        if self._pump_call is None:
            self._pump_call = self._session.clock.callLater(seconds, self._pump)

    def _pump(self) -> None:
        self._pump_call = None
        if self._too_early() > 0:
            self._regulate()
            return
        while self._waiting and self._session.is_open and len(self._running) < MAX_ACTS:
            self._do(self._waiting.pop(0))
        self._regulate()

    # --- Acts -----------------------------------------------------------------------------------

    def _start(self, act: Act, command: ActCommand) -> None:
        command_id = 0 if isinstance(command, Send) else command.id
        # Some rpcs are other acts to the server; the client still waits for an rpc's answer.
        method = "rpc" if isinstance(command, Rpc) else act.action
        reply = reply_to(act)
        self._running[reply] = self._session.clock.seconds()
        self._tally.commands[method] += 1
        self.perform(act).addBoth(self._ended, reply, command_id, method, act.channel)
        self._regulate()

    def _ended(
        self, result: Any, reply: Reply, command_id: int, method: str, channel: str
    ) -> None:
        """Answer, and go on with what waits."""
        try:
            if isinstance(result, Failure):
                self._answer_refusal(result, command_id, method, channel)
            else:
                self._answer(result, command_id, method, channel)
        except Exception:  # noqa: BLE001 - whatever it is, the session goes on
            _log.failure("no reply could be sent")
        session = self._session
        began = self._running.pop(reply, None)
        if began is not None:
            self._tally.seconds.observe(session.clock.seconds() - began)
        if session.state == "closing":
            # Later: handlers in `after` hear of the act's end before they hear of the client's.
            session.clock.callLater(0, session.finish)
            return
        if self._waiting:
            # Later: here we may be inside a handler, and what it fires would be nested.
            self._pump_in(0)
        self._regulate()

    def _answer(self, result: Any, command_id: int, method: str, channel: str) -> None:
        session = self._session
        if not session.is_open or not command_id:
            return
        if method == "rpc" and isinstance(result, Position):
            result = RpcResult({"offset": result.offset, "epoch": result.epoch})
        told = result if isinstance(result, msgspec.Struct) else None
        session.carrier.send(encode_reply(command_id, method, told))
        if method == "subscribe":
            self._tally.subscribed(result)
            session.subscriptions.begin(channel)
        elif method == "connect":
            for name in session.subscriptions:
                session.subscriptions.begin(name)

    def _answer_refusal(
        self, failure: Failure, command_id: int, method: str, channel: str
    ) -> None:
        failure.trap(Refused, CancelledError)
        session = self._session
        if session.state in ("closing", "closed") or not isinstance(failure.value, Refused):
            return
        if isinstance(failure.value, UnprovenError):
            if method == "refresh":
                # Told of an error, clients would give up, also where another token would do.
                session.close(_close_for(failure.value))
                return
            if method == "sub_refresh" and failure.value.code == _TOKEN_EXPIRED:
                # First: so the client subscribes again, with another token.
                session.sub_expired(channel)
        if command_id and session.state not in ("closing", "closed"):
            self._refuse(command_id, failure.value, method)
        if method == "connect":
            session.close(_close_for(failure.value))

    def _refuse(self, command_id: int, error: Refused, method: str) -> None:
        self._tally.errors[method, str(error.code)] += 1
        told = encode_error(command_id, error.code, error.message, error.temporary)
        self._session.carrier.send(told)

    # --- How much -------------------------------------------------------------------------------

    def _regulate(self) -> None:
        """Stop reading while too much is going on, and go on when that is done."""
        early = self._too_early()
        busy = early > 0 or len(self._running) >= MAX_ACTS or len(self._waiting) >= MAX_ACTS
        if not (busy or self._is_reading_paused):
            return
        session = self._session
        if session.state in ("closing", "closed"):
            return
        if early > 0:
            self._pump_in(early)
        if busy and not self._is_reading_paused:
            self._is_reading_paused = True
            if early > 0:
                self._tally.limited["commands"] += 1
            session.carrier.pause_reading()
        elif self._is_reading_paused and not busy and not self._waiting:
            self._is_reading_paused = False
            session.was_read()  # what it sent meanwhile could not be heard
            session.carrier.resume_reading()

    def is_flooded(self) -> bool:
        """Count a command. Say whether it is one that cannot even wait."""
        pace, now = self._pace, self._session.clock.seconds()
        self._paid_at = pace.spend(self._paid_at, now)
        early = pace.wait(self._paid_at, now)
        self._is_early = early > 0
        return early * pace.rate > MAX_COMMANDS

    def all_taken(self) -> None:
        """Stop reading where what came was too much."""
        if self._is_early:
            self._regulate()

    def _too_early(self) -> float:
        """Say by how many seconds the last command came too early; 0 or below: it did not."""
        if not self._is_early:
            return 0.0
        early = self._pace.wait(self._paid_at, self._session.clock.seconds())
        self._is_early = early > 0
        return early


def _close_for(error: Refused) -> CloseCode:
    """Choose how to close after a refused connect: the code says whether to come back."""
    if error.code == ErrorCode.UNAUTHORIZED.code:
        return CloseCode.INVALID_TOKEN
    if error.code == _TOKEN_EXPIRED:
        return CloseCode.EXPIRED
    if error.code == ErrorCode.LIMIT_EXCEEDED.code:
        return CloseCode.CONNECTION_LIMIT
    return CloseCode.CLOSED if error.temporary else CloseCode.PERMISSION_DENIED
