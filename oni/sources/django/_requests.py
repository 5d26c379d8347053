"""The first request of a process: from then on it will not fork, and delivers what was left."""

from __future__ import annotations

from typing import Any

from django.core.signals import request_started

from oni.sources.django._hand_over import wake
from oni.sources.django._home import home

__all__ = ["start_with_first_request"]

_UID = "oni.start"


def start_with_first_request() -> None:
    """Let the first request begin the delivery."""
    request_started.connect(_started, dispatch_uid=_UID)


def _started(sender: Any, **_: Any) -> None:
    wake()
    if home.is_running or not home.sources.delivers:  # a test's request begins nothing
        request_started.disconnect(dispatch_uid=_UID)
