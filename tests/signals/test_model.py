"""Signals beside a list that says who is to be called: whoever comes, goes or dies."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.signals import Signal

STEPS = 40
PHASES = ("during", "after")


class Sender:
    """Equal to all others, and soon followed by another one in its place."""

    def __eq__(self, other: object) -> bool:
        """Be equal."""
        return isinstance(other, Sender)

    def __hash__(self) -> int:
        """Be the same as others."""
        return 1


class Receiver:
    """Hears as an object and as its method."""

    def __init__(self, number: int, heard: list[tuple[int, str]]) -> None:
        """Know where to say what is heard."""
        self.number = number
        self.heard = heard

    def __call__(self, sender: Any) -> None:
        """Be a receiver."""
        self.heard.append((self.number, "object"))

    def hear(self, sender: Any) -> None:
        """Be another one."""
        self.heard.append((self.number, "method"))


class Place(NamedTuple):
    """What makes a connection the same one."""

    receiver: int
    kind: str
    sender: int | None
    phase: str


class Machine:
    """A signal, and the connections that it should have, in order, with the times left."""

    def __init__(self, random: Random) -> None:
        """Begin with a few of each."""
        self.random = random
        self.signal = Signal()
        self.heard: list[tuple[int, str]] = []
        self.expected: dict[Place, int | None] = {}
        self.made = 0
        # The first one cannot be held weakly, and stays as long as somebody is connected to it.
        self.senders: dict[int, Any] = {0: (random,)}
        self.receivers: dict[int, Receiver] = {}
        for _ in range(3):
            self.add()

    def add(self) -> None:
        """Make a sender and a receiver."""
        self.made += 1
        self.senders[self.made] = Sender()
        self.receivers[self.made] = Receiver(self.made, self.heard)

    def lose(self) -> None:
        """Let one of each die; another comes."""
        sender = self.random.choice([number for number in self.senders if number])
        receiver = self.random.choice(list(self.receivers))
        del self.senders[sender], self.receivers[receiver]
        for place in list(self.expected):
            if place.sender == sender or place.receiver == receiver:
                del self.expected[place]
        self.add()

    def place(self) -> tuple[Place, Any, dict[str, Any]]:
        """Choose a connection; give what says it to the signal."""
        choose = self.random.choice
        place = Place(
            choose(list(self.receivers)),
            choose(("object", "method")),
            choose([None, *self.senders]),
            choose(PHASES),
        )
        receiver = self.receivers[place.receiver]
        sender = None if place.sender is None else self.senders[place.sender]
        hears = receiver.hear if place.kind == "method" else receiver
        return place, hears, {"sender": sender, "phase": place.phase}

    def connect(self) -> None:
        """Connect one, if it is not."""
        place, hears, said = self.place()
        times = self.random.choice((None, 1, 2))
        self.signal.connect(hears, times=times, **said)
        self.expected.setdefault(place, times)

    def disconnect(self) -> None:
        """Disconnect one, if it is connected."""
        place, hears, said = self.place()
        assert self.signal.disconnect(hears, **said) == (place in self.expected)
        self.expected.pop(place, None)

    def send(self) -> None:
        """Send, and see who hears."""
        number = self.random.choice(list(self.senders))
        send = self.random.choice((self.signal.send_now, self.signal.send_here))
        self.heard.clear()
        send(self.senders[number])
        called = [
            place
            for phase in PHASES
            for place in self.expected
            if place.phase == phase and place.sender in (None, number)
        ]
        assert self.heard == [(place.receiver, place.kind) for place in called]
        for place in called:
            times = self.expected[place]
            if times == 1:
                del self.expected[place]
            elif times is not None:
                self.expected[place] = times - 1

    def step(self) -> None:
        """Do something."""
        choices = (self.connect, self.connect, self.connect, self.disconnect, self.send, self.lose)
        self.random.choice(choices)()


class ModelTests(SynchronousTestCase):
    """The signal and the list always agree."""

    @given(st.randoms(use_true_random=False))
    def test_agree(self, random: Random) -> None:
        """Whatever is done, exactly those are called who are connected, in order."""
        machine = Machine(random)
        for _ in range(STEPS):
            machine.step()
        machine.send()
