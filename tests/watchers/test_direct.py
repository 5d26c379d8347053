"""The direct scenario: watchers that are called by the thread that has committed."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher
from zope.component.globalregistry import BaseGlobalComponents
from zope.interface.verify import verifyObject

from oni.errors import InvalidHandlerError, WatcherNameError, WatchersFailedError
from oni.interfaces import IModelEventWatcher
from oni.watchers import (
    BaseModelEventWatcher,
    CompositeModelEventWatcher,
    DirectModelEventWatcher,
    MethodModelEventWatcher,
    ThreadedModelEventWatcher,
    _configure,
    configure_model_watcher,
    watch_models,
)
from tests.sources.sqlalchemy_case import Author, BlogCase, Post
from tests.watchers.test_watchers import Recorder, tell_all

MODEL = "tests.sources.sqlalchemy_case.Post"


class Notifications:
    """As the seed's: its methods are named after models."""

    heard: list[Any] = []  # noqa: RUF012

    def processPostCreated(self, id: int, title: str) -> None:
        """Hear of a post."""
        self.heard.append((id, title))


class Fails:
    """As the seed's, and cannot do it."""

    def processPostCreated(self, id: int) -> None:
        """Fail."""
        raise ValueError("not now")


class DirectTests(BlogCase):
    """Watchers of a real database, without a ledger that delivers."""

    def setUp(self) -> None:
        """Watch posts."""
        super().setUp()
        self.watch([Post])

    def test_told_after_the_commit(self) -> None:
        """In the committing thread, before its commit has returned, and with the details."""
        told: list[Any] = []

        class Watcher(BaseModelEventWatcher):
            def modified(self, model: str, id: Any, details: Any) -> None:
                told.append((model, id, details["new"]["title"], details["old"]["title"]))
                told.append((details["changed"], details["using"], "key" in details))

        self.assertEqual(
            [], watch_models(self.blog.sources, [Post], DirectModelEventWatcher(Watcher()))
        )
        self.add(Post(id=1, title="a"))
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "b"
            session.flush()
            self.assertEqual([], told)
        self.assertEqual([(MODEL, 1, "b", "a"), (["title", "touched"], "", False)], told)

    def test_every_action(self) -> None:
        """Whatever becomes of a row, and nothing that is done in bulk."""
        watcher = Recorder()
        watch_models(self.blog.sources, [Post], DirectModelEventWatcher(watcher))
        self.add(Post(id=1, title="a"))
        with self.blog.sessions.begin() as session:
            session.get_one(Post, 1).title = "b"
        with self.blog.sessions.begin() as session:
            session.delete(session.get_one(Post, 1))
        self.assertEqual(
            [(MODEL, "created", 1), (MODEL, "modified", 1), (MODEL, "deleted", 1)], watcher.heard
        )

    def test_one_of_three_fails(self) -> None:
        """Two are done; the third is logged, and told again by nobody. The request goes on."""

        def fails(*said: Any) -> None:
            raise ValueError("not now")

        good, bad, last = Recorder(), Recorder(fails), Recorder()
        several = CompositeModelEventWatcher(good, CompositeModelEventWatcher(bad, last))
        watch_models(self.blog.sources, [Post], DirectModelEventWatcher(several))
        session = self.blog.sessions()
        self.addCleanup(session.close)
        session.add(Post(id=1, title="a"))
        session.commit()
        self.assertEqual([1, 1, 1], [len(each.heard) for each in (good, bad, last)])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        session.add(Post(id=2, title="b"))
        session.commit()
        self.assertEqual([2, 2, 2], [len(each.heard) for each in (good, bad, last)])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_it_may_write(self) -> None:
        """It is in no flush and no transaction: a session of its own does what it likes."""

        def write(model: str, action: str, id: int) -> None:
            with self.blog.sessions.begin() as own:
                own.add(Author(name=own.get_one(Post, id).title))

        watch_models(self.blog.sources, [Post], DirectModelEventWatcher(Recorder(write)))
        self.add(Post(id=1, title="a"))
        self.assertEqual([("a",)], self.blog.rows("SELECT name FROM author"))

    def test_beside_one_of_the_ledger(self) -> None:
        """One part of several may be direct, and the others not."""
        direct, kept = Recorder(), Recorder()
        both = CompositeModelEventWatcher(DirectModelEventWatcher(direct), kept)
        self.assertEqual(
            [f"notify.1.{MODEL}"],
            list(watch_models(self.blog.sources, [Post], both, name="notify")),
        )
        self.add(Post(id=1, title="a"))
        self.assertEqual(([(MODEL, "created", 1)], []), (direct.heard, kept.heard))
        names = self.blog.rows("SELECT handler FROM oni_delivery ORDER BY handler")
        self.assertIn((f"notify.1.{MODEL}",), names)

    def test_passes_on(self) -> None:
        """Called by itself it is the watcher that it was made of."""
        watcher = Recorder(lambda *said: "done")
        direct = DirectModelEventWatcher(watcher)
        self.assertTrue(verifyObject(IModelEventWatcher, direct))
        self.assertEqual(["done"] * 3, tell_all(direct))
        self.assertEqual(["created", "modified", "deleted"], [said[1] for said in watcher.heard])

    def test_failed_as_a_whole(self) -> None:
        """What hides several watchers fails as one; that is logged, too."""

        class Several(CompositeModelEventWatcher):
            """Is not taken apart."""

        def fails(*said: Any) -> None:
            raise ValueError("not now")

        several = Several(Recorder(fails), Recorder())
        watch_models(self.blog.sources, [Post], DirectModelEventWatcher(several))
        self.add(Post(id=1, title="a"))
        self.assertEqual(1, len(self.flushLoggedErrors(WatchersFailedError)))

    def test_who_has_to_be_waited_for(self) -> None:
        """It is refused where that can be seen, and else logged when it happens."""

        class Later(BaseModelEventWatcher):
            async def created(self, model: str, id: Any, details: Any) -> None:
                """Is not waited for."""

        threaded = ThreadedModelEventWatcher(Recorder())
        for wrong in (Later(), threaded, CompositeModelEventWatcher(Recorder(), threaded)):
            self.assertRaises(InvalidHandlerError, DirectModelEventWatcher, wrong)
        unseen = Recorder(lambda *said: Deferred())
        watch_models(self.blog.sources, [Post], DirectModelEventWatcher(unseen))
        self.add(Post(title="a"))
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))


