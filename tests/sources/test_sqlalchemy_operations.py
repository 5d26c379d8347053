"""Each operation of SQLAlchemy, and what is told of it: against the real framework."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session

from oni.sources.sqlalchemy import Watch
from oni.values import UNKNOWN
from tests.sources.sqlalchemy_case import (
    Animal,
    Author,
    BlogCase,
    Cat,
    Comment,
    Dog,
    Label,
    Line,
    Node,
    Post,
    State,
    recorder,
)


class FlushTests(BlogCase):
    """What the unit of work does."""

    def test_created(self) -> None:
        """A new row is told of with its primary key, though nobody flushed before the commit."""
        self.watch()
        with self.blog.sessions() as session:
            session.add(Post(title="a"))
            session.commit()
        (change,) = self.expect(("Post", 1, "created"))
        self.assertEqual(change.new["title"], "a")
        self.assertEqual(change.new["id"], 1)
        self.assertEqual(change.new["heading"], None)
        self.assertEqual(change.new["state"], "DRAFT")
        self.assertEqual(change.old, {})
        self.assertEqual(change.model, "tests.sources.sqlalchemy_case.Post")
        self.assertEqual(self.blog.events()[0].group, f"{change.model}.created")

    def test_created_by_the_server(self) -> None:
        """What the server put into a new row is told where it came back."""
        self.watch()
        self.add(Post(title="a"))
        self.assertEqual(self.blog.changes()[0].new["made"], "by the server")

    def test_left_to_the_server(self) -> None:
        """What did not come back is unknown; what nobody gives is None."""
        self.watch([Node])
        self.add(Node(id=1))
        new = self.blog.changes()[0].new
        self.assertEqual((new["kind"], new["text"], new["counted"]), (UNKNOWN, None, 0))

    def test_modified(self) -> None:
        """A modified row is told of with its old and new values, and what differs."""
        self.added(Post(title="a", number=1))
        self.watch()
        with self.blog.sessions.begin() as session:
            post = session.get_one(Post, 1)
            post.title = "b"
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual(change.changed, {"title", "touched"})
        self.assertEqual((change.old["title"], change.new["title"]), ("a", "b"))
        self.assertEqual((change.old["number"], change.new["number"]), (1, 1))

    def test_on_update(self) -> None:
        """A column that changes with every update is told of, too."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "b"
        (change,) = self.blog.changes()
        self.assertEqual((change.old["touched"], change.new["touched"]), (0, 1))

    def test_set_to_the_same(self) -> None:
        """An attribute that is set to its own value changes nothing."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "a"
        self.expect()

    def test_nothing(self) -> None:
        """A commit of nothing, or of reading, admits nothing."""
        self.added(Post(title="a"))
        heard, listener = recorder()
        self.watch(before_commit=[listener])
        with self.blog.sessions() as session:
            session.commit()
            session.get_one(Post, 1)
            session.commit()
        self.expect()
        self.assertEqual(heard, [])

    def test_deleted(self) -> None:
        """A deleted row is told of with the values that it had."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        (change,) = self.expect(("Post", 1, "deleted"))
        self.assertEqual((change.old["title"], change.new), ("a", {}))

    def test_deleted_with_unflushed_changes(self) -> None:
        """What was set and never written is no old value."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session, session.no_autoflush:
            post = session.get_one(Post, 1)
            post.title = "b"
            session.delete(post)
        (change,) = self.expect(("Post", 1, "deleted"))
        self.assertEqual(change.old["title"], "a")

    def test_two_flushes(self) -> None:
        """Of several flushes of a row one change comes: 1 to 2 to 3 is 1 to 3."""
        self.added(Post(title="a", number=1))
        self.watch()
        with self.blog.sessions.begin() as session:
            post = session.get_one(Post, 1)
            for number in (2, 3):
                post.number = number
                session.flush()
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["number"], change.new["number"]), (1, 3))

    def test_there_and_back(self) -> None:
        """A row that has its old values again was not changed."""
        self.added(Line(page=1, place=1, text="a"))
        self.watch([Line])
        with self.blog.sessions.begin() as session:
            line = session.get_one(Line, (1, 1))
            line.text = "b"
            session.flush()
            line.text = "a"
        self.expect()

    def test_came_and_went(self) -> None:
        """A row that is created and deleted again never was."""
        self.watch()
        with self.blog.sessions.begin() as session:
            post = Post(title="a")
            session.add(post)
            session.flush()
            session.delete(post)
        self.expect()

    def test_deleted_and_created(self) -> None:
        """A row that is deleted and created again, in two flushes, was modified."""
        self.added(Line(page=1, place=1, text="a"))
        self.watch([Line])
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Line, (1, 1)))
            session.flush()
            session.add(Line(page=1, place=1, text="b"))
        (change,) = self.expect(("Line", (1, 1), "modified"))
        self.assertEqual((change.old["text"], change.new["text"]), ("a", "b"))

    def test_row_switch(self) -> None:
        """So it was in one flush, where SQLAlchemy makes an update of both."""
        self.added(Line(page=1, place=1, text="a"))
        self.watch([Line])
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Line, (1, 1)))
            session.add(Line(page=1, place=1, text="b"))
        (change,) = self.expect(("Line", (1, 1), "modified"))
        self.assertEqual((change.old["text"], change.new["text"]), ("a", "b"))

    def test_primary_key_changes(self) -> None:
        """A row with another primary key is another row."""
        self.added(Line(page=1, place=1, text="a"))
        self.watch([Line])
        with self.blog.sessions.begin() as session:
            session.get_one(Line, (1, 1)).place = 2
        gone, come = self.expect(("Line", (1, 1), "deleted"), ("Line", (1, 2), "created"))
        self.assertEqual((gone.old["text"], come.new["text"]), ("a", "a"))

    def test_orphan(self) -> None:
        """A row that is deleted as nobody has it any more is told of."""
        self.added(Author(name="ann", posts=[Post(title="a"), Post(title="b")]))
        self.watch()
        with self.blog.sessions.begin() as session:
            author = session.get_one(Author, 1)
            author.posts.pop()
        self.expect(("Post", 2, "deleted"))

    def test_cascade_of_the_orm(self) -> None:
        """Rows that the session deletes with another are told of."""
        self.added(Author(name="ann", posts=[Post(title="a")]))
        self.watch([Author, Post])
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Author, 1))
        self.assertCountEqual(self.blog.said(), [("Author", 1, "deleted"), ("Post", 1, "deleted")])

    def test_foreign_key_of_a_relationship(self) -> None:
        """A foreign key that a relationship has set in the flush is told of."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).author = Author(name="ann")
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["author_id"], change.new["author_id"]), (None, 1))

    def test_merge(self) -> None:
        """What is merged is told of with old values: merging loads the row."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.merge(Post(id=1, title="b"))
            session.merge(Post(id=2, title="c"))
        one, _ = self.expect(("Post", 1, "modified"), ("Post", 2, "created"))
        self.assertEqual((one.old["title"], one.new["title"]), ("a", "b"))

    def test_failed_flush(self) -> None:
        """Nothing is told of a flush that failed, and the session is of use afterwards."""
        self.added(Line(page=1, place=1, text="a"))
        self.watch([Line])
        with self.blog.sessions() as session:
            session.add_all([Line(page=1, place=2, text="b"), Line(page=1, place=1, text="c")])
            self.assertRaises(IntegrityError, session.flush)
            session.rollback()
            session.add(Line(page=1, place=3, text="d"))
            session.commit()
        self.expect(("Line", (1, 3), "created"))

    def test_values_are_copies(self) -> None:
        """A value that is changed in place later is told of as it was when it was written."""
        heard: list[Any] = []
        self.watch(before_commit=[lambda session, changes: heard.extend(changes)])
        extra = {"tags": ["a"]}
        with self.blog.sessions.begin() as session:
            session.add(Post(title="a", extra=extra))
            session.flush()
            extra["tags"].append("b")
        self.assertEqual(heard[0].new["extra"], {"tags": ["a"]})

    def test_state_is_a_name(self) -> None:
        """A member of an enumeration is told of by its name, before and after."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).state = State.OUT
        (change,) = self.blog.changes()
        self.assertEqual((change.old["state"], change.new["state"]), ("DRAFT", "OUT"))

    def test_columns(self) -> None:
        """Only what is watched is told of, under the attribute's name; the rest is no change."""
        self.added(Post(title="a"), Post(title="b"))
        self.watch({Post: Watch(columns=("heading",))})
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "c"
            session.get_one(Post, 2).heading = "h"
        (change,) = self.expect(("Post", 2, "modified"))
        self.assertEqual((change.old, change.new), ({"heading": None}, {"heading": "h"}))

    def test_not_watched(self) -> None:
        """Rows of other models, and sessions of others, are not told of."""
        self.watch()
        self.added(Post(title="a"))
        self.add(Author(name="ann"))
        self.expect()

    def test_removed(self) -> None:
        """Nothing is told of any more after the removal, which may come twice."""
        watching = self.watch()
        watching.remove()
        watching.remove()
        self.add(Post(title="a"))
        self.expect()


