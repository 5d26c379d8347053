"""What is told directly of a transaction: kept until its end, told when it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import set_committed_value

from oni.interfaces import IEventSources
from oni.sources._changes import ChangeBuffer, instances_of
from oni.sources.sqlalchemy._capture import CapturedRow
from oni.values import Committed

__all__ = ["DirectBuffer"]

_Values = list[tuple[Any, Mapping[str, Any]]]


class DirectBuffer(ChangeBuffer):
    """The changes of one transaction that somebody wants to be told of directly.

    Beside those that are handed over to the ledger: these are kept, with their instances, until
    the transaction has ended, whenever the others are admitted.

    Args:
        hears: Says whether somebody wants to be told of a model.
    """

    __slots__ = ("_hears", "_rows", "_values")

    def __init__(self, hears: Callable[[str], bool]) -> None:
        super().__init__()
        self._hears = hears
        self._rows: dict[int, CapturedRow] = {}  # by the id of their changes, which they hold
        self._values: _Values | None = None

    def add_row(self, row: CapturedRow) -> None:
        """Keep a row's change, where somebody wants it."""
        if self._hears(row.change.model):
            self.add(row.change)
            self._rows[id(row.change)] = row

    def drop(self) -> None:
        """Let the innermost savepoint be rolled back; its instances are not kept until the end."""
        for change in self._pop():
            del self._rows[id(change)]

    def committed(self) -> None:
        """The transaction is committed. Keep the instances' values, which are about to expire."""
        states = [sa.inspect(each) for each in self._instances().values() if each is not None]
        self._values = [(state, _columns(state)) for state in states]

    def tell(self, session: Session, sources: IEventSources, sent: set[tuple[str, Any]]) -> None:
        """Tell what was committed, if it was. The session's transaction has ended.

        Args:
            session: The session.
            sources: Who is told.
            sent: The rows whose instances were told already, as others watch the session, too:
                the models' signals belong to all of them.
        """
        if self._values is None or not len(self) or self._is_within_another(session):
            return
        instances = {row: each for row, each in self._instances().items() if row not in sent}
        sent.update(instances)
        found = [
            Committed(each, instances.get((each.model, each.id))) for each in self.coalesced()
        ]
        with _as_committed(session, self._values):
            sources.tell_directly(found)

    def _instances(self) -> Mapping[tuple[str, Any], Any]:
        """Give the instances that rows were changed through last, as far as that was kept."""
        return instances_of((change, self._rows[id(change)].instance) for change in self)

    def _is_within_another(self, session: Session) -> bool:
        """Say whether somebody else's transaction is around it, which may yet be rolled back."""
        models = {row.model for row in self._rows.values()}
        binds = [session.get_bind(mapper=sa.inspect(model)) for model in models]
        return any(isinstance(bind, sa.Connection) and bind.in_transaction() for bind in binds)


def _columns(state: InstanceState[Any]) -> Mapping[str, Any]:
    """Give the values of an instance's columns, as far as they are loaded."""
    names = state.mapper.column_attrs.keys()
    return {name: state.dict[name] for name in names if name in state.dict}


@contextmanager
def _as_committed(session: Session, values: _Values) -> Iterator[None]:
    """Let instances have the values that were committed; expire them again at the end."""
    filled = []
    for state, columns in values:
        instance = state.obj()
        if not state.expired:
            continue  # nothing expires in its session, or it has left it
        filled.append(state)
        for name, value in columns.items():
            set_committed_value(instance, name, value)
    try:
        yield
    finally:
        for state in filled:
            if state.persistent and state.session is session:
                session.expire(state.obj(), state.unmodified if state.modified else None)
