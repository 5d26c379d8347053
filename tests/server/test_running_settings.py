"""``[running]``, ``[log]`` and ``[metrics]``: what may be set, and what must not be shown."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import SettingsError
from oni.server._settings_file import settings_from


class RunningSettingsTests(SynchronousTestCase):
    """What is refused is named with its path."""

    def problems(self, **sections: object) -> str:
        """Give what is said of these settings."""
        return str(self.assertRaises(SettingsError, settings_from, sections))

    def test_the_key_of_the_metrics(self) -> None:
        """A key is long, can be sent as a header, and is never shown."""
        metrics = settings_from({"metrics": {"key": "k" * 16}}).metrics
        self.assertEqual("k" * 16, metrics.key)
        self.assertNotIn("kkk", repr(metrics))
        self.assertIn("metrics.key", self.problems(metrics={"key": "short"}))
        told = self.problems(metrics={"key": "with spaces in between it"})
        self.assertIn("metrics.key", told)
        self.assertNotIn("spaces in", told)

    def test_a_file_for_the_key(self) -> None:
        """The key may lie in a file of its own."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name, "key").write_text("a key from a file".replace(" ", "-"))
        settings = settings_from({"metrics": {"key_file": "key"}}, folder.name)
        self.assertEqual("a-key-from-a-file", settings.metrics.key)
        self.assertIn("metrics.key_file", self.problems(metrics={"key_file": "/no/such/file"}))

    def test_times_end(self) -> None:
        """A time without end is refused wherever there is one."""
        for name in ("not_ready_time", "drain_time", "stall_timeout"):
            with self.subTest(name):
                told = self.problems(running={name: float("inf")})
                self.assertIn(f"running.{name}: expected a finite number", told)

    def test_formats(self) -> None:
        """Only formats and levels that there are can be chosen."""
        told = self.problems(log={"format": "xml", "level": "trace"}, metrics={"readers": "me"})
        for path in ("log.format", "log.level", "metrics.readers"):
            self.assertIn(path, told)
