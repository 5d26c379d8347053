"""Which backend a URL names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from oni.errors import BackendUrlError
from oni.interfaces import IChannelBackend

__all__ = ["backend_for"]

#: The module and the class for each scheme. Modules are imported when they are asked for.
_SCHEMES = {"memory": ("oni.channels.backends.memory", "MemoryBackend")}


def backend_for(url: str, reactor: Any = None) -> IChannelBackend:
    """Make the backend that a URL names, such as ``memory:``.

    Args:
        url: A known scheme with what that backend needs.
        reactor: The clock; the global reactor, when first needed, if None.

    Raises:
        BackendUrlError: No backend has this scheme.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise BackendUrlError(url, _SCHEMES)
    module, name = _SCHEMES[scheme]
    backend: IChannelBackend = getattr(import_module(module), name).from_url(url, reactor)
    return backend
