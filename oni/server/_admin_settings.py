"""``[admin]``: who may look inside the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["LOOPBACK_HOSTS", "AdminSettings"]

LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]"))
"""The names under which a machine knows itself."""


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[admin]``: the console and what it asks for."""

    key: Annotated[
        Annotated[str, Meta(min_length=16)] | None,
        Meta(
            description="What the header X-Admin-Key must say. Who has it sees everything that "
            "happens in the daemon, and may publish on every channel. Without it the console is "
            "off."
        ),
    ] = None
    key_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A file that holds that key instead, relative to the settings file. Space "
            "around it does not count."
        ),
    ] = None
    open_on_loopback: Annotated[
        bool,
        Meta(
            description="Whether who sits at this machine needs no key. Only where all listeners "
            "and all allowed hosts are loopback's; what comes through a proxy needs the key all "
            "the same."
        ),
    ] = False

    def __repr__(self) -> str:
        """Say whether there is a key, not which."""
        key = "..." if self.key else None
        return f"AdminSettings(key={key}, open_on_loopback={self.open_on_loopback})"

    def problems(self, listens_on_loopback: bool, hosts: Sequence[str]) -> list[str]:
        """Say what is wrong, one line for each thing.

        Args:
            listens_on_loopback: Whether the daemon is reached from this machine only.
            hosts: The names under which it is reached.
        """
        found = []
        key = self.key
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            found.append(
                "admin.key: expected printable ASCII characters without spaces, got something else"
            )
        if self.open_on_loopback and not listens_on_loopback:
            found.append(
                "admin.open_on_loopback: expected false, as server.listen reaches beyond loopback"
            )
        elif self.open_on_loopback and not LOOPBACK_HOSTS.issuperset(hosts):
            found.append(
                "admin.open_on_loopback: expected false, as server.allowed_hosts has other names "
                "than loopback's"
            )
        return found
