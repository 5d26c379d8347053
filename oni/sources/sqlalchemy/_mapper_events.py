"""Lets every mapper tell which rows a flush writes. One set of listeners serves all watchings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import InstanceState, Mapper, Session

from oni.sources.sqlalchemy._pending import Pending

__all__ = ["listen", "pendings", "take_pendings", "unlisten"]

_KEY = "oni.sources"


def pendings(session: Session) -> dict[Any, Pending]:
    """Give what those who watch a session follow, by who it is."""
    found: dict[Any, Pending] = session.info.setdefault(_KEY, {})
    return found


def take_pendings(session: Session) -> dict[Any, Pending]:
    """Give the same, and let the session be followed anew."""
    found: dict[Any, Pending] = session.info.pop(_KEY, {})
    return found


def _followers(state: InstanceState[Any]) -> Iterable[Pending]:
    session = state.session
    return session.info.get(_KEY, {}).values() if session is not None else ()


def _after_insert(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    for pending in _followers(state):
        pending.capture.inserted(mapper, state)


def _before_update(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    for pending in _followers(state):
        pending.capture.updating(mapper, connection, state)


def _after_update(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    if not state.has_identity:  # a new instance has taken the row of one that was to be deleted
        _after_insert(mapper, connection, state)


def _before_delete(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    for pending in _followers(state):
        pending.capture.deleting(mapper, connection, state)


def _after_delete(
    mapper: Mapper[Any], connection: sa.Connection, state: InstanceState[Any]
) -> None:
    for pending in _followers(state):
        pending.capture.deleted(state)


_LISTENERS: dict[str, Callable[..., None]] = {
    "after_insert": _after_insert,
    "before_update": _before_update,
    "after_update": _after_update,
    "before_delete": _before_delete,
    "after_delete": _after_delete,
}
_lock = Lock()
_watchings = 0


def listen() -> None:
    """Let mappers tell, for one watching more."""
    global _watchings
    with _lock:
        _watchings += 1
        if _watchings == 1:
            for name, listener in _LISTENERS.items():
                event.listen(Mapper, name, listener, raw=True)


def unlisten() -> None:
    """Let mappers tell one watching less."""
    global _watchings
    with _lock:
        _watchings -= 1
        if not _watchings:
            for name, listener in _LISTENERS.items():
                event.remove(Mapper, name, listener)
