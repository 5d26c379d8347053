"""Looking: once a second for all, in small steps, and not at all when nobody asks."""

from __future__ import annotations

import json
from typing import Any

from oni.server.console import Watcher
from oni.server.console import _watcher as module
from oni.server.console._snapshot import MAX_HANDLERS, Snapshot
from oni.server.console._survey import MAX_SLOW, STEP, Surveyor
from tests.server.house import HouseTestCase


class Stuck:
    """A carrier that takes nothing, as long as it is not told to."""

    peer = "tcp4:192.0.2.7:40000"

    def __init__(self) -> None:
        self.woken: list[Any] = []

    def encode(self, entry: Any) -> bytes:
        """Give the data."""
        return bytes(entry.data)

    def wake(self, subscription: Any) -> None:
        """Take nothing."""
        self.woken.append(subscription)

    def lost(self, subscription: Any, position: Any) -> bytes:
        """Say nothing."""
        return b""

    def overdue(self, subscription: Any) -> None:
        """Do nothing."""


class Hostile:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("not for you")


class WatcherTestCase(HouseTestCase):
    """Looks at an Oni."""

    def setUp(self) -> None:
        """Begin to look."""
        super().setUp()
        self.watcher = Watcher(self.oni, self.reactor)
        self.addCleanup(self.watcher.stop)

    def look(self) -> Any:
        """Ask, and give what is seen."""
        return json.loads(self.newest().answer())

    def newest(self) -> Snapshot:
        """Ask, with the turns that the first look takes."""
        asked = self.watcher.ask()
        while not asked.called:
            self.reactor.advance(0)
        return self.successResultOf(asked)

    def next(self) -> Any:
        """Look again, a second later."""
        self.newest()
        for _ in range(8):
            self.reactor.advance(0.125)
        return self.look()

    def publish(self, channel: str, times: int = 1) -> None:
        """Publish."""
        for number in range(times):
            self.successResultOf(self.oni.act("publish", channel=channel, data=number))
        self.reactor.advance(0)

    def stuck(self, channel: str) -> Stuck:
        """Subscribe one that takes nothing."""
        carrier = Stuck()
        self.successResultOf(self.channels.get(channel).subscribe(None, carrier))
        return carrier


class Sharing(WatcherTestCase):
    """What looking costs."""

    def test_nobody_asks(self) -> None:
        """Nothing is looked at, and no time passes for it, before somebody asks."""
        self.assertEqual({"console_is_watched": 0}, self.watcher.statistics())
        self.assertEqual([], [c for c in self.reactor.getDelayedCalls() if "_beat" in str(c)])

    def test_shared(self) -> None:
        """Many viewers see the very same, looked at and written down once a second."""
        looks = []
        survey = self.channels.survey
        self.patch(self.channels, "survey", lambda: looks.append(1) or survey())
        first = self.newest()
        for _ in range(50):
            self.assertIs(first, self.newest())
            self.assertIs(first.answer(), self.newest().answer())
        self.assertEqual(1, len(looks))
        self.next()
        self.assertEqual(2, len(looks))
        self.assertIsNot(first, self.newest())

    def test_ends(self) -> None:
        """When nobody has asked for a while it ends, and leaves nothing."""
        self.newest()
        calls = len(self.reactor.getDelayedCalls())
        for _ in range(80):
            self.reactor.advance(0.1)
        self.assertEqual({"console_is_watched": 0}, self.watcher.statistics())
        self.assertLess(len(self.reactor.getDelayedCalls()), calls)
        self.assertIsNone(self.look()["rates"]["deliveries"])

    def test_in_steps(self) -> None:
        """Very many channels are looked at in several turns of the reactor."""
        held = [self.channels.get(f"c{number}") for number in range(2 * STEP + 1)]
        *steps, survey = Surveyor(self.channels, {}).survey(0.0)
        self.assertEqual([None, None], steps)
        self.assertEqual(len(held), survey.total if survey else 0)
        self.assertEqual(len(held), self.look()["channels"]["looked_at"])

    def test_fault(self) -> None:
        """What goes wrong is logged, whoever waits learns of it, and looking goes on."""
        with self.subTest("it fails"):
            self.patch(self.oni.dispatcher, "handlers", lambda limit: 1 / 0)
            self.failureResultOf(self.watcher.ask(), ZeroDivisionError)
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        del self.oni.dispatcher.handlers
        asked = self.watcher.ask()
        self.reactor.advance(1)
        self.successResultOf(asked)

    def test_given_up(self) -> None:
        """One who goes while waiting is forgotten."""
        held = [self.channels.get(f"c{number}") for number in range(STEP)]
        asked = self.watcher.ask()
        asked.cancel()
        self.failureResultOf(asked)
        self.reactor.advance(0)
        self.assertEqual(len(held), self.look()["channels"]["total"])


