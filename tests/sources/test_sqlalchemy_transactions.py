"""Commits, rollbacks and savepoints: what is admitted is what is committed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from oni.errors import (
    ChangeRoundsError,
    LedgerTransactionError,
    UnsafeLedgerError,
    WatchError,
)
from oni.ledger.sqlalchemy import SqlAlchemyOutbox, prepare_engine
from oni.sources import event
from oni.sources.sqlalchemy import Watch, watch
from oni.values import ModelChange
from tests.sources.sqlalchemy_case import (
    Animal,
    Author,
    Base,
    Blog,
    BlogCase,
    Dog,
    Line,
    Post,
    State,
    recorder,
    said,
)


class SavepointTests(BlogCase):
    """Savepoints, released and rolled back, in each other, and left open."""

    def setUp(self) -> None:
        """Watch lines, and those who are asked."""
        super().setUp()
        self.heard, listener = recorder()
        self.watch([Line], before_commit=[listener])

    def line(self, session: Session, place: int) -> None:
        """Add a line and flush."""
        session.add(Line(page=1, place=place, text="a"))
        session.flush()

    def test_released(self) -> None:
        """What a released savepoint changed is admitted with the rest, once, at the end."""
        with self.blog.sessions.begin() as session:
            self.line(session, 1)
            with session.begin_nested():
                self.line(session, 2)
            self.assertEqual(self.heard, [])
            self.line(session, 3)
        self.expect(*(("Line", (1, place), "created") for place in (1, 2, 3)))
        self.assertEqual(len(self.heard), 1)

    def test_released_then_rolled_back(self) -> None:
        """A released savepoint goes with what is around it."""
        wake = self.patch_wake()
        with self.blog.sessions() as session:
            with session.begin_nested():
                self.line(session, 1)
            session.rollback()
            session.commit()
        self.expect()
        self.assertEqual((self.heard, wake.call_count), ([], 0))

    def test_rolled_back(self) -> None:
        """What a savepoint changed goes with it, and with nothing else."""
        with self.blog.sessions.begin() as session:
            self.line(session, 1)
            savepoint = session.begin_nested()
            self.line(session, 2)
            savepoint.rollback()
            self.line(session, 3)
        self.expect(("Line", (1, 1), "created"), ("Line", (1, 3), "created"))

    def test_rolled_back_by_an_error(self) -> None:
        """So it does when a flush in it fails."""
        with self.blog.sessions.begin() as session:
            self.line(session, 1)
            for place in (2, 1, 3):
                try:
                    with session.begin_nested():
                        session.add(Line(page=1, place=place, text="b"))
                except sa.exc.IntegrityError:
                    pass
        self.expect(*(("Line", (1, place), "created") for place in (1, 2, 3)))
        self.assertEqual(self.blog.rows("SELECT text FROM line ORDER BY place")[0], ("a",))

    def test_rolled_back_by_an_error_after_some_rows(self) -> None:
        """Rows that a flush had written before it failed are not told of."""
        self.watch([Author])
        with self.blog.sessions.begin() as session:
            try:
                with session.begin_nested():
                    session.add(Author(name="ann", posts=[Post(title=None)]))
            except sa.exc.IntegrityError:
                self.line(session, 1)
        self.expect(("Line", (1, 1), "created"))

    def test_in_each_other(self) -> None:
        """A savepoint that is rolled back takes those along that were released in it."""
        with self.blog.sessions.begin() as session:
            outer = session.begin_nested()
            self.line(session, 1)
            with session.begin_nested():
                self.line(session, 2)
            outer.rollback()
            with session.begin_nested():
                self.line(session, 3)
                inner = session.begin_nested()
                self.line(session, 4)
                inner.rollback()
        self.expect(("Line", (1, 3), "created"))

    def test_old_values_across(self) -> None:
        """A value that a savepoint had changed is the old one again when it is rolled back."""
        self.added(Line(page=1, place=1, text="a"))
        with self.blog.sessions.begin() as session:
            line = session.get_one(Line, (1, 1))
            savepoint = session.begin_nested()
            line.text = "b"
            session.flush()
            savepoint.rollback()
            self.assertEqual(line.text, "a")
            line.text = "c"
        (change,) = self.expect(("Line", (1, 1), "modified"))
        self.assertEqual((change.old["text"], change.new["text"]), ("a", "c"))

    def test_outer_rolled_back_with_open_ones(self) -> None:
        """Open savepoints go with the transaction around them."""
        with self.blog.sessions() as session:
            session.begin_nested()
            self.line(session, 1)
            session.begin_nested()
            self.line(session, 2)
            session.get_transaction().rollback()  # type: ignore[union-attr]
            session.commit()
        self.expect()

    def test_session_closed(self) -> None:
        """What was never committed is not told of, however it ended."""
        session = self.blog.sessions()
        session.begin_nested()
        self.line(session, 1)
        session.close()
        self.line(session, 2)
        session.close()
        session.commit()
        self.expect()

    def test_session_committed_with_open_ones(self) -> None:
        """A session that is committed releases what is open."""
        with self.blog.sessions() as session:
            session.begin_nested()
            self.line(session, 1)
            session.begin_nested()
            self.line(session, 2)
            session.commit()
        self.expect(("Line", (1, 1), "created"), ("Line", (1, 2), "created"))
        self.assertEqual(len(self.heard), 1)

    def test_root_committed_with_open_ones(self) -> None:
        """So does a transaction that is committed by its own block, which is announced once."""
        for depth in (1, 2):
            with self.blog.sessions.begin() as session:
                self.line(session, 10 * depth)
                for place in range(depth):
                    session.begin_nested()
                    self.line(session, 10 * depth + place + 1)
        self.expect(*(("Line", (1, place), "created") for place in (10, 11, 20, 21, 22)))
        self.assertEqual(list(map(len, self.heard)), [2, 3])

    def test_outer_savepoint_committed_with_open_ones(self) -> None:
        """A savepoint that is released releases what is open in it; the rest comes later."""
        with self.blog.sessions.begin() as session:
            outer = session.begin_nested()
            self.line(session, 1)
            session.begin_nested()
            self.line(session, 2)
            outer.commit()
            self.line(session, 3)
        self.expect(*(("Line", (1, place), "created") for place in (1, 2, 3)))

    def test_outer_savepoint_ends_with_its_block(self) -> None:
        """No statement can be executed then; it is early enough when the session commits."""
        self.watch()
        with self.blog.sessions.begin() as session:
            with session.begin_nested():
                session.begin_nested()
                session.add(Post(title="a"))
            session.add(Post(title="b"))
        self.expect(("Post", 1, "created"), ("Post", 2, "created"))

    def test_outer_savepoint_committed_and_all_rolled_back(self) -> None:
        """What was handed over early is rolled back with the rest."""
        with self.blog.sessions() as session:
            outer = session.begin_nested()
            self.line(session, 1)
            session.begin_nested()
            self.line(session, 2)
            outer.commit()
            session.rollback()
        self.expect()

    def test_outer_savepoint_fails_with_open_ones(self) -> None:
        """A release that fails is over: savepoints afterwards are as before."""
        with self.blog.sessions.begin() as session:
            self.line(session, 1)
            outer = session.begin_nested()
            session.begin_nested()
            with session.no_autoflush:
                session.add(Line(page=1, place=1, text="b"))
                self.assertRaises(sa.exc.IntegrityError, outer.commit)
            outer.rollback()
            with session.begin_nested():
                self.line(session, 2)
            self.line(session, 3)
        self.expect(*(("Line", (1, place), "created") for place in (1, 2, 3)))
        self.assertEqual(len(self.heard), 1)

    def test_outer_savepoint_fails_after_an_inner_one(self) -> None:
        """What was changed before it is told of, though it was rolled back in its release."""
        inner: Any = None

        def spoil(session: Session, ended: Any) -> None:
            if ended is inner:
                session.add(Line(page=1, place=1, text="b"))

        sa.event.listen(self.blog.sessions, "after_transaction_end", spoil)
        with self.blog.sessions.begin() as session:
            self.line(session, 1)
            session.expunge_all()
            outer = session.begin_nested()
            inner = session.begin_nested()
            self.line(session, 2)
            self.assertRaises(sa.exc.IntegrityError, outer.commit)
            outer.rollback()
            self.line(session, 3)
        self.expect(("Line", (1, 1), "created"), ("Line", (1, 3), "created"))

    def test_watched_within_a_savepoint(self) -> None:
        """Whoever begins to watch within a savepoint follows it to its end."""
        self.blog.sources = self.blog.new_sources()
        with Session(self.blog.engine) as session:
            outer = session.begin_nested()
            session.begin_nested()
            self.addCleanup(watch(session, self.blog.sources, [Line]).remove)
            self.line(session, 1)
            session.get_nested_transaction().commit()  # type: ignore[union-attr]
            outer.rollback()
            self.line(session, 2)
            session.commit()
        self.expect(("Line", (1, 2), "created"))


class VetoTests(BlogCase):
    """Those who are asked before the commit."""

    def veto(self, session: Session, changes: Sequence[ModelChange]) -> None:
        """Refuse a title."""
        for change in changes:
            if change.new.get("title") == "bad":
                raise ValueError("not that one")

    def test_refused(self) -> None:
        """The transaction is gone: no row, no event, nothing is woken."""
        self.watch(before_commit=[self.veto])
        wake = self.patch_wake()
        with self.assertRaisesRegex(ValueError, "not that one"):
            self.add(Post(title="good"), Post(title="bad"))
        self.expect()
        self.assertEqual(self.blog.rows("SELECT * FROM post"), [])
        self.assertEqual(wake.call_count, 0)

    def test_refused_again(self) -> None:
        """Whoever was refused and only calls again is refused again."""
        self.watch(before_commit=[self.veto])
        with self.blog.sessions() as session:
            post = Post(title="bad")
            session.add(post)
            for _ in range(12):
                self.assertRaises(ValueError, session.commit)
            post.title = "good"
            session.commit()
        (change,) = self.expect(("Post", 1, "created"))
        self.assertEqual(change.new["title"], "good")

    def test_asked_with_keys(self) -> None:
        """They are given every change, coalesced and with primary keys, and the session."""
        asked: list[Any] = []

        def listen(session: Session, changes: Sequence[ModelChange]) -> None:
            asked.append((session, [said(change) for change in changes]))

        self.watch(before_commit=[listen])
        with self.blog.sessions.begin() as session:
            post = Post(title="a")
            session.add(post)
            session.flush()
            post.title = "b"
            session.add(Post(title="c"))
        expected = [("Post", 1, "created"), ("Post", 2, "created")]
        self.assertEqual(asked, [(session, expected)])

    def test_later_ones_are_not_asked(self) -> None:
        """The first one to refuse decides."""
        heard, listener = recorder()
        self.watch(before_commit=[self.veto, listener])
        self.assertRaises(ValueError, self.add, Post(title="bad"))
        self.assertEqual(heard, [])

    def test_rounds(self) -> None:
        """What a listener changes is committed, and told of in another round."""
        heard, listener = recorder()

        def log(session: Session, changes: Sequence[ModelChange]) -> None:
            for change in changes:
                if change.model.endswith("Post"):
                    session.add(Author(name=change.new["title"]))

        self.watch([Post, Author], before_commit=[listener, log])
        self.add(Post(title="a"))
        self.expect(("Author", 1, "created"), ("Post", 1, "created"))
        self.assertEqual(heard, [[("Post", 1, "created")], [("Author", 1, "created")]])

    def test_changed_in_a_round(self) -> None:
        """What a listener does to the row itself is a part of its one change."""

        def shout(session: Session, changes: Sequence[ModelChange]) -> None:
            for change in changes:
                session.get_one(Post, change.id).title = change.new["title"].upper()

        self.watch(before_commit=[shout])
        self.add(Post(title="a"))
        (change,) = self.expect(("Post", 1, "created"))
        self.assertEqual(change.new["title"], "A")

    def test_savepoint_in_a_round(self) -> None:
        """A listener may use savepoints."""

        def try_it(session: Session, changes: Sequence[ModelChange]) -> None:
            for name, keep in (("kept", True), ("dropped", False)):
                savepoint = session.begin_nested()
                if changes[0].model.endswith("Post"):
                    session.add(Author(name=name))
                    session.flush()
                (savepoint.commit if keep else savepoint.rollback)()

        self.watch([Post, Author], before_commit=[try_it])
        self.add(Post(title="a"))
        self.expect(("Author", 1, "created"), ("Post", 1, "created"))
        self.assertEqual(self.blog.rows("SELECT name FROM author"), [("kept",)])

    def test_savepoint_left_open(self) -> None:
        """A listener or source that leaves one open is refused."""

        def leave_open(*args: Any) -> None:
            sessions[0].begin_nested()

        def keep(session: Session, changes: Sequence[ModelChange]) -> None:
            sessions[:] = [session]

        sessions: list[Session] = []
        self.blog.sources.register_model_event_source(Author, leave_open)
        self.watch([Post], before_commit=[keep])
        with self.assertRaisesRegex(LedgerTransactionError, "savepoint open"):
            self.add(Author(name="ann"))
        self.watch([Post], before_commit=[leave_open])
        with self.assertRaisesRegex(LedgerTransactionError, "savepoint open"):
            self.add(Post(title="a"))
        self.expect()

    def test_endless(self) -> None:
        """Ten rounds are enough; then the listeners are named."""
        rounds = 0

        def count_on(session: Session, changes: Sequence[ModelChange]) -> None:
            nonlocal rounds
            rounds += 1
            session.get_one(Post, 1).number = rounds

        self.watch(before_commit=[count_on])
        with self.assertRaises(ChangeRoundsError) as caught:
            self.add(Post(title="a"))
        self.assertEqual(rounds, 10)
        self.assertIn("count_on", str(caught.exception))
        self.assertEqual(self.blog.rows("SELECT * FROM post"), [])

    def test_nine_rounds(self) -> None:
        """Fewer are no matter, and the next commit has as many again."""
        left = 0

        def count_on(session: Session, changes: Sequence[ModelChange]) -> None:
            nonlocal left
            left -= 1
            if left:
                session.get_one(Post, changes[0].id).number += 1

        self.watch(before_commit=[count_on])
        with self.blog.sessions() as session:
            for title in "ab":
                left = 10
                session.add(Post(title=title))
                session.commit()
        self.assertEqual(self.blog.rows("SELECT number FROM post"), [(9,), (9,)])


class OthersTests(BlogCase):
    """Other listeners of the same sessions."""

    def test_after_our_turn(self) -> None:
        """What another listener changes after it was our turn is told of, and can be refused."""
        heard, listener = recorder()
        self.watch([Post, Author], before_commit=[listener])

        def late(session: Session) -> None:
            session.add(Author(name="late"))

        sa.event.listen(self.blog.sessions, "before_commit", late)
        self.add(Post(title="a"))
        self.expect(("Author", 1, "created"), ("Post", 1, "created"))
        self.assertEqual(heard, [[("Post", 1, "created")], [("Author", 1, "created")]])

    def test_refused_after_our_turn(self) -> None:
        """Then all of it is gone."""

        def refuse(session: Session, changes: Sequence[ModelChange]) -> None:
            if any(change.model.endswith("Author") for change in changes):
                raise ValueError("no authors")

        self.watch([Post, Author], before_commit=[refuse])

        def late(session: Session) -> None:
            session.add(Author(name="late"))

        sa.event.listen(self.blog.sessions, "before_commit", late)
        self.assertRaises(ValueError, self.add, Post(title="a"))
        self.expect()
        self.assertEqual(self.blog.rows("SELECT * FROM post"), [])

    def test_statement_after_our_turn(self) -> None:
        """A statement after which nothing is flushed any more is told of, too."""
        self.added(Post(title="a"))
        for bulk, expected in (("coarse", (None, "bulk")), ("expand", (1, "modified"))):
            watching = watch(self.blog.sessions, self.blog.sources, {Post: Watch(bulk=bulk)})

            def late(session: Session) -> None:
                if not session.in_nested_transaction():
                    session.execute(sa.update(Post).values(number=Post.number + 1))

            sa.event.listen(self.blog.sessions, "before_commit", late)
            with self.blog.sessions.begin():
                pass
            sa.event.remove(self.blog.sessions, "before_commit", late)
            watching.remove()
            self.assertIn(("Post", *expected), self.blog.said())
        self.assertEqual(len(self.blog.said()), 2)

    def test_savepoint_after_our_turn(self) -> None:
        """What another listener does in savepoints shares their fate."""
        self.watch()

        def late(session: Session) -> None:
            if session.in_nested_transaction():
                return
            for title, end in (("b", "commit"), ("c", "rollback")):
                with session.begin_nested():
                    savepoint = session.begin_nested()
                    session.add(Post(title=title))
                    session.flush()
                    getattr(savepoint, end)()

        sa.event.listen(self.blog.sessions, "before_commit", late)
        self.add(Post(title="a"))
        self.expect(("Post", 1, "created"), ("Post", 2, "created"))

    def test_changes_in_late_rounds(self) -> None:
        """Those who are asked late may change something, too, and no more than ten times."""
        endless = False

        def shout(session: Session, changes: Sequence[ModelChange]) -> None:
            for change in changes:
                if change.model.endswith("Author"):
                    author = session.get_one(Author, change.id)
                    author.name = author.name + "!" if endless else "LATE"

        self.watch([Post, Author], before_commit=[shout])

        def late(session: Session) -> None:
            session.add(Author(name="late"))

        sa.event.listen(self.blog.sessions, "before_commit", late)
        self.add(Post(title="a"))
        self.assertEqual(self.blog.rows("SELECT name FROM author"), [("LATE",)])
        self.assertEqual(
            self.blog.said(),
            [("Author", 1, "created"), ("Author", 1, "modified"), ("Post", 1, "created")],
        )
        endless = True
        self.assertRaises(ChangeRoundsError, self.add, Post(title="b"))

    def test_commit_again(self) -> None:
        """Whoever commits again after another listener failed has each change told of once."""
        heard, listener = recorder()
        self.watch(before_commit=[listener])
        fails = [True]

        def fail(session: Session) -> None:
            if not session.in_nested_transaction() and fails.pop():
                raise ValueError("not now")

        sa.event.listen(self.blog.sessions, "before_commit", fail)
        with self.blog.sessions() as session:
            session.add(Post(title="a"))
            self.assertRaises(ValueError, session.commit)
            for title, end in (("b", "commit"), ("c", "rollback")):
                savepoint = session.begin_nested()
                session.add(Post(title=title))
                session.flush()
                getattr(savepoint, end)()
            fails.append(False)
            session.commit()
        self.expect(("Post", 1, "created"), ("Post", 2, "created"))
        self.assertEqual(heard, [[("Post", id, "created")] for id in (1, 2, 3)])

    def test_failed_after_our_turn(self) -> None:
        """What was admitted goes with the commit that fails after it."""
        self.watch()

        def fail(session: Session) -> None:
            raise ValueError("too late")

        sa.event.listen(self.blog.sessions, "before_commit", fail)
        self.assertRaises(ValueError, self.add, Post(title="a"))
        self.expect()

    def test_two_watchings(self) -> None:
        """Sources of their own each have their events."""
        self.watch()
        other = self.blog.new_sources()
        self.addCleanup(watch(self.blog.sessions, other, [Post]).remove)
        self.add(Post(title="a"))
        self.expect(("Post", 1, "created"), ("Post", 1, "created"))


class AfterCommitTests(BlogCase):
    """Nothing of the user's runs after a commit; delivery is woken."""

    def setUp(self) -> None:
        """Have everything that a user may write, and note when it runs."""
        super().setUp()
        self.ran: list[str] = []
        self.committed = False
        sources = self.blog.sources
        sources.register_group_handler("x", self.note("handler"), name="x")
        sources.register_model_event_source(Post, self.note("source"))
        self.watch({Post: Watch(bulk="coarse")}, before_commit=[self.note("veto")])
        # It is the first to hear of the commit, and so tells what ran before.
        sa.event.listen(self.blog.sessions, "after_commit", self.note("commit"), insert=True)

    def note(self, name: str) -> Any:
        """Give a function that says when it runs."""

        def note(*args: object) -> tuple[()]:
            self.ran.append(name)
            return ()

        return note

    def test_nothing_runs(self) -> None:
        """What the user wrote has run when the commit is over."""
        self.patch_wake().side_effect = self.note("wake")
        self.add(Post(title="a"))
        self.assertEqual(self.ran, ["veto", "source", "commit", "wake"])

    def test_waking_fails(self) -> None:
        """Whatever waking raises, the session goes on, and the failure is logged."""
        for error in (ValueError("no"), SystemExit(3), KeyboardInterrupt()):
            self.patch_wake().side_effect = error
            with self.blog.sessions() as session:
                session.add(Post(title="a"))
                session.commit()
                self.assertEqual(session.scalars(sa.select(Post.title)).first(), "a")
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)
        self.assertEqual(len(self.blog.rows("SELECT * FROM post")), 3)

    def test_not_woken_for_nothing(self) -> None:
        """Where nothing was admitted nobody is woken."""
        wake = self.patch_wake()
        self.add(Author(name="ann"))
        with self.blog.sessions() as session, session.begin_nested():
            session.add(Post(title="a"))
        self.assertEqual(wake.call_count, 0)


