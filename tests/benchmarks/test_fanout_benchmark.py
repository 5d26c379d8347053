"""The fan-out benchmark counts, compares and judges right. No server is started here.

``tests/integration/test_fanout_benchmark.py`` runs it over real sockets.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from oni.server._settings_file import parse_settings

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = BENCHMARKS / "fanout"

with mock.patch.object(sys, "path", [str(BENCHMARKS), str(PROGRAMS), *sys.path]):
    import _fanout_above as above
    import _fanout_contenders as servers
    import _fanout_processes as processes
    import _fanout_publish as publishing
    import _fanout_report as report
    import _fanout_trial as trials
    import fanout
    import loop_probe


def outcome(
    figures: Mapping[tuple[str, int, int], Mapping[str, float]],
    publish: Mapping[str, Mapping[str, float]] | None = None,
    plan: Any = None,
) -> Any:
    """Make an outcome of figures by server, subscribers and round."""
    made = [trials.Trial(*key, figures=dict(values)) for key, values in figures.items()]
    plan = plan or trials.Plan(subscribers=sorted({size for _, size, _ in figures}))
    return report.Outcome(servers.contenders(), plan, made, publish or {})


def mark(found: Any, row: str) -> tuple[str, float | None]:
    """Give mark and figure of the target whose row begins so."""
    [target] = [target for target in report.targets(found) if target.row.startswith(row)]
    return target.mark, target.measured


class Figures(SynchronousTestCase):
    """Medians, ratios and percentiles."""

    def test_a_percentile_is_a_measured_value(self) -> None:
        """95 of 100 values do not exceed the 95th percentile; one value is its own."""
        self.assertEqual(95, trials.percentile(list(range(100, 0, -1)), 0.95))
        self.assertEqual(7, trials.percentile([7], 0.95))
        self.assertEqual(20, trials.percentile(list(range(1, 21)), 0.99))

    def test_a_ratio_is_taken_within_each_round(self) -> None:
        """A slow spell that hits both in one round leaves the ratio as it is."""
        found = outcome({
            ("Oni", 1000, 0): {"w1": 50.0}, (servers.SOCKETIFY, 1000, 0): {"w1": 100.0},
            ("Oni", 1000, 1): {"w1": 5.0}, (servers.SOCKETIFY, 1000, 1): {"w1": 10.0},
            ("Oni", 1000, 2): {"w1": 80.0}, (servers.SOCKETIFY, 1000, 2): {"w1": 100.0},
        })  # fmt: skip
        self.assertEqual(0.5, found.ratio("Oni", servers.SOCKETIFY, 1000, "w1"))
        self.assertEqual(50.0, found.median("Oni", 1000, "w1"))
        self.assertEqual(80.0, found.worst("Oni", 1000, "w1"))

    def test_a_round_that_one_of_them_missed_does_not_count(self) -> None:
        """Without a common round there is no ratio."""
        found = outcome({
            ("Oni", 1000, 0): {"w1": 50.0}, (servers.SOCKETIFY, 1000, 1): {"w1": 100.0},
        })  # fmt: skip
        self.assertIsNone(found.ratio("Oni", servers.SOCKETIFY, 1000, "w1"))


class Targets(SynchronousTestCase):
    """What Oni is to reach."""

    def test_at_least(self) -> None:
        """Eight tenths of socketify's speed are enough, less is not."""
        for speed, expected in ((81.0, "reached"), (79.0, "not reached")):
            found = outcome({
                ("Oni", 1000, 0): {"w1": speed}, (servers.SOCKETIFY, 1000, 0): {"w1": 100.0},
            })  # fmt: skip
            self.assertEqual(
                expected, mark(found, "deliveries a second, one in flight, to soc")[0]
            )

    def test_at_most(self) -> None:
        """The p95 may be 1.4 times socketify's, not more."""
        for p95, expected in ((13.9, "reached"), (14.1, "not reached")):
            found = outcome({
                ("Oni", 1000, 0): {"p95": p95}, (servers.SOCKETIFY, 1000, 0): {"p95": 10.0},
            })  # fmt: skip
            self.assertEqual(expected, mark(found, "publish to last receive")[0])

    def test_ahead_means_of_the_strongest_but_not_of_cpp(self) -> None:
        """Node and Python servers are compared with; socketify, C and Oni itself are not."""
        found = outcome({
            ("Oni", 1000, 0): {"w1": 90.0},
            ("aiohttp send_str", 1000, 0): {"w1": 60.0},
            (servers.NODE, 1000, 0): {"w1": 100.0},
            (servers.SOCKETIFY, 1000, 0): {"w1": 200.0},
            (servers.CEILING, 1000, 0): {"w1": 300.0},
        })  # fmt: skip
        self.assertEqual(
            ("not reached", 0.9), mark(found, "deliveries a second, one in flight, to the")
        )

    def test_the_worst_stall_is_the_worst_of_all_rounds_at_the_largest_size(self) -> None:
        """One round over the bound is enough to miss it."""
        found = outcome({
            ("Oni", 5000, 0): {"stall_cpu": 9.0, "stall": 30.0},
            ("Oni", 5000, 1): {"stall_cpu": 16.0, "stall": 17.0},
            ("Oni", 1000, 0): {"stall_cpu": 99.0, "stall": 99.0},
        })  # fmt: skip
        self.assertEqual(("not reached", 16.0), mark(found, "worst stall"))

    def test_memory_is_that_of_connections_that_were_pinged(self) -> None:
        """What an unpinged connection needs is not what is judged."""
        found = outcome({
            ("Oni", 1000, 0): {"kib": 4.0}, (servers.ONI_PINGED, 1000, 0): {"kib": 7.0},
        })  # fmt: skip
        self.assertEqual(("not reached", 7.0), mark(found, "KiB per idle"))

    def test_connections_are_compared_with_the_stock_listener(self) -> None:
        """Autobahn behind twisted.web is the yardstick."""
        found = outcome({
            ("Oni", 1000, 0): {"connects": 50.0}, (servers.STOCK_LISTENER, 1000, 0):
            {"connects": 20.0},
        })  # fmt: skip
        self.assertEqual(("reached", 2.5), mark(found, "connections a second"))

    def test_a_publish_is_counted_in_succeeds(self) -> None:
        """The best rounds are compared."""
        times = {
            publishing.SUCCEED: {"best": 100.0, "median": 200.0},
            publishing.FIRE: {"best": 2900.0, "median": 9000.0},
            publishing.ACT: {"best": 9000.0, "median": 9000.0},
        }
        self.assertEqual(("reached", 29.0), mark(outcome({}, times), "one publish"))

    def test_python_above_the_send(self) -> None:
        """The best rounds are compared, with one publication at a time."""
        found = outcome({})
        row = "Python per delivery above the send"
        figures = {
            f"{name}, {window}": {"best": best * window, "median": best * window + 100.0}
            for name, best in ((above.PRODUCT, 5000.0), (above.BARE, 4400.0), (above.ABOVE, 600.0))
            for window in (1, 16)
        }
        found = report.Outcome(found.runners, found.plan, [], {}, figures)
        self.assertEqual(("reached", 0.6), mark(found, row))
        [table] = [table for table in report.tables(found) if table.title.startswith(row)]
        self.assertEqual(["one at once", "5.00", "5.10", "4.40", "4.50", "0.60", "0.70"],
                         table.rows[0])  # fmt: skip

    def test_what_was_not_measured_is_not_reached(self) -> None:
        """Nothing is said to be reached without a figure."""
        marks = {target.mark for target in report.targets(outcome({}))}
        self.assertEqual({"not measured"}, marks)


