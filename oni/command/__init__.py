"""The command line: ``python -m oni``, installed as ``oni``.

It speaks to a daemon as every other client does: over its HTTP API and its websocket.
"""

from __future__ import annotations

from oni.command._main import main

__all__ = ["main"]
