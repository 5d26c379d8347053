"""What is special about SQLite."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from oni.errors import (
    LedgerCorruptError,
    LedgerFullError,
    LedgerUnavailableError,
    UnsafeLedgerError,
)
from oni.ledger._file_locks import FileLocks
from oni.ledger._filesystems import is_on_network
from oni.ledger._sql import Connection, Connections

__all__ = ["Sqlite"]

_OLDEST = (3, 24)  # ON CONFLICT

# Primary result codes, and what is left of IOERR: https://sqlite.org/rescode.html
_LOCKED = {5, 6}  # BUSY, LOCKED
_IO, _CORRUPT, _FULL, _NOT_A_DATABASE = 10, 11, 13, 26
# A write, a sync, a truncation, or the room for shared memory: where a disk or a quota is full.
_NO_ROOM = {778, 1034, 1546, 4874}
_ELSEWHERE = {8, 14}  # READONLY, CANTOPEN


class Sqlite:
    """A database in one file. Owners are seen to live by locks on files beside it.

    Args:
        clock: Gives the time, seconds since 1970.
        file: The file's name, for messages, where it is known before it is opened.
        is_for_tests: Whether it may be in memory, as nothing needs to be kept.
    """

    label = "effects once"
    begins_with: Sequence[str] = ()
    joins_with: Sequence[str] = ()
    alone: Sequence[str] = ()
    skip_locked = locked = ""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        file: str | None = None,
        is_for_tests: bool = False,
    ) -> None:
        self._clock = clock
        self._is_for_tests = is_for_tests
        self._path = Path(file).resolve() if file else None
        self._locks: FileLocks | None = None

    def now(self, connection: Connection) -> float:
        """See :class:`oni.ledger._sql.Database`."""
        return self._clock()

    def check(self, connections: Connections) -> Sequence[str]:
        """See :class:`oni.ledger._sql.Database`. Nothing is written."""
        if self._path is not None and not self._path.parent.is_dir():
            # It may come: a disk that is mounted later, say.
            raise LedgerUnavailableError(f"{self._path.parent} is no folder, to keep a file in")
        with connections.begin(read=True) as connection:
            (file,) = [row[2] for row in connection.rows("PRAGMA database_list") if row[0] == 0]
            self._path = Path(file).resolve() if file else None
            if self._path is not None and self._locks is None:
                self._locks = FileLocks(Path(f"{self._path}.owners"))
            problems = list(self._problems(connection))
            if problems:
                raise UnsafeLedgerError(problems)
            self._look_for_damage(connection)
            return list(_warnings(connection))

    def _problems(self, connection: Connection) -> Sequence[str]:
        problems = []
        if self._path is None and not self._is_for_tests:
            problems.append(
                "an SQLite database in memory is gone with its connection; name a file, or use "
                "MemoryStore where nothing needs to be kept"
            )
        elif self._path is not None and is_on_network(self._path):
            problems.append(
                f"{self._path} is on a network file system, where SQLite's locks do not hold; "
                f"put it on a local disk, or use PostgreSQL"
            )
        version = str(connection.rows("SELECT sqlite_version()")[0][0])
        if tuple(map(int, version.split(".")[:2])) < _OLDEST:
            problems.append(f"SQLite {version} is too old; it must be 3.24 or later")
        if not connection.in_transaction:
            problems.append(
                "the driver begins transactions later than it is told to, so that a savepoint "
                "would outlive the rollback around it; call "
                "oni.ledger.sqlalchemy.prepare_engine(engine) as soon as the engine is made"
            )
        mode = str(connection.rows("PRAGMA journal_mode")[0][0])
        if self._path is not None and mode in ("off", "memory"):
            problems.append(
                f"PRAGMA journal_mode is {mode}, so that a crash damages the file; let it be wal"
            )
        if connection.rows("PRAGMA synchronous")[0][0] == 0:
            problems.append(
                "PRAGMA synchronous is OFF, so that a failure of the machine damages the file; "
                "let it be FULL"
            )
        return problems

    def _look_for_damage(self, connection: Connection) -> None:
        found = [str(row[0]) for row in connection.rows("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise self._damaged("; ".join(found))

    def translate(self, error: BaseException) -> Exception | None:
        """See :class:`oni.ledger._sql.Database`."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return None
        primary = code & 0xFF
        where = self._path or "the ledger's database"
        if primary in _LOCKED:
            return LedgerUnavailableError(f"{where} is locked by another writer: {error}")
        if primary == _FULL or code in _NO_ROOM:
            return LedgerFullError(f"there is no room to write {where}: {error}")
        if primary in (_CORRUPT, _NOT_A_DATABASE):
            return self._damaged(str(error))
        if primary == _IO or primary in _ELSEWHERE:
            return LedgerUnavailableError(f"{where} cannot be read or written: {error}")
        return None

    def _damaged(self, what: str) -> LedgerCorruptError:
        where = self._path or "FILE"
        return LedgerCorruptError(
            f"{where} is damaged ({what}). It was left as it is. Put a backup in its place, or "
            f"save what can be saved with: sqlite3 '{where}' .recover | sqlite3 '{where}.new'"
        )

    def enter(self, connections: Connections, owner: str) -> None:
        """See :class:`oni.ledger._sql.Database`."""
        if self._locks is not None:
            self._locks.enter(owner)

    def leave(self, owner: str) -> None:
        """See :class:`oni.ledger._sql.Database`."""
        if self._locks is not None:
            self._locks.leave(owner)

    def close(self) -> None:
        """See :class:`oni.ledger._sql.Database`."""
        if self._locks is not None:
            self._locks.close()

    def is_alive(self, connections: Connections, owner: str) -> bool:
        """See :class:`oni.ledger._sql.Database`."""
        return self._locks is None or self._locks.is_alive(owner)


def _warnings(connection: Connection) -> Sequence[str]:
    warnings = []
    if connection.rows("PRAGMA synchronous")[0][0] == 1:
        warnings.append(
            "PRAGMA synchronous is NORMAL: a killed process loses nothing, but a machine that "
            "fails may forget what was completed last, and it is done again; FULL forgets nothing"
        )
    mode = str(connection.rows("PRAGMA journal_mode")[0][0])
    if mode != "wal":
        warnings.append(f"PRAGMA journal_mode is {mode}: reading waits for writing; let it be wal")
    return warnings
