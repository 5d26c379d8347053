"""Makes inputs that nobody would send out of some that somebody would."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

__all__ = ["Mutator"]

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


class Mutator:
    """Gives inputs, the same ones for the same seed.

    Args:
        corpus: Inputs that are right, or nearly.
        seed: Decides everything.
    """

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        self._corpus = tuple(corpus)
        self._random = Random(seed)

    def next(self) -> bytes:
        """Give the next input: some of them are as they were."""
        random = self._random
        data = bytearray(random.choice(self._corpus))
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
            self._change(data)
        return bytes(data[:_MOST])

    def _change(self, data: bytearray) -> None:
        random = self._random
        at = random.randrange(len(data) + 1)
        kind = random.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = random.randrange(256)
        elif kind == 2:
            del data[at : at + random.choice((1, 1, 2, 4, 16))]
        elif kind == 3:
            data[at:at] = random.choice(_EDGES)
        elif kind == 4:
            end = at + random.randrange(1, 12)
            data[at:end] = random.choice(_EDGES)
        elif kind == 5:
            data[at:at] = data[at : at + random.randrange(1, 40)] * random.choice((1, 2, 30))
        elif kind == 6:
            other = random.choice(self._corpus)
            cut = random.randrange(len(other) + 1)
            data[at:] = other[cut:]
        else:
            data[at:at] = bytes(random.randrange(256) for _ in range(random.randrange(1, 9)))