class WatchTests(BlogCase):
    """What can be watched, and how often."""

    def test_kinds_of_sessions(self) -> None:
        """Makers, scoped ones, classes and single sessions."""
        maker = self.blog.sessions

        class OwnSession(Session):
            """A class of sessions."""

        one = OwnSession(self.blog.engine)
        scoped = scoped_session(sessionmaker(self.blog.engine, class_=OwnSession))
        for number, (watched, session) in enumerate(
            [(maker, maker()), (scoped, scoped()), (OwnSession, one), (one, one)], 1
        ):
            watching = watch(watched, self.blog.sources, [Post])
            with session:
                session.add(Post(title="a"))
                session.commit()
            watching.remove()
            self.assertEqual(len(self.blog.said()), number, watched)

    def test_twice(self) -> None:
        """Watching the same again adds to it, and tells nothing twice."""
        heard, listener = recorder()
        first = self.watch([Post], before_commit=[listener])
        second = self.watch([Post, Author], before_commit=[listener])
        self.assertIs(first, second)
        self.assertEqual(first.models, (Post, Author))
        self.assertEqual(first.before_commit, (listener,))
        self.add(Post(title="a"))
        self.expect(("Post", 1, "created"))
        self.assertEqual(len(heard), 1)

    def test_nobody_keeps_it(self) -> None:
        """What is watched stays watched, also if nobody keeps what says so."""
        watch(self.blog.sessions, self.blog.sources, [Post])
        gc.collect()
        self.add(Post(title="a"))
        self.expect(("Post", 1, "created"))
        watch(self.blog.sessions, self.blog.sources).remove()
        self.add(Post(title="b"))
        self.expect(("Post", 1, "created"))

    def test_removed_with_a_session_open(self) -> None:
        """Who watches no more is told nothing more of a session, and keeps nothing of it."""
        first = self.watch()
        other = self.blog.new_sources()
        self.addCleanup(watch(self.blog.sessions, other, [Post]).remove)
        with self.blog.sessions() as session:
            session.add(Post(title="a"))
            session.flush()
            first.remove()
            post = Post(title="b")
            session.add(post)
            session.flush()
            kept = weakref.ref(sa.inspect(post))
            session.expunge(post)
            del post
            gc.collect()
            self.assertIsNone(kept())
            session.commit()
        self.expect(("Post", 1, "created"), ("Post", 2, "created"))

    def test_again_after_removal(self) -> None:
        """What was removed can be watched again."""
        self.watch().remove()
        self.watch()
        self.add(Post(title="a"))
        self.expect(("Post", 1, "created"))

    def test_refused(self) -> None:
        """What cannot be watched is refused where it is written, and changes nothing."""
        watching = self.watch()
        refused: list[tuple[Any, str]] = [
            ({Post: Watch(bulk="coarse")}, "another way"),
            ([State], "no mapped class"),
            (["Post"], "no mapped class"),
            ({Author: Watch(columns=("nme",))}, "no column 'nme'; it has id, name"),
            ({Author: {"columns": ["name"]}}, "by a Watch"),
        ]
        for models, text in refused:
            with self.assertRaisesRegex(WatchError, text):
                self.watch(models)
        with self.assertRaisesRegex(WatchError, "cannot be called"):
            self.watch([Author], before_commit=["veto"])
        with self.assertRaisesRegex(WatchError, "makes no sessions"):
            watch(self.blog.engine, self.blog.sources, [Post])
        self.assertEqual(watching.models, (Post,))

    def test_watch_refused(self) -> None:
        """So is a watch that cannot be."""
        for options in (
            {"bulk": "loose"},
            {"old": "always"},
            {"columns": "title"},
            {"columns": 1},
        ):
            self.assertRaises(WatchError, Watch, **options)

    def test_overlap(self) -> None:
        """Sessions that would be told of twice are refused."""
        self.watch()
        for sessions in (Session, self.blog.sessions(), self.blog.sessions.class_):
            if sessions is self.blog.sessions.class_:
                watch(sessions, self.blog.sources, [Post])  # is the same
                continue
            with self.assertRaisesRegex(WatchError, "already"):
                watch(sessions, self.blog.sources, [Post])

    def test_unprepared_engine(self) -> None:
        """An engine for SQLite that was not prepared is refused at once."""
        engine = sa.create_engine(self.blog.url)
        self.addCleanup(engine.dispose)
        with self.assertRaisesRegex(UnsafeLedgerError, "prepare_engine"):
            watch(sessionmaker(engine), self.blog.sources, [Post])

    def test_unprepared_engine_later(self) -> None:
        """Or as soon as a session uses it."""
        engine = sa.create_engine(self.blog.url)
        self.addCleanup(engine.dispose)
        maker = sessionmaker()
        self.addCleanup(watch(maker, self.blog.sources, [Post]).remove)
        with maker(bind=engine) as session:
            self.assertRaises(UnsafeLedgerError, session.scalars, sa.select(Post))

    def test_why_it_must_be_prepared(self) -> None:
        """With the driver's own transactions a savepoint outlives the rollback around it."""
        engine = sa.create_engine(self.blog.url)
        self.addCleanup(engine.dispose)
        with Session(engine) as session:
            with session.begin_nested():
                session.add(Post(title="a"))
            session.rollback()
        self.assertEqual(len(self.blog.rows("SELECT * FROM post")), 1)


