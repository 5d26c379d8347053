"""The pages for those who run the daemon: ``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from typing import Any

from twisted.web.resource import Resource

from oni.dispatcher import lost_threads
from oni.server._guesses import Guesses
from oni.server.metrics._page import make_metrics_page
from oni.server.metrics._readings import Readings
from oni.server.running._logs import dropped_events
from oni.server.running._pages import Health, Readiness

__all__ = ["put_running_pages"]


def put_running_pages(root: Resource, oni: Any, front: Any, guesses: Guesses) -> None:
    """Put them beside what else is at the root.

    Args:
        root: What is at ``/``.
        oni: The Oni that they tell of.
        front: The :class:`oni.server._listener.FrontFactory` that serves it.
        guesses: Knows who has sent wrong keys.
    """
    settings = oni.settings
    readings = Readings(
        oni,
        lambda: int(front.connections),
        front.websockets.drain,
        {"oni_lost_threads": lost_threads, "oni_log_dropped_total": dropped_events},
    )
    metrics: Any = make_metrics_page(settings.metrics, settings.admin.key, guesses, readings.read)
    root.putChild(b"healthz", Health(front.reactor.seconds, oni.condition.troubles))
    root.putChild(b"readyz", Readiness(oni.condition))
    root.putChild(b"metrics", metrics)
