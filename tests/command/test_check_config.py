"""``oni check-config``."""

from __future__ import annotations

import sys

import crochet

from tests.command.cases import KEY, SECRET, CommandTestCase

APP = '[app]\nconfigure = "{}:configure"\n'


class CheckConfig(CommandTestCase):
    """A settings file, looked at whole."""

    def setUp(self) -> None:
        """Leave crochet alone: this process is no daemon."""
        super().setUp()
        self.patch(crochet, "no_setup", lambda: None)

    def test_right(self) -> None:
        """What is right is said on one line."""
        ended = self.oni("check-config", self.config)
        self.assertEqual(
            (0, f"{self.config}: the settings are right\n", ""),
            (
                ended.code,
                ended.out,
                ended.err,
            ),
        )

    def test_every_problem(self) -> None:
        """Every problem is one line with its path, and the exit code is 1."""
        path = self.file("wrong.toml", "[srver]\n[auth]\nanonymous = 1\n[server]\nlisten = 7\n")
        ended = self.oni("check-config", path)
        self.assertEqual((1, ""), (ended.code, ended.out))
        lines = ended.err.splitlines()
        self.assertEqual(3, len(lines))
        for line, setting in zip(
            sorted(lines), ("auth.anonymous", "server.listen", "srver"), strict=True
        ):
            self.assertTrue(line.startswith(f"{path}: {setting}: "), line)

    def test_no_file(self) -> None:
        """A file that cannot be read is a problem like another, said once."""
        path = str(self.folder / "none.toml")
        self.assert_line(self.oni("check-config", path), 1, f"{path}: No such file or directory")

    def test_warnings(self) -> None:
        """What is probably not meant is told, and is no failure."""
        path = self.file(
            "open.toml", '[server]\nlisten = ["tcp:8000"]\n[auth]\nanonymous = true\n'
        )
        ended = self.oni("check-config", path)
        self.assertEqual(0, ended.code)
        self.assertIn("warning: server.listen reaches beyond loopback", ended.err)

    def test_show(self) -> None:
        """What holds is printed; no secret is."""
        ended = self.oni("check-config", self.config, "--show")
        self.assertEqual(0, ended.code)
        self.assertIn('listen = ["tcp:8123:interface=127.0.0.1"]', ended.out)
        self.assertIn("max_message_bytes = 65536", ended.out)
        for secret in (KEY, SECRET):
            self.assertNotIn(secret, ended.out + ended.err)

    def application(self, name: str, text: str) -> str:
        """Write an application's module and a file that names it; give that one's path."""
        self.file(f"{name}.py", text)
        self.addCleanup(sys.modules.pop, name, None)
        self.addCleanup(sys.path.remove, str(self.folder))
        return self.file(f"{name}.toml", APP.format(name))

    def test_application(self) -> None:
        """What the file names is imported, and not called."""
        text = "def configure(oni):\n    raise SystemExit('called')\n"
        path = self.application("oni_test_good", text)
        self.assertEqual(0, self.oni("check-config", path).code)

    def test_application_that_is_not_there(self) -> None:
        """What is not there is a problem with a path."""
        path = self.application("oni_test_empty", "")
        self.assert_line(self.oni("check-config", path), 1, f"{path}: app.configure: ")

    def test_application_that_fails(self) -> None:
        """A module that cannot be imported is one, too, not a traceback."""
        path = self.application("oni_test_bad", "1 / 0\n")
        ended = self.oni("check-config", path)
        self.assert_line(ended, 1, f"{path}: app.configure: ", "ZeroDivisionError")
        self.assertEqual(0, self.oni("check-config", "--only-file", path).code)
