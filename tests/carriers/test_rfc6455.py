"""A table of what RFC 6455 says about frames, and what the carrier does with each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from twisted.internet.testing import MemoryReactorClock, StringTransport

from oni.carriers import CarrierLimits, WebSocketCarrierFactory
from tests.carriers import wire
from tests.carriers.wire import BINARY, CLOSE, PING, PONG, TEXT

LIMIT = 70_000
CONTINUATION = 0
MASK = b"\x0f\xf0\xaa\x55"

PROTOCOL_ERROR, NOT_UTF8, TOO_BIG = 1002, 1007, 1009
DEVIL = "κόσμε€😀"
EURO = "€".encode()


class Case(NamedTuple):
    """What a client sends, what the owner hears, and with what the carrier answers.

    Attributes:
        section: Where the RFC says so.
        name: What it shows.
        sent: The client's bytes after the handshake.
        heard: The messages that the owner is given.
        pongs: What pongs bring back, in order.
        closed: The code of the carrier's close frame, 0 for a close without one, None where the
            connection stays open.
    """

    section: str
    name: str
    sent: bytes
    heard: tuple[bytes, ...] = ()
    pongs: tuple[bytes, ...] = ()
    closed: int | None = None


class Frames:
    """An owner that keeps messages."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ends = 0

    def received(self, frame: bytes) -> None:
        """Keep it."""
        self.heard.append(frame)

    def was_read(self) -> None:
        """Nothing depends on it."""

    def connection_lost(self) -> None:
        """Count."""
        self.ends += 1


class Wire(StringTransport):
    """A transport that can be aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """Remember."""
        self.aborted = True
        self.disconnecting = True


class Connection:
    """An open websocket on a clock."""

    def __init__(self) -> None:
        self.reactor = MemoryReactorClock()
        self.owner = Frames()
        self.factory = WebSocketCarrierFactory(
            lambda carrier: self.owner,  # type: ignore[arg-type, return-value]
            CarrierLimits(max_message_bytes=LIMIT, max_fragments=1000),
            self.reactor,
        )
        self.carrier: Any = self.factory.buildProtocol(None)
        self.transport = Wire()
        self.carrier.makeConnection(self.transport)
        self.carrier.dataReceived(wire.upgrade())
        self.transport.clear()

    def send(self, data: bytes, step: int) -> None:
        """Send bytes, so many at a time; a closed connection takes no more."""
        for start in range(0, len(data), step):
            if self.transport.disconnecting:
                return
            self.carrier.dataReceived(data[start : start + step])
        self.reactor.advance(0)

    def answers(self) -> list[tuple[int, bytes]]:
        """Give the carrier's frames, each looked at as a strict client would."""
        return list(strict_frames(self.transport.value()))


def strict_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Read a server's frames: whole, without reserved bits or mask, lengths as short as can be."""
    while data:
        assert data[0] & 0xF0 == 0x80, "a fragment, or a reserved bit"
        size, start, least = data[1], 2, 0
        assert size < 128, "a server does not mask"
        if size == 126:
            size, start, least = int.from_bytes(data[2:4], "big"), 4, 126
        elif size == 127:
            size, start, least = int.from_bytes(data[2:10], "big"), 10, 65536
        assert size >= least, "a length that is not minimal"
        assert len(data) >= start + size, "half a frame"
        yield data[0] & 15, data[start : start + size]
        data = data[start + size :]


def frame(
    payload: bytes | str = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes = MASK,
    width: int = 0,
) -> bytes:
    """Write a frame, also one that nobody should.

    Args:
        payload: Its payload.
        opcode: What kind it is.
        fin: Whether the message ends with it.
        reserved: The three reserved bits.
        mask: The masking key, empty for none.
        width: Bytes in which the length is told, at least.
    """
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([fin << 7 | reserved << 4 | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    if size > 65535 or width == 8:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    elif size > 125 or width == 2:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | size])
    if not mask:
        return head + payload
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def head(size: int, opcode: int = TEXT, fin: bool = True) -> bytes:
    """Write the head of a frame, of which nothing more comes."""
    first = fin << 7 | opcode
    if size > 65535:
        return bytes([first, 0xFF]) + size.to_bytes(8, "big") + MASK
    return bytes([first, 0xFE]) + size.to_bytes(2, "big") + MASK


