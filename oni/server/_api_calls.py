"""The calls of the HTTP API: what each one's body may hold, and which acts it means.

Bodies and answers are those of Centrifugo's server API:
https://centrifugal.dev/docs/server/server_api.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from oni.channels import check_event
from oni.errors import BadRequestError, EventNameError, Refused
from oni.protocol import ErrorCode, History, Since, decode_json
from oni.server._act_commands import PublishRequest
from oni.server._acts import DEFAULT_EVENT, bad_request, refusal
from oni.server._oni import Oni
from oni.server._orders import FORCED, Farewell, Order, check_farewell
from oni.values import Position

__all__ = ["MAX_COMMANDS", "ApiCalls"]

_log = Logger()
_S = TypeVar("_S", bound=Struct)
_NULL = Raw(b"null")

#: So many channels of a broadcast, or commands of a batch, at most.
MAX_COMMANDS = 1000

_Uint64 = Annotated[int, Meta(ge=0)]
_Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class _Since(Struct):
    offset: _Uint64 = 0
    epoch: str = ""


class _Farewell(Struct):
    code: int = FORCED.code
    reason: str = ""


class _Publish(Struct):
    channel: str
    data: Raw
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None
    skip_history: bool | None = None
    b64data: str | None = None


class _Broadcast(Struct):
    channels: Annotated[list[str], Meta(min_length=1, max_length=MAX_COMMANDS)]
    data: Raw
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None
    skip_history: bool | None = None
    b64data: str | None = None


class _Sessions(Struct, kw_only=True):
    user: str
    client: str | None = None
    session: str | None = None


class _Subscribe(_Sessions, kw_only=True):
    channel: str
    info: Raw = _NULL
    data: Raw = _NULL
    recover_since: _Since | None = None
    b64info: str | None = None
    b64data: str | None = None
    override: Raw | None = None


class _Unsubscribe(_Sessions, kw_only=True):
    channel: str


class _Disconnect(_Sessions, kw_only=True):
    whitelist: list[str] | None = None
    disconnect: _Farewell | None = None


class _Refresh(_Sessions, kw_only=True):
    expired: bool | None = None
    expire_at: int | None = None


class _Channel(Struct):
    channel: str


class _History(Struct):
    channel: str
    limit: _Int32 | None = None
    since: _Since | None = None
    reverse: bool | None = None


class _Channels(Struct):
    pattern: str | None = None


class _Info(Struct):
    pass


class _Batch(Struct):
    commands: Annotated[list[dict[str, Raw]], Meta(max_length=MAX_COMMANDS)]
    parallel: bool = False


class ApiCalls:
    """Makes acts of calls, and answers of their results.

    Args:
        oni: What they act on.
        seconds: Gives the time, in seconds since 1970.
    """

    def __init__(self, oni: Oni, seconds: Callable[[], float]) -> None:
        self._oni = oni
        self._seconds = seconds
        self._calls: dict[str, Callable[[bytes], Deferred[Any]]] = {
            "publish": self._publish,
            "broadcast": self._broadcast,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "disconnect": self._disconnect,
            "refresh": self._refresh,
            "presence": self._presence,
            "presence_stats": self._presence_stats,
            "history": self._history,
            "history_remove": self._history_remove,
            "channels": self._channels,
            "info": self._info,
        }

    def knows(self, method: str) -> bool:
        """Say whether there is such a call."""
        return method in self._calls or method == "batch"

    def call(self, method: str, body: bytes) -> Deferred[dict[str, Any]]:
        """Do what a request asks for.

        Args:
            method: The call's name.
            body: The request's body.

        Returns:
            A Deferred that fires with the answer's body: a result or an error.

        Raises:
            BadRequestError: The body is not what the call takes.
        """
        if method == "batch":
            return self._batch(body)
        return self._calls[method](body).addCallbacks(_result, _error)

    # --- Publications ---------------------------------------------------------------------------

    def _publish(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Publish)
        return self._publish_on(wanted.channel, wanted)

    def _broadcast(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Broadcast)
        _check_publication(wanted)
        done = [
            self._publish_on(channel, wanted).addCallbacks(_result, _error)
            for channel in wanted.channels
        ]
        return _all(done).addCallback(lambda responses: {"responses": responses})

    def _publish_on(self, channel: str, wanted: _Publish | _Broadcast) -> Deferred[Any]:
        event, tags = _check_publication(wanted)
        done = self._oni.act(
            "publish",
            channel=channel,
            event=event,
            data=wanted.data,
            tags=tags,
            user="api",
            request=PublishRequest(wanted.idempotency_key or None),
        )
        return done.addCallback(lambda at: {"offset": at.offset, "epoch": at.epoch})

    # --- Sessions -------------------------------------------------------------------------------

    def _subscribe(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Subscribe)
        _refuse_unknown(wanted, "b64info", "b64data", "override")
        since = wanted.recover_since
        order = Order(
            user=wanted.user,
            client=_client(wanted),
            info=decode_json(wanted.info, "info"),
            since=None if since is None else Position(since.epoch, since.offset),
        )
        return self._order("subscribe", order, wanted.channel, wanted.data)

    def _unsubscribe(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Unsubscribe)
        order = Order(user=wanted.user, client=_client(wanted))
        return self._order("unsubscribe", order, wanted.channel)

    def _disconnect(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Disconnect)
        farewell = FORCED
        if wanted.disconnect is not None:
            farewell = Farewell(wanted.disconnect.code, wanted.disconnect.reason)
        try:
            check_farewell(farewell)
        except ValueError as error:
            raise BadRequestError(str(error), "disconnect") from error
        keep = tuple(wanted.whitelist or ())
        order = Order(user=wanted.user, client=_client(wanted), keep=keep, farewell=farewell)
        return self._order("disconnect", order)

    def _refresh(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Refresh)
        ttl = None if wanted.expire_at is None else wanted.expire_at - self._seconds()
        expired = bool(wanted.expired) or (ttl is not None and ttl <= 0)
        order = Order(user=wanted.user, client=_client(wanted), ttl=ttl, expired=expired)
        return self._order("refresh", order)

    def _order(
        self, action: str, order: Order, channel: str = "", data: Raw = _NULL
    ) -> Deferred[Any]:
        return self._oni.act(action, channel=channel, data=data, user="api", request=order)

    # --- Channels -------------------------------------------------------------------------------

    def _presence(self, body: bytes) -> Deferred[Any]:
        channel = _decode(body, _Channel).channel
        return self._oni.act("presence", channel=channel, user="api")

    def _presence_stats(self, body: bytes) -> Deferred[Any]:
        channel = _decode(body, _Channel).channel
        return self._oni.act("presence_stats", channel=channel, user="api")

    def _history(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _History)
        since = None if wanted.since is None else Since(wanted.since.offset, wanted.since.epoch)
        request = History(0, wanted.channel, wanted.limit or 0, since, bool(wanted.reverse))
        return self._oni.act("history", channel=wanted.channel, user="api", request=request)

    def _history_remove(self, body: bytes) -> Deferred[Any]:
        channel = _decode(body, _Channel).channel
        return self._oni.act("history_remove", channel=channel, user="api")

    def _channels(self, body: bytes) -> Deferred[Any]:
        pattern = _decode(body, _Channels).pattern
        return self._oni.act("channels", data=pattern, user="api")

    def _info(self, body: bytes) -> Deferred[Any]:
        _decode(body, _Info)
        return self._oni.act("info", user="api")

    # --- Many at once ---------------------------------------------------------------------------

    def _batch(self, body: bytes) -> Deferred[dict[str, Any]]:
        wanted = _decode(body, _Batch)
        if wanted.parallel:
            done = _all([self._reply(command) for command in wanted.commands])
        else:
            done = Deferred.fromCoroutine(self._one_by_one(wanted.commands))
        return done.addCallback(lambda replies: {"replies": replies})

    async def _one_by_one(self, commands: list[dict[str, Raw]]) -> list[Any]:
        return [await self._reply(command) for command in commands]

    def _reply(self, command: dict[str, Raw]) -> Deferred[Any]:
        """Do one command of a batch; the reply's member is named after it."""
        method, body = next(iter(command.items()), ("", _NULL))
        if len(command) != 1 or method not in self._calls:
            return succeed({"error": _told(refusal(ErrorCode.METHOD_NOT_FOUND))})
        try:
            done = self._calls[method](bytes(body))
        except BadRequestError as error:
            return succeed({"error": _told(bad_request(error))})
        return done.addCallbacks(lambda result: {method: _members(result)}, _error)


