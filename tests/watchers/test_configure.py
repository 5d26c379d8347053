"""Which watcher a process has."""

from __future__ import annotations

import configparser
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.component.globalregistry import BaseGlobalComponents

from oni.errors import WatcherNameError
from oni.interfaces import IModelEventWatcher
from oni.watchers import (
    BaseModelEventWatcher,
    CompositeModelEventWatcher,
    MethodModelEventWatcher,
    NoopModelEventWatcher,
    ThreadedModelEventWatcher,
    _configure,
    configure_model_watcher,
    get_model_watcher,
    settings_from_ini,
)

INI = f"""\
[app:assembl]
assembl.imodeleventwatcher = oni.watchers.NoopModelEventWatcher
notification_dispatch.imodeleventwatcher =
    oni.watchers.BaseModelEventWatcher
    oni.watchers.NoopModelEventWatcher
changes.socket = tcp://*:9000

[celery]
broker_task.imodeleventwatcher = {__name__}.Notifications
"""


class Notifications:
    """Has methods as the watchers of a program that was there before."""

    def processPostCreated(self, id: int) -> None:
        """Hear of a post."""


class Chosen:
    """Is made from settings."""

    made_with: Any = None

    @classmethod
    def from_settings(cls, settings: Any, task_name: str) -> Any:
        """Keep what it is made with."""
        cls.made_with = settings, task_name
        return BaseModelEventWatcher()


def needs(argument: object) -> None:
    """Cannot be made without something."""


class Misnamed:
    """Would never be called."""

    def processPostUpdated(self, id: int) -> None:
        """Is for no action."""


class Away(Notifications):
    """Cannot be made now."""

    def __init__(self) -> None:
        raise OSError("no database")