def close(code: int, reason: bytes = b"") -> bytes:
    """Write a close frame."""
    return frame(code.to_bytes(2, "big") + reason, CLOSE)


def pieces(*payloads: bytes | str, opcode: int = TEXT) -> bytes:
    """Write a message in fragments."""
    last = len(payloads) - 1
    return b"".join(
        frame(payload, CONTINUATION if number else opcode, fin=number == last)
        for number, payload in enumerate(payloads)
    )


def framing() -> Iterator[Case]:
    """Lengths, masks, reserved bits and opcodes."""
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536, LIMIT):
        text = b"x" * size
        yield Case("5.2", f"text of {size} bytes", frame(text), (text,))
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        yield Case("5.6", f"binary of {size} bytes", frame(data, BINARY), (data,))
    yield Case("5.2", "two frames at once", frame("a") + frame("b"), (b"a", b"b"))
    for width in (2, 8):
        yield Case(
            "5.2",
            f"length in {width} bytes for 5",
            frame("hello", width=width),
            (),
            (),
            PROTOCOL_ERROR,
        )
    yield Case(
        "5.2", "length in 8 bytes for 300", frame("x" * 300, width=8), (), (), PROTOCOL_ERROR
    )
    yield Case("5.2", "length with its highest bit", head(2**63), (), (), PROTOCOL_ERROR)
    yield Case("5.3", "a mask of zeros", frame("hello", mask=bytes(4)), (b"hello",))
    yield Case("5.1", "text without mask", frame("hello", mask=b""), (), (), PROTOCOL_ERROR)
    yield Case("5.1", "ping without mask", frame("hi", PING, mask=b""), (), (), PROTOCOL_ERROR)
    yield Case(
        "5.1", "close without mask", frame(b"\x03\xe8", CLOSE, mask=b""), (), (), PROTOCOL_ERROR
    )
    for reserved in range(1, 8):
        sent = frame("x", reserved=reserved)
        yield Case("5.2", f"reserved bits {reserved:03b}", sent, (), (), PROTOCOL_ERROR)
        sent = frame("x", PING, reserved=reserved)
        yield Case("5.2", f"reserved bits {reserved:03b} on a ping", sent, (), (), PROTOCOL_ERROR)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        sent = frame("x", opcode)
        yield Case("5.2", f"reserved opcode {opcode}", sent, (), (), PROTOCOL_ERROR)
        sent = frame("a") + frame(b"", opcode) + frame("b")
        yield Case("5.2", f"opcode {opcode} after a text", sent, (b"a",), (), PROTOCOL_ERROR)


