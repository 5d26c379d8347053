"""The short way through the phases, beside the long one: nobody can tell which was taken.

A phase with a time limit is never gone through the short way, and the limit is so long that it
changes nothing else. So one script is acted twice, and everything that handlers and callers can
see has to be the same.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from oni.dispatcher._run import EventRun
from oni.twisted_event_dispatcher import EventDispatcher, Phase

NEVER = 1e9  # seconds

BEHAVIOURS = (
    *("nothing", "value", "fired") * 4,
    *("raise", "failed", "later", "fails later", "coroutine", "waiting coroutine", "object"),
    *("odd result", "inner", "remove", "nested", "outer", "stop", "paused", "skip"),
)

phases = st.lists(
    st.builds(
        dict,
        concurrent=st.booleans(),
        on_error=st.sampled_from(["continue", "abort"]),
        always=st.booleans(),
        holds_turn=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)
handlers = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(BEHAVIOURS)), max_size=6)
steps = st.lists(st.sampled_from(["fire", "fire", "resolve", "cancel"]), min_size=1, max_size=6)
orders = st.sampled_from([(), None, ("key",)])


class Thing:
    """A value of a class that the dispatcher has not seen."""

    def __repr__(self) -> str:
        """Show nothing of its own."""
        return "a thing"


class World:
    """One dispatcher, and an account of all that could be seen."""

    def __init__(self, kinds: list[dict[str, Any]], order: Any, timeout: float | None) -> None:
        self.seen: list[Any] = []
        self.clock = Clock()
        self.names = [f"phase {number}" for number in range(len(kinds))]
        self.dispatcher = EventDispatcher(
            allowed_match_spec_keywords=("key",),
            phases=[
                Phase(name, timeout=timeout, **kind)
                for name, kind in zip(self.names, kinds, strict=True)
            ],
            order_by=order,
            max_pending=3,
            stall_warning=None,
            reactor=self.clock,
        )
        self.dispatcher.start()
        self.waiting: list[tuple[Deferred[Any], bool]] = []
        self.fired: list[Deferred[Any]] = []
        self.ids: list[int] = []

    def add(self, number: int, behaviour: str) -> None:
        """Add a handler."""
        phase = self.names[number % len(self.names)]
        place = len(self.ids)

        def handle(event: Any) -> Any:
            self.note("called", place, event)
            return self.behave(behaviour, place, event)

        async def at_once(event: Any) -> Any:
            self.note("called", place, event)
            return place

        async def waits(event: Any) -> Any:
            self.note("called", place, event)
            await self.later(False)
            return place

        function: Any = {"coroutine": at_once, "waiting coroutine": waits}.get(behaviour, handle)
        self.dispatcher.add_event_handler(function, phase, use_weakref=False).addCallback(
            self.ids.append
        )

    def later(self, fails: bool) -> Deferred[Any]:
        """Give a Deferred that is fired in a later step."""
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((deferred, fails))
        return deferred

    def behave(self, behaviour: str, place: int, event: Any) -> Any:
        """Do what a handler does."""
        if behaviour in ("nothing", "value"):
            return place if behaviour == "value" else None
        if behaviour == "raise":
            raise ValueError(place)
        if behaviour in ("later", "fails later"):
            return self.later(behaviour == "fails later")
        if behaviour == "fired":
            return succeed(place)
        if behaviour == "failed":
            return fail(ValueError(place))
        if behaviour == "object":
            return Thing()
        if behaviour == "odd result":
            return succeed(Thing())
        if behaviour == "inner":
            return succeed(None).addCallback(lambda _: self.later(False))
        if behaviour == "paused":
            deferred = succeed(place)
            deferred.pause()
            self.clock.callLater(1, deferred.unpause)
            return deferred
        if behaviour in ("remove", "skip"):
            other = self.ids[-1] if behaviour == "remove" else self.ids[place]
            self.dispatcher.remove_event_handler(other).addErrback(lambda _: None)
            return None
        if behaviour == "stop":
            self.dispatcher.stop().addBoth(lambda result: self.note("stopped", repr(result)))
            return None
        if len(self.fired) < 10:
            fire = self.fire
            if behaviour == "nested":
                fire(f"{event} nested")
            else:
                Context().run(fire, f"{event} beside")
        return None

    def note(self, *what: Any) -> None:
        """Write down what happened, and what there is to be seen of the dispatcher."""
        try:
            so_far = laid_out(self.dispatcher.result_so_far())
        except LookupError:
            so_far = []
        pending = sorted((one.event, one.state) for one in self.dispatcher.pending())
        counted = dict(self.dispatcher.statistics())
        self.seen.append((what, so_far, pending, counted))

    def fire(self, event: str) -> None:
        """Fire an event, and note what becomes of it."""
        number = len(self.fired)
        self.fired.append(succeed(None))
        fired = self.fired[number] = self.dispatcher.fire_event(event, key=event[:1])
        fired.addBoth(self.ended, event)
        self.note("fired", event)

    def ended(self, result: Any, event: str) -> None:
        """Note a result."""
        if isinstance(result, Failure):
            failed = getattr(result.value, "result", None)
            parts = laid_out(failed) if failed is not None else None
            self.note("failed", event, type(result.value).__name__, str(result.value), parts)
        else:
            self.note("ended", event, result.state, laid_out(result))

    def act(self, number: int, step: str) -> None:
        """Do one step."""
        if step == "fire":
            self.fire(f"{number % 2} event {number}")
        elif step == "cancel" and self.fired:
            self.fired[-1].cancel()
        elif step == "resolve" and self.waiting:
            self.resolve()
        self.note("step", number)

    def resolve(self) -> None:
        """Fire the Deferred that waits longest."""
        deferred, fails = self.waiting.pop(0)
        if not deferred.called:
            if fails:
                deferred.errback(ValueError("later"))
            else:
                deferred.callback("later")

    def finish(self) -> None:
        """Let everything end."""
        for _ in range(50):
            self.clock.advance(1)
            while self.waiting:
                self.resolve()
        self.dispatcher.stop().addBoth(lambda result: self.note("stopped at last", repr(result)))
        for info in self.dispatcher.handlers():
            self.seen.append((info.handler_id, info.calls))


def laid_out(result: Any) -> list[Any]:
    """Lay a result out, with what can be compared of it."""
    return [
        (one.handler_id, one.phase, repr(one.value.value) if one.failed else repr(one.value))
        for one in result
    ]


def play(kinds: Any, registered: Any, script: Any, order: Any, timeout: float | None) -> list[Any]:
    """Act a script, and give all that was seen."""
    world = World(kinds, order, timeout)
    for number, behaviour in registered:
        world.add(number, behaviour)
    for number, step in enumerate(script):
        world.act(number, step)
    world.finish()
    return world.seen


ACT = [
    {"on_error": "abort", "concurrent": False},
    {},
    {"always": True, "holds_turn": False},
]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(phases, handlers, steps, orders)
@example(ACT, [(0, "value"), (0, "raise"), (1, "value"), (2, "value")], ["fire"], ("key",))
@example(ACT, [(0, "later"), (0, "value"), (2, "outer")], ["fire", "fire", "resolve"], ("key",))
@example(ACT, [(0, "fired"), (1, "later"), (2, "later")], ["fire", "fire"], ())
@example(ACT, [(2, "outer"), (2, "later"), (0, "value")], ["fire", "fire"], ())
@example([{"on_error": "abort"}, {}], [(0, "value"), (1, "value")], ["fire"], ())
@example(
    [{"concurrent": False, "holds_turn": False}],
    [(0, "outer"), (0, "raise")],
    ["fire"],
    (),
)
@example(ACT, [(0, "value"), (0, "remove"), (0, "value")], ["fire"], ())
@example(ACT, [(1, "odd result"), (1, "object"), (1, "paused")], ["fire"], None)
def test_same_as_the_long_way(kinds: Any, registered: Any, script: Any, order: Any) -> None:
    """Handlers are called in the same order and see the same; so does whoever fires events."""
    ignored: list[Any] = []
    globalLogPublisher.addObserver(ignored.append)
    try:
        short = play(kinds, registered, script, order, None)
        long = play(kinds, registered, script, order, NEVER)
    finally:
        globalLogPublisher.removeObserver(ignored.append)
    assert short == long


def test_no_run_is_made() -> None:
    """Where all is done when it has been called, no record of a run is made, fired or plain."""
    made: list[Any] = []
    world = World(ACT, ("key",), None)
    for number, behaviour in ((0, "value"), (0, "nothing"), (1, "fired"), (1, "coroutine"),
                              (2, "value")):  # fmt: skip
        world.add(number, behaviour)
    engine: Any = world.dispatcher._engine
    new_run = engine.new_run

    def note_run(*arguments: Any) -> EventRun:
        made.append(arguments)
        run: EventRun = new_run(*arguments)
        return run

    engine.new_run = note_run
    world.fire("event")
    assert made == []
    assert world.seen[-2][0][:2] == ("ended", "event")
    world.add(1, "later")
    world.fire("event")
    assert len(made) == 1
