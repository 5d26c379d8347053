"""Which daemon is meant: where it is, under which name, and the key to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from oni.command._failures import CommandError
from oni.server import Settings, local_address

__all__ = ["DEFAULT_URL", "Target", "target_of_settings", "target_of_url"]

DEFAULT_URL = "http://127.0.0.1:8000"

_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[!-~]+")
_OF_PATHS = "/%!$&'()*+,;=:@"  # what may stand in a path as it is (RFC 3986, 3.3)


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon.

    Attributes:
        secure: Whether it is spoken to over TLS.
        host: Where to connect to.
        port: The port there.
        name: Under which name, without port: in the Host header and for the certificate.
        path: What stands before ``/api`` and ``/connection``.
        key: The API's key, None for none.
        settings: The settings that it was started with, where these are known.
        timeout: Seconds to wait for an answer.
    """

    secure: bool
    host: str
    port: int
    name: str
    path: str = ""
    key: str | None = field(default=None, repr=False)
    settings: Settings | None = field(default=None, repr=False)
    timeout: float = 10.0

    @property
    def authority(self) -> str:
        """The Host header."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        usual = _PORTS["https" if self.secure else "http"]
        return name if self.port == usual else f"{name}:{self.port}"

    @property
    def address(self) -> str:
        """The address, for people."""
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"

    @property
    def websocket(self) -> str:
        """The websocket's address."""
        scheme = "wss" if self.secure else "ws"
        return f"{scheme}://{self.authority}{self.path}/connection/websocket"


def target_of_url(url: str) -> Target:
    """Find the daemon at an address.

    Raises:
        CommandError: It is no address.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        if host and ":" not in host:
            host = host.encode("idna").decode("ascii")  # as it is looked up and sent
    except ValueError as error:
        raise CommandError(f"--url: {url!r} is no address: {error}") from error
    if parts.scheme not in _PORTS or not host or not _VISIBLE.fullmatch(host):
        raise CommandError(f"--url: expected an address like {DEFAULT_URL}, got {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise CommandError("--url: expected scheme, host, port and path, nothing else")
    return Target(
        secure=parts.scheme == "https",
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        name=host,
        path=quote(parts.path.rstrip("/"), safe=_OF_PATHS),
    )


def target_of_settings(settings: Settings, path: str) -> Target:
    """Find the daemon that was started on this machine with these settings.

    Args:
        settings: The settings.
        path: Where they were read, for the message.

    Raises:
        CommandError: It listens nowhere that can be told beforehand.
    """
    address = local_address(settings.server.listen)
    if address is None:
        raise CommandError(
            f"{path}: server.listen names no port to connect to; say where the daemon is: --url"
        )
    found = target_of_url(address)
    return Target(
        secure=found.secure,
        host=found.host,
        port=found.port,
        name=_name(found, settings),
        key=settings.api.key,
        settings=settings,
    )


def _name(found: Target, settings: Settings) -> str:
    """Choose a name under which the daemon answers; over TLS rather one of a certificate."""
    allowed = [host.strip("[]") for host in settings.server.allowed_hosts]
    if found.secure:
        named = [host for host in allowed if host not in ("localhost", "127.0.0.1", "::1")]
        return (named or allowed or [found.name])[0]
    return found.name if found.name in allowed or not allowed else allowed[0]
