"""Filters over tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from centrifuge import Filter
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import BadRequestError
from oni.protocol import FilterNode, compile_filter


def _matches(node: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    return compile_filter(msgspec.convert(node, FilterNode))(tags)


class ComparisonTests(SynchronousTestCase):
    """Tests of the leaves, as the clients' own builders write them."""

    def test_each(self) -> None:
        """Every comparison holds where it should, and not elsewhere."""
        for built, yes, no in (
            (Filter.eq("k", "a"), [{"k": "a"}], [{"k": "b"}, {}]),
            (Filter.neq("k", "a"), [{"k": "b"}, {}], [{"k": "a"}]),
            (Filter.is_in("k", ["a", "b"]), [{"k": "a"}, {"k": "b"}], [{"k": "c"}, {}]),
            (Filter.not_in("k", ["a", "b"]), [{"k": "c"}, {}], [{"k": "a"}]),
            (Filter.exists("k"), [{"k": ""}], [{"j": "a"}]),
            (Filter.not_exists("k"), [{"j": "a"}], [{"k": ""}]),
            (Filter.starts_with("k", "ab"), [{"k": "abc"}], [{"k": "cab"}, {}]),
            (Filter.ends_with("k", "ab"), [{"k": "cab"}], [{"k": "abc"}, {}]),
            (Filter.contains("k", "b"), [{"k": "abc"}], [{"k": "ac"}, {}]),
            (Filter.gt("k", "9"), [{"k": "10"}], [{"k": "9"}, {"k": "x"}, {}]),
            (Filter.gte("k", "9"), [{"k": "9.0"}], [{"k": "-10"}, {"k": "NaN"}, {}]),
            (Filter.lt("k", "9"), [{"k": "8.99"}], [{"k": "9"}, {"k": "1e3"}, {}]),
            (Filter.lte("k", "-9"), [{"k": "-9"}], [{"k": "-8"}, {"k": "٣"}, {}]),
        ):
            for tags in yes:
                self.assertTrue(_matches(built.node, tags), (built, tags))
            for tags in no:
                self.assertFalse(_matches(built.node, tags), (built, tags))

    def test_combined(self) -> None:
        """And, or and not combine what is below them."""
        built = Filter.all(
            Filter.eq("t", "A"),
            Filter.any(Filter.gt("p", "5"), Filter.negate(Filter.exists("p"))),
        )
        for tags, expected in (
            ({"t": "A", "p": "6"}, True),
            ({"t": "A"}, True),
            ({"t": "A", "p": "5"}, False),
            ({"t": "B", "p": "6"}, False),
        ):
            self.assertEqual(_matches(built.node, tags), expected)

    def test_refused(self) -> None:
        """A node that is wrong is named with its path."""
        good = {"key": "k", "cmp": "ex"}
        for node, path in (
            ({}, "tf.key"),
            ({"key": "k"}, "tf.cmp"),
            ({"key": "k", "cmp": "like", "val": "x"}, "tf.cmp"),
            ({"cmp": "eq", "val": "x"}, "tf.key"),
            ({"key": "k", "cmp": "in"}, "tf.vals"),
            ({"key": "k", "cmp": "eq", "val": "x", "vals": ["y"]}, "tf.vals"),
            ({"key": "k", "cmp": "in", "val": "x", "vals": ["y"]}, "tf.val"),
            ({"key": "k", "cmp": "ex", "val": "x"}, "tf.val"),
            ({"key": "k", "cmp": "gt", "val": "x"}, "tf.val"),
            ({"op": "xor", "nodes": [good]}, "tf.op"),
            ({"op": "and"}, "tf.nodes"),
            ({"op": "not", "nodes": [good, good]}, "tf.nodes"),
            ({"op": "or", "nodes": [good, {"op": "not"}]}, "tf.nodes[1].nodes"),
        ):
            error = self.assertRaises(BadRequestError, _matches, node, {})
            self.assertEqual(error.field, path, node)

    def test_too_many(self) -> None:
        """A filter is bounded: it runs for each publication."""
        good = {"key": "k", "cmp": "ex"}
        error = self.assertRaises(
            BadRequestError, _matches, {"op": "or", "nodes": [good] * 256}, {}
        )
        self.assertIn("256", str(error))
        self.assertTrue(_matches({"op": "or", "nodes": [good] * 255}, {"k": ""}))

    @given(st.decimals(-(10**9), 10**9, places=6), st.decimals(-(10**9), 10**9, places=6))
    def test_numbers(self, tag: Any, limit: Any) -> None:
        """Numbers are compared as numbers, exactly."""
        for cmp, expected in (
            ("lt", tag < limit),
            ("lte", tag <= limit),
            ("gt", tag > limit),
            ("gte", tag >= limit),
        ):
            node = {"key": "k", "cmp": cmp, "val": f"{limit:f}"}
            self.assertEqual(_matches(node, {"k": f"{tag:f}"}), expected)