class Selecting(SynchronousTestCase):
    """``--only`` chooses servers, and what cannot run is named."""

    def names(self, pattern: str | None) -> set[str]:
        """Give the names that are chosen."""
        return {runner.name for runner in fanout.select(servers.contenders(), pattern)}

    def test_the_yardsticks_come_along(self) -> None:
        """A chosen server is measured beside socketify and the C server, Oni beside Autobahn."""
        yardsticks = {servers.SOCKETIFY, servers.CEILING}
        self.assertEqual({servers.NODE, *yardsticks}, self.names("node"))
        self.assertEqual({"Oni", servers.STOCK_LISTENER, *yardsticks}, self.names("^oni$"))

    def test_nothing_fits(self) -> None:
        """Nothing is chosen then, without a pattern everything."""
        self.assertEqual(set(), self.names("no such server"))
        self.assertEqual(len(servers.contenders()), len(self.names(None)))

    def test_a_package_that_is_missing_is_named(self) -> None:
        """The sentence says who is left out, and for want of what."""
        runner = servers.Contender(
            name="Somebody", command=lambda place: [], distributions=("no-such-distribution",)
        )
        self.assertEqual(
            ([], ["Somebody is left out: no-such-distribution is not installed."]),
            fanout.available([runner]),
        )

    def test_a_program_that_is_missing_is_named(self) -> None:
        """The same for programs."""
        runner = servers.Contender(
            name="Somebody", command=lambda place: [], needs=("no-such-program",)
        )
        self.assertEqual("there is no no-such-program", servers.why_not(runner))

    def test_too_many_subscribers_are_left_out(self) -> None:
        """What the limit on open files does not allow is not tried."""
        plan, said = fanout.fitting(trials.Plan(subscribers=(100, 1000, 5000)), 1024)
        self.assertEqual((100,), plan.subscribers)
        self.assertEqual(2, len(said))


