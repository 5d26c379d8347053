"""Those who are told by the thread that has committed: handlers, and the models' signals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python import threadable

from oni.errors import InvalidHandlerError, NotRunningError
from oni.ledger.sqlalchemy import prepare_engine
from oni.signals.models import post_delete, post_save
from oni.sources import EventSources
from oni.sources.sqlalchemy import Watch, _direct, _pending, watch
from oni.values import ModelChange
from tests.sources.sqlalchemy_case import Animal, Author, BlogCase, Dog, Line, Post, said


class RefusedError(Exception):
    """What a transaction is rolled back with."""


class DirectCase(BlogCase):
    """Posts whose changes are heard directly."""

    def setUp(self) -> None:
        """Watch, and hear."""
        super().setUp()
        self.watching = self.watch([Post, Line, Animal])
        self.heard: list[ModelChange] = []

    def hear(self, *models: type, handler: Callable[[ModelChange], Any] | None = None) -> None:
        """Let a handler hear of models."""
        for model in models or (Post,):
            self.blog.sources.register_direct_handler(model, handler or self.heard.append)

    @contextmanager
    def connected(self, signal: Any, receiver: Any, **how: Any) -> Iterator[None]:
        """Connect a receiver for a while."""
        signal.connect(receiver, weak=False, **how)
        try:
            yield
        finally:
            signal.disconnect(receiver, how.get("sender"))


class HandlerTests(DirectCase):
    """Direct handlers."""

    def test_once_for_a_row_and_transaction(self) -> None:
        """It is the same change as the one that the ledger admits, and is told in this thread."""
        threads: list[int] = []
        self.hear()
        self.hear(handler=lambda change: threads.append(threading.get_ident()))
        with self.blog.sessions.begin() as session:
            post = Post(id=1, title="a")
            session.add(post)
            session.flush()
            post.title = "b"
            session.flush()
            self.assertEqual([], self.heard)
        self.assertEqual(self.blog.changes(), self.heard)
        self.assertEqual([("Post", 1, "created")], [said(change) for change in self.heard])
        self.assertEqual([threading.get_ident()], threads)

    def test_no_ledger_is_needed(self) -> None:
        """Nor one's tables: event sources without one tell all the same."""
        self.watching.remove()
        with self.blog.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE oni_event")
        sources = EventSources()
        sources.register_direct_handler(Post, self.heard.append)
        self.addCleanup(watch(self.blog.sessions, sources, [Post]).remove)
        self.add(Post(id=1, title="a"))
        self.assertEqual([("Post", 1, "created")], [said(change) for change in self.heard])

    def test_rolled_back(self) -> None:
        """What never was is told to nobody; nor what a closed session had flushed."""
        self.hear()
        with self.assertRaises(RefusedError), self.blog.sessions.begin() as session:
            session.add(Post(title="a"))
            session.flush()
            raise RefusedError
        session = self.blog.sessions()
        session.add(Post(title="b"))
        session.flush()
        session.close()
        self.add(Post(id=3, title="c"))
        self.assertEqual([("Post", 3, "created")], [said(change) for change in self.heard])

    def test_refused(self) -> None:
        """Nor what those who are asked before the commit have refused."""

        def refuse(session: Session, changes: Any) -> None:
            raise RefusedError

        self.hear()
        self.watch([], before_commit=[refuse])
        with self.assertRaises(RefusedError):
            self.add(Post(title="a"))
        self.assertEqual([], self.heard)

    def test_savepoints(self) -> None:
        """One that is released is no commit, and what one takes back was not."""
        self.hear()
        with self.blog.sessions.begin() as session:
            with session.begin_nested():
                session.add(Post(id=1, title="a"))
            self.assertEqual([], self.heard)
            with contextlib.suppress(RefusedError), session.begin_nested():
                session.add(Post(id=2, title="b"))
                session.flush()
                raise RefusedError
            session.add(Post(id=3, title="c"))
        self.assertEqual({1, 3}, {change.id for change in self.heard})

    def test_begun_before_it_was_heard(self) -> None:
        """A savepoint that was open when the first row was changed counts, too."""
        self.hear()
        with self.blog.sessions.begin() as session:
            outer = session.begin_nested()
            inner = session.begin_nested()
            session.add(Post(id=1, title="a"))
            inner.commit()
            outer.rollback()
            session.add(Post(id=2, title="b"))
        self.assertEqual([2], [change.id for change in self.heard])

    def test_late_changes(self) -> None:
        """What others change just before the commit, after our turn, is told with the rest."""

        @sa.event.listens_for(self.blog.sessions.class_, "before_commit")
        def late(session: Session) -> None:
            session.get_one(Post, 1).number = 7

        self.addCleanup(sa.event.remove, self.blog.sessions.class_, "before_commit", late)
        self.hear()
        self.add(Post(id=1, title="a"))
        self.assertEqual([("created", 7)], [(c.action, c.new["number"]) for c in self.heard])

    def test_over(self) -> None:
        """It is called when flush and transaction are over: sessions work, and others see it."""
        found: list[Any] = []

        def handle(change: ModelChange) -> None:
            found.append(session.in_transaction())
            found.append(self.blog.rows("SELECT title FROM post"))
            with self.blog.sessions.begin() as own:
                own.add(Author(name="made by a handler"))

        self.hear(handler=handle)
        session = self.blog.sessions()
        session.add(Post(title="a"))
        session.commit()
        session.close()
        self.assertEqual([False, [("a",)]], found)
        self.assertEqual([("made by a handler",)], self.blog.rows("SELECT name FROM author"))

    def test_the_session_goes_on(self) -> None:
        """Even the session itself may be used, and whoever has committed goes on with it."""

        def handle(change: ModelChange) -> None:
            if change.id == 1:
                session.add(Post(id=2, title="b"))
                session.commit()

        self.hear(handler=handle)
        self.hear()
        session = self.blog.sessions()
        self.addCleanup(session.close)
        session.add(Post(id=1, title="a"))
        session.commit()
        session.add(Post(id=3, title="c"))
        session.commit()
        self.assertEqual([2, 1, 3], [change.id for change in self.heard])

    def test_one_fails(self) -> None:
        """The others are told, who has committed notices nothing, and the log says it."""

        def fails(change: ModelChange) -> None:
            raise RefusedError

        def exits(change: ModelChange) -> None:
            raise SystemExit

        self.hear(handler=fails)
        self.hear(handler=exits)
        self.hear(handler=lambda change: fail(RefusedError()))
        self.hear()
        self.add(Post(id=1, title="a"))
        self.assertEqual([1], [change.id for change in self.heard])
        self.assertEqual(2, len(self.flushLoggedErrors(RefusedError)))
        self.assertEqual(1, len(self.flushLoggedErrors(SystemExit)))

    def test_telling_fails(self) -> None:
        """Even if the event sources themselves fail, the commit has not."""

        def fails(committed: Any) -> None:
            raise RefusedError

        self.patch(self.blog.sources, "tell_directly", fails)
        self.hear()
        session = self.blog.sessions()
        self.addCleanup(session.close)
        session.add(Post(title="a"))
        session.commit()
        self.assertEqual(1, len(self.flushLoggedErrors(RefusedError)))
        self.assertEqual("a", session.scalars(sa.select(Post)).one().title)

    def test_somebody_else_fails(self) -> None:
        """A listener of a program's own that fails after the commit keeps nobody from hearing."""

        def fails(session: Session, transaction: Any = None) -> None:
            if transaction is None or transaction.parent is None:
                raise RefusedError

        self.watching.remove()
        self.hear()
        for number, name in enumerate(("after_commit", "after_transaction_end")):
            sa.event.listen(self.blog.sessions.class_, name, fails)
            watching = self.watch([Post])
            with self.assertRaises(RefusedError):
                self.add(Post(id=number, title="a"))
            watching.remove()
            sa.event.remove(self.blog.sessions.class_, name, fails)
        self.assertEqual([(0,), (1,)], self.blog.rows("SELECT id FROM post ORDER BY id"))
        self.assertEqual([0, 1], [change.id for change in self.heard])

    def test_removed_in_a_transaction(self) -> None:
        """Who does not watch any more when it ends is not told, though others are."""
        other = EventSources()
        other.register_direct_handler(Post, self.heard.append)
        self.addCleanup(watch(self.blog.sessions, other, [Post]).remove)
        gone: list[ModelChange] = []
        self.hear(handler=gone.append)
        with self.blog.sessions.begin() as session:
            session.add(Post(id=1, title="a"))
            session.flush()
            self.watching.remove()
        self.assertEqual(([1], []), ([change.id for change in self.heard], gone))

    def test_nothing_is_waited_for(self) -> None:
        """A Deferred that has fired is fine; what would have to be waited for is a failure."""

        async def later(change: ModelChange) -> None:
            raise AssertionError("is never begun")

        self.hear(handler=lambda change: succeed(None))
        self.add(Post(title="a"))
        self.assertEqual([], self.flushLoggedErrors())
        self.hear(handler=lambda change: Deferred())
        self.hear(handler=later)
        self.add(Post(title="a"))
        self.assertEqual(2, len(self.flushLoggedErrors(TypeError)))

    def test_actions(self) -> None:
        """A handler may hear of some actions only, of models by their names, too."""
        sources = self.blog.sources
        name = f"{Post.__module__}.Post"
        sources.register_direct_handler(name, self.heard.append, actions=["modified", "deleted"])
        self.add(Post(id=1, title="a"))
        for title in ("b", "c"):
            with self.blog.sessions.begin() as session:
                session.get_one(Post, 1).title = title
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        actions = [change.action for change in self.heard]
        self.assertEqual(["modified", "modified", "deleted"], actions)
        for wrong in ("created", [], ["made"]):
            self.assertRaises(
                ValueError,
                sources.register_direct_handler,
                Post,
                self.heard.append,
                actions=wrong,
            )
        wrong_handler: Any = 7
        self.assertRaises(
            InvalidHandlerError, sources.register_direct_handler, Post, wrong_handler
        )

    def test_statements(self) -> None:
        """Statements are told of as the ledger has them."""
        self.watching.remove()
        self.watch({Post: Watch(bulk="coarse"), Line: Watch(bulk="expand")})
        self.hear(Post, Line)
        self.add(Line(page=1, place=1, text="a"))
        with self.blog.sessions.begin() as session:
            session.execute(sa.insert(Post), [{"title": "a"}])
            session.execute(sa.update(Line).values(text="b"))
        told = sorted((said(change) for change in self.heard), key=str)
        self.assertEqual(self.blog.said(), told)

    def test_within_anothers_transaction(self) -> None:
        """A session's commit is none where somebody else may still roll back, as tests do."""
        self.hear()
        with self.blog.engine.connect() as connection, connection.begin() as transaction:
            for mode in ("rollback_only", "create_savepoint"):
                with self.blog.sessions(bind=connection, join_transaction_mode=mode) as session:
                    session.add(Post(title="a"))
                    session.commit()
            self.assertEqual(2, len(connection.execute(sa.select(Post.id)).all()))
            transaction.rollback()
        self.assertEqual([], self.heard)
        with (
            self.blog.engine.connect() as connection,
            self.blog.sessions(bind=connection) as session,
        ):
            session.add(Post(id=1, title="a"))
            session.commit()
        self.assertEqual([1], [change.id for change in self.heard])

    def test_nothing_is_kept_for_nobody(self) -> None:
        """While nobody wants it, no row is kept until the transaction's end."""
        kept: list[int] = []

        class Buffer(_direct.DirectBuffer):
            def tell(self, *args: Any) -> None:
                kept.append(len(self) + len(self._rows))
                super().tell(*args)

        self.patch(_pending, "DirectBuffer", Buffer)
        with mock.patch.object(self.blog.sources, "tell_directly") as tell:
            self.add(Post(title="a"))
            self.hear(Line)
            self.add(Post(title="b"))
        tell.assert_not_called()
        self.assertEqual([0, 0], kept)
        self.add(Line(page=1, place=1, text="a"))
        self.assertEqual([0, 0, 2], kept)

    def test_no_signal_for_nobody(self) -> None:
        """Nobody who is told of a model makes signals be sent that nobody receives."""
        self.hear()
        with (
            mock.patch.object(post_save, "send_here") as saved,
            mock.patch.object(post_delete, "send_here") as deleted,
        ):
            self.add(Post(id=1, title="a"))
            with self.blog.sessions.begin() as session:
                session.delete(session.get_one(Post, 1))
        self.assertEqual(["created", "deleted"], [change.action for change in self.heard])
        saved.assert_not_called()
        deleted.assert_not_called()

    def test_asynchronous_sessions(self) -> None:
        """They tell as well, in the thread of their loop."""
        self.hear()

        async def run() -> None:
            engine = create_async_engine(self.blog.url.replace("sqlite:", "sqlite+aiosqlite:"))
            prepare_engine(engine.sync_engine)
            maker = async_sessionmaker(engine)
            watching = watch(maker, self.blog.sources, [Post])
            async with maker.begin() as session:
                session.add(Post(id=1, title="a"))
            watching.remove()
            await engine.dispose()

        asyncio.run(run())
        self.assertEqual([1], [change.id for change in self.heard])


