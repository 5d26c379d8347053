"""The first request of a process: from then on it will not fork, and delivers what was left."""

from __future__ import annotations

from typing import Any

from django.core.signals import request_started

from oni.sources.django._hand_over import wake

__all__ = ["start_with_first_request"]


def start_with_first_request() -> None:
    """Let the first request begin the delivery."""
    request_started.connect(_started, dispatch_uid="oni.start")


def _started(sender: Any, **_: Any) -> None:
    wake()
