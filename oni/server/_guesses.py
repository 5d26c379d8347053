"""Keys that are given with a request, and those who guess them."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import Any

from twisted.logger import Logger

from oni.server.limits import Proxies

__all__ = ["FREE_FAILURES", "LONGEST_WAIT", "MAX_ADDRESSES", "Guesses", "Key"]

_log = Logger()

#: So many wrong keys an address may send before it has to wait.
FREE_FAILURES = 3

#: Seconds that an address waits at most; the first wait is one second, each next twice as long.
LONGEST_WAIT = 60.0

#: Of so many addresses wrong keys are remembered, at most.
MAX_ADDRESSES = 1000


class Key:
    """A key that is compared in constant time, whatever its length and that of a guess.

    Args:
        text: The key.
    """

    def __init__(self, text: str) -> None:
        self._digest = _digest(text.encode())

    def is_same(self, given: bytes) -> bool:
        """Say whether this is the key."""
        return hmac.compare_digest(_digest(given), self._digest)


class Guesses:
    """Lets those wait who send wrong keys, longer each time.

    Meanwhile they are not listened to: also a right key is not looked at. What one page has heard
    counts on all of them.

    Args:
        trusted: The proxies that are believed when they say who sends a request.
        seconds: Gives the time.

    Attributes:
        limited: Counts how often one had to wait, as ``keys``.
    """

    def __init__(self, trusted: Iterable[str], seconds: Callable[[], float]) -> None:
        self._proxies = Proxies(trusted)
        self._seconds = seconds
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.limited: Counter[str] = Counter()

    def __len__(self) -> int:
        """Count the addresses that have sent wrong keys."""
        return len(self._failures)

    def address(self, request: Any) -> str:
        """Say under which address a request's keys are counted."""
        forwarded = request.requestHeaders.getRawHeaders(b"x-forwarded-for", [])
        return self._proxies.client(request.getClientAddress(), forwarded)

    def wait(self, address: str) -> int:
        """Give the seconds for which this address is not listened to, 0 if it is."""
        _, until = self._failures.get(address, (0, 0.0))
        left = max(ceil(until - self._seconds()), 0)
        if left:
            self.limited["keys"] += 1
        return left

    def admits(self, address: str, given: Sequence[bytes], key: Key, *others: Key) -> bool:
        """Say whether a request has a right key, and remember it where not.

        Args:
            address: Who sends it. It must not have to wait.
            given: The keys that it gives. More than one are as many guesses: wrong.
            key: The key that forgives what was wrong before.
            others: Keys that let in, too. Whoever has one of them may still guess the first, so
                they forgive nothing.
        """
        if len(given) == 1:
            if key.is_same(given[0]):
                self._failures.pop(address, None)
                return True
            if any(other.is_same(given[0]) for other in others):
                return True
        self._failed(address)
        return False

    def _failed(self, address: str) -> None:
        failures = self._failures.get(address, (0, 0.0))[0] + 1
        over = failures - FREE_FAILURES
        wait = min(2.0 ** min(over, 16), LONGEST_WAIT) if over >= 0 else 0.0
        self._failures[address] = failures, self._seconds() + wait
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        _log.warn(
            "wrong key from {address}, {failures} so far", address=address, failures=failures
        )


def _digest(key: bytes) -> bytes:
    """Make keys of one length, so that comparing them does not tell the right one's."""
    return hashlib.sha256(key).digest()
