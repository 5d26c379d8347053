"""Which handlers an event reaches, and what finding them costs."""

from __future__ import annotations

import gc
from typing import Any
from unittest import mock

from zope.interface.verify import verifyObject

from oni.dispatcher import absent, one_of, regex, where
from oni.dispatcher._buckets import FEW_PLANS
from oni.dispatcher._index import _MAX_EXPANSION, _MAX_MERGED, _MAX_SHAPES
from oni.dispatcher._matchers import OneOf
from oni.dispatcher._registration import Registration
from oni.errors import InvalidMatchSpecError, UnknownHandlerError, UnknownKeywordError
from oni.twisted_event_dispatcher import IBackgroundUtility, IEventDispatcher
from tests.dispatcher.cases import KEYWORDS, DispatcherCase

NAN = float("nan")


class SubsetTests(DispatcherCase):
    """A handler fires when its spec is a subset of the event's details."""

    def test_interface(self) -> None:
        """The dispatcher provides what it says."""
        self.assertTrue(verifyObject(IEventDispatcher, self.dispatcher))
        self.assertTrue(verifyObject(IBackgroundUtility, self.dispatcher))

    def test_no_keywords(self) -> None:
        """A spec without keywords hears every event."""
        self.hear("all")
        self.assertEqual(self.fired(), ["all"])
        self.assertEqual(self.fired(user="bob", role="admin"), ["all"])

    def test_every_keyword_has_to_be_equal(self) -> None:
        """Every keyword of the spec has to be there and equal."""
        self.hear("x", user="bob", role="admin")
        self.assertEqual(self.fired(user="bob", role="admin", event_type="t"), ["x"])
        self.assertEqual(self.fired(user="bob", role="user"), [])
        self.assertEqual(self.fired(user="bob"), [])
        self.assertEqual(self.fired(), [])

    def test_order_of_keywords_is_nothing(self) -> None:
        """The order in which keywords are written does not matter."""
        self.hear("x", role="admin", user="bob")
        self.assertEqual(self.fired(user="bob", role="admin"), ["x"])
        self.assertEqual(self.fired(role="admin", user="bob"), ["x"])

    def test_values_are_not_mixed_up(self) -> None:
        """A value belongs to its keyword."""
        self.hear("x", role="admin", user="bob")
        self.assertEqual(self.fired(user="admin", role="bob"), [])

    def test_equality_crosses_types(self) -> None:
        """Values are compared with ==: 1, 1.0 and True are one."""
        self.hear("one", user=1)
        for value in (1, 1.0, True):
            self.assertEqual(self.fired(user=value), ["one"])
        self.assertEqual(self.fired(user="1"), [])

    def test_none_matches_anything(self) -> None:
        """None in a spec is as good as not naming the keyword: present or absent, it fits."""
        self.hear("x", user=None, role="admin")
        self.assertEqual(self.fired(role="admin"), ["x"])
        self.assertEqual(self.fired(role="admin", user="bob"), ["x"])
        self.assertEqual(self.fired(role="admin", user=None), ["x"])

    def test_none_detail(self) -> None:
        """A detail of None equals no literal but is matched by absent() and one_of(None)."""
        self.hear("literal", user="bob")
        self.hear("absent", user=absent())
        self.hear("one_of", user=one_of(None))
        self.assertEqual(self.fired(user=None), ["absent", "one_of"])
        self.assertEqual(self.fired(), ["absent"])

    def test_nan_never_matches(self) -> None:
        """NaN is equal to nothing, in a spec and in details; such a handler can be removed."""
        handler_id = self.hear("nan", user=NAN)
        self.hear("pair", user=NAN, role="admin")
        self.hear("one_of", user=one_of(NAN, 2))
        self.assertEqual(self.fired(user=NAN, role="admin"), [])
        self.assertEqual(self.fired(user=2), ["one_of"])
        self.remove(handler_id)
        self.assertEqual(len(self.dispatcher.handlers()), 2)

    def test_nan_beside_ordinary_values(self) -> None:
        """The same holds where other values of that keyword are registered already."""
        self.hear("x", user="bob")
        self.hear("nan", user=NAN)
        self.assertEqual(self.fired(user=NAN), [])

    def test_matcher_beside_a_literal(self) -> None:
        """Handlers of one literal are found whether or not a further matcher holds."""
        self.hear("literal", user="bob")
        self.assertEqual(self.fired(user="bob", role="admin"), ["literal"])
        self.hear("both", user="bob", role=regex("admin"))
        for _ in range(2):
            self.assertEqual(self.fired(user="bob", role="user"), ["literal"])
            self.assertEqual(self.fired(user="bob", role="admin"), ["literal", "both"])

    def test_matcher_beside_none(self) -> None:
        """The same holds for handlers without a literal."""
        self.hear("all")
        self.assertEqual(self.fired(role="admin"), ["all"])
        self.hear("admins", role=regex("admin"))
        for _ in range(2):
            self.assertEqual(self.fired(), ["all"])
            self.assertEqual(self.fired(role="user"), ["all"])
            self.assertEqual(self.fired(role="admin"), ["all", "admins"])

    def test_details_of_any_name(self) -> None:
        """Details may have the names of the methods' own arguments."""
        names = ("event", "self", "phase", "listen_fn", "handler", "details")
        self.dispatcher = self.make(allowed_match_spec_keywords=names)
        details = dict.fromkeys(names, 1)
        added = self.dispatcher.add_event_handler(self.heard.append, "during", False, **details)
        handler_id = self.successResultOf(added)
        self.successResultOf(self.dispatcher.fire_event("x", **details))
        self.assertEqual(self.heard, ["x"])
        found = self.dispatcher.matching(**details)
        self.assertEqual([info.handler_id for info in found], [handler_id])
        waiting = self.dispatcher.next_event(None, **details)
        self.successResultOf(self.dispatcher.fire_event("hello", **details))
        self.assertEqual(self.successResultOf(waiting), "hello")

    def test_one_of_beyond_its_expansion(self) -> None:
        """one_of works alike below and above the number that is looked up."""
        for size in (_MAX_EXPANSION, _MAX_EXPANSION + 1):
            self.dispatcher = self.make()
            self.hear("x", user=one_of(*range(size)), role=one_of("a", "b"))
            self.assertEqual(self.fired(user=0, role="b"), ["x"])
            self.assertEqual(self.fired(user=size - 1, role="a"), ["x"])
            self.assertEqual(self.fired(user=size, role="a"), [])
            self.assertEqual(self.fired(user=0, role="c"), [])
            self.remove(1)
            self.assert_nothing_left()

    def test_equal_objects(self) -> None:
        """Objects are compared by value, not by identity: a dead one's address means nothing."""
        self.hear("x", user=("bob", 1))
        self.assertEqual(self.fired(user=("bob", 1)), ["x"])
        gone = object()
        self.hear("gone", user=gone)
        del gone
        self.assertEqual(self.fired(user=object()), [])


