"""Whoever vetoes, whoever fails, however often it is tried again: all of it is told, or nothing.

The row of a listener that vetoes in the table of faults: the transaction is gone, nobody hears
after it, nothing is kept, and no connection is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pyramid.config import Configurator
from pyramid.request import Request
from transaction.interfaces import TransientError

from oni.carriers.memory import MemoryCarrier, MemoryConnection
from oni.channels import Channels
from oni.listeners import (
    AfterResourceChanged,
    AfterResourceRead,
    ResourceChanged,
    ResourceEvent,
    ResourceRead,
)
from oni.listeners.events import ACTIONS
from tests.listeners.pyramid_case import Article, PyramidCase

ATTEMPTS = 3
RESOURCES = ("article", "tag")
SAID_LATER = "remark"


class RefusedError(Exception):
    """Somebody does not want it."""


@dataclass(frozen=True)
class Subscriber:
    """One who hears before the commit, or after it.

    Attributes:
        does: What becomes of it: it hears, vetoes, reads, writes, says more, or is busy.
        is_after: Whether it hears after the commit.
        actions: Of which actions; none: of all.
        resources: Of which resources; none: of all.
        until: While the number of the attempt is not above this it is busy.
    """

    does: str
    is_after: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    until: int

    def hears(self, kind: tuple[str, str]) -> bool:
        """Say whether it hears of a resource's action."""
        resource, action = kind
        return action in (self.actions or ACTIONS) and resource in (self.resources or (resource,))

    def predicates(self) -> dict[str, Any]:
        """Give what it is subscribed with."""
        given = {"for_actions": self.actions, "for_resources": self.resources}
        return {name: words for name, words in given.items() if words}


_words = {
    "actions": st.lists(st.sampled_from(ACTIONS), max_size=2, unique=True).map(tuple),
    "resources": st.lists(st.sampled_from((*RESOURCES, SAID_LATER)), max_size=2, unique=True).map(
        tuple
    ),
    "until": st.integers(1, ATTEMPTS),
}
_before = st.builds(
    Subscriber,
    does=st.sampled_from(("hears", "hears", "reads", "writes", "says more", "vetoes", "is busy")),
    is_after=st.just(False),
    **_words,
)
_after = st.builds(
    Subscriber, does=st.sampled_from(("hears", "fails")), is_after=st.just(True), **_words
)
_kinds = st.tuples(st.sampled_from(RESOURCES), st.sampled_from(ACTIONS))


