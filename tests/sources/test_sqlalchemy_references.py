"""How an event's context names instances, and finds them again."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, selectinload, sessionmaker
from zope.interface.verify import verifyObject

from oni.errors import MissingRowError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.sources import event
from oni.sources._context import Contexts
from oni.sources.sqlalchemy import Instances, SqlAlchemyReferences, watch
from tests.sources import sqlalchemy_keys
from tests.sources.sqlalchemy_case import Author, BlogCase, Dog, Line, Post


class LocalBase(DeclarativeBase):
    """For a class that no module has."""


def local_model() -> Any:
    """Make a class that no module has under its name."""

    class Local(LocalBase):
        __tablename__ = "local"

        id: Mapped[int] = mapped_column(primary_key=True)

    return Local


LOCAL = local_model()


class ReferencesTests(BlogCase):
    """Instances are named by class and primary key."""

    def setUp(self) -> None:
        """Have references to the blog's models."""
        super().setUp()
        self.references = SqlAlchemyReferences(self.blog.sessions)

    def there_and_back(self, instance: Any) -> Any:
        """Name an instance, as JSON, and load it."""
        named = self.references.refer(instance)
        return self.references.load(json.loads(json.dumps(named)))

    def test_interface(self) -> None:
        """They are what event sources ask for."""
        verifyObject(IModelReferences, self.references)
        self.assertEqual(self.references.name, "sqlalchemy")

    def test_there_and_back(self) -> None:
        """An instance is loaded freshly, and of use though its session is closed."""
        post = Post(title="a", author=Author(name="ann"))
        with self.blog.sessions() as session:
            session.add(post)
            session.commit()
            named = self.references.refer(post)
            session.execute(sa.update(Post).values(title="b"))
            session.commit()
        self.assertEqual(named, {"model": "tests.sources.sqlalchemy_case.Post", "id": [1]})
        loaded = self.references.load(named or {})
        self.assertIsNot(loaded, post)
        self.assertEqual((loaded.title, loaded.id), ("b", 1))

    def test_expired_and_detached(self) -> None:
        """Naming one asks the database nothing."""
        with self.blog.sessions() as session:
            post = Post(title="a")
            session.add(post)
            session.commit()
        self.assertEqual(self.there_and_back(post).title, "a")

    def test_somebody_writes(self) -> None:
        """Loading waits for nobody who writes."""
        post = Post(title="a")
        self.add(post)
        with self.blog.engine.begin() as connection:
            connection.execute(sa.update(Post.__table__).values(title="b"))
            self.assertEqual(self.there_and_back(post).title, "a")

    def test_class_below(self) -> None:
        """An instance of a class below another is one of that."""
        dog = Dog(name="rex", breed="boxer")
        self.add(dog)
        self.assertEqual(self.there_and_back(dog).breed, "boxer")

    def test_options(self) -> None:
        """What is loaded with it can be said."""
        self.add(Author(name="ann", posts=[Post(title="a")]))
        references = SqlAlchemyReferences(self.blog.sessions, options=[selectinload(Author.posts)])
        named = {"model": "tests.sources.sqlalchemy_case.Author", "id": [1]}
        self.assertEqual(references.load(named).posts[0].title, "a")

    def test_primary_keys(self) -> None:
        """Each part of a primary key comes back as it was, also from a context."""
        sqlalchemy_keys.Base.metadata.create_all(self.blog.engine)
        values = {
            "number": -3,
            "text": "t",
            "uuid": UUID(int=7),
            "at": datetime(2024, 2, 29, 12, 30),
            "day": date(2024, 2, 29),
            "hour": time(12, 30),
            "price": Decimal("3.50"),
            "raw": b"\x00\xff",
        }
        many = sqlalchemy_keys.Many(**values)
        self.add(many)
        loaded = self.there_and_back(many)
        self.assertEqual({name: getattr(loaded, name) for name in values}, values)
        contexts = Contexts([self.references])
        made = event("g", 1, {"many": [many]})
        kept = contexts.read(made.key, made.group, contexts.write(made))
        self.assertEqual(contexts.loaded(kept).context["many"][0].raw, b"\x00\xff")

    def test_class_in_a_class(self) -> None:
        """A class inside another is found."""
        sqlalchemy_keys.Base.metadata.create_all(self.blog.engine)
        inner = sqlalchemy_keys.Outer.Inner()
        self.add(inner)
        self.assertEqual(self.there_and_back(inner).id, 1)

    def test_none_of_ours(self) -> None:
        """Other values are none of theirs."""
        for value in (None, 1, "text", object(), Post, [Post(title="a")], {"id": 1}):
            self.assertIsNone(self.references.refer(value))

    def test_no_primary_key(self) -> None:
        """An instance that was never flushed cannot be named, and the field is."""
        contexts = Contexts([self.references])
        with self.assertRaisesRegex(UnkeptContextError, r"context\.post.*flush"):
            contexts.write(event("g", 1, {"post": Post(title="a")}))

    def test_row_gone(self) -> None:
        """A row that is gone is an error that names it."""
        named = {"model": "tests.sources.sqlalchemy_case.Post", "id": [9]}
        with self.assertRaises(MissingRowError) as caught:
            self.references.load(named)
        self.assertEqual((caught.exception.model, caught.exception.id), (named["model"], 9))

    def test_model_gone(self) -> None:
        """So is a class that is gone, is no mapped class, or has another primary key."""
        for model, id in (
            ("tests.sources.sqlalchemy_case.Gone", [1]),
            ("tests.sources.no_such_module.Post", [1]),
            ("tests.sources.sqlalchemy_case.BlogCase", [1]),
            ("nothing", [1]),
            ("tests.sources.sqlalchemy_case.Line", [1]),
        ):
            with self.assertRaises(MissingRowError) as caught:
                self.references.load({"model": model, "id": id})
            self.assertEqual(caught.exception.model, model)

    def test_class_that_no_module_has(self) -> None:
        """A class that could not be found again is refused, unless it is named."""
        LocalBase.metadata.create_all(self.blog.engine)
        local = LOCAL()
        self.add(local)
        with self.assertRaisesRegex(UnkeptContextError, "models="):
            self.references.refer(local)
        self.references = SqlAlchemyReferences(self.blog.sessions, [LOCAL])
        self.assertEqual(self.there_and_back(local).id, 1)

    def test_is_not_watched(self) -> None:
        """Loading tells nobody anything, though its sessions are watched ones."""
        self.watch([Post])
        post = Post(title="a")
        self.add(post)
        self.there_and_back(post)
        self.expect(("Post", 1, "created"))


