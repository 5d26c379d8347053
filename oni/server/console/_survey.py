"""One look at all channels, some of them in each reactor turn: what flows, and who is behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any

from msgspec import Struct

from oni.server._session import Session

__all__ = [
    "MAX_CHANNELS",
    "MAX_SLOW",
    "STEP",
    "ChannelRow",
    "SlowRow",
    "Survey",
    "Surveyor",
]

#: So many channels are looked at, at most: the oldest.
MAX_CHANNELS = 20_000

#: So many slow readers are shown, at most: those that are furthest behind.
MAX_SLOW = 50

#: So many channels or subscribers are looked at in one reactor turn.
STEP = 1000

_MAX_SUBSCRIBERS = 100_000  # that are looked at for being slow, in one survey


class ChannelRow(Struct, frozen=True):
    """How it stands with a channel.

    Attributes:
        name: The channel's name.
        subscribers: How many carriers are subscribed.
        rate: Publications a second since the last survey, None at the first.
        offset, epoch: Where its newest publication stands.
        kept: How many publications wait in memory.
        size: Bytes that these have.
    """

    name: str
    subscribers: int
    rate: float | None
    offset: int
    epoch: str
    kept: int
    size: int


class SlowRow(Struct, frozen=True):
    """A reader that has not taken what was there a second ago.

    Attributes:
        channel: What it reads.
        behind: How many offsets it is behind.
        seconds: For how long, at least.
        policy: What happens to such readers of the channel.
        user: Who it is, ``""`` if nobody knows.
        client: The session's id, ``""`` for a carrier of this process.
        address: Where it is, ``""`` if nobody knows.
    """

    channel: str
    behind: int
    seconds: float
    policy: str
    user: str
    client: str
    address: str


class Survey(Struct, frozen=True):
    """What was found.

    Attributes:
        channels: How it stands with each channel.
        total: How many channels there are; more than ``channels`` has, if there are very many.
        subscriptions: How many subscriptions these have.
        slow: Slow readers, those furthest behind first.
        slow_total: How many there are.
    """

    channels: Sequence[ChannelRow]
    total: int
    subscriptions: int
    slow: Sequence[SlowRow]
    slow_total: int


class _Mark(Struct, frozen=True):
    """What the last survey found in a channel."""

    heard: int
    life: int
    top: int


class Surveyor:
    """Makes one survey after another, each with what the last one has found.

    Args:
        channels: The process's channels.
        sessions: All sessions, by client id.
    """

    def __init__(self, channels: Any, sessions: Mapping[str, Session]) -> None:
        self._channels = channels
        self._sessions = sessions
        self._marks: dict[str, _Mark] = {}
        self._slow_since: dict[tuple[str, int], float] = {}
        self._at: float | None = None

    def survey(self, now: float) -> Iterator[Survey | None]:
        """Look at all channels. It gives None whenever a turn's work is done, at last the survey.

        Args:
            now: The time, in seconds.
        """
        since = None if self._at is None or now <= self._at else now - self._at
        refs = self._channels.survey()
        rows: list[ChannelRow] = []
        slow: list[SlowRow] = []
        marks: dict[str, _Mark] = {}
        slow_since: dict[tuple[str, int], float] = {}
        work = looked_at = subscriptions = 0
        for ref in refs[:MAX_CHANNELS]:
            channel = ref()
            if channel is None:
                continue
            last = self._marks.get(channel.name)
            marks[channel.name] = _Mark(channel.heard, channel.ring.life, channel.ring.top)
            rows.append(_row(channel, last, since))
            subscriptions += channel.subscribers
            work += 1
            if last is not None and channel.ring.readers and looked_at < _MAX_SUBSCRIBERS:
                looked_at += channel.subscribers
                work += channel.subscribers
                for reader in channel.behind(last.life, last.top):
                    key = (channel.name, id(reader))
                    slow_since[key] = self._slow_since.get(
                        key, now if since is None else now - since
                    )
                    slow.append(self._slow_row(channel, reader, now - slow_since[key]))
            del channel
            if work >= STEP:
                work = 0
                yield None
        self._marks, self._slow_since, self._at = marks, slow_since, now
        worst = nlargest(MAX_SLOW, slow, key=lambda row: (row.seconds, row.behind))
        yield Survey(rows, len(refs), subscriptions, worst, len(slow))

    def _slow_row(self, channel: Any, reader: Any, seconds: float) -> SlowRow:
        session = self._sessions.get(reader.client)
        is_same_life = reader.life == channel.ring.life
        return SlowRow(
            channel=channel.name,
            behind=channel.ring.top - reader.offset if is_same_life else channel.ring.top,
            seconds=seconds,
            policy=channel.options.behind,
            user="" if session is None else session.user,
            client=reader.client,
            address=_address(reader.carrier),
        )


def _row(channel: Any, last: _Mark | None, since: float | None) -> ChannelRow:
    ring = channel.ring
    rate = None
    if since is not None:
        # One that was not there before, or has begun anew, has heard everything since then.
        before = 0 if last is None or last.heard > channel.heard else last.heard
        rate = (channel.heard - before) / since
    return ChannelRow(
        channel.name, channel.subscribers, rate, ring.top, ring.epoch, len(ring), ring.size
    )


def _address(carrier: Any) -> str:
    """Say where a carrier's client is; Autobahn names it ``tcp4:127.0.0.1:50000``."""
    peer = getattr(carrier, "peer", "")
    kind, _, rest = peer.partition(":") if isinstance(peer, str) else ("", "", "")
    return rest if kind in ("tcp4", "tcp6", "tcp") else ""