class UnhashableTests(DispatcherCase):
    """Values that have no hash, or that cannot be compared."""

    def test_refused_in_specs(self) -> None:
        """An unhashable spec value is refused at once, with the way out; nothing is left."""
        for value in (["bob"], {"a": 1}, {1}, ([],)):
            error = self.assertRaises(InvalidMatchSpecError, self.hear, "x", user=value)
            self.assertEqual(error.keyword, "user")
            self.assertIn("where(", str(error))
        self.assert_nothing_left()

    def test_incomparable_in_specs(self) -> None:
        """A spec value whose == gives no truth is refused at once."""

        class Column:
            def __eq__(self, other: object) -> Any:
                raise TypeError("no truth value")

            __hash__ = object.__hash__

        error = self.assertRaises(InvalidMatchSpecError, self.hear, "x", user=Column())
        self.assertIn("no truth value", str(error))
        self.assert_nothing_left()

    def test_details(self) -> None:
        """Unhashable details are compared one by one; the other details are found as ever."""
        self.hear("set", user=frozenset({1}))
        self.hear("pair", user=frozenset({1}), role="admin")
        self.hear("role", role="admin")
        self.assertEqual(self.fired(user={1}, role="admin"), ["set", "pair", "role"])
        self.assertEqual(self.fired(user=[1], role="admin"), ["role"])

    def test_detail_that_equals_several(self) -> None:
        """A detail may equal several values: each handler is called, once."""
        self.hear("a", user="a")
        self.hear("b", user="b")
        self.hear("both", user=one_of("a", "b"))
        self.assertEqual(self.fired(user=mock.ANY), ["a", "b", "both"])

    def test_detail_that_cannot_be_compared(self) -> None:
        """A comparison that raises is the failure of the handler that asked for it."""

        class Array(list[Any]):
            def __eq__(self, other: object) -> Any:
                raise ValueError("ambiguous")

        compared = self.hear("compared", user="bob")
        matched = self.hear("matched", user="bob", role=absent())
        self.hear("other", event_type="t")
        result = self.fire(user=Array(), event_type="t")
        self.assertEqual(self.heard, ["other"])
        failed = [o.handler_id for o in result if o.failed]
        self.assertEqual(failed, [compared, matched])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_hashable_detail_that_cannot_be_compared(self) -> None:
        """The same holds for a detail with a hash."""

        class Clash:
            def __eq__(self, other: object) -> Any:
                raise ValueError("ambiguous")

            def __hash__(self) -> int:
                return hash("bob")

        self.hear("compared", user="bob")
        for _ in range(2):
            result = self.fire(user=Clash())
            self.assertEqual(len(result.failures), 1)
        self.flushLoggedErrors(ValueError)


