"""How instances are named in contexts, and found again."""

from __future__ import annotations

import json
from uuid import uuid4

from zope.interface.verify import verifyObject

from oni.errors import MissingRowError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.sources.django import DjangoReferences
from tests.django_project.blog.models import Draft, Post, Seat, Token
from tests.sources.django.case import DjangoCase


class ReferencesTests(DjangoCase):
    """A reference, as JSON would keep it."""

    def setUp(self) -> None:
        """Have references."""
        super().setUp()
        self.references = DjangoReferences()

    def there_and_back(self, instance: object) -> object:
        """Name an instance, write that, and load what it names."""
        named = json.loads(json.dumps(dict(self.references.refer(instance) or {})))
        return self.references.load(named)

    def test_interface(self) -> None:
        """They are what contexts ask for."""
        verifyObject(IModelReferences, self.references)

    def test_loaded_anew(self) -> None:
        """What comes back is the row as it is now, in another object."""
        post = Post.objects.create(title="One")
        self.assertEqual(
            self.references.refer(post), {"model": "blog.Post", "id": post.pk, "using": "default"}
        )
        Post.objects.update(title="Two")
        found = self.there_and_back(post)
        assert isinstance(found, Post)
        self.assertIsNot(found, post)
        self.assertEqual((found, found.title), (post, "Two"))

    def test_keys_of_all_kinds(self) -> None:
        """UUIDs and keys of two columns are found again; a proxy's instance is the proxy's."""
        for instance in (
            Token.objects.create(id=uuid4(), text="a"),
            Seat.objects.create(row="A", number=7),
            Draft.objects.create(title="One"),
        ):
            with self.subTest(type(instance).__name__):
                found = self.there_and_back(instance)
                self.assertEqual((found, type(found)), (instance, type(instance)))

    def test_database(self) -> None:
        """The database is a part of the name."""
        post = Post.objects.using("other").create(title="One")
        found = self.there_and_back(post)
        assert isinstance(found, Post)
        self.assertEqual(found._state.db, "other")

    def test_others(self) -> None:
        """What is no instance of a model is none of theirs."""
        for value in (None, 1, Post, "blog.Post", object()):
            self.assertIsNone(self.references.refer(value))

    def test_not_saved(self) -> None:
        """An instance that is in no database cannot be named, whether it has a key or not."""
        for instance in (Post(title="One"), Token(text="a"), Seat(row="A", number=1)):
            with self.assertRaisesRegex(UnkeptContextError, "not in the database yet"):
                self.references.refer(instance)

    def test_gone(self) -> None:
        """What is gone is named in the error: a row, a model, a database."""
        post = Post.objects.create(title="One")
        named = dict(self.references.refer(post) or {})
        for change, complaint in (
            ({"id": 7777}, "blog.Post 7777 cannot be loaded: the row is gone"),
            ({"id": "seven"}, "blog.Post 'seven'"),
            ({"model": "blog.Pots"}, "blog.Pots .* there is no such model"),
            ({"using": "third"}, "there is no database 'third'"),
        ):
            with (
                self.subTest(complaint),
                self.assertRaisesRegex(MissingRowError, complaint) as caught,
            ):
                self.references.load(named | change)
            self.assertEqual(caught.exception.id, (named | change)["id"])
