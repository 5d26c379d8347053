"""Oni: an event dispatcher for Twisted, and what an application needs on both sides of it.

Importing this package imports nothing else of it: take what you need from its rooms, above all
:mod:`oni.twisted_event_dispatcher`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
