"""What is special about PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_hex
from threading import Lock

from oni.errors import (
    LedgerCorruptError,
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    UnsafeLedgerError,
)
from oni.ledger._sql import Connection, Connections, Dedicated
from oni.ledger._transaction import LockedError, LostRaceError

__all__ = ["Postgres"]

_LOCK_TIMEOUT = "10s"
_LOOK_TIMEOUT = "1s"  # nobody who only looks whether an owner lives keeps its lock for so long
_GRACE = 2.0  # seconds: so long does everybody have to come back after a server has been away
_SETUP_LOCK = 0x6F6E695F6C656467  # "oni_ledg"

# Codes and classes of codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOST_RACE = {"40001", "40P01"}
_LOCKED = {"55P03"}
_SPOILT = {"25P02"}
_UNAVAILABLE = {"08", "57", "55", "53", "58", "25"}
_FULL = {"53100"}
_DAMAGED = {"XX001", "XX002"}


class Postgres:
    """A server. Owners are seen to live by advisory locks of a session that each one keeps.

    Args:
        clock: Gives the time, seconds since 1970; None: the server's.
        seconds: Gives seconds that only run forward.
    """

    label = "effects once"
    begins_with: Sequence[str] = (f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'",)
    joins_with: Sequence[str] = (
        # Without one it would wait for as long as somebody else holds the same key.
        f"SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT}', true) "
        "WHERE current_setting('lock_timeout') = '0'",
    )
    alone: Sequence[str] = (f"SELECT pg_advisory_xact_lock({_SETUP_LOCK})",)
    skip_locked = " FOR UPDATE OF d SKIP LOCKED"
    locked = " FOR UPDATE"

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._sure_at = seconds() - _GRACE
        self._missed: set[str] = set()  # owners whose session was lost
        self._sessions: dict[str, Dedicated] = {}
        self._lock = Lock()

    def now(self, connection: Connection) -> float:
        """See :class:`oni.ledger._sql.Database`."""
        if self._clock is not None:
            return self._clock()
        rows = connection.rows("SELECT extract(epoch FROM clock_timestamp())::double precision")
        return float(rows[0][0])

    def check(self, connections: Connections) -> Sequence[str]:
        """See :class:`oni.ledger._sql.Database`."""
        with connections.begin() as connection:  # those that read may be isolated in another way
            problems = list(_problems(connection))
        probe = token_hex(16)  # of its own: another that opens its store now has another
        self.enter(connections, probe)
        try:
            if not self.is_alive(connections, probe):
                problems.append(
                    "a lock of one session is not seen by another: a pooler hands sessions out by "
                    "turns. Connect to the server itself, or let the pooler work by session"
                )
        finally:
            self.leave(probe)
        if problems:
            raise UnsafeLedgerError(problems)
        return []

    def translate(self, error: BaseException) -> Exception | None:
        """See :class:`oni.ledger._sql.Database`."""
        code = getattr(error, "sqlstate", None)
        if code in _LOST_RACE:
            return LostRaceError(f"two transactions were in each other's way: {error}")
        if code in _LOCKED:
            return LockedError(f"somebody holds what is needed for longer than that: {error}")
        if code in _SPOILT:
            return LedgerTransactionError(
                f"a statement of the transaction has failed, and was passed over: {error}"
            )
        if code in _FULL:
            return LedgerFullError(f"the server has no room: {error}")
        if code in _DAMAGED:
            return LedgerCorruptError(f"the server's data are damaged: {error}")
        # An error without a code is the driver's own: it has lost the connection.
        kinds = {kind.__name__ for kind in type(error).__mro__}
        lost = bool(kinds & {"OperationalError", "InterfaceError"})
        if (code is None and lost) or (code is not None and code[:2] in _UNAVAILABLE):
            return LedgerUnavailableError(f"the server does not answer, or not now: {error}")
        return None

    def enter(self, connections: Connections, owner: str) -> None:
        """See :class:`oni.ledger._sql.Database`. A session that was lost is made anew."""
        with self._lock:
            session = self._sessions.get(owner)
            if session is not None:
                try:
                    session.rows("SELECT 1")
                    return
                except LedgerUnavailableError:
                    self._missed.add(owner)
                    self._close(owner)
            session = self._sessions[owner] = connections.dedicate()
            try:
                _take(session, _number(owner))
            except BaseException:
                self._close(owner)
                raise
            if owner in self._missed:
                # Where the server was away, the others have lost theirs, too.
                self._missed.remove(owner)
                self._sure_at = self._seconds()

    def leave(self, owner: str) -> None:
        """See :class:`oni.ledger._sql.Database`."""
        with self._lock:
            self._missed.discard(owner)
            self._close(owner)

    def close(self) -> None:
        """See :class:`oni.ledger._sql.Database`."""
        for owner in list(self._sessions):
            self.leave(owner)

    def _close(self, owner: str) -> None:
        session = self._sessions.pop(owner, None)
        if session is not None:
            # The end of a session is noticed a little later, the end of its lock at once.
            with suppress(LedgerUnavailableError):
                session.rows("SELECT pg_advisory_unlock_all()")
            with suppress(LedgerUnavailableError):
                session.close()

    def is_alive(self, connections: Connections, owner: str) -> bool:
        """See :class:`oni.ledger._sql.Database`."""
        if not _is_owner(owner):
            return True  # not one of ours: its lease decides
        if self._seconds() - self._sure_at < _GRACE:
            return True
        with connections.begin(read=True) as connection:
            asked = connection.rows(f"SELECT pg_try_advisory_xact_lock({_number(owner)})")
            return not asked[0][0]


def _take(session: Dedicated, number: int) -> None:
    """Take an owner's lock, also where the server has not noticed that its old session is gone.

    Behind a wire that was cut it may believe so for hours. No other owner has this number, so
    that whoever holds the lock is that session.
    """
    try:
        session.rows(f"SELECT set_config('lock_timeout', '{_LOOK_TIMEOUT}', false)")
        session.rows(f"SELECT pg_advisory_lock({number})")
    except LockedError:
        session.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND granted AND objsubid = 1 AND pid <> pg_backend_pid() AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) "
            f"AND (classid::bigint << 32) | objid::bigint = {number}"
        )
        session.rows(f"SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT}', false)")
        session.rows(f"SELECT pg_advisory_lock({number})")


def _problems(connection: Connection) -> Sequence[str]:
    problems = []
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if connection.rows(f"SHOW {setting}")[0][0] == "off":
            problems.append(
                f"{setting} is off, so that the server may forget what it has committed; let it "
                f"be on"
            )
    if not connection.in_transaction:
        problems.append("the connection is in autocommit mode; let transactions begin")
    if connection.rows("SELECT pg_is_in_recovery()")[0][0]:
        problems.append("the server is a standby, which cannot be written to")
    level = connection.rows("SHOW transaction_isolation")[0][0]
    if level != "read committed":
        problems.append(
            f"transactions are isolated as {level}, where one does not see what another one has "
            f"committed meanwhile; let it be read committed"
        )
    return problems


def _is_owner(owner: str) -> bool:
    return len(owner) == 32 and all(digit in "0123456789abcdef" for digit in owner)


def _number(owner: str) -> int:
    """Give the number of an owner's lock: half of its 128 bits, with a sign."""
    return int.from_bytes(bytes.fromhex(owner[:16]), signed=True)
