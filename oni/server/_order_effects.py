"""What the server side does to sessions, and what it asks of the whole server."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from msgspec import Raw
from twisted.logger import Logger

from oni import __version__
from oni.errors import Refused
from oni.interfaces import IChannels
from oni.protocol import (
    CloseCode,
    ErrorCode,
    UnsubscribeCode,
    encode_publication_of,
    encode_refresh,
    encode_subscribe,
    encode_unsubscribe,
)
from oni.server._acts import Act, refusal, sealed_data
from oni.server._grants import Grant
from oni.server._order_relay import OrderRelay
from oni.server._orders import Order, sessions_of
from oni.server._session import Session
from oni.server._subscriptions import Wish

__all__ = ["OrderEffects"]

_log = Logger()


class OrderEffects:
    """Does what comes from no session: from the application, or from the HTTP API.

    Args:
        sessions: All sessions, by client id.
        channels: All channels, and the way to the other nodes.
        node: Names this server.
        seconds: Gives the time.
    """

    def __init__(
        self,
        sessions: Mapping[str, Session],
        channels: IChannels,
        node: str,
        seconds: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._all_channels = channels
        self._node = node
        self._seconds = seconds
        self._began = seconds()
        self._orders: dict[str, Callable[[str, Order, Raw], Coroutine[Any, Any, None]]] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "disconnect": self._disconnect,
            "refresh": self._refresh,
        }
        self._questions: dict[str, Callable[[Act], Coroutine[Any, Any, Any]]] = {
            "channels": self._channels,
            "info": self._info,
        }
        self._relay = OrderRelay(channels, node, self._obey)

    def start(self) -> None:
        """Obey the other nodes, too, until the channels are stopped."""
        self._relay.start()

    def knows(self, act: Act) -> bool:
        """Say whether an act that comes from no session is an order."""
        return act.action in self._orders or act.action in self._questions

    async def carry_out(self, act: Act) -> Any:
        """Do it, here and on the other nodes; give what there is to tell."""
        if act.action in self._questions:
            return await self._questions[act.action](act)
        order, data = _order_of(act), sealed_data(act)
        await self._obey(act.action, act.channel, order, data)
        await self._relay.tell(act.action, act.channel, order, data)
        return None

    async def _obey(self, action: str, channel: str, order: Order, data: Raw) -> None:
        await self._orders[action](channel, order, data)

    async def _subscribe(self, channel: str, order: Order, data: Raw) -> None:
        grant = Grant(info=order.info, data=data)
        for session in sessions_of(order, self._sessions.values()):
            if channel in session.subscriptions or not session.is_duplex:
                continue
            wish = Wish(grant=grant, since=order.since, by_server=True)
            try:
                result = await session.subscriptions.add(channel, wish)
            except Refused as error:
                _log.debug("{session}: {error}", session=session, error=error)
                continue
            session.carrier.send(encode_subscribe(channel, result))
            for publication in result.publications:
                session.carrier.send(encode_publication_of(channel, publication))
            session.subscriptions.begin(channel)

    async def _unsubscribe(self, channel: str, order: Order, data: Raw) -> None:
        code = UnsubscribeCode.SERVER
        for session in sessions_of(order, self._sessions.values()):
            if session.subscriptions.remove(channel) is not None:
                session.carrier.send(encode_unsubscribe(channel, code.code, code.reason))

    async def _disconnect(self, channel: str, order: Order, data: Raw) -> None:
        for session in sessions_of(order, self._sessions.values()):
            session.close(order.farewell)

    async def _refresh(self, channel: str, order: Order, data: Raw) -> None:
        for session in sessions_of(order, self._sessions.values()):
            if order.expired:
                session.close(CloseCode.EXPIRED)
            else:
                ttl = session.expire_in(order.ttl)
                session.carrier.send(encode_refresh(ttl or None))

    async def _channels(self, act: Act) -> dict[str, Any]:
        pattern = msgspec.json.decode(sealed_data(act)) or "*"
        matches = _glob(pattern).fullmatch
        counts: dict[str, int] = {}
        for session in self._sessions.values():
            for name in session.subscriptions:
                counts[name] = counts.get(name, 0) + 1
        found = {name: {"num_clients": n} for name, n in sorted(counts.items()) if matches(name)}
        return {"channels": found}

    async def _info(self, act: Act) -> dict[str, Any]:
        sessions = [session for session in self._sessions.values() if session.is_open]
        names = [name for session in sessions for name in session.subscriptions]
        node = {
            "uid": self._node,
            "name": "oni",
            "version": __version__,
            "num_clients": len(sessions),
            "num_users": len({session.user for session in sessions}),
            "num_channels": len(set(names)),
            "num_subs": len(names),
            "uptime": int(self._seconds() - self._began),
            "metrics": {"interval": 0, "items": dict(self._all_channels.statistics())},
        }
        return {"nodes": [node]}


def _order_of(act: Act) -> Order:
    if not isinstance(act.request, Order):
        raise refusal(ErrorCode.NOT_AVAILABLE)
    return act.request


_PARTS = re.compile(r"\\.|\*+|\?|\{[^{}]*\}|\[!?[^\[\]]+\]|.", re.DOTALL)


def _glob(pattern: str) -> re.Pattern[str]:
    """Make an expression of a pattern: ``*``, ``?``, ``[abc]``, ``[!a-c]`` and ``{one,two}``."""
    pieces = [""]
    for part in _PARTS.findall(pattern):
        if part[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _expression(part)
    first, *rest = pieces
    # Each piece is found at its first place and not looked for again: no exponential search.
    found = [f"(?>.*?{piece})" for piece in rest[:-1]]
    last = [f".*{piece}" for piece in rest[-1:]]
    return re.compile("".join([first, *found, *last]), re.DOTALL)


def _expression(part: str) -> str:
    if part == "?":
        return "."
    if len(part) > 1 and part[0] == "{":
        return f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
    if len(part) > 1 and part[0] == "[":
        inner = part[1:-1]
        negated = inner.startswith("!")
        return f"[{'^' if negated else ''}{_range(inner[negated:])}]"
    return re.escape(part[-1])


def _range(inner: str) -> str:
    """Take the characters of a class as they are, but for the dash of a range."""
    if len(inner) == 3 and inner[1] == "-" and inner[0] <= inner[2]:
        return f"{re.escape(inner[0])}-{re.escape(inner[2])}"
    return re.escape(inner)
