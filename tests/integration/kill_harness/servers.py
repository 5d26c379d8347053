"""Runs what a store needs, and gives the place in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kill_harness.places import Place, RedisPlace, SqlPlace, sqlite_place
from tests.integration.postgres import Postgres, needs_postgres, running_postgres
from tests.integration.redis_server import RedisServer, needs_redis, running_redis

__all__ = ["STORES", "Server", "missing", "params", "running"]

STORES = ("sqlite", "postgresql", "redis")


_NEEDS = {"postgresql": needs_postgres, "redis": needs_redis}
_RUN: dict[str, tuple[Any, type[Any]]] = {
    "postgresql": (running_postgres, SqlPlace),
    "redis": (running_redis, RedisPlace),
}


@dataclass(frozen=True)
class Server:
    """What a store lives in.

    Attributes:
        place: The place, without a table in it.
        restart: Kills the server and starts it again; None where there is none.
    """

    place: Place
    restart: Callable[[], None] | None = None


def missing(store: str) -> str:
    """Say what is not installed that a store needs, ``""`` if everything is."""
    mark = _NEEDS.get(store)
    return str(mark.kwargs["reason"]) if mark is not None and mark.args[0] else ""


def params() -> list[object]:
    """Give the stores as parameters of a test, each with what it needs."""
    return [pytest.param(store, marks=_NEEDS.get(store, ())) for store in STORES]


@contextmanager
def running(store: str, folder: Path) -> Iterator[Server]:
    """Run what a store needs, and leave nothing behind but files."""
    if store == "sqlite":
        yield from _open(Server(sqlite_place(folder)))
        return
    run, place = _RUN[store]
    with run() as server:
        yield from _open(Server(place(server.url), lambda: _restart(server)))


def _open(server: Server) -> Iterator[Server]:
    server.place.open()
    try:
        yield server
    finally:
        server.place.close()


def _restart(server: Postgres | RedisServer) -> None:
    server.kill()
    server.start()
