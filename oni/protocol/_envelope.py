"""Commands as they are on the wire: the members that each one may have."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from oni.protocol._commands import (
    Command,
    Connect,
    History,
    NotAvailable,
    Ping,
    Presence,
    PresenceCount,
    Publish,
    Refresh,
    Rpc,
    Send,
    Since,
    SubRefresh,
    Subscribe,
    Unsubscribe,
)
from oni.protocol._filters import FilterNode, compile_filter

__all__ = ["NULL", "Envelope"]

#: The data of a command that has none.
NULL = Raw(b"null")
_Uint64 = Annotated[int, Meta(ge=0)]  # msgspec itself refuses more than 64 bits
_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
_REJECT_UNRECOVERED = 2  # a bit of a subscription's flag


class _Since(Struct):
    offset: _Uint64 = 0
    epoch: str = ""


class _ConnectSub(Struct):
    recover: bool = False
    epoch: str = ""
    offset: _Uint64 = 0


class _Connect(Struct):
    token: str = ""
    data: Raw = NULL
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    subs: dict[str, _ConnectSub] = {}

    def command(self, number: int) -> Command:
        subs = {
            channel: Since(sub.offset, sub.epoch)
            for channel, sub in self.subs.items()
            if sub.recover
        }
        return Connect(number, self.token, self.data, self.name, self.version, self.headers, subs)


class _Subscribe(Struct):
    channel: str
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: _Uint64 = 0
    data: Raw = NULL
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    tf: FilterNode | None = None
    flag: int = 0
    type: int = 0

    def command(self, number: int) -> Command:
        if self.type:
            return NotAvailable(number, "subscribe")
        return Subscribe(
            number,
            self.channel,
            self.token,
            Since(self.offset, self.epoch) if self.recover else None,
            self.data,
            self.positioned,
            self.recoverable,
            self.join_leave,
            None if self.tf is None else compile_filter(self.tf, "subscribe.tf", number),
            bool(self.flag & _REJECT_UNRECOVERED),
        )


class _Unsubscribe(Struct):
    channel: str

    def command(self, number: int) -> Command:
        return Unsubscribe(number, self.channel)


class _Publish(Struct):
    channel: str
    data: Raw = NULL
    type: int = 0

    def command(self, number: int) -> Command:
        if self.type:
            return NotAvailable(number, "publish")
        return Publish(number, self.channel, self.data)


class _History(Struct):
    channel: str
    limit: _Int32 = 0
    since: _Since | None = None
    reverse: bool = False

    def command(self, number: int) -> Command:
        since = None if self.since is None else Since(self.since.offset, self.since.epoch)
        return History(number, self.channel, self.limit, since, self.reverse)


class _Presence(Struct):
    channel: str

    def command(self, number: int) -> Command:
        return Presence(number, self.channel)


class _PresenceCount(Struct):
    channel: str

    def command(self, number: int) -> Command:
        return PresenceCount(number, self.channel)


class _Rpc(Struct):
    method: str = ""
    data: Raw = NULL

    def command(self, number: int) -> Command:
        return Rpc(number, self.method, self.data)


class _Refresh(Struct):
    token: str = ""

    def command(self, number: int) -> Command:
        return Refresh(number, self.token)


class _SubRefresh(Struct):
    channel: str
    token: str = ""
    type: int = 0

    def command(self, number: int) -> Command:
        if self.type:
            return NotAvailable(number, "sub_refresh")
        return SubRefresh(number, self.channel, self.token)


class _Ping(Struct):
    def command(self, number: int) -> Command:
        return Ping(number)


class _Send(Struct):
    data: Raw = NULL

    def command(self, number: int) -> Command:
        return Send(self.data)


class Envelope(Struct):
    """One command as it is on the wire: an id and a member named after the method."""

    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    connect: _Connect | UnsetType = UNSET
    subscribe: _Subscribe | UnsetType = UNSET
    unsubscribe: _Unsubscribe | UnsetType = UNSET
    publish: _Publish | UnsetType = UNSET
    ping: _Ping | UnsetType = UNSET
    send: _Send | UnsetType = UNSET
    presence: _Presence | UnsetType = UNSET
    presence_stats: _PresenceCount | UnsetType = UNSET
    history: _History | UnsetType = UNSET
    rpc: _Rpc | UnsetType = UNSET
    refresh: _Refresh | UnsetType = UNSET
    sub_refresh: _SubRefresh | UnsetType = UNSET
