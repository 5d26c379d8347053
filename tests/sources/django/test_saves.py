"""What saving, deleting and loading single instances tells."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock
from uuid import uuid4

import django
from django.core import serializers
from django.db import IntegrityError, connection, transaction
from django.db.models import F, signals
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

from oni.errors import UnkeptContextError, WatchError
from oni.sources.django import api
from oni.values import UNKNOWN, ModelChange
from tests.django_project.blog.models import (
    Author,
    Draft,
    Fancy,
    Group,
    Named,
    Note,
    Plain,
    Post,
    Price,
    Seat,
    Tag,
    Token,
)
from tests.sources.django.case import CommittingCase, DjangoCase, keys

IS_LEFT = django.VERSION < (6, 0)  # an expression, in the instance that was saved with it
RETURNS = not IS_LEFT and connection.features.can_return_rows_from_update


class SaveTests(DjangoCase):
    """One instance."""

    def test_create(self) -> None:
        """A new row is created, with its values."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", extra={"a": [1]})
        (change,) = told()
        self.assertEqual(
            (change.model, change.id, change.action, change.using),
            ("blog.Post", post.pk, "created", "default"),
        )
        self.assertEqual(change.new["title"], "One")
        self.assertEqual(change.new["extra"], {"a": [1]})
        self.assertEqual((change.old, change.changed), ({}, frozenset()))

    def test_modify(self) -> None:
        """A saved change has old and new values, and says which differ."""
        told = self.listen(Post)
        post = Post.objects.create(title="One")
        told()
        post = Post.objects.get(pk=post.pk)
        post.title = "Two"
        post.save()
        (change,) = told()
        self.assertEqual((change.action, change.changed), ("modified", frozenset({"title"})))
        self.assertEqual((change.old["title"], change.new["title"]), ("One", "Two"))
        self.assertEqual(change.new["body"], "")

    def test_save_again(self) -> None:
        """After a save the instance's values are the old ones of the next."""
        told = self.listen(Post)
        post = Post(title="One")
        for title in ("One", "Two", "Three"):
            post.title = title
            post.save()
        seen = [(change.old.get("title"), change.new["title"]) for change in told()]
        self.assertEqual(seen, [(None, "One"), ("One", "Two"), ("Two", "Three")])

    def test_nothing_changed(self) -> None:
        """A save that changes nothing is no change."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", stars=3)
        told()
        post.stars = "3"  # type: ignore[assignment] # which the database makes a 3
        post.save()
        post.stars = 3
        post.save()
        Post.objects.get(pk=post.pk).save()
        self.assertEqual(told(), [])

    def test_changed_in_place(self) -> None:
        """A list or dict that was changed in its place has changed."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", extra={"a": [1]})
        told()
        post = Post.objects.get(pk=post.pk)
        post.extra["a"].append(2)
        post.save()
        (change,) = told()
        self.assertEqual((change.old["extra"], change.new["extra"]), ({"a": [1]}, {"a": [1, 2]}))

    def test_delete(self) -> None:
        """A row that is gone is told with what was in it, not with what was set and not saved."""
        told = self.listen(Post)
        post = Post.objects.create(title="One")
        told()
        id = post.pk
        post.title = "Never saved"
        post.delete()
        (change,) = told()
        self.assertEqual((change.id, change.action, change.new), (id, "deleted", {}))
        self.assertEqual(change.old["title"], "One")

    def test_queryset_delete(self) -> None:
        """A queryset's delete tells of each row."""
        told = self.listen(Post)
        for number in range(3):
            Post.objects.create(title=str(number))
        told()
        Post.objects.all().delete()
        self.assertEqual(
            [(change.action, change.old["title"]) for change in told()],
            [("deleted", "2"), ("deleted", "1"), ("deleted", "0")],
        )

    def test_get_or_create(self) -> None:
        """What the shortcuts do is told as what it is."""
        told = self.listen(Post)
        Post.objects.get_or_create(title="One")
        Post.objects.get_or_create(title="One")
        Post.objects.update_or_create(title="One", defaults={"stars": 2})
        self.assertEqual([change.action for change in told()], ["created", "modified"])

    def test_update_fields(self) -> None:
        """Only what was written has changed; the rest stays what it was loaded as."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", body="First")
        told()
        post.title, post.body = "Two", "Not written"
        post.save(update_fields=["title"])
        (change,) = told()
        self.assertEqual(change.changed, frozenset({"title"}))
        self.assertEqual(change.new["body"], "First")
        post.save()
        (change,) = told()
        self.assertEqual((change.old["body"], change.new["body"]), ("First", "Not written"))

    def test_foreign_key(self) -> None:
        """A foreign key is told under its column's name."""
        told = self.listen(Post)
        author = Author.objects.create(name="ann")
        post = Post.objects.create(title="One")
        told()
        post.author = author
        post.save(update_fields=["author"])
        (change,) = told()
        self.assertEqual((change.old["author_id"], change.new["author_id"]), (None, author.pk))

    def test_columns(self) -> None:
        """Only watched columns are told, and only their changes are changes."""
        told = self.listen(Post, columns=["title", "author"])
        post = Post.objects.create(title="One")
        (change,) = told()
        self.assertEqual(change.new, {"title": "One", "author_id": None})
        post.body = "New"
        post.save()
        self.assertEqual(told(), [])

    def test_proxy(self) -> None:
        """What is done to a model's rows through a proxy is done to the model."""
        told = self.listen(Post)
        draft = Draft.objects.create(title="One")
        draft.title = "Two"
        draft.save()
        Draft.objects.get().delete()
        seen = [(change.model, change.action) for change in told()]
        actions = ["created", "modified", "deleted"]
        self.assertEqual(seen, [("blog.Post", action) for action in actions])

    def test_nobody_listens(self) -> None:
        """Nothing is admitted for models that nobody listens to."""
        Post.objects.create(title="One")
        api.watch(Post)
        Post.objects.create(title="Two").delete()
        self.assertEqual(keys(), set())

    def test_other_primary_keys(self) -> None:
        """Keys that are no numbers come back as what they are, those of two columns as tuples."""
        tokens, seats = self.listen(Token), self.listen(Seat)
        token = Token.objects.create(id=uuid4(), text="a")
        Seat.objects.create(row="A", number=7)
        self.assertEqual([change.id for change in tokens()], [token.pk])
        self.assertEqual([change.id for change in seats()], [("A", 7)])

    def test_what_cannot_be_kept(self) -> None:
        """A value that is too large for a context is named, and the save refused with it."""
        told = self.listen(Post)
        complaint = r"context\.change .* It is blog\.Post \d+; let watch\(blog\.Post, columns="
        with self.assertRaisesRegex(UnkeptContextError, complaint), transaction.atomic():
            Post.objects.create(title="One", body="x" * 70_000)
        self.assertEqual((told(), Post.objects.count()), ([], 0))
        api.watch(Post, columns=["title"])
        Post.objects.create(title="One", body="x" * 70_000)
        self.assertEqual([change.new for change in told()], [{"title": "One"}])

    def test_inherited(self) -> None:
        """An instance of a model that inherits goes through the sources of both."""
        seen: list[str] = []
        for model in (Plain, Fancy):
            api.register_model_event_source(
                model, lambda each, name=model.__name__: seen.append(name)
            )
        Plain.objects.create(text="a")
        Fancy.objects.create(text="a", color="red")
        self.assertEqual(seen, ["Plain", "Fancy", "Plain"])

    def test_abstract(self) -> None:
        """An abstract model may have sources, for all that inherit it; it has no rows to watch."""
        seen: list[object] = []
        api.register_model_event_source(Named, lambda each: seen.append(each))
        group = Group.objects.create(name="all")
        self.assertEqual(seen, [group])
        with self.assertRaisesRegex(WatchError, "abstract"):
            api.watch(Named)


