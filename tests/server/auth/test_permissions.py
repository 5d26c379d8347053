"""Who meets a rule, and whom a channel's name lets in."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.server.auth._permissions import is_let_in, permits


class PermissionTests(SynchronousTestCase):
    """Tests of rules."""

    def test_rules(self) -> None:
        """Everybody, nobody, who is something, or who is all of a list."""
        for rule, held, expected in (
            (True, "", True),
            (False, "authenticated subscriber token", False),
            ("authenticated", "authenticated", True),
            ("authenticated", "subscriber", False),
            (("authenticated", "subscriber"), "authenticated subscriber", True),
            (("authenticated", "subscriber"), "authenticated", False),
            (("authenticated", "subscriber"), "subscriber", False),
            (("token",), "token", True),
        ):
            self.assertIs(permits(rule, held.split().__contains__), expected, (rule, held))

    def test_personal(self) -> None:
        """Behind the first # are the users whose channel it is, and nobody else's."""
        for channel, user, expected in (
            ("news", "", True),
            ("news", "bob", True),
            ("inbox#bob", "bob", True),
            ("chat:inbox#bob", "bob", True),
            ("inbox#bob", "alice", False),
            ("inbox#bob", "", False),
            ("inbox#bob", "Bob", False),
            ("inbox#bob", "bo", False),
            ("inbox#", "", False),
            ("inbox#,", "", False),
            ("inbox#bob,", "", False),
            ("inbox#bob,alice", "alice", True),
            ("inbox#bob,alice", "bob", True),
            ("inbox#bob,alice", "bob,alice", False),
            ("inbox#bob, alice", "alice", False),
            # A user whose name has a # keeps others out of what is meant for it.
            ("inbox#a#b", "b", False),
            ("inbox#a#b", "a#b", True),
        ):
            self.assertIs(is_let_in(channel, user), expected, (channel, user))
