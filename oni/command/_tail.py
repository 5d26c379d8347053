"""A live tail of channels: connects, prints, and comes back when the connection is lost."""

from __future__ import annotations

import random
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from oni.command._conversation import (
    Connected,
    Conversation,
    Ended,
    Gap,
    Happening,
    NoOniError,
    Published,
    Refreshed,
    Refused,
    Subscribed,
)
from oni.command._failures import FAILED, UNREACHABLE, NoAnswerError
from oni.command._http import why_not_reached
from oni.command._link import Link, open_link
from oni.command._show import Printer, note, one_line, position_text
from oni.command._target import Target
from oni.protocol import CLOSES, CloseCode, ErrorCode
from oni.values import Position

__all__ = ["Tail"]

_FIRST_WAIT = 0.5  # seconds before the second try to connect; each further one waits twice as long
_LONGEST_WAIT = 20.0
_GRACE = 10.0  # seconds after which a missing ping means that nobody is there
_TOKEN_EXPIRED = ErrorCode.TOKEN_EXPIRED.code
_GOODBYE = 3.0  # seconds for a close in order


class Tail:
    """Prints what is published on channels.

    Args:
        target: Where.
        channels: Which, each with the position to begin after, None for now.
        printer: Prints it.
        reactor: The reactor.
        event: Only publications of this name.
        count: How many, None for all.
        quiet: Whether notes for people are left out.
        token: Gives a token for each connection.
        connect: Opens a link.

    Attributes:
        exit_code: How it ended.
    """

    def __init__(
        self,
        target: Target,
        channels: Mapping[str, Position | None],
        printer: Printer,
        reactor: Any,
        event: str | None = None,
        count: int | None = None,
        quiet: bool = False,
        token: Callable[[], str] | None = None,
        connect: Callable[..., Deferred[Link]] = open_link,
    ) -> None:
        self.exit_code = 0
        self._target = target
        self._channels = tuple(channels)
        self._talk = Conversation(channels, "oni sub", event)
        self._printer = printer
        self._reactor = reactor
        self._left = count
        self._quiet = quiet
        self._token = token
        self._connect = connect
        self._end: Callable[[], None] | None = None
        self._link: Link | None = None
        self._timers: dict[str, IDelayedCall] = {}
        self._shown: str | None = None
        self._tries = 0
        self._was_connected = False
        self._printed = 0
        self._ping = 0.0
        self._gone: Deferred[None] | None = None
        self._stopping = False

    # --- The program ----------------------------------------------------------------------------

    def start(self, end: Callable[[], None]) -> None:
        """Connect."""
        self._end = end
        self._try()

    def stop(self, by_signal: bool) -> Deferred[None] | None:
        """Say the last word, and close the connection in order."""
        self._stopping = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        if by_signal or self.exit_code == 0:
            self._say(self._last_word())
        link = self._link
        if link is None or not link.is_up:
            return None
        gone: Deferred[None] = Deferred()
        self._gone = gone
        gone.addTimeout(_GOODBYE, self._reactor).addErrback(lambda _: link.abort())
        link.end()
        return gone

    def _last_word(self) -> str:
        many = "1 publication" if self._printed == 1 else f"{self._printed} publications"
        places = {
            channel: position
            for channel, position in self._talk.positions.items()
            if position is not None
        }
        if not places:
            return f"ended after {many}"
        named = len(self._channels) > 1
        options = (
            shlex.join(["--since", (f"{name}=" if named else "") + position_text(at)])
            for name, at in places.items()
        )
        return f"ended after {many}; go on with: {' '.join(options)}"

    # --- Connections ----------------------------------------------------------------------------

    def _try(self) -> None:
        try:
            connecting = self._connect(self._target, self, self._reactor)
        except NoAnswerError as error:
            self._fail(error.format_message(), UNREACHABLE)
            return
        connecting.addCallbacks(self._made, self._not_made)

    def _made(self, link: Link) -> None:
        self._link = link

    def _not_made(self, failure: Failure) -> None:
        self._lost(why_not_reached(self._target, failure.value))

    def opened(self, link: Link) -> None:
        """Begin to talk."""
        self._link = link
        self._shown = None if self._token is None else self._token()
        link.send(self._talk.opened(self._shown))
        self._expect_sign(self._target.timeout)

    def received(self, link: Link, frame: bytes) -> None:
        """Take what the daemon says."""
        if self._stopping:
            return
        try:
            answer, happened = self._talk.received(frame)
        except NoOniError:
            link.abort()
            self._fail(f"{self._target.address}: what answers there is no Oni", UNREACHABLE)
            return
        link.send(answer)
        if self._ping:
            self._expect_sign(self._ping + _GRACE)
        self._tell_all(happened)

    def _tell_all(self, happened: Sequence[Happening]) -> None:
        try:
            for happening in happened:
                if not self._stopping:
                    self._tell(happening)
        except BrokenPipeError:  # whoever read has enough
            self._finish()
        except OSError as error:
            self._fail(f"what is heard cannot be written: {error.strerror or error}", FAILED)

    def closed(self, link: Link, code: int, reason: str) -> None:
        """Come back, unless the daemon has said not to."""
        self._link = None
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone.callback(None)
        if self._stopping:
            return
        known = CLOSES.get(code)
        if 3500 <= code <= 3999 or 4500 <= code <= 4999:
            hint = ""
            if known is CloseCode.INVALID_TOKEN:
                hint = "; say who you are: --token-file, ONI_TOKEN, or --config with --user"
            self._fail(f"the daemon has closed the connection: {reason} ({code}){hint}", FAILED)
            return
        self._lost(f"{reason} ({code})" if code >= 3000 else reason)

    def _lost(self, reason: str) -> None:
        """Try again after a while, if it has ever worked."""
        self._stop_timer("sign")
        self._stop_timer("refresh")
        if self._stopping:
            return
        if not self._was_connected:
            address = self._target.address
            known = reason if address in reason else f"{address}: {reason}"
            self._fail(known, UNREACHABLE)
            return
        wait = min(_FIRST_WAIT * 2**self._tries, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
        self._tries += 1
        self._say(f"not connected: {reason}; trying again in {wait:.1f} s")
        self._set_timer("retry", wait, self._try)

    def _expect_sign(self, seconds: float) -> None:
        """Give up the connection if nothing is heard for so long."""
        self._set_timer("sign", seconds, self._deaf)

    def _deaf(self) -> None:
        if self._link is not None:
            self._link.abort()

    # --- What happens ---------------------------------------------------------------------------

    def _tell(self, happening: Happening) -> None:
        if isinstance(happening, Published):
            self._publication(happening)
        elif isinstance(happening, Subscribed):
            self._tries = 0
            if not happening.again:
                at = position_text(happening.position)
                self._say(f"subscribed to {happening.channel} at {at}")
            elif self._was_connected:
                self._say(f"subscribed to {happening.channel} again")
        elif isinstance(happening, Gap):
            self._printer.gap(happening.channel, happening.position)
            self._say(
                f"GAP in {happening.channel}: what came between {position_text(happening.since)} "
                f"and {position_text(happening.position)} is not all there any more"
            )
        elif isinstance(happening, Connected):
            self._connected(happening)
        elif isinstance(happening, Refreshed):
            self._refresh_after(happening.ttl)
        elif isinstance(happening, Ended):
            self._refused(happening.channel, f"{happening.reason} ({happening.code})")
        elif not happening.channel and happening.code == _TOKEN_EXPIRED and self._has_no_other():
            self._fail("the token has expired: make another one", FAILED)
        elif not happening.temporary:
            self._refused(happening.channel, f"{happening.message} ({happening.code})")
        else:
            self._later(happening)

    def _publication(self, found: Published) -> None:
        self._printer.publication(found.channel, found.position, found.tags, found.data)
        self._printed += 1
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._finish()

    def _connected(self, told: Connected) -> None:
        self._was_connected = True
        self._ping = told.ping
        if told.ping:
            self._expect_sign(told.ping + _GRACE)
        else:
            self._stop_timer("sign")
        self._refresh_after(told.ttl)

    def _refresh_after(self, ttl: float) -> None:
        """Refresh the session before its time is over."""
        if ttl and self._token is not None:
            self._set_timer("refresh", max(ttl * 0.8, 1.0), self._refresh)

    def _has_no_other(self) -> bool:
        """Say whether the token is always the same."""
        return self._token is not None and self._token() == self._shown

    def _refresh(self) -> None:
        if self._link is not None and self._token is not None:
            self._link.send(self._talk.refresh(self._token()))

    def _refused(self, channel: str, reason: str) -> None:
        """Do without a channel; without any, end."""
        if not channel:
            # Its close code follows, and says whether to come back.
            self._say(f"the daemon refuses: {one_line(reason)}")
            return
        self._talk.positions.pop(channel, None)
        text = f"{one_line(channel)}: the daemon refuses: {one_line(reason)}"
        if self._talk.positions:
            note(text)
            self.exit_code = FAILED
        else:
            self._fail(text, FAILED)

    def _later(self, refused: Refused) -> None:
        """Ask again for a channel that is only not there for now."""
        link, channel = self._link, refused.channel
        if link is not None and channel in self._talk.positions:
            self._set_timer(
                f"again {channel}", 1.0, lambda: link.send(self._talk.subscribe([channel]))
            )

    # --- Ends -----------------------------------------------------------------------------------

    def _fail(self, reason: str, exit_code: int) -> None:
        self.exit_code = exit_code
        note(reason)
        self._finish()

    def _finish(self) -> None:
        self._stopping = True
        if self._end is not None:
            self._end()

    def _say(self, text: str) -> None:
        if not self._quiet:
            note(text)

    def _set_timer(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        self._stop_timer(name)
        self._timers[name] = self._reactor.callLater(seconds, call)

    def _stop_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None and timer.active():
            timer.cancel()
