"""What ``make test`` installs is what the integration tests look for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import CHROMIUMS, find_working
from tests.integration.postgres import POSTGRES
from tests.integration.rabbitmq_server import RABBITMQ

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "debian_packages.sh"
TOOLS = ("sh", "cat", "cut", "id", "tr")


def write(folder: Path, name: str, status: int) -> None:
    """Write a program that ends with this status."""
    program = folder / name
    program.write_text(f"#!{folder}/sh\nexit {status}\n")
    program.chmod(0o755)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """Give the only folder on PATH: it holds what the script itself needs, and no apt-get."""
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def said() -> str:
    """Run the script, and give what it says."""
    done = subprocess.run(
        [str(SCRIPT)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def listed() -> dict[str, str]:
    """Give the script's own list: which programs will do, and the package that brings one."""
    text = SCRIPT.read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w|/*-]+):([\w-]+):.+$", text, re.MULTILINE))


def test_same_programs() -> None:
    """The script and the tests know the same programs."""
    found = listed()
    assert (found["|".join(CHROMIUMS)], found["curl"]) == ("chromium", "curl")
    assert found["|".join(POSTGRES)] == "postgresql"
    assert found["|".join(RABBITMQ)] == "rabbitmq-server"


def test_missing(folder: Path) -> None:
    """What is missing is named, with its package."""
    told = said()
    assert "package chromium" in told
    assert "package curl" in told
    assert find_working("curl") is None


def test_stub(folder: Path) -> None:
    """A program that cannot say its version counts as missing, here and there."""
    write(folder, "chromium-browser", 1)
    write(folder, "curl", 0)
    assert find_working(*CHROMIUMS) is None
    told = said()
    assert "package chromium" in told
    assert "package curl" not in told


@pytest.mark.parametrize("name", CHROMIUMS)
def test_all_there(folder: Path, name: str) -> None:
    """Where all is there, nothing is said."""
    write(folder, name, 0)
    for programs in listed():
        if name not in programs:
            write(folder, programs.partition("|")[0], 0)
    assert find_working(*CHROMIUMS) == str(folder / name)
    assert said() == ""