class InheritanceTests(BlogCase):
    """Classes below a watched one."""

    def test_below(self) -> None:
        """A row of a class below is told of as one of the watched class, with all its columns."""
        self.watch([Animal])
        self.add(Dog(name="rex", breed="boxer"), Cat(name="tom", lives=9))
        dog, cat = sorted(
            self.expect(("Animal", 1, "created"), ("Animal", 2, "created")),
            key=lambda change: str(change.new["kind"]),
            reverse=True,
        )
        self.assertEqual(dog.new["breed"], "boxer")
        self.assertEqual(cat.new["lives"], 9)

    def test_nearest(self) -> None:
        """The nearest class that is watched counts."""
        self.watch([Animal, Dog])
        self.add(Dog(name="rex", breed="boxer"), Animal(name="it"))
        self.assertCountEqual(self.blog.said(), [("Dog", 1, "created"), ("Animal", 2, "created")])

    def test_columns_of_both_tables(self) -> None:
        """Old values are read from both tables, where they are wanted."""
        self.added(Dog(name="rex", breed="boxer"))
        self.watch({Animal: Watch(old="select")})
        with self.blog.sessions() as session:
            dog = session.get_one(Dog, 1)
            session.commit()
            dog.name, dog.breed = "bello", "pug"
            session.commit()
        (change,) = self.expect(("Animal", 1, "modified"))
        self.assertEqual((change.old["name"], change.old["breed"]), ("rex", "boxer"))
        self.assertEqual(change.changed, {"name", "breed"})

    def test_columns_of_one_table(self) -> None:
        """Old values are those of the row, though its primary key is in the other table."""
        self.added(Dog(name="rex", breed="boxer"), Dog(name="bello", breed="pug"))
        self.watch({Dog: Watch(("breed",), old="select")})
        with self.blog.sessions() as session:
            dogs = [session.get_one(Dog, number) for number in (1, 2)]
            session.commit()
            for dog in dogs:
                dog.breed = "beagle"
            session.commit()
        self.assertEqual(
            [change.old for change in self.blog.changes()], [{"breed": "boxer"}, {"breed": "pug"}]
        )


