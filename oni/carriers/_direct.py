"""Sending without waiting for the reactor, where the transport is a plain TCP server's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ISystemHandle, ITCPTransport

__all__ = ["direct_send"]


def direct_send(transport: Any) -> Callable[[bytes], int] | None:
    """Give the ``send`` of a transport's socket, where bytes on it are what the client gets.

    It may be used by the transport's sole writer, as long as nothing waits in the transport.

    Returns:
        The socket's method; None for TLS, for what is no TCP, and for what has no socket.
    """
    if not ITCPTransport.providedBy(transport) or ISSLTransport.providedBy(transport):
        return None
    if not ISystemHandle.providedBy(transport):
        return None
    handle = transport.getHandle()
    if type(handle) is not socket.socket or handle.gettimeout() != 0:
        return None
    return handle.send
