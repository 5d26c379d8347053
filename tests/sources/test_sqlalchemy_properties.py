"""Random sessions beside a model of them: exactly what they come to is admitted, if committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from zope.interface import implementer

from oni.interfaces import IModelEventWatcher
from oni.signals.models import post_delete, post_save
from oni.sources.sqlalchemy import Watch
from oni.values import ModelChange
from oni.watchers import DirectModelEventWatcher, watch_models
from tests.sources.sqlalchemy_case import BlogCase, Line

PLACES = st.integers(0, 3)
TEXTS = st.sampled_from(["a", "b", "bad"])
STEPS = st.one_of(
    st.tuples(st.just("put"), PLACES, TEXTS),
    st.tuples(st.just("delete"), PLACES),
    st.tuples(st.just("move"), PLACES, PLACES),
    st.tuples(st.just("update_below"), PLACES, TEXTS),
    st.tuples(st.just("delete_below"), PLACES),
    st.sampled_from(
        [
            ("flush",),
            ("expire",),
            ("forget",),
            ("begin_nested",),
            ("begin_nested",),
            ("release",),
            ("roll_back_to",),
            ("commit",),
            ("commit_root",),
            ("roll_back",),
            ("close",),
        ]
    ),
)
LISTENERS = st.sets(st.sampled_from(["refuse", "log", "touch"]))

Lines = dict[tuple[int, int], str]


class RefusedError(Exception):
    """A listener did not want it."""


class Program:
    """A session, and what it ought to come to.

    Args:
        case: The test, whose blog is used.
        listeners: The names of those that are asked.
    """

    def __init__(self, case: PropertyCase, listeners: set[str]) -> None:
        self.case = case
        self.listeners = listeners
        self.session: Session = case.blog.sessions()
        self.committed: Lines = {}
        self.layers: list[Lines] = [{}]  # what it looks like, in each savepoint
        self.logged = 0
        self.touched = 0

    @property
    def lines(self) -> Lines:
        """What the session sees."""
        return self.layers[-1]

    def find(self, place: int) -> Line | None:
        """Give an instance, flushed or not."""
        for new in self.session.new:
            if isinstance(new, Line) and (new.page, new.place) == (1, place):
                return new
        found = self.session.get(Line, (1, place))
        return None if found in self.session.deleted else found

    # --- Steps

    def put(self, place: int, text: str) -> None:
        """Add a line, or change its text."""
        found = self.find(place)
        self.case.assertEqual(found is not None, (1, place) in self.lines)
        if found is None:
            self.session.add(Line(page=1, place=place, text=text))
        else:
            found.text = text
        self.lines[1, place] = text

    def delete(self, place: int) -> None:
        """Delete a line."""
        found = self.find(place)
        if found is None:
            return
        (self.session.expunge if found in self.session.new else self.session.delete)(found)
        del self.lines[1, place]

    def move(self, place: int, to: int) -> None:
        """Give a line another primary key."""
        self.session.flush()
        found = self.find(place)
        if found is not None and (1, to) not in self.lines:
            found.place = to
            self.session.flush()
            self.lines[1, to] = self.lines.pop((1, place))

    def update_below(self, place: int, text: str) -> None:
        """Change several lines by a statement."""
        self.session.execute(
            sa.update(Line).where(Line.page == 1, Line.place < place).values(text=text)
        )
        for key in self.lines:
            if key < (1, place):
                self.lines[key] = text

    def delete_below(self, place: int) -> None:
        """Delete several lines by a statement."""
        self.session.execute(sa.delete(Line).where(Line.page == 1, Line.place < place))
        for key in [key for key in self.lines if key < (1, place)]:
            del self.lines[key]

    def flush(self) -> None:
        """Flush."""
        self.session.flush()

    def expire(self) -> None:
        """Let nothing be loaded."""
        self.session.flush()
        self.session.expire_all()

    def forget(self) -> None:
        """Let instances be others."""
        self.session.flush()
        self.session.expunge_all()

    def begin_nested(self) -> None:
        """Begin a savepoint, three deep at most."""
        if len(self.layers) < 4:
            self.session.begin_nested()
            self.layers.append(dict(self.lines))

    def release(self) -> None:
        """Release the innermost savepoint."""
        savepoint = self.session.get_nested_transaction()
        if savepoint is not None:
            savepoint.commit()
            lines = self.layers.pop()
            self.layers[-1] = lines

    def roll_back_to(self) -> None:
        """Roll the innermost savepoint back."""
        savepoint = self.session.get_nested_transaction()
        if savepoint is not None:
            savepoint.rollback()
            self.layers.pop()

    def commit(self) -> None:
        """Commit, with all savepoints that are open."""
        self._commit(self.session.commit)

    def commit_root(self) -> None:
        """Commit the transaction itself, as its own block would."""
        transaction = self.session.get_transaction() or self.session.begin()
        self._commit(transaction.commit)

    def roll_back(self) -> None:
        """Roll back."""
        self.session.rollback()
        self._ended([])

    def close(self) -> None:
        """Close, with whatever is open."""
        self.session.close()
        self._ended([])

    def _commit(self, commit: Any) -> None:
        wanted = dict(self.lines)
        changed = difference(self.committed, wanted)
        refused = "refuse" in self.listeners and any(
            key in wanted and wanted[key] == "bad" for key in changed
        )
        if changed and "touch" in self.listeners:
            wanted[3, 0] = str(self.touched + 1)
        if "log" in self.listeners:
            for key in changed:
                wanted[2, self.logged + sorted(changed).index(key)] = f"{key}"
        try:
            commit()
        except RefusedError:
            self.case.assertTrue(refused)
            self.session.rollback()
            self._ended([])
            return
        self.case.assertFalse(refused)
        if changed:
            self.touched += "touch" in self.listeners
            self.logged += len(changed) if "log" in self.listeners else 0
        changed = difference(self.committed, wanted)
        before, self.committed = self.committed, wanted
        self._ended([(key, before.get(key), wanted.get(key)) for key in changed])

    def _ended(self, changes: list[tuple[Any, str | None, str | None]]) -> None:
        """See what was admitted by this transaction, and what is in the database."""
        self.layers = [dict(self.committed)]
        self.case.assertEqual(self.case.taken(), sorted(changes))
        self.case.expect_told(changes)
        self.case.assertEqual(self.case.stored(), self.committed)

    # --- Listeners

    def listen(self, session: Session, changes: Sequence[ModelChange]) -> None:
        """Refuse what is bad, note each change of the first page, and count."""
        first = [change for change in changes if change.id[0] == 1]
        if "refuse" in self.listeners and any(c.new.get("text") == "bad" for c in first):
            raise RefusedError
        if "log" in self.listeners:
            for place, change in enumerate(sorted(first, key=lambda change: change.id)):
                line = Line(page=2, place=self.logged + place, text=f"{change.id}")
                session.add(line)
        if "touch" in self.listeners and first:
            session.merge(Line(page=3, place=0, text=str(self.touched + 1)))


@implementer(IModelEventWatcher)
class Told:
    """Is a watcher that notes rows with their old and new text.

    Args:
        told: Where it notes them.
    """

    def __init__(self, told: list[tuple[Any, str | None, str | None]]) -> None:
        self._told = told

    def created(self, model: str, id: Any, details: Any) -> None:
        """Note a row."""
        self._told.append((id, details["old"].get("text"), details["new"].get("text")))

    modified = deleted = created


def difference(before: Lines, after: Lines) -> list[tuple[int, int]]:
    """Give the keys of what differs."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


