"""Addresses of a ledger on Redis, and what a server's answers mean. No server is there."""

from __future__ import annotations

import sys
from unittest import mock

import redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import (
    ForkedProcessError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    LedgerUrlError,
    MissingExtraError,
)
from oni.ledger import store_for
from oni.ledger.redis import RedisStore

URL = "redis://me:secret@127.0.0.1:1/0"


class UrlTests(SynchronousTestCase):
    """Addresses."""

    def test_known(self) -> None:
        """Both schemes have the store, whose label says what it promises."""
        for url in (URL, URL.replace("redis", "rediss"), f"{URL}?best_effort=true"):
            store = store_for(url, "shop")
            self.assertIsInstance(store, RedisStore)
            self.assertEqual(store.label, "effects once for Redis effects; else retry/park")

    def test_bad(self) -> None:
        """What is no address, no namespace or no wish is refused, without its password."""
        for url, namespace in (
            (f"{URL}/x?socket_timeout=soon", "oni"),
            (f"{URL}?best_effort=maybe", "oni"),
            (f"{URL}?colour=blue", "oni"),
            ("redis://guest:secret@[::1/0", "oni"),
            (f"{URL}?decode_responses=true", "oni"),
            (f"{URL}?socket_timeout=3&protocol=3", "oni"),
            (URL, "a{b}"),
            (URL, ""),
            (URL, "a b"),
        ):
            error = self.assertRaises(LedgerUrlError, store_for, url, namespace)
            self.assertNotIn("secret", str(error))
        self.assertRaises(LedgerUrlError, RedisStore, "unix:///run/redis")
        self.assertRaises(LedgerUrlError, RedisStore, URL, retry=None)

    def test_missing(self) -> None:
        """What is not installed is named, with what to install."""
        with mock.patch.dict(sys.modules, {"oni.ledger.redis": None}):
            error = self.assertRaises(MissingExtraError, store_for, URL)
        self.assertIn("oni-dispatcher[redis]", str(error))


class AnswerTests(SynchronousTestCase):
    """Answers of a server."""

    def ask(self, error: Exception) -> BaseException:
        """Begin a transaction that needs the server, which answers so."""
        store = RedisStore(URL)

        def answer(*words: object) -> object:
            raise error

        self.patch(redis.Redis, "execute_command", answer)
        with self.assertRaises(Exception) as caught, store.transaction() as transaction:
            transaction.now()
        return caught.exception

    def test_meanings(self) -> None:
        """What passes, what is full, and what is a mistake are told apart."""
        out = "command not allowed when used memory > 'maxmemory'."
        disk = "MISCONF Errors writing to the AOF file: No space left on device"
        for error, kind in (
            (redis.ConnectionError("gone"), LedgerUnavailableError),
            (redis.TimeoutError("late"), LedgerUnavailableError),
            (redis.exceptions.BusyLoadingError("loading"), LedgerUnavailableError),
            (ReadOnlyError("a replica"), LedgerUnavailableError),
            (redis.exceptions.MovedError("1234 host:1"), LedgerUnavailableError),
            (ResponseError("BUSY Redis is busy running a script"), LedgerUnavailableError),
            (ResponseError("MISCONF Errors writing to the AOF file: I/O"), LedgerUnavailableError),
            (ResponseError("NOREPLICAS Not enough good replicas"), LedgerUnavailableError),
            (OutOfMemoryError(out), LedgerFullError),
            (ResponseError(f"ERR Error running script: -OOM {out}"), LedgerFullError),
            (ResponseError(disk), LedgerFullError),
            (ResponseError("WRONGTYPE Operation"), ResponseError),
        ):
            self.assertIs(type(self.ask(error)), kind, error)

    def test_not_asked_twice(self) -> None:
        """What is not answered is not asked again: it may have happened."""
        store = RedisStore(URL)
        client = store._server._client
        self.assertEqual(client.connection_pool.connection_kwargs["retry"].get_retries(), 0)


class StoreTests(SynchronousTestCase):
    """What needs no server."""

    def test_forked(self) -> None:
        """In a process that was forked off nothing is done."""
        store = RedisStore(URL)
        self.patch(store, "_process", -1)
        self.assertRaises(ForkedProcessError, store.open)
        self.assertRaises(ForkedProcessError, store.enter, "1" * 32)
        with self.assertRaises(ForkedProcessError), store.transaction():
            raise AssertionError("it began")

    def test_nothing_to_do(self) -> None:
        """A transaction in which nothing happens asks the server for nothing."""
        with RedisStore(URL).transaction():
            pass

    def test_joined_with_something_else(self) -> None:
        """There is no transaction on Redis that one could take part in."""
        error = self.assertRaises(LedgerTransactionError, RedisStore(URL).join, object())
        self.assertIn("has none", str(error))
