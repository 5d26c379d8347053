"""Models of each kind that the source has to do with."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import models

from oni.sources.django import OniManager


class Author(models.Model):
    """Somebody, whose deletion leaves the posts and takes the notes."""

    name = models.CharField(max_length=100)


class Tag(models.Model):
    """What posts are about."""

    name = models.CharField(max_length=100)


class Post(models.Model):
    """What is watched."""

    title = models.CharField(max_length=100)
    body = models.TextField(default="")
    stars = models.IntegerField(default=0)
    extra = models.JSONField(default=dict)
    author = models.ForeignKey(Author, null=True, on_delete=models.SET_NULL)
    editor = models.ForeignKey(Author, null=True, on_delete=models.SET_NULL, related_name="edited")
    tags = models.ManyToManyField(Tag)

    objects = OniManager()


class Note(models.Model):
    """What goes with its author."""

    text = models.CharField(max_length=100)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)

    objects = OniManager()


class Remark(Note):
    """Another class for the rows of notes, with a manager that tells nobody."""

    plainly = models.Manager()

    class Meta:
        proxy = True


class Plain(models.Model):
    """What has a manager that nobody watches."""

    text = models.CharField(max_length=100)


class Fancy(Plain):
    """What inherits, with a table of its own."""

    color = models.CharField(max_length=100)


class Price(models.Model):
    """What the database computes something of."""

    net = models.IntegerField()
    gross = models.GeneratedField(
        expression=models.F("net") * 2, output_field=models.IntegerField(), db_persist=True
    )


class Token(models.Model):
    """What has a key that is no number."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    text = models.CharField(max_length=100)

    def refresh_from_db(self, **how: Any) -> None:
        """Take less than Django's own."""
        super().refresh_from_db(**how)


class Seat(models.Model):
    """What has a key of two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=2)
    number = models.IntegerField()


class Draft(Post):
    """Another class for the rows of posts."""

    class Meta:
        proxy = True


class Person(models.Model):
    """Somebody with friends, who have friends."""

    name = models.CharField(max_length=100)
    friends = models.ManyToManyField("self")


class Named(models.Model):
    """What others inherit, and has no table."""

    name = models.CharField(max_length=100)

    class Meta:
        abstract = True


class Group(Named):
    """What has a table."""
