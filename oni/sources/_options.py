"""What can be set of event sources, checked where it is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from oni.errors import InvalidTimeoutError
from oni.sources._pool import RunsElsewhere
from oni.values import is_seconds

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What can be set of :class:`oni.sources.EventSources`, which says what each means."""

    deliver: Literal["here", "worker"] = "here"
    concurrency: int = 64
    threads: int = 10
    threads_lost: int | None = None
    threaded: bool = False
    poll: float = 1.0
    after_call: Callable[[], object] | None = None
    threads_exhausted: Callable[[], object] | None = None
    reactor: Any = None
    random: Callable[[], float] = random.random
    make_pool: Callable[[int], RunsElsewhere] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.deliver not in ("here", "worker"):
            raise ValueError(f"deliver is 'here' or 'worker', not {self.deliver!r}")
        for name in ("concurrency", "threads"):
            self._check_count(name, 1)
        if self.threads_lost is not None:
            self._check_count("threads_lost", 0)
        if not is_seconds(self.poll):
            raise InvalidTimeoutError("poll", self.poll)

    def _check_count(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or value < least:
            raise ValueError(f"{name} is an integer from {least} on, not {value!r}")
