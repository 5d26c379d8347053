"""The live tail, on a clock and with links of the test's own."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.command._show import Printer
from oni.command._tail import Tail
from oni.command._target import target_of_url
from oni.values import Position


class Link:
    """A connection that a test plays."""

    def __init__(self, tail: Tail) -> None:
        self.tail: Any = tail
        self.is_up = True
        self.sent: list[Any] = []
        self.aborted = False
        self.ended = False

    def send(self, frame: bytes) -> None:
        """Remember."""
        self.sent += [json.loads(line) for line in frame.splitlines()]

    def end(self) -> None:
        """Remember."""
        self.ended = True

    def abort(self) -> None:
        """Remember, and be over."""
        self.aborted = True
        self.close(1006, "the connection was lost")

    def close(self, code: int, reason: str) -> None:
        """End."""
        self.is_up = False
        self.tail.closed(self, code, reason)

    def tell(self, *messages: Any) -> None:
        """Let the daemon say something."""
        self.tail.received(self, b"\n".join(json.dumps(m).encode() for m in messages))


class TailTestCase(SynchronousTestCase):
    """A tail of ``news`` and ``sports``."""

    channels: Mapping[str, Position | None] = {"news": None, "sports": None}

    def setUp(self) -> None:
        """Begin."""
        self.clock = Clock()
        self.links: list[Link] = []
        self.refuses = False
        self.ends = 0
        self.output, self.notes = io.StringIO(), io.StringIO()
        for name, stream in (("stdout", self.output), ("stderr", self.notes)):
            patcher = patch(f"sys.{name}", stream)
            patcher.start()
            self.addCleanup(patcher.stop)

    def make(self, **options: Any) -> Tail:
        """Make a tail, and start it."""
        as_json = options.pop("as_json", False)
        target = target_of_url("http://127.0.0.1:8000")
        self.tail = Tail(
            target,
            self.channels,
            Printer(as_json),
            self.clock,
            connect=self.connect,
            **options,
        )
        self.tail.start(self.end)
        return self.tail

    def end(self) -> None:
        """Count."""
        self.ends += 1

    def connect(self, target: Any, tail: Any, reactor: Any) -> Deferred[Any]:
        """Give a link, or refuse."""
        if self.refuses:
            return fail(ConnectionRefusedError(osError=111))
        link = Link(tail)
        self.links.append(link)
        return succeed(link)

    def subscribed(self, **options: Any) -> Link:
        """Connect and subscribe."""
        self.make(**options)
        return self.welcome()

    def welcome(self) -> Link:
        """Let the newest link be subscribed to everything."""
        link = self.links[-1]
        link.tail.opened(link)
        link.tell({"id": 1, "connect": {"client": "c", "ping": 25, "pong": True}})
        for command in link.sent[1:]:
            link.tell({"id": command["id"], "subscribe": {"epoch": "e", "offset": 1}})
        return link

    def publish(self, link: Link, offset: int, channel: str = "news") -> None:
        """Let something be published."""
        link.tell({"push": {"channel": channel, "pub": {"data": offset, "offset": offset}}})


class Tails(TailTestCase):
    """The usual way."""

    def test_prints(self) -> None:
        """What is published is printed, at once."""
        link = self.subscribed()
        self.publish(link, 2)
        self.publish(link, 2, "sports")
        self.assertEqual(
            "news\te:2\tmessage\t2\nsports\te:2\tmessage\t2\n", self.output.getvalue()
        )

    def test_count(self) -> None:
        """With a count it ends after so many, and prints no more."""
        link = self.subscribed(count=2)
        for offset in (2, 3, 4):
            self.publish(link, offset)
        self.assertEqual((1, 0), (self.ends, self.tail.exit_code))
        self.assertEqual(2, self.output.getvalue().count("\n"))

    def test_last_word(self) -> None:
        """A signal ends it with how much there was, and how to go on."""
        link = self.subscribed()
        self.publish(link, 2)
        stopped = self.tail.stop(by_signal=True)
        self.assertTrue(link.ended)
        link.close(1000, "")
        assert stopped is not None
        self.successResultOf(stopped)
        word = self.notes.getvalue().splitlines()[-1]
        self.assertEqual(
            "oni: ended after 1 publication; go on with: --since news=e:2 --since sports=e:1", word
        )
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, self.tail.exit_code)

    def test_daemon_that_does_not_answer(self) -> None:
        """The end does not wait for ever for the daemon's part of the close."""
        link = self.subscribed()
        stopped = self.tail.stop(by_signal=True)
        assert stopped is not None
        self.assertNoResult(stopped)
        self.clock.advance(3)
        self.successResultOf(stopped)
        self.assertTrue(link.aborted)

    def test_end_without_connection(self) -> None:
        """Ctrl-C while it tries to connect ends at once."""
        with patch.object(self, "connect", return_value=Deferred()):
            self.make()
        self.assertIsNone(self.tail.stop(by_signal=True))
        self.assertEqual("oni: ended after 0 publications\n", self.notes.getvalue())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_quiet(self) -> None:
        """Quiet means no notes."""
        self.subscribed(quiet=True)
        self.tail.stop(by_signal=True)
        self.assertEqual("", self.notes.getvalue())

    def test_nobody_reads(self) -> None:
        """When whoever reads has enough, it ends well."""
        link = self.subscribed()
        with patch.object(self.output, "write", side_effect=BrokenPipeError):
            self.publish(link, 2)
        self.assertEqual((1, 0), (self.ends, self.tail.exit_code))

    def test_full_disk(self) -> None:
        """When its output cannot be written, it says so, and does not go on without."""
        link = self.subscribed()
        with patch.object(self.output, "write", side_effect=OSError(28, "No space left")):
            self.publish(link, 2)
        self.assertEqual((1, 1), (self.ends, self.tail.exit_code))
        self.assertIn("No space left", self.notes.getvalue())


