"""Feeds a target, and looks that nothing grows."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import Target

__all__ = ["Report", "drive", "objects"]


@dataclass(frozen=True)
class Report:
    """What a run has shown.

    Attributes:
        inputs: How many inputs there were.
        growth: How many objects there are more than after the first quarter.
    """

    inputs: int
    growth: int


def objects() -> int:
    """Count what Python holds, garbage left out."""
    gc.collect()
    return len(gc.get_objects())


def drive(target: Target, seed: int, inputs: int, until: float | None = None) -> Report:
    """Feed so many inputs.

    Args:
        target: What is fed.
        seed: Decides the inputs.
        inputs: How many.
        until: The time after which it is enough, as ``time.monotonic`` counts.

    Raises:
        AssertionError: Something does not hold, or failed in another way than it may; with the
            input in it.
    """
    mutator, feed = Mutator(target.corpus, seed), target.make()
    before = done = 0
    for done in range(1, inputs + 1):
        data = mutator.next()
        try:
            feed(data)
        except Exception as error:
            raise AssertionError(
                f"{target.name}, seed {seed}, input {done}: {type(error).__name__}: {error}: "
                f"{data!r}"
            ) from error
        if done == inputs // 4:
            before = objects()
        if until is not None and done % 256 == 0 and time.monotonic() > until:
            break
    return Report(done, objects() - before if before else 0)
