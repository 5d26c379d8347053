"""Lets hypothesis look for an input that a target cannot bear, and looks that nothing grows."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from tests.fuzz.mutation import PROGRAM, mutated
from tests.fuzz.targets import Target

__all__ = ["Report", "drive", "objects"]

# An example has several inputs, and each that is drawn is some: what hypothesis does takes longer
# than what most targets do.
_DRAWN = 10
_AT_ONCE = 10
_REPEATED = 4  # of so many inputs one more is made, to see what they leave behind


@dataclass(frozen=True)
class Report:
    """What a run has shown.

    Attributes:
        inputs: How many inputs there were.
        growth: How many objects more there are after a quarter as many other inputs.
    """

    inputs: int
    growth: int


def objects() -> int:
    """Count what Python holds, garbage left out."""
    gc.collect()
    return len(gc.get_objects())


def drive(target: Target, inputs: int, seed: int | None = None) -> Report:
    """Feed so many inputs, or a few more.

    Args:
        target: What is fed.
        inputs: How many.
        seed: Decides the inputs; None: hypothesis does, by its profile.

    Raises:
        AssertionError: Something does not hold, or failed in another way than it may; with the
            simplest input in it for which that is so.
        hypothesis.errors.Flaky: The same, but not each time; with what failed in it.
    """
    fed = _Fed(target)
    _search(fed, -(-inputs // (_DRAWN * _AT_ONCE)), seed)
    found = fed.inputs
    # Hypothesis remembers what it has tried, so this is looked at without it.
    repeatable = hypothesis.settings().derandomize
    random = Random(0 if seed is None and repeatable else seed)
    before = objects()
    for _ in range(inputs // _REPEATED):
        fed.feed(mutated(target.corpus, random.randbytes(PROGRAM)))
    return Report(found, objects() - before)


class _Fed:
    """A target, and how many inputs it was given.

    Attributes:
        target: The target.
        inputs: How many.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.inputs = 0
        self._feed: Callable[[bytes], None] | None = None

    def feed(self, data: bytes) -> None:
        """Give it an input. Where that fails, the next one gets a target that is new."""
        if self._feed is None:
            self._feed = self.target.make()
        self.inputs += 1
        try:
            self._feed(data)
        except Exception as error:
            self._feed = None
            raise AssertionError(
                f"{self.target.name}: {type(error).__name__}: {error}: {data!r}"
            ) from error


def _search(fed: _Fed, examples: int, seed: int | None) -> None:
    """Try so many examples, each of several inputs.

    An example ends with the first input that fails. So when hypothesis makes it simpler, the ones
    before that go, and then the changes of the last one.
    """
    size = _AT_ONCE * PROGRAM
    programs = st.binary(min_size=size, max_size=size)
    corpus = fed.target.corpus

    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.data())
    def examine(data: st.DataObject) -> None:
        for _ in range(_DRAWN):
            program = data.draw(programs)
            for start in range(0, size, PROGRAM):
                fed.feed(mutated(corpus, program[start : start + PROGRAM]))

    if seed is not None:
        examine = hypothesis.seed(seed)(examine)
    examine()
