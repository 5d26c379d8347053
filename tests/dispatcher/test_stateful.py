"""A dispatcher driven at random, beside a simple model of what should be called."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from oni.twisted_event_dispatcher import EventDispatcher, Phase

PHASES = ("before", "during", "after")
USERS = ("ann", "bob")

phases = st.sampled_from(PHASES)
users = st.sampled_from((None, *USERS))
all_times = st.sampled_from((None, None, 1, 2))


class Handler:
    """A handler as the model knows it; its method is what is registered."""

    def __init__(self, machine: DispatcherMachine, handler_id: int, phase: str) -> None:
        self.machine = machine
        self.id = handler_id
        self.phase = phase
        self.user: str | None = None
        self.remaining: int | None = None
        self.calls = 0
        # What it does when it is called: nothing, or one thing in its next call.
        self.then: tuple[str, Any] | None = None

    def __call__(self, event: Any) -> Any:
        """Note the call, and do what it was told to."""
        return self.machine.called(self, event)

    async def coroutine(self, event: Any) -> Any:
        """Do the same as a coroutine."""
        self.machine.called(self, event)

    def fits(self, details: dict[str, str]) -> bool:
        """Say whether an event reaches it."""
        return self.user is None or details.get("user") == self.user


class Running:
    """An event as the model knows it: whom it will call, and what it called."""

    def __init__(self, machine: DispatcherMachine, details: dict[str, str]) -> None:
        fitting = [h for h in machine.alive.values() if h.fits(details)]
        # By id: a handler that is held weakly must not be kept alive from here.
        self.to_call = [i for _, i in sorted((PHASES.index(h.phase), h.id) for h in fitting)]
        self.called: list[int] = []


class DispatcherMachine(RuleBasedStateMachine):
    """Adds, removes, fires, nests, waits, lets die, stops and starts."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = EventDispatcher(
            ("user",),
            phases=(PHASES[0], Phase(PHASES[1], concurrent=False), PHASES[2]),
            reactor=Clock(),
        )
        self.alive: dict[int, Handler] = {}
        self.known: set[int] = set()  # all that ever were alive: next_event's are not among them
        self.owners: dict[int, Handler] = {}  # those that are held weakly, kept by us
        self.running: list[Running] = []
        self.active: list[int] = []  # the handlers that are being called
        self.wrong: list[AssertionError] = []
        self.waiting: list[tuple[str | None, Deferred[Any], list[Any]]] = []
        self.started = False
        self.fired = 0

    # --- What handlers do ------------------------------------------------------------------

    def called(self, handler: Handler, event: Any) -> Any:
        """Take a handler's call, and note what is wrong with it: raising here is a handler's."""
        self.active.append(handler.id)
        try:
            return self.act(handler)
        except AssertionError as error:
            self.wrong.append(error)
            raise
        finally:
            self.active.pop()

    def act(self, handler: Handler) -> Any:
        """Check that the call is the next one that the model allows, and do what was told."""
        running = self.running[-1]
        assert handler.id in running.to_call, f"handler {handler.id} was called"
        while (passed := running.to_call.pop(0)) != handler.id:
            assert passed not in self.alive, f"handler {passed} was passed over"
        assert handler.id in self.alive, f"handler {handler.id} was called after its end"
        handler.calls += 1
        running.called.append(handler.id)
        if handler.remaining is not None:
            handler.remaining -= 1
            if not handler.remaining:
                self.forget(handler.id)
        then, handler.then = handler.then, None
        if then is None:
            return None
        action, argument = then
        if action == "fire":
            return self.do_fire(argument)
        if action == "remove" and argument in self.alive:
            self.do_remove(argument)
        elif action == "die" and argument in self.owners and argument not in self.active:
            self.forget(argument)
        elif action == "add":
            self.do_add(*argument)
        elif action == "raise" and handler.id not in self.owners:  # the log keeps it alive
            raise ZeroDivisionError
        return None

    def forget(self, handler_id: int) -> None:
        """Let a handler go: removed, used up, or dead."""
        del self.alive[handler_id]
        self.owners.pop(handler_id, None)

    def do_add(
        self, phase: str, user: str | None, times: int | None, weak: bool, coroutine: bool
    ) -> None:
        """Register a handler."""
        handler = Handler(self, 0, phase)
        handler.user, handler.remaining = user, times
        listen_fn = handler.coroutine if coroutine else handler
        spec = {} if user is None else {"user": user}
        added = self.dispatcher.add_event_handler(listen_fn, phase, weak, times=times, **spec)
        handler.id = self.result(added)
        self.alive[handler.id] = handler
        self.known.add(handler.id)
        if weak:
            self.owners[handler.id] = handler

    def do_remove(self, handler_id: int) -> None:
        """Remove a handler."""
        handler = self.alive[handler_id]  # removed before it dies
        self.forget(handler_id)
        assert self.result(self.dispatcher.remove_event_handler(handler_id)) is None
        del handler

    def do_fire(self, user: str | None) -> Deferred[Any]:
        """Fire an event, and compare what it called with what it should have."""
        details = {} if user is None else {"user": user}
        if self.started:
            self.running.append(Running(self, details))
            self.fired += 1
        fired = self.dispatcher.fire_event("event", **details)
        if self.started:
            running = self.running.pop()
            assert not self.wrong, self.wrong
            left = [i for i in running.to_call if i in self.alive]
            assert not left, f"handlers {left} were not called"
            result = self.result(fired)
            ours = [o.handler_id for o in result if o.handler_id in self.known]
            assert ours == running.called
            for wanted, _, heard in self.waiting:
                assert bool(heard) or wanted not in (None, user)
            self.waiting = [each for each in self.waiting if not each[2]]
        else:
            assert not self.result(fired).dispatched
        return fired

    @staticmethod
    def result(deferred: Deferred[Any]) -> Any:
        """Give what a Deferred has fired with."""
        results: list[Any] = []
        deferred.addBoth(lambda value: results.append(value) or value)
        (result,) = results
        return result

    # --- Rules -----------------------------------------------------------------------------

    @rule(phase=phases, user=users, times=all_times, weak=st.booleans(), coroutine=st.booleans())
    def add(self, **arguments: Any) -> None:
        """Register a handler."""
        self.do_add(**arguments)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove a handler."""
        self.do_remove(data.draw(st.sampled_from(list(self.alive))))

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Let a weakly held handler die."""
        self.forget(data.draw(st.sampled_from(list(self.owners))))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), user=users, new=st.tuples(phases, users, all_times))
    def tell(self, data: st.DataObject, user: Any, new: Any) -> None:
        """Tell a handler what to do in its next call."""
        ids = st.sampled_from(list(self.alive))
        self.alive[data.draw(ids)].then = data.draw(
            st.one_of(
                st.just(("fire", user)),
                st.tuples(st.sampled_from(("remove", "die")), ids),
                st.just(("add", (*new, False, False))),
                st.just(("raise", None)),
            )
        )

    @rule(user=users)
    def fire(self, user: str | None) -> None:
        """Fire an event."""
        self.do_fire(user)

    @rule(user=users)
    def wait(self, user: str | None) -> None:
        """Wait for the next event."""
        heard: list[Any] = []
        waiting = self.dispatcher.next_event(**({} if user is None else {"user": user}))
        waiting.addBoth(heard.append)
        self.waiting.append((user, waiting, heard))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """End such a wait."""
        entry = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(entry)
        entry[1].cancel()
        assert len(entry[2]) == 1

    @rule()
    def stop(self) -> None:
        """Stop: all waits end."""
        assert self.result(self.dispatcher.stop()) is None
        if self.started:
            assert all(len(heard) == 1 for _, _, heard in self.waiting)
            self.waiting.clear()
        self.started = False

    @rule()
    def start(self) -> None:
        """Start, again perhaps."""
        self.dispatcher.start()
        self.started = True

    # --- What always holds -----------------------------------------------------------------

    @invariant()
    def knows_its_handlers(self) -> None:
        """The dispatcher lists the model's handlers, with their counts."""
        listed = {info.handler_id: info for info in self.dispatcher.handlers()}
        waiting = [i for i in listed if i in self.dispatcher._engine.awaiting]
        assert len(waiting) == len(self.waiting)
        assert [i for i in listed if i not in waiting] == sorted(self.alive)
        for handler_id, handler in self.alive.items():
            assert listed[handler_id].calls == handler.calls
            assert listed[handler_id].remaining == handler.remaining

    @invariant()
    def is_quiet(self) -> None:
        """Nothing runs between two steps."""
        numbers = self.dispatcher.statistics()
        assert numbers["events_running"] == numbers["events_queued"] == 0
        assert numbers["events_fired"] == self.fired
        assert self.dispatcher.pending() == []

    def teardown(self) -> None:
        """Remove all: nothing is left."""
        for handler_id in list(self.alive):
            with contextlib.suppress(KeyError):
                self.do_remove(handler_id)
        for _, waiting, _ in self.waiting:
            waiting.cancel()
        index: Any = self.dispatcher._index
        assert not index._tables
        assert not index._merged
        assert not index.by_id


DispatcherMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestDispatcher = DispatcherMachine.TestCase
