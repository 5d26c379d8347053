"""Finds the handlers that want an event, at a cost that depends on what it finds.

Handlers whose match specs name the same keywords share a table. A table is keyed by the literal
values, so an event makes one lookup per table whose keywords are all among its details.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any
from weakref import ref

from oni.dispatcher._buckets import (
    FEW_PLANS,
    NO_BUCKETS,
    NO_KEYS,
    NO_PLANS,
    NOBODY,
    Bucket,
    Condition,
    Lookup,
    Table,
    equal_buckets,
    holding_buckets,
    live_plans,
    no_values,
)
from oni.dispatcher._matchers import Matcher, OneOf
from oni.dispatcher._plan import NO_PLAN, Plan, compile_plan
from oni.dispatcher._registration import Registration
from oni.errors import InvalidMatchSpecError, UnknownKeywordError
from oni.values import Phase

__all__ = ["HandlerIndex"]

_MAX_SHAPES = 1_024
_MAX_MERGED = 4_096
_MAX_EXPANSION = 64

# Types whose values are hashable, equal themselves, and are neither None nor matchers.
_ORDINARY = frozenset((str, int, bool, bytes))


class HandlerIndex:
    """All registrations of a dispatcher, and the way from an event's details to them."""

    def __init__(self, keywords: Iterable[str], phases: Mapping[str, Phase]) -> None:
        self.keywords: tuple[str, ...] = tuple(keywords)
        self.by_id: dict[int, Registration] = {}
        self.dead: deque[Registration] = deque()
        self._phases = phases
        self._tables: dict[tuple[str, ...], Table] = {}
        # The handlers without literal values, and where to look for the others if an event has
        # details of these names.
        self.everyone = NOBODY
        self.shapes: dict[tuple[str, ...], tuple[Lookup, ...]] = {}
        # The same for an event that names every keyword: how many these are, what gives their
        # values, those whose specs name every one as well, and where to look for the others.
        self.width: int
        self.values: Callable[[Mapping[str, Any]], Any]
        self.full: Mapping[Any, Bucket]
        self.partial: tuple[Lookup, ...]
        # The table of match specs that name these keywords, in this order.
        self._named: dict[tuple[str, ...], Table] = {}
        self._reshape()
        self._merged: dict[tuple[Bucket, ...], Plan] = {}

    # --- Registering -----------------------------------------------------------------------

    def check(self, names: Iterable[str]) -> None:
        """Refuse keywords that are not allowed.

        Raises:
            UnknownKeywordError: Some are not.
        """
        keywords = self.keywords
        for name in names:
            if name not in keywords:
                raise UnknownKeywordError([n for n in names if n not in keywords], keywords)

    def allow_keyword(self, keyword: str) -> None:
        """Allow one more keyword."""
        if keyword not in self.keywords:
            self.keywords += (keyword,)
            self._reshape()

    def forget_keyword(self, keyword: str) -> None:
        """Allow a keyword no more that no match spec names."""
        self.keywords = tuple(k for k in self.keywords if k != keyword)
        self._reshape()

    def _reshape(self) -> None:
        """Forget where to look: the keywords or the tables have changed."""
        self.shapes.clear()
        keywords = self.keywords
        self.width = len(keywords)
        self.values = itemgetter(*keywords) if keywords else no_values
        self.full = self._tables[keywords].buckets if keywords in self._tables else {}
        self.partial = tuple(
            (table.key, table.buckets)
            for names, table in self._tables.items()
            if names and names != keywords
        )

    def add(self, registration: Registration) -> None:
        """File a registration under its match spec.

        Raises:
            InvalidMatchSpecError: A value is unhashable.
        """
        spec = registration.spec
        table = self._named.get(tuple(spec))
        if table is not None and _ORDINARY.issuperset(map(type, spec.values())):
            registration.buckets = (self._file(registration, table, table.key(spec)),)
        else:
            self._add_with_care(registration)
        self.by_id[registration.handler_id] = registration

    def _add_with_care(self, registration: Registration) -> None:
        literals: dict[str, tuple[Any, ...]] = {}
        matchers: dict[str, Matcher] = {}
        size = 1
        for keyword, value in registration.spec.items():
            if isinstance(value, OneOf) and size * len(value.values) <= _MAX_EXPANSION:
                literals[keyword] = value.values
                size *= len(value.values)
            elif isinstance(value, Matcher):
                matchers[keyword] = value
            elif value is not None:
                literals[keyword] = (value,)
        keywords = tuple(k for k in self.keywords if k in literals)
        choices = [_findable(k, literals[k]) for k in keywords]
        condition = Condition(matchers) if matchers else None
        if all(choices):
            table = self._tables.get(keywords)
            if table is None:
                table = self._tables[keywords] = Table(keywords)
                self._reshape()
            registration.buckets = [
                self._file(registration, table, key[0] if len(key) == 1 else key, condition)
                for key in itertools.product(*choices)
            ]
            if not keywords:
                self.everyone = table.buckets[()]
            if len(registration.spec) == len(keywords) and len(self._named) < _MAX_SHAPES:
                self._named[tuple(registration.spec)] = table

    def _file(
        self,
        registration: Registration,
        table: Table,
        key: Any,
        condition: Condition | None = None,
    ) -> Bucket:
        bucket = table.buckets.get(key)
        if bucket is None:
            bucket = table.buckets[key] = Bucket(table, key)
        if condition is not None:
            handler_id = registration.handler_id
            self._invalidate(bucket)
            if bucket.conditional is NO_BUCKETS:
                bucket.conditional = {}
            own = bucket.conditional[handler_id] = Bucket(bucket, handler_id, condition)
            bucket = own
        bucket.registrations[registration.handler_id] = registration
        if bucket.plan is not None or bucket.merged:
            self._invalidate(bucket)
        return bucket

    def remove(self, registration: Registration) -> None:
        """Forget a registration. Lists that are running now pass over it."""
        if self.by_id.pop(registration.handler_id, None) is None:
            return
        buckets, registration.buckets = registration.buckets, ()
        for bucket in buckets:
            del bucket.registrations[registration.handler_id]
            for plan in live_plans(bucket):
                plan.overwrite(registration)
            self._invalidate(bucket)
            self._prune(bucket)
        registration.release()

    def _prune(self, bucket: Bucket) -> None:
        if bucket.registrations or bucket.conditional:
            return
        owner = bucket.owner
        if isinstance(owner, Bucket):
            del owner.conditional[bucket.key]
            self._prune(owner)
        elif owner is not None:
            del owner.buckets[bucket.key]
            if not owner.buckets:
                self._drop(owner)

    def _drop(self, table: Table) -> None:
        del self._tables[table.keywords]
        self._named.clear()
        if not table.keywords:
            self.everyone = NOBODY
        self._reshape()

    # --- Plans -----------------------------------------------------------------------------

    def _invalidate(self, bucket: Bucket) -> None:
        if bucket.plan is not None:
            bucket.plan.count_calls()
            bucket.plan = None
        if bucket.merged:
            for key in bucket.merged.copy():
                self._unmerge(key)

    def _unmerge(self, key: tuple[Bucket, ...]) -> None:
        self._merged.pop(key).count_calls()
        for bucket in key:
            bucket.merged.discard(key)

    def plan(self, details: dict[str, Any]) -> Plan:
        """Give what an event with these details calls.

        The hot path does the same without a call where one bucket, or none, has handlers.

        Raises:
            UnknownKeywordError: Details have names that are not allowed.
        """
        shape = self.shapes.get(tuple(details))
        if shape is None:
            shape = self._learn(details)
        found = self._find(details, shape)
        if not found:
            return NO_PLAN
        if len(found) > 1 or found[0].conditional:
            return self._merge(tuple(found))
        return found[0].plan or self._compile(found[0])

    def matching(self, details: Mapping[str, Any]) -> list[Registration]:
        """Give the registrations that an event with these details reaches, in call order.

        Raises:
            UnknownKeywordError: Details have names that are not allowed.
        """
        self.check(details)
        found = self._find(details, self._learn(details))
        order = {name: place for place, name in enumerate(self._phases)}
        ids = {handler_id for bucket in found for handler_id in bucket.registrations}
        everyone = [self.by_id[handler_id] for handler_id in ids]
        return sorted(everyone, key=lambda r: (order[r.phase], r.handler_id))

    def _learn(self, details: Mapping[str, Any]) -> tuple[Lookup, ...]:
        """Find the tables for details of these names."""
        names = tuple(details)
        self.check(names)
        if len(self.shapes) >= _MAX_SHAPES:
            self.shapes.clear()
        present = set(names)
        shape = self.shapes[names] = tuple(
            (table.key, table.buckets)
            for keywords, table in self._tables.items()
            if keywords and present.issuperset(keywords)
        )
        return shape

    def _find(self, details: Mapping[str, Any], shape: tuple[Lookup, ...]) -> list[Bucket]:
        everyone = self.everyone
        found: list[Bucket] = []
        if everyone.registrations:
            found.append(everyone)
        found.extend(holding_buckets(everyone.conditional.values(), details))
        for values, buckets in shape:
            wanted = values(details)
            try:
                only = buckets.get(wanted)
                equal = [] if only is None else [only]
            except Exception:  # an unhashable detail, or one that cannot be compared
                equal = list(equal_buckets(buckets, wanted))
            for bucket in equal:
                if bucket.registrations:
                    found.append(bucket)
                found.extend(holding_buckets(bucket.conditional.values(), details))
        # A matcher may have removed handlers.
        return [bucket for bucket in found if bucket.registrations]

    def _merge(self, found: tuple[Bucket, ...]) -> Plan:
        plan = self._merged.get(found)
        if plan is None:
            plan = self._compile_for(found)
            if any(bucket.owner is None for bucket in found):
                # Made for one event, and forgotten with it: count that event now.
                plan.runs = 1
                plan.count_calls()
                plan.runs = -1
            else:
                if len(self._merged) >= _MAX_MERGED:
                    for old in list(self._merged):
                        self._unmerge(old)
                self._merged[found] = plan
                for bucket in found:
                    if bucket.merged is NO_KEYS:
                        bucket.merged = set()
                    bucket.merged.add(found)
        return plan

    def _compile(self, bucket: Bucket) -> Plan:
        plan = bucket.plan = self._compile_for((bucket,))
        return plan

    def _compile_for(self, buckets: tuple[Bucket, ...]) -> Plan:
        if len(buckets) == 1:
            registrations = list(buckets[0].registrations.values())
        else:  # an unhashable detail may equal several values of one handler
            by_id = {i: r for bucket in buckets for i, r in bucket.registrations.items()}
            registrations = sorted(by_id.values(), key=lambda r: r.handler_id)
        plan = compile_plan(registrations, self._phases.values())
        for bucket in buckets:
            if bucket.plans is NO_PLANS:
                bucket.plans = []
            if len(bucket.plans) >= bucket.plans_max:
                bucket.plans = [each for each in bucket.plans if each() is not None]
                bucket.plans_max = max(FEW_PLANS, 2 * len(bucket.plans))
            bucket.plans.append(ref(plan))
        return plan

    def count_calls(self, registration: Registration) -> int:
        """Give how often a handler was called."""
        for bucket in registration.buckets:
            for plan in live_plans(bucket):
                plan.count_calls()
        return registration.calls


def _findable(keyword: str, values: Iterable[Any]) -> list[Any]:
    """Give the values that something can be equal to: NaN equals nothing.

    Raises:
        InvalidMatchSpecError: One is unhashable, or cannot be compared.
    """
    found = []
    for value in values:
        try:
            hash(value)
        except Exception as error:
            reason = "is unhashable; use a hashable value, or where(lambda v: v == ...)"
            raise InvalidMatchSpecError(keyword, f"{value!r} {reason}") from error
        try:
            if value == value:
                found.append(value)
        except Exception as error:
            reason = f"{value!r} cannot be compared with == ({error})"
            raise InvalidMatchSpecError(keyword, reason) from error
    return found
