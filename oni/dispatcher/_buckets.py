"""Where handlers are filed: tables of buckets, by the literal values of their match specs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any
from weakref import ref

from oni.dispatcher._matchers import MISSING, Matcher
from oni.dispatcher._plan import NO_PLAN, Plan
from oni.dispatcher._registration import Registration

__all__ = [
    "FEW_PLANS",
    "NOBODY",
    "NO_BUCKETS",
    "NO_KEYS",
    "NO_PLANS",
    "Bucket",
    "Condition",
    "Lookup",
    "Table",
    "equal_buckets",
    "holding_buckets",
    "live_plans",
    "no_values",
]

FEW_PLANS = 8

Lookup = tuple[Callable[[Mapping[str, Any]], Any], dict[Any, "Bucket"]]


class Table:
    """The handlers whose match specs name the same keywords with literal values.

    Attributes:
        key: Gives the values of its keywords, by which its buckets are found.
    """

    __slots__ = ("buckets", "key", "keywords")

    def __init__(self, keywords: tuple[str, ...]) -> None:
        self.keywords = keywords
        self.key: Callable[[Mapping[str, Any]], Any] = (
            itemgetter(*keywords) if keywords else no_values
        )
        self.buckets: dict[Any, Bucket] = {}


class Bucket:
    """The handlers whose match specs are equal; those with matchers have one each, under it.

    There may be one for each handler, so what few of them need is only made when it is needed.
    """

    __slots__ = (
        "condition",
        "conditional",
        "key",
        "merged",
        "owner",
        "plan",
        "plans",
        "plans_max",
        "registrations",
    )

    def __init__(
        self, owner: Table | Bucket | None, key: Any, condition: Condition | None = None
    ) -> None:
        self.owner = owner
        self.key = key
        self.condition = condition
        self.registrations: dict[int, Registration] = {}
        self.conditional = NO_BUCKETS
        self.plan: Plan | None = None
        # Every plan that may still run, and the keys of the current ones that it shares.
        self.plans = NO_PLANS
        self.plans_max = FEW_PLANS
        self.merged = NO_KEYS


# What buckets have that need none: never written to.
NO_BUCKETS: dict[int, Bucket] = {}
NO_PLANS: list[ref[Plan]] = []
NO_KEYS: set[tuple[Bucket, ...]] = set()

NOBODY = Bucket(None, None)
NOBODY.plan = NO_PLAN


def no_values(spec: Mapping[str, Any]) -> tuple[()]:
    """Give the key of handlers whose match specs name no literal value."""
    return ()


class Condition:
    """The matchers of one match spec."""

    __slots__ = ("_matchers",)

    def __init__(self, matchers: Mapping[str, Matcher]) -> None:
        self._matchers = matchers

    def holds(self, details: Mapping[str, Any]) -> bool:
        """Say whether all of them fit."""
        return all(m.matches(details.get(k, MISSING)) for k, m in self._matchers.items())


def live_plans(bucket: Bucket) -> Iterator[Plan]:
    """Give every plan of a bucket that may still run."""
    for each in bucket.plans:
        plan = each()
        if plan is not None:
            yield plan


def equal_buckets(buckets: Mapping[Any, Bucket], wanted: Any) -> Iterator[Bucket]:
    """Compare with each key; where that raises, the handlers fail in their turn."""
    for key, bucket in list(buckets.items()):
        try:
            equal = bool(key == wanted)
        except Exception as error:
            yield _failing(bucket, error)
        else:
            if equal:
                yield bucket


def holding_buckets(buckets: Iterable[Bucket], details: Mapping[str, Any]) -> Iterator[Bucket]:
    """Give the buckets whose condition holds; one whose matcher raises fails in its turn."""
    for bucket in list(buckets):
        try:
            holds = bucket.condition is None or bucket.condition.holds(details)
        except Exception as error:
            yield _failing(bucket, error)
        else:
            if holds:
                yield bucket


def _failing(bucket: Bucket, error: Exception) -> Bucket:
    """Give a bucket that is not in the index, whose handlers fail with the matcher's error."""
    failing = Bucket(None, None)
    for each in (bucket, *bucket.conditional.values()):
        failing.registrations |= {i: r.failing(error) for i, r in each.registrations.items()}
    return failing
