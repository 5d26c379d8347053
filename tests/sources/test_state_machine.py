"""Whatever happens in whatever order: nothing is lost or done twice, and phases keep order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher

from oni.ledger import Ledger
from oni.sources import EventSources, event
from oni.values import Event
from tests.ledger.threads import AtOnce
from tests.sources.house import START, HandPool, Reactor, Store

PHASES = {
    "write": "before",
    "mail": "before",
    "count": "during",
    "park": "during",
    "last": "after",
}
RANKS = {name: ["before", "during", "after"].index(phase) for name, phase in PHASES.items()}
ENDED = ("done", "dead", "uncertain")
NOT_ENDED = ("pending", "running")


@dataclass
class Call:
    """A handler that was called and has not ended yet."""

    handler: str
    key: str
    process: Process
    done: Deferred[None]


class Process:
    """One process: its reactor, its ledger on the common store, its event sources."""

    def __init__(self, machine: Machine, deliver: str) -> None:
        self.machine = machine
        self.reactor = Reactor()
        self.ledger = Ledger(
            machine.store,
            interval=None,
            reactor=self.reactor,
            make_threads=lambda name, size: AtOnce(),
        )
        self.sources = EventSources(
            self.ledger,
            deliver=deliver,
            concurrency=4,
            reactor=self.reactor,
            make_pool=lambda size: HandPool(),
            random=lambda: 0.5,
        )
        register = self.sources.register_group_handler
        for name in ("mail", "last"):
            register("", self.handler(name), name=name, phase=PHASES[name], max_attempts=3)
        register("", self.handler("park"), name="park", phase="during", on_crash="park")
        for name in ("write", "count"):
            register("", machine.work, name=name, phase=PHASES[name], on_crash="transaction")
        self.sources.start()
        self.reactor.settle()

    def handler(self, name: str) -> Any:
        """Give a handler that ends when the machine says so."""

        def handle(event: Event) -> Deferred[None]:
            call = Call(name, event.key, self, Deferred())
            self.machine.called(call)
            return call.done

        return handle


class Machine(RuleBasedStateMachine):
    """Takes steps with several processes on one store."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.store = Store(clock=lambda: self.now)
        self.calls: list[Call] = []
        self.completed: Counter[tuple[str, str]] = Counter()
        self.admitted: set[str] = set()
        self.called_parked: Counter[tuple[str, str]] = Counter()
        self.wrong: list[tuple[object, ...]] = []
        self.failing = False
        self.processes = [Process(self, "here"), Process(self, "worker")]

    # --- What handlers do

    def called(self, call: Call) -> None:
        """See that a call may be, and keep it."""
        name = (call.handler, call.key)
        self.see_order(*name)
        self.see(all((each.handler, each.key) != name for each in self.calls), name, "runs twice")
        self.see(not self.completed[name], name, "is called after it was completed")
        self.see(call.handler != "park" or not self.called_parked[name], name, "is not parked")
        self.called_parked[name] += 1
        self.calls.append(call)

    def see(self, is_so: bool, *what: object) -> None:
        """Note what must never be: what is raised in a handler is only its failure."""
        if not is_so:
            self.wrong.append(what)

    def work(self, event: Event, transaction: Any) -> None:
        """Write an effect, or fail."""
        row = next(
            row
            for row in self.store.running_rows()
            if row.key == event.key and row.on_crash == "transaction"
        )
        self.see_order(row.handler, event.key)
        name = f"{event.key}: {event.idempotency_key}"
        transaction.put(name, (transaction.get(name) or 0) + 1)
        if self.failing:
            raise ZeroDivisionError

    def see_order(self, handler: str, key: str) -> None:
        """See that all of an earlier phase have ended."""
        for row in list(self.store.rows.values()):
            if row.key == key and RANKS[row.handler] < RANKS[handler]:
                self.see(row.state in ENDED, handler, key, "runs before", row)

    # --- Steps

    @rule(ids=st.lists(st.integers(1, 4), min_size=1, max_size=3), which=st.integers(0, 3))
    def admit(self, ids: list[int], which: int) -> None:
        """Let a process admit events and wait for them, or not wait."""
        sources = self.process(which).sources
        events = [event("g", id) for id in ids]
        how = sources.process_events if which % 2 else sources.only_new_events
        how(events).addErrback(lambda failure: None)
        self.settle()
        self.admitted.update(each.key for each in events)

    @rule(failing=st.booleans())
    def change_luck(self, failing: bool) -> None:
        """Let work within transactions fail from now on, or no more."""
        self.failing = failing

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9), fails=st.booleans())
    def end(self, which: int, fails: bool) -> None:
        """Let a handler end, well or not."""
        call = self.calls.pop(which % len(self.calls))
        if fails:
            call.done.errback(ZeroDivisionError())
        else:
            self.completed[call.handler, call.key] += 1
            call.done.callback(None)
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 60.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass for everybody."""
        self.now += seconds
        for process in self.processes:
            process.reactor.pass_time(seconds, step=seconds)
        self.settle()

    @rule(which=st.integers(0, 3))
    def crash(self, which: int) -> None:
        """Let a process die at once, and a new one start in its place; others see it."""
        dead = self.process(which)
        self.store.leave(dead.ledger.owner)
        self.calls = [call for call in self.calls if call.process is not dead]
        with self.store.transaction() as transaction:
            for row in transaction.running():
                if not self.store.is_alive(row.owner):
                    assert transaction.rescue(row)
        deliver = "here" if dead.sources.delivers else "worker"
        self.processes[self.processes.index(dead)] = Process(self, deliver)
        self.settle()

    @rule(which=st.integers(0, 3))
    def restart(self, which: int) -> None:
        """Let a process stop in good order, as far as it can, and a new one start."""
        old = self.process(which)
        stopped = old.sources.stop(2.0)
        stopped.addErrback(lambda failure: None)
        self.calls = [call for call in self.calls if call.process is not old]
        old.reactor.pass_time(3.0, step=0.5)
        assert stopped.called
        deliver = "here" if old.sources.delivers else "worker"
        self.processes[self.processes.index(old)] = Process(self, deliver)
        self.settle()

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def join(self) -> None:
        """Let one more process start."""
        self.processes.append(Process(self, "here"))
        self.settle()

    def process(self, which: int) -> Process:
        """Give one of the processes."""
        return self.processes[which % len(self.processes)]

    def settle(self) -> None:
        """Let everybody do what is to be done now."""
        for process in (*self.processes, *self.processes):
            process.reactor.settle()

    # --- What holds

    @invariant()
    def holds(self) -> None:
        """Completed once, effects once, nothing lost, and claims as they are known here."""
        assert not self.wrong, self.wrong
        assert all(number <= 1 for number in self.completed.values())
        rows = self.store.rows
        for (key, handler), row in rows.items():
            name = f"{key}: oni/{handler}/{key}"
            if row.on_crash == "transaction":
                assert self.store.notes.get(name, 0) == (row.state == "done"), row
            elif row.state == "done":
                assert self.completed[handler, key] == 1, row
            elif self.completed[handler, key]:
                raise AssertionError(f"{row} was completed, and nobody knows")
        assert {key for key, _ in rows} == self.admitted
        assert len(rows) == len(PHASES) * len(self.admitted)
        running = {(row.handler, row.key) for row in rows.values() if row.state == "running"}
        assert running == {(call.handler, call.key) for call in self.calls}

    def teardown(self) -> None:
        """In the end everything ends."""
        self.failing = False
        for _ in range(40):
            while self.calls:
                self.end(0, False)
                self.holds()
            states = {row.state for row in self.store.rows.values()}
            if states.isdisjoint(NOT_ENDED):
                return
            self.pass_time(60.0)
        raise AssertionError(f"in the end there still are {states}")


class QuietMachine(Machine):
    """The machine, without the log of all that fails on purpose."""

    def __init__(self) -> None:
        self._observers = list(globalLogPublisher._observers)
        for observer in self._observers:
            globalLogPublisher.removeObserver(observer)
        super().__init__()

    def teardown(self) -> None:
        """Let the log go on."""
        try:
            super().teardown()
        finally:
            for observer in self._observers:
                globalLogPublisher.addObserver(observer)


TestSources = QuietMachine.TestCase
TestSources.settings = settings(max_examples=60, stateful_step_count=30)
