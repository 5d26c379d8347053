"""Messages as websocket frames (RFC 6455, section 5), ready to be written.

A server's frames are not masked and ours are neither compressed nor split, so that one encoding
fits every connection.
"""

from __future__ import annotations

from oni.interfaces import IEntry
from oni.protocol import encode_publication

__all__ = ["pong_frame", "publication_frame", "text_frame"]

_TEXT = 0x81
_PONG = 0x8A


def text_frame(payload: bytes) -> bytes:
    """Frame a whole text message."""
    return _frame(_TEXT, payload)


def pong_frame(payload: bytes) -> bytes:
    """Frame the answer to a ping: what it brought, at most 125 bytes."""
    return _frame(_PONG, payload)


def publication_frame(entry: IEntry) -> bytes:
    """Encode and frame a publication. The event's name travels as the tag ``event``."""
    tags = {**entry.tags, "event": entry.event}
    offset = entry.position.offset
    return text_frame(encode_publication(entry.channel, entry.data, offset, tags, entry.info))


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload
