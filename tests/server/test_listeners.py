"""``[listeners.NAME]``: what it takes, and listeners in the daemon and in workers."""

from __future__ import annotations

import tomllib

from twisted.internet.testing import MemoryReactorClock

from oni.carriers.memory import MemoryCarrier, MemoryConnection
from oni.channels import Channels
from oni.command._toml import toml_text
from oni.errors import SettingsError
from oni.listeners import ResourceEvents, _activate
from oni.server import Oni, Settings
from oni.server._listeners import ListenersService
from oni.server._settings_file import parse_settings
from oni.server._whole_check import check_application
from oni.server.metrics._readings import Readings
from oni.server.sources._making import make_worker_service
from oni.sources import fresh_default
from tests.server.test_settings import SettingsCase

PAGES = """
[listeners.pages]
use = "oni.listeners.channel"
actions = ["create"]
channel = "articles"

[listeners.log]
use = "oni.listeners.log"
"""
LEDGER = '[ledger]\nurl = "memory:"\n'


class SettingsTests(SettingsCase):
    """What the tables take."""

    def test_tables(self) -> None:
        """Each is kept as it is, with the listener's own keys."""
        tables = parse_settings(PAGES).listeners
        self.assertEqual(["pages", "log"], list(tables))
        self.assertEqual("articles", tables["pages"]["channel"])
        self.assertEqual({}, dict(Settings().listeners))

    def test_shown(self) -> None:
        """They are among the settings that are shown, without a secret."""
        text = PAGES + '[listeners.far]\nuse = "x"\nurl = "redis://u:geheim@h/0"\npassword = "p"\n'
        shown = toml_text(parse_settings(text))
        self.assertNotIn("geheim", shown)
        found = tomllib.loads(shown)["listeners"]
        self.assertEqual(tomllib.loads(PAGES)["listeners"]["pages"], found["pages"])
        self.assertEqual("...", found["far"]["password"])

    def test_wrong(self) -> None:
        """What all listeners have is checked when the file is read, all of it at once."""
        problems = self.problems(
            'listeners.a = 5\n[listeners.b]\nuse = ""\nactions = ["destroy"]\nresources = "x"\n'
            '[listeners."c d"]\nuse = "x"\n[listeners.e]\n'
        )
        self.assertEqual(
            [
                "listeners.a",
                "listeners.b.use",
                "listeners.b.actions[0]",
                "listeners.b.resources",
                "listeners.c d",
                "listeners.e.use",
            ],
            [problem.partition(":")[0] for problem in problems],
        )
        self.assert_problem("listeners = 5", "listeners: expected tables")
        self.assert_problem(
            'listeners.a = {use = "x", actions = ["create", "updated"]}',
            "listeners.a.actions[1]: expected 'create' or ",
            "got 'updated' (did you mean 'update'?)",
        )


class OniTests(SettingsCase):
    """Listeners that are switched on."""

    def setUp(self) -> None:
        """Have default event sources of our own, and channels."""
        fresh = fresh_default()
        self.sources = fresh.__enter__()
        self.addCleanup(fresh.__exit__, None, None, None)
        self.reactor = MemoryReactorClock()
        self.channels = Channels(reactor=self.reactor)

    def make(self, text: str) -> Oni:
        """Make an Oni."""
        return Oni(parse_settings(text), self.reactor, channels=self.channels)

    def test_with_a_ledger(self) -> None:
        """They hear by the event sources, each under its name."""
        oni = self.make(LEDGER + PAGES)
        self.assertEqual(["pages", "log"], list(oni.listeners.by_name))
        self.assertEqual(["listener.log", "listener.pages"], sorted(self.sources.handler_names()))

    def test_without_a_ledger(self) -> None:
        """They hear what the application's own resources do, and are counted."""
        self.patch(_activate, "isInIOThread", lambda: True)
        oni = self.make(PAGES.replace('"create"', '"create", "read"'))
        connection = MemoryConnection()
        articles = self.channels.get("articles")
        articles.subscribe(None, MemoryCarrier(connection, reactor=self.reactor))
        events = ResourceEvents(oni.resources, timeout=None)
        events.record("article", "create", id=1, uri="/1", new={"id": 1})
        events.before_commit()
        events.committed()
        self.reactor.advance(0)
        got = self.successResultOf(connection.receive())["payload"]
        self.assertEqual(
            ("article_create", 1), (got["name"], got["data"]["payload"]["article_id"])
        )
        read = dict(Readings(oni, int, [], {})._listeners())
        self.assertEqual({("pages",): 1, ("log",): 1}, read["oni_listener_calls_total"])
        self.assertEqual({("pages",): 0, ("log",): 0}, read["oni_listener_failures_total"])
        self.assertEqual({("pages",), ("log",)}, set(read["oni_listener_seconds_total"]))

    def test_dispatcher(self) -> None:
        """The listener that fires does so at the resources' dispatcher, not at the server's."""
        oni = self.make('[listeners.fire]\nuse = "oni.listeners.dispatcher"\n')
        listener = oni.listeners.by_name["fire"]
        self.assertIs(oni.resources, listener._dispatcher)

    def test_own_settings(self) -> None:
        """What is wrong with a listener's own is named as the file has it, also by a check."""
        text = PAGES.replace('channel = "articles"', "chanel = 5")
        for call in (self.make, lambda text: check_application(parse_settings(text))):
            error = self.assertRaises(SettingsError, call, text)
            names = [problem.partition(":")[0] for problem in error.problems]
            self.assertEqual(["listeners.pages.chanel", "listeners.pages.channel"], names)

    def test_worker(self) -> None:
        """A worker has them, but for those that publish: it has no channels."""
        service = make_worker_service(parse_settings(LEDGER + PAGES), self.reactor)
        self.assertEqual(["listener.log"], list(service.sources.handler_names()))
        self.assertEqual(1, len(self.reactor.triggers["after"]["shutdown"]))

    def test_closed(self) -> None:
        """They are closed when the service stops, once, and only if it was started."""
        closed: list[int] = []
        service = ListenersService(lambda: closed.append(1))
        service.stopService()
        self.assertEqual([], closed)
        service.startService()
        service.stopService()
        service.stopService()
        self.assertEqual([1], closed)
