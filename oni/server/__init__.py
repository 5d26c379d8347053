"""The daemon: what comes from outside becomes an act, and acts are events of its dispatcher.

Importing this room does no work; its parts are imported when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oni.server._acts import Act
    from oni.server._grants import Grant
    from oni.server._listener import make_factory
    from oni.server._oni import Oni
    from oni.server._orders import Farewell, Order

__all__ = ["Act", "Farewell", "Grant", "Oni", "Order", "make_factory"]

_HOMES = {
    "Act": "_acts",
    "Farewell": "_orders",
    "Grant": "_grants",
    "Oni": "_oni",
    "Order": "_orders",
    "make_factory": "_listener",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"oni.server.{home}"), name)
