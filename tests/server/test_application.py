"""Finding what the settings name: a configure function and a ZCML file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import SettingsError
from oni.server._application import Application, find_application, find_for_sources
from oni.server._settings_file import settings_from

MODULE = """
async def later(oni): ...
def configure(oni): oni.append("configured")
class Shop:
    @staticmethod
    def configure(oni): oni.append("shop")
number = 3
"""


class FindApplication(SynchronousTestCase):
    """Modules beside the settings file, and clear words where something is missing."""

    def setUp(self) -> None:
        """Make a folder with a module, and forget it afterwards."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        path, modules = list(sys.path), set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - modules])
        self.addCleanup(sys.path.__setitem__, slice(None), path)
        self.write("oni_test_shop.py", MODULE)

    def write(self, name: str, text: str) -> None:
        """Write a file beside the settings."""
        Path(self.folder, name).write_text(text, encoding="utf-8")

    def find(self, **sections: dict[str, str]) -> Application:
        """Find what these settings name."""
        return find_application(settings_from(sections, self.folder))

    def problem(self, **sections: dict[str, str]) -> str:
        """Give the one problem with these settings."""
        (problem,) = self.assertRaises(SettingsError, self.find, **sections).problems
        return problem

    def test_nothing(self) -> None:
        """Settings need not name anything."""
        self.assertEqual(Application(), self.find())

    def test_function(self) -> None:
        """The function is imported from the settings' folder, not called."""
        called: list[str] = []
        for name, says in (("configure", "configured"), ("Shop.configure", "shop")):
            configure = self.find(app={"configure": f"oni_test_shop:{name}"}).configure
            assert configure is not None
            self.assertEqual([], called)
            configure(called)
            self.assertEqual(says, called.pop())

    def test_what_is_installed_comes_first(self) -> None:
        """A file beside the settings does not hide a module of Python's."""
        self.write("json.py", "dumps = None")
        self.assertIsNotNone(self.find(app={"configure": "json:dumps"}).configure)
        self.assertEqual(self.folder, sys.path[-1])

    def test_missing_module(self) -> None:
        """A missing module is named, and where it was looked for."""
        problem = self.problem(app={"configure": "oni_test_missing:configure"})
        self.assertIn("there is no module 'oni_test_missing'", problem)
        self.assertIn(self.folder, problem)

    def test_missing_in_package(self) -> None:
        """Of a dotted name, the part that is missing is named."""
        problem = self.problem(app={"configure": "oni_test_missing.part:configure"})
        self.assertIn("no module 'oni_test_missing'", problem)

    def test_missing_function(self) -> None:
        """A missing function is named, with one that was probably meant."""
        problem = self.problem(app={"configure": "oni_test_shop:configur"})
        self.assertEqual(
            "app.configure: oni_test_shop has no 'configur' (did you mean 'configure'?)", problem
        )

    def test_no_function(self) -> None:
        """What cannot be called, or would only make a coroutine, is refused."""
        for name in ("number", "later"):
            problem = self.problem(app={"configure": f"oni_test_shop:{name}"})
            self.assertIn(f"'{name}' of oni_test_shop is not a plain function", problem)

    def test_errors_of_the_module(self) -> None:
        """What the module itself raises comes out as it is, a missing import too."""
        self.write("oni_test_broken.py", "1 / 0")
        self.write("oni_test_needs.py", "import oni_test_absent")
        with self.assertRaises(ZeroDivisionError):
            self.find(app={"configure": "oni_test_broken:configure"})
        with self.assertRaises(ModuleNotFoundError) as caught:
            self.find(app={"configure": "oni_test_needs:configure"})
        self.assertEqual("oni_test_absent", caught.exception.name)

    def test_zcml(self) -> None:
        """The ZCML file is looked for beside the settings."""
        self.write("shop.zcml", "<configure/>")
        self.assertEqual(
            str(Path(self.folder, "shop.zcml")), self.find(zca={"zcml": "shop.zcml"}).zcml
        )

    def test_no_zcml(self) -> None:
        """A missing file is named with its whole path."""
        self.assertEqual(
            f"zca.zcml: there is no file {Path(self.folder, 'no.zcml')}",
            self.problem(zca={"zcml": "no.zcml"}),
        )

    def test_both(self) -> None:
        """All that is missing is named at once."""
        error = self.assertRaises(
            SettingsError,
            self.find,
            app={"configure": "oni_test_missing:configure"},
            zca={"zcml": "no.zcml"},
        )
        self.assertEqual(2, len(error.problems))

    def test_sources(self) -> None:
        """What [sources] names is looked for as well, each under its own key."""
        self.write("shop_sources.py", "def configure(sources): raise SystemExit\nrows = iter\n")
        ledger = {"url": "memory:"}
        names = {"configure": "shop_sources:configure", "instances": "shop_sources:rows"}
        found = self.find(ledger=ledger, sources=names)
        assert found.configure_sources is not None
        self.assertEqual("configure", found.configure_sources.__name__)
        for key in names:
            problem = self.problem(ledger=ledger, sources={**names, key: "shop_sources:nope"})
            self.assertTrue(problem.startswith(f"sources.{key}: "), problem)
        found_function = find_for_sources(
            settings_from({"ledger": ledger, "sources": names}, self.folder), "instances"
        )
        self.assertIs(iter, found_function)

    def test_django(self) -> None:
        """A Django project's settings are looked for, and not loaded."""
        self.write("shop_settings.py", "raise SystemExit('loaded')\n")
        self.find(sources={"django_settings": "shop_settings"})
        for module in ("shop_nothing", "shop_nothing.settings"):
            problem = self.problem(sources={"django_settings": module})
            self.assertEqual(f"sources.django_settings: there is no module {module!r}", problem)
