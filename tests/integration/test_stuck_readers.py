"""Readers that do not read, on real sockets: a real daemon's memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import CROWDED, RunningDaemon, daemon
from tests.integration.raw import Publisher, RawClient, peak_rss

READERS = 100
SECONDS = 10.0
RATE = 10_000_000  # bytes a second
SIZE = 50_000  # of one publication's data
BOUND = 200 * 1024 * 1024

SETTINGS = (
    CROWDED
    + """
[channels.flood]
history_size = 1  # so that the channel lives on while all are told of a gap at once
history_ttl = 300
[channels.kept]
history_size = 2000
history_ttl = 300
ring_entries = 16
"""
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDaemon]:
    """Run a daemon whose peak of memory is this test's alone."""
    with daemon(tmp_path, SETTINGS) as found:
        yield found


@contextmanager
def readers(running: RunningDaemon, number: int, channel: str, **more: Any) -> Iterator[Any]:
    """Let so many subscribe, and then read no more, while the block runs."""
    found = [RawClient(running, **more) for _ in range(number)]
    try:
        for one in found:
            assert "code" not in one.ask("subscribe", channel=channel)
        yield found
    finally:
        for one in found:
            one.close(reset=True)


def flood(running: RunningDaemon, channel: str, rate: float, seconds: float) -> int:
    """Publish so many bytes a second, for so many seconds; give the number of publications."""
    publisher = Publisher(running)
    number, start = 0, time.monotonic()
    total = int(rate * seconds / SIZE)
    text = "x" * SIZE
    while number < total:
        commands = [
            {"channel": channel, "data": {"n": number + 1 + i, "text": text}} for i in range(4)
        ]
        publisher.publish(commands)
        number += len(commands)
        time.sleep(max(0.0, start + number * SIZE / rate - time.monotonic()))
    publisher.close()
    return number


def offsets_until(reader: RawClient, last: int) -> tuple[list[int], dict[str, Any]]:
    """Read until this offset or anything else than publications; give offsets, and what it was."""
    found: list[int] = []
    news: Sequence[dict[str, Any]] = reader.seen
    while True:
        for message in news:
            push = message.get("push", {})
            if "pub" not in push:
                return found, push or message
            assert push["pub"]["data"]["n"] == push["pub"]["offset"]
            found.append(push["pub"]["offset"])
            if found[-1] == last:
                return found, {}
        news = reader.take()


def test_memory_is_bounded_and_nothing_is_lost_in_silence(running: RunningDaemon) -> None:
    """With 100 readers that never read, 10 MB/s for 10 s take no 200 MiB.

    When they read again, each has what the kernel kept for it, in order, and is then told of the
    gap; and it goes on where it is told to.
    """
    with readers(running, READERS, "flood:1") as stuck:
        start = time.monotonic()
        last = flood(running, "flood:1", RATE, SECONDS)
        took = time.monotonic() - start
        peak = peak_rss(running.process.pid)
        print(f"{last * SIZE / took / 1e6:.1f} MB/s for {took:.1f} s, peak {peak / 2**20:.0f} MiB")
        assert last * SIZE >= RATE * SECONDS
        assert took < SECONDS * 2, "the daemon did not take it at this rate"
        assert peak < BOUND
        gaps = 0
        for one in stuck:
            found, told = offsets_until(one, last)
            assert found == list(range(1, len(found) + 1))
            if len(found) == last:
                continue
            gaps += 1
            assert told["unsubscribe"]["code"] == 2500, told
            one.seen.clear()
            answer = one.ask("subscribe", channel="flood:1")
            assert answer["offset"] == last
        assert gaps == READERS, "the readers were not stuck: what they missed was kept somewhere"
        publisher = Publisher(running)
        publisher.publish([{"channel": "flood:1", "data": {"n": last + 1}}])
        publisher.close()
        for one in stuck:
            assert offsets_until(one, last + 1)[0] == [last + 1]
        assert peak_rss(running.process.pid) < BOUND


def test_readers_that_come_back_get_everything(running: RunningDaemon) -> None:
    """Where the history has it all, readers that were stuck get it all, read by pages."""
    with readers(running, 20, "kept:1", receive_buffer=4096) as stuck:
        last = flood(running, "kept:1", RATE * 2, 1.0)
        assert last > 16, "all of it were in the ring"
        for one in stuck:
            found, told = offsets_until(one, last)
            assert found == list(range(1, last + 1)), told
        assert peak_rss(running.process.pid) < BOUND
