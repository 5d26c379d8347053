"""What is kept of an event, and what comes back."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import MissingRowError, PoisonEventError, UnkeptContextError
from oni.ledger import MAX_PAYLOAD_BYTES
from oni.sources._context import VERSION, Contexts, Reference, UnknownVersionError
from oni.values import UNKNOWN, Event, ModelChange
from tests.sources.house import Challenge, References, Table

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**8191), 2**8191)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.datetimes(timezones=st.none() | st.just(UTC), allow_imaginary=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
    | st.just(UNKNOWN)
)
NAMES = st.text() | st.sampled_from(["$date", "$dict", "$model", "$tuple", "$", "v"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
CHANGES = st.builds(
    ModelChange,
    model=st.text(),
    id=st.integers() | st.uuids() | st.tuples(st.integers(), st.text()),
    action=st.sampled_from(["created", "modified", "deleted", "bulk"]),
    new=st.dictionaries(NAMES, VALUES, max_size=3),
    old=st.dictionaries(NAMES, VALUES, max_size=3),
    changed=st.frozensets(st.text(), max_size=3),
)


def typed(value: Any) -> Any:
    """Give a value with the types of all that is in it, whatever the order of names."""
    if isinstance(value, dict):
        return {name: typed(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [typed(each) for each in value]
    if isinstance(value, ModelChange):
        return ModelChange, {name: typed(getattr(value, name)) for name in value.__slots__}
    return type(value), sorted(value) if isinstance(value, frozenset) else repr(value)


class Colour(StrEnum):
    """Text that is more than text."""

    RED = "red"


class Size(IntEnum):
    """A number that is more than a number."""

    LARGE = 3


class ContextTests(SynchronousTestCase):
    """Contexts that know the rows of one table."""

    def setUp(self) -> None:
        """Save two rows."""
        self.table = Table()
        self.rows = [Challenge(self.table, pk, title=f"title {pk}") for pk in (1, 2)]
        for row in self.rows:
            self.table.save(row)
        self.contexts = Contexts([References(self.table)])

    def back(self, context: dict[str, Any], **data: Any) -> Event:
        """Write an event, read it and load it."""
        event = Event(group="g", key="k", context=context, **data)
        kept = self.contexts.read("k", "g", self.contexts.write(event))
        return self.contexts.loaded(kept)

    def refuse(self, context: dict[str, Any], field: str, reason: str, **data: Any) -> None:
        """See an event refused, with the field named."""
        event = Event(group="g", key="k", context=context, **data)
        error = self.assertRaises(UnkeptContextError, self.contexts.write, event)
        self.assertEqual((error.key, error.field), ("k", field))
        self.assertIn(reason, error.reason)

    @given(st.dictionaries(NAMES, VALUES | CHANGES, max_size=4))
    def test_comes_back(self, context: dict[str, Any]) -> None:
        """What is kept comes back as what it was, of its own type."""
        back = self.back(context).context
        self.assertEqual(dict(back), context)
        self.assertEqual(typed(dict(back)), typed(context))

    def test_data_come_back(self) -> None:
        """What else was said of an event comes back, too."""
        event = self.back({"a": 1}, title="t", when=date(2024, 2, 29), row=self.rows[0])
        self.assertEqual(
            (event["title"], event["when"], event["row"].title),
            ("t", date(2024, 2, 29), "title 1"),
        )

    def test_becomes_plain(self) -> None:
        """Tuples become lists; subclasses of what JSON knows become what JSON knows."""
        back = self.back({"t": (1, (2,)), "c": Colour.RED, "s": Size.LARGE, "o": OrderedDict(a=1)})
        self.assertEqual(dict(back.context), {"t": [1, [2]], "c": "red", "s": 3, "o": {"a": 1}})
        self.assertEqual(type(back.context["c"]), str)
        self.assertEqual(type(back.context["s"]), int)

    def test_same_bytes(self) -> None:
        """The order of names does not count, so that the same event is no conflict."""
        one = Event(group="g", key="k", context={"a": 1, "b": 2}, x=1, y=2)
        two = Event(group="g", key="k", context={"b": 2, "a": 1}, y=2, x=1)
        self.assertEqual(self.contexts.write(one), self.contexts.write(two))

    def test_instances(self) -> None:
        """An instance is kept by its name, and is loaded anew once, however often it stands."""
        row = self.rows[0]
        event = Event(
            group="g", key="k", context={"one": row, "all": [row, {"two": self.rows[1]}]}
        )
        payload = self.contexts.write(event)
        self.assertNotIn(b"title", payload)
        kept = self.contexts.read("k", "g", payload)
        self.assertTrue(kept.refers)
        self.assertEqual(
            kept.event.context["one"], Reference("table", {"model": "Challenge", "pk": 1})
        )
        context = self.contexts.loaded(kept).context
        self.assertIs(context["one"], context["all"][0])
        self.assertIsNot(context["one"], row)
        self.assertEqual(context["all"][1]["two"].title, "title 2")
        self.assertEqual(self.table.loads, 2)

    def test_instance_in_a_change(self) -> None:
        """An instance among a change's values is loaded, too."""
        change = ModelChange("m", 1, "modified", new={"by": self.rows[0]}, old={"by": UNKNOWN})
        back = self.back({"change": change}).context["change"]
        self.assertEqual(back.new["by"].title, "title 1")
        self.assertIs(back.old["by"], UNKNOWN)

    def test_no_instances(self) -> None:
        """Where none is named nothing is loaded."""
        kept = self.contexts.read("k", "g", self.contexts.write(Event(group="g", key="k")))
        self.assertFalse(kept.refers)
        self.assertIs(self.contexts.loaded(kept), kept.event)

    def test_row_is_gone(self) -> None:
        """Its error is told as it is."""
        del self.table.rows[1]
        error = self.assertRaises(MissingRowError, self.back, {"c": self.rows[0]})
        self.assertEqual((error.model, error.id), ("Challenge", 1))

    def test_nobody_knows_the_kind(self) -> None:
        """An instance of a framework that this process does not know is poison."""
        payload = self.contexts.write(Event(group="g", key="k", context={"c": self.rows[0]}))
        contexts = Contexts()
        kept = contexts.read("k", "g", payload)
        error = self.assertRaises(PoisonEventError, contexts.loaded, kept)
        self.assertIn("an instance of 'table', and known here are nobody", str(error))

    def test_refused(self) -> None:
        """What cannot be kept is refused, and its place is told."""
        self.refuse({"a": {"b": [1, object()]}}, "context.a.b[1]", "JSON does not know a object")
        self.refuse({"a": {1, 2}}, "context.a", "JSON does not know a set")
        self.refuse({"a": {1: 2}}, "context.a[1]", "a name in JSON is text")
        self.refuse({"a": float("nan")}, "context.a", "no number nan")
        self.refuse({"a": [float("inf")]}, "context.a[0]", "no number inf")
        self.refuse({"a": 1 << 8192}, "context.a", "over 8192 bits")
        self.refuse({"a": Challenge(self.table, None)}, "context.a", "it is not saved yet")
        self.refuse({}, "data.by", "JSON does not know a object", by=object())
        change = ModelChange("m", 1, "modified", new={"x": object()})
        self.refuse({"change": change}, "context.change.new.x", "JSON does not know a object")

    def test_in_itself(self) -> None:
        """What is in itself is refused, not followed for ever."""
        endless: dict[str, Any] = {}
        endless["a"] = [endless]
        event = Event(group="g", key="k", context=endless)
        error = self.assertRaises(UnkeptContextError, self.contexts.write, event)
        self.assertIn("more than 64 in each other", error.reason)

    def test_too_large(self) -> None:
        """A context over the limit names its largest field, and one at the limit is kept."""
        size = len(self.contexts.write(Event(group="g", key="k", context={"text": ""})))
        self.back({"text": "x" * (MAX_PAYLOAD_BYTES - size)})
        text = "x" * (MAX_PAYLOAD_BYTES - size + 1)
        self.refuse({"text": text, "a": 1}, "context.text", f"{MAX_PAYLOAD_BYTES} are kept")
        self.refuse({"a": 1}, "data.text", "are kept in all", text=text)
        self.refuse({"$text": text}, "context.$text", "are kept in all")

    def test_poison(self) -> None:
        """Bytes that are no event are told as such, whatever they are."""
        for payload in (
            b"",
            b"\xff{",
            b"[]",
            b"{}",
            b"null",
            b'{"v":1,"context":[1],"data":{}}',
            b'{"v":1,"context":{},"data":{"key":1}}',
            b'{"v":0,"context":{},"data":{}}',
            b'{"v":1,"context":{"a":{"$date":"never"}},"data":{}}',
            b'{"v":1,"context":{"a":{"$decimal":"never"}},"data":{}}',
            b'{"v":1,"context":{"a":{"$unheard":1}},"data":{}}',
            b'{"v":1,"context":{"a":{"$model":[]}},"data":{}}',
            b'{"v":1,"context":{"$model":{"source":"s","named":{}}},"data":{}}',
            b"[" * 100_000,
        ):
            error = self.assertRaises(PoisonEventError, self.contexts.read, "k", "g", payload)
            self.assertEqual(error.key, "k")

    def test_newer(self) -> None:
        """What a newer program wrote is no poison, even if it cannot be read."""
        for context in ({}, {"a": {"$unheard": 1}}):
            payload = json.dumps({"v": VERSION + 1, "context": context}).encode()
            self.assertRaises(UnknownVersionError, self.contexts.read, "k", "g", payload)

    def test_time_zones(self) -> None:
        """A time keeps its distance from UTC."""
        values = {
            "a": datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC),
            "b": time(1, 2, 3),
            "c": timedelta(-1, 5, 7),
            "d": Decimal("1.10"),
            "e": UUID(int=5),
        }
        self.assertEqual(repr(dict(self.back(values).context)), repr(values))
