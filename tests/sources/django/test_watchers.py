"""Watchers of Django's models, as a project's settings say."""

from __future__ import annotations

from typing import Any

from oni.sources.django import api
from oni.watchers import watch_configured
from tests.django_project.blog.models import Note, Post
from tests.sources.django.case import DjangoCase, deliver_events

HERE = f"{__name__}.Notifications"
SETTINGS = {"watchers": {"notify": {"imodeleventwatcher": HERE, "models": ["blog.Post"]}}}


class Notifications:
    """Its methods are named after models.

    Attributes:
        heard: What it has heard.
    """

    heard: list[Any] = []  # noqa: RUF012

    def processPostCreated(self, id: int, title: str) -> None:
        """Find the post."""
        self.heard.append(("created", Post.objects.get(pk=id).title, title))

    def processPostDeleted(self, id: int, title: str) -> None:
        """Hear what it was."""
        self.heard.append(("deleted", Post.objects.filter(pk=id).count(), title))


class WatcherTests(DjangoCase):
    """``watch_configured`` with a project's event sources."""

    def test_told(self) -> None:
        """The ledger brings it what was committed of the models that its settings name."""
        Notifications.heard.clear()
        self.addCleanup(Notifications.heard.clear)
        for model in (Post, Note):
            api.watch(model)
        self.assertEqual(["notify.blog.Post"], watch_configured(api.event_sources(), SETTINGS))
        post = Post.objects.create(title="One")
        deliver_events()
        post.delete()
        [delivery] = deliver_events()
        self.assertEqual([("created", "One", "One"), ("deleted", 0, "One")], Notifications.heard)
        self.assertEqual(("notify.blog.Post", "done"), (delivery.handler, delivery.state))