class OldValueTests(BlogCase):
    """Values that nobody had loaded."""

    def expired(self, watch: Watch, **values: Any) -> None:
        """Set attributes of an instance whose values are expired, as they are after a commit."""
        self.added(Post(title="a", number=1, body="long"))
        self.watch({Post: watch})
        with self.blog.sessions() as session:
            post = session.get_one(Post, 1)
            session.commit()
            for name, value in values.items():
                setattr(post, name, value)
            session.commit()

    def test_expired(self) -> None:
        """The old value of an expired attribute is unknown, which is not None."""
        self.expired(Watch(), title="b")
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertIs(change.old["title"], UNKNOWN)
        self.assertEqual(change.new["title"], "b")
        self.assertEqual(change.changed, {"title", "touched"})
        self.assertEqual((change.old["touched"], change.new["touched"]), (UNKNOWN, 1))
        # SQLAlchemy loads the row for its primary key; what was not set is known by that.
        self.assertEqual((change.old["number"], change.new["number"]), (1, 1))

    def test_expired_and_the_same(self) -> None:
        """Whether it differs is unknown, too; so it is told of."""
        self.expired(Watch(), title="a")
        self.expect(("Post", 1, "modified"))

    def test_selected(self) -> None:
        """With old="select" it is read before it is changed."""
        self.expired(Watch(old="select"), title="b")
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["title"], change.new["title"]), ("a", "b"))
        self.assertEqual((change.new["number"], change.new["body"]), (1, "long"))
        self.assertEqual(change.changed, {"title", "touched"})

    def test_selected_and_the_same(self) -> None:
        """Then a value that is the same is no change."""
        self.expired(Watch(("title",), old="select"), title="a")
        self.expect()

    def test_deferred(self) -> None:
        """A column that is loaded only when it is asked for is unknown, and unchanged."""
        self.expired(Watch(("title", "body")), title="b")
        (change,) = self.blog.changes()
        self.assertEqual(change.changed, {"title"})
        self.assertIs(change.new["body"], UNKNOWN)

    def test_deleted_unloaded(self) -> None:
        """Of a row that is deleted the missing values are unknown, or read."""
        self.added(Post(title="a", body="long"), Comment(post_id=1), Author(name="ann"))
        self.watch({Post: Watch(("body",), old="select"), Author: Watch(("name",))})
        with self.blog.sessions() as session:
            post, author = session.get_one(Post, 1), session.get_one(Author, 1)
            session.commit()
            session.delete(post)
            with session.no_autoflush:
                author.id  # noqa: B018 - the primary key alone is loaded
            session.commit()
        (change,) = self.expect(("Post", 1, "deleted"))
        self.assertEqual(change.old, {"body": "long"})

    def test_expression_unloaded(self) -> None:
        """Also where the old value had to be read."""
        self.expired(Watch(("number",), old="select"), number=Post.number + 1)
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["number"], change.new["number"]), (1, UNKNOWN))

    def test_moved_unloaded(self) -> None:
        """Of a row that gets another primary key the missing values are read, too."""
        self.added(Post(title="a", body="long"))
        self.watch({Post: Watch(("title", "body"), old="select")})
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).id = 2
        _, come = self.expect(("Post", 1, "deleted"), ("Post", 2, "created"))
        self.assertEqual(come.new, {"title": "a", "body": "long"})

    def test_written_late(self) -> None:
        """A foreign key that SQLAlchemy writes by a statement of its own is told of."""
        self.added(Node(id=1), Node(id=2))
        self.watch([Node])
        with self.blog.sessions() as session:
            one, two = session.get_one(Node, 1), session.get_one(Node, 2)
            session.commit()
            one.next = two
            session.commit()
        (change,) = self.expect(("Node", 1, "modified"))
        self.assertEqual(change.changed, {"next_id", "counted"})
        self.assertEqual((change.old["next_id"], change.new["next_id"]), (UNKNOWN, 2))

    def test_computed_with_each_update(self) -> None:
        """A column that the server changes with each update is told of, alone, too."""
        self.added(Node(id=1))
        self.watch({Node: Watch(("counted",))})
        with self.blog.sessions.begin() as session:
            session.get_one(Node, 1).text = "a"
        (change,) = self.expect(("Node", 1, "modified"))
        self.assertEqual((change.old, change.new), ({"counted": 0}, {"counted": UNKNOWN}))

    def test_expression(self) -> None:
        """What the database computes is unknown afterwards; that it changed is told."""
        self.added(Post(title="a", number=1))
        self.watch({Post: Watch(("number",))})
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).number = Post.number + 1
        (change,) = self.expect(("Post", 1, "modified"))
        self.assertEqual((change.old["number"], change.new["number"]), (1, UNKNOWN))
        self.assertEqual(self.blog.rows("SELECT number FROM post"), [(2,)])


