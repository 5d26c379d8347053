"""The ZCML example as its readers run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "zcml"


def test_app() -> None:
    """Two announced events go through the phases, in the order that the file states."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLE / "app.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert sorted(lines) == [
        "keys for bob",
        "log: user_created bob",
        "log: user_created susan",
        "welcome, bob",
        "welcome, susan",
    ]
    for user in ("bob", "susan"):
        assert lines.index(f"log: user_created {user}") < lines.index(f"welcome, {user}")
    assert lines.index("welcome, bob") < lines.index("keys for bob")
