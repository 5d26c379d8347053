"""The ledger on a real Redis: the battery, the state machine, what is refused, what dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from oni.interfaces import ILedgerStore
from oni.ledger.redis import RedisEffects, RedisStore
from oni.testing import LedgerStoreBattery
from tests.integration.redis_server import RedisServer, needs_redis, running_redis
from tests.ledger.test_state_machine import Machine, limits

pytestmark = [needs_redis, pytest.mark.timeout(120)]

ONE, TWO = "1" * 32, "2" * 32
WITHIN = 30.0  # seconds
LEASE = 10.0

servers: list[RedisServer] = []
numbers = count()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Run one server for all of this."""
    with running_redis() as running:
        servers.append(running)
        yield
        servers.clear()


def new_namespace() -> str:
    """Give a namespace in which nothing is."""
    return f"n{next(numbers)}"


def write_effect(effects: RedisEffects, name: str) -> None:
    """Write it into a list."""
    namespace = effects.transaction._namespace
    effects.queue("RPUSH", f"effects:{{{namespace}}}", name)


def effects_of(store: RedisStore) -> Sequence[str]:
    """Read the list."""
    with servers[0].client() as client:
        found: list[str] = client.lrange(f"effects:{{{store.namespace}}}", 0, -1)
        return found


class BatteryTests(LedgerStoreBattery, SynchronousTestCase):
    """The same as every other store."""

    store: RedisStore

    def make_store(self) -> ILedgerStore:
        """See the battery."""
        return RedisStore(servers[0].url, new_namespace(), clock=self.clock)

    def write_effect(self, connection: Any, name: str) -> None:
        """See the battery."""
        write_effect(connection, name)

    def effects(self) -> Sequence[str]:
        """See the battery."""
        return effects_of(self.store)


class RedisMachine(Machine):
    """Whatever happens in whatever order."""

    store: RedisStore

    def make(self) -> tuple[ILedgerStore, Callable[[Any, str], None], Callable[[], Sequence[str]]]:
        """Give a store."""
        store = RedisStore(servers[0].url, new_namespace(), clock=self.clock)
        return store, write_effect, lambda: effects_of(store)

    def teardown(self) -> None:
        """Close it."""
        if hasattr(self, "store"):
            self.store.close()


RedisCase = RedisMachine.TestCase
RedisCase.settings = limits(30)
