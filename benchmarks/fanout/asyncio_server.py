"""Runs an asyncio server with uvloop, where that is installed, and with the probe."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from loop_probe import probe_asyncio


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it until the process is ended."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        probe_asyncio(runner.get_loop())
        runner.run(main)