class Servers(SynchronousTestCase):
    """Each contender is one that can be started."""

    def folder(self) -> Path:
        """Make a folder that goes with the test; ``mktemp`` makes one that stays, in ours."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def test_each_program_is_there(self) -> None:
        """Every file that a command names exists."""
        place = servers.Place(1, self.folder(), Path("compiled"))
        for runner in servers.contenders():
            for word in runner.command(place):
                if word.startswith(str(PROGRAMS)):
                    self.assertTrue(Path(word).is_file(), word)

    def test_each_dialect_is_made_of_triples(self) -> None:
        """An option and its two words, as the load client takes them."""
        for runner in servers.contenders():
            options = runner.dialect[::3]
            self.assertEqual(len(options) * 3, len(runner.dialect), runner.name)
            self.assertLessEqual(set(options), {"--greet", "--ping", "--publish"}, runner.name)

    def test_the_daemon_takes_its_settings(self) -> None:
        """They parse, and let in as many as are to come."""
        settings = parse_settings(servers.oni_settings(8000))
        self.assertGreater(settings.server.max_connections, max(fanout.FULL.subscribers))
        self.assertTrue(settings.auth.anonymous)
        self.assertTrue(settings.channels.defaults.publish)

    def test_the_pinged_daemon_pings_before_it_is_weighed(self) -> None:
        """Every client has been pinged when memory is looked at."""
        [runner] = [r for r in servers.contenders() if r.name == servers.ONI_PINGED]
        folder = self.folder()
        runner.command(servers.Place(8000, folder, folder))
        settings = parse_settings((folder / "oni.toml").read_text(encoding="utf-8"))
        self.assertGreater(runner.settle, 2 * settings.server.ping_interval)

    def test_the_lock_file_names_no_host(self) -> None:
        """A version and a checksum, and no address."""
        lock = json.loads((PROGRAMS / "node" / "package-lock.json").read_text(encoding="utf-8"))
        package = lock["packages"]["node_modules/ws"]
        self.assertNotIn("resolved", package)
        self.assertTrue(package["integrity"].startswith("sha512-"))


class Probing(SynchronousTestCase):
    """The probe in a server's loop."""

    def setUp(self) -> None:
        """Hold the clocks."""
        self.now = self.used = 0.0
        self.patch(loop_probe, "perf_counter", lambda: self.now)
        self.patch(loop_probe, "thread_time", lambda: self.used)
        self.probe = loop_probe.LoopProbe()

    def tick(self, seconds: float, used: float) -> None:
        """Let time pass, and the loop come round."""
        self.now += seconds
        self.used += used
        self.probe.tick()

    def worst(self, question: bytes = b"read") -> tuple[float, float]:
        """Ask."""
        answer = json.loads(self.probe.answer(question))
        return round(answer["wall"], 6), round(answer["cpu"], 6)

    def test_what_is_late_is_a_stall(self) -> None:
        """The worst counts, and only what goes beyond the interval."""
        self.tick(0.012, 0.012)
        self.tick(0.002, 0.001)
        self.assertEqual((0.010, 0.010), self.worst())

    def test_waiting_for_the_core_is_no_work(self) -> None:
        """By the clock it is a stall, by processor time it is not."""
        self.tick(0.102, 0.003)
        self.assertEqual((0.100, 0.003), self.worst())

    def test_a_reset_begins_anew(self) -> None:
        """The answer to a reset is the last to hold the old worst."""
        self.tick(0.012, 0.012)
        self.assertEqual((0.010, 0.010), self.worst(b"reset"))
        self.assertEqual((0.0, 0.0), self.worst())


