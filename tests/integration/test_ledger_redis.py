"""The ledger on a real Redis: the battery, the state machine, what is refused, what dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from random import Random
from typing import Any

import pytest
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import DeliveryStateError, StaleClaimError, UnknownDeliveryError
from oni.interfaces import ILedgerStore, ILedgerTransaction
from oni.ledger import MemoryStore
from oni.ledger._group_commit import perform
from oni.ledger.redis import RedisEffects, RedisStore
from oni.testing import LedgerStoreBattery
from oni.values import Claim, Delivery, Handling, LedgerEvent, LedgerRecord
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


Step = Callable[[ILedgerTransaction], Any]


class Groups:
    """Does the same groups of steps on Redis and in memory, and compares all that comes of it.

    In a group one step sees what the one before it has done, though nothing is written yet; and
    it is done again when what was taken for granted is not so.
    """

    def __init__(self, random: Random) -> None:
        self.now = 1_000_000.0
        self.store = RedisStore(servers[0].url, new_namespace(), clock=self.clock)
        self.memory = MemoryStore(self.store.namespace, clock=self.clock)
        self._random = random
        self._claims: list[Claim] = []
        self._seen: list[Delivery] = []

    def clock(self) -> float:
        """Give the time."""
        return self.now

    def go_on(self, together: bool) -> None:
        """Do one group, in one of the two ways in which there are transactions."""
        self.now += self._random.choice([0.0, 0.5, 20.0, 400.0])
        steps = [self._step() for _ in range(self._random.randint(1, 6))]
        prunes = self._random.random() < 0.1
        if prunes:
            steps.append(lambda t: t.prune(5.0, 10))
        expected = self._do(self.memory, steps, together)
        assert self._do(self.store, steps, together) == expected
        assert self._all_of(self.store) == self._all_of(self.memory)
        if prunes:  # a claim on a key that was forgotten may fit its next life, and be wrong there
            self._claims, self._seen = [], []
        for answer in expected:
            if isinstance(answer, list):
                self._claims += [each for each in answer if isinstance(each, Claim)]
                self._seen += [each for each in answer if isinstance(each, Delivery)]

    def _do(self, store: ILedgerStore, steps: Sequence[Step], together: bool) -> list[Any]:
        if together:
            return [_comparable(answer) for answer in perform(store, steps)]
        with store.transaction() as transaction:
            return [_comparable(_attempt(step, transaction)) for step in steps]

    def _all_of(self, store: ILedgerStore) -> Any:
        with store.transaction(read=True) as transaction:
            shown = [_comparable(transaction.show(f"k{number}")) for number in range(5)]
            listed = transaction.deliveries(None, None, 100)
            return shown, list(listed), transaction.count(), transaction.lag()

    def _step(self) -> Step:
        random = self._random
        key, handlers = f"k{random.randrange(5)}", ["mail", "log", "push"]
        claim = random.choice(self._claims[-6:]) if self._claims else None
        seen = random.choice(self._seen[-6:]) if self._seen else None
        event = LedgerEvent(key, "g", random.choice([b"a", b"a", b"b"]), _handlings(random))
        wanted = random.sample(handlers, random.randint(1, 3))
        keys = random.choice([None, None, [key, "k0"]])
        limit = random.randint(1, 4)
        handler, decision = random.choice(handlers), random.choice(["done", "retry"])
        delay, whose = random.choice([None, 0.0]), random.choice([None, handler])
        state = random.choice([None, "pending", "running", "done"])
        steps: list[Step] = [
            *[lambda t: t.admit(event)] * 2,
            *[lambda t: t.claim(wanted, limit, ONE, LEASE, keys)] * 2,
            lambda t: sorted(t.running(), key=lambda row: (row.key, row.handler)),
            lambda t: t.resolve(handler, key, decision, "ann"),
            lambda t: t.show(key),
            lambda t: t.count(),
            lambda t: t.deliveries(state, whose, 100),
        ]
        if claim is not None:
            steps += [
                *[lambda t: t.complete(claim)] * 3,
                lambda t: t.fail(claim, "no", False, delay),
                lambda t: t.extend(claim, LEASE),
                lambda t: t.release(claim),
            ]
        if seen is not None and seen.state == "running":
            steps += [lambda t: t.rescue(seen)] * 2
        return random.choice(steps)


def _handlings(random: Random) -> tuple[Handling, ...]:
    names = random.sample(["mail", "log", "push"], random.randint(0, 3))
    return tuple(
        Handling(name, random.choice(["retry", "park"]), 3, random.randint(0, 2))  # type: ignore[arg-type]
        for name in names
    )


def _attempt(step: Step, transaction: ILedgerTransaction) -> Any:
    try:
        return step(transaction)
    except (StaleClaimError, DeliveryStateError, UnknownDeliveryError) as error:
        return Failure(error)


def _comparable(answer: Any) -> Any:
    if isinstance(answer, Failure):
        return repr(answer.value)
    if isinstance(answer, LedgerRecord):
        return answer.event, answer.admitted_at, [*answer.deliveries], [*answer.decisions]
    return list(answer) if isinstance(answer, list | tuple) else answer


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_groups(seed: int, together: bool) -> None:
    """What is done in one transaction is as if it was done in memory, guessed or asked for."""
    groups = Groups(Random(seed))
    for _ in range(120):
        groups.go_on(together)
    groups.store.close()