def fragmentation() -> Iterator[Case]:
    """Messages in pieces."""
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        yield Case("5.4", f"{name} in two", pieces("ab", "cd", opcode=opcode), (b"abcd",))
        yield Case("5.4", f"{name} in empty pieces", pieces("", "", "", opcode=opcode), (b"",))
        yield Case("5.4", f"{name} in one and an end", pieces("ab", "", opcode=opcode), (b"ab",))
        letters = [bytes([65 + i % 26]) for i in range(300)]
        sent = pieces(*letters, opcode=opcode)
        yield Case("5.4", f"{name} letter by letter", sent, (b"".join(letters),))
    first, last = frame("ab", fin=False), frame("cd", CONTINUATION)
    yield Case("5.4", "a ping between", first + frame("?", PING) + last, (b"abcd",), (b"?",))
    yield Case("5.4", "a pong between", first + frame("!", PONG) + last, (b"abcd",))
    yield Case("5.4", "a close between", first + close(1000) + last, (), (), 1000)
    yield Case("5.4", "a new text between", first + frame("x") + last, (), (), PROTOCOL_ERROR)
    yield Case("5.4", "a new binary between", first + frame("x", BINARY), (), (), PROTOCOL_ERROR)
    yield Case("5.4", "a last piece of nothing", last, (), (), PROTOCOL_ERROR)
    sent = frame("x", CONTINUATION, fin=False)
    yield Case("5.4", "a piece of nothing", sent, (), (), PROTOCOL_ERROR)
    sent = first + last + frame("x", CONTINUATION)
    yield Case("5.4", "a piece after the last", sent, (b"abcd",), (), PROTOCOL_ERROR)
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        sent = frame(b"\x03\xe8", opcode, fin=False)
        yield Case("5.5", f"a {name} in pieces", sent, (), (), PROTOCOL_ERROR)
        sent = frame(b"\x03\xe8" + b"x" * 124, opcode)
        yield Case("5.5", f"a {name} of 126 bytes", sent, (), (), PROTOCOL_ERROR)


def control() -> Iterator[Case]:
    """Pings, pongs and how a connection is closed."""
    for payload in (b"", b"hi", b"\x00\xff\xfe", b"x" * 125):
        sent = frame(payload, PING)
        yield Case("5.5.2", f"ping of {len(payload)} bytes", sent, (), (payload,))
    pings = tuple(b"%d" % number for number in range(10))
    sent = b"".join(frame(payload, PING) for payload in pings)
    yield Case("5.5.3", "pongs in the order of pings", sent, (), pings)
    yield Case("5.5.3", "a pong that nobody asked for", frame("x", PONG) + frame("a"), (b"a",))
    yield Case("5.5.1", "a close without a code", frame(b"", CLOSE), (), (), 0)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case("7.4.1", f"close with {code}", close(code), (), (), code)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case("7.4.1", f"close with {code}", close(code), (), (), PROTOCOL_ERROR)
    yield Case("5.5.1", "a close of one byte", frame(b"\x03", CLOSE), (), (), PROTOCOL_ERROR)
    yield Case("5.5.1", "a long reason", close(1000, b"x" * 123), (), (), 1000)
    yield Case("5.5.1", "a reason that is not UTF-8", close(1000, b"\xff"), (), (), NOT_UTF8)
    yield Case("5.5.1", "half a character as reason", close(1000, EURO[:2]), (), (), NOT_UTF8)
    sent = close(1000) + frame("late") + frame("late", PING) + close(1001)
    yield Case("5.5.1", "frames after a close", sent, (), (), 1000)
    sent = frame("x", 3) + frame("late") + frame("late", PING)
    yield Case("7.1.7", "frames after a violation", sent, (), (), PROTOCOL_ERROR)


