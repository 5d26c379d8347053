"""The client's side of the protocol, without sockets."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.command._conversation import (
    Connected,
    Conversation,
    Ended,
    Gap,
    Happening,
    NoOniError,
    Published,
    Refused,
    Subscribed,
)
from oni.values import Position


def frame(*messages: Any) -> bytes:
    """Write what the daemon sends."""
    return b"\n".join(json.dumps(message).encode() for message in messages)


def pub(offset: int, data: Any = None, channel: str = "news") -> dict[str, Any]:
    """Make a push."""
    return {"push": {"channel": channel, "pub": {"data": data, "offset": offset}}}


class Talks(SynchronousTestCase):
    """What is said and understood."""

    def setUp(self) -> None:
        """Begin with one channel."""
        self.talk = Conversation({"news": None})

    def hear(self, *messages: Any) -> tuple[list[Any], list[Happening]]:
        """Hear messages; give what is answered and what has happened."""
        answer, happened = self.talk.received(frame(*messages))
        return [json.loads(line) for line in answer.splitlines()], happened

    def subscribed(self, **told: Any) -> list[Happening]:
        """Connect, and be subscribed."""
        self.talk.opened()
        answers, _ = self.hear({"id": 1, "connect": {"client": "c"}})
        (self.asked,) = (answer["subscribe"] for answer in answers)
        (number,) = (answer["id"] for answer in answers)
        return self.hear({"id": number, "subscribe": told})[1]

    def test_connect(self) -> None:
        """The first command connects, with a token where there is one."""
        first = json.loads(self.talk.opened("t"))
        self.assertEqual({"id": 1, "connect": {"name": "oni", "token": "t"}}, first)
        self.assertNotIn("token", json.loads(self.talk.opened())["connect"])

    def test_subscribe(self) -> None:
        """When connected it subscribes, from now on, and knows where it stands."""
        happened = self.subscribed(epoch="e", offset=3)
        self.assertEqual({"channel": "news"}, self.asked)
        self.assertEqual([Subscribed("news", Position("e", 3), False)], happened)
        self.assertEqual(Position("e", 3), self.talk.positions["news"])

    def test_publications(self) -> None:
        """Each publication has its position, its tags and its data as they were written."""
        self.subscribed(epoch="e")
        line = b'{"push":{"channel":"news","pub":{"data":1.50,"offset":1,"tags":{"event":"x"}}}}'
        _, (found,) = self.talk.received(line)
        assert isinstance(found, Published)
        self.assertEqual(Position("e", 1), found.position)
        self.assertEqual((b"1.50", {"event": "x"}), (bytes(found.data), found.tags))
        self.assertEqual(Position("e", 1), self.talk.positions["news"])

    def test_ping(self) -> None:
        """A ping is answered with the same."""
        self.assertEqual(([{}], []), self.hear({}))

    def test_ping_interval(self) -> None:
        """The daemon says how often it pings, and how long the session lasts."""
        told = {"id": 1, "connect": {"ping": 25, "pong": True, "expires": True, "ttl": 60}}
        self.assertEqual([Connected(25, 60)], self.hear(told)[1])

    def test_recovery(self) -> None:
        """After another connection it asks for what it missed, and gets it in order."""
        self.subscribed(epoch="e", offset=3)
        self.hear(pub(4))
        happened = self.subscribed(
            epoch="e",
            offset=6,
            was_recovering=True,
            recovered=True,
            publications=[{"data": 5, "offset": 5}, {"data": 6, "offset": 6}],
        )
        self.assertEqual(
            {"channel": "news", "recover": True, "epoch": "e", "offset": 4}, self.asked
        )
        self.assertEqual(Subscribed("news", Position("e", 6), True), happened[0])
        self.assertEqual([5, 6], [found.position.offset for found in happened[1:]])  # type: ignore[union-attr]
        self.assertEqual(Position("e", 6), self.talk.positions["news"])

    def test_long_recovery(self) -> None:
        """Where the replay follows as pushes, a cut in its middle loses nothing."""
        self.subscribed(epoch="e", offset=3)
        self.subscribed(epoch="e", offset=3, was_recovering=True, recovered=True)
        self.hear(pub(4))
        self.subscribed(epoch="e", offset=4, was_recovering=True, recovered=True)
        self.assertEqual(4, self.asked["offset"])

    def test_gap(self) -> None:
        """What cannot be recovered is a gap, from where it stood to where it stands."""
        self.subscribed(epoch="e", offset=3)
        happened = self.subscribed(epoch="f", offset=9, was_recovering=True)
        gap = Gap("news", Position("e", 3), Position("f", 9))
        self.assertEqual([gap, Subscribed("news", Position("f", 9), True)], happened)
        self.hear(pub(10))
        self.assertEqual(Position("f", 10), self.talk.positions["news"])

    def test_since(self) -> None:
        """A given position is asked for at the first connection."""
        self.talk = Conversation({"news": Position("e", 1)})
        self.subscribed(epoch="e", offset=1, was_recovering=True, recovered=True)
        self.assertEqual(
            (True, "e", 1), tuple(self.asked[k] for k in ("recover", "epoch", "offset"))
        )

    def test_event(self) -> None:
        """One event's publications are asked for by a filter."""
        self.talk = Conversation({"news": None}, event="hired")
        self.subscribed(epoch="e")
        self.assertEqual({"key": "event", "cmp": "eq", "val": "hired"}, self.asked["tf"])

    def test_subscribed_by_the_daemon(self) -> None:
        """A channel to which a token subscribes is not asked for, also after a loss."""
        self.talk.opened()
        told = {"client": "c", "subs": {"news": {"epoch": "e", "offset": 3}, "more": {}}}
        answers, happened = self.hear({"id": 1, "connect": told})
        self.assertEqual([], answers)
        self.assertEqual(Subscribed("news", Position("e", 3), False), happened[1])
        self.hear(pub(4))
        first = json.loads(self.talk.opened())
        wanted = {"news": {"recover": True, "epoch": "e", "offset": 4}}
        self.assertEqual(wanted, first["connect"]["subs"])
        missed = {"epoch": "e", "offset": 5, "was_recovering": True, "recovered": True}
        missed["publications"] = [{"data": 5, "offset": 5}]
        answers, happened = self.hear(
            {"id": 1, "connect": {"client": "c", "subs": {"news": missed}}}
        )
        self.assertEqual([], answers)
        self.assertEqual([Connected, Subscribed, Published], list(map(type, happened)))

    def test_event_of_the_daemon_s(self) -> None:
        """Where the daemon subscribes by itself it filters nothing: the event still counts."""
        self.talk = Conversation({"news": None}, event="x")
        self.talk.opened()
        self.hear({"id": 1, "connect": {"client": "c", "subs": {"news": {"epoch": "e"}}}})
        other, this = pub(1), pub(2)
        this["push"]["pub"]["tags"] = {"event": "x"}
        _, happened = self.hear(other, this)
        self.assertEqual([2], [found.position.offset for found in happened])  # type: ignore[union-attr]
        self.hear(pub(3))
        self.assertEqual(Position("e", 3), self.talk.positions["news"])

    def test_insufficient_state(self) -> None:
        """Unsubscribed with the wish to come back, it does, from where it stood."""
        self.subscribed(epoch="e", offset=3)
        push = {"channel": "news", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}
        (again,), happened = self.hear({"push": push})
        self.assertEqual(("e", 3), (again["subscribe"]["epoch"], again["subscribe"]["offset"]))
        self.assertEqual([], happened)

    def test_sent_away(self) -> None:
        """Unsubscribed for good, it does not come back."""
        self.subscribed(epoch="e", offset=3)
        push = {"channel": "news", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}
        answers, happened = self.hear({"push": push}, pub(4))
        self.assertEqual(([], [Ended("news", 2000, "server unsubscribe")]), (answers, happened))
        self.talk.opened()
        self.assertEqual([], self.hear({"id": 1, "connect": {}})[0])

    def test_errors(self) -> None:
        """An error names the channel that it is about, or none."""
        self.subscribed(epoch="e")
        error = {"code": 103, "message": "permission denied"}
        for number, channel in ((10, "news"), (1, "")):
            _, happened = self.hear({"id": number, "error": error})
            self.assertEqual([Refused(channel, 103, "permission denied", False)], happened)

    def test_what_nobody_asked_for(self) -> None:
        """Replies and pushes of channels that are not wanted are passed over."""
        self.subscribed(epoch="e")
        for message in (pub(1, channel="x"), {"id": 99, "subscribe": {"epoch": "z"}}):
            self.assertEqual(([], []), self.hear(message))
        self.talk.forget("news")
        self.assertEqual(([], []), self.hear(pub(1), {"id": 10, "subscribe": {"epoch": "z"}}))

    def test_other_pushes(self) -> None:
        """Joins, leaves and what may come one day are passed over."""
        self.assertEqual(([], []), self.hear({"push": {"channel": "news", "join": {"info": {}}}}))

    def test_no_protocol(self) -> None:
        """What is not the protocol is an error."""
        for data in (b"<html>", b"7", b'{"id": "x"}', b'{"push": 7}', b"\xff"):
            self.assertRaises(NoOniError, self.talk.received, data)
