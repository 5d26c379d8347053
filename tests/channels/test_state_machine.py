"""Whatever a backend does, each client hears the truth in order, or of a gap that there is.

What a client may be told is said in :class:`tests.channels.model.Model`.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from oni.channels import Channels
from oni.channels._kept import PAGE
from oni.interfaces import IBackendSink, IEntry
from oni.testing import Ear, FakeBackend
from oni.values import Page, Position, StreamOptions
from tests.channels.model import GAP, PLACE, Book, Client, Left, Model, Published

KEEPS = {"history_size": 12, "history_ttl": 20.0, "ring_entries": 4, "ring_bytes": 4000}
POLICIES = {
    "gap": StreamOptions(**KEEPS),
    "latest": StreamOptions(behind="latest", **KEEPS),
    "latest by key": StreamOptions(behind="latest", latest_by="key", **KEEPS),
    "disconnect": StreamOptions(behind="disconnect", max_lag=8.0, **KEEPS),
}
TURNS = (1, 100, 10_000)
EVENTS = ("a", "b", None)
KEYS = "xyz"


class Backend(FakeBackend):
    """A backend that remembers what it has promised, and how often it could not be read.

    Attributes:
        promised: After this offset everything is brought.
        failed_reads: How often reading has failed, one after the other.
    """

    promised = 0
    failed_reads = 0

    def follow(self, channel: str) -> Deferred[Position]:
        """Remember from where on the feed is promised."""
        if channel == "c" and not self.is_down:
            self.promised = self.stream.top
        return super().follow(channel)

    def read(
        self, channel: str, since: Position | None, limit: int | None, reverse: bool = False
    ) -> Deferred[Page]:
        """Count failures."""
        if limit == PAGE:  # for those behind; others read for themselves
            self.failed_reads = self.failed_reads + 1 if self.is_down else 0
        return super().read(channel, since, limit, reverse)

    @property
    def stream(self) -> Any:
        """The stream of the channel."""
        return self.memory.hold("c")


class Machine(RuleBasedStateMachine):
    """One channel over a backend with bad days, and clients that come and go."""

    options = POLICIES["gap"]
    steps: tuple[int, ...] = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.random = Random(0)
        self.backend = Backend(
            self.clock, self.random.randrange, step=lambda: self.random.choice(self.steps)
        )
        self.node = Channels(self.backend, options=lambda name: self.options, reactor=self.clock)
        self.node.start()
        self.backend.settle()
        self.channel = self.node.get("c")
        self.foreign = self.node.get("foreign")
        self.book = Book()
        self.book.lives[self.backend.stream.epoch] = []
        self.model = Model(self.book, self.options)
        self.number = 0
        self.problems: list[Failure] = []
        self.on_its_way: set[int] = set()
        self.other_lives: list[int] = []
        self.clients = [Client(f"client{number}") for number in range(3)]
        self.seen = dict.fromkeys(("gaps", "recovered", "began anew", "late"), 0)
        self.watch_ring()
        self.watch_feed()

    def watch_ring(self) -> None:
        """Note when the ring begins with another epoch."""
        ring = self.channel.ring
        kind = type(ring)

        class Watched(kind):  # type: ignore[valid-type, misc]
            __slots__ = ()

            def begin(_, position: Position) -> None:  # noqa: N805 - self is the machine
                is_other = position.epoch != ring.epoch
                kind.begin(ring, position)
                if is_other:
                    self.other_lives.append(ring.life)

        ring.__class__ = Watched

    def watch_feed(self) -> None:
        """Note what has come out of the feed."""
        deliver = self.node.received

        def received(channel: str, entries: Any) -> None:
            if channel == "c":
                self.on_its_way.difference_update(entry.offset for entry in entries)
            deliver(channel, entries)

        self.node.received = received  # type: ignore[method-assign]
        assert IBackendSink.providedBy(self.node)

    def left(self) -> Left:
        """Say what is left of the stream."""
        stream = self.backend.stream
        page: Any = []
        self.backend.memory.read("c", None, None).addCallback(page.append)
        history = frozenset(entry.offset for entry in page[0].entries)
        return Left(
            stream.epoch,
            stream.top,
            history,
            self.channel.ring,
            frozenset(self.on_its_way),
            self.backend.promised,
            self.other_lives,
        )

    def teardown(self) -> None:
        """Whatever happened, when all has come everybody stands at the top."""
        self.backend.is_down = self.backend.is_deaf = False
        self.backend.come_up()
        for client in self.clients:
            if client.ear is not None:
                client.ear.is_paused = False
        for _ in range(70):
            self.everything_comes(1)
        self.nothing_was_wrong_in_an_answer()
        top = self.backend.stream.position
        for client in self.clients:
            if client.subscription is not None:
                assert client.subscription.position == top, (client, top)
                assert client.subscription.asleep
                self.model.check_end(client)
        self.node.stop()
        assert self.node.rings.size == 0
        assert not self.clock.getDelayedCalls()

    # --- What the application does --------------------------------------------------------------

    @rule(
        number=st.integers(1, 8),
        event=st.sampled_from("ab"),
        key=st.sampled_from(KEYS),
        client=st.integers(-3, 2),
        comes=st.booleans(),
    )
    def publish(self, number: int, event: str, key: str, client: int, comes: bool) -> None:
        """Publish some numbers, maybe not for one client, and maybe let the feed bring them."""
        exclude = f"client{client}" if client >= 0 else ""
        for _ in range(number):
            self.number += 1
            before = self.backend.stream.top
            self.channel.publish(
                event, self.number, exclude=exclude, tags={"key": key}
            ).addErrback(lambda _: None)
            stream = self.backend.stream
            if stream.top != before:
                now = self.clock.seconds()
                told = Published(stream.top, self.number, event, key, exclude, now)
                self.book.lives.setdefault(stream.epoch, []).append(told)
                if self.backend.hears("c"):
                    self.on_its_way.add(stream.top)
        if comes:
            self.deliver(20)

    @rule()
    def trim(self) -> None:
        """Remove the history."""
        self.channel.remove_history().addErrback(lambda _: None)

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 30.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Let history expire, timers go off, readers be late."""
        self.clock.advance(seconds)
        self.check_late()

    # --- What clients do ------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 2),
        turn=st.sampled_from(TURNS),
        keys=st.sampled_from([None, None, "x", "yz"]),
        comes=st.sampled_from([True, True, False]),
    )
    def attach(self, number: int, turn: int, keys: str | None, comes: bool) -> None:
        """Connect with a session, maybe with a filter by tags, and ask for what was missed."""
        client = self.clients[number]
        if client.ear is not None:
            return
        self.begin(client, turn, frozenset([None]))
        client.is_session, client.keys = True, None if keys is None else frozenset(keys)
        attaching = self.channel.attach(
            client.ear,
            client.asked,
            wants=None if keys is None else lambda entry: wants(entry, keys),
            client=client.id,
        )
        client.waits = 1
        attaching.addCallbacks(
            self.attached,
            self.failed,
            (client, client.generation),
            {},
            (client, client.generation),
        )
        attaching.addErrback(self.problems.append)
        self.answers(client, comes)

    @rule(
        number=st.integers(0, 2),
        turn=st.sampled_from(TURNS),
        events=st.sets(st.sampled_from(EVENTS), min_size=1),
        comes=st.sampled_from([True, True, False]),
    )
    def subscribe(self, number: int, turn: int, events: set[str | None], comes: bool) -> None:
        """Connect in the plain way: subscribe a carrier to one event after the other."""
        client = self.clients[number]
        if client.ear is not None:
            return
        self.begin(client, turn, frozenset(events))
        client.is_session, client.keys = False, None
        generation, client.waits = client.generation, len(events)
        since = client.asked
        for event in sorted(events, key=str):
            subscribed = self.channel.subscribe(event, client.ear, since)
            which = (client, generation)
            subscribed.addCallbacks(self.subscribed, self.failed, which, errbackArgs=which)
            subscribed.addErrback(self.problems.append)
        self.answers(client, comes)

    def begin(self, client: Client, turn: int, events: frozenset[str | None]) -> None:
        """Make a connection."""
        client.ear, client.lines = Ear(turn=turn), 0
        client.generation += 1
        client.asked = client.place
        stream = self.backend.stream
        client.future = client.asked is not None and client.asked.offset > stream.top
        client.changes = [("", 0, events)]

    def answers(self, client: Client, comes: bool) -> None:
        """Maybe let the answer come at once."""
        while comes and client.waits and self.backend.answer():
            pass

    def attached(self, attachment: Any, client: Client, generation: int) -> None:
        """Take the answer, as a session's client does."""
        if generation != client.generation:
            return
        client.waits = 0
        client.subscription = attachment.subscription
        self.placed(client, attachment.position, attachment.recovered)
        assert attachment.recovered or not attachment.entries
        for entry in attachment.entries:
            client.fresh.append((entry.position.epoch, entry.offset, int(entry.data)))
        if attachment.recovered:
            at = attachment.position
            client.fresh.append((at.epoch, at.offset, PLACE))
        self.model.check(client, self.left())
        attachment.subscription.begin()

    def subscribed(self, position: Position, client: Client, generation: int) -> None:
        """Take the first answer; the others say nothing new."""
        if generation != client.generation:
            return
        client.waits -= 1
        if client.subscription is None:
            assert client.ear is not None
            client.subscription = self.channel._audience.of(client.ear)
            self.placed(client, position, position == client.asked)

    def placed(self, client: Client, position: Position, recovered: bool) -> None:
        """Stand where the client stood, or begin anew."""
        client.life = client.subscription.life
        if recovered:
            assert client.asked is not None
            assert client.asked.epoch in self.book.lives
            assert 0 <= client.asked.offset <= self.book.top(client.asked.epoch)
            client.place = client.asked
            self.seen["recovered"] += 1
        else:
            if client.asked is not None:
                self.model.check_not_recovered(client, self.left())
                self.seen["began anew"] += 1
            client.place = position

    def failed(self, failure: Any, client: Client, generation: int) -> None:
        """The backend was down: the client gives up."""
        if generation == client.generation:
            self.leave(client)

    @rule(number=st.integers(0, 2), event=st.sampled_from(EVENTS), hears=st.booleans())
    def change_events(self, number: int, event: str | None, hears: bool) -> None:
        """Hear one event more, or less."""
        client = self.clients[number]
        if client.is_session or client.waits or client.subscription is None:
            return
        subscription = client.subscription
        at = subscription.position
        if subscription.life != self.channel.ring.life:
            return  # a gap comes before anything else
        if hears:
            events = client.events | {event}
            self.channel.subscribe(event, client.ear)
        else:
            events = client.events - {event}
            self.channel.unsubscribe(event, client.ear)
        client.changes.append((at.epoch, at.offset, events))
        if not events:
            assert subscription.closed
            self.leave(client)

    @rule(number=st.integers(0, 2), turn=st.sampled_from(TURNS))
    def come_back(self, number: int, turn: int) -> None:
        """Lose the connection, and connect again in the same way."""
        client = self.clients[number]
        self.disconnect(number)
        if client.is_session:
            self.attach(number, turn, None, True)
        else:
            self.subscribe(number, turn, {None}, True)

    @rule(
        offset=st.integers(-1, 60),
        number=st.integers(0, 2),
        whose=st.sampled_from(["own", "own", "invented", "foreign", "first"]),
        is_session=st.booleans(),
    )
    def lie(self, offset: int, number: int, whose: str, is_session: bool) -> None:
        """Come back with a position that is invented, of another channel, or of another life."""
        client = self.clients[number]
        self.disconnect(number)
        place = {
            "own": Position(self.backend.stream.epoch, offset),
            "invented": Position("invented", offset),
            "foreign": Position(self.backend.memory.hold("foreign").epoch, offset),  # type: ignore
            "first": Position(next(iter(self.book.lives), "none"), offset),
        }[whose]
        given = [p.offset for p in self.book.lives.get(place.epoch, ())]
        if place.epoch in self.book.forgotten and place.offset not in given:
            return  # without a link nothing tells it from one that was given
        client.place = place
        if is_session:
            self.attach(number, 100, None, True)
        else:
            self.subscribe(number, 100, {None}, True)

    @rule(number=st.integers(0, 2))
    def disconnect(self, number: int) -> None:
        """Go away: what was not taken by then is lost with the connection."""
        client = self.clients[number]
        if client.ear is None:
            return
        if client.subscription is not None:
            self.receive(client)
            if client.is_session:
                client.subscription.close()
        for event in client.events if not client.is_session else ():
            self.channel.unsubscribe(event, client.ear)
        self.leave(client)

    def leave(self, client: Client) -> None:
        """Forget the connection."""
        ear, client.ear = client.ear, None
        client.generation += 1
        client.waits = 0
        client.subscription = None
        if ear is not None:
            left_over = self.channel._audience.of(ear)
            if left_over is not None:
                left_over.close()

    @rule(number=st.integers(0, 2))
    def pause_or_resume(self, number: int) -> None:
        """Stop reading, or go on."""
        ear = self.clients[number].ear
        if ear is not None:
            ear.is_paused = not ear.is_paused

    @rule(number=st.integers(0, 2), turns=st.integers(1, 5))
    def take(self, number: int, turns: int) -> None:
        """Have some turns."""
        client = self.clients[number]
        if client.ear is not None and not client.ear.is_paused:
            for _ in range(turns):
                client.ear.take()
                self.receive(client)

    def receive(self, client: Client) -> None:
        """Read what the connection brought, and check it."""
        assert client.ear is not None
        lines = b"".join(client.ear.sent).splitlines()
        for line in lines[client.lines :]:
            _, epoch, offset, event, data = json.loads(line)
            client.fresh.append((epoch, offset, GAP if event is None else data))
            self.seen["gaps"] += event is None
        client.lines = len(lines)
        if client.fresh:
            self.model.check(client, self.left())
        if client.subscription is not None:
            client.life = client.subscription.life

    def check_late(self) -> None:
        """Who is said to be late has missed something for as long as that; and is disconnected."""
        for number, client in enumerate(self.clients):
            if client.ear is None or not client.ear.late:
                continue
            self.receive(client)
            self.seen["late"] += 1
            assert self.options.behind == "disconnect"
            assert client.subscription in client.ear.late
            stands = client.subscription.position
            limit = self.clock.seconds() - self.options.max_lag
            missed = self.book.between(stands.epoch, stands.offset, float("inf"))
            has_another_life = client.subscription.life != self.channel.ring.life
            assert has_another_life or any(p.at <= limit for p in missed), (client, missed)
            self.disconnect(number)

    # --- What the backend does ------------------------------------------------------------------

    @rule(seed=st.integers(0, 1000), number=st.integers(1, 6))
    def answer(self, seed: int, number: int) -> None:
        """Give some answers, any of them."""
        self.random.seed(seed)
        for _ in range(number):
            self.backend.answer()

    @rule(number=st.integers(1, 5))
    def deliver(self, number: int) -> None:
        """Bring something of the feed."""
        for _ in range(number):
            self.backend.deliver()

    @rule()
    def repeat(self) -> None:
        """Bring again what came last."""
        self.backend.repeat()

    @rule(tell=st.booleans())
    def lose_feed(self, tell: bool) -> None:
        """Lose what is on its way."""
        self.on_its_way.clear()
        self.backend.lose_feed(tell)

    @rule()
    def become_deaf_or_hear(self) -> None:
        """Lose everything from now on, in silence; or hear again."""
        self.backend.is_deaf = not self.backend.is_deaf

    @rule(number=st.integers(0, 2), seconds=st.integers(0, 7))
    def fail(self, number: int, seconds: int) -> None:
        """Fail for a while."""
        self.backend.go_down()
        self.publish(1, "a", "x", -1, False)
        for _ in range(seconds):
            self.take(number, 1)
            self.backend.answer()
            self.clock.advance(1)
            self.check_late()
            if self.backend.failed_reads >= 5:
                for client in self.clients:
                    client.may_gap = True
        self.backend.come_up()

    @rule()
    def forget(self) -> None:
        """Forget all that was, and that it was; the epoch stays.

        Who stands at 0 could not see that, so a backend has to take another epoch then.
        """
        stream = self.backend.stream
        at_0 = Position(stream.epoch, 0)
        places = [self.channel.ring.position]
        for client in self.clients:
            places += [client.place, client.asked]  # type: ignore[list-item]
        if at_0 in places or stream.epoch != self.channel.ring.epoch:
            self.begin_another_life(True)
            return
        self.book.forgotten.setdefault(stream.epoch, []).append(stream.top)
        self.backend.forget("c")

    @rule(tell=st.booleans())
    def begin_another_life(self, tell: bool) -> None:
        """Lose the whole stream, as a server does that is emptied."""
        self.on_its_way.clear()
        self.backend.begin_anew("c")
        self.book.lives[self.backend.stream.epoch] = []
        self.backend.promised = 0
        self.backend.lose_feed(tell)

    @rule(rounds=st.just(12))
    def everything_comes(self, rounds: int) -> None:
        """Let everything come that is held, and be read by those who read."""
        for _ in range(rounds):
            self.backend.settle()
            for client in self.clients:
                if client.ear is not None and not client.ear.is_paused:
                    while client.ear is not None and client.ear.has_more:
                        client.ear.take()
                        self.receive(client)
            self.clock.advance(2)
            self.check_late()

    # --- The truth ------------------------------------------------------------------------------

    @invariant()
    def nothing_was_wrong_in_an_answer(self) -> None:
        """What is checked while an answer is given goes wrong there."""
        for problem in self.problems:
            problem.raiseException()

    @invariant()
    def memory_is_bounded(self) -> None:
        """The ring and what is read for those behind stay within their bounds."""
        ring = self.channel.ring
        assert len(ring) <= self.options.ring_entries
        assert ring.size == sum(entry.size for entry in ring.newest()) == self.node.rings.size
        awake = sum(
            1
            for client in self.clients
            if client.subscription is not None
            and client.subscription.begun
            and not client.subscription.closed
            and not client.subscription.asleep
        )
        assert ring.readers == awake


