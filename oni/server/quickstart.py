"""Write a first settings file: ``python -m oni.server.quickstart oni.toml``.

The file opens the daemon on loopback, for everyone on this machine, with a fresh API key. A file
that is there already is never changed; what to do with it is printed either way.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Sequence

from oni.errors import SettingsError
from oni.server._address import local_address
from oni.server._settings import Settings
from oni.server._settings_file import load_settings

__all__ = ["hints", "main", "settings_text"]

_TEXT = """\
# Settings of an Oni that is open to everyone on this machine, and to nobody else.
# `twistd oni --help` lists all that can be set; `twistd oni --check --config FILE` checks a file.

[server]
listen = ["tcp:{port}:interface=127.0.0.1"]

[auth]
anonymous = true     # clients need not say who they are

[api]
key = "{key}"        # what the header X-API-Key must say

[admin]
open_on_loopback = true  # the console needs no key on this machine

[channels]           # for channels without a colon in their name, and for what a namespace leaves
publish = true
subscribe = true
event_from = "type"  # this field of a client's data names the event

[channels.chat]      # for channels named chat:...

# An application is a function that registers handlers. Put it in shop.py beside this file:
# [app]
# configure = "shop:configure"
"""

_BODY = '{"channel": "news", "tags": {"event": "user_created"}, "data": {"user": "bob"}}'
_PYTHON = """\
import json, urllib.request as r; print(r.urlopen(r.Request("{url}", \
json.dumps({body}).encode(), {headers})).read().decode())"""


def settings_text(port: int, key: str) -> str:
    """Give the text of a settings file for loopback."""
    return _TEXT.format(port=port, key=key)


def hints(settings: Settings, command: str) -> str:
    """Say how to use a daemon with these settings.

    Args:
        settings: The settings.
        command: What starts the daemon.

    Returns:
        The start command, the page's address, and lines for a shell that publish with curl and
        with Python; lines that such settings do not serve are left out.
    """
    lines = [f"Start it:  {command}"]
    address = local_address(settings.server.listen)
    if address is None:
        return lines[0]
    lines.append(f"Open:      {address}/")
    if settings.api.key is not None:
        url, key = f"{address}/api/publish", settings.api.key
        headers = json.dumps({"X-API-Key": key, "Content-Type": "application/json"})
        python = _PYTHON.format(url=url, body=_BODY, headers=headers)
        lines += [
            "Publish with curl:",
            f"  curl -H 'Content-Type: application/json' -H {shlex.quote('X-API-Key: ' + key)} "
            f"-d {shlex.quote(_BODY)} {url}",
            "Publish with Python:",
            f"  {shlex.quote(sys.executable)} -c {shlex.quote(python)}",
        ]
    return "\n".join(lines)


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


def _write(path: str, port: int) -> None:
    """Create the file, readable by its owner alone. It fails where one is there already."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(settings_text(port, secrets.token_urlsafe(24)))


def _twistd() -> str:
    """Give the command ``twistd``, with its folder where a shell would not find it."""
    beside = os.path.join(os.path.dirname(sys.executable), "twistd")
    return beside if shutil.which("twistd") is None and os.path.exists(beside) else "twistd"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, or leave the one that is there, and say how to use it.

    Returns:
        The exit code: 0, or 1 where the file cannot be written or is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m oni.server.quickstart",
        description="Write a settings file for loopback. A file that is there is left alone.",
    )
    parser.add_argument("path", metavar="PATH", help="where to write it, as oni.toml")
    parser.add_argument(
        "--port", type=_port, default=8000, help="the port to listen on (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        _write(options.path, options.port)
        print(f"Written:   {options.path}")
    except FileExistsError:
        print(f"Kept:      {options.path}, it was there already")
    except OSError as error:
        print(f"cannot write {options.path}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        settings = load_settings(options.path)
    except SettingsError as error:
        print(f"{options.path}: {error}", file=sys.stderr)
        return 1
    command = [_twistd(), "-n", "oni", "--config", options.path]
    print(hints(settings, shlex.join(command)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
