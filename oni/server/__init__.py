"""The daemon: what comes from outside becomes an act, and acts are events of its dispatcher.

Importing this room does no work; its parts are imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oni.server._acts import Act
    from oni.server._grants import Grant
    from oni.server._listener import make_factory
    from oni.server._oni import Oni
    from oni.server._orders import Farewell, Order

__all__ = ["Act", "Farewell", "Grant", "Oni", "Order", "make_factory"]


def __getattr__(name: str) -> Any:
    if name == "Act":
        from oni.server._acts import Act

        return Act
    if name == "Grant":
        from oni.server._grants import Grant

        return Grant
    if name == "Oni":
        from oni.server._oni import Oni

        return Oni
    if name in ("Farewell", "Order"):
        from oni.server._orders import Farewell, Order

        return Farewell if name == "Farewell" else Order
    if name == "make_factory":
        from oni.server._listener import make_factory

        return make_factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
