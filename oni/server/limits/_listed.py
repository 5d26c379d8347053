"""Every limit of the server, with what happens to whoever exceeds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oni.carriers import MAX_FLUSH, MAX_WAITING
from oni.channels import MAX_NAME
from oni.protocol import MAX_DEPTH
from oni.server._effects import MAX_PUBLICATIONS
from oni.server._guesses import FREE_FAILURES, LONGEST_WAIT
from oni.server._intake import MAX_ACTS, MAX_COMMANDS
from oni.server._recent import MAX_RECENT
from oni.server._settings import describe

__all__ = ["Limit", "limits"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        group: What it is about.
        name: The setting's path, or a name in words where it cannot be set.
        value: What holds where nothing is set.
        help: What it means.
        beyond: What happens beyond it.
        is_set: Whether there is a setting for it.
    """

    group: str
    name: str
    value: str
    help: str
    beyond: str
    is_set: bool


_SETTINGS = {
    "Who comes in": {
        "server.max_connections": "status 503, and the connection is closed",
        "server.max_connections_per_address": "status 429, and the connection is closed",
        "server.max_connections_per_user": "error 106, and close code 3504: the client stays away",
        "server.max_handshakes_per_second": "status 503 with Retry-After",
        "server.trusted_proxies": "the header of anybody else is ignored",
        "server.allowed_hosts": "status 421",
        "server.allowed_origins": "status 403, before there is a websocket",
        "server.connect_timeout": "close code 3502",
    },
    "Requests": {
        "server.handshake_timeout": "status 408, or without a word where TLS has not even begun; "
        "the connection is closed",
        "server.max_request_head_bytes": "status 431, or 414 without an end of the first line; "
        "the connection is closed",
        "server.max_request_line_bytes": "status 414 for the first line, 431 for a header",
        "server.max_request_headers": "status 431",
        "server.max_body_bytes": "status 413, as soon as it is known",
        "server.body_timeout": "the connection is aborted",
        "server.idle_timeout": "the connection is closed",
    },
    "What a client sends": {
        "server.max_message_bytes": "close code 1009, on the frame's header alone",
        "server.max_message_fragments": "close code 1008",
        "server.max_bytes_per_second": "the client is not read from until that is made up for",
        "server.max_pings_per_second": "close code 1008",
        "server.max_commands_per_second": "commands wait, and the client is not read from until "
        "that is made up for; with too many of them close code 3013",
        "channels.max_publish_bytes": "error 106",
        "server.max_channels_per_connection": "error 106; the connection stays",
        "server.ping_interval": "see the next one",
        "server.pong_timeout": "close code 3012",
    },
    "What a client is sent": {
        "server.drain_timeout": "close code 3008; an event stream is aborted",
        "server.max_recoveries": "the others wait; nothing is lost by that",
        "channels.behind": "a gap is told, or close code 3008, as set",
        "channels.max_lag": "close code 3008",
        "channels.ring_entries": "who is further behind reads the history, or is told of a gap",
        "channels.ring_bytes": "the same",
        "channels.history_size": "the oldest publications go",
        "channels.history_ttl": "they go",
        "backend.ring_bytes": "rings are emptied, those that nobody reads first",
        "server.close_timeout": "the connection is aborted",
        "server.stop_timeout": "the process is ended",
    },
}

_FIXED = {
    "What a client sends": (
        (
            "acts at once",
            f"{MAX_ACTS}",
            "Commands of one client that are being carried out.",
            "the client is not read from, until some are done",
        ),
        (
            "commands that wait",
            f"{MAX_COMMANDS}",
            "Commands of one client that had arrived when reading stopped.",
            "close code 3013",
        ),
        (
            "depth of JSON",
            f"{MAX_DEPTH}",
            "Objects and arrays within each other, in commands and in the HTTP API.",
            "error 107",
        ),
        (
            "length of a name",
            f"{MAX_NAME}",
            "Characters of a channel's or an event's name; a channel's are visible ASCII.",
            "error 107",
        ),
    ),
    "What a client is sent": (
        (
            "publications at once",
            f"{MAX_PUBLICATIONS}",
            "Publications in a client's history reply, or in the reply to a subscribe.",
            "a history is cut there; after a subscribe the rest follows as pushes",
        ),
        (
            "channels just left",
            f"{MAX_RECENT}",
            "Channels in memory whose last subscriber has gone, and whose positions stay valid "
            "for ``history_ttl``: less than 1 kB each.",
            "the one that was left first goes; who comes back to it is told that nothing was "
            "recovered",
        ),
        (
            "replies that wait",
            f"{MAX_WAITING}",
            "Bytes of replies to a client that does not read. Publications do not wait here.",
            "close code 3008",
        ),
        (
            "bytes at once",
            f"{MAX_FLUSH}",
            "Bytes that are handed to a connection before it must have taken them.",
            "what is left waits for the next turn",
        ),
    ),
    "Who comes in": (
        (
            "file descriptors",
            "90 %",
            "Of those that the process may open (``ulimit -n``).",
            "nobody is let in, until fewer than 80 % are open; who comes waits in the kernel",
        ),
        (
            "wrong keys",
            f"{FREE_FAILURES}",
            "Wrong keys from one address, for the console and the figures together.",
            f"status 429 with Retry-After, for 1 s, then 2 s and so on, {LONGEST_WAIT:g} s at "
            "most; meanwhile a right key is not looked at. The key of [api] has no such limit: "
            "whoever shares an address with a publisher could keep it from publishing",
        ),
    ),
}


def limits() -> Sequence[Limit]:
    """List all limits, by group; first those that can be set."""
    known = {info.path: info for info in describe()}
    found = []
    for group, settings in _SETTINGS.items():
        for path, beyond in settings.items():
            info = known[path]
            found.append(Limit(group, path, info.default, info.help, beyond, True))
        for name, value, help_, beyond in _FIXED.get(group, ()):
            found.append(Limit(group, name, value, help_, beyond, False))
    return tuple(found)