def _decode(body: bytes, kind: type[_S]) -> _S:
    decode_json(body, "")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequestError(str(error)) from error


def _check_publication(wanted: _Publish | _Broadcast) -> tuple[str, dict[str, str]]:
    """Give the event's name, which travels as a tag, and the other tags."""
    _refuse_unknown(wanted, "skip_history", "b64data")
    tags = dict(wanted.tags or {})
    try:
        return check_event(tags.pop("event", DEFAULT_EVENT)), tags
    except EventNameError as error:
        raise BadRequestError(str(error), "tags.event") from error


def _refuse_unknown(wanted: Struct, *names: str) -> None:
    """Refuse what Centrifugo offers and this server does not: to ignore it would be a lie."""
    for name in names:
        if getattr(wanted, name):
            raise BadRequestError("this server does not offer it", name)


def _client(wanted: _Sessions) -> str:
    """Give the session that is meant: its id and its name are the same here."""
    named = {name for name in (wanted.client, wanted.session) if name}
    if len(named) > 1:
        raise BadRequestError("client and session name two sessions", "session")
    return named.pop() if named else ""


def _all(done: list[Deferred[Any]]) -> Deferred[list[Any]]:
    """Wait for what never fails."""
    return DeferredList(done).addCallback(lambda found: [value for _, value in found])


def _members(result: Any) -> Any:
    return {} if result is None else result


def _result(result: Any) -> dict[str, Any]:
    return {"result": _members(result)}


def _error(failure: Failure) -> dict[str, Any]:
    if isinstance(failure.value, Refused):
        return {"error": _told(failure.value)}
    _log.failure("an API call failed", failure)
    return {"error": _told(refusal(ErrorCode.INTERNAL))}


def _told(error: Refused) -> dict[str, Any]:
    return {"code": error.code, "message": error.message}