class ElsewhereTests(BlogCase):
    """The ledger is not where the rows are."""

    def test_without_tables(self) -> None:
        """Where the ledger has no tables the commit fails, and says what to do."""
        engine = prepare_engine(sa.create_engine(self.blog.url.replace("blog.db", "other.db")))
        self.addCleanup(engine.dispose)
        Base.metadata.create_all(engine)
        maker = sessionmaker(engine)
        sources = self.blog.new_sources()
        self.addCleanup(watch(maker, sources, [Post]).remove)
        with maker() as session:
            session.add(Post(title="a"))
            with self.assertRaisesRegex(LedgerTransactionError, "outbox="):
                session.commit()

    def outbox(self, blog: Blog) -> SqlAlchemyOutbox:
        """Give an outbox in a blog's database."""
        outbox = SqlAlchemyOutbox(blog.engine)
        self.addCleanup(outbox.close)
        outbox.open()
        return outbox

    def put(self, outbox: SqlAlchemyOutbox) -> list[str]:
        """Give the models and actions that were put into an outbox."""
        batch = outbox.take(10)
        self.addCleanup(batch.give_up)
        return [".".join(event.group.split(".")[-2:]) for event in batch.events]

    def test_outbox(self) -> None:
        """With an outbox events are put into it, in the transaction, and its relay is woken."""
        outbox = self.outbox(self.blog)
        woken: list[bool] = []
        outbox.relayed_by(lambda: woken.append(True))
        self.watch(outbox=outbox)
        wake = self.patch_wake()
        with self.blog.sessions() as session:
            session.add(Post(title="never"))
            session.flush()
            session.rollback()
        self.add(Post(title="a"))
        self.assertEqual(self.put(outbox), ["Post.created"])
        self.assertEqual((woken, wake.call_count), ([True], 0))
        self.assertEqual(self.blog.events(), [])

    def in_two_databases(self) -> tuple[sessionmaker[Session], Blog]:
        """Give a maker of sessions that keep authors elsewhere, and where."""
        other = Blog(self.new_url())
        self.addCleanup(other.close)
        return sessionmaker(binds={Post: self.blog.engine, Author: other.engine}), other

    def test_two_outboxes(self) -> None:
        """Changes in two databases are put into the outboxes of both."""
        maker, other = self.in_two_databases()
        outboxes = [self.outbox(blog) for blog in (self.blog, other)]
        self.addCleanup(watch(maker, self.blog.sources, [Post, Author], outbox=outboxes[0]).remove)
        with maker.begin() as session:
            session.add_all([Post(title="a"), Author(name="ann")])
        self.assertEqual(list(map(self.put, outboxes)), [["Post.created"], ["Author.created"]])

    def test_two_databases(self) -> None:
        """Changes in two databases at once cannot be admitted into one ledger."""
        maker, _ = self.in_two_databases()
        self.addCleanup(watch(maker, self.blog.sources, [Post, Author]).remove)
        with maker() as session:
            session.add_all([Post(title="a"), Author(name="ann")])
            with self.assertRaisesRegex(LedgerTransactionError, "several databases"):
                session.commit()
            session.rollback()
            session.add(Post(title="b"))
            session.commit()
        self.expect(("Post", 1, "created"))


