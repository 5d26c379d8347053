"""What a handler changes in Redis: commands applied with its completion, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oni.errors import LedgerTransactionError

__all__ = ["COMMANDS", "MAX_WORDS", "Effect", "RedisEffects"]

# Each changes the key that is its first argument, and nothing else.
_FIRST = frozenset(
    {
        *("APPEND", "GETDEL", "GETSET", "PSETEX", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE"),
        *("DECR", "DECRBY", "INCR", "INCRBY", "INCRBYFLOAT"),
        *("EXPIRE", "EXPIREAT", "PERSIST", "PEXPIRE", "PEXPIREAT"),
        *("HDEL", "HINCRBY", "HINCRBYFLOAT", "HMSET", "HSET", "HSETNX"),
        *("LINSERT", "LPOP", "LPUSH", "LPUSHX", "LREM", "LSET", "LTRIM"),
        *("RPOP", "RPUSH", "RPUSHX", "PFADD", "SADD", "SPOP", "SREM"),
        *("XACK", "XADD", "XDEL", "XTRIM"),
        *("ZADD", "ZINCRBY", "ZPOPMAX", "ZPOPMIN", "ZREM", "ZREMRANGEBYLEX"),
        *("ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"),
    }
)
_EVERY = frozenset({"DEL", "UNLINK"})
_PAIRS = frozenset({"MSET"})

COMMANDS = _FIRST | _EVERY | _PAIRS
"""What may be queued: commands that change nothing but the keys they name, so that they can be
undone."""

MAX_WORDS = 1000
"""How many words a command may have."""

Word = bytes | str | int | float


class Effect:
    """One command.

    Attributes:
        words: What it is made of.
        keys: Which of them are keys, by place.
    """

    __slots__ = ("keys", "words")

    def __init__(self, words: Sequence[bytes], keys: Sequence[int]) -> None:
        self.words = words
        self.keys = keys


class RedisEffects:
    """Takes a handler's commands, in the order in which they are to be applied.

    They are applied in one step with the completion, while nobody else is served. When one of
    them fails nothing of it all is kept.

    Args:
        prefix: What the ledger's own keys begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.queued: list[Effect] = []
        self.transaction: Any = None
        self._prefix = prefix.encode()

    def queue(self, command: str, *arguments: Word) -> None:
        """Let a command be applied when the transaction ends well.

        Args:
            command: Its name, one of :data:`oni.ledger.redis.COMMANDS`.
            arguments: What follows. On a cluster each key has the namespace in braces in it, as
                the ledger's own have: ``"sold:{oni}:7"``.

        Raises:
            LedgerTransactionError: The transaction has ended, the command cannot be undone, or a
                key is the ledger's own.
        """
        if self.transaction is None:
            raise LedgerTransactionError("the transaction has ended")
        name = command.upper()
        if name not in COMMANDS:
            raise LedgerTransactionError(
                f"{command} cannot be a part of a transaction, as it could not be undone; these "
                f"can: {', '.join(sorted(COMMANDS))}"
            )
        words = [name.encode(), *map(_encode, arguments)]
        if not 1 < len(words) <= MAX_WORDS:
            raise LedgerTransactionError(
                f"{name} has {len(words)} words; it names a key, and has at most {MAX_WORDS}"
            )
        if name in _FIRST:
            keys = range(1, 2)
        else:
            keys = range(1, len(words), 2 if name in _PAIRS else 1)
        for place in keys:
            if words[place].startswith(self._prefix):
                raise LedgerTransactionError(f"{words[place]!r} is a key of the ledger's own")
        self.queued.append(Effect(words, keys))

    def end(self) -> None:
        """Take no more: the transaction has ended."""
        self.transaction = None


def _encode(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    if isinstance(word, bool) or not isinstance(word, str | int | float):
        raise LedgerTransactionError(f"Redis takes bytes, texts and numbers, not {word!r}")
    return (word if isinstance(word, str) else repr(word)).encode()