class TalkingToTheLoadClient(SynchronousTestCase):
    """What the load client says is believed only when it is good."""

    def setUp(self) -> None:
        """Make a client whose answers the test writes."""
        reading, self.writing = os.pipe()
        stdout = os.fdopen(reading, "rb")
        self.addCleanup(stdout.close)
        self.said = io.BytesIO()
        self.client = processes.LoadClient(
            SimpleNamespace(stdin=self.said, stdout=stdout)  # type: ignore[arg-type]
        )

    def answer(self, text: bytes, last: bool = True) -> None:
        """Answer."""
        os.write(self.writing, text)
        if last:
            os.close(self.writing)

    def test_an_answer(self) -> None:
        """A command is a line, and so is the answer."""
        self.answer(b'{"deliveries": 5, "faults": 0}\n')
        self.assertEqual(5, self.client.do("flood 1 1", 1)["deliveries"])
        self.assertEqual(b"flood 1 1\n", self.said.getvalue())

    def test_lost_events_are_an_error(self) -> None:
        """Speed without order counts nothing."""
        self.answer(b'{"deliveries": 5, "faults": 2}\n')
        error = self.assertRaises(processes.TrialError, self.client.do, "flood 1 1", 1)
        self.assertIn("2 events lost or out of order", str(error))

    def test_what_the_client_complains_of_is_told(self) -> None:
        """Its own words."""
        self.answer(b'{"error": "no upgrade"}\n')
        error = self.assertRaises(processes.TrialError, self.client.do, "connect 1", 1)
        self.assertIn("no upgrade", str(error))

    def test_a_client_that_ends_is_an_error(self) -> None:
        """It must not be taken for an answer."""
        self.answer(b"")
        self.assertRaises(processes.TrialError, self.client.do, "connect 1", 1)

    def test_a_client_that_hangs_is_an_error(self) -> None:
        """Everything is bounded in time."""
        self.addCleanup(os.close, self.writing)
        error = self.assertRaises(processes.TrialError, self.client.do, "connect 1", 0.01)
        self.assertIn("no end within 0.01 s", str(error))


class FakeServer:
    """A server whose memory and processor time the test says."""

    def __init__(self) -> None:
        self.memory = iter((1_000_000, 1_000_000 + 10 * 2048))
        self.used = 0.0

    def resident_bytes(self) -> int:
        """Give the next size."""
        return next(self.memory)

    def processor_time(self) -> Any:
        """Half a second more at each look."""
        self.used += 0.5
        return processes.ProcessorTime(self.used, self.used / 8)

    def stalls(self) -> dict[str, float]:
        """Always the same."""
        return {"wall": 0.004, "cpu": 0.003}


