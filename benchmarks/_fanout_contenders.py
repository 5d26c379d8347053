"""The servers that fan out: how each is started, and how the load client speaks to it.

Their programs lie in ``fanout/``, one file each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

__all__ = [
    "CEILING",
    "Contender",
    "NODE",
    "ONI",
    "ONI_PINGED",
    "Place",
    "SOCKETIFY",
    "STOCK_LISTENER",
    "contenders",
    "oni_settings",
    "why_not",
]

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "fanout"
_NPM_WITHIN = 60.0  # seconds

ONI = "Oni"
ONI_PINGED = "Oni, every client pinged"
SOCKETIFY = "socketify (uWebSockets)"
NODE = "Node ws"
STOCK_LISTENER = "Autobahn behind twisted.web"
CEILING = "C, the least that could do it"

_SETTINGS = """\
[server]
listen = ["tcp:{port}:interface=127.0.0.1:backlog=1024"]
max_connections = 20000
max_connections_per_address = 20000
max_handshakes_per_second = 1e9
max_commands_per_second = 1e9
max_bytes_per_second = 1e12
{more}
[auth]
anonymous = true

[channels]
publish = true
subscribe = true

[app]
configure = "loop_probe:configure"
"""
_PINGED = "ping_interval = 1\npong_timeout = 0.9\n"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is started.

    Attributes:
        port: Where it has to listen.
        folder: Where its files go.
        compiled: Where compiled programs lie.
    """

    port: int
    folder: Path
    compiled: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One server.

    Attributes:
        name: What the tables call it.
        command: Gives the command that starts it.
        distributions: What must be installed, as pip calls it.
        path: Where its websockets are.
        dialect: What the load client is told: greetings, pings, how to publish.
        python: Whether a delivery runs through Python.
        probed: Whether its loop has a probe.
        publishes: Whether it takes part in fanning out, not only in connecting.
        settle: Seconds from the last connect until memory is looked at.
        needs: Programs that must be there.
    """

    name: str
    command: Callable[[Place], list[str]]
    distributions: Sequence[str] = ()
    path: str = "/ws"
    dialect: Sequence[str] = ()
    python: bool = True
    probed: bool = True
    publishes: bool = True
    settle: float = 0.7
    needs: Sequence[str] = ()


def oni_settings(port: int, more: str = "") -> str:
    """Give the daemon's settings; ``more`` are further lines of ``[server]``."""
    return _SETTINGS.format(port=port, more=more)


def _oni(more: str = "") -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        (place.folder / "oni.toml").write_text(oni_settings(place.port, more), encoding="utf-8")
        twistd = str(Path(sys.executable).with_name("twistd"))
        return [twistd, "-n", "--pidfile=", "oni", "--config", "oni.toml"]

    return command


def _script(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [sys.executable, str(PROGRAMS / name), str(place.port)]


def _daphne(place: Place) -> list[str]:
    where = ["-b", "127.0.0.1", "-p", str(place.port)]
    return [sys.executable, "-m", "daphne", "-v", "0", *where, "channels_daphne:application"]


_ONI = {
    "path": "/connection/websocket",
    "distributions": ("autobahn", "Twisted"),
    "dialect": (
        # One frame, as the npm client sends them.
        *("--greet", '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"bench"}}'),
        '"subscribe":',
        *("--publish", '{"id":$,"publish":{"channel":"bench","data":', "}}"),
        *("--ping", "{}", "{}"),
    ),
}


def contenders() -> list[Contender]:
    """Give all of them, whether they can run or not."""
    return [
        Contender(name=ONI, command=_oni(), **_ONI),
        Contender(name=ONI_PINGED, command=_oni(_PINGED), publishes=False, settle=2.5, **_ONI),
        Contender(
            name=SOCKETIFY,
            command=_script("socketify_publish.py"),
            distributions=("socketify",),
            python=False,
        ),
        Contender(
            name=NODE,
            command=lambda place: ["node", str(PROGRAMS / "node" / "node_ws.js"), str(place.port)],
            needs=("node", "npm"),
            python=False,
        ),
        Contender(
            name="Twisted transport.write",
            command=_script("twisted_write.py"),
            distributions=("Twisted",),
        ),
        Contender(
            name="websockets broadcast",
            command=_script("websockets_broadcast.py"),
            distributions=("websockets",),
        ),
        Contender(
            name="aiohttp send_str", command=_script("aiohttp_loop.py"), distributions=("aiohttp",)
        ),
        Contender(
            name="Autobahn sendMessage",
            command=_script("autobahn_loop.py"),
            distributions=("autobahn",),
        ),
        Contender(
            name="Autobahn prepared message",
            command=_script("autobahn_prepared.py"),
            distributions=("autobahn",),
        ),
        Contender(
            name=STOCK_LISTENER,
            command=_script("autobahn_web.py"),
            distributions=("autobahn",),
            publishes=False,
        ),
        Contender(
            name="python-socketio, uvicorn",
            command=_script("socketio_uvicorn.py"),
            distributions=("python-socketio", "uvicorn"),
            path="/socket.io/?EIO=4&transport=websocket",
            dialect=(
                *("--greet", "", '0{"sid"'),
                *("--greet", "40", '40{"sid"'),
                *("--publish", '42["message",', "]"),
                *("--ping", "2", "3"),
            ),
        ),
        Contender(
            name="Django Channels, Daphne",
            command=_daphne,
            distributions=("channels", "daphne", "Django"),
        ),
        Contender(
            name=CEILING,
            command=lambda place: [str(place.compiled / "minimal"), str(place.port)],
            python=False,
            probed=False,
        ),
    ]


def why_not(contender: Contender) -> str:
    """Say why a server cannot take part; ``""`` if it can.

    What is missing of Node's packages is installed, from the lock file.
    """
    for distribution in contender.distributions:
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return f"{distribution} is not installed"
    for program in contender.needs:
        if shutil.which(program) is None:
            return f"there is no {program}"
    return _npm_ci(PROGRAMS / "node") if contender.name == NODE else ""


def _npm_ci(folder: Path) -> str:
    if (folder / "node_modules" / "ws").is_dir():
        return ""
    try:
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            check=True,
            capture_output=True,
            timeout=_NPM_WITHIN,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"npm ci failed: {error}"
    return ""
