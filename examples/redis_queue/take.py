"""Take events that the listener ``oni.listeners.redis`` has put into a list of Redis.

Waiting for them::

    python take.py redis://127.0.0.1:6379/0

or looking for them on a schedule, as ``cron`` or a systemd timer would::

    python take.py redis://127.0.0.1:6379/0 --once

An event leaves the list for another one, ``oni:events:taken``, and leaves that when it is done:
a program that dies in between finds it there when it begins again. Run one at a time, or give
each a list of its own with ``--taken``.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import redis

LIST = "oni:events"


def handle(event: dict[str, Any]) -> None:
    """Do what is to be done. The same key may come twice: whoever minds keeps the keys."""
    print(f"{event['action']} {event['resource_name']} {event['uri']}", flush=True)


def finish(client: redis.Redis, taken: str) -> None:
    """Do what was taken, oldest first, before somebody died or just now."""
    while (text := client.lindex(taken, -1)) is not None:
        handle(json.loads(text))
        client.rpop(taken)


def inspect(client: redis.Redis, taken: str) -> None:
    """Take everything that is there now."""
    finish(client, taken)
    while client.lmove(LIST, taken, "RIGHT", "LEFT") is not None:
        finish(client, taken)


def wait(client: redis.Redis, taken: str) -> None:
    """Take what there is and what will come."""
    finish(client, taken)
    while True:
        if client.blmove(LIST, taken, 1, "RIGHT", "LEFT") is not None:
            finish(client, taken)


def wait_for_news(client: redis.Redis, taken: str, channel: str) -> None:
    """Do the same by notifications: ``event_listeners.NAME.notify`` names their channel.

    A notification is lost where nobody listens, and so the list is looked at first.
    """
    with client.pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe(channel)
        while True:
            inspect(client, taken)
            news.get_message(timeout=1.0)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Take events from a list of Redis.")
    parser.add_argument("url")
    parser.add_argument("--taken", default=f"{LIST}:taken", help="where they are while handled")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--once", action="store_true", help="take what there is, and end")
    way.add_argument("--news", metavar="CHANNEL", help="wait for notifications there")
    said = parser.parse_args()
    client = redis.Redis.from_url(said.url, protocol=2, socket_timeout=10)
    if said.once:
        inspect(client, said.taken)
    elif said.news:
        wait_for_news(client, said.taken, said.news)
    else:
        wait(client, said.taken)


if __name__ == "__main__":
    main()
