"""What may be told to a client, by the book: everything that happened, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from oni.testing import Ear
from oni.values import Position, StreamOptions

GAP = "gap"
PLACE = "place"


@dataclass(frozen=True)
class Published:
    """One publication, as it was stored."""

    offset: int
    number: int
    event: str
    key: str
    exclude: str
    at: float


class Book:
    """What was published in each life of the stream, and where it forgot that it was.

    Attributes:
        lives: The publications of each epoch, in their order.
        forgotten: After which offset of each epoch the links are broken.
    """

    def __init__(self) -> None:
        self.lives: dict[str, list[Published]] = {}
        self.forgotten: dict[str, list[int]] = {}

    def between(self, epoch: str, start: int, end: float) -> list[Published]:
        """Give what was published after one offset, up to another one."""
        return [p for p in self.lives.get(epoch, ()) if start < p.offset <= end]

    def top(self, epoch: str) -> int:
        """Give the offset of the newest publication of a life."""
        return max((p.offset for p in self.lives.get(epoch, ())), default=0)

    def is_forgotten(self, epoch: str, start: int, end: float) -> bool:
        """Say whether a link is broken between these offsets."""
        return any(start <= place < end for place in self.forgotten.get(epoch, ()))


@dataclass
class Client:
    """A client: what it wants, what it heard, where it thinks it stands.

    Attributes:
        id: Excludes it from publications, where it has a session.
        keys: The values of the tag that it wants, None for all.
        changes: The events that it wants, with the place from which on.
        place: What it knows: epoch and offset. None before its first answer.
        fresh: What it has heard and nobody has checked.
        asked: The place that it has come back with.
        future: Whether that was further than the stream.
        generation: Grows with each connection, so that answers to earlier ones are known.
        waits: How many answers it waits for.
        subscription: What the engine made of it, None before the first answer.
        lines: How many of the ear's lines it has read.
        may_gap: Whether history could not be read for so long that it was given up.
        life: The ring's life when it took something last.
    """

    id: str
    ear: Ear | None = None
    keys: frozenset[str] | None = None
    is_session: bool = True
    changes: list[tuple[str, int, frozenset[str | None]]] = field(default_factory=list)
    place: Position | None = None
    fresh: list[tuple[str, int, Any]] = field(default_factory=list)
    asked: Position | None = None
    future: bool = False
    generation: int = 0
    waits: int = 0
    subscription: Any = None
    lines: int = 0
    may_gap: bool = False
    life: int = -1

    @property
    def events(self) -> frozenset[str | None]:
        """The events that it wants now."""
        return self.changes[-1][2]

    def wants(self, epoch: str, published: Published) -> bool:
        """Say whether it shall hear this."""
        if self.is_session:
            is_for_it = published.exclude != self.id
            return is_for_it and (self.keys is None or published.key in self.keys)
        events: frozenset[str | None] = frozenset()
        for at_epoch, offset, changed in self.changes:
            if at_epoch != epoch or offset < published.offset:
                events = changed
        return None in events or published.event in events


class Model:
    """Judges what clients are told.

    A client that is told a publication must have been told everything that it wants between the
    last place that it knew and this one: once, in order. Under ``latest`` it may miss what a newer
    one of the same key supersedes. Nothing else may be missing unless it is told of a gap. A gap
    may be told only where one of these is so:

    - the stream has another epoch, or had another one in between;
    - the stream forgot, between the two ends of the gap, that anything was before;
    - history could not be read, five times one after the other;
    - everything in the gap, and there must be something, is neither in the node's ring nor in the
      history; and if it is still on its way in the feed, then the backend has answered a
      ``follow`` with a later place, and so promised nothing of it.

    A client that comes back must be told that it has recovered where its place is of the stream's
    epoch and not beyond its top, and everything since then is in the ring or in the history, with
    no broken link.

    Args:
        book: What was published.
        options: How the stream is kept.
    """

    def __init__(self, book: Book, options: StreamOptions) -> None:
        self.book = book
        self.options = options

    def check(self, client: Client, left: Left) -> None:
        """Check what a client has heard since the last time."""
        fresh, client.fresh = client.fresh, []
        for epoch, offset, what in fresh:
            known = client.place
            if what is GAP:
                if known is not None:
                    self._check_gap(client, known, Position(epoch, offset), left)
                client.may_gap = False
            else:
                assert known is not None and known.epoch == epoch, (known, epoch, offset)
                self._check_place(client, known, offset, what)
            client.place = Position(epoch, offset)

    def _check_place(self, client: Client, known: Position, offset: int, what: Any) -> None:
        assert offset >= known.offset, (known, offset, what)
        wanted = [
            p
            for p in self.book.between(known.epoch, known.offset, offset)
            if client.wants(known.epoch, p)
        ]
        if what is not PLACE:
            assert wanted, (client, known, offset, what)
            told = wanted.pop()
            assert (told.offset, told.number) == (offset, what), (client, known, told)
        self.check_superseded(client, known.epoch, wanted)

    def check_superseded(self, client: Client, epoch: str, missing: Iterable[Published]) -> None:
        """Check that a newer one stands for each that was not told."""
        for p in missing:
            assert self._is_superseded(client, epoch, p), (client, p)

    def _is_superseded(self, client: Client, epoch: str, p: Published) -> bool:
        if self.options.behind != "latest":
            return False
        newer = self.book.between(epoch, p.offset, float("inf"))
        return any(self.key_of(q) == self.key_of(p) and client.wants(epoch, q) for q in newer)

    def key_of(self, published: Published) -> str:
        """Give what the policy ``latest`` looks at."""
        return published.key if self.options.latest_by else ""

    def _check_gap(self, client: Client, known: Position, told: Position, left: Left) -> None:
        if known.epoch != told.epoch or left.was_other(client) or client.may_gap:
            return
        assert told.offset >= known.offset, (known, told)
        if self.book.is_forgotten(known.epoch, known.offset, told.offset + 1):
            return
        lost = self.book.between(known.epoch, known.offset, told.offset)
        assert lost, ("a gap without a loss", client, known, told)
        assert not all(left.has(known.epoch, p) for p in lost), (
            "nothing was lost",
            client,
            known,
            told,
        )
        for p in lost:
            if client.wants(known.epoch, p) and not self._is_superseded(client, known.epoch, p):
                assert not left.has(known.epoch, p), ("it was there", client, known, told, p)

    def check_not_recovered(self, client: Client, left: Left) -> None:
        """Check that a client that was told to begin anew could not go on."""
        asked = client.asked
        assert asked is not None
        if client.future or asked.epoch != left.epoch or asked.epoch != left.ring.epoch:
            return
        if asked.offset < 0 or asked.offset > left.top:
            return
        assert not left.ring.covers(asked.offset), ("it is in the ring", client, asked)
        missed = self.book.between(asked.epoch, asked.offset, float("inf"))
        is_kept = all(p.offset in left.history for p in missed)
        is_linked = not self.book.is_forgotten(asked.epoch, asked.offset, left.top)
        if missed and missed[0] is self.book.lives[asked.epoch][0] and asked.offset > 0:
            return  # an offset that nobody was ever given: the first one has none before it
        assert not (is_kept and is_linked), ("it is in the history", client, asked)

    def check_end(self, client: Client) -> None:
        """Check that a client that reads to the end has got there."""
        known = client.place
        assert known is not None
        rest = [
            p
            for p in self.book.between(known.epoch, known.offset, float("inf"))
            if client.wants(known.epoch, p)
        ]
        assert not rest, (client, rest)


@dataclass
class Left:
    """What is left of the stream at one moment.

    Attributes:
        epoch: Its epoch.
        top: Its newest offset.
        history: The offsets that the backend keeps.
        ring: The node's ring.
        on_its_way: The offsets that the feed holds.
        promised: Everything after this offset will be brought.
        other_lives: The lives of the ring that began with another epoch than the one before.
    """

    epoch: str
    top: int
    history: frozenset[int]
    ring: Any
    on_its_way: frozenset[int]
    promised: int
    other_lives: list[int]

    def has(self, epoch: str, p: Published) -> bool:
        """Say whether a publication of this epoch can be had."""
        if epoch == self.ring.epoch and any(e.offset == p.offset for e in self.ring.newest()):
            return True
        is_promised = p.offset in self.on_its_way and p.offset > self.promised
        return epoch == self.epoch and (p.offset in self.history or is_promised)

    def was_other(self, client: Client) -> bool:
        """Say whether the ring had another epoch since the client took something last."""
        return any(life > client.life for life in self.other_lives)
