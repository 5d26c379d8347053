"""``/admin``: what the console asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from oni.channels import check_event, check_name
from oni.errors import BadRequestError, ChannelNameError, EventNameError, Refused
from oni.protocol import ErrorCode, decode_json
from oni.server._acts import DEFAULT_EVENT, refusal
from oni.server._guesses import Guesses
from oni.server._oni import Oni
from oni.server.console._access import Access, Denial
from oni.server.console._snapshot import SORTS, Snapshot
from oni.server.console._watcher import Watcher
from oni.values import Position

__all__ = ["ADMIN", "Admin"]

_log = Logger()

#: The user of what is published from the console.
ADMIN = "admin"

_MAX_FIND = 255
_HEADERS = {
    b"cache-control": b"no-store",
    b"content-type": b"application/json",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class _Publication(Struct):
    channel: str = ""
    event: str = ""
    data: Raw = Raw(b"")


class Admin(Resource):
    """What is below ``/admin``.

    Everything but ``door`` is answered to administrators only. An answer is JSON, its status 200
    also where something is wrong with what was asked for: then it is ``{"error": {"code",
    "message", "field"}}``.
    """

    def __init__(self, oni: Oni, reactor: Any, guesses: Guesses | None = None) -> None:
        """Serve an Oni.

        Args:
            oni: What is looked at.
            reactor: The clock.
            guesses: Knows who has sent wrong keys elsewhere; None for nobody.
        """
        super().__init__()
        self._oni = oni
        if guesses is None:
            guesses = Guesses(oni.settings.server.trusted_proxies, reactor.seconds)
        self.access = Access(oni.settings, guesses)
        self.watcher = Watcher(oni, reactor)
        self.putChild(b"door", _Door(self.access))
        for name, method, ask in (
            (b"snapshot", b"GET", self._snapshot),
            (b"pass", b"POST", self._pass),
            (b"publish", b"POST", self._publish),
        ):
            self.putChild(name, _Guarded(self.access, method, ask))

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Say that there is nothing, to those who may know."""
        return _Guarded(self.access, request.method, _nothing)

    def _snapshot(self, request: Any) -> Deferred[Any]:
        find, sort = _argument(request, b"find"), _argument(request, b"sort") or "rate"
        if sort not in SORTS:
            return fail(_Wrong("sort", f"channels are sorted by {', '.join(SORTS)}"))

        def answer(newest: Snapshot) -> Raw:
            return Raw(newest.answer(find[:_MAX_FIND], sort))

        return self.watcher.ask().addCallback(answer)

    def _pass(self, request: Any) -> Deferred[Any]:
        return succeed({"token": self._oni.passes.issue()})

    def _publish(self, request: Any) -> Deferred[Any]:
        try:
            wanted = _publication(request.content.read())
        except _Wrong as error:
            return fail(error)
        done = self._oni.act(
            "publish",
            channel=wanted.channel,
            event=wanted.event or DEFAULT_EVENT,
            data=wanted.data,
            user=ADMIN,
        )

        def answer(position: Position) -> Any:
            return {"offset": position.offset, "epoch": position.epoch}

        return done.addCallback(answer)


class _Wrong(Exception):  # noqa: N818 - it says what is wrong, and never leaves this module
    """What was asked for cannot be.

    Args:
        field: Where it is said.
        message: What is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Door(Resource):
    """Says what the console needs to be let in, to everybody: so nobody has to be refused."""

    isLeaf = True

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    def render_GET(self, request: Any) -> bytes:
        """Say it."""
        return _written(request, 200, {"needs": self._access.needs(request)})


class _Guarded(Resource):
    """Something that is for administrators.

    Args:
        access: Knows them.
        method: How it is asked for.
        ask: Is called with the request, and gives a Deferred of the answer.
    """

    isLeaf = True

    def __init__(self, access: Access, method: bytes, ask: Callable[[Any], Deferred[Any]]) -> None:
        super().__init__()
        self._access = access
        self._method = method
        self._ask = ask

    def render(self, request: Any) -> Any:
        """Check who asks, then how; then answer."""
        denial = self._access.denial(request)
        if denial is not None:
            return _denied(request, denial)
        if request.method != self._method:
            request.setHeader(b"allow", self._method)
            return _written(request, 405, _error("method", "This is asked for otherwise."))
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        done = self._ask(request).addErrback(_told)
        done.addCallback(lambda told: None if gone else _finish(request, told))
        done.addErrback(lambda failure: _log.failure("no answer could be sent", failure))
        return NOT_DONE_YET


def _nothing(request: Any) -> Deferred[Any]:
    return fail(_Wrong("", "There is nothing here."))


def _publication(body: bytes) -> _Publication:
    """Read what is to be published.

    Raises:
        _Wrong: It cannot be, and in which field that is.
    """
    try:
        decode_json(body, "data")  # now it is bounded, and UTF-8 all over
        wanted = msgspec.json.decode(body, type=_Publication)
        check_name(wanted.channel)
        check_event(wanted.event or DEFAULT_EVENT)
        decode_json(wanted.data, "data")
    except ChannelNameError as error:
        raise _Wrong("channel", str(error)) from error
    except EventNameError as error:
        raise _Wrong("event", str(error)) from error
    except (BadRequestError, msgspec.MsgspecError) as error:
        raise _Wrong("data", str(error)) from error
    return wanted


def _argument(request: Any, name: bytes) -> str:
    found: bytes = request.args.get(name, [b""])[0]
    return found.decode("utf-8", "replace")


def _error(code: str | int, message: str, field: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "field": field}}


def _told(failure: Failure) -> dict[str, Any]:
    """Say what went wrong: verdicts as they are, of anything else only that it was."""
    error = failure.value
    if isinstance(error, _Wrong):
        return _error("wrong", str(error), error.field)
    if isinstance(error, Refused):
        field = "channel" if error.code == ErrorCode.UNKNOWN_CHANNEL.code else ""
        return _error(error.code, error.message, field)
    _log.failure("the console got no answer", failure)
    internal = refusal(ErrorCode.INTERNAL)
    return _error(internal.code, internal.message)


def _denied(request: Any, denial: Denial) -> bytes:
    if denial.wait:
        request.setHeader(b"retry-after", b"%d" % denial.wait)
    return _written(request, denial.status, _error(denial.code, denial.message))


def _finish(request: Any, told: Any) -> None:
    request.write(_written(request, 200, told))
    request.finish()


def _written(request: Any, status: int, told: Any) -> bytes:
    body = msgspec.json.encode(told)
    request.setResponseCode(status)
    for name, value in _HEADERS.items():
        request.setHeader(name, value)
    request.setHeader(b"content-length", b"%d" % len(body))
    return body
