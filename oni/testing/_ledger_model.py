"""What a ledger's store must do, said a second time and in another way, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from oni.errors import DeliveryStateError, StaleClaimError, UnknownDeliveryError
from oni.interfaces import ILedgerStore
from oni.values import Claim, Delivery, Handling, LedgerEvent

__all__ = ["LedgerModel"]

_ALL = 1_000_000
_NOT_ENDED = ("pending", "running")
_AHEAD = 1.0  # seconds
_TO_BE_WRITTEN = 1e-6  # seconds; a store's numbers may be this much off


@dataclass
class _Expected:
    """What a delivery must look like."""

    handling: Handling
    next_at: float
    state: str = "pending"
    attempts: int = 0
    crashes: int = 0
    token: int = 0
    owner: str = ""
    changed_at: float = 0.0
    lease: int = 0  # how often it was made longer
    completions: int = 0
    decisions: list[tuple[str, str]] = field(default_factory=list)


class LedgerModel:
    """Takes steps on a store, and raises AssertionError when it does not do what it must.

    Every step may be taken at any time, with any claim that ever was. After each one call
    :meth:`verify`.

    Args:
        store: An open one, with nothing in it.
        set_clock: Sets the store's clock.
        write_effect: Writes a name through a transaction's connection, beside the ledger.
        effects: Gives the names that were written and committed.
    """

    def __init__(
        self,
        store: ILedgerStore,
        set_clock: Callable[[float], object],
        write_effect: Callable[[Any, str], object],
        effects: Callable[[], Sequence[str]],
    ) -> None:
        self.now = 1_000_000.0
        self.claims: list[Claim] = []
        self.sightings: list[tuple[Delivery, int]] = []
        self._store = store
        self._set_clock = set_clock
        self._write_effect = write_effect
        self._effects = effects
        self._rows: dict[tuple[str, str], _Expected] = {}
        self._events: dict[str, tuple[bytes, float]] = {}
        self._written: Counter[str] = Counter()
        set_clock(self.now)

    # --- Steps

    def pass_time(self, seconds: float) -> None:
        """Let time pass; a clock that is set back passes it backwards."""
        self.now += seconds
        self._set_clock(self.now)

    def admit(self, key: str, payload: bytes, handlings: Sequence[Handling]) -> None:
        """Offer an event."""
        with self._store.transaction() as transaction:
            admission = transaction.admit(LedgerEvent(key, "group", payload, tuple(handlings)))
        if key in self._events:
            same = self._events[key][0] == payload
            assert admission == ("duplicate" if same else "conflict"), admission
            return
        assert admission == "admitted", admission
        self._events[key] = (payload, self.now)
        for each in handlings:
            row = _Expected(each, self.now, changed_at=self.now)
            self._rows[key, each.handler] = row

    def claim(
        self,
        owner: str,
        handlers: Sequence[str],
        limit: int,
        lease: float,
        keys: Collection[str] | None = None,
    ) -> None:
        """Claim what is due."""
        with self._store.transaction() as transaction:
            claims = transaction.claim(handlers, limit, owner, lease, keys)
        due = {
            name: row
            for name, row in self._rows.items()
            if row.state == "pending"
            and row.next_at <= self.now
            and name[1] in handlers
            and (keys is None or name[0] in keys)
            and not any(other.state in _NOT_ENDED for other in self._of_lower_rank(name))
        }
        assert len(claims) <= limit, "more than wanted"
        assert bool(claims) == bool(due), "what is due was left, or what is not was claimed"
        names = [(claim.key, claim.handler) for claim in claims]
        assert len(set(names)) == len(names), "one was given twice"
        suspects = [name for name in names if self._rows[name].crashes]
        assert not suspects or len(names) == 1, "a suspect did not come alone"
        for claim, name in zip(claims, names, strict=True):
            assert name in due, "one was claimed that is not due"
            row = due[name]
            row.state, row.owner, row.changed_at = "running", owner, self.now
            row.attempts += 1
            row.token += 1
            assert (claim.token, claim.attempt) == (row.token, row.attempts)
            assert claim.payload == self._events[claim.key][0]
            assert claim.idempotency_key.endswith(f"/{claim.handler}/{claim.key}")
        self.claims += claims

    def complete(self, claim: Claim) -> None:
        """Write an effect and complete a claim in one transaction."""
        effect = f"{claim.handler}/{claim.key}"
        held = self._holds(claim)
        try:
            with self._store.transaction() as transaction:
                self._write_effect(transaction.connection, effect)
                transaction.complete(claim)
        except StaleClaimError:
            assert not held, "an owner was refused what is its own"
            return
        assert held, "a claim that does not hold was completed"
        row = self._end(claim, "done")
        row.completions += 1
        self._written[effect] += 1

    def break_down(self, claim: Claim) -> None:
        """Write an effect, complete, and raise before the transaction ends."""
        try:
            with self._store.transaction() as transaction:
                self._write_effect(transaction.connection, "never")
                if self._holds(claim):
                    transaction.complete(claim)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    def fail(self, claim: Claim, permanent: bool, delay: float | None) -> None:
        """Let a claim's attempt have failed."""
        held = self._holds(claim)
        try:
            with self._store.transaction() as transaction:
                after = transaction.fail(claim, "no luck", permanent, delay)
        except StaleClaimError:
            assert not held, "an owner was refused what is its own"
            return
        assert held, "a claim that does not hold has failed"
        row = self._rows[claim.key, claim.handler]
        if row.handling.on_crash == "park" and not permanent:
            self._end(claim, "uncertain")
        elif permanent or row.attempts >= row.handling.max_attempts:
            self._end(claim, "dead")
        else:
            self._end(claim, "pending")
            wait = min(300.0, 2.0 ** (row.attempts - 1)) if delay is None else delay
            row.next_at = self.now + wait
        assert after.state == row.state
        assert after.last_error == "no luck"

    def release(self, claim: Claim) -> None:
        """Give a claim back that was never begun."""
        held = self._holds(claim)
        with self._store.transaction() as transaction:
            assert transaction.release(claim) == held
        if held:
            row = self._end(claim, "pending")
            row.attempts -= 1
            row.next_at = self.now

    def extend(self, claim: Claim, lease: float) -> None:
        """Make a claim's lease longer."""
        held = self._holds(claim)
        with self._store.transaction() as transaction:
            assert transaction.extend(claim, lease) == held
        if held:
            self._rows[claim.key, claim.handler].lease += 1

    def look(self) -> None:
        """See what runs, to take it later."""
        with self._store.transaction(read=True) as transaction:
            running = transaction.running()
        names = {(each.key, each.handler) for each in running}
        assert names == {name for name, row in self._rows.items() if row.state == "running"}
        self.sightings += [(each, self._rows[each.key, each.handler].lease) for each in running]

    def rescue(self, delivery: Delivery, lease: int) -> None:
        """Take a delivery as it was once seen."""
        row = self._rows.get((delivery.key, delivery.handler))
        unchanged = (
            row is not None
            and (row.token, row.state) == (delivery.token, "running")
            and row.lease == lease
        )
        with self._store.transaction() as transaction:
            assert transaction.rescue(delivery) == unchanged, "what changed since was taken"
        if row is None or not unchanged:
            return
        row.crashes += 1
        row.owner, row.changed_at = "", self.now
        if row.handling.on_crash == "park":
            row.state = "uncertain"
        elif row.attempts >= row.handling.max_attempts:
            row.state = "dead"
        else:
            row.state = "pending"
            wait = min(300.0, 2.0 ** (row.crashes - 2)) if row.crashes > 1 else 0.0
            row.next_at = self.now + wait

    def catch_up(self) -> None:
        """Let those wait no longer than they had to whose clock was set back."""
        with self._store.transaction() as transaction:
            ahead = transaction.ahead()
            assert all(transaction.catch_up(each) for each in ahead)
        late = {
            name
            for name, row in self._rows.items()
            if row.state == "pending" and row.changed_at > self.now + _AHEAD
        }
        names = {(each.key, each.handler) for each in ahead}
        assert names <= late, "one is not late, and was changed"
        assert bool(names) == bool(late), "what is late was left"
        for name in names:
            row = self._rows[name]
            row.next_at = self.now + max(0.0, row.next_at - row.changed_at)
            row.changed_at = self.now

    def resolve(self, handler: str, key: str, decision: Literal["done", "retry"]) -> None:
        """Decide as an operator."""
        row = self._rows.get((key, handler))
        try:
            with self._store.transaction() as transaction:
                transaction.resolve(handler, key, decision, "somebody")
        except UnknownDeliveryError:
            assert row is None
            return
        except DeliveryStateError:
            assert row is not None
            assert row.state in ("running", decision)
            return
        assert row is not None
        assert row.state not in ("running", decision)
        row.decisions.append((decision, row.state))
        row.state = "done" if decision == "done" else "pending"
        row.changed_at = self.now
        if decision == "retry":
            row.attempts = row.crashes = row.completions = 0
            row.next_at = self.now

    def prune(self, older_than: float) -> None:
        """Forget what was completed long ago."""
        before = self.now - older_than
        kept = {
            key
            for (key, _), row in self._rows.items()
            if row.state != "done" or row.changed_at > before
        }
        old = {key for key, (_, at) in self._events.items() if key not in kept and at <= before}
        with self._store.transaction() as transaction:
            assert transaction.prune(older_than, _ALL) == len(old)
        for key in old:
            del self._events[key]
        for name in [name for name in self._rows if name[0] in old]:
            del self._rows[name]
        # A key that comes again is a new one, and the claims on the old one are nobody's.
        self.claims = [claim for claim in self.claims if claim.key not in old]
        self.sightings = [each for each in self.sightings if each[0].key not in old]

    # --- What must be so

    def verify(self) -> None:
        """Compare all that is kept with what must be."""
        with self._store.transaction(read=True) as transaction:
            kept = transaction.deliveries(None, None, _ALL)
            counted = transaction.count()
            records = {key: transaction.show(key) for key in self._events}
        names = [(each.key, each.handler) for each in kept]
        assert len(set(names)) == len(names), "one delivery is there twice"
        assert set(names) == set(self._rows), "deliveries were lost, or came from nowhere"
        for each in kept:
            self._compare(each, self._rows[each.key, each.handler])
            before = self._of_lower_rank((each.key, each.handler))
            assert each.waits_for == sum(row.state in _NOT_ENDED for row in before), (
                f"{each} does not wait for those of a lower rank"
            )
        assert {state: number for state, number in counted.items() if number} == Counter(
            row.state for row in self._rows.values()
        )
        for key, record in records.items():
            assert record is not None, "an event was lost"
            assert record.event.payload == self._events[key][0]
            decided = [(d.handler, d.decision, d.was) for d in record.decisions]
            for handler in {each.handler for each in record.deliveries}:
                mine = [(decision, was) for name, decision, was in decided if name == handler]
                assert mine == self._rows[key, handler].decisions, "an operator's word was lost"
        self._verify_effects()

    def _compare(self, each: Delivery, row: _Expected) -> None:
        found = (each.state, each.attempts, each.crashes, each.token, each.owner)
        expected = (row.state, row.attempts, row.crashes, row.token, row.owner)
        assert found == expected, f"{each} is not {row}"
        assert (each.on_crash, each.max_attempts, each.rank) == (
            row.handling.on_crash,
            row.handling.max_attempts,
            row.handling.rank,
        )
        assert abs(each.changed_at - row.changed_at) < _TO_BE_WRITTEN
        if row.state == "pending":
            assert abs(each.next_at - row.next_at) < _TO_BE_WRITTEN
        assert row.completions <= 1, "completed twice"

    def _verify_effects(self) -> None:
        written = Counter(self._effects())
        assert written == self._written, "an effect without its completion, or the reverse"

    def _of_lower_rank(self, name: tuple[str, str]) -> list[_Expected]:
        """Give those of the same key that have to end before it may run."""
        rank = self._rows[name].handling.rank
        return [
            row
            for (key, _), row in self._rows.items()
            if key == name[0] and row.handling.rank < rank
        ]

    def _holds(self, claim: Claim) -> bool:
        row = self._rows.get((claim.key, claim.handler))
        return row is not None and (row.state, row.token) == ("running", claim.token)

    def _end(self, claim: Claim, state: str) -> _Expected:
        row = self._rows[claim.key, claim.handler]
        row.state, row.owner, row.changed_at = state, "", self.now
        return row
