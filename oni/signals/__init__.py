"""Signals: events that a module declares, for whoever imports it.

A :class:`Signal` calls its receivers with ``receiver(sender, **what_was_sent)``. They are handlers
of a dispatcher of the signal's own: they may be functions, coroutine functions, or return
Deferreds, run in phases, and are held weakly unless told otherwise.
"""

from __future__ import annotations

from oni.signals._signal import Sending, Signal, receiver

__all__ = ["Sending", "Signal", "receiver"]
