"""The index against a naive subset check, over random specs and events."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from oni.dispatcher import absent, one_of, regex, where
from oni.dispatcher._index import _MAX_EXPANSION
from oni.dispatcher._matchers import Matcher
from oni.twisted_event_dispatcher import EventDispatcher

KEYWORDS = ("a", "b", "c")
PHASES = ("before", "during", "after")
MISSING = object()
NAN = float("nan")


class Spec:
    """What a match spec says of one keyword: the value to register, and the plain rule."""

    def __init__(self, value: Any, fits: Any) -> None:
        self.value = value
        self.fits = fits

    def __repr__(self) -> str:
        """Show the value."""
        return repr(self.value)


def _equal(literal: Any) -> Spec:
    return Spec(literal, lambda v: v is not MISSING and bool(v == literal))


def _one_of(values: list[Any]) -> Spec:
    return Spec(one_of(*values), lambda v: v is not MISSING and any(v == each for each in values))


def _regex(pattern: str) -> Spec:
    return Spec(regex(pattern), lambda v: isinstance(v, str) and re.search(pattern, v) is not None)


ANYTHING = Spec(None, lambda v: True)
ABSENT = Spec(absent(), lambda v: v is MISSING or v is None)
TRUE = Spec(where(lambda v: bool(v)), lambda v: v is not MISSING and bool(v))
LONG = _one_of([*range(100, 100 + _MAX_EXPANSION), "x", None])

literals = st.sampled_from([0, 1, True, 1.0, 2, "x", "xy", "", (1, "x"), NAN, frozenset({1})])
details = st.one_of(
    literals,
    st.sampled_from([None, ["x"], {1}, {}, [NAN], (NAN,), 100, 100.0, 99]),
)
conditions = st.one_of(
    literals.map(_equal),
    literals.map(_equal),
    st.lists(st.one_of(literals, st.none()), min_size=1, max_size=9).map(_one_of),
    st.sampled_from(["x", "^y", "y$", ""]).map(_regex),
    st.sampled_from([ANYTHING, ABSENT, TRUE, LONG]),
)
specs = st.dictionaries(st.sampled_from(KEYWORDS), conditions)
events = st.dictionaries(st.sampled_from(KEYWORDS), details)


def _result(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


class Naive:
    """A dispatcher beside a list of what is registered, which is searched with the plain rule."""

    def __init__(self) -> None:
        self.dispatcher = EventDispatcher(KEYWORDS, phases=PHASES)
        self.dispatcher.start()
        self.registered: dict[int, tuple[int, dict[str, Spec]]] = {}
        self.called: list[int] = []

    def add(self, phase: int, spec: dict[str, Spec]) -> None:
        """Register a handler in both."""
        ids: list[int] = []
        added = self.dispatcher.add_event_handler(
            lambda event: self.called.append(ids[0]),
            PHASES[phase],
            use_weakref=False,
            **{keyword: condition.value for keyword, condition in spec.items()},
        )
        ids.append(_result(added))
        self.registered[ids[0]] = phase, spec

    def remove(self, place: int) -> None:
        """Remove a handler from both."""
        if self.registered:
            handler_id = list(self.registered)[place % len(self.registered)]
            del self.registered[handler_id]
            _result(self.dispatcher.remove_event_handler(handler_id))

    def expected(self, event: dict[str, Any]) -> list[int]:
        """Say whom an event should reach, in call order."""
        found = [
            (phase, handler_id)
            for handler_id, (phase, spec) in self.registered.items()
            if all(condition.fits(event.get(k, MISSING)) for k, condition in spec.items())
        ]
        return [handler_id for _, handler_id in sorted(found)]

    def check(self, event: dict[str, Any]) -> None:
        """Fire, and compare whom it reached with whom it should."""
        expected = self.expected(event)
        assert [info.handler_id for info in self.dispatcher.matching(**event)] == expected
        for _ in range(2):  # learning the way, and knowing it
            self.called.clear()
            result = _result(self.dispatcher.fire_event("event", **event))
            assert self.called == expected
            assert [outcome.handler_id for outcome in result] == expected


actions = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 2), specs),
    st.tuples(st.just("add"), st.integers(0, 2), specs),
    st.tuples(st.just("remove"), st.integers(0, 20), st.none()),
    st.tuples(st.just("fire"), st.none(), events),
    st.tuples(st.just("fire"), st.none(), events),
)


@given(st.lists(actions, max_size=25), st.lists(events, max_size=4))
@example(
    [("add", 1, {"a": LONG}), ("add", 0, {"a": _one_of([1, NAN])})], [{"a": 100}, {"a": True}]
)
@example([("add", 1, {"a": _equal(NAN)})], [{"a": NAN}])
@example([("add", 1, {"a": _equal(frozenset({1}))})], [{"a": {1}}])
@example([("add", 1, {"a": ABSENT, "b": ANYTHING})], [{}, {"a": None}, {"b": 1}, {"a": 0}])
@settings(max_examples=250)
def test_index_against_naive_check(
    steps: list[tuple[str, Any, Any]], last: list[dict[str, Any]]
) -> None:
    """Whatever is added and removed in between, each event reaches whom the plain rule says."""
    naive = Naive()
    for action, number, subject in steps:
        if action == "add":
            naive.add(number, subject)
        elif action == "remove":
            naive.remove(number)
        else:
            naive.check(subject)
    for event in last:
        naive.check(event)
    while naive.registered:
        naive.remove(0)
        naive.check({"a": 1, "b": "x"})
    index: Any = naive.dispatcher._index
    assert not index._tables
    assert not index._merged
    assert not index.by_id


@given(st.lists(specs, min_size=1, max_size=6), events)
@settings(max_examples=100)
def test_calls_are_counted(registered: list[dict[str, Spec]], event: dict[str, Any]) -> None:
    """Each handler's count is the number of events that reached it."""
    naive = Naive()
    for spec in registered:
        naive.add(1, spec)
    naive.check(event)
    naive.add(0, {})
    naive.check(event)
    calls = {info.handler_id: info.calls for info in naive.dispatcher.handlers()}
    reached = set(naive.expected(event))
    last = max(calls)
    assert calls == {i: (4 if i != last else 2) if i in reached else 0 for i in calls}


@given(conditions, details)
@settings(max_examples=150)
def test_matchers_against_the_rule(condition: Spec, detail: Any) -> None:
    """A matcher that is asked directly says what the plain rule says."""
    if isinstance(condition.value, Matcher):
        assert condition.value.matches(detail) == condition.fits(detail)
