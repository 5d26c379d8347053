"""A process with an outbox, for tests that kill it.

``python -m tests.integration.outbox_worker WAY DATA LEDGER MODE NAME``: the data, a table
``datum``, and the outbox are in the database of the URL ``DATA``, worked with the ``WAY`` of
``sqlalchemy`` or ``django``; the ledger is at the URL ``LEDGER``.

``commit``: writes data with an event for each, and says so after each commit, until it is killed.
Each third transaction is rolled back. What it writes has names that begin with ``NAME``.

``relay``: takes what is there to the ledger, and ends.

``die``: is killed when the ledger has admitted the first batch, before it is removed.

``both``: commits and relays at the same time, until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from oni.interfaces import IOutbox
from oni.ledger import Ledger, Relay, store_for
from oni.ledger.sqlalchemy import SqlAlchemyOutbox, prepare_engine
from oni.values import Admission, Handling, LedgerEvent

PAUSE = 0.02  # seconds


class SqlAlchemyProgram:
    """A program that writes with SQLAlchemy."""

    def __init__(self, url: str) -> None:
        self._engine = prepare_engine(sa.create_engine(url))
        self.outbox: IOutbox = SqlAlchemyOutbox(self._engine)

    @contextmanager
    def write(self, name: str) -> Iterator[Any]:
        """Write a datum in a transaction."""
        with self._engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO datum VALUES (:name)"), {"name": name})
            yield connection


class DjangoProgram:
    """A program that writes with Django."""

    def __init__(self, url: str) -> None:
        from django.conf import settings

        settings.configure(DATABASES={"default": database(sa.make_url(url))}, USE_TZ=True)
        import django

        from oni.ledger.django import DjangoOutbox

        django.setup()
        self.outbox: IOutbox = DjangoOutbox()

    @contextmanager
    def write(self, name: str) -> Iterator[Any]:
        """Write a datum in a transaction."""
        from django.db import connection, transaction

        with transaction.atomic():
            connection.cursor().execute("INSERT INTO datum VALUES (%s)", [name])
            yield connection


def database(url: sa.URL) -> dict[str, Any]:
    """Give a URL as Django has it."""
    if url.get_backend_name() == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.database,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=full",
            },
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "HOST": url.host,
        "PORT": str(url.port),
    }


PROGRAMS: dict[str, Any] = {"sqlalchemy": SqlAlchemyProgram, "django": DjangoProgram}


class DyingLedger(Ledger):
    """Kills its process when it has admitted something."""

    def admit(self, events: Sequence[LedgerEvent]) -> Deferred[Sequence[Admission]]:
        """Admit, and die."""
        return super().admit(events).addCallback(_die)


def _die(result: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class RollBack(Exception):  # noqa: N818 - it is none
    """Ends a transaction."""


def say(**words: Any) -> None:
    """Write a line."""
    print(json.dumps(words), flush=True)


def commit(program: Any, name: str) -> None:
    """Write data, one after the other, without an end."""
    for number in count():
        key = f"{name}-{number}"
        try:
            with program.write(key) as connection:
                program.outbox.put(connection, [LedgerEvent(key, "g", b"", (Handling("mail"),))])
                if number % 3 == 2:
                    raise RollBack
        except RollBack:
            continue
        program.outbox.wake()
        say(committed=key)


async def live(reactor: Any, way: str, data: str, ledger_url: str, mode: str, name: str) -> None:
    """Do what is wanted."""
    program = PROGRAMS[way](data)
    if mode == "commit":
        await deferToThread(commit, program, name)
    kind = DyingLedger if mode == "die" else Ledger
    ledger = kind(store_for(ledger_url), reactor=reactor)
    await ledger.start()
    relay = Relay(program.outbox, ledger, interval=PAUSE, reactor=reactor)
    await relay.start()
    if mode == "both":
        await deferToThread(commit, program, name)
    while relay.statistics()["backlog"] or not relay.statistics()["looks"]:
        await deferLater(reactor, PAUSE)
    await relay.stop()
    await ledger.stop()
    say(relayed=relay.statistics()["admitted"])


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(live(reactor, *words)), sys.argv[1:])
