"""Where a run's ledger is kept, seen from outside: what is in it, and whether it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import redis
import sqlalchemy as sa

from oni.ledger.redis import RedisEffects, RedisStore
from oni.ledger.sqlalchemy import SqlAlchemyStore, metadata, prepare_engine
from oni.values import Delivery

__all__ = ["Place", "RedisPlace", "SqlPlace", "deliveries", "sqlite_place", "write_effect"]

EFFECTS = "effects"
_ALL = 1_000_000


class Place(Protocol):
    """A database that a ledger is kept in."""

    kind: str
    """What kind of database."""

    url: str
    """Where workers find it."""

    store: Any
    """A store of the checker's own."""

    def prepare(self) -> None:
        """Empty it, so that no table is there."""

    def open(self) -> None:
        """Make what the ledger and the handlers need."""

    def effects(self) -> Counter[str]:
        """Count the effects in the database, by key."""

    def damage(self) -> str:
        """Say what is wrong with the database itself, ``""`` if nothing is."""

    def is_free(self) -> bool:
        """Say whether it can be written to now."""

    def close(self) -> None:
        """End every connection."""


class SqlPlace:
    """An SQLite file, or a PostgreSQL server.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.kind = url.partition(":")[0].partition("+")[0]
        self.url = url
        self._engine = prepare_engine(sa.create_engine(url, pool_pre_ping=True), busy_timeout=5.0)
        self._impatient = prepare_engine(sa.create_engine(url), busy_timeout=0.2)
        self.store = SqlAlchemyStore(self._engine)

    def prepare(self) -> None:
        """Drop everything."""
        with self._engine.begin() as connection:
            metadata.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE IF EXISTS effect")

    def open(self) -> None:
        """Make the tables."""
        self.store.open()
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE IF NOT EXISTS effect (key TEXT, attempt INTEGER)"
            )

    def effects(self) -> Counter[str]:
        """Count the rows."""
        with self._engine.begin() as connection:
            found = connection.exec_driver_sql("SELECT key, COUNT(*) FROM effect GROUP BY key")
            return Counter({row[0]: row[1] for row in found})

    def damage(self) -> str:
        """Ask SQLite; in both look for rows that belong to nothing."""
        with self._engine.begin() as connection:
            if self.kind == "sqlite":
                told = str(connection.exec_driver_sql("PRAGMA integrity_check").scalar_one())
                if told != "ok":
                    return told
            lonely = connection.exec_driver_sql(
                "SELECT COUNT(*) FROM oni_delivery AS d LEFT JOIN oni_event AS e "
                "ON e.key = d.key WHERE e.key IS NULL"
            ).scalar_one()
            return f"{lonely} deliveries have no event" if lonely else ""

    def is_free(self) -> bool:
        """Try."""
        try:
            with self._impatient.begin() as connection:
                connection.exec_driver_sql("DELETE FROM effect WHERE key = 'nothing'")
        except sa.exc.OperationalError:
            return False
        return True

    def close(self) -> None:
        """See :class:`Place`."""
        self.store.close()
        self._impatient.dispose()


class RedisPlace:
    """A Redis server.

    Args:
        url: Its address.
    """

    kind = "redis"

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = RedisStore(url)
        self._client = redis.Redis.from_url(url, protocol=2, decode_responses=True)

    def prepare(self) -> None:
        """Empty the server."""
        self._client.flushall()

    def open(self) -> None:
        """See :class:`Place`. There is nothing to make but what the store makes."""
        self.store.open()

    def effects(self) -> Counter[str]:
        """Count what is in the handlers' list."""
        return Counter(self._client.lrange(EFFECTS, 0, -1))

    def damage(self) -> str:
        """See :class:`Place`. The server looks at its file itself, when it starts."""
        return ""

    def is_free(self) -> bool:
        """See :class:`Place`. Nobody keeps anybody from it."""
        return True

    def close(self) -> None:
        """See :class:`Place`."""
        self.store.close()
        self._client.close()


def sqlite_place(folder: Path) -> SqlPlace:
    """Give a place in a folder."""
    return SqlPlace(f"sqlite:///{folder}/ledger.db")


def write_effect(transaction: Any, key: str, attempt: int) -> None:
    """Write an effect as a handler does, through what the ledger hands to it."""
    if isinstance(transaction, RedisEffects):
        transaction.queue("RPUSH", EFFECTS, key)
        return
    transaction.execute(
        sa.text("INSERT INTO effect (key, attempt) VALUES (:key, :attempt)"),
        {"key": key, "attempt": attempt},
    )


def deliveries(place: Place) -> Sequence[Delivery]:
    """Give every delivery."""
    with place.store.transaction(read=True) as transaction:
        return list(transaction.deliveries(None, None, _ALL))
