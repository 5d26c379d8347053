"""The examples of README.md do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Example(NamedTuple):
    """A block of Python, and what it prints.

    Attributes:
        heading: The heading that it stands below.
        code: The program.
        printed: The block of text that follows, or ``""``.
    """

    heading: str
    code: str
    printed: str


def examples() -> list[Example]:
    """Give every block of Python in README.md, in order."""
    pattern = r"^## (.+?)$|^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?"
    found, heading = [], ""
    for match in re.finditer(pattern, README, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        else:
            found.append(Example(heading, match[2], match[3] or ""))
    return found


EXAMPLES = examples()


def test_all_examples_are_found() -> None:
    """There is one for each of the four ways to use Oni, and no block is overlooked."""
    assert {example.heading for example in EXAMPLES} == {
        "A dispatcher in ten lines",
        "As a utility of the Zope Component Architecture",
        "With `twistd`",
        "In a synchronous program",
    }
    assert len(EXAMPLES) == README.count("```python")
    assert sum(bool(example.printed) for example in EXAMPLES) == README.count("```text")


def test_ten_lines_are_ten_lines() -> None:
    """The first example is as short as its heading says."""
    lines = [line for line in EXAMPLES[0].code.splitlines() if line.strip()]
    assert len(lines) <= 10


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.heading)
def test_example_prints_what_it_says(example: Example, tmp_path: Path) -> None:
    """Run as a program of its own, each example prints what stands below it, and no complaint."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore:isSet:DeprecationWarning", "-c", example.code],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, example.printed, "")


def test_the_settings_are_toml() -> None:
    """The settings file of the daemon's example names the example's function."""
    (text,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert tomllib.loads(text)["app"]["configure"] == "shop:configure"


def test_two_commands() -> None:
    """README shows exactly two commands to set up and go, and the Makefile has both."""
    assert re.findall(r"^    make (\w+)", README, re.MULTILINE) == ["run", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"run", "test"} <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