def utf8() -> Iterator[Case]:
    """Text, wherever its bytes are cut."""
    whole = DEVIL.encode()
    yield Case("8.1", "text beyond ASCII", frame(whole), (whole,))
    for cut in range(1, len(whole)):
        sent = pieces(whole[:cut], whole[cut:])
        yield Case("5.6", f"cut at byte {cut}", sent, (whole,))
    yield Case("5.6", "one byte a piece", pieces(*(bytes([byte]) for byte in whole)), (whole,))
    sent = frame(EURO[:1], fin=False) + frame("?", PING) + frame(EURO[1:], CONTINUATION)
    yield Case("5.6", "a ping within a character", sent, (EURO,), (b"?",))
    for name, bad in (
        ("a lone continuation byte", b"\x80"),
        ("a byte that never occurs", b"\xff"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong zero", b"\xe0\x80\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("a pair of surrogates", b"\xed\xa0\x81\xed\xb0\x80"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("half a character", EURO[:2]),
        ("a character broken off", EURO[:2] + b"a"),
    ):
        yield Case("8.1", name, frame(b"a" + bad), (), (), NOT_UTF8)
        yield Case("8.1", f"{name}, in pieces", pieces(b"a", bad, b""), (), (), NOT_UTF8)
        data = b"a" + bad
        yield Case("5.6", f"{name}, as binary", frame(data, BINARY), (data,))
    sent = frame(b"\xff", fin=False)
    yield Case("8.1", "told before the message ends", sent, (), (), NOT_UTF8)
    sent = frame(b"\xffxxxx")[:-3]
    yield Case("8.1", "told before the frame ends", sent, (), (), NOT_UTF8)


def limits() -> Iterator[Case]:
    """What is too long, judged by what its head says."""
    for size in (LIMIT + 1, 2**31, 2**32, 2**63 - 1):
        yield Case("7.4.1", f"a frame of {size} bytes", head(size), (), (), TOO_BIG)
        sent = head(size, BINARY, fin=False)
        yield Case("7.4.1", f"a first piece of {size} bytes", sent, (), (), TOO_BIG)
    half = b"x" * (LIMIT // 2)
    yield Case("10.4", "pieces up to the limit", pieces(half, half), (half + half,))
    sent = frame(half, fin=False) + head(LIMIT // 2 + 1, CONTINUATION)
    yield Case("10.4", "a second piece that is too much", sent, (), (), TOO_BIG)
    sent = frame(half, fin=False) + frame(half, CONTINUATION, fin=False)
    sent += frame("x", CONTINUATION)
    yield Case("10.4", "one byte too much, in a third", sent, (), (), TOO_BIG)
    yield Case(
        "10.4",
        "a new message after the largest",
        pieces(half, half) + frame("a"),
        (half + half, b"a"),
    )


CASES = [*framing(), *fragmentation(), *control(), *utf8(), *limits()]


@pytest.mark.parametrize("step", [2**20, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.section} {case.name}")
def test_case(case: Case, step: int) -> None:
    """Every row holds, however the client's bytes arrive."""
    if step == 1 and len(case.sent) > 2000:
        step = 997
    connection = Connection()
    connection.send(case.sent, step)
    answers = connection.answers()
    assert tuple(connection.owner.heard) == case.heard
    assert tuple(payload for opcode, payload in answers if opcode == PONG) == case.pongs
    closes = [payload for opcode, payload in answers if opcode == CLOSE]
    assert len(answers) == len(case.pongs) + len(closes), "nothing else is sent"
    if case.closed is None:
        assert not closes
        assert not connection.transport.disconnecting
        assert connection.owner.ends == 0
    else:
        assert [int.from_bytes(payload[:2], "big") for payload in closes] == [case.closed]
        assert answers[-1][0] == CLOSE, "nothing is sent after a close"
        assert connection.owner.ends == 1


def test_rows_are_different() -> None:
    """No row is there twice: each names what it alone shows."""
    names = [(case.section, case.name) for case in CASES]
    assert len(set(names)) == len(names)


def test_reason_comes_back() -> None:
    """A client's own reason is told to it again (5.5.1)."""
    connection = Connection()
    connection.send(close(4000, b"bye"), 100)
    assert connection.answers() == [(CLOSE, (4000).to_bytes(2, "big") + b"bye")]


def test_what_was_asked_before_a_close() -> None:
    """An answer that is due when the client closes leaves before the close (5.5.1)."""
    connection = Connection()
    connection.send(frame("?", PING) + close(1000), 1000)
    assert connection.answers() == [(PONG, b"?"), (CLOSE, (1000).to_bytes(2, "big"))]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_own_frames(size: int) -> None:
    """What the carrier sends is framed as a strict client wants it (5.2)."""
    connection = Connection()
    connection.carrier.send(b"x" * size)
    connection.reactor.advance(0)
    assert connection.answers() == [(TEXT, b"x" * size)]
