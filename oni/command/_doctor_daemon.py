"""What ``oni doctor`` finds when it asks a running daemon, also behind a proxy."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import click

from oni import __version__
from oni.command._doctor_rows import Row, error, fine, warning
from oni.command._http import call, request
from oni.command._show import one_line
from oni.command._target import Target

__all__ = ["look_at_daemon"]

_TOLERATED = 5.0  # seconds that two clocks may differ
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_FOREIGN = "oni-doctor.invalid"
_OURS = 426  # how a daemon answers a plain request for its websocket
_CHANGES = 101


def look_at_daemon(target: Target, is_named: bool) -> Iterator[Row]:
    """Ask it.

    Args:
        target: Whom.
        is_named: Whether a person has said that it is there.
    """
    try:
        answer = request(target, "GET", "/connection/websocket")
    except click.ClickException as failure:
        if is_named:
            yield error("daemon", failure.format_message(), "start it, or correct --url")
        else:
            todo = "start it, or say where it is: --url"
            yield warning("daemon", f"{failure.format_message()}; it was not looked at", todo)
        return
    if answer.status == 421:
        yield error(
            "daemon",
            f"{target.address} does not answer under this name",
            "see server.allowed_hosts; or use --config",
        )
        return
    if answer.status != _OURS:
        yield error(
            "daemon",
            f"what answers at {target.address} is no Oni (status {answer.status})",
            "correct --url, or the proxy's path",
        )
        return
    yield fine("daemon", f"it answers at {target.address}")
    yield _encryption_row(target)
    yield _date_row(answer.headers.get("date"))
    yield _api_row(target)
    yield from _guard_rows(target, answer.headers.get("server") != "Oni")
    yield from _websocket_rows(target)


def _encryption_row(target: Target) -> Row:
    local = target.host in ("127.0.0.1", "::1", "localhost") or target.host.startswith("127.")
    if target.secure or local:
        return fine("encryption", "TLS" if target.secure else "none, on loopback")
    return warning(
        "encryption", "none: keys and tokens can be read on the way", "use TLS; see the how-to"
    )


def _date_row(date: str | None) -> Row:
    what = "its clock"
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return warning(what, "it does not say what time it is", "look whether a proxy hides it")
    apart = abs(there - time.time())
    if apart > _TOLERATED + 1:  # the header has whole seconds
        return error(
            what,
            f"it is {apart:,.0f} s away from this machine's, so tokens are refused",
            "run chrony or systemd-timesyncd on both",
        )
    return fine(what, "as this machine's")


def _api_row(target: Target) -> Row:
    if target.key is None:
        return warning(
            "api", "no key is known, so it was not asked", "--config, --key-file or ONI_API_KEY"
        )
    try:
        info = call(target, "info", {})
        (node, *_) = info["nodes"]
    except click.ClickException as failure:
        return error("api", failure.format_message(), "see [api] in the daemon's settings")
    except (KeyError, TypeError, ValueError):
        return error("api", "it does not say what it is", "look what answers there")
    version = str(node.get("version", "?"))
    shown = f"Oni {one_line(version)}, {node.get('num_clients', '?')} clients"
    if version != __version__:
        return warning(
            "api", f"{shown}; this is Oni {__version__}", "restart the daemon after an update"
        )
    return fine("api", shown)


# --- What a sound daemon refuses -------------------------------------------------------------


def _guard_rows(target: Target, is_proxied: bool) -> Iterator[Row]:
    """Send heads that mean one thing to one program and another to the next.

    A proxy may write some of them anew in one sense, and that is sound.
    """
    heads: dict[str, Callable[[bytes], bytes]] = {
        "a bare line feed": lambda host: b"Host: " + host + b"\r\nX-A: 1\nX-B: 2\r\n",
        "a NEL in a header": lambda host: b"Host: " + host + b"\r\nX-A: 1\x85X-B: 2\r\n",
        "two hosts": lambda host: b"Host: " + host + b"\r\nHost: " + host + b"\r\n",
        "20 KiB of headers": lambda host: b"Host: " + host + b"\r\nX-A: " + b"a" * 20480 + b"\r\n",
    }
    passed = []
    try:
        for name, head in heads.items():
            if _is_let_through(_status_of(target, head(target.authority.encode("latin-1")))):
                passed.append(name)
        foreign = _status_of(target, b"Host: " + _FOREIGN.encode() + b"\r\n")
    except (OSError, ValueError) as failure:
        yield warning("header guard", f"it could not be looked at: {failure}", "try again")
        return
    if passed and is_proxied:
        yield warning(
            "header guard",
            f"what is in front lets through: {', '.join(passed)}",
            "ask the daemon itself, too: --config FILE on its machine",
        )
    elif passed:
        yield error(
            "header guard",
            f"let through: {', '.join(passed)}",
            "update Oni and its libraries",
        )
    else:
        yield fine("header guard", f"{len(heads)} bad requests are refused")
    if _is_let_through(foreign):
        yield error(
            "hosts",
            "it answers under any name, so foreign pages can reach it by DNS rebinding",
            "name its hosts in server.allowed_hosts, and pass the Host header through the proxy",
        )
    else:
        yield fine("hosts", "another name is refused")


def _websocket_rows(target: Target) -> Iterator[Row]:
    """Open a websocket as a program does, and as a page of another site would."""
    key = base64.b64encode(os.urandom(16))
    upgrade = (
        b"Host: " + target.authority.encode("latin-1") + b"\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n"
    )
    try:
        own = _status_of(target, upgrade)
        foreign = _status_of(target, upgrade + f"Origin: https://{_FOREIGN}\r\n".encode())
    except (OSError, ValueError) as failure:
        yield warning("websocket", f"it could not be looked at: {failure}", "try again")
        return
    if own == _CHANGES:
        yield fine("websocket", "it opens")
    else:
        yield error(
            "websocket",
            f"it does not open (status {own})",
            "let the proxy pass Upgrade and Connection, in HTTP/1.1",
        )
    if foreign == _CHANGES:
        yield error(
            "foreign origins",
            "a page of any site may connect",
            "update Oni; look whether the proxy changes the Origin header",
        )
    else:
        yield fine("foreign origins", "another site's page is refused")


def _is_let_through(status: int) -> bool:
    """Say whether a request has reached what it asked for."""
    return status in (_CHANGES, _OURS) or 200 <= status < 300


def _status_of(target: Target, headers: bytes) -> int:
    """Send a request as it is; give the status, 0 for a connection that is just closed."""
    made: Any = socket.create_connection((target.host, target.port), target.timeout)
    with made:
        if target.secure:
            made = ssl.create_default_context().wrap_socket(made, server_hostname=target.name)
        path = f"{target.path}/connection/websocket".encode("latin-1")
        found = b""
        try:
            made.sendall(b"GET " + path + b" HTTP/1.1\r\n" + headers + b"\r\n")
            while b"\r\n" not in found and len(found) < 1024:
                data = made.recv(1024)
                if not data:
                    break
                found += data
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused without waiting for all of it
        finally:
            made.close()
    status = _STATUS.match(found)
    return int(status[1]) if status is not None else 0
