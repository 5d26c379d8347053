"""Every instance of every model through every source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs, formatEvent

from oni.errors import LedgerKeyError, NotRunningError, UnkeptContextError
from oni.sources import SourcesProgress, event
from oni.values import Event
from tests.sources.house import Challenge, References, SourcesTestCase, Table

NAME = "tests.sources.house.Challenge"


class BatchTests(SourcesTestCase):
    """A table with ten rows, and a source for them."""

    def setUp(self) -> None:
        """Save them."""
        super().setUp()
        self.table = Table()
        self.sources = self.make(
            references=[References(self.table)], after_call=lambda: self.called.append("clean")
        )
        self.sources.register_model_event_source(Challenge, self.events)
        self.sources.register_group_handler("", self.note("n"), name="n")
        for pk in range(10):
            self.table.save(Challenge(self.table, pk))
        self.broken: set[int] = set()
        self.progress: list[SourcesProgress] = []

    def events(self, challenge: Any) -> Iterator[Event]:
        """Yield two events, or fail."""
        yield event("created", challenge.pk, {"challenge": challenge})
        if challenge.pk in self.broken:
            raise ZeroDivisionError
        yield event("ended", challenge.pk)

    def instances(self, model: type) -> Iterator[Any]:
        """Give all rows."""
        return (model(self.table, pk) for pk in self.table.rows)

    def process(self, **options: Any) -> Any:
        """Run everything."""
        return self.sources.process_sources(
            self.instances, progress=self.progress.append, **options
        )

    def test_everything(self) -> None:
        """Every instance's events are admitted and handled; how far it is, is told."""
        self.start()
        told = self.get(self.process(batch=4))
        self.assertEqual(told, SourcesProgress(NAME, 10, 20, 20, 0))
        self.assertEqual([each.instances for each in self.progress], [4, 8, 10])
        self.assertEqual(len([each for each in self.called if each != "clean"]), 20)
        again = self.get(self.process())
        self.assertEqual((again.events, again.admitted), (20, 0))

    def test_cleaned_once(self) -> None:
        """What belongs to the thread is given back at the end, not while instances are read."""
        self.start()
        self.get(self.process(batch=1))
        self.assertEqual(self.called[-1], "clean")
        self.assertEqual(self.called.count("clean"), 1)

    def test_one_that_fails(self) -> None:
        """An instance with which a source fails is passed over, whole, counted, and named."""
        self.start()
        self.broken = {3, 5}
        with capturedLogs() as logs:
            told = self.get(self.process())
        self.assertEqual((told.instances, told.admitted, told.failures), (10, 16, 2))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        (first, _) = [formatEvent(each) for each in logs if "log_failure" in each]
        self.assertEqual(
            first, f"A source failed with an instance of {NAME}: model 'Challenge', pk 3"
        )

    def test_one_that_cannot_be_kept(self) -> None:
        """An instance whose events no ledger takes keeps no others from their turn either."""
        self.start()
        bad = {3: event("bad", 3, {"what": object()}), 5: Event(group="bad", key="x" * 256)}
        self.sources.register_model_event_source(
            Challenge, lambda row: [bad[row.pk]] if row.pk in bad else []
        )
        self.sources.register_group_handler("", self.note("t"), name="t", times=16)
        told = self.get(self.process())
        self.assertEqual((told.instances, told.admitted, told.failures), (10, 16, 2))
        self.assertEqual(len(self.flushLoggedErrors(UnkeptContextError, LedgerKeyError)), 2)
        self.assertEqual(len([each for each in self.called if each[0] == "t"]), 16)

    def test_one_that_has_no_name(self) -> None:
        """One that nobody can name is shown, in short."""
        self.start()
        failing = self.make()
        failing.register_model_event_source(dict, lambda _: 1 / 0)
        self.get(failing.start())
        with capturedLogs() as logs:
            self.get(failing.process_sources(lambda model: [model(a=1)]))
        (told,) = [formatEvent(each) or "" for each in logs if "log_failure" in each]
        self.assertTrue(told.endswith("dict: {'a': 1}"), told)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_given_models(self) -> None:
        """Only the models that are named are gone through."""
        self.start()
        told = self.get(self.process(models=[]))
        self.assertEqual(told, SourcesProgress())

    def test_instances_fail(self) -> None:
        """What instances cannot be read for is told; the thread is given back all the same."""

        def fail(model: type) -> Any:
            raise ZeroDivisionError

        self.start()
        self.refuse(self.sources.process_sources(fail), ZeroDivisionError)
        self.assertEqual(self.called, ["clean"])
        self.assertTrue(self.pool.is_stopped)

    def test_cancelled(self) -> None:
        """It ends after the batch that is under way."""
        self.start()
        processed = self.sources.process_sources(
            self.instances, batch=2, progress=lambda so_far: processed.cancel()
        )
        self.clock.settle()
        self.failureResultOf(processed, CancelledError)
        self.assertEqual(len([each for each in self.called if each != "clean"]), 4)
        self.assertEqual(self.called[-1], "clean")

    def test_left_to_workers(self) -> None:
        """Where deliveries are left to workers everything is admitted only."""
        self.sources.configure(deliver="worker")
        self.start()
        told = self.get(self.process())
        self.assertEqual((told.admitted, self.called), (20, ["clean"]))

    def test_wrong_batches(self) -> None:
        """A batch of nothing is refused."""
        for batch in (0, True, 1.5):
            self.assertRaises(ValueError, self.process, batch=batch)

    def test_not_started(self) -> None:
        """Without a ledger that is open nothing begins."""
        self.refuse(self.process(), NotRunningError)
