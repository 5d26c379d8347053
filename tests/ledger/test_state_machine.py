"""Whatever happens in whatever order, each store does what the model says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from oni.interfaces import ILedgerStore
from oni.ledger import MemoryStore
from oni.ledger.django import DjangoStore
from oni.testing import LedgerModel
from oni.values import Handling
from tests.ledger import django_aliases
from tests.ledger.stores import SqlFolder, effects, write_effect

KEYS = st.sampled_from(["a", "b", "c"])
HANDLERS = ("mail", "log", "push")
OWNERS = st.sampled_from(["1" * 32, "2" * 32])
HANDLINGS = st.lists(
    st.builds(
        Handling,
        st.sampled_from(HANDLERS),
        st.sampled_from(["retry", "park", "transaction"]),
        st.integers(1, 3),
        st.integers(0, 2),
    ),
    unique_by=lambda handling: handling.handler,
)
LEASE = 10.0
LAST = st.integers(0, 5)  # which of the last ones

has_claims = precondition(lambda self: self.model.claims)


class Machine(RuleBasedStateMachine):
    """Takes the model's steps on the reference store."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def clock(self) -> float:
        """Give the time."""
        return self.now

    def set_clock(self, now: float) -> None:
        """Set it."""
        self.now = now

    def make(self) -> tuple[ILedgerStore, Callable[[Any, str], None], Callable[[], Sequence[str]]]:
        """Give a store, and how effects are written and read."""
        store = MemoryStore(clock=self.clock)

        def write(connection: Any, name: str) -> None:
            connection.put("effects", (*(connection.get("effects") or ()), name))

        return store, write, lambda: store.notes.get("effects", ())

    @initialize()
    def begin(self) -> None:
        """Open a store."""
        self.store, write, read = self.make()
        self.store.open()
        self.model = LedgerModel(self.store, self.set_clock, write, read)

    @rule(key=KEYS, payload=st.sampled_from([b"", b"other"]), handlings=HANDLINGS)
    def admit(self, key: str, payload: bytes, handlings: list[Handling]) -> None:
        """Offer an event."""
        self.model.admit(key, payload, handlings)

    @rule(
        owner=OWNERS,
        handlers=st.permutations(HANDLERS).flatmap(
            lambda names: st.integers(1, len(names)).map(lambda number: names[:number])
        ),
        limit=st.integers(1, 4),
        keys=st.none() | st.lists(KEYS, unique=True),
    )
    def claim(self, owner: str, handlers: list[str], limit: int, keys: list[str] | None) -> None:
        """Claim what is due."""
        self.model.claim(owner, handlers, limit, LEASE, keys)

    @has_claims
    @rule(last=LAST)
    def complete(self, last: int) -> None:
        """Complete a claim, which may be an old one."""
        self.model.complete(self.model.claims[-1 - last % len(self.model.claims)])

    @has_claims
    @rule(last=LAST, permanent=st.booleans(), delay=st.sampled_from([None, 0.0, 7.0]))
    def fail(self, last: int, permanent: bool, delay: float | None) -> None:
        """Fail with a claim."""
        claim = self.model.claims[-1 - last % len(self.model.claims)]
        self.model.fail(claim, permanent, delay)

    @has_claims
    @rule(last=LAST)
    def release(self, last: int) -> None:
        """Give a claim back."""
        self.model.release(self.model.claims[-1 - last % len(self.model.claims)])

    @has_claims
    @rule(last=LAST)
    def extend(self, last: int) -> None:
        """Extend a claim, later than whatever was seen."""
        self.model.pass_time(0.001)
        self.model.extend(self.model.claims[-1 - last % len(self.model.claims)], LEASE)

    @has_claims
    @rule(last=LAST)
    def break_down(self, last: int) -> None:
        """Break down just before the transaction ends."""
        self.model.break_down(self.model.claims[-1 - last % len(self.model.claims)])

    @rule()
    def look(self) -> None:
        """See what runs."""
        self.model.look()

    @precondition(lambda self: self.model.sightings)
    @rule(last=LAST)
    def rescue(self, last: int) -> None:
        """Rescue what was seen, maybe long ago."""
        self.model.rescue(*self.model.sightings[-1 - last % len(self.model.sightings)])

    @rule(handler=st.sampled_from(HANDLERS), key=KEYS, decision=st.sampled_from(["done", "retry"]))
    def resolve(self, handler: str, key: str, decision: Any) -> None:
        """Decide."""
        self.model.resolve(handler, key, decision)

    @rule(older_than=st.sampled_from([0.0, 5.0, 100.0]))
    def prune(self, older_than: float) -> None:
        """Forget."""
        self.model.prune(older_than)

    @rule(seconds=st.sampled_from([1.0, 9.0, 11.0, 300.0, 86_400.0, -86_400.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, or a clock be set."""
        self.model.pass_time(seconds)

    @rule()
    def catch_up(self) -> None:
        """Let none wait for a clock that was set back."""
        self.model.catch_up()

    @invariant()
    def is_as_it_must_be(self) -> None:
        """Compare."""
        if hasattr(self, "model"):
            self.model.verify()


class SqliteMachine(Machine):
    """The same on SQLite."""

    def make(self) -> tuple[ILedgerStore, Callable[[Any, str], None], Callable[[], Sequence[str]]]:
        """Give a store in a file."""
        self.folder = SqlFolder(self.clock)
        return self.folder.store, write_effect, lambda: effects(self.folder.engine)

    def teardown(self) -> None:
        """Remove it."""
        if hasattr(self, "folder"):
            self.folder.remove()


class DjangoMachine(Machine):
    """The same on SQLite through Django."""

    def make(self) -> tuple[ILedgerStore, Callable[[Any, str], None], Callable[[], Sequence[str]]]:
        """Give a store in a file."""
        self.folder = django_aliases.AliasFolder()
        alias = self.folder.alias
        store = DjangoStore(alias, clock=self.clock)
        return store, django_aliases.write_effect, lambda: django_aliases.effects(alias)

    def teardown(self) -> None:
        """Remove it."""
        if hasattr(self, "folder"):
            self.store.close()
            self.folder.remove()


def limits(examples: int) -> settings:
    """Give how much is tried."""
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


MemoryCase = Machine.TestCase
MemoryCase.settings = limits(200)
SqliteCase = SqliteMachine.TestCase
SqliteCase.settings = limits(30)
DjangoCase = DjangoMachine.TestCase
DjangoCase.settings = limits(30)

pytestmark = pytest.mark.timeout(120)