class SettingsTests(BlogCase):
    """Direct, because the settings say so."""

    def setUp(self) -> None:
        """Begin with nothing configured."""
        super().setUp()
        self.patch(_configure, "_chosen", [])

    def configure(self, settings: Any) -> Any:
        """Choose a watcher."""
        return configure_model_watcher(BaseGlobalComponents("tested"), "assembl", settings)

    def test_chosen(self) -> None:
        """In either form of settings."""
        self.patch(Notifications, "heard", [])
        here = f"{__name__}.Notifications"
        ini = {
            "assembl.imodeleventwatcher": "oni.watchers.DirectModelEventWatcher",
            "assembl.directmodelwatcher": here,
        }
        table = {key.partition(".")[2]: value for key, value in ini.items()}
        for settings in (ini, {"watchers": {"assembl": table}}):
            chosen = self.configure(settings)
            self.assertIsInstance(chosen, DirectModelEventWatcher)
            self.assertIsInstance(chosen.watcher, MethodModelEventWatcher)
        self.watch([Post])
        watch_models(self.blog.sources, [Post], chosen)
        self.add(Post(id=1, title="a"))
        self.assertEqual([(1, "a")], Notifications.heard)

    def test_named_in_the_log(self) -> None:
        """A class that failed is named, and not what called it."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.watch([Post])
        watcher = DirectModelEventWatcher(MethodModelEventWatcher(Fails()))
        watch_models(self.blog.sources, [Post], watcher)
        self.add(Post(id=1, title="a"))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        [line] = [formatEvent(each) for each in said if "log_failure" in each]
        self.assertIn(f"of {__name__}.Fails> failed with {MODEL} 1, which was created", line)

    def test_around_nobody(self) -> None:
        """It is said where nobody is named."""
        error = self.assertRaises(
            WatcherNameError,
            self.configure,
            {"assembl.imodeleventwatcher": "oni.watchers.DirectModelEventWatcher"},
        )
        self.assertEqual("assembl.directmodelwatcher", error.name)
