"""The client's side of a websocket, byte by byte."""

from __future__ import annotations

import json
from typing import Any

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def upgrade(
    path: str = "/connection/websocket", host: str = "localhost:8000", **headers: str
) -> bytes:
    """Write the request that opens a websocket. Further headers: ``_`` stands for ``-``."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(payload: bytes | str, opcode: int = TEXT, fin: bool = True) -> bytes:
    """Write a masked frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload)
    first = (0x80 if fin else 0) | opcode
    mask = b"\x01\x02\x03\x04"
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def close(code: int, reason: str = "") -> bytes:
    """Write a close frame."""
    return frame(code.to_bytes(2, "big") + reason.encode(), CLOSE)


def command(**members: Any) -> bytes:
    """Write a frame with one command."""
    return frame(json.dumps(members))


def split_response(data: bytes) -> tuple[bytes, bytes]:
    """Cut the head of the response from what follows it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Read the server's frames: opcode and payload of each."""
    found = []
    while data:
        opcode, size = data[0] & 15, data[1]
        start = 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        found.append((opcode, data[start : start + size]))
        data = data[start + size :]
    return found


def close_of(data: bytes) -> tuple[int, str] | None:
    """Find the server's close frame: code and reason."""
    for opcode, payload in frames(data):
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big"), payload[2:].decode()
    return None


def messages(data: bytes) -> list[Any]:
    """Read the JSON of every text frame."""
    return [
        json.loads(line)
        for opcode, payload in frames(data)
        if opcode == TEXT
        for line in payload.split(b"\n")
    ]
