"""Random saves, deletions, savepoints and rollbacks: exactly what is there to stay is told."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, suppress
from typing import Any

from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from oni.signals.models import post_delete, post_save
from oni.sources.django import api, atomic_events
from oni.values import ModelChange
from tests.django_project.blog.models import Post
from tests.sources.django.case import Fresh, deliver_events

ROWS = st.integers(0, 2)
STEPS = st.recursive(
    st.lists(
        st.tuples(st.just("save"), ROWS, st.integers(0, 2)) | st.tuples(st.just("delete"), ROWS),
        max_size=4,
    ),
    lambda inner: st.lists(
        st.tuples(st.just("save"), ROWS, st.integers(0, 2))
        | st.tuples(st.just("delete"), ROWS)
        | st.tuples(st.just("block"), inner, st.booleans()),
        max_size=6,
    ),
    max_leaves=12,
)


class UndoneError(Exception):
    """What a block is rolled back with."""


class Program:
    """Does the steps, and knows what should be told.

    Attributes:
        table: What the rows' titles are, by their keys.
        expected: The changes one by one: key, old title, new title.
    """

    def __init__(self) -> None:
        self._instances: dict[int, Post] = {}
        self.table: dict[int, str] = {}
        self.expected: list[tuple[int, str | None, str | None]] = []

    def run(self, steps: list[Any]) -> None:
        """Do the steps."""
        for what, *rest in steps:
            getattr(self, what)(*rest)

    def save(self, row: int, value: int) -> None:
        """Save a row, whether it is there or not, by the object that was saved before."""
        post = self._instance(row)
        post.title = str(value)
        post.save()
        self._note(post.pk, post.title)

    def delete(self, row: int) -> None:
        """Delete a row, if it is there."""
        if row + 1 in self.table:
            self._instance(row).delete()
            del self._instances[row]
            self._note(row + 1, None)

    def block(self, steps: list[Any], is_kept: bool) -> None:
        """Do steps within a savepoint, which is released or rolled back."""
        table, objects, told = dict(self.table), dict(self._instances), len(self.expected)
        with suppress(UndoneError), transaction.atomic():
            self.run(steps)
            if not is_kept:
                self.table, self.expected[told:] = table, []
                # One that was made in here has never been loaded: its old values are unknown.
                for row in [r for r, p in self._instances.items() if objects.get(r) is not p]:
                    del self._instances[row]
                raise UndoneError

    def _instance(self, row: int) -> Post:
        """Give the object of a row, which may have been saved, and taken back, before."""
        if row not in self._instances:
            found = Post.objects.filter(pk=row + 1).first()
            self._instances[row] = found or Post(pk=row + 1)
        return self._instances[row]

    def _note(self, id: int, title: str | None) -> None:
        before = self.table.pop(id, None)
        if title is not None:
            self.table[id] = title
        if before != title:
            self.expected.append((id, before, title))


def said(change: ModelChange) -> tuple[int, str | None, str | None]:
    """Give row, old and new title of a change."""
    return change.id, change.old.get("title"), change.new.get("title")


def _action(old: str | None, new: str | None) -> str:
    return "deleted" if new is None else "created" if old is None else "saved"


class RandomTests(Fresh, TestCase):
    """Programs of all kinds."""

    def setUp(self) -> None:
        """Watch titles."""
        super().setUp()
        self.told: list[tuple[int, str | None, str | None]] = []
        api.watch(Post, columns=["title"], old="loaded")
        api.register_change_handler(Post, self.hear, name="hear")
        self.told_directly: list[tuple[int, str | None, str | None]] = []
        api.event_sources().register_direct_handler(
            Post, lambda change: self.told_directly.append(said(change))
        )
        self.sent: list[tuple[int | None, str]] = []
        for signal in (post_save, post_delete):
            signal.connect(self.hear_signal, sender=Post)
            self.addCleanup(signal.disconnect, self.hear_signal, sender=Post)

    def hear(self, event: api.Event) -> None:
        """Note a change."""
        self.told.append(said(event["context"]["change"]))

    def hear_signal(self, sender: type, instance: Post, created: bool | None = None) -> None:
        """Note what a signal says of which row."""
        self.sent.append((instance.pk, {None: "deleted", True: "created"}.get(created, "saved")))

    def told_by(self, steps: list[Any], block: AbstractContextManager[None]) -> Program:
        """Do the steps in a block, and deliver. Each example is rolled back in the end."""
        program = Program()
        self.told.clear()
        self.told_directly.clear()
        self.sent.clear()
        with self.captureOnCommitCallbacks(execute=True):
            with block:
                program.run(steps)
            self.assertEqual(([], []), (self.told_directly, self.sent))
        deliver_events()
        # Whoever is told directly, and the signals, tell what the ledger has, and nothing else.
        self.assertEqual(sorted(self.told, key=repr), sorted(self.told_directly, key=repr))
        expected = [(id, _action(old, new)) for id, old, new in self.told]
        # An object that was saved, and deleted after that, has no key any more.
        found = [(id, action) for id, action in self.sent if id is not None]
        self.assertLessEqual(Counter(found), Counter(expected))
        actions = [[action for _, action in some] for some in (expected, self.sent)]
        self.assertEqual(*map(Counter, actions))
        return program

    @settings(max_examples=40)
    @given(steps=STEPS)
    def test_one_by_one(self, steps: list[Any]) -> None:
        """Each save and deletion that was not taken back is told, and no other."""
        program = self.told_by(steps, transaction.atomic())
        key = repr
        self.assertEqual(sorted(self.told, key=key), sorted(program.expected, key=key))

    @settings(max_examples=40)
    @given(steps=STEPS)
    def test_together(self, steps: list[Any]) -> None:
        """In a block the rows' difference is told: one change for each."""
        program = self.told_by(steps, atomic_events())
        expected = [(id, None, title) for id, title in program.table.items()]
        self.assertEqual(sorted(self.told), sorted(expected))
