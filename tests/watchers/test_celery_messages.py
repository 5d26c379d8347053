"""What is said to a worker, and what it understands."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import UnreadableMessageError, UnsendableError
from oni.values import UNKNOWN
from oni.watchers.celery._messages import Heard, NewerMessageError, read, write


def heard(details: Any, id: Any = 1) -> Heard:
    """Give a change with these details."""
    return Heard("k", "blog.Post", "modified", id, details)


class Color(StrEnum):
    """Is a text, too."""

    RED = "red"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([None, UTC]), allow_imaginary=False)
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.just(UNKNOWN),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$date", "$x"]), inner)
    ),
    max_leaves=8,
)


class MessageTests(SynchronousTestCase):
    """From one process to another."""

    @given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4))
    def test_the_same_comes_back(self, details: Any) -> None:
        """Whatever a row can have."""
        self.assertEqual(heard(details), read(write(heard(details))))

    def test_it_is_json(self) -> None:
        """With the key, for those who read it with other programs."""
        details = {
            "new": {"at": datetime(2024, 2, 29, 12, tzinfo=UTC), "on": date(2024, 2, 29)},
            "old": {"cost": Decimal("1.50"), "who": UUID(int=7), "raw": b"\x00", "body": UNKNOWN},
            "using": "",
        }
        said = json.loads(write(heard(details)))
        self.assertEqual(
            {
                "v": 1,
                "key": "k",
                "model": "blog.Post",
                "action": "modified",
                "id": 1,
                "details": {
                    "new": {
                        "at": {"$datetime": "2024-02-29T12:00:00+00:00"},
                        "on": {"$date": "2024-02-29"},
                    },
                    "old": {
                        "cost": {"$decimal": "1.50"},
                        "who": {"$uuid": "00000000-0000-0000-0000-000000000007"},
                        "raw": {"$bytes": "AA=="},
                        "body": {"$unknown": True},
                    },
                    "using": "",
                },
            },
            said,
        )

    def test_keys_of_several_columns(self) -> None:
        """Come back as tuples."""
        self.assertEqual((1, "a"), read(write(heard({}, (1, "a")))).id)

    def test_an_hour_that_is_twice(self) -> None:
        """It is still known which one it was."""
        details = {"at": datetime(2024, 10, 27, 2, 30, fold=1), "t": time(2, 30, fold=1)}
        found = read(write(heard(details))).details
        self.assertEqual((1, 1), (found["at"].fold, found["t"].fold))

    def test_kinds_of_text(self) -> None:
        """Become plain text."""
        found = read(write(heard({"color": Color.RED, "for": timedelta(1)}))).details
        self.assertIs(str, type(found["color"]))

    def test_what_cannot_be_sent(self) -> None:
        """The error names the place."""
        deep: Any = []
        for _ in range(100):
            deep = [deep]
        for details, field, reason in (
            ({"new": {"photo": object()}}, "details.new.photo", "does not know a object"),
            ({"new": {"at": [1, {2}]}}, "details.new.at[1]", "does not know a set"),
            ({"new": {"n": float("nan")}}, "details.new.n", "no such number"),
            ({"new": {"n": 1 << 9000}}, "details.new.n", "no such number"),
            ({"new": {7: 1}}, "details.new[7]", "a name in JSON is text"),
            ({"new": deep}, "details.new" + "[0]" * 64, "in each other"),
        ):
            error = self.assertRaises(UnsendableError, write, heard(details))
            self.assertEqual((field, "blog.Post"), (error.field, error.model))
            self.assertIn(reason, str(error))

    def test_what_is_none(self) -> None:
        """Is told from what a newer program says."""
        good = json.loads(write(heard({})))
        for text in (
            None,
            7,
            "",
            "[]",
            "{}",
            json.dumps({**good, "action": "bulk"}),
            json.dumps({**good, "key": ""}),
            json.dumps({**good, "model": 1}),
            json.dumps({**good, "details": []}),
            json.dumps({**good, "id": {"$surprise": 1}}),
            json.dumps({**good, "id": {"$date": "never"}}),
            json.dumps({**good, "v": 0}),
            "[" * 100_000,
        ):
            self.assertRaises(UnreadableMessageError, read, text)
        self.assertRaises(NewerMessageError, read, json.dumps({**good, "v": 2, "id": {"$n": 1}}))
