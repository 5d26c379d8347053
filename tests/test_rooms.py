"""Imports only go down: the arrows between the rooms of Oni, read from its source.

Every import counts: also one inside a function, and one for the type checker alone.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROWS = (
    ("_clock", "_pace", "_tags", "_text"),  # private to the whole house
    ("errors",),
    ("values",),
    ("interfaces",),
    ("dispatcher", "protocol"),
    ("twisted_event_dispatcher",),
    ("signals", "ledger", "blocking", "zca"),
    ("channels", "carriers", "sources", "watchers", "listeners"),
    ("server",),
    ("command", "testing"),
    ("__main__",),
)
PLACE = {room: place for place, row in enumerate(ROWS) for room in row}

DOOR = "twisted_event_dispatcher"
DOOR_MAY_IMPORT = {"dispatcher", "interfaces", "values"}

# An error's attribute may be of a type from the next row; nothing of that happens at run time.
FOR_TYPES_ONLY = {("errors", "values")}

# The modules that each extra of setup.py brings, and the rooms that are its home.
OPTIONAL = {
    "server": ("jwt", "prometheus_client", "click", "rich"),
    "zcml": ("zope.configuration", "zope.schema"),
    "redis": ("redis", "txredisapi"),
    "mongo": ("pymongo", "bson", "gridfs"),
    "nats": ("nats",),
    "sql": ("sqlalchemy",),
    "postgres": ("psycopg",),
    "pyramid": ("pyramid", "transaction", "zope.sqlalchemy"),
    "django": ("django",),
    "celery": ("celery",),
    "aiohttp": ("aiohttp",),
    "sanic": ("sanic",),
}
# The extra "pyramid" has zope.sqlalchemy, and so SQLAlchemy.
HOMES = {"server": {"server", "command"}, "sql": {"pyramid"}}

REACTOR = ("twisted.internet.reactor",)
INPUT_AND_OUTPUT = (
    *REACTOR,
    "autobahn",
    "crochet",
    "http",
    "select",
    "selectors",
    "socket",
    "socketserver",
    "ssl",
    "twisted.application",
    "twisted.internet.endpoints",
    "twisted.internet.protocol",
    "twisted.internet.ssl",
    "twisted.internet.tcp",
    "twisted.internet.udp",
    "twisted.web",
    "urllib.request",
)
WITHOUT_INPUT_AND_OUTPUT = {"errors", "values", "interfaces", "dispatcher", "protocol", DOOR}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        importer: The dotted name of the importing module.
        target: The dotted name of what is imported, as far as it is written.
        line: Where.
        deferred: Whether it stands inside a function, so that importing the module does not do it.
        types_only: Whether it stands in a TYPE_CHECKING block.
    """

    importer: str
    target: str
    line: int
    deferred: bool
    types_only: bool

    @property
    def at_import_time(self) -> bool:
        """Whether importing the importer performs it."""
        return not (self.deferred or self.types_only)

    def __str__(self) -> str:
        """Say where it stands."""
        return f"{self.importer}:{self.line} imports {self.target}"


