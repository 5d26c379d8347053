"""Blocks whose changes are told together, and those who may object."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection, transaction

from oni.errors import ChangeRoundsError, WatchError
from oni.sources.django import api, atomic_events
from oni.values import ModelChange
from tests.django_project.blog.models import Author, Post
from tests.sources.django.case import CommittingCase, DjangoCase


class RefusedError(Exception):
    """What a veto says no with."""


class AtomicTests(DjangoCase):
    """``atomic_events()``."""

    def test_one_change_for_each_row(self) -> None:
        """Several changes of a row are one, from the first old values to the last new ones."""
        told = self.listen(Post)
        post = Post.objects.create(title="One")
        told()
        with atomic_events():
            for title in ("Two", "Three"):
                post.title = title
                post.save()
            gone = Post.objects.create(title="Never seen")
            gone.delete()
            post.refresh_from_db()
            other = Post.objects.create(title="Other")
            other.title = "Another"
            other.save()
            self.assertEqual(told(), [])
        first, second = sorted(told(), key=lambda change: change.id)
        self.assertEqual((first.old["title"], first.new["title"]), ("One", "Three"))
        self.assertEqual((second.action, second.new["title"]), ("created", "Another"))

    def test_savepoints(self) -> None:
        """What a savepoint takes back is forgotten, and nothing else."""
        told = self.listen(Post)
        with atomic_events():
            Post.objects.create(title="One")
            with self.assertRaises(RefusedError), transaction.atomic():
                Post.objects.create(title="Two")
                with transaction.atomic():
                    Post.objects.create(title="Three")
                raise RefusedError
            with transaction.atomic():
                Post.objects.create(title="Four")
        self.assertEqual({change.new["title"] for change in told()}, {"One", "Four"})

    def test_savepoints_by_hand(self) -> None:
        """So is what a savepoint takes back that was made without a block."""
        told = self.listen(Post)
        with atomic_events():
            Post.objects.create(title="One")
            first = connection.savepoint()
            Post.objects.create(title="Two")
            second = connection.savepoint()
            Post.objects.create(title="Three")
            transaction.savepoint_rollback(second)
            transaction.savepoint_commit(first)
        self.assertEqual({change.new["title"] for change in told()}, {"One", "Two"})

    def test_rolled_back(self) -> None:
        """A block that ends with an exception tells nothing, and the next one begins anew."""
        told = self.listen(Post)
        with self.assertRaises(RefusedError), atomic_events():
            Post.objects.create(title="One")
            raise RefusedError
        with atomic_events():
            Post.objects.create(title="Two")
        self.assertEqual([change.new["title"] for change in told()], ["Two"])

    def test_nested(self) -> None:
        """An inner block is a savepoint of the outer one, which tells of both."""
        told = self.listen(Post)
        with atomic_events():
            post = Post.objects.create(title="One")
            with atomic_events():
                post.title = "Two"
                post.save()
            with self.assertRaises(RefusedError), atomic_events():
                post.title = "Three"
                post.save()
                raise RefusedError
        (change,) = told()
        self.assertEqual((change.action, change.new["title"]), ("created", "Two"))

    def test_decorator(self) -> None:
        """It can be put around a function, for each of its calls; with brackets, and without."""
        told = self.listen(Post)

        @atomic_events()
        def save(title: str) -> None:
            post = Post.objects.create(title=title)
            post.save()

        @atomic_events
        def save_plainly(title: str) -> None:
            post = Post.objects.create(title=title)
            post.save()

        save("One")
        save_plainly("Two")
        self.assertEqual([change.new["title"] for change in told()], ["One", "Two"])


class VetoTests(DjangoCase):
    """Functions that may object."""

    def setUp(self) -> None:
        """Have one that remembers."""
        super().setUp()
        self.asked: list[list[tuple[str, str]]] = []
        api.watch(Post, bulk="coarse")
        api.watch(Author)

    def veto(self, changes: Sequence[ModelChange]) -> None:
        """Refuse what is called bad."""
        self.asked.append([(change.action, change.new.get("title", "")) for change in changes])
        if any(change.new.get("title") == "Bad" for change in changes):
            raise RefusedError

    def test_a_single_save(self) -> None:
        """Outside a block it is asked of each save, whose row goes when it says no."""
        api.register_veto(self.veto)
        Post.objects.create(title="Good")
        with self.assertRaises(RefusedError), transaction.atomic():
            Post.objects.create(title="Bad")
        self.assertEqual(self.asked, [[("created", "Good")], [("created", "Bad")]])
        self.assertEqual(Post.objects.count(), 1)

    def test_a_block(self) -> None:
        """It is asked once of all that a block has changed, and its no undoes all of it."""
        api.register_veto(self.veto)
        with atomic_events():
            Post.objects.create(title="Bad")
            Post.objects.update(title="Good")
            Post.objects.all().delete()
            Post.objects.create(title="Good")
        self.assertEqual(self.asked, [[("bulk", ""), ("created", "Good")]])
        self.asked.clear()
        with self.assertRaises(RefusedError), atomic_events():
            Author.objects.create(name="ann")
            Post.objects.create(title="Bad")
        self.assertFalse(Author.objects.exists())

    def test_vetoes_of_a_block(self) -> None:
        """A block may bring its own, and one within it, too."""
        told = self.listen(Post)
        with self.assertRaises(RefusedError), atomic_events(None, self.veto):
            Post.objects.create(title="Bad")
        with self.assertRaises(RefusedError), atomic_events():
            with atomic_events(None, self.veto):
                Post.objects.create(title="Good")
            Post.objects.create(title="Bad")
        Post.objects.create(title="Bad")
        self.assertEqual([change.new["title"] for change in told()], ["Bad"])

    def test_changes_of_a_veto(self) -> None:
        """What it changes itself it is asked about, too, and it is told."""
        told = self.listen(Post)

        def number(changes: Sequence[ModelChange]) -> None:
            for change in changes:
                post = Post.objects.get(pk=change.id)
                if not post.stars:
                    post.stars = 7
                    post.save()

        with atomic_events(None, number):
            Post.objects.create(title="One")
        (change,) = told()
        self.assertEqual((change.action, change.new["stars"]), ("created", 7))

    def test_endless(self) -> None:
        """One that always changes something more is stopped, and named."""

        def more(changes: Sequence[ModelChange]) -> None:
            Post.objects.create(title="More")

        with self.assertRaisesRegex(ChangeRoundsError, "more"), atomic_events(None, more):
            Post.objects.create(title="One")
        self.assertEqual(Post.objects.count(), 0)

    def test_what_is_none(self) -> None:
        """What cannot be called is refused where it is registered."""
        with self.assertRaisesRegex(WatchError, "called"):
            api.register_veto("veto")  # type: ignore[arg-type]

    def test_registered_twice(self) -> None:
        """The second time nothing happens."""
        for _ in range(2):
            api.register_veto(self.veto)
        Post.objects.create(title="Good")
        self.assertEqual(len(self.asked), 1)


class AutocommitTests(CommittingCase):
    """Where there is no transaction around."""

    def test_a_veto_undoes_a_save(self) -> None:
        """In autocommit, too: the save is a transaction, and the no is within it."""
        api.watch(Post)

        def refuse(changes: Sequence[ModelChange]) -> None:
            raise RefusedError

        post = Post.objects.create(title="One")
        api.register_veto(refuse)
        for attempt in (lambda: Post.objects.create(title="Two"), post.save_base, post.delete):
            post.title = "Other"
            with self.assertRaises(RefusedError):
                attempt()
        self.assertEqual(list(Post.objects.values_list("title", flat=True)), ["One"])
        self.assertFalse(connection.in_atomic_block)