class PropertyCase(BlogCase):
    """Runs random programs."""

    program: Program

    def setUp(self) -> None:
        """Watch, once for all examples."""
        super().setUp()
        self.told: list[tuple[Any, str | None, str | None]] = []
        self.sent: list[tuple[Any, bool]] = []
        watch_models(self.blog.sources, [Line], DirectModelEventWatcher(Told(self.told)))
        for signal in (post_save, post_delete):
            signal.connect(self.hear_signal, sender=Line)
            self.addCleanup(signal.disconnect, self.hear_signal, sender=Line)
        self.watch(
            {Line: Watch(bulk="expand", old="select")},
            before_commit=[self.listen],
        )

    def listen(self, session: Session, changes: Sequence[ModelChange]) -> None:
        """Let the program that is run decide."""
        if changes[0].model.endswith("Line"):
            self.program.listen(session, changes)

    def hear_signal(self, sender: type, instance: Line, created: bool | None = None) -> None:
        """Note what a signal says, and of which row, without reading anything."""
        identity = sa.inspect(instance).identity
        assert identity is not None
        self.sent.append((tuple(identity), created is not None))

    def expect_told(self, changes: list[tuple[Any, str | None, str | None]]) -> None:
        """See who was told of what was just committed, and of nothing if nothing was.

        Of what statements have done, and of a row's old key, no signal is sent.
        """
        self.assertEqual(sorted(self.told, key=str), sorted(changes, key=str))
        self.assertLessEqual({id for id, _ in self.sent}, {id for id, *_ in changes})
        self.assertEqual(len(self.sent), len(set(self.sent)))
        self.told.clear()
        self.sent.clear()

    def taken(self) -> list[tuple[Any, str | None, str | None]]:
        """Give row, old and new text of every change that is admitted, and forget them."""
        changes = [
            (change.id, change.old.get("text"), change.new.get("text"))
            for change in self.blog.changes()
        ]
        with self.blog.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM oni_event")
            connection.exec_driver_sql("DELETE FROM oni_delivery")
        return sorted(changes)

    def stored(self) -> Lines:
        """Give the lines that are in the database."""
        return {row[:2]: row[2] for row in self.blog.rows("SELECT page, place, text FROM line")}

    def run_program(self, listeners: set[str], steps: list[tuple[Any, ...]]) -> None:
        """Run one, beside its model."""
        with self.blog.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM line")
        self.program = Program(self, listeners)
        try:
            for name, *values in [*steps, ("commit",)]:
                getattr(self.program, name)(*values)
        finally:
            self.program.session.close()


class PropertyTests(PropertyCase):
    """Sessions with savepoints, rollbacks, flushes, statements and listeners."""

    @settings(max_examples=100)
    @given(LISTENERS, st.lists(STEPS, max_size=40))
    def test_what_is_committed_is_admitted(
        self, listeners: set[str], steps: list[tuple[Any, ...]]
    ) -> None:
        """Each commit admits the differences that it makes, once; nothing else ever is.

        The same is told to watchers that are called directly, and sent by the models' signals:
        after a veto or a rollback nobody hears anything.
        """
        self.run_program(listeners, steps)
