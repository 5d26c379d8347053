"""Statements that change rows without loading them, under each policy."""

from __future__ import annotations

from unittest import mock

from django.db import transaction
from django.db.models import F, signals

from oni.errors import BulkChangeError, WatchError
from oni.sources.django import _querysets, api
from tests.django_project.blog.models import Author, Note, Plain, Post
from tests.sources.django.case import DjangoCase, keys


class DjangoTests(DjangoCase):
    """What Django itself says of them: nothing."""

    def test_no_signals(self) -> None:
        """None of these statements sends a signal."""
        sent: list[object] = []

        def note(**said: object) -> None:
            sent.append(said["signal"])

        for signal in (
            signals.pre_save,
            signals.post_save,
            signals.pre_delete,
            signals.post_delete,
        ):
            signal.connect(note, sender=Plain)
            self.addCleanup(signal.disconnect, note, sender=Plain)
        plain = Plain.objects.bulk_create([Plain(id=1, text="a")])
        Plain.objects.update(text="b")
        Plain.objects.bulk_update(plain, ["text"])
        Plain.objects.bulk_create(
            plain, update_conflicts=True, update_fields=["text"], unique_fields=["id"]
        )
        Plain.objects.all()._raw_delete("default")
        self.assertEqual((sent, Plain.objects.count()), ([], 0))


class StrictTests(DjangoCase):
    """``bulk="strict"``, as long as nothing else is said."""

    def test_refused(self) -> None:
        """Each is refused before anything happens, with what to do instead."""
        told = self.listen(Post)
        post = Post.objects.create(title="One")
        told()
        for name, statement in (
            ("update", lambda: Post.objects.update(title="Two")),
            ("bulk_create", lambda: Post.objects.bulk_create([Post(title="Two")])),
            ("bulk_update", lambda: Post.objects.bulk_update([post], ["title"])),
            ("_raw_delete", lambda: Post.objects.all()._raw_delete("default")),
        ):
            with self.subTest(name), self.assertRaisesRegex(BulkChangeError, "coarse") as caught:
                statement()
            self.assertEqual(
                (caught.exception.model, caught.exception.operation), ("blog.Post", name)
            )
        self.assertEqual(list(Post.objects.values_list("title", flat=True)), ["One"])
        self.assertEqual(told(), [])

    def test_delete(self) -> None:
        """A queryset's delete has signals, and is not refused."""
        self.listen(Post)
        Post.objects.create(title="One")
        self.assertEqual(Post.objects.all().delete()[0], 1)

    def test_not_watched(self) -> None:
        """The manager of a model that is not watched is as any other."""
        (post,) = Post.objects.bulk_create([Post(title="One")])
        self.assertEqual(Post.objects.update(title="Two"), 1)
        self.assertEqual(Post.objects.bulk_update([post], ["title"]), 1)
        self.assertEqual(keys(), set())

    def test_asynchronous(self) -> None:
        """The asynchronous twins end in the same."""
        self.listen(Post)
        with self.assertRaises(BulkChangeError):
            _run(Post.objects.aupdate(title="Two"))

    def test_unknown_policy(self) -> None:
        """Another word is refused where it is said."""
        with self.assertRaisesRegex(WatchError, "'loose'"):
            api.watch(Post, bulk="loose")  # type: ignore[arg-type]


class CoarseTests(DjangoCase):
    """``bulk="coarse"``: one change for each statement."""

    def test_update(self) -> None:
        """It says how many rows and by which statement, without values, which may be private."""
        told = self.listen(Post, bulk="coarse")
        for stars in range(3):
            Post.objects.create(title="One", stars=stars)
        told()
        count = Post.objects.filter(stars__gt=0, body__contains="").update(title="Secret")
        (change,) = told()
        self.assertEqual((change.action, change.count, count), ("bulk", 2, 2))
        self.assertEqual((change.id, change.new, change.old), (None, {}, {}))
        self.assertIn("update(title)", change.statement)
        self.assertIn("stars", change.statement)
        self.assertNotIn("Secret", change.statement)

    def test_bulk_create(self) -> None:
        """It says how many were made, and -1 where the database does not tell."""
        told = self.listen(Note, bulk="coarse")
        author = Author.objects.create(name="ann")
        Note.objects.bulk_create([Note(author=author, text=text) for text in "ab"])
        Note.objects.bulk_create([Note(pk=1, author=author)], ignore_conflicts=True)
        Note.objects.bulk_create([])
        seen = [(change.action, change.statement, change.count) for change in told()]
        self.assertEqual(seen, [("bulk", "bulk_create", 2), ("bulk", "bulk_create", -1)])

    def test_no_rows(self) -> None:
        """A statement that cannot change any row is told as one that did not."""
        told = self.listen(Post, bulk="coarse")
        Post.objects.none().update(title="Two")
        (change,) = told()
        self.assertEqual(change.count, 0)

    def test_rollback(self) -> None:
        """It goes with its transaction."""
        told = self.listen(Post, bulk="coarse")
        with self.assertRaises(RuntimeError), transaction.atomic():
            Post.objects.update(title="Two")
            raise RuntimeError
        self.assertEqual(told(), [])


