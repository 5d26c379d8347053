"""Memory does not grow with readers that do not read, and those who read lose nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.carriers import wire

ROOT = Path(__file__).parents[2]
STUCK = 100
SECONDS = 10


def connect(port: int) -> socket.socket:
    """Open a websocket."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(wire.upgrade())
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101")
    return client


def messages(data: bytearray) -> Iterator[bytes]:
    """Read frames of 126 to 65,535 bytes, in one pass: there are many."""
    at = 0
    while at < len(data):
        assert data[at + 1] == 126
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        yield bytes(data[at + 4 : at + 4 + size])
        at += 4 + size


def test_bounded_memory() -> None:
    """100 sockets that never read, 10 MB/s for 10 s: under 200 MiB, and one reader hears all."""
    program = [
        sys.executable,
        "-m",
        "tests.integration.stuck_readers",
        str(SECONDS),
        str(STUCK + 1),
    ]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        stuck = [connect(port) for _ in range(STUCK)]
        reader = connect(port)
        heard = bytearray()

        def read() -> None:
            while data := reader.recv(2**20):
                heard.extend(data)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            numbers = json.loads(server.stdout.readline())
            deadline = time.monotonic() + 10
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.1)
        finally:
            server.terminate()
            for client in (*stuck, reader):
                client.close()
            thread.join(10)
    offsets = [json.loads(message)["push"]["pub"]["offset"] for message in messages(heard)]
    assert numbers["publications"] > 2500 * SECONDS * 0.8, numbers
    assert offsets == list(range(1, numbers["publications"] + 1))
    assert numbers["subscriptions"] == STUCK + 1
    assert numbers["peak"] < 200 * 1024, numbers
