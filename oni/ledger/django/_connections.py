"""Django's connections, as the ledger and the outbox need them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock, Thread, current_thread
from typing import Any

from django.db import Error, transaction
from django.db import connections as all_connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionDoesNotExist, ConnectionProxy
from twisted.logger import Logger

from oni.errors import LedgerTransactionError, LedgerUrlError, UnsafeLedgerError
from oni.ledger._drivers import ended, forked, is_in_transaction
from oni.ledger._postgres import Postgres
from oni.ledger._sql import Database, Row, Values, with_percent
from oni.ledger._sqlite import Sqlite

__all__ = ["AliasConnections", "database_of", "settings_problems"]

_log = Logger()

_NONE: Mapping[str, Any] = {}
_WRITES_FIRST = ("IMMEDIATE", "EXCLUSIVE")
# What Django's test runner calls the databases that it makes in memory.
_IN_MEMORY_FOR_TESTS = "file:memorydb_"


def database_of(using: str, clock: Callable[[], float] | None) -> Database:
    """Say what is special about the database that an alias names.

    Raises:
        LedgerUrlError: There is no such alias, or it is another kind of database.
    """
    try:
        wrapper = all_connections[using]
    except ConnectionDoesNotExist as error:
        known = ", ".join(repr(alias) for alias in all_connections)
        raise LedgerUrlError(using, f"DATABASES has {known}") from error
    if wrapper.vendor == "sqlite":
        name = str(wrapper.settings_dict["NAME"])
        return Sqlite(
            clock or time.time,
            None if wrapper.is_in_memory_db() or name.startswith("file:") else name,
            is_for_tests=name.startswith(_IN_MEMORY_FOR_TESTS),
        )
    if wrapper.vendor == "postgresql":
        return Postgres(clock)
    raise LedgerUrlError(
        using, f"it is kept in SQLite or PostgreSQL, not with {wrapper.display_name}"
    )


def settings_problems(using: str) -> Sequence[str]:
    """Say what is wrong with the settings of a database for a ledger or an outbox in it.

    It connects to nothing.

    Args:
        using: An alias of ``DATABASES``.
    """
    wrapper = all_connections[using]
    name = f"DATABASES[{using!r}]"
    problems = []
    if not wrapper.settings_dict["AUTOCOMMIT"]:
        problems.append(f"{name} has AUTOCOMMIT off, so that atomic blocks commit nothing")
    mode = wrapper.settings_dict["OPTIONS"].get("transaction_mode") or ""
    if wrapper.vendor == "sqlite" and mode.upper() not in _WRITES_FIRST:
        problems.append(
            f"{name} lets transactions begin without the lock for writing, so that one that "
            "reads first is refused when it writes while another one does; let its OPTIONS "
            'have "transaction_mode": "IMMEDIATE"'
        )
    return problems


class AliasConnections:
    """The connections that an alias of ``DATABASES`` names: one for each thread.

    Those that it was the first to open are closed by :meth:`close`, or once their thread has
    ended: outside of requests nobody else would.

    Args:
        using: The alias.
        database: What is special about it.
    """

    def __init__(self, using: str, database: Database) -> None:
        self._using = using
        self._database = database
        self._lock = Lock()
        self._opened: list[tuple[Thread, BaseDatabaseWrapper]] = []
        self._process: int | None = None

    @contextmanager
    def begin(self, read: bool = False) -> Iterator[_Connection]:
        """See :class:`oni.ledger._sql.Connections`.

        A transaction that writes is an atomic block, which must be the outermost one. What was
        given to ``on_commit`` in it runs when it is committed; its failures are logged, as they
        undo nothing.
        """
        wrapper = all_connections[self._using]
        with self._translated():
            self._look_at(wrapper)
            if read:
                with _reading(wrapper):
                    yield _Connection(wrapper)
            else:
                with self._atomic(wrapper):
                    for statement in self._database.begins_with:
                        _Connection(wrapper).change(statement)
                    connection = _Connection(wrapper, True)
                    yield connection
                    connection.check()

    def _look_at(self, wrapper: BaseDatabaseWrapper) -> None:
        """See that a connection can be used, and remember it if it is opened by that."""
        if self._process is None:
            self._process = os.getpid()
        elif self._process != os.getpid():
            raise forked()
        if wrapper.connection is None:
            wrapper.ensure_connection()
            self._remember(wrapper)
        elif not wrapper.in_atomic_block and not wrapper.is_usable():
            wrapper.close()  # it is opened again when it is used
        if not wrapper.in_atomic_block and not wrapper.get_autocommit():
            raise LedgerTransactionError(
                f"autocommit of the connection {self._using!r} was turned off in this thread; the "
                "ledger can neither commit nor roll back without ending what was begun before"
            )

    def _remember(self, wrapper: BaseDatabaseWrapper) -> None:
        with self._lock:
            others = [each for each in self._opened if each[1] is not wrapper]
            ended = [each for each in others if not each[0].is_alive()]
            self._opened = [each for each in others if each[0].is_alive()]
            self._opened.append((current_thread(), wrapper))
        for _, other in ended:
            _close(other)

    @contextmanager
    def _atomic(self, wrapper: BaseDatabaseWrapper) -> Iterator[None]:
        is_outermost = not wrapper.in_atomic_block
        committed: list[bool] = []
        try:
            with ExitStack() as stack:
                try:
                    stack.enter_context(transaction.atomic(using=self._using, durable=True))
                except RuntimeError as error:
                    raise LedgerTransactionError(
                        "a transaction of the ledger's own cannot begin within an atomic block of "
                        f"{self._using!r}; to take part in the block, use admit_within"
                    ) from error
                if is_outermost:  # in a TestCase of Django's it is not, and nothing is committed
                    transaction.on_commit(lambda: committed.append(True), using=self._using)
                yield
        except BaseException:
            if not committed:
                raise
            _log.failure("What a transaction had left to do after its commit has failed")

    def join(self, connection: Any) -> _Connection:
        """See :class:`oni.ledger._sql.Connections`.

        Args:
            connection: The alias; or ``connections[alias]``, or ``django.db.connection``.
        """
        wrapper = all_connections[self._using]
        wrapper.ensure_connection()  # which is where Django refuses asynchronous callers
        if isinstance(connection, ConnectionProxy):
            connection = all_connections[connection.alias]
        alias = getattr(connection, "alias", connection)
        if not isinstance(connection, str | BaseDatabaseWrapper):
            raise LedgerTransactionError(
                f"a {type(connection).__name__} is no connection of Django's, nor an alias"
            )
        if alias != self._using:
            raise LedgerTransactionError(
                f"the connection is {alias!r}, and the ledger is kept in {self._using!r}"
            )
        if connection is not wrapper and not isinstance(connection, str):
            raise LedgerTransactionError(
                f"the connection {alias!r} is another thread's; use this thread's own"
            )
        if not wrapper.in_atomic_block:
            raise LedgerTransactionError(
                f"the connection {alias!r} is in no transaction, so that each statement is "
                f"committed by itself; use: with transaction.atomic(using={alias!r})"
            )
        return _Connection(wrapper)

    def dedicate(self) -> _Dedicated:
        """See :class:`oni.ledger._sql.Connections`. No pool knows of it."""
        wrapper = all_connections[self._using].copy()
        wrapper.settings_dict["OPTIONS"].pop("pool", None)
        wrapper.settings_dict["AUTOCOMMIT"] = True
        wrapper.inc_thread_sharing()
        with self._translated():
            wrapper.ensure_connection()
        return _Dedicated(wrapper, self)

    def close(self) -> None:
        """Close what was opened for the ledger, but what somebody has a transaction on."""
        with self._lock:
            opened, self._opened = self._opened, []
        for _, wrapper in opened:
            _close(wrapper)

    # --- What is looked at in the beginning

    def opened(self, look: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Look at Django's settings, and then at the database.

        Args:
            look: Looks at the database, and gives warnings.

        Raises:
            UnsafeLedgerError: The settings must be different.
        """
        problems = settings_problems(self._using)
        if problems:
            raise UnsafeLedgerError(problems)
        warnings = list(look())
        if any(warning.startswith("PRAGMA") for warning in warnings):
            warnings.append(
                f"the OPTIONS of DATABASES[{self._using!r}] may have an init_command for that: "
                '"PRAGMA journal_mode=wal; PRAGMA synchronous=full"'
            )
        return warnings

    def must_have(self, tables: Sequence[str]) -> None:
        """Refuse to go on if one of these tables is not there.

        Raises:
            UnsafeLedgerError: One is missing.
        """
        with self.begin(read=True) as connection:
            there = set(connection.raw.introspection.table_names())
        missing = ", ".join(table for table in tables if table not in there)
        if missing:
            where = "" if self._using == "default" else f" --database={self._using}"
            raise UnsafeLedgerError(
                [
                    f"the database {self._using!r} has no table {missing}; let INSTALLED_APPS "
                    f"have 'oni.sources.django', and run: manage.py migrate{where}"
                ]
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Say in Oni's errors what is not a mistake in the program."""
        try:
            yield
        except Error as error:
            told = self._database.translate(error.__cause__) if error.__cause__ else None
            if told is None:
                raise
            raise told from error


class _Connection:
    """A connection within a transaction.

    Args:
        raw: Django's.
        is_own: Whether nobody but us may end the transaction.
    """

    __slots__ = ("_is_own", "raw")

    def __init__(self, raw: BaseDatabaseWrapper, is_own: bool = False) -> None:
        self.raw = raw
        self._is_own = is_own

    @property
    def in_transaction(self) -> bool:
        """Whether the database itself is in a transaction."""
        driver = self.raw.connection
        return driver is not None and is_in_transaction(driver, self.raw.vendor == "sqlite")

    def check(self) -> None:
        """Refuse to go on when somebody has ended the transaction."""
        if not self._is_own:
            return
        if not self.in_transaction:
            raise ended()
        if self.raw.needs_rollback:
            raise LedgerTransactionError(
                "the transaction that a handler was given can only be rolled back: a statement or "
                "a block in it has failed, and was passed over"
            ) from self.raw.rollback_exc

    def rows(self, statement: str, values: Values = _NONE) -> Sequence[Row]:
        """Read."""
        self.check()
        return _rows(self.raw, statement, values)

    def change(self, statement: str, values: Values = _NONE) -> int:
        """Write, and say how many rows were changed."""
        self.check()
        with self.raw.cursor() as cursor:
            cursor.execute(with_percent(statement), dict(values) if values else None)
            return int(cursor.rowcount)

    def change_each(self, statement: str, values: Sequence[Values]) -> int:
        """Write the same with each of these values, and say how many rows were changed in all."""
        # One by one: with executemany psycopg2 tells of the last one alone.
        return sum(self.change(statement, each) for each in values)


class _Dedicated:
    """A connection of its own, in no transaction, which one thread at a time may use."""

    def __init__(self, wrapper: BaseDatabaseWrapper, connections: AliasConnections) -> None:
        self._wrapper = wrapper
        self._connections = connections

    def rows(self, statement: str, values: Values = _NONE) -> Sequence[Row]:
        """Read."""
        with self._connections._translated():
            return _rows(self._wrapper, statement, values)

    def close(self) -> None:
        """End it."""
        with self._connections._translated():
            self._wrapper.close()


def _rows(wrapper: BaseDatabaseWrapper, statement: str, values: Values) -> Sequence[Row]:
    with wrapper.cursor() as cursor:
        cursor.execute(with_percent(statement), dict(values) if values else None)
        return list(cursor.fetchall())


@contextmanager
def _reading(wrapper: BaseDatabaseWrapper) -> Iterator[None]:
    """Let a connection be in a transaction that takes no lock for writing, as atomic blocks do."""
    if wrapper.in_atomic_block:
        yield
        return
    with wrapper.cursor() as cursor:
        cursor.execute("BEGIN")
    try:
        yield
    finally:
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("ROLLBACK")
        except Error:
            wrapper.close()  # which ends it, too


def _close(wrapper: BaseDatabaseWrapper) -> None:
    """Close a connection, whose thread has ended or will not use it any more."""
    if wrapper.in_atomic_block:
        return
    wrapper.inc_thread_sharing()
    try:
        with suppress(Error):
            wrapper.close()
    finally:
        wrapper.dec_thread_sharing()
