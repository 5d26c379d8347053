"""The acts themselves: what happens in ``during``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import ceil
from typing import Any

from oni.interfaces import IChannels
from oni.protocol import ConnectResult, ErrorCode, SubscribeResult
from oni.server._acts import Act, refusal, sealed_data, session_of
from oni.server._session import Session
from oni.server._settings import Settings
from oni.values import Position

__all__ = ["Effects"]


class Effects:
    """Does what an act says. Each looks again whether the session is still there."""

    def __init__(self, channels: IChannels, settings: Settings) -> None:
        self._channels = channels
        self._settings = settings
        self._known: dict[str, Callable[[Act], Coroutine[Any, Any, Any]]] = {
            "connect": self._connect,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "publish": self._publish,
        }

    async def carry_out(self, act: Act) -> Any:
        """Do it.

        Returns:
            What there is to tell: for ``publish`` the position. Nothing for an action that the
            server does not know: then it is the application's alone.

        Raises:
            Refused: It cannot be done any more.
        """
        effect = self._known.get(act.action)
        return None if effect is None else await effect(act)

    async def _connect(self, act: Act) -> ConnectResult:
        session = session_of(act)
        if session is None or not session.open(act.user):
            raise refusal(ErrorCode.NOT_AVAILABLE)
        server = self._settings.server
        return ConnectResult(session.client, "oni", ping=ceil(server.ping_interval), pong=True)

    async def _subscribe(self, act: Act) -> SubscribeResult:
        session = _open_session(act)
        if act.channel in session.subscriptions:
            raise refusal(ErrorCode.ALREADY_SUBSCRIBED)
        if len(session.subscriptions) >= self._settings.server.max_channels_per_connection:
            raise refusal(ErrorCode.LIMIT_EXCEEDED)
        channel = self._channels.get(act.channel)
        session.subscriptions[act.channel] = channel
        try:
            position = await channel.subscribe(None, session.carrier)
        except BaseException:
            session.subscriptions.pop(act.channel, None)
            raise
        if not session.is_open:
            await channel.unsubscribe(None, session.carrier)
            raise refusal(ErrorCode.NOT_AVAILABLE)
        return SubscribeResult(epoch=position.epoch, offset=position.offset)

    async def _unsubscribe(self, act: Act) -> None:
        session = _open_session(act)
        channel = session.subscriptions.pop(act.channel, None)
        if channel is not None:
            await channel.unsubscribe(None, session.carrier)

    async def _publish(self, act: Act) -> Position:
        info = None
        if session_of(act) is not None:
            _open_session(act)
            info = {"user": act.user, "client": act.client}
        channel = self._channels.get(act.channel)
        return await channel.publish(act.event, sealed_data(act), tags=act.tags, info=info)


def _open_session(act: Act) -> Session:
    session = session_of(act)
    if session is None or not session.is_open:
        raise refusal(ErrorCode.NOT_AVAILABLE)
    return session
