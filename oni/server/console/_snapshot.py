"""What the console shows, as JSON that all viewers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from math import frexp
from typing import Any

import msgspec
from msgspec import Raw
from twisted.python.reflect import safe_repr

from oni import __version__
from oni.server._oni import Oni
from oni.server.console._survey import ChannelRow, Survey
from oni.values import HandlerInfo

__all__ = ["MAX_HANDLERS", "MAX_ROWS", "SORTS", "Snapshot", "Snapshots"]

#: So many channels are shown at once.
MAX_ROWS = 100

#: So many handlers are shown, at most: those that were registered first.
MAX_HANDLERS = 500

_MAX_QUERIES = 16  # different wishes that are answered from one snapshot
_MAX_TEXT = 200  # characters of a value in a match spec


def _magnitude(rate: float | None) -> int:
    """Say how large a rate is, by powers of two: so rows do not change places every second."""
    return max(frexp(rate)[1], 0) if rate else -1


SORTS: Mapping[str, Callable[[ChannelRow], Any]] = {
    "rate": lambda row: (-_magnitude(row.rate), -row.subscribers, row.name),
    "subscribers": lambda row: (-row.subscribers, row.name),
    "name": lambda row: row.name,
}
"""How channels may be sorted."""


class Snapshot:
    """What was seen at one moment.

    Args:
        common: What all viewers see, JSON without its closing brace.
        survey: The channels.
    """

    __slots__ = ("_answers", "_common", "_survey")

    def __init__(self, common: bytes, survey: Survey) -> None:
        self._common = common
        self._survey = survey
        self._answers: dict[tuple[str, str], bytes] = {}

    def answer(self, find: str = "", sort: str = "rate") -> bytes:
        """Write it down, with the channels that are wanted.

        Args:
            find: What their names hold, whatever the case.
            sort: One of :data:`SORTS`.
        """
        wish = (find.lower(), sort)
        answer = self._answers.get(wish)
        if answer is None:
            if len(self._answers) >= _MAX_QUERIES:
                self._answers.clear()
            channels = msgspec.json.encode(self._channels(*wish))
            answer = self._answers[wish] = b'%s,"channels":%s}' % (self._common[:-1], channels)
        return answer

    def _channels(self, find: str, sort: str) -> dict[str, Any]:
        rows = self._survey.channels
        if find:
            rows = [row for row in rows if find in row.name.lower()]
        return {
            "rows": nsmallest(MAX_ROWS, rows, key=SORTS[sort]),
            "found": len(rows),
            "looked_at": len(self._survey.channels),
            "total": self._survey.total,
        }


class Snapshots:
    """Makes them.

    Args:
        oni: What is seen.
        began: When the daemon began.
    """

    def __init__(self, oni: Oni, began: float) -> None:
        self._oni = oni
        self._began = began
        self._counted: tuple[float, Mapping[str, int]] | None = None
        self._handlers: dict[int, Raw] = {}

    def forget(self) -> None:
        """Forget what was seen last."""
        self._counted = None
        self._handlers.clear()

    def make(self, survey: Survey, now: float, lag: float) -> Snapshot:
        """Make one.

        Args:
            survey: The channels.
            now: The time, in seconds.
            lag: How late the reactor was since the last one, at most, in seconds.
        """
        oni = self._oni
        channels: Any = oni.channels
        dispatched = oni.dispatcher.statistics()
        counters = {
            "publications": channels.published.total(),
            "deliveries": channels.deliveries,
            "events": dispatched["events_fired"],
            "gaps": channels.gaps,
            "failures": dispatched["handler_failures"],
        }
        common = {
            "node": {
                "id": oni.node,
                "version": __version__,
                "uptime": max(now - self._began, 0.0),
                "backend": oni.settings.backend.url.partition(":")[0],
                "backend_up": channels.is_hearing,
            },
            "figures": {
                "connections": len(oni.sessions),
                "max_connections": oni.settings.server.max_connections,
                "channels": survey.total,
                "subscriptions": survey.subscriptions,
                "lag": lag,
            },
            "counters": counters,
            "rates": self._rates(counters, now),
            "slow": {"rows": survey.slow, "total": survey.slow_total},
            "dispatcher": {
                "state": {
                    name: dispatched[name]
                    for name in ("events_running", "events_queued", "events_refused")
                },
                "phases": oni.dispatcher.phases,
                "handlers": self._handler_rows(oni.dispatcher.handlers(MAX_HANDLERS)),
                "total": dispatched["handlers"],
            },
        }
        return Snapshot(msgspec.json.encode(common), survey)

    def _rates(self, counters: Mapping[str, int], now: float) -> dict[str, float | None]:
        last, self._counted = self._counted, (now, counters)
        if last is None or now <= last[0]:
            return dict.fromkeys(counters)
        then, before = last
        return {name: (n - before[name]) / (now - then) for name, n in counters.items()}

    def _handler_rows(self, handlers: Sequence[HandlerInfo]) -> list[dict[str, Any]]:
        known = self._handlers
        # A value may have a long text, or one that takes long: it is asked for once.
        self._handlers = {
            info.handler_id: known.get(info.handler_id) or _spec(info) for info in handlers
        }
        return [
            {
                "id": info.handler_id,
                "name": info.handler,
                "phase": info.phase,
                "spec": self._handlers[info.handler_id],
                "calls": info.calls,
                "remaining": info.remaining,
                "timeout": info.timeout,
                "weak": info.weak,
                "place": _place(info.registered_at),
            }
            for info in handlers
        ]


def _spec(info: HandlerInfo) -> Raw:
    """Write a match spec down, its values as Python shows them."""
    return Raw(msgspec.json.encode({k: _text(v) for k, v in info.match_spec.items()}))


def _text(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _place(registered_at: str) -> str:
    """Shorten where something was registered to file and line: paths are the machine's own."""
    return registered_at.replace("\\", "/").rpartition("/")[2]
