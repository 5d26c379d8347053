"""The first settings file: open on loopback, a key of its own, never overwritten."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oni.server._settings import ChannelRules
from oni.server._settings_file import load_settings, settings_from
from oni.server.quickstart import hints, main


class Quickstart(SynchronousTestCase):
    """``python -m oni.server.quickstart PATH``."""

    def setUp(self) -> None:
        """Choose a place."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "oni.toml")

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Run it; give the exit code and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(self.path), *arguments])
        return code, out.getvalue(), err.getvalue()

    def test_settings(self) -> None:
        """The file opens the daemon to this machine, and to nobody else."""
        self.assertEqual(0, self.run_main("--port", "8123")[0])
        settings = load_settings(self.path)
        self.assertEqual(("tcp:8123:interface=127.0.0.1",), settings.server.listen)
        self.assertTrue(settings.auth.anonymous)
        rules = ChannelRules(publish=True, subscribe=True, event_from="type")
        self.assertEqual(rules, settings.rules_for("news"))
        self.assertEqual(rules, settings.rules_for("chat:1"))
        self.assertIsNone(settings.rules_for("other:1"))
        self.assertEqual((), settings.warnings())

    def test_private(self) -> None:
        """Only its owner may read it, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.run_main()
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))

    def test_a_key_of_its_own(self) -> None:
        """Each file has another key, long enough not to be guessed."""
        keys = set()
        for _ in range(3):
            self.run_main()
            keys.add(load_settings(self.path).api.key)
            self.path.unlink()
        self.assertEqual(3, len(keys))
        self.assertGreaterEqual(min(len(key or "") for key in keys), 32)

    def test_never_overwritten(self) -> None:
        """A file that is there is kept, and its own port and key are printed."""
        self.run_main("--port", "8123")
        before = self.path.read_bytes()
        code, out, _ = self.run_main("--port", "9000")
        self.assertEqual(0, code)
        self.assertEqual(before, self.path.read_bytes())
        self.assertIn("Kept", out)
        self.assertIn("http://127.0.0.1:8123/\n", out)
        self.assertIn(load_settings(self.path).api.key or "no key", out)

    def test_lines(self) -> None:
        """The page's address, a curl line and a Python line are printed, ready for a shell."""
        _, out, _ = self.run_main("--port", "8123")
        key = load_settings(self.path).api.key
        lines = [line.strip() for line in out.splitlines()]
        self.assertIn("Open:      http://127.0.0.1:8123/", lines)
        curl = shlex.split(next(line for line in lines if line.startswith("curl ")))
        self.assertIn(f"X-API-Key: {key}", curl)
        self.assertEqual("http://127.0.0.1:8123/api/publish", curl[-1])
        body = json.loads(curl[curl.index("-d") + 1])
        self.assertEqual(("news", {"event": "user_created"}), (body["channel"], body["tags"]))
        (python,) = [shlex.split(line) for line in lines if "urllib" in line]
        compile(python[-1], "line", "exec")
        self.assertIn(str(key), python[-1])

    def test_a_wrong_file(self) -> None:
        """A file that is there and wrong is said to be so."""
        self.path.write_text("[srver]\n", encoding="utf-8")
        code, _, err = self.run_main()
        self.assertEqual(1, code)
        self.assertIn("srver: unknown section", err)

    def test_nowhere(self) -> None:
        """A place where nothing can be written is one line and exit code 1."""
        self.path = self.path / "below" / "oni.toml"
        code, _, err = self.run_main()
        self.assertEqual((1, 1), (code, len(err.splitlines())))

    def test_a_wrong_port(self) -> None:
        """A port that is none is refused before anything is written."""
        for port in ("0", "70000", "x"):
            with self.assertRaises(SystemExit):
                self.run_main("--port", port)
        self.assertFalse(self.path.exists())

    def test_hints_without_api(self) -> None:
        """Where the API is off there is nothing to publish with."""
        text = hints(settings_from({}), "twistd -n oni")
        self.assertIn("http://127.0.0.1:8000/", text)
        self.assertNotIn("curl", text)

    def test_hints_for_other_listeners(self) -> None:
        """The first listener that a browser can open is shown, and none where there is none."""
        for listen, address in (
            (["unix:/run/oni.sock", "tcp:8443"], "http://127.0.0.1:8443/"),
            ([r"tcp6:port=8001:interface=\:\:1"], "http://[::1]:8001/"),
        ):
            settings = settings_from({"server": {"listen": listen}})
            self.assertIn(address, hints(settings, "run"))
        nowhere = settings_from({"server": {"listen": ["unix:/run/oni.sock", "tcp:0"]}})
        self.assertEqual("Start it:  run", hints(nowhere, "run"))
