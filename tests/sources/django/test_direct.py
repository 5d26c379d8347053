"""Those who are told by the thread that has committed: watchers, handlers, the models' signals."""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import connection, transaction

from oni.signals.models import post_delete, post_save
from oni.sources.django import _direct, api, atomic_events
from oni.values import ModelChange
from oni.watchers import CompositeModelEventWatcher, DirectModelEventWatcher, watch_models
from tests.django_project.blog.models import Author, Post
from tests.sources.django.case import CommittingCase, DjangoCase
from tests.watchers.test_watchers import Recorder


class RefusedError(Exception):
    """What a transaction is rolled back with."""


class DirectTests(CommittingCase):
    """Real commits."""

    def setUp(self) -> None:
        """Watch posts, and hear of them."""
        super().setUp()
        api.watch(Post, bulk="expand")
        self.heard: list[ModelChange] = []
        api.event_sources().register_direct_handler(Post, self.heard.append)

    def said(self) -> list[tuple[str, Any]]:
        """Give action and title of what was heard."""
        return [(each.action, each.new.get("title")) for each in self.heard]

    def test_after_the_commit(self) -> None:
        """Each save is told in its thread, when its transaction is committed and over."""
        seen: list[Any] = []

        def handle(change: ModelChange) -> None:
            seen.append((connection.in_atomic_block, len(self.heard)))
            Author.objects.create(name=Post.objects.get(pk=change.id).title)

        api.event_sources().register_direct_handler(Post, handle)
        with transaction.atomic():
            Post.objects.create(title="One")
            Post.objects.create(title="Two")
            self.assertEqual([], self.heard)
        self.assertEqual([("created", "One"), ("created", "Two")], self.said())
        self.assertEqual([(False, 1), (False, 2)], seen)
        self.assertEqual(["One", "Two"], [each.name for each in Author.objects.order_by("id")])

    def test_same_changes_as_the_ledger_s(self) -> None:
        """Nothing is captured twice: they are the same, with the same details."""
        told = self.listen(Post, bulk="expand")
        with atomic_events():
            post = Post.objects.create(title="One")
            post.title = "Two"
            post.save()
            Post.objects.filter(pk=post.pk).update(stars=3)
        post.delete()
        key = lambda change: change.action  # noqa: E731
        self.assertEqual(sorted(told(), key=key), sorted(self.heard, key=key))
        self.assertEqual(2, len(self.heard))

    def test_taken_back(self) -> None:
        """What is rolled back, in whatever way, is told to nobody."""
        with self.assertRaises(RefusedError), transaction.atomic():
            Post.objects.create(title="One")
            raise RefusedError
        with transaction.atomic():
            with self.assertRaises(RefusedError), transaction.atomic():
                Post.objects.create(title="Two")
                raise RefusedError
            savepoint = connection.savepoint()
            Post.objects.create(title="Three")
            transaction.savepoint_rollback(savepoint)
        self.assertEqual([], self.heard)

    def test_taken_back_by_hand(self) -> None:
        """Also where nothing else of ours has happened on a connection."""
        post = Post.objects.create(title="One")
        self.heard.clear()
        del connection.oni_hooks
        del connection.savepoint_rollback  # which is Django's own again
        with transaction.atomic():
            savepoint = connection.savepoint()
            Post(pk=post.pk).delete()
            transaction.savepoint_rollback(savepoint)
        self.assertEqual(([], 1), (self.heard, Post.objects.count()))

    def test_vetoed(self) -> None:
        """So is what a veto has refused."""

        def refuse(changes: Any) -> None:
            raise RefusedError

        api.register_veto(refuse)
        with self.assertRaises(RefusedError):
            Post.objects.create(title="One")
        with self.assertRaises(RefusedError), atomic_events():
            Post.objects.create(title="Two")
        self.assertEqual(([], 0), (self.heard, Post.objects.count()))

    def test_one_of_three_watchers_fails(self) -> None:
        """Two are done, and who saves notices nothing of the third; nor do other callbacks."""

        def fails(*said: Any) -> None:
            raise ValueError("not now")

        good, bad, last = Recorder(), Recorder(fails), Recorder()
        several = CompositeModelEventWatcher(good, bad, last)
        watch_models(api.event_sources(), [Post], DirectModelEventWatcher(several))
        called: list[str] = []
        with transaction.atomic():
            Post.objects.create(title="One")
            transaction.on_commit(lambda: called.append("another"))
        self.assertEqual([1, 1, 1], [len(each.heard) for each in (good, bad, last)])
        self.assertEqual(["another"], called)

    def test_on_commit_fails(self) -> None:
        """A callback of somebody else's that fails does so after those who are told."""

        def fails() -> None:
            raise RefusedError

        with self.assertRaises(RefusedError), transaction.atomic():
            Post.objects.create(title="One")
            transaction.on_commit(fails)
        self.assertEqual([("created", "One")], self.said())

    def test_telling_fails(self) -> None:
        """Even if the event sources themselves fail, who has saved and other callbacks do not."""
        called: list[str] = []

        def save() -> None:
            with transaction.atomic():
                Post.objects.create(title="One")
                transaction.on_commit(lambda: called.append("another"))

        with mock.patch.object(api.event_sources(), "tell_directly", side_effect=SystemExit):
            save()
        self.assertEqual((["another"], 1), (called, Post.objects.count()))

    def test_databases(self) -> None:
        """Each database's commit tells its own."""
        with transaction.atomic(using="other"):
            Post.objects.using("other").create(title="Other")
            Post.objects.create(title="One")
            self.assertEqual([("created", "One")], self.said())
        self.assertEqual([("default"), ("other")], [each.using for each in self.heard])