class VetoTests(PyramidCase):
    """An application whose listener tells a connection of what becomes of its resources."""

    def setUp(self) -> None:
        """Make it, and let somebody listen."""
        super().setUp()
        channels = Channels(reactor=self.shop.clock)
        self.make(
            is_kept=True,
            event_listeners="all",
            event_listeners__all__use="oni.listeners.channel",
            event_listeners__all__actions=" ".join(ACTIONS),
            event_listeners__all__channel="all",
            oni__channels=channels,
            retry__attempts=ATTEMPTS,
        )
        self.connection = MemoryConnection(1000)
        carrier = MemoryCarrier(self.connection, reactor=self.shop.clock)
        self.carrier = carrier  # channels hold it weakly
        subscribed = channels.get("all").subscribe(None, carrier)
        started = self.shop.sources.start()
        self.shop.clock.pass_time(1)
        self.successResultOf(subscribed)
        self.successResultOf(started)
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop the event sources."""
        stopped = self.shop.sources.stop(1)
        self.shop.clock.pass_time(2)
        self.successResultOf(stopped)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Let one hear; give what ends that."""
        registry = self.application.registry
        known = [each.handler for each in registry.registeredHandlers()]
        config = Configurator(registry=registry, autocommit=True)
        kinds = (ResourceChanged, ResourceRead)
        if subscriber.is_after:
            kinds = (AfterResourceChanged, AfterResourceRead)
        for kind in kinds:
            config.add_subscriber(
                lambda event: self.act(subscriber, event), kind, **subscriber.predicates()
            )
        added = [e for e in registry.registeredHandlers() if e.handler not in known]
        assert len(added) == len(kinds)

        def end() -> None:
            for each in added:
                registry.unregisterHandler(each.handler, each.required)

        return end

    def act(self, subscriber: Subscriber, event: ResourceEvent) -> None:
        """Do what a subscriber does."""
        if subscriber.is_after:
            self.heard.append((subscriber, (event.resource_name, event.action)))
        request = event.request
        match subscriber.does:
            case "fails":
                raise ValueError("too late")
            case "vetoes":
                raise RefusedError
            case "is busy":
                if self.attempt <= subscriber.until:
                    raise TransientError
            case "reads":
                request.dbsession.query(Article).all()
            case "writes":
                request.dbsession.add(Article(title=f"written {self.attempt}"))
            case "says more" if event.resource_name != SAID_LATER:
                request.resource_events.record(SAID_LATER, "create", id=1, new={})

    def view(self, request: Request) -> str:
        """Do what the request is for."""
        self.attempt += 1
        for number, (resource, action) in enumerate(self.records):
            request.dbsession.add(Article(title=f"{number} {self.attempt}"))
            request.resource_events.record(
                resource, action, id=number, new={"attempt": self.attempt}
            )
        if self.attempt <= self.fails_until:
            raise TransientError
        return "done"

    def expected(self, subscribers: Sequence[Subscriber]) -> tuple[set[tuple[str, str]], bool]:
        """Give the resources and actions that are told of, and whether they are committed."""
        kinds = set(self.records)
        before = [each for each in subscribers if not each.is_after]
        if any(each.does == "says more" and any(map(each.hears, kinds)) for each in before):
            kinds.add((SAID_LATER, "create"))
        asked = [each for each in before if any(map(each.hears, kinds))]
        busy = max((each.until for each in asked if each.does == "is busy"), default=0)
        is_vetoed = any(each.does == "vetoes" for each in asked)
        return kinds, not is_vetoed and max(busy, self.fails_until) < ATTEMPTS

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.one_of(_before, _after), max_size=6),
        st.lists(_kinds, min_size=1, max_size=4),
        st.sampled_from((0, 0, 0, 1, 2, 3)),
    )
    def test_all_or_nothing(
        self, subscribers: list[Subscriber], records: list[tuple[str, str]], fails_until: int
    ) -> None:
        """What is committed is told, kept and sent once; of anything else there is no trace."""
        self.records, self.fails_until, self.attempt = records, fails_until, 0
        self.heard.clear()
        with self.shop.sessions.begin() as session:
            session.query(Article).delete()
        kept_before = len(self.shop.kept())
        kinds, is_committed = self.expected(subscribers)
        with ExitStack() as ends:
            for each in subscribers:
                ends.callback(self.subscribe(each))
            try:
                self.answer(self.ask(self.view))
            except (RefusedError, TransientError) as error:
                event(type(error).__name__)
                self.assertFalse(is_committed)
            else:
                event(f"committed in attempt {self.attempt}")
                self.assertTrue(is_committed)
        self.shop.clock.pass_time(1)

        told = {(e, k) for e in subscribers if e.is_after for k in kinds if e.hears(k)}
        if not is_committed:
            told = kinds = set()
        titles = self.shop.titles()
        rows = [title for title in titles if not title.startswith("written")]
        expected = [f"{n} {self.attempt}" for n in range(len(records))] if is_committed else []
        self.assertEqual(expected, rows)
        self.assertLessEqual({title.split()[1] for title in titles}, {str(self.attempt)})
        self.assertEqual(len(kinds), len(self.shop.kept()) - kept_before)
        repeated = [subscribers.count(each) for each, _ in told]
        self.assertEqual(told, set(self.heard))
        self.assertEqual(sum(repeated), len(self.heard))
        self.assertEqual(sorted(f"{r}_{a}" for r, a in kinds), sorted(self.frames()))
        self.flushLoggedErrors(ValueError)

    def frames(self) -> list[str]:
        """Take what the connection was told: the names of the events."""
        return [
            self.successResultOf(self.connection.receive())["payload"]["name"]
            for _ in range(len(self.connection))
        ]
