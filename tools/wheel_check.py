"""Build the wheel, install it where nothing else is, and look at what a user would get.

The wheel is built from the source distribution, so both must be complete. Everything runs outside
the checkout, so that nothing is found by accident.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "twisted/plugins/oni_plugin.py"

LOOK_AT_THE_INSTALLED_PACKAGE = """
import pathlib, sys, oni, oni.twisted_event_dispatcher
home = pathlib.Path(oni.__file__).parent
assert home.parent.name == "site-packages" and str(home).startswith(sys.prefix), home
assert (home / "py.typed").is_file(), "py.typed is missing"
"""
ASK_WITHOUT_THE_EXTRA = """
import subprocess, sys
done = subprocess.run([sys.argv[1], "--help"], capture_output=True, text=True)
print(done.stderr)
assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
"""
TWISTED_STILL_WORKS = """
import importlib.util, twisted, twisted.plugins, twisted.internet.defer
assert twisted.__file__, "twisted/__init__.py went with the wheel"
assert importlib.util.find_spec("oni") is None, "oni is still there"
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the checkout and give what it printed.

    Raises:
        SystemExit: It failed; its output has been shown.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        raise SystemExit(f"{' '.join(map(str, command))}: ended with {done.returncode}")
    return done.stdout


def offers_oni(twistd_help: str) -> bool:
    """Tell whether a line of ``twistd --help`` describes the subcommand ``oni``."""
    return any(line.split()[:1] == ["oni"] for line in twistd_help.splitlines())


def missing_from(wheel: Path) -> list[str]:
    """Give the files below ``oni/`` and the plugin that the wheel should carry and does not."""
    with zipfile.ZipFile(wheel) as archive:
        carried = set(archive.namelist())
    files = {PLUGIN} | {
        str(path.relative_to(ROOT))
        for path in (ROOT / "oni").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(files - carried)


def check(folder: Path) -> None:
    """Build, install, look, uninstall, look again."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    missing = missing_from(wheel)
    if missing:
        raise SystemExit(f"{wheel.name} lacks {', '.join(missing)}")

    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python, twistd = folder / "venv/bin/python", folder / "venv/bin/twistd"
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", wheel, cwd=folder)
    run(*pip, "check", cwd=folder)
    run(python, "-c", LOOK_AT_THE_INSTALLED_PACKAGE, cwd=folder)
    if not offers_oni(run(twistd, "--help", cwd=folder)):
        raise SystemExit("`twistd --help` does not name oni")

    oni = folder / "venv/bin/oni"
    told = run(python, "-c", ASK_WITHOUT_THE_EXTRA, oni, cwd=folder)
    if "pip install 'oni-dispatcher[server]'" not in told:
        raise SystemExit(f"`oni` without its extra says: {told}")

    run(*pip, "uninstall", "--yes", "oni-dispatcher", cwd=folder)
    run(python, "-c", TWISTED_STILL_WORKS, cwd=folder)
    if offers_oni(run(twistd, "--help", cwd=folder)):
        raise SystemExit("`twistd --help` still names oni after it was uninstalled")
    print(f"{wheel.name}: complete, its plugin is found, and it leaves Twisted whole")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="oni-wheel-") as name:
        check(Path(name))