class ExpandTests(DjangoCase):
    """``bulk="expand"``: a change for each row."""

    def test_update(self) -> None:
        """Rows are told with old and new values; those that stay as they were are not."""
        told = self.listen(Post, bulk="expand")
        posts = [Post.objects.create(title=title, stars=1) for title in "ab"]
        Post.objects.create(title="c", stars=0)
        told()
        self.assertEqual(Post.objects.filter(stars=1).update(stars=F("stars") + 1, title="b"), 2)
        changes = {change.id: change for change in told()}
        self.assertEqual(set(changes), {post.pk for post in posts})
        self.assertEqual(changes[posts[0].pk].changed, frozenset({"stars", "title"}))
        self.assertEqual(changes[posts[1].pk].changed, frozenset({"stars"}))
        self.assertEqual(changes[posts[0].pk].old["title"], "a")
        self.assertEqual(changes[posts[0].pk].new["stars"], 2)
        Post.objects.filter(stars=2).update(stars=2)
        self.assertEqual(told(), [])

    def test_bulk_create(self) -> None:
        """Rows are told as created, where it is known which were."""
        told = self.listen(Post, bulk="expand")
        posts = Post.objects.bulk_create([Post(title=title) for title in "ab"])
        changes = sorted(told(), key=lambda change: change.id)
        self.assertEqual([change.action for change in changes], ["created", "created"])
        self.assertEqual([change.id for change in changes], [post.pk for post in posts])
        self.assertEqual([change.new["title"] for change in changes], ["a", "b"])
        Post.objects.bulk_create(
            [Post(pk=posts[0].pk, title="z"), Post(pk=1000, title="y")],
            update_conflicts=True,
            update_fields=["title"],
            unique_fields=["pk"],
        )
        Post.objects.bulk_create([Post(pk=1000)], None, True)
        self.assertEqual([(each.action, each.count) for each in told()], [("bulk", -1)] * 2)

    def test_bulk_update(self) -> None:
        """Rows are told once, with what was written."""
        told = self.listen(Post, bulk="expand")
        posts = [Post.objects.create(title=title) for title in "abc"]
        told()
        for post in posts:
            post.title *= 2
        Post.objects.bulk_update(posts, ["title"], batch_size=2)
        self.assertEqual(sorted(c.new["title"] for c in told()), ["aa", "bb", "cc"])

    def test_raw_delete(self) -> None:
        """Rows that go without a signal are told as deleted."""
        told = self.listen(Post, bulk="expand")
        Post.objects.create(title="One")
        told()
        Post.objects.all()._raw_delete("default")
        self.assertEqual([(c.action, c.old["title"]) for c in told()], [("deleted", "One")])

    def test_related_manager(self) -> None:
        """A related manager's statements are told, too."""
        told = self.listen(Post, bulk="expand")
        author = Author.objects.create(name="ann")
        Post.objects.create(title="One", author=author)
        told()
        author.post_set.update(title="Two")
        author.post_set.clear()
        self.assertEqual([c.changed for c in told()], [{"title"}, {"author_id"}])

    def test_too_many(self) -> None:
        """More rows than can be told one by one are refused, and none is changed."""
        told = self.listen(Post, bulk="expand")
        Post.objects.bulk_create([Post(title="a") for _ in range(4)])
        told()
        with (
            mock.patch.object(_querysets, "EXPAND_LIMIT", 3),
            self.assertRaisesRegex(BulkChangeError, "more than 3 rows"),
        ):
            Post.objects.update(title="b")
        self.assertEqual(Post.objects.filter(title="b").count(), 0)
        self.assertEqual(told(), [])

    def test_nobody_listens(self) -> None:
        """Rows are not read for nobody."""
        api.watch(Post, bulk="expand")
        with self.assertNumQueries(1):
            Post.objects.update(title="b")


def _run(awaitable: object) -> object:
    from asgiref.sync import async_to_sync

    async def wait() -> object:
        return await awaitable  # type: ignore[misc]

    return async_to_sync(wait)()