class ConfigureTests(SynchronousTestCase):
    """A process says its name."""

    def setUp(self) -> None:
        """Begin with nothing configured."""
        self.patch(_configure, "_chosen", [])
        self.registry: Any = BaseGlobalComponents("scratch")
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.ini = Path(folder, "watchers.ini")
        self.ini.write_text(INI, encoding="utf-8")

    def test_one(self) -> None:
        """The process's one is registered, also by its name, and given."""
        made = configure_model_watcher(self.registry, "assembl", settings_from_ini(self.ini))
        self.assertIsInstance(made, NoopModelEventWatcher)
        self.assertIs(made, get_model_watcher())
        self.assertIs(made, self.registry.getUtility(IModelEventWatcher))
        name = "oni.watchers.NoopModelEventWatcher"
        self.assertIs(made, self.registry.getUtility(IModelEventWatcher, name))

    def test_several(self) -> None:
        """Several are one."""
        settings = settings_from_ini(self.ini, "app:assembl")
        made = configure_model_watcher(self.registry, "notification_dispatch", settings)
        self.assertIsInstance(made, CompositeModelEventWatcher)
        kinds = [type(watcher) for watcher in made.watchers]
        self.assertEqual([BaseModelEventWatcher, NoopModelEventWatcher], kinds)
        name = "oni.watchers.BaseModelEventWatcher"
        self.assertIs(made.watchers[0], self.registry.getUtility(IModelEventWatcher, name))

    def test_methods(self) -> None:
        """A class with methods named after models works as it is."""
        made = configure_model_watcher(self.registry, "broker_task", settings_from_ini(self.ini))
        self.assertIsInstance(made, MethodModelEventWatcher)

    def test_settings_of_the_registry(self) -> None:
        """As Pyramid's registries have them."""
        self.registry.settings = settings_from_ini(self.ini)
        made = configure_model_watcher(self.registry, "assembl")
        self.assertIsInstance(made, NoopModelEventWatcher)

    def test_toml(self) -> None:
        """A table of TOML, with a name or several."""
        settings = {
            "watchers": {
                "web": "oni.watchers.NoopModelEventWatcher",
                "worker": [
                    "oni.watchers.BaseModelEventWatcher",
                    "oni.watchers.NoopModelEventWatcher",
                ],
            }
        }
        self.assertIsInstance(
            configure_model_watcher(self.registry, "web", settings), NoopModelEventWatcher
        )
        self.assertIsInstance(
            configure_model_watcher(self.registry, "worker", settings),
            CompositeModelEventWatcher,
        )

    def test_threaded(self) -> None:
        """One in a thread says around whom it is, in either form."""
        here = f"{__name__}.Notifications"
        for settings in (
            {
                "web.imodeleventwatcher": "oni.watchers.ThreadedModelEventWatcher",
                "web.threadedmodelwatcher": here,
            },
            {
                "watchers": {
                    "web": {
                        "imodeleventwatcher": ["oni.watchers.ThreadedModelEventWatcher"],
                        "threadedmodelwatcher": here,
                    }
                }
            },
        ):
            made = configure_model_watcher(self.registry, "web", settings)
            self.assertIsInstance(made, ThreadedModelEventWatcher)
            self.assertIsInstance(made.watcher.target, Notifications)
        several = {**settings["watchers"]["web"], "threadedmodelwatcher": [here, here]}
        made = configure_model_watcher(self.registry, "web", {"watchers": {"web": several}})
        self.assertEqual(2, len(made.watcher.watchers))

    def test_threaded_around_nobody(self) -> None:
        """It is said where nothing is said."""
        settings = {"web.imodeleventwatcher": "oni.watchers.ThreadedModelEventWatcher"}
        error = self.assertRaises(
            WatcherNameError, configure_model_watcher, self.registry, "web", settings
        )
        self.assertEqual("web.threadedmodelwatcher", error.name)

    def test_from_settings(self) -> None:
        """A watcher may be made from the settings."""
        settings = {"web.imodeleventwatcher": f"{__name__}.Chosen"}
        configure_model_watcher(self.registry, "web", settings)
        self.assertEqual((settings, "web"), Chosen.made_with)

    def test_unknown_task(self) -> None:
        """The error lists the known ones."""
        settings = settings_from_ini(self.ini)
        error = self.assertRaises(
            WatcherNameError, configure_model_watcher, self.registry, "web", settings
        )
        self.assertEqual(("assembl", "broker_task", "notification_dispatch"), error.known)
        self.assertIn("they know assembl, broker_task, notification_dispatch", str(error))
        error = self.assertRaises(WatcherNameError, configure_model_watcher, self.registry, "web")
        self.assertIn("they know none", str(error))

    def test_what_cannot_be(self) -> None:
        """Names of nothing, and of what is no watcher; the old one stays."""
        before = get_model_watcher()
        for name, why in (
            ("nowhere.at.all", "cannot be found"),
            ("oni.watchers.Nobody", "cannot be found"),
            ("Bare", "cannot be found"),
            ("builtins.dict", "is no IModelEventWatcher"),
            (f"{__name__}.Misnamed", "has no methods like processPostCreated"),
            (f"{__name__}.needs", "cannot be made"),
            (f"{__name__}.Away", "cannot be made: OSError: no database"),
            (5, "expected a name, or a list of names, not 5"),
            ([f"{__name__}.Notifications", " "], "expected a name, or a list of names, not ' '"),
        ):
            error = self.assertRaises(
                WatcherNameError,
                configure_model_watcher,
                self.registry,
                "web",
                {"web.imodeleventwatcher": name},
            )
            self.assertIn(why, str(error))
        self.assertIs(before, get_model_watcher())

    def test_sections(self) -> None:
        """One section, or all; none that is not there."""
        self.assertNotIn("changes.socket", settings_from_ini(self.ini, "celery"))
        self.assertEqual("tcp://*:9000", settings_from_ini(self.ini)["changes.socket"])
        self.assertRaises(configparser.NoSectionError, settings_from_ini, self.ini, "nowhere")

    def test_default_section(self) -> None:
        """It holds where nothing else is said, wherever that stands, and by itself, too."""
        defaults = "[DEFAULT]\nplace = here\nmode = fast\n"
        for parts in ((defaults, INI, "place = there\n"), (INI, "place = there\n", defaults)):
            self.ini.write_text("".join(parts), encoding="utf-8")
            for section in (None, "celery"):
                settings = settings_from_ini(self.ini, section)
                self.assertEqual(("there", "fast"), (settings["place"], settings["mode"]))
            self.assertEqual("here", settings_from_ini(self.ini, "app:assembl")["place"])
        self.ini.write_text(defaults, encoding="utf-8")
        self.assertEqual({"place": "here", "mode": "fast"}, settings_from_ini(self.ini))

    def test_before(self) -> None:
        """Before anything is configured one is given that logs, and that is said once."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.assertIsInstance(get_model_watcher(), BaseModelEventWatcher)
        get_model_watcher()
        self.assertEqual(1, len([e for e in said if "No model watcher" in e["log_format"]]))

    def test_no_registry(self) -> None:
        """A registry is needed."""
        self.assertRaises(TypeError, configure_model_watcher, SimpleNamespace(), "assembl", {})
