"""Mistakes that others have made are found by the runs that find nothing wrong here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.kill_harness.checker import Report
from tests.integration.kill_harness.conductor import WITHIN
from tests.integration.kill_harness.mutants import MUTANTS
from tests.integration.kill_harness.places import Place, sqlite_place
from tests.integration.kill_harness.scenes import rescued_by_two, restarted, sleeping
from tests.integration.kill_harness.storm import Storm, storm

pytestmark = pytest.mark.timeout(600)

SEED = 5
LEASE = 1.5  # seconds
PATIENCE = 4.0
SMALL = Storm(keys=40, kills=4, stops=0, workers=2, lease=10.0)
SIZES = {
    "A": replace(SMALL, point="book.begun"),
    "B": replace(SMALL, point="complete.written", kills=8),
    "F": replace(SMALL, kills=2),
    "G": replace(SMALL, kills=2),
}
SCENES: dict[str, Callable[[Place, Path, str], Report]] = {
    "C": lambda place, folder, mutant: sleeping(place, folder, LEASE, mutant),
    "D": rescued_by_two,
    "E": lambda place, folder, mutant: restarted(
        place, folder, mutant, PATIENCE if mutant else WITHIN
    ),
}
FOUND = {
    "A": "done without effect",
    "B": "double effect",
    "C": "double effect",
    "D": "double effect",
    "E": "not finished",
    "F": "double effect",
    "G": "out of order",
}


@pytest.mark.parametrize("letter", SIZES)
def test_found_in_a_storm(letter: str, tmp_path: Path) -> None:
    """The same storm goes well without the mistake, and badly with it."""
    for mutant in ("", letter):
        folder = tmp_path / f"with {mutant}"
        folder.mkdir()
        place = sqlite_place(folder)
        place.open()
        report = storm(place, folder, SEED, replace(SIZES[letter], mutant=mutant))
        place.close()
        assert (FOUND[letter] in report.problems) is bool(mutant), str(report)
        assert bool(report.problems) is bool(mutant), str(report)


@pytest.mark.parametrize("letter", SCENES)
def test_found_in_a_scene(letter: str, tmp_path: Path) -> None:
    """The same scene goes well without the mistake, and badly with it."""
    place = sqlite_place(tmp_path)
    assert not SCENES[letter](place, tmp_path / "right", "").problems
    assert FOUND[letter] in SCENES[letter](place, tmp_path / "wrong", letter).problems
    place.close()


def test_every_mistake_is_tried() -> None:
    """None is left out."""
    assert {*SIZES, *SCENES} == set(FOUND) == set(MUTANTS)