class Figures(WatcherTestCase):
    """What is seen."""

    def test_rates(self) -> None:
        """Rates are those of the last second; at first there are none."""
        client = self.connected()
        client.ask("subscribe", channel="lobby")
        first = self.look()
        self.assertIsNone(first["rates"]["publications"])
        self.assertIsNone(first["channels"]["rows"][0]["rate"])
        self.publish("lobby", 5)
        second = self.next()
        self.assertEqual(5.0, second["rates"]["publications"])
        self.assertEqual(5.0, second["rates"]["deliveries"])
        self.assertEqual(5.0, second["channels"]["rows"][0]["rate"])
        self.assertEqual(0.0, self.next()["channels"]["rows"][0]["rate"])

    def test_new_channel(self) -> None:
        """A channel that has come since the last look has heard all that it heard since."""
        self.look()
        self.connected().ask("subscribe", channel="lobby")
        self.publish("lobby", 3)
        self.assertEqual(3.0, self.next()["channels"]["rows"][0]["rate"])

    def test_lag(self) -> None:
        """How late the reactor was, at most; a clock that was set is not taken for that."""
        self.newest()
        self.reactor.rightNow += 0.45
        self.reactor.advance(0)
        self.assertAlmostEqual(0.325, self.next()["figures"]["lag"], 3)
        self.assertAlmostEqual(0.0, self.next()["figures"]["lag"], 3)
        self.patch(module, "_LONGEST", 0.25)
        self.reactor.rightNow += 0.75
        self.reactor.advance(0)
        lags = [told["figures"]["lag"] for told in (self.look(), self.next())]
        self.assertEqual(0.25, max(lags))

    def test_handlers(self) -> None:
        """Handlers are told with phase, spec, calls and place; values as Python shows them."""
        self.on("after", hear, action="publish", channel="lobby")
        self.publish("lobby", 2)
        row = self.look()["dispatcher"]["handlers"][-1]
        self.assertEqual(("hear", "after", 2), (row["name"], row["phase"], row["calls"]))
        self.assertEqual({"action": "'publish'", "channel": "'lobby'"}, row["spec"])
        self.assertRegex(row["place"], r"^[^/]+\.py:\d+$")

    def test_hostile_specs(self) -> None:
        """A value that cannot be shown, or is very long, harms nothing."""
        self.on("after", hear, channel=Hostile())
        self.on("after", hear, channel="x" * 10_000)
        rows = self.look()["dispatcher"]["handlers"]
        self.assertIn("Hostile", rows[-2]["spec"]["channel"])
        self.assertLess(len(rows[-1]["spec"]["channel"]), 250)
        self.flushLoggedErrors(RuntimeError)

    def test_many_handlers(self) -> None:
        """Of very many handlers the first are told, and how many there are."""
        for _ in range(MAX_HANDLERS):
            self.on("after", hear, channel="lobby")
        told = self.look()["dispatcher"]
        self.assertEqual(MAX_HANDLERS, len(told["handlers"]))
        self.assertEqual(MAX_HANDLERS + 3, told["total"])


class Slow(WatcherTestCase):
    """Who is behind."""

    def test_slow(self) -> None:
        """One that has not taken what was there a second ago is told, and since when."""
        self.stuck("kept:1")
        self.publish("kept:1", 2)
        self.assertEqual([], self.look()["slow"]["rows"])
        self.publish("kept:1")
        (row,) = self.next()["slow"]["rows"]
        self.assertEqual(("kept:1", 3, "gap"), (row["channel"], row["behind"], row["policy"]))
        self.assertEqual("192.0.2.7:40000", row["address"])
        self.assertAlmostEqual(1.0, row["seconds"], 3)
        (row,) = self.next()["slow"]["rows"]
        self.assertAlmostEqual(2.0, row["seconds"], 3)

    def test_catches_up(self) -> None:
        """Whoever has taken everything is not told any more."""
        carrier = self.stuck("lobby")
        self.publish("lobby")
        self.look()
        self.assertEqual(1, self.next()["slow"]["total"])
        (subscription,) = set(carrier.woken)
        while subscription.take(65536):
            pass
        self.assertEqual(0, self.next()["slow"]["total"])

    def test_just_now(self) -> None:
        """What came within the last second makes nobody slow."""
        self.stuck("lobby")
        self.look()
        self.publish("lobby")
        self.assertEqual([], self.next()["slow"]["rows"])

    def test_user(self) -> None:
        """A session is told with its user and id."""
        client = self.connected()
        client.ask("subscribe", channel="lobby")
        (session,) = self.oni.sessions.values()
        session.user = "bob"
        client.protocol._inner.block()
        self.publish("lobby")
        self.look()
        (row,) = self.next()["slow"]["rows"]
        self.assertEqual(("bob", session.client), (row["user"], row["client"]))

    def test_bounded(self) -> None:
        """Of very many the worst are told, and how many there are."""
        for _ in range(MAX_SLOW + 5):
            self.stuck("lobby")
        self.publish("lobby")
        self.look()
        told = self.next()["slow"]
        self.assertEqual((MAX_SLOW, MAX_SLOW + 5), (len(told["rows"]), told["total"]))


def hear(act: Any) -> None:
    """Hear an act."""
