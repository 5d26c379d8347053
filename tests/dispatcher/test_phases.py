"""The phases of a dispatcher, and changing them after init."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from oni.errors import (
    DuplicatePhaseError,
    InvalidPhaseError,
    PhaseInUseError,
    UnknownPhaseError,
)
from oni.twisted_event_dispatcher import EventDispatcher, Phase
from tests.dispatcher.cases import DispatcherCase


class InitTests(DispatcherCase):
    """Phases at init."""

    def test_default(self) -> None:
        """There are before, during and after if nothing is said."""
        self.assertEqual(
            EventDispatcher().phases, tuple(map(Phase, ("before", "during", "after")))
        )

    def test_any_number(self) -> None:
        """There may be any number, as names or as Phase."""
        dispatcher = EventDispatcher(phases=["one", Phase("two", concurrent=False)])
        self.assertEqual(dispatcher.phases, (Phase("one"), Phase("two", concurrent=False)))

    def test_refused(self) -> None:
        """None at all, a bare string and what is no phase are refused."""
        for phases in ((), "during", ("",), (5,), (None,)):
            self.assertRaises(InvalidPhaseError, EventDispatcher, phases=phases)

    def test_names_are_distinct(self) -> None:
        """Two phases of one name are refused."""
        error = self.assertRaises(
            DuplicatePhaseError, EventDispatcher, phases=("a", Phase("a", always=True))
        )
        self.assertEqual(error.phase, "a")


class ChangeTests(DispatcherCase):
    """Phases that come and go."""

    def names(self) -> list[str]:
        """Give the phases' names."""
        return [phase.name for phase in self.dispatcher.phases]

    def test_order(self) -> None:
        """Handlers are called in the order of phases, whatever order they were registered in."""
        for phase in ("after", "before", "during"):
            self.hear(phase, phase)
        self.assertEqual(self.fired(), ["before", "during", "after"])

    def test_add(self) -> None:
        """A phase is added at the end, or before or after another one."""
        self.dispatcher.add_phase("end")
        self.dispatcher.add_phase("begin", before="before")
        self.dispatcher.add_phase(Phase("middle", always=True), after="during")
        self.assertEqual(self.names(), ["begin", "before", "during", "middle", "after", "end"])
        for phase in reversed(self.names()):
            self.hear(phase, phase, user="bob")
        self.assertEqual(self.fired(user="bob"), self.names())

    def test_add_between_used_ones(self) -> None:
        """Handlers that were called before are called in the new order."""
        self.hear("after", "after")
        self.hear("before", "before", user="bob")
        self.assertEqual(self.fired(user="bob"), ["before", "after"])
        self.dispatcher.add_phase("new", before="after")
        self.hear("new", "new")
        self.assertEqual(self.fired(user="bob"), ["before", "new", "after"])

    def test_add_refused(self) -> None:
        """A known name, an unknown neighbour, two neighbours: refused, and nothing changes."""
        add = self.dispatcher.add_phase
        self.assertRaises(DuplicatePhaseError, add, "during")
        self.assertRaises(UnknownPhaseError, add, "new", before="never")
        self.assertRaises(UnknownPhaseError, add, "new", after="never")
        self.assertRaises(InvalidPhaseError, add, "new", before="during", after="before")
        self.assertRaises(InvalidPhaseError, add, "")
        self.assertEqual(self.names(), ["before", "during", "after"])

    def test_remove(self) -> None:
        """A removed phase is unknown; the others stay in order."""
        self.dispatcher.remove_phase("during")
        self.assertEqual(self.names(), ["before", "after"])
        error = self.assertRaises(UnknownPhaseError, self.hear, "x")
        self.assertEqual(error.phases, ("before", "after"))

    def test_remove_unknown(self) -> None:
        """Removing a phase that is not there is an error."""
        self.assertRaises(UnknownPhaseError, self.dispatcher.remove_phase, "never")

    def test_remove_in_use(self) -> None:
        """Removing one that has handlers is refused, with their ids, names and places."""
        ids = [self.hear("x"), self.hear("y", user="bob")]
        self.hear("z", "after")
        error = self.assertRaises(PhaseInUseError, self.dispatcher.remove_phase, "during")
        self.assertEqual((error.phase, list(error.handler_ids)), ("during", ids))
        self.assertRegex(str(error), r"handler 1: .*lambda.*cases\.py:\d+.*handler 2: ")
        self.assertEqual(self.fired(user="bob"), ["x", "y", "z"])

    def test_remove_last(self) -> None:
        """The only phase stays."""
        self.dispatcher = self.make(phases=("only",))
        error = self.assertRaises(InvalidPhaseError, self.dispatcher.remove_phase, "only")
        self.assertIn("only one", str(error))

    def test_running_events_keep_theirs(self) -> None:
        """An event that runs goes on in the phases it began with."""
        gate: Deferred[None] = Deferred()
        self.add(lambda event: gate, "before")
        self.hear("after", "after")
        fired = self.dispatcher.fire_event("event")
        self.dispatcher.add_phase("new", before="after")
        self.hear("new", "new")
        gate.callback(None)
        self.successResultOf(fired)
        self.assertEqual(self.heard, ["after"])

    def test_removed_while_it_runs(self) -> None:
        """A phase whose handlers went may go while an event waits in it."""
        gate: Deferred[str] = Deferred()
        handler_id = self.add(lambda event: gate)
        fired = self.dispatcher.fire_event("event")
        self.remove(handler_id)
        self.dispatcher.remove_phase("during")
        gate.callback("late")
        self.assertEqual([o.phase for o in self.successResultOf(fired)], ["during"])

    def test_calls_survive(self) -> None:
        """Changing phases forgets no call."""
        self.hear("x", user="bob")
        self.hear("y")
        self.fire(user="bob")
        self.dispatcher.add_phase("late")
        self.dispatcher.remove_phase("after")
        self.fire(user="bob")
        self.assertEqual([info.calls for info in self.dispatcher.handlers()], [2, 2])
