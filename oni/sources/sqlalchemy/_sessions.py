"""Finds the sessions that are meant: what SQLAlchemy's events can be listened to on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from oni.errors import UnsafeLedgerError, WatchError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import async_sessionmaker

__all__ = ["check_begun", "listened_on", "overlap"]

Target = type[Session] | Session
"""A class of sessions, or one session."""


def listened_on(sessions: object) -> Target:
    """Give what events are listened to on.

    An ``async_sessionmaker`` that makes plain sessions inside is told to make some of a class of
    its own from now on.

    Args:
        sessions: What makes sessions, a class of sessions, or a session.

    Raises:
        WatchError: It is something else.
    """
    if isinstance(sessions, scoped_session):
        sessions = sessions.session_factory
    if isinstance(sessions, sessionmaker):
        return sessions.class_
    if isinstance(sessions, Session):
        return sessions
    if isinstance(sessions, type) and issubclass(sessions, Session):
        return sessions
    inside = _inside(sessions)
    if inside is not None:
        return listened_on(inside)
    raise WatchError(
        f"{sessions!r} makes no sessions of SQLAlchemy: a sessionmaker, async_sessionmaker, "
        f"scoped_session, a class of sessions or a session is watched"
    )


def _inside(sessions: Any) -> Any:
    """Give the sessions inside of asynchronous ones, or what makes them; None: they are none."""
    # Importing it takes greenlet. Whoever has one of these has imported it.
    asynchronous = sys.modules.get("sqlalchemy.ext.asyncio")
    if asynchronous is None:
        return None
    if isinstance(sessions, asynchronous.async_scoped_session):
        sessions = sessions.session_factory
    if isinstance(sessions, asynchronous.AsyncSession):
        return sessions.sync_session
    if isinstance(sessions, asynchronous.async_sessionmaker):
        return _made_inside(sessions)
    is_class = isinstance(sessions, type) and issubclass(sessions, asynchronous.AsyncSession)
    return getattr(sessions, "sync_session_class", None) if is_class else None


def _made_inside(maker: async_sessionmaker[Any]) -> object:
    """Give the class of the sessions inside those that a maker makes, which shall be its own."""
    inside: object = maker.kw.get("sync_session_class") or maker.class_.sync_session_class
    if inside is Session:
        inside = type("WatchedSession", (Session,), {})
        maker.configure(sync_session_class=inside)
    return inside


def overlap(one: Target, other: Target) -> bool:
    """Say whether there may be a session that both mean."""
    if isinstance(one, Session) and isinstance(other, Session):
        return one is other
    if isinstance(one, Session):
        one, other = other, one
    assert isinstance(one, type)
    if isinstance(other, Session):
        return isinstance(other, one)
    return issubclass(one, other) or issubclass(other, one)


def check_begun(connection: sa.Connection) -> None:
    """Look whether a transaction that SQLAlchemy has begun has begun in SQLite, too.

    Raises:
        UnsafeLedgerError: It has not: a savepoint would outlive the rollback around it, so that
            events would be admitted of what never was.
    """
    if connection.dialect.name != "sqlite":
        return
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        raise UnsafeLedgerError(
            [
                "the driver begins transactions later than it is told to, so that a savepoint "
                "would outlive the rollback around it; call "
                "oni.ledger.sqlalchemy.prepare_engine(engine) as soon as the engine is made, with "
                "an AsyncEngine prepare_engine(engine.sync_engine)"
            ]
        )
