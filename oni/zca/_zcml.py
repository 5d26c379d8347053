"""The ZCML directives. The one module that imports zope.configuration and zope.schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zope.schema
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.component import getSiteManager
from zope.configuration import xmlconfig
from zope.configuration.config import ConfigurationMachine
from zope.configuration.exceptions import ConfigurationError
from zope.configuration.fields import Bool, GlobalObject, Tokens
from zope.interface import Interface
from zope.schema import Choice, Float, Int, TextLine

import oni.zca
from oni.dispatcher import EventDispatcher, registering
from oni.errors import ZcmlError
from oni.interfaces import IEventDispatcher
from oni.values import Phase
from oni.zca._utility import get_dispatcher, provide

__all__ = [
    "EventDispatcherDirective",
    "EventHandlerDirective",
    "IEventDispatcherDirective",
    "IEventHandlerDirective",
    "IMatchDirective",
    "IPhaseDirective",
    "load",
]

# Handlers are registered after every dispatcher, wherever the two stand in the files.
_DISPATCHERS, _HANDLERS = 0, 1

_TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: Bool().fromUnicode(text),
}


def load(path: str) -> None:
    """Load a ZCML file in which Oni's directives are known; see :func:`oni.zca.load_zcml`."""
    context = ConfigurationMachine()
    xmlconfig.registerCommonDirectives(context)
    try:
        xmlconfig.include(context, "meta.zcml", oni.zca)
        xmlconfig.file(path, context=context)
    except (ConfigurationError, OSError) as error:
        raise ZcmlError(path, str(error)) from error


class IEventDispatcherDirective(Interface):
    """Make an event dispatcher and register it as a utility."""

    name = TextLine(
        title="Name",
        description="The name of the utility.",
        required=False,
        default="",
    )
    allowed_match_spec_keywords = Tokens(
        title="Allowed match spec keywords",
        description="The keywords that match specs and details may use, separated by spaces.",
        required=False,
        value_type=TextLine(),
    )
    phases = Tokens(
        title="Phases",
        description="Their names in order; for one with options use the subdirective phase.",
        required=False,
        value_type=TextLine(),
    )
    order_by = Tokens(
        title="Order by",
        description="Events with equal details in these keywords are handled one at a time.",
        required=False,
        value_type=TextLine(),
    )
    ordered = Bool(
        title="Ordered",
        description="False: all events are handled concurrently (order_by is None).",
        required=False,
        default=True,
    )
    start = Bool(
        title="Start",
        description="Whether the dispatcher is started.",
        required=False,
        default=True,
    )


class IPhaseDirective(Interface):
    """One phase of a dispatcher, with its options."""

    name = TextLine(title="Name")
    on_error = Choice(
        title="On error", values=("continue", "abort"), required=False, default="continue"
    )
    concurrent = Bool(title="Concurrent", required=False, default=True)
    timeout = Float(title="Timeout", description="In seconds.", required=False)
    always = Bool(title="Always", required=False, default=False)
    holds_turn = Bool(title="Holds its turn", required=False, default=True)


class EventDispatcherDirective:
    """Collects one ``oni:eventDispatcher`` and its phases."""

    def __init__(
        self,
        _context: Any,
        name: str = "",
        allowed_match_spec_keywords: Sequence[str] = (),
        phases: Sequence[str] = (),
        order_by: Sequence[str] = (),
        ordered: bool = True,
        start: bool = True,
    ) -> None:
        """Take the attributes; see :class:`IEventDispatcherDirective`."""
        if order_by and not ordered:
            raise ConfigurationError("order_by has no meaning where ordered is false")
        self._context = _context
        self._name = name
        self._keywords = tuple(allowed_match_spec_keywords)
        self._phases: list[str | Phase] = list(phases)
        self._order_by = tuple(order_by) if ordered else None
        self._start = start

    def phase(self, _context: Any, name: str, **options: Any) -> None:
        """Add a phase after those that are named before it."""
        self._phases.append(Phase(name, **options))

    def __call__(self) -> None:
        """Have the dispatcher made, once the files are read."""
        # The discriminator is that of zope.component's <utility>, so that the two conflict.
        self._context.action(
            discriminator=("utility", IEventDispatcher, self._name),
            callable=self._provide,
            order=_DISPATCHERS,
        )

    def _provide(self) -> None:
        # Of another file, or of the program: those of these files conflict before they are made.
        for taken in getSiteManager().registeredUtilities():
            if taken.provided is IEventDispatcher and taken.name == self._name:
                raise ConfigurationError(
                    f"an event dispatcher is already registered under the name {self._name!r}: "
                    f"{taken.component!r}; give this one another name, or leave it out"
                )
        options: dict[str, Any] = {"order_by": self._order_by}
        if self._phases:
            options["phases"] = tuple(self._phases)
        dispatcher = EventDispatcher(allowed_match_spec_keywords=self._keywords, **options)
        provide(dispatcher, self._name)
        if self._start:
            dispatcher.start()


