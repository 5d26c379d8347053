"""Filters over a publication's tags, which a client sends with its subscription.

A filter is a tree: comparisons at the leaves, ``and``, ``or`` and ``not`` above them. See
https://centrifugal.dev/docs/server/publication_filtering.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from oni.errors import BadRequestError

__all__ = ["FilterNode", "TagsFilter", "compile_filter"]

#: Says whether a publication with these tags is wanted.
TagsFilter: TypeAlias = Callable[[Mapping[str, str]], bool]

_MAX_NODES = 256
_NUMBER = re.compile(r"[+-]?[0-9]{1,64}(?:\.[0-9]{1,64})?")


class FilterNode(Struct, frozen=True):
    """One node of a filter, as a client sends it.

    Attributes:
        op: ``and``, ``or``, ``not``; ``""`` for a comparison.
        key: The tag that is compared.
        cmp: How: ``eq``, ``neq``, ``in``, ``nin``, ``ex``, ``nex``, ``sw``, ``ew``, ``ct``,
            ``lt``, ``lte``, ``gt`` or ``gte``.
        val: With what.
        vals: With which ones, for ``in`` and ``nin``.
        nodes: What ``op`` combines.
    """

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: tuple[str, ...] = ()
    nodes: tuple[FilterNode, ...] = ()


# A tag that is missing differs from everything and has no order.
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "eq": operator.eq,
    "sw": str.startswith,
    "ew": str.endswith,
    "ct": operator.contains,
}
_ORDERS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def compile_filter(node: FilterNode, path: str = "tf", command_id: int = 0) -> TagsFilter:
    """Make a function of a filter.

    Args:
        node: The filter's root.
        path: Where it stands, for the error.
        command_id: The command it belongs to, for the error.

    Returns:
        A function of tags. A comparison by number is false where one side is not a number.

    Raises:
        BadRequestError: A node is not what it should be, or there are too many.
    """
    if _count(node) > _MAX_NODES:
        raise BadRequestError(f"more than {_MAX_NODES} nodes", path, command_id)
    return _compile(node, path, command_id)


def _count(node: FilterNode) -> int:
    return 1 + len(node.vals) + sum(map(_count, node.nodes))


def _compile(node: FilterNode, path: str, command_id: int) -> TagsFilter:
    if not node.op:
        return _comparison(node, path, command_id)
    if node.op not in ("and", "or", "not"):
        raise BadRequestError(f"no such operation: {node.op!r}", f"{path}.op", command_id)
    parts = [
        _compile(part, f"{path}.nodes[{place}]", command_id)
        for place, part in enumerate(node.nodes)
    ]
    if not parts or (node.op == "not" and len(parts) > 1):
        wanted = "exactly one" if node.op == "not" else "at least one"
        raise BadRequestError(f"{node.op!r} takes {wanted} node", f"{path}.nodes", command_id)
    if node.op == "not":
        return _not(parts[0])
    return _all(parts) if node.op == "and" else _any(parts)


def _all(parts: Sequence[TagsFilter]) -> TagsFilter:
    return lambda tags: all(part(tags) for part in parts)


def _any(parts: Sequence[TagsFilter]) -> TagsFilter:
    return lambda tags: any(part(tags) for part in parts)


def _not(part: TagsFilter) -> TagsFilter:
    return lambda tags: not part(tags)


def _comparison(node: FilterNode, path: str, command_id: int) -> TagsFilter:
    key, cmp, val, vals = node.key, node.cmp, node.val, frozenset(node.vals)
    if not key:
        raise BadRequestError("missing", f"{path}.key", command_id)
    if bool(vals) is not (cmp in ("in", "nin")):
        reason = "only 'in' and 'nin' take values" if vals else "missing"
        raise BadRequestError(reason, f"{path}.vals", command_id)
    if val and cmp in ("in", "nin", "ex", "nex"):
        raise BadRequestError(f"{cmp!r} takes no value", f"{path}.val", command_id)
    if cmp in ("in", "nin"):
        found: TagsFilter = lambda tags: tags.get(key) in vals  # noqa: E731 - as the others
        return found if cmp == "in" else _not(found)
    if cmp in ("ex", "nex"):
        exists: TagsFilter = lambda tags: key in tags  # noqa: E731 - as the others
        return exists if cmp == "ex" else _not(exists)
    if cmp in _ORDERS:
        return _number_comparison(key, val, _ORDERS[cmp], path, command_id)
    if cmp == "neq":
        return lambda tags: tags.get(key) != val
    if cmp in _TEXTS:
        compare = _TEXTS[cmp]
        return lambda tags: key in tags and compare(tags[key], val)
    raise BadRequestError(f"no such comparison: {cmp!r}", f"{path}.cmp", command_id)


def _number_comparison(
    key: str, val: str, compare: Callable[[Decimal, Decimal], bool], path: str, command_id: int
) -> TagsFilter:
    if _NUMBER.fullmatch(val) is None:
        raise BadRequestError("not a number", f"{path}.val", command_id)
    limit = Decimal(val)

    def matches(tags: Mapping[str, str]) -> bool:
        tag = tags.get(key, "")
        return _NUMBER.fullmatch(tag) is not None and compare(Decimal(tag), limit)

    return matches
