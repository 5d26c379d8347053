"""What one transaction does to rows: kept per savepoint, and made one change for each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from oni.values import UNKNOWN, ModelChange

__all__ = ["ChangeBuffer", "coalesce", "instances_of"]

_Row = tuple[str, str, Any]


class ChangeBuffer:
    """Keeps the changes of one transaction, in layers: one for each savepoint in it.

    It belongs to its transaction, in whichever thread that is.
    """

    __slots__ = ("_layers",)

    def __init__(self) -> None:
        self._layers: list[list[ModelChange]] = [[]]

    @property
    def depth(self) -> int:
        """How many savepoints are open."""
        return len(self._layers) - 1

    def add(self, change: ModelChange) -> None:
        """Keep a change, in the innermost savepoint."""
        self._layers[-1].append(change)

    def push(self) -> None:
        """Begin a savepoint."""
        self._layers.append([])

    def merge(self) -> None:
        """Let the innermost savepoint be released: its changes stand or fall with what is around.

        Raises:
            IndexError: There is none.
        """
        changes = self._pop()
        self._layers[-1].extend(changes)

    def drop(self) -> None:
        """Let the innermost savepoint be rolled back: its changes never were.

        Raises:
            IndexError: There is none.
        """
        self._pop()

    def clear(self) -> None:
        """Forget everything: the transaction has ended."""
        self._layers = [[]]

    def coalesced(self) -> list[ModelChange]:
        """Give what all of it comes to, one change for each row; see :func:`coalesce`."""
        return coalesce(self)

    def _pop(self) -> list[ModelChange]:
        if not self.depth:
            raise IndexError("no savepoint is open")
        return self._layers.pop()

    def __iter__(self) -> Iterator[ModelChange]:
        """Give every change, in the order in which they were made."""
        for layer in self._layers:
            yield from layer

    def __len__(self) -> int:
        """Count the changes."""
        return sum(map(len, self._layers))


def coalesce(changes: Iterable[ModelChange]) -> list[ModelChange]:
    """Make one change of all that were made to a row, in the place of the first one.

    A row that is created and deleted again was never there; one that has its old values again was
    not changed; one that is deleted and created again was modified. Statements that changed rows
    without loading them stay as they are.
    """
    rows: dict[_Row | int, ModelChange] = {}
    for place, change in enumerate(changes):
        if change.action == "bulk":
            rows[place] = change
            continue
        row = (change.using, change.model, change.id)
        before = rows.get(row)
        both = change if before is None else _both(before, change)
        if both is None:
            del rows[row]
        else:
            rows[row] = both
    return list(rows.values())


def instances_of(changed: Iterable[tuple[ModelChange, Any]]) -> dict[tuple[str, Any], Any]:
    """Give what each row was saved or deleted through at last, by its model and primary key.

    A statement that modifies a row leaves it the instance that it was saved through before; one
    that makes or deletes it has none, whatever there was.

    Args:
        changed: Changes, in the order in which they were made, each with its instance or None.
    """
    found: dict[tuple[str, Any], Any] = {}
    for change, instance in changed:
        if instance is not None or change.action != "modified":
            found[change.model, change.id] = instance
    return found


def _both(before: ModelChange, after: ModelChange) -> ModelChange | None:
    """Give what two changes of one row come to, or None if that is nothing."""
    if before.action == "created":
        if after.action == "deleted":
            return None
        new = {**before.new, **after.new}
        changed = before.changed | after.changed
        return replace(after, action="created", new=new, old={}, changed=changed)
    if after.action == "deleted":
        return replace(after, old=_oldest(before, after))
    return _modified(before, after)


def _modified(before: ModelChange, after: ModelChange) -> ModelChange | None:
    new = {**before.new, **after.new}
    old = _oldest(before, after)
    touched = (
        before.changed | after.changed | (new.keys() if before.action == "deleted" else set())
    )
    changed = frozenset(name for name in touched if _differs(old, new, name))
    if not changed:
        return None
    return replace(after, action="modified", new=new, old=old, changed=changed)


def _oldest(before: ModelChange, after: ModelChange) -> dict[str, Any]:
    """Give the values before both: the second one saw those that the first one left alone."""
    old = {**after.old, **before.old}
    for name, value in before.old.items():
        if value is UNKNOWN and name not in before.changed:
            old[name] = after.old.get(name, UNKNOWN)
    for name in before.changed - before.old.keys():
        old[name] = UNKNOWN  # what the second one saw is what the first one wrote
    return old


def _differs(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> bool:
    value, was = new.get(name, UNKNOWN), old.get(name, UNKNOWN)
    if value is UNKNOWN or was is UNKNOWN:
        return True
    try:
        return bool(value != was)
    except Exception:  # noqa: BLE001 - a comparison may raise anything; then it is a change
        return True
