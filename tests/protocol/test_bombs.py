"""Small messages that are meant to cost much."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from timeit import Timer

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import BadRequestError
from oni.protocol import MAX_DEPTH, Publish, decode_command, decode_json

#: Seconds of processor time, with room for a slow and busy machine: the dearest of these takes 30
#: ms on a quiet one. What is to be seen here is a cost that grows faster than the message.
MOST = 0.25
PUBLISH = b'{"id":1,"publish":{"channel":"c","data":%s}}'
LONG = 30_000


def refused(line: bytes) -> bool:
    """Say whether a command is refused; anything else than that or a command is a failure."""
    try:
        decode_command(line)
    except BadRequestError:
        return True
    return False


def seconds(call: Callable[[], object]) -> float:
    """Give the processor time of a call, the best of five: others run on this machine, too."""
    return min(Timer(call, timer=time.thread_time).repeat(5, 1))


class BombTests(SynchronousTestCase):
    """Commands within 64 KiB."""

    def assert_cheap(self, data: bytes, is_refused: bool) -> None:
        """Expect a verdict, in little time."""
        line = PUBLISH % data
        self.assertLess(len(line), 65536)
        self.assertIs(refused(line), is_refused, data[:40])
        self.assertLess(seconds(lambda: refused(line)), MOST, data[:40])

    def test_depth(self) -> None:
        """Nesting is refused before anything recursive sees it; never a RecursionError."""
        self.assertEqual(MAX_DEPTH, 32)
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b"[{}, [", b"]]")):
            for times in (40, 1000, 60_000 // len(opening) // 2):
                self.assert_cheap(opening * times + b"1" + closing * times, True)
        self.assert_cheap(b"[" * 60_000, True)

    def test_depth_at_the_limit(self) -> None:
        """32 levels are taken, 33 are not; brackets in strings do not count."""
        around = 2  # the command's own
        for inner, is_refused in ((MAX_DEPTH - around, False), (MAX_DEPTH - around + 1, True)):
            self.assert_cheap(b"[" * inner + b"]" * inner, is_refused)
        self.assert_cheap(b'["' + b"[{" * LONG + b'"]', False)
        self.assert_cheap(b'["' + b'\\"[' * 20_000 + b'"]', False)
        self.assertRaises(BadRequestError, decode_json, b"[" * 33 + b"]" * 33)
        decode_json(b"[" * 32 + b"]" * 32)

    def test_strings_that_do_not_end(self) -> None:
        """Finding the strings takes no longer where they are none."""
        self.assert_cheap(b'"' + b"[\\" * LONG, True)
        self.assert_cheap(b'"' * 60_001 + b"[" * 40, True)
        self.assert_cheap(b'"\\' * LONG, True)

    def test_many(self) -> None:
        """Very many members, elements and commands."""
        members = b",".join(b'"%d":1' % number for number in range(6000))
        self.assert_cheap(b"{%s}" % members, False)
        self.assert_cheap(b"[%s0]" % (b"[]," * 20_000), False)

    def test_numbers(self) -> None:
        """Numbers that JSON does not have, or that nobody can hold, are refused."""
        for number in (b"NaN", b"-Infinity", b"1e999", b"1e" + b"9" * 60_000, b"9" * 60_000):
            self.assert_cheap(number, True)
        self.assert_cheap(b"0." + b"9" * 60_000, False)

    def test_same_name_twice(self) -> None:
        """The last one counts, for everybody who looks."""
        line = b'{"id":1,"id":2,"publish":{"channel":"a","channel":"b","data":1,"data":2}}'
        command = decode_command(line)
        self.assertEqual(command, Publish(2, "b", data=command.data))  # type: ignore[union-attr]
        self.assertEqual(bytes(command.data), b"2")  # type: ignore[union-attr]
        self.assertEqual(json.loads(line)["publish"], {"channel": "b", "data": 2})

    def test_not_unicode_in_an_unknown_name(self) -> None:
        """A binary message may hold anything, also where nobody looks."""
        for line in (b'{"send|\xfb\xbe": {}}', b'{"\xff":1}'):
            self.assertRaises(BadRequestError, decode_command, line)
