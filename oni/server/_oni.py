"""The server's core, as an application sees it: dispatcher, channels, sessions and acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Any
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.component import getGlobalSiteManager

from oni.channels import Channels, backend_for
from oni.dispatcher import EventDispatcher
from oni.interfaces import IChannels, IEventSources
from oni.listeners import new_dispatcher
from oni.protocol import CloseCode, History
from oni.server._acts import DEFAULT_EVENT, Act
from oni.server._answers import Answers
from oni.server._effects import Effects
from oni.server._listeners import switch_on
from oni.server._order_effects import OrderEffects
from oni.server._orders import FORCED, Farewell, Order, check_farewell
from oni.server._passes import Passes
from oni.server._performer import Performer
from oni.server._recent import RecentChannels
from oni.server._session import Connection, Session
from oni.server._settings import Settings
from oni.server._timers import SessionTimers
from oni.server._watchers import let_watchers_hear
from oni.server.auth._authentication import Authentication
from oni.server.auth._keys import keys_of
from oni.server.auth._tokens import Tokens
from oni.server.limits import Users
from oni.server.metrics import Tally
from oni.server.running import Condition
from oni.server.sources._making import make_sources_service
from oni.values import Position

__all__ = ["Oni"]

_log = Logger()
_HURRY = 0.1  # seconds that handlers still get when a stop is hurried
_OF_SESSIONS = frozenset(("connect", "rpc", "send", "sub_refresh"))
_OF_ORDERS = frozenset(("subscribe", "unsubscribe", "disconnect", "refresh"))


class Oni:
    """What ``configure(oni)`` receives.

    Attributes:
        settings: What was set.
        dispatcher: Every act is an event of it; an application adds its handlers here.
        channels: The process's channels.
        sources: The process's event sources; None where the settings name no ledger.
        sources_service: Opens and closes them; None, too.
        resources: Where events of resources are fired, see :class:`oni.listeners.ResourceEvents`.
        listeners: Those that the settings name.
        sessions: The sessions that have not ended, by client id.
        node: Names this server, as long as it runs.
        passes: Lets the console in.
        tally: What its sessions count.
        condition: Whether it is ready.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any = None,
        *,
        channels: IChannels | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        """Build everything; nothing runs yet.

        Args:
            settings: What is allowed, and the limits.
            reactor: The clock; the global reactor if None.
            channels: The channels; if None, those of the process: where there are none yet, they
                are made as the settings describe.
            now: Gives the time by which tokens expire, in seconds since 1970.

        Raises:
            SettingsError: A key for tokens cannot be had, or a listener's settings are wrong.
            LedgerUrlError: There is no such ledger.
            MissingExtraError: What the ledger or a listener needs is not installed.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.settings = settings
        self.channels: IChannels = (
            _process_channels(settings, reactor) if channels is None else channels
        )
        self.sessions: dict[str, Session] = {}
        self.dispatcher = EventDispatcher(
            allowed_match_spec_keywords=settings.dispatcher.keywords,
            phases=settings.dispatcher.phases,
            order_by=settings.dispatcher.order_by,
            reactor=reactor,
        )
        self._reactor: IReactorTime = reactor
        self._stopping = False
        self.node = str(uuid4())
        self.passes = Passes(self._reactor.seconds)
        self.tally = Tally()
        self.condition = Condition(self.channels)
        self._answers = Answers()
        self._recent = RecentChannels(self._reactor)
        self._timers = SessionTimers(self._reactor, settings.server)
        self.sources_service = make_sources_service(settings, reactor)
        self.sources: IEventSources | None = None
        if self.sources_service is not None:
            self.sources = self.sources_service.sources
            self.condition.ledger = self.sources_service.health
        self.resources = new_dispatcher()
        self.listeners = switch_on(settings, self.resources, self.sources, self.channels)
        let_watchers_hear(settings, self.sources)
        self._orders = OrderEffects(self.sessions, self.channels, self.node, self._reactor.seconds)
        self._users = Users(settings.server.max_connections_per_user)
        effects = Effects(
            self.channels,
            self._recent,
            settings,
            self._answers,
            self._orders,
            self._users,
            self.tally.limited,
        )
        tokens = Tokens(settings.auth, keys_of(settings.auth, settings.folder), now)
        self._authentication = Authentication(settings, tokens)
        self._performer = Performer(
            self.dispatcher, effects, settings, self.passes, self._authentication
        )

    def start(self) -> Deferred[None]:
        """Begin to let acts happen.

        Returns:
            A Deferred that fires when the channels' backend works, too.
        """
        self._stopping = False
        self.condition.began()
        self.dispatcher.start()
        self._orders.start()
        return self.channels.start().addCallback(lambda _: self.condition.started())

    def turn_away(self) -> None:
        """Send away who comes from now on, and be ready no more. Who is there may stay."""
        self._stopping = True
        self.condition.drains()

    def stop(self) -> Deferred[None]:
        """Close every session, and wait until no handler runs any more.

        Returns:
            A Deferred that fires when everything is quiet. Cancelling it cancels what still runs.
        """
        self.turn_away()
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
        self._recent.clear()
        await self.channels.stop()
        self.condition.stopped()

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
        request: Any = None,
        **details: Any,
    ) -> Deferred[Any]:
        """Let something happen that comes from no session. It goes through all phases.

        Args:
            action: ``publish``, ``history``, ``history_remove``, ``presence``,
                ``presence_stats``, ``channels``, ``info``, or a name of the application's own,
                which only its handlers know.
            channel: Where.
            event: The event's name; ``message`` for a publish without one.
            data: JSON.
            tags: Short strings that travel beside the data.
            user: On whose behalf.
            client: On behalf of which session; it need not exist.
            request: What else is wanted, as the action needs it: for ``history`` a
                :class:`oni.protocol.History`, for ``subscribe``, ``unsubscribe``, ``disconnect``
                and ``refresh`` an :class:`oni.server.Order`.
            details: Values for the keywords that the settings add.

        Returns:
            A Deferred that fires when it has happened: for ``publish`` with the position. It
            fails with :class:`oni.errors.Refused`. Cancelling it cancels the act.

        Raises:
            ValueError: The action belongs to sessions, or needs an order.
        """
        if action in _OF_SESSIONS:
            raise ValueError(f"only a client's own session can {action}")
        if action in _OF_ORDERS and not isinstance(request, Order):
            raise ValueError(f"{action} needs an order, as oni.{action} makes one")
        if action == "history" and not isinstance(request, History):
            raise ValueError("history needs a History, which says how much")
        if action == "publish" and not event:
            event = DEFAULT_EVENT
        act = Act(
            action,
            channel=channel,
            event=event,
            data=data,
            tags=tags,
            user=user,
            client=client,
            request=request,
        )
        return self._performer.perform(act, **details)

    def subscribe(
        self,
        user: str,
        channel: str,
        *,
        client: str = "",
        data: Any = None,
        info: Any = None,
        since: Position | None = None,
    ) -> Deferred[None]:
        """Subscribe a user's open sessions to a channel, on every node.

        It is an act ``subscribe`` without a session; the settings' permissions do not bind it.

        Args:
            user: Whose sessions.
            channel: The channel.
            client: Only this session.
            data: What the client is told with it, JSON.
            info: What others may know about it, JSON.
            since: Where the client stands: what came after is delivered, if it is all there.

        Returns:
            A Deferred that fires when it is done here, and the other nodes are told. It fails
            with :class:`oni.errors.Refused`.
        """
        order = Order(user=user, client=client, info=info, since=since)
        return self.act("subscribe", channel=channel, data=data, request=order)

    def unsubscribe(self, user: str, channel: str, *, client: str = "") -> Deferred[None]:
        """Unsubscribe a user's sessions from a channel, on every node.

        They do not subscribe again.

        Args:
            user: Whose sessions.
            channel: The channel.
            client: Only this session.

        Returns:
            A Deferred that fires when it is done here, and the other nodes are told. It fails
            with :class:`oni.errors.Refused`.
        """
        return self.act("unsubscribe", channel=channel, request=Order(user=user, client=client))

    def disconnect(
        self,
        user: str,
        *,
        client: str = "",
        keep: Sequence[str] = (),
        farewell: Farewell = FORCED,
    ) -> Deferred[None]:
        """Close a user's connections, on every node.

        Args:
            user: Whose sessions.
            client: Only this session.
            keep: Sessions that stay, by client id.
            farewell: Code and reason of the close; the code says whether the client comes back.

        Returns:
            A Deferred that fires when it is done here, and the other nodes are told. It fails
            with :class:`oni.errors.Refused`.

        Raises:
            ValueError: The farewell cannot be sent.
        """
        order = Order(user=user, client=client, keep=keep, farewell=check_farewell(farewell))
        return self.act("disconnect", request=order)

    def refresh(
        self, user: str, *, client: str = "", ttl: float | None = None, expired: bool = False
    ) -> Deferred[None]:
        """Say for how long a user's sessions go on, on every node.

        Args:
            user: Whose sessions.
            client: Only this session.
            ttl: For so many seconds; None for ever.
            expired: No longer: they are closed as expired.

        Returns:
            A Deferred that fires when it is done here, and the other nodes are told. It fails
            with :class:`oni.errors.Refused`.
        """
        order = Order(user=user, client=client, ttl=ttl, expired=expired)
        return self.act("refresh", request=order)

    def answer(self, action: str, answer: Callable[[Act], Any], method: str = "") -> None:
        """Let a function answer what only an application can know.

        Args:
            action: ``rpc``: the function's value is the answer, JSON. ``send``: a message that
                gets no answer. ``refresh`` and ``sub_refresh``: the function returns a
                :class:`oni.server.Grant`, whose ``ttl`` counts.
            answer: Is called in ``during`` with the act. It returns a value, a Deferred or a
                coroutine, or raises :class:`oni.errors.Refused`.
            method: For ``rpc``: which one. It is the act's ``event``, too.

        Raises:
            ValueError: There is no such action or method to answer, or it is answered already.
            TypeError: The answer cannot be called.
        """
        self._answers.add(action, answer, method)

    def authenticate(self, function: Callable[[Act], Any]) -> None:
        """Let a function say who a client is that connects, by whatever proof it likes.

        It is asked before the act is fired, so that handlers are matched by the user that it
        names; functions are asked in the order in which they are given here, and tokens are
        looked at when none has an answer.

        Args:
            function: Is called with the act of a ``connect``, which has ``token``, ``data``,
                ``request`` and ``handshake``; and with that of a ``refresh``, which has a token.
                It gives an :class:`oni.server.Identity`, None if it does not know the client, a
                Deferred or a coroutine of these, or raises :class:`oni.errors.Refused`.

        Raises:
            TypeError: It cannot be called.
        """
        self._authentication.add(function)

    def open_session(self, carrier: Connection, is_duplex: bool = True) -> Session:
        """Begin the session of a connection that was made just now.

        Args:
            carrier: The connection.
            is_duplex: Whether its client hears all that it is told, and can answer.
        """
        session = Session(
            carrier,
            self._performer,
            self.channels,
            self._recent,
            self.settings,
            self._timers,
            self._forget_session,
            is_duplex,
            self.tally,
        )
        if self._authentication.asks:
            session.handshake = getattr(carrier, "handshake", None)
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
        if session.was_opened:
            self._users.leave(session.user)
        self.sessions.pop(session.client, None)


def _process_channels(settings: Settings, reactor: Any) -> IChannels:
    """Give the process's channels: one object for one name, whoever asks for it."""
    registry = getGlobalSiteManager()
    found: IChannels | None = registry.queryUtility(IChannels)
    if found is not None:
        _log.warn(
            "there are channels in this process already; what the settings say in [channels] "
            "about history and rings does not hold for them. Ask for channels in configure, not "
            "when a module is imported"
        )
        return found
    made = Channels(
        backend_for(settings.backend.url, reactor),
        options=settings.stream_of,
        ring_bytes=settings.backend.ring_bytes,
        reactor=reactor,
    )
    registry.registerUtility(made, IChannels)
    return made
