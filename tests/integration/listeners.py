"""Clients that are disturbed, and keep an account of what they hear."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tests.carriers import wire
from tests.integration.raw import Frames, replies

_RECEIVE_BUFFER = 4096  # so that a pause is soon felt by the daemon
_LIMIT = 4096  # bytes that are read ahead
_READ = 65536


class Account:
    """What one listener has heard of one channel.

    A publication's data is its number; in a channel that was empty before, that is its offset.

    Attributes:
        offset: The last one.
        epoch: The stream's epoch.
        gaps: How often something was missing, and that was told.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.epoch = ""
        self.gaps = 0
        self.is_known = False

    def hear(self, publication: dict[str, Any]) -> None:
        """Check that this is the one that comes next."""
        offset, number = publication["offset"], publication["data"]["n"]
        assert offset == number, f"another channel's publication: {publication}"
        assert offset == self.offset + 1, f"{offset} came after {self.offset}"
        self.offset = offset

    def subscribed(self, result: dict[str, Any]) -> None:
        """Go on as the reply to a subscribe says."""
        publications: Sequence[dict[str, Any]] = result.get("publications", ())
        if not self.is_known:
            self.is_known = True
            assert (result.get("offset", 0), publications) == (0, ()), "not there from the start"
        elif result.get("recovered"):
            assert result["epoch"] == self.epoch
            for publication in publications:
                self.hear(publication)
            assert result.get("offset", 0) == self.offset, "what it lacks is not told of"
        else:
            assert not publications, "a part of what was missed"
            self.gaps += 1
            self.offset = result.get("offset", 0)
        self.epoch = result["epoch"]


class Listener:
    """A client that comes back whenever its connection ends.

    Args:
        port: The daemon's.
        channels: What it hears.
        seed: Decides what it suffers.
        tally: Counts what all listeners suffer.
    """

    def __init__(self, port: int, channels: Sequence[str], seed: int, tally: Counter[str]) -> None:
        self.accounts = {channel: Account() for channel in channels}
        self.is_disturbed = True
        self.subscribed = asyncio.Event()
        self._port = port
        self._random = random.Random(seed)
        self._tally = tally
        self._asked: dict[int, str] = {}

    async def run(self) -> None:
        """Connect and hear, again and again, until cancelled."""
        while True:
            with suppress(ConnectionError):
                await self._live()
            self._tally["connections"] += 1
            await asyncio.sleep(self._random.uniform(0, 0.1))

    async def _live(self) -> None:
        """Be connected once."""
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=own, limit=_LIMIT)
        try:
            writer.write(wire.upgrade(host=f"127.0.0.1:{self._port}"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            writer.write(wire.command(id=1, connect={}))
            self._asked.clear()
            for channel in self.accounts:
                self._subscribe(writer, channel)
            await self._listen(reader, writer, own)
        except asyncio.IncompleteReadError:
            pass  # a connection that ended while it began
        finally:
            writer.transport.abort()

    def _subscribe(self, writer: asyncio.StreamWriter, channel: str) -> None:
        account = self.accounts[channel]
        wish: dict[str, Any] = {"channel": channel}
        if account.is_known:
            wish |= {"recover": True, "epoch": account.epoch, "offset": account.offset}
        number = len(self._asked) + 2
        self._asked[number] = channel
        writer.write(wire.command(id=number, subscribe=wish))

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: socket.socket
    ) -> None:
        frames = Frames()
        loop = asyncio.get_running_loop()
        due = loop.time() + self._random.uniform(0.2, 3.0)
        while data := await reader.read(_READ):
            for message in replies(frames.feed(data)):
                self._take(message, writer)
            if self.is_disturbed and loop.time() > due:
                due = loop.time() + self._random.uniform(0.2, 3.0)
                if await self._suffer(reader, writer, own):
                    return

    async def _suffer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: socket.socket
    ) -> bool:
        """Be disturbed. Say whether that is the end of the connection."""
        kind = self._random.choice(("kill", "half-close", "pause", "pause", "pause and kill"))
        self._tally[kind] += 1
        if kind.startswith("pause"):
            await asyncio.sleep(self._random.uniform(0.1, 4.0))
        if kind.endswith("kill"):  # what has arrived unread is lost, too
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return True
        if kind == "half-close":  # and what comes until the daemon closes is heard, too
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        return False

    def _take(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        push = message.get("push")
        if push is not None and "pub" in push:
            self.accounts[push["channel"]].hear(push["pub"])
        elif push is not None:
            assert push["unsubscribe"]["code"] == 2500, push
            self._tally["told of a gap"] += 1
            self._subscribe(writer, push["channel"])
        elif not message:
            writer.write(wire.frame("{}"))
        elif "subscribe" in message:
            account = self.accounts[self._asked[message["id"]]]
            account.subscribed(message["subscribe"])
            if message["subscribe"].get("was_recovering"):
                told = "recovered" if message["subscribe"].get("recovered") else "not recovered"
                self._tally[told] += 1
            if all(each.is_known for each in self.accounts.values()):
                self.subscribed.set()
        else:
            assert "connect" in message or "closed" in message, message
