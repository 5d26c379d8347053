"""Statements that change rows without loading them, under each policy."""

from __future__ import annotations

from typing import Any
from unittest import mock

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import aliased, with_loader_criteria

from oni.errors import BulkChangeError
from oni.sources.sqlalchemy import Watch, _bulk
from oni.values import ModelChange
from tests.sources.sqlalchemy_case import (
    Animal,
    Author,
    BlogCase,
    Cat,
    Comment,
    Dog,
    Line,
    Post,
)

MODEL = "tests.sources.sqlalchemy_case.Post"


def statements() -> list[tuple[str, Any, Any]]:
    """Give each way to change posts by a statement: what it is, it, and its parameters."""
    table: Any = Post.__table__
    return [
        ("update", sa.update(Post).values(title="b"), None),
        ("update", sa.update(Post), [{"id": 1, "title": "b"}, {"id": 2, "title": "b"}]),
        ("update", sa.update(table).values(title="b"), None),
        ("delete", sa.delete(Post).where(Post.id > 0), None),
        ("delete", sa.delete(table), None),
        ("insert", sa.insert(Post), [{"title": "b"}, {"title": "c"}]),
        ("insert", sa.insert(table).values(title="b"), None),
        ("insert", sqlite.insert(Post).values(id=1, title="b").on_conflict_do_nothing(), None),
    ]


class BulkCase(BlogCase):
    """Has posts."""

    def setUp(self) -> None:
        """Make two."""
        super().setUp()
        self.added(Post(title="a", number=1), Post(title="a", number=2))

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Execute a statement in a transaction of its own."""
        with self.blog.sessions.begin() as session:
            return session.execute(statement, parameters)

    def titles(self) -> list[Any]:
        """Give the titles that are there."""
        return [row[0] for row in self.blog.rows("SELECT title FROM post ORDER BY id")]


class StrictTests(BulkCase):
    """They are refused, by default."""

    def test_each(self) -> None:
        """Each of them is, before it has done anything, and the model is named."""
        self.watch()
        for operation, statement, parameters in statements():
            with self.assertRaises(BulkChangeError) as caught:
                self.execute(statement, parameters)
            self.assertEqual(caught.exception.model, MODEL)
            self.assertEqual(caught.exception.operation, operation)
            self.assertEqual(self.titles(), ["a", "a"])
        self.expect()

    def test_legacy(self) -> None:
        """So are those of a Query."""
        self.watch()
        with self.blog.sessions.begin() as session:
            query = session.query(Post)
            self.assertRaises(BulkChangeError, query.update, {"title": "b"})
            self.assertRaises(BulkChangeError, query.delete)

    def test_other_words(self) -> None:
        """Nobody gets round it by another name of the table, or by selecting what is changed."""
        self.watch()
        table = Post.__table__.alias()
        other = aliased(Post)
        changing = sa.update(Post).values(number=1).returning(Post)
        with self.blog.sessions() as session:
            for statement in (
                sa.update(other).values(number=1),
                sa.update(table).values(number=1),
                sa.select(Post).from_statement(changing),
            ):
                self.assertRaises(BulkChangeError, session.execute, statement)

    def test_others(self) -> None:
        """Those of other models pass, and so does reading."""
        self.watch()
        self.execute(sa.insert(Author), [{"name": "ann"}])
        self.execute(sa.select(Post))
        self.execute(sa.update(Author).values(name="bob"))
        self.expect()
        self.assertEqual(self.blog.rows("SELECT name FROM author"), [("bob",)])

    def test_classes_above_and_below(self) -> None:
        """A statement to a class changes rows of those below it, and of the one above."""
        self.watch([Dog])
        self.assertRaises(BulkChangeError, self.execute, sa.update(Animal).values(name="x"))
        self.assertRaises(BulkChangeError, self.execute, sa.delete(Animal.__table__))
        self.execute(sa.update(Cat).values(lives=1))
        self.watch([Animal])
        self.assertRaises(BulkChangeError, self.execute, sa.update(Cat).values(lives=1))


class CoarseTests(BulkCase):
    """They are one change, without rows."""

    def test_each(self) -> None:
        """It says which model, what was done, and how many rows that changed."""
        self.watch({Post: Watch(bulk="coarse")})
        for _, statement, parameters in statements()[:3]:
            self.execute(statement, parameters)
        changes = self.expect(*[("Post", None, "bulk")] * 3)
        self.assertEqual(sorted(change.count for change in changes), [-1, 2, 2])
        for change in changes:
            self.assertTrue(change.statement.startswith("UPDATE post SET "), change)
            self.assertNotIn("'b'", change.statement)
            self.assertEqual((change.new, change.old), ({}, {}))
        self.assertEqual(self.titles(), ["b", "b"])

    def test_many_rows(self) -> None:
        """An INSERT of many rows by the ORM has no text, but says its table."""
        self.watch({Post: Watch(bulk="coarse")})
        self.execute(sa.insert(Post), [{"title": "b"}, {"title": "c"}])
        (change,) = self.expect(("Post", None, "bulk"))
        self.assertEqual(change.statement, "INSERT post")

    def test_result(self) -> None:
        """Whoever executes it has its result."""
        self.watch({Post: Watch(bulk="coarse")})
        with self.blog.sessions.begin() as session:
            result: Any = session.execute(sa.update(Post).values(title="b").returning(Post.id))
            self.assertEqual(sorted(result.scalars()), [1, 2])
            result = session.execute(sa.delete(Post))
            self.assertEqual(result.rowcount, 2)

    def test_selected_from_it(self) -> None:
        """What is changed may be selected from the statement."""
        changing = sa.update(Post).values(title="b").returning(Post)
        self.watch({Post: Watch(bulk="coarse")})
        with self.blog.sessions.begin() as session:
            posts = session.scalars(sa.select(Post).from_statement(changing)).all()
            self.assertEqual([post.title for post in posts], ["b", "b"])
        self.expect(("Post", None, "bulk"))

    def test_with_rows(self) -> None:
        """Changes of rows stay beside it; a savepoint takes it along."""
        heard: list[ModelChange] = []
        self.watch(
            {Post: Watch(bulk="coarse")}, before_commit=[lambda _, changes: heard.extend(changes)]
        )
        with self.blog.sessions.begin() as session:
            savepoint = session.begin_nested()
            session.execute(sa.delete(Post))
            savepoint.rollback()
            session.add(Post(title="c"))
            session.execute(sa.update(Post).values(title="b"))
        self.expect(("Post", 3, "created"), ("Post", None, "bulk"))
        self.assertEqual([change.action for change in heard], ["created", "bulk"])

    def test_long_text(self) -> None:
        """A long statement is cut."""
        self.watch({Post: Watch(bulk="coarse")})
        self.execute(sa.insert(Post).values([{"title": "b"} for _ in range(300)]))
        self.assertEqual(len(self.blog.changes()[0].statement), 1000)

    def test_model_with_sources(self) -> None:
        """For models that are watched for their sources' sake alone they pass."""
        self.blog.sources.register_model_event_source(Post, lambda post: ())
        self.watch([])
        self.execute(sa.update(Post).values(title="b"))
        self.assertEqual(self.titles(), ["b", "b"])


