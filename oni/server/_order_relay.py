"""Orders on their way to the other nodes: a user may be connected to any of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Literal, cast
from uuid import uuid4

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.interfaces import IChannels
from oni.server._orders import Order

__all__ = ["OrderRelay"]

_log = Logger()

_KIND = "oni.order"
_VERSION = 1
_REMEMBERED = 1000  # messages that are known if they come again

_Action = Literal["subscribe", "unsubscribe", "disconnect", "refresh"]
_CarryOut = Callable[[str, str, Order, Raw], Coroutine[Any, Any, None]]


class _Head(Struct):
    """What every message between nodes begins with."""

    kind: str
    version: int


class _Message(Struct, kw_only=True):
    kind: str = _KIND
    version: int = _VERSION
    id: str
    node: str
    action: _Action
    channel: str
    order: Order
    data: Raw


class OrderRelay:
    """Tells the other nodes of orders, and carries out theirs.

    An order was allowed, and seen by handlers, on the node where it was given: on the others it
    is carried out at once, and is no act. A message of another kind, or of a version that this
    node does not know, is left alone: nodes of different versions may run side by side.

    Args:
        channels: Bring messages to every node.
        node: Names this server.
        carry_out: Does to the sessions of this node what an order says: action, channel, order
            and data.
    """

    def __init__(self, channels: IChannels, node: str, carry_out: _CarryOut) -> None:
        self._channels = channels
        self._node = node
        self._carry_out = carry_out
        self._seen: OrderedDict[str, None] = OrderedDict()

    def start(self) -> None:
        """Hear the others, until the channels are stopped."""
        self._channels.hear_control(self.hear)

    def tell(self, action: str, channel: str, order: Order, data: Raw) -> Deferred[None]:
        """Tell the others.

        Returns:
            A Deferred that fires when the message is on its way, not when it was obeyed.
        """
        message = _Message(
            id=str(uuid4()),
            node=self._node,
            action=cast(_Action, action),
            channel=channel,
            order=order,
            data=data,
        )
        return self._channels.control(msgspec.json.encode(message))

    def hear(self, encoded: bytes) -> None:
        """Carry out what another node tells, once."""
        try:
            head = msgspec.json.decode(encoded, type=_Head)
        except msgspec.MsgspecError:
            return  # it is not for us
        if (head.kind, head.version) != (_KIND, _VERSION):
            _log.debug("a message {kind} is left alone", kind=head.kind)
            return
        try:
            message = msgspec.json.decode(encoded, type=_Message)
        except msgspec.MsgspecError as error:
            _log.error("an order from another node was not understood: {error}", error=error)
            return
        if message.node == self._node or message.id in self._seen:
            return
        self._seen[message.id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        done = Deferred.fromCoroutine(
            self._carry_out(message.action, message.channel, message.order, message.data)
        )
        done.addErrback(lambda failure: _log.failure("an order from another node failed", failure))
