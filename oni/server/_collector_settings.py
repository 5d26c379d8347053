"""``[collector]``: how the daemon has Python look for garbage."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["CollectorSettings"]


class CollectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[collector]``: Python's garbage collector, which stops everything while it looks."""

    freeze: Annotated[
        bool,
        Meta(
            description="Whether what is there when the daemon has started is never looked at: "
            "modules, classes and handlers, which stay anyway."
        ),
    ] = True
    young: Annotated[
        int,
        Meta(
            ge=0,
            description="New objects after which the youngest are looked at; Python's own number "
            "is 700. More make fewer stops, and let more garbage wait. 0 leaves all numbers as "
            "Python has them.",
        ),
    ] = 10_000
