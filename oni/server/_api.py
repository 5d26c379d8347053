"""The HTTP API: what other programs ask for, with a key."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from time import time
from typing import Any

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from oni.errors import BadRequestError, Refused
from oni.protocol import ErrorCode
from oni.server._acts import bad_request, refusal
from oni.server._api_calls import ApiCalls
from oni.server._oni import Oni

__all__ = ["Api"]

_log = Logger()


class Api(Resource):
    """What is below ``/api``."""

    def __init__(self, oni: Oni, seconds: Callable[[], float] = time) -> None:
        """Offer the calls there are.

        Args:
            oni: What they act on.
            seconds: Gives the time, in seconds since 1970.
        """
        super().__init__()
        self._key = oni.settings.api.key
        self._calls = ApiCalls(oni, seconds)

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Find a call."""
        method = path.decode("latin-1")
        if request.postpath or not self._calls.knows(method):
            return _Unknown(self._key)
        return _Call(self._key, self._calls, method)


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
    """A call that there is not."""

    def ask(self, request: Any) -> bytes:
        """Say so."""
        return _answer(request, 404, _error(refusal(ErrorCode.METHOD_NOT_FOUND)))


class _Call(_Keyed):
    """One call."""

    def __init__(self, key: str | None, calls: ApiCalls, method: str) -> None:
        super().__init__(key)
        self._calls = calls
        self._method = method

    def ask(self, request: Any) -> Any:
        """Make it, and answer when it is done."""
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            done = self._calls.call(self._method, request.content.read())
        except BadRequestError as error:
            return _answer(request, 400, _error(bad_request(error)))
        done.addCallback(lambda told: None if gone else _finish(request, told))
        done.addErrback(lambda failure: _log.failure("no answer could be sent", failure))
        return NOT_DONE_YET


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
