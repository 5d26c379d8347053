"""Changes of one transaction, told together: vetoed before its commit, and admitted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import _GeneratorContextManager, contextmanager
from typing import Any, TypeVar, overload

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from oni.errors import ChangeRoundsError
from oni.sources._changes import coalesce, instances_of
from oni.sources.django._direct import Instances, tell_after_commit
from oni.sources.django._fates import Part, heed_savepoints
from oni.sources.django._hand_over import hand_over_changes
from oni.sources.django._watched import watched
from oni.values import ModelChange

__all__ = ["Veto", "atomic_events", "is_in_block", "tell"]

_ROUNDS = 10
_BLOCK = "oni_block"

Veto = Callable[[Sequence[ModelChange]], Any]
_F = TypeVar("_F", bound=Callable[..., Any])


class _Told(Part):
    """A change within a block, which has lost it when it is rolled back."""

    __slots__ = ("change", "instance")

    def __init__(self, change: ModelChange, instance: Any, made_after: int) -> None:
        super().__init__(made_after)
        self.change = change
        self.instance = instance


class _Block:
    """The changes of one database in one block."""

    def __init__(self, using: str, vetoes: Sequence[Veto]) -> None:
        self._using = using
        self._connection: Any = connections[using]
        heed_savepoints(self._connection)
        self.vetoes = list(vetoes)
        self._told: list[_Told] = []

    def tell(self, changes: Sequence[ModelChange], instance: Any) -> None:
        """Keep changes until the block ends."""
        for change in changes:
            told = _Told(change, instance, self._connection.savepoint_state)
            self._told.append(told)
            transaction.on_commit(told, using=self._using)

    def finish(self) -> None:
        """Ask those who may object, until they change nothing more; then admit the events."""
        vetoes = [*watched.vetoes, *self.vetoes]
        heard: list[_Told] = []
        for _ in range(_ROUNDS):
            kept = self._kept()
            changes = coalesce(told.change for told in kept)
            if kept == heard or not vetoes:
                hand_over_changes(self._using, changes)
                known = instances_of((each.change, each.instance) for each in kept)
                tell_after_commit(self._using, changes, known)
                return
            for veto in vetoes if changes else ():
                veto(changes)
            heard = kept
        raise ChangeRoundsError(_ROUNDS, [getattr(v, "__qualname__", repr(v)) for v in vetoes])

    def _kept(self) -> list[_Told]:
        """Give what was not rolled back."""
        kept = {id(function) for _, function, _ in self._connection.run_on_commit}
        return [told for told in self._told if id(told) in kept]


@overload
def atomic_events(using: _F, /) -> _F: ...


@overload
def atomic_events(
    using: str | None = None, *vetoes: Veto
) -> _GeneratorContextManager[None, None, None]: ...


def atomic_events(using: Any = None, *vetoes: Veto) -> Any:
    """Be a transaction whose changes are told together, at its end and before its commit.

    Several changes of one row are one; what a savepoint took back is none. Whoever may object is
    asked once, with all the changes, in this thread; where he raises, all of it is rolled back.
    Within another such block it is a savepoint of that one, which asks its vetoes, too.

    Else it is ``transaction.atomic``; as a decorator, too, with or without brackets.

    Args:
        using: The database's alias; None: the default one.
        vetoes: Functions that may object, beside those that are registered with
            :func:`oni.sources.django.api.register_veto`.

    Raises:
        ChangeRoundsError: The vetoes went on changing what they were asked about.
    """
    if callable(using):
        return _atomic_events(DEFAULT_DB_ALIAS, vetoes)(using)
    return _atomic_events(DEFAULT_DB_ALIAS if using is None else using, vetoes)


@contextmanager
def _atomic_events(alias: str, vetoes: Sequence[Veto]) -> Iterator[None]:
    connection: Any = connections[alias]
    with transaction.atomic(using=alias):
        around: _Block | None = getattr(connection, _BLOCK, None)
        if around is not None:
            around.vetoes += vetoes
            yield
            return
        block = _Block(alias, vetoes)
        setattr(connection, _BLOCK, block)
        try:
            yield
            block.finish()
        finally:
            setattr(connection, _BLOCK, None)


def is_in_block(using: str) -> bool:
    """Say whether this thread is in such a block of a database."""
    return getattr(connections[using], _BLOCK, None) is not None


def tell(using: str, changes: Sequence[ModelChange], instance: Any = None) -> None:
    """Tell of changes, in the transaction that they were made in.

    Outside :func:`atomic_events` each call is an end of its own: vetoes are asked at once.

    Args:
        using: The database's alias.
        changes: The changes.
        instance: What all of them were made through, if there is one.
    """
    if not changes:
        return
    block: _Block | None = getattr(connections[using], _BLOCK, None)
    if block is not None:
        block.tell(changes, instance)
        return
    for veto in tuple(watched.vetoes):
        veto(changes)
    hand_over_changes(using, changes)
    known: Instances = {(change.model, change.id): instance for change in changes}
    tell_after_commit(using, changes, known)
