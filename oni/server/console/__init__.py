"""What the console at ``/`` asks for: figures, passes and publications, below ``/admin``."""

from __future__ import annotations

from oni.server.console._access import Access
from oni.server.console._resource import Admin
from oni.server.console._watcher import Watcher

__all__ = ["Access", "Admin", "Watcher"]
