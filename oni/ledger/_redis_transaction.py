"""One transaction of a ledger on Redis: it looks first, and writes everything in one script.

Redis knows no transaction that one can look into while it grows. So what is written waits here,
seen by this transaction alone, and beside it stands what it was founded on: which keys were not
there, and how the deliveries were that it changes. The script at the end compares that with what
is so by then, and writes all, or nothing.

What a delivery becomes is thereby said in one place, :mod:`oni.ledger._states`, and not a second
time in Lua. The price is a question before the answer; where a group of operations can be done
again, it is not asked: a claim is taken to hold and a key to be new, and where that was wrong the
script says how it is, and the group is done again with that in mind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol

from msgspec import json

from oni.errors import LedgerFullError, LedgerTransactionError, OniError, StaleClaimError
from oni.ledger._redis_effects import RedisEffects
from oni.ledger._redis_rows import (
    Entry,
    decision_of,
    delivery_of,
    text_of,
    text_of_decision,
)
from oni.ledger._redis_scripts import VERSION
from oni.ledger._states import STATES
from oni.ledger._transaction import LedgerTransaction, LostRaceError
from oni.values import Claim, Decision, Delivery, DeliveryState, LedgerEvent

__all__ = ["LostGuessError", "RedisTransaction", "Server", "Truths", "is_full"]

Truths = Mapping[str, Sequence[bytes]]
"""What the server has of some keys."""

_MANY = 500  # keys that one script reads
_ALL = 2**31

Offer = tuple[Delivery, str, bytes]


class Server(Protocol):
    """Where the scripts are."""

    prefix: str
    """What all keys begin with."""

    def run(self, script: str, *arguments: bytes | str | int) -> Any:
        """Run one of :data:`oni.ledger._redis_scripts.SCRIPTS`, once or not at all."""

    def given_time(self) -> str:
        """Give the time that the scripts shall take it to be, or ``""`` for the server's own."""


class LostGuessError(LostRaceError):
    """What a transaction stood on is not so. Nothing of it was kept.

    Attributes:
        truths: How it is.
    """

    def __init__(self, truths: Truths) -> None:
        super().__init__("somebody else has changed what the transaction had looked at")
        self.truths = truths


