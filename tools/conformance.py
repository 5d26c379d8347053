"""Run the Autobahn Testsuite against the websocket carrier: ``make conformance``.

The suite (https://github.com/crossbario/autobahn-testsuite) runs on Python 2.7 only. It is
installed into ``.wstest`` at the first run, where a Python 2.7 is found; ``ONI_WSTEST=path`` names
a ``wstest`` that is there already. The carrier echoes what it is sent, in every way in which it
can send, and the suite's verdict on each case is read from its report in ``build/conformance``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ECHO = ROOT / "tools" / "conformance_echo.py"
HOME = ROOT / ".wstest"
REPORT = ROOT / "build" / "conformance"
LOG, ECHO_LOG = "wstest.log", "echo.log"

# What the carrier is run with, by the name that the report calls it by.
WAYS = {
    "direct": ("direct", "0"),
    "direct-small": ("direct", "4096"),
    "transport": ("transport", "0"),
}

# Large messages, which are over the limit (9); compression, which is never accepted (12, 13).
EXCLUDED = ("9.*", "12.*", "13.*")
CASES = 247

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
SHOWN = 20  # lines of what is wrong
WITHIN = 600.0  # seconds, for the suite on a busy machine

MISSING = """\
!! The Autobahn Testsuite is not installed, and could not be: {reason}

   It runs on Python 2.7 only:
       pyenv install 2.7.18
   Then `make conformance` does the rest; by hand it is
       python2.7 -m pip install --user virtualenv==20.15.1
       python2.7 -m virtualenv .wstest/env
       .wstest/env/bin/pip install autobahntestsuite==25.10.1
   A wstest of your own is taken, too: make conformance ONI_WSTEST=/path/to/wstest
"""


class MissingError(Exception):
    """The suite is not there, and cannot be installed."""


# --- The suite itself ----------------------------------------------------------------------------


def find_wstest() -> Path:
    """Find the suite's program, or install it.

    Raises:
        MissingError: There is none.
    """
    named = os.environ.get("ONI_WSTEST")
    if named:
        if not os.access(named, os.X_OK):
            raise MissingError(f"ONI_WSTEST is {named}, which is no program")
        return Path(named)
    program = HOME / "env" / "bin" / "wstest"
    if not program.exists():
        install(find_python())
    return program


def find_python() -> str:
    """Find a Python 2.7 that runs.

    Raises:
        MissingError: There is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python2.7"), *sorted(pyenv.glob("versions/2.7.*/bin/python2.7"))]
    for candidate in filter(None, candidates):
        command = [
            str(candidate),
            "-c",
            "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))",
        ]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return str(candidate)
    raise MissingError("no python2.7 with pip was found, on PATH or under pyenv")


def install(python: str) -> None:
    """Install the suite into ``.wstest``.

    Raises:
        MissingError: pip failed.
    """
    print(
        "== Installing the Autobahn Testsuite (the first time takes a minute or two)", flush=True
    )
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    quiet = ["install", "--quiet", "--disable-pip-version-check"]
    steps: list[list[str]] = [
        [python, "-m", "pip", *quiet, "--target", str(HOME / "tools"), "virtualenv==20.15.1"],
        [python, "-m", "virtualenv", "--quiet", str(HOME / "env")],
        [str(HOME / "env/bin/python"), "-m", "pip", *quiet, "autobahntestsuite==25.10.1"],
    ]
    for step, path in zip(steps, ("", str(HOME / "tools"), ""), strict=True):
        with open(HOME / "install.log", "ab") as log:
            done = subprocess.run(
                step,
                env={**os.environ, "PYTHONPATH": path},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise MissingError(f"a step failed, see {HOME / 'install.log'}")


# --- A run ---------------------------------------------------------------------------------------


@contextmanager
def echoes() -> Iterator[dict[str, str]]:
    """Run an echo server for each way while the block runs; give their addresses by name."""
    processes = []
    shutil.rmtree(REPORT, ignore_errors=True)
    REPORT.mkdir(parents=True)
    log = open(REPORT / ECHO_LOG, "wb")  # noqa: SIM115 - it is there as long as the servers
    try:
        addresses = {}
        for name, arguments in WAYS.items():
            process = subprocess.Popen(
                [sys.executable, str(ECHO), *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            processes.append(process)
            assert process.stdout is not None
            addresses[name] = process.stdout.readline().strip()
            if not addresses[name]:
                raise SystemExit(f"the echo server {name!r} did not start")
        yield addresses
    finally:
        for process in processes:
            process.kill()
            process.wait()
        log.close()


def run_suite(wstest: Path, addresses: Mapping[str, str], cases: Sequence[str] = ("*",)) -> Any:
    """Run the suite's cases and give what its report says: by server, by case."""
    specification = {
        "outdir": str(REPORT),
        "servers": [{"agent": name, "url": url} for name, url in addresses.items()],
        "cases": list(cases),
        "exclude-cases": list(EXCLUDED),
        "exclude-agent-cases": {},
    }
    (REPORT / "fuzz.json").write_text(json.dumps(specification), encoding="utf-8")
    with open(REPORT / LOG, "wb") as log:
        subprocess.run(
            [str(wstest), "-m", "fuzzingclient", "-s", str(REPORT / "fuzz.json")],
            cwd=REPORT,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=WITHIN,
            check=False,
        )
    index = REPORT / "index.json"
    return json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}


def judge(name: str, verdicts: Mapping[str, Mapping[str, Any]], expected: int) -> list[str]:
    """Print how one server did, and give what is wrong, one sentence each."""
    counts = Counter(verdict["behavior"] for verdict in verdicts.values())
    told = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    print(f"   {name:<14} {len(verdicts)} cases: {told or 'none ran'}", flush=True)
    wrong = [
        f"{name}: case {case} is {verdict['behavior']}, its close {verdict['behaviorClose']}"
        for case, verdict in sorted(verdicts.items())
        if verdict["behavior"] not in GOOD or verdict["behaviorClose"] not in GOOD
    ]
    if len(verdicts) != expected:
        wrong.append(f"{name}: {len(verdicts)} cases ran, not {expected}")
    return wrong


def main() -> int:
    """Run everything; say how it went."""
    try:
        wstest = find_wstest()
    except MissingError as error:
        print(MISSING.format(reason=error), file=sys.stderr)
        return 2
    print("== Autobahn Testsuite, all groups but 9, 12 and 13", flush=True)
    with echoes() as addresses:
        report = run_suite(wstest, addresses)
    wrong = [line for name in WAYS for line in judge(name, report.get(name, {}), CASES)]
    for line in wrong[:SHOWN]:
        print(f"!! {line}")
    if len(wrong) > SHOWN:
        print(f"!! and {len(wrong) - SHOWN} more")
    if wrong:
        print(f"   Details: {REPORT / 'index.html'}, {LOG}, {ECHO_LOG}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
