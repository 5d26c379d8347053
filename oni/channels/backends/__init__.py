"""Where channels keep their data: one module for each kind of backend, found by its URL."""

from __future__ import annotations

from oni.channels.backends._urls import backend_for

__all__ = ["backend_for"]