class UnknownTests(DispatcherCase):
    """Keywords and ids that there are not."""

    def test_keyword_in_spec(self) -> None:
        """It is refused at once, with what is allowed."""
        error = self.assertRaises(UnknownKeywordError, self.hear, "x", usr="bob", zone=1)
        self.assertEqual(error.keywords, ("usr", "zone"))
        self.assertEqual(error.allowed, KEYWORDS)
        self.assertIn("'event_type', 'user', 'role'", str(error))
        self.assertEqual(self.dispatcher.handlers(), [])

    def test_keyword_in_details(self) -> None:
        """It comes through the Deferred, and nobody is called; the next event is."""
        self.hear("x")
        error = self.failing(self.dispatcher.fire_event("event", usr="bob"), ValueError)
        self.assertIsInstance(error, UnknownKeywordError)
        self.assertEqual(self.heard, [])
        self.assertEqual(self.fired(), ["x"])
        self.assertEqual(self.dispatcher.statistics()["events_fired"], 1)

    def test_keyword_in_matching(self) -> None:
        """matching() refuses it."""
        self.assertRaises(UnknownKeywordError, self.dispatcher.matching, usr="bob")

    def test_keyword_in_next_event(self) -> None:
        """next_event() refuses it at once."""
        self.assertRaises(UnknownKeywordError, self.dispatcher.next_event, usr="bob")

    def test_handler_id(self) -> None:
        """An unknown id is a LookupError through the Deferred."""
        handler_id = self.hear("x")
        self.remove(handler_id)
        for unknown in (handler_id, 99, "x", None, [1]):
            deferred = self.dispatcher.remove_event_handler(unknown)
            error = self.failing(deferred, LookupError)
            self.assertIsInstance(error, UnknownHandlerError)
            self.assertEqual(error.handler_id, unknown)


