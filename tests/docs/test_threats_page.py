"""The page of the threats names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "threats.rst"


def _names(path: Path) -> set[str]:
    """Give what a test file has: classes, functions and methods, joined as pytest does."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            }
    return found


def test_tests_are_there() -> None:
    """Every test that the page names exists."""
    named = re.findall(r"``(tests/[\w/]+\.py)(?:::([\w:]+))?``", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 30
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert not name or name in _names(ROOT / file), (file, name)


def test_every_threat_has_its_row() -> None:
    """T1 to T32, each once."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"\* - ((?:T\d+(?:, )?)+)\. ", text)
    found = [int(number) for row in rows for number in re.findall(r"T(\d+)", row)]
    assert sorted(found) == list(range(1, 33))
