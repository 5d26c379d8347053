"""SQLAlchemy's connections, as the ledger and the outbox need them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from oni.errors import (
    LedgerTransactionError,
    LedgerUnavailableError,
    LedgerUrlError,
)
from oni.ledger._drivers import ended, forked, is_in_transaction
from oni.ledger._postgres import Postgres
from oni.ledger._sql import Connections, Database, Row, Values, with_percent
from oni.ledger._sqlite import Sqlite

__all__ = ["EngineConnections", "database_of", "engine_for", "make_tables", "prepare_engine"]

_NONE: Mapping[str, Any] = {}
_READ = "oni_read"
_WITH_LIBPQ = ("postgresql+psycopg", "postgresql+psycopg2")
# https://www.postgresql.org/docs/current/libpq-connect.html: seconds, the last one milliseconds.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}


def prepare_engine(
    engine: sa.Engine, *, busy_timeout: float = 30.0, synchronous: str = "FULL"
) -> sa.Engine:
    """Let an engine for SQLite begin transactions when it is told to, and write to the disk.

    Every transaction then begins with ``BEGIN IMMEDIATE``, so that one that reads first and writes
    later is not refused in between. With the execution option ``oni_read=True`` it begins with
    ``BEGIN``: such a one waits for no writer, and must not write. With any other database nothing
    happens.

    Args:
        engine: The engine. Connections that it has already are closed.
        busy_timeout: For how many seconds a transaction waits for another one that writes.
        synchronous: ``"FULL"``; ``"NORMAL"`` is many times as fast, and a machine that fails may
            forget what was written last.

    Returns:
        The same engine.
    """
    if engine.dialect.name != "sqlite" or event.contains(engine, "begin", _begin):
        return engine

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {int(busy_timeout * 1000)}",
            "journal_mode = wal",
            f"synchronous = {synchronous}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    event.listen(engine, "begin", _begin)
    engine.dispose()
    return engine


def _begin(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get(_READ)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begins_when_told(driver: Any) -> bool:
    """Say whether a driver of SQLite is in a transaction that it was told to begin.

    Drivers for asynchronous programs do not say as much as the others.
    """
    is_told = getattr(driver, "isolation_level", None) is None
    always = getattr(driver, "autocommit", None) is False  # from Python 3.12 on, if wished for
    return always or (is_told and getattr(driver, "in_transaction", True))


def engine_for(url: str) -> sa.Engine:
    """Make an engine, prepared, with PostgreSQL's driver chosen where none is named.

    Where the URL says nothing else, a server that cannot be reached any more is given up after
    half a minute, not after the system's quarter of an hour.

    Raises:
        LedgerUrlError: It is not an address of one of these databases.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.drivername in _WITH_LIBPQ:
            parsed = parsed.set(query={**_PATIENCE, **parsed.query})
        engine = sa.create_engine(parsed, pool_pre_ping=True)
    except SQLAlchemyError as error:
        raise LedgerUrlError(url.partition("://")[0] + "://...", str(error)) from error
    return prepare_engine(engine)


def database_of(engine: sa.Engine, clock: Callable[[], float] | None) -> Database:
    """Say what is special about an engine's database.

    Raises:
        LedgerUrlError: It is another kind of database.
    """
    if engine.dialect.name == "sqlite":
        return Sqlite(clock or time.time, engine.url.database)
    if engine.dialect.name == "postgresql":
        return Postgres(clock)
    raise LedgerUrlError(engine.url.render_as_string(), "a ledger is kept in SQLite or PostgreSQL")


def make_tables(connections: Connections, database: Database, metadata: sa.MetaData) -> None:
    """Make the tables that are missing, one process at a time."""
    with connections.begin() as connection:
        for statement in database.alone:
            connection.rows(statement)
        metadata.create_all(connection.raw)


