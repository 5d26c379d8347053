"""Every figure of the daemon: its name, what it means, and where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["FIGURES", "NOT_COUNTED", "Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: Its name; a counter's ends in ``_total``.
        kind: A counter only grows, a gauge goes up and down, a histogram counts by size.
        help: What it tells.
        labels: What it is told apart by.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


FIGURES = (
    Figure("oni_info", "gauge", "Always 1; says which version runs.", ("version",)),
    Figure("oni_ready", "gauge", "1 while /readyz says yes."),
    Figure("oni_draining", "gauge", "1 from SIGTERM on."),
    # Connections and commands.
    Figure("oni_connections", "gauge", "Sessions that are open or about to be."),
    Figure("oni_sockets", "gauge", "TCP connections, those of plain HTTP too."),
    Figure(
        "oni_connections_opened_total",
        "counter",
        "Sessions that were begun. The codec is always json.",
        ("codec", "carrier"),
    ),
    Figure(
        "oni_disconnects_total",
        "counter",
        "Sessions that ended, by the code of the close: the server's (3000 and above), or the "
        "client's: 1000, 1001, 1005, 1006 for one that vanished, and 'other'.",
        ("code",),
    ),
    Figure("oni_commands_total", "counter", "Commands of clients that were begun.", ("method",)),
    Figure(
        "oni_command_errors_total",
        "counter",
        "Commands that were answered with an error.",
        ("method", "code"),
    ),
    Figure("oni_command_seconds", "histogram", "From a command's beginning to its answer."),
    Figure(
        "oni_rate_limited_total",
        "counter",
        "How often somebody was refused (limit: connections, address, user, handshakes, "
        "descriptors, keys), not read from for a while (commands, bytes), or disconnected (pings, "
        "fragments, slow).",
        ("limit",),
    ),
    Figure("oni_frames_in_bytes_total", "counter", "Payload of the messages of clients."),
    Figure("oni_paused_connections", "gauge", "Connections that do not read just now."),
    Figure(
        "oni_send_buffer_bytes",
        "gauge",
        "Replies that wait for such connections. Publications do not wait there: they stay in "
        "the ring. What the kernel holds is not counted.",
    ),
    Figure("oni_waiting_connections", "gauge", "Connections that wait for their turn to send."),
    Figure("oni_drain_turns_total", "counter", "Reactor turns in which connections sent."),
    # Channels.
    Figure("oni_channels", "gauge", "Channels that live in this process."),
    Figure("oni_subscriptions", "gauge", "Subscriptions in this process."),
    Figure(
        "oni_publications_total",
        "counter",
        "Publications by this node, by namespace ('' without; ':others' beyond 1,000). Those that "
        "were suppressed are in it.",
        ("ns",),
    ),
    Figure(
        "oni_publish_suppressed_total",
        "counter",
        "Publications by this node that were not stored: their idempotency key had been used "
        "(reason: idempotency). Where the backend does not know, this is not there.",
        ("reason",),
    ),
    Figure(
        "oni_deliveries_total",
        "counter",
        "Deliveries that became due: each publication counts once for each subscription that its "
        "channel had then. What was then passed over, filtered or lost is in it.",
    ),
    Figure(
        "oni_cursor_lag_messages",
        "histogram",
        "Publications in the ring that a subscription has not taken, one value for each "
        "subscription that there is now: what it shows goes up and down.",
    ),
    Figure("oni_cursor_lag_messages_max", "gauge", "The largest of them."),
    Figure(
        "oni_gaps_total",
        "counter",
        "Gaps that subscribers were told of: what was missed was not kept any "
        "more (history), history could not be read (backend), the backend could not say what came "
        "before (feed), the stream began anew (epoch).",
        ("cause",),
    ),
    Figure(
        "oni_conflated_total",
        "counter",
        "Publications that were passed over where only the newest is wanted.",
    ),
    Figure("oni_overdue_total", "counter", "Subscribers that lagged too far behind."),
    Figure(
        "oni_recoveries_total",
        "counter",
        "Clients that asked for what they missed: whether they got it (result: yes, no), and "
        "whether there was nothing (empty: yes, no).",
        ("result", "empty"),
    ),
    Figure(
        "oni_recovered_publications",
        "histogram",
        "Publications that each of those who got it got with the answer.",
    ),
    Figure("oni_history_pages_total", "counter", "Pages of history read for those behind."),
    Figure("oni_ring_bytes", "gauge", "Memory of all rings."),
    Figure("oni_ring_evicted_total", "counter", "Publications that rings dropped for others."),
    # The backend.
    Figure("oni_backend_up", "gauge", "1 while the backend works."),
    Figure("oni_backend_repairs_total", "counter", "Holes in the feed that were noticed."),
    Figure("oni_backend_reconnects_total", "counter", "How often the backend came back."),
    # The dispatcher and the process.
    Figure("oni_events_total", "counter", "Events that were fired at the dispatcher."),
    Figure("oni_events_refused_total", "counter", "Events that it refused."),
    Figure("oni_events_running", "gauge", "Events whose handlers run."),
    Figure("oni_events_queued", "gauge", "Events that wait for their turn."),
    Figure("oni_event_cycles_total", "counter", "Events that waited for themselves."),
    Figure("oni_handlers", "gauge", "Registered handlers."),
    Figure("oni_handler_failures_total", "counter", "Handlers that failed."),
    Figure("oni_handlers_died_total", "counter", "Weak handlers that died."),
    Figure("oni_reactor_lag_seconds", "histogram", "How late the reactor was, four times a s."),
    Figure("oni_stalls_total", "counter", "How often it did not turn for stall_timeout."),
    Figure("oni_lost_threads", "gauge", "Threads of blocking handlers that were given up."),
    # The ledger. Without one none of these is there.
    Figure("oni_ledger_up", "gauge", "1 while the ledger answers; 0 until it is open."),
    Figure(
        "oni_ledger_deliveries",
        "gauge",
        "Deliveries in the ledger, whoever they are for, by where they stand (state: pending, "
        "running, done, dead, uncertain), as they were counted last; see ledger.look_every.",
        ("state",),
    ),
    Figure(
        "oni_ledger_oldest_due_seconds",
        "gauge",
        "For how long the pending delivery that was due first had been so then.",
    ),
    Figure(
        "oni_ledger_events_total",
        "counter",
        "Events that this process offered, by what became of them (result: admitted, duplicate, "
        "conflict). Those that a transaction of the program's own admitted are not in it.",
        ("result",),
    ),
    Figure("oni_ledger_claims_total", "counter", "Deliveries that this process claimed."),
    Figure(
        "oni_ledger_attempts_total",
        "counter",
        "Attempts that ended here (result: completed, failed; stale: it was somebody else's by "
        "then, and nothing was recorded).",
        ("result",),
    ),
    Figure(
        "oni_ledger_rescued_total",
        "counter",
        "Deliveries that this process took from others that had died or fallen silent.",
    ),
    Figure("oni_ledger_lost_total", "counter", "Deliveries that others took from this process."),
    Figure("oni_ledger_held", "gauge", "Deliveries that this process has claimed just now."),
    Figure("oni_ledger_waiting", "gauge", "Calls of this process that wait for the database."),
    Figure("oni_ledger_commits_total", "counter", "Writes to the ledger, many calls in each."),
    Figure(
        "oni_sources_under_way",
        "gauge",
        "Deliveries whose handlers run in this process, or are about to.",
    ),
    Figure("oni_sources_lost_threads", "gauge", "Threads of group handlers that were given up."),
    Figure(
        "oni_outbox_backlog",
        "gauge",
        "Events that wait in this process's outboxes for the ledger. Without an outbox, and until "
        "each was looked at once, it is not there.",
    ),
    Figure(
        "oni_outbox_age_seconds", "gauge", "For how long the first of these has waited, at most."
    ),
    Figure(
        "oni_outbox_aside", "gauge", "Events there that can never be admitted: somebody must look."
    ),
    Figure(
        "oni_listener_calls_total",
        "counter",
        "Calls of each listener that have ended. Without listeners it is not there.",
        ("listener",),
    ),
    Figure("oni_listener_failures_total", "counter", "Those that have failed.", ("listener",)),
    Figure(
        "oni_listener_seconds_total",
        "counter",
        "Seconds that they took, with what they waited for.",
        ("listener",),
    ),
    Figure("oni_log_dropped_total", "counter", "Log events that were dropped: nobody took them."),
)
"""All of them, in the order in which they are told."""

NOT_COUNTED: Mapping[str, str] = MappingProxyType(
    {
        "oni_connections_total": "OpenMetrics would take it for oni_connections: it is "
        "oni_connections_opened_total",
        "oni_delivery_lag_seconds": "a clock would be read for each delivery. What a delivery "
        "waits for is in oni_reactor_lag_seconds, oni_waiting_connections and "
        "oni_cursor_lag_messages",
        "oni_frames_out_bytes_total": "every delivery would be counted. The kernel counts what "
        "leaves a network interface",
        "oni_backend_lag_seconds": "the memory backend has no feed that could lag: what is "
        "published is in the ring before the publisher has its answer",
    }
)
"""Figures that one may look for, and why they are not there."""