class SourceTests(BlogCase):
    """Sources of events for instances."""

    def test_before_the_commit(self) -> None:
        """A source sees each created and modified instance, flushed, once; its events are kept."""
        seen: list[tuple[Any, str]] = []

        def source(post: Post) -> Any:
            seen.append((post.id, post.title))
            yield event("post_saved", f"{post.id} {post.title}")

        self.blog.sources.register_model_event_source(Post, source)
        self.added(Post(title="old"), Post(title="gone"))
        self.watch([])
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "new"
            session.delete(session.get_one(Post, 2))
            session.add(Post(title="a"))
        self.assertCountEqual(seen, [(1, "new"), (3, "a")])
        groups = [e.group for e in self.blog.events() if e.group == "post_saved"]
        self.assertEqual(len(groups), 2)

    def test_rolled_back(self) -> None:
        """A rollback burns no key."""
        self.blog.sources.register_model_event_source(
            Post, lambda post: [event("post_created", post.id)]
        )
        self.watch([])

        def refuse(session: Session) -> None:
            raise ValueError("no")

        sa.event.listen(self.blog.sessions, "before_commit", refuse)
        self.assertRaises(ValueError, self.add, Post(title="a"))
        sa.event.remove(self.blog.sessions, "before_commit", refuse)
        self.add(Post(title="b"))
        created = [e for e in self.blog.events() if e.group == "post_created"]
        self.assertEqual([e.key for e in created], ["12:post_created1"])

    def test_source_changes_something(self) -> None:
        """What a source changes is told of in another round, and its instance looked at again."""
        heard, listener = recorder()

        def source(post: Post) -> Any:
            post.number = 7
            return ()

        self.blog.sources.register_model_event_source(Post, source)
        self.watch(before_commit=[listener])
        self.add(Post(title="a"))
        self.assertEqual(heard, [[("Post", 1, "created")], [("Post", 1, "modified")]])
        self.assertEqual(self.blog.changes()[0].new["number"], 7)

    def test_source_fails(self) -> None:
        """A source that fails stops the commit."""

        def source(post: Post) -> Any:
            raise ValueError("no")

        self.blog.sources.register_model_event_source(Post, source)
        self.watch([])
        self.assertRaises(ValueError, self.add, Post(title="a"))
        self.assertEqual(self.blog.rows("SELECT * FROM post"), [])

    def test_without_sources(self) -> None:
        """Rows of models without sources are not loaded again for nothing."""
        self.watch()
        asked: list[str] = []
        with self.blog.sessions() as session:
            session.add(Post(title="a"))
            session.flush()
            session.expunge_all()

            def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
                asked.append(statement.split()[0])

            sa.event.listen(self.blog.engine, "before_cursor_execute", note)
            session.commit()
        self.assertEqual(set(asked), {"INSERT"})

    def test_row_gone(self) -> None:
        """Sources are not called for a row that is gone behind the session's back."""
        seen: list[Any] = []
        self.blog.sources.register_model_event_source(object, seen.append)
        self.watch()
        with self.blog.sessions.begin() as session:
            session.add(Post(title="a"))
            session.flush()
            session.connection().execute(sa.delete(Post.__table__))
            session.expire_all()
        self.assertEqual(seen, [])

    def test_class_below(self) -> None:
        """Sources of a class hear of those below it."""
        seen: list[str] = []
        self.blog.sources.register_model_event_source(
            Animal, lambda animal: seen.append(type(animal).__name__)
        )
        self.watch([])
        self.add(Dog(name="rex", breed="boxer"))
        self.assertEqual(seen, ["Dog"])
