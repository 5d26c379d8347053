"""A ledger on Redis: needs the extra ``redis``."""

from __future__ import annotations

from oni.ledger._redis_effects import COMMANDS, MAX_WORDS, RedisEffects
from oni.ledger.redis._store import RedisStore

__all__ = ["COMMANDS", "MAX_WORDS", "RedisEffects", "RedisStore"]
