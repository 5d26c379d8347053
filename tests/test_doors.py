"""The public names of Oni: which there are, that they are the real ones, and that they are told.

A public module is one without an underscore in its dotted name. A door is a public module that
only hands on what private modules hold: each room's ``__init__.py``, and
``oni.twisted_event_dispatcher``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from zope.interface.interface import InterfaceClass, Method

from tests.django_project import set_up

set_up()  # models can only be imported then

ROOT = Path(__file__).resolve().parent.parent
DOOR = "oni.twisted_event_dispatcher"


def public_modules() -> dict[str, Path]:
    """Give each public module's dotted name and file."""
    found = {}
    for path in sorted((ROOT / "oni").rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if not any(part.startswith("_") for part in parts):
            found[".".join(parts)] = path
    return found


MODULES = public_modules()
DOORS = {
    name: path
    for name, path in MODULES.items()
    if name != "oni" and (path.name == "__init__.py" or name == DOOR)
}


def own_names(path: Path, name: str) -> set[str]:
    """Give the public names that a module makes: what it defines, or as a door hands on."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    if name in DOORS:
        for statement in handed_on(path):
            names |= {alias.asname or alias.name for alias in statement.names}
    return {name for name in names if not name.startswith("_")}


def handed_on(door: Path) -> list[ast.ImportFrom]:
    """Give a door's imports of our own names; a lazy door's are in a TYPE_CHECKING block."""
    body = ast.parse(door.read_text(encoding="utf-8")).body
    body += [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    return [node for node in body if isinstance(node, ast.ImportFrom) and _is_ours(node)]


def _is_ours(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith("oni.")


def undocumented(value: object, name: str) -> Iterator[str]:
    """Give the dotted names of what has no docstring: a public object, or a method it defines."""
    if isinstance(value, InterfaceClass):
        members = [(key, value.direct(key)) for key in value.names()]
        parts = [(key, item.getDoc()) for key, item in members if isinstance(item, Method)]
        yield from [name] if not value.getDoc() else []
    elif inspect.isclass(value):
        parts = [
            (key, inspect.getdoc(getattr(value, key)))
            for key, member in vars(value).items()
            if not key.startswith("_")
            and isinstance(member, _DOCUMENTED_MEMBERS)
            and _is_of(value, member)
        ]
        yield from [name] if not value.__doc__ else []
    elif inspect.isroutine(value):
        parts = [("", value.__doc__)]
    else:
        return
    yield from (f"{name}.{key}".rstrip(".") for key, text in parts if not text)


def _is_of(owner: type, member: object) -> bool:
    """Say whether a member was written with its class: Django gives an admin's page ``media``."""
    getter = member.fget if isinstance(member, property) else None
    return getter is None or getter.__module__ == owner.__module__


_DOCUMENTED_MEMBERS = (type(lambda: None), property, classmethod, staticmethod)


@pytest.fixture(params=list(MODULES), ids=str)
def public(request: pytest.FixtureRequest) -> ModuleType:
    """Give each public module in turn."""
    return importlib.import_module(request.param)


def test_there_are_doors() -> None:
    """The modules below are really found."""
    assert {"oni", "oni.errors", "oni.interfaces", "oni.values", DOOR} <= set(MODULES)
    assert {DOOR, "oni.dispatcher"} <= set(DOORS)


def test_all_is_complete(public: ModuleType) -> None:
    """``__all__`` names what the module makes, each once, and nothing else."""
    made = own_names(MODULES[public.__name__], public.__name__)
    if public.__name__ == "oni":
        made = {"__version__"}
    assert sorted(public.__all__) == sorted(made)


def test_all_names_exist(public: ModuleType) -> None:
    """Whatever ``__all__`` names can be imported."""
    assert [name for name in public.__all__ if not hasattr(public, name)] == []


def test_public_names_are_documented(public: ModuleType) -> None:
    """The module, each public object and each public method have a docstring."""
    assert public.__doc__
    missing = [
        text for name in public.__all__ for text in undocumented(getattr(public, name), name)
    ]
    assert missing == []


@pytest.mark.parametrize("name", list(DOORS))
def test_a_door_only_hands_on(name: str) -> None:
    """A door is a docstring, imports under their own names, and ``__all__``.

    A lazy one has its imports in a TYPE_CHECKING block, and in ``__getattr__``.
    """
    first, *rest = ast.parse(DOORS[name].read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    for node in rest:
        if isinstance(node, ast.Assign):
            assert ast.unparse(node.targets[0]) == "__all__"
        elif isinstance(node, ast.FunctionDef):
            assert node.name == "__getattr__"
        elif isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING"
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)
    assert all(alias.asname is None for node in handed_on(DOORS[name]) for alias in node.names)


@pytest.mark.parametrize("name", list(DOORS))
def test_public_names_are_the_private_objects(name: str) -> None:
    """What a door gives is the very object that the private module holds."""
    door = importlib.import_module(name)
    for node in handed_on(DOORS[name]):
        source = importlib.import_module(str(node.module))
        for alias in node.names:
            assert getattr(door, alias.name) is getattr(source, alias.name)


class TheDoorTests(unittest.TestCase):
    """``oni.twisted_event_dispatcher``, where users begin."""

    def test_names(self) -> None:
        """It gives the dispatcher, its interfaces and its phases, and they are the real ones."""
        door = importlib.import_module(DOOR)
        homes = {
            "EventDispatcher": "oni.dispatcher",
            "IBackgroundUtility": "oni.interfaces",
            "IEventDispatcher": "oni.interfaces",
            "Phase": "oni.values",
        }
        self.assertLessEqual(set(homes), set(door.__all__))
        for name, home in homes.items():
            self.assertIs(getattr(door, name), getattr(importlib.import_module(home), name))


def test_an_incomplete_all_would_be_found(tmp_path: Path) -> None:
    """A class, a function, a constant and an annotated name that a module makes are all seen."""
    path = tmp_path / "some.py"
    path.write_text(
        "from x import Y\nclass A: ...\ndef b(): ...\n"
        "C = 1\nD: int = 2\n_e = 3\nasync def f(): ..."
    )
    assert own_names(path, "oni.some") == {"A", "b", "C", "D", "f"}


def test_a_missing_docstring_would_be_found() -> None:
    """A class and a method without one are both named."""

    class Bare:
        def method(self) -> None: ...

        def _private(self) -> None: ...

    assert list(undocumented(Bare, "Bare")) == ["Bare", "Bare.method"]