class RemovalTests(DispatcherCase):
    """What is left of removed handlers: nothing."""

    def test_every_kind_of_spec(self) -> None:
        """Tables, buckets, shapes and plans of removed handlers are gone."""
        specs: list[dict[str, Any]] = [
            {},
            {"user": "bob"},
            {"user": "bob", "role": "admin"},
            {"user": one_of("bob", "ann"), "role": regex("a")},
            {"user": where(lambda v: True)},
            {"user": NAN},
            {"user": None},
        ]
        ids = [self.hear(str(n), **spec) for n, spec in enumerate(specs)]
        self.assertEqual(self.fired(user="bob", role="admin"), ["0", "1", "2", "3", "4", "6"])
        for handler_id in ids:
            self.remove(handler_id)
        self.assertEqual(self.fired(user="bob", role="admin"), [])
        self.assert_nothing_left()

    def test_the_others_stay(self) -> None:
        """Removing one of several under equal specs leaves the others."""
        ids = [self.hear(str(n), user="bob") for n in range(3)]
        matched = self.hear("m", user="bob", role=absent())
        self.assertEqual(self.fired(user="bob"), ["0", "1", "2", "m"])
        self.remove(ids[1])
        self.assertEqual(self.fired(user="bob"), ["0", "2", "m"])
        self.remove(ids[0])
        self.remove(ids[2])
        self.assertEqual(self.fired(user="bob"), ["m"])
        self.remove(matched)
        self.assert_nothing_left()

    def test_registration_is_let_go(self) -> None:
        """A removed registration is gone at once, without the collector."""

        def count() -> int:
            return sum(type(each) is Registration for each in gc.get_objects())

        gc.disable()
        self.addCleanup(gc.enable)
        before = count()
        ids = [
            self.add(self.heard.append if times else self.hear, use_weakref=not times, times=times)
            for times in (None, None, 5)
        ]
        self.assertEqual(count(), before + 3)
        for handler_id in ids:
            self.remove(handler_id)
        self.assertEqual(count(), before)

    def test_handler_is_let_go(self) -> None:
        """The dispatcher holds neither a removed handler nor the last event."""

        class Event:
            pass

        def handler(event: Any) -> list[Any]:
            return [event]

        alive = _count(Event)
        handler_id = self.add(handler, user="bob")
        self.fire(Event(), user="bob")
        self.assertEqual(_count(Event), alive)
        self.remove(handler_id)
        gc.collect()
        holders = [r for r in gc.get_referrers(handler) if isinstance(r, list | dict | tuple)]
        self.assertEqual(holders, [])


def _count(kind: type) -> int:
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


class Key:
    """A value that counts how often it is hashed."""

    hashed = 0

    def __init__(self, name: object) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        """Compare by name."""
        return isinstance(other, Key) and self.name == other.name

    def __hash__(self) -> int:
        """Count, and hash the name."""
        Key.hashed += 1
        return hash(self.name)


