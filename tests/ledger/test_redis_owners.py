"""Owners that are seen by the names of connections: with a server that forgets and forbids."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerUnavailableError
from oni.ledger._redis_owners import ForbiddenError, Owners

ONE, TWO = "1" * 32, "2" * 32


class FakeServer:
    """Knows names. Each of the next calls goes wrong as it is told to."""

    prefix = "oni:{oni}:"

    def __init__(self, clock: Clock) -> None:
        self.sessions: list[FakeSession] = []
        self.kept: dict[str, float] = {}
        self.is_away = False
        self.forbidden: set[str] = set()
        self.given: set[str] = set()
        self.forgets_names = True
        self._clock = clock

    def check(self, what: str) -> None:
        """Raise what is wished."""
        if self.is_away:
            raise LedgerUnavailableError("away")
        if what in self.forbidden:
            raise ForbiddenError(what)

    def dedicate(self) -> FakeSession:
        """Give a connection."""
        self.check("dedicate")
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]

    def names(self) -> Collection[str]:
        """Give the names of those that are open, as far as has been noticed."""
        self.check("list")
        if not self.forgets_names:
            return self.given
        return {session.called for session in self.sessions if session.is_listed}

    def keep_for(self, key: str, seconds: int) -> None:
        """Keep a key."""
        self.check("keep")
        self.kept[key] = self._clock.seconds() + seconds

    def is_kept(self, key: str) -> bool:
        """Say whether it is there."""
        self.check("kept")
        return self.kept.get(key, 0.0) > self._clock.seconds()

    def restart(self) -> None:
        """Lose every connection."""
        for session in self.sessions:
            session.closed = True
            session.is_listed = False


class FakeSession:
    """A connection. That it has ended is noticed later than anybody looks."""

    def __init__(self, server: FakeServer) -> None:
        self.called = ""
        self.closed = False
        self.is_listed = True
        self._server = server

    def name(self, name: str) -> None:
        """Take a name."""
        self._server.check("name")
        if self.closed:
            raise LedgerUnavailableError("closed")
        self.called = name
        self._server.given.add(name)

    def close(self) -> None:
        """End it."""
        self.closed = True


class OwnersTests(SynchronousTestCase):
    """Two processes at one server."""

    def setUp(self) -> None:
        """Make them."""
        self.clock = Clock()
        self.server = FakeServer(self.clock)
        self.mine = Owners(self.server, self.clock.seconds)
        self.theirs = Owners(self.server, self.clock.seconds)

    def test_seen(self) -> None:
        """Who enters is seen until it leaves; the connections are closed."""
        self.mine.enter(ONE)
        self.assertTrue(self.theirs.is_alive(ONE))
        self.assertFalse(self.theirs.is_alive(TWO))
        self.mine.leave(ONE)
        self.assertFalse(self.theirs.is_alive(ONE))
        self.mine.enter(TWO)
        self.mine.close()
        self.assertFalse(self.theirs.is_alive(TWO))
        self.assertTrue(all(session.closed for session in self.server.sessions))

    def test_probe(self) -> None:
        """A name that is seen, and then is not, shows that owners can be seen."""
        self.mine.probe()
        self.assertTrue(self.mine.can_be_seen)
        self.assertTrue(all(session.closed for session in self.server.sessions))

    def test_probe_at_the_same_time(self) -> None:
        """Any number of processes may open their stores at once: none sees another's probe."""
        names = self.server.names

        def names_when_others_probe() -> Collection[str]:
            self.server.names = names  # type: ignore[method-assign]
            self.theirs.probe()
            return names()

        self.server.names = names_when_others_probe  # type: ignore[method-assign]
        self.mine.probe()
        self.assertTrue(self.mine.can_be_seen)
        self.assertTrue(self.theirs.can_be_seen)

    def test_probe_where_names_stay(self) -> None:
        """Where a name stays after it was taken back, as at a pooler, the lease decides."""
        self.server.forgets_names = False
        self.mine.probe()
        self.assertFalse(self.mine.can_be_seen)
        self.assertTrue(self.mine.is_alive(TWO))

    def test_forbidden(self) -> None:
        """Where names cannot be given or seen everybody seems to live."""
        for what in ("name", "list"):
            self.server.forbidden = {what}
            self.mine.probe()
            self.assertFalse(self.mine.can_be_seen)
            self.assertTrue(self.mine.is_alive(TWO))

    def test_one_who_cannot_be_named(self) -> None:
        """While there is one, nobody is taken for dead by others; a minute later that ends."""
        self.server.forbidden = {"name"}
        self.mine.enter(ONE)
        self.server.forbidden = set()
        self.assertTrue(self.theirs.is_alive(ONE))
        self.clock.advance(50.0)
        self.server.forbidden = {"name"}
        self.mine.enter(ONE)
        self.server.forbidden = set()
        self.clock.advance(50.0)
        self.assertTrue(self.theirs.is_alive(ONE))
        self.clock.advance(11.0)
        self.assertFalse(self.theirs.is_alive(ONE))

    def test_time_to_come_back(self) -> None:
        """After a server was away nobody is taken for dead before all had time to come back."""
        self.mine.enter(ONE)
        self.theirs.enter(TWO)
        self.clock.advance(60.0)
        self.server.restart()
        self.assertRaises(LedgerUnavailableError, self.theirs.enter, TWO)
        self.theirs.enter(TWO)
        self.assertTrue(self.theirs.is_alive(ONE))
        self.clock.advance(1.0)
        self.assertRaises(LedgerUnavailableError, self.mine.enter, ONE)
        self.mine.enter(ONE)
        self.clock.advance(2.0)
        self.assertTrue(self.theirs.is_alive(ONE))
        self.assertFalse(self.theirs.is_alive("3" * 32))

    def test_away(self) -> None:
        """While the server is away that is said, by each call; leaving says nothing."""
        self.mine.enter(ONE)
        self.server.is_away = True
        self.assertRaises(LedgerUnavailableError, self.mine.enter, ONE)
        self.assertRaises(LedgerUnavailableError, self.mine.enter, ONE)
        self.mine.leave(ONE)
        self.theirs.close()
        self.assertRaises(LedgerUnavailableError, self.theirs.is_alive, ONE)

    def test_names_of_others(self) -> None:
        """What is no owner's name is not looked for: its lease decides."""
        self.assertTrue(self.mine.is_alive("no owner"))