class InvisibleTests(BlogCase):
    """What no session tells: the how-to has the same table."""

    def test_bulk_save_objects(self) -> None:
        """The old bulk methods tell nothing at all."""
        self.added(Post(title="a"))
        self.watch()
        with self.blog.sessions.begin() as session:
            session.bulk_save_objects([Post(title="b")])
            session.bulk_insert_mappings(sa.inspect(Post), [{"title": "c"}])
            session.bulk_update_mappings(sa.inspect(Post), [{"id": 1, "title": "d"}])
        self.expect()

    def test_engine(self) -> None:
        """A statement to an engine, or to the session's own connection, tells nothing."""
        self.watch()
        insert = sa.insert(Post.__table__).values(title="a")
        with self.blog.engine.begin() as connection:
            connection.execute(insert)
        with self.blog.sessions.begin() as session:
            session.connection().execute(insert)
        self.expect()

    def test_text(self) -> None:
        """Nobody looks into a text."""
        self.watch()
        with self.blog.sessions.begin() as session:
            session.execute(sa.text("INSERT INTO author (name) VALUES ('ann')"))
        self.expect()

    def test_cascade_of_the_database(self) -> None:
        """Rows that the database deletes by itself tell nothing."""
        self.added(Post(title="a", comments=[Comment()]))
        self.watch([Post, Comment])
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        self.expect(("Post", 1, "deleted"))
        self.assertEqual(self.blog.rows("SELECT * FROM comment"), [])

    def test_secondary_table(self) -> None:
        """Rows between two models, which have no class, tell nothing."""
        self.added(Post(title="a"), Label())
        self.watch([Post, Label])
        with self.blog.sessions.begin() as session:
            post = session.get_one(Post, 1)
            post.labels.append(session.get_one(Label, 1))
        self.expect()
        self.assertEqual(len(self.blog.rows("SELECT * FROM post_label")), 1)


class AfterCommitTests(BlogCase):
    """After a commit a session is of no use; only delivery is woken then."""

    def test_why(self) -> None:
        """SQL after a commit is refused, and an exception makes the session unusable."""

        def ask(session: Session) -> None:
            session.scalars(sa.select(Post)).all()

        sa.event.listen(self.blog.sessions, "after_commit", ask)
        with self.blog.sessions() as session:
            session.add(Post(title="a"))
            self.assertRaises(InvalidRequestError, session.commit)
        self.assertEqual(len(self.blog.rows("SELECT * FROM post")), 1)
