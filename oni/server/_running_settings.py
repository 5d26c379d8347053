"""Settings of the daemon's own life: how it stops, what it watches, what it writes and counts."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["LogSettings", "MetricsSettings", "RunningSettings", "running_problems"]


class RunningSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[running]``: how the daemon stops, and what it watches meanwhile."""

    not_ready_time: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds after SIGTERM in which /readyz already says no and new "
            "connections are still taken, so that a load balancer can look elsewhere. They come "
            "before server.stop_timeout.",
        ),
    ] = 0.0
    drain_time: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds over which the open connections are closed when the daemon "
            "stops, at most half of server.stop_timeout. A few are closed at once.",
        ),
    ] = 3.0
    stall_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without a turn of the reactor after which the log says what "
            "blocks it, with every thread's stack.",
        ),
    ] = 5.0
    exit_when_stalled: Annotated[
        bool,
        Meta(
            description="Whether the process then ends with exit code 75, for a supervisor that "
            "starts it anew. Under systemd with WatchdogSec this is not needed."
        ),
    ] = False
    max_lost_threads: Annotated[
        int,
        Meta(
            ge=1,
            description="Threads of blocking handlers that were given up and still run; each is "
            "replaced. With more of them the daemon stops, and exits with code 75.",
        ),
    ] = 10


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[log]``: what is written to standard output, where twistd is not told of another place."""

    format: Annotated[
        Literal["text", "json"],
        Meta(description="One line of text for each event, or one JSON object."),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warn", "error", "critical"],
        Meta(description="What is less important than this is not written."),
    ] = "info"
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            description="Events that wait while standard output takes nothing, at most. Further "
            "ones are dropped and counted.",
        ),
    ] = 10000


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[metrics]``: who may read ``/metrics``."""

    readers: Annotated[
        Literal["loopback", "key", "everyone", "nobody"],
        Meta(
            description="Who may read without a key. 'loopback': programs on this machine that "
            "come without a proxy, by a name of loopback. 'key': nobody may. 'everyone': whoever "
            "reaches the port. 'nobody': there is no /metrics, with a key neither."
        ),
    ] = "loopback"
    key: Annotated[
        Annotated[str, Meta(min_length=16)] | None,
        Meta(
            description="What lets anybody read: the header X-API-Key, or Authorization: Bearer, "
            "must say it. The key in [admin] does, too."
        ),
    ] = None
    key_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A file that holds that key instead, relative to the settings file. Space "
            "around it does not count."
        ),
    ] = None

    def __repr__(self) -> str:
        """Say whether there is a key, not which."""
        return f"MetricsSettings(readers={self.readers!r}, key={'...' if self.key else None})"


def running_problems(running: RunningSettings, metrics: MetricsSettings) -> list[str]:
    """Say what is wrong with these settings that their types do not show."""
    problems = [
        f"running.{field.name}: expected a finite number, got {value}"
        for field in msgspec.structs.fields(RunningSettings)
        if isinstance(value := getattr(running, field.name), float) and not math.isfinite(value)
    ]
    if metrics.key is not None and not _is_plain(metrics.key):
        problems.append(
            "metrics.key: expected printable ASCII characters without spaces, got something else"
        )
    return problems


def _is_plain(key: Any) -> bool:
    return bool(key.isascii() and key.isprintable() and " " not in key)