class Reconnecting(TailTestCase):
    """When the connection is lost."""

    def test_comes_back(self) -> None:
        """It connects again after a while, and asks for what it missed."""
        link = self.subscribed()
        self.publish(link, 2)
        link.close(3001, "shutdown")
        self.assertIn("not connected: shutdown (3001); trying again", self.notes.getvalue())
        self.clock.advance(0.5)
        second = self.welcome()
        self.assertIsNot(link, second)
        self.assertEqual(
            [("news", "e", 2), ("sports", "e", 1)],
            [
                (said["channel"], said["epoch"], said["offset"])
                for said in (command["subscribe"] for command in second.sent[1:])
            ],
        )

    def test_waits_longer(self) -> None:
        """Each try waits longer, up to a bound; after a success it begins anew."""
        link = self.subscribed()
        self.refuses = True
        link.close(1006, "gone")
        with patch("random.uniform", return_value=1.0):
            waits = []
            for _ in range(9):
                (timer,) = self.clock.getDelayedCalls()
                waits.append(timer.getTime() - self.clock.seconds())
                self.clock.advance(waits[-1])
        self.assertEqual([1, 2, 4, 8, 16, 20, 20, 20], [round(wait) for wait in waits[1:]])
        self.refuses = False
        (timer,) = self.clock.getDelayedCalls()
        self.clock.advance(timer.getTime() - self.clock.seconds())
        self.welcome().close(1006, "gone")
        (timer,) = self.clock.getDelayedCalls()
        self.assertLessEqual(timer.getTime() - self.clock.seconds(), 0.5)

    def test_silence(self) -> None:
        """A daemon that does not ping is gone."""
        link = self.subscribed()
        self.clock.advance(30)
        link.tell({})
        self.clock.advance(34)
        self.assertFalse(link.aborted)
        self.clock.advance(1)
        self.assertTrue(link.aborted)

    def test_silence_at_the_begin(self) -> None:
        """So is one that does not answer the connect."""
        self.make()
        link = self.links[0]
        self.tail.opened(link)  # type: ignore[arg-type]
        self.clock.advance(10)
        self.assertEqual((True, 3), (link.aborted, self.tail.exit_code))

    def test_gap(self) -> None:
        """What cannot be recovered is told, to people and to programs."""
        link = self.subscribed(as_json=True)
        link.close(1006, "gone")
        self.clock.advance(0.5)
        second = self.links[-1]
        self.tail.opened(second)  # type: ignore[arg-type]
        second.tell({"id": 1, "connect": {}})
        told = {"epoch": "f", "offset": 9, "was_recovering": True}
        second.tell({"id": second.sent[1]["id"], "subscribe": told})
        self.assertIn("GAP in news: what came between e:1 and f:9", self.notes.getvalue())
        self.assertEqual(
            {"channel": "news", "epoch": "f", "offset": 9, "gap": True},
            json.loads(self.output.getvalue()),
        )

    def test_refresh(self) -> None:
        """A session that expires is refreshed with a new token, before its time."""
        made: list[str] = []

        def token() -> str:
            made.append(f"token {len(made)}")
            return made[-1]

        self.make(token=token)
        link = self.links[0]
        self.tail.opened(link)  # type: ignore[arg-type]
        self.assertEqual("token 0", link.sent[0]["connect"]["token"])
        link.tell({"id": 1, "connect": {"expires": True, "ttl": 100}})
        self.clock.advance(80)
        self.assertEqual({"id": 2, "refresh": {"token": "token 1"}}, link.sent[-1])
        link.tell({"id": 2, "refresh": {"expires": True, "ttl": 10}})
        self.clock.advance(8)
        self.assertEqual({"id": 2, "refresh": {"token": "token 2"}}, link.sent[-1])


