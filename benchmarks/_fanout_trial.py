"""One server with one number of subscribers: start, connect, flood, pace, end."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import SOCK_DGRAM

from _fanout_contenders import CEILING, HERE, PROGRAMS, Contender, Place
from _fanout_processes import (
    Cores,
    LoadClient,
    ServerProcess,
    TrialError,
    free_port,
    running,
)

__all__ = ["Figures", "Plan", "Trial", "percentile", "run_trial"]

_WARM_CONNECTIONS = 5
_SLACK = 45.0  # seconds over what a command should take; the client itself gives up before


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        runs: How often every server gets its turn.
        subscribers: The numbers of subscribers.
        seconds: How long one flood lasts.
        windows: Floods of each kind, of which the fastest counts: a short one has a good chance
            of not being disturbed.
        paces: Publications a second and their number, by number of subscribers.
        longest_turn: Sixteen publications that would take more seconds than this are left out.
    """

    runs: int = 5
    subscribers: Sequence[int] = (100, 1000, 5000)
    seconds: float = 0.25
    windows: int = 5
    paces: Mapping[int, tuple[float, int]] = field(
        default_factory=lambda: {100: (100.0, 300), 1000: (20.0, 300), 5000: (4.0, 60)}
    )
    longest_turn: float = 10.0

    def pace(self, subscribers: int) -> tuple[float, int]:
        """Give publications a second and their number: 20,000 deliveries where nothing is said."""
        return self.paces.get(subscribers, (min(100.0, 20_000 / subscribers), 60))


Figures = dict[str, float]
"""What a trial gave, by name; what was not measured is not in it.

``connects`` (a second), ``kib`` (per idle connection), ``w1`` and ``w16`` (deliveries a second),
``w1_cpu`` and ``w16_cpu`` (deliveries per second of the server's processor time), ``waited``
(which part of the floods the server was ready to run, but another process had its core), ``p50``,
``p95`` and ``worst`` (milliseconds from publish to last receive), ``stall`` and ``stall_cpu``
(milliseconds, while publishing), ``stall_connecting`` and ``stall_connecting_cpu``; ``drain1`` and
``drain16`` (deliveries a second that the load client takes when the server is done sending).
"""


@dataclass(slots=True)
class Trial:
    """What came of one server in one round.

    Attributes:
        contender: The server's name.
        subscribers: How many there were.
        turn: The round.
        figures: What was measured.
        problem: Why there is no more than that, ``""`` if nothing went wrong.
    """

    contender: str
    subscribers: int
    turn: int
    figures: Figures = field(default_factory=dict)
    problem: str = ""


def percentile(values: Sequence[float], part: float) -> float:
    """Give the smallest value that at least this part of them does not exceed."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(part * 100) // 100))
    return ordered[rank - 1]


def run_trial(
    contender: Contender, subscribers: int, turn: int, plan: Plan, cores: Cores, compiled: Path
) -> Trial:
    """Run one trial. What goes wrong is told in the trial."""
    trial = Trial(contender.name, subscribers, turn)
    with tempfile.TemporaryDirectory(prefix="fanout-") as name:
        try:
            _run(contender, trial, plan, cores, Place(free_port(), Path(name), compiled))
        except TrialError as error:
            trial.problem = str(error)
    return trial


def _run(contender: Contender, trial: Trial, plan: Plan, cores: Cores, place: Place) -> None:
    probe = free_port(SOCK_DGRAM) if contender.probed else 0
    log = place.folder / "server.log"
    command, settle = contender.command(place), cores.settle(cores.server)
    with running(command, settle, log, _environment(probe)) as process:
        server = ServerProcess(process, place.port, probe, log)
        server.wait_until_it_listens()
        load = [str(place.compiled / "load"), str(place.port), contender.path, *contender.dialect]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        settle = cores.settle(cores.client)
        with running(load, settle, place.folder / "load.log", **pipes) as client:
            measured = _Measuring(server, LoadClient(client), trial, plan)
            try:
                measured.warm_up(contender.publishes)
                measured.connect(contender.settle)
                if contender.publishes:
                    measured.publish()
                if contender.name == CEILING:
                    measured.drain()
            except TrialError as error:
                raise TrialError(f"{error} (server: {server.last_words()})") from error


def _environment(probe: int) -> dict[str, str]:
    path = filter(None, (str(HERE.parent), str(PROGRAMS), os.environ.get("PYTHONPATH")))
    return {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "FANOUT_PROBE_PORT": str(probe),
    }


class _Measuring:
    """A server and a load client that is to fill in a trial's figures."""

    def __init__(
        self, server: ServerProcess, client: LoadClient, trial: Trial, plan: Plan
    ) -> None:
        self._server = server
        self._client = client
        self._trial = trial
        self._figures = trial.figures
        self._plan = plan
        self._disturbed = self._flooded = 0.0

    def warm_up(self, publishes: bool) -> None:
        """Let the server import and allocate what it needs once."""
        self._client.do(f"connect {_WARM_CONNECTIONS}", _SLACK)
        if publishes:
            self._client.do("flood 4 0.1", _SLACK)
        self._client.do("close", _SLACK)
        time.sleep(0.2)

    def connect(self, settle: float) -> None:
        """Connect all, and weigh them when they are idle."""
        before = self._server.resident_bytes()
        self._server.stalls()
        count = self._trial.subscribers
        done = self._client.do(f"connect {count}", _SLACK + count / 50)
        self._figures["connects"] = count / done["seconds"]
        self._stalled("stall_connecting")
        time.sleep(settle)
        grown = self._server.resident_bytes() - before
        self._figures["kib"] = grown / count / 1024

    def publish(self) -> None:
        """Flood with one and sixteen publications in flight, then pace."""
        self._client.do("flood 1 0.1", _SLACK)
        self._server.stalls()
        speed = self._flood("w1", 1)
        if 16 * self._trial.subscribers / speed <= self._plan.longest_turn:
            self._flood("w16", 16)
        rate, count = self._plan.pace(self._trial.subscribers)
        if rate * self._trial.subscribers <= 0.7 * speed:
            paced = self._client.do(f"pace {rate} {count}", _SLACK + count / rate)
            taken = [seconds * 1000 for seconds in paced["taken"]]
            self._figures["p50"] = statistics.median(taken)
            self._figures["p95"] = percentile(taken, 0.95)
            self._figures["worst"] = max(taken)
        self._stalled("stall")

    def drain(self) -> None:
        """See what the load client can do by itself."""
        for name, window in (("drain1", 1), ("drain16", 16)):
            done = self._client.do(f"drain {window} 10", _SLACK)
            self._figures[name] = done["deliveries"] / done["seconds"]

    def _flood(self, name: str, window: int) -> float:
        best = 0.0
        end = time.monotonic() + 2 * self._plan.windows * self._plan.seconds
        for _ in range(self._plan.windows):
            before = self._server.processor_time()
            done = self._client.do(f"flood {window} {self._plan.seconds}", _SLACK)
            after = self._server.processor_time()
            self._disturbed += after.waited - before.waited
            self._flooded += done["seconds"]
            speed = float(done["deliveries"] / done["seconds"])
            if speed > best:
                best = self._figures[name] = speed
                self._figures[f"{name}_cpu"] = done["deliveries"] / (after.used - before.used)
            if time.monotonic() > end:
                break
        self._figures["waited"] = self._disturbed / self._flooded
        return best

    def _stalled(self, name: str) -> None:
        stalls = self._server.stalls()
        if stalls is not None:
            self._figures[name] = stalls["wall"] * 1000
            self._figures[f"{name}_cpu"] = stalls["cpu"] * 1000
