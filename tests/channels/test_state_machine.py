"""Whatever a backend does, each client hears the truth in order, or of a gap."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.task import Clock

from oni.channels import Channels
from oni.testing import Ear, FakeBackend
from oni.values import Position, StreamOptions

OPTIONS = StreamOptions(history_size=12, history_ttl=20.0, ring_entries=4, ring_bytes=4000)


class Client:
    """A client: what it heard, where it thinks it stands, and through which ear it hears."""

    def __init__(self, number: int) -> None:
        self.id = f"client{number}"
        self.heard: list[tuple[str, int, Any]] = []
        self.position: Position | None = None
        self.ear: Ear | None = None
        self.attaching: Any = None
        self.subscription: Any = None
        self.lines = 0
        self.has_lied = False

    def hear(self, epoch: str, offset: int, data: Any) -> None:
        """Note what comes; None for a gap that ends here."""
        self.heard.append((epoch, offset, data))
        self.position = Position(epoch, offset)


class Channel(RuleBasedStateMachine):
    """One channel over a backend with bad days, and clients that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.random = Random(0)
        self.backend = FakeBackend(self.clock, self.random.randrange)
        self.node = Channels(self.backend, options=lambda name: OPTIONS, reactor=self.clock)
        self.started = self.node.start()
        self.backend.settle()
        self.channel = self.node.get("c")
        # What was published, by the backend's own book: offset and data, in order.
        self.truth: dict[str, list[tuple[int, int]]] = {}
        self.next = 0
        self.clients = [Client(number) for number in range(3)]

    def teardown(self) -> None:
        """Whatever happened, when all has come everybody stands at the top."""
        self.backend.is_down = False
        self.everything_comes()
        top = self.backend.memory._stream("c").position
        for client in self.clients:
            if client.subscription is not None and client.ear is not None:
                client.ear.is_paused = False
                assert client.ear.turn
        self.everything_comes()
        for client in self.clients:
            if client.subscription is not None:
                assert client.subscription.position == top, (client.position, top)
                assert client.subscription.asleep
        self.node.stop()
        assert self.node.rings.size == 0
        assert not self.clock.getDelayedCalls()

    # --- What the application does --------------------------------------------------------------

    @rule(number=st.integers(1, 8), client=st.integers(-3, 2), comes=st.booleans())
    def publish(self, number: int, client: int, comes: bool) -> None:
        """Publish some numbers, maybe not for one client, and maybe let the feed bring them."""
        exclude = f"client{client}" if client >= 0 else ""
        for _ in range(number):
            self.next += 1
            stream = self.backend.memory._stream("c")
            if not self.backend.is_down:
                entry = (stream.top + 1, self.next)
                self.truth.setdefault(stream.epoch, []).append(entry)
                self.excluded.setdefault(stream.epoch, {})[stream.top + 1] = exclude
            self.channel.publish("message", self.next, exclude=exclude).addErrback(lambda _: None)
        if comes:
            self.deliver(20)

    @property
    def excluded(self) -> dict[str, dict[int, str]]:
        """Who is excluded from what."""
        return self.__dict__.setdefault("_excluded", {})

    @rule()
    def trim(self) -> None:
        """Remove the history."""
        self.channel.remove_history().addErrback(lambda _: None)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Let history expire, timers go off."""
        self.clock.advance(seconds)

    # --- What clients do ------------------------------------------------------------------------

    @rule(
        number=st.integers(0, 2),
        turn=st.sampled_from([1, 100, 10_000]),
        comes=st.sampled_from([True, True, False]),
    )
    def subscribe(self, number: int, turn: int, comes: bool) -> None:
        """Connect, ask for what was missed, and maybe let the answer come at once."""
        client = self.clients[number]
        if client.attaching is not None or client.subscription is not None:
            return
        client.ear, client.lines = Ear(turn=turn), 0
        since = client.position
        attaching = client.attaching = self.channel.attach(client.ear, since, client=client.id)
        attaching.addCallback(self.attached, client, since)
        attaching.addErrback(self.not_attached, client)
        if comes:
            while client.attaching is not None and self.backend.answer():
                pass

    @rule(number=st.integers(0, 2), turn=st.sampled_from([1, 10_000]))
    def come_back(self, number: int, turn: int) -> None:
        """Lose the connection, and connect again."""
        self.disconnect(number)
        self.subscribe(number, turn, True)

    @rule(offset=st.integers(-1, 40), number=st.integers(0, 2), epoch=st.sampled_from("xyc"))
    def lie(self, offset: int, number: int, epoch: str) -> None:
        """Come back with a position that is invented, or of another time."""
        self.disconnect(number)
        known = self.clients[number].position
        if known is not None:
            name = known.epoch if epoch == "c" else epoch
            self.clients[number].position = Position(name, offset)
            self.clients[number].has_lied = True
            self.subscribe(number, 100, True)

    def attached(self, attachment: Any, client: Client, since: Position | None) -> None:
        """Take the answer, as a client does."""
        client.attaching = None
        client.has_lied, had_lied = False, client.has_lied
        client.subscription = attachment.subscription
        if attachment.recovered:
            assert since is not None
            assert 0 <= since.offset <= len(self.truth.get(since.epoch, ()))
            if had_lied:
                client.hear(since.epoch, since.offset, None)
            for entry in attachment.entries:
                client.hear(entry.position.epoch, entry.offset, int(entry.data))
            if attachment.position != client.position:
                client.heard.append((attachment.position.epoch, attachment.position.offset, "pos"))
                client.position = attachment.position
        else:
            assert not attachment.entries
            client.hear(attachment.position.epoch, attachment.position.offset, None)
        attachment.subscription.begin()

    def not_attached(self, failure: Any, client: Client) -> None:
        """The backend was down, or the client gave up."""
        client.attaching = None

    @rule(number=st.integers(0, 2))
    def disconnect(self, number: int) -> None:
        """Go away: what was not received by then is lost with the connection."""
        client = self.clients[number]
        if client.attaching is not None:
            client.attaching.cancel()
        if client.subscription is not None:
            client.subscription.close()
            client.subscription = None
            self.receive(client)
        client.attaching = None

    @rule(number=st.integers(0, 2))
    def pause_or_resume(self, number: int) -> None:
        """Stop reading, or go on."""
        ear = self.clients[number].ear
        if ear is not None:
            ear.is_paused = not ear.is_paused

    @rule(number=st.integers(0, 2), turns=st.integers(1, 5))
    def take(self, number: int, turns: int) -> None:
        """Have some turns."""
        ear = self.clients[number].ear
        if ear is not None and not ear.is_paused:
            for _ in range(turns):
                ear.take()
            self.receive(self.clients[number])

    def receive(self, client: Client) -> None:
        """Read what the connection brought."""
        assert client.ear is not None
        lines = b"".join(client.ear.sent).splitlines()
        for line in lines[client.lines :]:
            _, epoch, offset, event, data = json.loads(line)
            client.hear(epoch, offset, None if event is None else data)
        client.lines = len(lines)

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
        self.backend.lose_feed(tell)

    @rule(number=st.integers(0, 2))
    def blink(self, number: int) -> None:
        """Fail for a while."""
        self.backend.go_down()
        self.publish(1, -1, False)
        self.take(number, 3)
        self.answer(1, 5)
        self.backend.come_up()

    @rule()
    def everything_comes(self) -> None:
        """Let everything come that is held, and be read by those who read."""
        for _ in range(12):
            self.backend.settle()
            for client in self.clients:
                if client.ear is not None:
                    client.ear.drain()
                    self.receive(client)
            self.clock.advance(40 if _ in (4, 8) else 1)

    # --- The truth ------------------------------------------------------------------------------

    @invariant()
    def everybody_heard_the_truth(self) -> None:
        """No gap, no duplicate, no reorder, nothing foreign: or a gap was told."""
        for client in self.clients:
            epoch, offset = "", 0
            knows = False
            for at_epoch, at, data in client.heard:
                if data is None:
                    epoch, offset, knows = at_epoch, at, True
                    continue
                assert knows and at_epoch == epoch, client.heard
                between = [
                    (o, d)
                    for o, d in self.truth[epoch]
                    if offset < o <= at and self.excluded[epoch].get(o) != client.id
                ]
                if data == "pos":
                    assert at >= offset and not between, client.heard
                else:
                    assert between == [(at, data)], (between, client.heard)
                offset = at

    @invariant()
    def memory_is_bounded(self) -> None:
        """The ring and what is read for those behind stay within their bounds."""
        ring = self.channel.ring
        assert len(ring) <= OPTIONS.ring_entries
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


ChannelTests = Channel.TestCase
ChannelTests.settings = settings(
    max_examples=80,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def walk(seed: int, steps: int) -> Channel:
    """Take random steps, mostly such as bring something, and check after each."""
    random = Random(seed)
    machine = Channel()
    turns = (1, 100, 10_000)
    ways: list[tuple[int, Any]] = [
        (12, lambda: machine.publish(random.randint(1, 8), random.randint(-6, 2), True)),
        (10, lambda: machine.publish(random.randint(1, 4), -1, False)),
        (10, lambda: machine.subscribe(random.randrange(3), random.choice(turns), True)),
        (2, lambda: machine.subscribe(random.randrange(3), random.choice(turns), False)),
        (20, lambda: machine.take(random.randrange(3), random.randint(1, 5))),
        (10, lambda: machine.answer(random.randrange(1000), random.randint(1, 6))),
        (10, lambda: machine.deliver(random.randint(1, 8))),
        (3, lambda: machine.come_back(random.randrange(3), random.choice(turns))),
        (2, lambda: machine.disconnect(random.randrange(3))),
        (2, lambda: machine.pause_or_resume(random.randrange(3))),
        (1, lambda: machine.lie(random.randint(-1, 60), random.randrange(3), "xyccc"[seed % 5])),
        (1, machine.repeat),
        (4, lambda: machine.lose_feed(random.random() < 0.3)),
        (1, lambda: machine.blink(random.randrange(3))),
        (1, machine.trim),
        (1, lambda: machine.time_passes(random.choice([0.5, 5.0, 30.0, 60.0]))),
        (1, machine.everything_comes),
    ]
    weights = [weight for weight, _ in ways]
    for _, way in random.choices(ways, weights, k=steps):
        way()
        machine.everybody_heard_the_truth()
        machine.memory_is_bounded()
    machine.teardown()
    return machine


@pytest.mark.parametrize("part", range(5))
def test_long_walks(part: int) -> None:
    """Long random walks meet what short ones do not: pages, repairs, gaps, long replays."""
    seen = dict.fromkeys(("gaps", "pages", "repairs"), 0)
    for seed in range(part * 12, part * 12 + 12):
        machine = walk(seed, 200)
        for name in seen:
            seen[name] += getattr(machine.node, name)
    assert all(number > 9 for number in seen.values()), seen
