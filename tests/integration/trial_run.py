"""Test cases that need the asyncio reactor, run by trial in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.integration.daemon import CHECKOUT, environment


def run_cases(module: str, folder: Path, within: float = 150.0) -> int:
    """Run the cases of a module beside this one; give how many there were, all of them right."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "twisted.trial", "--reactor=asyncio"),
            *("--temp-directory", str(folder / "trial"), f"tests.integration.{module}"),
        ],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    counted = re.search(r"PASSED \(successes=(\d+)\)", done.stdout)
    assert counted is not None, done.stdout
    return int(counted[1])
