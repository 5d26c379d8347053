"""The daemon: what comes from outside becomes an act, and acts are events of its dispatcher.

Importing this room does no work; its parts are imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oni.server._acts import Act
    from oni.server._listener import make_factory
    from oni.server._oni import Oni

__all__ = ["Act", "Oni", "make_factory"]


def __getattr__(name: str) -> Any:
    if name == "Act":
        from oni.server._acts import Act

        return Act
    if name == "Oni":
        from oni.server._oni import Oni

        return Oni
    if name == "make_factory":
        from oni.server._listener import make_factory

        return make_factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
