"""What ``oni doctor`` finds on this machine: versions, file descriptors, the clock."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
from collections.abc import Iterator
from importlib.metadata import version

from oni import __version__
from oni.command._doctor_rows import Row, error, fine, warning
from oni.server import Settings

__all__ = ["NEEDED", "clock_row", "descriptors_row", "look_here", "version_row"]

NEEDED = {"Twisted": (26, 10), "autobahn": (26, 7, 1)}
"""The oldest versions that will do."""

_SPARE_DESCRIPTORS = 64  # listeners, logs, the backend, modules
_UNSYNCHRONIZED = 5  # TIME_ERROR of adjtimex(2)


def look_here(settings: Settings | None) -> Iterator[Row]:
    """Look at this machine."""
    yield fine("Oni", f"{__version__} on Python {platform.python_version()}")
    for name, needed in NEEDED.items():
        yield version_row(name, version(name), needed)
    wanted = (settings or Settings()).server.max_connections
    yield descriptors_row(wanted, *resource.getrlimit(resource.RLIMIT_NOFILE))
    yield clock_row(_clock_state())


def version_row(name: str, found: str, needed: tuple[int, ...]) -> Row:
    """Judge the version of a library."""
    numbers = tuple(map(int, re.findall(r"[0-9]+", found)[:3]))
    if numbers >= needed:
        return fine(name, found)
    least = ".".join(map(str, needed))
    return error(name, f"{found}, which is older than {least}", f"pip install '{name}>={least}'")


def descriptors_row(connections: int, soft: int, hard: int) -> Row:
    """Judge the limit of open files of processes that are started as this one was."""
    needed = connections + _SPARE_DESCRIPTORS
    what = "file descriptors"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        shown = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        return fine(what, f"{shown}, for {connections:,} connections")
    way = f"ulimit -n {needed}"
    if hard != resource.RLIM_INFINITY and hard < needed:
        way = f"LimitNOFILE={needed} in the unit file, or nofile in limits.conf"
    return warning(
        what,
        f"{soft:,} for processes started here; {connections:,} connections need {needed:,}",
        f"{way}; or lower server.max_connections",
    )


def clock_row(state: int | None) -> Row:
    """Judge what the kernel says of its clock: a state of adjtimex(2)."""
    if state is None:
        return warning("clock", "the kernel does not say whether it is set", "compare it yourself")
    if state == _UNSYNCHRONIZED:
        return warning(
            "clock",
            "nothing sets it, so tokens may expire too early or too late",
            "run chrony or systemd-timesyncd",
        )
    return fine("clock", "it is set by a time service")


def _clock_state() -> int | None:
    """Ask the kernel; nothing is changed."""
    try:
        timex = ctypes.create_string_buffer(512)  # struct timex, its modes 0: only ask
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    return state if state >= 0 else None