class OldValueTests(DjangoCase):
    """Where old values come from."""

    def test_deferred(self) -> None:
        """A column that was not loaded has an unknown old value, until it is looked at."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", body="First")
        told()
        partial = Post.objects.only("title").get(pk=post.pk)
        partial.body = "Second"
        partial.save()
        (change,) = told()
        self.assertIs(change.old["body"], UNKNOWN)
        self.assertEqual(change.new["body"], "Second")
        self.assertIn("body", change.changed)
        partial = Post.objects.only("title").get(pk=post.pk)
        self.assertEqual(partial.body, "Second")  # loads it
        partial.body = "Third"
        partial.save()
        (change,) = told()
        self.assertEqual((change.old["body"], change.new["body"]), ("Second", "Third"))

    def test_not_loaded_at_all(self) -> None:
        """An instance that was made by hand has no old values: None would be one."""
        told = self.listen(Post)
        post = Post.objects.create(title="One")
        told()
        Post(pk=post.pk, title="Two").save()
        (change,) = told()
        self.assertEqual(set(change.old.values()), {UNKNOWN})
        self.assertEqual(change.changed, frozenset(change.new))

    def test_another_row(self) -> None:
        """An instance that is given another row's key has not been loaded with its values."""
        told = self.listen(Post, columns=["title"])
        one, two = (Post.objects.create(title=title) for title in ("One", "Two"))
        told()
        one.pk = two.pk
        one.save()
        (change,) = told()
        self.assertEqual((change.id, change.new), (two.pk, {"title": "One"}))
        self.assertIs(change.old["title"], UNKNOWN)
        one.title = "Three"
        one.save()
        (change,) = told()
        self.assertEqual((change.old["title"], change.new["title"]), ("One", "Three"))

    def test_refresh(self) -> None:
        """What is loaded again is old from then on, and nothing else is."""
        told = self.listen(Post, bulk="coarse")
        post = Post.objects.create(title="One", body="First")
        Post.objects.update(title="Two", body="Second")
        told()
        post.body = "Mine"
        post.refresh_from_db(fields=["title"])
        post.title = "Three"
        post.save()
        (change,) = told()
        self.assertEqual((change.old["title"], change.new["title"]), ("Two", "Three"))
        self.assertEqual(change.old["body"], "First")
        Post.objects.update(title="Four")
        told()
        post.body = "Mine again"
        post.refresh_from_db("default", iter(["title"]))
        self.assertEqual(post.title, "Four")
        post.save()
        (change,) = told()
        self.assertEqual(change.changed, {"body"})
        post.refresh_from_db()
        post.save()
        self.assertEqual(told(), [])

    def test_a_refresh_of_its_own(self) -> None:
        """A model's own way to load again is called as if nobody was watching."""
        told = self.listen(Token)
        made = Token.objects.create(text="One")
        told()
        token = Token.objects.defer("text").get(pk=made.pk)
        self.assertEqual(token.text, "One")
        token.refresh_from_db(fields=(name for name in ["text"]))
        token.text = "Two"
        token.save()
        (change,) = told()
        self.assertEqual((change.old["text"], change.new["text"]), ("One", "Two"))

    def test_select(self) -> None:
        """Told to, each save reads the row first, whatever the instance was loaded with."""
        told = self.listen(Post, old="select", bulk="coarse")
        post = Post.objects.create(title="One")
        Post.objects.update(title="Two")
        told()
        Post(pk=post.pk, title="Three").save()
        (change,) = told()
        self.assertEqual((change.old["title"], change.new["title"]), ("Two", "Three"))

    def test_expression(self) -> None:
        """What the database computes is told; the row is read where Django does not know it."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", stars=1)
        told()
        post.stars, post.title = F("stars") + 1, Upper(F("title"))  # type: ignore[assignment]
        with CaptureQueriesContext(connection) as queries:
            post.save()
        about_posts = [each["sql"] for each in queries if "blog_post" in each["sql"][:100]]
        reads = [] if RETURNS else ["SELECT"]
        self.assertEqual([sql.split()[0] for sql in about_posts], ["UPDATE", *reads])
        self.assertEqual(hasattr(post.stars, "resolve_expression"), not RETURNS)
        (change,) = told()
        self.assertEqual((change.old["stars"], change.new["stars"]), (1, 2))
        self.assertEqual(change.new["title"], "ONE")
        post.refresh_from_db()
        post.stars = 5
        post.save()
        (change,) = told()
        self.assertEqual((change.old["stars"], change.new["stars"]), (2, 5))

    def test_generated(self) -> None:
        """A column that the database computes is told as it is, old and new."""
        told = self.listen(Price)
        price = Price.objects.create(net=1)
        price.net = 2
        price.save()
        created, changed = told()
        self.assertEqual((created.new["gross"], changed.new["gross"]), (2, 4))
        self.assertEqual((changed.old["gross"], changed.changed), (2, {"net", "gross"}))

    def test_generated_twice(self) -> None:
        """Its old value is what the last save came to, whatever columns that has written."""
        told = self.listen(Price)
        price = Price.objects.create(net=1)
        told()
        for net, names in ((2, None), (3, ["net"]), (4, None)):
            price.net = net
            price.save(update_fields=names)
        self.assertEqual([change.old["gross"] for change in told()], [2, 4, 6])
        price.save()
        self.assertEqual(told(), [])

    def test_after_an_expression(self) -> None:
        """What came out was told, and is the old value of the next save."""
        told = self.listen(Post)
        post = Post.objects.create(title="One", stars=1)
        post.stars = F("stars") + 1  # type: ignore[assignment]
        post.save()
        told()
        post.stars = 5
        post.save()
        (change,) = told()
        self.assertEqual((change.old["stars"], change.new["stars"]), (2, 5))

    def test_an_expression_that_nobody_saw(self) -> None:
        """It is unknown to the next save, unless Django has seen it."""
        api.watch(Post)
        post = Post.objects.create(title="One", stars=1)
        post.stars = F("stars") + 1  # type: ignore[assignment]
        post.save()
        told = self.listen(Post)
        post.stars = 5
        post.save()
        (change,) = told()
        self.assertEqual(change.old["stars"], 2 if RETURNS else UNKNOWN)

    def test_nothing_returned(self) -> None:
        """A database that cannot return what it computed is asked for it, and nothing is guessed.

        Django then leaves the instance without the value, or with the expression.
        """
        for model in (Post, Price):
            api.watch(model)
        post = Post.objects.create(title="One", stars=1)
        price = Price.objects.create(net=1)
        returning = mock.patch.object(
            connection.features, "can_return_rows_from_update", False, create=True
        )
        returning.start()
        self.addCleanup(returning.stop)
        post.stars, price.net = F("stars") + 1, 2  # type: ignore[assignment]
        post.save()
        price.save()
        self.assertIs(hasattr(post.__dict__.get("stars"), "resolve_expression"), IS_LEFT)
        posts, prices = self.listen(Post), self.listen(Price)
        post.stars, price.net = 5, 3
        post.save()
        price.save()
        post.stars = F("stars") + 1  # type: ignore[assignment]
        post.save(update_fields=["stars"])
        seen = [(change.old["stars"], change.new["stars"]) for change in posts()]
        self.assertEqual(seen, [(UNKNOWN, 5), (5, 6)])
        seen = [(change.old["gross"], change.new["gross"]) for change in prices()]
        self.assertEqual(seen, [(UNKNOWN, 6)])


class Counted(list[Any]):
    """A list that counts which of its entries are looked at, one after another.

    Attributes:
        looked_at: How many were, in all.
    """

    looked_at = 0

    def __iter__(self) -> Iterator[Any]:
        """Count each."""
        for each in super().__iter__():
            self.looked_at += 1
            yield each

    def __getitem__(self, place: Any) -> Any:
        """Count those of a part."""
        found = super().__getitem__(place)
        self.looked_at += len(found) if isinstance(place, slice) else 0
        return found


class RollbackTests(CommittingCase):
    """What an instance was saved with, and what a rollback took back."""

    def setUp(self) -> None:
        """Have a post, as it was loaded."""
        super().setUp()
        self.told = self.listen(Post)
        self.post = Post.objects.create(title="One")
        self.told()

    def save(self, title: str) -> None:
        """Save it under another title."""
        self.post.title = title
        self.post.save()

    def seen(self) -> list[tuple[str, str]]:
        """Give old and new titles of what was told."""
        return [(change.old["title"], change.new["title"]) for change in self.told()]

    def test_saved_again(self) -> None:
        """After a rollback the row's values are the old ones, and the same save is a change."""
        for _ in range(2):
            with self.assertRaises(RuntimeError), transaction.atomic():
                self.save("Two")
                raise RuntimeError
        self.save("Two")
        self.save("Three")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Three")])

    def test_savepoints(self) -> None:
        """Each savepoint takes back its own."""
        with transaction.atomic():
            self.save("Two")
            with self.assertRaises(RuntimeError), transaction.atomic():
                self.save("Three")
                with transaction.atomic():
                    self.save("Four")
                raise RuntimeError
            self.save("Four")
        self.save("Four")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Four")])

    def test_a_veto_twice(self) -> None:
        """A veto that was raised at a block's end is asked again by the same save."""

        def refuse(changes: Sequence[ModelChange]) -> None:
            raise ValueError("no")

        for _ in range(2):
            with self.assertRaises(ValueError), api.atomic_events(None, refuse):
                self.save("Two")
        self.save("Two")
        self.assertEqual(self.seen(), [("One", "Two")])

    def test_deleted(self) -> None:
        """What is deleted has the values that its row had."""
        with self.assertRaises(RuntimeError), transaction.atomic():
            self.save("Two")
            raise RuntimeError
        self.post.delete()
        (change,) = self.told()
        self.assertEqual(change.old["title"], "One")

    def test_pickled(self) -> None:
        """An instance may be put into a cache, in the middle of a transaction, too."""
        with transaction.atomic():
            self.save("Two")
            self.post = pickle.loads(pickle.dumps(self.post))
        self.post = pickle.loads(pickle.dumps(self.post))
        self.save("Three")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Three")])

    def test_savepoints_by_hand(self) -> None:
        """What Django drops nothing for, as it made no block, is taken back all the same."""
        with transaction.atomic():
            self.save("Two")
            savepoint = connection.savepoint()
            self.save("Three")
            with transaction.atomic():
                self.save("Four")
            transaction.savepoint_rollback(savepoint)
            self.save("Three")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Three")])

    def test_saved_after_the_commit(self) -> None:
        """A callback that comes before what is known of the commit sees the row as it is."""
        with transaction.atomic():
            transaction.on_commit(lambda: self.save("Three"))
            self.save("Two")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Three")])

    def test_a_callback_that_raises(self) -> None:
        """A callback that keeps all others from being called undoes nothing."""

        def fail() -> None:
            raise ValueError("boom")

        with self.assertRaisesRegex(ValueError, "boom"), transaction.atomic():
            transaction.on_commit(fail)
            self.save("Two")
        self.save("Three")
        self.assertEqual(self.seen(), [("One", "Two"), ("Two", "Three")])

    def test_many_savepoints(self) -> None:
        """What is kept for the end of a transaction is not gone through again by each save."""
        with transaction.atomic():
            connection.run_on_commit = kept = Counted()
            for number in range(50):
                with transaction.atomic():
                    self.save(str(number))
            self.assertLessEqual(kept.looked_at, len(kept))
        self.assertEqual(len(self.told()), 50)

    def test_many_saves(self) -> None:
        """However many there are in a transaction, it does not grow with them."""
        with transaction.atomic():
            for number in range(20):
                self.save(str(number))
            self.assertLess(len(connection.run_on_commit), 5)
        self.assertEqual(len(self.told()), 20)


