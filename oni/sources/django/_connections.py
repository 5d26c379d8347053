"""A thread's database connections."""

from __future__ import annotations

from django.db import connections

__all__ = ["close_connections"]


def close_connections() -> None:
    """Close this thread's connections, as Django does after a request: by ``CONN_MAX_AGE``.

    One within a transaction is somebody else's, as in a test, and is left alone.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