class Refusals(TailTestCase):
    """When the daemon does not want."""

    def test_nobody_there(self) -> None:
        """A first connection that fails ends it: the address may be wrong."""
        self.refuses = True
        self.make()
        self.assertEqual((1, 3), (self.ends, self.tail.exit_code))
        self.assertIn("http://127.0.0.1:8000 cannot be reached: Connection", self.notes.getvalue())

    def test_no_websocket(self) -> None:
        """So does one that becomes no websocket."""
        self.make()
        self.links[0].close(1006, "there is no websocket: status 404")
        self.assertEqual((1, 3), (self.ends, self.tail.exit_code))
        self.assertIn("http://127.0.0.1:8000: there is no websocket", self.notes.getvalue())

    def test_expired_token(self) -> None:
        """With a token that has expired, and no other, it does not come back for ever."""
        self.make(token=lambda: "old")
        self.welcome().close(3005, "connection expired")
        self.clock.advance(1)
        link = self.links[1]
        self.tail.opened(link)  # type: ignore[arg-type]
        link.tell({"id": 1, "error": {"code": 109, "message": "token expired"}})
        link.close(3005, "connection expired")
        self.assertEqual((1, 1), (self.ends, self.tail.exit_code))
        self.assertIn("the token has expired", self.notes.getvalue())

    def test_another_token(self) -> None:
        """Where another token is made each time, it comes back."""
        self.make(token=lambda: f"token {len(self.links)}")
        self.welcome().close(3005, "connection expired")
        self.clock.advance(1)
        link = self.links[1]
        self.tail.opened(link)  # type: ignore[arg-type]
        self.links.append(link)  # time passes
        link.tell({"id": 1, "error": {"code": 109, "message": "token expired"}})
        link.close(3005, "connection expired")
        self.assertEqual((0, 0), (self.ends, self.tail.exit_code))

    def test_closed_for_good(self) -> None:
        """A close code that says so ends it, with the way out."""
        link = self.subscribed()
        link.close(3500, "invalid token")
        self.assertEqual((1, 1), (self.ends, self.tail.exit_code))
        self.assertIn("invalid token (3500); say who you are: --token-file", self.notes.getvalue())

    def test_one_channel_refused(self) -> None:
        """A channel that is refused is told; the others go on."""
        self.make()
        link = self.links[0]
        self.tail.opened(link)  # type: ignore[arg-type]
        link.tell({"id": 1, "connect": {}})
        denied = {"code": 103, "message": "permission denied"}
        link.tell({"id": link.sent[1]["id"], "error": denied})
        self.assertIn("news: the daemon refuses: permission denied (103)", self.notes.getvalue())
        self.assertEqual((0, 1), (self.ends, self.tail.exit_code))
        link.tell({"id": link.sent[2]["id"], "error": denied})
        self.assertEqual((1, 1), (self.ends, self.tail.exit_code))

    def test_for_now(self) -> None:
        """What is refused only for now is asked for again."""
        self.make()
        link = self.links[0]
        self.tail.opened(link)  # type: ignore[arg-type]
        link.tell({"id": 1, "connect": {}})
        busy = {"code": 100, "message": "internal server error", "temporary": True}
        link.tell({"id": link.sent[1]["id"], "error": busy})
        said = len(link.sent)
        self.clock.advance(1)
        self.assertEqual(["news"], [found["subscribe"]["channel"] for found in link.sent[said:]])

    def test_sent_away(self) -> None:
        """Unsubscribed by the daemon from all, it ends."""
        link = self.subscribed()
        for channel in self.channels:
            push = {"channel": channel, "unsubscribe": {"code": 2000, "reason": "enough"}}
            link.tell({"push": push})
        self.assertIn("sports: the daemon refuses: enough (2000)", self.notes.getvalue())
        self.assertEqual((1, 1), (self.ends, self.tail.exit_code))

    def test_no_protocol(self) -> None:
        """What does not speak the protocol is no Oni."""
        link = self.subscribed()
        self.tail.received(link, b"<html>")  # type: ignore[arg-type]
        self.assertEqual((1, 3, True), (self.ends, self.tail.exit_code, link.aborted))
        self.assertIn("is no Oni", self.notes.getvalue())