class CostTests(DispatcherCase):
    """What a fire costs depends on what it finds, not on what is registered."""

    def hashes(self, **details: Any) -> int:
        """Count the hashes that a fire makes of its details, once it is warm."""
        self.fire(**details)
        Key.hashed = 0
        self.fire(**details)
        return Key.hashed

    def test_one_lookup_for_each_signature(self) -> None:
        """A fire hashes each detail once for each signature within its details."""
        self.hear("x", user=Key("bob"))
        details = {"user": Key("bob"), "role": Key("admin"), "event_type": Key("t")}
        self.assertEqual(self.hashes(**details), 1)
        self.hear("y", role=Key("nobody"))
        self.assertEqual(self.hashes(**details), 2)
        self.hear("z", role=Key("nobody"), event_type=Key("t"))
        self.assertEqual(self.hashes(**details), 4)

    def test_not_more_with_more_handlers(self) -> None:
        """However many handlers are registered, a fire makes the same number of lookups."""
        details = {"user": Key(0), "role": Key("admin"), "event_type": Key("t")}
        counts = []
        for number in (1, 10, 1_000):
            self.dispatcher = self.make()
            for name in range(number):
                self.hear("x", user=Key(name), role=Key("admin"))
                self.hear("y", role=Key(name))
            counts.append(self.hashes(**details))
        self.assertEqual(counts, [3, 3, 3])

    def test_one_of_is_looked_up(self) -> None:
        """Handlers with one_of are looked up by value, not asked one by one."""
        asked: list[Any] = []
        self.patch(OneOf, "matches", lambda matcher, value: asked.append(value))
        for name in range(100):
            self.hear("x", user=one_of(name, -name - 1), role=one_of("admin", "user"))
        self.assertEqual(self.fired(user=-3, role="user"), ["x"])
        self.assertEqual(asked, [])

    def test_several_found_buckets(self) -> None:
        """Where handlers of several signatures are found, a fire still has a fixed cost."""
        details = {"user": Key(0), "role": Key("admin")}
        counts = []
        for number in (1, 1_000):
            self.dispatcher = self.make()
            for name in range(number):
                self.hear("x", user=Key(name))
            self.hear("y", role=Key("admin"))
            counts.append(self.hashes(**details))
        self.assertEqual(counts[0], counts[1])
        self.assertLessEqual(counts[0], 4)

    def test_registering_costs_the_same(self) -> None:
        """The thousandth registration hashes its values as often as the first."""
        counts = []
        for name in range(1_000):
            Key.hashed = 0
            self.hear("x", user=Key(name))
            counts.append(Key.hashed)
        self.assertLessEqual(counts[-1], counts[0])

    def test_no_deferred_for_plain_handlers(self) -> None:
        """However many handlers return none, a fire makes one Deferred: its own."""
        from twisted.internet import defer

        async def coroutine(event: Any) -> None:
            return None

        for _ in range(20):
            self.add(lambda event: None)
            self.add(coroutine)
            self.add(lambda event: "value", "after")
        self.fire()
        made: list[Any] = []
        original = defer.Deferred.__init__

        def counted(deferred: Any, *args: Any, **kwargs: Any) -> None:
            made.append(deferred)
            original(deferred, *args, **kwargs)

        with mock.patch.object(defer.Deferred, "__init__", counted):
            self.dispatcher.fire_event("event")
        self.assertEqual(len(made), 1)

    def test_caches_are_bounded(self) -> None:
        """Neither plans for combinations of handlers nor known shapes grow without end."""
        self.hear("all")
        for name in range(_MAX_MERGED + 10):
            self.hear("one", user=name)
            self.assertEqual(self.fired(user=name), ["all", "one"])
        index: Any = self.dispatcher._index
        self.assertLessEqual(len(index._merged), _MAX_MERGED)
        bucket = index._tables[()].buckets[()]
        self.assertLessEqual(len(bucket.plans), 2 * _MAX_MERGED + 10)
        self.assertEqual(self.dispatcher.handlers()[0].calls, _MAX_MERGED + 10)

    def test_old_plans_are_forgotten(self) -> None:
        """Handlers that come and go beside one that stays leave no list of what they were."""
        self.hear("stays")
        bucket = self.dispatcher._index.everyone
        longest = 0
        for _ in range(10 * FEW_PLANS):
            passing = self.hear("passes")
            self.fire()
            longest = max(longest, len(bucket.plans))
            self.remove(passing)
        self.assertEqual(longest, FEW_PLANS)

    def test_running_plans_are_remembered(self) -> None:
        """What an event runs is known as long as it runs, however many there are after it."""
        stays = []

        def handler(event: Any) -> None:
            if event == "first":
                for _ in range(10 * FEW_PLANS):
                    passing = self.hear("passes")
                    self.dispatcher.fire_event("nested")
                    self.remove(passing)
                self.heard.clear()
                self.remove(stays[0])

        self.add(handler)
        stays.append(self.hear("removed"))
        self.fire("first")
        self.assertEqual(self.heard, [])

    def test_many_running_plans(self) -> None:
        """Where many lists run at once, there is room for twice as many before the next look."""

        def handler(depth: int) -> None:
            self.hear("more")
            if depth:
                self.dispatcher.fire_event(depth - 1)
            else:
                bucket = self.dispatcher._index.everyone
                self.heard.append((len(bucket.plans), bucket.plans_max))
                self.remove(last)

        self.add(handler)
        last = self.hear("removed")
        self.fire(2 * FEW_PLANS)
        self.assertNotIn("removed", self.heard)
        self.assertIn((2 * FEW_PLANS + 1, 4 * FEW_PLANS), self.heard)

    def test_shapes_are_bounded(self) -> None:
        """Events with their details in ever new orders do not fill the memory."""
        names = [f"k{n}" for n in range(_MAX_SHAPES + 5)]
        self.dispatcher = self.make(allowed_match_spec_keywords=names)
        for name in names:
            self.fire(**{name: 1})
        self.assertLessEqual(len(self.dispatcher._index.shapes), _MAX_SHAPES)


