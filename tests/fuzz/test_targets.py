"""Whatever comes in: no crash, no leak, no growth."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.driver import drive
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import TARGETS, Target

INPUTS = 20_000
GROWTH = 500  # objects; caches of regular expressions and the like


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_target(target: Target) -> None:
    """20,000 inputs, and everything holds."""
    report = drive(target, 1, INPUTS)
    assert report.inputs == INPUTS
    assert report.growth < GROWTH


def test_reproducible() -> None:
    """The same seed gives the same inputs, another one others; some are as they were."""
    corpus = TARGETS[0].corpus
    one, two, other = Mutator(corpus, 1), Mutator(corpus, 1), Mutator(corpus, 2)
    first = [one.next() for _ in range(100)]
    assert first == [two.next() for _ in range(100)]
    assert first != [other.next() for _ in range(100)]
    assert set(first) & set(corpus)
    assert len(set(first)) > 50


def test_what_is_found_is_told() -> None:
    """A failure names target, seed and input."""

    def make() -> Callable[[bytes], None]:
        def feed(data: bytes) -> None:
            if b"\x0b" in data:
                raise ValueError("there it is")

        return feed

    with pytest.raises(AssertionError, match=r"^weak, seed 3, input \d+: ValueError: .*\\x0b"):
        drive(Target("weak", (b"abc",), make), 3, 5000)


def test_growth_is_told() -> None:
    """What keeps its inputs is found."""
    kept: list[object] = []
    report = drive(Target("leak", (b"abc",), lambda: lambda data: kept.append([data])), 1, 4000)
    assert report.growth >= 3000
