"""What is told directly of a transaction, by the thread that has committed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from django.db import connections, transaction
from django.db.models import Model
from twisted.logger import Logger

from oni.sources.django._fates import Part, heed_savepoints
from oni.sources.django._home import home
from oni.values import Committed, ModelChange

__all__ = ["Instances", "as_deleted", "tell_after_commit"]

_log = Logger()

Instances = Mapping[tuple[str, Any], Any]
"""The instances of changes, by their model's name and primary key."""


class _Telling(Part):
    """Is called after the commit; a rollback has forgotten it."""

    __slots__ = ("_committed",)

    def __init__(self, connection: Any, committed: Sequence[Committed]) -> None:
        heed_savepoints(connection)
        super().__init__(connection.savepoint_state)
        self._committed = committed

    def __call__(self) -> None:
        """Tell. It never fails: who has saved has done so, and other callbacks shall be called."""
        try:
            home.sources.tell_directly(self._committed)
        except BaseException:  # noqa: BLE001 - see above
            _log.failure("Nobody could be told directly of what was committed")


def tell_after_commit(using: str, changes: Sequence[ModelChange], instances: Instances) -> None:
    """Tell of changes when their transaction is committed, where somebody wants that."""
    hears = home.sources.hears_directly
    committed = [
        Committed(change, instances.get((change.model, change.id)))
        for change in changes
        if hears(change.model)
    ]
    if committed:
        telling = _Telling(connections[using], committed)
        transaction.on_commit(telling, using=using)


def as_deleted(instance: Model, label: str) -> Model | None:
    """Give an instance as it is, where somebody wants to be told: it loses its primary key."""
    return copy(instance) if home.sources.hears_directly(label) else None