def modules(tree: Path) -> Iterator[tuple[str, Path]]:
    """Give the dotted name and path of every module of the package ``oni`` in a tree."""
    for path in sorted((tree / "oni").rglob("*.py")):
        parts = list(path.relative_to(tree).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


def imports(tree: Path) -> list[Import]:
    """Give every import of the package ``oni`` in a tree."""
    found: list[Import] = []
    for name, path in modules(tree):
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        source = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found += _imports_below(source, name, package, deferred=False, types_only=False)
    return found


def _imports_below(
    node: ast.AST, importer: str, package: str, deferred: bool, types_only: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for target in _targets(child, package):
                yield Import(importer, target, child.lineno, deferred, types_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.body:
                block = ast.Module([statement], [])
                yield from _imports_below(block, importer, package, deferred, True)
            for statement in child.orelse:
                block = ast.Module([statement], [])
                yield from _imports_below(block, importer, package, deferred, types_only)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports_below(child, importer, package, deferred or inside, types_only)


def _targets(statement: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    base = statement.module or ""
    if statement.level:
        parts = package.split(".")
        home = parts[: len(parts) - statement.level + 1]
        base = ".".join([*home, base]) if base else ".".join(home)
    return [f"{base}.{alias.name}" for alias in statement.names]


def within(name: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of these, or below one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def room(name: str) -> str | None:
    """Give the room of a dotted name: None outside Oni, ``""`` for ``oni`` itself."""
    if name == "oni" or name == "oni.__version__":
        return ""
    return name.split(".")[1] if name.startswith("oni.") else None


def bad_arrows(tree: Path) -> list[str]:
    """Say what is wrong with the imports between rooms."""
    problems = []
    for item in imports(tree):
        here, there = room(item.importer), room(item.target)
        if there is None or there == here:
            continue
        if here == "":
            problems.append(f"{item}: the package itself imports nothing of its own")
        elif here not in PLACE:
            problems.append(f"{item}: the room {here!r} has no place in the order")
        elif there == "":
            continue
        elif there not in PLACE:
            problems.append(f"{item}: the room {there!r} has no place in the order")
        elif here == DOOR and there not in DOOR_MAY_IMPORT:
            problems.append(f"{item}: the door imports only {sorted(DOOR_MAY_IMPORT)}")
        elif (here, there) in FOR_TYPES_ONLY and item.types_only:
            continue
        elif PLACE[there] > PLACE[here]:
            problems.append(f"{item}: the arrow goes up")
        elif PLACE[there] == PLACE[here]:
            problems.append(f"{item}: the arrow goes sideways")
        elif any(part.startswith("_") for part in item.target.split(".")[2:]):
            problems.append(f"{item}: that is private to its room")
    return problems


def misplaced_extras(tree: Path) -> list[str]:
    """Say where an optional dependency is imported by a module that is not named after it."""
    problems = []
    for item in imports(tree):
        for extra, packages in OPTIONAL.items():
            if item.at_import_time and within(item.target, packages):
                names = {part.strip("_") for part in item.importer.split(".")[1:]}
                if not names & (HOMES.get(extra, set()) | {extra, *packages}):
                    problems.append(f"{item}: it is optional (extra {extra!r})")
    return problems


def misplaced_input_and_output(tree: Path) -> list[str]:
    """Say where importing a module brings the reactor, or sockets into a room that has none."""
    problems = []
    for item in imports(tree):
        if item.at_import_time and within(item.target, REACTOR):
            problems.append(f"{item}: importing a module never chooses the reactor")
        elif room(item.importer) == "protocol" and within(item.target, INPUT_AND_OUTPUT):
            problems.append(f"{item}: the protocol is bytes in, bytes out")
        elif _at_import_of_an_inner_room(item) and within(item.target, INPUT_AND_OUTPUT):
            problems.append(f"{item}: this room has no sockets and no reactor")
    return problems


def _at_import_of_an_inner_room(item: Import) -> bool:
    return item.at_import_time and room(item.importer) in WITHOUT_INPUT_AND_OUTPUT


def package_markers(tree: Path) -> list[str]:
    """Give each ``__init__.py`` under ``twisted/``: one would hide Twisted itself."""
    return [str(path.relative_to(tree)) for path in (tree / "twisted").rglob("__init__.py")]


def test_there_is_something_to_read() -> None:
    """The reader finds the package and its arrows, so that the tests below say something."""
    arrows = {(room(item.importer), room(item.target)) for item in imports(ROOT)}
    assert ("interfaces", "values") in arrows


def test_imports_between_rooms_go_down() -> None:
    """No arrow goes up or sideways, into another room's private modules, or past the door."""
    assert bad_arrows(ROOT) == []


def test_optional_dependencies_stay_in_their_modules() -> None:
    """Importing Oni asks for no optional dependency, but in the module named after it."""
    assert misplaced_extras(ROOT) == []


def test_no_module_brings_the_reactor_or_sockets() -> None:
    """No module imports the reactor, and the inner rooms import no sockets."""
    assert misplaced_input_and_output(ROOT) == []


def test_nothing_marks_twisted_as_our_package() -> None:
    """No ``__init__.py`` lies under ``twisted/``."""
    assert package_markers(ROOT) == []


def test_every_extra_is_guarded() -> None:
    """Each optional extra of setup.py is known here with its modules."""
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (extras,) = [
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "OPTIONAL"
    ]
    assert set(extras) == set(OPTIONAL)


def test_importing_every_module_leaves_the_reactor_unchosen() -> None:
    """A process that imported all of Oni can still choose its reactor: nothing brought one."""
    names = [name for name, _ in modules(ROOT) if name != "oni.__main__"]
    program = (
        "import importlib, sys\n"
        "from tests.django_project import set_up\n"
        "set_up()\n"  # models can only be imported then
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def write(tree: Path, files: dict[str, str]) -> Path:
    """Make a small tree with these modules below ``oni/``."""
    for name, text in files.items():
        path = tree / "oni" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("values.py", "import oni.dispatcher", "goes up"),
        ("values.py", "from oni import dispatcher", "goes up"),
        ("values.py", "from oni.dispatcher import X", "goes up"),
        ("values.py", "from .dispatcher import X", "goes up"),
        ("values.py", "def f():\n    from oni.dispatcher import X", "goes up"),
        ("values.py", "class C:\n    def f(self):\n        import oni.server", "goes up"),
        ("values.py", "try:\n    import oni.server\nexcept ImportError:\n    pass", "goes up"),
        (
            "values.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import oni.server",
            "goes up",
        ),
        ("errors.py", "from oni.values import Phase", "goes up"),
        ("dispatcher/_x.py", "import oni.protocol", "goes sideways"),
        ("dispatcher/_x.py", "from ..protocol import X", "goes sideways"),
        ("zca/__init__.py", "from oni.blocking import X", "goes sideways"),
        ("dispatcher/_x.py", "import oni.twisted_event_dispatcher", "goes up"),
        ("twisted_event_dispatcher.py", "from oni.errors import X", "the door imports only"),
        ("twisted_event_dispatcher.py", "from oni.zca import X", "the door imports only"),
        ("server/_x.py", "from oni.channels._memory import X", "private to its room"),
        ("server/_x.py", "from oni.channels import _memory", "private to its room"),
        ("attic/__init__.py", "import oni.errors", "'attic' has no place"),
        ("server/__init__.py", "import oni.attic", "'attic' has no place"),
        ("__init__.py", "from oni.errors import OniError", "imports nothing of its own"),
    ],
)
def test_a_bad_arrow_is_found(tmp_path: Path, module: str, text: str, complaint: str) -> None:
    """Each way to write an import that goes the wrong way is one complaint that names it."""
    (problem,) = bad_arrows(write(tmp_path, {module: text}))
    assert complaint in problem
    assert ":" in problem


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("dispatcher/_x.py", "from oni.values import Phase\nfrom oni.dispatcher._y import Z"),
        ("dispatcher/_x.py", "from ._y import Z"),
        ("server/_x.py", "from oni import __version__\nfrom oni.channels import Memory"),
        ("twisted_event_dispatcher.py", "from oni.dispatcher import X\nfrom oni.values import Y"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from oni.values import X",
        ),
        ("values.py", "import onion.dispatcher"),
    ],
)
def test_a_good_arrow_is_left_alone(tmp_path: Path, module: str, text: str) -> None:
    """What goes down, or stays in its room, is no complaint."""
    assert bad_arrows(write(tmp_path, {module: text})) == []


@pytest.mark.parametrize(
    ("module", "text", "number"),
    [
        ("channels/backends/redis.py", "import txredisapi", 0),
        ("channels/backends/mongo.py", "import txredisapi", 1),
        ("channels/__init__.py", "from pymongo import MongoClient", 1),
        ("channels/__init__.py", "def load():\n    from pymongo import MongoClient", 0),
        ("zca/_zcml.py", "from zope.configuration import xmlconfig", 0),
        ("zca/_provide.py", "from zope.configuration import xmlconfig", 1),
        ("zca/_provide.py", "from zope.component import getUtility", 0),
        ("server/_x.py", "import jwt", 0),
        ("dispatcher/_x.py", "import click", 1),
        ("dispatcher/_x.py", "try:\n    import rich\nexcept ImportError:\n    rich = None", 1),
    ],
)
def test_a_misplaced_extra_is_found(tmp_path: Path, module: str, text: str, number: int) -> None:
    """An optional dependency is found at any module's top level but that of its own."""
    assert len(misplaced_extras(write(tmp_path, {module: text}))) == number


@pytest.mark.parametrize(
    ("module", "text", "number"),
    [
        ("server/_x.py", "from twisted.internet import reactor", 1),
        ("server/_x.py", "import twisted.internet.reactor", 1),
        ("server/_x.py", "class C:\n    from twisted.internet import reactor", 1),
        ("server/_x.py", "def f():\n    from twisted.internet import reactor", 0),
        ("server/_x.py", "from twisted.internet import defer", 0),
        ("dispatcher/_x.py", "def f():\n    from twisted.internet import reactor", 0),
        ("dispatcher/_x.py", "import socket", 1),
        ("dispatcher/_x.py", "from twisted.internet.protocol import Protocol", 1),
        ("protocol/_x.py", "def f():\n    from twisted.internet import reactor", 1),
        ("carriers/_x.py", "import socket", 0),
    ],
)
def test_misplaced_sockets_are_found(tmp_path: Path, module: str, text: str, number: int) -> None:
    """The reactor is found at any module's top level, and sockets in the inner rooms."""
    assert len(misplaced_input_and_output(write(tmp_path, {module: text}))) == number


def test_a_package_marker_under_twisted_is_found(tmp_path: Path) -> None:
    """An ``__init__.py`` beside the plugin is found."""
    (tmp_path / "twisted/plugins").mkdir(parents=True)
    (tmp_path / "twisted/plugins/__init__.py").touch()
    assert package_markers(tmp_path) == ["twisted/plugins/__init__.py"]
