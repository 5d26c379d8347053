"""An event as bytes: JSON in which what JSON does not know is tagged, and instances are named.

A tag is an object with one key that begins with a dollar sign: ``{"$date": "2024-02-29"}``. An
object of the context that looks like one is kept as ``{"$dict": [[name, value], ...]}``.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from oni._tags import SCALARS, UNREADABLE
from oni.errors import LargeContextError, PoisonEventError, UnkeptContextError
from oni.interfaces import IModelReferences
from oni.ledger import MAX_PAYLOAD_BYTES
from oni.values import UNKNOWN, Event, ModelChange

__all__ = ["VERSION", "Contexts", "KeptEvent", "Reference", "UnknownVersionError"]

VERSION = 1
"""The version of what is written. What has a higher one is left alone."""

_DEEPEST = 64  # one in the other
_LARGEST_BITS = 8192  # of a whole number; Python reads none of more than 4300 digits


class UnknownVersionError(Exception):
    """A newer program wrote it, which will know what it means."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands in a context for an instance until a handler runs.

    Attributes:
        source: The name of the :class:`oni.interfaces.IModelReferences` that knows it.
        named: What it is named by.
    """

    source: str
    named: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """What a ledger keeps of an event.

    Attributes:
        event: The event, with a :class:`Reference` where an instance will be.
        refers: Whether there is one.
    """

    event: Event
    refers: bool


class Contexts:
    """Writes events and reads them. Any thread may do so.

    Args:
        references: Who knows which instances.
    """

    def __init__(self, references: Iterable[IModelReferences] = ()) -> None:
        self._references = {each.name: each for each in references}

    def add(self, references: IModelReferences) -> None:
        """Let more instances be known. One of the same name is replaced."""
        self._references = {**self._references, references.name: references}

    def named(self, instance: Any) -> str:
        """Say for people which one an instance is."""
        for references in self._references.values():
            with suppress(UnkeptContextError):
                found = references.refer(instance)
                if found is not None:
                    return ", ".join(f"{name} {value!r}" for name, value in found.items())
        return reprlib.repr(instance)

    # --- Writing

    def write(self, event: Event) -> bytes:
        """Give an event as bytes. They are the same for the same event.

        Raises:
            UnkeptContextError: A value cannot be kept, or all of them are too large.
        """
        kept = {
            "v": VERSION,
            "context": self._object(event.key, "context", event.context, 0),
            "data": self._object(event.key, "data", event.data, 0),
        }
        payload = _dump(kept)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise _too_large(event.key, kept, len(payload))
        return payload

    def _value(self, key: str, field: str, value: Any, depth: int) -> Any:
        if value is None or type(value) in (str, bool):
            return value
        if type(value) is int and value.bit_length() <= _LARGEST_BITS:
            return value
        if depth > _DEEPEST:
            raise UnkeptContextError(
                key, field, f"it is one of more than {_DEEPEST} in each other"
            )
        for source, references in self._references.items():
            named = self._refer(references, key, field, value)
            if named is not None:
                return {"$model": {"source": source, "named": dict(named)}}
        return self._other(key, field, value, depth)

    def _refer(
        self, references: IModelReferences, key: str, field: str, value: Any
    ) -> Mapping[str, Any] | None:
        try:
            return references.refer(value)
        except UnkeptContextError as error:  # it cannot know where the value stands
            raise UnkeptContextError(key, field, error.reason) from error

    def _other(self, key: str, field: str, value: Any, depth: int) -> Any:
        if isinstance(value, float):
            if not isfinite(value):
                raise UnkeptContextError(key, field, f"JSON has no number {value!r}")
            return float(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            if value.bit_length() > _LARGEST_BITS:
                raise UnkeptContextError(key, field, f"it has over {_LARGEST_BITS} bits")
            return int(value)
        if isinstance(value, Mapping):
            return self._object(key, field, value, depth)
        if isinstance(value, list | tuple):
            return self._list(key, field, value, depth)
        if value is UNKNOWN:
            return {"$unknown": True}
        if isinstance(value, ModelChange):
            return {"$change": self._change(key, field, value, depth)}
        for kind, (tag, write, _) in SCALARS.items():
            if isinstance(value, kind):
                return {tag: write(value)}
        raise UnkeptContextError(
            key,
            field,
            f"JSON does not know a {type(value).__qualname__}, and nobody who knows instances of "
            f"models knows this one; put what identifies it there",
        )

    def _object(self, key: str, field: str, value: Mapping[Any, Any], depth: int) -> Any:
        kept = {}
        for name, each in value.items():
            if not isinstance(name, str):
                raise UnkeptContextError(key, f"{field}[{name!r}]", "a name in JSON is text")
            kept[str.__str__(name)] = self._value(key, f"{field}.{name}", each, depth + 1)
        if len(kept) == 1 and next(iter(kept)).startswith("$"):
            return {"$dict": [list(item) for item in kept.items()]}
        return kept

    def _list(self, key: str, field: str, value: Sequence[Any], depth: int) -> Any:
        return [
            self._value(key, f"{field}[{place}]", each, depth + 1)
            for place, each in enumerate(value)
        ]

    def _change(self, key: str, field: str, change: ModelChange, depth: int) -> Any:
        return {
            "model": change.model,
            "id": self._id(key, f"{field}.id", change.id, depth + 1),
            "action": change.action,
            "new": self._object(key, f"{field}.new", change.new, depth + 1),
            "old": self._object(key, f"{field}.old", change.old, depth + 1),
            "changed": sorted(change.changed),
            "using": change.using,
            "statement": change.statement,
            "count": change.count,
        }

    def _id(self, key: str, field: str, id: Any, depth: int) -> Any:
        if isinstance(id, tuple):
            return {"$tuple": self._list(key, field, id, depth)}
        return self._value(key, field, id, depth)

    # --- Reading

    def read(self, key: str, group: str, payload: bytes) -> KeptEvent:
        """Give what was written as an event again, without its instances.

        Raises:
            PoisonEventError: It is no event.
            UnknownVersionError: A newer program wrote it.
        """
        seen: list[Reference] = []
        try:
            kept = json.loads(payload, object_hook=lambda found: _untagged(found, seen))
            if kept["v"] == VERSION:
                event = Event(group=group, key=key, context=kept["context"], **kept["data"])
                return KeptEvent(event, bool(seen))
            reason = f"its version is {kept['v']!r}"
        except UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}"
        if _is_newer(payload):
            raise UnknownVersionError
        raise PoisonEventError(key, reason)

    def loaded(self, kept: KeptEvent) -> Event:
        """Give the event with its instances, freshly loaded. It may block.

        Raises:
            MissingRowError: A row, or a model, is gone.
            PoisonEventError: Nobody knows instances of such a kind.
        """
        event = kept.event
        if not kept.refers:
            return event
        known: dict[str, Any] = {}
        context = self._filled(event.key, event.context, known)
        data = self._filled(event.key, event.data, known)
        return Event(group=event.group, key=event.key, context=context, **data)

    def _filled(self, key: str, value: Any, known: dict[str, Any]) -> Any:
        if isinstance(value, Reference):
            name = _dump([value.source, value.named]).decode()
            if name not in known:
                known[name] = self._load(key, value)
            return known[name]
        if isinstance(value, Mapping):
            return {name: self._filled(key, each, known) for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(key, each, known) for each in value]
        if isinstance(value, ModelChange):
            new = self._filled(key, value.new, known)
            return replace(value, new=new, old=self._filled(key, value.old, known))
        return value

    def _load(self, key: str, reference: Reference) -> Any:
        references = self._references.get(reference.source)
        if references is None:
            names = ", ".join(map(repr, sorted(self._references))) or "nobody"
            raise PoisonEventError(
                key,
                f"it names an instance of {reference.source!r}, and known here are {names}",
            )
        return references.load(reference.named)


def _read_change(kept: Any) -> ModelChange:
    return ModelChange(**{**kept, "changed": frozenset(kept["changed"])})


_READERS: dict[str, Callable[[Any], Any]] = {
    **{tag: read for tag, _, read in SCALARS.values()},
    "$change": _read_change,
    "$dict": dict,
    "$tuple": tuple,
    "$unknown": lambda kept: UNKNOWN,
}


def _untagged(found: dict[str, Any], seen: list[Reference]) -> Any:
    """Give what an object of JSON stands for; the innermost ones come first."""
    if len(found) != 1:
        return found
    (tag,) = found
    if not tag.startswith("$"):
        return found
    if tag == "$model":
        reference = Reference(found[tag]["source"], found[tag]["named"])
        seen.append(reference)
        return reference
    return _READERS[tag](found[tag])


def _is_newer(payload: bytes) -> bool:
    try:
        version = json.loads(payload)["v"]
    except UNREADABLE:
        return False
    return isinstance(version, int) and version > VERSION


def _dump(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _too_large(key: str, kept: Mapping[str, Any], size: int) -> LargeContextError:
    """Say which field is the largest."""
    sizes = {
        f"{part}.{name}": len(_dump(value))
        for part in ("context", "data")
        for name, value in _items(kept[part])
    }
    field = max(sizes, key=lambda name: sizes[name], default="context")
    return LargeContextError(
        key,
        field,
        f"it has {sizes.get(field, size)} of {size} bytes, and {MAX_PAYLOAD_BYTES} are kept in "
        f"all; keep it elsewhere and put what identifies it there",
    )


def _items(kept: Mapping[str, Any]) -> Iterable[Any]:
    if list(kept) == ["$dict"]:
        return list(kept["$dict"])
    return kept.items()
