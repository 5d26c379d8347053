"""Clients that do not read, and networks that carry nothing: it is noticed, and repaired."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import OPEN, RunningDaemon, daemon
from tests.integration.listeners import Listener
from tests.integration.raw import Publisher

# --- Random disconnects --------------------------------------------------------------------------

LISTENERS = 50
PUBLICATIONS = 20_000
BATCH = 40
PUBLISHING = 12.0  # seconds, about
SEED = 4003
KEPT = ("kept:1", "kept:2")
SHORT = ("short:1", "short:2")

SETTINGS = (
    OPEN
    + """
[channels.kept]
history_size = 10000
history_ttl = 300
ring_entries = 64
[channels.short]
history_size = 100
history_ttl = 300
ring_entries = 32
"""
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDaemon]:
    """Run a daemon."""
    with daemon(tmp_path, SETTINGS) as found:
        yield found


async def publish_all(running: RunningDaemon, channels: tuple[str, ...]) -> int:
    """Publish on all channels in turns; give how many there are on each."""
    publisher = Publisher(running)
    loop = asyncio.get_running_loop()
    start, each = loop.time(), PUBLICATIONS // len(channels)
    numbers = [(channel, n) for n in range(1, each + 1) for channel in channels]
    for first in range(0, len(numbers), BATCH):
        commands = [
            {"channel": channel, "data": {"n": n, "text": "x" * 1000}}
            for channel, n in numbers[first : first + BATCH]
        ]
        await asyncio.to_thread(publisher.publish, commands)
        await asyncio.sleep(start + PUBLISHING * first / PUBLICATIONS - loop.time())
    publisher.close()
    return each


async def disturb(running: RunningDaemon) -> tuple[list[Listener], Counter[str], int]:
    """Let listeners hear everything, and suffer meanwhile."""
    tally: Counter[str] = Counter()
    choose = random.Random(SEED)
    listeners = [
        Listener(running.port, (choose.choice(KEPT), choose.choice(SHORT)), SEED + number, tally)
        for number in range(LISTENERS)
    ]
    lives = [asyncio.ensure_future(one.run()) for one in listeners]
    try:
        await asyncio.wait_for(asyncio.gather(*(one.subscribed.wait() for one in listeners)), 20)
        last = await publish_all(running, KEPT + SHORT)
        for one in listeners:
            one.is_disturbed = False
        end = asyncio.get_running_loop().time() + 20
        while any(at.offset < last for one in listeners for at in one.accounts.values()):
            assert asyncio.get_running_loop().time() < end, "some did not get to the end"
            for life in lives:
                if life.done():
                    life.result()  # what it found wrong
            await asyncio.sleep(0.05)
    finally:
        for life in lives:
            life.cancel()
        outcomes = await asyncio.gather(*lives, return_exceptions=True)
    for outcome in outcomes:
        if not isinstance(outcome, asyncio.CancelledError):
            raise AssertionError("a listener found something wrong") from outcome
    return listeners, tally, last


def test_no_silent_gap(running: RunningDaemon) -> None:
    """50 clients are cut off, half-closed and paused at random during 20,000 publications.

    What each hears of a channel is 1, 2, ... N without gap or duplicate, or it was told of the
    gap: with ``recovered: false``, and the position after which it goes on.
    """
    listeners, tally, last = asyncio.run(disturb(running))
    assert last * 4 == PUBLICATIONS
    for one in listeners:
        for channel, account in one.accounts.items():
            assert account.offset == last
            if channel in KEPT:
                assert account.gaps == 0, "it was all in the history"
    assert min(tally[kind] for kind in ("kill", "half-close", "pause", "pause and kill")) >= 10
    assert tally["recovered"] >= 50
    assert tally["not recovered"] >= 5
