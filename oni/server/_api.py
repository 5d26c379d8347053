"""The HTTP API: what other programs ask for, with a key.

Paths, bodies and answers are those of Centrifugo's server API:
https://centrifugal.dev/docs/server/server_api.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from oni.channels import check_event
from oni.errors import BadRequestError, EventNameError, Refused
from oni.protocol import ErrorCode, decode_json
from oni.server._acts import DEFAULT_EVENT, bad_request, refusal
from oni.server._oni import Oni

__all__ = ["Api"]

_log = Logger()


class _Publish(Struct):
    """The body of ``POST /api/publish``."""

    channel: str
    data: Raw
    tags: dict[str, str] = {}


class Api(Resource):
    """What is below ``/api``."""

    def __init__(self, oni: Oni) -> None:
        """Offer the methods there are.

        Args:
            oni: What they act on.
        """
        super().__init__()
        self._oni = oni
        self._methods: dict[bytes, Callable[[bytes], Deferred[Any]]] = {b"publish": self._publish}

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Find a method."""
        method = self._methods.get(path) if not request.postpath else None
        if method is None:
            return _Unknown(self._oni.settings.api.key)
        return _Method(self._oni.settings.api.key, method)

    def _publish(self, body: bytes) -> Deferred[Any]:
        wanted = _decode(body, _Publish)
        event = _event_of(wanted)
        done = self._oni.act(
            "publish",
            channel=wanted.channel,
            event=event,
            data=wanted.data,
            tags=wanted.tags,
            user="api",
        )
        return done.addCallback(lambda at: {"offset": at.offset, "epoch": at.epoch})


class _Keyed(Resource):
    """Something that only those with the key may ask for."""

    isLeaf = True

    def __init__(self, key: str | None) -> None:
        super().__init__()
        self._key = key

    def render(self, request: Any) -> Any:
        """Check the verb, then the key."""
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            return _answer(request, 405, _error(refusal(ErrorCode.METHOD_NOT_FOUND)))
        if not self._is_ours(request.requestHeaders.getRawHeaders(b"x-api-key", [])):
            return _answer(request, 401, _error(refusal(ErrorCode.UNAUTHORIZED)))
        return self.ask(request)

    def ask(self, request: Any) -> Any:
        """Do what was asked for."""
        raise NotImplementedError

    def _is_ours(self, keys: list[bytes]) -> bool:
        if self._key is None or len(keys) != 1:
            return False
        return hmac.compare_digest(keys[0], self._key.encode())


class _Unknown(_Keyed):
    """A method that there is not."""

    def ask(self, request: Any) -> bytes:
        """Say so."""
        return _answer(request, 404, _error(refusal(ErrorCode.METHOD_NOT_FOUND)))


class _Method(_Keyed):
    """A method."""

    def __init__(self, key: str | None, method: Callable[[bytes], Deferred[Any]]) -> None:
        super().__init__(key)
        self._method = method

    def ask(self, request: Any) -> Any:
        """Call it, and answer when it is done."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            done = self._method(request.content.read())
        except BadRequestError as error:
            return _answer(request, 400, _error(bad_request(error)))
        done.addCallbacks(lambda result: {"result": result}, _told)
        done.addCallback(lambda told: None if gone else _finish(request, told))
        done.addErrback(lambda failure: _log.failure("no answer could be sent", failure))
        return NOT_DONE_YET


def _decode(body: bytes, kind: type[_Publish]) -> _Publish:
    decode_json(body, "")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadRequestError(str(error)) from error


def _event_of(wanted: _Publish) -> str:
    """Take the event's name out of the tags."""
    try:
        return check_event(wanted.tags.pop("event", DEFAULT_EVENT))
    except EventNameError as error:
        raise BadRequestError(str(error), "tags.event") from error


def _told(failure: Failure) -> dict[str, Any]:
    if isinstance(failure.value, Refused):
        return _error(failure.value)
    _log.failure("an API call failed", failure)
    return _error(refusal(ErrorCode.INTERNAL))


def _error(error: Refused) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message}}


def _finish(request: Any, told: dict[str, Any]) -> None:
    request.write(_answer(request, 200, told))
    request.finish()


def _answer(request: Any, status: int, told: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(told) + b"\n"
    request.setResponseCode(status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
