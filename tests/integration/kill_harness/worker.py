"""What runs in a process of a run: the source, or a worker."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.event import listen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from oni.command import main as command_line
from oni.errors import LedgerUnavailableError
from oni.ledger import Ledger, store_for
from oni.ledger._keeper import Keeper
from oni.ledger._outbox import SqlBatch
from oni.ledger.redis import RedisStore
from oni.ledger.sqlalchemy import SqlAlchemyOutbox, SqlAlchemyStore, metadata, prepare_engine
from oni.sources import EventSources
from tests.integration.kill_harness import app
from tests.integration.kill_harness.history import History
from tests.integration.kill_harness.mutants import watched_with
from tests.integration.kill_harness.points import Points
from tests.integration.kill_harness.seams import watch

__all__ = ["Orders", "main", "offered", "posts", "settings_file"]

BATCH = 20  # keys that a source offers at once
AGAIN = 60  # keys that it brings again after it was killed
HORIZON = 3600.0  # seconds
POSTS = "CREATE TABLE IF NOT EXISTS post (id INTEGER PRIMARY KEY)"


@dataclass(frozen=True)
class Orders:
    """What a process is told.

    Attributes:
        url: Where the ledger is.
        folder: The run's folder.
        role: ``"work"``: it is ``oni sources work``; ``"emit"``: the source; ``"save"``: a program
            with an outbox; ``"prune"``: it forgets everything that is done.
        keys: How many keys the source offers.
        point: At which point it dies, or waits.
        nth: At which time of coming by.
        holds: Whether it waits there, until there is a file ``go``.
        mutant: The letter of a mistake.
        lease: Seconds.
        interval: Seconds from one look after the dead to the next.
        concurrency: How many handlers run at once.
        outbox: Where a program keeps its data and an outbox; ``""`` if there is none.
    """

    url: str
    folder: Path
    role: str = "work"
    keys: int = 0
    point: str = ""
    nth: int = 1
    holds: bool = False
    mutant: str = ""
    lease: float = 10.0
    interval: float = 0.1
    concurrency: int = 1
    outbox: str = ""


def main(orders: Orders) -> None:
    """Do what the orders say, until killed or told to end."""
    assert "twisted.internet.reactor" not in sys.modules, "a reactor cannot be forked"
    log = os.open(orders.folder / f"{os.getpid()}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    history = History(orders.folder / "history.jsonl")
    hold = orders.folder / "go" if orders.holds else None
    points = Points(history, orders.point, orders.nth, hold)
    kind = watched_with(orders.mutant, orders.role)
    watch([RedisStore, SqlAlchemyStore], points, history, kind)
    app.attach(history, points)
    if orders.interval:
        _look_often(orders.interval)
    _watch_statements(points)
    _watch_relay(points)
    if orders.role == "work":
        command_line(["sources", "work", "--config", str(settings_file(orders))])
    else:
        work = {"emit": _emit, "prune": _prune, "save": _save}[orders.role]
        react(lambda reactor: Deferred.fromCoroutine(work(reactor, orders, points)), ())


def settings_file(orders: Orders) -> Path:
    """Write what ``oni sources work`` is to know into a file."""
    path = orders.folder / f"{os.getpid()}.toml"
    path.write_text(
        f"""
[ledger]
url = "{orders.url}"
lease = {orders.lease}
[sources]
configure = "{app.__name__}:configure"
concurrency = {orders.concurrency}
outboxes = [{f'"{orders.outbox}"' if orders.outbox else ""}]
""",
        encoding="utf-8",
    )
    return path


def _watch_relay(points: Points) -> None:
    """Come by points between the ledger and the outbox."""
    end = SqlBatch.end

    def ending(self: SqlBatch, *arguments: Any) -> Any:
        points.hit("relay.admitted")
        ended = end(self, *arguments)
        points.hit("relay.removed")
        return ended

    mock.patch.object(SqlBatch, "end", ending).start()


def _watch_statements(points: Points) -> None:
    """Come by points between the statements that make the tables, and that forget a key."""

    def created(*_: Any, **__: Any) -> None:
        points.hit("tables.half")

    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM oni_delivery"):
            points.hit("prune.half")

    listen(metadata.tables["oni_event"], "after_create", created)
    if points.armed == "prune.half":  # else every statement would have to ask
        listen(Engine, "after_cursor_execute", executed)


def _look_often(interval: float) -> None:
    """Let this process look after the dead more often than it would."""
    start = Keeper.start
    mock.patch.object(Keeper, "start", lambda self, _: start(self, interval)).start()


async def _emit(reactor: Any, orders: Orders, points: Points) -> None:
    """Offer as many keys as it is allowed to, and when it has offered all, all of them again."""
    sources = EventSources(_ledger(reactor, orders), deliver="worker", reactor=reactor)
    app.configure(sources)
    while not sources.is_started:
        try:
            await sources.start()
        except LedgerUnavailableError:
            await deferLater(reactor, 0.1)
    # One that was killed does not know what it was told, and brings more again than it must.
    done = max(0, offered(orders.folder) - AGAIN)
    while done < 2 * orders.keys:
        until = min(done + BATCH, int((orders.folder / "allowed").read_text()))
        if until <= done:
            await deferLater(reactor, 0.02)
            continue
        numbers = [number % orders.keys for number in range(done, until)]
        try:
            await sources.only_new_events(map(app.event_of, numbers))
            await sources.ledger.prune(HORIZON)
        except LedgerUnavailableError:
            await deferLater(reactor, 0.1)
            continue
        done = until
        new = orders.folder / "offered.new"
        new.write_text(str(done), encoding="ascii")
        new.rename(orders.folder / "offered")
    await sources.stop()


def offered(folder: Path) -> int:
    """Say of how many keys a source knows that they were admitted."""
    file = folder / "offered"
    return int(file.read_text(encoding="ascii")) if file.exists() else 0


async def _save(reactor: Any, orders: Orders, points: Points) -> None:
    """Save what is not saved yet, each with its event; begin others and think better of them."""
    sources = EventSources(_ledger(reactor, orders), deliver="worker", reactor=reactor)
    app.configure(sources)
    engine = prepare_engine(create_engine(orders.outbox))
    outbox = SqlAlchemyOutbox(engine)
    outbox.open()
    for number in range(orders.keys):
        with engine.begin() as connection:
            connection.exec_driver_sql(POSTS)
            if number not in posts(connection):
                connection.execute(text("INSERT INTO post (id) VALUES (:id)"), {"id": number})
                outbox.put(connection, sources.ledger_events([app.event_of(number)]))
                points.hit("save.written")
        points.hit("save.committed")
        with engine.connect() as connection:
            outbox.put(connection, sources.ledger_events([app.event_of(1000 + number)]))
            connection.rollback()
    outbox.close()


def posts(connection: Connection) -> list[int]:
    """Give what a program has saved."""
    return list(connection.exec_driver_sql("SELECT id FROM post ORDER BY id").scalars())


async def _prune(reactor: Any, orders: Orders, points: Points) -> None:
    """Forget everything that is done."""
    ledger = _ledger(reactor, orders)
    await ledger.start()
    await ledger.prune(0.0)
    await ledger.stop()


def _ledger(reactor: Any, orders: Orders) -> Ledger:
    return Ledger(store_for(orders.url), lease=orders.lease, reactor=reactor)
