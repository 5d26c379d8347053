"""Messages in Redis that are not done yet, beside the queue that they wait in.

Celery takes a message out of Redis' list first, and writes down that it has it afterwards. When
Redis or the worker dies in between, nobody has it. So each is kept here from before it is put
into the list until it is done, with a token that only its latest copy has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from msgspec import Struct

__all__ = ["Kept", "LostMessage"]

_MOST = 100  # at once


class LostMessage(Struct, frozen=True):
    """A message that is in no queue, and with no worker.

    Attributes:
        key: Its key.
        message: Itself.
        attempt: Which attempt it was for.
    """

    key: str
    message: str
    attempt: int


class Kept:
    """The messages of one queue. All of it blocks.

    Args:
        client: Redis' client, of kombu's.
        queue: The queue's name.
    """

    def __init__(self, client: Any, queue: str) -> None:
        self._client = client
        self._queue = queue
        # Commands that kombu also uses: it puts a prefix before their keys, where one is set.
        self._messages = f"oni:kept:{queue}"
        self._times = f"oni:kept:{queue}:times"

    def _now(self) -> float:
        seconds, microseconds = self._client.time()
        return float(seconds + microseconds / 1e6)

    def keep(self, key: str, message: str, attempt: int) -> str:
        """Keep a message that is about to be put into the queue; give its token."""
        token = uuid4().hex
        now = self._now()
        with self._client.pipeline(transaction=True) as transaction:
            transaction.hset(self._messages, key, json.dumps([token, attempt, message]))
            transaction.zadd(self._times, {key: now})
            transaction.execute()
        return token

    def is_current(self, key: str, token: str) -> bool:
        """Say whether a message is its latest copy. One that is not kept counts as that."""
        found = self._client.hget(self._messages, key)
        return found is None or json.loads(found)[0] == token

    def forget(self, key: str) -> None:
        """Keep a message no more: it is done."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.hdel(self._messages, key)
            transaction.zrem(self._times, key)
            transaction.execute()

    def lost(self, seconds: float) -> Sequence[LostMessage]:
        """Give messages that were put into the queue so long ago, while that is empty now."""
        if self._client.llen(self._queue):
            return []
        keys = self._client.zrange(
            self._times, self._now() - seconds, 0, desc=True, byscore=True, offset=0, num=_MOST
        )
        found = []
        for key in keys:
            name = key.decode() if isinstance(key, bytes) else key
            kept = self._client.hget(self._messages, name)
            if kept is not None:
                _, attempt, message = json.loads(kept)
                found.append(LostMessage(name, message, attempt))
        return found
