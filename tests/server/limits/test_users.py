"""How many sessions a user has."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni.server.limits import Users


class UsersTests(SynchronousTestCase):
    """Two each."""

    def test_most(self) -> None:
        """Each user has its own number; who leaves makes room, and leaves nothing behind."""
        users = Users(2)
        self.assertEqual([users.enter("bob") for _ in range(3)], [True, True, False])
        self.assertTrue(users.enter("eve"))
        users.leave("bob")
        self.assertTrue(users.enter("bob"))
        for user in ("bob", "bob", "eve"):
            users.leave(user)
        self.assertEqual(len(users), 0)

    def test_nobody(self) -> None:
        """Those that nobody knows are many."""
        users = Users(2)
        self.assertTrue(all(users.enter("") for _ in range(100)))
        users.leave("")
        self.assertEqual(len(users), 0)
