"""The command line of ``twistd oni``. What it starts is tested with real processes."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import crochet
from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getSiteManager, queryUtility

from oni import __version__
from oni.interfaces import IEventDispatcher
from oni.server._settings import Settings, describe
from oni.server.tap import Options


def printed(options: Options, *arguments: str) -> str:
    """Give what these arguments print before they exit with 0."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        options.parseOptions(list(arguments))
    return out.getvalue()


class OptionsTests(SynchronousTestCase):
    """Options name a settings file, and it is read at once."""

    def file(self, text: str) -> str:
        """Write a settings file."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name, "oni.toml")
        path.write_text(text, encoding="utf-8")
        return str(path)

    def test_without_a_file(self) -> None:
        """Without a file the defaults hold."""
        options = Options()
        options.parseOptions([])
        self.assertEqual(Settings(), options.settings)

    def test_a_file(self) -> None:
        """The file is read."""
        for flag in ("--config", "-c"):
            options = Options()
            options.parseOptions([flag, self.file("[auth]\nanonymous = true\n")])
            self.assertTrue(options.settings.auth.anonymous)

    def test_a_wrong_file(self) -> None:
        """A wrong file is one usage error that names the file and all problems."""
        path = self.file("[auth]\nanonymous = 1\n[srver]\n")
        error = self.assertRaises(UsageError, Options().parseOptions, ["-c", path])
        for part in (path, "auth.anonymous: expected true or false", "srver: unknown section"):
            self.assertIn(part, str(error))

    def test_a_missing_file(self) -> None:
        """A file that is not there is a usage error too."""
        error = self.assertRaises(UsageError, Options().parseOptions, ["-c", "/nowhere/oni.toml"])
        self.assertIn("No such file", str(error))

    def test_check_leaves_the_registry_alone(self) -> None:
        """A check loads the ZCML file into a registry of its own."""
        self.patch(crochet, "no_setup", lambda: None)  # this process is no daemon
        path = Path(self.file('[zca]\nzcml = "app.zcml"\n'))
        path.with_name("app.zcml").write_text(
            '<configure xmlns="http://namespaces.zope.org/zope"'
            ' xmlns:oni="http://namespaces.oni/oni">'
            '<oni:eventDispatcher name="audit" />'
            '<oni:eventHandler handler="tests.server.test_tap.printed" phase="after"'
            ' action="publish" /></configure>',
            encoding="utf-8",
        )
        before = getSiteManager()
        self.assertIn("the settings are right", printed(Options(), "-c", str(path), "--check"))
        self.assertIs(getSiteManager(), before)
        for name in ("", "audit"):
            self.assertIsNone(queryUtility(IEventDispatcher, name))

    def test_check_names_what_is_wrong_in_zcml(self) -> None:
        """The file that the daemon would refuse is refused, the daemon's own dispatcher known."""
        self.patch(crochet, "no_setup", lambda: None)  # this process is no daemon
        path = Path(self.file('[zca]\nzcml = "app.zcml"\n'))
        path.with_name("app.zcml").write_text(
            '<configure xmlns="http://namespaces.zope.org/zope"'
            ' xmlns:oni="http://namespaces.oni/oni"><oni:eventDispatcher /></configure>',
            encoding="utf-8",
        )
        with self.assertRaises(SystemExit) as caught:
            Options().parseOptions(["-c", str(path), "--check"])
        self.assertIn("app.zcml", str(caught.exception.code))
        self.assertIn("already registered", str(caught.exception.code))

    def test_an_unknown_option(self) -> None:
        """An option that there is not is a usage error."""
        self.assertRaises(UsageError, Options().parseOptions, ["--port", "80"])

    def test_version(self) -> None:
        """The version is Oni's."""
        self.assertIn(f"Oni {__version__} (Twisted ", printed(Options(), "--version"))

    def test_help(self) -> None:
        """The help lists every setting with its default, and where the rules go."""
        text = printed(Options(), "--help")
        for info in describe():
            with self.subTest(info.path):
                self.assertIn(
                    f"  {info.path} = {info.default}\n" if info.default else info.path, text
                )
        self.assertIn("[channels.NAMESPACE]", text)
        self.assertLess(max(map(len, text.splitlines())), 100)

    def test_a_usage_error_shows_no_settings(self) -> None:
        """Below a usage error the problems are seen, not the whole reference."""
        self.assertNotIn("max_message_bytes", Options().getUsage())


class Plugin(SynchronousTestCase):
    """Twisted finds the command."""

    def test_found(self) -> None:
        """There is one plugin, with our options."""
        (found,) = [plug for plug in getPlugins(IServiceMaker) if plug.tapname == "oni"]
        self.assertIsInstance(found, ServiceMaker)
        self.assertIs(Options, found.options)
