"""Bytes become typed commands or one clean error."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import BadRequestError
from oni.protocol import (
    MAX_DEPTH,
    Command,
    Connect,
    History,
    NotAvailable,
    NotFound,
    Ping,
    Pong,
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
    decode_command,
    decode_json,
    split_frame,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


class FrameTests(SynchronousTestCase):
    """Tests of :func:`oni.protocol.split_frame`."""

    def test_one_command(self) -> None:
        """A frame may hold one command without a line feed."""
        self.assertEqual(split_frame('{"id":1}'), [b'{"id":1}'])

    def test_several(self) -> None:
        """Line feeds separate commands; empty lines are nothing."""
        self.assertEqual(split_frame(b'{"id":1}\n\n{"id":2}\n'), [b'{"id":1}', b'{"id":2}'])

    def test_empty(self) -> None:
        """A frame without a command is refused."""
        for frame in (b"", b"\n\n", b" ", ""):
            self.assertRaises(BadRequestError, split_frame, frame)

    def test_lone_surrogate(self) -> None:
        """A string that has no UTF-8 is refused."""
        self.assertRaises(BadRequestError, split_frame, "\ud800")


class CommandTests(SynchronousTestCase):
    """Tests of :func:`oni.protocol.decode_command`."""

    def test_connect(self) -> None:
        """Connect has a token and says who asks."""
        command = decode_command(b'{"id":1,"connect":{"token":"t","name":"js","version":"5"}}')
        self.assertIsInstance(command, Connect)
        self.assertEqual((command.id, command.token, command.name), (1, "t", "js"))

    def test_subscribe(self) -> None:
        """Subscribe names a channel and may say where it stands."""
        line = b'{"id":2,"subscribe":{"channel":"c","recover":true,"epoch":"x","offset":17}}'
        command = decode_command(line)
        self.assertIsInstance(command, Subscribe)
        self.assertEqual((command.channel, command.since), ("c", Since(17, "x")))

    def test_subscribe_from_now(self) -> None:
        """A position counts only where the client says that it wants what it missed."""
        line = b'{"id":2,"subscribe":{"channel":"c","epoch":"x","offset":17}}'
        self.assertIsNone(decode_command(line).since)

    def test_subscribe_options(self) -> None:
        """Subscribe may ask for positions, recovery, joins, and for an error at a gap."""
        wanted = '"positioned":true,"recoverable":true,"join_leave":true,"flag":3'
        command = decode_command(f'{{"id":2,"subscribe":{{"channel":"c",{wanted}}}}}'.encode())
        self.assertTrue(command.positioned)
        self.assertTrue(command.recoverable)
        self.assertTrue(command.join_leave)
        self.assertTrue(command.rejects_gap)
        plain = decode_command(b'{"id":2,"subscribe":{"channel":"c","flag":1}}')
        self.assertFalse(
            plain.positioned or plain.recoverable or plain.join_leave or plain.rejects_gap
        )

    def test_subscribe_filter(self) -> None:
        """A filter by tags arrives as a function of tags; a wrong one is named with its path."""
        tf = '{"op":"not","nodes":[{"key":"a","cmp":"eq","val":"1"}]}'
        line = f'{{"id":2,"subscribe":{{"channel":"c","tf":{tf}}}}}'.encode()
        wanted = decode_command(line).filter
        self.assertEqual((wanted({"a": "1"}), wanted({"a": "2"})), (False, True))
        error = _refusal(self, line.replace(b'"eq"', b'"resembles"'))
        self.assertEqual((error.field, error.command_id), ("subscribe.tf.nodes[0].cmp", 2))

    def test_connect_subs(self) -> None:
        """Connect tells where a client stands in the channels that the server gives it."""
        line = (
            b'{"id":1,"connect":{"headers":{"x":"y"},"subs":'
            b'{"a":{"recover":true,"epoch":"e","offset":3},"b":{"offset":9}}}}'
        )
        command = decode_command(line)
        self.assertEqual(command.subs, {"a": Since(3, "e")})
        self.assertEqual(command.headers, {"x": "y"})

    def test_history(self) -> None:
        """History has a limit, a position to start after, and a direction."""
        line = (
            b'{"id":6,"history":{"channel":"c","limit":-1,'
            b'"since":{"offset":4,"epoch":"e"},"reverse":true}}'
        )
        self.assertEqual(decode_command(line), History(6, "c", -1, Since(4, "e"), True))

    def test_publish(self) -> None:
        """The data of a publish stays as it came."""
        command = decode_command(b'{"id":3,"publish":{"channel":"c","data":{"a": 1.50}}}')
        self.assertIsInstance(command, Publish)
        self.assertEqual(bytes(command.data), b'{"a": 1.50}')

    def test_others(self) -> None:
        """The other commands have a type each."""
        for line, expected in (
            (b'{"id":4,"unsubscribe":{"channel":"c"}}', Unsubscribe(4, "c")),
            (b'{"id":5,"ping":{}}', Ping(5)),
            (b"{}", Pong()),
            (b'{"id":6,"history":{"channel":"c"}}', History(6, "c")),
            (b'{"id":6,"presence":{"channel":"c"}}', Presence(6, "c")),
            (b'{"id":6,"presence_stats":{"channel":"c"}}', PresenceCount(6, "c")),
            (b'{"id":7,"rpc":{"method":"m","data":[1]}}', Rpc(7, "m", Raw(b"[1]"))),
            (b'{"id":7,"rpc":{}}', Rpc(7, "", Raw(b"null"))),
            (b'{"id":7,"refresh":{"token":"t"}}', Refresh(7, "t")),
            (b'{"id":7,"sub_refresh":{"channel":"c","token":"t"}}', SubRefresh(7, "c", "t")),
            (b'{"id":7,"subscribe":{"channel":"c","type":1}}', NotAvailable(7, "subscribe")),
            (b'{"id":7,"publish":{"channel":"c","type":1}}', NotAvailable(7, "publish")),
            (b'{"id":7,"sub_refresh":{"channel":"c","type":2}}', NotAvailable(7, "sub_refresh")),
            (b'{"id":8}', NotFound(8)),
            (b'{"id":9,"dance":{}}', NotFound(9)),
        ):
            self.assertEqual(decode_command(line), expected)

    def test_send_has_no_id(self) -> None:
        """A message that nobody answers needs no id."""
        self.assertIsInstance(decode_command(b'{"send":{"data":{}}}'), Send)

    def test_unknown_members(self) -> None:
        """Members that the protocol does not know are ignored."""
        line = b'{"id":1,"new":[1],"subscribe":{"channel":"c","delta":"fossil","new":{}}}'
        self.assertEqual(decode_command(line).channel, "c")

    def test_id(self) -> None:
        """An id is a number of 32 bits above 0."""
        for bad in (b"-1", b"4294967296", b'"1"', b"1.5", b"true", b"null", b"9" * 5000):
            error = _refusal(self, b'{"id":' + bad + b',"ping":{}}')
            self.assertEqual((error.field, error.command_id), ("id", 0))
        self.assertEqual(_refusal(self, b'{"id":0,"ping":{}}').field, "id")
        self.assertEqual(_refusal(self, b'{"ping":{}}').field, "id")
        self.assertEqual(decode_command(b'{"id":4294967295,"ping":{}}').id, 4294967295)

    def test_wrong_field(self) -> None:
        """A wrong member is named with its path, and the command can be answered."""
        for line, path in (
            (b'{"id":3,"publish":{"channel":7,"data":1}}', "publish.channel"),
            (b'{"id":3,"publish":{"data":1}}', "publish.channel"),
            (b'{"id":3,"subscribe":{"channel":"c","offset":-1}}', "subscribe.offset"),
            (b'{"id":3,"subscribe":{"channel":"c","offset":1e400}}', "subscribe.offset"),
            (b'{"id":3,"connect":null}', "connect"),
            (b'{"id":3,"connect":{"token":{}}}', "connect.token"),
        ):
            error = _refusal(self, line)
            self.assertEqual((error.field, error.command_id), (path, 3), line)
            self.assertIn(path, str(error))

    def test_two_methods(self) -> None:
        """One command has one method."""
        error = _refusal(self, b'{"id":3,"ping":{},"connect":{}}')
        self.assertEqual(error.command_id, 3)

    def test_not_json(self) -> None:
        """What is not a JSON object cannot be answered."""
        for line in (b"hello", b"[]", b"null", b"1", b'"x"', b'{"id":1', b"\xff\xfe", b"\x00"):
            self.assertEqual(_refusal(self, line).command_id, 0, line)

    def test_bad_data(self) -> None:
        """Data must be JSON that every client can read."""
        for data in (
            b"NaN",
            b"Infinity",
            b"1e400",
            b"9" * 5000,
            b'"\xff"',
            b'"\\ud800"',
            b"01",
            b"'a'",
            b'"a\tb"',
        ):
            _refusal(self, b'{"id":3,"publish":{"channel":"c","data":' + data + b"}}")

    def test_deep(self) -> None:
        """Nesting is bounded, however deep it is, and never a RecursionError."""
        for depth in (MAX_DEPTH + 1, 1000, 30_000):
            for opening, closing in ((b"[", b"]"), (b'{"a":', b"1}")):
                data = opening * depth + closing * depth
                _refusal(self, b'{"id":3,"publish":{"channel":"c","data":' + data + b"}}")
                _refusal(self, b'{"id":3,"unknown":' + data + b"}")
                _refusal(self, opening * depth)

    def test_brackets_in_strings(self) -> None:
        """Brackets within strings, after escaped quotes too, are no nesting."""
        data = json.dumps('\\"' + "[{" * 500).encode()
        self.assertIsInstance(
            decode_command(b'{"id":3,"publish":{"channel":"c","data":' + data + b"}}"), Publish
        )

    def test_wide(self) -> None:
        """Many brackets side by side are no nesting either."""
        data = b"[" + b",".join([b"[]"] * 500) + b"]"
        self.assertIsInstance(
            decode_command(b'{"id":3,"publish":{"channel":"c","data":' + data + b"}}"), Publish
        )


class PropertyTests(SynchronousTestCase):
    """Whatever comes in."""

    @given(st.binary(max_size=200) | st.text(max_size=200))
    def test_any_bytes(self, frame: bytes | str) -> None:
        """Any frame gives commands or BadRequestError."""
        _decode_all(frame)

    @given(
        st.dictionaries(
            st.sampled_from(
                ["id", "connect", "subscribe", "publish", "send", "history", "rpc", "x"]
            ),
            JSON | st.fixed_dictionaries({"channel": JSON, "data": JSON, "offset": JSON}),
            max_size=3,
        )
    )
    def test_any_object(self, command: dict[str, object]) -> None:
        """Any JSON object gives a command or BadRequestError."""
        _decode_all(json.dumps(command))

    @given(st.integers(1, 2**32 - 1), st.text(st.characters(exclude_categories=["Cs"])), JSON)
    def test_publish_arrives(self, number: int, channel: str, data: object) -> None:
        """What a client encodes is what the server decodes."""
        line = json.dumps({"id": number, "publish": {"channel": channel, "data": data}})
        (encoded,) = split_frame(line)
        command = decode_command(encoded)
        self.assertEqual((command.id, command.channel), (number, channel))
        self.assertEqual(decode_json(command.data), data)


def _decode_all(frame: bytes | str) -> None:
    try:
        commands = [decode_command(line) for line in split_frame(frame)]
    except BadRequestError:
        return
    for command in commands:
        assert isinstance(command, Command), command


def _refusal(case: SynchronousTestCase, line: bytes) -> BadRequestError:
    return case.assertRaises(BadRequestError, decode_command, line)