class SignalTests(CommittingCase):
    """``post_save`` and ``post_delete``, after the commit."""

    def setUp(self) -> None:
        """Watch posts, and connect."""
        super().setUp()
        api.watch(Post, bulk="expand")
        self.sent: list[Any] = []
        for signal, receiver in ((post_save, self.saved), (post_delete, self.deleted)):
            signal.connect(receiver)
            self.addCleanup(signal.disconnect, receiver)

    def saved(self, sender: type, instance: Any, created: bool) -> None:
        """Hear of a saved one."""
        self.sent.append((sender, instance, created))

    def deleted(self, sender: type, instance: Any) -> None:
        """Hear of a deleted one."""
        self.sent.append((sender, instance.pk, instance.title))

    def test_a_row_s_life(self) -> None:
        """With the object itself; of a deleted one with a copy that has its key yet."""
        with transaction.atomic():
            post = Post.objects.create(title="One")
            self.assertEqual([], self.sent)
        post.title = "Two"
        post.save()
        post.save()  # which changes nothing
        key = post.pk
        with transaction.atomic():
            post.delete()
        self.assertIs(post, self.sent[0][1])
        self.assertEqual([(Post, post, True), (Post, post, False)], self.sent[:2])
        self.assertEqual([(Post, key, "Two")], self.sent[2:])

    def test_in_a_block(self) -> None:
        """Once for each row; what a list of links becomes leaves the row its object."""
        with atomic_events():
            post = Post.objects.create(title="One")
            post.title = "Two"
            post.save()
            post.tags.create(name="a")
        self.assertEqual([(Post, post, True)], self.sent)

    def test_statements_between(self) -> None:
        """A statement that changes a row, too, leaves its object; one that deletes it does not."""
        with atomic_events():
            post = Post.objects.create(title="One")
            Post.objects.update(title="Two")
        self.assertEqual([(Post, post, True)], self.sent)
        self.sent.clear()
        with atomic_events():
            post.stars = 7
            post.save()
            Post.objects.all()._raw_delete("default")
        self.assertEqual([], self.sent)

    def test_statements_send_nothing(self) -> None:
        """They have no objects."""
        Post.objects.bulk_create([Post(title="One")])
        Post.objects.update(title="Two")
        self.assertEqual([], self.sent)

    def test_rolled_back(self) -> None:
        """What never was sends nothing."""
        with self.assertRaises(RefusedError), transaction.atomic():
            Post.objects.create(title="One")
            raise RefusedError
        self.assertEqual([], self.sent)


class NobodyTests(DjangoCase):
    """What it costs."""

    def test_nothing_for_nobody(self) -> None:
        """While nobody hears, a save makes no statement and leaves nothing for the commit."""
        api.watch(Post, old="select")
        with self.captureOnCommitCallbacks() as callbacks:
            with self.assertNumQueries(1):
                Post(title="One").save()
            self.listen(Post)  # the ledger's way, which is none of these
            Post(title="Two").save()
        self.assertNotEqual([], callbacks)
        told = [each for each in callbacks if type(each).__name__ == "_Telling"]
        self.assertEqual([], told)

    def test_no_copy_for_nobody(self) -> None:
        """An object that is deleted is not copied for the ledger alone."""
        self.listen(Post)
        post = Post.objects.create(title="One")
        with mock.patch.object(_direct, "copy") as copied:
            post.delete()
        copied.assert_not_called()

    def test_in_a_test_that_never_commits(self) -> None:
        """Django's own way to run what comes after a commit brings it."""
        api.watch(Post)
        heard: list[ModelChange] = []
        api.event_sources().register_direct_handler(Post, heard.append)
        with self.captureOnCommitCallbacks(execute=True):
            Post.objects.create(title="One")
            self.assertEqual([], heard)
        self.assertEqual(["created"], [each.action for each in heard])
