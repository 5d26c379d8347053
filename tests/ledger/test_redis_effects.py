"""What a handler may queue on Redis."""

from __future__ import annotations

from typing import Any

import pytest

from oni.errors import LedgerTransactionError
from oni.ledger._redis_effects import COMMANDS, MAX_WORDS, RedisEffects

PREFIX = "oni:{oni}:"


def open_effects() -> RedisEffects:
    """Give some within a transaction."""
    effects = RedisEffects(PREFIX)
    effects.transaction = object()
    return effects


def test_words() -> None:
    """Bytes, texts and numbers are what the server is given, in their order."""
    effects = open_effects()
    effects.queue("hset", "k", "field", 1, b"\xff", 0.1)
    effects.queue("INCRBY", "größe", 2)
    assert [effect.words for effect in effects.queued] == [
        [b"HSET", b"k", b"field", b"1", b"\xff", b"0.1"],
        [b"INCRBY", "größe".encode(), b"2"],
    ]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("SET", "a", "b"), [1]),
        (("DEL", "a", "b"), [1, 2]),
        (("MSET", "a", "1", "b", "2"), [1, 3]),
        (("ZADD", "a", 1, "b"), [1]),
    ],
)
def test_keys(words: tuple[Any, ...], keys: list[int]) -> None:
    """It is known which keys a command changes: those are put back when one fails."""
    effects = open_effects()
    effects.queue(*words)
    assert list(effects.queued[0].keys) == keys


@pytest.mark.parametrize(
    "words",
    [
        ("PUBLISH", "channel", "message"),
        ("FLUSHALL",),
        ("EVAL", "return 1", 0),
        ("COPY", "a", "b"),
        ("RENAME", "a", "b"),
        ("SELECT", 1),
        ("INCR",),
        ("RPUSH", "a", *range(MAX_WORDS)),
        ("SET", "oni:{oni}:finished", "x"),
        ("MSET", "a", "1", "oni:{oni}:handlers", "x"),
        ("SET", "a", None),
        ("SET", "a", True),
    ],
)
def test_refused(words: tuple[Any, ...]) -> None:
    """What cannot be undone, is the ledger's own, or is no command is refused, and not queued."""
    effects = open_effects()
    with pytest.raises(LedgerTransactionError):
        effects.queue(*words)
    assert effects.queued == []


def test_ended() -> None:
    """When the transaction has ended nothing more is taken."""
    effects = open_effects()
    effects.end()
    with pytest.raises(LedgerTransactionError, match="has ended"):
        effects.queue("INCR", "a")


def test_only_what_changes_its_keys() -> None:
    """Nothing is allowed that reads alone, waits, or reaches other keys."""
    assert not COMMANDS & {"GET", "BLPOP", "SMOVE", "RPOPLPUSH", "SUNIONSTORE", "MOVE", "RESTORE"}