class InstancesTests(BlogCase):
    """Going through all instances of a model."""

    def test_every_one_once(self) -> None:
        """Each comes once, in batches, whatever the number is."""
        for number in range(7):
            self.assertEqual(
                [post.id for post in Instances(self.blog.sessions, batch=3)(Post)],
                list(range(1, number + 1)),
            )
            self.assertEqual(Instances(self.blog.sessions).count(Post), number)
            self.added(Post(title="a"))

    def test_batch_that_is_none(self) -> None:
        """Nothing would ever come of it."""
        for batch in (0, -1, 1.5, True):
            with self.assertRaises(ValueError):
                Instances(self.blog.sessions, batch=batch)  # type: ignore[arg-type]

    def test_one_statement_a_batch(self) -> None:
        """Reading them costs a statement a batch, and leaves no transaction open."""
        self.added(*(Post(title="a") for _ in range(4)))
        asked: list[str] = []

        def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            asked.append(statement)

        sa.event.listen(self.blog.engine, "before_cursor_execute", note)
        for post in Instances(self.blog.sessions, batch=2)(Post):
            self.assertEqual(post.title, "a")
            self.assertEqual(self.blog.engine.pool.checkedout(), 0)  # type: ignore[attr-defined]
        selects = [statement for statement in asked if statement.startswith("SELECT")]
        self.assertEqual(len(selects), 3)

    def test_composite_key(self) -> None:
        """Also with a primary key of two columns."""
        keys = [(page, place) for page in range(3) for place in range(3)]
        self.added(*(Line(page=page, place=place, text="a") for page, place in keys))
        found = Instances(self.blog.sessions, batch=2)(Line)
        self.assertEqual([(line.page, line.place) for line in found], keys)

    def test_enumeration_in_key(self) -> None:
        """Also where the driver does not know a part of it; a change has it as its name."""
        sqlalchemy_keys.Base.metadata.create_all(self.blog.engine)
        shelf = sqlalchemy_keys.Shelf
        watched = watch(self.blog.sessions, self.blog.sources, [shelf])
        self.addCleanup(watched.remove)
        sizes = sqlalchemy_keys.Size
        self.add(*(shelf(size=size, number=n) for size in sizes for n in range(3)))
        found = Instances(self.blog.sessions, batch=2)(shelf)
        self.assertEqual(len({(each.size, each.number) for each in found}), 6)
        self.assertIn(("Shelf", ("LARGE", 2), "created"), self.blog.said())

    def test_relationships(self) -> None:
        """Relationships can be followed from each, though somebody writes meanwhile."""
        self.added(*(Post(title="a", author=Author(name="ann")) for _ in range(4)))
        names = []
        for post in Instances(self.blog.sessions, batch=3)(Post):
            assert post.author is not None
            names.append(post.author.name)
            self.added(Author(name="bob"))  # waits for nobody
        self.assertEqual(names, ["ann"] * 4)

    def test_rows_that_come_and_go(self) -> None:
        """Rows that go meanwhile are left out, and those that come behind are met."""
        self.added(*(Post(title="a") for _ in range(4)))
        found = []
        for post in Instances(self.blog.sessions, batch=2)(Post):
            found.append(post.id)
            if post.id == 2:
                with self.blog.engine.begin() as connection:
                    connection.exec_driver_sql("DELETE FROM post WHERE id IN (1, 3)")
                self.added(Post(id=9, title="b"))
        self.assertEqual(found, [1, 2, 4, 9])

    def test_own_binds(self) -> None:
        """Sessions that know an engine for each model keep nobody from writing either."""
        self.added(Post(title="a", author=Author(name="ann")))
        maker = sessionmaker(binds={Post: self.blog.engine, Author: self.blog.engine})
        for post in Instances(maker, batch=1)(Post):
            assert post.author is not None
            self.added(Author(name="bob"))
            self.assertEqual([each.id for each in post.author.posts], [1])
            self.assertEqual(self.blog.engine.pool.checkedout(), 1)  # type: ignore[attr-defined]
        self.assertEqual(len(self.blog.rows("SELECT * FROM author")), 2)

    def test_no_model(self) -> None:
        """What is no mapped class is refused."""
        self.assertRaises(ValueError, list, Instances(self.blog.sessions)(int))
