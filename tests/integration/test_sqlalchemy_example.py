"""The SQLAlchemy example as its readers run it: by its one command, twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.daemon import CHECKOUT, environment

EXAMPLE = CHECKOUT / "examples" / "sqlalchemy_mails" / "mails.py"


def run(folder: Path) -> list[str]:
    """Run it; give the lines that it prints, sorted."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", str(EXAMPLE)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sorted(done.stdout.splitlines())


def test_twice(tmp_path: Path) -> None:
    """Each mail is sent once; what was rolled back or refused has none."""
    assert run(tmp_path) == [
        "mail to ann: challenge_created 'Run 10 km'",
        "mail to bob: challenge_created 'Tidy up'",
        "mail to bob: challenge_ends_2d 'Tidy up'",
        "refused: 'Rest' ends before it begins",
        "rolled back: she has thought better of it",
    ]
    assert run(tmp_path) == [
        "challenge 1 was modified: {'title': ('Run 10 km', 'Run 12 km')}",
    ]