class RedisTransaction(LedgerTransaction):
    """One transaction.

    Args:
        server: Where to.
        namespace: What idempotency keys begin with.
        truths: What is known of some keys; None: nothing is ever taken to be so unasked.
    """

    connection: RedisEffects

    def __init__(self, server: Server, namespace: str, truths: Truths | None = None) -> None:
        super().__init__(RedisEffects(server.prefix), namespace)
        self._server = server
        self._may_guess = truths is not None
        self._now: float | None = None
        self._entries: dict[str, Entry] = {}
        self._claims: dict[tuple[str, str], Claim] = {}
        self._offers: dict[str, list[Offer]] = {}
        self._offered: dict[str, None] = {}
        self._shown: dict[str, tuple[bytes, Sequence[bytes]]] = {}
        for key, found in (truths or {}).items():
            self._entry(key).learn(key, found)

    # --- What is read

    def now(self) -> float:
        """Give the server's time when it was first asked for: one for the whole transaction."""
        if self._now is None:
            self._read([])
        assert self._now is not None
        return self._now

    def _entry(self, key: str) -> Entry:
        return self._entries.setdefault(key, Entry())

    def _read(self, keys: Sequence[str]) -> None:
        """Read whole keys."""
        for start in range(0, max(1, len(keys)), _MANY):
            some = keys[start : start + _MANY]
            time, *found = self._server.run("read", self._server.given_time(), *some)
            self._set_time(time)
            for key, fields in zip(some, found, strict=True):
                self._entry(key).learn(key, fields)

    def _set_time(self, time: bytes) -> None:
        if self._now is None:
            self._now = float(time)

    def _known(self, key: str) -> Entry:
        """Give a key of which everything is known."""
        entry = self._entry(key)
        if not entry.is_known:
            self._read([key])
        return entry

    def _touched(self) -> dict[str, Entry]:
        """Give all keys that this transaction has to do with, each of them whole."""
        self._read_if_any([key for key, entry in self._entries.items() if not entry.is_known])
        return self._entries

    def _read_if_any(self, keys: Sequence[str]) -> None:
        if keys:
            self._read(keys)

    # --- Events

    def add_event(self, event: LedgerEvent, digest: bytes, now: float) -> bool:
        """See the base class."""
        entry = self._entry(event.key)
        if not entry.is_known and (entry.is_there or not self._may_guess):
            self._read([event.key])
        if entry.is_there:
            return False
        entry.admit(event, digest, now)
        return True

    def add_delivery(self, delivery: Delivery) -> None:
        """See the base class."""
        entry = self._entry(delivery.key)
        entry.rows[delivery.handler] = delivery
        entry.written.add(delivery.handler)

    def add_decision(self, decision: Decision) -> None:
        """See the base class."""
        self._entry(decision.key).decisions.append(decision)

    def digest(self, key: str) -> bytes | None:
        """See the base class."""
        return self._known(key).digest

    def finished(self, before: float, limit: int) -> Sequence[str]:
        """See the base class."""
        touched = dict(self._touched())
        asked = limit + len(touched)
        found = self._server.run("finished", repr(before), min(asked, _ALL))
        keys = [key for key in map(bytes.decode, found) if key not in touched]
        self._read_if_any(keys)
        finished = [
            key
            for key, entry in chain(touched.items(), ((key, self._entries[key]) for key in keys))
            if entry.event is not None
            and not entry.unread
            and entry.admitted_at <= before
            and all(
                row.state == "done" and row.changed_at <= before for row in entry.rows.values()
            )
        ]
        return finished[:limit]

    def remove(self, key: str) -> None:
        """See the base class."""
        self._known(key).forget()

    def event(self, key: str) -> tuple[LedgerEvent, float] | None:
        """See the base class."""
        entry = self._known(key)
        if entry.event is None:
            return None
        return LedgerEvent(key, entry.event.group, self._payload(key)), entry.admitted_at

    def _payload(self, key: str) -> bytes:
        entry = self._entries[key]
        if entry.has_payload and entry.event is not None:
            return entry.event.payload
        return self._show(key)[0]

    def _show(self, key: str) -> tuple[bytes, Sequence[bytes]]:
        """Give a payload, and what was decided, as the server has them."""
        if key not in self._shown:
            payload, decided = self._server.run("show", key)
            self._shown[key] = payload or b"", decided
        return self._shown[key]

    def of_key(self, key: str) -> Sequence[Delivery]:
        """See the base class."""
        return self._known(key).deliveries()

    def decisions(self, key: str) -> Sequence[Decision]:
        """See the base class."""
        entry = self._known(key)
        kept = () if entry.is_anew or entry.must_be_absent else self._show(key)[1]
        return [*(decision_of(key, text) for text in kept), *entry.decisions]

    # --- Deliveries

    def claim(
        self,
        handlers: Collection[str],
        limit: int,
        owner: str,
        lease: float,
        keys: Collection[str] | None = None,
    ) -> Sequence[Claim]:
        """See :class:`oni.interfaces.ILedgerTransaction`. All handlers are asked for at once."""
        names = list(handlers)
        if names and limit > 0 and (keys is None or keys):
            self._take_offers(names, limit, keys)
        return super().claim(names, limit, owner, lease, keys)

    def _take_offers(
        self, handlers: Sequence[str], limit: int, keys: Collection[str] | None
    ) -> None:
        for key in self._offered:
            self._entry(key)  # what was left over the last time is ours, and nobody is given it
        wanted: dict[str, Any] = {"handlers": handlers, "touched": list(self._entries)}
        if keys is not None:
            wanted["keys"] = list(keys)
        time, *found = self._server.run(
            "offer", self._server.given_time(), limit, json.encode(wanted)
        )
        self._set_time(time)
        self._offers = {handler: [] for handler in handlers}
        for words in found:
            handler, key, group = (word.decode() for word in (words[0], words[1], words[3]))
            row = delivery_of(handler, key, words[2])
            self._offered[key] = None
            if row is not None:
                self._offers[handler].append((row, group, words[4]))

    def due(
        self, handler: str, now: float, limit: int, keys: Collection[str] | None
    ) -> Sequence[Offer]:
        """See the base class."""
        offers = list(self._offers.get(handler, ()))
        fresh = {row.key for row, _, _ in chain.from_iterable(self._offers.values())}
        rest = [key for key in self._entries if key not in fresh and (keys is None or key in keys)]
        self._read_if_any([key for key in rest if not self._entries[key].is_known])
        for key in rest:
            entry = self._entries[key]
            row = entry.due(handler, now)
            if row is not None and entry.event is not None:
                offers.append((row, entry.event.group, self._payload(key)))
        offers.sort(key=lambda offer: (offer[0].next_at, offer[0].key))
        return offers[:limit]

    def find(self, handler: str, key: str) -> Delivery | None:
        """See the base class."""
        found = (row for row in self._known(key).deliveries() if row.handler == handler)
        return next(found, None)

    def write(self, before: Delivery, after: Delivery, unless_extended: bool = False) -> bool:
        """See the base class.

        It must also be the same owner's: of a server that has forgotten the last second, two
        owners may have the same token.
        """
        entry = self._entry(before.key)
        row = entry.rows.get(before.handler)
        if row is None and not entry.is_known:
            if self._is_given(before):
                entry.see(before)
            else:
                self._read([before.key])
            row = entry.rows.get(before.handler)
        if row is None or (row.state, row.token, row.owner) != (
            before.state,
            before.token,
            before.owner,
        ):
            return False
        if unless_extended and row.lease_until != before.lease_until:
            return False
        if before.handler in entry.was:
            lease = row.lease_until if unless_extended else None
            entry.seen.setdefault(before.handler, (row.state, row.token, row.owner, lease))
        self.add_delivery(after)
        return True

    def _is_given(self, before: Delivery) -> bool:
        """Say whether a delivery may be taken to be as somebody has it."""
        offers = self._offers.get(before.handler, ())
        return self._may_guess or any(offer[0] is before for offer in offers)

    def let_wait(self, key: str, rank: int, more: int) -> None:
        """See the base class. Who waits for whom is seen in the ranks of a key's deliveries."""

    def _step(self, claim: Claim, after: Delivery) -> None:
        self._claims[claim.handler, claim.key] = claim
        super()._step(claim, after)

    def running(self) -> Sequence[Delivery]:
        """See the base class."""
        return self.deliveries("running", None, _ALL)

    def deliveries(
        self, state: DeliveryState | None, handler: str | None, limit: int
    ) -> Sequence[Delivery]:
        """See the base class."""
        changed = self._changed()
        states = STATES if state is None else (state,)
        asked = min(limit + sum(len(entry.was) for entry in changed.values()), _ALL)
        listed = sorted(
            chain.from_iterable(self._listed(name, asked, handler) for name in states),
            reverse=True,
        )
        rows = [
            row
            for row in self._rows([member for _, member in listed[:asked]], changed)
            if state in (None, row.state) and handler in (None, row.handler)
        ]
        rows.sort(key=lambda row: (-row.changed_at, row.key, row.handler))
        return rows[:limit]

    def _listed(
        self, state: DeliveryState, limit: int, handler: str | None
    ) -> Sequence[tuple[float, bytes]]:
        """Give who is in a state, by since when, as the server lists them."""
        found: dict[bytes, float] = {}
        place = 0
        while place >= 0 and len(found) < limit:
            left = limit - len(found)
            place, *page = self._server.run("list", left, handler or "", state, place)
            found.update(zip(page[::2], map(float, page[1::2]), strict=True))
        return [(since, member) for member, since in found.items()]

    def changed_after(self, time: float) -> Sequence[Delivery]:
        """See the base class."""
        found = self._server.run("changed after", repr(time), _MANY)
        return [
            row
            for row in self._rows(found, self._changed())
            if row.state == "pending" and row.changed_at > time
        ]

    def _changed(self) -> dict[str, Entry]:
        """Give the keys that this transaction has changed."""
        return {key: entry for key, entry in self._touched().items() if entry.is_changed}

    def _rows(self, members: Sequence[bytes], changed: Collection[str]) -> Sequence[Delivery]:
        """Give the deliveries that a list names, and all of some keys."""
        names = dict.fromkeys(tuple(member.decode().split("/", 1)) for member in members)
        keys = dict.fromkeys(chain((key for _, key in names), changed))
        self._read_if_any([key for key in keys if not self._entry(key).is_known])
        return [
            row
            for key in keys
            for row in self._entries[key].deliveries()
            if key in changed or (row.handler, key) in names
        ]

    def count(self) -> dict[DeliveryState, int]:
        """See the base class."""
        counted = dict(zip(STATES, self._server.run("count", *STATES), strict=True))
        for entry in self._changed().values():
            for state in entry.was.values():
                counted[state] -= 1
            for row in entry.rows.values():
                counted[row.state] += 1
        return counted

    def due_since(self) -> float | None:
        """See the base class. What this transaction has changed itself is not looked at."""
        found = self._server.run("due since")
        return None if found is None else float(found)

    # --- The end

    def commit(self) -> None:
        """Keep everything, or nothing.

        Raises:
            StaleClaimError: A claim does not hold any more.
            LostGuessError: Something else is not as it was when it was looked at.
            LedgerTransactionError: A handler's command failed.
        """
        changed = {key: entry for key, entry in self._entries.items() if entry.is_changed}
        if not (changed or self._offered or self.connection.queued):
            return
        arguments: list[bytes] = []
        plan = {
            "absent": [key for key, entry in self._entries.items() if entry.must_be_absent],
            "rows": [
                (key, handler, *seen[:3], False if seen[3] is None else seen[3])
                for key, entry in self._entries.items()
                for handler, seen in entry.seen.items()
            ],
            "entries": [_written(key, entry, arguments) for key, entry in changed.items()],
            "effects": _effects(self.connection, arguments),
            "offered": list(self._offered),
        }
        verdict, *details = self._server.run("commit", json.encode(plan), *arguments)
        if verdict == b"kept":
            return
        if verdict == b"refused":
            place, text = details
            why = text.decode(errors="replace")
            if is_full(why):
                raise LedgerFullError(f"the server has no room: {why}")
            command = self.connection.queued[place - 1].words[0].decode()
            raise LedgerTransactionError(
                f"command {place} of the transaction, {command}, failed, so that nothing of it "
                f"was kept: {why}"
            )
        self._tell_loss(dict(zip(map(bytes.decode, details[::2]), details[1::2], strict=True)))

    def _tell_loss(self, truths: Truths) -> None:
        if not self._may_guess:
            for (handler, key), claim in self._claims.items():
                if key in truths:
                    raise StaleClaimError(handler, key, claim.token)
        raise LostGuessError(truths)

    def give_back(self) -> None:
        """Let others have what this was offered: it ends without having claimed anything."""
        if self._offered:
            with suppress(OniError):
                self._server.run("arrange", *self._offered)


