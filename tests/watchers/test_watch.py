"""Watchers that hear by the hand-over of event sources."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from oni.errors import NotNowError
from oni.ledger import MemoryStore
from oni.values import UNKNOWN, ModelChange
from oni.watchers import (
    CompositeModelEventWatcher,
    DirectModelEventWatcher,
    MethodModelEventWatcher,
    _configure,
    watch_models,
)
from tests.sources.driven import DrivenCase
from tests.watchers.test_watchers import Reactor, Recorder

CHANGE = ModelChange(
    "blog.Post", 1, "modified", {"title": "b"}, {"title": UNKNOWN}, frozenset({"title"}), "main"
)


class WatchTests(DrivenCase):
    """Changes that are committed come to watchers."""

    def setUp(self) -> None:
        """Start event sources over a ledger in memory."""
        self.clock = Reactor()
        self.sources = self.sources_over(MemoryStore(clock=self.clock.seconds))
        self.successResultOf(self.sources.start())
        self.addCleanup(self.stop, self.sources)

    def commit(self, *changes: ModelChange) -> None:
        """Let changes be admitted, as a watched session does when it commits."""
        self.sources.only_new_events(self.sources.change_events(changes))
        self.run_for(0)

    def test_heard(self) -> None:
        """With the row's name and what it was and is."""
        heard: list[Any] = []

        class Watcher(Recorder):
            def modified(self, model: str, id: Any, details: Any) -> None:
                heard.append((model, id, details))

        watch_models(self.sources, ["blog.Post"], Watcher())
        self.commit(CHANGE)
        details = {
            "new": {"title": "b"},
            "old": {"title": UNKNOWN},
            "changed": ["title"],
            "using": "main",
        }
        key = heard[0][2].pop("key")
        self.assertTrue(key.startswith("oni/"), key)
        self.assertEqual([("blog.Post", 1, details)], heard)

    def test_no_method(self) -> None:
        """A model that no method is named after is told of in the log: it may be misspelt."""

        class Methods:
            def processPostDeleted(self, id: Any) -> None:
                """Hear of posts."""

        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        methods = MethodModelEventWatcher(Methods())
        watch_models(self.sources, ["blog.Post", "blog.Pots"], methods)
        watch_models(self.sources, ["blog.Post", "blog.Past"], DirectModelEventWatcher(methods))
        warned = [
            event["model"] for event in said if "has no method for it" in event["log_format"]
        ]
        self.assertEqual(["blog.Pots", "blog.Past"], warned)

    def test_the_same_key_each_time(self) -> None:
        """Which tells one who has heard of it before."""
        keys: list[str] = []

        class Watcher(Recorder):
            def modified(self, model: str, id: Any, details: Any) -> None:
                keys.append(details["key"])
                if len(keys) == 1:
                    raise NotNowError("the world", "it is asleep", 7.0)

        watch_models(self.sources, ["blog.Post"], Watcher())
        self.commit(CHANGE)
        self.run_for(6.9)
        self.assertEqual(1, len(keys))  # as was asked for, and not after one second
        self.run_for(10)
        self.commit(CHANGE)
        self.run_for(2)
        self.assertEqual((3, 2), (len(keys), len(set(keys))))

    def test_other_models(self) -> None:
        """Only of the models that were named, and no statements in bulk."""
        watcher = Recorder()
        watch_models(self.sources, ["blog.Post"], watcher)
        self.commit(
            ModelChange("blog.Idea", 1, "created"),
            ModelChange("blog.Post", None, "bulk", statement="UPDATE post"),
            ModelChange("blog.Post", 2, "deleted"),
        )
        self.assertEqual([("blog.Post", "deleted", 2)], watcher.heard)

    def test_names_of_those_with_methods(self) -> None:
        """Two classes that have only methods named after models have deliveries of their own."""

        class Mails:
            def processPostModified(self, id: int) -> None:
                """Hear of a post."""

        class Index(Mails):
            pass

        both = CompositeModelEventWatcher(
            MethodModelEventWatcher(Mails()), MethodModelEventWatcher(Index())
        )
        mails, index = watch_models(self.sources, ["blog.Post"], both)
        self.assertIn("Mails.blog.Post", mails)
        self.assertIn("Index.blog.Post", index)

    def test_one_of_three_fails(self) -> None:
        """Two are done, and the third is brought the event again, alone."""
        failing = [True]

        def fails(*said: Any) -> None:
            if failing[0]:
                raise ValueError("not now")

        good, bad, last = Recorder(), Recorder(fails), Recorder()
        names = watch_models(
            self.sources,
            ["blog.Post"],
            CompositeModelEventWatcher(good, bad, last),
            name="site",
        )
        self.assertEqual(["site.0.blog.Post", "site.1.blog.Post", "site.2.blog.Post"], list(names))
        self.commit(CHANGE)
        self.flushLoggedErrors(ValueError)
        counted = self.successResultOf(self.sources.ledger.count())
        self.assertEqual((2, 1), (counted["done"], counted["pending"]))
        failing[0] = False
        self.run_for(60)
        self.assertEqual((1, 2, 1), (len(good.heard), len(bad.heard), len(last.heard)))
        counted = self.successResultOf(self.sources.ledger.count())
        self.assertEqual((3, 0), (counted["done"], counted["pending"]))

    def test_a_slow_one_holds_up_nobody(self) -> None:
        """Of one that never answers no more is under way than may be; the other hears all of it.

        What is not under way is in no memory, but in the ledger.
        """
        hanging: list[Deferred[None]] = []

        def hang(*said: Any) -> Deferred[None]:
            hanging.append(Deferred())
            return hanging[-1]

        slow, quick = Recorder(hang), Recorder()
        both = CompositeModelEventWatcher(slow, quick)
        watch_models(self.sources, ["blog.Post"], both, name="site")
        events = 300
        self.commit(*(ModelChange("blog.Post", id, "created") for id in range(events)))
        self.run_for(60)
        self.assertEqual({("blog.Post", "created", id) for id in range(events)}, set(quick.heard))
        under_way = self.sources.statistics()["under_way"]
        self.assertEqual(under_way, len(slow.heard))
        self.assertLessEqual(under_way, 64 + 2)  # concurrency, and one more for each handler
        counted = self.successResultOf(self.sources.ledger.count())
        self.assertEqual((events, under_way), (counted["done"], counted["running"]))
        self.assertEqual(events - under_way, counted["pending"])
        slow.answer = None
        for each in hanging:
            each.callback(None)
        self.run_for(60)
        self.assertEqual(events, len(slow.heard))
        self.assertEqual(2 * events, self.successResultOf(self.sources.ledger.count())["done"])

    def test_until_it_succeeds(self) -> None:
        """A watcher that fails for an hour has the event when it does not any more."""
        failing = [True]

        def fails(*said: Any) -> None:
            if failing[0]:
                raise NotNowError("the world", "it is asleep")

        watch_models(self.sources, ["blog.Post"], Recorder(fails))
        self.commit(CHANGE)
        for _ in range(12):
            self.run_for(300)
        failing[0] = False
        self.run_for(301)
        counted = self.successResultOf(self.sources.ledger.count())
        self.assertEqual((1, 0), (counted["done"], counted["dead"]))

    def test_several_in_several(self) -> None:
        """Each of them has a name of its own."""
        inner = CompositeModelEventWatcher(Recorder(), Recorder())
        outer = CompositeModelEventWatcher(inner, Recorder())
        names = watch_models(self.sources, ["blog.Post"], outer, name="site")
        self.assertEqual(
            ["site.0.0.blog.Post", "site.0.1.blog.Post", "site.1.blog.Post"], list(names)
        )

    def test_the_process_s_one(self) -> None:
        """Without a watcher, the one that is configured."""
        chosen = Recorder()
        self.patch(_configure, "_chosen", [chosen])
        watch_models(self.sources, ["blog.Post"])
        self.commit(CHANGE)
        self.assertEqual([("blog.Post", "modified", 1)], chosen.heard)
