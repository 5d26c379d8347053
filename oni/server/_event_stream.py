"""``/connection/sse/CHANNEL``: one channel as server-sent events.

Behind each response is a session like that of a websocket: it connects and subscribes, with the
same acts and the same permissions.
"""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.interfaces import ISSLTransport
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from oni.carriers import (
    EventStreamCarrier,
    Handshake,
    StuckReaders,
    event_of,
    gap_frame,
    origin_is_allowed,
    position_frame,
    position_of,
)
from oni.protocol import CloseCode, ErrorCode
from oni.server._oni import Oni
from oni.server._orders import Farewell
from oni.server._session import Session
from oni.values import Position

__all__ = ["EventStreams"]

_STATUS = {
    ErrorCode.UNAUTHORIZED.code: 401,
    ErrorCode.TOKEN_EXPIRED.code: 401,
    ErrorCode.UNKNOWN_CHANNEL.code: 404,
    ErrorCode.BAD_REQUEST.code: 400,
    ErrorCode.LIMIT_EXCEEDED.code: 429,
}
_CONNECT, _SUBSCRIBE = 1, 2  # the commands' ids


class EventStreams(Resource):
    """Answers with the events of the channel that the path names."""

    isLeaf = True

    def __init__(self, oni: Oni, reactor: Any) -> None:
        """Serve an Oni.

        Args:
            oni: Whose channels.
            reactor: The reactor.
        """
        super().__init__()
        self._oni = oni
        self._reactor = reactor
        self._stuck = StuckReaders(reactor, oni.settings.server.drain_timeout, oni.tally.limited)

    def render(self, request: Any) -> Any:
        """Begin a session for this response."""
        if request.method != b"GET":
            request.setHeader(b"allow", b"GET")
            request.setResponseCode(405)
            return b""
        origin = request.getHeader(b"origin")
        if origin is not None and not self._admits(request, origin):
            return b""
        channel = b"/".join(request.postpath).decode("utf-8", "replace")
        end_with = getattr(request.channel, "end_with", None)  # in another site there is none
        if end_with is not None:
            end_with(request)
        stream = _SessionStream(request, self._reactor, self._stuck)
        session = self._oni.open_session(stream, is_duplex=False)
        stream.serve(session, channel, _last_event_id(request))
        return NOT_DONE_YET

    def _admits(self, request: Any, origin: bytes) -> bool:
        """Let a page of another site in only if the settings name it."""
        host = request.getHeader(b"host").decode("latin-1")
        secure = ISSLTransport(request.transport, None) is not None
        allowed = self._oni.settings.server.allowed_origins
        if not origin_is_allowed(origin.decode("latin-1"), host, secure, allowed):
            request.setResponseCode(403)
            return False
        request.setHeader(b"access-control-allow-origin", origin)
        # As over a websocket: with `withCredentials` the page's cookies say who it is.
        request.setHeader(b"access-control-allow-credentials", b"true")
        request.setHeader(b"vary", b"origin")
        return True


class _SessionStream(EventStreamCarrier):
    """What a session takes for its connection: it writes events instead of messages."""

    _session: Session | None = None
    _is_answered = False

    @property
    def handshake(self) -> Handshake:
        """The request, whose origin was checked."""
        headers = self._request.requestHeaders.getAllRawHeaders()
        found = {name.lower(): b", ".join(values) for name, values in headers}
        return Handshake({n.decode("latin-1"): v.decode("latin-1") for n, v in found.items()})

    def serve(self, session: Session, channel: str, last_event_id: str | None) -> None:
        """Connect and subscribe."""
        self._session = session
        self._request.notifyFinish().addBoth(lambda _: self._over())
        token = _bearer(self._request) or _argument(self._request, b"token")
        subscribe: dict[str, Any] = {
            "channel": channel,
            "token": _argument(self._request, b"subscription_token"),
        }
        if last_event_id is not None:
            since = position_of(last_event_id)
            subscribe.update(recover=True, epoch=since.epoch, offset=since.offset)
        for command in (
            {"id": _CONNECT, "connect": {"name": "sse", "token": token}},
            {"id": _SUBSCRIBE, "subscribe": subscribe},
        ):
            session.received(msgspec.json.encode(command))

    def send(self, payload: bytes) -> None:
        """Take what the session tells its client."""
        message = msgspec.json.decode(payload)
        if not message:
            self.write_comment()
            if self._session is not None:
                self._session.was_read()  # there is nothing that it could answer
        elif "error" in message:
            self._refuse(message["error"])
        elif "subscribe" in message:
            self._begin(message["subscribe"])
        elif "unsubscribe" in message.get("push", ()):
            self.end_response()

    def close(self, code: CloseCode | Farewell) -> None:
        """End the response."""
        if self._is_answered:
            self.end_response()
        else:
            self._answer(503)

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def _begin(self, told: dict[str, Any]) -> None:
        """Write where the client stands, and what it missed."""
        self._is_answered = True
        self.begin_response()
        position = Position(told["epoch"], told.get("offset", 0))
        if told.get("was_recovering") and not told.get("recovered"):
            self.write(gap_frame(position))
            return
        for publication in told.get("publications", ()):
            event = publication["tags"]["event"]
            at = Position(position.epoch, publication["offset"])
            self.write(event_of(event, msgspec.json.encode(publication["data"]), at))
        self.write(position_frame(position))

    def _refuse(self, error: dict[str, Any]) -> None:
        """Say no, so that a browser asks again only where that may help."""
        if error.get("temporary"):
            self._is_answered = True
            self.begin_response()
            self.end_response()
        else:
            self._answer(_STATUS.get(error["code"], 403))
        if self._session is not None:
            self._session.connection_lost()

    def _answer(self, status: int) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._request.setResponseCode(status)
            self._request.finish()

    def _over(self) -> None:
        self._is_answered = True
        self.gone()
        session, self._session = self._session, None
        if session is not None:
            session.connection_lost()


def _bearer(request: Any) -> str:
    """Give the token of the header ``Authorization`` (RFC 6750, 2.1), ``""`` without one."""
    kind, _, token = (request.getHeader(b"authorization") or b"").partition(b" ")
    return token.strip().decode("latin-1") if kind.lower() == b"bearer" else ""


def _argument(request: Any, name: bytes) -> str:
    """Give what the address says. A page's ``EventSource`` can set no header."""
    value: bytes = request.args.get(name, [b""])[0]
    return value.decode("utf-8", "replace")


def _last_event_id(request: Any) -> str | None:
    """Find where the client stands: browsers say so in a header, pages in the address."""
    header = request.getHeader(b"last-event-id")
    if header is None:
        header = request.args.get(b"last_event_id", [None])[0]
    return None if header is None else header.decode("utf-8", "replace")