def is_full(text: str) -> bool:
    """Say whether a server's answer means that it has no room."""
    return "command not allowed when used memory" in text


def _written(key: str, entry: Entry, arguments: list[bytes]) -> dict[str, Any]:
    """Say what becomes of a key. Its payload joins the arguments of the script."""
    written: dict[str, Any] = {
        "key": key,
        "anew": entry.is_anew,
        "deliveries": [(name, text_of(entry.rows[name])) for name in sorted(entry.written)],
        "decisions": [text_of_decision(decision) for decision in entry.decisions],
    }
    if entry.is_admitted and entry.event is not None and entry.digest is not None:
        event = (VERSION, entry.event.group, entry.admitted_at)
        written["event"] = json.encode(event).decode()
        written["digest"] = entry.digest.hex()
        written["payload"] = _place(entry.event.payload, arguments)
    return written


def _effects(effects: RedisEffects, arguments: list[bytes]) -> list[dict[str, Any]]:
    """Say which commands there are. Their words join the arguments of the script."""
    found = []
    for effect in effects.queued:
        places = [_place(word, arguments) for word in effect.words]
        keys = [places[place] for place in effect.keys]
        found.append({"first": places[0], "last": places[-1], "keys": keys})
    return found


def _place(argument: bytes, arguments: list[bytes]) -> int:
    """Add an argument, and say where the script finds it, after the prefix and the plan."""
    arguments.append(argument)
    return len(arguments) + 2
