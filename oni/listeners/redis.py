"""A listener that puts events into Redis: ``event_listeners.NAME.use = oni.listeners.redis``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from twisted.logger import Logger

from oni.errors import NotNowError, SettingsError
from oni.listeners._base import ListenerBase, own_settings
from oni.listeners._settings import truth
from oni.listeners.events import ResourceEvent

__all__ = ["FIELD", "Listener", "load_from_config"]

_log = Logger()

FIELD = "event"
"""The field of a stream's entry that has the text."""

_Kind = Literal["list", "stream"]

_KINDS: tuple[_Kind, ...] = ("list", "stream")
_SCHEMES = ("redis", "rediss", "unix")


class Listener(ListenerBase):
    """Puts each event into a list or a stream of Redis, for whoever takes it from there.

    It is JSON: the payload, with ``impacted_records``, and with ``key``, which is the same each
    time that an event is brought: that may be twice, when Redis did not answer in time.

    When Redis is away, or too many events wait in it, the listener fails with
    :class:`oni.errors.NotNowError`. Where event sources keep the events, they are brought later.

    What a Redis forgets that ends without a file (``appendonly no``) nobody brings again. That the
    server is one of these is logged once; with ``durable`` nothing is put there.

    Args:
        url: Redis' address: ``redis://``, ``rediss://`` or ``unix://``.
        key: The list's or the stream's name. A list begins at its left: who takes from the right
            takes what is oldest.
        kind: ``"list"`` or ``"stream"``.
        max_length: When so many wait, no more are put there. As many as are put at once may be
            above it. Of a stream, whoever is done with an entry deletes it.
        notify: A channel of Redis' Pub/Sub: ``key`` is published on it in the same transaction.
        timeout: Seconds in which Redis must be connected, and must answer.
        durable: Whether to put events only into a Redis that says ``appendonly yes``.
        client: The client; it is closed with the listener. None: one for ``url``.
    """

    blocks = True

    def __init__(
        self,
        url: str = "redis://127.0.0.1:6379/0",
        key: str = "oni:events",
        kind: _Kind = "list",
        *,
        max_length: int = 100_000,
        notify: str | None = None,
        timeout: float = 5.0,
        durable: bool = False,
        client: Any = None,
    ) -> None:
        self._key = key
        self._kind = kind
        self._max_length = max_length
        self._notify = notify
        self._durable = durable
        self._has_warned = False
        self._client = _client(url, timeout) if client is None else client

    def __call__(self, event: ResourceEvent) -> None:
        """Put an event there; it blocks.

        Raises:
            NotNowError: Redis is away, or refuses, or too many events wait in it, or it would
                forget them.
            TypeError: JSON cannot say what is in the event.
        """
        text = _written(event)
        try:
            waiting = self._look()
            if waiting >= self._max_length:
                raise NotNowError(f"{self._key} of Redis", f"{waiting} events wait in it")
            with self._client.pipeline(transaction=True) as transaction:
                if self._kind == "list":
                    transaction.lpush(self._key, text)
                else:
                    transaction.xadd(self._key, {FIELD: text})
                if self._notify is not None:
                    transaction.publish(self._notify, self._key)
                transaction.execute()
        except redis.RedisError as error:
            raise NotNowError("Redis", str(error)) from error

    def _look(self) -> int:
        """Count what waits; see whether the server keeps it, which its settings may say anew."""
        with self._client.pipeline(transaction=False) as asked:
            if self._kind == "list":
                asked.llen(self._key)
            else:
                asked.xlen(self._key)
            if self._durable or not self._has_warned:
                asked.info("persistence")
            waiting, *told = asked.execute(raise_on_error=False)
        if isinstance(waiting, Exception):
            raise waiting
        for info in told:
            self._judge(info)
        return int(waiting)

    def _judge(self, info: Any) -> None:
        """Refuse a server that forgets, or warn of it."""
        keeps = info.get("aof_enabled") if isinstance(info, Mapping) else None
        if keeps == 1:
            return
        if self._durable:
            reason = "does not say whether appendonly is yes" if keeps is None else _FORGETS
            raise NotNowError("Redis", reason)
        if keeps == 0:
            self._has_warned = True
            _log.warn(
                "Redis {reason}: events that nobody has taken by then are lost. Set appendonly "
                "yes; with the setting `durable` nothing is put into a server without it",
                reason=_FORGETS,
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


_FORGETS = "forgets what it was given when it ends, as its appendonly is no"


def _written(event: ResourceEvent) -> bytes:
    """Write an event as JSON."""
    said: Mapping[str, Any] = {
        **event.payload,
        "impacted_records": event.impacted_records,
        "key": event.key,
    }
    return msgspec.json.encode(said)


def _client(url: str, timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        protocol=2,
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
        socket_keepalive=True,
        # What is not answered may have happened: the ledger decides when to try again.
        retry=Retry(NoBackoff(), 0),
    )


def load_from_config(config: Any, prefix: str) -> Listener:
    """Make one; its own settings are called like its arguments, but for the client."""
    own = own_settings(config, prefix)
    problems: list[str] = []

    def text(name: str, default: str | None) -> str | None:
        value = own.pop(name, default)
        if value is not default and (not isinstance(value, str) or not value):
            problems.append(f"{prefix}{name}: it is a name, not {value!r}")
            return default
        return value

    def number(name: str, default: float, kind: type[int] | type[float]) -> Any:
        value = own.pop(name, default)
        try:
            found = kind(value)
        except (TypeError, ValueError):
            found = kind(0)
        if isinstance(value, bool) or not 0 < found < math.inf:
            problems.append(f"{prefix}{name}: it is a number above 0, not {value!r}")
            return default
        return found

    url = own.pop("url", "redis://127.0.0.1:6379/0")
    kind = own.pop("kind", "list")
    if kind not in _KINDS:
        problems.append(f"{prefix}kind: it is one of {', '.join(_KINDS)}, not {kind!r}")
    key = text("key", "oni:events")
    notify = text("notify", None)
    max_length = number("max_length", 100_000, int)
    timeout = number("timeout", 5.0, float)
    durable = truth(own.pop("durable", False))
    if durable is None:
        problems.append(f"{prefix}durable: it is true or false")
    if not _is_address(url):
        # It may have a password in it.
        problems.append(f"{prefix}url: it is an address of Redis, like redis://127.0.0.1:6379/0")
    problems += [f"{prefix}{name}: there is no such setting" for name in own]
    if problems:
        raise SettingsError(problems)
    return Listener(
        url,
        cast(str, key),
        kind,
        max_length=max_length,
        notify=notify,
        timeout=timeout,
        durable=bool(durable),
    )


def _is_address(url: Any) -> bool:
    """Say whether redis-py knows what to do with it; nothing is opened for that."""
    try:
        if urlsplit(url).scheme not in _SCHEMES:
            return False
        _client(url, 1.0)
    except (AttributeError, TypeError, ValueError):
        return False
    return True