class FixtureTests(DjangoCase):
    """What is loaded from fixtures was told of elsewhere."""

    def test_raw(self) -> None:
        """Neither rows nor many-to-many lists of fixtures are told, nor go through sources."""
        told = self.listen(Post)
        api.register_model_event_source(
            sender=Post, source=lambda post: [api.event("post_saved", post.pk)]
        )
        text = (
            '[{"model": "blog.tag", "pk": 1, "fields": {"name": "a"}},'
            ' {"model": "blog.post", "pk": 1, "fields": {"title": "One", "tags": [1]}}]'
        )
        for each in serializers.deserialize("json", text):
            each.save()
        self.assertEqual((told(), keys()), ([], set()))
        post = Post.objects.get(pk=1)
        self.assertEqual(post.tags.count(), 1)
        post.tags.clear()
        self.assertEqual([change.changed for change in told()], [frozenset({"tags"})])


class CascadeTests(DjangoCase):
    """What is deleted, or changed, with something else."""

    def test_cascade(self) -> None:
        """A row that goes with another is told as deleted."""
        told = self.listen(Note)
        author = Author.objects.create(name="ann")
        note = Note.objects.create(author=author, text="hello")
        told()
        id = note.pk
        author.delete()
        (change,) = told()
        self.assertEqual((change.id, change.action, change.old["text"]), (id, "deleted", "hello"))

    def test_set_null(self) -> None:
        """A row whose foreign key is emptied, for which Django has no signal, is told."""
        told = self.listen(Post)
        author, other = (Author.objects.create(name=name) for name in ("ann", "bob"))
        posts = [Post.objects.create(title=name, author=author) for name in "ab"]
        Post.objects.create(title="c", author=other)
        told()
        id = author.pk
        author.delete()
        changes = told()
        self.assertEqual({change.id for change in changes}, {post.pk for post in posts})
        for change in changes:
            self.assertEqual((change.action, change.changed), ("modified", {"author_id"}))
            self.assertEqual((change.old["author_id"], change.new["author_id"]), (id, None))

    def test_set_null_of_what_is_not_watched(self) -> None:
        """A key that is among the columns no more is emptied, and nobody is told."""
        told = self.listen(Post)
        api.watch(Post, columns=["title"])
        author = Author.objects.create(name="ann")
        Post.objects.create(title="One", author=author)
        told()
        author.delete()
        self.assertEqual((told(), Post.objects.get().author), ([], None))

    def test_set_null_twice(self) -> None:
        """Two keys of one row that are emptied are two changes, each with its own column."""
        told = self.listen(Post)
        ann, bob = (Author.objects.create(name=name) for name in ("ann", "bob"))
        Post.objects.create(title="One", author=ann, editor=bob)
        told()
        Author.objects.all().delete()
        changed = sorted(sorted(change.changed) for change in told())
        self.assertEqual(changed, [["author_id"], ["editor_id"]])

    def test_set_null_in_a_queryset(self) -> None:
        """It is told once for each row, where several are deleted at once."""
        told = self.listen(Post)
        for name in ("ann", "bob"):
            Post.objects.create(title=name, author=Author.objects.create(name=name))
        told()
        Author.objects.all().delete()
        self.assertEqual(sorted(change.old["title"] for change in told()), ["ann", "bob"])


