"""``oni bench``: bounds, and what is made of times."""

from __future__ import annotations

import io
import json
from array import array
from contextlib import redirect_stdout
from unittest.mock import patch

from oni.command._bench_report import Progress, Result, percentile, print_result
from oni.server import Settings
from tests.command.cases import CommandTestCase


def result(**changes: object) -> Result:
    """Make a result of 2 subscribers and 2 publications."""
    values: dict[str, object] = {
        "subscribers": 2,
        "messages": 2,
        "size": 10,
        "in_flight": 1,
        "seconds": 0.5,
        "published": 2,
        "refused": 0,
        "delivered": 4,
        "ended_early": "",
        "publish_times": array("d", [0.002, 0.001]),
        "delivery_times": array("d", [0.004, 0.001, 0.003, 0.002]),
        **changes,
    }
    return Result(**values)  # type: ignore[arg-type]


class Report(CommandTestCase):
    """What is printed."""

    def printed(self, found: Result, as_json: bool = False) -> str:
        """Print it."""
        output = io.StringIO()
        with redirect_stdout(output):
            print_result(found, as_json)
        return output.getvalue()

    def test_percentiles(self) -> None:
        """A percentile is a value that was measured, by the nearest rank."""
        hundred = [float(n) for n in range(1, 101)]
        self.assertEqual(
            [1, 50, 95, 99, 100], [percentile(hundred, p) for p in (0, 50, 95, 99, 100)]
        )
        self.assertEqual(7.0, percentile([7.0], 99))

    def test_json(self) -> None:
        """Programs get everything, times in milliseconds."""
        found = json.loads(self.printed(result(), as_json=True))
        self.assertEqual(
            (4.0, 8.0), (found["publishes_per_second"], found["deliveries_per_second"])
        )
        self.assertEqual({"p50": 2.0, "p95": 4.0, "p99": 4.0, "max": 4.0}, found["delivery_ms"])
        self.assertEqual({"p50": 1.0, "p95": 2.0, "p99": 2.0, "max": 2.0}, found["publish_ms"])
        self.assertEqual((0, None), (found["missing"], found["ended_early"]))

    def test_lines(self) -> None:
        """On a pipe each figure is a line."""
        lines = self.printed(result(delivered=3)).splitlines()
        self.assertIn("deliveries/s: 6", lines)
        self.assertIn("missing: 1", lines)
        self.assertIn("delivery p50: 2.00 ms", lines)

    def test_nothing_measured(self) -> None:
        """Nothing published is no division by nothing."""
        empty = result(
            published=0,
            delivered=0,
            seconds=0.0,
            publish_times=array("d"),
            delivery_times=array("d"),
        )
        self.assertIsNone(json.loads(self.printed(empty, as_json=True))["delivery_ms"])

    def test_whole(self) -> None:
        """All is well only if everything was published and arrived."""
        self.assertTrue(result().is_whole)
        for changes in ({"delivered": 3}, {"refused": 1}, {"ended_early": "time limit"}):
            self.assertFalse(result(**changes).is_whole)

    def test_progress(self) -> None:
        """The bar is for terminals only, also for narrow ones."""
        for is_terminal in (False, True):
            output = io.StringIO()
            with (
                patch("sys.stderr", output),
                patch.object(output, "isatty", return_value=is_terminal),
                patch.dict("os.environ", {"COLUMNS": "40", "TERM": "xterm"}),
            ):
                bar = Progress(10, 1000)
                bar.start()
                bar.show(10, 500, 5000)
                bar.stop()
            self.assertEqual(is_terminal, "500/1000" in output.getvalue())
            self.assertEqual(is_terminal, bool(output.getvalue()))


class Bounds(CommandTestCase):
    """What is not even begun."""

    def test_too_many(self) -> None:
        """More deliveries than are measured are refused."""
        self.assert_line(
            self.oni("bench", "-s", "10000", "-m", "1000000"), 1, "10,000,000,000 deliveries"
        )
        self.assert_line(self.oni("bench", "-s", "10001"), 2, "10001")
        self.assert_line(self.oni("bench", "--limit", "0"), 2, "--limit")

    def test_descriptors(self) -> None:
        """More connections than this process may have are refused."""
        with patch("resource.getrlimit", return_value=(64, 100)):
            self.assert_line(
                self.oni("bench", "-s", "500"), 1, "568 file descriptors", "ulimit -n"
            )

    def test_default_fits(self) -> None:
        """The default load fits into a daemon's default limits."""
        from oni.command._bench import bench

        (subscribers,) = (p.default for p in bench.params if p.name == "subscribers")
        assert isinstance(subscribers, int)
        self.assertLessEqual(subscribers, Settings().server.max_connections_per_address)
