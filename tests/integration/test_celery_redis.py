"""Changes of models over a real Redis to real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from oni.watchers.celery._kept import Kept, LostMessage
from tests.integration.celery_case import WITHIN, blog, until_handled, worker
from tests.integration.celery_scenes import BrokerScenes
from tests.integration.daemon import wait_until
from tests.integration.redis_server import RedisServer, needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a server that may not be started yet, and ends with these tests."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.stop()


class TestRedis(BrokerScenes):
    """Messages are in a list, and what workers have taken beside it."""

    def test_taken_and_lost(self, running: RedisServer, tmp_path: Path) -> None:
        """What is gone from the list, and was written down nowhere else, comes again."""
        with blog(tmp_path, running.url) as saving:
            saving.save("a", "b")
            saving.until_told(2)
        with running.client() as client:
            assert client.rpop(tmp_path.name) is not None
            with worker(tmp_path, running.url):
                until_handled(tmp_path, ["a", "b"])
                kept = f"oni:kept:{tmp_path.name}"
                wait_until(lambda: not client.exists(kept, f"{kept}:times"), "forgotten", WITHIN)


@pytest.fixture
def client(broker: RedisServer) -> Iterator[redis.Redis]:
    """Give a client of a server that runs."""
    if broker.process is None:
        broker.start()
    with broker.client() as made:
        yield made


def test_kept(client: redis.Redis) -> None:
    """From before it is in the queue until it is done; of several copies the latest counts."""
    kept = Kept(client, "test_kept")
    first = kept.keep("k", "text", 1)
    assert kept.is_current("k", first)
    assert kept.lost(600) == []  # it is not so old
    assert kept.lost(0) == [LostMessage("k", "text", 1)]
    second = kept.keep("k", "text", 2)
    assert (kept.is_current("k", first), kept.is_current("k", second)) == (False, True)
    client.lpush("test_kept", "another")
    assert kept.lost(0) == []  # it may be among those that wait
    client.delete("test_kept")
    kept.forget("k")
    assert kept.lost(0) == []
    assert kept.is_current("k", first)  # better twice than never
    assert client.keys("oni:kept:test_kept*") == []


def test_confirmed_and_lost(tmp_path: Path) -> None:
    """A broker that confirms what it has not written down loses it, and nobody can know."""
    for appends, kept in (("no", []), ("yes", ["a"])):
        folder = tmp_path / appends
        folder.mkdir()
        server = RedisServer(folder, appendonly=appends)
        server.start()
        try:
            with blog(folder, server.url) as saving:
                saving.save("a")
                saving.until_told(1)
            server.kill()
            server.start()
            with server.client() as client:
                assert client.llen(folder.name) == len(kept)
        finally:
            server.stop()
