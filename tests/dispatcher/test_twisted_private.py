"""What waits for a Deferred, as Twisted's private fields tell."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, DeferredList, gatherResults, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher import _twisted_private
from oni.dispatcher._twisted_private import AVAILABLE, undecided, waiters


class WaitersTests(SynchronousTestCase):
    """Everything that waits is found, and nothing else."""

    def setUp(self) -> None:
        """Make something to wait for."""
        self.deferred: Deferred[Any] = Deferred()

    def waiters(self) -> list[Any]:
        """Give what waits for it."""
        return [waiter for waiter, _ in waiters(self.deferred)]

    def test_available(self) -> None:
        """This Twisted has what is read."""
        self.assertTrue(AVAILABLE)

    def test_nobody(self) -> None:
        """Plain callbacks tell nothing."""
        self.deferred.addCallback(lambda _: None)
        self.assertEqual(self.waiters(), [])

    def test_returned_by_a_callback(self) -> None:
        """A Deferred whose callback returned it waits for it."""
        outer: Deferred[None] = Deferred()
        outer.addCallback(lambda _: self.deferred)
        outer.callback(None)
        self.assertEqual(self.waiters(), [outer])

    def test_chained(self) -> None:
        """So does one that it is chained to by chainDeferred."""
        other: Deferred[Any] = Deferred()
        self.deferred.chainDeferred(other)
        self.assertEqual(self.waiters(), [other])

    def test_fired_by_a_callback(self) -> None:
        """One whose callback method is merely called may be fired by others too."""
        other: Deferred[Any] = Deferred()
        self.deferred.addCallback(other.callback)
        self.assertEqual(self.waiters(), [])

    def test_coroutine_and_generator(self) -> None:
        """A coroutine and a generator that await it are known by their own Deferreds."""

        async def coroutine() -> None:
            await self.deferred

        @inlineCallbacks
        def generator() -> Any:
            yield self.deferred

        found = [Deferred.fromCoroutine(coroutine()), generator()]
        self.assertEqual(self.waiters(), found)

    def test_lists(self) -> None:
        """Lists and gatherResults are found."""
        found = [DeferredList([self.deferred]), gatherResults([self.deferred])]
        self.assertEqual(self.waiters(), found)

    def test_bound_method(self) -> None:
        """Bound methods of other objects are given with their further arguments."""
        self.deferred.addCallback(self.heard, 1, 2)
        self.assertEqual(list(waiters(self.deferred)), [(self.heard, (1, 2))])

    def heard(self, result: Any, *args: Any) -> None:
        """Be called."""

    def test_fired_already(self) -> None:
        """What has fired meanwhile, by a cancellation or another's failure, does not wait."""
        other: Deferred[None] = Deferred()
        both = DeferredList([self.deferred, other], fireOnOneErrback=True)
        both.addErrback(lambda _: None)
        chained: Deferred[Any] = Deferred()
        self.deferred.chainDeferred(chained)
        chained.addErrback(lambda _: None).cancel()
        other.errback(ValueError())
        other.addErrback(lambda _: None)
        self.assertEqual(self.waiters(), [])

    def test_undecided(self) -> None:
        """A list that one of several may fire names those; one that needs all names none."""
        other: Deferred[None] = Deferred()
        both = [self.deferred, other]
        self.assertIsNone(undecided(DeferredList(both)))
        first = DeferredList(both, fireOnOneErrback=True)
        self.assertEqual(undecided(first), both)
        self.assertEqual(undecided(DeferredList(both, fireOnOneCallback=True)), both)
        other.callback(None)
        self.assertEqual(undecided(first), [self.deferred])


class MissingTests(SynchronousTestCase):
    """Without these fields nothing is known, and nothing breaks."""

    def test_nothing_is_known(self) -> None:
        """No waiters are given."""
        deferred: Deferred[None] = Deferred()
        gathered = gatherResults([deferred])
        self.patch(_twisted_private, "AVAILABLE", False)
        self.assertEqual(list(waiters(deferred)), [])
        self.assertNoResult(gathered)

    def test_is_noticed(self) -> None:
        """A Twisted whose fields are gone, or mean something else, is noticed."""
        self.assertTrue(_twisted_private._is_available())
        for name, value in (("_CONTINUE", None), ("_RESUME", None), ("_FIRES", frozenset())):
            with mock.patch.object(_twisted_private, name, value):
                self.assertFalse(_twisted_private._is_available(), name)
        gone = mock.Mock(side_effect=AttributeError("resultList"))
        with mock.patch.object(_twisted_private, "undecided", gone):
            self.assertFalse(_twisted_private._is_available())
