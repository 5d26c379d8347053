"""The example's unit file is right, and fits the daemon's own times."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oni.server._running_settings import RunningSettings
from oni.server._settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "examples/systemd/oni.service"
PAGE = ROOT / "docs/how-to/systemd.rst"
KNOWN = ("Unit", "Service", "Install")


def parsed() -> dict[str, dict[str, list[str]]]:
    """Read the file: sections, keys and each key's values."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = {}
        elif line and not line.startswith("#"):
            key, sign, value = line.partition("=")
            assert sign and section, line
            found[section].setdefault(key, []).append(value)
    return found


def test_what_the_daemon_needs() -> None:
    """It is told when the daemon is ready, waits as long as a drain takes, and starts it anew."""
    unit = parsed()
    assert tuple(unit) == KNOWN
    service = unit["Service"]
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["on-failure"]
    (start,), (check,) = service["ExecStart"], service["ExecStartPre"]
    assert check == f"{start} --check"
    assert " -n " in start
    longest = ServerSettings().stop_timeout + RunningSettings().not_ready_time
    assert int(service["TimeoutStopSec"][0]) > longest + 5
    # What the log tells of a stall comes before the supervisor acts on it.
    assert int(service["WatchdogSec"][0]) > RunningSettings().stall_timeout * 2
    assert int(service["LimitNOFILE"][0]) >= 16 * ServerSettings().max_connections


def test_hardened() -> None:
    """It runs as nobody in particular, and writes nowhere but in its own folder."""
    service = parsed()["Service"]
    assert service["User"] == ["oni"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["ProtectSystem"] == ["strict"]
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert service[key] == ["yes"]
    assert "AF_UNIX" in service["RestrictAddressFamilies"][0]  # for the supervisor's own socket


def test_systemd_takes_it(tmp_path: Path) -> None:
    """The real systemd finds nothing wrong, where there is one; else the names are looked at."""
    text = UNIT.read_text(encoding="utf-8")
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert all(key.isalnum() for section in parsed().values() for key in section)
        return
    twistd = Path(sys.executable).with_name("twistd")
    copy = tmp_path / "oni.service"
    copy.write_text(text.replace("/srv/oni/bin/twistd", str(twistd)), encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "oni.service" in line]
    assert said == []
    assert done.returncode == 0, done.stderr


def test_the_page_shows_it() -> None:
    """The how-to includes the file itself, so that both say the same."""
    assert "literalinclude:: /../examples/systemd/oni.service" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", ["Typ=notify", "WatchdogSec=soon"])
def test_a_wrong_unit_is_found(tmp_path: Path, wrong: str) -> None:
    """What looks at it does see mistakes."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        assert UNIT.exists()
        return
    copy = tmp_path / "oni.service"
    copy.write_text(f"[Service]\nExecStart=/bin/true\n{wrong}\n", encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "oni.service" in done.stderr
