"""The daemon: what comes from outside becomes an act, and acts are events of its dispatcher.

Importing this room does no work; its parts are imported when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oni.carriers import Handshake
    from oni.server._acts import Act
    from oni.server._address import local_address
    from oni.server._embedded import EmbeddedOni, OniResource
    from oni.server._grants import Grant
    from oni.server._listener import make_factory
    from oni.server._oni import Oni
    from oni.server._orders import Farewell, Order
    from oni.server._settings import SettingInfo, Settings, describe
    from oni.server._settings_file import load_settings
    from oni.server._whole_check import check_application
    from oni.server.auth._identity import Identity

__all__ = [
    "Act",
    "EmbeddedOni",
    "Farewell",
    "Grant",
    "Handshake",
    "Identity",
    "Oni",
    "OniResource",
    "Order",
    "SettingInfo",
    "Settings",
    "check_application",
    "describe",
    "load_settings",
    "local_address",
    "make_factory",
]


def __getattr__(name: str) -> Any:
    if name == "Act":
        from oni.server._acts import Act

        return Act
    if name in ("EmbeddedOni", "OniResource"):
        from oni.server import _embedded

        return getattr(_embedded, name)
    if name == "Grant":
        from oni.server._grants import Grant

        return Grant
    if name == "Handshake":
        from oni.carriers import Handshake

        return Handshake
    if name == "Identity":
        from oni.server.auth._identity import Identity

        return Identity
    if name == "Oni":
        from oni.server._oni import Oni

        return Oni
    if name in ("Farewell", "Order"):
        from oni.server._orders import Farewell, Order

        return Farewell if name == "Farewell" else Order
    if name == "make_factory":
        from oni.server._listener import make_factory

        return make_factory
    if name in ("SettingInfo", "Settings", "describe"):
        from oni.server import _settings

        return getattr(_settings, name)
    if name == "load_settings":
        from oni.server._settings_file import load_settings

        return load_settings
    if name == "local_address":
        from oni.server._address import local_address

        return local_address
    if name == "check_application":
        from oni.server._whole_check import check_application

        return check_application
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
