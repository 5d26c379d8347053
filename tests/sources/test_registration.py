"""What may be registered, and under which name."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from zope.interface import Invalid
from zope.interface.verify import verifyObject

from oni.errors import (
    GroupHandlerNameError,
    InvalidHandlerError,
    InvalidHandlingError,
    InvalidMatchSpecError,
    InvalidSourceError,
    InvalidTimeoutError,
    InvalidTimesError,
    NotRunningError,
    UnknownGroupHandlerError,
    UnknownPhaseError,
)
from oni.interfaces import IEventSources
from oni.sources import EventSources, event
from oni.values import Event, Phase
from tests.sources.house import Challenge, SourcesTestCase, Table


def handle(event: Event) -> None:
    """Do nothing, under a name that stays."""


class Mailer:
    """Has a method that is a handler, and is one itself."""

    def send(self, event: Event) -> None:
        """Do nothing."""

    def __call__(self, event: Event) -> None:
        """Do nothing."""


class RegistrationTests(SourcesTestCase):
    """Handlers, sources and options."""

    def test_interface(self) -> None:
        """It is what the interface says."""
        verifyObject(IEventSources, self.sources)

    def test_names(self) -> None:
        """A handler's name is its module's and its own, or what is said."""
        register = self.sources.register_group_handler
        self.assertEqual(register("", handle), f"{__name__}.handle")
        self.assertEqual(register("", Mailer().send), f"{__name__}.Mailer.send")
        self.assertEqual(register("", lambda event: None, name="x"), "x")
        self.assertEqual(
            self.sources.handler_names(), [f"{__name__}.handle", f"{__name__}.Mailer.send", "x"]
        )
        (first, *_) = self.sources.handlers()
        self.assertIn(f"{__name__}.handle (registered at {__file__}:", str(first))

    def test_no_name_that_stays(self) -> None:
        """Lambdas, inner functions and objects must be given a name."""

        def inner(event: Event) -> None:
            pass

        for function in (lambda event: None, inner, Mailer(), functools.partial(handle)):
            with self.assertRaisesRegex(InvalidHandlerError, "name="):
                self.sources.register_group_handler("", function)

    def test_the_same_name_twice(self) -> None:
        """It is refused, and the error says where the other one is and what to do."""
        self.sources.register_group_handler("", handle)
        with self.assertRaisesRegex(GroupHandlerNameError, r"registration.py:\d+ has it.*name="):
            self.sources.register_group_handler("", handle)
        self.sources.register_group_handler("", handle, name="other")

    def test_wrong_names(self) -> None:
        """A name that a ledger cannot keep is refused."""
        wrong: tuple[Any, ...] = ("a/b", "", "n" * 256, "\0", "\ud800", 5)
        for name in wrong:
            with self.assertRaises(GroupHandlerNameError):
                self.sources.register_group_handler("", handle, name=name)

    def test_refused(self) -> None:
        """What can never work is refused where it is written."""

        async def coroutine(event: Event) -> None:
            pass

        def generator(event: Event) -> Iterable[None]:
            yield

        wrong: list[tuple[type[Exception], Any, Any, dict[str, Any]]] = [
            (InvalidHandlerError, "", 5, {}),
            (InvalidHandlerError, "", generator, {"name": "n"}),
            (InvalidMatchSpecError, "(", handle, {}),
            (InvalidMatchSpecError, b"x", handle, {}),
            (InvalidMatchSpecError, 5, handle, {}),
            (UnknownPhaseError, "", handle, {"phase": "never"}),
            (InvalidTimesError, "", handle, {"times": 0}),
            (InvalidTimesError, "", handle, {"times": True}),
            (InvalidTimeoutError, "", handle, {"timeout": 0}),
            (InvalidHandlingError, "", handle, {"on_crash": "hope"}),
            (InvalidHandlingError, "", handle, {"max_attempts": 0}),
            (InvalidHandlerError, "", coroutine, {"name": "n", "threaded": True}),
            (
                InvalidHandlerError,
                "",
                functools.partial(coroutine),
                {"name": "n", "threaded": True},
            ),
            (InvalidHandlerError, "", coroutine, {"name": "n", "on_crash": "transaction"}),
            (InvalidHandlerError, "", handle, {"on_crash": "transaction", "timeout": 1}),
            (InvalidHandlerError, "", handle, {"on_crash": "transaction", "threaded": False}),
        ]
        for error, group, function, options in wrong:
            with self.assertRaises(error):
                self.sources.register_group_handler(group, function, **options)
        self.assertEqual(self.sources.handlers(), [])

    def test_unregister(self) -> None:
        """A handler that is unregistered hears nothing more."""
        self.start()
        name = self.sources.register_group_handler("", self.note(), name="n")
        self.get(self.sources.process_events([event("g", 1)]))
        self.sources.unregister_group_handler(name)
        self.assertRaises(UnknownGroupHandlerError, self.sources.unregister_group_handler, name)
        self.get(self.sources.process_events([event("g", 2)]))
        self.assertEqual((self.called, self.states("1:g2")), (["1:g1"], {}))

    def test_wrong_sources(self) -> None:
        """Sources that cannot be one are refused; what yields no events is told."""
        register: Any = self.sources.register_model_event_source

        async def coroutine(instance: Any) -> Any:
            return ()

        for sender, source in ((Challenge, 5), (Challenge, coroutine), ("Challenge", handle)):
            self.assertRaises(InvalidSourceError, register, sender, source)
        register(sender=Challenge, source=lambda instance: [5])
        with self.assertRaisesRegex(InvalidSourceError, "yields 5, which is no event"):
            self.sources.model_events(Challenge(Table(), 1))

    def test_model_sources(self) -> None:
        """Sources of a model and of those that it inherits from are asked, each once."""

        class Special(Challenge):
            pass

        def source(instance: Any) -> list[Event]:
            return [event("one", instance.pk)]

        def nothing(instance: Any) -> None:
            return None

        for each in (source, source, nothing):
            self.sources.register_model_event_source(Challenge, each)
        self.sources.register_model_event_source(Special, lambda i: [event("two", i.pk)])
        self.assertEqual(list(self.sources.model_sources), [Challenge, Special])
        self.assertEqual(self.sources.model_sources[Challenge], (source, nothing))
        table = Table()
        groups = [
            [made.group for made in self.sources.model_events(each)]
            for each in (Challenge(table, 1), Special(table, 2), object())
        ]
        self.assertEqual(groups, [["one"], ["two", "one"], []])

    def test_options(self) -> None:
        """Options that cannot be are refused."""
        wrong: list[dict[str, Any]] = [
            {"deliver": "there"},
            {"concurrency": 0},
            {"threads": 0},
            {"threads": True},
            {"threads_lost": -1},
            {"poll": 0},
        ]
        for options in wrong:
            with self.assertRaises(ValueError):
                EventSources(**options)
        with self.assertRaises(TypeError):
            EventSources(unheard=1)

    def test_references(self) -> None:
        """Who cannot name instances is refused."""
        with self.assertRaises(Invalid):
            self.sources.add_references(Mailer())  # type: ignore[arg-type]
        with self.assertRaises(Invalid):
            EventSources(Mailer())  # type: ignore[arg-type]

    def test_phases(self) -> None:
        """Those that are given, by name or whole, are those that there are."""
        sources = self.make(phases=["first", Phase("second", concurrent=False)])
        self.assertEqual([phase.name for phase in sources.phases], ["first", "second"])
        self.assertRaises(UnknownPhaseError, sources.register_group_handler, "", handle)

    def test_configured_later(self) -> None:
        """The ledger may be given later, but not while it is used."""
        sources = EventSources()
        sources.register_group_handler("", handle)
        with self.assertRaisesRegex(NotRunningError, "configure"):
            sources.ledger  # noqa: B018
        self.refuse(sources.start(), NotRunningError)
        sources.configure(self.sources.ledger, reactor=self.clock, threads=3)
        self.start(sources)
        self.assertTrue(sources.is_started)
        self.assertRaises(RuntimeError, sources.configure, threads=5)
        self.get(sources.stop())
        self.assertFalse(sources.is_started)
        sources.configure(deliver="worker")
        self.assertFalse(sources.delivers)
