"""Notifications by subscription: who follows a topic is told of each post on it.

Run it, and look at what it prints::

    python examples/notifications/notifications.py

Posts, subscriptions, notifications and the ledger are in ``blog.db``, beside it. With ``--save``
it only saves posts, as a web application does; whoever follows is told by a process of its own::

    python examples/notifications/notifications.py --save
    python -m oni sources work --config examples/notifications/oni.toml

In either way ``oni.toml`` says who hears of posts. Nobody is told of a post that was rolled back,
and whatever happens to a process, the notifications that were due are made when the next one runs.
"""

from __future__ import annotations

import argparse
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
from oni.watchers import watch_configured

SETTINGS = Path(__file__).with_name("oni.toml")


async def run(reactor: Any, save_only: bool) -> None:
    """Save posts; without ``--save`` end when everybody was told."""
    blog.Base.metadata.create_all(blog.engine)
    sources = EventSources(
        Ledger(SqlAlchemyStore(blog.engine)), deliver="worker" if save_only else "here"
    )
    watch_configured(sources, tomllib.loads(SETTINGS.read_text(encoding="utf-8")))
    watch(blog.sessions, sources, [blog.Post])
    await sources.start()
    await deferToThread(blog.save_posts)
    if not save_only:
        while (counted := await sources.ledger.count())["pending"] or counted["running"]:
            await deferLater(reactor, 0.05)
    await sources.stop()


def main() -> None:
    """Run it until it is done."""
    parser = argparse.ArgumentParser(description="Tell who follows a topic of new posts.")
    parser.add_argument("--save", action="store_true", help="save, and let others tell")
    save_only = parser.parse_args().save
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, save_only)), [])


if __name__ == "__main__":
    main()
