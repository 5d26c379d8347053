"""Events of a group and an id."""

from __future__ import annotations

from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerKeyError
from oni.sources import Event, event


class EventTests(SynchronousTestCase):
    """What ``event`` makes."""

    def test_key(self) -> None:
        """The key is the pair: one thing has a key for each group."""
        keys = [
            event(group, id).key
            for group in ("challenge_created", "challenge_ended")
            for id in (1, "x", UUID(int=1))
        ]
        self.assertEqual(len(set(keys)), 6)
        self.assertEqual(keys[0], "17:challenge_created1")
        self.assertNotEqual(event("a_b", 1).key, event("a", "b_1").key)

    def test_mapping(self) -> None:
        """It is a mapping that does not change."""
        made = event("g", 1, {"a": 1}, title="t")
        self.assertIsInstance(made, Event)
        self.assertEqual(
            dict(made), {"group": "g", "key": "1:g1", "context": {"a": 1}, "title": "t"}
        )
        with self.assertRaises(TypeError):
            made.context["a"] = 2  # type: ignore[index]

    def test_refused(self) -> None:
        """Ids that are none, keys that are empty or too long, and a second key are refused."""
        for group, id in (
            ("g", None),
            ("g", True),
            ("g", 1.5),
            ("", 1),
            ("g", ""),
            ("g" * 253, 1),
        ):
            self.assertRaises(LedgerKeyError, event, group, id)
        self.assertRaises(TypeError, event, "g", 1, key="k")
