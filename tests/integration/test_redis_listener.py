"""The listener that puts events into a real Redis, and both ways to take them from it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.daemon import CHECKOUT, environment
from tests.integration.redis_server import RedisServer, needs_redis, running_redis
from tests.listeners.kept_case import KeptCase

pytestmark = [needs_redis]

EXAMPLE = CHECKOUT / "examples" / "redis_queue" / "take.py"
WITHIN = 50.0  # seconds, on a busy machine


@contextmanager
def taking(server: RedisServer, *words: str) -> Iterator[Any]:
    """Run the example; end it afterwards, if it runs."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), server.url, *words],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(WITHIN)
        assert process.stdout is not None
        process.stdout.close()


class RedisTests(KeptCase):
    """From the transaction to whoever takes."""

    def on(self, server: RedisServer, **own: str) -> None:
        """Switch the listener on."""
        settings = {
            "event_listeners": "redis",
            "event_listeners.redis.use": "oni.listeners.redis",
            "event_listeners.redis.url": server.url,
            **{f"event_listeners.redis.{name}": value for name, value in own.items()},
        }
        self.addCleanup(self.switch_on(settings).close)

    def test_killed_and_back(self) -> None:
        """Redis is killed and comes back: what was committed is in the list, once."""
        with running_redis() as server:
            self.on(server)
            self.transact(id=1)
            server.kill()
            self.transact(id=2)
            self.transact(id=3)
            self.run_for(100)
            self.assertEqual((2, 0), (self.counted("pending"), self.counted("dead")))
            server.start()
            self.run_for(301)
            self.assertEqual(3, self.counted("done"))
            # Looking on a schedule.
            with taking(server, "--once") as process:
                told, _ = process.communicate(timeout=WITHIN)
            self.assertEqual(0, process.returncode)
            self.assertEqual(
                [f"create article /article/{number}" for number in (1, 2, 3)],
                sorted(told.splitlines()),
            )
            with server.client() as client:
                self.assertEqual([], client.keys())

    def test_restarted_without_a_file(self) -> None:
        """A Redis that would forget is given nothing where that is asked for, and all is kept."""
        with running_redis(appendonly="no") as server:
            self.on(server, durable="true")
            self.transact(id=1)
            self.assertEqual((1, 0), (self.counted("pending"), self.counted("done")))
            server.kill()
            server.settings["appendonly"] = "yes"
            server.start()
            with server.client() as client:
                self.assertEqual([], client.keys())
                self.run_for(301)
                self.assertEqual((0, 1), (self.counted("pending"), self.counted("done")))
                self.assertEqual(1, client.llen("oni:events"))

    def test_waiting(self) -> None:
        """Who waits takes each event as it comes; one that died has its event again."""
        with running_redis() as server:
            self.on(server, notify="news")
            with server.client() as client:
                # What somebody had taken that died with it.
                client.lpush("oni:events:taken", '{"action":"a","resource_name":"b","uri":"c"}')
            first = "a b c"
            for number, way in enumerate(((), ("--news", "news"))):
                with taking(server, *way) as process:
                    if number == 0:
                        self.assertEqual(first, process.stdout.readline().strip())
                    self.transact(id=number)
                    self.run_for(2)
                    self.assertEqual(number + 1, self.counted("done"), self.said)
                    expected = f"create article /article/{number}"
                    self.assertEqual(expected, process.stdout.readline().strip())
                    self.until_finished(server)

    def until_finished(self, server: RedisServer) -> None:
        """Wait until what was taken is done: killed before that, it would be done again."""
        end = time.monotonic() + WITHIN
        with server.client() as client:
            while client.llen("oni:events:taken"):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)

    def test_stream(self) -> None:
        """A group of a stream takes it, and deletes it when it is done."""
        with running_redis() as server, server.client() as client:
            self.on(server, kind="stream", key="events", max_length="1")
            client.xgroup_create("events", "mail", mkstream=True)
            self.transact(id=1)
            self.transact(id=2)  # it waits: one is enough
            self.assertEqual(1, self.counted("pending"))
            [[_, [[entry, fields]]]] = client.xreadgroup("mail", "one", {"events": ">"})
            self.assertIn('"article_id":1', fields["event"])
            client.xack("events", "mail", entry)
            client.xdel("events", entry)
            self.run_for(301)
            self.assertEqual(2, self.counted("done"))