class AutocommitTests(CommittingCase):
    """Outside of a transaction, where Django commits before it sends post_save."""

    def test_each_save_is_a_transaction(self) -> None:
        """A watched model's post_save is sent within a transaction, others' is not."""
        seen: dict[type, bool] = {}

        def note(sender: type, **_: object) -> None:
            seen[sender] = connection.in_atomic_block

        self.listen(Post)
        for sender in (Post, Tag):
            signals.post_save.connect(note, sender=sender)
            self.addCleanup(signals.post_save.disconnect, note, sender=sender)
        Post.objects.create(title="One")
        Tag.objects.create(name="a")
        self.assertEqual(seen, {Post: True, Tag: False})

    def test_a_receiver_that_raises(self) -> None:
        """The row goes with what its receivers raise, and the event, too."""
        api.register_model_event_source(
            sender=Post, source=lambda post: [api.event("post_saved", post.pk)]
        )

        def refuse(**_: object) -> None:
            raise ValueError("no")

        signals.post_save.connect(refuse, sender=Post)
        self.addCleanup(signals.post_save.disconnect, refuse, sender=Post)
        with self.assertRaisesRegex(ValueError, "no"):
            Post.objects.create(title="One")
        self.assertEqual((Post.objects.count(), keys()), (0, set()))

    def test_a_source_that_raises(self) -> None:
        """A source that fails undoes the save: nothing is there without its events."""

        def source(post: Post) -> list[api.Event]:
            raise RuntimeError("the source is broken")

        api.register_model_event_source(sender=Post, source=source)
        with self.assertRaisesRegex(RuntimeError, "broken"):
            Post.objects.create(title="One")
        self.assertEqual(Post.objects.count(), 0)

    def test_one_transaction(self) -> None:
        """A save and its events are in the database together."""
        api.register_model_event_source(
            sender=Post, source=lambda post: [api.event("post_saved", post.pk)]
        )
        post = Post.objects.create(title="One")
        self.assertEqual(keys(), {f"10:post_saved{post.pk}"})
        with self.assertRaises(IntegrityError):
            Post.objects.create(pk=post.pk, title="Two")
        self.assertEqual(len(keys()), 1)

    def test_savepoint(self) -> None:
        """What a savepoint takes back, it takes back with its events."""
        told = self.listen(Post)
        with transaction.atomic():
            Post.objects.create(title="One")
            with self.assertRaises(RuntimeError), transaction.atomic():
                Post.objects.create(title="Two")
                raise RuntimeError
            Post.objects.create(title="Three")
        self.assertEqual([change.new["title"] for change in told()], ["One", "Three"])

    def test_other_database(self) -> None:
        """Elsewhere than in the ledger's database events wait in the outbox."""
        from oni.sources.django.models import OutboxEvent

        api.register_model_event_source(
            sender=Post, source=lambda post: [api.event("post_saved", post.pk)]
        )
        with self.assertRaises(RuntimeError), transaction.atomic(using="other"):
            Post.objects.using("other").create(title="Never")
            raise RuntimeError
        post = Post.objects.using("other").create(title="One")
        waiting = OutboxEvent.objects.using("other").values_list("key", flat=True)
        self.assertEqual(list(waiting), [f"10:post_saved{post.pk}"])
        self.assertEqual(keys(), set())
