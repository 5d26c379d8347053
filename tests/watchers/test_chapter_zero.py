"""What the watchers that these are after did not survive. One test for each of those failures.

assembl calls watchers within a flush, before the commit, directly, in a thread with a queue that
has no bound, or by a broker that is told of an id before the row is there.
"""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail

from oni.carriers.memory import MemoryCarrier, MemoryConnection
from oni.channels import Channels
from oni.errors import NotNowError, StopTimeoutError
from oni.ledger.sqlalchemy import SqlAlchemyStore
from oni.sources import EventSources
from oni.values import StreamOptions
from oni.watchers import ThreadedModelEventWatcher, watch_models
from tests.sources.driven import DrivenCase
from tests.sources.sqlalchemy_case import Author, BlogCase, Post
from tests.watchers.test_watchers import Reactor, Recorder

MODEL = "tests.sources.sqlalchemy_case.Post"


class ChapterZeroTests(DrivenCase, BlogCase):
    """Rows of a real database, and watchers of them."""

    def setUp(self) -> None:
        """Make a blog, and event sources that this test drives."""
        super().setUp()
        self.clock = Reactor()
        self.blog.store.close()
        self.blog.store = SqlAlchemyStore(
            self.blog.engine, clock=lambda: 1_000_000 + self.clock.seconds()
        )
        self.blog.sources = self.make_sources()
        self.watch([Post, Author])

    def make_sources(self) -> EventSources:
        """Make event sources over the blog's ledger, as a process does that begins."""
        return self.sources_over(self.blog.store)

    def start(self, watcher: Any) -> EventSources:
        """Let a watcher hear of posts."""
        sources = self.blog.sources
        watch_models(sources, [Post], watcher)
        self.successResultOf(sources.start())
        self.addCleanup(self.stop, sources)
        return sources

    def post(self, id: int) -> None:
        """Commit a post."""
        self.add(Post(id=id, title="a"))
        self.run_for(2)

    def counted(self, state: str) -> int:
        """Count the ledger's deliveries of one state."""
        return int(self.successResultOf(self.blog.sources.ledger.count())[state])

    # --- Direct

    def test_no_ghost_after_a_rollback(self) -> None:
        """What was flushed and then rolled back was never there: nobody hears of it."""
        watcher = Recorder()
        self.start(watcher)
        session = self.blog.sessions()
        session.add(Post(id=1, title="a"))
        session.flush()
        session.rollback()
        session.close()
        self.run_for(60)
        self.assertEqual([], watcher.heard)

    def test_no_watcher_inside_a_flush(self) -> None:
        """A watcher is called when the flush and the transaction are over, and may write rows."""
        flushing: list[bool] = []

        def answer(*said: Any) -> None:
            flushing.append(session._flushing)
            with self.blog.sessions.begin() as own:
                own.add(Author(id=said[2], name="by a watcher"))

        watcher = Recorder(answer)
        self.start(watcher)
        session = self.blog.sessions()
        session.add(Post(id=1, title="a"))
        session.flush()
        self.assertEqual([], watcher.heard)
        session.commit()
        session.close()
        self.run_for(2)
        self.assertEqual([False], flushing)
        self.assertEqual([(1, "by a watcher")], self.blog.rows("SELECT id, name FROM author"))

    def test_once_for_a_transaction_with_savepoints(self) -> None:
        """Savepoints are no commits: a row that is changed in several is told of once."""
        watcher = Recorder()
        self.start(watcher)
        with self.blog.sessions.begin() as session:
            post = Post(id=1, title="a")
            session.add(post)
            for title in ("b", "c"):
                with session.begin_nested():
                    post.title = title
            self.assertEqual([], watcher.heard)
        self.run_for(2)
        self.assertEqual([(MODEL, "created", 1)], watcher.heard)

    # --- Threaded

    def threaded(self, answer: Any, **options: Any) -> tuple[Recorder, ThreadedModelEventWatcher]:
        """Make a watcher in a thread of its own, which ends with the test."""
        inner = Recorder(answer)
        watcher = ThreadedModelEventWatcher(inner, reactor=self.clock, **options)

        def end() -> None:
            stopped = watcher.stop()
            self.clock.until(lambda: stopped.called)

        self.addCleanup(end)
        return inner, watcher

    def until(self, condition: Any) -> None:
        """Let threads and time go on until something holds."""

        def holds() -> bool:
            self.clock.advance(5)
            return bool(condition())

        self.clock.until(holds)

    def test_the_thread_survives(self) -> None:
        """An exception ends one attempt; the thread goes on, and the event comes again."""
        failing = [True]

        def answer(*said: Any) -> None:
            if failing.pop():
                raise ValueError("once")
            failing.append(False)

        failing.insert(0, False)
        inner, watcher = self.threaded(answer)
        self.start(watcher)
        self.post(1)
        self.until(lambda: self.counted("done") == 1)
        self.assertEqual([(MODEL, "created", 1)] * 2, inner.heard)
        self.flushLoggedErrors(ValueError)

    def test_no_unbounded_queue(self) -> None:
        """While the thread hangs no more waits for it than its queue takes; the rest is kept."""
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        inner, watcher = self.threaded(lambda *said: go_on.wait(30) and None, capacity=2)
        self.start(watcher)
        for number in range(10):
            self.post(number)
        self.assertLessEqual(watcher.waiting, 2)
        self.assertEqual((0, 0), (self.counted("done"), self.counted("dead")))
        go_on.set()
        self.until(lambda: self.counted("done") == 10)
        self.assertEqual(set(range(10)), {id for _, _, id in inner.heard})

    def test_nothing_is_lost_at_the_exit(self) -> None:
        """A process that ends before its watcher has heard: the next one tells it."""
        hung = Recorder(lambda *said: Deferred())
        sources = self.blog.sources
        watch_models(sources, [Post], hung)
        self.successResultOf(sources.start())
        self.post(1)
        self.assertEqual(1, len(hung.heard))
        stopped: Deferred[None] = sources.stop(1)
        self.run_for(2)
        self.failureResultOf(stopped, StopTimeoutError)
        self.assertEqual(1, len(self.flushLoggedErrors(CancelledError)))
        self.blog.sources = self.make_sources()
        watcher = Recorder()
        self.start(watcher)
        self.until(lambda: watcher.heard)
        self.assertEqual([(MODEL, "created", 1)], watcher.heard)

    def test_the_thread_finds_the_row(self) -> None:
        """The thread hears of a row when the row is there, and not while it is flushed."""
        found: list[Any] = []

        def answer(model: str, action: str, id: int) -> None:
            found.extend(self.blog.rows(f"SELECT title FROM post WHERE id = {int(id)}"))

        inner, watcher = self.threaded(answer)
        self.start(watcher)
        session = self.blog.sessions()
        session.add(Post(id=1, title="a"))
        session.flush()
        self.run_for(2)
        self.assertEqual((0, []), (watcher.waiting, inner.heard))
        session.commit()
        session.close()
        self.until(lambda: self.counted("done") == 1)
        self.assertEqual([("a",)], found)

    # --- Broker

    def test_the_row_is_there(self) -> None:
        """Whoever is told of an id finds the row, by another connection."""
        found: list[Any] = []

        def answer(model: str, action: str, id: int) -> None:
            found.extend(self.blog.rows(f"SELECT title FROM post WHERE id = {int(id)}"))

        self.start(Recorder(answer))
        self.post(1)
        self.assertEqual([("a",)], found)

    def test_every_action_is_carried_on(self) -> None:
        """Not only that posts are created and modified."""
        watcher = Recorder()
        self.start(watcher)
        self.post(1)
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "b"
        self.run_for(2)
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        self.run_for(2)
        actions = [action for _, action, _ in watcher.heard]
        self.assertEqual(["created", "modified", "deleted"], actions)

    def test_a_broker_that_is_away_blocks_no_flush(self) -> None:
        """Who saves notices nothing; the event is carried on when the broker is back."""
        away = [True]

        def answer(*said: Any) -> Any:
            return fail(NotNowError("the broker", "no route")) if away[0] else None

        watcher = Recorder(answer)
        self.start(watcher)
        self.post(1)
        self.assertEqual([(1,)], self.blog.rows("SELECT id FROM post"))
        self.assertEqual((1, 0), (self.counted("pending"), self.counted("done")))
        away[0] = False
        self.until(lambda: self.counted("done") == 1)
        self.assertEqual(0, self.counted("pending"))

    # --- Changes to websockets

    def test_a_websocket_misses_nothing(self) -> None:
        """A client that was away is sent what was committed meanwhile, and nothing undone."""
        kept = StreamOptions(history_size=10, history_ttl=600.0)
        channel = Channels(options=lambda name: kept, reactor=self.clock).get("posts")
        self.start(Recorder(lambda model, action, id: channel.publish(action, id)))
        away, back = MemoryConnection(), MemoryConnection()
        joined = channel.subscribe(None, MemoryCarrier(away, reactor=self.clock))
        self.post(1)
        seen = self.successResultOf(joined)
        self.assertEqual([1], self.read(away))
        away.close()
        self.post(2)
        session = self.blog.sessions()
        session.add(Post(id=3, title="a"))
        session.flush()
        session.rollback()
        session.close()
        with self.blog.sessions.begin() as session:
            with session.begin_nested():
                session.add(Post(id=4, title="a"))
            session.get_one(Post, 4).title = "b"
        self.run_for(2)
        channel.subscribe(None, MemoryCarrier(back, reactor=self.clock), since=seen)
        self.run_for(2)
        self.assertEqual([1, 2, 4], self.read(back))

    def read(self, connection: MemoryConnection) -> list[Any]:
        """Read what has come."""
        self.run_for(0)
        return [
            self.successResultOf(connection.receive())["payload"]["data"]
            for _ in range(len(connection))
        ]
