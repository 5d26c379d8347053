"""The server's core, as an application sees it: dispatcher, channels, sessions and acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from oni.channels import process_channels
from oni.dispatcher import EventDispatcher
from oni.interfaces import IChannels
from oni.protocol import CloseCode
from oni.server._acts import DEFAULT_EVENT, Act
from oni.server._effects import Effects
from oni.server._performer import Performer
from oni.server._session import Connection, Session
from oni.server._settings import Settings

__all__ = ["Oni"]

_log = Logger()
_HURRY = 0.1  # seconds that handlers still get when a stop is hurried
_OF_SESSIONS = frozenset(("connect", "subscribe", "unsubscribe", "disconnect"))


class Oni:
    """What ``configure(oni)`` receives.

    Attributes:
        settings: What was set.
        dispatcher: Every act is an event of it; an application adds its handlers here.
        channels: The process's channels.
        sessions: The sessions that have not ended, by client id.
    """

    def __init__(
        self, settings: Settings, reactor: Any = None, *, channels: IChannels | None = None
    ) -> None:
        """Build everything; nothing runs yet.

        Args:
            settings: What is allowed, and the limits.
            reactor: The clock; the global reactor if None.
            channels: The channels; those of the process if None.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self.channels: IChannels = process_channels() if channels is None else channels
        self.sessions: dict[str, Session] = {}
        self.dispatcher = EventDispatcher(
            allowed_match_spec_keywords=settings.dispatcher.keywords,
            phases=settings.dispatcher.phases,
            order_by=settings.dispatcher.order_by,
            reactor=reactor,
        )
        self._reactor: IReactorTime = reactor
        self._stopping = False
        self._performer = Performer(self.dispatcher, Effects(self.channels, settings), settings)

    def start(self) -> Deferred[None]:
        """Begin to let acts happen.

        Returns:
            A Deferred that has fired.
        """
        self._stopping = False
        self.dispatcher.start()
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Close every session, and wait until no handler runs any more.

        Returns:
            A Deferred that fires when everything is quiet. Cancelling it cancels what still runs.
        """
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        closed = [session.when_closed() for session in self.sessions.values()]
        for session in tuple(self.sessions.values()):
            session.close(CloseCode.SHUTDOWN)
        limit = None
        try:
            await gatherResults(closed)
        except CancelledError:
            _log.warn("{count} sessions are given up", count=len(self.sessions))
            limit = _HURRY
        await self._stop_dispatcher(limit)

    async def _stop_dispatcher(self, limit: float | None) -> None:
        try:
            await self.dispatcher.stop(limit)
        except CancelledError:
            await self.dispatcher.stop(_HURRY)

    def act(
        self,
        action: str,
        *,
        channel: str = "",
        event: str = "",
        data: Any = None,
        tags: Mapping[str, str] | None = None,
        user: str = "",
        client: str = "",
        **details: Any,
    ) -> Deferred[Any]:
        """Let something happen that comes from no session. It goes through all phases.

        Args:
            action: ``publish``, or a name of the application's own, which only its handlers know.
            channel: Where.
            event: The event's name; ``message`` for a publish without one.
            data: JSON.
            tags: Short strings that travel beside the data.
            user: On whose behalf.
            client: On behalf of which session; it need not exist.
            details: Values for the keywords that the settings add.

        Returns:
            A Deferred that fires when it has happened: for ``publish`` with the position. It
            fails with :class:`oni.errors.Refused`. Cancelling it cancels the act.

        Raises:
            ValueError: The action belongs to sessions.
        """
        if action in _OF_SESSIONS:
            raise ValueError(f"only a client's own session can {action}")
        if action == "publish" and not event:
            event = DEFAULT_EVENT
        act = Act(
            action, channel=channel, event=event, data=data, tags=tags, user=user, client=client
        )
        return self._performer.perform(act, **details)

    def open_session(self, carrier: Connection) -> Session:
        """Begin the session of a connection that was made just now."""
        session = Session(
            carrier, self._performer, self.settings, self._reactor, self._forget_session
        )
        self.sessions[session.client] = session
        if self._stopping:
            session.close(CloseCode.SHUTDOWN)
        return session

    def statistics(self) -> Mapping[str, int]:
        """Give the gauge ``sessions``, and the numbers of channels and dispatcher."""
        return {
            "sessions": len(self.sessions),
            **self.channels.statistics(),
            **self.dispatcher.statistics(),
        }

    def _forget_session(self, session: Session) -> None:
        self.sessions.pop(session.client, None)