class EngineConnections:
    """The connections of an engine.

    Args:
        engine: The engine.
        database: What is special about its database.
    """

    def __init__(self, engine: sa.Engine, database: Database) -> None:
        if engine.dialect.name == "postgresql":
            # Another level would let the same statements fail, or see another's rows too late.
            engine = engine.execution_options(isolation_level="READ COMMITTED")
        self._engine = engine
        self._database = database
        self._process = os.getpid()

    def close(self) -> None:
        """See :class:`oni.ledger._sql.Connections`."""
        self._engine.dispose()

    def join(self, connection: Any) -> _Connection:
        """See :class:`oni.ledger._sql.Connections`.

        Args:
            connection: SQLAlchemy's, or a session of its.
        """
        if isinstance(connection, Session):
            connection = connection.connection()
        if not isinstance(connection, sa.Connection):
            raise LedgerTransactionError(
                f"a {type(connection).__name__} is no connection or session of SQLAlchemy"
            )
        if connection.dialect.name != self._engine.dialect.name:
            raise LedgerTransactionError(
                f"the connection is one to {connection.dialect.name}, not to "
                f"{self._engine.dialect.name}"
            )
        if not connection.in_transaction():
            connection.begin()  # as its next statement would
        driver: Any = connection.connection.dbapi_connection
        if connection.dialect.name == "sqlite" and not _begins_when_told(driver):
            raise LedgerTransactionError(
                "the driver begins transactions later than it is told to, so that a savepoint "
                "would outlive the rollback around it; call "
                "oni.ledger.sqlalchemy.prepare_engine(engine) as soon as the engine is made"
            )
        if connection.dialect.name != "sqlite" and getattr(driver, "autocommit", False):
            raise LedgerTransactionError(
                "the connection is in autocommit mode, where each statement is committed by itself"
            )
        return _Connection(connection)

    @contextmanager
    def begin(self, read: bool = False) -> Iterator[_Connection]:
        """Give a connection in a transaction, which ends with the block."""
        if os.getpid() != self._process:
            raise forked()
        with self._translated(), self._engine.connect() as raw:
            if read:
                raw = raw.execution_options(**{_READ: True})
            root = raw.begin()
            try:
                for statement in () if read else self._database.begins_with:
                    raw.exec_driver_sql(statement)
                connection = _Connection(raw, None if read else root)
                yield connection
                connection.check()
                root.commit()
            finally:
                if root.is_active:
                    root.rollback()

    def dedicate(self) -> _Dedicated:
        """Give a connection that belongs to whoever asked, and is in no transaction."""
        with self._translated():
            raw = self._engine.connect()
            raw.detach()  # it takes no place in the pool
            driver: Any = raw.connection.dbapi_connection
            driver.autocommit = True  # psycopg's and psycopg2's word; SQLite needs none of this
            return _Dedicated(raw, self)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in Oni's errors what is not a mistake in the program."""
        try:
            yield
        except DBAPIError as error:
            told = self._database.translate(error.orig) if error.orig else None
            if told is None and error.connection_invalidated:
                told = LedgerUnavailableError(f"the connection was lost: {error.orig}")
            if told is None:
                raise
            raise told from error
        except PoolTimeoutError as error:
            raise LedgerUnavailableError(f"no connection is free: {error}") from error


class _Connection:
    """A connection within a transaction.

    Args:
        raw: SQLAlchemy's.
        root: The transaction that it must be in; None: somebody else's.
    """

    __slots__ = ("_root", "raw")

    def __init__(self, raw: sa.Connection, root: sa.RootTransaction | None = None) -> None:
        self.raw = raw
        self._root = root

    @property
    def in_transaction(self) -> bool:
        """Whether the database itself is in a transaction."""
        driver = self.raw.connection.dbapi_connection
        return is_in_transaction(driver, self.raw.dialect.name == "sqlite")

    def check(self) -> None:
        """Refuse to go on when somebody has ended the transaction."""
        root = self._root
        if root is not None and not (
            root.is_active and self.raw.get_transaction() is root and self.in_transaction
        ):
            raise ended()

    def rows(self, statement: str, values: Values = _NONE) -> Sequence[Row]:
        """Read."""
        return self._execute(statement, values).all()

    def change(self, statement: str, values: Values = _NONE) -> int:
        """Write, and say how many rows were changed."""
        return self._execute(statement, values).rowcount

    def change_each(self, statement: str, values: Sequence[Values]) -> int:
        """Write the same with each of these values, and say how many rows were changed in all."""
        if not self.raw.dialect.supports_sane_multi_rowcount:
            return sum(self.change(statement, each) for each in values)
        return self._execute(statement, [dict(each) for each in values]).rowcount

    def _execute(
        self, statement: str, values: Values | list[dict[str, Any]]
    ) -> sa.CursorResult[Any]:
        self.check()
        dialect = self.raw.dialect
        if dialect.name != "sqlite" and dialect.paramstyle != "pyformat":
            return self.raw.execute(_text(statement), values)
        if dialect.name != "sqlite":  # whose driver knows :name
            statement = with_percent(statement)
        if isinstance(values, Mapping):
            values = dict(values)
        return self.raw.exec_driver_sql(statement, values or None)


class _Dedicated:
    """A connection of its own, in no transaction."""

    def __init__(self, raw: sa.Connection, connections: EngineConnections) -> None:
        self._raw = raw
        self._connections = connections

    def rows(self, statement: str, values: Values = _NONE) -> Sequence[Row]:
        """Read."""
        if self._raw.invalidated:
            raise LedgerUnavailableError("the connection was lost")
        with self._connections._translated():
            return _Connection(self._raw).rows(statement, values)

    def close(self) -> None:
        """End it."""
        with self._connections._translated():
            self._raw.close()


@lru_cache(maxsize=256)
def _text(statement: str) -> sa.TextClause:
    return sa.text(statement)
