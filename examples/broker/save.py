"""Save posts, as a web application does, and let a worker tell the followers.

Run it in this folder::

    python save.py "First post" "Second post"

Nothing waits for the broker: what it has not taken is in the ledger, in ``blog.db``, and goes
there the next time.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import blog
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from oni.ledger import Ledger
from oni.ledger.sqlalchemy import SqlAlchemyStore
from oni.sources import EventSources
from oni.sources.sqlalchemy import watch
from oni.watchers import make_model_watcher, watch_models

PATIENCE = 10.0  # seconds, for the broker


async def run(reactor: Any) -> None:
    """Save what is said, and give the broker a moment to take it."""
    blog.Base.metadata.create_all(blog.engine)
    sources = EventSources(Ledger(SqlAlchemyStore(blog.engine)))
    watcher = make_model_watcher("web", tomllib.loads(Path("oni.toml").read_text()))
    watch_models(sources, [blog.Post], watcher, name="web")
    watch(blog.sessions, sources, [blog.Post])
    await sources.start()
    await deferToThread(save, sys.argv[1:])
    end = reactor.seconds() + PATIENCE
    while (left := (await sources.ledger.count())) and left["pending"] + left["running"]:
        if reactor.seconds() > end:
            print("the broker is away: the next run tells it", flush=True)
            break
        await deferLater(reactor, 0.05)
    await sources.stop()


def save(titles: list[str]) -> None:
    """Save posts."""
    with blog.sessions.begin() as session:
        session.add_all(blog.Post(title=title) for title in titles)
    print(f"saved {len(titles)}", flush=True)


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(run(reactor)), [])
