"""Event sources in a process of its own life: the ledger opened, watched, pruned and closed.

The daemon and `oni sources work` share it. Importing this room does no work; its parts are
imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oni.server.sources._making import (
        find_instances,
        make_worker_service,
        settings_for_django,
    )
    from oni.server.sources._worker import run_worker

__all__ = ["find_instances", "make_worker_service", "run_worker", "settings_for_django"]


def __getattr__(name: str) -> Any:
    if name in ("find_instances", "make_worker_service", "settings_for_django"):
        from oni.server.sources import _making

        return getattr(_making, name)
    if name == "run_worker":
        from oni.server.sources._worker import run_worker

        return run_worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
