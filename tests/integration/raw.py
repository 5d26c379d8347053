"""A websocket client on a bare socket, which decides itself when it reads, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.carriers import wire
from tests.integration.daemon import KEY, RunningDaemon

TEXT, CLOSE = wire.TEXT, wire.CLOSE


class Frames:
    """Cuts a stream of bytes into the server's frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add bytes; give opcode and payload of each frame that is whole now."""
        found = self._bytes
        found += data
        start = 0
        while len(found) - start >= 2:
            size, begin = found[start + 1], start + 2
            if size == 126:
                size, begin = int.from_bytes(found[start + 2 : start + 4], "big"), start + 4
            elif size == 127:
                size, begin = int.from_bytes(found[start + 2 : start + 10], "big"), start + 10
            if len(found) < begin + size:
                break
            yield found[start] & 15, bytes(found[begin : begin + size])
            start = begin + size
        del found[:start]


def replies(frames: Iterable[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    """Give the replies and pushes of text frames; a close frame as ``{"closed": code}``."""
    for opcode, payload in frames:
        if opcode == TEXT:
            yield from map(json.loads, payload.split(b"\n"))
        elif opcode == CLOSE:
            yield {"closed": int.from_bytes(payload[:2], "big")}


class RawClient:
    """A blocking client.

    Attributes:
        socket: Its socket.
        seen: What came while something else was waited for.
    """

    def __init__(self, daemon: RunningDaemon, receive_buffer: int = 0) -> None:
        """Connect, and send the connect command.

        Args:
            daemon: Where to.
            receive_buffer: Bytes that the kernel keeps for it, 0 for as many as it likes.
        """
        self.seen: list[dict[str, Any]] = []
        self._frames = Frames()
        self._number = 0
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", daemon.port))
        self.socket.sendall(wire.upgrade(host=f"127.0.0.1:{daemon.port}"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.ask("connect")

    def send(self, method: str, /, **members: Any) -> int:
        """Send a command; give its id."""
        self._number += 1
        self.socket.sendall(wire.command(id=self._number, **{method: members}))
        return self._number

    def ask(self, method: str, /, **members: Any) -> dict[str, Any]:
        """Send a command and give its result, or its error."""
        number = self.send(method, **members)
        while True:
            for reply in self.take():
                if reply.get("id") == number:
                    result: dict[str, Any] = reply.get("error") or reply[method]
                    return result
                self.seen.append(reply)

    def take(self) -> list[dict[str, Any]]:
        """Wait for bytes; give what is whole. A connection that has ended is ``{"ended": True}``.

        Pings are answered.
        """
        data = self.socket.recv(65536)
        found = list(replies(self._frames.feed(data)))
        if {} in found:
            self.socket.sendall(wire.frame("{}"))
        return [reply for reply in found if reply] + ([] if data else [{"ended": True}])

    def close(self, reset: bool = False) -> None:
        """End, with a reset if wished."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Publisher:
    """Publishes over the HTTP API, on one connection that stays."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)

    def call(self, method: str, body: bytes) -> Any:
        """Call a method of the API; give its answer."""
        headers = {"Content-Type": "application/json", "X-API-Key": KEY}
        self._connection.request("POST", f"/api/{method}", body, headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200 and "error" not in answer, answer
        return answer

    def publish(self, commands: Iterable[dict[str, Any]]) -> None:
        """Publish many, in order."""
        batch = {"commands": [{"publish": command} for command in commands]}
        answer = self.call("batch", json.dumps(batch).encode())
        assert all("error" not in reply for reply in answer["replies"]), answer

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def rss(process_id: int) -> int:
    """Give the bytes of memory that a process has now."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_rss(process_id: int) -> int:
    """Give the most bytes of memory that a process ever had."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this kernel does not tell")
