"""``oni sources``: what is chosen, how far it came, and what is said of mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import crochet
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from oni.command import _sources
from oni.command._failures import CommandError
from oni.command._ledger_many import Bar
from oni.command._sources_process import Processing, chosen_models, count_instances
from oni.errors import LedgerUnavailableError, SettingsError, StopTimeoutError
from oni.sources import EventSources, SourcesProgress, fresh_default
from tests.command.cases import CommandTestCase

LEDGER = '[ledger]\nurl = "memory:"\n'


class Post:
    """A model."""


class Page:
    """Another one."""


class Choosing(SynchronousTestCase):
    """Which models are meant."""

    def setUp(self) -> None:
        """Give two models a source."""
        self.sources = EventSources()
        for model in (Post, Page):
            self.sources.register_model_event_source(model, lambda instance: ())

    def test_all(self) -> None:
        """Where none is named, all that have sources are."""
        self.assertEqual([Post, Page], chosen_models(self.sources, ()))

    def test_by_name(self) -> None:
        """A name chooses one, once."""
        self.assertEqual([Page], chosen_models(self.sources, [f"{__name__}.Page"] * 2))

    def test_unknown(self) -> None:
        """A name that no model has is refused with those that there are."""
        error = self.assertRaises(CommandError, chosen_models, self.sources, ["Nope"])
        self.assertIn(f"{__name__}.Post", error.message)

    def test_none(self) -> None:
        """Where no model has a source there is nothing to do."""
        self.assertRaises(CommandError, chosen_models, EventSources(), ())

    def test_counting(self) -> None:
        """Instances are counted where they can be."""
        counting = mock.Mock(count=lambda model: 3)
        self.assertEqual(6, count_instances(counting, [Post, Page]))
        self.assertIsNone(count_instances(lambda model: (), [Post]))


class SomeSources:
    """Stands for event sources: goes through instances when the test lets it."""

    def __init__(self) -> None:
        self.opened: Any = None
        self.stopped: Any = None
        self.told: list[Any] = []
        self.done: Deferred[SourcesProgress] = Deferred()

    def start(self) -> Deferred[None]:
        """Open."""
        return maybeDeferred(_give, self.opened)

    def process_sources(
        self, instances_of: Any, models: Any, *, batch: int, progress: Any
    ) -> Deferred[SourcesProgress]:
        """Remember what was asked for."""
        self.instances = instances_of(models[0])
        self.batch, self.progress = batch, progress
        return self.done

    def stop(self, timeout: float) -> Deferred[None]:
        """Stop."""
        self.told.append(timeout)
        return maybeDeferred(_give, self.stopped)


def _give(what: Any) -> Any:
    if isinstance(what, Exception):
        raise what
    return what


class ProcessingTests(SynchronousTestCase):
    """What runs while the reactor does."""

    def setUp(self) -> None:
        """Make it."""
        self.clock = Clock()
        self.sources = SomeSources()
        self.ended = 0
        self.bar = Bar(None, "", None)
        self.processing = Processing(
            self.sources,  # type: ignore[arg-type]
            self.instances,
            [Post],
            50,
            10.0,
            self.bar,
            self.clock,
        )

    def instances(self, model: type) -> Iterable[int]:
        """Give numbers without end."""

        def numbers() -> Iterator[int]:
            number = 0
            while True:
                yield number
                number += 1

        return numbers()

    def start(self) -> None:
        """Start it."""

        def end() -> None:
            self.ended += 1

        self.processing.start(end)

    def test_to_the_end(self) -> None:
        """It goes on until all is done; then it ends well."""
        self.start()
        self.assertEqual(50, self.sources.batch)
        self.sources.progress(SourcesProgress("x", 20, 3, 1, 0))
        self.sources.progress(SourcesProgress("x", 50, 3, 1, 0))
        self.assertEqual((50, 0), (self.bar.done, self.ended))
        self.sources.done.callback(SourcesProgress("x", 60, 4, 1, 0))
        self.assertEqual((1, 0), (self.ended, self.processing.exit_code))
        self.successResultOf(self.processing.stop(by_signal=False))
        self.assertEqual((0, [5.0]), (self.processing.exit_code, self.sources.told))
        self.assertEqual(60, self.processing.so_far.instances)

    def test_failures(self) -> None:
        """Where a source failed the exit code says so."""
        self.start()
        self.sources.done.callback(SourcesProgress("x", 60, 4, 1, 2))
        self.assertEqual(1, self.processing.exit_code)

    def test_no_ledger(self) -> None:
        """A ledger that does not answer is exit code 3."""
        self.sources.opened = LedgerUnavailableError("refused")
        self.start()
        self.assertEqual((1, 3, "refused"), (self.ended, *self.how()))

    def test_mistake(self) -> None:
        """What nobody expected is told with its traceback."""
        with mock.patch.object(Failure, "printTraceback") as printed:
            self.start()
            self.sources.done.errback(ZeroDivisionError("oh"))
        self.assertEqual((1, "ZeroDivisionError('oh')"), self.how())
        printed.assert_called_once()

    def how(self) -> tuple[int, str]:
        """Say how it ended."""
        return self.processing.exit_code, self.processing.error

    def test_interrupted(self) -> None:
        """A signal lets the batch that is under way end, and no other one begin."""
        self.start()
        self.assertEqual([0, 1], [next(self.sources.instances) for _ in range(2)])
        stopped = self.processing.stop(by_signal=True)
        self.assertEqual([], list(self.sources.instances))
        self.assertEqual([], self.sources.told)
        self.sources.done.callback(SourcesProgress("x", 2, 0, 0, 0))
        self.successResultOf(stopped)
        self.assertEqual((130, [5.0]), (self.processing.exit_code, self.sources.told))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_a_batch_that_hangs(self) -> None:
        """It is not waited for for ever; handlers that hang are given up."""
        self.start()
        stopped = self.processing.stop(by_signal=True)
        self.sources.stopped = StopTimeoutError(5.0, [])
        self.clock.advance(5)
        self.successResultOf(stopped)
        self.assertEqual(75, self.processing.exit_code)
        self.assertIn("given up", self.processing.error)


class Commands(CommandTestCase):
    """The command line."""

    def setUp(self) -> None:
        """Leave crochet alone, and the process's own event sources."""
        super().setUp()
        fresh = fresh_default()
        fresh.__enter__()
        self.addCleanup(fresh.__exit__, None, None, None)
        self.patch(crochet, "no_setup", lambda: None)

    def test_mistakes(self) -> None:
        """Mistakes are one line."""
        for name in ("work", "process"):
            self.assert_line(self.oni("sources", name), 2, "either --config or --django")
            both = ("-c", self.config, "--django", "mysite")
            self.assert_line(self.oni("sources", name, *both), 2, "either --config or --django")
            path = str(self.folder / "none.toml")
            self.assert_line(self.oni("sources", name, "-c", path), 1, "No such file")

    def test_work(self) -> None:
        """What the worker comes to is the exit code; what it is refused for is one line."""
        path = self.file("l.toml", LEDGER)
        with mock.patch.object(_sources, "run_worker", return_value=75) as ran:
            self.assertEqual(75, self.oni("sources", "work", "-c", path).code)
        self.assertEqual("memory:", ran.call_args[0][0].ledger.url)
        wrong = mock.Mock(side_effect=SettingsError(["sources.configure: there is no module"]))
        with mock.patch.object(_sources, "run_worker", wrong):
            ended = self.oni("sources", "work", "-c", path)
        self.assert_line(ended, 1, f"{path}: sources.configure: there is no module")

    def process(self, *arguments: str) -> Any:
        """Run ``process`` with a reactor that does not run."""

        def run(make: Any) -> int:
            program = make(Clock())
            program.so_far = SourcesProgress("x", 4, 3, 2, 1)
            program.error = "it broke"
            return 1

        name = "oni_test_process"
        text = (
            "class Post: pass\n"
            "def instances(model): return ()\n"
            "def configure(sources):\n"
            "    sources.register_model_event_source(Post, lambda post: ())\n"
        )
        self.file(f"{name}.py", text)
        self.addCleanup(sys.modules.pop, name, None)
        lines = f'[sources]\nconfigure = "{name}:configure"\ninstances = "{name}:instances"\n'
        path = self.file("p.toml", LEDGER + lines)
        with mock.patch.object(_sources, "run", run):
            ended = self.oni("sources", "process", "-c", path, *arguments)
        while str(self.folder) in sys.path:
            sys.path.remove(str(self.folder))
        return ended

    def test_process(self) -> None:
        """It says how far it came, for people and for programs, and what went wrong."""
        ended = self.process()
        self.assertEqual(
            (1, "4 instances, 3 events, 2 admitted, 1 failures\n", "oni: it broke\n"),
            (ended.code, ended.out, ended.err),
        )
        ended = self.process("--json")
        self.assertEqual('{"instances":4,"events":3,"admitted":2,"failures":1}\n', ended.out)

    def test_unknown_model(self) -> None:
        """A model that has no source is one line."""
        self.assert_line(self.process("Nope"), 1, "no model 'Nope' has a source")

    def test_without_instances(self) -> None:
        """Where nobody gives instances the setting is named."""
        path = self.file("l.toml", LEDGER)
        with mock.patch.object(_sources, "run", lambda make: make(Clock())):
            self.assert_line(
                self.oni("sources", "process", "-c", path), 1, f"{path}: sources.instances: "
            )