class FakeClient:
    """A load client that has always delivered as fast as the test says."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.commands: list[str] = []

    def do(self, command: str, within: float) -> dict[str, Any]:
        """Note the command."""
        self.commands.append(command)
        if command.startswith("pace"):
            return {"taken": [0.001] * 19 + [0.5]}
        return {"seconds": 2.0, "deliveries": self.speed * 2.0, "cpu": 1.0}


class Measuring(SynchronousTestCase):
    """What a trial does, and what it leaves out."""

    plan = trials.Plan(seconds=0.0, windows=1, paces={10: (10.0, 20)}, longest_turn=1.0)

    def measure(self, speed: float) -> tuple[dict[str, float], list[str]]:
        """Measure ten subscribers; give figures and commands."""
        trial, client = trials.Trial("a", 10, 0), FakeClient(speed)
        self.patch(trials.time, "sleep", lambda seconds: None)
        measuring = trials._Measuring(FakeServer(), client, trial, self.plan)
        measuring.connect(0.7)
        measuring.publish()
        return trial.figures, client.commands

    def test_all_figures(self) -> None:
        """Speeds by clock and processor, times, memory and stalls."""
        figures, _ = self.measure(1000.0)
        expected = {
            "connects": 5.0, "kib": 2.0, "stall_connecting": 4.0, "stall_connecting_cpu": 3.0,
            "w1": 1000.0, "w1_cpu": 4000.0,
            "w16": 1000.0, "w16_cpu": 4000.0, "waited": 0.03125,
            "p50": 1.0, "p95": 1.0, "worst": 500.0, "stall": 4.0, "stall_cpu": 3.0,
        }  # fmt: skip
        self.assertEqual(expected, figures)

    def test_a_slow_server_is_not_asked_for_what_it_cannot_do(self) -> None:
        """Neither a pace close to its speed, nor sixteen publications that last too long."""
        figures, commands = self.measure(130.0)
        self.assertFalse([command for command in commands if command.startswith("pace")])
        self.assertFalse([command for command in commands if command.startswith("flood 16")])
        self.assertIn("stall", figures)


class Running(SynchronousTestCase):
    """The rounds."""

    def test_every_other_round_goes_backwards(self) -> None:
        """So that none always follows the same one."""
        order = []

        def trial(runner: Any, size: int, turn: int, *rest: object) -> Any:
            order.append((turn, size, runner.name))
            return trials.Trial(runner.name, size, turn)

        runners = [servers.Contender(name=name, command=lambda place: []) for name in "ab"]
        with (
            mock.patch.object(fanout, "run_trial", trial),
            mock.patch.object(fanout, "compile_c", lambda source, folder: None),
        ):
            fanout.run(runners, trials.Plan(runs=2, subscribers=(10,)), processes.Cores())
        self.assertEqual([(0, 10, "a"), (0, 10, "b"), (1, 10, "b"), (1, 10, "a")], order)


class Printing(SynchronousTestCase):
    """Tables, notes and data."""

    def setUp(self) -> None:
        """Make an outcome with two servers and a failure."""
        self.outcome = outcome({
            ("Oni", 1000, 0): {"w1": 50_000.0, "connects": 100.0, "kib": 5.25, "waited": 0.25},
            (servers.SOCKETIFY, 1000, 0): {"w1": 100_000.0, "waited": 0.5},
        })  # fmt: skip
        self.outcome.trials.append(trials.Trial(servers.NODE, 1000, 0, problem="it ended"))

    def test_only_measured_rows_are_shown(self) -> None:
        """Speed and ratio of those that gave figures, and nobody else."""
        [table] = [
            found for found in report.tables(self.outcome) if found.title.startswith("Deliveries")
        ]
        self.assertEqual(["Oni", "50,000", "0.50", "", "", "", "", "", ""], table.rows[0])
        self.assertEqual(["Oni", servers.SOCKETIFY], [row[0] for row in table.rows])

    def test_all_tables_can_be_laid_out(self) -> None:
        """For a terminal and for the documentation; the targets come first."""
        for found in report.tables(self.outcome):
            self.assertIn(found.title, found.text())
            self.assertIn(f".. list-table:: {found.title}", found.rst())
        self.assertTrue(next(report.tables(self.outcome)).title.startswith("What Oni is to reach"))

    def test_the_notes_say_what_failed_and_how_disturbed_it_was(self) -> None:
        """With the number of rounds, and the daemon's settings."""
        self.patch(fanout, "_node_version", lambda runners: "")
        said = "\n".join(fanout.notes(self.outcome, ["x is left out: why."], processes.Cores()))
        self.assertIn("Failed (1 x): Node ws, 1,000 subscribers: it ended", said)
        self.assertIn("50% in the worst", said)
        self.assertIn("max_connections = 20000", said)
        self.assertIn("x is left out", said)

    def test_the_data_holds_every_trial(self) -> None:
        """Also those that failed; and all of it is JSON."""
        data = json.loads(json.dumps(fanout.as_json(self.outcome, ["a note"])))
        self.assertEqual(3, len(data["trials"]))
        self.assertEqual("it ended", data["trials"][2]["problem"])
        self.assertEqual(9, len(data["targets"]))

    def test_earlier_runs_can_be_added(self) -> None:
        """With their rounds; but not where both have measured the same."""
        self.patch(fanout, "_node_version", lambda runners: "")
        later = outcome({
            ("Oni", 100, 0): {"w1": 30_000.0},
            (servers.SOCKETIFY, 100, 0): {"w1": 60_000.0},
            ("Oni", 100, 1): {"w1": 60_000.0},
            (servers.SOCKETIFY, 100, 1): {"w1": 60_000.0},
        })  # fmt: skip
        data = json.loads(json.dumps(fanout.as_json(self.outcome, [])))
        both = fanout.joined(later, [data])
        self.assertEqual((100, 1000), both.plan.subscribers)
        self.assertEqual(0.5, both.ratio("Oni", servers.SOCKETIFY, 1000, "w1"))
        self.assertEqual(0.75, both.ratio("Oni", servers.SOCKETIFY, 100, "w1"))
        said = "\n".join(fanout.notes(both, [], processes.Cores()))
        self.assertIn("2 with 100, 1 with 1,000", said)
        with self.assertRaisesRegex(ValueError, "measured in two runs: .1000. subscribers"):
            fanout.joined(self.outcome, [data])

    def test_the_list(self) -> None:
        """``--list`` starts nothing and needs nothing."""
        printed = io.StringIO()
        with redirect_stdout(printed), mock.patch.object(shutil, "which", lambda name: None):
            fanout.main(["--list", "--only", "autobahn"])
        self.assertIn("Autobahn prepared message\n", printed.getvalue())
        self.assertNotIn("aiohttp", printed.getvalue())
