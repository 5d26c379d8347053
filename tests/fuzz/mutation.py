"""Makes inputs that nobody would send out of some that somebody would."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PROGRAM", "mutated"]

#: The bytes of a program that are read, mostly.
PROGRAM = 16

#: What parsers stumble over.
_EDGES = (
    b"",
    b"\x00",
    b"\n",
    b"\r\n\r\n",
    b"\x0b",
    b"\x85",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    "\u2028\ufeff".encode(),
    "²".encode(),
    "٣".encode(),
    b"-0",
    b"0.1e-9999",
    b"1e999",
    b"NaN",
    b"Infinity",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551616",
    b"9" * 400,
    b"[" * 40,
    b'{"a":' * 40,
    b"]" * 40,
    b"}" * 3,
    b'""',
    b"null",
    b"true",
    b'"\\ud800"',
    b'"\\u0000"',
    b"__proto__",
    b"constructor",
    b"A" * 300,
    b"\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\x00",
)
_MOST = 6000  # bytes of an input


def mutated(corpus: Sequence[bytes], program: bytes) -> bytes:
    """Make an input.

    Args:
        corpus: Inputs that are right, or nearly.
        program: Which of them is taken, how often it is changed, and how. With lower numbers
            there are fewer changes, and simpler ones; zeros are none. So whoever makes the
            program smaller makes the input simpler.
    """
    told = _Program(program)
    data = bytearray(told.one_of(corpus))
    for _ in range(told.below(8)):
        _change(data, corpus, told)
    return bytes(data[:_MOST])


class _Program:
    """Bytes, read as one decision after the other; 0 when they are over."""

    def __init__(self, program: bytes) -> None:
        self._program = program
        self._at = 0

    def below(self, end: int) -> int:
        """Give a number from 0 on, below this one."""
        size = 1 if end <= 256 else 2
        return int.from_bytes(self.take(size), "big") % end

    def one_of(self, choices: Sequence[bytes]) -> bytes:
        """Give one of these."""
        return choices[self.below(len(choices))]

    def take(self, size: int) -> bytes:
        """Give the next bytes as they are, fewer at the end."""
        taken = self._program[self._at : self._at + size]
        self._at += size
        return taken


def _change(data: bytearray, corpus: Sequence[bytes], told: _Program) -> None:
    kind = told.below(9)
    if kind == 0:
        return
    at = told.below(len(data) + 1)
    if kind == 1:
        data[at:at] = told.one_of(_EDGES)
    elif kind == 2:
        del data[at : at + (1, 1, 2, 4, 16)[told.below(5)]]
    elif kind == 3:
        size = told.below(8) + 1
        data[at:at] = told.take(size)
    elif kind == 4:
        end = at + told.below(11) + 1
        data[at:end] = told.one_of(_EDGES)
    elif kind == 5:
        end = at + told.below(39) + 1
        data[at:at] = data[at:end] * (1, 2, 30)[told.below(3)]
    elif kind == 6:
        other = told.one_of(corpus)
        data[at:] = other[told.below(len(other) + 1) :]
    elif data and kind == 7:
        data[at % len(data)] ^= 1 << told.below(8)
    elif data:
        data[at % len(data)] = told.below(256)
