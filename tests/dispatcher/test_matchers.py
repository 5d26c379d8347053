"""What a match spec may hold instead of a literal value."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.dispatcher import Matcher, absent, one_of, regex, where
from oni.dispatcher._matchers import MISSING
from oni.errors import InvalidMatchSpecError
from oni.values import Phase
from tests.dispatcher.cases import DispatcherCase


class Hostile:
    """A value whose hash raises."""

    def __hash__(self) -> int:
        """Refuse."""
        raise ZeroDivisionError


class MatcherTests(SynchronousTestCase):
    """Each matcher, asked directly."""

    def fits(self, matcher: Matcher, *values: Any) -> list[bool]:
        """Ask a matcher about several values."""
        return [matcher.matches(value) for value in values]

    def test_one_of_compares(self) -> None:
        """one_of fits what equals one of its values, whatever its type."""
        self.assertEqual(
            self.fits(one_of("a", 1, None), "a", 1.0, True, None, "b", [1], MISSING),
            [True, True, True, True, False, False, False],
        )

    def test_one_of_never_fits_nan(self) -> None:
        """NaN equals nothing, not even itself."""
        nan = float("nan")
        self.assertEqual(self.fits(one_of(nan), nan), [False])

    def test_one_of_needs_a_value(self) -> None:
        """one_of without values could never fit, so it is refused."""
        error = self.assertRaises(InvalidMatchSpecError, one_of)
        self.assertIn("at least one value", str(error))

    def test_one_of_refuses_unhashable(self) -> None:
        """An unhashable value is refused where it is written."""
        error = self.assertRaises(InvalidMatchSpecError, one_of, "a", ["b"])
        self.assertIn("['b']", str(error))

    def test_one_of_refuses_what_raises(self) -> None:
        """So is one whose hash raises, whatever it raises."""
        error = self.assertRaises(InvalidMatchSpecError, one_of, 1, Hostile())
        self.assertIsInstance(error.__cause__, ZeroDivisionError)

    def test_regex_searches(self) -> None:
        """The pattern is searched, not anchored, in strings only."""
        self.assertEqual(
            self.fits(regex("o+b"), "foobar", "oob", "fobar", "bar", b"foob", None, 3, MISSING),
            [True, True, True, False, False, False, False, False],
        )

    def test_regex_of_bytes(self) -> None:
        """A pattern of bytes fits bytes only."""
        self.assertEqual(self.fits(regex(b"^a"), b"ab", "ab"), [True, False])

    def test_regex_takes_a_compiled_pattern(self) -> None:
        """A compiled pattern keeps its flags."""
        self.assertEqual(self.fits(regex(re.compile("BOB", re.IGNORECASE)), "bob"), [True])

    def test_regex_refuses_bad_patterns(self) -> None:
        """What is no regular expression is refused where it is written, with the reason."""
        error = self.assertRaises(InvalidMatchSpecError, regex, "(")
        self.assertIn("missing )", str(error))
        self.assertRaises(InvalidMatchSpecError, regex, 5)

    def test_where_asks(self) -> None:
        """A predicate is asked about what is present, None too; its answer's truth counts."""
        self.assertEqual(
            self.fits(where(lambda value: value or "yes"), 0, None, 1), [True, True, True]
        )
        self.assertEqual(self.fits(where(lambda value: []), 1), [False])

    def test_where_is_not_asked_about_missing(self) -> None:
        """A predicate never sees a detail that is not there."""
        self.assertEqual(self.fits(where(lambda value: True), MISSING), [False])

    def test_where_needs_a_callable(self) -> None:
        """What cannot be called is refused."""
        self.assertRaises(InvalidMatchSpecError, where, "x > 3")

    def test_where_refuses_coroutine_functions(self) -> None:
        """A coroutine function would always be true and never run."""

        async def predicate(value: Any) -> bool:
            return False

        error = self.assertRaises(InvalidMatchSpecError, where, predicate)
        self.assertIn("coroutine", str(error))

    def test_absent(self) -> None:
        """absent() fits None and what is missing."""
        self.assertEqual(
            self.fits(absent(), None, MISSING, 0, "", []), [True, True, False, False, False]
        )

    def test_shown(self) -> None:
        """Matchers show how they were written."""

        def is_odd(value: Any) -> bool:
            return bool(value % 2)

        self.assertEqual(repr(one_of("a", 2)), "one_of('a', 2)")
        self.assertEqual(repr(regex("^a")), "regex('^a')")
        self.assertIn("is_odd", repr(where(is_odd)))
        self.assertEqual(repr(absent()), "absent()")
        self.assertEqual(repr(MISSING), "MISSING")

    def test_own_matchers(self) -> None:
        """Whoever derives a matcher has to say what it fits."""
        self.assertRaises(NotImplementedError, Matcher().matches, 1)


