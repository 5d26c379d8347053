"""The default event sources, and the functions that stand for them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from oni import sources
from oni.errors import NotRunningError
from oni.ledger import Ledger, MemoryStore
from oni.sources import Event, event
from tests.ledger.threads import AtOnce
from tests.sources.house import Challenge, HandPool, Reactor, Table


def handle(event: Event) -> None:
    """Note the key."""
    heard.append(event.key)


heard: list[str] = []


class ShortcutTests(SynchronousTestCase):
    """Others in the place of the default ones."""

    def setUp(self) -> None:
        """Put them there."""
        heard.clear()
        fresh = sources.fresh_default()
        self.default = fresh.__enter__()
        self.addCleanup(fresh.__exit__, None, None, None)

    def test_default(self) -> None:
        """There is one, made when first asked for, until others take its place for a while."""
        self.assertIs(sources.default(), self.default)
        with sources.fresh_default() as other:
            self.assertIs(sources.default(), other)
            with sources.fresh_default(self.default):
                self.assertIs(sources.default(), self.default)
        self.assertIs(sources.default(), self.default)

    def test_the_seeds_words(self) -> None:
        """What is registered before there is a ledger is there when it is."""
        name = sources.register_group_handler(handler=handle, group=r"^challenge")
        sources.register_model_event_source(
            sender=Challenge, source=lambda challenge: [event("challenge_created", challenge.pk)]
        )
        sources.register_change_handler(Challenge, handle, actions=["deleted"], name="changes")
        self.assertEqual(self.default.handler_names(), [name, "changes"])
        self.failureResultOf(sources.process_events([]), NotRunningError)

        clock = Reactor()
        ledger = Ledger(
            MemoryStore(), interval=None, reactor=clock, make_threads=lambda name, size: AtOnce()
        )
        sources.default().configure(ledger, reactor=clock, make_pool=lambda size: HandPool())
        sources.default().start()
        clock.settle()
        for model, functions in sources.MODEL_SOURCES.items():
            for instance in [model(Table(), pk) for pk in (1, 2)]:
                for source in functions:
                    sources.process_events(sources.only_new_events(source(instance)))
        clock.settle()
        self.assertEqual(sorted(heard), ["17:challenge_created1", "17:challenge_created2"])

    def test_model_sources(self) -> None:
        """They are those of the default event sources as they are now."""
        self.assertEqual((len(sources.MODEL_SOURCES), dict(sources.MODEL_SOURCES)), (0, {}))
        sources.register_model_event_source(Challenge, source=lambda challenge: ())
        self.assertEqual(list(sources.MODEL_SOURCES), [Challenge])
        self.assertEqual(len(sources.MODEL_SOURCES[Challenge]), 1)
        self.assertIn("Challenge", repr(sources.MODEL_SOURCES))
