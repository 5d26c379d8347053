"""The acts themselves: what happens in ``during``, for sessions and on channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from math import ceil
from typing import Any

import msgspec
from twisted.internet.defer import DeferredSemaphore

from oni.errors import UnrecoverablePositionError
from oni.interfaces import IChannels
from oni.protocol import (
    ConnectResult,
    ErrorCode,
    History,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    RefreshResult,
    RpcResult,
    Since,
    SubRefresh,
    Subscribe,
    SubscribeResult,
    publication_result,
)
from oni.server._act_commands import PublishRequest
from oni.server._acts import Act, proof_of, proven_for, refusal, sealed_data, session_of
from oni.server._answers import Answers
from oni.server._grants import EXPIRY_GRACE, Grant
from oni.server._order_effects import OrderEffects
from oni.server._recent import RecentChannels
from oni.server._session import VERSION, Session
from oni.server._settings import Settings
from oni.server._subscriptions import Wish
from oni.server.limits import Users
from oni.values import ClientInfo, Position

__all__ = ["MAX_PUBLICATIONS", "Effects"]

#: So many publications a client gets at once, at most.
MAX_PUBLICATIONS = 300

_PLAIN = PublishRequest()


class Effects:
    """Does what an act says. Each looks again whether the session is still there.

    Args:
        channels: The channels.
        recent: Keeps those whose history is removed: their positions stay valid.
        settings: Their rules.
        answers: What the application answers.
        orders: Does what the server side wants of sessions.
        users: Counts their sessions.
        limited: Counts how often one had too many.
    """

    def __init__(
        self,
        channels: IChannels,
        recent: RecentChannels,
        settings: Settings,
        answers: Answers,
        orders: OrderEffects,
        users: Users,
        limited: Counter[str],
    ) -> None:
        self._channels = channels
        self._recent = recent
        self._settings = settings
        self._answers = answers
        self._orders = orders
        self._users = users
        self._limited = limited
        self._recoveries = DeferredSemaphore(settings.server.max_recoveries)
        self._known: dict[str, Callable[[Act], Coroutine[Any, Any, Any]]] = {
            "connect": self._connect,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "publish": self._publish,
            "history": self._history,
            "history_remove": self._history_remove,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "rpc": self._rpc,
            "send": self._send,
            "refresh": self._refresh,
            "sub_refresh": self._sub_refresh,
        }

    async def carry_out(self, act: Act) -> Any:
        """Do it.

        Returns:
            What there is to tell: for ``publish`` the position. Nothing for an action that the
            server does not know: then it is the application's alone.

        Raises:
            Refused: It cannot be done any more.
        """
        if session_of(act) is None and self._orders.knows(act):
            return await self._orders.carry_out(act)
        effect = self._known.get(act.action)
        if effect is None:
            return None
        if not _reads_history(act):
            return await effect(act)
        await self._recoveries.acquire()
        try:
            return await effect(act)
        finally:
            self._recoveries.release()

    # --- Sessions -------------------------------------------------------------------------------

    async def _connect(self, act: Act) -> ConnectResult:
        session = session_of(act)
        if session is None:
            raise refusal(ErrorCode.NOT_AVAILABLE)
        session.user, session.info, session.meta = act.user, act.grant.info, act.meta
        granted = {**dict.fromkeys(act.grant.channels, Grant()), **act.grant.subs}
        subs: dict[str, SubscribeResult] = {}
        for name, grant in granted.items() if session.is_duplex else ():
            since = _position(act.request.subs.get(name))
            subs[name] = await session.subscriptions.add(
                name, Wish(grant=grant, since=since, by_server=True)
            )
        if not self._users.enter(session.user):
            self._limited["user"] += 1
            raise refusal(ErrorCode.LIMIT_EXCEEDED)
        if not session.open():
            self._users.leave(session.user)
            raise refusal(ErrorCode.NOT_AVAILABLE)
        proof = proof_of(act)
        # Who came with no token has none to renew: it connects anew, and is asked anew.
        can_refresh = proof is None or proof.identity is None or bool(act.token)
        ttl = session.expire_in(act.grant.ttl, EXPIRY_GRACE if can_refresh else 0.0)
        return ConnectResult(
            session.client,
            VERSION,
            expires=can_refresh and ttl > 0,
            ttl=ttl if can_refresh else 0,
            data=act.grant.data,
            subs=subs,
            ping=ceil(self._settings.server.ping_interval),
            pong=True,
        )

    async def _subscribe(self, act: Act) -> SubscribeResult:
        session, command = _open_session(act), act.request
        assert isinstance(command, Subscribe)
        return await session.subscriptions.add(
            act.channel,
            Wish(
                grant=act.grant,
                since=_position(command.since),
                filter=command.filter,
                join_leave=command.join_leave,
                rejects_gap=command.rejects_gap,
            ),
        )

    async def _unsubscribe(self, act: Act) -> None:
        session = _open_session(act)
        session.subscriptions.remove(act.channel)

    async def _refresh(self, act: Act) -> RefreshResult:
        session = _open_session(act)
        ttl = session.expire_in(await self._refreshed(act))
        return RefreshResult(ttl > 0, ttl, session.client, VERSION)

    async def _sub_refresh(self, act: Act) -> RefreshResult:
        session, command = _open_session(act), act.request
        assert isinstance(command, SubRefresh)
        if act.channel not in session.subscriptions:
            raise refusal(ErrorCode.PERMISSION_DENIED)
        ttl = session.subscriptions.refresh(act.channel, await self._refreshed(act))
        return RefreshResult(ttl > 0, ttl)

    async def _refreshed(self, act: Act) -> float | None:
        """Say for how long it goes on: as a token says, and at most as the application does."""
        proof = proof_of(act)
        granted = None if proof is None else proof.grant
        if self._answers.has(act.action):
            ttls = [_ttl_of(await self._answers.ask(act))]
        elif granted is None:
            raise refusal(ErrorCode.NOT_AVAILABLE)
        else:
            ttls = []
        ttls.append(proven_for(act))
        return min((ttl for ttl in ttls if ttl is not None), default=None)

    async def _rpc(self, act: Act) -> RpcResult:
        _open_session(act)
        method = act.request.method
        if not self._answers.has("rpc", method):
            raise refusal(ErrorCode.METHOD_NOT_FOUND)
        answer = await self._answers.ask(act, method)
        return RpcResult(msgspec.Raw(msgspec.json.encode(answer)))

    async def _send(self, act: Act) -> None:
        session = _open_session(act)
        if self._answers.has("send"):
            await self._answers.ask(act)
        else:
            session.nobody_listens()

    # --- Channels -------------------------------------------------------------------------------

    async def _publish(self, act: Act) -> Position:
        info = None
        session = session_of(act)
        if session is not None:
            _open_session(act)
            info = ClientInfo(act.user, act.client, session.info)
        wanted = act.request if isinstance(act.request, PublishRequest) else _PLAIN
        data, rules = sealed_data(act), self._settings.rules_for(act.channel)
        if rules is not None and len(bytes(data)) > rules.max_publish_bytes:
            raise refusal(ErrorCode.LIMIT_EXCEEDED)
        return await self._channels.get(act.channel).publish(
            act.event,
            data,
            tags=act.tags,
            info=info,
            exclude=wanted.exclude,
            idempotency_key=wanted.idempotency_key,
        )

    async def _history(self, act: Act) -> HistoryResult:
        command = act.request
        assert isinstance(command, History)
        channel = self._channels.get(act.channel)
        limit: int | None = command.limit
        if command.limit < 0:
            limit = None
        if session_of(act) is not None:
            limit = MAX_PUBLICATIONS if limit is None else min(limit, MAX_PUBLICATIONS)
        since = _position(command.since)
        if since is not None and not since.epoch:
            # A client that does not know the epoch means the one that there is.
            since = Position((await channel.history(0)).top.epoch, since.offset)
        try:
            page = await channel.history(limit, since, command.reverse)
        except UnrecoverablePositionError as error:
            raise refusal(ErrorCode.UNRECOVERABLE_POSITION) from error
        publications = [publication_result(entry) for entry in page.entries]
        return HistoryResult(publications, page.top.epoch, page.top.offset)

    async def _history_remove(self, act: Act) -> None:
        channel = self._channels.get(act.channel)
        rules = self._settings.rules_for(act.channel)
        if rules is not None:
            self._recent.keep(channel, rules.history_ttl)
        await channel.remove_history()

    async def _presence(self, act: Act) -> PresenceResult:
        return PresenceResult(await self._channels.get(act.channel).presence())

    async def _presence_stats(self, act: Act) -> PresenceStatsResult:
        stats = await self._channels.get(act.channel).presence_stats()
        return PresenceStatsResult(stats.clients, stats.users)


def _reads_history(act: Act) -> bool:
    """Say whether an act may have to read much: so many of them take turns."""
    if act.action == "subscribe":
        return isinstance(act.request, Subscribe) and act.request.since is not None
    if act.action == "connect":
        return bool(act.grant.channels or act.grant.subs) and bool(act.request.subs)
    return act.action == "history" and act.request.limit != 0


def _open_session(act: Act) -> Session:
    session = session_of(act)
    if session is None or not session.is_open:
        raise refusal(ErrorCode.NOT_AVAILABLE)
    return session


def _position(since: Since | None) -> Position | None:
    return None if since is None else Position(since.epoch, since.offset)


def _ttl_of(answer: Any) -> float | None:
    """Take the time out of an answer to a refresh.

    Raises:
        TypeError: It is no grant.
    """
    if not isinstance(answer, Grant):
        raise TypeError(f"a refresh is answered with a Grant, not with {answer!r}")
    return answer.ttl