class MatchingTests(DispatcherCase):
    """Matchers in the match specs of handlers."""

    def test_mixed_with_literals(self) -> None:
        """All keywords of a spec have to fit, matchers and literals alike."""
        self.hear("x", user=regex("^b"), role="admin")
        self.assertEqual(self.fired(user="bob", role="admin"), ["x"])
        self.assertEqual(self.fired(user="bob", role="user"), [])
        self.assertEqual(self.fired(user="ann", role="admin"), [])

    def test_missing_detail(self) -> None:
        """A matcher other than absent() does not fit an event without its detail."""
        for name, matcher in (
            ("one_of", one_of("a", None)),
            ("regex", regex("")),
            ("where", where(lambda v: True)),
            ("absent", absent()),
        ):
            self.hear(name, user=matcher)
        self.assertEqual(self.fired(role="admin"), ["absent"])
        self.assertEqual(self.fired(user=None), ["one_of", "where", "absent"])

    def test_unhashable_details(self) -> None:
        """Matchers see unhashable details as they are."""
        self.hear("list", user=where(lambda value: value == ["bob"]))
        self.assertEqual(self.fired(user=["bob"]), ["list"])
        self.assertEqual(self.fired(user=["ann"]), [])

    def test_literal_whose_hash_raises(self) -> None:
        """It is refused at registration; as a detail, it is compared one by one."""
        with self.assertRaises(InvalidMatchSpecError) as caught:
            self.add(print, user=Hostile())
        self.assertEqual(caught.exception.keyword, "user")
        self.assertIsInstance(caught.exception.__cause__, ZeroDivisionError)
        self.assertEqual(self.dispatcher.handlers(), [])
        self.hear("bob", user="bob")
        self.hear("everyone")
        self.assertEqual(self.fired(user=Hostile()), ["everyone"])

    def test_order_is_registration_order(self) -> None:
        """Handlers with and without matchers are called in registration order."""
        self.hear("1", user=regex("b"))
        self.hear("2", user="bob")
        self.hear("3")
        self.hear("4", user=one_of("bob", "ann"))
        self.hear("5", role=absent())
        self.hear("6", user="bob")
        self.assertEqual(self.fired(user="bob"), ["1", "2", "3", "4", "5", "6"])

    def test_own_matcher(self) -> None:
        """A matcher of one's own is asked."""

        class Longer(Matcher):
            def matches(self, value: Any) -> bool:
                return len(value) > 3

        self.hear("long", user=Longer())
        self.assertEqual(self.fired(user="anna"), ["long"])
        self.assertEqual(self.fired(user="bob"), [])


class FailingMatcherTests(DispatcherCase):
    """A matcher that raises."""

    def raising(self, value: Any) -> bool:
        """Raise."""
        raise RuntimeError("no idea")

    def test_counts_as_the_handlers_failure(self) -> None:
        """It counts as the failure of its handler, which is not called; the others are."""
        before = self.hear("before")
        broken = self.hear("broken", user=where(self.raising))
        after = self.hear("after", user="bob")
        result = self.fire(user="bob")
        self.assertEqual(self.heard, ["before", "after"])
        self.assertEqual([o.handler_id for o in result], [before, broken, after])
        self.assertEqual([str(f.value) for f in result.failures], ["no idea"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_aborts_its_phase(self) -> None:
        """In a phase that aborts on errors it aborts the event."""
        self.dispatcher.add_phase(Phase("strict", on_error="abort"), before="before")
        self.add(lambda event: None, "strict", user=where(self.raising))
        self.hear("during")
        deferred = self.dispatcher.fire_event("event", user="bob")
        error = self.failing(deferred)
        self.assertEqual(error.phase, "strict")
        self.assertEqual(self.heard, [])
        self.flushLoggedErrors(RuntimeError)

    def test_other_calls_are_counted(self) -> None:
        """The handlers beside it count their calls."""
        beside = self.hear("beside", user="bob")
        broken = self.hear("broken", user=where(self.raising))
        for _ in range(3):
            self.fire(user="bob")
        calls = {info.handler_id: info.calls for info in self.dispatcher.handlers()}
        self.assertEqual(calls, {beside: 3, broken: 0})
        self.flushLoggedErrors(RuntimeError)

    def test_is_shown_by_matching(self) -> None:
        """matching() lists its handler, which such an event would call upon."""
        broken = self.hear("broken", user=where(self.raising))
        self.hear("other", user="ann")
        found = self.dispatcher.matching(user="bob")
        self.assertEqual([info.handler_id for info in found], [broken])

    def test_removed_meanwhile(self) -> None:
        """It does not fail if its handler is removed before its turn."""
        self.add(lambda event: self.remove(broken))
        broken = self.hear("broken", user=where(self.raising))
        result = self.fire(user="bob")
        self.assertEqual(result.failures, ())
        self.assertEqual(len(result), 1)

    def test_leaves_nothing_behind(self) -> None:
        """Once its handler is removed, nothing of it is left."""
        beside = self.hear("beside")
        broken = self.hear("broken", user=where(self.raising))
        self.fire(user="bob")
        self.remove(broken)
        self.remove(beside)
        self.assert_nothing_left()
        self.flushLoggedErrors(RuntimeError)

    def test_matcher_that_changes_registrations(self) -> None:
        """A matcher may remove handlers, its own too: they are not called."""

        def tidy(value: Any) -> bool:
            for info in self.dispatcher.handlers():
                self.remove(info.handler_id)
            return True

        self.hear("first")
        self.hear("tidy", user=where(tidy))
        self.hear("last", user=where(lambda value: True))
        self.assertEqual(self.fired(user="bob"), [])
        self.assert_nothing_left()
