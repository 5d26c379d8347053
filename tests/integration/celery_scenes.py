"""Changes of models over a real broker to real workers, while broker and workers die.

What is saved is handled by a worker, once, with its row there; whoever saves never waits for it.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.celery_case import (
    WITHIN,
    Blog,
    blog,
    handled,
    until_handled,
    until_hanging,
    worker,
)
from tests.integration.daemon import wait_until
from tests.integration.rabbitmq_server import RabbitMqServer
from tests.integration.redis_server import RedisServer

Server = RedisServer | RabbitMqServer

AWAY = "takes no messages"


@contextmanager
def silence(port: int) -> Iterator[None]:
    """Take every connection on a port, and say nothing."""
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", port))
        silent.listen(50)
        yield


def send(server: Server, number: signal.Signals) -> None:
    """Send a signal to all of a broker's processes."""
    assert server.process is not None
    if isinstance(server, RabbitMqServer):
        os.killpg(server.process.pid, number)
    else:
        server.process.send_signal(number)


def said(saving: Blog) -> str:
    """Give the last that the sender has logged of its broker; see that it says nothing twice."""
    lines = [line for line in saving.ask("said") if "broker" in line]
    words = ["away" if AWAY in line else "back" for line in lines]
    assert words == ["away", "back"] * (len(words) // 2) + ["away"] * (len(words) % 2), lines
    return words[-1]


def refused(saving: Blog, at_least: int) -> None:
    """Wait until so many messages were not taken."""
    wait_until(lambda: saving.ask("statistics")["refused"] >= at_least, "they are refused", WITHIN)


class BrokerScenes:
    """What happens to a broker, and to workers. A module that has the broker inherits them."""

    @pytest.fixture
    def running(self, broker: Server) -> Server:
        """Give the broker, which runs."""
        if broker.process is None:
            broker.start()
        return broker

    def test_silent_then_away_then_killed(self, broker: Server, tmp_path: Path) -> None:
        """Silent; away at the start; killed and started again with messages in it."""
        url = broker.url
        with silence(broker.port), blog(tmp_path, url) as first:
            first.save("a", "b")
            refused(first, 2)
            assert first.count("done") == 0
            assert said(first) == "away"
        # It was killed itself, and begins while nobody listens any more.
        titles = ["a", "b", "c", *["slow"] * 80]
        with blog(tmp_path, url) as saving, worker(tmp_path, url):
            saving.save("c")
            refused(saving, 3)
            assert saving.count("done") == 0
            broker.start()
            saving.until_told(3)
            assert said(saving) == "back"
            saving.save(*titles[3:43])
            wait_until(lambda: len(handled(tmp_path)) > 10, "the worker is at it", WITHIN)
            broker.kill()
            saving.save(*titles[43:])
            broker.start()
            saving.until_told(len(titles))
            until_handled(tmp_path, titles)

    def test_paused(self, running: Server, tmp_path: Path) -> None:
        """A broker that does not run on: its connections are there, and nothing comes of them."""
        with blog(tmp_path, running.url) as saving:
            saving.save("a")
            saving.until_told(1)
            send(running, signal.SIGSTOP)
            try:
                saving.save("b", "c")
                refused(saving, 2)
                assert saving.count("done") == 1
            finally:
                send(running, signal.SIGCONT)
            saving.until_told(3)
            assert said(saving) == "back"
        with worker(tmp_path, running.url):
            until_handled(tmp_path, ["a", "b", "c"])

    def test_a_killed_worker(self, running: Server, tmp_path: Path) -> None:
        """What a worker was killed with is handled by the next one; it is not told of twice."""
        with blog(tmp_path, running.url) as saving, worker(tmp_path, running.url) as first:
            saving.save("hang")
            until_hanging(tmp_path)
            saving.save("b")
            saving.until_told(2)
            first.kill()
            assert handled(tmp_path) == []
            with worker(tmp_path, running.url):
                until_handled(tmp_path, ["hang", "b"])

    def test_a_killed_child_of_a_worker(self, running: Server, tmp_path: Path) -> None:
        """Another child has it then; what was written in a transaction is there once."""
        with (
            blog(tmp_path, running.url) as saving,
            worker(tmp_path, running.url, pool="prefork", transaction=True),
        ):
            saving.save("hang", "b")
            os.kill(until_hanging(tmp_path), signal.SIGKILL)
            until_handled(tmp_path, ["hang", "b"])

            def effects() -> list[tuple[int, str]]:
                with closing(sqlite3.connect(tmp_path / "received.db")) as connection:
                    return connection.execute(
                        "SELECT id, title FROM effect ORDER BY id"
                    ).fetchall()

            wait_until(lambda: len(effects()) >= 2, "both are kept", WITHIN)
            assert effects() == [(1, "hang"), (2, "b")]
