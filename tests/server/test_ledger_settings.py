"""``[ledger]`` and ``[sources]``: what they take, and what does not fit together."""

from __future__ import annotations

import sys
from unittest import mock

from oni.server._ledger_settings import LedgerSettings
from oni.server._settings_file import parse_settings
from tests.server.test_settings import SettingsCase

LEDGER = '[ledger]\nurl = "memory:"\n'


class Ledger(SettingsCase):
    """``[ledger]``."""

    def test_off(self) -> None:
        """Without a word there is no ledger, and nothing is forgotten."""
        ledger = LedgerSettings()
        self.assertEqual((None, None), (ledger.url, ledger.prune_after))
        self.assertIsNone(ledger.url_in("/srv"))

    def test_file_beside_the_settings(self) -> None:
        """A file's name that is not whole starts in the folder of the settings file."""
        for url, expected in (
            ("sqlite:///ledger.db", "sqlite:////srv/shop/ledger.db"),
            ("sqlite+pysqlite:///a/b.db?x=1", "sqlite+pysqlite:////srv/shop/a/b.db?x=1"),
            ("sqlite:////var/ledger.db", "sqlite:////var/ledger.db"),
            ("sqlite://", "sqlite://"),
            ("postgresql://me@host/db", "postgresql://me@host/db"),
            ("memory:", "memory:"),
        ):
            ledger = LedgerSettings(url=url)
            self.assertEqual(expected, ledger.url_in("/srv/shop"))
            self.assertEqual(url, ledger.url_in(None))

    def test_addresses(self) -> None:
        """What is no address of a ledger is named, without its password."""
        self.assert_problem('[ledger]\nurl = "mysql://u:geheim@h/x"\n', "ledger.url: ", "mysql")
        (problem,) = self.problems('[ledger]\nurl = "mysql://u:geheim@h/x"\n')
        self.assertNotIn("geheim", problem)
        self.assert_problem('[ledger]\nurl = ""\n', "ledger.url: ")

    def test_missing_extra(self) -> None:
        """What must be installed for it is named."""
        with mock.patch.dict(sys.modules, {"oni.ledger.sqlalchemy": None}):
            self.assert_problem(
                '[ledger]\nurl = "sqlite:///x.db"\n', "ledger.url: ", "oni-dispatcher[sql]"
            )

    def test_numbers(self) -> None:
        """Times are above 0 and finite; a namespace has no slash."""
        for line, path in (
            ("lease = 0", "ledger.lease"),
            ("lease = inf", "ledger.lease"),
            ("look_every = inf", "ledger.look_every"),
            ("prune_after = inf", "ledger.prune_after"),
            ("prune_after = -1", "ledger.prune_after"),
            ("workers = 0", "ledger.workers"),
            ('namespace = "a/b"', "ledger.namespace"),
            ('namespace = ""', "ledger.namespace"),
            ('url = "redis://127.0.0.1/0"\nnamespace = "a b"', "ledger.url"),
        ):
            self.assert_problem(f"[ledger]\n{line}\n", f"{path}: ")


class Sources(SettingsCase):
    """``[sources]``."""

    def test_right(self) -> None:
        """With a ledger, or a Django project, there may be sources."""
        settings = parse_settings(LEDGER + '[sources]\nconfigure = "shop:configure"\n')
        self.assertEqual(("here", 64), (settings.sources.deliver, settings.sources.concurrency))
        text = '[sources]\nconfigure = "a.b:c.d"\ndjango_settings = "mysite.settings"\n'
        self.assertEqual("mysite.settings", parse_settings(text).sources.django_settings)

    def test_without_a_ledger(self) -> None:
        """Sources need one, and only one."""
        self.assert_problem('[sources]\nconfigure = "shop:configure"\n', "ledger.url: ", "needs")
        text = LEDGER + '[sources]\ndjango_settings = "mysite.settings"\n'
        self.assert_problem(text, "ledger.url: ", "Django project's matter")

    def test_of_a_django_project(self) -> None:
        """What such a project's own settings say is refused here, and not passed over."""
        project = '[sources]\ndjango_settings = "mysite.settings"\n'
        for lines, path in (
            ('deliver = "worker"\n', "sources.deliver"),
            ("concurrency = 3\n", "sources.concurrency"),
            ("threads = 3\n", "sources.threads"),
            ('outboxes = ["sqlite:///shop.db"]\n', "sources.outboxes"),
            ("[ledger]\nlease = 60\n", "ledger.lease"),
            ('[ledger]\nnamespace = "shop"\n', "ledger.namespace"),
        ):
            with self.subTest(path):
                (problem,) = self.problems(project + lines)
                self.assertTrue(problem.startswith(f"{path}: "), problem)
        parse_settings(project + "[ledger]\nlook_every = 5\nprune_after = 60\n")

    def test_outboxes(self) -> None:
        """Outboxes are in SQL databases, and there is a ledger that they are emptied into."""
        text = '[sources]\noutboxes = ["sqlite:///shop.db"]\n'
        self.assert_problem(text, "ledger.url: ", "sources.outboxes")
        wrong = '[sources]\noutboxes = ["redis://u:geheim@h/0"]\n'
        (problem,) = self.problems(LEDGER + wrong)
        self.assertIn("sources.outboxes: ", problem)
        self.assertNotIn("geheim", problem)

    def test_names(self) -> None:
        """A function and a module are named as Python names them."""
        self.assert_problem(LEDGER + '[sources]\nconfigure = "shop"\n', "sources.configure: ")
        self.assert_problem(
            '[sources]\ndjango_settings = "my site"\n', "sources.django_settings: "
        )
        self.assert_problem(f'{LEDGER}[sources]\ndeliver = "there"\n', "sources.deliver: ")
