"""The one place that make, tox and CI take their commands from tells failure from success."""

from __future__ import annotations

import configparser
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    """Load a module of ``tools/``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"oni_tools_{name}", ROOT / f"tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = load("check")
wheel_check = load("wheel_check")


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        ("== 437 passed in 3.21s ==", {"passed": 437}),
        ("= 1 failed, 2 passed in 61.00s (0:01:01) =", {"failed": 1, "passed": 2}),
        ("3 passed in 1.00s\n== 2 errors in 0.10s ==\ntail", {"errors": 2}),
        ("== no tests ran in 0.01s ==", {}),
        ("Killed", {}),
    ],
)
def test_closing_counts(output: str, counts: dict[str, int]) -> None:
    """The numbers come from pytest's last closing line."""
    assert check.closing_counts(output) == counts


def run_with(monkeypatch: pytest.MonkeyPatch, program: str) -> Any:
    """Run a check whose command is this program."""
    monkeypatch.setattr(check, "commands", lambda _: [[sys.executable, "-c", program]])
    return check.run("unit")


def test_a_check_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's exit code other than 0 is a problem, whatever it printed."""
    outcome = run_with(monkeypatch, "print('3 passed in 1.0s'); raise SystemExit(3)")
    assert "ended with 3" in outcome.problem


def test_tests_that_did_not_run_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test at all is a failure, even where pytest were content."""
    outcome = run_with(monkeypatch, "print('no tests ran in 0.0s')")
    assert outcome.problem == "no test ran"


def test_nothing_to_run_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check without commands, such as doctests without examples, is a failure."""
    monkeypatch.setattr(check, "commands", lambda _: [])
    assert check.run("doctest").problem == "there was nothing to run"


def test_a_good_check_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that ran and passed are counted."""
    outcome = run_with(monkeypatch, "print('3 passed in 1.0s')")
    assert not outcome.problem
    assert outcome.counts == {"passed": 3}


def test_totals_for_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors count as failures, and a failing check that is not pytest's as one."""
    monkeypatch.setenv("ONI_TOTALS", str(tmp_path / "totals"))
    check.write_totals(
        [
            check.Outcome("lint"),
            check.Outcome("types", "python -m mypy ended with 1"),
            check.Outcome("unit", "", counts={"passed": 5}),
            check.Outcome("integration", "ended", counts={"passed": 2, "failed": 1, "errors": 1}),
        ]
    )
    assert (tmp_path / "totals").read_text() == "0 0\n0 1\n5 0\n2 2\n"


def test_an_unknown_check_is_refused() -> None:
    """A misspelt check is no success."""
    done = subprocess.run(
        [sys.executable, "tools/check.py", "lints"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 2


def test_every_page_with_examples_is_a_doctest() -> None:
    """The tutorial is among the doctests, each file in a command of its own."""
    commands = check.commands("doctest")
    assert [sys.executable, "-m", "doctest", "docs/tutorial/first_dispatcher.rst"] in commands
    assert len({command[-1] for command in commands}) == len(commands)


def test_make_and_tox_run_the_same_commands() -> None:
    """Neither the Makefile nor tox.ini has a command of its own for any check."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    commands = [tox[section]["commands"] for section in tox if "commands" in tox[section]]
    assert all(re.fullmatch(r"python tools/check\.py \S+", command) for command in commands)
    named = {command.split()[-1] for command in commands} - {"{posargs:unit}"}
    assert named == {"lint", "types", "docs", "doctest", "wheel"} <= set(check.CHECKS)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"python (?:-m )?(\S+)", makefile) == [
        "oni.server.quickstart",
        "tools/check.py",
        '"$$script";',
        "tests.fuzz",
        "tests.integration.kill_harness",
        "tools/conformance.py",
        "tools/check.py",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Commands:\n    oni          An event dispatcher.\n    web  A server.", True),
        ("Commands:\n    web          Not oni.\n    onion        A router.", False),
    ],
)
def test_the_plugin_is_looked_for_by_name(text: str, found: bool) -> None:
    """Only a line that begins with the command's own name counts."""
    assert wheel_check.offers_oni(text) is found


def test_a_python_that_is_too_old_is_refused_in_words(tmp_path: Path) -> None:
    """``PYTHON=`` that names no supported interpreter is told, and nothing is made."""
    done = subprocess.run(
        ["sh", "tools/venv.sh", "server", str(tmp_path / "venv")],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PYTHON=/bin/false is not a Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_lanes_of_integration_tests() -> None:
    """Every file of integration tests is run, and in one lane only."""
    lanes = [check.commands(name)[0][3:] for name in check.PYTEST_CHECKS if name != "unit"]
    files = (ROOT / "tests" / "integration").glob("test_*.py")
    assert sorted(file for lane in lanes for file in lane) == sorted(
        str(file.relative_to(ROOT)) for file in files
    )
    assert all(lanes)
    assert all(len(lane) > 10 for lane in lanes[:2])
