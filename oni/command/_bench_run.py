"""The measurement behind ``oni bench``: subscribers, a publisher, a clock."""

from __future__ import annotations

import random
import time
import uuid
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from oni.command._bench_report import Progress, Result, print_result
from oni.command._conversation import (
    Conversation,
    Ended,
    NoOniError,
    Published,
    Refused,
    Subscribed,
)
from oni.command._failures import FAILED, INTERRUPTED, UNREACHABLE
from oni.command._http import why_not_reached
from oni.command._link import BUSY, Link, open_link
from oni.command._show import note
from oni.command._target import Target

__all__ = ["Bench", "Load"]

_AT_ONCE = 20  # subscribers that are connecting at the same time
_AGAIN = (0.1, 0.5)  # seconds until one comes again that the daemon was too busy for
_LAST_ONES = 5.0  # seconds that the last deliveries may take after the last publication
_REDRAW = 0.1  # seconds between two looks of the progress bar
_GOODBYE = 1.0  # seconds for all connections to close


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done.

    Attributes:
        channel: Where.
        subscribers: How many hear it.
        messages: How many publications there are.
        in_flight: How many of them at once.
        size: Bytes that are added to each.
        limit: Seconds, at most.
    """

    channel: str
    subscribers: int
    messages: int
    in_flight: int
    size: int
    limit: float


class _Mark(msgspec.Struct):
    """What is published."""

    run: str
    n: int
    pad: str = ""


class _Error(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    error: _Error | None = None


class _Subscriber:
    """One connection that hears the channel."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._talk = Conversation({bench.load.channel: None}, "oni bench")
        self.link: Link | None = None

    def opened(self, link: Link) -> None:
        """Say who we are."""
        self.link = link
        link.send(self._talk.opened(self._bench.new_token()))

    def received(self, link: Link, frame: bytes) -> None:
        """Count what arrives."""
        try:
            answer, happened = self._talk.received(frame)
        except NoOniError:
            self._bench.fail("what answers there is no Oni", UNREACHABLE)
            return
        link.send(answer)
        for happening in happened:
            if isinstance(happening, Published):
                self._bench.arrived(happening.data)
            elif isinstance(happening, Subscribed):
                if not happening.again:
                    self._bench.subscribed()
            elif isinstance(happening, Refused):
                told = f"a subscriber is refused: {happening.message} ({happening.code})"
                self._bench.fail(told, FAILED)
            elif isinstance(happening, Ended):
                self._bench.fail(f"a subscriber is sent away: {happening.reason}", FAILED)

    def closed(self, link: Link, code: int, reason: str) -> None:
        """A subscriber is missing now."""
        self.link = None
        if reason == BUSY:
            self._bench.connect_later(self)
        else:
            self._bench.left(reason)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Connects to the target, whatever its name says."""

    def __init__(self, target: Target, reactor: Any) -> None:
        self._target = target
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> Any:
        target = self._target
        found: Any = HostnameEndpoint(self._reactor, target.host, target.port, target.timeout)
        if target.secure:
            from twisted.internet.ssl import optionsForClientTLS

            found = wrapClientTLS(optionsForClientTLS(target.name), found)
        return found


class Bench:
    """Measures.

    Args:
        target: Whom.
        load: With what.
        reactor: The reactor.
        as_json: How the result is printed.
        token: Gives a token for each connection.

    Attributes:
        exit_code: How it ended.
        load: With what.
    """

    def __init__(
        self,
        target: Target,
        load: Load,
        reactor: Any,
        as_json: bool = False,
        token: Callable[[], str] | None = None,
    ) -> None:
        self.exit_code = 0
        self.load = load
        self._target = target
        self._reactor = reactor
        self._as_json = as_json
        self._token = token
        self._run = uuid.uuid4().hex
        self._subscribers: list[_Subscriber] = []
        self._ready = 0
        self._gone = 0
        self._begun = array("d", bytes(8 * load.messages))
        self._publishes = array("d")
        self._deliveries = array("d")
        self._next = 0
        self._answered = 0
        self._refused = 0
        self._started = 0.0
        self._finished = 0.0
        self._end: Callable[[], None] = lambda: None
        self._over = False
        self._is_late = False
        self._progress = Progress(load.subscribers, load.messages)
        self._drawing = LoopingCall(self._draw)
        self._drawing.clock = reactor
        self._timers: list[IDelayedCall] = []
        self._waiting: IDelayedCall | None = None
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = load.in_flight
        self._pool = pool
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(target, reactor), pool)
        self._url = f"{target.address}/api/publish".encode()
        said = {b"Content-Type": [b"application/json"], b"User-Agent": [b"oni"]}
        if target.key is not None:
            said[b"X-API-Key"] = [target.key.encode()]
        self._headers = Headers(said)

    # --- The program ----------------------------------------------------------------------------

    def start(self, end: Callable[[], None]) -> None:
        """Connect the subscribers."""
        self._end = end
        self._timers.append(self._reactor.callLater(self.load.limit, self._too_long))
        self._progress.start()
        self._drawing.start(_REDRAW)
        for _ in range(min(_AT_ONCE, self.load.subscribers)):
            self._add_subscriber()

    def stop(self, by_signal: bool) -> Deferred[Any] | None:
        """Print what was measured, and let go."""
        self._over = True
        if self._drawing.running:
            self._drawing.stop()
        self._progress.stop()
        for timer in (*self._timers, *filter(None, [self._waiting])):
            if timer.active():
                timer.cancel()
        if by_signal:
            self.exit_code = INTERRUPTED
        if self._started:
            result = self._result(by_signal)
            print_result(result, self._as_json)
            if not self.exit_code and not result.is_whole:
                self.exit_code = FAILED
        for subscriber in self._subscribers:
            if subscriber.link is not None:
                subscriber.link.end()
        closed: Deferred[Any] = DeferredList([self._pool.closeCachedConnections()])
        return closed.addTimeout(_GOODBYE, self._reactor).addErrback(lambda _: None)

    def _result(self, interrupted: bool) -> Result:
        load = self.load
        return Result(
            subscribers=load.subscribers,
            messages=load.messages,
            size=load.size,
            in_flight=load.in_flight,
            seconds=(self._finished or time.perf_counter()) - self._started,
            published=len(self._publishes),
            refused=self._refused,
            delivered=len(self._deliveries),
            ended_early="interrupted" if interrupted else "time limit" if self._is_late else "",
            publish_times=self._publishes,
            delivery_times=self._deliveries,
        )

    def _draw(self) -> None:
        self._progress.show(self._ready, self._answered, len(self._deliveries))

    def _too_long(self) -> None:
        if not self._started:
            self.fail(
                f"only {self._ready} of {self.load.subscribers} subscribers were there after "
                f"{self.load.limit:g} s",
                FAILED,
            )
            return
        self._is_late = True
        self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._end()

    def fail(self, reason: str, exit_code: int) -> None:
        """End, as it cannot be measured."""
        if not self._over:
            self._progress.stop()
            note(reason)
            self.exit_code = exit_code
            self._finish()

    # --- Subscribers ----------------------------------------------------------------------------

    def _add_subscriber(self) -> None:
        subscriber = _Subscriber(self)
        self._subscribers.append(subscriber)
        self._connect(subscriber)

    def _connect(self, subscriber: _Subscriber) -> None:
        open_link(self._target, subscriber, self._reactor).addErrback(self._not_connected)

    def connect_later(self, subscriber: _Subscriber) -> None:
        """Come again after a while: the daemon greets only so many in a second."""
        if not self._over:
            wait = random.uniform(*_AGAIN)
            self._timers.append(self._reactor.callLater(wait, self._connect, subscriber))

    def _not_connected(self, failure: Failure) -> None:
        self.fail(why_not_reached(self._target, failure.value), UNREACHABLE)

    def new_token(self) -> str | None:
        """Make a token for a connection, None for nobody in particular."""
        return None if self._token is None else self._token()

    def subscribed(self) -> None:
        """One more is ready; when all are, publish."""
        self._ready += 1
        if self._over:
            return
        if len(self._subscribers) < self.load.subscribers:
            self._add_subscriber()
        elif self._ready == self.load.subscribers:
            self._started = time.perf_counter()
            for _ in range(min(self.load.in_flight, self.load.messages)):
                self._publish_on()

    def left(self, reason: str) -> None:
        """A subscriber was lost: what it should have heard cannot be measured."""
        self.fail(
            f"a subscriber was lost, {self._ready} of {self.load.subscribers} were there: {reason}"
            "; the daemon's limits of connections are under [server] in its settings",
            FAILED,
        )

    def arrived(self, data: msgspec.Raw) -> None:
        """Take the time of a delivery."""
        now = time.perf_counter()
        try:
            mark = msgspec.json.decode(data, type=_Mark)
        except msgspec.DecodeError:
            return  # somebody else's
        if mark.run == self._run and 0 <= mark.n < self.load.messages:
            self._deliveries.append(now - self._begun[mark.n])
            self._look_for_the_end(now)

    # --- Publications ---------------------------------------------------------------------------

    def _publish_on(self) -> None:
        """Publish one after another, as one of several that do."""
        Deferred.fromCoroutine(self._publish_all()).addErrback(self._not_connected)

    async def _publish_all(self) -> None:
        while self._next < self.load.messages and not self._over:
            number, self._next = self._next, self._next + 1
            mark = _Mark(self._run, number, "x" * self.load.size)
            body = msgspec.json.encode({"channel": self.load.channel, "data": mark})
            begun = self._begun[number] = time.perf_counter()
            response = await self._agent.request(
                b"POST", self._url, self._headers, FileBodyProducer(BytesIO(body))
            )
            answer = await readBody(response)
            self._was_answered(begun, response.code, answer)

    def _was_answered(self, begun: float, status: int, answer: bytes) -> None:
        now = time.perf_counter()
        self._answered += 1
        if status != 200:
            self.fail(f"the daemon does not publish: status {status}{_hint(status)}", FAILED)
            return
        try:
            told = msgspec.json.decode(answer, type=_Answer)
        except msgspec.DecodeError:
            self.fail("what answers there is no Oni", UNREACHABLE)
            return
        if told.error is None:
            self._publishes.append(now - begun)
        else:
            self._refused += 1
            if self._refused == 1:
                self._progress.say(f"a publication is refused: {told.error.message}")
        self._look_for_the_end(now)

    def _look_for_the_end(self, now: float) -> None:
        if self._answered < self.load.messages:
            return
        self._finished = now
        if len(self._deliveries) >= len(self._publishes) * self.load.subscribers:
            self._finish()
        elif self._waiting is None:
            self._waiting = self._reactor.callLater(_LAST_ONES, self._finish)
        elif self._waiting.active():
            self._waiting.reset(_LAST_ONES)


def _hint(status: int) -> str:
    return {
        401: ", so it does not take the key: --config FILE, --key-file FILE or ONI_API_KEY",
        421: ", so it does not answer under this name: use --config FILE",
    }.get(status, "")
