"""What may be a key, and that no two pairs have the same one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import LedgerKeyError, LedgerPayloadError
from oni.ledger import MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, pair_key
from oni.ledger._keys import check_event, check_key
from oni.values import Handling, LedgerEvent

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


class PairTests(SynchronousTestCase):
    """Keys of a group and an id."""

    def test_borders(self) -> None:
        """Where the group ends is a part of the key."""
        self.assertEqual(pair_key("a_b", 1), "3:a_b1")
        self.assertEqual(pair_key("a", "b_1"), "1:ab_1")
        self.assertEqual(pair_key("é", 1), "2:é1")

    @given(TEXT, TEXT, TEXT, TEXT)
    def test_no_two_alike(self, group: str, id: str, other: str, other_id: str) -> None:
        """Different pairs have different keys."""
        if len((group + id + other + other_id).encode()) < 200:
            same = pair_key(group, id) == pair_key(other, other_id)
            self.assertEqual(same, (group, id) == (other, other_id))

    def test_ids(self) -> None:
        """An id is a number, a text or a UUID."""
        self.assertEqual(pair_key("g", UUID(int=1)), "1:g00000000-0000-0000-0000-000000000001")
        self.assertEqual(pair_key("g", "7"), pair_key("g", 7))
        wrong: list[Any] = [True, 1.5, None, b"1", ""]
        for id in wrong:
            with self.assertRaises(LedgerKeyError):
                pair_key("g", id)

    def test_groups(self) -> None:
        """A group is a text with something in it."""
        wrong: list[Any] = ["", 1, None]
        for group in wrong:
            with self.assertRaises(LedgerKeyError):
                pair_key(group, 1)

    def test_never_cut(self) -> None:
        """What is too long is refused, counted in bytes."""
        longest = "é" * ((MAX_KEY_BYTES - 5) // 2)
        self.assertEqual(len(pair_key(longest, 1).encode()), MAX_KEY_BYTES)
        with self.assertRaises(LedgerKeyError):
            pair_key(longest, 10)


class KeyTests(SynchronousTestCase):
    """Whole keys, and events."""

    def test_what_is_no_key(self) -> None:
        """Empty, too long, with a NUL, or not to be written."""
        self.assertEqual(check_key("k" * MAX_KEY_BYTES), "k" * MAX_KEY_BYTES)
        for key in ("", "k" * (MAX_KEY_BYTES + 1), "a\0b", "\ud800"):
            with self.assertRaises(LedgerKeyError):
                check_key(key)

    def test_payload(self) -> None:
        """A payload has a largest size."""
        largest = LedgerEvent("k", payload=bytes(MAX_PAYLOAD_BYTES))
        self.assertIs(check_event(largest), largest)
        with self.assertRaises(LedgerPayloadError):
            check_event(LedgerEvent("k", payload=bytes(MAX_PAYLOAD_BYTES + 1)))

    def test_handlers(self) -> None:
        """A handler has a name without a slash, and is named once."""
        for handlings in ((Handling("a/b"),), (Handling(""),), (Handling("a"), Handling("a"))):
            with self.assertRaises(LedgerKeyError):
                check_event(LedgerEvent("k", handlings=handlings))

    def test_group(self) -> None:
        """A group that a database would refuse is refused before."""
        with self.assertRaises(LedgerKeyError):
            check_event(LedgerEvent("k", group="a\0"))
