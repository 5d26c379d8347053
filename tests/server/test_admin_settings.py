"""``[admin]``: what opens the console, and what must not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import SettingsError
from oni.server._settings_file import settings_from

BEYOND = {"listen": ["tcp:8000"]}


class Admin(SynchronousTestCase):
    """The section ``[admin]``."""

    def problems(self, **sections: object) -> str:
        """Give what is said of these settings."""
        return str(self.assertRaises(SettingsError, settings_from, sections))

    def test_closed(self) -> None:
        """Without a word the console is off."""
        admin = settings_from({}).admin
        self.assertEqual((None, False), (admin.key, admin.open_on_loopback))

    def test_key(self) -> None:
        """A key is long, can be sent as a header, and is never shown."""
        admin = settings_from({"admin": {"key": "k" * 16}}).admin
        self.assertEqual("k" * 16, admin.key)
        self.assertNotIn("kkk", repr(admin))
        self.assertIn("admin.key", self.problems(admin={"key": "short"}))
        for key in ("a key with spaces in it", "schlüssel-schlüssel"):
            told = self.problems(admin={"key": key})
            self.assertIn("admin.key: expected printable ASCII", told)
            self.assertNotIn(key, told)

    def test_open_on_loopback_only(self) -> None:
        """Without a key it is open on loopback alone."""
        admin = {"open_on_loopback": True}
        self.assertTrue(settings_from({"admin": admin}).admin.open_on_loopback)
        self.assertIn("reaches beyond", self.problems(admin=admin, server=BEYOND))
        named = {"allowed_hosts": ["localhost", "events.example.org"]}
        self.assertIn("other names", self.problems(admin=admin, server=named))