class SignalTests(DirectCase):
    """``post_save`` and ``post_delete``."""

    def setUp(self) -> None:
        """Connect to both."""
        super().setUp()
        self.sent: list[Any] = []
        for signal, receiver in ((post_save, self.saved), (post_delete, self.deleted)):
            signal.connect(receiver)
            self.addCleanup(signal.disconnect, receiver)

    def saved(self, sender: type, instance: Any, created: bool) -> None:
        """Hear of a saved one."""
        self.sent.append((sender, instance, created, vars(instance).get("title")))

    def deleted(self, sender: type, instance: Any) -> None:
        """Hear of a deleted one."""
        self.sent.append((sender, instance, sa.inspect(instance).detached, instance.title))

    def test_a_row_s_life(self) -> None:
        """Each is sent once for a row and transaction, with the instance itself."""
        post = Post(id=1, title="a")
        with self.blog.sessions(expire_on_commit=False) as session:
            session.add(post)
            session.flush()
            post.title = "b"
            self.assertEqual([], self.sent)
            session.commit()
            post.title = "c"
            session.commit()
        with self.blog.sessions.begin() as session:
            gone = session.get_one(Post, 1)
            session.delete(gone)
        self.assertEqual(
            [(Post, post, True, "b"), (Post, post, False, "c"), (Post, gone, True, "c")],
            self.sent,
        )

    def test_values_in_a_block(self) -> None:
        """Values that expire at the commit are there for receivers, without a statement."""
        with self.blog.sessions.begin() as session:
            post = Post(id=1, title="a")
            session.add(post)
            begun = mock.Mock()
            sa.event.listen(session, "after_begin", begun)
        self.assertEqual([(Post, post, True, "a")], self.sent)
        self.assertEqual(1, begun.call_count)  # by the flush

    def test_expired_afterwards(self) -> None:
        """The session has its way again: what another one has changed since is seen."""
        session = self.blog.sessions()
        self.addCleanup(session.close)
        post = Post(id=1, title="a")
        session.add(post)
        session.commit()
        with self.blog.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE post SET title = 'b'")
        self.assertEqual("b", post.title)

    def test_a_receiver_changes_it(self) -> None:
        """What a receiver sets is not forgotten: the session saves it with what it saves next.

        The other values expire, as those of any instance.
        """

        def change(sender: type, instance: Any, created: bool) -> None:
            if created:
                instance.title = "by a receiver"

        session = self.blog.sessions()
        self.addCleanup(session.close)
        post = Post(id=1, title="a")
        with self.connected(post_save, change):
            session.add(post)
            session.commit()
            with self.blog.engine.begin() as connection:
                connection.exec_driver_sql("UPDATE post SET number = 7")
            self.assertEqual(("by a receiver", 7), (post.title, post.number))
            session.commit()
        self.assertEqual([("by a receiver",)], self.blog.rows("SELECT title FROM post"))

    def test_sessions_that_keep_values(self) -> None:
        """Where a session lets nothing expire, nothing does for the sake of a receiver."""
        with self.blog.sessions(expire_on_commit=False) as session:
            post = Post(id=1, title="a")
            session.add(post)
            session.commit()
            self.assertEqual("a", vars(post)["title"])
        self.assertEqual([(Post, post, True, "a")], self.sent)

    def test_what_receivers_do_with_it(self) -> None:
        """They may delete it, or give it to another session: no other instance suffers by that."""
        other = self.blog.sessions()
        self.addCleanup(other.close)

        def give_away(instance: Any) -> None:
            session.expunge(instance)
            other.add(instance)

        def delete(instance: Any) -> None:
            session.delete(instance)
            session.flush()

        for act in (give_away, delete):
            session = self.blog.sessions()
            posts = [Post(title="a"), Post(title="b")]

            def receive(
                sender: type, instance: Any, created: bool, act: Any = act, posts: Any = posts
            ) -> None:
                if instance is posts[0]:
                    act(instance)

            with self.connected(post_save, receive):
                session.add_all(posts)
                session.commit()
            self.assertNotIn("title", vars(posts[1]))
            session.close()

    def test_given_away_before(self) -> None:
        """An instance that has another session when it is committed is that one's."""
        with self.blog.sessions() as session, self.blog.sessions() as other:
            post = Post(id=1, title="a")
            session.add(post)
            session.flush()
            session.expunge(post)
            other.add(post)
            other.expire(post)
            session.commit()
        self.assertEqual([(Post, post, True, None)], self.sent)

    def test_only_of_deletions(self) -> None:
        """Whoever is connected to one of the two signals is sent it."""
        post_save.disconnect(self.saved)
        self.add(Post(id=1, title="a"))
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        self.assertEqual(["a"], [sent[3] for sent in self.sent])

    def test_sending_fails(self) -> None:
        """Even then, the others are told, of what else was committed, too."""
        self.hear()
        with mock.patch.object(post_save, "send_here", side_effect=RecursionError):
            self.add(Post(id=1, title="a"), Post(id=2, title="b"))
        self.assertEqual([1, 2], [change.id for change in self.heard])
        self.assertEqual(2, len(self.flushLoggedErrors(RecursionError)))

    def test_sender(self) -> None:
        """A receiver may be for one class, which is that of the instance itself."""
        dogs: list[Any] = []
        animals: list[Any] = []
        hear_dog, hear_animal = (
            lambda sender, instance, **_: dogs.append(instance.id),
            lambda sender, instance, **_: animals.append(instance.id),
        )
        with (
            self.connected(post_save, hear_dog, sender=Dog),
            self.connected(post_save, hear_animal, sender=Animal),
        ):
            self.add(Dog(id=1, name="a", breed="b"), Animal(id=2, name="c"))
        self.assertEqual(([1], [2]), (dogs, animals))

    def test_another_key(self) -> None:
        """A row that is given another primary key is a new one; the old one has no instance."""
        self.add(Line(page=1, place=1, text="a"))
        self.sent.clear()
        with self.blog.sessions.begin() as session:
            session.get_one(Line, (1, 1)).place = 2
        self.assertEqual([(Line, True)], [(sent[0], sent[2]) for sent in self.sent])

    def test_taken_over(self) -> None:
        """A new instance that takes a deleted one's place has saved it."""
        self.add(Post(id=1, title="a"))
        self.sent.clear()
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
            new = Post(id=1, title="b")
            session.add(new)
        self.assertEqual([(Post, new, False, "b")], self.sent)

    def test_the_one_that_was_saved(self) -> None:
        """What another instance has done in a savepoint that was rolled back is not told."""
        with self.blog.sessions.begin() as session:
            post = Post(id=1, title="a")
            session.add(post)
            with contextlib.suppress(RefusedError), session.begin_nested():
                session.delete(post)
                session.flush()
                session.add(Post(id=1, title="b"))
                session.flush()
                raise RefusedError
        self.assertEqual([(Post, post, True, "a")], self.sent)

    def test_several_sources(self) -> None:
        """Where others watch the same sessions, each is told, and the signal is sent once.

        So it is for what a receiver saves through the session, which is another transaction.
        """

        def save_more(sender: type, instance: Any, created: bool) -> None:
            if instance.id == 1:
                session.add(Post(id=2, title="b"))
                session.flush()
                session.rollback()
                session.add(Post(id=3, title="c"))
                session.commit()

        heard: list[int] = []
        other = EventSources()
        other.register_direct_handler(Post, lambda change: heard.append(change.id))
        self.addCleanup(watch(self.blog.sessions, other, [Post]).remove)
        self.hear()
        session = self.blog.sessions()
        self.addCleanup(session.close)
        with self.connected(post_save, save_more):
            session.add(Post(id=1, title="a"))
            session.commit()
        self.assertEqual([1, 3], sorted(sent[1].id for sent in self.sent))
        self.assertEqual(([1, 3], [3, 1]), ([change.id for change in self.heard], heard))

    def test_rolled_back_ones_are_not_kept(self) -> None:
        """An instance whose savepoint was rolled back may die before the transaction ends."""
        with self.blog.sessions.begin() as session:
            with contextlib.suppress(RefusedError), session.begin_nested():
                gone = Post(id=1, title="a")
                session.add(gone)
                session.flush()
                raise RefusedError
            known = weakref.ref(gone)
            del gone
            gc.collect()
            self.assertIsNone(known())
            session.add(Post(id=2, title="b"))
        self.assertEqual(["b"], [sent[3] for sent in self.sent])

    def test_statements_between(self) -> None:
        """A statement that changes a row leaves its instance; one that deletes it does not."""
        self.watching.remove()
        self.watch({Post: Watch(bulk="expand")})
        with self.blog.sessions.begin() as session:
            post = Post(id=1, title="a")
            session.add(post)
            session.flush()
            session.execute(sa.update(Post).values(title="b"))
        self.assertEqual([(Post, post, True)], [sent[:3] for sent in self.sent])
        self.sent.clear()
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "c"
            session.flush()
            session.execute(sa.delete(Post))
        self.assertEqual([], self.sent)
        self.add(Post(id=1, title="a"))
        self.sent.clear()
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
            session.flush()
            session.execute(sa.insert(Post).values(id=1, title="made by a statement"))
        self.assertEqual([], self.sent)

    def test_statements_send_nothing(self) -> None:
        """There is no instance of what they change."""
        self.watching.remove()
        self.watch({Post: Watch(bulk="expand")})
        self.add(Post(title="a"))
        self.sent.clear()
        with self.blog.sessions.begin() as session:
            session.execute(sa.update(Post).values(title="b"))
            session.execute(sa.delete(Post))
        self.assertEqual([], self.sent)

    def test_a_receiver_fails(self) -> None:
        """It stops no other receiver, no handler, and nobody who saves."""

        def fails(sender: type, **what: Any) -> None:
            raise RefusedError

        self.hear()
        post_save.disconnect(self.saved)
        with self.connected(post_save, fails), self.connected(post_save, self.saved):
            self.add(Post(id=1, title="a"))
        self.assertEqual(1, len(self.flushLoggedErrors(RefusedError)))
        self.assertEqual((1, 1), (len(self.sent), len(self.heard)))

    def test_a_receiver_returns_what_has_to_be_waited_for(self) -> None:
        """Where no reactor runs it has failed, and is never begun."""

        async def later(sender: type, **what: Any) -> None:
            raise AssertionError("is never begun")

        self.patch(threadable, "ioThread", None)
        with self.connected(post_save, later):
            self.add(Post(id=1, title="a"))
        self.assertEqual(1, len(self.flushLoggedErrors(NotRunningError)))

    def test_threads(self) -> None:
        """Threads that commit at once have their receivers called at once, each in its thread."""
        together = threading.Barrier(2, timeout=30)
        called: list[tuple[int, int]] = []

        def meet(sender: type, instance: Any, created: bool) -> None:
            together.wait()
            called.append((instance.number, threading.get_ident()))
            together.wait()

        threads = [
            threading.Thread(target=self.commit_elsewhere, args=(number,)) for number in (1, 2)
        ]
        with self.connected(post_save, meet, sender=Post):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        expected = {(number, thread.ident) for number, thread in enumerate(threads, 1)}
        self.assertEqual(expected, set(called))

    def commit_elsewhere(self, number: int) -> None:
        """Commit a post; where the file is locked for long, again."""
        while True:
            try:
                return self.add(Post(title="a", number=number))
            except sa.exc.OperationalError as error:
                if "locked" not in str(error):
                    raise