class ExpandTests(BulkCase):
    """They are looked into: each row is one change."""

    def setUp(self) -> None:
        """Watch for them."""
        super().setUp()
        self.watch({Post: Watch(("title", "number"), bulk="expand")})

    def test_update(self) -> None:
        """Rows that are there before are told of with old and new values, where they differ."""
        for statement in (
            sa.update(Post).where(Post.number < 3).values(title="b", number=2),
            sa.update(Post.__table__).where(Post.__table__.c.number == 2).values(title="c"),
        ):
            with self.blog.sessions.begin() as session:
                result: Any = session.execute(statement)
                self.assertEqual(result.rowcount, 2)
        one = [change for change in self.blog.changes() if change.new["title"] == "b"]
        two = [change for change in self.blog.changes() if change.new["title"] == "c"]
        self.assertEqual(
            sorted((change.id, sorted(change.changed)) for change in one),
            [(1, ["number", "title"]), (2, ["title"])],
        )
        self.assertEqual([change.old for change in two], [{"title": "b", "number": 2}] * 2)

    def test_nothing_differs(self) -> None:
        """Rows that are as before are not told of."""
        self.execute(sa.update(Post).values(title="a"))
        self.expect()

    def test_with_parameters(self) -> None:
        """Also with parameters: by primary key, and in the criteria."""
        self.execute(sa.update(Post), [{"id": 1, "title": "b"}, {"id": 2, "title": "c"}])
        table: Any = Post.__table__
        statement = sa.update(table).where(table.c.number == sa.bindparam("old"))
        self.execute(statement.values(title="d"), [{"old": 2}, {"old": 1}])
        self.execute(statement.values(title="e"), {"old": 1})
        self.assertEqual(
            [(change.id, change.old["title"], change.new["title"]) for change in self.changes()],
            [(1, "a", "b"), (1, "b", "d"), (1, "d", "e"), (2, "a", "c"), (2, "c", "d")],
        )

    def changes(self) -> list[ModelChange]:
        """Give changes by row and value."""
        return sorted(
            self.blog.changes(), key=lambda change: (change.id, str(change.new.get("title")))
        )

    def test_delete(self) -> None:
        """Deleted rows are told of with their values."""
        self.execute(sa.delete(Post).where(Post.number == 2))
        self.execute(sa.delete(Post.__table__))
        one, two = self.expect(("Post", 1, "deleted"), ("Post", 2, "deleted"))
        self.assertEqual((one.old, two.new), ({"title": "a", "number": 1}, {}))

    def test_legacy(self) -> None:
        """Those of a Query, too."""
        with self.blog.sessions.begin() as session:
            self.assertEqual(session.query(Post).filter_by(number=1).update({"title": "b"}), 1)
        self.expect(("Post", 1, "modified"))

    def test_insert(self) -> None:
        """Inserted rows are told of with what the server gave them."""
        self.execute(sa.insert(Post), [{"title": "b"}, {"title": "c"}])
        self.execute(sa.insert(Post.__table__).values(title="d"))
        self.execute(
            sa.insert(Post).from_select(
                ["title", "number", "state", "touched"],
                sa.select(sa.literal("e"), sa.literal(1), sa.literal("OUT"), sa.literal(0)),
            )
        )
        changes = self.expect(*(("Post", number, "created") for number in (3, 4, 5, 6)))
        self.assertEqual([change.new["title"] for change in changes], ["b", "c", "d", "e"])
        self.assertEqual(changes[0].new["number"], 0)

    def test_pending_changes(self) -> None:
        """What waits to be flushed is flushed before, and both are one change."""
        with self.blog.sessions.begin() as session:
            post = session.get_one(Post, 1)
            post.title = "b"
            session.execute(sa.update(Post).where(Post.title == "b").values(title="c"))
            self.assertEqual(post.title, "c")
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["title"], change.new["title"]), ("a", "c"))

    def test_sources(self) -> None:
        """Sources see the rows that are there."""
        seen: list[Any] = []
        self.blog.sources.register_model_event_source(
            Post, lambda post: seen.append((post.id, post.title))
        )
        with self.blog.sessions.begin() as session:
            session.execute(sa.update(Post).values(title="b"))
            session.execute(sa.delete(Post).where(Post.id == 2))
        self.assertEqual(seen, [(1, "b")])

    def test_refused(self) -> None:
        """What cannot be looked into is refused, and why."""
        table: Any = Post.__table__
        refused: list[tuple[Any, str]] = [
            (sqlite.insert(Post).values(title="b"), "rows that are there"),
            (sa.insert(Post).prefix_with("OR REPLACE").values(title="b"), "rows that are there"),
            (sa.insert(Post).values(title="b").returning(Post.id), "returns something else"),
            (sa.insert(Post).values(title="b").returning(Post), "returns something else"),
            (sa.update(table).values(id=table.c.id + 10), "primary keys"),
            (sa.update(aliased(Post)).values(number=3), "another name"),
        ]
        for statement, text in refused:
            with self.assertRaisesRegex(BulkChangeError, text):
                self.execute(statement)
        self.assertEqual(self.titles(), ["a", "a"])
        self.expect()

    def test_refused_and_caught(self) -> None:
        """What was refused has not happened, also if the program goes on."""
        table: Any = Post.__table__
        with self.blog.sessions.begin() as session:
            post = session.get_one(Post, 1)
            with self.assertRaises(BulkChangeError):
                session.execute(sa.update(table).values(id=table.c.id + 10, title="x"))
            with mock.patch.object(_bulk, "_MOST_ROWS", 1), self.assertRaises(BulkChangeError):
                session.execute(sa.insert(Post), [{"title": "b"}, {"title": "c"}])
            self.assertEqual(post.title, "a")
            post.title = "d"
        self.expect(("Post", 1, "modified"))
        self.assertEqual(self.titles(), ["d", "a"])

    def test_returning(self) -> None:
        """Whoever wants to have rows returned has them."""
        with self.blog.sessions.begin() as session:
            statement = sa.update(Post).values(title="b")
            ids = session.scalars(statement.returning(Post.id))
            posts = session.scalars(sa.delete(Post).where(Post.id == 2).returning(Post))
            self.assertEqual(sorted(ids), [1, 2])
            self.assertEqual([post.title for post in posts], ["b"])
        self.expect(("Post", 1, "modified"), ("Post", 2, "deleted"))

    def test_too_many(self) -> None:
        """So are statements for very many rows."""
        with mock.patch.object(_bulk, "_MOST_ROWS", 2):
            self.execute(sa.update(Post).values(title="b"))
            self.added(Post(title="c"))
            for statement in (
                sa.update(Post).values(title="d"),
                sa.delete(Post),
                sa.insert(Post).values([{"title": "e"}] * 3),
            ):
                with self.assertRaisesRegex(BulkChangeError, "more than 2 rows"):
                    self.execute(statement)
        self.assertEqual(self.titles(), ["b", "b", "c"])

    def test_in_parts(self) -> None:
        """Rows are read again in parts."""
        with mock.patch.object(_bulk, "_AT_ONCE", 1):
            self.execute(sa.update(Post).values(title="b"))
            self.execute(sa.update(Post), [{"id": 1, "title": "c"}, {"id": 2, "title": "c"}])
        self.assertEqual(len(self.blog.changes()), 4)

    def test_rows_came_in_between(self) -> None:
        """Rows that another transaction made meanwhile are found out by counting."""
        inside = _bulk._rows_before

        def meanwhile(execution: Any, watched: Any) -> Any:
            found = inside(execution, watched)
            insert = sa.insert(Post.__table__).values(title="a")
            execution.session.connection().execute(insert)
            return found

        self.patch(_bulk, "_rows_before", meanwhile)
        update = sa.update(Post).values(title="b")
        for statement in (update, update.returning(Post)):
            with self.assertRaisesRegex(BulkChangeError, "2 rows .* changed 3"):
                self.execute(statement)

    def test_several_models(self) -> None:
        """A statement that changes rows of several watched models cannot be looked into."""
        self.watch({Animal: Watch(bulk="expand"), Dog: Watch(bulk="coarse")})
        self.added(Dog(name="rex", breed="boxer"), Cat(name="tom"))
        with self.assertRaisesRegex(BulkChangeError, "several"):
            self.execute(sa.update(Animal).values(name="x"))
        self.execute(sa.update(Cat).values(name="y"))
        (change,) = self.expect(("Animal", 2, "modified"))
        self.assertEqual((change.old["name"], change.new["name"]), ("tom", "y"))

    def test_composite_key(self) -> None:
        """Rows with a primary key of two columns are found by both."""
        self.added(Line(page=1, place=1, text="a"), Line(page=1, place=2, text="a"))
        self.watch({Line: Watch(bulk="expand")})
        self.execute(sa.update(Line).where(Line.place == 2).values(text="b"))
        self.expect(("Line", (1, 2), "modified"))

    def test_joined_tables(self) -> None:
        """Rows with columns in two tables are read from both."""
        self.added(Dog(name="rex", breed="boxer"))
        self.watch({Dog: Watch(bulk="expand")})
        self.execute(sa.update(Dog).values(breed="pug"))
        (change,) = self.expect(("Dog", 1, "modified"))
        self.assertEqual((change.old["name"], change.new["breed"]), ("rex", "pug"))

    def test_global_criteria(self) -> None:
        """What another hook adds to statements of the session is added to the reading, too."""

        def hide(execution: Any) -> None:
            criteria = with_loader_criteria(Post, Post.number == 2)
            execution.statement = execution.statement.options(criteria)

        sa.event.listen(self.blog.sessions, "do_orm_execute", hide, insert=True)
        self.execute(sa.update(Post).values(title="b"))
        self.expect(("Post", 2, "modified"))
        self.assertEqual(self.titles(), ["a", "b"])

    def test_cascade_of_the_database(self) -> None:
        """What the database does besides is not seen here either."""
        self.added(Comment(post_id=1))
        self.watch({Comment: Watch(bulk="expand")})
        self.execute(sa.delete(Post).where(Post.id == 1))
        self.expect(("Post", 1, "deleted"))
        self.assertEqual(self.blog.rows("SELECT * FROM comment"), [])
