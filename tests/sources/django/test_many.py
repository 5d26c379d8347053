"""Many-to-many fields."""

from __future__ import annotations

from oni.values import ModelChange
from tests.django_project.blog.models import Author, Person, Post, Tag
from tests.sources.django.case import DjangoCase


class ManyTests(DjangoCase):
    """The list of a row, before and afterwards."""

    def setUp(self) -> None:
        """Have a post and tags."""
        super().setUp()
        self.told = self.listen(Post)
        self.post = Post.objects.create(title="One")
        self.a, self.b, self.c = (Tag.objects.create(name=name) for name in "abc")
        self.told()

    def lists(self) -> list[tuple[object, list[int], list[int]]]:
        """Give what was told: row, old list, new list."""
        return [_lists(change) for change in self.told()]

    def test_add(self) -> None:
        """What is added is new; what was there already is no change."""
        self.post.tags.add(self.a, self.b)
        self.post.tags.add(self.b)
        self.post.tags.add(self.c)
        a, b, c = self.a.pk, self.b.pk, self.c.pk
        id = self.post.pk
        self.assertEqual(self.lists(), [(id, [], [a, b]), (id, [a, b], [a, b, c])])

    def test_remove(self) -> None:
        """What is removed is in the old list only."""
        self.post.tags.set([self.a, self.b])
        self.told()
        self.post.tags.remove(self.a, self.c)
        self.assertEqual(self.lists(), [(self.post.pk, [self.a.pk, self.b.pk], [self.b.pk])])

    def test_clear(self) -> None:
        """For clear, Django names nobody: the list is read before."""
        self.post.tags.set([self.a, self.b])
        self.told()
        self.post.tags.clear()
        self.post.tags.clear()
        self.assertEqual(self.lists(), [(self.post.pk, [self.a.pk, self.b.pk], [])])

    def test_from_the_other_end(self) -> None:
        """It is told of the rows that have the field, whichever end it is changed from."""
        other = Post.objects.create(title="Two")
        self.told()
        ids = [self.post.pk, other.pk]
        self.a.post_set.add(self.post, other)
        self.assertEqual(sorted(self.lists()), [(id, [], [self.a.pk]) for id in ids])
        self.a.post_set.remove(other)
        self.assertEqual(self.lists(), [(other.pk, [self.a.pk], [])])
        self.a.post_set.clear()
        self.assertEqual(self.lists(), [(self.post.pk, [self.a.pk], [])])

    def test_not_watched(self) -> None:
        """A field that is not among the columns is not told."""
        told = self.listen_again()
        self.post.tags.add(self.a)
        self.assertEqual(told(), [])

    def listen_again(self) -> object:
        """Watch titles only."""
        from oni.sources.django import api

        api.watch(Post, columns=["title"])
        return self.told

    def test_symmetrical(self) -> None:
        """Where a field goes both ways, both rows are told."""
        told = self.listen(Person)
        ann, bob = (Person.objects.create(name=name) for name in ("ann", "bob"))
        told()
        ann.friends.add(bob)
        expected = [(ann.pk, [], [bob.pk]), (bob.pk, [], [ann.pk])]
        self.assertEqual(sorted(map(_lists, told())), expected)
        bob.friends.clear()
        expected = [(ann.pk, [bob.pk], []), (bob.pk, [ann.pk], [])]
        self.assertEqual(sorted(map(_lists, told())), expected)

    def test_deleted_with_a_row(self) -> None:
        """Links that go with a tag are not told: nobody says so. The how-to says this."""
        self.post.tags.add(self.a)
        self.told()
        self.a.delete()
        self.assertEqual(self.lists(), [])
        self.assertFalse(Author.objects.exists())


def _lists(change: ModelChange) -> tuple[object, list[int], list[int]]:
    (name,) = change.changed
    return change.id, change.old[name], change.new[name]
