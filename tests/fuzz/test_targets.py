"""Whatever comes in: no crash, no leak, no growth."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Iterator
from random import Random

import hypothesis
import pytest

from tests.fuzz.driver import drive
from tests.fuzz.mutation import PROGRAM, mutated
from tests.fuzz.targets import TARGETS, Target

INPUTS = 20_000
GROWTH = 200  # objects; caches of regular expressions and the like


@pytest.fixture
def ci() -> Iterator[None]:
    """Let hypothesis do what it does in CI."""
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.load_profile("ci")
    yield
    hypothesis.settings.load_profile(before)


def weak(fails: Callable[[bytes], bool], corpus: tuple[bytes, ...] = (b"abc",)) -> Target:
    """Make a target that cannot bear some inputs."""

    def feed(data: bytes) -> None:
        if fails(data):
            raise ValueError("there it is")

    return Target("weak", corpus, lambda: feed)


def told_input(error: Exception) -> bytes:
    """Read the input that a failure names."""
    found = literal_eval(str(error).partition("there it is: ")[2])
    assert isinstance(found, bytes)
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_target(target: Target) -> None:
    """20,000 inputs, and everything holds."""
    report = drive(target, INPUTS)
    assert report.inputs >= INPUTS
    assert report.growth < GROWTH


@pytest.mark.usefixtures("ci")
def test_reproducible() -> None:
    """In CI the inputs are always the same, and so they are for a seed; they are many."""

    def inputs(seed: int | None = None) -> list[bytes]:
        fed: list[bytes] = []
        drive(Target("kept", TARGETS[0].corpus, lambda: fed.append), 1000, seed)
        return fed

    first = inputs()
    assert first == inputs()
    assert inputs(1) == inputs(1) != first
    assert set(first) & set(TARGETS[0].corpus)
    assert len(set(first)) > 500


def test_simple_programs() -> None:
    """A program of zeros, or without an end, changes nothing; other ones come everywhere."""
    corpus = (b"first", b"second")
    assert mutated(corpus, b"") == mutated(corpus, bytes(PROGRAM)) == b"first"
    assert mutated(corpus, b"\x00\x07") == b"first"
    assert mutated(corpus, b"\x01") == b"second"
    random = Random(1)
    made = [mutated(corpus, random.randbytes(PROGRAM)) for _ in range(2000)]
    assert set(corpus) <= set(made)
    for at in range(5):
        assert any(data[at : at + 1] != b"first"[at : at + 1] for data in made)
    assert min(map(len, made)) < 3
    assert max(map(len, made)) > 300


@pytest.mark.usefixtures("ci")
def test_what_is_found_is_told() -> None:
    """A failure names the target and the simplest input that shows it."""
    target = weak(lambda data: b"\x0b" in data, (b"abc", b"a long one, and another long one"))
    with pytest.raises(AssertionError, match=r"^weak: ValueError: there it is: ") as caught:
        drive(target, 5000)
    assert len(told_input(caught.value)) < 40


@pytest.mark.usefixtures("ci")
def test_broken_parser() -> None:
    """What one input of several shows, changed in one way, is found and made simple, too."""
    found: list[bytes] = []

    def fails(data: bytes) -> bool:
        if data.startswith(b"x=") and b"true" in data:
            found.append(data)
            return True
        return False

    with pytest.raises(AssertionError, match=r"^weak: ") as caught:
        drive(weak(fails, (b"abc", b"def", b"x=" + b"1" * 30)), 10_000)
    assert len(set(found)) > 1, "nothing simpler than what was found first was tried"
    assert len(told_input(caught.value)) < 80


def test_what_fails_once() -> None:
    """What cannot be repeated is told as well."""
    fed: list[bytes] = []

    def fails(data: bytes) -> bool:
        fed.append(data)
        return len(fed) == 500

    with pytest.raises(hypothesis.errors.FlakyFailure) as caught:
        drive(weak(fails), 5000)
    assert any(str(error).startswith("weak: ") for error in caught.value.exceptions)


def test_growth_is_told() -> None:
    """What keeps its inputs is found."""
    kept: list[object] = []
    report = drive(Target("leak", (b"abc",), lambda: lambda data: kept.append([data])), 4000)
    assert report.growth >= 1000
