"""Watchers whose settings say of which models they hear."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import WatcherNameError
from oni.sources import EventSources
from oni.values import Committed, ModelChange
from oni.watchers import _configure, make_model_watcher, watch_configured
from tests.watchers.test_watchers import Recorder

HERE = f"{__name__}.Hears"
CHANGE = ModelChange("blog.Post", 7, "created")


class Hears(Recorder):
    """Is what the settings name.

    Attributes:
        all: What all of them have heard.
    """

    all: list[Any] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(lambda *said: self.all.append(said))


class ConfiguredTests(SynchronousTestCase):
    """``watch_configured``."""

    def setUp(self) -> None:
        """Hear nothing yet."""
        self.sources = EventSources()
        self.patch(Hears, "all", [])

    def test_both_forms(self) -> None:
        """A TOML table and an .ini file's lines say the same; who has no models is left alone."""
        table = {
            "watchers": {
                "notify": {"imodeleventwatcher": HERE, "models": ["blog.Post", "blog.Idea"]},
                "index": {"imodeleventwatcher": HERE, "models": ["blog.Post"], "threaded": True},
                "web": HERE,
                "mail": {"imodeleventwatcher": "nobody.Knows"},
            }
        }
        ini = {
            "notify.imodeleventwatcher": HERE,
            "notify.models": "blog.Post\n    blog.Idea",
            "index.imodeleventwatcher": HERE,
            "index.models": "blog.Post",
            "index.threaded": "true",
            "web.imodeleventwatcher": HERE,
            "web.threaded": "no",
        }
        for settings in (table, ini):
            sources = EventSources()
            names = watch_configured(sources, settings)
            expected = ["notify.blog.Post", "notify.blog.Idea", "index.blog.Post"]
            self.assertEqual(expected, list(names))
            threaded = [handler.name for handler in sources.handlers() if handler.threaded]
            self.assertEqual(["index.blog.Post"], threaded)

    def test_who_is_told(self) -> None:
        """It is the watcher that the settings name; the process's own one is another matter."""
        self.patch(_configure, "_chosen", chosen := [])
        watch_configured(
            self.sources, {"watchers": {"a": {"imodeleventwatcher": HERE, "models": "blog.Post"}}}
        )
        [event] = self.sources.change_events([CHANGE])
        self.sources.handlers()[0].function(event)
        self.assertEqual([("blog.Post", "created", 7)], Hears.all)
        self.assertEqual([], chosen)

    def test_direct(self) -> None:
        """One that is told directly is, in whichever process has these settings."""
        settings = {
            "web.imodeleventwatcher": "oni.watchers.DirectModelEventWatcher",
            "web.directmodelwatcher": HERE,
            "web.models": "blog.Post",
        }
        self.assertEqual([], list(watch_configured(self.sources, settings)))
        self.sources.tell_directly([Committed(CHANGE)])
        self.assertEqual([("blog.Post", "created", 7)], Hears.all)

    def test_nobody_hears(self) -> None:
        """Models for which nobody is named are an error: nobody would be told of them."""
        table = {"watchers": {"a": {"models": ["blog.Post"]}}}
        ini = {"a.imodeleventwatcher": "", "a.models": "blog.Post"}
        for settings in (table, ini):
            error = self.assertRaises(WatcherNameError, watch_configured, self.sources, settings)
            self.assertEqual("a", error.name)

    def test_direct_has_no_thread(self) -> None:
        """One that is told by who has committed is called there, whatever else is said."""
        settings = {
            "web.imodeleventwatcher": "oni.watchers.DirectModelEventWatcher",
            "web.directmodelwatcher": HERE,
            "web.models": "blog.Post",
            "web.threaded": "true",
        }
        error = self.assertRaises(WatcherNameError, watch_configured, self.sources, settings)
        self.assertEqual("web.threaded", error.name)

    def test_named_twice(self) -> None:
        """A model that stands there twice is heard of once."""
        settings = {"a.imodeleventwatcher": HERE, "a.models": "blog.Post blog.Post"}
        self.assertEqual(["a.blog.Post"], list(watch_configured(self.sources, settings)))

    def test_wrong(self) -> None:
        """What is wrong is named."""
        wrong = {"a.imodeleventwatcher": HERE, "a.models": "blog.Post", "a.threaded": "maybe"}
        error = self.assertRaises(WatcherNameError, watch_configured, self.sources, wrong)
        self.assertEqual("a.threaded", error.name)
        number = {"a.imodeleventwatcher": HERE, "a.models": 5}
        error = self.assertRaises(WatcherNameError, watch_configured, self.sources, number)
        self.assertEqual("a.models", error.name)
        unknown = {"a.imodeleventwatcher": "nobody.Knows", "a.models": "blog.Post"}
        self.assertRaises(WatcherNameError, watch_configured, self.sources, unknown)
        error = self.assertRaises(WatcherNameError, make_model_watcher, "b", wrong)
        self.assertEqual(("a",), error.known)
