"""Pyramid: what is told by the hooks of the transaction package, without Pyramid."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from unittest import mock

import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transaction.interfaces import DoomedTransaction, TransactionFailedError, TransientError
from zope.interface import verify

from oni.errors import CascadeError, TransactionOverError
from oni.listeners import (
    AfterResourceChanged,
    ResourceChanged,
    ResourceEvent,
    ResourceEvents,
    new_dispatcher,
)
from oni.listeners.pyramid._attempts import Savepoint, TransactionAttempt
from tests.listeners.pyramid_case import (
    PyramidCase,
    RefusedError,
    refuse,
)

_steps = st.lists(
    st.one_of(st.sampled_from(("say", "save")), st.integers(0, 5)), max_size=8
)  # a number goes back to a savepoint


class Other:
    """Another resource.

    Attributes:
        called: The names of the methods that were called.
        fails: The one that fails.
    """

    fails = ""

    def __init__(self, key: str) -> None:
        self.called: list[str] = []
        self._key = key

    def sortKey(self) -> str:
        """Give its place."""
        return self._key

    def __getattr__(self, name: str) -> Any:
        """Give a method."""

        def method(transaction: Any) -> None:
            self.called.append(name)
            if name == self.fails:
                raise OSError(name)

        return method


class AttemptInTransactionTests(PyramidCase):
    """The data manager, with the transaction package alone."""

    def setUp(self) -> None:
        """Begin a transaction."""
        super().setUp()
        self.manager = transaction.TransactionManager(explicit=True)
        self.dispatcher = new_dispatcher()
        self.begin()

    def begin(self) -> None:
        """Begin another."""
        begun = self.manager.begin()
        self.attempt = TransactionAttempt(begun, self.manager, ResourceEvents(self.dispatcher))

    def say(self, id: int) -> None:
        """Say that a record is created."""
        self.attempt.events().record("article", "create", id=id, uri="/", new={})

    def subscribe(self, subscriber: Callable[[Any], Any], **spec: Any) -> None:
        """Let somebody hear."""
        self.dispatcher.add_event_handler(subscriber, "before", use_weakref=False, **spec)

    def told(self) -> list[list[int]]:
        """Give the ids of the records that were told of."""
        return [[each["id"] for each in event.impacted] for event in self.heard]

    def test_interface(self) -> None:
        """It is one of those that can go back to savepoints."""
        interfaces = transaction.interfaces
        verify.verifyObject(interfaces.ISavepointDataManager, self.attempt)
        verify.verifyObject(interfaces.IDataManagerSavepoint, Savepoint(lambda: None))

    def test_savepoint(self) -> None:
        """What was said since a savepoint is forgotten with it."""
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        savepoint = self.manager.savepoint()
        self.say(2)
        savepoint.rollback()
        self.say(3)
        self.manager.commit()
        self.assertEqual([[1, 3]], self.told())

    def test_savepoint_before_all(self) -> None:
        """So it is if the savepoint was there first; and a veto is one afterwards."""
        self.manager.abort()
        begun = self.manager.begin()
        savepoint = begun.savepoint()
        self.attempt = TransactionAttempt(begun, self.manager, ResourceEvents(self.dispatcher))
        self.say(1)
        savepoint.rollback()
        self.subscribe(self.hear)
        self.say(2)
        self.subscribe(refuse, kind=ResourceChanged)
        self.assertRaises(RefusedError, self.manager.commit)
        self.assertEqual([[2]], self.told())

    def test_a_veto_cannot_be_undone(self) -> None:
        """Who tries to commit again fails again; the resources were aborted."""
        other = Other("a")
        self.manager.get().join(other)
        self.subscribe(refuse)
        self.say(1)
        self.assertRaises(RefusedError, self.manager.commit)
        self.assertIn("abort", other.called)
        self.assertNotIn("tpc_begin", other.called)
        self.assertRaises(TransactionFailedError, self.manager.commit)
        self.manager.abort()
        self.begin()
        self.manager.commit()

    def test_what_cannot_be_told_cannot_be_committed(self) -> None:
        """So it is with every other failure, a cascade for example."""

        def again(event: Any) -> None:
            self.say(1)

        self.subscribe(again)
        self.say(1)
        self.assertRaises(CascadeError, self.manager.commit)
        self.assertRaises(TransactionFailedError, self.manager.commit)

    def test_a_commit_that_fails_at_its_end(self) -> None:
        """When this has voted for it already, nobody hears of it, either."""
        other = Other("z")
        other.fails = "tpc_vote"
        self.manager.get().join(other)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        self.assertRaises(OSError, self.manager.commit)
        self.assertEqual([], self.heard)

    def test_a_hook_that_is_forgotten(self) -> None:
        """When another hook has failed nobody commits past the subscribers."""

        def fails() -> None:
            raise OSError

        self.manager.get().addBeforeCommitHook(fails)
        self.say(1)
        self.assertRaises(OSError, self.manager.commit)
        self.assertRaises(TransactionOverError, self.manager.commit)

    def test_said_after_the_hooks(self) -> None:
        """What nobody can be told of any more lets the commit fail."""
        synchronizer = mock.Mock()  # it is held weakly
        synchronizer.beforeCompletion.side_effect = lambda _: self.say(2)
        self.manager.registerSynch(synchronizer)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        self.assertRaises(TransactionOverError, self.manager.commit)
        self.assertEqual([], self.heard)

    def test_interrupted(self) -> None:
        """A program that is ended while subscribers are told commits nothing, either."""

        def interrupt(events: ResourceEvents) -> None:
            raise KeyboardInterrupt

        self.patch(ResourceEvents, "before_commit", interrupt)
        self.say(1)
        self.assertRaises(KeyboardInterrupt, self.manager.commit)
        self.assertRaises(TransactionFailedError, self.manager.commit)

    def test_doomed_by_a_subscriber(self) -> None:
        """It is a veto, though a commit that has begun does not ask for it."""
        self.subscribe(lambda event: self.manager.doom(), kind=ResourceChanged)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        self.assertRaises(DoomedTransaction, self.manager.commit)
        self.assertRaises(TransactionFailedError, self.manager.commit)
        self.assertEqual([], self.heard)

    def test_aborted_by_a_subscriber(self) -> None:
        """Whoever commits is told so, and not that it was done."""
        other = Other("a")
        self.manager.get().join(other)
        self.subscribe(lambda event: self.manager.abort(), kind=ResourceChanged)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        self.assertRaises(TransactionOverError, self.manager.commit)
        self.assertEqual((["abort"], []), (other.called, self.heard))

    def test_committed_by_a_subscriber(self) -> None:
        """It cannot: others may still veto. Whoever commits is told so, too."""
        other = Other("a")
        self.manager.get().join(other)

        def commit(event: Any) -> None:
            self.assertRaises(TransactionOverError, self.manager.commit)

        self.subscribe(commit, kind=ResourceChanged)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        self.say(1)
        self.assertRaises(TransactionOverError, self.manager.commit)
        self.assertEqual([], self.heard)
        self.assertNotIn("tpc_vote", other.called)

    def test_savepoint_of_another_hook(self) -> None:
        """What was said before it is told again, when it goes back to before it was told."""
        savepoints = []
        begun = self.manager.get()
        begun.addBeforeCommitHook(lambda: savepoints.append(begun.savepoint()))
        self.say(1)
        begun.addBeforeCommitHook(lambda: savepoints[0].rollback())
        self.subscribe(self.hear)
        self.manager.commit()
        self.assertEqual([[1], [1], [1]], self.told())
        self.assertEqual(
            [ResourceChanged, ResourceChanged, AfterResourceChanged], list(map(type, self.heard))
        )

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.tuples(_steps, _steps, _steps))
    def test_savepoints(self, steps: tuple[list[Any], ...]) -> None:
        """What is told after the commit is what was said, less what was gone back over.

        Steps are made before the commit, in a hook before subscribers are told, and in one after.
        """
        manager = transaction.TransactionManager(explicit=True)
        begun = manager.begin()
        dispatcher, home = new_dispatcher(), object()
        told: list[int] = []
        said: list[int] = []
        savepoints: list[tuple[Any, list[int]]] = []

        def hear(event: ResourceEvent) -> None:
            told.extend(each["id"] for each in event.impacted)

        def attempt() -> TransactionAttempt:
            try:
                found: TransactionAttempt = begun.data(home)
            except KeyError:
                found = TransactionAttempt(begun, manager, ResourceEvents(dispatcher))
                begun.set_data(home, found)
            return found

        def make(steps: list[Any]) -> None:
            for step in steps:
                if step == "say":
                    said.append(next(numbers))
                    attempt().events().record("article", "create", id=said[-1], uri="/", new={})
                elif step == "save":
                    savepoints.append((begun.savepoint(), [*said]))
                elif savepoints:
                    del savepoints[step % len(savepoints) + 1 :]
                    savepoint, said[:] = savepoints[-1]
                    savepoint.rollback()

        numbers = count()
        dispatcher.add_event_handler(hear, "during", False, kind=AfterResourceChanged)
        begun.addBeforeCommitHook(make, (steps[1],))
        make(steps[0])
        begun.addBeforeCommitHook(make, (steps[2],))
        savepoints.clear()  # a commit ends them
        manager.commit()
        self.assertEqual(sorted(said), sorted(told))

    def test_one_hook(self) -> None:
        """However much is said, subscribers are told in one go."""
        for number in range(3):
            self.say(number)
        self.assertEqual(1, len(list(self.manager.get().getBeforeCommitHooks())))

    def test_aborted(self) -> None:
        """What was said in a transaction that is aborted cannot be told any more."""
        self.subscribe(self.hear)
        self.say(1)
        self.manager.abort()
        self.assertRaises(TransactionOverError, self.say, 2)
        self.assertEqual([], self.heard)

    def test_many_attempts(self) -> None:
        """The package's own way of trying again works with a veto."""
        attempts = []

        def busy(event: Any) -> None:
            attempts.append(event)
            if len(attempts) < 2:
                raise TransientError

        self.manager.abort()
        self.subscribe(busy, kind=ResourceChanged)
        self.subscribe(self.hear, kind=AfterResourceChanged)
        for attempt in self.manager.attempts(3):
            with attempt as begun:
                events = ResourceEvents(self.dispatcher)
                self.attempt = TransactionAttempt(begun, self.manager, events)
                self.say(1)
        self.assertEqual((2, [[1]]), (len(attempts), self.told()))
