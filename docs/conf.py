"""How Sphinx builds the documentation, and the API's pages from the public modules."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import django
from django.conf import settings
from sphinx.application import Sphinx

import oni

# Django's models can only be imported with settings.
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "oni.sources.django",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()

project = "Oni"
author = "The Oni developers"
release = version = oni.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.zopeext.autointerface",
]
exclude_patterns = ["_build"]
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "Events for Twisted, phase by phase", "page_width": "1100px"}
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

API = Path(__file__).parent / "reference" / "api"
DOOR = "oni.twisted_event_dispatcher"
DJANGO = ["oni", "sources", "django"]
FOUND_BY_DJANGO = {"admin", "apps", "management", "migrations", "models"}


def public_modules() -> list[str]:
    """Give the dotted name of every public module, the door first."""
    found = pkgutil.walk_packages(oni.__path__, "oni.", onerror=lambda name: None)
    names = [item.name for item in found if _is_told(item.name.split("."))]
    return sorted(names, key=lambda name: (name != DOOR, name))


def _is_told(parts: list[str]) -> bool:
    """Say whether a module is told of: not if it is private, or there for Django to find."""
    private = any(part[0] == "_" for part in parts)
    return not private and not (parts[:3] == DJANGO and {*parts[3:]} & FOUND_BY_DJANGO)


def told_elsewhere(name: str) -> str:
    """Give those names of a module that another public one tells of, which holds them."""
    if name == DOOR:
        return ""
    public = set(public_modules())
    module = importlib.import_module(name)
    found = []
    for each in module.__all__:
        home = getattr(getattr(module, each), "__module__", None) or name
        while home and home not in public:
            home = home.rpartition(".")[0]
        if home not in ("", name) and each in importlib.import_module(home).__all__:
            found.append(each)
    return ", ".join(found)


def write_api_pages() -> None:
    """Write one page for each public module; each tells what its ``__all__`` names."""
    API.mkdir(exist_ok=True)
    wanted = {}
    for name in public_modules():
        title = f"``{name}``"
        # What the door hands on is told where it is at home, and named here.
        index = "   :no-index:\n" if name == DOOR else ""
        others = told_elsewhere(name)
        excluded = f"   :exclude-members: {others}\n" if others else ""
        wanted[API / f"{name}.rst"] = (
            f"{title}\n{'=' * len(title)}\n\n"
            f".. automodule:: {name}\n   :imported-members:\n   :members:\n{index}{excluded}"
        )
    for path in set(API.glob("*.rst")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


write_api_pages()


def interface_signatures() -> dict[str, tuple[str, str]]:
    """Give arguments and result of every interface's method as they are written.

    zope.interface keeps no keyword-only arguments, so what it says of them is wrong.
    """
    source = Path(oni.__path__[0], "interfaces.py").read_text(encoding="utf-8")
    return {
        f"oni.interfaces.{interface.name}.{method.name}": (
            f"({ast.unparse(method.args)})",
            ast.unparse(method.returns) if method.returns else "",
        )
        for interface in ast.parse(source).body
        if isinstance(interface, ast.ClassDef)
        for method in interface.body
        if isinstance(method, ast.FunctionDef)
    }


def setup(app: Sphinx) -> None:
    """Show interfaces' methods with their own signatures."""
    signatures = interface_signatures()

    def signature_of(
        app: Sphinx, what: str, name: str, item: object, options: object, old: str, returns: str
    ) -> tuple[str, str] | None:
        return signatures.get(name)

    app.connect("autodoc-process-signature", signature_of)