class IEventHandlerDirective(Interface):
    """Register an event handler, strongly. Further attributes are its match spec."""

    handler = GlobalObject(
        title="Handler",
        description="The dotted name of what is called with the event.",
    )
    phase = TextLine(title="Phase", description="The phase in which it is called.")
    dispatcher = TextLine(
        title="Dispatcher",
        description="The name under which the dispatcher is registered as a utility.",
        required=False,
        default="",
    )
    times = Int(
        title="Times",
        description="After this many calls the registration goes.",
        required=False,
    )
    timeout = Float(
        title="Timeout",
        description="Seconds after which a call is cancelled.",
        required=False,
    )


IEventHandlerDirective.setTaggedValue("keyword_arguments", True)


class IMatchDirective(Interface):
    """One keyword of a match spec, where an attribute cannot say it."""

    keyword = TextLine(title="Keyword")
    value = TextLine(title="Value", description="A literal.", required=False)
    as_ = Choice(
        title="As",
        description="The literal's type.",
        values=tuple(_TYPES),
        required=False,
        default="str",
    )
    matcher = GlobalObject(
        title="Matcher",
        description="The dotted name of a matcher, or of any other value.",
        required=False,
    )


class EventHandlerDirective:
    """Collects one ``oni:eventHandler`` and its match spec."""

    def __init__(
        self,
        _context: Any,
        /,
        handler: Callable[[Any], Any],
        phase: str,
        dispatcher: str = "",
        times: int | None = None,
        timeout: float | None = None,
        **match_spec: Any,
    ) -> None:
        """Take the attributes; see :class:`IEventHandlerDirective`."""
        self._context = _context
        self._handler = handler
        self._phase = phase
        self._dispatcher = dispatcher
        self._options: dict[str, Any] = {"times": times, "timeout": timeout}
        self._match_spec = match_spec

    def match(
        self,
        _context: Any,
        keyword: str,
        value: str | None = None,
        as_: str = "str",
        matcher: Any = None,
    ) -> None:
        """Add a keyword to the match spec."""
        if keyword in self._match_spec:
            raise ConfigurationError(f"the match spec names {keyword!r} twice")
        if (value is None) == (matcher is None):
            raise ConfigurationError(f"{keyword!r} needs either a value or a matcher")
        if value is None:
            self._match_spec[keyword] = matcher
            return
        try:
            self._match_spec[keyword] = _TYPES[as_](value)
        except (ValueError, zope.schema.ValidationError) as error:
            raise ConfigurationError(f"{keyword}: {value!r} is no {as_}") from error

    def __call__(self) -> None:
        """Have the handler registered, once the files are read and the dispatchers made."""
        spec = sorted(f"{keyword}={value!r}" for keyword, value in self._match_spec.items())
        # The same handler, at the same place, for the same events. Parts can be sorted, which
        # the message about conflicts asks for.
        name = f"{self._handler!r} {id(self._handler)}"
        self._context.action(
            discriminator=("oni:eventHandler", self._dispatcher, self._phase, name, *spec),
            callable=self._register,
            order=_HANDLERS,
        )

    def _register(self) -> None:
        written = self._context.info
        with registering(strongly=True, at=(written.file, written.line)):
            registered = get_dispatcher(self._dispatcher).add_event_handler(
                self._handler, self._phase, **self._options, **self._match_spec
            )
        _succeed(registered)


def _succeed(deferred: Deferred[Any]) -> None:
    """Raise what a Deferred that has fired failed with."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
