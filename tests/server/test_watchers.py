"""``[watchers.NAME]``: what it takes, and watchers in the daemon and in workers."""

from __future__ import annotations

import tomllib

from twisted.internet.testing import MemoryReactorClock

from oni.channels import Channels
from oni.command._toml import toml_text
from oni.errors import SettingsError
from oni.server import Oni, Settings
from oni.server._settings_file import parse_settings
from oni.server._whole_check import check_application
from oni.server.sources._making import make_worker_service
from oni.sources import fresh_default
from oni.values import ModelChange
from tests.server.test_settings import SettingsCase
from tests.server.watchers_app import Notifications

APP = "tests.server.watchers_app"
LEDGER = '[ledger]\nurl = "memory:"\n'
NOTIFY = f"""
[watchers.notify]
imodeleventwatcher = "{APP}.Notifications"
models = ["blog.Post"]
threaded = true

[watchers.several]
imodeleventwatcher = ["{APP}.Notifications", "oni.watchers.NoopModelEventWatcher"]
models = ["blog.Post", "blog.Idea"]

[watchers.elsewhere]
imodeleventwatcher = "somebody.Elses"
"""
NAMES = [
    "notify.blog.Post",
    "several.0.blog.Idea",
    "several.0.blog.Post",
    "several.1.blog.Idea",
    "several.1.blog.Post",
]


class SettingsTests(SettingsCase):
    """What the tables take."""

    def test_tables(self) -> None:
        """Each is kept as it is, with the watcher's own keys; so is the short form."""
        text = LEDGER + "[watchers]\n" + 'web = "a.B"\nmail = ["a.B", "a.C"]\n' + NOTIFY
        watchers = parse_settings(text).watchers
        self.assertEqual(["web", "mail", "notify", "several", "elsewhere"], list(watchers))
        self.assertEqual("a.B", watchers["web"])
        self.assertEqual({}, dict(Settings().watchers))

    def test_shown(self) -> None:
        """They are among the settings that are shown, without a password."""
        own = 'celery = {broker = "redis://u:geheim@h/0"}\n'
        text = LEDGER + '[watchers]\nweb = "a.B"\n' + NOTIFY + own
        shown = toml_text(parse_settings(text))
        self.assertNotIn("geheim", shown)
        found = tomllib.loads(shown)["watchers"]
        self.assertEqual(tomllib.loads(NOTIFY)["watchers"]["several"], found["several"])
        self.assertEqual({"imodeleventwatcher": "a.B"}, found["web"])

    def test_wrong(self) -> None:
        """What all watchers have is checked when the file is read, all of it at once."""
        problems = self.problems(
            'watchers.a = 5\n[watchers.b]\nimodeleventwatcher = ""\nmodels = "x"\nthreaded = 1\n'
            '[watchers."c d"]\nimodeleventwatcher = ["x"]\n[watchers.e]\n'
        )
        self.assertEqual(
            [
                "watchers.a.imodeleventwatcher",
                "watchers.b.imodeleventwatcher",
                "watchers.b.models",
                "watchers.b.threaded",
                "watchers.c d",
                "watchers.e.imodeleventwatcher",
            ],
            [problem.partition(":")[0] for problem in problems if "ledger" not in problem],
        )
        self.assert_problem("watchers = 5", "watchers: expected tables")
        nobody = 'imodeleventwatcher = "a.B"\nmodels = []'
        self.assert_problem(f"[watchers.a]\n{nobody}", "watchers.a.models: expected a list")

    def test_doubts(self) -> None:
        """A watcher's own key that looks like one of ours is said: nobody would hear by it."""
        table = '[watchers.a]\nimodeleventwatcher = "a.B"\nthreadedmodelwatcher = "a.C"\n'
        doubtful = parse_settings(LEDGER + '[watchers]\nweb = "a.B"\n' + table + 'model = "x.Y"')
        self.assertEqual(
            "watchers.a.model is left to the watcher itself (did you mean 'models'?)",
            doubtful.warnings()[-1],
        )
        fine = table + 'models = ["x.Y"]\nthreaded = true\nmodel = 1\nthreads = 2'
        self.assertEqual((), parse_settings(LEDGER + fine).warnings())

    def test_ledger(self) -> None:
        """Those with models need a ledger, and no others."""
        one = '[watchers.a]\nimodeleventwatcher = "a.B"\nmodels = ["blog.Post"]\n'
        self.assert_problem(one, "ledger.url: expected an address, as watchers.a.models needs")
        parse_settings('[watchers]\nweb = "a.B"\n')


class OniTests(SettingsCase):
    """Watchers that hear."""

    def setUp(self) -> None:
        """Have default event sources of our own."""
        fresh = fresh_default()
        self.sources = fresh.__enter__()
        self.addCleanup(fresh.__exit__, None, None, None)
        self.reactor = MemoryReactorClock()
        self.patch(Notifications, "heard", [])

    def make(self, text: str) -> Oni:
        """Make an Oni."""
        return Oni(parse_settings(text), self.reactor, channels=Channels(reactor=self.reactor))

    def test_registered(self) -> None:
        """Each under its name, for its models, in a thread where that is said."""
        self.make(LEDGER + NOTIFY)
        self.assertEqual(NAMES, sorted(self.sources.handler_names()))
        by_name = {each.name: each for each in self.sources.handlers()}
        self.assertTrue(by_name["notify.blog.Post"].threaded)
        self.assertFalse(by_name["several.0.blog.Post"].threaded)
        [event, *_] = self.sources.change_events([ModelChange("blog.Post", 7, "created")])
        by_name["notify.blog.Post"].function(event)
        self.assertEqual([7], Notifications.heard)

    def test_worker(self) -> None:
        """A worker has them, too."""
        service = make_worker_service(parse_settings(LEDGER + NOTIFY), self.reactor)
        self.assertEqual(NAMES, sorted(service.sources.handler_names()))

    def test_wrong(self) -> None:
        """What is wrong with any of them is named as the file has it, also by a check."""
        text = (
            LEDGER
            + f'[watchers.a]\nimodeleventwatcher = "{APP}.Choosy"\nmodels = ["blog.Post"]\n'
            + '[watchers.b]\nimodeleventwatcher = "nobody.Knows"\nmodels = ["blog.Post"]\n'
            + f'[watchers.c]\nimodeleventwatcher = "{APP}.Choosy"\nmodels = ["x.Y"]\nplace = 1\n'
        )
        text += f'[watchers.d]\nimodeleventwatcher = "{APP}.Notifications"\nmodels = ["a/b"]\n'
        for call in (self.make, lambda text: check_application(parse_settings(text))):
            error = self.assertRaises(SettingsError, call, text)
            said = [problem.partition(": ")[0] for problem in error.problems]
            self.assertEqual(["watchers.a.place", "watchers.b", "watchers.d"], said)
            self.assertIn("'nobody.Knows': it cannot be found", error.problems[1])

    def test_check_registers_nothing(self) -> None:
        """A check makes them, and nobody hears by that."""
        check_application(parse_settings(LEDGER + NOTIFY))
        self.assertEqual([], list(self.sources.handler_names()))
