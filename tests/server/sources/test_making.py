"""Which event sources the settings describe."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getGlobalSiteManager

from oni.channels import Channels
from oni.errors import SettingsError
from oni.interfaces import IChannels
from oni.server import EmbeddedOni, Oni, Settings
from oni.server._settings_file import parse_settings
from oni.server.sources._making import make_sources_service, make_worker_service
from oni.sources import default, fresh_default, register_group_handler

LEDGER = '[ledger]\nurl = "memory:"\nnamespace = "shop"\n'


class MakingTests(SynchronousTestCase):
    """Event sources made of settings."""

    def setUp(self) -> None:
        """Have default event sources of our own, and a folder."""
        fresh = fresh_default()
        self.sources = fresh.__enter__()
        self.addCleanup(fresh.__exit__, None, None, None)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.reactor = MemoryReactorClock()

    def make(self, text: str) -> Any:
        """Make them."""
        settings = parse_settings(text, str(self.folder))
        return make_sources_service(settings, self.reactor)

    def test_none(self) -> None:
        """Without a ledger there are none."""
        self.assertIsNone(self.make(""))

    def test_default_ones(self) -> None:
        """They are the process's default ones, with all that was registered there."""
        register_group_handler("x", print, name="early")
        service = self.make(LEDGER)
        self.assertIs(default(), service.sources)
        self.assertEqual(["early"], list(service.sources.handler_names()))

    def test_oni(self) -> None:
        """An Oni has them, and knows how their ledger is; without a ledger it has none."""
        settings = parse_settings(LEDGER)
        oni = Oni(settings, self.reactor, channels=Channels(reactor=self.reactor))
        service = oni.sources_service
        assert service is not None
        self.assertIs(self.sources, oni.sources)
        self.assertIs(service.health, oni.condition.ledger)
        oni = Oni(Settings(), self.reactor, channels=Channels(reactor=self.reactor))
        self.assertEqual((None, None), (oni.sources, oni.condition.ledger))

    def test_embedded(self) -> None:
        """In somebody else's site they are opened and closed with the rest."""
        embedded = EmbeddedOni(parse_settings(LEDGER), self.reactor)
        registry = getGlobalSiteManager()
        self.addCleanup(registry.unregisterUtility, embedded.oni.channels, IChannels)
        self.assertIn(embedded.oni.sources_service, embedded._parts)

    def test_options(self) -> None:
        """What is set holds."""
        service = self.make(
            "[running]\nmax_lost_threads = 2\n[ledger]\n"
            'url = "memory:"\nlease = 3.0\nnamespace = "shop"\n'
            '[sources]\ndeliver = "worker"\nconcurrency = 5\nthreads = 6\n'
        )
        options = service.sources._options
        self.assertEqual(
            ("worker", 5, 6, 2),
            (options.deliver, options.concurrency, options.threads, options.threads_lost),
        )
        ledger: Any = service.sources.ledger
        self.assertEqual((3.0, "shop"), (ledger._lease, ledger._store.namespace))
        told: list[str] = []
        service.on_exhausted = lambda: told.append("hang")
        service.startService()
        options.threads_exhausted()
        self.assertEqual(["hang"], told)

    def test_outboxes(self) -> None:
        """Each outbox has a relay into the ledger; a file lies beside the settings."""
        service = self.make(f'{LEDGER}[sources]\noutboxes = ["sqlite:///shop.db"]\n')
        (relay,) = service._relays
        path = str(relay._outbox._connections._engine.url.database)
        self.assertEqual(str(self.folder / "shop.db"), path)
        self.assertEqual({}, service.backlog)

    def test_worker(self) -> None:
        """A worker delivers whatever the settings say, to what the function has registered."""
        (self.folder / "oni_test_making.py").write_text(
            "def configure(sources):\n    sources.register_group_handler('x', print, name='m')\n"
        )
        self.addCleanup(sys.modules.pop, "oni_test_making", None)
        self.addCleanup(sys.path.remove, str(self.folder))
        text = f'{LEDGER}[sources]\nconfigure = "oni_test_making:configure"\ndeliver = "worker"\n'
        settings = parse_settings(text, str(self.folder))
        service = make_worker_service(settings, self.reactor)
        self.assertTrue(service.sources.delivers)
        self.assertEqual(["m"], list(service.sources.handler_names()))

    def test_worker_without_a_ledger(self) -> None:
        """A worker without one is refused, and so is one whose function is not there."""
        for text, path in (
            ("", "ledger.url"),
            (f'{LEDGER}[sources]\nconfigure = "oni_nowhere:x"\n', "sources.configure"),
        ):
            settings = parse_settings(text)
            error = self.assertRaises(SettingsError, make_worker_service, settings, self.reactor)
            self.assertTrue(error.problems[0].startswith(path), error.problems)
