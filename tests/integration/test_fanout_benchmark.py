"""The fan-out benchmark over real sockets, with few subscribers and little time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

with mock.patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
    import _fanout_contenders as servers
    import _fanout_processes as processes
    import _fanout_trial as trials

SMALL = trials.Plan(seconds=0.1, windows=1, paces={10: (10.0, 5)})
EVERYTHING = {
    "connects", "kib", "w1", "w1_cpu", "w16", "w16_cpu", "waited", "p50", "p95", "worst",
}  # fmt: skip
STALLS = {"stall", "stall_cpu", "stall_connecting", "stall_connecting_cpu"}

TWICE = """\
import asyncio, sys
from websockets.asyncio.server import broadcast, serve
everyone = set()
async def hear(connection):
    everyone.add(connection)
    async for message in connection:
        broadcast(everyone, message)
        broadcast(everyone, message)
    everyone.discard(connection)
async def main():
    async with serve(hear, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()
asyncio.run(main())
"""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the compiled programs."""
    folder = tmp_path_factory.mktemp("compiled")
    for source in ("load.c", "minimal.c"):
        processes.compile_c(servers.PROGRAMS / source, folder)
    return folder


def run(contender: Any, compiled: Path) -> Any:
    """Run a trial with ten subscribers."""
    return trials.run_trial(contender, 10, 0, SMALL, processes.Cores(), compiled)


def named(name: str) -> Any:
    """Give a contender."""
    return next(runner for runner in servers.contenders() if runner.name == name)


def test_oni_is_measured(compiled: Path) -> None:
    """The daemon takes every event through its phases to all of ten subscribers."""
    trial = run(named(servers.ONI), compiled)
    assert trial.problem == ""
    assert set(trial.figures) == EVERYTHING | STALLS
    assert trial.figures["w1"] > 0


def test_the_yardstick_is_measured(compiled: Path) -> None:
    """So is the C server, which has no probe."""
    trial = run(named(servers.CEILING), compiled)
    assert trial.problem == ""
    assert set(trial.figures) == EVERYTHING | {"drain1", "drain16"}


def test_what_comes_twice_is_noticed(compiled: Path) -> None:
    """A server that sends an event twice gets no figure, but is found out."""
    server = servers.Contender(
        name="twice",
        command=lambda place: [sys.executable, "-c", TWICE, str(place.port)],
        probed=False,
    )
    assert "events lost or out of order" in run(server, compiled).problem


def test_a_server_that_ends_is_told_with_its_last_words(compiled: Path) -> None:
    """Nobody waits for it."""
    server = servers.Contender(
        name="ends", command=lambda place: [sys.executable, "-c", "raise SystemExit('tired')"]
    )
    assert run(server, compiled).problem == "the server does not listen: tired"


def test_a_process_is_ended_when_the_block_fails(tmp_path: Path) -> None:
    """Whatever happens, nothing is left behind; not even what ignores SIGTERM."""
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", stubborn]
    settle = processes.Cores().settle(0)
    with (
        pytest.raises(KeyError),
        mock.patch.object(processes, "_STOP_WITHIN", 0.2),
        processes.running(command, settle, tmp_path / "log", stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        raise KeyError
    assert process.returncode == -9


def test_a_publish_is_timed() -> None:
    """The program prints three figures, and a publish costs more than a Deferred."""
    program = [sys.executable, str(BENCHMARKS / "_fanout_publish.py"), "--quick"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    times = json.loads(done.stdout)
    succeed, fire, act = (times[name]["best"] for name in sorted(times, key=_order))
    assert 0 < succeed < fire < act


def _order(name: str) -> int:
    return [name.startswith(start) for start in ("defer", "fire", "oni.act")].index(True)
