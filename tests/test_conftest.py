"""A skip is counted and named, and is a failure where nothing may be skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPPED_TEST = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="no such server")
def test_is_skipped():
    pass

@pytest.mark.xfail(reason="known")
def test_is_expected_to_fail():
    assert False
"""
SKIPPED_MODULE = """
import pytest
pytest.importorskip("there_is_no_such_module")
"""
ENDLESS_TEST = """
import threading

def test_never_ends():
    threading.Event().wait()
"""


def run_pytest(
    folder: Path, test: Path, text: str, no_skip: bool = False, conftest: str | None = None
) -> tuple[int, str]:
    """Run one test module under our conftest in a process of its own."""
    (folder / "conftest.py").write_text(CONFTEST.read_text() if conftest is None else conftest)
    test.parent.mkdir(exist_ok=True)
    test.write_text(text)
    environment = {k: v for k, v in os.environ.items() if k != "ONI_NO_SKIP"}
    if no_skip:
        environment["ONI_NO_SKIP"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, folder],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_skips_are_counted_and_named(tmp_path: Path) -> None:
    """Where skips are allowed, the run passes and its end says how many there were and why."""
    status, output = run_pytest(tmp_path, tmp_path / "test_it.py", SKIPPED_TEST)
    assert status == 0
    assert "1 x no such server" in output
    assert "1 passed, 1 skipped, 1 xfailed" in output


def test_no_skip_makes_a_skip_a_failure(tmp_path: Path) -> None:
    """With ONI_NO_SKIP a skipped test fails with its reason; an expected failure is no skip."""
    status, output = run_pytest(tmp_path, tmp_path / "test_it.py", SKIPPED_TEST, no_skip=True)
    assert status == 1
    assert "nothing may be skipped here (ONI_NO_SKIP): no such server" in output
    assert "1 passed, 1 xfailed, 1 error" in output


def test_a_skipped_module_is_named(tmp_path: Path) -> None:
    """A module that skips itself while it is imported is counted too."""
    _, output = run_pytest(tmp_path, tmp_path / "test_it.py", SKIPPED_MODULE)
    assert "1 x could not import 'there_is_no_such_module'" in output


def test_no_skip_makes_a_skipped_module_an_error(tmp_path: Path) -> None:
    """With ONI_NO_SKIP a module that skips itself is an error."""
    status, output = run_pytest(tmp_path, tmp_path / "test_it.py", SKIPPED_MODULE, no_skip=True)
    assert status != 0
    assert "1 error" in output
    assert "there_is_no_such_module" in output


def test_integration_tests_have_a_time_limit(tmp_path: Path) -> None:
    """A test below ``integration/`` that never ends is ended."""
    conftest = CONFTEST.read_text().replace("TIMEOUT = 60.0", "TIMEOUT = 0.5")
    test = tmp_path / "integration" / "test_it.py"
    status, output = run_pytest(tmp_path, test, ENDLESS_TEST, conftest=conftest)
    assert status != 0
    assert "Timeout (>0.5s)" in output