def wants(entry: IEntry, keys: str) -> bool:
    """Filter by tags, as a client's filter does."""
    return entry.tags["key"] in keys


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class WithGaps(Machine):
    """Who is behind is told of gaps; offsets leave numbers out."""

    steps = (1, 1, 9)


class WithLatest(Machine):
    """Who is behind hears the newest."""

    options = POLICIES["latest"]


class WithLatestByKey(Machine):
    """Who is behind hears the newest for each key; offsets leave numbers out."""

    options = POLICIES["latest by key"]
    steps = (1, 3)


class WithDisconnect(Machine):
    """Who is behind for too long is disconnected."""

    options = POLICIES["disconnect"]


MACHINES = (Machine, WithGaps, WithLatest, WithLatestByKey, WithDisconnect)

GapTests = WithGaps.TestCase
LatestTests = WithLatest.TestCase
LatestByKeyTests = WithLatestByKey.TestCase
DisconnectTests = WithDisconnect.TestCase
for case in (GapTests, LatestTests, LatestByKeyTests, DisconnectTests):
    case.settings = SETTINGS


def walk(kind: type[Machine], seed: int, steps: int) -> Machine:
    """Take random steps, mostly such as bring something, and check after each."""
    random = Random(seed)
    machine = kind()
    pick, any_client = random.choice, lambda: random.randrange(3)
    publish, whom = machine.publish, range(-6, 3)
    sets = (("a",), ("b",), ("a", "b"), (None,), (None, "a"))
    ways: list[tuple[int, Any]] = [
        (12, lambda: publish(random.randint(1, 8), pick("ab"), pick(KEYS), pick(whom), True)),
        (10, lambda: publish(random.randint(1, 4), pick("ab"), pick(KEYS), -1, False)),
        (6, lambda: machine.attach(any_client(), pick(TURNS), pick([None, "x", "yz"]), True)),
        (6, lambda: machine.subscribe(any_client(), pick(TURNS), set(pick(sets)), True)),
        (2, lambda: machine.attach(any_client(), pick(TURNS), None, False)),
        (2, lambda: machine.subscribe(any_client(), pick(TURNS), {None}, False)),
        (3, lambda: machine.change_events(any_client(), pick(EVENTS), pick([True, False]))),
        (20, lambda: machine.take(any_client(), random.randint(1, 5))),
        (10, lambda: machine.answer(random.randrange(1000), random.randint(1, 6))),
        (10, lambda: machine.deliver(random.randint(1, 8))),
        (3, lambda: machine.come_back(any_client(), pick(TURNS))),
        (2, lambda: machine.disconnect(any_client())),
        (2, lambda: machine.pause_or_resume(any_client())),
        (1, lambda: machine.lie(random.randint(-1, 90), any_client(), "own", pick([True, False]))),
        (1, machine.repeat),
        (4, lambda: machine.lose_feed(random.random() < 0.3)),
        (1, machine.become_deaf_or_hear),
        (1, lambda: machine.fail(any_client(), pick([0, 0, 2, 7]))),
        (1, machine.trim),
        (1, machine.forget),
        (1, lambda: machine.begin_another_life(pick([True, False]))),
        (2, lambda: machine.time_passes(pick([0.5, 2.0, 5.0, 30.0]))),
        (1, lambda: machine.everything_comes(12)),
    ]
    weights = [weight for weight, _ in ways]
    for _, way in random.choices(ways, weights, k=steps):
        way()
        machine.nothing_was_wrong_in_an_answer()
        machine.memory_is_bounded()
    machine.teardown()
    return machine


@pytest.mark.parametrize("kind", MACHINES)
def test_long_walks(kind: type[Machine]) -> None:
    """Long random walks meet what short ones do not: pages, repairs, gaps, long replays."""
    seen: dict[str, int] = {}
    for seed in range(15):
        machine = walk(kind, seed, 200)
        numbers = {name: getattr(machine.node, name) for name in ("pages", "repairs", "gaps")}
        for name, number in {**numbers, **machine.seen}.items():
            seen[name] = seen.get(name, 0) + number
    wanted = ["pages", "repairs", "gaps", "recovered", "began anew"]
    if machine.options.behind == "disconnect":
        wanted.append("late")
    assert all(seen[name] > 2 for name in wanted), seen
