"""A Redis of ours that keeps lists and streams, and can be away."""

from __future__ import annotations

from typing import Any

import redis

__all__ = ["FakeRedis"]


class FakeRedis:
    """What the listener needs of redis-py's client.

    Attributes:
        kept: What is in each list, from the left, or each stream.
        published: What was published, with its channel.
        transactions: How many commands each transaction had.
        is_away: Whether nothing answers.
        persistence: What INFO says of it, or an error.
        asked: How often that was asked for.
        refusal: What it answers where it will not count, if that is so.
        closed: How often it was closed.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.kept: dict[str, list[Any]] = {}
        self.published: list[tuple[str, str]] = []
        self.transactions: list[int] = []
        self.is_away = False
        self.persistence: Any = {"aof_enabled": 1}
        self.asked = 0
        self.refusal: Exception | None = None
        self.closed = 0

    def _answer(self) -> None:
        if self.is_away:
            raise redis.ConnectionError("Error 111 connecting to 127.0.0.1:6379")

    def pipeline(self, transaction: bool) -> _Transaction | _Questions:
        """Begin a transaction, or some questions that are asked at once."""
        return _Transaction(self) if transaction else _Questions(self)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class _Transaction:
    """Keeps commands until they are executed."""

    def __init__(self, server: FakeRedis) -> None:
        self._server = server
        self._commands: list[Any] = []

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, *of: Any) -> None:
        pass

    def lpush(self, key: str, text: bytes) -> None:
        self._commands.append(lambda: self._server.kept.setdefault(key, []).insert(0, text))

    def xadd(self, key: str, fields: dict[str, bytes]) -> None:
        self._commands.append(lambda: self._server.kept.setdefault(key, []).append(fields))

    def publish(self, channel: str, text: str) -> None:
        self._commands.append(lambda: self._server.published.append((channel, text)))

    def execute(self) -> None:
        self._server._answer()
        self._server.transactions.append(len(self._commands))
        for command in self._commands:
            command()


class _Questions:
    """Keeps questions until they are asked."""

    def __init__(self, server: FakeRedis) -> None:
        self._server = server
        self._answers: list[Any] = []

    def __enter__(self) -> _Questions:
        return self

    def __exit__(self, *of: Any) -> None:
        pass

    def llen(self, key: str) -> None:
        length = len(self._server.kept.get(key, ()))
        self._answers.append(self._server.refusal or length)

    xlen = llen

    def info(self, section: str) -> None:
        assert section == "persistence"
        self._server.asked += 1
        self._answers.append(self._server.persistence)

    def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._server._answer()
        return self._answers
