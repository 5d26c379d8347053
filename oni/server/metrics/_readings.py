"""Read every figure, when somebody asks for them: nobody else pays for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oni import __version__
from oni.server.metrics._tally import Histogram

__all__ = ["Readings", "Value"]

Value = int | float | Histogram

_LAGS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# What the channels and the dispatcher count under names of their own.
_OF_CHANNELS = {
    "oni_channels": "channels",
    "oni_subscriptions": "subscriptions",
    "oni_deliveries_total": "deliveries",
    "oni_conflated_total": "passed_over",
    "oni_overdue_total": "overdue",
    "oni_history_pages_total": "pages",
    "oni_ring_bytes": "ring_bytes",
    "oni_ring_evicted_total": "evicted",
    "oni_backend_up": "backend_up",
    "oni_backend_repairs_total": "repairs",
    "oni_backend_reconnects_total": "reconnects",
}
_SUPPRESSED = "backend_suppressed"
_OF_DISPATCHER = {
    "oni_events_total": "events_fired",
    "oni_events_refused_total": "events_refused",
    "oni_events_running": "events_running",
    "oni_events_queued": "events_queued",
    "oni_event_cycles_total": "event_cycles",
    "oni_handlers": "handlers",
    "oni_handler_failures_total": "handler_failures",
    "oni_handlers_died_total": "handlers_died",
}
_OF_EVENTS = ("admitted", "duplicate", "conflict")
_OF_ATTEMPTS = ("completed", "failed", "stale")
_OF_LEDGER = {
    "oni_ledger_claims_total": "claimed",
    "oni_ledger_rescued_total": "rescued",
    "oni_ledger_lost_total": "lost",
    "oni_ledger_held": "held",
    "oni_ledger_waiting": "waiting",
    "oni_ledger_commits_total": "commits",
}
_OF_OUTBOXES = {
    "oni_outbox_backlog": "backlog",
    "oni_outbox_age_seconds": "age",
    "oni_outbox_aside": "aside",
}
_OF_SOURCES = {
    "oni_sources_under_way": "under_way",
    "oni_sources_lost_threads": "threads_lost",
}
_LEDGERS = (
    "oni_ledger_up",
    "oni_ledger_deliveries",
    "oni_ledger_oldest_due_seconds",
    "oni_ledger_events_total",
    "oni_ledger_attempts_total",
    *_OF_LEDGER,
    *_OF_SOURCES,
    *_OF_OUTBOXES,
)


class Readings:
    """Reads the figures of one Oni.

    Args:
        oni: The Oni.
        sockets: Counts the TCP connections.
        drain: Gives turns to connections that send.
        others: Figures that the process has besides, by name.
    """

    def __init__(
        self,
        oni: Any,
        sockets: Callable[[], int],
        drain: Any,
        others: Mapping[str, Callable[[], int]],
    ) -> None:
        self._oni = oni
        self._sockets = sockets
        self._drain = drain
        self._others = others

    def read(self) -> dict[str, dict[tuple[str, ...], Value]]:
        """Give each figure's values by the values of its labels."""
        values: dict[str, dict[tuple[str, ...], Value]] = {}
        for name, value in (
            *self._process(),
            *self._sessions(),
            *self._channels(),
            *self._dispatcher(),
            *self._ledger(),
            *self._listeners(),
        ):
            values[name] = value if isinstance(value, dict) else {(): value}
        return values

    def _process(self) -> list[tuple[str, Any]]:
        condition, tally = self._oni.condition, self._oni.tally
        return [
            ("oni_info", {(__version__,): 1}),
            ("oni_ready", int(condition.is_ready)),
            ("oni_draining", int(condition.is_draining)),
            ("oni_reactor_lag_seconds", tally.lag),
            ("oni_stalls_total", tally.stalls),
            *((name, count()) for name, count in self._others.items()),
        ]

    def _sessions(self) -> list[tuple[str, Any]]:
        tally = self._oni.tally
        paused = waiting = 0
        for session in self._oni.sessions.values():
            paused += session.carrier.is_paused
            waiting += session.carrier.waiting_bytes
        return [
            ("oni_connections", len(self._oni.sessions)),
            ("oni_sockets", self._sockets()),
            (
                "oni_connections_opened_total",
                {("json", key): n for key, n in tally.connections.items()},
            ),
            ("oni_disconnects_total", {(key,): n for key, n in tally.disconnects.items()}),
            ("oni_commands_total", {(key,): n for key, n in tally.commands.items()}),
            ("oni_command_errors_total", dict(tally.errors)),
            ("oni_command_seconds", tally.seconds),
            ("oni_rate_limited_total", {(key,): n for key, n in tally.limited.items()}),
            ("oni_frames_in_bytes_total", tally.bytes_in),
            ("oni_recoveries_total", dict(tally.recoveries)),
            ("oni_recovered_publications", tally.recovered),
            ("oni_paused_connections", paused),
            ("oni_send_buffer_bytes", waiting),
            ("oni_waiting_connections", len(self._drain)),
            ("oni_drain_turns_total", self._drain.turns),
        ]

    def _channels(self) -> list[tuple[str, Any]]:
        channels = self._oni.channels
        figures = channels.statistics()
        lags = Histogram(_LAGS)
        largest = 0
        for lag, times in channels.lags().items():
            lags.observe(lag, times)
            largest = max(largest, lag)
        return [
            *((name, figures[key]) for name, key in _OF_CHANNELS.items()),
            ("oni_gaps_total", {(key,): n for key, n in channels.gap_causes.items()}),
            # A backend that does not know says nothing, and so do we.
            (
                "oni_publish_suppressed_total",
                {("idempotency",): figures[_SUPPRESSED]} if _SUPPRESSED in figures else {},
            ),
            ("oni_publications_total", {(key,): n for key, n in channels.published.items()}),
            ("oni_cursor_lag_messages", lags),
            ("oni_cursor_lag_messages_max", largest),
        ]

    def _dispatcher(self) -> list[tuple[str, Any]]:
        figures = self._oni.dispatcher.statistics()
        return [(name, figures[key]) for name, key in _OF_DISPATCHER.items()]

    def _listeners(self) -> list[tuple[str, Any]]:
        listeners = self._oni.listeners
        names = list(listeners.by_name)
        return [
            (f"oni_listener_{kind}_total", {(name,): counted[name] for name in names})
            for kind, counted in (
                ("calls", listeners.calls),
                ("failures", listeners.failures),
                ("seconds", listeners.seconds),
            )
        ]

    def _ledger(self) -> list[tuple[str, Any]]:
        """Read the ledger's figures; where there is no ledger each of them has no value."""
        service = self._oni.sources_service
        if service is None:
            return [(name, {}) for name in _LEDGERS]
        figures = service.sources.ledger.statistics()
        running = service.sources.statistics()
        watch = service.watch
        return [
            ("oni_ledger_up", int(service.health.was_opened and not service.health.problem)),
            ("oni_ledger_deliveries", {(key,): n for key, n in watch.counts.items()}),
            ("oni_ledger_oldest_due_seconds", {} if watch.lag is None else watch.lag),
            ("oni_ledger_events_total", {(key,): figures[key] for key in _OF_EVENTS}),
            ("oni_ledger_attempts_total", {(key,): figures[key] for key in _OF_ATTEMPTS}),
            *((name, figures[key]) for name, key in _OF_LEDGER.items()),
            *((name, running[key]) for name, key in _OF_SOURCES.items()),
            *((name, service.backlog.get(key, {})) for name, key in _OF_OUTBOXES.items()),
        ]