class IntrospectionTests(DispatcherCase):
    """handlers(), matching() and statistics()."""

    def test_handlers(self) -> None:
        """Handlers are listed in registration order, with all that was said about them."""
        self.hear("x", "after", user="bob")
        self.add(lambda event: None, "before", times=3, timeout=2.5, use_weakref=False)
        first, second = self.dispatcher.handlers()
        self.assertEqual((first.handler_id, first.phase), (1, "after"))
        self.assertEqual((first.match_spec, first.weak), ({"user": "bob"}, False))
        self.assertEqual((first.remaining, first.timeout, first.calls), (None, None, 0))
        self.assertEqual((second.phase, second.remaining, second.timeout), ("before", 3, 2.5))

    def test_where_and_what(self) -> None:
        """A handler is named, and the place where it was registered too."""
        self.dispatcher.add_event_handler(self.test_handlers, "during")
        (info,) = self.dispatcher.handlers()
        self.assertIn("IntrospectionTests.test_handlers", info.handler)
        self.assertRegex(info.registered_at, r"test_index\.py:\d+$")
        self.assertTrue(info.weak)

    def test_matching_is_in_call_order(self) -> None:
        """matching() gives who would be called, in call order, and calls nobody."""
        after = self.hear("after", "after")
        during = self.hear("during", user="bob")
        before = self.hear("before", "before", user=regex("b"))
        self.hear("other", user="ann")
        found = [info.handler_id for info in self.dispatcher.matching(user="bob")]
        self.assertEqual(found, [before, during, after])
        self.assertEqual(self.heard, [])
        result = self.fire(user="bob")
        self.assertEqual([o.handler_id for o in result], found)

    def test_matching_before_start(self) -> None:
        """It works before the dispatcher is started."""
        dispatcher = self.make()
        self.successResultOf(dispatcher.stop())
        self.assertEqual(dispatcher.matching(user="bob"), [])

    def test_calls_are_counted(self) -> None:
        """Calls are counted over changes of the handlers and of the phases."""
        first = self.hear("first")
        self.fire()
        self.fire(user="bob")
        second = self.hear("second", user="bob")
        self.fire(user="bob")
        self.dispatcher.add_phase("late")
        self.fire()
        calls = {info.handler_id: info.calls for info in self.dispatcher.handlers()}
        self.assertEqual(calls, {first: 4, second: 1})

    def test_statistics(self) -> None:
        """Counters and gauges tell what happened and what there is."""
        self.hear("x", times=1)

        def fail(event: Any) -> None:
            raise ZeroDivisionError

        self.add(fail)
        self.fire()
        self.fire()
        numbers = self.dispatcher.statistics()
        self.assertEqual(numbers["events_fired"], 2)
        self.assertEqual(numbers["handler_failures"], 2)
        self.assertEqual(numbers["handlers"], 1)
        self.assertEqual((numbers["events_running"], numbers["events_queued"]), (0, 0))
        self.flushLoggedErrors(ZeroDivisionError)
