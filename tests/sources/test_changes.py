"""What many changes of a transaction come to, and what savepoints do to them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.sources import ChangeBuffer, coalesce, model_name
from oni.values import UNKNOWN, ModelChange

M = "blog.Post"

STEPS = st.lists(
    st.tuples(st.just("put"), st.integers(1, 2), st.sampled_from("ab"), st.integers(0, 2))
    | st.tuples(st.just("delete"), st.integers(1, 2))
    | st.tuples(st.sampled_from(["push", "merge", "drop"])),
    max_size=25,
)


def created(id: int, **new: Any) -> ModelChange:
    """Give the change of a row that is made."""
    return ModelChange(M, id, "created", new=new, changed=frozenset(new))


def modified(id: int, old: dict[str, Any], **new: Any) -> ModelChange:
    """Give the change of a row whose columns are all watched."""
    return ModelChange(
        M, id, "modified", {**old, **new}, old, frozenset(n for n in new if new[n] != old[n])
    )


def deleted(id: int, **old: Any) -> ModelChange:
    """Give the change of a row that is removed."""
    return ModelChange(M, id, "deleted", old=old)


class Transaction:
    """Rows, and a buffer that is told of every change to them; savepoints, too."""

    def __init__(self, rows: dict[int, dict[str, int]]) -> None:
        self.rows = copy.deepcopy(rows)
        self.buffer = ChangeBuffer()
        self.saved: list[dict[int, dict[str, int]]] = []

    def take(self, step: tuple[Any, ...]) -> None:
        """Take a step, if it makes sense."""
        getattr(self, step[0])(*step[1:])

    def put(self, id: int, name: str, value: int) -> None:
        """Set a column, or make the row."""
        old = self.rows.get(id)
        if old is None:
            self.rows[id] = {"a": 0, "b": 0, name: value}
            self.buffer.add(created(id, **self.rows[id]))
        elif old[name] != value:
            self.rows[id] = {**old, name: value}
            self.buffer.add(modified(id, old, **{name: value}))

    def delete(self, id: int) -> None:
        """Remove a row."""
        old = self.rows.pop(id, None)
        if old is not None:
            self.buffer.add(deleted(id, **old))

    def push(self) -> None:
        """Begin a savepoint."""
        self.saved.append(copy.deepcopy(self.rows))
        self.buffer.push()

    def merge(self) -> None:
        """Release it."""
        if self.saved:
            self.saved.pop()
            self.buffer.merge()

    def drop(self) -> None:
        """Roll it back."""
        if self.saved:
            self.rows = self.saved.pop()
            self.buffer.drop()


class ChangeTests(SynchronousTestCase):
    """One change for each row."""

    @given(st.dictionaries(st.integers(1, 2), st.just({"a": 0, "b": 1})), STEPS)
    def test_net(self, before: dict[int, dict[str, int]], steps: list[tuple[Any, ...]]) -> None:
        """What comes out is the difference between before and after, and nothing else."""
        transaction = Transaction(before)
        for step in steps:
            transaction.take(step)
        after = transaction.rows
        expected = {}
        for id in before.keys() | after.keys():
            old, new = before.get(id), after.get(id)
            if old is None and new is not None:
                expected[id] = ("created", new, {}, set(new))
            elif old is not None and new is None:
                expected[id] = ("deleted", {}, old, set())
            elif old is not None and new is not None and old != new:
                expected[id] = ("modified", new, old, {n for n in new if new[n] != old[n]})
        found = transaction.buffer.coalesced()
        self.assertEqual(len({change.id for change in found}), len(found))
        self.assertEqual({c.id: (c.action, c.new, c.old, c.changed) for c in found}, expected)

    def test_two_modifications(self) -> None:
        """1 to 2 and 2 to 3 is 1 to 3; back to 1 is nothing."""
        first, second = modified(1, {"n": 1}, n=2), modified(1, {"n": 2}, n=3)
        self.assertEqual(coalesce([first, second]), [modified(1, {"n": 1}, n=3)])
        self.assertEqual(coalesce([first, modified(1, {"n": 2}, n=1)]), [])

    def test_created_and_deleted(self) -> None:
        """A row that comes and goes was never there, and may come again."""
        self.assertEqual(coalesce([created(1, n=1), deleted(1, n=1)]), [])
        again = [created(1, n=1), deleted(1, n=1), created(1, n=2)]
        self.assertEqual(coalesce(again), [created(1, n=2)])

    def test_order(self) -> None:
        """Rows come in the order of their first changes."""
        changes = [created(2, n=1), created(1, n=1), modified(2, {"n": 1}, n=5)]
        self.assertEqual([change.id for change in coalesce(changes)], [2, 1])

    def test_apart(self) -> None:
        """Rows of other models and databases are others, and statements stay as they are."""
        bulk = ModelChange(M, None, "bulk", statement="update", count=3)
        here = created(1)
        there = ModelChange(M, 1, "created", using="other")
        other = ModelChange("blog.Tag", 1, "created")
        changes = [bulk, here, there, other, bulk]
        self.assertEqual(coalesce(changes), changes)

    def test_unknown_before(self) -> None:
        """An old value that was not known at first is known if a later change saw it untouched."""
        first = ModelChange(M, 1, "modified", {"n": 2}, {"n": 1, "t": UNKNOWN}, frozenset("n"))
        second = ModelChange(
            M, 1, "modified", {"n": 2, "t": "new"}, {"n": 2, "t": "old"}, frozenset("t")
        )
        (both,) = coalesce([first, second])
        self.assertEqual(both.old, {"n": 1, "t": "old"})
        self.assertEqual(both.changed, {"n", "t"})

    def test_unknown_for_good(self) -> None:
        """What the first change wrote is no old value, and what is unknown stays a change."""
        for old in ({"n": UNKNOWN}, {}):
            first = ModelChange(M, 1, "modified", {"n": 2}, old, frozenset("n"))
            (both,) = coalesce([first, modified(1, {"n": 2}, n=1)])
            self.assertIs(both.old["n"], UNKNOWN)
            self.assertEqual((both.new, both.changed), ({"n": 1}, {"n"}))
            (gone,) = coalesce([first, deleted(1, n=2)])
            self.assertEqual((gone.action, gone.old), ("deleted", {"n": UNKNOWN}))

    def test_incomparable(self) -> None:
        """Values that cannot be compared count as changed."""

        class Odd:
            def __eq__(self, other: object) -> bool:
                raise ZeroDivisionError

            def __hash__(self) -> int:
                return 0

        changes = [
            modified(1, {"n": 1}, n=2),
            ModelChange(M, 1, "modified", {"n": Odd()}, {"n": 2}),
        ]
        self.assertEqual(len(coalesce(changes)), 1)

    def test_savepoints(self) -> None:
        """Layers are merged into the one around, or dropped with all that was merged into them."""
        buffer = ChangeBuffer()
        for id in (1, 2, 3):
            buffer.add(created(id))
            buffer.push()
        self.assertEqual((buffer.depth, len(buffer)), (3, 3))
        buffer.merge()
        buffer.drop()
        self.assertEqual([change.id for change in buffer], [1, 2])
        buffer.drop()
        self.assertEqual([change.id for change in buffer], [1])
        self.assertRaises(IndexError, buffer.drop)
        self.assertRaises(IndexError, buffer.merge)
        buffer.clear()
        self.assertEqual((buffer.coalesced(), bool(buffer)), ([], False))

    def test_model_name(self) -> None:
        """A name is its own, Django's models have a label, other classes a module."""

        class Post:
            class _meta:  # noqa: N801 - Django's name
                label = "blog.Post"

        self.assertEqual(model_name("blog.Post"), "blog.Post")
        self.assertEqual(model_name(Post), "blog.Post")
        self.assertEqual(model_name(ModelChange), "oni.values.ModelChange")
